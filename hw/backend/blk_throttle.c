/*
 * Throttling: how many bytes and requests a second a drive may do. Each limit is a bucket that leaks at its rate and
 * takes a burst; a request goes when the buckets it falls into are not fuller than that. Under the VM lock.
 */
#include "hw/backend/blk_int.h"

#include "hw/core/opts.h"

bool blk_throttle_on(const struct blk_throttle *t)
{
    for (unsigned i = 0; i < BLK_LIMITS; i++) {
        if (t->bytes[i].rate || t->ops[i].rate)
            return true;
    }
    return false;
}

static void leak(struct blk_limit *l, double seconds)
{
    l->level = MAX(0, l->level - seconds * (double)l->rate);
}

static int64_t too_full(const struct blk_limit *l)
{
    double room = l->burst ? (double)l->burst : (double)l->rate / 10;
    if (!l->rate || l->level <= room)
        return 0;
    return (int64_t)((l->level - room) * 1e6 / (double)l->rate) + 1;
}

int64_t blk_throttle_wait(struct blk_throttle *t, bool write, uint64_t bytes, int64_t now)
{
    unsigned own = write ? BLK_LIMIT_WRITE : BLK_LIMIT_READ;
    struct blk_limit *limits[] = { &t->bytes[BLK_LIMIT_ALL], &t->bytes[own], &t->ops[BLK_LIMIT_ALL], &t->ops[own] };
    double seconds = t->last ? (double)(now - t->last) / 1e6 : 0;
    int64_t wait = 0;
    for (unsigned i = 0; i < BLK_LIMITS; i++) {
        leak(&t->bytes[i], seconds);
        leak(&t->ops[i], seconds);
    }
    t->last = now;
    for (unsigned i = 0; i < G_N_ELEMENTS(limits); i++)
        wait = MAX(wait, too_full(limits[i]));
    if (wait)
        return wait;
    double ops = t->op_size && bytes > t->op_size ? (double)bytes / (double)t->op_size : 1;
    limits[0]->level += (double)bytes;
    limits[1]->level += (double)bytes;
    limits[2]->level += ops;
    limits[3]->level += ops;
    return 0;
}

/* One limit under its two names. */
static bool take(struct opts *o, const char *name, const char *old, uint64_t *out, GError **err)
{
    g_autofree char *key = g_strconcat("throttling.", name, NULL);
    return opts_take_size(o, old, 1, out, err) && opts_take_size(o, key, 1, out, err);
}

bool blk_throttle_options(struct blk_throttle *t, struct opts *o, GError **err)
{
    static const struct {
        const char *ops, *ops_old, *bytes, *bytes_old;
    } names[2][BLK_LIMITS] = {
        { { "iops-total", "iops", "bps-total", "bps" },
          { "iops-read", "iops_rd", "bps-read", "bps_rd" },
          { "iops-write", "iops_wr", "bps-write", "bps_wr" } },
        { { "iops-total-max", "iops_max", "bps-total-max", "bps_max" },
          { "iops-read-max", "iops_rd_max", "bps-read-max", "bps_rd_max" },
          { "iops-write-max", "iops_wr_max", "bps-write-max", "bps_wr_max" } },
    };
    for (unsigned i = 0; i < BLK_LIMITS; i++) {
        if (!take(o, names[0][i].ops, names[0][i].ops_old, &t->ops[i].rate, err) ||
            !take(o, names[0][i].bytes, names[0][i].bytes_old, &t->bytes[i].rate, err) ||
            !take(o, names[1][i].ops, names[1][i].ops_old, &t->ops[i].burst, err) ||
            !take(o, names[1][i].bytes, names[1][i].bytes_old, &t->bytes[i].burst, err))
            return false;
        if ((t->ops[i].burst && !t->ops[i].rate) || (t->bytes[i].burst && !t->bytes[i].rate))
            return opts_error(err, "a burst (-max) needs the limit that it exceeds");
    }
    return take(o, "iops-size", "iops_size", &t->op_size, err);
}
