/*
 * PS/2 keyboard with 101 keys and more (IBM PS/2 Hardware Interface Technical Reference, "Keyboards (101- and
 * 102-key)"): scan code sets 1, 2 and 3, LEDs, typematic repeat, all commands. Also the queue that keyboard and mouse
 * share.
 *
 * A key told down that is down already is taken for the user interface's own repeat and ignored: typematic repeat is
 * made here. Not modelled: the shift codes that real keyboards put around cursor keys under Num Lock, and overrun codes
 * (what does not fit is dropped). All under the VM lock.
 */
#include "hw/input/ps2.h"

#include "hw/core/log.h"
#include "hw/core/machine.h"
#include "hw/input/ps2_codes.h"

#include <string.h>

#define PS2_ECHO 0xee

#define QUEUE_KEYS 16   /* as deep as a keyboard's buffer: makes stop here */
#define QUEUE_BREAKS 64 /* releases stop later, or keys would hang */

/* key_type[] of set 3 */
#define KEY_TYPEMATIC 1
#define KEY_BREAK 2

enum keyboard_command {
    KBD_SET_LEDS = 0xed,
    KBD_ECHO = 0xee,
    KBD_SCAN_CODE_SET = 0xf0,
    KBD_READ_ID = 0xf2,
    KBD_TYPEMATIC_RATE = 0xf3,
    KBD_ENABLE = 0xf4,
    KBD_DEFAULT_DISABLE = 0xf5,
    KBD_SET_DEFAULT = 0xf6,
    KBD_ALL_TYPEMATIC = 0xf7,
    KBD_ALL_MAKE_BREAK = 0xf8,
    KBD_ALL_MAKE = 0xf9,
    KBD_ALL_TYPEMATIC_MAKE_BREAK = 0xfa,
    KBD_KEY_TYPEMATIC = 0xfb,
    KBD_KEY_MAKE_BREAK = 0xfc,
    KBD_KEY_MAKE = 0xfd,
    KBD_RESEND = 0xfe,
    KBD_RESET = 0xff,
};

/* --- Queue -------------------------------------------------------------------------------------------------------- */

const struct state_field ps2_queue_fields[] = {
    STATE_ARRAY(STATE_BYTES, struct ps2_queue, data),
    STATE_FIELD(STATE_U8, struct ps2_queue, first),
    STATE_FIELD(STATE_U16, struct ps2_queue, count),
    STATE_FIELDS_END,
};

const struct state_field ps2_port_fields[] = {
    STATE_NESTED(struct ps2_port, queue, ps2_queue_fields),
    STATE_FIELD(STATE_U8, struct ps2_port, replies),
    STATE_FIELD(STATE_U8, struct ps2_port, last),
    STATE_FIELD(STATE_U8, struct ps2_port, command),
    STATE_FIELDS_END,
};

bool ps2_port_ready(const struct ps2_port *p)
{
    return p->queue.count != 0;
}

uint8_t ps2_port_take(struct ps2_port *p)
{
    struct ps2_queue *q = &p->queue;

    g_assert(q->count);
    p->last = q->data[q->first];
    q->first++; /* wraps with its type */
    q->count--;
    if (p->replies)
        p->replies--;
    return p->last;
}

void ps2_port_send(struct ps2_port *p, const uint8_t *bytes, unsigned len)
{
    struct ps2_queue *q = &p->queue;

    if (q->count + len > PS2_QUEUE)
        return;
    for (unsigned i = 0; i < len; i++)
        q->data[(q->first + q->count++) % PS2_QUEUE] = bytes[i];
    p->changed(p->opaque);
}

void ps2_port_reply(struct ps2_port *p, const uint8_t *bytes, unsigned len)
{
    struct ps2_queue *q = &p->queue;

    if (q->count + len > PS2_QUEUE)
        return;
    for (unsigned i = q->count; i > p->replies; i--)
        q->data[(q->first + i - 1 + len) % PS2_QUEUE] = q->data[(q->first + i - 1) % PS2_QUEUE];
    for (unsigned i = 0; i < len; i++)
        q->data[(q->first + p->replies++) % PS2_QUEUE] = bytes[i];
    q->count += len;
    p->changed(p->opaque);
}

void ps2_port_clear(struct ps2_port *p)
{
    p->queue.first = p->queue.count = 0;
    p->replies = 0;
}

bool ps2_port_post_load(struct ps2_port *p, GError **err)
{
    if (p->queue.count <= PS2_QUEUE && p->replies <= p->queue.count)
        return true;
    g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_INVAL, "PS/2 port: impossible queue in the saved state");
    return false;
}

static void reply(struct ps2_keyboard *k, uint8_t byte)
{
    ps2_port_reply(&k->port, &byte, 1);
}

/* --- Scan codes --------------------------------------------------------------------------------------------------- */

struct code {
    uint8_t bytes[8];
    unsigned len;
};

static void put(struct code *c, uint8_t byte)
{
    c->bytes[c->len++] = byte;
}

/* One code of set 1 or 2, from the set 1 code (0xe0 in the upper byte for the keys that came later). */
static void put_key(struct code *c, unsigned set, uint16_t set1, bool down)
{
    if (set1 >> 8)
        put(c, set1 >> 8);
    if (set == 1) {
        put(c, (set1 & 0xff) | (down ? 0 : 0x80));
    } else {
        if (!down)
            put(c, 0xf0);
        put(c, ps2_set2_of_set1(set1 & 0xff));
    }
}

static bool is_down(const struct ps2_keyboard *k, int key)
{
    return k->down[key / 8] & 1 << key % 8;
}

static bool either(const struct ps2_keyboard *k, int key, int other)
{
    return is_down(k, key) || is_down(k, other);
}

/* Print Screen brings its own shift along, unless one is held; with Alt it is SysRq. */
static void put_print(const struct ps2_keyboard *k, struct code *c, bool down)
{
    bool shift = either(k, IKEY_LEFTSHIFT, IKEY_RIGHTSHIFT) || either(k, IKEY_LEFTCTRL, IKEY_RIGHTCTRL);

    if (either(k, IKEY_LEFTALT, IKEY_RIGHTALT)) {
        put_key(c, k->set, 0x54, down);
        return;
    }
    if (down && !shift)
        put_key(c, k->set, 0xe02a, true);
    put_key(c, k->set, 0xe037, down);
    if (!down && !shift)
        put_key(c, k->set, 0xe02a, false);
}

/* Pause sends make and break at once; with Ctrl it is Break. */
static void put_pause(const struct ps2_keyboard *k, struct code *c, bool down)
{
    if (!down)
        return;
    if (either(k, IKEY_LEFTCTRL, IKEY_RIGHTCTRL)) {
        put_key(c, k->set, 0xe046, true);
        put_key(c, k->set, 0xe046, false);
        return;
    }
    put_key(c, k->set, 0xe11d, true);
    put_key(c, k->set, 0x45, true);
    put_key(c, k->set, 0xe11d, false);
    put_key(c, k->set, 0x45, false);
}

static void put_set3(const struct ps2_keyboard *k, struct code *c, int key, bool down)
{
    uint8_t code = ps2_set3_codes[key];

    if (!code || (!down && !(k->key_type[code] & KEY_BREAK)))
        return;
    if (!down)
        put(c, 0xf0);
    put(c, code);
}

static void encode(const struct ps2_keyboard *k, struct code *c, int key, bool down)
{
    c->len = 0;
    if (k->set == 3)
        put_set3(k, c, key, down);
    else if (key == IKEY_SYSRQ)
        put_print(k, c, down);
    else if (key == IKEY_PAUSE)
        put_pause(k, c, down);
    else if (ps2_set1_codes[key])
        put_key(c, k->set, ps2_set1_codes[key], down);
}

static void send_key(struct ps2_keyboard *k, int key, bool down)
{
    struct code c;

    encode(k, &c, key, down);
    if (c.len && k->port.queue.count + c.len <= (down ? QUEUE_KEYS : QUEUE_BREAKS))
        ps2_port_send(&k->port, c.bytes, c.len);
}

/* --- Typematic ---------------------------------------------------------------------------------------------------- */

/* Bits 6:5: delay of 250 to 1000 ms; 4:0: period of (8 + A) * 2^B / 240 s. */
static int64_t typematic_delay(const struct ps2_keyboard *k)
{
    return ((k->rate >> 5 & 3) + 1) * (NS_PER_SECOND / 4);
}

static int64_t typematic_period(const struct ps2_keyboard *k)
{
    return (int64_t)(8 + (k->rate & 7)) * (1 << (k->rate >> 3 & 3)) * NS_PER_SECOND / 240;
}

static bool repeats(const struct ps2_keyboard *k, int key)
{
    if (k->set == 3)
        return k->key_type[ps2_set3_codes[key]] & KEY_TYPEMATIC;
    return key != IKEY_PAUSE;
}

static void stop_repeating(struct ps2_keyboard *k)
{
    k->repeating = 0;
    timer_cancel(&k->typematic);
}

static void repeat(void *opaque)
{
    struct ps2_keyboard *k = opaque;

    /* Late or stopped for a while: the time missed is not made up for. */
    timer_set(&k->typematic, clock_now(k->port.machine->clock) + typematic_period(k));
    if (!k->port.queue.count)
        send_key(k, k->repeating, true);
}

static void key_event(void *opaque, const struct input_event *e)
{
    struct ps2_keyboard *k = opaque;
    bool down = e->value != 0;

    if (e->code <= 0 || e->code >= IKEY_MAX || is_down(k, e->code) == down)
        return;
    if (!k->scanning) {
        k->down[e->code / 8] &= ~(down ? 0 : 1 << e->code % 8);
        return;
    }
    /* Modifiers are looked at as they were before: the key is none itself, or its own release comes first. */
    send_key(k, e->code, down);
    k->down[e->code / 8] ^= 1 << e->code % 8;
    if (down && repeats(k, e->code)) {
        k->repeating = e->code;
        timer_set(&k->typematic, clock_now(k->port.machine->clock) + typematic_delay(k));
    } else if (k->repeating == e->code || down) {
        stop_repeating(k);
    }
}

/* --- Commands ----------------------------------------------------------------------------------------------------- */

static void set_defaults(struct ps2_keyboard *k)
{
    k->set = 2;
    k->rate = 0x2b; /* 500 ms, 10.9 per second */
    memset(k->key_type, KEY_TYPEMATIC | KEY_BREAK, sizeof(k->key_type));
    stop_repeating(k);
    ps2_port_clear(&k->port);
}

static uint8_t key_type_of(uint8_t command)
{
    switch (command) {
    case KBD_ALL_TYPEMATIC:
    case KBD_KEY_TYPEMATIC: return KEY_TYPEMATIC;
    case KBD_ALL_MAKE_BREAK:
    case KBD_KEY_MAKE_BREAK: return KEY_BREAK;
    case KBD_ALL_MAKE:
    case KBD_KEY_MAKE: return 0;
    default: return KEY_TYPEMATIC | KEY_BREAK;
    }
}

/* True if the byte was the argument of the command that waits for one. */
static bool argument(struct ps2_keyboard *k, uint8_t byte)
{
    uint8_t command = k->port.command;

    if (!command)
        return false;
    k->port.command = 0;
    if (byte >= KBD_SET_LEDS)
        return false; /* a command where an argument should be ends the one before */
    switch (command) {
    case KBD_SET_LEDS: k->leds = byte & 7; break;
    case KBD_TYPEMATIC_RATE: k->rate = byte & 0x7f; break;
    case KBD_SCAN_CODE_SET:
        if (byte > 3) {
            reply(k, PS2_RESEND);
            return true;
        }
        reply(k, PS2_ACK);
        if (byte == 0)
            reply(k, k->set);
        else
            k->set = byte;
        return true;
    default:
        k->key_type[byte] = key_type_of(command);
        k->port.command = command; /* more keys may follow */
        break;
    }
    reply(k, PS2_ACK);
    return true;
}

void ps2_keyboard_write(struct ps2_keyboard *k, uint8_t byte)
{
    if (argument(k, byte))
        return;
    switch (byte) {
    case KBD_ECHO: reply(k, PS2_ECHO); return;
    case KBD_RESEND: reply(k, k->port.last); return;
    case KBD_SET_LEDS:
    case KBD_SCAN_CODE_SET:
    case KBD_TYPEMATIC_RATE:
    case KBD_KEY_TYPEMATIC:
    case KBD_KEY_MAKE_BREAK:
    case KBD_KEY_MAKE:
        k->port.command = byte;
        stop_repeating(k);
        break;
    case KBD_READ_ID: ps2_port_reply(&k->port, (const uint8_t[]){PS2_ACK, 0xab, 0x83}, 3); return;
    case KBD_ENABLE:
        ps2_port_clear(&k->port);
        k->scanning = true;
        break;
    case KBD_DEFAULT_DISABLE:
        set_defaults(k);
        k->scanning = false;
        break;
    case KBD_SET_DEFAULT: set_defaults(k); break;
    case KBD_ALL_TYPEMATIC:
    case KBD_ALL_MAKE_BREAK:
    case KBD_ALL_MAKE:
    case KBD_ALL_TYPEMATIC_MAKE_BREAK: memset(k->key_type, key_type_of(byte), sizeof(k->key_type)); break;
    case KBD_RESET:
        ps2_keyboard_reset(k);
        ps2_port_reply(&k->port, (const uint8_t[]){PS2_ACK, PS2_SELF_TEST_PASSED}, 2);
        return;
    default:
        log_guest_error("ps2-kbd", "unknown command 0x%02x", byte);
        reply(k, PS2_RESEND);
        return;
    }
    reply(k, PS2_ACK);
}

/* --- Life --------------------------------------------------------------------------------------------------------- */

void ps2_keyboard_init(struct ps2_keyboard *k, struct machine *m, void (*changed)(void *opaque), void *opaque)
{
    k->port.machine = m;
    k->port.changed = changed;
    k->port.opaque = opaque;
    timer_init(&k->typematic, m->clock, repeat, k);
    k->input = (struct input_handler){.name = "ps2-kbd", .kinds = INPUT_KEY, .event = key_event, .opaque = k};
    input_register(m, &k->input);
}

void ps2_keyboard_fini(struct ps2_keyboard *k)
{
    timer_cancel(&k->typematic);
    input_unregister(k->port.machine, &k->input);
}

void ps2_keyboard_reset(struct ps2_keyboard *k)
{
    set_defaults(k);
    k->scanning = true;
    k->leds = 0;
    k->port.command = k->port.last = 0;
    memset(k->down, 0, sizeof(k->down));
}

const struct state_field ps2_keyboard_fields[] = {
    STATE_NESTED(struct ps2_keyboard, port, ps2_port_fields),
    STATE_FIELD(STATE_TIMER, struct ps2_keyboard, typematic),
    STATE_ARRAY(STATE_BYTES, struct ps2_keyboard, down),
    STATE_FIELD(STATE_U8, struct ps2_keyboard, repeating),
    STATE_FIELD(STATE_U8, struct ps2_keyboard, set),
    STATE_FIELD(STATE_U8, struct ps2_keyboard, leds),
    STATE_FIELD(STATE_U8, struct ps2_keyboard, rate),
    STATE_FIELD(STATE_BOOL, struct ps2_keyboard, scanning),
    STATE_ARRAY(STATE_BYTES, struct ps2_keyboard, key_type),
    STATE_FIELDS_END,
};

bool ps2_keyboard_post_load(struct ps2_keyboard *k, GError **err)
{
    if (!ps2_port_post_load(&k->port, err))
        return false;
    if (k->set >= 1 && k->set <= 3)
        return true;
    g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_INVAL, "PS/2 keyboard: no scan code set %u (saved state)", k->set);
    return false;
}
