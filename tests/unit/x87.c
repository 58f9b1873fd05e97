/*
 * What the x87 unit does beyond single results: deferred exceptions and their signals, order of checks, images in
 * memory in all formats, last-instruction pointers.
 */
#include "cpu/x87.h"
#include "tests/lib/handler_test.h"

#include <glib.h>

#define OPERAND 0x20000u
#define INSN(...) ((const uint8_t[16]){ __VA_ARGS__ })
#define FADD_M32 INSN(0xd8, 0x03) /* fadds (%rbx) */
#define FLD_M32 INSN(0xd9, 0x03)
#define FSTP_M64 INSN(0xdd, 0x1b)
#define FWAIT INSN(0x9b)
#define FNSTSW_AX INSN(0xdf, 0xe0)
#define FNCLEX INSN(0xdb, 0xe2)
#define FNINIT INSN(0xdb, 0xe3)
#define FLD1 INSN(0xd9, 0xe8)
#define FLDZ INSN(0xd9, 0xee)
#define FDIVP INSN(0xde, 0xf9)
#define PADDB INSN(0x0f, 0xfc, 0xc1)

static struct handler_test *t;

static void setup(enum handler_mode mode)
{
    handler_set_mode(t, mode);
    x87_init(&t->cpu->fpu);
    t->cpu->r[R_RBX] = OPERAND;
    g_assert_cmpint(handler_run(t, FNINIT), ==, -1);
}

static void put_f32(float v)
{
    handler_write(t, OPERAND, &v, sizeof v);
}

/* 1 / 0 with the exception unmasked: pending, the operands stay. */
static void divide_by_zero(void)
{
    x87_set_control(&t->cpu->fpu, FPU_CW_INIT & ~FPU_ZE);
    g_assert_cmpint(handler_run(t, FLD1), ==, -1);
    g_assert_cmpint(handler_run(t, FLDZ), ==, -1);
    g_assert_cmpint(handler_run(t, FDIVP), ==, -1);
    g_assert_cmphex(x87_status(&t->cpu->fpu), ==, FPU_ZE | FPU_ES | FPU_BUSY | 6 << FPU_TOP_SHIFT);
    g_assert_cmphex(x87_st(t->cpu, 0)->mant, ==, 0);
    g_assert_cmphex(x87_st(t->cpu, 1)->sexp, ==, FLOAT80_BIAS);
}

static void test_deferred(void)
{
    setup(HANDLER_LONG);
    divide_by_zero();
    g_assert_cmpint(handler_run(t, FWAIT), ==, EXC_MF);
    g_assert_cmpint(handler_run(t, FLD1), ==, EXC_MF);
    g_assert_cmpint(handler_run(t, PADDB), ==, EXC_MF);
    /* Those that do not wait. */
    t->cpu->r[R_RAX] = UINT64_C(0x123456789abcdef0);
    g_assert_cmpint(handler_run(t, FNSTSW_AX), ==, -1);
    g_assert_cmphex(t->cpu->r[R_RAX], ==, UINT64_C(0x123456789abcb084));
    g_assert_cmpint(handler_run(t, FNCLEX), ==, -1);
    g_assert_cmpint(handler_run(t, FWAIT), ==, -1);
    /* A mask taken away lets an old flag become pending; put back, it is not. */
    x87_set_status(&t->cpu->fpu, FPU_PE);
    uint16_t cw = FPU_CW_INIT & ~FPU_PE;
    handler_write(t, OPERAND, &cw, 2);
    g_assert_cmpint(handler_run(t, INSN(0xd9, 0x2b)), ==, -1); /* fldcw */
    g_assert_cmphex(t->cpu->fpu.sw & (FPU_ES | FPU_BUSY), ==, FPU_ES | FPU_BUSY);
    g_assert_cmpint(handler_run(t, FWAIT), ==, EXC_MF);
    g_assert_cmpint(handler_run(t, INSN(0xd9, 0x33)), ==, -1); /* fnstenv masks all */
    g_assert_cmphex(t->cpu->fpu.cw & FPU_EXCEPTIONS, ==, FPU_EXCEPTIONS);
    g_assert_cmpint(handler_run(t, FWAIT), ==, -1);
}

static unsigned ferr_count;
static bool ferr_level;

static void on_ferr(struct cpu *cpu, bool pending)
{
    ferr_count++;
    ferr_level = pending;
}

/* Without CR0.NE the board hears of it, and the instruction goes on. */
static void test_ferr(void)
{
    static const struct cpu_host_ops ops = { .ferr = on_ferr };
    const struct cpu_host_ops *old = t->cpu->host;
    setup(HANDLER_PROT32);
    t->cpu->host = &ops;
    divide_by_zero();
    t->cpu->cr0 &= ~CR0_NE;
    ferr_count = 0;
    g_assert_cmpint(handler_run(t, FNSTSW_AX), ==, -1);
    g_assert_cmpuint(ferr_count, ==, 0);
    g_assert_cmpint(handler_run(t, FLD1), ==, -1);
    g_assert_cmpuint(ferr_count, ==, 1);
    g_assert_true(ferr_level);
    g_assert_cmpuint(t->cpu->fpu.top, ==, 5);
    /* With the interrupt on its way the instruction waits for it. */
    t->cpu->rflags |= FLAG_IF;
    cpu_event_set(t->cpu, CPU_EVENT_INTR);
    g_assert_cmpint(handler_run(t, FLD1), ==, HANDLER_RETRY);
    g_assert_cmpuint(t->cpu->fpu.top, ==, 5);
    cpu_event_clear(t->cpu, CPU_EVENT_INTR);
    t->cpu->rflags &= ~(uint64_t)FLAG_IF;
    g_assert_cmpint(handler_run(t, FNCLEX), ==, -1);
    g_assert_cmpuint(ferr_count, ==, 3);
    g_assert_false(ferr_level);
    t->cpu->host = old;
}

/* A memory operand that faults leaves the unit as it was; a pending exception comes before it. */
static void test_order(void)
{
    setup(HANDLER_LONG);
    t->cpu->cr0 |= CR0_AM;
    put_f32(1);
    g_assert_cmpint(handler_run(t, FLD_M32), ==, -1);
    struct fpu before = t->cpu->fpu;
    t->cpu->r[R_RBX] = UINT64_C(0x8000000000000000); /* not canonical */
    g_assert_cmpint(handler_run(t, FSTP_M64), ==, EXC_GP);
    g_assert_cmpint(handler_run(t, FADD_M32), ==, EXC_GP);
    g_assert_cmpmem(&before, sizeof before, &t->cpu->fpu, sizeof before);
    x87_set_control(&t->cpu->fpu, FPU_CW_INIT & ~FPU_IE);
    x87_set_status(&t->cpu->fpu, FPU_IE);
    g_assert_cmpint(handler_run(t, FADD_M32), ==, EXC_MF);
}

/* --- Images ------------------------------------------------------------------------------------------------------- */

static void put_image_state(void)
{
    struct fpu *fpu = &t->cpu->fpu;
    x87_set_control(fpu, 0x0b7f);
    fpu->sw = FPU_C3 | FPU_PE;
    fpu->top = 3;
    fpu->tag_valid = 0x9c;
    for (unsigned n = 0; n < 8; n++)
        fpu->st[n] = float80_make(0x3fff + n, FLOAT80_INT | n);
    fpu->st[3] = float80_make(0x8000, 0);
    fpu->st[4] = float80_make(0x7fff, FLOAT80_INT);
    fpu->opcode = 0x5a3;
    fpu->ip = 0xfedc1234;
    fpu->dp = 0xabcd5678;
    fpu->cs = 0x1111;
    fpu->ds = 0x2222;
}

/* Tags of the state above: R2 valid, R3 zero, R4 special, R7 valid, others empty. */
#define IMAGE_TAGS 0x3e4f
#define IMAGE_SW (FPU_C3 | FPU_PE | 3 << FPU_TOP_SHIFT)

static void check_environment(enum handler_mode mode, bool prefix, const uint32_t *want, unsigned width)
{
    uint8_t image[28];
    uint8_t insn[16] = { 0x66, 0xd9, 0x33 }; /* fnstenv (%rbx), (%bp,%di) in 16-bit code */
    setup(mode);
    t->cpu->r[R_RBP] = 0;
    t->cpu->r[R_RDI] = t->cpu->r[R_RBX] = 0x2000;
    put_image_state();
    memset(image, 0xee, sizeof image);
    handler_write(t, 0x2000, image, sizeof image);
    g_assert_cmpint(handler_run(t, insn + !prefix), ==, -1);
    handler_read(t, 0x2000, image, sizeof image);
    for (unsigned n = 0; n < 7; n++) {
        uint32_t got = 0;
        for (unsigned b = 0; b < width; b++)
            got |= (uint32_t)image[n * width + b] << (8 * b);
        g_assert_cmphex(got, ==, want[n]);
    }
    if (width == 2)
        g_assert_cmphex(image[14], ==, 0xee);
}

static void test_environments(void)
{
    /* The models' selectors read as 0: FCS and FDS are deprecated. */
    bool selectors = !cpu_has(t->cpu, FEAT_ZERO_FCS_FDS);
    uint32_t cs = selectors ? 0x1111 : 0, ds = selectors ? 0x2222 : 0;
    const uint32_t p32[] = { 0xffff0b7f, 0xffff0000 | IMAGE_SW, 0xffff0000 | IMAGE_TAGS, 0xfedc1234, 0x05a30000 | cs,
                             0xabcd5678, 0xffff0000 | ds };
    const uint32_t p16[] = { 0x0b7f, IMAGE_SW, IMAGE_TAGS, 0x1234, cs, 0x5678, ds };
    uint32_t ip = 0xfedc1234 + (cs << 4), dp = 0xabcd5678 + (ds << 4);
    const uint32_t r32[] = { 0xffff0b7f,
                             0xffff0000 | IMAGE_SW,
                             0xffff0000 | IMAGE_TAGS,
                             0xffff0000 | (ip & 0xffff),
                             (ip & 0xffff0000) >> 4 | 0x5a3,
                             0xffff0000 | (dp & 0xffff),
                             (dp & 0xffff0000) >> 4 };
    const uint32_t r16[] = { 0x0b7f,      IMAGE_SW,           IMAGE_TAGS, ip & 0xffff, (ip & 0xf0000) >> 4 | 0x5a3,
                             dp & 0xffff, (dp & 0xf0000) >> 4 };
    check_environment(HANDLER_LONG, false, p32, 4);
    check_environment(HANDLER_LONG, true, p16, 2);
    check_environment(HANDLER_PROT32, false, p32, 4);
    check_environment(HANDLER_PROT32, true, p16, 2);
    check_environment(HANDLER_PROT16, false, p16, 2);
    check_environment(HANDLER_PROT16, true, p32, 4);
    check_environment(HANDLER_REAL, false, r16, 2);
    check_environment(HANDLER_REAL, true, r32, 4);
}

/* FNSAVE initializes; FRSTOR brings all back. */
static void check_save(enum handler_mode mode, bool prefix)
{
    static const uint8_t fnsave[16] = { 0x66, 0xdd, 0x33 }, frstor[16] = { 0x66, 0xdd, 0x23 };
    uint8_t frstor16[16] = { 0x66, 0xdd, 0x23 };
    setup(mode);
    t->cpu->r[R_RBP] = 0;
    t->cpu->r[R_RSI] = 0;
    t->cpu->r[R_RDI] = t->cpu->r[R_RBX] = 0x2000;
    put_image_state();
    struct fpu before = t->cpu->fpu;
    g_assert_cmpint(handler_run(t, fnsave + !prefix), ==, -1);
    g_assert_cmphex(t->cpu->fpu.cw, ==, FPU_CW_INIT);
    g_assert_cmphex(t->cpu->fpu.tag_valid, ==, 0);
    memset(t->cpu->fpu.st, 0, sizeof t->cpu->fpu.st);
    if (t->cpu->code_size == 1) { /* (%bp,%di) is 3, (%bx) 7 */
        frstor16[2] = 0x27;
        g_assert_cmpint(handler_run(t, frstor16 + !prefix), ==, -1);
    } else {
        g_assert_cmpint(handler_run(t, frstor + !prefix), ==, -1);
    }
    const struct fpu *after = &t->cpu->fpu;
    g_assert_cmphex(after->cw, ==, before.cw);
    g_assert_cmphex(x87_status(after), ==, x87_status(&before));
    g_assert_cmphex(after->tag_valid, ==, before.tag_valid);
    for (unsigned n = 0; n < 8; n++) {
        g_assert_cmphex(after->st[n].sexp, ==, before.st[n].sexp);
        g_assert_cmphex(after->st[n].mant, ==, before.st[n].mant);
    }
}

static void test_saves(void)
{
    for (enum handler_mode mode = HANDLER_REAL; mode <= HANDLER_LONG; mode++) {
        check_save(mode, false);
        check_save(mode, true);
    }
}

/* --- Pointers ----------------------------------------------------------------------------------------------------- */

static void test_pointers(void)
{
    setup(HANDLER_PROT32);
    put_f32(1);
    g_assert_cmpint(handler_run(t, FLD_M32), ==, -1);
    g_assert_cmphex(t->cpu->fpu.ip, ==, HANDLER_CODE);
    if (cpu_has(t->cpu, FEAT_FDP_EXCPTN_ONLY)) {
        g_assert_cmphex(t->cpu->fpu.dp, ==, 0);
        g_assert_cmphex(t->cpu->fpu.opcode, ==, 0);
    }
    /* Control instructions leave them alone. */
    t->cpu->fpu.ip = 0x77;
    g_assert_cmpint(handler_run(t, FNCLEX), ==, -1);
    g_assert_cmpint(handler_run(t, FWAIT), ==, -1);
    g_assert_cmpint(handler_run(t, FNSTSW_AX), ==, -1);
    g_assert_cmphex(t->cpu->fpu.ip, ==, 0x77);
    /* An unmasked exception sets all. */
    x87_set_control(&t->cpu->fpu, FPU_CW_INIT & ~FPU_DE);
    put_f32(1e-40f);
    g_assert_cmpint(handler_run(t, FADD_M32), ==, -1);
    g_assert_cmphex(t->cpu->fpu.ip, ==, HANDLER_CODE);
    g_assert_cmphex(t->cpu->fpu.dp, ==, OPERAND);
    g_assert_cmphex(t->cpu->fpu.opcode, ==, 0x003);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    t = handler_test_new();
    g_test_add_func("/x87/deferred", test_deferred);
    g_test_add_func("/x87/ferr", test_ferr);
    g_test_add_func("/x87/order", test_order);
    g_test_add_func("/x87/environments", test_environments);
    g_test_add_func("/x87/saves", test_saves);
    g_test_add_func("/x87/pointers", test_pointers);
    int status = g_test_run();
    handler_test_free(t);
    return status;
}
