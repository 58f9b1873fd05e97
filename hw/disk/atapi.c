/*
 * ATAPI CD drives: the PACKET command and the SCSI commands that move or watch the medium (ATA/ATAPI-7 volume 1, 6.24;
 * MMC-3; SPC-2). What describes drive and medium is in atapi_cd.c.
 *
 * One data track per medium. A guest that ejects opens the tray; the medium stays in it until the user takes it out.
 * Not modelled: audio, writing, DVD structures, copy protection. Under the VM lock.
 */
#include "hw/disk/ata_int.h"

#include "hw/core/log.h"

#include <string.h>

enum packet_flags {
    MEDIUM = 1 << 0,    /* fails without one */
    ATTENTION = 1 << 1, /* goes before a pending unit attention */
};

struct packet_command {
    void (*run)(struct ata_drive *d, const uint8_t *cdb);
    uint8_t flags;
};

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3];
}

static uint16_t get16(const uint8_t *p)
{
    return p[0] << 8 | p[1];
}

bool atapi_ready(const struct ata_drive *d)
{
    return d->blk && blk_has_medium(d->blk) && !d->tray_open;
}

/* --- Ends --------------------------------------------------------------------------------------------------------- */

void atapi_fail(struct ata_drive *d, uint8_t key, uint8_t asc, uint8_t ascq)
{
    d->sense = (struct ata_sense){ key, asc, ascq };
    d->count[0] = ATA_REASON_COD | ATA_REASON_IO;
    ata_fail(d, key << 4 | (key == SENSE_ILLEGAL_REQUEST ? ATA_ERROR_ABRT : 0));
}

static void succeed(struct ata_drive *d)
{
    d->sense = (struct ata_sense){ 0 };
    ata_finish(d);
}

static void not_ready(struct ata_drive *d)
{
    atapi_fail(d, SENSE_NOT_READY, ASC_NOT_PRESENT, d->tray_open ? ASC_TRAY_OPEN : ASC_TRAY_CLOSED);
}

static void invalid_field(struct ata_drive *d)
{
    atapi_fail(d, SENSE_ILLEGAL_REQUEST, ASC_INVALID_FIELD, 0);
}

void atapi_reply(struct ata_drive *d, uint32_t bytes, uint32_t allocated)
{
    d->sense = (struct ata_sense){ 0 };
    bytes = MIN(bytes, allocated);
    if (bytes)
        ata_reply(d, bytes);
    else
        ata_finish(d);
}

void atapi_media_error(struct ata_drive *d)
{
    if (atapi_ready(d))
        atapi_fail(d, SENSE_MEDIUM_ERROR, ASC_READ_ERROR, 0);
    else
        not_ready(d);
}

/* --- Medium and tray ---------------------------------------------------------------------------------------------- */

enum media_event { EVENT_NONE, EVENT_EJECT_REQUEST, EVENT_NEW_MEDIA, EVENT_REMOVAL };

static void set_tray(struct ata_drive *d, bool open)
{
    if (d->tray_open == open)
        return;
    d->tray_open = open;
    if (d->blk && blk_has_medium(d->blk)) {
        d->media_event = open ? EVENT_REMOVAL : EVENT_NEW_MEDIA;
        d->attention = !open;
    }
}

void atapi_medium(struct ata_drive *d, bool present)
{
    d->tray_open = !present;
    d->media_event = present ? EVENT_NEW_MEDIA : EVENT_REMOVAL;
    d->attention = present;
    d->locked &= present;
}

static void on_medium(void *opaque, bool present)
{
    atapi_medium(opaque, present);
}

const struct blk_front_ops atapi_front_ops = { .medium = on_medium };

void atapi_reset(struct ata_drive *d)
{
    d->sense = (struct ata_sense){ 0 };
    d->attention = false;
    d->media_event = EVENT_NONE;
    d->locked = false;
}

/* --- Commands ----------------------------------------------------------------------------------------------------- */

static void test_unit_ready(struct ata_drive *d, const uint8_t *cdb)
{
    succeed(d);
}

static void request_sense(struct ata_drive *d, const uint8_t *cdb)
{
    uint8_t *p = ata_buffer(d);

    memset(p, 0, 18);
    p[0] = 0x70;
    p[2] = d->sense.key;
    p[7] = 10;
    p[12] = d->sense.asc;
    p[13] = d->sense.ascq;
    /* Without a sense, a pending attention is told, and thereby over. */
    if (!d->sense.key && d->attention) {
        p[2] = SENSE_UNIT_ATTENTION;
        p[12] = ASC_CHANGED;
        d->attention = false;
    }
    atapi_reply(d, 18, cdb[4]);
}

static void start_stop(struct ata_drive *d, const uint8_t *cdb)
{
    bool start = cdb[4] & 1, load_eject = cdb[4] & 2;

    if (cdb[4] >> 4) { /* power conditions: always active */
        succeed(d);
        return;
    }
    if (load_eject && !start && d->locked) {
        atapi_fail(d, atapi_ready(d) ? SENSE_ILLEGAL_REQUEST : SENSE_NOT_READY, ASC_LOCKED, ASC_TRAY_OPEN);
        return;
    }
    if (load_eject)
        set_tray(d, !start);
    succeed(d);
}

static void prevent_allow(struct ata_drive *d, const uint8_t *cdb)
{
    d->locked = cdb[4] & 1;
    succeed(d);
}

static void read_capacity(struct ata_drive *d, const uint8_t *cdb)
{
    uint32_t last = atapi_capacity(d) - 1;
    uint8_t *p = ata_buffer(d);

    for (unsigned i = 0; i < 4; i++) {
        p[i] = last >> 8 * (3 - i);
        p[4 + i] = ATA_CD_SECTOR >> 8 * (3 - i);
    }
    atapi_reply(d, 8, 8);
}

static void read_from(struct ata_drive *d, uint32_t lba, uint32_t n, enum ata_work work)
{
    uint32_t media = atapi_capacity(d);

    if (lba > media || n > media - lba || (n && lba == media)) {
        atapi_fail(d, SENSE_ILLEGAL_REQUEST, ASC_LBA_RANGE, 0);
        return;
    }
    d->sense = (struct ata_sense){ 0 };
    if (!n) {
        ata_finish(d);
        return;
    }
    d->lba = lba;
    d->left = n;
    ata_transfer(d, work);
}

static void read_10(struct ata_drive *d, const uint8_t *cdb)
{
    read_from(d, get32(cdb + 2), get16(cdb + 7), ATA_WORK_READ);
}

static void read_12(struct ata_drive *d, const uint8_t *cdb)
{
    read_from(d, get32(cdb + 2), get32(cdb + 6), ATA_WORK_READ);
}

/* User data alone, or all of a sector but its subchannels. */
static void read_cd(struct ata_drive *d, const uint8_t *cdb)
{
    uint32_t lba = get32(cdb + 2), n = cdb[6] << 16 | get16(cdb + 7);

    switch (cdb[9] & 0xf8) {
    case 0x00: succeed(d); break;
    case 0x10: read_from(d, lba, n, ATA_WORK_READ); break;
    case 0xf8: read_from(d, lba, n, ATA_WORK_READ_RAW); break;
    default: invalid_field(d);
    }
}

static void seek(struct ata_drive *d, const uint8_t *cdb)
{
    if (get32(cdb + 2) < atapi_capacity(d))
        succeed(d);
    else
        atapi_fail(d, SENSE_ILLEGAL_REQUEST, ASC_LBA_RANGE, 0);
}

static void set_speed(struct ata_drive *d, const uint8_t *cdb)
{
    succeed(d);
}

static const struct packet_command packet_commands[256] = {
    [0x00] = { test_unit_ready, MEDIUM },
    [0x03] = { request_sense, ATTENTION },
    [0x12] = { atapi_inquiry, ATTENTION },
    [0x1a] = { atapi_mode_sense, 0 },
    [0x1b] = { start_stop, 0 },
    [0x1e] = { prevent_allow, 0 },
    [0x25] = { read_capacity, MEDIUM },
    [0x28] = { read_10, MEDIUM },
    [0x2b] = { seek, MEDIUM },
    [0x43] = { atapi_read_toc, MEDIUM },
    [0x46] = { atapi_get_configuration, ATTENTION },
    [0x4a] = { atapi_event_status, ATTENTION },
    [0x51] = { atapi_disc_information, MEDIUM },
    [0x5a] = { atapi_mode_sense, 0 },
    [0xa8] = { read_12, MEDIUM },
    [0xbb] = { set_speed, 0 },
    [0xbd] = { atapi_mechanism_status, 0 },
    [0xbe] = { read_cd, MEDIUM },
};

void atapi_packet(struct ata_drive *d)
{
    uint8_t cdb[ATAPI_PACKET_BYTES];
    const struct packet_command *c;

    memcpy(cdb, ata_buffer(d), sizeof cdb);
    c = &packet_commands[cdb[0]];
    d->work = ATA_WORK_NONE;
    /* DRQ blocks are as long as the host says, and whole words. */
    d->block_bytes = (d->lba_mid[0] | d->lba_high[0] << 8) & 0xfffe;
    if (!d->block_bytes)
        d->block_bytes = 0xfffe;
    if (!c->run) {
        log_unimp_once(cdb[0], "atapi", "packet command 0x%02x", cdb[0]);
        atapi_fail(d, SENSE_ILLEGAL_REQUEST, ASC_INVALID_COMMAND, 0);
    } else if (d->attention && !(c->flags & ATTENTION)) {
        d->attention = false;
        atapi_fail(d, SENSE_UNIT_ATTENTION, ASC_CHANGED, 0);
    } else if ((c->flags & MEDIUM) && !atapi_ready(d)) {
        not_ready(d);
    } else {
        c->run(d, cdb);
    }
}

/* --- ATA commands ------------------------------------------------------------------------------------------------- */

static void packet(struct ata_drive *d)
{
    if (d->features[0] & 2) { /* overlapped */
        ata_fail(d, ATA_ERROR_ABRT);
        return;
    }
    d->dma = d->features[0] & 1;
    d->standby = false;
    d->count[0] = ATA_REASON_COD;
    ata_take(d, ATA_WORK_PACKET, ATAPI_PACKET_BYTES);
}

void atapi_command(struct ata_drive *d)
{
    switch (d->command) {
    case ATA_COMMAND_PACKET: packet(d); break;
    case 0xa1: atapi_identify(d); break;
    case 0xe0: /* standby, idle and sleep, at once or after a time */
    case 0xe2:
    case 0xe6:
        d->standby = true;
        d->asleep = d->command == 0xe6;
        ata_finish(d);
        break;
    case 0xe1:
    case 0xe3:
        d->standby = false;
        ata_finish(d);
        break;
    case 0xe5:
        ata_finish(d);
        d->count[0] = d->standby ? 0x00 : 0xff;
        break;
    case 0xe7: /* FLUSH CACHE: there is none */
        ata_finish(d);
        break;
    case 0xef:
        if (d->features[0] == 0x03 && ata_set_transfer_mode(d))
            ata_finish(d);
        else
            ata_fail(d, ATA_ERROR_ABRT);
        break;
    case 0x20: /* READ SECTORS and IDENTIFY DEVICE: aborted with the signature, by which a host knows what we are */
    case 0xec: {
        uint8_t device = d->device;
        ata_signature(d);
        d->device = device;
        ata_fail(d, ATA_ERROR_ABRT);
        break;
    }
    default: ata_fail(d, ATA_ERROR_ABRT);
    }
}
