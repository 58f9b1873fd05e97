/* Help for tests of local APICs: see apic_test.h. */
#include "tests/lib/apic_test.h"

#include "hw/core/clock.h"

#include <string.h>

static struct apic_fixture *the_fixture; /* for kick(), which is told nothing but the processor */

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
    struct apic_fixture *f = opaque;
    for (unsigned i = 0; i < CPUS; i++) {
        struct irq_line l = lapic_lint(f->lapic[i], 0);
        irq_set(&l, level);
    }
}

void apic_set_up(struct apic_fixture *f, gconstpointer data)
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

void apic_tear_down(struct apic_fixture *f, gconstpointer data)
{
    machine_set_current_cpu(-1);
    for (unsigned i = 0; i < CPUS; i++)
        test_state_roundtrip(f->lapic[i]);
    test_machine_free(f->m);
    cpu_model_free(f->model);
}

/* --- What a processor does -------------------------------------------------------------------- */

uint32_t apic_rd(struct apic_fixture *f, unsigned cpu, unsigned reg)
{
    machine_set_current_cpu(cpu);
    uint32_t value = test_read(f->m, APIC_DEFAULT_BASE + reg, 4);
    machine_set_current_cpu(-1);
    return value;
}

void apic_wr(struct apic_fixture *f, unsigned cpu, unsigned reg, uint32_t value)
{
    machine_set_current_cpu(cpu);
    test_write(f->m, APIC_DEFAULT_BASE + reg, value, 4);
    machine_set_current_cpu(-1);
}

bool apic_rdmsr(struct apic_fixture *f, unsigned cpu, uint32_t msr, uint64_t *value)
{
    struct cpu *c = f->m->cpus[cpu];
    return c->apic_ops->read_msr(c->apic, msr, value);
}

bool apic_wrmsr(struct apic_fixture *f, unsigned cpu, uint32_t msr, uint64_t value)
{
    struct cpu *c = f->m->cpus[cpu];
    return c->apic_ops->write_msr(c->apic, msr, value);
}

uint64_t apic_rdx(struct apic_fixture *f, unsigned cpu, unsigned reg)
{
    uint64_t value;
    g_assert_true(apic_rdmsr(f, cpu, 0x800 + reg / 16, &value));
    return value;
}

void apic_wrx(struct apic_fixture *f, unsigned cpu, unsigned reg, uint64_t value)
{
    g_assert_true(apic_wrmsr(f, cpu, 0x800 + reg / 16, value));
}

bool apic_set_base(struct apic_fixture *f, unsigned cpu, uint64_t value)
{
    struct cpu *c = f->m->cpus[cpu];
    return c->apic_ops->set_base_msr(c->apic, value);
}

uint64_t apic_base(struct apic_fixture *f, unsigned cpu)
{
    struct cpu *c = f->m->cpus[cpu];
    return c->apic_ops->base_msr(c->apic);
}

int apic_take(struct apic_fixture *f, unsigned cpu)
{
    struct cpu *c = f->m->cpus[cpu];
    bool has = c->apic_ops->has_interrupt(c->apic);
    g_assert_cmpint(!!(c->events & CPU_EVENT_INTR), ==, has);
    int vector = c->apic_ops->acknowledge(c->apic);
    g_assert_cmpint(vector >= 0, ==, has);
    return vector;
}

uint32_t apic_take_events(struct apic_fixture *f, unsigned cpu)
{
    uint32_t mask = CPU_EVENT_NMI | CPU_EVENT_SMI | CPU_EVENT_INIT | CPU_EVENT_SIPI,
             got = f->m->cpus[cpu]->events & mask;
    cpu_event_clear(f->m->cpus[cpu], mask);
    return got;
}

void apic_enable(struct apic_fixture *f)
{
    for (unsigned i = 0; i < CPUS; i++)
        apic_wr(f, i, SVR, 0x1ff);
}

void apic_enable_x2apic(struct apic_fixture *f)
{
    for (unsigned i = 0; i < CPUS; i++) {
        g_assert_true(apic_set_base(f, i, apic_base(f, i) | BASE_X2));
        apic_wrx(f, i, SVR, 0x1ff);
    }
}

void apic_ipi(struct apic_fixture *f, unsigned from, uint8_t dest, uint32_t low)
{
    apic_wr(f, from, ICR2, (uint32_t)dest << 24);
    apic_wr(f, from, ICR, low);
}

unsigned apic_takers(struct apic_fixture *f, int vector)
{
    unsigned who = 0;
    for (unsigned i = 0; i < CPUS; i++) {
        int got = apic_take(f, i);
        if (got >= 0) {
            g_assert_cmphex(got, ==, vector);
            who |= 1u << i;
            if (apic_base(f, i) & BASE_X2)
                apic_wrx(f, i, EOI, 0);
            else
                apic_wr(f, i, EOI, 0);
        }
    }
    return who;
}

void apic_counts(struct apic_fixture *f, int64_t n)
{
    uint64_t at = clock_ticks(clock_now(f->m->clock), f->hz) + n;
    test_step(f->m, clock_ticks_to_ns(at, f->hz) - clock_now(f->m->clock));
}
