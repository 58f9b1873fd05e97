/*
 * Raw images: the disk's bytes as they are in the file, from its beginning. A file that is no multiple of a sector is
 * read as if zeros followed.
 *
 * Of an image that nobody said is raw, the guest must not make one of another format: at the next start its headers would
 * be believed, which may name any file of the host. Such a write of the first sector is refused.
 *
 * Any thread; no state but what the node holds.
 */
#include "hw/backend/blk_int.h"

#include "hw/core/opts.h"

#include <errno.h>
#include <string.h>

static bool raw_open(struct blk_node *n, struct opts *o, GError **err)
{
    n->size = (n->file->size + BLK_SECTOR - 1) & ~(uint64_t)(BLK_SECTOR - 1);
    return true;
}

static bool would_change_format(const struct blk_node *n, uint64_t offset, uint64_t bytes, const struct blk_vec *v)
{
    uint8_t head[BLK_SECTOR] = { 0 };
    if (!n->probed || offset >= sizeof head)
        return false;
    /* Magic numbers are at the very beginning; one that is put together in pieces is not seen until it is whole. */
    if (offset || bytes < sizeof head) {
        struct iovec iov;
        struct blk_vec all = blk_vec_one(&iov, head, sizeof head);
        if (n->file->driver->read(n->file, 0, sizeof head, &all))
            return true;
    }
    blk_vec_to(v, head + offset, MIN(bytes, sizeof head - offset));
    return blk_probe(head, sizeof head) != &blk_raw_driver;
}

static int raw_read(struct blk_node *n, uint64_t offset, uint64_t bytes, const struct blk_vec *v)
{
    return n->file->driver->read(n->file, offset, bytes, v);
}

static int raw_write(struct blk_node *n, uint64_t offset, uint64_t bytes, const struct blk_vec *v)
{
    if (would_change_format(n, offset, bytes, v))
        return -EPERM;
    return n->file->driver->write(n->file, offset, bytes, v);
}

static int raw_flush(struct blk_node *n)
{
    return n->file->driver->flush(n->file);
}

static int raw_discard(struct blk_node *n, uint64_t offset, uint64_t bytes)
{
    return n->file->driver->discard(n->file, offset, bytes);
}

static int raw_write_zeroes(struct blk_node *n, uint64_t offset, uint64_t bytes, unsigned flags)
{
    return n->file->driver->write_zeroes(n->file, offset, bytes, flags);
}

static int raw_map(struct blk_node *n, uint64_t offset, uint64_t bytes, struct blk_extent *e)
{
    return n->file->driver->map(n->file, offset, bytes, e);
}

static bool raw_resize(struct blk_node *n, uint64_t size, enum blk_prealloc prealloc, bool shrink, GError **err)
{
    if (prealloc == BLK_PREALLOC_METADATA) {
        g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_INVAL, "preallocation=metadata: a raw image has none; off, falloc or full");
        return false;
    }
    if (!n->file->driver->resize(n->file, size, prealloc, shrink, err))
        return false;
    n->size = (size + BLK_SECTOR - 1) & ~(uint64_t)(BLK_SECTOR - 1);
    return true;
}

static bool raw_start(struct blk_node *n, struct blk_request *r)
{
    if (!n->file->driver->start || (r->op == BLK_WRITE && n->probed && r->offset < BLK_SECTOR))
        return false;
    return n->file->driver->start(n->file, r);
}

static bool raw_create(const char *path, uint64_t size, struct opts *o, GError **err)
{
    static const char *const names[] = { "off", NULL, "falloc", "full" };
    const char *word = opts_take(o, "preallocation");
    unsigned prealloc = BLK_PREALLOC_OFF;
    bool nocow = false;
    if (!opts_take_bool(o, "nocow", &nocow, err) || !opts_done(o, "size, preallocation", err))
        return false;
    for (unsigned i = 0; word && i < G_N_ELEMENTS(names); i++) {
        if (names[i] && strcmp(word, names[i]) == 0) {
            prealloc = i;
            word = NULL;
        }
    }
    if (word)
        return opts_error(err, "preallocation=%s: must be off, falloc or full", word);
    return blk_file_create(path, size, prealloc, err);
}

const struct blk_driver blk_raw_driver = {
    .name = "raw",
    .size = sizeof(struct blk_node),
    .open = raw_open,
    .read = raw_read,
    .write = raw_write,
    .flush = raw_flush,
    .discard = raw_discard,
    .write_zeroes = raw_write_zeroes,
    .map = raw_map,
    .resize = raw_resize,
    .create = raw_create,
    .start = raw_start,
};
