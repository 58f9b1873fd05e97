/* The pair of 8259A: initialization, priorities, EOIs, rotation, masks, modes, cascade, ELCR, poll, spurious requests.
 */
#include "hw/core/state.h"
#include "hw/irq/i8259.h"
#include "tests/lib/device_test.h"

#define MASTER 0x20
#define SLAVE 0xa0
#define EOI 0x20

struct fixture {
    struct machine *m;
    struct device *pic;
    struct test_line intr;
    struct irq_line in[I8259_INPUTS];
};

static void init_chips(struct fixture *f, uint8_t icw4)
{
    static const uint8_t icw3[2] = { 4, 2 }, base[2] = { 0x30, 0x70 };
    for (unsigned i = 0; i < 2; i++) {
        uint16_t port = i ? SLAVE : MASTER;
        test_outb(f->m, port, 0x11);
        test_outb(f->m, port + 1, base[i]);
        test_outb(f->m, port + 1, icw3[i]);
        test_outb(f->m, port + 1, icw4);
    }
}

static void set_up(struct fixture *f, gconstpointer data)
{
    f->m = test_machine_new();
    f->pic = test_add(&i8259_type, test_add_isa(f->m), NULL);
    test_line_init(&f->intr);
    i8259_set_output(f->pic, f->intr.line);
    for (int i = 0; i < I8259_INPUTS; i++)
        f->in[i] = i8259_input(f->pic, i);
    init_chips(f, 1);
}

static void tear_down(struct fixture *f, gconstpointer data)
{
    test_state_roundtrip(f->pic);
    test_machine_free(f->m);
}

static uint8_t read_irr(struct fixture *f, uint16_t port)
{
    test_outb(f->m, port, 0x0a);
    return test_inb(f->m, port);
}

static uint8_t read_isr(struct fixture *f, uint16_t port)
{
    test_outb(f->m, port, 0x0b);
    return test_inb(f->m, port);
}

#define expect_vector(f, vector) \
    do { \
        g_assert_cmpint((f)->intr.level, ==, 1); \
        g_assert_cmphex(i8259_acknowledge((f)->pic), ==, vector); \
    } while (0)

static void raise_all(struct fixture *f)
{
    for (int i = 0; i < I8259_INPUTS; i++)
        irq_raise(&f->in[i]);
}

/* --- Tests ------------------------------------------------------------------------------------- */

static void test_silent_before_init(struct fixture *f, gconstpointer data)
{
    f->pic->type->reset(f->pic);
    f->pic->type->reset_wires(f->pic);
    raise_all(f);
    g_assert_cmpint(f->intr.level, ==, 0);
    test_outb(f->m, MASTER + 1, 0xa5); /* OCW1 works all the same */
    g_assert_cmphex(test_inb(f->m, MASTER + 1), ==, 0xa5);
    /* In the middle of an initialization too. */
    test_outb(f->m, MASTER, 0x11);
    test_outb(f->m, MASTER + 1, 0x30);
    irq_lower(&f->in[0]);
    irq_raise(&f->in[0]);
    g_assert_cmpint(f->intr.level, ==, 0);
    test_outb(f->m, MASTER + 1, 4);
    g_assert_cmpint(f->intr.level, ==, 0);
    test_outb(f->m, MASTER + 1, 1);
    expect_vector(f, 0x30);
}

static void test_init_words(struct fixture *f, gconstpointer data)
{
    test_outb(f->m, MASTER + 1, 0xff);
    raise_all(f);
    /* ICW1 clears the mask and forgets edges. */
    test_outb(f->m, MASTER, 0x11);
    test_outb(f->m, MASTER + 1, 0x47); /* low bits of the vector are the chip's */
    test_outb(f->m, MASTER + 1, 4);
    test_outb(f->m, MASTER + 1, 1);
    g_assert_cmphex(test_inb(f->m, MASTER + 1), ==, 0);
    g_assert_cmpint(f->intr.level, ==, 0);
    irq_lower(&f->in[1]);
    irq_raise(&f->in[1]);
    expect_vector(f, 0x41);
    /* Without IC4 there is no fourth word, and AEOI is off. */
    init_chips(f, 3);
    test_outb(f->m, MASTER, 0x10);
    test_outb(f->m, MASTER + 1, 0x50);
    test_outb(f->m, MASTER + 1, 4);
    test_outb(f->m, MASTER + 1, 0xf0); /* OCW1 already */
    g_assert_cmphex(test_inb(f->m, MASTER + 1), ==, 0xf0);
    irq_lower(&f->in[3]);
    irq_raise(&f->in[3]);
    expect_vector(f, 0x53);
    g_assert_cmphex(read_isr(f, MASTER), ==, 8);
    /* Single: no third word, IR2 is an input without a slave. */
    test_outb(f->m, MASTER, 0x13);
    test_outb(f->m, MASTER + 1, 0x60);
    test_outb(f->m, MASTER + 1, 1);
    irq_lower(&f->in[9]);
    irq_raise(&f->in[9]);
    expect_vector(f, 0x62);
}

static void test_fully_nested(struct fixture *f, gconstpointer data)
{
    raise_all(f);
    static const uint8_t order[] = { 0x30, 0x31, 0x70, 0x71, 0x72, 0x73, 0x74, 0x75,
                                     0x76, 0x77, 0x33, 0x34, 0x35, 0x36, 0x37 };
    for (unsigned i = 0; i < G_N_ELEMENTS(order); i++) {
        expect_vector(f, order[i]);
        g_assert_cmpint(f->intr.level, ==, 0); /* all others are lower */
        if (order[i] >= 0x70)
            test_outb(f->m, SLAVE, EOI);
        test_outb(f->m, MASTER, EOI);
    }
    g_assert_cmpint(f->intr.level, ==, 0);
    g_assert_cmphex(read_irr(f, MASTER) | read_isr(f, MASTER) | read_irr(f, SLAVE) | read_isr(f, SLAVE), ==, 0);
}

static void test_nesting(struct fixture *f, gconstpointer data)
{
    irq_raise(&f->in[5]);
    expect_vector(f, 0x35);
    irq_raise(&f->in[6]); /* lower: waits */
    g_assert_cmpint(f->intr.level, ==, 0);
    irq_raise(&f->in[3]); /* higher: interrupts */
    expect_vector(f, 0x33);
    g_assert_cmphex(read_isr(f, MASTER), ==, 0x28);
    g_assert_cmphex(read_irr(f, MASTER), ==, 0x40);
    test_outb(f->m, MASTER, EOI); /* non-specific: the highest in service */
    g_assert_cmphex(read_isr(f, MASTER), ==, 0x20);
    test_outb(f->m, MASTER, 0x60 | 5); /* specific */
    g_assert_cmphex(read_isr(f, MASTER), ==, 0);
    expect_vector(f, 0x36);
    test_outb(f->m, MASTER, 0x60 | 1); /* of one not in service: nothing */
    test_outb(f->m, MASTER, 0x40 | 6); /* no operation */
    g_assert_cmphex(read_isr(f, MASTER), ==, 0x40);
}

static void test_masks(struct fixture *f, gconstpointer data)
{
    test_outb(f->m, MASTER + 1, 0x02);
    irq_raise(&f->in[1]);
    g_assert_cmpint(f->intr.level, ==, 0);
    g_assert_cmphex(read_irr(f, MASTER), ==, 2); /* IRR shows masked requests */
    test_outb(f->m, MASTER + 1, 0);
    expect_vector(f, 0x31);
    test_outb(f->m, MASTER, EOI);
    /* The slave's mask and the cascade's. */
    test_outb(f->m, SLAVE + 1, 0x10);
    irq_raise(&f->in[12]);
    g_assert_cmphex(read_irr(f, MASTER), ==, 0);
    test_outb(f->m, MASTER + 1, 4);
    test_outb(f->m, SLAVE + 1, 0);
    g_assert_cmphex(read_irr(f, MASTER), ==, 4);
    g_assert_cmpint(f->intr.level, ==, 0);
    test_outb(f->m, MASTER + 1, 0);
    expect_vector(f, 0x74);
}

static void test_edge_and_level(struct fixture *f, gconstpointer data)
{
    irq_raise(&f->in[5]);
    expect_vector(f, 0x35);
    test_outb(f->m, MASTER, EOI);
    g_assert_cmpint(f->intr.level, ==, 0); /* an edge counts once */
    irq_raise(&f->in[5]);
    g_assert_cmpint(f->intr.level, ==, 0);
    irq_lower(&f->in[5]);
    irq_raise(&f->in[5]);
    expect_vector(f, 0x35);
    test_outb(f->m, MASTER, EOI);
    irq_lower(&f->in[5]);
    /* Level: as long as it is up. */
    test_outb(f->m, 0x4d0, 0xff);
    test_outb(f->m, 0x4d1, 0xff);
    g_assert_cmphex(test_inb(f->m, 0x4d0), ==, 0xf8); /* 0, 1, 2, 8, 13 cannot */
    g_assert_cmphex(test_inb(f->m, 0x4d1), ==, 0xde);
    irq_raise(&f->in[5]);
    irq_raise(&f->in[11]);
    for (int i = 0; i < 3; i++) {
        expect_vector(f, 0x73);
        test_outb(f->m, SLAVE, EOI);
        test_outb(f->m, MASTER, EOI);
    }
    irq_lower(&f->in[11]);
    for (int i = 0; i < 3; i++) {
        expect_vector(f, 0x35);
        test_outb(f->m, MASTER, EOI);
    }
    irq_lower(&f->in[5]);
    g_assert_cmpint(f->intr.level, ==, 0);
    g_assert_cmphex(read_irr(f, MASTER), ==, 0);
}

static void test_spurious(struct fixture *f, gconstpointer data)
{
    irq_raise(&f->in[4]);
    g_assert_cmpint(f->intr.level, ==, 1);
    irq_lower(&f->in[4]); /* gone before the acknowledge */
    g_assert_cmpint(f->intr.level, ==, 0);
    g_assert_cmphex(i8259_acknowledge(f->pic), ==, 0x37);
    g_assert_cmphex(read_isr(f, MASTER), ==, 0); /* no bit in service */
    /* A real one has its bit. */
    irq_raise(&f->in[7]);
    expect_vector(f, 0x37);
    g_assert_cmphex(read_isr(f, MASTER), ==, 0x80);
    test_outb(f->m, MASTER, EOI);
    /* A level that falls, and one on the slave. */
    test_outb(f->m, 0x4d1, 0x08);
    irq_raise(&f->in[11]);
    irq_lower(&f->in[11]);
    g_assert_cmphex(i8259_acknowledge(f->pic), ==, 0x37);
    g_assert_cmphex(read_isr(f, SLAVE), ==, 0);
}

static void test_special_mask(struct fixture *f, gconstpointer data)
{
    irq_raise(&f->in[1]);
    expect_vector(f, 0x31);
    irq_raise(&f->in[6]);
    g_assert_cmpint(f->intr.level, ==, 0);
    test_outb(f->m, MASTER, 0x68);     /* set special mask */
    test_outb(f->m, MASTER + 1, 0x02); /* mask the one in service: lower ones get through */
    expect_vector(f, 0x36);
    g_assert_cmphex(read_isr(f, MASTER), ==, 0x42);
    test_outb(f->m, MASTER, EOI); /* does not end the masked one */
    g_assert_cmphex(read_isr(f, MASTER), ==, 0x02);
    test_outb(f->m, MASTER, EOI);
    g_assert_cmphex(read_isr(f, MASTER), ==, 0x02);
    test_outb(f->m, MASTER, 0x08); /* without ESMM: SMM stays */
    irq_raise(&f->in[7]);
    expect_vector(f, 0x37);
    test_outb(f->m, MASTER, 0x61);
    test_outb(f->m, MASTER, 0x67);
    test_outb(f->m, MASTER, 0x48); /* reset special mask */
    test_outb(f->m, MASTER + 1, 0);
    irq_lower(&f->in[1]);
    irq_raise(&f->in[1]);
    expect_vector(f, 0x31);
    test_outb(f->m, MASTER + 1, 0x02);
    irq_lower(&f->in[6]);
    irq_raise(&f->in[6]);
    g_assert_cmpint(f->intr.level, ==, 0);
}

static void test_special_fully_nested(struct fixture *f, gconstpointer data)
{
    for (int sfnm = 0; sfnm < 2; sfnm++) {
        for (int i = 0; i < I8259_INPUTS; i++)
            irq_lower(&f->in[i]);
        init_chips(f, sfnm ? 0x11 : 0x01);
        irq_raise(&f->in[12]);
        expect_vector(f, 0x74);
        irq_raise(&f->in[3]); /* lower than the cascade: waits in both modes */
        g_assert_cmpint(f->intr.level, ==, 0);
        irq_raise(&f->in[9]); /* higher within the slave */
        g_assert_cmpint(f->intr.level, ==, sfnm);
        if (sfnm)
            expect_vector(f, 0x71);
        g_assert_cmphex(read_isr(f, SLAVE), ==, sfnm ? 0x12 : 0x10);
        irq_raise(&f->in[0]);
        expect_vector(f, 0x30);
    }
}

static void test_rotation(struct fixture *f, gconstpointer data)
{
    /* Specific: set priority, lowest is 4, highest 5. */
    test_outb(f->m, MASTER, 0xc4);
    raise_all(f);
    expect_vector(f, 0x35);
    test_outb(f->m, MASTER, EOI);
    expect_vector(f, 0x36);
    /* Rotate on non-specific EOI: 6 becomes the lowest. */
    test_outb(f->m, MASTER, 0xa0);
    expect_vector(f, 0x37);
    /* Rotate on specific EOI: 7 in service, but 2 is made the lowest. */
    test_outb(f->m, MASTER, 0xe2);
    g_assert_cmphex(read_isr(f, MASTER), ==, 0x80);
    expect_vector(f, 0x33);
    test_outb(f->m, MASTER, 0x67);
    test_outb(f->m, MASTER, 0x63);
    expect_vector(f, 0x34);
}

static void test_auto_eoi(struct fixture *f, gconstpointer data)
{
    init_chips(f, 3);
    raise_all(f);
    expect_vector(f, 0x30);
    g_assert_cmphex(read_isr(f, MASTER), ==, 0);
    expect_vector(f, 0x31);
    expect_vector(f, 0x70); /* the cascade sees each request of the slave as an edge of its own */
    expect_vector(f, 0x71);
    /* Rotating: each becomes the lowest after it was served. */
    for (int i = 0; i < I8259_INPUTS; i++)
        irq_lower(&f->in[i]);
    test_outb(f->m, MASTER, 0x80);
    irq_raise(&f->in[3]);
    expect_vector(f, 0x33);
    irq_lower(&f->in[3]);
    irq_raise(&f->in[3]);
    irq_raise(&f->in[4]);
    expect_vector(f, 0x34);
    expect_vector(f, 0x33);
    test_outb(f->m, MASTER, 0x00);
    irq_lower(&f->in[3]);
    irq_lower(&f->in[4]);
    irq_raise(&f->in[3]);
    irq_raise(&f->in[4]);
    expect_vector(f, 0x34); /* 3 is still the lowest, and stays so */
    irq_lower(&f->in[4]);
    irq_raise(&f->in[4]);
    expect_vector(f, 0x34);
}

static void test_poll(struct fixture *f, gconstpointer data)
{
    test_outb(f->m, MASTER, 0x0c);
    g_assert_cmphex(test_inb(f->m, MASTER) & 0x80, ==, 0);
    irq_raise(&f->in[5]);
    irq_raise(&f->in[12]);
    test_outb(f->m, MASTER, 0x0c);
    g_assert_cmphex(test_inb(f->m, MASTER), ==, 0x82); /* the cascade; then the slave by hand */
    test_outb(f->m, SLAVE, 0x0c);
    g_assert_cmphex(test_inb(f->m, SLAVE), ==, 0x84);
    g_assert_cmphex(read_isr(f, MASTER), ==, 0x04);
    g_assert_cmphex(read_isr(f, SLAVE), ==, 0x10);
    test_outb(f->m, SLAVE, EOI);
    test_outb(f->m, MASTER, EOI);
    expect_vector(f, 0x35); /* only one read polls */
    g_assert_cmphex(test_inb(f->m, MASTER + 1), ==, 0);
    test_outb(f->m, MASTER, EOI);
    /* Polling takes the request away from the processor. */
    irq_raise(&f->in[3]);
    test_outb(f->m, MASTER, 0x0c);
    g_assert_cmphex(test_inb(f->m, MASTER + 1), ==, 0x83); /* through the other port as well */
    g_assert_cmpint(f->intr.level, ==, 0);
    g_assert_cmphex(i8259_acknowledge(f->pic), ==, 0x37);
}

static void test_registers(struct fixture *f, gconstpointer data)
{
    test_outb(f->m, MASTER + 1, 0x5a);
    test_outb(f->m, SLAVE + 1, 0xa5);
    g_assert_cmphex(test_inb(f->m, MASTER + 1), ==, 0x5a);
    g_assert_cmphex(test_inb(f->m, SLAVE + 1), ==, 0xa5);
    /* The register to read stays selected; the cascade cannot be driven from outside. */
    irq_raise(&f->in[2]);
    irq_raise(&f->in[1]);
    test_outb(f->m, MASTER, 0x0b);
    g_assert_cmphex(test_inb(f->m, MASTER), ==, 0);
    test_outb(f->m, MASTER, 0x08);
    g_assert_cmphex(i8259_acknowledge(f->pic), ==, 0x37); /* 1 is masked */
    test_outb(f->m, MASTER, 0x0a);
    g_assert_cmphex(test_inb(f->m, MASTER), ==, 2);
    /* One access of two bytes is two of one. */
    test_outw(f->m, MASTER, 0xff0b);
    g_assert_cmphex(test_inw(f->m, MASTER), ==, 0xff00);
    /* INTR sees an edge for each request: a local APIC may be edge-triggered. */
    test_outw(f->m, MASTER, 0x0020);
    unsigned rises = f->intr.rises;
    expect_vector(f, 0x31);
    irq_raise(&f->in[0]);
    g_assert_cmpuint(f->intr.rises, ==, rises + 1);
}

static void test_state(struct fixture *f, gconstpointer data)
{
    struct device *other = device_new(&i8259_type, f->pic->bus);
    irq_raise(&f->in[12]);
    irq_raise(&f->in[3]);
    expect_vector(f, 0x74);
    test_outb(f->m, 0x4d0, 0x20);
    irq_raise(&f->in[5]);
    test_outb(f->m, MASTER, 0xc2);
    test_outb(f->m, SLAVE, 0x11); /* in the middle of an initialization */
    test_state_transfer(f->pic, other);
    GByteArray *bytes = g_byte_array_new();
    state_save(bytes, f->pic->type->state, "x", f->pic);
    bytes->data[bytes->len - 7] = 0xff; /* the slave's `lowest` */
    struct state_reader in = { .data = bytes->data, .size = bytes->len };
    GError *err = NULL;
    bool ok = state_load(&in, f->pic->type->state, "x", other, &err);
    g_assert_false(ok);
    g_assert_nonnull(err);
    g_error_free(err);
    g_byte_array_unref(bytes);
    device_free(other);
}

static void test_random(struct fixture *f, gconstpointer data)
{
    GRand *r = g_rand_new_with_seed(8259);
    for (int i = 0; i < 200; i++) {
        test_poke_ports(f->m, f->pic, g_rand_int(r), 50, i & 1 ? MASTER : SLAVE, 2);
        test_poke_ports(f->m, f->pic, g_rand_int(r), 4, 0x4d0, 2);
        for (int k = 0; k < 8; k++)
            irq_set(&f->in[g_rand_int_range(r, 0, I8259_INPUTS)], g_rand_boolean(r));
        int vector = i8259_acknowledge(f->pic);
        g_assert_cmpint(vector, >=, 0);
        g_assert_cmpint(vector, <, 256);
    }
    /* Whatever has happened, initialization brings it back. */
    for (int i = 0; i < I8259_INPUTS; i++)
        irq_lower(&f->in[i]);
    test_outb(f->m, 0x4d0, 0);
    test_outb(f->m, 0x4d1, 0);
    init_chips(f, 1);
    irq_raise(&f->in[14]);
    expect_vector(f, 0x76);
    g_rand_free(r);
}

#define ADD(name) g_test_add("/i8259/" #name, struct fixture, NULL, set_up, test_##name, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD(silent_before_init);
    ADD(init_words);
    ADD(fully_nested);
    ADD(nesting);
    ADD(masks);
    ADD(edge_and_level);
    ADD(spurious);
    ADD(special_mask);
    ADD(special_fully_nested);
    ADD(rotation);
    ADD(auto_eoi);
    ADD(poll);
    ADD(registers);
    ADD(state);
    ADD(random);
    return g_test_run();
}
