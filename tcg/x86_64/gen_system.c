/*
 * Templates for system instructions that kernels live on. What they do not cover (an event that waits, other modes) goes to the
 * handler of the instruction.
 */
#include "cpu/ops.h"
#include "tcg/x86_64/gen.h"

static struct hmem segment_field(unsigned s, size_t offset)
{
    return gen_state(offsetof(struct cpu, seg) + s * sizeof(struct segment) + offset);
}

static void gen_cli(struct gen *g, const struct insn *i, unsigned arg)
{
    gen_flags_clobber(g);
    emit_alu_imm_mem(&g->e, ALU_AND, 2, STATE(rflags), ~(int32_t)FLAG_IF, false);
}

/*
 * With an event waiting the handler casts its interrupt shadow. Without, nothing can come in before the next instruction, as long
 * as no poll stands between.
 */
static void gen_sti(struct gen *g, const struct insn *i, unsigned arg)
{
    if (gen_polls_next(g->s, g->g)) {
        gen_call_handler(g);
        return;
    }
    gen_flags_clobber(g);
    emit_alu_imm_mem(&g->e, ALU_CMP, 2, STATE(events), 0, false);
    gen_slow_if(g, CC_NZ);
    emit_alu_imm_mem(&g->e, ALU_OR, 2, STATE(rflags), (int32_t)FLAG_IF, false);
}

static void gen_swapgs(struct gen *g, const struct insn *i, unsigned arg)
{
    struct hmem base = segment_field(SEG_GS, offsetof(struct segment, base));
    emit_load(&g->e, 3, H_RAX, base);
    emit_load(&g->e, 3, H_RCX, STATE(kernel_gs_base));
    emit_store(&g->e, 3, H_RAX, STATE(kernel_gs_base));
    emit_store(&g->e, 3, H_RCX, base);
}

_Static_assert(TLB_SUPER_AC == TLB_SUPER + 1, "the views of the supervisor lie side by side");

/* With SMAP: RFLAGS.AC chooses between the two views of the supervisor; fetches go by the first of them. */
static void gen_ac(struct gen *g, const struct insn *i, unsigned set)
{
    gen_flags_clobber(g);
    emit_alu_imm_mem(&g->e, set ? ALU_OR : ALU_AND, 2, STATE(rflags), set ? (int32_t)FLAG_AC : ~(int32_t)FLAG_AC, false);
    emit_load(&g->e, 3, H_TLB, STATE(tlb_exec));
    if (set)
        emit_alu_imm(&g->e, ALU_ADD, 3, H_TLB, sizeof(struct tlb));
    emit_store(&g->e, 3, H_TLB, STATE(tlb));
}

static void gen_mov_from_seg(struct gen *g, const struct insn *i, unsigned arg)
{
    unsigned d = gen_dst(g, i->rm, H_RAX, i->osize < 2);
    struct hmem selector = segment_field(i->reg, offsetof(struct segment, selector));
    if (i->osize < 2)
        emit_load(&g->e, 1, d, selector);
    else
        emit_extend_mem(&g->e, false, 1, 2, d, selector);
    gen_dst_end(g, i->rm, d);
}

/* RFLAGS as PUSHF shows them, into R9. Flags are in place. */
static void flags_image_to_r9(struct gen *g)
{
    struct emit *e = &g->e;
    emit8(e, 0x9c); /* PUSHF */
    emit_pop(e, H_RCX);
    emit_alu_imm(e, ALU_AND, 2, H_RCX, FLAGS_ARITH);
    emit_op_mem(e, 0x8b, 2, H_R9, STATE(rflags));
    emit_alu_imm(e, ALU_AND, 2, H_R9, ~(int32_t)(FLAGS_ARITH | FLAG_RF | FLAG_VM));
    emit_alu_reg(e, ALU_OR, 2, H_R9, H_RCX);
}

static void gen_pushf(struct gen *g, const struct insn *i, unsigned arg)
{
    gen_flags_load(g);
    if (!g->flags_saved)
        gen_flags_save(g);
    flags_image_to_r9(g);
    g->flags_here = false;
    emit_store(&g->e, 3, H_R9, gen_stack(g, -8, 8, true));
    emit_lea(&g->e, 3, GUEST_RSP, hmem_base(GUEST_RSP, -8));
}

static void test_mem(struct gen *g, struct hmem m, uint32_t imm)
{
    struct enc c = { .opcode = 0xf7, .imm_size = 4, .imm = imm };
    emit_mem(&g->e, &c, 0, m);
}

/*
 * With an event waiting, or if what is run, or the view of memory, would have to change, the handler does it. RF is clear here.
 */
static void gen_popf(struct gen *g, const struct insn *i, unsigned arg)
{
    struct emit *e = &g->e;
    bool super = g->s->key & MODE_CPL0;
    uint32_t mask = FLAGS_ARITH | FLAG_TF | FLAG_DF | FLAG_NT | FLAG_AC | FLAG_ID | (super ? FLAG_IOPL | FLAG_IF : 0);
    gen_flags_clobber(g);
    emit_alu_imm_mem(e, ALU_CMP, 2, STATE(events), 0, false);
    gen_slow_if(g, CC_NZ);
    if (!super) { /* who may change IF? */
        test_mem(g, STATE(rflags), FLAG_IOPL);
        gen_slow_if(g, CC_NZ);
    }
    emit_load(e, 2, H_R9, gen_stack(g, 0, 1u << i->osize, false));
    emit_op_reg(e, 0x8b, 2, H_RAX, H_R9);
    emit_op_mem(e, 0x33, 2, H_RAX, STATE(rflags));
    struct enc test = { .opcode = 0xf7, .imm_size = 4, .imm = FLAG_TF | FLAG_AC };
    emit_reg(e, &test, 0, H_RAX);
    gen_slow_if(g, CC_NZ);
    emit_load(e, 2, H_RAX, STATE(rflags));
    emit_alu_imm(e, ALU_AND, 2, H_RAX, ~(int32_t)mask);
    emit_alu_imm(e, ALU_AND, 2, H_R9, (int32_t)mask);
    emit_alu_reg(e, ALU_OR, 2, H_RAX, H_R9);
    gen_rflags_store(e, H_RAX);
    emit_lea(e, g->s->cpu->stack_size, GUEST_RSP, hmem_base(GUEST_RSP, 1 << i->osize));
    g->flags_here = false;
    g->flags_saved = true;
}

/* --- Registers of the system -------------------------------------------------------------------------------------------------- */

static void gen_mov_from_cr(struct gen *g, const struct insn *i, unsigned arg)
{
    static const size_t at[] = { [0] = offsetof(struct cpu, cr0), [2] = offsetof(struct cpu, cr2),
                                 [3] = offsetof(struct cpu, cr3), [4] = offsetof(struct cpu, cr4) };
    if (i->reg >= G_N_ELEMENTS(at) || i->reg == 1) {
        gen_call_handler(g);
        return;
    }
    unsigned d = gen_dst(g, i->rm, H_RAX, false);
    emit_load(&g->e, g->s->cpu->code_size == 3 ? 3 : 2, d, gen_state(at[i->reg]));
    gen_dst_end(g, i->rm, d);
}

static void slow_without_cr4(struct gen *g, uint32_t bit)
{
    gen_flags_clobber(g);
    test_mem(g, STATE(cr4), bit);
    gen_slow_if(g, CC_Z);
}

static void gen_read_base(struct gen *g, const struct insn *i, unsigned seg)
{
    slow_without_cr4(g, CR4_FSGSBASE);
    unsigned d = gen_dst(g, i->rm, H_RAX, false);
    emit_load(&g->e, i->osize, d, segment_field(seg, offsetof(struct segment, base)));
    gen_dst_end(g, i->rm, d);
}

/* Of more than 48 bits only where the handler finds that good. */
static void gen_write_base(struct gen *g, const struct insn *i, unsigned seg)
{
    struct emit *e = &g->e;
    slow_without_cr4(g, CR4_FSGSBASE);
    emit_op_reg(e, 0x8b, i->osize, H_RAX, gen_src(g, i->rm, i->osize, H_RAX));
    if (i->osize == 3) {
        emit_mov(e, H_RCX, H_RAX);
        emit_shift_imm(e, 4, 3, H_RCX, 16);
        emit_shift_imm(e, 7, 3, H_RCX, 16);
        emit_alu_reg(e, ALU_CMP, 3, H_RCX, H_RAX);
        gen_slow_if(g, CC_NZ);
    }
    emit_store(e, 3, H_RAX, segment_field(seg, offsetof(struct segment, base)));
}

static void gen_rdpkru(struct gen *g, const struct insn *i, unsigned arg)
{
    struct emit *e = &g->e;
    slow_without_cr4(g, CR4_PKE);
    emit_op_reg(e, 0x85, 2, GUEST_RCX, GUEST_RCX);
    gen_slow_if(g, CC_NZ);
    emit_load(e, 2, GUEST_RAX, STATE(pkru));
    emit_mov_imm(e, H_RDX, 0);
}

static void gen_rdpid(struct gen *g, const struct insn *i, unsigned arg)
{
    unsigned d = gen_dst(g, i->rm, H_RAX, false);
    emit_load(&g->e, 2, d, STATE(tsc_aux));
    gen_dst_end(g, i->rm, d);
}

/* `aux`: RDTSCP. */
static void gen_rdtsc(struct gen *g, const struct insn *i, unsigned aux)
{
    struct emit *e = &g->e;
    gen_flags_clobber(g);
    if (!(g->s->key & MODE_CPL0)) {
        test_mem(g, STATE(cr4), CR4_TSD);
        gen_slow_if(g, CC_NZ);
    }
    emit_call_to(e, g->b->read_tsc[g->loaded & LOADED_VECTORS ? 1 : 0]);
    emit_op_reg(e, 0x8b, 2, GUEST_RAX, H_RAX);
    emit_mov(e, H_RDX, H_RAX);
    emit_shift_imm(e, 5, 3, H_RDX, 32);
    if (aux)
        emit_load(e, 2, GUEST_RCX, STATE(tsc_aux));
}

/* A spinning processor of another thread may need this one. */
static void gen_pause(struct gen *g, const struct insn *i, unsigned arg)
{
    emit8(&g->e, 0xf3);
    emit8(&g->e, 0x90);
}

/* --- The table ------------------------------------------------------------------------------------------------------------- */

static const struct gen_entry table[] = {
    { &op_cli, gen_cli, 0, GEN_CPL0_ANY },
    { &op_sti, gen_sti, 0, GEN_CPL0_ANY },
    { &op_swapgs, gen_swapgs, 0, GEN_CPL0 },
    { &op_clac, gen_ac, 0, GEN_CPL0 | GEN_SMAP },
    { &op_stac, gen_ac, 1, GEN_CPL0 | GEN_SMAP },
    { &op_mov_from_seg, gen_mov_from_seg, 0, GEN_REG },
    { &op_pushf, gen_pushf, 0, GEN_CODE64 | GEN_STACK },
    { &op_popf, gen_popf, 0, GEN_CODE64 | GEN_STACK },
    { &op_mov_from_cr, gen_mov_from_cr, 0, GEN_CPL0 },
    { &op_rdfsbase, gen_read_base, SEG_FS, GEN_CODE64 | GEN_ANY_HOST },
    { &op_rdgsbase, gen_read_base, SEG_GS, GEN_CODE64 | GEN_ANY_HOST },
    { &op_wrfsbase, gen_write_base, SEG_FS, GEN_CODE64 | GEN_ANY_HOST },
    { &op_wrgsbase, gen_write_base, SEG_GS, GEN_CODE64 | GEN_ANY_HOST },
    { &op_rdpkru, gen_rdpkru, 0, GEN_ANY_HOST },
    { &op_rdpid, gen_rdpid, 0, GEN_ANY_HOST },
    { &op_rdtsc, gen_rdtsc, 0, 0 },
    { &op_rdtscp, gen_rdtsc, 1, GEN_ANY_HOST },
    { &op_pause, gen_pause, 0, 0 },
};

void gen_templates_system(struct gen_template *t)
{
    gen_templates_add(t, table, G_N_ELEMENTS(table), 0);
}
