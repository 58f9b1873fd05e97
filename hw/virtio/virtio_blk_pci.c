/*
 * virtio-blk over PCI: the device types. The -transitional and -non-transitional ones are as QEMU's: the same with one
 * property settled. All under the VM lock.
 */
#include "hw/core/machine.h"
#include "hw/virtio/pci.h"
#include "hw/virtio/virtio_blk.h"

struct virtio_blk_pci {
    struct virtio_pci pci;
    struct virtio_blk blk;
};

static struct virtio_blk_pci *of(struct device *d)
{
    return container_of(d, struct virtio_blk_pci, pci.pci.dev);
}

static void unrealize(struct device *d)
{
    struct virtio_blk_pci *s = of(d);
    virtio_blk_fini(&s->blk);
    virtio_pci_fini(&s->pci);
}

static bool add_boot_path(struct virtio_blk_pci *s, GError **err)
{
    if (s->blk.bootindex == UINT32_MAX)
        return true;
    g_autofree char *parent = pci_firmware_path(&s->pci.pci.dev, "scsi");
    g_autofree char *path = g_strdup_printf("%s/disk@0,0", parent);
    return machine_add_boot_path(s->pci.pci.dev.machine, s->blk.bootindex, path, err);
}

static bool realize(struct device *d, GError **err)
{
    struct virtio_blk_pci *s = of(d);
    if (!virtio_blk_init(&s->blk, d, err))
        return false;
    if (!virtio_pci_init(&s->pci, &s->blk.v, err)) {
        virtio_blk_fini(&s->blk);
        return false;
    }
    if (add_boot_path(s, err))
        return true;
    unrealize(d);
    return false;
}

static bool realize_as(struct device *d, const char *disable_legacy, GError **err)
{
    struct virtio_pci *p = &of(d)->pci;
    g_free(p->disable_legacy);
    p->disable_legacy = g_strdup(disable_legacy);
    p->disable_modern = false;
    return realize(d, err);
}

static bool realize_transitional(struct device *d, GError **err)
{
    return realize_as(d, "off", err);
}

static bool realize_modern(struct device *d, GError **err)
{
    return realize_as(d, "on", err);
}

static void reset(struct device *d)
{
    virtio_pci_reset(&of(d)->pci);
}

static void pre_save(void *instance)
{
    virtio_blk_pre_save(&((struct virtio_blk_pci *)instance)->blk);
}

static bool post_load(void *instance, uint8_t version, GError **err)
{
    struct virtio_blk_pci *s = instance;
    return virtio_pci_post_load(&s->pci, err) && virtio_blk_post_load(&s->blk, err);
}

static const struct prop props[] = {
    VIRTIO_PCI_PROPS,
    VIRTIO_BLK_PROPS(struct virtio_blk_pci, blk),
    PROPS_END,
};

static const struct state_field fields[] = {
    STATE_NESTED(struct virtio_blk_pci, pci, virtio_pci_fields),
    STATE_NESTED(struct virtio_blk_pci, blk, virtio_blk_fields),
    STATE_FIELDS_END,
};

static const struct state_table state = {
    .name = "virtio-blk-pci", .version = 1, .fields = fields, .pre_save = pre_save, .post_load = post_load
};

#define VIRTIO_BLK_PCI(name_, alias_, description_, realize_) \
    { .name = name_, .alias = alias_, .description = description_, .bus = "pci", \
      .size = sizeof(struct virtio_blk_pci), .props = props, .user_creatable = true, .realize = realize_, \
      .reset = reset, .unrealize = unrealize, .state = &state }

const struct device_type virtio_blk_pci_type =
    VIRTIO_BLK_PCI("virtio-blk-pci", "virtio-blk", "virtio disk", realize);
const struct device_type virtio_blk_transitional_type =
    VIRTIO_BLK_PCI("virtio-blk-pci-transitional", NULL, "virtio disk, for old drivers too", realize_transitional);
const struct device_type virtio_blk_modern_type =
    VIRTIO_BLK_PCI("virtio-blk-pci-non-transitional", NULL, "virtio disk, for drivers of virtio 1", realize_modern);
