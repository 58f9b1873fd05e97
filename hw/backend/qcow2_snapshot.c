/*
 * qcow2: internal snapshots. One is an L1 table of its own; what it names is counted once more, so that writes go
 * elsewhere. It may also name the state of a machine behind the disk's end, which is kept as it is.
 *
 * Under qcow2.lock, with all of the disk taken as one exclusive stretch.
 */
#include "hw/backend/qcow2.h"

#include "hw/core/opts.h"

#include <errno.h>
#include <string.h>

#define EXTRA_MAX 1024

struct on_disk {
    uint64_t l1_offset;
    uint32_t l1_size;
    uint16_t id_len, name_len;
    uint32_t date_sec, date_nsec;
    uint64_t vm_clock_ns;
    uint32_t vm_state_size, extra_size;
};
G_STATIC_ASSERT(sizeof(struct on_disk) == 40);

struct extra {
    uint64_t vm_state_size, disk_size, icount;
};

/* --- The table of snapshots ----------------------------------------------------------------------------------------- */

static bool bad(struct qcow2 *s, GError **err, const char *what)
{
    g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_INVAL, "'%s' is damaged: %s", s->node.path, what);
    return false;
}

static void take_extra(struct qcow2 *s, struct qcow2_snapshot *n, const uint8_t *bytes)
{
    struct extra e = { 0 };
    memcpy(&e, bytes, MIN(n->extra_size, sizeof e));
    if (n->extra_size >= 8)
        n->vm_state_size = GUINT64_FROM_BE(e.vm_state_size);
    n->disk_size = n->extra_size >= 16 ? GUINT64_FROM_BE(e.disk_size) : s->node.size;
    n->icount = n->extra_size >= 24 ? GUINT64_FROM_BE(e.icount) : UINT64_MAX;
    if (n->extra_size > sizeof e) {
        n->extra_size -= sizeof e;
        n->extra = g_memdup2(bytes + sizeof e, n->extra_size);
    } else {
        n->extra_size = 0;
    }
}

static bool read_one(struct qcow2 *s, uint64_t *at, GError **err)
{
    struct on_disk d;
    struct qcow2_snapshot n = { 0 };
    if (blk_node_pread(s->node.file, *at, &d, sizeof d))
        return bad(s, err, "its table of snapshots cannot be read");
    n.l1_offset = GUINT64_FROM_BE(d.l1_offset);
    n.l1_size = GUINT32_FROM_BE(d.l1_size);
    n.date_sec = GUINT32_FROM_BE(d.date_sec);
    n.date_nsec = GUINT32_FROM_BE(d.date_nsec);
    n.vm_clock_ns = GUINT64_FROM_BE(d.vm_clock_ns);
    n.vm_state_size = GUINT32_FROM_BE(d.vm_state_size);
    n.extra_size = GUINT32_FROM_BE(d.extra_size);
    if (n.extra_size > EXTRA_MAX || n.l1_size > QCOW2_L1_MAX / 8 || qcow2_into(s, n.l1_offset) ||
        n.l1_offset > BLK_SIZE_MAX - QCOW2_L1_MAX)
        return bad(s, err, "a snapshot's L1 table is nowhere, or more follows it than there should");
    size_t id_len = GUINT16_FROM_BE(d.id_len), name_len = GUINT16_FROM_BE(d.name_len);
    size_t len = n.extra_size + id_len + name_len;
    g_autofree uint8_t *rest = g_malloc(len + 1);
    if (blk_node_pread(s->node.file, *at + sizeof d, rest, len))
        return bad(s, err, "its table of snapshots cannot be read");
    const char *names = (const char *)rest + n.extra_size;
    n.id = g_strndup(names, id_len);
    n.name = g_strndup(names + id_len, name_len);
    take_extra(s, &n, rest);
    g_array_append_val(s->snapshots, n);
    *at = (*at + sizeof d + len + 7) & ~UINT64_C(7);
    return true;
}

bool qcow2_load_snapshots(struct qcow2 *s, uint32_t count, uint64_t offset, GError **err)
{
    uint64_t at = offset;
    if (!count)
        return true;
    if (count > QCOW2_SNAPSHOTS_MAX || qcow2_into(s, offset) || offset > BLK_SIZE_MAX - QCOW2_SNAPSHOT_TABLE_MAX)
        return bad(s, err, "its table of snapshots is nowhere, or too long");
    for (uint32_t i = 0; i < count; i++) {
        if (!read_one(s, &at, err))
            return false;
        if (at - offset > QCOW2_SNAPSHOT_TABLE_MAX)
            return bad(s, err, "its table of snapshots is too long");
    }
    s->snapshots_offset = offset;
    s->snapshots_bytes = at - offset;
    return true;
}

static void free_one(struct qcow2_snapshot *n)
{
    g_free(n->id);
    g_free(n->name);
    g_free(n->extra);
}

void qcow2_free_snapshots(struct qcow2 *s)
{
    for (guint i = 0; i < s->snapshots->len; i++)
        free_one(&g_array_index(s->snapshots, struct qcow2_snapshot, i));
    g_array_free(s->snapshots, TRUE);
}

static void append_one(GByteArray *out, const struct qcow2_snapshot *n)
{
    static const uint8_t zeros[8];
    struct extra e = { GUINT64_TO_BE(n->vm_state_size), GUINT64_TO_BE(n->disk_size), GUINT64_TO_BE(n->icount) };
    struct on_disk d = {
        .l1_offset = GUINT64_TO_BE(n->l1_offset),
        .l1_size = GUINT32_TO_BE(n->l1_size),
        .id_len = GUINT16_TO_BE((uint16_t)strlen(n->id)),
        .name_len = GUINT16_TO_BE((uint16_t)strlen(n->name)),
        .date_sec = GUINT32_TO_BE(n->date_sec),
        .date_nsec = GUINT32_TO_BE(n->date_nsec),
        .vm_clock_ns = GUINT64_TO_BE(n->vm_clock_ns),
        .vm_state_size = GUINT32_TO_BE((uint32_t)MIN(n->vm_state_size, UINT32_MAX)),
        .extra_size = GUINT32_TO_BE((uint32_t)sizeof e + n->extra_size),
    };
    g_byte_array_append(out, (const guint8 *)&d, sizeof d);
    g_byte_array_append(out, (const guint8 *)&e, sizeof e);
    if (n->extra_size)
        g_byte_array_append(out, n->extra, n->extra_size);
    g_byte_array_append(out, (const guint8 *)n->id, (guint)strlen(n->id));
    g_byte_array_append(out, (const guint8 *)n->name, (guint)strlen(n->name));
    g_byte_array_append(out, zeros, -out->len & 7);
}

/* A new table, to which the header then changes over. */
static int write_table(struct qcow2 *s)
{
    uint64_t offset = 0, old_offset = s->snapshots_offset, old_bytes = s->snapshots_bytes;
    GByteArray *out = g_byte_array_new();
    int ret = 0;
    for (guint i = 0; i < s->snapshots->len; i++)
        append_one(out, &g_array_index(s->snapshots, struct qcow2_snapshot, i));
    uint64_t bytes = out->len, room = qcow2_clusters(s, bytes) << s->cluster_bits;
    if (bytes > QCOW2_SNAPSHOT_TABLE_MAX)
        ret = -EFBIG;
    if (!ret && bytes) {
        g_byte_array_set_size(out, (guint)room);
        memset(out->data + bytes, 0, room - bytes);
        ret = qcow2_alloc_contiguous(s, room >> s->cluster_bits, &offset);
        if (!ret)
            ret = qcow2_write_tables(s, true);
        if (!ret)
            ret = blk_node_pwrite(s->node.file, offset, out->data, room);
    }
    g_byte_array_free(out, TRUE);
    struct {
        uint32_t count;
        uint64_t offset;
    } __attribute__((packed)) field = { GUINT32_TO_BE(s->snapshots->len), GUINT64_TO_BE(offset) };
    if (!ret)
        ret = qcow2_sync(s);
    if (!ret)
        ret = qcow2_write_header(s, offsetof(struct qcow2_header, snapshot_count), &field, sizeof field);
    if (!ret)
        ret = qcow2_sync(s);
    if (ret)
        return ret;
    s->snapshots_offset = offset;
    s->snapshots_bytes = bytes;
    if (old_bytes)
        qcow2_free(s, old_offset, old_bytes);
    return 0;
}

/* --- What L1 tables name --------------------------------------------------------------------------------------------- */

uint64_t *qcow2_read_l1(struct qcow2 *s, uint64_t offset, uint32_t entries, int *ret)
{
    uint64_t *l1 = g_new(uint64_t, MAX(entries, 1));
    *ret = blk_node_pread(s->node.file, offset, l1, entries * sizeof *l1);
    for (uint32_t i = 0; !*ret && i < entries; i++)
        l1[i] = GUINT64_FROM_BE(l1[i]);
    if (*ret)
        g_clear_pointer(&l1, g_free);
    return l1;
}

typedef int (*visit_fn)(struct qcow2 *s, uint64_t offset, uint64_t bytes);

/* Calls fn unless *left calls have been made already. */
static int call(struct qcow2 *s, uint64_t offset, uint64_t bytes, visit_fn fn, uint64_t *left)
{
    int ret = *left ? fn(s, offset, bytes) : 0;
    *left -= *left && !ret;
    return ret;
}

static int visit_table(struct qcow2 *s, uint64_t table, visit_fn fn, uint64_t *left)
{
    for (uint64_t at = 0; at < s->cluster_size; at += s->l2s.slice_size) {
        int ret;
        const uint64_t *l2 = qcow2_cache_get(s, &s->l2s, table + at, QCOW2_READ, &ret);
        for (unsigned i = 0; l2 && !ret && i < s->l2s.slice_size / 8; i++) {
            uint64_t entry = GUINT64_FROM_BE(l2[i]), offset = entry & QCOW2_OFFSET, bytes = s->cluster_size;
            enum qcow2_kind kind = qcow2_entry_kind(s, entry);
            if (kind == QCOW2_UNALLOCATED || kind == QCOW2_ZERO_PLAIN)
                continue;
            if (kind == QCOW2_PACKED)
                qcow2_packed_place(s, entry, &offset, &bytes);
            else if (qcow2_into(s, offset))
                return qcow2_damaged(s, "an L2 entry is 0x%" G_GINT64_MODIFIER "x", entry);
            ret = call(s, offset, bytes, fn, left);
        }
        if (ret)
            return ret;
    }
    return 0;
}

/* Everything that is counted because this L1 table names it, the first *left of it. fn does not touch L2 tables. */
static int visit(struct qcow2 *s, const uint64_t *l1, uint32_t entries, visit_fn fn, uint64_t *left)
{
    for (uint32_t i = 0; i < entries; i++) {
        uint64_t table = l1[i] & QCOW2_OFFSET;
        if (!table)
            continue;
        if (qcow2_into(s, table))
            return qcow2_damaged(s, "an L1 entry is 0x%" G_GINT64_MODIFIER "x", l1[i]);
        int ret = visit_table(s, table, fn, left);
        if (!ret)
            ret = call(s, table, s->cluster_size, fn, left);
        if (ret)
            return ret;
    }
    return 0;
}

static int count_up(struct qcow2 *s, uint64_t offset, uint64_t bytes)
{
    uint64_t first = offset >> s->cluster_bits;
    return qcow2_refcount_add(s, first, ((offset + bytes - 1) >> s->cluster_bits) - first + 1, 1);
}

static int count_down(struct qcow2 *s, uint64_t offset, uint64_t bytes)
{
    qcow2_free(s, offset, bytes);
    return 0;
}

static int release_all(struct qcow2 *s, const uint64_t *l1, uint32_t entries)
{
    uint64_t all = UINT64_MAX;
    return visit(s, l1, entries, count_down, &all);
}

/* All of it once more, or nothing: a count may have no room for it. */
static int use_all(struct qcow2 *s, const uint64_t *l1, uint32_t entries)
{
    uint64_t left = UINT64_MAX;
    int ret = visit(s, l1, entries, count_up, &left);
    if (ret) {
        uint64_t done = UINT64_MAX - left;
        visit(s, l1, entries, count_down, &done);
    }
    return ret;
}

static int update_copied_table(struct qcow2 *s, uint64_t table, uint64_t *wrong)
{
    for (uint64_t at = 0; at < s->cluster_size; at += s->l2s.slice_size) {
        int ret;
        uint64_t *l2 = qcow2_cache_get(s, &s->l2s, table + at, QCOW2_READ, &ret);
        for (unsigned i = 0; l2 && i < s->l2s.slice_size / 8; i++) {
            uint64_t entry = GUINT64_FROM_BE(l2[i]), count;
            enum qcow2_kind kind = qcow2_entry_kind(s, entry);
            if ((kind != QCOW2_NORMAL && kind != QCOW2_ZERO_ALLOCATED) || qcow2_into(s, entry & QCOW2_OFFSET))
                continue;
            ret = qcow2_refcount(s, (entry & QCOW2_OFFSET) >> s->cluster_bits, &count);
            if (ret)
                return ret;
            uint64_t right = (entry & ~QCOW2_COPIED) | (count == 1 ? QCOW2_COPIED : 0);
            if (right == entry)
                continue;
            ++*wrong;
            l2[i] = GUINT64_TO_BE(right);
            qcow2_cache_dirty(&s->l2s, table + at);
        }
        if (ret)
            return ret;
    }
    return 0;
}

int qcow2_update_copied(struct qcow2 *s, uint64_t *wrong)
{
    int ret = 0;
    for (uint32_t i = 0; i < s->l1_size && !ret; i++) {
        uint64_t table = s->l1[i] & QCOW2_OFFSET, count;
        if (!table || qcow2_into(s, table))
            continue;
        ret = qcow2_refcount(s, table >> s->cluster_bits, &count);
        uint64_t right = table | (count == 1 ? QCOW2_COPIED : 0);
        if (!ret && s->l1[i] != right) {
            ++*wrong;
            s->l1[i] = right;
            s->l1_dirty_from = s->l1_dirty_to ? MIN(s->l1_dirty_from, i) : i;
            s->l1_dirty_to = MAX(s->l1_dirty_to, i + 1);
        }
        if (!ret)
            ret = update_copied_table(s, table, wrong);
    }
    return ret;
}

/* The flags, then everything in the file. */
static int settle(struct qcow2 *s)
{
    uint64_t wrong = 0;
    int ret = qcow2_write_tables(s, true);
    if (!ret)
        ret = qcow2_update_copied(s, &wrong);
    if (!ret)
        ret = qcow2_write_tables(s, true);
    return ret ? ret : qcow2_sync(s);
}

/* --- What is done with them ------------------------------------------------------------------------------------------ */

static guint find(const struct qcow2 *s, const char *name)
{
    for (unsigned by_name = 0; by_name < 2; by_name++) {
        for (guint i = 0; i < s->snapshots->len; i++) {
            const struct qcow2_snapshot *n = &g_array_index(s->snapshots, struct qcow2_snapshot, i);
            if (strcmp(by_name ? n->name : n->id, name) == 0)
                return i;
        }
    }
    return G_MAXUINT;
}

GArray *qcow2_list_snapshots(struct blk_node *node)
{
    struct qcow2 *s = qcow2(node);
    GArray *out = g_array_new(FALSE, FALSE, sizeof(struct blk_snapshot));
    for (guint i = 0; i < s->snapshots->len; i++) {
        const struct qcow2_snapshot *n = &g_array_index(s->snapshots, struct qcow2_snapshot, i);
        struct blk_snapshot o = { .id = g_strdup(n->id), .name = g_strdup(n->name), .vm_state_size = n->vm_state_size,
                                  .date_sec = n->date_sec, .date_nsec = n->date_nsec, .vm_clock_ns = n->vm_clock_ns,
                                  .disk_size = n->disk_size, .icount = n->icount };
        g_array_append_val(out, o);
    }
    return out;
}

static int create(struct qcow2 *s, struct qcow2_snapshot *n)
{
    uint64_t bytes = MAX(s->l1_size * UINT64_C(8), 8), room = qcow2_clusters(s, bytes) << s->cluster_bits;
    int ret = qcow2_write_tables(s, true);
    if (!ret)
        ret = use_all(s, s->l1, s->l1_size);
    if (!ret)
        ret = qcow2_alloc_contiguous(s, room >> s->cluster_bits, &n->l1_offset);
    if (!ret)
        ret = settle(s); /* no entry may be written in place any more */
    if (ret)
        return ret;
    g_autofree uint64_t *l1 = g_malloc0(room);
    for (uint32_t i = 0; i < s->l1_size; i++)
        l1[i] = GUINT64_TO_BE(s->l1[i]);
    n->l1_size = s->l1_size;
    ret = blk_node_pwrite(s->node.file, n->l1_offset, l1, room);
    if (ret)
        return ret;
    g_array_append_val(s->snapshots, *n);
    ret = write_table(s);
    if (ret)
        g_array_set_size(s->snapshots, s->snapshots->len - 1);
    return ret ? ret : settle(s);
}

static int apply(struct qcow2 *s, const struct qcow2_snapshot *n)
{
    if (n->disk_size > BLK_SIZE_MAX)
        return qcow2_damaged(s, "snapshot '%s' has a disk larger than any", n->name);
    int ret = qcow2_write_tables(s, true);
    g_autofree uint64_t *l1 = ret ? NULL : qcow2_read_l1(s, n->l1_offset, n->l1_size, &ret);
    if (!ret)
        ret = qcow2_grow_l1(s, MAX(n->l1_size, qcow2_l1_entries(s->cluster_bits, n->disk_size)));
    if (!ret)
        ret = use_all(s, l1, n->l1_size);
    if (!ret)
        ret = qcow2_write_tables(s, true);
    if (!ret)
        ret = release_all(s, s->l1, s->l1_size);
    if (ret)
        return ret;
    memset(s->l1, 0, s->l1_size * sizeof *s->l1);
    for (uint32_t i = 0; i < n->l1_size; i++)
        s->l1[i] = l1[i] & QCOW2_OFFSET;
    s->l1_dirty_from = 0;
    s->l1_dirty_to = s->l1_size;
    ret = settle(s);
    uint64_t be = GUINT64_TO_BE(n->disk_size);
    if (!ret && n->disk_size != s->node.size)
        ret = qcow2_write_header(s, offsetof(struct qcow2_header, size), &be, sizeof be);
    if (!ret)
        s->node.size = n->disk_size;
    return ret;
}

static int delete(struct qcow2 *s, guint index)
{
    struct qcow2_snapshot n = g_array_index(s->snapshots, struct qcow2_snapshot, index);
    int ret = qcow2_write_tables(s, true);
    uint64_t *l1 = ret ? NULL : qcow2_read_l1(s, n.l1_offset, n.l1_size, &ret);
    if (ret)
        return ret;
    g_array_remove_index(s->snapshots, index);
    ret = write_table(s);
    if (!ret)
        ret = release_all(s, l1, n.l1_size);
    if (!ret) {
        qcow2_free(s, n.l1_offset, MAX(n.l1_size * UINT64_C(8), 8));
        ret = settle(s);
    }
    free_one(&n);
    g_free(l1);
    return ret;
}

/* Nobody else has anything to do with the disk meanwhile. */
static void enter(struct qcow2 *s, struct qcow2_range *r)
{
    qcow2_range_enter(s, r, 0, BLK_SIZE_MAX & ~(s->cluster_size - 1), true);
    pthread_mutex_lock(&s->lock);
}

static bool leave(struct qcow2 *s, struct qcow2_range *r, int ret, const char *what, GError **err)
{
    pthread_mutex_unlock(&s->lock);
    qcow2_range_leave(s, r);
    if (ret == -ERANGE)
        return opts_error(err, "'%s' cannot have another snapshot: its refcounts have %u bits only", s->node.path,
                          1u << s->refcount_order);
    if (ret)
        g_set_error(err, G_FILE_ERROR, g_file_error_from_errno(-ret), "the snapshot of '%s' could not be %s: %s", s->node.path,
                    what, g_strerror(-ret));
    return !ret;
}

bool qcow2_snapshot_create(struct blk_node *node, const char *name, GError **err)
{
    struct qcow2 *s = qcow2(node);
    struct qcow2_range r;
    uint64_t id = 0;
    int64_t now = g_get_real_time();
    if (strlen(name) > UINT16_MAX)
        return opts_error(err, "the name of the snapshot is too long");
    if (s->snapshots->len >= QCOW2_SNAPSHOTS_MAX)
        return opts_error(err, "'%s' has as many snapshots as it can have", node->path);
    enter(s, &r);
    for (guint i = 0; i < s->snapshots->len; i++)
        id = MAX(id, g_ascii_strtoull(g_array_index(s->snapshots, struct qcow2_snapshot, i).id, NULL, 10));
    struct qcow2_snapshot n = { .id = g_strdup_printf("%" G_GUINT64_FORMAT, id + 1), .name = g_strdup(name),
                                .date_sec = (uint32_t)(now / G_USEC_PER_SEC),
                                .date_nsec = (uint32_t)(now % G_USEC_PER_SEC * 1000), .disk_size = node->size,
                                .icount = UINT64_MAX };
    guint before = s->snapshots->len;
    int ret = create(s, &n);
    if (s->snapshots->len == before)
        free_one(&n);
    return leave(s, &r, ret, "made", err);
}

static bool with_one(struct blk_node *node, const char *name, bool remove, GError **err)
{
    struct qcow2 *s = qcow2(node);
    struct qcow2_range r;
    enter(s, &r);
    guint i = find(s, name);
    int ret = -ENOENT;
    if (i != G_MAXUINT)
        ret = remove ? delete(s, i) : apply(s, &g_array_index(s->snapshots, struct qcow2_snapshot, i));
    return leave(s, &r, ret, remove ? "deleted" : "applied", err);
}

bool qcow2_snapshot_apply(struct blk_node *node, const char *name, GError **err)
{
    return with_one(node, name, false, err);
}

bool qcow2_snapshot_delete(struct blk_node *node, const char *name, GError **err)
{
    return with_one(node, name, true, err);
}

bool qcow2_snapshot_show(struct blk_node *node, const char *name, GError **err)
{
    struct qcow2 *s = qcow2(node);
    struct qcow2_range r;
    g_assert(!(node->flags & BLK_OPEN_WRITE));
    enter(s, &r);
    guint i = find(s, name);
    int ret = i == G_MAXUINT ? -ENOENT : 0;
    const struct qcow2_snapshot *n = ret ? NULL : &g_array_index(s->snapshots, struct qcow2_snapshot, i);
    if (n && (n->disk_size > BLK_SIZE_MAX || n->l1_size < qcow2_l1_entries(s->cluster_bits, n->disk_size)))
        ret = qcow2_damaged(s, "snapshot '%s' is shorter than its disk", name);
    uint64_t *l1 = ret ? NULL : qcow2_read_l1(s, n->l1_offset, n->l1_size, &ret);
    if (l1) {
        g_free(s->l1);
        s->l1 = l1;
        s->l1_size = n->l1_size;
        node->size = n->disk_size;
    }
    return leave(s, &r, ret, "read", err);
}

bool qcow2_make_empty(struct blk_node *node, GError **err)
{
    struct qcow2 *s = qcow2(node);
    struct qcow2_range r;
    enter(s, &r);
    int ret = qcow2_write_tables(s, true);
    if (!ret)
        ret = release_all(s, s->l1, s->l1_size);
    if (!ret) {
        memset(s->l1, 0, s->l1_size * sizeof *s->l1);
        s->l1_dirty_from = 0;
        s->l1_dirty_to = s->l1_size;
        ret = settle(s);
    }
    pthread_mutex_unlock(&s->lock);
    qcow2_range_leave(s, &r);
    if (ret)
        g_set_error(err, G_FILE_ERROR, g_file_error_from_errno(-ret), "'%s' could not be emptied: %s", node->path,
                    g_strerror(-ret));
    return !ret;
}
