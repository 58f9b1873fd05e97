/*
 * 16550A UART. struct serial is the chip; isa-serial (and later pci-serial) puts it on a bus. VM lock.
 *
 * Board: device_new(&isa_serial_type, isa bus), properties "index" (0..3: 0x3f8/4, 0x2f8/3, 0x3e8/4, 0x2e8/3) or
 * "iobase" and "irq", and "chardev".
 */
#ifndef HW_CHAR_SERIAL_H
#define HW_CHAR_SERIAL_H

#include "hw/core/clock.h"
#include "hw/core/device.h"
#include "hw/core/irq.h"
#include "hw/core/memory.h"
#include "hw/core/state.h"

struct chr;

#define SERIAL_FIFO 16

struct serial_fifo {
    uint8_t data[SERIAL_FIFO];
    uint8_t errors[SERIAL_FIFO]; /* LSR bits that come with the byte */
    uint8_t first, count;
};

/* Embedded in its device. */
struct serial {
    struct device *dev;
    struct irq_line irq;  /* set before serial_reset() */
    struct chr *chr;      /* or NULL */
    uint8_t ier, fcr, lcr, mcr, lsr, msr, scr;
    uint16_t divisor;
    struct serial_fifo receive, transmit; /* one deep while FCR's FIFO enable is off */
    bool thr_interrupt;     /* THR has become empty and nobody has read that from IIR yet */
    bool timeout_interrupt; /* bytes wait below the trigger level */
    bool breaking;          /* break condition on the line, from LCR */
    struct timer timeout;
    struct mem_region region; /* 8 registers */
};

extern const struct state_field serial_fields[];

bool serial_init(struct serial *s, struct device *dev, GError **err);
void serial_fini(struct serial *s);
void serial_reset(struct serial *s);
void serial_reset_wires(struct serial *s);
bool serial_post_load(struct serial *s, GError **err);

extern const struct device_type isa_serial_type;   /* "isa-serial", bus "isa" */
extern const struct device_type isa_debugcon_type; /* "isa-debugcon": iobase (0xe9), readback (0xe9), chardev */

#endif
