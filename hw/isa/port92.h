/* System control port A at 0x92: A20 gate and fast reset. Under the VM lock. */
#ifndef HW_ISA_PORT92_H
#define HW_ISA_PORT92_H

#include "hw/core/device.h"
#include "hw/core/irq.h"

extern const struct device_type port92_type; /* "port92" */

/* Its wish for A20; the board joins it with the keyboard controller's. Wired before reset, low after it. */
void port92_set_a20(struct device *d, struct irq_line a20);

#endif
