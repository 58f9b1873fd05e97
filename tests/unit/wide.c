/*
 * cpu/wide.h: the arithmetic in pieces against the compiler's 128-bit type, and both against known products; shifts and
 * roots by what defines them.
 */
#include "cpu/wide.h"

#include <glib.h>

static uint64_t values[200];
static unsigned value_count;

static void make_values(void)
{
    static const uint64_t edges[] = { 0, 1, 2, 3, 0xffffffff, UINT64_C(0x100000000), UINT64_C(0x100000001),
                                      UINT64_C(0x7fffffffffffffff), UINT64_C(0x8000000000000000),
                                      UINT64_C(0x8000000000000001), UINT64_MAX, UINT64_MAX - 1 };
    uint64_t r = 1;
    for (unsigned k = 0; k < G_N_ELEMENTS(edges); k++)
        values[value_count++] = edges[k];
    while (value_count < G_N_ELEMENTS(values)) {
        r = r * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        values[value_count] = (r ^ r >> 29) >> (value_count % 61);
        value_count++;
    }
}

static void test_known(void)
{
    struct wide p = wide_mul_pieces(UINT64_MAX, UINT64_MAX);
    g_assert_cmphex(p.lo, ==, 1);
    g_assert_cmphex(p.hi, ==, UINT64_MAX - 1);
    p = wide_mul_signed(INT64_MIN, -1);
    g_assert_cmphex(p.lo, ==, UINT64_C(1) << 63);
    g_assert_cmphex(p.hi, ==, 0);
    p = wide_negate((struct wide){ 0, 1 });
    g_assert_cmphex(p.lo, ==, 0);
    g_assert_cmphex(p.hi, ==, UINT64_MAX);
}

static void test_mul(void)
{
    for (unsigned a = 0; a < value_count; a++)
        for (unsigned b = 0; b < value_count; b++) {
            struct wide x = wide_mul(values[a], values[b]), y = wide_mul_pieces(values[a], values[b]);
            g_assert_cmphex(x.lo, ==, y.lo);
            g_assert_cmphex(x.hi, ==, y.hi);
        }
}

/* n / d * d + remainder is n again, whichever way it was divided. */
static void test_div(void)
{
    for (unsigned a = 0; a < value_count; a++)
        for (unsigned b = 0; b < value_count; b++) {
            uint64_t d = values[b], rem, rem2;
            struct wide n = { values[a], d ? values[(a + b) % value_count] % d : 0 };
            if (d == 0)
                continue;
            uint64_t q = wide_div(n, d, &rem);
            g_assert_cmphex(wide_div_bits(n, d, &rem2), ==, q);
            g_assert_cmphex(rem2, ==, rem);
            g_assert_cmphex(rem, <, d);
            struct wide p = wide_mul_pieces(q, d);
            g_assert_cmphex(p.lo + rem, ==, n.lo);
            g_assert_cmphex(p.hi + (p.lo + rem < rem), ==, n.hi);
        }
}

/* Against shifts by one bit. */
static void test_shift(void)
{
    for (unsigned a = 0; a < value_count; a++) {
        struct wide n = wide_make(values[a], values[(a * 7 + 3) % value_count]), left = n, right = n;
        for (unsigned by = 0; by < 140; by++) {
            struct wide l = wide_shl(n, by), r = wide_shr_sticky(n, by);
            g_assert_cmphex(l.hi, ==, left.hi);
            g_assert_cmphex(l.lo, ==, left.lo);
            g_assert_cmphex(r.hi, ==, right.hi);
            g_assert_cmphex(r.lo, ==, right.lo);
            left = wide_make(left.hi << 1 | left.lo >> 63, left.lo << 1);
            right = wide_make(right.hi >> 1, right.hi << 63 | right.lo >> 1 | (right.lo & 1));
        }
    }
}

/* root * root + rest is n again, and the rest is too small for a larger root. */
static void test_sqrt(void)
{
    for (unsigned a = 0; a < value_count; a++)
        for (unsigned b = 0; b < value_count; b += 7) {
            struct wide n = wide_make(values[a], values[b]), rest;
            uint64_t root = wide_sqrt(n, &rest);
            struct wide back = wide_add(wide_mul(root, root), rest), twice = wide_shl(wide_make(0, root), 1);
            g_assert_cmphex(back.hi, ==, n.hi);
            g_assert_cmphex(back.lo, ==, n.lo);
            g_assert_false(wide_less(twice, rest));
        }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    make_values();
    g_test_add_func("/wide/known", test_known);
    g_test_add_func("/wide/mul", test_mul);
    g_test_add_func("/wide/div", test_div);
    g_test_add_func("/wide/shift", test_shift);
    g_test_add_func("/wide/sqrt", test_sqrt);
    return g_test_run();
}
