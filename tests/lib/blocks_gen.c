/*
 * Random code: instances of all rows of the instruction table, one after the other, with jumps, loops, calls and
 * stores into the code between them, and a state to begin with in which it runs for a while.
 *
 * A few registers hold addresses in the data pages, and their values are followed through the code, so that memory
 * operands can be aimed by their displacements; other instructions leave them alone most of the time. Also followed is
 * which arithmetic flags the manual leaves undefined: none is read by what comes, a CMP is put before.
 *
 * All is made from the seed alone; nothing is executed meanwhile.
 */
#include "cpu/float80.h"
#include "cpu/ops.h"
#include "tests/lib/blocks_build.h"

#include <string.h>

/* --- Rows --------------------------------------------------------------------------------------------------------- */

#define IS_ONE_OF(what, ...) \
    op_is_one_of(what, (const struct op *const[]){ __VA_ARGS__ }, \
              G_N_ELEMENTS(((const struct op *const[]){ __VA_ARGS__ })))

/* Their results depend on the time, on chance or on the host; or they wait for something that does not come. */
static bool is_excluded(const struct op *op)
{
    if (!op || IS_ONE_OF(op, &op_rdtsc, &op_rdtscp, &op_rdpmc, &op_rdrand, &op_rdseed, &op_rcpps, &op_rcpss,
                         &op_rsqrtps, &op_rsqrtss, &op_hlt, &op_mwait, &op_vmcall, &op_vmmcall))
        return true;
    return !float80_exact_math && IS_ONE_OF(op, &op_f2xm1, &op_fyl2x, &op_fyl2xp1, &op_fptan, &op_fpatan, &op_fsin,
                                            &op_fcos, &op_fsincos);
}

void blocks_trace(struct blocks_machine *b, const struct insn *i)
{
    const struct blocks_case *c = b->traced;

    b->traced_open |= is_excluded(insn_row(i)->op) && insn_row(i)->op != &op_hlt;
    if (c->mode == BLOCKS_REAL && b->insn_phys == UINT32_MAX)
        b->traced_open = true; /* code in the device: what is read at once is an engine's own business */
    b->traced_search |= insn_row(i)->attr & ROW_REPZ && i->flags & (INSN_REP | INSN_REPNE);
    bool repeated = i->flags & (INSN_REP | INSN_REPNE) && b->insn_phys < BLOCKS_RAM_BYTES - 15;
    if (repeated && memcmp(b->mem + b->insn_phys, b->insn_bytes, i->len) != 0)
        b->traced_open = true; /* overwrites itself: whether it is fetched anew in between is open */
    if (b->insn_phys / BLOCKS_PAGE != PAGE_HANDLERS && b->insn_phys - c->code_phys >= c->code_len)
        b->traced_wild = true;
}

static bool is_vex(const struct insn_row *row)
{
    return row->map == MAP_VEX_0F || row->map == MAP_VEX_0F38 || row->map == MAP_VEX_0F3A;
}

static enum row_class row_class(const struct insn_row *row)
{
    if (row->end == END_JUMP)
        return CLASS_JUMP;
    if (row->attr & (ROW_CPL0 | ROW_IOPL | ROW_UNORDERED) || row->end != END_NONE ||
        IS_ONE_OF(row->op, &op_mov_to_seg, &op_pop_seg, &op_lds, &op_les, &op_lss, &op_lfs, &op_lgs))
        return CLASS_SYSTEM;
    if (row->attr & ROW_FPU)
        return CLASS_X87;
    if (row->attr & ROW_MMX)
        return CLASS_MMX;
    if (is_vex(row))
        return CLASS_AVX;
    if (row->attr & ROW_SSE)
        return CLASS_SSE;
    return row->attr & (ROW_REP | ROW_REPZ) ? CLASS_STRING : CLASS_INTEGER;
}

static void sort_rows(struct blocks_gen *b)
{
    for (unsigned k = 0; k < insn_row_count; k++) {
        const struct insn_row *row = &insn_rows[k];
        if (is_excluded(row->op))
            continue;
        uint16_t n = (uint16_t)k;
        if (!(row->attr & ROW_64_ONLY))
            g_array_append_val(b->rows[0][row_class(row)], n);
        if (!(row->attr & ROW_NO_64))
            g_array_append_val(b->rows[1][row_class(row)], n);
    }
}

/* --- What an instruction writes ----------------------------------------------------------------------------------- */

static unsigned general_register(unsigned r)
{
    return 1u << (r >= R_HIGH_BYTE ? r - R_HIGH_BYTE : r);
}

static unsigned operand_register(const struct insn *i, unsigned n)
{
    switch (operand_info[insn_row(i)->operands[n]].method) {
    case METHOD_G: return general_register(i->reg);
    case METHOD_E: case METHOD_R: return i->flags & INSN_MEM ? 0 : general_register(i->rm);
    case METHOD_Z: return general_register(i->rm);
    case METHOD_B: return general_register(i->vvvv);
    default: return 0;
    }
}

static unsigned implicit_registers(const struct insn *i)
{
    const struct insn_row *row = insn_row(i);
    const struct op *op = row->op;
    unsigned strings = 1u << R_RSI | 1u << R_RDI;

    if (row->attr & (ROW_REP | ROW_REPZ))
        return strings | 1u << R_RAX | (i->flags & (INSN_REP | INSN_REPNE) ? 1u << R_RCX : 0);
    if (IS_ONE_OF(op, &op_leave, &op_enter))
        return 1u << R_RBP | 1u << R_RSP;
    if (op == &op_popa)
        return 0xff;
    if (IS_ONE_OF(op, &op_loop, &op_loope, &op_loopne, &op_pcmpestri, &op_pcmpistri))
        return 1u << R_RCX;
    if (IS_ONE_OF(op, &op_cpuid))
        return 0xf;
    if (IS_ONE_OF(op, &op_syscall, &op_sysenter, &op_sysret, &op_sysexit))
        return 1u << R_RCX | 1u << R_R11 | 1u << R_RSP;
    return 1u << R_RAX | 1u << R_RDX;
}

/* The general registers that it may change, roughly: too many rather than too few. */
static unsigned written_registers(const struct insn *i)
{
    const struct op *op = insn_row(i)->op;
    unsigned r = implicit_registers(i);

    if (IS_ONE_OF(op, &op_cmp_load, &op_cmp_store, &op_cmp_imm, &op_test_store, &op_test_imm, &op_push, &op_bt_reg,
                  &op_bt_imm, &op_call_near, &op_jmp_near, &op_nop))
        return r;
    r |= operand_register(i, 0);
    if (IS_ONE_OF(op, &op_xchg, &op_xadd, &op_mulx, &op_xchg_acc))
        r |= operand_register(i, 1);
    return r;
}

/* --- Addresses ---------------------------------------------------------------------------------------------------- */

static uint64_t window(const struct blocks_gen *b, unsigned page)
{
    return b->data_base + page * BLOCKS_PAGE;
}

/* Bytes near each other, so that loads find what stores have left, or anywhere in the page. */
static unsigned place_in_page(struct blocks_gen *b, bool aligned)
{
    unsigned at = oracle_percent(&b->g, 55) ? 0x100 + oracle_below(&b->g, 96) : oracle_below(&b->g, BLOCKS_PAGE - 64);
    return aligned && oracle_percent(&b->g, 95) ? at & ~31u : at;
}

static uint64_t edge_of_world(struct blocks_gen *b)
{
    if (b->c->mode != BLOCKS_LONG)
        return UINT32_MAX - oracle_below(&b->g, 32);
    return oracle_percent(&b->g, 50) ? UINT64_C(0x800000000000) - oracle_below(&b->g, 24)
                                     : oracle_random(&b->g) >> 16 | UINT64_C(0x4000) << 48;
}

/* Linear, for a memory operand. */
uint64_t blocks_data_address(struct blocks_gen *b, bool aligned)
{
    static const uint8_t plain[] = { 1, 1, 1, 2, 2, 4, 4, 7, 9 };
    unsigned kind = oracle_below(&b->g, 202), back = oracle_below(&b->g, 40), at = place_in_page(b, aligned);

    if (aligned)
        back &= ~15u;
    if (b->c->changes_itself && oracle_percent(&b->g, 3))
        return b->code_linear + oracle_below(&b->g, 300);
    if (kind < 3) /* beside the code */
        return b->data_base + b->c->code_phys + 0x200 + at % 0x400;
    if (kind < 164)
        return window(b, PAGE_DATA + plain[oracle_below(&b->g, sizeof plain)]) + at;
    if (kind < 188)
        return window(b, PAGE_DATA + 2) - back; /* both writable */
    if (kind < 190)
        return window(b, PAGE_DATA + 3) - back; /* into a hole */
    if (kind < 192)
        return window(b, PAGE_DATA + 5) - back; /* into a read-only page */
    if (kind < 193)
        return window(b, PAGE_DATA + 1) - back; /* from a hole */
    if (kind < 195)
        return window(b, PAGE_DATA + 5) + at;
    if (kind < 196)
        return window(b, PAGE_DATA + 6) + at; /* supervisors' */
    if (kind < 197)
        return window(b, PAGE_DATA + 7) - back; /* from there into one not accessed yet */
    if (kind < 198)
        return window(b, PAGE_DATA + 3) + at;
    return kind < 199 ? edge_of_world(b) : window(b, PAGE_DATA + 10) + (kind & 1 ? at : (unsigned)-(int)back);
}

static uint64_t segment_base(const struct blocks_gen *b, unsigned seg)
{
    return seg >= SEG_LDTR || (b->c->mode == BLOCKS_LONG && seg < SEG_FS) ? 0 : b->c->start.seg[seg].base;
}

static bool is_known(const struct blocks_gen *b, unsigned r)
{
    return r >= R_ZERO || b->known >> r & 1;
}

static uint64_t value_of(const struct blocks_gen *b, unsigned r, unsigned len)
{
    return r == R_RIP ? b->c->start.rip + b->c->code_len + len : r == R_ZERO ? 0 : b->value[r];
}

/* Puts the operand where it is interesting, as far as the displacement reaches. */
static void aim(struct blocks_gen *b, struct oracle_encoder *e, const struct insn *i)
{
    const struct insn_row *row = insn_row(i);
    bool vsib = row->attr & ROW_VSIB, aligned = row->attr & ROW_ALIGN || row->op == &op_cmpxchg16b;
    unsigned bytes = row->attr & ROW_MODRM ? e->disp_bytes : 1u << i->asize;

    if (!e->disp_at)
        return;
    uint64_t base = value_of(b, i->base, i->len) + segment_base(b, i->seg);
    if (!vsib)
        base += value_of(b, i->index, i->len) << i->scale;
    uint64_t target = blocks_data_address(b, aligned);
    if (bytes == 1) { /* near the base */
        int d = (int8_t)e->b[e->disp_at];
        if (!aligned || oracle_percent(&b->g, 5))
            return;
        d -= (int)((base + (uint64_t)d) & 31);
        e->b[e->disp_at] = (uint8_t)(d < -128 ? d + 32 : d);
        return;
    }
    uint64_t d = target - base;
    if (bytes == 4 && b->c->mode == BLOCKS_LONG && (uint64_t)(int64_t)(int32_t)d != d)
        d = oracle_below(&b->g, 64);
    for (unsigned n = 0; n < bytes; n++)
        e->b[e->disp_at + n] = (uint8_t)(d >> 8 * n);
}

/* --- Emitting ----------------------------------------------------------------------------------------------------- */

void blocks_emit(struct blocks_gen *b, const uint8_t *bytes, unsigned len)
{
    struct blocks_case *c = b->c;

    g_assert(c->count < BLOCKS_ITEMS && c->code_len + len <= sizeof c->code);
    c->items[c->count++] = (struct blocks_item){ .at = c->code_len, .undef = b->undef, .len = (uint8_t)len };
    memcpy(c->code + c->code_len, bytes, len);
    c->code_len = (uint16_t)(c->code_len + len);
    c->undef_any |= b->undef;
}

/* CMP of two registers: all arithmetic flags are known behind it. */
void blocks_define_flags(struct blocks_gen *b)
{
    uint8_t bytes[] = { 0x39, (uint8_t)(0xc0 | oracle_below(&b->g, 64)) };
    blocks_emit(b, bytes, 2);
    b->c->items[b->c->count - 1].keep = true;
    b->undef = 0;
}

/* MOV register, immediate; returns where the immediate stands in the code. */
unsigned blocks_move(struct blocks_gen *b, unsigned r, uint64_t v)
{
    uint8_t bytes[10];
    unsigned n = 0, size = 4;

    if (b->c->mode == BLOCKS_LONG) {
        size = v > UINT32_MAX ? 8 : 4;
        if (size == 8 || r >= 8)
            bytes[n++] = (uint8_t)(0x40 | (size == 8 ? 8 : 0) | r >> 3);
    } else if (blocks_code_size(b->c->mode) == 1) {
        size = 2;
    }
    bytes[n++] = (uint8_t)(0xb8 | (r & 7));
    for (unsigned k = 0; k < size; k++)
        bytes[n + k] = (uint8_t)(v >> 8 * k);
    unsigned at = b->c->code_len + n;
    blocks_emit(b, bytes, n + size);
    b->value[r] = v;
    b->known |= 1u << r;
    return at;
}

/* --- One instruction ---------------------------------------------------------------------------------------------- */

/* Offset in segment s. */
static uint64_t offset_in(struct blocks_gen *b, enum seg s)
{
    uint64_t v = blocks_data_address(b, false) - segment_base(b, s);
    return blocks_code_size(b->c->mode) == 1 ? (uint16_t)v : b->c->mode == BLOCKS_LONG ? v : (uint32_t)v;
}

static void prepare_string(struct blocks_gen *b, const struct insn *i)
{
    if (i->flags & (INSN_REP | INSN_REPNE) && oracle_percent(&b->g, 95))
        blocks_move(b, R_RCX, oracle_below(&b->g, oracle_percent(&b->g, 80) ? 12 : 600));
    if (oracle_percent(&b->g, is_known(b, R_RSI) ? 40 : 96))
        blocks_move(b, R_RSI, offset_in(b, SEG_DS));
    if (oracle_percent(&b->g, is_known(b, R_RDI) ? 40 : 96))
        blocks_move(b, R_RDI, offset_in(b, SEG_ES));
}

static void prepare_msr(struct blocks_gen *b)
{
    static const uint32_t numbers[] = { 0xc0000081, 0xc0000082, 0xc0000084, 0xc0000100, 0xc0000101,
                                        0xc0000102, 0x174,      0x175,      0x176,      0x277 };
    blocks_move(b, R_RCX, numbers[oracle_below(&b->g, G_N_ELEMENTS(numbers))]);
    if (oracle_percent(&b->g, 70))
        blocks_move(b, R_RDX, 0);
}

/* Puts what it needs into registers. `free`: registers that may be changed for it. */
static void prepare(struct blocks_gen *b, const struct insn *i, unsigned free)
{
    const struct insn_row *row = insn_row(i);
    const struct op *op = row->op;

    if (row->attr & (ROW_REP | ROW_REPZ) && (free & 0xc2) == 0xc2)
        prepare_string(b, i);
    if (IS_ONE_OF(op, &op_div, &op_idiv) && oracle_percent(&b->g, 65))
        blocks_move(b, i->osize ? R_RDX : R_RAX, oracle_below(&b->g, 200));
    if (IS_ONE_OF(op, &op_bt_reg, &op_bts_reg, &op_btr_reg, &op_btc_reg) && i->flags & INSN_MEM && i->reg < 16 &&
        free >> i->reg & 1)
        blocks_move(b, i->reg, oracle_below(&b->g, 4000));
    if (op == &op_xlat && oracle_percent(&b->g, 80) && free >> R_RBX & 1)
        blocks_move(b, R_RBX, offset_in(b, SEG_DS));
    if (IS_ONE_OF(op, &op_maskmovq, &op_maskmovdqu) && oracle_percent(&b->g, 90) && free >> R_RDI & 1)
        blocks_move(b, R_RDI, offset_in(b, SEG_DS));
    if (op == &op_leave && oracle_percent(&b->g, 90) && free >> R_RBP & 1)
        blocks_move(b, R_RBP, b->value[R_RSP]);
    if (IS_ONE_OF(op, &op_loop, &op_loope, &op_loopne, &op_jrcxz) && oracle_percent(&b->g, 60) && free >> R_RCX & 1)
        blocks_move(b, R_RCX, oracle_below(&b->g, 3));
    if (IS_ONE_OF(op, &op_rdmsr, &op_wrmsr) && (free & 6) == 6)
        prepare_msr(b);
    if (IS_ONE_OF(op, &op_in_dx, &op_out_dx, &op_ins, &op_outs) && free >> R_RDX & 1)
        blocks_move(b, R_RDX, 0x1000 + oracle_below(&b->g, 16));
    if (op == &op_cmpxchg && !(i->flags & INSN_MEM) && i->rm < 16 && is_known(b, i->rm) && oracle_percent(&b->g, 70))
        blocks_move(b, R_RAX, b->value[i->rm]);
}

/* More undefined flags than the row can tell: they depend on the count. */
static unsigned undefined_flags(const struct insn *i)
{
    const struct insn_row *row = insn_row(i);
    if (i->osize < 2 && IS_ONE_OF(row->op, &op_shl_imm, &op_shl_cl, &op_shr_imm, &op_shr_cl, &op_sar_imm, &op_sar_cl))
        return row->flags_undefined | FLAG_CF;
    return row->flags_undefined;
}

/* A word shifted by more than its size, or byte-swapped: the manual does not say what comes of it. */
static bool is_undefined(const struct insn *i)
{
    const struct op *op = insn_row(i)->op;
    return (i->osize == 1 && (op == &op_shld_cl || op == &op_shrd_cl ||
                              (IS_ONE_OF(op, &op_shld_imm, &op_shrd_imm) && (i->imm & 31) > 16))) ||
           (op == &op_bswap && i->osize == 1);
}

static bool choose(struct blocks_gen *b, const struct insn_row *row, struct oracle_encoder *e, struct insn *i)
{
    struct decode_mode mode = { .code_size = (uint8_t)blocks_code_size(b->c->mode),
                                .stack32 = b->c->start.seg[SEG_SS].attr & SEG_DB,
                                .protected_mode = blocks_protected(b->c->mode) };

    oracle_encode(&b->g, row, e);
    if (decode_insn(e->b, 15, mode, i) != DECODE_OK || insn_row(i) != row || is_undefined(i))
        return false;
    unsigned writes = written_registers(i);
    if (writes & b->counters || (writes & b->pointers && oracle_percent(&b->g, 88)))
        return false;
    bool vsib = row->attr & ROW_VSIB, addressed = i->flags & INSN_MEM && row->attr & ROW_MODRM;
    return !addressed || (is_known(b, i->base) && (vsib || is_known(b, i->index))) || oracle_percent(&b->g, 4);
}

static const struct insn_row *random_row(struct blocks_gen *b, enum row_class k)
{
    const GArray *rows = b->rows[b->c->mode == BLOCKS_LONG][k];
    return &insn_rows[g_array_index(rows, uint16_t, oracle_below(&b->g, rows->len))];
}

static void after(struct blocks_gen *b, const struct insn *i)
{
    b->known &= ~(written_registers(i) & ~(1u << R_RSP));
    b->undef = (uint16_t)((b->undef & ~insn_row(i)->flags_written) | undefined_flags(i));
}

/* A jump goes to a label some instructions on. */
static void connect(struct blocks_gen *b, const struct oracle_encoder *e, const struct insn *i)
{
    unsigned size = i->len - e->n;
    int label = blocks_label(b);

    if (label < 0)
        return;
    blocks_refer(b, label, REFER_RELATIVE, b->c->code_len - size, size);
    b->skips[b->skip_count++] = (struct skip){ label, oracle_below(&b->g, 6) };
}

void blocks_plain(struct blocks_gen *b, enum row_class k)
{
    struct oracle_encoder e;
    struct insn i;

    for (unsigned tries = 0; tries < 12; tries++) {
        const struct insn_row *row = random_row(b, k);
        if (!choose(b, row, &e, &i))
            continue;
        if (row->end == END_JUMP && b->skip_count == MAX_SKIPS)
            return;
        prepare(b, &i, ~b->counters);
        if (row->flags_read & b->undef)
            blocks_define_flags(b);
        aim(b, &e, &i);
        blocks_emit(b, e.b, i.len);
        b->used[i.row]++;
        after(b, &i);
        if (row->end == END_JUMP)
            connect(b, &e, &i);
        return;
    }
}

/* An instruction for code that is to be replaced: short, and needing no preparation. */
unsigned blocks_short(struct blocks_gen *b, uint8_t *bytes, unsigned most, struct insn *i)
{
    struct oracle_encoder e;

    for (unsigned tries = 0; tries < 40; tries++) {
        const struct insn_row *row = random_row(b, CLASS_INTEGER);
        if (!choose(b, row, &e, i) || i->len > most || row->flags_undefined & ~FLAG_AF || i->base == R_RIP)
            continue;
        aim(b, &e, i);
        memcpy(bytes, e.b, i->len);
        return i->len;
    }
    return 0;
}

/* --- State to begin with ------------------------------------------------------------------------------------------ */

static void load_values(struct blocks_gen *b)
{
    struct cpu *s = &b->c->start;
    struct oracle_regs in;

    oracle_fill_regs(&b->g, &in);
    memcpy(s->r, in.r, sizeof in.r);
    memcpy(s->v, in.v, sizeof in.v);
    s->rflags |= in.rflags;
    s->mxcsr = in.mxcsr;
    s->fpu.cw = in.fcw;
    s->fpu.top = in.fsw >> 11 & 7;
    s->fpu.sw = in.fsw & ~0x3800;
    s->fpu.tag_valid = in.ftag;
    s->fpu.opcode = in.fop;
    s->fpu.ip = in.fip;
    s->fpu.dp = in.fdp;
    for (unsigned n = 0; n < 8; n++)
        s->fpu.st[(s->fpu.top + n) & 7] = in.st[n];
    /* Most blocks shall not end at their first floating-point instruction. */
    if (oracle_percent(&b->g, 70))
        s->mxcsr |= 0x1f80;
    if (oracle_percent(&b->g, b->c->number & BLOCKS_FLOATS ? 90 : 60)) {
        s->fpu.cw |= 0x3f;
        s->fpu.sw &= 0x7f00;
    }
}

/* A data breakpoint on what pointers name, or an instruction breakpoint in the code; once in a while. */
static void vary_breakpoints(struct blocks_gen *b)
{
    struct cpu *s = &b->c->start;
    unsigned n = oracle_below(&b->g, 4), kind = oracle_below(&b->g, 3), len = kind ? oracle_below(&b->g, 4) : 0;

    if (!oracle_percent(&b->g, 1))
        return;
    s->dr[n] = kind ? blocks_data_address(b, true) : b->code_linear + oracle_below(&b->g, 100);
    s->dr7 |= 1u << 2 * n | (uint64_t)((kind == 2 ? 3 : kind) | len << 2) << (16 + 4 * n);
}

/* Control bits, seldom other than usual. */
static void vary_control(struct blocks_gen *b)
{
    struct cpu *s = &b->c->start;
    struct oracle_gen *g = &b->g;

    if (oracle_percent(g, 2))
        s->rflags |= FLAG_AC;
    if (oracle_percent(g, 1))
        s->rflags |= FLAG_NT;
    if (oracle_below(g, 400) == 0)
        s->rflags |= FLAG_TF;
    if (b->c->mode == BLOCKS_V86 ? oracle_percent(g, 80) : oracle_percent(g, 20))
        s->rflags |= FLAG_IOPL;
    if (oracle_percent(g, 30))
        s->rflags &= ~(uint64_t)FLAG_IF;
    if (oracle_percent(g, 2))
        s->cr0 |= CR0_TS;
    if (oracle_below(g, 150) == 0)
        s->cr0 |= CR0_EM;
    if (oracle_percent(g, 2))
        s->cr0 &= ~(uint64_t)CR0_WP;
    if (oracle_percent(g, 1))
        s->cr4 &= ~(uint64_t)CR4_OSFXSR;
    if (oracle_percent(g, 1))
        s->cr4 &= ~(uint64_t)CR4_OSXSAVE;
    if (oracle_percent(g, 2))
        s->cr4 &= ~(uint64_t)CR4_OSXMMEXCPT;
    if (b->c->mode != BLOCKS_REAL && oracle_percent(g, 8))
        s->cr4 |= (oracle_random(g) & CR4_SMAP) | (b->supervisor ? oracle_random(g) & CR4_SMEP : 0);
    if (b->c->mode == BLOCKS_LONG && oracle_percent(g, 15))
        s->cr4 |= CR4_PCIDE;
    if (b->c->mode != BLOCKS_REAL && oracle_percent(g, 5))
        s->cr4 |= oracle_random(g) & (CR4_TSD | CR4_UMIP | CR4_DE | CR4_PGE | CR4_PKE);
}

/* Where code and data are seen. Bit 21 set: a supervisor's view. */
static void choose_bases(struct blocks_gen *b)
{
    static const uint64_t wide[] = { 0, 0x40000000, 0xc0000000, UINT64_C(0x7f8000000000), UINT64_C(0x7fc040000000),
                                     UINT64_C(0xffff800000000000), UINT64_C(0xffffffffc0000000) };
    static const uint64_t narrow[] = { 0, 0x40000000, 0x80000000, 0xc0000000 };
    struct oracle_gen *g = &b->g;
    bool user = b->c->start.cpl == 3;
    const uint64_t *from = b->c->mode == BLOCKS_LONG ? wide : narrow;
    unsigned count = b->c->mode == BLOCKS_LONG ? G_N_ELEMENTS(wide) : G_N_ELEMENTS(narrow);

    b->code_base = b->data_base = b->alias_base = 0;
    b->supervisor = false;
    if (b->c->mode > BLOCKS_PROT)
        return;
    b->code_base = from[oracle_below(g, count)];
    b->alias_base = from[oracle_below(g, count)];
    b->data_base = oracle_percent(g, 50) ? b->code_base : from[oracle_below(g, count)];
    if (!user && oracle_percent(g, 60)) {
        b->supervisor = true;
        b->code_base += 0x200000;
        b->alias_base += 0x200000;
        b->data_base += oracle_percent(g, 90) ? 0x200000 : 0;
    }
}

/* Near the end of a page, or of the last one, or elsewhere. */
static void choose_place(struct blocks_gen *b)
{
    struct oracle_gen *g = &b->g;
    unsigned page = PAGE_CODE + oracle_below(g, 2), kind = oracle_below(g, 100);

    b->c->code_phys = page * BLOCKS_PAGE + 16 * oracle_below(g, 150) + oracle_below(g, 16);
    if (kind < 15)
        b->c->code_phys = (PAGE_CODE + 1) * BLOCKS_PAGE - oracle_below(g, 120);
    else if (kind < 18)
        b->c->code_phys = PAGE_CODE_END * BLOCKS_PAGE - 1 - oracle_below(g, 200);
    b->code_linear = b->code_base + b->c->code_phys;
    b->c->start.rip = b->code_linear - segment_base(b, SEG_CS);
}

static void set_pointer(struct blocks_gen *b, unsigned r, uint64_t v)
{
    uint64_t *at = &b->c->start.r[r];
    *at = blocks_code_size(b->c->mode) == 1 ? (*at & 0xffff0000) | (uint16_t)v
          : b->c->mode == BLOCKS_LONG       ? v
                                            : (uint32_t)v;
    b->value[r] = blocks_code_size(b->c->mode) == 1 ? (uint16_t)v : *at;
    b->known |= 1u << r;
}

/* Which registers hold addresses, and small numbers to add to them. */
static void choose_pointers(struct blocks_gen *b)
{
    static const uint8_t wide[] = { R_RBX, R_RBP, R_RSI, R_RDI, R_R8, R_R9, R_R10, R_R11, R_R12, R_R13, R_R14, R_R15 };
    struct oracle_gen *g = &b->g;
    unsigned count = b->c->mode == BLOCKS_LONG ? sizeof wide : 4, many = b->c->mode == BLOCKS_LONG ? 5 : 3;
    unsigned bases = 0, indexes = 0;

    b->known = 0;
    while (!bases || oracle_percent(g, 70))
        bases |= 1u << wide[oracle_below(g, count)];
    while ((unsigned)__builtin_popcount(bases) > many)
        bases &= bases - 1;
    if (!(bases & 0xff)) /* reachable without REX */
        bases |= 1u << R_RBX;
    indexes = 1u << wide[oracle_below(g, count)];
    if (blocks_code_size(b->c->mode) == 1) {
        bases = 1u << R_RBX | 1u << R_RBP | (oracle_percent(g, 50) ? 1u << R_RSI : 1u << R_RDI);
        indexes = (1u << R_RSI | 1u << R_RDI) & ~bases;
    }
    indexes &= ~bases;
    for (unsigned r = 0; r < 16; r++)
        if (bases >> r & 1)
            set_pointer(b, r, blocks_data_address(b, true) - segment_base(b, SEG_DS));
        else if (indexes >> r & 1)
            set_pointer(b, r, oracle_percent(g, 80) ? oracle_below(g, 64) : -(uint64_t)oracle_below(g, 64));
    uint64_t stack = oracle_percent(g, 90) ? window(b, PAGE_DATA + 2) + 0x200 + 8 * oracle_below(g, 300)
                                           : blocks_data_address(b, true);
    if (oracle_percent(g, 15)) /* runs into the next page, or into a hole */
        stack = window(b, PAGE_DATA + (oracle_percent(g, 80) ? 2 : 1)) + 8 * oracle_below(g, 12);
    set_pointer(b, R_RSP, stack - segment_base(b, SEG_SS) + (oracle_percent(g, 5) ? oracle_below(g, 8) : 0));
    b->pointers = bases | indexes | 1u << R_RSP;
    b->address = (struct oracle_address){ .bases = (uint16_t)(bases | (oracle_percent(g, 40) ? 1u << R_RSP : 0)),
                                          .indexes = (uint16_t)indexes,
                                          .vector_index = b->c->mode == BLOCKS_LONG ? 15 : 7 };
    union vec *near = &b->c->start.v[b->address.vector_index];
    bool quads = oracle_percent(g, 50);
    for (unsigned n = 0; n < 8; n++)
        near->s32[n] = quads && n & 1 ? 0 : (int)oracle_below(g, 40);
}

/* FS and GS of 64-bit mode. */
static void choose_thread_bases(struct blocks_gen *b)
{
    struct cpu *s = &b->c->start;
    uint64_t near[] = { 0, 0x1234, 0x1000, b->data_base, (uint64_t)-0x800 };

    if (b->c->mode != BLOCKS_LONG)
        return;
    s->seg[SEG_FS].base = near[oracle_below(&b->g, G_N_ELEMENTS(near))];
    s->seg[SEG_GS].base = near[oracle_below(&b->g, G_N_ELEMENTS(near))];
    s->kernel_gs_base = near[oracle_below(&b->g, G_N_ELEMENTS(near))];
}

/* The same code from other values; registers that addresses are made of keep theirs. */
void blocks_gen_again(struct blocks_gen *b, struct blocks_case *c)
{
    struct cpu *s = &c->start;
    uint64_t flags = s->rflags & ~(uint64_t)(FLAGS_ARITH | FLAG_DF);
    struct cpu before = *s;

    b->c = c;
    load_values(b);
    s->rflags = (s->rflags & (FLAGS_ARITH | FLAG_DF)) | flags;
    for (unsigned r = 0; r < 16; r++)
        if (b->pointers >> r & 1)
            s->r[r] = before.r[r];
    s->v[b->address.vector_index] = before.v[b->address.vector_index];
    c->flush = false;
    c->again++;
}

/* --- A case ------------------------------------------------------------------------------------------------------- */

struct blocks_gen *blocks_gen_new(void)
{
    struct blocks_gen *b = g_new0(struct blocks_gen, 1);

    for (unsigned k = 0; k < 2 * CLASSES; k++)
        b->rows[k / CLASSES][k % CLASSES] = g_array_new(FALSE, FALSE, sizeof(uint16_t));
    sort_rows(b);
    b->used = g_new0(unsigned, insn_row_count);
    return b;
}

unsigned blocks_gen_unused(const struct blocks_gen *b, GString *out)
{
    unsigned n = 0;
    for (unsigned row = 0; row < insn_row_count; row++) {
        if (b->used[row] || is_excluded(insn_rows[row].op))
            continue;
        g_string_append_printf(out, " %s (%u)", insn_rows[row].mnemonic, row);
        n++;
    }
    return n;
}

void blocks_gen_free(struct blocks_gen *b)
{
    for (unsigned k = 0; k < 2 * CLASSES; k++)
        g_array_unref(b->rows[k / CLASSES][k % CLASSES]);
    g_free(b->used);
    g_free(b);
}

static void seed_gen(struct blocks_gen *b, uint64_t seed, uint64_t number)
{
    b->g.rng[0] = (seed + 3) * UINT64_C(0x9e3779b97f4a7c15) ^ number * UINT64_C(0xd6e8feb86659fd93);
    b->g.rng[1] = (number + 1) * UINT64_C(0xbf58476d1ce4e5b9) + seed;
    b->g.address = NULL;
    for (unsigned n = 0; n < 8; n++)
        oracle_random(&b->g);
}

struct oracle_gen *blocks_gen_values(struct blocks_gen *b, uint64_t seed, uint64_t number)
{
    seed_gen(b, ~seed, number);
    return &b->g;
}

void blocks_gen_case(struct blocks_gen *b, uint64_t seed, uint64_t number, enum blocks_mode mode, struct blocks_case *c)
{
    static const uint8_t kinds[BLOCKS_MODES] = { ORACLE_64,    ORACLE_32,    ORACLE_32,   ORACLE_SEG32,
                                                 ORACLE_SEG16, ORACLE_SEG16, ORACLE_SEG16 };

    *c = (struct blocks_case){ .seed = seed, .number = number, .mode = mode };
    b->c = c;
    seed_gen(b, seed, number);
    b->g.mode = kinds[mode];
    blocks_start_state(&c->start, mode, oracle_percent(&b->g, 50) ? 3 : 0);
    c->flush = oracle_percent(&b->g, 20);
    c->changes_itself = oracle_percent(&b->g, 8);
    c->undef_any = c->changes_itself ? FLAG_AF : 0;
    b->undef = 0;
    b->counters = 0;
    choose_bases(b);
    choose_place(b);
    load_values(b);
    vary_control(b);
    choose_thread_bases(b);
    choose_pointers(b);
    vary_breakpoints(b);
    b->g.address = &b->address;
    blocks_compose(b);
    b->g.address = NULL;
}
