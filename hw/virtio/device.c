/*
 * Virtio devices, what all have in common: status, feature negotiation, configuration, errors (Virtual I/O Device
 * (VIRTIO) 1.2, 2.1 to 2.5, 3.1, 7).
 *
 * Drivers of the legacy interface do not say FEATURES_OK: theirs are settled when they say DRIVER_OK, and as some put
 * requests into queues before that, a notification is enough for these.
 *
 * After an error of the driver's the device is still, as 2.1.2 wants it: NEEDS_RESET, a configuration interrupt, and
 * nothing is taken or given back. All under the VM lock.
 */
#include "hw/virtio/device.h"

#include "hw/core/log.h"
#include "hw/core/machine.h"

#include <inttypes.h>
#include <string.h>

/* --- Interrupts --------------------------------------------------------------------------------------------------- */

static void interrupt(struct virtio_device *v, uint8_t isr, uint16_t vector)
{
    v->isr |= isr;
    v->transport->interrupt(v, vector);
}

void virtio_config_changed(struct virtio_device *v)
{
    v->generation++;
    if (v->status & VIRTIO_STATUS_DRIVER_OK)
        interrupt(v, VIRTIO_ISR_CONFIG, v->config_vector);
}

uint8_t virtio_take_isr(struct virtio_device *v)
{
    uint8_t isr = v->isr;
    v->isr = 0;
    v->transport->lower(v);
    return isr;
}

void virtio_device_error(struct virtio_device *v, const char *what)
{
    log_guest_error(v->ops->name, "%s; the device needs a reset", what);
    if (v->broken)
        return;
    v->broken = true;
    if (!virtio_has(v, VIRTIO_F_VERSION_1))
        return;
    v->status |= VIRTIO_STATUS_NEEDS_RESET;
    if (v->status & VIRTIO_STATUS_DRIVER_OK)
        interrupt(v, VIRTIO_ISR_CONFIG, v->config_vector);
}

/* --- Queues ------------------------------------------------------------------------------------------------------- */

static void check_ring(struct virtio_device *v, const struct virtio_ring *r)
{
    if (r->error && !v->broken)
        virtio_device_error(v, r->error);
}

void *virtio_take(struct virtio_device *v, unsigned queue, size_t size)
{
    struct virtio_ring *r = &v->queues[queue].ring;
    void *c = v->broken ? NULL : virtio_ring_take(r, size);
    check_ring(v, r);
    return c;
}

void virtio_give(struct virtio_device *v, unsigned queue, struct virtio_chain *c, uint32_t written)
{
    struct virtio_queue *q = &v->queues[queue];
    if (!v->broken) {
        virtio_ring_put(&q->ring, c, written);
        if (virtio_ring_wants_interrupt(&q->ring))
            interrupt(v, VIRTIO_ISR_QUEUE, q->vector);
        check_ring(v, &q->ring);
    }
    virtio_chain_free(c);
}

bool virtio_rearm(struct virtio_device *v, unsigned queue)
{
    bool more = !v->broken && virtio_ring_rearm(&v->queues[queue].ring);
    check_ring(v, &v->queues[queue].ring);
    return more && !v->broken;
}

void virtio_enable_queue(struct virtio_device *v, unsigned queue)
{
    struct virtio_ring *r = &v->queues[queue].ring;
    r->packed = virtio_has(v, VIRTIO_F_RING_PACKED);
    r->event_index = virtio_has(v, VIRTIO_F_EVENT_IDX);
    r->indirect = virtio_has(v, VIRTIO_F_INDIRECT_DESC);
    if (!virtio_ring_enable(r))
        virtio_device_error(v, "a queue with a size or an address that is none");
}

void virtio_notify(struct virtio_device *v, unsigned queue)
{
    bool ready = (v->status & VIRTIO_STATUS_DRIVER_OK) || !virtio_has(v, VIRTIO_F_VERSION_1);
    if (queue < v->queue_count && v->queues[queue].ring.enabled && ready && !v->broken)
        v->ops->notified(v, queue);
}

/* --- Status and features ------------------------------------------------------------------------------------------ */

void virtio_set_features(struct virtio_device *v, uint64_t features)
{
    if (v->status & (VIRTIO_STATUS_FEATURES_OK | VIRTIO_STATUS_DRIVER_OK)) {
        log_guest_error(v->ops->name, "features written after they were settled");
        return;
    }
    if (features & ~v->offered)
        log_guest_error(v->ops->name, "features 0x%" PRIx64 " were not offered", features & ~v->offered);
    v->features = features & v->offered;
}

static void settle(struct virtio_device *v)
{
    if (v->ops->negotiated)
        v->ops->negotiated(v);
}

void virtio_set_status(struct virtio_device *v, uint8_t status, bool legacy)
{
    uint8_t before = v->status;
    if (!status) {
        virtio_device_reset(v);
        return;
    }
    if (!legacy && (status & ~before & VIRTIO_STATUS_FEATURES_OK)) {
        if (virtio_has(v, VIRTIO_F_VERSION_1))
            settle(v);
        else
            status &= ~VIRTIO_STATUS_FEATURES_OK; /* such a driver has to use the legacy interface */
    }
    v->status = status | (before & VIRTIO_STATUS_NEEDS_RESET);
    if (!(status & ~before & VIRTIO_STATUS_DRIVER_OK))
        return;
    if (legacy)
        settle(v);
    for (unsigned i = 0; i < v->queue_count; i++)
        virtio_notify(v, i);
}

/* --- Configuration ------------------------------------------------------------------------------------------------ */

uint32_t virtio_config_read(struct virtio_device *v, unsigned offset, unsigned len)
{
    uint8_t config[VIRTIO_CONFIG_MAX] = { 0 };
    uint32_t value = 0;
    v->ops->config_read(v, config);
    for (unsigned i = 0; i < len && offset + i < v->ops->config_size; i++)
        value |= (uint32_t)config[offset + i] << 8 * i;
    return value;
}

void virtio_config_write(struct virtio_device *v, unsigned offset, uint32_t value, unsigned len)
{
    uint8_t config[VIRTIO_CONFIG_MAX] = { 0 };
    if (!v->ops->config_write || offset >= v->ops->config_size || len > v->ops->config_size - offset) {
        log_guest_error(v->ops->name, "configuration written at 0x%x", offset);
        return;
    }
    v->ops->config_read(v, config);
    for (unsigned i = 0; i < len; i++)
        config[offset + i] = value >> 8 * i;
    v->ops->config_write(v, config, offset, len);
}

/* --- Life --------------------------------------------------------------------------------------------------------- */

static const struct state_field queue_fields[] = {
    STATE_NESTED(struct virtio_queue, ring, virtio_ring_fields),
    STATE_FIELD(STATE_U16, struct virtio_queue, vector),
    STATE_FIELDS_END,
};

const struct state_field virtio_device_fields[] = {
    STATE_NESTED_ARRAY(struct virtio_device, queues, queue_fields),
    STATE_FIELD(STATE_U64, struct virtio_device, features),
    STATE_FIELD(STATE_U8, struct virtio_device, status),
    STATE_FIELD(STATE_U8, struct virtio_device, isr),
    STATE_FIELD(STATE_U16, struct virtio_device, config_vector),
    STATE_FIELD(STATE_U8, struct virtio_device, generation),
    STATE_FIELD(STATE_BOOL, struct virtio_device, broken),
    STATE_FIELDS_END,
};

bool virtio_device_post_load(struct virtio_device *v, GError **err)
{
    bool right = !(v->features & ~v->offered);
    for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++) {
        struct virtio_ring *r = &v->queues[i].ring;
        right &= virtio_ring_loaded(r) && (i < v->queue_count || !r->enabled);
    }
    if (!right)
        g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_INVAL, "%s: the saved state is none that this device can have",
                    v->ops->name);
    return right;
}

void virtio_device_init(struct virtio_device *v, const struct virtio_device_ops *ops, struct device *dev,
                        uint64_t features, unsigned queues, unsigned queue_size)
{
    g_assert(queues && queues <= VIRTIO_QUEUES_MAX && queue_size <= VIRTIO_RING_MAX);
    g_assert(ops->config_size <= VIRTIO_CONFIG_MAX);
    v->ops = ops;
    v->dev = dev;
    v->queue_count = queues;
    v->offered = features | VIRTIO_F_VERSION_1 | (v->any_layout ? VIRTIO_F_ANY_LAYOUT : 0) |
                 (v->indirect_desc ? VIRTIO_F_INDIRECT_DESC : 0) | (v->event_idx ? VIRTIO_F_EVENT_IDX : 0) |
                 (v->packed ? VIRTIO_F_RING_PACKED : 0);
    for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++) {
        struct virtio_ring *r = &v->queues[i].ring;
        r->memory = &dev->machine->memory;
        r->max_size = i < queues ? queue_size : 0;
    }
}

void virtio_device_reset(struct virtio_device *v)
{
    v->ops->reset(v);
    for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++) {
        virtio_ring_reset(&v->queues[i].ring);
        v->queues[i].vector = VIRTIO_NO_VECTOR;
    }
    v->features = 0;
    v->status = 0;
    v->config_vector = VIRTIO_NO_VECTOR;
    v->broken = false;
    v->isr = 0;
    v->transport->lower(v);
}
