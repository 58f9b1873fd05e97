/*
 * Templates for the stack, and one check for several accesses to it.
 *
 * A `run` is a piece of straight code whose accesses relative to RSP lie so close together that they are checked at once, before
 * the first of them: against the page in which the stack was found last (struct tlb_stack), which needs no search in the TLB and
 * whose addend no access has to wait for. Nothing in a run can change the view of memory. Where the check fails, and where any
 * instruction of a run goes to its handler, handlers do the rest of the run (INSN_RUN): what was checked may not hold any more.
 * RSP moves at the end of the run only, and when an instruction asks for it; the way to a handler sets it right.
 * An access that has no neighbours goes by the TLB if it must, so that only what keeps lying across two pages is slow in a run;
 * run.c takes notice and has such code translated without.
 */
#include "cpu/ops.h"
#include "tcg/x86_64/gen.h"

#define WORD 8

/* --- Where an instruction accesses the stack ------------------------------------------------------------------------------- */

struct stack_use {
    bool stop;         /* it cannot be in a run */
    bool last;         /* it ends one */
    bool r9;           /* some template may use R9 */
    unsigned accesses;
    int32_t low, high; /* of all accesses, relative to RSP before the first instruction of the run */
    int32_t sp;        /* RSP afterwards, likewise */
};

static bool is_stack_operand(const struct source *s, const struct insn *i)
{
    return i->flags & INSN_MEM && i->base == R_RSP && i->index == R_ZERO && i->asize == s->cpu->stack_size &&
           i->seg != SEG_FS && i->seg != SEG_GS && i->seg != SEG_CS && i->disp == (int16_t)i->disp;
}

/* As many as 8 bytes, which is what all templates of integer instructions access at most. */
static void add_access(struct stack_use *u, int64_t at)
{
    u->low = u->accesses ? MIN(u->low, (int32_t)at) : (int32_t)at;
    u->high = u->accesses ? MAX(u->high, (int32_t)at + WORD) : (int32_t)at + WORD;
    u->accesses++;
}

static bool names_sp(const struct insn *i)
{
    return i->reg == R_RSP || i->vvvv == R_RSP || (!(i->flags & INSN_MEM) && i->rm == R_RSP);
}

static bool is_mov_from_sp(const struct insn *i)
{
    const struct op *op = insn_row(i)->op;
    if (i->flags & INSN_MEM || i->reg == i->rm)
        return false;
    return (op == &op_mov_store && i->reg == R_RSP) || (op == &op_mov_load && i->rm == R_RSP);
}

/* Of an instruction that has no access of its own beside a memory operand. */
static void use_plain(const struct source *s, const struct insn *i, struct stack_use *u)
{
    const struct op *op = insn_row(i)->op;
    bool full = i->osize == s->cpu->stack_size;
    if ((op == &op_add_imm || op == &op_sub_imm) && !(i->flags & INSN_MEM) && i->rm == R_RSP) {
        int64_t by = op == &op_add_imm ? (int64_t)i->imm : -(int64_t)i->imm;
        u->stop = !full || by != (int16_t)by;
        u->sp += (int32_t)by;
    } else if (op == &op_lea) {
        u->stop = i->reg == R_RSP && !(full && is_stack_operand(s, i));
        u->sp += i->reg == R_RSP ? (int32_t)i->disp : 0;
    } else {
        u->stop = names_sp(i) && !is_mov_from_sp(i);
        if (is_stack_operand(s, i))
            add_access(u, u->sp + i->disp);
    }
}

/* Whose templates leave R9 alone, if only stack operands are in memory. */
static bool keeps_r9(const struct source *s, const struct insn *i)
{
    static const struct op *const simple[] = {
        &op_mov_store, &op_mov_load, &op_mov_imm, &op_mov_reg_imm, &op_add_store, &op_add_load, &op_add_imm, &op_sub_store,
        &op_sub_load, &op_sub_imm, &op_and_store, &op_and_load, &op_and_imm, &op_or_store, &op_or_load, &op_or_imm,
        &op_xor_store, &op_xor_load, &op_xor_imm, &op_cmp_store, &op_cmp_load, &op_cmp_imm, &op_test_store, &op_test_imm,
        &op_push, &op_push_imm, &op_pop, &op_ret, &op_ret_imm, &op_call_rel,
    };
    const struct op *op = insn_row(i)->op;
    if (s->cpu->stack_size != 3 || i->osize < 2)
        return false;
    if (op == &op_lea)
        return gen_host[i->reg] != H_NONE;
    return op_is_one_of(op, simple, G_N_ELEMENTS(simple)) &&
           (!(i->flags & INSN_MEM) || (op != &op_push && is_stack_operand(s, i)));
}

/* Adds what one more instruction does. */
static void use_stack(const struct gen *g, const struct guest_insn *at, struct stack_use *u)
{
    const struct insn *i = &at->i;
    const struct op *op = insn_row(i)->op;
    int32_t bytes = 1 << i->osize;
    bool call = op == &op_call_rel || op == &op_call_near, ret = op == &op_ret || op == &op_ret_imm;
    u->stop = !at->native || at->crosses;
    if (u->stop)
        return;
    if (call || ret || op == &op_push || op == &op_push_imm || op == &op_pop) {
        if (is_stack_operand(g->s, i))
            add_access(u, u->sp + i->disp);
        if (ret || op == &op_pop)
            add_access(u, u->sp);
        else
            add_access(u, u->sp - bytes);
        u->sp += op == &op_pop ? bytes : -bytes;
        u->last = call || ret;
        u->stop = op == &op_pop && i->rm == R_RSP;
        u->r9 |= !keeps_r9(g->s, i);
    } else {
        u->r9 |= !keeps_r9(g->s, i);
        u->stop = !(g->b->templates[i->row].needs & GEN_PLAIN);
        if (!u->stop)
            use_plain(g->s, i, u);
    }
}

/* --- Runs -------------------------------------------------------------------------------------------------------------------- */

static bool has_room(const struct stack_use *u)
{
    return !u->accesses || u->high - u->low <= TLB_STACK_WORDS * WORD;
}

static bool goes_on(const struct gen *g, unsigned k)
{
    const struct guest_insn *at = &g->s->insns[k];
    return k + 1 < g->s->count && k + 1 != g->s->entry && at->falls && at[1].off == at->i.end && !at[1].leader;
}

void gen_run_plan(struct gen *g, unsigned first)
{
    struct stack_use u = { 0 };
    struct run *run = &g->run;
    if (gen_in_run(g))
        return;
    *run = (struct run){ .first = first, .number = (uint16_t)(run->number + 1) };
    if (!(g->s->key & MODE_FLAT) || g->s->cpu->stack_size == 1 ||
        (g->s->cpu->code_size != 3 && !gen_segment_is_flat(g->s, SEG_SS)))
        return;
    for (unsigned k = first;; k++) {
        struct stack_use with = u;
        use_stack(g, &g->s->insns[k], &with);
        if (with.stop || !has_room(&with) || (k == first && !with.accesses) || g->s->insns[k].alone)
            break;
        if (with.accesses > u.accesses) {
            run->last = k;
            run->accesses = with.accesses;
            run->in_r9 = !with.r9;
            run->low = with.low;
            run->words = (unsigned)(with.high - with.low + WORD - 1) / WORD;
        }
        u = with;
        if (with.last || !goes_on(g, k))
            break;
    }
    for (unsigned k = first; run->accesses && k < run->last; k++)
        g->u->insns[k].flags |= INSN_RUN;
}

void gen_run_forget(struct gen *g)
{
    g->run.accesses = 0;
}

void gen_sync_sp(struct gen *g)
{
    if (gen_in_run(g) && g->run.sp) {
        emit_lea(&g->e, g->s->cpu->stack_size, GUEST_RSP, hmem_base(GUEST_RSP, g->run.sp));
        g->run.sp = 0;
    }
}

void gen_move_sp(struct gen *g, int32_t bytes)
{
    if (gen_in_run(g))
        g->run.sp += bytes;
    else
        emit_lea(&g->e, g->s->cpu->stack_size, GUEST_RSP, hmem_base(GUEST_RSP, bytes));
}

/* Before an instruction in a run that wants RSP itself. */
void gen_run_prepare(struct gen *g, const struct insn *i)
{
    bool operand = i->flags & INSN_MEM && i->base == R_RSP;
    if (names_sp(i) || (operand && (insn_row(i)->op == &op_lea || !is_stack_operand(g->s, i))))
        gen_sync_sp(g);
}

/* Behind the last instruction: here handlers that did the rest of a run come back. */
void gen_run_end(struct gen *g, unsigned k)
{
    if (!gen_in_run(g) || k != g->run.last)
        return;
    gen_sync_sp(g);
    for (unsigned n = 0; n < g->cold_count; n++) {
        struct cold *c = &g->cold[n];
        if (c->run == g->run.number && (c->kind == COLD_HANDLER || c->kind == COLD_SLOT || c->kind == COLD_RUN))
            c->back = g->e.at;
    }
}

/* Address of RSP + disp, in R9 if RSP cannot do. */
static struct hmem sp_address(struct gen *g, int32_t disp)
{
    disp += g->run.sp;
    if (g->s->cpu->stack_size == 3)
        return hmem_base(GUEST_RSP, disp);
    emit_lea(&g->e, 2, H_R9, hmem_base(GUEST_RSP, disp));
    return hmem_base(H_R9, 0);
}

/*
 * RSP has not moved since the run began: its first instruction has the first access, which is one of `bytes`, and for writing if
 * `write`.
 */
static void check_run(struct gen *g, unsigned bytes, bool write)
{
    struct emit *e = &g->e;
    struct run *run = &g->run;
    size_t stack = offsetof(struct tlb, stack);
    gen_flags_clobber(g);
    emit_lea(e, g->s->cpu->stack_size, H_RAX, hmem_base(GUEST_RSP, run->low));
    emit_op_mem(e, 0x2b, 3, H_RAX, hmem_base(H_TLB, (int32_t)(stack + offsetof(struct tlb_stack, page))));
    emit_op_mem(e, 0x3b, 3, H_RAX,
                hmem_base(H_TLB, (int32_t)(stack + offsetof(struct tlb_stack, limit) + (run->words - 1) * sizeof(uint64_t))));
    struct cold *c = gen_cold(g, COLD_RUN);
    c->insn = &g->u->insns[g->g - g->s->insns];
    c->from[c->from_count++] = emit_jcc(e, CC_NB);
    c->again = e->at;
    c->off = run->low;
    c->words = (uint8_t)run->words;
    c->bytes = run->accesses == 1 ? (uint8_t)bytes : 0;
    c->write = write;
    run->cold = c;
}

void gen_run_check(struct gen *g)
{
    if (gen_in_run(g) && !g->run.cold)
        check_run(g, 0, false);
}

void gen_run_owns_r9(struct gen *g)
{
    if (gen_in_run(g) && g->s->cpu->stack_size == 3 && !g->run.in_r9) {
        g->run.in_r9 = true;
        g->run.r9_loaded = false;
    }
}

/* Memory operand at RSP + disp of an instruction in a run. */
static struct hmem run_access(struct gen *g, int32_t disp, unsigned bytes, bool write)
{
    bool first = !g->run.cold; /* else nobody comes back to here from the TLB */
    unsigned addend = g->run.in_r9 ? H_R9 : H_RCX;
    if (first)
        check_run(g, bytes, write);
    struct hmem m = sp_address(g, disp);
    if (!g->run.r9_loaded)
        emit_load(&g->e, 3, addend,
                  hmem_base(H_TLB, (int32_t)(offsetof(struct tlb, stack) + offsetof(struct tlb_stack, addend))));
    m.index = (int8_t)addend;
    g->run.r9_loaded = g->run.in_r9;
    if (first) {
        g->run.cold->found = g->e.at;
        g->run.cold->in_r9 = g->run.in_r9;
    }
    return m;
}

bool gen_run_operand(struct gen *g, const struct insn *i, unsigned bytes, bool write, struct hmem *m)
{
    if (!gen_in_run(g) || !is_stack_operand(g->s, i))
        return false;
    *m = run_access(g, (int32_t)i->disp, bytes, write);
    return true;
}

struct hmem gen_stack(struct gen *g, int32_t disp, unsigned bytes, bool write)
{
    if (gen_in_run(g))
        return run_access(g, disp, bytes, write);
    struct insn at = { .base = R_RSP, .index = R_ZERO, .disp = disp, .asize = g->s->cpu->stack_size, .seg = SEG_SS };
    return gen_mem(g, &at, bytes, write, 0);
}

/* --- Templates ----------------------------------------------------------------------------------------------------------------- */

static void gen_push(struct gen *g, const struct insn *i, unsigned arg)
{
    int32_t bytes = 1 << i->osize;
    if (i->flags & INSN_MEM && g->s->cpu->stack_size == 3) {
        emit_load(&g->e, i->osize, H_R9, gen_rm_mem(g, i, false));
        emit_store(&g->e, i->osize, H_R9, gen_stack(g, -bytes, (unsigned)bytes, true));
    } else if (i->flags & INSN_MEM) { /* R9 is needed for the address */
        emit_load(&g->e, i->osize, H_RAX, gen_rm_mem(g, i, false));
        emit_store(&g->e, 3, H_RAX, STATE(string_element));
        struct hmem m = gen_stack(g, -bytes, (unsigned)bytes, true);
        emit_load(&g->e, 3, H_RAX, STATE(string_element));
        emit_store(&g->e, i->osize, H_RAX, m);
    } else {
        struct hmem m = gen_stack(g, -bytes, (unsigned)bytes, true);
        emit_store(&g->e, i->osize, gen_src(g, i->rm, i->osize, H_RAX), m);
    }
    gen_move_sp(g, -bytes);
}

static void gen_push_imm(struct gen *g, const struct insn *i, unsigned arg)
{
    int32_t bytes = 1 << i->osize;
    struct enc c = { .opcode = 0xc7, .prefix = i->osize == 1 ? 0x66 : 0, .w = i->osize == 3, .imm = (int64_t)i->imm,
                     .imm_size = i->osize == 1 ? 2 : 4 };
    emit_mem(&g->e, &c, 0, gen_stack(g, -bytes, (unsigned)bytes, true));
    gen_move_sp(g, -bytes);
}

static void gen_pop(struct gen *g, const struct insn *i, unsigned arg)
{
    int32_t bytes = 1 << i->osize;
    struct hmem m = gen_stack(g, 0, (unsigned)bytes, false);
    unsigned d = gen_dst(g, i->rm, H_RAX, false);
    emit_load(&g->e, i->osize, d, m);
    gen_dst_end(g, i->rm, d);
    if (i->rm != R_RSP)
        gen_move_sp(g, bytes);
}

static void gen_leave(struct gen *g, const struct insn *i, unsigned arg)
{
    struct insn at = { .base = R_RBP, .index = R_ZERO, .asize = g->s->cpu->stack_size, .seg = SEG_SS };
    int32_t bytes = 1 << i->osize;
    emit_load(&g->e, i->osize, H_RAX, gen_mem(g, &at, (unsigned)bytes, false, 0));
    emit_lea(&g->e, g->s->cpu->stack_size, GUEST_RSP, hmem_base(H_RBP, bytes));
    emit_op_reg(&g->e, 0x8b, i->osize, H_RBP, H_RAX);
}

/* --- Cold code and the table ---------------------------------------------------------------------------------------------------- */

/*
 * RAX: linear address, RCX: the last offset in its page at which all accesses fit. Carry: this is the page of the stack now.
 * Only RAX, RCX and flags change.
 */
void gen_find_stack(struct emit *e)
{
    size_t stack = offsetof(struct tlb, stack);
    struct fixup fail[3];
    emit_push(e, H_R9);
    emit_mov(e, H_R9, H_RAX);
    emit_alu_imm(e, ALU_AND, 3, H_R9, -(int32_t)PAGE_SIZE);
    emit_alu_reg(e, ALU_SUB, 3, H_RAX, H_R9);
    emit_alu_reg(e, ALU_CMP, 3, H_RAX, H_RCX);
    fail[0] = emit_jcc(e, CC_NBE);
    emit_mov(e, H_RCX, H_R9);
    emit_shift_imm(e, 5, 3, H_RCX, 7);
    emit_alu_imm(e, ALU_AND, 2, H_RCX, (TLB_SIZE - 1) << 5);
    emit_op_mem(e, 0x3b, 3, H_R9, hmem_index(H_TLB, H_RCX, 0, offsetof(struct tlb_entry, tag_read)));
    fail[1] = emit_jcc(e, CC_NZ);
    emit_op_mem(e, 0x3b, 3, H_R9, hmem_index(H_TLB, H_RCX, 0, offsetof(struct tlb_entry, tag_write)));
    fail[2] = emit_jcc(e, CC_NZ);
    emit_load(e, 3, H_RCX, hmem_index(H_TLB, H_RCX, 0, offsetof(struct tlb_entry, addend)));
    emit_store(e, 3, H_R9, hmem_base(H_TLB, (int32_t)(stack + offsetof(struct tlb_stack, page))));
    emit_store(e, 3, H_RCX, hmem_base(H_TLB, (int32_t)(stack + offsetof(struct tlb_stack, addend))));
    for (unsigned n = 1; n <= TLB_STACK_WORDS; n++) {
        size_t at = stack + offsetof(struct tlb_stack, limit) + (n - 1) * sizeof(uint64_t);
        struct enc store = { .opcode = 0xc7, .w = true, .imm_size = 4, .imm = PAGE_SIZE - n * WORD + 1 };
        emit_mem(e, &store, 0, hmem_base(H_TLB, (int32_t)at));
    }
    emit_pop(e, H_R9);
    emit8(e, 0xf9); /* STC */
    emit_ret(e);
    emit_bind(e, fail[0]);
    emit_bind(e, fail[1]);
    emit_bind(e, fail[2]);
    emit_pop(e, H_R9);
    emit8(e, 0xf8); /* CLC */
    emit_ret(e);
}

void gen_cold_run(struct gen *g, const struct cold *c)
{
    struct emit *e = &g->e;
    unsigned size = g->s->cpu->stack_size;
    emit_lea(e, size, H_RAX, hmem_base(GUEST_RSP, c->off));
    emit_mov_imm(e, H_RCX, PAGE_SIZE - c->words * WORD);
    emit_call_to(e, g->b->find_stack);
    emit_bind_to(e, emit_jcc(e, CC_B), c->again + e->skew);
    if (!c->bytes)
        return;
    emit_lea(e, size, H_R9, hmem_base(GUEST_RSP, c->off));
    struct fixup miss = gen_tlb_check(g, H_R9, c->bytes, c->write);
    if (c->in_r9)
        emit_mov(e, H_R9, H_RCX);
    emit_jmp_to(e, c->found + e->skew);
    emit_bind(e, miss);
}

static const struct gen_entry table[] = {
    { &op_push, gen_push, 0, GEN_STACK },
    { &op_push_imm, gen_push_imm, 0, GEN_STACK },
    { &op_pop, gen_pop, 0, GEN_STACK | GEN_REG },
    { &op_leave, gen_leave, 0, GEN_STACK },
};

void gen_templates_stack(struct gen_template *t)
{
    gen_templates_add(t, table, G_N_ELEMENTS(table), 0);
}
