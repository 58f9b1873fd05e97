/*
 * What the monitor can do. Names and texts that tools read are QEMU's where QEMU has the command.
 */
#include "ui/commands.h"

#include "accel/accel.h"
#include "hw/core/opts.h"
#include "ui/session.h"

#include <string.h>

#define COMMAND(name_) \
    static bool name_(struct session *s, const char *const *args, GString *out, GError **err)

/* --- Running ------------------------------------------------------------------------------------------------------------ */

COMMAND(engine)
{
    if (args[0])
        return accel_shift(s->m, args[0], err);
    g_string_append_printf(out, "%s\n", accel_name(s->m));
    return true;
}

COMMAND(info_accel)
{
    accel_info(s->m, out);
    return true;
}

COMMAND(info_status)
{
    static const char *const states[] = {
        [RUN_STATE_PRELAUNCH] = "paused (prelaunch)",
        [RUN_STATE_RUNNING] = "running",
        [RUN_STATE_PAUSED] = "paused",
        [RUN_STATE_SHUTDOWN] = "paused (shutdown)",
    };
    g_string_append_printf(out, "VM status: %s\n", states[s->m->run_state]);
    return true;
}

COMMAND(stop)
{
    if (s->m->run_state == RUN_STATE_RUNNING)
        session_pause(s, RUN_STATE_PAUSED);
    return true;
}

COMMAND(cont)
{
    if (s->m->run_state == RUN_STATE_SHUTDOWN)
        return opts_error(err, "the guest has powered off; system_reset comes before cont");
    if (s->m->run_state != RUN_STATE_RUNNING)
        session_resume(s);
    return true;
}

COMMAND(quit)
{
    machine_request(s->m, REQUEST_QUIT, "monitor");
    return true;
}

COMMAND(system_reset)
{
    machine_request(s->m, REQUEST_RESET, "monitor");
    return true;
}

COMMAND(system_powerdown)
{
    if (!s->m->board_power_button)
        return opts_error(err, "this machine has no power button");
    machine_request(s->m, REQUEST_POWERDOWN, "monitor");
    return true;
}

/* --- Help ----------------------------------------------------------------------------------------------------------------- */

static void print_help(const struct command *c, GString *out)
{
    g_string_append(out, c->name);
    if (c->alias)
        g_string_append_printf(out, "|%s", c->alias);
    for (unsigned k = 0; k < COMMAND_ARGS_MAX && c->args[k].name; k++)
        g_string_append_printf(out, c->args[k].optional ? " [%s]" : " %s", c->args[k].name);
    g_string_append_printf(out, " -- %s\n", c->help);
}

static bool is_named(const struct command *c, const char *name)
{
    return !strcmp(c->name, name) || (c->alias && !strcmp(c->alias, name));
}

/* Is it `word` and something behind it? */
static bool is_one_of(const struct command *c, const char *word)
{
    size_t len = strlen(word);
    return !strncmp(c->name, word, len) && c->name[len] == ' ';
}

static const char *command_name(unsigned i)
{
    return commands[i].name;
}

static bool unknown(const char *word, GError **err)
{
    const char *near = nearest_name(word, command_name);
    if (near)
        return opts_error(err, "unknown command: '%s'; did you mean %s?", word, near);
    return opts_error(err, "unknown command: '%s'; help lists them", word);
}

COMMAND(help)
{
    bool any = false;
    for (const struct command *c = commands; c->name; c++)
        if (args[0] ? is_named(c, args[0]) || is_one_of(c, args[0]) : true) {
            print_help(c, out);
            any = true;
        }
    return any || unknown(args[0], err);
}

const struct command commands[] = {
    { "cont", "c", {}, "resume the guest", cont },
    { "engine", NULL, { { "name", true, accel_engine_name } }, "move the guest to another engine while it runs; alone: tells which one it is", engine },
    { "help", "?", { { "command", true, command_name } }, "show this text", help },
    { "info accel", NULL, {}, "engines, and what they have counted", info_accel },
    { "info status", NULL, {}, "does the guest run?", info_status },
    { "quit", "q", {}, "end the emulator", quit },
    { "stop", "s", {}, "pause the guest", stop },
    { "system_powerdown", NULL, {}, "press the power button", system_powerdown },
    { "system_reset", NULL, {}, "reset the machine", system_reset },
    { 0 },
};

/* --- From a line to a command ----------------------------------------------------------------------------------------------- */

/* The command whose name the words begin with; *used: so many of them. */
static const struct command *find(char **words, guint count, guint *used)
{
    for (*used = MIN(count, 2); *used; --*used) {
        g_autofree char *name = *used == 2 ? g_strjoin(" ", words[0], words[1], NULL) : g_strdup(words[0]);
        for (const struct command *c = commands; c->name; c++)
            if (is_named(c, name))
                return c;
    }
    return NULL;
}

/* No such command: what is it that begins so? */
static bool not_found(char **words, guint count, GError **err)
{
    GString *rest = g_string_new(NULL);
    for (const struct command *c = commands; c->name; c++)
        if (is_one_of(c, words[0]))
            g_string_append_printf(rest, "%s%s", rest->len ? ", " : "", c->name + strlen(words[0]) + 1);
    if (rest->len && count > 1)
        opts_error(err, "%s: unknown subcommand '%s'; give %s", words[0], words[1], rest->str);
    else if (rest->len)
        opts_error(err, "%s: give %s", words[0], rest->str);
    else
        unknown(words[0], err);
    g_string_free(rest, TRUE);
    return false;
}

static bool run(struct session *s, char **words, guint count, GString *out, GError **err)
{
    guint used, given = 0;
    const struct command *c = find(words, count, &used);
    if (!c)
        return not_found(words, count, err);
    const char *args[COMMAND_ARGS_MAX] = { NULL };
    for (; given < COMMAND_ARGS_MAX && c->args[given].name; given++) {
        args[given] = used + given < count ? words[used + given] : NULL;
        if (!args[given] && !c->args[given].optional)
            return opts_error(err, "%s: the %s is missing", c->name, c->args[given].name);
    }
    if (used + given < count)
        return opts_error(err, "%s: nothing may follow, but there is '%s'", c->name, words[used + given]);
    return c->run(s, args, out, err);
}

bool command_run(struct session *s, const char *line, GString *out, GError **err)
{
    g_auto(GStrv) words = NULL;
    g_autoptr(GError) why = NULL;
    int count;
    if (g_shell_parse_argv(line, &count, &words, &why))
        return run(s, words, (guint)count, out, err);
    if (g_error_matches(why, G_SHELL_ERROR, G_SHELL_ERROR_EMPTY_STRING))
        return true;
    return opts_error(err, "the quotation marks in this line do not match");
}

/* --- Completion ----------------------------------------------------------------------------------------------------------- */

/* The first word of `text`, if it begins with `typed` and is not there yet. */
static void offer(GPtrArray *list, const char *text, const char *typed)
{
    g_autofree char *word = g_strndup(text, strcspn(text, " "));
    if (g_str_has_prefix(word, typed) && !g_ptr_array_find_with_equal_func(list, word, g_str_equal, NULL))
        g_ptr_array_add(list, g_steal_pointer(&word));
}

/* Of the names that begin with these words the word behind them. */
static void offer_names(GPtrArray *list, char **words, guint count, const char *typed)
{
    for (const struct command *c = commands; c->name; c++) {
        const char *rest = c->name;
        for (guint k = 0; k < count && *rest; k++) {
            size_t len = strlen(words[k]);
            bool same = !strncmp(rest, words[k], len) && rest[len] == ' ';
            rest = same ? rest + len + 1 : "";
        }
        if (*rest)
            offer(list, rest, typed);
    }
}

static void offer_values(GPtrArray *list, char **words, guint count, const char *typed)
{
    guint used;
    const struct command *c = find(words, count, &used);
    if (!c || count - used >= COMMAND_ARGS_MAX || !c->args[count - used].values)
        return;
    const char *value;
    for (unsigned i = 0; (value = c->args[count - used].values(i)) != NULL; i++)
        offer(list, value, typed);
}

char **command_complete(const char *start)
{
    g_auto(GStrv) parts = g_strsplit(start, " ", -1);
    GPtrArray *words = g_ptr_array_new(), *list = g_ptr_array_new();
    const char *typed = "";
    for (char **p = parts; *p; p++)
        if (!p[1])
            typed = *p;
        else if (**p)
            g_ptr_array_add(words, *p);
    offer_names(list, (char **)words->pdata, words->len, typed);
    offer_values(list, (char **)words->pdata, words->len, typed);
    g_ptr_array_free(words, TRUE);
    g_ptr_array_add(list, NULL);
    return (char **)g_ptr_array_free(list, FALSE);
}
