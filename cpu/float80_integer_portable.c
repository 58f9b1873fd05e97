/*
 * 80-bit numbers and integers, for hosts without an x87 (HOST_FPU=portable): rounding to an integer, scaling,
 * remainders, exponent and significand, and conversion to the memory formats.
 *
 * Intel SDM volume 1, 4.8 and 8.5, volume 2 on each instruction; tests/unit/float80.c compares with hardware. Any
 * thread.
 */
#include "cpu/float80_soft.h"

#include <string.h>

/* --- To an integral value ----------------------------------------------------------------------------------------- */

/* |a| as an integer, rounded, if it fits in 64 bits. */
static bool to_integer(struct soft a, uint64_t *v, unsigned *flags, uint32_t cw)
{
    int32_t e = a.exp - FLOAT80_BIAS;
    *flags = 0;
    *v = 0;
    if (a.class == SOFT_ZERO)
        return true;
    if (e > 63)
        return false;
    /* The integer part in hi. */
    struct wide m = wide_shr_sticky(wide_make(a.mant, 0), 63 - e > 128 ? 128 : 63 - e);
    struct soft_rounded d = soft_round(m, 0, a.sign, cw);
    if (d.carry)
        return false;
    *v = d.mant;
    *flags = (d.inexact ? FPU_PE : 0) | (d.up ? FPU_C1 : 0);
    return true;
}

unsigned float80_round(struct float80 *r, struct float80 x, uint32_t cw)
{
    unsigned flags;
    uint64_t v;
    if (soft_nan1(r, &flags, x))
        return flags;
    struct soft a = soft_unpack(x);
    if (a.class != SOFT_FINITE || a.exp - FLOAT80_BIAS >= 63) {
        *r = x;
        return 0;
    }
    to_integer(a, &v, &flags, cw);
    *r = soft_zero(a.sign);
    if (v) {
        unsigned shift = __builtin_clzll(v);
        r->sexp |= FLOAT80_BIAS + 63 - shift;
        r->mant = v << shift;
    }
    return soft_denormal(flags, a.denormal, cw);
}

unsigned float80_to_int(int64_t *r, struct float80 x, unsigned bits, uint32_t cw)
{
    struct soft a = soft_unpack(x);
    uint64_t v, limit = UINT64_C(1) << (bits - 1);
    unsigned flags;
    if (a.class > SOFT_FINITE || !to_integer(a, &v, &flags, cw) || v > limit || (v == limit && !a.sign)) {
        *r = (int64_t)-limit;
        return FPU_IE;
    }
    *r = (int64_t)(a.sign ? -v : v);
    return flags;
}

unsigned float80_to_bcd(uint8_t bcd[FLOAT80_BCD_SIZE], struct float80 x, uint32_t cw)
{
    static const uint8_t indefinite[FLOAT80_BCD_SIZE] = { [7] = 0xc0, 0xff, 0xff };
    struct soft a = soft_unpack(x);
    uint64_t v;
    unsigned flags;
    if (a.class > SOFT_FINITE || !to_integer(a, &v, &flags, cw) || v > UINT64_C(999999999999999999)) {
        memcpy(bcd, indefinite, sizeof indefinite);
        return FPU_IE;
    }
    for (unsigned n = 0; n < 9; n++) {
        unsigned two = v % 100;
        bcd[n] = two / 10 << 4 | two % 10;
        v /= 100;
    }
    bcd[9] = a.sign ? 0x80 : 0;
    return flags;
}

/* --- To shorter formats ------------------------------------------------------------------------------------------- */

/* A format with an implied integer bit. */
struct format {
    unsigned frac, exp_bits;
};

/* Unmasked overflow and underflow store nothing and report nothing of what rounding found. */
static unsigned narrow_finite(uint64_t *r, struct soft a, struct format f, uint32_t cw)
{
    int32_t max = (1 << f.exp_bits) - 1, exp = a.exp - FLOAT80_BIAS + (max >> 1);
    unsigned drop = 63 - f.frac, rc = cw & FPU_RC_MASK;
    struct wide m = wide_make(a.mant, 0);
    struct soft_rounded d = soft_round(m, drop, a.sign, cw);
    unsigned flags = (d.inexact ? FPU_PE : 0) | (d.up ? FPU_C1 : 0);
    uint64_t frac_mask = (UINT64_C(1) << f.frac) - 1;

    if (exp + d.carry >= max) {
        if (!(cw & FPU_OE))
            return FPU_OE;
        bool to_zero = rc == FPU_RC_ZERO || rc == (a.sign ? FPU_RC_UP : FPU_RC_DOWN);
        *r = to_zero ? (uint64_t)(max - 1) << f.frac | frac_mask : (uint64_t)max << f.frac;
        return FPU_OE | FPU_PE | (to_zero ? 0 : FPU_C1);
    }
    if (exp + d.carry < 1) {
        if (!(cw & FPU_UE))
            return FPU_UE;
        d = soft_round(wide_shr_sticky(m, 1 - exp > 128 ? 128 : 1 - exp), drop, a.sign, cw);
        /* A carry into the integer bit makes the exponent 1. */
        *r = d.mant >> drop;
        return (d.inexact ? FPU_UE | FPU_PE : 0) | (d.up ? FPU_C1 : 0);
    }
    *r = (uint64_t)(exp + d.carry) << f.frac | (d.mant >> drop & frac_mask);
    return flags;
}

static unsigned narrow(uint64_t *r, struct float80 x, struct format f, uint32_t cw)
{
    struct soft a = soft_unpack(x);
    uint64_t infinity = (uint64_t)((1 << f.exp_bits) - 1) << f.frac;
    uint64_t sign = (uint64_t)a.sign << (f.frac + f.exp_bits);
    unsigned flags = 0;
    *r = 0;
    switch (a.class) {
    case SOFT_ZERO: break;
    case SOFT_FINITE: flags = narrow_finite(r, a, f, cw); break;
    case SOFT_INF: *r = infinity; break;
    case SOFT_SNAN: flags = FPU_IE; /* fall through */
    case SOFT_QNAN: *r = infinity | ((x.mant | FLOAT80_QUIET) & ~FLOAT80_INT) >> (63 - f.frac); break;
    case SOFT_UNSUPPORTED:
        sign = UINT64_C(1) << (f.frac + f.exp_bits);
        *r = infinity | UINT64_C(1) << (f.frac - 1);
        flags = FPU_IE;
        break;
    }
    *r |= sign;
    return flags;
}

unsigned float80_to_f32(uint32_t *r, struct float80 a, uint32_t cw)
{
    uint64_t v;
    unsigned flags = narrow(&v, a, (struct format){ 23, 8 }, cw);
    *r = v;
    return flags;
}

unsigned float80_to_f64(uint64_t *r, struct float80 a, uint32_t cw)
{
    return narrow(r, a, (struct format){ 52, 11 }, cw);
}

/* --- Exponents ---------------------------------------------------------------------------------------------------- */

unsigned float80_extract(struct float80 *exponent, struct float80 *significand, struct float80 x, uint32_t cw)
{
    unsigned flags = 0;
    if (soft_nan1(significand, &flags, x)) {
        *exponent = *significand;
        return flags;
    }
    struct soft a = soft_unpack(x);
    switch (a.class) {
    case SOFT_ZERO:
        *exponent = soft_infinity(true);
        *significand = x;
        return FPU_ZE;
    case SOFT_INF:
        *exponent = soft_infinity(false);
        *significand = x;
        return 0;
    default:
        *exponent = float80_from_int(a.exp - FLOAT80_BIAS);
        *significand = float80_make((a.sign ? FLOAT80_SIGN : 0) | FLOAT80_BIAS, a.mant);
        return soft_denormal(flags, a.denormal, cw);
    }
}

/* An operand as the result: pseudo-denormals become what they stand for. */
static struct float80 passed_through(struct float80 x)
{
    if (float80_is_denormal(x) && x.mant & FLOAT80_INT)
        x.sexp |= 1;
    return x;
}

/* The integer part of b, clamped to what surely makes any number overflow or underflow. */
static int32_t scale_of(struct soft b)
{
    int32_t e = b.exp - FLOAT80_BIAS;
    if (b.class == SOFT_ZERO || e < 0)
        return 0;
    int32_t n = e > 16 ? 0x20000 : (int32_t)(b.mant >> (63 - e));
    return b.sign ? -n : n;
}

unsigned float80_scale(struct float80 *r, struct float80 x, struct float80 y, uint32_t cw)
{
    unsigned flags;
    if (soft_nan(r, &flags, x, y))
        return flags;
    struct soft a = soft_unpack(x), b = soft_unpack(y);
    flags = 0;
    if (b.class == SOFT_INF) {
        if (b.sign ? a.class == SOFT_INF : a.class == SOFT_ZERO)
            return soft_invalid(r);
        *r = b.sign ? soft_zero(a.sign) : soft_infinity(a.sign);
    } else if (a.class != SOFT_FINITE) {
        *r = x;
    } else if (b.class == SOFT_ZERO) {
        *r = passed_through(x);
    } else {
        flags = soft_pack(r, a.sign, a.exp + scale_of(b), wide_make(a.mant, 0), 0, cw);
    }
    return soft_denormal(flags, a.denormal || b.denormal, cw);
}

/* --- Remainders --------------------------------------------------------------------------------------------------- */

/* (rem, quotient) of (m * 2^steps) / d, for m < 2 d; both with the top bit set. */
static uint64_t divide_steps(uint64_t m, uint64_t d, unsigned steps, uint64_t *rem)
{
    uint64_t q = 0;
    bool carry = false;
    for (;;) {
        q <<= 1;
        if (carry || m >= d) {
            m -= d;
            q |= 1;
        }
        if (!steps--)
            break;
        carry = m >> 63;
        m <<= 1;
    }
    *rem = m;
    return q;
}

static unsigned quotient_bits(uint64_t q)
{
    return (q & 4 ? FPU_C0 : 0) | (q & 2 ? FPU_C3 : 0) | (q & 1 ? FPU_C1 : 0);
}

/* The remainder of |a| / |b|, for an exponent difference of -1 or more. */
static unsigned remainder_finite(struct float80 *r, struct soft a, struct soft b, bool nearest, uint32_t cw)
{
    int32_t distance = a.exp - b.exp;
    uint64_t rem, q = 0;
    unsigned flags = 0, codes;
    bool sign = a.sign;
    if (distance >= 64) {
        /* The processor takes 32 to 63 bits off and leaves the rest to the next round. */
        unsigned steps = 32 + distance % 32;
        divide_steps(a.mant, b.mant, steps, &rem);
        b.exp += distance - (int32_t)steps;
        codes = FPU_C2;
    } else {
        if (distance < 0) {
            rem = a.mant; /* in units half as large as those of b */
        } else {
            q = divide_steps(a.mant, b.mant, distance, &rem);
        }
        if (nearest) {
            uint64_t half = b.mant; /* compare 2 rem with b */
            bool doubled_carry = distance >= 0 && rem >> 63;
            uint64_t doubled = distance < 0 ? rem : rem << 1;
            if (doubled_carry || doubled > half || (doubled == half && q & 1)) {
                sign = !sign;
                q++;
                /* b - rem: less than or equal to half of b, exact in 128 bits */
                struct wide d =
                    wide_sub(wide_make(b.mant, 0),
                             distance < 0 ? wide_shr_sticky(wide_make(rem, 0), 1) : wide_make(rem, 0));
                unsigned shift = d.hi ? __builtin_clzll(d.hi) : 64 + __builtin_clzll(d.lo);
                flags = soft_pack(r, sign, b.exp - (int32_t)shift, wide_shl(d, shift), 0, cw);
                return flags | quotient_bits(q);
            }
        }
        if (distance < 0)
            b.exp--;
        codes = quotient_bits(q);
    }
    if (!rem) {
        *r = soft_zero(sign);
        return codes;
    }
    unsigned shift = __builtin_clzll(rem);
    flags = soft_pack(r, sign, b.exp - (int32_t)shift, wide_make(rem << shift, 0), 0, cw);
    return flags | codes;
}

static unsigned remainder80(struct float80 *r, struct float80 x, struct float80 y, bool nearest, uint32_t cw)
{
    unsigned flags;
    if (soft_nan(r, &flags, x, y))
        return flags;
    struct soft a = soft_unpack(x), b = soft_unpack(y);
    if (a.class == SOFT_INF || b.class == SOFT_ZERO)
        return soft_invalid(r);
    flags = 0;
    if (a.class == SOFT_ZERO || b.class == SOFT_INF)
        *r = passed_through(x);
    else if (a.exp - b.exp < -1)
        flags = soft_pack(r, a.sign, a.exp, wide_make(a.mant, 0), 0, cw);
    else
        flags = remainder_finite(r, a, b, nearest, cw);
    return soft_denormal(flags, a.denormal || b.denormal, cw);
}

unsigned float80_prem(struct float80 *r, struct float80 a, struct float80 b, uint32_t cw)
{
    return remainder80(r, a, b, false, cw);
}

unsigned float80_prem1(struct float80 *r, struct float80 a, struct float80 b, uint32_t cw)
{
    return remainder80(r, a, b, true, cw);
}
