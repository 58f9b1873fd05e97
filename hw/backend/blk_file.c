/*
 * Host files and block devices, at the bottom of every image.
 *
 * Past the host's page cache (cache=none) goes what is aligned to pages, from memory that is not by way of a buffer; what
 * is not aligned goes through the cache, by a second descriptor: Linux keeps the two coherent, and a flush covers both.
 * What lies behind the end reads as zeros, and a write there makes the file longer.
 *
 * Any thread; start() under the VM lock.
 */
#include "hw/backend/blk_int.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECES 64       /* of a vector that go to the host at once */
#define DIRECT_ALIGN 4096
#define DIRECT_MEMORY 512
#define BOUNCE_MAX (1u << 20)

struct file_node {
    struct blk_node node;
    int fd, direct_fd;  /* direct_fd -1: cache=writeback and its like */
    bool device;        /* a block device: its size stays */
    int punch, zero;    /* atomic: what the file system says to fallocate(2): 0, or the errno of "never" */
};

static struct file_node *file_node(struct blk_node *n)
{
    return (struct file_node *)n;
}

static void grow(struct blk_node *n, uint64_t end)
{
    uint64_t now = __atomic_load_n(&n->size, __ATOMIC_RELAXED);
    while (end > now && !__atomic_compare_exchange_n(&n->size, &now, end, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        ;
}

/* --- Reading and writing ------------------------------------------------------------------------------------------ */

static bool aligned_memory(const struct iovec *iov, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (((uintptr_t)iov[i].iov_base | iov[i].iov_len) % DIRECT_MEMORY)
            return false;
    }
    return true;
}

static ssize_t transfer(int fd, bool write, uint64_t offset, const struct iovec *iov, unsigned count)
{
    ssize_t r;
    do {
        r = write ? pwritev(fd, iov, (int)count, (off_t)offset) : preadv(fd, iov, (int)count, (off_t)offset);
    } while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : r;
}

/* Aligned bytes of memory that is not. */
static ssize_t transfer_bounced(int fd, bool write, uint64_t offset, size_t len, const struct blk_vec *v)
{
    void *buf;
    len = MIN(len, BOUNCE_MAX);
    if (posix_memalign(&buf, DIRECT_ALIGN, len))
        return -ENOMEM;
    if (write)
        blk_vec_to(v, buf, len);
    struct iovec iov = { buf, len };
    ssize_t r = transfer(fd, write, offset, &iov, 1);
    if (!write && r > 0)
        blk_vec_from(v, buf, (size_t)r);
    free(buf);
    return r;
}

static ssize_t transfer_part(struct file_node *s, bool write, uint64_t offset, uint64_t bytes, const struct blk_vec *v)
{
    struct iovec part[PIECES];
    size_t len;
    unsigned count = blk_vec_cut(v, MIN(bytes, UINT64_C(1) << 30), part, PIECES, &len);
    if (s->direct_fd >= 0 && offset % DIRECT_ALIGN == 0 && bytes >= DIRECT_ALIGN) {
        bool plain = len % DIRECT_ALIGN == 0 && aligned_memory(part, count);
        size_t whole = (size_t)(MIN(bytes, BOUNCE_MAX) & ~(uint64_t)(DIRECT_ALIGN - 1));
        ssize_t r = plain ? transfer(s->direct_fd, write, offset, part, count) :
                            transfer_bounced(s->direct_fd, write, offset, whole, v);
        if (r != -EINVAL) /* else the device wants more than we know of */
            return r;
    }
    return transfer(s->fd, write, offset, part, count);
}

static int transfer_all(struct file_node *s, bool write, uint64_t offset, uint64_t bytes, struct blk_vec v)
{
    while (bytes) {
        ssize_t r = transfer_part(s, write, offset, bytes, &v);
        if (r < 0)
            return (int)r;
        if (r == 0 && write)
            return -ENOSPC;
        if (r == 0) {
            blk_vec_zero(&v, bytes);
            return 0;
        }
        offset += (uint64_t)r;
        bytes -= (uint64_t)r;
        v.skip += (size_t)r;
    }
    return 0;
}

static int file_read(struct blk_node *n, uint64_t offset, uint64_t bytes, const struct blk_vec *v)
{
    return transfer_all(file_node(n), false, offset, bytes, *v);
}

static int file_write(struct blk_node *n, uint64_t offset, uint64_t bytes, const struct blk_vec *v)
{
    int ret = transfer_all(file_node(n), true, offset, bytes, *v);
    if (!ret)
        grow(n, offset + bytes);
    return ret;
}

static int file_flush(struct blk_node *n)
{
    if (n->flags & BLK_OPEN_NO_FLUSH)
        return 0;
    return fdatasync(file_node(n)->fd) < 0 ? -errno : 0;
}

static bool file_start(struct blk_node *n, struct blk_request *r)
{
    struct file_node *s = file_node(n);
    if (r->op == BLK_FLUSH && (n->flags & BLK_OPEN_NO_FLUSH)) {
        blk_async_post(n->async, r, 0);
        return true;
    }
    int fd = s->fd;
    if (s->direct_fd >= 0 && r->op != BLK_FLUSH) {
        if ((r->offset | r->bytes) % DIRECT_ALIGN || r->vec.skip || !aligned_memory(r->vec.iov, r->vec.count))
            return false;
        fd = s->direct_fd;
    }
    if (!blk_async_ring(n->async, fd, r))
        return false;
    if (r->op == BLK_WRITE)
        grow(n, r->offset + r->bytes);
    return true;
}

/* --- Space -------------------------------------------------------------------------------------------------------- */

static bool never(int error)
{
    return error == EOPNOTSUPP || error == ENOSYS || error == ENODEV;
}

static int allocate(struct file_node *s, int mode, int *remembered, uint64_t offset, uint64_t bytes)
{
    if (__atomic_load_n(remembered, __ATOMIC_RELAXED))
        return -ENOTSUP;
    int ret;
    do {
        ret = fallocate(s->fd, mode, (off_t)offset, (off_t)bytes) < 0 ? -errno : 0;
    } while (ret == -EINTR);
    if (never(-ret)) {
        __atomic_store_n(remembered, -ret, __ATOMIC_RELAXED);
        return -ENOTSUP;
    }
    return ret == -EINVAL || ret == -EPERM ? -ENOTSUP : ret;
}

static int file_discard(struct blk_node *n, uint64_t offset, uint64_t bytes)
{
    struct file_node *s = file_node(n);
    int ret = allocate(s, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, &s->punch, offset, bytes);
    return ret == -ENOTSUP ? 0 : ret;
}

/* By a byte at the end: what others write meanwhile stays, which ftruncate(2) would not promise. */
static int extend(struct file_node *s, uint64_t end)
{
    struct iovec iov = { "", 1 };
    ssize_t r = transfer(s->fd, true, end - 1, &iov, 1);
    return r < 0 ? (int)r : r == 0 ? -ENOSPC : 0;
}

static int file_write_zeroes(struct blk_node *n, uint64_t offset, uint64_t bytes, unsigned flags)
{
    struct file_node *s = file_node(n);
    int ret = -ENOTSUP;
    if (!s->device && offset >= __atomic_load_n(&n->size, __ATOMIC_RELAXED) && (flags & BLK_UNMAP))
        ret = extend(s, offset + bytes);
    else if ((flags & BLK_UNMAP) && (s->device || offset + bytes <= __atomic_load_n(&n->size, __ATOMIC_RELAXED)))
        ret = allocate(s, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, &s->punch, offset, bytes);
    if (ret == -ENOTSUP)
        ret = allocate(s, FALLOC_FL_ZERO_RANGE, &s->zero, offset, bytes);
    if (!ret)
        grow(n, offset + bytes);
    return ret;
}

static int file_map(struct blk_node *n, uint64_t offset, uint64_t bytes, struct blk_extent *e)
{
    struct file_node *s = file_node(n);
    *e = (struct blk_extent){ .bytes = bytes, .host = offset,
                              .kind = BLK_EXTENT_DATA | BLK_EXTENT_ALLOCATED | BLK_EXTENT_OFFSET };
    if (s->device)
        return 0;
    off_t data = lseek(s->fd, (off_t)offset, SEEK_DATA);
    if (data < 0 && errno != ENXIO)
        return 0; /* a file system that cannot tell */
    if (data < 0 || (uint64_t)data > offset) {
        e->kind = BLK_EXTENT_ZERO | BLK_EXTENT_ALLOCATED | BLK_EXTENT_OFFSET;
        if (data > 0)
            e->bytes = MIN(bytes, (uint64_t)data - offset);
        return 0;
    }
    off_t hole = lseek(s->fd, (off_t)offset, SEEK_HOLE);
    if (hole > (off_t)offset)
        e->bytes = MIN(bytes, (uint64_t)hole - offset);
    return 0;
}

/* Fills what is new, as `prealloc` says. */
static int fill(int fd, uint64_t from, uint64_t to, enum blk_prealloc prealloc)
{
    if (prealloc == BLK_PREALLOC_FALLOC && to > from)
        return -posix_fallocate(fd, (off_t)from, (off_t)(to - from));
    if (prealloc != BLK_PREALLOC_FULL)
        return 0;
    g_autofree char *zeros = g_malloc0(BOUNCE_MAX);
    while (from < to) {
        struct iovec iov = { zeros, MIN(to - from, BOUNCE_MAX) };
        ssize_t r = transfer(fd, true, from, &iov, 1);
        if (r <= 0)
            return r ? (int)r : -ENOSPC;
        from += (uint64_t)r;
    }
    return fdatasync(fd) < 0 ? -errno : 0;
}

static bool failed(GError **err, const char *path, const char *what, int error)
{
    g_set_error(err, G_FILE_ERROR, g_file_error_from_errno(error), "'%s' %s: %s", path, what, g_strerror(error));
    return false;
}

static bool file_resize(struct blk_node *n, uint64_t size, enum blk_prealloc prealloc, bool shrink, GError **err)
{
    struct file_node *s = file_node(n);
    uint64_t before = n->size;
    if (s->device) {
        if (size <= before)
            return true;
        g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_NOSPC, "'%s' is a device of %" G_GUINT64_FORMAT " bytes and cannot grow",
                    n->path, before);
        return false;
    }
    if (ftruncate(s->fd, (off_t)size) < 0)
        return failed(err, n->path, "cannot be resized", errno);
    int ret = fill(s->fd, before, size, prealloc);
    if (ret) {
        if (ftruncate(s->fd, (off_t)before) == 0)
            n->size = before;
        return failed(err, n->path, "cannot be filled", -ret);
    }
    n->size = size;
    return true;
}

bool blk_file_create(const char *path, uint64_t size, enum blk_prealloc prealloc, GError **err)
{
    struct stat st;
    if (stat(path, &st) == 0 && S_ISBLK(st.st_mode)) {
        struct blk_node *n = blk_file_open(path, BLK_OPEN_WRITE | BLK_OPEN_LOCK_OPTIONAL, NULL, err);
        bool ok = n && file_resize(n, size, BLK_PREALLOC_OFF, false, err);
        blk_node_close(n);
        return ok;
    }
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0)
        return failed(err, path, "cannot be made", errno);
    bool ok = blk_lock_fd(fd, path, BLK_OPEN_WRITE | BLK_OPEN_LOCK_OPTIONAL, err);
    if (ok && (ftruncate(fd, 0) < 0 || ftruncate(fd, (off_t)size) < 0))
        ok = failed(err, path, "cannot be given its size", errno);
    int ret = ok ? fill(fd, 0, size, prealloc) : 0;
    if (ret)
        ok = failed(err, path, "cannot be filled", -ret);
    close(fd);
    return ok;
}

/* --- Life --------------------------------------------------------------------------------------------------------- */

static bool find_size(struct file_node *s, const char *path, GError **err)
{
    struct stat st;
    if (fstat(s->fd, &st) < 0)
        return failed(err, path, "cannot be looked at", errno);
    s->device = S_ISBLK(st.st_mode);
    if (s->device) {
        if (ioctl(s->fd, BLKGETSIZE64, &s->node.size) < 0)
            return failed(err, path, "does not tell its size", errno);
        return true;
    }
    if (!S_ISREG(st.st_mode)) {
        g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_INVAL, "'%s' must be a file or a block device", path);
        return false;
    }
    s->node.size = (uint64_t)st.st_size;
    return true;
}

static void file_close(struct blk_node *n)
{
    struct file_node *s = file_node(n);
    if (s->direct_fd >= 0)
        close(s->direct_fd);
    if (s->fd >= 0)
        close(s->fd);
}

/* Opened anew through /proc, so that it is the same file even if another has its name by now. */
static bool open_direct(struct file_node *s, const char *path, int mode, GError **err)
{
    g_autofree char *self = g_strdup_printf("/proc/self/fd/%d", s->fd);
    s->direct_fd = open(self, mode | O_DIRECT | O_CLOEXEC);
    if (s->direct_fd >= 0)
        return true;
    if (errno == EINVAL) {
        g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "'%s' is on a file system without O_DIRECT, which cache=none and cache=directsync need", path);
        return false;
    }
    return failed(err, path, "cannot be opened past the page cache", errno);
}

struct blk_node *blk_file_open(const char *path, unsigned flags, struct blk_async *async, GError **err)
{
    struct file_node *s = g_new0(struct file_node, 1);
    int mode = flags & BLK_OPEN_WRITE ? O_RDWR : O_RDONLY;
    s->node.driver = &blk_file_driver;
    s->node.path = g_strdup(path);
    s->node.flags = flags;
    s->node.async = async;
    s->direct_fd = -1;
    s->fd = open(path, mode | O_CLOEXEC);
    bool ok = s->fd >= 0 || failed(err, path, "cannot be opened", errno);
    ok = ok && find_size(s, path, err);
    ok = ok && (!(flags & BLK_OPEN_DIRECT) || open_direct(s, path, mode, err));
    ok = ok && ((flags & BLK_OPEN_SHARE) || blk_lock_fd(s->fd, path, flags, err));
    if (ok)
        return &s->node;
    file_close(&s->node);
    g_free(s->node.path);
    g_free(s);
    return NULL;
}

int64_t blk_node_host_bytes(const struct blk_node *n)
{
    struct stat st;
    while (n->file)
        n = n->file;
    if (n->driver != &blk_file_driver || fstat(((const struct file_node *)n)->fd, &st) < 0)
        return -1;
    return (int64_t)st.st_blocks * 512;
}

const struct blk_driver blk_file_driver = {
    .name = "file",
    .size = sizeof(struct file_node),
    .grows = true,
    .close = file_close,
    .read = file_read,
    .write = file_write,
    .flush = file_flush,
    .discard = file_discard,
    .write_zeroes = file_write_zeroes,
    .map = file_map,
    .resize = file_resize,
    .start = file_start,
};
