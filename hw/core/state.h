/*
 * Saved state: every device (and every vCPU) describes what it must keep as a table of fields. The same table serves
 * snapshots, migration, `info device` and the test "save, load, save gives equal bytes".
 *
 * Format per section: name, instance, version, then fields in table order, little-endian, fixed width by type. Loading
 * checks name, version and length, and fails with a sentence rather than accept what it does not know. VM lock, vCPUs
 * paused.
 */
#ifndef HW_CORE_STATE_H
#define HW_CORE_STATE_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum state_type {
    STATE_END = 0,
    STATE_BOOL,
    STATE_U8,
    STATE_U16,
    STATE_U32,
    STATE_U64,    /* also int64_t */
    STATE_BYTES,  /* uint8_t array of `count` bytes */
    STATE_TIMER,  /* struct timer: its deadline; armed again on load */
    STATE_STRUCT, /* nested: `fields`, `stride` bytes each, `count` times */
    STATE_RAM,    /* struct ram_block *: the contents */
};

struct state_field {
    const char *name;
    enum state_type type;
    uint32_t offset; /* in the instance */
    uint32_t count;  /* array length; 1 for a scalar */
    uint32_t stride; /* of STATE_STRUCT */
    uint8_t since;   /* version that brought it; absent in older streams (keeps its reset value) */
    const struct state_field *fields;
};

struct state_table {
    const char *name;
    uint8_t version;
    const struct state_field *fields; /* ends with STATE_FIELDS_END */
    void (*pre_save)(void *instance);
    bool (*post_load)(void *instance, uint8_t version, GError **err); /* checks ranges: a stream is hostile input */
};

#define STATE_FIELDS_END { 0 }
#define STATE_FIELD(type_, struct_, member_) \
    { .name = #member_, .type = (type_), .offset = offsetof(struct_, member_), .count = 1 }
#define STATE_ARRAY(type_, struct_, member_) \
    { .name = #member_, .type = (type_), .offset = offsetof(struct_, member_), \
      .count = sizeof(((struct_ *)0)->member_) / sizeof(((struct_ *)0)->member_[0]) }
#define STATE_NESTED(struct_, member_, fields_) \
    { .name = #member_, .type = STATE_STRUCT, .offset = offsetof(struct_, member_), .count = 1, \
      .stride = sizeof(((struct_ *)0)->member_), .fields = (fields_) }
#define STATE_NESTED_ARRAY(struct_, member_, fields_) \
    { .name = #member_, .type = STATE_STRUCT, .offset = offsetof(struct_, member_), \
      .count = sizeof(((struct_ *)0)->member_) / sizeof(((struct_ *)0)->member_[0]), \
      .stride = sizeof(((struct_ *)0)->member_[0]), .fields = (fields_) }

/* Appends one section. `instance_id` tells equal tables apart (the device's path, the vCPU's number). */
void state_save(GByteArray *out, const struct state_table *t, const char *instance_id, void *instance);

struct state_reader {
    const uint8_t *data;
    size_t size, pos;
};

/* Reads one section, which must be that table's and instance's. */
bool state_load(struct state_reader *in, const struct state_table *t, const char *instance_id, void *instance,
                GError **err);
/* "name = value" lines, for `info device`. */
void state_print(GString *out, const struct state_table *t, const void *instance);

#endif
