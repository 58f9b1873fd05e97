/*
 * Character back ends: option parsing, ring buffer, file, pipe, pty, socket, telnet, multiplexer, queueing, and
 * standard input and output on a terminal of our own, which must be found as it was left.
 */
#include "hw/backend/chr.h"
#include "tests/lib/device_test.h"

#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>
#include <utmp.h>

/* A front end that takes up to `room` bytes and remembers all. */
struct front {
    GString *got, *events;
    size_t room;
    unsigned writable_calls;
};

static size_t can_read(void *opaque)
{
    return ((struct front *)opaque)->room;
}

static void read_bytes(void *opaque, const uint8_t *buf, size_t len)
{
    struct front *f = opaque;
    g_assert_cmpuint(len, <=, f->room);
    f->room -= len;
    g_string_append_len(f->got, (const char *)buf, len);
}

static void event(void *opaque, enum chr_event e)
{
    g_string_append_c(((struct front *)opaque)->events, "OCBio"[e]);
}

static void writable(void *opaque)
{
    ((struct front *)opaque)->writable_calls++;
}

static const struct chr_front_ops front_ops = {can_read, read_bytes, event, writable};

static void front_init(struct front *f, struct chr *c, size_t room)
{
    *f = (struct front){.got = g_string_new(NULL), .events = g_string_new(NULL), .room = room};
    g_assert_true(chr_attach(c, &front_ops, f, NULL));
}

static void front_free(struct front *f)
{
    g_string_free(f->got, TRUE);
    g_string_free(f->events, TRUE);
}

/* Lets the loop run until the condition holds, at most a few seconds. */
#define WAIT_FOR(condition) \
    do { \
        for (int64_t end = g_get_monotonic_time() + 10000000; !(condition) && g_get_monotonic_time() < end;) \
            g_main_context_iteration(NULL, FALSE) || (g_usleep(1000), 0); \
        g_assert_true(condition); \
    } while (0)

static struct chr *make(struct machine *m, const char *option)
{
    GError *err = NULL;
    struct chr *c = chr_new_chardev(m, option, &err);
    g_assert_no_error(err);
    return c;
}

static void expect_error(struct machine *m, const char *option, const char *words)
{
    GError *err = NULL;
    g_assert_null(chr_new_chardev(m, option, &err));
    if (!strstr(err->message, words))
        g_error("'%s' gives '%s', not '%s'", option, err->message, words);
    g_error_free(err);
}

static void expect_legacy_error(struct machine *m, const char *spec, const char *words)
{
    GError *err = NULL;
    struct chr *c;
    g_assert_false(chr_new_legacy(m, "x", spec, &c, &err));
    if (!strstr(err->message, words))
        g_error("'%s' gives '%s', not '%s'", spec, err->message, words);
    g_error_free(err);
}

static void test_options(void)
{
    struct machine *m = test_machine_new();
    struct chr *c;

    make(m, "null,id=a");
    make(m, "backend=ringbuf,id=b,size=64");
    expect_error(m, "null", "id=ID");
    expect_error(m, "null,id=a", "taken");
    expect_error(m, "nonsense,id=c", "'nonsense'");
    expect_error(m, "null,id=c,foo=1", "'foo'");
    expect_error(m, "ringbuf,id=c,size=100", "power of two");
    expect_error(m, "ringbuf,id=c,size=x", "size=x");
    expect_error(m, "file,id=c", "path=");
    expect_error(m, "file,id=c,path=/nonexistent/file", "/nonexistent/file");
    expect_error(m, "file,id=c,path=/dev/null,append=maybe", "append=maybe");
    expect_error(m, "socket,id=c", "port=");
    expect_error(m, "socket,id=c,port=1,wait=on", "server=on");
    expect_error(m, "socket,id=c,path=/nonexistent/socket", "/nonexistent/socket");
    expect_error(m, "socket,id=c,host=127.0.0.1,port=1", "tcp:127.0.0.1:1");
    expect_legacy_error(m, "rubbish", "stdio");
    expect_legacy_error(m, "chardev:none", "id=none");
    expect_legacy_error(m, "tcp:nowhere", "HOST:PORT");
    g_assert_true(chr_new_legacy(m, "s0", "none", &c, NULL));
    g_assert_null(c);
    g_assert_true(chr_new_legacy(m, "s1", "chardev:b", &c, NULL));
    g_assert_true(c == chr_find(m, "b"));
    g_assert_true(chr_new_legacy(m, "s2", "null", &c, NULL));
    g_assert_cmpstr(chr_id(c), ==, "s2");
    /* One front end each. */
    struct front f, g = {0};
    front_init(&f, c, 10);
    g_assert_false(chr_attach(c, &front_ops, &g, NULL));
    chr_detach(c, &f);
    g_assert_true(chr_attach(c, &front_ops, &f, NULL));
    g_assert_cmpstr(f.events->str, ==, "OO");
    chr_detach(c, &f);
    front_free(&f);
    test_machine_free(m);
}

static char *temp_path(const char *name)
{
    static char *dir;
    if (!dir)
        dir = g_dir_make_tmp("trapeze-chr-XXXXXX", NULL);
    return g_build_filename(dir, name, NULL);
}

static void test_ringbuf(void)
{
    struct machine *m = test_machine_new();
    struct chr *c = make(m, "ringbuf,id=r,size=8");
    struct front f;
    char buf[20];

    front_init(&f, c, 3);
    g_assert_cmpuint(chr_write(c, "hello", 5), ==, 5);
    g_assert_cmpmem(buf, chr_ringbuf_read(c, buf, 3), "hel", 3);
    g_assert_cmpuint(chr_write(c, "0123456789", 10), ==, 10); /* the oldest go */
    g_assert_cmpmem(buf, chr_ringbuf_read(c, buf, sizeof(buf)), "23456789", 8);
    g_assert_cmpuint(chr_inject(c, "input", 5), ==, 3);
    g_assert_cmpstr(f.got->str, ==, "inp");
    chr_detach(c, &f);
    front_free(&f);
    test_machine_free(m);
}

static void test_file(void)
{
    struct machine *m = test_machine_new();
    g_autofree char *path = temp_path("file,with comma"), *log = temp_path("log"), *text = NULL, *logged = NULL;
    g_auto(GStrv) parts = g_strsplit(path, ",", -1);
    g_autofree char *escaped = g_strjoinv(",,", parts),
                    *option = g_strdup_printf("file,id=f,path=%s,logfile=%s", escaped, log);
    struct chr *c = make(m, option);

    for (unsigned i = 0; i < 100; i++)
        g_assert_cmpuint(chr_write(c, "0123456789", 10), ==, 10);
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    g_assert_cmpuint(strlen(text), ==, 1000);
    g_assert_true(g_file_get_contents(log, &logged, NULL, NULL));
    g_assert_cmpstr(logged, ==, text);
    test_machine_free(m);
    m = test_machine_new();
    struct chr *d;
    g_autofree char *spec = g_strdup_printf("file:%s", path);
    g_assert_true(chr_new_legacy(m, "g", spec, &d, NULL));
    chr_write(d, "new", 3);
    test_machine_free(m);
    g_free(text);
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    g_assert_cmpstr(text, ==, "new");
    unlink(path);
    unlink(log);
}

static void test_pipe(void)
{
    struct machine *m = test_machine_new();
    g_autofree char *path = temp_path("fifo"), *in = temp_path("fifo.in"), *out = temp_path("fifo.out");
    g_autofree char *option = g_strdup_printf("pipe,id=p,path=%s", path);
    struct front f;

    g_assert_cmpint(mkfifo(in, 0600), ==, 0);
    g_assert_cmpint(mkfifo(out, 0600), ==, 0);
    struct chr *c = make(m, option);
    front_init(&f, c, 2);
    int in_fd = open(in, O_WRONLY | O_NONBLOCK), out_fd = open(out, O_RDONLY | O_NONBLOCK);
    g_assert_cmpint(write(in_fd, "abcdef", 6), ==, 6);
    /* Only what the front end takes is read. */
    WAIT_FOR(f.got->len == 2);
    for (unsigned i = 0; i < 20; i++)
        g_main_context_iteration(NULL, FALSE);
    g_assert_cmpstr(f.got->str, ==, "ab");
    f.room = 10;
    chr_accept_input(c);
    WAIT_FOR(f.got->len == 6);

    chr_detach(c, &f);
    front_free(&f);
    test_machine_free(m);
    close(in_fd);
    close(out_fd);
    unlink(in);
    unlink(out);
}

static char pattern[1024];

/* Sends until no more is taken; returns how much was. */
static size_t fill(struct chr *c)
{
    size_t taken = 0, n;

    for (unsigned i = 0; i < sizeof(pattern); i++)
        pattern[i] = 'a' + i % 26;
    while ((n = chr_write(c, pattern, sizeof(pattern))) == sizeof(pattern))
        taken += n;
    return taken + n;
}

/* In a child: 0 if it could read `want` bytes. */
static pid_t start_reader(int fd, size_t want)
{
    pid_t pid = fork();

    if (pid == 0) {
        static char buf[4096];
        size_t sum = 0;
        ssize_t r;
        fcntl(fd, F_SETFL, 0);
        while (sum < want && (r = read(fd, buf, sizeof(buf))) > 0)
            sum += r;
        _exit(sum >= want ? 0 : 1);
    }
    return pid;
}

static void test_queue(void)
{
    struct machine *m = test_machine_new();
    g_autofree char *path = temp_path("queue"), *option = g_strdup_printf("pipe,id=p,path=%s", path);
    struct front f;
    static char buf[300000];

    g_assert_cmpint(mkfifo(path, 0600), ==, 0);
    struct chr *c = make(m, option);
    front_init(&f, c, 0);
    int out_fd = open(path, O_RDONLY | O_NONBLOCK), status;

    /* More than the pipe holds is queued, then refused; what was taken arrives whole. */
    size_t taken = fill(c), got = 0;
    g_assert_cmpuint(taken, >=, 0x20000 - 4096); /* 64 KiB in the pipe, 64 in the queue */
    g_assert_cmpuint(chr_write(c, "x", 1), ==, 0);
    for (int64_t end = g_get_monotonic_time() + 10000000; got < taken && g_get_monotonic_time() < end;) {
        ssize_t r = read(out_fd, buf + got, sizeof(buf) - got);
        got += r > 0 ? r : 0;
        g_main_context_iteration(NULL, FALSE);
    }
    g_assert_cmpuint(got, ==, taken);
    for (size_t i = 0; i < got; i++)
        g_assert_cmphex(buf[i], ==, pattern[i % sizeof(pattern)]);
    g_assert_cmpuint(f.writable_calls, ==, 1);
    /* What still waits at the end is flushed. */
    taken = fill(c);
    chr_detach(c, &f);
    pid_t reader = start_reader(out_fd, taken);
    test_machine_free(m);
    waitpid(reader, &status, 0);
    g_assert_cmpint(status, ==, 0);
    close(out_fd);
    unlink(path);
    front_free(&f);
}

static void test_pty(void)
{
    struct machine *m = test_machine_new();
    struct front f;
    char buf[100];
    struct chr *c = make(m, "pty,id=p");

    front_init(&f, c, 100);
    g_assert_true(g_str_has_prefix(chr_where(c), "pty:/dev/"));
    g_assert_false(chr_connected(c));
    g_assert_cmpuint(chr_write(c, "lost", 4), ==, 4); /* nobody there */
    int fd = open(chr_where(c) + 4, O_RDWR | O_NOCTTY);
    g_assert_cmpint(fd, >=, 0);
    WAIT_FOR(chr_connected(c));
    g_assert_cmpint(write(fd, "in\r", 3), ==, 3);
    WAIT_FOR(f.got->len == 3);
    g_assert_cmpstr(f.got->str, ==, "in\r");
    g_assert_cmpuint(chr_write(c, "out\n", 4), ==, 4);
    g_assert_cmpint(read(fd, buf, sizeof(buf)), ==, 4);
    close(fd);
    WAIT_FOR(!chr_connected(c));
    fd = open(chr_where(c) + 4, O_RDWR | O_NOCTTY);
    WAIT_FOR(chr_connected(c));
    g_assert_cmpstr(f.events->str, ==, "OCO");
    close(fd);
    chr_detach(c, &f);
    front_free(&f);
    test_machine_free(m);
}

static int connect_to(const char *path)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    g_strlcpy(un.sun_path, path, sizeof(un.sun_path));
    g_assert_cmpint(connect(fd, (struct sockaddr *)&un, sizeof(un)), ==, 0);
    return fd;
}

static void test_socket(void)
{
    struct machine *m = test_machine_new();
    g_autofree char *path = temp_path("socket"), *spec = g_strdup_printf("unix:%s,server,nowait", path);
    g_autofree char *option = g_strdup_printf("socket,id=client,path=%s,reconnect=1", path);
    struct chr *c, *client;
    struct front f, g;
    char buf[100];

    g_assert_true(chr_new_legacy(m, "s", spec, &c, NULL));
    front_init(&f, c, 100);
    g_assert_cmpuint(chr_write(c, "lost", 4), ==, 4);
    int fd = connect_to(path);
    WAIT_FOR(chr_connected(c));
    g_assert_cmpint(write(fd, "hello", 5), ==, 5);
    WAIT_FOR(f.got->len == 5);
    chr_write(c, "world", 5);
    g_assert_cmpint(read(fd, buf, sizeof(buf)), ==, 5);
    /* The next client waits until the first has gone, also while the guest takes no input. */
    f.room = 0;
    int second = connect_to(path);
    g_assert_cmpint(write(second, "second", 6), ==, 6);
    close(fd);
    f.room = 100;
    chr_accept_input(c);
    WAIT_FOR(f.got->len == 11);
    g_assert_cmpstr(f.events->str, ==, "OCO");
    /* A write to a client that has gone is no end of us. */
    close(second);
    f.room = 0;
    for (unsigned i = 0; i < 10; i++)
        chr_write(c, "nobody", 6);
    WAIT_FOR(!chr_connected(c));

    /* Our own client, which comes back. */
    client = make(m, option);
    front_init(&g, client, 100);
    WAIT_FOR(chr_connected(client) && chr_connected(c));
    chr_write(c, "ping", 4);
    WAIT_FOR(g.got->len == 4);
    f.room = 100;
    chr_accept_input(c);
    chr_write(client, "pong", 4);
    WAIT_FOR(f.got->len == 15);
    chr_detach(c, &f);
    chr_detach(client, &g);
    front_free(&f);
    front_free(&g);
    test_machine_free(m);
    g_assert_false(g_file_test(path, G_FILE_TEST_EXISTS));
}

static void test_tcp_and_telnet(void)
{
    struct machine *m = test_machine_new();
    struct chr *c, *client;
    struct front f, g;
    unsigned port;

    g_assert_true(chr_new_legacy(m, "s", "telnet:127.0.0.1:0,server=on,wait=off,nodelay", &c, NULL));
    g_assert_cmpint(sscanf(chr_where(c), "telnet:127.0.0.1:%u,server=on", &port), ==, 1);
    g_autofree char *spec = g_strdup_printf("tcp:127.0.0.1:%u", port);
    front_init(&f, c, 100);
    g_assert_true(chr_new_legacy(m, "c", spec, &client, NULL));
    front_init(&g, client, 100);
    /* What telnet says first, then data with its escape character doubled. */
    WAIT_FOR(g.got->len == 12);
    g_assert_cmpmem(g.got->str, 12, "\xff\xfb\x01\xff\xfb\x03\xff\xfb\x00\xff\xfd\x00", 12);
    g.room = 100;
    g_assert_cmpuint(chr_write(c, "a\xff" "b", 3), ==, 3);
    WAIT_FOR(g.got->len == 16);
    g_assert_cmpmem(g.got->str + 12, 4, "a\xff\xff" "b", 4);
    /* Negotiation, subnegotiation, an escaped 0xff and a break among data. */
    static const char mixed[] = "x\xff\xfd\x01\xff\xfa\x18\x00VT\xff\xff\xff\xf0" "y\xff\xffz\xff\xf3";
    chr_write(client, mixed, sizeof(mixed) - 1);
    WAIT_FOR(f.got->len == 4 && f.events->len == 2);
    g_assert_cmpmem(f.got->str, 4, "xy\xffz", 4);
    g_assert_cmpstr(f.events->str, ==, "OB");
    chr_send_break(c);
    WAIT_FOR(g.got->len == 18);
    g_assert_cmpmem(g.got->str + 16, 2, "\xff\xf3", 2);
    chr_detach(c, &f);
    chr_detach(client, &g);
    front_free(&f);
    front_free(&g);
    test_machine_free(m);
}

static void test_mux(void)
{
    struct machine *m = test_machine_new();
    struct chr *c = make(m, "ringbuf,id=x,mux=on");
    struct front f, g;
    char buf[1000];

    front_init(&f, c, 100);
    front_init(&g, c, 100);
    g_assert_cmpstr(f.events->str, ==, "Oi");
    g_assert_cmpstr(g.events->str, ==, "O");
    chr_write(c, "both", 4);
    g_assert_cmpmem(buf, chr_ringbuf_read(c, buf, sizeof(buf)), "both", 4);
    g_assert_cmpuint(chr_inject(c, "ab\x01\x01" "c\x01", 6), ==, 6);
    g_assert_cmpstr(f.got->str, ==, "ab\x01" "c");
    chr_inject(c, "b", 1);
    g_assert_cmpstr(f.events->str, ==, "OiB");
    chr_inject(c, "\x01" "cto the other\x01?", 16);
    g_assert_cmpstr(f.events->str, ==, "OiBo");
    g_assert_cmpstr(g.events->str, ==, "Oi");
    g_assert_cmpstr(g.got->str, ==, "to the other");
    size_t n = chr_ringbuf_read(c, buf, sizeof(buf) - 1);
    buf[n] = 0;
    g_assert_nonnull(strstr(buf, "Ctrl-a x"));
    chr_inject(c, "\x01q", 2); /* unknown: swallowed */
    g_assert_cmpstr(g.got->str, ==, "to the other");
    chr_inject(c, "\x01" "c", 2);
    /* The guest does not read: commands are seen all the same, input is kept. */
    f.room = 0;
    chr_inject(c, "later", 5);
    g_assert_cmpint(machine_take_request(m), ==, REQUEST_NONE);
    chr_inject(c, "\x01x", 2);
    g_assert_cmpint(machine_take_request(m), ==, REQUEST_QUIT);
    g_assert_cmpstr(f.got->str, ==, "ab\x01" "c");
    f.room = 2;
    chr_accept_input(c);
    g_assert_cmpstr(f.got->str, ==, "ab\x01" "cla");
    f.room = 100;
    chr_accept_input(c);
    g_assert_cmpstr(f.got->str, ==, "ab\x01" "clater");
    /* As far as the buffer goes. */
    f.room = 0;
    size_t taken = 0;
    while ((n = chr_inject(c, buf, 100)))
        taken += n;
    g_assert_cmpuint(taken, ==, 65536);
    chr_mux_set_escape(c, 2);
    chr_detach(c, &f);
    chr_inject(c, "\x01\x02" "b", 3);
    g_assert_cmpstr(g.got->str, ==, "to the other\x01");
    g_assert_cmpstr(g.events->str, ==, "OioiB");
    chr_detach(c, &g);
    front_free(&f);
    front_free(&g);
    test_machine_free(m);
}

/* --- stdio, in a child on a terminal of its own ------------------------------------------------------------------- */

/* Echoes what is typed; q makes it exit, a abort. */
static void stdio_child(const char *spec)
{
    struct machine *m = test_machine_new();
    struct front f;
    struct chr *c;

    if (!chr_new_legacy(m, "serial0", spec, &c, NULL))
        _exit(99);
    front_init(&f, c, 1000);
    chr_write(c, "ready\n", 6);
    for (;;) {
        g_main_context_iteration(NULL, TRUE);
        if (f.got->len) {
            chr_write(c, "<", 1);
            chr_write(c, f.got->str, f.got->len);
            chr_write(c, ">", 1);
            if (f.got->str[0] == 'q')
                exit(3);
            if (f.got->str[0] == 'a')
                abort();
            g_string_truncate(f.got, 0);
        }
    }
}

static void expect_text(int fd, const char *text)
{
    g_autoptr(GString) got = g_string_new(NULL);
    char c;
    while (!strstr(got->str, text)) {
        g_assert_cmpint(read(fd, &c, 1), ==, 1);
        g_string_append_c(got, c);
    }
}

/*
 * Signals may be ignored where the test starts (nohup, a job in the background), and the back end respects that. The
 * alarm ends a child that hangs.
 */
static void default_signals(void)
{
    static const int signals[] = {SIGABRT, SIGALRM, SIGHUP, SIGINT, SIGTERM};

    for (unsigned i = 0; i < G_N_ELEMENTS(signals); i++)
        signal(signals[i], SIG_DFL);
    alarm(60);
}

/* Runs the child, types, optionally sends a signal; the terminal must be as before in the end. */
static void stdio_case(const char *spec, const char *typed, const char *answer, int sent, int want_status)
{
    int master, slave, status;
    struct termios before, during, after;

    g_assert_cmpint(openpty(&master, &slave, NULL, NULL, NULL), ==, 0);
    tcgetattr(slave, &before);
    pid_t pid = fork();
    if (pid == 0) {
        close(master);
        setsid();
        login_tty(slave);
        default_signals();
        stdio_child(spec);
    }
    expect_text(master, "ready");
    tcgetattr(slave, &during);
    g_assert_cmphex(during.c_lflag & (ECHO | ICANON), ==, 0);
    g_assert_cmphex(before.c_lflag & (ECHO | ICANON), ==, ECHO | ICANON);
    g_assert_cmpint(write(master, typed, strlen(typed)), ==, (int)strlen(typed));
    if (answer)
        expect_text(master, answer);
    if (sent)
        kill(pid, sent);
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    g_assert_cmphex(status & ~0x80, ==, want_status); /* core dumped or not */
    tcgetattr(slave, &after);
    g_assert_cmphex(after.c_lflag, ==, before.c_lflag);
    g_assert_cmphex(after.c_iflag, ==, before.c_iflag);
    close(master);
    close(slave);
}

static void test_stdio(void)
{
    stdio_case("stdio", "q", "<q>", 0, 3 << 8);
    stdio_case("stdio", "\x03", NULL, 0, SIGINT); /* Ctrl-C ends it */
    stdio_case("mon:stdio", "\x03q", "<\x03", SIGTERM, SIGTERM);
    stdio_case("mon:stdio", "\x01" "b" "k\r", "<k", SIGTERM, SIGTERM);
    stdio_case("stdio", "a", "<a>", 0, SIGABRT);
    stdio_case("stdio", "k", "<k>", SIGHUP, SIGHUP);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    signal(SIGPIPE, SIG_IGN);
    g_test_add_func("/chr/options", test_options);
    g_test_add_func("/chr/ringbuf", test_ringbuf);
    g_test_add_func("/chr/file", test_file);
    g_test_add_func("/chr/pipe", test_pipe);
    g_test_add_func("/chr/queue", test_queue);
    g_test_add_func("/chr/pty", test_pty);
    g_test_add_func("/chr/socket", test_socket);
    g_test_add_func("/chr/tcp_and_telnet", test_tcp_and_telnet);
    g_test_add_func("/chr/mux", test_mux);
    g_test_add_func("/chr/stdio", test_stdio);
    return g_test_run();
}
