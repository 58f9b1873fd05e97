/*
 * What connects I/O APICs, local APICs and devices that send message-signalled interrupts. One per machine, as device
 * "apic-bus" on the system bus, to be realized before the APICs; from then on machine->apic_bus.
 *
 * It also answers the megabyte at 0xfee00000: a vCPU's access to the first page goes to that vCPU's local APIC, a write
 * anywhere else in it is a message. All under the VM lock.
 */
#ifndef HW_IRQ_APIC_BUS_H
#define HW_IRQ_APIC_BUS_H

#include "hw/core/device.h"
#include "hw/core/msi.h"

#include <stdbool.h>
#include <stdint.h>

struct machine;

#define APIC_DEFAULT_BASE UINT64_C(0xfee00000)
#define APIC_WINDOW_SIZE UINT64_C(0x100000)

extern const struct device_type apic_bus_type; /* "apic-bus" */

/* Numbers as in ICR, LVTs, redirection entries and MSI data. */
enum apic_delivery {
    APIC_FIXED = 0,
    APIC_LOWEST = 1,
    APIC_SMI = 2,
    APIC_NMI = 4,
    APIC_INIT = 5,
    APIC_STARTUP = 6,
    APIC_EXTINT = 7,
};

struct apic_message {
    uint32_t dest; /* APIC id, or a logical destination */
    bool logical;
    bool wide;        /* dest has 32 bits (from an x2APIC's ICR): broadcast is ~0; otherwise 8, broadcast 0xff */
    uint8_t delivery; /* enum apic_delivery; reserved values are dropped */
    uint8_t vector;
    bool level_triggered;
    bool assert; /* false: INIT level de-assert */
};

/* To all local APICs that it addresses; one of them if it is APIC_LOWEST. True if one accepted it. */
bool apic_bus_deliver(struct machine *m, const struct apic_message *msg);
struct msi_message apic_bus_encode(const struct apic_message *msg);
/* A device's memory write to 0xfee00000..0xfeefffff. False if nobody accepted it. */
bool msi_deliver(struct machine *m, uint64_t addr, uint32_t data);

/* --- For local APICs -------------------------------------------------------------------------- */

/* Embedded in the local APIC; the bus knows it by its index, the vCPU's. */
struct apic_target {
    bool (*matches)(struct apic_target *t, const struct apic_message *msg);
    /* Takes a message that matched; false if it cannot accept it (disabled). */
    bool (*deliver)(struct apic_target *t, const struct apic_message *msg);
    uint64_t (*mmio_read)(struct apic_target *t, unsigned offset, unsigned size);
    void (*mmio_write)(struct apic_target *t, unsigned offset, uint32_t value, unsigned size);
};

void apic_bus_attach(struct machine *m, unsigned index, struct apic_target *t);
void apic_bus_detach(struct machine *m, unsigned index);
/* To every target but `except` (-1: to all). */
void apic_bus_broadcast(struct machine *m, const struct apic_message *msg, int except);
/* The INTA cycles of an ExtINT: asks the PIC that the board connected; -1 if there is none. */
int apic_bus_inta(struct machine *m);

/* --- For boards and I/O APICs ----------------------------------------------------------------- */

/* Who answers INTA: i8259_acknowledge. */
void apic_bus_set_pic(struct machine *m, int (*acknowledge)(struct device *pic), struct device *pic);

typedef void apic_eoi_fn(void *opaque, uint8_t vector);
/* fn hears of every EOI that ends a level-triggered interrupt. */
void apic_bus_listen_eoi(struct machine *m, apic_eoi_fn *fn, void *opaque);
void apic_bus_unlisten_eoi(struct machine *m, apic_eoi_fn *fn, void *opaque);
void apic_bus_eoi(struct machine *m, uint8_t vector);

#endif
