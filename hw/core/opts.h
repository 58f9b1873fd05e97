/*
 * Arguments of options and properties as QEMU writes them: "first,key=value,key,nokey", a comma within a value doubled;
 * numbers, sizes and switches. No lock: everything belongs to the caller.
 */
#ifndef HW_CORE_OPTS_H
#define HW_CORE_OPTS_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct opts; /* the pairs that nobody has taken yet, in order */

/*
 * `implied` names the key of a first word without '='; NULL: it has none, and the word is a switch like any other.
 * "key" alone means key=on, "nokey" means key=off. Never fails; free with opts_free.
 */
struct opts *opts_parse(const char *text, const char *implied);
void opts_free(struct opts *o);
/* More pairs, behind those that are there: "key=value,...", or one, which is copied. */
void opts_add(struct opts *o, const char *text);
void opts_set(struct opts *o, const char *key, const char *value);

/* The value of `key`, taken out (the last one, if it was given several times), or NULL. Lives as long as `o`. */
const char *opts_take(struct opts *o, const char *key);
/* The next pair not yet taken, taken out; false when there is none. */
bool opts_next(struct opts *o, const char **key, const char **value);

/*
 * These leave *out as it is when the key is absent, and fail with "key=value: must be ..." when its value is no such
 * thing.
 */
bool opts_take_bool(struct opts *o, const char *key, bool *out, GError **err);
bool opts_take_number(struct opts *o, const char *key, uint64_t min, uint64_t max, uint64_t *out, GError **err);
bool opts_take_size(struct opts *o, const char *key, uint64_t unit, uint64_t *out, GError **err);

/* Fails if anything is left, with a sentence that lists `known`. */
bool opts_done(struct opts *o, const char *known, GError **err);

/*
 * One value. On failure *err is "must be ...", for the caller to put in front what it is about. Sizes: "512" (times
 * unit), "4K", "1.5G", "2GiB", "0x1000"; below 2^63. Numbers: decimal, 0x hexadecimal, 0 octal. Switches: on yes true
 * y, off no false n.
 */
bool parse_size(const char *text, uint64_t unit, uint64_t *out, GError **err);
bool parse_bool(const char *text, bool *out, GError **err);
bool parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *out, GError **err);

/* Sets a G_OPTION_ERROR with that sentence; returns false. */
bool opts_error(GError **err, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

#endif
