/*
 * Processor models: who the guest's processor says it is, and which features it has. cpu_model_parse() of cpu/cpu.h
 * makes one from the text of -cpu; from then on it is read only, but for the topology, which the board sets before it
 * makes processors.
 */
#ifndef CPU_MODEL_H
#define CPU_MODEL_H

#include "cpu/insn.h"

#include <stdbool.h>
#include <stdint.h>

struct cpu;

/* The clock that CPUID leaf 15H names, which also drives the local APIC's timer. */
#define CPU_CRYSTAL_HZ UINT64_C(1000000000)

/* IA32_MISC_ENABLE. The first three show in CPUID, the others are kept. */
#define MISC_ENABLE_MWAIT (UINT64_C(1) << 18)
#define MISC_ENABLE_LIMIT_CPUID (UINT64_C(1) << 22)
#define MISC_ENABLE_NO_XD (UINT64_C(1) << 34)
#define MISC_ENABLE_FAST_STRINGS (UINT64_C(1) << 0)
#define MISC_ENABLE_THERMAL (UINT64_C(1) << 3)
#define MISC_ENABLE_BTS_UNAVAILABLE (UINT64_C(1) << 11)
#define MISC_ENABLE_PEBS_UNAVAILABLE (UINT64_C(1) << 12)
#define MISC_ENABLE_SPEEDSTEP (UINT64_C(1) << 16)
#define MISC_ENABLE_NO_XTPR (UINT64_C(1) << 23)

struct cpu_model {
    char *name;      /* as in -cpu */
    char brand[49];  /* leaves 80000002H..80000004H */
    uint64_t features[(FEAT_COUNT + 63) / 64]; /* bit per enum cpu_feature */
    bool kvm;        /* has the leaves 40000000H.. */
    uint8_t phys_bits;
    uint64_t tsc_hz;
    uint64_t exposed; /* bits of ARCH_CAPABILITIES not to claim: leaks of the processor that really runs the guest */
    unsigned sockets, cores, threads; /* cores per socket, threads per core */
};

static inline bool cpu_model_has(const struct cpu_model *m, unsigned feature)
{
    return m->features[feature / 64] >> (feature % 64) & 1;
}

void cpu_model_set_topology(struct cpu_model *m, unsigned sockets, unsigned cores, unsigned threads);

/*
 * A copy without the features that allowed() refuses, and those that build on them; the name and the rest stay. To be freed
 * by cpu_model_free().
 */
struct cpu_model *cpu_model_restrict(const struct cpu_model *m, bool (*allowed)(void *opaque, unsigned feature), void *opaque);

struct cpu_feature_info {
    const char *name;
    uint32_t leaf;
    uint8_t subleaf, reg, bit;
};
extern const struct cpu_feature_info cpu_features[FEAT_COUNT];

/* MSRs to their values at power-on (msr.c), the paravirtual ones included. cpu_reset() calls it. */
void cpu_reset_msrs(struct cpu *cpu);

#endif
