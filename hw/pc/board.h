/*
 * The board's own state, for the files of hw/pc only. VM lock.
 */
#ifndef HW_PC_BOARD_H
#define HW_PC_BOARD_H

#include "hw/core/machine.h"
#include "hw/irq/ioapic.h"
#include "hw/isa/fw_cfg.h"
#include "hw/pc/pc.h"

struct acpi_tables;
struct cpu_model;
struct blk_drive;
struct piix3;
struct piix3_ide;
struct piix4_pm;

#define PC_GSIS IOAPIC_PINS
#define PC_4G (UINT64_C(1) << 32)
#define PC_SCI_IRQ 9
#define PC_PM_BASE 0x600    /* where firmware puts the PIIX4's ACPI registers, and its SMBus */
#define PC_SMBUS_BASE 0x700

struct boot_image; /* a kernel to start without firmware: hw/pc/boot.h */

struct pc {
    struct machine *m;
    GPtrArray *globals; /* struct pc_global *, lent: for as long as devices are made */

    /* Memory */
    uint64_t ram_below_4g; /* the rest begins at 4 GiB */
    struct mem_region ram_low, ram_high;
    struct ram_block *bios;
    struct mem_region bios_rom, bios_low; /* below 4 GiB, and its last 128 KiB below 1 MiB */

    /* Processors and chips */
    struct cpu_model *model;
    struct device **lapics; /* by vCPU */
    struct device *pic, *ioapic, *hpet, *pit, *rtc, *vga;
    struct device *i8042, *port92;
    struct i440fx_host *host;
    struct piix3 *piix3;
    struct piix3_ide *ide;
    struct device *fdc;
    struct piix4_pm *pm;
    struct fw_cfg *fw_cfg;

    /* Wires */
    uint32_t gsi_level;   /* bit per global system interrupt */
    uint8_t a20_sources;  /* bit per gate that lets A20 pass */

    /* What tables and boot need of the configuration */
    unsigned sockets, cores, threads;
    struct acpi_tables *acpi_tables; /* NULL without ACPI */
    unsigned serial_ports; /* bit per COM port */
    GByteArray *smbios;
    uint16_t smbios_count, smbios_largest;
    uint8_t *boot_font;      /* for the text mode that direct boot sets; NULL: none found */
    struct boot_image *boot; /* NULL: firmware boots */
    char *boot_order;        /* of all boots but the first; NULL: the usual one */
    unsigned resets;
    bool floppy_unchecked;
};

#define PC_E820_RAM 1
#define PC_E820_RESERVED 2
#define PC_E820_ACPI 3

struct pc_e820 {
    uint64_t addr, size;
    uint32_t type;
} __attribute__((packed));

/* Where PCI memory begins, as SeaBIOS decides it: the first of 2, 3 and 3.5 GiB that is not RAM. */
uint64_t pc_pci_hole(const struct pc *pc);

/* RAM as it is before any table is put into it: at most 2 entries. */
unsigned pc_ram_map(const struct pc *pc, struct pc_e820 map[2]);

/* pc.c: a device of the board, with properties "name=value" up to NULL. NULL on failure; the bus owns it in any case. */
struct device *pc_add(struct pc *pc, const struct device_type *type, struct bus *bus, GError **err, ...)
    G_GNUC_NULL_TERMINATED;

/* disks.c: controllers, and a device for each drive that -drive put there. */
bool pc_add_disks(struct pc *pc, GError **err);
/* One for each drive with if=virtio; behind the devices of the user, who may have chosen slots. */
bool pc_add_virtio_disks(struct pc *pc, GError **err);
/* What firmware and old systems find of disks in CMOS, and its checksum. */
void pc_fill_cmos_disks(struct pc *pc);

/* firmware_data.c: what firmware reads: CMOS and fw_cfg. Before the guest runs. */
void pc_fill_cmos(struct pc *pc, const struct pc_config *c);
void pc_fill_cmos_order(struct pc *pc, const char *order); /* NULL: the usual one */
void pc_fill_cmos_sum(struct pc *pc);
bool pc_fill_fw_cfg(struct pc *pc, const struct pc_config *c, GError **err);
bool pc_fill_boot_order(struct pc *pc, const struct pc_config *c, GError **err);

/* firmware_duties.c: what firmware does to the chips before it starts a kernel, done for a kernel that has none. */
void pc_do_firmware_duties(struct pc *pc);

/* boot.c: loads the kernel of -kernel; NULL if it is none that we can start. */
struct boot_image *boot_image_load(struct pc *pc, const struct pc_config *c, GError **err);
/* After reset: memory and the boot processor as the kernel's boot protocol asks for. */
void boot_image_start(struct pc *pc);
void boot_image_free(struct boot_image *b);

#endif
