/*
 * One stream for everything that traps. Producers test event_wanted() first: off costs one load. Consumers subscribe:
 * -d, counters, later the trap log, live views and explanations.
 */
#ifndef HW_CORE_EVENT_H
#define HW_CORE_EVENT_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

enum event_kind {
    EVENT_EXCEPTION, /* number: vector, value: error code, address: CR2 of a #PF */
    EVENT_INTERRUPT, /* number: vector, value: enum event_source */
    EVENT_PORT,      /* number: port, value, size, write */
    EVENT_MMIO,      /* address, value, size, write */
    EVENT_MSR,       /* number: msr, value, write */
    EVENT_CPUID,     /* number: leaf, address: subleaf */
    EVENT_CR_WRITE,  /* number: 0, 2, 3, 4, 8; value */
    EVENT_HLT,
    EVENT_HYPERCALL, /* number: nr, value: result */
    EVENT_KVM_EXIT,  /* number: reason */
    EVENT_SHIFT,     /* engine changed; number: new engine */
    EVENT_TLB_FLUSH, /* address, or ~0 for all */
    EVENT_CODE_INVALID, /* address: physical */
    EVENT_RESET,
    EVENT_KINDS
};

struct event {
    int64_t time; /* virtual ns, 0 if the producer has no clock */
    uint16_t vcpu;
    uint8_t engine;
    uint8_t kind; /* enum event_kind */
    uint8_t cpl, size;
    bool write;
    uint64_t rip;
    uint32_t number;
    uint64_t address, value;
    uint32_t cost; /* ns, 0 if not measured */
};

extern uint32_t event_mask; /* bit per kind: somebody listens; atomic */

static inline bool event_wanted(enum event_kind kind)
{
    return G_UNLIKELY(__atomic_load_n(&event_mask, __ATOMIC_RELAXED) & (1u << kind));
}

typedef void event_fn(void *opaque, const struct event *e); /* on the producer's thread; must not block */

/* `kinds`: 1 << enum event_kind for each. Main loop; not from within an event_fn. */
void event_subscribe(uint32_t kinds, event_fn *fn, void *opaque);
void event_unsubscribe(event_fn *fn, void *opaque);
void event_emit(const struct event *e); /* to all who subscribed to its kind; any thread */
const char *event_kind_name(enum event_kind kind);

#endif
