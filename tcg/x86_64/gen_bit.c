/*
 * Templates for bits: BT, BTS, BTR, BTC, also in bit strings, BSF, BSR, TZCNT, LZCNT, POPCNT; and CMPXCHG8B and CMPXCHG16B.
 *
 * A bit string in memory reaches any unit around its address, so that these are never checked together with others
 * (gen_stack.c). The host's own instruction sees the bit within its unit only.
 */
#include "cpu/ops.h"
#include "tcg/x86_64/gen.h"

/* --- Bit tests -------------------------------------------------------------------------------------------------------------- */

/* BT, BTS, BTR, BTC by an immediate: arg is the /digit. */
static void gen_bt_imm(struct gen *g, const struct insn *i, unsigned digit)
{
    struct enc c = { .opcode = 0xba, .map = EMAP_0F, .prefix = i->osize == 1 ? 0x66 : 0, .w = i->osize == 3,
                     .imm = (int64_t)i->imm, .imm_size = 1, .lock = (i->flags & INSN_LOCK) != 0 };
    if (i->flags & INSN_MEM) {
        struct hmem m = gen_rm_mem(g, i, digit != 4);
        gen_flags_keep(g, FLAG_CF, 0);
        emit_mem(&g->e, &c, digit, m);
    } else {
        gen_flags_keep(g, FLAG_CF, 0);
        unsigned d = gen_dst(g, i->rm, H_RCX, true);
        emit_reg(&g->e, &c, digit, d);
        gen_dst_end(g, i->rm, d);
    }
    gen_flags_written(g);
}

/* The unit of the bit string that the offset in a register names: R9 alone; RAX and RCX are free. */
static struct hmem bit_unit(struct gen *g, const struct insn *i, bool write)
{
    struct emit *e = &g->e;
    gen_flags_clobber(g);
    gen_address(g, i);
    unsigned offset = gen_src(g, i->reg, i->osize, H_RAX);
    if (i->osize == 3)
        emit_mov(e, H_RAX, offset);
    else
        emit_extend_reg(e, true, i->osize, 3, H_RAX, offset);
    emit_shift_imm(e, 7, 3, H_RAX, 3u + i->osize);
    emit_lea(e, i->asize == 3 ? 3 : 2, H_R9, hmem_index(H_R9, H_RAX, i->osize, 0));
    if (i->asize == 1)
        emit_extend_reg(e, false, 1, 2, H_R9, H_R9);
    return gen_mem_r9(g, gen_mem_at_r9(g, i, 1u << i->osize, write, 0));
}

/* `digit`: as in the form with an immediate. */
static void bit_string(struct gen *g, const struct insn *i, unsigned digit)
{
    struct emit *e = &g->e;
    struct enc c = { .opcode = (uint8_t)(0x83 + digit * 8), .map = EMAP_0F, .prefix = i->osize == 1 ? 0x66 : 0,
                     .w = i->osize == 3, .lock = (i->flags & INSN_LOCK) != 0 };
    struct hmem m = bit_unit(g, i, digit != 4);
    emit_op_reg(e, 0x8b, 2, H_RCX, gen_src(g, i->reg, i->osize, H_RCX));
    emit_alu_imm(e, ALU_AND, 2, H_RCX, (8 << i->osize) - 1);
    gen_flags_keep(g, FLAG_CF, 0);
    if (c.lock) {
        emit_mem(e, &c, H_RCX, m);
    } else {
        emit_load(e, i->osize, H_RAX, m);
        emit_reg(e, &c, H_RCX, H_RAX);
        if (digit != 4)
            emit_store(e, i->osize, H_RAX, m);
    }
    gen_flags_written(g);
}

static void gen_bt_reg(struct gen *g, const struct insn *i, unsigned digit)
{
    if (i->flags & INSN_MEM) {
        bit_string(g, i, digit);
        return;
    }
    struct enc c = { .opcode = (uint8_t)(0x83 + digit * 8), .map = EMAP_0F, .prefix = i->osize == 1 ? 0x66 : 0,
                     .w = i->osize == 3 };
    gen_flags_keep(g, FLAG_CF, 0);
    unsigned s = gen_src(g, i->reg, i->osize, H_RAX);
    unsigned d = gen_dst(g, i->rm, H_RCX, true);
    emit_reg(&g->e, &c, s, d);
    gen_dst_end(g, i->rm, d);
    gen_flags_written(g);
}

/* --- Scans and counts ------------------------------------------------------------------------------------------------------- */

/* BSF, BSR, TZCNT, LZCNT, POPCNT. */
static void gen_scan(struct gen *g, const struct insn *i, unsigned opcode)
{
    bool f3 = insn_row(i)->prefix == PFX_F3;
    struct enc c = { .opcode = (uint8_t)opcode, .map = EMAP_0F, .prefix = f3 ? 0xf3 : i->osize == 1 ? 0x66 : 0,
                     .opsize = f3 && i->osize == 1, .w = i->osize == 3 };
    struct hmem m = { 0 };
    unsigned s = 0;
    if (i->flags & INSN_MEM)
        m = gen_rm_mem(g, i, false);
    else
        s = gen_src(g, i->rm, i->osize, H_RCX);
    unsigned d = gen_dst(g, i->reg, H_RAX, true);
    if (i->flags & INSN_MEM)
        emit_mem(&g->e, &c, d, m);
    else
        emit_reg(&g->e, &c, d, s);
    gen_dst_end(g, i->reg, d);
    gen_flags_written(g);
}

/* --- CMPXCHG8B and CMPXCHG16B ----------------------------------------------------------------------------------------------- */

_Static_assert(GUEST_RAX != H_RAX && GUEST_RCX != H_RCX, "RDX and RBX are where the host's instruction wants them");

static void gen_cmpxchg_pair(struct gen *g, const struct insn *i, unsigned wide)
{
    struct emit *e = &g->e;
    struct enc c = { .opcode = 0xc7, .map = EMAP_0F, .w = wide, .lock = (i->flags & INSN_LOCK) != 0 };
    struct hmem m = gen_mem_r9(g, gen_mem(g, i, wide ? 16 : 8, true, wide ? 16 : 0));
    gen_flags_keep(g, FLAG_ZF, 0);
    emit_mov(e, H_RAX, GUEST_RAX);
    emit_mov(e, H_RCX, GUEST_RCX);
    emit_mem(e, &c, 1, m);
    emit_mov(e, GUEST_RAX, H_RAX); /* when equal it is what it was */
    gen_flags_written(g);
}

/* --- The tables -------------------------------------------------------------------------------------------------------------- */

#define BT_IMM(name, digit) { &op_##name##_imm, gen_bt_imm, digit, 0 }
#define BT_REG(name, digit) { &op_##name##_reg, gen_bt_reg, digit, 0 }

static const struct gen_entry plain[] = {
    BT_IMM(bt, 4), BT_IMM(bts, 5), BT_IMM(btr, 6), BT_IMM(btc, 7),
    { &op_bsf, gen_scan, 0xbc, 0 },
    { &op_bsr, gen_scan, 0xbd, 0 },
    { &op_tzcnt, gen_scan, 0xbc, 0 },
    { &op_lzcnt, gen_scan, 0xbd, 0 },
    { &op_popcnt, gen_scan, 0xb8, 0 },
};

static const struct gen_entry table[] = {
    BT_REG(bt, 4), BT_REG(bts, 5), BT_REG(btr, 6), BT_REG(btc, 7),
    { &op_cmpxchg8b, gen_cmpxchg_pair, 0, GEN_MEM },
    { &op_cmpxchg16b, gen_cmpxchg_pair, 1, GEN_MEM },
};

void gen_templates_bit(struct gen_template *t)
{
    gen_templates_add(t, plain, G_N_ELEMENTS(plain), GEN_PLAIN);
    gen_templates_add(t, table, G_N_ELEMENTS(table), 0);
}
