/* 8237 pair: registers, byte pointer, transfers in both directions, 16-bit channels, auto-init, masks, ready calls. */
#include "hw/isa/i8237.h"
#include "hw/isa/isa.h"
#include "tests/lib/device_test.h"

#include <string.h>

struct fixture {
    struct machine *m;
    struct device *d;
    struct i8237 *dma;
    unsigned ready_calls;
};

static void set_up(struct fixture *f)
{
    *f = (struct fixture){.m = test_machine_new()};
    test_add_ram(f->m, 1 << 20);
    f->d = test_add(&i8237_type, test_add_isa(f->m), NULL);
    f->dma = isa_bus_of(f->d)->dma;
    g_assert_nonnull(f->dma);
}

static void tear_down(struct fixture *f)
{
    test_machine_free(f->m);
}

/* Channel 2 as a floppy driver does it. */
static void program2(struct fixture *f, uint8_t mode, uint32_t addr, uint16_t count)
{
    test_outb(f->m, 0x0a, 6);
    test_outb(f->m, 0x0b, mode | 2);
    test_outb(f->m, 0x0c, 0);
    test_outb(f->m, 0x04, addr);
    test_outb(f->m, 0x04, addr >> 8);
    test_outb(f->m, 0x81, addr >> 16);
    test_outb(f->m, 0x05, count);
    test_outb(f->m, 0x05, count >> 8);
    test_outb(f->m, 0x0a, 2);
}

static uint16_t word(struct fixture *f, uint16_t port)
{
    test_outb(f->m, 0x0c, 0);
    uint8_t low = test_inb(f->m, port);
    return low | test_inb(f->m, port) << 8;
}

static void test_registers(void)
{
    struct fixture f;
    set_up(&f);

    g_assert_cmphex(test_inb(f.m, 0x0f), ==, 0xff); /* all masked */
    g_assert_cmphex(test_inb(f.m, 0xde), ==, 0xff);
    test_outb(f.m, 0x00, 0x34);
    test_outb(f.m, 0x00, 0x12);
    g_assert_cmphex(word(&f, 0x00), ==, 0x1234);
    test_outb(f.m, 0x0a, 0x01);
    g_assert_cmphex(test_inb(f.m, 0x0f), ==, 0xfd);
    test_outb(f.m, 0x0e, 0);
    g_assert_cmphex(test_inb(f.m, 0x0f), ==, 0xf0);
    test_outb(f.m, 0x0f, 0x05);
    g_assert_cmphex(test_inb(f.m, 0x0f), ==, 0xf5);
    test_outb(f.m, 0x09, 0x06); /* request channel 2 */
    g_assert_cmphex(test_inb(f.m, 0x08), ==, 0x40);
    test_outb(f.m, 0x0d, 0);
    g_assert_cmphex(test_inb(f.m, 0x08), ==, 0);
    g_assert_cmphex(test_inb(f.m, 0x0f), ==, 0xff);
    for (unsigned i = 0; i < 16; i++)
        test_outb(f.m, 0x80 + i, 0x40 + i);
    for (unsigned i = 0; i < 16; i++)
        g_assert_cmphex(test_inb(f.m, 0x80 + i), ==, 0x40 + i);
    test_outb(f.m, 0xc4, 0x78); /* channel 5's address, every other port */
    test_outb(f.m, 0xc4, 0x56);
    test_outb(f.m, 0xd8, 0);
    g_assert_cmphex(test_inb(f.m, 0xc4), ==, 0x78);
    g_assert_cmphex(test_inb(f.m, 0xc4), ==, 0x56);
    test_state_roundtrip(f.d);
    tear_down(&f);
}

static void test_to_memory(void)
{
    struct fixture f;
    set_up(&f);
    bool tc;

    program2(&f, 0x44, 0x21000, 511);
    uint8_t data[600];
    for (unsigned i = 0; i < sizeof(data); i++)
        data[i] = i * 7;
    g_assert_cmpuint(i8237_write(f.dma, 2, data, 100, &tc), ==, 0); /* no DREQ */
    i8237_set_dreq(f.dma, 2, true);
    g_assert_cmphex(test_inb(f.m, 0x08), ==, 0x40);
    uint8_t buf[4];
    g_assert_cmpuint(i8237_read(f.dma, 2, buf, 4, &tc), ==, 0); /* wrong direction */
    g_assert_cmpuint(i8237_write(f.dma, 2, data, 100, &tc), ==, 100);
    g_assert_false(tc);
    g_assert_cmphex(word(&f, 0x05), ==, 411);
    g_assert_cmphex(word(&f, 0x04), ==, 0x1064);
    test_state_roundtrip(f.d);
    g_assert_cmpuint(i8237_write(f.dma, 2, data + 100, 500, &tc), ==, 412);
    g_assert_true(tc);
    g_assert_cmpmem(f.m->ram->host + 0x21000, 512, data, 512);
    g_assert_cmphex(f.m->ram->host[0x21200], ==, 0);
    g_assert_cmphex(test_inb(f.m, 0x08), ==, 0x44);
    g_assert_cmphex(test_inb(f.m, 0x08), ==, 0x40); /* reading clears TC */
    g_assert_cmphex(test_inb(f.m, 0x0f), ==, 0xff); /* masked itself */
    g_assert_cmphex(word(&f, 0x05), ==, 0xffff);
    g_assert_cmpuint(i8237_write(f.dma, 2, data, 1, &tc), ==, 0);
    tear_down(&f);
}

static void test_from_memory(void)
{
    struct fixture f;
    set_up(&f);
    bool tc;
    uint8_t buf[64];

    for (unsigned i = 0; i < 0x10000; i++)
        f.m->ram->host[0x30000 + i] = i ^ i >> 8;
    i8237_set_dreq(f.dma, 2, true);
    program2(&f, 0x58, 0x3fff0, 31); /* auto-init, across the end of the 64 KiB page: wraps in it */
    g_assert_cmpuint(i8237_read(f.dma, 2, buf, sizeof(buf), &tc), ==, 32);
    g_assert_true(tc);
    for (unsigned i = 0; i < 32; i++)
        g_assert_cmphex(buf[i], ==, f.m->ram->host[0x30000 + ((0xfff0 + i) & 0xffff)]);
    g_assert_cmphex(word(&f, 0x05), ==, 31);
    g_assert_cmphex(word(&f, 0x04), ==, 0xfff0);
    g_assert_cmpuint(i8237_read(f.dma, 2, buf, 1, &tc), ==, 1);
    program2(&f, 0x68, 0x30010, 3); /* downwards */
    g_assert_cmpuint(i8237_read(f.dma, 2, buf, 4, &tc), ==, 4);
    g_assert_cmphex(buf[3], ==, 0x0d);
    program2(&f, 0x40, 0x30010, 3); /* verify */
    buf[0] = 0x55;
    g_assert_cmpuint(i8237_read(f.dma, 2, buf, 4, &tc), ==, 4);
    g_assert_true(tc);
    g_assert_cmphex(buf[0], ==, 0);
    tear_down(&f);
}

static void test_words(void)
{
    struct fixture f;
    set_up(&f);
    bool tc;

    test_outb(f.m, 0xd6, 0x45); /* channel 5, to memory */
    test_outb(f.m, 0xd8, 0);
    test_outb(f.m, 0xc4, 0x00); /* word address 0x8800: byte 0x11000 */
    test_outb(f.m, 0xc4, 0x88);
    test_outb(f.m, 0x8b, 0x05); /* bit 0 does not count */
    test_outb(f.m, 0xc6, 3);
    test_outb(f.m, 0xc6, 0);
    test_outb(f.m, 0xd4, 0x01);
    i8237_set_dreq(f.dma, 5, true);
    g_assert_cmpuint(i8237_write(f.dma, 5, "12345678", 3, &tc), ==, 2); /* whole words */
    g_assert_cmpuint(i8237_write(f.dma, 5, "345678", 6, &tc), ==, 6);
    g_assert_true(tc);
    g_assert_cmpmem(f.m->ram->host + 0x51000, 8, "12345678", 8);
    tear_down(&f);
}

static void ready(void *opaque, unsigned channel)
{
    g_assert_cmpuint(channel, ==, 2);
    ((struct fixture *)opaque)->ready_calls++;
}

static void test_ready(void)
{
    struct fixture f;
    set_up(&f);

    i8237_attach(f.dma, 2, ready, &f);
    i8237_set_dreq(f.dma, 2, true);
    g_assert_cmpuint(f.ready_calls, ==, 0);
    program2(&f, 0x44, 0x1000, 10);
    g_assert_cmpuint(f.ready_calls, ==, 1);
    g_assert_true(i8237_ready(f.dma, 2));
    test_outb(f.m, 0x08, 0x04); /* disabled */
    g_assert_false(i8237_ready(f.dma, 2));
    test_outb(f.m, 0x08, 0x00);
    g_assert_cmpuint(f.ready_calls, ==, 2);
    i8237_set_dreq(f.dma, 2, false);
    g_assert_false(i8237_ready(f.dma, 2));
    i8237_set_dreq(f.dma, 2, true);
    g_assert_cmpuint(f.ready_calls, ==, 3);
    i8237_attach(f.dma, 2, NULL, NULL);
    tear_down(&f);
}

static void test_fuzz(void)
{
    struct fixture f;
    set_up(&f);
    GRand *r = g_rand_new_with_seed(13);
    uint8_t buf[300];
    bool tc;

    for (unsigned i = 0; i < 30; i++) {
        static const uint8_t channels[] = {0, 1, 2, 3, 5, 6, 7};
        unsigned channel = channels[g_rand_int_range(r, 0, 7)];
        test_poke_ports(f.m, f.d, 700 + i, 300, 0x00, 0x10);
        test_poke_ports(f.m, f.d, 800 + i, 300, 0xc0, 0x20);
        test_poke_ports(f.m, f.d, 900 + i, 50, 0x80, 0x10);
        i8237_set_dreq(f.dma, channel, true);
        memset(buf, i, sizeof(buf));
        i8237_write(f.dma, channel, buf, sizeof(buf), &tc);
        i8237_read(f.dma, channel, buf, sizeof(buf), &tc);
    }
    g_rand_free(r);
    tear_down(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/i8237/registers", test_registers);
    g_test_add_func("/i8237/to_memory", test_to_memory);
    g_test_add_func("/i8237/from_memory", test_from_memory);
    g_test_add_func("/i8237/words", test_words);
    g_test_add_func("/i8237/ready", test_ready);
    g_test_add_func("/i8237/fuzz", test_fuzz);
    return g_test_run();
}
