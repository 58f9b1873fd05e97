/* The host's io_uring: between hw/backend/blk_async.c and blk_uring.c only. All under the VM lock. */
#ifndef HW_BACKEND_BLK_URING_H
#define HW_BACKEND_BLK_URING_H

#include "config.h"
#include "hw/backend/blk.h"

struct blk_ring;

#ifdef CONFIG_URING
/* NULL if this host has none or does not let us. Completions make event_fd readable. */
struct blk_ring *blk_ring_new(int event_fd);
void blk_ring_free(struct blk_ring *ring);
/* A read or write of r->vec at r->offset, or a flush; false: it is full, or r is too scattered. */
bool blk_ring_start(struct blk_ring *ring, int fd, struct blk_request *r);
/* The next one that is finished, and what the kernel said of it; NULL: none now. */
struct blk_request *blk_ring_reap(struct blk_ring *ring, int *result);
#else
static inline struct blk_ring *blk_ring_new(int event_fd)
{
    return NULL;
}
static inline void blk_ring_free(struct blk_ring *ring)
{
}
static inline bool blk_ring_start(struct blk_ring *ring, int fd, struct blk_request *r)
{
    return false;
}
static inline struct blk_request *blk_ring_reap(struct blk_ring *ring, int *result)
{
    return NULL;
}
#endif

#endif
