/*
 * trapeze-img bench: many requests of one size through a drive, as a device would submit them, and how long they take.
 */
#include "ui/img.h"

#include "hw/core/device.h"
#include "hw/core/opts.h"
#include "hw/core/vm_lock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 1024

struct bench;

struct slot {
    struct blk_request r;
    struct bench *t;
    struct iovec iov;
};

struct bench {
    struct blk *b;
    uint64_t count, depth, offset, size, step, flush_interval, pattern;
    bool write, no_drain;
    uint64_t submitted, done, under_way, since_flush;
    bool flushing;
    uint64_t at; /* of the next request */
    int error;
    struct slot *slots, flush;
    GQueue idle;
};

static void flush_done(struct blk_request *r, int ret)
{
    struct bench *t = container_of(r, struct slot, r)->t;
    t->flushing = false;
    t->error = ret ? ret : t->error;
}

static void slot_done(struct blk_request *r, int ret)
{
    struct slot *s = container_of(r, struct slot, r);
    struct bench *t = s->t;
    t->under_way--;
    t->done++;
    t->since_flush++;
    t->error = ret ? ret : t->error;
    g_queue_push_tail(&t->idle, s);
}

static void submit_all(struct bench *t)
{
    while (!t->error && t->idle.length && t->submitted < t->count && (!t->flushing || t->no_drain)) {
        if (t->flush_interval && t->since_flush >= t->flush_interval && !t->flushing && (t->no_drain || !t->under_way)) {
            t->since_flush = 0;
            t->flushing = true;
            t->flush = (struct slot){ .t = t, .r = { .op = BLK_FLUSH, .done = flush_done } };
            blk_submit(t->b, &t->flush.r);
            continue;
        }
        if (t->flush_interval && t->since_flush >= t->flush_interval && !t->no_drain)
            return; /* those under way first */
        struct slot *s = g_queue_pop_head(&t->idle);
        s->r = (struct blk_request){ .op = t->write ? BLK_WRITE : BLK_READ, .offset = t->at, .bytes = t->size, .iov = &s->iov,
                                     .iov_count = 1, .done = slot_done };
        t->at += t->step;
        if (t->at + t->size > blk_size(t->b))
            t->at = 0;
        t->submitted++;
        t->under_way++;
        blk_submit(t->b, &s->r);
    }
}

static int run(struct bench *t, bool quiet)
{
    g_autofree uint8_t *memory = NULL;
    void *buf;
    if (posix_memalign(&buf, 4096, t->depth * t->size))
        return img_fail("not enough memory for the buffers");
    memory = buf;
    memset(memory, (int)t->pattern, t->depth * t->size);
    t->slots = g_new0(struct slot, t->depth);
    for (uint64_t i = 0; i < t->depth; i++) {
        t->slots[i].t = t;
        t->slots[i].iov = (struct iovec){ memory + i * t->size, t->size };
        g_queue_push_tail(&t->idle, &t->slots[i]);
    }
    if (!quiet)
        printf("Sending %" G_GUINT64_FORMAT " %s requests, %" G_GUINT64_FORMAT " bytes each, %" G_GUINT64_FORMAT
               " in parallel (starting at offset %" G_GUINT64_FORMAT ", step size %" G_GUINT64_FORMAT ")\n",
               t->count, t->write ? "write" : "read", t->size, t->depth, t->offset, t->step);
    if (!quiet && t->flush_interval)
        printf("Sending flush every %" G_GUINT64_FORMAT " %srequests\n", t->flush_interval, t->no_drain ? "" : "(drained) ");
    int64_t start = g_get_monotonic_time();
    submit_all(t);
    while (!t->error && t->done < t->count) {
        g_main_context_iteration(NULL, TRUE);
        submit_all(t);
    }
    double seconds = (double)(g_get_monotonic_time() - start) / 1e6;
    blk_drain(t->b);
    g_queue_clear(&t->idle);
    g_free(t->slots);
    if (t->error)
        return img_fail("Failed request: %s", g_strerror(-t->error));
    printf("Run completed in %3.3f seconds.\n", seconds);
    return 0;
}

static bool number(const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
    GError *err = NULL;
    if (parse_number(text, min, max, out, &err))
        return true;
    img_fail("Invalid number '%s': it %s", text, err->message);
    g_error_free(err);
    return false;
}

/* 0: taken; 1: failed, with a sentence; -1: not of bench's own. */
static int bench_option(struct bench *t, int c, GString *drive)
{
    switch (c) {
    case 'c': return !number(optarg, 1, INT32_MAX, &t->count);
    case 'd': return !number(optarg, 1, DEPTH_MAX, &t->depth);
    case 'o': return !img_parse_size(optarg, &t->offset);
    case 's': return !img_parse_size(optarg, &t->size);
    case 'S': return !img_parse_size(optarg, &t->step);
    case 'i': g_string_append_printf(drive, ",aio=%s", optarg); return 0;
    case 'n': return 0;
    case 'w': t->write = true; return 0;
    case IMG_OWN: return !number(optarg, 1, INT32_MAX, &t->flush_interval);
    case IMG_OWN + 1: t->no_drain = true; return 0;
    case IMG_OWN + 2: return !number(optarg, 0, 255, &t->pattern);
    default: return -1;
    }
}

static int open_and_run(struct bench *t, const struct img_options *o, const char *file, GString *drive)
{
    GError *err = NULL;
    struct opts *opts = opts_parse(drive->str, NULL);
    opts_set(opts, "readonly", t->write ? "off" : "on");
    opts_set(opts, "cache", o->cache ? o->cache : "writeback");
    opts_set(opts, "locking", o->share ? "off" : "auto");
    t->b = blk_alloc("bench", NULL);
    bool ok = blk_configure(t->b, opts, file, o->format, &err);
    opts_free(opts);
    int ret = 1;
    if (!ok)
        img_fail("Could not open '%s': %s", file, err->message);
    else if (t->offset + t->size > blk_size(t->b))
        img_fail("the image is too small for these requests");
    else
        ret = run(t, o->quiet);
    g_clear_error(&err);
    blk_free(t->b);
    return ret;
}

int img_bench(int argc, char **argv)
{
    static const struct option longs[] = { IMG_LONG_OPTIONS, { "flush-interval", required_argument, NULL, IMG_OWN },
                                           { "no-drain", no_argument, NULL, IMG_OWN + 1 },
                                           { "pattern", required_argument, NULL, IMG_OWN + 2 }, { 0 } };
    struct img_options o = { 0 };
    struct bench t = { .count = 75000, .depth = 64, .size = 4096 };
    GString *drive = g_string_new("");
    bool failed = false;
    int ret = -1;
    for (int c; ret < 0 && (c = getopt_long(argc, argv, ":hc:d:f:ni:o:qs:S:t:wU", longs, NULL)) != -1;) {
        int own = bench_option(&t, c, drive);
        if (own == 1)
            ret = 1;
        else if (own < 0 && !img_common_option(&o, c, &failed))
            ret = failed ? 1 : img_other_option(argv, c);
    }
    if (ret < 0 && optind != argc - 1)
        ret = img_fail("Expecting one image file name");
    if (ret < 0 && (!t.size || t.size > 64 << 20 || (t.flush_interval && !t.write)))
        ret = img_fail(t.flush_interval ? "--flush-interval is only available in write tests" : "Invalid buffer size");
    if (ret < 0) {
        t.step = t.step ? t.step : t.size;
        t.at = t.offset;
        vm_lock();
        ret = open_and_run(&t, &o, argv[optind], drive);
        vm_unlock();
    }
    g_string_free(drive, TRUE);
    return ret;
}
