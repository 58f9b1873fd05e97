/*
 * Virtio devices (Virtual I/O Device (VIRTIO) 1.2, chapter 2): what all have in common, between a transport
 * (hw/virtio/pci.c), which lets the driver reach it, and a kind of device (hw/virtio/virtio_blk.c), which is known to it by
 * its operations. Rings are below: hw/virtio/ring.h.
 *
 * A kind's struct embeds struct virtio_device first and is itself embedded in the device that sits on a bus. Life:
 * virtio_device_init() -> transport -> virtio_device_reset() -> run -> virtio_device_fini(). All under the VM lock.
 */
#ifndef HW_VIRTIO_DEVICE_H
#define HW_VIRTIO_DEVICE_H

#include "hw/core/device.h"
#include "hw/core/state.h"
#include "hw/virtio/ring.h"

#define VIRTIO_QUEUES_MAX 65 /* 64 processors', and one for control */
#define VIRTIO_CONFIG_MAX 256
#define VIRTIO_NO_VECTOR 0xffff

/* Device ids, 5. */
#define VIRTIO_ID_BLOCK 2

/* Device status, 2.1. */
#define VIRTIO_STATUS_ACKNOWLEDGE 0x01
#define VIRTIO_STATUS_DRIVER 0x02
#define VIRTIO_STATUS_DRIVER_OK 0x04
#define VIRTIO_STATUS_FEATURES_OK 0x08
#define VIRTIO_STATUS_NEEDS_RESET 0x40
#define VIRTIO_STATUS_FAILED 0x80

/* Features of all devices, 6. */
#define VIRTIO_F(n) (UINT64_C(1) << (n))
#define VIRTIO_F_ANY_LAYOUT VIRTIO_F(27)
#define VIRTIO_F_INDIRECT_DESC VIRTIO_F(28)
#define VIRTIO_F_EVENT_IDX VIRTIO_F(29)
#define VIRTIO_F_VERSION_1 VIRTIO_F(32)
#define VIRTIO_F_RING_PACKED VIRTIO_F(34)

/* Interrupt status, 4.1.4.5. */
#define VIRTIO_ISR_QUEUE 1
#define VIRTIO_ISR_CONFIG 2

struct virtio_device;

struct virtio_device_ops {
    const char *name; /* for the guest log */
    uint16_t id;
    uint32_t class_code; /* what PCI calls it */
    unsigned config_size; /* bytes, at most VIRTIO_CONFIG_MAX */
    /* Fills in the whole configuration, which is zero before. */
    void (*config_read)(struct virtio_device *v, uint8_t *config);
    /* The driver wrote there; `config` is all of it with the new bytes. May be NULL: nothing can be written. */
    void (*config_write)(struct virtio_device *v, const uint8_t *config, unsigned offset, unsigned len);
    /* The driver has chosen v->features, before it uses queues. May be NULL. */
    void (*negotiated)(struct virtio_device *v);
    /* There may be something in that queue, which is enabled and not in error. */
    void (*notified)(struct virtio_device *v, unsigned queue);
    /* Ends what is under way, and forgets it: rings are reset behind this. */
    void (*reset)(struct virtio_device *v);
};

/* How a device reaches its driver. */
struct virtio_transport_ops {
    void (*interrupt)(struct virtio_device *v, uint16_t vector); /* v->isr has changed, or a message is to be sent */
    void (*lower)(struct virtio_device *v);                       /* v->isr is 0 */
};

struct virtio_queue {
    struct virtio_ring ring;
    uint16_t vector;
};

struct virtio_device {
    const struct virtio_device_ops *ops;
    struct device *dev; /* it is part of */
    const struct virtio_transport_ops *transport;
    uint64_t offered;   /* features; without VIRTIO_F_VERSION_1 for a transport that is legacy only */
    unsigned queue_count;
    /* Properties: VIRTIO_PROPS. */
    bool event_idx, indirect_desc, packed, any_layout;

    struct virtio_queue queues[VIRTIO_QUEUES_MAX];
    uint64_t features; /* what the driver takes, of those offered */
    uint8_t status, isr;
    uint16_t config_vector;
    uint8_t generation; /* of the configuration */
    bool broken;        /* after an error of the driver's; until reset */
};

/* The properties of every virtio device; `member_` is the struct virtio_device in `struct_`. */
#define VIRTIO_PROPS(struct_, member_) \
    PROP(PROP_BOOL, "indirect_desc", struct_, member_.indirect_desc, 1, "offer indirect descriptors"), \
    PROP(PROP_BOOL, "event_idx", struct_, member_.event_idx, 1, "offer the event index: fewer interrupts"), \
    PROP(PROP_BOOL, "packed", struct_, member_.packed, 0, "offer packed rings"), \
    PROP(PROP_BOOL, "any_layout", struct_, member_.any_layout, 1, "legacy drivers may lay out requests as they like")

extern const struct state_field virtio_device_fields[];

/* `features`: those of its kind; of all devices it offers what its properties say. Queues have `queue_size` entries. */
void virtio_device_init(struct virtio_device *v, const struct virtio_device_ops *ops, struct device *dev,
                        uint64_t features, unsigned queues, unsigned queue_size);
void virtio_device_reset(struct virtio_device *v);
bool virtio_device_post_load(struct virtio_device *v, GError **err);

static inline bool virtio_has(const struct virtio_device *v, uint64_t feature)
{
    return v->features & feature;
}

/* --- For kinds of devices ----------------------------------------------------------------------------------------- */

/* As virtio_ring_take(); an error is reported. */
void *virtio_take(struct virtio_device *v, unsigned queue, size_t size);
/* Puts it back, frees it, and interrupts the driver if it wants that. */
void virtio_give(struct virtio_device *v, unsigned queue, struct virtio_chain *c, uint32_t written);
/* As virtio_ring_rearm(). */
bool virtio_rearm(struct virtio_device *v, unsigned queue);
/* The driver did what none may do: the device needs a reset, and does nothing until then. */
void virtio_device_error(struct virtio_device *v, const char *what);
/* The configuration is another one. */
void virtio_config_changed(struct virtio_device *v);

/* --- For transports ----------------------------------------------------------------------------------------------- */

/* The driver writes the status; 0 is a reset. `legacy`: through an interface without FEATURES_OK. */
void virtio_set_status(struct virtio_device *v, uint8_t status, bool legacy);
void virtio_set_features(struct virtio_device *v, uint64_t features);
/* The driver says that the queue's addresses are right. */
void virtio_enable_queue(struct virtio_device *v, unsigned queue);
void virtio_notify(struct virtio_device *v, unsigned queue);
uint32_t virtio_config_read(struct virtio_device *v, unsigned offset, unsigned len);
void virtio_config_write(struct virtio_device *v, unsigned offset, uint32_t value, unsigned len);
uint8_t virtio_take_isr(struct virtio_device *v); /* reads it, which clears it */

#endif
