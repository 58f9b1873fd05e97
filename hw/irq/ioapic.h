/* I/O APIC (82093AA as in later chipsets) at 0xfec00000. Needs the apic-bus. All under the VM lock. */
#ifndef HW_IRQ_IOAPIC_H
#define HW_IRQ_IOAPIC_H

#include "hw/core/device.h"
#include "hw/core/irq.h"

#define IOAPIC_PINS 24
#define IOAPIC_DEFAULT_BASE UINT64_C(0xfec00000)

extern const struct device_type ioapic_type; /* "ioapic"; properties addr, apic-id, version */

/* Pin 0..23. The board connects IRQ 0 to pin 2. */
struct irq_line ioapic_input(struct device *ioapic, int pin);

#endif
