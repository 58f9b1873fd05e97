/*
 * A monitor on a character device: input becomes lines, lines become commands (commands.c), and what they say is printed.
 *
 * On a multiplexer it shows itself when it has the focus (Ctrl-a c). Input may come on any thread, with the VM lock; commands
 * pause and resume processors, so they are carried out by the main loop, from a queue.
 */
#include "ui/monitor.h"

#include "config.h"
#include "hw/backend/chr.h"
#include "hw/core/vm_lock.h"
#include "ui/commands.h"
#include "ui/line.h"
#include "ui/session.h"

#include <string.h>

#define INPUT_MAX 4096
#define PROMPT "(trapeze) "

struct monitor {
    struct session *session;
    struct chr *chr;
    struct line *line;
    GByteArray *input;  /* not looked at yet */
    GByteArray *output; /* that the chr has not taken yet */
    GSource *work;      /* will look at the input, or NULL */
    bool greeted;       /* has shown itself since the other side came */
    bool left;          /* the other side has gone, but what it sent last is still to be looked at */
};

/* --- Output --------------------------------------------------------------------------------------------------------- */

static void push_output(void *opaque)
{
    struct monitor *mon = opaque;
    size_t taken = mon->output->len ? chr_write(mon->chr, mon->output->data, mon->output->len) : 0;
    if (taken)
        g_byte_array_remove_range(mon->output, 0, (guint)taken);
}

/* Lines end with \r\n on every terminal. */
static void print(struct monitor *mon, const char *text)
{
    for (const char *end; *text; text = end) {
        end = text + strcspn(text, "\n");
        g_byte_array_append(mon->output, (const guint8 *)text, (guint)(end - text));
        if (*end == '\n') {
            bool bare = end == text || end[-1] != '\r';
            g_byte_array_append(mon->output, (const guint8 *)(bare ? "\r\n" : "\n"), bare ? 2 : 1);
            end++;
        }
    }
    push_output(mon);
}

static void show(struct monitor *mon)
{
    GString *s = g_string_new(NULL);
    if (!mon->greeted)
        g_string_append(s, "Trapeze " TRAPEZE_VERSION " monitor - type 'help' for more information\n");
    mon->greeted = true;
    line_show(mon->line, s);
    print(mon, s->str);
    g_string_free(s, TRUE);
}

/* --- Input ------------------------------------------------------------------------------------------------------------ */

static void carry_out(struct monitor *mon, const char *text)
{
    GString *out = g_string_new(NULL);
    g_autoptr(GError) err = NULL;
    if (!command_run(mon->session, text, out, &err))
        g_string_append_printf(out, "%s\n", err->message);
    line_show(mon->line, out);
    print(mon, out->str);
    g_string_free(out, TRUE);
}

/* The next one begins anew. */
static void forget(struct monitor *mon)
{
    mon->greeted = mon->left = false;
    line_clear(mon->line);
    g_byte_array_set_size(mon->input, 0);
    g_byte_array_set_size(mon->output, 0);
}

/* On the main loop. */
static gboolean look_at_input(void *opaque)
{
    struct monitor *mon = opaque;
    vm_lock();
    g_clear_pointer(&mon->work, g_source_unref);
    while (mon->input->len) {
        GString *echo = g_string_new(NULL);
        uint8_t byte = mon->input->data[0];
        g_byte_array_remove_index(mon->input, 0);
        g_autofree char *text = line_feed(mon->line, byte, echo);
        print(mon, echo->str);
        g_string_free(echo, TRUE);
        if (text)
            carry_out(mon, text);
    }
    if (mon->left)
        forget(mon);
    chr_accept_input(mon->chr);
    vm_unlock();
    return G_SOURCE_REMOVE;
}

static size_t can_read(void *opaque)
{
    const struct monitor *mon = opaque;
    return INPUT_MAX - mon->input->len;
}

static void read_input(void *opaque, const uint8_t *buf, size_t len)
{
    struct monitor *mon = opaque;
    g_byte_array_append(mon->input, buf, (guint)len);
    if (mon->work)
        return;
    mon->work = g_idle_source_new();
    g_source_set_priority(mon->work, G_PRIORITY_DEFAULT);
    g_source_set_callback(mon->work, look_at_input, mon, NULL);
    g_source_attach(mon->work, mon->session->m->loop);
}

static void on_event(void *opaque, enum chr_event event)
{
    struct monitor *mon = opaque;
    switch (event) {
    case CHR_EVENT_OPENED:
        if (mon->left)
            forget(mon);
        if (!chr_is_mux(mon->chr))
            show(mon);
        break;
    case CHR_EVENT_FOCUS_IN:
        show(mon);
        break;
    case CHR_EVENT_FOCUS_OUT:
        print(mon, "\n");
        break;
    case CHR_EVENT_CLOSED:
        mon->left = true;
        if (!mon->work)
            forget(mon);
        break;
    case CHR_EVENT_BREAK:
        break;
    }
}

static const struct chr_front_ops front_ops = { can_read, read_input, on_event, push_output };

/* --- Life --------------------------------------------------------------------------------------------------------------- */

struct monitor *monitor_new(struct session *s, struct chr *c, GError **err)
{
    struct monitor *mon = g_new0(struct monitor, 1);
    mon->session = s;
    mon->chr = c;
    mon->line = line_new(PROMPT, command_complete);
    mon->input = g_byte_array_new();
    mon->output = g_byte_array_new();
    if (chr_attach(c, &front_ops, mon, err))
        return mon;
    mon->chr = NULL;
    monitor_free(mon);
    return NULL;
}

void monitor_free(void *opaque)
{
    struct monitor *mon = opaque;
    if (mon->chr)
        chr_detach(mon->chr, mon);
    if (mon->work) {
        g_source_destroy(mon->work);
        g_source_unref(mon->work);
    }
    g_byte_array_unref(mon->input);
    g_byte_array_unref(mon->output);
    line_free(mon->line);
    g_free(mon);
}
