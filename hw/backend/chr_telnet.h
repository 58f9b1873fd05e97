/* The telnet protocol on a connected, non-blocking socket, as far as a serial console needs it. VM lock. */
#ifndef HW_BACKEND_CHR_TELNET_H
#define HW_BACKEND_CHR_TELNET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct telnet {
    uint8_t state;    /* of the parser of what comes in */
    bool half_escape; /* the first of two 0xff has been sent */
};

/* Resets the state and asks the other side for binary, unechoed characters one at a time. */
void telnet_start(struct telnet *t, int fd);
/* Takes the protocol out of buf, in place; returns what is left. *is_break: a break was among it. */
size_t telnet_filter(struct telnet *t, uint8_t *buf, size_t len, bool *is_break);
/* Returns how many bytes of buf went out, or -1 on an error. */
ssize_t telnet_write(struct telnet *t, int fd, const uint8_t *buf, size_t len);
void telnet_send_break(int fd);

#endif
