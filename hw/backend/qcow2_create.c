/*
 * qcow2: making a new image. The smallest one possible (header, refcount table, one refcount block) is written and then
 * grown to its size, so that nothing is laid out twice.
 */
#include "hw/backend/qcow2.h"

#include "hw/core/opts.h"

#include <string.h>

struct plan {
    unsigned version, cluster_bits, refcount_order;
    bool lazy;
    enum qcow2_compression compression;
    enum blk_prealloc prealloc;
    const char *backing, *backing_format;
};

static bool take_compat(struct opts *o, struct plan *p, GError **err)
{
    const char *v = opts_take(o, "compat");
    if (!v || strcmp(v, "1.1") == 0 || strcmp(v, "v3") == 0)
        p->version = 3;
    else if (strcmp(v, "0.10") == 0 || strcmp(v, "v2") == 0)
        p->version = 2;
    else
        return opts_error(err, "compat=%s: must be 0.10 or 1.1", v);
    return true;
}

static bool take_sizes(struct opts *o, struct plan *p, GError **err)
{
    uint64_t cluster = 65536, bits = 16;
    if (!opts_take_size(o, "cluster_size", 1, &cluster, err) || !opts_take_number(o, "refcount_bits", 1, 64, &bits, err))
        return false;
    if (cluster < 512 || cluster > 2 << 20 || (cluster & (cluster - 1)))
        return opts_error(err, "cluster_size: must be a power of two from 512 to 2M");
    if (bits & (bits - 1))
        return opts_error(err, "refcount_bits: must be a power of two from 1 to 64");
    if (bits != 16 && p->version < 3)
        return opts_error(err, "refcount_bits other than 16 need compat=1.1");
    p->cluster_bits = (unsigned)g_bit_nth_lsf((gulong)cluster, -1);
    p->refcount_order = (unsigned)g_bit_nth_lsf((gulong)bits, -1);
    return true;
}

static bool take_words(struct opts *o, struct plan *p, GError **err)
{
    static const char *const preallocs[] = { "off", "metadata", "falloc", "full", NULL };
    const char *prealloc = opts_take(o, "preallocation"), *compression = opts_take(o, "compression_type");
    for (unsigned i = 0; prealloc && preallocs[i]; i++) {
        if (strcmp(prealloc, preallocs[i]) == 0) {
            p->prealloc = i;
            prealloc = NULL;
        }
    }
    if (prealloc)
        return opts_error(err, "preallocation=%s: must be off, metadata, falloc or full", prealloc);
    if (compression && strcmp(compression, "zstd") == 0)
        p->compression = QCOW2_ZSTD;
    else if (compression && strcmp(compression, "zlib"))
        return opts_error(err, "compression_type=%s: must be zlib or zstd", compression);
    if (p->compression != QCOW2_ZLIB && p->version < 3)
        return opts_error(err, "compression_type=zstd needs compat=1.1");
    return true;
}

static bool take_refused(struct opts *o, GError **err)
{
    bool encryption = false, extl2 = false, nocow = false, raw = false;
    if (!opts_take_bool(o, "encryption", &encryption, err) || !opts_take_bool(o, "extended_l2", &extl2, err) ||
        !opts_take_bool(o, "nocow", &nocow, err) || !opts_take_bool(o, "data_file_raw", &raw, err))
        return false;
    if (encryption || opts_take(o, "encrypt.format"))
        return opts_error(err, "this version does not encrypt images");
    if (extl2)
        return opts_error(err, "extended_l2=on: this version has no subclusters");
    if (raw || opts_take(o, "data_file"))
        return opts_error(err, "data_file: this version has no external data files");
    return true;
}

static bool take_plan(struct opts *o, struct plan *p, GError **err)
{
    if (!take_compat(o, p, err) || !take_sizes(o, p, err) || !take_words(o, p, err) ||
        !opts_take_bool(o, "lazy_refcounts", &p->lazy, err) || !take_refused(o, err))
        return false;
    p->backing = opts_take(o, "backing_file");
    p->backing_format = opts_take(o, "backing_fmt");
    if (p->backing && !*p->backing)
        p->backing = NULL;
    if (p->lazy && p->version < 3)
        return opts_error(err, "lazy_refcounts=on needs compat=1.1");
    if (p->backing && p->prealloc != BLK_PREALLOC_OFF)
        return opts_error(err, "preallocation cannot be used with a backing image");
    return opts_done(o, "size, compat, backing_file, backing_fmt, cluster_size, preallocation, lazy_refcounts, refcount_bits, "
                     "compression_type", err);
}

/* Header in cluster 0, refcount table in cluster 1, its block in cluster 2. */
static bool write_smallest(struct blk_node *f, const struct plan *p, GError **err)
{
    uint64_t size = UINT64_C(1) << p->cluster_bits, entry = GUINT64_TO_BE(2 * size);
    struct qcow2_header h = {
        .magic = GUINT32_TO_BE(QCOW2_MAGIC),
        .version = GUINT32_TO_BE(p->version),
        .cluster_bits = GUINT32_TO_BE(p->cluster_bits),
        .reftable_offset = GUINT64_TO_BE(size),
        .reftable_clusters = GUINT32_TO_BE(1),
        .incompatible = GUINT64_TO_BE(p->compression == QCOW2_ZSTD ? QCOW2_INCOMPAT_COMPRESSION : 0),
        .compatible = GUINT64_TO_BE(p->lazy ? QCOW2_COMPAT_LAZY : 0),
        .refcount_order = GUINT32_TO_BE(p->refcount_order),
        .header_length = GUINT32_TO_BE(sizeof h),
        .compression_type = (uint8_t)p->compression,
    };
    uint8_t counts[3 * 8] = { 0 };
    for (unsigned i = 0; i < 3; i++)
        qcow2_refcount_put(counts, p->refcount_order, i, 1);
    int ret = blk_node_pwrite(f, 0, &h, p->version >= 3 ? sizeof h : QCOW2_V2_HEADER);
    if (!ret)
        ret = blk_node_pwrite(f, size, &entry, sizeof entry);
    if (!ret)
        ret = blk_node_pwrite(f, 2 * size, counts, sizeof counts);
    if (!ret)
        ret = blk_node_write_zeroes(f, 3 * size - 1, 1, 0);
    if (ret)
        g_set_error(err, G_FILE_ERROR, g_file_error_from_errno(-ret), "'%s' cannot be written: %s", f->path, g_strerror(-ret));
    return !ret;
}

bool qcow2_create(const char *path, uint64_t size, struct opts *o, GError **err)
{
    struct plan p = { 0 };
    if (!take_plan(o, &p, err))
        return false;
    size = (size + BLK_SECTOR - 1) & ~(uint64_t)(BLK_SECTOR - 1);
    if (qcow2_l1_entries(p.cluster_bits, size) > QCOW2_L1_MAX / 8)
        return opts_error(err, "an image with clusters of %u bytes cannot be so large; try a larger cluster_size",
                          1u << p.cluster_bits);
    if (!blk_file_create(path, 0, BLK_PREALLOC_OFF, err))
        return false;
    unsigned flags = BLK_OPEN_WRITE | BLK_OPEN_LOCK_OPTIONAL | BLK_OPEN_NO_FLUSH | BLK_OPEN_NO_BACKING;
    struct blk_node *f = blk_file_open(path, flags, NULL, err);
    bool ok = f && write_smallest(f, &p, err);
    blk_node_close(f);
    struct blk_node *n = ok ? blk_node_open(path, "qcow2", flags, NULL, NULL, err) : NULL;
    ok = n && (p.backing || p.version >= 3 ? qcow2_set_backing(n, p.backing, p.backing_format, err) : true) &&
         blk_node_resize(n, size, p.prealloc, false, err);
    blk_node_close(n);
    return ok;
}
