/*
 * Character back ends, the part that all share: table, front ends, output queue, watches on file descriptors.
 *
 * Output goes to the host at once if it takes it, and is queued otherwise. Descriptors that other processes share (the
 * terminal) are never made non-blocking: poll(2) is asked before each write, and the write is short enough not to
 * block.
 *
 * All under the VM lock, which the callbacks of watches take.
 */
#include "hw/backend/chr_int.h"

#include "hw/core/vm_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#define QUEUE_MAX 0x10000
#define FLUSH_MS 5000 /* without any progress, until what is queued is given up */

/* --- Watches ------------------------------------------------------------------------------------------------------ */

struct watch {
    struct chr *chr;
    void (*fn)(struct chr *c);
};

static gboolean call_watch(void *opaque)
{
    struct watch *w = opaque;
    bool taken = vm_lock_if_free();
    bool alive = !g_source_is_destroyed(g_main_current_source()); /* another thread may have been faster */

    if (alive)
        w->fn(w->chr);
    vm_unlock_if(taken);
    return G_SOURCE_CONTINUE;
}

static gboolean call_fd_watch(gint fd, GIOCondition condition, void *opaque)
{
    return call_watch(opaque);
}

static GSource *attach_source(struct chr *c, GSource *source, GSourceFunc callback, void (*fn)(struct chr *c))
{
    struct watch *w = g_new(struct watch, 1);

    *w = (struct watch){c, fn};
    g_source_set_callback(source, callback, w, g_free);
    g_source_attach(source, c->machine->loop);
    return source;
}

GSource *chr_watch(struct chr *c, int fd, GIOCondition condition, void (*fn)(struct chr *c))
{
    return attach_source(c, g_unix_fd_source_new(fd, condition), G_SOURCE_FUNC(call_fd_watch), fn);
}

GSource *chr_timeout(struct chr *c, unsigned ms, void (*fn)(struct chr *c))
{
    return attach_source(c, g_timeout_source_new(ms), call_watch, fn);
}

void chr_unwatch(GSource **source)
{
    if (!*source)
        return;
    g_source_destroy(*source);
    g_source_unref(*source);
    *source = NULL;
}

/* --- Output ------------------------------------------------------------------------------------------------------- */

static bool can_write(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    return poll(&p, 1, 0) > 0;
}

static ssize_t write_fd(struct chr *c, const uint8_t *buf, size_t len)
{
    size_t done = 0;

    if (c->out_fd < 0)
        return -1;
    while (done < len && can_write(c->out_fd)) {
        size_t n = c->chunk ? MIN(len - done, c->chunk) : len - done;
        ssize_t r = write(c->out_fd, buf + done, n);
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0 && errno != EAGAIN)
            return -1;
        if (r < 0)
            break;
        done += r;
    }
    return done;
}

/* Bytes that are dealt with: sent, or lost as there is nobody to take them. */
static size_t send_now(struct chr *c, const uint8_t *buf, size_t len)
{
    ssize_t r;

    if (!c->connected)
        return len;
    r = c->ops->write ? c->ops->write(c, buf, len) : write_fd(c, buf, len);
    if (r < 0 && c->ops->hangup)
        c->ops->hangup(c);
    return r < 0 ? len : (size_t)r;
}

static void output_ready(struct chr *c)
{
    chr_push_queue(c);
}

void chr_push_queue(struct chr *c)
{
    size_t sent = c->queue->len ? send_now(c, c->queue->data, c->queue->len) : 0;

    sent = MIN(sent, c->queue->len); /* nothing is left in it after a hang-up */
    if (sent)
        g_byte_array_remove_range(c->queue, 0, sent);
    if (!c->queue->len)
        chr_unwatch(&c->out_source);
    if (c->refused && c->queue->len <= QUEUE_MAX / 2) {
        c->refused = false;
        if (c->front && c->front->writable)
            c->front->writable(c->front_opaque);
    }
}

static void log_output(struct chr *c, const uint8_t *buf, size_t len)
{
    while (c->log_fd >= 0 && len) {
        ssize_t r = write(c->log_fd, buf, len);
        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0)
            return;
        buf += r;
        len -= r;
    }
}

size_t chr_write(struct chr *c, const void *buf, size_t len)
{
    const uint8_t *bytes = buf;
    size_t done, more;

    c = chr_mux_base(c);
    done = c->queue->len ? 0 : send_now(c, bytes, len);
    more = MIN(len - done, QUEUE_MAX - c->queue->len);
    if (more) {
        g_byte_array_append(c->queue, bytes + done, more);
        if (!c->out_source && c->out_fd >= 0)
            c->out_source = chr_watch(c, c->out_fd, G_IO_OUT | G_IO_ERR | G_IO_HUP, output_ready);
    }
    log_output(c, bytes, done + more);
    if (done + more < len)
        c->refused = true;
    return done + more;
}

void chr_send_break(struct chr *c)
{
    c = chr_mux_base(c);
    if (c->ops->send_break)
        c->ops->send_break(c);
}

static void flush(struct chr *c)
{
    while (c->queue->len && c->connected) {
        struct pollfd p = {.fd = c->out_fd, .events = POLLOUT};
        size_t before = c->queue->len;
        if (c->out_fd < 0 || poll(&p, 1, FLUSH_MS) <= 0)
            return;
        c->refused = false; /* nobody is there any more to be told */
        chr_push_queue(c);
        if (c->queue->len == before && !(p.revents & POLLOUT))
            return;
    }
}

/* --- Input -------------------------------------------------------------------------------------------------------- */

size_t chr_front_room(const struct chr *c)
{
    return c->front ? c->front->can_read(c->front_opaque) : 0;
}

void chr_front_read(struct chr *c, const uint8_t *buf, size_t len)
{
    if (c->front && len)
        c->front->read(c->front_opaque, buf, len);
}

void chr_front_event(struct chr *c, enum chr_event event)
{
    if (c->front && c->front->event)
        c->front->event(c->front_opaque, event);
}

static void input_ready(struct chr *c)
{
    uint8_t buf[4096];
    size_t room = MIN(chr_front_room(c), sizeof(buf));
    ssize_t r;

    if (!room) {
        chr_unwatch(&c->in_source);
        return;
    }
    r = read(c->in_fd, buf, room);
    if (r > 0) {
        if (c->ops->input)
            c->ops->input(c, buf, r);
        else
            chr_front_read(c, buf, r);
    } else if (r == 0 || (errno != EAGAIN && errno != EINTR)) {
        chr_unwatch(&c->in_source);
        c->in_fd = -1;
        if (c->ops->hangup)
            c->ops->hangup(c);
    }
}

void chr_accept_input(struct chr *c)
{
    if (c->ops->accept_input)
        c->ops->accept_input(c);
    else if (c->in_fd >= 0 && !c->in_source && chr_front_room(c))
        c->in_source = chr_watch(c, c->in_fd, G_IO_IN | G_IO_HUP | G_IO_ERR, input_ready);
}

void chr_set_fds(struct chr *c, int in_fd, int out_fd)
{
    chr_unwatch(&c->in_source);
    chr_unwatch(&c->out_source);
    c->in_fd = in_fd;
    c->out_fd = out_fd;
    chr_accept_input(c);
}

void chr_set_connected(struct chr *c, bool connected)
{
    if (c->connected == connected)
        return;
    c->connected = connected;
    if (!connected) {
        g_byte_array_set_size(c->queue, 0);
        chr_push_queue(c); /* whoever waits for room has it now */
    }
    chr_front_event(c, connected ? CHR_EVENT_OPENED : CHR_EVENT_CLOSED);
}

void chr_set_where(struct chr *c, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    g_free(c->where);
    c->where = g_strdup_vprintf(fmt, ap);
    va_end(ap);
}

size_t chr_inject(struct chr *c, const void *buf, size_t len)
{
    size_t n;

    c = chr_mux_base(c);
    n = MIN(len, chr_front_room(c));
    chr_front_read(c, buf, n);
    return n;
}

/* --- Front ends --------------------------------------------------------------------------------------------------- */

bool chr_attach(struct chr *c, const struct chr_front_ops *ops, void *opaque, GError **err)
{
    if (c->ops->attach ? !c->ops->attach(c, ops, opaque) : c->front != NULL) {
        g_set_error(err, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                    "chardev '%s' is used by another device (mux=on lets several share it)", c->id);
        return false;
    }
    if (!c->ops->attach) {
        c->front = ops;
        c->front_opaque = opaque;
        if (c->connected)
            chr_front_event(c, CHR_EVENT_OPENED);
    }
    chr_accept_input(c);
    return true;
}

void chr_detach(struct chr *c, void *opaque)
{
    if (c->ops->detach) {
        c->ops->detach(c, opaque);
    } else if (c->front_opaque == opaque) {
        c->front = NULL;
        c->front_opaque = NULL;
        c->refused = false;
        chr_unwatch(&c->in_source);
    }
}

bool chr_connected(const struct chr *c)
{
    return c->connected;
}

const char *chr_id(const struct chr *c)
{
    return c->id;
}

const char *chr_where(const struct chr *c)
{
    return c->where;
}

/* --- Life --------------------------------------------------------------------------------------------------------- */

static const struct chr_ops *const backends[] = {
    &chr_stdio_ops, &chr_file_ops, &chr_pipe_ops, &chr_pty_ops, &chr_null_ops, &chr_socket_ops, &chr_ringbuf_ops,
};

static const struct chr_ops *find_backend(const char *name)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(backends); i++) {
        if (g_str_equal(backends[i]->name, name))
            return backends[i];
    }
    return g_str_equal(name, "memory") ? &chr_ringbuf_ops : NULL;
}

void chr_help(GString *out)
{
    g_string_append(out, "Available chardev backend types:\n");
    for (unsigned i = 0; i < G_N_ELEMENTS(backends); i++)
        g_string_append_printf(out, "  %-8s %s\n", backends[i]->name, backends[i]->help);
    g_string_append(out, "  any of them: id=ID[,mux=on|off][,logfile=PATH][,logappend=on|off]\n");
}

static bool open_log(struct chr *c, struct chr_options *o, GError **err)
{
    const char *path = chr_option(o, "logfile");
    bool append = false;

    if (!chr_option_bool(o, "logappend", &append, err))
        return false;
    if (!path)
        return true;
    c->log_fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | (append ? O_APPEND : O_TRUNC), 0666);
    return c->log_fd >= 0 || chr_error(err, o, "logfile=%s: %s", path, g_strerror(errno));
}

struct chr *chr_alloc(struct machine *m, const struct chr_ops *ops, const char *id)
{
    struct chr *c = g_malloc0(ops->size);

    c->ops = ops;
    c->machine = m;
    c->id = g_strdup(id);
    c->where = g_strdup(ops->name);
    c->in_fd = c->out_fd = c->log_fd = -1;
    c->queue = g_byte_array_new();
    return c;
}

static void chr_free(struct chr *c)
{
    chr_unwatch(&c->in_source);
    chr_unwatch(&c->out_source);
    if (c->log_fd >= 0)
        close(c->log_fd);
    g_byte_array_unref(c->queue);
    g_free(c->where);
    g_free(c->id);
    g_free(c);
}

struct chr *chr_open(struct machine *m, const char *id, struct chr_options *o, GError **err)
{
    const struct chr_ops *ops = find_backend(chr_options_backend(o));
    struct chr *c;

    if (!ops) {
        g_set_error(err, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, "no back end '%s' (-chardev help lists them)",
                    chr_options_backend(o));
        return NULL;
    }
    c = chr_alloc(m, ops, id);
    if (!ops->open(c, o, err)) {
        chr_free(c);
        return NULL;
    }
    if (open_log(c, o, err) && chr_options_all_used(o, err))
        return c;
    chr_close(c);
    return NULL;
}

void chr_close(struct chr *c)
{
    if (!c)
        return;
    flush(c);
    if (c->ops->close)
        c->ops->close(c);
    chr_free(c);
}

static void close_value(void *p)
{
    chr_close(p);
}

struct chr *chr_find(struct machine *m, const char *id)
{
    return m->chrs ? g_hash_table_lookup(m->chrs, id) : NULL;
}

/* Opens it, with a multiplexer on top if asked for, and enters it in the table. */
static struct chr *add_chr(struct machine *m, const char *id, struct chr_options *o, GError **err)
{
    bool mux = false;
    struct chr *c;

    if (chr_find(m, id)) {
        g_set_error(err, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, "id=%s is already taken by another chardev", id);
        return NULL;
    }
    if (!chr_option_bool(o, "mux", &mux, err))
        return NULL;
    c = chr_open(m, id, o, err);
    if (!c)
        return NULL;
    if (mux)
        c = chr_mux_new(m, id, c);
    if (!m->chrs) {
        m->chrs = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, close_value);
        m->chr_find = chr_find;
    }
    g_hash_table_insert(m->chrs, c->id, c);
    return c;
}

struct chr *chr_new_chardev(struct machine *m, const char *option, GError **err)
{
    struct chr_options *o = chr_options_parse(option);
    const char *id = chr_option(o, "id");
    struct chr *c = NULL;

    if (!id || !*id)
        chr_error(err, o, "id=ID is missing");
    else
        c = add_chr(m, id, o, err);
    chr_options_free(o);
    return c;
}

/* --- -serial and its like ----------------------------------------------------------------------------------------- */

/* "HOST:PORT,options" or "[IPv6]:PORT,options" */
static bool legacy_tcp(struct chr_options *o, const char *spec, GError **err)
{
    const char *comma = strchr(spec, ','), *end = comma ? comma : spec + strlen(spec), *colon = NULL;
    g_autofree char *address = g_strndup(spec, end - spec), *host = NULL;

    colon = strrchr(address, ':');
    if (!colon || !colon[1])
        return chr_error(err, o, "'%s' must be HOST:PORT", address);
    if (address[0] == '[' && colon > address && colon[-1] == ']')
        host = g_strndup(address + 1, colon - address - 2);
    else
        host = g_strndup(address, colon - address);
    chr_options_set(o, "host", host);
    chr_options_set(o, "port", colon + 1);
    if (comma)
        chr_options_add(o, comma + 1);
    return true;
}

static void legacy_unix(struct chr_options *o, const char *spec)
{
    const char *comma = strchr(spec, ',');
    g_autofree char *path = comma ? g_strndup(spec, comma - spec) : g_strdup(spec);

    chr_options_set(o, "path", path);
    if (comma)
        chr_options_add(o, comma + 1);
}

static bool starts(const char *spec, const char *word, const char **rest)
{
    if (!g_str_has_prefix(spec, word))
        return false;
    *rest = spec + strlen(word);
    return true;
}

/* NULL and no error: the caller's business ("none", "chardev:"). */
static struct chr_options *legacy_options(const char *spec, GError **err)
{
    static const char *const plain[] = {"stdio", "pty", "null", "ringbuf"};
    struct chr_options *o = NULL;
    const char *rest;
    bool good = true;

    for (unsigned i = 0; i < G_N_ELEMENTS(plain); i++) {
        if (g_str_equal(spec, plain[i]))
            return chr_options_new(spec);
    }
    if (starts(spec, "file:", &rest) || starts(spec, "pipe:", &rest)) {
        o = chr_options_new(spec[0] == 'f' ? "file" : "pipe");
        chr_options_set(o, "path", rest);
    } else if (starts(spec, "tcp:", &rest)) {
        o = chr_options_new("socket");
        good = legacy_tcp(o, rest, err);
    } else if (starts(spec, "telnet:", &rest)) {
        o = chr_options_new("socket");
        chr_options_set(o, "telnet", "on");
        good = legacy_tcp(o, rest, err);
    } else if (starts(spec, "unix:", &rest)) {
        o = chr_options_new("socket");
        legacy_unix(o, rest);
    } else if (starts(spec, "/dev/", &rest)) {
        o = chr_options_new("pipe");
        chr_options_set(o, "path", spec);
    } else {
        g_set_error(err, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                    "must be stdio, mon:stdio, pty, null, none, file:PATH, pipe:PATH, unix:PATH[,server][,nowait], "
                    "tcp:HOST:PORT[,server][,nowait], telnet:HOST:PORT..., ringbuf, chardev:ID or /dev/...");
    }
    if (!good)
        g_clear_pointer(&o, chr_options_free);
    return o;
}

bool chr_new_legacy(struct machine *m, const char *id, const char *spec, struct chr **out, GError **err)
{
    struct chr_options *o;
    const char *rest = spec;
    bool monitor = starts(spec, "mon:", &rest);

    *out = NULL;
    if (g_str_equal(rest, "none"))
        return true;
    if (starts(rest, "chardev:", &rest)) {
        *out = chr_find(m, rest);
        if (!*out)
            g_set_error(err, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, "there is no -chardev with id=%s", rest);
        return *out != NULL;
    }
    o = legacy_options(rest, err);
    if (!o)
        return false;
    if (monitor) {
        chr_options_set(o, "mux", "on");
        if (g_str_equal(rest, "stdio"))
            chr_options_set(o, "signal", "off"); /* Ctrl-C belongs to the guest; Ctrl-a x ends it */
    }
    *out = add_chr(m, id, o, err);
    chr_options_free(o);
    return *out != NULL;
}
