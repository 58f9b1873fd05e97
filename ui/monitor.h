/*
 * The monitor: commands typed on a character device. -monitor, -mon, and beside the serial port on mon:stdio.
 */
#ifndef UI_MONITOR_H
#define UI_MONITOR_H

#include <glib.h>

struct chr;
struct monitor;
struct session;

/* Fails if somebody else has the chr and it is no multiplexer. VM lock. */
struct monitor *monitor_new(struct session *s, struct chr *c, GError **err);
void monitor_free(void *mon);

#endif
