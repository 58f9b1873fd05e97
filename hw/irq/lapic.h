/*
 * Local APIC, one device per processor, with xAPIC, x2APIC and TSC deadline. Needs the apic-bus, and
 * machine->cpus[index] whose apic and apic_ops it fills in at realize. All under the VM lock, but for struct
 * cpu_apic_ops, which takes it itself.
 */
#ifndef HW_IRQ_LAPIC_H
#define HW_IRQ_LAPIC_H

#include "hw/core/device.h"
#include "hw/core/irq.h"

extern const struct device_type lapic_type; /* "apic"; property index: which processor; also its APIC id */

/* Pins LINT0 (the PIC's INTR goes to that of every processor) and LINT1 (NMI). */
struct irq_line lapic_lint(struct device *lapic, int n);

#endif
