/*
 * Parser of option arguments: lists of key=value as QEMU spells them, sizes, numbers and switches.
 *
 * Nothing here knows an option. Keys are taken out one by one, so that what is left at the end is what nobody knows.
 */
#include "hw/core/opts.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

struct pair {
    char *key, *value;
    bool taken;
};

struct opts {
    GArray *pairs; /* struct pair */
};

bool opts_error(GError **err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    g_autofree char *text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    g_set_error_literal(err, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, text);
    return false;
}

/* One element up to a single comma; doubled commas become one. Moves *p behind it. */
static char *next_element(const char **p)
{
    GString *s = g_string_new(NULL);
    const char *c = *p;
    for (; *c; c++) {
        if (*c == ',') {
            if (c[1] != ',')
                break;
            c++;
        }
        g_string_append_c(s, *c);
    }
    *p = *c ? c + 1 : c;
    return g_string_free(s, FALSE);
}

void opts_set(struct opts *o, const char *key, const char *value)
{
    struct pair p = { .key = g_strdup(key), .value = g_strdup(value) };
    g_array_append_val(o->pairs, p);
}

/* `implied`: key of the first element if that is a word. */
static void add(struct opts *o, const char *text, const char *implied)
{
    for (; *text; implied = NULL) {
        g_autofree char *element = next_element(&text);
        char *eq = strchr(element, '=');
        if (eq) {
            *eq = 0;
            opts_set(o, element, eq + 1);
        } else if (implied) {
            opts_set(o, implied, element);
        } else if (g_str_has_prefix(element, "no") && strlen(element) > 4) {
            opts_set(o, element + 2, "off");
        } else {
            opts_set(o, element, "on");
        }
    }
}

void opts_add(struct opts *o, const char *text)
{
    add(o, text, NULL);
}

struct opts *opts_parse(const char *text, const char *implied)
{
    struct opts *o = g_new0(struct opts, 1);
    o->pairs = g_array_new(FALSE, FALSE, sizeof(struct pair));
    add(o, text, implied);
    return o;
}

void opts_free(struct opts *o)
{
    for (guint i = 0; i < o->pairs->len; i++) {
        struct pair *p = &g_array_index(o->pairs, struct pair, i);
        g_free(p->key);
        g_free(p->value);
    }
    g_array_free(o->pairs, TRUE);
    g_free(o);
}

const char *opts_take(struct opts *o, const char *key)
{
    const char *value = NULL;
    for (guint i = 0; i < o->pairs->len; i++) {
        struct pair *p = &g_array_index(o->pairs, struct pair, i);
        if (!p->taken && strcmp(p->key, key) == 0) {
            p->taken = true;
            value = p->value;
        }
    }
    return value;
}

bool opts_next(struct opts *o, const char **key, const char **value)
{
    for (guint i = 0; i < o->pairs->len; i++) {
        struct pair *p = &g_array_index(o->pairs, struct pair, i);
        if (p->taken)
            continue;
        p->taken = true;
        *key = p->key;
        *value = p->value;
        return true;
    }
    return false;
}

bool parse_bool(const char *text, bool *out, GError **err)
{
    static const char *const on[] = { "on", "yes", "true", "y", NULL };
    static const char *const off[] = { "off", "no", "false", "n", NULL };
    if (g_strv_contains(on, text))
        *out = true;
    else if (g_strv_contains(off, text))
        *out = false;
    else
        return opts_error(err, "must be on or off");
    return true;
}

bool parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *out, GError **err)
{
    char *end;
    errno = 0;
    uint64_t v = g_ascii_strtoull(text, &end, 0);
    /* It would take spaces and signs. */
    if (!g_ascii_isdigit(*text) || errno || *end || v < min || v > max)
        return opts_error(err, "must be a number from %" PRIu64 " to %" PRIu64, min, max);
    *out = v;
    return true;
}

/* Shift of a size suffix, or -1. */
static int suffix_shift(const char *suffix)
{
    static const char letters[] = "BKMGTPE";
    const char *at = strchr(letters, g_ascii_toupper(*suffix));
    if (!at || (suffix[1] && !(g_ascii_toupper(suffix[1]) == 'B' && suffix[2] == 0) &&
                !(suffix[1] == 'i' && suffix[2] == 'B' && suffix[3] == 0)))
        return -1;
    return 10 * (int)(at - letters);
}

bool parse_size(const char *text, uint64_t unit, uint64_t *out, GError **err)
{
    char *end;
    bool hex = g_ascii_strncasecmp(text, "0x", 2) == 0;
    errno = 0;
    uint64_t whole = g_ascii_strtoull(text, &end, hex ? 16 : 10);
    double fraction = 0;
    if (*end == '.' && !hex)
        fraction = g_ascii_strtod(end, &end);
    int shift = *end ? suffix_shift(end) : 0;
    if (!g_ascii_isdigit(*text) || errno || shift < 0)
        return opts_error(err, "must be a size such as 512M, 2G or 1.5G");
    if (*end)
        unit = UINT64_C(1) << shift;
    if (whole >= (UINT64_C(1) << 63) / unit)
        return opts_error(err, "must be a smaller size");
    *out = whole * unit + (uint64_t)(fraction * (double)unit);
    return true;
}

/* The sentence of a value that did not parse; false. */
static bool wrong(const char *key, const char *value, GError **err)
{
    g_prefix_error(err, "%s=%s: ", key, value);
    return false;
}

bool opts_take_bool(struct opts *o, const char *key, bool *out, GError **err)
{
    const char *v = opts_take(o, key);
    return !v || parse_bool(v, out, err) || wrong(key, v, err);
}

bool opts_take_number(struct opts *o, const char *key, uint64_t min, uint64_t max, uint64_t *out, GError **err)
{
    const char *v = opts_take(o, key);
    return !v || parse_number(v, min, max, out, err) || wrong(key, v, err);
}

bool opts_take_size(struct opts *o, const char *key, uint64_t unit, uint64_t *out, GError **err)
{
    const char *v = opts_take(o, key);
    return !v || parse_size(v, unit, out, err) || wrong(key, v, err);
}

bool opts_done(struct opts *o, const char *known, GError **err)
{
    const char *key, *value;
    if (!opts_next(o, &key, &value))
        return true;
    return opts_error(err, "there is no '%s' here; known: %s", key, known);
}
