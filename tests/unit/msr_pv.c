/* MSRs: values, reserved bits, features; KVM's paravirtual interface: kvmclock, steal time, hypercalls. */
#include "cpu/cpu.h"
#include "cpu/model.h"
#include "cpu/pv.h"
#include "hw/core/machine.h"
#include "hw/core/vm_lock.h"

#include <string.h>

#define CPUS 4

static struct {
    struct machine *m;
    struct cpu_model *model;
    struct cpu *cpu; /* the first */
    struct mem_region ram;
    unsigned kicks[CPUS];
    GString *ipis;
} t;

static void on_kick(struct cpu *cpu)
{
    t.kicks[cpu->index]++;
}

static uint64_t base_msr(void *apic)
{
    return 0xfee00900;
}
static bool set_base_msr(void *apic, uint64_t value)
{
    return value == 0xfee00d00;
}
static bool read_msr(void *apic, uint32_t msr, uint64_t *value)
{
    *value = msr;
    return msr != 0x80b;
}
static bool write_msr(void *apic, uint32_t msr, uint64_t value)
{
    return msr == 0x80b || msr == 0x6e0;
}
static bool has_interrupt(void *apic)
{
    return false;
}
static void send_ipi(void *apic, uint64_t icr)
{
    g_string_append_printf(t.ipis, "%" G_GINT64_MODIFIER "x ", icr);
}

static const struct cpu_host_ops host_ops = { .kick = on_kick };
static const struct cpu_apic_ops apic_ops = {
    .base_msr = base_msr, .set_base_msr = set_base_msr, .read_msr = read_msr, .write_msr = write_msr,
    .has_interrupt = has_interrupt, .send_ipi = send_ipi,
};

static void begin(const char *text)
{
    GError *err = NULL;
    vm_lock();
    memset(&t, 0, sizeof t);
    t.ipis = g_string_new(NULL);
    t.m = machine_new(true);
    t.m->ram = ram_block_new("ram", 1 << 20, NULL, NULL);
    mem_init_ram(&t.ram, NULL, "ram", t.m->ram, 0, 1 << 20);
    mem_map(&t.m->memory_root, 0, &t.ram, 0);
    t.model = cpu_model_parse(text, &err);
    g_assert_no_error(err);
    t.m->cpus = g_new0(struct cpu *, CPUS);
    for (unsigned i = 0; i < CPUS; i++) {
        t.m->cpus[i] = cpu_new(t.m, i, t.model);
        t.m->cpus[i]->host = &host_ops;
        t.m->cpus[i]->apic_ops = &apic_ops;
    }
    t.m->cpu_count = CPUS;
    t.cpu = t.m->cpus[0];
    vm_unlock(); /* as on a vCPU's thread */
}

static void end(void)
{
    vm_lock();
    for (unsigned i = 0; i < CPUS; i++)
        cpu_free(t.m->cpus[i]);
    mem_fini(&t.ram);
    cpu_model_free(t.model);
    machine_free(t.m);
    g_string_free(t.ipis, TRUE);
    vm_unlock();
}

static void step(int64_t ns)
{
    vm_lock();
    clock_step(t.m->clock, ns);
    vm_unlock();
}

static uint64_t get(uint32_t msr)
{
    uint64_t v = 0xdead;
    g_assert_true(cpu_rdmsr(t.cpu, msr, &v));
    return v;
}

static void set(uint32_t msr, uint64_t v)
{
    g_assert_true(cpu_wrmsr(t.cpu, msr, v));
}

static void keeps(uint32_t msr, uint64_t v)
{
    set(msr, v);
    g_assert_cmphex(get(msr), ==, v);
}

static void no_write(uint32_t msr, uint64_t v)
{
    uint64_t before = 0, after = 0;
    bool readable = cpu_rdmsr(t.cpu, msr, &before);
    g_assert_false(cpu_wrmsr(t.cpu, msr, v));
    g_assert_true(cpu_rdmsr(t.cpu, msr, &after) == readable && before == after);
}

static void no_read(uint32_t msr)
{
    uint64_t v;
    g_assert_false(cpu_rdmsr(t.cpu, msr, &v));
}

/* --- MSRs --------------------------------------------------------------------------------------------------------- */

static void test_system(void)
{
    begin("max");
    keeps(0x174, 0x10);
    keeps(0x175, 0xffff800000001000);
    keeps(0x176, 0x1234);
    no_write(0x176, 0x0000800000000000); /* not canonical */
    keeps(0xc0000081, 0x0023001000000000);
    keeps(0xc0000082, 0xffffffff81000000);
    no_write(0xc0000082, 0x8000000000000000);
    keeps(0xc0000084, 0x47700);
    no_write(0xc0000084, UINT64_C(1) << 32);
    keeps(0xc0000100, 0x7fff12345678);
    g_assert_cmphex(t.cpu->seg[SEG_FS].base, ==, 0x7fff12345678);
    keeps(0xc0000102, 0xffff888000000000);
    keeps(0xc0000103, 0xffffffff);
    no_write(0xc0000103, UINT64_C(1) << 32);
    keeps(0x277, 0x0407050600070106);
    no_write(0x277, 2); /* a reserved type */
    no_write(0x277, 8);
    keeps(0x1d9, 2);
    no_write(0x1d9, 1 << 15);
    keeps(0xda0, 0);
    no_write(0xda0, 0x100);
    g_assert_cmphex(get(0x1b), ==, 0xfee00900);
    set(0x1b, 0xfee00d00);
    no_write(0x1b, 0x123);
    g_assert_cmphex(get(0x808), ==, 0x808);
    no_read(0x80b);
    set(0x80b, 0);
    set(0x6e0, 5);
    no_read(0x12345); /* unknown */
    no_write(0x12345, 0);
    g_assert_cmphex(get(0x8b), ==, UINT64_C(1) << 32);
    set(0x79, 0x1000);
    g_assert_cmphex(get(0x17), ==, 0);
    no_write(0x17, 1);
    set(0x3a, 0);
    set(0x3a, 1);
    no_write(0x3a, 1); /* locked */
    no_write(0x3a, 0);
    g_assert_cmphex(get(0x1a0), ==, 0x1801); /* fast strings; no BTS, no PEBS */
    set(0x1a0, 0x1801 | UINT64_C(1) << 34);
    no_write(0x1a0, 0x1801 | 1 << 5);
    set(0x1a0, 1); /* read-only bits stay */
    g_assert_cmphex(get(0x1a0), ==, 0x1801);
    vm_lock();
    cpu_reset(t.cpu, false);
    vm_unlock();
    g_assert_cmphex(get(0x277), ==, 0x0007040600070406);
    g_assert_cmphex(get(0xc0000082), ==, 0);
    end();
}

static void test_speculation(void)
{
    begin("max");
    keeps(0x48, 1 | 1 << 10);
    no_write(0x48, 4);
    set(0x49, 1);
    no_read(0x49);
    uint64_t not_affected = get(0x10a);
    g_assert_cmphex(not_affected & 0x3, ==, 3);           /* RDCL_NO, IBRS_ALL */
    g_assert_cmphex(not_affected & 0xe000, ==, 0xe000);   /* MMIO */
    g_assert_cmphex(not_affected & (1 << 2 | 1 << 19), ==, 0); /* RSBA, RRSBA */
    no_write(0x10a, 0);
    end();
    begin("max,-bhi-ctrl");
    no_write(0x48, 1 << 10);
    end();
}

static void test_missing(void)
{
    begin("max,-spec-ctrl,-mtrr,-mca,-x2apic,-tsc-deadline,-tsc-adjust,-xsaves,-arch-capabilities,-pat,-sep,kvm=off");
    static const uint32_t gone[] = { 0x48, 0x200, 0x2ff, 0xfe, 0x250, 0x400, 0x179, 0x17b, 0x808, 0x6e0, 0x3b, 0xda0,
                                     0x10a, 0x277, 0x174, 0x12, 0x4b564d01, 0x4b564d03, 0x4b564d04 };
    for (unsigned i = 0; i < G_N_ELEMENTS(gone); i++) {
        no_read(gone[i]);
        no_write(gone[i], 0);
    }
    end();
}

static void test_mtrr_mce(void)
{
    begin("max");
    g_assert_cmphex(get(0xfe), ==, 0x508);
    keeps(0x200, 0xc0000000);
    keeps(0x201, 0xffc0000800);
    no_write(0x200, 0x10000000000); /* behind the physical address width */
    no_write(0x200, 2);             /* reserved type */
    no_write(0x201, 0x400);
    keeps(0x20f, 0x800);
    no_read(0x210);
    keeps(0x2ff, 0xc06);
    no_write(0x2ff, 0xc07);
    no_write(0x2ff, 0x1006);
    keeps(0x250, 0x0606060606060606);
    no_write(0x26f, 0x0700000000000000);
    keeps(0x26f, 0x0505050505050505);
    g_assert_cmphex(get(0x250), ==, 0x0606060606060606);
    g_assert_cmphex(get(0x179) & 0xff, ==, 10);
    keeps(0x17b, UINT64_MAX);
    no_write(0x17b, 1);
    keeps(0x400, UINT64_MAX);
    no_write(0x400, 5);
    keeps(0x410, UINT64_MAX & ~UINT64_C(0x400));
    set(0x401, 0);
    no_write(0x401, 1);
    no_read(0x400 + 4 * 10);
    end();
}

static void test_tsc(void)
{
    begin("max");
    step(1000);
    g_assert_cmpuint(get(0x10), ==, 1000);
    set(0x10, 5000);
    g_assert_cmpuint(get(0x10), ==, 5000);
    g_assert_cmpuint(get(0x3b), ==, 4000);
    step(10);
    g_assert_cmpuint(get(0x10), ==, 5010);
    set(0x3b, 0);
    g_assert_cmpuint(get(0x10), ==, 1010);
    set(0x10, 0);
    g_assert_cmpuint(get(0x3b), ==, (uint64_t)-1010);
    g_assert_cmpuint(cpu_read_tsc(t.m->cpus[1]), ==, 1010);
    end();
}

/* --- kvmclock ----------------------------------------------------------------------------------------------------- */

static uint64_t peek(uint64_t addr, unsigned size)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < size; i++)
        v |= (uint64_t)t.m->ram->host[addr + i] << (8 * i);
    return v;
}

/* What a guest computes from the structure at addr and its TSC. */
static uint64_t guest_clock(uint64_t addr, uint64_t tsc)
{
    g_assert_false(peek(addr, 4) & 1);
    uint64_t delta = tsc - peek(addr + 8, 8);
    int8_t shift = (int8_t)peek(addr + 28, 1);
    delta = shift >= 0 ? delta << shift : delta >> -shift;
    uint64_t mul = peek(addr + 24, 4);
    return (delta >> 32) * mul + ((delta & UINT32_MAX) * mul >> 32) + peek(addr + 16, 8);
}

static void test_clock(void)
{
    static const char *const models[] = { "max", "max,tsc-frequency=2400000000", "max,tsc-frequency=3999999999",
                                          "max,tsc-frequency=10000000", "max,tsc-frequency=18000000000" };
    for (unsigned i = 0; i < G_N_ELEMENTS(models); i++) {
        begin(models[i]);
        t.m->ram->host[0x1000] = 0x33; /* rubbish: an odd version */
        step(123456789);
        set(0x4b564d01, 0x1001);
        g_assert_cmphex(get(0x12), ==, 0x1001);
        g_assert_cmpuint(peek(0x1000, 4), ==, 0x36);
        g_assert_cmpuint(peek(0x1000 + 29, 1), ==, 1); /* stable */
        g_assert_cmpint(ABS((int64_t)(guest_clock(0x1000, get(0x10)) - 123456789)), <=, 200);
        step(INT64_C(3600) * NS_PER_SECOND);
        int64_t error = (int64_t)guest_clock(0x1000, get(0x10)) - clock_now(t.m->clock);
        g_assert_cmpint(ABS(error), <, 2000); /* a part in 10^9 */
        /* The guest sets its TSC back: its clock must not jump. */
        uint64_t before = guest_clock(0x1000, get(0x10));
        set(0x10, 77);
        g_assert_cmpint(ABS((int64_t)(guest_clock(0x1000, get(0x10)) - before)), <, 2000);
        end();
    }
    begin("max");
    step(999);
    set(0x4b564d01, 0x1001);
    g_assert_cmpuint(guest_clock(0x1000, get(0x10)), ==, 999); /* exact at 1 GHz */
    set(0x4b564d01, 0);
    uint64_t version = peek(0x1000, 4);
    set(0x10, 0);
    g_assert_cmpuint(peek(0x1000, 4), ==, version); /* off: not touched */
    /* Wall clock: the time of day at virtual time 0. */
    clock_set_wall_offset(t.m->clock, 1700000000);
    step(5 * NS_PER_SECOND);
    set(0x4b564d00, 0x2000);
    g_assert_cmpuint(peek(0x2000, 4), ==, 2);
    g_assert_cmpuint(peek(0x2004, 4), ==, 1700000000);
    g_assert_cmpuint(peek(0x2008, 4), ==, 0);
    end();
}

/* --- Steal time --------------------------------------------------------------------------------------------------- */

static void test_steal(void)
{
    begin("max");
    g_assert_false(cpu_wrmsr(t.cpu, 0x4b564d03, 0x3003)); /* reserved bits */
    set(0x4b564d03, 0x3001);
    g_assert_cmpuint(peek(0x3000, 8), ==, 0);
    cpu_pv_enter(t.cpu);
    g_usleep(20000); /* wanted to run, did not */
    cpu_pv_leave(t.cpu);
    uint64_t stolen = peek(0x3000, 8);
    g_assert_cmpuint(stolen, >=, 15000000);
    g_assert_cmpuint(stolen, <, 10 * NS_PER_SECOND);
    g_assert_false(peek(0x3008, 4) & 1);
    g_assert_cmpuint(peek(0x3010, 1), ==, 1); /* preempted */
    g_usleep(20000); /* halted: not stolen */
    cpu_pv_enter(t.cpu);
    g_assert_cmpuint(peek(0x3010, 1), ==, 0);
    cpu_pv_account(t.cpu);
    g_assert_cmpuint(peek(0x3000, 8), ==, stolen); /* too early to count */
    g_usleep(12000);
    cpu_pv_account(t.cpu);
    g_assert_cmpuint(peek(0x3000, 8), >, stolen);
    cpu_pv_leave(t.cpu);
    /* Another vCPU asks for a flush instead of sending an IPI. */
    struct tlb *tlb = t.cpu->tlb;
    tlb->e[5].tag_read = 0x5000;
    tlb->used[0] |= 1 << 5;
    t.m->ram->host[0x3010] |= 2;
    cpu_pv_enter(t.cpu);
    g_assert_cmpuint(peek(0x3010, 1), ==, 0);
    g_assert_cmphex(tlb->e[5].tag_read, !=, 0x5000);
    cpu_pv_leave(t.cpu);
    set(0x4b564d03, 0);
    stolen = peek(0x3000, 8);
    t.m->ram->host[0x3010] = 0;
    cpu_pv_enter(t.cpu);
    cpu_pv_leave(t.cpu);
    g_assert_cmpuint(peek(0x3010, 1), ==, 0);
    end();
}

/* --- Hypercalls --------------------------------------------------------------------------------------------------- */

static int64_t call(uint64_t nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    t.cpu->r[R_RAX] = nr;
    t.cpu->r[R_RBX] = a;
    t.cpu->r[R_RCX] = b;
    t.cpu->r[R_RDX] = c;
    t.cpu->r[R_RSI] = d;
    uint64_t r = cpu_hypercall(t.cpu);
    return cpu_in_64(t.cpu) ? (int64_t)r : (int32_t)r;
}

static void test_hypercalls(void)
{
    begin("max");
    for (unsigned size = 2; size <= 3; size++) {
        t.cpu->code_size = (uint8_t)size;
        g_assert_cmpint(call(1, 0, 0, 0, 0), ==, 0);
        g_assert_cmpint(call(2, 0, 0, 0, 0), ==, -1000);
        g_assert_cmpint(call(999, 0, 0, 0, 0), ==, -1000);
        g_assert_cmpint(call(11, 1, 0, 0, 0), ==, 0);
        t.cpu->cpl = 3;
        g_assert_cmpint(call(1, 0, 0, 0, 0), ==, -1);
        t.cpu->cpl = 0;
        /* IPIs to 0 and 2; 3 is there, 4 and beyond are not. */
        g_string_truncate(t.ipis, 0);
        g_assert_cmpint(call(10, 0x5, 0, 0, 0xfb), ==, 2);
        g_assert_cmpstr(t.ipis->str, ==, "40fb 2000040fb ");
        g_assert_cmpint(call(10, 0x3f, 0, 2, 0x400), ==, 2); /* NMIs */
        g_assert_cmpint(call(10, 1, 0, 0, 0xfb | 1 << 18), ==, -22);
        g_assert_cmpint(call(10, 1, 0, 0, 0xfb | 1 << 11), ==, -22);
        unsigned half = size == 3 ? 64 : 32;
        g_assert_cmpint(call(10, 0, 2, (uint64_t)-half, 0xfb), ==, 0);
        /* Time of day and TSC. */
        g_assert_cmpint(call(9, 0x4000, 1, 0, 0), ==, -95);
        g_assert_cmpint(call(9, 0x7fffffff, 0, 0, 0), ==, -14);
        g_assert_cmpint(call(9, 0x4000, 0, 0, 0), ==, 0);
        g_assert_cmpuint(peek(0x4010, 8), ==, get(0x10));
        step(1000);
    }
    end();
    begin("max,kvm=off");
    t.cpu->code_size = 3;
    g_assert_cmpint(call(1, 0, 0, 0, 0), ==, -1000);
    end();
}

static void test_unhalt(void)
{
    begin("max");
    struct cpu *target = t.m->cpus[2];
    t.cpu->code_size = 3;
    target->activity = CPU_HALTED;
    target->rflags = FLAGS_FIXED; /* IF clear: only a kick can help */
    target->events = 0;
    g_assert_false(cpu_has_work(target));
    g_assert_cmpint(call(5, 0, 2, 0, 0), ==, 0);
    g_assert_cmpuint(t.kicks[2], ==, 1);
    g_assert_true(cpu_has_work(target));
    g_assert_true(cpu_handle_events(target));
    g_assert_cmpint(target->activity, ==, CPU_RUNNING);
    g_assert_false(cpu_pv_take_unhalt(target)); /* used up */
    /* A kick before HLT is remembered. */
    call(5, 0, 2, 0, 0);
    cpu_handle_events(target);
    g_assert_true(cpu_pv_take_unhalt(target));
    g_assert_false(cpu_pv_take_unhalt(target));
    g_assert_cmpint(call(5, 0, 77, 0, 0), ==, 0); /* nobody */
    end();
}

/* All of it is in the machine's saved state. */
static void test_saved(void)
{
    GError *err = NULL;
    begin("max");
    step(5000);
    set(0x10, 99);
    set(0x277, 0x0606060606060606);
    set(0x400, UINT64_MAX);
    set(0x4b564d01, 0x1001);
    set(0x4b564d03, 0x3001);
    t.cpu->v[3].u64[3] = 0x1234;
    t.m->cpus[2]->r[R_R9] = 0x5678;
    t.m->cpus[2]->pv_unhalted = true;
    vm_lock();
    g_autoptr(GByteArray) one = machine_save(t.m, &err);
    g_assert_no_error(err);
    for (unsigned i = 0; i < CPUS; i++)
        cpu_reset(t.m->cpus[i], false);
    memset(t.m->ram->host, 0, t.m->ram->size);
    clock_step(t.m->clock, 777);
    g_assert_true(machine_load(t.m, one->data, one->len, &err));
    g_assert_no_error(err);
    g_autoptr(GByteArray) two = machine_save(t.m, &err);
    g_assert_cmpmem(one->data, one->len, two->data, two->len);
    vm_unlock();
    g_assert_cmpuint(get(0x10), ==, 99);
    g_assert_cmphex(get(0x277), ==, 0x0606060606060606);
    g_assert_cmphex(get(0x4b564d03), ==, 0x3001);
    g_assert_cmphex(t.cpu->v[3].u64[3], ==, 0x1234);
    g_assert_cmphex(t.m->cpus[2]->r[R_R9], ==, 0x5678);
    g_assert_true(t.m->cpus[2]->pv_unhalted);
    end();
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/msr/system", test_system);
    g_test_add_func("/msr/speculation", test_speculation);
    g_test_add_func("/msr/missing", test_missing);
    g_test_add_func("/msr/mtrr-mce", test_mtrr_mce);
    g_test_add_func("/msr/tsc", test_tsc);
    g_test_add_func("/pv/clock", test_clock);
    g_test_add_func("/pv/steal", test_steal);
    g_test_add_func("/pv/hypercalls", test_hypercalls);
    g_test_add_func("/pv/unhalt", test_unhalt);
    g_test_add_func("/pv/saved", test_saved);
    return g_test_run();
}
