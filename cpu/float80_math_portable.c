/*
 * The transcendental x87 instructions for hosts without an x87 (HOST_FPU=portable), by MPFR: correctly rounded, which
 * is within one unit in the last place of what Intel's processors give.
 *
 * Intel SDM volume 1, 8.3, volume 2 on each instruction (tables of special values); angles are reduced with the
 * processor's pi of 66 bits (volume 1, 8.3.8). Any thread.
 */
#include "cpu/float80_soft.h"

#include <mpfr.h>

const bool float80_exact_math = false;

/* Enough for a correct rounding to 64 bits: results are cut to 128 with a sticky bit. */
#define PRECISION 256

static void to_mpfr(mpfr_t out, struct soft a)
{
    mpfr_set_ui(out, (unsigned long)(a.mant >> 32), MPFR_RNDN);
    mpfr_mul_2si(out, out, 32, MPFR_RNDN);
    mpfr_add_ui(out, out, (unsigned long)(uint32_t)a.mant, MPFR_RNDN);
    mpfr_mul_2si(out, out, a.exp - FLOAT80_BIAS - 63, MPFR_RNDN);
    if (a.sign)
        mpfr_neg(out, out, MPFR_RNDN);
}

/* Where the true result lies, for results that are always reported as inexact. */
enum nudge {
    NUDGE_UP,   /* v was cut towards zero */
    NUDGE_NONE, /* v is exact, and so is what the processor gives */
    NUDGE_DOWN, /* v is exact, but the processor finds a little less */
};

/* Rounds and packs v. */
static unsigned from_mpfr(struct float80 *r, mpfr_t v, enum nudge nudge, uint32_t cw)
{
    mpfr_t t;
    mpfr_init2(t, PRECISION);
    mpfr_abs(t, v, MPFR_RNDN);
    long e = mpfr_get_exp(t); /* v is in [1/2, 1) * 2^e */
    uint32_t word[4];
    mpfr_mul_2si(t, t, -e, MPFR_RNDN);
    for (int n = 0; n < 4; n++) {
        mpfr_mul_2si(t, t, 32, MPFR_RNDN);
        word[n] = mpfr_get_ui(t, MPFR_RNDZ);
        mpfr_sub_ui(t, t, word[n], MPFR_RNDN);
    }
    if (!mpfr_zero_p(t))
        nudge = NUDGE_UP;
    mpfr_clear(t);
    struct wide m = wide_make((uint64_t)word[0] << 32 | word[1], (uint64_t)word[2] << 32 | word[3]);
    int32_t exp = (int32_t)e - 1 + FLOAT80_BIAS;
    unsigned flags = FPU_PE;
    if (nudge == NUDGE_UP) {
        m.lo |= 1;
    } else if (nudge == NUDGE_DOWN) {
        m = wide_sub(m, wide_make(0, 1));
        if (!(m.hi >> 63)) {
            m = wide_make(~UINT64_C(0), ~UINT64_C(0));
            exp--;
        }
    } else if (exp < 1) {
        flags |= FPU_UE;
    }
    return flags | soft_pack(r, mpfr_signbit(v), exp, m, 0, cw);
}

/* --- 2^x - 1 ------------------------------------------------------------------------------------------------------ */

unsigned float80_2xm1(struct float80 *r, struct float80 x, uint32_t cw)
{
    unsigned flags;
    if (soft_nan1(r, &flags, x))
        return flags;
    struct soft a = soft_unpack(x);
    if (a.class == SOFT_ZERO || (a.class == SOFT_INF && !a.sign)) {
        *r = x;
        return 0;
    }
    if (a.class == SOFT_INF) {
        *r = float80_make(0xbfff, FLOAT80_INT);
        return 0;
    }
    if (a.exp >= FLOAT80_BIAS) { /* beyond 1 and -1 the manual promises nothing; the processor gives x back */
        bool minus_one = x.sexp == 0xbfff && a.mant == FLOAT80_INT;
        *r = minus_one ? float80_make(0xbffe, FLOAT80_INT) : x;
        return FPU_PE;
    }
    mpfr_t t, ln2;
    mpfr_inits2(PRECISION, t, ln2, (mpfr_ptr)NULL);
    to_mpfr(t, a);
    mpfr_const_log2(ln2, MPFR_RNDN);
    mpfr_mul(t, t, ln2, MPFR_RNDN);
    mpfr_expm1(t, t, MPFR_RNDN);
    flags = from_mpfr(r, t, NUDGE_UP, cw);
    mpfr_clears(t, ln2, (mpfr_ptr)NULL);
    return soft_denormal(flags, a.denormal, cw);
}

/* --- Logarithms --------------------------------------------------------------------------------------------------- */

static unsigned log_result(struct float80 *r, mpfr_t log, struct soft y, enum nudge nudge, uint32_t cw)
{
    mpfr_t t;
    mpfr_init2(t, PRECISION);
    to_mpfr(t, y);
    if (mpfr_mul(t, t, log, MPFR_RNDZ))
        nudge = NUDGE_UP;
    unsigned flags = from_mpfr(r, t, nudge, cw);
    mpfr_clear(t);
    return flags;
}

/* y times an infinite logarithm: `sign` is that of the logarithm. */
static unsigned log_infinite(struct float80 *r, struct soft y, bool sign)
{
    if (y.class == SOFT_ZERO)
        return soft_invalid(r);
    *r = soft_infinity(sign ^ y.sign);
    return 0;
}

unsigned float80_yl2x(struct float80 *r, struct float80 a, struct float80 b, uint32_t cw)
{
    unsigned flags;
    if (soft_nan(r, &flags, a, b))
        return flags;
    struct soft x = soft_unpack(a), y = soft_unpack(b);
    bool denormal = x.denormal || y.denormal;
    if (x.class == SOFT_ZERO) {
        flags = log_infinite(r, y, true);
        if (y.class == SOFT_FINITE)
            flags |= FPU_ZE;
        return soft_denormal(flags, denormal, cw);
    }
    if (x.sign)
        return soft_invalid(r);
    if (x.class == SOFT_INF)
        return soft_denormal(log_infinite(r, y, false), denormal, cw);

    int above_one = x.exp < FLOAT80_BIAS ? -1 : x.exp > FLOAT80_BIAS || x.mant != FLOAT80_INT;
    if (y.class == SOFT_INF) {
        if (!above_one)
            return soft_invalid(r);
        *r = soft_infinity(y.sign ^ (above_one < 0));
        return soft_denormal(0, denormal, cw);
    }
    if (y.class == SOFT_ZERO || !above_one) {
        *r = soft_zero(y.sign ^ (above_one < 0));
        return soft_denormal(0, denormal, cw);
    }
    mpfr_t t;
    mpfr_init2(t, PRECISION);
    to_mpfr(t, x);
    bool exact = mpfr_log2(t, t, MPFR_RNDZ) == 0;
    flags = log_result(r, t, y, !exact ? NUDGE_UP : above_one > 0 ? NUDGE_NONE : NUDGE_DOWN, cw);
    mpfr_clear(t);
    return soft_denormal(flags, denormal, cw);
}

unsigned float80_yl2xp1(struct float80 *r, struct float80 a, struct float80 b, uint32_t cw)
{
    unsigned flags;
    if (soft_nan(r, &flags, a, b))
        return flags;
    struct soft x = soft_unpack(a), y = soft_unpack(b);
    bool denormal = x.denormal || y.denormal;
    if (x.class == SOFT_ZERO) {
        if (y.class == SOFT_INF)
            return soft_invalid(r);
        *r = soft_zero(x.sign ^ y.sign);
        return soft_denormal(0, denormal, cw);
    }
    if (x.class == SOFT_INF)
        return x.sign ? soft_invalid(r) : soft_denormal(log_infinite(r, y, false), denormal, cw);
    if (y.class != SOFT_FINITE) {
        *r = y.class == SOFT_INF ? soft_infinity(x.sign ^ y.sign) : soft_zero(x.sign ^ y.sign);
        return soft_denormal(0, denormal, cw);
    }
    if (x.sign && x.exp >= FLOAT80_BIAS) { /* no logarithm; the processor gives x back */
        *r = a;
        return soft_denormal(FPU_PE, denormal, cw);
    }
    mpfr_t t;
    enum nudge nudge = NUDGE_UP;
    mpfr_init2(t, PRECISION);
    to_mpfr(t, x);
    if (x.exp > FLOAT80_BIAS - 128) { /* x + 1 is exact, and may have an exact logarithm */
        mpfr_add_ui(t, t, 1, MPFR_RNDN);
        if (!mpfr_log2(t, t, MPFR_RNDZ))
            nudge = x.sign ? NUDGE_DOWN : NUDGE_NONE;
    } else {
        mpfr_t ln2;
        mpfr_init2(ln2, PRECISION);
        mpfr_const_log2(ln2, MPFR_RNDN);
        mpfr_log1p(t, t, MPFR_RNDZ);
        mpfr_div(t, t, ln2, MPFR_RNDZ);
        mpfr_clear(ln2);
    }
    flags = log_result(r, t, y, nudge, cw);
    mpfr_clear(t);
    return soft_denormal(flags, denormal, cw);
}

/* --- Arc tangent -------------------------------------------------------------------------------------------------- */

/* (-1)^sign * quarters * pi / 4 */
static unsigned pi_quarters(struct float80 *r, bool sign, unsigned quarters, uint32_t cw)
{
    mpfr_t t;
    mpfr_init2(t, PRECISION);
    mpfr_const_pi(t, MPFR_RNDZ);
    mpfr_mul_ui(t, t, quarters, MPFR_RNDZ);
    mpfr_div_2ui(t, t, 2, MPFR_RNDZ);
    if (sign)
        mpfr_neg(t, t, MPFR_RNDN);
    unsigned flags = from_mpfr(r, t, NUDGE_UP, cw);
    mpfr_clear(t);
    return flags;
}

static unsigned patan_finite(struct float80 *r, struct soft x, struct soft y, uint32_t cw)
{
    mpfr_t t, u;
    enum nudge nudge = NUDGE_UP;
    mpfr_inits2(PRECISION, t, u, (mpfr_ptr)NULL);
    to_mpfr(t, x);
    to_mpfr(u, y);
    if (!x.sign && y.exp - x.exp < -64) { /* the arc tangent of a tiny quotient is the quotient */
        if (!mpfr_div(t, u, t, MPFR_RNDZ))
            nudge = NUDGE_NONE;
    } else {
        mpfr_atan2(t, u, t, MPFR_RNDZ);
    }
    unsigned flags = from_mpfr(r, t, nudge, cw);
    mpfr_clears(t, u, (mpfr_ptr)NULL);
    return flags;
}

unsigned float80_patan(struct float80 *r, struct float80 a, struct float80 b, uint32_t cw)
{
    unsigned flags;
    if (soft_nan(r, &flags, a, b))
        return flags;
    struct soft x = soft_unpack(a), y = soft_unpack(b);
    bool denormal = x.denormal || y.denormal;
    if (y.class == SOFT_INF) {
        flags = pi_quarters(r, y.sign, x.class != SOFT_INF ? 2 : x.sign ? 3 : 1, cw);
    } else if (x.class == SOFT_INF || y.class == SOFT_ZERO) {
        flags = 0;
        if (x.sign)
            flags = pi_quarters(r, y.sign, 4, cw);
        else
            *r = soft_zero(y.sign);
    } else if (x.class == SOFT_ZERO) {
        flags = pi_quarters(r, y.sign, 2, cw);
    } else {
        flags = patan_finite(r, x, y, cw);
    }
    return soft_denormal(flags, denormal, cw);
}

/* --- Sine, cosine, tangent ---------------------------------------------------------------------------------------- */

/*
 * Takes multiples of half the processor's pi off: *quadrant counts them, modulo 4. Angles up to pi/4 stay as they are.
 * Exact: at most 63 bits before the point, 128 behind it.
 */
static void reduce(mpfr_t angle, unsigned *quadrant)
{
    mpfr_t half_pi, n;
    mpfr_inits2(PRECISION, half_pi, n, (mpfr_ptr)NULL);
    /* 0.c90fdaa22168c234c * 4 / 2 */
    mpfr_set_str(half_pi, "1.921fb54442d184698", 16, MPFR_RNDN);
    mpfr_div(n, angle, half_pi, MPFR_RNDN);
    mpfr_rint(n, n, MPFR_RNDN);
    mpfr_mul(half_pi, half_pi, n, MPFR_RNDN);
    mpfr_sub(angle, angle, half_pi, MPFR_RNDN);
    /* n modulo 4 */
    mpfr_div_2ui(n, n, 2, MPFR_RNDN);
    mpfr_frac(n, n, MPFR_RNDN);
    mpfr_mul_2ui(n, n, 2, MPFR_RNDN);
    *quadrant = (unsigned)mpfr_get_si(n, MPFR_RNDN) & 3;
    mpfr_clears(half_pi, n, (mpfr_ptr)NULL);
}

/* Special angles. True: nothing is left to calculate, *flags are the answer; FPU_C2 with a in *r: out of range. */
static bool special_angle(struct float80 *r, unsigned *flags, struct float80 x, struct soft *a)
{
    if (soft_nan1(r, flags, x))
        return true;
    *a = soft_unpack(x);
    if (a->class == SOFT_INF) {
        *flags = soft_invalid(r);
        return true;
    }
    if (a->exp >= FLOAT80_BIAS + 63) {
        *r = x;
        *flags = FPU_C2;
        return true;
    }
    return false;
}

/* Below 2^-68 the processor takes the angle itself for sine and tangent, and 1 for the cosine. */
static bool is_tiny(struct soft a)
{
    return a.exp < FLOAT80_BIAS - 68;
}

static unsigned tiny_result(struct float80 *r, struct soft a, bool cosine, uint32_t cw)
{
    unsigned flags = FPU_PE;
    if (cosine)
        *r = float80_make(FLOAT80_BIAS, FLOAT80_INT);
    else
        flags |= soft_pack(r, a.sign, a.exp, wide_make(a.mant, 0), 0, cw) | (a.exp < 1 ? FPU_UE : 0);
    return soft_denormal(flags, a.denormal, cw);
}

/* Sine of the angle plus `quarter` quarter turns, at most one. */
static unsigned sine(struct float80 *r, struct soft a, unsigned quarter, uint32_t cw)
{
    unsigned quadrant;
    mpfr_t t;
    if (is_tiny(a))
        return tiny_result(r, a, quarter, cw);
    mpfr_init2(t, PRECISION);
    to_mpfr(t, a);
    reduce(t, &quadrant);
    quadrant = (quadrant + quarter) & 3;
    if (quadrant & 1)
        mpfr_cos(t, t, MPFR_RNDZ);
    else
        mpfr_sin(t, t, MPFR_RNDZ);
    if (quadrant & 2)
        mpfr_neg(t, t, MPFR_RNDN);
    unsigned flags = from_mpfr(r, t, NUDGE_UP, cw);
    mpfr_clear(t);
    return soft_denormal(flags, a.denormal, cw);
}

unsigned float80_sin(struct float80 *r, struct float80 x, uint32_t cw)
{
    unsigned flags;
    struct soft a;
    if (special_angle(r, &flags, x, &a))
        return flags;
    if (a.class == SOFT_ZERO) {
        *r = x;
        return 0;
    }
    return sine(r, a, 0, cw);
}

unsigned float80_cos(struct float80 *r, struct float80 x, uint32_t cw)
{
    unsigned flags;
    struct soft a;
    if (special_angle(r, &flags, x, &a))
        return flags;
    if (a.class == SOFT_ZERO) {
        *r = float80_make(FLOAT80_BIAS, FLOAT80_INT);
        return 0;
    }
    return sine(r, a, 1, cw);
}

unsigned float80_sincos(struct float80 *below, struct float80 *top, struct float80 x, uint32_t cw)
{
    unsigned flags;
    struct soft a;
    if (special_angle(below, &flags, x, &a)) {
        *top = *below;
        return flags;
    }
    /* The cosine is what C1 tells of. */
    flags = float80_sin(below, x, cw) & ~FPU_C1;
    return flags | float80_cos(top, x, cw);
}

unsigned float80_tan(struct float80 *below, struct float80 *top, struct float80 x, uint32_t cw)
{
    unsigned flags, quadrant;
    struct soft a;
    if (special_angle(below, &flags, x, &a)) {
        *top = *below;
        return flags;
    }
    *top = float80_make(FLOAT80_BIAS, FLOAT80_INT);
    if (a.class == SOFT_ZERO) {
        *below = x;
        return 0;
    }
    if (is_tiny(a))
        return tiny_result(below, a, false, cw);
    mpfr_t t;
    mpfr_init2(t, PRECISION);
    to_mpfr(t, a);
    reduce(t, &quadrant);
    if (quadrant & 1) {
        mpfr_cot(t, t, MPFR_RNDZ);
        mpfr_neg(t, t, MPFR_RNDN);
    } else {
        mpfr_tan(t, t, MPFR_RNDZ);
    }
    flags = from_mpfr(below, t, NUDGE_UP, cw);
    mpfr_clear(t);
    return soft_denormal(flags, a.denormal, cw);
}
