/*
 * Conversions between integers and floating point and between floating-point formats: SSE, SSE2, AVX, F16C, with the
 * MMX forms. The arithmetic is behind sse_fp.h.
 *
 * CVTPI2PS and CVTPI2PD with a memory operand do not enter MMX state nor look at x87 exceptions; the other MMX forms
 * have entered it if they raise #XM. So do Intel's processors. Intel SDM volume 2. Runs on the vCPU's thread.
 */
#include "cpu/ops.h"
#include "cpu/sse_fp.h"
#include "cpu/vec.h"

/* --- Packed: `lanes` lanes, of `from` bytes in all, to `to` bytes ------------------------------------------------- */

VEC_INLINE void packed_run(struct cpu *cpu, const struct insn *i, fp_unary_fn *fn, unsigned lanes, unsigned from,
                           unsigned to, bool mem)
{
    union vec d, tmp;

    d.u64[1] = 0; /* of 8 bytes of result: the rest is zero */
    fn(cpu, &d, vec_rm(cpu, i, &tmp, from, mem), lanes);
    vec_write(cpu, i, i->reg, &d, to < 16 ? 16 : to);
}

/* xfrom and xto: bytes of the operands with 128-bit vectors; twice that with 256-bit ones. */
#define PACKED(name, fn, lanes, xfrom, xto) \
    VEC_FN(name##_xr, packed_run(cpu, i, fn, lanes, xfrom, xto, false)) \
    VEC_FN(name##_xm, packed_run(cpu, i, fn, lanes, xfrom, xto, true)) \
    VEC_FN(name##_yr, packed_run(cpu, i, fn, 2 * lanes, 2 * xfrom, 2 * xto, false)) \
    VEC_FN(name##_ym, packed_run(cpu, i, fn, 2 * lanes, 2 * xfrom, 2 * xto, true)) \
    VEC_OP_VL_MEM(name, name##_xr, name##_xm, name##_yr, name##_ym)

PACKED(cvtdq2ps, fp_i32_to_f32, 4, 16, 16)
PACKED(cvtps2dq, fp_f32_to_i32, 4, 16, 16)
PACKED(cvttps2dq, fp_f32_to_i32_trunc, 4, 16, 16)
PACKED(cvtdq2pd, fp_i32_to_f64, 2, 8, 16)
PACKED(cvtpd2dq, fp_f64_to_i32, 2, 16, 8)
PACKED(cvttpd2dq, fp_f64_to_i32_trunc, 2, 16, 8)
PACKED(cvtps2pd, fp_f32_to_f64, 2, 8, 16)
PACKED(cvtpd2ps, fp_f64_to_f32, 2, 16, 8)
PACKED(vcvtph2ps, fp_f16_to_f32, 4, 8, 16)

/* The destination is the ModRM operand: half as long as the source. MXCSR changes even if the store faults. */
VEC_INLINE void to_half_run(struct cpu *cpu, const struct insn *i, unsigned lanes, bool mem)
{
    union vec d;

    d.u64[1] = 0;
    fp_f32_to_f16(cpu, &d, &cpu->v[i->reg], lanes, i->imm);
    if (mem)
        vec_store(cpu, &d, insn_linear(cpu, i, 2 * lanes, true), 2 * lanes, i->seg);
    else
        vec_write(cpu, i, i->rm, &d, 16);
}
VEC_FN(vcvtps2ph_xr, to_half_run(cpu, i, 4, false))
VEC_FN(vcvtps2ph_xm, to_half_run(cpu, i, 4, true))
VEC_FN(vcvtps2ph_yr, to_half_run(cpu, i, 8, false))
VEC_FN(vcvtps2ph_ym, to_half_run(cpu, i, 8, true))
VEC_OP_VL_MEM(vcvtps2ph, vcvtps2ph_xr, vcvtps2ph_xm, vcvtps2ph_yr, vcvtps2ph_ym)

/* --- Scalar ------------------------------------------------------------------------------------------------------- */

VEC_INLINE void scalar_run(struct cpu *cpu, const struct insn *i, fp_unary_fn *fn, unsigned from, unsigned to, bool mem)
{
    union vec d, tmp;

    fn(cpu, &d, vec_rm(cpu, i, &tmp, from, mem), 1);
    vec_write_scalar(cpu, i, i->reg, &d, to);
}
#define FORMS(name, run, ...) \
    VEC_FN(name##_r, run(cpu, i, __VA_ARGS__, false)) \
    VEC_FN(name##_m, run(cpu, i, __VA_ARGS__, true)) \
    VEC_OP_MEM(name, name##_r, name##_m)
FORMS(cvtss2sd, scalar_run, fp_f32_to_f64, 4, 8)
FORMS(cvtsd2ss, scalar_run, fp_f64_to_f32, 8, 4)

/* From Ey, 32 or 64 bits. */
VEC_INLINE void from_general_run(struct cpu *cpu, const struct insn *i, fp_unary_fn *fn32, fp_unary_fn *fn64,
                                 unsigned to, bool mem)
{
    union vec d, b;

    if (i->osize == 3)
        b.u64[0] = rm_get(cpu, i, 3, mem);
    else
        b.u32[L32(0)] = rm_get(cpu, i, 2, mem);
    (i->osize == 3 ? fn64 : fn32)(cpu, &d, &b, 1);
    vec_write_scalar(cpu, i, i->reg, &d, to);
}
FORMS(cvtsi2ss, from_general_run, fp_i32_to_f32, fp_i64_to_f32, 4)
FORMS(cvtsi2sd, from_general_run, fp_i32_to_f64, fp_i64_to_f64, 8)

/* To Gy. */
VEC_INLINE void to_general_run(struct cpu *cpu, const struct insn *i, fp_unary_fn *fn32, fp_unary_fn *fn64,
                               unsigned from, bool mem)
{
    union vec d, tmp;
    const union vec *b = vec_rm(cpu, i, &tmp, from, mem);

    (i->osize == 3 ? fn64 : fn32)(cpu, &d, b, 1);
    cpu->r[i->reg] = i->osize == 3 ? d.u64[0] : d.u32[L32(0)];
}
FORMS(cvtss2si, to_general_run, fp_f32_to_i32, fp_f32_to_i64, 4)
FORMS(cvtsd2si, to_general_run, fp_f64_to_i32, fp_f64_to_i64, 8)
FORMS(cvttss2si, to_general_run, fp_f32_to_i32_trunc, fp_f32_to_i64_trunc, 4)
FORMS(cvttsd2si, to_general_run, fp_f64_to_i32_trunc, fp_f64_to_i64_trunc, 8)

/* --- MMX ---------------------------------------------------------------------------------------------------------- */

VEC_INLINE void from_mmx_run(struct cpu *cpu, const struct insn *i, fp_unary_fn *fn, bool mem)
{
    union vec d = cpu->v[i->reg], b;

    if (mem) {
        b.u64[0] = mem_load64(cpu, vec_linear(cpu, i, 8, false), i->seg);
    } else {
        x87_wait(cpu);
        x87_enter_mmx(cpu);
        b.u64[0] = mmx_read(cpu, i->rm);
    }
    fn(cpu, &d, &b, 2);
    vec_write(cpu, i, i->reg, &d, 16);
}
FORMS(cvtpi2ps, from_mmx_run, fp_i32_to_f32)
FORMS(cvtpi2pd, from_mmx_run, fp_i32_to_f64)

VEC_INLINE void to_mmx_run(struct cpu *cpu, const struct insn *i, fp_unary_fn *fn, unsigned from, bool mem)
{
    union vec d, tmp;

    x87_wait(cpu);
    const union vec *b = vec_rm(cpu, i, &tmp, from, mem);
    x87_enter_mmx(cpu);
    fn(cpu, &d, b, 2);
    mmx_write(cpu, i->reg, d.u64[0]);
}
FORMS(cvtps2pi, to_mmx_run, fp_f32_to_i32, 8)
FORMS(cvttps2pi, to_mmx_run, fp_f32_to_i32_trunc, 8)
FORMS(cvtpd2pi, to_mmx_run, fp_f64_to_i32, 16)
FORMS(cvttpd2pi, to_mmx_run, fp_f64_to_i32_trunc, 16)
