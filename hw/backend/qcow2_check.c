/*
 * qcow2: checking and repairing. Everything that the header leads to is counted, and the result compared with the
 * refcounts of the file. Too high is a leak; too low, or a table that cannot be right, is damage.
 *
 * Counts that are only wrong are put right in their place. If blocks of counts are missing or nowhere, all of them are
 * made anew behind the end of the file, and the header changes over.
 *
 * Nobody else uses the image meanwhile; under qcow2.lock.
 */
#include "hw/backend/qcow2.h"

#include "hw/core/log.h"
#include "hw/core/opts.h"

#include <errno.h>
#include <string.h>

#define CLUSTERS_MAX (UINT64_C(1) << 28) /* 1 GiB of counts */

struct check {
    struct qcow2 *s;
    struct blk_check *out;
    uint32_t *counts;
    uint64_t clusters;   /* of the file */
    bool rebuild;        /* the blocks of counts are not to be used */
    uint64_t wrong_host; /* references that lead nowhere: no counting helps */
};

static void tell(struct check *c, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
static void tell(struct check *c, const char *fmt, ...)
{
    va_list ap;
    if (!c->out->messages)
        return;
    va_start(ap, fmt);
    g_string_append_vprintf(c->out->messages, fmt, ap);
    va_end(ap);
    g_string_append_c(c->out->messages, '\n');
}

/* --- Counting ------------------------------------------------------------------------------------------------------ */

static void count(struct check *c, uint64_t offset, uint64_t bytes, const char *what)
{
    if (!bytes)
        return;
    uint64_t first = offset >> c->s->cluster_bits, last = (offset + bytes - 1) >> c->s->cluster_bits;
    if (offset > BLK_SIZE_MAX || last >= c->clusters) {
        tell(c, "ERROR: %s at 0x%" G_GINT64_MODIFIER "x is behind the end of the file", what, offset);
        c->out->corruptions++;
        c->wrong_host++;
        last = offset > BLK_SIZE_MAX ? 0 : c->clusters - 1;
        if (first > last || offset > BLK_SIZE_MAX)
            return;
    }
    for (uint64_t i = first; i <= last; i++)
        c->counts[i] += c->counts[i] < UINT32_MAX;
    if (what && last >= first)
        c->out->image_end = MAX(c->out->image_end, (last + 1) << c->s->cluster_bits);
}

static void count_entry(struct check *c, uint64_t entry, bool active, uint64_t *next)
{
    struct qcow2 *s = c->s;
    enum qcow2_kind kind = qcow2_entry_kind(s, entry);
    uint64_t offset = entry & QCOW2_OFFSET, bytes = s->cluster_size;
    if (kind == QCOW2_UNALLOCATED || kind == QCOW2_ZERO_PLAIN)
        return;
    if (kind == QCOW2_PACKED) {
        qcow2_packed_place(s, entry, &offset, &bytes);
    } else if (qcow2_into(s, offset)) {
        tell(c, "ERROR: L2 entry 0x%" G_GINT64_MODIFIER "x does not name a cluster", entry);
        c->out->corruptions++;
        c->wrong_host++;
        return;
    }
    if (active) {
        c->out->allocated++;
        c->out->compressed += kind == QCOW2_PACKED;
        c->out->fragmented += kind == QCOW2_PACKED || (*next && offset != *next);
        if (kind != QCOW2_PACKED)
            *next = offset + bytes;
    }
    count(c, offset, bytes, "a cluster of data");
}

static void count_l1(struct check *c, const uint64_t *l1, uint32_t entries, bool active)
{
    struct qcow2 *s = c->s;
    g_autofree uint64_t *l2 = g_malloc(s->cluster_size);
    for (uint32_t i = 0; i < entries; i++) {
        uint64_t table = l1[i] & QCOW2_OFFSET, next = 0;
        if (!table)
            continue;
        if (qcow2_into(s, table) || table >> s->cluster_bits >= c->clusters) {
            tell(c, "ERROR: L1 entry %u is 0x%" G_GINT64_MODIFIER "x, where no table is", i, l1[i]);
            c->out->corruptions++;
            c->wrong_host++;
            continue;
        }
        count(c, table, s->cluster_size, "an L2 table");
        if (blk_node_pread(s->node.file, table, l2, s->cluster_size)) {
            c->out->errors++;
            continue;
        }
        for (uint64_t k = 0; k < s->cluster_size / 8; k++)
            count_entry(c, GUINT64_FROM_BE(l2[k]), active, &next);
    }
}

static void count_snapshots(struct check *c)
{
    struct qcow2 *s = c->s;
    count(c, s->snapshots_offset, s->snapshots_bytes, "the table of snapshots");
    for (guint i = 0; i < s->snapshots->len; i++) {
        const struct qcow2_snapshot *n = &g_array_index(s->snapshots, struct qcow2_snapshot, i);
        int ret;
        g_autofree uint64_t *l1 = qcow2_read_l1(s, n->l1_offset, n->l1_size, &ret);
        if (!l1) {
            c->out->errors++;
            continue;
        }
        count(c, n->l1_offset, MAX(n->l1_size * UINT64_C(8), n->l1_offset ? 8 : 0), "the L1 table of a snapshot");
        count_l1(c, l1, n->l1_size, false);
    }
}

/* The blocks that are to be believed: at a cluster of the file, and no two in one place. */
static void count_blocks(struct check *c)
{
    struct qcow2 *s = c->s;
    count(c, s->reftable_offset, s->reftable_size * UINT64_C(8), "the refcount table");
    for (uint32_t i = 0; i < s->reftable_size; i++) {
        uint64_t block = s->reftable[i];
        if (!block)
            continue;
        bool nowhere = qcow2_into(s, block) || block >> s->cluster_bits >= c->clusters;
        if (!nowhere && c->counts[block >> s->cluster_bits] == 0) {
            count(c, block, s->cluster_size, "a refcount block");
            continue;
        }
        tell(c, "ERROR: refcount block %u is at 0x%" G_GINT64_MODIFIER "x, where %s", i, block,
             nowhere ? "no cluster of the file is" : "something else is");
        c->out->corruptions++;
        c->rebuild = true;
        if (nowhere)
            s->reftable[i] = 0; /* not to be looked into; in memory only */
    }
}

static void count_all(struct check *c)
{
    struct qcow2 *s = c->s;
    count(c, 0, s->cluster_size, "the header");
    count(c, s->l1_offset, s->l1_size * UINT64_C(8), "the L1 table");
    count_l1(c, s->l1, s->l1_size, true);
    count_snapshots(c);
}

/* --- Comparing ------------------------------------------------------------------------------------------------------ */

static bool has_block(const struct qcow2 *s, uint64_t cluster)
{
    uint64_t b = cluster / qcow2_refblock_entries(s);
    return b < s->reftable_size && s->reftable[b];
}

static int compare(struct check *c, enum blk_fix fix)
{
    struct qcow2 *s = c->s;
    for (uint64_t i = 0; i < c->clusters; i++) {
        uint64_t stored;
        int ret = qcow2_refcount(s, i, &stored);
        if (ret) {
            c->out->errors++;
            return ret;
        }
        uint64_t found = c->counts[i];
        if (stored == found)
            continue;
        bool leak = stored > found;
        tell(c, "%s cluster %" G_GUINT64_FORMAT " refcount=%" G_GUINT64_FORMAT " reference=%" G_GUINT64_FORMAT,
             leak ? "Leaked" : "ERROR", i, stored, found);
        bool repair = fix == BLK_FIX_ALL || (fix == BLK_FIX_LEAKS && leak);
        if (repair && (!has_block(s, i) || found > qcow2_refcount_max(s)))
            c->rebuild = true;
        if (repair && !c->rebuild && (ret = qcow2_refcount_set(s, i, found)))
            return ret;
        if (leak)
            ++*(repair ? &c->out->leaks_fixed : &c->out->leaks);
        else
            ++*(repair ? &c->out->corruptions_fixed : &c->out->corruptions);
    }
    return 0;
}

/* Where COPIED is not what the counts say. Counts are right by now, or nothing is repaired. */
static int compare_copied(struct check *c, enum blk_fix fix)
{
    uint64_t wrong = 0;
    int ret = qcow2_update_copied(c->s, &wrong);
    if (wrong)
        tell(c, "ERROR: %" G_GUINT64_FORMAT " entries say wrongly whether their cluster is used once", wrong);
    if (fix == BLK_FIX_ALL)
        c->out->corruptions_fixed += wrong;
    else
        c->out->corruptions += wrong;
    return ret;
}

/* --- Counts from nothing ---------------------------------------------------------------------------------------------- */

/* All of one block, and where it goes. */
static int write_block(struct check *c, uint64_t b, uint64_t at, uint64_t total)
{
    struct qcow2 *s = c->s;
    uint64_t entries = qcow2_refblock_entries(s);
    g_autofree uint8_t *block = g_malloc0(s->cluster_size);
    for (uint64_t i = 0; i < entries; i++) {
        uint64_t cluster = b * entries + i, n = cluster < c->clusters ? c->counts[cluster] : cluster < total;
        if (n > qcow2_refcount_max(s))
            return -ERANGE;
        qcow2_refcount_put(block, s->refcount_order, i, n);
    }
    return blk_node_pwrite(s->node.file, at << s->cluster_bits, block, s->cluster_size);
}

static int rebuild(struct check *c)
{
    struct qcow2 *s = c->s;
    uint64_t entries = qcow2_refblock_entries(s), blocks = 1, table = 1, total;
    memset(c->counts, 0, c->clusters * sizeof *c->counts);
    struct blk_check kept = *c->out;
    c->out->messages = NULL;
    count_all(c);
    *c->out = kept;
    for (;;) { /* they count themselves */
        total = c->clusters + blocks + table;
        uint64_t b = (total + entries - 1) / entries, t = qcow2_clusters(s, b * 8);
        if (b <= blocks && t <= table)
            break;
        blocks = MAX(blocks, b);
        table = MAX(table, t);
    }
    if (table << s->cluster_bits > QCOW2_REFTABLE_MAX)
        return -EFBIG;
    uint64_t size = (table << s->cluster_bits) / 8, offset = (c->clusters + blocks) << s->cluster_bits;
    g_autofree uint64_t *be = g_new0(uint64_t, size);
    int ret = 0;
    for (uint64_t b = 0; b < blocks && !ret; b++) {
        be[b] = GUINT64_TO_BE((c->clusters + b) << s->cluster_bits);
        ret = write_block(c, b, c->clusters + b, total);
    }
    if (!ret)
        ret = blk_node_pwrite(s->node.file, offset, be, size * 8);
    if (!ret)
        ret = qcow2_sync(s);
    struct {
        uint64_t offset;
        uint32_t clusters;
    } __attribute__((packed)) field = { GUINT64_TO_BE(offset), GUINT32_TO_BE((uint32_t)table) };
    if (!ret)
        ret = qcow2_write_header(s, offsetof(struct qcow2_header, reftable_offset), &field, sizeof field);
    if (!ret)
        ret = qcow2_sync(s);
    if (ret)
        return ret;
    qcow2_cache_drop_all(&s->refblocks);
    g_free(s->reftable);
    s->reftable_offset = offset;
    s->reftable_dirty_from = s->reftable_dirty_to = s->reftable_used = 0;
    s->free_hint = 0;
    return qcow2_load_reftable(s, (uint32_t)table, NULL) ? 0 : -EIO;
}

/* --- All of it ------------------------------------------------------------------------------------------------------- */

/* What was repaired goes to the file, and the marks of damage away if none is left. */
static int finish(struct check *c, enum blk_fix fix)
{
    struct qcow2 *s = c->s;
    s->corrupt = false;
    int ret = qcow2_write_tables(s, true);
    if (!ret)
        ret = qcow2_write_tables(s, true);
    if (!ret && fix == BLK_FIX_ALL && !c->out->corruptions && !c->out->errors && s->version >= 3 &&
        (s->incompatible & (QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT))) {
        ret = qcow2_sync(s);
        s->incompatible &= ~(QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT);
        if (!ret)
            ret = qcow2_write_features(s);
    }
    return ret ? ret : qcow2_sync(s);
}

/* Nothing of what was found out stays in memory. */
static void forget(struct qcow2 *s)
{
    qcow2_cache_drop_all(&s->l2s);
    qcow2_cache_drop_all(&s->refblocks);
    s->l1_dirty_from = s->l1_dirty_to = 0;
}

static int run(struct check *c, enum blk_fix fix)
{
    struct qcow2 *s = c->s;
    count_all(c);
    count_blocks(c);
    int ret = compare(c, fix);
    if (fix == BLK_FIX_ALL && c->rebuild) {
        ret = rebuild(c);
        c->out->corruptions_fixed += c->out->corruptions - c->wrong_host;
        c->out->corruptions = c->wrong_host;
    }
    if (!ret)
        ret = compare_copied(c, fix);
    if (fix != BLK_FIX_ALL)
        s->l1_dirty_from = s->l1_dirty_to = 0;
    if (fix == BLK_FIX_NOTHING) {
        forget(s);
        return ret;
    }
    if (fix == BLK_FIX_LEAKS)
        qcow2_cache_drop_all(&s->l2s);
    return ret ? ret : finish(c, fix);
}

static bool check(struct qcow2 *s, struct blk_check *out, enum blk_fix fix, GError **err)
{
    struct check c = { .s = s, .out = out, .clusters = qcow2_clusters(s, s->node.file->size) };
    out->total_clusters = qcow2_clusters(s, s->node.size);
    if (c.clusters > CLUSTERS_MAX)
        return opts_error(err, "'%s' has too many clusters to be checked", s->node.path);
    if (fix != BLK_FIX_NOTHING && !(s->node.flags & BLK_OPEN_WRITE))
        return opts_error(err, "'%s' is open for reading only and cannot be repaired", s->node.path);
    c.counts = g_try_new0(uint32_t, MAX(c.clusters, 1));
    if (!c.counts)
        return opts_error(err, "'%s': not enough memory to check it", s->node.path);
    pthread_mutex_lock(&s->lock);
    s->quiet = true;
    bool was_corrupt = s->corrupt;
    int ret = qcow2_write_tables(s, true);
    if (!ret || was_corrupt)
        ret = run(&c, fix);
    s->quiet = false;
    pthread_mutex_unlock(&s->lock);
    g_free(c.counts);
    if (ret)
        g_set_error(err, G_FILE_ERROR, g_file_error_from_errno(-ret), "'%s' could not be %s: %s", s->node.path,
                    fix == BLK_FIX_NOTHING ? "checked" : "repaired", g_strerror(-ret));
    return !ret;
}

bool qcow2_check(struct blk_node *n, struct blk_check *c, enum blk_fix fix, GError **err)
{
    return check(qcow2(n), c, fix, err);
}

bool qcow2_repair_dirty(struct qcow2 *s, GError **err)
{
    struct blk_check c = { 0 };
    log_line("qcow2: '%s' was not closed properly; its clusters are counted anew", s->node.path);
    if (!check(s, &c, BLK_FIX_ALL, err))
        return false;
    return !c.corruptions || opts_error(err, "'%s' is damaged; trapeze-img check -r all may repair it", s->node.path);
}
