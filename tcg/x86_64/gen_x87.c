/*
 * Templates for the x87: the guest's own instruction on the host's unit, which has the guest's whole state meanwhile.
 *
 * All exceptions are masked: while any is not, the interpreter's handlers do all of it (KEY_MF), so that none is ever
 * pending here. What the host's unit remembers of its last instruction is of no use. The guest's FIP and FOP, which
 * belong to the last instruction of a run of them, are written at its end; FDP and FDS, on models that keep them
 * without an unmasked exception, by each instruction that has an operand in memory. In between struct fpu has older
 * ones: no C code may see it then.
 *
 * Handlers stay in charge of what sets or shows that state as a whole: FNINIT, FLDENV, FNSTENV, FRSTOR, FNSAVE.
 *
 * Intel SDM volume 1, chapter 8, and volume 2.
 */
#include "cpu/float80.h"
#include "cpu/mem.h"
#include "cpu/ops.h"
#include "tcg/x86_64/gen.h"

/* --- The last instruction ---------------------------------------------------------------------------------------- */

/* Models without it keep FOP and FDP up to date with every instruction. */
static bool notes_operand(const struct gen *g)
{
    return !cpu_has(g->s->cpu, FEAT_FDP_EXCPTN_ONLY);
}

static struct hmem selector(unsigned seg)
{
    return gen_state(offsetof(struct cpu, seg) + seg * sizeof(struct segment) + offsetof(struct segment, selector));
}

void gen_x87_note(struct gen *g, const struct guest_insn *at)
{
    struct emit *e = &g->e;
    gen_rip(g, at->off);
    if (g->s->cpu->code_size == 1)
        emit_extend_reg(e, false, 1, 2, H_RAX, H_RAX);
    emit_store(e, 3, H_RAX, STATE(fpu.ip));
    emit_load(e, 1, H_RAX, selector(SEG_CS));
    emit_store(e, 1, H_RAX, STATE(fpu.cs));
    if (notes_operand(g)) {
        struct enc mov = { .opcode = 0xc7, .prefix = 0x66, .imm_size = 2, .imm = (int64_t)(at->i.imm & 0x7ff) };
        emit_mem(e, &mov, 0, STATE(fpu.opcode));
    }
}

void gen_x87_settle(struct gen *g)
{
    if (g->x87_at)
        gen_x87_note(g, g->x87_at);
    g->x87_at = NULL;
}

/* Of an instruction that has not faulted. */
static void note_operand(struct gen *g, const struct insn *i)
{
    gen_address(g, i);
    emit_store(&g->e, 3, H_R9, STATE(fpu.dp));
    emit_load(&g->e, 1, H_RAX, selector(i->seg == SEG_FLAT ? SEG_DS : i->seg == SEG_FLAT_STACK ? SEG_SS : i->seg));
    emit_store(&g->e, 1, H_RAX, STATE(fpu.ds));
}

/* --- Instructions ------------------------------------------------------------------------------------------------ */

static unsigned operand_bytes(const struct insn_row *row)
{
    switch (operand_info[row->operands[0]].type) {
    case TYPE_w: return 2;
    case TYPE_d: return 4;
    case TYPE_q: return 8;
    default: return 10;
    }
}

/* FST FSTP FNSTCW; FISTTP FIST FISTP FSTP; FISTTP FST FSTP FNSTSW; FISTTP FIST FISTP FBSTP FISTP: a bit per digit. */
static bool is_store(const struct insn_row *row)
{
    static const uint8_t digits[8] = { [1] = 0x8c, [3] = 0x8e, [5] = 0x8e, [7] = 0xce }; /* D9, DB, DD, DF */
    return digits[row->opcode & 7] >> row->digit & 1;
}

static void emit_x87_mem(struct gen *g, const struct insn *i)
{
    const struct insn_row *row = insn_row(i);
    struct enc c = { .opcode = row->opcode };
    gen_flags_clobber(g);
    const uint8_t *again = g->e.at;
    struct hmem m = gen_mem(g, i, operand_bytes(row), is_store(row), 0);
    g->cold[g->slow].again = again;
    emit_mem(&g->e, &c, (unsigned)row->digit, m);
}

/* True: the TLB has the operand of the instruction under way. */
static bool reach(struct cpu *cpu, const struct insn *i)
{
    const struct insn_row *row = insn_row(i);
    unsigned bytes = operand_bytes(row);
    uint64_t addr = insn_linear(cpu, i, bytes, is_store(row));
    if (is_store(row))
        mem_probe_write(cpu, addr, bytes, i->seg);
    else
        mem_probe_read(cpu, addr, bytes, i->seg);
    const struct tlb_entry *t = &cpu->tlb->e[tlb_index(addr)];
    return addr - (is_store(row) ? t->tag_write : t->tag_read) <= PAGE_SIZE - bytes;
}

/* Moving all registers out and in again, for a handler's sake, takes longer than the page walk that is needed. */
uint64_t gen_x87_reach(struct cpu *cpu, const struct insn *i)
{
    uint64_t epoch = jit_epoch(cpu->jit);
    jit_flags_from_code(cpu);
    cpu->insn = i;
    /* #AC comes first: with alignment checks on all that asks goes to the handler. */
    cpu->reached = cpu->tlb != &cpu->tlbs->none && reach(cpu, i);
    bool leave = jit_epoch(cpu->jit) != epoch;
    if (leave)
        cpu->rip = cpu_rip(cpu);
    cpu->insn = NULL;
    return leave;
}

static void emit_x87_reg(struct gen *g, const struct insn *i)
{
    const struct insn_row *row = insn_row(i);
    gen_flags_keep(g, row->flags_written ? row->flags_written : FLAGS_ARITH, row->flags_read);
    emit8(&g->e, row->opcode);
    emit8(&g->e, row->modrm >= 0 ? (unsigned)row->modrm : 0xc0u | (unsigned)row->digit << 3 | (i->rm & 7));
    if (row->flags_written)
        gen_flags_written(g);
}

static void gen_x87(struct gen *g, const struct insn *i, unsigned arg)
{
    gen_load_state(g, LOADED_X87);
    if (i->flags & INSN_MEM) {
        emit_x87_mem(g, i);
        if (notes_operand(g))
            note_operand(g, i);
    } else {
        emit_x87_reg(g, i);
    }
    g->x87_at = g->g;
}

/* FNSTCW, FNSTSW m16: the last instruction stays what it is. */
static void gen_store_control(struct gen *g, const struct insn *i, unsigned arg)
{
    gen_load_state(g, LOADED_X87);
    emit_x87_mem(g, i);
}

static void gen_fnstsw_ax(struct gen *g, const struct insn *i, unsigned arg)
{
    gen_load_state(g, LOADED_X87);
    emit8(&g->e, 0xdf);
    emit8(&g->e, 0xe0);
    emit_op_reg(&g->e, 0x8b, 1, GUEST_RAX, H_RAX);
}

static void gen_fnclex(struct gen *g, const struct insn *i, unsigned arg)
{
    gen_load_state(g, LOADED_X87);
    emit8(&g->e, 0xdb);
    emit8(&g->e, 0xe2);
}

/* A control word that unmasks something changes who runs what follows: its handler loads it. */
static void gen_fldcw(struct gen *g, const struct insn *i, unsigned arg)
{
    struct emit *e = &g->e;
    struct enc fldcw = { .opcode = 0xd9 };
    gen_load_state(g, LOADED_X87);
    emit_extend_mem(e, false, 1, 2, H_RAX, gen_mem(g, i, 2, false, 0));
    emit_op_reg(e, 0x8b, 2, H_RCX, H_RAX);
    emit_alu_imm(e, ALU_AND, 2, H_RCX, FPU_EXCEPTIONS);
    emit_alu_imm(e, ALU_CMP, 2, H_RCX, FPU_EXCEPTIONS);
    gen_slow_if(g, CC_NZ);
    emit_store(e, 1, H_RAX, STATE(fpu.cw)); /* where it will be saved to */
    emit_mem(e, &fldcw, 5, STATE(fpu.cw));
}

/* --- Rows -------------------------------------------------------------------------------------------------------- */

void gen_templates_x87(struct gen_template *t)
{
    static const struct { const struct op *op; gen_fn *fn; } others[] = {
        { &op_fwait, gen_nothing }, { &op_fldcw, gen_fldcw }, { &op_fnstcw, gen_store_control },
        { &op_fnstsw_m16, gen_store_control }, { &op_fnstsw_ax, gen_fnstsw_ax },
        { &op_fnclex, gen_fnclex }, { &op_fninit, NULL }, { &op_fneni, NULL }, { &op_fldenv, NULL },
        { &op_fnstenv, NULL }, { &op_frstor, NULL }, { &op_fnsave, NULL },
    };
    for (unsigned row = 0; row < insn_row_count; row++) {
        gen_fn *fn = insn_rows[row].map == MAP_X87 ? gen_x87 : NULL;
        for (unsigned k = 0; k < G_N_ELEMENTS(others); k++)
            if (insn_rows[row].op == others[k].op)
                fn = others[k].fn;
        if (fn)
            t[row] = (struct gen_template){ fn, 0, GEN_X87 };
    }
}
