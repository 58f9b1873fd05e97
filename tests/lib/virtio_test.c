/* See virtio_test.h. */
#include "tests/lib/virtio_test.h"

#include "hw/backend/blk.h"
#include "hw/pci/i440fx.h"
#include "hw/virtio/virtio_blk.h"

#include <string.h>

#define DEVFN PCI_DEVFN(4, 0)
#define MSIX_CONTROL 2

static bool matches(struct apic_target *a, const struct apic_message *msg)
{
    return true;
}

static bool deliver(struct apic_target *a, const struct apic_message *msg)
{
    container_of(a, struct virtio_test, apic)->vectors[msg->vector]++;
    return true;
}

static void make_disk(struct virtio_test *t, const char *drive)
{
    GError *err = NULL;
    test_image_make(&t->disk, VT_DISK_SIZE);
    g_autofree char *option = g_strdup_printf("file=%s,format=raw,id=disk%s%s", t->disk.path, *drive ? "," : "", drive);
    blk_new_drive(t->m, option, BLK_IF_NONE, -1, &err);
    g_assert_no_error(err);
}

static void make_device(struct virtio_test *t, const char *props)
{
    GError *err = NULL;
    g_auto(GStrv) list = g_strsplit(props ? props : "", ",", -1);
    t->dev = device_new(&virtio_blk_pci_type, t->bus);
    device_set_prop(t->dev, "addr", "4", &err);
    g_assert_no_error(err);
    device_set_prop(t->dev, "drive", "disk", &err);
    g_assert_no_error(err);
    for (unsigned i = 0; list[i]; i++) {
        char *value = strchr(list[i], '=');
        *value++ = 0;
        device_set_prop(t->dev, list[i], value, &err);
        g_assert_no_error(err);
    }
    device_realize(t->dev, &err);
    g_assert_no_error(err);
    t->pci = container_of(t->dev, struct pci_device, dev);
}

void virtio_test_begin(struct virtio_test *t, const char *props, const char *drive)
{
    *t = (struct virtio_test){ .m = test_machine_new(), .apic = { .matches = matches, .deliver = deliver } };
    test_add_ram(t->m, VT_RAM_SIZE);
    test_add(&apic_bus_type, t->m->system_bus, NULL);
    apic_bus_attach(t->m, 0, &t->apic);
    t->bus = container_of(test_add(&i440fx_host_type, t->m->system_bus, NULL), struct i440fx_host, dev)->bus.bus;
    make_disk(t, drive);
    make_device(t, props);
    bus_reset(t->m->system_bus);
    virtio_test_set_conf(t, 0x10, VT_PORTS, 4);
    virtio_test_set_conf(t, 0x14, VT_MSIX, 4);
    virtio_test_set_conf(t, 0x20, VT_MODERN, 4);
    virtio_test_set_conf(t, PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 2);
    for (unsigned v = 0; v < 4; v++) {
        test_write(t->m, VT_MSIX + 16 * v, 0xfee00000, 8);
        test_write(t->m, VT_MSIX + 16 * v + 8, 0x40 + v, 4);
        test_write(t->m, VT_MSIX + 16 * v + 12, 0, 4);
    }
}

void virtio_test_end(struct virtio_test *t)
{
    apic_bus_detach(t->m, 0);
    test_machine_free(t->m);
    test_image_free(&t->disk);
}

uint32_t virtio_test_conf(struct virtio_test *t, unsigned reg, unsigned len)
{
    test_outl(t->m, 0xcf8, 0x80000000u | DEVFN << 8 | (reg & 0xfc));
    return address_space_load(&t->m->ports, 0xcfc + (reg & 3), len);
}

void virtio_test_set_conf(struct virtio_test *t, unsigned reg, uint32_t value, unsigned len)
{
    test_outl(t->m, 0xcf8, 0x80000000u | DEVFN << 8 | (reg & 0xfc));
    address_space_store(&t->m->ports, 0xcfc + (reg & 3), value, len);
}

void virtio_test_msix(struct virtio_test *t, bool on)
{
    unsigned at = virtio_test_conf(t, PCI_CAPABILITY_LIST, 1);
    while (at && virtio_test_conf(t, at, 1) != 0x11)
        at = virtio_test_conf(t, at + 1, 1);
    g_assert_cmpuint(at, !=, 0);
    virtio_test_set_conf(t, at + MSIX_CONTROL, on ? 0x8000 : 0, 2);
}

uint64_t virtio_test_read(struct virtio_test *t, unsigned reg, unsigned size)
{
    return test_read(t->m, VT_MODERN + reg, size);
}

void virtio_test_write(struct virtio_test *t, unsigned reg, uint64_t value, unsigned size)
{
    test_write(t->m, VT_MODERN + reg, value, size);
}

uint64_t virtio_test_offered(struct virtio_test *t)
{
    uint64_t features = 0;
    for (unsigned i = 0; i < 2; i++) {
        virtio_test_write(t, VT_DEVICE_FEATURE_SELECT, i, 4);
        features |= virtio_test_read(t, VT_DEVICE_FEATURE, 4) << 32 * i;
    }
    return features;
}

bool virtio_test_negotiate(struct virtio_test *t, uint64_t features)
{
    virtio_test_write(t, VT_STATUS, 0, 1);
    g_assert_cmphex(virtio_test_read(t, VT_STATUS, 1), ==, 0);
    virtio_test_write(t, VT_STATUS, 1, 1);
    virtio_test_write(t, VT_STATUS, 3, 1);
    for (unsigned i = 0; i < 2; i++) {
        virtio_test_write(t, VT_DRIVER_FEATURE_SELECT, i, 4);
        virtio_test_write(t, VT_DRIVER_FEATURE, features >> 32 * i & UINT32_MAX, 4);
    }
    virtio_test_write(t, VT_STATUS, 11, 1);
    return virtio_test_read(t, VT_STATUS, 1) == 11;
}

void virtio_test_queue(struct virtio_test *t, unsigned n, const struct driver_ring *d)
{
    virtio_test_write(t, VT_QUEUE_SELECT, n, 2);
    virtio_test_write(t, VT_QUEUE_SIZE, d->size, 2);
    virtio_test_write(t, VT_QUEUE_DESC, d->desc, 8);
    virtio_test_write(t, VT_QUEUE_DRIVER, d->driver, 8);
    virtio_test_write(t, VT_QUEUE_DEVICE, d->device, 8);
    virtio_test_write(t, VT_QUEUE_VECTOR, 1 + n, 2);
    virtio_test_write(t, VT_QUEUE_ENABLE, 1, 2);
}

void virtio_test_go(struct virtio_test *t)
{
    virtio_test_write(t, VT_CONFIG_VECTOR, 0, 2);
    virtio_test_write(t, VT_STATUS, 15, 1);
}

void virtio_test_kick(struct virtio_test *t, unsigned n)
{
    virtio_test_write(t, VT_NOTIFY + 4 * n, n, 2);
}

void virtio_test_wait(struct virtio_test *t, struct driver_ring *d, unsigned *id, uint32_t *written)
{
    while (!driver_get(d, id, written))
        g_main_context_iteration(t->m->loop, TRUE);
}
