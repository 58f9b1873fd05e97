/*
 * Keyboard controller 8042 at ports 0x60/0x64 with a PS/2 keyboard and mouse.
 *
 * The board adds i8042_type to the ISA bus and joins its A20 line (1: A20 passes) with that of port 92. Keys and
 * pointers come through hw/core/input.h. VM lock.
 */
#ifndef HW_INPUT_I8042_H
#define HW_INPUT_I8042_H

#include "hw/core/device.h"
#include "hw/core/irq.h"

extern const struct device_type i8042_type; /* "i8042", bus "isa" */

/* Its wish for A20; wired before reset. */
void i8042_set_a20(struct device *d, struct irq_line a20);

#endif
