/*
 * Inside of the qcow2 driver: what hw/backend/qcow2*.c share. Nobody else includes this.
 *
 * A qcow2 image is clusters of 2^cluster_bits bytes. The L1 table names L2 tables, whose entries say where each cluster of
 * the guest's disk is; the refcount table names refcount blocks, which say how many times each cluster of the file is used.
 *
 * Two locks. `lock` guards all tables and may be held across reading and writing of tables, not of data. `ranges_lock`
 * guards the list of stretches of the guest's disk that somebody is busy with, and is never held for long. Whoever moves
 * data between the guest and clusters has its stretch on that list, so that nobody gives these clusters away meanwhile:
 * shared for reading and for writing in place, exclusive for everything that changes where a cluster is. Order: a place on
 * the list, then `lock`.
 */
#ifndef HW_BACKEND_QCOW2_H
#define HW_BACKEND_QCOW2_H

#include "hw/backend/blk_int.h"
#include "hw/core/device.h"

#include <pthread.h>

#define QCOW2_MAGIC 0x514649fb /* "QFI\xfb" */
#define QCOW2_MIN_CLUSTER_BITS 9
#define QCOW2_MAX_CLUSTER_BITS 21
#define QCOW2_L1_MAX (32u << 20)       /* bytes */
#define QCOW2_REFTABLE_MAX (8u << 20)  /* bytes */
#define QCOW2_SNAPSHOTS_MAX 65536
#define QCOW2_SNAPSHOT_TABLE_MAX (16u << 20)

/* Bits of the header's feature words. */
#define QCOW2_INCOMPAT_DIRTY (UINT64_C(1) << 0)
#define QCOW2_INCOMPAT_CORRUPT (UINT64_C(1) << 1)
#define QCOW2_INCOMPAT_DATA_FILE (UINT64_C(1) << 2)
#define QCOW2_INCOMPAT_COMPRESSION (UINT64_C(1) << 3)
#define QCOW2_INCOMPAT_EXTL2 (UINT64_C(1) << 4)
#define QCOW2_COMPAT_LAZY (UINT64_C(1) << 0)

/* Of L1 and L2 entries. */
#define QCOW2_COPIED (UINT64_C(1) << 63) /* used once: may be written in place */
#define QCOW2_COMPRESSED (UINT64_C(1) << 62)
#define QCOW2_ZERO UINT64_C(1)
#define QCOW2_OFFSET UINT64_C(0x00fffffffffffe00)
#define QCOW2_L1_RESERVED UINT64_C(0x7f000000000001ff)
#define QCOW2_L2_RESERVED UINT64_C(0x3f000000000001fe)

/* The header as it is in the file, big-endian; version 2 ends before `incompatible`. */
struct qcow2_header {
    uint32_t magic, version;
    uint64_t backing_offset;
    uint32_t backing_size, cluster_bits;
    uint64_t size;
    uint32_t crypt_method, l1_size;
    uint64_t l1_offset, reftable_offset;
    uint32_t reftable_clusters, snapshot_count;
    uint64_t snapshots_offset;
    uint64_t incompatible, compatible, autoclear;
    uint32_t refcount_order, header_length;
    uint8_t compression_type, padding[7];
};
G_STATIC_ASSERT(sizeof(struct qcow2_header) == 112);
#define QCOW2_V2_HEADER 72

enum qcow2_compression { QCOW2_ZLIB, QCOW2_ZSTD };

/* Tables of the file that are in memory: slices of L2 tables or refcount blocks, a bounded number (qcow2_cache.c). */
struct qcow2_cache {
    GHashTable *slices; /* by offset in the file */
    GQueue used;        /* least recently used first */
    unsigned max, dirty;
    size_t slice_size;  /* bytes */
};

struct qcow2_snapshot {
    char *id, *name;
    uint64_t l1_offset;
    uint32_t l1_size, date_sec, date_nsec;
    uint64_t vm_clock_ns, vm_state_size, disk_size, icount;
    uint8_t *extra; /* behind what is above, kept */
    uint32_t extra_size;
};

struct qcow2_extension {
    uint32_t type, len;
    uint8_t *data;
};

/* Clusters of the file that nothing in memory uses any more, but tables in the file may. */
struct qcow2_pending {
    uint64_t cluster, count;
};

/* On the list of stretches that somebody is busy with. */
struct qcow2_range {
    uint64_t start, end;
    bool exclusive;
    struct qcow2_range *next; /* one that came later */
};

struct qcow2 {
    struct blk_node node;
    unsigned version, cluster_bits, l2_bits; /* an L2 table has 2^l2_bits entries */
    uint64_t cluster_size;
    unsigned refcount_order;
    uint64_t incompatible, compatible, autoclear;
    enum qcow2_compression compression;
    unsigned header_length;
    char *backing_name, *backing_format; /* as the header has them; NULL: none */
    GArray *extensions;                  /* struct qcow2_extension: those we do not know */

    pthread_mutex_t lock; /* all of the following */
    uint64_t *l1;
    uint32_t l1_size; /* entries */
    uint64_t l1_offset;
    uint32_t l1_dirty_from, l1_dirty_to; /* entries that the file does not have yet; to 0: none */
    uint64_t *reftable;
    uint32_t reftable_size, reftable_used; /* entries; up to the last that is not 0 */
    uint64_t reftable_offset;
    uint32_t reftable_dirty_from, reftable_dirty_to;
    struct qcow2_cache l2s, refblocks;
    uint64_t free_hint;     /* no free cluster before this one */
    uint64_t compressed_at; /* byte behind the last compressed cluster that was written; 0: none yet */
    GArray *pending;        /* struct qcow2_pending */
    bool copied_data;       /* data that was moved must be on disk before tables tell of it */
    bool lazy;              /* refcounts need not be in the file: the dirty bit says so */
    bool corrupt;           /* nothing may be written any more */
    bool quiet;             /* damage is counted by the check that is under way */
    GArray *snapshots;      /* struct qcow2_snapshot */
    uint64_t snapshots_offset, snapshots_bytes;

    pthread_mutex_t ranges_lock;
    pthread_cond_t ranges_cond;
    struct qcow2_range *ranges;

    pthread_mutex_t unpack_lock; /* the cluster that was uncompressed last */
    uint64_t unpacked_entry;
    uint8_t *unpacked;
};

static inline struct qcow2 *qcow2(struct blk_node *n)
{
    return (struct qcow2 *)n;
}

static inline uint64_t qcow2_clusters(const struct qcow2 *s, uint64_t bytes)
{
    return (bytes + s->cluster_size - 1) >> s->cluster_bits;
}

static inline uint64_t qcow2_into(const struct qcow2 *s, uint64_t offset)
{
    return offset & (s->cluster_size - 1);
}

/* Size of a refcount block, in refcounts. */
static inline uint64_t qcow2_refblock_entries(const struct qcow2 *s)
{
    return s->cluster_size * 8 >> s->refcount_order;
}

static inline uint64_t qcow2_refcount_max(const struct qcow2 *s)
{
    return s->refcount_order == 6 ? UINT64_MAX : (UINT64_C(1) << (1u << s->refcount_order)) - 1;
}

/* Entries of the L1 table for a disk of that size. */
static inline uint64_t qcow2_l1_entries(unsigned cluster_bits, uint64_t size)
{
    unsigned shift = 2 * cluster_bits - 3;
    return (size >> shift) + ((size & ((UINT64_C(1) << shift) - 1)) != 0);
}

/* --- qcow2.c ------------------------------------------------------------------------------------------------------ */

/*
 * Damage: says so once, sets the header's corrupt bit and lets nothing be written any more. Returns -EIO. Lock.
 */
int qcow2_damaged(struct qcow2 *s, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
/* Writes fields of the header that start at `offset`. */
int qcow2_write_header(struct qcow2 *s, size_t offset, const void *buf, size_t len);
int qcow2_write_features(struct qcow2 *s);
/* On stable storage, unless cache=unsafe. */
int qcow2_sync(struct qcow2 *s);
/* The whole header anew, with extensions and the backing image's name. */
bool qcow2_rewrite_header(struct qcow2 *s, GError **err);
/* Sets what the header says of the backing image; NULL: none. Nothing is opened. */
bool qcow2_set_backing(struct blk_node *n, const char *name, const char *format, GError **err);
void qcow2_range_enter(struct qcow2 *s, struct qcow2_range *r, uint64_t offset, uint64_t bytes, bool exclusive);
/* Only if nobody is there. */
bool qcow2_range_try(struct qcow2 *s, struct qcow2_range *r);
void qcow2_range_leave(struct qcow2 *s, struct qcow2_range *r);
/* Makes room in the L1 table; never shrinks. Lock. */
int qcow2_grow_l1(struct qcow2 *s, uint64_t entries);

/* --- qcow2_cache.c; all with `lock` held ---------------------------------------------------------------------------- */

enum qcow2_get { QCOW2_READ, QCOW2_NEW, QCOW2_PEEK };

void qcow2_cache_init(struct qcow2_cache *c, size_t slice_size, size_t memory);
void qcow2_cache_free(struct qcow2_cache *c);
/*
 * The slice at that offset of the file: read if it is not here (QCOW2_READ), all zeros and dirty (QCOW2_NEW), or only if
 * it is here (QCOW2_PEEK: else NULL and 0). Good until the next call for the same cache. NULL on an error.
 */
void *qcow2_cache_get(struct qcow2 *s, struct qcow2_cache *c, uint64_t offset, enum qcow2_get how, int *ret);
void qcow2_cache_dirty(struct qcow2_cache *c, uint64_t offset);
/* Slices of a cluster that is no table any more are forgotten. */
void qcow2_cache_drop(struct qcow2 *s, struct qcow2_cache *c, uint64_t offset);
void qcow2_cache_drop_all(struct qcow2_cache *c);
/* Writes what is dirty. */
int qcow2_cache_write(struct qcow2 *s, struct qcow2_cache *c);
/*
 * Brings the file's tables up to date, in such an order that a crash at any moment leaves clusters that are counted but
 * not used, never the other way round; then the pending clusters are free. `all`: lazy refcounts, too.
 */
int qcow2_write_tables(struct qcow2 *s, bool all);

/* --- qcow2_refcount.c; all with `lock` held -------------------------------------------------------------------------- */

bool qcow2_load_reftable(struct qcow2 *s, uint32_t clusters, GError **err);
int qcow2_refcount(struct qcow2 *s, uint64_t cluster, uint64_t *count);
/* Adds to the counts of those clusters, whose block must exist if one becomes used; -ERANGE: it would not fit. */
int qcow2_refcount_add(struct qcow2 *s, uint64_t cluster, uint64_t count, int add);
int qcow2_refcount_set(struct qcow2 *s, uint64_t cluster, uint64_t value);
/* The first of 1 to *count adjacent clusters that are counted once now; *count may become less. */
int qcow2_alloc(struct qcow2 *s, uint64_t *count, uint64_t *offset);
/* Exactly that many. */
int qcow2_alloc_contiguous(struct qcow2 *s, uint64_t count, uint64_t *offset);
/* Space for `bytes` (at most a cluster) of a compressed cluster. */
int qcow2_alloc_bytes(struct qcow2 *s, uint64_t bytes, uint64_t *offset);
/* Once less used, as soon as tables in the file say so, too. */
void qcow2_free(struct qcow2 *s, uint64_t offset, uint64_t bytes);
int qcow2_free_pending(struct qcow2 *s);
/* Would writing there destroy a table? Then the image is damaged: -EIO. */
int qcow2_check_overlap(struct qcow2 *s, uint64_t offset, uint64_t bytes);
uint64_t qcow2_refcount_get(const void *block, unsigned order, uint64_t i);
void qcow2_refcount_put(void *block, unsigned order, uint64_t i, uint64_t value);

/* --- qcow2_cluster.c ------------------------------------------------------------------------------------------------ */

enum qcow2_kind { QCOW2_UNALLOCATED, QCOW2_ZERO_PLAIN, QCOW2_ZERO_ALLOCATED, QCOW2_NORMAL, QCOW2_PACKED };

struct qcow2_run {
    enum qcow2_kind kind;
    bool copied;
    uint64_t host;  /* byte in the file; of a compressed one: its entry */
    uint64_t bytes; /* from the offset that was asked for */
};

enum qcow2_kind qcow2_entry_kind(const struct qcow2 *s, uint64_t entry);
/* Where the compressed data is. */
void qcow2_packed_place(const struct qcow2 *s, uint64_t entry, uint64_t *offset, uint64_t *bytes);
/* What is at that offset and how far it goes on like this, within `bytes`. `how` QCOW2_PEEK: -EAGAIN if not in memory. Lock. */
int qcow2_map_run(struct qcow2 *s, uint64_t offset, uint64_t bytes, enum qcow2_get how, struct qcow2_run *run);
/* The slice of the L2 table for that offset, made or copied if it must be, to be written; *index: its entry in it. Lock. */
uint64_t *qcow2_l2_writable(struct qcow2 *s, uint64_t offset, unsigned *index, uint64_t *slice, int *ret);
/* What an L2 entry used is used once less. Lock. */
void qcow2_free_entry(struct qcow2 *s, uint64_t entry);

int qcow2_read(struct blk_node *n, uint64_t offset, uint64_t bytes, const struct blk_vec *v);
int qcow2_write(struct blk_node *n, uint64_t offset, uint64_t bytes, const struct blk_vec *v);
int qcow2_discard(struct blk_node *n, uint64_t offset, uint64_t bytes);
int qcow2_write_zeroes(struct blk_node *n, uint64_t offset, uint64_t bytes, unsigned flags);
int qcow2_write_compressed(struct blk_node *n, uint64_t offset, uint64_t bytes, const struct blk_vec *v);
bool qcow2_start(struct blk_node *n, struct blk_request *r);
/* Gives clusters to [from, to) that have none yet. */
int qcow2_preallocate(struct qcow2 *s, uint64_t from, uint64_t to);

/* --- qcow2_compress.c ------------------------------------------------------------------------------------------------ */

/* At most `room` bytes; 0: it does not become smaller. Any thread. */
size_t qcow2_pack(enum qcow2_compression how, const void *from, size_t len, void *to, size_t room);
bool qcow2_unpack(enum qcow2_compression how, const void *from, size_t len, void *to, size_t to_len);

/* --- qcow2_snapshot.c ------------------------------------------------------------------------------------------------- */

bool qcow2_load_snapshots(struct qcow2 *s, uint32_t count, uint64_t offset, GError **err);
void qcow2_free_snapshots(struct qcow2 *s);
GArray *qcow2_list_snapshots(struct blk_node *n);
bool qcow2_snapshot_create(struct blk_node *n, const char *name, GError **err);
bool qcow2_snapshot_apply(struct blk_node *n, const char *name, GError **err);
bool qcow2_snapshot_delete(struct blk_node *n, const char *name, GError **err);
bool qcow2_snapshot_show(struct blk_node *n, const char *name, GError **err);
bool qcow2_make_empty(struct blk_node *n, GError **err);
/* COPIED says of each entry whether it is true. Lock. */
int qcow2_update_copied(struct qcow2 *s, uint64_t *wrong);
/* The L1 table of a snapshot or so, in our byte order; caller frees. NULL: error. */
uint64_t *qcow2_read_l1(struct qcow2 *s, uint64_t offset, uint32_t entries, int *ret);

/* --- qcow2_create.c ------------------------------------------------------------------------------------------------------ */

bool qcow2_create(const char *path, uint64_t size, struct opts *o, GError **err);

/* --- qcow2_check.c ------------------------------------------------------------------------------------------------------ */

/* Counts anew and makes the file's refcounts right (the image was not closed properly). */
bool qcow2_check(struct blk_node *n, struct blk_check *c, enum blk_fix fix, GError **err);
bool qcow2_repair_dirty(struct qcow2 *s, GError **err);

#endif
