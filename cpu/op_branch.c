/*
 * Near transfers: Jcc, JMP, CALL, RET, LOOPcc, JrCXZ; BOUND. Intel SDM volume 2. Far transfers and interrupts are in
 * op_far.c.
 *
 * Everything that can fault comes before any register changes: a CALL stores the return address, then checks the
 * target (cpu_jump), then moves RSP. Runs on the vCPU's thread.
 */
#include "cpu/flags.h"
#include "cpu/op_form.h"
#include "cpu/mem.h"

static inline uint64_t branch_target(const struct cpu *cpu, const struct insn *i)
{
    return insn_next_rip(cpu, i) + (uint64_t)i->disp;
}

#define JCC(cc, code) \
    OP_BODY j##cc##_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead) \
    { \
        if (flags_cond(cpu->rflags, code)) \
            cpu_jump(cpu, branch_target(cpu, i), size); \
    } \
    OP_FORMS_SIZE(j##cc)
FOR_EACH_COND(JCC)

OP_BODY jmp_rel_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    cpu_jump(cpu, branch_target(cpu, i), size);
}
OP_FORMS_SIZE(jmp_rel)

OP_BODY jmp_near_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    cpu_jump(cpu, rm_get(cpu, i, size, mem), size);
}
OP_FORMS_SIZE_MEM(jmp_near)

OP_BODY call_to(struct cpu *cpu, const struct insn *i, uint64_t target, unsigned size)
{
    unsigned seg = stack_seg(cpu), bytes = 1u << size;
    uint64_t sp = (cpu->r[R_RSP] - bytes) & stack_mask(cpu);

    mem_store(cpu, seg_linear(cpu, seg, sp, bytes, true), insn_next_rip(cpu, i), size, seg);
    cpu_jump(cpu, target, size);
    stack_set_sp(cpu, sp);
}

OP_BODY call_rel_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    call_to(cpu, i, branch_target(cpu, i), size);
}
OP_FORMS_SIZE(call_rel)

OP_BODY call_near_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    call_to(cpu, i, rm_get(cpu, i, size, mem), size);
}
OP_FORMS_SIZE_MEM(call_near)

OP_BODY ret_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    cpu_jump(cpu, stack_peek(cpu, 0, size), size);
    stack_drop(cpu, 1u << size);
}
OP_FORMS_SIZE(ret)

OP_BODY ret_imm_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    cpu_jump(cpu, stack_peek(cpu, 0, size), size);
    stack_drop(cpu, (1u << size) + (uint16_t)i->imm);
}
OP_FORMS_SIZE(ret_imm)

/* The counter is rCX by address size. */
OP_BODY loop_if(struct cpu *cpu, const struct insn *i, bool condition, unsigned size)
{
    uint64_t count = (reg_get(cpu, R_RCX, i->asize) - 1) & size_mask(i->asize);

    if (count != 0 && condition)
        cpu_jump(cpu, branch_target(cpu, i), size);
    reg_set(cpu, R_RCX, count, i->asize);
}

OP_BODY loop_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    loop_if(cpu, i, true, size);
}
OP_FORMS_SIZE(loop)

OP_BODY loope_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    loop_if(cpu, i, cpu->rflags & FLAG_ZF, size);
}
OP_FORMS_SIZE(loope)

OP_BODY loopne_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    loop_if(cpu, i, !(cpu->rflags & FLAG_ZF), size);
}
OP_FORMS_SIZE(loopne)

OP_BODY jrcxz_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    if (reg_get(cpu, R_RCX, i->asize) == 0)
        cpu_jump(cpu, branch_target(cpu, i), size);
}
OP_FORMS_SIZE(jrcxz)

/* Signed index against two bounds in memory, both included. The upper bound is read only if the lower one is kept. */
OP_BODY bound_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    unsigned bytes = 1u << size;
    uint64_t low = insn_ea(cpu, i), high = (low + bytes) & size_mask(i->asize);
    int64_t index = (int64_t)sign_extend(cpu->r[i->reg], size);

    low = mem_load(cpu, seg_linear(cpu, i->seg, low, bytes, false), size, i->seg);
    if (index < (int64_t)sign_extend(low, size))
        cpu_raise(cpu, EXC_BR);
    high = mem_load(cpu, seg_linear(cpu, i->seg, high, bytes, false), size, i->seg);
    if (index > (int64_t)sign_extend(high, size))
        cpu_raise(cpu, EXC_BR);
}
OP_FORMS_SIZE(bound)
