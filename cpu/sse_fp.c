/*
 * Vector floating point lane by lane in integers, and the decision about exceptions.
 *
 * Intel SDM volume 1, 11.5. Runs on the vCPU's thread.
 */
#include "cpu/sse_fp.h"
#include "cpu/vec.h"

#define MXCSR_BEFORE (MXCSR_IE | MXCSR_DE | MXCSR_ZE)

void fp_report(struct cpu *cpu, uint32_t flags)
{
    uint32_t unmasked = flags & ~(cpu->mxcsr >> MXCSR_MASK_SHIFT);

    if (unmasked & MXCSR_BEFORE)
        flags &= MXCSR_BEFORE;
    cpu->mxcsr |= flags;
    if (unmasked)
        cpu_raise(cpu, cpu->cr4 & CR4_OSXMMEXCPT ? EXC_XM : EXC_UD);
}

static inline uint64_t lane_get(const union vec *v, unsigned n, unsigned width)
{
    return width == 16 ? v->u16[L16(n)] : width == 32 ? v->u32[L32(n)] : v->u64[n];
}

static inline void lane_set(union vec *v, unsigned n, unsigned width, uint64_t value)
{
    if (width == 16)
        v->u16[L16(n)] = value;
    else if (width == 32)
        v->u32[L32(n)] = value;
    else
        v->u64[n] = value;
}

void fp_soft_binary(struct cpu *cpu, sf_binary_fn *even, sf_binary_fn *odd, unsigned width, union vec *d,
                    const union vec *a, const union vec *b, unsigned lanes)
{
    struct sf_env env = fp_env(cpu);

    for (unsigned n = 0; n < lanes; n++)
        lane_set(d, n, width, (n & 1 ? odd : even)(&env, lane_get(a, n, width), lane_get(b, n, width)));
    fp_report(cpu, env.flags);
}

void fp_soft_unary(struct cpu *cpu, sf_unary_fn *fn, unsigned to, unsigned from, union vec *d, const union vec *a,
                   unsigned lanes)
{
    struct sf_env env = fp_env(cpu);

    for (unsigned n = 0; n < lanes; n++)
        lane_set(d, n, to, fn(&env, lane_get(a, n, from)));
    fp_report(cpu, env.flags);
}

void fp_soft_fma(struct cpu *cpu, unsigned width, union vec *d, const union vec *a, const union vec *b,
                 const union vec *c, unsigned lanes, enum fp_fma kind)
{
    struct sf_env env = fp_env(cpu);

    for (unsigned n = 0; n < lanes; n++) {
        unsigned negate = n & 1 ? kind >> FP_FMA_ODD : kind;
        lane_set(d, n, width,
                 (width == 32 ? sf_fma32 : sf_fma64)(&env, lane_get(a, n, width), lane_get(b, n, width),
                                                     lane_get(c, n, width), negate & FP_NEGATE_PRODUCT,
                                                     negate & FP_NEGATE_ADDEND));
    }
    fp_report(cpu, env.flags);
}

/* The 32 predicates: which orders are true, and whether a quiet NaN is invalid (SDM volume 2, table 3-1). */
#define LT (1u << SF_LESS)
#define EQ (1u << SF_EQUAL)
#define GT (1u << SF_GREATER)
#define UN (1u << SF_UNORDERED)
static const uint8_t predicate_true[16] = {
    EQ,      LT,      LT | EQ,      UN, LT | GT | UN, EQ | GT | UN, GT | UN, LT | EQ | GT,
    EQ | UN, LT | UN, LT | EQ | UN, 0,  LT | GT,      EQ | GT,      GT,      LT | EQ | GT | UN,
};

static bool predicate_signals(unsigned predicate)
{
    /* Of the first 16 LT, LE, NLT, NLE, NGE, NGT, GE, GT do; the second 16 are the other way round. */
    return (0x6666u >> (predicate & 15) & 1) != predicate >> 4;
}

void fp_soft_compare(struct cpu *cpu, unsigned width, union vec *d, const union vec *a, const union vec *b,
                     unsigned lanes, unsigned predicate)
{
    struct sf_env env = fp_env(cpu);
    bool signaling = predicate_signals(predicate);

    for (unsigned n = 0; n < lanes; n++) {
        enum sf_order order =
            (width == 32 ? sf_compare32 : sf_compare64)(&env, lane_get(a, n, width), lane_get(b, n, width), signaling);
        lane_set(d, n, width, predicate_true[predicate & 15] >> order & 1 ? UINT64_MAX : 0);
    }
    fp_report(cpu, env.flags);
}

uint64_t fp_soft_order(struct cpu *cpu, unsigned width, const union vec *a, const union vec *b, bool signaling)
{
    static const uint16_t flags[] = {
        [SF_LESS] = FLAG_CF,
        [SF_EQUAL] = FLAG_ZF,
        [SF_GREATER] = 0,
        [SF_UNORDERED] = FLAG_ZF | FLAG_PF | FLAG_CF,
    };
    struct sf_env env = fp_env(cpu);
    enum sf_order order =
        (width == 32 ? sf_compare32 : sf_compare64)(&env, lane_get(a, 0, width), lane_get(b, 0, width), signaling);

    fp_report(cpu, env.flags);
    return flags[order];
}

/* Rounding by an immediate: bit 2 says that MXCSR decides. */
static enum sf_round control_round(const struct sf_env *env, unsigned control)
{
    return control & 4 ? sf_env_round(env) : (enum sf_round)(control & 3);
}

void fp_round(struct cpu *cpu, unsigned width, union vec *d, const union vec *a, unsigned lanes, unsigned control)
{
    struct sf_env env = fp_env(cpu);
    enum sf_round rounding = control_round(&env, control);

    for (unsigned n = 0; n < lanes; n++)
        lane_set(d, n, width,
                 (width == 32 ? sf_round32 : sf_round64)(&env, lane_get(a, n, width), rounding, !(control & 8)));
    fp_report(cpu, env.flags);
}

void fp_f16_to_f32(struct cpu *cpu, union vec *d, const union vec *a, unsigned lanes)
{
    fp_soft_unary(cpu, sf_f16_to_f32, 32, 16, d, a, lanes);
}

void fp_f32_to_f16(struct cpu *cpu, union vec *d, const union vec *a, unsigned lanes, unsigned control)
{
    struct sf_env env = fp_env(cpu);
    enum sf_round rounding = control_round(&env, control);

    for (unsigned n = 0; n < lanes; n++)
        lane_set(d, n, 16, sf_f32_to_f16(&env, lane_get(a, n, 32), rounding));
    fp_report(cpu, env.flags);
}
