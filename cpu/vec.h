/*
 * Operands of vector instructions, and how their handlers are made.
 *
 * A lane is numbered from the least significant. union vec keeps 64-bit words as host numbers, so that on a big-endian
 * host the lanes of a word lie the other way round: whoever cares which lane it is (not just "the same in all
 * operands") writes v->u8[L8(n)].
 *
 * Most instructions are a body over union vec: body(d, a, b, bytes, imm), with d apart from a and b. It is inlined into
 * one handler for each of register and memory, and of 8 (MMX), 16 (XMM) and 32 (YMM) bytes.
 */
#ifndef CPU_VEC_H
#define CPU_VEC_H

#include "cpu/mem.h"
#include "cpu/x87.h"

#include <glib.h>
#include <string.h>

#define VEC_INLINE static inline G_GNUC_UNUSED __attribute__((always_inline))

#if G_BYTE_ORDER == G_BIG_ENDIAN
#define L8(n) ((n) ^ 7)
#define L16(n) ((n) ^ 3)
#define L32(n) ((n) ^ 1)
#else
#define L8(n) (n)
#define L16(n) (n)
#define L32(n) (n)
#endif

/*
 * Words put together in a register. A body that stores a vector lane by lane into memory makes the load of the whole
 * wait until all stores are done.
 */
VEC_INLINE uint64_t word_of_32(uint32_t n0, uint32_t n1)
{
    return n0 | (uint64_t)n1 << 32;
}
VEC_INLINE uint64_t word_of_16(uint16_t n0, uint16_t n1, uint16_t n2, uint16_t n3)
{
    return n0 | (uint32_t)n1 << 16 | (uint64_t)n2 << 32 | (uint64_t)n3 << 48;
}

/* --- Memory ------------------------------------------------------------------------------------------------------- */

/* Linear address of the memory operand; #GP(0) if the row asks for alignment and there is none. */
VEC_INLINE uint64_t vec_linear(struct cpu *cpu, const struct insn *i, unsigned bytes, bool write)
{
    uint64_t ea = insn_ea(cpu, i);

    /* Before the segment's limit, which may be #SS. */
    if (bytes >= 16 && G_UNLIKELY((cpu->seg[i->seg].base + ea) & (bytes - 1)) && insn_row(i)->attr & ROW_ALIGN)
        cpu_raise_gp0(cpu);
    return seg_linear(cpu, i->seg, ea, bytes, write);
}

/* Words as they lie in guest memory, to host numbers or back. */
VEC_INLINE void vec_swap(union vec *v, unsigned bytes)
{
    for (unsigned n = 0; n < bytes / 8; n++)
        v->u64[n] = GUINT64_FROM_LE(v->u64[n]);
}

/* Loads 1, 2, 4, 8, 16 or 32 bytes into the low end of v; the rest of v is left alone. */
VEC_INLINE void vec_load(struct cpu *cpu, union vec *v, uint64_t addr, unsigned bytes, unsigned seg)
{
    switch (bytes) {
    case 1: v->u8[L8(0)] = mem_load8(cpu, addr, seg); return;
    case 2: v->u16[L16(0)] = mem_load16(cpu, addr, seg); return;
    case 4: v->u32[L32(0)] = mem_load32(cpu, addr, seg); return;
    case 8: v->u64[0] = mem_load64(cpu, addr, seg); return;
    }
    const struct tlb_entry *e = &cpu->tlb->e[tlb_index(addr)];
    if (G_LIKELY(addr - e->tag_read <= PAGE_SIZE - bytes))
        ram_copy(v, (const void *)(uintptr_t)(addr + e->addend), bytes);
    else
        mem_read_bytes(cpu, addr, v, bytes, seg);
    vec_swap(v, bytes);
}

/* Stores the low 4, 8, 16 or 32 bytes of v. */
VEC_INLINE void vec_store(struct cpu *cpu, const union vec *v, uint64_t addr, unsigned bytes, unsigned seg)
{
    switch (bytes) {
    case 4: mem_store32(cpu, addr, v->u32[L32(0)], seg); return;
    case 8: mem_store64(cpu, addr, v->u64[0], seg); return;
    }
    union vec t = *v;
    vec_swap(&t, bytes);
    const struct tlb_entry *e = &cpu->tlb->e[tlb_index(addr)];
    if (G_LIKELY(addr - e->tag_write <= PAGE_SIZE - bytes))
        ram_copy((void *)(uintptr_t)(addr + e->addend), &t, bytes);
    else
        mem_write_bytes(cpu, addr, &t, bytes, seg);
}

/*
 * Only the lanes of `size` bytes whose bits are set in `lanes`, from seg:ea on; the others cannot fault. A load makes
 * them 0. A store is whole or not at all.
 */
void vec_load_lanes(struct cpu *cpu, const struct insn *i, uint64_t ea, union vec *v, uint32_t lanes, unsigned size);
void vec_store_lanes(struct cpu *cpu, const struct insn *i, uint64_t ea, const union vec *v, uint32_t lanes,
                     unsigned size);
/* MASKMOVQ and MASKMOVDQU: the bytes of v, `bytes` long, that `lanes` chooses. */
void vec_store_bytes(struct cpu *cpu, const struct insn *i, const union vec *v, uint32_t lanes, unsigned bytes);

/* --- XMM and YMM operands ----------------------------------------------------------------------------------------- */

/* The ModRM operand: a register, or `bytes` from memory in *tmp. `mem` is a constant in each handler. */
VEC_INLINE const union vec *vec_rm(struct cpu *cpu, const struct insn *i, union vec *tmp, unsigned bytes, bool mem)
{
    if (!mem)
        return &cpu->v[i->rm];
    vec_load(cpu, tmp, vec_linear(cpu, i, bytes, false), bytes, i->seg);
    return tmp;
}

/* Writes 16 or 32 bytes; the upper half stays if the instruction is a legacy one and becomes 0 if it is VEX.128. */
VEC_INLINE void vec_write(struct cpu *cpu, const struct insn *i, unsigned reg, const union vec *v, unsigned bytes)
{
    union vec *d = &cpu->v[reg];

    d->u64[0] = v->u64[0];
    d->u64[1] = v->u64[1];
    if (bytes == 32) {
        d->u64[2] = v->u64[2];
        d->u64[3] = v->u64[3];
    } else if (i->flags & INSN_VEX) {
        d->u64[2] = d->u64[3] = 0;
    }
}

/*
 * Writes a scalar result of 4 or 8 bytes. What is above it in the XMM register comes from VEX.vvvv, which is the
 * register itself for a legacy instruction: nothing but the lane is written then, so that the next load of it need not
 * wait.
 */
VEC_INLINE void vec_write_scalar(struct cpu *cpu, const struct insn *i, unsigned reg, const union vec *v,
                                 unsigned bytes)
{
    union vec *d = &cpu->v[reg];
    uint64_t value = bytes == 4 ? v->u32[L32(0)] : v->u64[0]; /* v may be the same register */

    if (i->flags & INSN_VEX) {
        const union vec *rest = &cpu->v[i->vvvv];
        d->u64[0] = rest->u64[0];
        d->u64[1] = rest->u64[1];
        d->u64[2] = d->u64[3] = 0;
    }
    if (bytes == 4)
        d->u32[L32(0)] = value;
    else
        d->u64[0] = value;
}

/* --- MMX operands ------------------------------------------------------------------------------------------------- */

/* Every MMX handler begins with x87_wait() and, when nothing can fault any more, calls this or x87_enter_mmx(). */
VEC_INLINE void mmx_write(struct cpu *cpu, unsigned reg, uint64_t value)
{
    x87_enter_mmx(cpu);
    cpu->fpu.st[reg & 7].mant = value;
    cpu->fpu.st[reg & 7].sexp = 0xffff;
}

VEC_INLINE uint64_t mmx_read(const struct cpu *cpu, unsigned reg)
{
    return cpu->fpu.st[reg & 7].mant;
}

/* --- Handlers ----------------------------------------------------------------------------------------------------- */

typedef void vec_body(union vec *d, const union vec *a, const union vec *b, unsigned bytes, unsigned imm);

/* reg = body(vvvv, rm, imm), with `mbytes` loaded if rm is in memory. */
VEC_INLINE void vec_run(struct cpu *cpu, const struct insn *i, vec_body *body, unsigned bytes, unsigned mbytes,
                        bool mem)
{
    union vec d, tmp;
    const union vec *b = vec_rm(cpu, i, &tmp, mbytes, mem);

    body(&d, &cpu->v[i->vvvv], b, bytes, i->imm);
    vec_write(cpu, i, i->reg, &d, bytes);
}

VEC_INLINE void mmx_run(struct cpu *cpu, const struct insn *i, vec_body *body, unsigned mbytes, bool mem)
{
    union vec d, a, b;

    x87_wait(cpu);
    if (mem)
        vec_load(cpu, &b, insn_linear(cpu, i, mbytes, false), mbytes, i->seg);
    else
        b.u64[0] = mmx_read(cpu, i->rm);
    a.u64[0] = mmx_read(cpu, i->reg);
    body(&d, &a, &b, 8, i->imm);
    mmx_write(cpu, i->reg, d.u64[0]);
}

/* --- Tables of handlers ------------------------------------------------------------------------------------------- */

/* Forms by memory operand only, the same for every size. */
#define VEC_OP_MEM(name, reg, mem) \
    const struct op op_##name = { #name, \
                                  { { { reg, reg }, { mem, mem } }, \
                                    { { reg, reg }, { mem, mem } }, \
                                    { { reg, reg }, { mem, mem } }, \
                                    { { reg, reg }, { mem, mem } } } };
/* Forms by vector length and memory operand. */
#define VEC_OP_VL_MEM(name, xreg, xmem, yreg, ymem) \
    const struct op op_##name = { #name, { { { xreg, xreg }, { xmem, xmem } }, { { yreg, yreg }, { ymem, ymem } } } };

#define VEC_FN(fn, call) \
    static void fn(struct cpu *cpu, const struct insn *i) \
    { \
        call; \
    }

/* MMX, register or m64. */
#define VEC_MMX(name) VEC_MMX_M(name, 8)
#define VEC_MMX_M(name, mbytes) \
    VEC_FN(name##_mmx_r, mmx_run(cpu, i, name##_body, mbytes, false)) \
    VEC_FN(name##_mmx_m, mmx_run(cpu, i, name##_body, mbytes, true)) \
    VEC_OP_MEM(name##_mmx, name##_mmx_r, name##_mmx_m)
/* XMM and YMM; the memory operand is as long as the register, or of xm and ym bytes. */
#define VEC_XY(name) VEC_XY_M(name, 16, 32)
#define VEC_XY_M(name, xm, ym) \
    VEC_FN(name##_xr, vec_run(cpu, i, name##_body, 16, xm, false)) \
    VEC_FN(name##_xm, vec_run(cpu, i, name##_body, 16, xm, true)) \
    VEC_FN(name##_yr, vec_run(cpu, i, name##_body, 32, ym, false)) \
    VEC_FN(name##_ym, vec_run(cpu, i, name##_body, 32, ym, true)) \
    VEC_OP_VL_MEM(name, name##_xr, name##_xm, name##_yr, name##_ym)
/* XMM only. */
#define VEC_X(name) VEC_X_M(name, 16)
#define VEC_X_M(name, xm) \
    VEC_FN(name##_xr, vec_run(cpu, i, name##_body, 16, xm, false)) \
    VEC_FN(name##_xm, vec_run(cpu, i, name##_body, 16, xm, true)) \
    VEC_OP_MEM(name, name##_xr, name##_xm)
/* YMM only: v[0] stays empty. */
#define VEC_Y(name) VEC_Y_M(name, 32)
#define VEC_Y_M(name, ym) \
    VEC_FN(name##_yr, vec_run(cpu, i, name##_body, 32, ym, false)) \
    VEC_FN(name##_ym, vec_run(cpu, i, name##_body, 32, ym, true)) \
    VEC_OP_VL_MEM(name, NULL, NULL, name##_yr, name##_ym)
#define VEC_MXY(name) VEC_MMX(name) VEC_XY(name)

/* Parameters of a body. */
#define VEC_BODY_ARGS union vec *d, const union vec *a, const union vec *b, unsigned bytes, unsigned imm
/* A body that computes each lane from the same lanes x of a and y of b. */
#define VEC_LANES(name, lane, expr) \
    VEC_INLINE void name##_body(VEC_BODY_ARGS) \
    { \
        for (unsigned n = 0; n < bytes / sizeof d->lane[0]; n++) { \
            G_GNUC_UNUSED __typeof__(d->lane[0]) x = a->lane[n], y = b->lane[n]; \
            d->lane[n] = (expr); \
        } \
    }

#endif
