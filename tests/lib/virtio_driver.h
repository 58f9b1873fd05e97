/*
 * The driver's side of a virtqueue, for tests: split and packed rings in a machine's memory, written as VIRTIO 1.2 says it
 * to drivers, without a line of the device's code.
 */
#ifndef TESTS_LIB_VIRTIO_DRIVER_H
#define TESTS_LIB_VIRTIO_DRIVER_H

#include "hw/core/machine.h"

#include <stdbool.h>
#include <stdint.h>

#define DRIVER_RING_MAX 1024

struct driver_buffer {
    uint64_t addr;
    uint32_t len;
    bool write; /* the device writes it */
};

struct driver_ring {
    struct machine *m;
    bool packed;
    unsigned size;
    uint64_t desc, driver, device; /* guest-physical */
    uint16_t avail, used;          /* split: indexes; packed: places */
    bool avail_wrap, used_wrap;
    unsigned free;                 /* descriptors */
    uint16_t count[DRIVER_RING_MAX]; /* by id: descriptors of the ring that the chain has; 0: no such chain */
    uint16_t first[DRIVER_RING_MAX]; /* split: free list */
    uint16_t free_head;
};

/* At `base`, a multiple of 4096, as a legacy driver would lay it out. Clears the memory. */
void driver_ring_init(struct driver_ring *d, struct machine *m, bool packed, unsigned size, uint64_t base);
/*
 * Makes a chain available; -1: no room. With `table` the descriptors go there and one in the ring names them. The id that
 * will come back.
 */
int driver_add(struct driver_ring *d, const struct driver_buffer *b, unsigned n, uint64_t table);
/* The next one that came back: its id and how much the device says it wrote; false: none. */
bool driver_get(struct driver_ring *d, unsigned *id, uint32_t *written);
/* Wants an interrupt: never; at each; when `after` more came back (event index). */
void driver_want_never(struct driver_ring *d);
void driver_want_each(struct driver_ring *d);
void driver_want_after(struct driver_ring *d, unsigned after);

#endif
