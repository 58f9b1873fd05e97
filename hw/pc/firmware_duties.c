/*
 * What firmware does to the chips before it starts a kernel, done by the board for a kernel that is started without: as
 * SeaBIOS does for this board (its src/fw/pciinit.c, src/fw/mtrr.c, src/hw/pic.c), through the same registers.
 *
 * PCI base addresses are left to the kernel. VM lock, vCPUs paused, right after reset.
 */
#include "cpu/cpu.h"
#include "hw/disk/piix3_ide.h"
#include "hw/irq/apic_bus.h"
#include "hw/isa/piix3.h"
#include "hw/isa/piix4_pm.h"
#include "hw/pc/board.h"
#include "hw/pc/text_mode.h"
#include "hw/pci/i440fx.h"

static void out8(struct pc *pc, uint16_t port, uint8_t value)
{
    address_space_store(&pc->m->ports, port, value, 1);
}

/* RAM, readable and writable, from 0xc0000 to 1 MiB. */
static void open_shadow_ram(struct pc *pc)
{
    enum { PAM0 = 0x59, PAM6 = 0x5f };
    struct pci_device *bridge = &pc->host->function->pci;
    for (unsigned reg = PAM0; reg <= PAM6; reg++)
        pci_config_write(bridge, reg, reg == PAM0 ? 0x30 : 0x33, 1);
}

/* PIRQA-D to irqs 10, 10, 11, 11, which thereby become level-triggered; each function is told its irq. */
static void route_interrupts(struct pc *pc)
{
    enum { PIRQ_ROUTE = 0x60, ELCR = 0x4d0 };
    static const uint8_t irqs[PCI_PIRQS] = { 10, 10, 11, 11 };
    for (unsigned i = 0; i < PCI_PIRQS; i++)
        pci_config_write(&pc->piix3->pci, PIRQ_ROUTE + i, irqs[i], 1);
    out8(pc, ELCR, 0);
    out8(pc, ELCR + 1, 1 << (10 - 8) | 1 << (11 - 8) | 1 << (PC_SCI_IRQ - 8));
    struct pci_bus *bus = &pc->host->bus;
    for (unsigned devfn = 0; devfn < G_N_ELEMENTS(bus->functions); devfn++) {
        struct pci_device *p = bus->functions[devfn];
        unsigned pin = p ? p->config[PCI_INTERRUPT_PIN] : 0;
        if (pin)
            pci_config_write(p, PCI_INTERRUPT_LINE, irqs[bus->map_pin(p, pin - 1)], 1);
    }
}

/* The PIIX4's registers where the ACPI tables say, and the SCI on irq 9. */
static void enable_power_management(struct pc *pc)
{
    enum { SMBUS_BASE = 0x90, SMBUS_CONTROL = 0xd2 };
    if (!pc->pm)
        return;
    struct pci_device *pm = &pc->pm->pci;
    pci_config_write(pm, PCI_INTERRUPT_LINE, PC_SCI_IRQ, 1);
    pci_config_write(pm, PIIX4_PMBA, PC_PM_BASE | 1, 4);
    pci_config_write(pm, PIIX4_PMREGMISC, 1, 1);
    pci_config_write(pm, SMBUS_BASE, PC_SMBUS_BASE | 1, 4);
    pci_config_write(pm, SMBUS_CONTROL, 9, 1);
    pci_config_write(pm, PCI_COMMAND, PCI_COMMAND_IO, 2);
}

/* Both channels in their ports. */
static void enable_ide(struct pc *pc)
{
    struct pci_device *ide = &pc->ide->pci;
    for (unsigned n = 0; n < PIIX3_IDE_CHANNELS; n++)
        pci_config_write(ide, PIIX3_IDETIM + 2 * n, PIIX3_IDETIM_ENABLE, 2);
    pci_config_write(ide, PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MASTER, 2);
}

/* Vectors 8 and 0x70, everything masked; the timer at its slowest; scan codes translated to set 1; A20 open. */
static void program_legacy_chips(struct pc *pc)
{
    static const struct { uint16_t port; uint8_t value; } writes[] = {
        { 0x20, 0x11 }, { 0xa0, 0x11 }, { 0x21, 0x08 }, { 0xa1, 0x70 }, { 0x21, 0x04 }, { 0xa1, 0x02 },
        { 0x21, 0x01 }, { 0xa1, 0x01 }, { 0x21, 0xff }, { 0xa1, 0xff },
        { 0x43, 0x34 }, { 0x40, 0 }, { 0x40, 0 },
        { 0x70, 0x0a }, { 0x71, 0x26 }, { 0x70, 0x0b }, { 0x71, 0x02 }, { 0x70, 0x0d },
        { 0x64, 0x60 }, { 0x60, 0x61 },
        { 0x92, 0x02 },
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(writes); i++)
        out8(pc, writes[i].port, writes[i].value);
}

/* Virtual wire mode: the PIC through LINT0 of the boot processor, NMI on LINT1. */
static void enable_local_apic(struct pc *pc)
{
    enum { SPURIOUS = 0xf0, LINT0 = 0x350, LINT1 = 0x360 };
    int before = machine_current_cpu();
    machine_set_current_cpu(0);
    address_space_store(&pc->m->memory, APIC_DEFAULT_BASE + SPURIOUS, 0x1ff, 4);
    address_space_store(&pc->m->memory, APIC_DEFAULT_BASE + LINT0, APIC_EXTINT << 8, 4);
    address_space_store(&pc->m->memory, APIC_DEFAULT_BASE + LINT1, APIC_NMI << 8, 4);
    machine_set_current_cpu(before);
}

/* Memory is write-back; the VGA window and the PCI hole are uncached. On every processor: INIT keeps it. */
static void set_memory_types(struct pc *pc)
{
    enum { UNCACHED = 0, WRITE_BACK = 6, ENABLE_FIXED = 0x400, ENABLE = 0x800, VALID = 0x800 };
    const uint64_t all_wb = UINT64_C(0x0606060606060606);
    uint64_t hole = pc_pci_hole(pc);
    uint32_t leaf[4];
    cpu_cpuid(pc->m->cpus[0], 0x80000008, 0, leaf);
    unsigned address_bits = MAX(leaf[0] & 0xff, 36);
    for (unsigned i = 0; i < pc->m->cpu_count; i++) {
        struct cpu *cpu = pc->m->cpus[i];
        for (unsigned f = 0; f < G_N_ELEMENTS(cpu->mtrr_fixed); f++)
            cpu->mtrr_fixed[f] = f == 2 ? 0 : all_wb; /* the third covers 0xa0000-0xbffff */
        cpu->mtrr_base[0] = hole | UNCACHED;
        cpu->mtrr_mask[0] = ((UINT64_C(1) << address_bits) - (PC_4G - hole)) | VALID;
        cpu->mtrr_def_type = ENABLE | ENABLE_FIXED | WRITE_BACK;
    }
}

void pc_do_firmware_duties(struct pc *pc)
{
    open_shadow_ram(pc);
    route_interrupts(pc);
    enable_power_management(pc);
    enable_ide(pc);
    program_legacy_chips(pc);
    enable_local_apic(pc);
    set_memory_types(pc);
    if (pc->vga)
        text_mode_set(pc->m, pc->boot_font);
}
