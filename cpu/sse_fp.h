/*
 * Floating-point arithmetic of vector instructions over lanes, with MXCSR and #XM.
 *
 * There are two implementations, chosen by `make HOST_FPU=native|portable`: sse_native.c lets the host's SSE do the
 * work where every exception is masked, sse_portable.c does all in integers (softfp.h). What is rare, or needs an
 * exception decided, is in sse_fp.c and serves both.
 *
 * Each function computes `lanes` lanes from lane 0 on (1: a scalar instruction) of d, which is not an operand, and
 * leaves the others alone. Then it sets the flags in MXCSR, or raises #XM (#UD without CR4.OSXMMEXCPT) and does not
 * return: the caller has changed nothing yet. On the vCPU's thread.
 */
#ifndef CPU_SSE_FP_H
#define CPU_SSE_FP_H

#include "cpu/cpu.h"
#include "cpu/softfp.h"

typedef void fp_unary_fn(struct cpu *cpu, union vec *d, const union vec *a, unsigned lanes);
typedef void fp_binary_fn(struct cpu *cpu, union vec *d, const union vec *a, const union vec *b, unsigned lanes);

fp_binary_fn fp_add32, fp_sub32, fp_mul32, fp_div32, fp_min32, fp_max32;
fp_binary_fn fp_add64, fp_sub64, fp_mul64, fp_div64, fp_min64, fp_max64;
fp_unary_fn fp_sqrt32, fp_sqrt64;
/* No exceptions. */
fp_unary_fn fp_rcp32, fp_rsqrt32;

/* What fp_fma negates, for even lanes and, shifted by FP_FMA_ODD, for odd ones. */
#define FP_NEGATE_PRODUCT 1u
#define FP_NEGATE_ADDEND 2u
#define FP_FMA_ODD 2
enum fp_fma {
    FP_FMADD = 0,
    FP_FMSUB = FP_NEGATE_ADDEND | FP_NEGATE_ADDEND << FP_FMA_ODD,
    FP_FNMADD = FP_NEGATE_PRODUCT | FP_NEGATE_PRODUCT << FP_FMA_ODD,
    FP_FNMSUB = FP_FMSUB | FP_FNMADD,
    FP_FMADDSUB = FP_NEGATE_ADDEND, /* subtracts in even lanes */
    FP_FMSUBADD = FP_NEGATE_ADDEND << FP_FMA_ODD,
};
/* a * b + c; of several NaNs a's wins, then b's. */
void fp_fma32(struct cpu *cpu, union vec *d, const union vec *a, const union vec *b, const union vec *c, unsigned lanes,
              enum fp_fma kind);
void fp_fma64(struct cpu *cpu, union vec *d, const union vec *a, const union vec *b, const union vec *c, unsigned lanes,
              enum fp_fma kind);

/* CMPPS and the like: all ones or zeros. `predicate`: 0..31. */
void fp_compare32(struct cpu *cpu, union vec *d, const union vec *a, const union vec *b, unsigned lanes,
                  unsigned predicate);
void fp_compare64(struct cpu *cpu, union vec *d, const union vec *a, const union vec *b, unsigned lanes,
                  unsigned predicate);
/* COMISS (`signaling`) and UCOMISS: ZF, PF and CF. */
uint64_t fp_order32(struct cpu *cpu, const union vec *a, const union vec *b, bool signaling);
uint64_t fp_order64(struct cpu *cpu, const union vec *a, const union vec *b, bool signaling);

/* Conversions: lane n of the one size to lane n of the other. 64-bit integers: lane 0 only. */
fp_unary_fn fp_f32_to_f64, fp_f64_to_f32, fp_i32_to_f32, fp_i32_to_f64, fp_i64_to_f32, fp_i64_to_f64;
fp_unary_fn fp_f32_to_i32, fp_f32_to_i64, fp_f64_to_i32, fp_f64_to_i64;
fp_unary_fn fp_f32_to_i32_trunc, fp_f32_to_i64_trunc, fp_f64_to_i32_trunc, fp_f64_to_i64_trunc;

/* --- In integers, whatever the host (sse_fp.c) -------------------------------------------------------------------- */

/* `odd`: for the odd lanes. `width`, `to`, `from`: bits of a lane. */
void fp_soft_binary(struct cpu *cpu, sf_binary_fn *even, sf_binary_fn *odd, unsigned width, union vec *d,
                    const union vec *a, const union vec *b, unsigned lanes);
void fp_soft_unary(struct cpu *cpu, sf_unary_fn *fn, unsigned to, unsigned from, union vec *d, const union vec *a,
                   unsigned lanes);
void fp_soft_fma(struct cpu *cpu, unsigned width, union vec *d, const union vec *a, const union vec *b,
                 const union vec *c, unsigned lanes, enum fp_fma kind);
void fp_soft_compare(struct cpu *cpu, unsigned width, union vec *d, const union vec *a, const union vec *b,
                     unsigned lanes, unsigned predicate);
uint64_t fp_soft_order(struct cpu *cpu, unsigned width, const union vec *a, const union vec *b, bool signaling);
/* ROUNDPS and the like; `control` is their immediate. */
void fp_round(struct cpu *cpu, unsigned width, union vec *d, const union vec *a, unsigned lanes, unsigned control);
/* VCVTPH2PS, VCVTPS2PH; `control` is the immediate. */
void fp_f16_to_f32(struct cpu *cpu, union vec *d, const union vec *a, unsigned lanes);
void fp_f32_to_f16(struct cpu *cpu, union vec *d, const union vec *a, unsigned lanes, unsigned control);

/*
 * Takes the exceptions of all lanes of one operation. If one that is found before the calculation (IE, DE, ZE) is
 * unmasked, those found after it are as if they had not been.
 */
void fp_report(struct cpu *cpu, uint32_t flags);

static inline struct sf_env fp_env(const struct cpu *cpu)
{
    return (struct sf_env){ .mxcsr = cpu->mxcsr };
}

#endif
