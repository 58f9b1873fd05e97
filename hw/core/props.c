/*
 * Properties of devices: text from the command line into fields of the instance, and back for `info qtree`.
 *
 * A user's mistake gives one sentence that names the device, the property, the value and what would be right.
 */
#include "hw/core/props.h"

#include "hw/core/machine.h"
#include "hw/core/opts.h"

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

/* Puts in front of "must be ..." what it is about; false. */
static bool wrong(const struct device *d, const struct prop *p, const char *value, GError **err)
{
    g_prefix_error(err, "%s: %s=%s: ", d->type->name, p->name, value);
    return false;
}

static bool parse_integer(struct device *d, const struct prop *p, const char *value, GError **err)
{
    uint64_t max = p->type == PROP_U8 ? UINT8_MAX : p->type == PROP_U16 ? UINT16_MAX :
                   p->type == PROP_U32 ? UINT32_MAX : UINT64_MAX;
    uint64_t v;
    if (!parse_number(value, 0, max, &v, err))
        return wrong(d, p, value, err);
    set_number(d, p, v);
    return true;
}

static bool parse_chr(struct device *d, const struct prop *p, const char *value, GError **err)
{
    struct machine *m = d->machine;
    struct chr *chr = m && m->chr_find ? m->chr_find(m, value) : NULL;
    if (!chr)
        return opts_error(err, "must be the id of a -chardev") || wrong(d, p, value, err);
    *(struct chr **)field(d, p) = chr;
    return true;
}

static bool parse_blk(struct device *d, const struct prop *p, const char *value, GError **err)
{
    struct machine *m = d->machine;
    struct blk *blk = m && m->blk_find ? m->blk_find(m, value) : NULL;
    if (!blk)
        return opts_error(err, "must be the id of a -drive") || wrong(d, p, value, err);
    *(struct blk **)field(d, p) = blk;
    return true;
}

bool prop_parse(struct device *d, const struct prop *p, const char *value, GError **err)
{
    bool flag;
    uint64_t size;
    switch (p->type) {
    case PROP_BOOL:
        if (!parse_bool(value, &flag, err))
            return wrong(d, p, value, err);
        set_number(d, p, flag);
        return true;
    case PROP_U8:
    case PROP_U16:
    case PROP_U32:
    case PROP_U64: return parse_integer(d, p, value, err);
    case PROP_SIZE:
        if (!parse_size(value, 1, &size, err))
            return wrong(d, p, value, err);
        set_number(d, p, size);
        return true;
    case PROP_STRING: {
        char **s = field(d, p);
        g_free(*s);
        *s = g_strdup(value);
        return true;
    }
    case PROP_CHR: return parse_chr(d, p, value, err);
    case PROP_BLK: return parse_blk(d, p, value, err);
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
    case PROP_BLK: g_string_append(out, *(struct blk *const *)f ? "connected" : "none"); break;
    case PROP_END: break;
    }
}
