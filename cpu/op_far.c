/*
 * Far transfers: JMP, CALL and RET far, IRET, INT n, INT3, INTO, INT1, SYSCALL, SYSRET, SYSENTER, SYSEXIT.
 *
 * Intel SDM volume 2 (operation sections) and volume 3, 5.8. Stacks are written and all descriptors checked before any
 * register changes.
 *
 * Thread: the vCPU's own.
 */
#include "cpu/debug.h"
#include "cpu/flags.h"
#include "cpu/mem.h"
#include "cpu/op_form.h"
#include "cpu/seg.h"

static bool real_or_v86(const struct cpu *cpu)
{
    return !cpu_protected(cpu);
}

/* A 64-bit code segment takes canonical addresses, others what is within their limit. */
static void check_target_rip(struct cpu *cpu, const struct desc *cs, uint64_t rip)
{
    bool long_code = cpu_long(cpu) && cs->high & SEG_L;
    if (long_code ? !cpu_is_canonical(cpu, rip) : rip > desc_limit(cs))
        cpu_raise_gp0(cpu);
}

/* L and D both set is reserved in long mode. */
static void check_code_kind(struct cpu *cpu, uint16_t selector, const struct desc *cs)
{
    if (cpu_long(cpu) && (cs->high & (SEG_L | SEG_DB)) == (SEG_L | SEG_DB))
        cpu_raise_error(cpu, EXC_GP, selector & 0xfffc);
}

/* --- Real and virtual-8086 mode ----------------------------------------------------------------------------------- */

static void jump_real(struct cpu *cpu, uint16_t selector, uint64_t offset)
{
    if (offset > (cpu_v86(cpu) ? 0xffff : cpu->seg[SEG_CS].limit))
        cpu_raise_gp0(cpu);
    cpu_load_seg_real(cpu, SEG_CS, selector);
    cpu_set_rip(cpu, offset);
}

/* --- JMP and CALL ------------------------------------------------------------------------------------------------- */

/* Privilege checks of a direct transfer to a code segment. */
static void check_direct(struct cpu *cpu, uint16_t selector, const struct desc *cs)
{
    uint32_t error = selector & 0xfffc;
    unsigned rpl = selector & 3, dpl = desc_dpl(cs);
    if (cs->high & SEG_C ? dpl > cpu->cpl : rpl > cpu->cpl || dpl != cpu->cpl)
        cpu_raise_error(cpu, EXC_GP, error);
    if (!desc_present(cs))
        cpu_raise_error(cpu, EXC_NP, error);
    check_code_kind(cpu, selector, cs);
}

static void jump_code(struct cpu *cpu, uint16_t selector, struct desc *cs, uint64_t offset)
{
    check_direct(cpu, selector, cs);
    check_target_rip(cpu, cs, offset);
    desc_set_accessed(cpu, cs);
    seg_load_cs(cpu, selector, cs, cpu->cpl);
    cpu_set_rip(cpu, offset);
}

struct call_gate {
    uint16_t selector;
    uint64_t offset;
    unsigned params, width; /* width: log2 of what is pushed */
};

/* Reads and checks a call gate (its DPL and presence). */
static struct call_gate read_call_gate(struct cpu *cpu, uint16_t selector, struct desc *d)
{
    uint32_t error = selector & 0xfffc;
    struct call_gate g = { .selector = d->low >> 16, .offset = (d->low & 0xffff), .params = d->high & 31 };
    if (desc_dpl(d) < cpu->cpl || desc_dpl(d) < (selector & 3u))
        cpu_raise_error(cpu, EXC_GP, error);
    if (!desc_present(d))
        cpu_raise_error(cpu, EXC_NP, error);
    g.width = desc_type(d) == DESC_CALL16 ? 1 : 2;
    if (g.width == 2)
        g.offset |= d->high & 0xffff0000;
    if (cpu_long(cpu)) {
        desc_read_upper(cpu, selector, d, 0);
        g.offset |= (uint64_t)d->upper << 32;
        g.width = 3;
    }
    return g;
}

/* The code segment that a gate names. */
static void read_gate_code(struct cpu *cpu, const struct call_gate *g, struct desc *cs)
{
    uint32_t error = g->selector & 0xfffc;
    if (selector_is_null(g->selector))
        cpu_raise_gp0(cpu);
    desc_read_or_raise(cpu, g->selector, cs, EXC_GP, 0);
    if (!desc_is_code(cs) || desc_dpl(cs) > cpu->cpl)
        cpu_raise_error(cpu, EXC_GP, error);
    if (cpu_long(cpu) && (cs->high & (SEG_L | SEG_DB)) != SEG_L)
        cpu_raise_error(cpu, EXC_GP, error);
    if (!desc_present(cs))
        cpu_raise_error(cpu, EXC_NP, error);
}

static void jump_gate(struct cpu *cpu, uint16_t selector, struct desc *d)
{
    struct desc cs;
    struct call_gate g = read_call_gate(cpu, selector, d);
    read_gate_code(cpu, &g, &cs);
    if (!(cs.high & SEG_C) && desc_dpl(&cs) != cpu->cpl)
        cpu_raise_error(cpu, EXC_GP, g.selector & 0xfffc);
    check_target_rip(cpu, &cs, g.offset);
    desc_set_accessed(cpu, &cs);
    seg_load_cs(cpu, g.selector, &cs, cpu->cpl);
    cpu_set_rip(cpu, g.offset);
}

/* Parameters that a call gate copies from the caller's stack. */
static void copy_params(struct cpu *cpu, struct pusher *p, const struct call_gate *g)
{
    for (unsigned n = g->params; n-- > 0;)
        push_to(p, stack_peek(cpu, n << g->width, g->width), g->width);
}

static void call_gate_inner(struct cpu *cpu, const struct insn *i, const struct call_gate *g, struct desc *cs)
{
    unsigned cpl = desc_dpl(cs);
    uint16_t ss_selector = cpl;
    struct desc ss = { 0 };
    uint64_t sp = tss_stack(cpu, cpl, &ss_selector, 0);
    struct pusher p = pusher_flat(cpu, sp, cpl, ss_selector & 0xfffc);
    if (!cpu_long(cpu)) {
        seg_check_ss(cpu, ss_selector, cpl, &ss, EXC_TS, 0);
        p = pusher_in(cpu, &ss, sp, cpl, ss_selector & 0xfffc);
    }
    check_target_rip(cpu, cs, g->offset);
    push_to(&p, cpu->seg[SEG_SS].selector, g->width);
    push_to(&p, cpu->r[R_RSP], g->width);
    if (!cpu_long(cpu))
        copy_params(cpu, &p, g);
    push_to(&p, cpu->seg[SEG_CS].selector, g->width);
    push_to(&p, insn_next_rip(cpu, i), g->width);
    desc_set_accessed(cpu, cs);
    if (cpu_long(cpu)) {
        seg_load_null_ss(cpu, cpl);
    } else {
        desc_set_accessed(cpu, &ss);
        seg_load_desc(cpu, SEG_SS, ss_selector, &ss);
    }
    seg_load_cs(cpu, g->selector, cs, cpl);
    stack_set_sp(cpu, p.sp);
    cpu_set_rip(cpu, g->offset);
}

static void call_gate(struct cpu *cpu, const struct insn *i, uint16_t selector, struct desc *d)
{
    struct desc cs;
    struct call_gate g = read_call_gate(cpu, selector, d);
    read_gate_code(cpu, &g, &cs);
    if (!(cs.high & SEG_C) && desc_dpl(&cs) < cpu->cpl) {
        call_gate_inner(cpu, i, &g, &cs);
        return;
    }
    struct pusher p = pusher_current(cpu);
    check_target_rip(cpu, &cs, g.offset);
    push_to(&p, cpu->seg[SEG_CS].selector, g.width);
    push_to(&p, insn_next_rip(cpu, i), g.width);
    desc_set_accessed(cpu, &cs);
    stack_set_sp(cpu, p.sp);
    seg_load_cs(cpu, g.selector, &cs, cpu->cpl);
    cpu_set_rip(cpu, g.offset);
}

/* A TSS or a task gate as the target of JMP or CALL. */
static void transfer_task(struct cpu *cpu, const struct insn *i, uint16_t selector, struct desc *d, bool call)
{
    uint32_t error = selector & 0xfffc;
    if (desc_dpl(d) < cpu->cpl || desc_dpl(d) < (selector & 3u))
        cpu_raise_error(cpu, EXC_GP, error);
    if (desc_type(d) == DESC_TASK_GATE) {
        if (!desc_present(d))
            cpu_raise_error(cpu, EXC_NP, error);
        selector = d->low >> 16;
    }
    tss_read_desc(cpu, selector, d, false, EXC_GP, 0);
    task_switch(cpu, selector, d, call ? TASK_CALL : TASK_JMP, insn_next_rip(cpu, i), false, 0, 0);
}

static void transfer_system(struct cpu *cpu, const struct insn *i, uint16_t selector, struct desc *d, bool call)
{
    unsigned type = desc_type(d);
    bool gate = type == DESC_CALL32 || (type == DESC_CALL16 && !cpu_long(cpu));
    bool task = !cpu_long(cpu) && (type == DESC_TSS16 || type == DESC_TSS32 || type == DESC_TASK_GATE);
    if (gate && call)
        call_gate(cpu, i, selector, d);
    else if (gate)
        jump_gate(cpu, selector, d);
    else if (task)
        transfer_task(cpu, i, selector, d, call);
    else
        cpu_raise_error(cpu, EXC_GP, selector & 0xfffc);
}

static void read_target(struct cpu *cpu, uint16_t selector, struct desc *d)
{
    if (selector_is_null(selector))
        cpu_raise_gp0(cpu);
    desc_read_or_raise(cpu, selector, d, EXC_GP, 0);
}

static void far_jump(struct cpu *cpu, const struct insn *i, uint16_t selector, uint64_t offset)
{
    struct desc d;
    if (real_or_v86(cpu)) {
        jump_real(cpu, selector, offset);
        return;
    }
    read_target(cpu, selector, &d);
    if (desc_is_code(&d))
        jump_code(cpu, selector, &d, offset);
    else if (d.high & SEG_S)
        cpu_raise_error(cpu, EXC_GP, selector & 0xfffc);
    else
        transfer_system(cpu, i, selector, &d, false);
}

static void far_call(struct cpu *cpu, const struct insn *i, uint16_t selector, uint64_t offset)
{
    struct desc d;
    struct pusher p = pusher_current(cpu);
    unsigned width = i->osize;
    if (real_or_v86(cpu)) {
        if (offset > (cpu_v86(cpu) ? 0xffff : cpu->seg[SEG_CS].limit))
            cpu_raise_gp0(cpu);
        push_to(&p, cpu->seg[SEG_CS].selector, width);
        push_to(&p, insn_next_rip(cpu, i), width);
        stack_set_sp(cpu, p.sp);
        jump_real(cpu, selector, offset);
        return;
    }
    read_target(cpu, selector, &d);
    if (!desc_is_code(&d)) {
        if (d.high & SEG_S)
            cpu_raise_error(cpu, EXC_GP, selector & 0xfffc);
        transfer_system(cpu, i, selector, &d, true);
        return;
    }
    check_direct(cpu, selector, &d);
    check_target_rip(cpu, &d, offset);
    push_to(&p, cpu->seg[SEG_CS].selector, width);
    push_to(&p, insn_next_rip(cpu, i), width);
    desc_set_accessed(cpu, &d);
    stack_set_sp(cpu, p.sp);
    seg_load_cs(cpu, selector, &d, cpu->cpl);
    cpu_set_rip(cpu, offset);
}

static void jmp_far_ptr_fn(struct cpu *cpu, const struct insn *i)
{
    far_jump(cpu, i, i->imm >> 32, (uint32_t)i->imm);
}
OP_FORM_ONE(jmp_far_ptr)

static void call_far_ptr_fn(struct cpu *cpu, const struct insn *i)
{
    far_call(cpu, i, i->imm >> 32, (uint32_t)i->imm);
}
OP_FORM_ONE(call_far_ptr)

static void jmp_far_fn(struct cpu *cpu, const struct insn *i)
{
    uint16_t selector;
    uint64_t offset = seg_load_far_ptr(cpu, i, &selector);
    far_jump(cpu, i, selector, offset);
}
OP_FORM_ONE(jmp_far)

static void call_far_fn(struct cpu *cpu, const struct insn *i)
{
    uint16_t selector;
    uint64_t offset = seg_load_far_ptr(cpu, i, &selector);
    far_call(cpu, i, selector, offset);
}
OP_FORM_ONE(call_far)

/* --- RET far and IRET --------------------------------------------------------------------------------------------- */

/* The code segment to return to. */
static void read_return_code(struct cpu *cpu, uint16_t selector, struct desc *cs)
{
    uint32_t error = selector & 0xfffc;
    unsigned rpl = selector & 3;
    if (selector_is_null(selector))
        cpu_raise_gp0(cpu);
    desc_read_or_raise(cpu, selector, cs, EXC_GP, 0);
    if (!desc_is_code(cs) || rpl < cpu->cpl || (cs->high & SEG_C ? desc_dpl(cs) > rpl : desc_dpl(cs) != rpl))
        cpu_raise_error(cpu, EXC_GP, error);
    if (!desc_present(cs))
        cpu_raise_error(cpu, EXC_NP, error);
    check_code_kind(cpu, selector, cs);
}

/* SS for the outer level: null is a stack of 64-bit code below CPL 3. */
static bool read_return_stack(struct cpu *cpu, uint16_t selector, unsigned cpl, bool to_64, struct desc *ss)
{
    if (selector_is_null(selector)) {
        if (!to_64 || cpl == 3)
            cpu_raise_gp0(cpu);
        return false;
    }
    seg_check_ss(cpu, selector, cpl, ss, EXC_GP, 0);
    return true;
}

/* Loads CS:RIP and, if the stack was popped too, SS:RSP; then what the outer level must not see goes. */
static void return_to(struct cpu *cpu, uint16_t cs_selector, struct desc *cs, uint64_t rip, bool pop_stack,
                      uint16_t ss_selector, uint64_t sp, uint64_t release)
{
    unsigned rpl = cs_selector & 3;
    bool outer = rpl > cpu->cpl, to_64 = cpu_long(cpu) && cs->high & SEG_L, has_ss = false;
    struct desc ss;
    check_target_rip(cpu, cs, rip);
    if (pop_stack)
        has_ss = read_return_stack(cpu, ss_selector, rpl, to_64, &ss);
    desc_set_accessed(cpu, cs);
    if (has_ss)
        desc_set_accessed(cpu, &ss);
    seg_load_cs(cpu, cs_selector, cs, rpl);
    if (has_ss)
        seg_load_desc(cpu, SEG_SS, ss_selector, &ss);
    else if (pop_stack)
        seg_load_null_ss(cpu, rpl);
    if (pop_stack)
        stack_set_sp(cpu, sp + release);
    if (outer)
        seg_drop_privileged(cpu);
    cpu_set_rip(cpu, rip);
}

static void far_return(struct cpu *cpu, const struct insn *i, uint64_t release)
{
    unsigned size = 1u << i->osize;
    uint64_t rip = stack_peek(cpu, 0, i->osize);
    uint16_t selector = stack_peek(cpu, size, i->osize);
    if (real_or_v86(cpu)) {
        if (rip > (cpu_v86(cpu) ? 0xffff : cpu->seg[SEG_CS].limit))
            cpu_raise_gp0(cpu);
        stack_drop(cpu, 2 * size + release);
        jump_real(cpu, selector, rip);
        return;
    }
    struct desc cs;
    read_return_code(cpu, selector, &cs);
    if ((selector & 3u) == cpu->cpl) {
        check_target_rip(cpu, &cs, rip);
        desc_set_accessed(cpu, &cs);
        stack_drop(cpu, 2 * size + release);
        seg_load_cs(cpu, selector, &cs, cpu->cpl);
        cpu_set_rip(cpu, rip);
        return;
    }
    uint64_t sp = stack_peek(cpu, 2 * size + release, i->osize);
    uint16_t ss = stack_peek(cpu, 3 * size + release, i->osize);
    return_to(cpu, selector, &cs, rip, true, ss, sp, release);
}

static void retf_fn(struct cpu *cpu, const struct insn *i)
{
    far_return(cpu, i, 0);
}
OP_FORM_ONE(retf)

static void retf_imm_fn(struct cpu *cpu, const struct insn *i)
{
    far_return(cpu, i, (uint16_t)i->imm);
}
OP_FORM_ONE(retf_imm)

static void iret_done(struct cpu *cpu)
{
    cpu_update_mode(cpu);
}

static void iret_real(struct cpu *cpu, const struct insn *i)
{
    unsigned size = 1u << i->osize;
    uint64_t rip = stack_peek(cpu, 0, i->osize), flags = stack_peek(cpu, 2 * size, i->osize);
    uint16_t selector = stack_peek(cpu, size, i->osize);
    uint64_t mask = FLAGS_ARITH | FLAG_TF | FLAG_IF | FLAG_DF | FLAG_NT;
    if (i->osize > 1)
        mask |= FLAG_AC | FLAG_ID | FLAG_RF;
    if (!cpu_v86(cpu))
        mask |= FLAG_IOPL;
    if (rip > (cpu_v86(cpu) ? 0xffff : cpu->seg[SEG_CS].limit))
        cpu_raise_gp0(cpu);
    stack_drop(cpu, 3 * size);
    cpu->rflags = (cpu->rflags & ~mask) | (flags & mask) | FLAGS_FIXED;
    jump_real(cpu, selector, rip);
    iret_done(cpu);
}

/* V86 with IOPL < 3 and VME: a 16-bit IRET whose IF is VIF. */
static void iret_v86_virtual(struct cpu *cpu, const struct insn *i)
{
    if (!(cpu->cr4 & CR4_VME) || i->osize != 1)
        cpu_raise_gp0(cpu);
    uint16_t ip = stack_peek(cpu, 0, 1), selector = stack_peek(cpu, 2, 1), flags = stack_peek(cpu, 4, 1);
    if ((flags & FLAG_IF && cpu->rflags & FLAG_VIP) || flags & FLAG_TF)
        cpu_raise_gp0(cpu);
    uint64_t mask = FLAGS_ARITH | FLAG_DF | FLAG_NT;
    stack_drop(cpu, 6);
    cpu->rflags = (cpu->rflags & ~(mask | FLAG_VIF | FLAG_TF)) | (flags & mask) | (flags & FLAG_IF ? FLAG_VIF : 0);
    jump_real(cpu, selector, ip);
    iret_done(cpu);
}

/* From CPL 0 to virtual-8086 mode: nine doublewords. */
static void iret_to_v86(struct cpu *cpu, uint32_t eip, uint16_t cs, uint32_t flags)
{
    static const enum seg order[] = { SEG_ES, SEG_DS, SEG_FS, SEG_GS };
    uint32_t esp = stack_peek(cpu, 12, 2);
    uint16_t ss = stack_peek(cpu, 16, 2), data[4];
    for (unsigned k = 0; k < 4; k++)
        data[k] = stack_peek(cpu, 20 + 4 * k, 2);
    if (eip > 0xffff)
        cpu_raise_gp0(cpu);
    cpu->rflags = (flags & FLAGS_DEFINED) | FLAGS_FIXED;
    cpu->cpl = 3;
    cpu_load_seg_real(cpu, SEG_CS, cs);
    cpu_load_seg_real(cpu, SEG_SS, ss);
    for (unsigned k = 0; k < 4; k++)
        cpu_load_seg_real(cpu, order[k], data[k]);
    cpu->r[R_RSP] = esp;
    cpu_set_rip(cpu, eip);
    iret_done(cpu);
}

static void iret_task(struct cpu *cpu, const struct insn *i)
{
    struct desc d;
    uint16_t selector = mem_load_system(cpu, cpu->seg[SEG_TR].base, 2);
    tss_read_desc(cpu, selector, &d, true, EXC_TS, 0);
    task_switch(cpu, selector, &d, TASK_IRET, insn_next_rip(cpu, i), false, 0, 0);
    iret_done(cpu);
}

/* The flags that code at `cpl` may load. */
static void iret_flags(struct cpu *cpu, uint64_t flags, unsigned osize, unsigned old_cpl)
{
    uint64_t mask = FLAGS_ARITH | FLAG_TF | FLAG_DF | FLAG_NT;
    if (osize > 1)
        mask |= FLAG_RF | FLAG_AC | FLAG_ID;
    if (old_cpl <= cpu_iopl(cpu))
        mask |= FLAG_IF;
    if (old_cpl == 0)
        mask |= FLAG_IOPL | (osize > 1 ? FLAG_VIF | FLAG_VIP : 0);
    cpu->rflags = (cpu->rflags & ~mask) | (flags & mask) | FLAGS_FIXED;
}

static void iret_protected(struct cpu *cpu, const struct insn *i)
{
    unsigned size = 1u << i->osize, old_cpl = cpu->cpl;
    uint64_t rip = stack_peek(cpu, 0, i->osize), flags = stack_peek(cpu, 2 * size, i->osize);
    uint16_t selector = stack_peek(cpu, size, i->osize);
    if (flags & FLAG_VM && i->osize == 2 && old_cpl == 0 && !cpu_long(cpu)) {
        iret_to_v86(cpu, rip, selector, flags);
        return;
    }
    struct desc cs;
    read_return_code(cpu, selector, &cs);
    bool outer = (selector & 3u) > cpu->cpl, pop_stack = outer || cpu_in_64(cpu);
    if (pop_stack) {
        uint64_t sp = stack_peek(cpu, 3 * size, i->osize);
        uint16_t ss = stack_peek(cpu, 4 * size, i->osize);
        return_to(cpu, selector, &cs, rip, true, ss, sp, 0);
    } else {
        check_target_rip(cpu, &cs, rip);
        desc_set_accessed(cpu, &cs);
        stack_drop(cpu, 3 * size);
        seg_load_cs(cpu, selector, &cs, cpu->cpl);
        cpu_set_rip(cpu, rip);
    }
    iret_flags(cpu, flags, i->osize, old_cpl);
    iret_done(cpu);
}

/* NMIs are let in again even if the IRET faults. */
static void iret_fn(struct cpu *cpu, const struct insn *i)
{
    cpu->nmi_blocked = false;
    if (cpu_v86(cpu) && cpu_iopl(cpu) < 3)
        iret_v86_virtual(cpu, i);
    else if (real_or_v86(cpu))
        iret_real(cpu, i);
    else if (cpu->rflags & FLAG_NT && cpu_long(cpu))
        cpu_raise_gp0(cpu);
    else if (cpu->rflags & FLAG_NT)
        iret_task(cpu, i);
    else
        iret_protected(cpu, i);
}
OP_FORM_ONE(iret)

/* --- Software interrupts ------------------------------------------------------------------------------------------ */

static void int_fn(struct cpu *cpu, const struct insn *i)
{
    uint8_t vector = i->imm;
    if (cpu_v86(cpu) && cpu_iopl(cpu) < 3 && !(cpu->cr4 & CR4_VME && tss_int_redirected(cpu, vector)))
        cpu_raise_gp0(cpu);
    cpu_deliver(cpu, vector, EXCP_SOFT, false, 0, insn_next_rip(cpu, i));
}
OP_FORM_ONE(int)

static void int3_fn(struct cpu *cpu, const struct insn *i)
{
    cpu_deliver(cpu, EXC_BP, EXCP_SOFT_EXC, false, 0, insn_next_rip(cpu, i));
}
OP_FORM_ONE(int3)

/* A trap that MOV SS has held back until now is reported together with it. */
static void int1_fn(struct cpu *cpu, const struct insn *i)
{
    if (cpu->dr6_pending) {
        cpu->dr6 = (cpu->dr6 & ~UINT64_C(0xf)) | cpu->dr6_pending;
        cpu->dr6_pending = 0;
        cpu_event_clear(cpu, CPU_EVENT_TRAP);
    }
    cpu_deliver(cpu, EXC_DB, EXCP_ICEBP, false, 0, insn_next_rip(cpu, i));
}
OP_FORM_ONE(int1)

static void into_fn(struct cpu *cpu, const struct insn *i)
{
    if (cpu->rflags & FLAG_OF)
        cpu_deliver(cpu, EXC_OF, EXCP_SOFT_EXC, false, 0, insn_next_rip(cpu, i));
}
OP_FORM_ONE(into)

/* --- System calls ------------------------------------------------------------------------------------------------- */

#define FLAT_CODE (SEG_G | SEG_P | SEG_S | SEG_X | SEG_R | SEG_A)
#define FLAT_DATA (SEG_G | SEG_DB | SEG_P | SEG_S | SEG_W | SEG_A)

/* Flat CS and SS of the pair that SYSCALL and SYSENTER know by arithmetic alone. */
static void load_flat_pair(struct cpu *cpu, uint16_t cs, uint16_t ss, unsigned cpl, bool code_64)
{
    uint32_t dpl = cpl << SEG_DPL_SHIFT;
    cpu->cpl = cpl;
    cpu_set_seg(cpu, SEG_CS, (cs & 0xfffc) | cpl, 0, UINT32_MAX, FLAT_CODE | dpl | (code_64 ? SEG_L : SEG_DB));
    cpu_set_seg(cpu, SEG_SS, (ss & 0xfffc) | cpl, 0, UINT32_MAX, FLAT_DATA | dpl);
}

/* The trap of a stepped SYSCALL or SYSRET is decided by TF as it is afterwards. */
static void restep(struct cpu *cpu)
{
    if (cpu->stepping)
        cpu->stepping = cpu->rflags & FLAG_TF;
}

static void syscall_fn(struct cpu *cpu, const struct insn *i)
{
    if (!(cpu->efer & EFER_SCE) || !cpu_in_64(cpu)) /* Intel: only from 64-bit mode */
        cpu_raise_ud(cpu);
    cpu->r[R_RCX] = insn_next_rip(cpu, i);
    cpu->r[R_R11] = cpu->rflags & ~(uint64_t)FLAG_RF;
    uint16_t cs = cpu->star >> 32 & 0xfffc;
    cpu->rflags = (cpu->rflags & ~(cpu->sfmask | FLAG_RF)) | FLAGS_FIXED;
    load_flat_pair(cpu, cs, cs + 8, 0, true);
    cpu_set_rip(cpu, cpu->lstar);
    restep(cpu);
}
OP_FORM_ONE(syscall)

static void sysret_fn(struct cpu *cpu, const struct insn *i)
{
    bool to_64 = i->flags & INSN_W;
    if (!(cpu->efer & EFER_SCE) || !cpu_in_64(cpu))
        cpu_raise_ud(cpu);
    if (to_64 && !cpu_is_canonical(cpu, cpu->r[R_RCX]))
        cpu_raise_gp0(cpu);
    uint16_t base = cpu->star >> 48;
    cpu->rflags = (cpu->r[R_R11] & 0x3c7fd7) | FLAGS_FIXED;
    load_flat_pair(cpu, base + (to_64 ? 16 : 0), base + 8, 3, to_64);
    cpu_set_rip(cpu, to_64 ? cpu->r[R_RCX] : (uint32_t)cpu->r[R_RCX]);
    restep(cpu);
    if (cpu->rflags & FLAG_TF) { /* unlike that of IRET or POPF the trap comes before the next instruction */
        cpu->dr6_pending |= DR6_BS;
        cpu_event_set(cpu, CPU_EVENT_TRAP);
    }
}
OP_FORM_ONE(sysret)

static void sysenter_fn(struct cpu *cpu, const struct insn *i)
{
    if (!(cpu->cr0 & CR0_PE) || !(cpu->sysenter_cs & 0xfffc))
        cpu_raise_gp0(cpu);
    bool wide = cpu_long(cpu);
    uint16_t cs = cpu->sysenter_cs & 0xfffc;
    cpu->rflags &= ~(uint64_t)(FLAG_VM | FLAG_IF | FLAG_RF);
    load_flat_pair(cpu, cs, cs + 8, 0, wide);
    cpu->r[R_RSP] = wide ? cpu->sysenter_esp : (uint32_t)cpu->sysenter_esp;
    cpu_set_rip(cpu, wide ? cpu->sysenter_eip : (uint32_t)cpu->sysenter_eip);
}
OP_FORM_ONE(sysenter)

static void sysexit_fn(struct cpu *cpu, const struct insn *i)
{
    bool to_64 = i->flags & INSN_W;
    if (!(cpu->sysenter_cs & 0xfffc) || !cpu_protected(cpu))
        cpu_raise_gp0(cpu);
    if (to_64 && (!cpu_is_canonical(cpu, cpu->r[R_RDX]) || !cpu_is_canonical(cpu, cpu->r[R_RCX])))
        cpu_raise_gp0(cpu);
    uint16_t cs = (cpu->sysenter_cs & 0xfffc) + (to_64 ? 32 : 16);
    load_flat_pair(cpu, cs, cs + 8, 3, to_64);
    cpu->r[R_RSP] = to_64 ? cpu->r[R_RCX] : (uint32_t)cpu->r[R_RCX];
    cpu_set_rip(cpu, to_64 ? cpu->r[R_RDX] : (uint32_t)cpu->r[R_RDX]);
}
OP_FORM_ONE(sysexit)
