/*
 * Templates for near transfers and what follows from them: links, the jump cache, the shadow stack of calls.
 *
 * A guest call leaves its return address on the shadow stack, beside the host's own: a guest return that finds it there returns
 * by the host's RET, which the host's processor predicts. One that doesn't asks the jump cache. Direct jumps within the page are
 * patched once their target is translated; those to other pages ask the jump cache, too.
 */
#include "cpu/ops.h"
#include "tcg/x86_64/gen.h"

/* --- Jump cache ------------------------------------------------------------------------------------------------------------ */

struct hmem gen_jump_field(size_t offset)
{
    return (struct hmem){ .base = H_RCX, .index = H_NONE, .gs = true, .disp = (int32_t)(offsetof(struct cpu, jumps) + offset) };
}

_Static_assert(sizeof(struct jump_entry) == 16, "the probe shifts by 4");

struct fixup gen_probe(struct emit *e, bool system)
{
    struct enc imul = { .opcode = 0x69, .imm_size = 4, .imm = (int32_t)JUMP_HASH };
    emit_reg(e, &imul, H_RCX, H_RAX);
    emit_shift_imm(e, 5, 2, H_RCX, 32 - (system ? JUMP_SYSTEM_BITS : JUMP_USER_BITS));
    emit_shift_imm(e, 4, 2, H_RCX, 4);
    emit_op_mem(e, 0x03, 2, H_RCX, STATE(jump_base));
    emit_op_mem(e, 0x3b, 3, H_RAX, gen_jump_field(offsetof(struct jump_entry, pc)));
    return emit_jcc(e, CC_NZ);
}

/* As gen_probe; without a match the instruction's handler does it all, faults included. */
static void probe_or_handler(struct gen *g)
{
    gen_slow_from(g, gen_probe(&g->e, gen_system(g)));
}

static void emit_indirect(struct emit *e, unsigned digit, struct hmem m)
{
    struct enc c = { .opcode = 0xff };
    emit_mem(e, &c, digit, m);
}

/* --- Ways on --------------------------------------------------------------------------------------------------------------------- */

void gen_rip(struct gen *g, int32_t off)
{
    emit_lea(&g->e, g->s->cpu->code_size == 3 ? 3 : 2, H_RAX, hmem_base(H_RIP, off));
    if (g->s->cpu->code_size == 1)
        emit_extend_reg(&g->e, false, 1, 2, H_RAX, H_RAX);
}

/* Without a flat code segment: compares RAX with its limit; above it is #GP. */
static void compare_with_limit(struct gen *g)
{
    emit_op_mem(&g->e, 0x3b, 2, H_RAX,
                gen_state(offsetof(struct cpu, seg) + SEG_CS * sizeof(struct segment) + offsetof(struct segment, limit)));
}

/* A link to a place in the page, by a jump whose displacement has just been emitted. */
static void add_link(struct gen *g, struct fixup f, int32_t off, bool saved)
{
    struct link *l = &g->links[g->u->link_count++];
    *l = (struct link){ .from = g->u, .patch = f.at, .target = (uint16_t)off, .saved = saved };
    struct cold *c = gen_cold(g, COLD_LINK);
    c->link = l;
    c->from[c->from_count++] = f;
}

static bool in_page(int32_t off)
{
    return off >= 0 && off < (int32_t)PAGE_SIZE;
}

/* Links go by the page alone: the code segment must have no say. */
static bool may_link(const struct gen *g, int32_t off)
{
    return in_page(off) && g->s->key & MODE_FLAT;
}

static int inside(const struct gen *g, int32_t off)
{
    return in_page(off) ? g->s->at[off] : -1;
}

static void add_forward(struct gen *g, struct fixup f, unsigned to)
{
    g_assert(g->forward_count < G_N_ELEMENTS(g->forward));
    g->forward[g->forward_count].f = f;
    g->forward[g->forward_count++].to = (uint16_t)to;
}

static void jump_inside(struct gen *g, struct fixup f, unsigned to)
{
    if (g->label[to])
        emit_bind_to(&g->e, f, g->label[to] + g->e.skew);
    else
        add_forward(g, f, to);
}

void gen_goto(struct gen *g, int32_t off)
{
    int to = inside(g, off);
    if (to >= 0) {
        gen_flags_for(g, &g->s->insns[to]);
        jump_inside(g, emit_jmp(&g->e), (unsigned)to);
    } else if (may_link(g, off)) {
        emit_align_jump(&g->e, 1);
        add_link(g, emit_jmp(&g->e), off, !g->flags_here);
    } else {
        gen_flags_save(g);
        gen_rip(g, off);
        emit_jmp_to(&g->e, g->b->jump[gen_system(g)]);
    }
}

/* Flags are in place. */
static void goto_if(struct gen *g, enum emit_cond cc, int32_t off)
{
    int to = inside(g, off);
    if (to >= 0 && g->s->insns[to].in_memory && !g->flags_saved) {
        struct cold *c = gen_cold(g, COLD_INSIDE);
        c->to = (uint16_t)to;
        c->from[c->from_count++] = emit_jcc(&g->e, cc);
    } else if (to >= 0) {
        jump_inside(g, emit_jcc(&g->e, cc), (unsigned)to);
    } else if (may_link(g, off)) {
        emit_align_jump(&g->e, 2);
        add_link(g, emit_jcc(&g->e, cc), off, false);
    } else {
        struct cold *c = gen_cold(g, COLD_FAR);
        if (!(g->s->key & MODE_FLAT))
            c->insn = &g->u->insns[g->g - g->s->insns];
        c->off = off;
        c->from[c->from_count++] = emit_jcc(&g->e, cc);
    }
}

void gen_call_handler(struct gen *g)
{
    gen_flags_clobber(g);
    gen_x87_settle(g);
    emit_mov_imm(&g->e, H_RAX, (uintptr_t)&g->u->insns[g->g - g->s->insns]);
    emit_call_to(&g->e, g->b->call_handler[0]);
    g->flags_here = g->flags_saved = true;
    g->loaded = 0;
}

/* The host's address of the next page into RAX, where it may be executed; R9 and RCX are used. */
static struct cold *find_next_page(struct gen *g)
{
    struct emit *e = &g->e;
    struct cold *c = gen_cold(g, COLD_HANDLER);
    gen_rip(g, PAGE_SIZE);
    emit_load(e, 3, H_R9, STATE(tlb_exec));
    emit_mov(e, H_RCX, H_RAX);
    emit_shift_imm(e, 5, 3, H_RCX, 7);
    emit_alu_imm(e, ALU_AND, 2, H_RCX, (TLB_SIZE - 1) << 5);
    emit_op_mem(e, 0x3b, 3, H_RAX, hmem_index(H_R9, H_RCX, 0, offsetof(struct tlb_entry, tag_exec)));
    c->from[c->from_count++] = emit_jcc(e, CC_NZ);
    emit_op_mem(e, 0x03, 3, H_RAX, hmem_index(H_R9, H_RCX, 0, offsetof(struct tlb_entry, addend)));
    return c;
}

void gen_check_next_page(struct gen *g)
{
    struct emit *e = &g->e;
    struct insn *other = &g->u->insns[g->s->count]; /* no more than one in a unit lies there */
    *other = g->g->i;
    other->fn = jit_interpret;
    other->flags |= INSN_SEES_X87;
    gen_flags_clobber(g);
    struct cold *c = find_next_page(g);
    unsigned bytes = g->g->i.end - PAGE_SIZE;
    for (unsigned at = 0, size; at < bytes; at += 1u << size) {
        size = bytes - at >= 4 ? 2 : bytes - at >= 2 ? 1 : 0;
        struct enc cmp = { .opcode = size ? 0x81 : 0x80, .prefix = size == 1 ? 0x66 : 0, .imm_size = 1u << size };
        memcpy(&cmp.imm, g->s->bytes + PAGE_SIZE + at, 1u << size);
        emit_mem(e, &cmp, ALU_CMP, hmem_base(H_RAX, (int32_t)at));
        c->from[c->from_count++] = emit_jcc(e, CC_NZ);
    }
    c->insn = other;
    c->back = e->at; /* it does not come back */
}

/* --- Jumps -------------------------------------------------------------------------------------------------------------------------- */

static int32_t branch_target(const struct insn *i)
{
    return (int32_t)(i->end + i->disp);
}

static void gen_jcc(struct gen *g, const struct insn *i, unsigned cc)
{
    gen_flags_load(g);
    goto_if(g, cc, branch_target(i));
}

void gen_next_round(struct gen *g, const struct insn *i)
{
    const struct gen_template *t = &g->b->templates[i->row];
    if (t->fn != gen_jcc)
        return; /* there is no way out */
    gen_flags_load(g);
    goto_if(g, t->arg ^ 1, (int32_t)i->end);
}

/* A target that the code segment may not have: to the handler. Flags are lost. */
static void check_target(struct gen *g, int32_t off)
{
    if (g->s->key & MODE_FLAT || inside(g, off) >= 0)
        return;
    gen_flags_clobber(g);
    gen_rip(g, off);
    compare_with_limit(g);
    gen_slow_if(g, CC_NBE);
}

static void gen_jmp_rel(struct gen *g, const struct insn *i, unsigned arg)
{
    check_target(g, branch_target(i));
    gen_goto(g, branch_target(i));
}

/* The counter, by address size, into RCX. */
static void counter_to_rcx(struct gen *g, const struct insn *i)
{
    if (i->asize == 1)
        emit_extend_reg(&g->e, false, 1, 2, H_RCX, GUEST_RCX);
    else
        emit_op_reg(&g->e, 0x8b, i->asize, H_RCX, GUEST_RCX);
}

/* A jump around the way to the target must leave flags as they are noted for those who come after. */
static void goto_around(struct gen *g, int32_t off)
{
    bool here = g->flags_here, saved = g->flags_saved;
    gen_goto(g, off);
    g->flags_here = here;
    g->flags_saved = saved;
}

static void gen_jrcxz(struct gen *g, const struct insn *i, unsigned arg)
{
    check_target(g, branch_target(i));
    gen_flags_load(g);
    counter_to_rcx(g, i);
    struct fixup taken = emit_jcc8(&g->e, 0xe3);
    struct fixup out = emit_jcc8(&g->e, 0xeb);
    emit_bind8(&g->e, taken);
    goto_around(g, branch_target(i));
    emit_bind8(&g->e, out);
}

static void gen_loop(struct gen *g, const struct insn *i, unsigned arg)
{
    check_target(g, branch_target(i));
    gen_flags_load(g);
    emit_lea(&g->e, i->asize, GUEST_RCX, hmem_base(GUEST_RCX, -1));
    counter_to_rcx(g, i);
    struct fixup out = emit_jcc8(&g->e, 0xe3);
    goto_around(g, branch_target(i));
    emit_bind8(&g->e, out);
}

/* From memory: without what lay in the upper bits. */
static void load_rip(struct gen *g, unsigned size, struct hmem m)
{
    if (size == 1)
        emit_extend_mem(&g->e, false, 1, 2, H_RAX, m);
    else
        emit_load(&g->e, size, H_RAX, m);
}

/* The target of an indirect jump into RAX. */
static void load_target(struct gen *g, const struct insn *i)
{
    if (i->flags & INSN_MEM)
        load_rip(g, i->osize, gen_rm_mem(g, i, false));
    else if (i->osize == 1)
        emit_extend_reg(&g->e, false, 1, 2, H_RAX, gen_src(g, i->rm, 1, H_RAX));
    else
        emit_op_reg(&g->e, 0x8b, i->osize, H_RAX, gen_src(g, i->rm, i->osize, H_RAX));
}

static void gen_jmp_near(struct gen *g, const struct insn *i, unsigned arg)
{
    gen_flags_clobber(g); /* by way of RAX */
    load_target(g, i);
    probe_or_handler(g);
    emit_indirect(&g->e, 4, gen_jump_field(offsetof(struct jump_entry, code)));
}

/* --- Calls ---------------------------------------------------------------------------------------------------------------------------- */

/* A return address that the code segment does not have must not get onto the shadow stack. RCX is kept, RAX if it is flat. */
static void check_return(struct gen *g, const struct insn *i)
{
    if (g->s->key & MODE_FLAT)
        return;
    emit_mov(&g->e, H_R9, H_RAX);
    gen_rip(g, i->end);
    compare_with_limit(g);
    gen_slow_if(g, CC_NBE);
    emit_mov(&g->e, H_RAX, H_R9);
}

/* The guest's return address onto both stacks; a shadow stack that is full begins anew. */
static void push_return(struct gen *g, const struct insn *i)
{
    struct emit *e = &g->e;
    gen_flags_clobber(g);
    struct hmem m = gen_stack(g, -(1 << i->osize), 1u << i->osize, true);
    gen_rip(g, i->end);
    emit_store(e, i->osize, H_RAX, m);
    gen_move_sp(g, -(1 << i->osize));
    gen_sync_sp(g);
    emit_op_mem(e, 0x3b, 3, H_RSP, STATE(host_stack_low));
    struct fixup room = emit_jcc8(e, 0x70 | CC_NB);
    emit_load(e, 3, H_RSP, STATE(host_stack));
    emit_bind8(e, room);
    emit_push(e, H_RAX);
}

/* Here code can be entered as at a unit's first instruction, if the unit has any: else who enters would leave at once. */
static void add_landing(struct gen *g, int32_t off)
{
    if (!may_link(g, off) || inside(g, off) < 0)
        return;
    struct cold *c = gen_cold(g, COLD_LANDING);
    c->off = off;
    c->back = g->e.at;
}

/* Where a call comes back: RAX is the RIP here. */
static void after_call(struct gen *g, const struct insn *i)
{
    struct emit *e = &g->e;
    emit_lea(e, 3, H_RSP, hmem_base(H_RSP, 8));
    add_landing(g, i->end);
    emit_lea(e, 3, H_RIP, hmem_base(H_RAX, -(int32_t)i->end));
    g->flags_here = false;
    g->flags_saved = true;
    g->loaded = 0;
}

static void gen_call_rel(struct gen *g, const struct insn *i, unsigned arg)
{
    struct emit *e = &g->e;
    int32_t target = branch_target(i);
    if (!(g->s->key & MODE_FLAT)) {
        gen_flags_clobber(g);
        gen_rip(g, target);
        compare_with_limit(g);
        gen_slow_if(g, CC_NBE);
        check_return(g, i);
    }
    push_return(g, i);
    if (may_link(g, target)) {
        emit_align_jump(e, 1);
        add_link(g, emit_call(e), target, true);
    } else {
        gen_rip(g, target);
        emit_call_to(e, g->b->jump[gen_system(g)]);
    }
    after_call(g, i);
}

static void gen_call_near(struct gen *g, const struct insn *i, unsigned arg)
{
    struct emit *e = &g->e;
    gen_flags_clobber(g); /* by way of RAX */
    gen_run_check(g);
    load_target(g, i);
    check_return(g, i);
    probe_or_handler(g);
    gen_run_owns_r9(g);
    bool keeps_rcx = gen_in_run(g) && g->run.in_r9;
    if (!keeps_rcx)
        emit_store(e, 3, H_RCX, STATE(jump_slot));
    push_return(g, i);
    if (!keeps_rcx)
        emit_load(e, 3, H_RCX, STATE(jump_slot));
    emit_load(e, 3, H_RAX, gen_jump_field(offsetof(struct jump_entry, pc)));
    emit_indirect(e, 2, gen_jump_field(offsetof(struct jump_entry, code)));
    after_call(g, i);
}

static void gen_ret(struct gen *g, const struct insn *i, unsigned arg)
{
    struct emit *e = &g->e;
    int32_t bytes = (1 << i->osize) + (arg ? (uint16_t)i->imm : 0);
    gen_flags_clobber(g);
    load_rip(g, i->osize, gen_stack(g, 0, 1u << i->osize, false));
    emit_op_mem(e, 0x3b, 3, H_RAX, hmem_base(H_RSP, 8));
    struct cold *c = gen_cold(g, COLD_RETURN);
    c->from[c->from_count++] = emit_jcc(e, CC_NZ);
    c->insn = &g->u->insns[g->g - g->s->insns];
    c->off = bytes;
    gen_move_sp(g, bytes);
    gen_sync_sp(g);
    emit_ret(e);
}

/* --- Cold code --------------------------------------------------------------------------------------------------------------------------- */

static void cold_handler(struct gen *g, const struct cold *c)
{
    if (c->x87_at)
        gen_x87_note(g, c->x87_at);
    if (c->sp)
        emit_lea(&g->e, g->s->cpu->stack_size, GUEST_RSP, hmem_base(GUEST_RSP, c->sp));
    if (c->kind == COLD_HANDLER && c->again) {
        emit_mov_imm(&g->e, H_RAX, (uintptr_t)c->insn);
        emit_call_to(&g->e, g->b->reach[c->loaded & LOADED_VECTORS ? 1 : 0]);
        emit_alu_imm_mem(&g->e, ALU_CMP, 0, STATE(reached), 0, false);
        emit_bind_to(&g->e, emit_jcc(&g->e, CC_NZ), c->again + g->e.skew);
    }
    emit_mov_imm(&g->e, H_RAX, (uintptr_t)c->insn);
    emit_call_to(&g->e, g->b->call_handler[c->loaded]);
}

static void cold_return(struct gen *g, const struct cold *c)
{
    struct emit *e = &g->e;
    emit_call_to(e, g->b->lookup[gen_system(g)]);
    emit_op_reg(e, 0x85, 3, H_RCX, H_RCX);
    struct fixup miss = emit_jcc8(e, 0x70 | CC_Z);
    emit_lea(e, g->s->cpu->stack_size, GUEST_RSP, hmem_base(GUEST_RSP, c->off + c->sp));
    emit_load(e, 3, H_RSP, STATE(host_stack));
    struct enc jmp = { .opcode = 0xff };
    emit_reg(e, &jmp, 4, H_RCX);
    emit_bind8(e, miss);
    cold_handler(g, c);
}

/* It polls, as all ways into a unit do: returns alone may make a loop. Longer than a jump, so that it can be patched into one. */
static void cold_landing(struct gen *g, const struct cold *c)
{
    struct emit *e = &g->e;
    emit_align(e, 8);
    g->entries[g->u->entry_count++] = (struct unit_entry){ .unit = g->u, .host = g->s->page + c->off, .code = emit_here(e),
                                                           .patch = e->at };
    emit_alu_imm_mem(e, ALU_CMP, 3, STATE(poll), 0, false);
    emit_bind_to(e, emit_jcc(e, CC_NZ), g->b->leave);
}

static void cold_link(struct gen *g, const struct cold *c)
{
    struct link *l = &g->u->links[c->link - g->links];
    l->unlinked = emit_here(&g->e);
    if (l->saved) { /* the flags are in memory, and the host's mean nothing */
        g->flags_here = false;
        gen_flags_load(g);
    }
    emit_mov_imm(&g->e, H_RAX, (uintptr_t)l);
    emit_jmp_to(&g->e, g->b->leave_link);
}

static void emit_cold(struct gen *g, struct cold *c)
{
    struct emit *e = &g->e;
    for (unsigned k = 0; k < c->from_count; k++)
        emit_bind(e, c->from[k]);
    switch (c->kind) {
    case COLD_HANDLER:
        cold_handler(g, c);
        break;
    case COLD_SLOT:
        gen_cold_slot(g, c);
        cold_handler(g, c);
        break;
    case COLD_RUN:
        gen_cold_run(g, c);
        cold_handler(g, c);
        break;
    case COLD_LANDING:
        cold_landing(g, c);
        break;
    case COLD_VECTORS:
        emit_call_to(e, g->b->load_vectors);
        break;
    case COLD_X87:
        emit_call_to(e, g->b->load_x87);
        break;
    case COLD_LEAVE:
    case COLD_LEAVE_FLAGS:
        gen_rip(g, c->off);
        emit_jmp_to(e, c->kind == COLD_LEAVE ? g->b->leave : g->b->leave_flags);
        return;
    case COLD_LINK:
        cold_link(g, c);
        return;
    case COLD_INSIDE:
        gen_arith_save(e);
        emit_jmp_to(e, g->label[c->to] + e->skew);
        return;
    case COLD_FAR:
        g->flags_saved = false;
        gen_flags_save(g);
        gen_rip(g, c->off);
        if (c->insn) {
            compare_with_limit(g);
            emit_bind_to(e, emit_jcc(e, CC_BE), g->b->jump[gen_system(g)]);
            cold_handler(g, c); /* raises */
        }
        emit_jmp_to(e, g->b->jump[gen_system(g)]);
        return;
    case COLD_RETURN:
        cold_return(g, c);
        return;
    }
    emit_jmp_to(e, c->back + e->skew);
}

void gen_cold_code(struct gen *g)
{
    g->run.accesses = 0;
    for (unsigned k = 0; k < g->cold_count; k++)
        emit_cold(g, &g->cold[k]);
}

/* --- The table ------------------------------------------------------------------------------------------------------------------------------- */

#define JCC(cc, code) { &op_j##cc, gen_jcc, code, 0 }

static const struct gen_entry table[] = {
    JCC(o, 0), JCC(no, 1), JCC(b, 2), JCC(nb, 3), JCC(z, 4), JCC(nz, 5), JCC(be, 6), JCC(nbe, 7),
    JCC(s, 8), JCC(ns, 9), JCC(p, 10), JCC(np, 11), JCC(l, 12), JCC(nl, 13), JCC(le, 14), JCC(nle, 15),
    { &op_jmp_rel, gen_jmp_rel, 0, 0 },
    { &op_jrcxz, gen_jrcxz, 0, 0 },
    { &op_loop, gen_loop, 0, 0 },
    { &op_jmp_near, gen_jmp_near, 0, GEN_NEAR },
    { &op_call_rel, gen_call_rel, 0, GEN_NEAR | GEN_STACK },
    { &op_call_near, gen_call_near, 0, GEN_NEAR | GEN_STACK },
    { &op_ret, gen_ret, 0, GEN_NEAR | GEN_STACK },
    { &op_ret_imm, gen_ret, 1, GEN_NEAR | GEN_STACK },
};

void gen_templates_flow(struct gen_template *t)
{
    gen_templates_add(t, table, G_N_ELEMENTS(table), 0);
}
