/*
 * An IDE channel: the task file of two drives in I/O ports, their interrupt, and what bus-master DMA attaches to. Buses of
 * kind "ide" take drives (hw/disk/ide_drive.c) for it. All under the VM lock.
 */
#ifndef HW_DISK_IDE_H
#define HW_DISK_IDE_H

#include "hw/core/device.h"
#include "hw/core/irq.h"
#include "hw/disk/ata.h"

#define IDE_UNITS 2

/* What a bus of kind "ide" leads to (bus.impl): an adapter with up to two drives on one cable. */
struct ide_bus {
    struct bus *bus;
    struct ata_drive *drives[IDE_UNITS];
    unsigned units;  /* so many have room */
    unsigned number; /* of the cable at its adapter, for firmware's name of a drive */
    const struct ata_host_ops *ops;
    void *host;
};

/* Embedded in its adapter. */
struct ide_channel {
    struct ide_bus bus;
    struct mem_region command, control; /* 8 ports and 1: the adapter maps them */
    struct irq_line irq;
    uint8_t select;         /* unit */
    uint8_t device_control;
    /* Bus master: as ata_host_ops.dma; and told when the interrupt rises. NULL: none. */
    size_t (*dma)(void *opaque, uint8_t *buf, size_t len, bool to_memory);
    void (*interrupt)(void *opaque);
    void *opaque;
};

extern const struct state_field ide_channel_fields[];

/* Makes the bus below `owner`, and the regions. */
void ide_channel_init(struct ide_channel *c, struct device *owner, const char *name, unsigned number);
void ide_channel_fini(struct ide_channel *c);
void ide_channel_reset(struct ide_channel *c);
/* Drives the interrupt wire to what it must be. */
void ide_channel_update_irq(struct ide_channel *c);
/* The bus master can move data (again). */
void ide_channel_dma(struct ide_channel *c);
bool ide_channel_post_load(struct ide_channel *c, GError **err);

extern const struct device_type ide_hd_type, ide_cd_type; /* "ide-hd", "ide-cd" on buses of kind "ide" */

/* The drive of an ide-hd or ide-cd, and back. */
struct ata_drive *ide_drive_ata(struct device *d);
struct device *ide_drive_device(struct ata_drive *d);

#endif
