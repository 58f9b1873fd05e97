/*
 * The jump cache: where translated code for an RIP begins, as generated code finds it without asking anybody.
 *
 * What code may run depends on more than RIP: the address space, CPL, and all that translations depend on. Together they are a
 * context. Each context used lately has a region of the vCPU's entries for itself, so that an entry is found by RIP alone and
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

static struct jump_entry *entry_of(struct cpu *cpu)
{
    unsigned bits = cpu->cpl == 0 ? JUMP_SYSTEM_BITS : JUMP_USER_BITS;
    return &cpu->jumps[cpu->jump_base / sizeof(struct jump_entry) + index_of(cpu->rip, bits)];
}

/* A supervisor's code is found in whatever address space it was found before. */
uint64_t jit_context(const struct cpu *cpu)
{
    uint64_t id = cpu->cpl == 3 ? cpu->tlb_exec->id : cpu->tlbs->super_id;
    return id << 24 | jit_key(cpu);
}

/* The region of a context; if it has none, the one that has been idle longest. */
static unsigned region_of(struct cpu *cpu, uint64_t context)
{
    struct jump_region *r = cpu->jump_regions;
    unsigned first = cpu->cpl == 0 ? 0 : JUMP_SYSTEM_REGIONS, end = cpu->cpl == 0 ? JUMP_SYSTEM_REGIONS : JUMP_REGIONS;
    unsigned oldest = first;
    for (unsigned k = first; k < end; k++) {
        if (r[k].context == context)
            return k;
        if (r[k].last_used < r[oldest].last_used)
            oldest = k;
    }
    r[oldest].context = context;
    clear_region(cpu, oldest);
    return oldest;
}

void jit_update_context(struct cpu *cpu)
{
    uint64_t context = jit_context(cpu);
    if (context == cpu->jump_context)
        return;
    unsigned region = region_of(cpu, context);
    cpu->jump_regions[region].last_used = ++cpu->jump_turn;
    cpu->jump_context = context;
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
        clear_entry(e, index_of(cpu->rip, cpu->cpl == 0 ? JUMP_SYSTEM_BITS : JUMP_USER_BITS));
}

void jit_jumps_forget(struct cpu *cpu)
{
    for (unsigned k = 0; k < JUMP_REGIONS; k++)
        if (cpu->jump_regions[k].context)
            clear_region(cpu, k);
}
