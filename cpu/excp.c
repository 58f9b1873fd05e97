/*
 * Exceptions and interrupts: raising, double and triple faults, delivery through IVT and IDT in every mode.
 *
 * Intel SDM volume 3, chapter 6 and 20.3 (virtual-8086). Stack pushes go to the new stack before any register changes,
 * so that a fault on the way leaves the interrupted state whole.
 *
 * Thread: the vCPU's own.
 */
#include "cpu/excp.h"

#include "cpu/debug.h"
#include "cpu/mem.h"
#include "cpu/seg.h"
#include "hw/core/log.h"

const char *excp_name(unsigned vector)
{
    static const char *const names[] = { "#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", "#9",
                                         "#TS", "#NP", "#SS", "#GP", "#PF", "#15", "#MF", "#AC", "#MC", "#XM" };
    return vector < G_N_ELEMENTS(names) ? names[vector] : "interrupt";
}

/* --- Raising ------------------------------------------------------------------------------------------------------ */

static _Noreturn void raise_with(struct cpu *cpu, enum vector vector, bool has_error, uint32_t error, uint64_t address)
{
    cpu->raised.vector = vector;
    cpu->raised.has_error = has_error;
    cpu->raised.error = error;
    cpu->raised.address = address;
    siglongjmp(*cpu->unwind, EXCP_UNWIND_RAISE);
}

void cpu_retry(struct cpu *cpu)
{
    siglongjmp(*cpu->unwind, EXCP_UNWIND_RETRY);
}

void cpu_raise(struct cpu *cpu, enum vector vector)
{
    raise_with(cpu, vector, false, 0, 0);
}

void cpu_raise_error(struct cpu *cpu, enum vector vector, uint32_t error)
{
    raise_with(cpu, vector, true, error, 0);
}

void cpu_raise_page_fault(struct cpu *cpu, uint64_t address, uint32_t error)
{
    raise_with(cpu, EXC_PF, true, error, address);
}

/* SDM table 6-5: what makes a double fault. */
enum fault_class { BENIGN, CONTRIBUTORY, PAGE_FAULT, DOUBLE_FAULT };

static enum fault_class fault_class(int vector)
{
    switch (vector) {
    case EXC_DE: case EXC_TS: case EXC_NP: case EXC_SS: case EXC_GP: return CONTRIBUTORY;
    case EXC_PF: return PAGE_FAULT;
    case EXC_DF: return DOUBLE_FAULT;
    default: return BENIGN;
    }
}

static void chain_add(struct cpu *cpu, bool first)
{
    if (first)
        cpu->fault_count = 0;
    if (cpu->fault_count == G_N_ELEMENTS(cpu->fault_chain))
        return;
    unsigned k = cpu->fault_count++;
    cpu->fault_chain[k].vector = cpu->raised.vector;
    cpu->fault_chain[k].error = cpu->raised.error;
    cpu->fault_chain[k].rip = cpu->rip;
    cpu->fault_chain[k].address = cpu->raised.address;
}

void excp_print_chain(const struct cpu *cpu, GString *out)
{
    for (unsigned k = 0; k < cpu->fault_count; k++) {
        g_string_append_printf(out, "%s%s error %#x at rip %#" PRIx64, k ? ", then " : "",
                               excp_name(cpu->fault_chain[k].vector), cpu->fault_chain[k].error,
                               cpu->fault_chain[k].rip);
        if (cpu->fault_chain[k].vector == EXC_PF)
            g_string_append_printf(out, " address %#" PRIx64, cpu->fault_chain[k].address);
    }
}

/* Not for instruction breakpoints: their handler decides. General detect, the other #DB that is a fault, has DR6.BD. */
static bool has_saved_resume_flag(const struct cpu *cpu, unsigned vector, enum excp_source source)
{
    return source == EXCP_FAULT && vector != EXC_DF && (vector != EXC_DB || cpu->dr6 & DR6_BD);
}

bool excp_take_raised(struct cpu *cpu)
{
    int during = cpu->delivering;
    unsigned vector = cpu->raised.vector;
    bool has_error = cpu->raised.has_error;
    uint32_t error = cpu->raised.error;
    enum fault_class first = during < 0 ? BENIGN : fault_class(during), second = fault_class(vector);

    chain_add(cpu, during < 0);
    if (vector == EXC_PF)
        cpu->cr2 = cpu->raised.address;
    cpu->delivering = -1;
    if (first == DOUBLE_FAULT && second != BENIGN) {
        cpu->activity = CPU_SHUTDOWN;
        return false;
    }
    if ((first == CONTRIBUTORY && second == CONTRIBUTORY) || (first == PAGE_FAULT && second != BENIGN)) {
        vector = EXC_DF;
        has_error = true;
        error = 0;
    }
    has_error &= (cpu->cr0 & CR0_PE) != 0; /* real mode pushes none */
    cpu_deliver(cpu, vector, EXCP_FAULT, has_error, error, cpu->rip);
    return true;
}

void excp_deliver_event(struct cpu *cpu, enum vector vector, enum excp_source source)
{
    cpu_deliver(cpu, vector, source, false, 0, cpu->rip);
}

/* --- Delivery ----------------------------------------------------------------------------------------------------- */

/* What is being delivered; filled once, passed down. */
struct delivery {
    unsigned vector;
    enum excp_source source;
    bool has_error;
    uint32_t error;
    uint64_t rip;    /* to be saved */
    uint64_t rflags; /* to be saved */
    unsigned ext;    /* EXT bit of error codes raised on the way */
};

static bool is_software(const struct delivery *d)
{
    return d->source == EXCP_SOFT || d->source == EXCP_SOFT_EXC;
}

static uint32_t idt_error(const struct delivery *d)
{
    return d->vector * 8 + 2 + d->ext;
}

static void deliver_real(struct cpu *cpu, const struct delivery *d)
{
    uint32_t at = d->vector * 4;
    if (at + 3 > cpu->idtr.limit)
        cpu_raise_error(cpu, EXC_GP, idt_error(d));
    uint32_t entry = mem_load_system(cpu, (uint32_t)(cpu->idtr.base + at), 4);
    struct pusher p = pusher_current(cpu);
    push_to(&p, d->rflags, 1);
    push_to(&p, cpu->seg[SEG_CS].selector, 1);
    push_to(&p, d->rip, 1);
    stack_set_sp(cpu, p.sp);
    cpu->rflags &= ~(uint64_t)(FLAG_IF | FLAG_TF | FLAG_AC | FLAG_RF);
    cpu_set_seg(cpu, SEG_CS, entry >> 16, entry >> 16 << 4, cpu->seg[SEG_CS].limit, cpu->seg[SEG_CS].attr);
    cpu_set_rip(cpu, entry & 0xffff);
}

/* INT n of a V86 program with CR4.VME that its TSS lets the program handle itself: as in real mode. */
static void deliver_v86_redirected(struct cpu *cpu, const struct delivery *d)
{
    uint32_t entry = mem_load_cpl(cpu, d->vector * 4, 4, 3, SEG_FLAT);
    struct pusher p = pusher_current(cpu);
    uint64_t flags = d->rflags;
    bool virtual_if = cpu_iopl(cpu) < 3;
    if (virtual_if)
        flags = (flags & ~(uint64_t)FLAG_IF) | FLAG_IOPL | (flags & FLAG_VIF ? FLAG_IF : 0);
    push_to(&p, flags, 1);
    push_to(&p, cpu->seg[SEG_CS].selector, 1);
    push_to(&p, d->rip, 1);
    stack_set_sp(cpu, p.sp);
    cpu->rflags &= ~(uint64_t)(FLAG_TF | FLAG_NT | FLAG_RF | (virtual_if ? FLAG_VIF : FLAG_IF));
    cpu_load_seg_real(cpu, SEG_CS, entry >> 16);
    cpu_set_rip(cpu, entry & 0xffff);
}

struct gate {
    uint16_t selector;
    uint64_t offset;
    unsigned type, dpl, ist;
    bool present;
};

static struct gate read_gate(struct cpu *cpu, const struct delivery *d)
{
    bool wide = cpu_long(cpu);
    unsigned size = wide ? 16 : 8;
    uint32_t at = d->vector * size;
    if (at + size - 1 > cpu->idtr.limit)
        cpu_raise_error(cpu, EXC_GP, idt_error(d));
    uint64_t addr = wide ? cpu->idtr.base + at : (uint32_t)(cpu->idtr.base + at);
    uint64_t v = mem_load_system(cpu, addr, 8);
    struct gate g = { .selector = v >> 16, .type = v >> 40 & 0x1f, .dpl = v >> 45 & 3, .present = v >> 47 & 1 };
    g.offset = (v & 0xffff) | (v >> 32 & 0xffff0000);
    if (wide) {
        g.offset |= mem_load_system(cpu, addr + 8, 4) << 32;
        g.ist = v >> 32 & 7;
    } else if (g.type == DESC_INT16 || g.type == DESC_TRAP16) {
        g.offset &= 0xffff;
    }
    return g;
}

static void check_gate(struct cpu *cpu, const struct delivery *d, const struct gate *g)
{
    bool interrupt = g->type == DESC_INT32 || g->type == DESC_TRAP32;
    bool legacy = g->type == DESC_INT16 || g->type == DESC_TRAP16 || g->type == DESC_TASK_GATE;
    if (!interrupt && !(legacy && !cpu_long(cpu)))
        cpu_raise_error(cpu, EXC_GP, idt_error(d));
    if (is_software(d) && g->dpl < cpu->cpl)
        cpu_raise_error(cpu, EXC_GP, idt_error(d));
    if (!g->present)
        cpu_raise_error(cpu, EXC_NP, idt_error(d));
}

/* The handler's code segment, and the privilege it runs at. */
static unsigned check_target(struct cpu *cpu, const struct delivery *d, const struct gate *g, struct desc *cs)
{
    uint32_t error = (g->selector & 0xfffc) | d->ext;
    if (selector_is_null(g->selector))
        cpu_raise_error(cpu, EXC_GP, d->ext);
    desc_read_or_raise(cpu, g->selector, cs, EXC_GP, d->ext);
    if (!desc_is_code(cs) || desc_dpl(cs) > cpu->cpl)
        cpu_raise_error(cpu, EXC_GP, error);
    if (cpu_long(cpu) && (cs->high & (SEG_L | SEG_DB)) != SEG_L)
        cpu_raise_error(cpu, EXC_GP, error);
    if (!desc_present(cs))
        cpu_raise_error(cpu, EXC_NP, error);
    unsigned cpl = cs->high & SEG_C ? cpu->cpl : desc_dpl(cs);
    if (cpu_v86(cpu) && cpl != 0)
        cpu_raise_error(cpu, EXC_GP, error);
    return cpl;
}

/* Flags of the handler: IF off for an interrupt gate. */
static void enter_flags(struct cpu *cpu, const struct gate *g)
{
    uint64_t clear = FLAG_TF | FLAG_NT | FLAG_RF | FLAG_VM;
    if (!(g->type & 1))
        clear |= FLAG_IF;
    cpu->rflags &= ~clear;
}

static void deliver_long(struct cpu *cpu, const struct delivery *d, const struct gate *g)
{
    struct desc cs;
    unsigned cpl = check_target(cpu, d, g, &cs);
    struct pusher p = pusher_flat(cpu, cpu->r[R_RSP], cpl, d->ext);
    uint16_t unused;
    if (!cpu_is_canonical(cpu, g->offset))
        cpu_raise_error(cpu, EXC_GP, d->ext);
    if (g->ist)
        p.sp = tss_ist(cpu, g->ist, d->ext);
    else if (cpl < cpu->cpl)
        p.sp = tss_stack(cpu, cpl, &unused, d->ext);
    p.sp &= ~UINT64_C(15);
    push_to(&p, cpu->seg[SEG_SS].selector, 3);
    push_to(&p, cpu->r[R_RSP], 3);
    push_to(&p, d->rflags, 3);
    push_to(&p, cpu->seg[SEG_CS].selector, 3);
    push_to(&p, d->rip, 3);
    if (d->has_error)
        push_to(&p, d->error, 3);
    desc_set_accessed(cpu, &cs);
    if (cpl < cpu->cpl)
        seg_load_null_ss(cpu, cpl);
    cpu->r[R_RSP] = p.sp;
    enter_flags(cpu, g);
    seg_load_cs(cpu, g->selector, &cs, cpl);
    cpu_set_rip(cpu, g->offset);
}

/* From V86 the data segments are saved too, and become null. */
static void push_v86_segments(struct cpu *cpu, struct pusher *p, unsigned width)
{
    push_to(p, cpu->seg[SEG_GS].selector, width);
    push_to(p, cpu->seg[SEG_FS].selector, width);
    push_to(p, cpu->seg[SEG_DS].selector, width);
    push_to(p, cpu->seg[SEG_ES].selector, width);
}

static void drop_v86_segments(struct cpu *cpu)
{
    cpu_set_seg(cpu, SEG_GS, 0, 0, 0, 0);
    cpu_set_seg(cpu, SEG_FS, 0, 0, 0, 0);
    cpu_set_seg(cpu, SEG_DS, 0, 0, 0, 0);
    cpu_set_seg(cpu, SEG_ES, 0, 0, 0, 0);
}

static void deliver_protected(struct cpu *cpu, const struct delivery *d, const struct gate *g)
{
    struct desc cs, ss;
    unsigned cpl = check_target(cpu, d, g, &cs);
    unsigned width = g->type & 8 ? 2 : 1;
    bool from_v86 = cpu_v86(cpu), inner = cpl < cpu->cpl;
    uint16_t ss_selector = 0;
    struct pusher p = pusher_current(cpu);
    p.fault_error = d->ext;
    if (inner) {
        uint64_t sp = tss_stack(cpu, cpl, &ss_selector, d->ext);
        seg_check_ss(cpu, ss_selector, cpl, &ss, EXC_TS, d->ext);
        p = pusher_in(cpu, &ss, sp, cpl, (ss_selector & 0xfffc) | d->ext);
        if (from_v86)
            push_v86_segments(cpu, &p, width);
        push_to(&p, cpu->seg[SEG_SS].selector, width);
        push_to(&p, cpu->r[R_RSP], width);
    }
    push_to(&p, d->rflags, width);
    push_to(&p, cpu->seg[SEG_CS].selector, width);
    push_to(&p, d->rip, width);
    if (d->has_error)
        push_to(&p, d->error, width);
    if (g->offset > desc_limit(&cs))
        cpu_raise_error(cpu, EXC_GP, d->ext);
    desc_set_accessed(cpu, &cs);
    if (inner)
        desc_set_accessed(cpu, &ss);
    enter_flags(cpu, g);
    if (from_v86)
        drop_v86_segments(cpu);
    if (inner)
        seg_load_desc(cpu, SEG_SS, ss_selector, &ss);
    seg_load_cs(cpu, g->selector, &cs, cpl);
    stack_set_sp(cpu, p.sp);
    cpu_set_rip(cpu, g->offset);
}

static void deliver_task(struct cpu *cpu, const struct delivery *d, const struct gate *g)
{
    struct desc tss;
    tss_read_desc(cpu, g->selector, &tss, false, EXC_GP, d->ext);
    task_switch(cpu, g->selector, &tss, TASK_INT, d->rip, d->has_error, d->error, d->ext);
}

static void note_delivery(struct cpu *cpu, const struct delivery *d)
{
    bool exception = d->source == EXCP_FAULT || d->source == EXCP_TRAP;
    enum event_kind kind = exception ? EVENT_EXCEPTION : EVENT_INTERRUPT;
    if (event_wanted(kind))
        event_emit(&(struct event){ .kind = kind, .vcpu = cpu->index, .cpl = cpu->cpl, .rip = cpu_rip(cpu),
                                    .number = d->vector, .value = exception ? d->error : d->source,
                                    .address = d->vector == EXC_PF ? cpu->cr2 : 0 });
    if (log_on(LOG_INT)) {
        GString *s = g_string_new(NULL);
        g_string_append_printf(s, "cpu %u: %s vector %#x error %#x rip %04x:%016" PRIx64 " cpl %u cr2 %#" PRIx64 "\n",
                               cpu->index, excp_name(d->vector), d->vector, d->error, cpu->seg[SEG_CS].selector,
                               d->rip, cpu->cpl, cpu->cr2);
        cpu_print(cpu, s);
        log_line("%s", s->str);
        g_string_free(s, TRUE);
    }
}

/* The error code that a software interrupt raises on the way has no EXT bit. */
void cpu_deliver(struct cpu *cpu, enum vector vector, enum excp_source source, bool has_error, uint32_t error,
                 uint64_t next_rip)
{
    struct delivery d = { vector, source, has_error, error, next_rip, cpu->rflags, 0 };
    d.ext = !is_software(&d);
    if (has_saved_resume_flag(cpu, vector, source))
        d.rflags |= FLAG_RF;
    note_delivery(cpu, &d);
    /* INT n and external interrupts are benign whatever their number: what they meet on the way is no double fault. */
    cpu->delivering = source == EXCP_FAULT || source == EXCP_TRAP ? vector : EXC_NMI;
    cpu->stepping = false;
    if (!(cpu->cr0 & CR0_PE)) {
        deliver_real(cpu, &d);
    } else if (cpu_v86(cpu) && source == EXCP_SOFT && cpu->cr4 & CR4_VME && tss_int_redirected(cpu, vector)) {
        deliver_v86_redirected(cpu, &d);
    } else {
        struct gate g = read_gate(cpu, &d);
        check_gate(cpu, &d, &g);
        if (g.type == DESC_TASK_GATE)
            deliver_task(cpu, &d, &g);
        else if (cpu_long(cpu))
            deliver_long(cpu, &d, &g);
        else
            deliver_protected(cpu, &d, &g);
    }
    cpu->delivering = -1;
    cpu_update_mode(cpu);
}
