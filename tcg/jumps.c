/*
 * The jump cache: where translated code for an RIP begins, as generated code finds it without asking anybody.
 *
 * What code may run depends on more than RIP: the address space, CPL, and all that translations depend on, where CS is not flat
 * its base and limit, too. Together they are a context. Each context used lately has a region of the vCPU's entries for itself, so that an entry is found by RIP alone and
 * contexts that take turns keep theirs.
 *
 * An entry that must not be found holds an RIP that belongs elsewhere.
 *
 * Thread: the vCPU's own; jit_jumps_forget() while the vCPU is outside.
 */
#include "tcg/unit.h"

static unsigned bits_of(unsigned region)
{
    return region < JUMP_SYSTEM_REGIONS ? JUMP_SYSTEM_BITS : JUMP_USER_BITS;
}

unsigned jit_jumps_first(unsigned region)
{
    if (region < JUMP_SYSTEM_REGIONS)
        return region << JUMP_SYSTEM_BITS;
    return (JUMP_SYSTEM_REGIONS << JUMP_SYSTEM_BITS) + ((region - JUMP_SYSTEM_REGIONS) << JUMP_USER_BITS);
}

static unsigned index_of(uint64_t pc, unsigned bits)
{
    return (uint32_t)((uint32_t)pc * JUMP_HASH) >> (32 - bits);
}

static void clear_entry(struct jump_entry *e, unsigned index)
{
    e->pc = index == 0; /* 0 belongs to index 0, 1 does not */
}

static void clear_region(struct cpu *cpu, unsigned region)
{
    struct jump_entry *e = &cpu->jumps[jit_jumps_first(region)];
    for (unsigned k = 0; k < 1u << bits_of(region); k++)
        clear_entry(&e[k], k);
}

/* Kernels have much code; programs, and what runs in small segments, have less. */
static bool is_large(const struct cpu *cpu)
{
    return cpu->cpl == 0 && cpu->mode_key & MODE_FLAT;
}

static struct jump_entry *entry_of(struct cpu *cpu)
{
    unsigned bits = is_large(cpu) ? JUMP_SYSTEM_BITS : JUMP_USER_BITS;
    return &cpu->jumps[cpu->jump_base / sizeof(struct jump_entry) + index_of(cpu->rip, bits)];
}

/* A supervisor's code is found in whatever address space it was found before. */
static uint64_t context_of(const struct cpu *cpu)
{
    uint64_t id = cpu->cpl == 3 ? cpu->tlb_exec->id : cpu->tlbs->super_id;
    return id << 24 | jit_key(cpu);
}

/* What of CS the code depends on, beside that. */
static uint64_t code_segment(const struct cpu *cpu)
{
    const struct segment *cs = &cpu->seg[SEG_CS];
    return cpu->mode_key & MODE_FLAT ? 0 : cs->base << 32 | cs->limit;
}

bool jit_context_changed(const struct cpu *cpu)
{
    return context_of(cpu) != cpu->jump_context || code_segment(cpu) != cpu->jump_segment;
}

/* The region of a context; if it has none, the one that has been idle longest. */
static unsigned region_of(struct cpu *cpu, uint64_t context, uint64_t segment)
{
    struct jump_region *r = cpu->jump_regions;
    unsigned first = is_large(cpu) ? 0 : JUMP_SYSTEM_REGIONS, end = is_large(cpu) ? JUMP_SYSTEM_REGIONS : JUMP_REGIONS;
    unsigned oldest = first;
    for (unsigned k = first; k < end; k++) {
        if (r[k].context == context && r[k].segment == segment)
            return k;
        if (r[k].last_used < r[oldest].last_used)
            oldest = k;
    }
    r[oldest].context = context;
    r[oldest].segment = segment;
    clear_region(cpu, oldest);
    return oldest;
}

void jit_update_context(struct cpu *cpu)
{
    if (!jit_context_changed(cpu))
        return;
    uint64_t context = context_of(cpu), segment = code_segment(cpu);
    unsigned region = region_of(cpu, context, segment);
    cpu->jump_regions[region].last_used = ++cpu->jump_turn;
    cpu->jump_context = context;
    cpu->jump_segment = segment;
    cpu->jump_base = jit_jumps_first(region) * (uint32_t)sizeof(struct jump_entry);
}

const void *jit_peek(struct cpu *cpu)
{
    const struct jump_entry *e = entry_of(cpu);
    return e->pc == cpu->rip ? e->code : NULL;
}

void jit_jumps_set(struct cpu *cpu, const void *code)
{
    *entry_of(cpu) = (struct jump_entry){ .pc = cpu->rip, .code = code };
}

void jit_jumps_drop(struct cpu *cpu)
{
    struct jump_entry *e = entry_of(cpu);
    if (e->pc == cpu->rip)
        clear_entry(e, index_of(cpu->rip, is_large(cpu) ? JUMP_SYSTEM_BITS : JUMP_USER_BITS));
}

void jit_jumps_forget(struct cpu *cpu)
{
    for (unsigned k = 0; k < JUMP_REGIONS; k++)
        if (cpu->jump_regions[k].context)
            clear_region(cpu, k);
}
