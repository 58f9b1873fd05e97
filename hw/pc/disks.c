/*
 * Disks of the `pc` board: the IDE interface of the PIIX3 and the floppy controller, a device for each drive of -drive, and
 * what firmware finds of them in CMOS (as SeaBIOS documents it in its src/hw/rtc.h, and the Phoenix map of CMOS for the
 * geometry of two disks). VM lock.
 */
#include "hw/backend/blk.h"
#include "hw/disk/i82078.h"
#include "hw/disk/piix3_ide.h"
#include "hw/isa/piix3.h"
#include "hw/pc/board.h"
#include "hw/pci/i440fx.h"
#include "hw/timer/mc146818.h"
#include "hw/virtio/virtio_blk.h"

#define IDE_IRQ 14

enum cmos {
    CMOS_FLOPPIES = 0x10,
    CMOS_DISKS = 0x12,
    CMOS_EQUIPMENT = 0x14,
    CMOS_DISK_TYPE = 0x19,     /* and 0x1a */
    CMOS_DISK_GEOMETRY = 0x1b, /* and 9 bytes on */
    CMOS_TRANSLATION = 0x39,   /* 2 bits for each of four IDE disks */
};

#define DISK_TYPE_USER 47
#define TRANSLATION_NONE 0
#define TRANSLATION_LBA 1

static bool add_ide_drive(struct pc *pc, unsigned channel, unsigned unit, GError **err)
{
    struct blk *b = blk_drive_at(pc->m, BLK_IF_IDE, channel, unit);
    if (!b)
        return true;
    g_autofree char *drive = g_strdup_printf("drive=%s", blk_id(b));
    g_autofree char *at = g_strdup_printf("unit=%u", unit);
    if (pc_add(pc, blk_drive(b)->cdrom ? &ide_cd_type : &ide_hd_type, pc->ide->channel[channel].bus.bus, err, drive, at, NULL))
        return true;
    g_prefix_error(err, "-drive if=ide: ");
    return false;
}

static bool add_ide(struct pc *pc, GError **err)
{
    struct device *ide = pc_add(pc, &piix3_ide_type, pc->piix3->pci.dev.bus, err, "addr=01.1", NULL);
    if (!ide)
        return false;
    pc->ide = container_of(ide, struct piix3_ide, pci.dev);
    for (unsigned n = 0; n < PIIX3_IDE_CHANNELS; n++) {
        if (!isa_irq_connect(&pc->piix3->isa, IDE_IRQ + n, &pc->ide->channel[n].irq, err))
            return false;
        for (unsigned unit = 0; unit < IDE_UNITS; unit++) {
            if (!add_ide_drive(pc, n, unit, err))
                return false;
        }
    }
    return true;
}

static bool add_floppies(struct pc *pc, GError **err)
{
    const struct blk *a = blk_drive_at(pc->m, BLK_IF_FLOPPY, 0, 0), *b = blk_drive_at(pc->m, BLK_IF_FLOPPY, 0, 1);
    g_autofree char *first = g_strdup_printf("drive%c=%s", a ? 'A' : 'B', a ? blk_id(a) : b ? blk_id(b) : "");
    g_autofree char *second = b ? g_strdup_printf("driveB=%s", blk_id(b)) : NULL;
    pc->fdc = pc_add(pc, &i82078_type, pc->piix3->isa.bus, err, a || b ? first : NULL, a ? second : NULL, NULL);
    if (!pc->fdc)
        g_prefix_error(err, "-drive if=floppy: ");
    return pc->fdc != NULL;
}

bool pc_add_virtio_disks(struct pc *pc, GError **err)
{
    for (unsigned unit = 0; unit <= BLK_UNIT_MAX; unit++) {
        struct blk *b = blk_drive_at(pc->m, BLK_IF_VIRTIO, 0, unit);
        g_autofree char *drive = b ? g_strdup_printf("drive=%s", blk_id(b)) : NULL;
        if (b && !pc_add(pc, &virtio_blk_pci_type, pc->host->bus.bus, err, drive, NULL)) {
            g_prefix_error(err, "-drive if=virtio: ");
            return false;
        }
    }
    return true;
}

bool pc_add_disks(struct pc *pc, GError **err)
{
    return add_ide(pc, err) && add_floppies(pc, err);
}

/* --- CMOS --------------------------------------------------------------------------------------------------------- */

/* Disk `n` of the first channel, 0 or 1. */
static void fill_geometry(struct pc *pc, unsigned n, const struct ata_drive *d)
{
    unsigned cylinders, heads, sectors;
    ata_drive_geometry(d, &cylinders, &heads, &sectors);
    const uint8_t bytes[9] = {
        cylinders, cylinders >> 8, heads, 0xff, 0xff, 0xc0 | (heads > 8 ? 0x08 : 0), cylinders, cylinders >> 8, sectors,
    };
    mc146818_set_cmos(pc->rtc, CMOS_DISK_TYPE + n, DISK_TYPE_USER);
    for (unsigned i = 0; i < sizeof bytes; i++)
        mc146818_set_cmos(pc->rtc, CMOS_DISK_GEOMETRY + sizeof bytes * n + i, bytes[i]);
}

static void fill_floppies(struct pc *pc)
{
    uint8_t a = i82078_cmos_type(pc->fdc, 0), b = i82078_cmos_type(pc->fdc, 1);
    uint8_t equipment = mc146818_cmos(pc->rtc, CMOS_EQUIPMENT);
    mc146818_set_cmos(pc->rtc, CMOS_FLOPPIES, a << 4 | b);
    if (a || b)
        mc146818_set_cmos(pc->rtc, CMOS_EQUIPMENT, equipment | 0x01 | (a && b ? 0x40 : 0));
}

void pc_fill_cmos_disks(struct pc *pc)
{
    uint8_t disks = 0, translation = 0;
    for (unsigned n = 0; n < PIIX3_IDE_CHANNELS * IDE_UNITS; n++) {
        const struct ata_drive *d = pc->ide->channel[n / IDE_UNITS].bus.drives[n % IDE_UNITS];
        unsigned cylinders, heads, sectors;
        if (!d || d->packet)
            continue;
        ata_drive_geometry(d, &cylinders, &heads, &sectors);
        translation |= (cylinders > 1024 ? TRANSLATION_LBA : TRANSLATION_NONE) << 2 * n;
        if (n < 2) {
            disks |= n ? 0x0f : 0xf0;
            fill_geometry(pc, n, d);
        }
    }
    fill_floppies(pc);
    mc146818_set_cmos(pc->rtc, CMOS_DISKS, disks);
    mc146818_set_cmos(pc->rtc, CMOS_TRANSLATION, translation);
    pc_fill_cmos_sum(pc);
}
