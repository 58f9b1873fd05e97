/*
 * For tests of virtio devices over PCI: a machine with a PCI bus, RAM, and local APICs of its own making that remember
 * messages; the registers of both interfaces as a driver reaches them; a disk in a temporary file.
 */
#ifndef TESTS_LIB_VIRTIO_TEST_H
#define TESTS_LIB_VIRTIO_TEST_H

#include "hw/irq/apic_bus.h"
#include "hw/pci/pci.h"
#include "tests/lib/device_test.h"
#include "tests/lib/virtio_driver.h"

#define VT_RAM_SIZE (4 << 20)
#define VT_DISK_SIZE (1 << 20)
#define VT_PORTS 0xc000
#define VT_MSIX UINT64_C(0xe1000000)
#define VT_MODERN UINT64_C(0xe0000000)

/* The modern interface's registers, as offsets in BAR 4. */
enum {
    VT_DEVICE_FEATURE_SELECT = 0x00, VT_DEVICE_FEATURE = 0x04, VT_DRIVER_FEATURE_SELECT = 0x08, VT_DRIVER_FEATURE = 0x0c,
    VT_CONFIG_VECTOR = 0x10, VT_NUM_QUEUES = 0x12, VT_STATUS = 0x14, VT_GENERATION = 0x15, VT_QUEUE_SELECT = 0x16,
    VT_QUEUE_SIZE = 0x18, VT_QUEUE_VECTOR = 0x1a, VT_QUEUE_ENABLE = 0x1c, VT_QUEUE_NOTIFY_OFF = 0x1e,
    VT_QUEUE_DESC = 0x20, VT_QUEUE_DRIVER = 0x28, VT_QUEUE_DEVICE = 0x30,
    VT_ISR = 0x1000, VT_CONFIG = 0x2000, VT_NOTIFY = 0x3000,
};

struct virtio_test {
    struct machine *m;
    struct bus *bus;
    struct device *dev;
    struct pci_device *pci;
    struct test_image disk;
    struct apic_target apic;
    unsigned vectors[256]; /* messages that came, by vector */
};

/*
 * The properties of the device as one string "a=b,c=d" (may be NULL), and what the -drive says behind file= ("" for
 * nothing). Any error fails the test. The device is mapped, a bus master, and its MSI-X messages have vectors 0x40 and on.
 */
void virtio_test_begin(struct virtio_test *t, const char *props, const char *drive);
void virtio_test_end(struct virtio_test *t);
void virtio_test_msix(struct virtio_test *t, bool on);
uint32_t virtio_test_conf(struct virtio_test *t, unsigned reg, unsigned len);
void virtio_test_set_conf(struct virtio_test *t, unsigned reg, uint32_t value, unsigned len);
uint64_t virtio_test_read(struct virtio_test *t, unsigned reg, unsigned size); /* of BAR 4 */
void virtio_test_write(struct virtio_test *t, unsigned reg, uint64_t value, unsigned size);
/* The features that are offered; and the handshake up to FEATURES_OK with those. True: the device took them. */
uint64_t virtio_test_offered(struct virtio_test *t);
bool virtio_test_negotiate(struct virtio_test *t, uint64_t features);
/* Gives a queue that ring; then virtio_test_go() says DRIVER_OK. */
void virtio_test_queue(struct virtio_test *t, unsigned n, const struct driver_ring *d);
void virtio_test_go(struct virtio_test *t);
void virtio_test_kick(struct virtio_test *t, unsigned n);
/* Runs the main loop until a chain comes back. */
void virtio_test_wait(struct virtio_test *t, struct driver_ring *d, unsigned *id, uint32_t *written);

#endif
