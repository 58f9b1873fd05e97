/*
 * trapeze-img create, snapshot, resize, rebase, commit: what makes and changes images.
 */
#include "ui/img.h"

#include "hw/core/opts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PIECE (UINT64_C(1) << 20)

/* --- create ---------------------------------------------------------------------------------------------------------------- */

struct create_options {
    struct img_options o;
    const char *backing, *backing_format;
    bool unchecked; /* -u */
    GString *options;
};

static void options_help(const char *format)
{
    printf("Supported options:\n");
    if (strcmp(format, "qcow2"))
        printf("  preallocation=<str>    - off, falloc, full\n  size=<size>            - Virtual disk size\n");
    else
        printf("  backing_file=<str>     - File name of a base image\n"
               "  backing_fmt=<str>      - Image format of the base image\n"
               "  cluster_size=<size>    - 512 to 2M, a power of two\n"
               "  compat=<str>           - 0.10 or 1.1\n"
               "  compression_type=<str> - zlib or zstd\n"
               "  lazy_refcounts=<bool>  - Postpone refcount updates\n"
               "  preallocation=<str>    - off, metadata, falloc, full\n"
               "  refcount_bits=<num>    - 1 to 64, a power of two\n"
               "  size=<size>            - Virtual disk size\n");
}

/* Of the image below, which must be there. */
static bool backing_size(const struct create_options *c, const char *path, const char *name, const char *format, uint64_t *size)
{
    struct img_options plain = c->o;
    g_autofree char *full = blk_path_beside(path, name);
    plain.image_opts = false;
    struct blk_node *n = img_open(&plain, full, format, BLK_OPEN_SHARE);
    if (n)
        *size = n->size;
    blk_node_close(n);
    return n != NULL;
}

static int create(const struct create_options *c, const char *path, const char *size_text)
{
    const char *format = c->o.format ? c->o.format : "raw";
    const struct blk_driver *d = blk_driver_find(format);
    GError *err = NULL;
    uint64_t size = UINT64_MAX;
    if (!d)
        return img_fail("%s: Unknown file format '%s'; this version makes %s", path, format, blk_driver_names());
    struct opts *o = opts_parse(c->options->str, NULL);
    const char *in_options = opts_take(o, "size"), *backing = opts_take(o, "backing_file");
    const char *backing_format = opts_take(o, "backing_fmt");
    backing = c->backing ? c->backing : backing;
    backing_format = c->backing_format ? c->backing_format : backing_format;
    int ret = 0;
    if ((size_text || in_options) && !img_parse_size(size_text ? size_text : in_options, &size))
        ret = 1;
    else if (backing && *backing && !d->backing_name)
        ret = img_fail("%s: Backing file not supported for file format '%s'", path, format);
    else if (backing && *backing && !backing_format)
        ret = img_fail("%s: Backing file specified without backing format; give it with -F", path);
    else if (backing && *backing && (!c->unchecked || size == UINT64_MAX)) {
        uint64_t below = 0;
        ret = !backing_size(c, path, backing, backing_format, &below);
        size = size == UINT64_MAX ? below : size;
    }
    if (!ret && size == UINT64_MAX)
        ret = img_fail("%s: Image creation needs a size parameter", path);
    if (!ret && !c->o.quiet)
        printf("Formatting '%s', fmt=%s size=%" G_GUINT64_FORMAT "%s%s%s%s%s%s\n", path, format, size,
               backing ? " backing_file=" : "", backing ? backing : "", backing_format ? " backing_fmt=" : "",
               backing_format ? backing_format : "", c->options->len ? " " : "", c->options->str);
    if (backing)
        opts_set(o, "backing_file", backing);
    if (backing_format)
        opts_set(o, "backing_fmt", backing_format);
    if (!ret && !d->create(path, size, o, &err)) {
        ret = img_fail("%s: %s", path, err->message);
        g_error_free(err);
    }
    opts_free(o);
    return ret;
}

int img_create(int argc, char **argv)
{
    static const struct option longs[] = { IMG_LONG_OPTIONS, { 0 } };
    struct create_options c = { .options = g_string_new(NULL) };
    bool failed = false;
    int ret = -1;
    for (int option; ret < 0 && (option = getopt_long(argc, argv, ":F:b:f:ho:qu", longs, NULL)) != -1;) {
        if (option == 'F')
            c.backing_format = optarg;
        else if (option == 'b')
            c.backing = optarg;
        else if (option == 'u')
            c.unchecked = true;
        else if (option == 'o')
            g_string_append_printf(c.options, "%s%s", c.options->len ? "," : "", optarg);
        else if (!img_common_option(&c.o, option, &failed))
            ret = failed ? 1 : img_other_option(argv, option);
    }
    if (ret < 0 && (strcmp(c.options->str, "help") == 0 || strcmp(c.options->str, "?") == 0)) {
        options_help(c.o.format ? c.o.format : "raw");
        ret = 0;
    }
    if (ret < 0 && (optind >= argc || optind < argc - 2))
        ret = img_fail(optind >= argc ? "Expecting image file name" : "Unexpected argument: %s", argv[argc - 1]);
    if (ret < 0)
        ret = create(&c, argv[optind], argv[optind + 1]);
    g_string_free(c.options, TRUE);
    return ret;
}

/* --- snapshot -------------------------------------------------------------------------------------------------------------- */

static int do_snapshot(struct blk_node *n, int action, const char *name)
{
    GError *err = NULL;
    if (!n->driver->snapshots && action == 'l')
        return 0;
    if (!n->driver->snapshots)
        return img_fail("'%s' cannot have snapshots: it is a %s image", n->path, n->driver->name);
    if (action == 'l') {
        GArray *all = n->driver->snapshots(n);
        if (all->len)
            img_print_snapshots(all);
        blk_snapshots_free(all);
        return 0;
    }
    static const char *const words[] = { ['a'] = "apply", ['c'] = "create", ['d'] = "delete" };
    bool ok = action == 'a' ? n->driver->snapshot_apply(n, name, &err) :
              action == 'c' ? n->driver->snapshot_create(n, name, &err) : n->driver->snapshot_delete(n, name, &err);
    if (ok)
        return 0;
    img_fail("Could not %s snapshot '%s': %s", words[action], name, err->message);
    g_error_free(err);
    return 1;
}

int img_snapshot(int argc, char **argv)
{
    static const struct option longs[] = { IMG_LONG_OPTIONS, { 0 } };
    struct img_options o = { 0 };
    const char *name = NULL;
    int action = 0;
    bool failed = false;
    for (int c; (c = getopt_long(argc, argv, ":la:c:d:hqU", longs, NULL)) != -1;) {
        if (strchr("lacd", c) && c < 128) {
            if (action)
                return img_fail("Cannot mix '-l', '-a', '-c', '-d'");
            action = c;
            name = optarg;
        } else if (!img_common_option(&o, c, &failed)) {
            return failed ? 1 : img_other_option(argv, c);
        }
    }
    if (optind != argc - 1)
        return img_fail("Expecting one image file name");
    action = action ? action : 'l';
    unsigned flags = action == 'l' ? BLK_OPEN_NO_BACKING : BLK_OPEN_WRITE;
    struct blk_node *n = img_open(&o, argv[optind], NULL, flags);
    int ret = n ? do_snapshot(n, action, name) : 1;
    blk_node_close(n);
    return ret;
}

/* --- resize ------------------------------------------------------------------------------------------------------------------ */

static bool parse_prealloc(const char *text, enum blk_prealloc *out)
{
    static const char *const names[] = { "off", "metadata", "falloc", "full" };
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        if (strcmp(names[i], text) == 0) {
            *out = i;
            return true;
        }
    }
    img_fail("Invalid preallocation mode '%s'; it must be off, metadata, falloc or full", text);
    return false;
}

static int resize(struct blk_node *n, const char *text, enum blk_prealloc prealloc, bool shrink, bool quiet)
{
    uint64_t size;
    GError *err = NULL;
    bool more = *text == '+', less = *text == '-';
    if (!img_parse_size(text + (more || less), &size))
        return 1;
    if (less && size >= n->size)
        return img_fail("New image size must be positive");
    size = more ? n->size + size : less ? n->size - size : size;
    size = (size + BLK_SECTOR - 1) & ~(uint64_t)(BLK_SECTOR - 1);
    if (size < n->size && !shrink) {
        fprintf(stderr, "trapeze-img: warning: Shrinking an image will delete all data beyond the shrunken image's end. Before "
                        "performing such an operation, make sure there is no important data there.\n");
        return img_fail("Use the --shrink option to perform a shrink operation.");
    }
    if (!blk_node_resize(n, size, prealloc, shrink, &err))
        return img_fail_error(err);
    if (!quiet)
        printf("Image resized.\n");
    return 0;
}

int img_resize(int argc, char **argv)
{
    static const struct option longs[] = { IMG_LONG_OPTIONS, { "preallocation", required_argument, NULL, IMG_OWN },
                                           { "shrink", no_argument, NULL, IMG_OWN + 1 }, { 0 } };
    struct img_options o = { 0 };
    enum blk_prealloc prealloc = BLK_PREALLOC_OFF;
    bool failed = false, shrink = false;
    /* The size comes last and may begin with '-': getopt must not see it. */
    if (argc < 3)
        return argc == 2 && g_str_has_prefix(argv[1], "-h") ? img_other_option(argv, 'h') : img_fail("Not enough arguments");
    const char *size = argv[--argc];
    for (int c; (c = getopt_long(argc, argv, ":f:hq", longs, NULL)) != -1;) {
        if (c == IMG_OWN) {
            if (!parse_prealloc(optarg, &prealloc))
                return 1;
        } else if (c == IMG_OWN + 1) {
            shrink = true;
        } else if (!img_common_option(&o, c, &failed)) {
            return failed ? 1 : img_other_option(argv, c);
        }
    }
    if (optind != argc - 1)
        return img_fail("Expecting image file name and size");
    struct blk_node *n = img_open(&o, argv[optind], o.format, BLK_OPEN_WRITE);
    int ret = n ? resize(n, size, prealloc, shrink, o.quiet) : 1;
    blk_node_close(n);
    return ret;
}

/* --- rebase ------------------------------------------------------------------------------------------------------------------ */

/* What is at that stretch of an image that may be shorter, or none at all. */
static int read_padded(struct blk_node *n, uint64_t offset, uint64_t bytes, uint8_t *buf)
{
    uint64_t there = n && offset < n->size ? MIN(bytes, n->size - offset) : 0;
    memset(buf + there, 0, bytes - there);
    return there ? blk_node_pread(n, offset, buf, there) : 0;
}

/* Where the two images below differ, and the image itself says nothing, it gets what the old one has. */
static int keep_differences(struct blk_node *n, struct blk_node *new, bool progress)
{
    g_autofree uint8_t *old_buf = g_malloc(PIECE), *new_buf = g_malloc(PIECE);
    uint64_t cluster = n->driver->cluster_size(n);
    for (uint64_t at = 0; at < n->size;) {
        struct blk_extent e;
        uint64_t bytes = MIN(MAX(PIECE & ~(cluster - 1), MIN(cluster, PIECE)), n->size - at);
        int ret = blk_node_map(n, at, bytes, &e);
        if (ret)
            return ret;
        bytes = MIN(bytes, e.bytes);
        if (!(e.kind & BLK_EXTENT_ALLOCATED)) {
            ret = read_padded(n->backing, at, bytes, old_buf);
            if (!ret)
                ret = read_padded(new, at, bytes, new_buf);
            for (uint64_t i = 0; i < bytes && !ret;) {
                uint64_t len = MIN(cluster - (at + i) % cluster, bytes - i);
                if (memcmp(old_buf + i, new_buf + i, len))
                    ret = blk_node_pwrite(n, at + i, old_buf + i, len);
                i += len;
            }
            if (ret)
                return ret;
        }
        at += bytes;
        img_progress(progress, at - bytes, at, n->size);
    }
    return blk_node_flush(n);
}

static int rebase(struct blk_node *n, const char *backing, const char *format, bool unsafe, const struct img_options *o)
{
    GError *err = NULL;
    struct blk_node *new = NULL;
    int ret = 0;
    if (!n->driver->set_backing_name)
        return img_fail("'%s' cannot have a backing image: it is a %s image", n->path, n->driver->name);
    bool named = backing && *backing;
    if (named && !format)
        return img_fail("Could not change the backing file to '%s': backing format must be specified; give it with -F", backing);
    if (!unsafe && named) {
        g_autofree char *path = blk_path_beside(n->path, backing);
        struct img_options plain = { .share = o->share };
        new = img_open(&plain, path, format, 0);
        if (!new)
            return 1;
    }
    if (!unsafe)
        ret = keep_differences(n, new, o->progress && !o->quiet);
    blk_node_close(new);
    if (ret)
        return img_fail("'%s' could not be made to fit its new backing image: %s", n->path, g_strerror(-ret));
    return n->driver->set_backing_name(n, named ? backing : NULL, format, &err) ? 0 : img_fail_error(err);
}

int img_rebase(int argc, char **argv)
{
    static const struct option longs[] = { IMG_LONG_OPTIONS, { 0 } };
    struct img_options o = { 0 };
    const char *backing = NULL, *format = NULL;
    bool unsafe = false, failed = false;
    unsigned flags = BLK_OPEN_WRITE;
    for (int c; (c = getopt_long(argc, argv, ":hf:F:b:upt:T:qU", longs, NULL)) != -1;) {
        if (c == 'F')
            format = optarg;
        else if (c == 'b')
            backing = optarg;
        else if (c == 'u')
            unsafe = true;
        else if (!img_common_option(&o, c, &failed))
            return failed ? 1 : img_other_option(argv, c);
    }
    if (optind != argc - 1)
        return img_fail("Expecting one image file name");
    if (!backing)
        return img_fail("Must specify backing file (-b) or use simple rebase mode (-u)");
    if (!img_cache(o.cache, &flags))
        return 1;
    struct blk_node *n = img_open(&o, argv[optind], o.format, flags | (unsafe ? BLK_OPEN_NO_BACKING : 0));
    int ret = n ? rebase(n, backing, format, unsafe, &o) : 1;
    blk_node_close(n);
    return ret;
}

/* --- commit ------------------------------------------------------------------------------------------------------------------ */

/*
 * The image, those between, and the one that takes it all, which is open for writing, too: as one chain. Each is opened by
 * itself, since the lock of one open for writing does not go together with the reading of those above.
 */
static struct blk_node *open_writable_chain(const struct img_options *o, const char *file, const char *base, unsigned flags,
                                            struct blk_node **bottom)
{
    struct blk_node *top = img_open(o, file, o->format, flags | BLK_OPEN_WRITE | BLK_OPEN_NO_BACKING), *n = top;
    struct img_options plain = { 0 };
    for (bool last = false; n && !last; n = n->backing) {
        const char *format = NULL, *name = n->driver->backing_name ? n->driver->backing_name(n, &format) : NULL;
        if (!name) {
            img_fail(n == top ? "Image does not have a backing file" : "'%s' is not below '%s'", base ? base : "", file);
            n = NULL;
            break;
        }
        g_autofree char *path = blk_path_beside(n->path, name);
        last = !base || strcmp(base, name) == 0 || strcmp(base, path) == 0;
        n->backing = img_open(&plain, path, format, last ? flags | BLK_OPEN_WRITE : flags | BLK_OPEN_NO_BACKING);
        *bottom = n->backing;
    }
    if (top && (!n || !*bottom || !(( *bottom)->flags & BLK_OPEN_WRITE))) {
        blk_node_close(top);
        return NULL;
    }
    return top;
}

static int copy_down(struct blk_node *top, struct blk_node *bottom, bool progress)
{
    g_autofree uint8_t *buf = g_malloc(PIECE);
    for (uint64_t at = 0; at < top->size;) {
        struct blk_extent e;
        struct blk_node *where;
        unsigned depth;
        int ret = blk_node_map_chain(top, at, MIN(PIECE, top->size - at), &e, &where, &depth);
        bool below = where == bottom;
        for (struct blk_node *n = bottom->backing; n && !below; n = n->backing)
            below = where == n;
        if (!ret && !below && (e.kind & BLK_EXTENT_ZERO))
            ret = blk_node_write_zeroes(bottom, at, e.bytes, BLK_UNMAP);
        else if (!ret && !below) {
            ret = blk_node_pread(top, at, buf, e.bytes);
            ret = ret ? ret : blk_node_pwrite(bottom, at, buf, e.bytes);
        }
        if (ret)
            return ret;
        at += e.bytes;
        img_progress(progress, at - e.bytes, at, top->size);
    }
    return blk_node_flush(bottom);
}

static int commit(struct blk_node *top, struct blk_node *bottom, bool keep, const struct img_options *o)
{
    GError *err = NULL;
    if (bottom->size < top->size && !blk_node_resize(bottom, top->size, BLK_PREALLOC_OFF, false, &err))
        return img_fail_error(err);
    int ret = copy_down(top, bottom, o->progress && !o->quiet);
    if (ret)
        return img_fail("Image could not be committed: %s", g_strerror(-ret));
    if (!keep && top->driver->make_empty && !top->driver->make_empty(top, &err))
        return img_fail_error(err);
    if (!o->quiet)
        printf("Image committed.\n");
    return 0;
}

int img_commit(int argc, char **argv)
{
    static const struct option longs[] = { IMG_LONG_OPTIONS, { 0 } };
    struct img_options o = { 0 };
    const char *base = NULL;
    bool keep = false, failed = false;
    unsigned flags = 0;
    uint64_t rate;
    for (int c; (c = getopt_long(argc, argv, ":f:ht:b:dpqr:", longs, NULL)) != -1;) {
        if (c == 'b') {
            base = optarg;
            keep = true; /* those between would hide what it has */
        } else if (c == 'd') {
            keep = true;
        } else if (c == 'r') {
            return img_parse_size(optarg, &rate) ? img_fail("-r: this version does not limit the rate") : 1;
        } else if (!img_common_option(&o, c, &failed)) {
            return failed ? 1 : img_other_option(argv, c);
        }
    }
    if (optind != argc - 1)
        return img_fail("Expecting one image file name");
    if (!img_cache(o.cache, &flags))
        return 1;
    struct blk_node *bottom = NULL, *top = open_writable_chain(&o, argv[optind], base, flags, &bottom);
    int ret = top ? commit(top, bottom, keep, &o) : 1;
    blk_node_close(top);
    return ret;
}
