/*
 * Fuzz target: a qcow2 image with damaged headers and tables. The input is a list of changes to a small image that has
 * everything (data, compressed clusters, a snapshot, zeros): what the changed image says must lead to no crash, no endless
 * loop and no memory without bound, whether it is read, written, checked or repaired.
 */
#include "hw/backend/blk_int.h"
#include "hw/core/log.h"
#include "hw/core/opts.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define DISK (256u << 10)
#define IMAGE_MAX (1u << 20)

static uint8_t *image; /* as it is before the changes */
static size_t image_size;
static int fd = -1;
static char path[64];

static void make_image(void)
{
    struct opts *o = opts_parse("cluster_size=4k", NULL);
    struct iovec iov;
    g_autofree uint8_t *buf = g_malloc(DISK);
    memset(buf, 0x55, DISK);
    fd = memfd_create("qcow2", MFD_CLOEXEC);
    g_assert(fd >= 0);
    g_snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    g_assert(blk_qcow2_driver.create(path, DISK, o, NULL));
    opts_free(o);
    struct blk_node *n = blk_node_open(path, "qcow2", BLK_OPEN_WRITE | BLK_OPEN_NO_FLUSH | BLK_OPEN_SHARE, NULL, NULL, NULL);
    g_assert(n);
    struct blk_vec v = blk_vec_one(&iov, buf, 0x8000);
    g_assert(!blk_node_pwrite(n, 0, buf, 0x9123));
    g_assert(!n->driver->write_compressed(n, 0x10000, 0x8000, &v));
    g_assert(n->driver->snapshot_create(n, "one", NULL));
    g_assert(!blk_node_pwrite(n, 0x3000, buf + 1, 0x2000));
    g_assert(!blk_node_write_zeroes(n, 0x5000, 0x3000, 0));
    blk_node_close(n);
    off_t end = lseek(fd, 0, SEEK_END);
    image_size = (size_t)end;
    image = g_malloc(image_size);
    g_assert(pread(fd, image, image_size, 0) == end);
    log_set_file("/dev/null", NULL);
}

/* Three bytes each: where, and what is there now. Places in the header are likelier. */
static void damage(const uint8_t *data, size_t size)
{
    g_autofree uint8_t *copy = g_memdup2(image, image_size);
    for (size_t i = 0; i + 3 <= size; i += 3) {
        size_t at = data[i] < 128 ? data[i] : ((size_t)(data[i] & 127) << 8 | data[i + 1]) % image_size;
        copy[at] = data[i + 2];
        if (data[i] < 128 && (data[i + 1] & 1) && at + 1 < image_size)
            copy[at + 1] = data[i + 1];
    }
    g_assert(ftruncate(fd, 0) == 0 && pwrite(fd, copy, image_size, 0) == (ssize_t)image_size);
}

static void use(struct blk_node *n, bool write)
{
    g_autofree uint8_t *buf = g_malloc0(0x10000);
    struct blk_extent e;
    uint64_t size = MIN(n->size, IMAGE_MAX);
    for (uint64_t at = 0; at < size && !blk_node_map(n, at, size - at, &e); at += e.bytes)
        ;
    for (uint64_t at = 0; at < size; at += 0x10000)
        blk_node_pread(n, at, buf, MIN(0x10000, size - at));
    if (!write)
        return;
    blk_node_pwrite(n, 0x1234 % MAX(size, 1), buf, MIN(0x5000, size - 0x1234 % MAX(size, 1)));
    blk_node_discard(n, 0, MIN(0x8000, size));
    n->driver->snapshot_apply(n, "one", NULL);
    n->driver->snapshot_create(n, "two", NULL);
    n->driver->snapshot_delete(n, "one", NULL);
    blk_node_flush(n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned flags = BLK_OPEN_NO_FLUSH | BLK_OPEN_SHARE | BLK_OPEN_NO_BACKING;
    if (fd < 0)
        make_image();
    if (!size)
        return 0;
    damage(data + 1, size - 1);
    if (data[0] & 1)
        flags |= BLK_OPEN_WRITE;
    if (data[0] & 2)
        flags |= BLK_OPEN_CHECK;
    struct blk_node *n = blk_node_open(path, "qcow2", flags, NULL, NULL, NULL);
    if (!n)
        return 0;
    struct blk_check c = { 0 };
    if (data[0] & 4)
        n->driver->check(n, &c, data[0] & 1 ? BLK_FIX_ALL : BLK_FIX_NOTHING, NULL);
    use(n, data[0] & 1);
    blk_node_close(n);
    return 0;
}
