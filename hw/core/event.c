/*
 * The event stream's hub: subscribers, and the one word that tells producers whether anybody listens.
 *
 * Producers are vCPU threads, with or without the VM lock; subscribers come and go on the main loop. A read-write lock
 * keeps a subscriber alive while it is called. It is taken only when somebody listens to the kind at hand.
 */
#include "hw/core/event.h"

#include <pthread.h>

uint32_t event_mask;

struct subscriber {
    uint32_t kinds;
    event_fn *fn;
    void *opaque;
};

static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
static GArray *subscribers;

static const char *const kind_names[EVENT_KINDS] = {
    [EVENT_EXCEPTION] = "exception", [EVENT_INTERRUPT] = "interrupt", [EVENT_PORT] = "port",
    [EVENT_MMIO] = "mmio",           [EVENT_MSR] = "msr",             [EVENT_CPUID] = "cpuid",
    [EVENT_CR_WRITE] = "cr_write",   [EVENT_HLT] = "hlt",             [EVENT_HYPERCALL] = "hypercall",
    [EVENT_KVM_EXIT] = "kvm_exit",   [EVENT_SHIFT] = "shift",         [EVENT_TLB_FLUSH] = "tlb_flush",
    [EVENT_CODE_INVALID] = "code_invalid", [EVENT_RESET] = "reset",
};
G_STATIC_ASSERT(EVENT_KINDS <= 32);

/* With the lock held for writing. */
static void update_mask(void)
{
    uint32_t mask = 0;
    for (guint i = 0; i < subscribers->len; i++)
        mask |= g_array_index(subscribers, struct subscriber, i).kinds;
    __atomic_store_n(&event_mask, mask, __ATOMIC_RELAXED);
}

void event_subscribe(uint32_t kinds, event_fn *fn, void *opaque)
{
    struct subscriber s = { .kinds = kinds, .fn = fn, .opaque = opaque };
    pthread_rwlock_wrlock(&lock);
    if (!subscribers)
        subscribers = g_array_new(FALSE, FALSE, sizeof s);
    g_array_append_val(subscribers, s);
    update_mask();
    pthread_rwlock_unlock(&lock);
}

void event_unsubscribe(event_fn *fn, void *opaque)
{
    pthread_rwlock_wrlock(&lock);
    for (guint i = 0; subscribers && i < subscribers->len; i++) {
        const struct subscriber *s = &g_array_index(subscribers, struct subscriber, i);
        if (s->fn == fn && s->opaque == opaque) {
            g_array_remove_index(subscribers, i);
            update_mask();
            break;
        }
    }
    if (subscribers && subscribers->len == 0) {
        g_array_free(subscribers, TRUE);
        subscribers = NULL;
    }
    pthread_rwlock_unlock(&lock);
}

void event_emit(const struct event *e)
{
    g_assert(e->kind < EVENT_KINDS);
    pthread_rwlock_rdlock(&lock);
    for (guint i = 0; subscribers && i < subscribers->len; i++) {
        const struct subscriber *s = &g_array_index(subscribers, struct subscriber, i);
        if (s->kinds & (1u << e->kind))
            s->fn(s->opaque, e);
    }
    pthread_rwlock_unlock(&lock);
}

const char *event_kind_name(enum event_kind kind)
{
    g_assert((unsigned)kind < EVENT_KINDS);
    return kind_names[kind];
}
