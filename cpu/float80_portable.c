/*
 * 80-bit arithmetic in integers, for hosts without an x87 (HOST_FPU=portable): unpacking, rounding, add, subtract,
 * multiply, divide, square root, compare.
 *
 * Intel SDM volume 1, 4.8 and 8.5; where it leaves room (priority of exceptions, C1, results with a reserved precision)
 * as Intel's processors do, which tests/unit/float80.c compares. Any thread.
 */
#include "cpu/float80_soft.h"

/* --- Taking apart and putting together ---------------------------------------------------------------------------- */

struct soft soft_unpack(struct float80 a)
{
    struct soft s = { .sign = a.sexp & FLOAT80_SIGN, .exp = a.sexp & FLOAT80_EXP, .mant = a.mant };
    if (float80_unsupported(a)) {
        s.class = SOFT_UNSUPPORTED;
    } else if (s.exp == FLOAT80_EXP) {
        s.class = a.mant == FLOAT80_INT ? SOFT_INF : a.mant & FLOAT80_QUIET ? SOFT_QNAN : SOFT_SNAN;
    } else if (!a.mant) {
        s.class = SOFT_ZERO;
    } else {
        s.class = SOFT_FINITE;
        s.denormal = !s.exp;
        if (s.denormal) {
            unsigned shift = __builtin_clzll(a.mant);
            s.exp = 1 - (int32_t)shift;
            s.mant <<= shift;
        }
    }
    return s;
}

struct soft_rounded soft_round(struct wide m, unsigned drop, bool sign, uint32_t cw)
{
    struct soft_rounded r = { .mant = m.hi };
    uint64_t unit = UINT64_C(1) << drop;
    bool half, rest;
    if (drop) {
        half = m.hi & (unit >> 1);
        rest = (m.hi & ((unit >> 1) - 1)) || m.lo;
    } else {
        half = m.lo >> 63;
        rest = m.lo << 1;
    }
    r.inexact = half || rest;
    r.mant &= ~(unit - 1);
    switch (cw & FPU_RC_MASK) {
    case FPU_RC_NEAREST: r.up = half && (rest || (m.hi & unit)); break;
    case FPU_RC_DOWN: r.up = sign && r.inexact; break;
    case FPU_RC_UP: r.up = !sign && r.inexact; break;
    default: break;
    }
    if (r.up) {
        r.mant += unit;
        r.carry = r.mant == 0;
        if (r.carry)
            r.mant = FLOAT80_INT;
    }
    return r;
}

#define BIAS_ADJUST 24576

/* The masked response to overflow: infinity, or the largest number where rounding goes towards zero. */
static unsigned overflow(struct float80 *r, bool sign, unsigned drop, uint32_t cw)
{
    unsigned rc = cw & FPU_RC_MASK;
    if (rc == FPU_RC_ZERO || rc == (sign ? FPU_RC_UP : FPU_RC_DOWN)) {
        *r = float80_make((sign ? FLOAT80_SIGN : 0) | 0x7ffe, ~UINT64_C(0) << drop);
        return FPU_OE | FPU_PE;
    }
    *r = soft_infinity(sign);
    return FPU_OE | FPU_PE | FPU_C1;
}

/* The masked response to underflow: a denormal, or zero. */
static unsigned denormalize(struct float80 *r, bool sign, int32_t exp, struct wide m, unsigned drop, uint32_t cw)
{
    struct soft_rounded d = soft_round(wide_shr_sticky(m, 1 - exp > 128 ? 128 : 1 - exp), drop, sign, cw);
    *r = float80_make((sign ? FLOAT80_SIGN : 0) | (d.mant >> 63), d.mant);
    return (d.inexact ? FPU_UE | FPU_PE : 0) | (d.up ? FPU_C1 : 0);
}

unsigned soft_pack(struct float80 *r, bool sign, int32_t exp, struct wide m, unsigned drop, uint32_t cw)
{
    struct soft_rounded d = soft_round(m, drop, sign, cw);
    unsigned flags = (d.inexact ? FPU_PE : 0) | (d.up ? FPU_C1 : 0);
    int32_t rounded_exp = exp + d.carry;

    if (rounded_exp >= (int32_t)FLOAT80_EXP) {
        if (cw & FPU_OE)
            return overflow(r, sign, drop, cw);
        flags |= FPU_OE;
        rounded_exp -= BIAS_ADJUST;
        if (rounded_exp >= (int32_t)FLOAT80_EXP) { /* only FSCALE goes that far */
            *r = soft_infinity(sign);
            return FPU_OE | FPU_PE | FPU_C1;
        }
    } else if (rounded_exp < 1) {
        if (cw & FPU_UE)
            return denormalize(r, sign, exp, m, drop, cw);
        flags |= FPU_UE;
        rounded_exp += BIAS_ADJUST;
        if (rounded_exp < 1) {
            *r = soft_zero(sign);
            return FPU_UE | FPU_PE;
        }
    }
    *r = float80_make((sign ? FLOAT80_SIGN : 0) | rounded_exp, d.mant);
    return flags;
}

/* --- NaNs --------------------------------------------------------------------------------------------------------- */

static bool is_signalling(struct float80 a)
{
    return float80_is_nan(a) && !(a.mant & FLOAT80_QUIET);
}

static struct float80 quieted(struct float80 a)
{
    return float80_make(a.sexp, a.mant | FLOAT80_QUIET);
}

bool soft_nan1(struct float80 *r, unsigned *flags, struct float80 a)
{
    if (float80_unsupported(a)) {
        *flags = soft_invalid(r);
        return true;
    }
    if (!float80_is_nan(a))
        return false;
    *flags = is_signalling(a) ? FPU_IE : 0;
    *r = quieted(a);
    return true;
}

/* Of two NaNs the quiet one, or else the one with the larger significand, or else the positive one. */
static struct float80 choose_nan(struct float80 a, struct float80 b)
{
    if (is_signalling(a) != is_signalling(b))
        return is_signalling(a) ? b : a;
    if (a.mant != b.mant)
        return a.mant > b.mant ? a : b;
    return a.sexp & FLOAT80_SIGN ? b : a;
}

bool soft_nan(struct float80 *r, unsigned *flags, struct float80 a, struct float80 b)
{
    if (float80_unsupported(a) || float80_unsupported(b)) {
        *flags = soft_invalid(r);
        return true;
    }
    bool nan_a = float80_is_nan(a), nan_b = float80_is_nan(b);
    if (!nan_a && !nan_b)
        return false;
    *flags = is_signalling(a) || is_signalling(b) ? FPU_IE : 0;
    *r = quieted(nan_a && nan_b ? choose_nan(a, b) : nan_a ? a : b);
    return true;
}

/* --- Add and subtract --------------------------------------------------------------------------------------------- */

/* The sign of an exact zero sum. */
static bool cancel_sign(uint32_t cw)
{
    return (cw & FPU_RC_MASK) == FPU_RC_DOWN;
}

/* |a| + |b|, for exp of a not less than that of b */
static unsigned add_magnitudes(struct float80 *r, struct soft a, struct soft b, uint32_t cw)
{
    struct wide x = wide_make(a.mant, 0);
    struct wide sum = wide_add(x, wide_shr_sticky(wide_make(b.mant, 0), a.exp - b.exp > 128 ? 128 : a.exp - b.exp));
    if (sum.hi >= a.mant)
        return soft_pack(r, a.sign, a.exp, sum, soft_drop(cw), cw);
    sum = wide_shr_sticky(sum, 1);
    sum.hi |= FLOAT80_INT;
    return soft_pack(r, a.sign, a.exp + 1, sum, soft_drop(cw), cw);
}

/* |a| - |b|, for |a| > |b| */
static unsigned sub_magnitudes(struct float80 *r, struct soft a, struct soft b, uint32_t cw)
{
    struct wide x = wide_make(a.mant, 0);
    struct wide diff = wide_sub(x, wide_shr_sticky(wide_make(b.mant, 0), a.exp - b.exp > 128 ? 128 : a.exp - b.exp));
    unsigned shift = diff.hi ? __builtin_clzll(diff.hi) : 64 + __builtin_clzll(diff.lo);
    return soft_pack(r, a.sign, a.exp - (int32_t)shift, wide_shl(diff, shift), soft_drop(cw), cw);
}

static unsigned add_finite(struct float80 *r, struct soft a, struct soft b, uint32_t cw)
{
    if (a.class == SOFT_ZERO && b.class == SOFT_ZERO) {
        *r = soft_zero(a.sign == b.sign ? a.sign : cancel_sign(cw));
        return 0;
    }
    if (a.class == SOFT_ZERO)
        return soft_pack(r, b.sign, b.exp, wide_make(b.mant, 0), soft_drop(cw), cw);
    if (b.class == SOFT_ZERO)
        return soft_pack(r, a.sign, a.exp, wide_make(a.mant, 0), soft_drop(cw), cw);
    if (a.sign == b.sign)
        return a.exp >= b.exp ? add_magnitudes(r, a, b, cw) : add_magnitudes(r, b, a, cw);
    if (a.exp == b.exp && a.mant == b.mant) {
        *r = soft_zero(cancel_sign(cw));
        return 0;
    }
    if (a.exp > b.exp || (a.exp == b.exp && a.mant > b.mant))
        return sub_magnitudes(r, a, b, cw);
    return sub_magnitudes(r, b, a, cw);
}

static unsigned add(struct float80 *r, struct float80 x, struct float80 y, bool subtract, uint32_t cw)
{
    unsigned flags;
    if (soft_nan(r, &flags, x, y))
        return flags;
    struct soft a = soft_unpack(x), b = soft_unpack(y);
    b.sign ^= subtract;
    if (a.class == SOFT_INF && b.class == SOFT_INF && a.sign != b.sign)
        return soft_invalid(r);
    flags = 0;
    if (a.class == SOFT_INF)
        *r = soft_infinity(a.sign);
    else if (b.class == SOFT_INF)
        *r = soft_infinity(b.sign);
    else
        flags = add_finite(r, a, b, cw);
    return soft_denormal(flags, a.denormal || b.denormal, cw);
}

unsigned float80_add(struct float80 *r, struct float80 a, struct float80 b, uint32_t cw)
{
    return add(r, a, b, false, cw);
}

unsigned float80_sub(struct float80 *r, struct float80 a, struct float80 b, uint32_t cw)
{
    return add(r, a, b, true, cw);
}

/* --- Multiply, divide, square root -------------------------------------------------------------------------------- */

unsigned float80_mul(struct float80 *r, struct float80 x, struct float80 y, uint32_t cw)
{
    unsigned flags;
    if (soft_nan(r, &flags, x, y))
        return flags;
    struct soft a = soft_unpack(x), b = soft_unpack(y);
    bool sign = a.sign ^ b.sign;
    flags = 0;
    if (a.class == SOFT_INF || b.class == SOFT_INF) {
        if (a.class == SOFT_ZERO || b.class == SOFT_ZERO)
            return soft_invalid(r);
        *r = soft_infinity(sign);
    } else if (a.class == SOFT_ZERO || b.class == SOFT_ZERO) {
        *r = soft_zero(sign);
    } else {
        struct wide p = wide_mul(a.mant, b.mant);
        int32_t exp = a.exp + b.exp - FLOAT80_BIAS + 1;
        if (!(p.hi >> 63)) {
            p = wide_shl(p, 1);
            exp--;
        }
        flags = soft_pack(r, sign, exp, p, soft_drop(cw), cw);
    }
    return soft_denormal(flags, a.denormal || b.denormal, cw);
}

static unsigned div_finite(struct float80 *r, struct soft a, struct soft b, bool sign, uint32_t cw)
{
    struct wide n = wide_make(a.mant, 0);
    struct wide q;
    uint64_t rem;
    int32_t exp = a.exp - b.exp + FLOAT80_BIAS - 1;
    if (a.mant >= b.mant) {
        n = wide_make(a.mant >> 1, a.mant << 63);
        exp++;
    }
    q.hi = wide_div(n, b.mant, &rem);
    q.lo = wide_div(wide_make(rem, 0), b.mant, &rem);
    q.lo |= rem != 0;
    return soft_pack(r, sign, exp, q, soft_drop(cw), cw);
}

unsigned float80_div(struct float80 *r, struct float80 x, struct float80 y, uint32_t cw)
{
    unsigned flags;
    if (soft_nan(r, &flags, x, y))
        return flags;
    struct soft a = soft_unpack(x), b = soft_unpack(y);
    bool sign = a.sign ^ b.sign;
    flags = 0;
    if (a.class == b.class && (a.class == SOFT_INF || a.class == SOFT_ZERO))
        return soft_invalid(r);
    if (a.class == SOFT_INF) {
        *r = soft_infinity(sign);
    } else if (a.class == SOFT_ZERO || b.class == SOFT_INF) {
        *r = soft_zero(sign);
    } else if (b.class == SOFT_ZERO) {
        *r = soft_infinity(sign);
        flags = FPU_ZE;
    } else {
        flags = div_finite(r, a, b, sign, cw);
    }
    return soft_denormal(flags, a.denormal || b.denormal, cw);
}

unsigned float80_sqrt(struct float80 *r, struct float80 x, uint32_t cw)
{
    unsigned flags;
    if (soft_nan1(r, &flags, x))
        return flags;
    struct soft a = soft_unpack(x);
    if (a.class == SOFT_ZERO) {
        *r = x;
        return 0;
    }
    if (a.sign)
        return soft_invalid(r);
    if (a.class == SOFT_INF) {
        *r = x;
        return 0;
    }
    /* An even power of two times a number in [1, 4), the latter with 126 bits of fraction. */
    int32_t e = a.exp - FLOAT80_BIAS;
    struct wide n = e & 1 ? wide_make(a.mant, 0) : wide_make(a.mant >> 1, a.mant << 63);
    struct wide rem, q;
    q.hi = wide_sqrt(n, &rem);
    /* The root of an integer is never half way between two integers. */
    bool above_half = rem.hi || rem.lo > q.hi;
    q.lo = !rem.hi && !rem.lo ? 0 : above_half ? UINT64_C(3) << 62 : UINT64_C(1) << 62;
    flags = soft_pack(r, false, (e - (e & 1)) / 2 + FLOAT80_BIAS, q, soft_drop(cw), cw);
    return soft_denormal(flags, a.denormal, cw);
}

/* --- Compare ------------------------------------------------------------------------------------------------------ */

#define CC_UNORDERED (FPU_C0 | FPU_C2 | FPU_C3)

/* C0: less, C3: equal */
static unsigned order(struct soft a, struct soft b)
{
    if (a.class == SOFT_ZERO && b.class == SOFT_ZERO)
        return FPU_C3;
    bool sign_a = a.class != SOFT_ZERO && a.sign, sign_b = b.class != SOFT_ZERO && b.sign;
    if (sign_a != sign_b)
        return sign_a ? FPU_C0 : 0;
    if (a.class == SOFT_ZERO || b.class == SOFT_ZERO)
        return (a.class == SOFT_ZERO) == !(sign_a || sign_b) ? FPU_C0 : 0;
    if (a.exp == b.exp && a.mant == b.mant)
        return FPU_C3;
    bool less = a.exp < b.exp || (a.exp == b.exp && a.mant < b.mant);
    return less != sign_a ? FPU_C0 : 0;
}

static unsigned compare(struct float80 a, struct float80 b, bool quiet)
{
    if (float80_unsupported(a) || float80_unsupported(b))
        return FPU_IE | CC_UNORDERED;
    if (float80_is_nan(a) || float80_is_nan(b))
        return CC_UNORDERED | (quiet && !is_signalling(a) && !is_signalling(b) ? 0 : FPU_IE);
    return order(soft_unpack(a), soft_unpack(b)) | (float80_is_denormal(a) || float80_is_denormal(b) ? FPU_DE : 0);
}

unsigned float80_compare(struct float80 a, struct float80 b, uint32_t cw)
{
    return compare(a, b, false);
}

unsigned float80_compare_quiet(struct float80 a, struct float80 b, uint32_t cw)
{
    return compare(a, b, true);
}
