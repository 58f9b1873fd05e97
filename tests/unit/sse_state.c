/*
 * What the host's processor cannot be asked about vector instructions: #XM against #UD, alignment, MXCSR kept apart
 * from the host's, pending x87 exceptions, the upper halves of registers, and a few known answers for hosts other than
 * x86.
 *
 * Handlers are called one at a time on a bare struct cpu whose TLB maps one page.
 */
#include "cpu/softfp.h"
#include "cpu/vec.h"

#include <fenv.h>
#include <float.h>
#include <setjmp.h>

#define PAGE UINT64_C(0x7000)

struct bench {
    struct cpu *cpu;
    struct tlb *tlb;
    uint8_t *page;
};

static void setup(struct bench *b, gconstpointer unused)
{
    b->cpu = g_new0(struct cpu, 1);
    b->tlb = g_new0(struct tlb, 1);
    b->page = g_malloc0(PAGE_SIZE);
    for (uint64_t n = 0; n < TLB_SIZE; n++) {
        struct tlb_entry *e = &b->tlb->e[n];
        e->tag_read = e->tag_write = e->tag_exec = n << 12 ^ TLB_EMPTY;
    }
    struct tlb_entry *e = &b->tlb->e[tlb_index(PAGE)];
    e->tag_read = e->tag_write = PAGE;
    e->addend = (uint64_t)(uintptr_t)b->page - PAGE;
    b->cpu->tlb = b->tlb;
    b->cpu->code_size = 3;
    b->cpu->cr0 = CR0_PE | CR0_NE;
    b->cpu->cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT;
    b->cpu->mxcsr = MXCSR_RESET;
    b->cpu->fpu.cw = 0x37f;
    b->cpu->r[R_RBX] = PAGE;
}

static void teardown(struct bench *b, gconstpointer unused)
{
    g_free(b->page);
    g_free(b->tlb);
    g_free(b->cpu);
}

/* Executes one instruction; the vector it raised, or -1. */
static int run(struct bench *b, const char *hex)
{
    uint8_t bytes[16];
    unsigned len = 0;
    struct insn i = { 0 };
    struct decode_mode mode = { .code_size = b->cpu->code_size, .protected_mode = true };
    sigjmp_buf env;

    for (; *hex; hex += hex[2] == ' ' ? 3 : 2)
        bytes[len++] = g_ascii_xdigit_value(hex[0]) << 4 | g_ascii_xdigit_value(hex[1]);
    g_assert_cmpint(decode_insn(bytes, len, mode, &i), ==, DECODE_OK);
    g_assert_cmpuint(i.len, ==, len);
    i.end = len;
    b->cpu->insn = &i;
    b->cpu->unwind = &env;
    if (sigsetjmp(env, 0))
        return b->cpu->raised.vector;
    insn_handler(&i, false)(b->cpu, &i);
    return -1;
}

static void set32(struct bench *b, unsigned reg, uint32_t n0, uint32_t n1, uint32_t n2, uint32_t n3)
{
    union vec *v = &b->cpu->v[reg];

    v->u32[L32(0)] = n0;
    v->u32[L32(1)] = n1;
    v->u32[L32(2)] = n2;
    v->u32[L32(3)] = n3;
}

static void set64(struct bench *b, unsigned reg, uint64_t low, uint64_t high)
{
    b->cpu->v[reg].u64[0] = low;
    b->cpu->v[reg].u64[1] = high;
}

static void expect64(struct bench *b, unsigned reg, uint64_t low, uint64_t high)
{
    g_assert_cmphex(b->cpu->v[reg].u64[0], ==, low);
    g_assert_cmphex(b->cpu->v[reg].u64[1], ==, high);
}

enum { ONE = 0x3f800000, THREE = 0x40400000, DENORMAL = 1, SNAN = 0x7f800001 };
#define UNMASK(flag) ((flag) << MXCSR_MASK_SHIFT)
#define DIVPS_XMM1_XMM2 "0f 5e ca"

static void test_xm(struct bench *b, gconstpointer unused)
{
    /* 1/0 and 1/3: the division by zero, unmasked, is found before the other lane could be inexact. */
    set32(b, 1, ONE, ONE, ONE, ONE);
    set32(b, 2, 0, THREE, ONE, ONE);
    b->cpu->mxcsr = MXCSR_RESET & ~UNMASK(MXCSR_ZE);
    g_assert_cmpint(run(b, DIVPS_XMM1_XMM2), ==, EXC_XM);
    g_assert_cmphex(b->cpu->mxcsr & MXCSR_FLAGS, ==, MXCSR_ZE);
    expect64(b, 1, UINT64_C(0x3f8000003f800000), UINT64_C(0x3f8000003f800000));

    /* The same with the inexact one unmasked: both are reported. */
    b->cpu->mxcsr = MXCSR_RESET & ~UNMASK(MXCSR_PE);
    g_assert_cmpint(run(b, DIVPS_XMM1_XMM2), ==, EXC_XM);
    g_assert_cmphex(b->cpu->mxcsr & MXCSR_FLAGS, ==, MXCSR_ZE | MXCSR_PE);

    /* All masked. */
    b->cpu->mxcsr = MXCSR_RESET;
    g_assert_cmpint(run(b, DIVPS_XMM1_XMM2), ==, -1);
    g_assert_cmphex(b->cpu->mxcsr & MXCSR_FLAGS, ==, MXCSR_ZE | MXCSR_PE);
    expect64(b, 1, UINT64_C(0x3eaaaaab7f800000), UINT64_C(0x3f8000003f800000));
}

static void test_xm_disabled(struct bench *b, gconstpointer unused)
{
    set32(b, 1, ONE, ONE, ONE, ONE);
    set32(b, 2, SNAN, DENORMAL, ONE, ONE);
    b->cpu->mxcsr = MXCSR_RESET & ~UNMASK(MXCSR_IE);
    b->cpu->cr4 &= ~(uint64_t)CR4_OSXMMEXCPT;
    g_assert_cmpint(run(b, DIVPS_XMM1_XMM2), ==, EXC_UD);
    g_assert_cmphex(b->cpu->mxcsr & MXCSR_FLAGS, ==, MXCSR_IE | MXCSR_DE);
}

/* A flag that is set already does not raise anything; a result that is tiny but exact does if underflow is unmasked. */
static void test_xm_corners(struct bench *b, gconstpointer unused)
{
    set32(b, 1, 0x00800000, ONE, ONE, ONE);
    set32(b, 2, 0x40000000, ONE, ONE, ONE);
    b->cpu->mxcsr = MXCSR_RESET;
    g_assert_cmpint(run(b, DIVPS_XMM1_XMM2), ==, -1);
    g_assert_cmphex(b->cpu->mxcsr & MXCSR_FLAGS, ==, 0);
    g_assert_cmphex(b->cpu->v[1].u32[L32(0)], ==, 0x00400000);

    set32(b, 1, 0x00800000, ONE, ONE, ONE);
    b->cpu->mxcsr = MXCSR_RESET & ~UNMASK(MXCSR_UE);
    g_assert_cmpint(run(b, DIVPS_XMM1_XMM2), ==, EXC_XM);
    g_assert_cmphex(b->cpu->mxcsr & MXCSR_FLAGS, ==, MXCSR_UE);

    set32(b, 1, ONE, ONE, ONE, ONE);
    b->cpu->mxcsr = (MXCSR_RESET & ~UNMASK(MXCSR_ZE)) | MXCSR_ZE;
    g_assert_cmpint(run(b, DIVPS_XMM1_XMM2), ==, -1);
}

/* The guest's flags and modes are its own. */
static void test_mxcsr_apart(struct bench *b, gconstpointer unused)
{
    volatile double x = 1, y = 3;

    x /= y;
    set32(b, 1, ONE, ONE, ONE, ONE);
    set32(b, 2, ONE, ONE, ONE, ONE);
    g_assert_cmpint(run(b, DIVPS_XMM1_XMM2), ==, -1);
    g_assert_cmphex(b->cpu->mxcsr, ==, MXCSR_RESET);

    set32(b, 2, THREE, THREE, THREE, THREE);
    b->cpu->mxcsr = MXCSR_RESET | SF_UP << MXCSR_RC_SHIFT | MXCSR_FTZ | MXCSR_DAZ;
    g_assert_cmpint(run(b, DIVPS_XMM1_XMM2), ==, -1);
    g_assert_cmphex(b->cpu->v[1].u32[L32(0)], ==, 0x3eaaaaab);
    g_assert_cmpint(fegetround(), ==, FE_TONEAREST);
    set32(b, 1, ONE, ONE, ONE, ONE);
    b->cpu->mxcsr = MXCSR_RESET | SF_DOWN << MXCSR_RC_SHIFT;
    g_assert_cmpint(run(b, DIVPS_XMM1_XMM2), ==, -1);
    g_assert_cmphex(b->cpu->v[1].u32[L32(0)], ==, 0x3eaaaaaa);
    volatile double tiny = DBL_MIN;
    g_assert_true(tiny / 2 != 0); /* no FTZ of the guest's is left behind */
    g_assert_true(x == 1.0 / 3.0);
}

static void test_ldmxcsr(struct bench *b, gconstpointer unused)
{
    b->page[0] = 0x80;
    b->page[1] = 0x3f;
    g_assert_cmpint(run(b, "0f ae 13"), ==, -1);
    g_assert_cmphex(b->cpu->mxcsr, ==, 0x3f80);
    b->page[2] = 1;
    g_assert_cmpint(run(b, "0f ae 13"), ==, EXC_GP);
    g_assert_cmphex(b->cpu->raised.error, ==, 0);
    g_assert_cmphex(b->cpu->mxcsr, ==, 0x3f80);
}

static void test_alignment(struct bench *b, gconstpointer unused)
{
    b->cpu->r[R_RBX] = PAGE + 8;
    g_assert_cmpint(run(b, "0f 58 03"), ==, EXC_GP);       /* addps xmm0, [rbx] */
    g_assert_cmpint(run(b, "66 0f fc 03"), ==, EXC_GP);    /* paddb */
    g_assert_cmpint(run(b, "0f 28 03"), ==, EXC_GP);       /* movaps */
    g_assert_cmpint(run(b, "0f 29 03"), ==, EXC_GP);       /* movaps store */
    g_assert_cmpint(run(b, "c5 f8 28 03"), ==, EXC_GP);    /* vmovaps */
    g_assert_cmpint(run(b, "66 0f 38 2a 03"), ==, EXC_GP); /* movntdqa */
    g_assert_cmpint(run(b, "0f 10 03"), ==, -1);           /* movups */
    g_assert_cmpint(run(b, "f2 0f f0 03"), ==, -1);        /* lddqu */
    g_assert_cmpint(run(b, "66 0f 3a 63 03 00"), ==, -1);  /* pcmpistri */
    g_assert_cmpint(run(b, "c5 f8 58 03"), ==, -1);        /* vaddps */
    g_assert_cmpint(run(b, "f3 0f 58 03"), ==, -1);        /* addss */
    b->cpu->r[R_RBX] = PAGE + 16;
    g_assert_cmpint(run(b, "0f 58 03"), ==, -1);
    g_assert_cmpint(run(b, "c5 fc 28 03"), ==, EXC_GP); /* vmovaps ymm */
    g_assert_cmpint(run(b, "c5 fc 10 03"), ==, -1);     /* vmovups ymm */
}

static void test_pending_x87(struct bench *b, gconstpointer unused)
{
    b->cpu->fpu.sw = 0x8081; /* an unmasked invalid operation waits */
    b->cpu->fpu.cw = 0x37e;
    b->cpu->fpu.top = 3;
    g_assert_cmpint(run(b, "0f fc c1"), ==, EXC_MF);    /* paddb mm0, mm1 */
    g_assert_cmpint(run(b, "0f 6f 03"), ==, EXC_MF);    /* movq mm0, [rbx] */
    g_assert_cmpint(run(b, "f3 0f d6 c1"), ==, EXC_MF); /* movq2dq xmm0, mm1 */
    g_assert_cmpuint(b->cpu->fpu.top, ==, 3);
    g_assert_cmpint(run(b, "66 0f fc c1"), ==, -1); /* paddb xmm0, xmm1 */
    g_assert_cmpuint(b->cpu->fpu.top, ==, 3);
    b->cpu->fpu.sw = 0;
    b->cpu->fpu.tag_valid = 0;
    b->cpu->fpu.st[0].mant = UINT64_C(0x0102030405060708);
    b->cpu->fpu.st[1].mant = UINT64_C(0x1010101010101010);
    g_assert_cmpint(run(b, "0f fc c1"), ==, -1);
    g_assert_cmpuint(b->cpu->fpu.top, ==, 0);
    g_assert_cmphex(b->cpu->fpu.tag_valid, ==, 0xff);
    g_assert_cmphex(b->cpu->fpu.st[0].mant, ==, UINT64_C(0x1112131415161718));
    g_assert_cmphex(b->cpu->fpu.st[0].sexp, ==, 0xffff);
}

static void test_upper_halves(struct bench *b, gconstpointer unused)
{
    for (unsigned n = 0; n < 16; n++)
        for (unsigned k = 0; k < 4; k++)
            b->cpu->v[n].u64[k] = 0x1111 * n + k;
    g_assert_cmpint(run(b, "66 0f fc c1"), ==, -1); /* paddb xmm0, xmm1 */
    g_assert_cmphex(b->cpu->v[0].u64[2], ==, 2);
    g_assert_cmpint(run(b, "c5 f9 fc c1"), ==, -1); /* vpaddb xmm0, xmm0, xmm1 */
    g_assert_cmphex(b->cpu->v[0].u64[2], ==, 0);
    g_assert_cmphex(b->cpu->v[0].u64[3], ==, 0);

    b->cpu->code_size = 2; /* registers 8 to 15 are out of reach */
    g_assert_cmpint(run(b, "c5 f8 77"), ==, -1);
    g_assert_cmphex(b->cpu->v[7].u64[2], ==, 0);
    g_assert_cmphex(b->cpu->v[7].u64[1], ==, 0x7777 + 1);
    g_assert_cmphex(b->cpu->v[8].u64[2], ==, 0x8888 + 2);
    g_assert_cmpint(run(b, "c5 fc 77"), ==, -1);
    g_assert_cmphex(b->cpu->v[7].u64[1], ==, 0);
    g_assert_cmphex(b->cpu->v[8].u64[1], ==, 0x8888 + 1);
    b->cpu->code_size = 3;
    g_assert_cmpint(run(b, "c5 fc 77"), ==, -1);
    g_assert_cmphex(b->cpu->v[15].u64[0] | b->cpu->v[15].u64[3], ==, 0);
}

/* The state and key of the white paper on AES-NI, with what an Intel processor answers; a carry-less square. */
static void test_known_answers(struct bench *b, gconstpointer unused)
{
    const uint64_t state[2] = { UINT64_C(0x63746f725d53475d), UINT64_C(0x7b5b546573745665) };
    const uint64_t key[2] = { UINT64_C(0x5b477565726f6e5d), UINT64_C(0x4869285368617929) };

    set64(b, 1, state[0], state[1]);
    set64(b, 2, key[0], key[1]);
    g_assert_cmpint(run(b, "66 0f 38 dc ca"), ==, -1); /* aesenc xmm1, xmm2 */
    expect64(b, 1, UINT64_C(0x8b104b58ded7e595), UINT64_C(0xa8311c2f9fdba3c5));
    set64(b, 1, state[0], state[1]);
    g_assert_cmpint(run(b, "66 0f 38 dd ca"), ==, -1); /* aesenclast */
    expect64(b, 1, UINT64_C(0x177ec42553fdc611), UINT64_C(0xc7fb881e938c5964));
    g_assert_cmpint(run(b, "66 0f 38 db ca"), ==, -1); /* aesimc */
    expect64(b, 1, UINT64_C(0xf39bc5a119d859b6), UINT64_C(0x597f8df109efaa15));
    set64(b, 1, state[0], state[1]);
    g_assert_cmpint(run(b, "66 0f 38 de ca"), ==, -1); /* aesdec */
    expect64(b, 1, UINT64_C(0xb58eb95eb730392a), UINT64_C(0x138ac342faea2787));
    set64(b, 1, state[0], state[1]);
    g_assert_cmpint(run(b, "66 0f 38 df ca"), ==, -1); /* aesdeclast */
    expect64(b, 1, UINT64_C(0xd410637b72a593d0), UINT64_C(0xc5a391ef6b317f95));
    set64(b, 2, UINT64_C(0xa6d2ae2816157e2b), UINT64_C(0x3c4fcf098815f7ab));
    g_assert_cmpint(run(b, "66 0f 3a df ca 01"), ==, -1); /* aeskeygenassist */
    expect64(b, 1, UINT64_C(0x3424b5e524b5e434), UINT64_C(0x01eb848beb848a01));
    set64(b, 1, UINT64_MAX, 0);
    set64(b, 2, 0, UINT64_MAX);
    g_assert_cmpint(run(b, "66 0f 3a 44 ca 10"), ==, -1); /* pclmulqdq */
    expect64(b, 1, UINT64_C(0x5555555555555555), UINT64_C(0x5555555555555555));
}

#define ADD(name) g_test_add("/sse/" #name, struct bench, NULL, setup, test_##name, teardown)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD(xm);
    ADD(xm_disabled);
    ADD(xm_corners);
    ADD(mxcsr_apart);
    ADD(ldmxcsr);
    ADD(alignment);
    ADD(pending_x87);
    ADD(upper_halves);
    ADD(known_answers);
    return g_test_run();
}
