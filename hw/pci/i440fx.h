/*
 * Intel 82441FX (i440FX): the host bridge with its bus pci.0, PAM shadowing and SMRAM.
 *
 * The board: makes machine.ram and maps it at 0 with priority 0 in machine.memory_root; then adds i440fx_host_type to
 * the system bus. Whatever no RAM covers is the PCI address space. VM lock.
 */
#ifndef HW_PCI_I440FX_H
#define HW_PCI_I440FX_H

#include "hw/pci/pci.h"

#define I440FX_PAM_AREAS 13

/* What lies over RAM in one area; with none of them enabled, reads and writes go to RAM. */
struct i440fx_pam {
    struct mem_region pci;        /* reads and writes go to PCI */
    struct mem_region read_only;  /* RAM, writes go to PCI */
    struct mem_region write_only; /* reads from PCI, writes to RAM */
    struct i440fx *bridge;
    uint32_t base, size;
};

/* Function 00.0, "i440FX" */
struct i440fx {
    struct pci_device pci;
    struct i440fx_host *host;
    struct i440fx_pam pam[I440FX_PAM_AREAS];
    struct mem_region vga_window; /* PCI at 0xa0000 over RAM, unless SMRAM is open to everybody */
    struct mem_region smram;      /* RAM at 0xa0000 for processors in SMM: enabled while SMRAM.G_SMRAME is set */
};

/* The part on the system bus: ports 0xcf8/0xcfc and the PCI address space, "i440FX-pcihost" */
struct i440fx_host {
    struct device dev;
    struct pci_bus bus;
    struct mem_region pci_memory; /* the PCI address space; ROMs and the VGA window are mapped here. Priority -1 */
    struct mem_region master_abort;
    struct address_space pci_space;
    struct pci_host config;
    struct i440fx *function;
};

extern const struct device_type i440fx_host_type, i440fx_type;

#endif
