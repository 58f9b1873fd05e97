/*
 * Shifts and rotates: ROL to SAR, RCL, RCR, SHLD, SHRD, SHLX, SHRX, SARX, RORX. Intel SDM volume 2.
 *
 * Counts are masked to 5 bits, or 6 for 64-bit operands; with count 0 no flag changes. What the manual leaves
 * undefined follows current Intel processors (measured): AF is cleared, OF is that of a shift by 1 whatever the count
 * (but ROL and ROR of a register by an immediate above 1 keep it), RCL and RCR by a multiple of 9 or 17 change no
 * flag, and a 16-bit SHLD or SHRD by more than 16 shifts the destination in again. Runs on the vCPU's thread.
 */
#include "cpu/flags.h"
#include "cpu/op_form.h"
#include "cpu/rmw.h"

enum shift { SHIFT_ROL, SHIFT_ROR, SHIFT_RCL, SHIFT_RCR, SHIFT_SHL, SHIFT_SHR, SHIFT_SAR };

static G_ALWAYS_INLINE inline unsigned shift_count(uint64_t count, unsigned size)
{
    return count & (size == 3 ? 63 : 31);
}

/* The top bit differs from the one below it: the first step of a left shift changes the sign. */
static G_ALWAYS_INLINE inline bool top_bits_differ(uint64_t a, unsigned size)
{
    return sign_bit(a ^ a << 1, size);
}

/* a shifted by 1 .. 63; *carry is the last bit out. */
static G_ALWAYS_INLINE inline uint64_t shift_plain(enum shift kind, uint64_t a, unsigned count, unsigned size,
                                                   bool *carry)
{
    unsigned bits = size_bits(size);
    uint64_t wide;

    switch (kind) {
    case SHIFT_SHL:
        if (size == 3) {
            *carry = a >> (64 - count) & 1;
            return a << count;
        }
        wide = a << count;
        *carry = wide >> bits & 1;
        return wide & size_mask(size);
    case SHIFT_SHR:
        *carry = a >> (count - 1) & 1;
        return a >> count;
    default:
        wide = sign_extend(a, size);
        *carry = (uint64_t)((int64_t)wide >> (count - 1)) & 1;
        return (uint64_t)((int64_t)wide >> count) & size_mask(size);
    }
}

static G_ALWAYS_INLINE inline uint64_t rotate_left(uint64_t a, unsigned count, unsigned size)
{
    unsigned bits = size_bits(size), n = count & (bits - 1);

    return n ? (a << n | a >> (bits - n)) & size_mask(size) : a;
}

/* Left rotation of the operand with CF above its top bit, by n = 1 .. bits. */
static G_ALWAYS_INLINE inline uint64_t rotate_carry(uint64_t a, unsigned n, unsigned size, bool *carry)
{
    unsigned bits = size_bits(size);
    bool out = a >> (bits - n) & 1;
    uint64_t r = (n == 64 ? 0 : a << n) | (uint64_t)*carry << (n - 1) | (n == 1 ? 0 : a >> (bits + 1 - n));

    *carry = out;
    return r & size_mask(size);
}

static G_ALWAYS_INLINE inline uint64_t shift_result(enum shift kind, uint64_t a, unsigned count, unsigned size,
                                                    bool carry_in, bool *carry)
{
    uint64_t r;

    switch (kind) {
    case SHIFT_ROL:
        r = rotate_left(a, count, size);
        *carry = r & 1;
        return r;
    case SHIFT_ROR:
        r = rotate_left(a, 0 - count, size);
        *carry = sign_bit(r, size);
        return r;
    case SHIFT_RCL:
    case SHIFT_RCR:
        *carry = carry_in;
        return rotate_carry(a, kind == SHIFT_RCL ? count : size_bits(size) + 1 - count, size, carry);
    default:
        return shift_plain(kind, a, count, size, carry);
    }
}

/* Does the first step change the sign? */
static G_ALWAYS_INLINE inline bool shift_overflow(enum shift kind, uint64_t a, bool carry_in, unsigned size)
{
    switch (kind) {
    case SHIFT_SAR: return false;
    case SHIFT_SHR: return sign_bit(a, size);
    case SHIFT_ROR: return sign_bit(a, size) ^ (a & 1);
    case SHIFT_RCR: return sign_bit(a, size) ^ carry_in;
    default: return top_bits_differ(a, size);
    }
}

static G_ALWAYS_INLINE inline void shift_flags(struct cpu *cpu, enum shift kind, uint64_t a, uint64_t r, bool carry,
                                               bool keep_overflow, unsigned size)
{
    bool overflow = shift_overflow(kind, a, cpu->rflags & FLAG_CF, size);
    uint32_t f = carry * FLAG_CF | overflow * FLAG_OF;

    if (kind >= SHIFT_SHL)
        flags_set_arith(cpu, f | flags_szp(r, size));
    else
        flags_set(cpu, keep_overflow ? f & FLAG_CF : f, keep_overflow ? FLAG_CF : FLAG_CF | FLAG_OF);
}

OP_BODY shift_rm(struct cpu *cpu, const struct insn *i, enum shift kind, uint64_t raw_count, bool imm, unsigned size,
                 bool mem, bool dead)
{
    unsigned count = shift_count(raw_count, size);
    bool carry = false;
    struct rmw m;

    if (size < 2 && (kind == SHIFT_RCL || kind == SHIFT_RCR))
        count %= size_bits(size) + 1;
    if (!rmw_open(cpu, i, size, mem, &m))
        return;
    if (count == 0) {
        rmw_close(cpu, i, size, mem, &m, m.old);
        return;
    }
    uint64_t r = shift_result(kind, m.old, count, size, cpu->rflags & FLAG_CF, &carry);
    rmw_close(cpu, i, size, mem, &m, r);
    if (!dead)
        shift_flags(cpu, kind, m.old, r, carry, imm && !mem && count != 1 && kind <= SHIFT_ROR, size);
}

#define SHIFT_FORM(name, kind, count, imm) \
    OP_BODY name##_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead) \
    { \
        shift_rm(cpu, i, kind, count, imm, size, mem, dead); \
    } \
    OP_FORMS(name)
#define SHIFT(name, kind) \
    SHIFT_FORM(name##_imm, kind, i->imm, true) \
    SHIFT_FORM(name##_1, kind, 1, false) \
    SHIFT_FORM(name##_cl, kind, cpu->r[R_RCX], false)
SHIFT(rol, SHIFT_ROL)
SHIFT(ror, SHIFT_ROR)
SHIFT(rcl, SHIFT_RCL)
SHIFT(rcr, SHIFT_RCR)
SHIFT(shl, SHIFT_SHL)
SHIFT(shr, SHIFT_SHR)
SHIFT(sar, SHIFT_SAR)

/* --- SHLD, SHRD --------------------------------------------------------------------------------------------------- */

static G_ALWAYS_INLINE inline uint64_t double_left(uint64_t a, uint64_t b, unsigned count, unsigned size, bool *carry)
{
    if (size == 1) {
        /* a:b:a, of which the upper 16 bits are kept */
        uint64_t wide = (a << 32 | b << 16 | a) << count;
        *carry = wide >> 48 & 1;
        return wide >> 32 & 0xffff;
    }
    unsigned bits = size_bits(size);
    *carry = a >> (bits - count) & 1;
    return (a << count | b >> (bits - count)) & size_mask(size);
}

static G_ALWAYS_INLINE inline uint64_t double_right(uint64_t a, uint64_t b, unsigned count, unsigned size, bool *carry)
{
    if (size == 1) {
        uint64_t wide = a << 32 | b << 16 | a;
        *carry = wide >> (count - 1) & 1;
        return wide >> count & 0xffff;
    }
    unsigned bits = size_bits(size);
    *carry = a >> (count - 1) & 1;
    return (a >> count | b << (bits - count)) & size_mask(size);
}

OP_BODY double_shift(struct cpu *cpu, const struct insn *i, bool left, uint64_t raw_count, unsigned size, bool mem,
                     bool dead)
{
    unsigned count = shift_count(raw_count, size);
    uint64_t b = reg_get(cpu, i->reg, size), r;
    bool carry;
    struct rmw m;

    if (!rmw_open(cpu, i, size, mem, &m))
        return;
    if (count == 0) {
        rmw_close(cpu, i, size, mem, &m, m.old);
        return;
    }
    r = left ? double_left(m.old, b, count, size, &carry) : double_right(m.old, b, count, size, &carry);
    rmw_close(cpu, i, size, mem, &m, r);
    if (!dead) {
        bool overflow = left ? top_bits_differ(m.old, size) : sign_bit(m.old, size) ^ (b & 1);
        flags_set_arith(cpu, carry * FLAG_CF | overflow * FLAG_OF | flags_szp(r, size));
    }
}

#define DOUBLE_SHIFT(name, left, count) \
    OP_BODY name##_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead) \
    { \
        if (size > 0) \
            double_shift(cpu, i, left, count, size, mem, dead); \
    } \
    OP_FORMS(name)
DOUBLE_SHIFT(shld_imm, true, i->imm)
DOUBLE_SHIFT(shld_cl, true, cpu->r[R_RCX])
DOUBLE_SHIFT(shrd_imm, false, i->imm)
DOUBLE_SHIFT(shrd_cl, false, cpu->r[R_RCX])

/* --- BMI2: no flags ----------------------------------------------------------------------------------------------- */

OP_BODY shlx_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    uint64_t v = rm_get(cpu, i, size, mem);
    reg_set(cpu, i->reg, v << shift_count(cpu->r[i->vvvv], size), size);
}
OP_FORMS_SIZE_MEM(shlx)

OP_BODY shrx_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    uint64_t v = rm_get(cpu, i, size, mem);
    reg_set(cpu, i->reg, v >> shift_count(cpu->r[i->vvvv], size), size);
}
OP_FORMS_SIZE_MEM(shrx)

OP_BODY sarx_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    int64_t v = (int64_t)sign_extend(rm_get(cpu, i, size, mem), size);
    reg_set(cpu, i->reg, (uint64_t)(v >> shift_count(cpu->r[i->vvvv], size)), size);
}
OP_FORMS_SIZE_MEM(sarx)

OP_BODY rorx_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    uint64_t v = rm_get(cpu, i, size, mem);
    reg_set(cpu, i->reg, rotate_left(v, 0 - shift_count(i->imm, size), size), size);
}
OP_FORMS_SIZE_MEM(rorx)
