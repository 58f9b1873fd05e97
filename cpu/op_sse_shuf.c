/*
 * Moving lanes about: pack, unpack, shuffle, align, blend, widen. MMX, SSE to SSE4.1, AVX, AVX2. What crosses the
 * 128-bit halves of a YMM register is in op_avx.c.
 *
 * Intel SDM volume 2. Runs on the vCPU's thread.
 */
#include "cpu/ops.h"
#include "cpu/vec.h"

/* Most of these work in blocks of 16 bytes, or in the 8 of an MMX register. */
#define BLOCK(bytes) ((bytes) < 16 ? (bytes) : 16)

/* --- Pack: the lanes of a block of a, then of b, in half the width with saturation
 * ------------------------------------ */

#define PACK_HALF(s, from, LF, to, LT, lo, hi, at) \
    for (unsigned n = 0; n < count; n++) { \
        __typeof__(d->from[0]) v = (s)->from[LF(block + n)]; \
        v = v < lo ? lo : v; \
        d->to[LT(2 * block + (at) + n)] = v > hi ? hi : v; \
    }
#define PACK(name, from, LF, to, LT, lo, hi) \
    VEC_INLINE void name##_body(VEC_BODY_ARGS) \
    { \
        unsigned size = sizeof d->from[0], count = BLOCK(bytes) / size; \
        for (unsigned block = 0; block < bytes / size; block += count) { \
            PACK_HALF(a, from, LF, to, LT, lo, hi, 0) \
            PACK_HALF(b, from, LF, to, LT, lo, hi, count) \
        } \
    }

PACK(packsswb, s16, L16, s8, L8, INT8_MIN, INT8_MAX)
PACK(packssdw, s32, L32, s16, L16, INT16_MIN, INT16_MAX)
PACK(packuswb, s16, L16, u8, L8, 0, UINT8_MAX)
PACK(packusdw, s32, L32, u16, L16, 0, UINT16_MAX)
VEC_MXY(packsswb)
VEC_MXY(packssdw)
VEC_MXY(packuswb)
VEC_XY(packusdw)

/* --- Unpack: lanes of a and b in turn, from the low or the high half of a block ----------------------------------- */

#define UNPACK(name, lane, L, high) \
    VEC_INLINE void name##_body(VEC_BODY_ARGS) \
    { \
        unsigned size = sizeof d->lane[0], count = BLOCK(bytes) / size; \
        for (unsigned block = 0; block < bytes / size; block += count) { \
            for (unsigned n = 0; n < count / 2; n++) { \
                unsigned from = block + n + (high ? count / 2 : 0); \
                d->lane[L(block + 2 * n)] = a->lane[L(from)]; \
                d->lane[L(block + 2 * n + 1)] = b->lane[L(from)]; \
            } \
        } \
    }
#define L64(n) (n)

UNPACK(punpcklbw, u8, L8, false)
UNPACK(punpcklwd, u16, L16, false)
UNPACK(punpckldq, u32, L32, false)
UNPACK(punpcklqdq, u64, L64, false)
UNPACK(punpckhbw, u8, L8, true)
UNPACK(punpckhwd, u16, L16, true)
UNPACK(punpckhdq, u32, L32, true)
UNPACK(punpckhqdq, u64, L64, true)
UNPACK(unpcklps, u32, L32, false)
UNPACK(unpcklpd, u64, L64, false)
UNPACK(unpckhps, u32, L32, true)
UNPACK(unpckhpd, u64, L64, true)
/* The low forms of MMX read only 32 bits of memory. */
VEC_MMX_M(punpcklbw, 4)
VEC_MMX_M(punpcklwd, 4)
VEC_MMX_M(punpckldq, 4)
VEC_MMX(punpckhbw)
VEC_MMX(punpckhwd)
VEC_MMX(punpckhdq)
VEC_XY(punpcklbw)
VEC_XY(punpcklwd)
VEC_XY(punpckldq)
VEC_XY(punpcklqdq)
VEC_XY(punpckhbw)
VEC_XY(punpckhwd)
VEC_XY(punpckhdq)
VEC_XY(punpckhqdq)
VEC_XY(unpcklps)
VEC_XY(unpcklpd)
VEC_XY(unpckhps)
VEC_XY(unpckhpd)

/* --- Shuffle ------------------------------------------------------------------------------------------------------ */

VEC_INLINE void pshufb_body(VEC_BODY_ARGS)
{
    unsigned size = BLOCK(bytes);

#pragma GCC unroll 4
    for (unsigned w = 0; w < bytes / 8; w++) {
        uint64_t choice = b->u64[w], word = 0;
#pragma GCC unroll 8
        for (unsigned n = 0; n < 8; n++, choice >>= 8) {
            uint64_t byte = a->u8[L8((8 * w & -size) + (choice & (size - 1)))];
            word |= (choice & 0x80 ? 0 : byte) << 8 * n;
        }
        d->u64[w] = word;
    }
}

/* Four words of v from `base` on, by two bits of the immediate each. */
VEC_INLINE uint64_t choose_16(const union vec *v, unsigned base, unsigned imm)
{
    return word_of_16(v->u16[L16(base + (imm & 3))], v->u16[L16(base + (imm >> 2 & 3))],
                      v->u16[L16(base + (imm >> 4 & 3))], v->u16[L16(base + (imm >> 6 & 3))]);
}

/* Two doublewords, likewise. */
VEC_INLINE uint64_t choose_32(const union vec *v, unsigned base, unsigned imm)
{
    return word_of_32(v->u32[L32(base + (imm & 3))], v->u32[L32(base + (imm >> 2 & 3))]);
}

VEC_INLINE void pshufw_body(VEC_BODY_ARGS)
{
    d->u64[0] = choose_16(b, 0, imm);
}

VEC_INLINE void pshufd_body(VEC_BODY_ARGS)
{
    for (unsigned w = 0; w < bytes / 8; w++)
        d->u64[w] = choose_32(b, 2 * w & 4, w & 1 ? imm >> 4 : imm);
}

VEC_INLINE void pshuflw_body(VEC_BODY_ARGS)
{
    for (unsigned w = 0; w < bytes / 8; w += 2) {
        d->u64[w] = choose_16(b, 4 * w, imm);
        d->u64[w + 1] = b->u64[w + 1];
    }
}

VEC_INLINE void pshufhw_body(VEC_BODY_ARGS)
{
    for (unsigned w = 0; w < bytes / 8; w += 2) {
        d->u64[w] = b->u64[w];
        d->u64[w + 1] = choose_16(b, 4 * w + 4, imm);
    }
}

VEC_INLINE void shufps_body(VEC_BODY_ARGS)
{
    for (unsigned w = 0; w < bytes / 8; w += 2) {
        d->u64[w] = choose_32(a, 2 * w, imm);
        d->u64[w + 1] = choose_32(b, 2 * w, imm >> 4);
    }
}

VEC_INLINE void shufpd_body(VEC_BODY_ARGS)
{
    for (unsigned n = 0; n < bytes / 8; n++)
        d->u64[n] = (n & 1 ? b : a)->u64[(n & 2) + (imm >> n & 1)];
}

VEC_INLINE void vpermilps_body(VEC_BODY_ARGS)
{
    for (unsigned w = 0; w < bytes / 8; w++)
        d->u64[w] = choose_32(a, 2 * w & 4, (b->u64[w] & 3) | (b->u64[w] >> 30 & 12));
}

VEC_INLINE void vpermilpd_body(VEC_BODY_ARGS)
{
    for (unsigned n = 0; n < bytes / 8; n++)
        d->u64[n] = a->u64[(n & 2) + (b->u64[n] >> 1 & 1)];
}

VEC_INLINE void vpermilps_imm_body(VEC_BODY_ARGS)
{
    pshufd_body(d, a, b, bytes, imm);
}

VEC_INLINE void vpermilpd_imm_body(VEC_BODY_ARGS)
{
    shufpd_body(d, b, b, bytes, imm);
}

/* The bytes of a above those of b, shifted right. */
VEC_INLINE void palignr_body(VEC_BODY_ARGS)
{
    unsigned words = BLOCK(bytes) / 8, skip = imm / 8, shift = imm % 8 * 8;

    for (unsigned block = 0; block < bytes / 8; block += words) {
        uint64_t w[4] = { b->u64[block] };
#pragma GCC unroll 2
        for (unsigned n = 0; n < words; n++) {
            w[n] = b->u64[block + n];
            w[words + n] = a->u64[block + n];
        }
#pragma GCC unroll 2
        for (unsigned n = 0; n < words; n++) {
            unsigned from = n + skip;
            uint64_t low = from < 2 * words ? w[from] : 0, high = from + 1 < 2 * words ? w[from + 1] : 0;
            d->u64[block + n] = shift ? low >> shift | high << (64 - shift) : low;
        }
    }
}

VEC_INLINE void movddup_body(VEC_BODY_ARGS)
{
    for (unsigned n = 0; n < bytes / 8; n++)
        d->u64[n] = b->u64[n & 2];
}

VEC_INLINE void movsldup_body(VEC_BODY_ARGS)
{
    for (unsigned n = 0; n < bytes / 4; n++)
        d->u32[L32(n)] = b->u32[L32(n & 6)];
}

VEC_INLINE void movshdup_body(VEC_BODY_ARGS)
{
    for (unsigned n = 0; n < bytes / 4; n++)
        d->u32[L32(n)] = b->u32[L32(n | 1)];
}

VEC_MXY(pshufb)
VEC_MMX(pshufw)
VEC_XY(pshufd)
VEC_XY(pshuflw)
VEC_XY(pshufhw)
VEC_XY(shufps)
VEC_XY(shufpd)
VEC_XY(vpermilps)
VEC_XY(vpermilpd)
VEC_XY(vpermilps_imm)
VEC_XY(vpermilpd_imm)
VEC_MXY(palignr)
VEC_XY_M(movddup, 8, 32)
VEC_XY(movsldup)
VEC_XY(movshdup)

/* --- Blend -------------------------------------------------------------------------------------------------------- */

/* The low bits of `bits`, one for each lane of a word, as a mask over it. */
VEC_INLINE uint64_t blend_mask_16(unsigned bits)
{
    return word_of_16(bits & 1 ? 0xffff : 0, bits & 2 ? 0xffff : 0, bits & 4 ? 0xffff : 0, bits & 8 ? 0xffff : 0);
}

VEC_INLINE uint64_t blend_mask_32(unsigned bits)
{
    return word_of_32(bits & 1 ? UINT32_MAX : 0, bits & 2 ? UINT32_MAX : 0);
}

VEC_INLINE uint64_t blend(uint64_t a, uint64_t b, uint64_t mask)
{
    return (a & ~mask) | (b & mask);
}

VEC_INLINE void pblendw_body(VEC_BODY_ARGS)
{
    for (unsigned w = 0; w < bytes / 8; w++)
        d->u64[w] = blend(a->u64[w], b->u64[w], blend_mask_16(imm >> 4 * (w & 1)));
}

VEC_INLINE void blendps_body(VEC_BODY_ARGS)
{
    for (unsigned w = 0; w < bytes / 8; w++)
        d->u64[w] = blend(a->u64[w], b->u64[w], blend_mask_32(imm >> 2 * w));
}

VEC_INLINE void vpblendd_body(VEC_BODY_ARGS)
{
    blendps_body(d, a, b, bytes, imm);
}

VEC_INLINE void blendpd_body(VEC_BODY_ARGS)
{
    for (unsigned n = 0; n < bytes / 8; n++)
        d->u64[n] = (imm >> n & 1 ? b : a)->u64[n];
}

VEC_XY(pblendw)
VEC_XY(blendps)
VEC_XY(vpblendd)
VEC_XY(blendpd)

/* By the sign bits of a mask: XMM0, or the register in the immediate of the VEX form. */
#define BLENDV(name, lane) \
    VEC_INLINE void name##_run(struct cpu *cpu, const struct insn *i, unsigned bytes, bool mem) \
    { \
        union vec d, tmp; \
        const union vec *a = &cpu->v[i->vvvv], *b = vec_rm(cpu, i, &tmp, bytes, mem); \
        const union vec *mask = &cpu->v[i->flags & INSN_VEX ? i->is4 : 0]; \
        for (unsigned n = 0; n < bytes / sizeof d.lane[0]; n++) \
            d.lane[n] = mask->lane[n] < 0 ? b->lane[n] : a->lane[n]; \
        vec_write(cpu, i, i->reg, &d, bytes); \
    } \
    VEC_FN(name##_xr, name##_run(cpu, i, 16, false)) \
    VEC_FN(name##_xm, name##_run(cpu, i, 16, true)) \
    VEC_FN(name##_yr, name##_run(cpu, i, 32, false)) \
    VEC_FN(name##_ym, name##_run(cpu, i, 32, true)) \
    VEC_OP_VL_MEM(name, name##_xr, name##_xm, name##_yr, name##_ym)

BLENDV(pblendvb, s8)
BLENDV(blendvps, s32)
BLENDV(blendvpd, s64)

/* --- Widen -------------------------------------------------------------------------------------------------------- */

/* xm, ym: bytes of source used for 16 and 32 bytes of result. */
#define WIDEN(name, from, LF, to, LT, xm, ym) \
    VEC_INLINE void name##_body(VEC_BODY_ARGS) \
    { \
        for (unsigned n = 0; n < bytes / sizeof d->to[0]; n++) \
            d->to[LT(n)] = b->from[LF(n)]; \
    } \
    VEC_XY_M(name, xm, ym)

WIDEN(pmovsxbw, s8, L8, s16, L16, 8, 16)
WIDEN(pmovsxbd, s8, L8, s32, L32, 4, 8)
WIDEN(pmovsxbq, s8, L8, s64, L64, 2, 4)
WIDEN(pmovsxwd, s16, L16, s32, L32, 8, 16)
WIDEN(pmovsxwq, s16, L16, s64, L64, 4, 8)
WIDEN(pmovsxdq, s32, L32, s64, L64, 8, 16)
WIDEN(pmovzxbw, u8, L8, u16, L16, 8, 16)
WIDEN(pmovzxbd, u8, L8, u32, L32, 4, 8)
WIDEN(pmovzxbq, u8, L8, u64, L64, 2, 4)
WIDEN(pmovzxwd, u16, L16, u32, L32, 8, 16)
WIDEN(pmovzxwq, u16, L16, u64, L64, 4, 8)
WIDEN(pmovzxdq, u32, L32, u64, L64, 8, 16)

/* --- Insert and extract one lane ---------------------------------------------------------------------------------- */

/* `size`: log2 of the lane. A register source is a general one. */
VEC_INLINE void pinsr_run(struct cpu *cpu, const struct insn *i, unsigned size, bool mem)
{
    uint64_t v = mem ? mem_load(cpu, insn_linear(cpu, i, 1u << size, false), size, i->seg) : cpu->r[i->rm];
    unsigned n = i->imm & ((16u >> size) - 1), word = n << size >> 3, shift = (n << size & 7) * 8;
    uint64_t mask = (size == 3 ? UINT64_MAX : (UINT64_C(1) << (8 << size)) - 1) << shift;
    union vec d;

    for (unsigned w = 0; w < 2; w++)
        d.u64[w] = blend(cpu->v[i->vvvv].u64[w], v << shift, w == word ? mask : 0);
    vec_write(cpu, i, i->reg, &d, 16);
}

VEC_INLINE uint64_t vec_extract(const union vec *v, unsigned imm, unsigned size)
{
    unsigned n = imm & ((16u >> size) - 1);

    switch (size) {
    case 0: return v->u8[L8(n)];
    case 1: return v->u16[L16(n)];
    case 2: return v->u32[L32(n)];
    default: return v->u64[n];
    }
}

VEC_INLINE void pextr_run(struct cpu *cpu, const struct insn *i, unsigned size, bool mem)
{
    uint64_t v = vec_extract(&cpu->v[i->reg], i->imm, size);

    if (mem)
        mem_store(cpu, insn_linear(cpu, i, 1u << size, true), v, size, i->seg);
    else
        cpu->r[i->rm] = v; /* zero-extended */
}

#define INSERT_EXTRACT(name, run, size) \
    VEC_FN(name##_r, run(cpu, i, size, false)) \
    VEC_FN(name##_m, run(cpu, i, size, true)) \
    VEC_OP_MEM(name, name##_r, name##_m)

INSERT_EXTRACT(pinsrb, pinsr_run, 0)
INSERT_EXTRACT(pinsrw, pinsr_run, 1)
INSERT_EXTRACT(pinsrd, pinsr_run, i->osize)
INSERT_EXTRACT(pextrb, pextr_run, 0)
INSERT_EXTRACT(pextrw_store, pextr_run, 1)
INSERT_EXTRACT(pextrd, pextr_run, i->osize)
INSERT_EXTRACT(extractps, pextr_run, 2)

VEC_FN(pextrw_r, cpu->r[i->reg] = vec_extract(&cpu->v[i->rm], i->imm, 1))
VEC_OP_MEM(pextrw, pextrw_r, NULL)

VEC_INLINE void pinsrw_mmx_run(struct cpu *cpu, const struct insn *i, bool mem)
{
    x87_wait(cpu);
    uint16_t v = mem ? mem_load16(cpu, insn_linear(cpu, i, 2, false), i->seg) : cpu->r[i->rm];
    unsigned shift = (i->imm & 3) * 16;
    uint64_t old = mmx_read(cpu, i->reg);

    mmx_write(cpu, i->reg, (old & ~(UINT64_C(0xffff) << shift)) | (uint64_t)v << shift);
}

static void pextrw_mmx_r(struct cpu *cpu, const struct insn *i)
{
    x87_wait(cpu);
    x87_enter_mmx(cpu);
    cpu->r[i->reg] = (uint16_t)(mmx_read(cpu, i->rm) >> (i->imm & 3) * 16);
}

VEC_FN(pinsrw_mmx_r, pinsrw_mmx_run(cpu, i, false))
VEC_FN(pinsrw_mmx_m, pinsrw_mmx_run(cpu, i, true))
VEC_OP_MEM(pinsrw_mmx, pinsrw_mmx_r, pinsrw_mmx_m)
VEC_OP_MEM(pextrw_mmx, pextrw_mmx_r, NULL)

VEC_INLINE void insertps_run(struct cpu *cpu, const struct insn *i, bool mem)
{
    union vec d = cpu->v[i->vvvv], tmp;
    const union vec *b = vec_rm(cpu, i, &tmp, 4, mem);
    uint32_t v = b->u32[mem ? L32(0) : L32(i->imm >> 6 & 3)];

    d.u32[L32(i->imm >> 4 & 3)] = v;
    for (unsigned n = 0; n < 4; n++)
        if (i->imm >> n & 1)
            d.u32[L32(n)] = 0;
    vec_write(cpu, i, i->reg, &d, 16);
}

VEC_FN(insertps_r, insertps_run(cpu, i, false))
VEC_FN(insertps_m, insertps_run(cpu, i, true))
VEC_OP_MEM(insertps, insertps_r, insertps_m)

/* --- Sign bits into a general register ---------------------------------------------------------------------------- */

/* The top bit of each byte, gathered by a multiplication into the top byte. */
VEC_INLINE uint32_t signs_8(uint64_t word)
{
    return (word >> 7 & UINT64_C(0x0101010101010101)) * UINT64_C(0x0102040810204080) >> 56;
}

VEC_INLINE uint32_t signs_32(uint64_t word)
{
    return (word >> 31 & 1) | (word >> 62 & 2);
}

VEC_INLINE uint32_t signs_64(uint64_t word)
{
    return word >> 63;
}

#define MOVMSK(name, signs, lanes) \
    VEC_INLINE void name##_run(struct cpu *cpu, const struct insn *i, unsigned bytes) \
    { \
        const union vec *v = &cpu->v[i->rm]; \
        uint32_t bits = 0; \
        for (unsigned w = 0; w < bytes / 8; w++) \
            bits |= signs(v->u64[w]) << lanes * w; \
        cpu->r[i->reg] = bits; \
    } \
    VEC_FN(name##_x, name##_run(cpu, i, 16)) \
    VEC_FN(name##_y, name##_run(cpu, i, 32)) \
    VEC_OP_VL_MEM(name, name##_x, NULL, name##_y, NULL)

MOVMSK(pmovmskb, signs_8, 8)
MOVMSK(movmskps, signs_32, 2)
MOVMSK(movmskpd, signs_64, 1)

static void pmovmskb_mmx_r(struct cpu *cpu, const struct insn *i)
{
    x87_wait(cpu);
    x87_enter_mmx(cpu);
    cpu->r[i->reg] = signs_8(mmx_read(cpu, i->rm));
}
VEC_OP_MEM(pmovmskb_mmx, pmovmskb_mmx_r, NULL)
