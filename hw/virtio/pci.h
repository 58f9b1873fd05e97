/*
 * Virtio over PCI: the function that a device type "virtio-KIND-pci" is. Its struct embeds struct virtio_pci first. All
 * under the VM lock.
 */
#ifndef HW_VIRTIO_PCI_H
#define HW_VIRTIO_PCI_H

#include "hw/pci/msix.h"
#include "hw/virtio/device.h"

struct virtio_pci {
    struct pci_device pci;
    struct virtio_device *v; /* in the same struct */
    struct pci_info info;
    struct msix msix;
    unsigned cfg_access; /* offset of the capability that reaches BARs through config space; 0: none */

    /* Selectors of the modern interface; the legacy one shares `queue`. */
    uint32_t device_feature_select, driver_feature_select;
    uint16_t queue;
    uint64_t driver_features; /* as written so far */

    /* Properties. */
    char *disable_legacy; /* on, off, auto */
    bool disable_modern;
    uint32_t vectors;     /* MSI-X; UINT32_MAX: one for each queue and one */
};

#define VIRTIO_PCI_PROPS \
    PCI_PROPS, \
    PROP(PROP_STRING, "disable-legacy", struct virtio_pci, disable_legacy, 0, \
         "on: for drivers of virtio 1 only; off, auto: a transitional device"), \
    PROP(PROP_BOOL, "disable-modern", struct virtio_pci, disable_modern, 0, "on: for legacy drivers only"), \
    PROP(PROP_U32, "vectors", struct virtio_pci, vectors, UINT32_MAX, "number of MSI-X vectors, 0 for INTx only")

extern const struct state_field virtio_pci_fields[]; /* those of virtio_device are beside them */

/* Behind virtio_device_init(). */
bool virtio_pci_init(struct virtio_pci *p, struct virtio_device *v, GError **err);
void virtio_pci_fini(struct virtio_pci *p);
void virtio_pci_reset(struct virtio_pci *p); /* the device, too */
bool virtio_pci_post_load(struct virtio_pci *p, GError **err); /* the device, too */

#endif
