/*
 * Unsigned numbers of 128 bits, for hosts with and without such a type: what multiplication and division of 64 bits
 * need, and floating point made of integers.
 */
#ifndef CPU_WIDE_H
#define CPU_WIDE_H

#include <stdbool.h>
#include <stdint.h>

struct wide {
    uint64_t lo, hi;
};

static inline struct wide wide_make(uint64_t hi, uint64_t lo)
{
    return (struct wide){ .lo = lo, .hi = hi };
}

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

static inline struct wide wide_add(struct wide a, struct wide b)
{
    uint64_t lo = a.lo + b.lo;
    return wide_make(a.hi + b.hi + (lo < a.lo), lo);
}

static inline struct wide wide_sub(struct wide a, struct wide b)
{
    return wide_make(a.hi - b.hi - (a.lo < b.lo), a.lo - b.lo);
}

static inline bool wide_less(struct wide a, struct wide b)
{
    return a.hi < b.hi || (a.hi == b.hi && a.lo < b.lo);
}

static inline struct wide wide_shl(struct wide a, unsigned n)
{
    if (n >= 64)
        return wide_make(n >= 128 ? 0 : a.lo << (n - 64), 0);
    return n ? wide_make(a.hi << n | a.lo >> (64 - n), a.lo << n) : a;
}

/* Shifts right; bits that fall out leave bit 0 set. */
static inline struct wide wide_shr_sticky(struct wide a, unsigned n)
{
    if (n == 0)
        return a;
    if (n < 64)
        return wide_make(a.hi >> n, a.hi << (64 - n) | a.lo >> n | (a.lo << (64 - n) != 0));
    if (n == 64)
        return wide_make(0, a.hi | (a.lo != 0));
    if (n < 128)
        return wide_make(0, a.hi >> (n - 64) | ((a.hi << (128 - n) | a.lo) != 0));
    return wide_make(0, (a.hi | a.lo) != 0);
}

/* The root of n, rounded down; *rem is what is left, at most twice the root. */
static inline uint64_t wide_sqrt(struct wide n, struct wide *rem)
{
    uint64_t root = 0;
    struct wide left = { 0 };

    for (int digit = 0; digit < 64; digit++) {
        left = wide_shl(left, 2);
        left.lo |= n.hi >> 62;
        n = wide_shl(n, 2);
        /* The next digit is 1 if 4 * root + 1 fits in what is left. */
        struct wide trial = wide_make(root >> 62, root << 2 | 1);
        root <<= 1;
        if (!wide_less(left, trial)) {
            left = wide_sub(left, trial);
            root |= 1;
        }
    }
    *rem = left;
    return root;
}

static inline struct wide wide_negate(struct wide n)
{
    return (struct wide){ 0 - n.lo, ~n.hi + (n.lo == 0) };
}

#endif
