/*
 * Guest code to be translated: decoding along all ways that stay in the page, and liveness of flags.
 *
 * Nothing here is host-specific. The page may be written by others meanwhile: the caller compares its write counter afterwards.
 */
#include "cpu/block.h"
#include "cpu/ops.h"
#include "hw/core/memory.h"
#include "hw/core/ram_access.h"
#include "tcg/unit.h"

#define INSN_MAX 15

/* --- Decoding ------------------------------------------------------------------------------------------------------------ */

struct walk_list {
    uint16_t off[UNIT_INSNS * 2];
    unsigned count;
};

/* Direct near jumps whose target is simply the next RIP plus a displacement, as seen from the page. */
static bool is_direct(const struct source *s, const struct insn *i)
{
    if (insn_row(i)->end != END_JUMP)
        return false;
    unsigned size = s->cpu->code_size;
    return size == 3 || i->osize == size;
}

static bool is_call(const struct insn *i)
{
    const struct op *op = insn_row(i)->op;
    return op == &op_call_rel || op == &op_call_near;
}

static bool is_unconditional(const struct insn *i)
{
    const struct insn_row *row = insn_row(i);
    return row->op == &op_jmp_rel || (row->end == END_INDIRECT && !is_call(i));
}

static void set_flow(struct source *s, struct guest_insn *g)
{
    g->target = -1;
    g->falls = !g->raises && !is_unconditional(&g->i);
    if (g->raises || !is_direct(s, &g->i) || s->key >> KEY_INSNS_SHIFT)
        return;
    int64_t target = (int64_t)g->i.end + g->i.disp;
    if (target >= 0 && target < (int64_t)PAGE_SIZE)
        g->target = (int16_t)target;
}

/*
 * A copy of the page, and what the next page begins with, as far as the TLB knows it. Generated code looks at it again each time it
 * runs into that page, so that nothing need be told of changes there.
 */
static void read_bytes(struct source *s)
{
    uint64_t next = (s->cpu->rip | ~PAGE_MASK) + 1;
    if (s->cpu->code_size != 3)
        next = (uint32_t)next;
    const struct tlb_entry *e = &s->cpu->tlb_exec->e[tlb_index(next)];
    ram_copy(s->bytes, s->page, PAGE_SIZE);
    s->after_count = 0;
    if (!(s->key & MODE_FLAT) || e->tag_exec != next)
        return;
    s->after_count = INSN_MAX;
    ram_copy(s->bytes + PAGE_SIZE, (const uint8_t *)(uintptr_t)(next + e->addend), INSN_MAX);
}

/*
 * False: it is not whole within the page and what is known of the next one, or no instruction because of bytes there: only what
 * is looked at again may depend on that page.
 */
static bool decode_at(struct source *s, unsigned off, struct guest_insn *g)
{
    unsigned in_page = (unsigned)PAGE_SIZE - off, avail = in_page + s->after_count;
    struct decode_mode mode = { .code_size = s->cpu->code_size, .stack32 = s->key & MODE_STACK32,
                                .protected_mode = s->key & MODE_PROT };
    *g = (struct guest_insn){ .off = (uint16_t)off };
    enum decode_result r = decode_insn(s->bytes + off, avail, mode, &g->i);
    if (r == DECODE_MORE)
        return false;
    if (r != DECODE_OK && s->after_count && in_page < INSN_MAX &&
        decode_insn(s->bytes + off, in_page, mode, &g->i) == DECODE_MORE)
        return false;
    g->raises = r != DECODE_OK;
    if (g->raises)
        block_set_raiser(&g->i, r);
    else
        g->i.fn = block_handler(s->cpu, &g->i);
    g->i.end = (uint16_t)(off + g->i.len);
    g->crosses = !g->raises && g->i.end > PAGE_SIZE;
    if (!g->raises && g->i.base == R_RIP)
        g->i.disp += g->i.end;
    set_flow(s, g);
    return true;
}

/* What s->at says of bytes that belong to no instruction, and of those behind the first of one. */
#define FREE (-1)
#define INSIDE (-2)

/* False: its bytes overlap with another reading of them; that way is left for another unit. */
static bool take(struct source *s, const struct guest_insn *g)
{
    unsigned end = MIN(g->i.end, (unsigned)PAGE_SIZE);
    for (unsigned k = g->off; k < end; k++)
        if (s->at[k] != FREE)
            return false;
    for (unsigned k = g->off + 1u; k < end; k++)
        s->at[k] = INSIDE;
    s->at[g->off] = (int16_t)s->count++;
    return true;
}

/* Follows the code from `off` until it ends, or meets what is decoded already. */
static void decode_run(struct source *s, unsigned off, struct walk_list *ways)
{
    unsigned straight = s->key >> KEY_INSNS_SHIFT, most = straight ? straight : UNIT_INSNS;
    while (off < PAGE_SIZE && s->at[off] == FREE && s->count < most) {
        struct guest_insn *g = &s->found[s->count];
        if (!decode_at(s, off, g) || !take(s, g))
            return;
        if (g->target >= 0 && !is_call(&g->i) && ways->count < G_N_ELEMENTS(ways->off))
            ways->off[ways->count++] = (uint16_t)g->target;
        if (!g->falls)
            return;
        off = g->i.end;
    }
}

/* Into the order of their addresses. */
static void sort(struct source *s)
{
    unsigned off = s->start, n = 0;
    for (unsigned k = 0; k < s->count; k++)
        off = MIN(off, s->found[k].off);
    for (; n < s->count; off++) {
        if (s->at[off] < 0)
            continue;
        s->insns[n] = s->found[s->at[off]];
        s->at[off] = (int16_t)n++;
    }
}

static struct guest_insn *target_in_unit(struct source *s, const struct guest_insn *g)
{
    return g->target >= 0 && s->at[g->target] >= 0 ? &s->insns[s->at[g->target]] : NULL;
}

/* Between an instruction and the jump back to it; where functions begin there is a poll already. */
static bool always_calls(const struct guest_insn *from, const struct guest_insn *jump)
{
    bool call = false;
    for (const struct guest_insn *g = from; g < jump; g++) {
        if (!g->falls || g[1].off != g->i.end || (g > from && g->leader))
            return false;
        call |= is_call(&g->i);
    }
    return call;
}

static void mark_leaders(struct source *s)
{
    for (unsigned k = 0; k < s->count; k++) {
        struct guest_insn *t = target_in_unit(s, &s->insns[k]);
        if (t && !is_call(&s->insns[k].i))
            t->leader = true;
    }
    for (unsigned k = 0; k < s->count; k++) {
        const struct guest_insn *g = &s->insns[k];
        struct guest_insn *t = target_in_unit(s, g);
        if (t && t <= g && !is_call(&g->i))
            t->loop |= !always_calls(t, g);
    }
}

/*
 * How many instructions from this one on are a short loop with one way through it, which the last one jumps back: code of several
 * rounds in a row then needs one poll, and one jump back, for all. 0: none, or no such loop.
 */
static unsigned round_of(const struct source *s, const struct guest_insn *first)
{
    for (const struct guest_insn *g = first; g < first + ROUND_INSNS && g < s->insns + s->count; g++) {
        const struct op *op = insn_row(&g->i)->op;
        unsigned end = insn_row(&g->i)->end;
        bool jump = end == END_JUMP && !is_call(&g->i) && op != &op_loop && op != &op_jrcxz;
        if (!g->native || g->crosses || (end != END_NONE && !jump))
            return 0;
        if (g > first && (g->leader || g->off == s->start || g->off != g[-1].i.end))
            return 0;
        if (jump && g->target == first->off)
            return (unsigned)(g - first) + 1;
        if (!g->falls)
            return 0;
    }
    return 0;
}

/* Where one of the rounds leaves the loop the next instruction is jumped to. */
static void mark_rounds(struct source *s)
{
    unsigned emitted = s->count;
    if (!(s->key & MODE_FLAT)) /* the limit of the code segment has a say in every jump */
        return;
    for (unsigned k = 0; k < s->count; k++) {
        struct guest_insn *g = &s->insns[k];
        unsigned n = g->loop ? round_of(s, g) : 0;
        if (!n || emitted + n * (ROUNDS - 1) > UNIT_EMITTED)
            continue;
        emitted += n * (ROUNDS - 1);
        g->round = (uint8_t)n;
        if (k + n < s->count && g[n].off == g[n - 1].i.end)
            g[n].leader = true;
    }
}

/* --- Liveness ----------------------------------------------------------------------------------------------------------------- */

/* A call whose target the unit doesn't know, or that may show its flags if it faults. */
static bool leads_out(const struct source *s, const struct guest_insn *g)
{
    return is_call(&g->i) && (s->precise || g->target < 0 || s->at[g->target] < 0);
}

/*
 * Which flags an instruction reads, and which it surely writes. A handler may raise and so shows all flags; so does every way
 * out of the unit. A template that may fault shows them only when flags are to be precise.
 */
static void find_flags(const struct source *s, struct guest_insn *g)
{
    g->reads = FLAGS_ARITH;
    g->writes = 0;
    if (!g->native)
        return;
    const struct insn_row *row = insn_row(&g->i);
    if (row->end == END_JUMP && !leads_out(s, g))
        g->reads = row->flags_read & FLAGS_ARITH; /* ways out are added by their successors */
    if (row->end == END_JUMP || row->end == END_INDIRECT)
        return;
    g->writes = row->flags_written & FLAGS_ARITH;
    if (!s->precise || block_insn_is_pure(&g->i))
        g->reads = row->flags_read & FLAGS_ARITH;
}

static uint16_t live_at(const struct source *s, int off)
{
    return off >= 0 && off < (int)PAGE_SIZE && s->at[off] >= 0 ? s->insns[s->at[off]].live : FLAGS_ARITH;
}

static bool wanted_at(const struct source *s, int off)
{
    return off >= 0 && off < (int)PAGE_SIZE && s->at[off] >= 0 && s->insns[s->at[off]].wanted;
}

/* What leads out and handlers find flags in cpu->arith; who changes some and keeps others needs those in place. */
static bool flags_wanted(const struct source *s, const struct guest_insn *g)
{
    if (!g->native || is_call(&g->i))
        return false;
    if (insn_row(&g->i)->flags_read & FLAGS_ARITH || (g->writes && g->live_out & ~g->writes))
        return true;
    return !g->writes && ((g->falls && wanted_at(s, g->i.end)) ||
                       (insn_row(&g->i)->end == END_JUMP && wanted_at(s, g->target)));
}

static bool liveness_pass(struct source *s)
{
    bool changed = false;
    for (unsigned k = s->count; k-- > 0;) {
        struct guest_insn *g = &s->insns[k];
        uint16_t out = 0;
        if (g->falls)
            out |= live_at(s, g->i.end);
        if (!g->raises && insn_row(&g->i)->end == END_JUMP)
            out |= leads_out(s, g) ? FLAGS_ARITH : live_at(s, g->target);
        uint16_t live = (uint16_t)((out & ~g->writes) | g->reads);
        if (s->precise && (g->loop || g->off == s->start))
            live = FLAGS_ARITH; /* an interrupt may show them */
        g->live_out = out;
        bool wanted = flags_wanted(s, g);
        changed |= live != g->live || wanted != g->wanted;
        g->live = live;
        g->wanted = wanted;
    }
    return changed;
}

bool source_read(struct source *s)
{
    struct walk_list ways;
    ways.off[0] = s->start;
    ways.count = 1;
    memset(s->at, 0xff, sizeof s->at); /* FREE */
    s->count = 0;
    read_bytes(s);
    for (unsigned k = 0; k < ways.count; k++)
        decode_run(s, ways.off[k], &ways);
    if (s->at[s->start] < 0)
        return false;
    sort(s);
    mark_leaders(s);
    for (unsigned k = 0; k < s->count; k++) {
        struct guest_insn *g = &s->insns[k];
        g->native = !g->raises && backend_has(s, &g->i);
        find_flags(s, g);
    }
    mark_rounds(s);
    while (liveness_pass(s))
        continue;
    s->entry = (unsigned)s->at[s->start];
    for (unsigned k = 0; k < s->count; k++)
        s->insns[k].in_memory = k != s->entry && s->insns[k].live && !s->insns[k].wanted;
    if (s->key >> KEY_INSNS_SHIFT)
        memset(s->at, 0xff, sizeof s->at);
    return true;
}
