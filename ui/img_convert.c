/*
 * trapeze-img convert and compare: reading whole disks, of one image or several in a row.
 *
 * convert reads and writes by several threads, each a piece at a time; pieces are whole clusters of the new image, so that
 * they do not meet. What reads as zeros is not read, and not written where the new image has zeros anyway.
 */
#include "ui/img.h"

#include "hw/core/opts.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PIECE (UINT64_C(2) << 20)
#define THREADS 4
#define SPARSE 4096

/* --- Several images as one disk ----------------------------------------------------------------------------------------- */

struct source {
    struct blk_node *n;
    uint64_t start; /* in the whole */
};

struct convert {
    GArray *sources; /* struct source */
    uint64_t size;
    struct blk_node *out;
    bool compress, progress, out_is_zero, has_backing;
    uint64_t sparse; /* bytes; 0: zeros are written, too */
    pthread_mutex_t lock;
    uint64_t next, done; /* by lock */
    int error;           /* by lock; the first one */
};

static void close_sources(GArray *sources)
{
    for (guint i = 0; i < sources->len; i++)
        blk_node_close(g_array_index(sources, struct source, i).n);
    g_array_free(sources, TRUE);
}

/* The image that holds that offset, and how much of `bytes` it does. */
static const struct source *source_at(const struct convert *t, uint64_t offset, uint64_t *bytes)
{
    for (guint i = 0; i < t->sources->len; i++) {
        const struct source *s = &g_array_index(t->sources, struct source, i);
        if (offset < s->start + s->n->size) {
            *bytes = MIN(*bytes, s->start + s->n->size - offset);
            return s;
        }
    }
    g_assert_not_reached();
}

/* --- Pieces ---------------------------------------------------------------------------------------------------------------- */

static int write_zeros(struct convert *t, uint64_t offset, uint64_t bytes)
{
    if (t->out_is_zero && t->sparse)
        return 0;
    return blk_node_write_zeroes(t->out, offset, bytes, t->sparse ? BLK_UNMAP : 0);
}

/* Data, but for runs of zeros. */
static int write_data(struct convert *t, uint64_t offset, uint64_t bytes, uint8_t *buf)
{
    int ret = 0;
    for (uint64_t at = 0; at < bytes && !ret;) {
        uint64_t grain = t->sparse ? t->sparse : bytes, n = MIN(grain - (offset + at) % grain, bytes - at), more;
        bool zero = t->sparse && blk_is_zero(buf + at, n);
        while (at + n < bytes && t->sparse) {
            more = MIN(grain, bytes - at - n);
            if (blk_is_zero(buf + at + n, more) != zero)
                break;
            n += more;
        }
        ret = zero ? write_zeros(t, offset + at, n) : blk_node_pwrite(t->out, offset + at, buf + at, n);
        at += n;
    }
    return ret;
}

/* Of one source; with a backing image of the new one only what is above that. */
static int copy_stretch(struct convert *t, const struct source *s, uint64_t offset, uint64_t *bytes, uint8_t *buf)
{
    struct blk_extent e;
    struct blk_node *where;
    unsigned depth;
    uint64_t own = offset - s->start;
    int ret = blk_node_map_chain(s->n, own, *bytes, &e, &where, &depth);
    if (ret)
        return ret;
    *bytes = e.bytes;
    if (t->has_backing && depth)
        return 0;
    if (e.kind & BLK_EXTENT_ZERO)
        return write_zeros(t, offset, *bytes);
    ret = blk_node_pread(s->n, own, buf, *bytes);
    return ret ? ret : write_data(t, offset, *bytes, buf);
}

/* Whole clusters, which become smaller. */
static int copy_compressed(struct convert *t, uint64_t offset, uint64_t bytes, uint8_t *buf)
{
    uint64_t cluster = t->out->driver->cluster_size(t->out);
    int ret = 0;
    for (uint64_t at = 0; at < bytes && !ret;) {
        uint64_t n = bytes - at;
        const struct source *s = source_at(t, offset + at, &n);
        ret = blk_node_pread(s->n, offset + at - s->start, buf + at, n);
        at += n;
    }
    for (uint64_t at = 0; at < bytes && !ret; at += cluster) {
        struct iovec iov;
        uint64_t n = MIN(cluster, bytes - at);
        struct blk_vec v = blk_vec_one(&iov, buf + at, n);
        bool zero = blk_is_zero(buf + at, n);
        ret = zero ? write_zeros(t, offset + at, n) : t->out->driver->write_compressed(t->out, offset + at, n, &v);
    }
    return ret;
}

/* Nothing in all of it? Then it need not be read for compressing. */
static bool all_zero(struct convert *t, uint64_t offset, uint64_t bytes)
{
    for (uint64_t at = 0; at < bytes;) {
        struct blk_extent e;
        struct blk_node *where;
        unsigned depth;
        uint64_t n = bytes - at;
        const struct source *s = source_at(t, offset + at, &n);
        if (blk_node_map_chain(s->n, offset + at - s->start, n, &e, &where, &depth) || !(e.kind & BLK_EXTENT_ZERO))
            return false;
        at += e.bytes;
    }
    return true;
}

static int copy_piece(struct convert *t, uint64_t offset, uint64_t bytes, uint8_t *buf)
{
    if (t->compress)
        return all_zero(t, offset, bytes) ? write_zeros(t, offset, bytes) : copy_compressed(t, offset, bytes, buf);
    int ret = 0;
    for (uint64_t at = 0; at < bytes && !ret;) {
        uint64_t n = bytes - at;
        const struct source *s = source_at(t, offset + at, &n);
        ret = copy_stretch(t, s, offset + at, &n, buf + at);
        at += n;
    }
    return ret;
}

static void *copy(void *opaque)
{
    struct convert *t = opaque;
    uint64_t piece = MAX(PIECE, t->out->driver->cluster_size ? t->out->driver->cluster_size(t->out) : 0);
    g_autofree uint8_t *buf = g_malloc(piece);
    pthread_mutex_lock(&t->lock);
    while (t->next < t->size && !t->error) {
        uint64_t at = t->next, n = MIN(piece, t->size - at);
        t->next += n;
        pthread_mutex_unlock(&t->lock);
        int ret = copy_piece(t, at, n, buf);
        pthread_mutex_lock(&t->lock);
        t->done += n;
        if (ret && !t->error)
            t->error = ret;
        if (!ret)
            img_progress(t->progress, t->done - n, t->done, t->size);
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

static int run_convert(struct convert *t, unsigned threads)
{
    pthread_t others[16];
    unsigned made = 0;
    img_progress(t->progress && t->size, 0, 0, t->size);
    pthread_mutex_init(&t->lock, NULL);
    while (made + 1 < threads && pthread_create(&others[made], NULL, copy, t) == 0)
        made++;
    copy(t);
    while (made)
        pthread_join(others[--made], NULL);
    pthread_mutex_destroy(&t->lock);
    return t->error ? t->error : blk_node_flush(t->out);
}

/* --- convert ----------------------------------------------------------------------------------------------------------------- */

struct convert_options {
    struct img_options o;
    const char *out_format, *backing, *backing_format, *snapshot;
    GString *create; /* -o */
    bool compress, no_create, target_is_zero;
    uint64_t sparse, threads;
};

static bool number_option(const char *what, const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
    GError *err = NULL;
    if (parse_number(text, min, max, out, &err))
        return true;
    img_fail("%s %s: it %s", what, text, err->message);
    g_error_free(err);
    return false;
}

/* 0: taken; 1: failed, with a sentence; -1: not of convert's own. */
static int convert_option(struct convert_options *c, int option)
{
    uint64_t ignored;
    switch (option) {
    case 'c': c->compress = true; return 0;
    case 'n': c->no_create = true; return 0;
    case 'O': c->out_format = optarg; return 0;
    case 'B': c->backing = optarg; return 0;
    case 'F': c->backing_format = optarg; return 0;
    case 'l': c->snapshot = g_str_has_prefix(optarg, "snapshot.") ? strchr(optarg, '=') ? strchr(optarg, '=') + 1 : optarg : optarg;
        return 0;
    case 'o': g_string_append_printf(c->create, "%s%s", c->create->len ? "," : "", optarg); return 0;
    case 'S':
        if (!img_parse_size(optarg, &c->sparse))
            return 1;
        return c->sparse % BLK_SECTOR == 0 && c->sparse <= PIECE ? 0 :
               img_fail("Invalid buffer size for sparse output specified. Valid sizes are multiples of 512 up to 2M. Select 0 "
                        "to disable sparse detection (fully allocates output).");
    case 'm': return !number_option("-m", optarg, 1, 16, &c->threads);
    case 'r': return img_parse_size(optarg, &ignored) ? img_fail("-r: this version does not limit the rate") : 1;
    case 'C':
    case 'W': return 0; /* the host copies as it likes; pieces are written in any order anyway */
    case IMG_OWN: c->target_is_zero = true; return 0;
    default: return -1;
    }
}

static bool open_sources(struct convert *t, const struct convert_options *c, char **names, int count)
{
    unsigned flags = 0;
    t->sources = g_array_new(FALSE, FALSE, sizeof(struct source));
    if (!img_cache(c->o.source_cache, &flags))
        return false;
    for (int i = 0; i < count; i++) {
        struct source s = { .start = t->size };
        GError *err = NULL;
        s.n = img_open(&c->o, names[i], c->o.format, flags);
        if (!s.n)
            return false;
        g_array_append_val(t->sources, s);
        if (c->snapshot && (!s.n->driver->snapshot_show || !s.n->driver->snapshot_show(s.n, c->snapshot, &err))) {
            img_fail("Failed to load snapshot: %s", err ? err->message : "this format has none");
            g_clear_error(&err);
            return false;
        }
        t->size += s.n->size;
    }
    if (c->backing && count > 1)
        return img_fail("Having a backing file for the target makes no sense when concatenating multiple input images"), false;
    return true;
}

static bool make_target(struct convert *t, const struct convert_options *c, const char *name)
{
    const struct blk_driver *d = blk_driver_find(c->out_format);
    GError *err = NULL;
    if (!d) {
        img_fail("Unknown file format '%s'; this version writes %s", c->out_format, blk_driver_names());
        return false;
    }
    if (c->compress && !d->write_compressed) {
        img_fail("Compression not supported for this file format");
        return false;
    }
    if (c->no_create)
        return true;
    struct opts *o = opts_parse(c->create->str, NULL);
    if (c->backing)
        opts_set(o, "backing_file", c->backing);
    if (c->backing_format)
        opts_set(o, "backing_fmt", c->backing_format);
    opts_take(o, "size");
    bool ok = d->create(name, t->size, o, &err);
    opts_free(o);
    if (!ok)
        img_fail("%s: error while converting %s: %s", name, d->name, err->message);
    g_clear_error(&err);
    return ok;
}

static bool open_target(struct convert *t, const struct convert_options *c, const char *name)
{
    struct img_options plain = c->o;
    unsigned flags = BLK_OPEN_WRITE | (c->no_create ? 0 : BLK_OPEN_NO_BACKING);
    plain.image_opts = plain.share = false;
    if (!img_cache(c->o.cache ? c->o.cache : "unsafe", &flags))
        return false;
    t->out = img_open(&plain, name, c->out_format, flags);
    if (!t->out)
        return false;
    if (c->no_create && t->out->size < t->size) {
        img_fail("output file is smaller than input file");
        return false;
    }
    /* A block device has whatever was there before. */
    bool device = strcmp(c->out_format, "raw") == 0 && g_str_has_prefix(name, "/dev/");
    t->has_backing = c->backing != NULL;
    t->out_is_zero = c->target_is_zero || (!c->no_create && !device && !c->backing);
    t->sparse = c->sparse;
    t->compress = c->compress;
    t->progress = c->o.progress && !c->o.quiet;
    return true;
}

static int convert(struct convert_options *c, char **names, int count)
{
    struct convert t = { 0 };
    const char *target = names[count];
    bool ok = open_sources(&t, c, names, count) && make_target(&t, c, target) && open_target(&t, c, target);
    int ret = ok ? run_convert(&t, (unsigned)c->threads) : 0;
    if (ret)
        img_fail("error while converting to '%s': %s", target, g_strerror(-ret));
    blk_node_close(t.out);
    close_sources(t.sources);
    return !ok || ret;
}

int img_convert(int argc, char **argv)
{
    static const struct option longs[] = { IMG_LONG_OPTIONS, { "target-is-zero", no_argument, NULL, IMG_OWN }, { 0 } };
    struct convert_options c = { .out_format = "raw", .create = g_string_new(NULL), .sparse = SPARSE, .threads = THREADS };
    bool failed = false;
    int ret = -1;
    for (int option; ret < 0 && (option = getopt_long(argc, argv, ":hf:O:B:F:CcnpS:qo:l:t:T:Um:Wr:", longs, NULL)) != -1;) {
        int own = convert_option(&c, option);
        if (own == 1)
            ret = 1;
        else if (own < 0 && !img_common_option(&c.o, option, &failed))
            ret = failed ? 1 : img_other_option(argv, option);
    }
    if (ret < 0 && optind > argc - 2)
        ret = img_fail("Must specify image file name");
    if (ret < 0 && c.target_is_zero && !c.no_create)
        ret = img_fail("--target-is-zero requires use of -n flag");
    if (ret < 0 && c.backing && !c.backing_format)
        ret = img_fail("-B needs -F: the format of the backing image");
    if (ret < 0)
        ret = convert(&c, argv + optind, argc - optind - 1);
    g_string_free(c.create, TRUE);
    return ret;
}

/* --- compare ------------------------------------------------------------------------------------------------------------------ */

#define COMPARE_FAILED 2

/* The first byte that differs in the stretch, or `bytes`; -1: could not be read. */
static int64_t first_difference(struct blk_node *a, struct blk_node *b, uint64_t offset, uint64_t bytes, uint8_t *buf)
{
    uint8_t *other = buf + PIECE;
    memset(buf, 0, bytes);
    memset(other, 0, bytes);
    if ((offset < a->size && blk_node_pread(a, offset, buf, MIN(bytes, a->size - offset))) ||
        (offset < b->size && blk_node_pread(b, offset, other, MIN(bytes, b->size - offset))))
        return -1;
    if (memcmp(buf, other, bytes) == 0)
        return (int64_t)bytes;
    uint64_t i = 0;
    while (buf[i] == other[i])
        i++;
    return (int64_t)i;
}

static bool zero_at(struct blk_node *n, uint64_t offset, uint64_t *bytes, bool *allocated)
{
    struct blk_extent e;
    struct blk_node *where;
    unsigned depth;
    *allocated = false;
    if (offset >= n->size)
        return true;
    if (blk_node_map_chain(n, offset, MIN(*bytes, n->size - offset), &e, &where, &depth))
        return false;
    *bytes = e.bytes;
    *allocated = e.kind & BLK_EXTENT_ALLOCATED;
    return e.kind & BLK_EXTENT_ZERO;
}

static int compare(struct blk_node *a, struct blk_node *b, bool strict, const struct img_options *o)
{
    uint64_t size = MAX(a->size, b->size);
    g_autofree uint8_t *buf = g_malloc(2 * PIECE);
    if (a->size != b->size && strict) {
        if (!o->quiet)
            printf("Strict mode: Image size mismatch!\n");
        return 1;
    }
    for (uint64_t at = 0; at < size;) {
        uint64_t n = MIN(PIECE, size - at);
        bool a_there, b_there, a_zero = zero_at(a, at, &n, &a_there), b_zero = zero_at(b, at, &n, &b_there);
        if (strict && a_there != b_there) {
            if (!o->quiet)
                printf("Strict mode: Offset %" G_GUINT64_FORMAT " allocation mismatch!\n", at);
            return 1;
        }
        int64_t same = a_zero && b_zero ? (int64_t)n : first_difference(a, b, at, n, buf);
        if (same < 0)
            return img_fail("Error while reading offset %" G_GUINT64_FORMAT, at), COMPARE_FAILED;
        if ((uint64_t)same < n) {
            if (!o->quiet)
                printf("Content mismatch at offset %" G_GUINT64_FORMAT "!\n", at + (uint64_t)same);
            return 1;
        }
        at += n;
        img_progress(o->progress && !o->quiet, at - n, at, size);
    }
    if (a->size != b->size && !o->quiet)
        printf("Warning: Image size mismatch!\n");
    if (!o->quiet)
        printf("Images are identical.\n");
    return 0;
}

int img_compare(int argc, char **argv)
{
    static const struct option longs[] = { IMG_LONG_OPTIONS, { 0 } };
    struct img_options o = { 0 };
    const char *format2 = NULL;
    bool strict = false, failed = false;
    unsigned flags = 0;
    for (int c; (c = getopt_long(argc, argv, ":hf:F:T:pqsU", longs, NULL)) != -1;) {
        if (c == 'F')
            format2 = optarg;
        else if (c == 's')
            strict = true;
        else if (!img_common_option(&o, c, &failed))
            return failed ? 1 : img_other_option(argv, c);
    }
    if (optind != argc - 2)
        return img_fail("Expecting two image file names");
    if (!img_cache(o.source_cache, &flags))
        return COMPARE_FAILED;
    struct blk_node *a = img_open(&o, argv[optind], o.format, flags);
    struct blk_node *b = a ? img_open(&o, argv[optind + 1], format2, flags) : NULL;
    int ret = a && b ? compare(a, b, strict, &o) : COMPARE_FAILED;
    blk_node_close(a);
    blk_node_close(b);
    return ret;
}
