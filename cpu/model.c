/*
 * Processor models and the text of -cpu: "max,-avx2,+la57,tsc-frequency=2000000000".
 *
 * x86-64-v1..v3 are the levels of the x86-64 psABI; qemu64 is what QEMU calls so, without SVM. To each of them come the
 * system features that make a guest run well and that no program can stumble over. `max` has all there is, except:
 *   monitor  MWAIT can only poll here; and Linux gives up paravirtual TLB flushes when it sees it
 *   la57     five levels of page tables for address space that no guest here needs: each TLB miss would cost more
 */
#include "cpu/cpu.h"

#include "cpu/model.h"
#include "hw/core/opts.h"

#include <string.h>

/* NONE is there always: rows without a feature ask for it. */
const struct cpu_feature_info cpu_features[FEAT_COUNT] = {
#define FEATURE(id, name, leaf, subleaf, reg, bit) [FEAT_##id] = { name, leaf, subleaf, reg, bit },
#include "cpu/features.def"
#undef FEATURE
};

/* --- What models have --------------------------------------------------------------------------------------------- */

#define LIST_END FEAT_COUNT

/* All that a kernel expects beside the instruction set. */
static const uint16_t system_features[] = {
    FEAT_HYPERVISOR, FEAT_X2APIC, FEAT_TSC_DEADLINE, FEAT_TSC_ADJUST, FEAT_ARAT, FEAT_INVTSC, FEAT_SS, FEAT_RDTSCP,
    FEAT_ARCH_CAPABILITIES, FEAT_SPEC_CTRL, FEAT_BHI_CTRL, FEAT_KVM_CLOCK, FEAT_KVM_NO_IO_DELAY, FEAT_KVM_STEAL_TIME,
    FEAT_KVM_PV_EOI, FEAT_KVM_PV_UNHALT, FEAT_KVM_PV_TLB_FLUSH, FEAT_KVM_PV_IPI, FEAT_KVM_PV_YIELD,
    FEAT_KVM_CLOCK_STABLE, LIST_END,
};
static const uint16_t v1_features[] = {
    FEAT_FPU, FEAT_VME, FEAT_DE, FEAT_PSE, FEAT_TSC, FEAT_MSR, FEAT_PAE, FEAT_MCE, FEAT_CX8, FEAT_APIC, FEAT_SEP,
    FEAT_MTRR, FEAT_PGE, FEAT_MCA, FEAT_CMOV, FEAT_PAT, FEAT_PSE36, FEAT_CLFSH, FEAT_MMX, FEAT_FXSR, FEAT_SSE,
    FEAT_SSE2, FEAT_SYSCALL, FEAT_NX, FEAT_LM, LIST_END,
};
static const uint16_t qemu64_features[] = { FEAT_SSE3, FEAT_CX16, FEAT_LAHF_LM, LIST_END };
static const uint16_t v2_features[] = {
    FEAT_SSE3, FEAT_SSSE3, FEAT_SSE41, FEAT_SSE42, FEAT_POPCNT, FEAT_CX16, FEAT_LAHF_LM, LIST_END,
};
static const uint16_t v3_features[] = {
    FEAT_XSAVE, FEAT_AVX, FEAT_AVX2, FEAT_BMI1, FEAT_BMI2, FEAT_F16C, FEAT_FMA, FEAT_LZCNT, FEAT_MOVBE, LIST_END,
};
static const uint16_t not_in_max[] = { FEAT_MONITOR, FEAT_LA57, FEAT_HTT, LIST_END };

static const struct model_row {
    const char *name, *description, *brand;
    const uint16_t *lists[5]; /* NULL-terminated; none: all features but not_in_max */
} models[] = {
    { "max", "everything this program has (default)", "Trapeze Virtual CPU", { NULL } },
    { "host", "the same as max", "Trapeze Virtual CPU", { NULL } },
    { "qemu64", "x86-64 with SSE3 and CMPXCHG16B", "Trapeze Virtual CPU qemu64",
      { v1_features, system_features, qemu64_features } },
    { "x86-64-v1", "psABI level 1: SSE2", "Trapeze Virtual CPU x86-64-v1", { v1_features, system_features } },
    { "x86-64-v2", "psABI level 2: SSE4.2, POPCNT, CMPXCHG16B", "Trapeze Virtual CPU x86-64-v2",
      { v1_features, system_features, v2_features } },
    { "x86-64-v3", "psABI level 3: AVX2, BMI, FMA, MOVBE", "Trapeze Virtual CPU x86-64-v3",
      { v1_features, system_features, v2_features, v3_features } },
};

/* The first makes no sense without the second. */
static const struct { uint8_t feature, needs; } needs[] = {
    { FEAT_FXSR, FEAT_FPU }, { FEAT_MMX, FEAT_FPU }, { FEAT_FXSR_OPT, FEAT_FXSR }, { FEAT_SSE, FEAT_FXSR },
    { FEAT_SSE2, FEAT_SSE }, { FEAT_SSE3, FEAT_SSE2 }, { FEAT_SSSE3, FEAT_SSE3 }, { FEAT_SSE41, FEAT_SSSE3 },
    { FEAT_SSE42, FEAT_SSE41 }, { FEAT_AES, FEAT_SSE2 }, { FEAT_PCLMULQDQ, FEAT_SSE2 }, { FEAT_SHA, FEAT_SSE2 },
    { FEAT_XSAVE, FEAT_FXSR }, { FEAT_XSAVEOPT, FEAT_XSAVE }, { FEAT_XSAVEC, FEAT_XSAVE }, { FEAT_XGETBV1, FEAT_XSAVE },
    { FEAT_XSAVES, FEAT_XSAVEC }, { FEAT_PKU, FEAT_XSAVE }, { FEAT_AVX, FEAT_XSAVE }, { FEAT_AVX, FEAT_SSE2 },
    { FEAT_AVX2, FEAT_AVX }, { FEAT_FMA, FEAT_AVX }, { FEAT_F16C, FEAT_AVX }, { FEAT_NX, FEAT_PAE },
    { FEAT_LM, FEAT_PAE }, { FEAT_LM, FEAT_MSR }, { FEAT_LM, FEAT_SSE2 }, { FEAT_PCID, FEAT_LM },
    { FEAT_FSGSBASE, FEAT_LM }, { FEAT_PDPE1GB, FEAT_LM }, { FEAT_LA57, FEAT_LM }, { FEAT_LAHF_LM, FEAT_LM },
    { FEAT_CX16, FEAT_LM }, { FEAT_CX16, FEAT_CX8 }, { FEAT_PKU, FEAT_LM }, { FEAT_X2APIC, FEAT_APIC },
    { FEAT_TSC_DEADLINE, FEAT_APIC }, { FEAT_TSC_DEADLINE, FEAT_TSC }, { FEAT_TSC_ADJUST, FEAT_TSC },
    { FEAT_RDTSCP, FEAT_TSC }, { FEAT_INVTSC, FEAT_TSC }, { FEAT_MCA, FEAT_MCE }, { FEAT_KVM_CLOCK, FEAT_TSC },
    { FEAT_KVM_CLOCK_STABLE, FEAT_KVM_CLOCK }, { FEAT_KVM_PV_EOI, FEAT_APIC }, { FEAT_KVM_PV_IPI, FEAT_APIC },
    { FEAT_KVM_PV_UNHALT, FEAT_APIC }, { FEAT_KVM_PV_TLB_FLUSH, FEAT_KVM_STEAL_TIME },
    { FEAT_BHI_CTRL, FEAT_SPEC_CTRL }, { FEAT_KVM_CLOCK, FEAT_HYPERVISOR }, { FEAT_KVM_NO_IO_DELAY, FEAT_HYPERVISOR },
    { FEAT_KVM_STEAL_TIME, FEAT_HYPERVISOR }, { FEAT_KVM_PV_EOI, FEAT_HYPERVISOR },
    { FEAT_KVM_PV_UNHALT, FEAT_HYPERVISOR }, { FEAT_KVM_PV_IPI, FEAT_HYPERVISOR },
    { FEAT_KVM_PV_YIELD, FEAT_HYPERVISOR },
};

static void set_feature(struct cpu_model *m, unsigned feature, bool on)
{
    uint64_t bit = UINT64_C(1) << (feature % 64);
    if (on)
        m->features[feature / 64] |= bit;
    else
        m->features[feature / 64] &= ~bit;
}

bool cpu_has(const struct cpu *cpu, unsigned feature)
{
    return cpu_model_has(cpu->model, feature);
}

/* --- Parsing ------------------------------------------------------------------------------------------------------ */

/* sse4_1, sse4.1 and sse4-1 are one. */
static bool same_name(const char *a, const char *b)
{
    for (; *a && *b; a++, b++) {
        char x = *a == '_' || *a == '.' ? '-' : *a, y = *b == '_' || *b == '.' ? '-' : *b;
        if (x != y)
            return false;
    }
    return *a == *b;
}

static unsigned find_feature(const char *name)
{
    static const struct { const char *name; uint8_t feature; } others[] = {
        { "lzcnt", FEAT_LZCNT }, { "sha", FEAT_SHA }, { "pclmuldq", FEAT_PCLMULQDQ }, { "sse4", FEAT_SSE42 },
        { "xd", FEAT_NX }, { "i64", FEAT_LM }, { "pni", FEAT_SSE3 },
    };
    for (unsigned f = FEAT_NONE + 1; f < FEAT_COUNT; f++)
        if (same_name(cpu_features[f].name, name))
            return f;
    for (unsigned i = 0; i < G_N_ELEMENTS(others); i++)
        if (same_name(others[i].name, name))
            return others[i].feature;
    return FEAT_NONE;
}

/* "KEY=VALUE: must be ..." */
static bool parse_setting(const char *key, const char *value, uint64_t min, uint64_t max, uint64_t *out, GError **err)
{
    if (parse_number(value, min, max, out, err))
        return true;
    g_prefix_error(err, "%s=%s: ", key, value);
    return false;
}

static bool parse_switch(struct cpu_model *m, const char *name, bool on, uint64_t *asked, GError **err)
{
    if (same_name(name, "kvm")) {
        m->kvm = on;
        return true;
    }
    unsigned f = find_feature(name);
    if (f == FEAT_NONE)
        return opts_error(err, "unknown processor feature '%s' (-cpu help lists them)", name);
    set_feature(m, f, on);
    if (on)
        asked[f / 64] |= UINT64_C(1) << (f % 64);
    return true;
}

static bool parse_item(struct cpu_model *m, const char *item, uint64_t *asked, GError **err)
{
    if (item[0] == '+' || item[0] == '-')
        return parse_switch(m, item + 1, item[0] == '+', asked, err);
    const char *equals = strchr(item, '=');
    if (!equals)
        return parse_switch(m, item, true, asked, err);
    g_autofree char *key = g_strndup(item, (gsize)(equals - item));
    const char *value = equals + 1;
    uint64_t n;
    if (same_name(key, "tsc-frequency")) {
        if (!parse_setting(key, value, 1000000, UINT64_C(100000000000), &n, err))
            return false;
        m->tsc_hz = n;
        return true;
    }
    if (same_name(key, "phys-bits")) {
        if (!parse_setting(key, value, 32, 52, &n, err))
            return false;
        m->phys_bits = (uint8_t)n;
        return true;
    }
    bool on;
    if (parse_bool(value, &on, err))
        return parse_switch(m, key, on, asked, err);
    g_prefix_error(err, "%s=%s: ", key, value);
    return false;
}

/* Takes away what misses its ground; an error if the user asked for it by name. */
static bool resolve_needs(struct cpu_model *m, const uint64_t *asked, GError **err)
{
    bool again = true;
    while (again) {
        again = false;
        for (unsigned i = 0; i < G_N_ELEMENTS(needs); i++) {
            unsigned f = needs[i].feature;
            if (!cpu_model_has(m, f) || cpu_model_has(m, needs[i].needs))
                continue;
            if (asked[f / 64] >> (f % 64) & 1)
                return opts_error(err, "feature '%s' needs '%s': add +%s or leave it out", cpu_features[f].name,
                           cpu_features[needs[i].needs].name, cpu_features[needs[i].needs].name);
            set_feature(m, f, false);
            again = true;
        }
    }
    return true;
}

static void set_lists(struct cpu_model *m, const struct model_row *row)
{
    set_feature(m, FEAT_NONE, true);
    for (unsigned f = 0; !row->lists[0] && f < FEAT_COUNT; f++)
        set_feature(m, f, true);
    for (const uint16_t *f = not_in_max; *f != LIST_END; f++)
        set_feature(m, *f, false);
    for (unsigned i = 0; i < G_N_ELEMENTS(row->lists) && row->lists[i]; i++)
        for (const uint16_t *f = row->lists[i]; *f != LIST_END; f++)
            set_feature(m, *f, true);
}

static const struct model_row *find_model(const char *name, GError **err)
{
    g_autoptr(GString) known = g_string_new(NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(models); i++) {
        if (strcmp(models[i].name, name) == 0)
            return &models[i];
        g_string_append_printf(known, "%s%s", i ? ", " : "", models[i].name);
    }
    opts_error(err, "unknown processor model '%s' (known: %s)", name, known->str);
    return NULL;
}

struct cpu_model *cpu_model_parse(const char *text, GError **err)
{
    g_auto(GStrv) items = g_strsplit(text, ",", -1);
    const struct model_row *row = find_model(items[0] ? items[0] : "", err);
    if (!row)
        return NULL;
    struct cpu_model *m = g_new0(struct cpu_model, 1);
    m->name = g_strdup(row->name);
    g_strlcpy(m->brand, row->brand, sizeof m->brand);
    m->kvm = true;
    m->phys_bits = 40;
    m->tsc_hz = CPU_CRYSTAL_HZ; /* so that the counter is virtual time in nanoseconds and costs no division */
    m->sockets = m->cores = m->threads = 1;
    set_lists(m, row);
    uint64_t asked[G_N_ELEMENTS(m->features)] = { 0 };
    bool ok = true;
    for (char **item = items + 1; ok && *item; item++)
        ok = parse_item(m, *item, asked, err);
    if (!ok || !resolve_needs(m, asked, err))
        g_clear_pointer(&m, cpu_model_free);
    return m;
}

struct cpu_model *cpu_model_restrict(const struct cpu_model *m, bool (*allowed)(void *opaque, unsigned feature), void *opaque)
{
    static const uint64_t nothing_asked[G_N_ELEMENTS(m->features)];
    struct cpu_model *r = g_new(struct cpu_model, 1);
    *r = *m;
    r->name = g_strdup(m->name);
    for (unsigned f = FEAT_NONE + 1; f < FEAT_COUNT; f++)
        if (cpu_model_has(m, f) && !allowed(opaque, f))
            set_feature(r, f, false);
    resolve_needs(r, nothing_asked, NULL);
    return r;
}

void cpu_model_free(struct cpu_model *m)
{
    if (!m)
        return;
    g_free(m->name);
    g_free(m);
}

void cpu_model_set_topology(struct cpu_model *m, unsigned sockets, unsigned cores, unsigned threads)
{
    g_assert(sockets && cores && threads);
    m->sockets = sockets;
    m->cores = cores;
    m->threads = threads;
    set_feature(m, FEAT_HTT, cores * threads > 1);
}

void cpu_model_help(GString *out)
{
    g_string_append(out, "Available CPUs:\n");
    for (unsigned i = 0; i < G_N_ELEMENTS(models); i++)
        g_string_append_printf(out, "  %-12s %s\n", models[i].name, models[i].description);
    g_string_append(out, "\nRecognized features, to be switched with ,+NAME ,-NAME or ,NAME=on|off:\n");
    size_t column = 0;
    for (unsigned f = FEAT_NONE + 1; f < FEAT_COUNT; f++) {
        size_t len = strlen(cpu_features[f].name) + 1;
        if (column && column + len > 78) {
            g_string_append_c(out, '\n');
            column = 0;
        }
        g_string_append_printf(out, column ? " %s" : "  %s", cpu_features[f].name);
        column += column ? len : len + 1;
    }
    g_string_append(out, "\n\nOther settings: kvm=on|off (KVM's paravirtual leaves), tsc-frequency=HZ, phys-bits=N\n");
}
