/* Coprocessor error logic: FERR# to IRQ 13, port 0xf0. Under the VM lock. */
#ifndef HW_ISA_FPU_ERROR_H
#define HW_ISA_FPU_ERROR_H

#include "hw/core/device.h"
#include "hw/core/irq.h"

extern const struct device_type fpu_error_type; /* "fpu-error" */

/* The processor's FERR#: high while it holds an unmasked x87 exception and reports it the old way. */
struct irq_line fpu_error_input(struct device *d);

#endif
