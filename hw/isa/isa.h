/*
 * The ISA bus: sixteen interrupt wires, shared by whoever asks for one, and the DMA controller behind it.
 *
 * A bridge (hw/isa/piix3.c) embeds struct isa_bus and makes the bus; devices of kind "isa" find it with isa_bus_of().
 * Ports and memory are the machine's own (machine.port_root, the bridge's memory). All under the VM lock.
 */
#ifndef HW_ISA_ISA_H
#define HW_ISA_ISA_H

#include "hw/core/device.h"
#include "hw/core/irq.h"
#include "hw/core/memory.h"
#include "hw/core/state.h"

#define ISA_IRQS 16

struct i8237;

struct isa_bus {
    struct bus *bus;
    struct irq_line out[ISA_IRQS]; /* to the interrupt controllers; the board fills these in before the guest runs */
    uint32_t asserted[ISA_IRQS];   /* per irq, one bit per source: the wire is high while any bit is set. Saved state */
    uint8_t sources[ISA_IRQS];     /* number of bits handed out */
    struct mem_region *memory;     /* where ISA devices map memory (0xa0000...): the PCI address space */
    struct i8237 *dma;             /* NULL if none */
};

extern const struct state_field isa_bus_fields[]; /* to be nested in the bridge's table */

/* Makes the bus below `owner`. */
void isa_bus_init(struct isa_bus *b, struct device *owner, const char *name, struct mem_region *memory);
struct isa_bus *isa_bus_of(const struct device *d);
/* A wire to irq `n` for one more source. Fails if n is not an ISA irq or has too many sources. At realize only. */
bool isa_irq_connect(struct isa_bus *b, unsigned n, struct irq_line *out, GError **err);
/* Drops all wires without driving them: the bridge's first reset pass. */
void isa_bus_reset(struct isa_bus *b);

/* Maps `r` at `port` of the machine's I/O space. Fails if it does not fit below 64 KiB. */
bool isa_map_ports(struct device *d, struct mem_region *r, uint64_t port, GError **err);

#endif
