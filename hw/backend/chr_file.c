/*
 * Character back ends without a life of their own: file, pipe (a FIFO or a pair of them, or a device file), null, and
 * the ring buffer, whose contents tests and the monitor read. All under the VM lock.
 */
#include "hw/backend/chr_int.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void close_fds(struct chr *c)
{
    int in_fd = c->in_fd, out_fd = c->out_fd;

    chr_set_fds(c, -1, -1);
    if (in_fd >= 0)
        close(in_fd);
    if (out_fd >= 0 && out_fd != in_fd)
        close(out_fd);
}

static int open_or_error(struct chr_options *o, const char *path, int flags, GError **err)
{
    int fd = open(path, flags | O_CLOEXEC | O_NOCTTY, 0666);

    if (fd < 0)
        chr_error(err, o, "cannot open '%s': %s", path, g_strerror(errno));
    return fd;
}

/* --- file --------------------------------------------------------------------------------------------------------- */

static bool file_open(struct chr *c, struct chr_options *o, GError **err)
{
    const char *path = chr_option(o, "path"), *input = chr_option(o, "input-path");
    bool append = false;
    int in_fd = -1, out_fd;

    if (!path)
        return chr_error(err, o, "path=PATH is missing");
    if (!chr_option_bool(o, "append", &append, err))
        return false;
    out_fd = open_or_error(o, path, O_WRONLY | O_CREAT | (append ? O_APPEND : O_TRUNC), err);
    if (out_fd < 0)
        return false;
    if (input && (in_fd = open_or_error(o, input, O_RDONLY, err)) < 0) {
        close(out_fd);
        return false;
    }
    chr_set_where(c, "file:%s", path);
    chr_set_fds(c, in_fd, out_fd);
    c->connected = true;
    return true;
}

const struct chr_ops chr_file_ops = {
    .name = "file",
    .help = "path=PATH[,append=on|off][,input-path=PATH]",
    .size = sizeof(struct chr),
    .open = file_open,
    .close = close_fds,
};

/* --- pipe --------------------------------------------------------------------------------------------------------- */

/* For reading and writing both, so that neither opening nor the end of the other side stops us. */
static bool pipe_open(struct chr *c, struct chr_options *o, GError **err)
{
    const char *path = chr_option(o, "path");
    int in_fd, out_fd;

    if (!path)
        return chr_error(err, o, "path=PATH is missing");
    g_autofree char *in_path = g_strconcat(path, ".in", NULL), *out_path = g_strconcat(path, ".out", NULL);
    in_fd = open(in_path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    out_fd = open(out_path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (in_fd < 0 || out_fd < 0) {
        if (in_fd >= 0)
            close(in_fd);
        if (out_fd >= 0)
            close(out_fd);
        in_fd = out_fd = open_or_error(o, path, O_RDWR | O_NONBLOCK, err);
        if (in_fd < 0)
            return false;
    }
    chr_set_where(c, "pipe:%s", path);
    chr_set_fds(c, in_fd, out_fd);
    c->connected = true;
    return true;
}

const struct chr_ops chr_pipe_ops = {
    .name = "pipe",
    .help = "path=PATH (PATH.in and PATH.out if these exist)",
    .size = sizeof(struct chr),
    .open = pipe_open,
    .close = close_fds,
};

/* --- null --------------------------------------------------------------------------------------------------------- */

static bool null_open(struct chr *c, struct chr_options *o, GError **err)
{
    c->connected = true;
    return true;
}

static ssize_t null_write(struct chr *c, const uint8_t *buf, size_t len)
{
    return len;
}

const struct chr_ops chr_null_ops = {
    .name = "null",
    .help = "",
    .size = sizeof(struct chr),
    .open = null_open,
    .write = null_write,
};

/* --- ringbuf ------------------------------------------------------------------------------------------------------ */

struct chr_ringbuf {
    struct chr chr;
    uint8_t *data;
    uint64_t size, produced, consumed;
};

static bool ringbuf_open(struct chr *c, struct chr_options *o, GError **err)
{
    struct chr_ringbuf *r = container_of(c, struct chr_ringbuf, chr);

    r->size = 65536;
    if (!chr_option_number(o, "size", 64 << 20, &r->size, err))
        return false;
    if (!r->size || (r->size & (r->size - 1)))
        return chr_error(err, o, "size=%" G_GUINT64_FORMAT ": must be a power of two", (guint64)r->size);
    r->data = g_malloc(r->size);
    c->connected = true;
    return true;
}

static void ringbuf_close(struct chr *c)
{
    g_free(container_of(c, struct chr_ringbuf, chr)->data);
}

/* What nobody has read in time is overwritten. */
static ssize_t ringbuf_write(struct chr *c, const uint8_t *buf, size_t len)
{
    struct chr_ringbuf *r = container_of(c, struct chr_ringbuf, chr);

    for (size_t i = 0; i < len; i++)
        r->data[r->produced++ & (r->size - 1)] = buf[i];
    if (r->produced - r->consumed > r->size)
        r->consumed = r->produced - r->size;
    return len;
}

size_t chr_ringbuf_read(struct chr *c, void *buf, size_t len)
{
    struct chr *base = chr_mux_base(c);
    struct chr_ringbuf *r = container_of(base, struct chr_ringbuf, chr);
    size_t n = 0;

    g_assert(base->ops == &chr_ringbuf_ops);
    while (n < len && r->consumed < r->produced)
        ((uint8_t *)buf)[n++] = r->data[r->consumed++ & (r->size - 1)];
    return n;
}

const struct chr_ops chr_ringbuf_ops = {
    .name = "ringbuf",
    .help = "[size=BYTES]",
    .size = sizeof(struct chr_ringbuf),
    .open = ringbuf_open,
    .close = ringbuf_close,
    .write = ringbuf_write,
};
