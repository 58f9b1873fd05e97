/*
 * Telnet: RFC 854 (protocol), 856 (binary), 857 (echo), 858 (suppress go-ahead). We state what we do and want, and
 * ignore the answers: a client that refuses still works, with its own line editing. All under the VM lock.
 */
#include "hw/backend/chr_telnet.h"

#include "hw/backend/chr_int.h"

#include <string.h>

#define IAC 255
#define DONT 254
#define DO 253
#define WONT 252
#define WILL 251
#define SB 250
#define BREAK 243
#define SE 240

#define OPTION_BINARY 0
#define OPTION_ECHO 1
#define OPTION_SUPPRESS_GO_AHEAD 3

enum state { DATA, COMMAND, OPTION, SUBNEGOTIATION, SUBNEGOTIATION_COMMAND };

void telnet_start(struct telnet *t, int fd)
{
    static const uint8_t hello[] = {IAC, WILL, OPTION_ECHO,   IAC, WILL, OPTION_SUPPRESS_GO_AHEAD,
                                    IAC, WILL, OPTION_BINARY, IAC, DO,   OPTION_BINARY};

    *t = (struct telnet){0};
    chr_send(fd, hello, sizeof(hello)); /* a fresh connection has room for these few bytes */
}

static bool take(struct telnet *t, uint8_t byte, bool *is_break)
{
    switch (t->state) {
    case COMMAND:
        if (byte >= WILL && byte <= DONT) {
            t->state = OPTION;
        } else if (byte == SB) {
            t->state = SUBNEGOTIATION;
        } else {
            t->state = DATA;
            *is_break |= byte == BREAK;
            return byte == IAC;
        }
        return false;
    case OPTION: t->state = DATA; return false;
    case SUBNEGOTIATION:
        if (byte == IAC)
            t->state = SUBNEGOTIATION_COMMAND;
        return false;
    case SUBNEGOTIATION_COMMAND: t->state = byte == SE ? DATA : SUBNEGOTIATION; return false;
    default:
        if (byte == IAC)
            t->state = COMMAND;
        return byte != IAC;
    }
}

size_t telnet_filter(struct telnet *t, uint8_t *buf, size_t len, bool *is_break)
{
    size_t out = 0;

    for (size_t i = 0; i < len; i++) {
        uint8_t byte = buf[i];
        if (take(t, byte, is_break))
            buf[out++] = byte;
    }
    return out;
}

ssize_t telnet_write(struct telnet *t, int fd, const uint8_t *buf, size_t len)
{
    size_t done = 0;

    while (done < len) {
        const uint8_t *iac = memchr(buf + done, IAC, len - done);
        size_t plain = (iac ? (size_t)(iac - buf) : len) - done;
        ssize_t r;
        if (plain) {
            r = chr_send(fd, buf + done, plain);
            if (r < 0)
                return -1;
            done += r;
            if ((size_t)r < plain)
                break;
            continue;
        }
        /* A 0xff goes out twice. If only its first half does, the byte counts when the second has followed. */
        r = chr_send(fd, (const uint8_t[]){IAC, IAC}, t->half_escape ? 1 : 2);
        if (r < 0)
            return -1;
        if (r == 0)
            break;
        t->half_escape = !t->half_escape && r == 1;
        if (t->half_escape)
            break;
        done++;
    }
    return done;
}

void telnet_send_break(int fd)
{
    chr_send(fd, (const uint8_t[]){IAC, BREAK}, 2);
}
