/*
 * Intel 82371SB (PIIX3) function 0: PCI to ISA bridge, interrupt router PIRQA-D, reset control register.
 *
 * The board adds it to pci.0 with addr=1.0 and multifunction=on, then fills in isa.out[] (i8259 and IOAPIC inputs). Its
 * bus is "isa.0". VM lock.
 */
#ifndef HW_ISA_PIIX3_H
#define HW_ISA_PIIX3_H

#include "hw/isa/isa.h"
#include "hw/pci/pci.h"

struct piix3 {
    struct pci_device pci;
    struct isa_bus isa;
    struct irq_line pirq_out[ISA_IRQS]; /* the router as one more source of each ISA irq */
    uint8_t pirq_level;                 /* bit per PIRQ */
    uint16_t routed;                    /* bit per ISA irq: the router drives it */
    uint8_t reset_control;              /* port 0xcf9 */
};

extern const struct device_type piix3_type; /* "PIIX3", bus "pci" */

#endif
