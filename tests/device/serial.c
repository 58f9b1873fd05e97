/* 16550A: registers, FIFOs, interrupts and their priorities, timeout, loopback, line status, break, back pressure. */
#include "hw/backend/chr.h"
#include "hw/char/serial.h"
#include "tests/lib/device_test.h"

#include <string.h>

#define COM1 0x3f8

struct fixture {
    struct machine *m;
    struct device *d;
    struct chr *chr;
    struct test_line *irq;
};

static void set_up(struct fixture *f)
{
    f->m = test_machine_new();
    struct bus *isa = test_add_isa(f->m);
    g_assert_true(chr_new_legacy(f->m, "serial0", "ringbuf", &f->chr, NULL));
    f->d = test_add(&isa_serial_type, isa, "chardev=serial0", NULL);
    f->irq = test_isa_line(f->m, 4);
}

static uint8_t in(struct fixture *f, unsigned reg)
{
    return test_inb(f->m, COM1 + reg);
}

static void out(struct fixture *f, unsigned reg, uint8_t value)
{
    test_outb(f->m, COM1 + reg, value);
}

static void expect_sent(struct fixture *f, const char *text)
{
    char buf[100];
    size_t n = chr_ringbuf_read(f->chr, buf, sizeof(buf));
    g_assert_cmpmem(buf, n, text, strlen(text));
}

static void test_registers(void)
{
    struct fixture f;
    set_up(&f);

    g_assert_cmphex(in(&f, 1), ==, 0);
    g_assert_cmphex(in(&f, 2), ==, 0x01);
    g_assert_cmphex(in(&f, 3), ==, 0);
    g_assert_cmphex(in(&f, 4), ==, 0);
    g_assert_cmphex(in(&f, 5), ==, 0x60);
    g_assert_cmphex(in(&f, 6), ==, 0xb0);
    out(&f, 1, 0xff);
    g_assert_cmphex(in(&f, 1), ==, 0x0f);
    out(&f, 1, 0);
    out(&f, 4, 0xff & ~0x10);
    g_assert_cmphex(in(&f, 4), ==, 0x0f);
    out(&f, 7, 0xa5);
    g_assert_cmphex(in(&f, 7), ==, 0xa5);
    out(&f, 3, 0x83);
    out(&f, 0, 0x34);
    out(&f, 1, 0x12);
    g_assert_cmphex(in(&f, 0), ==, 0x34);
    g_assert_cmphex(in(&f, 1), ==, 0x12);
    out(&f, 3, 0x03);
    g_assert_cmphex(in(&f, 1), ==, 0);
    expect_sent(&f, "");
    out(&f, 2, 0x01);
    g_assert_cmphex(in(&f, 2), ==, 0xc1);
    out(&f, 2, 0xc0); /* without the enable bit nothing is kept */
    g_assert_cmphex(in(&f, 2), ==, 0x01);
    /* Word accesses come as bytes. */
    test_outw(f.m, COM1 + 3, 0x0003);
    g_assert_cmphex(test_inw(f.m, COM1 + 3), ==, 0x0003);
    test_machine_free(f.m);
}

static void test_sending(void)
{
    struct fixture f;
    set_up(&f);

    out(&f, 0, 'H');
    g_assert_cmphex(in(&f, 5), ==, 0x60);
    expect_sent(&f, "H");
    g_assert_cmpint(f.irq->rises, ==, 0);
    /* Enabling the interrupt while empty asks at once; reading IIR answers. */
    out(&f, 1, 0x02);
    g_assert_cmpint(f.irq->level, ==, 1);
    g_assert_cmphex(in(&f, 2), ==, 0x02);
    g_assert_cmpint(f.irq->level, ==, 0);
    g_assert_cmphex(in(&f, 2), ==, 0x01);
    /* Each byte brings an edge of its own. */
    out(&f, 0, 'i');
    out(&f, 0, '!');
    g_assert_cmpint(f.irq->level, ==, 1);
    g_assert_cmpint(f.irq->rises, ==, 3);
    expect_sent(&f, "i!");
    out(&f, 1, 0);
    g_assert_cmpint(f.irq->level, ==, 0);
    out(&f, 1, 0x02);
    g_assert_cmpint(f.irq->level, ==, 1);
    test_machine_free(f.m);
}

static void test_receiving(void)
{
    struct fixture f;
    set_up(&f);

    out(&f, 1, 0x01);
    g_assert_cmpuint(chr_inject(f.chr, "abc", 3), ==, 1); /* no FIFO: one at a time */
    g_assert_cmpint(f.irq->level, ==, 1);
    g_assert_cmphex(in(&f, 2), ==, 0x04);
    g_assert_cmphex(in(&f, 5), ==, 0x61);
    g_assert_cmphex(in(&f, 0), ==, 'a');
    g_assert_cmphex(in(&f, 5), ==, 0x60);
    g_assert_cmpint(f.irq->level, ==, 0);
    g_assert_cmphex(in(&f, 0), ==, 'a'); /* again, as the chip does */
    test_machine_free(f.m);
}

static void test_fifo(void)
{
    struct fixture f;
    set_up(&f);

    out(&f, 1, 0x01);
    out(&f, 2, 0x81); /* trigger 8 */
    g_assert_cmpuint(chr_inject(f.chr, "0123456", 7), ==, 7);
    g_assert_cmpint(f.irq->level, ==, 0);
    g_assert_cmphex(in(&f, 2), ==, 0xc1);
    g_assert_cmpuint(chr_inject(f.chr, "7", 1), ==, 1);
    g_assert_cmphex(in(&f, 2), ==, 0xc4);
    g_assert_cmpuint(chr_inject(f.chr, "89abcdefgh", 10), ==, 8); /* 16 deep */
    g_assert_cmphex(in(&f, 5), ==, 0x61);
    for (unsigned i = 0; i < 8; i++)
        g_assert_cmphex(in(&f, 0), ==, "01234567"[i]);
    g_assert_cmphex(in(&f, 2), ==, 0xc4);
    g_assert_cmphex(in(&f, 0), ==, '8');
    g_assert_cmphex(in(&f, 2), ==, 0xc1); /* 7 left, below the trigger */
    test_state_roundtrip(f.d);
    /* Four byte times (10 bits at 9600 baud) later: timeout. */
    test_step(f.m, 4 * 10 * NS_PER_SECOND / 9600 / 2);
    g_assert_cmpint(f.irq->level, ==, 0);
    test_step(f.m, 4 * 10 * NS_PER_SECOND / 9600 / 2 + 1000);
    g_assert_cmpint(f.irq->level, ==, 1);
    g_assert_cmphex(in(&f, 2), ==, 0xcc);
    g_assert_cmphex(in(&f, 2), ==, 0xcc); /* reading IIR does not answer that one */
    g_assert_cmphex(in(&f, 0), ==, '9');
    g_assert_cmpint(f.irq->level, ==, 0);
    /* Clearing. */
    out(&f, 2, 0x83);
    g_assert_cmphex(in(&f, 5), ==, 0x60);
    test_step(f.m, NS_PER_SECOND);
    g_assert_cmpint(f.irq->level, ==, 0);
    test_machine_free(f.m);
}

static void test_loopback(void)
{
    struct fixture f;
    set_up(&f);

    in(&f, 6);
    out(&f, 4, 0x10);
    g_assert_cmphex(in(&f, 6), ==, 0x0b); /* all off: CTS, DSR, DCD changed */
    out(&f, 4, 0x1f);
    g_assert_cmphex(in(&f, 6), ==, 0xfb); /* RI tells of its trailing edge only */
    out(&f, 4, 0x1b);
    g_assert_cmphex(in(&f, 6), ==, 0xb4);
    out(&f, 0, 'x');
    expect_sent(&f, "");
    g_assert_cmphex(in(&f, 5), ==, 0x61);
    g_assert_cmpuint(chr_inject(f.chr, "y", 1), ==, 0); /* the line is cut off */
    out(&f, 0, 'z');
    g_assert_cmphex(in(&f, 5), ==, 0x63); /* overrun */
    g_assert_cmphex(in(&f, 5), ==, 0x61);
    g_assert_cmphex(in(&f, 0), ==, 'z');
    /* In the FIFO the old ones stay. */
    out(&f, 2, 0x01);
    for (unsigned i = 0; i < 17; i++)
        out(&f, 0, 'A' + i);
    g_assert_cmphex(in(&f, 5), ==, 0x63);
    for (unsigned i = 0; i < 16; i++)
        g_assert_cmphex(in(&f, 0), ==, 'A' + i);
    g_assert_cmphex(in(&f, 5), ==, 0x60);
    /* A break comes back, at the top when its turn has come. */
    out(&f, 0, 'q');
    out(&f, 3, 0x43);
    g_assert_cmphex(in(&f, 5), ==, 0xe1);
    g_assert_cmphex(in(&f, 0), ==, 'q');
    g_assert_cmphex(in(&f, 5), ==, 0x71);
    g_assert_cmphex(in(&f, 5), ==, 0x61);
    g_assert_cmphex(in(&f, 0), ==, 0);
    test_machine_free(f.m);
}

static void test_priorities(void)
{
    struct fixture f;
    set_up(&f);

    out(&f, 4, 0x10);
    in(&f, 6);
    out(&f, 0, 'a');
    out(&f, 0, 'b');  /* overrun, data */
    out(&f, 4, 0x12); /* CTS changes */
    out(&f, 1, 0x0f);
    g_assert_cmphex(in(&f, 2), ==, 0x06);
    in(&f, 5);
    g_assert_cmphex(in(&f, 2), ==, 0x04);
    in(&f, 0);
    g_assert_cmphex(in(&f, 2), ==, 0x02);
    g_assert_cmpint(f.irq->level, ==, 1);
    g_assert_cmphex(in(&f, 2), ==, 0x00);
    g_assert_cmpint(f.irq->level, ==, 1);
    in(&f, 6);
    g_assert_cmphex(in(&f, 2), ==, 0x01);
    g_assert_cmpint(f.irq->level, ==, 0);
    test_machine_free(f.m);
}

static void test_reset_and_state(void)
{
    struct fixture f;
    set_up(&f);

    out(&f, 3, 0x83);
    out(&f, 0, 1);
    out(&f, 3, 0x1b);
    out(&f, 2, 0xc1);
    out(&f, 1, 0x0f);
    out(&f, 7, 0x77);
    chr_inject(f.chr, "hello", 5);
    g_assert_cmpint(f.irq->level, ==, 1);
    struct device *other = test_add(&isa_serial_type, f.d->bus, "index=1", NULL);
    test_state_transfer(f.d, other);
    g_assert_cmphex(test_inb(f.m, 0x2f8), ==, 'h');
    bus_reset(f.m->system_bus);
    g_assert_cmpint(f.irq->level, ==, 0);
    g_assert_cmphex(in(&f, 5), ==, 0x60);
    g_assert_cmphex(in(&f, 7), ==, 0);
    test_machine_free(f.m);
}

static void expect_refusal(struct bus *b, const char *name, const char *value, const char *words)
{
    struct device *d = device_new(&isa_serial_type, b);
    GError *err = NULL;

    g_assert_true(device_set_prop(d, name, value, NULL));
    g_assert_false(device_realize(d, &err));
    g_assert_nonnull(strstr(err->message, words));
    g_error_free(err);
    device_free(d);
}

static void test_properties(void)
{
    struct fixture f;
    set_up(&f);
    struct bus *isa = f.d->bus;

    expect_refusal(isa, "index", "4", "index=4");
    expect_refusal(isa, "irq", "16", "irq=16");
    expect_refusal(isa, "iobase", "0xfff9", "0xfff9");
    expect_refusal(isa, "chardev", "serial0", "serial0"); /* taken */
    test_add(&isa_serial_type, isa, NULL); /* COM2 */
    g_assert_cmphex(test_inb(f.m, 0x2f8 + 5), ==, 0x60);
    test_add(&isa_serial_type, isa, NULL);
    g_assert_cmphex(test_inb(f.m, 0x3e8 + 5), ==, 0x60);
    test_add(&isa_serial_type, isa, "iobase=0x1000", "irq=7", "index=9", NULL);
    g_assert_cmphex(test_inb(f.m, 0x1005), ==, 0x60);
    /* COM1 and COM3 share irq 4. */
    test_outb(f.m, 0x3e8 + 1, 0x02);
    out(&f, 1, 0x02);
    g_assert_cmpint(f.irq->level, ==, 1);
    in(&f, 2);
    g_assert_cmpint(f.irq->level, ==, 1);
    test_inb(f.m, 0x3e8 + 2);
    g_assert_cmpint(f.irq->level, ==, 0);
    test_machine_free(f.m);
}

static void test_debugcon(void)
{
    struct machine *m = test_machine_new();
    struct chr *chr;
    char buf[8];

    g_assert_true(chr_new_legacy(m, "debugcon0", "ringbuf", &chr, NULL));
    test_add(&isa_debugcon_type, test_add_isa(m), "iobase=0x402", "chardev=debugcon0", NULL);
    g_assert_cmphex(test_inb(m, 0x402), ==, 0xe9);
    test_outb(m, 0x402, 'S');
    test_outb(m, 0x402, 'B');
    g_assert_cmpmem(buf, chr_ringbuf_read(chr, buf, sizeof(buf)), "SB", 2);
    test_machine_free(m);
}

static void test_fuzz(void)
{
    struct fixture f;
    set_up(&f);
    for (unsigned i = 0; i < 20; i++) {
        test_poke_ports(f.m, f.d, 100 + i, 2000, COM1, 8);
        chr_inject(f.chr, "some input that may or may not fit", 34);
    }
    test_machine_free(f.m);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/serial/registers", test_registers);
    g_test_add_func("/serial/sending", test_sending);
    g_test_add_func("/serial/receiving", test_receiving);
    g_test_add_func("/serial/fifo", test_fifo);
    g_test_add_func("/serial/loopback", test_loopback);
    g_test_add_func("/serial/priorities", test_priorities);
    g_test_add_func("/serial/reset_and_state", test_reset_and_state);
    g_test_add_func("/serial/properties", test_properties);
    g_test_add_func("/serial/debugcon", test_debugcon);
    g_test_add_func("/serial/fuzz", test_fuzz);
    return g_test_run();
}
