/*
 * qcow2 images, versions 2 and 3, after docs/interop/qcow2.txt of QEMU: opening and closing, the header, resizing, and who
 * may touch which stretch of the guest's disk. The rest is in qcow2_*.c; qcow2.h tells of the locks.
 *
 * Refused with a sentence: encryption, external data files, subclusters (extended L2 entries). Persistent bitmaps of dirty
 * blocks are not kept: an image that is written to loses them, as the format provides for.
 *
 * All that a file says is believed only after it was checked. Any thread.
 */
#include "hw/backend/qcow2.h"

#include "hw/core/log.h"
#include "hw/core/opts.h"

#include <errno.h>
#include <string.h>

#define SLICE_SIZE (16u << 10)
#define L2_CACHE (UINT64_C(32) << 20)
#define REFCOUNT_CACHE (UINT64_C(4) << 20)
#define CACHE_MAX (UINT64_C(1) << 40)
#define CHAIN_MAX 200
#define FEATURE_NAMES (8 + 8 * 48) /* bytes of that header extension */

enum extension_type {
    EXT_END = 0,
    EXT_BACKING_FORMAT = 0xe2792aca,
    EXT_FEATURE_NAMES = 0x6803f857,
    EXT_BITMAPS = 0x23852875,
};

/* --- Damage, the header -------------------------------------------------------------------------------------------- */

int qcow2_sync(struct qcow2 *s)
{
    return blk_node_flush(s->node.file);
}

int qcow2_write_header(struct qcow2 *s, size_t offset, const void *buf, size_t len)
{
    return blk_node_pwrite(s->node.file, offset, buf, len);
}

int qcow2_write_features(struct qcow2 *s)
{
    uint64_t be[3] = { GUINT64_TO_BE(s->incompatible), GUINT64_TO_BE(s->compatible), GUINT64_TO_BE(s->autoclear) };
    g_assert(s->version >= 3);
    int ret = qcow2_write_header(s, offsetof(struct qcow2_header, incompatible), be, sizeof be);
    return ret ? ret : qcow2_sync(s);
}

int qcow2_damaged(struct qcow2 *s, const char *fmt, ...)
{
    va_list ap;
    if (s->corrupt || s->quiet)
        return -EIO;
    va_start(ap, fmt);
    g_autofree char *what = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    bool write = s->node.flags & BLK_OPEN_WRITE;
    log_line("qcow2: '%s' is damaged: %s%s", s->node.path, what,
             write ? "; nothing is written to it any more. trapeze-img check -r all may repair it" : "");
    s->corrupt = true;
    if (write && s->version >= 3) {
        s->incompatible |= QCOW2_INCOMPAT_CORRUPT;
        qcow2_write_features(s);
    }
    return -EIO;
}

static void add_extension(GByteArray *out, uint32_t type, const void *data, uint32_t len)
{
    static const uint8_t zeros[8];
    uint32_t head[2] = { GUINT32_TO_BE(type), GUINT32_TO_BE(len) };
    g_byte_array_append(out, (const guint8 *)head, sizeof head);
    if (len)
        g_byte_array_append(out, data, len);
    g_byte_array_append(out, zeros, -len & 7);
}

static void add_feature_names(GByteArray *out)
{
    static const struct {
        uint8_t kind, bit;
        char name[46];
    } names[] = {
        { 0, 0, "dirty bit" },          { 0, 1, "corrupt bit" }, { 0, 2, "external data file" }, { 0, 3, "compression type" },
        { 0, 4, "extended L2 entries" }, { 1, 0, "lazy refcounts" }, { 2, 0, "bitmaps" },        { 2, 1, "raw external data" },
    };
    G_STATIC_ASSERT(sizeof names == FEATURE_NAMES - 8);
    add_extension(out, EXT_FEATURE_NAMES, names, sizeof names);
}

static void fixed_header(const struct qcow2 *s, struct qcow2_header *h)
{
    *h = (struct qcow2_header){
        .magic = GUINT32_TO_BE(QCOW2_MAGIC),
        .version = GUINT32_TO_BE(s->version),
        .cluster_bits = GUINT32_TO_BE(s->cluster_bits),
        .size = GUINT64_TO_BE(s->node.size),
        .l1_size = GUINT32_TO_BE(s->l1_size),
        .l1_offset = GUINT64_TO_BE(s->l1_offset),
        .reftable_offset = GUINT64_TO_BE(s->reftable_offset),
        .reftable_clusters = GUINT32_TO_BE((uint32_t)(s->reftable_size * UINT64_C(8) >> s->cluster_bits)),
        .snapshot_count = GUINT32_TO_BE(s->snapshots->len),
        .snapshots_offset = GUINT64_TO_BE(s->snapshots_offset),
        .incompatible = GUINT64_TO_BE(s->incompatible),
        .compatible = GUINT64_TO_BE(s->compatible),
        .autoclear = GUINT64_TO_BE(s->autoclear),
        .refcount_order = GUINT32_TO_BE(s->refcount_order),
        .header_length = GUINT32_TO_BE(sizeof *h),
        .compression_type = (uint8_t)s->compression,
    };
}

bool qcow2_rewrite_header(struct qcow2 *s, GError **err)
{
    struct qcow2_header h;
    GByteArray *out = g_byte_array_new();
    size_t fixed = s->version >= 3 ? sizeof h : QCOW2_V2_HEADER;
    fixed_header(s, &h);
    g_byte_array_append(out, (const guint8 *)&h, (guint)fixed);
    if (s->backing_format)
        add_extension(out, EXT_BACKING_FORMAT, s->backing_format, (uint32_t)strlen(s->backing_format));
    size_t rest = 16 + (s->backing_name ? strlen(s->backing_name) : 0);
    for (guint i = 0; i < s->extensions->len; i++)
        rest += 16 + g_array_index(s->extensions, struct qcow2_extension, i).len;
    if (s->version >= 3 && out->len + FEATURE_NAMES + rest <= s->cluster_size) /* it serves for messages only */
        add_feature_names(out);
    for (guint i = 0; i < s->extensions->len; i++) {
        const struct qcow2_extension *e = &g_array_index(s->extensions, struct qcow2_extension, i);
        add_extension(out, e->type, e->data, e->len);
    }
    add_extension(out, EXT_END, NULL, 0);
    if (s->backing_name) {
        h.backing_offset = GUINT64_TO_BE((uint64_t)out->len);
        h.backing_size = GUINT32_TO_BE((uint32_t)strlen(s->backing_name));
        memcpy(out->data, &h, fixed);
        g_byte_array_append(out, (const guint8 *)s->backing_name, (guint)strlen(s->backing_name));
    }
    bool fits = out->len <= s->cluster_size;
    int ret = fits ? qcow2_write_header(s, 0, out->data, out->len) : 0;
    if (!fits)
        opts_error(err, "the name of the backing image does not fit into the header of '%s'", s->node.path);
    else if (ret)
        g_set_error(err, G_FILE_ERROR, g_file_error_from_errno(-ret), "the header of '%s' cannot be written: %s", s->node.path,
                    g_strerror(-ret));
    g_byte_array_free(out, TRUE);
    return fits && !ret;
}

bool qcow2_set_backing(struct blk_node *n, const char *name, const char *format, GError **err)
{
    struct qcow2 *s = qcow2(n);
    g_autofree char *old_name = s->backing_name, *old_format = s->backing_format;
    if (name && strlen(name) > 1023)
        return opts_error(err, "the name of the backing image is too long: at most 1023 bytes");
    s->backing_name = g_strdup(name);
    s->backing_format = name ? g_strdup(format) : NULL;
    return qcow2_rewrite_header(s, err);
}

static const char *backing_name(struct blk_node *n, const char **format)
{
    *format = qcow2(n)->backing_format;
    return qcow2(n)->backing_name;
}

/* --- Stretches of the guest's disk ---------------------------------------------------------------------------------- */

static bool conflict(const struct qcow2_range *a, const struct qcow2_range *b)
{
    return (a->exclusive || b->exclusive) && a->start < b->end && b->start < a->end;
}

/* Does one that came earlier stand in the way? */
static bool must_wait(const struct qcow2 *s, const struct qcow2_range *r)
{
    for (const struct qcow2_range *o = s->ranges; o && o != r; o = o->next) {
        if (conflict(o, r))
            return true;
    }
    return false;
}

static void append(struct qcow2 *s, struct qcow2_range *r)
{
    struct qcow2_range **end = &s->ranges;
    while (*end)
        end = &(*end)->next;
    r->next = NULL;
    *end = r;
}

void qcow2_range_enter(struct qcow2 *s, struct qcow2_range *r, uint64_t offset, uint64_t bytes, bool exclusive)
{
    uint64_t mask = exclusive ? s->cluster_size - 1 : 0;
    *r = (struct qcow2_range){ .start = offset & ~mask, .end = (offset + bytes + mask) & ~mask, .exclusive = exclusive };
    pthread_mutex_lock(&s->ranges_lock);
    append(s, r);
    while (must_wait(s, r))
        pthread_cond_wait(&s->ranges_cond, &s->ranges_lock);
    pthread_mutex_unlock(&s->ranges_lock);
}

bool qcow2_range_try(struct qcow2 *s, struct qcow2_range *r)
{
    pthread_mutex_lock(&s->ranges_lock);
    append(s, r);
    bool good = !must_wait(s, r);
    pthread_mutex_unlock(&s->ranges_lock);
    if (!good)
        qcow2_range_leave(s, r);
    return good;
}

void qcow2_range_leave(struct qcow2 *s, struct qcow2_range *r)
{
    pthread_mutex_lock(&s->ranges_lock);
    struct qcow2_range **at = &s->ranges;
    while (*at != r)
        at = &(*at)->next;
    *at = r->next;
    pthread_cond_broadcast(&s->ranges_cond);
    pthread_mutex_unlock(&s->ranges_lock);
}

/* --- Opening ------------------------------------------------------------------------------------------------------- */

static bool bad(struct qcow2 *s, GError **err, const char *fmt, ...) G_GNUC_PRINTF(3, 4);
static bool bad(struct qcow2 *s, GError **err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    g_autofree char *what = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_INVAL, "'%s' %s", s->node.path, what);
    return false;
}

static bool qcow2_probe(const uint8_t *head, size_t len)
{
    const struct qcow2_header *h = (const struct qcow2_header *)head;
    if (len < QCOW2_V2_HEADER || GUINT32_FROM_BE(h->magic) != QCOW2_MAGIC)
        return false;
    return GUINT32_FROM_BE(h->version) >= 2;
}

/* What the bits that we do not know are called, after the image's own table. */
static char *feature_names(const uint8_t *table, uint32_t len, uint64_t bits)
{
    GString *out = g_string_new(NULL);
    for (unsigned bit = 0; bit < 64; bit++) {
        if (!(bits >> bit & 1))
            continue;
        uint32_t at = 0;
        while (at + 48 <= len && (table[at] != 0 || table[at + 1] != bit))
            at += 48;
        if (out->len)
            g_string_append(out, ", ");
        if (at + 48 <= len)
            g_string_append_printf(out, "%.46s", (const char *)table + at + 2);
        else
            g_string_append_printf(out, "number %u", bit);
    }
    return g_string_free(out, FALSE);
}

static bool check_features(struct qcow2 *s, const uint8_t *names, uint32_t names_len, GError **err)
{
    uint64_t known = QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT | QCOW2_INCOMPAT_COMPRESSION;
    bool write = s->node.flags & BLK_OPEN_WRITE, check = s->node.flags & BLK_OPEN_CHECK;
    if (s->incompatible & QCOW2_INCOMPAT_DATA_FILE)
        return bad(s, err, "keeps its data in an external file, which this version does not read");
    if (s->incompatible & QCOW2_INCOMPAT_EXTL2)
        return bad(s, err, "has extended L2 entries (subclusters), which this version does not read");
    if (s->incompatible & ~known) {
        g_autofree char *list = feature_names(names, names_len, s->incompatible & ~known);
        return bad(s, err, "needs features that this version does not have: %s", list);
    }
    if ((s->incompatible & QCOW2_INCOMPAT_CORRUPT) && write && !check)
        return bad(s, err, "is damaged and can be opened for reading only; trapeze-img check -r all may repair it");
    return true;
}

static bool read_extensions(struct qcow2 *s, uint64_t end, GError **err)
{
    uint64_t at = s->header_length, names_len = 0;
    g_autofree uint8_t *head = g_malloc(s->cluster_size), *names = NULL;
    int ret = blk_node_pread(s->node.file, 0, head, s->cluster_size);
    if (ret)
        return bad(s, err, "cannot be read: %s", g_strerror(-ret));
    while (at + 8 <= end) {
        uint32_t type = GUINT32_FROM_BE(*(uint32_t *)(head + at)), len = GUINT32_FROM_BE(*(uint32_t *)(head + at + 4));
        at += 8;
        if (type == EXT_END)
            break;
        if (len > end - at)
            return bad(s, err, "is damaged: header extension 0x%x is longer than the header", type);
        const uint8_t *data = head + at;
        if (type == EXT_BACKING_FORMAT) {
            g_free(s->backing_format);
            s->backing_format = g_strndup((const char *)data, MIN(len, 63));
        } else if (type == EXT_FEATURE_NAMES && !names) {
            names = g_memdup2(data, len);
            names_len = len;
        } else if (type != EXT_FEATURE_NAMES && type != EXT_BITMAPS) {
            struct qcow2_extension e = { type, len, g_memdup2(data, len) };
            g_array_append_val(s->extensions, e);
        }
        at += (len + 7) & ~7u;
    }
    return check_features(s, names, (uint32_t)names_len, err);
}

static bool read_backing_name(struct qcow2 *s, const struct qcow2_header *h, GError **err)
{
    uint64_t offset = GUINT64_FROM_BE(h->backing_offset);
    uint32_t len = GUINT32_FROM_BE(h->backing_size);
    if (!offset || !len)
        return true;
    if (len > 1023 || offset > s->cluster_size || len > s->cluster_size - offset)
        return bad(s, err, "is damaged: the name of its backing image is not in the header");
    g_autofree char *name = g_malloc0(len + 1);
    int ret = blk_node_pread(s->node.file, offset, name, len);
    if (ret)
        return bad(s, err, "cannot be read: %s", g_strerror(-ret));
    s->backing_name = g_strdup(name);
    return true;
}

/* Takes the fixed part apart, but for tables. */
static bool read_fixed(struct qcow2 *s, const struct qcow2_header *h, GError **err)
{
    s->version = GUINT32_FROM_BE(h->version);
    s->cluster_bits = GUINT32_FROM_BE(h->cluster_bits);
    if (GUINT32_FROM_BE(h->magic) != QCOW2_MAGIC)
        return bad(s, err, "is no qcow2 image");
    if (s->version < 2 || s->version > 3)
        return bad(s, err, "is a qcow image of version %u; this version reads 2 and 3", s->version);
    if (s->cluster_bits < QCOW2_MIN_CLUSTER_BITS || s->cluster_bits > QCOW2_MAX_CLUSTER_BITS)
        return bad(s, err, "is damaged: clusters of 2^%u bytes; right is 9 to 21", s->cluster_bits);
    s->cluster_size = UINT64_C(1) << s->cluster_bits;
    s->l2_bits = s->cluster_bits - 3;
    s->refcount_order = 4;
    s->header_length = QCOW2_V2_HEADER;
    if (s->version == 3) {
        s->incompatible = GUINT64_FROM_BE(h->incompatible);
        s->compatible = GUINT64_FROM_BE(h->compatible);
        s->autoclear = GUINT64_FROM_BE(h->autoclear);
        s->refcount_order = GUINT32_FROM_BE(h->refcount_order);
        s->header_length = GUINT32_FROM_BE(h->header_length);
        if (s->header_length < 104 || s->header_length > s->cluster_size || s->header_length % 8)
            return bad(s, err, "is damaged: its header is %u bytes long", s->header_length);
        if (s->refcount_order > 6)
            return bad(s, err, "is damaged: refcounts of 2^%u bits; right is at most 64 bits", s->refcount_order);
        if (s->header_length > 104)
            s->compression = h->compression_type;
    }
    if (GUINT32_FROM_BE(h->crypt_method))
        return bad(s, err, "is encrypted, which this version cannot read");
    if (s->compression > QCOW2_ZSTD || (s->compression != QCOW2_ZLIB) != !!(s->incompatible & QCOW2_INCOMPAT_COMPRESSION))
        return bad(s, err, "is damaged, or compressed in a way (%u) that this version does not know", s->compression);
    s->node.size = GUINT64_FROM_BE(h->size);
    if (s->node.size > BLK_SIZE_MAX)
        return bad(s, err, "is damaged: its disk is larger than any");
    return true;
}

static bool read_l1(struct qcow2 *s, const struct qcow2_header *h, GError **err)
{
    uint64_t need = qcow2_l1_entries(s->cluster_bits, s->node.size);
    s->l1_size = GUINT32_FROM_BE(h->l1_size);
    s->l1_offset = GUINT64_FROM_BE(h->l1_offset);
    if (s->l1_size > QCOW2_L1_MAX / 8 || need > QCOW2_L1_MAX / 8)
        return bad(s, err, "has an L1 table of more than 32 MiB: too large");
    if (s->l1_size < need)
        return bad(s, err, "is damaged: its L1 table has %u entries for a disk that needs %" G_GUINT64_FORMAT, s->l1_size, need);
    if (qcow2_into(s, s->l1_offset) || s->l1_offset > BLK_SIZE_MAX - QCOW2_L1_MAX)
        return bad(s, err, "is damaged: its L1 table is not at a cluster");
    int ret;
    s->l1 = qcow2_read_l1(s, s->l1_offset, s->l1_size, &ret);
    return s->l1 || bad(s, err, "cannot be read: its L1 table: %s", g_strerror(-ret));
}

static bool read_tables(struct qcow2 *s, const struct qcow2_header *h, GError **err)
{
    uint32_t clusters = GUINT32_FROM_BE(h->reftable_clusters);
    s->reftable_offset = GUINT64_FROM_BE(h->reftable_offset);
    if (!clusters || (uint64_t)clusters << s->cluster_bits > QCOW2_REFTABLE_MAX)
        return bad(s, err, "is damaged: its refcount table has %u clusters; right is 1 to 8 MiB", clusters);
    if (!s->reftable_offset || qcow2_into(s, s->reftable_offset) || s->reftable_offset > BLK_SIZE_MAX - QCOW2_REFTABLE_MAX)
        return bad(s, err, "is damaged: its refcount table is not at a cluster");
    return qcow2_load_reftable(s, clusters, err) && read_l1(s, h, err) &&
           qcow2_load_snapshots(s, GUINT32_FROM_BE(h->snapshot_count), GUINT64_FROM_BE(h->snapshots_offset), err);
}

static bool open_backing(struct qcow2 *s, GError **err)
{
    unsigned flags = (s->node.flags & ~(unsigned)BLK_OPEN_WRITE) + BLK_OPEN_DEPTH;
    if (!s->backing_name || (flags & BLK_OPEN_NO_BACKING))
        return true;
    if (flags / BLK_OPEN_DEPTH > CHAIN_MAX)
        return bad(s, err, "has more than %d images below it, or is below itself", CHAIN_MAX);
    g_autofree char *path = blk_path_beside(s->node.path, s->backing_name);
    s->node.backing = blk_node_open(path, s->backing_format, flags, s->node.async, NULL, err);
    if (!s->node.backing)
        g_prefix_error(err, "the backing image of '%s': ", s->node.path);
    return s->node.backing != NULL;
}

static bool take_options(struct qcow2 *s, struct opts *o, GError **err)
{
    uint64_t l2 = L2_CACHE, refcounts = REFCOUNT_CACHE, all = 0;
    bool lazy = s->compatible & QCOW2_COMPAT_LAZY;
    if (o && (!opts_take_size(o, "l2-cache-size", 1, &l2, err) ||
              !opts_take_size(o, "refcount-cache-size", 1, &refcounts, err) ||
              !opts_take_size(o, "cache-size", 1, &all, err) || !opts_take_bool(o, "lazy-refcounts", &lazy, err)))
        return false;
    if (all)
        l2 = all > 2 * refcounts ? all - refcounts : all / 2;
    if (lazy && s->version < 3)
        return opts_error(err, "lazy-refcounts=on needs an image of version 3 (compat=1.1)");
    s->lazy = lazy && (s->node.flags & BLK_OPEN_WRITE);
    qcow2_cache_init(&s->l2s, MIN(s->cluster_size, SLICE_SIZE), MIN(l2, CACHE_MAX));
    qcow2_cache_init(&s->refblocks, MIN(s->cluster_size, SLICE_SIZE), MIN(refcounts, CACHE_MAX));
    return true;
}

/* What has to be done before the first write. */
static bool prepare_write(struct qcow2 *s, GError **err)
{
    if (!(s->node.flags & BLK_OPEN_WRITE) || (s->node.flags & BLK_OPEN_CHECK))
        return true;
    if (s->autoclear) {
        s->autoclear = 0;
        int ret = qcow2_write_features(s);
        if (ret)
            return bad(s, err, "cannot be written to: %s", g_strerror(-ret));
    }
    return !(s->incompatible & QCOW2_INCOMPAT_DIRTY) || qcow2_repair_dirty(s, err);
}

static void release(struct qcow2 *s)
{
    for (guint i = 0; i < s->extensions->len; i++)
        g_free(g_array_index(s->extensions, struct qcow2_extension, i).data);
    g_array_free(s->extensions, TRUE);
    g_array_free(s->pending, TRUE);
    qcow2_free_snapshots(s);
    qcow2_cache_free(&s->l2s);
    qcow2_cache_free(&s->refblocks);
    g_free(s->l1);
    g_free(s->reftable);
    g_free(s->unpacked);
    g_free(s->backing_name);
    g_free(s->backing_format);
    pthread_mutex_destroy(&s->lock);
    pthread_mutex_destroy(&s->ranges_lock);
    pthread_mutex_destroy(&s->unpack_lock);
    pthread_cond_destroy(&s->ranges_cond);
}

static bool qcow2_open(struct blk_node *n, struct opts *o, GError **err)
{
    struct qcow2 *s = qcow2(n);
    struct qcow2_header h;
    pthread_mutex_init(&s->lock, NULL);
    pthread_mutex_init(&s->ranges_lock, NULL);
    pthread_mutex_init(&s->unpack_lock, NULL);
    pthread_cond_init(&s->ranges_cond, NULL);
    s->extensions = g_array_new(FALSE, FALSE, sizeof(struct qcow2_extension));
    s->snapshots = g_array_new(FALSE, FALSE, sizeof(struct qcow2_snapshot));
    s->pending = g_array_new(FALSE, FALSE, sizeof(struct qcow2_pending));
    int ret = blk_node_pread(n->file, 0, &h, sizeof h);
    bool ok = !ret || bad(s, err, "cannot be read: %s", g_strerror(-ret));
    ok = ok && read_fixed(s, &h, err) && read_backing_name(s, &h, err);
    uint64_t backing_offset = GUINT64_FROM_BE(h.backing_offset);
    ok = ok && read_extensions(s, s->backing_name ? backing_offset : s->cluster_size, err);
    ok = ok && take_options(s, o, err) && read_tables(s, &h, err) && open_backing(s, err) && prepare_write(s, err);
    if (!ok)
        release(s);
    return ok;
}

/* --- Closing, flushing, resizing ------------------------------------------------------------------------------------ */

static void qcow2_close(struct blk_node *n)
{
    struct qcow2 *s = qcow2(n);
    if ((n->flags & BLK_OPEN_WRITE) && !s->corrupt) {
        pthread_mutex_lock(&s->lock);
        int ret = qcow2_write_tables(s, true);
        if (!ret) /* what became free by that */
            ret = qcow2_write_tables(s, true);
        if (!ret)
            ret = qcow2_sync(s);
        if (!ret && (s->incompatible & QCOW2_INCOMPAT_DIRTY) && s->lazy) {
            s->incompatible &= ~QCOW2_INCOMPAT_DIRTY;
            ret = qcow2_write_features(s);
        }
        if (ret)
            log_line("qcow2: '%s' could not be closed properly: %s", n->path, g_strerror(-ret));
        pthread_mutex_unlock(&s->lock);
    }
    release(s);
}

static int qcow2_flush(struct blk_node *n)
{
    struct qcow2 *s = qcow2(n);
    pthread_mutex_lock(&s->lock);
    int ret = s->corrupt ? -EIO : qcow2_write_tables(s, false);
    pthread_mutex_unlock(&s->lock);
    return ret ? ret : qcow2_sync(s);
}

int qcow2_grow_l1(struct qcow2 *s, uint64_t entries)
{
    uint64_t offset, old_offset = s->l1_offset, old_bytes = s->l1_size * UINT64_C(8);
    if (entries <= s->l1_size)
        return 0;
    if (entries > QCOW2_L1_MAX / 8)
        return -EFBIG;
    int ret = qcow2_alloc_contiguous(s, qcow2_clusters(s, entries * 8), &offset);
    if (!ret)
        ret = qcow2_write_tables(s, true);
    if (ret)
        return ret;
    /* Whole clusters, so that the file is as long as it says. */
    uint64_t room = qcow2_clusters(s, entries * 8) << s->cluster_bits;
    g_autofree uint64_t *be = g_malloc0(room);
    for (uint32_t i = 0; i < s->l1_size; i++)
        be[i] = GUINT64_TO_BE(s->l1[i]);
    struct {
        uint32_t size;
        uint64_t offset;
    } __attribute__((packed)) field = { GUINT32_TO_BE((uint32_t)entries), GUINT64_TO_BE(offset) };
    ret = blk_node_pwrite(s->node.file, offset, be, room);
    if (!ret)
        ret = qcow2_sync(s);
    if (!ret)
        ret = qcow2_write_header(s, offsetof(struct qcow2_header, l1_size), &field, sizeof field);
    if (ret)
        return ret;
    s->l1 = g_renew(uint64_t, s->l1, entries);
    memset(s->l1 + s->l1_size, 0, (entries - s->l1_size) * 8);
    s->l1_size = (uint32_t)entries;
    s->l1_offset = offset;
    if (old_bytes)
        qcow2_free(s, old_offset, old_bytes);
    return 0;
}

static int set_size(struct qcow2 *s, uint64_t size)
{
    uint64_t be = GUINT64_TO_BE(size);
    int ret = qcow2_write_header(s, offsetof(struct qcow2_header, size), &be, sizeof be);
    if (!ret)
        s->node.size = size;
    return ret;
}

/* What is behind the old end reads as zeros: neither what was there before it shrank nor the backing image shows. */
static int grow(struct qcow2 *s, uint64_t size)
{
    uint64_t old = s->node.size, cluster_end = MIN(size, qcow2_clusters(s, old) << s->cluster_bits);
    pthread_mutex_lock(&s->lock);
    int ret = qcow2_grow_l1(s, qcow2_l1_entries(s->cluster_bits, size));
    if (!ret)
        ret = set_size(s, size);
    pthread_mutex_unlock(&s->lock);
    if (!ret && cluster_end > old)
        ret = blk_node_write_zeroes(&s->node, old, cluster_end - old, BLK_UNMAP);
    uint64_t shows = s->node.backing ? MIN(size, s->node.backing->size) : 0;
    if (!ret && shows > cluster_end)
        ret = blk_node_write_zeroes(&s->node, cluster_end, shows - cluster_end, BLK_UNMAP);
    return ret;
}

static int shrink(struct qcow2 *s, uint64_t size)
{
    uint64_t from = qcow2_clusters(s, size) << s->cluster_bits;
    int ret = from < s->node.size ? blk_node_discard(&s->node, from, s->node.size - from) : 0;
    if (!ret)
        ret = blk_node_flush(&s->node);
    pthread_mutex_lock(&s->lock);
    if (!ret)
        ret = set_size(s, size);
    pthread_mutex_unlock(&s->lock);
    return ret;
}

/* Space on the host for what the image now has. */
static bool fill(struct qcow2 *s, enum blk_prealloc prealloc, uint64_t old_end, GError **err)
{
    struct blk_node *f = s->node.file;
    uint64_t end = f->size;
    if (prealloc < BLK_PREALLOC_FALLOC || end <= old_end)
        return true;
    /* The file's own way of growing fills what it adds, and what is there already must stay. */
    for (uint64_t at = old_end & ~(s->cluster_size - 1); at < end; at += s->cluster_size) {
        struct blk_extent e;
        uint64_t bytes = MIN(s->cluster_size, end - at);
        if (f->driver->map(f, at, bytes, &e) || (e.kind & BLK_EXTENT_DATA) || e.bytes < bytes)
            continue;
        int ret = prealloc == BLK_PREALLOC_FALLOC ? f->driver->write_zeroes(f, at, bytes, 0) : -ENOTSUP;
        g_autofree uint8_t *zeros = ret ? g_malloc0(bytes) : NULL;
        if (ret == -ENOTSUP)
            ret = blk_node_pwrite(f, at, zeros, bytes);
        if (ret)
            return bad(s, err, "cannot be filled: %s", g_strerror(-ret));
    }
    return true;
}

static bool qcow2_resize(struct blk_node *n, uint64_t size, enum blk_prealloc prealloc, bool may_shrink, GError **err)
{
    struct qcow2 *s = qcow2(n);
    uint64_t old = n->size, old_end = n->file->size;
    if (size % BLK_SECTOR)
        return opts_error(err, "the new size must be a multiple of 512 bytes");
    if (s->snapshots->len && s->version < 3)
        return bad(s, err, "is of version 2 and has snapshots: it cannot be resized");
    if (size < old && prealloc != BLK_PREALLOC_OFF)
        return opts_error(err, "preallocation cannot be used to make an image smaller");
    if (size < old && !may_shrink)
        return opts_error(err, "making the image smaller would delete data: use --shrink");
    if (prealloc != BLK_PREALLOC_OFF && s->backing_name)
        return opts_error(err, "preallocation cannot be used with a backing image");
    int ret = size > old ? grow(s, size) : size < old ? shrink(s, size) : 0;
    if (!ret && prealloc != BLK_PREALLOC_OFF)
        ret = qcow2_preallocate(s, old, size);
    if (ret)
        return bad(s, err, "cannot be resized: %s", g_strerror(-ret));
    return fill(s, prealloc, old_end, err);
}

/* --- What it says of itself ------------------------------------------------------------------------------------------ */

static int qcow2_map(struct blk_node *n, uint64_t offset, uint64_t bytes, struct blk_extent *e)
{
    static const unsigned kinds[] = {
        [QCOW2_UNALLOCATED] = 0,
        [QCOW2_ZERO_PLAIN] = BLK_EXTENT_ZERO | BLK_EXTENT_ALLOCATED,
        [QCOW2_ZERO_ALLOCATED] = BLK_EXTENT_ZERO | BLK_EXTENT_ALLOCATED | BLK_EXTENT_OFFSET,
        [QCOW2_NORMAL] = BLK_EXTENT_DATA | BLK_EXTENT_ALLOCATED | BLK_EXTENT_OFFSET,
        [QCOW2_PACKED] = BLK_EXTENT_DATA | BLK_EXTENT_ALLOCATED | BLK_EXTENT_COMPRESSED,
    };
    struct qcow2 *s = qcow2(n);
    struct qcow2_run run;
    pthread_mutex_lock(&s->lock);
    int ret = qcow2_map_run(s, offset, bytes, QCOW2_READ, &run);
    pthread_mutex_unlock(&s->lock);
    if (ret)
        return ret;
    *e = (struct blk_extent){ .bytes = run.bytes, .kind = kinds[run.kind], .host = run.host };
    if (run.kind == QCOW2_UNALLOCATED && !s->backing_name)
        e->kind = BLK_EXTENT_ZERO;
    return 0;
}

static void add_fact(GArray *out, const char *name, bool string, const char *value)
{
    struct blk_fact f = { name, g_strdup(value), string };
    g_array_append_val(out, f);
}

static GArray *qcow2_facts(struct blk_node *n)
{
    struct qcow2 *s = qcow2(n);
    GArray *out = g_array_new(FALSE, FALSE, sizeof(struct blk_fact));
    g_autofree char *bits = g_strdup_printf("%u", 1u << s->refcount_order);
    add_fact(out, "compat", true, s->version == 2 ? "0.10" : "1.1");
    add_fact(out, "compression type", true, s->compression == QCOW2_ZSTD ? "zstd" : "zlib");
    if (s->version >= 3)
        add_fact(out, "lazy refcounts", false, s->compatible & QCOW2_COMPAT_LAZY ? "true" : "false");
    add_fact(out, "refcount bits", false, bits);
    if (s->version >= 3) {
        add_fact(out, "corrupt", false, s->incompatible & QCOW2_INCOMPAT_CORRUPT ? "true" : "false");
        add_fact(out, "extended l2", false, "false");
    }
    return out;
}

static uint64_t cluster_size(struct blk_node *n)
{
    return qcow2(n)->cluster_size;
}

static bool is_dirty(struct blk_node *n)
{
    return qcow2(n)->incompatible & QCOW2_INCOMPAT_DIRTY;
}

const struct blk_driver blk_qcow2_driver = {
    .name = "qcow2",
    .size = sizeof(struct qcow2),
    .probe = qcow2_probe,
    .open = qcow2_open,
    .close = qcow2_close,
    .read = qcow2_read,
    .write = qcow2_write,
    .flush = qcow2_flush,
    .discard = qcow2_discard,
    .write_zeroes = qcow2_write_zeroes,
    .map = qcow2_map,
    .resize = qcow2_resize,
    .write_compressed = qcow2_write_compressed,
    .create = qcow2_create,
    .check = qcow2_check,
    .facts = qcow2_facts,
    .snapshots = qcow2_list_snapshots,
    .snapshot_create = qcow2_snapshot_create,
    .snapshot_apply = qcow2_snapshot_apply,
    .snapshot_delete = qcow2_snapshot_delete,
    .snapshot_show = qcow2_snapshot_show,
    .make_empty = qcow2_make_empty,
    .backing_name = backing_name,
    .set_backing_name = qcow2_set_backing,
    .cluster_size = cluster_size,
    .is_dirty = is_dirty,
    .start = qcow2_start,
};
