/* Local APIC: timer in its three modes, x2APIC, paravirtual EOI. */
#include "tests/lib/apic_test.h"

#include "hw/core/clock.h"

/* --- Timer ------------------------------------------------------------------------------------ */

static void test_timer_one_shot(struct apic_fixture *f, gconstpointer data)
{
    static const unsigned dividers[8][2] = { { 0xb, 1 }, { 0, 2 },  { 1, 4 },  { 2, 8 },
                                             { 3, 16 },  { 8, 32 }, { 9, 64 }, { 0xa, 128 } };
    apic_enable(f);
    apic_wr(f, 0, LVT_TIMER, 0x31);
    for (unsigned i = 0; i < 8; i++) {
        unsigned by = dividers[i][1];
        apic_wr(f, 0, TDCR, dividers[i][0]);
        apic_counts(f, 1); /* to the beginning of a tick */
        apic_wr(f, 0, TMICT, 1000);
        g_assert_cmpuint(apic_rd(f, 0, TMCCT), ==, 1000);
        apic_counts(f, 400 * by);
        g_assert_cmpuint(apic_rd(f, 0, TMCCT), ==, 600);
        apic_counts(f, 600 * by - 1);
        g_assert_cmpuint(apic_rd(f, 0, TMCCT), ==, 1);
        g_assert_cmpint(apic_take(f, 0), ==, -1);
        apic_counts(f, 1);
        g_assert_cmpint(apic_take(f, 0), ==, 0x31);
        apic_wr(f, 0, EOI, 0);
        g_assert_cmpuint(apic_rd(f, 0, TMCCT), ==, 0);
        g_assert_cmpuint(apic_rd(f, 0, TMICT), ==, 1000);
        apic_counts(f, 100000 * by);
        g_assert_cmpint(apic_take(f, 0), ==, -1);
    }
    /* Masked it counts and tells nobody; 0 stops it; a new divider goes on from where it is. */
    apic_wr(f, 0, TDCR, 0xb);
    apic_wr(f, 0, LVT_TIMER, 0x31 | MASKED);
    apic_wr(f, 0, TMICT, 1000);
    apic_counts(f, 1001);
    g_assert_cmpint(apic_take(f, 0), ==, -1);
    apic_wr(f, 0, LVT_TIMER, 0x31);
    g_assert_cmpint(apic_take(f, 0), ==, -1);
    apic_wr(f, 0, TMICT, 1000);
    apic_counts(f, 500);
    apic_wr(f, 0, TMICT, 0);
    g_assert_cmpuint(apic_rd(f, 0, TMCCT), ==, 0);
    apic_counts(f, 1000);
    g_assert_cmpint(apic_take(f, 0), ==, -1);
    apic_wr(f, 0, TMICT, 1000);
    apic_counts(f, 400);
    apic_wr(f, 0, TDCR, 0); /* by 2 */
    g_assert_cmpuint(apic_rd(f, 0, TMCCT), ==, 600);
    apic_counts(f, 1199);
    g_assert_cmpint(apic_take(f, 0), ==, -1);
    apic_counts(f, 1);
    g_assert_cmpint(apic_take(f, 0), ==, 0x31);
    apic_wr(f, 0, TMCCT, 5); /* read-only */
    g_assert_cmpuint(apic_rd(f, 0, TMCCT), ==, 0);
}

static void test_timer_periodic(struct apic_fixture *f, gconstpointer data)
{
    int64_t n = f->hz / 1000; /* a millisecond */
    unsigned got = 0;
    apic_enable(f);
    apic_wr(f, 3, TDCR, 0xb);
    apic_wr(f, 3, LVT_TIMER, 0x20032);
    apic_wr(f, 3, TMICT, n);
    for (unsigned i = 0; i < 10000; i++) {
        apic_counts(f, n / 10);
        if (apic_take(f, 3) == 0x32) {
            apic_wr(f, 3, EOI, 0);
            got++;
            g_assert_cmpuint(apic_rd(f, 3, TMCCT), >, n * 8 / 10);
        }
    }
    g_assert_cmpint(ABS((int)got - 1000), <=, 1);
    g_assert_cmpuint(f->kicks[3], ==, got);
    /* To one-shot: one more. */
    apic_wr(f, 3, LVT_TIMER, 0x32);
    apic_counts(f, 5 * n);
    g_assert_cmpint(apic_take(f, 3), ==, 0x32);
    apic_wr(f, 3, EOI, 0);
    apic_counts(f, 5 * n);
    g_assert_cmpint(apic_take(f, 3), ==, -1);
    /* The shortest period there is must not hang. */
    apic_wr(f, 3, LVT_TIMER, 0x20032);
    apic_wr(f, 3, TMICT, 1);
    apic_counts(f, f->hz);
    g_assert_cmpint(apic_take(f, 3), ==, 0x32);
    g_assert_cmpuint(apic_rd(f, 3, TMCCT), ==, 1);
}

/* A main loop that was away: what it missed it makes up for one by one, but not for more than 50 ms. */
static void test_timer_late(struct apic_fixture *f, gconstpointer data)
{
    apic_enable(f);
    apic_wr(f, 0, TDCR, 0xb);
    apic_wr(f, 0, LVT_TIMER, 0x20032);
    apic_wr(f, 0, TMICT, f->hz / 1000);
    for (unsigned away = 10; away <= 1000; away += 990) {
        unsigned got = 0;
        clock_set(f->m->clock, clock_now(f->m->clock) + away * 1000000);
        for (unsigned i = 0; i < 500; i++) {
            test_step(f->m, 1);
            if (apic_take(f, 0) == 0x32)
                got++;
            apic_wr(f, 0, EOI, 0);
        }
        g_assert_cmpuint(got + 1, >=, MIN(away, 50)); /* the first step fires twice */
        g_assert_cmpuint(got, <=, MIN(away, 50) + 2);
    }
}

static void test_timer_deadline(struct apic_fixture *f, gconstpointer data)
{
    struct cpu *c = f->m->cpus[1];
    uint64_t value, hz = cpu_tsc_hz(c);
    apic_enable(f);
    g_assert_true(apic_wrmsr(f, 1, DEADLINE_MSR, cpu_read_tsc(c) + 1000)); /* not in this mode: ignored */
    g_assert_true(apic_rdmsr(f, 1, DEADLINE_MSR, &value));
    g_assert_cmphex(value, ==, 0);
    apic_wr(f, 1, TMICT, 1000);
    apic_wr(f, 1, LVT_TIMER, 0x40033); /* another mode: nothing is left of the count */
    g_assert_cmpuint(apic_rd(f, 1, TMICT), ==, 0);
    apic_wr(f, 1, TMICT, 1000); /* ignored in this mode */
    g_assert_cmpuint(apic_rd(f, 1, TMICT), ==, 0);
    uint64_t deadline = cpu_read_tsc(c) + hz / 100;
    g_assert_true(apic_wrmsr(f, 1, DEADLINE_MSR, deadline));
    g_assert_true(apic_rdmsr(f, 1, DEADLINE_MSR, &value));
    g_assert_cmphex(value, ==, deadline);
    g_assert_cmpuint(apic_rd(f, 1, TMCCT), ==, 0);
    test_step(f->m, 9999000);
    g_assert_cmpint(apic_take(f, 1), ==, -1);
    test_step(f->m, 1001);
    g_assert_cmpint(apic_take(f, 1), ==, 0x33);
    apic_wr(f, 1, EOI, 0);
    g_assert_cmpuint(cpu_read_tsc(c), >=, deadline);
    g_assert_true(apic_rdmsr(f, 1, DEADLINE_MSR, &value));
    g_assert_cmphex(value, ==, 0); /* done */
    /* In the past: at once. Another in place of the first. None. Far away. */
    g_assert_true(apic_wrmsr(f, 1, DEADLINE_MSR, 1));
    g_assert_cmpint(apic_take(f, 1), ==, 0x33);
    apic_wr(f, 1, EOI, 0);
    g_assert_true(apic_wrmsr(f, 1, DEADLINE_MSR, cpu_read_tsc(c) + hz / 1000));
    g_assert_true(apic_wrmsr(f, 1, DEADLINE_MSR, cpu_read_tsc(c) + hz / 100));
    test_step(f->m, 2000000);
    g_assert_cmpint(apic_take(f, 1), ==, -1);
    g_assert_true(apic_wrmsr(f, 1, DEADLINE_MSR, 0));
    test_step(f->m, 20000000);
    g_assert_cmpint(apic_take(f, 1), ==, -1);
    g_assert_true(apic_wrmsr(f, 1, DEADLINE_MSR, UINT64_MAX));
    test_step(f->m, 20000000);
    g_assert_cmpint(apic_take(f, 1), ==, -1);
    /* Another mode disarms, both ways. */
    g_assert_true(apic_wrmsr(f, 1, DEADLINE_MSR, cpu_read_tsc(c) + hz / 1000));
    apic_wr(f, 1, LVT_TIMER, 0x33);
    test_step(f->m, 20000000);
    g_assert_cmpint(apic_take(f, 1), ==, -1);
    apic_wr(f, 1, TMICT, 1000);
    apic_wr(f, 1, LVT_TIMER, 0x40033);
    test_step(f->m, 20000000);
    g_assert_cmpint(apic_take(f, 1), ==, -1);
}

/* --- x2APIC ----------------------------------------------------------------------------------- */

static void test_x2apic_registers(struct apic_fixture *f, gconstpointer data)
{
    uint64_t value;
    g_assert_false(apic_rdmsr(f, 3, 0x802, &value)); /* not in xAPIC mode */
    g_assert_false(apic_wrmsr(f, 3, 0x808, 0));
    apic_wr(f, 3, TPR, 0x25);
    apic_ipi(f, 3, 0x17, 0xc8500);
    apic_enable_x2apic(f);
    g_assert_cmphex(apic_rdx(f, 3, ICR), ==, 0xc8500); /* the destination means something else now */
    g_assert_cmphex(apic_rdx(f, 3, ID), ==, 3);
    g_assert_cmphex(apic_rdx(f, 3, LDR), ==, 8);
    g_assert_cmphex(apic_rdx(f, 3, 0x30), ==, 0x01050014);
    g_assert_cmphex(apic_rdx(f, 3, TPR), ==, 0x25);     /* kept */
    g_assert_cmphex(apic_rd(f, 3, ID), ==, 0xffffffff); /* the page is gone */
    apic_wr(f, 3, TPR, 0x99);
    g_assert_cmphex(apic_rdx(f, 3, TPR), ==, 0x25);
    /* What can be read, and what can be written with 0, of all 256. */
    for (unsigned n = 0; n < 0x100; n++) {
        bool readable = n == 2 || n == 3 || n == 8 || n == 0xa || n == 0xd || n == 0xf || (n >= 0x10 && n <= 0x28) ||
                        n == 0x30 || (n >= 0x32 && n <= 0x39) || n == 0x3e;
        bool writable = n == 8 || n == 0xb || n == 0xf || n == 0x28 || (n >= 0x32 && n <= 0x38) || n == 0x3e;
        g_assert_cmpint(apic_rdmsr(f, 2, 0x800 + n, &value), ==, readable);
        if (n != 0x30 && n != 0x3f)
            g_assert_cmpint(apic_wrmsr(f, 2, 0x800 + n, 0), ==, writable);
    }
    g_assert_false(apic_rdmsr(f, 2, 0x7ff, &value));
    g_assert_false(apic_rdmsr(f, 2, 0x900, &value));
    /* Reserved bits fault. */
    static const struct {
        unsigned reg;
        uint64_t good;
    } bits[] = {
        { TPR, 0xff },
        { EOI, 0 },
        { SVR, 0x13ff },
        { ESR, 0 },
        { ICR, UINT64_C(0xffffffff000cdfff) },
        { LVT_TIMER, 0x750ff },
        { LVT_PERF, 0x157ff },
        { LVT_LINT0, 0x1f7ff },
        { LVT_ERROR, 0x150ff },
        { TMICT, 0xffffffff },
        { TDCR, 0xb },
        { 0x3f0, 0xff },
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(bits); i++)
        for (unsigned b = 0; b < 64; b++)
            if (bits[i].reg != ICR || b > 11) /* not all delivery modes today */
                g_assert_cmpint(apic_wrmsr(f, 1, 0x800 + bits[i].reg / 16, UINT64_C(1) << b), ==,
                                bits[i].good >> b & 1);
}

static void test_x2apic_ipi(struct apic_fixture *f, gconstpointer data)
{
    apic_enable_x2apic(f);
    apic_wrx(f, 0, ICR, UINT64_C(2) << 32 | 0x51);
    g_assert_cmphex(apic_takers(f, 0x51), ==, 0x4);
    g_assert_cmphex(apic_rdx(f, 0, ICR), ==, UINT64_C(2) << 32 | 0x51);
    apic_wrx(f, 0, ICR, UINT64_C(0xffffffff) << 32 | 0x51);
    g_assert_cmphex(apic_takers(f, 0x51), ==, 0xf);
    apic_wrx(f, 0, ICR, UINT64_C(0xff) << 32 | 0x51); /* an id like any other here */
    g_assert_cmphex(apic_takers(f, 0x51), ==, 0);
    apic_wrx(f, 0, ICR, UINT64_C(0x0000000a) << 32 | 0x852); /* cluster 0, 1 and 3 */
    g_assert_cmphex(apic_takers(f, 0x52), ==, 0xa);
    apic_wrx(f, 0, ICR, UINT64_C(0x0001000a) << 32 | 0x852);
    g_assert_cmphex(apic_takers(f, 0x52), ==, 0);
    apic_wrx(f, 0, ICR, 0xc0053);
    g_assert_cmphex(apic_takers(f, 0x53), ==, 0xe);
    apic_wrx(f, 3, 0x3f0, 0x54); /* self IPI */
    g_assert_cmphex(apic_takers(f, 0x54), ==, 0x8);
    apic_wrx(f, 0, ICR, UINT64_C(1) << 32 | 0x4610);
    g_assert_cmphex(apic_take_events(f, 1), ==, CPU_EVENT_SIPI);
    /* Messages with 8-bit destinations still arrive: physical, all, logical in cluster 0. */
    g_assert_true(msi_deliver(f->m, 0xfee03000, 0x55));
    g_assert_cmphex(apic_takers(f, 0x55), ==, 0x8);
    g_assert_true(msi_deliver(f->m, 0xfeeff000, 0x55));
    g_assert_cmphex(apic_takers(f, 0x55), ==, 0xf);
    g_assert_true(msi_deliver(f->m, 0xfee06004, 0x55));
    g_assert_cmphex(apic_takers(f, 0x55), ==, 0x6);
    /* The paravirtual one, in either mode. */
    struct cpu *c = f->m->cpus[0];
    c->apic_ops->send_ipi(c->apic, UINT64_C(1) << 32 | 0x56);
    g_assert_cmphex(apic_takers(f, 0x56), ==, 0x2);
    bus_reset(f->m->system_bus);
    apic_enable(f);
    c->apic_ops->send_ipi(c->apic, UINT64_C(1) << 32 | 0x56);
    g_assert_cmphex(apic_takers(f, 0x56), ==, 0x2);
}

/* --- Paravirtual EOI -------------------------------------------------------------------------- */

#define FLAG 0x1000

static uint8_t flag(struct apic_fixture *f)
{
    return f->m->ram->host[FLAG];
}

static void test_pv_eoi(struct apic_fixture *f, gconstpointer data)
{
    apic_enable(f);
    f->m->ram->host[FLAG] = 0xf0; /* the other bits are not ours */
    f->m->cpus[0]->pv_eoi = FLAG | 1;
    /* The guest clears the flag and writes no EOI. */
    for (unsigned i = 0; i < 3; i++) {
        apic_ipi(f, 1, 0, 0x60);
        g_assert_cmpint(apic_take(f, 0), ==, 0x60);
        g_assert_cmphex(flag(f), ==, 0xf1);
        g_assert_false(f->m->cpus[0]->apic_ops->has_interrupt(f->m->cpus[0]->apic)); /* looking does not take it back */
        g_assert_cmphex(flag(f), ==, 0xf1);
        f->m->ram->host[FLAG] = 0xf0;
    }
    g_assert_cmphex(apic_rd(f, 0, ISR + 0x30), ==, 0); /* made good when it looks */
    /* A request on top: the flag is taken back, the guest writes EOI. */
    apic_ipi(f, 1, 0, 0x60);
    g_assert_cmpint(apic_take(f, 0), ==, 0x60);
    apic_ipi(f, 1, 0, 0x50);
    g_assert_true(f->m->cpus[0]->events & CPU_EVENT_INTR);
    g_assert_cmpint(apic_take(f, 0), ==, -1);
    g_assert_cmphex(flag(f), ==, 0xf0);
    apic_wr(f, 0, EOI, 0);
    g_assert_cmpint(apic_take(f, 0), ==, 0x50);
    g_assert_cmphex(flag(f), ==, 0xf1);
    apic_wr(f, 0, EOI, 0); /* a guest that knows nothing of it */
    g_assert_cmphex(flag(f), ==, 0xf0);
    g_assert_cmphex(apic_rd(f, 0, ISR + 0x20), ==, 0);
    /* A request after the guest ended it silently. */
    apic_ipi(f, 1, 0, 0x60);
    g_assert_cmpint(apic_take(f, 0), ==, 0x60);
    f->m->ram->host[FLAG] = 0xf0;
    apic_ipi(f, 1, 0, 0x50);
    g_assert_cmpint(apic_take(f, 0), ==, 0x50);
    f->m->ram->host[FLAG] = 0xf0;
}

static void test_pv_eoi_not_offered(struct apic_fixture *f, gconstpointer data)
{
    apic_enable(f);
    f->m->ram->host[FLAG] = 0xf0;
    f->m->cpus[0]->pv_eoi = FLAG | 1;
    /* Not with another one waiting. */
    apic_ipi(f, 1, 0, 0x60);
    apic_ipi(f, 1, 0, 0x50);
    g_assert_cmpint(apic_take(f, 0), ==, 0x60);
    g_assert_cmphex(flag(f), ==, 0xf0);
    apic_wr(f, 0, EOI, 0);
    g_assert_cmpint(apic_take(f, 0), ==, 0x50);
    apic_wr(f, 0, EOI, 0);
    /* Not for a level, whose EOI others wait for. */
    struct apic_message msg = { .vector = 0x70, .level_triggered = true, .assert = true };
    g_assert_true(apic_bus_deliver(f->m, &msg));
    g_assert_cmpint(apic_take(f, 0), ==, 0x70);
    g_assert_cmphex(flag(f), ==, 0xf0);
    apic_wr(f, 0, EOI, 0);
    /* Saved state has it as it is, beside the guest's memory: here the guest clears it after the load. */
    apic_ipi(f, 1, 0, 0x60);
    g_assert_cmpint(apic_take(f, 0), ==, 0x60);
    test_state_roundtrip(f->lapic[0]);
    g_assert_cmphex(flag(f), ==, 0xf1);
    f->m->ram->host[FLAG] = 0xf0;
    g_assert_cmphex(apic_rd(f, 0, ISR + 0x30), ==, 0);
    /* After INIT the flag is the guest's memory like any other. */
    apic_ipi(f, 1, 0, 0x60);
    g_assert_cmpint(apic_take(f, 0), ==, 0x60);
    cpu_reset(f->m->cpus[0], true);
    apic_rd(f, 0, TPR);
    g_assert_cmphex(flag(f), ==, 0xf1);
    f->m->ram->host[FLAG] = 0xf0;
    apic_enable(f);
    /* No RAM there; off. */
    f->m->cpus[0]->pv_eoi = 0xfee00000 | 1;
    apic_ipi(f, 1, 0, 0x60);
    g_assert_cmpint(apic_take(f, 0), ==, 0x60);
    apic_wr(f, 0, EOI, 0);
    f->m->cpus[0]->pv_eoi = FLAG;
    apic_ipi(f, 1, 0, 0x60);
    g_assert_cmpint(apic_take(f, 0), ==, 0x60);
    g_assert_cmphex(flag(f), ==, 0xf0);
}

#define ADD(name) g_test_add("/lapic_modes/" #name, struct apic_fixture, NULL, apic_set_up, test_##name, apic_tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD(timer_one_shot);
    ADD(timer_periodic);
    ADD(timer_late);
    ADD(timer_deadline);
    ADD(x2apic_registers);
    ADD(x2apic_ipi);
    ADD(pv_eoi);
    ADD(pv_eoi_not_offered);
    return g_test_run();
}
