/*
 * Random instances of rows of the instruction table: prefixes, opcode, ModRM, SIB, displacement, and a state in which
 * the memory operand lies where it is interesting.
 *
 * The bytes are made from the row alone; where the instruction ends only the decoder says, and a wrong answer shows
 * up as a difference. Addresses are kept inside the data pages, at their edges, or where nothing can be mapped: on
 * the host the instruction runs within this very process.
 */
#include "cpu/mem.h"
#include "cpu/ops.h"
#include "tests/lib/oracle_values.h"

#include <string.h>

/* --- Which rows --------------------------------------------------------------------------------------------------- */

/* They leave the user program, depend on the system, or change what the test itself stands on. */
static const struct op *const excluded[] = {
    &op_syscall, &op_sysenter, &op_int,      &op_int1,    &op_int3,        &op_iret,    &op_popf,    &op_call_far,
    &op_jmp_far, &op_retf,     &op_retf_imm, &op_pop_seg, &op_mov_to_seg,  &op_lds,     &op_les,     &op_lss,
    &op_lfs,     &op_lgs,      &op_vmcall,   &op_vmmcall, &op_mwait,       &op_call_far_ptr, &op_jmp_far_ptr,
};

bool oracle_row_usable(const struct insn_row *row, enum oracle_mode mode, const char **why)
{
    *why = NULL;
    if (!row->op)
        *why = "no handler yet";
    else if (row->attr & (mode == ORACLE_64 ? ROW_NO_64 : ROW_64_ONLY))
        *why = "other mode";
    else if (row->attr & ROW_UNORDERED)
        *why = "no fixed result";
    else if (!oracle_native_has(row->feature))
        *why = "not on this host";
    for (unsigned n = 0; n < G_N_ELEMENTS(excluded); n++)
        if (row->op == excluded[n])
            *why = "leaves the program";
    if (row->op == &op_sysret && mode != ORACLE_64)
        *why = "depends on the maker";
    return *why == NULL;
}

/* --- Bytes -------------------------------------------------------------------------------------------------------- */

static void put(struct oracle_encoder *e, unsigned byte)
{
    e->b[e->n++] = (uint8_t)byte;
}

static bool is_vex(const struct insn_row *row)
{
    return row->map == MAP_VEX_0F || row->map == MAP_VEX_0F38 || row->map == MAP_VEX_0F3A;
}

static bool has_method(const struct insn_row *row, enum operand_method method)
{
    for (unsigned n = 0; n < 4; n++)
        if (operand_info[row->operands[n]].method == method)
            return true;
    return false;
}

/* F2 and F3 where they mean nothing: not with what transactional memory could take as a hint. */
static bool may_ignore_rep(const struct insn_row *row)
{
    return row->map == MAP_1B && row->prefix == PFX_ANY && !(row->attr & (ROW_LOCK | ROW_REP | ROW_REPZ)) &&
           row->op != &op_mov_store && row->op != &op_mov_imm && row->op != &op_mov_to_moffs && row->op != &op_nop &&
           row->op != &op_xchg_acc;
}

static void put_legacy_prefixes(struct oracle_gen *g, const struct insn_row *row, struct oracle_encoder *e)
{
    static const uint8_t segments[] = { 0x26, 0x2e, 0x36, 0x3e, 0x65 };
    bool free66 = !is_vex(row) && (row->prefix == PFX_ANY || row->prefix == PFX_NFX);

    e->address16 = g->mode == ORACLE_SEG16;
    if (oracle_percent(g, oracle_segmented(g->mode) ? 20 : g->mode == ORACLE_32 ? 2 : 8) ||
        (e->address16 && row->attr & ROW_VSIB)) {
        put(e, 0x67);
        e->address16 = g->mode == ORACLE_SEG32 || g->mode == ORACLE_32;
    }
    if (oracle_percent(g, oracle_segmented(g->mode) ? 20 : 6)) {
        uint8_t s = segments[oracle_below(g, 5)];
        if (!(g->mode == ORACLE_32 && s == 0x65)) /* GS is null there */
            put(e, s);
    }
    if (row->attr & ROW_LOCK && oracle_percent(g, 30))
        put(e, 0xf0);
    if (row->attr & (ROW_REP | ROW_REPZ) && oracle_percent(g, 60))
        put(e, oracle_percent(g, 50) ? 0xf3 : 0xf2);
    else if (may_ignore_rep(row) && oracle_percent(g, 2))
        put(e, oracle_percent(g, 50) ? 0xf3 : 0xf2);
    if (free66 && oracle_percent(g, 20))
        put(e, 0x66);
    if (!is_vex(row) && row->prefix == PFX_66)
        put(e, 0x66);
    if (!is_vex(row) && row->prefix == PFX_F3)
        put(e, 0xf3);
    if (!is_vex(row) && row->prefix == PFX_F2)
        put(e, 0xf2);
}

static void put_rex(struct oracle_gen *g, const struct insn_row *row, struct oracle_encoder *e)
{
    if (g->mode != ORACLE_64)
        return;
    unsigned rex = 0x40 | oracle_below(g, 16);
    if (row->attr & ROW_W1)
        rex |= 8;
    if (row->attr & ROW_W0)
        rex &= ~8u;
    if (row->attr & ROW_NO_REX_B)
        rex &= ~1u;
    if (row->attr & ROW_W1 || oracle_percent(g, 55)) {
        put(e, rex);
        e->rxb = rex & 7;
    }
}

static void put_vex(struct oracle_gen *g, const struct insn_row *row, struct oracle_encoder *e)
{
    unsigned map = row->map == MAP_VEX_0F ? 1 : row->map == MAP_VEX_0F38 ? 2 : 3;
    unsigned pp = row->prefix == PFX_66 ? 1 : row->prefix == PFX_F3 ? 2 : row->prefix == PFX_F2 ? 3 : 0;
    unsigned w = row->attr & ROW_W1 ? 1 : row->attr & ROW_W0 ? 0 : oracle_below(g, 2);
    unsigned l = row->attr & ROW_VEX_L1 ? 1 : row->attr & ROW_VEX_L0 ? 0 : oracle_below(g, 2);
    unsigned vvvv = row->attr & ROW_NO_VVVV ? 15 : oracle_below(g, 16);
    unsigned rxb = oracle_below(g, 8);

    if (g->mode != ORACLE_64) {
        rxb = 7;
        vvvv |= 8;
    }
    if (g->address && row->attr & ROW_VSIB)
        rxb = (rxb & ~2u) | (g->address->vector_index & 8 ? 0 : 2);
    e->rxb = ~rxb & 7;
    if (oracle_percent(g, 1)) /* seldom right */
        vvvv = oracle_below(g, 16) | (g->mode == ORACLE_64 ? 0 : 8);
    if (map == 1 && w == 0 && (rxb & 3) == 3 && oracle_percent(g, 70)) {
        put(e, 0xc5);
        put(e, (rxb & 4) << 5 | vvvv << 3 | l << 2 | pp);
        return;
    }
    put(e, 0xc4);
    put(e, rxb << 5 | map);
    put(e, w << 7 | vvvv << 3 | l << 2 | pp);
}

/* One of the registers in `set` whose number's top bit is `high`, or -1. */
static int pick_register(struct oracle_gen *g, unsigned set, bool high)
{
    unsigned most = oracle_below(g, 8), half = set >> (high ? 8 : 0) & 0xff;

    for (unsigned n = 0; half && n < 8; n++)
        if (half >> ((most + n) & 7) & 1)
            return (int)((most + n) & 7);
    return -1;
}

/*
 * ModRM and SIB of an address made of the registers that the caller wants: as far as the prefixes, which stand already,
 * allow. False: none of them is in reach.
 */
static bool put_chosen_address(struct oracle_gen *g, const struct insn_row *row, struct oracle_encoder *e, unsigned mod,
                               unsigned reg)
{
    const struct oracle_address *a = g->address;
    int base = pick_register(g, a->bases, e->rxb & 1);
    int index = row->attr & ROW_VSIB ? a->vector_index & 7
                : oracle_percent(g, 25) ? pick_register(g, a->indexes, e->rxb & 2) : -1;

    if (!a->bases || base < 0 || e->address16)
        return false;
    if (mod == 0 && (base == R_RBP || oracle_percent(g, 60)))
        mod = 1 + oracle_below(g, 2);
    if (index < 0 && !(e->rxb & 2))
        index = R_RSP; /* none */
    if (base == R_RSP || index != R_RSP) {
        put(e, mod << 6 | reg << 3 | 4);
        put(e, oracle_below(g, 4) << 6 | (unsigned)(index < 0 ? (int)oracle_below(g, 8) : index) << 3 | (unsigned)base);
    } else {
        put(e, mod << 6 | reg << 3 | (unsigned)base);
    }
    e->disp_at = mod ? e->n : 0;
    e->disp_bytes = mod == 2 ? 4 : mod;
    return true;
}

static void put_modrm(struct oracle_gen *g, const struct insn_row *row, struct oracle_encoder *e)
{
    unsigned mod = oracle_percent(g, 45) ? 3 : oracle_below(g, 3), rm = oracle_below(g, 8);
    unsigned reg = row->digit >= 0 ? (unsigned)row->digit : oracle_below(g, 8);

    if (row->modrm >= 0) {
        put(e, (unsigned)row->modrm);
        return;
    }
    if (row->attr & ROW_REG_ONLY)
        mod = 3;
    else if (row->attr & ROW_MEM_ONLY && mod == 3)
        mod = oracle_below(g, 3);
    if (row->attr & ROW_VSIB)
        rm = 4;
    if (mod != 3 && g->address && oracle_percent(g, 94) && put_chosen_address(g, row, e, mod, reg))
        return;
    put(e, mod << 6 | reg << 3 | rm);
    if (mod == 3)
        return;
    bool absolute = mod == 0 && rm == (e->address16 ? 6 : 5);
    if (!e->address16 && rm == 4) {
        unsigned sib = oracle_below(g, 256);
        if (g->address && row->attr & ROW_VSIB)
            sib = (sib & ~0x38u) | (g->address->vector_index & 7u) << 3;
        put(e, sib);
        absolute = mod == 0 && (sib & 7) == 5;
    }
    if (absolute || mod) {
        e->disp_at = e->n;
        e->disp_bytes = mod == 1 ? 1 : e->address16 ? 2 : 4;
    }
}

void oracle_encode(struct oracle_gen *g, const struct insn_row *row, struct oracle_encoder *e)
{
    static const uint8_t escapes[MAP_COUNT][3] = {
        [MAP_0F] = { 1, 0x0f }, [MAP_0F38] = { 2, 0x0f, 0x38 }, [MAP_0F3A] = { 2, 0x0f, 0x3a },
    };

    *e = (struct oracle_encoder){ .n = 0 };
    put_legacy_prefixes(g, row, e);
    if (is_vex(row)) {
        put_vex(g, row, e);
    } else {
        put_rex(g, row, e);
        for (unsigned n = 0; n < escapes[row->map][0]; n++)
            put(e, escapes[row->map][1 + n]);
    }
    put(e, row->opcode + (has_method(row, METHOD_Z) ? oracle_below(g, 8) : 0));
    if (row->attr & ROW_MODRM)
        put_modrm(g, row, e);
    for (unsigned n = e->n; n < sizeof e->b; n++)
        e->b[n] = (uint8_t)oracle_random(g);
    if (row->op == &op_enter) {
        e->b[e->n + 1] &= 1; /* a frame that fits */
        if (oracle_percent(g, 60))
            e->b[e->n + 2] = (uint8_t)oracle_below(g, 4);
    }
    if (has_method(row, METHOD_O))
        e->disp_at = e->n; /* of the address size */
}

/* --- Addresses ---------------------------------------------------------------------------------------------------- */

static uint64_t page_address(unsigned page)
{
    return ORACLE_DATA + page * ORACLE_PAGE;
}

static bool wants_alignment(const struct insn_row *row)
{
    return row->attr & ROW_ALIGN || row->op == &op_cmpxchg16b || operand_info[row->operands[0]].type == TYPE_fx;
}

/* Where a memory operand may go. `wide`: addresses have 64 bits. */
static uint64_t interesting_address(struct oracle_gen *g, bool aligned, bool wide)
{
    unsigned at = oracle_below(g, ORACLE_PAGE), kind = oracle_below(g, 100);
    unsigned page = oracle_percent(g, 50) ? 1 + oracle_below(g, 2) : 4;

    if (aligned && oracle_percent(g, 90))
        at &= ~31u;
    if (kind < 72)
        return page_address(page) + at;
    if (kind < 82)
        return page_address(2) - oracle_below(g, 40); /* both writable */
    if (kind < 87)
        return page_address(3) - oracle_below(g, 40); /* into a hole */
    if (kind < 91)
        return page_address(5) - oracle_below(g, 40); /* into a read-only page */
    if (kind < 93)
        return page_address(1) - oracle_below(g, 20); /* from a hole */
    if (kind < 97)
        return page_address(5) + at;
    if (kind < 98)
        return page_address(6) + at;
    if (!wide || kind < 99)
        return page_address(3) + at;
    return oracle_percent(g, 50) ? UINT64_C(0x800000000000) - oracle_below(g, 24)   /* across the canonical edge */
                                 : oracle_random(g) >> 16 | UINT64_C(0x4000) << 48; /* not canonical */
}

static uint64_t operand_address(struct oracle_gen *g, const struct oracle_case *c, bool aligned)
{
    return interesting_address(g, aligned, c->insn.asize == 3);
}

/* Nothing of ours can be there: it faults on both sides, or is a data page. Segment limits keep their modes inside. */
static bool is_safe(const struct oracle_gen *g, uint64_t addr)
{
    uint64_t spread = UINT64_C(1) << 29;
    if (oracle_segmented(g->mode))
        return true;
    if (g->mode == ORACLE_64 && (uint64_t)((int64_t)(addr << 16) >> 16) != addr)
        return true;
    return (addr >= ORACLE_DATA - spread && addr < ORACLE_CODE - 0x100000) ||
           (addr >= UINT64_C(0x7fffffffff00) && addr < UINT64_C(0x800000000100));
}

static uint64_t base_of(const struct oracle_case *c, enum seg s)
{
    const struct oracle_segment *segment = oracle_segment(c->mode, c->stack16, s);
    return segment ? segment->base : s == SEG_GS && c->mode == ORACLE_64 ? ORACLE_GS_BASE : 0;
}

/* Of the memory operand. */
static uint64_t segment_base(const struct oracle_case *c)
{
    return base_of(c, c->insn.seg);
}

static uint64_t reg_or_zero(const struct oracle_case *c, unsigned r)
{
    return r == R_RIP ? c->in.rip + c->len : r == R_ZERO ? 0 : c->in.r[r];
}

static uint64_t effective_address(const struct oracle_case *c)
{
    const struct insn *i = &c->insn;
    uint64_t index = insn_row(i)->attr & ROW_VSIB ? 0 : reg_or_zero(c, i->index) << i->scale;
    uint64_t ea = reg_or_zero(c, i->base) + index + (uint64_t)i->disp;

    return i->asize == 3 ? ea : i->asize == 2 ? (uint32_t)ea : (uint16_t)ea;
}

uint64_t oracle_operand(const struct oracle_case *c)
{
    return effective_address(c) + segment_base(c);
}

/* An address register: above its address size there may be anything. */
static void set_base(struct oracle_gen *g, struct oracle_case *c, unsigned r, uint64_t v)
{
    c->in.r[r] = g->mode == ORACLE_64 ? v : (uint32_t)v;
    if (g->mode == ORACLE_64 && c->insn.asize == 2 && oracle_percent(g, 50))
        c->in.r[r] = (uint32_t)v | oracle_random(g) << 32;
    if (c->insn.asize == 1)
        c->in.r[r] = (uint16_t)v | (oracle_random(g) & 0xffff0000);
}

/* RSP or RBP, within the stack segment. */
static void set_stack(struct oracle_gen *g, struct oracle_case *c, unsigned r, uint64_t linear)
{
    uint64_t v = linear - base_of(c, SEG_SS);
    c->in.r[r] = g->mode == ORACLE_64 ? v : c->stack16 ? (uint16_t)v : (uint32_t)v;
}

/* Chooses registers, or the displacement, so that the ModRM operand is at `target` (or near, where that cannot be). */
static void aim(struct oracle_gen *g, struct oracle_case *c, struct oracle_encoder *e, uint64_t target)
{
    const struct insn *i = &c->insn;
    uint64_t want = target - segment_base(c);
    bool vsib = insn_row(i)->attr & ROW_VSIB, index = i->index != R_ZERO && !vsib;

    if (i->base == R_ZERO || i->base == R_RIP) {
        if (index)
            c->in.r[i->index] = oracle_below(g, 100);
        if (!e->disp_at)
            return;
        uint64_t d = want - reg_or_zero(c, i->base) - (index ? c->in.r[i->index] << i->scale : 0);
        unsigned bytes = insn_row(i)->attr & ROW_MODRM && !e->address16 ? 4 : 1u << i->asize;
        for (unsigned n = 0; n < bytes; n++)
            e->b[e->disp_at + n] = (uint8_t)(d >> 8 * n);
        c->insn.disp = bytes == 4 ? (int64_t)(int32_t)d : bytes == 2 ? (int64_t)(int16_t)d : (int64_t)d;
        memcpy(c->code, e->b, 16);
    } else if (index && i->index == i->base) {
        uint64_t sum = want - (uint64_t)i->disp;
        set_base(g, c, i->base, sum / ((1u << i->scale) + 1));
    } else {
        if (index && oracle_percent(g, 60))
            c->in.r[i->index] = oracle_below(g, 0x2000);
        uint64_t offset = index ? c->in.r[i->index] << i->scale : 0;
        set_base(g, c, i->base, want - (uint64_t)i->disp - offset);
    }
}

/* --- States that make the instruction do something ---------------------------------------------------------------- */

#define IS_ONE_OF(what, ...) \
    op_is_one_of(what, (const struct op *const[]){ __VA_ARGS__ }, \
              G_N_ELEMENTS(((const struct op *const[]){ __VA_ARGS__ })))

static void shape_string(struct oracle_gen *g, struct oracle_case *c)
{
    unsigned most = oracle_percent(g, 80) ? 12 : 700;

    set_base(g, c, R_RSI, operand_address(g, c, false) - segment_base(c));
    uint64_t from = c->in.r[R_RSI] + segment_base(c);
    uint64_t to = oracle_percent(g, 15) ? from + oracle_below(g, 17) - 8 : operand_address(g, c, false);
    set_base(g, c, R_RDI, to - base_of(c, c->mode == ORACLE_64 ? SEG_FLAT : SEG_ES));
    set_base(g, c, R_RCX, oracle_below(g, most));
    if (oracle_percent(g, 40))
        c->in.rflags ^= FLAG_DF;
}

/* Elements near each other, or one may wander off. */
static void shape_gather(struct oracle_gen *g, struct oracle_case *c)
{
    const struct insn_row *row = insn_row(&c->insn);
    union vec *index = &c->in.v[c->insn.index];
    bool wide = row->operands[1] == OPERAND_VMqq || row->operands[1] == OPERAND_VMqd;

    for (unsigned n = 0; n < (wide ? 4 : 8); n++) {
        int64_t v = (int64_t)oracle_below(g, oracle_percent(g, 90) ? 100 : 2000) - 50;
        if (wide)
            index->s64[n] = v;
        else
            index->s32[n] = (int32_t)v;
    }
    for (unsigned n = 0; n < 8; n++)
        if (oracle_percent(g, 50))
            c->in.v[c->insn.vvvv].u32[n] ^= 0x80000000;
}

static void shape_division(struct oracle_gen *g, struct oracle_case *c)
{
    if (oracle_percent(g, 60)) {
        unsigned osize = c->insn.osize;
        if (osize == 0)
            c->in.r[R_RAX] = (c->in.r[R_RAX] & ~UINT64_C(0xff00)) | (uint64_t)oracle_below(g, 5) << 8;
        else if (oracle_percent(g, 50))
            c->in.r[R_RDX] = (uint64_t)((int64_t)c->in.r[R_RAX] >> 63);
        else
            c->in.r[R_RDX] = oracle_below(g, 3);
    }
}

static uint64_t memory_word(const struct oracle_gen *g, uint64_t addr)
{
    uint64_t v = 0;
    if (addr >= ORACLE_DATA && addr < ORACLE_DATA + ORACLE_DATA_BYTES - 8)
        memcpy(&v, g->memory + (addr - ORACLE_DATA), 8);
    return v;
}

static void shape_compare_exchange(struct oracle_gen *g, struct oracle_case *c)
{
    uint64_t ea = oracle_operand(c);

    if (!(c->insn.flags & INSN_MEM)) {
        if (c->insn.rm < 16)
            c->in.r[R_RAX] = c->in.r[c->insn.rm];
    } else if (insn_row(&c->insn)->op == &op_cmpxchg) {
        c->in.r[R_RAX] = memory_word(g, ea);
    } else if (insn_row(&c->insn)->op == &op_cmpxchg8b) {
        c->in.r[R_RAX] = (uint32_t)memory_word(g, ea) | (c->in.r[R_RAX] & ~UINT64_C(0xffffffff));
        c->in.r[R_RDX] = memory_word(g, ea) >> 32;
    } else {
        c->in.r[R_RAX] = memory_word(g, ea);
        c->in.r[R_RDX] = memory_word(g, ea + 8);
    }
    if (g->mode != ORACLE_64) {
        c->in.r[R_RAX] = (uint32_t)c->in.r[R_RAX];
        c->in.r[R_RDX] = (uint32_t)c->in.r[R_RDX];
    }
}

/* Before the memory operand is aimed at, whose registers win. */
static void shape_before(struct oracle_gen *g, struct oracle_case *c)
{
    const struct op *op = insn_row(&c->insn)->op;

    set_stack(g, c, R_RSP, oracle_percent(g, 85) ? page_address(2) + 0x200 + 8 * oracle_below(g, 300)
                                                 : interesting_address(g, false, g->mode == ORACLE_64));
    if (IS_ONE_OF(op, &op_enter, &op_leave))
        set_stack(g, c, R_RBP, interesting_address(g, false, g->mode == ORACLE_64));
    if (IS_ONE_OF(op, &op_movs, &op_stos, &op_lods, &op_cmps, &op_scas, &op_ins, &op_outs))
        shape_string(g, c);
    if (op == &op_xlat)
        set_base(g, c, R_RBX, operand_address(g, c, false) - segment_base(c) - (uint8_t)c->in.r[R_RAX]);
    if (IS_ONE_OF(op, &op_maskmovq, &op_maskmovdqu))
        set_base(g, c, R_RDI, operand_address(g, c, false) - segment_base(c));
    if (IS_ONE_OF(op, &op_div, &op_idiv))
        shape_division(g, c);
    if (IS_ONE_OF(op, &op_loop, &op_loope, &op_loopne, &op_jrcxz) && oracle_percent(g, 60))
        c->in.r[R_RCX] = oracle_below(g, 3);
    if (IS_ONE_OF(op, &op_bt_reg, &op_bts_reg, &op_btr_reg, &op_btc_reg) && c->insn.flags & INSN_MEM)
        set_base(g, c, c->insn.reg, (uint64_t)((int64_t)(int32_t)oracle_random(g) >> (oracle_percent(g, 80) ? 18 : 0)));
    if (IS_ONE_OF(op, &op_pcmpestri, &op_pcmpestrm))
        for (unsigned r = R_RAX; r <= R_RDX; r += 2)
            c->in.r[r] = (uint64_t)((int64_t)oracle_below(g, 40) - 20);
    if (insn_row(&c->insn)->attr & ROW_VSIB)
        shape_gather(g, c);
}

/* Bit strings and gathers reach beyond the operand's address; others use the stack, whose pointer may be the base. */
static bool reach_is_safe(const struct oracle_gen *g, const struct oracle_case *c, uint64_t addr)
{
    const struct insn_row *row = insn_row(&c->insn);

    if (!is_safe(g, addr))
        return false;
    if (IS_ONE_OF(row->op, &op_bt_reg, &op_bts_reg, &op_btr_reg, &op_btc_reg)) {
        int64_t offset = c->insn.osize == 1 ? (int16_t)c->in.r[c->insn.reg] : (int64_t)c->in.r[c->insn.reg];
        if (c->insn.osize == 2)
            offset = (int32_t)offset;
        return is_safe(g, addr + (uint64_t)(offset >> 3));
    }
    if (IS_ONE_OF(row->op, &op_push, &op_pop, &op_call_near, &op_call_far))
        return is_safe(g, c->in.r[R_RSP]);
    if (row->attr & ROW_VSIB) {
        /* index elements were shaped, unless base register and the rest undid it */
        return is_safe(g, addr + 16384) && is_safe(g, addr - 16384);
    }
    return true;
}

/* --- Instance ----------------------------------------------------------------------------------------------------- */

void oracle_gen_init(struct oracle_gen *g, uint64_t seed, enum oracle_mode mode)
{
    *g = (struct oracle_gen){ .rng = { seed ^ UINT64_C(0x9e3779b97f4a7c15), seed * UINT64_C(0xbf58476d1ce4e5b9) + 1 },
                              .mode = mode };
    for (unsigned n = 0; n < 16; n++)
        oracle_random(g);
    oracle_fill_memory(g);
}

/* Operand data where the instruction will find it. */
static void poke_operand(struct oracle_gen *g, uint64_t addr)
{
    if (addr < ORACLE_DATA || addr + 32 > ORACLE_DATA + ORACLE_DATA_BYTES)
        return;
    uint8_t *at = g->memory + (addr - ORACLE_DATA);
    if (oracle_percent(g, 25)) {
        struct float80 f = oracle_f80(g);
        memcpy(at, &f.mant, 8);
        memcpy(at + 8, &f.sexp, 2);
    } else {
        oracle_fill_vector(g, at, 32);
    }
}

static enum decode_result decode_case(const struct oracle_gen *g, struct oracle_case *c, const struct oracle_encoder *e)
{
    struct decode_mode mode = { .code_size = oracle_code_size(g->mode),
                                .stack32 = !c->stack16,
                                .protected_mode = true };

    memcpy(c->code, e->b, 16);
    enum decode_result r = decode_insn(c->code, 15, mode, &c->insn);
    c->len = r == DECODE_OK ? c->insn.len : 15;
    return r;
}

/* With a 16-bit stack the host loses the upper half of ESP on the way in: nothing may read it but as SP. */
static bool shows_stack_pointer(const struct oracle_case *c)
{
    const struct insn *i = &c->insn;
    const struct op *op = insn_row(i)->op;
    if (i->reg == R_RSP || i->vvvv == R_RSP || i->base == R_RSP || i->index == R_RSP)
        return true;
    return (!(i->flags & INSN_MEM) && i->rm == R_RSP) || IS_ONE_OF(op, &op_enter, &op_pusha);
}

static void begin_case(struct oracle_gen *g, struct oracle_case *c)
{
    if (++g->memory_age % 64 == 0)
        oracle_fill_memory(g);
    *c = (struct oracle_case){ .mode = g->mode, .memory = g->memory };
    c->stack16 = oracle_segmented(g->mode) && oracle_percent(g, 30);
}

/* Registers and memory for a decoded instruction. */
static bool finish_case(struct oracle_gen *g, struct oracle_case *c, struct oracle_encoder *e)
{
    const struct insn_row *row = insn_row(&c->insn);

    if (c->insn.seg == SEG_FS || (c->stack16 && shows_stack_pointer(c)))
        return false;
    oracle_fill_regs(g, &c->in);
    unsigned code_at = oracle_percent(g, 5) ? ORACLE_PAGE - 1 - oracle_below(g, c->len) : 64 + oracle_below(g, 64);
    c->in.rip = code_at + (oracle_segmented(g->mode) ? 0 : ORACLE_CODE);
    /* Linux has CR0.AM set. What vector and x87 operands have to be aligned to is not in the manual. */
    if (!(row->attr & (ROW_SSE | ROW_FPU | ROW_MMX)) && oracle_percent(g, 3))
        c->in.rflags |= FLAG_AC;
    c->step = row->end == END_JUMP || row->end == END_INDIRECT;
    shape_before(g, c);
    if (c->insn.flags & INSN_MEM && (row->attr & ROW_MODRM || has_method(row, METHOD_O))) {
        aim(g, c, e, operand_address(g, c, wants_alignment(row)));
        uint64_t addr = oracle_operand(c);
        if (!reach_is_safe(g, c, addr))
            return false;
        poke_operand(g, addr);
    }
    if (IS_ONE_OF(row->op, &op_cmpxchg, &op_cmpxchg8b, &op_cmpxchg16b) && oracle_percent(g, 50)) {
        uint64_t before = effective_address(c);
        struct oracle_regs saved = c->in;
        shape_compare_exchange(g, c);
        if (effective_address(c) != before)
            c->in = saved; /* the address depends on what was to be shaped */
    }
    return true;
}

bool oracle_gen_case(struct oracle_gen *g, unsigned row, struct oracle_case *c)
{
    struct oracle_encoder e;

    begin_case(g, c);
    oracle_encode(g, &insn_rows[row], &e);
    return decode_case(g, c, &e) == DECODE_OK && c->insn.row == row && finish_case(g, c, &e);
}

/* One more prefix, or a wrong bit in prefixes, opcode or ModRM. */
static void mutate(struct oracle_gen *g, struct oracle_encoder *e)
{
    static const uint8_t prefixes[] = { 0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x2e, 0x36, 0x41, 0x48, 0x66, 0xf2, 0xf3 };

    e->disp_at = 0;
    if (oracle_percent(g, 40)) {
        memmove(e->b + 1, e->b, sizeof e->b - 1);
        e->b[0] = prefixes[oracle_below(g, sizeof prefixes)];
    } else {
        e->b[oracle_below(g, MIN(e->n, 6))] ^= (uint8_t)(1u << oracle_below(g, 8));
    }
}

/* They are stepped on the host: if it sees a shorter instruction, it must not go on with what is behind that. */
enum oracle_mutant oracle_gen_mutant(struct oracle_gen *g, unsigned row, struct oracle_case *c)
{
    struct oracle_encoder e;
    const char *why;

    begin_case(g, c);
    oracle_encode(g, &insn_rows[row], &e);
    mutate(g, &e);
    if (decode_case(g, c, &e) == DECODE_OK) {
        if (!oracle_row_usable(insn_row(&c->insn), g->mode, &why) || !finish_case(g, c, &e))
            return ORACLE_MUTANT_NONE;
        /* but not what traps half-way, or shows TF */
        c->step |= !(c->insn.flags & (INSN_REP | INSN_REPNE) || insn_row(&c->insn)->attr & ROW_VSIB ||
                     insn_row(&c->insn)->op == &op_pushf);
        return ORACLE_MUTANT_VALID;
    }
    c->insn = (struct insn){ .len = c->len, .base = R_ZERO, .index = R_ZERO };
    c->step = true;
    oracle_fill_regs(g, &c->in);
    c->in.rip = 64 + (oracle_segmented(g->mode) ? 0 : ORACLE_CODE);
    return ORACLE_MUTANT_INVALID;
}
