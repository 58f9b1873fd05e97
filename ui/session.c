/*
 * Pausing, resuming, resetting, and carrying out what the machine requests.
 */
#include "ui/session.h"

#include "accel/accel.h"
#include "hw/backend/blk.h"
#include "hw/core/vm_lock.h"

void session_pause(struct session *s, enum run_state state)
{
    vcpus_pause(s->m);
    blk_drain_all(s->m);
    clock_stop(s->m->clock);
    s->m->run_state = state;
}

void session_resume(struct session *s)
{
    s->m->run_state = RUN_STATE_RUNNING;
    clock_start(s->m->clock);
    vcpus_resume(s->m);
}

static void reset_machine(struct session *s)
{
    bool was_running = s->m->run_state == RUN_STATE_RUNNING;
    session_pause(s, RUN_STATE_PRELAUNCH);
    if (s->options.machine == MACHINE_PC)
        pc_reset(s->m);
    if (was_running)
        session_resume(s);
}

static void carry_out_one(struct session *s, enum machine_request what)
{
    struct machine *m = s->m;
    switch (what) {
    case REQUEST_NONE:
        break;
    case REQUEST_RESET:
        reset_machine(s);
        break;
    case REQUEST_SHUTDOWN:
        if (m->no_shutdown && m->exit_code == 0)
            session_pause(s, RUN_STATE_SHUTDOWN);
        else
            g_main_loop_quit(s->loop);
        break;
    case REQUEST_POWERDOWN:
        if (m->board_power_button)
            m->board_power_button(m);
        break;
    case REQUEST_PAUSE:
        session_pause(s, RUN_STATE_PAUSED);
        break;
    case REQUEST_QUIT:
        g_main_loop_quit(s->loop);
        break;
    }
}

/* On the main loop, soon after somebody called machine_request(). */
static gboolean carry_out(void *opaque)
{
    struct session *s = opaque;
    vm_lock();
    enum machine_request what;
    while ((what = machine_take_request(s->m)) != REQUEST_NONE)
        carry_out_one(s, what);
    vm_unlock();
    return G_SOURCE_REMOVE;
}

/* Any thread. */
static void on_request(struct machine *m, void *opaque)
{
    GSource *source = g_idle_source_new();
    g_source_set_priority(source, G_PRIORITY_DEFAULT);
    g_source_set_callback(source, carry_out, opaque, NULL);
    g_source_attach(source, m->loop);
    g_source_unref(source);
}

void session_listen(struct session *s)
{
    s->m->on_request = on_request;
    s->m->on_request_opaque = s;
}
