/*
 * x86-64 machine code, encoded: nothing here knows about guests. Intel SDM volume 2, chapter 2.
 *
 * An instruction is a struct enc (its fixed part) plus operands; the writer advances and never checks for room, and may write a few
 * bytes more than it advances: whoever starts a piece of code makes sure of a margin (cache.c). Code is written through the writable view; `skew` leads from there to where
 * it will run.
 */
#ifndef TCG_X86_64_EMIT_H
#define TCG_X86_64_EMIT_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Host registers in encoding order. */
enum host_reg {
    H_RAX, H_RCX, H_RDX, H_RBX, H_RSP, H_RBP, H_RSI, H_RDI,
    H_R8, H_R9, H_R10, H_R11, H_R12, H_R13, H_R14, H_R15,
    H_NONE = -1,
};

struct emit {
    uint8_t *at;
    ptrdiff_t skew; /* executable address minus writable address */
};

/* [base + index << scale + disp], or gs:[disp] and gs:[index + disp] with `gs` and no base. */
struct hmem {
    int8_t base, index; /* enum host_reg; H_RSP is no index */
    uint8_t scale;      /* shift */
    bool gs;
    int32_t disp;
};

enum emit_map { EMAP_1B, EMAP_0F, EMAP_0F38, EMAP_0F3A };

/* The fixed part of an instruction. */
struct enc {
    uint8_t opcode;
    uint8_t map;       /* enum emit_map */
    uint8_t prefix;    /* mandatory or operand size prefix: 0, 0x66, 0xf3, 0xf2 */
    uint8_t imm_size;  /* bytes */
    bool opsize;       /* 66 beside a mandatory F2 or F3 */
    bool w;            /* REX.W or VEX.W */
    bool byte_reg, byte_rm; /* 8-bit register operands: SPL..DIL need a REX */
    bool lock;
    bool vex, l;       /* VEX encoding, 256 bit */
    uint8_t vvvv;      /* VEX only */
    int64_t imm;
};

static inline void emit8(struct emit *e, unsigned v)
{
    *e->at++ = (uint8_t)v;
}
static inline void emit32(struct emit *e, uint32_t v)
{
    memcpy(e->at, &v, 4);
    e->at += 4;
}
static inline void emit_imm(struct emit *e, int64_t v, unsigned size)
{
    memcpy(e->at, &v, sizeof v); /* what is too much will be written over */
    e->at += size;
}
/* Where the next byte will run. */
static inline const uint8_t *emit_here(const struct emit *e)
{
    return e->at + e->skew;
}

static inline struct hmem hmem_base(int base, int32_t disp)
{
    return (struct hmem){ .base = (int8_t)base, .index = H_NONE, .disp = disp };
}
static inline struct hmem hmem_index(int base, int index, unsigned scale, int32_t disp)
{
    return (struct hmem){ .base = (int8_t)base, .index = (int8_t)index, .scale = (uint8_t)scale, .disp = disp };
}

/* `reg`: ModRM.reg, a register or the /digit. */
void emit_reg(struct emit *e, const struct enc *c, unsigned reg, unsigned rm);
void emit_mem(struct emit *e, const struct enc *c, unsigned reg, struct hmem m);

/* Integer instructions by operand size (log2 of bytes). `opcode` is the one of the 16 to 64-bit form, one more than the byte's. */
void emit_op_reg(struct emit *e, unsigned opcode, unsigned size, unsigned reg, unsigned rm);
void emit_op_mem(struct emit *e, unsigned opcode, unsigned size, unsigned reg, struct hmem m);

enum emit_alu { ALU_ADD, ALU_OR, ALU_ADC, ALU_SBB, ALU_AND, ALU_SUB, ALU_XOR, ALU_CMP };
void emit_alu_imm(struct emit *e, enum emit_alu alu, unsigned size, unsigned rm, int32_t imm);
void emit_alu_imm_mem(struct emit *e, enum emit_alu alu, unsigned size, struct hmem m, int32_t imm, bool lock);
static inline void emit_alu_reg(struct emit *e, enum emit_alu alu, unsigned size, unsigned dst, unsigned src)
{
    emit_op_reg(e, alu * 8 + 3, size, dst, src);
}

static inline void emit_mov(struct emit *e, unsigned dst, unsigned src)
{
    emit_op_reg(e, 0x8b, 3, dst, src);
}
static inline void emit_load(struct emit *e, unsigned size, unsigned dst, struct hmem m)
{
    emit_op_mem(e, 0x8b, size, dst, m);
}
static inline void emit_store(struct emit *e, unsigned size, unsigned src, struct hmem m)
{
    emit_op_mem(e, 0x89, size, src, m);
}
void emit_lea(struct emit *e, unsigned size, unsigned dst, struct hmem m);
/* Length of a 64-bit one from a register and displacement. */
static inline unsigned emit_lea_bytes(struct hmem m)
{
    return 3u + (m.disp == 0 ? 0u : m.disp == (int8_t)m.disp ? 1u : 4u) + ((m.base & 7) == 4) + (m.disp == 0 && (m.base & 7) == 5);
}
/* Zero-extending load or move from 8 or 16 bits; sign-extending likewise. */
void emit_extend_reg(struct emit *e, bool sign, unsigned from, unsigned to, unsigned dst, unsigned src);
void emit_extend_mem(struct emit *e, bool sign, unsigned from, unsigned to, unsigned dst, struct hmem m);
/* Shortest form; flags are kept. */
void emit_mov_imm(struct emit *e, unsigned dst, uint64_t imm);
void emit_store_imm32(struct emit *e, struct hmem m, int32_t imm);
void emit_shift_imm(struct emit *e, unsigned digit, unsigned size, unsigned rm, unsigned count);

/* --- Jumps. Targets are executable addresses within 2 GiB --- */

enum emit_cond {
    CC_O, CC_NO, CC_B, CC_NB, CC_Z, CC_NZ, CC_BE, CC_NBE, CC_S, CC_NS, CC_P, CC_NP, CC_L, CC_NL, CC_LE, CC_NLE
};
/* A forward jump to be bound later: address of its displacement in the writable view. */
struct fixup {
    uint8_t *at;
};
struct fixup emit_jcc(struct emit *e, enum emit_cond cc);
struct fixup emit_jmp(struct emit *e);
struct fixup emit_call(struct emit *e);
struct fixup emit_jcc8(struct emit *e, unsigned opcode); /* short: 0x70 + cc, 0xe3 JRCXZ, 0xeb JMP */
void emit_bind(struct emit *e, struct fixup f);  /* to here */
void emit_bind8(struct emit *e, struct fixup f);
void emit_bind_to(struct emit *e, struct fixup f, const uint8_t *target);
void emit_jmp_to(struct emit *e, const uint8_t *target);
void emit_call_to(struct emit *e, const uint8_t *target);
/* So that the displacement of a jump here, behind its opcode, lies within 8 aligned bytes: it is patched while others run it. */
void emit_align_jump(struct emit *e, unsigned opcode_bytes);
void emit_align(struct emit *e, unsigned bytes);
void emit_nop(struct emit *e, unsigned bytes);

static inline void emit_push(struct emit *e, unsigned reg)
{
    if (reg >= 8)
        emit8(e, 0x41);
    emit8(e, 0x50 | (reg & 7));
}
static inline void emit_pop(struct emit *e, unsigned reg)
{
    if (reg >= 8)
        emit8(e, 0x41);
    emit8(e, 0x58 | (reg & 7));
}
static inline void emit_ret(struct emit *e)
{
    emit8(e, 0xc3);
}

#endif
