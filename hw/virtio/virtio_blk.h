/* virtio-blk: a disk on a struct blk, over PCI. All under the VM lock. */
#ifndef HW_VIRTIO_VIRTIO_BLK_H
#define HW_VIRTIO_VIRTIO_BLK_H

#include "hw/core/clock.h"
#include "hw/virtio/device.h"

struct blk;
struct virtio_blk_request;

#define VIRTIO_BLK_QUEUES_MAX 64

struct virtio_blk {
    struct virtio_device v;
    struct blk *blk;
    bool write_cache;                /* the drive's own setting: what a reset returns to */
    bool write_cache_now;            /* as the driver has it */
    struct virtio_blk_request *held; /* failed, to be tried again when the machine goes on (werror=stop) */
    struct timer again;
    /* Of `held`, to be saved: a bit for each place in its ring that a request was taken from. */
    uint8_t held_at[VIRTIO_BLK_QUEUES_MAX][VIRTIO_RING_MAX / 8];

    /* Properties: VIRTIO_BLK_PROPS. */
    char *serial;
    uint32_t bootindex; /* UINT32_MAX: none */
    uint32_t num_queues;  /* UINT32_MAX: one for each processor */
    uint32_t queue_size;
    bool seg_max_adjust, config_wce, discard, write_zeroes;
    uint32_t max_discard_sectors, max_write_zeroes_sectors;
    uint32_t logical_block_size, physical_block_size, min_io_size, opt_io_size, discard_granularity; /* bytes */
};

#define VIRTIO_BLK_PROPS(s_, b_) \
    PROP(PROP_BLK, "drive", s_, b_.blk, 0, "id of the -drive"), \
    PROP(PROP_U32, "bootindex", s_, b_.bootindex, UINT32_MAX, "firmware boots from the lowest first"), \
    PROP(PROP_STRING, "serial", s_, b_.serial, 0, "serial number, up to 20 characters"), \
    PROP(PROP_U32, "num-queues", s_, b_.num_queues, UINT32_MAX, "request queues, by default one for each processor"), \
    PROP(PROP_U32, "queue-size", s_, b_.queue_size, 256, "entries of a queue, a power of two from 4 to 1024"), \
    PROP(PROP_BOOL, "seg-max-adjust", s_, b_.seg_max_adjust, 1, "requests may have as many segments as the queue allows"), \
    PROP(PROP_BOOL, "config-wce", s_, b_.config_wce, 1, "the guest may switch the write cache"), \
    PROP(PROP_BOOL, "discard", s_, b_.discard, 1, "offer discard where the drive has discard=unmap"), \
    PROP(PROP_BOOL, "write-zeroes", s_, b_.write_zeroes, 1, "offer to write zeroes"), \
    PROP(PROP_U32, "max-discard-sectors", s_, b_.max_discard_sectors, 0x3fffff, "sectors of one discard"), \
    PROP(PROP_U32, "max-write-zeroes-sectors", s_, b_.max_write_zeroes_sectors, 0x3fffff, "of one write of zeroes"), \
    PROP(PROP_U32, "logical_block_size", s_, b_.logical_block_size, 512, "bytes, a power of two from 512 to 32768"), \
    PROP(PROP_U32, "physical_block_size", s_, b_.physical_block_size, 512, "bytes, at least the logical block size"), \
    PROP(PROP_U32, "min_io_size", s_, b_.min_io_size, 0, "bytes; what requests should have at least"), \
    PROP(PROP_U32, "opt_io_size", s_, b_.opt_io_size, 0, "bytes; what requests should have at best"), \
    PROP(PROP_U32, "discard_granularity", s_, b_.discard_granularity, UINT32_MAX, \
         "bytes; by default the logical block size"), \
    VIRTIO_PROPS(s_, b_.v)

extern const struct state_field virtio_blk_fields[];

/* `d` is the device on the bus that `s` is part of. */
bool virtio_blk_init(struct virtio_blk *s, struct device *d, GError **err);
void virtio_blk_fini(struct virtio_blk *s);
void virtio_blk_pre_save(struct virtio_blk *s);
bool virtio_blk_post_load(struct virtio_blk *s, GError **err); /* behind that of the transport */

/* "virtio-blk-pci", with both interfaces unless told otherwise, and those that have certain ones. */
extern const struct device_type virtio_blk_pci_type, virtio_blk_transitional_type, virtio_blk_modern_type;

#endif
