/*
 * Editing of a line, with the keys that readers of lines usually have: arrows, Home, End, Delete, Backspace, Ctrl-B F A E D
 * K U W P N. Tab adds to a word what all that it may become have in common; if that is nothing, it shows them. For terminals that
 * know the sequences of a VT100; echo of plain typing has none, so that it reads well in a file.
 */
#include "ui/line.h"

#include <stdbool.h>
#include <string.h>

#define LONGEST 4095
#define HISTORY 64
#define CTRL(letter) ((letter) & 0x1f)
#define ESC 27
#define RUBOUT 127

struct line {
    char *prompt;
    line_complete_fn *complete;
    GString *text;
    gsize cursor;       /* offset in it */
    GPtrArray *history; /* the last lines, oldest first */
    guint shown;        /* index in it of what is being edited; its length: a new line */
    enum { PLAIN, AFTER_ESC, AFTER_CSI } state;
    unsigned number;    /* behind ESC [ */
    bool after_cr;
};

struct line *line_new(const char *prompt, line_complete_fn *complete)
{
    struct line *l = g_new0(struct line, 1);
    l->prompt = g_strdup(prompt);
    l->complete = complete;
    l->text = g_string_new(NULL);
    l->history = g_ptr_array_new_with_free_func(g_free);
    return l;
}

void line_free(struct line *l)
{
    g_free(l->prompt);
    g_string_free(l->text, TRUE);
    g_ptr_array_free(l->history, TRUE);
    g_free(l);
}

void line_clear(struct line *l)
{
    g_string_truncate(l->text, 0);
    l->cursor = 0;
    l->shown = l->history->len;
    l->state = PLAIN;
}

/* --- Characters of UTF-8 -------------------------------------------------------------------------------------------- */

static bool continues(char byte)
{
    return ((uint8_t)byte & 0xc0) == 0x80;
}

static gsize before(const struct line *l, gsize at)
{
    while (at > 0 && continues(l->text->str[--at]))
        ;
    return at;
}

static gsize behind(const struct line *l, gsize at)
{
    while (at < l->text->len && continues(l->text->str[++at]))
        ;
    return MIN(at, l->text->len);
}

static unsigned columns_behind_cursor(const struct line *l)
{
    unsigned n = 0;
    for (gsize at = l->cursor; at < l->text->len; at++)
        n += !continues(l->text->str[at]);
    return n;
}

/* --- Showing ---------------------------------------------------------------------------------------------------------- */

void line_show(const struct line *l, GString *echo)
{
    unsigned back = columns_behind_cursor(l);
    g_string_append_printf(echo, "%s%s", l->prompt, l->text->str);
    if (back)
        g_string_append_printf(echo, "\x1b[%uD", back);
}

static void show_again(const struct line *l, GString *echo)
{
    g_string_append(echo, "\r\x1b[K");
    line_show(l, echo);
}

/* --- Editing ------------------------------------------------------------------------------------------------------------ */

static void insert(struct line *l, char byte, GString *echo)
{
    if (l->text->len == LONGEST)
        return;
    g_string_insert_c(l->text, (gssize)l->cursor++, byte);
    if (l->cursor == l->text->len)
        g_string_append_c(echo, byte);
    else if (!continues(l->text->str[l->cursor]))
        show_again(l, echo);
}

static void erase(struct line *l, gsize from, gsize to)
{
    g_string_erase(l->text, (gssize)from, (gssize)(to - from));
    l->cursor = from;
}

static void erase_word(struct line *l)
{
    gsize from = l->cursor;
    while (from > 0 && l->text->str[from - 1] == ' ')
        from--;
    while (from > 0 && l->text->str[from - 1] != ' ')
        from--;
    erase(l, from, l->cursor);
}

static void show_history(struct line *l, guint which)
{
    if (which > l->history->len)
        return;
    l->shown = which;
    g_string_assign(l->text, which < l->history->len ? l->history->pdata[which] : "");
    l->cursor = l->text->len;
}

static char *finish(struct line *l, GString *echo)
{
    char *text = g_strdup(l->text->str);
    const char *last = l->history->len ? l->history->pdata[l->history->len - 1] : "";
    if (*text && strcmp(text, last) != 0)
        g_ptr_array_add(l->history, g_strdup(text));
    if (l->history->len > HISTORY)
        g_ptr_array_remove_index(l->history, 0);
    line_clear(l);
    g_string_append(echo, "\r\n");
    return text;
}

/* --- Completion ------------------------------------------------------------------------------------------------------- */

static gsize common_length(char **words)
{
    gsize len = strlen(words[0]);
    for (char **w = words + 1; *w; w++)
        for (gsize k = 0; k < len; k++)
            if ((*w)[k] != words[0][k])
                len = k;
    return len;
}

static void show_words(const struct line *l, char **words, GString *echo)
{
    g_autofree char *text = g_strjoinv("  ", words);
    g_string_append_printf(echo, "\r\n%s\r\n", text);
    line_show(l, echo);
}

static void complete(struct line *l, GString *echo)
{
    g_autofree char *start = g_strndup(l->text->str, l->cursor);
    const char *space = strrchr(start, ' ');
    gsize typed = strlen(space ? space + 1 : start);
    g_auto(GStrv) words = l->complete ? l->complete(start) : NULL;
    if (!words || !words[0])
        return;
    gsize len = common_length(words);
    for (gsize k = typed; k < len; k++)
        insert(l, words[0][k], echo);
    if (!words[1] && l->cursor == l->text->len)
        insert(l, ' ', echo);
    else if (words[1] && len <= typed)
        show_words(l, words, echo);
}

/* --- Keys --------------------------------------------------------------------------------------------------------------- */

/* Keys, by the control character or the letter that ends their sequence. */
static void key(struct line *l, int k, GString *echo)
{
    switch (k) {
    case CTRL('a'): l->cursor = 0; break;
    case CTRL('e'): l->cursor = l->text->len; break;
    case CTRL('b'): l->cursor = before(l, l->cursor); break;
    case CTRL('f'): l->cursor = behind(l, l->cursor); break;
    case CTRL('d'): erase(l, l->cursor, behind(l, l->cursor)); break;
    case CTRL('h'):
    case RUBOUT: erase(l, before(l, l->cursor), l->cursor); break;
    case CTRL('k'): g_string_truncate(l->text, l->cursor); break;
    case CTRL('u'): erase(l, 0, l->cursor); break;
    case CTRL('w'): erase_word(l); break;
    case CTRL('p'): show_history(l, l->shown - 1); break;
    case CTRL('n'): show_history(l, l->shown + 1); break;
    default: return;
    }
    show_again(l, echo);
}

/* ESC [ letter, ESC O letter, ESC [ number ~ */
static int sequence_key(uint8_t byte, unsigned number)
{
    switch (byte) {
    case 'A': return CTRL('p');
    case 'B': return CTRL('n');
    case 'C': return CTRL('f');
    case 'D': return CTRL('b');
    case 'H': return CTRL('a');
    case 'F': return CTRL('e');
    case '~': return number == 1 || number == 7 ? CTRL('a') : number == 4 || number == 8 ? CTRL('e') : number == 3 ? CTRL('d') : 0;
    default: return 0;
    }
}

static void in_sequence(struct line *l, uint8_t byte, GString *echo)
{
    if (l->state == AFTER_ESC) {
        l->state = byte == '[' || byte == 'O' ? AFTER_CSI : PLAIN;
        l->number = 0;
    } else if (byte >= '0' && byte <= '9') {
        l->number = MIN(l->number * 10 + (byte - '0'), 1000);
    } else {
        l->state = PLAIN;
        key(l, sequence_key(byte, l->number), echo);
    }
}

char *line_feed(struct line *l, uint8_t byte, GString *echo)
{
    bool after_cr = l->after_cr;
    l->after_cr = byte == '\r';
    if (l->state != PLAIN)
        in_sequence(l, byte, echo);
    else if (byte == '\r' || (byte == '\n' && !after_cr))
        return finish(l, echo);
    else if (byte == ESC)
        l->state = AFTER_ESC;
    else if (byte == CTRL('i'))
        complete(l, echo);
    else if (byte >= ' ' && byte != RUBOUT)
        insert(l, (char)byte, echo);
    else if (byte != '\n')
        key(l, byte, echo);
    return NULL;
}
