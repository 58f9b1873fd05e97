/*
 * Character back ends: where a serial port's or console's bytes go on the host, and come from.
 *
 * A chr belongs to its machine and has one front end (a device, or a multiplexer with several). Front-end functions are
 * called with the VM lock held, from the main loop or from within chr_accept_input() and chr_attach(); chr_* functions
 * are called under the VM lock, by any thread. Nothing blocks: output that the host does not take at once is queued
 * (bounded; what a front end sends beyond it is refused, and it is told when there is room) and flushed when the chr is
 * freed.
 */
#ifndef HW_BACKEND_CHR_H
#define HW_BACKEND_CHR_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct chr;
struct machine;

enum chr_event {
    CHR_EVENT_OPENED, /* the other side is there: terminal opened, client connected */
    CHR_EVENT_CLOSED,
    CHR_EVENT_BREAK,  /* a serial break is received */
    CHR_EVENT_FOCUS_IN, /* this front end of a multiplexer is now the one that gets input */
    CHR_EVENT_FOCUS_OUT,
};

struct chr_front_ops {
    size_t (*can_read)(void *opaque); /* how many bytes it takes now */
    void (*read)(void *opaque, const uint8_t *buf, size_t len); /* at most that many */
    void (*event)(void *opaque, enum chr_event event); /* may be NULL */
    void (*writable)(void *opaque); /* there is room again after chr_write() took less than all; may be NULL */
};

/* --- Making ------------------------------------------------------------------------------------------------------- */

/* -chardev "socket,id=foo,port=1234,host=...,server=on". The id becomes a name for PROP_CHR and chardev:ID. */
struct chr *chr_new_chardev(struct machine *m, const char *option, GError **err);
/*
 * -serial, -debugcon, -monitor: "stdio", "mon:stdio", "none", "null", "pty", "file:PATH", "pipe:PATH", "tcp:...",
 * "telnet:...", "unix:PATH,server,nowait", "chardev:ID", "ringbuf". `id` names what is made ("serial0"). "none" gives
 * *out == NULL and true.
 */
bool chr_new_legacy(struct machine *m, const char *id, const char *spec, struct chr **out, GError **err);
/* The chr with that id, or NULL. */
struct chr *chr_find(struct machine *m, const char *id);
/* machine_free flushes and closes all back ends, after its devices are gone: it frees the table machine.chrs. */
void chr_help(GString *out); /* -chardev help */
/*
 * Puts the terminal back as it was found; async-signal-safe and idempotent. Called at exit and from fatal signals by
 * chr_stdio itself; the main program may call it before it prints its last words.
 */
void chr_restore_terminal(void);

/* --- Use by front ends -------------------------------------------------------------------------------------------- */

/* Takes the chr (or a place on its multiplexer). Fails if another front end has it. */
bool chr_attach(struct chr *c, const struct chr_front_ops *ops, void *opaque, GError **err);
void chr_detach(struct chr *c, void *opaque);
/* Returns how much was taken (sent or queued): less than len only when the queue is full. Nobody there takes all. */
size_t chr_write(struct chr *c, const void *buf, size_t len);
void chr_send_break(struct chr *c);
/* The front end that can_read() now says more than before. */
void chr_accept_input(struct chr *c);
bool chr_connected(const struct chr *c);
const char *chr_id(const struct chr *c);
/* Where it ended up, for messages: "pty:/dev/pts/3", "tcp:127.0.0.1:4321,server". Lent. */
const char *chr_where(const struct chr *c);
/* Ring buffer only: copies out and removes what was written, at most `len`. */
size_t chr_ringbuf_read(struct chr *c, void *buf, size_t len);
/* As if the host had sent these bytes: input of a ring buffer or null chr (tests, monitor). Returns what was taken. */
size_t chr_inject(struct chr *c, const void *buf, size_t len);

/*
 * "mon:stdio" and mux=on make a multiplexer: Ctrl-a h helps, Ctrl-a x requests REQUEST_QUIT, Ctrl-a c goes to the next
 * front end, Ctrl-a b sends a break, Ctrl-a Ctrl-a sends Ctrl-a. -echr sets another escape character; no effect on
 * others.
 */
void chr_mux_set_escape(struct chr *mux, uint8_t escape);
/* Do front ends share it? Then CHR_EVENT_FOCUS_IN tells one that it is seen; otherwise it always is. */
bool chr_is_mux(const struct chr *c);

#endif
