/*
 * Virtqueues as the device sees them: split and packed rings, indirect descriptors, event index (Virtual I/O Device
 * (VIRTIO) 1.2, 2.6 to 2.8).
 *
 * A ring knows guest memory and nothing else. All that it reads is hostile: whatever the driver wrote, no function here
 * reads or writes outside the guest's RAM, loops or allocates without bound. What no driver may write stops the ring:
 * `error` then says what it was, and the device reports it (virtio_device_error()).
 *
 * Under the VM lock; the driver's processors run meanwhile. Numbers in memory are little-endian, of legacy drivers too,
 * as the guest is.
 */
#ifndef HW_VIRTIO_RING_H
#define HW_VIRTIO_RING_H

#include "hw/core/state.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct address_space;

#define VIRTIO_RING_MAX 1024  /* entries of a ring */
#define VIRTIO_CHAIN_MAX 1024 /* pieces of memory in one chain, indirect ones included */

struct virtio_ring {
    struct address_space *memory;
    uint16_t max_size; /* what the device offers */

    /* As the driver set it. Changes only while the ring is not enabled. */
    uint16_t size;
    bool enabled, packed, event_index, indirect;
    uint64_t desc, driver, device; /* guest-physical; of legacy drivers' rings too */

    /*
     * Split: the next entry of the available ring, which counts on behind the ring's end. Packed: the next descriptor;
     * its wrap counter. The same of what is used.
     */
    uint16_t avail, used;
    bool avail_wrap, used_wrap;
    uint16_t signalled;   /* `used` when the driver was last asked whether it wants an interrupt */
    bool signalled_valid;
    uint32_t in_use;      /* chains that are taken and not put back; at most `size` */
    const char *error;    /* what the driver did wrong; NULL: nothing. The ring gives nothing any more */
};

/*
 * A chain of descriptors. Embedded first in what the device keeps of a request. It owns its two vectors, which name guest
 * RAM: through hw/core/ram_access.h, or the host kernel, only.
 */
struct virtio_chain {
    struct virtio_ring *ring;
    uint16_t id;       /* by which the driver knows it */
    uint16_t position; /* where it can be taken from again: virtio_ring_take_at() */
    uint16_t count;    /* descriptors of the ring it occupies; split rings do not need it */
    struct iovec *out, *in; /* what the driver wrote for us, and where it wants answers */
    unsigned out_count, in_count;
    size_t out_bytes, in_bytes;
    struct virtio_memory *in_ram; /* private */
    unsigned in_ram_count;
};

extern const struct state_field virtio_ring_fields[];

void virtio_ring_reset(struct virtio_ring *r); /* as after power-on, of size max_size */
/* After a load: false if no ring can be so. */
bool virtio_ring_loaded(struct virtio_ring *r);
/* Begins to use it. False if the driver's size or addresses are none for this kind of ring. */
bool virtio_ring_enable(struct virtio_ring *r);

/*
 * The next chain, in a struct of `size` bytes that begins with struct virtio_chain, the rest zero; NULL if there is none,
 * or on an error. Goes back by virtio_ring_put(), and is freed with virtio_chain_free().
 */
void *virtio_ring_take(struct virtio_ring *r, size_t size);
/* After a load: the chain that had been taken from there and was not put back. */
void *virtio_ring_take_at(struct virtio_ring *r, uint16_t position, size_t size);
/* Gives it back to the driver, which finds `written` bytes in the in part. */
void virtio_ring_put(struct virtio_ring *r, struct virtio_chain *c, uint32_t written);
void virtio_chain_free(struct virtio_chain *c);

/* Does the driver want an interrupt for what was put since this was last asked? */
bool virtio_ring_wants_interrupt(struct virtio_ring *r);
/*
 * Tells the driver that it has to notify us of what comes now. True: there is something already, or the ring is in
 * error; take again.
 */
bool virtio_ring_rearm(struct virtio_ring *r);

/* --- Bytes of a chain --------------------------------------------------------------------------------------------- */

/* Copies out of a vector, from `offset` on; how many there were. */
size_t virtio_iov_read(const struct iovec *iov, unsigned count, size_t offset, void *buf, size_t len);
size_t virtio_iov_write(const struct iovec *iov, unsigned count, size_t offset, const void *buf, size_t len);
/* Takes bytes away at the beginning or the end; there must be so many. */
void virtio_iov_drop_front(struct iovec **iov, unsigned *count, size_t len);
void virtio_iov_drop_back(struct iovec *iov, unsigned *count, size_t len);

#endif
