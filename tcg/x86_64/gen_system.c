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

/* --- The table ------------------------------------------------------------------------------------------------------------- */

static const struct gen_entry table[] = {
    { &op_cli, gen_cli, 0, GEN_CPL0 },
    { &op_sti, gen_sti, 0, GEN_CPL0 },
    { &op_swapgs, gen_swapgs, 0, GEN_CPL0 },
    { &op_clac, gen_ac, 0, GEN_CPL0 | GEN_SMAP },
    { &op_stac, gen_ac, 1, GEN_CPL0 | GEN_SMAP },
    { &op_mov_from_seg, gen_mov_from_seg, 0, GEN_REG },
    { &op_pushf, gen_pushf, 0, GEN_CODE64 | GEN_STACK },
};

void gen_templates_system(struct gen_template *t)
{
    gen_templates_add(t, table, G_N_ELEMENTS(table), 0);
}
