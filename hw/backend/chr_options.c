/* Options of character back ends: "BACKEND,key=value,..." as -chardev takes them. See chr_int.h. */
#include "hw/backend/chr_int.h"

#include <errno.h>
#include <string.h>

struct option {
    char *key, *value;
    bool used;
};

struct chr_options {
    char *backend;
    GPtrArray *list; /* of struct option * */
};

static void option_free(void *p)
{
    struct option *e = p;

    g_free(e->key);
    g_free(e->value);
    g_free(e);
}

struct chr_options *chr_options_new(const char *backend)
{
    struct chr_options *o = g_new(struct chr_options, 1);

    o->backend = g_strdup(backend);
    o->list = g_ptr_array_new_with_free_func(option_free);
    return o;
}

void chr_options_free(struct chr_options *o)
{
    g_free(o->backend);
    g_ptr_array_free(o->list, TRUE);
    g_free(o);
}

void chr_options_set(struct chr_options *o, const char *key, const char *value)
{
    struct option *e = g_new0(struct option, 1);

    e->key = g_strdup(key);
    e->value = g_strdup(value);
    g_ptr_array_add(o->list, e);
}

/* The text up to the next single comma; a double one stands for itself. */
static char *take_element(const char **text)
{
    GString *s = g_string_new(NULL);
    const char *p = *text;

    for (; *p; p++) {
        if (*p == ',' && p[1] != ',')
            break;
        if (*p == ',')
            p++;
        g_string_append_c(s, *p);
    }
    *text = *p ? p + 1 : p;
    return g_string_free(s, FALSE);
}

/* Options that a "no" in front turns off. */
static bool is_switch(const char *key)
{
    static const char *const switches[] = {"server", "wait", "delay", "telnet", "ipv4", "ipv6", NULL};
    return g_strv_contains(switches, key);
}

void chr_options_add(struct chr_options *o, const char *text)
{
    while (*text) {
        g_autofree char *element = take_element(&text);
        char *eq = strchr(element, '=');
        if (eq) {
            *eq = 0;
            chr_options_set(o, element, eq + 1);
        } else if (g_str_has_prefix(element, "no") && is_switch(element + 2)) {
            chr_options_set(o, element + 2, "off");
        } else {
            chr_options_set(o, element, "on");
        }
    }
}

struct chr_options *chr_options_parse(const char *text)
{
    g_autofree char *first = take_element(&text);
    struct chr_options *o = chr_options_new(g_str_has_prefix(first, "backend=") ? first + 8 : first);

    chr_options_add(o, text);
    return o;
}

const char *chr_options_backend(const struct chr_options *o)
{
    return o->backend;
}

const char *chr_option(struct chr_options *o, const char *key)
{
    const char *value = NULL;

    /* The last one wins, as on the command line. */
    for (guint i = 0; i < o->list->len; i++) {
        struct option *e = o->list->pdata[i];
        if (g_str_equal(e->key, key)) {
            e->used = true;
            value = e->value;
        }
    }
    return value;
}

bool chr_option_bool(struct chr_options *o, const char *key, bool *out, GError **err)
{
    static const char *const on[] = {"on", "yes", "true", "y", NULL}, *const off[] = {"off", "no", "false", "n", NULL};
    const char *value = chr_option(o, key);

    if (!value)
        return true;
    if (!g_strv_contains(on, value) && !g_strv_contains(off, value))
        return chr_error(err, o, "%s=%s: must be on or off", key, value);
    *out = g_strv_contains(on, value);
    return true;
}

bool chr_option_number(struct chr_options *o, const char *key, uint64_t max, uint64_t *out, GError **err)
{
    const char *value = chr_option(o, key);
    char *end;
    guint64 n;

    if (!value)
        return true;
    errno = 0;
    n = g_ascii_strtoull(value, &end, 0);
    if (!g_ascii_isdigit(*value) || *end || errno || n > max)
        return chr_error(err, o, "%s=%s: must be a number from 0 to %" G_GUINT64_FORMAT, key, value, (guint64)max);
    *out = n;
    return true;
}

bool chr_options_all_used(struct chr_options *o, GError **err)
{
    for (guint i = 0; i < o->list->len; i++) {
        const struct option *e = o->list->pdata[i];
        if (!e->used && !g_str_equal(e->key, "id"))
            return chr_error(err, o, "has no option '%s' (-chardev help lists them)", e->key);
    }
    return true;
}

bool chr_error(GError **err, const struct chr_options *o, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    g_autofree char *text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    g_set_error(err, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, "%s: %s", o->backend, text);
    return false;
}
