/*
 * MSI-X: the table of messages, masks and pending bits (PCI Local Bus Specification 3.0, 6.8.2).
 *
 * A message is a memory write of the function: it is lost while the function is no bus master. One to the APICs' window
 * goes to the local APICs, one to RAM is stored; what else it may point at is no target of messages.
 *
 * All under the VM lock.
 */
#include "hw/pci/msix.h"

#include "hw/core/log.h"
#include "hw/core/machine.h"
#include "hw/core/ram_access.h"
#include "hw/irq/apic_bus.h"

#include <inttypes.h>
#include <string.h>

#define CAP_ID_MSIX 0x11
#define CAP_LENGTH 12
#define CAP_CONTROL 2
#define CAP_TABLE 4
#define CAP_PBA 8
#define CONTROL_ENABLE 0x8000
#define CONTROL_MASK_ALL 0x4000

#define PBA_OFFSET (MSIX_BAR_SIZE / 2)
#define ENTRY_ADDRESS 0
#define ENTRY_DATA 8
#define ENTRY_CONTROL 12
#define ENTRY_MASKED 1

static uint16_t control(const struct msix *x)
{
    return x->capability ? pci_word(x->pci, x->capability + CAP_CONTROL) : 0;
}

bool msix_enabled(const struct msix *x)
{
    return control(x) & CONTROL_ENABLE;
}

static bool masked(const struct msix *x, unsigned vector)
{
    return (control(x) & CONTROL_MASK_ALL) || (x->table[vector * MSIX_ENTRY_SIZE + ENTRY_CONTROL] & ENTRY_MASKED);
}

static void send(const struct msix *x, unsigned vector)
{
    const uint8_t *entry = x->table + vector * MSIX_ENTRY_SIZE;
    uint64_t addr = ram_load64(entry + ENTRY_ADDRESS) & ~UINT64_C(3), len = 4;
    uint32_t data = ram_load32(entry + ENTRY_DATA);
    struct machine *m = x->pci->dev.machine;

    if (!(pci_word(x->pci, PCI_COMMAND) & PCI_COMMAND_MASTER))
        return;
    if (addr >= APIC_DEFAULT_BASE && addr < APIC_DEFAULT_BASE + APIC_WINDOW_SIZE)
        msi_deliver(m, addr, data);
    else if (address_space_ram(&m->memory, addr, &len, true) && len == 4)
        address_space_store(&m->memory, addr, data, 4);
    else
        log_guest_error(x->pci->dev.type->name, "MSI-X vector %u points at 0x%" PRIx64, vector, addr);
}

void msix_notify(struct msix *x, unsigned vector)
{
    if (vector >= x->vectors || !msix_enabled(x))
        return;
    if (masked(x, vector))
        x->pending[vector / 8] |= 1u << vector % 8;
    else
        send(x, vector);
}

/* Sends what was held back and is not masked any more. */
static void send_pending(struct msix *x)
{
    if (!msix_enabled(x))
        return;
    for (unsigned v = 0; v < x->vectors; v++) {
        if ((x->pending[v / 8] & 1u << v % 8) && !masked(x, v)) {
            x->pending[v / 8] &= ~(1u << v % 8);
            send(x, v);
        }
    }
}

void msix_config_written(struct msix *x, unsigned reg, unsigned len)
{
    unsigned at = x->capability + CAP_CONTROL;
    if (x->capability && reg < at + 2 && reg + len > at)
        send_pending(x);
}

/* --- The BAR ------------------------------------------------------------------------------------------------------ */

static uint64_t bar_read(void *opaque, uint64_t offset, unsigned size)
{
    const struct msix *x = opaque;

    if (offset < x->vectors * MSIX_ENTRY_SIZE)
        return ram_load(x->table + offset, size);
    if (offset >= PBA_OFFSET && offset + size <= PBA_OFFSET + sizeof(x->pending))
        return ram_load(x->pending + (offset - PBA_OFFSET), size);
    return 0;
}

static void bar_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct msix *x = opaque;

    if (offset >= x->vectors * MSIX_ENTRY_SIZE)
        return; /* pending bits are read-only */
    if (offset % MSIX_ENTRY_SIZE == ENTRY_CONTROL)
        value &= ENTRY_MASKED;
    ram_store(x->table + offset, value, size);
    send_pending(x);
}

/* Software has to use whole dwords and qwords. */
static const struct mem_ops bar_ops = {.read = bar_read, .write = bar_write, .valid = {4, 8, false}, .impl = {4, 4, false}};

/* --- Life --------------------------------------------------------------------------------------------------------- */

const struct state_field msix_fields[] = {
    STATE_ARRAY(STATE_BYTES, struct msix, table),
    STATE_ARRAY(STATE_BYTES, struct msix, pending),
    STATE_FIELDS_END,
};

void msix_init(struct msix *x, struct pci_device *p, unsigned vectors, unsigned bar)
{
    g_assert(vectors && vectors <= MSIX_VECTORS_MAX);
    x->pci = p;
    x->vectors = vectors;
    x->capability = pci_add_capability(p, CAP_ID_MSIX, CAP_LENGTH);
    pci_config_init(p, x->capability + CAP_CONTROL, vectors - 1, 2, CONTROL_ENABLE | CONTROL_MASK_ALL);
    pci_config_init(p, x->capability + CAP_TABLE, bar, 4, 0);
    pci_config_init(p, x->capability + CAP_PBA, PBA_OFFSET | bar, 4, 0);
    mem_init_io(&x->region, &p->dev, &bar_ops, x, "msix", MSIX_BAR_SIZE);
    pci_set_bar(p, bar, &x->region);
    msix_reset(x);
}

void msix_fini(struct msix *x)
{
    if (x->capability)
        mem_fini(&x->region);
    x->capability = 0;
}

void msix_reset(struct msix *x)
{
    memset(x->table, 0, sizeof(x->table));
    memset(x->pending, 0, sizeof(x->pending));
    for (unsigned v = 0; v < x->vectors; v++)
        x->table[v * MSIX_ENTRY_SIZE + ENTRY_CONTROL] = ENTRY_MASKED;
}

void msix_post_load(struct msix *x)
{
    for (unsigned v = 0; v < x->vectors; v++)
        ram_store32(x->table + v * MSIX_ENTRY_SIZE + ENTRY_CONTROL,
                    ram_load32(x->table + v * MSIX_ENTRY_SIZE + ENTRY_CONTROL) & ENTRY_MASKED);
}
