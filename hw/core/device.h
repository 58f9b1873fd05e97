/*
 * Devices and buses. A device_type is a const literal; an instance is a struct that embeds `struct device` first.
 *
 * Life: device_new -> device_set_prop* -> device_realize -> reset -> run -> device_free (which unrealizes). The parent
 * bus owns its devices; the machine owns the root bus and frees it in reverse order of creation. All under the VM lock.
 */
#ifndef HW_CORE_DEVICE_H
#define HW_CORE_DEVICE_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct device;
struct machine;
struct state_table;

enum prop_type {
    PROP_END = 0,
    PROP_BOOL,   /* bool: on|off|yes|no|true|false */
    PROP_U8,
    PROP_U16,
    PROP_U32,
    PROP_U64,
    PROP_SIZE,   /* uint64_t with suffix K, M, G, T */
    PROP_STRING, /* char *, freed with the device */
    PROP_CHR,    /* struct chr *: by the id of a -chardev; lent */
    PROP_BLK,    /* struct blk *: by the id of a -drive; lent */
};

struct prop {
    const char *name;
    enum prop_type type;
    uint32_t offset;
    uint64_t initial;        /* of the numeric types */
    const char *description; /* one line for `-device NAME,help` */
};

#define PROP(type_, name_, struct_, member_, initial_, description_) \
    { .name = (name_), .type = (type_), .offset = offsetof(struct_, member_), .initial = (initial_), \
      .description = (description_) }
#define PROPS_END { 0 }

struct device_type {
    const char *name; /* as QEMU spells it: "isa-serial" */
    const char *alias; /* another name that users know, or NULL */
    const char *description;
    const char *bus; /* name of the kind of bus it sits on: "isa", "pci", "system" */
    size_t size;     /* of the instance */
    const struct prop *props; /* ends with PROPS_END; NULL: none */
    bool user_creatable;      /* through -device */
    bool (*realize)(struct device *d, GError **err);
    /* Reset in two passes over the tree: `reset` touches only own state, `reset_wires` then drives output lines. */
    void (*reset)(struct device *d);
    void (*reset_wires)(struct device *d);
    void (*unrealize)(struct device *d);
    const struct state_table *state; /* NULL only for a device without any */
};

struct bus {
    const char *kind; /* "isa", "pci", "system" */
    char *name;       /* "pci.0" */
    struct device *owner; /* the bridge, or NULL for the root */
    struct machine *machine;
    GPtrArray *devices; /* owned, in order of creation */
    unsigned capacity;  /* so many devices have room; 0: any number */
    void *impl; /* what the kind adds: struct pci_bus, struct isa_bus; set by the bridge that embeds it, or NULL */
};

struct device {
    const struct device_type *type;
    char *id; /* from id=, or NULL */
    struct bus *bus;
    struct machine *machine;
    bool realized;
    bool in_io; /* an access of this device is under way: refuses re-entry through its own DMA */
    GPtrArray *child_buses; /* owned */
};

#define container_of(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))

/* Owned by `owner`, or by the caller if that is NULL. bus_free() frees the devices on it, too. */
struct bus *bus_new(struct machine *m, struct device *owner, const char *kind, const char *name);
void bus_free(struct bus *b);
/* The first bus of that kind with room for a device (name NULL), or that name, below `b`; or NULL. */
struct bus *bus_find(struct bus *b, const char *kind, const char *name);

/* Never fails; properties have their initial values. The bus owns it from now on. */
struct device *device_new(const struct device_type *type, struct bus *bus);
/* From text, "id" among them; before realize. */
bool device_set_prop(struct device *d, const char *name, const char *value, GError **err);
/* On failure it is left as it was, to be freed. */
bool device_realize(struct device *d, GError **err);
void device_free(struct device *d);
/* device_new + realize with initial values; *out (may be NULL) is lent. Nothing is left on failure. */
bool device_add(const struct device_type *type, struct bus *bus, struct device **out, GError **err);
/* "/pci.0/PIIX3/isa.0/isa-serial[1]": stable over runs; the instance id of saved state. Caller frees. */
char *device_path(const struct device *d);
/* By id, at or below that bus; NULL if there is none. */
struct device *device_find(struct bus *root, const char *id);
/* Depth first, devices before those on their child buses, in order of creation. */
void bus_walk(struct bus *b, void (*fn)(struct device *d, void *opaque), void *opaque);
void bus_reset(struct bus *root); /* both passes */
void bus_print(struct bus *root, GString *out); /* `info qtree` */

/* The registry: made from hw/devices.list. */
const struct device_type *const *device_types(void); /* NULL-terminated */
const struct device_type *device_type_find(const char *name);

#endif
