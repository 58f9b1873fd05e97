/*
 * 8254: every mode tick by tick against the datasheet's diagrams, BCD, latches, read-back, gates, IRQ 0; port 0x61.
 *
 * Time moves in whole ticks of 1.193182 MHz; a write is made between two ticks, so that CE is loaded by the next one.
 */
#include "hw/core/clock.h"
#include "hw/core/state.h"
#include "hw/timer/i8254.h"
#include "hw/timer/pcspk.h"
#include "tests/lib/device_test.h"

#include <string.h>

struct fixture {
    struct machine *m;
    struct device *pit, *spk;
    struct test_line irq;
    uint64_t tick;
};

static void set_up(struct fixture *f, gconstpointer data)
{
    f->m = test_machine_new();
    struct bus *isa = test_add_isa(f->m);
    f->pit = device_new(&i8254_type, isa);
    test_line_init(&f->irq);
    i8254_set_irq(f->pit, f->irq.line);
    g_assert_true(device_realize(f->pit, NULL));
    f->spk = device_new(&pcspk_type, isa);
    pcspk_set_pit(f->spk, f->pit);
    g_assert_true(device_realize(f->spk, NULL));
    bus_reset(f->m->system_bus);
    f->tick = 0;
    test_step(f->m, 10); /* a little past the tick */
}

static void tear_down(struct fixture *f, gconstpointer data)
{
    test_state_roundtrip(f->pit);
    test_machine_free(f->m);
}

static void ticks(struct fixture *f, uint64_t n)
{
    f->tick += n;
    int64_t at = clock_ticks_to_ns(f->tick, I8254_HZ) + 10;
    test_step(f->m, at - clock_now(f->m->clock));
    g_assert_cmpuint(clock_ticks(clock_now(f->m->clock), I8254_HZ), ==, f->tick);
}

static void control(struct fixture *f, unsigned channel, unsigned rw, unsigned mode, bool bcd)
{
    test_outb(f->m, 0x43, channel << 6 | rw << 4 | mode << 1 | bcd);
}

static void write16(struct fixture *f, unsigned channel, uint16_t value)
{
    test_outb(f->m, 0x40 + channel, value & 0xff);
    test_outb(f->m, 0x40 + channel, value >> 8);
}

static unsigned read16(struct fixture *f, unsigned channel)
{
    unsigned low = test_inb(f->m, 0x40 + channel);
    return low | test_inb(f->m, 0x40 + channel) << 8;
}

static unsigned latched(struct fixture *f, unsigned channel)
{
    test_outb(f->m, 0x43, channel << 6);
    return read16(f, channel);
}

/* Steps a tick at a time and compares OUT ('0', '1') with the string. The first is before any tick. */
static void expect_out(struct fixture *f, unsigned channel, const char *levels)
{
    g_autofree char *got = g_strdup(levels);
    for (unsigned i = 0; levels[i]; i++) {
        if (i)
            ticks(f, 1);
        got[i] = i8254_out(f->pit, channel) ? '1' : '0';
    }
    g_assert_cmpstr(got, ==, levels);
}

/* Counts of channel 2 on the following ticks, after none first; -1 ends. */
static void expect_counts(struct fixture *f, const int *counts)
{
    for (unsigned i = 0; counts[i] >= 0; i++) {
        if (i)
            ticks(f, 1);
        g_assert_cmpint(latched(f, 2), ==, counts[i]);
    }
}

#define COUNTS(...) ((const int[]){ __VA_ARGS__, -1 })

static void gate(struct fixture *f, bool level)
{
    test_outb(f->m, 0x61, level);
    g_assert_cmpint(i8254_gate(f->pit, 2), ==, level);
}

/* --- Modes ------------------------------------------------------------------------------------- */

static void test_mode0(struct fixture *f, gconstpointer data)
{
    gate(f, true);
    control(f, 2, 3, 0, false);
    expect_out(f, 2, "0000"); /* low from the control word on */
    write16(f, 2, 4);
    expect_out(f, 2, "0000011111");              /* one tick to load, N to count */
    g_assert_cmpuint(latched(f, 2), ==, 0xfffc); /* goes on from FFFF */
    write16(f, 2, 3);
    ticks(f, 1);
    expect_counts(f, COUNTS(3, 2, 1, 0, 0xffff));
    g_assert_true(i8254_out(f->pit, 2));
    /* The first byte stops the count and pulls OUT low. */
    test_outb(f->m, 0x42, 5);
    expect_out(f, 2, "000");
    g_assert_cmpuint(latched(f, 2), ==, 0xffff);
    test_outb(f->m, 0x42, 0);
    expect_out(f, 2, "000000111");
    /* GATE holds it and has no effect on OUT. */
    write16(f, 2, 4);
    ticks(f, 2);
    gate(f, false);
    expect_counts(f, COUNTS(3, 3, 3));
    gate(f, true);
    expect_counts(f, COUNTS(3, 2, 1));
    expect_out(f, 2, "011");
    gate(f, false);
    expect_out(f, 2, "11");
    /* A count written while GATE is low is loaded all the same, and needs no extra tick later. */
    write16(f, 2, 2);
    ticks(f, 3);
    g_assert_cmpuint(latched(f, 2), ==, 2);
    gate(f, true);
    expect_out(f, 2, "0011");
}

static void test_mode1(struct fixture *f, gconstpointer data)
{
    control(f, 2, 1, 1, false);
    expect_out(f, 2, "11");
    test_outb(f->m, 0x42, 3);
    expect_out(f, 2, "1111"); /* waits for the trigger */
    gate(f, true);
    expect_out(f, 2, "100011"); /* from the tick after the trigger, N long */
    gate(f, false);
    expect_out(f, 2, "11");
    gate(f, true);
    expect_out(f, 2, "100");
    gate(f, false); /* the level has no effect; another edge starts afresh */
    gate(f, true);
    expect_out(f, 2, "00001");
    /* A new count takes part from the next trigger on. */
    gate(f, false);
    gate(f, true);
    ticks(f, 1);
    test_outb(f->m, 0x42, 5);
    expect_out(f, 2, "00011");
    gate(f, false);
    gate(f, true);
    expect_out(f, 2, "10000011");
}

static void test_mode2(struct fixture *f, gconstpointer data)
{
    gate(f, true);
    control(f, 2, 3, 2, false);
    write16(f, 2, 3);
    expect_out(f, 2, "11101101101"); /* a tick to load, then low in every third */
    g_assert_cmpuint(latched(f, 2), ==, 3);
    expect_counts(f, COUNTS(3, 2, 1, 3));
    /* A new count waits for the end of the period. */
    write16(f, 2, 5);
    expect_out(f, 2, "1101111011110");
    /* GATE low: high at once, stands; its edge reloads. */
    gate(f, false);
    expect_out(f, 2, "1111");
    g_assert_cmpuint(latched(f, 2), ==, 1);
    gate(f, true);
    ticks(f, 1);
    expect_counts(f, COUNTS(5, 4, 3));
    /* Written while GATE is low: the edge loads the new one. */
    gate(f, false);
    write16(f, 2, 2);
    ticks(f, 3);
    g_assert_cmpuint(latched(f, 2), ==, 3);
    gate(f, true);
    expect_out(f, 2, "110101");
    /* 0 is 65536; mode 6 is mode 2 */
    control(f, 2, 3, 6, false);
    write16(f, 2, 0);
    ticks(f, 1);
    expect_counts(f, COUNTS(0, 0xffff, 0xfffe));
    ticks(f, 65532);
    expect_out(f, 2, "1011");
}

static void test_mode3(struct fixture *f, gconstpointer data)
{
    gate(f, true);
    control(f, 2, 3, 3, false);
    write16(f, 2, 4);
    expect_out(f, 2, "1110011001");
    expect_counts(f, COUNTS(4, 2, 4, 2, 4));
    control(f, 2, 3, 7, false);
    write16(f, 2, 5); /* odd: one tick more high than low */
    expect_out(f, 2, "11110011100111");
    ticks(f, 3);
    expect_counts(f, COUNTS(4, 2, 0, 4, 2, 4));
    /* A new count waits for the end of the half period. */
    write16(f, 2, 8);
    expect_out(f, 2, "111000011110000");
    write16(f, 2, 4);
    expect_out(f, 2, "011001");
    /* GATE low: high at once. */
    ticks(f, 2);
    g_assert_false(i8254_out(f->pit, 2));
    gate(f, false);
    expect_out(f, 2, "111");
    gate(f, true);
    expect_out(f, 2, "1110011");
    /* 2 is the least there is; 1 is taken for it. */
    for (unsigned n = 1; n <= 2; n++) {
        control(f, 2, 3, 3, false);
        write16(f, 2, n);
        expect_out(f, 2, "1101010");
    }
}

static void test_mode4(struct fixture *f, gconstpointer data)
{
    gate(f, true);
    control(f, 2, 1, 4, false);
    test_outb(f->m, 0x42, 3);
    expect_out(f, 2, "111101111"); /* N + 1 ticks after the write, one long */
    ticks(f, 65536 - 8);
    expect_out(f, 2, "111111111111"); /* the wrapping count does not strobe again */
    /* Rewriting restarts it on the next tick. */
    test_outb(f->m, 0x42, 3);
    ticks(f, 2);
    test_outb(f->m, 0x42, 2);
    expect_out(f, 2, "11101");
    /* GATE holds. */
    test_outb(f->m, 0x42, 3);
    ticks(f, 2);
    gate(f, false);
    expect_out(f, 2, "11111");
    gate(f, true);
    expect_out(f, 2, "1101");
}

static void test_mode4_gate_between_bytes(struct fixture *f, gconstpointer data)
{
    gate(f, true);
    control(f, 2, 3, 4, false);
    write16(f, 2, 100);
    ticks(f, 11);
    test_outb(f->m, 0x42, 7); /* the first byte does nothing in this mode */
    ticks(f, 10);
    gate(f, false);
    ticks(f, 10);
    g_assert_cmpuint(latched(f, 2), ==, 80);
    gate(f, true);
    ticks(f, 10);
    g_assert_cmpuint(latched(f, 2), ==, 70);
    test_outb(f->m, 0x42, 0);
    ticks(f, 1);
    g_assert_cmpuint(latched(f, 2), ==, 7);
}

static void test_mode5(struct fixture *f, gconstpointer data)
{
    control(f, 2, 1, 5, false);
    test_outb(f->m, 0x42, 3);
    expect_out(f, 2, "1111111");
    gate(f, true);
    expect_out(f, 2, "111101111");
    gate(f, false);
    gate(f, true);
    expect_out(f, 2, "111");
    gate(f, false);
    gate(f, true); /* retriggered */
    expect_out(f, 2, "1111011");
    test_outb(f->m, 0x42, 1);
    expect_out(f, 2, "1111");
    gate(f, false);
    gate(f, true);
    expect_out(f, 2, "11011");
}

static void test_bcd(struct fixture *f, gconstpointer data)
{
    gate(f, true);
    control(f, 2, 3, 2, true);
    write16(f, 2, 0x1000);
    ticks(f, 1);
    expect_counts(f, COUNTS(0x1000, 0x999, 0x998));
    ticks(f, 89);
    g_assert_cmphex(latched(f, 2), ==, 0x909);
    ticks(f, 10);
    g_assert_cmphex(latched(f, 2), ==, 0x899);
    control(f, 2, 3, 0, true);
    write16(f, 2, 0); /* 10000 */
    ticks(f, 1);
    expect_counts(f, COUNTS(0, 0x9999, 0x9998));
    ticks(f, 9997);
    g_assert_false(i8254_out(f->pit, 2));
    ticks(f, 1);
    g_assert_true(i8254_out(f->pit, 2));
    ticks(f, 1);
    g_assert_cmphex(latched(f, 2), ==, 0x9999);
    write16(f, 2, 0xffff); /* digits there are not: any answer but a crash */
    ticks(f, 1);
    latched(f, 2);
}

/* --- Latches and bytes --------------------------------------------------------------------------- */

static void test_latch(struct fixture *f, gconstpointer data)
{
    gate(f, true);
    control(f, 2, 3, 2, false);
    write16(f, 2, 0x1234);
    ticks(f, 1);
    test_outb(f->m, 0x43, 0x80);
    ticks(f, 0x40);
    test_outb(f->m, 0x43, 0x80); /* ignored until the first was read */
    g_assert_cmphex(read16(f, 2), ==, 0x1234);
    g_assert_cmphex(read16(f, 2), ==, 0x11f4); /* live again */
    /* Half a latch read, something else, the other half. */
    test_outb(f->m, 0x43, 0x80);
    g_assert_cmphex(test_inb(f->m, 0x42), ==, 0xf4);
    ticks(f, 0x100);
    test_outb(f->m, 0x43, 0x80);
    g_assert_cmphex(test_inb(f->m, 0x42), ==, 0x11);
    g_assert_cmphex(latched(f, 2), ==, 0x10f4);
    /* One byte at a time: the other is 0. */
    control(f, 2, 1, 2, false);
    test_outb(f->m, 0x42, 0x80);
    ticks(f, 2);
    g_assert_cmphex(test_inb(f->m, 0x42), ==, 0x7f);
    g_assert_cmphex(test_inb(f->m, 0x42), ==, 0x7f);
    control(f, 2, 2, 2, false);
    test_outb(f->m, 0x42, 0x80);
    ticks(f, 1);
    g_assert_cmphex(test_inb(f->m, 0x42), ==, 0x80);
    ticks(f, 1);
    g_assert_cmphex(test_inb(f->m, 0x42), ==, 0x7f);
    test_outb(f->m, 0x43, 0x80);
    ticks(f, 0x1000);
    g_assert_cmphex(test_inb(f->m, 0x42), ==, 0x7f);
    g_assert_cmphex(test_inb(f->m, 0x42), ==, 0x6f);
    /* Reading and writing bytes alternate apart. */
    control(f, 2, 3, 0, false);
    test_outb(f->m, 0x42, 0x10);
    test_inb(f->m, 0x42);
    test_outb(f->m, 0x42, 0x20);
    ticks(f, 1);
    test_inb(f->m, 0x42);
    g_assert_cmphex(latched(f, 2), ==, 0x2010);
    g_assert_cmphex(test_inb(f->m, 0x43), ==, 0xff);
}

static void test_read_back(struct fixture *f, gconstpointer data)
{
    gate(f, true);
    control(f, 2, 3, 3, true);
    test_outb(f->m, 0x43, 0xe8);                     /* status of 2 */
    g_assert_cmphex(test_inb(f->m, 0x42), ==, 0xf7); /* OUT, null count, word, mode 3, BCD */
    write16(f, 2, 0x10);
    test_outb(f->m, 0x43, 0xe8);
    g_assert_cmphex(test_inb(f->m, 0x42), ==, 0xf7); /* not loaded yet */
    ticks(f, 1);
    test_outb(f->m, 0x43, 0xe8);
    ticks(f, 6);
    test_outb(f->m, 0x43, 0xe8); /* a second status is ignored */
    g_assert_cmphex(test_inb(f->m, 0x42), ==, 0xb7);
    test_outb(f->m, 0x43, 0xe8);
    g_assert_cmphex(test_inb(f->m, 0x42), ==, 0x37);
    /* A count that waits for its half period is a null count. */
    write16(f, 2, 0x20);
    test_outb(f->m, 0x43, 0xe8);
    g_assert_cmphex(test_inb(f->m, 0x42), ==, 0x77);
    ticks(f, 6);
    test_outb(f->m, 0x43, 0xe8);
    g_assert_cmphex(test_inb(f->m, 0x42), ==, 0xb7);
    /* All counts at one instant, and status before count. */
    control(f, 0, 3, 2, false);
    control(f, 1, 3, 2, false);
    control(f, 2, 3, 2, false);
    for (unsigned i = 0; i < 3; i++)
        write16(f, i, 1000 * (i + 1));
    ticks(f, 101);
    test_outb(f->m, 0x43, 0xce);
    ticks(f, 7);
    for (unsigned i = 0; i < 3; i++) {
        g_assert_cmphex(test_inb(f->m, 0x40 + i), ==, 0xb4);
        g_assert_cmpuint(read16(f, i), ==, 1000 * (i + 1) - 100);
        g_assert_cmpuint(read16(f, i), ==, 1000 * (i + 1) - 107);
    }
    test_outb(f->m, 0x43, 0xc0); /* of nobody */
    g_assert_cmpuint(read16(f, 0), ==, 893);
}

/* --- IRQ 0 --------------------------------------------------------------------------------------- */

static void test_irq_rate(struct fixture *f, gconstpointer data)
{
    control(f, 0, 3, 2, false);
    unsigned rises = f->irq.rises;
    write16(f, 0, 11932); /* 100 Hz */
    ticks(f, 11932);
    g_assert_cmpuint(f->irq.rises, ==, rises);
    ticks(f, 1);
    g_assert_cmpuint(f->irq.rises, ==, rises + 1);
    g_assert_cmpint(f->irq.level, ==, 1); /* up between interrupts, as edge-triggered receivers want */
    ticks(f, UINT64_C(11932) * 1000 - 1);
    g_assert_cmpuint(f->irq.rises, ==, rises + 1000);
    ticks(f, 1);
    g_assert_cmpuint(f->irq.rises, ==, rises + 1001);
    /* A new count from the end of the period on, and exactly one interrupt there. */
    ticks(f, 6000);
    write16(f, 0, 100);
    ticks(f, 5931);
    g_assert_cmpuint(f->irq.rises, ==, rises + 1001);
    ticks(f, 1);
    g_assert_cmpuint(f->irq.rises, ==, rises + 1002);
    ticks(f, 1000);
    g_assert_cmpuint(f->irq.rises, ==, rises + 1012);
    /* Reading does not disturb. */
    for (unsigned i = 0; i < 1000; i++) {
        ticks(f, 1);
        test_inb(f->m, 0x40);
    }
    g_assert_cmpuint(f->irq.rises, ==, rises + 1022);
}

/* A main loop that was away: see clock_oldest_due(). What is written meanwhile does not swallow the edge that is due.
 */
static void test_irq_late(struct fixture *f, gconstpointer data)
{
    struct clock *c = f->m->clock;
    control(f, 0, 3, 2, false);
    write16(f, 0, 1193); /* about a millisecond */
    ticks(f, 100);
    unsigned rises = f->irq.rises;
    clock_set(c, clock_now(c) + 1000000);
    write16(f, 0, 1193);
    g_assert_cmpuint(f->irq.rises, ==, rises + 1);
    for (unsigned away = 10; away <= 1000; away += 990) {
        rises = f->irq.rises;
        clock_set(c, clock_now(c) + away * 1000000);
        for (unsigned i = 0; i < 500; i++)
            test_step(f->m, 1);
        g_assert_cmpuint(f->irq.rises - rises, >=, MIN(away, 50));
        g_assert_cmpuint(f->irq.rises - rises, <=, MIN(away, 50) + 2);
    }
}

static void test_irq_modes(struct fixture *f, gconstpointer data)
{
    /* Mode 0: once. */
    control(f, 0, 3, 0, false);
    write16(f, 0, 50);
    unsigned rises = f->irq.rises;
    ticks(f, 50);
    g_assert_cmpint(f->irq.level, ==, 0);
    ticks(f, 1);
    g_assert_cmpint(f->irq.level, ==, 1);
    ticks(f, 200000);
    g_assert_cmpuint(f->irq.rises, ==, rises + 1);
    write16(f, 0, 50);
    g_assert_cmpint(f->irq.level, ==, 0);
    ticks(f, 51);
    g_assert_cmpuint(f->irq.rises, ==, rises + 2);
    /* Mode 3: the line follows the square wave. */
    control(f, 0, 3, 3, false);
    write16(f, 0, 10);
    ticks(f, 1);
    rises = f->irq.rises;
    unsigned high = 0;
    for (unsigned i = 0; i < 100; i++) {
        g_assert_cmpint(f->irq.level, ==, i8254_out(f->pit, 0));
        high += f->irq.level;
        ticks(f, 1);
    }
    g_assert_cmpuint(high, ==, 50);
    g_assert_cmpuint(f->irq.rises, ==, rises + 10);
    /* Mode 4: a strobe of one tick. */
    control(f, 0, 1, 4, false);
    test_outb(f->m, 0x40, 5);
    ticks(f, 5);
    g_assert_cmpint(f->irq.level, ==, 1);
    ticks(f, 1);
    g_assert_cmpint(f->irq.level, ==, 0);
    ticks(f, 1);
    g_assert_cmpint(f->irq.level, ==, 1);
    /* A control word stops everything. */
    control(f, 0, 3, 0, false);
    g_assert_cmpint(f->irq.level, ==, 0);
    rises = f->irq.rises;
    ticks(f, 200000);
    g_assert_cmpuint(f->irq.rises, ==, rises);
}

static void test_reset(struct fixture *f, gconstpointer data)
{
    control(f, 0, 3, 2, false);
    write16(f, 0, 100);
    ticks(f, 150);
    bus_reset(f->m->system_bus);
    g_assert_cmpint(f->irq.level, ==, 0);
    unsigned rises = f->irq.rises;
    ticks(f, 100000);
    g_assert_cmpuint(f->irq.rises, ==, rises);
    g_assert_true(i8254_gate(f->pit, 0));
    g_assert_false(i8254_gate(f->pit, 2));
}

/* --- Port 0x61 ------------------------------------------------------------------------------------- */

static void test_port61(struct fixture *f, gconstpointer data)
{
    test_outb(f->m, 0x61, 0xff);
    g_assert_cmphex(test_inb(f->m, 0x61) & 0xcf, ==, 0x0f); /* no error bits; the upper half is read-only */
    test_outb(f->m, 0x61, 0x02);
    g_assert_cmphex(test_inb(f->m, 0x61) & 0x0f, ==, 0x02);
    g_assert_false(i8254_gate(f->pit, 2));
    /* What calibration loops do: gate up, mode 0, wait for OUT in bit 5. */
    test_outb(f->m, 0x61, 0x01);
    control(f, 2, 3, 0, false);
    write16(f, 2, 11932);
    ticks(f, 11932);
    g_assert_cmphex(test_inb(f->m, 0x61) & 0x20, ==, 0);
    ticks(f, 1);
    g_assert_cmphex(test_inb(f->m, 0x61) & 0x20, ==, 0x20);
    /* The refresh bit toggles about every 15 us. */
    unsigned toggles = 0;
    for (unsigned i = 0, last = test_inb(f->m, 0x61); i < 1800; i++) {
        ticks(f, 1);
        unsigned now = test_inb(f->m, 0x61);
        toggles += (now ^ last) >> 4 & 1;
        last = now;
    }
    g_assert_cmpuint(toggles, ==, 100);
    test_state_roundtrip(f->spk);
    test_poke_ports(f->m, f->spk, 61, 200, 0x61, 1);
}

/* --- State and noise ------------------------------------------------------------------------------- */

static void test_state(struct fixture *f, gconstpointer data)
{
    gate(f, true);
    control(f, 0, 3, 2, false);
    write16(f, 0, 1000);
    control(f, 1, 3, 3, true);
    write16(f, 1, 0x777);
    control(f, 2, 3, 0, false);
    test_outb(f->m, 0x42, 9);
    ticks(f, 333);
    test_outb(f->m, 0x43, 0xc6);
    struct device *other = device_new(&i8254_type, f->pit->bus);
    struct test_line line;
    test_line_init(&line);
    i8254_set_irq(other, line.line);
    g_assert_true(device_realize(other, NULL));
    other->type->reset(other);
    test_state_transfer(f->pit, other);
    /* The copy goes on as the original. */
    unsigned rises = f->irq.rises, copied = line.rises;
    ticks(f, 5000);
    g_assert_cmpuint(f->irq.rises - rises, ==, 5);
    g_assert_cmpuint(line.rises - copied, ==, 5);
    for (unsigned i = 0; i < 3; i++)
        g_assert_cmpint(i8254_out(f->pit, i), ==, i8254_out(other, i));
    /* Hostile bytes: refused or harmless. */
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    state_save(bytes, f->pit->type->state, "x", f->pit);
    GRand *r = g_rand_new_with_seed(1);
    for (unsigned i = 0; i < 2000; i++) {
        g_autofree uint8_t *copy = g_memdup2(bytes->data, bytes->len);
        for (unsigned k = 0; k < 3; k++)
            copy[g_rand_int(r) % bytes->len] = g_rand_int(r);
        struct state_reader in = { .data = copy, .size = bytes->len };
        g_autoptr(GError) err = NULL;
        state_load(&in, f->pit->type->state, "x", other, &err);
        test_step(f->m, 100000);
        i8254_out(other, i % 3);
    }
    g_rand_free(r);
    bus_reset(f->m->system_bus);
}

static void test_random(struct fixture *f, gconstpointer data)
{
    test_poke_ports(f->m, f->pit, 8254, 3000, 0x40, 4);
}

#define ADD(name) g_test_add("/i8254/" #name, struct fixture, NULL, set_up, test_##name, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD(mode0);
    ADD(mode1);
    ADD(mode2);
    ADD(mode3);
    ADD(mode4);
    ADD(mode4_gate_between_bytes);
    ADD(mode5);
    ADD(bcd);
    ADD(latch);
    ADD(read_back);
    ADD(irq_rate);
    ADD(irq_late);
    ADD(irq_modes);
    ADD(reset);
    ADD(port61);
    ADD(state);
    ADD(random);
    return g_test_run();
}
