/*
 * Time. All guest-visible time comes from here: nanoseconds of virtual time, which stands still while the machine is
 * paused, and of host (wall) time for the RTC. Timers fire on the main loop under the VM lock.
 *
 * A stepped clock (tests, later the deterministic mode) does not follow the host: clock_step() moves it and fires the
 * timers on the way, in order.
 */
#ifndef HW_CORE_CLOCK_H
#define HW_CORE_CLOCK_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define NS_PER_SECOND INT64_C(1000000000)

struct clock; /* one per machine: machine.clock */

/* A new clock stands still at 0: clock_start() when the machine begins to run. */
struct clock *clock_new(bool stepped);
void clock_free(struct clock *c);
/* Fires the timers on that loop from now on; machine_new() does it with machine.loop. Not of a stepped clock. */
void clock_attach(struct clock *c, GMainContext *loop);

/* Virtual nanoseconds since the machine was made. Any thread, no lock; never goes backwards. */
int64_t clock_now(const struct clock *c);
/*
 * Seconds since the epoch, UTC, shifted by `-rtc base=`, and the nanoseconds on top (ns may be NULL). A stepped clock
 * counts its virtual time from 1970.
 */
int64_t clock_wall(const struct clock *c, int64_t *ns);
void clock_set_wall_offset(struct clock *c, int64_t seconds);

/* Pause and resume virtual time; idempotent; nothing to a stepped clock. VM lock. */
void clock_stop(struct clock *c);
void clock_start(struct clock *c);
/* So often has the clock been started. Any thread. */
unsigned clock_starts(const struct clock *c);
/* Sets virtual time, of a stopped or stepped clock (loading a saved state). */
void clock_set(struct clock *c, int64_t ns);
/* Moves a stepped clock forward. VM lock. */
void clock_step(struct clock *c, int64_t ns);

/* ticks of a `hz` counter that started with virtual time, without overflow for hz up to 2^40. */
uint64_t clock_ticks(int64_t ns, uint64_t hz);
/* The first nanosecond at which that counter has reached `ticks`. */
int64_t clock_ticks_to_ns(uint64_t ticks, uint64_t hz);

/* Embedded in its device. Deadlines are absolute virtual ns. All under the VM lock. */
struct timer {
    struct clock *clock;
    void (*fn)(void *opaque);
    void *opaque;
    int64_t deadline; /* ns, or -1: not armed */
    struct timer *next;
};

void timer_init(struct timer *t, struct clock *c, void (*fn)(void *opaque), void *opaque);
void timer_set(struct timer *t, int64_t deadline); /* in the past: fires at the next turn of the loop */
void timer_cancel(struct timer *t);
/*
 * For periodic timers: a main loop that comes late makes up for missed periods one by one, but not for those that ended
 * before this instant.
 */
static inline int64_t clock_oldest_due(const struct clock *c)
{
    int64_t oldest = clock_now(c) - NS_PER_SECOND / 20;
    return oldest > 0 ? oldest : 0;
}
static inline bool timer_armed(const struct timer *t)
{
    return t->deadline >= 0;
}

#endif
