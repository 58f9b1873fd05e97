/*
 * ATA drives (ATA/ATAPI-7, T13 1532D volumes 1 and 2): registers, data phases, requests to the medium, resets.
 *
 * Commands are in ata_disk.c and atapi.c. A transfer goes through a buffer, chunk by chunk: one request to the back end
 * fills or empties it, PIO or the host's DMA moves it. The protocol is that of the standard's state diagrams; the drive
 * takes no time but what the back end takes. Not modelled: overlapped and queued commands, security, passwords, HPA.
 *
 * Under the VM lock. A request that comes back has changed nothing but the buffer when it was cancelled.
 */
#include "hw/disk/ata_int.h"

#include "hw/core/log.h"
#include "hw/core/machine.h"

#include <string.h>

#define RETRY_NS (10 * 1000 * 1000) /* virtual time: behind the pause that the error asked for */

static uint32_t unit_bytes(const struct ata_drive *d)
{
    return d->packet ? ATA_CD_SECTOR : ATA_SECTOR;
}

/* Bytes of a unit as the host sees it. */
static uint32_t host_bytes(const struct ata_drive *d)
{
    return d->work == ATA_WORK_READ_RAW ? ATA_CD_RAW_SECTOR : unit_bytes(d);
}

static uint8_t ready_status(const struct ata_drive *d)
{
    return ATA_STATUS_DRDY | (d->packet ? 0 : ATA_STATUS_DSC);
}

void ata_set_intrq(struct ata_drive *d, bool level)
{
    if (d->intrq == level)
        return;
    d->intrq = level;
    d->ops->intrq(d->host, d);
}

uint64_t ata_sectors(const struct ata_drive *d)
{
    return d->blk ? blk_size(d->blk) / unit_bytes(d) : 0;
}

/* --- Ends of commands --------------------------------------------------------------------------------------------- */

static void go_idle(struct ata_drive *d)
{
    d->phase = ATA_IDLE;
    d->work = ATA_WORK_NONE;
    d->pos = d->block_end = d->end = 0;
    d->left = d->chunk = 0;
}

void ata_finish(struct ata_drive *d)
{
    go_idle(d);
    d->status = ready_status(d);
    d->error = 0;
    if (d->packet)
        d->count[0] = ATA_REASON_COD | ATA_REASON_IO;
    ata_set_intrq(d, true);
}

void ata_fail(struct ata_drive *d, uint8_t error)
{
    go_idle(d);
    d->status = ready_status(d) | ATA_STATUS_ERR;
    d->error = error;
    ata_set_intrq(d, true);
}

/* --- Requests to the medium --------------------------------------------------------------------------------------- */

static void media_done(struct ata_drive *d);
static void pump(struct ata_drive *d);

static void failed(struct ata_drive *d, int ret)
{
    bool read = d->request.op == BLK_READ;
    switch (blk_error_action(d->blk, read, ret)) {
    case BLK_ERROR_IGNORE:
        media_done(d);
        break;
    case BLK_ERROR_STOP:
        timer_set(&d->retry, clock_now(d->m->clock) + RETRY_NS);
        machine_request(d->m, REQUEST_PAUSE, "error of a disk");
        break;
    case BLK_ERROR_REPORT:
        if (d->packet)
            atapi_media_error(d);
        else
            ata_disk_media_error(d, read);
        break;
    }
}

static void request_done(struct blk_request *r, int ret)
{
    struct ata_drive *d = r->opaque;

    if (d->cancelled)
        return;
    if (ret < 0)
        failed(d, ret);
    else
        media_done(d);
}

void ata_submit(struct ata_drive *d, enum blk_op op, uint64_t offset, uint64_t bytes)
{
    struct blk_request *r = &d->request;
    bool data = op == BLK_READ || op == BLK_WRITE;

    g_assert(!data || bytes <= ATA_BUFFER);
    d->phase = ATA_MEDIA;
    d->status = (d->status & ATA_STATUS_DSC) | ATA_STATUS_BSY;
    *r = (struct blk_request){ .op = op, .offset = offset, .bytes = bytes, .done = request_done, .opaque = d };
    if (op == BLK_WRITE && d->fua)
        r->flags = BLK_FUA;
    if (data) {
        d->iov = (struct iovec){ ata_buffer(d), bytes };
        r->iov = &d->iov;
        r->iov_count = 1;
    }
    blk_submit(d->blk, r);
}

/* The request that the registers describe. */
static void submit_chunk(struct ata_drive *d)
{
    uint32_t unit = unit_bytes(d);

    switch ((enum ata_work)d->work) {
    case ATA_WORK_READ:
    case ATA_WORK_READ_RAW:
    case ATA_WORK_VERIFY:
        ata_submit(d, BLK_READ, d->lba * unit, (uint64_t)d->chunk * unit);
        break;
    case ATA_WORK_WRITE:
        ata_submit(d, BLK_WRITE, d->lba * unit, (uint64_t)d->chunk * unit);
        break;
    case ATA_WORK_FLUSH:
        ata_submit(d, BLK_FLUSH, 0, 0);
        break;
    case ATA_WORK_TRIM:
        ata_disk_trim(d);
        break;
    default:
        g_assert_not_reached();
    }
}

/* The machine goes on after a pause for an error. */
static void try_again(void *opaque)
{
    struct ata_drive *d = opaque;

    if (d->phase == ATA_MEDIA && !d->cancelled)
        submit_chunk(d);
}

/* What is under way never comes back. Waits for it. */
static void cancel(struct ata_drive *d)
{
    timer_cancel(&d->retry);
    if (!d->blk)
        return;
    d->cancelled = true;
    blk_drain(d->blk);
    d->cancelled = false;
}

/* --- Data phases -------------------------------------------------------------------------------------------------- */

/* The next DRQ block of PIO; packet devices tell its length and direction. */
static void next_block(struct ata_drive *d, bool in, bool irq)
{
    d->phase = in ? ATA_DATA_IN : ATA_DATA_OUT;
    d->status = ready_status(d) | ATA_STATUS_DRQ;
    d->error = 0;
    d->block_end = MIN(d->end, d->pos + d->block_bytes);
    if (d->packet && d->work != ATA_WORK_PACKET && d->command == ATA_COMMAND_PACKET) {
        d->count[0] = in ? ATA_REASON_IO : 0;
        d->lba_mid[0] = d->block_end - d->pos;
        d->lba_high[0] = (d->block_end - d->pos) >> 8;
    }
    if (irq)
        ata_set_intrq(d, true);
}

static void begin_data(struct ata_drive *d, bool in, bool irq)
{
    if (!d->dma) {
        next_block(d, in, irq);
        return;
    }
    d->phase = in ? ATA_DMA_IN : ATA_DMA_OUT;
    d->status = ready_status(d) | ATA_STATUS_DRQ;
    d->error = 0;
    if (d->packet)
        d->count[0] = in ? ATA_REASON_IO : 0;
    pump(d);
}

static void next_chunk(struct ata_drive *d, bool irq)
{
    d->chunk = MIN(d->left, ATA_BUFFER / host_bytes(d));
    d->pos = d->block_end = d->end = 0;
    if (d->work == ATA_WORK_WRITE) {
        d->end = d->chunk * host_bytes(d);
        begin_data(d, false, irq);
    } else {
        submit_chunk(d);
    }
}

void ata_transfer(struct ata_drive *d, enum ata_work work)
{
    g_assert(d->left);
    d->work = work;
    next_chunk(d, false);
}

void ata_flush(struct ata_drive *d)
{
    d->work = ATA_WORK_FLUSH;
    submit_chunk(d);
}

void ata_reply(struct ata_drive *d, uint32_t bytes)
{
    g_assert(bytes && bytes <= ATA_BUFFER);
    d->work = ATA_WORK_REPLY;
    d->pos = 0;
    d->end = bytes;
    begin_data(d, true, true);
}

void ata_take(struct ata_drive *d, enum ata_work work, uint32_t bytes)
{
    g_assert(bytes && bytes <= ATA_BUFFER);
    d->work = work;
    d->pos = 0;
    d->end = d->block_bytes = bytes;
    if (work == ATA_WORK_PACKET)
        next_block(d, false, false);
    else
        begin_data(d, false, false);
}

/* The buffer has been emptied or filled by the host. */
static void data_done(struct ata_drive *d)
{
    switch ((enum ata_work)d->work) {
    case ATA_WORK_READ:
    case ATA_WORK_READ_RAW:
        if (d->left) {
            next_chunk(d, true);
            return;
        }
        break;
    case ATA_WORK_WRITE:
        submit_chunk(d);
        return;
    case ATA_WORK_PACKET:
        atapi_packet(d);
        return;
    case ATA_WORK_TRIM:
        d->pos = 0;
        ata_disk_trim(d);
        return;
    default:
        break;
    }
    /* A disk's last block of PIO is the end of its command. */
    if (d->phase == ATA_DATA_IN && !(d->packet && d->command == ATA_COMMAND_PACKET)) {
        go_idle(d);
        d->status = ready_status(d);
    } else {
        ata_finish(d);
    }
}

static void media_done(struct ata_drive *d)
{
    switch ((enum ata_work)d->work) {
    case ATA_WORK_READ_RAW:
        atapi_make_raw(ata_buffer(d), d->lba, d->chunk);
        G_GNUC_FALLTHROUGH;
    case ATA_WORK_READ:
        d->left -= d->chunk;
        d->lba += d->chunk;
        if (!d->packet)
            ata_disk_put_lba(d, d->lba - 1);
        d->pos = 0;
        d->end = d->chunk * host_bytes(d);
        begin_data(d, true, true);
        return;
    case ATA_WORK_WRITE:
    case ATA_WORK_VERIFY:
        d->left -= d->chunk;
        d->lba += d->chunk;
        ata_disk_put_lba(d, d->lba - 1);
        if (d->left)
            next_chunk(d, true);
        else
            ata_finish(d);
        return;
    case ATA_WORK_TRIM:
        d->pos += 8;
        ata_disk_trim(d);
        return;
    default:
        ata_finish(d);
    }
}

/* DMA, as far as the host goes along. */
static void pump(struct ata_drive *d)
{
    bool in = d->phase == ATA_DMA_IN;
    size_t n = d->ops->dma(d->host, d, ata_buffer(d) + d->pos, d->end - d->pos, in);

    g_assert(n <= d->end - d->pos);
    d->pos += n;
    if (d->pos == d->end)
        data_done(d);
}

void ata_drive_dma(struct ata_drive *d)
{
    if (d->phase == ATA_DMA_IN || d->phase == ATA_DMA_OUT)
        pump(d);
}

uint32_t ata_drive_data_read(struct ata_drive *d, unsigned size)
{
    uint32_t value = 0;

    if (d->phase != ATA_DATA_IN)
        return 0;
    for (unsigned i = 0; i < size && d->pos < d->block_end; i++)
        value |= (uint32_t)ata_buffer(d)[d->pos++] << 8 * i;
    if (d->pos < d->block_end)
        return value;
    if (d->pos < d->end)
        next_block(d, true, true);
    else
        data_done(d);
    return value;
}

void ata_drive_data_write(struct ata_drive *d, uint32_t value, unsigned size)
{
    if (d->phase != ATA_DATA_OUT)
        return;
    for (unsigned i = 0; i < size && d->pos < d->block_end; i++)
        ata_buffer(d)[d->pos++] = value >> 8 * i;
    if (d->pos < d->block_end)
        return;
    if (d->pos < d->end)
        next_block(d, false, true);
    else
        data_done(d);
}

/* --- Registers ---------------------------------------------------------------------------------------------------- */

static uint8_t *register_pair(struct ata_drive *d, enum ata_register reg)
{
    switch (reg) {
    case ATA_FEATURES: return d->features;
    case ATA_COUNT: return d->count;
    case ATA_LBA_LOW: return d->lba_low;
    case ATA_LBA_MID: return d->lba_mid;
    case ATA_LBA_HIGH: return d->lba_high;
    default: return NULL;
    }
}

uint8_t ata_drive_read(const struct ata_drive *d, enum ata_register reg, bool previous)
{
    switch (reg) {
    case ATA_ERROR: return d->error;
    case ATA_COUNT: return d->count[previous];
    case ATA_LBA_LOW: return d->lba_low[previous];
    case ATA_LBA_MID: return d->lba_mid[previous];
    case ATA_LBA_HIGH: return d->lba_high[previous];
    case ATA_DEVICE: return d->device;
    case ATA_STATUS: return d->status;
    default: return 0;
    }
}

uint8_t ata_drive_acknowledge(struct ata_drive *d)
{
    ata_set_intrq(d, false);
    return d->status;
}

void ata_drive_write(struct ata_drive *d, enum ata_register reg, uint8_t value)
{
    uint8_t *pair = register_pair(d, reg);

    if (d->status & (ATA_STATUS_BSY | ATA_STATUS_DRQ))
        return;
    if (pair) {
        pair[1] = pair[0];
        pair[0] = value;
    } else if (reg == ATA_DEVICE) {
        d->device = value | 0xa0;
    }
}

static void reset_device(struct ata_drive *d);

void ata_drive_command(struct ata_drive *d, uint8_t command)
{
    bool busy = d->status & (ATA_STATUS_BSY | ATA_STATUS_DRQ);

    if (d->phase == ATA_RESET || (d->asleep && command != ATA_COMMAND_DEVICE_RESET))
        return;
    if (d->packet && command == ATA_COMMAND_DEVICE_RESET) {
        reset_device(d);
        return;
    }
    if (busy) {
        log_guest_error("ata", "command 0x%02x while another one is under way", command);
        return;
    }
    ata_set_intrq(d, false);
    d->command = command;
    d->dma = d->lba48 = d->fua = false;
    d->error = 0;
    d->block_bytes = ATA_SECTOR;
    if (d->packet)
        atapi_command(d);
    else
        ata_disk_command(d);
}

/* --- Resets ------------------------------------------------------------------------------------------------------- */

void ata_signature(struct ata_drive *d)
{
    memset(d->count, 0, sizeof d->count);
    memset(d->lba_low, 0, sizeof d->lba_low);
    d->count[0] = d->lba_low[0] = 1;
    d->lba_mid[0] = d->packet ? 0x14 : 0;
    d->lba_high[0] = d->packet ? 0xeb : 0;
    d->lba_mid[1] = d->lba_high[1] = 0;
    d->device = 0xa0 | (d->unit ? ATA_DEVICE_DEV : 0);
    /* Packet devices are not ready for ATA commands: DRDY comes with the first of their own. */
    d->status = d->packet ? 0 : ready_status(d);
    d->error = 1; /* diagnostic code: passed */
}

static void reset_device(struct ata_drive *d)
{
    cancel(d);
    go_idle(d);
    d->asleep = false;
    ata_signature(d);
    d->device &= ATA_DEVICE_DEV | 0xa0;
    ata_set_intrq(d, false);
}

void ata_drive_diagnose(struct ata_drive *d)
{
    if (d->status & (ATA_STATUS_BSY | ATA_STATUS_DRQ) || d->asleep)
        return;
    d->command = ATA_COMMAND_DIAGNOSTIC;
    ata_signature(d);
    ata_set_intrq(d, true);
}

void ata_drive_srst(struct ata_drive *d, bool on)
{
    if (on) {
        cancel(d);
        go_idle(d);
        d->phase = ATA_RESET;
        d->status = ATA_STATUS_BSY;
        ata_set_intrq(d, false);
        return;
    }
    if (d->phase != ATA_RESET)
        return;
    go_idle(d);
    d->asleep = d->standby = false;
    ata_signature(d);
    if (!d->packet)
        ata_disk_defaults(d, false);
}

void ata_drive_reset(struct ata_drive *d)
{
    cancel(d);
    go_idle(d);
    d->intrq = false;
    d->command = 0;
    d->dma = d->lba48 = d->fua = false;
    d->lba = 0;
    d->block_bytes = ATA_SECTOR;
    memset(d->features, 0, sizeof d->features);
    d->standby = d->asleep = false;
    ata_signature(d);
    ata_disk_defaults(d, true);
    if (d->packet)
        atapi_reset(d);
}

/* --- Life --------------------------------------------------------------------------------------------------------- */

static const struct blk_front_ops disk_front_ops = { 0 };

bool ata_drive_init(struct ata_drive *d, GError **err)
{
    if (d->blk && !blk_attach(d->blk, d->packet ? &atapi_front_ops : &disk_front_ops, d, err))
        return false;
    d->buffer = ram_block_new("ata buffer", ATA_BUFFER, NULL, err);
    if (!d->buffer) {
        if (d->blk)
            blk_detach(d->blk, d);
        return false;
    }
    d->write_cache_initial = d->blk && blk_write_cache(d->blk);
    timer_init(&d->retry, d->m->clock, try_again, d);
    return true;
}

void ata_drive_fini(struct ata_drive *d)
{
    cancel(d);
    if (d->blk)
        blk_detach(d->blk, d);
    ram_block_free(d->buffer);
}

/* --- Saved state -------------------------------------------------------------------------------------------------- */

static const struct state_field sense_fields[] = {
    STATE_FIELD(STATE_U8, struct ata_sense, key),
    STATE_FIELD(STATE_U8, struct ata_sense, asc),
    STATE_FIELD(STATE_U8, struct ata_sense, ascq),
    STATE_FIELDS_END,
};

const struct state_field ata_drive_fields[] = {
    STATE_ARRAY(STATE_BYTES, struct ata_drive, features),
    STATE_ARRAY(STATE_BYTES, struct ata_drive, count),
    STATE_ARRAY(STATE_BYTES, struct ata_drive, lba_low),
    STATE_ARRAY(STATE_BYTES, struct ata_drive, lba_mid),
    STATE_ARRAY(STATE_BYTES, struct ata_drive, lba_high),
    STATE_FIELD(STATE_U8, struct ata_drive, device),
    STATE_FIELD(STATE_U8, struct ata_drive, status),
    STATE_FIELD(STATE_U8, struct ata_drive, error),
    STATE_FIELD(STATE_BOOL, struct ata_drive, intrq),
    STATE_FIELD(STATE_U16, struct ata_drive, heads),
    STATE_FIELD(STATE_U16, struct ata_drive, sectors),
    STATE_FIELD(STATE_U8, struct ata_drive, multiple),
    STATE_FIELD(STATE_U8, struct ata_drive, mdma),
    STATE_FIELD(STATE_U8, struct ata_drive, udma),
    STATE_FIELD(STATE_BOOL, struct ata_drive, write_cache),
    STATE_FIELD(STATE_BOOL, struct ata_drive, smart),
    STATE_FIELD(STATE_BOOL, struct ata_drive, smart_autosave),
    STATE_FIELD(STATE_BOOL, struct ata_drive, standby),
    STATE_FIELD(STATE_BOOL, struct ata_drive, asleep),
    STATE_FIELD(STATE_U8, struct ata_drive, command),
    STATE_FIELD(STATE_U8, struct ata_drive, phase),
    STATE_FIELD(STATE_U8, struct ata_drive, work),
    STATE_FIELD(STATE_BOOL, struct ata_drive, dma),
    STATE_FIELD(STATE_BOOL, struct ata_drive, lba48),
    STATE_FIELD(STATE_BOOL, struct ata_drive, fua),
    STATE_FIELD(STATE_U64, struct ata_drive, lba),
    STATE_FIELD(STATE_U32, struct ata_drive, left),
    STATE_FIELD(STATE_U32, struct ata_drive, chunk),
    STATE_FIELD(STATE_U32, struct ata_drive, pos),
    STATE_FIELD(STATE_U32, struct ata_drive, block_end),
    STATE_FIELD(STATE_U32, struct ata_drive, end),
    STATE_FIELD(STATE_U32, struct ata_drive, block_bytes),
    STATE_FIELD(STATE_RAM, struct ata_drive, buffer),
    STATE_NESTED(struct ata_drive, sense, sense_fields),
    STATE_FIELD(STATE_BOOL, struct ata_drive, attention),
    STATE_FIELD(STATE_U8, struct ata_drive, media_event),
    STATE_FIELD(STATE_BOOL, struct ata_drive, tray_open),
    STATE_FIELD(STATE_BOOL, struct ata_drive, locked),
    STATE_FIELD(STATE_TIMER, struct ata_drive, retry),
    STATE_FIELDS_END,
};

void ata_drive_pre_save(struct ata_drive *d)
{
    if (d->blk)
        blk_drain(d->blk);
    /* Old data is nobody's. */
    if (d->phase == ATA_IDLE)
        ram_clear(d->buffer, 0, ATA_BUFFER);
}

static bool bad_state(GError **err, const char *what)
{
    g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_INVAL, "ATA drive: the saved state has %s", what);
    return false;
}

static bool is_media_work(const struct ata_drive *d)
{
    switch (d->work) {
    case ATA_WORK_READ: return true;
    case ATA_WORK_READ_RAW: return d->packet;
    case ATA_WORK_WRITE:
    case ATA_WORK_VERIFY:
    case ATA_WORK_TRIM:
    case ATA_WORK_FLUSH: return !d->packet;
    default: return false;
    }
}

/* Does the transfer under way stay within its buffer? What goes beyond the medium, which may be another now, fails by itself. */
static bool transfer_fits(const struct ata_drive *d)
{
    uint64_t chunk = d->chunk;
    bool moves = d->work == ATA_WORK_READ || d->work == ATA_WORK_READ_RAW || d->work == ATA_WORK_WRITE ||
                 d->work == ATA_WORK_VERIFY;

    if (d->pos > d->block_end || d->block_end > d->end || d->end > ATA_BUFFER || !d->block_bytes)
        return false;
    if (d->work == ATA_WORK_TRIM && (d->pos % 8 || d->end % 8) && d->phase == ATA_MEDIA)
        return false;
    if (!moves)
        return true;
    if (chunk > ATA_BUFFER / host_bytes(d) || d->lba >> 48)
        return false;
    /* With the back end, or still to be taken from the host: part of what is left. */
    if (d->phase == ATA_MEDIA || d->work == ATA_WORK_WRITE)
        return chunk && chunk <= d->left && (d->phase == ATA_MEDIA || d->end == chunk * host_bytes(d));
    return true;
}

bool ata_drive_post_load(struct ata_drive *d, GError **err)
{
    bool data = d->phase >= ATA_DATA_IN && d->phase <= ATA_DMA_OUT;

    if (d->phase > ATA_RESET || d->work >= ATA_WORK_COUNT)
        return bad_state(err, "an unknown command under way");
    if (d->phase == ATA_MEDIA && (!is_media_work(d) || !d->blk || !timer_armed(&d->retry)))
        return bad_state(err, "a request to the medium that the command does not make");
    bool pio = d->phase == ATA_DATA_IN || d->phase == ATA_DATA_OUT;
    if (data && ((pio == d->dma && d->work != ATA_WORK_PACKET) || d->pos >= d->end || (pio && d->pos >= d->block_end) ||
                 d->work == ATA_WORK_NONE || d->work == ATA_WORK_FLUSH || d->work == ATA_WORK_VERIFY ||
                 (d->work == ATA_WORK_PACKET && (!d->packet || d->end != ATAPI_PACKET_BYTES))))
        return bad_state(err, "a data phase that the command does not have");
    if (!transfer_fits(d))
        return bad_state(err, "a transfer that exceeds its buffer");
    if (!d->heads || d->heads > 16 || !d->sectors || d->sectors > 255 || d->multiple > ATA_MULTIPLE_MAX)
        return bad_state(err, "an impossible geometry");
    if (d->blk)
        blk_set_write_cache(d->blk, d->write_cache);
    return true;
}
