/* HPET: capabilities, counter, one-shot and periodic timers, 32-bit mode, levels and edges, routes, legacy replacement.
 */
#include "hw/core/clock.h"
#include "hw/core/state.h"
#include "hw/timer/hpet.h"
#include "tests/lib/device_test.h"

#define CONF 0x10
#define STATUS 0x20
#define COUNTER 0xf0
#define TN(n, reg) (0x100 + 0x20 * (n) + (reg))
#define LEVEL 0x02
#define ENB 0x04
#define PERIODIC 0x08
#define VAL_SET 0x40
#define MODE32 0x100
#define ROUTE(gsi) ((gsi) << 9)

struct fixture {
    struct machine *m;
    struct device *hpet;
    struct test_line out[HPET_OUTPUTS];
    struct irq_line pit, rtc;
};

static void set_up(struct fixture *f, gconstpointer data)
{
    f->m = test_machine_new();
    f->hpet = test_add(&hpet_type, f->m->system_bus, NULL);
    for (int i = 0; i < HPET_OUTPUTS; i++) {
        test_line_init(&f->out[i]);
        hpet_set_output(f->hpet, i, f->out[i].line);
    }
    f->pit = hpet_legacy_input(f->hpet, 0);
    f->rtc = hpet_legacy_input(f->hpet, 1);
    bus_reset(f->m->system_bus);
}

static void tear_down(struct fixture *f, gconstpointer data)
{
    test_state_roundtrip(f->hpet);
    test_machine_free(f->m);
}

static uint64_t rd(struct fixture *f, unsigned reg)
{
    return test_read(f->m, HPET_BASE + reg, 8);
}

static void wr(struct fixture *f, unsigned reg, uint64_t value)
{
    test_write(f->m, HPET_BASE + reg, value, 8);
}

static void counts(struct fixture *f, uint64_t n)
{
    test_step(f->m, n * 10);
}

static void test_registers(struct fixture *f, gconstpointer data)
{
    g_assert_cmphex(rd(f, 0), ==,
                    UINT64_C(0x009896808086a201)); /* 10 ns, Intel, legacy, 64 bits, 3 timers, revision 1 */
    g_assert_cmphex(test_read(f->m, HPET_BASE + 4, 4), ==, 0x989680);
    wr(f, 0, 0);
    g_assert_cmphex(rd(f, 0) & 0xff, ==, 1);
    wr(f, CONF, ~UINT64_C(0));
    g_assert_cmphex(rd(f, CONF), ==, 3);
    wr(f, CONF, 0);
    for (unsigned n = 0; n < 3; n++) {
        g_assert_cmphex(rd(f, TN(n, 0)) >> 32, ==, 0xff0104);
        g_assert_cmphex(rd(f, TN(n, 0)) & 0x30, ==, 0x30); /* periodic, 64 bits */
        g_assert_cmphex(rd(f, TN(n, 8)), ==, ~UINT64_C(0));
        wr(f, TN(n, 0), ~UINT64_C(0));
        g_assert_cmphex(rd(f, TN(n, 0)), ==, UINT64_C(0x00ff010400003f7e)); /* no FSB */
        wr(f, TN(n, 0), 0);
        wr(f, TN(n, 8), UINT64_C(0x123456789abcdef0) + n);
        g_assert_cmphex(rd(f, TN(n, 8)), ==, UINT64_C(0x123456789abcdef0) + n);
        g_assert_cmphex(rd(f, TN(n, 0x10)), ==, 0);
    }
    g_assert_cmphex(rd(f, TN(3, 0)), ==, 0);
    wr(f, TN(3, 0), ENB);
    g_assert_cmphex(rd(f, TN(3, 0)), ==, 0);
    /* Halves. */
    test_write(f->m, HPET_BASE + TN(1, 8), 0x11, 4);
    test_write(f->m, HPET_BASE + TN(1, 12), 0x22, 4);
    g_assert_cmphex(rd(f, TN(1, 8)), ==, UINT64_C(0x2200000011));
    g_assert_cmphex(test_read(f->m, HPET_BASE + TN(1, 12), 4), ==, 0x22);
    g_assert_cmphex(test_read(f->m, HPET_BASE + TN(1, 8), 2), ==, 0xffff); /* too small an access */
}

static void test_counter(struct fixture *f, gconstpointer data)
{
    counts(f, 100);
    g_assert_cmpuint(rd(f, COUNTER), ==, 0); /* stands until enabled */
    wr(f, CONF, 1);
    counts(f, 1234);
    g_assert_cmpuint(rd(f, COUNTER), ==, 1234);
    wr(f, COUNTER, 5); /* not while it runs */
    g_assert_cmpuint(rd(f, COUNTER), ==, 1234);
    wr(f, CONF, 0);
    counts(f, 50);
    g_assert_cmpuint(rd(f, COUNTER), ==, 1234);
    wr(f, COUNTER, UINT64_C(0xfffffffffffffff0));
    test_write(f->m, HPET_BASE + COUNTER + 4, 0x7fffffff, 4);
    wr(f, CONF, 1);
    counts(f, 0x20);
    g_assert_cmphex(rd(f, COUNTER), ==, UINT64_C(0x8000000000000010));
    g_assert_cmphex(test_read(f->m, HPET_BASE + COUNTER + 4, 4), ==, 0x80000000);
}

static void test_one_shot(struct fixture *f, gconstpointer data)
{
    wr(f, TN(2, 0), ENB | ROUTE(20));
    wr(f, TN(2, 8), 1000);
    wr(f, CONF, 1);
    counts(f, 999);
    g_assert_cmpuint(f->out[20].rises, ==, 0);
    counts(f, 1);
    g_assert_cmpuint(f->out[20].rises, ==, 1);
    g_assert_cmphex(rd(f, STATUS), ==, 0); /* edges have no status */
    counts(f, 100000);
    g_assert_cmpuint(f->out[20].rises, ==, 1);
    g_assert_cmpuint(rd(f, TN(2, 8)), ==, 1000);
    /* A second one is an edge of its own. */
    wr(f, TN(2, 8), rd(f, COUNTER) + 10);
    counts(f, 10);
    g_assert_cmpuint(f->out[20].rises, ==, 2);
    /* In the past: not in this life. */
    wr(f, TN(2, 8), rd(f, COUNTER) - 1);
    counts(f, 1000000);
    g_assert_cmpuint(f->out[20].rises, ==, 2);
    /* Disabled while it waits; not enabled. */
    wr(f, TN(2, 8), rd(f, COUNTER) + 10);
    wr(f, CONF, 0);
    counts(f, 100);
    wr(f, CONF, 1);
    g_assert_cmpuint(f->out[20].rises, ==, 2);
    counts(f, 9);
    g_assert_cmpuint(f->out[20].rises, ==, 2);
    counts(f, 1);
    g_assert_cmpuint(f->out[20].rises, ==, 3);
    wr(f, TN(2, 0), ROUTE(20));
    wr(f, TN(2, 8), rd(f, COUNTER) + 10);
    counts(f, 10);
    g_assert_cmpuint(f->out[20].rises, ==, 3);
    g_assert_cmpint(f->out[20].level, ==, 0);
    /* Not routable there. */
    wr(f, TN(2, 0), ENB | ROUTE(3));
    wr(f, TN(2, 8), rd(f, COUNTER) + 10);
    counts(f, 10);
    g_assert_cmpuint(f->out[3].rises, ==, 0);
}

static void test_32bit(struct fixture *f, gconstpointer data)
{
    wr(f, COUNTER, UINT64_C(0x5fffff000));
    wr(f, TN(0, 0), ENB | MODE32 | ROUTE(16));
    wr(f, TN(0, 8), UINT64_C(0xabcd00000800));
    g_assert_cmphex(rd(f, TN(0, 8)), ==, 0x800); /* the upper half does not exist */
    wr(f, CONF, 1);
    counts(f, 0xfff);
    g_assert_cmpuint(f->out[16].rises, ==, 0);
    counts(f, 1); /* one-shot: at the wrap of the lower half too */
    g_assert_cmpuint(f->out[16].rises, ==, 1);
    counts(f, 0x800);
    g_assert_cmpuint(f->out[16].rises, ==, 2);
    /* And the next time round. */
    counts(f, UINT64_C(0x100000000) - 0x801);
    g_assert_cmpuint(f->out[16].rises, ==, 2);
    counts(f, 1);
    g_assert_cmpuint(f->out[16].rises, ==, 3);
    counts(f, 0x800);
    g_assert_cmpuint(f->out[16].rises, ==, 4);
}

static void test_periodic(struct fixture *f, gconstpointer data)
{
    /* As systems do it: first write with VAL_SET is the first match, the second the period. */
    wr(f, CONF, 1);
    counts(f, 777);
    wr(f, TN(1, 0), ENB | PERIODIC | VAL_SET | ROUTE(17));
    wr(f, TN(1, 8), 2777);
    g_assert_cmphex(rd(f, TN(1, 0)) & VAL_SET, ==, 0); /* clears itself */
    wr(f, TN(1, 8), 5000);
    g_assert_cmpuint(rd(f, TN(1, 8)), ==, 2777);
    counts(f, 1999);
    g_assert_cmpuint(f->out[17].rises, ==, 0);
    counts(f, 1);
    g_assert_cmpuint(f->out[17].rises, ==, 1);
    g_assert_cmpuint(rd(f, TN(1, 8)), ==, 7777);
    counts(f, 4999);
    g_assert_cmpuint(f->out[17].rises, ==, 1);
    counts(f, 1);
    g_assert_cmpuint(f->out[17].rises, ==, 2);
    counts(f, 5000000);
    g_assert_cmpuint(f->out[17].rises, ==, 1002);
    /* A new period takes part from the next match on. */
    wr(f, TN(1, 8), 2000);
    counts(f, 5000);
    g_assert_cmpuint(f->out[17].rises, ==, 1003);
    counts(f, 4000);
    g_assert_cmpuint(f->out[17].rises, ==, 1005);
    /* Back to one-shot: one more at the comparator. */
    wr(f, TN(1, 0), ENB | ROUTE(17));
    counts(f, 100000);
    g_assert_cmpuint(f->out[17].rises, ==, 1006);
}

static void test_periodic_32bit(struct fixture *f, gconstpointer data)
{
    wr(f, COUNTER, UINT64_C(0x1fffffff0));
    wr(f, TN(1, 0), ENB | PERIODIC | MODE32 | VAL_SET | ROUTE(17));
    wr(f, TN(1, 8), 0xfffffff8);
    wr(f, TN(1, 8), 2000);
    wr(f, CONF, 1);
    counts(f, 8);
    g_assert_cmpuint(f->out[17].rises, ==, 1);
    g_assert_cmpuint(rd(f, TN(1, 8)), ==, 1992); /* wraps with the counter */
    counts(f, 8);
    g_assert_cmpuint(f->out[17].rises, ==, 1);
    counts(f, 1992);
    g_assert_cmpuint(f->out[17].rises, ==, 2);
}

static void test_fast_periodic(struct fixture *f, gconstpointer data)
{
    /* 10 ns: must not hang, must not lose its place. */
    wr(f, TN(0, 0), ENB | PERIODIC | VAL_SET | ROUTE(16));
    wr(f, TN(0, 8), 1);
    wr(f, CONF, 1);
    counts(f, 100000000);
    g_assert_cmpuint(f->out[16].rises, >, 90000);
    g_assert_cmpuint(f->out[16].rises, <, 110000);
    wr(f, TN(0, 0), ENB | PERIODIC | VAL_SET | ROUTE(16));
    wr(f, TN(0, 8), 0); /* no period at all */
    counts(f, 100000000);
}

/* A main loop that was away: see clock_oldest_due(). */
static void test_late_periodic(struct fixture *f, gconstpointer data)
{
    wr(f, TN(0, 0), ENB | PERIODIC | VAL_SET | ROUTE(16));
    wr(f, TN(0, 8), 100000); /* a millisecond */
    wr(f, CONF, 1);
    for (unsigned away = 10; away <= 1000; away += 990) {
        unsigned rises = f->out[16].rises;
        clock_set(f->m->clock, clock_now(f->m->clock) + away * 1000000);
        for (unsigned i = 0; i < 500; i++)
            test_step(f->m, 1);
        g_assert_cmpuint(f->out[16].rises - rises, >=, MIN(away, 50));
        g_assert_cmpuint(f->out[16].rises - rises, <=, MIN(away, 50) + 2);
        g_assert_cmpuint(rd(f, TN(0, 8)) % 100000, ==, 0); /* in step */
    }
}

static void test_level(struct fixture *f, gconstpointer data)
{
    wr(f, TN(0, 0), ENB | LEVEL | PERIODIC | VAL_SET | ROUTE(18));
    wr(f, TN(0, 8), 2000);
    wr(f, CONF, 1);
    counts(f, 2000);
    g_assert_cmpint(f->out[18].level, ==, 1);
    g_assert_cmphex(rd(f, STATUS), ==, 1);
    counts(f, 4000);
    g_assert_cmpuint(f->out[18].rises, ==, 1); /* stays up */
    wr(f, STATUS, 6);
    g_assert_cmpint(f->out[18].level, ==, 1);
    wr(f, STATUS, 1);
    g_assert_cmpint(f->out[18].level, ==, 0);
    g_assert_cmphex(rd(f, STATUS), ==, 0);
    counts(f, 2000);
    g_assert_cmpint(f->out[18].level, ==, 1);
    /* Not enabled: the status alone; enabled then: the line. */
    wr(f, TN(0, 0), LEVEL | PERIODIC | ROUTE(18));
    g_assert_cmpint(f->out[18].level, ==, 0);
    g_assert_cmphex(rd(f, STATUS), ==, 1);
    wr(f, TN(0, 0), ENB | LEVEL | PERIODIC | ROUTE(19));
    g_assert_cmpint(f->out[18].level, ==, 0);
    g_assert_cmpint(f->out[19].level, ==, 1);
    /* Two timers on one wire. */
    wr(f, TN(1, 0), ENB | LEVEL | ROUTE(19));
    wr(f, TN(1, 8), rd(f, COUNTER) + 5);
    counts(f, 5);
    wr(f, STATUS, 1);
    g_assert_cmpint(f->out[19].level, ==, 1);
    /* The main switch takes all wires down. */
    wr(f, CONF, 0);
    g_assert_cmpint(f->out[19].level, ==, 0);
    wr(f, CONF, 1);
    g_assert_cmpint(f->out[19].level, ==, 1);
    wr(f, STATUS, 2);
    g_assert_cmpint(f->out[19].level, ==, 0);
}

static void test_legacy(struct fixture *f, gconstpointer data)
{
    /* Off: the PIT and the clock pass. */
    irq_raise(&f->pit);
    irq_raise(&f->rtc);
    g_assert_cmpint(f->out[0].level, ==, 1);
    g_assert_cmpint(f->out[8].level, ==, 1);
    irq_lower(&f->pit);
    g_assert_cmpint(f->out[0].level, ==, 0);
    /* On: timers 0 and 1 have their wires whatever their route says, the third its own. */
    for (unsigned n = 0; n < 3; n++) {
        wr(f, TN(n, 0), ENB | ROUTE(20));
        wr(f, TN(n, 8), 100 * (n + 1));
    }
    wr(f, CONF, 3);
    g_assert_cmpint(f->out[8].level, ==, 0);
    irq_raise(&f->pit);
    g_assert_cmpint(f->out[0].level, ==, 0);
    unsigned rtc_rises = f->out[8].rises, pit_rises = f->out[0].rises;
    counts(f, 100);
    g_assert_cmpuint(f->out[0].rises, ==, pit_rises + 1);
    counts(f, 100);
    g_assert_cmpuint(f->out[8].rises, ==, rtc_rises + 1);
    g_assert_cmpuint(f->out[20].rises, ==, 0);
    counts(f, 100);
    g_assert_cmpuint(f->out[20].rises, ==, 1);
    /* Off again: what the PIT and the clock hold shows; an old edge of a timer does not move to its route. */
    wr(f, CONF, 1);
    g_assert_cmpint(f->out[0].level, ==, 1);
    g_assert_cmpint(f->out[8].level, ==, 1);
    g_assert_cmpint(f->out[20].level, ==, 0);
    irq_lower(&f->rtc);
    g_assert_cmpint(f->out[8].level, ==, 0);
}

static void test_reset(struct fixture *f, gconstpointer data)
{
    wr(f, TN(0, 0), ENB | LEVEL | PERIODIC | VAL_SET | ROUTE(18));
    wr(f, TN(0, 8), 2000);
    wr(f, CONF, 1);
    counts(f, 3000);
    bus_reset(f->m->system_bus);
    g_assert_cmpint(f->out[18].level, ==, 0);
    g_assert_cmpuint(rd(f, COUNTER), ==, 0);
    g_assert_cmphex(rd(f, STATUS), ==, 0);
    unsigned rises = f->out[18].rises;
    counts(f, 3000);
    g_assert_cmpuint(f->out[18].rises, ==, rises);
}

static void test_properties(struct fixture *f, gconstpointer data)
{
    g_autoptr(GError) err = NULL;
    struct device *d = device_new(&hpet_type, f->m->system_bus);
    g_assert_true(device_set_prop(d, "timers", "25", &err));
    g_assert_false(device_realize(d, &err));
    g_assert_nonnull(err);
    device_free(d);
    d = test_add(&hpet_type, f->m->system_bus, "timers=24", "hpet-intcap=4", NULL);
    g_assert_cmphex(rd(f, 0) >> 8 & 31, ==, 23);
    g_assert_cmphex(rd(f, TN(23, 0)), ==, UINT64_C(0x0000000400000430));
    test_poke_memory(f->m, d, 1, 500, HPET_BASE, HPET_SIZE);
    device_free(d);
}

static void test_state(struct fixture *f, gconstpointer data)
{
    wr(f, TN(0, 0), ENB | LEVEL | PERIODIC | VAL_SET | ROUTE(18));
    wr(f, TN(0, 8), 2000);
    wr(f, TN(1, 0), ENB | MODE32 | ROUTE(17));
    wr(f, TN(1, 8), 70000);
    irq_raise(&f->rtc);
    wr(f, CONF, 3);
    counts(f, 66666);
    struct device *other = test_add(&hpet_type, f->m->system_bus, NULL);
    test_state_transfer(f->hpet, other);
    device_free(other);
}

static void test_random(struct fixture *f, gconstpointer data)
{
    test_poke_memory(f->m, f->hpet, 100, 2000, HPET_BASE, 0x180);
}

#define ADD(name) g_test_add("/hpet/" #name, struct fixture, NULL, set_up, test_##name, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD(registers);
    ADD(counter);
    ADD(one_shot);
    ADD(32bit);
    ADD(periodic);
    ADD(periodic_32bit);
    ADD(fast_periodic);
    ADD(late_periodic);
    ADD(level);
    ADD(legacy);
    ADD(reset);
    ADD(properties);
    ADD(state);
    ADD(random);
    return g_test_run();
}
