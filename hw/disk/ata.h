/*
 * ATA and ATAPI drives: registers, commands and their data, behind any host adapter (a legacy channel, later AHCI).
 *
 * A drive has one command under way. Its media accesses are asynchronous (hw/backend/blk.h); the host moves data through
 * ata_drive_data_*() (PIO) or is asked to by ata_host_ops.dma. All under the VM lock; nothing here waits, but resets and
 * saving, which drain the drive.
 */
#ifndef HW_DISK_ATA_H
#define HW_DISK_ATA_H

#include "hw/backend/blk.h"
#include "hw/core/clock.h"
#include "hw/core/memory.h"
#include "hw/core/state.h"

#define ATA_SECTOR 512
#define ATA_CD_SECTOR 2048
#define ATA_CD_RAW_SECTOR 2352
#define ATAPI_PACKET_BYTES 12
#define ATA_MULTIPLE_MAX 16
#define ATA_BUFFER (512 << 10) /* bytes that are read or written at a time */

/* Command block registers by their address; the second names are those of reads and writes. */
enum ata_register {
    ATA_DATA,
    ATA_ERROR,
    ATA_FEATURES = ATA_ERROR,
    ATA_COUNT,
    ATA_LBA_LOW,
    ATA_LBA_MID,
    ATA_LBA_HIGH,
    ATA_DEVICE,
    ATA_STATUS,
    ATA_COMMAND = ATA_STATUS,
};

#define ATA_COMMAND_DEVICE_RESET 0x08
#define ATA_COMMAND_DIAGNOSTIC 0x90
#define ATA_COMMAND_PACKET 0xa0

#define ATA_STATUS_ERR 0x01 /* CHK of packet devices */
#define ATA_STATUS_DRQ 0x08
#define ATA_STATUS_DSC 0x10
#define ATA_STATUS_DF 0x20
#define ATA_STATUS_DRDY 0x40
#define ATA_STATUS_BSY 0x80

#define ATA_ERROR_ABRT 0x04
#define ATA_ERROR_IDNF 0x10
#define ATA_ERROR_UNC 0x40

#define ATA_DEVICE_DEV 0x10
#define ATA_DEVICE_LBA 0x40

#define ATA_REASON_COD 0x01 /* of packet devices, in the count register: the command itself */
#define ATA_REASON_IO 0x02  /* to the host */

struct ata_drive;

/* What a drive is plugged into. */
struct ata_host_ops {
    /* drive->intrq has changed. */
    void (*intrq)(void *host, struct ata_drive *d);
    /*
     * The drive asserts DMARQ: moves up to `len` bytes and tells how many. If it is less, the drive waits until
     * ata_drive_dma() says that the host can go on.
     */
    size_t (*dma)(void *host, struct ata_drive *d, uint8_t *buf, size_t len, bool to_memory);
};

enum ata_phase {
    ATA_IDLE,
    ATA_MEDIA,    /* BSY: a request is with the back end, or was stopped by an error and waits for the machine to go on */
    ATA_DATA_IN,  /* DRQ, PIO to the host */
    ATA_DATA_OUT,
    ATA_DMA_IN,   /* DRQ, DMARQ to memory */
    ATA_DMA_OUT,
    ATA_RESET,    /* SRST is asserted */
};

/* What the command under way does with the medium and its data. */
enum ata_work {
    ATA_WORK_NONE,
    ATA_WORK_READ,
    ATA_WORK_READ_RAW, /* CD sectors of 2352 bytes */
    ATA_WORK_WRITE,
    ATA_WORK_VERIFY,
    ATA_WORK_FLUSH,    /* nothing but that, then the end */
    ATA_WORK_REPLY,    /* data made by the drive */
    ATA_WORK_PACKET,   /* the command packet comes */
    ATA_WORK_TRIM,     /* ranges come, then discards */
    ATA_WORK_COUNT,
};

struct ata_sense {
    uint8_t key, asc, ascq;
};

struct ata_drive {
    /* Set before ata_drive_init(); lent. */
    struct machine *m;
    struct blk *blk;                 /* NULL: a CD drive that nobody gave a back end */
    bool packet;                     /* a CD drive */
    uint8_t unit;                    /* 0 or 1 on its cable */
    const char *serial, *model, *version;
    uint64_t wwn;                    /* 0: none */
    uint16_t rotation_rate;          /* 1: does not rotate; 0: not told */
    const struct ata_host_ops *ops;
    void *host;

    /* Registers; [1] is what was written there before (48-bit commands). */
    uint8_t features[2], count[2], lba_low[2], lba_mid[2], lba_high[2];
    uint8_t device, status, error;
    bool intrq;

    /* Settings */
    uint16_t heads, sectors;         /* as the guest set them for CHS */
    uint8_t multiple;                /* sectors of a READ MULTIPLE block; 0: not allowed */
    uint8_t mdma, udma;              /* chosen mode as a bit, or 0 */
    bool write_cache, write_cache_initial;
    bool smart, smart_autosave;
    bool standby, asleep;

    /* The command under way */
    uint8_t command, phase, work;
    bool dma;
    bool lba48, fua;
    uint64_t lba;                    /* next unit of the medium */
    uint32_t left;                   /* units that are not yet read, or not yet written */
    uint32_t chunk;                  /* units in the buffer */
    uint32_t pos, block_end, end;    /* in the buffer: next byte, end of the DRQ block, end of data */
    uint32_t block_bytes;            /* of a DRQ block */
    struct ram_block *buffer;        /* ATA_BUFFER bytes; a block of memory as what is saved of it is short */

    /* Packet devices */
    struct ata_sense sense;
    bool attention;                  /* the next command is told of a change of medium */
    uint8_t media_event;             /* of GET EVENT STATUS NOTIFICATION; 0: none */
    bool tray_open, locked;

    struct timer retry;              /* a request is submitted again */

    /* Not saved. */
    bool cancelled;                  /* what comes back from the medium is of no interest */
    struct blk_request request;
    struct iovec iov;
};

extern const struct state_field ata_drive_fields[];

bool ata_drive_init(struct ata_drive *d, GError **err); /* takes the blk */
void ata_drive_fini(struct ata_drive *d);
/* Power-on. Drops what is under way; INTRQ goes low without a call. */
void ata_drive_reset(struct ata_drive *d);
/* SRST: asserted, then released. */
void ata_drive_srst(struct ata_drive *d, bool on);
/* EXECUTE DEVICE DIAGNOSTIC, which both drives of a cable carry out. */
void ata_drive_diagnose(struct ata_drive *d);
/* For the state table of the device that embeds it. */
void ata_drive_pre_save(struct ata_drive *d);
bool ata_drive_post_load(struct ata_drive *d, GError **err);

/* Registers other than data. `previous`: the HOB bit of device control. Reading the status is ata_drive_acknowledge's. */
uint8_t ata_drive_read(const struct ata_drive *d, enum ata_register reg, bool previous);
void ata_drive_write(struct ata_drive *d, enum ata_register reg, uint8_t value);
void ata_drive_command(struct ata_drive *d, uint8_t command);
/* Status, which takes INTRQ back. */
uint8_t ata_drive_acknowledge(struct ata_drive *d);

/* The data register, `size` bytes at a time; zeros and nothing outside of a PIO data phase. */
uint32_t ata_drive_data_read(struct ata_drive *d, unsigned size);
void ata_drive_data_write(struct ata_drive *d, uint32_t value, unsigned size);
/* The host can move data (again). */
void ata_drive_dma(struct ata_drive *d);

/* CHS geometry as IDENTIFY tells it, for firmware. */
void ata_drive_geometry(const struct ata_drive *d, unsigned *cylinders, unsigned *heads, unsigned *sectors);

#endif
