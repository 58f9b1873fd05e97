/*
 * Intel 82078 floppy disk controller at 0x3f0, irq 6, DMA channel 2, with up to two drives: "isa-fdc". The board gives it
 * drives by its properties driveA and driveB, before realize. VM lock.
 */
#ifndef HW_DISK_I82078_H
#define HW_DISK_I82078_H

#include "hw/core/device.h"

#include <stdint.h>

#define I82078_DRIVES 2

extern const struct device_type i82078_type; /* "isa-fdc", bus "isa" */

/* The type of drive as CMOS has it: 0 none, 2 1.2 MB, 4 1.44 MB, 5 2.88 MB. */
uint8_t i82078_cmos_type(const struct device *fdc, unsigned drive);

#endif
