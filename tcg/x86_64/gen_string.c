/*
 * Templates for MOVS, STOS, LODS, CMPS and SCAS. Intel SDM volume 2, "REP".
 *
 * A repeated one runs as the host's own instruction, on what lies within one page at both ends, page after page: code that all
 * units share, one piece for each operation and size. Between two pages it looks at cpu->poll. Whatever the TLB does not let
 * pass, DF, and what is left when somebody wants attention goes to the handler, which begins where the registers stand then:
 * they are always those of whole elements.
 *
 * Flags of a repeated comparison are written when it is complete: until then cpu->arith has the old ones.
 */
#include "cpu/ops.h"
#include "tcg/x86_64/entry.h"

enum string_op { STRING_MOVS, STRING_STOS, STRING_LODS, STRING_CMPS, STRING_SCAS };

/* --- Shared code of repeated ones ------------------------------------------------------------------------------------------ */

/* What one piece is made for. */
struct piece {
    struct emit *e;
    enum string_op op;
    bool until_equal; /* REPNE */
    unsigned size, wide; /* log2 of bytes: of elements, of rSI, rDI and rCX */
    struct fixup slow[4];
    unsigned slow_count;
};

static bool reads_source(const struct piece *p)
{
    return p->op == STRING_MOVS || p->op == STRING_CMPS;
}
static bool compares(const struct piece *p)
{
    return p->op == STRING_CMPS || p->op == STRING_SCAS;
}

static void slow_if(struct piece *p, enum emit_cond cc)
{
    p->slow[p->slow_count++] = emit_jcc(p->e, cc);
}

/* Offset in its page of the element at [reg], into `offset`; what to add for the host's address into `addend`. RCX is used. */
static void check_end(struct piece *p, unsigned reg, unsigned offset, unsigned addend, bool write)
{
    struct emit *e = p->e;
    size_t tag = write ? offsetof(struct tlb_entry, tag_write) : offsetof(struct tlb_entry, tag_read);
    emit_op_reg(e, 0x8b, p->wide, offset, reg);
    emit_op_reg(e, 0x8b, p->wide, H_RCX, reg);
    emit_shift_imm(e, 5, 3, H_RCX, 12 - 5);
    emit_alu_imm(e, ALU_AND, 2, H_RCX, (TLB_SIZE - 1) << 5);
    emit_op_mem(e, 0x2b, 3, offset, hmem_index(H_TLB, H_RCX, 0, (int32_t)tag));
    emit_alu_imm(e, ALU_CMP, 3, offset, (int32_t)(PAGE_SIZE - (1u << p->size)));
    slow_if(p, CC_NBE);
    emit_load(e, 3, addend, hmem_index(H_TLB, H_RCX, 0, offsetof(struct tlb_entry, addend)));
}

static void cmov(struct emit *e, enum emit_cond cc, unsigned dst, unsigned src)
{
    struct enc c = { .opcode = (uint8_t)(0x40 | cc), .map = EMAP_0F, .w = true };
    emit_reg(e, &c, dst, src);
}

/* rSI and rDI become the host's for a while. The addends are in R9 and RCX. */
static void to_host(struct piece *p, unsigned reg, unsigned addend)
{
    emit_push(p->e, reg);
    if (p->wide == 2)
        emit_op_reg(p->e, 0x8b, 2, reg, reg);
    emit_alu_reg(p->e, ALU_ADD, 3, reg, addend);
}

/* The host's instruction: RCX elements. */
static void repeat(const struct piece *p)
{
    static const uint8_t opcodes[] = { [STRING_MOVS] = 0xa4, [STRING_STOS] = 0xaa, [STRING_CMPS] = 0xa6, [STRING_SCAS] = 0xae };
    if (p->size == 1)
        emit8(p->e, 0x66);
    emit8(p->e, p->until_equal ? 0xf2 : 0xf3);
    if (p->size == 3)
        emit8(p->e, 0x48);
    emit8(p->e, opcodes[p->op] | (p->size ? 1 : 0));
}

/* How many elements there are to do within the page, into RDX and RCX; RAX and RDX are offsets there. */
static void elements(struct piece *p)
{
    struct emit *e = p->e;
    if (reads_source(p)) {
        emit_alu_reg(e, ALU_CMP, 3, H_RDX, H_RAX);
        cmov(e, CC_B, H_RDX, H_RAX);
    }
    emit_mov_imm(e, H_RAX, PAGE_SIZE);
    emit_alu_reg(e, ALU_SUB, 2, H_RAX, H_RDX);
    if (p->size)
        emit_shift_imm(e, 5, 2, H_RAX, p->size);
    emit_op_reg(e, 0x8b, p->wide, H_RDX, GUEST_RCX);
    emit_alu_reg(e, ALU_CMP, 3, H_RDX, H_RAX);
    cmov(e, CC_NBE, H_RDX, H_RAX);
}

/* One run within a page; RDX elements were done, and for comparisons AX has the flags. */
static void run_page(struct piece *p)
{
    struct emit *e = p->e;
    bool source = reads_source(p);
    if (source)
        check_end(p, H_RSI, H_RAX, H_R9, false);
    check_end(p, H_RDI, H_RDX, H_RCX, !compares(p));
    if (source)
        to_host(p, H_RSI, H_R9);
    to_host(p, H_RDI, H_RCX);
    elements(p);
    emit_mov(e, H_RCX, H_RDX);
    if (!source)
        emit_mov(e, H_RAX, GUEST_RAX);
    repeat(p);
    if (compares(p)) {
        static const uint8_t lahf_seto_al[] = { 0x9f, 0x0f, 0x90, 0xc0 };
        memcpy(e->at, lahf_seto_al, sizeof lahf_seto_al);
        e->at += sizeof lahf_seto_al;
        emit_alu_reg(e, ALU_SUB, 3, H_RDX, H_RCX);
    }
    emit_pop(e, H_RDI);
    if (source)
        emit_pop(e, H_RSI);
    emit_alu_reg(e, ALU_SUB, p->wide, GUEST_RCX, H_RDX);
    if (source)
        emit_lea(e, p->wide, H_RSI, hmem_index(H_RSI, H_RDX, p->size, 0));
    emit_lea(e, p->wide, H_RDI, hmem_index(H_RDI, H_RDX, p->size, 0));
}

/* Called with flags in cpu->arith if they matter. ZF: done; else the handler has to go on. R9, RAX and RCX are lost. */
static const uint8_t *emit_piece(struct emit *e, enum string_op op, unsigned size, unsigned wide, bool until_equal)
{
    struct piece p = { .e = e, .op = op, .size = size, .wide = wide, .until_equal = until_equal };
    const uint8_t *at = emit_here(e);
    struct enc test = { .opcode = 0xf7, .imm_size = 4, .imm = FLAG_DF };
    struct fixup none = { NULL }, equal = { NULL };
    emit_mem(e, &test, 0, STATE(rflags));
    struct fixup down = emit_jcc(e, CC_NZ);
    if (compares(&p)) { /* nothing is compared: flags stay */
        emit_op_reg(e, 0x85, wide, GUEST_RCX, GUEST_RCX);
        none = emit_jcc(e, CC_Z);
    }
    emit_push(e, H_RDX);
    const uint8_t *again = emit_here(e);
    run_page(&p);
    struct fixup done = emit_jcc(e, CC_Z);
    if (compares(&p)) {
        static const uint8_t test_ah_zf[] = { 0xf6, 0xc4, 0x40 };
        memcpy(e->at, test_ah_zf, sizeof test_ah_zf);
        e->at += sizeof test_ah_zf;
        equal = emit_jcc(e, until_equal ? CC_NZ : CC_Z);
    }
    emit_alu_imm_mem(e, ALU_CMP, 3, STATE(poll), 0, false);
    emit_bind_to(e, emit_jcc(e, CC_Z), again);
    for (unsigned k = 0; k < p.slow_count; k++)
        emit_bind(e, p.slow[k]);
    emit_pop(e, H_RDX);
    emit_alu_imm(e, ALU_CMP, 3, H_RSP, 0); /* which it is not */
    emit_ret(e);
    emit_bind(e, done);
    if (compares(&p)) {
        emit_bind(e, equal);
        emit_store(e, 1, H_RAX, STATE(arith));
        emit_alu_reg(e, ALU_CMP, 2, H_RAX, H_RAX);
    }
    emit_pop(e, H_RDX);
    if (compares(&p)) {
        emit_bind(e, none);
    }
    emit_bind(e, down);
    emit_ret(e);
    return at;
}

void string_emit(struct backend *b, struct emit *e)
{
    static const struct { enum string_op op; bool until_equal; } kinds[REP_KINDS] = {
        [REP_MOVS] = { STRING_MOVS, false }, [REP_STOS] = { STRING_STOS, false },
        [REP_CMPS] = { STRING_CMPS, false }, [REP_CMPS_NE] = { STRING_CMPS, true },
        [REP_SCAS] = { STRING_SCAS, false }, [REP_SCAS_NE] = { STRING_SCAS, true },
    };
    for (unsigned kind = 0; kind < REP_KINDS; kind++)
        for (unsigned size = 0; size < 4; size++)
            for (unsigned wide = 2; wide < 4; wide++)
                if (size <= wide)
                    b->rep[kind][size][wide - 2] = emit_piece(e, kinds[kind].op, size, wide, kinds[kind].until_equal);
}

/* --- Templates --------------------------------------------------------------------------------------------------------------- */

static bool is_repeated(const struct insn *i)
{
    return i->flags & (INSN_REP | INSN_REPNE);
}

bool gen_string_fits(const struct source *s, const struct insn *i)
{
    if (!is_repeated(i))
        return true;
    return (s->cpu->code_size == 3 || s->key & KEY_FLAT_DATA) && insn_row(i)->op != &op_lods && i->asize == (s->cpu->code_size == 3 ? 3 : 2) && i->seg != SEG_FS && i->seg != SEG_GS;
}

static void gen_repeated(struct gen *g, const struct insn *i, enum string_op op)
{
    bool ne = i->flags & INSN_REPNE;
    enum rep_kind kind = op == STRING_MOVS   ? REP_MOVS
                         : op == STRING_STOS ? REP_STOS
                         : op == STRING_CMPS ? (ne ? REP_CMPS_NE : REP_CMPS)
                                             : (ne ? REP_SCAS_NE : REP_SCAS);
    gen_flags_clobber(g);
    emit_call_to(&g->e, g->b->rep[kind][i->osize][i->asize - 2]);
    gen_slow_if(g, CC_NZ);
}

/* The element at seg:[reg]. */
static struct hmem element(struct gen *g, const struct insn *i, unsigned reg, bool write)
{
    struct insn at = { .base = (uint8_t)reg, .index = R_ZERO, .asize = i->asize, .seg = i->seg };
    if (reg == R_RDI)
        at.seg = g->s->cpu->code_size == 3 ? SEG_FLAT : SEG_ES;
    return gen_mem(g, &at, 1u << i->osize, write, 0);
}

static void advance(struct gen *g, const struct insn *i, unsigned host)
{
    emit_lea(&g->e, i->asize, host, hmem_base((int)host, 1 << i->osize));
}

static void load_aside(struct gen *g, const struct insn *i, unsigned reg)
{
    emit_load(&g->e, i->osize, H_RAX, element(g, i, reg, false));
    emit_store(&g->e, 3, H_RAX, STATE(string_element));
}

static void gen_movs(struct gen *g, const struct insn *i)
{
    load_aside(g, i, R_RSI);
    struct hmem to = element(g, i, R_RDI, true);
    emit_load(&g->e, 3, H_RAX, STATE(string_element));
    emit_store(&g->e, i->osize, H_RAX, to);
    advance(g, i, H_RSI);
    advance(g, i, H_RDI);
}

static void gen_cmps(struct gen *g, const struct insn *i)
{
    load_aside(g, i, R_RSI);
    struct hmem with = element(g, i, R_RDI, false);
    advance(g, i, H_RSI);
    emit_load(&g->e, 3, H_RAX, STATE(string_element));
    emit_op_mem(&g->e, 0x3b, i->osize, H_RAX, with);
    advance(g, i, H_RDI);
    gen_flags_written(g);
}

static void gen_string(struct gen *g, const struct insn *i, unsigned op)
{
    struct enc test = { .opcode = 0xf7, .imm_size = 4, .imm = FLAG_DF };
    if (is_repeated(i)) {
        gen_repeated(g, i, op);
        if (op == STRING_CMPS || op == STRING_SCAS)
            g->flags_here = false, g->flags_saved = true;
        return;
    }
    gen_flags_clobber(g);
    emit_mem(&g->e, &test, 0, STATE(rflags));
    gen_slow_if(g, CC_NZ);
    switch (op) {
    case STRING_MOVS:
        gen_movs(g, i);
        break;
    case STRING_CMPS:
        gen_cmps(g, i);
        break;
    case STRING_STOS:
        emit_store(&g->e, i->osize, GUEST_RAX, element(g, i, R_RDI, true));
        advance(g, i, H_RDI);
        break;
    case STRING_LODS:
        emit_load(&g->e, i->osize, GUEST_RAX, element(g, i, R_RSI, false));
        advance(g, i, H_RSI);
        break;
    case STRING_SCAS:
        emit_op_mem(&g->e, 0x3b, i->osize, GUEST_RAX, element(g, i, R_RDI, false));
        advance(g, i, H_RDI);
        gen_flags_written(g);
        break;
    }
}

/* --- The table --------------------------------------------------------------------------------------------------------------- */

static const struct gen_entry table[] = {
    { &op_movs, gen_string, STRING_MOVS, GEN_STRING },
    { &op_stos, gen_string, STRING_STOS, GEN_STRING },
    { &op_lods, gen_string, STRING_LODS, GEN_STRING },
    { &op_cmps, gen_string, STRING_CMPS, GEN_STRING },
    { &op_scas, gen_string, STRING_SCAS, GEN_STRING },
};

void gen_templates_string(struct gen_template *t)
{
    gen_templates_add(t, table, G_N_ELEMENTS(table), 0);
}
