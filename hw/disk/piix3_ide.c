/*
 * Intel 82371SB (PIIX3) function 1, order number 290550, chapters 2.3, 3.4 and 4.2: IDE interface in the legacy ports 0x1f0,
 * 0x3f6 (irq 14) and 0x170, 0x376 (irq 15), with bus-master DMA.
 *
 * A transfer goes as far as the descriptors (PRDs) and the drive's buffer reach; each PRD has at least two bytes, so that is
 * bounded. A PRD or data that nobody answers for is a master abort: the error bit is set and the engine stops. Not modelled:
 * timing, which IDETIM and SIDETIM hold; alignment of a descriptor's memory within 64 KiB is not enforced. VM lock.
 */
#include "hw/disk/piix3_ide.h"

#include "hw/core/log.h"
#include "hw/core/machine.h"

#define SIDETIM 0x44

#define BMICOM 0
#define BMISTA 2
#define BMIDTP 4
#define BM_REGISTERS 8 /* of each channel */

#define BMICOM_START 0x01
#define BMICOM_TO_MEMORY 0x08
#define BMISTA_ACTIVE 0x01
#define BMISTA_ERROR 0x02
#define BMISTA_INTERRUPT 0x04
#define BMISTA_CAPABLE 0x60 /* drive 0 and 1 can do DMA: the firmware's notes */

/* --- Bus master --------------------------------------------------------------------------------------------------- */

static bool fetch(struct piix3_ide_master *b)
{
    uint32_t prd[2];

    if (!address_space_read(&b->ide->pci.dev.machine->memory, b->next, prd, sizeof prd))
        return false;
    b->address = GUINT32_FROM_LE(prd[0]) & ~UINT32_C(1);
    b->bytes = GUINT32_FROM_LE(prd[1]) & 0xfffe;
    b->last = GUINT32_FROM_LE(prd[1]) >> 31;
    if (!b->bytes)
        b->bytes = 0x10000;
    b->next += sizeof prd;
    return true;
}

static void stop_with_error(struct piix3_ide_master *b)
{
    log_guest_error("piix3-ide", "bus master: nobody answers at 0x%x", b->address);
    b->status = (b->status & ~BMISTA_ACTIVE) | BMISTA_ERROR;
}

static size_t move(void *opaque, uint8_t *buf, size_t len, bool to_memory)
{
    struct piix3_ide_master *b = opaque;
    struct address_space *as = &b->ide->pci.dev.machine->memory;
    size_t done = 0;

    if (!(b->status & BMISTA_ACTIVE) || !(pci_word(&b->ide->pci, PCI_COMMAND) & PCI_COMMAND_MASTER))
        return 0;
    if (to_memory != ((b->command & BMICOM_TO_MEMORY) != 0)) {
        log_guest_error("piix3-ide", "bus master: set up for the other direction");
        return 0;
    }
    while (done < len) {
        if (!b->bytes && (b->last || !fetch(b))) {
            if (b->last) /* the drive wants more: no interrupt comes */
                break;
            stop_with_error(b);
            return done;
        }
        size_t n = MIN(len - done, b->bytes);
        if (!(to_memory ? address_space_write(as, b->address, buf + done, n) :
                          address_space_read(as, b->address, buf + done, n))) {
            stop_with_error(b);
            return done;
        }
        done += n;
        b->address += n;
        b->bytes -= n;
    }
    if (!b->bytes && b->last)
        b->status &= ~BMISTA_ACTIVE;
    return done;
}

static void on_interrupt(void *opaque)
{
    struct piix3_ide_master *b = opaque;
    b->status |= BMISTA_INTERRUPT;
}

static void write_command(struct piix3_ide *s, unsigned n, uint8_t value)
{
    struct piix3_ide_master *b = &s->master[n];
    bool before = b->command & BMICOM_START, now = value & BMICOM_START;

    b->command = value & (BMICOM_START | BMICOM_TO_MEMORY);
    if (before && !now) {
        b->status &= ~BMISTA_ACTIVE;
    } else if (!before && now) {
        b->status |= BMISTA_ACTIVE;
        b->next = b->table;
        b->bytes = 0;
        b->last = false;
        ide_channel_dma(&s->channel[n]);
    }
}

static uint64_t master_read(void *opaque, uint64_t offset, unsigned size)
{
    struct piix3_ide *s = opaque;
    const struct piix3_ide_master *b = &s->master[offset / BM_REGISTERS];
    unsigned reg = offset % BM_REGISTERS;

    switch (reg) {
    case BMICOM: return b->command;
    case BMISTA: return b->status;
    case 1:
    case 3: return 0;
    default: return b->table >> 8 * (reg - BMIDTP);
    }
}

static void master_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct piix3_ide *s = opaque;
    struct piix3_ide_master *b = &s->master[offset / BM_REGISTERS];
    unsigned reg = offset % BM_REGISTERS, shift = 8 * (reg & 3);

    switch (reg) {
    case BMICOM: write_command(s, offset / BM_REGISTERS, value); break;
    case BMISTA:
        b->status = (b->status & ~BMISTA_CAPABLE) | (value & BMISTA_CAPABLE);
        b->status &= ~(value & (BMISTA_ERROR | BMISTA_INTERRUPT));
        break;
    case 1:
    case 3: break;
    default: b->table = ((b->table & ~(UINT32_C(0xff) << shift)) | (uint32_t)value << shift) & ~UINT32_C(3);
    }
}

static const struct mem_ops master_ops = {
    .read = master_read,
    .write = master_write,
    .valid = { 1, 4, true },
    .impl = { 1, 1, false },
};

/* --- Configuration ------------------------------------------------------------------------------------------------ */

static void update_ports(struct piix3_ide *s)
{
    bool io = pci_word(&s->pci, PCI_COMMAND) & PCI_COMMAND_IO;

    mem_transaction_begin();
    for (unsigned n = 0; n < PIIX3_IDE_CHANNELS; n++) {
        bool on = io && (pci_word(&s->pci, PIIX3_IDETIM + 2 * n) & PIIX3_IDETIM_ENABLE);
        mem_set_enabled(&s->channel[n].command, on);
        mem_set_enabled(&s->channel[n].control, on);
    }
    mem_transaction_commit();
}

static void config_written(struct pci_device *p, unsigned reg, unsigned len)
{
    struct piix3_ide *s = container_of(p, struct piix3_ide, pci);
    bool command = reg <= PCI_COMMAND + 1 && reg + len > PCI_COMMAND;

    if (command || (reg < SIDETIM && reg + len > PIIX3_IDETIM))
        update_ports(s);
    for (unsigned n = 0; command && n < PIIX3_IDE_CHANNELS; n++)
        ide_channel_dma(&s->channel[n]);
}

static void init_registers(struct pci_device *p)
{
    pci_config_init(p, PCI_COMMAND, 0, 2, PCI_COMMAND_IO | PCI_COMMAND_MASTER);
    pci_config_init(p, PCI_STATUS, PCI_STATUS_FAST_BACK | PCI_STATUS_DEVSEL_MEDIUM, 2, 0);
    pci_config_init(p, PIIX3_IDETIM, 0, 4, 0xf3fff3ff);
    pci_config_init(p, SIDETIM, 0, 1, 0xff);
}

/* --- Life --------------------------------------------------------------------------------------------------------- */

static bool piix3_ide_realize(struct device *d, GError **err)
{
    static const struct pci_info info = {
        .vendor_id = 0x8086,
        .device_id = 0x7010,
        .class_code = 0x010180,
        .bars[4] = { PCI_BAR_IO, PIIX3_IDE_CHANNELS * BM_REGISTERS, "piix3-ide-master", &master_ops },
    };
    static const uint16_t command_ports[] = { 0x1f0, 0x170 }, control_ports[] = { 0x3f6, 0x376 };
    static const char *const names[] = { "ide.0", "ide.1" };
    struct piix3_ide *s = container_of(d, struct piix3_ide, pci.dev);

    s->pci.config_written = config_written;
    if (!pci_init(&s->pci, &info, err))
        return false;
    init_registers(&s->pci);
    for (unsigned n = 0; n < PIIX3_IDE_CHANNELS; n++) {
        struct ide_channel *c = &s->channel[n];
        ide_channel_init(c, d, names[n], n);
        s->master[n].ide = s;
        c->dma = move;
        c->interrupt = on_interrupt;
        c->opaque = &s->master[n];
        mem_map(s->pci.bus->io, command_ports[n], &c->command, 0);
        mem_map(s->pci.bus->io, control_ports[n], &c->control, 0);
    }
    update_ports(s);
    return true;
}

static void piix3_ide_reset(struct device *d)
{
    struct piix3_ide *s = container_of(d, struct piix3_ide, pci.dev);

    pci_reset(&s->pci);
    for (unsigned n = 0; n < PIIX3_IDE_CHANNELS; n++) {
        s->master[n] = (struct piix3_ide_master){ .ide = s };
        ide_channel_reset(&s->channel[n]);
    }
    update_ports(s);
}

static void piix3_ide_reset_wires(struct device *d)
{
    struct piix3_ide *s = container_of(d, struct piix3_ide, pci.dev);

    for (unsigned n = 0; n < PIIX3_IDE_CHANNELS; n++)
        ide_channel_update_irq(&s->channel[n]);
}

static void piix3_ide_unrealize(struct device *d)
{
    struct piix3_ide *s = container_of(d, struct piix3_ide, pci.dev);

    for (unsigned n = 0; n < PIIX3_IDE_CHANNELS; n++)
        ide_channel_fini(&s->channel[n]);
    pci_fini(&s->pci);
}

static const struct prop piix3_ide_props[] = { PCI_PROPS, PROPS_END };

static const struct state_field master_fields[] = {
    STATE_FIELD(STATE_U8, struct piix3_ide_master, command),
    STATE_FIELD(STATE_U8, struct piix3_ide_master, status),
    STATE_FIELD(STATE_U32, struct piix3_ide_master, table),
    STATE_FIELD(STATE_U32, struct piix3_ide_master, next),
    STATE_FIELD(STATE_U32, struct piix3_ide_master, address),
    STATE_FIELD(STATE_U32, struct piix3_ide_master, bytes),
    STATE_FIELD(STATE_BOOL, struct piix3_ide_master, last),
    STATE_FIELDS_END,
};

static const struct state_field piix3_ide_fields[] = {
    STATE_NESTED(struct piix3_ide, pci, pci_device_fields),
    STATE_NESTED_ARRAY(struct piix3_ide, channel, ide_channel_fields),
    STATE_NESTED_ARRAY(struct piix3_ide, master, master_fields),
    STATE_FIELDS_END,
};

static bool piix3_ide_post_load(void *instance, uint8_t version, GError **err)
{
    struct piix3_ide *s = instance;

    if (!pci_post_load(&s->pci, err))
        return false;
    for (unsigned n = 0; n < PIIX3_IDE_CHANNELS; n++) {
        struct piix3_ide_master *b = &s->master[n];
        if (!ide_channel_post_load(&s->channel[n], err))
            return false;
        b->table &= ~UINT32_C(3);
        if (b->bytes > 0x10000 || (b->command & ~(BMICOM_START | BMICOM_TO_MEMORY))) {
            g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_INVAL, "piix3-ide: the saved state of a bus master is impossible");
            return false;
        }
    }
    update_ports(s);
    return true;
}

static const struct state_table piix3_ide_state = {
    .name = "piix3-ide",
    .version = 1,
    .fields = piix3_ide_fields,
    .post_load = piix3_ide_post_load,
};

const struct device_type piix3_ide_type = {
    .name = "piix3-ide",
    .description = "Intel 82371SB IDE interface with bus master",
    .bus = "pci",
    .size = sizeof(struct piix3_ide),
    .props = piix3_ide_props,
    .realize = piix3_ide_realize,
    .reset = piix3_ide_reset,
    .reset_wires = piix3_ide_reset_wires,
    .unrealize = piix3_ide_unrealize,
    .state = &piix3_ide_state,
};
