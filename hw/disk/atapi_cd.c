/*
 * What an ATAPI CD drive tells of itself and of its medium (MMC-3 chapters 5 and 6, SPC-2 for INQUIRY and MODE SENSE).
 *
 * Every medium is a closed disc with one session of one data track (mode 1). One of more than 80 minutes is told as a
 * DVD-ROM in the profiles. Under the VM lock.
 */
#include "hw/disk/ata_int.h"

#include <string.h>

#define CD_MAX_SECTORS (80 * 60 * 75)
#define LEAD_OUT 0xaa
#define PROFILE_CD_ROM 0x0008
#define PROFILE_DVD_ROM 0x0010

static void put16(uint8_t *p, uint16_t v)
{
    p[0] = v >> 8;
    p[1] = v;
}

static void put32(uint8_t *p, uint32_t v)
{
    put16(p, v >> 16);
    put16(p + 2, v);
}

static uint16_t get16(const uint8_t *p)
{
    return p[0] << 8 | p[1];
}

static void put_msf(uint8_t *p, uint32_t lba)
{
    lba += 150;
    p[0] = lba / 75 / 60;
    p[1] = lba / 75 % 60;
    p[2] = lba % 75;
}

static void invalid_field(struct ata_drive *d)
{
    atapi_fail(d, SENSE_ILLEGAL_REQUEST, ASC_INVALID_FIELD, 0);
}

uint32_t atapi_capacity(const struct ata_drive *d)
{
    return MIN(ata_sectors(d), UINT32_MAX - 150);
}

/* --- The drive ---------------------------------------------------------------------------------------------------- */

void atapi_identify(struct ata_drive *d)
{
    uint8_t *page = ata_buffer(d);

    memset(page, 0, ATA_SECTOR);
    ata_put_word(page, 0, 0x85c0); /* CD-ROM, removable, DRQ within 50 us, packets of 12 bytes */
    ata_put_string(page + 20, d->serial, 20);
    ata_put_string(page + 46, d->version, 8);
    ata_put_string(page + 54, d->model, 40);
    ata_put_word(page, 49, 0x0f00); /* IORDY, LBA, DMA */
    ata_put_word(page, 50, 0x4000);
    ata_put_word(page, 53, 0x0007);
    ata_put_word(page, 63, ata_mdma_word(d));
    ata_put_word(page, 64, 0x0003);
    for (unsigned i = 65; i <= 68; i++)
        ata_put_word(page, i, 120);
    ata_put_word(page, 80, 0x00f0);
    ata_put_word(page, 82, 0x0218); /* DEVICE RESET, PACKET, power management */
    ata_put_word(page, 83, 0x4000);
    ata_put_word(page, 84, 0x4000);
    ata_put_word(page, 85, 0x0218);
    ata_put_word(page, 87, 0x4000);
    ata_put_word(page, 88, ata_udma_word(d));
    ata_put_word(page, 93, d->unit ? 0x6b00 : 0x600b);
    ata_put_checksum(page);
    ata_reply(d, ATA_SECTOR);
}

static void put_text(uint8_t *p, const char *text, unsigned bytes)
{
    size_t len = strlen(text);

    memset(p, ' ', bytes);
    memcpy(p, text, MIN(len, bytes));
}

void atapi_inquiry(struct ata_drive *d, const uint8_t *cdb)
{
    uint8_t *p = ata_buffer(d);
    const char *space = strchr(d->model, ' ');

    if ((cdb[1] & 3) || cdb[2]) { /* no vital product data */
        invalid_field(d);
        return;
    }
    memset(p, 0, 36);
    p[0] = 0x05; /* CD */
    p[1] = 0x80; /* removable */
    p[3] = 0x21; /* ATAPI, format of the answer as in SPC */
    p[4] = 36 - 5;
    put_text(p + 8, "TRAPEZE", 8);
    put_text(p + 16, space ? space + 1 : d->model, 16);
    put_text(p + 32, d->version, 4);
    atapi_reply(d, 36, get16(cdb + 3));
}

/* --- MODE SENSE --------------------------------------------------------------------------------------------------- */

static unsigned error_recovery_page(const struct ata_drive *d, uint8_t *p)
{
    p[0] = 0x01;
    p[1] = 6;
    p[3] = 5; /* retries */
    return 8;
}

static unsigned power_page(const struct ata_drive *d, uint8_t *p)
{
    p[0] = 0x1a;
    p[1] = 10;
    return 12;
}

static unsigned capabilities_page(const struct ata_drive *d, uint8_t *p)
{
    enum { SPEED = 706 }; /* 4 times, in kB/s */
    p[0] = 0x2a;
    p[1] = 18;
    p[2] = 0x3b;          /* reads CD-R, CD-RW, DVD-ROM ... */
    p[4] = 0x70;          /* multi-session, mode 2 forms 1 and 2 */
    p[5] = 0x00;
    p[6] = 0x29 | (d->locked ? 2 : 0); /* tray, ejects, can be locked */
    put16(p + 8, SPEED);
    put16(p + 12, 512);   /* KiB of buffer */
    put16(p + 14, SPEED);
    return 20;
}

static const struct { uint8_t code; unsigned (*fill)(const struct ata_drive *d, uint8_t *p); } mode_pages[] = {
    { 0x01, error_recovery_page },
    { 0x1a, power_page },
    { 0x2a, capabilities_page },
};

void atapi_mode_sense(struct ata_drive *d, const uint8_t *cdb)
{
    bool ten = cdb[0] == 0x5a;
    uint8_t *p = ata_buffer(d), wanted = cdb[2] & 0x3f, control = cdb[2] >> 6;
    unsigned header = ten ? 8 : 4, len = header;

    memset(p, 0, 64);
    if (control == 3) {
        atapi_fail(d, SENSE_ILLEGAL_REQUEST, ASC_SAVING, 0);
        return;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(mode_pages); i++) {
        if (wanted != 0x3f && wanted != mode_pages[i].code)
            continue;
        unsigned n = mode_pages[i].fill(d, p + len);
        if (control == 1) /* what can be changed: nothing */
            memset(p + len + 2, 0, n - 2);
        len += n;
    }
    if (len == header) {
        invalid_field(d);
        return;
    }
    if (ten)
        put16(p, len - 2);
    else
        p[0] = len - 1;
    /* Medium type: data CD, or none, or the tray is open. */
    p[ten ? 2 : 1] = atapi_ready(d) ? 0x01 : d->tray_open ? 0x71 : 0x70;
    atapi_reply(d, len, ten ? get16(cdb + 7) : cdb[4]);
}

/* --- GET CONFIGURATION -------------------------------------------------------------------------------------------- */

static uint16_t current_profile(const struct ata_drive *d)
{
    if (!atapi_ready(d))
        return 0;
    return atapi_capacity(d) > CD_MAX_SECTORS ? PROFILE_DVD_ROM : PROFILE_CD_ROM;
}

static unsigned put_feature(uint8_t *p, uint16_t code, uint8_t flags, unsigned len)
{
    put16(p, code);
    p[2] = flags;
    p[3] = len;
    return 4 + len;
}

static unsigned profile_list(const struct ata_drive *d, uint8_t *p)
{
    uint16_t now = current_profile(d);

    put16(p + 4, PROFILE_DVD_ROM);
    p[6] = now == PROFILE_DVD_ROM;
    put16(p + 8, PROFILE_CD_ROM);
    p[10] = now == PROFILE_CD_ROM;
    return put_feature(p, 0x0000, 0x03, 8);
}

static unsigned core_feature(const struct ata_drive *d, uint8_t *p)
{
    put32(p + 4, 2); /* ATAPI */
    p[8] = 1;        /* device busy events */
    return put_feature(p, 0x0001, 0x0b, 8);
}

static unsigned removable_medium(const struct ata_drive *d, uint8_t *p)
{
    p[4] = 0x29; /* tray, eject, lock */
    return put_feature(p, 0x0003, 0x03, 4);
}

static unsigned random_readable(const struct ata_drive *d, uint8_t *p)
{
    put32(p + 4, ATA_CD_SECTOR);
    put16(p + 8, 16);
    return put_feature(p, 0x0010, current_profile(d) ? 1 : 0, 8);
}

static unsigned cd_read(const struct ata_drive *d, uint8_t *p)
{
    return put_feature(p, 0x001e, current_profile(d) == PROFILE_CD_ROM ? 0x09 : 0x08, 4);
}

static unsigned dvd_read(const struct ata_drive *d, uint8_t *p)
{
    return put_feature(p, 0x001f, current_profile(d) == PROFILE_DVD_ROM ? 0x09 : 0x08, 4);
}

static const struct { uint16_t code; unsigned (*fill)(const struct ata_drive *d, uint8_t *p); } features[] = {
    { 0x0000, profile_list }, { 0x0001, core_feature }, { 0x0003, removable_medium },
    { 0x0010, random_readable }, { 0x001e, cd_read }, { 0x001f, dvd_read },
};

void atapi_get_configuration(struct ata_drive *d, const uint8_t *cdb)
{
    uint8_t *p = ata_buffer(d), type = cdb[1] & 3, feature[64];
    uint16_t first = get16(cdb + 2);
    unsigned len = 8;

    if (type == 3) {
        invalid_field(d);
        return;
    }
    memset(p, 0, 256);
    for (unsigned i = 0; i < G_N_ELEMENTS(features); i++) {
        if (type == 2 ? features[i].code != first : features[i].code < first)
            continue;
        memset(feature, 0, sizeof feature);
        unsigned n = features[i].fill(d, feature);
        if (type == 1 && !(feature[2] & 1)) /* only those that are current */
            continue;
        memcpy(p + len, feature, n);
        len += n;
    }
    put32(p, len - 4);
    put16(p + 6, current_profile(d));
    atapi_reply(d, len, get16(cdb + 7));
}

/* --- Events and mechanism ----------------------------------------------------------------------------------------- */

void atapi_event_status(struct ata_drive *d, const uint8_t *cdb)
{
    enum { CLASS_MEDIA = 4 };
    uint8_t *p = ata_buffer(d);

    if (!(cdb[1] & 1)) { /* asynchronous notification */
        invalid_field(d);
        return;
    }
    memset(p, 0, 8);
    p[3] = 1 << CLASS_MEDIA;
    if (!(cdb[4] & 1 << CLASS_MEDIA)) {
        put16(p, 2);
        p[2] = 0x80; /* none of the classes that were asked for */
        atapi_reply(d, 4, get16(cdb + 7));
        return;
    }
    put16(p, 6);
    p[2] = CLASS_MEDIA;
    p[4] = d->media_event;
    p[5] = (d->tray_open ? 1 : 0) | (atapi_ready(d) ? 2 : 0);
    if (get16(cdb + 7) > 4)
        d->media_event = 0;
    atapi_reply(d, 8, get16(cdb + 7));
}

void atapi_mechanism_status(struct ata_drive *d, const uint8_t *cdb)
{
    uint8_t *p = ata_buffer(d);

    memset(p, 0, 8);
    p[1] = d->tray_open ? 0x10 : 0;
    p[5] = 1; /* slot */
    atapi_reply(d, 8, get16(cdb + 8));
}

/* --- The medium --------------------------------------------------------------------------------------------------- */

void atapi_disc_information(struct ata_drive *d, const uint8_t *cdb)
{
    uint8_t *p = ata_buffer(d);

    if (cdb[1] & 7) {
        invalid_field(d);
        return;
    }
    memset(p, 0, 34);
    put16(p, 32);
    p[2] = 0x0e; /* last session complete, disc finished */
    p[3] = p[4] = p[5] = p[6] = 1; /* first track, sessions, first and last track of the last session */
    p[7] = 0x20; /* unrestricted use */
    memset(p + 16, 0xff, 8);       /* no further lead-in and lead-out */
    atapi_reply(d, 34, get16(cdb + 7));
}

static void put_position(uint8_t *p, uint32_t lba, bool msf)
{
    p[0] = 0;
    if (msf)
        put_msf(p + 1, lba);
    else
        put32(p, lba);
}

/* Format 0: the track and the lead-out, from track `first` on. */
static unsigned toc_tracks(const struct ata_drive *d, uint8_t *p, bool msf, uint8_t first)
{
    unsigned len = 4;

    p[2] = p[3] = 1;
    if (first <= 1) {
        p[len + 1] = 0x14; /* data track, copying forbidden */
        p[len + 2] = 1;
        put_position(p + len + 4, 0, msf);
        len += 8;
    }
    p[len + 1] = 0x14;
    p[len + 2] = LEAD_OUT;
    put_position(p + len + 4, atapi_capacity(d), msf);
    return len + 8;
}

/* Format 1: the last session begins with track 1. */
static unsigned toc_sessions(const struct ata_drive *d, uint8_t *p, bool msf)
{
    p[2] = p[3] = 1;
    p[5] = 0x14;
    p[6] = 1;
    put_position(p + 8, 0, msf);
    return 12;
}

/* Format 2: as it is written in the lead-in. */
static unsigned toc_raw(const struct ata_drive *d, uint8_t *p)
{
    static const uint8_t points[] = { 0xa0, 0xa1, 0xa2, 0x01 };
    unsigned len = 4;

    p[2] = p[3] = 1;
    for (unsigned i = 0; i < G_N_ELEMENTS(points); i++, len += 11) {
        uint8_t *e = p + len;
        e[0] = 1; /* session */
        e[1] = 0x14;
        e[3] = points[i];
        if (points[i] == 0xa2)
            put_msf(e + 8, atapi_capacity(d));
        else if (points[i] == 0x01)
            put_msf(e + 8, 0);
        else
            e[8] = 1; /* first and last track */
    }
    return len;
}

void atapi_read_toc(struct ata_drive *d, const uint8_t *cdb)
{
    uint8_t *p = ata_buffer(d), format = cdb[2] & 0x0f;
    bool msf = cdb[1] & 2;
    unsigned len;

    if (!format)
        format = cdb[9] >> 6; /* where SFF-8020 had it */
    memset(p, 0, 64);
    if (format == 0 && cdb[6] > 1 && cdb[6] != LEAD_OUT) {
        invalid_field(d);
        return;
    }
    switch (format) {
    case 0: len = toc_tracks(d, p, msf, cdb[6]); break;
    case 1: len = toc_sessions(d, p, msf); break;
    case 2: len = toc_raw(d, p); break;
    default: invalid_field(d); return;
    }
    put16(p, len - 2);
    atapi_reply(d, len, get16(cdb + 7));
}

/* Sync pattern, address, mode 1, data; the error correction codes are left zero. */
void atapi_make_raw(uint8_t *buf, uint32_t lba, uint32_t n)
{
    for (uint32_t i = n; i-- > 0;) {
        uint8_t *raw = buf + (size_t)i * ATA_CD_RAW_SECTOR;
        memmove(raw + 16, buf + (size_t)i * ATA_CD_SECTOR, ATA_CD_SECTOR);
        memset(raw + 16 + ATA_CD_SECTOR, 0, ATA_CD_RAW_SECTOR - 16 - ATA_CD_SECTOR);
        raw[0] = 0;
        memset(raw + 1, 0xff, 10);
        raw[11] = 0;
        put_msf(raw + 12, lba + i);
        for (unsigned j = 12; j < 15; j++)
            raw[j] = raw[j] / 10 << 4 | raw[j] % 10;
        raw[15] = 1;
    }
}
