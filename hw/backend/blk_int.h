/*
 * Inside of the block back ends: what hw/backend/blk_*.c and qcow2*.c share, and what trapeze-img uses to reach images
 * without a machine.
 *
 * An image is a small tree of nodes: a format over a file, its backing image (again a format over a file) beside it. A
 * node's driver is plain code that may wait: worker threads call it, several at a time, and so does trapeze-img. What can
 * be begun without waiting (a read or write of the host's file by io_uring, or of clusters of which the format knows where
 * they are) goes by the driver's start() on the thread that submits, and worker threads have nothing to do with it.
 *
 * Sizes and offsets are bytes, at most INT64_MAX. Functions that carry out something return 0 or a negative errno.
 */
#ifndef HW_BACKEND_BLK_INT_H
#define HW_BACKEND_BLK_INT_H

#include "hw/backend/blk.h"

struct blk_async;
struct blk_node;

#define BLK_SECTOR 512
#define BLK_SIZE_MAX (INT64_MAX - 0xffff)

/* --- Scattered memory (blk_vec.c) --------------------------------------------------------------------------------- */

static inline struct blk_vec blk_vec_behind(struct blk_vec v, size_t skip)
{
    v.skip += skip;
    return v;
}
/* One piece of memory: `iov` is filled in and must stay. */
static inline struct blk_vec blk_vec_one(struct iovec *iov, void *buf, size_t len)
{
    *iov = (struct iovec){ buf, len };
    return (struct blk_vec){ iov, 1, 0 };
}
/* At most `max` elements that hold the first bytes of `v`, `bytes` of them at most; their number, and in *len how many. */
unsigned blk_vec_cut(const struct blk_vec *v, size_t bytes, struct iovec *out, unsigned max, size_t *len);
void blk_vec_from(const struct blk_vec *v, const void *buf, size_t len); /* buf to the vector */
void blk_vec_to(const struct blk_vec *v, void *buf, size_t len);         /* the vector to buf */
void blk_vec_zero(const struct blk_vec *v, size_t len);
bool blk_vec_is_zero(const struct blk_vec *v, size_t len);
bool blk_is_zero(const void *buf, size_t len);

/* --- Drivers ------------------------------------------------------------------------------------------------------ */

enum blk_open_flags {
    BLK_OPEN_WRITE = 1 << 0,
    BLK_OPEN_DIRECT = 1 << 1,     /* past the host's page cache */
    BLK_OPEN_NO_FLUSH = 1 << 2,   /* flushes do nothing (cache=unsafe) */
    BLK_OPEN_SHARE = 1 << 3,      /* no locks, and no look at those of others */
    BLK_OPEN_NO_BACKING = 1 << 4, /* the backing image is left closed: only what the image itself says is wanted */
    BLK_OPEN_CHECK = 1 << 5,      /* not repaired first if it was not closed properly; damage does not prevent opening */
    BLK_OPEN_LOCK_OPTIONAL = 1 << 6, /* a file system without locks is no error */
};

#define BLK_OPEN_DEPTH (1u << 24) /* times how many images are above this one: backing chains end somewhere */

/* What is known of a stretch of an image. */
enum blk_extent_kind {
    BLK_EXTENT_DATA = 1 << 0,      /* has content of its own here */
    BLK_EXTENT_ZERO = 1 << 1,      /* reads as zeros */
    BLK_EXTENT_ALLOCATED = 1 << 2, /* this layer says what it is, not the backing image */
    BLK_EXTENT_OFFSET = 1 << 3,    /* `host` is where it is in the file below */
    BLK_EXTENT_COMPRESSED = 1 << 4,
};
struct blk_extent {
    uint64_t bytes; /* at least 1 */
    unsigned kind;  /* enum blk_extent_kind */
    uint64_t host;
};

enum blk_prealloc { BLK_PREALLOC_OFF, BLK_PREALLOC_METADATA, BLK_PREALLOC_FALLOC, BLK_PREALLOC_FULL };

struct blk_snapshot {
    char *id, *name;
    uint64_t vm_state_size, date_sec, vm_clock_ns, disk_size, icount;
    uint32_t date_nsec;
};

enum blk_fix { BLK_FIX_NOTHING, BLK_FIX_LEAKS, BLK_FIX_ALL };

struct blk_check {
    uint64_t corruptions, leaks, errors;             /* found and left; errors: what could not be looked at */
    uint64_t corruptions_fixed, leaks_fixed;
    uint64_t total_clusters, allocated, compressed, fragmented; /* of the guest's disk */
    uint64_t image_end;                              /* bytes of the file in use */
    GString *messages;                               /* lines, one for each problem, as qemu-img writes them; may be NULL */
};

/* What an image says of itself, for trapeze-img info: name, value as text (or JSON where it is no string). */
struct blk_fact {
    const char *name;
    char *value;
    bool string;
};

struct blk_driver {
    const char *name; /* as format= says it: "qcow2" */
    bool grows;       /* a write behind its end makes it longer: no bounds are checked */
    size_t size;      /* of a struct that embeds struct blk_node first */
    /* Does the image that begins with these bytes look like it? NULL: it is only taken when it is asked for by name. */
    bool (*probe)(const uint8_t *head, size_t len);
    /* n->file is open. Sets n->size and what else it knows; on failure close() is not called. */
    bool (*open)(struct blk_node *n, struct opts *o, GError **err);
    void (*close)(struct blk_node *n); /* all is written; children are still open */
    /* Any thread, several at a time, within n->size. */
    int (*read)(struct blk_node *n, uint64_t offset, uint64_t bytes, const struct blk_vec *v);
    int (*write)(struct blk_node *n, uint64_t offset, uint64_t bytes, const struct blk_vec *v);
    int (*flush)(struct blk_node *n);
    int (*discard)(struct blk_node *n, uint64_t offset, uint64_t bytes);
    /* -ENOTSUP: has to be done by writing. May be NULL. */
    int (*write_zeroes)(struct blk_node *n, uint64_t offset, uint64_t bytes, unsigned flags);
    int (*map)(struct blk_node *n, uint64_t offset, uint64_t bytes, struct blk_extent *e);
    bool (*resize)(struct blk_node *n, uint64_t size, enum blk_prealloc prealloc, bool shrink, GError **err);
    /* Whole clusters, compressed. The following may be NULL, too, where a format has no such thing. */
    int (*write_compressed)(struct blk_node *n, uint64_t offset, uint64_t bytes, const struct blk_vec *v);
    /* A new image; takes its options out of `o`. */
    bool (*create)(const char *path, uint64_t size, struct opts *o, GError **err);
    bool (*check)(struct blk_node *n, struct blk_check *c, enum blk_fix fix, GError **err);
    GArray *(*facts)(struct blk_node *n); /* struct blk_fact */
    GArray *(*snapshots)(struct blk_node *n); /* struct blk_snapshot; blk_snapshots_free() */
    bool (*snapshot_create)(struct blk_node *n, const char *name, GError **err);
    bool (*snapshot_apply)(struct blk_node *n, const char *name, GError **err);
    bool (*snapshot_delete)(struct blk_node *n, const char *name, GError **err);
    bool (*snapshot_show)(struct blk_node *n, const char *name, GError **err); /* open for reading: that is what is read */
    bool (*make_empty)(struct blk_node *n, GError **err); /* says nothing itself any more: the backing image shows */
    /* What the image says that is below it; NULL: nothing. Lent. */
    const char *(*backing_name)(struct blk_node *n, const char **format);
    bool (*set_backing_name)(struct blk_node *n, const char *name, const char *format, GError **err);
    uint64_t (*cluster_size)(struct blk_node *n);
    bool (*is_dirty)(struct blk_node *n); /* it was not closed properly */
    /*
     * Begins a read, write or flush without waiting; r->finish(r, ret) is called later on the main loop. False: cannot, or
     * not now; r is as it was. Under the VM lock. May be NULL.
     */
    bool (*start)(struct blk_node *n, struct blk_request *r);
};

struct blk_node {
    const struct blk_driver *driver;
    struct blk_node *file;    /* what a format lies in; owned */
    struct blk_node *backing; /* where reads go that this image says nothing about; owned; NULL: zeros */
    struct blk_async *async;  /* where start() may begin something; NULL: nowhere. Lent */
    char *path;               /* as the user or the image names it */
    unsigned flags;           /* enum blk_open_flags */
    uint64_t size;
    bool probed;              /* nobody said what format it is */
};

extern const struct blk_driver blk_file_driver, blk_raw_driver, blk_qcow2_driver;

/* The format of an image that begins so; NULL: one that we do not read. */
const struct blk_driver *blk_probe(const uint8_t *head, size_t len);
/* NULL: there is none of that name. */
const struct blk_driver *blk_driver_find(const char *name);
/* The names of formats, "raw qcow2", for messages. */
const char *blk_driver_names(void);

/* --- Trees of nodes (blk_node.c) ---------------------------------------------------------------------------------- */

/*
 * Opens the image with all that is below. `format` NULL: looks at its first bytes. `o` may hold options of the driver,
 * which takes its own out; may be NULL.
 */
struct blk_node *blk_node_open(const char *path, const char *format, unsigned flags, struct blk_async *async,
                               struct opts *o, GError **err);
void blk_node_close(struct blk_node *n); /* writes what is pending; NULL is nothing */
/* Only the host's file or device. */
struct blk_node *blk_file_open(const char *path, unsigned flags, struct blk_async *async, GError **err);
/* Makes an empty file of that size, or truncates what is there. */
bool blk_file_create(const char *path, uint64_t size, enum blk_prealloc prealloc, GError **err);

/* "base.img" as the image at `path` means it: beside that image, if it is no absolute path. Caller frees. */
char *blk_path_beside(const char *path, const char *name);
void blk_snapshots_free(GArray *snapshots);
void blk_facts_free(GArray *facts);

/* These wait. Within n->size: -EINVAL otherwise. */
int blk_node_read(struct blk_node *n, uint64_t offset, uint64_t bytes, const struct blk_vec *v);
int blk_node_write(struct blk_node *n, uint64_t offset, uint64_t bytes, const struct blk_vec *v);
int blk_node_pread(struct blk_node *n, uint64_t offset, void *buf, size_t len);
int blk_node_pwrite(struct blk_node *n, uint64_t offset, const void *buf, size_t len);
int blk_node_flush(struct blk_node *n);
int blk_node_discard(struct blk_node *n, uint64_t offset, uint64_t bytes);
int blk_node_write_zeroes(struct blk_node *n, uint64_t offset, uint64_t bytes, unsigned flags);
int blk_node_map(struct blk_node *n, uint64_t offset, uint64_t bytes, struct blk_extent *e);
/*
 * The same of the chain below, too: in *where the node that decides it, and how far down it is. Where none does, that is
 * the lowest one that is long enough, and BLK_EXTENT_ZERO.
 */
int blk_node_map_chain(struct blk_node *n, uint64_t offset, uint64_t bytes, struct blk_extent *e, struct blk_node **where,
                       unsigned *depth);
bool blk_node_resize(struct blk_node *n, uint64_t size, enum blk_prealloc prealloc, bool shrink, GError **err);
/* Carries out a request, whatever it is. */
int blk_node_run(struct blk_node *n, struct blk_request *r);
/* Bytes that it takes on the host's disk; -1: unknown. */
int64_t blk_node_host_bytes(const struct blk_node *n);

/* --- Host files (blk_file.c, blk_lock.c) -------------------------------------------------------------------------- */

/*
 * Shows other programs that the image is in use, for reading or also for writing, in the way that QEMU and its tools
 * understand; fails if one of them does not go together with that.
 */
bool blk_lock_fd(int fd, const char *path, unsigned flags, GError **err);

/* --- Asynchronous work (blk_async.c, blk_uring.c) ----------------------------------------------------------------- */

/* Threads and the io_uring of one drive. Completions are brought to `loop`. Under the VM lock, but blk_async_post. */
struct blk_async *blk_async_new(GMainContext *loop, bool uring);
void blk_async_free(struct blk_async *a); /* nothing is under way */
/* Has a worker carry out r on r->node; then r->finish on the main loop. */
void blk_async_work(struct blk_async *a, struct blk_request *r);
/* r->finish(r, ret) on the main loop. Any thread. */
void blk_async_post(struct blk_async *a, struct blk_request *r, int ret);
/* Waits for something to be finished, and does what the main loop would do. */
void blk_async_wait(struct blk_async *a);
/* Reads or writes r->vec at r->offset of the file, or flushes it, by io_uring; false: there is none, or it is full. */
bool blk_async_ring(struct blk_async *a, int fd, struct blk_request *r);
const char *blk_async_kind(const struct blk_async *a); /* "io_uring" or "threads" */

/* --- Throttling (blk_throttle.c) ---------------------------------------------------------------------------------- */

enum { BLK_LIMIT_ALL, BLK_LIMIT_READ, BLK_LIMIT_WRITE, BLK_LIMITS };

struct blk_throttle {
    struct blk_limit {
        uint64_t rate, burst; /* a second; at once (0: a tenth of a second's); rate 0: no limit */
        double level;         /* of the bucket, in the same units */
    } bytes[BLK_LIMITS], ops[BLK_LIMITS];
    uint64_t op_size; /* iops-size=: a longer request counts as several; 0: as one */
    int64_t last;     /* us, when levels were right */
};

bool blk_throttle_on(const struct blk_throttle *t);
/* Microseconds until a request may go; 0: now, and it is accounted for. */
int64_t blk_throttle_wait(struct blk_throttle *t, bool write, uint64_t bytes, int64_t now);
/* Takes throttling.iops-total=, iops=, bps_rd= and so on. */
bool blk_throttle_options(struct blk_throttle *t, struct opts *o, GError **err);

/* --- A drive (blk.c, blk_drive.c) --------------------------------------------------------------------------------- */

enum blk_policy { BLK_POLICY_REPORT, BLK_POLICY_IGNORE, BLK_POLICY_STOP, BLK_POLICY_ENOSPC };

struct blk {
    struct machine *machine;
    GMainContext *loop;
    char *id;
    struct blk_drive drive;
    struct blk_node *root; /* NULL: no medium */
    struct blk_async *async;
    const struct blk_front_ops *front;
    void *front_opaque;
    unsigned flags; /* enum blk_open_flags, for the next medium, too */
    bool read_only, auto_read_only, snapshot;
    bool write_cache;
    bool unmap;        /* discard=unmap */
    bool detect_zeroes, detect_unmap;
    enum blk_policy on_read_error, on_write_error;
    unsigned under_way; /* submitted and not done; those that are held back included */
    struct blk_throttle throttle;
    struct blk_request *held[2], **held_tail[2]; /* reads, writes */
    GSource *held_timer;
    uint64_t order; /* of the next one that is held back */
    bool draining;
};

/* Without a medium, of no machine, in no table; NULL: the default loop. */
struct blk *blk_alloc(const char *id, GMainContext *loop);
void blk_free(struct blk *b); /* drains, closes */
/* Takes all options but those of its place, and opens `file`, if that is not NULL. Once. */
bool blk_configure(struct blk *b, struct opts *o, const char *file, const char *format, GError **err);
/* Puts the image in; fails if there is one. The front end is not told. */
bool blk_open(struct blk *b, const char *file, const char *format, struct opts *o, GError **err);

#endif
