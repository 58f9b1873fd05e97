/*
 * Intel 82371SB (PIIX3) function 1: IDE interface with two channels, bus master. The board adds it to pci.0 with addr=1.1
 * and wires channel[].irq; its buses are ide.0 and ide.1. VM lock.
 */
#ifndef HW_DISK_PIIX3_IDE_H
#define HW_DISK_PIIX3_IDE_H

#include "hw/disk/ide.h"
#include "hw/pci/pci.h"

#define PIIX3_IDE_CHANNELS 2
#define PIIX3_IDETIM 0x40 /* and 0x42 */
#define PIIX3_IDETIM_ENABLE 0x8000

struct piix3_ide;

/* One bus master. */
struct piix3_ide_master {
    struct piix3_ide *ide;
    uint8_t command, status;
    uint32_t table;          /* BMIDTP */
    uint32_t next;           /* descriptor to be fetched */
    uint32_t address, bytes; /* what is left of the one that was fetched last */
    bool last;               /* that is the last one */
};

struct piix3_ide {
    struct pci_device pci;
    struct ide_channel channel[PIIX3_IDE_CHANNELS];
    struct piix3_ide_master master[PIIX3_IDE_CHANNELS];
};

extern const struct device_type piix3_ide_type; /* "piix3-ide", bus "pci" */

#endif
