/*
 * The pair of 8259A interrupt controllers of a PC, with the edge/level control registers of the PIIX. All under the VM
 * lock.
 */
#ifndef HW_IRQ_I8259_H
#define HW_IRQ_I8259_H

#include "hw/core/device.h"
#include "hw/core/irq.h"

#define I8259_INPUTS 16

extern const struct device_type i8259_type; /* "isa-i8259" */

/* Input IRQ n, 0..15. 2 is the cascade: what is driven there goes nowhere. */
struct irq_line i8259_input(struct device *pic, int n);
/* INTR: high while the master asks for an acknowledge. Wired before reset. */
void i8259_set_output(struct device *pic, struct irq_line intr);
/* The processor's two INTA cycles: takes the highest request into service. Always a vector: IR7's when it was spurious.
 */
int i8259_acknowledge(struct device *pic);

#endif
