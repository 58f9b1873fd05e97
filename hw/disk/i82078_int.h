/*
 * Between the files of the floppy controller: i82078.c (registers, life), i82078_data.c (drives, sectors and their way to the
 * host), i82078_commands.c. VM lock.
 */
#ifndef HW_DISK_I82078_INT_H
#define HW_DISK_I82078_INT_H

#include "hw/backend/blk.h"
#include "hw/core/clock.h"
#include "hw/core/irq.h"
#include "hw/core/memory.h"
#include "hw/disk/i82078.h"
#include "hw/isa/i8237.h"

#define SECTOR 512
#define FDC_IRQ 6
#define FDC_DMA 2
#define RETRY_NS (10 * 1000 * 1000)
#define DRIVE_NUMBERS 4 /* that a command can name */

#define DOR_SELECT 0x03
#define DOR_NOT_RESET 0x04
#define DOR_DMA_GATE 0x08
#define DSR_RESET 0x80
#define RATE 0x03

#define MSR_RQM 0x80
#define MSR_DIO 0x40
#define MSR_NON_DMA 0x20
#define MSR_BUSY 0x10
#define DIR_CHANGED 0x80

#define ST0_ABNORMAL 0x40
#define ST0_INVALID 0x80
#define ST0_POLLING 0xc0
#define ST0_SEEK_END 0x20
#define ST0_EQUIPMENT 0x10
#define ST1_END_OF_CYLINDER 0x80
#define ST1_DATA_ERROR 0x20
#define ST1_NO_DATA 0x04
#define ST1_NOT_WRITABLE 0x02
#define ST1_MISSING_ADDRESS 0x01
#define ST2_WRONG_CYLINDER 0x10
#define ST2_CONTROL_MARK 0x40
#define ST3_WRITE_PROTECTED 0x40
#define ST3_READY 0x20
#define ST3_TRACK_0 0x10
#define ST3_TWO_SIDED 0x08

#define COMMAND_MULTI_TRACK 0x80
#define CONFIGURE_IMPLIED_SEEK 0x40
#define CONFIGURE_NO_POLLING 0x10

enum phase { PHASE_COMMAND, PHASE_MEDIA, PHASE_DMA, PHASE_FIFO, PHASE_RESULT, PHASE_RESET, PHASES };
enum work { WORK_NONE, WORK_READ, WORK_WRITE, WORK_VERIFY, WORK_FORMAT, WORKS };

/* By an image's size. Rates: 0 500, 1 300, 2 250, 3 1000 kbit/s. */
struct medium {
    uint32_t kib;
    uint8_t tracks, heads, sectors, rate, cmos;
};

struct i82078;

struct fd_drive {
    struct i82078 *fdc;
    struct blk *blk;             /* NULL: no drive */
    const struct medium *medium; /* NULL: none */
    uint8_t cmos_type;
    uint8_t track;
    bool changed;                /* until the head moves over a medium */
};

struct i82078 {
    struct device dev;
    struct mem_region registers, dir_region;
    struct irq_line irq;
    struct fd_drive drives[I82078_DRIVES];
    uint8_t dor, tdr, rate;
    bool irq_level;
    /* SPECIFY and CONFIGURE */
    uint8_t specify[2], configure, precomp, perpendicular;
    bool lock;
    /* The command under way */
    uint8_t phase, work;
    uint8_t fifo[16]; /* of command, then result */
    uint8_t fifo_pos, fifo_len;
    uint8_t c, h, r, sectors_left; /* the sector in the buffer; sectors_left only of FORMAT */
    uint8_t st2;
    bool terminal_count;
    bool one_sector;  /* the end is behind this one */
    uint16_t pos, end; /* in the buffer */
    uint8_t buffer[SECTOR];
    /* What SENSE INTERRUPT STATUS tells */
    uint8_t reset_senses; /* drives still to be told of a reset */
    bool seek_done;
    uint8_t seek_st0;
    struct timer retry;
    /* Not saved */
    bool cancelled;
    struct blk_request request;
    struct iovec iov;
    /* Properties */
    struct blk *blk_a, *blk_b;
    uint32_t bootindex_a, bootindex_b;
};

/* --- i82078_data.c ------------------------------------------------------------------------------------------------ */

const struct medium *fdc_find_medium(const struct blk *b);
struct fd_drive *fdc_drive_of(struct i82078 *s); /* that the command names; NULL: there is none */
void fdc_move_head(struct fd_drive *d, uint8_t track);
void fdc_set_irq(struct i82078 *s, bool level);
void fdc_set_dreq(struct i82078 *s, bool level);
struct i8237 *fdc_dma_of(const struct i82078 *s);
/* The next phase; `bytes` of the FIFO are the result. */
void fdc_to_command(struct i82078 *s);
void fdc_to_result(struct i82078 *s, unsigned bytes);
/* The seven bytes behind a command with data; C, H, R, N are where it ended. */
void fdc_end_transfer(struct i82078 *s, uint8_t st0, uint8_t st1, uint8_t st2);
/* False, with the command ended: the drive finds no such sector. */
bool fdc_find_sector(struct i82078 *s);
/* Reads or writes the sector at c, h, r, as the work is. */
void fdc_access_sector(struct i82078 *s);
void fdc_begin_data(struct i82078 *s, uint16_t bytes);
void fdc_buffer_done(struct i82078 *s);
void fdc_dma_ready(void *opaque, unsigned channel);
void fdc_try_again(void *opaque);
void fdc_cancel(struct i82078 *s);

/* --- i82078_commands.c -------------------------------------------------------------------------------------------- */

void fdc_take_command_byte(struct i82078 *s, uint8_t value);
unsigned fdc_command_bytes(uint8_t code); /* of the whole command; 0: there is none */

#endif
