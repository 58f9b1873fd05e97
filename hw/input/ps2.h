/*
 * PS/2 keyboard and mouse as the controller sees them: bytes out, bytes in. Embedded in hw/input/i8042.c. VM lock.
 */
#ifndef HW_INPUT_PS2_H
#define HW_INPUT_PS2_H

#include "hw/core/clock.h"
#include "hw/core/input.h"
#include "hw/core/state.h"

#include <stdbool.h>
#include <stdint.h>

struct machine;

#define PS2_QUEUE 256

/* Answers to commands. */
#define PS2_ACK 0xfa
#define PS2_RESEND 0xfe
#define PS2_SELF_TEST_PASSED 0xaa

struct ps2_queue {
    uint8_t data[PS2_QUEUE];
    uint8_t first;
    uint16_t count;
};

/* What keyboard and mouse have in common. */
struct ps2_port {
    struct machine *machine;
    void (*changed)(void *opaque); /* bytes wait in the queue */
    void *opaque;
    struct ps2_queue queue;
    uint8_t replies; /* bytes at the head of the queue that answer commands: these overtake the others */
    uint8_t last;    /* byte sent last, for Resend */
    uint8_t command; /* that waits for its argument, or 0 */
};

extern const struct state_field ps2_port_fields[];

bool ps2_port_ready(const struct ps2_port *p); /* there is a byte to take */
uint8_t ps2_port_take(struct ps2_port *p);
void ps2_port_send(struct ps2_port *p, const uint8_t *bytes, unsigned len); /* dropped if there is no room */
void ps2_port_reply(struct ps2_port *p, const uint8_t *bytes, unsigned len);
void ps2_port_clear(struct ps2_port *p);
bool ps2_port_post_load(struct ps2_port *p, GError **err);

struct ps2_keyboard {
    struct ps2_port port;
    struct input_handler input;
    struct timer typematic;
    uint8_t down[IKEY_MAX / 8]; /* keys held, by enum input_key */
    uint8_t repeating;          /* key that repeats, or 0 */
    uint8_t set, leds, rate;    /* scan code set 1..3; argument of Set LEDs; of Set Typematic Rate */
    bool scanning;
    uint8_t key_type[256]; /* in set 3, by scan code: KEY_* bits of ps2_keyboard.c */
};

extern const struct state_field ps2_keyboard_fields[];

void ps2_keyboard_init(struct ps2_keyboard *k, struct machine *m, void (*changed)(void *opaque), void *opaque);
void ps2_keyboard_fini(struct ps2_keyboard *k);
void ps2_keyboard_reset(struct ps2_keyboard *k); /* power-on, without the byte that tells of it */
void ps2_keyboard_write(struct ps2_keyboard *k, uint8_t byte);
bool ps2_keyboard_post_load(struct ps2_keyboard *k, GError **err);

struct ps2_mouse {
    struct ps2_port port;
    struct input_handler input;
    int32_t dx, dy, dz; /* movement not told yet; y is up, as in packets */
    uint8_t buttons, told_buttons;
    uint8_t status;     /* as in the first byte of Status Request */
    uint8_t resolution, sample_rate;
    uint8_t id;         /* 0: two axes, 3: wheel, 4: five buttons */
    uint8_t rates[3];   /* the last sample rates set: 200 100 80 and 200 200 80 are the knocks */
    bool wrap;
};

extern const struct state_field ps2_mouse_fields[];

void ps2_mouse_init(struct ps2_mouse *s, struct machine *m, void (*changed)(void *opaque), void *opaque);
void ps2_mouse_fini(struct ps2_mouse *s);
void ps2_mouse_reset(struct ps2_mouse *s);
void ps2_mouse_write(struct ps2_mouse *s, uint8_t byte);
/* After a byte was taken: more movement may fit into the queue. */
void ps2_mouse_continue(struct ps2_mouse *s);
bool ps2_mouse_post_load(struct ps2_mouse *s, GError **err);

#endif
