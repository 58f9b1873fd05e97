/*
 * AVX and AVX2 instructions without a legacy form: broadcast, permutation across the 128-bit halves, insert and extract
 * of halves, masked moves, gathers, VTEST, VZEROUPPER; and PTEST.
 *
 * A gather that faults has done the elements before, and cleared their mask, as the manual says. Intel SDM volume 2.
 * Runs on the vCPU's thread.
 */
#include "cpu/ops.h"
#include "cpu/vec.h"

/* --- Broadcast ---------------------------------------------------------------------------------------------------- */

#define BROADCAST(name, lane, L) \
    VEC_INLINE void name##_body(VEC_BODY_ARGS) \
    { \
        for (unsigned n = 0; n < bytes / sizeof d->lane[0]; n++) \
            d->lane[n] = b->lane[L]; \
    }

BROADCAST(vpbroadcastb, u8, L8(0))
BROADCAST(vpbroadcastw, u16, L16(0))
BROADCAST(vpbroadcastd, u32, L32(0))
BROADCAST(vpbroadcastq, u64, 0)
BROADCAST(vbroadcastss, u32, L32(0))
BROADCAST(vbroadcastsd, u64, 0)
BROADCAST(vbroadcastf128, u64, n & 1)
BROADCAST(vbroadcasti128, u64, n & 1)

VEC_XY_M(vpbroadcastb, 1, 1)
VEC_XY_M(vpbroadcastw, 2, 2)
VEC_XY_M(vpbroadcastd, 4, 4)
VEC_XY_M(vpbroadcastq, 8, 8)
VEC_XY_M(vbroadcastss, 4, 4)
VEC_Y_M(vbroadcastsd, 8)
VEC_Y_M(vbroadcastf128, 16)
VEC_Y_M(vbroadcasti128, 16)

/* --- Permutation -------------------------------------------------------------------------------------------------- */

VEC_INLINE void vpermd_body(VEC_BODY_ARGS)
{
    for (unsigned n = 0; n < 8; n++)
        d->u32[L32(n)] = b->u32[L32(a->u32[L32(n)] & 7)];
}

VEC_INLINE void vpermps_body(VEC_BODY_ARGS)
{
    vpermd_body(d, a, b, bytes, imm);
}

VEC_INLINE void vpermq_body(VEC_BODY_ARGS)
{
    for (unsigned n = 0; n < 4; n++)
        d->u64[n] = b->u64[imm >> 2 * n & 3];
}

VEC_INLINE void vpermpd_body(VEC_BODY_ARGS)
{
    vpermq_body(d, a, b, bytes, imm);
}

/* Each half is one of the four of a and b, or zero. */
VEC_INLINE void vperm2f128_body(VEC_BODY_ARGS)
{
    for (unsigned half = 0; half < 2; half++) {
        unsigned choice = imm >> 4 * half;
        const union vec *from = choice & 2 ? b : a;
        for (unsigned n = 0; n < 2; n++)
            d->u64[2 * half + n] = choice & 8 ? 0 : from->u64[2 * (choice & 1) + n];
    }
}

VEC_INLINE void vperm2i128_body(VEC_BODY_ARGS)
{
    vperm2f128_body(d, a, b, bytes, imm);
}

VEC_INLINE void vinsertf128_body(VEC_BODY_ARGS)
{
    for (unsigned n = 0; n < 4; n++)
        d->u64[n] = n / 2 == (imm & 1) ? b->u64[n & 1] : a->u64[n];
}

VEC_INLINE void vinserti128_body(VEC_BODY_ARGS)
{
    vinsertf128_body(d, a, b, bytes, imm);
}

VEC_Y(vpermd)
VEC_Y(vpermps)
VEC_Y(vpermq)
VEC_Y(vpermpd)
VEC_Y(vperm2f128)
VEC_Y(vperm2i128)
VEC_Y_M(vinsertf128, 16)
VEC_Y_M(vinserti128, 16)

VEC_INLINE void extract_run(struct cpu *cpu, const struct insn *i, bool mem)
{
    const union vec *v = &cpu->v[i->reg];
    union vec half;

    half.u64[0] = v->u64[2 * (i->imm & 1)];
    half.u64[1] = v->u64[2 * (i->imm & 1) + 1];
    if (mem)
        vec_store(cpu, &half, insn_linear(cpu, i, 16, true), 16, i->seg);
    else
        vec_write(cpu, i, i->rm, &half, 16);
}

VEC_FN(extract_r, extract_run(cpu, i, false))
VEC_FN(extract_m, extract_run(cpu, i, true))
VEC_OP_MEM(vextractf128, extract_r, extract_m)
VEC_OP_MEM(vextracti128, extract_r, extract_m)

/* --- Tests -------------------------------------------------------------------------------------------------------- */

/* ZF: no bit of `mask` is set in both; CF: none is set in the second alone. */
VEC_INLINE void test_run(struct cpu *cpu, const struct insn *i, uint64_t mask, unsigned bytes, bool mem)
{
    union vec tmp;
    const union vec *a = &cpu->v[i->reg], *b = vec_rm(cpu, i, &tmp, bytes, mem);
    uint64_t both = 0, second = 0;

    for (unsigned n = 0; n < bytes / 8; n++) {
        both |= b->u64[n] & a->u64[n];
        second |= b->u64[n] & ~a->u64[n];
    }
    cpu->rflags &= ~(uint64_t)FLAGS_ARITH;
    cpu->rflags |= (both & mask ? 0 : FLAG_ZF) | (second & mask ? 0 : FLAG_CF);
}

#define TEST(name, mask) \
    VEC_FN(name##_xr, test_run(cpu, i, mask, 16, false)) \
    VEC_FN(name##_xm, test_run(cpu, i, mask, 16, true)) \
    VEC_FN(name##_yr, test_run(cpu, i, mask, 32, false)) \
    VEC_FN(name##_ym, test_run(cpu, i, mask, 32, true)) \
    VEC_OP_VL_MEM(name, name##_xr, name##_xm, name##_yr, name##_ym)
TEST(ptest, UINT64_MAX)
TEST(vtestps, UINT64_C(0x8000000080000000))
TEST(vtestpd, UINT64_C(0x8000000000000000))

/* --- Masked moves ------------------------------------------------------------------------------------------------- */

/* The lanes whose sign bit is set. */
VEC_INLINE uint32_t sign_lanes(const union vec *v, unsigned size, unsigned bytes)
{
    uint32_t lanes = 0;

    for (unsigned n = 0; n < bytes / size; n++)
        lanes |= (uint32_t)(size == 4 ? v->s32[L32(n)] < 0 : v->s64[n] < 0) << n;
    return lanes;
}

VEC_INLINE void mask_load_run(struct cpu *cpu, const struct insn *i, unsigned size, unsigned bytes)
{
    union vec d;

    vec_load_lanes(cpu, i, insn_ea(cpu, i), &d, sign_lanes(&cpu->v[i->vvvv], size, bytes), size);
    vec_write(cpu, i, i->reg, &d, bytes);
}

VEC_INLINE void mask_store_run(struct cpu *cpu, const struct insn *i, unsigned size, unsigned bytes)
{
    vec_store_lanes(cpu, i, insn_ea(cpu, i), &cpu->v[i->reg], sign_lanes(&cpu->v[i->vvvv], size, bytes), size);
}

#define MASKED(size) \
    VEC_FN(mask_load_x##size, mask_load_run(cpu, i, size, 16)) \
    VEC_FN(mask_load_y##size, mask_load_run(cpu, i, size, 32)) \
    VEC_FN(mask_store_x##size, mask_store_run(cpu, i, size, 16)) \
    VEC_FN(mask_store_y##size, mask_store_run(cpu, i, size, 32))
MASKED(4)
MASKED(8)
#define MASKED_OPS(name, size) \
    VEC_OP_VL_MEM(name##_load, NULL, mask_load_x##size, NULL, mask_load_y##size) \
    VEC_OP_VL_MEM(name##_store, NULL, mask_store_x##size, NULL, mask_store_y##size)
MASKED_OPS(vmaskmovps, 4)
MASKED_OPS(vmaskmovpd, 8)
MASKED_OPS(vpmaskmovd, 4)
MASKED_OPS(vpmaskmovq, 8)

/* --- Gather ------------------------------------------------------------------------------------------------------- */

VEC_INLINE uint64_t gather_ea(const struct cpu *cpu, const struct insn *i, unsigned n, unsigned index_size)
{
    const union vec *v = &cpu->v[i->index];
    uint64_t index = index_size == 4 ? (uint64_t)(int64_t)v->s32[L32(n)] : v->u64[n];
    uint64_t ea = cpu->r[i->base] + (index << i->scale) + i->disp;

    return i->asize == 3 ? ea : (uint32_t)ea;
}

/* `bytes`: of the longer of destination and indexes. */
VEC_INLINE void gather_run(struct cpu *cpu, const struct insn *i, unsigned size, unsigned index_size, unsigned bytes)
{
    union vec *d = &cpu->v[i->reg], *mask = &cpu->v[i->vvvv];
    unsigned count = bytes / (size > index_size ? size : index_size);

    /* Done first, and seen if an element faults. */
    for (unsigned n = 0; n < 4; n++) {
        if (8 * n >= bytes) {
            mask->u64[n] = 0;
        } else if (size == 4) {
            mask->s32[2 * n] >>= 31;
            mask->s32[2 * n + 1] >>= 31;
        } else {
            mask->s64[n] >>= 63;
        }
    }
    for (unsigned n = 0; n < count; n++) {
        if (!(size == 4 ? mask->u32[L32(n)] : mask->u64[n]))
            continue;
        uint64_t addr = seg_linear(cpu, i->seg, gather_ea(cpu, i, n, index_size), size, false);
        if (size == 4) {
            d->u32[L32(n)] = mem_load32(cpu, addr, i->seg);
            mask->u32[L32(n)] = 0;
        } else {
            d->u64[n] = mem_load64(cpu, addr, i->seg);
            mask->u64[n] = 0;
        }
        if (bytes == 16)
            d->u64[2] = d->u64[3] = 0;
    }
    memset(mask, 0, sizeof *mask);
    for (unsigned n = count * size / 8; n < 4; n++)
        d->u64[n] = 0;
}

#define GATHER(name, size, index_size) \
    VEC_FN(name##_x, gather_run(cpu, i, size, index_size, 16)) \
    VEC_FN(name##_y, gather_run(cpu, i, size, index_size, 32)) \
    VEC_OP_VL_MEM(name, NULL, name##_x, NULL, name##_y)
GATHER(vpgatherdd, 4, 4)
GATHER(vpgatherdq, 8, 4)
GATHER(vpgatherqd, 4, 8)
GATHER(vpgatherqq, 8, 8)
GATHER(vgatherdps, 4, 4)
GATHER(vgatherdpd, 8, 4)
GATHER(vgatherqps, 4, 8)
GATHER(vgatherqpd, 8, 8)

/* --- VZEROUPPER, VZEROALL ----------------------------------------------------------------------------------------- */

static void vzeroupper_fn(struct cpu *cpu, const struct insn *i)
{
    for (unsigned n = 0; n < cpu_vector_count(cpu); n++)
        cpu->v[n].u64[2] = cpu->v[n].u64[3] = 0;
}
static void vzeroall_fn(struct cpu *cpu, const struct insn *i)
{
    memset(cpu->v, 0, cpu_vector_count(cpu) * sizeof cpu->v[0]);
}
VEC_OP_MEM(vzeroupper, vzeroupper_fn, NULL)
VEC_OP_MEM(vzeroall, vzeroall_fn, NULL)
