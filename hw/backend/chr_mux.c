/*
 * Several front ends on one character back end. Output of all goes out; input goes to the one in focus. An escape
 * character (Ctrl-a) begins a command.
 *
 * Input is read ahead, so that commands are seen also while the guest does not read. All under the VM lock.
 */
#include "hw/backend/chr_int.h"

#include <string.h>

#define FRONTS 4
#define BUFFER 0x10000 /* bytes read ahead for each front end */
#define ESCAPE_DEFAULT 1

struct front {
    const struct chr_front_ops *ops;
    void *opaque;
    GByteArray *buffer;
};

struct chr_mux {
    struct chr chr;
    struct chr *base;
    struct front fronts[FRONTS];
    unsigned count, focus;
    uint8_t escape;
    bool escaped; /* the escape character was the last */
};

static struct chr_mux *mux_of(struct chr *c)
{
    return container_of(c, struct chr_mux, chr);
}

/* --- Commands ----------------------------------------------------------------------------------------------------- */

static void print(struct chr_mux *x, const char *text)
{
    chr_write(x->base, text, strlen(text));
}

static void print_help(struct chr_mux *x)
{
    char name[16];

    if (x->escape > 0 && x->escape < 27)
        g_snprintf(name, sizeof(name), "Ctrl-%c", x->escape + 'a' - 1);
    else
        g_snprintf(name, sizeof(name), "0x%02x", x->escape);
    g_autofree char *text = g_strdup_printf("\r\n"
                                            "%s h    this help\r\n"
                                            "%s x    quit\r\n"
                                            "%s b    send a break\r\n"
                                            "%s c    switch to the next console of this terminal\r\n"
                                            "%s %s    send %s\r\n",
                                            name, name, name, name, name, name, name);
    print(x, text);
}

static void tell(struct front *f, enum chr_event event)
{
    if (f->ops && f->ops->event)
        f->ops->event(f->opaque, event);
}

static void set_focus(struct chr_mux *x, unsigned focus)
{
    if (focus == x->focus || !x->count)
        return;
    tell(&x->fronts[x->focus], CHR_EVENT_FOCUS_OUT);
    x->focus = focus;
    tell(&x->fronts[x->focus], CHR_EVENT_FOCUS_IN);
}

/* True if the byte is meant for the front end. */
static bool command(struct chr_mux *x, uint8_t byte)
{
    switch (byte) {
    case 'h':
    case '?': print_help(x); break;
    case 'x':
        print(x, "\r\nTrapeze: terminated\r\n");
        machine_request(x->chr.machine, REQUEST_QUIT, "the terminal");
        break;
    case 'b': tell(&x->fronts[x->focus], CHR_EVENT_BREAK); break;
    case 'c':
        if (x->count)
            set_focus(x, (x->focus + 1) % x->count);
        break;
    default: return byte == x->escape;
    }
    return false;
}

/* --- Input -------------------------------------------------------------------------------------------------------- */

static void deliver(struct front *f)
{
    size_t n;

    while (f->ops && f->buffer->len && (n = f->ops->can_read(f->opaque))) {
        n = MIN(n, f->buffer->len);
        /* The front end may ask for more from within: so these bytes must be gone by then. */
        g_autofree uint8_t *bytes = g_memdup2(f->buffer->data, n);
        g_byte_array_remove_range(f->buffer, 0, n);
        f->ops->read(f->opaque, bytes, n);
    }
}

static size_t base_can_read(void *opaque)
{
    const struct chr_mux *x = opaque;
    const struct front *f = &x->fronts[x->focus];
    return f->buffer ? BUFFER - f->buffer->len : 0;
}

static void base_read(void *opaque, const uint8_t *buf, size_t len)
{
    struct chr_mux *x = opaque;

    for (size_t i = 0; i < len; i++) {
        bool escaped = x->escaped;
        x->escaped = !escaped && buf[i] == x->escape;
        /* A byte of which a command in between took the room to another front end may find none: it is dropped. */
        if (!x->escaped && (!escaped || command(x, buf[i])) && base_can_read(x))
            g_byte_array_append(x->fronts[x->focus].buffer, &buf[i], 1);
    }
    deliver(&x->fronts[x->focus]);
}

static void base_event(void *opaque, enum chr_event event)
{
    struct chr_mux *x = opaque;

    if (event == CHR_EVENT_BREAK) {
        tell(&x->fronts[x->focus], event);
        return;
    }
    x->chr.connected = chr_connected(x->base);
    for (unsigned i = 0; i < x->count; i++)
        tell(&x->fronts[i], event);
}

static void base_writable(void *opaque)
{
    struct chr_mux *x = opaque;

    for (unsigned i = 0; i < FRONTS; i++) {
        if (x->fronts[i].ops && x->fronts[i].ops->writable)
            x->fronts[i].ops->writable(x->fronts[i].opaque);
    }
}

static const struct chr_front_ops base_ops = {
    .can_read = base_can_read,
    .read = base_read,
    .event = base_event,
    .writable = base_writable,
};

/* --- As a back end ------------------------------------------------------------------------------------------------ */

static void mux_accept_input(struct chr *c)
{
    struct chr_mux *x = mux_of(c);

    deliver(&x->fronts[x->focus]);
    chr_accept_input(x->base);
}

static bool mux_attach(struct chr *c, const struct chr_front_ops *ops, void *opaque)
{
    struct chr_mux *x = mux_of(c);
    struct front *f = &x->fronts[x->count];

    if (x->count == FRONTS)
        return false;
    *f = (struct front){.ops = ops, .opaque = opaque, .buffer = g_byte_array_new()};
    x->count++;
    if (c->connected)
        tell(f, CHR_EVENT_OPENED);
    /* The first one keeps the focus: the serial port of "mon:stdio", not the monitor. */
    if (x->count == 1)
        tell(f, CHR_EVENT_FOCUS_IN);
    return true;
}

static void mux_detach(struct chr *c, void *opaque)
{
    struct chr_mux *x = mux_of(c);
    unsigned i = 0;

    while (i < x->count && x->fronts[i].opaque != opaque)
        i++;
    if (i == x->count)
        return;
    g_byte_array_unref(x->fronts[i].buffer);
    memmove(&x->fronts[i], &x->fronts[i + 1], (FRONTS - i - 1) * sizeof(x->fronts[0]));
    x->fronts[FRONTS - 1] = (struct front){0};
    x->count--;
    if (x->focus == i && x->count) {
        x->focus %= x->count;
        tell(&x->fronts[x->focus], CHR_EVENT_FOCUS_IN);
    } else if (x->focus > i) {
        x->focus--;
    } else if (!x->count) {
        x->focus = 0;
    }
}

static void mux_close(struct chr *c)
{
    struct chr_mux *x = mux_of(c);

    while (x->count)
        mux_detach(c, x->fronts[0].opaque);
    chr_detach(x->base, x);
    chr_close(x->base);
}

struct chr *chr_mux_new(struct machine *m, const char *id, struct chr *base)
{
    struct chr *c = chr_alloc(m, &chr_mux_ops, id);
    struct chr_mux *x = mux_of(c);

    x->base = base;
    x->escape = ESCAPE_DEFAULT;
    c->connected = chr_connected(base);
    chr_set_where(c, "%s", base->where);
    if (!chr_attach(base, &base_ops, x, NULL))
        g_assert_not_reached(); /* nobody else knows it yet */
    return c;
}

struct chr *chr_mux_base(struct chr *c)
{
    return chr_is_mux(c) ? mux_of(c)->base : c;
}

bool chr_is_mux(const struct chr *c)
{
    return c->ops == &chr_mux_ops;
}

void chr_mux_set_escape(struct chr *c, uint8_t escape)
{
    if (chr_is_mux(c))
        mux_of(c)->escape = escape;
}

const struct chr_ops chr_mux_ops = {
    .name = "mux",
    .size = sizeof(struct chr_mux),
    .close = mux_close,
    .accept_input = mux_accept_input,
    .attach = mux_attach,
    .detach = mux_detach,
};
