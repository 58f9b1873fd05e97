/*
 * A TCP or Unix socket as a character back end, as server (one client at a time) or client (with reconnect), plain or
 * with the telnet protocol (RFC 854, 855, 856, 857, 858). Telnet's part is in chr_telnet.c.
 *
 * Names are resolved when the back end is opened, and only then; all else is done from the main loop without waiting.
 * All under the VM lock.
 */
#include "hw/backend/chr_int.h"

#include "hw/backend/chr_telnet.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct chr_socket {
    struct chr chr;
    struct sockaddr_storage address;
    socklen_t address_len;
    bool server, wait, telnet, nodelay;
    uint64_t reconnect; /* seconds, 0: never */
    int listen_fd, fd;
    GSource *accept, *connecting, *retry;
    struct telnet telnet_state;
    char *unlink_path; /* the Unix socket that we made */
};

static struct chr_socket *socket_of(struct chr *c)
{
    return container_of(c, struct chr_socket, chr);
}

static int new_socket(int family)
{
    return socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

/* --- Addresses ---------------------------------------------------------------------------------------------------- */

static void describe(struct chr_socket *s)
{
    const char *kind = s->server ? ",server=on" : "";
    char host[NI_MAXHOST], port[NI_MAXSERV];
    const struct sockaddr_un *un = (const struct sockaddr_un *)&s->address;
    struct sockaddr_storage bound;
    socklen_t len = sizeof(bound);

    if (s->address.ss_family == AF_UNIX) {
        chr_set_where(&s->chr, "unix:%s%s", un->sun_path, kind);
        return;
    }
    /* Port 0 has become some port by now. */
    if (s->listen_fd < 0 || getsockname(s->listen_fd, (struct sockaddr *)&bound, &len) < 0) {
        bound = s->address;
        len = s->address_len;
    }
    if (getnameinfo((struct sockaddr *)&bound, len, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV) == 0)
        chr_set_where(&s->chr, bound.ss_family == AF_INET6 ? "%s:[%s]:%s%s" : "%s:%s:%s%s",
                      s->telnet ? "telnet" : "tcp", host, port, kind);
}

static bool unix_address(struct chr_socket *s, struct chr_options *o, const char *path, GError **err)
{
    struct sockaddr_un *un = (struct sockaddr_un *)&s->address;

    if (strlen(path) >= sizeof(un->sun_path))
        return chr_error(err, o, "path=%s: is too long for a socket (at most %zu bytes)", path,
                         sizeof(un->sun_path) - 1);
    un->sun_family = AF_UNIX;
    strcpy(un->sun_path, path);
    s->address_len = sizeof(*un);
    return true;
}

static bool inet_address(struct chr_socket *s, struct chr_options *o, GError **err)
{
    const char *host = chr_option(o, "host"), *port = chr_option(o, "port");
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = s->server ? AI_PASSIVE : 0}, *found;
    bool ipv4 = false, ipv6 = false;
    int r;

    if (!port)
        return chr_error(err, o, "needs port=PORT or path=PATH");
    if (!chr_option_bool(o, "ipv4", &ipv4, err) || !chr_option_bool(o, "ipv6", &ipv6, err))
        return false;
    hints.ai_family = ipv4 && !ipv6 ? AF_INET : ipv6 && !ipv4 ? AF_INET6 : AF_UNSPEC;
    r = getaddrinfo(host && *host ? host : s->server ? NULL : "localhost", port, &hints, &found);
    if (r)
        return chr_error(err, o, "host=%s,port=%s: %s", host ? host : "", port, gai_strerror(r));
    memcpy(&s->address, found->ai_addr, found->ai_addrlen);
    s->address_len = found->ai_addrlen;
    freeaddrinfo(found);
    return true;
}

/* --- A connection ------------------------------------------------------------------------------------------------- */

static void start_retry(struct chr_socket *s);
static void watch_listener(struct chr_socket *s);

static void disconnected(struct chr *c)
{
    struct chr_socket *s = socket_of(c);

    if (s->fd < 0)
        return;
    chr_set_fds(c, -1, -1);
    close(s->fd);
    s->fd = -1;
    chr_set_connected(c, false);
    if (s->server)
        watch_listener(s);
    else
        start_retry(s);
}

static void use_connection(struct chr_socket *s, int fd)
{
    int one = 1;

    s->fd = fd;
    if (s->nodelay && s->address.ss_family != AF_UNIX)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (s->telnet)
        telnet_start(&s->telnet_state, fd);
    chr_set_fds(&s->chr, fd, fd);
    chr_set_connected(&s->chr, true);
}

ssize_t chr_send(int fd, const uint8_t *buf, size_t len)
{
    ssize_t r = send(fd, buf, len, MSG_NOSIGNAL);
    return r < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : r;
}

static ssize_t socket_write(struct chr *c, const uint8_t *buf, size_t len)
{
    struct chr_socket *s = socket_of(c);
    return s->telnet ? telnet_write(&s->telnet_state, c->out_fd, buf, len) : chr_send(c->out_fd, buf, len);
}

static void socket_input(struct chr *c, uint8_t *buf, size_t len)
{
    struct chr_socket *s = socket_of(c);
    bool is_break = false;

    if (s->telnet)
        len = telnet_filter(&s->telnet_state, buf, len, &is_break);
    chr_front_read(c, buf, len);
    if (is_break)
        chr_front_event(c, CHR_EVENT_BREAK);
}

static void socket_break(struct chr *c)
{
    struct chr_socket *s = socket_of(c);

    if (s->telnet && s->fd >= 0)
        telnet_send_break(s->fd);
}

/* --- Server ------------------------------------------------------------------------------------------------------- */

static void on_accept(struct chr *c)
{
    struct chr_socket *s = socket_of(c);
    int fd = accept(s->listen_fd, NULL, NULL);

    if (fd < 0)
        return;
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    chr_unwatch(&s->accept); /* the next client waits in the backlog until this one has gone */
    use_connection(s, fd);
}

static void watch_listener(struct chr_socket *s)
{
    if (!s->accept)
        s->accept = chr_watch(&s->chr, s->listen_fd, G_IO_IN, on_accept);
}

/* Until the first client is there; Ctrl-C must be able to end it, and nobody else can handle that now. */
static void wait_for_client(struct chr_socket *s)
{
    struct sigaction dfl = {.sa_handler = SIG_DFL}, interrupt, terminate;
    struct pollfd p = {.fd = s->listen_fd, .events = POLLIN};

    fprintf(stderr, "trapeze: info: waiting for connection on: disconnected:%s\n", s->chr.where);
    sigaction(SIGINT, &dfl, &interrupt);
    sigaction(SIGTERM, &dfl, &terminate);
    while (s->fd < 0) {
        if (poll(&p, 1, -1) > 0)
            on_accept(&s->chr);
    }
    sigaction(SIGINT, &interrupt, NULL);
    sigaction(SIGTERM, &terminate, NULL);
}

static bool listen_now(struct chr_socket *s, struct chr_options *o, GError **err)
{
    const struct sockaddr_un *un = (const struct sockaddr_un *)&s->address;
    int one = 1;

    s->listen_fd = new_socket(s->address.ss_family);
    if (s->listen_fd < 0)
        return chr_error(err, o, "cannot make a socket: %s", g_strerror(errno));
    if (s->address.ss_family == AF_UNIX)
        unlink(un->sun_path);
    else
        setsockopt(s->listen_fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(s->listen_fd, (struct sockaddr *)&s->address, s->address_len) < 0 || listen(s->listen_fd, 1) < 0) {
        describe(s);
        return chr_error(err, o, "cannot listen on %s: %s", s->chr.where, g_strerror(errno));
    }
    if (s->address.ss_family == AF_UNIX)
        s->unlink_path = g_strdup(un->sun_path);
    describe(s);
    watch_listener(s);
    if (s->wait)
        wait_for_client(s);
    return true;
}

/* --- Client ------------------------------------------------------------------------------------------------------- */

static void connect_later(struct chr *c);

static void start_retry(struct chr_socket *s)
{
    if (s->reconnect && !s->retry)
        s->retry = chr_timeout(&s->chr, s->reconnect * 1000, connect_later);
}

static int connection_error(int fd)
{
    int error = 0;
    socklen_t len = sizeof(error);

    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0 ? errno : error;
}

static void give_up(struct chr_socket *s)
{
    close(s->fd);
    s->fd = -1;
}

static void on_connected(struct chr *c)
{
    struct chr_socket *s = socket_of(c);

    chr_unwatch(&s->connecting);
    if (connection_error(s->fd)) {
        give_up(s);
        start_retry(s);
    } else {
        use_connection(s, s->fd);
    }
}

/* True if it is connected or on its way. */
static bool start_connect(struct chr_socket *s)
{
    s->fd = new_socket(s->address.ss_family);
    if (s->fd < 0)
        return false;
    if (connect(s->fd, (struct sockaddr *)&s->address, s->address_len) == 0) {
        use_connection(s, s->fd);
        return true;
    }
    if (errno == EINPROGRESS) {
        s->connecting = chr_watch(&s->chr, s->fd, G_IO_OUT | G_IO_ERR | G_IO_HUP, on_connected);
        return true;
    }
    give_up(s);
    return false;
}

static void connect_later(struct chr *c)
{
    struct chr_socket *s = socket_of(c);

    if (start_connect(s))
        chr_unwatch(&s->retry);
}

/* Without reconnect= the other side must be there: the user is told if it is not. */
static bool connect_now(struct chr_socket *s, struct chr_options *o, GError **err)
{
    int error;

    if (s->reconnect) {
        if (!start_connect(s))
            start_retry(s);
        return true;
    }
    s->fd = new_socket(s->address.ss_family);
    if (s->fd < 0)
        return chr_error(err, o, "cannot make a socket: %s", g_strerror(errno));
    error = connect(s->fd, (struct sockaddr *)&s->address, s->address_len) < 0 ? errno : 0;
    if (error == EINPROGRESS) {
        struct pollfd p = {.fd = s->fd, .events = POLLOUT};
        while (poll(&p, 1, -1) < 0 && errno == EINTR)
            continue;
        error = connection_error(s->fd);
    }
    if (error) {
        give_up(s);
        return chr_error(err, o, "cannot connect to %s: %s", s->chr.where, g_strerror(error));
    }
    use_connection(s, s->fd);
    return true;
}

/* --- Life --------------------------------------------------------------------------------------------------------- */

static bool parse(struct chr_socket *s, struct chr_options *o, GError **err)
{
    const char *path = chr_option(o, "path");
    bool delay = true;

    if (!chr_option_bool(o, "server", &s->server, err))
        return false;
    s->wait = s->server;
    if (!chr_option_bool(o, "wait", &s->wait, err) || !chr_option_bool(o, "telnet", &s->telnet, err) ||
        !chr_option_bool(o, "delay", &delay, err) || !chr_option_bool(o, "nodelay", &s->nodelay, err) ||
        !chr_option_number(o, "reconnect", 86400, &s->reconnect, err))
        return false;
    s->nodelay |= !delay;
    if (s->wait && !s->server)
        return chr_error(err, o, "wait=on needs server=on");
    if (s->reconnect && s->server)
        return chr_error(err, o, "reconnect= is for clients: leave server=on away");
    return path ? unix_address(s, o, path, err) : inet_address(s, o, err);
}

static void socket_close(struct chr *c)
{
    struct chr_socket *s = socket_of(c);

    chr_unwatch(&s->accept);
    chr_unwatch(&s->connecting);
    chr_unwatch(&s->retry);
    chr_set_fds(c, -1, -1);
    if (s->fd >= 0)
        close(s->fd);
    if (s->listen_fd >= 0)
        close(s->listen_fd);
    if (s->unlink_path)
        unlink(s->unlink_path);
    g_free(s->unlink_path);
}

static bool socket_open(struct chr *c, struct chr_options *o, GError **err)
{
    struct chr_socket *s = socket_of(c);
    bool good;

    s->fd = s->listen_fd = -1;
    good = parse(s, o, err);
    if (good) {
        describe(s);
        good = s->server ? listen_now(s, o, err) : connect_now(s, o, err);
    }
    if (!good)
        socket_close(c);
    return good;
}

const struct chr_ops chr_socket_ops = {
    .name = "socket",
    .help = "host=HOST,port=PORT[,ipv4=on|off][,ipv6=on|off][,delay=on|off] or path=PATH\n"
            "           [,server=on|off][,wait=on|off][,telnet=on|off][,reconnect=SECONDS]",
    .size = sizeof(struct chr_socket),
    .open = socket_open,
    .close = socket_close,
    .write = socket_write,
    .input = socket_input,
    .hangup = disconnected,
    .send_break = socket_break,
};
