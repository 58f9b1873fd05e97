/*
 * Register state between struct cpu and KVM, all of it both ways.
 *
 * General and segment registers, control registers with PDPTEs, x87 and vector state, XCR0, debug registers, the MSRs
 * that the processor acts on, and events half delivered. MP state needs no transfer: without an APIC in the kernel a
 * vCPU that is run is running, and who sleeps or waits for SIPI is not run. An exception or interrupt that KVM has
 * taken but not delivered is delivered on the way out, by our own code: struct cpu knows only the state between two
 * instructions.
 *
 * Thread: the vCPU's.
 */
#include "accel/kvm_vm.h"

#include "cpu/debug.h"
#include "cpu/mem.h"
#include "cpu/model.h"
#include "cpu/xsave.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

static bool put(struct kvm_vcpu *v, unsigned long request, void *arg)
{
    return ioctl(v->fd, request, arg) >= 0;
}

/* What the kernel has, it gives. */
static void get(struct kvm_vcpu *v, unsigned long request, void *arg)
{
    int r = ioctl(v->fd, request, arg);
    if (r < 0)
        g_error("KVM: the state of processor %u cannot be read: %s", v->cpu->index, g_strerror(errno));
}

/* --- General registers -------------------------------------------------------------------------------------------- */

/* In the order of struct kvm_regs. */
static const uint8_t gpr_order[16] = {
    R_RAX, R_RBX, R_RCX, R_RDX, R_RSI, R_RDI, R_RSP, R_RBP, R_R8, R_R9, R_R10, R_R11, R_R12, R_R13, R_R14, R_R15,
};

static bool put_regs(struct kvm_vcpu *v)
{
    struct kvm_regs regs = { .rip = v->cpu->rip, .rflags = v->cpu->rflags };
    __u64 *r = &regs.rax;
    for (unsigned k = 0; k < 16; k++)
        r[k] = v->cpu->r[gpr_order[k]];
    return put(v, KVM_SET_REGS, &regs);
}

static void get_regs(struct kvm_vcpu *v)
{
    struct kvm_regs regs;
    const __u64 *r = &regs.rax;
    get(v, KVM_GET_REGS, &regs);
    for (unsigned k = 0; k < 16; k++)
        v->cpu->r[gpr_order[k]] = r[k];
    v->cpu->rip = regs.rip;
    v->cpu->rflags = regs.rflags | FLAGS_FIXED;
}

/* --- Segments and control registers ------------------------------------------------------------------------------- */

static struct kvm_segment segment_out(const struct cpu *cpu, enum seg n)
{
    const struct segment *s = &cpu->seg[n];
    struct kvm_segment k = {
        .base = s->base,
        .limit = s->limit,
        .selector = s->selector,
        .type = s->attr >> SEG_TYPE_SHIFT & 15,
        .s = (s->attr & SEG_S) != 0,
        .dpl = s->attr >> SEG_DPL_SHIFT & 3,
        .present = (s->attr & SEG_P) != 0,
        .avl = (s->attr & SEG_AVL) != 0,
        .l = s->attr & SEG_L && cpu_long(cpu),
        .db = (s->attr & SEG_DB) != 0,
        .unusable = !(s->attr & SEG_P),
    };
    /* Processors want granularity and limit to fit, which matters to nothing else once a segment is loaded. */
    k.g = s->limit > 0xfffff || (s->attr & SEG_G && (s->limit & 0xfff) == 0xfff);
    if (n == SEG_SS)
        k.dpl = cpu->cpl; /* that is where KVM keeps it */
    return k;
}

static void segment_in(struct cpu *cpu, enum seg n, const struct kvm_segment *k)
{
    uint32_t attr = 0;
    if (!k->unusable)
        attr = k->type << SEG_TYPE_SHIFT | (k->s ? SEG_S : 0) | (k->present ? SEG_P : 0) | (k->avl ? SEG_AVL : 0) |
               (k->l ? SEG_L : 0) | (k->db ? SEG_DB : 0) | (k->g ? SEG_G : 0);
    if (!k->unusable || n == SEG_SS)
        attr |= k->dpl << SEG_DPL_SHIFT;
    cpu_set_seg(cpu, n, k->selector, k->base, k->limit, attr);
}

static bool has_pdptes(uint64_t cr0, uint64_t cr4, uint64_t efer)
{
    return cr0 & CR0_PG && cr4 & CR4_PAE && !(efer & EFER_LMA);
}

static bool put_sregs(struct kvm_vcpu *v, uint64_t cr4)
{
    const struct cpu *cpu = v->cpu;
    struct kvm_sregs2 s = {
        .cs = segment_out(cpu, SEG_CS),
        .ds = segment_out(cpu, SEG_DS),
        .es = segment_out(cpu, SEG_ES),
        .fs = segment_out(cpu, SEG_FS),
        .gs = segment_out(cpu, SEG_GS),
        .ss = segment_out(cpu, SEG_SS),
        .tr = segment_out(cpu, SEG_TR),
        .ldt = segment_out(cpu, SEG_LDTR),
        .gdt = { .base = cpu->gdtr.base, .limit = cpu->gdtr.limit },
        .idt = { .base = cpu->idtr.base, .limit = cpu->idtr.limit },
        .cr0 = cpu->cr0,
        .cr2 = cpu->cr2,
        .cr3 = cpu->cr3,
        .cr4 = cr4,
        .efer = cpu->efer,
    };
    if (cpu->apic) {
        s.cr8 = cpu->apic_ops->tpr(cpu->apic) >> 4;
        s.apic_base = cpu->apic_ops->base_msr(cpu->apic);
    }
    if (has_pdptes(cpu->cr0, cpu->cr4, cpu->efer)) {
        s.flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;
        for (unsigned k = 0; k < 4; k++)
            s.pdptrs[k] = cpu->pdpte[k];
    }
    return put(v, KVM_SET_SREGS2, &s);
}

static void get_sregs(struct kvm_vcpu *v)
{
    struct cpu *cpu = v->cpu;
    struct kvm_sregs2 s;
    get(v, KVM_GET_SREGS2, &s);
    cpu->cr0 = s.cr0;
    cpu->cr2 = s.cr2;
    cpu->cr3 = s.cr3;
    cpu->cr4 = s.cr4;
    cpu->efer = s.efer;
    for (unsigned k = 0; k < 4 && s.flags & KVM_SREGS2_FLAGS_PDPTRS_VALID; k++)
        cpu->pdpte[k] = s.pdptrs[k];
    cpu->gdtr.base = s.gdt.base;
    cpu->gdtr.limit = s.gdt.limit;
    cpu->idtr.base = s.idt.base;
    cpu->idtr.limit = s.idt.limit;
    cpu->cpl = !(s.cr0 & CR0_PE) ? 0 : cpu_v86(cpu) ? 3 : s.ss.dpl;
    segment_in(cpu, SEG_ES, &s.es);
    segment_in(cpu, SEG_CS, &s.cs);
    segment_in(cpu, SEG_SS, &s.ss);
    segment_in(cpu, SEG_DS, &s.ds);
    segment_in(cpu, SEG_FS, &s.fs);
    segment_in(cpu, SEG_GS, &s.gs);
    segment_in(cpu, SEG_LDTR, &s.ldt);
    segment_in(cpu, SEG_TR, &s.tr);
}

/* --- x87 and vectors, XCR0, debug registers ----------------------------------------------------------------------- */

static bool put_fpu(struct kvm_vcpu *v)
{
    struct kvm_xsave x = { 0 };
    struct kvm_xcrs xcrs = { .nr_xcrs = 1, .xcrs[0] = { .xcr = 0, .value = v->cpu->xcr0 } };
    xsave_image_put(v->cpu, (uint8_t *)x.region, v->vm->pkru_offset);
    return put(v, KVM_SET_XSAVE, &x) && (!cpu_has(v->cpu, FEAT_XSAVE) || put(v, KVM_SET_XCRS, &xcrs));
}

static void get_fpu(struct kvm_vcpu *v)
{
    struct kvm_xsave x;
    struct kvm_xcrs xcrs;
    get(v, KVM_GET_XSAVE, &x);
    xsave_image_get(v->cpu, (const uint8_t *)x.region, v->vm->pkru_offset);
    if (!cpu_has(v->cpu, FEAT_XSAVE))
        return;
    get(v, KVM_GET_XCRS, &xcrs);
    for (unsigned k = 0; k < xcrs.nr_xcrs; k++)
        if (xcrs.xcrs[k].xcr == 0)
            v->cpu->xcr0 = xcrs.xcrs[k].value;
}

static bool put_debug(struct kvm_vcpu *v)
{
    struct kvm_debugregs d = { .dr6 = v->cpu->dr6, .dr7 = v->cpu->dr7 };
    memcpy(d.db, v->cpu->dr, sizeof d.db);
    return put(v, KVM_SET_DEBUGREGS, &d);
}

static void get_debug(struct kvm_vcpu *v)
{
    struct kvm_debugregs d;
    get(v, KVM_GET_DEBUGREGS, &d);
    memcpy(v->cpu->dr, d.db, sizeof d.db);
    v->cpu->dr6 = (d.dr6 & DR6_WRITABLE) | DR6_FIXED;
    v->cpu->dr7 = d.dr7;
}

/* --- MSRs --------------------------------------------------------------------------------------------------------- */

static const struct {
    uint32_t msr;
    uint16_t offset;
    uint8_t feature;
} msrs[] = {
    { 0x48, offsetof(struct cpu, spec_ctrl), FEAT_SPEC_CTRL },
    { 0x174, offsetof(struct cpu, sysenter_cs), FEAT_SEP },
    { 0x175, offsetof(struct cpu, sysenter_esp), FEAT_SEP },
    { 0x176, offsetof(struct cpu, sysenter_eip), FEAT_SEP },
    { 0xc0000081, offsetof(struct cpu, star), FEAT_SYSCALL },
    { 0xc0000082, offsetof(struct cpu, lstar), FEAT_LM },
    { 0xc0000083, offsetof(struct cpu, cstar), FEAT_LM },
    { 0xc0000084, offsetof(struct cpu, sfmask), FEAT_SYSCALL },
    { 0xc0000102, offsetof(struct cpu, kernel_gs_base), FEAT_LM },
    { 0xc0000103, offsetof(struct cpu, tsc_aux), FEAT_RDTSCP },
};

struct msr_list {
    struct kvm_msrs head;
    struct kvm_msr_entry e[G_N_ELEMENTS(msrs)];
};

static void list_msrs(const struct cpu *cpu, struct msr_list *l)
{
    *l = (struct msr_list){ 0 };
    for (unsigned k = 0; k < G_N_ELEMENTS(msrs); k++) {
        if (!cpu_has(cpu, msrs[k].feature) && !(msrs[k].feature == FEAT_RDTSCP && cpu_has(cpu, FEAT_RDPID)))
            continue;
        struct kvm_msr_entry *e = &l->e[l->head.nmsrs++];
        e->index = msrs[k].msr;
        memcpy(&e->data, (const char *)cpu + msrs[k].offset, 8);
    }
}

static bool put_msrs(struct kvm_vcpu *v)
{
    struct msr_list l;
    list_msrs(v->cpu, &l);
    return ioctl(v->fd, KVM_SET_MSRS, &l) == (int)l.head.nmsrs;
}

static void get_msrs(struct kvm_vcpu *v)
{
    struct msr_list l;
    list_msrs(v->cpu, &l);
    get(v, KVM_GET_MSRS, &l);
    for (unsigned n = 0, k = 0; n < l.head.nmsrs; n++) {
        while (msrs[k].msr != l.e[n].index)
            k++;
        memcpy((char *)v->cpu + msrs[k].offset, &l.e[n].data, 8);
    }
}

/* The TSC is not state of its own: it is the host's plus what struct cpu adds. */
bool kvm_set_tsc(struct kvm_vcpu *v)
{
    uint64_t offset = v->vm->tsc_base + v->cpu->tsc_offset;
    struct kvm_device_attr attr = { .group = KVM_VCPU_TSC_CTRL,
                                    .attr = KVM_VCPU_TSC_OFFSET,
                                    .addr = (uintptr_t)&offset };
    if (offset == v->tsc_offset)
        return true;
    v->tsc_offset = offset;
    return put(v, KVM_SET_DEVICE_ATTR, &attr);
}

/* --- Events ------------------------------------------------------------------------------------------------------- */

static bool put_events(struct kvm_vcpu *v)
{
    struct cpu *cpu = v->cpu;
    struct kvm_vcpu_events e = { .flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW };
    bool shadow = __atomic_load_n(&cpu->events, __ATOMIC_RELAXED) & CPU_EVENT_SHADOW;
    if (shadow)
        e.interrupt.shadow = cpu->shadow_mov_ss ? KVM_X86_SHADOW_INT_MOV_SS : KVM_X86_SHADOW_INT_STI;
    e.nmi.masked = cpu->nmi_blocked;
    if (!put(v, KVM_SET_VCPU_EVENTS, &e))
        return false;
    cpu_event_clear(cpu, CPU_EVENT_SHADOW);
    cpu->shadow_mov_ss = false;
    v->ready = cpu->rflags & FLAG_IF && !shadow && !v->vm->split; /* else the kernel must say so first */
    return true;
}

/* Kernels have a #UD ready when they say that they cannot emulate an instruction: the guest must not see it. */
static bool is_miss(const struct kvm_vcpu *v, const struct kvm_vcpu_events *e)
{
    return e->exception.nr == EXC_UD && v->run->exit_reason == KVM_EXIT_INTERNAL_ERROR &&
           v->run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION;
}

/* What KVM had begun to deliver is delivered here. */
static bool get_events(struct kvm_vcpu *v)
{
    struct cpu *cpu = v->cpu;
    struct kvm_vcpu_events e;
    get(v, KVM_GET_VCPU_EVENTS, &e);
    cpu->nmi_blocked = e.nmi.masked;
    if (e.nmi.injected)
        cpu->nmi_blocked = false;
    if (e.nmi.injected || e.nmi.pending)
        cpu_event_set(cpu, CPU_EVENT_NMI);
    if (e.interrupt.shadow)
        cpu_event_set(cpu, CPU_EVENT_SHADOW);
    cpu->shadow_mov_ss = e.interrupt.shadow & KVM_X86_SHADOW_INT_MOV_SS;
    cpu_tlb_flush(cpu);
    cpu_update_mode(cpu);
    if (e.exception.injected && !is_miss(v, &e)) {
        bool has_error = e.exception.has_error_code && cpu->cr0 & CR0_PE;
        enum excp_source source = e.exception.nr == EXC_DB ? EXCP_TRAP : EXCP_FAULT;
        return cpu_deliver_now(cpu, e.exception.nr, source, has_error, e.exception.error_code);
    }
    return !e.interrupt.injected || cpu_deliver_now(cpu, e.interrupt.nr, EXCP_EXTERNAL, false, 0);
}

/* --- All of it ---------------------------------------------------------------------------------------------------- */

/* The guest has had translations flushed while it was with us: a change of paging mode and back makes KVM do so, too.
 */
static bool flush_translations(struct kvm_vcpu *v)
{
    return v->cpu->tlbs->flushes == v->flushes || put_sregs(v, v->cpu->cr4 ^ CR4_PGE);
}

bool kvm_load(struct kvm_vcpu *v)
{
    if (v->loaded)
        return true;
    g_assert(!v->cpu->insn);
    v->loaded = flush_translations(v) && put_sregs(v, v->cpu->cr4) && put_regs(v) && put_fpu(v) && put_debug(v) &&
                put_msrs(v) && kvm_set_tsc(v) && put_events(v);
    return v->loaded;
}

bool kvm_unload(struct kvm_vcpu *v)
{
    if (!v->loaded)
        return true;
    kvm_finish_exit(v);
    if (v->vm->split)
        kvm_apic_get_activity(v);
    get_regs(v);
    get_sregs(v);
    get_fpu(v);
    get_debug(v);
    get_msrs(v);
    v->loaded = false;
    bool ok = get_events(v);
    v->flushes = v->cpu->tlbs->flushes;
    return ok;
}
