/*
 * Reads, writes and flushes of host files by io_uring (io_uring(7)), through liburing. Built in where configure finds it;
 * where the kernel refuses it at run time, worker threads do the same (hw/backend/blk_async.c).
 *
 * A ring belongs to one drive and is used under the VM lock only. It tells of completions through an eventfd.
 */
#include "hw/backend/blk_uring.h"

#include "hw/backend/blk_int.h"

#include <liburing.h>

#define ENTRIES 128
#define MOST_BYTES (UINT64_C(1) << 30)
#define MOST_PIECES 1024 /* IOV_MAX of Linux */

struct blk_ring {
    struct io_uring uring;
    unsigned under_way;
};

struct blk_ring *blk_ring_new(int event_fd)
{
    struct blk_ring *ring = g_new0(struct blk_ring, 1);
    if (io_uring_queue_init(ENTRIES, &ring->uring, 0) < 0) {
        g_free(ring);
        return NULL;
    }
    if (io_uring_register_eventfd(&ring->uring, event_fd) < 0) {
        io_uring_queue_exit(&ring->uring);
        g_free(ring);
        return NULL;
    }
    return ring;
}

void blk_ring_free(struct blk_ring *ring)
{
    if (!ring)
        return;
    g_assert(!ring->under_way);
    io_uring_queue_exit(&ring->uring);
    g_free(ring);
}

static void prepare(struct io_uring_sqe *sqe, int fd, const struct blk_request *r, const struct iovec *piece)
{
    bool write = r->op == BLK_WRITE;
    if (r->op == BLK_FLUSH)
        io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
    else if (piece && write)
        io_uring_prep_write(sqe, fd, piece->iov_base, (unsigned)r->bytes, r->offset);
    else if (piece)
        io_uring_prep_read(sqe, fd, piece->iov_base, (unsigned)r->bytes, r->offset);
    else if (write)
        io_uring_prep_writev(sqe, fd, r->vec.iov, r->vec.count, r->offset);
    else
        io_uring_prep_readv(sqe, fd, r->vec.iov, r->vec.count, r->offset);
    if (write && (r->flags & BLK_FUA))
        sqe->rw_flags = RWF_DSYNC;
}

bool blk_ring_start(struct blk_ring *ring, int fd, struct blk_request *r)
{
    struct iovec piece;
    bool one = false;
    if (r->op != BLK_FLUSH) {
        size_t len;
        if (r->bytes > MOST_BYTES || !r->bytes)
            return false;
        blk_vec_cut(&r->vec, r->bytes, &piece, 1, &len);
        one = len == r->bytes;
        /* The kernel gets the caller's own array, which ends where the request does. */
        if (!one && (r->vec.skip || r->vec.count > MOST_PIECES || r->bytes != r->vec_bytes))
            return false;
    }
    struct io_uring_sqe *sqe = ring->under_way < ENTRIES ? io_uring_get_sqe(&ring->uring) : NULL;
    if (!sqe)
        return false;
    prepare(sqe, fd, r, one ? &piece : NULL);
    io_uring_sqe_set_data(sqe, r);
    ring->under_way++;
    /* What could not be submitted now (the kernel is short of something) stays queued and goes with the next. */
    io_uring_submit(&ring->uring);
    return true;
}

struct blk_request *blk_ring_reap(struct blk_ring *ring, int *result)
{
    struct io_uring_cqe *cqe;
    if (io_uring_sq_ready(&ring->uring))
        io_uring_submit(&ring->uring);
    if (io_uring_peek_cqe(&ring->uring, &cqe) < 0)
        return NULL;
    struct blk_request *r = io_uring_cqe_get_data(cqe);
    *result = cqe->res;
    io_uring_cqe_seen(&ring->uring, cqe);
    ring->under_way--;
    return r;
}
