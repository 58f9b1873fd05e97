/* Local APICs that a kernel has for a while: all state goes there and back, messages and EOIs find their way meanwhile. */
#include "tests/lib/apic_test.h"

#include "hw/core/clock.h"

static void hand_over(struct apic_fixture *f, unsigned cpu, struct apic_image *image)
{
    f->m->cpus[cpu]->apic_ops->to_kernel(f->m->cpus[cpu]->apic, image);
}

static void take_back(struct apic_fixture *f, unsigned cpu, const struct apic_image *image)
{
    f->m->cpus[cpu]->apic_ops->from_kernel(f->m->cpus[cpu]->apic, image);
}

static void test_registers(struct apic_fixture *f, gconstpointer data)
{
    static const uint16_t regs[] = { ID,        TPR,       LDR,       DFR,   SVR,  ISR + 0x20, TMR + 0x20, IRR + 0x20, ESR,
                                     ICR,       ICR2,      LVT_TIMER, LVT_PERF, LVT_LINT0, LVT_LINT1, LVT_ERROR, TMICT, TMCCT,
                                     TDCR };
    uint32_t before[G_N_ELEMENTS(regs)];
    struct apic_image image;
    apic_enable(f);
    apic_wr(f, 1, LDR, 0x42000000);
    apic_wr(f, 1, DFR, 0);
    apic_wr(f, 1, LVT_PERF, 0x400);
    apic_wr(f, 1, LVT_LINT1, 0x12345);
    apic_wr(f, 1, TDCR, 0xb);
    apic_wr(f, 1, LVT_TIMER, 0x20031);
    apic_wr(f, 1, TMICT, 100000);
    apic_ipi(f, 0, 1, 0x50);
    g_assert_cmpint(apic_take(f, 1), ==, 0x50);
    apic_ipi(f, 0, 1, 0x41);
    apic_wr(f, 1, TPR, 0x20);
    apic_ipi(f, 1, 2, 0x77);
    for (unsigned k = 0; k < G_N_ELEMENTS(regs); k++)
        before[k] = apic_rd(f, 1, regs[k]);
    hand_over(f, 1, &image);
    for (unsigned k = 0; k < G_N_ELEMENTS(regs); k++)
        g_assert_cmphex(image.regs[regs[k] / 16], ==, before[k]);
    apic_counts(f, 200000); /* nothing runs out here any more */
    g_assert_false(f->m->cpus[1]->events & CPU_EVENT_INTR);
    take_back(f, 1, &image);
    for (unsigned k = 0; k < G_N_ELEMENTS(regs); k++)
        g_assert_cmphex(apic_rd(f, 1, regs[k]), ==, before[k]);
    apic_wr(f, 1, EOI, 0);
    g_assert_cmpint(apic_take(f, 1), ==, 0x41);
    apic_wr(f, 1, EOI, 0);
    apic_counts(f, image.regs[TMCCT / 16]);
    g_assert_cmpint(apic_take(f, 1), ==, 0x31);
}

static void test_timers(struct apic_fixture *f, gconstpointer data)
{
    struct apic_image image;
    apic_enable(f);
    /* What runs out there before it has interrupted does so here. */
    apic_wr(f, 0, TDCR, 0xb);
    apic_wr(f, 0, LVT_TIMER, 0x31);
    apic_wr(f, 0, TMICT, 1000);
    hand_over(f, 0, &image);
    g_assert_cmpuint(image.regs[TMCCT / 16], ==, 1000);
    image.regs[TMCCT / 16] = 0;
    take_back(f, 0, &image);
    g_assert_cmpint(apic_take(f, 0), ==, 0x31);
    apic_wr(f, 0, EOI, 0);
    /* If its interrupt is to be seen there is no other. */
    apic_wr(f, 0, TMICT, 1000);
    hand_over(f, 0, &image);
    image.regs[TMCCT / 16] = 0;
    image.regs[IRR / 16 + 1] = 1u << 0x11;
    take_back(f, 0, &image);
    g_assert_cmpint(apic_take(f, 0), ==, 0x31);
    apic_wr(f, 0, EOI, 0);
    g_assert_cmpint(apic_take(f, 0), ==, -1);
    /* A deadline, to come and past. */
    uint64_t tsc = cpu_read_tsc(f->m->cpus[0]), value;
    apic_wr(f, 0, LVT_TIMER, 0x40032);
    g_assert_true(apic_wrmsr(f, 0, DEADLINE_MSR, tsc + 1000000));
    hand_over(f, 0, &image);
    g_assert_cmphex(image.tsc_deadline, ==, tsc + 1000000);
    take_back(f, 0, &image);
    g_assert_true(apic_rdmsr(f, 0, DEADLINE_MSR, &value) && value == tsc + 1000000);
    g_assert_cmpint(apic_take(f, 0), ==, -1);
    hand_over(f, 0, &image);
    image.tsc_deadline = tsc > 1 ? tsc - 1 : 1;
    clock_step(f->m->clock, 1000000);
    take_back(f, 0, &image);
    g_assert_cmpint(apic_take(f, 0), ==, 0x32);
}

static void test_x2apic(struct apic_fixture *f, gconstpointer data)
{
    struct apic_image image;
    apic_enable_x2apic(f);
    apic_wrx(f, 3, TPR, 0x20);
    uint64_t ldr = apic_rdx(f, 3, LDR);
    hand_over(f, 3, &image);
    g_assert_cmphex(image.base, ==, apic_base(f, 3));
    g_assert_cmphex(image.regs[ID / 16], ==, 3u << 24);
    take_back(f, 3, &image);
    g_assert_cmphex(apic_rdx(f, 3, TPR), ==, 0x20);
    g_assert_cmphex(apic_rdx(f, 3, LDR), ==, ldr);
    g_assert_cmphex(apic_rdx(f, 3, ID), ==, 3);
}

/* --- Messages ------------------------------------------------------------------------------------------------------- */

struct sink {
    unsigned count, pins;
    struct msi_message last;
};

static bool sink_send(void *opaque, const struct msi_message *msg)
{
    struct sink *s = opaque;
    s->count++;
    s->last = *msg;
    return true;
}

static void sink_pin(void *opaque, unsigned pin)
{
    struct sink *s = opaque;
    s->pins |= 1u << pin;
}

static void set_pin(struct apic_fixture *f, unsigned pin, uint32_t low, uint8_t dest)
{
    test_write(f->m, IOAPIC_DEFAULT_BASE, 0x11 + 2 * pin, 4);
    test_write(f->m, IOAPIC_DEFAULT_BASE + 0x10, (uint32_t)dest << 24, 4);
    test_write(f->m, IOAPIC_DEFAULT_BASE, 0x10 + 2 * pin, 4);
    test_write(f->m, IOAPIC_DEFAULT_BASE + 0x10, low, 4);
}

static void test_messages(struct apic_fixture *f, gconstpointer data)
{
    struct sink s = { 0 };
    struct msi_sink sink = { sink_send, sink_pin, &s };
    struct apic_image images[CPUS];
    void *apic = f->m->cpus[0]->apic;
    const struct cpu_apic_ops *ops = f->m->cpus[0]->apic_ops;
    set_pin(f, 9, 0x8861, 3); /* level, logical */
    g_assert_cmphex(f->m->pins[9].addr, ==, 0xfee03004);
    g_assert_cmphex(f->m->pins[9].data, ==, 0xc061);
    for (unsigned k = 0; k < CPUS; k++)
        hand_over(f, k, &images[k]);
    f->m->msi_sink = &sink;
    set_pin(f, 4, 0x0162, 2); /* an edge, to whoever has the lowest priority */
    set_pin(f, 10, 0xa063, 1);
    g_assert_cmphex(s.pins, ==, 1u << 10);
    struct irq_line edge = ioapic_input(f->ioapic, 4), level = ioapic_input(f->ioapic, 9);
    irq_raise(&edge);
    g_assert_cmpuint(s.count, ==, 1);
    g_assert_cmphex(s.last.addr, ==, 0xfee02008);
    g_assert_cmphex(s.last.data, ==, 0x162);
    irq_raise(&level);
    g_assert_cmpuint(s.count, ==, 2);
    g_assert_cmphex(s.last.addr, ==, 0xfee03004);
    g_assert_cmphex(s.last.data, ==, 0xc061);
    ops->broadcast_eoi(apic, 0x61); /* still up: sent again */
    g_assert_cmpuint(s.count, ==, 3);
    irq_lower(&level);
    ops->broadcast_eoi(apic, 0x61);
    g_assert_cmpuint(s.count, ==, 3);
    g_assert_true(msi_deliver(f->m, 0xfee01000, 0x55));
    g_assert_cmphex(s.last.data, ==, 0x55);
    f->m->msi_sink = NULL;
    for (unsigned k = 0; k < CPUS; k++)
        take_back(f, k, &images[k]);
}

/* The 8259A asks whatever our LINT0 says. */
static void test_pic(struct apic_fixture *f, gconstpointer data)
{
    struct apic_image image;
    void *apic = f->m->cpus[0]->apic;
    const struct cpu_apic_ops *ops = f->m->cpus[0]->apic_ops;
    static const uint8_t init[][2] = { { 0x20, 0x11 }, { 0x21, 0x08 }, { 0x21, 4 }, { 0x21, 1 }, { 0x21, 0xfe } };
    for (unsigned k = 0; k < G_N_ELEMENTS(init); k++)
        test_outb(f->m, init[k][0], init[k][1]);
    apic_wr(f, 0, LVT_LINT0, MASKED);
    hand_over(f, 0, &image);
    g_assert_false(ops->pic_asks(apic));
    struct irq_line irq0 = i8259_input(f->pic, 0);
    irq_raise(&irq0);
    g_assert_true(f->m->cpus[0]->events & CPU_EVENT_INTR);
    g_assert_true(ops->pic_asks(apic));
    g_assert_cmpint(ops->pic_acknowledge(apic), ==, 8);
    g_assert_false(ops->pic_asks(apic));
    g_assert_false(f->m->cpus[0]->events & CPU_EVENT_INTR);
    take_back(f, 0, &image);
}

#define ADD(name) g_test_add("/lapic_kernel/" #name, struct apic_fixture, NULL, apic_set_up, test_##name, apic_tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD(registers);
    ADD(timers);
    ADD(x2apic);
    ADD(messages);
    ADD(pic);
    return g_test_run();
}
