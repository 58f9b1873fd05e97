/*
 * Messages that interrupt processors, and who takes them instead of the machine's own local APICs while these are in the
 * host's kernel. VM lock.
 */
#ifndef HW_CORE_MSI_H
#define HW_CORE_MSI_H

#include <stdbool.h>
#include <stdint.h>

#define MSI_PINS 24 /* of the I/O APIC */

/* A device's store of 32 bits to one of the addresses 0xfee00000 to 0xfeefffff. */
struct msi_message {
    uint64_t addr;
    uint32_t data;
};

struct msi_sink {
    /* False: no processor has accepted it. */
    bool (*send)(void *opaque, const struct msi_message *msg);
    /* machine.pins[pin] has changed. */
    void (*pin)(void *opaque, unsigned pin);
    void *opaque;
};

#endif
