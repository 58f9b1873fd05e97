/*
 * The C side of generated code: in and out of it, handlers called from it, and the key of what it depends on.
 *
 * Thread: the vCPU's own.
 */
#include "tcg/unit.h"

#include "cpu/block.h"
#include "cpu/float80.h"

#define MXCSR_MASKS 0x1f80u

/* --- Arithmetic flags: in rflags for C, as LAHF and SETO leave them in AX for generated code --------------------------------- */

static void flags_to_code(struct cpu *cpu)
{
    uint64_t f = cpu->rflags;
    cpu->arith = (uint16_t)((f & 0xff) << 8 | (f >> 11 & 1));
}

void jit_flags_from_code(struct cpu *cpu)
{
    uint32_t low = FLAGS_ARITH & ~FLAG_OF;
    cpu->rflags = (cpu->rflags & ~(uint64_t)FLAGS_ARITH) | (cpu->arith >> 8 & low) | (cpu->arith & 1u) << 11;
}

/* --- What code depends on --------------------------------------------------------------------------------------------------------- */

static bool is_flat(const struct cpu *cpu, enum seg s)
{
    return cpu->seg[s].flat_read && cpu->seg[s].flat_write;
}

uint32_t jit_key(const struct cpu *cpu)
{
    uint32_t key = cpu->mode_key;
    if (~cpu->mxcsr & MXCSR_MASKS)
        key |= KEY_XM;
    if (~cpu->fpu.cw & FPU_EXCEPTIONS)
        key |= KEY_MF;
    if (cpu->code_size == 3)
        return key;
    if (is_flat(cpu, SEG_DS) && is_flat(cpu, SEG_ES) && is_flat(cpu, SEG_SS))
        key |= KEY_FLAT_DATA;
    if (!(cpu->seg[SEG_CS].base & ~PAGE_MASK))
        key |= KEY_ALIGNED;
    return key;
}

static uint64_t context(const struct cpu *cpu)
{
    return cpu->tlb_exec->id << 20 | jit_key(cpu);
}

void jit_update_context(struct cpu *cpu)
{
    cpu->jump_context = context(cpu);
}

/* --- Handlers ----------------------------------------------------------------------------------------------------------------------- */

/*
 * Does anything keep generated code from going on? The shadow of STI or MOV SS needs nothing here if no event is due and the
 * next instruction is in the unit: there is no poll before it.
 */
static bool must_leave(struct cpu *cpu, const struct insn *i)
{
    if (cpu->stop_at || context(cpu) != cpu->jump_context)
        return true;
    if (insn_row(i)->end == END_INDIRECT)
        return true; /* INTO, BOUND and others that did not go elsewhere: nothing was emitted behind them */
    uint32_t events = __atomic_load_n(&cpu->events, __ATOMIC_RELAXED);
    if (G_LIKELY(!events))
        return false;
    if (cpu_due_events(cpu))
        return true;
    if (events & CPU_EVENT_SHADOW && i->flags & INSN_LAST)
        return true;
    if (events & CPU_EVENT_SHADOW) {
        cpu_event_clear(cpu, CPU_EVENT_SHADOW);
        cpu->shadow_mov_ss = false;
    }
    return false;
}

bool jit_call_handler(struct cpu *cpu, const struct insn *i)
{
    jit_flags_from_code(cpu);
    uint64_t epoch = jit_epoch(cpu->jit);
    cpu->insn = i;
    cpu->stop_at = NULL;
    i->fn(cpu, i);
    bool leave = !cpu->insn; /* the handler has set RIP */
    if (!leave && (must_leave(cpu, i) || jit_epoch(cpu->jit) != epoch)) {
        cpu->rip = insn_next_rip(cpu, i);
        leave = true;
    }
    cpu->insn = NULL;
    flags_to_code(cpu);
    return leave;
}

void jit_interpret(struct cpu *cpu, const struct insn *i)
{
    cpu->rip = cpu_rip(cpu);
    cpu->insn = NULL;
    cpu_run_block(cpu, block_find(cpu, true));
    cpu->block = NULL;
}

/* --- In and out ----------------------------------------------------------------------------------------------------------------------- */

void jit_run(struct jit *j, struct cpu *cpu, const void *code)
{
    cpu->jit_link = NULL;
    cpu->block = NULL;
    flags_to_code(cpu);
    jit_backend_run(j, cpu, code);
    jit_flags_from_code(cpu);
    struct link *l = cpu->jit_link;
    if (l)
        cpu->rip += l->target;
    cpu->rip &= cpu_ip_mask(cpu);
    if (l)
        jit_resolve(j, cpu, l);
}
