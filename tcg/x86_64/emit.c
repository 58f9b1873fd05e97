/*
 * Encoding of x86-64 instructions. Intel SDM volume 2, chapter 2 and appendix B.
 */
#include "tcg/x86_64/emit.h"

/* --- Prefixes, REX, VEX, opcode ---------------------------------------------------------------------------------------- */

/*
 * These take and give the place in a local variable: bytes written may alias all but that, so that e->at would be read anew for each
 * of them.
 */
static inline uint8_t *put_vex(uint8_t *p, const struct enc *c, bool r, bool x, bool b)
{
    unsigned pp = c->prefix == 0x66 ? 1 : c->prefix == 0xf3 ? 2 : c->prefix == 0xf2 ? 3 : 0;
    uint8_t last = (uint8_t)((~c->vvvv & 15u) << 3 | (c->l ? 4u : 0) | pp);
    if (!x && !b && !c->w && c->map == EMAP_0F) {
        *p++ = 0xc5;
        *p++ = (r ? 0 : 0x80) | last;
        return p;
    }
    *p++ = 0xc4;
    *p++ = (uint8_t)((r ? 0 : 0x80) | (x ? 0 : 0x40) | (b ? 0 : 0x20) | c->map);
    *p++ = (c->w ? 0x80 : 0) | last;
    return p;
}

static inline uint8_t *put_head(uint8_t *p, const struct enc *c, unsigned reg, unsigned index, unsigned base, bool rex)
{
    bool r = reg >= 8, x = index >= 8, b = base >= 8;
    if (c->vex) {
        p = put_vex(p, c, r, x, b);
    } else {
        if (c->lock)
            *p++ = 0xf0;
        if (c->opsize)
            *p++ = 0x66;
        if (c->prefix)
            *p++ = c->prefix;
        if (r || x || b || c->w || rex)
            *p++ = (uint8_t)(0x40 | (c->w ? 8 : 0) | (r ? 4 : 0) | (x ? 2 : 0) | (b ? 1 : 0));
        if (c->map != EMAP_1B)
            *p++ = 0x0f;
        if (c->map == EMAP_0F38)
            *p++ = 0x38;
        if (c->map == EMAP_0F3A)
            *p++ = 0x3a;
    }
    *p++ = c->opcode;
    return p;
}

/* --- ModRM ----------------------------------------------------------------------------------------------------------------- */

static inline uint8_t *put_imm(uint8_t *p, int64_t v, unsigned size)
{
    memcpy(p, &v, sizeof v); /* what is too much will be written over */
    return p + size;
}

void emit_reg(struct emit *e, const struct enc *c, unsigned reg, unsigned rm)
{
    bool rex = (c->byte_reg && reg >= 4 && reg < 8) || (c->byte_rm && rm >= 4 && rm < 8);
    uint8_t *p = put_head(e->at, c, reg, 0, rm, rex);
    *p++ = (uint8_t)(0xc0 | (reg & 7) << 3 | (rm & 7));
    e->at = put_imm(p, c->imm, c->imm_size);
}

static inline uint8_t *put_modrm_mem(uint8_t *p, unsigned reg, struct hmem m)
{
    unsigned r = (reg & 7) << 3;
    if (m.base == H_NONE) { /* disp32, with or without an index */
        unsigned index = m.index == H_NONE ? 4 : m.index & 7;
        *p++ = (uint8_t)(r | 4);
        *p++ = (uint8_t)(m.scale << 6 | index << 3 | 5);
        return put_imm(p, m.disp, 4);
    }
    unsigned base = m.base & 7;
    unsigned mod = m.disp == 0 && base != H_RBP ? 0 : m.disp == (int8_t)m.disp ? 1 : 2;
    if (m.index != H_NONE || base == H_RSP) {
        *p++ = (uint8_t)(mod << 6 | r | 4);
        *p++ = (uint8_t)(m.scale << 6 | (m.index == H_NONE ? 4u : m.index & 7u) << 3 | base);
    } else {
        *p++ = (uint8_t)(mod << 6 | r | base);
    }
    return put_imm(p, m.disp, mod == 1 ? 1 : mod == 2 ? 4 : 0);
}

void emit_mem(struct emit *e, const struct enc *c, unsigned reg, struct hmem m)
{
    uint8_t *p = e->at;
    if (m.gs)
        *p++ = 0x65;
    p = put_head(p, c, reg, m.index == H_NONE ? 0 : m.index, m.base == H_NONE ? 0 : m.base,
                 c->byte_reg && reg >= 4 && reg < 8);
    p = put_modrm_mem(p, reg, m);
    e->at = put_imm(p, c->imm, c->imm_size);
}

/* --- Integer instructions ---------------------------------------------------------------------------------------------------- */

static struct enc sized(unsigned opcode, unsigned size)
{
    return (struct enc){ .opcode = (uint8_t)(size ? opcode : opcode - 1), .prefix = size == 1 ? 0x66 : 0, .w = size == 3,
                         .byte_reg = size == 0, .byte_rm = size == 0 };
}

void emit_op_reg(struct emit *e, unsigned opcode, unsigned size, unsigned reg, unsigned rm)
{
    struct enc c = sized(opcode, size);
    emit_reg(e, &c, reg, rm);
}

void emit_op_mem(struct emit *e, unsigned opcode, unsigned size, unsigned reg, struct hmem m)
{
    struct enc c = sized(opcode, size);
    emit_mem(e, &c, reg, m);
}

static struct enc alu_imm(unsigned size, int32_t imm)
{
    struct enc c = sized(0x81, size);
    c.byte_reg = false; /* a digit, no register */
    c.imm = imm;
    c.imm_size = size == 0 ? 1 : size == 1 ? 2 : 4;
    if (size && imm == (int8_t)imm) {
        c.opcode = 0x83;
        c.imm_size = 1;
    }
    return c;
}

void emit_alu_imm(struct emit *e, enum emit_alu alu, unsigned size, unsigned rm, int32_t imm)
{
    struct enc c = alu_imm(size, imm);
    emit_reg(e, &c, alu, rm);
}

void emit_alu_imm_mem(struct emit *e, enum emit_alu alu, unsigned size, struct hmem m, int32_t imm, bool lock)
{
    struct enc c = alu_imm(size, imm);
    c.lock = lock;
    emit_mem(e, &c, alu, m);
}

void emit_lea(struct emit *e, unsigned size, unsigned dst, struct hmem m)
{
    struct enc c = { .opcode = 0x8d, .prefix = size == 1 ? 0x66 : 0, .w = size == 3 };
    emit_mem(e, &c, dst, m);
}

static struct enc extend(bool sign, unsigned from, unsigned to)
{
    if (from == 2) /* MOVSXD, or a plain move, which clears the upper half */
        return (struct enc){ .opcode = sign ? 0x63 : 0x8b, .w = sign && to == 3 };
    return (struct enc){ .opcode = (uint8_t)((sign ? 0xbe : 0xb6) + from), .map = EMAP_0F, .prefix = to == 1 ? 0x66 : 0,
                         .w = to == 3, .byte_rm = from == 0 };
}

void emit_extend_reg(struct emit *e, bool sign, unsigned from, unsigned to, unsigned dst, unsigned src)
{
    struct enc c = extend(sign, from, to);
    emit_reg(e, &c, dst, src);
}

void emit_extend_mem(struct emit *e, bool sign, unsigned from, unsigned to, unsigned dst, struct hmem m)
{
    struct enc c = extend(sign, from, to);
    emit_mem(e, &c, dst, m);
}

void emit_mov_imm(struct emit *e, unsigned dst, uint64_t imm)
{
    if (imm <= UINT32_MAX || imm != (uint64_t)(int32_t)imm) {
        bool w = imm > UINT32_MAX;
        if (dst >= 8 || w)
            emit8(e, 0x40 | (w ? 8 : 0) | (dst >= 8 ? 1 : 0));
        emit8(e, 0xb8 | (dst & 7));
        emit_imm(e, (int64_t)imm, w ? 8 : 4);
        return;
    }
    struct enc c = { .opcode = 0xc7, .w = true, .imm_size = 4, .imm = (int32_t)imm };
    emit_reg(e, &c, 0, dst);
}

void emit_store_imm32(struct emit *e, struct hmem m, int32_t imm)
{
    struct enc c = { .opcode = 0xc7, .imm_size = 4, .imm = imm };
    emit_mem(e, &c, 0, m);
}

void emit_shift_imm(struct emit *e, unsigned digit, unsigned size, unsigned rm, unsigned count)
{
    struct enc c = sized(0xc1, size);
    c.byte_reg = false;
    c.imm = count;
    c.imm_size = 1;
    emit_reg(e, &c, digit, rm);
}

/* --- Jumps --------------------------------------------------------------------------------------------------------------------- */

static struct fixup fixup32(struct emit *e)
{
    struct fixup f = { e->at };
    emit32(e, 0);
    return f;
}

struct fixup emit_jcc(struct emit *e, enum emit_cond cc)
{
    emit8(e, 0x0f);
    emit8(e, 0x80 | cc);
    return fixup32(e);
}

struct fixup emit_jmp(struct emit *e)
{
    emit8(e, 0xe9);
    return fixup32(e);
}

struct fixup emit_call(struct emit *e)
{
    emit8(e, 0xe8);
    return fixup32(e);
}

struct fixup emit_jcc8(struct emit *e, unsigned opcode)
{
    emit8(e, opcode);
    struct fixup f = { e->at };
    emit8(e, 0);
    return f;
}

void emit_bind_to(struct emit *e, struct fixup f, const uint8_t *target)
{
    int32_t rel = (int32_t)(target - (f.at + 4 + e->skew));
    memcpy(f.at, &rel, 4);
}

void emit_bind(struct emit *e, struct fixup f)
{
    emit_bind_to(e, f, emit_here(e));
}

void emit_bind8(struct emit *e, struct fixup f)
{
    ptrdiff_t rel = e->at - (f.at + 1);
    g_assert(rel == (int8_t)rel);
    *f.at = (uint8_t)rel;
}

void emit_jmp_to(struct emit *e, const uint8_t *target)
{
    emit_bind_to(e, emit_jmp(e), target);
}

void emit_call_to(struct emit *e, const uint8_t *target)
{
    emit_bind_to(e, emit_call(e), target);
}

void emit_align_jump(struct emit *e, unsigned opcode_bytes)
{
    unsigned at = ((uintptr_t)e->at + opcode_bytes) & 7;
    if (at > 4)
        emit_nop(e, 8 - at);
}

void emit_align(struct emit *e, unsigned bytes)
{
    emit_nop(e, (unsigned)(-(uintptr_t)e->at & (bytes - 1)));
}

void emit_nop(struct emit *e, unsigned bytes)
{
    static const uint8_t nops[9][9] = {
        { 0x90 },
        { 0x66, 0x90 },
        { 0x0f, 0x1f, 0x00 },
        { 0x0f, 0x1f, 0x40, 0x00 },
        { 0x0f, 0x1f, 0x44, 0x00, 0x00 },
        { 0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00 },
        { 0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00 },
        { 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00 },
        { 0x66, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00 },
    };
    while (bytes) {
        unsigned n = MIN(bytes, 9);
        memcpy(e->at, nops[n - 1], sizeof nops[n - 1]);
        e->at += n;
        bytes -= n;
    }
}
