/*
 * AES, PCLMULQDQ and SHA.
 *
 * FIPS 197, FIPS 180-4, Intel SDM volume 2. Not made against observers of our own timing: the tables are indexed by
 * guest data. Runs on the vCPU's thread.
 */
#include "cpu/ops.h"
#include "cpu/vec.h"
#include "cpu/wide.h"

static inline uint32_t rotate_left(uint32_t v, unsigned n)
{
    return v << n | v >> (32 - n);
}

static inline uint32_t rotate_right(uint32_t v, unsigned n)
{
    return v >> n | v << (32 - n);
}

/* --- AES: a state is four columns, each a 32-bit lane with its first row lowest ----------------------------------- */

/* clang-format off */
static const uint8_t sbox[256] = {
    0x63, 0x7c, 0x77, 0x7b, 0xf2, 0x6b, 0x6f, 0xc5, 0x30, 0x01, 0x67, 0x2b, 0xfe, 0xd7, 0xab, 0x76,
    0xca, 0x82, 0xc9, 0x7d, 0xfa, 0x59, 0x47, 0xf0, 0xad, 0xd4, 0xa2, 0xaf, 0x9c, 0xa4, 0x72, 0xc0,
    0xb7, 0xfd, 0x93, 0x26, 0x36, 0x3f, 0xf7, 0xcc, 0x34, 0xa5, 0xe5, 0xf1, 0x71, 0xd8, 0x31, 0x15,
    0x04, 0xc7, 0x23, 0xc3, 0x18, 0x96, 0x05, 0x9a, 0x07, 0x12, 0x80, 0xe2, 0xeb, 0x27, 0xb2, 0x75,
    0x09, 0x83, 0x2c, 0x1a, 0x1b, 0x6e, 0x5a, 0xa0, 0x52, 0x3b, 0xd6, 0xb3, 0x29, 0xe3, 0x2f, 0x84,
    0x53, 0xd1, 0x00, 0xed, 0x20, 0xfc, 0xb1, 0x5b, 0x6a, 0xcb, 0xbe, 0x39, 0x4a, 0x4c, 0x58, 0xcf,
    0xd0, 0xef, 0xaa, 0xfb, 0x43, 0x4d, 0x33, 0x85, 0x45, 0xf9, 0x02, 0x7f, 0x50, 0x3c, 0x9f, 0xa8,
    0x51, 0xa3, 0x40, 0x8f, 0x92, 0x9d, 0x38, 0xf5, 0xbc, 0xb6, 0xda, 0x21, 0x10, 0xff, 0xf3, 0xd2,
    0xcd, 0x0c, 0x13, 0xec, 0x5f, 0x97, 0x44, 0x17, 0xc4, 0xa7, 0x7e, 0x3d, 0x64, 0x5d, 0x19, 0x73,
    0x60, 0x81, 0x4f, 0xdc, 0x22, 0x2a, 0x90, 0x88, 0x46, 0xee, 0xb8, 0x14, 0xde, 0x5e, 0x0b, 0xdb,
    0xe0, 0x32, 0x3a, 0x0a, 0x49, 0x06, 0x24, 0x5c, 0xc2, 0xd3, 0xac, 0x62, 0x91, 0x95, 0xe4, 0x79,
    0xe7, 0xc8, 0x37, 0x6d, 0x8d, 0xd5, 0x4e, 0xa9, 0x6c, 0x56, 0xf4, 0xea, 0x65, 0x7a, 0xae, 0x08,
    0xba, 0x78, 0x25, 0x2e, 0x1c, 0xa6, 0xb4, 0xc6, 0xe8, 0xdd, 0x74, 0x1f, 0x4b, 0xbd, 0x8b, 0x8a,
    0x70, 0x3e, 0xb5, 0x66, 0x48, 0x03, 0xf6, 0x0e, 0x61, 0x35, 0x57, 0xb9, 0x86, 0xc1, 0x1d, 0x9e,
    0xe1, 0xf8, 0x98, 0x11, 0x69, 0xd9, 0x8e, 0x94, 0x9b, 0x1e, 0x87, 0xe9, 0xce, 0x55, 0x28, 0xdf,
    0x8c, 0xa1, 0x89, 0x0d, 0xbf, 0xe6, 0x42, 0x68, 0x41, 0x99, 0x2d, 0x0f, 0xb0, 0x54, 0xbb, 0x16,
};
static const uint8_t inverse_sbox[256] = {
    0x52, 0x09, 0x6a, 0xd5, 0x30, 0x36, 0xa5, 0x38, 0xbf, 0x40, 0xa3, 0x9e, 0x81, 0xf3, 0xd7, 0xfb,
    0x7c, 0xe3, 0x39, 0x82, 0x9b, 0x2f, 0xff, 0x87, 0x34, 0x8e, 0x43, 0x44, 0xc4, 0xde, 0xe9, 0xcb,
    0x54, 0x7b, 0x94, 0x32, 0xa6, 0xc2, 0x23, 0x3d, 0xee, 0x4c, 0x95, 0x0b, 0x42, 0xfa, 0xc3, 0x4e,
    0x08, 0x2e, 0xa1, 0x66, 0x28, 0xd9, 0x24, 0xb2, 0x76, 0x5b, 0xa2, 0x49, 0x6d, 0x8b, 0xd1, 0x25,
    0x72, 0xf8, 0xf6, 0x64, 0x86, 0x68, 0x98, 0x16, 0xd4, 0xa4, 0x5c, 0xcc, 0x5d, 0x65, 0xb6, 0x92,
    0x6c, 0x70, 0x48, 0x50, 0xfd, 0xed, 0xb9, 0xda, 0x5e, 0x15, 0x46, 0x57, 0xa7, 0x8d, 0x9d, 0x84,
    0x90, 0xd8, 0xab, 0x00, 0x8c, 0xbc, 0xd3, 0x0a, 0xf7, 0xe4, 0x58, 0x05, 0xb8, 0xb3, 0x45, 0x06,
    0xd0, 0x2c, 0x1e, 0x8f, 0xca, 0x3f, 0x0f, 0x02, 0xc1, 0xaf, 0xbd, 0x03, 0x01, 0x13, 0x8a, 0x6b,
    0x3a, 0x91, 0x11, 0x41, 0x4f, 0x67, 0xdc, 0xea, 0x97, 0xf2, 0xcf, 0xce, 0xf0, 0xb4, 0xe6, 0x73,
    0x96, 0xac, 0x74, 0x22, 0xe7, 0xad, 0x35, 0x85, 0xe2, 0xf9, 0x37, 0xe8, 0x1c, 0x75, 0xdf, 0x6e,
    0x47, 0xf1, 0x1a, 0x71, 0x1d, 0x29, 0xc5, 0x89, 0x6f, 0xb7, 0x62, 0x0e, 0xaa, 0x18, 0xbe, 0x1b,
    0xfc, 0x56, 0x3e, 0x4b, 0xc6, 0xd2, 0x79, 0x20, 0x9a, 0xdb, 0xc0, 0xfe, 0x78, 0xcd, 0x5a, 0xf4,
    0x1f, 0xdd, 0xa8, 0x33, 0x88, 0x07, 0xc7, 0x31, 0xb1, 0x12, 0x10, 0x59, 0x27, 0x80, 0xec, 0x5f,
    0x60, 0x51, 0x7f, 0xa9, 0x19, 0xb5, 0x4a, 0x0d, 0x2d, 0xe5, 0x7a, 0x9f, 0x93, 0xc9, 0x9c, 0xef,
    0xa0, 0xe0, 0x3b, 0x4d, 0xae, 0x2a, 0xf5, 0xb0, 0xc8, 0xeb, 0xbb, 0x3c, 0x83, 0x53, 0x99, 0x61,
    0x17, 0x2b, 0x04, 0x7e, 0xba, 0x77, 0xd6, 0x26, 0xe1, 0x69, 0x14, 0x63, 0x55, 0x21, 0x0c, 0x7d,
};
/* clang-format on */

/* Each byte times x in the field. */
static inline uint32_t times_x(uint32_t v)
{
    return (v & 0x7f7f7f7f) << 1 ^ (v >> 7 & 0x01010101) * 0x1b;
}

static inline uint32_t mix_column(uint32_t v)
{
    uint32_t sum = v ^ rotate_right(v, 8);

    return times_x(sum) ^ rotate_right(v, 8) ^ rotate_right(v ^ rotate_right(v, 8), 16);
}

static inline uint32_t inverse_mix_column(uint32_t v)
{
    /* The inverse matrix is the matrix times (04 x^2 + 05). */
    uint32_t four = times_x(times_x(v));

    return mix_column(v ^ four ^ rotate_right(four, 16));
}

static uint32_t substitute(uint32_t v, const uint8_t box[256])
{
    return box[v & 0xff] | (uint32_t)box[v >> 8 & 0xff] << 8 | (uint32_t)box[v >> 16 & 0xff] << 16 |
           (uint32_t)box[v >> 24] << 24;
}

/*
 * Column `n` after ShiftRows and SubBytes; `step` 1 takes row r from r columns to the right, 3 (the inverse) to the
 * left.
 */
VEC_INLINE uint32_t aes_column(const union vec *a, const uint8_t box[256], unsigned n, unsigned step)
{
    uint32_t column = 0;

#pragma GCC unroll 4
    for (unsigned row = 0; row < 4; row++)
        column |= (uint32_t)box[a->u8[L8(4 * ((n + step * row) & 3) + row)]] << 8 * row;
    return column;
}

VEC_INLINE void aesenclast_body(VEC_BODY_ARGS)
{
#pragma GCC unroll 2
    for (unsigned w = 0; w < 2; w++)
        d->u64[w] = b->u64[w] ^ word_of_32(aes_column(a, sbox, 2 * w, 1), aes_column(a, sbox, 2 * w + 1, 1));
}

VEC_INLINE void aesdeclast_body(VEC_BODY_ARGS)
{
#pragma GCC unroll 2
    for (unsigned w = 0; w < 2; w++)
        d->u64[w] =
            b->u64[w] ^ word_of_32(aes_column(a, inverse_sbox, 2 * w, 3), aes_column(a, inverse_sbox, 2 * w + 1, 3));
}

VEC_INLINE void aesenc_body(VEC_BODY_ARGS)
{
#pragma GCC unroll 2
    for (unsigned w = 0; w < 2; w++)
        d->u64[w] = b->u64[w] ^ word_of_32(mix_column(aes_column(a, sbox, 2 * w, 1)),
                                           mix_column(aes_column(a, sbox, 2 * w + 1, 1)));
}

VEC_INLINE void aesdec_body(VEC_BODY_ARGS)
{
#pragma GCC unroll 2
    for (unsigned w = 0; w < 2; w++)
        d->u64[w] = b->u64[w] ^ word_of_32(inverse_mix_column(aes_column(a, inverse_sbox, 2 * w, 3)),
                                           inverse_mix_column(aes_column(a, inverse_sbox, 2 * w + 1, 3)));
}

VEC_INLINE void aesimc_body(VEC_BODY_ARGS)
{
#pragma GCC unroll 2
    for (unsigned w = 0; w < 2; w++)
        d->u64[w] = word_of_32(inverse_mix_column(b->u64[w]), inverse_mix_column(b->u64[w] >> 32));
}

VEC_INLINE void aeskeygenassist_body(VEC_BODY_ARGS)
{
    for (unsigned n = 0; n < 4; n += 2) {
        uint32_t v = substitute(b->u32[L32(n + 1)], sbox);
        d->u32[L32(n)] = v;
        d->u32[L32(n + 1)] = rotate_right(v, 8) ^ imm;
    }
}

VEC_X(aesenc)
VEC_X(aesenclast)
VEC_X(aesdec)
VEC_X(aesdeclast)
VEC_X(aesimc)
VEC_X(aeskeygenassist)

/* --- Carry-less multiplication ------------------------------------------------------------------------------------ */

/* Four bits of x at a time. */
static struct wide carryless_multiply(uint64_t x, uint64_t y)
{
    struct wide multiple[16] = { { 0 }, { .lo = y } }, r = { 0 };

    for (unsigned n = 2; n < 16; n++) {
        struct wide half = multiple[n / 2];
        multiple[n] = (struct wide){ .hi = half.hi << 1 | half.lo >> 63, .lo = half.lo << 1 ^ (n & 1 ? y : 0) };
    }
    for (int shift = 60; shift >= 0; shift -= 4) {
        const struct wide *m = &multiple[x >> shift & 15];
        r = (struct wide){ .hi = (r.hi << 4 | r.lo >> 60) ^ m->hi, .lo = r.lo << 4 ^ m->lo };
    }
    return r;
}

VEC_INLINE void pclmulqdq_body(VEC_BODY_ARGS)
{
    struct wide r = carryless_multiply(a->u64[imm & 1], b->u64[imm >> 4 & 1]);

    d->u64[0] = r.lo;
    d->u64[1] = r.hi;
}
VEC_X(pclmulqdq)

/* --- SHA ---------------------------------------------------------------------------------------------------------- */

static inline uint32_t choose(uint32_t x, uint32_t y, uint32_t z)
{
    return (x & y) ^ (~x & z);
}

static inline uint32_t majority(uint32_t x, uint32_t y, uint32_t z)
{
    return (x & y) ^ (x & z) ^ (y & z);
}

static inline uint32_t sha1_function(unsigned kind, uint32_t x, uint32_t y, uint32_t z)
{
    return kind == 0 ? choose(x, y, z) : kind == 2 ? majority(x, y, z) : x ^ y ^ z;
}

/* a: A, B, C, D from the top; b: W0 + E, W1, W2, W3 from the top. */
VEC_INLINE void sha1rnds4_body(VEC_BODY_ARGS)
{
    static const uint32_t constant[4] = { 0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6 };
    uint32_t s[5] = { a->u32[L32(3)], a->u32[L32(2)], a->u32[L32(1)], a->u32[L32(0)], 0 };

    for (unsigned round = 0; round < 4; round++) {
        uint32_t t = sha1_function(imm & 3, s[1], s[2], s[3]) + rotate_left(s[0], 5) + b->u32[L32(3 - round)] + s[4] +
                     constant[imm & 3];
        s[4] = s[3];
        s[3] = s[2];
        s[2] = rotate_left(s[1], 30);
        s[1] = s[0];
        s[0] = t;
    }
    for (unsigned n = 0; n < 4; n++)
        d->u32[L32(3 - n)] = s[n];
}

VEC_INLINE void sha1nexte_body(VEC_BODY_ARGS)
{
    d->u64[0] = b->u64[0];
    d->u64[1] = b->u64[1];
    d->u32[L32(3)] += rotate_left(a->u32[L32(3)], 30);
}

VEC_INLINE void sha1msg1_body(VEC_BODY_ARGS)
{
    d->u64[0] = b->u64[1] ^ a->u64[0];
    d->u64[1] = a->u64[0] ^ a->u64[1];
}

VEC_INLINE void sha1msg2_body(VEC_BODY_ARGS)
{
    for (unsigned n = 3; n > 0; n--)
        d->u32[L32(n)] = rotate_left(a->u32[L32(n)] ^ b->u32[L32(n - 1)], 1);
    d->u32[L32(0)] = rotate_left(a->u32[L32(0)] ^ d->u32[L32(3)], 1);
}

/* sigma0 and sigma1 of FIPS 180-4. */
static inline uint32_t small_sigma0(uint32_t v)
{
    return rotate_right(v, 7) ^ rotate_right(v, 18) ^ v >> 3;
}

static inline uint32_t small_sigma1(uint32_t v)
{
    return rotate_right(v, 17) ^ rotate_right(v, 19) ^ v >> 10;
}

VEC_INLINE void sha256msg1_body(VEC_BODY_ARGS)
{
    for (unsigned n = 0; n < 4; n++)
        d->u32[L32(n)] = a->u32[L32(n)] + small_sigma0(n < 3 ? a->u32[L32(n + 1)] : b->u32[L32(0)]);
}

VEC_INLINE void sha256msg2_body(VEC_BODY_ARGS)
{
    for (unsigned n = 0; n < 4; n++)
        d->u32[L32(n)] = a->u32[L32(n)] + small_sigma1(n < 2 ? b->u32[L32(n + 2)] : d->u32[L32(n - 2)]);
}

VEC_X(sha1rnds4)
VEC_X(sha1nexte)
VEC_X(sha1msg1)
VEC_X(sha1msg2)
VEC_X(sha256msg1)
VEC_X(sha256msg2)

/* reg: C, D, G, H from the top; rm: A, B, E, F; XMM0: the two words with their constants added. */
VEC_INLINE void sha256rnds2_run(struct cpu *cpu, const struct insn *i, bool mem)
{
    union vec d, tmp;
    const union vec *a = &cpu->v[i->reg], *b = vec_rm(cpu, i, &tmp, 16, mem);
    uint32_t s[8] = { b->u32[L32(3)], b->u32[L32(2)], a->u32[L32(3)], a->u32[L32(2)],
                      b->u32[L32(1)], b->u32[L32(0)], a->u32[L32(1)], a->u32[L32(0)] };

    for (unsigned round = 0; round < 2; round++) {
        uint32_t sum1 = rotate_right(s[4], 6) ^ rotate_right(s[4], 11) ^ rotate_right(s[4], 25);
        uint32_t sum0 = rotate_right(s[0], 2) ^ rotate_right(s[0], 13) ^ rotate_right(s[0], 22);
        uint32_t t = choose(s[4], s[5], s[6]) + sum1 + cpu->v[0].u32[L32(round)] + s[7];
        uint32_t top = t + majority(s[0], s[1], s[2]) + sum0, e = t + s[3];
        memmove(&s[1], &s[0], 7 * sizeof s[0]);
        s[0] = top;
        s[4] = e;
    }
    d.u32[L32(3)] = s[0];
    d.u32[L32(2)] = s[1];
    d.u32[L32(1)] = s[4];
    d.u32[L32(0)] = s[5];
    vec_write(cpu, i, i->reg, &d, 16);
}
VEC_FN(sha256rnds2_r, sha256rnds2_run(cpu, i, false))
VEC_FN(sha256rnds2_m, sha256rnds2_run(cpu, i, true))
VEC_OP_MEM(sha256rnds2, sha256rnds2_r, sha256rnds2_m)
