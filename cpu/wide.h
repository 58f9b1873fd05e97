/*
 * 64 by 64 bit multiplication to 128 bits and the division back, for hosts with and without a 128-bit integer type.
 */
#ifndef CPU_WIDE_H
#define CPU_WIDE_H

#include <stdbool.h>
#include <stdint.h>

struct wide {
    uint64_t lo, hi;
};

/* In 32-bit pieces, as on paper. */
static inline struct wide wide_mul_pieces(uint64_t a, uint64_t b)
{
    uint64_t a0 = (uint32_t)a, a1 = a >> 32, b0 = (uint32_t)b, b1 = b >> 32;
    uint64_t low = a0 * b0;
    uint64_t mid = a1 * b0 + (low >> 32);
    uint64_t mid2 = a0 * b1 + (uint32_t)mid;

    return (struct wide){ mid2 << 32 | (uint32_t)low, a1 * b1 + (mid >> 32) + (mid2 >> 32) };
}

/* Bit by bit. d is not 0 and greater than n.hi. */
static inline uint64_t wide_div_bits(struct wide n, uint64_t d, uint64_t *rem)
{
    uint64_t q = 0, r = n.hi;

    for (int bit = 63; bit >= 0; bit--) {
        bool carry = r >> 63;
        r = r << 1 | (n.lo >> bit & 1);
        if (carry || r >= d) {
            r -= d;
            q |= UINT64_C(1) << bit;
        }
    }
    *rem = r;
    return q;
}

#ifdef __SIZEOF_INT128__
static inline struct wide wide_mul(uint64_t a, uint64_t b)
{
    unsigned __int128 p = (unsigned __int128)a * b;
    return (struct wide){ (uint64_t)p, (uint64_t)(p >> 64) };
}

/* n / d, which must fit into 64 bits: d > n.hi. */
static inline uint64_t wide_div(struct wide n, uint64_t d, uint64_t *rem)
{
    if (n.hi == 0) {
        *rem = n.lo % d;
        return n.lo / d;
    }
    unsigned __int128 v = (unsigned __int128)n.hi << 64 | n.lo;
    *rem = (uint64_t)(v % d);
    return (uint64_t)(v / d);
}
#else
static inline struct wide wide_mul(uint64_t a, uint64_t b)
{
    return wide_mul_pieces(a, b);
}

static inline uint64_t wide_div(struct wide n, uint64_t d, uint64_t *rem)
{
    return wide_div_bits(n, d, rem);
}
#endif

static inline struct wide wide_mul_signed(int64_t a, int64_t b)
{
    struct wide p = wide_mul((uint64_t)a, (uint64_t)b);

    p.hi -= (a < 0 ? (uint64_t)b : 0) + (b < 0 ? (uint64_t)a : 0);
    return p;
}

static inline struct wide wide_negate(struct wide n)
{
    return (struct wide){ 0 - n.lo, ~n.hi + (n.lo == 0) };
}

#endif
