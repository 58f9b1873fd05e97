/*
 * IDE channel (ATA/ATAPI-7 volume 2: the parallel interface as its host sees it): command block, control block, INTRQ.
 *
 * Both drives hear every write; the selected one answers. Where the selected drive is missing, the other one answers in its
 * place but with a status of 0; where both are, everything reads 0. Not modelled: the times of the cable. VM lock.
 */
#include "hw/disk/ide.h"

#include "hw/core/memory.h"

#define CONTROL_NIEN 0x02
#define CONTROL_SRST 0x04
#define CONTROL_HOB 0x80

static struct ata_drive *selected(const struct ide_channel *c)
{
    return c->bus.drives[c->select];
}

/* Who answers. */
static struct ata_drive *responder(const struct ide_channel *c)
{
    return selected(c) ? selected(c) : c->bus.drives[!c->select];
}

/* --- INTRQ, DMARQ ------------------------------------------------------------------------------------------------- */

static bool irq_level(const struct ide_channel *c)
{
    const struct ata_drive *d = selected(c);
    return d && d->intrq && !(c->device_control & CONTROL_NIEN);
}

void ide_channel_update_irq(struct ide_channel *c)
{
    irq_set(&c->irq, irq_level(c));
}

static void on_intrq(void *host, struct ata_drive *d)
{
    struct ide_channel *c = host;

    if (d != selected(c))
        return;
    if (irq_level(c) && c->interrupt)
        c->interrupt(c->opaque);
    ide_channel_update_irq(c);
}

static size_t on_dma(void *host, struct ata_drive *d, uint8_t *buf, size_t len, bool to_memory)
{
    struct ide_channel *c = host;
    return c->dma && d == selected(c) ? c->dma(c->opaque, buf, len, to_memory) : 0;
}

static const struct ata_host_ops host_ops = { .intrq = on_intrq, .dma = on_dma };

void ide_channel_dma(struct ide_channel *c)
{
    if (selected(c))
        ata_drive_dma(selected(c));
}

/* --- Registers ---------------------------------------------------------------------------------------------------- */

static uint8_t read_register(struct ide_channel *c, enum ata_register reg)
{
    struct ata_drive *d = responder(c);

    if (!d)
        return 0;
    if (reg == ATA_STATUS)
        return d == selected(c) ? ata_drive_acknowledge(d) : 0;
    return ata_drive_read(d, reg, c->device_control & CONTROL_HOB);
}

static uint64_t command_read(void *opaque, uint64_t offset, unsigned size)
{
    struct ide_channel *c = opaque;
    uint64_t value = 0;

    if (offset == ATA_DATA && size > 1)
        return selected(c) ? ata_drive_data_read(selected(c), size) : 0;
    for (unsigned i = 0; i < size; i++)
        value |= (uint64_t)(offset + i == ATA_DATA ? 0 : read_register(c, offset + i)) << 8 * i;
    return value;
}

static void write_command(struct ide_channel *c, uint8_t value)
{
    if (value == ATA_COMMAND_DIAGNOSTIC) {
        c->select = 0;
        for (unsigned i = 0; i < IDE_UNITS; i++) {
            if (c->bus.drives[i])
                ata_drive_diagnose(c->bus.drives[i]);
        }
        ide_channel_update_irq(c);
    } else if (selected(c)) {
        ata_drive_command(selected(c), value);
    }
}

static void write_register(struct ide_channel *c, enum ata_register reg, uint8_t value)
{
    c->device_control &= ~CONTROL_HOB;
    if (reg == ATA_COMMAND) {
        write_command(c, value);
        return;
    }
    for (unsigned i = 0; i < IDE_UNITS; i++) {
        if (c->bus.drives[i])
            ata_drive_write(c->bus.drives[i], reg, value);
    }
    if (reg == ATA_DEVICE) {
        c->select = (value & ATA_DEVICE_DEV) != 0;
        ide_channel_update_irq(c);
    }
}

static void command_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct ide_channel *c = opaque;

    if (offset == ATA_DATA && size > 1) {
        if (selected(c))
            ata_drive_data_write(selected(c), value, size);
        return;
    }
    for (unsigned i = 0; i < size; i++) {
        if (offset + i != ATA_DATA)
            write_register(c, offset + i, value >> 8 * i);
    }
}

static const struct mem_ops command_ops = {
    .read = command_read,
    .write = command_write,
    .valid = { 1, 4, false },
    .impl = { 1, 4, false },
};

static uint64_t alternate_status_read(void *opaque, uint64_t offset, unsigned size)
{
    struct ide_channel *c = opaque;
    return selected(c) ? ata_drive_read(selected(c), ATA_STATUS, false) : 0;
}

static void control_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct ide_channel *c = opaque;
    bool before = c->device_control & CONTROL_SRST, now = value & CONTROL_SRST;

    c->device_control = value & (CONTROL_NIEN | CONTROL_SRST | CONTROL_HOB);
    for (unsigned i = 0; i < IDE_UNITS && before != now; i++) {
        if (c->bus.drives[i])
            ata_drive_srst(c->bus.drives[i], now);
    }
    if (before && !now)
        c->select = 0;
    ide_channel_update_irq(c);
}

static const struct mem_ops control_ops = {
    .read = alternate_status_read,
    .write = control_write,
    .valid = { 1, 1, false },
    .impl = { 1, 1, false },
};

/* --- Life --------------------------------------------------------------------------------------------------------- */

void ide_channel_init(struct ide_channel *c, struct device *owner, const char *name, unsigned number)
{
    c->bus.bus = bus_new(owner->machine, owner, "ide", name);
    c->bus.bus->impl = &c->bus;
    c->bus.bus->capacity = c->bus.units = IDE_UNITS;
    c->bus.number = number;
    c->bus.ops = &host_ops;
    c->bus.host = c;
    mem_init_io(&c->command, owner, &command_ops, c, "ide-command", 8);
    mem_init_io(&c->control, owner, &control_ops, c, "ide-control", 1);
}

void ide_channel_fini(struct ide_channel *c)
{
    mem_fini(&c->command);
    mem_fini(&c->control);
}

void ide_channel_reset(struct ide_channel *c)
{
    c->select = 0;
    c->device_control = 0;
}

const struct state_field ide_channel_fields[] = {
    STATE_FIELD(STATE_U8, struct ide_channel, select),
    STATE_FIELD(STATE_U8, struct ide_channel, device_control),
    STATE_FIELDS_END,
};

bool ide_channel_post_load(struct ide_channel *c, GError **err)
{
    if (c->select < IDE_UNITS)
        return true;
    g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_INVAL, "IDE channel: the saved state selects drive %u", c->select);
    return false;
}
