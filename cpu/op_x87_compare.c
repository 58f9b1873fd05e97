/*
 * x87 comparison and classification: FCOM FUCOM FICOM FTST FXAM with their popping forms, FCOMI FUCOMI, FCMOVcc.
 *
 * Intel SDM volume 2. On the vCPU's own thread.
 */
#include "cpu/op_form.h"
#include "cpu/x87.h"

#define CC_ORDER (FPU_C0 | FPU_C2 | FPU_C3)

typedef unsigned compare_fn(struct float80 a, struct float80 b, uint32_t cw);

/* An unmasked exception does not keep the condition codes from being set, but it keeps the stack from being popped. */
static inline void set_order(struct cpu *cpu, const struct insn *i, unsigned flags, unsigned pops)
{
    cpu->fpu.sw &= ~CC_ORDER;
    if (x87_commit(cpu, i, flags, X87_BLOCK_REG))
        while (pops--)
            x87_pop(cpu);
}

#define UNORDERED_UNDERFLOW (FPU_IE | FPU_SF | CC_ORDER)

static inline void compare_reg(struct cpu *cpu, const struct insn *i, compare_fn *op, unsigned n, unsigned pops)
{
    unsigned flags = UNORDERED_UNDERFLOW;
    x87_wait(cpu);
    x87_note(cpu, i);
    if (!x87_is_empty(cpu, 0) && !x87_is_empty(cpu, n))
        flags = op(*x87_st(cpu, 0), *x87_st(cpu, n), x87_control(cpu));
    set_order(cpu, i, flags, pops);
}

static inline void compare_value(struct cpu *cpu, const struct insn *i, struct x87_operand o, unsigned pops)
{
    unsigned flags = UNORDERED_UNDERFLOW;
    x87_note(cpu, i);
    if (!x87_is_empty(cpu, 0)) {
        flags = float80_compare(*x87_st(cpu, 0), o.v, x87_control(cpu));
        if (o.denormal && !(flags & FPU_IE))
            flags |= FPU_DE;
    }
    set_order(cpu, i, flags, pops);
}

static inline void compare_mem(struct cpu *cpu, const struct insn *i, enum x87_format format, unsigned pops)
{
    x87_wait(cpu);
    compare_value(cpu, i, x87_load_operand(cpu, i, format), pops);
}

#define COMPARE(name, call) \
    static void name##_fn(struct cpu *cpu, const struct insn *i) \
    { \
        call; \
    } \
    OP_FORM_ONE(name)
COMPARE(fcom_sti, compare_reg(cpu, i, float80_compare, x87_sti(i), 0))
COMPARE(fcomp_sti, compare_reg(cpu, i, float80_compare, x87_sti(i), 1))
COMPARE(fcompp, compare_reg(cpu, i, float80_compare, 1, 2))
COMPARE(fucom, compare_reg(cpu, i, float80_compare_quiet, x87_sti(i), 0))
COMPARE(fucomp, compare_reg(cpu, i, float80_compare_quiet, x87_sti(i), 1))
COMPARE(fucompp, compare_reg(cpu, i, float80_compare_quiet, 1, 2))
COMPARE(fcom_m32, compare_mem(cpu, i, X87_F32, 0))
COMPARE(fcomp_m32, compare_mem(cpu, i, X87_F32, 1))
COMPARE(fcom_m64, compare_mem(cpu, i, X87_F64, 0))
COMPARE(fcomp_m64, compare_mem(cpu, i, X87_F64, 1))
COMPARE(ficom_m16, compare_mem(cpu, i, X87_INT16, 0))
COMPARE(ficomp_m16, compare_mem(cpu, i, X87_INT16, 1))
COMPARE(ficom_m32, compare_mem(cpu, i, X87_INT32, 0))
COMPARE(ficomp_m32, compare_mem(cpu, i, X87_INT32, 1))

static void ftst_fn(struct cpu *cpu, const struct insn *i)
{
    x87_wait(cpu);
    compare_value(cpu, i, (struct x87_operand){ float80_make(0, 0), false }, 0);
}
OP_FORM_ONE(ftst)

/* To RFLAGS instead of the condition codes, of which C1 too stays as it is, unless the stack underflows. */
static inline void compare_flags(struct cpu *cpu, const struct insn *i, compare_fn *op, bool pop)
{
    unsigned flags = UNORDERED_UNDERFLOW, n = x87_sti(i), c1 = 0;
    x87_wait(cpu);
    x87_note(cpu, i);
    if (!x87_is_empty(cpu, 0) && !x87_is_empty(cpu, n)) {
        flags = op(*x87_st(cpu, 0), *x87_st(cpu, n), x87_control(cpu));
        c1 = cpu->fpu.sw & FPU_C1;
    }
    cpu->rflags = (cpu->rflags & ~(uint64_t)FLAGS_ARITH) | (flags & FPU_C3 ? FLAG_ZF : 0) |
                  (flags & FPU_C2 ? FLAG_PF : 0) | (flags & FPU_C0 ? FLAG_CF : 0);
    if (x87_commit(cpu, i, (flags & ~CC_ORDER) | c1, X87_BLOCK_REG) && pop)
        x87_pop(cpu);
}
COMPARE(fcomi, compare_flags(cpu, i, float80_compare, false))
COMPARE(fcomip, compare_flags(cpu, i, float80_compare, true))
COMPARE(fucomi, compare_flags(cpu, i, float80_compare_quiet, false))
COMPARE(fucomip, compare_flags(cpu, i, float80_compare_quiet, true))

static unsigned classify(struct float80 a)
{
    unsigned exp = a.sexp & FLOAT80_EXP;
    if (float80_unsupported(a))
        return 0;
    if (exp == FLOAT80_EXP)
        return a.mant == FLOAT80_INT ? FPU_C2 | FPU_C0 : FPU_C0;
    if (exp)
        return FPU_C2;
    return a.mant ? FPU_C3 | FPU_C2 : FPU_C3;
}

static void fxam_fn(struct cpu *cpu, const struct insn *i)
{
    x87_wait(cpu);
    x87_note(cpu, i);
    struct float80 a = *x87_st(cpu, 0);
    unsigned cc = x87_is_empty(cpu, 0) ? FPU_C3 | FPU_C0 : classify(a);
    cpu->fpu.sw = (cpu->fpu.sw & ~FPU_CC) | cc | (a.sexp & FLOAT80_SIGN ? FPU_C1 : 0);
}
OP_FORM_ONE(fxam)

static inline void cmov(struct cpu *cpu, const struct insn *i, uint64_t flags, bool set)
{
    unsigned n = x87_sti(i);
    x87_wait(cpu);
    x87_note(cpu, i);
    if (x87_is_empty(cpu, 0) || x87_is_empty(cpu, n)) {
        if (x87_underflow(cpu, i))
            x87_set(cpu, 0, float80_indefinite());
        return;
    }
    if (!(cpu->rflags & flags) != set)
        x87_set(cpu, 0, *x87_st(cpu, n));
}
COMPARE(fcmovb, cmov(cpu, i, FLAG_CF, true))
COMPARE(fcmove, cmov(cpu, i, FLAG_ZF, true))
COMPARE(fcmovbe, cmov(cpu, i, FLAG_CF | FLAG_ZF, true))
COMPARE(fcmovu, cmov(cpu, i, FLAG_PF, true))
COMPARE(fcmovnb, cmov(cpu, i, FLAG_CF, false))
COMPARE(fcmovne, cmov(cpu, i, FLAG_ZF, false))
COMPARE(fcmovnbe, cmov(cpu, i, FLAG_CF | FLAG_ZF, false))
COMPARE(fcmovnu, cmov(cpu, i, FLAG_PF, false))
