/*
 * The terminal (or whatever standard input and output are) as a character back end, in raw mode.
 *
 * The terminal outlives us and is shared with the shell, so it is put back whatever happens: at exit, on signals that
 * end the process, and while it is stopped. That state is the process's, as the terminal is; there can be one such back
 * end.
 */
#include "hw/backend/chr_int.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

/* Bytes for which a terminal that poll(2) calls writable has room; a pipe then has PIPE_BUF. */
#define TERMINAL_CHUNK 128
#define PIPE_CHUNK 4096

static struct {
    struct termios found, raw;
    volatile sig_atomic_t changed; /* the terminal is in raw mode by our doing */
    bool used;
} terminal;

static const int fatal_signals[] = {SIGABRT, SIGBUS, SIGFPE, SIGHUP, SIGILL,  SIGINT,
                                    SIGQUIT, SIGSEGV, SIGSYS, SIGTERM, SIGXCPU, SIGXFSZ};

/* A background process that touches the terminal would be stopped by SIGTTOU. */
static void set_terminal(const struct termios *t)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN}, before;
    int e = errno;

    sigaction(SIGTTOU, &ignore, &before);
    tcsetattr(STDIN_FILENO, TCSANOW, t);
    sigaction(SIGTTOU, &before, NULL);
    errno = e;
}

void chr_restore_terminal(void)
{
    if (terminal.changed) {
        terminal.changed = 0;
        set_terminal(&terminal.found);
    }
}

static void on_fatal_signal(int signal_number)
{
    struct sigaction action = {.sa_handler = SIG_DFL};

    chr_restore_terminal();
    sigaction(signal_number, &action, NULL);
    raise(signal_number);
}

static void on_stop(int signal_number)
{
    int e = errno;

    if (terminal.changed)
        set_terminal(&terminal.found);
    raise(SIGSTOP);
    errno = e;
}

static void on_continue(int signal_number)
{
    if (terminal.changed)
        set_terminal(&terminal.raw);
}

/* Only where nobody else has a handler: the main program ends cleanly on some of these, an engine uses SIGSEGV. */
static void handle_if_default(int signal_number, void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_NODEFER}, before;

    if (sigaction(signal_number, NULL, &before) == 0 && !(before.sa_flags & SA_SIGINFO) &&
        before.sa_handler == SIG_DFL)
        sigaction(signal_number, &action, NULL);
}

static void watch_signals(void)
{
    static bool done;

    if (done)
        return;
    done = true;
    atexit(chr_restore_terminal);
    for (unsigned i = 0; i < G_N_ELEMENTS(fatal_signals); i++)
        handle_if_default(fatal_signals[i], on_fatal_signal);
    handle_if_default(SIGTSTP, on_stop);
    handle_if_default(SIGCONT, on_continue);
}

static void make_raw(bool signals)
{
    struct termios *t = &terminal.raw;

    if (tcgetattr(STDIN_FILENO, &terminal.found) < 0)
        return; /* no terminal: nothing to do */
    watch_signals();
    *t = terminal.found;
    t->c_iflag &= ~(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
    t->c_oflag |= OPOST;
    t->c_lflag &= ~(ECHO | ECHONL | ICANON | IEXTEN);
    if (!signals)
        t->c_lflag &= ~ISIG;
    t->c_cflag = (t->c_cflag & ~(CSIZE | PARENB)) | CS8;
    t->c_cc[VMIN] = 1;
    t->c_cc[VTIME] = 0;
    terminal.changed = 1;
    set_terminal(t);
}

static bool stdio_open(struct chr *c, struct chr_options *o, GError **err)
{
    bool signals = true;

    if (terminal.used)
        return chr_error(err, o, "is used by another character device already; -serial mon:stdio has serial port and monitor on it");
    if (!chr_option_bool(o, "signal", &signals, err))
        return false;
    terminal.used = true;
    make_raw(signals);
    c->chunk = isatty(STDOUT_FILENO) ? TERMINAL_CHUNK : PIPE_CHUNK;
    chr_set_fds(c, STDIN_FILENO, STDOUT_FILENO);
    c->connected = true;
    return true;
}

static void stdio_close(struct chr *c)
{
    chr_set_fds(c, -1, -1);
    chr_restore_terminal();
    terminal.used = false;
}

const struct chr_ops chr_stdio_ops = {
    .name = "stdio",
    .help = "[signal=on|off]",
    .size = sizeof(struct chr),
    .open = stdio_open,
    .close = stdio_close,
};
