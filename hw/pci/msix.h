/*
 * MSI-X (PCI Local Bus Specification 3.0, 6.8.2): a function's interrupts as messages to the local APICs.
 *
 * Embedded in a function that gives it a memory BAR of its own. The function calls msix_config_written() from its
 * config_written hook, msix_reset() when it is reset, and msix_post_load() behind pci_post_load(); its state table nests
 * msix_fields. All under the VM lock.
 */
#ifndef HW_PCI_MSIX_H
#define HW_PCI_MSIX_H

#include "hw/pci/pci.h"

#define MSIX_VECTORS_MAX 128
#define MSIX_BAR_SIZE 0x1000 /* the table, and the pending bits in the second half */
#define MSIX_ENTRY_SIZE 16

struct msix {
    struct pci_device *pci;
    unsigned capability; /* its offset in config space; 0: the function has no MSI-X */
    unsigned vectors;
    struct mem_region region;
    uint8_t table[MSIX_VECTORS_MAX * MSIX_ENTRY_SIZE]; /* address (64 bit), data, vector control */
    uint8_t pending[MSIX_VECTORS_MAX / 8];
};

extern const struct state_field msix_fields[];

/*
 * Behind pci_init(): adds the capability, and takes BAR `bar`, which pci_info must show as memory of MSIX_BAR_SIZE
 * without ops. 1 to MSIX_VECTORS_MAX vectors.
 */
void msix_init(struct msix *x, struct pci_device *p, unsigned vectors, unsigned bar);
void msix_fini(struct msix *x); /* behind pci_fini(); also of one that was never made */
void msix_reset(struct msix *x);
void msix_post_load(struct msix *x);
void msix_config_written(struct msix *x, unsigned reg, unsigned len);

/* The guest has turned it on: then the function must not use INTx. */
bool msix_enabled(const struct msix *x);
/* Sends the message of a vector, or remembers it while the vector is masked. What is no vector is ignored. */
void msix_notify(struct msix *x, unsigned vector);

#endif
