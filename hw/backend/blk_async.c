/*
 * Where a drive's requests are carried out without anybody waiting: worker threads, and the host's io_uring.
 *
 * Both tell of completions through one eventfd that the main loop watches; blk_drain() polls it itself. Everything is
 * under the VM lock, but workers: these take none, they put what they finished on a list with a lock of its own.
 */
#include "hw/backend/blk_int.h"
#include "hw/backend/blk_uring.h"

#include "hw/core/vm_lock.h"

#include <errno.h>
#include <glib-unix.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define WORKERS 16 /* at most; they are made when they are needed */

struct blk_async {
    GSource *source;
    int event_fd;
    struct blk_ring *ring; /* NULL: none */
    pthread_mutex_t lock;  /* all of the following */
    struct blk_request *done, **done_tail;
    struct blk_request *queue, **queue_tail; /* what no worker has taken yet */
    pthread_cond_t wake; /* there is something to do, or nothing ever again */
    pthread_t workers[WORKERS];
    unsigned made, idle, queued; /* workers; those that wait for work; requests that wait for a worker */
    bool quit;
};

static void *work(void *opaque)
{
    struct blk_async *a = opaque;
    pthread_mutex_lock(&a->lock);
    for (;;) {
        a->idle++;
        while (!a->queue && !a->quit)
            pthread_cond_wait(&a->wake, &a->lock);
        a->idle--;
        struct blk_request *r = a->queue;
        if (!r)
            break;
        a->queue = r->next;
        if (!r->next)
            a->queue_tail = &a->queue;
        a->queued--;
        pthread_mutex_unlock(&a->lock);
        blk_async_post(a, r, blk_node_run(r->node, r));
        pthread_mutex_lock(&a->lock);
    }
    pthread_mutex_unlock(&a->lock);
    return NULL;
}

void blk_async_work(struct blk_async *a, struct blk_request *r)
{
    pthread_mutex_lock(&a->lock);
    r->next = NULL;
    *a->queue_tail = r;
    a->queue_tail = &r->next;
    if (++a->queued > a->idle && a->made < WORKERS && pthread_create(&a->workers[a->made], NULL, work, a) == 0)
        a->made++;
    g_assert(a->made); /* a host that cannot make one thread */
    pthread_cond_signal(&a->wake);
    pthread_mutex_unlock(&a->lock);
}

void blk_async_post(struct blk_async *a, struct blk_request *r, int ret)
{
    uint64_t one = 1;
    r->ret = ret;
    r->next = NULL;
    pthread_mutex_lock(&a->lock);
    *a->done_tail = r;
    a->done_tail = &r->next;
    /* Within the lock: once the list is empty again, nobody touches a->event_fd any more. */
    ssize_t n = write(a->event_fd, &one, sizeof one);
    pthread_mutex_unlock(&a->lock);
    g_assert(n == sizeof one || errno == EAGAIN);
}

/* What of the kernel's answers is not the end of it is done again, by a worker, which knows how to go on. */
static void finish_ring(struct blk_async *a, struct blk_request *r, int result)
{
    bool whole = result >= 0 && (r->op == BLK_FLUSH || (uint64_t)result == r->bytes);
    if (whole)
        r->finish(r, 0);
    else if (result >= 0 || result == -EAGAIN || result == -EINTR || result == -EINVAL || result == -EOPNOTSUPP)
        blk_async_work(a, r);
    else
        r->finish(r, result);
}

static void run(struct blk_async *a)
{
    uint64_t count;
    ssize_t n = read(a->event_fd, &count, sizeof count);
    g_assert(n == sizeof count || errno == EAGAIN || errno == EINTR);
    pthread_mutex_lock(&a->lock);
    struct blk_request *list = a->done;
    a->done = NULL;
    a->done_tail = &a->done;
    pthread_mutex_unlock(&a->lock);
    while (list) {
        struct blk_request *r = list;
        list = r->next;
        r->finish(r, r->ret);
    }
    struct blk_request *r;
    int result;
    while (a->ring && (r = blk_ring_reap(a->ring, &result)))
        finish_ring(a, r, result);
}

void blk_async_wait(struct blk_async *a)
{
    struct pollfd p = { .fd = a->event_fd, .events = POLLIN };
    while (poll(&p, 1, -1) < 0 && errno == EINTR)
        ;
    run(a);
}

static gboolean ready(gint fd, GIOCondition condition, void *opaque)
{
    bool taken = vm_lock_if_free();
    if (!g_source_is_destroyed(g_main_current_source()))
        run(opaque);
    vm_unlock_if(taken);
    return G_SOURCE_CONTINUE;
}

struct blk_async *blk_async_new(GMainContext *loop, bool uring)
{
    struct blk_async *a = g_new0(struct blk_async, 1);
    a->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    g_assert(a->event_fd >= 0); /* out of descriptors before anything was opened */
    a->done_tail = &a->done;
    pthread_mutex_init(&a->lock, NULL);
    a->queue_tail = &a->queue;
    pthread_cond_init(&a->wake, NULL);
    a->ring = uring ? blk_ring_new(a->event_fd) : NULL;
    a->source = g_unix_fd_source_new(a->event_fd, G_IO_IN);
    g_source_set_callback(a->source, G_SOURCE_FUNC(ready), a, NULL);
    g_source_attach(a->source, loop);
    return a;
}

void blk_async_free(struct blk_async *a)
{
    if (!a)
        return;
    pthread_mutex_lock(&a->lock);
    a->quit = true;
    pthread_cond_broadcast(&a->wake);
    pthread_mutex_unlock(&a->lock);
    while (a->made)
        pthread_join(a->workers[--a->made], NULL);
    g_assert(!a->done && !a->queue);
    g_source_destroy(a->source);
    g_source_unref(a->source);
    blk_ring_free(a->ring);
    close(a->event_fd);
    pthread_cond_destroy(&a->wake);
    pthread_mutex_destroy(&a->lock);
    g_free(a);
}

bool blk_async_ring(struct blk_async *a, int fd, struct blk_request *r)
{
    return a->ring && blk_ring_start(a->ring, fd, r);
}

const char *blk_async_kind(const struct blk_async *a)
{
    return a->ring ? "io_uring" : "threads";
}
