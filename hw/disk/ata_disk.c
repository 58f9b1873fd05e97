/*
 * Commands of ATA disks (ATA/ATAPI-7, T13 1532D volume 1, chapter 6; DATA SET MANAGEMENT as in ACS-2).
 *
 * A disk never wears out, so SMART has three attributes and always passes. A position is LBA28, LBA48 or CHS in the geometry
 * that the guest set. Not modelled: see ata.c. Under the VM lock.
 */
#include "hw/disk/ata_int.h"

#include <string.h>

#define MAX_LBA28 UINT64_C(0x0fffffff)
#define TRIM_BLOCKS_MAX 8 /* of 64 ranges */

enum command_flags {
    EXT = 1 << 0,      /* 48-bit registers */
    DMA = 1 << 1,
    MULTIPLE = 1 << 2, /* DRQ blocks of several sectors */
    FUA = 1 << 3,
};

struct command {
    void (*run)(struct ata_drive *d);
    uint8_t flags;
};

static void abort_command(struct ata_drive *d)
{
    ata_fail(d, ATA_ERROR_ABRT);
}

/* --- Positions ---------------------------------------------------------------------------------------------------- */

void ata_drive_geometry(const struct ata_drive *d, unsigned *cylinders, unsigned *heads, unsigned *sectors)
{
    uint64_t n = ata_sectors(d) / (16 * 63);

    *cylinders = n > 16383 ? 16383 : n < 2 ? 2 : n;
    *heads = 16;
    *sectors = 63;
}

static uint64_t low48(const uint8_t *low, const uint8_t *mid, const uint8_t *high, unsigned i)
{
    return low[i] | mid[i] << 8 | (uint64_t)high[i] << 16;
}

/* False: it names no sector. */
static bool get_lba(const struct ata_drive *d, uint64_t *lba)
{
    uint64_t low = low48(d->lba_low, d->lba_mid, d->lba_high, 0);

    if (d->lba48) {
        *lba = low | low48(d->lba_low, d->lba_mid, d->lba_high, 1) << 24;
        return true;
    }
    if (d->device & ATA_DEVICE_LBA) {
        *lba = low | (uint64_t)(d->device & 0x0f) << 24;
        return true;
    }
    unsigned cylinder = low >> 8, head = d->device & 0x0f, sector = d->lba_low[0];
    *lba = ((uint64_t)cylinder * d->heads + head) * d->sectors + sector - 1;
    return sector && sector <= d->sectors && head < d->heads;
}

void ata_disk_put_lba(struct ata_drive *d, uint64_t lba)
{
    if (!d->lba48 && !(d->device & ATA_DEVICE_LBA)) {
        uint64_t track = lba / d->sectors, cylinder = track / d->heads;
        d->lba_low[0] = lba % d->sectors + 1;
        d->lba_mid[0] = cylinder;
        d->lba_high[0] = cylinder >> 8;
        d->device = (d->device & 0xf0) | track % d->heads;
        return;
    }
    d->lba_low[0] = lba;
    d->lba_mid[0] = lba >> 8;
    d->lba_high[0] = lba >> 16;
    if (d->lba48) {
        d->lba_low[1] = lba >> 24;
        d->lba_mid[1] = lba >> 32;
        d->lba_high[1] = lba >> 40;
    } else {
        d->device = (d->device & 0xf0) | (lba >> 24 & 0x0f);
    }
}

static uint32_t get_count(const struct ata_drive *d)
{
    uint32_t n = d->count[0];

    if (!d->lba48)
        return n ? n : 256;
    n |= d->count[1] << 8;
    return n ? n : 65536;
}

/* lba and left from the registers; fails the command if they go beyond the disk. */
static bool get_range(struct ata_drive *d)
{
    uint64_t media = ata_sectors(d), lba;
    uint32_t n = get_count(d);

    d->standby = false;
    if (!get_lba(d, &lba) || lba >= media || n > media - lba) {
        ata_fail(d, ATA_ERROR_IDNF);
        return false;
    }
    d->lba = lba;
    d->left = n;
    return true;
}

void ata_disk_media_error(struct ata_drive *d, bool read)
{
    if (d->work == ATA_WORK_READ || d->work == ATA_WORK_WRITE || d->work == ATA_WORK_VERIFY)
        ata_disk_put_lba(d, d->lba);
    ata_fail(d, read ? ATA_ERROR_UNC : ATA_ERROR_ABRT);
}

/* --- Reading and writing ------------------------------------------------------------------------------------------ */

static bool set_block(struct ata_drive *d, const struct command *c)
{
    d->dma = c->flags & DMA;
    d->fua = c->flags & FUA;
    if (!(c->flags & MULTIPLE))
        return true;
    d->block_bytes = d->multiple * ATA_SECTOR;
    return d->multiple != 0;
}

static const struct command *find(uint8_t command);

static void read_sectors(struct ata_drive *d)
{
    if (!set_block(d, find(d->command)))
        abort_command(d);
    else if (get_range(d))
        ata_transfer(d, ATA_WORK_READ);
}

static void write_sectors(struct ata_drive *d)
{
    if (!set_block(d, find(d->command)) || blk_read_only(d->blk))
        abort_command(d);
    else if (get_range(d))
        ata_transfer(d, ATA_WORK_WRITE);
}

static void verify(struct ata_drive *d)
{
    if (get_range(d))
        ata_transfer(d, ATA_WORK_VERIFY);
}

static void seek(struct ata_drive *d)
{
    uint64_t lba;

    if (get_lba(d, &lba) && lba < ata_sectors(d))
        ata_finish(d);
    else
        ata_fail(d, ATA_ERROR_IDNF);
}

static void read_native_max(struct ata_drive *d)
{
    uint64_t last = ata_sectors(d) - 1;

    d->device |= ATA_DEVICE_LBA;
    ata_disk_put_lba(d, d->lba48 ? last : MIN(last, MAX_LBA28));
    ata_finish(d);
}

/* DATA SET MANAGEMENT: features 1 is TRIM, count the number of blocks with 64 ranges each. */
static void data_set_management(struct ata_drive *d)
{
    uint32_t blocks = d->count[0] | d->count[1] << 8;

    if (!(d->features[0] & 1) || !blk_can_discard(d->blk) || !blocks || blocks > TRIM_BLOCKS_MAX) {
        abort_command(d);
        return;
    }
    d->dma = true;
    ata_take(d, ATA_WORK_TRIM, blocks * ATA_SECTOR);
}

void ata_disk_trim(struct ata_drive *d)
{
    uint64_t media = ata_sectors(d);

    for (; d->pos + 8 <= d->end; d->pos += 8) {
        uint64_t range;
        memcpy(&range, ata_buffer(d) + d->pos, 8);
        range = GUINT64_FROM_LE(range);
        uint64_t lba = range & ((UINT64_C(1) << 48) - 1), n = range >> 48;
        if (!n)
            continue;
        if (lba >= media || n > media - lba) {
            ata_fail(d, ATA_ERROR_IDNF);
            return;
        }
        ata_submit(d, BLK_DISCARD, lba * ATA_SECTOR, n * ATA_SECTOR);
        return;
    }
    ata_finish(d);
}

static void flush(struct ata_drive *d)
{
    ata_flush(d);
}

/* --- IDENTIFY DEVICE ---------------------------------------------------------------------------------------------- */

void ata_put_word(uint8_t *page, unsigned word, uint16_t value)
{
    page[2 * word] = value;
    page[2 * word + 1] = value >> 8;
}

void ata_put_string(uint8_t *words, const char *text, unsigned bytes)
{
    size_t len = strlen(text);

    for (unsigned i = 0; i < bytes; i++)
        words[i ^ 1] = i < len ? text[i] : ' ';
}

void ata_put_checksum(uint8_t *page)
{
    uint8_t sum = 0;

    page[510] = 0xa5;
    for (unsigned i = 0; i < 511; i++)
        sum += page[i];
    page[511] = -sum;
}

static void put_words(uint8_t *page, unsigned word, uint64_t value, unsigned words)
{
    for (unsigned i = 0; i < words; i++)
        ata_put_word(page, word + i, value >> 16 * i);
}

uint16_t ata_mdma_word(const struct ata_drive *d)
{
    return 0x0007 | d->mdma << 8;
}

uint16_t ata_udma_word(const struct ata_drive *d)
{
    return 0x003f | d->udma << 8;
}

/* Words 1-6 and 54-58, 60-61, 100-103. */
static void put_capacity(const struct ata_drive *d, uint8_t *page)
{
    unsigned cylinders, heads, sectors;
    uint64_t total = ata_sectors(d);
    uint64_t now = MIN(total / ((uint32_t)d->heads * d->sectors), 65535);

    ata_drive_geometry(d, &cylinders, &heads, &sectors);
    ata_put_word(page, 1, cylinders);
    ata_put_word(page, 3, heads);
    ata_put_word(page, 6, sectors);
    ata_put_word(page, 54, now);
    ata_put_word(page, 55, d->heads);
    ata_put_word(page, 56, d->sectors);
    put_words(page, 57, now * d->heads * d->sectors, 2);
    put_words(page, 60, MIN(total, MAX_LBA28), 2);
    put_words(page, 100, total, 4);
}

/* Words 82-87: what there is and what is on. */
static void put_features(const struct ata_drive *d, uint8_t *page)
{
    bool wwn = d->wwn != 0;

    ata_put_word(page, 82, 0x4029); /* NOP, write cache, power management, SMART */
    ata_put_word(page, 83, 0x7400); /* FLUSH CACHE (EXT), 48-bit addresses */
    ata_put_word(page, 84, 0x4040 | wwn << 8); /* FUA */
    ata_put_word(page, 85, 0x4008 | (blk_write_cache(d->blk) ? 0x20 : 0) | (d->smart ? 1 : 0));
    ata_put_word(page, 86, 0x3400);
    ata_put_word(page, 87, 0x4040 | wwn << 8);
    for (unsigned i = 0; wwn && i < 4; i++)
        ata_put_word(page, 108 + i, d->wwn >> 16 * (3 - i));
}

static void identify(struct ata_drive *d)
{
    uint8_t *page = ata_buffer(d);

    memset(page, 0, ATA_SECTOR);
    put_capacity(d, page);
    put_features(d, page);
    ata_put_word(page, 0, 0x0040); /* fixed */
    ata_put_string(page + 20, d->serial, 20);
    ata_put_string(page + 46, d->version, 8);
    ata_put_string(page + 54, d->model, 40);
    ata_put_word(page, 47, 0x8000 | ATA_MULTIPLE_MAX);
    ata_put_word(page, 49, 0x2f00); /* standby timer, IORDY, LBA, DMA */
    ata_put_word(page, 50, 0x4000);
    ata_put_word(page, 51, 0x0200);
    ata_put_word(page, 53, 0x0007);
    ata_put_word(page, 59, d->multiple ? 0x0100 | d->multiple : 0);
    ata_put_word(page, 63, ata_mdma_word(d));
    ata_put_word(page, 64, 0x0003);
    for (unsigned i = 65; i <= 68; i++)
        ata_put_word(page, i, 120); /* ns of a cycle */
    ata_put_word(page, 80, 0x00f0); /* ATA-4 to 7 */
    ata_put_word(page, 88, ata_udma_word(d));
    ata_put_word(page, 93, d->unit ? 0x6b00 : 0x600b); /* 80 wires, unit by jumper */
    if (blk_can_discard(d->blk)) {
        ata_put_word(page, 105, TRIM_BLOCKS_MAX);
        ata_put_word(page, 169, 1);
    }
    ata_put_word(page, 217, d->rotation_rate);
    ata_put_checksum(page);
    ata_reply(d, ATA_SECTOR);
}

/* --- Settings ----------------------------------------------------------------------------------------------------- */

void ata_disk_defaults(struct ata_drive *d, bool power_on)
{
    unsigned cylinders, heads, sectors;

    ata_drive_geometry(d, &cylinders, &heads, &sectors);
    d->heads = heads;
    d->sectors = sectors;
    d->multiple = ATA_MULTIPLE_MAX;
    if (!power_on)
        return;
    d->mdma = 0;
    d->udma = 1 << 5;
    d->smart = d->smart_autosave = true;
    d->write_cache = d->write_cache_initial;
    if (d->blk)
        blk_set_write_cache(d->blk, d->write_cache);
}

static void initialize_parameters(struct ata_drive *d)
{
    if (!d->count[0]) {
        abort_command(d);
        return;
    }
    d->sectors = d->count[0];
    d->heads = (d->device & 0x0f) + 1;
    ata_finish(d);
}

static void set_multiple(struct ata_drive *d)
{
    uint8_t n = d->count[0];

    if (n > ATA_MULTIPLE_MAX || (n & (n - 1))) {
        d->multiple = 0;
        abort_command(d);
        return;
    }
    d->multiple = n;
    ata_finish(d);
}

bool ata_set_transfer_mode(struct ata_drive *d)
{
    uint8_t mode = d->count[0] & 7;

    switch (d->count[0] >> 3) {
    case 0: return mode <= 1;
    case 1:
        if (mode > 4)
            return false;
        d->mdma = d->udma = 0;
        return true;
    case 4:
        if (mode > 2)
            return false;
        d->mdma = 1 << mode;
        d->udma = 0;
        return true;
    case 8:
        if (mode > 5)
            return false;
        d->udma = 1 << mode;
        d->mdma = 0;
        return true;
    default: return false;
    }
}

static void set_features(struct ata_drive *d)
{
    switch (d->features[0]) {
    case 0x02:
        d->write_cache = true;
        blk_set_write_cache(d->blk, true);
        ata_finish(d);
        break;
    case 0x82: /* what is in the cache goes to the medium first */
        d->write_cache = false;
        blk_set_write_cache(d->blk, false);
        ata_flush(d);
        break;
    case 0x03:
        if (ata_set_transfer_mode(d))
            ata_finish(d);
        else
            abort_command(d);
        break;
    case 0x55: /* look-ahead off and on, defaults kept or not at a reset: nothing to be seen of it */
    case 0xaa:
    case 0x66:
    case 0xcc: ata_finish(d); break;
    default: abort_command(d);
    }
}

/* --- Power -------------------------------------------------------------------------------------------------------- */

static void idle(struct ata_drive *d)
{
    d->standby = false;
    ata_finish(d);
}

static void standby(struct ata_drive *d)
{
    d->standby = true;
    ata_flush(d);
}

static void check_power(struct ata_drive *d)
{
    d->count[0] = d->standby ? 0x00 : 0xff;
    ata_finish(d);
}

static void sleep_until_reset(struct ata_drive *d)
{
    d->standby = d->asleep = true;
    ata_flush(d);
}

/* --- SMART -------------------------------------------------------------------------------------------------------- */

/* Reallocated sectors, hours of operation, temperature: value 100, threshold, raw value 0. */
static const struct { uint8_t id, flags, threshold; } smart_attributes[] = {
    { 0x05, 0x03, 36 },
    { 0x09, 0x02, 0 },
    { 0xc2, 0x02, 0 },
};

static void smart_page(struct ata_drive *d, bool thresholds)
{
    uint8_t *page = ata_buffer(d), sum = 0;

    memset(page, 0, ATA_SECTOR);
    page[0] = 1; /* revision */
    for (unsigned i = 0; i < G_N_ELEMENTS(smart_attributes); i++) {
        uint8_t *a = page + 2 + 12 * i;
        a[0] = smart_attributes[i].id;
        if (thresholds) {
            a[1] = smart_attributes[i].threshold;
        } else {
            a[1] = smart_attributes[i].flags;
            a[3] = a[4] = 100; /* now, and the worst so far */
        }
    }
    for (unsigned i = 0; i < 511; i++)
        sum += page[i];
    page[511] = -sum;
    ata_reply(d, ATA_SECTOR);
}

static void smart(struct ata_drive *d)
{
    bool key = d->lba_mid[0] == 0x4f && d->lba_high[0] == 0xc2;

    if (!key || (!d->smart && d->features[0] != 0xd8)) {
        abort_command(d);
        return;
    }
    switch (d->features[0]) {
    case 0xd0: smart_page(d, false); return;
    case 0xd1: smart_page(d, true); return;
    case 0xd2: d->smart_autosave = d->count[0] != 0; break;
    case 0xd8: d->smart = true; break;
    case 0xd9: d->smart = false; break;
    case 0xda: break; /* the registers stay: no threshold is exceeded */
    default: abort_command(d); return;
    }
    ata_finish(d);
}

/* --- The table ---------------------------------------------------------------------------------------------------- */

static const struct command commands[256] = {
    [0x06] = { data_set_management, EXT },
    [0x10] = { idle, 0 }, /* RECALIBRATE */
    [0x20] = { read_sectors, 0 },
    [0x21] = { read_sectors, 0 },
    [0x24] = { read_sectors, EXT },
    [0x25] = { read_sectors, EXT | DMA },
    [0x27] = { read_native_max, EXT },
    [0x29] = { read_sectors, EXT | MULTIPLE },
    [0x30] = { write_sectors, 0 },
    [0x31] = { write_sectors, 0 },
    [0x34] = { write_sectors, EXT },
    [0x35] = { write_sectors, EXT | DMA },
    [0x39] = { write_sectors, EXT | MULTIPLE },
    [0x3c] = { write_sectors, 0 }, /* WRITE VERIFY */
    [0x3d] = { write_sectors, EXT | DMA | FUA },
    [0x40] = { verify, 0 },
    [0x41] = { verify, 0 },
    [0x42] = { verify, EXT },
    [0x70] = { seek, 0 },
    [0x91] = { initialize_parameters, 0 },
    [0xb0] = { smart, 0 },
    [0xc4] = { read_sectors, MULTIPLE },
    [0xc5] = { write_sectors, MULTIPLE },
    [0xc6] = { set_multiple, 0 },
    [0xc8] = { read_sectors, DMA },
    [0xc9] = { read_sectors, DMA },
    [0xca] = { write_sectors, DMA },
    [0xcb] = { write_sectors, DMA },
    [0xce] = { write_sectors, EXT | MULTIPLE | FUA },
    [0xe0] = { standby, 0 },
    [0xe1] = { idle, 0 },
    [0xe2] = { standby, 0 },
    [0xe3] = { idle, 0 },
    [0xe5] = { check_power, 0 },
    [0xe6] = { sleep_until_reset, 0 },
    [0xe7] = { flush, 0 },
    [0xea] = { flush, EXT },
    [0xec] = { identify, 0 },
    [0xef] = { set_features, 0 },
    [0xf8] = { read_native_max, 0 },
};

static const struct command *find(uint8_t command)
{
    return &commands[command];
}

void ata_disk_command(struct ata_drive *d)
{
    const struct command *c = find(d->command);

    d->lba48 = c->flags & EXT;
    if (c->run)
        c->run(d);
    else
        abort_command(d);
}
