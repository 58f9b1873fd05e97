/*
 * qcow2: tables of the file in memory, and the order in which they are written.
 *
 * The order (qcow2_write_tables): refcounts, then the refcount table, then L2 tables, then the L1 table, each on stable
 * storage before the next; only then do counts go down for what these tables no longer name. So whatever a table in the
 * file names is counted there. With lazy refcounts the first two wait until the image is closed.
 *
 * All with qcow2.lock held.
 */
#include "hw/backend/qcow2.h"

#include <errno.h>
#include <string.h>

struct slice {
    uint64_t offset;
    bool dirty;
    GList link; /* in qcow2_cache.used */
    uint64_t data[];
};

void qcow2_cache_init(struct qcow2_cache *c, size_t slice_size, size_t memory)
{
    c->slices = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, g_free);
    g_queue_init(&c->used);
    c->slice_size = slice_size;
    c->max = (unsigned)MAX(memory / slice_size, 8);
    c->dirty = 0;
}

void qcow2_cache_free(struct qcow2_cache *c)
{
    g_clear_pointer(&c->slices, g_hash_table_destroy);
}

static void forget(struct qcow2_cache *c, struct slice *t)
{
    c->dirty -= t->dirty;
    g_queue_unlink(&c->used, &t->link);
    g_hash_table_remove(c->slices, &t->offset);
}

/* One that is not dirty goes; if all are, they are written first. */
static int make_room(struct qcow2 *s, struct qcow2_cache *c)
{
    if (g_hash_table_size(c->slices) < c->max)
        return 0;
    for (GList *l = c->used.head; l; l = l->next) {
        struct slice *t = l->data;
        if (!t->dirty) {
            forget(c, t);
            return 0;
        }
    }
    int ret = c == &s->l2s ? qcow2_write_tables(s, false) : qcow2_cache_write(s, c);
    if (!ret)
        forget(c, c->used.head->data);
    return ret;
}

static struct slice *add(struct qcow2_cache *c, uint64_t offset)
{
    struct slice *t = g_malloc0(sizeof *t + c->slice_size);
    t->offset = offset;
    t->link.data = t;
    g_hash_table_insert(c->slices, &t->offset, t);
    g_queue_push_tail_link(&c->used, &t->link);
    return t;
}

static void mark(struct qcow2_cache *c, struct slice *t)
{
    c->dirty += !t->dirty;
    t->dirty = true;
}

void *qcow2_cache_get(struct qcow2 *s, struct qcow2_cache *c, uint64_t offset, enum qcow2_get how, int *ret)
{
    struct slice *t = g_hash_table_lookup(c->slices, &offset);
    *ret = 0;
    if (t) {
        g_queue_unlink(&c->used, &t->link);
        g_queue_push_tail_link(&c->used, &t->link);
        if (how == QCOW2_NEW) {
            memset(t->data, 0, c->slice_size);
            mark(c, t);
        }
        return t->data;
    }
    if (how == QCOW2_PEEK)
        return NULL;
    *ret = make_room(s, c);
    if (*ret)
        return NULL;
    t = add(c, offset);
    if (how == QCOW2_NEW) {
        mark(c, t);
        return t->data;
    }
    *ret = blk_node_pread(s->node.file, offset, t->data, c->slice_size);
    if (!*ret)
        return t->data;
    forget(c, t);
    return NULL;
}

void qcow2_cache_dirty(struct qcow2_cache *c, uint64_t offset)
{
    struct slice *t = g_hash_table_lookup(c->slices, &offset);
    g_assert(t);
    mark(c, t);
}

void qcow2_cache_drop(struct qcow2 *s, struct qcow2_cache *c, uint64_t offset)
{
    for (uint64_t at = offset; at < offset + s->cluster_size; at += c->slice_size) {
        struct slice *t = g_hash_table_lookup(c->slices, &at);
        if (t)
            forget(c, t);
    }
}

void qcow2_cache_drop_all(struct qcow2_cache *c)
{
    while (c->used.head)
        forget(c, c->used.head->data);
}

int qcow2_cache_write(struct qcow2 *s, struct qcow2_cache *c)
{
    for (GList *l = c->used.head; l && c->dirty; l = l->next) {
        struct slice *t = l->data;
        if (!t->dirty)
            continue;
        if (s->corrupt)
            return -EIO;
        int ret = blk_node_pwrite(s->node.file, t->offset, t->data, c->slice_size);
        if (ret)
            return ret;
        t->dirty = false;
        c->dirty--;
    }
    return 0;
}

/* Entries [*from, *to) of a table of numbers at `offset`. */
static int write_entries(struct qcow2 *s, uint64_t offset, const uint64_t *table, uint32_t *from, uint32_t *to)
{
    uint32_t count = *to - *from;
    g_autofree uint64_t *be = g_new(uint64_t, count);
    for (uint32_t i = 0; i < count; i++)
        be[i] = GUINT64_TO_BE(table[*from + i]);
    if (s->corrupt)
        return -EIO;
    int ret = blk_node_pwrite(s->node.file, offset + *from * UINT64_C(8), be, count * sizeof *be);
    if (!ret)
        *from = *to = 0;
    return ret;
}

static int write_refcounts(struct qcow2 *s, bool *written)
{
    int ret = 0;
    *written = s->refblocks.dirty || s->reftable_dirty_to;
    if (s->refblocks.dirty)
        ret = qcow2_cache_write(s, &s->refblocks);
    if (!ret && s->reftable_dirty_to) {
        ret = qcow2_sync(s);
        if (!ret)
            ret = write_entries(s, s->reftable_offset, s->reftable, &s->reftable_dirty_from, &s->reftable_dirty_to);
    }
    return ret;
}

int qcow2_write_tables(struct qcow2 *s, bool all)
{
    bool written = false;
    int ret = 0;
    if (!s->lazy || all) {
        ret = write_refcounts(s, &written);
    } else if (s->refblocks.dirty && !(s->incompatible & QCOW2_INCOMPAT_DIRTY)) {
        s->incompatible |= QCOW2_INCOMPAT_DIRTY; /* who opens it after a crash counts anew */
        ret = qcow2_write_features(s);
        written = true;
    }
    if (!ret && (written || s->copied_data) && (s->l2s.dirty || s->l1_dirty_to))
        ret = qcow2_sync(s);
    if (!ret && s->l2s.dirty) {
        s->copied_data = false;
        ret = qcow2_cache_write(s, &s->l2s);
        if (!ret && s->l1_dirty_to)
            ret = qcow2_sync(s);
    }
    if (!ret && s->l1_dirty_to)
        ret = write_entries(s, s->l1_offset, s->l1, &s->l1_dirty_from, &s->l1_dirty_to);
    if (!ret && s->pending->len) {
        ret = qcow2_sync(s);
        if (!ret)
            ret = qcow2_free_pending(s);
    }
    return ret;
}
