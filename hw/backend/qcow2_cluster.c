/*
 * qcow2: where the clusters of the guest's disk are; reading and writing them.
 *
 * A cluster that is used once is written in place. Any other write takes new clusters, writes them whole (what the guest
 * did not write comes from where it was before), and then changes the L2 entries; what they named before is given back.
 * Reads and writes in place that need no more than tables in memory are begun at once by the file's own means (start()).
 */
#include "hw/backend/qcow2.h"

#include <errno.h>
#include <string.h>

#define NEW_MAX (UINT64_C(8) << 20)  /* bytes that are given clusters at once */
#define PENDING_MAX 4096             /* runs that wait to be free */

/* --- Looking up ---------------------------------------------------------------------------------------------------- */

enum qcow2_kind qcow2_entry_kind(const struct qcow2 *s, uint64_t entry)
{
    if (entry & QCOW2_COMPRESSED)
        return QCOW2_PACKED;
    if ((entry & QCOW2_ZERO) && s->version >= 3)
        return entry & QCOW2_OFFSET ? QCOW2_ZERO_ALLOCATED : QCOW2_ZERO_PLAIN;
    return entry & QCOW2_OFFSET ? QCOW2_NORMAL : QCOW2_UNALLOCATED;
}

void qcow2_packed_place(const struct qcow2 *s, uint64_t entry, uint64_t *offset, uint64_t *bytes)
{
    unsigned shift = 62 - (s->cluster_bits - 8);
    uint64_t sectors = (entry >> shift & ((UINT64_C(1) << (s->cluster_bits - 8)) - 1)) + 1;
    *offset = entry & ((UINT64_C(1) << shift) - 1);
    *bytes = sectors * 512 - (*offset & 511);
}

static bool entry_is_wrong(const struct qcow2 *s, uint64_t entry)
{
    if (entry & QCOW2_COMPRESSED)
        return (entry & QCOW2_COPIED) != 0;
    return (entry & QCOW2_L2_RESERVED) || ((entry & QCOW2_ZERO) && s->version < 3) ||
           qcow2_into(s, entry & QCOW2_OFFSET);
}

static unsigned per_slice(const struct qcow2 *s)
{
    return (unsigned)(s->l2s.slice_size / 8);
}

/* Of the L2 table at `table`: the slice with the entry for that offset, and which one it is. */
static uint64_t slice_for(const struct qcow2 *s, uint64_t table, uint64_t offset, unsigned *index)
{
    uint64_t i = offset >> s->cluster_bits & ((UINT64_C(1) << s->l2_bits) - 1);
    *index = (unsigned)(i % per_slice(s));
    return table + i / per_slice(s) * s->l2s.slice_size;
}

/* The place of the L2 table; 0: there is none. */
static int table_for(struct qcow2 *s, uint64_t offset, uint64_t *table)
{
    uint64_t i = offset >> (s->cluster_bits + s->l2_bits), entry = i < s->l1_size ? s->l1[i] : 0;
    *table = entry & QCOW2_OFFSET;
    if ((entry & QCOW2_L1_RESERVED) || qcow2_into(s, *table))
        return qcow2_damaged(s, "L1 entry %" G_GUINT64_FORMAT " is 0x%" G_GINT64_MODIFIER "x", i, entry);
    return 0;
}

/* Does the next entry go on where this one left off? */
static bool goes_on(const struct qcow2 *s, uint64_t first, uint64_t n, uint64_t entry)
{
    enum qcow2_kind kind = qcow2_entry_kind(s, first);
    if (kind == QCOW2_PACKED || qcow2_entry_kind(s, entry) != kind || entry_is_wrong(s, entry))
        return false;
    if (kind == QCOW2_UNALLOCATED || kind == QCOW2_ZERO_PLAIN)
        return true;
    return entry == first + (n << s->cluster_bits);
}

int qcow2_map_run(struct qcow2 *s, uint64_t offset, uint64_t bytes, enum qcow2_get how, struct qcow2_run *run)
{
    uint64_t span = s->cluster_size << s->l2_bits, table, into = qcow2_into(s, offset), n = 1;
    unsigned index;
    *run = (struct qcow2_run){ .kind = QCOW2_UNALLOCATED, .bytes = MIN(bytes, span - (offset & (span - 1))) };
    int ret = table_for(s, offset, &table);
    if (ret || !table)
        return ret;
    const uint64_t *l2 = qcow2_cache_get(s, &s->l2s, slice_for(s, table, offset, &index), how, &ret);
    if (!l2)
        return ret ? ret : -EAGAIN;
    uint64_t first = GUINT64_FROM_BE(l2[index]);
    if (entry_is_wrong(s, first))
        return qcow2_damaged(s, "L2 entry of guest offset 0x%" G_GINT64_MODIFIER "x is 0x%" G_GINT64_MODIFIER "x", offset, first);
    while (index + n < per_slice(s) && (n << s->cluster_bits) - into < run->bytes &&
           goes_on(s, first, n, GUINT64_FROM_BE(l2[index + n])))
        n++;
    run->kind = qcow2_entry_kind(s, first);
    run->copied = first & QCOW2_COPIED;
    run->bytes = MIN(run->bytes, (n << s->cluster_bits) - into);
    run->host = run->kind == QCOW2_PACKED ? first : (first & QCOW2_OFFSET) + into;
    return 0;
}

/* A new L2 table with what is in the old one, if there is one. */
static int new_table(struct qcow2 *s, uint64_t l1_index)
{
    uint64_t old = s->l1[l1_index] & QCOW2_OFFSET, table;
    g_autofree uint8_t *copy = g_malloc(s->l2s.slice_size);
    int ret = qcow2_alloc_contiguous(s, 1, &table);
    for (uint64_t at = 0; !ret && at < s->cluster_size; at += s->l2s.slice_size) {
        const void *from = old ? qcow2_cache_get(s, &s->l2s, old + at, QCOW2_READ, &ret) : NULL;
        if (from)
            memcpy(copy, from, s->l2s.slice_size);
        void *to = ret ? NULL : qcow2_cache_get(s, &s->l2s, table + at, QCOW2_NEW, &ret);
        if (to && from)
            memcpy(to, copy, s->l2s.slice_size);
    }
    if (ret)
        return ret;
    s->l1[l1_index] = table | QCOW2_COPIED;
    s->l1_dirty_from = s->l1_dirty_to ? MIN(s->l1_dirty_from, (uint32_t)l1_index) : (uint32_t)l1_index;
    s->l1_dirty_to = MAX(s->l1_dirty_to, (uint32_t)l1_index + 1);
    if (old) {
        qcow2_cache_drop(s, &s->l2s, old);
        qcow2_free(s, old, s->cluster_size);
    }
    return 0;
}

uint64_t *qcow2_l2_writable(struct qcow2 *s, uint64_t offset, unsigned *index, uint64_t *slice, int *ret)
{
    uint64_t i = offset >> (s->cluster_bits + s->l2_bits), table;
    g_assert(i < s->l1_size);
    *ret = s->corrupt ? -EIO : table_for(s, offset, &table);
    if (!*ret && !(s->l1[i] & QCOW2_COPIED))
        *ret = new_table(s, i);
    if (*ret)
        return NULL;
    *slice = slice_for(s, s->l1[i] & QCOW2_OFFSET, offset, index);
    return qcow2_cache_get(s, &s->l2s, *slice, QCOW2_READ, ret);
}

void qcow2_free_entry(struct qcow2 *s, uint64_t entry)
{
    uint64_t offset, bytes;
    switch (qcow2_entry_kind(s, entry)) {
    case QCOW2_UNALLOCATED:
    case QCOW2_ZERO_PLAIN: return;
    case QCOW2_NORMAL:
    case QCOW2_ZERO_ALLOCATED: qcow2_free(s, entry & QCOW2_OFFSET, s->cluster_size); return;
    case QCOW2_PACKED:
        qcow2_packed_place(s, entry, &offset, &bytes);
        qcow2_free(s, offset, bytes);
        return;
    }
}

/* --- Reading ------------------------------------------------------------------------------------------------------- */

static int read_backing(struct qcow2 *s, uint64_t offset, uint64_t bytes, const struct blk_vec *v)
{
    struct blk_node *b = s->node.backing;
    uint64_t there = b && offset < b->size ? MIN(bytes, b->size - offset) : 0;
    struct blk_vec rest = blk_vec_behind(*v, there);
    blk_vec_zero(&rest, bytes - there);
    return there ? blk_node_read(b, offset, there, v) : 0;
}

static int read_packed(struct qcow2 *s, uint64_t entry, uint64_t into, uint64_t bytes, const struct blk_vec *v)
{
    uint64_t offset, len;
    int ret = 0;
    pthread_mutex_lock(&s->unpack_lock);
    if (s->unpacked_entry != entry) {
        qcow2_packed_place(s, entry, &offset, &len);
        g_autofree uint8_t *packed = g_malloc(len);
        s->unpacked_entry = 0;
        if (!s->unpacked)
            s->unpacked = g_malloc(s->cluster_size);
        ret = blk_node_pread(s->node.file, offset, packed, len);
        if (!ret && !qcow2_unpack(s->compression, packed, len, s->unpacked, s->cluster_size))
            ret = -EIO;
        if (!ret)
            s->unpacked_entry = entry;
    }
    if (!ret)
        blk_vec_from(v, s->unpacked + into, bytes);
    pthread_mutex_unlock(&s->unpack_lock);
    return ret;
}

static int read_run(struct qcow2 *s, const struct qcow2_run *run, uint64_t offset, const struct blk_vec *v)
{
    switch (run->kind) {
    case QCOW2_UNALLOCATED: return read_backing(s, offset, run->bytes, v);
    case QCOW2_NORMAL: return blk_node_read(s->node.file, run->host, run->bytes, v);
    case QCOW2_PACKED: return read_packed(s, run->host, qcow2_into(s, offset), run->bytes, v);
    case QCOW2_ZERO_PLAIN:
    case QCOW2_ZERO_ALLOCATED: break;
    }
    blk_vec_zero(v, run->bytes);
    return 0;
}

/* Of a stretch that is on the list already. */
static int read_all(struct qcow2 *s, uint64_t offset, uint64_t bytes, struct blk_vec v)
{
    int ret = 0;
    while (bytes && !ret) {
        struct qcow2_run run;
        pthread_mutex_lock(&s->lock);
        ret = qcow2_map_run(s, offset, bytes, QCOW2_READ, &run);
        pthread_mutex_unlock(&s->lock);
        if (ret)
            break;
        ret = read_run(s, &run, offset, &v);
        offset += run.bytes;
        bytes -= run.bytes;
        v.skip += run.bytes;
    }
    return ret;
}

int qcow2_read(struct blk_node *n, uint64_t offset, uint64_t bytes, const struct blk_vec *v)
{
    struct qcow2 *s = qcow2(n);
    struct qcow2_range r;
    qcow2_range_enter(s, &r, offset, bytes, false);
    int ret = read_all(s, offset, bytes, *v);
    qcow2_range_leave(s, &r);
    return ret;
}

/* --- Writing ------------------------------------------------------------------------------------------------------- */

/* Clusters that a write is to go to. */
struct fresh {
    uint64_t start, host, count; /* guest's and file's byte, both of a cluster */
    bool blank;                  /* the file has never had anything there */
    bool copied;                 /* some of what goes there is older than the write */
};

/* How many entries from `index` on are to be replaced, up to `count`. */
static uint64_t replaceable(const struct qcow2 *s, const uint64_t *l2, unsigned index, uint64_t count)
{
    uint64_t n = 1;
    for (; n < count && index + n < per_slice(s); n++) {
        uint64_t e = GUINT64_FROM_BE(l2[index + n]);
        bool in_place = qcow2_entry_kind(s, e) == QCOW2_NORMAL && (e & QCOW2_COPIED);
        if (in_place || (qcow2_entry_kind(s, e) == QCOW2_ZERO_ALLOCATED && (e & QCOW2_COPIED)))
            break;
    }
    return n;
}

/* Clusters for the write: those that were kept beneath zeros, or new ones. */
static int take_clusters(struct qcow2 *s, uint64_t bytes, struct fresh *f)
{
    unsigned index;
    uint64_t slice, want = qcow2_clusters(s, MIN(bytes, NEW_MAX));
    int ret;
    const uint64_t *l2 = qcow2_l2_writable(s, f->start, &index, &slice, &ret);
    if (!l2)
        return ret;
    uint64_t first = GUINT64_FROM_BE(l2[index]);
    if (qcow2_entry_kind(s, first) == QCOW2_ZERO_ALLOCATED && (first & QCOW2_COPIED)) {
        for (f->count = 1; f->count < want && index + f->count < per_slice(s); f->count++) {
            if (!goes_on(s, first, f->count, GUINT64_FROM_BE(l2[index + f->count])))
                break;
        }
        f->host = first & QCOW2_OFFSET;
        f->blank = false;
        return qcow2_check_overlap(s, f->host, f->count << s->cluster_bits);
    }
    f->count = replaceable(s, l2, index, want);
    ret = qcow2_alloc(s, &f->count, &f->host);
    f->blank = !ret && f->host >= __atomic_load_n(&s->node.file->size, __ATOMIC_RELAXED);
    return ret;
}

/* The L2 entries name the new clusters from now on. */
static int commit_clusters(struct qcow2 *s, const struct fresh *f)
{
    s->copied_data |= f->copied;
    for (uint64_t i = 0; i < f->count; i++) {
        unsigned index;
        uint64_t slice;
        int ret;
        uint64_t *l2 = qcow2_l2_writable(s, f->start + (i << s->cluster_bits), &index, &slice, &ret);
        if (!l2)
            return ret;
        uint64_t old = GUINT64_FROM_BE(l2[index]), host = f->host + (i << s->cluster_bits);
        l2[index] = GUINT64_TO_BE(host | QCOW2_COPIED);
        qcow2_cache_dirty(&s->l2s, slice);
        if (qcow2_entry_kind(s, old) == QCOW2_PACKED || (old & QCOW2_OFFSET) != host)
            qcow2_free_entry(s, old);
    }
    return 0;
}

/* Does the guest's cluster read as zeros, so that nothing has to be fetched? */
static int reads_zero(struct qcow2 *s, uint64_t offset, bool *zero)
{
    struct qcow2_run run;
    pthread_mutex_lock(&s->lock);
    int ret = qcow2_map_run(s, offset, 1, QCOW2_READ, &run);
    pthread_mutex_unlock(&s->lock);
    bool backed = s->node.backing && offset < s->node.backing->size;
    *zero = !ret && (run.kind == QCOW2_ZERO_PLAIN || run.kind == QCOW2_ZERO_ALLOCATED ||
                     (run.kind == QCOW2_UNALLOCATED && !backed));
    return ret;
}

/* What the guest does not write of a cluster: [offset, offset + len) as it was, to the new place. */
static int fill_edge(struct qcow2 *s, struct fresh *f, uint64_t offset, uint64_t len)
{
    bool zero;
    if (!len)
        return 0;
    int ret = reads_zero(s, offset & ~(s->cluster_size - 1), &zero);
    if (ret || (zero && f->blank))
        return ret;
    g_autofree uint8_t *buf = g_malloc0(len);
    if (!zero) {
        struct iovec iov;
        struct blk_vec v = blk_vec_one(&iov, buf, len);
        ret = read_all(s, offset, len, v);
        f->copied = true;
    }
    return ret ? ret : blk_node_pwrite(s->node.file, f->host + (offset - f->start), buf, len);
}

/* The file's part of it: data and edges. */
static int write_clusters(struct qcow2 *s, struct fresh *f, uint64_t offset, uint64_t bytes, const struct blk_vec *v)
{
    uint64_t end = f->start + (f->count << s->cluster_bits), head = offset - f->start, tail = end - (offset + bytes);
    int ret = 0;
    if (f->blank && (head || tail))
        ret = blk_node_write_zeroes(s->node.file, f->host, f->count << s->cluster_bits, BLK_UNMAP);
    if (!ret)
        ret = fill_edge(s, f, f->start, head);
    if (!ret)
        ret = fill_edge(s, f, offset + bytes, tail);
    return ret ? ret : blk_node_write(s->node.file, f->host + head, bytes, v);
}

static int write_new(struct qcow2 *s, uint64_t offset, uint64_t *bytes, const struct blk_vec *v)
{
    uint64_t head = qcow2_into(s, offset);
    struct fresh f = { .start = offset - head };
    pthread_mutex_lock(&s->lock);
    int ret = take_clusters(s, head + *bytes, &f);
    pthread_mutex_unlock(&s->lock);
    if (ret)
        return ret;
    *bytes = MIN(*bytes, (f.count << s->cluster_bits) - head);
    ret = write_clusters(s, &f, offset, *bytes, v);
    pthread_mutex_lock(&s->lock);
    if (!ret)
        ret = commit_clusters(s, &f);
    if (s->pending->len > PENDING_MAX && !ret)
        ret = qcow2_write_tables(s, false);
    pthread_mutex_unlock(&s->lock);
    return ret; /* after an error new clusters are lost until the image is checked */
}

int qcow2_write(struct blk_node *n, uint64_t offset, uint64_t bytes, const struct blk_vec *v)
{
    struct qcow2 *s = qcow2(n);
    struct qcow2_range r;
    struct blk_vec at = *v;
    int ret = 0;
    qcow2_range_enter(s, &r, offset, bytes, true);
    while (bytes && !ret) {
        struct qcow2_run run;
        pthread_mutex_lock(&s->lock);
        ret = s->corrupt ? -EIO : qcow2_map_run(s, offset, bytes, QCOW2_READ, &run);
        bool in_place = !ret && run.kind == QCOW2_NORMAL && run.copied;
        if (in_place)
            ret = qcow2_check_overlap(s, run.host, run.bytes);
        pthread_mutex_unlock(&s->lock);
        if (ret)
            break;
        uint64_t done = in_place ? run.bytes : bytes;
        ret = in_place ? blk_node_write(n->file, run.host, done, &at) : write_new(s, offset, &done, &at);
        offset += done;
        bytes -= done;
        at.skip += done;
    }
    qcow2_range_leave(s, &r);
    return ret;
}

/* --- Without waiting ----------------------------------------------------------------------------------------------- */

struct started {
    struct blk_request r; /* of the file */
    struct qcow2 *s;
    struct blk_request *parent;
    struct qcow2_range range;
};

static void started_done(struct blk_request *r, int ret)
{
    struct started *t = container_of(r, struct started, r);
    struct blk_request *parent = t->parent;
    qcow2_range_leave(t->s, &t->range);
    g_free(t);
    parent->finish(parent, ret);
}

static bool begin(struct started *t, struct qcow2_run *run)
{
    struct qcow2 *s = t->s;
    struct blk_request *p = t->parent;
    if (pthread_mutex_trylock(&s->lock) != 0)
        return false;
    bool good = !s->corrupt && qcow2_map_run(s, p->offset, p->bytes, QCOW2_PEEK, run) == 0 && run->bytes == p->bytes &&
                run->kind == QCOW2_NORMAL && (p->op == BLK_READ || run->copied) &&
                (p->op == BLK_READ || qcow2_check_overlap(s, run->host, run->bytes) == 0);
    pthread_mutex_unlock(&s->lock);
    return good;
}

bool qcow2_start(struct blk_node *n, struct blk_request *r)
{
    struct qcow2 *s = qcow2(n);
    struct qcow2_run run;
    if (r->op == BLK_FLUSH || !n->file->driver->start)
        return false;
    struct started *t = g_new0(struct started, 1);
    t->s = s;
    t->parent = r;
    t->range = (struct qcow2_range){ .start = r->offset, .end = r->offset + r->bytes };
    if (qcow2_range_try(s, &t->range)) {
        if (begin(t, &run)) {
            t->r = (struct blk_request){ .op = r->op, .offset = run.host, .bytes = r->bytes, .node = n->file, .vec = r->vec,
                                         .vec_bytes = r->vec_bytes, .finish = started_done };
            if (n->file->driver->start(n->file, &t->r))
                return true;
        }
        qcow2_range_leave(s, &t->range);
    }
    g_free(t);
    return false;
}

/* --- Zeros and holes ------------------------------------------------------------------------------------------------ */

/* What becomes of an entry; `keep`: its cluster stays, where that can be. */
static uint64_t cleared_entry(const struct qcow2 *s, uint64_t old, bool keep)
{
    enum qcow2_kind kind = qcow2_entry_kind(s, old);
    if (keep && (kind == QCOW2_NORMAL || kind == QCOW2_ZERO_ALLOCATED) && (old & QCOW2_COPIED))
        return old | QCOW2_ZERO;
    if (s->version < 3 || (kind == QCOW2_UNALLOCATED && !s->backing_name))
        return 0;
    return QCOW2_ZERO;
}

/* Whole clusters read as zeros from now on. */
static int clear_clusters(struct qcow2 *s, uint64_t start, uint64_t end, bool keep)
{
    int ret = 0;
    for (uint64_t at = start; at < end && !ret; at += s->cluster_size) {
        struct qcow2_run run;
        unsigned index;
        uint64_t slice;
        ret = s->corrupt ? -EIO : qcow2_map_run(s, at, end - at, QCOW2_READ, &run);
        if (ret)
            break;
        if (run.kind == QCOW2_ZERO_PLAIN || (run.kind == QCOW2_UNALLOCATED && !s->backing_name)) {
            uint64_t whole = run.bytes & ~(s->cluster_size - 1);
            at += whole ? whole - s->cluster_size : 0;
            continue;
        }
        uint64_t *l2 = qcow2_l2_writable(s, at, &index, &slice, &ret);
        if (!l2)
            break;
        uint64_t old = GUINT64_FROM_BE(l2[index]), entry = cleared_entry(s, old, keep);
        l2[index] = GUINT64_TO_BE(entry);
        qcow2_cache_dirty(&s->l2s, slice);
        if (!(entry & QCOW2_OFFSET))
            qcow2_free_entry(s, old);
        if (s->pending->len > PENDING_MAX)
            ret = qcow2_write_tables(s, false);
    }
    return ret;
}

/* The whole clusters in a stretch; the last one of the disk counts as whole. False: none. */
static bool whole_clusters(const struct qcow2 *s, uint64_t offset, uint64_t bytes, uint64_t *start, uint64_t *end)
{
    uint64_t stop = offset + bytes;
    *start = qcow2_clusters(s, offset) << s->cluster_bits;
    *end = stop == s->node.size ? qcow2_clusters(s, stop) << s->cluster_bits : stop & ~(s->cluster_size - 1);
    return *start < *end;
}

int qcow2_discard(struct blk_node *n, uint64_t offset, uint64_t bytes)
{
    struct qcow2 *s = qcow2(n);
    struct qcow2_range r;
    uint64_t start, end;
    /* Without a zero flag what is below would show. */
    if (!whole_clusters(s, offset, bytes, &start, &end) || (s->version < 3 && s->backing_name))
        return 0;
    qcow2_range_enter(s, &r, start, end - start, true);
    pthread_mutex_lock(&s->lock);
    int ret = clear_clusters(s, start, end, false);
    pthread_mutex_unlock(&s->lock);
    qcow2_range_leave(s, &r);
    return ret;
}

/* Part of a cluster. */
static int zero_part(struct blk_node *n, uint64_t offset, uint64_t bytes)
{
    struct qcow2 *s = qcow2(n);
    bool zero = false;
    if (!bytes)
        return 0;
    int ret = reads_zero(s, offset, &zero);
    if (ret || zero)
        return ret;
    g_autofree uint8_t *zeros = g_malloc0(bytes);
    return blk_node_pwrite(n, offset, zeros, bytes);
}

int qcow2_write_zeroes(struct blk_node *n, uint64_t offset, uint64_t bytes, unsigned flags)
{
    struct qcow2 *s = qcow2(n);
    struct qcow2_range r;
    uint64_t start, end, stop = offset + bytes;
    if (s->version < 3)
        return -ENOTSUP;
    bool whole = whole_clusters(s, offset, bytes, &start, &end);
    int ret = zero_part(n, offset, MIN(stop, start) - offset);
    if (!ret && MAX(start, end) < stop)
        ret = zero_part(n, MAX(start, end), stop - MAX(start, end));
    if (ret || !whole)
        return ret;
    qcow2_range_enter(s, &r, start, end - start, true);
    pthread_mutex_lock(&s->lock);
    ret = clear_clusters(s, start, end, !(flags & BLK_UNMAP));
    pthread_mutex_unlock(&s->lock);
    qcow2_range_leave(s, &r);
    return ret;
}

/* --- Compressed clusters, and clusters in advance --------------------------------------------------------------------- */

/* One cluster; `len` bytes of what it is compressed to. */
static int commit_packed(struct qcow2 *s, uint64_t offset, const void *packed, size_t len)
{
    uint64_t host = 0, slice;
    unsigned index, shift = 62 - (s->cluster_bits - 8);
    pthread_mutex_lock(&s->lock);
    int ret = qcow2_alloc_bytes(s, len, &host);
    if (!ret && host >> shift)
        ret = -EFBIG;
    if (!ret)
        ret = qcow2_check_overlap(s, host, len);
    pthread_mutex_unlock(&s->lock);
    if (!ret)
        ret = blk_node_pwrite(s->node.file, host, packed, len);
    if (ret)
        return ret;
    pthread_mutex_lock(&s->unpack_lock);
    s->unpacked_entry = 0;
    pthread_mutex_unlock(&s->unpack_lock);
    pthread_mutex_lock(&s->lock);
    uint64_t *l2 = qcow2_l2_writable(s, offset, &index, &slice, &ret);
    if (l2) {
        uint64_t sectors = ((host + len - 1) >> 9) - (host >> 9), old = GUINT64_FROM_BE(l2[index]);
        l2[index] = GUINT64_TO_BE(QCOW2_COMPRESSED | sectors << shift | host);
        qcow2_cache_dirty(&s->l2s, slice);
        qcow2_free_entry(s, old);
    }
    pthread_mutex_unlock(&s->lock);
    return ret;
}

/* Whole clusters, but for the last one of the disk. */
int qcow2_write_compressed(struct blk_node *n, uint64_t offset, uint64_t bytes, const struct blk_vec *v)
{
    struct qcow2 *s = qcow2(n);
    struct blk_vec at = *v;
    g_autofree uint8_t *plain = g_malloc(s->cluster_size), *packed = g_malloc(s->cluster_size);
    int ret = qcow2_into(s, offset) || (qcow2_into(s, bytes) && offset + bytes != n->size) ? -EINVAL : 0;
    while (bytes && !ret) {
        uint64_t len = MIN(bytes, s->cluster_size);
        memset(plain, 0, s->cluster_size);
        blk_vec_to(&at, plain, len);
        size_t small = qcow2_pack(s->compression, plain, s->cluster_size, packed, s->cluster_size - 1);
        if (small) {
            struct qcow2_range r;
            qcow2_range_enter(s, &r, offset, s->cluster_size, true);
            ret = commit_packed(s, offset, packed, small);
            qcow2_range_leave(s, &r);
        } else {
            ret = qcow2_write(n, offset, len, &at);
        }
        offset += len;
        bytes -= len;
        at.skip += len;
    }
    return ret;
}

int qcow2_preallocate(struct qcow2 *s, uint64_t from, uint64_t to)
{
    int ret = 0;
    uint64_t at = from & ~(s->cluster_size - 1);
    pthread_mutex_lock(&s->lock);
    while (at < to && !ret) {
        struct qcow2_run run;
        ret = qcow2_map_run(s, at, to - at, QCOW2_READ, &run);
        if (ret)
            break;
        if (run.kind != QCOW2_UNALLOCATED) {
            at = (at + run.bytes + s->cluster_size - 1) & ~(s->cluster_size - 1);
            continue;
        }
        struct fresh f = { .start = at };
        ret = take_clusters(s, MIN(to - at, run.bytes), &f);
        if (!ret)
            ret = blk_node_write_zeroes(s->node.file, f.host, f.count << s->cluster_bits, BLK_UNMAP);
        if (!ret)
            ret = commit_clusters(s, &f);
        at += f.count << s->cluster_bits;
    }
    pthread_mutex_unlock(&s->lock);
    return ret;
}
