/* Fuzz target: two local APICs and an I/O APIC: registers, MSRs, messages, pins, acknowledges. */
#include "cpu/cpu.h"
#include "hw/irq/apic_bus.h"
#include "hw/irq/ioapic.h"
#include "hw/irq/lapic.h"
#include "tests/lib/device_fuzz.h"

#define CPUS 2

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct cpu_model *model;

static void free_cpus(struct machine *m)
{
    for (unsigned i = 0; i < CPUS; i++)
        cpu_free(m->cpus[i]);
}

static void poke(struct device_fuzz *f, uint32_t random)
{
    struct cpu *cpu = f->m->cpus[random & 1];
    uint32_t value = random >> 12;
    uint64_t got;
    machine_set_current_cpu(random & 1);
    switch (random >> 1 & 7) {
    case 0: msi_deliver(f->m, 0xfee00000 | (random & 0x8000) >> 3 | (random & 12), value); break;
    case 1: cpu->apic_ops->write_msr(cpu->apic, 0x800 + (random >> 4 & 0x3f), value); break;
    case 2: cpu->apic_ops->write_msr(cpu->apic, 0x6e0, cpu_read_tsc(cpu) + value); break;
    case 3: cpu->apic_ops->read_msr(cpu->apic, 0x800 + (random >> 4 & 0x3f), &got); break;
    case 4:
        cpu->apic_ops->set_base_msr(cpu->apic, (uint64_t)(value & 1 ? 0xfee00 : value) << 12 | (random & 0xf00));
        break;
    case 5: cpu->pv_eoi = value | 1; break;
    case 6: cpu->apic_ops->set_tpr(cpu->apic, value); break;
    case 7:
        cpu->apic_ops->has_interrupt(cpu->apic);
        cpu->apic_ops->acknowledge(cpu->apic);
        break;
    }
    if (random >> 4 & 1)
        test_state_roundtrip(f->opaque);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct device_fuzz f;
    device_fuzz_init(&f);
    if (!model)
        model = cpu_model_parse("max", NULL);
    test_add_ram(f.m, 1 << 20);
    f.m->cpus = g_new0(struct cpu *, CPUS);
    f.m->cpu_count = CPUS;
    f.m->board_free = free_cpus;
    test_add(&apic_bus_type, f.m->system_bus, NULL);
    for (unsigned i = 0; i < CPUS; i++) {
        f.m->cpus[i] = cpu_new(f.m, i, model);
        g_autofree char *index = g_strdup_printf("index=%u", i);
        f.chip = test_add(&lapic_type, f.m->system_bus, index, NULL);
        f.in[2 * i] = lapic_lint(f.chip, 0);
        f.in[2 * i + 1] = lapic_lint(f.chip, 1);
    }
    struct device *ioapic = test_add(&ioapic_type, f.m->system_bus, NULL);
    for (int i = 4; i < FUZZ_LINES; i++)
        f.in[i] = ioapic_input(ioapic, i % IOAPIC_PINS);
    f.opaque = ioapic;
    f.poke = poke;
    bool to_ioapic = size && data[0] & 8;
    f.base = to_ioapic ? IOAPIC_DEFAULT_BASE : APIC_DEFAULT_BASE;
    f.size = to_ioapic ? 0x44 : 0x400;
    machine_set_current_cpu(0);
    device_fuzz_run(&f, data, size);
    machine_set_current_cpu(-1);
    return 0;
}
