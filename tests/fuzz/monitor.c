/* Fuzz target: what is typed at a monitor, keys and commands, with an empty machine behind it. */
#include "accel/accel.h"
#include "hw/core/vm_lock.h"
#include "ui/commands.h"
#include "ui/line.h"
#include "ui/session.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void begin(struct session *s)
{
    static const char *const engine[] = { "interp", NULL };
    GError *err = NULL;
    vm_lock();
    *s = (struct session){ .options.machine = MACHINE_NONE, .m = machine_new(false) };
    accel_init(s->m, engine, &err);
    g_assert_no_error(err);
    vcpus_start(s->m, &err);
    g_assert_no_error(err);
}

static void end(struct session *s)
{
    vcpus_stop(s->m);
    accel_fini(s->m);
    machine_free(s->m);
    vm_unlock();
}

/* An error is one sentence, what is said is whole lines. */
static void carry_out(struct session *s, const char *text)
{
    g_autoptr(GString) out = g_string_new(NULL);
    g_autoptr(GError) err = NULL;
    if (strstr(text, "engine")) /* takes as long as all else together */
        return;
    if (!command_run(s, text, out, &err))
        g_assert(err && *err->message && !strchr(err->message, '\n'));
    g_assert(!out->len || out->str[out->len - 1] == '\n');
    while (machine_take_request(s->m) != REQUEST_NONE)
        ;
}

/* The last word may become every word that is offered. */
static void complete(const char *text)
{
    g_auto(GStrv) words = command_complete(text);
    const char *space = strrchr(text, ' ');
    for (char **w = words; *w; w++)
        g_assert(g_str_has_prefix(*w, space ? space + 1 : text) && !strchr(*w, ' '));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct session s;
    g_autoptr(GString) echo = g_string_new(NULL);
    struct line *l = line_new("> ", command_complete);
    begin(&s);
    for (size_t k = 0; k < size; k++) {
        g_autofree char *text = line_feed(l, data[k], echo);
        g_string_truncate(echo, 0);
        if (!text)
            continue;
        complete(text);
        carry_out(&s, text);
    }
    end(&s);
    line_free(l);
    return 0;
}
