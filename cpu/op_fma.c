/*
 * Fused multiply-add: VFMADD, VFMSUB, VFNMADD, VFNMSUB, VFMADDSUB, VFMSUBADD in the orders 132, 213 and 231.
 *
 * The order tells which operands are multiplied and, if several are NaNs, which comes first: with operands 1 (reg), 2
 * (VEX.vvvv) and 3 (ModRM), 132 is 1 * 3 + 2, 213 is 2 * 1 + 3, 231 is 2 * 3 + 1. Intel SDM volume 1, 14.5.3. The
 * arithmetic is behind sse_fp.h. Runs on the vCPU's thread.
 */
#include "cpu/ops.h"
#include "cpu/sse_fp.h"
#include "cpu/vec.h"

VEC_INLINE void fma_run(struct cpu *cpu, const struct insn *i, enum fp_fma kind, unsigned order, unsigned size,
                        unsigned bytes, bool mem)
{
    union vec d, tmp;
    const union vec *o1 = &cpu->v[i->reg], *o2 = &cpu->v[i->vvvv], *o3 = vec_rm(cpu, i, &tmp, bytes, mem);
    const union vec *a = order == 132 ? o1 : o2, *b = order == 213 ? o1 : o3;
    const union vec *c = order == 132 ? o2 : order == 213 ? o3 : o1;

    (size == 4 ? fp_fma32 : fp_fma64)(cpu, &d, a, b, c, bytes / size, kind);
    if (bytes >= 16) {
        vec_write(cpu, i, i->reg, &d, bytes);
        return;
    }
    /* A scalar one keeps the rest of its destination, not of VEX.vvvv. */
    union vec *r = &cpu->v[i->reg];
    if (size == 4)
        r->u32[L32(0)] = d.u32[L32(0)];
    else
        r->u64[0] = d.u64[0];
    r->u64[2] = r->u64[3] = 0;
}

#define SCALAR(name, kind, order, size) \
    VEC_FN(name##_r, fma_run(cpu, i, kind, order, size, size, false)) \
    VEC_FN(name##_m, fma_run(cpu, i, kind, order, size, size, true)) \
    VEC_OP_MEM(name, name##_r, name##_m)
#define PACKED(name, kind, order, size) \
    VEC_FN(name##_xr, fma_run(cpu, i, kind, order, size, 16, false)) \
    VEC_FN(name##_xm, fma_run(cpu, i, kind, order, size, 16, true)) \
    VEC_FN(name##_yr, fma_run(cpu, i, kind, order, size, 32, false)) \
    VEC_FN(name##_ym, fma_run(cpu, i, kind, order, size, 32, true)) \
    VEC_OP_VL_MEM(name, name##_xr, name##_xm, name##_yr, name##_ym)
#define PACKED_BOTH(name, kind, order) PACKED(name##order##ps, kind, order, 4) PACKED(name##order##pd, kind, order, 8)
#define ALL(name, kind, order) \
    PACKED_BOTH(name, kind, order) \
    SCALAR(name##order##ss, kind, order, 4) \
    SCALAR(name##order##sd, kind, order, 8)

ALL(vfmadd, FP_FMADD, 132)
ALL(vfmadd, FP_FMADD, 213)
ALL(vfmadd, FP_FMADD, 231)
ALL(vfmsub, FP_FMSUB, 132)
ALL(vfmsub, FP_FMSUB, 213)
ALL(vfmsub, FP_FMSUB, 231)
ALL(vfnmadd, FP_FNMADD, 132)
ALL(vfnmadd, FP_FNMADD, 213)
ALL(vfnmadd, FP_FNMADD, 231)
ALL(vfnmsub, FP_FNMSUB, 132)
ALL(vfnmsub, FP_FNMSUB, 213)
ALL(vfnmsub, FP_FNMSUB, 231)
PACKED_BOTH(vfmaddsub, FP_FMADDSUB, 132)
PACKED_BOTH(vfmaddsub, FP_FMADDSUB, 213)
PACKED_BOTH(vfmaddsub, FP_FMADDSUB, 231)
PACKED_BOTH(vfmsubadd, FP_FMSUBADD, 132)
PACKED_BOTH(vfmsubadd, FP_FMSUBADD, 213)
PACKED_BOTH(vfmsubadd, FP_FMSUBADD, 231)
