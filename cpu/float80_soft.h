/*
 * Inside the portable 80-bit arithmetic: numbers taken apart, rounding. For float80*_portable.c only.
 */
#ifndef CPU_FLOAT80_SOFT_H
#define CPU_FLOAT80_SOFT_H

#include "cpu/float80.h"
#include "cpu/wide.h"

enum soft_class { SOFT_ZERO, SOFT_FINITE, SOFT_INF, SOFT_QNAN, SOFT_SNAN, SOFT_UNSUPPORTED };

/* A number: (-1)^sign * mant * 2^(exp - bias - 63). */
struct soft {
    enum soft_class class;
    bool sign;
    bool denormal; /* or pseudo-denormal */
    int32_t exp;   /* biased; below 1 for what was a denormal */
    uint64_t mant; /* top bit set, unless zero */
};

struct soft soft_unpack(struct float80 a);

/* Bits below the precision that the control word asks for. */
static inline unsigned soft_drop(uint32_t cw)
{
    switch (cw & FPU_PC_MASK) {
    case FPU_PC_24: return 40;
    case FPU_PC_53: return 11;
    default: return 0;
    }
}

struct soft_rounded {
    uint64_t mant;
    bool carry; /* became 2^64, mant is 2^63: one more in the exponent */
    bool up;    /* away from zero */
    bool inexact;
};

/* Rounds m, a number with 64 bits of fraction below hi, so that the low `drop` (0..63) bits of hi are clear. */
struct soft_rounded soft_round(struct wide m, unsigned drop, bool sign, uint32_t cw);

/*
 * The number (-1)^sign * m * 2^(exp - bias - 127), top bit of m set, rounded and packed, with the masked or the
 * unmasked response to overflow and underflow. Returns OE UE PE C1.
 */
unsigned soft_pack(struct float80 *r, bool sign, int32_t exp, struct wide m, unsigned drop, uint32_t cw);

/*
 * Invalid operands and NaNs. True: *r and *flags are the answer. The second form looks at one operand.
 */
bool soft_nan(struct float80 *r, unsigned *flags, struct float80 a, struct float80 b);
bool soft_nan1(struct float80 *r, unsigned *flags, struct float80 a);

static inline unsigned soft_invalid(struct float80 *r)
{
    *r = float80_indefinite();
    return FPU_IE;
}

static inline struct float80 soft_zero(bool sign)
{
    return float80_make(sign ? FLOAT80_SIGN : 0, 0);
}

static inline struct float80 soft_infinity(bool sign)
{
    return float80_make(sign ? 0xffff : 0x7fff, FLOAT80_INT);
}

/*
 * An operand was denormal: `flags` of the operation with FPU_DE, or if that is unmasked FPU_DE alone. Invalid operands
 * and division by zero come before it and hide it.
 */
static inline unsigned soft_denormal(unsigned flags, bool denormal, uint32_t cw)
{
    if (!denormal || flags & (FPU_IE | FPU_ZE))
        return flags;
    return cw & FPU_DE ? flags | FPU_DE : FPU_DE;
}

#endif
