/*
 * Hardware task switches through 16-bit and 32-bit TSSs. Intel SDM volume 3, chapter 7.
 *
 * Everything that can fault in the old task's context is touched first: both TSSs are probed, then the old state is
 * saved, then the new one loaded. Faults while the new segments load belong to the new task, as on a processor.
 *
 * Thread: the vCPU's own.
 */
#include "cpu/debug.h"
#include "cpu/flags.h"
#include "cpu/mem.h"
#include "cpu/seg.h"

/* What a TSS holds, in the order of loading. */
struct tss_image {
    uint32_t cr3, eip, eflags, regs[8], ldt;
    uint16_t seg[6]; /* ES CS SS DS FS GS */
    uint16_t trap;
};

/* Offsets in a 32-bit and a 16-bit TSS. */
enum { TSS32_CR3 = 0x1c, TSS32_EIP = 0x20, TSS32_EFLAGS = 0x24, TSS32_REGS = 0x28, TSS32_SEGS = 0x48, TSS32_LDT = 0x60,
       TSS32_TRAP = 0x64, TSS32_SIZE = 0x68 };
enum { TSS16_IP = 0x0e, TSS16_FLAGS = 0x10, TSS16_REGS = 0x12, TSS16_SEGS = 0x22, TSS16_LDT = 0x2a, TSS16_SIZE = 0x2c };

static void probe_system(struct cpu *cpu, uint64_t base, unsigned size)
{
    for (unsigned at = 0; at < size; at += 4)
        mem_load_system(cpu, (uint32_t)(base + at), 2);
}

static void read_tss32(struct cpu *cpu, uint64_t base, struct tss_image *t)
{
    t->cr3 = mem_load_system(cpu, base + TSS32_CR3, 4);
    t->eip = mem_load_system(cpu, base + TSS32_EIP, 4);
    t->eflags = mem_load_system(cpu, base + TSS32_EFLAGS, 4);
    for (unsigned k = 0; k < 8; k++)
        t->regs[k] = mem_load_system(cpu, base + TSS32_REGS + 4 * k, 4);
    for (unsigned k = 0; k < 6; k++)
        t->seg[k] = mem_load_system(cpu, base + TSS32_SEGS + 4 * k, 2);
    t->ldt = mem_load_system(cpu, base + TSS32_LDT, 2);
    t->trap = mem_load_system(cpu, base + TSS32_TRAP, 2) & 1;
}

static void read_tss16(struct cpu *cpu, uint64_t base, struct tss_image *t)
{
    *t = (struct tss_image){ .cr3 = cpu->cr3 };
    t->eip = mem_load_system(cpu, base + TSS16_IP, 2);
    t->eflags = mem_load_system(cpu, base + TSS16_FLAGS, 2);
    for (unsigned k = 0; k < 8; k++)
        t->regs[k] = mem_load_system(cpu, base + TSS16_REGS + 2 * k, 2) | 0xffff0000;
    for (unsigned k = 0; k < 4; k++)
        t->seg[k] = mem_load_system(cpu, base + TSS16_SEGS + 2 * k, 2);
    t->ldt = mem_load_system(cpu, base + TSS16_LDT, 2);
}

static void save_old(struct cpu *cpu, uint32_t eip, uint32_t eflags)
{
    uint64_t base = cpu->seg[SEG_TR].base;
    if (cpu->seg[SEG_TR].attr & 8u << SEG_TYPE_SHIFT) {
        mem_store_system(cpu, base + TSS32_EIP, eip, 4);
        mem_store_system(cpu, base + TSS32_EFLAGS, eflags, 4);
        for (unsigned k = 0; k < 8; k++)
            mem_store_system(cpu, base + TSS32_REGS + 4 * k, cpu->r[k], 4);
        for (unsigned k = 0; k < 6; k++)
            mem_store_system(cpu, base + TSS32_SEGS + 4 * k, cpu->seg[k].selector, 2);
        return;
    }
    mem_store_system(cpu, base + TSS16_IP, eip, 2);
    mem_store_system(cpu, base + TSS16_FLAGS, eflags, 2);
    for (unsigned k = 0; k < 8; k++)
        mem_store_system(cpu, base + TSS16_REGS + 2 * k, cpu->r[k], 2);
    for (unsigned k = 0; k < 4; k++)
        mem_store_system(cpu, base + TSS16_SEGS + 2 * k, cpu->seg[k].selector, 2);
}

/* Both ends of what save_old() writes, so that it cannot fault midway. */
static void probe_old(struct cpu *cpu)
{
    bool wide = cpu->seg[SEG_TR].attr & 8u << SEG_TYPE_SHIFT;
    uint64_t first = cpu->seg[SEG_TR].base + (wide ? TSS32_EIP : TSS16_IP);
    uint64_t last = cpu->seg[SEG_TR].base + (wide ? TSS32_LDT - 4 : TSS16_LDT - 2);
    mem_store_system(cpu, first, mem_load_system(cpu, first, 2), 2);
    mem_store_system(cpu, last, mem_load_system(cpu, last, 2), 2);
}

/* Faults of the new task: #TS with the selector, or what the segment's kind asks for. */
static _Noreturn void raise_ts(struct cpu *cpu, uint16_t selector, unsigned ext)
{
    cpu_raise_error(cpu, EXC_TS, (selector & 0xfffc) | ext);
}

static void load_ldt(struct cpu *cpu, uint16_t selector, unsigned ext)
{
    struct desc d;
    cpu_set_seg(cpu, SEG_LDTR, selector, 0, 0, 0);
    if (selector_is_null(selector))
        return;
    if (selector & 4 || !desc_read(cpu, selector, &d) || d.high & SEG_S || desc_type(&d) != DESC_LDT ||
        !desc_present(&d))
        raise_ts(cpu, selector, ext);
    seg_load_desc(cpu, SEG_LDTR, selector, &d);
}

static void load_code(struct cpu *cpu, uint16_t selector, unsigned ext)
{
    struct desc d;
    if (selector_is_null(selector) || !desc_read(cpu, selector, &d) || !desc_is_code(&d))
        raise_ts(cpu, selector, ext);
    unsigned rpl = selector & 3;
    if (d.high & SEG_C ? desc_dpl(&d) > rpl : desc_dpl(&d) != rpl)
        raise_ts(cpu, selector, ext);
    if (!desc_present(&d))
        cpu_raise_error(cpu, EXC_NP, (selector & 0xfffc) | ext);
    desc_set_accessed(cpu, &d);
    seg_load_cs(cpu, selector, &d, rpl);
}

static void load_data(struct cpu *cpu, enum seg s, uint16_t selector, unsigned ext)
{
    struct desc d;
    if (selector_is_null(selector))
        return;
    seg_check_data(cpu, selector, &d, EXC_TS, ext);
    desc_set_accessed(cpu, &d);
    seg_load_desc(cpu, s, selector, &d);
}

static void load_segments(struct cpu *cpu, const struct tss_image *t, unsigned ext)
{
    struct desc ss;
    for (enum seg s = SEG_ES; s <= SEG_GS; s++)
        cpu_set_seg(cpu, s, t->seg[s], 0, 0, 0);
    if (cpu_v86(cpu)) {
        cpu->cpl = 3;
        load_ldt(cpu, t->ldt, ext);
        for (enum seg s = SEG_ES; s <= SEG_GS; s++)
            cpu_load_seg_real(cpu, s, t->seg[s]);
        return;
    }
    cpu->cpl = t->seg[SEG_CS] & 3;
    load_ldt(cpu, t->ldt, ext);
    load_code(cpu, t->seg[SEG_CS], ext);
    seg_check_ss(cpu, t->seg[SEG_SS], cpu->cpl, &ss, EXC_TS, ext);
    desc_set_accessed(cpu, &ss);
    seg_load_desc(cpu, SEG_SS, t->seg[SEG_SS], &ss);
    load_data(cpu, SEG_DS, t->seg[SEG_DS], ext);
    load_data(cpu, SEG_ES, t->seg[SEG_ES], ext);
    load_data(cpu, SEG_FS, t->seg[SEG_FS], ext);
    load_data(cpu, SEG_GS, t->seg[SEG_GS], ext);
}

/* The busy bits and the link back, as the cause wants them. Returns EFLAGS to save in the old task. */
static uint32_t link_tasks(struct cpu *cpu, struct desc *new, uint64_t new_base, enum task_cause cause,
                           uint32_t *eflags)
{
    uint32_t saved = cpu->rflags;
    if (cause == TASK_JMP || cause == TASK_IRET) {
        struct desc old;
        if (desc_read(cpu, cpu->seg[SEG_TR].selector, &old))
            desc_set_busy(cpu, &old, false);
    }
    if (cause == TASK_IRET)
        saved &= ~FLAG_NT;
    if (cause == TASK_CALL || cause == TASK_INT) {
        mem_store_system(cpu, new_base, cpu->seg[SEG_TR].selector, 2);
        *eflags |= FLAG_NT;
    }
    if (cause != TASK_IRET)
        desc_set_busy(cpu, new, true);
    return saved;
}

void task_switch(struct cpu *cpu, uint16_t selector, struct desc *d, enum task_cause cause, uint64_t next_rip,
                 bool has_error, uint32_t error, unsigned ext)
{
    bool wide = desc_type(d) & 8;
    uint64_t base = desc_base(d);
    struct tss_image t;
    if (desc_limit(d) < (wide ? TSS32_SIZE : TSS16_SIZE) - 1u)
        raise_ts(cpu, selector, ext);
    probe_system(cpu, base, wide ? TSS32_SIZE : TSS16_SIZE);
    if (wide)
        read_tss32(cpu, base, &t);
    else
        read_tss16(cpu, base, &t);
    probe_old(cpu);
    uint32_t saved_flags = link_tasks(cpu, d, base, cause, &t.eflags);
    save_old(cpu, next_rip, saved_flags);

    seg_load_desc(cpu, SEG_TR, selector, d);
    cpu->seg[SEG_TR].attr |= 2u << SEG_TYPE_SHIFT;
    cpu->cr0 |= CR0_TS;
    if (wide && cpu->cr0 & CR0_PG)
        cpu_write_cr3(cpu, t.cr3);
    cpu->rflags = (t.eflags & FLAGS_DEFINED) | FLAGS_FIXED;
    for (unsigned k = 0; k < 8; k++)
        cpu->r[k] = t.regs[k];
    cpu->dr7 &= ~UINT64_C(0x155); /* local breakpoints are the old task's */
    cpu_set_rip(cpu, t.eip);
    load_segments(cpu, &t, ext);
    cpu_update_mode(cpu);
    if (t.eip > cpu->seg[SEG_CS].limit)
        cpu_raise_error(cpu, EXC_GP, ext);
    if (has_error)
        stack_push(cpu, error, wide ? 2 : 1);
    if (t.trap) {
        cpu->dr6_pending |= DR6_BT;
        cpu_event_set(cpu, CPU_EVENT_TRAP);
    }
}
