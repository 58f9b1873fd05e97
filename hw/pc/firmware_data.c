/*
 * What firmware reads about the machine: CMOS bytes, and items and files of fw_cfg.
 *
 * CMOS as SeaBIOS documents it in its src/hw/rtc.h; fw_cfg keys as in QEMU's docs/specs/fw_cfg and as SeaBIOS 1.16
 * reads them. VM lock, before the guest runs.
 */
#include "cpu/cpu.h"
#include "hw/pc/acpi.h"
#include "hw/pc/board.h"
#include "hw/pc/smbios.h"
#include "hw/timer/mc146818.h"

#include <string.h>

enum cmos {
    CMOS_EQUIPMENT = 0x14,
    CMOS_BASE_KB = 0x15,
    CMOS_EXT_KB = 0x17,
    CMOS_SUM = 0x2e,
    CMOS_EXT_KB_COPY = 0x30,
    CMOS_ABOVE_16M = 0x34, /* in 64 KiB */
    CMOS_BOOT_FLAGS = 0x38,
    CMOS_BOOT_ORDER = 0x3d,
    CMOS_ABOVE_4G = 0x5b, /* in 64 KiB */
    CMOS_CPUS = 0x5f,
};

#define EQUIPMENT_FPU 0x02
#define EQUIPMENT_MOUSE 0x04

static void set16(struct device *rtc, uint8_t index, uint64_t value)
{
    mc146818_set_cmos(rtc, index, value & 0xff);
    mc146818_set_cmos(rtc, index + 1, value >> 8);
}

/* What SeaBIOS and older firmware take from -boot order=: a number for each letter. */
static unsigned boot_code(char letter)
{
    switch (letter) {
    case 'a':
    case 'b': return 1;
    case 'c': return 2;
    case 'd': return 3;
    case 'n': return 4;
    default: return 0;
    }
}

void pc_fill_cmos_order(struct pc *pc, const char *order)
{
    unsigned codes[3] = { 0 };
    order = order ? order : "cad";
    for (unsigned i = 0; i < 3 && order[i]; i++)
        codes[i] = boot_code(order[i]);
    mc146818_set_cmos(pc->rtc, CMOS_BOOT_ORDER, codes[1] << 4 | codes[0]);
    mc146818_set_cmos(pc->rtc, CMOS_BOOT_FLAGS, codes[2] << 4 | pc->floppy_unchecked);
}

void pc_fill_cmos_sum(struct pc *pc)
{
    uint16_t sum = 0;
    for (uint8_t i = 0x10; i < CMOS_SUM; i++)
        sum += mc146818_cmos(pc->rtc, i);
    mc146818_set_cmos(pc->rtc, CMOS_SUM, sum >> 8);
    mc146818_set_cmos(pc->rtc, CMOS_SUM + 1, sum & 0xff);
}

void pc_fill_cmos(struct pc *pc, const struct pc_config *c)
{
    struct device *rtc = pc->rtc;
    uint64_t below = pc->ram_below_4g, above = pc->m->ram->size - below;
    uint64_t ext_kb = below > 1 << 20 ? MIN((below >> 10) - 1024, 65535) : 0;
    uint64_t above_16m = below > 16 << 20 ? MIN((below >> 16) - 256, 65535) : 0;
    set16(rtc, CMOS_BASE_KB, MIN(below >> 10, 640));
    set16(rtc, CMOS_EXT_KB, ext_kb);
    set16(rtc, CMOS_EXT_KB_COPY, ext_kb);
    set16(rtc, CMOS_ABOVE_16M, above_16m);
    for (unsigned i = 0; i < 3; i++)
        mc146818_set_cmos(rtc, CMOS_ABOVE_4G + i, above >> (16 + 8 * i));
    mc146818_set_cmos(rtc, CMOS_CPUS, pc->m->cpu_count - 1);
    mc146818_set_cmos(rtc, CMOS_EQUIPMENT, EQUIPMENT_FPU | (c->i8042 ? EQUIPMENT_MOUSE : 0));

    pc->floppy_unchecked = c->floppy_unchecked;
    pc_fill_cmos_order(pc, c->boot_once ? c->boot_once : c->boot_order);
    pc_fill_cmos_sum(pc);
}

/* --- Tables ------------------------------------------------------------------------------------------------------- */

static void make_tables(struct pc *pc, const struct pc_config *c)
{
    struct machine *m = pc->m;
    if (c->acpi) {
        g_autofree uint32_t *ids = g_new(uint32_t, m->cpu_count);
        for (unsigned i = 0; i < m->cpu_count; i++)
            ids[i] = m->cpus[i]->apic_id;
        struct acpi_input in = {
            .cpus = m->cpu_count, .apic_ids = ids, .pci_hole_start = pc_pci_hole(pc), .serial_ports = pc->serial_ports,
            .hpet = c->hpet, .i8042 = c->i8042, .vga = c->vga,
        };
        pc->acpi_tables = acpi_tables_new(&in);
    }
    uint32_t leaf1[4];
    cpu_cpuid(m->cpus[0], 1, 0, leaf1);
    struct smbios_input in = {
        .config = &c->smbios, .ram_size = m->ram->size, .ram_below_4g = pc->ram_below_4g,
        .sockets = c->sockets, .cores = c->cores, .threads = c->threads,
        .cpuid_signature = leaf1[0], .cpuid_features = leaf1[3],
    };
    pc->smbios = smbios_tables(&in, &pc->smbios_count, &pc->smbios_largest);
}

/* --- fw_cfg ------------------------------------------------------------------------------------------------------- */

static bool add_file(struct pc *pc, const char *name, const GByteArray *data, GError **err)
{
    return fw_cfg_add_file(pc->fw_cfg, name, data->data, data->len, err);
}

static bool add_table_files(struct pc *pc, GError **err)
{
    const struct acpi_tables *t = pc->acpi_tables;
    if (t && !(add_file(pc, "etc/acpi/rsdp", t->rsdp, err) && add_file(pc, "etc/acpi/tables", t->tables, err) &&
               add_file(pc, "etc/table-loader", t->loader, err)))
        return false;
    /* Firmware finds a place for the tables and puts it into the entry point. */
    uint8_t anchor[SMBIOS_ENTRY_SIZE];
    smbios_entry_point(anchor, 0, pc->smbios->len, pc->smbios_count, pc->smbios_largest);
    return add_file(pc, "etc/smbios/smbios-tables", pc->smbios, err) &&
           fw_cfg_add_file(pc->fw_cfg, "etc/smbios/smbios-anchor", anchor, sizeof anchor, err);
}

static bool add_e820(struct pc *pc, GError **err)
{
    struct pc_e820 map[2];
    unsigned n = pc_ram_map(pc, map);
    for (unsigned i = 0; i < n; i++) {
        map[i].addr = GUINT64_TO_LE(map[i].addr);
        map[i].size = GUINT64_TO_LE(map[i].size);
        map[i].type = GUINT32_TO_LE(map[i].type);
    }
    return fw_cfg_add_file(pc->fw_cfg, "etc/e820", map, n * sizeof map[0], err);
}

static bool add_boot_files(struct pc *pc, const struct pc_config *c, GError **err)
{
    struct fw_cfg *f = pc->fw_cfg;
    /* Bit 7: the sleep state exists; below: its SLP_TYP. S0 and S5. */
    static const uint8_t states[6] = { [0] = 0x80, [5] = 0x80 };
    uint16_t wait = GUINT16_TO_LE(c->boot_menu_wait);
    uint32_t fail_wait = GUINT32_TO_LE((uint32_t)c->reboot_timeout);
    if (!fw_cfg_add_file(f, "etc/system-states", states, sizeof states, err) ||
        !fw_cfg_add_file(f, "etc/boot-fail-wait", &fail_wait, sizeof fail_wait, err))
        return false;
    if (c->boot_menu_wait && !fw_cfg_add_file(f, "etc/boot-menu-wait", &wait, sizeof wait, err))
        return false;
    for (guint i = 0; i < c->fw_cfg->len; i++) {
        const struct pc_fw_cfg_file *file = c->fw_cfg->pdata[i];
        if (!fw_cfg_add_file(f, file->name, file->data, file->size, err)) {
            g_prefix_error(err, "-fw_cfg name=%s: ", file->name);
            return false;
        }
    }
    return true;
}

/* The names of devices with a bootindex, a line each; behind them nothing else, if the user says so. */
bool pc_fill_boot_order(struct pc *pc, const struct pc_config *c, GError **err)
{
    g_autoptr(GString) list = g_string_new(NULL);
    for (guint i = 0; i < pc->m->boot_paths->len; i++) {
        const char *path = pc->m->boot_paths->pdata[i];
        if (path)
            g_string_append_printf(list, "%s%s", list->len ? "\n" : "", path);
    }
    if (c->boot_strict)
        g_string_append_printf(list, "%sHALT", list->len ? "\n" : "");
    return fw_cfg_add_file(pc->fw_cfg, "bootorder", list->str, list->len ? list->len + 1 : 0, err);
}

bool pc_fill_fw_cfg(struct pc *pc, const struct pc_config *c, GError **err)
{
    struct fw_cfg *f = pc->fw_cfg;
    make_tables(pc, c);
    if (c->smbios.uuid_set)
        fw_cfg_add_bytes(f, FW_CFG_UUID, c->smbios.uuid, sizeof c->smbios.uuid);
    fw_cfg_add_u64(f, FW_CFG_RAM_SIZE, pc->m->ram->size);
    fw_cfg_add_u16(f, FW_CFG_NOGRAPHIC, c->nographic);
    fw_cfg_add_u16(f, FW_CFG_NB_CPUS, pc->m->cpu_count);
    fw_cfg_add_u16(f, FW_CFG_MAX_CPUS, pc->m->cpu_count);
    fw_cfg_add_u16(f, FW_CFG_BOOT_MENU, c->boot_menu);
    fw_cfg_add_u32(f, FW_CFG_IRQ0_OVERRIDE, 1);
    /* One node: no NUMA information, for no processors. */
    uint64_t *numa = g_new0(uint64_t, 1 + pc->m->cpu_count);
    fw_cfg_add_bytes(f, FW_CFG_NUMA, numa, sizeof *numa * (1 + pc->m->cpu_count));
    g_free(numa);
    return add_e820(pc, err) && add_table_files(pc, err) && add_boot_files(pc, c, err);
}
