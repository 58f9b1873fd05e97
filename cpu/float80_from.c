/*
 * 80-bit numbers from the shorter formats: exact in both implementations, so plain integer code serves both.
 *
 * Intel SDM volume 1, 4.2, 4.7 and 8.2. Any thread.
 */
#include "cpu/float80.h"

/* From a format with `frac` fraction bits and `exp_bits` exponent bits. */
static struct float80 widen(uint64_t v, unsigned frac, unsigned exp_bits)
{
    uint16_t sign = (v >> (frac + exp_bits)) & 1 ? FLOAT80_SIGN : 0;
    unsigned max = (1u << exp_bits) - 1;
    unsigned exp = (v >> frac) & max;
    uint64_t mant = v << (63 - frac) & ~FLOAT80_INT;
    int rebias = FLOAT80_BIAS - (int)(max >> 1);

    if (exp == max)
        return float80_make(sign | FLOAT80_EXP, mant | FLOAT80_INT);
    if (exp)
        return float80_make(sign | (exp + rebias), mant | FLOAT80_INT);
    if (!mant)
        return float80_make(sign, 0);
    unsigned shift = __builtin_clzll(mant);
    return float80_make(sign | (1 + rebias - shift), mant << shift);
}

struct float80 float80_widen_f32(uint32_t v)
{
    return widen(v, 23, 8);
}

struct float80 float80_widen_f64(uint64_t v)
{
    return widen(v, 52, 11);
}

static unsigned load(struct float80 *r, bool denormal)
{
    if (float80_is_nan(*r) && !(r->mant & FLOAT80_QUIET)) {
        r->mant |= FLOAT80_QUIET;
        return FPU_IE;
    }
    return denormal ? FPU_DE : 0;
}

unsigned float80_from_f32(struct float80 *r, uint32_t v)
{
    *r = float80_widen_f32(v);
    return load(r, !(v & 0x7f800000) && (v & 0x7fffff));
}

unsigned float80_from_f64(struct float80 *r, uint64_t v)
{
    *r = float80_widen_f64(v);
    return load(r, !(v & UINT64_C(0x7ff0000000000000)) && (v & UINT64_C(0xfffffffffffff)));
}

struct float80 float80_from_int(int64_t v)
{
    if (!v)
        return float80_make(0, 0);
    uint64_t magnitude = v < 0 ? -(uint64_t)v : (uint64_t)v;
    unsigned shift = __builtin_clzll(magnitude);
    return float80_make((v < 0 ? FLOAT80_SIGN : 0) | (FLOAT80_BIAS + 63 - shift), magnitude << shift);
}

struct float80 float80_from_bcd(const uint8_t bcd[FLOAT80_BCD_SIZE])
{
    uint64_t v = 0;
    for (int n = 8; n >= 0; n--)
        v = v * 100 + (bcd[n] >> 4) * 10 + (bcd[n] & 15);
    struct float80 r = float80_from_int((int64_t)v);
    if (bcd[9] & 0x80)
        r.sexp |= FLOAT80_SIGN;
    return r;
}
