/*
 * Integer arithmetic: ADD to CMP, TEST, INC, DEC, NEG, NOT, multiplication and division, XADD, CMPXCHG*, ADCX, ADOX
 * and the sign extensions in the accumulator. Intel SDM volume 2; BCD corrections are in op_bcd.c.
 *
 * Undefined flags are what current Intel processors give (measured): MUL leaves SF and PF of the low half and clears
 * ZF and AF, DIV changes none. Runs on the vCPU's thread; LOCK forms are atomic against all other vCPUs (cpu/rmw.h).
 */
#include "cpu/flags.h"
#include "cpu/op_form.h"
#include "cpu/rmw.h"
#include "cpu/wide.h"

/* --- The eight classic operations --------------------------------------------------------------------------------- */

enum alu { ALU_ADD, ALU_OR, ALU_ADC, ALU_SBB, ALU_AND, ALU_SUB, ALU_XOR, ALU_CMP, ALU_TEST };

/* `alu` is a constant everywhere: what remains is one operation. */
static G_ALWAYS_INLINE inline uint64_t alu_result(struct cpu *cpu, enum alu alu, uint64_t a, uint64_t b, unsigned size)
{
    uint64_t r = 0;

    switch (alu) {
    case ALU_ADD: r = a + b; break;
    case ALU_OR: r = a | b; break;
    case ALU_ADC: r = a + b + (cpu->rflags & FLAG_CF); break;
    case ALU_SBB: r = a - b - (cpu->rflags & FLAG_CF); break;
    case ALU_AND: case ALU_TEST: r = a & b; break;
    case ALU_SUB: case ALU_CMP: r = a - b; break;
    case ALU_XOR: r = a ^ b; break;
    }
    return r & size_mask(size);
}

static G_ALWAYS_INLINE inline void alu_flags(struct cpu *cpu, enum alu alu, uint64_t a, uint64_t b, uint64_t r,
                                             unsigned size)
{
    uint32_t f = 0;

    switch (alu) {
    case ALU_ADD: f = flags_add(a, b, r, size); break;
    case ALU_ADC: f = flags_adc(a, b, r, size); break;
    case ALU_SBB: f = flags_sbb(a, b, r, size); break;
    case ALU_SUB: case ALU_CMP: f = flags_sub(a, b, r, size); break;
    case ALU_OR: case ALU_AND: case ALU_XOR: case ALU_TEST: f = flags_logic(r, size); break;
    }
    flags_set_arith(cpu, f);
}

/* E <- E op b; CMP and TEST only read. */
OP_BODY alu_to_rm(struct cpu *cpu, const struct insn *i, enum alu alu, uint64_t b, unsigned size, bool mem, bool dead)
{
    struct rmw m;
    uint64_t r;

    if (alu == ALU_CMP || alu == ALU_TEST) {
        m.old = rm_get(cpu, i, size, mem);
        r = alu_result(cpu, alu, m.old, b, size);
    } else {
        if (!rmw_open(cpu, i, size, mem, &m))
            return;
        do {
            r = alu_result(cpu, alu, m.old, b, size);
        } while (!rmw_close(cpu, i, size, mem, &m, r));
    }
    if (!dead)
        alu_flags(cpu, alu, m.old, b, r, size);
}

OP_BODY alu_to_reg(struct cpu *cpu, const struct insn *i, enum alu alu, unsigned size, bool mem, bool dead)
{
    uint64_t b = rm_get(cpu, i, size, mem);
    uint64_t a = reg_get(cpu, i->reg, size);
    uint64_t r = alu_result(cpu, alu, a, b, size);

    if (alu != ALU_CMP && alu != ALU_TEST)
        reg_set(cpu, i->reg, r, size);
    if (!dead)
        alu_flags(cpu, alu, a, b, r, size);
}

#define ALU_STORE(name, alu) \
    OP_BODY name##_store_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead) \
    { \
        alu_to_rm(cpu, i, alu, reg_get(cpu, i->reg, size), size, mem, dead); \
    } \
    OP_FORMS(name##_store)
#define ALU_LOAD(name, alu) \
    OP_BODY name##_load_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead) \
    { \
        alu_to_reg(cpu, i, alu, size, mem, dead); \
    } \
    OP_FORMS(name##_load)
#define ALU_IMM(name, alu) \
    OP_BODY name##_imm_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead) \
    { \
        alu_to_rm(cpu, i, alu, i->imm & size_mask(size), size, mem, dead); \
    } \
    OP_FORMS(name##_imm)

ALU_STORE(add, ALU_ADD)
ALU_LOAD(add, ALU_ADD)
ALU_IMM(add, ALU_ADD)
ALU_STORE(or, ALU_OR)
ALU_LOAD(or, ALU_OR)
ALU_IMM(or, ALU_OR)
ALU_STORE(adc, ALU_ADC)
ALU_LOAD(adc, ALU_ADC)
ALU_IMM(adc, ALU_ADC)
ALU_STORE(sbb, ALU_SBB)
ALU_LOAD(sbb, ALU_SBB)
ALU_IMM(sbb, ALU_SBB)
ALU_STORE(and, ALU_AND)
ALU_LOAD(and, ALU_AND)
ALU_IMM(and, ALU_AND)
ALU_STORE(sub, ALU_SUB)
ALU_LOAD(sub, ALU_SUB)
ALU_IMM(sub, ALU_SUB)
ALU_STORE(xor, ALU_XOR)
ALU_LOAD(xor, ALU_XOR)
ALU_IMM(xor, ALU_XOR)
ALU_STORE(cmp, ALU_CMP)
ALU_LOAD(cmp, ALU_CMP)
ALU_IMM(cmp, ALU_CMP)
ALU_STORE(test, ALU_TEST)
ALU_IMM(test, ALU_TEST)

/* --- One operand -------------------------------------------------------------------------------------------------- */

OP_BODY inc_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    struct rmw m;
    uint64_t r;

    if (!rmw_open(cpu, i, size, mem, &m))
        return;
    do {
        r = (m.old + 1) & size_mask(size);
    } while (!rmw_close(cpu, i, size, mem, &m, r));
    if (!dead)
        flags_set(cpu, flags_add_no_carry(m.old, 1, r, size), FLAGS_ARITH & ~FLAG_CF);
}
OP_FORMS(inc)

OP_BODY dec_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    struct rmw m;
    uint64_t r;

    if (!rmw_open(cpu, i, size, mem, &m))
        return;
    do {
        r = (m.old - 1) & size_mask(size);
    } while (!rmw_close(cpu, i, size, mem, &m, r));
    if (!dead)
        flags_set(cpu, flags_sub_no_carry(m.old, 1, r, size), FLAGS_ARITH & ~FLAG_CF);
}
OP_FORMS(dec)

OP_BODY neg_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    struct rmw m;
    uint64_t r;

    if (!rmw_open(cpu, i, size, mem, &m))
        return;
    do {
        r = (0 - m.old) & size_mask(size);
    } while (!rmw_close(cpu, i, size, mem, &m, r));
    if (!dead)
        flags_set_arith(cpu, flags_sub(0, m.old, r, size));
}
OP_FORMS(neg)

OP_BODY not_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    struct rmw m;

    if (!rmw_open(cpu, i, size, mem, &m))
        return;
    while (!rmw_close(cpu, i, size, mem, &m, ~m.old & size_mask(size)))
        continue;
}
OP_FORMS_SIZE_MEM(not)

/* --- Multiplication ----------------------------------------------------------------------------------------------- */

/* `overflow`: the upper half says more than the lower one. */
static inline void mul_flags(struct cpu *cpu, uint64_t low, bool overflow, unsigned size)
{
    flags_set_arith(cpu, flag_s(low, size) | flag_p(low) | (overflow ? FLAG_CF | FLAG_OF : 0));
}

/* The product goes to AX or to rDX:rAX. */
OP_BODY mul_store(struct cpu *cpu, struct wide p, unsigned size)
{
    if (size == 0) {
        reg_set(cpu, R_RAX, p.lo, 1);
    } else if (size == 3) {
        cpu->r[R_RAX] = p.lo;
        cpu->r[R_RDX] = p.hi;
    } else {
        reg_set(cpu, R_RAX, p.lo, size);
        reg_set(cpu, R_RDX, p.lo >> size_bits(size), size);
    }
}

OP_BODY mul_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    uint64_t b = rm_get(cpu, i, size, mem);
    uint64_t a = reg_get(cpu, R_RAX, size);
    struct wide p = size == 3 ? wide_mul(a, b) : (struct wide){ a * b, 0 };

    mul_store(cpu, p, size);
    if (!dead)
        mul_flags(cpu, p.lo, size == 3 ? p.hi != 0 : p.lo >> size_bits(size) != 0, size);
}
OP_FORMS(mul)

/* Signed product; true if it does not fit into the lower half. */
static G_ALWAYS_INLINE inline bool imul_product(uint64_t a, uint64_t b, unsigned size, struct wide *p)
{
    int64_t x = (int64_t)sign_extend(a, size), y = (int64_t)sign_extend(b, size);

    if (size == 3) {
        *p = wide_mul_signed(x, y);
        return p->hi != (uint64_t)((int64_t)p->lo >> 63);
    }
    p->lo = (uint64_t)(x * y);
    p->hi = 0;
    return p->lo != sign_extend(p->lo, size);
}

OP_BODY imul_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    uint64_t b = rm_get(cpu, i, size, mem);
    struct wide p;
    bool overflow = imul_product(reg_get(cpu, R_RAX, size), b, size, &p);

    mul_store(cpu, p, size);
    if (!dead)
        mul_flags(cpu, p.lo, overflow, size);
}
OP_FORMS(imul)

OP_BODY imul_load_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    uint64_t b = rm_get(cpu, i, size, mem);
    struct wide p;
    bool overflow = imul_product(reg_get(cpu, i->reg, size), b, size, &p);

    reg_set(cpu, i->reg, p.lo, size);
    if (!dead)
        mul_flags(cpu, p.lo, overflow, size);
}
OP_FORMS(imul_load)

OP_BODY imul_imm_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    uint64_t a = rm_get(cpu, i, size, mem);
    struct wide p;
    bool overflow = imul_product(a, i->imm, size, &p);

    reg_set(cpu, i->reg, p.lo, size);
    if (!dead)
        mul_flags(cpu, p.lo, overflow, size);
}
OP_FORMS(imul_imm)

/* --- Division ----------------------------------------------------------------------------------------------------- */

/* The dividend of up to 64 bits: AX, DX:AX or EDX:EAX. */
static G_ALWAYS_INLINE inline uint64_t div_dividend(const struct cpu *cpu, unsigned size)
{
    if (size == 0)
        return reg_get(cpu, R_RAX, 1);
    return reg_get(cpu, R_RDX, size) << size_bits(size) | reg_get(cpu, R_RAX, size);
}

OP_BODY div_store(struct cpu *cpu, uint64_t q, uint64_t rem, unsigned size)
{
    if (size == 0) {
        reg_set(cpu, R_RAX, (rem & 0xff) << 8 | (q & 0xff), 1);
    } else {
        reg_set(cpu, R_RAX, q, size);
        reg_set(cpu, R_RDX, rem, size);
    }
}

OP_BODY div_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    uint64_t d = rm_get(cpu, i, size, mem);
    uint64_t q, rem;

    if (size == 3) {
        struct wide n = { cpu->r[R_RAX], cpu->r[R_RDX] };
        if (n.hi >= d)
            cpu_raise(cpu, EXC_DE);
        q = wide_div(n, d, &rem);
    } else {
        uint64_t n = div_dividend(cpu, size);
        if (n >> size_bits(size) >= d)
            cpu_raise(cpu, EXC_DE);
        q = n / d;
        rem = n % d;
    }
    div_store(cpu, q, rem, size);
}
OP_FORMS_SIZE_MEM(div)

/* RDX:RAX / d by way of magnitudes: the remainder has the dividend's sign. False: the quotient does not fit. */
static bool idiv_wide(struct wide n, uint64_t d, uint64_t *q, uint64_t *rem)
{
    bool n_negative = n.hi >> 63, d_negative = d >> 63;

    if (n_negative)
        n = wide_negate(n);
    if (d_negative)
        d = 0 - d;
    if (n.hi >= d)
        return false;
    *q = wide_div(n, d, rem);
    if (n_negative)
        *rem = 0 - *rem;
    if (n_negative != d_negative) {
        if (*q > (uint64_t)1 << 63)
            return false;
        *q = 0 - *q;
        return true;
    }
    return *q >> 63 == 0;
}

OP_BODY idiv_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    uint64_t d = sign_extend(rm_get(cpu, i, size, mem), size);
    uint64_t q, rem;

    if (size == 3) {
        if (!idiv_wide((struct wide){ cpu->r[R_RAX], cpu->r[R_RDX] }, d, &q, &rem))
            cpu_raise(cpu, EXC_DE);
    } else {
        int64_t n = (int64_t)(size == 2 ? div_dividend(cpu, 2) : sign_extend(div_dividend(cpu, size), size + 1));
        if (d == 0)
            cpu_raise(cpu, EXC_DE);
        /* INT64_MIN / -1 would trap on the host */
        q = d == UINT64_MAX ? 0 - (uint64_t)n : (uint64_t)(n / (int64_t)d);
        rem = d == UINT64_MAX ? 0 : (uint64_t)(n % (int64_t)d);
        if (q != sign_extend(q, size))
            cpu_raise(cpu, EXC_DE);
    }
    div_store(cpu, q, rem, size);
}
OP_FORMS_SIZE_MEM(idiv)

/* --- Sign extension in the accumulator ---------------------------------------------------------------------------- */

/* CBW, CWDE, CDQE by operand size of the result */
OP_BODY cbw_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    if (size > 0)
        reg_set(cpu, R_RAX, sign_extend(cpu->r[R_RAX], size - 1), size);
}
OP_FORMS_SIZE(cbw)

/* CWD, CDQ, CQO */
OP_BODY cwd_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    reg_set(cpu, R_RDX, 0 - (uint64_t)sign_bit(cpu->r[R_RAX], size), size);
}
OP_FORMS_SIZE(cwd)

/* --- Exchange ----------------------------------------------------------------------------------------------------- */

OP_BODY xadd_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    struct rmw m;
    uint64_t b = reg_get(cpu, i->reg, size), r;

    if (!rmw_open(cpu, i, size, mem, &m))
        return;
    if (!mem)
        reg_set(cpu, i->reg, m.old, size); /* first: with one register twice the sum wins */
    do {
        r = (m.old + b) & size_mask(size);
    } while (!rmw_close(cpu, i, size, mem, &m, r));
    if (mem)
        reg_set(cpu, i->reg, m.old, size);
    if (!dead)
        flags_set_arith(cpu, flags_add(m.old, b, r, size));
}
OP_FORMS(xadd)

/* Memory is written in any case, if need be with its own value. */
OP_BODY cmpxchg_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    struct rmw m;
    uint64_t acc = reg_get(cpu, R_RAX, size), src = reg_get(cpu, i->reg, size);

    if (!rmw_open(cpu, i, size, mem, &m))
        return;
    if (mem || m.old == acc) {
        while (!rmw_close(cpu, i, size, mem, &m, m.old == acc ? src : m.old))
            continue;
    }
    if (m.old != acc)
        reg_set(cpu, R_RAX, m.old, size);
    if (!dead)
        flags_set_arith(cpu, flags_sub(acc, m.old, (acc - m.old) & size_mask(size), size));
}
OP_FORMS(cmpxchg)

static void cmpxchg8b_fn(struct cpu *cpu, const struct insn *i)
{
    struct rmw m;
    uint64_t expected = reg_get(cpu, R_RDX, 2) << 32 | reg_get(cpu, R_RAX, 2);
    uint64_t desired = reg_get(cpu, R_RCX, 2) << 32 | reg_get(cpu, R_RBX, 2);

    if (!rmw_open(cpu, i, 3, true, &m))
        return;
    while (!rmw_close(cpu, i, 3, true, &m, m.old == expected ? desired : m.old))
        continue;
    flags_set(cpu, m.old == expected ? FLAG_ZF : 0, FLAG_ZF);
    if (m.old != expected) {
        reg_set(cpu, R_RAX, m.old, 2);
        reg_set(cpu, R_RDX, m.old >> 32, 2);
    }
}
OP_FORM_ONE(cmpxchg8b)

/* Atomic on 16 bytes at `p`; `found` gets what was there. False: this host has no such operation. */
static bool host_cmpxchg16(void *p, const uint64_t expected[2], const uint64_t desired[2], uint64_t found[2])
{
#if defined(__x86_64__)
    uint64_t lo = expected[0], hi = expected[1];
    __asm__ volatile("lock cmpxchg16b %0"
                     : "+m"(*(char(*)[16])p), "+a"(lo), "+d"(hi)
                     : "b"(desired[0]), "c"(desired[1])
                     : "cc", "memory");
    found[0] = lo;
    found[1] = hi;
    return true;
#elif defined(__aarch64__) && defined(__AARCH64EL__)
    unsigned __int128 v = (unsigned __int128)expected[1] << 64 | expected[0];
    unsigned __int128 d = (unsigned __int128)desired[1] << 64 | desired[0];
    v = __sync_val_compare_and_swap((unsigned __int128 *)p, v, d);
    found[0] = (uint64_t)v;
    found[1] = (uint64_t)(v >> 64);
    return true;
#else
    return false;
#endif
}

/* Without a host operation for it, or on a device. */
static bool cmpxchg16b_plain(struct cpu *cpu, const struct insn *i, uint64_t addr, const uint64_t expected[2],
                             const uint64_t desired[2], uint64_t found[2])
{
    mem_probe_write(cpu, addr, 16, i->seg);
    found[0] = mem_load64(cpu, addr, i->seg);
    found[1] = mem_load64(cpu, addr + 8, i->seg);
    bool equal = found[0] == expected[0] && found[1] == expected[1];
    mem_store64(cpu, addr, equal ? desired[0] : found[0], i->seg);
    mem_store64(cpu, addr + 8, equal ? desired[1] : found[1], i->seg);
    return equal;
}

static void cmpxchg16b_fn(struct cpu *cpu, const struct insn *i)
{
    uint64_t expected[2] = { cpu->r[R_RAX], cpu->r[R_RDX] };
    uint64_t desired[2] = { cpu->r[R_RBX], cpu->r[R_RCX] };
    uint64_t found[2];
    uint64_t addr = insn_linear(cpu, i, 16, true);
    bool equal;

    if (addr & 15)
        cpu_raise_gp0(cpu);
    bool lock = (i->flags & (INSN_LOCK | INSN_EXCLUSIVE)) == INSN_LOCK;
    void *host = lock ? mem_host_rw_fast(cpu, addr, 16, i->seg) : NULL;
    if (host && host_cmpxchg16(host, expected, desired, found)) {
        equal = found[0] == expected[0] && found[1] == expected[1];
    } else if (lock) {
        rmw_run_exclusive(cpu, i);
        return;
    } else {
        equal = cmpxchg16b_plain(cpu, i, addr, expected, desired, found);
    }
    flags_set(cpu, equal ? FLAG_ZF : 0, FLAG_ZF);
    if (!equal) {
        cpu->r[R_RAX] = found[0];
        cpu->r[R_RDX] = found[1];
    }
}
OP_FORM_ONE(cmpxchg16b)

/* --- ADX ---------------------------------------------------------------------------------------------------------- */

OP_BODY add_with_flag(struct cpu *cpu, const struct insn *i, uint32_t flag, unsigned size, bool mem)
{
    uint64_t b = rm_get(cpu, i, size, mem);
    uint64_t a = reg_get(cpu, i->reg, size);
    uint64_t r = (a + b + ((cpu->rflags & flag) != 0)) & size_mask(size);

    reg_set(cpu, i->reg, r, size);
    flags_set(cpu, sign_bit((a & b) | ((a | b) & ~r), size) * flag, flag);
}

OP_BODY adcx_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    add_with_flag(cpu, i, FLAG_CF, size, mem);
}
OP_FORMS_SIZE_MEM(adcx)

OP_BODY adox_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    add_with_flag(cpu, i, FLAG_OF, size, mem);
}
OP_FORMS_SIZE_MEM(adox)
