/*
 * The local APIC's timer: one-shot, periodic, TSC deadline. See lapic.c.
 *
 * Only the tick at which the count reaches 0 is kept; the current count is computed from it. Periods below 20 us
 * interrupt only every so many periods: no processor could follow, and the main loop would do nothing else.
 */
#include "hw/irq/lapic_internal.h"

#include "cpu/cpu.h"
#include "hw/core/machine.h"

#define MAX_INTERRUPTS_PER_SECOND 50000

static uint64_t ticks_at(const struct lapic *l, int64_t ns)
{
    return clock_ticks(ns, l->timer_hz);
}

static uint64_t ticks_now(const struct lapic *l)
{
    return ticks_at(l, clock_now(l->dev.machine->clock));
}

/* log2 of the divisor: 000 is 2, ... 110 is 128, 111 is 1. */
static unsigned divide_shift(const struct lapic *l)
{
    return (((l->divide & 3) | (l->divide >> 1 & 4)) + 1) & 7;
}

static uint64_t period(const struct lapic *l)
{
    return (uint64_t)l->initial_count << divide_shift(l);
}

static void arm(struct lapic *l)
{
    timer_set(&l->timer, clock_ticks_to_ns(l->expires, l->timer_hz));
}

void lapic_timer_stop(struct lapic *l)
{
    l->expires = 0;
    l->tsc_deadline = 0;
    timer_cancel(&l->timer);
}

uint32_t lapic_timer_count(const struct lapic *l)
{
    uint64_t now = ticks_now(l);
    unsigned shift = divide_shift(l);
    if (!l->expires)
        return 0;
    if (now < l->expires) /* a count lasts until its last tick is over */
        return (l->expires - now + (1u << shift) - 1) >> shift;
    if (!(l->lvt[LVT_TIMER] & LVT_PERIODIC))
        return 0;
    return l->initial_count - ((now - l->expires) >> shift) % l->initial_count;
}

void lapic_timer_set_count(struct lapic *l, uint32_t count)
{
    if (l->lvt[LVT_TIMER] & LVT_DEADLINE)
        return;
    l->initial_count = count;
    if (!count) {
        lapic_timer_stop(l);
        return;
    }
    l->expires = ticks_now(l) + period(l);
    arm(l);
}

void lapic_timer_continue(struct lapic *l, uint32_t count)
{
    bool periodic = l->lvt[LVT_TIMER] & LVT_PERIODIC;
    if (!l->initial_count || l->lvt[LVT_TIMER] & LVT_DEADLINE || (!count && !periodic))
        return;
    l->expires = ticks_now(l) + (count ? (uint64_t)count << divide_shift(l) : period(l));
    arm(l);
}

void lapic_timer_set_divide(struct lapic *l, uint32_t divide)
{
    uint32_t left = lapic_timer_count(l);
    l->divide = divide;
    if (!l->expires)
        return;
    l->expires = ticks_now(l) + ((uint64_t)left << divide_shift(l)); /* 0 left: fires at once */
    arm(l);
}

void lapic_timer_set_mode(struct lapic *l, uint32_t lvt)
{
    if (!((lvt ^ l->lvt[LVT_TIMER]) & LVT_DEADLINE))
        return;
    lapic_timer_stop(l);
    l->initial_count = 0;
}

void lapic_timer_set_deadline(struct lapic *l, uint64_t tsc)
{
    uint64_t now = cpu_read_tsc(l->cpu), hz = cpu_tsc_hz(l->cpu);
    lapic_timer_stop(l);
    if (!tsc)
        return;
    if (tsc <= now) {
        lapic_local_interrupt(l, LVT_TIMER);
        return;
    }
    l->tsc_deadline = tsc;
    /* Deadlines of the next century are those that clear nothing but never come. */
    int64_t wait = clock_ticks_to_ns(tsc - now, hz), at = clock_now(l->dev.machine->clock);
    if (wait < INT64_MAX - at)
        timer_set(&l->timer, at + wait);
}

static void on_timer(void *opaque)
{
    struct lapic *l = opaque;
    if (l->lvt[LVT_TIMER] & LVT_DEADLINE) {
        l->tsc_deadline = 0;
    } else if ((l->lvt[LVT_TIMER] & LVT_PERIODIC) && l->expires) { /* so it has a period, whatever a saved state says */
        uint64_t step = period(l), least = l->timer_hz / MAX_INTERRUPTS_PER_SECOND;
        uint64_t oldest = ticks_at(l, clock_oldest_due(l->dev.machine->clock));
        uint64_t steps = step < least ? least / step : 1;
        if (oldest > l->expires)
            steps += (oldest - l->expires) / step;
        l->expires += steps * step;
        arm(l);
    } else {
        l->expires = 0;
    }
    lapic_local_interrupt(l, LVT_TIMER);
}

void lapic_timer_init(struct lapic *l)
{
    timer_init(&l->timer, l->dev.machine->clock, on_timer, l);
}
