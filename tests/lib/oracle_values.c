/*
 * Random processor states for the oracle: integers, floats, doubles and 80-bit numbers with a weight on the values
 * where instructions go wrong, flags, control words, memory.
 */
#include "cpu/mem.h"
#include "tests/lib/oracle_values.h"

#include <string.h>

/* xorshift128+ */
uint64_t oracle_random(struct oracle_gen *g)
{
    uint64_t a = g->rng[0], b = g->rng[1];
    g->rng[0] = b;
    a ^= a << 23;
    a ^= a >> 17 ^ b ^ b >> 26;
    g->rng[1] = a;
    return a + b;
}

unsigned oracle_below(struct oracle_gen *g, unsigned n)
{
    return (unsigned)((oracle_random(g) >> 32) * n >> 32);
}

bool oracle_percent(struct oracle_gen *g, unsigned p)
{
    return oracle_below(g, 100) < p;
}

uint64_t oracle_integer(struct oracle_gen *g)
{
    uint64_t r = oracle_random(g);

    switch (oracle_below(g, 12)) {
    case 0: return 0;
    case 1: return UINT64_MAX;
    case 2: return UINT64_C(1) << (r & 63);
    case 3: return (UINT64_C(1) << (r & 63)) - 1;
    case 4: return ~(UINT64_C(1) << (r & 63));
    case 5: return (uint64_t)(int64_t)(int8_t)r;
    case 6: return (uint64_t)(int64_t)(int16_t)r;
    case 7: return (uint64_t)(int64_t)(int32_t)r;
    case 8: return r & 0xff;
    case 9: return r >> (r & 63);
    default: return r;
    }
}

uint32_t oracle_f32(struct oracle_gen *g)
{
    static const uint32_t special[] = {
        0x00000000, 0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000, 0x7fc00000, 0xffc00000,
        0x7fa00000, 0x7f800001, 0xffbfffff, 0x00000001, 0x807fffff, 0x00400000, 0x00800000, 0x80800001,
        0x7f7fffff, 0xff7fffff, 0x3f000000, 0x3fc00000, 0x40200000, 0x4f000000, 0xcf000000, 0x4effffff,
        0x5f000000, 0xdf000000, 0x4b800001, 0x34000000, 0x33800000, 0x477fe000, 0x477ff000, 0x33000001,
        0x38800000, 0x387fc000, 0x4f800000, 0x3f7fffff,
    };
    uint64_t r = oracle_random(g);

    switch (oracle_below(g, 8)) {
    case 0: case 1: case 2: return special[r % G_N_ELEMENTS(special)];
    case 3: return (uint32_t)r;
    case 4: return (uint32_t)(r & 0x807fffff) | (120 + (uint32_t)(r >> 32) % 16) << 23; /* near 1 */
    case 5: return (uint32_t)(r & 0x80ffffff);                                          /* denormal or tiny */
    case 6: return (uint32_t)(r & 0x80700000) | (127 + (uint32_t)(r >> 32) % 40) << 23; /* few bits: often exact */
    default: return (uint32_t)(r & 0x807fffff) | (uint32_t)(r >> 32) % 255 << 23;
    }
}

uint64_t oracle_f64(struct oracle_gen *g)
{
    static const uint64_t special[] = {
        UINT64_C(0), UINT64_C(0x8000000000000000), UINT64_C(0x3ff0000000000000), UINT64_C(0xbff0000000000000),
        UINT64_C(0x7ff0000000000000), UINT64_C(0xfff0000000000000), UINT64_C(0x7ff8000000000000),
        UINT64_C(0xfff8000000000000), UINT64_C(0x7ff4000000000000), UINT64_C(0x7ff0000000000001), UINT64_C(1),
        UINT64_C(0x800fffffffffffff), UINT64_C(0x0010000000000000), UINT64_C(0x7fefffffffffffff),
        UINT64_C(0x41dfffffffc00000), UINT64_C(0xc1e0000000000000), UINT64_C(0x41e0000000000000),
        UINT64_C(0x43e0000000000000), UINT64_C(0xc3e0000000000000), UINT64_C(0x43dfffffffffffff),
        UINT64_C(0x3fe0000000000000), UINT64_C(0x3ff8000000000000), UINT64_C(0x4004000000000000),
        UINT64_C(0x47efffffe0000000), UINT64_C(0x47effffff0000000), UINT64_C(0x3810000000000000),
        UINT64_C(0x36a0000000000000), UINT64_C(0x3690000000000000), UINT64_C(0x3cb0000000000000),
        UINT64_C(0x380fffffffffffff), UINT64_C(0x4330000000000001), UINT64_C(0x3fefffffffffffff),
    };
    uint64_t r = oracle_random(g), e = oracle_random(g);

    switch (oracle_below(g, 8)) {
    case 0: case 1: case 2: return special[r % G_N_ELEMENTS(special)];
    case 3: return r;
    case 4: return (r & UINT64_C(0x800fffffffffffff)) | (1016 + e % 16) << 52;
    case 5: return r & UINT64_C(0x801fffffffffffff);
    case 6: return (r & UINT64_C(0x800f000000000000)) | (1023 + e % 70) << 52;
    default: return (r & UINT64_C(0x800fffffffffffff)) | (1023 - 160 + e % 320) << 52; /* around the range of a float */
    }
}

struct float80 oracle_f80(struct oracle_gen *g)
{
    static const struct float80 special[] = {
        { 0, 0 },                                  { 0, 0x8000 },
        { UINT64_C(1) << 63, 0x3fff },             { UINT64_C(1) << 63, 0xbfff },
        { UINT64_C(1) << 63, 0x7fff },             { UINT64_C(1) << 63, 0xffff },
        { UINT64_C(3) << 62, 0x7fff },             { UINT64_C(3) << 62, 0xffff },
        { UINT64_C(0xa000000000000000), 0x7fff },  { UINT64_C(0x8000000000000001), 0xffff },
        { 1, 0 },                                  { UINT64_C(0x7fffffffffffffff), 0 },
        { UINT64_C(1) << 63, 0 },                  { UINT64_C(1) << 63, 1 },
        { UINT64_MAX, 0x7ffe },                    { UINT64_MAX, 0xfffe },
        { 0, 0x7fff },                             { UINT64_C(0x4000000000000000), 0x3fff },
        { UINT64_C(0xc90fdaa22168c235), 0x4000 },  { UINT64_C(0xb504f333f9de6484), 0x3ffe },
        { UINT64_C(1) << 63, 0x401e },             { UINT64_C(1) << 63, 0xc03e },
        { UINT64_C(1) << 63, 0x3ffe },             { UINT64_C(0xc000000000000000), 0x3fff },
        { UINT64_C(0xfffffffffffffc00), 0x43fe },  { UINT64_C(0xffffff0000000000), 0x407e },
        { UINT64_C(0x8ac7230489e7ffff), 0x403b },  { UINT64_C(0xde0b6b3a763ffff0), 0x403a },
    };
    uint64_t r = oracle_random(g), e = oracle_random(g);
    uint16_t sign = (uint16_t)(e >> 48 & 0x8000);

    switch (oracle_below(g, 8)) {
    case 0: case 1: case 2: return special[r % G_N_ELEMENTS(special)];
    case 3: return (struct float80){ r, (uint16_t)e };
    case 4: return (struct float80){ r | UINT64_C(1) << 63, sign | (0x3ff8 + e % 16) };
    case 5: return (struct float80){ (r & UINT64_C(0xff) << 55) | UINT64_C(1) << 63, sign | (0x3fff + e % 70) };
    case 6: return (struct float80){ r | UINT64_C(1) << 63, sign | (0x3fff - 1100 + e % 2200) };
    default: return (struct float80){ r | UINT64_C(1) << 63, sign | (e & 0x7fff) };
    }
}

/* `bytes` at p of one kind of value. */
static void fill(struct oracle_gen *g, uint8_t *p, unsigned bytes, unsigned kind)
{
    for (unsigned at = 0; at < bytes; at += 8) {
        uint64_t v;
        switch (kind) {
        case 0: v = oracle_random(g); break;
        case 1: v = oracle_integer(g); break;
        case 2: v = oracle_f32(g) | (uint64_t)oracle_f32(g) << 32; break;
        case 3: v = oracle_f64(g); break;
        case 4: v = 0; break;
        case 5: v = UINT64_MAX; break;
        default: v = oracle_integer(g) & UINT64_C(0x7fffffffffff); break;
        }
        memcpy(p + at, &v, MIN(8, bytes - at));
    }
}

/* More floats than integers, as most vector instructions want them. */
void oracle_fill_vector(struct oracle_gen *g, void *p, unsigned bytes)
{
    static const uint8_t kinds[] = { 0, 1, 2, 2, 2, 3, 3, 3, 4, 5 };
    fill(g, p, bytes, kinds[oracle_below(g, sizeof kinds)]);
}

void oracle_fill_memory(struct oracle_gen *g)
{
    for (unsigned at = 0; at < ORACLE_DATA_BYTES; at += 32)
        fill(g, g->memory + at, 32, oracle_below(g, 7));
}

static void random_fpu(struct oracle_gen *g, struct oracle_regs *r)
{
    r->fcw = oracle_percent(g, 40) ? 0x37f : (uint16_t)((oracle_random(g) & 0x0f3f) | 0x40);
    r->fsw = (uint16_t)(oracle_random(g) & 0x7f00);
    if (oracle_percent(g, 15))
        r->fsw |= oracle_random(g) & 0x7f;
    if (r->fsw & ~r->fcw & 0x3f) /* a pending exception */
        r->fsw |= 0x8080;
    r->ftag = oracle_percent(g, 60) ? 0xff : (uint8_t)oracle_random(g);
    r->fop = oracle_random(g) & 0x7ff;
    r->fip = oracle_random(g) & UINT64_C(0x7fffffffffff);
    r->fdp = oracle_random(g) & UINT64_C(0x7fffffffffff);
    for (unsigned n = 0; n < 8; n++)
        r->st[n] = oracle_f80(g);
}

void oracle_fill_regs(struct oracle_gen *g, struct oracle_regs *r)
{
    for (unsigned n = 0; n < 16; n++)
        r->r[n] = oracle_integer(g);
    if (g->mode != ORACLE_64) {
        for (unsigned n = 0; n < 16; n++)
            r->r[n] = n < 8 ? (uint32_t)r->r[n] : 0;
    }
    r->rflags = (oracle_random(g) & FLAGS_ARITH) | FLAGS_FIXED | FLAG_IF;
    if (oracle_percent(g, 10))
        r->rflags |= FLAG_DF;
    memset(r->v, 0, sizeof r->v);
    for (unsigned n = 0; n < (g->mode == ORACLE_64 ? 16 : 8); n++) {
        if (n && oracle_percent(g, 10))
            r->v[n] = r->v[oracle_below(g, n)];
        else
            oracle_fill_vector(g, &r->v[n], 32);
    }
    r->mxcsr = oracle_percent(g, 40) ? 0x1f80 : (uint32_t)oracle_random(g) & 0xffff;
    if (oracle_percent(g, 50))
        r->mxcsr |= 0x1f80; /* masked: results count, not only exceptions */
    random_fpu(g, r);
}
