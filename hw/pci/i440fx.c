/*
 * Intel 82441FX PCI and memory controller (i440FX PMC), order number 290549: configuration mechanism #1, programmable
 * attribute maps (PAM0-6: shadow RAM at 0xc0000-0xfffff) and SMRAM.
 *
 * Not modelled: DRAM timing, error checking, and SMRAM.DCLS (in SMM, data accesses go where code does). The registers
 * of these can be read and written. The turbo and reset control register 0x93 is here, the one at port 0xcf9 in
 * piix3.c.
 *
 * Memory, from below: the PCI address space (priority -1), RAM (0, mapped by the board), and over RAM whatever PAM and
 * SMRAM turn towards PCI (1). All under the VM lock.
 */
#include "hw/pci/i440fx.h"

#include "hw/core/machine.h"
#include "hw/core/ram_access.h"

enum i440fx_register {
    I440FX_PMCCFG = 0x50,
    I440FX_DETURBO = 0x52,
    I440FX_DBC = 0x53,
    I440FX_AXC = 0x54,
    I440FX_DRAMR = 0x55,
    I440FX_DRAMC = 0x57,
    I440FX_DRAMT = 0x58,
    I440FX_PAM0 = 0x59,
    I440FX_PAM6 = 0x5f,
    I440FX_DRB0 = 0x60,
    I440FX_FDHC = 0x68,
    I440FX_MTT = 0x70,
    I440FX_CLT = 0x71,
    I440FX_SMRAM = 0x72,
    I440FX_ERRCMD = 0x90,
    I440FX_ERRSTS = 0x91,
    I440FX_TRC = 0x93,
};

#define PAM_RE 1
#define PAM_WE 2

#define SMRAM_D_OPEN 0x40
#define SMRAM_D_CLS 0x20
#define SMRAM_D_LCK 0x10
#define SMRAM_G_SMRAME 0x08
#define SMRAM_C_BASE_SEG 0x02
#define SMRAM_WRITABLE (SMRAM_D_OPEN | SMRAM_D_CLS | SMRAM_D_LCK | SMRAM_G_SMRAME)

#define SMRAM_BASE 0xa0000
#define SMRAM_SIZE 0x20000

#define TRC_HARD_RESET 0x02
#define TRC_RESET_CPU 0x04

/* --- PAM and SMRAM ------------------------------------------------------------------------------------------------ */

static uint64_t pam_pci_read(void *opaque, uint64_t offset, unsigned size)
{
    struct i440fx_pam *pam = opaque;
    return address_space_load(&pam->bridge->host->pci_space, pam->base + offset, size);
}

static void pam_pci_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct i440fx_pam *pam = opaque;
    address_space_store(&pam->bridge->host->pci_space, pam->base + offset, value, size);
}

static void pam_ram_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct i440fx_pam *pam = opaque;
    struct ram_block *ram = pam->bridge->pci.dev.machine->ram;

    ram_store(ram->host + pam->base + offset, value, size);
    ram_note_write(ram, pam->base + offset, size);
}

static const struct mem_ops pam_read_only_ops = {
    .read = pam_pci_read,
    .write = pam_pci_write,
    .valid = {1, 8, true},
    .impl = {1, 8, true},
};

static const struct mem_ops pam_write_only_ops = {
    .read = pam_pci_read,
    .write = pam_ram_write,
    .valid = {1, 8, true},
    .impl = {1, 8, true},
};

/* A processor can run code only from RAM and ROM: so where PCI has one of them, the area is that one. */
static void prepare_write_only(struct i440fx_pam *pam)
{
    struct mem_region *r = &pam->write_only;
    const struct flat_range *below = flat_view_find(pam->bridge->host->pci_space.view, pam->base);

    mem_fini(r);
    if (below && below->host && below->last >= pam->base + pam->size - 1) {
        mem_init_rom(r, &pam->bridge->pci.dev, "pam-write-only", below->region->ram,
                     flat_range_ram_offset(below, pam->base), pam->size);
        r->ops = &pam_write_only_ops;
        r->opaque = pam;
    } else {
        mem_init_io(r, &pam->bridge->pci.dev, &pam_write_only_ops, pam, "pam-write-only", pam->size);
    }
    mem_map(&pam->bridge->pci.dev.machine->memory_root, pam->base, r, 1);
}

static void update_pam(struct i440fx *s, unsigned area)
{
    struct i440fx_pam *pam = &s->pam[area];
    /* Area 0 is 0xf0000-0xfffff in PAM0's upper half; then two areas of 16 KiB per register, the lower half first. */
    unsigned mode = s->pci.config[I440FX_PAM0 + (area + 1) / 2] >> (area & 1 ? 0 : 4) & (PAM_RE | PAM_WE);

    mem_set_enabled(&pam->pci, mode == 0);
    mem_set_enabled(&pam->read_only, mode == PAM_RE);
    if (mode == PAM_WE && !pam->write_only.enabled)
        prepare_write_only(pam);
    mem_set_enabled(&pam->write_only, mode == PAM_WE);
}

static void update_memory(struct i440fx *s)
{
    uint8_t smram = s->pci.config[I440FX_SMRAM];
    bool global = smram & SMRAM_G_SMRAME;

    mem_transaction_begin();
    for (unsigned i = 0; i < I440FX_PAM_AREAS; i++)
        update_pam(s, i);
    mem_set_enabled(&s->vga_window, !(global && (smram & SMRAM_D_OPEN)));
    mem_set_enabled(&s->smram, global);
    mem_transaction_commit();
}

static void init_pam(struct i440fx *s, unsigned area)
{
    struct i440fx_pam *pam = &s->pam[area];
    struct device *d = &s->pci.dev;
    struct mem_region *root = &d->machine->memory_root;

    pam->bridge = s;
    pam->base = area ? 0xc0000 + 0x4000 * (area - 1) : 0xf0000;
    pam->size = area ? 0x4000 : 0x10000;
    mem_init_alias(&pam->pci, d, "pam-pci", &s->host->pci_memory, pam->base, pam->size);
    mem_init_ram(&pam->read_only, d, "pam-read-only", d->machine->ram, pam->base, pam->size);
    pam->read_only.ops = &pam_read_only_ops;
    pam->read_only.opaque = pam;
    mem_init_io(&pam->write_only, d, &pam_write_only_ops, pam, "pam-write-only", pam->size);
    mem_set_read_only(&pam->read_only, true);
    mem_set_enabled(&pam->read_only, false);
    mem_set_enabled(&pam->write_only, false);
    mem_map(root, pam->base, &pam->pci, 1);
    mem_map(root, pam->base, &pam->read_only, 1);
    mem_map(root, pam->base, &pam->write_only, 1);
}

static void init_memory(struct i440fx *s)
{
    struct device *d = &s->pci.dev;

    mem_transaction_begin();
    for (unsigned i = 0; i < I440FX_PAM_AREAS; i++)
        init_pam(s, i);
    mem_init_alias(&s->vga_window, d, "vga-window", &s->host->pci_memory, SMRAM_BASE, SMRAM_SIZE);
    mem_map(&d->machine->memory_root, SMRAM_BASE, &s->vga_window, 1);
    mem_init_ram(&s->smram, d, "smram", d->machine->ram, SMRAM_BASE, SMRAM_SIZE);
    mem_set_enabled(&s->smram, false);
    mem_transaction_commit();
}

/* --- Function 00.0 ------------------------------------------------------------------------------------------------ */

/* Locked, until reset: D_OPEN is off and nothing can be changed but D_CLS. */
static void apply_smram_lock(struct i440fx *s)
{
    uint8_t *smram = &s->pci.config[I440FX_SMRAM];
    bool locked = *smram & SMRAM_D_LCK;

    if (locked)
        *smram &= ~SMRAM_D_OPEN;
    s->pci.wmask[I440FX_SMRAM] = locked ? SMRAM_D_CLS : SMRAM_WRITABLE;
}

static void config_written(struct pci_device *p, unsigned reg, unsigned len)
{
    struct i440fx *s = container_of(p, struct i440fx, pci);

    apply_smram_lock(s);
    if (reg <= I440FX_TRC && reg + len > I440FX_TRC && (p->config[I440FX_TRC] & TRC_RESET_CPU))
        machine_request(p->dev.machine, REQUEST_RESET, "i440FX turbo and reset control");
    update_memory(s);
}

/* Boundaries of the eight DRAM rows, in 8 MiB: as if the machine had as many 256 MiB modules as it takes. */
static void init_drb(struct pci_device *p)
{
    uint64_t total = p->dev.machine->ram->size >> 23;

    for (unsigned row = 0; row < 8; row++)
        pci_config_init(p, I440FX_DRB0 + row, MIN(MIN(total, 32 * (row + 1)), 0xff), 1, 0xff);
}

static void init_registers(struct pci_device *p)
{
    pci_config_init(p, PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 2, PCI_COMMAND_SERR | PCI_COMMAND_PARITY);
    pci_config_init(p, PCI_STATUS, PCI_STATUS_DEVSEL_MEDIUM | PCI_STATUS_FAST_BACK, 2, 0);
    pci_config_init(p, PCI_CACHE_LINE_SIZE, 0, 1, 0);
    pci_config_init(p, PCI_INTERRUPT_LINE, 0, 1, 0);
    pci_config_init(p, I440FX_PMCCFG, 0, 2, 0xbf6c);
    pci_config_init(p, I440FX_DETURBO, 0, 1, 0xff);
    pci_config_init(p, I440FX_DBC, 0x80, 1, 0x80);
    pci_config_init(p, I440FX_AXC, 0, 1, 0x80);
    pci_config_init(p, I440FX_DRAMR, 0, 2, 0xffff);
    pci_config_init(p, I440FX_DRAMC, 0x01, 1, 0xff);
    pci_config_init(p, I440FX_DRAMT, 0x10, 1, 0xff);
    pci_config_init(p, I440FX_PAM0, 0, 1, 0x30);
    for (unsigned reg = I440FX_PAM0 + 1; reg <= I440FX_PAM6; reg++)
        pci_config_init(p, reg, 0, 1, 0x33);
    init_drb(p);
    pci_config_init(p, I440FX_FDHC, 0, 1, 0xc0);
    pci_config_init(p, I440FX_MTT, 0, 1, 0xff);
    pci_config_init(p, I440FX_CLT, 0x10, 1, 0xff);
    pci_config_init(p, I440FX_SMRAM, SMRAM_C_BASE_SEG, 1, SMRAM_WRITABLE);
    pci_config_init(p, I440FX_ERRCMD, 0, 1, 0xc9);
    pci_config_init(p, I440FX_ERRSTS, 0, 1, 0);
    p->w1c[I440FX_ERRSTS] = 0x11;
    pci_config_init(p, I440FX_TRC, 0, 1, 0x0f);
}

static bool i440fx_realize(struct device *d, GError **err)
{
    static const struct pci_info info = {
        .vendor_id = 0x8086,
        .device_id = 0x1237,
        .revision = 0x02,
        .class_code = 0x060000,
    };
    struct i440fx *s = container_of(d, struct i440fx, pci.dev);

    g_assert(d->machine->ram && d->machine->ram->size >= 0x100000);
    s->host = container_of(d->bus->owner, struct i440fx_host, dev);
    s->pci.config_written = config_written;
    if (!pci_init(&s->pci, &info, err))
        return false;
    init_registers(&s->pci);
    init_memory(s);
    return true;
}

static void i440fx_reset(struct device *d)
{
    struct i440fx *s = container_of(d, struct i440fx, pci.dev);

    s->pci.wmask[I440FX_SMRAM] = SMRAM_WRITABLE;
    pci_reset(&s->pci);
    update_memory(s);
}

static void i440fx_unrealize(struct device *d)
{
    struct i440fx *s = container_of(d, struct i440fx, pci.dev);

    pci_fini(&s->pci);
    mem_transaction_begin();
    for (unsigned i = 0; i < I440FX_PAM_AREAS; i++) {
        mem_fini(&s->pam[i].pci);
        mem_fini(&s->pam[i].read_only);
        mem_fini(&s->pam[i].write_only);
    }
    mem_fini(&s->vga_window);
    mem_fini(&s->smram);
    mem_transaction_commit();
}

static bool i440fx_post_load(void *instance, uint8_t version, GError **err)
{
    struct i440fx *s = instance;
    uint8_t *smram = &s->pci.config[I440FX_SMRAM];

    if (!pci_post_load(&s->pci, err))
        return false;
    *smram = (*smram & SMRAM_WRITABLE) | SMRAM_C_BASE_SEG;
    apply_smram_lock(s);
    update_memory(s);
    return true;
}

static const struct prop i440fx_props[] = {PCI_PROPS, PROPS_END};

static const struct state_field i440fx_fields[] = {
    STATE_NESTED(struct i440fx, pci, pci_device_fields),
    STATE_FIELDS_END,
};

static const struct state_table i440fx_state = {
    .name = "i440FX",
    .version = 1,
    .fields = i440fx_fields,
    .post_load = i440fx_post_load,
};

const struct device_type i440fx_type = {
    .name = "i440FX",
    .description = "Intel 82441FX host bridge",
    .bus = "pci",
    .size = sizeof(struct i440fx),
    .props = i440fx_props,
    .realize = i440fx_realize,
    .reset = i440fx_reset,
    .unrealize = i440fx_unrealize,
    .state = &i440fx_state,
};

/* --- Host side: ports and address space --------------------------------------------------------------------------- */

/*
 * Where PCI shows through RAM but nobody answers, there must be something all the same: a hole in what lies above would
 * show the RAM below.
 */
static uint64_t abort_read(void *opaque, uint64_t offset, unsigned size)
{
    return UINT64_MAX;
}

static void abort_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
}

static const struct mem_ops abort_ops = {
    .read = abort_read,
    .write = abort_write,
    .valid = {1, 8, true},
    .impl = {1, 8, true},
};

/* As the PIIX3 is strapped on every board that SeaBIOS knows: slot 1 pin A is PIRQA, and each slot is one further. */
static unsigned i440fx_map_pin(const struct pci_device *p, unsigned pin)
{
    return (PCI_SLOT(p->devfn) - 1 + pin) % PCI_PIRQS;
}

static bool host_realize(struct device *d, GError **err)
{
    struct i440fx_host *h = container_of(d, struct i440fx_host, dev);
    struct machine *m = d->machine;
    struct device *function;

    mem_init_container(&h->pci_memory, d, "pci", UINT64_C(1) << 52);
    mem_init_io(&h->master_abort, d, &abort_ops, NULL, "pci-master-abort", 0x100000 - SMRAM_BASE);
    mem_map(&h->pci_memory, SMRAM_BASE, &h->master_abort, -1);
    mem_map(&m->memory_root, 0, &h->pci_memory, -1);
    address_space_init(&h->pci_space, &h->pci_memory, "pci");
    pci_bus_init(&h->bus, d, "pci.0", &h->pci_memory, &m->port_root);
    h->bus.map_pin = i440fx_map_pin;
    pci_host_init(&h->config, d, &h->bus);

    function = device_new(&i440fx_type, h->bus.bus);
    /* The first on its bus: its address is free, and it has no ROM file to be missed. */
    bool ok = device_set_prop(function, "addr", "0.0", NULL) && device_realize(function, NULL);
    g_assert(ok);
    h->function = container_of(function, struct i440fx, pci.dev);
    return true;
}

static void host_reset(struct device *d)
{
    container_of(d, struct i440fx_host, dev)->config.address = 0;
}

static void host_unrealize(struct device *d)
{
    struct i440fx_host *h = container_of(d, struct i440fx_host, dev);

    pci_host_fini(&h->config);
    address_space_fini(&h->pci_space);
    mem_fini(&h->master_abort);
    mem_fini(&h->pci_memory);
}

static const struct state_field host_fields[] = {
    STATE_NESTED(struct i440fx_host, config, pci_host_fields),
    STATE_FIELDS_END,
};

static bool host_post_load(void *instance, uint8_t version, GError **err)
{
    pci_host_post_load(&((struct i440fx_host *)instance)->config);
    return true;
}

static const struct state_table host_state = {
    .name = "i440FX-pcihost",
    .version = 1,
    .fields = host_fields,
    .post_load = host_post_load,
};

const struct device_type i440fx_host_type = {
    .name = "i440FX-pcihost",
    .description = "Intel 82441FX: PCI host",
    .bus = "system",
    .size = sizeof(struct i440fx_host),
    .realize = host_realize,
    .reset = host_reset,
    .unrealize = host_unrealize,
    .state = &host_state,
};
