/*
 * PS/2 mouse (IBM PS/2 Hardware Interface Technical Reference, "Mouse") with Microsoft's wheel (id 3) and five-button
 * (id 4) extensions, which drivers knock for with sequences of sample rates.
 *
 * Movement is gathered while the queue has no room for a packet, so a slow guest loses none of it. The sample rate does
 * not pace packets. All under the VM lock.
 */
#include "hw/input/ps2.h"

#include "hw/core/log.h"
#include "hw/core/machine.h"

#include <string.h>

#define QUEUE_MOVEMENT 16

#define STATUS_RIGHT 0x01
#define STATUS_MIDDLE 0x02
#define STATUS_LEFT 0x04
#define STATUS_SCALE21 0x10
#define STATUS_ENABLED 0x20
#define STATUS_REMOTE 0x40

/* told in packets: bits of `buttons` */
#define BUTTON_LEFT 0x01
#define BUTTON_RIGHT 0x02
#define BUTTON_MIDDLE 0x04
#define BUTTON_SIDE 0x08
#define BUTTON_EXTRA 0x10

enum mouse_command {
    AUX_SET_SCALE11 = 0xe6,
    AUX_SET_SCALE21 = 0xe7,
    AUX_SET_RESOLUTION = 0xe8,
    AUX_STATUS_REQUEST = 0xe9,
    AUX_SET_STREAM = 0xea,
    AUX_READ_DATA = 0xeb,
    AUX_RESET_WRAP = 0xec,
    AUX_SET_WRAP = 0xee,
    AUX_SET_REMOTE = 0xf0,
    AUX_GET_ID = 0xf2,
    AUX_SET_SAMPLE = 0xf3,
    AUX_ENABLE = 0xf4,
    AUX_DISABLE = 0xf5,
    AUX_SET_DEFAULT = 0xf6,
    AUX_RESEND = 0xfe,
    AUX_RESET = 0xff,
};

static void reply(struct ps2_mouse *s, uint8_t byte)
{
    ps2_port_reply(&s->port, &byte, 1);
}

/* --- Packets ------------------------------------------------------------------------------------------------------ */

/* Scaling 2:1 of a sample in stream mode. */
static int scaled(int v)
{
    static const uint8_t small[] = {0, 1, 1, 3, 6, 9};
    int a = ABS(v), r = a < (int)G_N_ELEMENTS(small) ? small[a] : 2 * a;

    return v < 0 ? -r : r;
}

static int take(int32_t *from, int limit_low, int limit_high)
{
    int v = CLAMP(*from, limit_low, limit_high);
    *from -= v;
    return v;
}

static uint8_t fourth_byte(struct ps2_mouse *s)
{
    int dz;

    if (s->id == 3)
        return take(&s->dz, -127, 127);
    dz = take(&s->dz, -7, 7);
    return (dz & 0x0f) | (s->buttons & (BUTTON_SIDE | BUTTON_EXTRA)) << 1;
}

static void send_packet(struct ps2_mouse *s,
                        void (*send)(struct ps2_port *p, const uint8_t *bytes, unsigned len))
{
    bool scale = (s->status & STATUS_SCALE21) && !(s->status & STATUS_REMOTE);
    int dx, dy;
    uint8_t p[4];

    /* Nine bits hold -256..255; what is doubled must still fit. */
    dx = take(&s->dx, scale ? -127 : -255, scale ? 127 : 255);
    dy = take(&s->dy, scale ? -127 : -255, scale ? 127 : 255);
    if (scale) {
        dx = scaled(dx);
        dy = scaled(dy);
    }
    p[0] = 0x08 | (s->buttons & 7) | (dx < 0 ? 0x10 : 0) | (dy < 0 ? 0x20 : 0);
    p[1] = dx;
    p[2] = dy;
    if (s->id)
        p[3] = fourth_byte(s);
    else
        s->dz = 0;
    s->told_buttons = s->buttons;
    send(&s->port, p, s->id ? 4 : 3);
}

void ps2_mouse_continue(struct ps2_mouse *s)
{
    if ((s->status & (STATUS_ENABLED | STATUS_REMOTE)) != STATUS_ENABLED)
        return;
    while ((s->dx || s->dy || (s->dz && s->id) || s->buttons != s->told_buttons) &&
           s->port.queue.count + 4 <= QUEUE_MOVEMENT)
        send_packet(s, ps2_port_send);
}

static void set_button(struct ps2_mouse *s, int code, bool down)
{
    static const uint8_t bits[] = {
        [INPUT_BUTTON_LEFT] = BUTTON_LEFT, [INPUT_BUTTON_MIDDLE] = BUTTON_MIDDLE, [INPUT_BUTTON_RIGHT] = BUTTON_RIGHT,
        [INPUT_BUTTON_SIDE] = BUTTON_SIDE, [INPUT_BUTTON_EXTRA] = BUTTON_EXTRA,
    };
    uint8_t bit;

    if (code == INPUT_BUTTON_WHEEL_UP)
        s->dz -= down;
    else if (code == INPUT_BUTTON_WHEEL_DOWN)
        s->dz += down;
    if (code < 0 || code >= (int)G_N_ELEMENTS(bits))
        return;
    bit = bits[code];
    s->buttons = down ? s->buttons | bit : s->buttons & ~bit;
    if (s->id != 4)
        s->buttons &= BUTTON_LEFT | BUTTON_RIGHT | BUTTON_MIDDLE;
}

static void mouse_event(void *opaque, const struct input_event *e)
{
    struct ps2_mouse *s = opaque;

    if (e->kind == INPUT_BUTTON)
        set_button(s, e->code, e->value != 0);
    else if (e->code == INPUT_AXIS_X)
        s->dx = CLAMP((int64_t)s->dx + e->value, -0x10000, 0x10000);
    else if (e->code == INPUT_AXIS_Y)
        s->dy = CLAMP((int64_t)s->dy - e->value, -0x10000, 0x10000);
}

static void mouse_sync(void *opaque)
{
    struct ps2_mouse *s = opaque;

    s->dz = CLAMP(s->dz, -0x10000, 0x10000);
    ps2_mouse_continue(s);
}

/* --- Commands ----------------------------------------------------------------------------------------------------- */

static void forget_movement(struct ps2_mouse *s)
{
    s->dx = s->dy = s->dz = 0;
    s->told_buttons = s->buttons;
}

static void set_defaults(struct ps2_mouse *s)
{
    s->status = 0;
    s->sample_rate = 100;
    s->resolution = 2;
    s->wrap = false;
    forget_movement(s);
    ps2_port_clear(&s->port);
}

static void knock(struct ps2_mouse *s, uint8_t rate)
{
    s->sample_rate = rate;
    s->rates[0] = s->rates[1];
    s->rates[1] = s->rates[2];
    s->rates[2] = rate;
    if (!memcmp(s->rates, (const uint8_t[]){200, 100, 80}, 3) && s->id == 0)
        s->id = 3;
    else if (!memcmp(s->rates, (const uint8_t[]){200, 200, 80}, 3) && s->id == 3)
        s->id = 4;
}

static void send_status(struct ps2_mouse *s)
{
    uint8_t buttons = (s->buttons & BUTTON_LEFT ? STATUS_LEFT : 0) | (s->buttons & BUTTON_MIDDLE ? STATUS_MIDDLE : 0) |
                      (s->buttons & BUTTON_RIGHT ? STATUS_RIGHT : 0);

    ps2_port_reply(&s->port, (const uint8_t[]){PS2_ACK, s->status | buttons, s->resolution, s->sample_rate}, 4);
}

static bool argument(struct ps2_mouse *s, uint8_t byte)
{
    uint8_t command = s->port.command;

    if (!command)
        return false;
    s->port.command = 0;
    if (command == AUX_SET_SAMPLE)
        knock(s, byte);
    else
        s->resolution = byte & 3;
    reply(s, PS2_ACK);
    return true;
}

void ps2_mouse_write(struct ps2_mouse *s, uint8_t byte)
{
    if (s->wrap && byte != AUX_RESET_WRAP && byte != AUX_RESET) {
        reply(s, byte);
        return;
    }
    if (argument(s, byte))
        return;
    switch (byte) {
    case AUX_SET_SCALE11: s->status &= ~STATUS_SCALE21; break;
    case AUX_SET_SCALE21: s->status |= STATUS_SCALE21; break;
    case AUX_SET_RESOLUTION:
    case AUX_SET_SAMPLE: s->port.command = byte; break;
    case AUX_STATUS_REQUEST: send_status(s); return;
    case AUX_SET_STREAM: s->status &= ~STATUS_REMOTE; break;
    case AUX_SET_REMOTE: s->status |= STATUS_REMOTE; break;
    case AUX_READ_DATA:
        reply(s, PS2_ACK);
        send_packet(s, ps2_port_reply);
        return;
    case AUX_SET_WRAP: s->wrap = true; break;
    case AUX_RESET_WRAP: s->wrap = false; break;
    case AUX_GET_ID: ps2_port_reply(&s->port, (const uint8_t[]){PS2_ACK, s->id}, 2); return;
    case AUX_ENABLE:
        s->status |= STATUS_ENABLED;
        forget_movement(s);
        break;
    case AUX_DISABLE: s->status &= ~STATUS_ENABLED; break;
    case AUX_SET_DEFAULT: set_defaults(s); break;
    case AUX_RESEND: reply(s, s->port.last); return;
    case AUX_RESET:
        ps2_mouse_reset(s);
        ps2_port_reply(&s->port, (const uint8_t[]){PS2_ACK, PS2_SELF_TEST_PASSED, s->id}, 3);
        return;
    default:
        log_guest_error("ps2-mouse", "unknown command 0x%02x", byte);
        reply(s, PS2_RESEND);
        return;
    }
    reply(s, PS2_ACK);
}

/* --- Life --------------------------------------------------------------------------------------------------------- */

void ps2_mouse_init(struct ps2_mouse *s, struct machine *m, void (*changed)(void *opaque), void *opaque)
{
    s->port.machine = m;
    s->port.changed = changed;
    s->port.opaque = opaque;
    s->input = (struct input_handler){.name = "ps2-mouse",
                                      .kinds = INPUT_BUTTON | INPUT_REL,
                                      .event = mouse_event,
                                      .sync = mouse_sync,
                                      .opaque = s};
    input_register(m, &s->input);
}

void ps2_mouse_fini(struct ps2_mouse *s)
{
    input_unregister(s->port.machine, &s->input);
}

void ps2_mouse_reset(struct ps2_mouse *s)
{
    set_defaults(s);
    s->id = 0;
    s->port.command = s->port.last = 0;
    memset(s->rates, 0, sizeof(s->rates));
}

const struct state_field ps2_mouse_fields[] = {
    STATE_NESTED(struct ps2_mouse, port, ps2_port_fields),
    STATE_FIELD(STATE_U32, struct ps2_mouse, dx),
    STATE_FIELD(STATE_U32, struct ps2_mouse, dy),
    STATE_FIELD(STATE_U32, struct ps2_mouse, dz),
    STATE_FIELD(STATE_U8, struct ps2_mouse, buttons),
    STATE_FIELD(STATE_U8, struct ps2_mouse, told_buttons),
    STATE_FIELD(STATE_U8, struct ps2_mouse, status),
    STATE_FIELD(STATE_U8, struct ps2_mouse, resolution),
    STATE_FIELD(STATE_U8, struct ps2_mouse, sample_rate),
    STATE_FIELD(STATE_U8, struct ps2_mouse, id),
    STATE_ARRAY(STATE_U8, struct ps2_mouse, rates),
    STATE_FIELD(STATE_BOOL, struct ps2_mouse, wrap),
    STATE_FIELDS_END,
};

bool ps2_mouse_post_load(struct ps2_mouse *s, GError **err)
{
    if (!ps2_port_post_load(&s->port, err))
        return false;
    s->dx = CLAMP(s->dx, -0x10000, 0x10000);
    s->dy = CLAMP(s->dy, -0x10000, 0x10000);
    s->dz = CLAMP(s->dz, -0x10000, 0x10000);
    if (s->id == 0 || s->id == 3 || s->id == 4)
        return true;
    g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_INVAL, "PS/2 mouse: no id %u (saved state)", s->id);
    return false;
}
