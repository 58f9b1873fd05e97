/*
 * Floppy drives and media, and the way of sectors between them and the host: see i82078.c. VM lock.
 */
#include "hw/disk/i82078_int.h"

#include "hw/core/machine.h"
#include "hw/isa/isa.h"

#include <string.h>

static const struct medium media[] = {
    { 1440, 80, 2, 18, 0, 4 }, { 2880, 80, 2, 36, 3, 5 }, { 720, 80, 2, 9, 2, 4 },  { 1200, 80, 2, 15, 0, 2 },
    { 1680, 80, 2, 21, 0, 4 }, { 1722, 82, 2, 21, 0, 4 }, { 360, 40, 2, 9, 1, 2 },  { 320, 40, 2, 8, 1, 2 },
    { 180, 40, 1, 9, 1, 2 },   { 160, 40, 1, 8, 1, 2 },   { 1600, 80, 2, 20, 0, 4 },
};

/* --- Drives ------------------------------------------------------------------------------------------------------- */

/* An image of another size is the beginning of the next larger of the usual ones. */
const struct medium *fdc_find_medium(const struct blk *b)
{
    uint64_t size = b ? blk_size(b) : 0;

    for (unsigned i = 0; i < G_N_ELEMENTS(media); i++) {
        if (size == (uint64_t)media[i].kib << 10)
            return &media[i];
    }
    for (unsigned i = 0; size && i < 2; i++) {
        if (size < (uint64_t)media[i].kib << 10)
            return &media[i];
    }
    return NULL;
}

struct fd_drive *fdc_drive_of(struct i82078 *s)
{
    unsigned n = s->fifo[1] & 3;
    return n < I82078_DRIVES && s->drives[n].blk ? &s->drives[n] : NULL;
}

void fdc_move_head(struct fd_drive *d, uint8_t track)
{
    if (d->medium)
        d->changed = false;
    d->track = track;
}

/* --- Interrupt, phases -------------------------------------------------------------------------------------------- */

void fdc_set_irq(struct i82078 *s, bool level)
{
    s->irq_level = level;
    irq_set(&s->irq, level && (s->dor & DOR_DMA_GATE));
}

struct i8237 *fdc_dma_of(const struct i82078 *s)
{
    return isa_bus_of(&s->dev)->dma;
}

void fdc_set_dreq(struct i82078 *s, bool level)
{
    if (fdc_dma_of(s))
        i8237_set_dreq(fdc_dma_of(s), FDC_DMA, level);
}

static bool uses_dma(const struct i82078 *s)
{
    return !(s->specify[1] & 1) && (s->dor & DOR_DMA_GATE) && fdc_dma_of(s);
}

void fdc_to_command(struct i82078 *s)
{
    s->phase = PHASE_COMMAND;
    s->work = WORK_NONE;
    s->fifo_pos = s->fifo_len = 0;
    s->pos = s->end = 0;
}

void fdc_to_result(struct i82078 *s, unsigned bytes)
{
    s->phase = PHASE_RESULT;
    s->work = WORK_NONE;
    s->fifo_pos = 0;
    s->fifo_len = bytes;
    s->pos = s->end = 0;
}

/* The seven bytes behind a command with data; C, H, R, N are where it ended. */
void fdc_end_transfer(struct i82078 *s, uint8_t st0, uint8_t st1, uint8_t st2)
{
    uint8_t select = (s->fifo[1] & 3) | s->h << 2;
    const uint8_t result[7] = { st0 | select, st1, st2, s->c, s->h, s->r, 2 };

    fdc_set_dreq(s, false);
    memcpy(s->fifo, result, sizeof result);
    fdc_to_result(s, sizeof result);
    fdc_set_irq(s, true);
}

/* --- Sectors ------------------------------------------------------------------------------------------------------ */

static void sector_done(struct i82078 *s);

static uint64_t offset_of(const struct medium *m, const struct i82078 *s)
{
    return ((uint64_t)(s->c * m->heads + s->h) * m->sectors + s->r - 1) * SECTOR;
}

static void request_done(struct blk_request *r, int ret)
{
    struct i82078 *s = r->opaque;

    if (s->cancelled)
        return;
    if (ret >= 0) {
        sector_done(s);
        return;
    }
    switch (blk_error_action(r->blk, r->op == BLK_READ, ret)) {
    case BLK_ERROR_IGNORE: sector_done(s); break;
    case BLK_ERROR_STOP:
        timer_set(&s->retry, clock_now(s->dev.machine->clock) + RETRY_NS);
        machine_request(s->dev.machine, REQUEST_PAUSE, "error of a floppy disk");
        break;
    case BLK_ERROR_REPORT: fdc_end_transfer(s, ST0_ABNORMAL, ST1_DATA_ERROR, 0); break;
    }
}

/* False, with the command ended: the drive finds no such sector. */
bool fdc_find_sector(struct i82078 *s)
{
    struct fd_drive *d = fdc_drive_of(s);
    const struct medium *m = d ? d->medium : NULL;

    if (!m || s->rate != m->rate) {
        fdc_end_transfer(s, ST0_ABNORMAL, ST1_MISSING_ADDRESS, 0);
        return false;
    }
    if ((s->configure & CONFIGURE_IMPLIED_SEEK) && s->c < m->tracks)
        fdc_move_head(d, s->c);
    if (s->c != d->track || s->c >= m->tracks) {
        fdc_end_transfer(s, ST0_ABNORMAL, ST1_NO_DATA, ST2_WRONG_CYLINDER);
        return false;
    }
    if (s->h >= m->heads || !s->r || s->r > m->sectors) {
        fdc_end_transfer(s, ST0_ABNORMAL, ST1_NO_DATA, 0);
        return false;
    }
    return true;
}

void fdc_access_sector(struct i82078 *s)
{
    struct blk_request *r = &s->request;
    bool write = s->work == WORK_WRITE || s->work == WORK_FORMAT;

    if (!fdc_find_sector(s))
        return;
    uint64_t offset = offset_of(fdc_drive_of(s)->medium, s), size = blk_size(fdc_drive_of(s)->blk);
    if (offset >= size) { /* behind the end of an image that is too short: at most a track of sectors in a row */
        if (write) {
            fdc_end_transfer(s, ST0_ABNORMAL, ST1_NO_DATA, 0);
        } else {
            memset(s->buffer, 0, SECTOR);
            sector_done(s);
        }
        return;
    }
    s->phase = PHASE_MEDIA;
    s->iov = (struct iovec){ s->buffer, SECTOR };
    *r = (struct blk_request){ .op = write ? BLK_WRITE : BLK_READ, .offset = offset, .bytes = SECTOR,
                               .iov = &s->iov, .iov_count = 1, .done = request_done, .opaque = s };
    blk_submit(fdc_drive_of(s)->blk, r);
}

void fdc_try_again(void *opaque)
{
    struct i82078 *s = opaque;

    if (s->phase == PHASE_MEDIA)
        fdc_access_sector(s);
}

void fdc_cancel(struct i82078 *s)
{
    timer_cancel(&s->retry);
    s->cancelled = true;
    for (unsigned i = 0; i < I82078_DRIVES; i++) {
        if (s->drives[i].blk)
            blk_drain(s->drives[i].blk);
    }
    s->cancelled = false;
}

/* --- Moving data -------------------------------------------------------------------------------------------------- */

void fdc_buffer_done(struct i82078 *s);

void fdc_dma_ready(void *opaque, unsigned channel)
{
    struct i82078 *s = opaque;
    bool tc = false;

    if (s->phase != PHASE_DMA)
        return;
    if (s->work == WORK_READ)
        s->pos += i8237_write(fdc_dma_of(s), channel, s->buffer + s->pos, s->end - s->pos, &tc);
    else
        s->pos += i8237_read(fdc_dma_of(s), channel, s->buffer + s->pos, s->end - s->pos, &tc);
    s->terminal_count |= tc;
    if (s->pos == s->end || tc)
        fdc_buffer_done(s);
}

/* `bytes` between buffer and host. */
void fdc_begin_data(struct i82078 *s, uint16_t bytes)
{
    s->pos = 0;
    s->end = bytes;
    if (!uses_dma(s)) {
        s->phase = PHASE_FIFO;
        fdc_set_irq(s, true);
        return;
    }
    s->phase = PHASE_DMA;
    fdc_set_dreq(s, false);
    fdc_set_dreq(s, true); /* fdc_dma_ready() comes in here if the channel is */
}

/* One sector on, as the chip counts; false behind the last one. */
static bool advance(struct i82078 *s, bool multi_track)
{
    uint8_t last = s->fifo[6];

    if (s->r != last) {
        s->r++;
        return true;
    }
    s->r = 1;
    if (multi_track) {
        s->h ^= 1;
        if (s->h)
            return true;
    }
    s->c++;
    return false;
}

/* A sector's way between host and medium is over. */
static void next_sector(struct i82078 *s)
{
    uint8_t here = s->c;
    bool more = advance(s, s->fifo[0] & COMMAND_MULTI_TRACK);

    if (s->terminal_count || s->one_sector) {
        fdc_end_transfer(s, 0, 0, s->st2);
    } else if (!more) {
        if (s->work == WORK_VERIFY) {
            fdc_end_transfer(s, 0, 0, s->st2);
        } else { /* nobody said that this is the end */
            s->c = here;
            fdc_end_transfer(s, ST0_ABNORMAL, ST1_END_OF_CYLINDER, s->st2);
        }
    } else if (s->work == WORK_WRITE) {
        if (fdc_find_sector(s))
            fdc_begin_data(s, SECTOR);
    } else {
        fdc_access_sector(s);
    }
}

static void next_format(struct i82078 *s)
{
    if (s->terminal_count || !s->sectors_left)
        fdc_end_transfer(s, 0, 0, 0);
    else
        fdc_begin_data(s, 4);
}

static void sector_done(struct i82078 *s)
{
    switch ((enum work)s->work) {
    case WORK_READ: fdc_begin_data(s, SECTOR); break;
    case WORK_FORMAT: next_format(s); break;
    default: next_sector(s);
    }
}

/* The host has taken or given what the buffer is for; or DMA ended before. */
void fdc_buffer_done(struct i82078 *s)
{
    fdc_set_dreq(s, false);
    switch ((enum work)s->work) {
    case WORK_READ: next_sector(s); break;
    case WORK_WRITE:
        memset(s->buffer + s->pos, 0, SECTOR - s->pos);
        fdc_access_sector(s);
        break;
    case WORK_FORMAT: /* C, H, R, N of one sector, which is filled with the command's last byte */
        s->sectors_left--;
        s->c = s->buffer[0];
        s->h = s->buffer[1] & 1;
        s->r = s->buffer[2];
        memset(s->buffer, s->fifo[5], SECTOR);
        fdc_access_sector(s);
        break;
    default: g_assert_not_reached();
    }
}
