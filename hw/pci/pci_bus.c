/*
 * PCI buses and configuration mechanism #1 (PCI Local Bus Specification 3.0, 3.2.2.3.2).
 *
 * One bus so far: accesses to other bus numbers find nobody and read all ones, as after a master abort.
 * All under the VM lock.
 */
#include "hw/pci/pci.h"

#include "hw/core/machine.h"

#include <inttypes.h>

#define CONFADD_ENABLE 0x80000000u
#define CONFADD_MASK 0x80fffffcu

void pci_bus_init(struct pci_bus *b, struct device *owner, const char *name, struct mem_region *memory,
                  struct mem_region *io)
{
    b->bus = bus_new(owner->machine, owner, "pci", name);
    b->bus->impl = b;
    b->memory = memory;
    b->io = io;
    b->map_pin = pci_swizzle;
}

struct pci_bus *pci_bus_of(const struct device *d)
{
    g_assert(d->bus && g_str_equal(d->bus->kind, "pci"));
    return d->bus->impl;
}

unsigned pci_swizzle(const struct pci_device *p, unsigned pin)
{
    return (PCI_SLOT(p->devfn) + pin) % PCI_PIRQS;
}

char *pci_firmware_path(const struct device *d, const char *kind)
{
    const struct pci_bus *b = pci_bus_of(d);
    const struct pci_device *p = container_of(d, const struct pci_device, dev);
    g_assert(b->functions[p->devfn] == p);
    unsigned slot = PCI_SLOT(p->devfn), function = PCI_FUNCTION(p->devfn);
    return function ? g_strdup_printf("/pci@i0cf8/%s@%x,%x", kind, slot, function) :
                      g_strdup_printf("/pci@i0cf8/%s@%x", kind, slot);
}

static void print_bars(const struct pci_device *p, GString *out)
{
    for (unsigned n = 0; n <= PCI_ROM_BAR; n++) {
        const struct mem_region *r = p->region[n];
        bool io = n < PCI_BARS && p->info->bars[n].kind == PCI_BAR_IO;
        if (!r)
            continue;
        g_string_append_printf(out, "      BAR%u: %s", n, io ? "I/O" : "memory");
        if (r->parent)
            g_string_append_printf(out, " at 0x%" PRIx64 " [0x%" PRIx64 "].\n", r->addr, r->addr + r->size - 1);
        else
            g_string_append_printf(out, " not mapped, 0x%" PRIx64 " bytes.\n", r->size);
    }
}

void pci_bus_print(const struct pci_bus *b, GString *out)
{
    for (unsigned devfn = 0; devfn < G_N_ELEMENTS(b->functions); devfn++) {
        const struct pci_device *p = b->functions[devfn];
        if (!p)
            continue;
        g_string_append_printf(out, "  Bus  0, device %3u, function %u:\n", PCI_SLOT(devfn), PCI_FUNCTION(devfn));
        g_string_append_printf(out, "    Class %04x: PCI device %04x:%04x\n", pci_word(p, PCI_CLASS_DEVICE),
                               pci_word(p, PCI_VENDOR_ID), pci_word(p, PCI_DEVICE_ID));
        if (p->info->interrupt_pin)
            g_string_append_printf(out, "      IRQ %u, pin %c\n", p->config[PCI_INTERRUPT_LINE],
                                   'A' + p->info->interrupt_pin - 1);
        print_bars(p, out);
        g_string_append_printf(out, "      id \"%s\"\n", p->dev.id ? p->dev.id : "");
    }
}

/* --- Configuration mechanism #1 ----------------------------------------------------------------------------------- */

/* The function that an access selects, if it is one that a function can see. */
static struct pci_device *config_target(const struct pci_host *h, uint64_t lane, unsigned len)
{
    unsigned bus_number = h->address >> 16 & 0xff;

    if (!(h->address & CONFADD_ENABLE) || bus_number != 0 || lane + len > 4)
        return NULL;
    return h->bus->functions[h->address >> 8 & 0xff];
}

static uint64_t data_read(void *opaque, uint64_t offset, unsigned size)
{
    struct pci_host *h = opaque;
    struct pci_device *p = config_target(h, offset, size);
    return p ? pci_config_read(p, (h->address & 0xfc) + offset, size) : UINT32_MAX;
}

static void data_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct pci_host *h = opaque;
    struct pci_device *p = config_target(h, offset, size);
    if (p)
        pci_config_write(p, (h->address & 0xfc) + offset, value, size);
}

static const struct mem_ops data_ops = {
    .read = data_read,
    .write = data_write,
    .valid = {1, 4, true},
    .impl = {1, 4, true},
};

static uint64_t address_read(void *opaque, uint64_t offset, unsigned size)
{
    struct pci_host *h = opaque;

    if (offset == 0 && size == 4)
        return h->address;
    return h->passed_ops ? h->passed_ops->read(h->passed_opaque, offset, size) : UINT32_MAX;
}

static void address_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct pci_host *h = opaque;

    if (offset == 0 && size == 4)
        h->address = value & CONFADD_MASK;
    else if (h->passed_ops)
        h->passed_ops->write(h->passed_opaque, offset, value, size);
}

static const struct mem_ops address_ops = {
    .read = address_read,
    .write = address_write,
    .valid = {1, 4, true},
    .impl = {1, 4, true},
};

const struct state_field pci_host_fields[] = {
    STATE_FIELD(STATE_U32, struct pci_host, address),
    STATE_FIELDS_END,
};

void pci_host_init(struct pci_host *h, struct device *owner, struct pci_bus *bus)
{
    h->bus = bus;
    bus->host = h;
    mem_init_io(&h->address_region, owner, &address_ops, h, "pci-config-address", 4);
    mem_init_io(&h->data_region, owner, &data_ops, h, "pci-config-data", 4);
    mem_map(&owner->machine->port_root, 0xcf8, &h->address_region, 0);
    mem_map(&owner->machine->port_root, 0xcfc, &h->data_region, 0);
}

void pci_host_fini(struct pci_host *h)
{
    mem_fini(&h->address_region);
    mem_fini(&h->data_region);
}

void pci_host_post_load(struct pci_host *h)
{
    h->address &= CONFADD_MASK;
}

void pci_host_pass_on(struct pci_host *h, const struct mem_ops *ops, void *opaque)
{
    g_assert(!h->passed_ops || !ops);
    h->passed_ops = ops;
    h->passed_opaque = opaque;
}
