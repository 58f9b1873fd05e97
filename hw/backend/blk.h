/*
 * Block back ends: where a disk's sectors are on the host.
 *
 * A blk is what a device is lent: a drive with or without a medium. It belongs to its machine (machine.blks) and has at
 * most one front end. All functions here are called under the VM lock, on the main loop or on a vCPU's thread, and do
 * not wait for the host unless it says so. A request's memory is the front end's; worker threads touch nothing else of
 * it and never take the VM lock. Errors are negative errno numbers, 0 is success.
 *
 * What is below (format over file, backing files) is private: hw/backend/blk_int.h.
 */
#ifndef HW_BACKEND_BLK_H
#define HW_BACKEND_BLK_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct blk;
struct blk_node;
struct machine;
struct opts;

/* --- Requests ----------------------------------------------------------------------------------------------------- */

enum blk_op {
    BLK_READ,
    BLK_WRITE,
    BLK_FLUSH,   /* all that was done before this was submitted is on stable storage */
    BLK_DISCARD, /* what is there afterwards is any old thing; may do nothing */
    BLK_WRITE_ZEROES,
};

enum blk_flags {
    BLK_FUA = 1 << 0,   /* of writes: on stable storage when done */
    BLK_UNMAP = 1 << 1, /* of BLK_WRITE_ZEROES: the space may be given back */
};

/* Where a request's bytes are: those of the elements, behind the first `skip`. */
struct blk_vec {
    const struct iovec *iov;
    unsigned count;
    size_t skip;
};

/*
 * Embedded in what the front end keeps of it; it must stay, and so must the elements and the memory they name, until
 * done() is called. Any offset and length are right, sectors or not; the whole request must be within blk_size(), or it
 * fails with -EINVAL. Requests under way together may be carried out in any order, also where they overlap.
 */
struct blk_request {
    enum blk_op op;
    unsigned flags;            /* enum blk_flags */
    uint64_t offset, bytes;    /* none for BLK_FLUSH */
    const struct iovec *iov;   /* of reads and writes: `bytes` in all, no more and no less */
    unsigned iov_count;
    /*
     * On the main loop, or within blk_drain(), under the VM lock; never within blk_submit(). The request is the front
     * end's again: it may be freed or submitted anew here.
     */
    void (*done)(struct blk_request *r, int ret);
    void *opaque;

    /* Private. */
    struct blk *blk;
    struct blk_node *node;
    struct blk_vec vec;
    uint64_t vec_bytes; /* of all its elements */
    void (*finish)(struct blk_request *r, int ret);
    struct blk_request *next;
    uint64_t order; /* when it came, among those that throttling holds back */
    bool as_zeroes; /* what is written is all zeros: detect-zeroes= */
    int ret;
};

void blk_submit(struct blk *b, struct blk_request *r);
/*
 * Waits until no request is under way: their done() is called in here, by this thread. Throttled ones go at once.
 * For a reset or pause: the front end submits no more from done() meanwhile, or not without end.
 */
void blk_drain(struct blk *b);
bool blk_busy(const struct blk *b);
/* Of all drives of the machine: a pause, or its end. */
void blk_drain_all(struct machine *m);
/* Drains all, then has each written to stable storage; the first error. Waits. */
int blk_flush_all(struct machine *m);

/* --- Use by front ends -------------------------------------------------------------------------------------------- */

struct blk_front_ops {
    void (*medium)(void *opaque, bool present); /* one was put in, or it is gone; may be NULL: a disk that is fixed */
    void (*resized)(void *opaque);              /* blk_size() is another; may be NULL */
};

/* Takes the drive; fails if another front end has it. */
bool blk_attach(struct blk *b, const struct blk_front_ops *ops, void *opaque, GError **err);
void blk_detach(struct blk *b, void *opaque); /* drains */

const char *blk_id(const struct blk *b);
bool blk_has_medium(const struct blk *b); /* without one requests fail with -ENOMEDIUM */
uint64_t blk_size(const struct blk *b);   /* bytes, a multiple of 512; 0: no medium */
bool blk_read_only(const struct blk *b);  /* then writes fail with -EROFS */
bool blk_can_discard(const struct blk *b); /* discard=unmap: worth to be offered to a guest */
/*
 * Does a write wait for its turn on stable storage (off), or only BLK_FLUSH (on)? As cache= says at first; the guest may
 * change it (SET FEATURES, virtio's WCE).
 */
bool blk_write_cache(const struct blk *b);
void blk_set_write_cache(struct blk *b, bool on);

/* What a device makes of a request that failed: rerror= and werror=. */
enum blk_error_action {
    BLK_ERROR_REPORT, /* the guest is told */
    BLK_ERROR_IGNORE, /* the guest is told that it went well */
    BLK_ERROR_STOP,   /* the machine pauses (machine_request), and the request is submitted again when it goes on */
};
enum blk_error_action blk_error_action(const struct blk *b, bool read, int ret);

/* --- Drives of a machine ------------------------------------------------------------------------------------------ */

enum blk_interface { BLK_IF_NONE, BLK_IF_IDE, BLK_IF_VIRTIO, BLK_IF_FLOPPY, BLK_IF_SCSI, BLK_IF_PFLASH };

/* What -drive says that is for the device. Lent with the blk. */
struct blk_drive {
    enum blk_interface interface;
    unsigned bus, unit; /* IDE: channel, and 0 for the master; SCSI: 7 to a bus; else bus 0 and unit = index */
    bool cdrom;         /* media=cdrom */
};

/*
 * -drive "file=PATH,format=raw|qcow2,if=ide|virtio|floppy|scsi|pflash|none,index=N,bus=N,unit=N,media=disk|cdrom,id=ID,
 * readonly=on|off|auto,cache=writeback|none|writethrough|directsync|unsafe,aio=threads|io_uring|native,
 * discard=ignore|unmap,detect-zeroes=off|on|unmap,snapshot=on|off,werror=...,rerror=...,throttling.iops-total=..."
 * Without a file it is a drive without a medium. `interface` and `index` (-1: the first that is free) hold where the
 * option does not say. NULL and a sentence if it cannot be opened. Waits for the host.
 */
struct blk *blk_new_drive(struct machine *m, const char *option, enum blk_interface interface, int index, GError **err);
/* As blk_new_drive, with the pairs that -hda, -cdrom and -fda stand for; takes over `o`. */
struct blk *blk_new_drive_opts(struct machine *m, struct opts *o, enum blk_interface interface, int index, GError **err);
void blk_drive_help(GString *out);
struct blk *blk_find(struct machine *m, const char *id); /* NULL: there is none; also by machine.blk_find for PROP_BLK */
const struct blk_drive *blk_drive(const struct blk *b);
/* The drive that -drive put there, or NULL: boards make a device for each, but for BLK_IF_NONE. */
#define BLK_UNIT_MAX 255
struct blk *blk_drive_at(struct machine *m, enum blk_interface interface, unsigned bus, unsigned unit);

/* The monitor's change and eject. Draining is done here; the front end's medium() is called. They wait. */
bool blk_change(struct blk *b, const char *file, const char *format, GError **err);
void blk_eject(struct blk *b);
bool blk_resize(struct blk *b, uint64_t size, GError **err);
void blk_print(const struct blk *b, GString *out); /* its lines of `info block` */
/* machine_free() closes all drives after its devices are gone. */

#endif
