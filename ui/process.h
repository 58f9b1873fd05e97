/* The process around the emulator: background, pid file. Main thread only. */
#ifndef UI_PROCESS_H
#define UI_PROCESS_H

#include <glib.h>
#include <stdbool.h>

/*
 * Forks; returns in the child, before any thread exists. The parent waits until the child calls process_ready() and
 * then ends with 0, or with 1 if the child ends first.
 */
bool process_daemonize(GError **err);
/* Lets the parent go and leaves the terminal. Without process_daemonize() it does nothing. */
bool process_ready(GError **err);

/* Written at once; removed by process_pidfile_remove(), which is idempotent. */
bool process_pidfile_write(const char *path, GError **err);
void process_pidfile_remove(void);

#endif
