/*
 * The `pc` board: a PC of 1996 with i440FX and PIIX chips, to be read from pc_init() downwards.
 *
 * Map of memory, as guests and firmware of this board know it from QEMU: RAM from 0; up to 3.5 GiB all of it is low,
 * more is split at 3 GiB and goes on at 4 GiB. PCI memory from the end of low RAM to the APICs at 0xfec00000; firmware
 * ends at 4 GiB and its last 128 KiB show below 1 MiB too, until PAM registers put RAM there. Interrupts: each global
 * system interrupt (GSI) below 16 is an ISA irq and goes to the 8259 pair and to the I/O APIC, irq 0 there on pin 2.
 *
 * Disks are added in disks.c. Not modelled: parallel port. VM lock throughout.
 */
#include "hw/pc/pc.h"

#include "cpu/cpu.h"
#include "cpu/model.h"
#include "hw/char/serial.h"
#include "hw/core/firmware.h"
#include "hw/core/state.h"
#include "hw/core/vm_lock.h"
#include "hw/display/vga.h"
#include "hw/input/i8042.h"
#include "hw/irq/apic_bus.h"
#include "hw/irq/i8259.h"
#include "hw/irq/lapic.h"
#include "hw/isa/debug_exit.h"
#include "hw/isa/i8237.h"
#include "hw/isa/piix3.h"
#include "hw/isa/piix4_pm.h"
#include "hw/isa/fpu_error.h"
#include "hw/isa/port92.h"
#include "hw/pc/acpi.h"
#include "hw/pc/board.h"
#include "hw/pc/text_mode.h"
#include "hw/pci/i440fx.h"
#include "hw/timer/hpet.h"
#include "hw/timer/i8254.h"
#include "hw/timer/mc146818.h"
#include "hw/timer/pcspk.h"

#include <inttypes.h>
#include <string.h>

#define BIOS_MIN (UINT64_C(64) << 10)
#define BIOS_MAX (UINT64_C(4) << 20)
#define BIOS_LOW_SIZE (UINT64_C(128) << 10)
#define A20_GATE_8042 1
#define A20_GATE_PORT92 2

/* --- Memory ------------------------------------------------------------------------------------------------------- */

static bool make_ram(struct pc *pc, const struct pc_config *c, GError **err)
{
    struct machine *m = pc->m;
    m->ram = ram_block_new("pc.ram", c->ram_size, c->mem_path, err);
    if (!m->ram) {
        g_prefix_error(err, "%s", c->mem_path ? "-" : "-m: "); /* the sentence about a path begins with "mem-path:" */
        return false;
    }
    /* Guests with more than 3.5 GiB get their hole at a whole gigabyte: huge pages fit better. */
    pc->ram_below_4g = c->ram_size < UINT64_C(0xe0000000) ? c->ram_size : UINT64_C(0xc0000000);
    mem_init_ram(&pc->ram_low, NULL, "ram-below-4g", m->ram, 0, pc->ram_below_4g);
    mem_map(&m->memory_root, 0, &pc->ram_low, 0);
    if (c->ram_size > pc->ram_below_4g) {
        mem_init_ram(&pc->ram_high, NULL, "ram-above-4g", m->ram, pc->ram_below_4g, c->ram_size - pc->ram_below_4g);
        mem_map(&m->memory_root, PC_4G, &pc->ram_high, 0);
    }
    return true;
}

unsigned pc_ram_map(const struct pc *pc, struct pc_e820 map[2])
{
    map[0] = (struct pc_e820){ 0, pc->ram_below_4g, PC_E820_RAM };
    map[1] = (struct pc_e820){ PC_4G, pc->m->ram->size - pc->ram_below_4g, PC_E820_RAM };
    return map[1].size ? 2 : 1;
}

uint64_t pc_pci_hole(const struct pc *pc)
{
    static const uint64_t starts[] = { UINT64_C(0x80000000), UINT64_C(0xc0000000) };
    for (unsigned i = 0; i < G_N_ELEMENTS(starts); i++)
        if (pc->ram_below_4g <= starts[i])
            return starts[i];
    return UINT64_C(0xe0000000);
}

/* The firmware named by -bios or -L, whole. */
static uint8_t *read_bios(const struct pc_config *c, size_t *size, GError **err)
{
    const char *name = c->bios ? c->bios : "bios-256k.bin";
    for (guint i = 0; i < c->firmware_dirs->len; i++) {
        g_autofree char *path = g_build_filename(c->firmware_dirs->pdata[i], name, NULL);
        if (g_file_test(path, G_FILE_TEST_IS_REGULAR))
            return firmware_load(path, BIOS_MAX, size, err);
    }
    return firmware_load(name, BIOS_MAX, size, err);
}

static bool map_bios(struct pc *pc, const struct pc_config *c, GError **err)
{
    size_t size;
    g_autofree uint8_t *image = read_bios(c, &size, err);
    if (!image) {
        if (c->bios)
            g_prefix_error(err, "-bios %s: ", c->bios);
        return false;
    }
    if (size < BIOS_MIN || size % BIOS_MIN) {
        g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "-bios %s: %zu bytes; a firmware image has a multiple of 64 KiB, up to 4 MiB", c->bios, size);
        return false;
    }
    pc->bios = ram_block_new("pc.bios", size, NULL, err);
    if (!pc->bios)
        return false;
    memcpy(pc->bios->host, image, size);
    uint64_t low = MIN(size, BIOS_LOW_SIZE);
    mem_init_rom(&pc->bios_rom, NULL, "pc.bios", pc->bios, 0, size);
    mem_init_alias(&pc->bios_low, NULL, "pc.bios-low", &pc->bios_rom, size - low, low);
    mem_map(&pc->host->pci_memory, PC_4G - size, &pc->bios_rom, 0);
    mem_map(&pc->host->pci_memory, (1 << 20) - low, &pc->bios_low, 0);
    return true;
}

/* --- Wires -------------------------------------------------------------------------------------------------------- */

static void set_gsi(void *opaque, int n, int level)
{
    struct pc *pc = opaque;
    if (level)
        pc->gsi_level |= 1u << n;
    else
        pc->gsi_level &= ~(1u << n);
    if (n < I8259_INPUTS) {
        struct irq_line pic = i8259_input(pc->pic, n);
        irq_set(&pic, level);
    }
    /* Irq 0 and GSI 2 share pin 2. */
    int pin = n == 0 ? 2 : n;
    struct irq_line line = ioapic_input(pc->ioapic, pin);
    irq_set(&line, pin == 2 ? (pc->gsi_level & 5) != 0 : level);
}

static struct irq_line gsi_line(struct pc *pc, int n)
{
    return (struct irq_line){ set_gsi, pc, n };
}

/* The PIC's INTR pin: LINT0 of every processor; the guest enables it in one. */
static void set_intr(void *opaque, int n, int level)
{
    struct pc *pc = opaque;
    for (unsigned i = 0; i < pc->m->cpu_count; i++) {
        struct irq_line lint0 = lapic_lint(pc->lapics[i], 0);
        irq_set(&lint0, level);
    }
}

/* A20 passes while one of the two gates, number `n`, lets it. */
static void set_a20(void *opaque, int n, int level)
{
    struct pc *pc = opaque;
    if (level)
        pc->a20_sources |= n;
    else
        pc->a20_sources &= ~n;
    uint64_t mask = pc->a20_sources ? UINT64_MAX : ~(UINT64_C(1) << 20);
    for (unsigned i = 0; i < pc->m->cpu_count; i++) {
        struct cpu *cpu = pc->m->cpus[i];
        if (__atomic_exchange_n(&cpu->a20_mask, mask, __ATOMIC_SEQ_CST) != mask)
            cpu_post(cpu, CPU_EVENT_TLB_FLUSH);
    }
}

static void set_smi(void *opaque, int n, int level)
{
    struct pc *pc = opaque;
    if (level)
        cpu_post(pc->m->cpus[0], CPU_EVENT_SMI);
}

/* --- Devices ------------------------------------------------------------------------------------------------------ */

struct device *pc_device_new(struct machine *m, const struct device_type *type, struct bus *bus, GError **err)
{
    const struct pc *pc = m->board;
    struct device *d = device_new(type, bus);
    for (guint i = 0; pc && i < pc->globals->len; i++) {
        const struct pc_global *g = pc->globals->pdata[i];
        if (strcmp(g->driver, type->name) == 0 && !device_set_prop(d, g->property, g->value, err)) {
            g_prefix_error(err, "-global %s.%s=%s: ", g->driver, g->property, g->value);
            return NULL; /* the bus owns it */
        }
    }
    return d;
}

struct device *pc_add(struct pc *pc, const struct device_type *type, struct bus *bus, GError **err, ...)
{
    struct device *d = pc_device_new(pc->m, type, bus, err);
    bool ok = d != NULL;
    va_list ap;
    va_start(ap, err);
    const char *setting;
    while (ok && (setting = va_arg(ap, const char *))) {
        const char *eq = strchr(setting, '=');
        g_autofree char *name = g_strndup(setting, eq - setting);
        ok = device_set_prop(d, name, eq + 1, err);
    }
    va_end(ap);
    return ok && device_realize(d, err) ? d : NULL;
}

static bool add_processors(struct pc *pc, const struct pc_config *c, GError **err)
{
    struct machine *m = pc->m;
    pc->model = cpu_model_parse(c->cpu_model, err);
    if (!pc->model) {
        g_prefix_error(err, "-cpu %s: ", c->cpu_model);
        return false;
    }
    cpu_model_set_topology(pc->model, c->sockets, c->cores, c->threads);
    pc->lapics = g_new0(struct device *, c->cpus);
    m->cpus = g_new0(struct cpu *, c->cpus);
    if (!pc_add(pc, &apic_bus_type, m->system_bus, err, NULL))
        return false;
    for (unsigned i = 0; i < c->cpus; i++) {
        m->cpus[i] = cpu_new(m, i, pc->model);
        m->cpu_count = i + 1;
        g_autofree char *index = g_strdup_printf("index=%u", i);
        pc->lapics[i] = pc_add(pc, &lapic_type, m->system_bus, err, index, NULL);
        if (!pc->lapics[i])
            return false;
    }
    pc->ioapic = pc_add(pc, &ioapic_type, m->system_bus, err, NULL);
    return pc->ioapic != NULL;
}

/* Host bridge, PCI to ISA bridge, power management; then ISA irqs are wired to their GSIs. */
static bool add_chipset(struct pc *pc, const struct pc_config *c, GError **err)
{
    struct device *host = pc_add(pc, &i440fx_host_type, pc->m->system_bus, err, NULL);
    if (!host)
        return false;
    pc->host = container_of(host, struct i440fx_host, dev);
    struct device *piix3 = pc_add(pc, &piix3_type, pc->host->bus.bus, err, "addr=01.0", "multifunction=on", NULL);
    if (!piix3)
        return false;
    pc->piix3 = container_of(piix3, struct piix3, pci.dev);
    for (int i = 0; i < ISA_IRQS; i++)
        pc->piix3->isa.out[i] = gsi_line(pc, i);
    if (!c->acpi)
        return true;
    struct device *pm = pc_add(pc, &piix4_pm_type, pc->host->bus.bus, err, "addr=01.3", NULL);
    if (!pm)
        return false;
    pc->pm = container_of(pm, struct piix4_pm, pci.dev);
    if (c->smm)
        pc->pm->smi = (struct irq_line){ set_smi, pc, 0 };
    return isa_irq_connect(&pc->piix3->isa, PC_SCI_IRQ, &pc->pm->sci, err);
}

/* Interrupt controllers and timers. With an HPET, irqs 0 and 8 pass through it: it can take their place. */
static bool add_legacy_chips(struct pc *pc, const struct pc_config *c, GError **err)
{
    struct bus *isa = pc->piix3->isa.bus;
    if (!(pc->pic = pc_add(pc, &i8259_type, isa, err, NULL)) || !(pc->pit = pc_add(pc, &i8254_type, isa, err, NULL)) ||
        !(pc->rtc = pc_add(pc, &mc146818_type, isa, err, NULL)) || !pc_add(pc, &i8237_type, isa, err, NULL) ||
        !pc_add(pc, &port80_type, isa, err, NULL))
        return false;
    i8259_set_output(pc->pic, (struct irq_line){ set_intr, pc, 0 });
    apic_bus_set_pic(pc->m, i8259_acknowledge, pc->pic);

    struct irq_line irq0 = gsi_line(pc, 0), irq8 = gsi_line(pc, 8);
    if (c->hpet) {
        pc->hpet = pc_add(pc, &hpet_type, pc->m->system_bus, err, NULL);
        if (!pc->hpet)
            return false;
        for (int i = 0; i < PC_GSIS; i++)
            hpet_set_output(pc->hpet, i, gsi_line(pc, i));
        irq0 = hpet_legacy_input(pc->hpet, 0);
        irq8 = hpet_legacy_input(pc->hpet, 1);
    }
    i8254_set_irq(pc->pit, irq0);
    mc146818_set_irq(pc->rtc, irq8);

    struct device *speaker = pc_device_new(pc->m, &pcspk_type, isa, err);
    if (!speaker)
        return false;
    pcspk_set_pit(speaker, pc->pit);
    return device_realize(speaker, err);
}

static bool add_serial_ports(struct pc *pc, const struct pc_config *c, GError **err)
{
    struct bus *isa = pc->piix3->isa.bus;
    for (unsigned i = 0; i < PC_SERIAL_PORTS; i++) {
        if (!c->serials[i])
            continue;
        g_autofree char *index = g_strdup_printf("index=%u", i);
        g_autofree char *chr = g_strdup_printf("chardev=%s", c->serials[i]);
        if (!pc_add(pc, &isa_serial_type, isa, err, index, *c->serials[i] ? chr : NULL, NULL))
            return false;
        pc->serial_ports |= 1u << i;
    }
    if (c->debugcon && *c->debugcon) {
        g_autofree char *port = g_strdup_printf("iobase=0x%x", c->debugcon_port);
        g_autofree char *chr = g_strdup_printf("chardev=%s", c->debugcon);
        if (!pc_add(pc, &isa_debugcon_type, isa, err, port, chr, NULL))
            return false;
    }
    return true;
}

static bool add_keyboard_and_screen(struct pc *pc, const struct pc_config *c, GError **err)
{
    struct bus *isa = pc->piix3->isa.bus;
    pc->port92 = pc_add(pc, &port92_type, isa, err, NULL);
    if (!pc->port92)
        return false;
    port92_set_a20(pc->port92, (struct irq_line){ set_a20, pc, A20_GATE_PORT92 });
    struct device *fpu_error = pc_add(pc, &fpu_error_type, isa, err, NULL);
    if (!fpu_error)
        return false;
    pc->m->ferr = fpu_error_input(fpu_error);
    if (c->i8042) {
        pc->i8042 = pc_add(pc, &i8042_type, isa, err, NULL);
        if (!pc->i8042)
            return false;
        i8042_set_a20(pc->i8042, (struct irq_line){ set_a20, pc, A20_GATE_8042 });
    } else {
        pc->a20_sources = A20_GATE_8042; /* nobody ever closes it */
    }
    if (c->vga && !(pc->vga = pc_add(pc, &vga_pci_type, pc->host->bus.bus, err, "addr=02.0", NULL)))
        return false;
    return true;
}

/* --- Saved state: what the wires remember ------------------------------------------------------------------------- */

static const struct state_field pc_fields[] = {
    STATE_FIELD(STATE_U32, struct pc, gsi_level),
    STATE_FIELD(STATE_U8, struct pc, a20_sources),
    STATE_FIELDS_END,
};
static const struct state_table pc_state_table = { .name = "pc", .version = 1, .fields = pc_fields };

/* --- Life --------------------------------------------------------------------------------------------------------- */

static void power_button(struct machine *m)
{
    struct pc *pc = m->board;
    if (pc->pm)
        piix4_pm_power_button(pc->pm);
}

/* Called when the devices are gone. */
static void free_board(struct machine *m)
{
    struct pc *pc = m->board;
    machine_remove_state(m, pc);
    for (unsigned i = 0; i < m->cpu_count; i++)
        cpu_free(m->cpus[i]);
    m->cpu_count = 0;
    cpu_model_free(pc->model);
    boot_image_free(pc->boot);
    if (pc->acpi_tables)
        acpi_tables_free(pc->acpi_tables);
    if (pc->smbios)
        g_byte_array_unref(pc->smbios);
    /* These are parts of the board; the machine's tree of memory outlives it. */
    mem_fini(&pc->ram_low);
    mem_fini(&pc->ram_high);
    mem_fini(&pc->bios_low);
    mem_fini(&pc->bios_rom);
    ram_block_free(pc->bios);
    g_free(pc->boot_font);
    g_free(pc->boot_order);
    g_free(pc->lapics);
    g_free(pc);
    m->board = NULL;
}

bool pc_init(struct machine *m, const struct pc_config *c, GError **err)
{
    g_assert(vm_locked() && !m->board);
    struct pc *pc = g_new0(struct pc, 1);
    pc->m = m;
    pc->globals = c->globals;
    pc->sockets = c->sockets;
    pc->cores = c->cores;
    pc->threads = c->threads;
    m->board = pc;
    m->board_free = free_board;
    m->board_power_button = power_button;
    machine_add_state(m, &pc_state_table, "", pc);
    if (!make_ram(pc, c, err) || !add_processors(pc, c, err) || !add_chipset(pc, c, err) ||
        !add_legacy_chips(pc, c, err) || !add_keyboard_and_screen(pc, c, err) || !add_serial_ports(pc, c, err) || !pc_add_disks(pc, err))
        return false;
    struct device *fw_cfg = pc_add(pc, &fw_cfg_type, m->system_bus, err, NULL);
    if (!fw_cfg)
        return false;
    pc->fw_cfg = (struct fw_cfg *)fw_cfg;
    pc_fill_cmos(pc, c);
    if (!pc_fill_fw_cfg(pc, c, err))
        return false;
    if (!c->kernel)
        return map_bios(pc, c, err);
    if (pc->vga)
        pc->boot_font = text_mode_find_font();
    return (pc->boot = boot_image_load(pc, c, err)) != NULL;
}

bool pc_finish(struct machine *m, const struct pc_config *c, GError **err)
{
    struct pc *pc = m->board;
    if (!pc_add_virtio_disks(pc, err))
        return false;
    pc_fill_cmos_disks(pc);
    pc->boot_order = g_strdup(c->boot_order);
    return pc_fill_boot_order(pc, c, err);
}

void pc_reset(struct machine *m)
{
    struct pc *pc = m->board;
    bus_reset(m->system_bus);
    if (pc->resets++)
        pc_fill_cmos_order(pc, pc->boot_order);
    for (unsigned i = 0; i < m->cpu_count; i++)
        cpu_reset(m->cpus[i], false);
    if (pc->boot)
        boot_image_start(pc);
}

char *pc_text_screen(struct machine *m)
{
    struct pc *pc = m->board;
    return pc && pc->vga ? vga_text_screen(pc->vga) : NULL;
}
