/* Operands for tests of 80-bit arithmetic: see the header. */
#include "tests/lib/float80_operands.h"

#include "cpu/float80.h"

#include <glib.h>

#define LENGTH(array) (sizeof(array) / sizeof(array)[0])

const struct float80 operand_specials[] = {
    { .sexp = 0x0000, .mant = 0 },
    { .sexp = 0x0000, .mant = 1 },
    { .sexp = 0x0000, .mant = UINT64_C(0x4000000000000000) },
    { .sexp = 0x0000, .mant = UINT64_C(0x7fffffffffffffff) },
    { .sexp = 0x0000, .mant = UINT64_C(0x8000000000000000) }, /* pseudo-denormals */
    { .sexp = 0x0000, .mant = UINT64_C(0xffffffffffffffff) },
    { .sexp = 0x0001, .mant = UINT64_C(0x8000000000000000) },
    { .sexp = 0x0001, .mant = UINT64_C(0xffffffffffffffff) },
    { .sexp = 0x0001, .mant = 1 }, /* unnormals */
    { .sexp = 0x3fff, .mant = 0 },
    { .sexp = 0x3fff, .mant = UINT64_C(0x7fffffffffffffff) },
    { .sexp = 0x3ffe, .mant = UINT64_C(0x8000000000000000) }, /* 0.5 */
    { .sexp = 0x3ffe, .mant = UINT64_C(0xffffffffffffffff) },
    { .sexp = 0x3fff, .mant = UINT64_C(0x8000000000000000) }, /* 1 */
    { .sexp = 0x3fff, .mant = UINT64_C(0x8000000000000001) },
    { .sexp = 0x3fff, .mant = UINT64_C(0xc000000000000000) },
    { .sexp = 0x4000, .mant = UINT64_C(0x8000000000000000) }, /* 2 */
    { .sexp = 0x4000, .mant = UINT64_C(0xc90fdaa22168c235) }, /* pi */
    { .sexp = 0x400c, .mant = UINT64_C(0xc000000000000000) }, /* 24576 */
    { .sexp = 0x400e, .mant = UINT64_C(0xffff000000000000) }, /* about 2^16 */
    { .sexp = 0x400e, .mant = UINT64_C(0x8000000000000000) },
    { .sexp = 0x401e, .mant = UINT64_C(0x8000000000000000) },
    { .sexp = 0x403a, .mant = UINT64_C(0xde0b6b3a763fffff) }, /* 10^18 - 1 and near */
    { .sexp = 0x403a, .mant = UINT64_C(0xde0b6b3a763ffff0) },
    { .sexp = 0x403a, .mant = UINT64_C(0xde0b6b3a76400000) },
    { .sexp = 0x403d, .mant = UINT64_C(0xffffffffffffffff) },
    { .sexp = 0x403e, .mant = UINT64_C(0x8000000000000000) }, /* 2^63 */
    { .sexp = 0x403f, .mant = UINT64_C(0x8000000000000000) },
    { .sexp = 0x7ffe, .mant = UINT64_C(0x8000000000000000) },
    { .sexp = 0x7ffe, .mant = UINT64_C(0xffffffffffffffff) },
    { .sexp = 0x7fff, .mant = 0 }, /* pseudo-infinity and pseudo-NaN */
    { .sexp = 0x7fff, .mant = UINT64_C(0x4000000000000001) },
    { .sexp = 0x7fff, .mant = UINT64_C(0x8000000000000000) },
    { .sexp = 0x7fff, .mant = UINT64_C(0x8000000000000001) }, /* signalling */
    { .sexp = 0x7fff, .mant = UINT64_C(0xbfffffffffffffff) },
    { .sexp = 0x7fff, .mant = UINT64_C(0xc000000000000000) },
    { .sexp = 0x7fff, .mant = UINT64_C(0xffffffffffffffff) },
};

const unsigned operand_special_count = LENGTH(operand_specials);

struct float80 operand_special(unsigned n)
{
    struct float80 v = operand_specials[n / 2];
    v.sexp |= n & 1 ? FLOAT80_SIGN : 0;
    return v;
}

uint64_t operand_random64(void)
{
    return (uint64_t)g_test_rand_int() << 32 | (uint32_t)g_test_rand_int();
}

/* Few bits set, few clear, or any; exponents where things happen. */
struct float80 operand_random(void)
{
    static const int centre[] = { 0,           0,      1,      24,          53,          64,
                                  0x3fff - 64, 0x3fff, 0x3fff, 0x3fff + 16, 0x3fff + 32, 0x3fff + 63,
                                  0x7fff,      0x3f81, 0x407e, 0x3c01,      0x43fe };
    uint32_t pick = g_test_rand_int();
    struct float80 v;
    if (pick % 16 == 0) {
        v = operand_specials[(pick >> 8) % LENGTH(operand_specials)];
        v.sexp ^= pick >> 16 & FLOAT80_SIGN;
        return v;
    }
    v.mant = operand_random64();
    switch (pick >> 4 & 7) {
    case 0: v.mant &= operand_random64() & operand_random64() & operand_random64(); break;
    case 1: v.mant |= operand_random64() | operand_random64() | operand_random64(); break;
    case 2: v.mant &= ~UINT64_C(0) << (pick >> 24 & 63); break;
    case 3: v.mant |= ~(~UINT64_C(0) << (pick >> 24 & 63)); break;
    default: break;
    }
    if (pick >> 8 & 31)
        v.mant |= FLOAT80_INT;
    unsigned exp = pick >> 13 & 3 ? (unsigned)centre[(pick >> 16) % LENGTH(centre)] + (g_test_rand_int() & 7) - 3
                                  : (unsigned)g_test_rand_int();
    v.sexp = (exp & FLOAT80_EXP) | (pick >> 15 & 1 ? FLOAT80_SIGN : 0);
    return v;
}

struct float80 operand_near(struct float80 a)
{
    struct float80 b = operand_random();
    uint32_t pick = g_test_rand_int();
    if (pick & 1)
        b.sexp = (b.sexp & FLOAT80_SIGN) | ((a.sexp + (int)(pick >> 8 & 127) - 64) & FLOAT80_EXP);
    if ((pick >> 1 & 15) == 0)
        b.mant = a.mant + (pick >> 28) - 8;
    return b;
}

uint16_t operand_control(void)
{
    uint32_t pick = g_test_rand_int();
    uint16_t cw = pick & (FPU_PC_MASK | FPU_RC_MASK);
    return cw | 0x40 | (pick >> 16 & 1 ? FPU_EXCEPTIONS : pick >> 20 & FPU_EXCEPTIONS);
}

bool operand_alike(struct float80 a, struct float80 b, bool ulp)
{
    if (a.sexp == b.sexp)
        return (a.mant > b.mant ? a.mant - b.mant : b.mant - a.mant) <= ulp;
    /* Neighbours on both sides of a power of two, or of the smallest normal number. */
    if (b.sexp == a.sexp + 1)
        return operand_alike(b, a, ulp);
    uint64_t below = b.sexp & FLOAT80_EXP ? UINT64_MAX : FLOAT80_INT - 1;
    return ulp && a.sexp == b.sexp + 1 && a.mant == FLOAT80_INT && b.mant == below;
}
