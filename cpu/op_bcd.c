/*
 * Decimal corrections: AAA, AAS, AAM, AAD, DAA, DAS. Intel SDM volume 2. Undefined flags as current Intel processors
 * give them (measured). Not in 64-bit mode.
 */
#include "cpu/flags.h"
#include "cpu/op_form.h"
#include "cpu/mem.h"

static bool needs_adjust(const struct cpu *cpu)
{
    return (cpu->r[R_RAX] & 0xf) > 9 || cpu->rflags & FLAG_AF;
}

static void aaa_fn(struct cpu *cpu, const struct insn *i)
{
    uint32_t f = 0;

    if (needs_adjust(cpu)) {
        reg_set(cpu, R_RAX, cpu->r[R_RAX] + 0x106, 1);
        f = FLAG_AF | FLAG_CF;
    }
    uint8_t al = cpu->r[R_RAX] & 0xf;
    reg_set(cpu, R_RAX, al, 0);
    flags_set_arith(cpu, f | flags_szp(al, 0));
}
OP_FORM_ONE(aaa)

static void aas_fn(struct cpu *cpu, const struct insn *i)
{
    uint32_t f = 0;

    if (needs_adjust(cpu)) {
        reg_set(cpu, R_RAX, cpu->r[R_RAX] - 0x106, 1);
        f = FLAG_AF | FLAG_CF;
    }
    uint8_t al = cpu->r[R_RAX] & 0xf;
    reg_set(cpu, R_RAX, al, 0);
    flags_set_arith(cpu, f | flags_szp(al, 0));
}
OP_FORM_ONE(aas)

/* DAA adds, DAS subtracts 6 and 60h. The second test is on the value that came in. */
static void decimal_adjust(struct cpu *cpu, bool subtract)
{
    uint8_t old = (uint8_t)cpu->r[R_RAX], al = old;
    bool carry = cpu->rflags & FLAG_CF;
    uint32_t f = 0;

    if (needs_adjust(cpu)) {
        f |= FLAG_AF;
        if (subtract ? carry || al < 6 : carry || al > 0xf9)
            f |= FLAG_CF;
        al += subtract ? -6 : 6;
    }
    if (old > 0x99 || carry) {
        al += subtract ? -0x60 : 0x60;
        f |= FLAG_CF;
    } else if (!subtract) {
        f &= ~FLAG_CF;
    }
    reg_set(cpu, R_RAX, al, 0);
    flags_set_arith(cpu, f | flags_szp(al, 0));
}

static void daa_fn(struct cpu *cpu, const struct insn *i)
{
    decimal_adjust(cpu, false);
}
OP_FORM_ONE(daa)

static void das_fn(struct cpu *cpu, const struct insn *i)
{
    decimal_adjust(cpu, true);
}
OP_FORM_ONE(das)

static void aam_fn(struct cpu *cpu, const struct insn *i)
{
    uint8_t base = (uint8_t)i->imm, al = (uint8_t)cpu->r[R_RAX];

    if (base == 0)
        cpu_raise(cpu, EXC_DE);
    reg_set(cpu, R_RAX, (uint64_t)(al / base) << 8 | al % base, 1);
    flags_set_arith(cpu, flags_szp(al % base, 0));
}
OP_FORM_ONE(aam)

static void aad_fn(struct cpu *cpu, const struct insn *i)
{
    uint8_t al = (uint8_t)cpu->r[R_RAX], tens = (uint8_t)((cpu->r[R_RAX] >> 8) * i->imm), sum = al + tens;

    reg_set(cpu, R_RAX, sum, 1);
    flags_set_arith(cpu, flags_add(al, tens, sum, 0));
}
OP_FORM_ONE(aad)
