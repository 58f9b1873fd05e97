/*
 * Conversions between integers and floating-point formats, rounding to integral numbers and the reciprocal
 * approximations, as SSE, AVX and F16C have them (Intel SDM volume 1, 4.8 and 11.5; volume 2, CVT*, ROUND*, VCVTPH2PS,
 * VCVTPS2PH).
 *
 * RCPPS and RSQRTPS: the manual bounds the error only; processors differ in the digits. Ours are correctly rounded to
 * 12 bits of fraction. Pure functions. The host's floating point is not used.
 */
#include "cpu/softfp_core.h"

/* The NaN `a` of one format in another: quieted, the fraction's upper bits kept. */
SF_INLINE uint64_t sf_convert_nan(struct sf_env *env, const struct sf_format *from, const struct sf_format *to,
                                  uint64_t a, struct sf_num x)
{
    uint64_t frac = a & ((UINT64_C(1) << from->frac) - 1);

    if (x.snan)
        env->flags |= MXCSR_IE;
    frac = to->frac > from->frac ? frac << (to->frac - from->frac) : frac >> (from->frac - to->frac);
    return sf_quiet(to, sf_inf(to, x.sign) | frac);
}

SF_INLINE uint64_t sf_convert(struct sf_env *env, const struct sf_format *from, const struct sf_format *to, uint64_t a,
                              bool daz, enum sf_round rounding, bool ftz)
{
    struct sf_num x = sf_unpack(from, a, daz);

    if (x.class == SF_NAN)
        return sf_convert_nan(env, from, to, a, x);
    if (x.class == SF_INF)
        return sf_inf(to, x.sign);
    if (x.class == SF_ZERO)
        return sf_zero(to, x.sign);
    if (x.denormal)
        env->flags |= MXCSR_DE;
    return sf_pack(env, to, x.sign, x.exp, x.mant, rounding, ftz);
}

uint64_t sf_f32_to_f64(struct sf_env *env, uint64_t a)
{
    return sf_convert(env, &sf_binary32, &sf_binary64, a, env->mxcsr & MXCSR_DAZ, sf_env_round(env), false);
}
uint64_t sf_f64_to_f32(struct sf_env *env, uint64_t a)
{
    return sf_convert(env, &sf_binary64, &sf_binary32, a, env->mxcsr & MXCSR_DAZ, sf_env_round(env),
                      env->mxcsr & MXCSR_FTZ);
}
/* DAZ does not apply to the half format, nor is a denormal half reported. */
uint64_t sf_f16_to_f32(struct sf_env *env, uint64_t a)
{
    uint32_t flags = env->flags;
    uint64_t r = sf_convert(env, &sf_binary16, &sf_binary32, a, false, SF_NEAREST, false);

    env->flags = flags | (env->flags & MXCSR_IE);
    return r;
}
/* FTZ does not apply to the half format. A denormal operand is reported as inexact even if underflow is unmasked. */
uint64_t sf_f32_to_f16(struct sf_env *env, uint64_t a, enum sf_round rounding)
{
    if (sf_unpack(&sf_binary32, a, env->mxcsr & MXCSR_DAZ).denormal)
        env->flags |= MXCSR_PE;
    return sf_convert(env, &sf_binary32, &sf_binary16, a, env->mxcsr & MXCSR_DAZ, rounding, false);
}

SF_INLINE uint64_t sf_from_int(struct sf_env *env, const struct sf_format *f, int64_t a)
{
    if (!a)
        return 0;
    uint64_t m = a < 0 ? -(uint64_t)a : (uint64_t)a;
    unsigned zeros = __builtin_clzll(m);
    return sf_pack_env(env, f, a < 0, 63 - (int)zeros, m << zeros);
}

uint64_t sf_i32_to_f32(struct sf_env *env, uint64_t a)
{
    return sf_from_int(env, &sf_binary32, (int32_t)a);
}
uint64_t sf_i64_to_f32(struct sf_env *env, uint64_t a)
{
    return sf_from_int(env, &sf_binary32, (int64_t)a);
}
uint64_t sf_i32_to_f64(struct sf_env *env, uint64_t a)
{
    return sf_from_int(env, &sf_binary64, (int32_t)a);
}
uint64_t sf_i64_to_f64(struct sf_env *env, uint64_t a)
{
    return sf_from_int(env, &sf_binary64, (int64_t)a);
}

/* Magnitude of a finite number as an integer of up to 64 bits (exp < 64). */
SF_INLINE uint64_t sf_integer_part(struct sf_num x, enum sf_round rounding, bool *inexact)
{
    if (x.exp == 63) {
        *inexact = false;
        return x.mant;
    }
    /* Below 1/2 all numbers round alike: any bit under the half does. */
    uint64_t m = x.exp >= 0 ? x.mant : x.exp == -1 ? x.mant >> 1 : 1;
    unsigned drop = x.exp >= 0 ? 63 - x.exp : 63;
    *inexact = m & ((UINT64_C(1) << drop) - 1);
    return (m >> drop) + sf_round_up(m, drop, x.sign, rounding);
}

/* `bits`: 32 or 64. The indefinite integer for NaN, infinity and what does not fit. */
SF_INLINE uint64_t sf_to_int(struct sf_env *env, const struct sf_format *f, uint64_t a, int bits,
                             enum sf_round rounding)
{
    struct sf_num x = sf_unpack(f, a, env->mxcsr & MXCSR_DAZ);
    uint64_t indefinite = UINT64_C(1) << (bits - 1), m;
    bool inexact;

    if (x.class == SF_ZERO)
        return 0;
    if (x.class != SF_FINITE || x.exp > 63) {
        env->flags |= MXCSR_IE;
        return indefinite;
    }
    m = sf_integer_part(x, rounding, &inexact);
    if (m > indefinite - !x.sign) {
        env->flags |= MXCSR_IE;
        return indefinite;
    }
    if (inexact)
        env->flags |= MXCSR_PE;
    m = x.sign ? -m : m;
    return bits == 32 ? (uint32_t)m : m;
}

uint64_t sf_f32_to_i32(struct sf_env *env, uint64_t a)
{
    return sf_to_int(env, &sf_binary32, a, 32, sf_env_round(env));
}
uint64_t sf_f32_to_i64(struct sf_env *env, uint64_t a)
{
    return sf_to_int(env, &sf_binary32, a, 64, sf_env_round(env));
}
uint64_t sf_f64_to_i32(struct sf_env *env, uint64_t a)
{
    return sf_to_int(env, &sf_binary64, a, 32, sf_env_round(env));
}
uint64_t sf_f64_to_i64(struct sf_env *env, uint64_t a)
{
    return sf_to_int(env, &sf_binary64, a, 64, sf_env_round(env));
}
uint64_t sf_f32_to_i32_trunc(struct sf_env *env, uint64_t a)
{
    return sf_to_int(env, &sf_binary32, a, 32, SF_TRUNCATE);
}
uint64_t sf_f32_to_i64_trunc(struct sf_env *env, uint64_t a)
{
    return sf_to_int(env, &sf_binary32, a, 64, SF_TRUNCATE);
}
uint64_t sf_f64_to_i32_trunc(struct sf_env *env, uint64_t a)
{
    return sf_to_int(env, &sf_binary64, a, 32, SF_TRUNCATE);
}
uint64_t sf_f64_to_i64_trunc(struct sf_env *env, uint64_t a)
{
    return sf_to_int(env, &sf_binary64, a, 64, SF_TRUNCATE);
}

SF_INLINE uint64_t sf_round(struct sf_env *env, const struct sf_format *f, uint64_t a, enum sf_round rounding,
                            bool report)
{
    struct sf_num x = sf_unpack(f, a, env->mxcsr & MXCSR_DAZ);
    bool inexact;

    if (x.class == SF_NAN) {
        if (x.snan)
            env->flags |= MXCSR_IE;
        return sf_quiet(f, a);
    }
    if (x.class == SF_ZERO)
        return sf_zero(f, x.sign);
    if (x.class == SF_INF || x.exp >= f->frac)
        return a;
    uint64_t m = sf_integer_part(x, rounding, &inexact);
    if (inexact && report)
        env->flags |= MXCSR_PE;
    if (!m)
        return sf_zero(f, x.sign);
    unsigned zeros = __builtin_clzll(m);
    return sf_pack_env(env, f, x.sign, 63 - (int)zeros, m << zeros); /* exact */
}

uint64_t sf_round32(struct sf_env *env, uint64_t a, enum sf_round rounding, bool inexact)
{
    return sf_round(env, &sf_binary32, a, rounding, inexact);
}
uint64_t sf_round64(struct sf_env *env, uint64_t a, enum sf_round rounding, bool inexact)
{
    return sf_round(env, &sf_binary64, a, rounding, inexact);
}

/* 12 bits of fraction, to nearest, of a function's value in [1, 2) given as v / 2^24. */
static uint32_t sf_approximation(bool sign, int exp, uint32_t v)
{
    uint32_t frac = ((v >> 11) + 1) >> 1; /* 1.12 */

    if (frac >> 13) {
        frac >>= 1;
        exp++;
    }
    if (exp < 1 - 127)
        return sf_zero(&sf_binary32, sign);
    return sf_bits(&sf_binary32, sign, exp + 127, (frac & 0xfff) << 11);
}

uint32_t sf_rcp32(uint32_t a)
{
    struct sf_num x = sf_unpack(&sf_binary32, a, true);

    if (x.class == SF_NAN)
        return sf_quiet(&sf_binary32, a);
    if (x.class == SF_INF)
        return sf_zero(&sf_binary32, x.sign);
    if (x.class == SF_ZERO)
        return sf_inf(&sf_binary32, x.sign);
    uint32_t m = x.mant >> 40; /* 1.23 */
    if (m == 1u << 23)
        return sf_approximation(x.sign, -x.exp, 1u << 24);
    return sf_approximation(x.sign, -x.exp - 1, (UINT64_C(1) << 48) / m);
}

static uint32_t sf_integer_sqrt(uint64_t v)
{
    uint32_t root = 0;

    for (int bit = 31; bit >= 0; bit--) {
        uint64_t trial = root | 1u << bit;
        if (trial * trial <= v)
            root = trial;
    }
    return root;
}

uint32_t sf_rsqrt32(uint32_t a)
{
    struct sf_num x = sf_unpack(&sf_binary32, a, true);

    if (x.class == SF_NAN)
        return sf_quiet(&sf_binary32, a);
    if (x.class == SF_ZERO)
        return sf_inf(&sf_binary32, x.sign);
    if (x.sign)
        return sf_default_nan(&sf_binary32);
    if (x.class == SF_INF)
        return 0;
    /* x = m * 2^(2k), m in [1, 4); 1 / sqrt(m) in (1/2, 1]. */
    bool odd = x.exp & 1;
    uint64_t m = (x.mant >> 40) << odd; /* 2.23 */
    int exp = -(x.exp - odd) / 2;
    if (m == 1u << 23)
        return sf_approximation(false, exp, 1u << 24);
    /* 2^25 / sqrt(m / 2^23) = sqrt(2^73 / m); 2^73 / m in (2^48, 2^50), in two steps to stay within 64 bits */
    uint64_t quotient = (UINT64_C(1) << 63) / m << 10;
    return sf_approximation(false, exp - 1, sf_integer_sqrt(quotient));
}
