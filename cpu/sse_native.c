/*
 * Vector floating point on an x86-64 host's own SSE and FMA. In when HOST_FPU is native, in place of sse_portable.c.
 *
 * The host's MXCSR is brought to the guest's, all exceptions masked, and what the instruction leaves in it is the
 * guest's new one. Loading it is slow, so it is left there afterwards as long as the guest's control bits are the
 * default ones: then the next operation finds it equal and only looks at it (struct run). The sticky flags mean nothing
 * to our own code. A guest that has an exception unmasked is served in integers (sse_fp.c), which can tell what a trap
 * would leave behind.
 *
 * The instructions are in volatile asm so that the compiler keeps their order with the reading and writing of MXCSR.
 */
#include "cpu/sse_fp.h"
#include "cpu/vec.h"

#include <immintrin.h>

/* One operation. `exact`: the host's MXCSR was the guest's, flags and all, before it. */
struct run {
    bool exact;
};

static inline uint32_t host_mxcsr(void)
{
    uint32_t v;
    __asm__ volatile("stmxcsr %0" : "=m"(v));
    return v;
}

static inline void host_set_mxcsr(uint32_t v)
{
    __asm__ volatile("ldmxcsr %0" : : "m"(v));
}

static inline bool masked(const struct cpu *cpu)
{
    return (cpu->mxcsr & MXCSR_MASKS) == MXCSR_MASKS;
}

static inline struct run run_begin(const struct cpu *cpu)
{
    bool unusual = (cpu->mxcsr & ~MXCSR_FLAGS) != MXCSR_RESET;

    if (G_UNLIKELY(unusual))
        host_set_mxcsr(cpu->mxcsr);
    return (struct run){ .exact = unusual };
}

/* False: MXCSR was not the guest's, now it is: do it again. */
static inline bool run_end(struct cpu *cpu, struct run *run)
{
    uint32_t after = host_mxcsr();

    if (G_UNLIKELY(after != cpu->mxcsr)) {
        if (!run->exact) {
            host_set_mxcsr(cpu->mxcsr);
            run->exact = true;
            return false;
        }
        cpu->mxcsr = after;
    }
    if (G_UNLIKELY((after & ~MXCSR_FLAGS) != MXCSR_RESET))
        host_set_mxcsr(MXCSR_RESET);
    return true;
}

static inline __m128 load_low(const void *p, unsigned bytes)
{
    return bytes == 4 ? _mm_load_ss(p) : bytes == 8 ? _mm_castpd_ps(_mm_load_sd(p)) : _mm_loadu_ps(p);
}

static inline void store_low(void *p, __m128 v, unsigned bytes)
{
    if (bytes == 4)
        _mm_store_ss(p, v);
    else if (bytes == 8)
        _mm_store_sd(p, _mm_castps_pd(v));
    else
        _mm_storeu_ps(p, v);
}

/* --- Same width --------------------------------------------------------------------------------------------------- */

#define ASM2(insn, r, s) __asm__ volatile(insn " %1, %0" : "+x"(r) : "x"(s))

/* `step` bytes at a time: of one lane by the scalar instruction, of 16 by the packed one. */
#define BINARY_STEPS(insn, step) \
    for (unsigned at = 0; at < size; at += (step)) { \
        __m128 x = load_low(a->u8 + at, step), y = load_low(b->u8 + at, step); \
        ASM2(insn, x, y); \
        store_low(d->u8 + at, x, step); \
    }
#define BINARY(name, width, scalar, packed) \
    void fp_##name##width(struct cpu *cpu, union vec *d, const union vec *a, const union vec *b, unsigned lanes) \
    { \
        unsigned size = lanes * (width / 8); \
        if (G_UNLIKELY(!masked(cpu))) { \
            fp_soft_binary(cpu, sf_##name##width, sf_##name##width, width, d, a, b, lanes); \
            return; \
        } \
        struct run run = run_begin(cpu); \
        do { \
            if (lanes == 1) \
                BINARY_STEPS(scalar, width / 8) \
            else \
                BINARY_STEPS(packed, 16) \
        } while (!run_end(cpu, &run)); \
    }

BINARY(add, 32, "addss", "addps")
BINARY(sub, 32, "subss", "subps")
BINARY(mul, 32, "mulss", "mulps")
BINARY(div, 32, "divss", "divps")
BINARY(min, 32, "minss", "minps")
BINARY(max, 32, "maxss", "maxps")
BINARY(add, 64, "addsd", "addpd")
BINARY(sub, 64, "subsd", "subpd")
BINARY(mul, 64, "mulsd", "mulpd")
BINARY(div, 64, "divsd", "divpd")
BINARY(min, 64, "minsd", "minpd")
BINARY(max, 64, "maxsd", "maxpd")

/* --- One operand, perhaps to another width ------------------------------------------------------------------------ */

/* `count` lanes at a time. */
#define UNARY_STEPS(insn, to, from, count) \
    for (unsigned n = 0; n < lanes; n += (count)) { \
        __m128 x = load_low(a->u8 + n * (from / 8), (count) * (from / 8)), r = _mm_setzero_ps(); \
        ASM2(insn, r, x); \
        store_low(d->u8 + n * (to / 8), r, (count) * (to / 8)); \
    }
/* The packed instruction does `count` lanes; fewer are done one by one. */
#define UNARY(name, to, from, scalar, packed, count) \
    void fp_##name(struct cpu *cpu, union vec *d, const union vec *a, unsigned lanes) \
    { \
        if (G_UNLIKELY(!masked(cpu))) { \
            fp_soft_unary(cpu, sf_##name, to, from, d, a, lanes); \
            return; \
        } \
        struct run run = run_begin(cpu); \
        do { \
            if (lanes % (count)) \
                UNARY_STEPS(scalar, to, from, 1) \
            else \
                UNARY_STEPS(packed, to, from, count) \
        } while (!run_end(cpu, &run)); \
    }

UNARY(sqrt32, 32, 32, "sqrtss", "sqrtps", 4)
UNARY(sqrt64, 64, 64, "sqrtsd", "sqrtpd", 2)
UNARY(f32_to_f64, 64, 32, "cvtss2sd", "cvtps2pd", 2)
UNARY(f64_to_f32, 32, 64, "cvtsd2ss", "cvtpd2ps", 2)

/* Conversions between a vector lane and a general register have no packed form of their own name. */
#define FROM_INT_STEPS(insn, to, type, member) \
    for (unsigned n = 0; n < lanes; n++) { \
        __m128 r = _mm_setzero_ps(); \
        __asm__ volatile(insn " %1, %0" : "+x"(r) : "r"(a->member[n])); \
        store_low(d->u8 + n * (to / 8), r, to / 8); \
    }
#define TO_INT_STEPS(insn, from, type, member) \
    for (unsigned n = 0; n < lanes; n++) { \
        __m128 x = load_low(a->u8 + n * (from / 8), from / 8); \
        type r; \
        __asm__ volatile(insn " %1, %0" : "=r"(r) : "x"(x)); \
        d->member[n] = r; \
    }
#define CONVERT(name, to, from, scalar_steps, packed, count) \
    void fp_##name(struct cpu *cpu, union vec *d, const union vec *a, unsigned lanes) \
    { \
        if (G_UNLIKELY(!masked(cpu))) { \
            fp_soft_unary(cpu, sf_##name, to, from, d, a, lanes); \
            return; \
        } \
        struct run run = run_begin(cpu); \
        do { \
            if (lanes % (count)) { \
                scalar_steps \
            } else { \
                UNARY_STEPS(packed, to, from, count) \
            } \
        } while (!run_end(cpu, &run)); \
    }
#define CONVERT_ONE(name, to, from, scalar_steps) \
    void fp_##name(struct cpu *cpu, union vec *d, const union vec *a, unsigned lanes) \
    { \
        if (G_UNLIKELY(!masked(cpu))) { \
            fp_soft_unary(cpu, sf_##name, to, from, d, a, lanes); \
            return; \
        } \
        struct run run = run_begin(cpu); \
        do { \
            scalar_steps \
        } while (!run_end(cpu, &run)); \
    }

CONVERT(i32_to_f32, 32, 32, FROM_INT_STEPS("cvtsi2ssl", 32, uint32_t, u32), "cvtdq2ps", 4)
CONVERT(i32_to_f64, 64, 32, FROM_INT_STEPS("cvtsi2sdl", 64, uint32_t, u32), "cvtdq2pd", 2)
CONVERT_ONE(i64_to_f32, 32, 64, FROM_INT_STEPS("cvtsi2ssq", 32, uint64_t, u64))
CONVERT_ONE(i64_to_f64, 64, 64, FROM_INT_STEPS("cvtsi2sdq", 64, uint64_t, u64))
CONVERT(f32_to_i32, 32, 32, TO_INT_STEPS("cvtss2si", 32, uint32_t, u32), "cvtps2dq", 4)
CONVERT(f64_to_i32, 32, 64, TO_INT_STEPS("cvtsd2si", 64, uint32_t, u32), "cvtpd2dq", 2)
CONVERT_ONE(f32_to_i64, 64, 32, TO_INT_STEPS("cvtss2si", 32, uint64_t, u64))
CONVERT_ONE(f64_to_i64, 64, 64, TO_INT_STEPS("cvtsd2si", 64, uint64_t, u64))
CONVERT(f32_to_i32_trunc, 32, 32, TO_INT_STEPS("cvttss2si", 32, uint32_t, u32), "cvttps2dq", 4)
CONVERT(f64_to_i32_trunc, 32, 64, TO_INT_STEPS("cvttsd2si", 64, uint32_t, u32), "cvttpd2dq", 2)
CONVERT_ONE(f32_to_i64_trunc, 64, 32, TO_INT_STEPS("cvttss2si", 32, uint64_t, u64))
CONVERT_ONE(f64_to_i64_trunc, 64, 64, TO_INT_STEPS("cvttsd2si", 64, uint64_t, u64))

/* MXCSR has no part in these two. */
void fp_rcp32(struct cpu *cpu, union vec *d, const union vec *a, unsigned lanes)
{
    for (unsigned n = 0; n < lanes; n++)
        _mm_store_ss(&d->f32[n], _mm_rcp_ss(_mm_load_ss(&a->f32[n])));
}

void fp_rsqrt32(struct cpu *cpu, union vec *d, const union vec *a, unsigned lanes)
{
    for (unsigned n = 0; n < lanes; n++)
        _mm_store_ss(&d->f32[n], _mm_rsqrt_ss(_mm_load_ss(&a->f32[n])));
}

/* --- Comparison --------------------------------------------------------------------------------------------------- */

/* The instruction takes its predicate as an immediate. VEX predicates above 7 are left to the integers. */
#define COMPARE_STEPS(insn, step, k) \
    for (unsigned at = 0; at < size; at += (step)) { \
        __m128 x = load_low(a->u8 + at, step), y = load_low(b->u8 + at, step); \
        __asm__ volatile(insn " $" #k ", %1, %0" : "+x"(x) : "x"(y)); \
        store_low(d->u8 + at, x, step); \
    }
#define COMPARE_CASE(width, scalar, packed, k) \
    case k: \
        if (lanes == 1) \
            COMPARE_STEPS(scalar, width / 8, k) \
        else \
            COMPARE_STEPS(packed, 16, k) \
        break;
#define COMPARE(width, scalar, packed) \
    void fp_compare##width(struct cpu *cpu, union vec *d, const union vec *a, const union vec *b, unsigned lanes, \
                           unsigned predicate) \
    { \
        unsigned size = lanes * (width / 8); \
        if (G_UNLIKELY(!masked(cpu) || predicate > 7)) { \
            fp_soft_compare(cpu, width, d, a, b, lanes, predicate); \
            return; \
        } \
        struct run run = run_begin(cpu); \
        do { \
            switch (predicate) { \
                COMPARE_CASE(width, scalar, packed, 0) \
                COMPARE_CASE(width, scalar, packed, 1) \
                COMPARE_CASE(width, scalar, packed, 2) \
                COMPARE_CASE(width, scalar, packed, 3) \
                COMPARE_CASE(width, scalar, packed, 4) \
                COMPARE_CASE(width, scalar, packed, 5) \
                COMPARE_CASE(width, scalar, packed, 6) \
                COMPARE_CASE(width, scalar, packed, 7) \
            } \
        } while (!run_end(cpu, &run)); \
    }

COMPARE(32, "cmpss", "cmpps")
COMPARE(64, "cmpsd", "cmppd")

#define ORDER_ASM(insn) __asm__ volatile(insn " %4, %3" : "=@ccz"(zf), "=@ccp"(pf), "=@ccc"(cf) : "x"(x), "x"(y))
#define ORDER(width, ordered, unordered) \
    uint64_t fp_order##width(struct cpu *cpu, const union vec *a, const union vec *b, bool signaling) \
    { \
        if (G_UNLIKELY(!masked(cpu))) \
            return fp_soft_order(cpu, width, a, b, signaling); \
        __m128 x = load_low(a, width / 8), y = load_low(b, width / 8); \
        bool zf, pf, cf; \
        struct run run = run_begin(cpu); \
        do { \
            if (signaling) \
                ORDER_ASM(ordered); \
            else \
                ORDER_ASM(unordered); \
        } while (!run_end(cpu, &run)); \
        return (zf ? FLAG_ZF : 0) | (pf ? FLAG_PF : 0) | (cf ? FLAG_CF : 0); \
    }

ORDER(32, "comiss", "ucomiss")
ORDER(64, "comisd", "ucomisd")

/* --- Fused multiply-add ------------------------------------------------------------------------------------------- */

/* z = x * y + z, with the host's order of NaNs for this form: x, y, z. */
#define FMA_STEPS(insn, step) \
    for (unsigned at = 0; at < size; at += (step)) { \
        __m128 x = load_low(a->u8 + at, step), y = load_low(b->u8 + at, step), z = load_low(c->u8 + at, step); \
        __asm__ volatile(insn " %2, %1, %0" : "+x"(z) : "x"(x), "x"(y)); \
        store_low(d->u8 + at, z, step); \
    }
#define FMA_CASE(kind, width, s, p, insn) \
    case kind: \
        if (lanes == 1) \
            FMA_STEPS(insn s, width / 8) \
        else \
            FMA_STEPS(insn p, 16) \
        break;
#define FMA(width, s, p) \
    void fp_fma##width(struct cpu *cpu, union vec *d, const union vec *a, const union vec *b, const union vec *c, \
                       unsigned lanes, enum fp_fma kind) \
    { \
        unsigned size = lanes * (width / 8); \
        if (G_UNLIKELY(!masked(cpu) || !__builtin_cpu_supports("fma"))) { \
            fp_soft_fma(cpu, width, d, a, b, c, lanes, kind); \
            return; \
        } \
        struct run run = run_begin(cpu); \
        do { \
            switch (kind) { \
                FMA_CASE(FP_FMADD, width, s, p, "vfmadd231") \
                FMA_CASE(FP_FMSUB, width, s, p, "vfmsub231") \
                FMA_CASE(FP_FNMADD, width, s, p, "vfnmadd231") \
                FMA_CASE(FP_FNMSUB, width, s, p, "vfnmsub231") \
            case FP_FMADDSUB: FMA_STEPS("vfmaddsub231" p, 16) break; \
            case FP_FMSUBADD: FMA_STEPS("vfmsubadd231" p, 16) break; \
            } \
        } while (!run_end(cpu, &run)); \
    }

FMA(32, "ss", "ps")
FMA(64, "sd", "pd")
