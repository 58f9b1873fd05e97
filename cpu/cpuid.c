/*
 * CPUID: Intel SDM volume 2A, CPUID; AMD APM volume 3, appendix E for leaves 8000000xH; KVM's leaves as in Linux,
 * Documentation/virt/kvm/x86/cpuid.rst.
 *
 * The processor calls itself GenuineIntel, family 6, with a model number that no real one has: kernels then go by
 * features, and neither load drivers for registers of a certain chip nor apply its errata. Of the leaves 5 and 0AH only
 * what is there: no performance counters. ARCH_CAPABILITIES (msr.c) tells that none of the known leaks exist here.
 */
#include "cpu/cpu.h"
#include "cpu/model.h"
#include "cpu/xsave.h"
#include "hw/core/ram_access.h"

#include <string.h>

#define FAMILY 6u
#define MODEL 0xa1u
#define STEPPING 1u
#define MAX_LEAF 0x16u
#define MAX_EXTENDED_LEAF 0x80000008u
#define KVM_LEAF 0x40000000u
#define KVM_MAX_LEAF 0x40000010u

enum { EAX, EBX, ECX, EDX };

static uint32_t signature(void)
{
    return (MODEL >> 4) << 16 | FAMILY << 8 | (MODEL & 15) << 4 | STEPPING;
}

static unsigned bits_for(unsigned n)
{
    return n > 1 ? g_bit_storage(n - 1) : 0;
}

/* The bits of features.def in this leaf. */
static void add_features(const struct cpu_model *m, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    for (unsigned f = FEAT_NONE + 1; f < FEAT_COUNT; f++) {
        const struct cpu_feature_info *i = &cpu_features[f];
        if (i->leaf == leaf && i->subleaf == subleaf && cpu_model_has(m, f))
            out[i->reg] |= 1u << i->bit;
    }
}

static void put_text(uint32_t *out, const char *text)
{
    *out = ram_load32(text);
}

static void leaf_vendor(const struct cpu *cpu, uint32_t out[4])
{
    out[EAX] = cpu->misc_enable & MISC_ENABLE_LIMIT_CPUID ? 2 : MAX_LEAF;
    put_text(&out[EBX], "Genu");
    put_text(&out[EDX], "ineI");
    put_text(&out[ECX], "ntel");
}

static void leaf_1(const struct cpu *cpu, uint32_t out[4])
{
    const struct cpu_model *m = cpu->model;
    out[EAX] = signature();
    out[EBX] = (cpu->apic_id & 0xff) << 24 | 64 / 8 << 8; /* CLFLUSH line in units of 8 bytes */
    if (cpu_model_has(m, FEAT_HTT))
        out[EBX] |= (1u << (bits_for(m->threads) + bits_for(m->cores)) & 0xff) << 16;
    add_features(m, 1, 0, out);
    if (cpu->apic_ops && !(cpu->apic_ops->base_msr(cpu->apic) & 1 << 11))
        out[EDX] &= ~(1u << 9); /* APIC switched off */
    if (!(cpu->misc_enable & MISC_ENABLE_MWAIT))
        out[ECX] &= ~(1u << 3);
    if (cpu->cr4 & CR4_OSXSAVE)
        out[ECX] |= 1u << 27;
}

/* Deterministic cache parameters. */
static void leaf_4(const struct cpu_model *m, uint32_t subleaf, uint32_t out[4])
{
    static const struct { uint8_t type, level, ways; uint16_t sets; } caches[] = {
        { 1, 1, 8, 64 },     /* 32 KiB data */
        { 2, 1, 8, 64 },     /* 32 KiB instructions */
        { 3, 2, 16, 2048 },  /* 2 MiB */
        { 3, 3, 16, 16384 }, /* 16 MiB, of the whole socket */
    };
    if (subleaf >= G_N_ELEMENTS(caches))
        return;
    unsigned thread_bits = bits_for(m->threads), core_bits = bits_for(m->cores);
    unsigned sharing = 1u << (caches[subleaf].level == 3 ? thread_bits + core_bits : thread_bits);
    out[EAX] = caches[subleaf].type | caches[subleaf].level << 5 | 1 << 8 | (sharing - 1) << 14 |
               ((1u << core_bits) - 1) << 26;
    out[EBX] = (64 - 1) | (uint32_t)(caches[subleaf].ways - 1) << 22;
    out[ECX] = caches[subleaf].sets - 1u;
}

static void leaf_7(const struct cpu *cpu, uint32_t subleaf, uint32_t out[4])
{
    add_features(cpu->model, 7, subleaf, out);
    if (subleaf)
        return;
    out[EAX] = 2; /* the last subleaf */
    if (cpu->cr4 & CR4_PKE)
        out[ECX] |= 1u << 4; /* OSPKE */
}

/* Extended topology: x2APIC id, and how many of its low bits number the threads of a core, the cores of a socket. */
static void leaf_topology(const struct cpu *cpu, uint32_t subleaf, uint32_t out[4])
{
    const struct cpu_model *m = cpu->model;
    out[ECX] = subleaf & 0xff;
    out[EDX] = cpu->apic_id;
    if (subleaf == 0) {
        out[EAX] = bits_for(m->threads);
        out[EBX] = m->threads;
        out[ECX] |= 1 << 8;
    } else if (subleaf == 1) {
        out[EAX] = bits_for(m->threads) + bits_for(m->cores);
        out[EBX] = m->threads * m->cores;
        out[ECX] |= 2 << 8;
    }
}

/* Numbers of state components: bits of XCR0. */
#define COMPONENT_AVX 2
#define COMPONENT_PKRU 9

static uint64_t xsave_components(const struct cpu_model *m)
{
    uint64_t avx = cpu_model_has(m, FEAT_AVX) ? XCR0_AVX : 0, pkru = cpu_model_has(m, FEAT_PKU) ? XCR0_PKRU : 0;
    return XCR0_X87 | XCR0_SSE | avx | pkru;
}

static void leaf_xsave(const struct cpu *cpu, uint32_t subleaf, uint32_t out[4])
{
    const struct cpu_model *m = cpu->model;
    if (!cpu_model_has(m, FEAT_XSAVE))
        return;
    uint64_t components = xsave_components(m);
    if (subleaf == 0) {
        out[EAX] = (uint32_t)components;
        out[EBX] = xsave_area_size(0, cpu->xcr0);
        out[ECX] = xsave_area_size(0, components);
    } else if (subleaf == 1) {
        add_features(m, 0xd, 1, out);
        if (out[EAX] & 1 << 1)
            out[EBX] = xsave_area_size(XCOMP_COMPACTED | cpu->xcr0 | cpu->xss, cpu->xcr0 | cpu->xss);
    } else if (subleaf == COMPONENT_AVX && components & XCR0_AVX) {
        out[EAX] = XSAVE_AVX_SIZE;
        out[EBX] = XSAVE_AVX_OFFSET;
    } else if (subleaf == COMPONENT_PKRU && components & XCR0_PKRU) {
        out[EAX] = XSAVE_PKRU_SIZE;
        out[EBX] = XSAVE_PKRU_OFFSET;
    }
}

/* TSC frequency = crystal * EBX / EAX. */
static void leaf_tsc(const struct cpu_model *m, uint32_t out[4])
{
    uint64_t a = m->tsc_hz, b = CPU_CRYSTAL_HZ;
    while (b) {
        uint64_t r = a % b;
        a = b;
        b = r;
    }
    uint64_t numerator = m->tsc_hz / a, denominator = CPU_CRYSTAL_HZ / a;
    if (numerator > UINT32_MAX)
        return;
    out[EAX] = (uint32_t)denominator;
    out[EBX] = (uint32_t)numerator;
    out[ECX] = (uint32_t)CPU_CRYSTAL_HZ;
}

static void leaf_basic(const struct cpu *cpu, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    const struct cpu_model *m = cpu->model;
    switch (leaf) {
    case 0: leaf_vendor(cpu, out); break;
    case 1: leaf_1(cpu, out); break;
    case 2: /* descriptors: caches as in leaf 4, TLBs, 64-byte prefetch */
        out[EAX] = 0x00c3ff01;
        out[EBX] = 0x00f0b564;
        break;
    case 4: leaf_4(m, subleaf, out); break;
    case 5:
        if (cpu_model_has(m, FEAT_MONITOR)) {
            out[EAX] = out[EBX] = 64; /* bytes monitored */
            out[ECX] = 3;             /* extensions; an interrupt breaks even with IF = 0 */
            out[EDX] = 1 << 4;        /* one C1 sub-state */
        }
        break;
    case 6: add_features(m, 6, 0, out); break;
    case 7: leaf_7(cpu, subleaf, out); break;
    case 0xb: leaf_topology(cpu, subleaf, out); break;
    case 0xd: leaf_xsave(cpu, subleaf, out); break;
    case 0x15: leaf_tsc(m, out); break;
    case 0x16:
        out[EAX] = out[EBX] = (uint32_t)(m->tsc_hz / 1000000);
        out[ECX] = 100;
        break;
    }
}

static void leaf_kvm(const struct cpu_model *m, uint32_t leaf, uint32_t out[4])
{
    switch (leaf) {
    case KVM_LEAF:
        out[EAX] = KVM_MAX_LEAF;
        put_text(&out[EBX], "KVMK");
        put_text(&out[ECX], "VMKV");
        put_text(&out[EDX], "M\0\0");
        break;
    case KVM_LEAF + 1:
        add_features(m, leaf, 0, out);
        if (cpu_model_has(m, FEAT_KVM_CLOCK))
            out[EAX] |= 1; /* with its old MSRs */
        break;
    case KVM_LEAF + 0x10: /* frequencies in kHz, a convention among hypervisors */
        out[EAX] = (uint32_t)(m->tsc_hz / 1000);
        out[EBX] = (uint32_t)(CPU_CRYSTAL_HZ / 1000);
        break;
    }
}

static void leaf_extended(const struct cpu *cpu, uint32_t leaf, uint32_t out[4])
{
    const struct cpu_model *m = cpu->model;
    switch (leaf) {
    case 0x80000000: out[EAX] = MAX_EXTENDED_LEAF; break;
    case 0x80000001:
        add_features(m, leaf, 0, out);
        if (cpu->misc_enable & MISC_ENABLE_NO_XD)
            out[EDX] &= ~(1u << 20);
        break;
    case 0x80000002:
    case 0x80000003:
    case 0x80000004:
        for (unsigned i = 0; i < 4; i++)
            put_text(&out[i], m->brand + (leaf - 0x80000002) * 16 + i * 4);
        break;
    case 0x80000006: out[ECX] = 2048u << 16 | 8 << 12 | 64; break; /* L2: KiB, 16 ways, line */
    case 0x80000007: add_features(m, leaf, 0, out); break;
    case 0x80000008: {
        unsigned linear = !cpu_model_has(m, FEAT_LM) ? 32 : cpu_model_has(m, FEAT_LA57) ? 57 : 48;
        unsigned physical = cpu_model_has(m, FEAT_LM) ? m->phys_bits : MIN(m->phys_bits, 36);
        out[EAX] = linear << 8 | physical;
        break;
    }
    }
}

void cpu_cpuid(struct cpu *cpu, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    const struct cpu_model *m = cpu->model;
    memset(out, 0, 4 * sizeof out[0]);
    if (leaf - KVM_LEAF <= KVM_MAX_LEAF - KVM_LEAF && m->kvm && cpu_model_has(m, FEAT_HYPERVISOR)) {
        leaf_kvm(m, leaf, out);
        return;
    }
    if (leaf >= 0x80000000 && leaf <= MAX_EXTENDED_LEAF) {
        leaf_extended(cpu, leaf, out);
        return;
    }
    /* Anything out of range reads as the highest basic leaf, as on Intel's processors. */
    leaf_basic(cpu, leaf > MAX_LEAF ? MAX_LEAF : leaf, subleaf, out);
}
