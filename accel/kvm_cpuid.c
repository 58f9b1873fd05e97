/*
 * The processor model under KVM: our own, without what this host's KVM cannot do.
 *
 * CPUID leaves are those of cpu/cpuid.c, so that a guest sees the same processor under every engine that the machine
 * may use. Features that we carry out ourselves, such as the local APIC and MSRs, do not depend on KVM. Of KVM's
 * paravirtual interface the parts stay that are memory and MSRs (clock, steal time, EOI), for which cpu/pv.c serves
 * every engine; the kernel's hypercalls, which would want its own APIC, are not offered.
 */
#include "accel/kvm_vm.h"

#include "cpu/model.h"

#include <string.h>
#include <sys/ioctl.h>

#define MAX_ENTRIES 256

struct entries {
    struct kvm_cpuid2 head;
    struct kvm_cpuid_entry2 e[MAX_ENTRIES];
};

/* --- The model ---------------------------------------------------------------------------------------------------- */

static uint32_t supported_bits(const struct entries *s, const struct cpu_feature_info *f)
{
    for (unsigned k = 0; k < s->head.nent; k++) {
        const struct kvm_cpuid_entry2 *e = &s->e[k];
        if (e->function != f->leaf || ((e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) && e->index != f->subleaf))
            continue;
        const uint32_t regs[4] = { e->eax, e->ebx, e->ecx, e->edx };
        return regs[f->reg];
    }
    return 0;
}

struct limits {
    struct entries supported;
    const struct kvm_findings *findings;
};

static bool allowed(void *opaque, unsigned feature)
{
    const struct limits *l = opaque;
    switch (feature) {
    /* Chips and registers of ours */
    case FEAT_APIC:
    case FEAT_X2APIC:
    case FEAT_TSC_DEADLINE:
    case FEAT_TSC_ADJUST:
    case FEAT_MTRR:
    case FEAT_PAT:
    case FEAT_MCE:
    case FEAT_MCA:
    case FEAT_ARAT:
    case FEAT_ARCH_CAPABILITIES:
    case FEAT_SS:
    case FEAT_HTT:
    case FEAT_HYPERVISOR: return true;
    case FEAT_KVM_CLOCK:
    case FEAT_KVM_NO_IO_DELAY:
    case FEAT_KVM_STEAL_TIME:
    case FEAT_KVM_PV_EOI:
    case FEAT_KVM_CLOCK_STABLE: return true;
    case FEAT_KVM_PV_UNHALT:
    case FEAT_KVM_PV_IPI:
    case FEAT_KVM_PV_YIELD:
    case FEAT_KVM_PV_TLB_FLUSH: return false;
    case FEAT_MONITOR: return false;
    case FEAT_XSAVE:
        if (l->findings->lost_xcr0)
            return false;
        break;
    }
    const struct cpu_feature_info *f = &cpu_features[feature];
    return supported_bits(&l->supported, f) >> f->bit & 1;
}

#define MSR_ARCH_CAPABILITIES 0x10a

/* What the host's processor does not say that it is safe from. */
static uint64_t exposed_leaks(int kvm)
{
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry e[1];
    } msrs = { .head.nmsrs = 1, .e[0].index = MSR_ARCH_CAPABILITIES };
    return ioctl(kvm, KVM_GET_MSRS, &msrs) == 1 ? ~msrs.e[0].data : UINT64_MAX;
}

struct cpu_model *kvm_restrict_model(int kvm, const struct kvm_findings *f, uint64_t tsc_hz, const struct cpu_model *m,
                                     GError **err)
{
    g_autofree struct limits *l = g_new0(struct limits, 1);
    l->supported.head.nent = MAX_ENTRIES;
    l->findings = f;
    if (!kvm_do(kvm, KVM_GET_SUPPORTED_CPUID, &l->supported, "supported CPUID", err))
        return NULL;
    struct cpu_model *r = cpu_model_restrict(m, allowed, l);
    r->tsc_hz = tsc_hz;
    r->exposed = exposed_leaks(kvm);
    return r;
}

/* --- The leaves --------------------------------------------------------------------------------------------------- */

static void add_leaf(struct kvm_vcpu *v, struct entries *t, uint32_t leaf, unsigned subleaves)
{
    for (unsigned n = 0; n < MAX(subleaves, 1); n++) {
        uint32_t out[4];
        g_assert(t->head.nent < MAX_ENTRIES);
        cpu_cpuid(v->cpu, leaf, n, out);
        t->e[t->head.nent++] = (struct kvm_cpuid_entry2){
            .function = leaf,
            .index = n,
            .flags = subleaves ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
            .eax = out[0],
            .ebx = out[1],
            .ecx = out[2],
            .edx = out[3],
        };
    }
}

/* How many subleaves of it differ from those behind; 0: it has none. */
static unsigned subleaves_of(uint32_t leaf)
{
    switch (leaf) {
    case 4: return 5;
    case 7: return 3;
    case 0xb: return 3;
    case 0xd: return 10;
    default: return 0;
    }
}

bool kvm_set_cpuid(struct kvm_vcpu *v, GError **err)
{
    g_autofree struct entries *t = g_new0(struct entries, 1);
    uint32_t out[4];
    for (uint32_t base = 0; base <= 2; base++) {
        uint32_t first = base * 0x40000000;
        cpu_cpuid(v->cpu, first, 0, out);
        if (base == 1 && !(v->cpu->model->kvm && cpu_has(v->cpu, FEAT_HYPERVISOR)))
            continue;
        for (uint32_t leaf = first; leaf <= out[0]; leaf++)
            add_leaf(v, t, leaf, subleaves_of(leaf));
    }
    return kvm_do(v->fd, KVM_SET_CPUID2, t, "CPUID", err);
}
