/*
 * One run of the program: options, machine, main loop, and what the machine and the user ask for while it runs.
 *
 * All on the main loop's thread, with the VM lock held unless said otherwise.
 */
#ifndef UI_SESSION_H
#define UI_SESSION_H

#include "hw/core/machine.h"
#include "ui/options.h"

struct session {
    struct options options;
    struct machine *m;
    GMainLoop *loop;
    GPtrArray *monitors; /* struct monitor *, owned; ui/monitor.h */
    int exit_code;
};

/* Has requests of the machine carried out on its loop, soon after somebody called machine_request(). */
void session_listen(struct session *s);
/* vCPUs and virtual time stand still; `state` says why. Idempotent. */
void session_pause(struct session *s, enum run_state state);
void session_resume(struct session *s);

#endif
