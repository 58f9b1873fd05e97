/*
 * Trees of nodes: which driver reads an image, opening it with all that is below, and the waiting operations, which check
 * bounds and know what to do where a driver cannot.
 *
 * Any thread, one at a time for opening, closing and resizing.
 */
#include "hw/backend/blk_int.h"

#include "hw/core/opts.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define HEAD 2048              /* bytes that formats are told apart by */
#define ZEROS_MAX (1u << 20)   /* that are written at once */

/* --- Formats ------------------------------------------------------------------------------------------------------ */

static const struct blk_driver *const formats[] = { &blk_raw_driver, &blk_qcow2_driver };

/* What we know only by name. `at` and magic: how its images begin; NULL: not told by that. */
static const struct {
    const char *format, *title;
    unsigned at, len;
    const char *magic;
} foreign[] = {
    { "vmdk", "a VMDK image (VMware)", 0, 4, "KDMV" },
    { "vmdk", "a VMDK image (VMware)", 0, 4, "COWD" },
    { "vmdk", "a VMDK descriptor (VMware)", 0, 21, "# Disk DescriptorFile" },
    { "vdi", "a VDI image (VirtualBox)", 64, 4, "\x7f\x10\xda\xbe" },
    { "vhdx", "a VHDX image (Hyper-V)", 0, 8, "vhdxfile" },
    { "vpc", "a VHD image (Virtual PC)", 0, 8, "conectix" },
    { "qed", "a QED image", 0, 4, "QED" },
    { "parallels", "a Parallels image", 0, 16, "WithoutFreeSpace" },
    { "parallels", "a Parallels image", 0, 16, "WithouFreSpacExt" },
    { "qcow", "a qcow image of version 1", 0, 8, "QFI\xfb\0\0\0\1" },
    { "luks", "an encrypted LUKS image", 0, 0, "" },
    { "bochs", "a Bochs image", 0, 0, "" },
    { "cloop", "a cloop image", 0, 0, "" },
    { "dmg", "a DMG image", 0, 0, "" },
};

const struct blk_driver *blk_driver_find(const char *name)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(formats); i++) {
        if (strcmp(formats[i]->name, name) == 0)
            return formats[i];
    }
    return NULL;
}

const char *blk_driver_names(void)
{
    return "raw, qcow2";
}

const struct blk_driver *blk_probe(const uint8_t *head, size_t len)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(formats); i++) {
        if (formats[i]->probe && formats[i]->probe(head, len))
            return formats[i];
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(foreign); i++) {
        if (foreign[i].len && len >= foreign[i].at + foreign[i].len &&
            memcmp(head + foreign[i].at, foreign[i].magic, foreign[i].len) == 0)
            return NULL;
    }
    return &blk_raw_driver;
}

static const struct blk_driver *choose(struct blk_node *file, const char *format, GError **err)
{
    uint8_t head[HEAD];
    if (format) {
        const struct blk_driver *d = blk_driver_find(format);
        if (d)
            return d;
        for (unsigned i = 0; i < G_N_ELEMENTS(foreign); i++) {
            if (strcmp(foreign[i].format, format) == 0) {
                opts_error(err, "format=%s: this version reads and writes %s only", format, blk_driver_names());
                return NULL;
            }
        }
        opts_error(err, "format=%s: there is no such format; known: %s", format, blk_driver_names());
        return NULL;
    }
    int ret = blk_node_pread(file, 0, head, sizeof head);
    if (ret) {
        g_set_error(err, G_FILE_ERROR, g_file_error_from_errno(-ret), "'%s' cannot be read: %s", file->path, g_strerror(-ret));
        return NULL;
    }
    const struct blk_driver *d = blk_probe(head, sizeof head);
    for (unsigned i = 0; !d && i < G_N_ELEMENTS(foreign); i++) {
        if (foreign[i].len && memcmp(head + foreign[i].at, foreign[i].magic, foreign[i].len) == 0) {
            opts_error(err, "'%s' is %s; this version reads and writes %s only", file->path, foreign[i].title,
                       blk_driver_names());
            break;
        }
    }
    return d;
}

/* --- Opening ------------------------------------------------------------------------------------------------------ */

/* The path of "file:PATH" or "PATH"; NULL for what is reached in another way. Lent. */
static const char *local_path(const char *path, GError **err)
{
    static const char *const schemes[] = { "nbd", "nbd+unix", "nbd+tcp", "http", "https", "ftp", "ftps", "ssh", "iscsi",
                                           "rbd", "nfs", "gluster", "fat", "json", "blkdebug", "sheepdog", NULL };
    const char *colon = strchr(path, ':'), *slash = strchr(path, '/');
    if (g_str_has_prefix(path, "file:"))
        return path + (g_str_has_prefix(path, "file:///") ? 7 : 5);
    if (!colon || (slash && slash < colon) || access(path, F_OK) == 0)
        return path;
    g_autofree char *scheme = g_strndup(path, (gsize)(colon - path));
    if (!g_strv_contains(schemes, scheme))
        return path;
    opts_error(err, "'%s': this version opens files and block devices only, not %s:", path, scheme);
    return NULL;
}

char *blk_path_beside(const char *path, const char *name)
{
    const char *slash = strrchr(path, '/');
    if (*name == '/' || !slash)
        return g_strdup(name);
    return g_strdup_printf("%.*s%s", (int)(slash + 1 - path), path, name);
}

void blk_snapshots_free(GArray *snapshots)
{
    for (guint i = 0; i < snapshots->len; i++) {
        g_free(g_array_index(snapshots, struct blk_snapshot, i).id);
        g_free(g_array_index(snapshots, struct blk_snapshot, i).name);
    }
    g_array_free(snapshots, TRUE);
}

void blk_facts_free(GArray *facts)
{
    for (guint i = 0; i < facts->len; i++)
        g_free(g_array_index(facts, struct blk_fact, i).value);
    g_array_free(facts, TRUE);
}

static void free_node(struct blk_node *n)
{
    g_free(n->path);
    g_free(n);
}

struct blk_node *blk_node_open(const char *path, const char *format, unsigned flags, struct blk_async *async,
                               struct opts *o, GError **err)
{
    const char *local = local_path(path, err);
    struct blk_node *file = local ? blk_file_open(local, flags, async, err) : NULL;
    const struct blk_driver *d = file ? choose(file, format, err) : NULL;
    if (!d) {
        blk_node_close(file);
        return NULL;
    }
    struct blk_node *n = g_malloc0(d->size);
    n->driver = d;
    n->file = file;
    n->async = async;
    n->path = g_strdup(path);
    n->flags = flags;
    n->probed = !format;
    if (d->open(n, o, err))
        return n;
    blk_node_close(n->backing);
    blk_node_close(file);
    free_node(n);
    return NULL;
}

void blk_node_close(struct blk_node *n)
{
    if (!n)
        return;
    if (n->driver->close)
        n->driver->close(n);
    blk_node_close(n->backing);
    blk_node_close(n->file);
    free_node(n);
}

/* --- Operations --------------------------------------------------------------------------------------------------- */

static bool within(const struct blk_node *n, uint64_t offset, uint64_t bytes)
{
    uint64_t size = n->driver->grows ? BLK_SIZE_MAX : n->size;
    return bytes <= size && offset <= size - bytes;
}

int blk_node_read(struct blk_node *n, uint64_t offset, uint64_t bytes, const struct blk_vec *v)
{
    return within(n, offset, bytes) ? n->driver->read(n, offset, bytes, v) : -EINVAL;
}

int blk_node_write(struct blk_node *n, uint64_t offset, uint64_t bytes, const struct blk_vec *v)
{
    if (!(n->flags & BLK_OPEN_WRITE))
        return -EROFS;
    return within(n, offset, bytes) ? n->driver->write(n, offset, bytes, v) : -EINVAL;
}

int blk_node_pread(struct blk_node *n, uint64_t offset, void *buf, size_t len)
{
    struct iovec iov;
    struct blk_vec v = blk_vec_one(&iov, buf, len);
    return blk_node_read(n, offset, len, &v);
}

int blk_node_pwrite(struct blk_node *n, uint64_t offset, const void *buf, size_t len)
{
    struct iovec iov;
    struct blk_vec v = blk_vec_one(&iov, (void *)buf, len);
    return blk_node_write(n, offset, len, &v);
}

int blk_node_flush(struct blk_node *n)
{
    return n->flags & BLK_OPEN_WRITE ? n->driver->flush(n) : 0;
}

int blk_node_discard(struct blk_node *n, uint64_t offset, uint64_t bytes)
{
    if (!(n->flags & BLK_OPEN_WRITE))
        return -EROFS;
    return within(n, offset, bytes) ? bytes ? n->driver->discard(n, offset, bytes) : 0 : -EINVAL;
}

static int write_zeros(struct blk_node *n, uint64_t offset, uint64_t bytes)
{
    g_autofree uint8_t *zeros = g_malloc0(MIN(bytes, ZEROS_MAX));
    int ret = 0;
    while (bytes && !ret) {
        size_t len = MIN(bytes, ZEROS_MAX);
        ret = blk_node_pwrite(n, offset, zeros, len);
        offset += len;
        bytes -= len;
    }
    return ret;
}

int blk_node_write_zeroes(struct blk_node *n, uint64_t offset, uint64_t bytes, unsigned flags)
{
    if (!(n->flags & BLK_OPEN_WRITE))
        return -EROFS;
    if (!within(n, offset, bytes))
        return -EINVAL;
    int ret = bytes && n->driver->write_zeroes ? n->driver->write_zeroes(n, offset, bytes, flags) : -ENOTSUP;
    return ret == -ENOTSUP ? write_zeros(n, offset, bytes) : ret;
}

int blk_node_map(struct blk_node *n, uint64_t offset, uint64_t bytes, struct blk_extent *e)
{
    return bytes && within(n, offset, bytes) ? n->driver->map(n, offset, bytes, e) : -EINVAL;
}

int blk_node_map_chain(struct blk_node *n, uint64_t offset, uint64_t bytes, struct blk_extent *e, struct blk_node **where,
                       unsigned *depth)
{
    int ret = blk_node_map(n, offset, bytes, e);
    for (*depth = 0; !ret && n->backing && !(e->kind & BLK_EXTENT_ALLOCATED); ++*depth) {
        bytes = e->bytes;
        if (offset >= n->backing->size) { /* zeros because it is short */
            *e = (struct blk_extent){ .bytes = bytes, .kind = BLK_EXTENT_ZERO };
            break;
        }
        n = n->backing;
        ret = blk_node_map(n, offset, MIN(bytes, n->size - offset), e);
    }
    *where = n;
    if (!ret && !(e->kind & BLK_EXTENT_ALLOCATED))
        e->kind |= BLK_EXTENT_ZERO;
    return ret;
}

bool blk_node_resize(struct blk_node *n, uint64_t size, enum blk_prealloc prealloc, bool shrink, GError **err)
{
    if (!(n->flags & BLK_OPEN_WRITE))
        return opts_error(err, "'%s' is open for reading only", n->path);
    if (size > BLK_SIZE_MAX)
        return opts_error(err, "the new size is too large");
    return n->driver->resize(n, size, prealloc, shrink, err);
}

int blk_node_run(struct blk_node *n, struct blk_request *r)
{
    int ret = 0;
    switch (r->op) {
    case BLK_READ: return blk_node_read(n, r->offset, r->bytes, &r->vec);
    case BLK_FLUSH: return blk_node_flush(n);
    case BLK_DISCARD: return blk_node_discard(n, r->offset, r->bytes);
    case BLK_WRITE:
        ret = r->as_zeroes ? blk_node_write_zeroes(n, r->offset, r->bytes, r->flags) :
                             blk_node_write(n, r->offset, r->bytes, &r->vec);
        break;
    case BLK_WRITE_ZEROES: ret = blk_node_write_zeroes(n, r->offset, r->bytes, r->flags); break;
    }
    return ret || !(r->flags & BLK_FUA) ? ret : blk_node_flush(n);
}
