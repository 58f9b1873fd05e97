/*
 * The unpacked form shared by softfp.c and softfp_cvt.c.
 *
 * A finite number is mant * 2^(exp - 63) with bit 63 of mant set. Results are exact but for the lowest bit of mant,
 * which is ORed with all that was shifted out below it ("sticky"): enough bits remain for any rounding.
 */
#ifndef CPU_SOFTFP_CORE_H
#define CPU_SOFTFP_CORE_H

#include "cpu/softfp.h"

struct sf_format {
    int frac; /* bits of fraction */
    int bias; /* also the largest exponent */
};

static const struct sf_format sf_binary16 = { 10, 15 };
static const struct sf_format sf_binary32 = { 23, 127 };
static const struct sf_format sf_binary64 = { 52, 1023 };

enum sf_class { SF_ZERO, SF_FINITE, SF_INF, SF_NAN };

struct sf_num {
    enum sf_class class;
    bool sign, snan, denormal;
    int exp;
    uint64_t mant;
};

#define SF_INLINE static inline __attribute__((always_inline))

SF_INLINE uint64_t sf_bits(const struct sf_format *f, bool sign, unsigned biased, uint64_t frac)
{
    int width = f->bias == 15 ? 15 : f->bias == 127 ? 31 : 63;
    return (uint64_t)sign << width | (uint64_t)biased << f->frac | frac;
}
SF_INLINE unsigned sf_exp_max(const struct sf_format *f)
{
    return 2 * f->bias + 1;
}
SF_INLINE uint64_t sf_zero(const struct sf_format *f, bool sign)
{
    return sf_bits(f, sign, 0, 0);
}
SF_INLINE uint64_t sf_inf(const struct sf_format *f, bool sign)
{
    return sf_bits(f, sign, sf_exp_max(f), 0);
}
/* The "real indefinite": what masked invalid operations give. */
SF_INLINE uint64_t sf_default_nan(const struct sf_format *f)
{
    return sf_bits(f, true, sf_exp_max(f), UINT64_C(1) << (f->frac - 1));
}
SF_INLINE uint64_t sf_quiet(const struct sf_format *f, uint64_t a)
{
    return a | UINT64_C(1) << (f->frac - 1);
}

/* `daz`: a denormal is read as a zero. */
SF_INLINE struct sf_num sf_unpack(const struct sf_format *f, uint64_t a, bool daz)
{
    uint64_t frac = a & ((UINT64_C(1) << f->frac) - 1);
    unsigned biased = (a >> f->frac) & sf_exp_max(f);
    struct sf_num n = { .class = SF_FINITE, .sign = sf_bits(f, true, 0, 0) & a };

    if (biased == sf_exp_max(f)) {
        n.class = frac ? SF_NAN : SF_INF;
        n.snan = frac && !(frac >> (f->frac - 1));
    } else if (biased) {
        n.exp = (int)biased - f->bias;
        n.mant = (frac | UINT64_C(1) << f->frac) << (63 - f->frac);
    } else if (frac && !daz) {
        int zeros = __builtin_clzll(frac);
        n.denormal = true;
        n.mant = frac << zeros;
        n.exp = 1 - f->bias - (zeros - (63 - f->frac));
    } else {
        n.class = SF_ZERO;
    }
    return n;
}

/* Shifts right, keeping a trace of what falls out. */
SF_INLINE uint64_t sf_shift_sticky(uint64_t m, unsigned n)
{
    if (n == 0)
        return m;
    if (n > 63)
        return m != 0;
    return m >> n | ((m << (64 - n)) != 0);
}

/* Should the magnitude `m`, of which `drop` bits (1..63) go, be rounded away from zero? */
SF_INLINE bool sf_round_up(uint64_t m, unsigned drop, bool sign, enum sf_round rounding)
{
    uint64_t rest = m & ((UINT64_C(1) << drop) - 1), half = UINT64_C(1) << (drop - 1);

    switch (rounding) {
    case SF_NEAREST: return rest > half || (rest == half && (m >> drop & 1));
    case SF_DOWN: return sign && rest;
    case SF_UP: return !sign && rest;
    default: return false;
    }
}

SF_INLINE uint64_t sf_overflow(struct sf_env *env, const struct sf_format *f, bool sign, enum sf_round rounding,
                               bool inexact)
{
    bool masked = env->mxcsr & MXCSR_OE << MXCSR_MASK_SHIFT;

    env->flags |= MXCSR_OE | (masked || inexact ? MXCSR_PE : 0);
    if (rounding == SF_NEAREST || rounding == (sign ? SF_DOWN : SF_UP))
        return sf_inf(f, sign);
    return sf_inf(f, sign) - 1;
}

/* A result that is below the normal range even when rounded with an unbounded exponent. */
SF_INLINE uint64_t sf_underflow(struct sf_env *env, const struct sf_format *f, bool sign, int exp, uint64_t mant,
                                enum sf_round rounding, bool ftz, bool inexact)
{
    if (!(env->mxcsr & MXCSR_UE << MXCSR_MASK_SHIFT)) {
        env->flags |= MXCSR_UE | (inexact ? MXCSR_PE : 0);
        return sf_zero(f, sign); /* the exception is taken: nobody sees it */
    }
    if (ftz) {
        env->flags |= MXCSR_UE | MXCSR_PE;
        return sf_zero(f, sign);
    }
    unsigned drop = 63 - f->frac;
    uint64_t m = sf_shift_sticky(mant, 1 - f->bias - exp);
    if (m & ((UINT64_C(1) << drop) - 1))
        env->flags |= MXCSR_UE | MXCSR_PE;
    /* A carry into the exponent field is right: the smallest normal number. */
    return sf_zero(f, sign) + (m >> drop) + sf_round_up(m, drop, sign, rounding);
}

/* Rounds (-1)^sign * mant * 2^(exp - 63) into the format; bit 63 of mant is set. */
SF_INLINE uint64_t sf_pack(struct sf_env *env, const struct sf_format *f, bool sign, int exp, uint64_t mant,
                           enum sf_round rounding, bool ftz)
{
    unsigned drop = 63 - f->frac;
    bool inexact = mant & ((UINT64_C(1) << drop) - 1);
    uint64_t m = (mant >> drop) + sf_round_up(mant, drop, sign, rounding);
    int e = exp;

    if (m >> (f->frac + 1)) {
        m >>= 1;
        e++;
    }
    if (e < 1 - f->bias)
        return sf_underflow(env, f, sign, exp, mant, rounding, ftz, inexact);
    if (e > f->bias)
        return sf_overflow(env, f, sign, rounding, inexact);
    if (inexact)
        env->flags |= MXCSR_PE;
    return sf_bits(f, sign, e + f->bias, m & ((UINT64_C(1) << f->frac) - 1));
}

/* As sf_pack, by MXCSR's rounding and FTZ. */
SF_INLINE uint64_t sf_pack_env(struct sf_env *env, const struct sf_format *f, bool sign, int exp, uint64_t mant)
{
    return sf_pack(env, f, sign, exp, mant, sf_env_round(env), env->mxcsr & MXCSR_FTZ);
}

#endif
