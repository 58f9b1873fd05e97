/*
 * An interrupt wire, by value: whom to call, with what, under which number. Levels, not edges: the receiver decides.
 * Called under the VM lock. A line with fn == NULL is not connected.
 */
#ifndef HW_CORE_IRQ_H
#define HW_CORE_IRQ_H

#include <stddef.h>

typedef void irq_fn(void *opaque, int n, int level);

struct irq_line {
    irq_fn *fn;
    void *opaque;
    int n;
};

static inline void irq_set(const struct irq_line *line, int level)
{
    if (line->fn)
        line->fn(line->opaque, line->n, level);
}

static inline void irq_raise(const struct irq_line *line)
{
    irq_set(line, 1);
}

static inline void irq_lower(const struct irq_line *line)
{
    irq_set(line, 0);
}

static inline void irq_pulse(const struct irq_line *line)
{
    irq_set(line, 1);
    irq_set(line, 0);
}

#endif
