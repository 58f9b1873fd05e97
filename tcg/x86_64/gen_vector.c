/*
 * Templates for MMX, SSE, AVX and BMI: the guest's own instruction with its registers and its memory operand where they are here.
 *
 * The operand codes of the table say what goes where, so that one function serves all rows but those with operands that are
 * implied, masked or gathered. Arithmetic runs under the guest's MXCSR with all exceptions masked: while any is unmasked, the
 * interpreter's handlers do it (KEY_XM).
 */
#include "cpu/ops.h"
#include "tcg/x86_64/gen.h"

/* --- Operands by their codes ----------------------------------------------------------------------------------------------- */

/* Bytes of a memory operand. */
static unsigned operand_bytes(const struct insn *i, unsigned code)
{
    unsigned x = 16u << i->vl;
    switch (operand_info[code].type) {
    case TYPE_b: case TYPE_db: return 1;
    case TYPE_w: case TYPE_dw: return 2;
    case TYPE_d: case TYPE_ss: return 4;
    case TYPE_q: case TYPE_sd: return 8;
    case TYPE_dq: return 16;
    case TYPE_qq: return 32;
    case TYPE_x: case TYPE_ps: case TYPE_pd: return x;
    case TYPE_xh: return x / 2;
    case TYPE_xq: return x / 4;
    case TYPE_xe: return x / 8;
    case TYPE_y: return i->osize == 3 ? 8 : 4;
    default: return 0;
    }
}

enum field { FIELD_NONE, FIELD_REG, FIELD_RM, FIELD_VVVV, FIELD_IMM, FIELD_IS4 };

/* `loaded`: LOADED_* that such a register belongs to, or 0: a general one. */
static enum field operand_field(unsigned code, unsigned *loaded)
{
    *loaded = 0;
    switch (operand_info[code].method) {
    case METHOD_V: *loaded = LOADED_VECTORS; return FIELD_REG;
    case METHOD_P: *loaded = LOADED_X87; return FIELD_REG;
    case METHOD_G: return FIELD_REG;
    case METHOD_W: case METHOD_U: *loaded = LOADED_VECTORS; return FIELD_RM;
    case METHOD_Q: case METHOD_N: *loaded = LOADED_X87; return FIELD_RM;
    case METHOD_E: case METHOD_R: case METHOD_M: return FIELD_RM;
    case METHOD_H: *loaded = LOADED_VECTORS; return FIELD_VVVV;
    case METHOD_B: return FIELD_VVVV;
    case METHOD_L: *loaded = LOADED_VECTORS; return FIELD_IS4;
    case METHOD_I: return FIELD_IMM;
    default: return FIELD_NONE;
    }
}

/* What the operands of an instruction are, gathered from its row. */
struct shape {
    bool vector[4];      /* by enum field: REG, RM, VVVV; MMX, too */
    bool used[6];
    bool written[4];
    unsigned loaded;     /* LOADED_* that it needs */
    unsigned rm_code;
};

static void read_shape(const struct insn_row *row, struct shape *s)
{
    *s = (struct shape){ 0 };
    for (unsigned k = 0; k < 4; k++) {
        unsigned loaded;
        enum field f = operand_field(row->operands[k], &loaded);
        s->used[f] = true;
        s->loaded |= loaded;
        if (f == FIELD_NONE || f > FIELD_VVVV)
            continue;
        s->vector[f] = loaded;
        s->written[f] = k == 0 || (k == 1 && row->op == &op_mulx);
        if (f == FIELD_RM)
            s->rm_code = row->operands[k];
    }
}

static struct enc row_enc(const struct gen *g, const struct insn *i, const struct shape *s)
{
    static const uint8_t maps[MAP_COUNT] = {
        [MAP_1B] = EMAP_1B, [MAP_0F] = EMAP_0F, [MAP_0F38] = EMAP_0F38, [MAP_0F3A] = EMAP_0F3A,
        [MAP_VEX_0F] = EMAP_0F, [MAP_VEX_0F38] = EMAP_0F38, [MAP_VEX_0F3A] = EMAP_0F3A,
    };
    const struct insn_row *row = insn_row(i);
    struct enc c = { .opcode = row->opcode, .map = maps[row->map], .vex = (i->flags & INSN_VEX) != 0, .l = i->vl };
    c.prefix = row->prefix == PFX_66 ? 0x66 : row->prefix == PFX_F3 ? 0xf3 : row->prefix == PFX_F2 ? 0xf2 : 0;
    c.w = row->attr & ROW_W1 || (i->flags & INSN_W && g->s->cpu->code_size == 3);
    if (s->used[FIELD_IMM] || s->used[FIELD_IS4]) {
        c.imm_size = 1;
        c.imm = s->used[FIELD_IS4] ? i->is4 << 4 | ((int64_t)i->imm & 15) : (int64_t)i->imm;
    }
    return c;
}

static unsigned general(struct gen *g, unsigned guest, unsigned scratch)
{
    return gen_dst(g, guest, scratch, true);
}

static void gen_copy(struct gen *g, const struct insn *i, unsigned arg)
{
    const struct insn_row *row = insn_row(i);
    bool mem = i->flags & INSN_MEM;
    struct shape s;
    struct hmem m = { 0 };
    read_shape(row, &s);
    gen_load_state(g, s.loaded);
    struct enc c = row_enc(g, i, &s);
    if (mem) {
        unsigned bytes = operand_bytes(i, s.rm_code);
        m = gen_mem(g, i, bytes, s.written[FIELD_RM], row->attr & ROW_ALIGN ? bytes : 0);
        if (s.used[FIELD_VVVV] && !s.vector[FIELD_VVVV])
            m = gen_mem_r9(g, m); /* RCX is needed */
    }
    gen_flags_keep(g, row->flags_written ? row->flags_written : FLAGS_ARITH, row->flags_read);
    unsigned reg = row->digit >= 0 ? (unsigned)row->digit : i->reg, rm = i->rm;
    if (s.used[FIELD_REG] && !s.vector[FIELD_REG])
        reg = general(g, i->reg, H_RAX);
    if (c.vex && s.used[FIELD_VVVV])
        c.vvvv = s.vector[FIELD_VVVV] ? i->vvvv : (uint8_t)general(g, i->vvvv, H_RCX);
    if (mem) {
        emit_mem(&g->e, &c, reg, m);
    } else {
        if (!s.vector[FIELD_RM])
            rm = general(g, i->rm, H_R9);
        emit_reg(&g->e, &c, reg, rm);
    }
    /* MULX: if both are the same register it gets the upper half. */
    if (s.used[FIELD_VVVV] && !s.vector[FIELD_VVVV] && s.written[FIELD_VVVV])
        gen_dst_end(g, i->vvvv, c.vvvv);
    if (s.used[FIELD_REG] && !s.vector[FIELD_REG] && s.written[FIELD_REG])
        gen_dst_end(g, i->reg, reg);
    if (!mem && s.used[FIELD_RM] && !s.vector[FIELD_RM] && s.written[FIELD_RM])
        gen_dst_end(g, i->rm, rm);
    if (row->flags_written & FLAGS_ARITH)
        gen_flags_written(g);
}

/* VZEROUPPER, VZEROALL */
static void gen_vzero(struct gen *g, const struct insn *i, unsigned all)
{
    gen_load_state(g, LOADED_VECTORS);
    emit8(&g->e, 0xc5);
    emit8(&g->e, all ? 0xfc : 0xf8);
    emit8(&g->e, 0x77);
}

static void gen_emms(struct gen *g, const struct insn *i, unsigned arg)
{
    gen_load_state(g, LOADED_X87);
    emit8(&g->e, 0x0f);
    emit8(&g->e, 0x77);
}

/* --- Rows -------------------------------------------------------------------------------------------------------------------- */

/* Operands that are implied, masked or of another unit; MMX conversions whose operands do not tell that they are arithmetic. */
static bool is_special(const struct op *op)
{
    static const struct op *const special[] = {
        &op_maskmovdqu, &op_pcmpestri, &op_pcmpestrm, &op_pcmpistri, &op_pcmpistrm,
        &op_vmaskmovps_load, &op_vmaskmovpd_load, &op_vmaskmovps_store, &op_vmaskmovpd_store,
        &op_vpmaskmovd_load, &op_vpmaskmovq_load, &op_vpmaskmovd_store, &op_vpmaskmovq_store,
        &op_vzeroall, &op_vzeroupper, &op_ldmxcsr, &op_stmxcsr,
        &op_emms, &op_maskmovq, &op_cvtps2pi, &op_cvttps2pi, &op_cvtpi2ps,
    };
    return op_is_one_of(op, special, G_N_ELEMENTS(special));
}

static bool is_bmi(const struct op *op)
{
    static const struct op *const bmi[] = {
        &op_andn, &op_bextr, &op_blsi, &op_blsmsk, &op_blsr, &op_bzhi, &op_mulx, &op_pdep, &op_pext, &op_rorx, &op_sarx,
        &op_shlx, &op_shrx,
    };
    return op_is_one_of(op, bmi, G_N_ELEMENTS(bmi));
}

void gen_templates_vector(struct gen_template *t)
{
    for (unsigned row = 0; row < insn_row_count; row++) {
        const struct insn_row *r = &insn_rows[row];
        struct shape s;
        read_shape(r, &s);
        uint16_t needs = (s.loaded & LOADED_VECTORS ? GEN_VECTOR : 0) | (s.loaded & LOADED_X87 ? GEN_X87 : 0);
        if (r->op == &op_vzeroupper || r->op == &op_vzeroall)
            t[row] = (struct gen_template){ gen_vzero, r->op == &op_vzeroall, GEN_VECTOR };
        else if (r->op == &op_emms)
            t[row] = (struct gen_template){ gen_emms, 0, GEN_X87 };
        else if ((r->attr & (ROW_SSE | ROW_MMX) && !(r->attr & ROW_VSIB) && !is_special(r->op)) || is_bmi(r->op))
            t[row] = (struct gen_template){ gen_copy, 0, needs };
    }
}
