/*
 * Addition, multiplication, division, square root, fused multiply-add and comparison as SSE has them (Intel SDM volume
 * 1, 4.8, 11.5 and 14.5): NaN operands, exceptions and their order, denormals-are-zeros, flush-to-zero.
 *
 * Pure functions. The host's floating point is not used.
 */
#include "cpu/softfp_core.h"
#include "cpu/wide.h"

SF_INLINE uint64_t sf_invalid(struct sf_env *env, const struct sf_format *f)
{
    env->flags |= MXCSR_IE;
    return sf_default_nan(f);
}

/* One of them is a NaN: the first wins. */
SF_INLINE uint64_t sf_propagate(struct sf_env *env, const struct sf_format *f, uint64_t a, struct sf_num x, uint64_t b,
                                struct sf_num y)
{
    if (x.snan || y.snan)
        env->flags |= MXCSR_IE;
    return sf_quiet(f, x.class == SF_NAN ? a : b);
}

SF_INLINE void sf_note_denormal(struct sf_env *env, bool denormal)
{
    if (denormal)
        env->flags |= MXCSR_DE;
}

/* Sign of an exact zero difference. */
SF_INLINE bool sf_zero_sign(const struct sf_env *env)
{
    return sf_env_round(env) == SF_DOWN;
}

SF_INLINE uint64_t sf_add(struct sf_env *env, const struct sf_format *f, uint64_t a, uint64_t b, bool subtract)
{
    bool daz = env->mxcsr & MXCSR_DAZ;
    struct sf_num x = sf_unpack(f, a, daz), y = sf_unpack(f, b, daz);

    if (x.class == SF_NAN || y.class == SF_NAN)
        return sf_propagate(env, f, a, x, b, y);
    y.sign ^= subtract;
    if (x.class == SF_INF && y.class == SF_INF && x.sign != y.sign)
        return sf_invalid(env, f);
    sf_note_denormal(env, x.denormal || y.denormal);
    if (x.class == SF_INF || y.class == SF_INF)
        return sf_inf(f, x.class == SF_INF ? x.sign : y.sign);
    if (x.class == SF_ZERO && y.class == SF_ZERO)
        return sf_zero(f, x.sign == y.sign ? x.sign : sf_zero_sign(env));
    if (x.class == SF_ZERO)
        return sf_pack_env(env, f, y.sign, y.exp, y.mant);
    if (y.class == SF_ZERO)
        return sf_pack_env(env, f, x.sign, x.exp, x.mant);

    if (x.exp < y.exp || (x.exp == y.exp && x.mant < y.mant)) {
        struct sf_num t = x;
        x = y;
        y = t;
    }
    /* One bit of room for the carry; both have at least 10 zero bits below, so only a shift that is long loses any. */
    uint64_t m = x.mant >> 1, n = sf_shift_sticky(y.mant >> 1, x.exp - y.exp);
    m = x.sign == y.sign ? m + n : m - n;
    if (!m)
        return sf_zero(f, sf_zero_sign(env));
    unsigned zeros = __builtin_clzll(m);
    return sf_pack_env(env, f, x.sign, x.exp + 1 - (int)zeros, m << zeros);
}

SF_INLINE uint64_t sf_mul(struct sf_env *env, const struct sf_format *f, uint64_t a, uint64_t b)
{
    bool daz = env->mxcsr & MXCSR_DAZ;
    struct sf_num x = sf_unpack(f, a, daz), y = sf_unpack(f, b, daz);
    bool sign = x.sign ^ y.sign;

    if (x.class == SF_NAN || y.class == SF_NAN)
        return sf_propagate(env, f, a, x, b, y);
    if ((x.class == SF_INF && y.class == SF_ZERO) || (x.class == SF_ZERO && y.class == SF_INF))
        return sf_invalid(env, f);
    sf_note_denormal(env, x.denormal || y.denormal);
    if (x.class == SF_INF || y.class == SF_INF)
        return sf_inf(f, sign);
    if (x.class == SF_ZERO || y.class == SF_ZERO)
        return sf_zero(f, sign);

    struct wide p = wide_mul(x.mant, y.mant);
    int exp = x.exp + y.exp + 1;
    if (!(p.hi >> 63)) {
        p = wide_shl(p, 1);
        exp--;
    }
    return sf_pack_env(env, f, sign, exp, p.hi | (p.lo != 0));
}

/* floor(n * 2^63 / d) for n and d with bit 63 set: bit 63 or 62 of it is set; the lowest bit is sticky. */
static uint64_t sf_divide_mantissa(uint64_t n, uint64_t d)
{
    uint64_t rest, q = wide_div((struct wide){ .hi = n >> 1, .lo = n << 63 }, d, &rest);

    return q | (rest != 0);
}

SF_INLINE uint64_t sf_div(struct sf_env *env, const struct sf_format *f, uint64_t a, uint64_t b)
{
    bool daz = env->mxcsr & MXCSR_DAZ;
    struct sf_num x = sf_unpack(f, a, daz), y = sf_unpack(f, b, daz);
    bool sign = x.sign ^ y.sign;

    if (x.class == SF_NAN || y.class == SF_NAN)
        return sf_propagate(env, f, a, x, b, y);
    if (x.class == y.class && (x.class == SF_INF || x.class == SF_ZERO))
        return sf_invalid(env, f);
    if (y.class == SF_ZERO && x.class == SF_FINITE) {
        env->flags |= MXCSR_ZE; /* a denormal dividend is not reported beside it */
        return sf_inf(f, sign);
    }
    sf_note_denormal(env, x.denormal || y.denormal);
    if (x.class == SF_INF || y.class == SF_ZERO)
        return sf_inf(f, sign);
    if (y.class == SF_INF || x.class == SF_ZERO)
        return sf_zero(f, sign);

    uint64_t q = sf_divide_mantissa(x.mant, y.mant);
    int exp = x.exp - y.exp;
    if (!(q >> 63)) {
        q = q << 1 | (q & 1); /* the sticky bit stays where it counts as "more than nothing" */
        exp--;
    }
    return sf_pack_env(env, f, sign, exp, q);
}

/* floor(sqrt(m * 2^64)) for m >= 2^62: bit 63 is set; the lowest bit is sticky. */
static uint64_t sf_sqrt_mantissa(uint64_t m)
{
    struct wide rest;
    uint64_t root = wide_sqrt(wide_make(m, 0), &rest);
    return root | ((rest.hi | rest.lo) != 0);
}

SF_INLINE uint64_t sf_sqrt(struct sf_env *env, const struct sf_format *f, uint64_t a)
{
    struct sf_num x = sf_unpack(f, a, env->mxcsr & MXCSR_DAZ);

    if (x.class == SF_NAN) {
        if (x.snan)
            env->flags |= MXCSR_IE;
        return sf_quiet(f, a);
    }
    if (x.class == SF_ZERO)
        return sf_zero(f, x.sign);
    if (x.sign)
        return sf_invalid(env, f);
    if (x.class == SF_INF)
        return a;
    sf_note_denormal(env, x.denormal);
    /* mant * 2^(exp - 63) = (mant >> odd') * 2^64 * 2^(2k - 126): the exponent of the root must be even. */
    bool odd = x.exp & 1;
    uint64_t m = odd ? x.mant : x.mant >> 1;
    return sf_pack_env(env, f, false, (x.exp - odd) / 2, sf_sqrt_mantissa(m));
}

SF_INLINE uint64_t sf_fma_nan(struct sf_env *env, const struct sf_format *f, const uint64_t bits[3],
                              const struct sf_num num[3])
{
    if (num[0].snan || num[1].snan || num[2].snan)
        env->flags |= MXCSR_IE;
    return sf_quiet(f, num[0].class == SF_NAN ? bits[0] : num[1].class == SF_NAN ? bits[1] : bits[2]);
}

/* Sum of two finite nonzero numbers, given as m * 2^(exp - 126) with bit 126 of m set. */
SF_INLINE uint64_t sf_fma_sum(struct sf_env *env, const struct sf_format *f, bool sign_p, int exp_p, struct wide p,
                              bool sign_c, int exp_c, struct wide c)
{
    if (exp_p < exp_c || (exp_p == exp_c && wide_less(p, c))) {
        struct wide t = p;
        p = c;
        c = t;
        int e = exp_p;
        exp_p = exp_c;
        exp_c = e;
        bool s = sign_p;
        sign_p = sign_c;
        sign_c = s;
    }
    c = wide_shr_sticky(c, exp_p - exp_c);
    p = sign_p == sign_c ? wide_add(p, c) : wide_sub(p, c);
    if (!(p.hi | p.lo))
        return sf_zero(f, sf_zero_sign(env));
    unsigned zeros = p.hi ? __builtin_clzll(p.hi) : 64 + __builtin_clzll(p.lo);
    p = wide_shl(p, zeros);
    return sf_pack_env(env, f, sign_p, exp_p + 1 - (int)zeros, p.hi | (p.lo != 0));
}

SF_INLINE uint64_t sf_fma(struct sf_env *env, const struct sf_format *f, uint64_t a, uint64_t b, uint64_t c,
                          bool negate_product, bool negate_addend)
{
    bool daz = env->mxcsr & MXCSR_DAZ;
    struct sf_num x = sf_unpack(f, a, daz), y = sf_unpack(f, b, daz), z = sf_unpack(f, c, daz);
    bool sign = x.sign ^ y.sign ^ negate_product;

    /* A NaN anywhere hides an infinity times zero. */
    if (x.class == SF_NAN || y.class == SF_NAN || z.class == SF_NAN)
        return sf_fma_nan(env, f, (const uint64_t[]){ a, b, c }, (const struct sf_num[]){ x, y, z });
    z.sign ^= negate_addend;
    bool inf = x.class == SF_INF || y.class == SF_INF, zero = x.class == SF_ZERO || y.class == SF_ZERO;
    if ((inf && zero) || (inf && z.class == SF_INF && sign != z.sign))
        return sf_invalid(env, f);
    sf_note_denormal(env, x.denormal || y.denormal || z.denormal);
    if (inf || z.class == SF_INF)
        return sf_inf(f, inf ? sign : z.sign);
    if (zero && z.class == SF_ZERO)
        return sf_zero(f, sign == z.sign ? sign : sf_zero_sign(env));
    if (zero)
        return sf_pack_env(env, f, z.sign, z.exp, z.mant);

    struct wide p = wide_mul(x.mant, y.mant);
    int exp = x.exp + y.exp + 1;
    if (p.hi >> 63)
        p = wide_shr_sticky(p, 1); /* at most 106 bits are in use: nothing is lost */
    else
        exp--;
    if (z.class == SF_ZERO)
        return sf_pack_env(env, f, sign, exp, p.hi << 1 | p.lo >> 63 | ((p.lo << 1) != 0));
    return sf_fma_sum(env, f, sign, exp, p, z.sign, z.exp, (struct wide){ .hi = z.mant >> 1, .lo = z.mant << 63 });
}

SF_INLINE enum sf_order sf_compare(struct sf_env *env, const struct sf_format *f, uint64_t a, uint64_t b,
                                   bool signaling)
{
    bool daz = env->mxcsr & MXCSR_DAZ;
    struct sf_num x = sf_unpack(f, a, daz), y = sf_unpack(f, b, daz);

    if (x.class == SF_NAN || y.class == SF_NAN) {
        if (signaling || x.snan || y.snan)
            env->flags |= MXCSR_IE;
        return SF_UNORDERED;
    }
    sf_note_denormal(env, x.denormal || y.denormal);
    if (x.class == SF_ZERO && y.class == SF_ZERO)
        return SF_EQUAL;
    if (x.class == SF_ZERO)
        return y.sign ? SF_GREATER : SF_LESS;
    if (y.class == SF_ZERO)
        return x.sign ? SF_LESS : SF_GREATER;
    if (a == b)
        return SF_EQUAL;
    if (x.sign != y.sign)
        return x.sign ? SF_LESS : SF_GREATER;
    return (a < b) != x.sign ? SF_LESS : SF_GREATER;
}

/* MIN and MAX: anything but "strictly less" or "strictly greater" gives the second operand as it is. */
SF_INLINE uint64_t sf_pick(struct sf_env *env, const struct sf_format *f, uint64_t a, uint64_t b, enum sf_order first)
{
    bool daz = env->mxcsr & MXCSR_DAZ;
    uint64_t pick = sf_compare(env, f, a, b, true) == first ? a : b;
    struct sf_num n = sf_unpack(f, pick, daz);

    return n.class == SF_ZERO ? sf_zero(f, n.sign) : pick; /* a denormal read as zero */
}

uint64_t sf_add32(struct sf_env *env, uint64_t a, uint64_t b)
{
    return sf_add(env, &sf_binary32, a, b, false);
}
uint64_t sf_add64(struct sf_env *env, uint64_t a, uint64_t b)
{
    return sf_add(env, &sf_binary64, a, b, false);
}
uint64_t sf_sub32(struct sf_env *env, uint64_t a, uint64_t b)
{
    return sf_add(env, &sf_binary32, a, b, true);
}
uint64_t sf_sub64(struct sf_env *env, uint64_t a, uint64_t b)
{
    return sf_add(env, &sf_binary64, a, b, true);
}
uint64_t sf_mul32(struct sf_env *env, uint64_t a, uint64_t b)
{
    return sf_mul(env, &sf_binary32, a, b);
}
uint64_t sf_mul64(struct sf_env *env, uint64_t a, uint64_t b)
{
    return sf_mul(env, &sf_binary64, a, b);
}
uint64_t sf_div32(struct sf_env *env, uint64_t a, uint64_t b)
{
    return sf_div(env, &sf_binary32, a, b);
}
uint64_t sf_div64(struct sf_env *env, uint64_t a, uint64_t b)
{
    return sf_div(env, &sf_binary64, a, b);
}
uint64_t sf_min32(struct sf_env *env, uint64_t a, uint64_t b)
{
    return sf_pick(env, &sf_binary32, a, b, SF_LESS);
}
uint64_t sf_min64(struct sf_env *env, uint64_t a, uint64_t b)
{
    return sf_pick(env, &sf_binary64, a, b, SF_LESS);
}
uint64_t sf_max32(struct sf_env *env, uint64_t a, uint64_t b)
{
    return sf_pick(env, &sf_binary32, a, b, SF_GREATER);
}
uint64_t sf_max64(struct sf_env *env, uint64_t a, uint64_t b)
{
    return sf_pick(env, &sf_binary64, a, b, SF_GREATER);
}
uint64_t sf_sqrt32(struct sf_env *env, uint64_t a)
{
    return sf_sqrt(env, &sf_binary32, a);
}
uint64_t sf_sqrt64(struct sf_env *env, uint64_t a)
{
    return sf_sqrt(env, &sf_binary64, a);
}
uint64_t sf_fma32(struct sf_env *env, uint64_t a, uint64_t b, uint64_t c, bool negate_product, bool negate_addend)
{
    return sf_fma(env, &sf_binary32, a, b, c, negate_product, negate_addend);
}
uint64_t sf_fma64(struct sf_env *env, uint64_t a, uint64_t b, uint64_t c, bool negate_product, bool negate_addend)
{
    return sf_fma(env, &sf_binary64, a, b, c, negate_product, negate_addend);
}
enum sf_order sf_compare32(struct sf_env *env, uint64_t a, uint64_t b, bool signaling)
{
    return sf_compare(env, &sf_binary32, a, b, signaling);
}
enum sf_order sf_compare64(struct sf_env *env, uint64_t a, uint64_t b, bool signaling)
{
    return sf_compare(env, &sf_binary64, a, b, signaling);
}
