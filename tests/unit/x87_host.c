/*
 * Every x87 encoding against the host's processor (x86-64 hosts): random registers, tags, TOP, control and status words
 * and memory operands go in; registers, tags, status, pointers, memory, RAX, RFLAGS and faults must come out the same.
 * Transcendental results of the portable arithmetic may differ by one unit in the last place.
 */
#include <glib.h>

#if defined(__x86_64__) && defined(__linux__)

#include "cpu/cpu.h"
#include "cpu/float80.h"
#include "cpu/x87.h"
#include "tests/lib/float80_operands.h"
#include "tests/lib/handler_test.h"

#include <cpuid.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

/* FXSAVE's image of the x87 part. */
struct fx {
    uint16_t cw, sw;
    uint8_t tags, zero;
    uint16_t opcode;
    uint64_t ip, dp;
    uint32_t mxcsr, mxcsr_mask;
    struct {
        struct float80 v;
    } st[8];
    uint8_t rest[512 - 160];
} __attribute__((aligned(16)));
G_STATIC_ASSERT(sizeof(struct fx) == 512);

#define OPERAND_SIZE 512

struct run {
    struct fx fx;
    uint64_t rax, rflags;
    uint8_t mem[OPERAND_SIZE] __attribute__((aligned(16)));
    int fault; /* -1: none */
};

/* --- On the host -------------------------------------------------------------------------------------------------- */

static uint8_t *code; /* page that can be run */
static sigjmp_buf escape;
static volatile int caught;

static void on_signal(int sig)
{
    caught = sig;
    siglongjmp(escape, 1);
}

static void catch_signals(void)
{
    struct sigaction a = { .sa_handler = on_signal, .sa_flags = SA_NODEFER };
    sigaction(SIGFPE, &a, NULL);
    sigaction(SIGILL, &a, NULL);
    sigaction(SIGSEGV, &a, NULL);
}

static void run_native(const uint8_t *insn, unsigned len, struct run *r)
{
    static struct fx host;
    memcpy(code, insn, len);
    code[len] = 0xc3;
    caught = 0;
    r->fault = -1;
    if (sigsetjmp(escape, 1)) {
        r->fault = caught == SIGFPE ? EXC_MF : caught == SIGILL ? EXC_UD : EXC_GP;
        return;
    }
    __asm__ volatile(
        "fxsave64 %[host]\n\tfxrstor64 %[fx]\n\tsub $256, %%rsp\n\tpush %[flags]\n\tpopfq\n\tcall *%[code]\n\t"
        "pushfq\n\tpop %[flags]\n\tadd $256, %%rsp\n\tfxsave64 %[fx]\n\tfxrstor64 %[host]"
        : [fx] "+m"(r->fx), [host] "+m"(host), "+a"(r->rax), [flags] "+r"(r->rflags), "+m"(r->mem)
        : [code] "r"(code), "b"(r->mem)
        : "memory", "cc");
}

/* --- In the processor --------------------------------------------------------------------------------------------- */

#define CODE HANDLER_CODE
#define OPERAND 0x20000

static struct handler_test *t;

static void put_state(const struct run *r)
{
    struct cpu *cpu = t->cpu;
    struct fpu *fpu = &cpu->fpu;
    x87_set_control(fpu, r->fx.cw);
    x87_set_status(fpu, r->fx.sw);
    fpu->tag_valid = r->fx.tags;
    fpu->opcode = r->fx.opcode;
    fpu->ip = r->fx.ip;
    fpu->dp = r->fx.dp;
    for (unsigned n = 0; n < 8; n++)
        *x87_st(cpu, n) = r->fx.st[n].v;
    cpu->r[R_RAX] = r->rax;
    cpu->r[R_RBX] = OPERAND;
    cpu->rflags = r->rflags;
    handler_write(t, OPERAND, r->mem, sizeof r->mem);
}

static void get_state(struct run *r)
{
    struct cpu *cpu = t->cpu;
    const struct fpu *fpu = &cpu->fpu;
    r->fx.cw = fpu->cw;
    r->fx.sw = x87_status(fpu);
    r->fx.tags = fpu->tag_valid;
    r->fx.opcode = fpu->opcode;
    r->fx.ip = fpu->ip;
    r->fx.dp = fpu->dp;
    for (unsigned n = 0; n < 8; n++)
        r->fx.st[n].v = *x87_st(cpu, n);
    r->rax = cpu->r[R_RAX];
    r->rflags = cpu->rflags;
    handler_read(t, OPERAND, r->mem, sizeof r->mem);
}

static void run_cpu(const uint8_t *bytes, struct run *r)
{
    put_state(r);
    r->fault = handler_run(t, bytes);
    get_state(r);
}

/* --- Random states ------------------------------------------------------------------------------------------------ */

/* A memory operand of every kind. */
static void random_memory(uint8_t *mem, const struct run *r)
{
    uint32_t pick = g_test_rand_int();
    for (unsigned n = 0; n < OPERAND_SIZE; n += 8) {
        uint64_t v = operand_random64();
        memcpy(mem + n, &v, 8);
    }
    struct float80 f = operand_random();
    uint64_t v = operand_random64();
    switch (pick & 7) {
    case 0: /* all of an environment or state image is random, but mostly harmless exceptions */
    case 1: {
        uint16_t cw = operand_control(), sw = v & ~(FPU_EXCEPTIONS & ~cw);
        memcpy(mem, &cw, 2);
        memcpy(mem + (pick >> 8 & 1 ? 2 : 4), &sw, 2);
        break;
    }
    case 2: x87_pack(mem, f); break;
    case 3: /* float near a special */
        v = v & ~UINT64_C(0x7f8000007f800000) & -(uint64_t)(pick >> 8 & 1);
        v |= pick >> 9 & 1 ? UINT64_C(0x7f8000007f800000) : 0;
        v |= pick >> 10 & 1 ? UINT64_C(0x0020000000200000) : 0;
        memcpy(mem, &v, 8);
        break;
    case 4: /* double near a special */
        v = v & ~UINT64_C(0x7ff0000000000000) & -(uint64_t)(pick >> 8 & 1);
        v |= pick >> 9 & 1 ? UINT64_C(0x7ff0000000000000) : 0;
        memcpy(mem, &v, 8);
        break;
    case 5: /* small integer */
        v = (uint64_t)((int64_t)v >> (pick >> 8 & 63));
        memcpy(mem, &v, 8);
        break;
    case 6: /* decimal */
        for (unsigned n = 0; n < 9; n++)
            mem[n] = mem[n] % 10 | mem[n] / 16 % 10 << 4;
        break;
    default: /* the same number as a register */ x87_pack(mem, r->fx.st[0].v); break;
    }
}

static void random_run(struct run *r)
{
    uint32_t pick = g_test_rand_int();
    memset(r, 0, sizeof *r);
    r->fx.cw = operand_control();
    r->fx.sw = g_test_rand_int() & (FPU_CC | FPU_TOP_MASK | FPU_SF | FPU_EXCEPTIONS);
    if (pick & 15) /* mostly nothing pending */
        r->fx.sw &= ~(FPU_EXCEPTIONS & ~r->fx.cw);
    r->fx.tags = pick >> 4 & 1 ? 0xff : g_test_rand_int();
    if ((pick >> 5 & 3) == 0)
        r->fx.tags &= ~(1u << (((r->fx.sw >> FPU_TOP_SHIFT) - 1) & 7)); /* room for a push */
    r->fx.opcode = g_test_rand_int() & 0x7ff;
    r->fx.ip = 0x1234567890;
    r->fx.dp = 0x2345678901;
    r->fx.mxcsr = 0x1f80;
    for (unsigned n = 0; n < 8; n++)
        r->fx.st[n].v = operand_near(r->fx.st[n ? n - 1 : 0].v);
    r->rax = operand_random64();
    r->rflags = FLAGS_FIXED | FLAG_IF | (g_test_rand_int() & FLAGS_ARITH);
    random_memory(r->mem, r);
}

/* --- Comparing ---------------------------------------------------------------------------------------------------- */

static bool pointers_alike; /* the host treats the last-instruction pointers as our model does */

static bool is_transcendental(const uint8_t *insn)
{
    static const uint8_t modrm[] = { 0xf0, 0xf1, 0xf2, 0xf3, 0xf9, 0xfb, 0xfe, 0xff };
    return insn[0] == 0xd9 && memchr(modrm, insn[1], sizeof modrm);
}

static const char *difference(const struct run *a, const struct run *b, bool ulp)
{
    uint16_t sw = a->fx.sw ^ b->fx.sw;
    if (a->fault != b->fault)
        return "fault";
    if (a->fault >= 0)
        return NULL;
    if (sw & (ulp ? ~FPU_C1 : 0xffff))
        return "status";
    if (a->fx.cw != b->fx.cw)
        return "control";
    if (a->fx.tags != b->fx.tags)
        return "tags";
    for (unsigned n = 0; n < 8; n++)
        if (!operand_alike(a->fx.st[n].v, b->fx.st[n].v, ulp))
            return "register";
    if (a->rax != b->rax || (a->rflags ^ b->rflags) & FLAGS_ARITH)
        return "RAX or RFLAGS";
    if (memcmp(a->mem, b->mem, sizeof a->mem))
        return "memory";
    if (pointers_alike && (a->fx.opcode != b->fx.opcode || a->fx.ip != b->fx.ip || a->fx.dp != b->fx.dp))
        return "pointers";
    return NULL;
}

static void print_run(const char *who, const struct run *r)
{
    GString *s = g_string_new(NULL);
    g_string_printf(s, "%-6s cw %04x sw %04x tags %02x fop %03x fip %lx fdp %lx rax %lx flags %lx fault %d", who,
                    r->fx.cw, r->fx.sw, r->fx.tags, r->fx.opcode, r->fx.ip, r->fx.dp, r->rax, r->rflags & FLAGS_ARITH,
                    r->fault);
    for (unsigned n = 0; n < 8; n++)
        g_string_append_printf(s, " %04x:%016lx", r->fx.st[n].v.sexp, r->fx.st[n].v.mant);
    g_string_append(s, " mem");
    for (unsigned n = 0; n < 32; n++)
        g_string_append_printf(s, " %02x", r->mem[n]);
    g_test_message("%s", s->str);
    g_string_free(s, TRUE);
}

/* One instruction of `len` bytes from one random state. */
static bool compare(const uint8_t *insn, unsigned len)
{
    struct run in, host, guest;
    uint8_t bytes[16] = { 0 };
    memcpy(bytes, insn, len);
    random_run(&in);
    host = guest = in;
    run_native(bytes, len, &host);
    run_cpu(bytes, &guest);
    /* Addresses as the guest's. */
    if (host.fx.ip == (uintptr_t)code)
        host.fx.ip = CODE;
    if (host.fx.dp == (uintptr_t)host.mem)
        host.fx.dp = OPERAND;
    for (unsigned n = 0; n < 8; n++) /* padding */
        memset((uint8_t *)&host.fx.st[n] + 10, 0, 6);
    unsigned prefixes = len - 2;
    const char *what = difference(&host, &guest, !float80_exact_math && is_transcendental(bytes + prefixes));
    if (!what)
        return true;
    g_test_message("%02x %02x %02x (%u bytes): %s differs", bytes[0], bytes[1], bytes[2], len, what);
    print_run("in", &in);
    print_run("host", &host);
    print_run("guest", &guest);
    return false;
}

/* --- Tests -------------------------------------------------------------------------------------------------------- */

static unsigned rounds = 400;

static void test_opcode(gconstpointer data)
{
    uint8_t opcode = GPOINTER_TO_UINT(data);
    for (unsigned modrm = 0; modrm < 256; modrm++) {
        if (modrm < 0xc0 && (modrm & 0xc7) != 3)
            continue; /* one memory form of each: (%rbx) */
        uint8_t insn[] = { opcode, modrm };
        for (unsigned n = 0; n < rounds * (modrm < 0xc0 ? 4 : 1); n++)
            if (!compare(insn, sizeof insn)) {
                g_test_fail();
                break;
            }
    }
}

/* The images in their 16-bit formats, and with REX.W. */
static void test_images(void)
{
    static const uint8_t prefixes[] = { 0x66, 0x48 };
    static const uint8_t forms[][2] = { { 0xd9, 0x23 }, { 0xd9, 0x33 }, { 0xdd, 0x23 }, { 0xdd, 0x33 } };
    for (unsigned p = 0; p < sizeof prefixes; p++)
        for (unsigned f = 0; f < G_N_ELEMENTS(forms); f++)
            for (unsigned n = 0; n < rounds * 4; n++) {
                uint8_t insn[] = { prefixes[p], forms[f][0], forms[f][1] };
                if (!compare(insn, sizeof insn)) {
                    g_test_fail();
                    break;
                }
            }
}

static void test_others(void)
{
    static const uint8_t insns[][3] = {
        { 0x9b, 0x90, 0x90 }, /* FWAIT */
        { 0x0f, 0x77, 0x90 }, /* EMMS */
        { 0x0f, 0xae, 0x03 }, /* FXSAVE (%rbx) */
        { 0x0f, 0xae, 0x0b }, /* FXRSTOR (%rbx) */
    };
    for (unsigned k = 0; k < G_N_ELEMENTS(insns); k++)
        for (unsigned n = 0; n < rounds * 4; n++)
            if (!compare(insns[k], sizeof insns[k])) {
                g_test_fail();
                break;
            }
}

int main(int argc, char **argv)
{
    unsigned a, b, c, d;
    g_test_init(&argc, &argv, NULL);
    t = handler_test_new();
    __cpuid_count(7, 0, a, b, c, d);
    pointers_alike = b >> 6 & 1 && b >> 13 & 1;
    code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    g_assert_true(code != MAP_FAILED);
    catch_signals();
    for (unsigned opcode = 0xd8; opcode <= 0xdf; opcode++) {
        g_autofree char *name = g_strdup_printf("/x87/host/%02x", opcode);
        g_test_add_data_func(name, GUINT_TO_POINTER(opcode), test_opcode);
    }
    g_test_add_func("/x87/host/images", test_images);
    g_test_add_func("/x87/host/others", test_others);
    int status = g_test_run();
    munmap(code, 4096);
    handler_test_free(t);
    return status;
}

#else

static void test_skipped(void)
{
    g_test_skip("the host is not an x86-64 Linux");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/x87/host", test_skipped);
    return g_test_run();
}

#endif
