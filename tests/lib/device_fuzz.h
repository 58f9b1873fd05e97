/*
 * For fuzz targets of chips: reads the input as a sequence of accesses, steps of time, changes of input wires and
 * checkpoints of saved state, on a machine with a stepped clock. tests/fuzz/NAME.c gives the chip.
 */
#ifndef TESTS_LIB_DEVICE_FUZZ_H
#define TESTS_LIB_DEVICE_FUZZ_H

#include "hw/core/irq.h"
#include "tests/lib/device_test.h"

#include <stddef.h>
#include <stdint.h>

#define FUZZ_LINES 32

struct device_fuzz {
    struct machine *m;
    struct device *chip; /* whose saved state must survive a round trip at any moment */
    bool ports;          /* accesses go to ports rather than to memory */
    uint64_t base, size;
    struct irq_line in[FUZZ_LINES]; /* may be unconnected */
    /* What else the outside does to this chip, by a random number; or NULL. */
    void (*poke)(struct device_fuzz *f, uint32_t random);
    void *opaque;
};

/* A machine without devices; the target fills in the rest, then runs the input and frees the machine. */
void device_fuzz_init(struct device_fuzz *f);
/* Only the input, on a machine that somebody else made and frees. */
void device_fuzz_input(struct device_fuzz *f, const uint8_t *data, size_t size);
void device_fuzz_run(struct device_fuzz *f, const uint8_t *data, size_t size);

#endif
