/*
 * Properties of devices: text from the command line into fields of the instance, and back for `info qtree`.
 *
 * A user's mistake gives one sentence that names the device, the property, the value and what would be right.
 */
#include "hw/core/props.h"

#include "hw/core/machine.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

static void *field(const struct device *d, const struct prop *p)
{
    return (char *)d + p->offset;
}

static void set_number(struct device *d, const struct prop *p, uint64_t v)
{
    switch (p->type) {
    case PROP_BOOL: *(bool *)field(d, p) = v != 0; break;
    case PROP_U8: *(uint8_t *)field(d, p) = (uint8_t)v; break;
    case PROP_U16: *(uint16_t *)field(d, p) = (uint16_t)v; break;
    case PROP_U32: *(uint32_t *)field(d, p) = (uint32_t)v; break;
    case PROP_U64:
    case PROP_SIZE: *(uint64_t *)field(d, p) = v; break;
    default: break;
    }
}

void props_init(struct device *d)
{
    for (const struct prop *p = d->type->props; p && p->type != PROP_END; p++)
        set_number(d, p, p->initial);
}

void props_free(struct device *d)
{
    for (const struct prop *p = d->type->props; p && p->type != PROP_END; p++) {
        if (p->type == PROP_STRING)
            g_clear_pointer((char **)field(d, p), g_free);
    }
}

const struct prop *prop_find(const struct device_type *type, const char *name)
{
    for (const struct prop *p = type->props; p && p->type != PROP_END; p++) {
        if (strcmp(p->name, name) == 0)
            return p;
    }
    return NULL;
}

static bool wrong(const struct device *d, const struct prop *p, const char *value, GError **err, const char *wanted)
{
    g_set_error(err, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, "%s: property '%s' wants %s, not '%s'", d->type->name,
                p->name, wanted, value);
    return false;
}

static bool parse_bool(const char *value, bool *out)
{
    static const char *const yes[] = { "on", "yes", "true", NULL }, *const no[] = { "off", "no", "false", NULL };
    *out = g_strv_contains(yes, value);
    return *out || g_strv_contains(no, value);
}

/* A whole number in decimal, hex (0x) or octal (0). *rest: what follows it. */
static bool parse_number(const char *value, uint64_t *out, const char **rest)
{
    char *end;
    if (!g_ascii_isdigit(value[0])) /* strtoull would take spaces and signs */
        return false;
    errno = 0;
    *out = g_ascii_strtoull(value, &end, 0);
    *rest = end;
    return errno == 0 && end != value;
}

static bool parse_size(const char *value, uint64_t *out)
{
    static const char suffixes[] = "BKMGTP";
    const char *rest;
    uint64_t n;
    if (!parse_number(value, &n, &rest))
        return false;
    unsigned shift = 0;
    if (*rest) {
        const char *s = strchr(suffixes, g_ascii_toupper(*rest));
        if (!s || rest[1])
            return false;
        shift = (unsigned)(s - suffixes) * 10;
    }
    if (n > UINT64_MAX >> shift)
        return false;
    *out = n << shift;
    return true;
}

static bool parse_integer(struct device *d, const struct prop *p, const char *value, GError **err)
{
    uint64_t max = p->type == PROP_U8 ? UINT8_MAX : p->type == PROP_U16 ? UINT16_MAX :
                   p->type == PROP_U32 ? UINT32_MAX : UINT64_MAX;
    uint64_t v;
    const char *rest;
    if (!parse_number(value, &v, &rest) || *rest || v > max) {
        g_autofree char *wanted = g_strdup_printf("a number from 0 to %" PRIu64, max);
        return wrong(d, p, value, err, wanted);
    }
    set_number(d, p, v);
    return true;
}

static bool parse_chr(struct device *d, const struct prop *p, const char *value, GError **err)
{
    struct machine *m = d->machine;
    struct chr *chr = m && m->chr_find ? m->chr_find(m, value) : NULL;
    if (!chr)
        return wrong(d, p, value, err, "the id of a -chardev");
    *(struct chr **)field(d, p) = chr;
    return true;
}

bool prop_parse(struct device *d, const struct prop *p, const char *value, GError **err)
{
    bool flag;
    uint64_t size;
    switch (p->type) {
    case PROP_BOOL:
        if (!parse_bool(value, &flag))
            return wrong(d, p, value, err, "on or off");
        set_number(d, p, flag);
        return true;
    case PROP_U8:
    case PROP_U16:
    case PROP_U32:
    case PROP_U64: return parse_integer(d, p, value, err);
    case PROP_SIZE:
        if (!parse_size(value, &size))
            return wrong(d, p, value, err, "a size such as 64K, 16M or 2G");
        set_number(d, p, size);
        return true;
    case PROP_STRING: {
        char **s = field(d, p);
        g_free(*s);
        *s = g_strdup(value);
        return true;
    }
    case PROP_CHR: return parse_chr(d, p, value, err);
    case PROP_END: break;
    }
    g_assert_not_reached();
}

void prop_print(const struct device *d, const struct prop *p, GString *out)
{
    const void *f = field(d, p);
    switch (p->type) {
    case PROP_BOOL: g_string_append(out, *(const bool *)f ? "true" : "false"); break;
    case PROP_U8: g_string_append_printf(out, "%u (0x%x)", *(const uint8_t *)f, *(const uint8_t *)f); break;
    case PROP_U16: g_string_append_printf(out, "%u (0x%x)", *(const uint16_t *)f, *(const uint16_t *)f); break;
    case PROP_U32: g_string_append_printf(out, "%u (0x%x)", *(const uint32_t *)f, *(const uint32_t *)f); break;
    case PROP_U64:
    case PROP_SIZE:
        g_string_append_printf(out, "%" PRIu64 " (0x%" PRIx64 ")", *(const uint64_t *)f, *(const uint64_t *)f);
        break;
    case PROP_STRING: {
        const char *s = *(char *const *)f;
        g_string_append_printf(out, "\"%s\"", s ? s : "");
        break;
    }
    case PROP_CHR: g_string_append(out, *(struct chr *const *)f ? "connected" : "none"); break;
    case PROP_END: break;
    }
}
