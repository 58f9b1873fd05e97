/*
 * A line of text as it is typed: editing keys, history, completion. It knows bytes only; who reads and prints is monitor.c.
 */
#ifndef UI_LINE_H
#define UI_LINE_H

#include <glib.h>
#include <stdint.h>

struct line;

/* What the last word of `start`, a line up to the cursor, may become; to be freed with g_strfreev. */
typedef char **line_complete_fn(const char *start);

/* `complete` (or NULL) is asked when Tab is typed. */
struct line *line_new(const char *prompt, line_complete_fn *complete);
void line_free(struct line *l);
/* Takes a byte that was typed, and appends to `echo` what it shows. A finished line is returned, to be freed; else NULL. */
char *line_feed(struct line *l, uint8_t byte, GString *echo);
/* Shows the prompt and what has been typed so far. */
void line_show(const struct line *l, GString *echo);
/* Forgets what has been typed so far. */
void line_clear(struct line *l);

#endif
