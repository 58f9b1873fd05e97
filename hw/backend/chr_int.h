/*
 * Inside of the character back ends: what hw/backend/chr_*.c share. Nobody else includes this. All under the VM lock.
 */
#ifndef HW_BACKEND_CHR_INT_H
#define HW_BACKEND_CHR_INT_H

#include "hw/backend/chr.h"
#include "hw/core/machine.h"

#include <sys/types.h>

/* --- Options: "key=value" pairs, each to be taken once (chr_options.c) -------------------------------------------- */

struct chr_options;

/* "BACKEND,key=value,...": a value's comma is written twice; a key alone is on, "nokey" off. Never fails. */
struct chr_options *chr_options_parse(const char *text);
struct chr_options *chr_options_new(const char *backend);
void chr_options_free(struct chr_options *o);
void chr_options_set(struct chr_options *o, const char *key, const char *value);
/* Adds "key=value,..." to what is there. */
void chr_options_add(struct chr_options *o, const char *text);
const char *chr_options_backend(const struct chr_options *o);
/* The last value given, NULL if none or if it was taken already. Lent. */
const char *chr_option(struct chr_options *o, const char *key);
/* These leave *out alone if the option is not given. */
bool chr_option_bool(struct chr_options *o, const char *key, bool *out, GError **err);
bool chr_option_number(struct chr_options *o, const char *key, uint64_t max, uint64_t *out, GError **err);
/* Fails if some option was not taken: the back end does not know it. */
bool chr_options_all_used(struct chr_options *o, GError **err);
/* Sets err to "BACKEND: what"; false. */
bool chr_error(GError **err, const struct chr_options *o, const char *fmt, ...) G_GNUC_PRINTF(3, 4);

/* --- Back ends ---------------------------------------------------------------------------------------------------- */

struct chr_ops {
    const char *name;
    const char *help; /* its options, for -chardev help */
    size_t size;      /* of a struct that embeds struct chr first */
    bool (*open)(struct chr *c, struct chr_options *o, GError **err);
    void (*close)(struct chr *c); /* output is flushed; may be NULL */
    /* As much as the host takes without waiting; -1: it will never take it. NULL: write(2) to out_fd. */
    ssize_t (*write)(struct chr *c, const uint8_t *buf, size_t len);
    /* Bytes have come in through in_fd, as many as the front end takes or fewer. NULL: they go to the front end. */
    void (*input)(struct chr *c, uint8_t *buf, size_t len);
    void (*hangup)(struct chr *c); /* end of file or an error on in_fd, or a write failed; may be NULL */
    void (*accept_input)(struct chr *c); /* instead of watching in_fd */
    void (*send_break)(struct chr *c);   /* may be NULL */
    bool (*attach)(struct chr *c, const struct chr_front_ops *ops, void *opaque); /* several front ends; may be NULL */
    void (*detach)(struct chr *c, void *opaque);
};

struct chr {
    const struct chr_ops *ops;
    struct machine *machine;
    char *id, *where;
    const struct chr_front_ops *front;
    void *front_opaque;
    bool connected;
    int in_fd, out_fd; /* -1: none */
    size_t chunk;      /* most bytes for one write(2) that shall not block after poll(2) said so; 0: any */
    GSource *in_source, *out_source;
    GByteArray *queue; /* output that waits */
    bool refused;      /* a front end waits for room in it */
    int log_fd;        /* logfile=, or -1 */
};

extern const struct chr_ops chr_stdio_ops, chr_file_ops, chr_pipe_ops, chr_pty_ops, chr_null_ops, chr_socket_ops,
    chr_ringbuf_ops, chr_mux_ops;

/* Makes one that is in no table. The options are checked but stay the caller's. */
struct chr *chr_open(struct machine *m, const char *id, struct chr_options *o, GError **err);
void chr_close(struct chr *c); /* flushes and frees */
/* A multiplexer on top of `base`, which it owns. Never fails. */
struct chr *chr_mux_new(struct machine *m, const char *id, struct chr *base);
struct chr *chr_mux_base(struct chr *c); /* what it is on top of; c itself if it is no multiplexer */
struct chr *chr_alloc(struct machine *m, const struct chr_ops *ops, const char *id);

/* Takes over file descriptors (-1: none) and starts or stops watching. They stay the back end's to close. */
void chr_set_fds(struct chr *c, int in_fd, int out_fd);
/* Tells the front end, if that is news. */
void chr_set_connected(struct chr *c, bool connected);
void chr_set_where(struct chr *c, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
/* send(2) to a non-blocking socket: as much as goes, 0 if none does now, -1 on an error. */
ssize_t chr_send(int fd, const uint8_t *buf, size_t len);
/* How much the front end takes. */
size_t chr_front_room(const struct chr *c);
void chr_front_read(struct chr *c, const uint8_t *buf, size_t len);
void chr_front_event(struct chr *c, enum chr_event event);
/* Sends what is queued, as far as it goes. */
void chr_push_queue(struct chr *c);
/* Sources on the machine's loop that call fn(c) under the VM lock, again and again. */
GSource *chr_watch(struct chr *c, int fd, GIOCondition condition, void (*fn)(struct chr *c));
GSource *chr_timeout(struct chr *c, unsigned ms, void (*fn)(struct chr *c));
void chr_unwatch(GSource **source); /* destroys, drops the reference, clears */

#endif
