/*
 * SSE4.2 string comparison: PCMPESTRI, PCMPESTRM, PCMPISTRI, PCMPISTRM.
 *
 * Intel SDM volume 2, 4.1 (imm8 control byte operation). Runs on the vCPU's thread.
 */
#include "cpu/ops.h"
#include "cpu/vec.h"

/* The immediate. */
#define STR_WORDS 1u
#define STR_SIGNED 2u
#define STR_AGGREGATION_SHIFT 2
#define STR_NEGATIVE 0x10u
#define STR_MASKED 0x20u
#define STR_LAST 0x40u   /* index forms: of the most significant bit */
#define STR_EXPAND 0x40u /* mask forms: a lane for each bit */

enum aggregation { STR_EQUAL_ANY, STR_RANGES, STR_EQUAL_EACH, STR_EQUAL_ORDERED };

/* A string of up to 16 bytes or 8 words. */
struct str {
    int32_t e[16];
    unsigned len;
};

static unsigned str_max(unsigned imm)
{
    return imm & STR_WORDS ? 8 : 16;
}

static void str_get(struct str *s, const union vec *v, unsigned imm)
{
    switch (imm & (STR_WORDS | STR_SIGNED)) {
    case 0:
        for (unsigned n = 0; n < 16; n++)
            s->e[n] = v->u8[L8(n)];
        break;
    case STR_WORDS:
        for (unsigned n = 0; n < 8; n++)
            s->e[n] = v->u16[L16(n)];
        break;
    case STR_SIGNED:
        for (unsigned n = 0; n < 16; n++)
            s->e[n] = v->s8[L8(n)];
        break;
    default:
        for (unsigned n = 0; n < 8; n++)
            s->e[n] = v->s16[L16(n)];
        break;
    }
}

/* Up to the first zero. */
static unsigned implicit_length(const struct str *s, unsigned max)
{
    unsigned n = 0;

    while (n < max && s->e[n])
        n++;
    return n;
}

/* The absolute value of a general register, no more than fits. */
static unsigned explicit_length(uint64_t reg, bool wide, unsigned max)
{
    uint64_t v = wide ? reg : (uint64_t)(int64_t)(int32_t)reg;

    if ((int64_t)v < 0)
        v = -v;
    return v < max ? v : max;
}

static bool in_set(const struct str *a, int32_t x)
{
    for (unsigned n = 0; n < a->len; n++)
        if (a->e[n] == x)
            return true;
    return false;
}

/* a: pairs of lower and upper bound. */
static bool in_ranges(const struct str *a, int32_t x)
{
    for (unsigned n = 0; n + 1 < a->len; n += 2)
        if (a->e[n] <= x && x <= a->e[n + 1])
            return true;
    return false;
}

/* Does a, as far as it fits, begin at place `at` of b? */
static bool begins_at(const struct str *a, const struct str *b, unsigned at, unsigned max)
{
    for (unsigned n = 0; n < a->len && at + n < max; n++)
        if (at + n >= b->len || a->e[n] != b->e[at + n])
            return false;
    return true;
}

/* Bit per element of b. */
static uint32_t aggregate(const struct str *a, const struct str *b, unsigned imm)
{
    unsigned max = str_max(imm);
    uint32_t bits = 0;

    for (unsigned n = 0; n < max; n++) {
        bool bit;
        switch ((enum aggregation)(imm >> STR_AGGREGATION_SHIFT & 3)) {
        case STR_EQUAL_ANY: bit = n < b->len && in_set(a, b->e[n]); break;
        case STR_RANGES: bit = n < b->len && in_ranges(a, b->e[n]); break;
        case STR_EQUAL_EACH: bit = n < a->len && n < b->len ? a->e[n] == b->e[n] : n >= a->len && n >= b->len; break;
        default: bit = begins_at(a, b, n, max); break;
        }
        bits |= (uint32_t)bit << n;
    }
    return bits;
}

/* The result as a bit per element of the second operand; sets the flags. */
static uint32_t str_compare(struct cpu *cpu, const union vec *v1, const union vec *v2, const struct insn *i,
                            bool explicit)
{
    unsigned imm = i->imm, max = str_max(imm);
    uint32_t all = (1u << max) - 1;
    bool wide = i->flags & INSN_W && cpu_in_64(cpu);
    struct str a, b;

    str_get(&a, v1, imm);
    str_get(&b, v2, imm);
    if (explicit) {
        a.len = explicit_length(cpu->r[R_RAX], wide, max);
        b.len = explicit_length(cpu->r[R_RDX], wide, max);
    } else {
        a.len = implicit_length(&a, max);
        b.len = implicit_length(&b, max);
    }
    uint32_t bits = aggregate(&a, &b, imm);
    if (imm & STR_NEGATIVE)
        bits ^= imm & STR_MASKED ? (1u << b.len) - 1 : all;

    cpu->rflags &= ~(uint64_t)FLAGS_ARITH;
    cpu->rflags |=
        (bits ? FLAG_CF : 0) | (b.len < max ? FLAG_ZF : 0) | (a.len < max ? FLAG_SF : 0) | (bits & 1 ? FLAG_OF : 0);
    return bits;
}

static void write_index(struct cpu *cpu, const struct insn *i, uint32_t bits)
{
    if (!bits)
        cpu->r[R_RCX] = str_max(i->imm);
    else
        cpu->r[R_RCX] = i->imm & STR_LAST ? 31 - __builtin_clz(bits) : __builtin_ctz(bits);
}

static void write_mask(struct cpu *cpu, const struct insn *i, uint32_t bits)
{
    union vec d = { .u64 = { bits } };

    if (i->imm & STR_EXPAND) {
        for (unsigned n = 0; n < 16; n++)
            d.u8[L8(n)] = bits >> (i->imm & STR_WORDS ? n / 2 : n) & 1 ? 0xff : 0;
    }
    vec_write(cpu, i, 0, &d, 16);
}

VEC_INLINE void str_run(struct cpu *cpu, const struct insn *i, bool explicit,
                        void (*write)(struct cpu *, const struct insn *, uint32_t), bool mem)
{
    union vec tmp;
    const union vec *b = vec_rm(cpu, i, &tmp, 16, mem);

    write(cpu, i, str_compare(cpu, &cpu->v[i->reg], b, i, explicit));
}

#define STR(name, explicit, write) \
    VEC_FN(name##_r, str_run(cpu, i, explicit, write, false)) \
    VEC_FN(name##_m, str_run(cpu, i, explicit, write, true)) \
    VEC_OP_MEM(name, name##_r, name##_m)
STR(pcmpestri, true, write_index)
STR(pcmpestrm, true, write_mask)
STR(pcmpistri, false, write_index)
STR(pcmpistrm, false, write_mask)
