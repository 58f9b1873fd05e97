/* Inside of virtio over PCI: what pci.c and pci_legacy.c share. */
#ifndef HW_VIRTIO_PCI_INT_H
#define HW_VIRTIO_PCI_INT_H

#include "hw/core/ram_access.h"
#include "hw/virtio/pci.h"

struct virtio_queue *virtio_pci_queue(struct virtio_pci *p); /* the one that is selected, or NULL */
/* What the driver reads back: the vector, or VIRTIO_NO_VECTOR. */
uint16_t virtio_pci_vector(const struct virtio_pci *p, uint16_t vector);
void virtio_pci_driver_reset(struct virtio_pci *p); /* the transport's part of it */

extern const struct mem_ops virtio_pci_legacy_ops;
uint64_t virtio_pci_legacy_size(const struct virtio_pci *p);

#endif
