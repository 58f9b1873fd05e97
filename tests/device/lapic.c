/*
 * Local APIC: registers, priorities, IPIs of all kinds, LINT pins and the 8259A, I/O APIC and EOI broadcast, timer in
 * its three modes, x2APIC, errors, disabled states, INIT, paravirtual EOI. Four processors, none of which runs.
 */
#include "cpu/cpu.h"
#include "hw/core/clock.h"
#include "hw/core/state.h"
#include "hw/irq/apic_bus.h"
#include "hw/irq/i8259.h"
#include "hw/irq/ioapic.h"
#include "hw/irq/lapic.h"
#include "tests/lib/device_test.h"

#include <string.h>

#define CPUS 4
#define ID 0x20
#define TPR 0x80
#define PPR 0xa0
#define EOI 0xb0
#define LDR 0xd0
#define DFR 0xe0
#define SVR 0xf0
#define ISR 0x100
#define TMR 0x180
#define IRR 0x200
#define ESR 0x280
#define ICR 0x300
#define ICR2 0x310
#define LVT_TIMER 0x320
#define LVT_PERF 0x340
#define LVT_LINT0 0x350
#define LVT_LINT1 0x360
#define LVT_ERROR 0x370
#define TMICT 0x380
#define TMCCT 0x390
#define TDCR 0x3e0
#define MASKED 0x10000u
#define DEADLINE_MSR 0x6e0
#define BASE_BSP 0x100
#define BASE_X2 0x400
#define BASE_EN 0x800

struct fixture {
    struct machine *m;
    struct cpu_model *model;
    struct device *lapic[CPUS], *pic, *ioapic;
    unsigned kicks[CPUS];
    int64_t hz; /* of the timer */
};

static struct fixture *the_fixture; /* for kick(), which is told nothing but the processor */

static void kick(struct cpu *cpu)
{
    the_fixture->kicks[cpu->index]++;
}

static const struct cpu_host_ops host_ops = { .kick = kick };

static void free_cpus(struct machine *m)
{
    for (unsigned i = 0; i < CPUS; i++)
        cpu_free(m->cpus[i]);
}

static void to_lint0(void *opaque, int n, int level)
{
    struct fixture *f = opaque;
    for (unsigned i = 0; i < CPUS; i++) {
        struct irq_line l = lapic_lint(f->lapic[i], 0);
        irq_set(&l, level);
    }
}

static void set_up(struct fixture *f, gconstpointer data)
{
    GError *err = NULL;
    the_fixture = f;
    f->m = test_machine_new();
    test_add_ram(f->m, 1 << 20);
    f->model = cpu_model_parse("max", &err);
    g_assert_no_error(err);
    f->m->cpus = g_new0(struct cpu *, CPUS);
    f->m->cpu_count = CPUS;
    f->m->board_free = free_cpus;
    test_add(&apic_bus_type, f->m->system_bus, NULL);
    for (unsigned i = 0; i < CPUS; i++) {
        f->m->cpus[i] = cpu_new(f->m, i, f->model);
        f->m->cpus[i]->host = &host_ops;
        g_autofree char *index = g_strdup_printf("index=%u", i);
        f->lapic[i] = test_add(&lapic_type, f->m->system_bus, index, NULL);
    }
    f->ioapic = test_add(&ioapic_type, f->m->system_bus, NULL);
    f->pic = test_add(&i8259_type, test_add_isa(f->m), NULL);
    i8259_set_output(f->pic, (struct irq_line){ to_lint0, f, 0 });
    apic_bus_set_pic(f->m, i8259_acknowledge, f->pic);
    uint32_t leaf[4];
    cpu_cpuid(f->m->cpus[0], 0x15, 0, leaf);
    f->hz = leaf[2] ? leaf[2] : 1000000000;
    memset(f->kicks, 0, sizeof f->kicks);
}

static void tear_down(struct fixture *f, gconstpointer data)
{
    machine_set_current_cpu(-1);
    for (unsigned i = 0; i < CPUS; i++)
        test_state_roundtrip(f->lapic[i]);
    test_machine_free(f->m);
    cpu_model_free(f->model);
}

/* --- What a processor does ------------------------------------------------------------------------- */

static uint32_t rd(struct fixture *f, unsigned cpu, unsigned reg)
{
    machine_set_current_cpu(cpu);
    uint32_t value = test_read(f->m, APIC_DEFAULT_BASE + reg, 4);
    machine_set_current_cpu(-1);
    return value;
}

static void wr(struct fixture *f, unsigned cpu, unsigned reg, uint32_t value)
{
    machine_set_current_cpu(cpu);
    test_write(f->m, APIC_DEFAULT_BASE + reg, value, 4);
    machine_set_current_cpu(-1);
}

static bool rdmsr(struct fixture *f, unsigned cpu, uint32_t msr, uint64_t *value)
{
    struct cpu *c = f->m->cpus[cpu];
    return c->apic_ops->read_msr(c->apic, msr, value);
}

static bool wrmsr(struct fixture *f, unsigned cpu, uint32_t msr, uint64_t value)
{
    struct cpu *c = f->m->cpus[cpu];
    return c->apic_ops->write_msr(c->apic, msr, value);
}

static uint64_t rdx(struct fixture *f, unsigned cpu, unsigned reg)
{
    uint64_t value;
    g_assert_true(rdmsr(f, cpu, 0x800 + reg / 16, &value));
    return value;
}

static void wrx(struct fixture *f, unsigned cpu, unsigned reg, uint64_t value)
{
    g_assert_true(wrmsr(f, cpu, 0x800 + reg / 16, value));
}

static bool set_base(struct fixture *f, unsigned cpu, uint64_t value)
{
    struct cpu *c = f->m->cpus[cpu];
    return c->apic_ops->set_base_msr(c->apic, value);
}

static uint64_t base(struct fixture *f, unsigned cpu)
{
    struct cpu *c = f->m->cpus[cpu];
    return c->apic_ops->base_msr(c->apic);
}

/* The vector that the processor takes now, or -1; checks that event and has_interrupt() say the same. */
static int take(struct fixture *f, unsigned cpu)
{
    struct cpu *c = f->m->cpus[cpu];
    bool has = c->apic_ops->has_interrupt(c->apic);
    g_assert_cmpint(!!(c->events & CPU_EVENT_INTR), ==, has);
    int vector = c->apic_ops->acknowledge(c->apic);
    g_assert_cmpint(vector >= 0, ==, has);
    return vector;
}

static uint32_t take_events(struct fixture *f, unsigned cpu)
{
    uint32_t mask = CPU_EVENT_NMI | CPU_EVENT_SMI | CPU_EVENT_INIT | CPU_EVENT_SIPI,
             got = f->m->cpus[cpu]->events & mask;
    cpu_event_clear(f->m->cpus[cpu], mask);
    return got;
}

static void enable(struct fixture *f)
{
    for (unsigned i = 0; i < CPUS; i++)
        wr(f, i, SVR, 0x1ff);
}

static void enable_x2apic(struct fixture *f)
{
    for (unsigned i = 0; i < CPUS; i++) {
        g_assert_true(set_base(f, i, base(f, i) | BASE_X2));
        wrx(f, i, SVR, 0x1ff);
    }
}

static void ipi(struct fixture *f, unsigned from, uint8_t dest, uint32_t low)
{
    wr(f, from, ICR2, (uint32_t)dest << 24);
    wr(f, from, ICR, low);
}

/* Which processors take `vector` now, a bit each. */
static unsigned takers(struct fixture *f, int vector)
{
    unsigned who = 0;
    for (unsigned i = 0; i < CPUS; i++) {
        int got = take(f, i);
        if (got >= 0) {
            g_assert_cmphex(got, ==, vector);
            who |= 1u << i;
            if (base(f, i) & BASE_X2)
                wrx(f, i, EOI, 0);
            else
                wr(f, i, EOI, 0);
        }
    }
    return who;
}

/* --- Registers ------------------------------------------------------------------------------------- */

static void test_registers(struct fixture *f, gconstpointer data)
{
    for (unsigned i = 0; i < CPUS; i++) {
        g_assert_cmphex(rd(f, i, ID), ==, i << 24);
        g_assert_cmphex(base(f, i), ==, APIC_DEFAULT_BASE | BASE_EN | (i ? 0 : BASE_BSP));
        g_assert_cmphex(rd(f, i, 0x30), ==, 0x01050014);
        g_assert_cmphex(rd(f, i, SVR), ==, 0xff);
        g_assert_cmphex(rd(f, i, DFR), ==, 0xffffffff);
        g_assert_cmphex(rd(f, i, LDR), ==, 0);
        for (unsigned lvt = LVT_TIMER; lvt <= LVT_ERROR; lvt += 16)
            g_assert_cmphex(rd(f, i, lvt), ==, lvt == LVT_LINT0 && i == 0 ? 0x700 : MASKED);
    }
    static const struct {
        unsigned reg;
        uint32_t bits;
    } writable[] = {
        { ID, 0 },
        { 0x30, 0 },
        { TPR, 0xff },
        { LDR, 0xff000000 },
        { SVR, 0x13ff },
        { ICR2, 0xff000000 },
        { LVT_TIMER, 0x700ff },
        { 0x330, 0x107ff },
        { LVT_PERF, 0x107ff },
        { LVT_LINT0, 0x1a7ff },
        { LVT_LINT1, 0x1a7ff },
        { LVT_ERROR, 0x100ff },
        { TDCR, 0xb },
        { ISR, 0 },
        { TMR, 0 },
        { IRR, 0 },
        { PPR, 0 },
    };
    wr(f, 1, SVR, 0x1ff);
    for (unsigned i = 0; i < G_N_ELEMENTS(writable); i++) {
        uint32_t before = rd(f, 1, writable[i].reg);
        wr(f, 1, writable[i].reg, 0xffffffff);
        uint32_t expect = writable[i].bits ? writable[i].bits : before;
        if (writable[i].reg == PPR)
            expect = rd(f, 1, TPR);
        g_assert_cmphex(rd(f, 1, writable[i].reg), ==, expect);
        if (writable[i].reg == TPR) /* PPR follows */
            g_assert_cmphex(rd(f, 1, PPR), ==, 0xff);
    }
    wr(f, 1, DFR, 0);
    g_assert_cmphex(rd(f, 1, DFR), ==, 0x0fffffff);
    /* Smaller reads give their part; smaller and crooked writes nothing; beside the registers there is nothing. */
    machine_set_current_cpu(1);
    g_assert_cmphex(test_read(f->m, APIC_DEFAULT_BASE + ID + 3, 1), ==, 1);
    g_assert_cmphex(test_read(f->m, APIC_DEFAULT_BASE + LDR + 2, 2), ==, 0xff00);
    test_write(f->m, APIC_DEFAULT_BASE + LDR, 0, 1);
    test_write(f->m, APIC_DEFAULT_BASE + LDR + 4, 0, 4);
    g_assert_cmphex(test_read(f->m, APIC_DEFAULT_BASE + LDR + 4, 4), ==, 0);
    machine_set_current_cpu(-1);
    g_assert_cmphex(rd(f, 1, LDR), ==, 0xff000000);
    g_assert_cmphex(rd(f, 2, LDR), ==, 0); /* each has its own */
}

/* --- Vectors ---------------------------------------------------------------------------------------- */

static void test_priorities(struct fixture *f, gconstpointer data)
{
    enable(f);
    ipi(f, 1, 0, 0x41);
    g_assert_cmpuint(f->kicks[0], ==, 1);
    ipi(f, 1, 0, 0x55);
    ipi(f, 1, 0, 0x52);
    ipi(f, 1, 0, 0x52); /* once only */
    g_assert_cmphex(rd(f, 0, IRR + 0x20), ==, 1u << 1 | 1u << 0x15 | 1u << 0x12);
    g_assert_cmpint(take(f, 0), ==, 0x55);
    g_assert_cmphex(rd(f, 0, PPR), ==, 0x50);
    g_assert_cmphex(rd(f, 0, ISR + 0x20), ==, 1u << 0x15);
    g_assert_cmpint(take(f, 0), ==, -1); /* 0x52 is of the same class */
    ipi(f, 1, 0, 0x60);
    ipi(f, 1, 0, 0x55); /* again while in service: waits */
    g_assert_cmpint(take(f, 0), ==, 0x60);
    wr(f, 0, EOI, 0);
    g_assert_cmpint(take(f, 0), ==, -1);
    wr(f, 0, EOI, 0);
    g_assert_cmpint(take(f, 0), ==, 0x55);
    wr(f, 0, EOI, 0);
    g_assert_cmpint(take(f, 0), ==, 0x52);
    wr(f, 0, EOI, 0);
    g_assert_cmpint(take(f, 0), ==, 0x41);
    wr(f, 0, EOI, 0);
    g_assert_cmpint(take(f, 0), ==, -1);
    wr(f, 0, EOI, 0); /* of nothing */
    g_assert_cmphex(rd(f, 0, PPR), ==, 0);
}

static void test_tpr(struct fixture *f, gconstpointer data)
{
    struct cpu *c = f->m->cpus[0];
    enable(f);
    wr(f, 0, TPR, 0x5f);
    g_assert_cmphex(c->apic_ops->tpr(c->apic), ==, 0x5f);
    g_assert_cmphex(rd(f, 0, PPR), ==, 0x5f);
    ipi(f, 0, 0, 0x5f);
    g_assert_cmpint(take(f, 0), ==, -1);
    ipi(f, 0, 0, 0x60);
    g_assert_cmpint(take(f, 0), ==, 0x60);
    g_assert_cmphex(rd(f, 0, PPR), ==, 0x60);
    wr(f, 0, EOI, 0);
    g_assert_cmphex(rd(f, 0, PPR), ==, 0x5f);
    c->apic_ops->set_tpr(c->apic, 0x40);
    g_assert_cmphex(rd(f, 0, TPR), ==, 0x40);
    g_assert_true(c->events & CPU_EVENT_INTR);
    c->apic_ops->set_tpr(c->apic, 0x50);
    g_assert_false(c->events & CPU_EVENT_INTR); /* withdrawn before it was taken */
    c->apic_ops->set_tpr(c->apic, 0x40);
    g_assert_cmpint(take(f, 0), ==, 0x5f);
    wr(f, 0, EOI, 0);
    ipi(f, 0, 0, 0x10); /* class 1 needs TPR class 0 */
    g_assert_cmpint(take(f, 0), ==, -1);
    wr(f, 0, TPR, 0x0f);
    g_assert_cmpint(take(f, 0), ==, 0x10);
}

static void test_kicks(struct fixture *f, gconstpointer data)
{
    enable(f);
    ipi(f, 1, 1, 0x40); /* to itself: its own thread, which looks anyway */
    g_assert_cmpuint(f->kicks[1], ==, 0);
    ipi(f, 1, 2, 0x40);
    g_assert_cmpuint(f->kicks[2], ==, 1);
    ipi(f, 1, 2, 0x41); /* knows already */
    g_assert_cmpuint(f->kicks[2], ==, 1);
    wr(f, 3, TPR, 0xf0);
    ipi(f, 1, 3, 0x41); /* cannot be taken now */
    g_assert_cmpuint(f->kicks[3], ==, 0);
}

/* --- Interprocessor interrupts ----------------------------------------------------------------------- */

static void test_destinations(struct fixture *f, gconstpointer data)
{
    enable(f);
    ipi(f, 0, 2, 0x44);
    g_assert_cmphex(takers(f, 0x44), ==, 1u << 2);
    ipi(f, 0, 9, 0x44);
    g_assert_cmphex(takers(f, 0x44), ==, 0);
    ipi(f, 0, 0xff, 0x44);
    g_assert_cmphex(takers(f, 0x44), ==, 0xf);
    /* Flat. */
    for (unsigned i = 0; i < CPUS; i++)
        wr(f, i, LDR, 0x01000000u << i);
    ipi(f, 0, 0x0a, 0x845);
    g_assert_cmphex(takers(f, 0x45), ==, 0xa);
    ipi(f, 0, 0xff, 0x845);
    g_assert_cmphex(takers(f, 0x45), ==, 0xf);
    ipi(f, 0, 0, 0x845);
    g_assert_cmphex(takers(f, 0x45), ==, 0);
    /* Clusters: 0 and 1 in cluster 1, 2 and 3 in cluster 2. */
    for (unsigned i = 0; i < CPUS; i++) {
        wr(f, i, DFR, 0x0fffffff);
        wr(f, i, LDR, (i < 2 ? 0x10000000u : 0x20000000u) | 0x01000000u << (i & 1));
    }
    ipi(f, 0, 0x13, 0x846);
    g_assert_cmphex(takers(f, 0x46), ==, 0x3);
    ipi(f, 0, 0x22, 0x846);
    g_assert_cmphex(takers(f, 0x46), ==, 0x8);
    ipi(f, 0, 0x03, 0x846);
    g_assert_cmphex(takers(f, 0x46), ==, 0);
    ipi(f, 0, 0xff, 0x846);
    g_assert_cmphex(takers(f, 0x46), ==, 0xf);
    /* Lowest priority takes turns. */
    unsigned seen = 0;
    for (unsigned i = 0; i < 4; i++) {
        ipi(f, 0, 0xff, 0x147);
        unsigned who = takers(f, 0x47);
        g_assert_true(who && !(who & (who - 1)));
        seen |= who;
    }
    g_assert_cmphex(seen, ==, 0xf);
}

static void test_shorthands(struct fixture *f, gconstpointer data)
{
    enable(f);
    ipi(f, 1, 3, 0x40048); /* self, whatever the destination */
    g_assert_cmphex(takers(f, 0x48), ==, 0x2);
    ipi(f, 1, 3, 0x80049);
    g_assert_cmphex(takers(f, 0x49), ==, 0xf);
    ipi(f, 1, 3, 0xc004a);
    g_assert_cmphex(takers(f, 0x4a), ==, 0xd);
    ipi(f, 1, 0, 0xc0400); /* NMI to the others */
    for (unsigned i = 0; i < CPUS; i++)
        g_assert_cmphex(take_events(f, i), ==, i == 1 ? 0 : CPU_EVENT_NMI);
    ipi(f, 1, 0, 0x40400); /* NMI to self does not exist */
    g_assert_cmphex(take_events(f, 1), ==, 0);
    g_assert_cmphex(rd(f, 1, ICR), ==, 0x40400); /* never busy */
}

static void test_signals(struct fixture *f, gconstpointer data)
{
    enable(f);
    ipi(f, 0, 2, 0x200);
    g_assert_cmphex(take_events(f, 2), ==, CPU_EVENT_SMI);
    ipi(f, 0, 2, 0x400);
    g_assert_cmphex(take_events(f, 2), ==, CPU_EVENT_NMI);
    g_assert_cmpuint(f->kicks[2], ==, 2);
    ipi(f, 0, 2, 0xc500); /* INIT, level, assert */
    g_assert_cmphex(take_events(f, 2), ==, CPU_EVENT_INIT);
    ipi(f, 0, 2, 0x8500); /* de-assert: nothing */
    g_assert_cmphex(take_events(f, 2), ==, 0);
    ipi(f, 0, 2, 0x4500); /* edge */
    g_assert_cmphex(take_events(f, 2), ==, CPU_EVENT_INIT);
    ipi(f, 0, 2, 0x46f0);
    g_assert_cmphex(take_events(f, 2), ==, CPU_EVENT_SIPI);
    g_assert_cmphex(f->m->cpus[2]->sipi_vector, ==, 0xf0);
    ipi(f, 0, 2, 0x300); /* reserved */
    g_assert_cmphex(take_events(f, 2), ==, 0);
    /* A software-disabled APIC takes these, and sends. */
    wr(f, 2, SVR, 0xff);
    ipi(f, 0, 2, 0x4600);
    g_assert_cmphex(take_events(f, 2), ==, CPU_EVENT_SIPI);
    ipi(f, 2, 0, 0x400);
    g_assert_cmphex(take_events(f, 0), ==, CPU_EVENT_NMI);
    /* INIT on the bus, taken by the processor: everything but id and base as after power-on. */
    wr(f, 2, SVR, 0x1ff);
    wr(f, 2, LDR, 0x04000000);
    wr(f, 2, TPR, 0x20);
    ipi(f, 0, 2, 0x77);
    wr(f, 2, TMICT, 1000000);
    cpu_reset(f->m->cpus[2], true);
    g_assert_cmphex(rd(f, 2, SVR), ==, 0xff);
    g_assert_cmphex(rd(f, 2, LDR) | rd(f, 2, TPR) | rd(f, 2, IRR + 0x30) | rd(f, 2, TMICT), ==, 0);
    g_assert_cmphex(rd(f, 2, ID), ==, 2u << 24);
    g_assert_cmpint(take(f, 2), ==, -1);
}

/* --- Errors and disabled states ------------------------------------------------------------------------ */

static uint32_t read_esr(struct fixture *f, unsigned cpu)
{
    wr(f, cpu, ESR, 0);
    return rd(f, cpu, ESR);
}

static void test_errors(struct fixture *f, gconstpointer data)
{
    enable(f);
    wr(f, 0, LVT_ERROR, 0xfe);
    ipi(f, 0, 1, 0x0f);
    g_assert_cmphex(rd(f, 0, ESR), ==, 0); /* shows after a write */
    g_assert_cmphex(read_esr(f, 0), ==, 0x20);
    g_assert_cmpint(take(f, 0), ==, 0xfe);
    wr(f, 0, EOI, 0);
    g_assert_cmphex(read_esr(f, 0), ==, 0);
    g_assert_cmpint(take(f, 1), ==, -1); /* not sent */
    /* Received, from the I/O APIC. */
    g_assert_true(msi_deliver(f->m, 0xfee00000, 0x05));
    g_assert_cmpint(take(f, 0), ==, 0xfe);
    wr(f, 0, EOI, 0);
    g_assert_true(msi_deliver(f->m, 0xfee00000, 0x05)); /* told once until ESR is written */
    g_assert_cmpint(take(f, 0), ==, -1);
    g_assert_cmphex(read_esr(f, 0), ==, 0x40);
    /* Registers there are not. */
    rd(f, 0, 0x3d0);
    g_assert_cmphex(read_esr(f, 0), ==, 0x80);
    wr(f, 0, 0x3f0, 0x50); /* self IPI is x2APIC's */
    g_assert_cmphex(read_esr(f, 0), ==, 0x80);
    g_assert_cmpint(take(f, 0), ==, 0xfe);
    wr(f, 0, EOI, 0);
    /* The error's own vector illegal: no end to it, and none to us. */
    wr(f, 0, LVT_ERROR, 3);
    rd(f, 0, 0x3d0);
    g_assert_cmphex(read_esr(f, 0), ==, 0xc0);
    g_assert_cmpint(take(f, 0), ==, -1);
}

static void test_software_disable(struct fixture *f, gconstpointer data)
{
    ipi(f, 1, 0, 0x40); /* disabled since reset */
    g_assert_cmpint(take(f, 0), ==, -1);
    g_assert_cmphex(rd(f, 0, IRR + 0x20), ==, 0);
    wr(f, 0, LVT_TIMER, 0x50); /* masks cannot be cleared */
    g_assert_cmphex(rd(f, 0, LVT_TIMER), ==, 0x50 | MASKED);
    enable(f);
    wr(f, 0, LVT_TIMER, 0x50);
    wr(f, 0, LVT_LINT1, 0x400);
    ipi(f, 1, 0, 0x40);
    wr(f, 0, SVR, 0xff);
    for (unsigned lvt = LVT_TIMER; lvt <= LVT_ERROR; lvt += 16)
        g_assert_cmphex(rd(f, 0, lvt) & MASKED, ==, MASKED);
    g_assert_cmpint(take(f, 0), ==, 0x40); /* what waited already is still there */
    wr(f, 0, EOI, 0);
    ipi(f, 1, 0, 0x40);
    g_assert_cmpint(take(f, 0), ==, -1);
    wr(f, 0, SVR, 0x1ff);
    g_assert_cmphex(rd(f, 0, LVT_TIMER), ==, 0x50 | MASKED); /* the mask stays */
}

static void test_global_disable(struct fixture *f, gconstpointer data)
{
    enable(f);
    wr(f, 0, TPR, 0x30);
    wr(f, 0, TMICT, 100000);
    ipi(f, 1, 0, 0x50);
    g_assert_true(set_base(f, 0, APIC_DEFAULT_BASE | BASE_BSP));
    g_assert_cmpint(take(f, 0), ==, -1);
    g_assert_cmphex(rd(f, 0, TPR), ==, 0xffffffff); /* no such page */
    ipi(f, 1, 0, 0x50);
    ipi(f, 1, 0, 0x400);
    g_assert_cmphex(take_events(f, 0), ==, 0);
    /* INTR and NMI are the processor's own pins again. */
    struct irq_line lint0 = lapic_lint(f->lapic[0], 0), lint1 = lapic_lint(f->lapic[0], 1);
    irq_raise(&lint0);
    g_assert_true(f->m->cpus[0]->events & CPU_EVENT_INTR);
    irq_lower(&lint0);
    g_assert_false(f->m->cpus[0]->events & CPU_EVENT_INTR);
    irq_pulse(&lint1);
    g_assert_cmphex(take_events(f, 0), ==, CPU_EVENT_NMI);
    /* Enabled again: as new. */
    g_assert_true(set_base(f, 0, APIC_DEFAULT_BASE | BASE_BSP | BASE_EN));
    g_assert_cmphex(rd(f, 0, SVR), ==, 0xff);
    g_assert_cmphex(rd(f, 0, TPR) | rd(f, 0, IRR + 0x20) | rd(f, 0, TMICT), ==, 0);
    g_assert_cmphex(rd(f, 0, LVT_LINT0), ==, MASKED);
}

static void test_base(struct fixture *f, gconstpointer data)
{
    const uint64_t en = APIC_DEFAULT_BASE | BASE_EN;
    g_assert_false(set_base(f, 1, en | 1));
    g_assert_false(set_base(f, 1, en | 0x200));
    g_assert_false(set_base(f, 1, en | UINT64_C(1) << 52));
    g_assert_false(set_base(f, 1, APIC_DEFAULT_BASE | BASE_X2));
    g_assert_true(set_base(f, 1, en | BASE_X2));
    g_assert_false(set_base(f, 1, en)); /* not back */
    g_assert_true(set_base(f, 1, APIC_DEFAULT_BASE));
    g_assert_false(set_base(f, 1, en | BASE_X2)); /* not at once */
    g_assert_true(set_base(f, 1, en));
    g_assert_true(set_base(f, 1, en | BASE_X2));
    cpu_reset(f->m->cpus[1], true);
    g_assert_cmphex(base(f, 1), ==, en | BASE_X2); /* INIT leaves it */
    f->lapic[1]->type->reset(f->lapic[1]);
    g_assert_cmphex(base(f, 1), ==, en);
    /* Moved elsewhere, over RAM: its own processor sees it there and no longer here. */
    g_assert_true(set_base(f, 1, 0x80000 | BASE_EN));
    machine_set_current_cpu(1);
    g_assert_cmphex(test_read(f->m, 0x80000 + ID, 4), ==, 1u << 24);
    test_write(f->m, 0x80000 + TPR, 0x77, 4);
    g_assert_cmphex(test_read(f->m, 0x80000 + TPR, 4), ==, 0x77);
    g_assert_cmphex(test_read(f->m, APIC_DEFAULT_BASE + TPR, 4), ==, 0xffffffff);
    machine_set_current_cpu(2);
    g_assert_cmphex(test_read(f->m, 0x80000 + TPR, 4), ==, 0xffffffff);
    machine_set_current_cpu(-1);
    test_state_roundtrip(f->lapic[1]);
    g_assert_true(set_base(f, 1, en));
    g_assert_cmphex(rd(f, 1, TPR), ==, 0x77);
    test_write(f->m, 0x80000, 0x12345678, 4);
    g_assert_cmphex(test_read(f->m, 0x80000, 4), ==, 0x12345678);
}

/* --- Pins and other controllers ------------------------------------------------------------------------- */

static void init_pic(struct fixture *f)
{
    static const uint8_t words[] = { 0x11, 0x20, 4, 1 };
    for (unsigned i = 0; i < 4; i++)
        test_outb(f->m, i ? 0x21 : 0x20, words[i]);
}

static void test_pic(struct fixture *f, gconstpointer data)
{
    struct irq_line irq3 = i8259_input(f->pic, 3), irq1 = i8259_input(f->pic, 1);
    init_pic(f);
    /* Out of reset, APIC software-disabled: LINT0 of the boot processor lets the PIC through, the others' do not. */
    irq_raise(&irq3);
    g_assert_false(f->m->cpus[1]->events & CPU_EVENT_INTR);
    g_assert_cmpint(take(f, 0), ==, 0x23);
    g_assert_cmpint(take(f, 0), ==, -1);
    test_outb(f->m, 0x20, 0x20);
    /* TPR does not hold it back, and it comes before vectors of the APIC. */
    enable(f);
    wr(f, 0, LVT_LINT0, 0x700);
    wr(f, 0, TPR, 0xff);
    irq_raise(&irq1);
    g_assert_cmpint(take(f, 0), ==, 0x21);
    wr(f, 0, EOI, 0); /* no business of the APIC */
    g_assert_cmpint(take(f, 0), ==, -1);
    test_outb(f->m, 0x20, 0x20);
    wr(f, 0, TPR, 0);
    irq_lower(&irq1);
    irq_raise(&irq1);
    ipi(f, 0, 0, 0xf0);
    g_assert_cmpint(take(f, 0), ==, 0x21);
    g_assert_cmpint(take(f, 0), ==, 0xf0);
    wr(f, 0, EOI, 0);
    test_outb(f->m, 0x20, 0x20);
    /* Masked: waits; gone before it was taken: nothing. */
    wr(f, 0, LVT_LINT0, 0x700 | MASKED);
    irq_lower(&irq1);
    irq_raise(&irq1);
    g_assert_cmpint(take(f, 0), ==, -1);
    wr(f, 0, LVT_LINT0, 0x700);
    g_assert_true(f->m->cpus[0]->events & CPU_EVENT_INTR);
    irq_lower(&irq1);
    g_assert_cmpint(take(f, 0), ==, -1);
    /* By an ExtINT message of the I/O APIC. */
    wr(f, 0, LVT_LINT0, 0x700 | MASKED);
    struct irq_line pin0 = ioapic_input(f->ioapic, 0);
    test_write(f->m, IOAPIC_DEFAULT_BASE, 0x11, 4);
    test_write(f->m, IOAPIC_DEFAULT_BASE + 0x10, 2u << 24, 4);
    test_write(f->m, IOAPIC_DEFAULT_BASE, 0x10, 4);
    test_write(f->m, IOAPIC_DEFAULT_BASE + 0x10, 0x700, 4);
    irq_raise(&irq1);
    irq_raise(&pin0);
    g_assert_cmpint(take(f, 2), ==, 0x21);
    g_assert_cmpint(take(f, 2), ==, -1);
}

static void test_lint(struct fixture *f, gconstpointer data)
{
    struct irq_line lint0 = lapic_lint(f->lapic[1], 0), lint1 = lapic_lint(f->lapic[1], 1);
    enable(f);
    irq_pulse(&lint1);
    g_assert_cmphex(take_events(f, 1), ==, 0); /* masked */
    wr(f, 1, LVT_LINT1, 0x400);
    irq_raise(&lint1);
    irq_raise(&lint1);
    g_assert_cmphex(take_events(f, 1), ==, CPU_EVENT_NMI);
    irq_lower(&lint1);
    g_assert_cmphex(take_events(f, 1), ==, 0);
    wr(f, 1, LVT_LINT1, 0x200);
    irq_pulse(&lint1);
    g_assert_cmphex(take_events(f, 1), ==, CPU_EVENT_SMI);
    /* Fixed, edge. */
    wr(f, 1, LVT_LINT0, 0x61);
    irq_raise(&lint0);
    g_assert_cmpint(take(f, 1), ==, 0x61);
    wr(f, 1, EOI, 0);
    g_assert_cmpint(take(f, 1), ==, -1);
    irq_lower(&lint0);
    /* Fixed, level: again after each EOI while it is up. */
    wr(f, 1, LVT_LINT0, 0x8062);
    irq_raise(&lint0);
    g_assert_cmphex(rd(f, 1, LVT_LINT0), ==, 0xc062);
    g_assert_cmpint(take(f, 1), ==, 0x62);
    g_assert_cmphex(rd(f, 1, TMR + 0x30), ==, 1u << 2);
    irq_lower(&lint0);
    irq_raise(&lint0);
    g_assert_cmpint(take(f, 1), ==, -1);
    wr(f, 1, EOI, 0);
    g_assert_cmpint(take(f, 1), ==, 0x62);
    irq_lower(&lint0);
    wr(f, 1, EOI, 0);
    g_assert_cmpint(take(f, 1), ==, -1);
    g_assert_cmphex(rd(f, 1, LVT_LINT0), ==, 0x8062);
    /* Up when the mask goes. */
    wr(f, 1, LVT_LINT0, 0x8062 | MASKED);
    irq_raise(&lint0);
    g_assert_cmpint(take(f, 1), ==, -1);
    wr(f, 1, LVT_LINT0, 0x8062);
    g_assert_cmpint(take(f, 1), ==, 0x62);
}

static void test_ioapic(struct fixture *f, gconstpointer data)
{
    struct irq_line pin = ioapic_input(f->ioapic, 9);
    enable(f);
    test_write(f->m, IOAPIC_DEFAULT_BASE, 0x10 + 18, 4);
    test_write(f->m, IOAPIC_DEFAULT_BASE + 0x10, 0x8071, 4);
    irq_raise(&pin);
    g_assert_cmphex(rd(f, 0, TMR + 0x30), ==, 1u << 0x11);
    for (unsigned i = 0; i < 3; i++) {
        g_assert_cmpint(take(f, 0), ==, 0x71);
        g_assert_cmpint(take(f, 0), ==, -1);
        wr(f, 0, EOI, 0); /* the EOI goes on to the I/O APIC */
    }
    g_assert_cmpint(take(f, 0), ==, 0x71);
    /* Suppressed: system software ends it at the I/O APIC itself. */
    wr(f, 0, SVR, 0x11ff);
    wr(f, 0, EOI, 0);
    g_assert_cmpint(take(f, 0), ==, -1);
    test_write(f->m, IOAPIC_DEFAULT_BASE + 0x40, 0x71, 4);
    g_assert_cmpint(take(f, 0), ==, 0x71);
    irq_lower(&pin);
    wr(f, 0, SVR, 0x1ff);
    wr(f, 0, EOI, 0);
    g_assert_cmpint(take(f, 0), ==, -1);
    /* The next on that vector is an edge: TMR follows. */
    g_assert_true(msi_deliver(f->m, 0xfee00000, 0x71));
    g_assert_cmphex(rd(f, 0, TMR + 0x30), ==, 0);
    g_assert_cmpint(take(f, 0), ==, 0x71);
}

/* --- Timer ------------------------------------------------------------------------------------------------ */

/* Steps by that many counts of the undivided timer, rounded up. */
static void counts(struct fixture *f, int64_t n)
{
    uint64_t at = clock_ticks(clock_now(f->m->clock), f->hz) + n;
    test_step(f->m, clock_ticks_to_ns(at, f->hz) - clock_now(f->m->clock));
}

static void test_timer_one_shot(struct fixture *f, gconstpointer data)
{
    static const unsigned dividers[8][2] = { { 0xb, 1 }, { 0, 2 },  { 1, 4 },  { 2, 8 },
                                             { 3, 16 },  { 8, 32 }, { 9, 64 }, { 0xa, 128 } };
    enable(f);
    wr(f, 0, LVT_TIMER, 0x31);
    for (unsigned i = 0; i < 8; i++) {
        unsigned by = dividers[i][1];
        wr(f, 0, TDCR, dividers[i][0]);
        counts(f, 1); /* to the beginning of a tick */
        wr(f, 0, TMICT, 1000);
        g_assert_cmpuint(rd(f, 0, TMCCT), ==, 1000);
        counts(f, 400 * by);
        g_assert_cmpuint(rd(f, 0, TMCCT), ==, 600);
        counts(f, 600 * by - 1);
        g_assert_cmpuint(rd(f, 0, TMCCT), ==, 1);
        g_assert_cmpint(take(f, 0), ==, -1);
        counts(f, 1);
        g_assert_cmpint(take(f, 0), ==, 0x31);
        wr(f, 0, EOI, 0);
        g_assert_cmpuint(rd(f, 0, TMCCT), ==, 0);
        g_assert_cmpuint(rd(f, 0, TMICT), ==, 1000);
        counts(f, 100000 * by);
        g_assert_cmpint(take(f, 0), ==, -1);
    }
    /* Masked it counts and tells nobody; 0 stops it; a new divider goes on from where it is. */
    wr(f, 0, TDCR, 0xb);
    wr(f, 0, LVT_TIMER, 0x31 | MASKED);
    wr(f, 0, TMICT, 1000);
    counts(f, 1001);
    g_assert_cmpint(take(f, 0), ==, -1);
    wr(f, 0, LVT_TIMER, 0x31);
    g_assert_cmpint(take(f, 0), ==, -1);
    wr(f, 0, TMICT, 1000);
    counts(f, 500);
    wr(f, 0, TMICT, 0);
    g_assert_cmpuint(rd(f, 0, TMCCT), ==, 0);
    counts(f, 1000);
    g_assert_cmpint(take(f, 0), ==, -1);
    wr(f, 0, TMICT, 1000);
    counts(f, 400);
    wr(f, 0, TDCR, 0); /* by 2 */
    g_assert_cmpuint(rd(f, 0, TMCCT), ==, 600);
    counts(f, 1199);
    g_assert_cmpint(take(f, 0), ==, -1);
    counts(f, 1);
    g_assert_cmpint(take(f, 0), ==, 0x31);
    wr(f, 0, TMCCT, 5); /* read-only */
    g_assert_cmpuint(rd(f, 0, TMCCT), ==, 0);
}

static void test_timer_periodic(struct fixture *f, gconstpointer data)
{
    int64_t n = f->hz / 1000; /* a millisecond */
    unsigned got = 0;
    enable(f);
    wr(f, 3, TDCR, 0xb);
    wr(f, 3, LVT_TIMER, 0x20032);
    wr(f, 3, TMICT, n);
    for (unsigned i = 0; i < 10000; i++) {
        counts(f, n / 10);
        if (take(f, 3) == 0x32) {
            wr(f, 3, EOI, 0);
            got++;
            g_assert_cmpuint(rd(f, 3, TMCCT), >, n * 8 / 10);
        }
    }
    g_assert_cmpint(ABS((int)got - 1000), <=, 1);
    g_assert_cmpuint(f->kicks[3], ==, got);
    /* To one-shot: one more. */
    wr(f, 3, LVT_TIMER, 0x32);
    counts(f, 5 * n);
    g_assert_cmpint(take(f, 3), ==, 0x32);
    wr(f, 3, EOI, 0);
    counts(f, 5 * n);
    g_assert_cmpint(take(f, 3), ==, -1);
    /* The shortest period there is must not hang. */
    wr(f, 3, LVT_TIMER, 0x20032);
    wr(f, 3, TMICT, 1);
    counts(f, f->hz);
    g_assert_cmpint(take(f, 3), ==, 0x32);
    g_assert_cmpuint(rd(f, 3, TMCCT), ==, 1);
}

static void test_timer_deadline(struct fixture *f, gconstpointer data)
{
    struct cpu *c = f->m->cpus[1];
    uint64_t value, hz = cpu_tsc_hz(c);
    enable(f);
    g_assert_true(wrmsr(f, 1, DEADLINE_MSR, cpu_read_tsc(c) + 1000)); /* not in this mode: ignored */
    g_assert_true(rdmsr(f, 1, DEADLINE_MSR, &value));
    g_assert_cmphex(value, ==, 0);
    wr(f, 1, LVT_TIMER, 0x40033);
    wr(f, 1, TMICT, 1000); /* ignored in this mode */
    g_assert_cmpuint(rd(f, 1, TMICT), ==, 0);
    uint64_t deadline = cpu_read_tsc(c) + hz / 100;
    g_assert_true(wrmsr(f, 1, DEADLINE_MSR, deadline));
    g_assert_true(rdmsr(f, 1, DEADLINE_MSR, &value));
    g_assert_cmphex(value, ==, deadline);
    g_assert_cmpuint(rd(f, 1, TMCCT), ==, 0);
    test_step(f->m, 9999000);
    g_assert_cmpint(take(f, 1), ==, -1);
    test_step(f->m, 1001);
    g_assert_cmpint(take(f, 1), ==, 0x33);
    wr(f, 1, EOI, 0);
    g_assert_cmpuint(cpu_read_tsc(c), >=, deadline);
    g_assert_true(rdmsr(f, 1, DEADLINE_MSR, &value));
    g_assert_cmphex(value, ==, 0); /* done */
    /* In the past: at once. Another in place of the first. None. Far away. */
    g_assert_true(wrmsr(f, 1, DEADLINE_MSR, 1));
    g_assert_cmpint(take(f, 1), ==, 0x33);
    wr(f, 1, EOI, 0);
    g_assert_true(wrmsr(f, 1, DEADLINE_MSR, cpu_read_tsc(c) + hz / 1000));
    g_assert_true(wrmsr(f, 1, DEADLINE_MSR, cpu_read_tsc(c) + hz / 100));
    test_step(f->m, 2000000);
    g_assert_cmpint(take(f, 1), ==, -1);
    g_assert_true(wrmsr(f, 1, DEADLINE_MSR, 0));
    test_step(f->m, 20000000);
    g_assert_cmpint(take(f, 1), ==, -1);
    g_assert_true(wrmsr(f, 1, DEADLINE_MSR, UINT64_MAX));
    test_step(f->m, 20000000);
    g_assert_cmpint(take(f, 1), ==, -1);
    /* Another mode disarms, both ways. */
    g_assert_true(wrmsr(f, 1, DEADLINE_MSR, cpu_read_tsc(c) + hz / 1000));
    wr(f, 1, LVT_TIMER, 0x33);
    test_step(f->m, 20000000);
    g_assert_cmpint(take(f, 1), ==, -1);
    wr(f, 1, TMICT, 1000);
    wr(f, 1, LVT_TIMER, 0x40033);
    test_step(f->m, 20000000);
    g_assert_cmpint(take(f, 1), ==, -1);
}

/* --- x2APIC ------------------------------------------------------------------------------------------------- */

static void test_x2apic_registers(struct fixture *f, gconstpointer data)
{
    uint64_t value;
    g_assert_false(rdmsr(f, 3, 0x802, &value)); /* not in xAPIC mode */
    g_assert_false(wrmsr(f, 3, 0x808, 0));
    wr(f, 3, TPR, 0x25);
    enable_x2apic(f);
    g_assert_cmphex(rdx(f, 3, ID), ==, 3);
    g_assert_cmphex(rdx(f, 3, LDR), ==, 8);
    g_assert_cmphex(rdx(f, 3, 0x30), ==, 0x01050014);
    g_assert_cmphex(rdx(f, 3, TPR), ==, 0x25);     /* kept */
    g_assert_cmphex(rd(f, 3, ID), ==, 0xffffffff); /* the page is gone */
    wr(f, 3, TPR, 0x99);
    g_assert_cmphex(rdx(f, 3, TPR), ==, 0x25);
    /* What can be read, and what can be written with 0, of all 256. */
    for (unsigned n = 0; n < 0x100; n++) {
        bool readable = n == 2 || n == 3 || n == 8 || n == 0xa || n == 0xd || n == 0xf || (n >= 0x10 && n <= 0x28) ||
                        n == 0x30 || (n >= 0x32 && n <= 0x39) || n == 0x3e;
        bool writable = n == 8 || n == 0xb || n == 0xf || n == 0x28 || (n >= 0x32 && n <= 0x38) || n == 0x3e;
        g_assert_cmpint(rdmsr(f, 2, 0x800 + n, &value), ==, readable);
        if (n != 0x30 && n != 0x3f)
            g_assert_cmpint(wrmsr(f, 2, 0x800 + n, 0), ==, writable);
    }
    g_assert_false(rdmsr(f, 2, 0x7ff, &value));
    g_assert_false(rdmsr(f, 2, 0x900, &value));
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
                g_assert_cmpint(wrmsr(f, 1, 0x800 + bits[i].reg / 16, UINT64_C(1) << b), ==, bits[i].good >> b & 1);
}

static void test_x2apic_ipi(struct fixture *f, gconstpointer data)
{
    enable_x2apic(f);
    wrx(f, 0, ICR, UINT64_C(2) << 32 | 0x51);
    g_assert_cmphex(takers(f, 0x51), ==, 0x4);
    g_assert_cmphex(rdx(f, 0, ICR), ==, UINT64_C(2) << 32 | 0x51);
    wrx(f, 0, ICR, UINT64_C(0xffffffff) << 32 | 0x51);
    g_assert_cmphex(takers(f, 0x51), ==, 0xf);
    wrx(f, 0, ICR, UINT64_C(0xff) << 32 | 0x51); /* an id like any other here */
    g_assert_cmphex(takers(f, 0x51), ==, 0);
    wrx(f, 0, ICR, UINT64_C(0x0000000a) << 32 | 0x852); /* cluster 0, 1 and 3 */
    g_assert_cmphex(takers(f, 0x52), ==, 0xa);
    wrx(f, 0, ICR, UINT64_C(0x0001000a) << 32 | 0x852);
    g_assert_cmphex(takers(f, 0x52), ==, 0);
    wrx(f, 0, ICR, 0xc0053);
    g_assert_cmphex(takers(f, 0x53), ==, 0xe);
    wrx(f, 3, 0x3f0, 0x54); /* self IPI */
    g_assert_cmphex(takers(f, 0x54), ==, 0x8);
    wrx(f, 0, ICR, UINT64_C(1) << 32 | 0x4610);
    g_assert_cmphex(take_events(f, 1), ==, CPU_EVENT_SIPI);
    /* Messages with 8-bit destinations still arrive: physical, all, logical in cluster 0. */
    g_assert_true(msi_deliver(f->m, 0xfee03000, 0x55));
    g_assert_cmphex(takers(f, 0x55), ==, 0x8);
    g_assert_true(msi_deliver(f->m, 0xfeeff000, 0x55));
    g_assert_cmphex(takers(f, 0x55), ==, 0xf);
    g_assert_true(msi_deliver(f->m, 0xfee06004, 0x55));
    g_assert_cmphex(takers(f, 0x55), ==, 0x6);
    /* The paravirtual one, in either mode. */
    struct cpu *c = f->m->cpus[0];
    c->apic_ops->send_ipi(c->apic, UINT64_C(1) << 32 | 0x56);
    g_assert_cmphex(takers(f, 0x56), ==, 0x2);
    bus_reset(f->m->system_bus);
    enable(f);
    c->apic_ops->send_ipi(c->apic, UINT64_C(1) << 32 | 0x56);
    g_assert_cmphex(takers(f, 0x56), ==, 0x2);
}

/* --- Paravirtual EOI ------------------------------------------------------------------------------------------ */

#define FLAG 0x1000

static uint8_t flag(struct fixture *f)
{
    return f->m->ram->host[FLAG];
}

static void test_pv_eoi(struct fixture *f, gconstpointer data)
{
    enable(f);
    f->m->ram->host[FLAG] = 0xf0; /* the other bits are not ours */
    f->m->cpus[0]->pv_eoi = FLAG | 1;
    /* The guest clears the flag and writes no EOI. */
    for (unsigned i = 0; i < 3; i++) {
        ipi(f, 1, 0, 0x60);
        g_assert_cmpint(take(f, 0), ==, 0x60);
        g_assert_cmphex(flag(f), ==, 0xf1);
        g_assert_false(f->m->cpus[0]->apic_ops->has_interrupt(f->m->cpus[0]->apic)); /* looking does not take it back */
        g_assert_cmphex(flag(f), ==, 0xf1);
        f->m->ram->host[FLAG] = 0xf0;
    }
    g_assert_cmphex(rd(f, 0, ISR + 0x30), ==, 0); /* made good when it looks */
    /* A request on top: the flag is taken back, the guest writes EOI. */
    ipi(f, 1, 0, 0x60);
    g_assert_cmpint(take(f, 0), ==, 0x60);
    ipi(f, 1, 0, 0x50);
    g_assert_true(f->m->cpus[0]->events & CPU_EVENT_INTR);
    g_assert_cmpint(take(f, 0), ==, -1);
    g_assert_cmphex(flag(f), ==, 0xf0);
    wr(f, 0, EOI, 0);
    g_assert_cmpint(take(f, 0), ==, 0x50);
    g_assert_cmphex(flag(f), ==, 0xf1);
    wr(f, 0, EOI, 0); /* a guest that knows nothing of it */
    g_assert_cmphex(flag(f), ==, 0xf0);
    g_assert_cmphex(rd(f, 0, ISR + 0x20), ==, 0);
    /* A request after the guest ended it silently. */
    ipi(f, 1, 0, 0x60);
    g_assert_cmpint(take(f, 0), ==, 0x60);
    f->m->ram->host[FLAG] = 0xf0;
    ipi(f, 1, 0, 0x50);
    g_assert_cmpint(take(f, 0), ==, 0x50);
    f->m->ram->host[FLAG] = 0xf0;
    /* Not with another one waiting. */
    ipi(f, 1, 0, 0x60);
    ipi(f, 1, 0, 0x50);
    g_assert_cmpint(take(f, 0), ==, 0x60);
    g_assert_cmphex(flag(f), ==, 0xf0);
    wr(f, 0, EOI, 0);
    g_assert_cmpint(take(f, 0), ==, 0x50);
    wr(f, 0, EOI, 0);
    /* Not for a level, whose EOI others wait for. */
    struct apic_message msg = { .vector = 0x70, .level_triggered = true, .assert = true };
    g_assert_true(apic_bus_deliver(f->m, &msg));
    g_assert_cmpint(take(f, 0), ==, 0x70);
    g_assert_cmphex(flag(f), ==, 0xf0);
    wr(f, 0, EOI, 0);
    /* Saving takes it back. */
    ipi(f, 1, 0, 0x60);
    g_assert_cmpint(take(f, 0), ==, 0x60);
    test_state_roundtrip(f->lapic[0]);
    g_assert_cmphex(flag(f), ==, 0xf0);
    wr(f, 0, EOI, 0);
    g_assert_cmphex(rd(f, 0, ISR + 0x30), ==, 0);
    /* No RAM there; off. */
    f->m->cpus[0]->pv_eoi = 0xfee00000 | 1;
    ipi(f, 1, 0, 0x60);
    g_assert_cmpint(take(f, 0), ==, 0x60);
    wr(f, 0, EOI, 0);
    f->m->cpus[0]->pv_eoi = FLAG;
    ipi(f, 1, 0, 0x60);
    g_assert_cmpint(take(f, 0), ==, 0x60);
    g_assert_cmphex(flag(f), ==, 0xf0);
}

/* --- State and noise --------------------------------------------------------------------------------------------- */

static void test_state(struct fixture *f, gconstpointer data)
{
    enable(f);
    wr(f, 1, LDR, 0x02000000);
    wr(f, 1, DFR, 0x0fffffff);
    wr(f, 1, TPR, 0x13);
    wr(f, 1, LVT_ERROR, 0xfe);
    ipi(f, 1, 0, 3);
    ipi(f, 0, 1, 0x66);
    ipi(f, 0, 1, 0x44);
    g_assert_cmpint(take(f, 1), ==, 0xfe);
    wr(f, 1, LVT_TIMER, 0x20099);
    wr(f, 1, TDCR, 3);
    wr(f, 1, TMICT, 100000);
    counts(f, 12345);
    test_state_transfer(f->lapic[1], f->lapic[2]);
    wr(f, 1, EOI, 0);
    wr(f, 2, EOI, 0);
    g_assert_cmpint(take(f, 1), ==, 0x66);
    g_assert_cmpint(take(f, 2), ==, 0x66); /* the event came with it */
    wr(f, 1, EOI, 0);
    wr(f, 2, EOI, 0);
    g_assert_cmpuint(rd(f, 1, TMCCT), ==, rd(f, 2, TMCCT));
    counts(f, 16 * 100000);
    g_assert_cmpint(take(f, 2), ==, 0x99);
    /* Hostile bytes: refused or harmless. */
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    state_save(bytes, &lapic_type.state[0], "x", f->lapic[1]);
    GRand *r = g_rand_new_with_seed(1);
    for (unsigned i = 0; i < 3000; i++) {
        g_autofree uint8_t *copy = g_memdup2(bytes->data, bytes->len);
        for (unsigned k = 0; k < 3; k++)
            copy[g_rand_int(r) % bytes->len] = g_rand_int(r);
        struct state_reader in = { .data = copy, .size = bytes->len };
        g_autoptr(GError) err = NULL;
        state_load(&in, &lapic_type.state[0], "x", f->lapic[3], &err);
        test_step(f->m, 100000);
        rd(f, 3, TMCCT);
        f->m->cpus[3]->apic_ops->acknowledge(f->m->cpus[3]->apic);
    }
    g_rand_free(r);
    bus_reset(f->m->system_bus);
}

static void test_random(struct fixture *f, gconstpointer data)
{
    GRand *r = g_rand_new_with_seed(1515);
    for (unsigned i = 0; i < 300; i++) {
        unsigned n = g_rand_int_range(r, 0, CPUS);
        struct cpu *c = f->m->cpus[n];
        c->pv_eoi = g_rand_int(r) & 0xfffff;
        machine_set_current_cpu(n);
        test_poke_memory(f->m, f->lapic[n], g_rand_int(r), 60, APIC_DEFAULT_BASE, 0x400);
        for (unsigned k = 0; k < 20; k++) {
            uint64_t value;
            test_write(f->m, APIC_DEFAULT_BASE + 16 * g_rand_int_range(r, 0, 64), g_rand_int(r), 4);
            wrmsr(f, n, 0x800 + g_rand_int_range(r, 0, 0x40), g_rand_int(r) >> g_rand_int_range(r, 0, 32));
            rdmsr(f, n, 0x800 + g_rand_int_range(r, 0, 0x40), &value);
            msi_deliver(f->m, 0xfee00000 | g_rand_int(r) % 0x100000, g_rand_int(r));
            c->apic_ops->has_interrupt(c->apic);
            c->apic_ops->acknowledge(c->apic);
        }
        static const unsigned modes[] = { 0, BASE_EN, BASE_EN | BASE_X2 };
        if (g_rand_int_range(r, 0, 8) == 0)
            set_base(f, n, (g_rand_boolean(r) ? APIC_DEFAULT_BASE : 0x7000) | modes[g_rand_int_range(r, 0, 3)]);
        struct irq_line pin = lapic_lint(f->lapic[n], g_rand_boolean(r));
        irq_set(&pin, g_rand_boolean(r));
        test_state_roundtrip(f->lapic[n]);
    }
    g_rand_free(r);
}

#define ADD(name) g_test_add("/lapic/" #name, struct fixture, NULL, set_up, test_##name, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD(registers);
    ADD(priorities);
    ADD(tpr);
    ADD(kicks);
    ADD(destinations);
    ADD(shorthands);
    ADD(signals);
    ADD(errors);
    ADD(software_disable);
    ADD(global_disable);
    ADD(base);
    ADD(pic);
    ADD(lint);
    ADD(ioapic);
    ADD(timer_one_shot);
    ADD(timer_periodic);
    ADD(timer_deadline);
    ADD(x2apic_registers);
    ADD(x2apic_ipi);
    ADD(pv_eoi);
    ADD(state);
    ADD(random);
    return g_test_run();
}
