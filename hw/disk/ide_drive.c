/*
 * ide-hd and ide-cd: drives as devices on a bus of kind "ide", with the properties that the user gives them. Under the VM
 * lock.
 */
#include "hw/disk/ide.h"

#include "hw/core/machine.h"
#include "hw/core/opts.h"
#include "hw/pci/pci.h"

#include <string.h>

#define UNIT_ANY UINT32_MAX

struct ide_drive {
    struct device dev;
    struct ata_drive ata;
    struct ide_bus *bus;
    char *default_serial;
    /* Properties */
    struct blk *blk;
    uint32_t unit, bootindex;
    char *serial, *model, *version;
    uint64_t wwn;
    uint16_t rotation_rate;
};

struct ata_drive *ide_drive_ata(struct device *d)
{
    return &container_of(d, struct ide_drive, dev)->ata;
}

struct device *ide_drive_device(struct ata_drive *d)
{
    return &container_of(d, struct ide_drive, ata)->dev;
}

/* --- Place on the cable ------------------------------------------------------------------------------------------- */

static bool choose_unit(struct ide_drive *s, GError **err)
{
    const struct ide_bus *b = s->bus;

    if (s->unit == UNIT_ANY) {
        for (s->unit = 0; s->unit < b->units && b->drives[s->unit]; s->unit++)
            ;
        if (s->unit < b->units)
            return true;
        s->unit = UNIT_ANY;
        return opts_error(err, "%s: there is no room on %s", s->dev.type->name, b->bus->name);
    }
    if (s->unit >= b->units)
        return opts_error(err, "%s: unit=%u: %s has units below %u", s->dev.type->name, s->unit, b->bus->name, b->units);
    if (b->drives[s->unit])
        return opts_error(err, "%s: unit=%u: there is a drive on %s already", s->dev.type->name, s->unit, b->bus->name);
    return true;
}

static bool check_blk(const struct ide_drive *s, bool packet, GError **err)
{
    if (packet)
        return true;
    if (!s->blk)
        return opts_error(err, "%s: drive= is missing: the id of a -drive", s->dev.type->name);
    if (!blk_has_medium(s->blk) || !blk_size(s->blk))
        return opts_error(err, "%s: drive=%s has no medium; a disk needs an image", s->dev.type->name, blk_id(s->blk));
    return true;
}

static bool check_text(const struct ide_drive *s, const char *name, const char *text, size_t max, GError **err)
{
    if (!text || strlen(text) <= max)
        return true;
    return opts_error(err, "%s: %s=%s: must have at most %zu characters", s->dev.type->name, name, text, max);
}

/* As QEMU's firmware interface names it. */
static bool tell_firmware(struct ide_drive *s, GError **err)
{
    if (s->bootindex == UINT32_MAX)
        return true;
    g_autofree char *parent = pci_firmware_path(s->bus->bus->owner, "ide");
    g_autofree char *path = g_strdup_printf("%s/drive@%x/disk@%x", parent, s->bus->number, s->unit);
    return machine_add_boot_path(s->dev.machine, s->bootindex, path, err);
}

/* --- Life --------------------------------------------------------------------------------------------------------- */

static bool realize(struct device *d, bool packet, GError **err)
{
    struct ide_drive *s = container_of(d, struct ide_drive, dev);

    s->bus = d->bus->impl;
    if (!choose_unit(s, err) || !check_blk(s, packet, err) || !check_text(s, "serial", s->serial, 20, err) ||
        !check_text(s, "model", s->model, 40, err) || !check_text(s, "ver", s->version, 8, err))
        return false;
    g_free(s->default_serial);
    s->default_serial = g_strdup_printf("TR%05u", s->bus->number * IDE_UNITS + s->unit + 1);
    s->ata.m = d->machine;
    s->ata.blk = s->blk;
    s->ata.packet = packet;
    s->ata.unit = s->unit;
    s->ata.serial = s->serial ? s->serial : s->default_serial;
    s->ata.model = s->model ? s->model : packet ? "TRAPEZE DVD-ROM" : "TRAPEZE HARDDISK";
    s->ata.version = s->version ? s->version : "1.0";
    s->ata.wwn = s->wwn;
    s->ata.rotation_rate = s->rotation_rate;
    s->ata.ops = s->bus->ops;
    s->ata.host = s->bus->host;
    if (!ata_drive_init(&s->ata, err)) {
        g_prefix_error(err, "%s: ", d->type->name);
        return false;
    }
    if (!tell_firmware(s, err)) {
        ata_drive_fini(&s->ata);
        return false;
    }
    s->bus->drives[s->unit] = &s->ata;
    return true;
}

static bool hd_realize(struct device *d, GError **err)
{
    return realize(d, false, err);
}

static bool cd_realize(struct device *d, GError **err)
{
    return realize(d, true, err);
}

static void ide_drive_reset(struct device *d)
{
    ata_drive_reset(ide_drive_ata(d));
}

static void ide_drive_unrealize(struct device *d)
{
    struct ide_drive *s = container_of(d, struct ide_drive, dev);

    s->bus->drives[s->unit] = NULL;
    ata_drive_fini(&s->ata);
    g_clear_pointer(&s->default_serial, g_free);
}

/* --- Saved state -------------------------------------------------------------------------------------------------- */

static void pre_save(void *instance)
{
    ata_drive_pre_save(&((struct ide_drive *)instance)->ata);
}

static bool post_load(void *instance, uint8_t version, GError **err)
{
    return ata_drive_post_load(&((struct ide_drive *)instance)->ata, err);
}

static const struct state_field ide_drive_fields[] = {
    STATE_NESTED(struct ide_drive, ata, ata_drive_fields),
    STATE_FIELDS_END,
};

static const struct state_table ide_drive_state = {
    .name = "ide_drive",
    .version = 1,
    .fields = ide_drive_fields,
    .pre_save = pre_save,
    .post_load = post_load,
};

#define DRIVE_PROPS \
    PROP(PROP_BLK, "drive", struct ide_drive, blk, 0, "id of a -drive"), \
    PROP(PROP_U32, "unit", struct ide_drive, unit, UNIT_ANY, "place on the cable: 0 master, 1 slave"), \
    PROP(PROP_U32, "bootindex", struct ide_drive, bootindex, UINT32_MAX, "firmware boots from the lowest first"), \
    PROP(PROP_STRING, "serial", struct ide_drive, serial, 0, "serial number, up to 20 characters"), \
    PROP(PROP_STRING, "model", struct ide_drive, model, 0, "model, up to 40 characters"), \
    PROP(PROP_STRING, "ver", struct ide_drive, version, 0, "firmware revision, up to 8 characters")

static const struct prop hd_props[] = {
    DRIVE_PROPS,
    PROP(PROP_U64, "wwn", struct ide_drive, wwn, 0, "world wide name; 0: none"),
    PROP(PROP_U16, "rotation_rate", struct ide_drive, rotation_rate, 0, "turns per minute; 1: does not rotate; 0: not told"),
    PROPS_END,
};
static const struct prop cd_props[] = { DRIVE_PROPS, PROPS_END };

const struct device_type ide_hd_type = {
    .name = "ide-hd",
    .description = "ATA disk",
    .bus = "ide",
    .size = sizeof(struct ide_drive),
    .props = hd_props,
    .user_creatable = true,
    .realize = hd_realize,
    .reset = ide_drive_reset,
    .unrealize = ide_drive_unrealize,
    .state = &ide_drive_state,
};

const struct device_type ide_cd_type = {
    .name = "ide-cd",
    .description = "ATAPI CD-ROM drive",
    .bus = "ide",
    .size = sizeof(struct ide_drive),
    .props = cd_props,
    .user_creatable = true,
    .realize = cd_realize,
    .reset = ide_drive_reset,
    .unrealize = ide_drive_unrealize,
    .state = &ide_drive_state,
};
