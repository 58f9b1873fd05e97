/*
 * Packed shifts: by one count for all lanes (register, memory or immediate), by a count for each lane, by bytes. MMX,
 * SSE2, AVX, AVX2.
 *
 * Intel SDM volume 2, PSLL*, PSRL*, PSRA*, VPSLLV*, VPSRLV*, VPSRAV*. Runs on the vCPU's thread.
 */
#include "cpu/ops.h"
#include "cpu/vec.h"

/* The body for a count that may be anything: over the lane's width gives zeros, or copies of the sign. */
#define SHIFT(name, lane, expr) \
    VEC_INLINE void name##_by(union vec *d, const union vec *a, uint64_t count, unsigned bytes) \
    { \
        const unsigned width = 8 * sizeof d->lane[0]; \
        bool over = count >= width; \
        unsigned c = over ? width - 1 : count; \
        for (unsigned n = 0; n < bytes / sizeof d->lane[0]; n++) { \
            __typeof__(d->lane[0]) x = a->lane[n]; \
            d->lane[n] = (expr); \
        } \
    } \
    VEC_INLINE void name##_body(VEC_BODY_ARGS) \
    { \
        name##_by(d, a, b->u64[0], bytes); \
    } \
    VEC_INLINE void name##_imm_body(VEC_BODY_ARGS) \
    { \
        name##_by(d, b, imm, bytes); \
    }

SHIFT(psllw, u16, over ? 0 : x << c)
SHIFT(pslld, u32, over ? 0 : x << c)
SHIFT(psllq, u64, over ? 0 : x << c)
SHIFT(psrlw, u16, over ? 0 : x >> c)
SHIFT(psrld, u32, over ? 0 : x >> c)
SHIFT(psrlq, u64, over ? 0 : x >> c)
SHIFT(psraw, s16, x >> c)
SHIFT(psrad, s32, x >> c)

/* By bytes, within each 16. */
VEC_INLINE void pslldq_imm_body(VEC_BODY_ARGS)
{
    unsigned c = imm % 8 * 8;

    for (unsigned w = 0; w < bytes / 8; w += 2) {
        uint64_t low = b->u64[w], high = c ? b->u64[w + 1] << c | low >> (64 - c) : b->u64[w + 1];
        low <<= c;
        d->u64[w] = imm < 8 ? low : 0;
        d->u64[w + 1] = imm < 8 ? high : imm < 16 ? low : 0;
    }
}

VEC_INLINE void psrldq_imm_body(VEC_BODY_ARGS)
{
    unsigned c = imm % 8 * 8;

    for (unsigned w = 0; w < bytes / 8; w += 2) {
        uint64_t high = b->u64[w + 1], low = c ? b->u64[w] >> c | high << (64 - c) : b->u64[w];
        high >>= c;
        d->u64[w] = imm < 8 ? low : imm < 16 ? high : 0;
        d->u64[w + 1] = imm < 8 ? high : 0;
    }
}

/* The immediate forms are of the opcode's group: the destination is VEX.vvvv, or the source itself. */
VEC_INLINE void shift_imm_run(struct cpu *cpu, const struct insn *i, vec_body *body, unsigned bytes)
{
    union vec d;

    body(&d, NULL, &cpu->v[i->rm], bytes, i->imm);
    vec_write(cpu, i, i->flags & INSN_VEX ? i->vvvv : i->rm, &d, bytes);
}

VEC_INLINE void shift_imm_mmx_run(struct cpu *cpu, const struct insn *i, vec_body *body)
{
    union vec d, b;

    x87_wait(cpu);
    b.u64[0] = mmx_read(cpu, i->rm);
    body(&d, NULL, &b, 8, i->imm);
    mmx_write(cpu, i->rm, d.u64[0]);
}

#define SHIFT_IMM(name, body) \
    VEC_FN(name##_x, shift_imm_run(cpu, i, body, 16)) \
    VEC_FN(name##_y, shift_imm_run(cpu, i, body, 32)) \
    VEC_OP_VL_MEM(name, name##_x, NULL, name##_y, NULL)
#define SHIFT_OPS(name) \
    VEC_MMX(name) \
    VEC_XY_M(name, 16, 16) \
    SHIFT_IMM(name##_imm, name##_imm_body) \
    VEC_FN(name##_imm_mmx_r, shift_imm_mmx_run(cpu, i, name##_imm_body)) \
    VEC_OP_MEM(name##_imm_mmx, name##_imm_mmx_r, NULL)

SHIFT_OPS(psllw)
SHIFT_OPS(pslld)
SHIFT_OPS(psllq)
SHIFT_OPS(psrlw)
SHIFT_OPS(psrld)
SHIFT_OPS(psrlq)
SHIFT_OPS(psraw)
SHIFT_OPS(psrad)
SHIFT_IMM(pslldq, pslldq_imm_body)
SHIFT_IMM(psrldq, psrldq_imm_body)

VEC_LANES(vpsllvd, u32, y < 32 ? x << y : 0)
VEC_LANES(vpsllvq, u64, y < 64 ? x << y : 0)
VEC_LANES(vpsrlvd, u32, y < 32 ? x >> y : 0)
VEC_LANES(vpsrlvq, u64, y < 64 ? x >> y : 0)
VEC_LANES(vpsravd, s32, x >> ((uint32_t)y < 32 ? y : 31))

VEC_XY(vpsllvd)
VEC_XY(vpsllvq)
VEC_XY(vpsrlvd)
VEC_XY(vpsrlvq)
VEC_XY(vpsravd)
