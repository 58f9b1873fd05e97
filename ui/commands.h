/*
 * Commands of the monitor: one table of names, arguments, help and handlers.
 */
#ifndef UI_COMMANDS_H
#define UI_COMMANDS_H

#include <glib.h>
#include <stdbool.h>

struct session;

#define COMMAND_ARGS_MAX 2

struct command_arg {
    const char *name; /* NULL: no more */
    bool optional;
    const char *(*values)(unsigned i); /* what it may be: the one after the other, then NULL; or NULL for anything */
};

struct command {
    const char *name;  /* "engine", "info status": words with one space between */
    const char *alias; /* a short form, or NULL */
    struct command_arg args[COMMAND_ARGS_MAX];
    const char *help;
    /* `args` are in the table's order, NULL for those left out. Main loop, VM lock. */
    bool (*run)(struct session *s, const char *const *args, GString *out, GError **err);
};

extern const struct command commands[]; /* ends with a row without a name */

/*
 * Carries out a line: words between spaces, "quoted text" one word. An empty line does nothing. Appends what there is to say;
 * fails with one sentence.
 */
bool command_run(struct session *s, const char *line, GString *out, GError **err);
/* What the last word of a line that begins so may be, in the table's order; to be freed with g_strfreev. */
char **command_complete(const char *start);

#endif
