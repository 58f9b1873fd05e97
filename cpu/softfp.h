/*
 * Floating-point arithmetic of SSE, AVX, FMA and F16C on single numbers, in integers: any host.
 *
 * Numbers are passed as their bits, binary32 in the low half. Every function is a pure function of its operands and
 * env->mxcsr (rounding, DAZ, FTZ, and the mask of underflow and overflow, which decide what is reported); it ORs what
 * it detects into env->flags and never traps. Results for exceptions are those of masked ones.
 */
#ifndef CPU_SOFTFP_H
#define CPU_SOFTFP_H

#include <stdbool.h>
#include <stdint.h>

/* MXCSR. The mask of an exception is its flag << MXCSR_MASK_SHIFT. */
#define MXCSR_IE (1u << 0)
#define MXCSR_DE (1u << 1)
#define MXCSR_ZE (1u << 2)
#define MXCSR_OE (1u << 3)
#define MXCSR_UE (1u << 4)
#define MXCSR_PE (1u << 5)
#define MXCSR_FLAGS 0x3fu
#define MXCSR_DAZ (1u << 6)
#define MXCSR_MASK_SHIFT 7
#define MXCSR_MASKS (MXCSR_FLAGS << MXCSR_MASK_SHIFT)
#define MXCSR_RC_SHIFT 13
#define MXCSR_RC (3u << MXCSR_RC_SHIFT)
#define MXCSR_FTZ (1u << 15)
#define MXCSR_VALID 0xffffu
#define MXCSR_RESET 0x1f80u

enum sf_round { SF_NEAREST, SF_DOWN, SF_UP, SF_TRUNCATE };

struct sf_env {
    uint32_t mxcsr;
    uint32_t flags; /* MXCSR_IE .. MXCSR_PE */
};

typedef uint64_t sf_unary_fn(struct sf_env *env, uint64_t a);
typedef uint64_t sf_binary_fn(struct sf_env *env, uint64_t a, uint64_t b);

sf_binary_fn sf_add32, sf_sub32, sf_mul32, sf_div32, sf_min32, sf_max32;
sf_binary_fn sf_add64, sf_sub64, sf_mul64, sf_div64, sf_min64, sf_max64;
sf_unary_fn sf_sqrt32, sf_sqrt64;

/* a * b + c rounded once, with the product or the addend negated (a NaN keeps its sign). */
uint64_t sf_fma32(struct sf_env *env, uint64_t a, uint64_t b, uint64_t c, bool negate_product, bool negate_addend);
uint64_t sf_fma64(struct sf_env *env, uint64_t a, uint64_t b, uint64_t c, bool negate_product, bool negate_addend);

enum sf_order { SF_LESS, SF_EQUAL, SF_GREATER, SF_UNORDERED };
/* `signaling`: a quiet NaN is invalid too. */
enum sf_order sf_compare32(struct sf_env *env, uint64_t a, uint64_t b, bool signaling);
enum sf_order sf_compare64(struct sf_env *env, uint64_t a, uint64_t b, bool signaling);

/* --- Conversions (softfp_cvt.c) ----------------------------------------------------------------------------------- */

sf_unary_fn sf_f32_to_f64, sf_f64_to_f32;
sf_unary_fn sf_i32_to_f32, sf_i64_to_f32, sf_i32_to_f64, sf_i64_to_f64;
/* By MXCSR.RC, and truncating. Out of range: invalid, the most negative integer. */
sf_unary_fn sf_f32_to_i32, sf_f32_to_i64, sf_f64_to_i32, sf_f64_to_i64;
sf_unary_fn sf_f32_to_i32_trunc, sf_f32_to_i64_trunc, sf_f64_to_i32_trunc, sf_f64_to_i64_trunc;
sf_unary_fn sf_f16_to_f32;
uint64_t sf_f32_to_f16(struct sf_env *env, uint64_t a, enum sf_round rounding);
/* To an integral number; `inexact` false suppresses the precision exception. */
uint64_t sf_round32(struct sf_env *env, uint64_t a, enum sf_round rounding, bool inexact);
uint64_t sf_round64(struct sf_env *env, uint64_t a, enum sf_round rounding, bool inexact);
/* Approximations with relative error below 1.5 * 2^-12; no exceptions, MXCSR is not looked at. */
uint32_t sf_rcp32(uint32_t a);
uint32_t sf_rsqrt32(uint32_t a);

static inline enum sf_round sf_env_round(const struct sf_env *env)
{
    return (env->mxcsr & MXCSR_RC) >> MXCSR_RC_SHIFT;
}

#endif
