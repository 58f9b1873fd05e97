/*
 * What is printed for -help, -version and the lists of -machine, -device; and the nearest name to a mistyped one.
 *
 * Tools read these texts: the first number of -version, `name "TYPE", bus BUS` lines of -device help, the first word of
 * each line of -machine help.
 */
#include "ui/options.h"

#include "config.h"

#include <stdio.h>
#include <string.h>

/* QEMU's interface that we follow, for scripts that look at the first number. */
#define COMPATIBLE_VERSION "7.2.0"

void version_print(void)
{
    printf("QEMU emulator version %s (Trapeze %s)\n", COMPATIBLE_VERSION, TRAPEZE_VERSION);
    printf("Trapeze is a PC emulator of its own; the line above tells whose command line it follows.\n");
}

void help_print(void)
{
    version_print();
    puts("usage: trapeze [options]\n\nOptions, with one dash or two:\n");
    for (const struct option_row *r = option_rows; r->name; r++) {
        if (!r->help)
            continue;
        g_autofree char *left = g_strdup_printf("-%s%s%s", r->name, r->arg ? " " : "", r->arg ? r->arg : "");
        if (strlen(left) < 20)
            printf("%-20s %s\n", left, r->help);
        else
            printf("%s\n%20s %s\n", left, "", r->help);
    }
    puts("\nOn a terminal: Ctrl-a x ends the guest, Ctrl-a h lists the other keys.\n"
         "Example: trapeze -nographic -m 512 -kernel vmlinuz -initrd initrd.gz -append console=ttyS0");
}

void machine_help(GString *out)
{
    g_string_append(out, "Supported machines are:\n"
                         "pc                   Standard PC (i440FX + PIIX, 1996) (alias of pc-i440fx-7.2)\n"
                         "pc-i440fx-7.2        Standard PC (i440FX + PIIX, 1996) (default)\n"
                         "none                 empty machine\n");
}

void device_help(GString *out)
{
    for (const struct device_type *const *t = device_types(); *t; t++) {
        if (!(*t)->user_creatable)
            continue;
        g_autofree char *bus = g_ascii_strup((*t)->bus, -1);
        g_string_append_printf(out, "name \"%s\", bus %s", (*t)->name, bus);
        if ((*t)->description)
            g_string_append_printf(out, ", desc \"%s\"", (*t)->description);
        g_string_append_c(out, '\n');
    }
}

bool device_type_help(const char *name, GString *out)
{
    static const char *const kinds[] = {
        [PROP_BOOL] = "bool",    [PROP_U8] = "uint8",      [PROP_U16] = "uint16",  [PROP_U32] = "uint32",
        [PROP_U64] = "uint64",   [PROP_SIZE] = "size",     [PROP_STRING] = "str",  [PROP_CHR] = "str",
        [PROP_BLK] = "str",
    };
    const struct device_type *t = device_type_find(name);
    if (!t)
        return false;
    g_string_append_printf(out, "%s options:\n", t->name);
    for (const struct prop *p = t->props; p && p->type != PROP_END; p++) {
        g_autofree char *left = g_strdup_printf("%s=<%s>", p->name, kinds[p->type]);
        g_string_append_printf(out, "  %-22s - %s", left, p->description ? p->description : "");
        if (p->type == PROP_BOOL)
            g_string_append_printf(out, " (default: %s)", p->initial ? "on" : "off");
        else if (p->type != PROP_STRING && p->type != PROP_CHR && p->type != PROP_BLK && p->initial != UINT32_MAX)
            g_string_append_printf(out, " (default: %" G_GUINT64_FORMAT ")", p->initial);
        g_string_append_c(out, '\n');
    }
    return true;
}

/* Number of insertions, deletions, replacements and swaps of neighbours that make one of the other; names are short. */
static unsigned distance(const char *a, const char *b)
{
    enum { LONGEST = 32 };
    size_t la = strlen(a), lb = strlen(b);
    unsigned d[LONGEST + 1][LONGEST + 1];
    if (la > LONGEST || lb > LONGEST)
        return LONGEST;
    for (size_t i = 0; i <= la; i++)
        d[i][0] = i;
    for (size_t j = 0; j <= lb; j++)
        d[0][j] = j;
    for (size_t i = 1; i <= la; i++) {
        for (size_t j = 1; j <= lb; j++) {
            unsigned best = MIN(d[i - 1][j], d[i][j - 1]) + 1;
            best = MIN(best, d[i - 1][j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                best = MIN(best, d[i - 2][j - 2] + 1);
            d[i][j] = best;
        }
    }
    return d[la][lb];
}

const char *nearest_name(const char *text, const char *(*next)(unsigned i))
{
    const char *best = NULL, *name;
    unsigned best_distance = strlen(text) <= 3 ? 2 : strlen(text) / 3 + 2;
    for (unsigned i = 0; (name = next(i)) != NULL; i++) {
        unsigned d = distance(text, name);
        if (d < best_distance) {
            best = name;
            best_distance = d;
        }
    }
    return best;
}
