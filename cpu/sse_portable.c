/*
 * Vector floating point for hosts without SSE: all of it in integers. In when HOST_FPU is portable, in place of
 * sse_native.c.
 */
#include "cpu/sse_fp.h"
#include "cpu/vec.h"

#define BINARY(name, width) \
    void fp_##name##width(struct cpu *cpu, union vec *d, const union vec *a, const union vec *b, unsigned lanes) \
    { \
        fp_soft_binary(cpu, sf_##name##width, sf_##name##width, width, d, a, b, lanes); \
    }
#define UNARY(name, to, from) \
    void fp_##name(struct cpu *cpu, union vec *d, const union vec *a, unsigned lanes) \
    { \
        fp_soft_unary(cpu, sf_##name, to, from, d, a, lanes); \
    }

BINARY(add, 32)
BINARY(sub, 32)
BINARY(mul, 32)
BINARY(div, 32)
BINARY(min, 32)
BINARY(max, 32)
BINARY(add, 64)
BINARY(sub, 64)
BINARY(mul, 64)
BINARY(div, 64)
BINARY(min, 64)
BINARY(max, 64)
UNARY(sqrt32, 32, 32)
UNARY(sqrt64, 64, 64)
UNARY(f32_to_f64, 64, 32)
UNARY(f64_to_f32, 32, 64)
UNARY(i32_to_f32, 32, 32)
UNARY(i32_to_f64, 64, 32)
UNARY(i64_to_f32, 32, 64)
UNARY(i64_to_f64, 64, 64)
UNARY(f32_to_i32, 32, 32)
UNARY(f32_to_i64, 64, 32)
UNARY(f64_to_i32, 32, 64)
UNARY(f64_to_i64, 64, 64)
UNARY(f32_to_i32_trunc, 32, 32)
UNARY(f32_to_i64_trunc, 64, 32)
UNARY(f64_to_i32_trunc, 32, 64)
UNARY(f64_to_i64_trunc, 64, 64)

void fp_rcp32(struct cpu *cpu, union vec *d, const union vec *a, unsigned lanes)
{
    for (unsigned n = 0; n < lanes; n++)
        d->u32[L32(n)] = sf_rcp32(a->u32[L32(n)]);
}

void fp_rsqrt32(struct cpu *cpu, union vec *d, const union vec *a, unsigned lanes)
{
    for (unsigned n = 0; n < lanes; n++)
        d->u32[L32(n)] = sf_rsqrt32(a->u32[L32(n)]);
}

void fp_fma32(struct cpu *cpu, union vec *d, const union vec *a, const union vec *b, const union vec *c, unsigned lanes,
              enum fp_fma kind)
{
    fp_soft_fma(cpu, 32, d, a, b, c, lanes, kind);
}

void fp_fma64(struct cpu *cpu, union vec *d, const union vec *a, const union vec *b, const union vec *c, unsigned lanes,
              enum fp_fma kind)
{
    fp_soft_fma(cpu, 64, d, a, b, c, lanes, kind);
}

void fp_compare32(struct cpu *cpu, union vec *d, const union vec *a, const union vec *b, unsigned lanes,
                  unsigned predicate)
{
    fp_soft_compare(cpu, 32, d, a, b, lanes, predicate);
}

void fp_compare64(struct cpu *cpu, union vec *d, const union vec *a, const union vec *b, unsigned lanes,
                  unsigned predicate)
{
    fp_soft_compare(cpu, 64, d, a, b, lanes, predicate);
}

uint64_t fp_order32(struct cpu *cpu, const union vec *a, const union vec *b, bool signaling)
{
    return fp_soft_order(cpu, 32, a, b, signaling);
}

uint64_t fp_order64(struct cpu *cpu, const union vec *a, const union vec *b, bool signaling)
{
    return fp_soft_order(cpu, 64, a, b, signaling);
}
