/*
 * Keys and pointers on their way from a user interface to a device.
 *
 * A keyboard or mouse registers a handler with the kinds of event it understands. An event goes to the first handler in
 * focus order that takes its kind; the handler registered or focused last comes first. Key codes are those of Linux's
 * input subsystem (which evdev, SDL and libvirt can all be mapped to); names are QEMU's QKeyCode names, for `sendkey`.
 * Everything here is called under the VM lock.
 */
#ifndef HW_CORE_INPUT_H
#define HW_CORE_INPUT_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct machine;

enum input_kind {
    INPUT_KEY = 1 << 0,    /* code: enum input_key, value: 1 down, 0 up */
    INPUT_BUTTON = 1 << 1, /* code: enum input_button, value: 1 down, 0 up */
    INPUT_REL = 1 << 2,    /* code: enum input_axis, value: movement, positive is right and down */
    INPUT_ABS = 1 << 3,    /* code: enum input_axis, value: 0..INPUT_ABS_MAX */
};

#define INPUT_ABS_MAX 0x7fff

enum input_axis { INPUT_AXIS_X, INPUT_AXIS_Y };
enum input_button {
    INPUT_BUTTON_LEFT,
    INPUT_BUTTON_MIDDLE,
    INPUT_BUTTON_RIGHT,
    INPUT_BUTTON_WHEEL_UP,
    INPUT_BUTTON_WHEEL_DOWN,
    INPUT_BUTTON_SIDE,
    INPUT_BUTTON_EXTRA,
    INPUT_BUTTON_WHEEL_LEFT,
    INPUT_BUTTON_WHEEL_RIGHT,
};

struct input_event {
    enum input_kind kind;
    int code;
    int value;
};

/* Embedded in its device. */
struct input_handler {
    const char *name;
    unsigned kinds; /* mask of enum input_kind */
    void (*event)(void *opaque, const struct input_event *e);
    void (*sync)(void *opaque); /* all events of one instant have been told; may be NULL */
    void *opaque;
    bool pending; /* told of an event since the last sync */
};

struct input {
    GList *handlers; /* of struct input_handler, lent, in focus order */
};

void input_register(struct machine *m, struct input_handler *h);
void input_unregister(struct machine *m, struct input_handler *h);
void input_focus(struct machine *m, struct input_handler *h);
/* True if somebody takes that kind: a UI asks before it grabs the pointer or offers absolute positions. */
bool input_wanted(const struct machine *m, enum input_kind kind);

void input_send(struct machine *m, enum input_kind kind, int code, int value);
void input_sync(struct machine *m);
/* One key, down or up, with sync. */
void input_send_key(struct machine *m, int key, bool down);

/* "ret", "shift", "kp_enter" or a number 0x1..0xff; -1 if unknown. */
int input_key_from_name(const char *name);
const char *input_key_name(int key); /* NULL if it has none */

enum input_key {
    IKEY_ESC = 1,
    IKEY_1 = 2,
    IKEY_2 = 3,
    IKEY_3 = 4,
    IKEY_4 = 5,
    IKEY_5 = 6,
    IKEY_6 = 7,
    IKEY_7 = 8,
    IKEY_8 = 9,
    IKEY_9 = 10,
    IKEY_0 = 11,
    IKEY_MINUS = 12,
    IKEY_EQUAL = 13,
    IKEY_BACKSPACE = 14,
    IKEY_TAB = 15,
    IKEY_Q = 16,
    IKEY_W = 17,
    IKEY_E = 18,
    IKEY_R = 19,
    IKEY_T = 20,
    IKEY_Y = 21,
    IKEY_U = 22,
    IKEY_I = 23,
    IKEY_O = 24,
    IKEY_P = 25,
    IKEY_LEFTBRACE = 26,
    IKEY_RIGHTBRACE = 27,
    IKEY_ENTER = 28,
    IKEY_LEFTCTRL = 29,
    IKEY_A = 30,
    IKEY_S = 31,
    IKEY_D = 32,
    IKEY_F = 33,
    IKEY_G = 34,
    IKEY_H = 35,
    IKEY_J = 36,
    IKEY_K = 37,
    IKEY_L = 38,
    IKEY_SEMICOLON = 39,
    IKEY_APOSTROPHE = 40,
    IKEY_GRAVE = 41,
    IKEY_LEFTSHIFT = 42,
    IKEY_BACKSLASH = 43,
    IKEY_Z = 44,
    IKEY_X = 45,
    IKEY_C = 46,
    IKEY_V = 47,
    IKEY_B = 48,
    IKEY_N = 49,
    IKEY_M = 50,
    IKEY_COMMA = 51,
    IKEY_DOT = 52,
    IKEY_SLASH = 53,
    IKEY_RIGHTSHIFT = 54,
    IKEY_KPASTERISK = 55,
    IKEY_LEFTALT = 56,
    IKEY_SPACE = 57,
    IKEY_CAPSLOCK = 58,
    IKEY_F1 = 59,
    IKEY_F2 = 60,
    IKEY_F3 = 61,
    IKEY_F4 = 62,
    IKEY_F5 = 63,
    IKEY_F6 = 64,
    IKEY_F7 = 65,
    IKEY_F8 = 66,
    IKEY_F9 = 67,
    IKEY_F10 = 68,
    IKEY_NUMLOCK = 69,
    IKEY_SCROLLLOCK = 70,
    IKEY_KP7 = 71,
    IKEY_KP8 = 72,
    IKEY_KP9 = 73,
    IKEY_KPMINUS = 74,
    IKEY_KP4 = 75,
    IKEY_KP5 = 76,
    IKEY_KP6 = 77,
    IKEY_KPPLUS = 78,
    IKEY_KP1 = 79,
    IKEY_KP2 = 80,
    IKEY_KP3 = 81,
    IKEY_KP0 = 82,
    IKEY_KPDOT = 83,
    IKEY_ZENKAKUHANKAKU = 85,
    IKEY_102ND = 86,
    IKEY_F11 = 87,
    IKEY_F12 = 88,
    IKEY_RO = 89,
    IKEY_KATAKANA = 90,
    IKEY_HIRAGANA = 91,
    IKEY_HENKAN = 92,
    IKEY_KATAKANAHIRAGANA = 93,
    IKEY_MUHENKAN = 94,
    IKEY_KPJPCOMMA = 95,
    IKEY_KPENTER = 96,
    IKEY_RIGHTCTRL = 97,
    IKEY_KPSLASH = 98,
    IKEY_SYSRQ = 99, /* Print Screen */
    IKEY_RIGHTALT = 100,
    IKEY_HOME = 102,
    IKEY_UP = 103,
    IKEY_PAGEUP = 104,
    IKEY_LEFT = 105,
    IKEY_RIGHT = 106,
    IKEY_END = 107,
    IKEY_DOWN = 108,
    IKEY_PAGEDOWN = 109,
    IKEY_INSERT = 110,
    IKEY_DELETE = 111,
    IKEY_MUTE = 113,
    IKEY_VOLUMEDOWN = 114,
    IKEY_VOLUMEUP = 115,
    IKEY_POWER = 116,
    IKEY_KPEQUAL = 117,
    IKEY_PAUSE = 119,
    IKEY_KPCOMMA = 121,
    IKEY_HANGEUL = 122,
    IKEY_HANJA = 123,
    IKEY_YEN = 124,
    IKEY_LEFTMETA = 125,
    IKEY_RIGHTMETA = 126,
    IKEY_COMPOSE = 127, /* the menu key */
    IKEY_STOP = 128,
    IKEY_CALC = 140,
    IKEY_SLEEP = 142,
    IKEY_WAKEUP = 143,
    IKEY_MAIL = 155,
    IKEY_BOOKMARKS = 156,
    IKEY_COMPUTER = 157,
    IKEY_BACK = 158,
    IKEY_FORWARD = 159,
    IKEY_NEXTSONG = 163,
    IKEY_PLAYPAUSE = 164,
    IKEY_PREVIOUSSONG = 165,
    IKEY_STOPCD = 166,
    IKEY_HOMEPAGE = 172,
    IKEY_REFRESH = 173,
    IKEY_SEARCH = 217,
    IKEY_MEDIA = 226,
    IKEY_MAX = 256
};

#endif
