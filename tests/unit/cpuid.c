/* Models: parsing of -cpu, prerequisites, errors; CPUID leaves as kernels read them. */
#include "cpu/cpu.h"
#include "cpu/model.h"
#include "hw/core/machine.h"
#include "hw/core/vm_lock.h"

#include <string.h>

struct fixture {
    struct machine *m;
    struct cpu_model *model;
    struct cpu *cpu;
};

static struct fixture begin(const char *text, unsigned index)
{
    struct fixture f;
    GError *err = NULL;
    vm_lock();
    f.m = machine_new(true);
    f.model = cpu_model_parse(text, &err);
    g_assert_no_error(err);
    f.cpu = cpu_new(f.m, index, f.model);
    return f;
}

static void end(struct fixture f)
{
    cpu_free(f.cpu);
    cpu_model_free(f.model);
    machine_free(f.m);
    vm_unlock();
}

static void refused(const char *text, const char *in_message)
{
    GError *err = NULL;
    g_assert_null(cpu_model_parse(text, &err));
    g_assert_nonnull(err);
    if (!strstr(err->message, in_message))
        g_error("-cpu %s: '%s' does not name '%s'", text, err->message, in_message);
    g_clear_error(&err);
}

static bool model_has(const char *text, unsigned feature)
{
    GError *err = NULL;
    struct cpu_model *m = cpu_model_parse(text, &err);
    g_assert_no_error(err);
    bool has = cpu_model_has(m, feature);
    cpu_model_free(m);
    return has;
}

static void test_parse(void)
{
    g_assert_true(model_has("max", FEAT_AVX2));
    g_assert_true(model_has("host", FEAT_SHA));
    g_assert_true(model_has("max", FEAT_NONE));
    g_assert_false(model_has("max", FEAT_MONITOR));
    g_assert_false(model_has("max", FEAT_LA57));
    g_assert_true(model_has("max,+la57,monitor", FEAT_LA57));
    g_assert_true(model_has("max,+la57,monitor", FEAT_MONITOR));
    g_assert_false(model_has("max,-sha-ni", FEAT_SHA));
    g_assert_false(model_has("max,sha_ni=off", FEAT_SHA));
    g_assert_true(model_has("qemu64,sse4_1=on,+ssse3", FEAT_SSE41));
    g_assert_true(model_has("qemu64,+sse4-1,+ssse3", FEAT_SSE41));
    g_assert_false(model_has("qemu64", FEAT_SSSE3));
    g_assert_false(model_has("x86-64-v1", FEAT_SSE3));
    g_assert_true(model_has("x86-64-v2", FEAT_POPCNT));
    g_assert_false(model_has("x86-64-v2", FEAT_AVX));
    g_assert_true(model_has("x86-64-v3", FEAT_FMA));
    g_assert_false(model_has("x86-64-v3", FEAT_AES));
    /* What stands on a feature goes with it. */
    g_assert_false(model_has("max,-avx", FEAT_AVX2));
    g_assert_false(model_has("max,-xsave", FEAT_FMA));
    g_assert_false(model_has("max,-hypervisor", FEAT_KVM_CLOCK));
    g_assert_false(model_has("max,-lm", FEAT_PCID));
    refused("max,-avx,+avx2", "'avx2' needs 'avx'");
    refused("pentium", "x86-64-v3");
    refused("", "max");
    refused("max,+flux", "'flux'");
    refused("max,avx2=maybe", "on or off");
    refused("max,phys-bits=60", "32 to 52");
    refused("max,tsc-frequency=fast", "tsc-frequency=fast: must be a number");
    refused("max,", "feature");
    g_autoptr(GString) help = g_string_new(NULL);
    cpu_model_help(help);
    g_assert_nonnull(strstr(help->str, "x86-64-v2"));
    g_assert_nonnull(strstr(help->str, " kvm-pv-eoi"));
}

static void test_basic(void)
{
    struct fixture f = begin("max", 0);
    uint32_t r[4];
    char text[49] = { 0 };
    cpu_cpuid(f.cpu, 0, 0, r);
    g_assert_cmphex(r[0], ==, 0x16);
    memcpy(text, &r[1], 4);
    memcpy(text + 4, &r[3], 4);
    memcpy(text + 8, &r[2], 4);
    g_assert_cmpstr(text, ==, "GenuineIntel");
    cpu_cpuid(f.cpu, 1, 0, r);
    g_assert_cmphex(r[0] & 0xf00, ==, 0x600);
    g_assert_true(r[3] & 1 << 9);      /* APIC */
    g_assert_true(r[2] & 1u << 31);    /* hypervisor */
    g_assert_false(r[3] & 1 << 28);    /* one thread */
    g_assert_false(r[2] & 1 << 27);
    f.cpu->cr4 |= CR4_OSXSAVE | CR4_PKE;
    cpu_cpuid(f.cpu, 1, 0, r);
    g_assert_true(r[2] & 1 << 27);     /* OSXSAVE follows CR4 */
    cpu_cpuid(f.cpu, 7, 0, r);
    g_assert_true(r[2] & 1 << 4);      /* OSPKE */
    g_assert_true(r[1] & 1 << 5);
    cpu_cpuid(f.cpu, 7, 1, r);
    g_assert_cmphex(r[0] | r[1] | r[2] | r[3], ==, 0);
    for (unsigned i = 0; i < 3; i++) {
        cpu_cpuid(f.cpu, 0x80000002 + i, 0, r);
        memcpy(text + 16 * i, r, 16);
    }
    g_assert_cmpstr(text, ==, "Trapeze Virtual CPU");
    cpu_cpuid(f.cpu, 0x80000000, 0, r);
    g_assert_cmphex(r[0], ==, 0x80000008);
    cpu_cpuid(f.cpu, 0x80000008, 0, r);
    g_assert_cmphex(r[0], ==, 48 << 8 | 40);
    cpu_cpuid(f.cpu, 0x80000001, 0, r);
    g_assert_true(r[3] & 1 << 29);
    f.cpu->misc_enable |= UINT64_C(1) << 34 | 1 << 22; /* no XD; leaves limited for old kernels */
    cpu_cpuid(f.cpu, 0x80000001, 0, r);
    g_assert_false(r[3] & 1 << 20);
    cpu_cpuid(f.cpu, 0, 0, r);
    g_assert_cmphex(r[0], ==, 2);
    uint32_t last[4];
    cpu_cpuid(f.cpu, 0x16, 0, last);
    cpu_cpuid(f.cpu, 0x123, 0, r);
    g_assert_cmpmem(r, sizeof r, last, sizeof last);
    end(f);
}

static void test_tsc(void)
{
    struct fixture f = begin("max", 0);
    uint32_t r[4];
    cpu_cpuid(f.cpu, 0x15, 0, r);
    g_assert_cmpuint(r[0], ==, 1);
    g_assert_cmpuint(r[1], ==, 1);
    g_assert_cmpuint(r[2], ==, 1000000000);
    end(f);
    f = begin("max,tsc-frequency=2400000000", 0);
    cpu_cpuid(f.cpu, 0x15, 0, r);
    g_assert_cmpuint((uint64_t)r[2] * r[1] / r[0], ==, 2400000000u);
    cpu_cpuid(f.cpu, 0x16, 0, r);
    g_assert_cmpuint(r[0], ==, 2400);
    g_assert_cmpuint(cpu_tsc_hz(f.cpu), ==, 2400000000u);
    clock_step(f.m->clock, 500000000);
    g_assert_cmpuint(cpu_read_tsc(f.cpu), ==, 1200000000u);
    cpu_cpuid(f.cpu, 0x80000007, 0, r);
    g_assert_cmphex(r[3], ==, 1 << 8);
    end(f);
}

static void test_xsave(void)
{
    struct fixture f = begin("max", 0);
    uint32_t r[4], part[4];
    cpu_cpuid(f.cpu, 0xd, 0, r);
    g_assert_cmphex(r[0], ==, 0x207);
    g_assert_cmpuint(r[1], ==, 576); /* XCR0 = 1 */
    cpu_cpuid(f.cpu, 0xd, 2, part);
    g_assert_cmpuint(part[0], ==, 256);
    g_assert_cmpuint(part[1], ==, 576);
    cpu_cpuid(f.cpu, 0xd, 9, part);
    g_assert_cmpuint(part[0] + part[1], ==, r[2]); /* the last component ends the area */
    f.cpu->xcr0 = 7;
    cpu_cpuid(f.cpu, 0xd, 0, r);
    g_assert_cmpuint(r[1], ==, 832);
    f.cpu->xcr0 = 0x207;
    cpu_cpuid(f.cpu, 0xd, 1, r);
    g_assert_cmphex(r[0], ==, 0xf);
    g_assert_cmpuint(r[1], ==, 840); /* compacted */
    cpu_cpuid(f.cpu, 0xd, 5, r);
    g_assert_cmphex(r[0] | r[1] | r[2] | r[3], ==, 0);
    end(f);
    f = begin("qemu64", 0);
    cpu_cpuid(f.cpu, 0xd, 0, r);
    g_assert_cmphex(r[0] | r[1] | r[2] | r[3], ==, 0);
    end(f);
}

static void test_topology(void)
{
    struct fixture f = begin("max", 5);
    uint32_t r[4];
    cpu_model_set_topology(f.model, 2, 3, 2); /* 1 bit of thread, 2 of core */
    cpu_cpuid(f.cpu, 0xb, 0, r);
    g_assert_cmphex(r[0], ==, 1);
    g_assert_cmphex(r[1], ==, 2);
    g_assert_cmphex(r[2], ==, 1 << 8 | 0);
    g_assert_cmphex(r[3], ==, 5);
    cpu_cpuid(f.cpu, 0xb, 1, r);
    g_assert_cmphex(r[0], ==, 3);
    g_assert_cmphex(r[1], ==, 6);
    g_assert_cmphex(r[2], ==, 2 << 8 | 1);
    cpu_cpuid(f.cpu, 0xb, 2, r);
    g_assert_cmphex(r[0] | r[1], ==, 0);
    g_assert_cmphex(r[2], ==, 2);
    g_assert_cmphex(r[3], ==, 5);
    cpu_cpuid(f.cpu, 1, 0, r);
    g_assert_cmphex(r[1], ==, 5u << 24 | 8 << 16 | 8 << 8);
    g_assert_true(r[3] & 1 << 28);
    unsigned levels = 0;
    for (unsigned i = 0; cpu_cpuid(f.cpu, 4, i, r), r[0] & 31; i++) {
        unsigned sharing = (r[0] >> 14 & 0xfff) + 1, level = r[0] >> 5 & 7;
        g_assert_cmpuint(sharing, ==, level == 3 ? 8 : 2);
        g_assert_cmpuint((r[0] >> 26) + 1, ==, 4);
        levels |= 1u << level;
    }
    g_assert_cmphex(levels, ==, 0xe);
    end(f);
}

static void test_kvm_leaves(void)
{
    struct fixture f = begin("max", 0);
    uint32_t r[4];
    cpu_cpuid(f.cpu, 0x40000000, 0, r);
    g_assert_cmphex(r[0], ==, 0x40000010);
    g_assert_cmpmem(&r[1], 12, "KVMKVMKVM\0\0", 12);
    cpu_cpuid(f.cpu, 0x40000001, 0, r);
    g_assert_cmphex(r[0], ==, 1 << 0 | 1 << 1 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 9 | 1 << 11 | 1 << 13 |
                    1 << 24);
    g_assert_cmphex(r[3], ==, 0);
    cpu_cpuid(f.cpu, 0x40000010, 0, r);
    g_assert_cmpuint(r[0], ==, 1000000);
    end(f);
    f = begin("max,kvm=off", 0);
    cpu_cpuid(f.cpu, 0x40000000, 0, r);
    g_assert_true(memcmp(&r[1], "KVMK", 4) != 0);
    end(f);
}

/* Each feature shows at its bit and nowhere else. */
static void test_every_feature(void)
{
    struct fixture f = begin("max,+monitor,+la57", 0);
    f.cpu->misc_enable |= 1 << 18;
    for (unsigned n = FEAT_NONE + 1; n < FEAT_COUNT; n++) {
        const struct cpu_feature_info *i = &cpu_features[n];
        uint32_t with[4], without[4];
        if (n == FEAT_HYPERVISOR || n == FEAT_XSAVE || n == FEAT_KVM_CLOCK || n == FEAT_HTT)
            continue; /* others follow them */
        g_assert_true(cpu_model_has(f.model, n));
        cpu_cpuid(f.cpu, i->leaf, i->subleaf, with);
        f.model->features[n / 64] &= ~(UINT64_C(1) << n % 64);
        cpu_cpuid(f.cpu, i->leaf, i->subleaf, without);
        f.model->features[n / 64] |= UINT64_C(1) << n % 64;
        for (unsigned reg = 0; reg < 4; reg++) {
            uint32_t expected = reg == i->reg ? 1u << i->bit : 0;
            if (n != FEAT_XSAVEC || reg != 1) /* the compacted size comes with it */
                g_assert_cmphex(with[reg] ^ without[reg], ==, expected);
        }
    }
    end(f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/cpuid/parse", test_parse);
    g_test_add_func("/cpuid/basic", test_basic);
    g_test_add_func("/cpuid/tsc", test_tsc);
    g_test_add_func("/cpuid/xsave", test_xsave);
    g_test_add_func("/cpuid/topology", test_topology);
    g_test_add_func("/cpuid/kvm-leaves", test_kvm_leaves);
    g_test_add_func("/cpuid/every-feature", test_every_feature);
    return g_test_run();
}
