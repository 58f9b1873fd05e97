/*
 * Drives: requests of a front end on their way to an image, what holds them back, and media that come and go.
 *
 * A request goes to the tree's top node, which begins it at once if it can, or to a worker thread. Under the VM lock.
 */
#include "hw/backend/blk_int.h"

#include "hw/core/machine.h"
#include "hw/core/opts.h"
#include "hw/core/vm_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <unistd.h>

/* --- Requests ----------------------------------------------------------------------------------------------------- */

static void finished(struct blk_request *r, int ret)
{
    struct blk *b = r->blk;
    g_assert(b->under_way);
    b->under_way--;
    r->done(r, ret); /* r may be gone behind this */
}

static bool is_write(const struct blk_request *r)
{
    return r->op != BLK_READ && r->op != BLK_FLUSH;
}

static int refusal(const struct blk *b, const struct blk_request *r)
{
    if (!b->root)
        return -ENOMEDIUM;
    if (is_write(r) && !(b->root->flags & BLK_OPEN_WRITE))
        return -EROFS;
    if (r->op != BLK_FLUSH && (r->bytes > b->root->size || r->offset > b->root->size - r->bytes))
        return -EINVAL;
    return 0;
}

/* Nothing is to be done at all. */
static bool is_nothing(const struct blk *b, const struct blk_request *r)
{
    return (r->op == BLK_DISCARD && !b->unmap) || (r->op != BLK_FLUSH && !r->bytes) ||
           (r->op == BLK_FLUSH && !(b->root->flags & BLK_OPEN_WRITE));
}

static void issue(struct blk *b, struct blk_request *r)
{
    bool fua = is_write(r) && (r->flags & BLK_FUA);
    r->as_zeroes = r->op == BLK_WRITE && b->detect_zeroes && blk_vec_is_zero(&r->vec, r->bytes);
    /* Of formats the write itself is not all: only a file's own FUA is the whole. */
    bool plain = !r->as_zeroes && (!fua || b->root->driver == &blk_raw_driver);
    if (plain && b->root->driver->start && r->op != BLK_DISCARD && r->op != BLK_WRITE_ZEROES &&
        b->root->driver->start(b->root, r))
        return;
    blk_async_work(b->async, r);
}

static void prepare(struct blk *b, struct blk_request *r)
{
    r->blk = b;
    r->node = b->root;
    r->finish = finished;
    r->vec = (struct blk_vec){ r->iov, r->iov_count, 0 };
    r->vec_bytes = 0;
    if (r->op == BLK_READ || r->op == BLK_WRITE) {
        for (unsigned i = 0; i < r->iov_count; i++)
            r->vec_bytes += r->iov[i].iov_len;
        g_assert(r->vec_bytes == r->bytes);
    }
    if (is_write(r) && !b->write_cache)
        r->flags |= BLK_FUA;
    if (!b->unmap)
        r->flags &= ~(unsigned)BLK_UNMAP;
    else if (b->detect_unmap)
        r->flags |= BLK_UNMAP;
}

/* --- Those that throttling holds back ----------------------------------------------------------------------------- */

static gboolean call_release(GSource *source, GSourceFunc fn, gpointer opaque)
{
    return fn(opaque);
}

/* A timer of GLib's would set its next time itself. */
static GSourceFuncs timer_funcs = { .dispatch = call_release };

static gboolean release_timer(void *opaque);

static void set_timer(struct blk *b, int64_t us)
{
    if (!b->held_timer) {
        b->held_timer = g_source_new(&timer_funcs, sizeof(GSource));
        g_source_set_callback(b->held_timer, release_timer, b, NULL);
        g_source_attach(b->held_timer, b->loop);
    }
    g_source_set_ready_time(b->held_timer, us < 0 ? -1 : g_get_monotonic_time() + us);
}

/* How long one must wait, in us; 0: it may go, and is accounted for. */
static int64_t wait_of(struct blk *b, const struct blk_request *r)
{
    if (b->draining)
        return 0;
    return blk_throttle_wait(&b->throttle, is_write(r), r->bytes, g_get_monotonic_time());
}

/* In the order in which they came, but reads that must wait do not hold back writes. */
static void release(struct blk *b)
{
    int64_t waits[2] = { 0, 0 };
    for (;;) {
        int next = -1;
        for (int i = 0; i < 2; i++) {
            if (b->held[i] && !waits[i] && (next < 0 || b->held[i]->order < b->held[next]->order))
                next = i;
        }
        if (next < 0)
            break;
        struct blk_request *r = b->held[next];
        waits[next] = wait_of(b, r);
        if (waits[next])
            continue;
        b->held[next] = r->next;
        if (!r->next)
            b->held_tail[next] = &b->held[next];
        issue(b, r);
    }
    int64_t wait = waits[0] && waits[1] ? MIN(waits[0], waits[1]) : MAX(waits[0], waits[1]);
    if (wait || b->held_timer)
        set_timer(b, wait ? wait : -1);
}

static gboolean release_timer(void *opaque)
{
    bool taken = vm_lock_if_free();
    if (!g_source_is_destroyed(g_main_current_source()))
        release(opaque);
    vm_unlock_if(taken);
    return G_SOURCE_CONTINUE;
}

static void hold(struct blk *b, struct blk_request *r)
{
    int list = is_write(r);
    r->next = NULL;
    r->order = b->order++;
    *b->held_tail[list] = r;
    b->held_tail[list] = &r->next;
    release(b);
}

void blk_submit(struct blk *b, struct blk_request *r)
{
    prepare(b, r);
    b->under_way++;
    int ret = refusal(b, r);
    if (ret || is_nothing(b, r))
        blk_async_post(b->async, r, ret);
    else if (r->op != BLK_FLUSH && blk_throttle_on(&b->throttle))
        hold(b, r);
    else
        issue(b, r);
}

void blk_drain(struct blk *b)
{
    bool before = b->draining;
    b->draining = true;
    release(b);
    while (b->under_way)
        blk_async_wait(b->async);
    b->draining = before;
}

bool blk_busy(const struct blk *b)
{
    return b->under_way != 0;
}

/* --- Front ends --------------------------------------------------------------------------------------------------- */

bool blk_attach(struct blk *b, const struct blk_front_ops *ops, void *opaque, GError **err)
{
    if (b->front)
        return opts_error(err, "drive '%s' is used by another device", b->id);
    b->front = ops;
    b->front_opaque = opaque;
    return true;
}

void blk_detach(struct blk *b, void *opaque)
{
    if (b->front_opaque != opaque)
        return;
    blk_drain(b);
    b->front = NULL;
    b->front_opaque = NULL;
}

const char *blk_id(const struct blk *b)
{
    return b->id;
}

bool blk_has_medium(const struct blk *b)
{
    return b->root != NULL;
}

uint64_t blk_size(const struct blk *b)
{
    return b->root ? b->root->size & ~(uint64_t)(BLK_SECTOR - 1) : 0;
}

bool blk_read_only(const struct blk *b)
{
    return b->root ? !(b->root->flags & BLK_OPEN_WRITE) : b->read_only;
}

bool blk_can_discard(const struct blk *b)
{
    return b->unmap && !blk_read_only(b);
}

bool blk_write_cache(const struct blk *b)
{
    return b->write_cache;
}

void blk_set_write_cache(struct blk *b, bool on)
{
    b->write_cache = on;
}

enum blk_error_action blk_error_action(const struct blk *b, bool read, int ret)
{
    switch (read ? b->on_read_error : b->on_write_error) {
    case BLK_POLICY_IGNORE: return BLK_ERROR_IGNORE;
    case BLK_POLICY_STOP: return BLK_ERROR_STOP;
    case BLK_POLICY_ENOSPC: return ret == -ENOSPC ? BLK_ERROR_STOP : BLK_ERROR_REPORT;
    case BLK_POLICY_REPORT: break;
    }
    return BLK_ERROR_REPORT;
}

/* --- Media -------------------------------------------------------------------------------------------------------- */

static struct blk_node *open_tree(struct blk *b, const char *file, const char *format, struct opts *o, GError **err)
{
    GError *why = NULL;
    unsigned flags = b->flags | (b->read_only ? 0 : BLK_OPEN_WRITE);
    struct blk_node *n = blk_node_open(file, format, flags, b->async, o, &why);
    bool forbidden = why && (g_error_matches(why, G_FILE_ERROR, G_FILE_ERROR_ACCES) ||
                             g_error_matches(why, G_FILE_ERROR, G_FILE_ERROR_ROFS) ||
                             g_error_matches(why, G_FILE_ERROR, G_FILE_ERROR_PERM));
    if (!n && b->auto_read_only && forbidden && (flags & BLK_OPEN_WRITE)) {
        g_clear_error(&why);
        n = blk_node_open(file, format, flags & ~(unsigned)BLK_OPEN_WRITE, b->async, o, &why);
    }
    if (!n)
        g_propagate_error(err, why);
    return n;
}

/*
 * A temporary qcow2 image over it, which takes what is written and goes with us: its name is gone already. The image
 * itself is only read.
 */
static struct blk_node *open_overlay(struct blk *b, const char *file, const char *format, struct opts *o, GError **err)
{
    struct blk_node *n = NULL, *base = blk_node_open(file, format, b->flags, NULL, o, err);
    if (!base)
        return NULL;
    const char *dir = g_getenv("TMPDIR");
    g_autofree char *path = g_build_filename(dir && *dir ? dir : "/var/tmp", "trapeze-XXXXXX", NULL);
    g_autofree char *below = g_canonicalize_filename(base->file->path, NULL);
    struct opts *create = opts_parse("", NULL);
    opts_set(create, "backing_file", below);
    opts_set(create, "backing_fmt", base->driver->name);
    uint64_t size = base->size;
    blk_node_close(base);
    int fd = g_mkstemp_full(path, O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0) {
        opts_error(err, "snapshot=on: '%s' cannot be made: %s", path, g_strerror(errno));
    } else {
        close(fd);
        if (blk_qcow2_driver.create(path, size, create, err))
            n = blk_node_open(path, "qcow2", b->flags | BLK_OPEN_WRITE | BLK_OPEN_NO_FLUSH, b->async, NULL, err);
        unlink(path);
    }
    opts_free(create);
    return n;
}

bool blk_open(struct blk *b, const char *file, const char *format, struct opts *o, GError **err)
{
    g_assert(!b->root);
    b->root = b->snapshot ? open_overlay(b, file, format, o, err) : open_tree(b, file, format, o, err);
    return b->root != NULL;
}

bool blk_change(struct blk *b, const char *file, const char *format, GError **err)
{
    struct blk_node *n = b->snapshot ? open_overlay(b, file, format, NULL, err) : open_tree(b, file, format, NULL, err);
    if (!n)
        return false;
    blk_eject(b);
    b->root = n;
    if (b->front && b->front->medium)
        b->front->medium(b->front_opaque, true);
    return true;
}

void blk_eject(struct blk *b)
{
    if (!b->root)
        return;
    blk_drain(b);
    blk_node_flush(b->root);
    blk_node_close(b->root);
    b->root = NULL;
    if (b->front && b->front->medium)
        b->front->medium(b->front_opaque, false);
}

bool blk_resize(struct blk *b, uint64_t size, GError **err)
{
    if (!b->root)
        return opts_error(err, "drive '%s' has no medium", b->id);
    blk_drain(b);
    if (!blk_node_resize(b->root, size, BLK_PREALLOC_OFF, true, err))
        return false;
    if (b->front && b->front->resized)
        b->front->resized(b->front_opaque);
    return true;
}

void blk_print(const struct blk *b, GString *out)
{
    if (!b->root) {
        g_string_append_printf(out, "%s: [not inserted]\n", b->id);
        return;
    }
    g_string_append_printf(out, "%s: %s (%s%s)\n", b->id, b->root->path, b->root->driver->name,
                           blk_read_only(b) ? ", read-only" : "");
    g_string_append_printf(out, "    Cache mode:       %s%s%s\n", b->write_cache ? "writeback" : "writethrough",
                           b->flags & BLK_OPEN_DIRECT ? ", direct" : "",
                           b->flags & BLK_OPEN_NO_FLUSH ? ", ignore flushes" : "");
    g_string_append_printf(out, "    Requests:         %s, %u under way\n", blk_async_kind(b->async), b->under_way);
}

/* --- Life --------------------------------------------------------------------------------------------------------- */

struct blk *blk_alloc(const char *id, GMainContext *loop)
{
    struct blk *b = g_new0(struct blk, 1);
    b->id = g_strdup(id);
    b->loop = g_main_context_ref(loop ? loop : g_main_context_default());
    b->write_cache = true;
    b->on_write_error = BLK_POLICY_ENOSPC;
    for (int i = 0; i < 2; i++)
        b->held_tail[i] = &b->held[i];
    return b;
}

void blk_free(struct blk *b)
{
    blk_drain(b);
    if (b->root)
        blk_node_flush(b->root);
    blk_node_close(b->root);
    if (b->held_timer) {
        g_source_destroy(b->held_timer);
        g_source_unref(b->held_timer);
    }
    blk_async_free(b->async);
    g_main_context_unref(b->loop);
    g_free(b->id);
    g_free(b);
}

void blk_drain_all(struct machine *m)
{
    GHashTableIter i;
    gpointer b;
    if (!m->blks)
        return;
    g_hash_table_iter_init(&i, m->blks);
    while (g_hash_table_iter_next(&i, NULL, &b))
        blk_drain(b);
}

int blk_flush_all(struct machine *m)
{
    GHashTableIter i;
    gpointer value;
    int ret = 0;
    blk_drain_all(m);
    if (!m->blks)
        return 0;
    g_hash_table_iter_init(&i, m->blks);
    while (g_hash_table_iter_next(&i, NULL, &value)) {
        struct blk *b = value;
        int one = b->root ? blk_node_flush(b->root) : 0;
        ret = ret ? ret : one;
    }
    return ret;
}
