/* MC146818 clock: time and its formats, calendar, setting, update cycle, alarm, periodic interrupt, CMOS memory, ports.
 */
#include "hw/core/clock.h"
#include "hw/core/state.h"
#include "hw/timer/mc146818.h"
#include "tests/lib/device_test.h"

enum { SEC, SEC_ALARM, MIN, MIN_ALARM, HOUR, HOUR_ALARM, WDAY, DAY, MONTH, YEAR, A, B, C, D, CENTURY = 0x32 };

#define SECOND NS_PER_SECOND
#define SET 0x80
#define PIE 0x40
#define AIE 0x20
#define UIE 0x10
#define DM 0x04
#define H24 0x02

struct fixture {
    struct machine *m;
    struct device *rtc;
    struct test_line irq;
};

static void set_up(struct fixture *f, gconstpointer data)
{
    f->m = test_machine_new();
    f->rtc = test_add(&mc146818_type, test_add_isa(f->m), NULL);
    test_line_init(&f->irq);
    mc146818_set_irq(f->rtc, f->irq.line);
}

static void tear_down(struct fixture *f, gconstpointer data)
{
    test_state_roundtrip(f->rtc);
    test_machine_free(f->m);
}

static uint8_t rd(struct fixture *f, unsigned n)
{
    test_outb(f->m, 0x70, n);
    return test_inb(f->m, 0x71);
}

static void wr(struct fixture *f, unsigned n, uint8_t value)
{
    test_outb(f->m, 0x70, n);
    test_outb(f->m, 0x71, value);
}

/* "CCYY-MM-DD w hh:mm:ss" as the registers have it. */
static char *now(struct fixture *f)
{
    return g_strdup_printf("%02x%02x-%02x-%02x %x %02x:%02x:%02x", rd(f, CENTURY), rd(f, YEAR), rd(f, MONTH),
                           rd(f, DAY), rd(f, WDAY), rd(f, HOUR), rd(f, MIN), rd(f, SEC));
}

#define expect_now(f, text) \
    do { \
        g_autofree char *got = now(f); \
        g_assert_cmpstr(got, ==, text); \
    } while (0)

/* With SET, as systems do it. Numbers as they go to the registers. */
static void set_time(struct fixture *f, unsigned century, unsigned year, unsigned month, unsigned day, unsigned wday,
                     unsigned hour, unsigned min, unsigned sec)
{
    uint8_t b = rd(f, B);
    wr(f, B, b | SET);
    wr(f, CENTURY, century);
    wr(f, YEAR, year);
    wr(f, MONTH, month);
    wr(f, DAY, day);
    wr(f, WDAY, wday);
    wr(f, HOUR, hour);
    wr(f, MIN, min);
    wr(f, SEC, sec);
    wr(f, B, b);
}

/* --- Time ---------------------------------------------------------------------------------------- */

static void test_wall_time(struct fixture *f, gconstpointer data)
{
    expect_now(f, "1970-01-01 5 00:00:00");
    test_step(f->m, SECOND - 1);
    expect_now(f, "1970-01-01 5 00:00:00");
    test_step(f->m, 1);
    expect_now(f, "1970-01-01 5 00:00:01");
    clock_set_wall_offset(f->m->clock, 951782399 - 1); /* 2000-02-28 23:59:59 */
    expect_now(f, "2000-02-28 2 23:59:59");
    test_step(f->m, SECOND);
    expect_now(f, "2000-02-29 3 00:00:00");
    g_assert_cmphex(rd(f, D), ==, 0x80);
    g_assert_cmphex(rd(f, A), ==, 0x26);
    g_assert_cmphex(rd(f, B), ==, 0x02);
}

static void test_set(struct fixture *f, gconstpointer data)
{
    test_step(f->m, SECOND / 4);
    set_time(f, 0x19, 0x99, 0x12, 0x31, 6, 0x23, 0x59, 0x58);
    expect_now(f, "1999-12-31 6 23:59:58");
    test_step(f->m, 3 * SECOND / 4 - 1); /* the second goes on where it was */
    expect_now(f, "1999-12-31 6 23:59:58");
    test_step(f->m, 1);
    expect_now(f, "1999-12-31 6 23:59:59");
    test_step(f->m, SECOND);
    expect_now(f, "2000-01-01 7 00:00:00");
    /* While SET is on, time stands and the registers are memory. */
    wr(f, B, H24 | SET);
    wr(f, SEC, 0x77);
    test_step(f->m, 100 * SECOND);
    g_assert_cmphex(rd(f, SEC), ==, 0x77);
    g_assert_cmphex(rd(f, MIN), ==, 0x00);
    wr(f, SEC, 0x30);
    wr(f, B, H24);
    expect_now(f, "2000-01-01 7 00:00:30");
    /* Without SET a byte takes part at once. */
    wr(f, HOUR, 0x13);
    wr(f, DAY, 0x28);
    wr(f, MONTH, 0x02);
    expect_now(f, "2000-02-28 7 13:00:30"); /* the weekday counts on its own */
    wr(f, WDAY, 3);
    expect_now(f, "2000-02-28 3 13:00:30");
    test_step(f->m, 86400 * SECOND);
    expect_now(f, "2000-02-29 4 13:00:30");
    /* Reset does not touch the time. */
    bus_reset(f->m->system_bus);
    expect_now(f, "2000-02-29 4 13:00:30");
}

static void test_formats(struct fixture *f, gconstpointer data)
{
    static const struct {
        uint8_t b, hour, expect_h24_bcd;
    } hours[] = {
        { 0, 0x12, 0x00 },       { 0, 0x01, 0x01 },      { 0, 0x11, 0x11 },     { 0, 0x92, 0x12 },
        { 0, 0x91, 0x23 },       { DM, 12, 0x00 },       { DM, 11, 0x11 },      { DM, 0x80 | 12, 0x12 },
        { DM, 0x80 | 1, 0x13 },  { DM | H24, 23, 0x23 }, { DM | H24, 0, 0x00 }, { H24, 0x19, 0x19 },
        { DM, 0x80 | 11, 0x23 },
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(hours); i++) {
        bool dm = hours[i].b & DM;
        wr(f, B, hours[i].b);
        set_time(f, dm ? 20 : 0x20, dm ? 24 : 0x24, dm ? 12 : 0x12, dm ? 31 : 0x31, 3, hours[i].hour, dm ? 45 : 0x45,
                 dm ? 59 : 0x59);
        g_assert_cmphex(rd(f, HOUR), ==, hours[i].hour);
        g_assert_cmphex(rd(f, MIN), ==, dm ? 45 : 0x45);
        wr(f, B, H24);
        g_assert_cmphex(rd(f, HOUR), ==, hours[i].expect_h24_bcd);
        g_autofree char *expect = g_strdup_printf("2024-12-31 3 %02x:45:59", hours[i].expect_h24_bcd);
        expect_now(f, expect);
    }
}

static void test_calendar(struct fixture *f, gconstpointer data)
{
    static const struct {
        unsigned century, year, month, day;
        const char *next;
    } days[] = {
        { 0x20, 0x23, 0x02, 0x28, "2023-03-01" }, { 0x20, 0x24, 0x02, 0x28, "2024-02-29" },
        { 0x20, 0x24, 0x02, 0x29, "2024-03-01" }, { 0x19, 0x00, 0x02, 0x28, "1900-03-01" },
        { 0x20, 0x00, 0x02, 0x29, "2000-03-01" }, { 0x21, 0x00, 0x02, 0x28, "2100-03-01" },
        { 0x20, 0x24, 0x04, 0x30, "2024-05-01" }, { 0x20, 0x99, 0x12, 0x31, "2100-01-01" },
        { 0x19, 0x69, 0x12, 0x31, "1970-01-01" }, { 0x00, 0x99, 0x12, 0x31, "0100-01-01" },
        { 0x99, 0x99, 0x12, 0x31, "0000-01-01" }, { 0x20, 0x23, 0x02, 0x30, "2023-03-03" },
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(days); i++) {
        set_time(f, days[i].century, days[i].year, days[i].month, days[i].day, 1, 0x23, 0x59, 0x59);
        test_step(f->m, SECOND);
        g_autofree char *expect = g_strdup_printf("%s 2 00:00:00", days[i].next);
        expect_now(f, expect);
    }
    /* Two hundred years against GLib; virtual time has no more than 292. */
    set_time(f, 0x19, 0x01, 0x01, 0x01, 3, 0x12, 0, 0);
    wr(f, B, H24 | DM);
    g_autoptr(GDate) date = g_date_new_dmy(1, 1, 1901);
    for (unsigned i = 0; i < 73000 / 40; i++) {
        g_assert_cmpuint(rd(f, DAY), ==, g_date_get_day(date));
        g_assert_cmpuint(rd(f, MONTH), ==, g_date_get_month(date));
        g_assert_cmpuint(rd(f, YEAR) + 100 * rd(f, CENTURY), ==, g_date_get_year(date));
        g_assert_cmpuint(rd(f, WDAY), ==, g_date_get_weekday(date) % 7 + 1);
        g_date_add_days(date, 40);
        test_step(f->m, 40 * 86400 * SECOND);
    }
}

static void test_update_cycle(struct fixture *f, gconstpointer data)
{
    test_step(f->m, 10 * SECOND - 2228000 - 1);
    g_assert_cmphex(rd(f, A), ==, 0x26);
    test_step(f->m, 1);
    g_assert_cmphex(rd(f, A), ==, 0xa6);
    test_step(f->m, 2228000 - 1);
    g_assert_cmphex(rd(f, A), ==, 0xa6);
    g_assert_cmphex(rd(f, SEC), ==, 0x09);
    rd(f, C);
    g_assert_cmphex(rd(f, C), ==, 0);
    test_step(f->m, 1);
    g_assert_cmphex(rd(f, A), ==, 0x26);
    g_assert_cmphex(rd(f, SEC), ==, 0x10);
    g_assert_cmphex(rd(f, C) & 0x30, ==, 0x10); /* UF without its interrupt; no IRQF */
    g_assert_cmphex(rd(f, C), ==, 0);
    /* Not while SET is on. */
    wr(f, B, H24 | SET);
    test_step(f->m, SECOND - 1);
    g_assert_cmphex(rd(f, A), ==, 0x26);
    test_step(f->m, SECOND);
    g_assert_cmphex(rd(f, C) & 0x10, ==, 0);
    /* UIP cannot be written. */
    wr(f, A, 0xa6);
    g_assert_cmphex(rd(f, A), ==, 0x26);
}

static void test_divider_reset(struct fixture *f, gconstpointer data)
{
    test_step(f->m, 5 * SECOND + 123456789);
    wr(f, A, 0x76);
    test_step(f->m, 3 * SECOND);
    expect_now(f, "1970-01-01 5 00:00:05");
    g_assert_cmphex(rd(f, A), ==, 0x76);
    wr(f, SEC, 0x40);
    g_assert_cmphex(rd(f, SEC), ==, 0x40);
    /* Let go: the first update half a second later. */
    wr(f, A, 0x26);
    test_step(f->m, SECOND / 2 - 1);
    expect_now(f, "1970-01-01 5 00:00:40");
    test_step(f->m, 1);
    expect_now(f, "1970-01-01 5 00:00:41");
    /* The order that Linux has: SET, divider, time, divider, SET. */
    wr(f, B, H24 | SET);
    wr(f, A, 0x76);
    wr(f, SEC, 0x00);
    wr(f, B, H24);
    test_step(f->m, 7 * SECOND / 10);
    wr(f, A, 0x26);
    test_step(f->m, SECOND / 2 - 1);
    g_assert_cmphex(rd(f, SEC), ==, 0x00);
    test_step(f->m, 1);
    g_assert_cmphex(rd(f, SEC), ==, 0x01);
}

/* --- Interrupts ------------------------------------------------------------------------------------ */

static void test_update_interrupt(struct fixture *f, gconstpointer data)
{
    test_step(f->m, SECOND / 3);
    wr(f, B, H24 | UIE);
    rd(f, C);
    test_step(f->m, SECOND - SECOND / 3 - 1);
    g_assert_cmpint(f->irq.level, ==, 0);
    test_step(f->m, 1);
    g_assert_cmpint(f->irq.level, ==, 1);
    test_step(f->m, 5 * SECOND);
    g_assert_cmpuint(f->irq.rises, ==, 1); /* until C is read */
    g_assert_cmphex(rd(f, C) & 0xb0, ==, 0x90);
    g_assert_cmpint(f->irq.level, ==, 0);
    for (unsigned i = 0; i < 10; i++) {
        test_step(f->m, SECOND);
        rd(f, C);
    }
    g_assert_cmpuint(f->irq.rises, ==, 11);
    /* A flag that is set already interrupts when it is enabled. */
    wr(f, B, H24);
    test_step(f->m, SECOND);
    g_assert_cmpint(f->irq.level, ==, 0);
    wr(f, B, H24 | UIE);
    g_assert_cmpint(f->irq.level, ==, 1);
    wr(f, B, H24);
    g_assert_cmpint(f->irq.level, ==, 0);
    /* SET clears UIE. */
    wr(f, B, H24 | UIE | SET);
    g_assert_cmphex(rd(f, B), ==, H24 | SET);
    /* Reset disables. */
    wr(f, B, H24 | UIE);
    bus_reset(f->m->system_bus);
    g_assert_cmpint(f->irq.level, ==, 0);
    g_assert_cmphex(rd(f, B), ==, H24);
    g_assert_cmphex(rd(f, C) & 0xb0, ==, 0);
}

/* Steps until the alarm interrupts and returns how many seconds that took. */
static unsigned seconds_to_alarm(struct fixture *f, unsigned limit)
{
    unsigned rises = f->irq.rises;
    rd(f, C);
    for (unsigned n = 1; n <= limit; n++) {
        test_step(f->m, SECOND);
        if (f->irq.rises > rises) {
            g_assert_cmphex(rd(f, C) & 0xa0, ==, 0xa0);
            return n;
        }
    }
    return 0;
}

static void test_alarm(struct fixture *f, gconstpointer data)
{
    wr(f, B, H24 | AIE);
    wr(f, HOUR_ALARM, 0x01);
    wr(f, MIN_ALARM, 0x02);
    wr(f, SEC_ALARM, 0x03);
    g_assert_cmpuint(seconds_to_alarm(f, 4000), ==, 3723);
    g_assert_cmpuint(seconds_to_alarm(f, 90000), ==, 86400);
    wr(f, HOUR_ALARM, 0xff); /* every hour */
    g_assert_cmpuint(seconds_to_alarm(f, 4000), ==, 3600);
    wr(f, MIN_ALARM, 0xc0); /* every minute */
    g_assert_cmpuint(seconds_to_alarm(f, 4000), ==, 60);
    wr(f, SEC_ALARM, 0xd5); /* every second */
    g_assert_cmpuint(seconds_to_alarm(f, 4000), ==, 1);
    g_assert_cmpuint(seconds_to_alarm(f, 4000), ==, 1);
    wr(f, SEC_ALARM, 0x75); /* never */
    g_assert_cmpuint(seconds_to_alarm(f, 10000), ==, 0);
    /* 12 h, binary: eleven at night. */
    wr(f, B, DM | AIE);
    set_time(f, 20, 24, 5, 5, 1, 0x80 | 10, 59, 50);
    wr(f, HOUR_ALARM, 0x80 | 11);
    wr(f, MIN_ALARM, 0);
    wr(f, SEC_ALARM, 5);
    g_assert_cmpuint(seconds_to_alarm(f, 100), ==, 15);
    /* AF without AIE, found by polling, also when it passed long ago. */
    wr(f, B, H24);
    set_time(f, 0x20, 0x24, 0x05, 0x05, 1, 0x10, 0x00, 0x00);
    wr(f, HOUR_ALARM, 0x11);
    wr(f, MIN_ALARM, 0x00);
    wr(f, SEC_ALARM, 0x00);
    rd(f, C);
    test_step(f->m, 3599 * SECOND);
    g_assert_cmphex(rd(f, C) & 0x30, ==, 0x10);
    test_step(f->m, 86400 * SECOND);
    g_assert_cmphex(rd(f, C) & 0x30, ==, 0x30);
    g_assert_cmpint(f->irq.level, ==, 0);
}

static void test_periodic(struct fixture *f, gconstpointer data)
{
    static const unsigned hz[16] = { 0, 256, 128, 8192, 4096, 2048, 1024, 512, 256, 128, 64, 32, 16, 8, 4, 2 };
    for (unsigned rs = 0; rs < 16; rs++) {
        wr(f, B, H24);
        wr(f, A, 0x20 | rs);
        rd(f, C);
        unsigned rises = f->irq.rises;
        wr(f, B, H24 | PIE);
        for (unsigned i = 0; i < 10000; i++) { /* one second */
            test_step(f->m, SECOND / 10000);
            if (f->irq.level)
                g_assert_cmphex(rd(f, C) & 0xc0, ==, 0xc0);
        }
        if (hz[rs])
            g_assert_cmpint(ABS((int)(f->irq.rises - rises) - (int)hz[rs]), <=, 1);
        else
            g_assert_cmpuint(f->irq.rises, ==, rises);
    }
    /* A change of the rate is not a period. */
    wr(f, A, 0x23);
    rd(f, C);
    wr(f, A, 0x2f);
    g_assert_cmphex(rd(f, C) & 0x40, ==, 0);
    /* The flag comes without the enable too; the divider's reset stops it. */
    wr(f, B, H24);
    wr(f, A, 0x26);
    rd(f, C);
    test_step(f->m, SECOND / 1024 + 1);
    g_assert_cmphex(rd(f, C) & 0xc0, ==, 0x40);
    wr(f, A, 0x66);
    rd(f, C);
    test_step(f->m, SECOND);
    g_assert_cmphex(rd(f, C), ==, 0);
}

/* --- Memory and ports ------------------------------------------------------------------------------- */

static void test_memory(struct fixture *f, gconstpointer data)
{
    for (unsigned n = 14; n < 128; n++)
        if (n != CENTURY)
            wr(f, n, n ^ 0x5a);
    for (unsigned n = 0; n < 128; n++) {
        test_outb(f->m, 0x72, n | 0x80);
        test_outb(f->m, 0x73, ~n);
    }
    bus_reset(f->m->system_bus);
    for (unsigned n = 14; n < 128; n++)
        if (n != CENTURY)
            g_assert_cmphex(rd(f, n), ==, n ^ 0x5a);
    for (unsigned n = 0; n < 128; n++) {
        test_outb(f->m, 0x72, n);
        g_assert_cmphex(test_inb(f->m, 0x72), ==, n);
        g_assert_cmphex(test_inb(f->m, 0x73), ==, (uint8_t)~n);
    }
    mc146818_set_cmos(f->rtc, 0x34, 0x99);
    g_assert_cmphex(rd(f, 0x34), ==, 0x99);
    wr(f, 0x35, 0x98);
    g_assert_cmphex(mc146818_cmos(f->rtc, 0x35), ==, 0x98);
    /* Read-only registers, the write-only index, the NMI mask beside it. */
    wr(f, C, 0xff);
    wr(f, D, 0x00);
    g_assert_cmphex(rd(f, D), ==, 0x80);
    g_assert_cmphex(test_inb(f->m, 0x70), ==, 0xff);
    g_assert_false(mc146818_nmi_masked(f->rtc));
    g_assert_cmphex(rd(f, 0x80 | 0x34), ==, 0x99);
    g_assert_true(mc146818_nmi_masked(f->rtc));
    rd(f, 0x34);
    g_assert_false(mc146818_nmi_masked(f->rtc));
    /* Index and data in one word. */
    test_outw(f->m, 0x70, 0x4420);
    g_assert_cmphex(rd(f, 0x20), ==, 0x44);
}

static void test_state(struct fixture *f, gconstpointer data)
{
    set_time(f, 0x19, 0x84, 0x07, 0x07, 5, 0x07, 0x08, 0x09);
    wr(f, B, H24 | PIE | UIE);
    wr(f, 0x40, 0x12);
    test_step(f->m, SECOND / 2);
    struct device *other = test_add(&mc146818_type, f->rtc->bus, NULL);
    test_state_transfer(f->rtc, other);
    device_free(f->rtc);
    f->rtc = other;
    expect_now(f, "1984-07-07 5 07:08:09");
    g_assert_cmphex(rd(f, 0x40), ==, 0x12);
    g_assert_cmphex(rd(f, B), ==, H24 | PIE | UIE);
    g_assert_cmphex(rd(f, C), ==, 0xc0);
    /* Hostile bytes: refused or harmless. */
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    state_save(bytes, f->rtc->type->state, "x", f->rtc);
    GRand *r = g_rand_new_with_seed(1);
    for (unsigned i = 0; i < 2000; i++) {
        g_autofree uint8_t *copy = g_memdup2(bytes->data, bytes->len);
        for (unsigned k = 0; k < 3; k++)
            copy[g_rand_int(r) % bytes->len] = g_rand_int(r);
        struct state_reader in = { .data = copy, .size = bytes->len };
        g_autoptr(GError) err = NULL;
        if (!state_load(&in, f->rtc->type->state, "x", f->rtc, &err))
            continue;
        test_step(f->m, SECOND / 100);
        g_free(now(f));
        rd(f, C);
    }
    g_rand_free(r);
    g_autoptr(GError) err = NULL;
    struct state_reader in = { .data = bytes->data, .size = bytes->len };
    g_assert_true(state_load(&in, f->rtc->type->state, "x", f->rtc, &err));
}

static void test_random(struct fixture *f, gconstpointer data)
{
    test_poke_ports(f->m, f->rtc, 146818, 5000, 0x70, 4);
}

#define ADD(name) g_test_add("/mc146818/" #name, struct fixture, NULL, set_up, test_##name, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD(wall_time);
    ADD(set);
    ADD(formats);
    ADD(calendar);
    ADD(update_cycle);
    ADD(divider_reset);
    ADD(update_interrupt);
    ADD(alarm);
    ADD(periodic);
    ADD(memory);
    ADD(state);
    ADD(random);
    return g_test_run();
}
