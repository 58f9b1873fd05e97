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
    if (cpu->cr4 & CR4_SMAP && !cpu->watcher)
        key |= KEY_SMAP; /* who watches accesses has a view of memory of their own */
    if (cpu->code_size == 3)
        return key;
    if (is_flat(cpu, SEG_DS) && is_flat(cpu, SEG_ES) && is_flat(cpu, SEG_SS))
        key |= KEY_FLAT_DATA;
    return key;
}

/* --- Handlers ----------------------------------------------------------------------------------------------------------------------- */

/*
 * Something is due, or code has been written to that may be what is under way: by DMA that the handler has started, or by another
 * processor before the handler serialized.
 */
static bool has_to_look(const struct cpu *cpu)
{
    return __atomic_load_n(&cpu->poll, __ATOMIC_SEQ_CST);
}

/*
 * Does anything keep generated code from going on behind *i? The shadow of STI or MOV SS needs nothing here if no event is due,
 * since there is no poll before the next instruction: where there might be one, *i says so.
 */
static bool must_leave(struct cpu *cpu, const struct insn *i)
{
    if (cpu->stop_at || jit_context_changed(cpu))
        return true;
    if (insn_row(i)->end == END_INDIRECT)
        return true; /* INTO, BOUND and others that did not go elsewhere: nothing was emitted behind them */
    uint32_t events = __atomic_load_n(&cpu->events, __ATOMIC_RELAXED);
    if (G_LIKELY(!events))
        return false;
    if (cpu_due_events(cpu) || (events & CPU_EVENT_SHADOW && i->flags & INSN_POLL_NEXT))
        return true;
    if (events & CPU_EVENT_SHADOW) {
        cpu_event_clear(cpu, CPU_EVENT_SHADOW);
        cpu->shadow_mov_ss = false;
        __atomic_fetch_and(&cpu->poll, ~POLL_EVENT, __ATOMIC_SEQ_CST); /* the shadow had set it */
        if (__atomic_load_n(&cpu->events, __ATOMIC_SEQ_CST))
            __atomic_fetch_or(&cpu->poll, POLL_EVENT, __ATOMIC_SEQ_CST);
    }
    return false;
}

/* Where generated code can go on at once after a handler has gone elsewhere, without a look at anything else. */
static const void *next_code(struct cpu *cpu)
{
    if (has_to_look(cpu) || cpu_due_events(cpu) || cpu->activity != CPU_RUNNING ||
        __atomic_load_n(&cpu->events, __ATOMIC_RELAXED) & (CPU_EVENT_STEP | CPU_EVENT_SHADOW))
        return JIT_LEAVE;
    jit_update_context(cpu);
    const void *code = jit_peek(cpu);
    if (!code) {
        cpu->jump_wanted = cpu->rip;
        code = jit_look_up(cpu);
    }
    return code ? code : JIT_LEAVE;
}

const void *jit_call_handler(struct cpu *cpu, const struct insn *i)
{
    const void *next = NULL;
    jit_flags_from_code(cpu);
    uint64_t epoch = jit_epoch(cpu->jit);
    if (G_UNLIKELY(cpu->slot_misses_left < 0))
        jit_slots_missed(cpu->jit, cpu, i);
    if (i->flags & INSN_RUN)
        jit_run_failed(cpu->jit, cpu, i);
    for (;; i++) {
        cpu->handler_calls[i->row]++;
        cpu->insn = i;
        cpu->stop_at = NULL;
        i->fn(cpu, i);
        if (!cpu->insn) { /* the handler has set RIP */
            next = next_code(cpu);
            break;
        }
        if (must_leave(cpu, i) || has_to_look(cpu) || jit_epoch(cpu->jit) != epoch) {
            cpu->rip = insn_next_rip(cpu, i);
            cpu->insn = NULL;
            next = next_code(cpu);
            break;
        }
        if (!(i->flags & INSN_RUN))
            break;
    }
    cpu->insn = NULL;
    cpu->left_for_handler += next == JIT_LEAVE;
    flags_to_code(cpu);
    return next;
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
    cpu->code_entries++;
    cpu->left_for_link += l != NULL;
    if (__atomic_load_n(&cpu->poll, __ATOMIC_RELAXED) && !l)
        jit_sample(j, cpu);
    if (l)
        cpu->rip += l->target;
    cpu->rip &= cpu_ip_mask(cpu);
    if (l)
        jit_resolve(j, cpu, l);
}
