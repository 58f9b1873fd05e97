/*
 * x87 arithmetic: FADD FSUB FMUL FDIV with their reversed, popping and integer forms, FSQRT FRNDINT FSCALE FPREM
 * FXTRACT FCHS FABS and the transcendental instructions.
 *
 * Intel SDM volume 1, chapter 8, and volume 2. The numbers are cpu/float80.h's; here are the stack, the responses to
 * exceptions and the condition codes. On the vCPU's own thread.
 */
#include "cpu/op_form.h"
#include "cpu/x87.h"

/* Adds the denormal operand exception of a widened operand to what the operation on 80 bits has found. */
static unsigned add_denormal(const struct cpu *cpu, unsigned flags, struct float80 st0)
{
    if (flags & (FPU_IE | FPU_ZE) || float80_is_nan(st0))
        return flags;
    /* Unmasked, it comes before the operation: nothing that the result would show is reported. */
    if (!(cpu->fpu.cw & FPU_DE))
        flags &= FPU_C0 | FPU_C2 | FPU_C3;
    return flags | FPU_DE;
}

/* --- Two operands ------------------------------------------------------------------------------------------------- */

static inline void arith_mem(struct cpu *cpu, const struct insn *i, float80_binary *op, enum x87_format format,
                             bool reverse)
{
    struct float80 r;
    unsigned flags;
    x87_wait(cpu);
    struct x87_operand o = x87_load_operand(cpu, i, format);
    x87_note(cpu, i);
    if (x87_is_empty(cpu, 0)) {
        if (x87_underflow(cpu, i))
            x87_set(cpu, 0, float80_indefinite());
        return;
    }
    struct float80 *st0 = x87_st(cpu, 0);
    flags = reverse ? op(&r, o.v, *st0, x87_control(cpu)) : op(&r, *st0, o.v, x87_control(cpu));
    if (G_UNLIKELY(o.denormal))
        flags = add_denormal(cpu, flags, *st0);
    if (x87_commit(cpu, i, flags, X87_BLOCK_REG))
        *st0 = r;
}

/* ST(dst) = ST(a) op ST(b) */
static inline void arith_reg(struct cpu *cpu, const struct insn *i, float80_binary *op, unsigned dst, unsigned a,
                             unsigned b, bool pop)
{
    struct float80 r = float80_indefinite();
    bool store;
    x87_wait(cpu);
    x87_note(cpu, i);
    if (x87_is_empty(cpu, a) || x87_is_empty(cpu, b))
        store = x87_underflow(cpu, i);
    else
        store = x87_commit(cpu, i, op(&r, *x87_st(cpu, a), *x87_st(cpu, b), x87_control(cpu)), X87_BLOCK_REG);
    if (!store)
        return;
    x87_set(cpu, dst, r);
    if (pop)
        x87_pop(cpu);
}

#define ARITH_MEM(name, op, format, reverse) \
    static void name##_fn(struct cpu *cpu, const struct insn *i) \
    { \
        arith_mem(cpu, i, op, format, reverse); \
    } \
    OP_FORM_ONE(name)
#define ARITH_FORMATS(name, op, reverse) \
    ARITH_MEM(f##name##_m32, op, X87_F32, reverse) \
    ARITH_MEM(f##name##_m64, op, X87_F64, reverse) \
    ARITH_MEM(fi##name##_m16, op, X87_INT16, reverse) \
    ARITH_MEM(fi##name##_m32, op, X87_INT32, reverse)
ARITH_FORMATS(add, float80_add, false)
ARITH_FORMATS(mul, float80_mul, false)
ARITH_FORMATS(sub, float80_sub, false)
ARITH_FORMATS(subr, float80_sub, true)
ARITH_FORMATS(div, float80_div, false)
ARITH_FORMATS(divr, float80_div, true)

/* The destination is the left operand, except in the reversed forms. */
#define ARITH_REG(name, op, dst, a, b, pop) \
    static void name##_fn(struct cpu *cpu, const struct insn *i) \
    { \
        arith_reg(cpu, i, op, dst, a, b, pop); \
    } \
    OP_FORM_ONE(name)
#define ARITH_REGS(name, op) \
    ARITH_REG(f##name##_st0_sti, op, 0, 0, x87_sti(i), false) \
    ARITH_REG(f##name##_sti_st0, op, x87_sti(i), x87_sti(i), 0, false) \
    ARITH_REG(f##name##p, op, x87_sti(i), x87_sti(i), 0, true)
#define ARITH_REGS_REVERSED(name, op) \
    ARITH_REG(f##name##_st0_sti, op, 0, x87_sti(i), 0, false) \
    ARITH_REG(f##name##_sti_st0, op, x87_sti(i), 0, x87_sti(i), false) \
    ARITH_REG(f##name##p, op, x87_sti(i), 0, x87_sti(i), true)
ARITH_REGS(add, float80_add)
ARITH_REGS(mul, float80_mul)
ARITH_REGS(sub, float80_sub)
ARITH_REGS_REVERSED(subr, float80_sub)
ARITH_REGS(div, float80_div)
ARITH_REGS_REVERSED(divr, float80_div)

ARITH_REG(fscale, float80_scale, 0, 0, 1, false)

/* --- One operand -------------------------------------------------------------------------------------------------- */

static inline void unary(struct cpu *cpu, const struct insn *i, float80_unary *op)
{
    struct float80 r = float80_indefinite();
    bool store;
    x87_wait(cpu);
    x87_note(cpu, i);
    if (x87_is_empty(cpu, 0))
        store = x87_underflow(cpu, i);
    else
        store = x87_commit(cpu, i, op(&r, *x87_st(cpu, 0), x87_control(cpu)), X87_BLOCK_REG);
    if (store)
        x87_set(cpu, 0, r);
}

static unsigned change_sign(struct float80 *r, struct float80 a, uint32_t cw)
{
    *r = float80_make(a.sexp ^ FLOAT80_SIGN, a.mant);
    return 0;
}

static unsigned absolute(struct float80 *r, struct float80 a, uint32_t cw)
{
    *r = float80_make(a.sexp & FLOAT80_EXP, a.mant);
    return 0;
}

#define UNARY(name, op) \
    static void name##_fn(struct cpu *cpu, const struct insn *i) \
    { \
        unary(cpu, i, op); \
    } \
    OP_FORM_ONE(name)
UNARY(fchs, change_sign)
UNARY(fsqrt, float80_sqrt)
UNARY(frndint, float80_round)
UNARY(fabs, absolute)
UNARY(f2xm1, float80_2xm1)

static inline void prem(struct cpu *cpu, const struct insn *i, float80_binary *op)
{
    struct float80 r;
    x87_wait(cpu);
    x87_note(cpu, i);
    cpu->fpu.sw &= ~FPU_C2;
    if (x87_is_empty(cpu, 0) || x87_is_empty(cpu, 1)) {
        if (x87_underflow(cpu, i))
            x87_set(cpu, 0, float80_indefinite());
        return;
    }
    unsigned flags = op(&r, *x87_st(cpu, 0), *x87_st(cpu, 1), x87_control(cpu));
    bool numbers = !float80_is_nan(*x87_st(cpu, 0)) && !float80_is_nan(*x87_st(cpu, 1));
    if (numbers && !(flags & (FPU_IE | (FPU_DE & ~cpu->fpu.cw))))
        cpu->fpu.sw &= ~(FPU_C0 | FPU_C3);
    else
        flags &= ~(FPU_C0 | FPU_C3); /* there is no quotient: they keep their values */
    if (x87_commit(cpu, i, flags, X87_BLOCK_REG))
        x87_set(cpu, 0, r);
}

static void fprem_fn(struct cpu *cpu, const struct insn *i)
{
    prem(cpu, i, float80_prem);
}
OP_FORM_ONE(fprem)

static void fprem1_fn(struct cpu *cpu, const struct insn *i)
{
    prem(cpu, i, float80_prem1);
}
OP_FORM_ONE(fprem1)

/* --- Transcendental instructions ---------------------------------------------------------------------------------- */

ARITH_REG(fyl2x, float80_yl2x, 1, 0, 1, true)
ARITH_REG(fyl2xp1, float80_yl2xp1, 1, 0, 1, true)
ARITH_REG(fpatan, float80_patan, 1, 0, 1, true)

static inline void circular(struct cpu *cpu, const struct insn *i, float80_unary *op)
{
    struct float80 r;
    x87_wait(cpu);
    x87_note(cpu, i);
    cpu->fpu.sw &= ~FPU_C2;
    if (x87_is_empty(cpu, 0)) {
        if (x87_underflow(cpu, i))
            x87_set(cpu, 0, float80_indefinite());
        return;
    }
    unsigned flags = op(&r, *x87_st(cpu, 0), x87_control(cpu));
    if (x87_commit(cpu, i, flags, X87_BLOCK_REG) && !(flags & FPU_C2))
        x87_set(cpu, 0, r);
}

static void fsin_fn(struct cpu *cpu, const struct insn *i)
{
    circular(cpu, i, float80_sin);
}
OP_FORM_ONE(fsin)

static void fcos_fn(struct cpu *cpu, const struct insn *i)
{
    circular(cpu, i, float80_cos);
}
OP_FORM_ONE(fcos)

/* Instructions that leave one result in place and push another. True: there is an operand, and room for the second. */
static bool may_push(struct cpu *cpu, const struct insn *i)
{
    bool masked;
    if (x87_is_empty(cpu, 0))
        masked = x87_underflow(cpu, i);
    else if (!x87_is_empty(cpu, 7))
        masked = x87_overflow(cpu, i);
    else
        return true;
    if (masked) {
        x87_set(cpu, 0, float80_indefinite());
        x87_push(cpu, float80_indefinite());
    }
    return false;
}

/* `cc`: condition codes that the instruction defines. */
static inline void one_to_two(struct cpu *cpu, const struct insn *i, float80_push *op, unsigned cc)
{
    struct float80 below, top;
    x87_wait(cpu);
    x87_note(cpu, i);
    cpu->fpu.sw &= ~cc;
    if (!may_push(cpu, i))
        return;
    unsigned flags = op(&below, &top, *x87_st(cpu, 0), x87_control(cpu));
    if (x87_commit(cpu, i, flags, X87_BLOCK_REG) && !(flags & FPU_C2)) {
        x87_set(cpu, 0, below);
        x87_push(cpu, top);
    }
}

static void fsincos_fn(struct cpu *cpu, const struct insn *i)
{
    one_to_two(cpu, i, float80_sincos, FPU_C2);
}
OP_FORM_ONE(fsincos)

static void fptan_fn(struct cpu *cpu, const struct insn *i)
{
    one_to_two(cpu, i, float80_tan, FPU_C2);
}
OP_FORM_ONE(fptan)

static void fxtract_fn(struct cpu *cpu, const struct insn *i)
{
    one_to_two(cpu, i, float80_extract, 0);
}
OP_FORM_ONE(fxtract)
