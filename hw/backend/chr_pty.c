/*
 * A pseudo-terminal as a character back end: its name is printed, anybody may open it, close it and come back.
 *
 * While nobody has it open, poll(2) tells of a hang-up all the time: so it is looked at once a second, and output goes
 * nowhere meanwhile. All under the VM lock.
 */
#include "hw/backend/chr_int.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <stdio.h>
#include <termios.h>
#include <unistd.h>

#define LOOK_MS 1000

struct chr_pty {
    struct chr chr;
    int fd;
    GSource *look;
};

static void look(struct chr *c)
{
    struct chr_pty *p = container_of(c, struct chr_pty, chr);
    struct pollfd pfd = {.fd = p->fd, .events = POLLIN};

    if (poll(&pfd, 1, 0) < 0 || (pfd.revents & POLLHUP))
        return;
    chr_unwatch(&p->look);
    chr_set_fds(c, p->fd, p->fd);
    chr_set_connected(c, true);
}

static void hangup(struct chr *c)
{
    struct chr_pty *p = container_of(c, struct chr_pty, chr);

    chr_set_connected(c, false);
    chr_set_fds(c, -1, -1);
    if (!p->look)
        p->look = chr_timeout(c, LOOK_MS, look);
}

static ssize_t pty_write(struct chr *c, const uint8_t *buf, size_t len)
{
    struct pollfd pfd = {.fd = c->out_fd, .events = POLLOUT};
    ssize_t r;

    /*
     * With nobody there writes succeed until the kernel's buffer is full, and the next one to come would read old news.
     */
    if (poll(&pfd, 1, 0) < 0 || (pfd.revents & POLLHUP))
        return -1;
    r = write(c->out_fd, buf, len);
    return r < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : r;
}

static bool pty_open(struct chr *c, struct chr_options *o, GError **err)
{
    struct chr_pty *p = container_of(c, struct chr_pty, chr);
    struct termios t;
    char name[256];
    int other;

    if (openpty(&p->fd, &other, name, NULL, NULL) < 0)
        return chr_error(err, o, "cannot open a pseudo-terminal: %s", g_strerror(errno));
    if (tcgetattr(other, &t) == 0) {
        cfmakeraw(&t);
        tcsetattr(other, TCSAFLUSH, &t);
    }
    close(other);
    fcntl(p->fd, F_SETFD, FD_CLOEXEC);
    fcntl(p->fd, F_SETFL, fcntl(p->fd, F_GETFL) | O_NONBLOCK);
    chr_set_where(c, "pty:%s", name);
    printf("char device redirected to %s (label %s)\n", name, c->id); /* tools read this line */
    fflush(stdout);
    p->look = chr_timeout(c, LOOK_MS, look);
    return true;
}

static void pty_close(struct chr *c)
{
    struct chr_pty *p = container_of(c, struct chr_pty, chr);

    chr_unwatch(&p->look);
    chr_set_fds(c, -1, -1);
    close(p->fd);
}

const struct chr_ops chr_pty_ops = {
    .name = "pty",
    .help = "",
    .size = sizeof(struct chr_pty),
    .open = pty_open,
    .close = pty_close,
    .write = pty_write,
    .hangup = hangup,
};
