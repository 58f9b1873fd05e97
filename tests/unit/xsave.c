/*
 * FXSAVE and the XSAVE family: against the host's processor where it has them (x86-64 Linux), and by hand what a
 * program cannot try there: PKRU, XSAVES, alignment, modes.
 */
#include "cpu/xsave.h"

#include "cpu/x87.h"
#include "tests/lib/float80_operands.h"
#include "tests/lib/handler_test.h"

#include <glib.h>

#define AREA 0x20000u
#define AREA_SIZE 2752 /* all of ours, and what follows unchanged */
#define INSN(...) ((const uint8_t[16]){ __VA_ARGS__ })

static const uint8_t xsave64[16] = { 0x48, 0x0f, 0xae, 0x23 }, xrstor64[16] = { 0x48, 0x0f, 0xae, 0x2b };
static const uint8_t xsaveopt64[16] = { 0x48, 0x0f, 0xae, 0x33 }, xsavec64[16] = { 0x48, 0x0f, 0xc7, 0x23 };
static const uint8_t xsaves64[16] = { 0x48, 0x0f, 0xc7, 0x2b }, xrstors64[16] = { 0x48, 0x0f, 0xc7, 0x1b };
static const uint8_t fxsave64[16] = { 0x48, 0x0f, 0xae, 0x03 }, fxrstor64[16] = { 0x48, 0x0f, 0xae, 0x0b };

static struct handler_test *t;

struct area {
    uint8_t b[AREA_SIZE];
} __attribute__((aligned(64)));

static uint64_t get64(const struct area *a, unsigned offset)
{
    uint64_t v;
    memcpy(&v, a->b + offset, 8);
    return GUINT64_FROM_LE(v);
}

static void put64(struct area *a, unsigned offset, uint64_t v)
{
    v = GUINT64_TO_LE(v);
    memcpy(a->b + offset, &v, 8);
}

/* Runs `insn` on the area with these components in EDX:EAX. */
static int run(const uint8_t *insn, struct area *a, uint64_t components)
{
    handler_write(t, AREA, a->b, sizeof a->b);
    t->cpu->r[R_RAX] = (uint32_t)components;
    t->cpu->r[R_RDX] = components >> 32;
    t->cpu->r[R_RBX] = AREA;
    int fault = handler_run(t, insn);
    handler_read(t, AREA, a->b, sizeof a->b);
    return fault;
}

/* A valid image in the standard format of x87, SSE and sometimes AVX. */
static void random_image(struct area *a)
{
    uint64_t components = XCR0_X87 | XCR0_SSE | XCR0_AVX;
    memset(a, 0, sizeof *a);
    uint16_t cw = operand_control(), sw = g_test_rand_int() & (FPU_CC | FPU_TOP_MASK | FPU_SF | (FPU_EXCEPTIONS & cw));
    memcpy(a->b, &cw, 2);
    memcpy(a->b + 2, &sw, 2);
    a->b[4] = g_test_rand_int();
    a->b[6] = g_test_rand_int();
    a->b[7] = g_test_rand_int() & 7;
    put64(a, 8, operand_random64() & 0x7fffffffffff);
    put64(a, 16, operand_random64() & 0x7fffffffffff);
    put64(a, 24, 0x1f80 | (g_test_rand_int() & 0xe07f));
    for (unsigned n = 0; n < 8; n++)
        x87_pack(a->b + 32 + 16 * n, operand_random());
    for (unsigned n = 160; n < 416; n += 8)
        put64(a, n, operand_random64());
    /* Zeros that are loaded may count as in use: rather say that there are none. */
    if (g_test_rand_bit())
        components &= ~(uint64_t)XCR0_AVX;
    for (unsigned n = 0; n < XSAVE_AVX_SIZE && components & XCR0_AVX; n += 8)
        put64(a, XSAVE_AVX_OFFSET + n, operand_random64());
    put64(a, XSAVE_LEGACY_SIZE, components);
}

static void reset(void)
{
    handler_set_mode(t, HANDLER_LONG);
    t->cpu->cr4 |= CR4_OSXSAVE | CR4_PKE;
    t->cpu->xcr0 = XCR0_X87 | XCR0_SSE | XCR0_AVX;
    t->cpu->xss = 0;
    t->cpu->pkru = 0;
    cpu_update_mode(t->cpu);
}

/* --- Against the host --------------------------------------------------------------------------------------------- */

#if defined(__x86_64__) && defined(__linux__)

#include <cpuid.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>

static uint8_t *code;
static sigjmp_buf escape;

static void on_signal(int sig)
{
    siglongjmp(escape, 1);
}

/* Loads `state`, runs the instruction on `a`, stores the state again. -1, or EXC_GP for any fault. */
static int run_native(const uint8_t *insn, struct area *state, struct area *a, uint64_t components)
{
    static uint8_t host[16384] __attribute__((aligned(64)));
    memcpy(code, insn, 4);
    code[4] = 0xc3;
    if (sigsetjmp(escape, 1))
        return EXC_GP;
    __asm__ volatile("mov $7, %%eax\n\txor %%edx, %%edx\n\txsave64 %[host]\n\txrstor64 %[state]\n\t"
                     "sub $256, %%rsp\n\tmov %[lo], %%eax\n\tmov %[hi], %%edx\n\tcall *%[code]\n\tadd $256, %%rsp\n\t"
                     "mov $7, %%eax\n\txor %%edx, %%edx\n\txsave64 %[state]\n\txrstor64 %[host]"
                     : [state] "+m"(*state), [host] "+m"(host), "+m"(*a)
                     : [code] "r"(code),
                       "b"(a->b), [lo] "r"((uint32_t)components), [hi] "r"((uint32_t)(components >> 32))
                     : "rax", "rdx", "memory", "cc");
    return -1;
}

static int run_ours(const uint8_t *insn, struct area *state, struct area *a, uint64_t components)
{
    reset();
    g_assert_cmpint(run(xrstor64, state, 7), ==, -1);
    int fault = run(insn, a, components);
    g_assert_cmpint(run(xsave64, state, 7), ==, -1);
    return fault;
}

/* What a header may hold: mostly right for the instruction, sometimes a mistake. */
static void random_header(struct area *a)
{
    static const uint64_t compacted = UINT64_C(1) << 63;
    uint32_t pick = g_test_rand_int();
    uint64_t state = pick & 7;
    if ((pick >> 3 & 3) == 0) {
        put64(a, 520, compacted | state | (pick >> 5 & 7));
        memmove(a->b + XSAVE_EXTENDED, a->b + XSAVE_AVX_OFFSET, XSAVE_AVX_SIZE);
    }
    if ((pick >> 8 & 31) == 0)
        state |= 8; /* a component that is not enabled */
    put64(a, 512, state);
    if ((pick >> 13 & 31) == 0)
        a->b[512 + 16 + (pick >> 18) % 48] |= 1u << (pick >> 24 & 7);
    if ((pick >> 16 & 31) == 1)
        a->b[520] ^= 8;
    if ((pick >> 26 & 31) == 0)
        a->b[26] |= 1; /* a reserved bit of MXCSR */
}

static void compare(const char *name, const uint8_t *insn, unsigned n)
{
    struct area state, host_area, host_state, our_area, our_state;
    uint64_t components = g_test_rand_int() & 7;
    random_image(&state);
    random_image(&host_area);
    random_header(&host_area);
    our_area = host_area;
    host_state = our_state = state;
    int host_fault = run_native(insn, &host_state, &host_area, components);
    int our_fault = run_ours(insn, &our_state, &our_area, components);
    if (host_fault >= 0 && our_fault >= 0)
        return;
    for (unsigned k = 0; k < sizeof state.b; k++) {
        bool area = our_area.b[k] != host_area.b[k];
        if (!area && k >= XSAVE_LEGACY_SIZE && k < XSAVE_EXTENDED)
            continue; /* the state's header is of no interest */
        if (host_fault != our_fault || area || our_state.b[k] != host_state.b[k]) {
            g_test_message("%s components %x, header %" G_GINT64_MODIFIER "x %" G_GINT64_MODIFIER
                           "x: fault %d host %d; %s byte %u"
                           " is %02x, host %02x",
                           name, (unsigned)components, get64(&host_area, 512), get64(&host_area, 520), our_fault,
                           host_fault, area ? "area" : "state", k, area ? our_area.b[k] : our_state.b[k],
                           area ? host_area.b[k] : host_state.b[k]);
            g_test_fail();
            return;
        }
    }
}

static void test_host(void)
{
    static const struct {
        const char *name;
        const uint8_t *insn;
        unsigned leaf1; /* bit of CPUID (0DH, 1).EAX that it needs, or 31 */
    } insns[] = {
        { "xsave", xsave64, 31 },  { "xrstor", xrstor64, 31 }, { "xsaveopt", xsaveopt64, 0 },
        { "xsavec", xsavec64, 1 }, { "fxsave", fxsave64, 31 }, { "fxrstor", fxrstor64, 31 },
    };
    unsigned a, b, c, d;
    if (!__builtin_cpu_supports("avx")) {
        g_test_skip("the host has no AVX");
        return;
    }
    __cpuid_count(0xd, 1, a, b, c, d);
    struct sigaction act = { .sa_handler = on_signal, .sa_flags = SA_NODEFER };
    sigaction(SIGSEGV, &act, NULL);
    sigaction(SIGFPE, &act, NULL);
    code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    g_assert_true(code != MAP_FAILED);
    for (unsigned k = 0; k < G_N_ELEMENTS(insns); k++)
        for (unsigned n = 0; n < 3000 && ((a | 1u << 31) >> insns[k].leaf1 & 1) && !g_test_failed(); n++)
            compare(insns[k].name, insns[k].insn, n);
    munmap(code, 4096);
}

#else

static void test_host(void)
{
    g_test_skip("the host is not an x86-64 Linux");
}

#endif

/* --- By hand ------------------------------------------------------------------------------------------------------ */

static void test_checks(void)
{
    struct area a;
    reset();
    random_image(&a);
    t->cpu->r[R_RBX] = AREA + 32;
    g_assert_cmpint(handler_run(t, xsave64), ==, EXC_GP); /* 64-byte alignment */
    t->cpu->r[R_RBX] = AREA + 8;
    g_assert_cmpint(handler_run(t, fxsave64), ==, EXC_GP);
    t->cpu->cr4 &= ~CR4_OSXSAVE;
    g_assert_cmpint(run(xsave64, &a, 7), ==, EXC_UD);
    g_assert_cmpint(run(INSN(0x0f, 0x01, 0xd0), &a, 7), ==, EXC_UD);
    t->cpu->cr4 |= CR4_OSXSAVE;
    t->cpu->cr0 |= CR0_TS;
    g_assert_cmpint(run(xsave64, &a, 7), ==, EXC_NM);
    t->cpu->cr0 &= ~CR0_TS;
    /* XRSTORS takes the compacted format only. */
    g_assert_cmpint(run(xrstors64, &a, 7), ==, EXC_GP);
    g_assert_cmpint(run(xsaves64, &a, 7), ==, -1);
    g_assert_cmpint(run(xrstors64, &a, 7), ==, -1);
    /* A restore that faults changes nothing. */
    random_image(&a);
    a.b[26] = 1;
    struct fpu before = t->cpu->fpu;
    g_assert_cmpint(run(xrstor64, &a, 7), ==, EXC_GP);
    g_assert_cmpmem(&before, sizeof before, &t->cpu->fpu, sizeof before);
}

static void test_pkru(void)
{
    struct area a, b;
    reset();
    t->cpu->xcr0 |= XCR0_PKRU;
    t->cpu->pkru = 0x55555554;
    memset(&a, 0xee, sizeof a);
    memset(a.b + 512, 0, 64);
    g_assert_cmpint(run(xsave64, &a, 0x207), ==, -1);
    g_assert_cmphex(get64(&a, 512) & 0x200, ==, 0x200);
    g_assert_cmphex(get64(&a, XSAVE_PKRU_OFFSET), ==, 0x55555554);
    /* Compacted: behind AVX if that is in the format, else right behind the header. */
    memset(&b, 0xee, sizeof b);
    g_assert_cmpint(run(xsavec64, &b, 0x204), ==, -1);
    g_assert_cmphex(get64(&b, 520), ==, UINT64_C(1) << 63 | 0x204);
    g_assert_cmphex(get64(&b, XSAVE_EXTENDED + XSAVE_AVX_SIZE), ==, 0x55555554);
    memset(&b, 0xee, sizeof b);
    g_assert_cmpint(run(xsaves64, &b, 0x201), ==, -1);
    g_assert_cmphex(get64(&b, XSAVE_EXTENDED), ==, 0x55555554);
    memset(b.b + 528, 0, 48);
    t->cpu->pkru = 1;
    g_assert_cmpint(run(xrstors64, &b, 0x200), ==, -1);
    g_assert_cmphex(t->cpu->pkru, ==, 0x55555554);
    /* Absent in the image: its initial value. */
    put64(&a, 512, 1);
    g_assert_cmpint(run(xrstor64, &a, 0x200), ==, -1);
    g_assert_cmphex(t->cpu->pkru, ==, 0);
    /* Not in use: XSAVEC leaves it out. */
    memset(&b, 0xee, sizeof b);
    g_assert_cmpint(run(xsavec64, &b, 0x200), ==, -1);
    g_assert_cmphex(get64(&b, 512), ==, 0);
    g_assert_cmphex(get64(&b, XSAVE_EXTENDED), ==, UINT64_C(0xeeeeeeeeeeeeeeee));
}

static void test_xgetbv(void)
{
    struct area a = { { 0 } };
    reset();
    memset(t->cpu->v, 0, sizeof t->cpu->v);
    t->cpu->r[R_RCX] = 0;
    g_assert_cmpint(run(INSN(0x0f, 0x01, 0xd0), &a, UINT64_MAX), ==, -1);
    g_assert_cmphex(t->cpu->r[R_RAX], ==, 7);
    g_assert_cmphex(t->cpu->r[R_RDX], ==, 0);
    t->cpu->r[R_RCX] = 1;
    g_assert_cmpint(run(INSN(0x0f, 0x01, 0xd0), &a, UINT64_MAX), ==, -1);
    g_assert_cmphex(t->cpu->r[R_RAX], ==, 3);
    t->cpu->v[5].u8[31] = 1;
    g_assert_cmpint(run(INSN(0x0f, 0x01, 0xd0), &a, UINT64_MAX), ==, -1);
    g_assert_cmphex(t->cpu->r[R_RAX], ==, 7);
    t->cpu->r[R_RCX] = 2;
    g_assert_cmpint(run(INSN(0x0f, 0x01, 0xd0), &a, UINT64_MAX), ==, EXC_GP);
    /* XSETBV: AVX needs SSE, x87 is always there. */
    t->cpu->r[R_RCX] = 0;
    g_assert_cmpint(run(INSN(0x0f, 0x01, 0xd1), &a, 5), ==, EXC_GP);
    g_assert_cmpint(run(INSN(0x0f, 0x01, 0xd1), &a, 2), ==, EXC_GP);
    g_assert_cmpint(run(INSN(0x0f, 0x01, 0xd1), &a, 3), ==, -1);
    g_assert_cmphex(t->cpu->xcr0, ==, 3);
    /* What is not enabled is not saved. */
    memset(&a, 0, sizeof a);
    g_assert_cmpint(run(xsave64, &a, 7), ==, -1);
    g_assert_cmphex(get64(&a, 512), ==, 3);
    g_assert_cmphex(get64(&a, XSAVE_AVX_OFFSET + 88), ==, 0);
}

/* Outside 64-bit mode: eight registers, pointers of 32 bits with selectors. */
static void test_legacy_mode(void)
{
    struct area a;
    reset();
    for (unsigned n = 0; n < 16; n++)
        t->cpu->v[n].u64[0] = n + 1;
    handler_set_mode(t, HANDLER_PROT32);
    t->cpu->fpu.ip = UINT64_C(0x1234567890);
    t->cpu->fpu.cs = 0x10;
    memset(&a, 0xee, sizeof a);
    g_assert_cmpint(run(fxsave64 + 1, &a, 0), ==, -1);
    g_assert_cmphex(get64(&a, 160 + 7 * 16), ==, 8);
    g_assert_cmphex(get64(&a, 160 + 8 * 16), ==, UINT64_C(0xeeeeeeeeeeeeeeee));
    g_assert_cmphex(get64(&a, 8) & 0xffffffff, ==, 0x34567890);
    g_assert_cmphex(get64(&a, 8) >> 32, ==, cpu_has(t->cpu, FEAT_ZERO_FCS_FDS) ? 0 : 0x10);
    memset(a.b + 160, 0, 256);
    g_assert_cmpint(run(fxrstor64 + 1, &a, 0), ==, -1);
    g_assert_cmphex(t->cpu->v[7].u64[0], ==, 0);
    g_assert_cmphex(t->cpu->v[8].u64[0], ==, 9);
}

/* EFER.FFXSR: the kernel's FXSAVE in 64-bit mode leaves the vectors out; MXCSR stays. */
static void test_fast(void)
{
    struct area a;
    reset();
    t->cpu->efer |= EFER_FFXSR;
    t->cpu->v[0].u64[0] = 5;
    memset(&a, 0xee, sizeof a);
    g_assert_cmpint(run(fxsave64, &a, 0), ==, -1);
    g_assert_cmphex(get64(&a, 24) & 0xffffffff, ==, t->cpu->mxcsr);
    g_assert_cmphex(get64(&a, 160), ==, UINT64_C(0xeeeeeeeeeeeeeeee));
    g_assert_cmpint(run(fxrstor64, &a, 0), ==, -1);
    g_assert_cmphex(t->cpu->v[0].u64[0], ==, 5);
    t->cpu->cpl = 3;
    g_assert_cmpint(run(fxsave64, &a, 0), ==, -1);
    g_assert_cmphex(get64(&a, 160), ==, 5);
    t->cpu->cpl = 0;
    t->cpu->efer &= ~(uint64_t)EFER_FFXSR;
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    t = handler_test_new();
    g_test_add_func("/xsave/host", test_host);
    g_test_add_func("/xsave/checks", test_checks);
    g_test_add_func("/xsave/pkru", test_pkru);
    g_test_add_func("/xsave/xgetbv", test_xgetbv);
    g_test_add_func("/xsave/legacy-mode", test_legacy_mode);
    g_test_add_func("/xsave/fast", test_fast);
    int status = g_test_run();
    handler_test_free(t);
    return status;
}
