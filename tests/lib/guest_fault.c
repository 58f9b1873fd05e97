/* Guests that provoke exceptions: see the header. */
#include "tests/lib/guest_fault.h"

uint64_t fault_slot(struct guest *g, unsigned n, unsigned field)
{
    return guest_peek(g, FAULT_SLOTS + 128 * (n + 1) + field, 8);
}

static bool matches(struct guest *g, const struct fault_case *c, unsigned n)
{
    bool expected = c->user || c->vector != FAULT_NONE;
    if (fault_slot(g, n, SLOT_COUNT) != expected)
        return false;
    if (!expected)
        return true;
    uint64_t rflags = fault_slot(g, n, SLOT_RFLAGS);
    bool fault = c->vector != EXC_DB && c->vector != EXC_BP && c->vector != EXC_OF && c->vector != EXC_DF && c->vector < 32;
    if (fault_slot(g, n, SLOT_VECTOR) != c->vector || fault_slot(g, n, SLOT_ERROR) != c->error)
        return false;
    if (c->rip >= 0 && c->vector != FAULT_NONE && fault_slot(g, n, SLOT_RIP) != (uint64_t)c->rip)
        return false;
    if (c->vector == EXC_PF && fault_slot(g, n, SLOT_CR2) != (uint64_t)c->value)
        return false;
    if (c->vector == EXC_DB && (fault_slot(g, n, SLOT_DR6) & 0xf00f) != (uint64_t)c->value)
        return false;
    if (fault && !(rflags & FLAG_RF))
        return false;
    if (c->rip < 0) /* from elsewhere */
        return true;
    if (c->user && (fault_slot(g, n, SLOT_CS) != 0x3b || fault_slot(g, n, SLOT_SS) != 0x33))
        return false;
    if (c->user && c->vector != EXC_DF && fault_slot(g, n, SLOT_FRAME) != 0x6400)
        return false;
    return true;
}

void fault_check(struct guest *g, const struct fault_case *cases, unsigned count)
{
    unsigned bad = 0;
    for (unsigned n = 0; n < count; n++) {
        const struct fault_case *c = &cases[n];
        if (matches(g, c, n))
            continue;
        bad++;
        g_test_message("%s: got count %d vector %#x error %#x rip %+d cs %#x ss %#x rflags %#x cr2 %#" PRIx64
                       " dr6 %#x frame %#x; want vector %#x error %#x rip %+d value %#" PRIx64,
                       c->name, (int)fault_slot(g, n, SLOT_COUNT), (unsigned)fault_slot(g, n, SLOT_VECTOR),
                       (unsigned)fault_slot(g, n, SLOT_ERROR), (int)fault_slot(g, n, SLOT_RIP),
                       (unsigned)fault_slot(g, n, SLOT_CS), (unsigned)fault_slot(g, n, SLOT_SS),
                       (unsigned)fault_slot(g, n, SLOT_RFLAGS), fault_slot(g, n, SLOT_CR2),
                       (unsigned)fault_slot(g, n, SLOT_DR6), (unsigned)fault_slot(g, n, SLOT_FRAME), c->vector, c->error,
                       c->rip, c->value);
    }
    g_assert_cmpuint(bad, ==, 0);
}

struct guest *fault_run(const void *start, const void *end, const struct fault_case *cases, unsigned count)
{
    struct guest *g = guest_new(16 << 20, 1, NULL);
    guest_load(g, 0x7c00, start, end);
    int result = guest_run(g, 0x7c00, 30);
    if (result) {
        GString *s = g_string_new(NULL);
        cpu_print(g->m->cpus[0], s);
        g_test_message("ended with %d after case %d\n%s", result,
                       (int)((guest_peek(g, 0xff000, 8) - FAULT_SLOTS) / 128) - 1, s->str);
        g_string_free(s, TRUE);
    }
    fault_check(g, cases, count);
    g_assert_cmpint(result, ==, 0);
    return g;
}
