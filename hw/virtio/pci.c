/*
 * Virtio over PCI: capabilities, BARs and interrupts (Virtual I/O Device (VIRTIO) 1.2, 4.1). BAR 0 is the legacy
 * interface's ports (pci_legacy.c), BAR 1 MSI-X, BAR 4 the modern interface, at offsets as QEMU has them.
 *
 * DMA and INTx do not depend on the bus master bit: legacy drivers are known to forget it.
 *
 * Not modelled: PCI Express, notification data, ring reset, shared memory regions. All under the VM lock.
 */
#include "hw/virtio/pci_int.h"

#include "hw/core/log.h"
#include "hw/core/opts.h"

#include <string.h>

#define VENDOR_REDHAT 0x1af4
#define DEVICE_MODERN 0x1040 /* and the device id */
#define CAP_ID_VENDOR 0x09
#define CAP_LENGTH 16

enum { BAR_LEGACY = 0, BAR_MSIX = 1, BAR_MODERN = 4 };

/* 4.1.4: struct virtio_pci_cap and what it names. */
enum cap_type { CAP_COMMON = 1, CAP_NOTIFY = 2, CAP_ISR = 3, CAP_DEVICE = 4, CAP_PCI = 5 };
enum cap_register { CAP_TYPE = 3, CAP_BAR = 4, CAP_OFFSET = 8, CAP_SIZE = 12, CAP_EXTRA = 16 };

#define MODERN_SIZE 0x4000
#define PART_SIZE 0x1000
enum part { PART_COMMON, PART_ISR, PART_DEVICE, PART_NOTIFY };
#define NOTIFY_MULTIPLIER 4

/* 4.1.4.3: struct virtio_pci_common_cfg. */
enum common_register {
    DEVICE_FEATURE_SELECT = 0x00,
    DEVICE_FEATURE = 0x04,
    DRIVER_FEATURE_SELECT = 0x08,
    DRIVER_FEATURE = 0x0c,
    CONFIG_MSIX_VECTOR = 0x10,
    NUM_QUEUES = 0x12,
    DEVICE_STATUS = 0x14,
    CONFIG_GENERATION = 0x15,
    QUEUE_SELECT = 0x16,
    QUEUE_SIZE = 0x18,
    QUEUE_MSIX_VECTOR = 0x1a,
    QUEUE_ENABLE = 0x1c,
    QUEUE_NOTIFY_OFF = 0x1e,
    QUEUE_DESC = 0x20,
    QUEUE_DRIVER = 0x28,
    QUEUE_DEVICE = 0x30,
};

struct virtio_queue *virtio_pci_queue(struct virtio_pci *p)
{
    return p->queue < p->v->queue_count ? &p->v->queues[p->queue] : NULL;
}

uint16_t virtio_pci_vector(const struct virtio_pci *p, uint16_t vector)
{
    return vector < p->msix.vectors ? vector : VIRTIO_NO_VECTOR;
}

/* --- Interrupts --------------------------------------------------------------------------------------------------- */

static struct virtio_pci *of_device(const struct virtio_device *v)
{
    return container_of(v->dev, struct virtio_pci, pci.dev);
}

static void interrupt(struct virtio_device *v, uint16_t vector)
{
    struct virtio_pci *p = of_device(v);
    if (!msix_enabled(&p->msix))
        pci_set_intx(&p->pci, 1);
    else if (vector != VIRTIO_NO_VECTOR)
        msix_notify(&p->msix, vector);
}

static void lower(struct virtio_device *v)
{
    pci_set_intx(&of_device(v)->pci, 0);
}

static const struct virtio_transport_ops transport = { .interrupt = interrupt, .lower = lower };

/* --- Common configuration ----------------------------------------------------------------------------------------- */

/* Features beyond the 64th do not exist. */
static uint32_t half(uint64_t value, uint32_t select)
{
    return select < 2 ? value >> 32 * select : 0;
}

static uint32_t queue_read(const struct virtio_pci *p, const struct virtio_queue *q, unsigned reg)
{
    const struct virtio_ring *r = &q->ring;
    switch (reg) {
    case QUEUE_SIZE: return r->size;
    case QUEUE_MSIX_VECTOR: return q->vector;
    case QUEUE_ENABLE: return r->enabled;
    case QUEUE_NOTIFY_OFF: return p->queue;
    case QUEUE_DESC: return r->desc;
    case QUEUE_DESC + 4: return r->desc >> 32;
    case QUEUE_DRIVER: return r->driver;
    case QUEUE_DRIVER + 4: return r->driver >> 32;
    case QUEUE_DEVICE: return r->device;
    case QUEUE_DEVICE + 4: return r->device >> 32;
    default: return 0;
    }
}

static uint32_t common_read(struct virtio_pci *p, unsigned reg)
{
    const struct virtio_queue *q = virtio_pci_queue(p);
    switch (reg) {
    case DEVICE_FEATURE_SELECT: return p->device_feature_select;
    case DEVICE_FEATURE: return half(p->v->offered & ~VIRTIO_F_ANY_LAYOUT, p->device_feature_select);
    case DRIVER_FEATURE_SELECT: return p->driver_feature_select;
    case DRIVER_FEATURE: return half(p->v->features, p->driver_feature_select);
    case CONFIG_MSIX_VECTOR: return p->v->config_vector;
    case NUM_QUEUES: return p->v->queue_count;
    case DEVICE_STATUS: return p->v->status;
    case CONFIG_GENERATION: return p->v->generation;
    case QUEUE_SELECT: return p->queue;
    default: return q ? queue_read(p, q, reg) : 0;
    }
}

static void set_half(uint64_t *value, unsigned high, uint32_t to)
{
    unsigned shift = high ? 32 : 0;
    *value = (*value & ~(UINT64_C(0xffffffff) << shift)) | (uint64_t)to << shift;
}

static void queue_write(struct virtio_pci *p, struct virtio_queue *q, unsigned reg, uint32_t value)
{
    struct virtio_ring *r = &q->ring;
    if (reg == QUEUE_MSIX_VECTOR) {
        q->vector = virtio_pci_vector(p, value);
        return;
    }
    if (r->enabled || !r->max_size) {
        log_guest_error(p->v->ops->name, "register 0x%x of a queue in use written", reg);
        return;
    }
    switch (reg) {
    case QUEUE_SIZE:
        if (value && value <= r->max_size)
            r->size = value;
        break;
    case QUEUE_ENABLE:
        if (value == 1)
            virtio_enable_queue(p->v, p->queue);
        break;
    case QUEUE_DESC: case QUEUE_DESC + 4: set_half(&r->desc, reg & 4, value); break;
    case QUEUE_DRIVER: case QUEUE_DRIVER + 4: set_half(&r->driver, reg & 4, value); break;
    case QUEUE_DEVICE: case QUEUE_DEVICE + 4: set_half(&r->device, reg & 4, value); break;
    default: log_guest_error(p->v->ops->name, "write to register 0x%x", reg); break;
    }
}

static void common_write(struct virtio_pci *p, unsigned reg, uint32_t value)
{
    struct virtio_queue *q = virtio_pci_queue(p);
    switch (reg) {
    case DEVICE_FEATURE_SELECT: p->device_feature_select = value; break;
    case DRIVER_FEATURE_SELECT: p->driver_feature_select = value; break;
    case DRIVER_FEATURE:
        if (p->driver_feature_select < 2)
            set_half(&p->driver_features, p->driver_feature_select, value);
        virtio_set_features(p->v, p->driver_features);
        break;
    case CONFIG_MSIX_VECTOR: p->v->config_vector = virtio_pci_vector(p, value); break;
    case DEVICE_STATUS:
        if (!(value & 0xff))
            virtio_pci_driver_reset(p);
        virtio_set_status(p->v, value, false);
        break;
    case QUEUE_SELECT: p->queue = value; break;
    default:
        if (q)
            queue_write(p, q, reg, value);
        break;
    }
}

/* Registers have 4, 2 or 1 bytes and are accessed as such; 64-bit ones as two halves. */
static unsigned common_size(unsigned reg)
{
    if (reg < CONFIG_MSIX_VECTOR || reg >= QUEUE_DESC)
        return 4;
    return reg == DEVICE_STATUS || reg == CONFIG_GENERATION ? 1 : 2;
}

/* --- BAR 4 -------------------------------------------------------------------------------------------------------- */

uint64_t virtio_pci_modern_read(struct virtio_pci *p, uint64_t offset, unsigned size)
{
    unsigned reg = offset % PART_SIZE;
    switch (offset / PART_SIZE) {
    case PART_COMMON: return size == common_size(reg) ? common_read(p, reg) : 0;
    case PART_ISR: return reg == 0 ? virtio_take_isr(p->v) : 0;
    case PART_DEVICE: return virtio_config_read(p->v, reg, size);
    default: return 0;
    }
}

void virtio_pci_modern_write(struct virtio_pci *p, uint64_t offset, uint64_t value, unsigned size)
{
    unsigned reg = offset % PART_SIZE;
    switch (offset / PART_SIZE) {
    case PART_COMMON:
        if (size == common_size(reg))
            common_write(p, reg, value);
        else
            log_guest_error(p->v->ops->name, "write of %u bytes to register 0x%x", size, reg);
        break;
    case PART_DEVICE: virtio_config_write(p->v, reg, value, size); break;
    case PART_NOTIFY: virtio_notify(p->v, reg / NOTIFY_MULTIPLIER); break;
    default: break;
    }
}

static uint64_t bar_read(void *opaque, uint64_t offset, unsigned size)
{
    return virtio_pci_modern_read(opaque, offset, size);
}

static void bar_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    virtio_pci_modern_write(opaque, offset, value, size);
}

static const struct mem_ops modern_ops = { .read = bar_read, .write = bar_write };

/* --- Capabilities ------------------------------------------------------------------------------------------------- */

static unsigned add_cap(struct virtio_pci *p, enum cap_type type, uint32_t offset, uint32_t size, unsigned extra)
{
    unsigned at = pci_add_capability(&p->pci, CAP_ID_VENDOR, CAP_LENGTH + extra);
    pci_config_init(&p->pci, at + 2, CAP_LENGTH + extra, 1, 0);
    pci_config_init(&p->pci, at + CAP_TYPE, type, 1, 0);
    pci_config_init(&p->pci, at + CAP_BAR, type == CAP_PCI ? 0 : BAR_MODERN, 1, 0);
    pci_config_init(&p->pci, at + CAP_OFFSET, offset, 4, 0);
    pci_config_init(&p->pci, at + CAP_SIZE, size, 4, 0);
    return at;
}

static void add_caps(struct virtio_pci *p)
{
    unsigned at;
    add_cap(p, CAP_COMMON, PART_COMMON * PART_SIZE, PART_SIZE, 0);
    add_cap(p, CAP_ISR, PART_ISR * PART_SIZE, PART_SIZE, 0);
    add_cap(p, CAP_DEVICE, PART_DEVICE * PART_SIZE, PART_SIZE, 0);
    at = add_cap(p, CAP_NOTIFY, PART_NOTIFY * PART_SIZE, PART_SIZE, 4);
    pci_config_init(&p->pci, at + CAP_EXTRA, NOTIFY_MULTIPLIER, 4, 0);
    at = add_cap(p, CAP_PCI, 0, 0, 4);
    pci_config_init(&p->pci, at + CAP_BAR, 0, 1, 0xff);
    pci_config_init(&p->pci, at + CAP_OFFSET, 0, 4, UINT32_MAX);
    pci_config_init(&p->pci, at + CAP_SIZE, 0, 4, UINT32_MAX);
    pci_config_init(&p->pci, at + CAP_EXTRA, 0, 4, UINT32_MAX);
    p->cfg_access = at;
}

/* Where an access to the data bytes of the PCI capability leads: into BAR 4, or nowhere. */
static bool window(const struct virtio_pci *p, unsigned reg, uint32_t *offset, uint32_t *size)
{
    unsigned at = p->cfg_access;
    *offset = pci_dword(&p->pci, at + CAP_OFFSET);
    *size = pci_dword(&p->pci, at + CAP_SIZE);
    return at && reg >= at + CAP_EXTRA && reg < at + CAP_EXTRA + 4 && p->pci.config[at + CAP_BAR] == BAR_MODERN &&
           (*size == 1 || *size == 2 || *size == 4) && *offset % *size == 0 && *offset < MODERN_SIZE;
}

static void config_wanted(struct pci_device *pci, unsigned reg, unsigned len)
{
    struct virtio_pci *p = container_of(pci, struct virtio_pci, pci);
    uint32_t offset, size;
    if (window(p, reg, &offset, &size))
        ram_store(pci->config + p->cfg_access + CAP_EXTRA, virtio_pci_modern_read(p, offset, size), size);
}

static void config_written(struct pci_device *pci, unsigned reg, unsigned len)
{
    struct virtio_pci *p = container_of(pci, struct virtio_pci, pci);
    uint32_t offset, size;
    msix_config_written(&p->msix, reg, len);
    if (window(p, reg, &offset, &size))
        virtio_pci_modern_write(p, offset, ram_load(pci->config + p->cfg_access + CAP_EXTRA, size), size);
}

/* --- Life --------------------------------------------------------------------------------------------------------- */

const struct state_field virtio_pci_fields[] = {
    STATE_NESTED(struct virtio_pci, pci, pci_device_fields),
    STATE_NESTED(struct virtio_pci, msix, msix_fields),
    STATE_FIELD(STATE_U32, struct virtio_pci, device_feature_select),
    STATE_FIELD(STATE_U32, struct virtio_pci, driver_feature_select),
    STATE_FIELD(STATE_U64, struct virtio_pci, driver_features),
    STATE_FIELD(STATE_U16, struct virtio_pci, queue),
    STATE_FIELDS_END,
};

void virtio_pci_driver_reset(struct virtio_pci *p)
{
    p->device_feature_select = p->driver_feature_select = 0;
    p->driver_features = 0;
    p->queue = 0;
}

void virtio_pci_reset(struct virtio_pci *p)
{
    virtio_device_reset(p->v);
    virtio_pci_driver_reset(p);
    pci_reset(&p->pci);
    msix_reset(&p->msix);
}

bool virtio_pci_post_load(struct virtio_pci *p, GError **err)
{
    if (!pci_post_load(&p->pci, err) || !virtio_device_post_load(p->v, err))
        return false;
    msix_post_load(&p->msix);
    p->v->config_vector = virtio_pci_vector(p, p->v->config_vector);
    for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
        p->v->queues[i].vector = virtio_pci_vector(p, p->v->queues[i].vector);
    return true;
}

static bool bad(const struct virtio_pci *p, GError **err, const char *what)
{
    return opts_error(err, "%s: %s", p->pci.dev.type->name, what);
}

/* Which of the two interfaces there are. */
static bool interfaces(struct virtio_pci *p, bool *legacy, bool *modern, GError **err)
{
    const char *s = p->disable_legacy ? p->disable_legacy : "auto";
    bool disabled = false;
    if (strcmp(s, "auto") != 0 && !parse_bool(s, &disabled, err)) {
        g_prefix_error(err, "%s: disable-legacy=%s: ", p->pci.dev.type->name, s);
        return false;
    }
    *legacy = !disabled;
    *modern = !p->disable_modern;
    if (!*legacy && !*modern)
        return bad(p, err, "disable-legacy=on and disable-modern=on leave no interface; give one of both");
    return true;
}

static uint16_t transitional_id(uint16_t id)
{
    /* 4.1.2.1: by the order in which they came, not by their ids. */
    static const uint8_t known[] = { [1] = 0, [2] = 1, [3] = 3, [4] = 5, [5] = 2, [8] = 4, [9] = 9 };
    g_assert(id < G_N_ELEMENTS(known));
    return 0x1000 + known[id];
}

static void fill_info(struct virtio_pci *p, bool legacy, bool modern)
{
    const struct virtio_device_ops *ops = p->v->ops;
    p->info = (struct pci_info){
        .vendor_id = VENDOR_REDHAT,
        .device_id = legacy ? transitional_id(ops->id) : DEVICE_MODERN + ops->id,
        .revision = legacy ? 0 : 1,
        .class_code = ops->class_code,
        .subsystem_vendor_id = VENDOR_REDHAT,
        .subsystem_id = legacy ? ops->id : 0x1100,
        .interrupt_pin = 1,
    };
    if (legacy)
        p->info.bars[BAR_LEGACY] =
            (struct pci_bar_info){ PCI_BAR_IO, virtio_pci_legacy_size(p), "virtio-legacy", &virtio_pci_legacy_ops };
    if (p->vectors)
        p->info.bars[BAR_MSIX] = (struct pci_bar_info){ PCI_BAR_MEM32, MSIX_BAR_SIZE, "msix", NULL };
    if (modern)
        p->info.bars[BAR_MODERN] =
            (struct pci_bar_info){ PCI_BAR_MEM64_PREFETCH, MODERN_SIZE, "virtio-modern", &modern_ops };
}

bool virtio_pci_init(struct virtio_pci *p, struct virtio_device *v, GError **err)
{
    bool legacy, modern;
    p->v = v;
    v->transport = &transport;
    if (!interfaces(p, &legacy, &modern, err))
        return false;
    if (p->vectors == UINT32_MAX)
        p->vectors = v->queue_count + 1;
    if (p->vectors > MSIX_VECTORS_MAX)
        return bad(p, err, "vectors= must be at most 128");
    if (!modern)
        v->offered &= UINT32_MAX; /* VERSION_1 and what came with it */
    fill_info(p, legacy, modern);
    p->pci.config_written = config_written;
    if (!pci_init(&p->pci, &p->info, err))
        return false;
    if (modern) {
        add_caps(p);
        p->pci.config_wanted = config_wanted;
    }
    if (p->vectors)
        msix_init(&p->msix, &p->pci, p->vectors, BAR_MSIX);
    return true;
}

void virtio_pci_fini(struct virtio_pci *p)
{
    pci_fini(&p->pci);
    msix_fini(&p->msix);
}
