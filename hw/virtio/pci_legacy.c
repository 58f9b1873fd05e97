/*
 * Virtio over PCI, the legacy interface: ports in BAR 0 (Virtual I/O Device (VIRTIO) 1.2, 4.1.4.10 and 2.7.2).
 *
 * A queue is one block of memory at a page number, its size the device's. The device's configuration follows the
 * registers, four bytes later while MSI-X is on. Numbers have the guest's order, which is little-endian. All under the
 * VM lock.
 */
#include "hw/core/log.h"
#include "hw/virtio/pci_int.h"

enum legacy_register {
    HOST_FEATURES = 0,
    GUEST_FEATURES = 4,
    QUEUE_PFN = 8,
    QUEUE_NUM = 12,
    QUEUE_SEL = 14,
    QUEUE_NOTIFY = 16,
    STATUS = 18,
    ISR = 19,
    MSI_CONFIG_VECTOR = 20,
    MSI_QUEUE_VECTOR = 22,
};

#define CONFIG_WITHOUT_MSIX 20
#define CONFIG_WITH_MSIX 24
#define PAGE_SHIFT 12

static unsigned config_start(const struct virtio_pci *p)
{
    return msix_enabled(&p->msix) ? CONFIG_WITH_MSIX : CONFIG_WITHOUT_MSIX;
}

uint64_t virtio_pci_legacy_size(const struct virtio_pci *p)
{
    uint64_t size = 32;
    while (size < CONFIG_WITH_MSIX + p->v->ops->config_size)
        size *= 2;
    return size;
}

static uint64_t legacy_read(void *opaque, uint64_t offset, unsigned size)
{
    struct virtio_pci *p = opaque;
    const struct virtio_queue *q = virtio_pci_queue(p);
    if (offset >= config_start(p))
        return virtio_config_read(p->v, offset - config_start(p), size);
    switch (offset) {
    case HOST_FEATURES: return (uint32_t)p->v->offered;
    case GUEST_FEATURES: return (uint32_t)p->v->features;
    case QUEUE_PFN: return q && q->ring.enabled ? q->ring.desc >> PAGE_SHIFT : 0;
    case QUEUE_NUM: return q ? q->ring.max_size : 0;
    case QUEUE_SEL: return p->queue;
    case STATUS: return p->v->status;
    case ISR: return virtio_take_isr(p->v);
    case MSI_CONFIG_VECTOR: return p->v->config_vector;
    case MSI_QUEUE_VECTOR: return q ? q->vector : VIRTIO_NO_VECTOR;
    default: return 0;
    }
}

/* 2.7.2: descriptors, available ring, and on the next page the used ring. */
static void set_page(struct virtio_pci *p, struct virtio_queue *q, uint32_t page)
{
    struct virtio_ring *r = &q->ring;
    r->enabled = false;
    if (!page)
        return;
    r->size = r->max_size;
    r->desc = (uint64_t)page << PAGE_SHIFT;
    r->driver = r->desc + 16 * (uint64_t)r->size;
    r->device = (r->driver + 6 + 2 * (uint64_t)r->size + PAGE_SIZE - 1) & PAGE_MASK;
    virtio_enable_queue(p->v, p->queue);
}

static void legacy_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct virtio_pci *p = opaque;
    struct virtio_queue *q = virtio_pci_queue(p);
    if (offset >= config_start(p)) {
        virtio_config_write(p->v, offset - config_start(p), value, size);
        return;
    }
    switch (offset) {
    case GUEST_FEATURES: virtio_set_features(p->v, (uint32_t)value); break;
    case QUEUE_PFN:
        if (q)
            set_page(p, q, value);
        break;
    case QUEUE_SEL: p->queue = value; break;
    case QUEUE_NOTIFY: virtio_notify(p->v, value); break;
    case STATUS:
        if (!(value & 0xff))
            virtio_pci_driver_reset(p);
        virtio_set_status(p->v, value, true);
        break;
    case MSI_CONFIG_VECTOR: p->v->config_vector = virtio_pci_vector(p, value); break;
    case MSI_QUEUE_VECTOR:
        if (q)
            q->vector = virtio_pci_vector(p, value);
        break;
    default: log_guest_error(p->v->ops->name, "write to legacy register %u", (unsigned)offset); break;
    }
}

const struct mem_ops virtio_pci_legacy_ops = { .read = legacy_read, .write = legacy_write, .valid = { 1, 4, true } };
