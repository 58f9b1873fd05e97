/*
 * Shifts: from one engine to another while the guest runs.
 *
 * Nothing is converted: whenever a vCPU is paused, its state is in struct cpu and the devices, where any engine finds it. A shift
 * is a pause with another engine behind it. Virtual time goes on meanwhile, as for a processor that its host does not run for a
 * moment; timers and interrupts that come up wait in the devices and in cpu->events.
 *
 * For tests, shifts at random instants: -accel auto,shift=MS,seed=N. Intervals and engines come from one generator of random
 * numbers, so that a seed repeats them; intervals are exponentially distributed, in virtual time.
 *
 * Main loop's thread, VM lock.
 */
#include "accel/vcpu.h"

#include "hw/core/clock.h"
#include "hw/core/event.h"
#include "hw/core/machine.h"
#include "hw/core/opts.h"
#include "hw/core/vm_lock.h"

#include <math.h>

#define INTERVAL_MAX_MS 1000000

struct shifts {
    struct machine *machine;
    uint64_t count;
    int64_t total_ns, longest_ns; /* that vCPUs stood still for it, in virtual time */
    int64_t since;                /* virtual time of the last one */
    uint64_t interval_ms;         /* of random shifts; 0: there are none */
    uint64_t seed;
    GRand *random;
    struct timer timer;
};

static void shift_at_random(void *opaque);

struct shifts *shifts_new(struct machine *m)
{
    struct shifts *s = g_new0(struct shifts, 1);
    s->machine = m;
    timer_init(&s->timer, m->clock, shift_at_random, s);
    return s;
}

void shifts_free(struct shifts *s)
{
    timer_cancel(&s->timer);
    if (s->random)
        g_rand_free(s->random);
    g_free(s);
}

/* Virtual time since the last shift is the present engine's. */
static void account(struct shifts *s)
{
    int64_t now = clock_now(s->machine->clock);
    s->machine->accel->engine->time_ns += now - s->since;
    s->since = now;
}

static void emit_event(const struct machine *m, struct engine *e)
{
    guint number;
    g_ptr_array_find(m->accel->engines, e, &number);
    struct event event = { .kind = EVENT_SHIFT, .time = clock_now(m->clock), .number = number };
    event_emit(&event);
}

void shifts_to(struct machine *m, struct engine *e)
{
    struct accel *a = m->accel;
    struct shifts *s = a->shifts;
    bool paused = vcpus_paused(m);
    if (a->engine == e)
        return;
    int64_t start = clock_now(m->clock);
    vcpus_pause(m);
    account(s);
    a->engine = e;
    vcpus_set_engine(m, e);
    if (!paused)
        vcpus_resume(m);
    int64_t took = clock_now(m->clock) - start;
    s->count++;
    s->total_ns += took;
    s->longest_ns = MAX(s->longest_ns, took);
    if (event_wanted(EVENT_SHIFT))
        emit_event(m, e);
}

void shifts_info(struct shifts *s, GString *out)
{
    struct accel *a = s->machine->accel;
    if (!s->count)
        return;
    account(s);
    int64_t all = 0;
    for (guint k = 0; k < a->engines->len; k++)
        all += ((struct engine *)a->engines->pdata[k])->time_ns;
    g_string_append_printf(out, "shifts: %" PRIu64, s->count);
    if (s->interval_ms)
        g_string_append_printf(out, " (seed %" PRIu64 ")", s->seed);
    g_string_append_printf(out, "; processors stood still for %.1f us each time, at most %.1f us",
                           (double)s->total_ns / 1e3 / (double)s->count, (double)s->longest_ns / 1e3);
    for (guint k = 0; k < a->engines->len && all > 0; k++) {
        const struct engine *e = a->engines->pdata[k];
        g_string_append_printf(out, "%s %s %.1f %%", k ? "," : "; time:", e->ops->name,
                               100.0 * (double)e->time_ns / (double)all);
    }
    g_string_append_c(out, '\n');
}

/* --- At random ---------------------------------------------------------------------------------------------------------- */

bool shifts_parse(struct shifts *s, const char *options, GError **err)
{
    struct opts *o = opts_parse(options, NULL);
    s->seed = g_random_int();
    bool ok = opts_take_number(o, "shift", 1, INTERVAL_MAX_MS, &s->interval_ms, err) &&
              opts_take_number(o, "seed", 0, UINT32_MAX, &s->seed, err) && opts_done(o, "shift, seed", err);
    opts_free(o);
    if (!ok)
        g_prefix_error(err, "-accel auto,%s: ", options);
    return ok;
}

static void set_timer(struct shifts *s)
{
    double u = 1.0 - g_rand_double(s->random); /* 0 is not in it */
    timer_set(&s->timer, clock_now(s->machine->clock) + (int64_t)(-log(u) * (double)s->interval_ms * 1e6));
}

static void shift_at_random(void *opaque)
{
    struct shifts *s = opaque;
    struct accel *a = s->machine->accel;
    guint present, other = (guint)g_rand_int_range(s->random, 0, (gint32)a->engines->len - 1);
    g_ptr_array_find(a->engines, a->engine, &present);
    shifts_to(s->machine, a->engines->pdata[other + (other >= present)]);
    set_timer(s);
}

bool shifts_begin(struct shifts *s, GError **err)
{
    struct accel *a = s->machine->accel;
    if (!s->interval_ms)
        return true;
    accel_start_all(s->machine);
    if (a->engines->len < 2)
        return opts_error(err, "-accel auto,shift: only one engine works here, there is none to move to");
    s->random = g_rand_new_with_seed((guint32)s->seed);
    set_timer(s);
    return true;
}

void shifts_end(struct shifts *s)
{
    timer_cancel(&s->timer);
}
