/*
 * Devices and buses: the tree, the life of a device, reset in two passes.
 *
 * All under the VM lock, as far as it matters: the tree is built before vCPUs run and changes later only by hot plug.
 */
#include "hw/core/device.h"

#include "hw/core/machine.h"
#include "hw/core/props.h"

#include <string.h>

/* --- Buses -------------------------------------------------------------------------------------------------------- */

struct bus *bus_new(struct machine *m, struct device *owner, const char *kind, const char *name)
{
    struct bus *b = g_new0(struct bus, 1);
    *b = (struct bus){ .kind = kind, .name = g_strdup(name), .owner = owner, .machine = m,
                       .devices = g_ptr_array_new() };
    if (owner)
        g_ptr_array_add(owner->child_buses, b);
    return b;
}

void bus_free(struct bus *b)
{
    if (!b)
        return;
    while (b->devices->len)
        device_free(b->devices->pdata[b->devices->len - 1]);
    if (b->owner)
        g_ptr_array_remove(b->owner->child_buses, b);
    g_ptr_array_free(b->devices, TRUE);
    g_free(b->name);
    g_free(b);
}

static bool has_room(const struct bus *b)
{
    return !b->capacity || b->devices->len < b->capacity;
}

struct bus *bus_find(struct bus *b, const char *kind, const char *name)
{
    if (name ? strcmp(b->name, name) == 0 : strcmp(b->kind, kind) == 0 && has_room(b))
        return b;
    for (guint i = 0; i < b->devices->len; i++) {
        const struct device *d = b->devices->pdata[i];
        for (guint j = 0; j < d->child_buses->len; j++) {
            struct bus *found = bus_find(d->child_buses->pdata[j], kind, name);
            if (found)
                return found;
        }
    }
    return NULL;
}

void bus_walk(struct bus *b, void (*fn)(struct device *d, void *opaque), void *opaque)
{
    for (guint i = 0; i < b->devices->len; i++) {
        struct device *d = b->devices->pdata[i];
        fn(d, opaque);
        for (guint j = 0; j < d->child_buses->len; j++)
            bus_walk(d->child_buses->pdata[j], fn, opaque);
    }
}

static void reset_state(struct device *d, void *opaque)
{
    if (d->realized && d->type->reset)
        d->type->reset(d);
}

static void reset_wires(struct device *d, void *opaque)
{
    if (d->realized && d->type->reset_wires)
        d->type->reset_wires(d);
}

void bus_reset(struct bus *root)
{
    bus_walk(root, reset_state, NULL);
    bus_walk(root, reset_wires, NULL);
}

/* --- Devices ------------------------------------------------------------------------------------------------------ */

struct device *device_new(const struct device_type *type, struct bus *bus)
{
    g_assert(type->size >= sizeof(struct device));
    struct device *d = g_malloc0(type->size);
    d->type = type;
    d->bus = bus;
    d->machine = bus->machine;
    d->child_buses = g_ptr_array_new();
    g_ptr_array_add(bus->devices, d);
    props_init(d);
    return d;
}

static struct bus *root_bus(struct bus *b)
{
    while (b->owner)
        b = b->owner->bus;
    return b;
}

static bool set_id(struct device *d, const char *id, GError **err)
{
    const struct device *other = device_find(root_bus(d->bus), id);
    if (!*id || (other && other != d)) {
        g_set_error(err, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, "%s: id '%s' %s", d->type->name, id,
                    *id ? "is already taken by another device" : "must not be empty");
        return false;
    }
    g_free(d->id);
    d->id = g_strdup(id);
    return true;
}

static bool unknown_prop(const struct device *d, const char *name, GError **err)
{
    GString *known = g_string_new("id");
    for (const struct prop *p = d->type->props; p && p->type != PROP_END; p++)
        g_string_append_printf(known, ", %s", p->name);
    g_set_error(err, G_OPTION_ERROR, G_OPTION_ERROR_UNKNOWN_OPTION, "%s: no property '%s' (it has: %s)", d->type->name,
                name, known->str);
    g_string_free(known, TRUE);
    return false;
}

bool device_set_prop(struct device *d, const char *name, const char *value, GError **err)
{
    g_assert(!d->realized);
    if (strcmp(name, "id") == 0)
        return set_id(d, value, err);
    const struct prop *p = prop_find(d->type, name);
    return p ? prop_parse(d, p, value, err) : unknown_prop(d, name, err);
}

bool device_realize(struct device *d, GError **err)
{
    g_assert(!d->realized);
    if (d->type->realize && !d->type->realize(d, err))
        return false;
    d->realized = true;
    return true;
}

void device_free(struct device *d)
{
    if (!d)
        return;
    while (d->child_buses->len)
        bus_free(d->child_buses->pdata[d->child_buses->len - 1]);
    if (d->realized && d->type->unrealize)
        d->type->unrealize(d);
    g_ptr_array_remove(d->bus->devices, d);
    g_ptr_array_free(d->child_buses, TRUE);
    props_free(d);
    g_free(d->id);
    g_free(d);
}

bool device_add(const struct device_type *type, struct bus *bus, struct device **out, GError **err)
{
    struct device *d = device_new(type, bus);
    if (!device_realize(d, err)) {
        device_free(d);
        return false;
    }
    if (out)
        *out = d;
    return true;
}

/* How many devices of its type come before it on its bus. */
static unsigned index_on_bus(const struct device *d)
{
    unsigned n = 0;
    for (guint i = 0; i < d->bus->devices->len && d->bus->devices->pdata[i] != d; i++)
        n += ((struct device *)d->bus->devices->pdata[i])->type == d->type;
    return n;
}

char *device_path(const struct device *d)
{
    GString *s = g_string_new(NULL);
    for (; d; d = d->bus->owner) {
        unsigned n = index_on_bus(d);
        g_autofree char *suffix = n ? g_strdup_printf("[%u]", n) : g_strdup("");
        /* The root bus has no part in the name: every path would begin with it. */
        g_autofree char *part = d->bus->owner ? g_strdup_printf("/%s/%s%s", d->bus->name, d->type->name, suffix) :
                                                g_strdup_printf("/%s%s", d->type->name, suffix);
        g_string_prepend(s, part);
    }
    return g_string_free(s, FALSE);
}

struct device *device_find(struct bus *root, const char *id)
{
    for (guint i = 0; i < root->devices->len; i++) {
        struct device *d = root->devices->pdata[i];
        if (d->id && strcmp(d->id, id) == 0)
            return d;
        for (guint j = 0; j < d->child_buses->len; j++) {
            struct device *found = device_find(d->child_buses->pdata[j], id);
            if (found)
                return found;
        }
    }
    return NULL;
}

static void print_bus(const struct bus *b, GString *out, int indent)
{
    g_string_append_printf(out, "%*sbus: %s\n%*s  type %s\n", indent, "", b->name, indent, "", b->kind);
    for (guint i = 0; i < b->devices->len; i++) {
        const struct device *d = b->devices->pdata[i];
        g_string_append_printf(out, "%*s  dev: %s, id \"%s\"\n", indent, "", d->type->name, d->id ? d->id : "");
        for (const struct prop *p = d->type->props; p && p->type != PROP_END; p++) {
            g_string_append_printf(out, "%*s    %s = ", indent, "", p->name);
            prop_print(d, p, out);
            g_string_append_c(out, '\n');
        }
        for (guint j = 0; j < d->child_buses->len; j++)
            print_bus(d->child_buses->pdata[j], out, indent + 4);
    }
}

void bus_print(struct bus *root, GString *out)
{
    print_bus(root, out, 0);
}
