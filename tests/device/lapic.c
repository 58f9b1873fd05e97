/*
 * Local APIC: registers, priorities, IPIs of all kinds, errors, disabled states, INIT, LINT pins and the 8259A, I/O
 * APIC and EOI broadcast, saved state. Its timer, x2APIC and paravirtual EOI: lapic_modes.c.
 */
#include "hw/core/state.h"
#include "tests/lib/apic_test.h"

#include <string.h>

/* --- Registers -------------------------------------------------------------------------------- */

static void test_registers(struct apic_fixture *f, gconstpointer data)
{
    for (unsigned i = 0; i < CPUS; i++) {
        g_assert_cmphex(apic_rd(f, i, ID), ==, i << 24);
        g_assert_cmphex(apic_base(f, i), ==, APIC_DEFAULT_BASE | BASE_EN | (i ? 0 : BASE_BSP));
        g_assert_cmphex(apic_rd(f, i, 0x30), ==, 0x01050014);
        g_assert_cmphex(apic_rd(f, i, SVR), ==, 0xff);
        g_assert_cmphex(apic_rd(f, i, DFR), ==, 0xffffffff);
        g_assert_cmphex(apic_rd(f, i, LDR), ==, 0);
        for (unsigned lvt = LVT_TIMER; lvt <= LVT_ERROR; lvt += 16)
            g_assert_cmphex(apic_rd(f, i, lvt), ==, lvt == LVT_LINT0 && i == 0 ? 0x700 : MASKED);
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
    apic_wr(f, 1, SVR, 0x1ff);
    for (unsigned i = 0; i < G_N_ELEMENTS(writable); i++) {
        uint32_t before = apic_rd(f, 1, writable[i].reg);
        apic_wr(f, 1, writable[i].reg, 0xffffffff);
        uint32_t expect = writable[i].bits ? writable[i].bits : before;
        if (writable[i].reg == PPR)
            expect = apic_rd(f, 1, TPR);
        g_assert_cmphex(apic_rd(f, 1, writable[i].reg), ==, expect);
        if (writable[i].reg == TPR) /* PPR follows */
            g_assert_cmphex(apic_rd(f, 1, PPR), ==, 0xff);
    }
    apic_wr(f, 1, DFR, 0);
    g_assert_cmphex(apic_rd(f, 1, DFR), ==, 0x0fffffff);
    /* Smaller reads give their part; smaller and crooked writes nothing; beside the registers there is nothing. */
    machine_set_current_cpu(1);
    g_assert_cmphex(test_read(f->m, APIC_DEFAULT_BASE + ID + 3, 1), ==, 1);
    g_assert_cmphex(test_read(f->m, APIC_DEFAULT_BASE + LDR + 2, 2), ==, 0xff00);
    test_write(f->m, APIC_DEFAULT_BASE + LDR, 0, 1);
    test_write(f->m, APIC_DEFAULT_BASE + LDR + 4, 0, 4);
    g_assert_cmphex(test_read(f->m, APIC_DEFAULT_BASE + LDR + 4, 4), ==, 0);
    machine_set_current_cpu(-1);
    g_assert_cmphex(apic_rd(f, 1, LDR), ==, 0xff000000);
    g_assert_cmphex(apic_rd(f, 2, LDR), ==, 0); /* each has its own */
}

/* --- Vectors ---------------------------------------------------------------------------------- */

static void test_priorities(struct apic_fixture *f, gconstpointer data)
{
    apic_enable(f);
    apic_ipi(f, 1, 0, 0x41);
    g_assert_cmpuint(f->kicks[0], ==, 1);
    apic_ipi(f, 1, 0, 0x55);
    apic_ipi(f, 1, 0, 0x52);
    apic_ipi(f, 1, 0, 0x52); /* once only */
    g_assert_cmphex(apic_rd(f, 0, IRR + 0x20), ==, 1u << 1 | 1u << 0x15 | 1u << 0x12);
    g_assert_cmpint(apic_take(f, 0), ==, 0x55);
    g_assert_cmphex(apic_rd(f, 0, PPR), ==, 0x50);
    g_assert_cmphex(apic_rd(f, 0, ISR + 0x20), ==, 1u << 0x15);
    g_assert_cmpint(apic_take(f, 0), ==, -1); /* 0x52 is of the same class */
    apic_ipi(f, 1, 0, 0x60);
    apic_ipi(f, 1, 0, 0x55); /* again while in service: waits */
    g_assert_cmpint(apic_take(f, 0), ==, 0x60);
    apic_wr(f, 0, EOI, 0);
    g_assert_cmpint(apic_take(f, 0), ==, -1);
    apic_wr(f, 0, EOI, 0);
    g_assert_cmpint(apic_take(f, 0), ==, 0x55);
    apic_wr(f, 0, EOI, 0);
    g_assert_cmpint(apic_take(f, 0), ==, 0x52);
    apic_wr(f, 0, EOI, 0);
    g_assert_cmpint(apic_take(f, 0), ==, 0x41);
    apic_wr(f, 0, EOI, 0);
    g_assert_cmpint(apic_take(f, 0), ==, -1);
    apic_wr(f, 0, EOI, 0); /* of nothing */
    g_assert_cmphex(apic_rd(f, 0, PPR), ==, 0);
}

static void test_tpr(struct apic_fixture *f, gconstpointer data)
{
    struct cpu *c = f->m->cpus[0];
    apic_enable(f);
    apic_wr(f, 0, TPR, 0x5f);
    g_assert_cmphex(c->apic_ops->tpr(c->apic), ==, 0x5f);
    g_assert_cmphex(apic_rd(f, 0, PPR), ==, 0x5f);
    apic_ipi(f, 0, 0, 0x5f);
    g_assert_cmpint(apic_take(f, 0), ==, -1);
    apic_ipi(f, 0, 0, 0x60);
    g_assert_cmpint(apic_take(f, 0), ==, 0x60);
    g_assert_cmphex(apic_rd(f, 0, PPR), ==, 0x60);
    apic_wr(f, 0, EOI, 0);
    g_assert_cmphex(apic_rd(f, 0, PPR), ==, 0x5f);
    c->apic_ops->set_tpr(c->apic, 0x40);
    g_assert_cmphex(apic_rd(f, 0, TPR), ==, 0x40);
    g_assert_true(c->events & CPU_EVENT_INTR);
    c->apic_ops->set_tpr(c->apic, 0x50);
    g_assert_false(c->events & CPU_EVENT_INTR); /* withdrawn before it was taken */
    c->apic_ops->set_tpr(c->apic, 0x40);
    g_assert_cmpint(apic_take(f, 0), ==, 0x5f);
    apic_wr(f, 0, EOI, 0);
    apic_ipi(f, 0, 0, 0x10); /* class 1 needs TPR class 0 */
    g_assert_cmpint(apic_take(f, 0), ==, -1);
    apic_wr(f, 0, TPR, 0x0f);
    g_assert_cmpint(apic_take(f, 0), ==, 0x10);
}

static void test_kicks(struct apic_fixture *f, gconstpointer data)
{
    apic_enable(f);
    apic_ipi(f, 1, 1, 0x40); /* to itself: its own thread, which looks anyway */
    g_assert_cmpuint(f->kicks[1], ==, 0);
    apic_ipi(f, 1, 2, 0x40);
    g_assert_cmpuint(f->kicks[2], ==, 1);
    apic_ipi(f, 1, 2, 0x41); /* knows already */
    g_assert_cmpuint(f->kicks[2], ==, 1);
    apic_wr(f, 3, TPR, 0xf0);
    apic_ipi(f, 1, 3, 0x41); /* cannot be taken now */
    g_assert_cmpuint(f->kicks[3], ==, 0);
}

/* --- Interprocessor interrupts ---------------------------------------------------------------- */

static void test_destinations(struct apic_fixture *f, gconstpointer data)
{
    apic_enable(f);
    apic_ipi(f, 0, 2, 0x44);
    g_assert_cmphex(apic_takers(f, 0x44), ==, 1u << 2);
    apic_ipi(f, 0, 9, 0x44);
    g_assert_cmphex(apic_takers(f, 0x44), ==, 0);
    apic_ipi(f, 0, 0xff, 0x44);
    g_assert_cmphex(apic_takers(f, 0x44), ==, 0xf);
    /* Flat. */
    for (unsigned i = 0; i < CPUS; i++)
        apic_wr(f, i, LDR, 0x01000000u << i);
    apic_ipi(f, 0, 0x0a, 0x845);
    g_assert_cmphex(apic_takers(f, 0x45), ==, 0xa);
    apic_ipi(f, 0, 0xff, 0x845);
    g_assert_cmphex(apic_takers(f, 0x45), ==, 0xf);
    apic_ipi(f, 0, 0, 0x845);
    g_assert_cmphex(apic_takers(f, 0x45), ==, 0);
    /* Clusters: 0 and 1 in cluster 1, 2 and 3 in cluster 2. */
    for (unsigned i = 0; i < CPUS; i++) {
        apic_wr(f, i, DFR, 0x0fffffff);
        apic_wr(f, i, LDR, (i < 2 ? 0x10000000u : 0x20000000u) | 0x01000000u << (i & 1));
    }
    apic_ipi(f, 0, 0x13, 0x846);
    g_assert_cmphex(apic_takers(f, 0x46), ==, 0x3);
    apic_ipi(f, 0, 0x22, 0x846);
    g_assert_cmphex(apic_takers(f, 0x46), ==, 0x8);
    apic_ipi(f, 0, 0x03, 0x846);
    g_assert_cmphex(apic_takers(f, 0x46), ==, 0);
    apic_ipi(f, 0, 0xff, 0x846);
    g_assert_cmphex(apic_takers(f, 0x46), ==, 0xf);
    /* Lowest priority takes turns. */
    unsigned seen = 0;
    for (unsigned i = 0; i < 4; i++) {
        apic_ipi(f, 0, 0xff, 0x147);
        unsigned who = apic_takers(f, 0x47);
        g_assert_true(who && !(who & (who - 1)));
        seen |= who;
    }
    g_assert_cmphex(seen, ==, 0xf);
}

static void test_shorthands(struct apic_fixture *f, gconstpointer data)
{
    apic_enable(f);
    apic_ipi(f, 1, 3, 0x40048); /* self, whatever the destination */
    g_assert_cmphex(apic_takers(f, 0x48), ==, 0x2);
    apic_ipi(f, 1, 3, 0x80049);
    g_assert_cmphex(apic_takers(f, 0x49), ==, 0xf);
    apic_ipi(f, 1, 3, 0xc004a);
    g_assert_cmphex(apic_takers(f, 0x4a), ==, 0xd);
    apic_ipi(f, 1, 0, 0xc0400); /* NMI to the others */
    for (unsigned i = 0; i < CPUS; i++)
        g_assert_cmphex(apic_take_events(f, i), ==, i == 1 ? 0 : CPU_EVENT_NMI);
    apic_ipi(f, 1, 0, 0x40400); /* NMI to self does not exist */
    g_assert_cmphex(apic_take_events(f, 1), ==, 0);
    g_assert_cmphex(apic_rd(f, 1, ICR), ==, 0x40400); /* never busy */
}

static void test_signals(struct apic_fixture *f, gconstpointer data)
{
    apic_enable(f);
    apic_ipi(f, 0, 2, 0x200);
    g_assert_cmphex(apic_take_events(f, 2), ==, CPU_EVENT_SMI);
    apic_ipi(f, 0, 2, 0x400);
    g_assert_cmphex(apic_take_events(f, 2), ==, CPU_EVENT_NMI);
    g_assert_cmpuint(f->kicks[2], ==, 2);
    apic_ipi(f, 0, 2, 0xc500); /* INIT, level, assert */
    g_assert_cmphex(apic_take_events(f, 2), ==, CPU_EVENT_INIT);
    apic_ipi(f, 0, 2, 0x8500); /* de-assert: nothing */
    g_assert_cmphex(apic_take_events(f, 2), ==, 0);
    apic_ipi(f, 0, 2, 0x4500); /* edge */
    g_assert_cmphex(apic_take_events(f, 2), ==, CPU_EVENT_INIT);
    apic_ipi(f, 0, 2, 0x46f0);
    g_assert_cmphex(apic_take_events(f, 2), ==, CPU_EVENT_SIPI);
    g_assert_cmphex(f->m->cpus[2]->sipi_vector, ==, 0xf0);
    apic_ipi(f, 0, 2, 0x300); /* reserved */
    g_assert_cmphex(apic_take_events(f, 2), ==, 0);
    /* A software-disabled APIC takes these, and sends. */
    apic_wr(f, 2, SVR, 0xff);
    apic_ipi(f, 0, 2, 0x4600);
    g_assert_cmphex(apic_take_events(f, 2), ==, CPU_EVENT_SIPI);
    apic_ipi(f, 2, 0, 0x400);
    g_assert_cmphex(apic_take_events(f, 0), ==, CPU_EVENT_NMI);
    /* INIT on the bus, taken by the processor: everything but id and base as after power-on. */
    apic_wr(f, 2, SVR, 0x1ff);
    apic_wr(f, 2, LDR, 0x04000000);
    apic_wr(f, 2, TPR, 0x20);
    apic_ipi(f, 0, 2, 0x77);
    apic_wr(f, 2, TMICT, 1000000);
    cpu_reset(f->m->cpus[2], true);
    g_assert_cmphex(apic_rd(f, 2, SVR), ==, 0xff);
    g_assert_cmphex(apic_rd(f, 2, LDR) | apic_rd(f, 2, TPR) | apic_rd(f, 2, IRR + 0x30) | apic_rd(f, 2, TMICT), ==, 0);
    g_assert_cmphex(apic_rd(f, 2, ID), ==, 2u << 24);
    g_assert_cmpint(apic_take(f, 2), ==, -1);
}

/* --- Errors and disabled states --------------------------------------------------------------- */

static uint32_t read_esr(struct apic_fixture *f, unsigned cpu)
{
    apic_wr(f, cpu, ESR, 0);
    return apic_rd(f, cpu, ESR);
}

static void test_errors(struct apic_fixture *f, gconstpointer data)
{
    apic_enable(f);
    apic_wr(f, 0, LVT_ERROR, 0xfe);
    apic_ipi(f, 0, 1, 0x0f);
    g_assert_cmphex(apic_rd(f, 0, ESR), ==, 0); /* shows after a write */
    g_assert_cmphex(read_esr(f, 0), ==, 0x20);
    g_assert_cmpint(apic_take(f, 0), ==, 0xfe);
    apic_wr(f, 0, EOI, 0);
    g_assert_cmphex(read_esr(f, 0), ==, 0);
    g_assert_cmpint(apic_take(f, 1), ==, -1); /* not sent */
    /* Received, from the I/O APIC. */
    g_assert_true(msi_deliver(f->m, 0xfee00000, 0x05));
    g_assert_cmpint(apic_take(f, 0), ==, 0xfe);
    apic_wr(f, 0, EOI, 0);
    g_assert_true(msi_deliver(f->m, 0xfee00000, 0x05)); /* told once until ESR is written */
    g_assert_cmpint(apic_take(f, 0), ==, -1);
    g_assert_cmphex(read_esr(f, 0), ==, 0x40);
    /* Registers there are not. */
    apic_rd(f, 0, 0x3d0);
    g_assert_cmphex(read_esr(f, 0), ==, 0x80);
    apic_wr(f, 0, 0x3f0, 0x50); /* self IPI is x2APIC's */
    g_assert_cmphex(read_esr(f, 0), ==, 0x80);
    g_assert_cmpint(apic_take(f, 0), ==, 0xfe);
    apic_wr(f, 0, EOI, 0);
    /* The error's own vector illegal: no end to it, and none to us. */
    apic_wr(f, 0, LVT_ERROR, 3);
    apic_rd(f, 0, 0x3d0);
    g_assert_cmphex(read_esr(f, 0), ==, 0xc0);
    g_assert_cmpint(apic_take(f, 0), ==, -1);
}

static void test_software_disable(struct apic_fixture *f, gconstpointer data)
{
    apic_ipi(f, 1, 0, 0x40); /* disabled since reset */
    g_assert_cmpint(apic_take(f, 0), ==, -1);
    g_assert_cmphex(apic_rd(f, 0, IRR + 0x20), ==, 0);
    apic_wr(f, 0, LVT_TIMER, 0x50); /* masks cannot be cleared */
    g_assert_cmphex(apic_rd(f, 0, LVT_TIMER), ==, 0x50 | MASKED);
    apic_enable(f);
    apic_wr(f, 0, LVT_TIMER, 0x50);
    apic_wr(f, 0, LVT_LINT1, 0x400);
    apic_ipi(f, 1, 0, 0x40);
    apic_wr(f, 0, SVR, 0xff);
    for (unsigned lvt = LVT_TIMER; lvt <= LVT_ERROR; lvt += 16)
        g_assert_cmphex(apic_rd(f, 0, lvt) & MASKED, ==, MASKED);
    g_assert_cmpint(apic_take(f, 0), ==, 0x40); /* what waited already is still there */
    apic_wr(f, 0, EOI, 0);
    apic_ipi(f, 1, 0, 0x40);
    g_assert_cmpint(apic_take(f, 0), ==, -1);
    apic_wr(f, 0, SVR, 0x1ff);
    g_assert_cmphex(apic_rd(f, 0, LVT_TIMER), ==, 0x50 | MASKED); /* the mask stays */
}

static void test_global_disable(struct apic_fixture *f, gconstpointer data)
{
    apic_enable(f);
    apic_wr(f, 0, TPR, 0x30);
    apic_wr(f, 0, TMICT, 100000);
    apic_ipi(f, 1, 0, 0x50);
    g_assert_true(apic_set_base(f, 0, APIC_DEFAULT_BASE | BASE_BSP));
    g_assert_cmpint(apic_take(f, 0), ==, -1);
    g_assert_cmphex(apic_rd(f, 0, TPR), ==, 0xffffffff); /* no such page */
    apic_ipi(f, 1, 0, 0x50);
    apic_ipi(f, 1, 0, 0x400);
    g_assert_cmphex(apic_take_events(f, 0), ==, 0);
    /* INTR and NMI are the processor's own pins again. */
    struct irq_line lint0 = lapic_lint(f->lapic[0], 0), lint1 = lapic_lint(f->lapic[0], 1);
    irq_raise(&lint0);
    g_assert_true(f->m->cpus[0]->events & CPU_EVENT_INTR);
    irq_lower(&lint0);
    g_assert_false(f->m->cpus[0]->events & CPU_EVENT_INTR);
    irq_pulse(&lint1);
    g_assert_cmphex(apic_take_events(f, 0), ==, CPU_EVENT_NMI);
    /* Enabled again: as new. */
    g_assert_true(apic_set_base(f, 0, APIC_DEFAULT_BASE | BASE_BSP | BASE_EN));
    g_assert_cmphex(apic_rd(f, 0, SVR), ==, 0xff);
    g_assert_cmphex(apic_rd(f, 0, TPR) | apic_rd(f, 0, IRR + 0x20) | apic_rd(f, 0, TMICT), ==, 0);
    g_assert_cmphex(apic_rd(f, 0, LVT_LINT0), ==, MASKED);
}

static void test_base(struct apic_fixture *f, gconstpointer data)
{
    const uint64_t en = APIC_DEFAULT_BASE | BASE_EN;
    g_assert_false(apic_set_base(f, 1, en | 1));
    g_assert_false(apic_set_base(f, 1, en | 0x200));
    g_assert_false(apic_set_base(f, 1, en | UINT64_C(1) << 52));
    g_assert_false(apic_set_base(f, 1, APIC_DEFAULT_BASE | BASE_X2));
    g_assert_true(apic_set_base(f, 1, en | BASE_X2));
    g_assert_false(apic_set_base(f, 1, en)); /* not back */
    g_assert_true(apic_set_base(f, 1, APIC_DEFAULT_BASE));
    g_assert_false(apic_set_base(f, 1, en | BASE_X2)); /* not at once */
    g_assert_true(apic_set_base(f, 1, en));
    g_assert_true(apic_set_base(f, 1, en | BASE_X2));
    cpu_reset(f->m->cpus[1], true);
    g_assert_cmphex(apic_base(f, 1), ==, en | BASE_X2); /* INIT leaves it */
    f->lapic[1]->type->reset(f->lapic[1]);
    g_assert_cmphex(apic_base(f, 1), ==, en);
    /* Moved elsewhere, over RAM: its own processor sees it there and no longer here. */
    g_assert_true(apic_set_base(f, 1, 0x80000 | BASE_EN));
    machine_set_current_cpu(1);
    g_assert_cmphex(test_read(f->m, 0x80000 + ID, 4), ==, 1u << 24);
    test_write(f->m, 0x80000 + TPR, 0x77, 4);
    g_assert_cmphex(test_read(f->m, 0x80000 + TPR, 4), ==, 0x77);
    g_assert_cmphex(test_read(f->m, APIC_DEFAULT_BASE + TPR, 4), ==, 0xffffffff);
    machine_set_current_cpu(2);
    g_assert_cmphex(test_read(f->m, 0x80000 + TPR, 4), ==, 0xffffffff);
    machine_set_current_cpu(-1);
    test_state_roundtrip(f->lapic[1]);
    g_assert_true(apic_set_base(f, 1, en));
    g_assert_cmphex(apic_rd(f, 1, TPR), ==, 0x77);
    test_write(f->m, 0x80000, 0x12345678, 4);
    g_assert_cmphex(test_read(f->m, 0x80000, 4), ==, 0x12345678);
}

/* --- Pins and other controllers --------------------------------------------------------------- */

static void init_pic(struct apic_fixture *f)
{
    static const uint8_t words[] = { 0x11, 0x20, 4, 1 };
    for (unsigned i = 0; i < 4; i++)
        test_outb(f->m, i ? 0x21 : 0x20, words[i]);
}

static void test_pic(struct apic_fixture *f, gconstpointer data)
{
    struct irq_line irq3 = i8259_input(f->pic, 3), irq1 = i8259_input(f->pic, 1);
    init_pic(f);
    /* Out of reset, APIC software-disabled: LINT0 of the boot processor lets the PIC through, the others' do not. */
    irq_raise(&irq3);
    g_assert_false(f->m->cpus[1]->events & CPU_EVENT_INTR);
    g_assert_cmpint(apic_take(f, 0), ==, 0x23);
    g_assert_cmpint(apic_take(f, 0), ==, -1);
    test_outb(f->m, 0x20, 0x20);
    /* TPR does not hold it back, and it comes before vectors of the APIC. */
    apic_enable(f);
    apic_wr(f, 0, LVT_LINT0, 0x700);
    apic_wr(f, 0, TPR, 0xff);
    irq_raise(&irq1);
    g_assert_cmpint(apic_take(f, 0), ==, 0x21);
    apic_wr(f, 0, EOI, 0); /* no business of the APIC */
    g_assert_cmpint(apic_take(f, 0), ==, -1);
    test_outb(f->m, 0x20, 0x20);
    apic_wr(f, 0, TPR, 0);
    irq_lower(&irq1);
    irq_raise(&irq1);
    apic_ipi(f, 0, 0, 0xf0);
    g_assert_cmpint(apic_take(f, 0), ==, 0x21);
    g_assert_cmpint(apic_take(f, 0), ==, 0xf0);
    apic_wr(f, 0, EOI, 0);
    test_outb(f->m, 0x20, 0x20);
    /* Masked: waits; gone before it was taken: nothing. */
    apic_wr(f, 0, LVT_LINT0, 0x700 | MASKED);
    irq_lower(&irq1);
    irq_raise(&irq1);
    g_assert_cmpint(apic_take(f, 0), ==, -1);
    apic_wr(f, 0, LVT_LINT0, 0x700);
    g_assert_true(f->m->cpus[0]->events & CPU_EVENT_INTR);
    irq_lower(&irq1);
    g_assert_cmpint(apic_take(f, 0), ==, -1);
    /* By an ExtINT message of the I/O APIC. */
    apic_wr(f, 0, LVT_LINT0, 0x700 | MASKED);
    struct irq_line pin0 = ioapic_input(f->ioapic, 0);
    test_write(f->m, IOAPIC_DEFAULT_BASE, 0x11, 4);
    test_write(f->m, IOAPIC_DEFAULT_BASE + 0x10, 2u << 24, 4);
    test_write(f->m, IOAPIC_DEFAULT_BASE, 0x10, 4);
    test_write(f->m, IOAPIC_DEFAULT_BASE + 0x10, 0x700, 4);
    irq_raise(&irq1);
    irq_raise(&pin0);
    g_assert_cmpint(apic_take(f, 2), ==, 0x21);
    g_assert_cmpint(apic_take(f, 2), ==, -1);
}

static void test_lint(struct apic_fixture *f, gconstpointer data)
{
    struct irq_line lint0 = lapic_lint(f->lapic[1], 0), lint1 = lapic_lint(f->lapic[1], 1);
    apic_enable(f);
    irq_pulse(&lint1);
    g_assert_cmphex(apic_take_events(f, 1), ==, 0); /* masked */
    apic_wr(f, 1, LVT_LINT1, 0x400);
    irq_raise(&lint1);
    irq_raise(&lint1);
    g_assert_cmphex(apic_take_events(f, 1), ==, CPU_EVENT_NMI);
    irq_lower(&lint1);
    g_assert_cmphex(apic_take_events(f, 1), ==, 0);
    apic_wr(f, 1, LVT_LINT1, 0x200);
    irq_pulse(&lint1);
    g_assert_cmphex(apic_take_events(f, 1), ==, CPU_EVENT_SMI);
    /* Fixed, edge. */
    apic_wr(f, 1, LVT_LINT0, 0x61);
    irq_raise(&lint0);
    g_assert_cmpint(apic_take(f, 1), ==, 0x61);
    apic_wr(f, 1, EOI, 0);
    g_assert_cmpint(apic_take(f, 1), ==, -1);
    irq_lower(&lint0);
    /* Fixed, level: again after each EOI while it is up. */
    apic_wr(f, 1, LVT_LINT0, 0x8062);
    irq_raise(&lint0);
    g_assert_cmphex(apic_rd(f, 1, LVT_LINT0), ==, 0xc062);
    g_assert_cmpint(apic_take(f, 1), ==, 0x62);
    g_assert_cmphex(apic_rd(f, 1, TMR + 0x30), ==, 1u << 2);
    irq_lower(&lint0);
    irq_raise(&lint0);
    g_assert_cmpint(apic_take(f, 1), ==, -1);
    apic_wr(f, 1, LVT_LINT0, 0x8062); /* written anew it is still in service */
    g_assert_cmphex(apic_rd(f, 1, IRR + 0x30), ==, 0);
    apic_wr(f, 1, EOI, 0);
    g_assert_cmpint(apic_take(f, 1), ==, 0x62);
    irq_lower(&lint0);
    apic_wr(f, 1, EOI, 0);
    g_assert_cmpint(apic_take(f, 1), ==, -1);
    g_assert_cmphex(apic_rd(f, 1, LVT_LINT0), ==, 0x8062);
    /* Up when the mask goes. */
    apic_wr(f, 1, LVT_LINT0, 0x8062 | MASKED);
    irq_raise(&lint0);
    g_assert_cmpint(apic_take(f, 1), ==, -1);
    apic_wr(f, 1, LVT_LINT0, 0x8062);
    g_assert_cmpint(apic_take(f, 1), ==, 0x62);
}

static void test_ioapic(struct apic_fixture *f, gconstpointer data)
{
    struct irq_line pin = ioapic_input(f->ioapic, 9);
    apic_enable(f);
    test_write(f->m, IOAPIC_DEFAULT_BASE, 0x10 + 18, 4);
    test_write(f->m, IOAPIC_DEFAULT_BASE + 0x10, 0x8071, 4);
    irq_raise(&pin);
    g_assert_cmphex(apic_rd(f, 0, TMR + 0x30), ==, 1u << 0x11);
    for (unsigned i = 0; i < 3; i++) {
        g_assert_cmpint(apic_take(f, 0), ==, 0x71);
        g_assert_cmpint(apic_take(f, 0), ==, -1);
        apic_wr(f, 0, EOI, 0); /* the EOI goes on to the I/O APIC */
    }
    g_assert_cmpint(apic_take(f, 0), ==, 0x71);
    /* Suppressed: system software ends it at the I/O APIC itself. */
    apic_wr(f, 0, SVR, 0x11ff);
    apic_wr(f, 0, EOI, 0);
    g_assert_cmpint(apic_take(f, 0), ==, -1);
    test_write(f->m, IOAPIC_DEFAULT_BASE + 0x40, 0x71, 4);
    g_assert_cmpint(apic_take(f, 0), ==, 0x71);
    irq_lower(&pin);
    apic_wr(f, 0, SVR, 0x1ff);
    apic_wr(f, 0, EOI, 0);
    g_assert_cmpint(apic_take(f, 0), ==, -1);
    /* The next on that vector is an edge: TMR follows. */
    g_assert_true(msi_deliver(f->m, 0xfee00000, 0x71));
    g_assert_cmphex(apic_rd(f, 0, TMR + 0x30), ==, 0);
    g_assert_cmpint(apic_take(f, 0), ==, 0x71);
}

/* --- State and noise -------------------------------------------------------------------------- */

static void test_state(struct apic_fixture *f, gconstpointer data)
{
    apic_enable(f);
    apic_wr(f, 1, LDR, 0x02000000);
    apic_wr(f, 1, DFR, 0x0fffffff);
    apic_wr(f, 1, TPR, 0x13);
    apic_wr(f, 1, LVT_ERROR, 0xfe);
    apic_ipi(f, 1, 0, 3);
    apic_ipi(f, 0, 1, 0x66);
    apic_ipi(f, 0, 1, 0x44);
    g_assert_cmpint(apic_take(f, 1), ==, 0xfe);
    apic_wr(f, 1, LVT_TIMER, 0x20099);
    apic_wr(f, 1, TDCR, 3);
    apic_wr(f, 1, TMICT, 100000);
    apic_counts(f, 12345);
    test_state_transfer(f->lapic[1], f->lapic[2]);
    apic_wr(f, 1, EOI, 0);
    apic_wr(f, 2, EOI, 0);
    g_assert_cmpint(apic_take(f, 1), ==, 0x66);
    g_assert_cmpint(apic_take(f, 2), ==, 0x66); /* the event came with it */
    apic_wr(f, 1, EOI, 0);
    apic_wr(f, 2, EOI, 0);
    g_assert_cmpuint(apic_rd(f, 1, TMCCT), ==, apic_rd(f, 2, TMCCT));
    apic_counts(f, 16 * 100000);
    g_assert_cmpint(apic_take(f, 2), ==, 0x99);
    /* Hostile bytes: refused or harmless. A periodic timer without period first. */
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    state_save(bytes, lapic_type.state, "x", f->lapic[1]);
    g_autofree uint8_t *no_period = g_memdup2(bytes->data, bytes->len);
    memset(no_period + bytes->len - 32, 0, 4); /* initial_count */
    memset(no_period + bytes->len - 24, 0, 8); /* expires; behind it tsc_deadline and the timer, which is armed */
    struct state_reader lie = { .data = no_period, .size = bytes->len };
    g_assert_true(state_load(&lie, lapic_type.state, "x", f->lapic[3], NULL));
    g_assert_cmpuint(apic_rd(f, 3, TMICT), ==, 0);
    apic_wr(f, 3, EOI, 0);
    apic_counts(f, 100 * 16 * 100000);
    g_assert_cmpint(apic_take(f, 3), ==, 0x99);
    GRand *r = g_rand_new_with_seed(1);
    for (unsigned i = 0; i < 3000; i++) {
        g_autofree uint8_t *copy = g_memdup2(bytes->data, bytes->len);
        for (unsigned k = 0; k < 3; k++)
            copy[g_rand_int(r) % bytes->len] = g_rand_int(r);
        struct state_reader in = { .data = copy, .size = bytes->len };
        g_autoptr(GError) err = NULL;
        state_load(&in, lapic_type.state, "x", f->lapic[3], &err);
        test_step(f->m, 100000);
        apic_rd(f, 3, TMCCT);
        f->m->cpus[3]->apic_ops->acknowledge(f->m->cpus[3]->apic);
    }
    g_rand_free(r);
    bus_reset(f->m->system_bus);
}

static void test_random(struct apic_fixture *f, gconstpointer data)
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
            apic_wrmsr(f, n, 0x800 + g_rand_int_range(r, 0, 0x40), g_rand_int(r) >> g_rand_int_range(r, 0, 32));
            apic_rdmsr(f, n, 0x800 + g_rand_int_range(r, 0, 0x40), &value);
            msi_deliver(f->m, 0xfee00000 | g_rand_int(r) % 0x100000, g_rand_int(r));
            c->apic_ops->has_interrupt(c->apic);
            c->apic_ops->acknowledge(c->apic);
        }
        static const unsigned modes[] = { 0, BASE_EN, BASE_EN | BASE_X2 };
        if (g_rand_int_range(r, 0, 8) == 0)
            apic_set_base(f, n, (g_rand_boolean(r) ? APIC_DEFAULT_BASE : 0x7000) | modes[g_rand_int_range(r, 0, 3)]);
        struct irq_line pin = lapic_lint(f->lapic[n], g_rand_boolean(r));
        irq_set(&pin, g_rand_boolean(r));
        test_state_roundtrip(f->lapic[n]);
    }
    g_rand_free(r);
}

#define ADD(name) g_test_add("/lapic/" #name, struct apic_fixture, NULL, apic_set_up, test_##name, apic_tear_down)

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
    ADD(state);
    ADD(random);
    return g_test_run();
}
