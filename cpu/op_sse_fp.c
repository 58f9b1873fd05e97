/*
 * Floating-point arithmetic and comparison: SSE to SSE4.1, AVX. Fused multiply-add is in op_fma.c, conversions are in
 * op_sse_cvt.c; the arithmetic itself is behind sse_fp.h.
 *
 * Intel SDM volume 2. Runs on the vCPU's thread.
 */
#include "cpu/ops.h"
#include "cpu/sse_fp.h"
#include "cpu/vec.h"

/* In all of these `size` is a lane's and `bytes` the operand's: of 16 or 32, or one lane of a scalar instruction. */

VEC_INLINE void result_write(struct cpu *cpu, const struct insn *i, const union vec *d, unsigned bytes)
{
    if (bytes < 16)
        vec_write_scalar(cpu, i, i->reg, d, bytes);
    else
        vec_write(cpu, i, i->reg, d, bytes);
}

/* --- Two operands ------------------------------------------------------------------------------------------------- */

VEC_INLINE void binary_run(struct cpu *cpu, const struct insn *i, fp_binary_fn *fn, unsigned size, unsigned bytes,
                           bool mem)
{
    union vec d, tmp;
    const union vec *b = vec_rm(cpu, i, &tmp, bytes, mem);

    fn(cpu, &d, &cpu->v[i->vvvv], b, bytes / size);
    result_write(cpu, i, &d, bytes);
}

/* Forms of `run(cpu, i, fn, size, bytes, mem)`: scalar and packed. */
#define FP_SCALAR(name, run, fn, size) \
    VEC_FN(name##_r, run(cpu, i, fn, size, size, false)) \
    VEC_FN(name##_m, run(cpu, i, fn, size, size, true)) \
    VEC_OP_MEM(name, name##_r, name##_m)
#define FP_PACKED(name, run, fn, size) \
    VEC_FN(name##_xr, run(cpu, i, fn, size, 16, false)) \
    VEC_FN(name##_xm, run(cpu, i, fn, size, 16, true)) \
    VEC_FN(name##_yr, run(cpu, i, fn, size, 32, false)) \
    VEC_FN(name##_ym, run(cpu, i, fn, size, 32, true)) \
    VEC_OP_VL_MEM(name, name##_xr, name##_xm, name##_yr, name##_ym)
#define FP_ALL(name, run, fn) \
    FP_SCALAR(name##ss, run, fn##32, 4) \
    FP_SCALAR(name##sd, run, fn##64, 8) \
    FP_PACKED(name##ps, run, fn##32, 4) \
    FP_PACKED(name##pd, run, fn##64, 8)

FP_ALL(add, binary_run, fp_add)
FP_ALL(sub, binary_run, fp_sub)
FP_ALL(mul, binary_run, fp_mul)
FP_ALL(div, binary_run, fp_div)
FP_ALL(min, binary_run, fp_min)
FP_ALL(max, binary_run, fp_max)

/* Even lanes are subtracted. */
static void addsub32(struct cpu *cpu, union vec *d, const union vec *a, const union vec *b, unsigned lanes)
{
    fp_soft_binary(cpu, sf_sub32, sf_add32, 32, d, a, b, lanes);
}
static void addsub64(struct cpu *cpu, union vec *d, const union vec *a, const union vec *b, unsigned lanes)
{
    fp_soft_binary(cpu, sf_sub64, sf_add64, 64, d, a, b, lanes);
}
FP_PACKED(addsubps, binary_run, addsub32, 4)
FP_PACKED(addsubpd, binary_run, addsub64, 8)

/* Neighbours of a, then of b, in each 16 bytes. */
VEC_INLINE void horizontal_run(struct cpu *cpu, const struct insn *i, fp_binary_fn *fn, unsigned size, unsigned bytes,
                               bool mem)
{
    union vec d, tmp, x, y;
    const union vec *a = &cpu->v[i->vvvv], *b = vec_rm(cpu, i, &tmp, bytes, mem);

    if (size == 4) {
        for (unsigned n = 0; n < bytes / 4; n++) {
            const union vec *from = n & 2 ? b : a;
            x.u32[L32(n)] = from->u32[L32((n & 4) + 2 * (n & 1))];
            y.u32[L32(n)] = from->u32[L32((n & 4) + 2 * (n & 1) + 1)];
        }
    } else {
        for (unsigned n = 0; n < bytes / 8; n++) {
            const union vec *from = n & 1 ? b : a;
            x.u64[n] = from->u64[n & 2];
            y.u64[n] = from->u64[(n & 2) + 1];
        }
    }
    fn(cpu, &d, &x, &y, bytes / size);
    vec_write(cpu, i, i->reg, &d, bytes);
}
FP_PACKED(haddps, horizontal_run, fp_add32, 4)
FP_PACKED(haddpd, horizontal_run, fp_add64, 8)
FP_PACKED(hsubps, horizontal_run, fp_sub32, 4)
FP_PACKED(hsubpd, horizontal_run, fp_sub64, 8)

/* --- One operand -------------------------------------------------------------------------------------------------- */

VEC_INLINE void unary_run(struct cpu *cpu, const struct insn *i, fp_unary_fn *fn, unsigned size, unsigned bytes,
                          bool mem)
{
    union vec d, tmp;
    const union vec *b = vec_rm(cpu, i, &tmp, bytes, mem);

    fn(cpu, &d, b, bytes / size);
    result_write(cpu, i, &d, bytes);
}

FP_ALL(sqrt, unary_run, fp_sqrt)
FP_SCALAR(rcpss, unary_run, fp_rcp32, 4)
FP_SCALAR(rsqrtss, unary_run, fp_rsqrt32, 4)
FP_PACKED(rcpps, unary_run, fp_rcp32, 4)
FP_PACKED(rsqrtps, unary_run, fp_rsqrt32, 4)

VEC_INLINE void round_run(struct cpu *cpu, const struct insn *i, unsigned width, unsigned size, unsigned bytes,
                          bool mem)
{
    union vec d, tmp;
    const union vec *b = vec_rm(cpu, i, &tmp, bytes, mem);

    fp_round(cpu, width, &d, b, bytes / size, i->imm);
    result_write(cpu, i, &d, bytes);
}

FP_SCALAR(roundss, round_run, 32, 4)
FP_SCALAR(roundsd, round_run, 64, 8)
FP_PACKED(roundps, round_run, 32, 4)
FP_PACKED(roundpd, round_run, 64, 8)

/* --- Comparison --------------------------------------------------------------------------------------------------- */

typedef void compare_fn(struct cpu *cpu, union vec *d, const union vec *a, const union vec *b, unsigned lanes,
                        unsigned predicate);

VEC_INLINE void compare_run(struct cpu *cpu, const struct insn *i, compare_fn *fn, unsigned size, unsigned bytes,
                            bool mem)
{
    union vec d, tmp;
    const union vec *b = vec_rm(cpu, i, &tmp, bytes, mem);

    fn(cpu, &d, &cpu->v[i->vvvv], b, bytes / size, i->imm & (i->flags & INSN_VEX ? 31 : 7));
    result_write(cpu, i, &d, bytes);
}
FP_ALL(cmp, compare_run, fp_compare)

typedef uint64_t order_fn(struct cpu *cpu, const union vec *a, const union vec *b, bool signaling);

VEC_INLINE void order_run(struct cpu *cpu, const struct insn *i, order_fn *fn, bool signaling, unsigned bytes, bool mem)
{
    union vec tmp;
    const union vec *b = vec_rm(cpu, i, &tmp, bytes, mem);
    uint64_t flags = fn(cpu, &cpu->v[i->reg], b, signaling);

    cpu->rflags = (cpu->rflags & ~(uint64_t)FLAGS_ARITH) | flags;
}

#define FP_ORDER(name, fn, signaling, size) \
    VEC_FN(name##_r, order_run(cpu, i, fn, signaling, size, false)) \
    VEC_FN(name##_m, order_run(cpu, i, fn, signaling, size, true)) \
    VEC_OP_MEM(name, name##_r, name##_m)
FP_ORDER(comiss, fp_order32, true, 4)
FP_ORDER(comisd, fp_order64, true, 8)
FP_ORDER(ucomiss, fp_order32, false, 4)
FP_ORDER(ucomisd, fp_order64, false, 8)

/* --- Dot product -------------------------------------------------------------------------------------------------- */

/*
 * In each 16 bytes: the products that imm[7:4] chooses, added in pairs, then across; the sum goes to the lanes of
 * imm[3:0]. Every step takes its exceptions before the next. Each lane does its own sums, which matters if there are
 * several NaNs: its own part is the first operand, but the second in the first sum of DPPS. So do Intel's processors.
 */
VEC_INLINE void dot_product_run(struct cpu *cpu, const struct insn *i, unsigned unused, unsigned size, unsigned bytes,
                                bool mem)
{
    union vec d, tmp, x, y, products;
    const union vec *a = &cpu->v[i->vvvv], *b = vec_rm(cpu, i, &tmp, bytes, mem);
    unsigned count = 16 / size, lanes = bytes / size;

    for (unsigned n = 0; n < lanes; n++) {
        bool chosen = i->imm >> (4 + n % count) & 1;
        if (size == 4) {
            x.u32[L32(n)] = chosen ? a->u32[L32(n)] : 0;
            y.u32[L32(n)] = chosen ? b->u32[L32(n)] : 0;
        } else {
            x.u64[n] = chosen ? a->u64[n] : 0;
            y.u64[n] = chosen ? b->u64[n] : 0;
        }
    }
    (size == 4 ? fp_mul32 : fp_mul64)(cpu, &products, &x, &y, lanes);
    if (size == 4) {
        for (unsigned n = 0; n < lanes; n++)
            x.u32[L32(n)] = products.u32[L32(n ^ 1)];
        fp_add32(cpu, &d, &x, &products, lanes);
        for (unsigned n = 0; n < lanes; n++)
            x.u32[L32(n)] = d.u32[L32(n ^ 2)];
        y = d;
        fp_add32(cpu, &d, &y, &x, lanes);
    } else {
        for (unsigned n = 0; n < lanes; n++)
            x.u64[n] = products.u64[n ^ 1];
        fp_add64(cpu, &d, &products, &x, lanes);
    }
    for (unsigned n = 0; n < bytes / 4; n++)
        if (!(i->imm >> n * 4 / size % count & 1))
            d.u32[L32(n)] = 0;
    vec_write(cpu, i, i->reg, &d, bytes);
}
FP_PACKED(dpps, dot_product_run, 0, 4)
FP_PACKED(dppd, dot_product_run, 0, 8)

/* --- MXCSR -------------------------------------------------------------------------------------------------------- */

static void ldmxcsr_fn(struct cpu *cpu, const struct insn *i)
{
    uint32_t v = mem_load32(cpu, insn_linear(cpu, i, 4, false), i->seg);

    if (v & ~MXCSR_VALID)
        cpu_raise_gp0(cpu);
    cpu->mxcsr = v;
}
VEC_FN(stmxcsr_fn, mem_store32(cpu, insn_linear(cpu, i, 4, true), cpu->mxcsr, i->seg))
VEC_OP_MEM(ldmxcsr, NULL, ldmxcsr_fn)
VEC_OP_MEM(stmxcsr, NULL, stmxcsr_fn)
