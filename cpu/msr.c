/*
 * Model-specific registers: Intel SDM volume 4, chapter 2 (architectural MSRs), and what firmware and kernels read
 * besides.
 *
 * An MSR that this model does not have gives #GP, as does a reserved bit; kernels probe with that in mind. Memory types
 * (MTRR, PAT) are kept and checked but mean nothing here. No performance counters, no last-branch records (they read
 * 0), no machine checks ever happen. The paravirtual MSRs are in pv.c, those of the local APIC with it.
 *
 * Thread: the vCPU's own, without the VM lock.
 */
#include "cpu/cpu.h"
#include "cpu/model.h"
#include "cpu/pv.h"
#include "hw/core/clock.h"
#include "hw/core/log.h"
#include "hw/core/machine.h"

#include <stddef.h>
#include <string.h>

enum {
    MSR_TSC = 0x10,
    MSR_PLATFORM_ID = 0x17,
    MSR_APIC_BASE = 0x1b,
    MSR_EBL_CR_POWERON = 0x2a,
    MSR_SMI_COUNT = 0x34,
    MSR_FEATURE_CONTROL = 0x3a,
    MSR_TSC_ADJUST = 0x3b,
    MSR_SPEC_CTRL = 0x48,
    MSR_PRED_CMD = 0x49,
    MSR_BIOS_UPDT_TRIG = 0x79,
    MSR_BIOS_SIGN_ID = 0x8b,
    MSR_PLATFORM_INFO = 0xce,
    MSR_MTRRCAP = 0xfe,
    MSR_ARCH_CAPABILITIES = 0x10a,
    MSR_SYSENTER_CS = 0x174,
    MSR_SYSENTER_ESP = 0x175,
    MSR_SYSENTER_EIP = 0x176,
    MSR_MCG_CAP = 0x179,
    MSR_MCG_STATUS = 0x17a,
    MSR_MCG_CTL = 0x17b,
    MSR_PERF_STATUS = 0x198,
    MSR_MISC_ENABLE = 0x1a0,
    MSR_DEBUGCTL = 0x1d9,
    MSR_LAST_BRANCH_FROM = 0x1db, /* to 0x1de */
    MSR_MTRR_PHYS = 0x200,        /* base and mask of 8 ranges */
    MSR_MTRR_FIX64K = 0x250,
    MSR_MTRR_FIX16K = 0x258,      /* 2 */
    MSR_MTRR_FIX4K = 0x268,       /* 8 */
    MSR_PAT = 0x277,
    MSR_MTRR_DEF_TYPE = 0x2ff,
    MSR_MC0_CTL = 0x400,          /* 4 for each bank: CTL, STATUS, ADDR, MISC */
    MSR_XSS = 0xda0,
    MSR_KVM_FIRST = 0x4b564d00,
};
#define MSR_EFER 0xc0000080u
#define MSR_STAR 0xc0000081u
#define MSR_LSTAR 0xc0000082u
#define MSR_CSTAR 0xc0000083u
#define MSR_FMASK 0xc0000084u
#define MSR_FS_BASE 0xc0000100u
#define MSR_GS_BASE 0xc0000101u
#define MSR_KERNEL_GS_BASE 0xc0000102u
#define MSR_TSC_AUX 0xc0000103u

#define MC_BANKS 10
#define MCG_CTL_P (1u << 8)
#define MTRR_RANGES 8
#define FEATURE_CONTROL_LOCK 1u
#define SPEC_CTRL_IBRS 1u
#define SPEC_CTRL_STIBP 2u
#define SPEC_CTRL_BHI_DIS_S (1u << 10)
#define DEBUGCTL_LBR 1u
#define DEBUGCTL_BTF 2u

/*
 * ARCH_CAPABILITIES: none of the known leaks through speculation exists in an emulator, and eIBRS spares Linux its
 * retpolines. (It does not believe BHI_NO but runs a long loop at each system call, unless SPEC_CTRL has the bit that
 * the feature BHI_CTRL brings.)
 * RDCL_NO, SKIP_L1DFL_VMENTRY, SSB_NO, MDS_NO, IF_PSCHANGE_MC_NO, TAA_NO, SBDR_SSDP_NO, FBSDP_NO, PSDP_NO, BHI_NO,
 * PBRSB_NO, GDS_NO, RFDS_NO, ITS_NO.
 */
#define ARCH_CAP_NOT_AFFECTED \
    (1u << 0 | 1u << 3 | 1u << 4 | 1u << 5 | 1u << 6 | 1u << 8 | 1u << 13 | 1u << 14 | 1u << 15 | 1u << 20 | \
     1u << 24 | 1u << 26 | 1u << 27 | UINT64_C(1) << 62)
#define ARCH_CAP_IBRS_ALL (1u << 1)

/* --- Time stamp counter ------------------------------------------------------------------------------------------- */

uint64_t cpu_tsc_hz(const struct cpu *cpu)
{
    return cpu->model->tsc_hz;
}

uint64_t cpu_read_tsc(const struct cpu *cpu)
{
    const struct machine *m = cpu->machine;
    if (m->tsc)
        return m->tsc(m->tsc_opaque) + cpu->tsc_offset;
    int64_t ns = clock_now(m->clock);
    uint64_t hz = cpu->model->tsc_hz;
    return (hz == NS_PER_SECOND ? (uint64_t)ns : clock_ticks(ns, hz)) + cpu->tsc_offset;
}

/* A write to either register of the pair moves the other by as much. */
static void move_tsc(struct cpu *cpu, uint64_t by)
{
    cpu->tsc_offset += by;
    cpu->tsc_adjust += by;
    cpu_pv_tsc_changed(cpu);
}

/* --- Plain registers ---------------------------------------------------------------------------------------------- */

enum check {
    CHECK_MASK,      /* bits outside `mask` are reserved */
    CHECK_CANONICAL,
    CHECK_PAT,       /* eight memory types, UC- allowed */
    CHECK_TYPES,     /* eight memory types */
};

struct plain_msr {
    uint32_t msr;
    uint16_t offset; /* in struct cpu, a uint64_t */
    uint8_t feature, check;
    uint64_t mask;
};

#define PLAIN(msr_, member_, feature_, check_, mask_) \
    { .msr = (msr_), .offset = offsetof(struct cpu, member_), .feature = FEAT_##feature_, .check = CHECK_##check_, \
      .mask = (mask_) }

static const struct plain_msr plain_msrs[] = {
    PLAIN(MSR_SYSENTER_CS, sysenter_cs, SEP, MASK, UINT32_MAX),
    PLAIN(MSR_SYSENTER_ESP, sysenter_esp, SEP, CANONICAL, 0),
    PLAIN(MSR_SYSENTER_EIP, sysenter_eip, SEP, CANONICAL, 0),
    PLAIN(MSR_STAR, star, SYSCALL, MASK, UINT64_MAX),
    PLAIN(MSR_LSTAR, lstar, LM, CANONICAL, 0),
    PLAIN(MSR_CSTAR, cstar, LM, CANONICAL, 0),
    PLAIN(MSR_FMASK, sfmask, SYSCALL, MASK, UINT32_MAX),
    PLAIN(MSR_FS_BASE, seg[SEG_FS].base, LM, CANONICAL, 0),
    PLAIN(MSR_GS_BASE, seg[SEG_GS].base, LM, CANONICAL, 0),
    PLAIN(MSR_KERNEL_GS_BASE, kernel_gs_base, LM, CANONICAL, 0),
    PLAIN(MSR_SPEC_CTRL, spec_ctrl, SPEC_CTRL, MASK, SPEC_CTRL_IBRS | SPEC_CTRL_STIBP | SPEC_CTRL_BHI_DIS_S),
    PLAIN(MSR_DEBUGCTL, debugctl, NONE, MASK, DEBUGCTL_LBR | DEBUGCTL_BTF),
    PLAIN(MSR_XSS, xss, XSAVES, MASK, 0),
    PLAIN(MSR_PAT, pat, PAT, PAT, 0),
    PLAIN(MSR_MCG_STATUS, mcg_status, MCA, MASK, 7),
    PLAIN(MSR_MTRR_DEF_TYPE, mtrr_def_type, MTRR, MASK, 0xcff),
    PLAIN(MSR_MTRR_FIX64K, mtrr_fixed[0], MTRR, TYPES, 0),
    PLAIN(MSR_MTRR_FIX16K, mtrr_fixed[1], MTRR, TYPES, 0),
    PLAIN(MSR_MTRR_FIX16K + 1, mtrr_fixed[2], MTRR, TYPES, 0),
    PLAIN(MSR_MTRR_FIX4K, mtrr_fixed[3], MTRR, TYPES, 0),
    PLAIN(MSR_MTRR_FIX4K + 1, mtrr_fixed[4], MTRR, TYPES, 0),
    PLAIN(MSR_MTRR_FIX4K + 2, mtrr_fixed[5], MTRR, TYPES, 0),
    PLAIN(MSR_MTRR_FIX4K + 3, mtrr_fixed[6], MTRR, TYPES, 0),
    PLAIN(MSR_MTRR_FIX4K + 4, mtrr_fixed[7], MTRR, TYPES, 0),
    PLAIN(MSR_MTRR_FIX4K + 5, mtrr_fixed[8], MTRR, TYPES, 0),
    PLAIN(MSR_MTRR_FIX4K + 6, mtrr_fixed[9], MTRR, TYPES, 0),
    PLAIN(MSR_MTRR_FIX4K + 7, mtrr_fixed[10], MTRR, TYPES, 0),
};

static const struct plain_msr *find_plain(const struct cpu *cpu, uint32_t msr)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(plain_msrs); i++)
        if (plain_msrs[i].msr == msr)
            return cpu_has(cpu, plain_msrs[i].feature) ? &plain_msrs[i] : NULL;
    return NULL;
}

/* Uncacheable, write-combining, write-through, write-protected, write-back. */
static bool type_valid(uint8_t type)
{
    return type < 7 && (1u << type & 0x73);
}

static bool types_valid(uint64_t value, bool pat)
{
    for (unsigned i = 0; i < 64; i += 8) {
        uint8_t type = (uint8_t)(value >> i);
        if (!type_valid(type) && !(pat && type == 7))
            return false;
    }
    return true;
}

static bool plain_accepts(const struct cpu *cpu, const struct plain_msr *p, uint64_t value)
{
    switch (p->check) {
    case CHECK_MASK:
        if (p->msr == MSR_SPEC_CTRL && value & SPEC_CTRL_BHI_DIS_S && !cpu_has(cpu, FEAT_BHI_CTRL))
            return false;
        return !(value & ~p->mask) && (p->msr != MSR_MTRR_DEF_TYPE || type_valid((uint8_t)value));
    case CHECK_CANONICAL: return cpu_is_canonical(cpu, value);
    default: return types_valid(value, p->check == CHECK_PAT);
    }
}

/* --- Ranges ------------------------------------------------------------------------------------------------------- */

static bool mtrr_access(struct cpu *cpu, uint32_t msr, uint64_t *value, bool write)
{
    unsigned n = (msr - MSR_MTRR_PHYS) / 2;
    bool mask = msr & 1;
    uint64_t *r = mask ? &cpu->mtrr_mask[n] : &cpu->mtrr_base[n];
    if (!cpu_has(cpu, FEAT_MTRR))
        return false;
    if (!write) {
        *value = *r;
        return true;
    }
    uint64_t address = (UINT64_C(1) << cpu->model->phys_bits) - 1;
    if (*value & ~(address & ~UINT64_C(0xfff)) & ~(mask ? UINT64_C(0x800) : UINT64_C(0xff)))
        return false;
    if (!mask && !type_valid((uint8_t)*value))
        return false;
    *r = *value;
    return true;
}

static bool mc_access(struct cpu *cpu, uint32_t msr, uint64_t *value, bool write)
{
    unsigned bank = (msr - MSR_MC0_CTL) / 4, n = (msr - MSR_MC0_CTL) % 4;
    if (!cpu_has(cpu, FEAT_MCA))
        return false;
    if (!write) {
        *value = cpu->mc_bank[bank][n];
        return true;
    }
    /*
     * CTL: all or nothing, but for a bit of bank 4 that kernels clear for another vendor's sake. STATUS: can only be
     * cleared.
     */
    if (n == 0 && *value != 0 && (*value | 1 << 10) != UINT64_MAX)
        return false;
    if (n == 1 && *value != 0)
        return false;
    cpu->mc_bank[bank][n] = *value;
    return true;
}

static bool apic_access(struct cpu *cpu, uint32_t msr, uint64_t *value, bool write)
{
    if (!cpu->apic_ops)
        return false;
    if (msr == MSR_APIC_BASE) {
        if (write)
            return cpu->apic_ops->set_base_msr(cpu->apic, *value);
        *value = cpu->apic_ops->base_msr(cpu->apic);
        return true;
    }
    if (!cpu_has(cpu, msr == MSR_TSC_DEADLINE ? FEAT_TSC_DEADLINE : FEAT_X2APIC))
        return false;
    return write ? cpu->apic_ops->write_msr(cpu->apic, msr, *value) : cpu->apic_ops->read_msr(cpu->apic, msr, value);
}

static bool is_mtrr(uint32_t msr)
{
    return msr >= MSR_MTRR_PHYS && msr < MSR_MTRR_PHYS + 2 * MTRR_RANGES;
}
static bool is_mc(uint32_t msr)
{
    return msr >= MSR_MC0_CTL && msr < MSR_MC0_CTL + 4 * MC_BANKS;
}
static bool is_apic(uint32_t msr)
{
    return msr == MSR_APIC_BASE || msr == MSR_TSC_DEADLINE || (msr >= MSR_X2APIC && msr <= MSR_X2APIC + 0xff);
}
/* 0x11 and 0x12 are kvmclock's first ones. */
static bool is_kvm(uint32_t msr)
{
    return msr == 0x11 || msr == 0x12 || (msr >= MSR_KVM_FIRST && msr <= MSR_KVM_FIRST + 0xff);
}

/* --- Reading ------------------------------------------------------------------------------------------------------ */

static uint64_t arch_capabilities(const struct cpu *cpu)
{
    uint64_t claims = ARCH_CAP_NOT_AFFECTED | (cpu_has(cpu, FEAT_SPEC_CTRL) ? ARCH_CAP_IBRS_ALL : 0);
    return claims & ~cpu->model->exposed;
}

static bool read_special(struct cpu *cpu, uint32_t msr, uint64_t *value)
{
    uint64_t ratio = cpu->model->tsc_hz / 100000000 & 0xff;
    *value = 0;
    switch (msr) {
    case MSR_TSC: *value = cpu_read_tsc(cpu); return true;
    case MSR_TSC_ADJUST: *value = cpu->tsc_adjust; return cpu_has(cpu, FEAT_TSC_ADJUST);
    case MSR_TSC_AUX: *value = cpu->tsc_aux; return cpu_has(cpu, FEAT_RDTSCP) || cpu_has(cpu, FEAT_RDPID);
    case MSR_EFER:
        *value = cpu->efer;
        return cpu_has(cpu, FEAT_NX) || cpu_has(cpu, FEAT_LM) || cpu_has(cpu, FEAT_SYSCALL);
    case MSR_PLATFORM_ID:
    case MSR_EBL_CR_POWERON:
    case MSR_SMI_COUNT:
    case MSR_LAST_BRANCH_FROM:
    case MSR_LAST_BRANCH_FROM + 1:
    case MSR_LAST_BRANCH_FROM + 2:
    case MSR_LAST_BRANCH_FROM + 3: return true;
    case MSR_BIOS_SIGN_ID: *value = UINT64_C(1) << 32; return true; /* microcode revision */
    case MSR_PLATFORM_INFO:
    case MSR_PERF_STATUS: *value = ratio << 8; return true; /* of 100 MHz */
    case MSR_FEATURE_CONTROL: *value = cpu->feature_control; return true;
    case MSR_MTRRCAP: *value = MTRR_RANGES | 1 << 8 | 1 << 10; return cpu_has(cpu, FEAT_MTRR); /* fixed ranges, WC */
    case MSR_ARCH_CAPABILITIES: *value = arch_capabilities(cpu); return cpu_has(cpu, FEAT_ARCH_CAPABILITIES);
    case MSR_MCG_CAP: *value = MC_BANKS | MCG_CTL_P; return cpu_has(cpu, FEAT_MCA);
    case MSR_MCG_CTL: *value = cpu->mcg_ctl; return cpu_has(cpu, FEAT_MCA);
    case MSR_MISC_ENABLE: *value = cpu->misc_enable; return true;
    case MSR_PRED_CMD: return false; /* write-only */
    }
    log_unimp_once(msr, "cpu", "read of MSR 0x%x", msr);
    return false;
}

bool cpu_rdmsr(struct cpu *cpu, uint32_t msr, uint64_t *value)
{
    const struct plain_msr *p = find_plain(cpu, msr);
    if (p) {
        memcpy(value, (const char *)cpu + p->offset, sizeof *value);
        return true;
    }
    if (is_mtrr(msr))
        return mtrr_access(cpu, msr, value, false);
    if (is_mc(msr))
        return mc_access(cpu, msr, value, false);
    if (is_apic(msr))
        return apic_access(cpu, msr, value, false);
    if (is_kvm(msr))
        return cpu_pv_rdmsr(cpu, msr, value);
    return read_special(cpu, msr, value);
}

/* --- Writing ------------------------------------------------------------------------------------------------------ */

static bool write_misc_enable(struct cpu *cpu, uint64_t value)
{
    uint64_t writable = MISC_ENABLE_FAST_STRINGS | MISC_ENABLE_THERMAL | MISC_ENABLE_SPEEDSTEP |
                        MISC_ENABLE_LIMIT_CPUID | MISC_ENABLE_NO_XTPR;
    uint64_t ignored = MISC_ENABLE_BTS_UNAVAILABLE | MISC_ENABLE_PEBS_UNAVAILABLE | MISC_ENABLE_MWAIT;
    if (cpu_has(cpu, FEAT_MONITOR))
        writable |= MISC_ENABLE_MWAIT;
    if (cpu_has(cpu, FEAT_NX))
        writable |= MISC_ENABLE_NO_XD;
    if ((value ^ cpu->misc_enable) & ~(writable | ignored))
        return false;
    cpu->misc_enable = (cpu->misc_enable & ~writable) | (value & writable);
    return true;
}

static bool write_special(struct cpu *cpu, uint32_t msr, uint64_t value)
{
    switch (msr) {
    case MSR_TSC: move_tsc(cpu, value - cpu_read_tsc(cpu)); return true;
    case MSR_TSC_ADJUST:
        if (!cpu_has(cpu, FEAT_TSC_ADJUST))
            return false;
        move_tsc(cpu, value - cpu->tsc_adjust);
        return true;
    case MSR_TSC_AUX:
        if (value >> 32 || !(cpu_has(cpu, FEAT_RDTSCP) || cpu_has(cpu, FEAT_RDPID)))
            return false;
        cpu->tsc_aux = value;
        return true;
    case MSR_EFER: cpu_write_efer(cpu, value); return true;
    case MSR_BIOS_UPDT_TRIG: /* microcode: taken and forgotten */
    case MSR_BIOS_SIGN_ID: return true;
    case MSR_FEATURE_CONTROL:
        if (cpu->feature_control & FEATURE_CONTROL_LOCK || value & ~(uint64_t)FEATURE_CONTROL_LOCK)
            return false;
        cpu->feature_control = value;
        return true;
    case MSR_PRED_CMD: return cpu_has(cpu, FEAT_SPEC_CTRL) && !(value & ~UINT64_C(1));
    case MSR_MCG_CTL:
        if (!cpu_has(cpu, FEAT_MCA) || (value != 0 && value != UINT64_MAX))
            return false;
        cpu->mcg_ctl = value;
        return true;
    case MSR_MISC_ENABLE: return write_misc_enable(cpu, value);
    case MSR_PLATFORM_ID:
    case MSR_EBL_CR_POWERON:
    case MSR_SMI_COUNT:
    case MSR_PLATFORM_INFO:
    case MSR_PERF_STATUS:
    case MSR_MTRRCAP:
    case MSR_ARCH_CAPABILITIES:
    case MSR_MCG_CAP: return false; /* read-only */
    }
    log_unimp_once(msr | UINT64_C(1) << 32, "cpu", "write of MSR 0x%x", msr);
    return false;
}

bool cpu_wrmsr(struct cpu *cpu, uint32_t msr, uint64_t value)
{
    const struct plain_msr *p = find_plain(cpu, msr);
    if (p) {
        if (!plain_accepts(cpu, p, value))
            return false;
        memcpy((char *)cpu + p->offset, &value, sizeof value);
        return true;
    }
    if (is_mtrr(msr))
        return mtrr_access(cpu, msr, &value, true);
    if (is_mc(msr))
        return mc_access(cpu, msr, &value, true);
    if (is_apic(msr))
        return apic_access(cpu, msr, &value, true);
    if (is_kvm(msr))
        return cpu_pv_wrmsr(cpu, msr, value);
    return write_special(cpu, msr, value);
}

/* --- Reset -------------------------------------------------------------------------------------------------------- */

void cpu_reset_msrs(struct cpu *cpu)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(plain_msrs); i++)
        if (plain_msrs[i].msr != MSR_FS_BASE && plain_msrs[i].msr != MSR_GS_BASE) /* those are segment registers */
            memset((char *)cpu + plain_msrs[i].offset, 0, sizeof(uint64_t));
    cpu->pat = UINT64_C(0x0007040600070406);
    cpu->tsc_offset = cpu->tsc_adjust = cpu->tsc_aux = 0; /* all processors count from the machine's beginning */
    cpu->misc_enable = MISC_ENABLE_FAST_STRINGS | MISC_ENABLE_BTS_UNAVAILABLE | MISC_ENABLE_PEBS_UNAVAILABLE;
    if (cpu_has(cpu, FEAT_MONITOR))
        cpu->misc_enable |= MISC_ENABLE_MWAIT;
    memset(cpu->mtrr_base, 0, sizeof cpu->mtrr_base);
    memset(cpu->mtrr_mask, 0, sizeof cpu->mtrr_mask);
    memset(cpu->mc_bank, 0, sizeof cpu->mc_bank);
    cpu->mcg_ctl = UINT64_MAX;
    cpu->feature_control = 0;
    cpu_pv_reset(cpu);
}
