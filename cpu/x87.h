/*
 * The x87 unit as its handlers (cpu/op_x87*.c), the MMX handlers and FXSAVE/XSAVE see it. On the vCPU's own thread.
 *
 * Order within a handler: x87_wait(); memory operand (may fault); x87_note(); stack checks; arithmetic; memory result
 * (may fault); x87_commit(); registers. What a later step needs unchanged is not touched by an earlier one.
 */
#ifndef CPU_X87_H
#define CPU_X87_H

#include "cpu/float80.h"
#include "cpu/mem.h"

/* Exceptions that, unmasked, keep a result out of a register; and out of memory. */
#define X87_BLOCK_REG (FPU_IE | FPU_DE | FPU_ZE)
#define X87_BLOCK_MEM (X87_BLOCK_REG | FPU_OE | FPU_UE)

/* What FNINIT does; the data registers keep their contents. Power-on differs: cw 0x40, tags all zero, registers +0. */
void x87_init(struct fpu *fpu);
/* Status word with TOP; full tag word; and their way back in, with ES and B as the control word makes them. */
static inline uint16_t x87_status(const struct fpu *fpu)
{
    return fpu->sw | fpu->top << FPU_TOP_SHIFT;
}
uint16_t x87_tags(const struct fpu *fpu);
void x87_set_control(struct fpu *fpu, uint16_t cw);
void x87_set_status(struct fpu *fpu, uint16_t sw);
void x87_set_tags(struct fpu *fpu, uint16_t tags);
/* Selectors as an image in memory shows them: 0 on models that have given them up. */
uint16_t x87_saved_cs(const struct cpu *cpu);
uint16_t x87_saved_ds(const struct cpu *cpu);

/* A pending unmasked exception: #MF, or FERR# if CR0.NE is 0. */
void x87_signal_pending(struct cpu *cpu);
/* Each x87, MMX and WAIT instruction but the no-wait ones begins with this. */
static inline void x87_wait(struct cpu *cpu)
{
    if (G_UNLIKELY(cpu->fpu.sw & FPU_ES))
        x87_signal_pending(cpu);
}

/* After what may have ended a pending exception: `before` is the status word it found. */
void x87_signal_gone(struct cpu *cpu);
static inline void x87_settle(struct cpu *cpu, uint16_t before)
{
    if (G_UNLIKELY(before & ~cpu->fpu.sw & FPU_ES))
        x87_signal_gone(cpu);
}

/* What every MMX instruction but EMMS (which then empties the stack) does to the unit, once it can no longer fault. */
static inline void x87_enter_mmx(struct cpu *cpu)
{
    cpu->fpu.top = 0;
    cpu->fpu.tag_valid = 0xff;
}

static inline struct float80 *x87_st(struct cpu *cpu, unsigned n)
{
    return &cpu->fpu.st[(cpu->fpu.top + n) & 7];
}
static inline bool x87_is_empty(const struct cpu *cpu, unsigned n)
{
    return !(cpu->fpu.tag_valid >> ((cpu->fpu.top + n) & 7) & 1);
}
static inline void x87_set(struct cpu *cpu, unsigned n, struct float80 v)
{
    unsigned p = (cpu->fpu.top + n) & 7;
    cpu->fpu.st[p] = v;
    cpu->fpu.tag_valid |= 1u << p;
}
static inline void x87_free(struct cpu *cpu, unsigned n)
{
    cpu->fpu.tag_valid &= ~(1u << ((cpu->fpu.top + n) & 7));
}
static inline void x87_pop(struct cpu *cpu)
{
    x87_free(cpu, 0);
    cpu->fpu.top = (cpu->fpu.top + 1) & 7;
}
static inline void x87_push(struct cpu *cpu, struct float80 v)
{
    cpu->fpu.top = (cpu->fpu.top - 1) & 7;
    x87_set(cpu, 0, v);
}

/* The control word as cpu/float80.h takes it. */
static inline uint32_t x87_control(const struct cpu *cpu)
{
    return cpu->fpu.cw | (uint32_t)(cpu->fpu.sw & cpu->fpu.cw & FPU_PE) * (FLOAT80_INEXACT / FPU_PE);
}

/* Number of the ST(i) operand. */
static inline unsigned x87_sti(const struct insn *i)
{
    return i->rm & 7;
}

/* Ten bytes in memory. */
static inline struct float80 x87_unpack(const uint8_t image[10])
{
    uint64_t mant;
    uint16_t sexp;
    memcpy(&mant, image, 8);
    memcpy(&sexp, image + 8, 2);
    return float80_make(GUINT16_FROM_LE(sexp), GUINT64_FROM_LE(mant));
}
static inline void x87_pack(uint8_t image[10], struct float80 v)
{
    uint64_t mant = GUINT64_TO_LE(v.mant);
    uint16_t sexp = GUINT16_TO_LE(v.sexp);
    memcpy(image, &mant, 8);
    memcpy(image + 8, &sexp, 2);
}

/* --- Memory operands of arithmetic and comparisons, widened to 80 bits -------------------------------------------- */

enum x87_format { X87_F32, X87_F64, X87_INT16, X87_INT32 };

struct x87_operand {
    struct float80 v;
    bool denormal; /* in its own format: widened, it no longer shows */
};

static inline struct x87_operand x87_load_operand(struct cpu *cpu, const struct insn *i, enum x87_format format)
{
    struct x87_operand o = { .denormal = false };
    switch (format) {
    case X87_F32: {
        uint32_t v = mem_load32(cpu, insn_linear(cpu, i, 4, false), i->seg);
        o.v = float80_widen_f32(v);
        o.denormal = !(v & 0x7f800000) && (v & 0x7fffff);
        break;
    }
    case X87_F64: {
        uint64_t v = mem_load64(cpu, insn_linear(cpu, i, 8, false), i->seg);
        o.v = float80_widen_f64(v);
        o.denormal = !(v & UINT64_C(0x7ff0000000000000)) && (v & UINT64_C(0xfffffffffffff));
        break;
    }
    case X87_INT16: o.v = float80_from_int((int16_t)mem_load16(cpu, insn_linear(cpu, i, 2, false), i->seg)); break;
    case X87_INT32: o.v = float80_from_int((int32_t)mem_load32(cpu, insn_linear(cpu, i, 4, false), i->seg)); break;
    }
    return o;
}

/* --- What an instruction leaves behind ---------------------------------------------------------------------------- */

/* Opcode and data pointer of the instruction under way become the last ones. */
void x87_note_operand(struct cpu *cpu, const struct insn *i);
/* Each non-control instruction notes its address. */
static inline void x87_note(struct cpu *cpu, const struct insn *i)
{
    cpu->fpu.ip = (cpu->rip + i->end - i->len) & cpu_ip_mask(cpu);
    cpu->fpu.cs = cpu->seg[SEG_CS].selector;
    if (!cpu_has(cpu, FEAT_FDP_EXCPTN_ONLY))
        x87_note_operand(cpu, i);
}

/* Sets ES and B. */
void x87_unmasked(struct cpu *cpu, const struct insn *i);
/*
 * Puts `flags` (exceptions and C1) into the status word and raises the summary if one is unmasked. False: one of
 * `block` is, so that the instruction has no result.
 */
static inline bool x87_commit(struct cpu *cpu, const struct insn *i, unsigned flags, unsigned block)
{
    unsigned unmasked = flags & ~cpu->fpu.cw & FPU_EXCEPTIONS;
    cpu->fpu.sw = (cpu->fpu.sw & ~FPU_C1) | flags;
    if (G_LIKELY(!unmasked))
        return true;
    x87_unmasked(cpu, i);
    return !(unmasked & block);
}
/* A stack fault: as x87_commit. True: masked, the real indefinite is the answer. */
static inline bool x87_underflow(struct cpu *cpu, const struct insn *i)
{
    return x87_commit(cpu, i, FPU_IE | FPU_SF, FPU_IE);
}
static inline bool x87_overflow(struct cpu *cpu, const struct insn *i)
{
    return x87_commit(cpu, i, FPU_IE | FPU_SF | FPU_C1, FPU_IE);
}

#endif
