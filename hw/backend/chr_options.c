/* Options of character back ends: "BACKEND,key=value,..." as -chardev takes them. See chr_int.h. */
#include "hw/backend/chr_int.h"

#include "hw/core/opts.h"

struct chr_options {
    char *backend;
    struct opts *opts;
};

struct chr_options *chr_options_new(const char *backend)
{
    struct chr_options *o = g_new(struct chr_options, 1);

    o->backend = g_strdup(backend);
    o->opts = opts_parse("", NULL);
    return o;
}

struct chr_options *chr_options_parse(const char *text)
{
    struct opts *opts = opts_parse(text, "backend");
    const char *backend = opts_take(opts, "backend");
    struct chr_options *o = g_new(struct chr_options, 1);

    o->backend = g_strdup(backend ? backend : "");
    o->opts = opts;
    return o;
}

void chr_options_free(struct chr_options *o)
{
    g_free(o->backend);
    opts_free(o->opts);
    g_free(o);
}

void chr_options_set(struct chr_options *o, const char *key, const char *value)
{
    opts_set(o->opts, key, value);
}

void chr_options_add(struct chr_options *o, const char *text)
{
    opts_add(o->opts, text);
}

const char *chr_options_backend(const struct chr_options *o)
{
    return o->backend;
}

const char *chr_option(struct chr_options *o, const char *key)
{
    return opts_take(o->opts, key);
}

static bool prefixed(bool ok, const struct chr_options *o, GError **err)
{
    if (!ok)
        g_prefix_error(err, "%s: ", o->backend);
    return ok;
}

bool chr_option_bool(struct chr_options *o, const char *key, bool *out, GError **err)
{
    return prefixed(opts_take_bool(o->opts, key, out, err), o, err);
}

bool chr_option_number(struct chr_options *o, const char *key, uint64_t max, uint64_t *out, GError **err)
{
    return prefixed(opts_take_number(o->opts, key, 0, max, out, err), o, err);
}

bool chr_options_all_used(struct chr_options *o, GError **err)
{
    const char *key, *value;

    opts_take(o->opts, "id"); /* of no use to -serial and its like */
    return !opts_next(o->opts, &key, &value) || chr_error(err, o, "has no option '%s' (-chardev help lists them)", key);
}

bool chr_error(GError **err, const struct chr_options *o, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    g_autofree char *text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    return opts_error(err, "%s: %s", o->backend, text);
}
