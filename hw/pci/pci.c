/*
 * PCI functions: configuration space, base address registers, expansion ROM, INTx (PCI Local Bus Specification 3.0,
 * chapters 2.2.6 and 6). Buses and configuration mechanism #1 are in pci_bus.c.
 *
 * A BAR that firmware sizes (all ones written) or that would wrap decodes nothing, and neither does one at address 0,
 * where a PC has its RAM. MSI-X is in msix.c. Bridges (header type 1), MSI and PCI Express come with the devices that need them.
 *
 * All under the VM lock.
 */
#include "hw/pci/pci.h"

#include "hw/core/firmware.h"
#include "hw/core/log.h"
#include "hw/core/machine.h"

#include <string.h>

#define PCI_SUBSYSTEM_VENDOR_DEFAULT 0x1af4
#define PCI_SUBSYSTEM_DEFAULT 0x1100
#define PCI_ROM_MAX (1 << 20)
#define PCI_UNMAPPED UINT64_MAX

const struct state_field pci_device_fields[] = {
    STATE_ARRAY(STATE_U8, struct pci_device, config),
    STATE_FIELD(STATE_BOOL, struct pci_device, intx),
    STATE_FIELDS_END,
};

static void put_le(uint8_t *p, uint32_t value, unsigned len)
{
    for (unsigned i = 0; i < len; i++)
        p[i] = value >> (8 * i);
}

void pci_config_init(struct pci_device *p, unsigned reg, uint32_t value, unsigned len, uint32_t wmask)
{
    g_assert(reg + len <= PCI_CONFIG_SIZE);
    put_le(p->config + reg, value, len);
    put_le(p->initial + reg, value, len);
    put_le(p->wmask + reg, wmask, len);
}

/* --- Base address registers --------------------------------------------------------------------------------------- */

static bool bar_is_io(const struct pci_device *p, unsigned n)
{
    return n < PCI_BARS && p->info->bars[n].kind == PCI_BAR_IO;
}

static bool bar_is_64(const struct pci_device *p, unsigned n)
{
    return n < PCI_BARS &&
           (p->info->bars[n].kind == PCI_BAR_MEM64 || p->info->bars[n].kind == PCI_BAR_MEM64_PREFETCH);
}

static unsigned bar_reg(unsigned n)
{
    return n == PCI_ROM_BAR ? PCI_ROM_ADDRESS : PCI_BASE_ADDRESS_0 + 4 * n;
}

static uint64_t bar_address(const struct pci_device *p, unsigned n)
{
    uint64_t size = p->region[n]->size, last, limit = bar_is_io(p, n) ? 0xffff : UINT32_MAX - 1;
    uint64_t addr = pci_dword(p, bar_reg(n));
    uint16_t command = pci_word(p, PCI_COMMAND);

    if (!(command & (bar_is_io(p, n) ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY)))
        return PCI_UNMAPPED;
    if (n == PCI_ROM_BAR && !(addr & PCI_ROM_ENABLE))
        return PCI_UNMAPPED;
    if (bar_is_64(p, n)) {
        addr |= (uint64_t)pci_dword(p, bar_reg(n) + 4) << 32;
        limit = (UINT64_C(1) << 52) - 1;
    }
    addr &= ~(size - 1);
    last = addr + size - 1;
    return !addr || last < addr || last > limit ? PCI_UNMAPPED : addr;
}

static void update_bar(struct pci_device *p, unsigned n)
{
    struct mem_region *r = p->region[n];
    uint64_t addr = bar_address(p, n);

    if (r->parent && (addr == PCI_UNMAPPED || r->addr != addr))
        mem_unmap(r);
    if (!r->parent && addr != PCI_UNMAPPED)
        mem_map(bar_is_io(p, n) ? p->bus->io : p->bus->memory, addr, r, 1);
}

static void update_bars(struct pci_device *p)
{
    mem_transaction_begin();
    for (unsigned n = 0; n <= PCI_ROM_BAR; n++) {
        if (p->region[n])
            update_bar(p, n);
    }
    mem_transaction_commit();
}

void pci_set_bar(struct pci_device *p, unsigned n, struct mem_region *r)
{
    g_assert(n < PCI_BARS && !p->region[n] && r->size == p->info->bars[n].size);
    p->region[n] = r;
}

static void init_bar(struct pci_device *p, unsigned n)
{
    static const uint8_t type_bits[] = {
        [PCI_BAR_IO] = 0x1,
        [PCI_BAR_MEM32] = 0x0,
        [PCI_BAR_MEM32_PREFETCH] = 0x8,
        [PCI_BAR_MEM64] = 0x4,
        [PCI_BAR_MEM64_PREFETCH] = 0xc,
    };
    const struct pci_bar_info *bar = &p->info->bars[n];

    g_assert(bar->size && !(bar->size & (bar->size - 1)) && bar->size >= (bar->kind == PCI_BAR_IO ? 4 : 16));
    pci_config_init(p, bar_reg(n), type_bits[bar->kind], 4, -(uint32_t)bar->size);
    if (bar_is_64(p, n)) {
        g_assert(n + 1 < PCI_BARS && p->info->bars[n + 1].kind == PCI_BAR_NONE);
        pci_config_init(p, bar_reg(n + 1), 0, 4, -bar->size >> 32);
    }
    if (bar->ops) {
        mem_init_io(&p->own_region[n], &p->dev, bar->ops, p, bar->name, bar->size);
        p->region[n] = &p->own_region[n];
    }
}

static bool init_rom(struct pci_device *p, GError **err)
{
    const char *file = p->romfile ? p->romfile : p->info->romfile;
    size_t size;
    uint64_t rom_size = 2048;
    uint8_t *data;

    if (!file || !*file || !p->rombar)
        return true;
    data = firmware_load(file, PCI_ROM_MAX, &size, err);
    if (!data)
        return false;
    while (rom_size < size)
        rom_size *= 2;
    p->rom = ram_block_new(file, MAX(rom_size, PAGE_SIZE), NULL, err);
    if (p->rom) {
        memcpy(p->rom->host, data, size);
        mem_init_rom(&p->own_region[PCI_ROM_BAR], &p->dev, "rom", p->rom, 0, p->rom->size);
        p->region[PCI_ROM_BAR] = &p->own_region[PCI_ROM_BAR];
        pci_config_init(p, PCI_ROM_ADDRESS, 0, 4, -(uint32_t)p->rom->size | PCI_ROM_ENABLE);
    }
    g_free(data);
    return p->rom != NULL;
}

/* --- Place on the bus --------------------------------------------------------------------------------------------- */

static bool address_error(const struct pci_device *p, GError **err, const char *why)
{
    g_set_error(err, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, "%s: addr=%s: %s", p->dev.type->name,
                p->addr ? p->addr : "", why);
    return false;
}

static bool parse_addr(const struct pci_device *p, uint8_t *devfn, GError **err)
{
    char *end;
    guint64 slot = g_ascii_strtoull(p->addr, &end, 16), function = 0;
    bool good = end != p->addr && slot < 32;

    if (good && *end == '.') {
        const char *start = end + 1;
        function = g_ascii_strtoull(start, &end, 16);
        good = end != start && function < 8;
    }
    if (!good || *end)
        return address_error(p, err, "must be SLOT or SLOT.FUNCTION, hexadecimal, up to 1f.7");
    *devfn = PCI_DEVFN(slot, function);
    return true;
}

static bool slot_is_free(const struct pci_bus *b, unsigned slot)
{
    for (unsigned f = 0; f < 8; f++) {
        if (b->functions[PCI_DEVFN(slot, f)])
            return false;
    }
    return true;
}

static bool take_free_slot(struct pci_device *p, GError **err)
{
    for (unsigned slot = p->bus->first_slot; slot < 32; slot++) {
        if (slot_is_free(p->bus, slot)) {
            p->devfn = PCI_DEVFN(slot, 0);
            return true;
        }
    }
    return address_error(p, err, "no slot of the bus is free");
}

static bool take_address(struct pci_device *p, GError **err)
{
    struct pci_bus *b = p->bus;
    unsigned slot;

    if (!p->addr)
        return take_free_slot(p, err);
    if (!parse_addr(p, &p->devfn, err))
        return false;
    slot = PCI_SLOT(p->devfn);
    if (b->functions[p->devfn])
        return address_error(p, err, "is taken by another device");
    if (PCI_FUNCTION(p->devfn)) {
        const struct pci_device *first = b->functions[PCI_DEVFN(slot, 0)];
        if (first && !first->multifunction)
            return address_error(p, err, "function 0 of that slot lacks multifunction=on");
    } else if (!p->multifunction && !slot_is_free(b, slot)) {
        return address_error(p, err, "the slot has other functions: function 0 needs multifunction=on");
    }
    return true;
}

static bool drives_intx(const struct pci_device *p)
{
    return p->intx && !(pci_word(p, PCI_COMMAND) & PCI_COMMAND_INTX_DISABLE);
}

/* --- Life --------------------------------------------------------------------------------------------------------- */

static void init_header(struct pci_device *p)
{
    const struct pci_info *info = p->info;

    pci_config_init(p, PCI_VENDOR_ID, info->vendor_id, 2, 0);
    pci_config_init(p, PCI_DEVICE_ID, info->device_id, 2, 0);
    pci_config_init(p, PCI_COMMAND, 0, 2,
                    PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_PARITY | PCI_COMMAND_SERR |
                        PCI_COMMAND_INTX_DISABLE);
    put_le(p->w1c + PCI_STATUS, PCI_STATUS_ERRORS, 2);
    pci_config_init(p, PCI_REVISION_ID, info->revision, 1, 0);
    pci_config_init(p, PCI_CLASS_PROG, info->class_code & 0xff, 1, 0);
    pci_config_init(p, PCI_CLASS_DEVICE, info->class_code >> 8, 2, 0);
    pci_config_init(p, PCI_CACHE_LINE_SIZE, 0, 1, 0xff);
    pci_config_init(p, PCI_LATENCY_TIMER, 0, 1, 0xf8);
    pci_config_init(p, PCI_HEADER_TYPE, p->multifunction ? PCI_HEADER_MULTIFUNCTION : 0, 1, 0);
    pci_config_init(p, PCI_SUBSYSTEM_VENDOR_ID,
                    info->subsystem_vendor_id ? info->subsystem_vendor_id : PCI_SUBSYSTEM_VENDOR_DEFAULT, 2, 0);
    pci_config_init(p, PCI_SUBSYSTEM_ID, info->subsystem_vendor_id ? info->subsystem_id : PCI_SUBSYSTEM_DEFAULT, 2, 0);
    pci_config_init(p, PCI_INTERRUPT_LINE, 0, 1, 0xff);
    pci_config_init(p, PCI_INTERRUPT_PIN, info->interrupt_pin, 1, 0);
}

bool pci_init(struct pci_device *p, const struct pci_info *info, GError **err)
{
    p->bus = pci_bus_of(&p->dev);
    p->info = info;
    p->capability_end = PCI_CONFIG_HEADER_SIZE;
    if (!take_address(p, err))
        return false;
    init_header(p);
    for (unsigned n = 0; n < PCI_BARS; n++) {
        if (info->bars[n].kind != PCI_BAR_NONE)
            init_bar(p, n);
    }
    if (!init_rom(p, err)) {
        g_prefix_error(err, "%s: romfile: ", p->dev.type->name);
        return false;
    }
    p->bus->functions[p->devfn] = p;
    return true;
}

void pci_fini(struct pci_device *p)
{
    if (p->bus && p->bus->functions[p->devfn] == p) {
        pci_set_intx(p, 0);
        p->bus->functions[p->devfn] = NULL;
    }
    for (unsigned n = 0; n <= PCI_ROM_BAR; n++) {
        if (!p->region[n])
            continue;
        if (p->region[n] == &p->own_region[n])
            mem_fini(p->region[n]);
        else if (p->region[n]->parent)
            mem_unmap(p->region[n]);
        p->region[n] = NULL;
    }
    g_clear_pointer(&p->rom, ram_block_free);
}

void pci_reset(struct pci_device *p)
{
    memcpy(p->config, p->initial, sizeof(p->config));
    if (p->intx_driven)
        p->bus->asserted[p->bus->map_pin(p, p->info->interrupt_pin - 1)]--;
    p->intx = p->intx_driven = false;
    update_bars(p);
}

bool pci_post_load(struct pci_device *p, GError **err)
{
    bool driven;

    /* Header type, ids and capability list are what the machine was built with; the rest must not have stray bits. */
    if (memcmp(p->config, p->initial, 4) || memcmp(p->config + PCI_REVISION_ID, p->initial + PCI_REVISION_ID, 4) ||
        p->config[PCI_HEADER_TYPE] != p->initial[PCI_HEADER_TYPE] ||
        p->config[PCI_CAPABILITY_LIST] != p->initial[PCI_CAPABILITY_LIST]) {
        g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_INVAL, "%s: the saved state is of another PCI function",
                    p->dev.type->name);
        return false;
    }
    for (unsigned i = PCI_BASE_ADDRESS_0; i < PCI_CAPABILITY_LIST; i++)
        p->config[i] = (p->config[i] & p->wmask[i]) | (p->initial[i] & ~p->wmask[i]);
    for (unsigned i = PCI_CONFIG_HEADER_SIZE; i < p->capability_end; i++)
        p->config[i] = (p->config[i] & p->wmask[i]) | (p->initial[i] & ~p->wmask[i]);
    if (!p->info->interrupt_pin)
        p->intx = false;
    driven = drives_intx(p);
    if (driven != p->intx_driven) {
        p->bus->asserted[p->bus->map_pin(p, p->info->interrupt_pin - 1)] += driven ? 1 : -1;
        p->intx_driven = driven;
    }
    update_bars(p);
    return true;
}

unsigned pci_add_capability(struct pci_device *p, uint8_t id, unsigned len)
{
    unsigned at = p->capability_end;

    g_assert(at + len <= PCI_CONFIG_SIZE);
    pci_config_init(p, at, id, 1, 0);
    pci_config_init(p, at + 1, p->initial[PCI_CAPABILITY_LIST], 1, 0);
    pci_config_init(p, PCI_CAPABILITY_LIST, at, 1, 0);
    p->config[PCI_STATUS] |= PCI_STATUS_CAP_LIST;
    p->initial[PCI_STATUS] |= PCI_STATUS_CAP_LIST;
    p->capability_end = (at + len + 3) & ~3u;
    return at;
}

/* --- Interrupt pin ------------------------------------------------------------------------------------------------ */

static void update_intx(struct pci_device *p)
{
    bool driven = drives_intx(p);
    unsigned n;

    if (p->intx)
        p->config[PCI_STATUS] |= PCI_STATUS_INTERRUPT;
    else
        p->config[PCI_STATUS] &= ~PCI_STATUS_INTERRUPT;
    if (driven == p->intx_driven)
        return;
    p->intx_driven = driven;
    n = p->bus->map_pin(p, p->info->interrupt_pin - 1);
    g_assert(n < PCI_PIRQS);
    p->bus->asserted[n] += driven ? 1 : -1;
    irq_set(&p->bus->pirq[n], p->bus->asserted[n] != 0);
}

void pci_set_intx(struct pci_device *p, int level)
{
    if (!p->info->interrupt_pin)
        return;
    p->intx = level != 0;
    update_intx(p);
}

/* --- Accesses ----------------------------------------------------------------------------------------------------- */

uint32_t pci_config_read(struct pci_device *p, unsigned reg, unsigned len)
{
    uint32_t value = 0;

    g_assert(reg + len <= PCI_CONFIG_SIZE && len <= 4);
    if (p->config_wanted)
        p->config_wanted(p, reg, len);
    for (unsigned i = 0; i < len; i++)
        value |= (uint32_t)p->config[reg + i] << (8 * i);
    return value;
}

static bool touches(unsigned reg, unsigned len, unsigned first, unsigned last)
{
    return reg <= last && reg + len > first;
}

void pci_config_write(struct pci_device *p, unsigned reg, uint32_t value, unsigned len)
{
    g_assert(reg + len <= PCI_CONFIG_SIZE && len <= 4);
    for (unsigned i = 0; i < len; i++) {
        uint8_t byte = value >> (8 * i), *config = &p->config[reg + i];
        *config = (*config & ~p->wmask[reg + i]) | (byte & p->wmask[reg + i]);
        *config &= ~(byte & p->w1c[reg + i]);
    }
    if (touches(reg, len, PCI_COMMAND, PCI_COMMAND + 1))
        update_intx(p);
    if (touches(reg, len, PCI_COMMAND, PCI_COMMAND + 1) ||
        touches(reg, len, PCI_BASE_ADDRESS_0, PCI_BASE_ADDRESS_0 + 4 * PCI_BARS - 1) ||
        touches(reg, len, PCI_ROM_ADDRESS, PCI_ROM_ADDRESS + 3))
        update_bars(p);
    if (p->config_written)
        p->config_written(p, reg, len);
}
