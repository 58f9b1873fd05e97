/*
 * Virtual and wall time, and the timers of all devices.
 *
 * A running clock is the host's CLOCK_MONOTONIC plus an offset. Offset and state are read by any thread without a lock,
 * under a sequence count that only the holder of the VM lock changes. Timers are a sorted list under the VM lock. The
 * first deadline is programmed into a timerfd that machine.loop polls: any thread may program it, that wakes the loop
 * by itself, and it is exact where poll's own timeout is rounded up to a millisecond.
 *
 * Host-specific: timerfd (Linux, FreeBSD).
 */
#include "hw/core/clock.h"

#include "hw/core/vm_lock.h"

#include <errno.h>
#include <glib-unix.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

struct clock {
    bool stepped;
    /* Read without a lock: */
    unsigned sequence;   /* odd while the next two change */
    bool running;
    int64_t offset;      /* running: virtual minus monotonic time; stopped or stepped: virtual time itself */
    int64_t wall_offset; /* seconds; atomic */
    unsigned starts;     /* atomic */
    /* VM lock: */
    struct timer *first; /* by deadline; equal ones in the order they were set */
    struct timer *late;  /* set by a timer that fires now, with a deadline already reached: for the next turn */
    bool firing;
    int64_t firing_at;
    int fd;
    GSource *source;
};

/* --- Reading ------------------------------------------------------------------------------------------------------ */

static int64_t host_ns(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * NS_PER_SECOND + ts.tv_nsec;
}

int64_t clock_now(const struct clock *c)
{
    unsigned before, after;
    bool running;
    int64_t offset;
    do {
        before = __atomic_load_n(&c->sequence, __ATOMIC_ACQUIRE);
        running = __atomic_load_n(&c->running, __ATOMIC_ACQUIRE);
        offset = __atomic_load_n(&c->offset, __ATOMIC_ACQUIRE);
        after = __atomic_load_n(&c->sequence, __ATOMIC_RELAXED);
    } while ((before & 1) || before != after);
    return running ? host_ns(CLOCK_MONOTONIC) + offset : offset;
}

int64_t clock_wall(const struct clock *c, int64_t *ns)
{
    int64_t now = c->stepped ? clock_now(c) : host_ns(CLOCK_REALTIME);
    if (ns)
        *ns = now % NS_PER_SECOND;
    return now / NS_PER_SECOND + __atomic_load_n(&c->wall_offset, __ATOMIC_RELAXED);
}

void clock_set_wall_offset(struct clock *c, int64_t seconds)
{
    __atomic_store_n(&c->wall_offset, seconds, __ATOMIC_RELAXED);
}

/* --- Timers ------------------------------------------------------------------------------------------------------- */

/* Programs the host's timer for the first deadline, or switches it off. */
static void arm(struct clock *c)
{
    if (c->fd < 0 || c->firing)
        return;
    struct itimerspec when = { 0 };
    const struct timer *t = c->first;
    if (c->running && t && t->deadline < INT64_MAX / 2) {
        int64_t at = MAX(t->deadline - c->offset, 1); /* 0 would switch it off */
        when.it_value.tv_sec = at / NS_PER_SECOND;
        when.it_value.tv_nsec = at % NS_PER_SECOND;
    }
    int e = timerfd_settime(c->fd, TFD_TIMER_ABSTIME, &when, NULL);
    g_assert(e == 0);
}

static bool unlink_timer(struct timer **list, struct timer *t)
{
    for (; *list; list = &(*list)->next) {
        if (*list == t) {
            *list = t->next;
            t->next = NULL;
            return true;
        }
    }
    return false;
}

static void insert_timer(struct timer **list, struct timer *t)
{
    while (*list && (*list)->deadline <= t->deadline)
        list = &(*list)->next;
    t->next = *list;
    *list = t;
}

/* Fires what is due at `now`. A timer that sets itself into the past again waits for the next turn. */
static void fire(struct clock *c, int64_t now)
{
    c->firing = true;
    c->firing_at = now;
    while (c->first && c->first->deadline <= now) {
        struct timer *t = c->first;
        c->first = t->next;
        t->next = NULL;
        t->deadline = -1;
        t->fn(t->opaque);
    }
    c->firing = false;
    while (c->late) {
        struct timer *t = c->late;
        c->late = t->next;
        insert_timer(&c->first, t);
    }
}

void timer_init(struct timer *t, struct clock *c, void (*fn)(void *opaque), void *opaque)
{
    *t = (struct timer){ .clock = c, .fn = fn, .opaque = opaque, .deadline = -1 };
}

void timer_cancel(struct timer *t)
{
    g_assert(vm_locked());
    if (t->deadline < 0)
        return;
    struct clock *c = t->clock;
    bool was_first = c->first == t;
    bool found = unlink_timer(&c->first, t) || unlink_timer(&c->late, t);
    g_assert(found);
    t->deadline = -1;
    if (was_first)
        arm(c);
}

void timer_set(struct timer *t, int64_t deadline)
{
    g_assert(vm_locked());
    struct clock *c = t->clock;
    deadline = MAX(deadline, 0);
    if (t->deadline == deadline)
        return;
    bool was_first = c->first == t;
    if (t->deadline >= 0 && !unlink_timer(&c->first, t))
        unlink_timer(&c->late, t);
    t->deadline = deadline;
    insert_timer(c->firing && deadline <= c->firing_at ? &c->late : &c->first, t);
    if (was_first || c->first == t)
        arm(c);
}

static gboolean on_timerfd(gint fd, GIOCondition condition, gpointer opaque)
{
    struct clock *c = opaque;
    uint64_t expirations;
    bool taken = vm_lock_if_free();
    while (read(fd, &expirations, sizeof expirations) < 0 && errno == EINTR)
        ;
    if (c->running)
        fire(c, clock_now(c));
    arm(c);
    vm_unlock_if(taken);
    return G_SOURCE_CONTINUE;
}

/* --- Life and steering -------------------------------------------------------------------------------------------- */

struct clock *clock_new(bool stepped)
{
    struct clock *c = g_new0(struct clock, 1);
    c->stepped = stepped;
    c->firing_at = -1;
    c->fd = -1;
    return c;
}

void clock_attach(struct clock *c, GMainContext *loop)
{
    g_assert(!c->stepped && !c->source);
    c->fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (c->fd < 0)
        g_error("timerfd_create: %s", g_strerror(errno)); /* out of descriptors before anything has started */
    c->source = g_unix_fd_source_new(c->fd, G_IO_IN);
    g_source_set_priority(c->source, G_PRIORITY_HIGH);
    g_source_set_callback(c->source, G_SOURCE_FUNC(on_timerfd), c, NULL);
    g_source_attach(c->source, loop);
    arm(c);
}

void clock_free(struct clock *c)
{
    if (!c)
        return;
    if (c->source) {
        g_source_destroy(c->source);
        g_source_unref(c->source);
        close(c->fd);
    }
    g_free(c);
}

static void set_time_base(struct clock *c, bool running, int64_t offset)
{
    g_assert(vm_locked());
    __atomic_store_n(&c->sequence, c->sequence + 1, __ATOMIC_RELAXED);
    __atomic_store_n(&c->running, running, __ATOMIC_RELEASE);
    __atomic_store_n(&c->offset, offset, __ATOMIC_RELEASE);
    __atomic_store_n(&c->sequence, c->sequence + 1, __ATOMIC_RELEASE);
}

void clock_stop(struct clock *c)
{
    if (!c->running)
        return;
    set_time_base(c, false, clock_now(c));
    arm(c);
}

void clock_start(struct clock *c)
{
    if (c->running || c->stepped)
        return;
    set_time_base(c, true, c->offset - host_ns(CLOCK_MONOTONIC));
    __atomic_fetch_add(&c->starts, 1, __ATOMIC_RELEASE);
    arm(c);
}

unsigned clock_starts(const struct clock *c)
{
    return __atomic_load_n(&c->starts, __ATOMIC_ACQUIRE);
}

void clock_set(struct clock *c, int64_t ns)
{
    g_assert(!c->running && ns >= 0);
    set_time_base(c, false, ns);
}

void clock_step(struct clock *c, int64_t ns)
{
    g_assert(c->stepped && ns >= 0 && !c->firing);
    int64_t now = c->offset, end = now + ns;
    while (c->first && c->first->deadline <= end) {
        /* A timer set late while others fired gets the next nanosecond: time goes on even if it does so for ever. */
        now = MAX(c->first->deadline, c->firing_at == now ? now + 1 : now);
        if (now > end)
            break;
        set_time_base(c, false, now);
        fire(c, now);
    }
    set_time_base(c, false, end);
}

/* --- Counters ----------------------------------------------------------------------------------------------------- */

uint64_t clock_ticks(int64_t ns, uint64_t hz)
{
    uint64_t seconds = (uint64_t)ns / NS_PER_SECOND, rest = (uint64_t)ns % NS_PER_SECOND;
    return seconds * hz + hz / NS_PER_SECOND * rest + hz % NS_PER_SECOND * rest / NS_PER_SECOND;
}

int64_t clock_ticks_to_ns(uint64_t ticks, uint64_t hz)
{
    uint64_t seconds = ticks / hz, rest = ticks % hz, ns = 0;
    if (seconds >= INT64_MAX / NS_PER_SECOND)
        return INT64_MAX;
    /* rest * 10^9 / hz, by long division in base 1000: no intermediate exceeds 64 bits for hz up to 2^54. */
    for (int i = 0; i < 3; i++) {
        ns = ns * 1000 + rest * 1000 / hz;
        rest = rest * 1000 % hz;
    }
    return (int64_t)(seconds * NS_PER_SECOND + ns + (rest != 0));
}
