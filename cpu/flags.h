/*
 * Arithmetic flags, computed eagerly: inline, without branches, in portable C.
 *
 * Operands and results are zero-extended to 64 bits; `size` is log2 of their bytes and a constant where it is called,
 * so that shifts and masks fold. All functions return RFLAGS bits. Where the manual leaves a flag undefined, the
 * value is the one that current Intel processors produce.
 */
#ifndef CPU_FLAGS_H
#define CPU_FLAGS_H

#include "cpu/state.h"

#include <glib.h>

#include <stdbool.h>
#include <stdint.h>

#define FLAGS_DEFINED UINT64_C(0x3f7fd7) /* every bit of RFLAGS that is not reserved, and bit 1 */

static G_ALWAYS_INLINE inline unsigned size_bits(unsigned size)
{
    return 8u << size;
}

static G_ALWAYS_INLINE inline uint64_t size_mask(unsigned size)
{
    return UINT64_MAX >> (64 - size_bits(size));
}

static G_ALWAYS_INLINE inline uint64_t sign_extend(uint64_t v, unsigned size)
{
    unsigned shift = 64 - size_bits(size);
    return (uint64_t)((int64_t)(v << shift) >> shift);
}

/* The top bit of an operand, as 0 or 1. */
static G_ALWAYS_INLINE inline unsigned sign_bit(uint64_t v, unsigned size)
{
    return v >> (size_bits(size) - 1) & 1;
}

static G_ALWAYS_INLINE inline uint32_t flag_p(uint64_t r)
{
    return (uint32_t)!__builtin_parity((uint8_t)r) * FLAG_PF;
}

static G_ALWAYS_INLINE inline uint32_t flag_z(uint64_t r)
{
    return (uint32_t)(r == 0) * FLAG_ZF;
}

/* The top bit of an operand, moved to bit 7 (SF) or 11 (OF): one shift. */
static G_ALWAYS_INLINE inline uint32_t flag_s(uint64_t r, unsigned size)
{
    return r >> (size_bits(size) - 8) & FLAG_SF;
}

static G_ALWAYS_INLINE inline uint32_t flag_o(uint64_t v, unsigned size)
{
    return (size == 0 ? v << 4 : v >> (size_bits(size) - 12)) & FLAG_OF;
}

static G_ALWAYS_INLINE inline uint32_t flags_szp(uint64_t r, unsigned size)
{
    return flag_s(r, size) | flag_z(r) | flag_p(r);
}

/* After AND, OR, XOR, TEST. */
static G_ALWAYS_INLINE inline uint32_t flags_logic(uint64_t r, unsigned size)
{
    return flags_szp(r, size);
}

/* AF, ZF, SF, PF, OF of r = a + b (+ carry). */
static G_ALWAYS_INLINE inline uint32_t flags_add_no_carry(uint64_t a, uint64_t b, uint64_t r, unsigned size)
{
    return flags_szp(r, size) | ((a ^ b ^ r) & FLAG_AF) | flag_o((a ^ r) & (b ^ r), size);
}

/* AF, ZF, SF, PF, OF of r = a - b (- borrow). */
static G_ALWAYS_INLINE inline uint32_t flags_sub_no_carry(uint64_t a, uint64_t b, uint64_t r, unsigned size)
{
    return flags_szp(r, size) | ((a ^ b ^ r) & FLAG_AF) | flag_o((a ^ b) & (a ^ r), size);
}

static G_ALWAYS_INLINE inline uint32_t flags_add(uint64_t a, uint64_t b, uint64_t r, unsigned size)
{
    return flags_add_no_carry(a, b, r, size) | (r < a) * FLAG_CF;
}

static G_ALWAYS_INLINE inline uint32_t flags_sub(uint64_t a, uint64_t b, uint64_t r, unsigned size)
{
    return flags_sub_no_carry(a, b, r, size) | (a < b) * FLAG_CF;
}

/* With a carry in, r < a is not enough: the carry out of the top bit follows from its three bits. */
static G_ALWAYS_INLINE inline uint32_t flags_adc(uint64_t a, uint64_t b, uint64_t r, unsigned size)
{
    return flags_add_no_carry(a, b, r, size) | sign_bit((a & b) | ((a | b) & ~r), size) * FLAG_CF;
}

static G_ALWAYS_INLINE inline uint32_t flags_sbb(uint64_t a, uint64_t b, uint64_t r, unsigned size)
{
    return flags_sub_no_carry(a, b, r, size) | sign_bit((~a & b) | ((~a | b) & r), size) * FLAG_CF;
}

/* Condition codes as Jcc, SETcc and CMOVcc encode them; bit 0 negates. */
enum cond { COND_O = 0, COND_B = 2, COND_Z = 4, COND_BE = 6, COND_S = 8, COND_P = 10, COND_L = 12, COND_LE = 14 };

static G_ALWAYS_INLINE inline bool flags_cond(uint64_t f, unsigned code)
{
    bool less = (f >> 7 ^ f >> 11) & 1;
    bool r = false;

    switch (code & ~1u) {
    case COND_O: r = f & FLAG_OF; break;
    case COND_B: r = f & FLAG_CF; break;
    case COND_Z: r = f & FLAG_ZF; break;
    case COND_BE: r = f & (FLAG_CF | FLAG_ZF); break;
    case COND_S: r = f & FLAG_SF; break;
    case COND_P: r = f & FLAG_PF; break;
    case COND_L: r = less; break;
    case COND_LE: r = less || f & FLAG_ZF; break;
    }
    return r ^ (code & 1);
}

/* Every condition with its code: op_jo, op_setnle ... */
#define FOR_EACH_COND(X) \
    X(o, 0) X(no, 1) X(b, 2) X(nb, 3) X(z, 4) X(nz, 5) X(be, 6) X(nbe, 7) \
    X(s, 8) X(ns, 9) X(p, 10) X(np, 11) X(l, 12) X(nl, 13) X(le, 14) X(nle, 15)

static G_ALWAYS_INLINE inline void flags_set(struct cpu *cpu, uint32_t f, uint32_t mask)
{
    cpu->rflags = (cpu->rflags & ~(uint64_t)mask) | f;
}

static G_ALWAYS_INLINE inline void flags_set_arith(struct cpu *cpu, uint32_t f)
{
    flags_set(cpu, f, FLAGS_ARITH);
}

#endif
