/*
 * Saved state: tables of fields to bytes and back.
 *
 * A section is: name (length byte, text), instance (16-bit length, text), version (byte), payload length (64 bit),
 * payload. Everything is little-endian and unpadded. RAM is the block's size, then runs of pages that are not all zero:
 * first page, count (64 bit each), contents; a run of 0 pages ends it.
 *
 * A stream is hostile input: nothing is taken from it before it was checked to be there, and the payload must be
 * exactly as long as the table says. A load that fails may have changed part of the instance: its owner resets it.
 */
#include "hw/core/state.h"

#include "hw/core/clock.h"
#include "hw/core/memory.h"

#include <inttypes.h>
#include <string.h>

/* --- Saving ------------------------------------------------------------------------------------------------------- */

static void put(GByteArray *out, uint64_t v, unsigned bytes)
{
    uint64_t le = GUINT64_TO_LE(v);
    g_byte_array_append(out, (const guint8 *)&le, bytes);
}

static unsigned number_size(enum state_type t)
{
    switch (t) {
    case STATE_BOOL:
    case STATE_U8:
    case STATE_BYTES: return 1;
    case STATE_U16: return 2;
    case STATE_U32: return 4;
    case STATE_U64: return 8;
    default: return 0;
    }
}

static uint64_t get_number(const uint8_t *p, enum state_type t)
{
    switch (t) {
    case STATE_BOOL: return *(const bool *)p;
    case STATE_U16: return *(const uint16_t *)p;
    case STATE_U32: return *(const uint32_t *)p;
    case STATE_U64: return *(const uint64_t *)p;
    default: return *p;
    }
}

static void set_number(uint8_t *p, enum state_type t, uint64_t v)
{
    switch (t) {
    case STATE_BOOL: *(bool *)p = v != 0; break;
    case STATE_U16: *(uint16_t *)p = (uint16_t)v; break;
    case STATE_U32: *(uint32_t *)p = (uint32_t)v; break;
    case STATE_U64: *(uint64_t *)p = v; break;
    default: *p = (uint8_t)v; break;
    }
}

static void save_ram(GByteArray *out, const struct ram_block *b)
{
    uint64_t pages = b->size >> PAGE_BITS;
    put(out, b->size, 8);
    for (uint64_t page = 0; page < pages;) {
        if (ram_page_is_zero(b, page << PAGE_BITS)) {
            page++;
            continue;
        }
        uint64_t first = page;
        while (page < pages && page - first < 1024 && !ram_page_is_zero(b, page << PAGE_BITS))
            page++;
        put(out, first, 8);
        put(out, page - first, 8);
        g_byte_array_append(out, b->host + (first << PAGE_BITS), (guint)((page - first) << PAGE_BITS));
    }
    put(out, 0, 8);
    put(out, 0, 8);
}

static void save_fields(GByteArray *out, const struct state_field *f, const uint8_t *base)
{
    for (; f->type != STATE_END; f++) {
        const uint8_t *p = base + f->offset;
        unsigned size = number_size(f->type);
        for (uint32_t i = 0; i < f->count; i++) {
            if (f->type == STATE_BYTES) {
                g_byte_array_append(out, p, f->count);
                break;
            } else if (size) {
                put(out, get_number(p + i * size, f->type), size);
            } else if (f->type == STATE_STRUCT) {
                save_fields(out, f->fields, p + (size_t)i * f->stride);
            } else if (f->type == STATE_TIMER) {
                put(out, (uint64_t)((const struct timer *)(const void *)p)[i].deadline, 8);
            } else {
                save_ram(out, ((struct ram_block *const *)(const void *)p)[i]);
            }
        }
    }
}

void state_save(GByteArray *out, const struct state_table *t, const char *instance_id, void *instance)
{
    size_t name = strlen(t->name), id = strlen(instance_id);
    g_assert(name <= UINT8_MAX && id <= UINT16_MAX);
    if (t->pre_save)
        t->pre_save(instance);
    put(out, name, 1);
    g_byte_array_append(out, (const guint8 *)t->name, (guint)name);
    put(out, id, 2);
    g_byte_array_append(out, (const guint8 *)instance_id, (guint)id);
    put(out, t->version, 1);
    guint at = out->len;
    put(out, 0, 8);
    save_fields(out, t->fields, instance);
    uint64_t len = GUINT64_TO_LE((uint64_t)(out->len - at - 8));
    memcpy(out->data + at, &len, 8);
}

/* --- Loading ------------------------------------------------------------------------------------------------------ */

struct loader {
    struct state_reader in; /* of the payload alone */
    const struct state_table *table;
    const char *instance_id;
    uint8_t version;
    GError **err;
};

static bool fail(const struct state_table *t, const char *id, GError **err, const char *why)
{
    g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_INVAL, "saved state of %s '%s': %s", t->name, id, why);
    return false;
}

static const uint8_t *take(struct state_reader *in, uint64_t bytes)
{
    if (bytes > in->size - in->pos)
        return NULL;
    const uint8_t *p = in->data + in->pos;
    in->pos += bytes;
    return p;
}

static bool get(struct state_reader *in, unsigned bytes, uint64_t *v)
{
    const uint8_t *p = take(in, bytes);
    uint64_t le = 0;
    if (!p)
        return false;
    memcpy(&le, p, bytes);
    *v = GUINT64_FROM_LE(le);
    return true;
}

static bool lfail(const struct loader *l, const char *field, const char *why)
{
    g_autofree char *text = g_strdup_printf("field '%s' %s", field, why);
    return fail(l->table, l->instance_id, l->err, text);
}

static bool load_ram(struct loader *l, const char *name, struct ram_block *b)
{
    uint64_t size, first, count, next = 0, pages = b->size >> PAGE_BITS;
    if (!get(&l->in, 8, &size))
        return lfail(l, name, "is cut off");
    if (size != b->size)
        return lfail(l, name, "is memory of another size");
    for (;;) {
        const uint8_t *data;
        if (!get(&l->in, 8, &first) || !get(&l->in, 8, &count))
            return lfail(l, name, "is cut off");
        if (count == 0)
            break;
        if (first < next || first >= pages || count > pages - first)
            return lfail(l, name, "has pages out of order or behind the end of memory");
        if (!(data = take(&l->in, count << PAGE_BITS)))
            return lfail(l, name, "is cut off");
        ram_clear(b, next << PAGE_BITS, (first - next) << PAGE_BITS);
        memcpy(b->host + (first << PAGE_BITS), data, count << PAGE_BITS);
        next = first + count;
    }
    ram_clear(b, next << PAGE_BITS, (pages - next) << PAGE_BITS);
    ram_note_write(b, 0, b->size);
    return true;
}

static bool load_fields(struct loader *l, const struct state_field *f, uint8_t *base);

static bool load_element(struct loader *l, const struct state_field *f, uint8_t *p, uint32_t i)
{
    unsigned size = number_size(f->type);
    uint64_t v;
    if (f->type == STATE_STRUCT)
        return load_fields(l, f->fields, p + (size_t)i * f->stride);
    if (f->type == STATE_RAM)
        return load_ram(l, f->name, ((struct ram_block **)(void *)p)[i]);
    if (!get(&l->in, size ? size : 8, &v))
        return lfail(l, f->name, "is cut off");
    if (f->type == STATE_TIMER) {
        struct timer *t = &((struct timer *)(void *)p)[i];
        if ((int64_t)v < -1)
            return lfail(l, f->name, "has an impossible deadline");
        if ((int64_t)v >= 0)
            timer_set(t, (int64_t)v);
        else
            timer_cancel(t);
        return true;
    }
    if (f->type == STATE_BOOL && v > 1)
        return lfail(l, f->name, "is neither true nor false");
    set_number(p + (size_t)i * size, f->type, v);
    return true;
}

static bool load_fields(struct loader *l, const struct state_field *f, uint8_t *base)
{
    for (; f->type != STATE_END; f++) {
        uint8_t *p = base + f->offset;
        if (f->since > l->version)
            continue;
        if (f->type == STATE_BYTES) {
            const uint8_t *bytes = take(&l->in, f->count);
            if (!bytes)
                return lfail(l, f->name, "is cut off");
            memcpy(p, bytes, f->count);
            continue;
        }
        for (uint32_t i = 0; i < f->count; i++) {
            if (!load_element(l, f, p, i))
                return false;
        }
    }
    return true;
}

static bool expect_text(struct state_reader *in, unsigned length_bytes, const char *text)
{
    uint64_t n;
    const uint8_t *p;
    return get(in, length_bytes, &n) && (p = take(in, n)) && n == strlen(text) && memcmp(p, text, n) == 0;
}

bool state_load(struct state_reader *in, const struct state_table *t, const char *instance_id, void *instance,
                GError **err)
{
    uint64_t version, len;
    const uint8_t *payload;
    if (!expect_text(in, 1, t->name) || !expect_text(in, 2, instance_id))
        return fail(t, instance_id, err, "something else is there: it is of a machine with other devices, or damaged");
    if (!get(in, 1, &version) || !get(in, 8, &len) || !(payload = take(in, len)))
        return fail(t, instance_id, err, "it is cut off");
    if (version == 0 || version > t->version)
        return fail(t, instance_id, err, "it is of a version that this program does not know");
    struct loader l = {
        .in = { .data = payload, .size = len },
        .table = t,
        .instance_id = instance_id,
        .version = (uint8_t)version,
        .err = err,
    };
    if (!load_fields(&l, t->fields, instance))
        return false;
    if (l.in.pos != l.in.size)
        return fail(t, instance_id, err, "it is longer than it should be");
    return !t->post_load || t->post_load(instance, (uint8_t)version, err);
}

/* --- Printing ----------------------------------------------------------------------------------------------------- */

static void print_fields(GString *out, const struct state_field *f, const uint8_t *base, const char *prefix);

static void print_element(GString *out, const struct state_field *f, const uint8_t *p, uint32_t i)
{
    unsigned size = number_size(f->type);
    if (f->type == STATE_BOOL)
        g_string_append(out, get_number(p + i, f->type) ? "true" : "false");
    else if (size)
        g_string_append_printf(out, "0x%0*" PRIx64, (int)size * 2, get_number(p + (size_t)i * size, f->type));
    else if (f->type == STATE_TIMER)
        g_string_append_printf(out, "%" PRId64, ((const struct timer *)(const void *)p)[i].deadline);
    else
        g_string_append_printf(out, "%" PRIu64 " bytes", ((struct ram_block *const *)(const void *)p)[i]->size);
}

static void print_fields(GString *out, const struct state_field *f, const uint8_t *base, const char *prefix)
{
    for (; f->type != STATE_END; f++) {
        const uint8_t *p = base + f->offset;
        if (f->type == STATE_STRUCT) {
            for (uint32_t i = 0; i < f->count; i++) {
                g_autofree char *inner = f->count == 1 ? g_strdup_printf("%s%s.", prefix, f->name) :
                                                         g_strdup_printf("%s%s[%u].", prefix, f->name, i);
                print_fields(out, f->fields, p + (size_t)i * f->stride, inner);
            }
            continue;
        }
        g_string_append_printf(out, "%s%s =", prefix, f->name);
        uint32_t shown = MIN(f->count, 32);
        for (uint32_t i = 0; i < shown; i++) {
            g_string_append_c(out, ' ');
            print_element(out, f, p, i);
        }
        g_string_append(out, shown < f->count ? " ...\n" : "\n");
    }
}

void state_print(GString *out, const struct state_table *t, const void *instance)
{
    print_fields(out, t->fields, instance, "");
}
