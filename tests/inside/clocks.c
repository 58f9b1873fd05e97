/*
 * Runs within a guest, on all its processors at once and before everything else there (SCHED_FIFO): wakes up every
 * millisecond and looks at the clock. Does time run backwards, on one processor or from one to another? Does it jump,
 * or does an interrupt of the timer come late? What the host took away from the processor meanwhile (steal time) does not
 * count. Ends on SIGTERM, with a line of results.
 *
 * usage: clocks
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_MS INT64_C(1000000)
#define READS 20
#define STEAL_EVERY 32 /* wake-ups between two looks at steal time: they cost something */
#define CPUS_MAX 256

struct result {
    unsigned cpu;
    int64_t jump, late; /* the longest, ns */
    long wakes, backwards;
};

static volatile sig_atomic_t stop;
static int64_t newest; /* the latest time that anybody has read; atomic */

static void on_signal(int number)
{
    stop = 1;
}

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 * NS_PER_MS + t.tv_nsec;
}

/* Of one processor, in ns; it has a resolution of 10 ms. */
static int64_t steal_time(unsigned cpu)
{
    char line[512], name[16];
    long long steal = 0;
    FILE *f = fopen("/proc/stat", "r");
    snprintf(name, sizeof name, "cpu%u ", cpu);
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, name, strlen(name)))
            sscanf(line, "%*s %*d %*d %*d %*d %*d %*d %*d %lld", &steal);
    if (f)
        fclose(f);
    return steal * 10 * NS_PER_MS;
}

/* Reads the clock, which must not be behind anything read before. */
static int64_t look(struct result *r)
{
    int64_t before = __atomic_load_n(&newest, __ATOMIC_SEQ_CST), t = now();
    r->backwards += t < before;
    while (before < t && !__atomic_compare_exchange_n(&newest, &before, t, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        ;
    return t;
}

static void worse(int64_t *worst, int64_t value, int64_t stolen)
{
    if (value - stolen > *worst)
        *worst = value - stolen;
}

static void *measure(void *arg)
{
    struct result *r = arg;
    struct sched_param param = { .sched_priority = 50 };
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(r->cpu, &set);
    if (pthread_setaffinity_np(pthread_self(), sizeof set, &set) || pthread_setschedparam(pthread_self(), SCHED_FIFO, &param))
        exit(2);
    int64_t due = now(), stolen = steal_time(r->cpu);
    while (!stop) {
        due += NS_PER_MS;
        struct timespec t = { due / (1000 * NS_PER_MS), due % (1000 * NS_PER_MS) };
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
        int64_t first = look(r), last = first, gap = 0;
        for (unsigned k = 1; k < READS; k++) {
            int64_t t = look(r);
            if (t - last > gap)
                gap = t - last;
            last = t;
        }
        int64_t late = first - due;
        if (late > 5 * NS_PER_MS || gap > 5 * NS_PER_MS || ++r->wakes % STEAL_EVERY == 0) {
            int64_t s = steal_time(r->cpu);
            worse(&r->late, late, s - stolen);
            worse(&r->jump, gap, s - stolen);
            stolen = s;
            last = now();
        } else {
            worse(&r->late, late, 0);
            worse(&r->jump, gap, 0);
        }
        if (last > due)
            due = last;
    }
    return NULL;
}

int main(void)
{
    static struct result results[CPUS_MAX];
    pthread_t threads[CPUS_MAX];
    struct result all = { 0 };
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    signal(SIGTERM, on_signal);
    if (cpus > CPUS_MAX)
        cpus = CPUS_MAX;
    for (long k = 0; k < cpus; k++) {
        results[k].cpu = (unsigned)k;
        if (pthread_create(&threads[k], NULL, measure, &results[k]))
            return 2;
    }
    for (long k = 0; k < cpus; k++) {
        pthread_join(threads[k], NULL);
        worse(&all.jump, results[k].jump, 0);
        worse(&all.late, results[k].late, 0);
        all.wakes += results[k].wakes;
        all.backwards += results[k].backwards;
    }
    printf("CLOCKS jump %.3f ms, late %.3f ms, backwards %ld, %ld wake-ups\n", (double)all.jump / 1e6, (double)all.late / 1e6,
           all.backwards, all.wakes);
    return 0;
}
