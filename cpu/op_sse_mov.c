/*
 * Moves of whole registers and of their parts: MOVAPS to MOVNTDQA, MOVSS, MOVHPS, MOVD, MOVQ, MASKMOVDQU. MMX, SSE to
 * SSE4.1, AVX.
 *
 * Non-temporal moves are plain ones. Intel SDM volume 2. Runs on the vCPU's thread.
 */
#include "cpu/ops.h"
#include "cpu/vec.h"

/* --- Whole registers ---------------------------------------------------------------------------------------------- */

VEC_INLINE void load_run(struct cpu *cpu, const struct insn *i, unsigned bytes, bool mem)
{
    union vec tmp;

    vec_write(cpu, i, i->reg, vec_rm(cpu, i, &tmp, bytes, mem), bytes);
}

VEC_INLINE void store_run(struct cpu *cpu, const struct insn *i, unsigned bytes, bool mem)
{
    const union vec *v = &cpu->v[i->reg];

    if (mem)
        vec_store(cpu, v, vec_linear(cpu, i, bytes, true), bytes, i->seg);
    else
        vec_write(cpu, i, i->rm, v, bytes);
}

VEC_FN(load_xr, load_run(cpu, i, 16, false))
VEC_FN(load_xm, load_run(cpu, i, 16, true))
VEC_FN(load_yr, load_run(cpu, i, 32, false))
VEC_FN(load_ym, load_run(cpu, i, 32, true))
VEC_FN(store_xr, store_run(cpu, i, 16, false))
VEC_FN(store_xm, store_run(cpu, i, 16, true))
VEC_FN(store_yr, store_run(cpu, i, 32, false))
VEC_FN(store_ym, store_run(cpu, i, 32, true))

#define MOVE(name) \
    VEC_OP_VL_MEM(name##_load, load_xr, load_xm, load_yr, load_ym) \
    VEC_OP_VL_MEM(name##_store, store_xr, store_xm, store_yr, store_ym)
MOVE(movups)
MOVE(movupd)
MOVE(movaps)
MOVE(movapd)
MOVE(movdqa)
MOVE(movdqu)
VEC_OP_VL_MEM(lddqu, NULL, load_xm, NULL, load_ym)
VEC_OP_VL_MEM(movntdqa, NULL, load_xm, NULL, load_ym)
VEC_OP_VL_MEM(movntps, NULL, store_xm, NULL, store_ym)
VEC_OP_VL_MEM(movntpd, NULL, store_xm, NULL, store_ym)
VEC_OP_VL_MEM(movntdq, NULL, store_xm, NULL, store_ym)

/* --- Scalars: merged between registers, zero-extended from memory ------------------------------------------------- */

VEC_INLINE void scalar_load(struct cpu *cpu, const struct insn *i, unsigned bytes)
{
    union vec d = { .u64 = { 0 } };

    vec_load(cpu, &d, insn_linear(cpu, i, bytes, false), bytes, i->seg);
    vec_write(cpu, i, i->reg, &d, 16);
}

VEC_INLINE void scalar_store(struct cpu *cpu, const struct insn *i, unsigned bytes)
{
    vec_store(cpu, &cpu->v[i->reg], insn_linear(cpu, i, bytes, true), bytes, i->seg);
}

VEC_FN(movss_load_r, vec_write_scalar(cpu, i, i->reg, &cpu->v[i->rm], 4))
VEC_FN(movss_load_m, scalar_load(cpu, i, 4))
VEC_FN(movss_store_r, vec_write_scalar(cpu, i, i->rm, &cpu->v[i->reg], 4))
VEC_FN(movss_store_m, scalar_store(cpu, i, 4))
VEC_FN(movsd_load_r, vec_write_scalar(cpu, i, i->reg, &cpu->v[i->rm], 8))
VEC_FN(movsd_load_m, scalar_load(cpu, i, 8))
VEC_FN(movsd_store_r, vec_write_scalar(cpu, i, i->rm, &cpu->v[i->reg], 8))
VEC_FN(movsd_store_m, scalar_store(cpu, i, 8))
VEC_OP_MEM(movss_load, movss_load_r, movss_load_m)
VEC_OP_MEM(movss_store, movss_store_r, movss_store_m)
VEC_OP_MEM(movsd_load, movsd_load_r, movsd_load_m)
VEC_OP_MEM(movsd_store, movsd_store_r, movsd_store_m)

/* --- Halves ------------------------------------------------------------------------------------------------------- */

/* reg = two words; the second operand of the VEX forms gives the half that is not moved. */
VEC_INLINE void write_halves(struct cpu *cpu, const struct insn *i, uint64_t low, uint64_t high)
{
    union vec d;

    d.u64[0] = low;
    d.u64[1] = high;
    vec_write(cpu, i, i->reg, &d, 16);
}

VEC_INLINE uint64_t load64(struct cpu *cpu, const struct insn *i)
{
    return mem_load64(cpu, insn_linear(cpu, i, 8, false), i->seg);
}

VEC_INLINE void store64(struct cpu *cpu, const struct insn *i, uint64_t v)
{
    mem_store64(cpu, insn_linear(cpu, i, 8, true), v, i->seg);
}

VEC_FN(movlps_load_m, write_halves(cpu, i, load64(cpu, i), cpu->v[i->vvvv].u64[1]))
VEC_FN(movhps_load_m, write_halves(cpu, i, cpu->v[i->vvvv].u64[0], load64(cpu, i)))
VEC_FN(movlps_store_m, store64(cpu, i, cpu->v[i->reg].u64[0]))
VEC_FN(movhps_store_m, store64(cpu, i, cpu->v[i->reg].u64[1]))
VEC_FN(movhlps_r, write_halves(cpu, i, cpu->v[i->rm].u64[1], cpu->v[i->vvvv].u64[1]))
VEC_FN(movlhps_r, write_halves(cpu, i, cpu->v[i->vvvv].u64[0], cpu->v[i->rm].u64[0]))
VEC_OP_MEM(movlps_load, NULL, movlps_load_m)
VEC_OP_MEM(movlpd_load, NULL, movlps_load_m)
VEC_OP_MEM(movhps_load, NULL, movhps_load_m)
VEC_OP_MEM(movhpd_load, NULL, movhps_load_m)
VEC_OP_MEM(movlps_store, NULL, movlps_store_m)
VEC_OP_MEM(movlpd_store, NULL, movlps_store_m)
VEC_OP_MEM(movhps_store, NULL, movhps_store_m)
VEC_OP_MEM(movhpd_store, NULL, movhps_store_m)
VEC_OP_MEM(movhlps, movhlps_r, NULL)
VEC_OP_MEM(movlhps, movlhps_r, NULL)

/* --- MOVD and MOVQ ------------------------------------------------------------------------------------------------ */

VEC_INLINE uint64_t ey_get(struct cpu *cpu, const struct insn *i, bool mem)
{
    return rm_get(cpu, i, i->osize == 3 ? 3 : 2, mem);
}

VEC_INLINE void ey_set(struct cpu *cpu, const struct insn *i, uint64_t v, bool mem)
{
    rm_set(cpu, i, v, i->osize == 3 ? 3 : 2, mem);
}

VEC_FN(movd_to_xmm_r, write_halves(cpu, i, ey_get(cpu, i, false), 0))
VEC_FN(movd_to_xmm_m, write_halves(cpu, i, ey_get(cpu, i, true), 0))
VEC_FN(movd_from_xmm_r, ey_set(cpu, i, cpu->v[i->reg].u64[0], false))
VEC_FN(movd_from_xmm_m, ey_set(cpu, i, cpu->v[i->reg].u64[0], true))
VEC_OP_MEM(movd_to_xmm, movd_to_xmm_r, movd_to_xmm_m)
VEC_OP_MEM(movd_from_xmm, movd_from_xmm_r, movd_from_xmm_m)

static void movq_store_r(struct cpu *cpu, const struct insn *i)
{
    union vec d;

    d.u64[0] = cpu->v[i->reg].u64[0];
    d.u64[1] = 0;
    vec_write(cpu, i, i->rm, &d, 16);
}
VEC_FN(movq_load_r, write_halves(cpu, i, cpu->v[i->rm].u64[0], 0))
VEC_FN(movq_load_m, write_halves(cpu, i, load64(cpu, i), 0))
VEC_OP_MEM(movq_load, movq_load_r, movq_load_m)
VEC_OP_MEM(movq_store, movq_store_r, movlps_store_m)

/* --- MASKMOVDQU --------------------------------------------------------------------------------------------------- */

static void maskmovdqu_fn(struct cpu *cpu, const struct insn *i)
{
    const union vec *mask = &cpu->v[i->rm];
    uint32_t lanes = 0;

    for (unsigned n = 0; n < 16; n++)
        lanes |= (uint32_t)(mask->s8[L8(n)] < 0) << n;
    vec_store_bytes(cpu, i, &cpu->v[i->reg], lanes, 16);
}
VEC_OP_MEM(maskmovdqu, maskmovdqu_fn, maskmovdqu_fn)
