/*
 * Commands of the floppy controller (82078, chapter 5): see i82078.c. VM lock.
 */
#include "hw/disk/i82078_int.h"

#include "hw/core/log.h"

#include <string.h>

static void invalid(struct i82078 *s)
{
    s->fifo[0] = ST0_INVALID;
    fdc_to_result(s, 1);
}

static bool writable(struct i82078 *s)
{
    struct fd_drive *d = fdc_drive_of(s);

    if (!d || !d->medium || !blk_read_only(d->blk))
        return true;
    fdc_end_transfer(s, ST0_ABNORMAL, ST1_NOT_WRITABLE, 0);
    return false;
}

static void begin_transfer(struct i82078 *s, enum work work)
{
    s->c = s->fifo[2];
    s->h = s->fifo[3] & 1;
    s->r = s->fifo[4];
    s->work = work;
    s->terminal_count = s->one_sector = false;
    s->st2 = 0;
    if (s->fifo[5] != 2 || (s->fifo[1] >> 2 & 1) != s->h) { /* no sectors of that size, or with that head in their address */
        fdc_end_transfer(s, ST0_ABNORMAL, ST1_NO_DATA, 0);
        return;
    }
    if (work != WORK_WRITE)
        fdc_access_sector(s);
    else if (writable(s) && fdc_find_sector(s))
        fdc_begin_data(s, SECTOR);
}

static void read_data(struct i82078 *s)
{
    begin_transfer(s, WORK_READ);
}

/* From the first sector of a track on, whatever R says. */
static void read_track(struct i82078 *s)
{
    s->fifo[4] = 1;
    begin_transfer(s, WORK_READ);
}

/* Data marks are not kept: one sector is read, and the mark is said to be the other one. */
static void read_deleted(struct i82078 *s)
{
    begin_transfer(s, WORK_READ);
    s->one_sector = true;
    s->st2 = ST2_CONTROL_MARK;
}

static void write_data(struct i82078 *s)
{
    begin_transfer(s, WORK_WRITE);
}

static void verify(struct i82078 *s)
{
    begin_transfer(s, WORK_VERIFY);
}

static void format_track(struct i82078 *s)
{
    struct fd_drive *d = fdc_drive_of(s);

    s->c = d ? d->track : 0;
    s->h = s->fifo[1] >> 2 & 1;
    s->r = 1;
    s->work = WORK_FORMAT;
    s->terminal_count = false;
    s->sectors_left = s->fifo[3];
    if (s->fifo[2] != 2 || !s->sectors_left)
        fdc_end_transfer(s, ST0_ABNORMAL, ST1_NO_DATA, 0);
    else if (writable(s) && fdc_find_sector(s))
        fdc_begin_data(s, 4);
}

static void read_id(struct i82078 *s)
{
    struct fd_drive *d = fdc_drive_of(s);

    s->c = d ? d->track : 0;
    s->h = s->fifo[1] >> 2 & 1;
    s->r = 1;
    if (d && d->medium && d->medium->rate == s->rate && s->h < d->medium->heads && s->c < d->medium->tracks)
        fdc_end_transfer(s, 0, 0, 0);
    else
        fdc_end_transfer(s, ST0_ABNORMAL, ST1_MISSING_ADDRESS, 0);
}

static void specify(struct i82078 *s)
{
    memcpy(s->specify, s->fifo + 1, sizeof s->specify);
    fdc_to_command(s);
}

static void sense_drive(struct i82078 *s)
{
    const struct fd_drive *d = fdc_drive_of(s);
    uint8_t st3 = (s->fifo[1] & 7) | ST3_READY | ST3_TWO_SIDED;

    if (d && d->track == 0)
        st3 |= ST3_TRACK_0;
    if (d && blk_read_only(d->blk))
        st3 |= ST3_WRITE_PROTECTED;
    s->fifo[0] = st3;
    fdc_to_result(s, 1);
}

static void end_seek(struct i82078 *s, uint8_t st0)
{
    s->seek_done = true;
    s->seek_st0 = st0 | ST0_SEEK_END | (s->fifo[1] & 7);
    fdc_to_command(s);
    fdc_set_irq(s, true);
}

static void recalibrate(struct i82078 *s)
{
    struct fd_drive *d = fdc_drive_of(s);

    s->fifo[1] &= 3;
    if (d)
        fdc_move_head(d, 0);
    end_seek(s, d ? 0 : ST0_ABNORMAL | ST0_EQUIPMENT);
}

static void seek(struct i82078 *s)
{
    struct fd_drive *d = fdc_drive_of(s);
    uint8_t to = s->fifo[2];

    if (d && (s->fifo[0] & 0x80)) /* relative: out, or in with bit 6 */
        to = s->fifo[0] & 0x40 ? MIN(d->track + to, 255) : MAX(d->track - to, 0);
    if (d && to != d->track)
        fdc_move_head(d, to);
    end_seek(s, 0);
}

static void sense_interrupt(struct i82078 *s)
{
    uint8_t n = DRIVE_NUMBERS - s->reset_senses;

    if (s->reset_senses) {
        s->reset_senses--;
        s->fifo[0] = ST0_POLLING | n;
    } else if (s->seek_done) {
        s->seek_done = false;
        n = s->seek_st0 & 3;
        s->fifo[0] = s->seek_st0;
    } else {
        invalid(s);
        return;
    }
    s->fifo[1] = n < I82078_DRIVES ? s->drives[n].track : 0;
    fdc_set_irq(s, false);
    fdc_to_result(s, 2);
}

static void dump_registers(struct i82078 *s)
{
    const uint8_t result[10] = {
        s->drives[0].track, s->drives[1].track, 0, 0, s->specify[0], s->specify[1], s->fifo[6],
        s->lock << 7 | (s->perpendicular & 0x7f), s->configure, s->precomp,
    };

    memcpy(s->fifo, result, sizeof result);
    fdc_to_result(s, sizeof result);
}

static void version(struct i82078 *s)
{
    s->fifo[0] = 0x90;
    fdc_to_result(s, 1);
}

static void part_id(struct i82078 *s)
{
    s->fifo[0] = 0x41; /* 82078, first stepping */
    fdc_to_result(s, 1);
}

static void perpendicular(struct i82078 *s)
{
    s->perpendicular = s->fifo[1];
    fdc_to_command(s);
}

static void configure(struct i82078 *s)
{
    s->configure = s->fifo[2];
    s->precomp = s->fifo[3];
    fdc_to_command(s);
}

static void lock(struct i82078 *s)
{
    s->lock = s->fifo[0] & 0x80;
    s->fifo[0] = s->lock << 4;
    fdc_to_result(s, 1);
}

/* Bits that the mask leaves out are options: MT, MFM, SK, or LOCK's. */
static const struct command {
    uint8_t code, mask, bytes;
    void (*run)(struct i82078 *s);
} commands[] = {
    { 0x02, 0x1f, 9, read_track },   { 0x03, 0xff, 3, specify },         { 0x04, 0xff, 2, sense_drive },
    { 0x05, 0x3f, 9, write_data },   { 0x06, 0x1f, 9, read_data },       { 0x07, 0xff, 2, recalibrate },
    { 0x08, 0xff, 1, sense_interrupt }, { 0x09, 0x3f, 9, write_data },   { 0x0a, 0xbf, 2, read_id },
    { 0x0c, 0x1f, 9, read_deleted }, { 0x0d, 0xbf, 6, format_track },    { 0x0e, 0xff, 1, dump_registers },
    { 0x0f, 0x3f, 3, seek },         { 0x10, 0xff, 1, version },         { 0x12, 0xff, 2, perpendicular },
    { 0x13, 0xff, 4, configure },    { 0x14, 0x7f, 1, lock },            { 0x16, 0x1f, 9, verify },
    { 0x18, 0xff, 1, part_id },
};

static const struct command *find_command(uint8_t code)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++) {
        if ((code & commands[i].mask) == commands[i].code)
            return &commands[i];
    }
    return NULL;
}

unsigned fdc_command_bytes(uint8_t code)
{
    const struct command *c = find_command(code);
    return c ? c->bytes : 0;
}

void fdc_take_command_byte(struct i82078 *s, uint8_t value)
{
    const struct command *c = find_command(s->fifo_pos ? s->fifo[0] : value);

    s->fifo[s->fifo_pos++] = value;
    if (!c) {
        log_unimp_once(value, "i82078", "command 0x%02x", value);
        invalid(s);
        return;
    }
    s->fifo_len = c->bytes;
    if (s->fifo_pos == c->bytes)
        c->run(s);
}
