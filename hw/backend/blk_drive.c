/*
 * -drive and its short forms: from text to a drive of the machine. Options as QEMU has them; what this version does not
 * do is refused with a sentence. Under the VM lock, before the machine runs or from the monitor.
 */
#include "hw/backend/blk_int.h"

#include "hw/core/machine.h"
#include "hw/core/opts.h"

#include <string.h>

static const char *const interfaces[] = { "none", "ide", "virtio", "floppy", "scsi", "pflash", NULL };
/* Devices to a bus; 0: all are on bus 0. */
static const unsigned to_a_bus[] = { 0, 2, 0, 2, 7, 0 };
#define MOST_BUSES 64

/* The index of `value` in a list of words, or an error that lists them. */
static bool take_word(struct opts *o, const char *key, const char *const *words, unsigned *out, GError **err)
{
    const char *v = opts_take(o, key);
    if (!v)
        return true;
    for (unsigned i = 0; words[i]; i++) {
        if (strcmp(words[i], v) == 0) {
            *out = i;
            return true;
        }
    }
    g_autofree char *list = g_strjoinv(", ", (char **)words);
    return opts_error(err, "%s=%s: must be one of %s", key, v, list);
}

/* --- How the image is used ---------------------------------------------------------------------------------------- */

static bool take_cache(struct blk *b, struct opts *o, GError **err)
{
    static const char *const modes[] = { "writeback", "none", "writethrough", "directsync", "unsafe", "off", NULL };
    unsigned mode = 0;
    if (!take_word(o, "cache", modes, &mode, err))
        return false;
    b->write_cache = mode != 2 && mode != 3;
    bool direct = mode == 1 || mode == 3 || mode == 5, no_flush = mode == 4;
    if (!opts_take_bool(o, "cache.writeback", &b->write_cache, err) || !opts_take_bool(o, "cache.direct", &direct, err) ||
        !opts_take_bool(o, "cache.no-flush", &no_flush, err))
        return false;
    b->flags |= (direct ? BLK_OPEN_DIRECT : 0) | (no_flush ? BLK_OPEN_NO_FLUSH : 0);
    return true;
}

static bool take_locking(struct blk *b, struct opts *o, GError **err)
{
    static const char *const modes[] = { "auto", "on", "off", NULL };
    unsigned mode = 0;
    if (!take_word(o, "file.locking", modes, &mode, err) || !take_word(o, "locking", modes, &mode, err))
        return false;
    b->flags |= mode == 0 ? BLK_OPEN_LOCK_OPTIONAL : mode == 2 ? BLK_OPEN_SHARE : 0;
    return true;
}

static bool take_discard(struct blk *b, struct opts *o, GError **err)
{
    static const char *const modes[] = { "ignore", "off", "unmap", "on", NULL };
    static const char *const detect[] = { "off", "on", "unmap", NULL };
    unsigned mode = 0, zeroes = 0;
    if (!take_word(o, "discard", modes, &mode, err) || !take_word(o, "detect-zeroes", detect, &zeroes, err))
        return false;
    b->unmap = mode >= 2;
    b->detect_zeroes = zeroes != 0;
    b->detect_unmap = zeroes == 2;
    return !b->detect_unmap || b->unmap || opts_error(err, "detect-zeroes=unmap needs discard=unmap");
}

static bool take_errors(struct blk *b, struct opts *o, GError **err)
{
    static const char *const on_read[] = { "report", "ignore", "stop", NULL };
    static const char *const on_write[] = { "report", "ignore", "stop", "enospc", NULL };
    unsigned read = b->on_read_error, write = b->on_write_error;
    if (!take_word(o, "rerror", on_read, &read, err) || !take_word(o, "werror", on_write, &write, err))
        return false;
    b->on_read_error = read;
    b->on_write_error = write;
    return true;
}

static bool take_read_only(struct blk *b, struct opts *o, GError **err)
{
    static const char *const modes[] = { "off", "on", "auto", NULL };
    unsigned mode = 0;
    bool fallback = false, copy = false;
    if (!take_word(o, "readonly", modes, &mode, err) || !take_word(o, "read-only", modes, &mode, err) ||
        !opts_take_bool(o, "auto-read-only", &fallback, err) || !opts_take_bool(o, "copy-on-read", &copy, err) ||
        !opts_take_bool(o, "snapshot", &b->snapshot, err))
        return false;
    b->read_only = mode == 1 || b->drive.cdrom;
    b->auto_read_only = mode == 2 || fallback;
    if (copy)
        return opts_error(err, "copy-on-read=on: this version does not copy what is read; leave it out");
    return true;
}

/* NULL: no medium. Lent. */
static bool take_file(struct opts *o, const char **file, const char **format, GError **err)
{
    const char *nested = opts_take(o, "file.filename"), *driver = opts_take(o, "driver");
    const char *protocol = opts_take(o, "file.driver");
    *file = opts_take(o, "file");
    *format = opts_take(o, "format");
    *file = *file ? *file : nested;
    *format = *format ? *format : driver;
    if (protocol && strcmp(protocol, "file") && strcmp(protocol, "host_device"))
        return opts_error(err, "file.driver=%s: this version opens files and block devices only", protocol);
    if (*file && !**file)
        *file = NULL;
    return true;
}

/* --- Where it is -------------------------------------------------------------------------------------------------- */

struct blk *blk_drive_at(struct machine *m, enum blk_interface interface, unsigned bus, unsigned unit)
{
    GHashTableIter i;
    gpointer value;
    if (!m->blks)
        return NULL;
    g_hash_table_iter_init(&i, m->blks);
    while (g_hash_table_iter_next(&i, NULL, &value)) {
        struct blk *b = value;
        if (b->drive.interface == interface && b->drive.bus == bus && b->drive.unit == unit)
            return b;
    }
    return NULL;
}

static bool take_place(struct blk *b, struct machine *m, struct opts *o, int index, GError **err)
{
    static const char *const media[] = { "disk", "cdrom", NULL };
    unsigned interface = b->drive.interface, medium = 0;
    uint64_t at = UINT64_MAX, bus = UINT64_MAX, unit = UINT64_MAX;
    if (!take_word(o, "if", interfaces, &interface, err) || !take_word(o, "media", media, &medium, err) ||
        !opts_take_number(o, "index", 0, BLK_UNIT_MAX, &at, err) || !opts_take_number(o, "bus", 0, MOST_BUSES - 1, &bus, err) ||
        !opts_take_number(o, "unit", 0, BLK_UNIT_MAX, &unit, err))
        return false;
    unsigned most = to_a_bus[interface];
    b->drive.interface = interface;
    b->drive.cdrom = medium == 1;
    if (at == UINT64_MAX && index >= 0)
        at = (uint64_t)index;
    if (at != UINT64_MAX && (bus != UINT64_MAX || unit != UINT64_MAX))
        return opts_error(err, "index= cannot be used with bus= or unit=");
    if (at != UINT64_MAX) {
        bus = most ? at / most : 0;
        unit = most ? at % most : at;
    }
    if (unit != UINT64_MAX && most && unit >= most)
        return opts_error(err, "unit=%u: must be below %u", (unsigned)unit, most);
    b->drive.bus = bus == UINT64_MAX ? 0 : (unsigned)bus;
    b->drive.unit = unit == UINT64_MAX ? 0 : (unsigned)unit;
    if (interface == BLK_IF_NONE)
        return true;
    for (; unit == UINT64_MAX && blk_drive_at(m, interface, b->drive.bus, b->drive.unit);) {
        b->drive.unit++;
        if (most && b->drive.unit >= most) {
            b->drive.unit = 0;
            b->drive.bus++;
        }
    }
    if (blk_drive_at(m, interface, b->drive.bus, b->drive.unit))
        return opts_error(err, "there is another drive with if=%s, bus=%u, unit=%u; give another index=",
                          interfaces[interface], b->drive.bus, b->drive.unit);
    return true;
}

/* "ide0-hd1", "virtio0": as QEMU names a drive that has no id. */
static char *default_id(const struct blk *b, struct machine *m)
{
    const char *kind = b->drive.cdrom ? "-cd" : b->drive.interface == BLK_IF_FLOPPY ? "" : "-hd";
    if (b->drive.interface == BLK_IF_NONE) {
        for (unsigned i = 0;; i++) {
            char *id = g_strdup_printf("none%u", i);
            if (!blk_find(m, id))
                return id;
            g_free(id);
        }
    }
    if (to_a_bus[b->drive.interface] && b->drive.interface != BLK_IF_FLOPPY)
        return g_strdup_printf("%s%u%s%u", interfaces[b->drive.interface], b->drive.bus, kind, b->drive.unit);
    return g_strdup_printf("%s%u", interfaces[b->drive.interface], b->drive.unit);
}

/* --- Making ------------------------------------------------------------------------------------------------------- */

struct blk *blk_find(struct machine *m, const char *id)
{
    return m->blks ? g_hash_table_lookup(m->blks, id) : NULL;
}

bool blk_configure(struct blk *b, struct opts *o, const char *file, const char *format, GError **err)
{
    static const char *const aio[] = { "io_uring", "native", "threads", NULL };
    unsigned how = 0;
    if (!take_read_only(b, o, err) || !take_cache(b, o, err) || !take_locking(b, o, err) || !take_discard(b, o, err) ||
        !take_errors(b, o, err) || !take_word(o, "aio", aio, &how, err) || !blk_throttle_options(&b->throttle, o, err))
        return false;
    if (b->snapshot && b->read_only)
        b->snapshot = false; /* nothing is written */
    b->async = blk_async_new(b->loop, how != 2);
    return (!file || blk_open(b, file, format, o, err)) &&
           opts_done(o, "file, format, if, index, bus, unit, media, id, readonly, snapshot, cache, aio, discard, "
                     "detect-zeroes, werror, rerror, throttling.*, file.locking", err);
}

static void free_value(void *b)
{
    blk_free(b);
}

struct blk *blk_new_drive_opts(struct machine *m, struct opts *o, enum blk_interface interface, int index, GError **err)
{
    const char *id = opts_take(o, "id"), *node = opts_take(o, "node-name");
    struct blk *b = blk_alloc(id ? id : node, m->loop);
    b->machine = m;
    b->drive.interface = interface;
    const char *file, *format;
    bool ok = take_place(b, m, o, index, err) && take_file(o, &file, &format, err) && blk_configure(b, o, file, format, err);
    if (ok && !b->id)
        b->id = default_id(b, m);
    if (ok && blk_find(m, b->id))
        ok = opts_error(err, "id=%s is already taken by another drive", b->id);
    opts_free(o);
    if (!ok) {
        blk_free(b);
        return NULL;
    }
    if (!m->blks) {
        m->blks = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, free_value);
        m->blk_find = blk_find;
    }
    g_hash_table_insert(m->blks, b->id, b);
    return b;
}

struct blk *blk_new_drive(struct machine *m, const char *option, enum blk_interface interface, int index, GError **err)
{
    return blk_new_drive_opts(m, opts_parse(option, NULL), interface, index, err);
}

const struct blk_drive *blk_drive(const struct blk *b)
{
    return &b->drive;
}

void blk_drive_help(GString *out)
{
    g_string_append_printf(out,
                           "A drive: file=PATH and any of\n"
                           "  format=%s   without it, what the image looks like\n"
                           "  if=ide|virtio|floppy|scsi|pflash|none, index=N or bus=N,unit=N, media=disk|cdrom, id=ID\n"
                           "  readonly=on|off|auto, snapshot=on|off, file.locking=auto|on|off\n"
                           "  cache=writeback|none|writethrough|directsync|unsafe, aio=io_uring|native|threads\n"
                           "  discard=ignore|unmap, detect-zeroes=off|on|unmap\n"
                           "  werror=enospc|report|ignore|stop, rerror=report|ignore|stop\n"
                           "  throttling.iops-total=N, .iops-read, .iops-write, .bps-total, .bps-read, .bps-write; each also\n"
                           "  with -max for bursts; throttling.iops-size=BYTES\n",
                           blk_driver_names());
}
