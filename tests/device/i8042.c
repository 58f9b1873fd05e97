/* 8042 with PS/2 keyboard and mouse: controller commands, A20 and reset, scan code sets, typematic, wheel mouse. */
#include "hw/input/i8042.h"
#include "hw/input/ps2_codes.h"
#include "tests/lib/device_test.h"

#include <string.h>

struct fixture {
    struct machine *m;
    struct device *d;
    struct test_line *irq, *aux;
    struct test_line a20;
};

static void set_up(struct fixture *f)
{
    f->m = test_machine_new();
    f->d = test_add(&i8042_type, test_add_isa(f->m), NULL);
    f->irq = test_isa_line(f->m, 1);
    f->aux = test_isa_line(f->m, 12);
    test_line_init(&f->a20);
    i8042_set_a20(f->d, f->a20.line);
    bus_reset(f->m->system_bus);
}

static uint8_t status(struct fixture *f)
{
    return test_inb(f->m, 0x64);
}

static void command(struct fixture *f, uint8_t byte)
{
    test_outb(f->m, 0x64, byte);
}

static void data(struct fixture *f, uint8_t byte)
{
    test_outb(f->m, 0x60, byte);
}

/* All bytes that wait, and each is announced as it should be. */
static void expect(struct fixture *f, bool aux, const void *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        g_assert_cmphex(status(f) & 0x21, ==, aux ? 0x21 : 0x01);
        g_assert_cmphex(test_inb(f->m, 0x60), ==, ((const uint8_t *)bytes)[i]);
    }
    g_assert_cmphex(status(f) & 0x21, ==, 0);
}

#define EXPECT(f, aux, ...) expect(f, aux, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

static void aux_data(struct fixture *f, uint8_t byte)
{
    command(f, 0xd4);
    data(f, byte);
}

static void set_mode(struct fixture *f, uint8_t mode)
{
    command(f, 0x60);
    data(f, mode);
}

static void test_controller(void)
{
    struct fixture f;
    set_up(&f);

    g_assert_cmphex(status(&f), ==, 0x18);
    g_assert_cmpint(f.a20.level, ==, 1);
    command(&f, 0xaa);
    g_assert_cmphex(status(&f), ==, 0x1d);
    EXPECT(&f, false, 0x55);
    command(&f, 0xab);
    EXPECT(&f, false, 0x00);
    command(&f, 0xa9);
    EXPECT(&f, false, 0x00);
    command(&f, 0xc0);
    EXPECT(&f, false, 0x80);
    command(&f, 0xa4);
    EXPECT(&f, false, 0xf1);
    set_mode(&f, 0x65);
    g_assert_cmphex(status(&f) & 8, ==, 0);
    command(&f, 0x20);
    EXPECT(&f, false, 0x65);
    command(&f, 0xa8);
    command(&f, 0xad);
    command(&f, 0x20);
    EXPECT(&f, false, 0x55);
    command(&f, 0xae);
    command(&f, 0xa7);
    command(&f, 0x20);
    EXPECT(&f, false, 0x65);
    command(&f, 0x7f);
    data(&f, 0x12);
    command(&f, 0x3f);
    EXPECT(&f, false, 0x12);
    command(&f, 0xc2);
    g_assert_cmphex(status(&f) & 0xf0, ==, 0x80);
    command(&f, 0xc1);
    g_assert_cmphex(status(&f) & 0xf0, ==, 0x10);
    command(&f, 0xd2);
    data(&f, 0x77);
    EXPECT(&f, false, 0x77);
    command(&f, 0xd3);
    data(&f, 0x78);
    EXPECT(&f, true, 0x78);
    test_machine_free(f.m);
}

static void test_output_port(void)
{
    struct fixture f;
    set_up(&f);

    command(&f, 0xd0);
    g_assert_cmphex(test_inb(f.m, 0x60), ==, 0xcf);
    command(&f, 0xd1);
    data(&f, 0xdd);
    g_assert_cmpint(f.a20.level, ==, 0);
    command(&f, 0xdf);
    g_assert_cmpint(f.a20.level, ==, 1);
    command(&f, 0xdd);
    g_assert_cmpint(f.a20.level, ==, 0);
    command(&f, 0xd0);
    g_assert_cmphex(test_inb(f.m, 0x60), ==, 0xcd);
    test_state_roundtrip(f.d);
    g_assert_cmpint(machine_take_request(f.m), ==, REQUEST_NONE);
    command(&f, 0xff); /* pulses nothing */
    g_assert_cmpint(machine_take_request(f.m), ==, REQUEST_NONE);
    command(&f, 0xfe);
    g_assert_cmpint(machine_take_request(f.m), ==, REQUEST_RESET);
    command(&f, 0xd1);
    data(&f, 0xde);
    g_assert_cmpint(machine_take_request(f.m), ==, REQUEST_RESET);
    bus_reset(f.m->system_bus);
    g_assert_cmpint(f.a20.level, ==, 1);
    test_machine_free(f.m);
}

static void test_keyboard_commands(void)
{
    struct fixture f;
    set_up(&f);

    data(&f, 0xff);
    EXPECT(&f, false, 0xfa, 0xaa);
    data(&f, 0xee);
    EXPECT(&f, false, 0xee);
    data(&f, 0xf2);
    EXPECT(&f, false, 0xfa, 0xab, 0x83);
    data(&f, 0xfe);
    EXPECT(&f, false, 0x83);
    data(&f, 0xed);
    EXPECT(&f, false, 0xfa);
    data(&f, 0x02);
    EXPECT(&f, false, 0xfa);
    data(&f, 0xf0);
    data(&f, 0x00);
    EXPECT(&f, false, 0xfa, 0xfa, 0x02);
    data(&f, 0xf0);
    data(&f, 0x04);
    EXPECT(&f, false, 0xfa, 0xfe);
    data(&f, 0x01);
    EXPECT(&f, false, 0xfe);
    /* A command instead of an argument. */
    data(&f, 0xed);
    data(&f, 0xf4);
    EXPECT(&f, false, 0xfa, 0xfa);
    /* With translation the answers are translated too. */
    set_mode(&f, 0x41);
    data(&f, 0xf2);
    EXPECT(&f, false, 0xfa, 0xab, 0x41);
    data(&f, 0xf0);
    data(&f, 0x00);
    EXPECT(&f, false, 0xfa, 0xfa, 0x41);
    /* Disabled interface: nothing comes; writing to the keyboard enables it. */
    command(&f, 0xad);
    input_send_key(f.m, IKEY_A, true);
    g_assert_cmphex(status(&f) & 1, ==, 0);
    data(&f, 0xee);
    EXPECT(&f, false, 0xee, 0x1e);
    test_machine_free(f.m);
}

static void tap(struct fixture *f, int key)
{
    input_send_key(f->m, key, true);
    input_send_key(f->m, key, false);
}

static void test_scan_codes(void)
{
    struct fixture f;
    set_up(&f);

    g_assert_cmpint(f.irq->level, ==, 0);
    tap(&f, IKEY_A);
    g_assert_cmpint(f.irq->level, ==, 1);
    EXPECT(&f, false, 0x1c, 0xf0, 0x1c);
    g_assert_cmpint(f.irq->level, ==, 0);
    g_assert_cmpint(f.irq->rises, ==, 3);
    tap(&f, IKEY_UP);
    EXPECT(&f, false, 0xe0, 0x75, 0xe0, 0xf0, 0x75);
    tap(&f, IKEY_F7);
    EXPECT(&f, false, 0x83, 0xf0, 0x83);
    tap(&f, IKEY_PAUSE);
    EXPECT(&f, false, 0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77);
    tap(&f, IKEY_SYSRQ);
    EXPECT(&f, false, 0xe0, 0x12, 0xe0, 0x7c, 0xe0, 0xf0, 0x7c, 0xe0, 0xf0, 0x12);
    /* Translated to set 1, as a PC has it. */
    set_mode(&f, 0x41);
    tap(&f, IKEY_A);
    EXPECT(&f, false, 0x1e, 0x9e);
    tap(&f, IKEY_UP);
    EXPECT(&f, false, 0xe0, 0x48, 0xe0, 0xc8);
    tap(&f, IKEY_F7);
    EXPECT(&f, false, 0x41, 0xc1);
    tap(&f, IKEY_PAUSE);
    EXPECT(&f, false, 0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5);
    input_send_key(f.m, IKEY_LEFTALT, true);
    tap(&f, IKEY_SYSRQ);
    input_send_key(f.m, IKEY_LEFTALT, false);
    EXPECT(&f, false, 0x38, 0x54, 0xd4, 0xb8);
    input_send_key(f.m, IKEY_RIGHTCTRL, true);
    tap(&f, IKEY_PAUSE);
    tap(&f, IKEY_SYSRQ);
    EXPECT(&f, false, 0xe0, 0x1d, 0xe0, 0x46, 0xe0, 0xc6, 0xe0, 0x37, 0xe0, 0xb7);
    input_send_key(f.m, IKEY_RIGHTCTRL, false);
    EXPECT(&f, false, 0xe0, 0x9d);
    test_machine_free(f.m);
}

/* Set 1 untranslated, then set 3 with key types. */
static void test_other_sets(void)
{
    struct fixture f;
    set_up(&f);

    data(&f, 0xf0);
    data(&f, 0x01);
    EXPECT(&f, false, 0xfa, 0xfa);
    tap(&f, IKEY_DELETE);
    EXPECT(&f, false, 0xe0, 0x53, 0xe0, 0xd3);
    data(&f, 0xf0);
    data(&f, 0x03);
    EXPECT(&f, false, 0xfa, 0xfa);
    tap(&f, IKEY_DELETE);
    EXPECT(&f, false, 0x64, 0xf0, 0x64);
    data(&f, 0xf9); /* all keys: make only */
    EXPECT(&f, false, 0xfa);
    tap(&f, IKEY_DELETE);
    EXPECT(&f, false, 0x64);
    data(&f, 0xfc); /* make and break for one */
    data(&f, 0x1c);
    EXPECT(&f, false, 0xfa, 0xfa);
    data(&f, 0xf4);
    EXPECT(&f, false, 0xfa);
    tap(&f, IKEY_A);
    tap(&f, IKEY_B);
    EXPECT(&f, false, 0x1c, 0xf0, 0x1c, 0x32);
    test_machine_free(f.m);
}

/* Every key's set 2 code, translated, is its set 1 code: the tables agree. */
static void test_tables(void)
{
    unsigned keys = 0;
    for (unsigned key = 0; key < IKEY_MAX; key++) {
        uint8_t code = ps2_set1_codes[key] & 0xff;
        if (!code)
            continue;
        keys++;
        g_assert_cmphex(ps2_translation[ps2_set2_of_set1(code)], ==, code);
    }
    g_assert_cmpuint(keys, >, 110);
    for (int key = 1; key < IKEY_MAX; key++) {
        const char *name = input_key_name(key);
        if (name)
            g_assert_cmpint(input_key_from_name(name), ==, key);
    }
    g_assert_cmpint(input_key_from_name("ret"), ==, IKEY_ENTER);
    g_assert_cmpint(input_key_from_name("0x1e"), ==, IKEY_A);
    g_assert_cmpint(input_key_from_name("nonsense"), ==, -1);
}

static unsigned count_bytes(struct fixture *f, uint8_t want)
{
    unsigned n = 0;
    while (status(f) & 1) {
        g_assert_cmphex(test_inb(f->m, 0x60), ==, want);
        n++;
    }
    return n;
}

static void test_typematic(void)
{
    struct fixture f;
    set_up(&f);
    set_mode(&f, 0x41);

    input_send_key(f.m, IKEY_A, true);
    EXPECT(&f, false, 0x1e);
    test_step(f.m, NS_PER_SECOND * 49 / 100);
    g_assert_cmpuint(count_bytes(&f, 0x1e), ==, 0);
    test_step(f.m, NS_PER_SECOND / 50);
    g_assert_cmpuint(count_bytes(&f, 0x1e), ==, 1);
    unsigned repeats = 0;
    for (unsigned i = 0; i < 100; i++) {
        test_step(f.m, NS_PER_SECOND / 100);
        repeats += count_bytes(&f, 0x1e);
    }
    g_assert_cmpuint(repeats, >=, 10);
    g_assert_cmpuint(repeats, <=, 11);
    test_state_roundtrip(f.d);
    /* A host that repeats by itself changes nothing; a slow guest is not flooded. */
    for (unsigned i = 0; i < 100; i++)
        input_send_key(f.m, IKEY_A, true);
    test_step(f.m, 10 * NS_PER_SECOND);
    g_assert_cmpuint(count_bytes(&f, 0x1e), <=, 2);
    /* Another key takes over; letting the first go does not stop it. */
    input_send_key(f.m, IKEY_B, true);
    input_send_key(f.m, IKEY_A, false);
    EXPECT(&f, false, 0x30, 0x9e);
    test_step(f.m, NS_PER_SECOND * 51 / 100);
    g_assert_cmpuint(count_bytes(&f, 0x30), ==, 1);
    input_send_key(f.m, IKEY_B, false);
    EXPECT(&f, false, 0xb0);
    test_step(f.m, 5 * NS_PER_SECOND);
    g_assert_cmphex(status(&f) & 1, ==, 0);
    data(&f, 0xf3);
    data(&f, 0x00); /* 250 ms, 30 per second */
    EXPECT(&f, false, 0xfa, 0xfa);
    input_send_key(f.m, IKEY_C, true);
    EXPECT(&f, false, 0x2e);
    test_step(f.m, NS_PER_SECOND * 26 / 100);
    g_assert_cmpuint(count_bytes(&f, 0x2e), ==, 1);
    test_machine_free(f.m);
}

static void test_full_queue(void)
{
    struct fixture f;
    set_up(&f);
    for (int key = IKEY_1; key <= IKEY_P; key++)
        input_send_key(f.m, key, true);
    for (int key = IKEY_1; key <= IKEY_P; key++)
        input_send_key(f.m, key, false);
    /* An answer overtakes the codes that wait (but for the one in the output buffer). */
    data(&f, 0xee);
    g_assert_cmphex(test_inb(f.m, 0x60), ==, 0x16);
    g_assert_cmphex(test_inb(f.m, 0x60), ==, 0xee);
    unsigned n = 0;
    while (status(&f) & 1) {
        test_inb(f.m, 0x60);
        n++;
    }
    g_assert_cmpuint(n, >=, 60);
    g_assert_cmpuint(n, <=, 80);
    test_machine_free(f.m);
}

static void move(struct fixture *f, int dx, int dy)
{
    input_send(f->m, INPUT_REL, INPUT_AXIS_X, dx);
    input_send(f->m, INPUT_REL, INPUT_AXIS_Y, dy);
    input_sync(f->m);
}

static void button(struct fixture *f, int which, bool down)
{
    input_send(f->m, INPUT_BUTTON, which, down);
    input_sync(f->m);
}

static void test_mouse(void)
{
    struct fixture f;
    set_up(&f);
    set_mode(&f, 0x03);

    aux_data(&f, 0xff);
    g_assert_cmpint(f.aux->level, ==, 1);
    g_assert_cmpint(f.irq->level, ==, 0);
    EXPECT(&f, true, 0xfa, 0xaa, 0x00);
    g_assert_cmpint(f.aux->level, ==, 0);
    /* Reset leaves it disabled. */
    move(&f, 5, 5);
    g_assert_cmphex(status(&f) & 1, ==, 0);
    test_machine_free(f.m);
}

static void test_mouse_packets(void)
{
    struct fixture f;
    set_up(&f);

    move(&f, 1, 1);
    g_assert_cmphex(status(&f) & 1, ==, 0); /* not enabled */
    aux_data(&f, 0xf4);
    EXPECT(&f, true, 0xfa);
    move(&f, 5, -3);
    EXPECT(&f, true, 0x08, 5, 3);
    move(&f, -5, 3);
    EXPECT(&f, true, 0x38, 0xfb, 0xfd);
    button(&f, INPUT_BUTTON_LEFT, true);
    EXPECT(&f, true, 0x09, 0, 0);
    button(&f, INPUT_BUTTON_RIGHT, true);
    EXPECT(&f, true, 0x0b, 0, 0);
    button(&f, INPUT_BUTTON_LEFT, false);
    button(&f, INPUT_BUTTON_RIGHT, false);
    EXPECT(&f, true, 0x0a, 0, 0, 0x08, 0, 0);
    button(&f, INPUT_BUTTON_WHEEL_UP, true); /* no wheel */
    g_assert_cmphex(status(&f) & 1, ==, 0);
    /* Long ways in several packets, none of it lost. */
    for (unsigned i = 0; i < 50; i++)
        move(&f, 100, 0);
    int sum = 0;
    while (status(&f) & 1) {
        uint8_t first = test_inb(f.m, 0x60);
        g_assert_cmphex(first, ==, 0x08);
        sum += test_inb(f.m, 0x60);
        g_assert_cmphex(test_inb(f.m, 0x60), ==, 0);
    }
    g_assert_cmpint(sum, ==, 5000);
    /* Scaling 2:1. */
    aux_data(&f, 0xe7);
    EXPECT(&f, true, 0xfa);
    move(&f, 3, -10);
    EXPECT(&f, true, 0x08, 3, 20);
    aux_data(&f, 0xe9);
    EXPECT(&f, true, 0xfa, 0x30, 0x02, 100);
    test_state_roundtrip(f.d);
    test_machine_free(f.m);
}

static void test_mouse_modes(void)
{
    struct fixture f;
    set_up(&f);

    aux_data(&f, 0xe7);
    aux_data(&f, 0xf4);
    EXPECT(&f, true, 0xfa, 0xfa);
    /* Remote mode. */
    aux_data(&f, 0xf0);
    EXPECT(&f, true, 0xfa);
    move(&f, 7, 0);
    g_assert_cmphex(status(&f) & 1, ==, 0);
    aux_data(&f, 0xeb);
    EXPECT(&f, true, 0xfa, 0x08, 7, 0);
    aux_data(&f, 0xeb);
    EXPECT(&f, true, 0xfa, 0x08, 0, 0);
    /* Wrap. */
    aux_data(&f, 0xee);
    aux_data(&f, 0x12);
    aux_data(&f, 0xf4);
    EXPECT(&f, true, 0xfa, 0x12, 0xf4);
    aux_data(&f, 0xec);
    EXPECT(&f, true, 0xfa);
    aux_data(&f, 0xe8);
    aux_data(&f, 0x03);
    EXPECT(&f, true, 0xfa, 0xfa);
    aux_data(&f, 0xe9);
    EXPECT(&f, true, 0xfa, 0x70, 0x03, 100);
    aux_data(&f, 0xf6);
    EXPECT(&f, true, 0xfa);
    aux_data(&f, 0xe9);
    EXPECT(&f, true, 0xfa, 0x00, 0x02, 100);
    aux_data(&f, 0x01);
    EXPECT(&f, true, 0xfe);
    test_machine_free(f.m);
}

static void knock(struct fixture *f, uint8_t a, uint8_t b, uint8_t c)
{
    const uint8_t rates[] = {a, b, c};
    for (unsigned i = 0; i < 3; i++) {
        aux_data(f, 0xf3);
        aux_data(f, rates[i]);
        EXPECT(f, true, 0xfa, 0xfa);
    }
}

static void test_wheel(void)
{
    struct fixture f;
    set_up(&f);

    knock(&f, 200, 200, 80); /* too early */
    aux_data(&f, 0xf2);
    EXPECT(&f, true, 0xfa, 0x00);
    knock(&f, 200, 100, 80);
    aux_data(&f, 0xf2);
    EXPECT(&f, true, 0xfa, 0x03);
    aux_data(&f, 0xf4);
    EXPECT(&f, true, 0xfa);
    button(&f, INPUT_BUTTON_WHEEL_UP, true);
    EXPECT(&f, true, 0x08, 0, 0, 0xff);
    button(&f, INPUT_BUTTON_WHEEL_UP, false);
    button(&f, INPUT_BUTTON_SIDE, true);
    g_assert_cmphex(status(&f) & 1, ==, 0);
    knock(&f, 200, 200, 80);
    aux_data(&f, 0xf2);
    EXPECT(&f, true, 0xfa, 0x04);
    button(&f, INPUT_BUTTON_SIDE, true);
    EXPECT(&f, true, 0x08, 0, 0, 0x10);
    button(&f, INPUT_BUTTON_WHEEL_DOWN, true);
    EXPECT(&f, true, 0x08, 0, 0, 0x11);
    aux_data(&f, 0xff);
    EXPECT(&f, true, 0xfa, 0xaa, 0x00);
    test_machine_free(f.m);
}

static void test_both(void)
{
    struct fixture f;
    set_up(&f);
    set_mode(&f, 0x43);

    aux_data(&f, 0xf4);
    EXPECT(&f, true, 0xfa);
    input_send_key(f.m, IKEY_A, true);
    move(&f, 1, 0);
    g_assert_cmphex(status(&f) & 0x21, ==, 0x01);
    g_assert_cmphex(test_inb(f.m, 0x60), ==, 0x1e);
    EXPECT(&f, true, 0x08, 1, 0);
    /* The controller's answer goes first once the buffer is free. */
    move(&f, 1, 0);
    command(&f, 0x20);
    g_assert_cmphex(test_inb(f.m, 0x60), ==, 0x08);
    g_assert_cmphex(status(&f) & 0x21, ==, 0x01);
    g_assert_cmphex(test_inb(f.m, 0x60), ==, 0x43);
    EXPECT(&f, true, 1, 0);
    test_machine_free(f.m);
}

static void test_fuzz(void)
{
    struct fixture f;
    set_up(&f);
    GRand *r = g_rand_new_with_seed(5);

    for (unsigned i = 0; i < 40; i++) {
        test_poke_ports(f.m, f.d, 200 + i, 1000, 0x60, 5);
        for (unsigned j = 0; j < 10; j++) {
            input_send_key(f.m, g_rand_int_range(r, -5, 300), g_rand_boolean(r));
            move(&f, g_rand_int(r), g_rand_int(r));
            button(&f, g_rand_int_range(r, -2, 20), g_rand_boolean(r));
        }
    }
    g_rand_free(r);
    test_machine_free(f.m);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/i8042/controller", test_controller);
    g_test_add_func("/i8042/output_port", test_output_port);
    g_test_add_func("/i8042/keyboard_commands", test_keyboard_commands);
    g_test_add_func("/i8042/scan_codes", test_scan_codes);
    g_test_add_func("/i8042/other_sets", test_other_sets);
    g_test_add_func("/i8042/tables", test_tables);
    g_test_add_func("/i8042/typematic", test_typematic);
    g_test_add_func("/i8042/full_queue", test_full_queue);
    g_test_add_func("/i8042/mouse", test_mouse);
    g_test_add_func("/i8042/mouse_packets", test_mouse_packets);
    g_test_add_func("/i8042/mouse_modes", test_mouse_modes);
    g_test_add_func("/i8042/wheel", test_wheel);
    g_test_add_func("/i8042/both", test_both);
    g_test_add_func("/i8042/fuzz", test_fuzz);
    return g_test_run();
}
