/*
 * Between the files that make up a drive: ata.c (registers, data phases, media requests), ata_disk.c (commands of
 * disks), atapi.c and atapi_cd.c (commands of CD drives). VM lock.
 */
#ifndef HW_DISK_ATA_INT_H
#define HW_DISK_ATA_INT_H

#include "hw/disk/ata.h"

static inline uint8_t *ata_buffer(struct ata_drive *d)
{
    return d->buffer->host;
}

/* --- ata.c -------------------------------------------------------------------------------------------------------- */

/* Ends of a command: status, and INTRQ. */
void ata_finish(struct ata_drive *d);
void ata_fail(struct ata_drive *d, uint8_t error);
void ata_signature(struct ata_drive *d);
void ata_set_intrq(struct ata_drive *d, bool level);

/* `bytes` of the buffer go to the host, in blocks of block_bytes; with `irq` when the first is there. */
void ata_reply(struct ata_drive *d, uint32_t bytes);
/* The host is to send `bytes` into the buffer: work tells what becomes of them. */
void ata_take(struct ata_drive *d, enum ata_work work, uint32_t bytes);
/*
 * From d->lba on, d->left units, through DRQ blocks of block_bytes or DMA: reads, writes, or looks (ATA_WORK_VERIFY).
 * d->left is not 0.
 */
void ata_transfer(struct ata_drive *d, enum ata_work work);
void ata_flush(struct ata_drive *d);
/* The whole number of sectors that a medium has. */
uint64_t ata_sectors(const struct ata_drive *d);
/* Submits one request; ata_media_done() of the command's kind hears of it. */
void ata_submit(struct ata_drive *d, enum blk_op op, uint64_t offset, uint64_t bytes);

/* --- ata_disk.c --------------------------------------------------------------------------------------------------- */

void ata_disk_command(struct ata_drive *d);
void ata_disk_defaults(struct ata_drive *d, bool power_on);
void ata_disk_media_error(struct ata_drive *d, bool read);
/* The position goes into the registers as the command had it. */
void ata_disk_put_lba(struct ata_drive *d, uint64_t lba);
/* The ranges of DATA SET MANAGEMENT, in the buffer from `pos` on: the next one that is not empty is submitted, or it was the last. */
void ata_disk_trim(struct ata_drive *d);
uint16_t ata_mdma_word(const struct ata_drive *d);
uint16_t ata_udma_word(const struct ata_drive *d);
/* "TRAPEZE " ... in words whose first character is the high byte, padded with spaces. */
void ata_put_string(uint8_t *words, const char *text, unsigned bytes);
void ata_put_word(uint8_t *page, unsigned word, uint16_t value);
void ata_put_checksum(uint8_t *page);
bool ata_set_transfer_mode(struct ata_drive *d);

/* --- atapi.c ------------------------------------------------------------------------------------------------------ */

void atapi_command(struct ata_drive *d);
/* The 12 bytes are in the buffer. */
void atapi_packet(struct ata_drive *d);
void atapi_media_error(struct ata_drive *d);
void atapi_reset(struct ata_drive *d);
extern const struct blk_front_ops atapi_front_ops;
void atapi_medium(struct ata_drive *d, bool present);
/* Ends of packet commands. */
void atapi_fail(struct ata_drive *d, uint8_t key, uint8_t asc, uint8_t ascq);
/* Sends the first `bytes` of the buffer, at most `allocated` of them. */
void atapi_reply(struct ata_drive *d, uint32_t bytes, uint32_t allocated);
bool atapi_ready(const struct ata_drive *d); /* a medium, and the tray closed */

enum sense_key {
    SENSE_NONE = 0x0,
    SENSE_NOT_READY = 0x2,
    SENSE_MEDIUM_ERROR = 0x3,
    SENSE_ILLEGAL_REQUEST = 0x5,
    SENSE_UNIT_ATTENTION = 0x6,
};

#define ASC_NOT_PRESENT 0x3a
#define ASC_TRAY_CLOSED 0x01
#define ASC_TRAY_OPEN 0x02
#define ASC_INVALID_COMMAND 0x20
#define ASC_LBA_RANGE 0x21
#define ASC_INVALID_FIELD 0x24
#define ASC_CHANGED 0x28
#define ASC_RESET 0x29
#define ASC_SAVING 0x39
#define ASC_READ_ERROR 0x11
#define ASC_LOCKED 0x53

/* --- atapi_cd.c: what is told of drive and medium ----------------------------------------------------------------- */

void atapi_inquiry(struct ata_drive *d, const uint8_t *cdb);
void atapi_mode_sense(struct ata_drive *d, const uint8_t *cdb);
void atapi_read_toc(struct ata_drive *d, const uint8_t *cdb);
void atapi_get_configuration(struct ata_drive *d, const uint8_t *cdb);
void atapi_event_status(struct ata_drive *d, const uint8_t *cdb);
void atapi_disc_information(struct ata_drive *d, const uint8_t *cdb);
void atapi_mechanism_status(struct ata_drive *d, const uint8_t *cdb);
uint32_t atapi_capacity(const struct ata_drive *d); /* sectors of 2048 bytes */
void atapi_identify(struct ata_drive *d);
/* `buf` holds `n` sectors of 2048 bytes: they become 2352 each. */
void atapi_make_raw(uint8_t *buf, uint32_t lba, uint32_t n);

#endif
