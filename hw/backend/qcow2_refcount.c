/*
 * qcow2: how many times each cluster of the file is used, and which are free.
 *
 * A refcount block counts itself, too. So a missing one is made of the cluster that was about to be taken, which lies in
 * what it counts. A refcount table that is full moves behind everything, with the blocks that count its new place.
 *
 * All with qcow2.lock held.
 */
#include "hw/backend/qcow2.h"

#include <errno.h>
#include <string.h>

#define OFFSET_MAX (UINT64_C(1) << 55)

uint64_t qcow2_refcount_get(const void *block, unsigned order, uint64_t i)
{
    const uint8_t *b = block;
    switch (order) {
    case 3: return b[i];
    case 4: return GUINT16_FROM_BE(((const uint16_t *)block)[i]);
    case 5: return GUINT32_FROM_BE(((const uint32_t *)block)[i]);
    case 6: return GUINT64_FROM_BE(((const uint64_t *)block)[i]);
    default: break;
    }
    unsigned bits = 1u << order, each = 8 / bits;
    return b[i / each] >> (i % each * bits) & ((1u << bits) - 1);
}

void qcow2_refcount_put(void *block, unsigned order, uint64_t i, uint64_t value)
{
    uint8_t *b = block;
    switch (order) {
    case 3: b[i] = (uint8_t)value; return;
    case 4: ((uint16_t *)block)[i] = GUINT16_TO_BE((uint16_t)value); return;
    case 5: ((uint32_t *)block)[i] = GUINT32_TO_BE((uint32_t)value); return;
    case 6: ((uint64_t *)block)[i] = GUINT64_TO_BE(value); return;
    default: break;
    }
    unsigned bits = 1u << order, each = 8 / bits, shift = (unsigned)(i % each) * bits;
    b[i / each] = (uint8_t)((b[i / each] & ~(((1u << bits) - 1) << shift)) | (unsigned)value << shift);
}

bool qcow2_load_reftable(struct qcow2 *s, uint32_t clusters, GError **err)
{
    uint64_t bytes = (uint64_t)clusters << s->cluster_bits;
    s->reftable_size = (uint32_t)(bytes / 8);
    s->reftable = g_malloc(bytes);
    int ret = blk_node_pread(s->node.file, s->reftable_offset, s->reftable, bytes);
    if (ret) {
        g_set_error(err, G_FILE_ERROR, g_file_error_from_errno(-ret), "'%s': its refcount table cannot be read: %s",
                    s->node.path, g_strerror(-ret));
        return false;
    }
    for (uint32_t i = 0; i < s->reftable_size; i++) {
        s->reftable[i] = GUINT64_FROM_BE(s->reftable[i]);
        if (s->reftable[i])
            s->reftable_used = i + 1;
    }
    return true;
}

/* --- Single counts ------------------------------------------------------------------------------------------------- */

/* The slice that counts this cluster; NULL and 0: there is no block, so that all of its clusters are free. */
static void *block_of(struct qcow2 *s, uint64_t cluster, uint64_t *slice, uint64_t *index, int *ret)
{
    uint64_t entries = qcow2_refblock_entries(s), b = cluster / entries;
    uint64_t per_slice = s->refblocks.slice_size * 8 >> s->refcount_order;
    *ret = 0;
    if (b >= s->reftable_size || !s->reftable[b])
        return NULL;
    if (qcow2_into(s, s->reftable[b]) || s->reftable[b] > OFFSET_MAX) {
        *ret = qcow2_damaged(s, "refcount block %" G_GUINT64_FORMAT " is at 0x%" G_GINT64_MODIFIER "x, which is no cluster", b,
                             s->reftable[b]);
        return NULL;
    }
    uint64_t i = cluster % entries;
    *slice = s->reftable[b] + i / per_slice * s->refblocks.slice_size;
    *index = i % per_slice;
    return qcow2_cache_get(s, &s->refblocks, *slice, QCOW2_READ, ret);
}

int qcow2_refcount(struct qcow2 *s, uint64_t cluster, uint64_t *count)
{
    uint64_t slice, index;
    int ret;
    void *block = block_of(s, cluster, &slice, &index, &ret);
    *count = block ? qcow2_refcount_get(block, s->refcount_order, index) : 0;
    return ret;
}

int qcow2_refcount_set(struct qcow2 *s, uint64_t cluster, uint64_t value)
{
    uint64_t slice, index;
    int ret;
    void *block = block_of(s, cluster, &slice, &index, &ret);
    if (!block)
        return ret ? ret : value ? -EIO : 0;
    qcow2_refcount_put(block, s->refcount_order, index, value);
    qcow2_cache_dirty(&s->refblocks, slice);
    if (!value && cluster < s->free_hint)
        s->free_hint = cluster;
    return 0;
}

int qcow2_refcount_add(struct qcow2 *s, uint64_t cluster, uint64_t count, int add)
{
    for (uint64_t i = 0; i < count; i++) {
        uint64_t value;
        int ret = qcow2_refcount(s, cluster + i, &value);
        if (!ret && add < 0 && !value)
            ret = qcow2_damaged(s, "cluster 0x%" G_GINT64_MODIFIER "x is in use, but not counted",
                                (cluster + i) << s->cluster_bits);
        if (!ret && add > 0 && value == qcow2_refcount_max(s))
            ret = -ERANGE;
        if (!ret)
            ret = qcow2_refcount_set(s, cluster + i, value + (uint64_t)(int64_t)add);
        if (ret) {
            if (i && add > 0)
                qcow2_refcount_add(s, cluster, i, -add);
            return ret;
        }
    }
    return 0;
}

/* --- More blocks, a longer table ----------------------------------------------------------------------------------- */

static int set_table_entry(struct qcow2 *s, uint64_t b, uint64_t offset)
{
    s->reftable[b] = offset;
    s->reftable_used = MAX(s->reftable_used, (uint32_t)b + 1);
    s->reftable_dirty_from = s->reftable_dirty_to ? MIN(s->reftable_dirty_from, (uint32_t)b) : (uint32_t)b;
    s->reftable_dirty_to = MAX(s->reftable_dirty_to, (uint32_t)b + 1);
    return 0;
}

/* All slices of a new block. */
static int clear_block(struct qcow2 *s, uint64_t offset)
{
    int ret = 0;
    for (uint64_t at = offset; !ret && at < offset + s->cluster_size; at += s->refblocks.slice_size)
        qcow2_cache_get(s, &s->refblocks, at, QCOW2_NEW, &ret);
    return ret;
}

/*
 * A table of at least `entries`, behind the last cluster that any block counts. It is written at once, and the header
 * changes over when all is there.
 */
static int grow_table(struct qcow2 *s, uint64_t entries)
{
    uint64_t per_block = qcow2_refblock_entries(s), first = s->reftable_size * per_block, blocks = 1, clusters;
    for (;;) {
        uint64_t want = MAX(entries + blocks, s->reftable_size + s->reftable_size / 2 + blocks);
        clusters = qcow2_clusters(s, want * 8);
        uint64_t need = (clusters + blocks + per_block - 1) / per_block;
        if (need <= blocks)
            break;
        blocks = need;
    }
    if (clusters << s->cluster_bits > QCOW2_REFTABLE_MAX)
        return -EFBIG;
    uint64_t size = (clusters << s->cluster_bits) / 8, old_offset = s->reftable_offset, old_size = s->reftable_size;
    uint64_t *old = s->reftable, offset = (first + blocks) << s->cluster_bits;
    int ret = qcow2_write_tables(s, true); /* the old table is right in the file */
    s->reftable = g_new0(uint64_t, size);
    memcpy(s->reftable, old, old_size * 8);
    s->reftable_size = (uint32_t)size;
    for (uint64_t i = 0; !ret && i < blocks; i++) {
        set_table_entry(s, old_size + i, (first + i) << s->cluster_bits);
        ret = clear_block(s, (first + i) << s->cluster_bits);
    }
    for (uint64_t c = first; !ret && c < first + blocks + clusters; c++)
        ret = qcow2_refcount_set(s, c, 1);
    if (!ret)
        ret = qcow2_cache_write(s, &s->refblocks);
    /* The whole of it, in its new place. */
    s->reftable_offset = offset;
    g_autofree uint64_t *be = g_new(uint64_t, size);
    for (uint64_t i = 0; i < size; i++)
        be[i] = GUINT64_TO_BE(s->reftable[i]);
    if (!ret)
        ret = blk_node_pwrite(s->node.file, offset, be, size * 8);
    s->reftable_dirty_from = s->reftable_dirty_to = 0;
    struct {
        uint64_t offset;
        uint32_t clusters;
    } __attribute__((packed)) field = { GUINT64_TO_BE(offset), GUINT32_TO_BE((uint32_t)clusters) };
    if (!ret)
        ret = qcow2_sync(s);
    if (!ret)
        ret = qcow2_write_header(s, offsetof(struct qcow2_header, reftable_offset), &field, sizeof field);
    if (!ret)
        ret = qcow2_sync(s);
    if (ret) { /* what the file says is not known */
        s->corrupt = true;
        g_free(old);
        return ret;
    }
    g_free(old);
    qcow2_free(s, old_offset, old_size * 8);
    return 0;
}

/* The block that counts `cluster` is missing: it is made of the free cluster `at`, which is counted by itself or exists. */
static int make_block(struct qcow2 *s, uint64_t cluster, uint64_t at)
{
    uint64_t entries = qcow2_refblock_entries(s), b = cluster / entries;
    if (b >= s->reftable_size)
        return grow_table(s, b + 1);
    int ret = clear_block(s, at << s->cluster_bits);
    if (!ret)
        ret = set_table_entry(s, b, at << s->cluster_bits);
    return ret ? ret : qcow2_refcount_set(s, at, 1);
}

static bool has_block(const struct qcow2 *s, uint64_t cluster)
{
    uint64_t b = cluster / qcow2_refblock_entries(s);
    return b < s->reftable_size && s->reftable[b];
}

/* --- Taking -------------------------------------------------------------------------------------------------------- */

/* The first run of free clusters from `from` on, up to `count` of them, or exactly that many. */
static int find_free(struct qcow2 *s, uint64_t from, uint64_t count, bool exact, uint64_t *first, uint64_t *found)
{
    uint64_t n = 0, c = from;
    for (; n < count; c++) {
        uint64_t used;
        int ret = qcow2_refcount(s, c, &used);
        if (ret)
            return ret;
        if (c << s->cluster_bits >= OFFSET_MAX)
            return -EFBIG;
        if (!used && n++ == 0)
            *first = c;
        if (used && n && !exact)
            break;
        if (used)
            n = 0;
    }
    *found = n;
    return 0;
}

static int take(struct qcow2 *s, uint64_t *count, bool exact, uint64_t *offset)
{
    uint64_t first = 0, n = 0;
    for (;;) {
        int ret = find_free(s, s->free_hint, *count, exact, &first, &n);
        if (ret)
            return ret;
        uint64_t missing = first;
        while (missing < first + n && has_block(s, missing))
            missing++;
        if (missing == first + n)
            break;
        ret = make_block(s, missing, first);
        if (ret)
            return ret;
    }
    uint64_t at = first << s->cluster_bits;
    int ret = qcow2_check_overlap(s, at, n << s->cluster_bits);
    if (!ret)
        ret = qcow2_refcount_add(s, first, n, 1);
    if (ret)
        return ret;
    if (first == s->free_hint)
        s->free_hint = first + n;
    *count = n;
    *offset = at;
    return 0;
}

int qcow2_alloc(struct qcow2 *s, uint64_t *count, uint64_t *offset)
{
    int ret = s->corrupt ? -EIO : take(s, count, false, offset);
    g_assert(ret || *count);
    return ret;
}

int qcow2_alloc_contiguous(struct qcow2 *s, uint64_t count, uint64_t *offset)
{
    return s->corrupt ? -EIO : take(s, &count, true, offset);
}

int qcow2_alloc_bytes(struct qcow2 *s, uint64_t bytes, uint64_t *offset)
{
    uint64_t at = s->compressed_at, into = qcow2_into(s, at), left = into ? s->cluster_size - into : 0;
    uint64_t cluster = at >> s->cluster_bits, used = 0, fresh = 0, one = 1;
    int ret = 0;
    if (left && (ret = qcow2_refcount(s, cluster, &used)))
        return ret;
    if (!used || used == qcow2_refcount_max(s))
        left = 0;
    if (bytes > left) {
        ret = qcow2_alloc(s, &one, &fresh);
        if (ret)
            return ret;
        if (!left || fresh != (cluster + 1) << s->cluster_bits) {
            *offset = fresh;
            s->compressed_at = fresh + bytes;
            return 0;
        }
    }
    /* Of the cluster that was begun, and maybe of the next. */
    ret = qcow2_refcount_add(s, cluster, 1, 1);
    if (ret)
        return ret;
    *offset = at;
    s->compressed_at = at + bytes;
    return 0;
}

/* --- Giving back --------------------------------------------------------------------------------------------------- */

void qcow2_free(struct qcow2 *s, uint64_t offset, uint64_t bytes)
{
    struct qcow2_pending p = { .cluster = offset >> s->cluster_bits };
    p.count = ((offset + bytes - 1) >> s->cluster_bits) - p.cluster + 1;
    if (s->pending->len) {
        struct qcow2_pending *last = &g_array_index(s->pending, struct qcow2_pending, s->pending->len - 1);
        if (last->cluster + last->count == p.cluster) {
            last->count += p.count;
            return;
        }
    }
    g_array_append_val(s->pending, p);
}

/* Those of the run that nobody uses any more go back to the host. */
static int release(struct qcow2 *s, const struct qcow2_pending *p)
{
    uint64_t from = 0, n = 0;
    for (uint64_t c = p->cluster; c <= p->cluster + p->count; c++) {
        uint64_t used = 1;
        int ret = c < p->cluster + p->count ? qcow2_refcount(s, c, &used) : 0;
        if (ret)
            return ret;
        if (!used && n++ == 0)
            from = c;
        if (used && n) {
            blk_node_discard(s->node.file, from << s->cluster_bits, n << s->cluster_bits);
            n = 0;
        }
    }
    return 0;
}

int qcow2_free_pending(struct qcow2 *s)
{
    GArray *pending = s->pending;
    int ret = 0;
    s->pending = g_array_new(FALSE, FALSE, sizeof(struct qcow2_pending));
    for (guint i = 0; i < pending->len && !ret; i++) {
        const struct qcow2_pending *p = &g_array_index(pending, struct qcow2_pending, i);
        ret = qcow2_refcount_add(s, p->cluster, p->count, -1);
        if (!ret)
            ret = release(s, p);
        if (s->compressed_at >> s->cluster_bits >= p->cluster && s->compressed_at >> s->cluster_bits < p->cluster + p->count)
            s->compressed_at = 0;
    }
    g_array_free(pending, TRUE);
    return ret;
}

/* --- What must not be written over ---------------------------------------------------------------------------------- */

int qcow2_check_overlap(struct qcow2 *s, uint64_t offset, uint64_t bytes)
{
    uint64_t end = offset + bytes, size = s->cluster_size;
    const char *what = NULL;
    if (offset < size)
        what = "the header";
    else if (offset < s->l1_offset + s->l1_size * UINT64_C(8) && end > s->l1_offset)
        what = "the L1 table";
    else if (offset < s->reftable_offset + s->reftable_size * UINT64_C(8) && end > s->reftable_offset)
        what = "the refcount table";
    else if (offset < s->snapshots_offset + s->snapshots_bytes && end > s->snapshots_offset)
        what = "the table of snapshots";
    for (uint32_t i = 0; !what && i < s->reftable_used; i++) {
        if (s->reftable[i] && offset < s->reftable[i] + size && end > s->reftable[i])
            what = "a refcount block";
    }
    for (uint32_t i = 0; !what && i < s->l1_size; i++) {
        uint64_t table = s->l1[i] & QCOW2_OFFSET;
        if (table && offset < table + size && end > table)
            what = "an L2 table";
    }
    return what ? qcow2_damaged(s, "a write to 0x%" G_GINT64_MODIFIER "x would destroy %s", offset, what) : 0;
}
