/*
 * What all string instructions have in common: MOVS to SCAS (op_string.c), INS and OUTS (op_io.c).
 */
#ifndef CPU_OP_STRING_H
#define CPU_OP_STRING_H

#include "cpu/flags.h"
#include "cpu/insn.h"
#include "cpu/mem.h"

#define INSN_ANY_REP (INSN_REP | INSN_REPNE)

/* The segment of ES:rDI, which nothing overrides. */
static inline unsigned string_dest(const struct cpu *cpu)
{
    return cpu->code_size == 3 ? SEG_FLAT : SEG_ES;
}

/* What an element of `size` (log2) adds to rSI and rDI. */
static inline uint64_t string_step(const struct cpu *cpu, unsigned size)
{
    return cpu->rflags & FLAG_DF ? 0 - (UINT64_C(1) << size) : UINT64_C(1) << size;
}

static inline void string_advance(struct cpu *cpu, const struct insn *i, unsigned r, uint64_t by)
{
    reg_set(cpu, r, cpu->r[r] + by, i->asize);
}

/*
 * After some elements of a REP: writes the counter; true if the instruction has to be left now. If elements remain,
 * it is executed again afterwards.
 */
static inline bool rep_pause(struct cpu *cpu, const struct insn *i, uint64_t count)
{
    reg_set(cpu, R_RCX, count, i->asize);
    if (count == 0)
        return true;
    if (G_LIKELY(!cpu_due_events(cpu)))
        return false;
    cpu_set_rip(cpu, cpu_rip(cpu));
    if (cpu_due_events(cpu) & (CPU_EVENT_TRAP | CPU_EVENT_INTR | CPU_EVENT_NMI)) {
        cpu->rflags |= FLAG_RF; /* as the frame will tell: SDM volume 3, 18.3.1.1 */
        cpu_update_mode(cpu);
    }
    return true;
}

/*
 * The number of elements to go. In 64-bit mode a 32-bit counter loses its upper half even if it is 0, and so do RSI
 * and RDI in MOVS and STOS: processors do that before the first element can fault.
 */
static inline uint64_t rep_begin(struct cpu *cpu, const struct insn *i, bool rsi, bool rdi)
{
    uint64_t count = reg_get(cpu, R_RCX, i->asize);

    reg_set(cpu, R_RCX, count, i->asize);
    if (rsi)
        string_advance(cpu, i, R_RSI, 0);
    if (rdi)
        string_advance(cpu, i, R_RDI, 0);
    return count;
}

#endif
