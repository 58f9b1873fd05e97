/*
 * The portable 80-bit arithmetic against the host's x87: results, flags and C1 of each operation with millions of
 * operands, all rounding modes, precisions and exception masks. Transcendental results may differ by one unit in the
 * last place.
 *
 * On hosts without an x87 there is nothing to compare with: skipped.
 */
#include "tests/lib/float80_operands.h"

#include <glib.h>

#if defined(__x86_64__) || defined(__i386__)

#include "tests/unit/float80_names.h"

#define F80(name) native_##name
#include "cpu/float80_native.c"
#undef F80
#undef CPU_FLOAT80_H
#define F80(name) portable_##name
#include "cpu/float80_soft.h"
#include "cpu/float80_integer_portable.c"
#include "cpu/float80_math_portable.c"
#include "cpu/float80_portable.c"

#define LENGTH(array) (sizeof(array) / sizeof(array)[0])

/* --- Comparing ---------------------------------------------------------------------------------------------------- */

struct outcome {
    struct float80 r[2];
    uint64_t v;
    unsigned flags;
};

static void complain(const char *name, struct float80 a, struct float80 b, uint16_t cw, const struct outcome *want,
                     const struct outcome *got)
{
    g_test_message("%s cw %04x a %04x:%016" G_GINT64_MODIFIER "x b %04x:%016" G_GINT64_MODIFIER "x", name, cw, a.sexp,
                   a.mant, b.sexp, b.mant);
    for (int n = 0; n < 2; n++)
        g_test_message("  %s flags %04x %04x:%016" G_GINT64_MODIFIER "x %04x:%016" G_GINT64_MODIFIER
                       "x %016" G_GINT64_MODIFIER "x",
                       n ? "portable" : "host    ", n ? got->flags : want->flags, n ? got->r[0].sexp : want->r[0].sexp,
                       n ? got->r[0].mant : want->r[0].mant, n ? got->r[1].sexp : want->r[1].sexp,
                       n ? got->r[1].mant : want->r[1].mant, n ? got->v : want->v);
}

/* Of each operation the first few are shown. */
#define MAX_COMPLAINTS 5
static GHashTable *complaint_counts;

static unsigned complaints(const char *name)
{
    unsigned n = GPOINTER_TO_UINT(g_hash_table_lookup(complaint_counts, name));
    g_hash_table_insert(complaint_counts, (gpointer)name, GUINT_TO_POINTER(n + 1));
    return n;
}

enum { MEMORY = 4, ULP = 8, QUOTIENT = 16 };

/* `how`: number of 80-bit results; MEMORY: result in v; ULP: results within one unit, C1 free; QUOTIENT: has quotient
 * bits. */
static void check(const char *name, struct float80 a, struct float80 b, uint16_t cw, struct outcome want,
                  struct outcome got, unsigned how)
{
    unsigned unmasked = want.flags & ~cw & FPU_EXCEPTIONS;
    unsigned blocked = FPU_IE | FPU_DE | FPU_ZE | (how & MEMORY ? FPU_OE | FPU_UE : 0);
    unsigned relevant = ~0u;
    bool ok = true;
    if (how & ULP)
        relevant &= ~FPU_C1;
    if (how & ULP && want.flags & FPU_C2)
        how = 0; /* out of range: no results */
    if (how & QUOTIENT && (want.flags & FPU_IE || float80_is_nan(a) || float80_is_nan(b)))
        relevant &= ~(FPU_C0 | FPU_C3);
    if (unmasked & blocked)
        relevant &= FPU_EXCEPTIONS;
    else if (how & MEMORY)
        ok = want.v == got.v;
    else if (!(want.flags & FPU_C2))
        for (unsigned n = 0; n < (how & 3); n++)
            ok &= operand_alike(want.r[n], got.r[n], how & ULP);
    if (ok && !((want.flags ^ got.flags) & relevant))
        return;
    g_test_fail();
    if (complaints(name) < MAX_COMPLAINTS)
        complain(name, a, b, cw, &want, &got);
}

/* --- Operations --------------------------------------------------------------------------------------------------- */

struct unary_case {
    const char *name;
    float80_unary *native, *portable;
    unsigned how;
};
struct binary_case {
    const char *name;
    float80_binary *native, *portable;
    unsigned how;
};
struct push_case {
    const char *name;
    float80_push *native, *portable;
    unsigned how;
};

#define CASE(op, how) \
    { \
#op, native_##op, portable_##op, how \
    }
static const struct binary_case exact2[] = { CASE(add, 1),
                                             CASE(sub, 1),
                                             CASE(mul, 1),
                                             CASE(div, 1),
                                             CASE(scale, 1),
                                             CASE(prem, 1 | QUOTIENT),
                                             CASE(prem1, 1 | QUOTIENT) };
static const struct unary_case exact1[] = { CASE(sqrt, 1), CASE(round, 1) };
static const struct push_case exact_push[] = { CASE(extract, 2) };
static const struct binary_case math2[] = { CASE(yl2x, 1 | ULP), CASE(yl2xp1, 1 | ULP), CASE(patan, 1 | ULP) };
static const struct unary_case math1[] = { CASE(2xm1, 1 | ULP), CASE(sin, 1 | ULP), CASE(cos, 1 | ULP) };
static const struct push_case math_push[] = { CASE(sincos, 2 | ULP), CASE(tan, 2 | ULP) };

static void run2(const struct binary_case *c, struct float80 a, struct float80 b, uint16_t cw)
{
    struct outcome want = { .v = 0 }, got = { .v = 0 };
    want.flags = c->native(&want.r[0], a, b, cw);
    got.flags = c->portable(&got.r[0], a, b, cw);
    check(c->name, a, b, cw, want, got, c->how);
}

static void run1(const struct unary_case *c, struct float80 a, uint16_t cw)
{
    struct outcome want = { .v = 0 }, got = { .v = 0 };
    want.flags = c->native(&want.r[0], a, cw);
    got.flags = c->portable(&got.r[0], a, cw);
    check(c->name, a, float80_make(0, 0), cw, want, got, c->how);
}

static void run_push(const struct push_case *c, struct float80 a, uint16_t cw)
{
    struct outcome want = { .v = 0 }, got = { .v = 0 };
    want.flags = c->native(&want.r[0], &want.r[1], a, cw);
    got.flags = c->portable(&got.r[0], &got.r[1], a, cw);
    check(c->name, a, float80_make(0, 0), cw, want, got, c->how);
}

static void run_stores(struct float80 a, uint16_t cw)
{
    static const char *const names[] = { "to_int16", "to_int32", "to_int64" };
    struct outcome want = { .v = 0 }, got = { .v = 0 };
    struct float80 none = { .mant = 0 };
    uint32_t w32, g32;
    want.flags = native_to_f32(&w32, a, cw);
    got.flags = portable_to_f32(&g32, a, cw);
    want.v = w32;
    got.v = g32;
    check("to_f32", a, none, cw, want, got, MEMORY);
    want.flags = native_to_f64(&want.v, a, cw);
    got.flags = portable_to_f64(&got.v, a, cw);
    check("to_f64", a, none, cw, want, got, MEMORY);
    for (unsigned n = 0; n < 3; n++) {
        want.flags = native_to_int((int64_t *)&want.v, a, 16u << n, cw);
        got.flags = portable_to_int((int64_t *)&got.v, a, 16u << n, cw);
        check(names[n], a, none, cw, want, got, MEMORY);
    }
    uint8_t wb[FLOAT80_BCD_SIZE], gb[FLOAT80_BCD_SIZE];
    want.flags = native_to_bcd(wb, a, cw);
    got.flags = portable_to_bcd(gb, a, cw);
    memcpy(&want.v, wb, 8);
    memcpy(&got.v, gb, 8);
    want.v ^= (uint64_t)(wb[8] | wb[9] << 8) << 47;
    got.v ^= (uint64_t)(gb[8] | gb[9] << 8) << 47;
    check("to_bcd", a, none, cw, want, got, MEMORY);
}

static void run_compare(struct float80 a, struct float80 b, uint16_t cw)
{
    struct outcome want = { .v = 0 }, got = { .v = 0 };
    want.flags = native_compare(a, b, cw);
    got.flags = portable_compare(a, b, cw);
    check("compare", a, b, cw, want, got, 0);
    want.flags = native_compare_quiet(a, b, cw);
    got.flags = portable_compare_quiet(a, b, cw);
    check("compare_quiet", a, b, cw, want, got, 0);
}

/* --- Tests -------------------------------------------------------------------------------------------------------- */

static uint16_t nth_control(unsigned n)
{
    static const uint16_t masks[] = { 0x3f, 0x3f, 0x00, 0x0f, 0x27, 0x3d, 0x2f, 0x37 };
    return 0x40 | (n & 3) << FPU_RC_SHIFT | (n >> 2 & 3) << 8 | masks[n >> 4 & 7];
}

static void run_pair(struct float80 a, struct float80 b, uint16_t cw)
{
    for (unsigned n = 0; n < LENGTH(exact2); n++)
        run2(&exact2[n], a, b, cw);
    run_compare(a, b, cw);
}

static void run_single(struct float80 a, uint16_t cw)
{
    for (unsigned n = 0; n < LENGTH(exact1); n++)
        run1(&exact1[n], a, cw);
    run_push(&exact_push[0], a, cw);
    run_stores(a, cw);
}

static void run_math(struct float80 a, struct float80 b, uint16_t cw)
{
    for (unsigned n = 0; n < LENGTH(math2); n++)
        run2(&math2[n], a, b, cw);
    for (unsigned n = 0; n < LENGTH(math1); n++)
        run1(&math1[n], a, cw);
    for (unsigned n = 0; n < LENGTH(math_push); n++)
        run_push(&math_push[n], a, cw);
}

static void test_special(void)
{
    for (unsigned a = 0; a < 2 * operand_special_count; a++) {
        for (unsigned b = 0; b < 2 * operand_special_count; b++)
            for (unsigned c = 0; c < 128; c += 1 + (a + b) % 5)
                run_pair(operand_special(a), operand_special(b), nth_control(c));
        for (unsigned c = 0; c < 128; c++)
            run_single(operand_special(a), nth_control(c));
    }
}

static void test_random(void)
{
    for (unsigned n = 0; n < 400000; n++) {
        struct float80 a = operand_random();
        run_pair(a, operand_near(a), operand_control());
        run_single(a, operand_control());
    }
}

/* The loads are plain integer code in both: against the instructions. */
static void check_load(const char *name, uint64_t v, struct float80 got, unsigned got_flags, struct float80 want,
                       uint16_t sw)
{
    struct outcome w = { .r = { want }, .v = v, .flags = sw & (FPU_IE | FPU_DE) };
    struct outcome g = { .r = { got }, .v = v, .flags = got_flags };
    check(name, want, got, FPU_CW_INIT, w, g, 1);
}

#define LOAD(name, instruction, operand, result, flags) \
    do { \
        struct float80 want, got; \
        uint16_t sw; \
        __asm__ volatile("fninit\n\t" instruction " %[m]\n\tfnstsw %[sw]\n\tfstpt %[r]" \
                         : [r] "=m"(want), [sw] "=&a"(sw) \
                         : [m] "m"(operand) \
                         : "st"); \
        unsigned got_flags = flags; \
        got = result; \
        check_load(name, v, got, got_flags, want, sw); \
    } while (0)

static void test_loads(void)
{
    static const uint64_t edges[] = { 0,
                                      1,
                                      0x7fffff,
                                      0x800000,
                                      0x7f7fffff,
                                      0x7f800000,
                                      0x7f800001,
                                      0x7fc00000,
                                      UINT64_C(0xfffffffffffff),
                                      UINT64_C(0x10000000000000),
                                      UINT64_C(0x7fefffffffffffff),
                                      UINT64_C(0x7ff0000000000000),
                                      UINT64_C(0x7ff0000000000001),
                                      UINT64_C(0x7ff8000000000000),
                                      UINT64_C(0x8000000000000000) };
    for (unsigned n = 0; n < 100000; n++) {
        uint64_t v = n < 4 * LENGTH(edges) ? edges[n / 4] ^ (uint64_t)(n & 1) << 31 ^ (uint64_t)(n >> 1 & 1) << 63
                                           : operand_random64();
        uint32_t v32 = v;
        struct float80 loaded;
        uint8_t bcd[16] = { 0 };
        memcpy(bcd, &v, 8);
        bcd[8] = v >> 3;
        bcd[9] = v >> 5;
        for (unsigned d = 0; d < 9; d++) /* decimal digits */
            bcd[d] = (bcd[d] & 15) % 10 | (bcd[d] >> 4) % 10 << 4;
        LOAD("flds", "flds", v32, loaded, float80_from_f32(&loaded, v32));
        LOAD("fldl", "fldl", v, loaded, float80_from_f64(&loaded, v));
        LOAD("fildll", "fildll", v, float80_from_int((int64_t)v), 0);
        LOAD("fbld", "fbld", *(uint8_t(*)[10])bcd, float80_from_bcd(bcd), 0);
    }
}

static void test_math_special(void)
{
    for (unsigned a = 0; a < 2 * operand_special_count; a++)
        for (unsigned b = 0; b < 2 * operand_special_count; b++)
            run_math(operand_special(a), operand_special(b), nth_control((a * 37 + b) % 128));
}

static void test_math_random(void)
{
    for (unsigned n = 0; n < 4000; n++) {
        struct float80 a = operand_random();
        run_math(a, operand_near(a), operand_control());
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    complaint_counts = g_hash_table_new(g_str_hash, g_str_equal);
    g_test_add_func("/float80/special", test_special);
    g_test_add_func("/float80/random", test_random);
    g_test_add_func("/float80/loads", test_loads);
    g_test_add_func("/float80/math-special", test_math_special);
    g_test_add_func("/float80/math-random", test_math_random);
    int status = g_test_run();
    g_hash_table_unref(complaint_counts);
    return status;
}

#else

static void test_skipped(void)
{
    g_test_skip("the host has no x87");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/float80", test_skipped);
    return g_test_run();
}

#endif
