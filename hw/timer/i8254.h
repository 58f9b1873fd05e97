/* 8254 interval timer at ports 0x40..0x43. All under the VM lock. */
#ifndef HW_TIMER_I8254_H
#define HW_TIMER_I8254_H

#include "hw/core/device.h"
#include "hw/core/irq.h"

#include <stdbool.h>
#include <stdint.h>

#define I8254_HZ UINT64_C(1193182)

extern const struct device_type i8254_type; /* "isa-pit" */

/* OUT of channel 0, to IRQ 0 (through the HPET's legacy input if there is one). Wired before reset. */
void i8254_set_irq(struct device *pit, struct irq_line irq);
/* GATE pin of a channel; 0 and 1 are tied high on a PC. */
void i8254_set_gate(struct device *pit, unsigned channel, bool level);
bool i8254_gate(struct device *pit, unsigned channel);
/* OUT pin of a channel at this instant. */
bool i8254_out(struct device *pit, unsigned channel);

#endif
