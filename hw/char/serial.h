/*
 * 16550A UART. struct serial is the chip; isa-serial (and later pci-serial) puts it on a bus. VM lock.
 *
 * Board: device_new(&isa_serial_type, isa bus), properties "index" (0..3: 0x3f8/4, 0x2f8/3, 0x3e8/4, 0x2e8/3) or "iobase"
 * and "irq", and "chardev".
 */
#ifndef HW_CHAR_SERIAL_H
#define HW_CHAR_SERIAL_H

#include "hw/core/device.h"

extern const struct device_type isa_serial_type;   /* "isa-serial", bus "isa" */
extern const struct device_type isa_debugcon_type; /* "isa-debugcon": iobase (0xe9), readback (0xe9), chardev */

#endif
