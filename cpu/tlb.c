/*
 * Which translations a vCPU keeps, and when they go.
 *
 * One struct tlb_space per PCID lately used (PCID 0 without CR4.PCIDE), each with a view per kind of asker, so that a
 * change of privilege or a CR3 write that keeps its PCID is a change of pointer. Intel SDM volume 3, 4.10 "Caching
 * translation information". Invalidation may drop more than asked, as on any processor.
 *
 * Thread: the vCPU's own, or anybody while the vCPU is outside guest code.
 */
#include "cpu/mem.h"

/* What was derived from code addresses in this view is stale. */
static void new_id(struct tlb_set *s, struct tlb *t, unsigned view)
{
    t->id = s->next_id++;
    if (view != TLB_USER)
        s->super_id = s->next_id++;
}

static void tlb_reset(struct tlb_set *s, struct tlb *t)
{
    for (unsigned k = 0; k < TLB_SIZE; k++)
        tlb_clear_entry(t, k);
    memset(t->used, 0, sizeof t->used);
    memset(t->exec, 0, sizeof t->exec);
    memset(t->large, 0, sizeof t->large);
    t->exec_local = false;
    t->id = s->next_id++;
}

struct tlb_set *tlb_set_new(void)
{
    struct tlb_set *s = g_new0(struct tlb_set, 1);
    s->next_id = 1;
    for (unsigned k = 0; k < TLB_SPACES; k++) {
        s->space[k].tables_turn = 1;
        for (unsigned v = 0; v < TLB_VIEWS; v++)
            tlb_reset(s, &s->space[k].view[v]);
    }
    tlb_reset(s, &s->none);
    s->space[0].in_use = true;
    return s;
}

void tlb_set_free(struct tlb_set *s)
{
    g_free(s);
}

static void forget_all_slots(struct tlb *t)
{
    memset(t->slots.limit, 0, sizeof t->slots.limit);
    t->slots.filled = false;
}

static void forget_slots(struct tlb *t, unsigned index)
{
    for (unsigned k = 0; k < TLB_SLOTS; k++)
        if (tlb_index(t->slots.page[k]) == index)
            t->slots.limit[k] = 0;
}

/* Page and addend stay: generated code may be between its look at the limit and the last access that this allows. */
void tlb_forget_copies(struct tlb *t, uint64_t page)
{
    unsigned index = tlb_index(page);
    if (tlb_index(t->stack.page) == index)
        memset(t->stack.limit, 0, sizeof t->stack.limit);
    if (t->info[index] & TLB_SLOTTED) {
        if (t->slots.filled)
            forget_slots(t, index);
        t->info[index] &= ~(uint64_t)TLB_SLOTTED;
    }
}

void tlb_clear_entry(struct tlb *t, unsigned index)
{
    struct tlb_entry *e = &t->e[index];
    tlb_forget_copies(t, (uint64_t)index << 12);
    e->tag_read = e->tag_write = e->tag_exec = tlb_empty_tag(index);
    t->used[index / 64] &= ~(UINT64_C(1) << (index % 64));
}

/* Calls drop(index) for entries in use and clears those it agrees to. */
static void tlb_drop(struct tlb *t, bool (*drop)(const struct tlb *t, unsigned k, uint64_t arg),
                     uint64_t arg)
{
    if (t->slots.filled)
        forget_all_slots(t);
    for (unsigned w = 0; w < TLB_SIZE / 64; w++) {
        uint64_t bits = t->used[w];
        while (bits) {
            unsigned k = w * 64 + __builtin_ctzll(bits);
            bits &= bits - 1;
            if (drop(t, k, arg))
                tlb_clear_entry(t, k);
        }
    }
}

static bool drop_any(const struct tlb *t, unsigned k, uint64_t arg)
{
    return true;
}

static bool drop_non_global(const struct tlb *t, unsigned k, uint64_t arg)
{
    return !(t->info[k] & TLB_GLOBAL);
}

/* The linear page of an entry in use: at least one of its tags names it. */
static uint64_t entry_page(const struct tlb *t, unsigned k)
{
    const struct tlb_entry *e = &t->e[k];
    uint64_t tag = e->tag_read != tlb_empty_tag(k)    ? e->tag_read
                   : e->tag_write != tlb_empty_tag(k) ? e->tag_write
                                                      : e->tag_exec;
    return (tag & ~TLB_SLOW) | ((uint64_t)k << 12 & TLB_SLOW);
}

/* The size of a large page is not kept: 4 MiB covers both kinds. */
static bool drop_page(const struct tlb *t, unsigned k, uint64_t addr)
{
    unsigned bits = t->info[k] & TLB_HUGE ? 30 : t->info[k] & TLB_LARGE ? 22 : 12;
    return entry_page(t, k) >> bits == addr >> bits;
}

static void space_drop_all(struct tlb_set *s, struct tlb_space *space)
{
    space->tables_turn++;
    for (unsigned v = 0; v < TLB_VIEWS; v++) {
        struct tlb *t = &space->view[v];
        tlb_drop(t, drop_any, 0);
        new_id(s, t, v);
        memset(t->exec, 0, sizeof t->exec);
        memset(t->large, 0, sizeof t->large);
        t->exec_local = false;
    }
}

static void space_drop_local(struct tlb_set *s, struct tlb_space *space)
{
    space->tables_turn++;
    for (unsigned v = 0; v < TLB_VIEWS; v++) {
        struct tlb *t = &space->view[v];
        tlb_drop(t, drop_non_global, 0);
        if (t->exec_local)
            new_id(s, t, v); /* even if none was here any more: code may have been found through one that is gone */
        t->exec_local = false;
    }
}

/* A flush is asked for, of all or of one address. */
static void note_flush(struct cpu *cpu, uint64_t addr)
{
    cpu->tlbs->flushes++;
    if (event_wanted(EVENT_TLB_FLUSH))
        event_emit(&(struct event){ .kind = EVENT_TLB_FLUSH, .vcpu = cpu->index, .cpl = cpu->cpl, .rip = cpu_rip(cpu),
                                    .address = addr });
}

void cpu_tlb_flush(struct cpu *cpu)
{
    struct tlb_set *s = cpu->tlbs;
    note_flush(cpu, UINT64_MAX);
    for (unsigned k = 0; k < TLB_SPACES; k++)
        if (s->space[k].in_use)
            space_drop_all(s, &s->space[k]);
}

void cpu_tlb_flush_address_space(struct cpu *cpu)
{
    note_flush(cpu, UINT64_MAX);
    space_drop_local(cpu->tlbs, &cpu->tlbs->space[cpu->tlbs->current]);
}

static bool any_exec(const struct tlb *t, unsigned half)
{
    uint64_t any = 0;
    for (unsigned w = 0; w < TLB_SIZE / 64; w++)
        any |= t->exec[half][w];
    return any;
}

static void space_flush_page(struct tlb_set *s, struct tlb_space *space, uint64_t addr)
{
    space->tables_turn++;
    for (unsigned v = 0; v < TLB_VIEWS; v++) {
        struct tlb *t = &space->view[v];
        unsigned k = tlb_index(addr), half = addr >> 63;
        uint64_t bit = UINT64_C(1) << (k % 64);
        bool large = t->large[half] >> tlb_large_bit(addr) & 1;
        if (large ? any_exec(t, half) : t->exec[half][k / 64] & bit)
            new_id(s, t, v);
        if (large) {
            tlb_drop(t, drop_page, addr);
            continue;
        }
        if (t->used[k / 64] & bit && entry_page(t, k) == (addr & PAGE_MASK))
            tlb_clear_entry(t, k);
    }
}

/* In every space: the page may be global. */
void cpu_tlb_flush_page(struct cpu *cpu, uint64_t addr)
{
    note_flush(cpu, addr);
    for (unsigned k = 0; k < TLB_SPACES; k++)
        if (cpu->tlbs->space[k].in_use)
            space_flush_page(cpu->tlbs, &cpu->tlbs->space[k], addr);
}

/* Types as in the INVPCID descriptor; the caller has checked them. */
void cpu_tlb_invpcid(struct cpu *cpu, unsigned type, uint16_t pcid, uint64_t addr)
{
    struct tlb_set *s = cpu->tlbs;
    note_flush(cpu, type == 0 ? addr : UINT64_MAX);
    for (unsigned k = 0; k < TLB_SPACES; k++) {
        struct tlb_space *space = &s->space[k];
        if (!space->in_use)
            continue;
        switch (type) {
        case 0: /* one address of one PCID, but global pages */
            if (space->pcid == pcid)
                space_flush_page(s, space, addr);
            break;
        case 1: /* one PCID, but global pages */
            if (space->pcid == pcid)
                space_drop_local(s, space);
            break;
        case 2: /* everything */
            space_drop_all(s, space);
            break;
        case 3: /* everything, but global pages */
            space_drop_local(s, space);
            break;
        }
    }
}

static unsigned current_pcid(const struct cpu *cpu)
{
    return cpu->cr4 & CR4_PCIDE ? cpu->cr3 & 0xfff : 0;
}

/* The space of this PCID; the longest unused one is emptied for it if there is none. */
static unsigned space_of(struct tlb_set *s, uint16_t pcid)
{
    unsigned oldest = 0;
    for (unsigned k = 0; k < TLB_SPACES; k++) {
        if (s->space[k].in_use && s->space[k].pcid == pcid)
            return k;
        if (s->space[k].last_used < s->space[oldest].last_used)
            oldest = k;
    }
    struct tlb_space *space = &s->space[oldest];
    if (space->in_use)
        space_drop_all(s, space);
    space->in_use = true;
    space->pcid = pcid;
    return oldest;
}

static bool supervisor_code_is_local(const struct tlb_space *space)
{
    return space->view[TLB_SUPER].exec_local || space->view[TLB_SUPER_AC].exec_local;
}

void cpu_tlb_switch(struct cpu *cpu)
{
    struct tlb_set *s = cpu->tlbs;
    uint16_t pcid = current_pcid(cpu);
    if (s->space[s->current].pcid != pcid || !s->space[s->current].in_use) {
        bool local = supervisor_code_is_local(&s->space[s->current]);
        s->current = space_of(s, pcid);
        if (local || supervisor_code_is_local(&s->space[s->current]))
            s->super_id = s->next_id++;
    }
    s->space[s->current].last_used = ++s->turn;
    bool align = cpu->cpl == 3 && cpu->rflags & FLAG_AC && cpu->cr0 & CR0_AM;
    cpu->tlb = align          ? &s->none
               : cpu->watcher ? cpu->watcher->tlb
                              : &s->space[s->current].view[cpu_tlb_view(cpu)];
    cpu->tlb_exec = &s->space[s->current].view[cpu->cpl == 3 ? TLB_USER : TLB_SUPER];
}

/* An entry whose stores are already slow, or not allowed yet, stays as it is. */
static void tlb_protect(struct tlb *t, uint64_t host_page)
{
    for (unsigned w = 0; w < TLB_SIZE / 64; w++) {
        uint64_t bits = t->used[w];
        while (bits) {
            unsigned k = w * 64 + __builtin_ctzll(bits);
            bits &= bits - 1;
            uint64_t page = entry_page(t, k);
            if (!(t->info[k] & TLB_IO) && page + t->e[k].addend == host_page && t->e[k].tag_write == page) {
                t->e[k].tag_write = page ^ TLB_SLOW;
                tlb_forget_copies(t, page);
            }
        }
    }
}

void tlb_protect_host_page(struct cpu *cpu, const uint8_t *host)
{
    uint64_t host_page = (uintptr_t)host & PAGE_MASK;
    for (unsigned k = 0; k < TLB_SPACES; k++)
        if (cpu->tlbs->space[k].in_use)
            for (unsigned v = 0; v < TLB_VIEWS; v++)
                tlb_protect(&cpu->tlbs->space[k].view[v], host_page);
}
