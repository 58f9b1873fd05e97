/* Clock: stepped order of timers, stop and start, real timers' precision on a loop, tick arithmetic. */
#include "hw/core/clock.h"
#include "hw/core/vm_lock.h"

#include <pthread.h>
#include <string.h>
#include <unistd.h>

struct probe {
    struct timer timer;
    GString *out;
    char name;
    int64_t period; /* sets itself again */
    int64_t fired_at;
    int count;
};

static void on_probe(void *opaque)
{
    struct probe *p = opaque;
    p->fired_at = clock_now(p->timer.clock);
    p->count++;
    if (p->out)
        g_string_append_c(p->out, p->name);
    if (p->period)
        timer_set(&p->timer, p->fired_at + p->period);
}

static void test_stepped(void)
{
    vm_lock();
    struct clock *c = clock_new(true);
    g_autoptr(GString) out = g_string_new(NULL);
    struct probe p[4] = { { .name = 'a' }, { .name = 'b' }, { .name = 'c' }, { .name = 'd', .period = 30 } };
    for (int i = 0; i < 4; i++) {
        p[i].out = out;
        timer_init(&p[i].timer, c, on_probe, &p[i]);
        g_assert_false(timer_armed(&p[i].timer));
    }
    timer_set(&p[0].timer, 50);
    timer_set(&p[1].timer, 20);
    timer_set(&p[2].timer, 50);
    timer_set(&p[3].timer, 30);
    clock_step(c, 19);
    g_assert_cmpstr(out->str, ==, "");
    g_assert_cmpint(clock_now(c), ==, 19);
    clock_step(c, 1);
    g_assert_cmpstr(out->str, ==, "b");
    timer_set(&p[1].timer, 55);
    timer_cancel(&p[1].timer);
    timer_cancel(&p[1].timer);
    clock_step(c, 100); /* d at 30, 60, 90, 120; a before c */
    g_assert_cmpstr(out->str, ==, "bdacddd");
    g_assert_cmpint(p[0].fired_at, ==, 50);
    g_assert_cmpint(p[3].fired_at, ==, 120);
    g_assert_true(timer_armed(&p[3].timer));
    /* Moved to an earlier and to a later time while armed. */
    timer_set(&p[3].timer, 400);
    timer_set(&p[3].timer, 300);
    p[3].period = 0;
    clock_step(c, 1000);
    g_assert_cmpint(p[3].fired_at, ==, 300);
    g_assert_cmpint(p[3].count, ==, 5);
    clock_free(c);
    vm_unlock();
}

static void set_into_past(void *opaque)
{
    struct probe *p = opaque;
    p->count++;
    timer_set(&p->timer, 5);
}

static void test_past(void)
{
    vm_lock();
    struct clock *c = clock_new(true);
    struct probe p = { 0 };
    timer_init(&p.timer, c, set_into_past, &p);
    timer_set(&p.timer, 10);
    clock_step(c, 100); /* must end, though the timer is always due */
    g_assert_cmpint(clock_now(c), ==, 100);
    g_assert_cmpint(p.count, >=, 2);
    timer_cancel(&p.timer);
    g_assert_false(timer_armed(&p.timer));
    clock_step(c, 100);
    int count = p.count;
    clock_step(c, 100);
    g_assert_cmpint(p.count, ==, count);
    clock_free(c);
    vm_unlock();
}

static void cancel_other(void *opaque)
{
    timer_cancel(opaque);
}

static void test_cancel_while_firing(void)
{
    vm_lock();
    struct clock *c = clock_new(true);
    struct probe victim = { 0 };
    struct timer killer;
    timer_init(&victim.timer, c, on_probe, &victim);
    timer_init(&killer, c, cancel_other, &victim.timer);
    timer_set(&killer, 10);
    timer_set(&victim.timer, 10);
    clock_step(c, 50);
    g_assert_cmpint(victim.count, ==, 0);
    clock_free(c);
    vm_unlock();
}

struct late_setter {
    struct probe *probe;
    int64_t delay;
};

static void *set_from_thread(void *opaque)
{
    const struct late_setter *s = opaque;
    usleep(20000); /* the loop sleeps in poll by now */
    vm_lock();
    timer_set(&s->probe->timer, clock_now(s->probe->timer.clock) + s->delay);
    vm_unlock();
    return NULL;
}

/* Best of several, as the host may be busy: lateness well under the millisecond that poll rounds to. */
static void test_precision(void)
{
    GMainContext *loop = g_main_context_new();
    vm_lock();
    struct clock *c = clock_new(false);
    clock_attach(c, loop);
    clock_start(c);
    struct probe p = { 0 };
    timer_init(&p.timer, c, on_probe, &p);
    int64_t best = INT64_MAX;
    for (int i = 0; i < 20; i++) {
        int64_t deadline = clock_now(c) + 300000 + i * 37000;
        timer_set(&p.timer, deadline);
        int before = p.count;
        while (p.count == before) {
            vm_unlock();
            g_main_context_iteration(loop, TRUE);
            vm_lock();
        }
        g_assert_cmpint(p.fired_at, >=, deadline);
        best = MIN(best, p.fired_at - deadline);
    }
    g_test_message("lateness: %d ns", (int)best);
    g_assert_cmpint(best, <, 300000);

    /* Set by another thread while the loop sleeps without any timeout. */
    struct late_setter s = { .probe = &p, .delay = 100000 };
    pthread_t thread;
    pthread_create(&thread, NULL, set_from_thread, &s);
    p.count = 0;
    while (p.count == 0) {
        vm_unlock();
        g_main_context_iteration(loop, TRUE);
        vm_lock();
    }
    vm_unlock();
    pthread_join(thread, NULL);
    vm_lock();
    clock_free(c);
    vm_unlock();
    g_main_context_unref(loop);
}

static void test_stop(void)
{
    GMainContext *loop = g_main_context_new();
    vm_lock();
    struct clock *c = clock_new(false);
    clock_attach(c, loop);
    g_assert_cmpint(clock_now(c), ==, 0);
    usleep(2000);
    g_assert_cmpint(clock_now(c), ==, 0);
    struct probe p = { 0 };
    timer_init(&p.timer, c, on_probe, &p);
    timer_set(&p.timer, 1000000);
    g_assert_false(g_main_context_iteration(loop, FALSE));
    clock_start(c);
    clock_start(c);
    int64_t a = clock_now(c);
    usleep(3000);
    int64_t b = clock_now(c);
    g_assert_cmpint(b - a, >=, 3000000);
    clock_stop(c);
    clock_stop(c);
    int64_t stopped = clock_now(c);
    g_assert_cmpint(stopped, >=, b);
    usleep(1000);
    g_assert_cmpint(clock_now(c), ==, stopped);
    g_main_context_iteration(loop, FALSE);
    g_assert_cmpint(p.count, ==, 0); /* due, but time stands still */
    clock_set(c, 12345);
    clock_start(c);
    g_assert_cmpint(clock_now(c), >=, 12345);
    g_assert_cmpint(clock_now(c), <, 12345 + NS_PER_SECOND);
    while (p.count == 0)
        g_main_context_iteration(loop, TRUE);
    g_assert_cmpint(p.fired_at, >=, 1000000);
    clock_free(c);
    vm_unlock();
    g_main_context_unref(loop);
}

static void test_wall(void)
{
    vm_lock();
    struct clock *c = clock_new(true);
    int64_t ns;
    clock_set_wall_offset(c, 946684800);
    clock_step(c, 3 * NS_PER_SECOND + 17);
    g_assert_cmpint(clock_wall(c, &ns), ==, 946684803);
    g_assert_cmpint(ns, ==, 17);
    clock_free(c);
    c = clock_new(false);
    g_assert_cmpint(ABS(clock_wall(c, NULL) - g_get_real_time() / G_USEC_PER_SEC), <=, 2);
    clock_set_wall_offset(c, -1000);
    g_assert_cmpint(ABS(clock_wall(c, NULL) + 1000 - g_get_real_time() / G_USEC_PER_SEC), <=, 2);
    clock_free(c);
    vm_unlock();
}

static void test_ticks(void)
{
    g_assert_cmpuint(clock_ticks(NS_PER_SECOND, 1193182), ==, 1193182);
    g_assert_cmpuint(clock_ticks(NS_PER_SECOND - 1, 1193182), ==, 1193181);
    g_assert_cmpuint(clock_ticks(123456789012345, UINT64_C(1) << 40), ==, G_GUINT64_CONSTANT(135742175046961642));
    g_assert_cmpint(clock_ticks_to_ns(UINT64_MAX, 1), ==, INT64_MAX);
    static const uint64_t rates[] = { 1, 3, 32768, 1193182, 3579545, 14318180, 100000000, 1000000000, 2999999999,
                                      UINT64_C(1) << 40 };
    for (unsigned i = 0; i < G_N_ELEMENTS(rates); i++) {
        for (int n = 0; n < 2000; n++) {
            uint64_t ticks = ((uint64_t)g_test_rand_int() << 20 | g_test_rand_int()) >> g_test_rand_int_range(0, 40);
            ticks %= rates[i] * 1000;
            int64_t ns = clock_ticks_to_ns(ticks, rates[i]);
            g_assert_cmpuint(clock_ticks(ns, rates[i]), >=, ticks);
            if (ns)
                g_assert_cmpuint(clock_ticks(ns - 1, rates[i]), <, ticks);
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/clock/stepped", test_stepped);
    g_test_add_func("/clock/past", test_past);
    g_test_add_func("/clock/cancel-while-firing", test_cancel_while_firing);
    g_test_add_func("/clock/precision", test_precision);
    g_test_add_func("/clock/stop", test_stop);
    g_test_add_func("/clock/wall", test_wall);
    g_test_add_func("/clock/ticks", test_ticks);
    return g_test_run();
}
