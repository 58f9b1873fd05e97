/*
 * Templates for general-purpose instructions. Most are the guest's own instruction with its operands where they are here.
 */
#include "cpu/ops.h"
#include "tcg/x86_64/gen.h"

/* --- The eight classic operations and TEST ------------------------------------------------------------------------------ */

/* Opcodes of the register and memory forms; the byte form is one less. */
static unsigned store_opcode(unsigned alu)
{
    return alu * 8 + 1;
}

static unsigned reads_flags(unsigned alu)
{
    return alu == ALU_ADC || alu == ALU_SBB ? FLAG_CF : 0;
}

static void emit_sized_mem(struct gen *g, unsigned opcode, const struct insn *i, unsigned reg, struct hmem m)
{
    struct enc c = { .opcode = (uint8_t)(i->osize ? opcode : opcode - 1), .prefix = i->osize == 1 ? 0x66 : 0,
                     .w = i->osize == 3, .byte_reg = i->osize == 0, .lock = (i->flags & INSN_LOCK) != 0 };
    emit_mem(&g->e, &c, reg, m);
}

/* `dst op= src`, both guest registers. */
static void alu_regs(struct gen *g, unsigned opcode, unsigned dst, unsigned src, unsigned size, bool writes)
{
    if (!writes) {
        unsigned s = gen_src(g, src, size, H_RCX);
        emit_op_reg(&g->e, opcode, size, s, gen_src(g, dst, size, H_RAX));
        return;
    }
    unsigned s = gen_src_beside(g, src, dst, size, H_RCX);
    unsigned d = gen_dst_any(g, dst, size, H_RAX);
    emit_op_reg(&g->e, opcode, size, s, d);
    gen_dst_any_end(g, dst, size, d);
}

static void gen_alu_store(struct gen *g, const struct insn *i, unsigned alu)
{
    if (i->flags & INSN_MEM) {
        struct hmem m = gen_rm_mem(g, i, alu != ALU_CMP);
        gen_flags_keep(g, FLAGS_ARITH, reads_flags(alu));
        emit_sized_mem(g, store_opcode(alu), i, gen_src(g, i->reg, i->osize, H_RAX), m);
    } else {
        gen_flags_keep(g, FLAGS_ARITH, reads_flags(alu));
        alu_regs(g, store_opcode(alu), i->rm, i->reg, i->osize, alu != ALU_CMP);
    }
    gen_flags_written(g);
}

/* The address of an operand in registers that no destination AH..BH is part of. */
static struct hmem gen_beside_mem(struct gen *g, struct hmem m)
{
    return m.base == H_R9 ? m : gen_mem_r9(g, m);
}

static void gen_alu_load(struct gen *g, const struct insn *i, unsigned alu)
{
    if (i->flags & INSN_MEM) {
        struct hmem m = gen_rm_mem(g, i, false);
        gen_flags_keep(g, FLAGS_ARITH, reads_flags(alu));
        if (alu == ALU_CMP) {
            emit_op_mem(&g->e, alu * 8 + 3, i->osize, gen_src(g, i->reg, i->osize, H_RAX), m);
        } else {
            if (i->osize == 0)
                m = gen_beside_mem(g, m);
            unsigned d = gen_dst_any(g, i->reg, i->osize, H_RAX);
            emit_op_mem(&g->e, alu * 8 + 3, i->osize, d, m);
            gen_dst_any_end(g, i->reg, i->osize, d);
        }
    } else {
        gen_flags_keep(g, FLAGS_ARITH, reads_flags(alu));
        alu_regs(g, store_opcode(alu), i->reg, i->rm, i->osize, alu != ALU_CMP);
    }
    gen_flags_written(g);
}

static void gen_alu_imm(struct gen *g, const struct insn *i, unsigned alu)
{
    int32_t imm = (int32_t)i->imm;
    if (i->flags & INSN_MEM) {
        struct hmem m = gen_rm_mem(g, i, alu != ALU_CMP);
        gen_flags_keep(g, FLAGS_ARITH, reads_flags(alu));
        emit_alu_imm_mem(&g->e, alu, i->osize, m, imm, i->flags & INSN_LOCK);
    } else {
        gen_flags_keep(g, FLAGS_ARITH, reads_flags(alu));
        if (alu == ALU_CMP) {
            emit_alu_imm(&g->e, alu, i->osize, gen_src(g, i->rm, i->osize, H_RAX), imm);
        } else {
            unsigned d = gen_dst_any(g, i->rm, i->osize, H_RAX);
            emit_alu_imm(&g->e, alu, i->osize, d, imm);
            gen_dst_any_end(g, i->rm, i->osize, d);
        }
    }
    gen_flags_written(g);
}

static void gen_test_store(struct gen *g, const struct insn *i, unsigned arg)
{
    if (i->flags & INSN_MEM) {
        struct hmem m = gen_rm_mem(g, i, false);
        emit_op_mem(&g->e, 0x85, i->osize, gen_src(g, i->reg, i->osize, H_RAX), m);
    } else {
        alu_regs(g, 0x85, i->rm, i->reg, i->osize, false);
    }
    gen_flags_written(g);
}

static void gen_test_imm(struct gen *g, const struct insn *i, unsigned arg)
{
    struct enc c = { .opcode = i->osize ? 0xf7 : 0xf6, .prefix = i->osize == 1 ? 0x66 : 0, .w = i->osize == 3,
                     .byte_rm = i->osize == 0, .imm = (int64_t)i->imm,
                     .imm_size = (uint8_t)(i->osize == 0 ? 1 : i->osize == 1 ? 2 : 4) };
    if (i->flags & INSN_MEM)
        emit_mem(&g->e, &c, 0, gen_rm_mem(g, i, false));
    else
        emit_reg(&g->e, &c, 0, gen_src(g, i->rm, i->osize, H_RAX));
    gen_flags_written(g);
}

/* --- One operand: INC DEC NEG NOT ----------------------------------------------------------------------------------------- */

enum { UNARY_INC, UNARY_DEC, UNARY_NEG, UNARY_NOT };

static void gen_unary(struct gen *g, const struct insn *i, unsigned arg)
{
    static const struct { uint8_t opcode, digit; unsigned written; } form[] = {
        [UNARY_INC] = { 0xff, 0, FLAGS_ARITH & ~FLAG_CF },
        [UNARY_DEC] = { 0xff, 1, FLAGS_ARITH & ~FLAG_CF },
        [UNARY_NEG] = { 0xf7, 3, FLAGS_ARITH },
        [UNARY_NOT] = { 0xf7, 2, 0 },
    };
    struct enc c = { .opcode = (uint8_t)(i->osize ? form[arg].opcode : form[arg].opcode - 1),
                     .prefix = i->osize == 1 ? 0x66 : 0, .w = i->osize == 3, .byte_rm = i->osize == 0,
                     .lock = (i->flags & INSN_LOCK) != 0 };
    if (i->flags & INSN_MEM) {
        struct hmem m = gen_rm_mem(g, i, true);
        if (arg != UNARY_NOT)
            gen_flags_keep(g, form[arg].written, 0);
        emit_mem(&g->e, &c, form[arg].digit, m);
    } else {
        if (arg != UNARY_NOT)
            gen_flags_keep(g, form[arg].written, 0);
        unsigned d = gen_dst_any(g, i->rm, i->osize, H_RCX);
        emit_reg(&g->e, &c, form[arg].digit, d);
        gen_dst_any_end(g, i->rm, i->osize, d);
    }
    if (arg != UNARY_NOT)
        gen_flags_written(g);
}

/* --- Moves ------------------------------------------------------------------------------------------------------------------- */

static void mov_regs(struct gen *g, unsigned dst, unsigned src, unsigned size)
{
    if (size >= 2 && gen_host[src] == H_NONE && gen_host[dst] != H_NONE) {
        emit_load(&g->e, size, (unsigned)gen_host[dst], gen_reg_mem(src));
        return;
    }
    if (size == 3 && gen_host[src] != H_NONE && gen_host[dst] == H_NONE) {
        emit_store(&g->e, 3, (unsigned)gen_host[src], gen_reg_mem(dst));
        return;
    }
    unsigned s = gen_src_beside(g, src, dst, size, H_RAX);
    unsigned d = size < 2 ? gen_dst_any(g, dst, size, H_RCX) : gen_dst(g, dst, H_RCX, false);
    emit_op_reg(&g->e, 0x89, size, s, d);
    gen_dst_any_end(g, dst, size, d);
}

static void gen_mov_store(struct gen *g, const struct insn *i, unsigned arg)
{
    if (i->flags & INSN_MEM) {
        struct hmem m = gen_rm_mem(g, i, true);
        emit_store(&g->e, i->osize, gen_src(g, i->reg, i->osize, H_RAX), m);
        return;
    }
    mov_regs(g, i->rm, i->reg, i->osize);
}

static void gen_mov_load(struct gen *g, const struct insn *i, unsigned arg)
{
    if (i->flags & INSN_MEM) {
        struct hmem m = gen_rm_mem(g, i, false);
        if (i->osize == 0) { /* perhaps to AH..BH */
            emit_extend_mem(&g->e, false, 0, 2, H_RAX, m);
            unsigned d = gen_dst_any(g, i->reg, 0, H_RCX);
            emit_op_reg(&g->e, 0x89, 0, H_RAX, d);
            gen_dst_any_end(g, i->reg, 0, d);
            return;
        }
        unsigned d = gen_dst(g, i->reg, H_RAX, i->osize < 2);
        emit_load(&g->e, i->osize, d, m);
        gen_dst_end(g, i->reg, d);
        return;
    }
    mov_regs(g, i->reg, i->rm, i->osize);
}

static void gen_mov_imm(struct gen *g, const struct insn *i, unsigned arg)
{
    struct enc c = { .opcode = i->osize ? 0xc7 : 0xc6, .prefix = i->osize == 1 ? 0x66 : 0, .w = i->osize == 3,
                     .byte_rm = i->osize == 0, .imm = (int64_t)i->imm,
                     .imm_size = (uint8_t)(i->osize == 0 ? 1 : i->osize == 1 ? 2 : 4) };
    if (i->flags & INSN_MEM) {
        emit_mem(&g->e, &c, 0, gen_rm_mem(g, i, true));
        return;
    }
    unsigned d = i->osize < 2 ? gen_dst_any(g, i->rm, i->osize, H_RAX) : gen_dst(g, i->rm, H_RAX, false);
    if (i->osize >= 2)
        emit_mov_imm(&g->e, d, i->osize == 2 ? (uint32_t)i->imm : i->imm);
    else
        emit_reg(&g->e, &c, 0, d);
    gen_dst_any_end(g, i->rm, i->osize, d);
}

enum { EXT_MOVZX8, EXT_MOVZX16, EXT_MOVSX8, EXT_MOVSX16, EXT_MOVSXD };

static void gen_extend(struct gen *g, const struct insn *i, unsigned arg)
{
    bool sign = arg >= EXT_MOVSX8;
    unsigned from = arg == EXT_MOVSXD ? 2 : arg == EXT_MOVZX16 || arg == EXT_MOVSX16 ? 1 : 0;
    if (arg == EXT_MOVSXD && i->osize < 2)
        from = i->osize; /* MOVSXD of 16 bits is a move */
    if (i->flags & INSN_MEM) {
        struct hmem m = gen_mem(g, i, 1u << from, false, 0);
        unsigned d = gen_dst(g, i->reg, H_RAX, i->osize < 2);
        if (from == i->osize)
            emit_load(&g->e, i->osize, d, m);
        else
            emit_extend_mem(&g->e, sign, from, i->osize, d, m);
        gen_dst_end(g, i->reg, d);
        return;
    }
    unsigned s = gen_src(g, i->rm, from, H_RAX);
    unsigned d = gen_dst(g, i->reg, H_RCX, i->osize < 2);
    if (from == i->osize)
        emit_op_reg(&g->e, 0x8b, i->osize, d, s);
    else
        emit_extend_reg(&g->e, sign, from, i->osize, d, s);
    gen_dst_end(g, i->reg, d);
}

/* The address of any operand that LEA of the host can form. */
static void gen_lea(struct gen *g, const struct insn *i, unsigned arg)
{
    struct emit *e = &g->e;
    int base = i->base == R_ZERO ? H_NONE : i->base == R_RIP ? H_RIP : gen_host[i->base];
    int index = i->index == R_ZERO ? H_NONE : gen_host[i->index];
    if (i->base != R_ZERO && base == H_NONE) {
        emit_load(e, 3, H_RAX, gen_reg_mem(i->base));
        base = H_RAX;
    }
    if (i->index != R_ZERO && index == H_NONE) {
        emit_load(e, 3, H_RCX, gen_reg_mem(i->index));
        index = H_RCX;
    }
    unsigned size = MIN(i->osize, i->asize); /* bits above are cut off, or clear */
    unsigned d = gen_dst(g, i->reg, H_R9, i->osize < 2);
    if (base == H_NONE && index == H_NONE) {
        uint64_t v = (uint64_t)i->disp & (i->asize == 3 ? UINT64_MAX : i->asize == 2 ? UINT32_MAX : 0xffff);
        if (i->osize < 2) {
            struct enc c = { .opcode = 0xc7, .prefix = 0x66, .imm = (int64_t)v, .imm_size = 2 };
            emit_reg(e, &c, 0, d);
        } else {
            emit_mov_imm(e, d, i->osize == 2 ? (uint32_t)v : v);
        }
    } else {
        struct hmem m = { .base = (int8_t)base, .index = (int8_t)index, .scale = i->scale, .disp = (int32_t)i->disp };
        if (size == 1 && i->osize > 1) {
            emit_lea(e, 2, d, m);
            emit_extend_reg(e, false, 1, 2, d, d);
        } else {
            emit_lea(e, size, d, m);
        }
    }
    gen_dst_end(g, i->reg, d);
}

static void gen_xchg(struct gen *g, const struct insn *i, unsigned arg)
{
    unsigned a, b;
    if (i->flags & INSN_MEM) {
        struct hmem m = gen_rm_mem(g, i, true);
        a = gen_dst(g, i->reg, H_RAX, true);
        emit_op_mem(&g->e, 0x87, i->osize, a, m);
        gen_dst_end(g, i->reg, a);
        return;
    }
    a = gen_dst(g, i->reg, H_RAX, true);
    b = gen_dst(g, i->rm, H_RCX, true);
    emit_op_reg(&g->e, 0x87, i->osize, a, b);
    gen_dst_end(g, i->reg, a);
    gen_dst_end(g, i->rm, b);
}

static void gen_bswap(struct gen *g, const struct insn *i, unsigned arg)
{
    unsigned d = gen_dst(g, i->rm, H_RAX, true);
    emit8(&g->e, 0x40 | (i->osize == 3 ? 8 : 0) | (d >= 8 ? 1 : 0));
    emit8(&g->e, 0x0f);
    emit8(&g->e, 0xc8 | (d & 7));
    gen_dst_end(g, i->rm, d);
}

/* --- Shifts -------------------------------------------------------------------------------------------------------------------- */

static unsigned shift_mask(const struct insn *i)
{
    return i->osize == 3 ? 63 : 31;
}

static void shift_flags(struct gen *g, unsigned digit, bool by_count)
{
    bool rotate = digit < 4;
    unsigned written = rotate ? FLAG_CF | FLAG_OF : FLAGS_ARITH;
    gen_flags_keep(g, by_count ? 0 : written, digit == 2 || digit == 3 ? FLAG_CF : 0);
}

static struct enc shift_enc(const struct insn *i, unsigned opcode)
{
    return (struct enc){ .opcode = (uint8_t)(i->osize ? opcode : opcode - 1), .prefix = i->osize == 1 ? 0x66 : 0,
                         .w = i->osize == 3, .byte_rm = i->osize == 0 };
}

/* By an immediate, or by 1. */
static void gen_shift_imm(struct gen *g, const struct insn *i, unsigned digit)
{
    bool one = insn_row(i)->operands[1] == OPERAND_ONE;
    unsigned count = one ? 1 : (unsigned)i->imm & shift_mask(i);
    struct enc c = shift_enc(i, 0xc1);
    c.imm = count;
    c.imm_size = 1;
    if (count == 1) {
        c = shift_enc(i, 0xd1);
    }
    if (i->flags & INSN_MEM) {
        struct hmem m = gen_rm_mem(g, i, true);
        shift_flags(g, digit, count == 0);
        emit_mem(&g->e, &c, digit, m);
    } else {
        shift_flags(g, digit, count == 0);
        unsigned d = gen_dst_any(g, i->rm, i->osize, H_RCX);
        emit_reg(&g->e, &c, digit, d);
        gen_dst_any_end(g, i->rm, i->osize, d);
    }
    gen_flags_written(g);
}

static void gen_shift_cl(struct gen *g, const struct insn *i, unsigned digit)
{
    struct enc c = shift_enc(i, 0xd3);
    if (i->flags & INSN_MEM) {
        struct hmem m = gen_mem_r9(g, gen_rm_mem(g, i, true));
        shift_flags(g, digit, true);
        emit_op_reg(&g->e, 0x8b, 2, H_RCX, GUEST_RCX);
        emit_mem(&g->e, &c, digit, m);
    } else {
        shift_flags(g, digit, true);
        emit_op_reg(&g->e, 0x8b, 2, H_RCX, GUEST_RCX);
        unsigned d = gen_dst(g, i->rm, H_R9, true);
        emit_reg(&g->e, &c, digit, d);
        gen_dst_end(g, i->rm, d);
    }
    gen_flags_written(g);
}

/* SHLD (arg 0xa4) and SHRD (0xac), by an immediate or by CL (one more). */
static void gen_shift_double(struct gen *g, const struct insn *i, unsigned arg)
{
    bool by_cl = arg & 1;
    struct enc c = { .opcode = (uint8_t)arg, .map = EMAP_0F, .prefix = i->osize == 1 ? 0x66 : 0, .w = i->osize == 3,
                     .imm = (int64_t)i->imm, .imm_size = by_cl ? 0 : 1 };
    struct hmem m = { 0 };
    if (i->flags & INSN_MEM)
        m = gen_mem_r9(g, gen_rm_mem(g, i, true));
    gen_flags_keep(g, 0, 0);
    unsigned s = gen_src(g, i->reg, i->osize, H_RAX);
    if (by_cl)
        emit_op_reg(&g->e, 0x8b, 2, H_RCX, GUEST_RCX);
    if (i->flags & INSN_MEM) {
        emit_mem(&g->e, &c, s, m);
    } else {
        unsigned d = gen_dst(g, i->rm, H_R9, true);
        emit_reg(&g->e, &c, s, d);
        gen_dst_end(g, i->rm, d);
    }
    gen_flags_written(g);
}

/* --- Multiplication and division ------------------------------------------------------------------------------------------------- */

/* Results in AX or rDX:rAX of the guest. */
static void store_ax_dx(struct gen *g, unsigned size)
{
    emit_op_reg(&g->e, 0x8b, size == 0 ? 1 : size, GUEST_RAX, H_RAX);
}

/* MUL (arg 4) and IMUL (5) of the accumulator. */
static void gen_mul(struct gen *g, const struct insn *i, unsigned arg)
{
    struct enc c = { .opcode = i->osize ? 0xf7 : 0xf6, .prefix = i->osize == 1 ? 0x66 : 0, .w = i->osize == 3,
                     .byte_rm = i->osize == 0 };
    if (i->flags & INSN_MEM) {
        struct hmem m = gen_rm_mem(g, i, false);
        emit_mov(&g->e, H_RAX, GUEST_RAX);
        emit_mem(&g->e, &c, arg, m);
    } else {
        unsigned s = gen_src(g, i->rm, i->osize, H_RCX);
        emit_mov(&g->e, H_RAX, GUEST_RAX);
        emit_reg(&g->e, &c, arg, s);
    }
    store_ax_dx(g, i->osize);
    gen_flags_written(g);
}

static void gen_imul_load(struct gen *g, const struct insn *i, unsigned arg)
{
    struct enc c = { .opcode = 0xaf, .map = EMAP_0F, .prefix = i->osize == 1 ? 0x66 : 0, .w = i->osize == 3 };
    if (i->flags & INSN_MEM) {
        struct hmem m = gen_rm_mem(g, i, false);
        unsigned d = gen_dst(g, i->reg, H_RAX, true);
        emit_mem(&g->e, &c, d, m);
        gen_dst_end(g, i->reg, d);
    } else {
        unsigned s = gen_src(g, i->rm, i->osize, H_RCX);
        unsigned d = gen_dst(g, i->reg, H_RAX, true);
        emit_reg(&g->e, &c, d, s);
        gen_dst_end(g, i->reg, d);
    }
    gen_flags_written(g);
}

static void gen_imul_imm(struct gen *g, const struct insn *i, unsigned arg)
{
    struct enc c = { .opcode = 0x69, .prefix = i->osize == 1 ? 0x66 : 0, .w = i->osize == 3, .imm = (int64_t)i->imm,
                     .imm_size = i->osize == 1 ? 2 : 4 };
    if (i->flags & INSN_MEM) {
        struct hmem m = gen_rm_mem(g, i, false);
        unsigned d = gen_dst(g, i->reg, H_RAX, i->osize < 2);
        emit_mem(&g->e, &c, d, m);
        gen_dst_end(g, i->reg, d);
    } else {
        unsigned s = gen_src(g, i->rm, i->osize, H_RCX);
        unsigned d = gen_dst(g, i->reg, H_RAX, i->osize < 2);
        emit_reg(&g->e, &c, d, s);
        gen_dst_end(g, i->reg, d);
    }
    gen_flags_written(g);
}

/* The divisor in a register that is not RAX, RCX or RDX. */
static unsigned divisor(struct gen *g, const struct insn *i)
{
    if (i->flags & INSN_MEM) {
        emit_load(&g->e, i->osize, H_R9, gen_rm_mem(g, i, false));
        return H_R9;
    }
    if (gen_host[i->rm] != H_NONE)
        return (unsigned)gen_host[i->rm];
    emit_load(&g->e, 3, H_R9, gen_reg_mem(i->rm));
    return H_R9;
}

/* What would raise #DE goes to the handler. */
static void gen_div(struct gen *g, const struct insn *i, unsigned arg)
{
    struct emit *e = &g->e;
    unsigned d = divisor(g, i);
    gen_flags_clobber(g);
    emit_alu_reg(e, ALU_CMP, i->osize, H_RDX, d);
    gen_slow_if(g, CC_NB);
    emit_op_reg(e, 0x8b, i->osize, H_RAX, GUEST_RAX);
    emit_op_reg(e, 0xf7, i->osize, 6, d);
    emit_op_reg(e, 0x8b, i->osize, GUEST_RAX, H_RAX);
}

/* Only dividends that are the sign extension of their lower half, and divisors other than 0 and -1. */
static void gen_idiv(struct gen *g, const struct insn *i, unsigned arg)
{
    struct emit *e = &g->e;
    unsigned d = divisor(g, i);
    gen_flags_clobber(g);
    emit_op_reg(e, 0x8b, i->osize, H_RAX, GUEST_RAX);
    emit_op_reg(e, 0x8b, i->osize, H_RCX, GUEST_RAX);
    emit_shift_imm(e, 7, i->osize, H_RCX, i->osize == 3 ? 63 : 31);
    emit_alu_reg(e, ALU_CMP, i->osize, H_RCX, H_RDX);
    gen_slow_if(g, CC_NZ);
    emit_lea(e, i->osize, H_RCX, hmem_base((int)d, 1));
    emit_alu_imm(e, ALU_CMP, i->osize, H_RCX, 1);
    gen_slow_if(g, CC_BE);
    emit_op_reg(e, 0xf7, i->osize, 7, d);
    emit_op_reg(e, 0x8b, i->osize, GUEST_RAX, H_RAX);
}

/* CBW, CWDE, CDQE */
static void gen_cbw(struct gen *g, const struct insn *i, unsigned arg)
{
    emit_extend_reg(&g->e, true, i->osize - 1u, i->osize, GUEST_RAX, GUEST_RAX);
}

/* CWD, CDQ, CQO */
static void gen_cwd(struct gen *g, const struct insn *i, unsigned arg)
{
    emit_mov(&g->e, H_RAX, GUEST_RAX);
    if (i->osize == 1)
        emit8(&g->e, 0x66);
    if (i->osize == 3)
        emit8(&g->e, 0x48);
    emit8(&g->e, 0x99);
}

/* --- Conditions --------------------------------------------------------------------------------------------------------------------- */

static void gen_setcc(struct gen *g, const struct insn *i, unsigned cc)
{
    struct enc c = { .opcode = (uint8_t)(0x90 | cc), .map = EMAP_0F, .byte_rm = true };
    if (i->flags & INSN_MEM) {
        struct hmem m = gen_mem(g, i, 1, true, 0);
        gen_flags_load(g);
        emit_mem(&g->e, &c, 0, m);
        return;
    }
    gen_flags_load(g);
    unsigned d = gen_dst_any(g, i->rm, 0, H_RAX);
    emit_reg(&g->e, &c, 0, d);
    gen_dst_any_end(g, i->rm, 0, d);
}

static void gen_cmovcc(struct gen *g, const struct insn *i, unsigned cc)
{
    struct enc c = { .opcode = (uint8_t)(0x40 | cc), .map = EMAP_0F, .prefix = i->osize == 1 ? 0x66 : 0,
                     .w = i->osize == 3 };
    if (i->flags & INSN_MEM) {
        struct hmem m = gen_rm_mem(g, i, false);
        gen_flags_load(g);
        unsigned d = gen_dst(g, i->reg, H_RAX, true);
        emit_mem(&g->e, &c, d, m);
        gen_dst_end(g, i->reg, d);
        return;
    }
    gen_flags_load(g);
    unsigned s = gen_src(g, i->rm, i->osize, H_RCX);
    unsigned d = gen_dst(g, i->reg, H_RAX, true);
    emit_reg(&g->e, &c, d, s);
    gen_dst_end(g, i->reg, d);
}

/* --- Exchange with memory ----------------------------------------------------------------------------------------------------------------- */

static void gen_xadd(struct gen *g, const struct insn *i, unsigned arg)
{
    struct enc c = { .opcode = i->osize ? 0xc1 : 0xc0, .map = EMAP_0F, .prefix = i->osize == 1 ? 0x66 : 0,
                     .w = i->osize == 3, .byte_reg = i->osize == 0, .lock = (i->flags & INSN_LOCK) != 0 };
    struct hmem m = gen_rm_mem(g, i, true);
    unsigned d = gen_dst(g, i->reg, H_RAX, true);
    emit_mem(&g->e, &c, d, m);
    gen_dst_end(g, i->reg, d);
    gen_flags_written(g);
}

static void gen_cmpxchg(struct gen *g, const struct insn *i, unsigned arg)
{
    struct enc c = { .opcode = i->osize ? 0xb1 : 0xb0, .map = EMAP_0F, .prefix = i->osize == 1 ? 0x66 : 0,
                     .w = i->osize == 3, .byte_reg = i->osize == 0, .lock = (i->flags & INSN_LOCK) != 0 };
    struct hmem m = gen_mem_r9(g, gen_rm_mem(g, i, true));
    unsigned s = gen_src(g, i->reg, i->osize, H_RCX);
    emit_mov(&g->e, H_RAX, GUEST_RAX);
    emit_mem(&g->e, &c, s, m);
    /* When equal, RAX is what it was; a 32-bit form that is not clears the upper half, as the host's has done. */
    emit_mov(&g->e, GUEST_RAX, H_RAX);
    gen_flags_written(g);
}

/* --- Flags and others ----------------------------------------------------------------------------------------------------------------------- */

/* CLC, STC, CMC: the instruction itself, arg its opcode. */
static void gen_carry(struct gen *g, const struct insn *i, unsigned opcode)
{
    gen_flags_load(g);
    emit8(&g->e, opcode);
    gen_flags_written(g);
}

/* Behind FNSTSW AX the way from an x87 comparison to a jump. OF stays. */
static void gen_sahf(struct gen *g, const struct insn *i, unsigned arg)
{
    gen_flags_keep(g, insn_row(i)->flags_written, 0);
    emit_op_reg(&g->e, 0x8b, 2, H_RAX, GUEST_RAX);
    emit8(&g->e, 0x9e);
    gen_flags_written(g);
}

static void gen_lahf(struct gen *g, const struct insn *i, unsigned arg)
{
    struct hmem at = gen_reg_mem(R_RAX), high = at;
    struct enc mov_ah = { .opcode = 0x88 };
    gen_flags_load(g);
    emit_store(&g->e, 3, GUEST_RAX, at);
    emit8(&g->e, 0x9f);
    high.disp++;
    emit_mem(&g->e, &mov_ah, 4, high);
    emit_load(&g->e, 3, GUEST_RAX, at);
}

/* Fences (0F AE, arg) and PAUSE. */
static void gen_fence(struct gen *g, const struct insn *i, unsigned modrm)
{
    emit8(&g->e, 0x0f);
    emit8(&g->e, 0xae);
    emit8(&g->e, modrm);
}

/* CLD, STD: RFLAGS.DF in memory; the host's stays clear. */
static void gen_direction(struct gen *g, const struct insn *i, unsigned set)
{
    gen_flags_clobber(g);
    emit_alu_imm_mem(&g->e, set ? ALU_OR : ALU_AND, 2, STATE(rflags), set ? (int32_t)FLAG_DF : ~(int32_t)FLAG_DF, false);
}

/* --- The table ---------------------------------------------------------------------------------------------------------------------------------- */

#define HIGH_DST (GEN_NO_HIGH_DST | GEN_HIGH_BY_ROTATION)
#define ALU(name, n) \
    { &op_##name##_store, gen_alu_store, n, HIGH_DST }, { &op_##name##_load, gen_alu_load, n, HIGH_DST }, \
    { &op_##name##_imm, gen_alu_imm, n, HIGH_DST }
#define SHIFT(name, digit) \
    { &op_##name##_imm, gen_shift_imm, digit, HIGH_DST }, { &op_##name##_1, gen_shift_imm, digit, HIGH_DST }, \
    { &op_##name##_cl, gen_shift_cl, digit, GEN_NO_HIGH_DST }
#define COND(cc, code) \
    { &op_set##cc, gen_setcc, code, HIGH_DST }, { &op_cmov##cc, gen_cmovcc, code, 0 }

static const struct gen_entry table[] = {
    ALU(add, ALU_ADD), ALU(or, ALU_OR), ALU(adc, ALU_ADC), ALU(sbb, ALU_SBB), ALU(and, ALU_AND), ALU(sub, ALU_SUB),
    ALU(xor, ALU_XOR),
    { &op_cmp_store, gen_alu_store, ALU_CMP, 0 },
    { &op_cmp_load, gen_alu_load, ALU_CMP, 0 },
    { &op_cmp_imm, gen_alu_imm, ALU_CMP, 0 },
    { &op_test_store, gen_test_store, 0, 0 },
    { &op_test_imm, gen_test_imm, 0, 0 },
    { &op_inc, gen_unary, UNARY_INC, HIGH_DST },
    { &op_dec, gen_unary, UNARY_DEC, HIGH_DST },
    { &op_neg, gen_unary, UNARY_NEG, HIGH_DST },
    { &op_not, gen_unary, UNARY_NOT, HIGH_DST },
    { &op_mov_store, gen_mov_store, 0, HIGH_DST },
    { &op_mov_load, gen_mov_load, 0, HIGH_DST },
    { &op_mov_imm, gen_mov_imm, 0, HIGH_DST },
    { &op_mov_reg_imm, gen_mov_imm, 0, HIGH_DST },
    { &op_movzx8, gen_extend, EXT_MOVZX8, 0 },
    { &op_movzx16, gen_extend, EXT_MOVZX16, 0 },
    { &op_movsx8, gen_extend, EXT_MOVSX8, 0 },
    { &op_movsx16, gen_extend, EXT_MOVSX16, 0 },
    { &op_movsxd, gen_extend, EXT_MOVSXD, 0 },
    { &op_lea, gen_lea, 0, 0 },
    { &op_xchg, gen_xchg, 0, GEN_NO_HIGH_DST },
    { &op_xchg_acc, gen_xchg, 0, 0 },
    { &op_bswap, gen_bswap, 0, GEN_64 },
    SHIFT(rol, 0), SHIFT(ror, 1), SHIFT(rcl, 2), SHIFT(rcr, 3), SHIFT(shl, 4), SHIFT(shr, 5), SHIFT(sar, 7),
    { &op_shld_imm, gen_shift_double, 0xa4, 0 },
    { &op_shld_cl, gen_shift_double, 0xa5, 0 },
    { &op_shrd_imm, gen_shift_double, 0xac, 0 },
    { &op_shrd_cl, gen_shift_double, 0xad, 0 },
    { &op_mul, gen_mul, 4, 0 },
    { &op_imul, gen_mul, 5, 0 },
    { &op_imul_load, gen_imul_load, 0, 0 },
    { &op_imul_imm, gen_imul_imm, 0, 0 },
    { &op_div, gen_div, 0, GEN_64 },
    { &op_idiv, gen_idiv, 0, GEN_64 },
    { &op_cbw, gen_cbw, 0, 0 },
    { &op_cwd, gen_cwd, 0, 0 },
    COND(o, 0), COND(no, 1), COND(b, 2), COND(nb, 3), COND(z, 4), COND(nz, 5), COND(be, 6), COND(nbe, 7),
    COND(s, 8), COND(ns, 9), COND(p, 10), COND(np, 11), COND(l, 12), COND(nl, 13), COND(le, 14), COND(nle, 15),
    { &op_xadd, gen_xadd, 0, GEN_MEM | GEN_NO_HIGH_DST },
    { &op_cmpxchg, gen_cmpxchg, 0, GEN_MEM },
    { &op_clc, gen_carry, 0xf8, 0 },
    { &op_stc, gen_carry, 0xf9, 0 },
    { &op_cmc, gen_carry, 0xf5, 0 },
    { &op_sahf, gen_sahf, 0, 0 },
    { &op_lahf, gen_lahf, 0, 0 },
    { &op_nop, gen_nothing, 0, 0 },
    { &op_prefetch, gen_nothing, 0, 0 },
    { &op_lfence, gen_fence, 0xe8, 0 },
    { &op_mfence, gen_fence, 0xf0, 0 },
    { &op_sfence, gen_fence, 0xf8, 0 },
    { &op_cld, gen_direction, 0, 0 },
    { &op_std, gen_direction, 1, 0 },
};

void gen_templates_integer(struct gen_template *t)
{
    gen_templates_add(t, table, G_N_ELEMENTS(table), GEN_PLAIN);
}
