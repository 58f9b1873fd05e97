/*
 * The decoder against capstone on random encodings: 12 million in the three modes, from a fixed seed. A third is plain
 * noise, the rest is steered into the opcode maps, VEX and prefixes. Also: fewer bytes than an instruction has ask for
 * more, exactly as many give the same.
 */
#include "tests/lib/decode_compare.h"

#include <string.h>

#define ENCODINGS 12000000u

static uint64_t next_random(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

static void fill(uint8_t b[24], uint64_t *s)
{
    for (unsigned n = 0; n < 24; n += 8) {
        uint64_t r = next_random(s);
        memcpy(b + n, &r, 8);
    }
}

/* Bytes that lead somewhere: up to three prefixes, REX in 64-bit mode, an escape. */
static void steer(uint8_t *b, unsigned code_size, uint64_t r)
{
    static const uint8_t prefixes[16] = { 0x66, 0x66, 0x66, 0xf2, 0xf3, 0xf2, 0xf3, 0x67,
                                          0x67, 0xf0, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65 };
    unsigned n = r & 7, vex = code_size == 3 ? 0 : 0xc0;
    r >>= 3;
    for (n = n > 3 ? 0 : n; n; n--, r >>= 4)
        *b++ = prefixes[r & 15];
    if (code_size == 3 && r & 1)
        *b++ = 0x40 | (r >> 1 & 15);
    r >>= 5;
    switch (r & 7) {
    case 0:
    case 1: b[0] = 0x0f; break;
    case 2:
    case 3:
        b[0] = 0x0f;
        b[1] = r & 1 ? 0x38 : 0x3a;
        break;
    case 4:
    case 5:
        b[0] = 0xc5;
        b[1] |= vex;
        break;
    case 6:
        b[0] = 0xc4;
        b[1] = (b[1] & 0xe3) | vex;
        break;
    default: break;
    }
}

static void test_random(void)
{
    struct compare *c = compare_new();
    uint64_t s = 0x2545f4914f6cdd1d;
    unsigned bad = 0;
    for (unsigned k = 0; k < ENCODINGS; k++) {
        uint8_t b[24];
        unsigned code_size = 1 + k % 3;
        fill(b, &s);
        if (k / 3 % 3)
            steer(b, code_size, next_random(&s));
        bad += !compare_one(c, b, code_size);
    }
    compare_report(c);
    compare_free(c);
    g_assert_cmpuint(bad, ==, 0);
}

/* An instruction of n bytes: with fewer DECODE_MORE, with n the same as with 15, and behind it nothing matters. */
static void test_truncated(void)
{
    uint64_t s = 0x9e3779b97f4a7c15;
    unsigned checked = 0;
    for (unsigned k = 0; k < 200000; k++) {
        uint8_t b[24], alone[DECODE_BYTES];
        struct insn i, j;
        struct decode_mode mode = { .code_size = 1 + k % 3, .protected_mode = true };
        fill(b, &s);
        steer(b, mode.code_size, next_random(&s));
        if (decode_insn(b, DECODE_BYTES, mode, &i) != DECODE_OK)
            continue;
        for (unsigned n = 0; n < i.len; n++)
            g_assert_cmpint(decode_insn(b, n, mode, &j), ==, DECODE_MORE);
        memset(alone, 0xff, sizeof alone);
        memcpy(alone, b, i.len);
        g_assert_cmpint(decode_insn(alone, i.len, mode, &j), ==, DECODE_OK);
        g_assert_cmpmem(&i, sizeof i, &j, sizeof j);
        g_assert_cmpint(decode_insn(alone, DECODE_BYTES, mode, &j), ==, DECODE_OK);
        g_assert_cmpmem(&i, sizeof i, &j, sizeof j);
        checked++;
    }
    g_assert_cmpuint(checked, >, 50000);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/decode/random", test_random);
    g_test_add_func("/decode/truncated", test_truncated);
    return g_test_run();
}
