/*
 * System instructions: control, debug and model-specific registers, flags with IF and IOPL, TLB upkeep, CPUID, time,
 * HLT, MWAIT, SMAP and UMIP. Descriptor tables are in op_desc.c, far transfers in op_far.c, ports in op_io.c.
 *
 * Intel SDM volume 2. Rows with CPL0 and with features are checked when the block is decoded.
 *
 * Thread: the vCPU's own.
 */
#include "cpu/debug.h"
#include "cpu/mem.h"
#include "cpu/op_form.h"
#include "cpu/pv.h"
#include "cpu/smm.h"
#include "hw/core/machine.h"

#include <time.h>

/* --- Control and debug registers ---------------------------------------------------------------------------------- */

static unsigned cr_size(const struct cpu *cpu)
{
    return cpu_in_64(cpu) ? 3 : 2;
}

static void mov_from_cr_fn(struct cpu *cpu, const struct insn *i)
{
    uint64_t v;
    switch (i->reg) {
    case 0: v = cpu->cr0; break;
    case 2: v = cpu->cr2; break;
    case 3: v = cpu->cr3; break;
    case 4: v = cpu->cr4; break;
    case 8: v = cpu->apic ? cpu->apic_ops->tpr(cpu->apic) >> 4 : 0; break;
    default: cpu_raise_ud(cpu);
    }
    reg_set(cpu, i->rm, v, cr_size(cpu));
}
OP_FORM_ONE(mov_from_cr)

static void mov_to_cr_fn(struct cpu *cpu, const struct insn *i)
{
    uint64_t v = reg_get(cpu, i->rm, cr_size(cpu));
    switch (i->reg) {
    case 0: cpu_write_cr0(cpu, v); break;
    case 2: cpu->cr2 = v; break;
    case 3: cpu_write_cr3(cpu, v); break;
    case 4: cpu_write_cr4(cpu, v); break;
    case 8:
        if (v >> 4)
            cpu_raise_gp0(cpu);
        if (cpu->apic)
            cpu->apic_ops->set_tpr(cpu->apic, v << 4);
        break;
    default: cpu_raise_ud(cpu);
    }
}
OP_FORM_ONE(mov_to_cr)

/* DR4 and DR5 are DR6 and DR7, unless CR4.DE says that they are nothing; DR7.GD guards them all. */
static unsigned debug_register(struct cpu *cpu, const struct insn *i)
{
    unsigned n = i->reg;
    if (n > 7 || (cpu->cr4 & CR4_DE && (n == 4 || n == 5)))
        cpu_raise_ud(cpu);
    if (cpu->dr7 & DR7_GD) {
        cpu->dr7 &= ~(uint64_t)DR7_GD;
        cpu->dr6 |= DR6_BD;
        cpu_raise(cpu, EXC_DB);
    }
    return n == 4 || n == 5 ? n + 2 : n;
}

static void mov_from_dr_fn(struct cpu *cpu, const struct insn *i)
{
    unsigned n = debug_register(cpu, i);
    reg_set(cpu, i->rm, n < 4 ? cpu->dr[n] : n == 6 ? cpu->dr6 : cpu->dr7, cr_size(cpu));
}
OP_FORM_ONE(mov_from_dr)

static void mov_to_dr_fn(struct cpu *cpu, const struct insn *i)
{
    unsigned n = debug_register(cpu, i);
    uint64_t v = reg_get(cpu, i->rm, cr_size(cpu));
    if (n < 4) {
        cpu->dr[n] = v;
        cpu_write_dr7(cpu, cpu->dr7);
    } else if (n == 6) {
        if (v >> 32)
            cpu_raise_gp0(cpu);
        cpu->dr6 = (v & DR6_WRITABLE) | DR6_FIXED;
    } else {
        cpu_write_dr7(cpu, v);
    }
}
OP_FORM_ONE(mov_to_dr)

static void clts_fn(struct cpu *cpu, const struct insn *i)
{
    cpu->cr0 &= ~(uint64_t)CR0_TS;
    cpu_update_mode(cpu);
}
OP_FORM_ONE(clts)

OP_BODY smsw_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    cpu_check_umip(cpu);
    rm_set(cpu, i, cpu->cr0, mem ? 1 : size, mem);
}
OP_FORMS_SIZE_MEM(smsw)

/* Sets PE, never clears it. */
OP_BODY lmsw_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    uint64_t v = rm_get(cpu, i, 1, mem);
    cpu_write_cr0(cpu, (cpu->cr0 & ~UINT64_C(0xe)) | (v & 0xf));
}
OP_FORMS_SIZE_MEM(lmsw)

/* --- MSRs, CPUID, time -------------------------------------------------------------------------------------------- */

static void msr_event(struct cpu *cpu, uint32_t msr, uint64_t value, bool write)
{
    if (event_wanted(EVENT_MSR))
        event_emit(&(struct event){ .kind = EVENT_MSR, .vcpu = cpu->index, .cpl = cpu->cpl, .rip = cpu_rip(cpu),
                                    .number = msr, .value = value, .write = write });
}

static void set_edx_eax(struct cpu *cpu, uint64_t v)
{
    cpu->r[R_RAX] = (uint32_t)v;
    cpu->r[R_RDX] = v >> 32;
}

static uint64_t edx_eax(const struct cpu *cpu)
{
    return cpu->r[R_RDX] << 32 | (uint32_t)cpu->r[R_RAX];
}

static void rdmsr_fn(struct cpu *cpu, const struct insn *i)
{
    uint64_t v;
    uint32_t msr = cpu->r[R_RCX];
    if (!cpu_rdmsr(cpu, msr, &v))
        cpu_raise_gp0(cpu);
    msr_event(cpu, msr, v, false);
    set_edx_eax(cpu, v);
}
OP_FORM_ONE(rdmsr)

static void wrmsr_fn(struct cpu *cpu, const struct insn *i)
{
    uint32_t msr = cpu->r[R_RCX];
    if (!cpu_wrmsr(cpu, msr, edx_eax(cpu)))
        cpu_raise_gp0(cpu);
    msr_event(cpu, msr, edx_eax(cpu), true);
}
OP_FORM_ONE(wrmsr)

static void cpuid_fn(struct cpu *cpu, const struct insn *i)
{
    uint32_t out[4], leaf = cpu->r[R_RAX], subleaf = cpu->r[R_RCX];
    if (event_wanted(EVENT_CPUID))
        event_emit(&(struct event){ .kind = EVENT_CPUID, .vcpu = cpu->index, .cpl = cpu->cpl, .rip = cpu_rip(cpu),
                                    .number = leaf, .address = subleaf });
    cpu_cpuid(cpu, leaf, subleaf, out);
    cpu->r[R_RAX] = out[0];
    cpu->r[R_RBX] = out[1];
    cpu->r[R_RCX] = out[2];
    cpu->r[R_RDX] = out[3];
}
OP_FORM_ONE(cpuid)

static void check_tsd(struct cpu *cpu)
{
    if (cpu->cr4 & CR4_TSD && cpu->cpl && cpu->cr0 & CR0_PE)
        cpu_raise_gp0(cpu);
}

static void rdtsc_fn(struct cpu *cpu, const struct insn *i)
{
    check_tsd(cpu);
    set_edx_eax(cpu, cpu_read_tsc(cpu));
}
OP_FORM_ONE(rdtsc)

static void rdtscp_fn(struct cpu *cpu, const struct insn *i)
{
    check_tsd(cpu);
    set_edx_eax(cpu, cpu_read_tsc(cpu));
    cpu->r[R_RCX] = (uint32_t)cpu->tsc_aux;
}
OP_FORM_ONE(rdtscp)

static void rdpid_fn(struct cpu *cpu, const struct insn *i)
{
    reg_set(cpu, i->rm, (uint32_t)cpu->tsc_aux, cr_size(cpu));
}
OP_FORM_ONE(rdpid)

/* CPUID leaf 0AH says that there are no counters. */
static void rdpmc_fn(struct cpu *cpu, const struct insn *i)
{
    cpu_raise_gp0(cpu);
}
OP_FORM_ONE(rdpmc)

/* --- Flags -------------------------------------------------------------------------------------------------------- */

/* Virtual interrupt flag: V86 mode with VME, or CPL 3 with PVI. */
static bool has_virtual_if(const struct cpu *cpu)
{
    return cpu_v86(cpu) ? cpu->cr4 & CR4_VME : cpu->cpl == 3 && cpu->cr4 & CR4_PVI;
}

static bool real_mode(const struct cpu *cpu)
{
    return !(cpu->cr0 & CR0_PE);
}

static void cli_fn(struct cpu *cpu, const struct insn *i)
{
    if (real_mode(cpu) || cpu_iopl(cpu) >= cpu->cpl)
        cpu->rflags &= ~(uint64_t)FLAG_IF;
    else if (has_virtual_if(cpu))
        cpu->rflags &= ~(uint64_t)FLAG_VIF;
    else
        cpu_raise_gp0(cpu);
}
OP_FORM_ONE(cli)

static void sti_fn(struct cpu *cpu, const struct insn *i)
{
    if (real_mode(cpu) || cpu_iopl(cpu) >= cpu->cpl) {
        if (!(cpu->rflags & FLAG_IF))
            cpu_event_set(cpu, CPU_EVENT_SHADOW);
        cpu->rflags |= FLAG_IF;
    } else if (has_virtual_if(cpu) && !(cpu->rflags & FLAG_VIP)) {
        cpu->rflags |= FLAG_VIF;
    } else {
        cpu_raise_gp0(cpu);
    }
}
OP_FORM_ONE(sti)

/* Image of the flags that PUSHF stores; V86 with IOPL < 3 shows VIF as IF if VME allows it at all. */
static uint64_t pushf_image(struct cpu *cpu, unsigned size)
{
    uint64_t flags = cpu->rflags & ~(uint64_t)(FLAG_VM | FLAG_RF);
    if (cpu_v86(cpu) && cpu_iopl(cpu) < 3) {
        if (!(cpu->cr4 & CR4_VME) || size != 1)
            cpu_raise_gp0(cpu);
        flags |= FLAG_IOPL;
        flags = flags & FLAG_VIF ? flags | FLAG_IF : flags & ~(uint64_t)FLAG_IF;
    }
    return flags;
}

OP_BODY pushf_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    stack_push(cpu, pushf_image(cpu, size), size);
}
OP_FORMS_SIZE(pushf)

/* POPF in V86 mode with IOPL < 3 and VME: IF goes to VIF. */
static void popf_virtual(struct cpu *cpu, uint64_t v, unsigned size)
{
    if (!(cpu->cr4 & CR4_VME) || size != 1 || (v & FLAG_IF && cpu->rflags & FLAG_VIP) || v & FLAG_TF)
        cpu_raise_gp0(cpu);
    uint64_t mask = 0xffff & ~(FLAG_IOPL | FLAG_IF);
    cpu->rflags = (cpu->rflags & ~(mask | FLAG_VIF)) | (v & mask & 0x7fd5) | FLAGS_FIXED | (v & FLAG_IF ? FLAG_VIF : 0);
}

OP_BODY popf_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    uint64_t v = stack_peek(cpu, 0, size);
    if (cpu_v86(cpu) && cpu_iopl(cpu) < 3) {
        popf_virtual(cpu, v, size);
    } else {
        uint64_t mask = FLAGS_ARITH | FLAG_TF | FLAG_DF | FLAG_NT;
        if (size > 1)
            mask |= FLAG_AC | FLAG_ID;
        if (real_mode(cpu) || cpu->cpl == 0)
            mask |= FLAG_IOPL;
        if (real_mode(cpu) || cpu->cpl <= cpu_iopl(cpu))
            mask |= FLAG_IF;
        if (size > 1)
            mask |= FLAG_RF; /* cleared, whatever the image says */
        cpu->rflags = (cpu->rflags & ~mask) | (v & mask & ~(uint64_t)FLAG_RF) | FLAGS_FIXED;
    }
    stack_drop(cpu, 1u << size);
    cpu_update_mode(cpu);
}
OP_FORMS_SIZE(popf)

/* CLAC and STAC: #UD unless CPL 0. */
static void set_ac(struct cpu *cpu, bool on)
{
    if (cpu->cpl || real_mode(cpu))
        cpu_raise_ud(cpu);
    cpu->rflags = on ? cpu->rflags | FLAG_AC : cpu->rflags & ~(uint64_t)FLAG_AC;
    cpu_tlb_switch(cpu);
}

static void clac_fn(struct cpu *cpu, const struct insn *i)
{
    set_ac(cpu, false);
}
OP_FORM_ONE(clac)

static void stac_fn(struct cpu *cpu, const struct insn *i)
{
    set_ac(cpu, true);
}
OP_FORM_ONE(stac)

/* --- TLB and caches ----------------------------------------------------------------------------------------------- */

static void invlpg_fn(struct cpu *cpu, const struct insn *i)
{
    uint64_t addr = cpu->seg[i->seg].base + insn_ea(cpu, i);
    cpu_tlb_flush_page(cpu, cpu_in_64(cpu) ? addr : (uint32_t)addr);
}
OP_FORM_ONE(invlpg)

static void invpcid_fn(struct cpu *cpu, const struct insn *i)
{
    uint64_t type = reg_get(cpu, i->reg, cr_size(cpu));
    uint64_t at = insn_linear(cpu, i, 16, false);
    uint64_t low = mem_load64(cpu, at, i->seg), addr = mem_load64(cpu, at + 8, i->seg);
    if (cpu_v86(cpu) || type > 3)
        cpu_raise_gp0(cpu);
    if (type < 2 && (low >> 12 || (!(cpu->cr4 & CR4_PCIDE) && low & 0xfff)))
        cpu_raise_gp0(cpu);
    if (type == 0 && cpu_long(cpu) && !cpu_is_canonical(cpu, addr))
        cpu_raise_gp0(cpu);
    cpu_tlb_invpcid(cpu, type, low & 0xfff, addr);
}
OP_FORM_ONE(invpcid)

/* No cache is modelled. */
static void invd_fn(struct cpu *cpu, const struct insn *i)
{
}
OP_FORM_ONE(invd)

static void wbinvd_fn(struct cpu *cpu, const struct insn *i)
{
}
OP_FORM_ONE(wbinvd)

static void rdpkru_fn(struct cpu *cpu, const struct insn *i)
{
    if (!(cpu->cr4 & CR4_PKE))
        cpu_raise_ud(cpu);
    if ((uint32_t)cpu->r[R_RCX])
        cpu_raise_gp0(cpu);
    set_edx_eax(cpu, cpu->pkru);
}
OP_FORM_ONE(rdpkru)

static void wrpkru_fn(struct cpu *cpu, const struct insn *i)
{
    if (!(cpu->cr4 & CR4_PKE))
        cpu_raise_ud(cpu);
    if ((uint32_t)cpu->r[R_RCX] || (uint32_t)cpu->r[R_RDX])
        cpu_raise_gp0(cpu);
    cpu->pkru = cpu->r[R_RAX];
    cpu_tlb_flush(cpu);
}
OP_FORM_ONE(wrpkru)

static void serialize_fn(struct cpu *cpu, const struct insn *i)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}
OP_FORM_ONE(serialize)

/* --- FS and GS base ----------------------------------------------------------------------------------------------- */

static void check_fsgsbase(struct cpu *cpu)
{
    if (!(cpu->cr4 & CR4_FSGSBASE))
        cpu_raise_ud(cpu);
}

static void set_base(struct cpu *cpu, const struct insn *i, enum seg s)
{
    uint64_t v = reg_get(cpu, i->rm, i->osize);
    check_fsgsbase(cpu);
    if (!cpu_is_canonical(cpu, v))
        cpu_raise_gp0(cpu);
    cpu->seg[s].base = v;
}

static void rdfsbase_fn(struct cpu *cpu, const struct insn *i)
{
    check_fsgsbase(cpu);
    reg_set(cpu, i->rm, cpu->seg[SEG_FS].base, i->osize);
}
OP_FORM_ONE(rdfsbase)

static void rdgsbase_fn(struct cpu *cpu, const struct insn *i)
{
    check_fsgsbase(cpu);
    reg_set(cpu, i->rm, cpu->seg[SEG_GS].base, i->osize);
}
OP_FORM_ONE(rdgsbase)

static void wrfsbase_fn(struct cpu *cpu, const struct insn *i)
{
    set_base(cpu, i, SEG_FS);
}
OP_FORM_ONE(wrfsbase)

static void wrgsbase_fn(struct cpu *cpu, const struct insn *i)
{
    set_base(cpu, i, SEG_GS);
}
OP_FORM_ONE(wrgsbase)

static void swapgs_fn(struct cpu *cpu, const struct insn *i)
{
    uint64_t base = cpu->seg[SEG_GS].base;
    cpu->seg[SEG_GS].base = cpu->kernel_gs_base;
    cpu->kernel_gs_base = base;
}
OP_FORM_ONE(swapgs)

/* --- Waiting ------------------------------------------------------------------------------------------------------ */

static void halt(struct cpu *cpu)
{
    if (event_wanted(EVENT_HLT))
        event_emit(&(struct event){ .kind = EVENT_HLT, .vcpu = cpu->index, .cpl = cpu->cpl, .rip = cpu_rip(cpu) });
    cpu->activity = CPU_HALTED;
    cpu_event_set(cpu, CPU_EVENT_KICK);
}

static void hlt_fn(struct cpu *cpu, const struct insn *i)
{
    if (cpu_pv_take_unhalt(cpu)) /* another vCPU has called in the meantime */
        return;
    halt(cpu);
}
OP_FORM_ONE(hlt)

static void monitor_fn(struct cpu *cpu, const struct insn *i)
{
    if (cpu->cpl)
        cpu_raise_ud(cpu);
    if ((uint32_t)cpu->r[R_RCX])
        cpu_raise_gp0(cpu);
    uint64_t addr = seg_linear(cpu, i->seg, reg_get(cpu, R_RAX, i->asize), 1, false);
    mem_load8(cpu, addr, i->seg);
    cpu->monitor_addr = cpu_translate(cpu, addr, ACCESS_READ, i->seg) & ~UINT64_C(7);
    cpu->monitor_value = mem_load_phys(cpu, cpu->monitor_addr, 8);
    cpu->mwait_armed = true;
}
OP_FORM_ONE(monitor)

/*
 * Nothing tells us of a store to the monitored line, so MWAIT does not sleep on it: it lets other threads of the host
 * run and returns, which the manual allows at any time. CPUID does not advertise it by default; HLT is the idle
 * instruction then.
 */
static void mwait_fn(struct cpu *cpu, const struct insn *i)
{
    if (cpu->cpl)
        cpu_raise_ud(cpu);
    if ((uint32_t)cpu->r[R_RCX] > 1)
        cpu_raise_gp0(cpu);
    if (!cpu->mwait_armed)
        return;
    cpu->mwait_armed = false;
    if (mem_load_phys(cpu, cpu->monitor_addr, 8) == cpu->monitor_value)
        nanosleep(&(struct timespec){ .tv_nsec = 50000 }, NULL);
}
OP_FORM_ONE(mwait)

/* --- Hypercalls and SMM ------------------------------------------------------------------------------------------- */

static void hypercall(struct cpu *cpu)
{
    uint32_t number = cpu->r[R_RAX];
    cpu->r[R_RAX] = cpu_hypercall(cpu);
    if (event_wanted(EVENT_HYPERCALL))
        event_emit(&(struct event){ .kind = EVENT_HYPERCALL, .vcpu = cpu->index, .cpl = cpu->cpl, .rip = cpu_rip(cpu),
                                    .number = number, .value = cpu->r[R_RAX] });
}

static void vmcall_fn(struct cpu *cpu, const struct insn *i)
{
    hypercall(cpu);
}
OP_FORM_ONE(vmcall)

static void vmmcall_fn(struct cpu *cpu, const struct insn *i)
{
    hypercall(cpu);
}
OP_FORM_ONE(vmmcall)

static void rsm_fn(struct cpu *cpu, const struct insn *i)
{
    if (!cpu->smm)
        cpu_raise_ud(cpu);
    smm_leave(cpu);
}
OP_FORM_ONE(rsm)

/* UD0, UD1, UD2: invalid for good. */
static void ud2_fn(struct cpu *cpu, const struct insn *i)
{
    cpu_raise_ud(cpu);
}
OP_FORM_ONE(ud2)
