/*
 * Packed integer arithmetic, comparison and logic: MMX, SSE2 to SSE4.2, AVX, AVX2.
 *
 * Intel SDM volume 2. Runs on the vCPU's thread.
 */
#include "cpu/ops.h"
#include "cpu/vec.h"

VEC_INLINE int clamp(int v, int lo, int hi)
{
    return v < lo ? lo : v > hi ? hi : v;
}

/* --- Add, subtract, average --------------------------------------------------------------------------------------- */

VEC_LANES(paddb, u8, x + y)
VEC_LANES(paddw, u16, x + y)
VEC_LANES(paddd, u32, x + y)
VEC_LANES(paddq, u64, x + y)
VEC_LANES(psubb, u8, x - y)
VEC_LANES(psubw, u16, x - y)
VEC_LANES(psubd, u32, x - y)
VEC_LANES(psubq, u64, x - y)
VEC_LANES(paddsb, s8, clamp(x + y, INT8_MIN, INT8_MAX))
VEC_LANES(paddsw, s16, clamp(x + y, INT16_MIN, INT16_MAX))
VEC_LANES(paddusb, u8, clamp(x + y, 0, UINT8_MAX))
VEC_LANES(paddusw, u16, clamp(x + y, 0, UINT16_MAX))
VEC_LANES(psubsb, s8, clamp(x - y, INT8_MIN, INT8_MAX))
VEC_LANES(psubsw, s16, clamp(x - y, INT16_MIN, INT16_MAX))
VEC_LANES(psubusb, u8, clamp(x - y, 0, UINT8_MAX))
VEC_LANES(psubusw, u16, clamp(x - y, 0, UINT16_MAX))
VEC_LANES(pavgb, u8, (x + y + 1) >> 1)
VEC_LANES(pavgw, u16, (x + y + 1) >> 1)

VEC_MXY(paddb)
VEC_MXY(paddw)
VEC_MXY(paddd)
VEC_MXY(paddq)
VEC_MXY(psubb)
VEC_MXY(psubw)
VEC_MXY(psubd)
VEC_MXY(psubq)
VEC_MXY(paddsb)
VEC_MXY(paddsw)
VEC_MXY(paddusb)
VEC_MXY(paddusw)
VEC_MXY(psubsb)
VEC_MXY(psubsw)
VEC_MXY(psubusb)
VEC_MXY(psubusw)
VEC_MXY(pavgb)
VEC_MXY(pavgw)

/* --- Minimum, maximum, absolute value, sign ----------------------------------------------------------------------- */

VEC_LANES(pminub, u8, x < y ? x : y)
VEC_LANES(pminsw, s16, x < y ? x : y)
VEC_LANES(pmaxub, u8, x > y ? x : y)
VEC_LANES(pmaxsw, s16, x > y ? x : y)
VEC_LANES(pminsb, s8, x < y ? x : y)
VEC_LANES(pminuw, u16, x < y ? x : y)
VEC_LANES(pminsd, s32, x < y ? x : y)
VEC_LANES(pminud, u32, x < y ? x : y)
VEC_LANES(pmaxsb, s8, x > y ? x : y)
VEC_LANES(pmaxuw, u16, x > y ? x : y)
VEC_LANES(pmaxsd, s32, x > y ? x : y)
VEC_LANES(pmaxud, u32, x > y ? x : y)
VEC_LANES(pabsb, s8, y < 0 ? -y : y)
VEC_LANES(pabsw, s16, y < 0 ? -y : y)
VEC_LANES(pabsd, u32, (int32_t)y < 0 ? -y : y)
VEC_LANES(psignb, s8, y < 0 ? -x : y ? x : 0)
VEC_LANES(psignw, s16, y < 0 ? -x : y ? x : 0)
VEC_LANES(psignd, u32, (int32_t)y < 0 ? -x : y ? x : 0)

VEC_MXY(pminub)
VEC_MXY(pminsw)
VEC_MXY(pmaxub)
VEC_MXY(pmaxsw)
VEC_XY(pminsb)
VEC_XY(pminuw)
VEC_XY(pminsd)
VEC_XY(pminud)
VEC_XY(pmaxsb)
VEC_XY(pmaxuw)
VEC_XY(pmaxsd)
VEC_XY(pmaxud)
VEC_MXY(pabsb)
VEC_MXY(pabsw)
VEC_MXY(pabsd)
VEC_MXY(psignb)
VEC_MXY(psignw)
VEC_MXY(psignd)

/* --- Comparison and logic ----------------------------------------------------------------------------------------- */

VEC_LANES(pcmpeqb, u8, x == y ? UINT8_MAX : 0)
VEC_LANES(pcmpeqw, u16, x == y ? UINT16_MAX : 0)
VEC_LANES(pcmpeqd, u32, x == y ? UINT32_MAX : 0)
VEC_LANES(pcmpeqq, u64, x == y ? UINT64_MAX : 0)
VEC_LANES(pcmpgtb, s8, x > y ? -1 : 0)
VEC_LANES(pcmpgtw, s16, x > y ? -1 : 0)
VEC_LANES(pcmpgtd, s32, x > y ? -1 : 0)
VEC_LANES(pcmpgtq, s64, x > y ? -1 : 0)
VEC_LANES(pand, u64, (x & y))
VEC_LANES(pandn, u64, (~x & y))
VEC_LANES(por, u64, (x | y))
VEC_LANES(pxor, u64, (x ^ y))
VEC_LANES(andps, u64, (x & y))
VEC_LANES(andpd, u64, (x & y))
VEC_LANES(andnps, u64, (~x & y))
VEC_LANES(andnpd, u64, (~x & y))
VEC_LANES(orps, u64, (x | y))
VEC_LANES(orpd, u64, (x | y))
VEC_LANES(xorps, u64, (x ^ y))
VEC_LANES(xorpd, u64, (x ^ y))

VEC_MXY(pcmpeqb)
VEC_MXY(pcmpeqw)
VEC_MXY(pcmpeqd)
VEC_XY(pcmpeqq)
VEC_MXY(pcmpgtb)
VEC_MXY(pcmpgtw)
VEC_MXY(pcmpgtd)
VEC_XY(pcmpgtq)
VEC_MXY(pand)
VEC_MXY(pandn)
VEC_MXY(por)
VEC_MXY(pxor)
VEC_XY(andps)
VEC_XY(andpd)
VEC_XY(andnps)
VEC_XY(andnpd)
VEC_XY(orps)
VEC_XY(orpd)
VEC_XY(xorps)
VEC_XY(xorpd)

/* --- Multiplication ----------------------------------------------------------------------------------------------- */

/* Unsigned bytes of x, signed ones of y. */
VEC_INLINE int multiply_add_bytes(int16_t x, int16_t y)
{
    int low = (uint8_t)x * (int8_t)y, high = (uint8_t)(x >> 8) * (int8_t)(y >> 8);

    return clamp(low + high, INT16_MIN, INT16_MAX);
}

/* The sum of the products of two words; only all four being -32768 wraps. */
VEC_INLINE uint32_t multiply_add_words(uint32_t x, uint32_t y)
{
    int32_t low = (int16_t)x * (int16_t)y, high = (int16_t)(x >> 16) * (int16_t)(y >> 16);

    return (uint32_t)low + (uint32_t)high;
}

VEC_INLINE void pmaddwd_body(VEC_BODY_ARGS)
{
#pragma GCC unroll 4
    for (unsigned w = 0; w < bytes / 8; w++) {
        uint64_t x = a->u64[w], y = b->u64[w];
        d->u64[w] = word_of_32(multiply_add_words(x, y), multiply_add_words(x >> 32, y >> 32));
    }
}

VEC_LANES(pmullw, u16, ((uint32_t)x * y))
VEC_LANES(pmulhw, s16, (x * y) >> 16)
VEC_LANES(pmulhuw, u16, (((uint32_t)x * y) >> 16))
VEC_LANES(pmulhrsw, s16, ((x * y >> 14) + 1) >> 1)
VEC_LANES(pmulld, u32, (x * y))
VEC_LANES(pmuludq, u64, (x & UINT32_MAX) * (y & UINT32_MAX))
VEC_LANES(pmuldq, s64, ((int64_t)(int32_t)x * (int32_t)y))

VEC_LANES(pmaddubsw, s16, multiply_add_bytes(x, y))

VEC_MXY(pmullw)
VEC_MXY(pmulhw)
VEC_MXY(pmulhuw)
VEC_MXY(pmulhrsw)
VEC_XY(pmulld)
VEC_MXY(pmuludq)
VEC_XY(pmuldq)
VEC_MXY(pmaddwd)
VEC_MXY(pmaddubsw)

/* --- Horizontal --------------------------------------------------------------------------------------------------- */

/* Sum of absolute differences of the eight bytes of each word. */
VEC_INLINE void psadbw_body(VEC_BODY_ARGS)
{
    for (unsigned n = 0; n < bytes / 8; n++) {
        unsigned sum = 0;
        for (unsigned k = 8 * n; k < 8 * n + 8; k++)
            sum += abs(a->u8[k] - b->u8[k]);
        d->u64[n] = sum;
    }
}

/* In each 16-byte block: eight sums of |4 bytes of b at a fixed place - 4 bytes of a at a moving one|. */
VEC_INLINE void mpsadbw_body(VEC_BODY_ARGS)
{
    for (unsigned block = 0; block < bytes; block += 16, imm >>= 3) {
        unsigned from_a = block + (imm & 4), from_b = block + (imm & 3) * 4;
        for (unsigned n = 0; n < 8; n++) {
            unsigned sum = 0;
            for (unsigned k = 0; k < 4; k++)
                sum += abs(a->u8[L8(from_a + n + k)] - b->u8[L8(from_b + k)]);
            d->u16[L16(block / 2 + n)] = sum;
        }
    }
}

VEC_INLINE void phminposuw_body(VEC_BODY_ARGS)
{
    unsigned at = 0;

    for (unsigned n = 1; n < 8; n++)
        if (b->u16[L16(n)] < b->u16[L16(at)])
            at = n;
    d->u64[0] = b->u16[L16(at)] | at << 16;
    d->u64[1] = 0;
}

/* Neighbours of a, then of b, in blocks of 16 bytes (8 for MMX). */
#define HORIZONTAL(name, lane, L, expr) \
    VEC_INLINE void name##_body(VEC_BODY_ARGS) \
    { \
        unsigned size = sizeof d->lane[0], block = (bytes < 16 ? bytes : 16) / size, half = block / 2; \
        for (unsigned base = 0; base < bytes / size; base += block) { \
            for (unsigned n = 0; n < block; n++) { \
                const union vec *s = n < half ? a : b; \
                unsigned from = base + 2 * (n % half); \
                __typeof__(d->lane[0]) x = s->lane[L(from)], y = s->lane[L(from + 1)]; \
                d->lane[L(base + n)] = (expr); \
            } \
        } \
    }

HORIZONTAL(phaddw, u16, L16, x + y)
HORIZONTAL(phaddd, u32, L32, x + y)
HORIZONTAL(phaddsw, s16, L16, clamp(x + y, INT16_MIN, INT16_MAX))
HORIZONTAL(phsubw, u16, L16, x - y)
HORIZONTAL(phsubd, u32, L32, x - y)
HORIZONTAL(phsubsw, s16, L16, clamp(x - y, INT16_MIN, INT16_MAX))

VEC_MXY(psadbw)
VEC_XY(mpsadbw)
VEC_X(phminposuw)
VEC_MXY(phaddw)
VEC_MXY(phaddd)
VEC_MXY(phaddsw)
VEC_MXY(phsubw)
VEC_MXY(phsubd)
VEC_MXY(phsubsw)
