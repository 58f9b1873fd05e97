/* Keys and pointers: see input.h. Names are those of QEMU's QKeyCode enumeration. All under the VM lock. */
#include "hw/core/input.h"

#include "hw/core/machine.h"

#include <string.h>

void input_register(struct machine *m, struct input_handler *h)
{
    h->pending = false;
    m->input.handlers = g_list_prepend(m->input.handlers, h);
}

void input_unregister(struct machine *m, struct input_handler *h)
{
    m->input.handlers = g_list_remove(m->input.handlers, h);
}

void input_focus(struct machine *m, struct input_handler *h)
{
    GList *link = g_list_find(m->input.handlers, h);

    g_assert(link);
    m->input.handlers = g_list_remove_link(m->input.handlers, link);
    m->input.handlers = g_list_concat(link, m->input.handlers);
}

static struct input_handler *find_handler(const struct machine *m, enum input_kind kind)
{
    for (GList *l = m->input.handlers; l; l = l->next) {
        struct input_handler *h = l->data;
        if (h->kinds & kind)
            return h;
    }
    return NULL;
}

bool input_wanted(const struct machine *m, enum input_kind kind)
{
    return find_handler(m, kind) != NULL;
}

void input_send(struct machine *m, enum input_kind kind, int code, int value)
{
    struct input_handler *h = find_handler(m, kind);
    struct input_event e = {.kind = kind, .code = code, .value = value};

    if (!h)
        return;
    h->event(h->opaque, &e);
    h->pending = true;
}

void input_sync(struct machine *m)
{
    for (GList *l = m->input.handlers; l; l = l->next) {
        struct input_handler *h = l->data;
        if (h->pending && h->sync)
            h->sync(h->opaque);
        h->pending = false;
    }
}

void input_send_key(struct machine *m, int key, bool down)
{
    input_send(m, INPUT_KEY, key, down);
    input_sync(m);
}

/* --- Names -------------------------------------------------------------------------------------------------------- */

static const char *const names[IKEY_MAX] = {
    [IKEY_ESC] = "esc",
    [IKEY_1] = "1",
    [IKEY_2] = "2",
    [IKEY_3] = "3",
    [IKEY_4] = "4",
    [IKEY_5] = "5",
    [IKEY_6] = "6",
    [IKEY_7] = "7",
    [IKEY_8] = "8",
    [IKEY_9] = "9",
    [IKEY_0] = "0",
    [IKEY_MINUS] = "minus",
    [IKEY_EQUAL] = "equal",
    [IKEY_BACKSPACE] = "backspace",
    [IKEY_TAB] = "tab",
    [IKEY_Q] = "q",
    [IKEY_W] = "w",
    [IKEY_E] = "e",
    [IKEY_R] = "r",
    [IKEY_T] = "t",
    [IKEY_Y] = "y",
    [IKEY_U] = "u",
    [IKEY_I] = "i",
    [IKEY_O] = "o",
    [IKEY_P] = "p",
    [IKEY_LEFTBRACE] = "bracket_left",
    [IKEY_RIGHTBRACE] = "bracket_right",
    [IKEY_ENTER] = "ret",
    [IKEY_LEFTCTRL] = "ctrl",
    [IKEY_A] = "a",
    [IKEY_S] = "s",
    [IKEY_D] = "d",
    [IKEY_F] = "f",
    [IKEY_G] = "g",
    [IKEY_H] = "h",
    [IKEY_J] = "j",
    [IKEY_K] = "k",
    [IKEY_L] = "l",
    [IKEY_SEMICOLON] = "semicolon",
    [IKEY_APOSTROPHE] = "apostrophe",
    [IKEY_GRAVE] = "grave_accent",
    [IKEY_LEFTSHIFT] = "shift",
    [IKEY_BACKSLASH] = "backslash",
    [IKEY_Z] = "z",
    [IKEY_X] = "x",
    [IKEY_C] = "c",
    [IKEY_V] = "v",
    [IKEY_B] = "b",
    [IKEY_N] = "n",
    [IKEY_M] = "m",
    [IKEY_COMMA] = "comma",
    [IKEY_DOT] = "dot",
    [IKEY_SLASH] = "slash",
    [IKEY_RIGHTSHIFT] = "shift_r",
    [IKEY_KPASTERISK] = "kp_multiply",
    [IKEY_LEFTALT] = "alt",
    [IKEY_SPACE] = "spc",
    [IKEY_CAPSLOCK] = "caps_lock",
    [IKEY_F1] = "f1",
    [IKEY_F2] = "f2",
    [IKEY_F3] = "f3",
    [IKEY_F4] = "f4",
    [IKEY_F5] = "f5",
    [IKEY_F6] = "f6",
    [IKEY_F7] = "f7",
    [IKEY_F8] = "f8",
    [IKEY_F9] = "f9",
    [IKEY_F10] = "f10",
    [IKEY_NUMLOCK] = "num_lock",
    [IKEY_SCROLLLOCK] = "scroll_lock",
    [IKEY_KP7] = "kp_7",
    [IKEY_KP8] = "kp_8",
    [IKEY_KP9] = "kp_9",
    [IKEY_KPMINUS] = "kp_subtract",
    [IKEY_KP4] = "kp_4",
    [IKEY_KP5] = "kp_5",
    [IKEY_KP6] = "kp_6",
    [IKEY_KPPLUS] = "kp_add",
    [IKEY_KP1] = "kp_1",
    [IKEY_KP2] = "kp_2",
    [IKEY_KP3] = "kp_3",
    [IKEY_KP0] = "kp_0",
    [IKEY_KPDOT] = "kp_decimal",
    [IKEY_102ND] = "less",
    [IKEY_F11] = "f11",
    [IKEY_F12] = "f12",
    [IKEY_RO] = "ro",
    [IKEY_HIRAGANA] = "hiragana",
    [IKEY_HENKAN] = "henkan",
    [IKEY_KATAKANAHIRAGANA] = "katakanahiragana",
    [IKEY_MUHENKAN] = "muhenkan",
    [IKEY_KPENTER] = "kp_enter",
    [IKEY_RIGHTCTRL] = "ctrl_r",
    [IKEY_KPSLASH] = "kp_divide",
    [IKEY_SYSRQ] = "print",
    [IKEY_RIGHTALT] = "alt_r",
    [IKEY_HOME] = "home",
    [IKEY_UP] = "up",
    [IKEY_PAGEUP] = "pgup",
    [IKEY_LEFT] = "left",
    [IKEY_RIGHT] = "right",
    [IKEY_END] = "end",
    [IKEY_DOWN] = "down",
    [IKEY_PAGEDOWN] = "pgdn",
    [IKEY_INSERT] = "insert",
    [IKEY_DELETE] = "delete",
    [IKEY_MUTE] = "audiomute",
    [IKEY_VOLUMEDOWN] = "volumedown",
    [IKEY_VOLUMEUP] = "volumeup",
    [IKEY_POWER] = "power",
    [IKEY_KPEQUAL] = "kp_equals",
    [IKEY_PAUSE] = "pause",
    [IKEY_KPCOMMA] = "kp_comma",
    [IKEY_HANGEUL] = "lang1",
    [IKEY_HANJA] = "lang2",
    [IKEY_YEN] = "yen",
    [IKEY_LEFTMETA] = "meta_l",
    [IKEY_RIGHTMETA] = "meta_r",
    [IKEY_COMPOSE] = "menu",
    [IKEY_STOP] = "stop",
    [IKEY_CALC] = "calculator",
    [IKEY_SLEEP] = "sleep",
    [IKEY_WAKEUP] = "wake",
    [IKEY_MAIL] = "mail",
    [IKEY_BOOKMARKS] = "ac_bookmarks",
    [IKEY_COMPUTER] = "computer",
    [IKEY_BACK] = "ac_back",
    [IKEY_FORWARD] = "ac_forward",
    [IKEY_NEXTSONG] = "audionext",
    [IKEY_PLAYPAUSE] = "audioplay",
    [IKEY_PREVIOUSSONG] = "audioprev",
    [IKEY_STOPCD] = "audiostop",
    [IKEY_HOMEPAGE] = "ac_home",
    [IKEY_REFRESH] = "ac_refresh",
    [IKEY_SEARCH] = "find",
    [IKEY_MEDIA] = "mediaselect",
};

/* Second names that QEMU has for some. */
static const struct {
    const char *name;
    int key;
} aliases[] = {
    {"sysrq", IKEY_SYSRQ},
    {"asterisk", IKEY_KPASTERISK},
    {"enter", IKEY_ENTER},
    {"space", IKEY_SPACE},
};

int input_key_from_name(const char *name)
{
    char *end;

    for (int key = 1; key < IKEY_MAX; key++) {
        if (names[key] && g_str_equal(names[key], name))
            return key;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(aliases); i++) {
        if (g_str_equal(aliases[i].name, name))
            return aliases[i].key;
    }
    if (g_str_has_prefix(name, "0x")) {
        guint64 key = g_ascii_strtoull(name, &end, 16);
        if (end > name + 2 && !*end && key > 0 && key < IKEY_MAX)
            return key;
    }
    return -1;
}

const char *input_key_name(int key)
{
    return key > 0 && key < IKEY_MAX ? names[key] : NULL;
}
