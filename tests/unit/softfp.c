/*
 * The arithmetic in integers against the host's SSE: result and flags of each operation with special and random
 * operands under random rounding, DAZ and FTZ. And the error of the reciprocal approximations.
 *
 * Exceptions are masked here; tests/insn compares what traps. On hosts other than x86-64 with FMA and F16C there is
 * nothing to compare with: skipped.
 */
#include "cpu/softfp.h"

#include <glib.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#ifdef __x86_64__

#define COUNT 150000

struct args {
    uint64_t a, b, c;
    uint32_t mxcsr;
};
struct answer {
    uint64_t value;
    uint32_t flags;
};

/* --- Operands ----------------------------------------------------------------------------------------------------- */

static uint64_t seed = 88172645463325252;

static uint64_t next(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed * UINT64_C(0x2545f4914f6cdd1d);
}

static const uint32_t special32[] = {
    0,          0x80000000, 0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001, 0xffc12345, 0xff812345,
    1,          0x80000001, 0x007fffff, 0x00800000, 0x00800001, 0x7f7fffff, 0xff7fffff, 0x3f800000,
    0xbf800000, 0x3f000000, 0x4b000000, 0x4effffff, 0x4f000000, 0xcf000000, 0x5f000000, 0xdf000000,
    0x3f7fffff, 0x3effffff, 0x33000000, 0x33000001, 0x38800000, 0x387fffff, 0x477fefff, 0x477ff000,
};
static const uint64_t special64[] = {
    0,
    UINT64_C(0x8000000000000000),
    UINT64_C(0x7ff0000000000000),
    UINT64_C(0xfff0000000000000),
    UINT64_C(0x7ff8000000000000),
    UINT64_C(0x7ff0000000000001),
    UINT64_C(0xfff8123456789abc),
    UINT64_C(0xfff0123456789abc),
    1,
    UINT64_C(0x8000000000000001),
    UINT64_C(0x000fffffffffffff),
    UINT64_C(0x0010000000000000),
    UINT64_C(0x0010000000000001),
    UINT64_C(0x7fefffffffffffff),
    UINT64_C(0x3ff0000000000000),
    UINT64_C(0xbff0000000000000),
    UINT64_C(0x3fe0000000000000),
    UINT64_C(0x3fdfffffffffffff),
    UINT64_C(0x41dfffffffc00000),
    UINT64_C(0x41e0000000000000),
    UINT64_C(0xc1e0000000000000),
    UINT64_C(0xc1e0000000100000),
    UINT64_C(0xc1e0000000200000),
    UINT64_C(0x43e0000000000000),
    UINT64_C(0xc3e0000000000000),
    UINT64_C(0x47efffffe0000000),
    UINT64_C(0x47effffff0000000),
    UINT64_C(0x380fffffffffffff),
    UINT64_C(0x3810000000000000),
    UINT64_C(0x36a0000000000000),
    UINT64_C(0x3690000000000000),
};

/* Some are special, some have an exponent from a chosen range, some few bits. */
static uint64_t operand32(void)
{
    uint32_t r = next() >> 32;

    switch (next() >> 32 & 7) {
    case 0:
    case 1: return special32[r % G_N_ELEMENTS(special32)];
    case 2: return r & 0x807fffff;
    case 3: return r & 0x81ffffff;
    case 4: return (r & 0x83ffffff) | 0x3e000000;
    case 5: return (r & 0xff000001) | (r >> 3 & 7) << 21;
    case 6: return (r & 0x87ffffff) | 0x48000000;
    default: return r;
    }
}

static uint64_t operand64(void)
{
    uint64_t r = next();

    switch (next() >> 32 & 7) {
    case 0:
    case 1: return special64[(r >> 32) % G_N_ELEMENTS(special64)];
    case 2: return r & UINT64_C(0x803fffffffffffff);
    case 3: return (r & UINT64_C(0x803fffffffffffff)) | UINT64_C(0x3fc0000000000000);
    case 4: return (r & UINT64_C(0xffe0000000000001)) | (r >> 3 & 7) << 48;
    case 5: return (r & UINT64_C(0x80ffffffffffffff)) | UINT64_C(0x4180000000000000);
    case 6: return (r & UINT64_C(0x81ffffffffffffff)) | UINT64_C(0x3800000000000000);
    default: return r;
    }
}

static uint64_t operand_int(void)
{
    uint64_t r = next() >> (next() >> 32 & 63);

    return next() >> 63 ? -r : r;
}

static uint64_t operand_half(void)
{
    return next() >> 48;
}

/* --- The host ----------------------------------------------------------------------------------------------------- */

static uint32_t host_swap_mxcsr(uint32_t v)
{
    uint32_t old;
    __asm__ volatile("stmxcsr %0\n ldmxcsr %1" : "=m"(old) : "m"(v));
    return old;
}

/* Vector registers as 64-bit integers in double variables, so that scalars of both widths go the same way. */
static double as_double(uint64_t v)
{
    double d;
    memcpy(&d, &v, sizeof d);
    return d;
}
static uint64_t as_bits(double d)
{
    uint64_t v;
    memcpy(&v, &d, sizeof v);
    return v;
}

#define HOST(name, mask, code) \
    static struct answer host_##name(struct args g) \
    { \
        double x = as_double(g.a), y = as_double(g.b), z = as_double(g.c); \
        uint64_t r = 0; \
        uint32_t old = host_swap_mxcsr(g.mxcsr); \
        __asm__ volatile(code : "+x"(x), "+x"(z), "+r"(r) : "x"(y), "r"(g.a) : "cc"); \
        uint32_t flags = host_swap_mxcsr(old) & MXCSR_FLAGS; \
        r |= as_bits(x); \
        return (struct answer){ r & (mask), flags }; \
    }
#define MASK32 UINT32_MAX
#define MASK64 UINT64_MAX
/* The result is in a general register: nothing else may be seen. */
#define TO_GENERAL "\n xorps %0, %0"
#define HOST_BOTH(name, insn) \
    HOST(name##32, MASK32, insn "ss %3, %0") \
    HOST(name##64, MASK64, insn "sd %3, %0")
#define HOST_FMA(name, insn) \
    HOST(name##32, MASK32, insn "ss %3, %0, %1\n movaps %1, %0") \
    HOST(name##64, MASK64, insn "sd %3, %0, %1\n movaps %1, %0")

HOST_BOTH(add, "add")
HOST_BOTH(sub, "sub")
HOST_BOTH(mul, "mul")
HOST_BOTH(div, "div")
HOST_BOTH(min, "min")
HOST_BOTH(max, "max")
HOST_FMA(fmadd, "vfmadd231")
HOST_FMA(fmsub, "vfmsub231")
HOST_FMA(fnmadd, "vfnmadd231")
HOST_FMA(fnmsub, "vfnmsub231")
HOST(sqrt32, MASK32, "sqrtss %0, %0")
HOST(sqrt64, MASK64, "sqrtsd %0, %0")
HOST(f32_to_f64, MASK64, "cvtss2sd %0, %0")
HOST(f64_to_f32, MASK32, "cvtsd2ss %0, %0")
HOST(i32_to_f32, MASK32, "cvtsi2ssl %k4, %0")
HOST(i64_to_f32, MASK32, "cvtsi2ssq %4, %0")
HOST(i32_to_f64, MASK64, "cvtsi2sdl %k4, %0")
HOST(i64_to_f64, MASK64, "cvtsi2sdq %4, %0")
HOST(f32_to_i32, MASK32, "cvtss2si %0, %k2" TO_GENERAL)
HOST(f32_to_i64, MASK64, "cvtss2si %0, %2" TO_GENERAL)
HOST(f64_to_i32, MASK32, "cvtsd2si %0, %k2" TO_GENERAL)
HOST(f64_to_i64, MASK64, "cvtsd2si %0, %2" TO_GENERAL)
HOST(f32_to_i32_trunc, MASK32, "cvttss2si %0, %k2" TO_GENERAL)
HOST(f32_to_i64_trunc, MASK64, "cvttss2si %0, %2" TO_GENERAL)
HOST(f64_to_i32_trunc, MASK32, "cvttsd2si %0, %k2" TO_GENERAL)
HOST(f64_to_i64_trunc, MASK64, "cvttsd2si %0, %2" TO_GENERAL)
HOST(round32, MASK32, "roundss $4, %0, %0")
HOST(round64, MASK64, "roundsd $4, %0, %0")
HOST(round_quietly32, MASK32, "roundss $9, %0, %0")
HOST(round_quietly64, MASK64, "roundsd $9, %0, %0")
HOST(f16_to_f32, MASK32, "vcvtph2ps %0, %0")
HOST(f32_to_f16, 0xffff, "vcvtps2ph $4, %0, %0")
HOST(less32, MASK32, "cmpltss %3, %0")
HOST(less64, MASK64, "cmpltsd %3, %0")
HOST(equal32, MASK32, "cmpeqss %3, %0")
HOST(equal64, MASK64, "cmpeqsd %3, %0")
HOST(unordered64, MASK64, "cmpunordsd %3, %0")

/* --- Ours -----------------------------------------------------------------------------------------------------------
 */

#define SOFT(name, expr) \
    static struct answer soft_##name(struct args g) \
    { \
        struct sf_env env = { .mxcsr = g.mxcsr }; \
        uint64_t value = (expr); \
        return (struct answer){ value, env.flags }; \
    }
#define SOFT_UNARY(name) SOFT(name, sf_##name(&env, g.a))
#define SOFT_BOTH(name) SOFT(name##32, sf_##name##32(&env, g.a, g.b)) SOFT(name##64, sf_##name##64(&env, g.a, g.b))
#define SOFT_FMA(name, product, addend) \
    SOFT(name##32, sf_fma32(&env, g.a, g.b, g.c, product, addend)) \
    SOFT(name##64, sf_fma64(&env, g.a, g.b, g.c, product, addend))

SOFT_BOTH(add)
SOFT_BOTH(sub)
SOFT_BOTH(mul)
SOFT_BOTH(div)
SOFT_BOTH(min)
SOFT_BOTH(max)
SOFT_FMA(fmadd, false, false)
SOFT_FMA(fmsub, false, true)
SOFT_FMA(fnmadd, true, false)
SOFT_FMA(fnmsub, true, true)
SOFT_UNARY(sqrt32)
SOFT_UNARY(sqrt64)
SOFT_UNARY(f32_to_f64)
SOFT_UNARY(f64_to_f32)
SOFT_UNARY(i32_to_f32)
SOFT_UNARY(i64_to_f32)
SOFT_UNARY(i32_to_f64)
SOFT_UNARY(i64_to_f64)
SOFT_UNARY(f32_to_i32)
SOFT_UNARY(f32_to_i64)
SOFT_UNARY(f64_to_i32)
SOFT_UNARY(f64_to_i64)
SOFT_UNARY(f32_to_i32_trunc)
SOFT_UNARY(f32_to_i64_trunc)
SOFT_UNARY(f64_to_i32_trunc)
SOFT_UNARY(f64_to_i64_trunc)
SOFT_UNARY(f16_to_f32)
SOFT(f32_to_f16, sf_f32_to_f16(&env, g.a, sf_env_round(&env)))
SOFT(round32, sf_round32(&env, g.a, sf_env_round(&env), true))
SOFT(round64, sf_round64(&env, g.a, sf_env_round(&env), true))
SOFT(round_quietly32, sf_round32(&env, g.a, SF_DOWN, false))
SOFT(round_quietly64, sf_round64(&env, g.a, SF_DOWN, false))
SOFT(less32, sf_compare32(&env, g.a, g.b, true) == SF_LESS ? MASK32 : 0)
SOFT(less64, sf_compare64(&env, g.a, g.b, true) == SF_LESS ? MASK64 : 0)
SOFT(equal32, sf_compare32(&env, g.a, g.b, false) == SF_EQUAL ? MASK32 : 0)
SOFT(equal64, sf_compare64(&env, g.a, g.b, false) == SF_EQUAL ? MASK64 : 0)
SOFT(unordered64, sf_compare64(&env, g.a, g.b, false) == SF_UNORDERED ? MASK64 : 0)

/* --- The comparison
 * --------------------------------------------------------------------------------------------------- */

struct operation {
    const char *name;
    struct answer (*host)(struct args g), (*soft)(struct args g);
    uint64_t (*operand)(void);
};

#define OPERATION(name, operand) \
    { \
#name, host_##name, soft_##name, operand \
    }
#define BOTH(name) OPERATION(name##32, operand32), OPERATION(name##64, operand64)
static const struct operation operations[] = {
    BOTH(add),
    BOTH(sub),
    BOTH(mul),
    BOTH(div),
    BOTH(min),
    BOTH(max),
    BOTH(sqrt),
    BOTH(fmadd),
    BOTH(fmsub),
    BOTH(fnmadd),
    BOTH(fnmsub),
    BOTH(round),
    BOTH(round_quietly),
    BOTH(less),
    BOTH(equal),
    OPERATION(unordered64, operand64),
    OPERATION(f32_to_f64, operand32),
    OPERATION(f64_to_f32, operand64),
    OPERATION(i32_to_f32, operand_int),
    OPERATION(i64_to_f32, operand_int),
    OPERATION(i32_to_f64, operand_int),
    OPERATION(i64_to_f64, operand_int),
    OPERATION(f32_to_i32, operand32),
    OPERATION(f32_to_i64, operand32),
    OPERATION(f64_to_i32, operand64),
    OPERATION(f64_to_i64, operand64),
    OPERATION(f32_to_i32_trunc, operand32),
    OPERATION(f32_to_i64_trunc, operand32),
    OPERATION(f64_to_i32_trunc, operand64),
    OPERATION(f64_to_i64_trunc, operand64),
    OPERATION(f16_to_f32, operand_half),
    OPERATION(f32_to_f16, operand32),
};

/* Sometimes an addend that nearly cancels the product, or equal operands. */
static struct args choose(const struct operation *o)
{
    struct args g = { .a = o->operand(), .b = o->operand(), .c = o->operand(), .mxcsr = MXCSR_RESET };

    g.mxcsr |= next() >> 32 & MXCSR_RC;
    g.mxcsr |= next() >> 62 ? 0 : MXCSR_DAZ;
    g.mxcsr |= next() >> 62 ? 0 : MXCSR_FTZ;
    if (next() >> 61 == 0)
        g.b = g.a;
    if (next() >> 62 == 0) {
        struct sf_env env = { .mxcsr = MXCSR_RESET };
        uint64_t sign = o->operand == operand32 ? UINT64_C(1) << 31 : UINT64_C(1) << 63;
        g.c = (o->operand == operand32 ? sf_mul32 : sf_mul64)(&env, g.a, g.b);
        g.c ^= (next() >> 63 ? sign : 0) | next() >> 63;
    }
    return g;
}

static void test_operation(gconstpointer data)
{
    const struct operation *o = data;

    if (!__builtin_cpu_supports("fma") || !__builtin_cpu_supports("avx2")) {
        g_test_skip("the host has no FMA");
        return;
    }
    for (unsigned n = 0; n < COUNT; n++) {
        struct args g = choose(o);
        struct answer host = o->host(g), soft = o->soft(g);
        if (host.value == soft.value && host.flags == soft.flags)
            continue;
        g_test_message("a %#" PRIx64 " b %#" PRIx64 " c %#" PRIx64 " mxcsr %#x: host %#" PRIx64
                       " flags %#x, ours %#" PRIx64 " flags %#x",
                       g.a, g.b, g.c, g.mxcsr, host.value, host.flags, soft.value, soft.flags);
        g_test_fail();
        return;
    }
}

#endif

/* Relative error of every thousandth normal number. */
static void test_approximations(void)
{
    double worst_rcp = 0, worst_rsqrt = 0;

    for (uint32_t bits = 0x00800000; bits < 0x7e800000; bits += 997) {
        uint32_t rcp = sf_rcp32(bits), rsqrt = sf_rsqrt32(bits);
        float x, r, s;
        memcpy(&x, &bits, 4);
        memcpy(&r, &rcp, 4);
        memcpy(&s, &rsqrt, 4);
        worst_rcp = fmax(worst_rcp, fabs((double)r * x - 1));
        worst_rsqrt = fmax(worst_rsqrt, fabs(s * sqrt(x) - 1));
    }
    g_assert_cmpfloat(worst_rcp, <, 1.5 / 4096);
    g_assert_cmpfloat(worst_rsqrt, <, 1.5 / 4096);
    g_assert_cmphex(sf_rcp32(0x80000001), ==, 0xff800000); /* a denormal counts as zero */
    g_assert_cmphex(sf_rcp32(0x7f7fffff), ==, 0);          /* and a denormal result is zero */
    g_assert_cmphex(sf_rcp32(0x3f800000), ==, 0x3f800000);
    g_assert_cmphex(sf_rsqrt32(0x40800000), ==, 0x3f000000);
    g_assert_cmphex(sf_rsqrt32(0xbf800000), ==, 0xffc00000);
    g_assert_cmphex(sf_rsqrt32(0x80000000), ==, 0xff800000);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#ifdef __x86_64__
    for (unsigned n = 0; n < G_N_ELEMENTS(operations); n++) {
        char *path = g_strdup_printf("/softfp/%s", operations[n].name);
        g_test_add_data_func(path, &operations[n], test_operation);
        g_free(path);
    }
#endif
    g_test_add_func("/softfp/approximations", test_approximations);
    return g_test_run();
}
