/*
 * Arithmetic on 80-bit x87 numbers: what an x87 instruction computes once its operands are at hand.
 *
 * There are two implementations, chosen by `make HOST_FPU=native|portable`: float80_native.c lets the host's own x87 do
 * the work, the float80*_portable.c do it in integers and with MPFR. float80_from.c serves both.
 *
 * Each function takes the guest's control word (precision and rounding control, exception masks) and returns the status
 * bits that the operation adds: FPU_IE .. FPU_PE, FPU_C1, and the other condition codes where said. Condition codes not
 * returned are to be cleared (FPU_C1 always) or kept (the rest), as the instruction has it. With an exception unmasked
 * in the control word:
 *   FPU_IE, FPU_DE, FPU_ZE  what is written to the result is meaningless: the instruction must not store it.
 *   FPU_OE, FPU_UE          an 80-bit result has its exponent biased as the manual says and is to be stored; a result
 * in a memory format is meaningless. Stack faults, tags and the busy and summary bits are the caller's. Results may be
 * the same object as operands. No function keeps anything between calls: any thread.
 */
#ifndef CPU_FLOAT80_H
#define CPU_FLOAT80_H

#include "cpu/state.h"

#include <stdbool.h>
#include <stdint.h>

/* Status word. The exception bits have the places of their masks in the control word. */
#define FPU_IE 0x0001u
#define FPU_DE 0x0002u
#define FPU_ZE 0x0004u
#define FPU_OE 0x0008u
#define FPU_UE 0x0010u
#define FPU_PE 0x0020u
#define FPU_EXCEPTIONS 0x003fu
#define FPU_SF 0x0040u
#define FPU_ES 0x0080u
#define FPU_C0 0x0100u
#define FPU_C1 0x0200u
#define FPU_C2 0x0400u
#define FPU_C3 0x4000u
#define FPU_CC (FPU_C0 | FPU_C1 | FPU_C2 | FPU_C3)
#define FPU_TOP_SHIFT 11
#define FPU_TOP_MASK 0x3800u
#define FPU_BUSY 0x8000u

/* Control word. */
#define FPU_PC_MASK 0x0300u
#define FPU_PC_24 0x0000u
#define FPU_PC_53 0x0200u
#define FPU_PC_64 0x0300u
#define FPU_RC_SHIFT 10
#define FPU_RC_MASK 0x0c00u
#define FPU_RC_NEAREST 0x0000u
#define FPU_RC_DOWN 0x0400u
#define FPU_RC_UP 0x0800u
#define FPU_RC_ZERO 0x0c00u
#define FPU_CW_INIT 0x037fu
/*
 * Added to a control word by callers that have FPU_PE set and masked already: FPU_PE may then be returned whether or
 * not this operation is inexact. To see it set anew costs a processor more than the operation.
 */
#define FLOAT80_INEXACT 0x10000u

#define FLOAT80_SIGN 0x8000u
#define FLOAT80_EXP 0x7fffu
#define FLOAT80_BIAS 16383
#define FLOAT80_INT (UINT64_C(1) << 63)   /* the explicit integer bit */
#define FLOAT80_QUIET (UINT64_C(1) << 62) /* a NaN with it is quiet */

#define FLOAT80_BCD_SIZE 10

static inline struct float80 float80_make(uint16_t sexp, uint64_t mant)
{
    struct float80 r;
    r.mant = mant;
    r.sexp = sexp;
    return r;
}
/* The real indefinite: the quiet NaN that answers an invalid operation. */
static inline struct float80 float80_indefinite(void)
{
    return float80_make(0xffff, FLOAT80_INT | FLOAT80_QUIET);
}
/* Unnormals, pseudo-NaNs and pseudo-infinities: invalid operands since the 387. */
static inline bool float80_unsupported(struct float80 a)
{
    return (a.sexp & FLOAT80_EXP) && !(a.mant >> 63);
}
/* A NaN, not counting pseudo-NaNs. */
static inline bool float80_is_nan(struct float80 a)
{
    return (a.sexp & FLOAT80_EXP) == FLOAT80_EXP && a.mant > FLOAT80_INT;
}
/* Denormal or pseudo-denormal. */
static inline bool float80_is_denormal(struct float80 a)
{
    return !(a.sexp & FLOAT80_EXP) && a.mant;
}

typedef unsigned float80_unary(struct float80 *r, struct float80 a, uint32_t cw);
typedef unsigned float80_binary(struct float80 *r, struct float80 a, struct float80 b, uint32_t cw);
typedef unsigned float80_push(struct float80 *below, struct float80 *top, struct float80 a, uint32_t cw);

/* Rounded to the precision that the control word asks for: a + b, a - b, a * b, a / b, square root of a. */
float80_binary float80_add, float80_sub, float80_mul, float80_div;
float80_unary float80_sqrt;

/* All the following round to 64 bits whatever the precision control says. */

/* FRNDINT. */
float80_unary float80_round;
/* FSCALE: a * 2^trunc(b). */
float80_binary float80_scale;
/*
 * FPREM (truncating) and FPREM1 (to nearest): a rem b. FPU_C2: incomplete; else C0, C3, C1 are quotient
 * bits 2, 1, 0, of which C0 and C3 mean nothing if there is none (NaNs, FPU_IE, unmasked FPU_DE).
 */
float80_binary float80_prem, float80_prem1;
/* FCOM and FUCOM: C3, C2, C0 as the manual's table. The quiet one is invalid for signalling NaNs only. */
unsigned float80_compare(struct float80 a, struct float80 b, uint32_t cw);
unsigned float80_compare_quiet(struct float80 a, struct float80 b, uint32_t cw);

/* The following are the host's own; or else correctly rounded, which may be one unit in the last place from a
 * processor's. */
extern const bool float80_exact_math;
/* 2^a - 1; b * log2(a); b * log2(a + 1); arctan(b / a) in the right quadrant. */
float80_unary float80_2xm1;
float80_binary float80_yl2x, float80_yl2xp1, float80_patan;
/*
 * Angles in radians; FPU_C2 and no result if |a| >= 2^63 and finite. Larger angles than pi/4 are reduced with the
 * processor's own pi of 66 bits.
 */
float80_unary float80_sin, float80_cos;
/* Those that leave one result in place and push another: sine and cosine; tangent and 1; exponent and significand. */
float80_push float80_sincos, float80_tan, float80_extract;

/* FLD of a shorter format: a signalling NaN is invalid and made quiet, a denormal is FPU_DE. */
unsigned float80_from_f32(struct float80 *r, uint32_t v);
unsigned float80_from_f64(struct float80 *r, uint64_t v);
/* The same value as an operand of an operation: signalling NaNs stay so, nothing is reported. */
struct float80 float80_widen_f32(uint32_t v);
struct float80 float80_widen_f64(uint64_t v);
struct float80 float80_from_int(int64_t v);
/* Packed decimal of 18 digits, 10 bytes as in memory. Digits above 9 count as what they are. */
struct float80 float80_from_bcd(const uint8_t bcd[FLOAT80_BCD_SIZE]);

/* FST; FPU_IE gives NaNs quieted. */
unsigned float80_to_f32(uint32_t *r, struct float80 a, uint32_t cw);
unsigned float80_to_f64(uint64_t *r, struct float80 a, uint32_t cw);
/* FIST: to a signed integer of 16, 32 or 64 bits; invalid gives the integer indefinite, -2^(bits - 1). */
unsigned float80_to_int(int64_t *r, struct float80 a, unsigned bits, uint32_t cw);
/* FBSTP; invalid gives the packed decimal indefinite. */
unsigned float80_to_bcd(uint8_t bcd[FLOAT80_BCD_SIZE], struct float80 a, uint32_t cw);

#endif
