/*
 * Runs one instruction on the host's processor, for Linux on x86-64.
 *
 * The way in and the way out are both a signal: an INT3 of ours is answered by a signal handler that puts the test's
 * state into the signal frame (general registers, flags, and the XSAVE area with x87, SSE and AVX), so that sigreturn
 * loads it and goes to the code page. There the instruction is followed by INT3 (or runs with RFLAGS.TF if it may
 * jump), so another signal, or the instruction's own fault, brings the resulting state. 32-bit code runs in the
 * 32-bit code segment that Linux gives to every process. The general idea needs no privileges; the exact vector,
 * error code and CR2 are in the frame.
 */
#if defined(__x86_64__) && defined(__linux__)

#include "tests/lib/oracle.h"

#include <asm/ldt.h>
#include <cpuid.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define XSTATE_BV 512
#define XSTATE_YMMH 576
#define FRAME_BYTES (XSTATE_YMMH + 256)
#define USER_CS32 0x23
#define USER_DS 0x2b

/* FXSAVE, 64-bit format */
struct fxsave {
    uint16_t cw, sw;
    uint8_t tag, reserved;
    uint16_t op;
    uint64_t ip, dp;
    uint32_t mxcsr, mxcsr_mask;
    struct {
        uint64_t mant;
        uint16_t sexp, pad[3];
    } st[8];
    uint64_t xmm[16][2];
};

/* Signal handlers have no argument of ours. */
static struct {
    const struct oracle_case *c;
    struct oracle_outcome *out;
    bool inside;
    greg_t gregs[NGREG];
    uint8_t frame[FRAME_BYTES];
    uint8_t *code;
    uint32_t mxcsr_mask;
} native;

static void regs_to_frame(const struct oracle_regs *in, ucontext_t *uc)
{
    static const uint8_t order[16] = { REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                       REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15 };
    uint8_t *area = (uint8_t *)uc->uc_mcontext.fpregs;
    struct fxsave *fx = (struct fxsave *)area;
    uint64_t bv;

    for (unsigned n = 0; n < 16; n++)
        uc->uc_mcontext.gregs[order[n]] = (greg_t)in->r[n];
    uc->uc_mcontext.gregs[REG_RIP] = (greg_t)in->rip;
    uc->uc_mcontext.gregs[REG_EFL] = (greg_t)in->rflags;
    fx->cw = in->fcw;
    fx->sw = in->fsw;
    fx->tag = in->ftag;
    fx->op = in->fop;
    fx->ip = in->fip;
    fx->dp = in->fdp;
    fx->mxcsr = in->mxcsr & native.mxcsr_mask;
    for (unsigned n = 0; n < 8; n++) {
        fx->st[n].mant = in->st[n].mant;
        fx->st[n].sexp = in->st[n].sexp;
    }
    for (unsigned n = 0; n < 16; n++) {
        memcpy(fx->xmm[n], in->v[n].u64, 16);
        memcpy(area + XSTATE_YMMH + 16 * n, in->v[n].u64 + 2, 16);
    }
    memcpy(&bv, area + XSTATE_BV, sizeof bv);
    bv |= 7;
    memcpy(area + XSTATE_BV, &bv, sizeof bv);
}

static void frame_to_regs(const ucontext_t *uc, struct oracle_regs *out)
{
    static const uint8_t order[16] = { REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                       REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15 };
    const uint8_t *area = (const uint8_t *)uc->uc_mcontext.fpregs;
    const struct fxsave *fx = (const struct fxsave *)area;
    uint64_t bv;

    memcpy(&bv, area + XSTATE_BV, sizeof bv);
    for (unsigned n = 0; n < 16; n++)
        out->r[n] = (uint64_t)uc->uc_mcontext.gregs[order[n]];
    out->rip = (uint64_t)uc->uc_mcontext.gregs[REG_RIP];
    out->rflags = (uint64_t)uc->uc_mcontext.gregs[REG_EFL];
    out->mxcsr = fx->mxcsr;
    if (!(bv & 1)) { /* in its initial state */
        out->fcw = 0x37f;
        out->fsw = out->fop = out->ftag = 0;
        out->fip = out->fdp = 0;
        memset(out->st, 0, sizeof out->st);
    } else {
        out->fcw = fx->cw;
        out->fsw = fx->sw;
        out->ftag = fx->tag;
        out->fop = fx->op;
        out->fip = fx->ip;
        out->fdp = fx->dp;
        for (unsigned n = 0; n < 8; n++) {
            out->st[n].mant = fx->st[n].mant;
            out->st[n].sexp = fx->st[n].sexp;
        }
    }
    memset(out->v, 0, sizeof out->v);
    for (unsigned n = 0; n < 16; n++) {
        if (bv & 2)
            memcpy(out->v[n].u64, fx->xmm[n], 16);
        if (bv & 4)
            memcpy(out->v[n].u64 + 2, area + XSTATE_YMMH + 16 * n, 16);
    }
}

/* CS is in the low 16 bits of a field, SS in the high ones. DS, ES and GS are not in the frame. */
static void set_segments(ucontext_t *uc, uint64_t cs, uint64_t ss)
{
    greg_t *field = &uc->uc_mcontext.gregs[REG_CSGSFS];
    *field = (greg_t)(((uint64_t)*field & UINT64_C(0x0000ffffffff0000)) | cs | ss << 48);
}

static void enter_test(ucontext_t *uc)
{
    memcpy(native.gregs, uc->uc_mcontext.gregs, sizeof native.gregs);
    memcpy(native.frame, uc->uc_mcontext.fpregs, sizeof native.frame);
    regs_to_frame(&native.c->in, uc);
    if (native.c->step)
        uc->uc_mcontext.gregs[REG_EFL] |= FLAG_TF;
    if (native.c->mode == ORACLE_32)
        set_segments(uc, USER_CS32, USER_DS);
    else if (oracle_segmented(native.c->mode))
        set_segments(uc, oracle_segment(native.c->mode, native.c->stack16, SEG_CS)->selector,
                     oracle_segment(native.c->mode, native.c->stack16, SEG_SS)->selector);
    native.inside = true;
}

static void leave_test(ucontext_t *uc)
{
    struct oracle_outcome *out = native.out;
    const struct oracle_case *c = native.c;
    unsigned vector = (unsigned)uc->uc_mcontext.gregs[REG_TRAPNO];

    frame_to_regs(uc, &out->regs);
    out->regs.rflags &= ~(uint64_t)(FLAG_TF | FLAG_RF);
    out->who = "host";
    out->way = ORACLE_BY_INTERPRETER;
    out->stale = 0;
    out->vector = (int)vector;
    out->error = (uint32_t)uc->uc_mcontext.gregs[REG_ERR];
    out->address = (uint64_t)uc->uc_mcontext.gregs[REG_CR2];
    if (c->step && vector == EXC_DB) {
        out->vector = -1;
    } else if (!c->step && vector == EXC_BP) {
        out->vector = -1;
        out->regs.rip--;
    }
    memcpy(uc->uc_mcontext.gregs, native.gregs, sizeof native.gregs);
    memcpy(uc->uc_mcontext.fpregs, native.frame, sizeof native.frame);
    native.inside = false;
}

static void on_signal(int number, siginfo_t *info, void *context)
{
    /* AC, DF, NT and ID are the test's until here; sigreturn does not load the last two */
    __asm__ volatile("pushfq; andq $~0x244400, (%%rsp); popfq" ::: "cc", "memory");
    if (native.inside)
        leave_test(context);
    else if (native.c)
        enter_test(context);
    else
        signal(number, SIG_DFL); /* a defect of the test program itself: die of it */
}

static bool map_pages(GString *why)
{
    int fd = memfd_create("oracle-code", 0);
    void *data = mmap((void *)(uintptr_t)ORACLE_DATA, ORACLE_DATA_BYTES, PROT_NONE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

    if (data != (void *)(uintptr_t)ORACLE_DATA || fd < 0 || ftruncate(fd, ORACLE_CODE_BYTES) < 0) {
        g_string_append(why, "the addresses for code and data are not free");
        return false;
    }
    native.code = mmap(NULL, ORACLE_CODE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    void *code = mmap((void *)(uintptr_t)ORACLE_CODE, ORACLE_CODE_BYTES, PROT_READ | PROT_EXEC,
                      MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0);
    close(fd);
    if (native.code == MAP_FAILED || code != (void *)(uintptr_t)ORACLE_CODE) {
        g_string_append(why, "code pages cannot be mapped");
        return false;
    }
    memset(native.code, 0xcc, ORACLE_CODE_BYTES);
    for (unsigned p = 0; p < ORACLE_DATA_PAGES; p++)
        if (oracle_page_kind(p) != ORACLE_HOLE)
            mprotect((uint8_t *)data + p * ORACLE_PAGE, ORACLE_PAGE,
                     oracle_page_kind(p) == ORACLE_RW ? PROT_READ | PROT_WRITE : PROT_READ);
    return true;
}

static bool has_fsgsbase(void)
{
    return __builtin_cpu_supports("sse4.2") && oracle_native_has(FEAT_FSGSBASE);
}

/* GS is in no signal frame, and generated code has a base of its own there. */
static void load_gs(enum oracle_mode mode)
{
    if (oracle_segmented(mode))
        __asm__ volatile("mov %0, %%gs" ::"r"((unsigned)oracle_segment(mode, false, SEG_GS)->selector));
    else
        __asm__ volatile("wrgsbase %0" ::"r"((uint64_t)ORACLE_GS_BASE));
}

/* The segments of the segmented modes, and DS, ES loaded with theirs: 64-bit code does not care about these. */
static bool load_descriptors(enum oracle_mode mode, GString *why)
{
    for (unsigned n = 0; n < ORACLE_SEGMENTS; n++) {
        const struct oracle_segment *s = &oracle_segments[n];
        struct user_desc d = { .entry_number = s->selector >> 3, .base_addr = s->base, .limit = s->limit,
                               .seg_32bit = s->big, .contents = s->code ? 2 : s->expand_down ? 1 : 0,
                               .read_exec_only = s->read_only };
        if (syscall(SYS_modify_ldt, 1, &d, sizeof d) != 0) {
            g_string_append(why, "this kernel has no modify_ldt()");
            return false;
        }
    }
    __asm__ volatile("mov %0, %%ds; mov %1, %%es" ::"r"((unsigned)oracle_segment(mode, false, SEG_DS)->selector),
                     "r"((unsigned)oracle_segment(mode, false, SEG_ES)->selector));
    return true;
}

bool oracle_native_init(enum oracle_mode mode, GString *why)
{
    unsigned eax, ebx, ecx, edx;
    if (!oracle_native_has(FEAT_AVX2) || !__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & bit_OSXSAVE)) {
        g_string_append(why, "this processor has no AVX2");
        return false;
    }
    if (!has_fsgsbase()) {
        g_string_append(why, "this processor has no FSGSBASE");
        return false;
    }
    uint8_t fx[512] __attribute__((aligned(16)));
    __builtin_ia32_fxsave(fx);
    memcpy(&native.mxcsr_mask, fx + 28, 4);
    if (!map_pages(why))
        return false;
    static uint8_t stack[64 * 1024];
    stack_t ss = { .ss_sp = stack, .ss_size = sizeof stack };
    struct sigaction sa = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK };
    sigfillset(&sa.sa_mask);
    sigaltstack(&ss, NULL);
    static const int signals[] = { SIGTRAP, SIGSEGV, SIGFPE, SIGILL, SIGBUS };
    for (unsigned n = 0; n < G_N_ELEMENTS(signals); n++)
        sigaction(signals[n], &sa, NULL);
    if (oracle_segmented(mode))
        return load_descriptors(mode, why);
    /* Flat data segments for 32-bit code; null selectors would fault there. */
    __asm__ volatile("mov %0, %%ds; mov %0, %%es" ::"r"(USER_DS));
    return true;
}

bool oracle_native_has(unsigned feature)
{
    static const struct {
        uint32_t leaf, subleaf;
        uint8_t reg, bit;
    } where[] = {
#define FEATURE(id, name, leaf, subleaf, reg, bit) { leaf, subleaf, reg, bit },
#include "cpu/features.def"
#undef FEATURE
    };
    unsigned out[4];
    if (feature == FEAT_NONE)
        return true;
    if ((uint32_t)__get_cpuid_max(where[feature].leaf & 0x80000000, NULL) < where[feature].leaf)
        return false;
    __cpuid_count(where[feature].leaf, where[feature].subleaf, out[0], out[1], out[2], out[3]);
    return out[where[feature].reg] >> where[feature].bit & 1;
}

static void write_data(const uint8_t *memory)
{
    for (unsigned p = 0; p < ORACLE_DATA_PAGES; p++) {
        uint8_t *at = (uint8_t *)(uintptr_t)ORACLE_DATA + p * ORACLE_PAGE;
        const uint8_t *from = memory + p * ORACLE_PAGE;
        if (oracle_page_kind(p) == ORACLE_RW) {
            memcpy(at, from, ORACLE_PAGE);
        } else if (oracle_page_kind(p) == ORACLE_RO && memcmp(at, from, ORACLE_PAGE) != 0) {
            mprotect(at, ORACLE_PAGE, PROT_READ | PROT_WRITE);
            memcpy(at, from, ORACLE_PAGE);
            mprotect(at, ORACLE_PAGE, PROT_READ);
        }
    }
}

static void read_data(uint8_t *memory)
{
    for (unsigned p = 0; p < ORACLE_DATA_PAGES; p++)
        if (oracle_page_kind(p) == ORACLE_RW)
            memcpy(memory + p * ORACLE_PAGE, (uint8_t *)(uintptr_t)ORACLE_DATA + p * ORACLE_PAGE, ORACLE_PAGE);
}

void oracle_native_run(const struct oracle_case *c, struct oracle_outcome *out)
{
    uint8_t *code = native.code + oracle_code_offset(c);

    write_data(c->memory);
    memcpy(code, c->code, c->len);
    native.c = c;
    native.out = out;
    load_gs(c->mode);
    __asm__ volatile("int3" ::: "memory");
    native.c = NULL;
    memset(code, 0xcc, c->len);
    read_data(out->memory);
}

#else

#include "tests/lib/oracle.h"

bool oracle_native_init(enum oracle_mode mode, GString *why)
{
    g_string_append(why, "the host is not Linux on x86-64");
    return false;
}

bool oracle_native_has(unsigned feature)
{
    return false;
}

void oracle_native_run(const struct oracle_case *c, struct oracle_outcome *out)
{
    g_assert_not_reached();
}

#endif
