/*
 * /tmp/perf-PID.map, by which perf names generated code: a line "start size name" for each piece, addresses in hexadecimal.
 */
#ifndef TCG_PERFMAP_H
#define TCG_PERFMAP_H

#include <glib.h>
#include <stdint.h>

struct perfmap;

/* Fails with a sentence if the file cannot be written. */
struct perfmap *perfmap_new(GError **err);
/* The file stays: perf reads it later. NULL is no map. */
void perfmap_free(struct perfmap *p);
/* One piece of code, [start, end). No lock: the caller's. */
void perfmap_add(struct perfmap *p, const uint8_t *start, const uint8_t *end, const char *name);

#endif
