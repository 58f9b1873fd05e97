/*
 * -daemonize and -pidfile. The parent of a daemon returns to the shell only when the machine is made, so that its exit
 * code tells whether that worked.
 */
#include "ui/process.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int ready_fd = -1;
static char *pidfile;

static bool fail(GError **err, const char *what)
{
    g_set_error(err, G_FILE_ERROR, g_file_error_from_errno(errno), "%s: %s", what, g_strerror(errno));
    return false;
}

static _Noreturn void wait_for_child(int fd, pid_t child)
{
    char ok;
    ssize_t n;
    do
        n = read(fd, &ok, 1);
    while (n < 0 && errno == EINTR);
    if (n == 1)
        _exit(0);
    int status;
    waitpid(child, &status, 0);
    _exit(1);
}

bool process_daemonize(GError **err)
{
    int fds[2];
    if (pipe(fds) < 0)
        return fail(err, "-daemonize: pipe");
    fflush(NULL);
    pid_t child = fork();
    if (child < 0)
        return fail(err, "-daemonize: fork");
    if (child > 0) {
        close(fds[1]);
        wait_for_child(fds[0], child);
    }
    close(fds[0]);
    ready_fd = fds[1];
    fcntl(ready_fd, F_SETFD, FD_CLOEXEC);
    setsid();
    return true;
}

bool process_ready(GError **err)
{
    if (ready_fd < 0)
        return true;
    int null = open("/dev/null", O_RDWR);
    if (null < 0)
        return fail(err, "/dev/null");
    for (int fd = 0; fd <= 2; fd++)
        dup2(null, fd);
    if (null > 2)
        close(null);
    ssize_t n = write(ready_fd, "1", 1);
    close(ready_fd);
    ready_fd = -1;
    return n == 1 || fail(err, "-daemonize");
}

bool process_pidfile_write(const char *path, GError **err)
{
    g_autofree char *text = g_strdup_printf("%ld\n", (long)getpid());
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0) {
        g_autofree char *what = g_strdup_printf("-pidfile %s", path);
        return fail(err, what);
    }
    bool ok = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    close(fd);
    pidfile = g_canonicalize_filename(path, NULL);
    return ok || fail(err, "-pidfile");
}

void process_pidfile_remove(void)
{
    if (pidfile)
        unlink(pidfile);
    g_clear_pointer(&pidfile, g_free);
}
