/*
 * Bits: BT, BTS, BTR, BTC, BSF, BSR, TZCNT, LZCNT, POPCNT, BMI1 and BMI2 but for the shifts, CRC32. Intel SDM volume
 * 2.
 *
 * BT with a register offset and a memory operand addresses a bit string: the offset is signed and reaches any
 * operand-sized unit around the address. BSF and BSR leave the destination alone if the source is 0, as all
 * processors do. Undefined flags as current Intel processors give them (measured). Runs on the vCPU's thread; LOCK
 * forms are atomic (cpu/rmw.h).
 */
#include "cpu/flags.h"
#include "cpu/op_form.h"
#include "cpu/rmw.h"
#include "cpu/wide.h"

/* --- Bit tests ---------------------------------------------------------------------------------------------------- */

enum bit_op { BIT_TEST, BIT_SET, BIT_RESET, BIT_COMPLEMENT };

static G_ALWAYS_INLINE inline uint64_t bit_result(enum bit_op op, uint64_t v, uint64_t bit)
{
    switch (op) {
    case BIT_SET: return v | bit;
    case BIT_RESET: return v & ~bit;
    case BIT_COMPLEMENT: return v ^ bit;
    default: return v;
    }
}

/* Linear address of the unit that holds bit `offset` of the string at the memory operand. */
static G_ALWAYS_INLINE inline uint64_t bit_unit(struct cpu *cpu, const struct insn *i, uint64_t offset, unsigned size,
                                                bool write)
{
    int64_t unit = (int64_t)sign_extend(offset, size) >> (3 + size);
    uint64_t ea = insn_ea(cpu, i) + (uint64_t)unit * (1u << size);

    if (i->asize != 3)
        ea &= size_mask(i->asize);
    return seg_linear(cpu, i->seg, ea, 1u << size, write);
}

OP_BODY bit_rm(struct cpu *cpu, const struct insn *i, enum bit_op op, uint64_t offset, bool string, unsigned size,
               bool mem, bool dead)
{
    uint64_t bit = UINT64_C(1) << (offset & (size_bits(size) - 1));
    struct rmw m;

    if (op == BIT_TEST) {
        if (mem) {
            uint64_t addr = string ? bit_unit(cpu, i, offset, size, false) : insn_linear(cpu, i, 1u << size, false);
            m.old = mem_load(cpu, addr, size, i->seg);
        } else {
            m.old = reg_get(cpu, i->rm, size);
        }
    } else {
        if (mem && string) {
            if (!rmw_open_at(cpu, i, bit_unit(cpu, i, offset, size, true), size, i->flags & INSN_LOCK, &m))
                return;
        } else if (!rmw_open(cpu, i, size, mem, &m)) {
            return;
        }
        while (!rmw_close(cpu, i, size, mem, &m, bit_result(op, m.old, bit)))
            continue;
    }
    if (!dead)
        flags_set(cpu, m.old & bit ? FLAG_CF : 0, FLAG_CF);
}

#define BIT_FORMS(name, op) \
    OP_BODY name##_reg_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead) \
    { \
        bit_rm(cpu, i, op, reg_get(cpu, i->reg, size), true, size, mem, dead); \
    } \
    OP_FORMS(name##_reg) \
    OP_BODY name##_imm_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead) \
    { \
        bit_rm(cpu, i, op, i->imm, false, size, mem, dead); \
    } \
    OP_FORMS(name##_imm)
BIT_FORMS(bt, BIT_TEST)
BIT_FORMS(bts, BIT_SET)
BIT_FORMS(btr, BIT_RESET)
BIT_FORMS(btc, BIT_COMPLEMENT)

/* --- Scans and counts --------------------------------------------------------------------------------------------- */

OP_BODY bit_scan(struct cpu *cpu, const struct insn *i, bool reverse, unsigned size, bool mem)
{
    uint64_t v = rm_get(cpu, i, size, mem);

    if (v == 0) {
        flags_set_arith(cpu, FLAG_ZF | FLAG_PF);
        return;
    }
    unsigned n = reverse ? 63 - __builtin_clzll(v) : __builtin_ctzll(v);
    reg_set(cpu, i->reg, n, size);
    flags_set_arith(cpu, flag_p(n));
}

OP_BODY bsf_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    bit_scan(cpu, i, false, size, mem);
}
OP_FORMS_SIZE_MEM(bsf)

OP_BODY bsr_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    bit_scan(cpu, i, true, size, mem);
}
OP_FORMS_SIZE_MEM(bsr)

OP_BODY tzcnt_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    uint64_t v = rm_get(cpu, i, size, mem);
    unsigned n = v ? (unsigned)__builtin_ctzll(v) : size_bits(size);

    reg_set(cpu, i->reg, n, size);
    flags_set_arith(cpu, (v == 0) * FLAG_CF | flag_z(n));
}
OP_FORMS_SIZE_MEM(tzcnt)

OP_BODY lzcnt_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    uint64_t v = rm_get(cpu, i, size, mem);
    unsigned n = v ? __builtin_clzll(v) - (64 - size_bits(size)) : size_bits(size);

    reg_set(cpu, i->reg, n, size);
    flags_set_arith(cpu, (v == 0) * FLAG_CF | flag_z(n));
}
OP_FORMS_SIZE_MEM(lzcnt)

OP_BODY popcnt_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    uint64_t v = rm_get(cpu, i, size, mem);

    reg_set(cpu, i->reg, __builtin_popcountll(v), size);
    flags_set_arith(cpu, flag_z(v));
}
OP_FORMS_SIZE_MEM(popcnt)

/* --- BMI1 --------------------------------------------------------------------------------------------------------- */

OP_BODY andn_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    uint64_t r = rm_get(cpu, i, size, mem) & ~reg_get(cpu, i->vvvv, size);

    reg_set(cpu, i->reg, r, size);
    flags_set_arith(cpu, flag_s(r, size) | flag_z(r));
}
OP_FORMS_SIZE_MEM(andn)

OP_BODY bextr_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    uint64_t v = rm_get(cpu, i, size, mem);
    unsigned start = cpu->r[i->vvvv] & 0xff, len = cpu->r[i->vvvv] >> 8 & 0xff;
    uint64_t r = start < 64 ? v >> start : 0;

    if (len < 64)
        r &= (UINT64_C(1) << len) - 1;
    reg_set(cpu, i->reg, r, size);
    flags_set_arith(cpu, flag_z(r));
}
OP_FORMS_SIZE_MEM(bextr)

OP_BODY blsi_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    uint64_t v = rm_get(cpu, i, size, mem);
    uint64_t r = v & (0 - v);

    reg_set(cpu, i->vvvv, r, size);
    flags_set_arith(cpu, flag_s(r, size) | flag_z(r) | (v != 0) * FLAG_CF);
}
OP_FORMS_SIZE_MEM(blsi)

OP_BODY blsr_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    uint64_t v = rm_get(cpu, i, size, mem);
    uint64_t r = v & (v - 1);

    reg_set(cpu, i->vvvv, r, size);
    flags_set_arith(cpu, flag_s(r, size) | flag_z(r) | (v == 0) * FLAG_CF);
}
OP_FORMS_SIZE_MEM(blsr)

OP_BODY blsmsk_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    uint64_t v = rm_get(cpu, i, size, mem);
    uint64_t r = (v ^ (v - 1)) & size_mask(size);

    reg_set(cpu, i->vvvv, r, size);
    flags_set_arith(cpu, flag_s(r, size) | (v == 0) * FLAG_CF);
}
OP_FORMS_SIZE_MEM(blsmsk)

/* --- BMI2 --------------------------------------------------------------------------------------------------------- */

OP_BODY bzhi_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    uint64_t v = rm_get(cpu, i, size, mem);
    unsigned n = cpu->r[i->vvvv] & 0xff;
    bool beyond = n >= size_bits(size);
    uint64_t r = beyond ? v : v & ((UINT64_C(1) << n) - 1);

    reg_set(cpu, i->reg, r, size);
    flags_set_arith(cpu, flag_s(r, size) | flag_z(r) | beyond * FLAG_CF);
}
OP_FORMS_SIZE_MEM(bzhi)

/* Both halves into one register: the upper one stays. */
OP_BODY mulx_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    uint64_t b = rm_get(cpu, i, size, mem), a = reg_get(cpu, R_RDX, size);

    if (size == 3) {
        struct wide p = wide_mul(a, b);
        cpu->r[i->vvvv] = p.lo;
        cpu->r[i->reg] = p.hi;
    } else {
        reg_set(cpu, i->vvvv, a * b, 2);
        reg_set(cpu, i->reg, a * b >> 32, 2);
    }
}
OP_FORMS_SIZE_MEM(mulx)

/* One turn per set bit of the mask. */
OP_BODY pdep_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    uint64_t mask = rm_get(cpu, i, size, mem), v = reg_get(cpu, i->vvvv, size), r = 0;

    for (; mask; mask &= mask - 1, v >>= 1)
        r |= (0 - (v & 1)) & mask & (0 - mask);
    reg_set(cpu, i->reg, r, size);
}
OP_FORMS_SIZE_MEM(pdep)

OP_BODY pext_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    uint64_t mask = rm_get(cpu, i, size, mem), v = reg_get(cpu, i->vvvv, size), r = 0;

    for (unsigned n = 0; mask; mask &= mask - 1, n++)
        r |= (uint64_t)((v & mask & (0 - mask)) != 0) << n;
    reg_set(cpu, i->reg, r, size);
}
OP_FORMS_SIZE_MEM(pext)

/* --- CRC32 (SSE4.2): Castagnoli polynomial, bits reflected -------------------------------------------------------- */

static inline uint32_t crc32c_byte(uint32_t crc, uint8_t byte)
{
    crc ^= byte;
    for (int bit = 0; bit < 8; bit++)
        crc = crc >> 1 ^ ((0 - (crc & 1)) & 0x82f63b78);
    return crc;
}

/* The source has the operand size; the destination's upper half is cleared in any case. */
OP_BODY crc32_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    uint64_t v = rm_get(cpu, i, size, mem);
    uint32_t crc = (uint32_t)cpu->r[i->reg];

    for (unsigned n = 0; n < 1u << size; n++)
        crc = crc32c_byte(crc, (uint8_t)(v >> 8 * n));
    cpu->r[i->reg] = crc;
}
OP_FORMS_SIZE_MEM(crc32)

/* F0: the source is a byte whatever the operand size. */
OP_BODY crc32_8_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    crc32_op(cpu, i, 0, mem, dead);
}
OP_FORMS_SIZE_MEM(crc32_8)
