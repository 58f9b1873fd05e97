/* What capstone should say about an instruction that our decoder has found: name and operands. */
#include "tests/lib/decode_compare.h"

#include "cpu/state.h"

#include <string.h>

/* --- Names ---------------------------------------------------------------------------------------------------- */

/* Capstone's names where they are not ours: one of several, by size or by taste. */
static const struct {
    const char *ours, *theirs;
} aliases[] = {
    { "cbw", "cbw cwde cdqe" },
    { "cwd", "cwd cdq cqo" },
    { "jb", "jb" },
    { "jnb", "jae" },
    { "jz", "je" },
    { "jnz", "jne" },
    { "jbe", "jbe" },
    { "jnbe", "ja" },
    { "jnl", "jge" },
    { "jnle", "jg" },
    { "setnb", "setae" },
    { "setz", "sete" },
    { "setnz", "setne" },
    { "setnbe", "seta" },
    { "setnl", "setge" },
    { "setnle", "setg" },
    { "cmovnb", "cmovae" },
    { "cmovz", "cmove" },
    { "cmovnz", "cmovne" },
    { "cmovnbe", "cmova" },
    { "cmovnl", "cmovge" },
    { "cmovnle", "cmovg" },
    { "jrcxz", "jcxz jecxz jrcxz" },
    { "movs", "movsb movsw movsd movsq" },
    { "cmps", "cmpsb cmpsw cmpsd cmpsq" },
    { "stos", "stosb stosw stosd stosq" },
    { "lods", "lodsb lodsw lodsd lodsq" },
    { "scas", "scasb scasw scasd scasq" },
    { "ins", "insb insw insd" },
    { "outs", "outsb outsw outsd" },
    { "pusha", "pushaw pushal" },
    { "popa", "popaw popal" },
    { "pushf", "pushf pushfd pushfq" },
    { "popf", "popf popfd popfq" },
    { "iret", "iret iretd iretq" },
    { "retf", "retf retfq" },
    { "sysret", "sysret sysretq" },
    { "sysexit", "sysexit sysexitq" },
    { "xlat", "xlatb" },
    { "fwait", "wait" },
    { "ud1", "ud2b" },
    { "jmp", "jmp ljmp" },
    { "call", "call lcall" },
    { "mov", "mov movabs" },
    { "fxsave", "fxsave fxsave64" },
    { "fxrstor", "fxrstor fxrstor64" },
    { "xsave", "xsave xsave64" },
    { "xrstor", "xrstor xrstor64" },
    { "xsaveopt", "xsaveopt xsaveopt64" },
    { "xsavec", "xsavec xsavec64" },
    { "xsaves", "xsaves xsaves64" },
    { "xrstors", "xrstors xrstors64" },
    { "fneni", "feni8087_nop" },
    { "fndisi", "fdisi8087_nop" },
    { "fnsetpm", "fsetpm" },
    { "sal", "shl" },
    { "movq", "movq movd" },
    { "vcvtpd2dq", "vcvtpd2dq vcvtpd2dqx" },
    { "vcvttpd2dq", "vcvttpd2dq vcvttpd2dqx" },
    { "vcvtpd2ps", "vcvtpd2ps vcvtpd2psx" },
};

bool expect_word(const char *word, const char *list)
{
    size_t n = strlen(word);
    for (const char *p = strstr(list, word); p; p = strstr(p + 1, word))
        if ((p == list || p[-1] == ' ') && (p[n] == ' ' || !p[n]))
            return true;
    return false;
}

/* CMPPS and its like: capstone names the predicate instead of listing the immediate. */
static bool is_named_compare(const struct compared *x)
{
    const char *ours = x->row->mnemonic, *p = strstr(ours, "cmp");
    size_t head = p ? p - ours + 3 : 0, n = strlen(x->mnemonic);
    return p && x->row->opcode == 0xc2 && strlen(ours) == head + 2 && n > head + 2 &&
           !strncmp(ours, x->mnemonic, head) && !strcmp(ours + head, x->mnemonic + n - 2);
}

bool expect_mnemonic(const struct compared *x)
{
    const char *ours = x->row->mnemonic;
    if (!strcmp(ours, x->mnemonic) || is_named_compare(x))
        return true;
    for (unsigned k = 0; k < G_N_ELEMENTS(aliases); k++)
        if (!strcmp(ours, aliases[k].ours))
            return expect_word(x->mnemonic, aliases[k].theirs);
    return false;
}

/* --- Registers ------------------------------------------------------------------------------------------------ */

static x86_reg gpr(unsigned r, unsigned size)
{
    static const x86_reg regs[4][8] = {
        { X86_REG_AL, X86_REG_CL, X86_REG_DL, X86_REG_BL, X86_REG_SPL, X86_REG_BPL, X86_REG_SIL, X86_REG_DIL },
        { X86_REG_AX, X86_REG_CX, X86_REG_DX, X86_REG_BX, X86_REG_SP, X86_REG_BP, X86_REG_SI, X86_REG_DI },
        { X86_REG_EAX, X86_REG_ECX, X86_REG_EDX, X86_REG_EBX, X86_REG_ESP, X86_REG_EBP, X86_REG_ESI, X86_REG_EDI },
        { X86_REG_RAX, X86_REG_RCX, X86_REG_RDX, X86_REG_RBX, X86_REG_RSP, X86_REG_RBP, X86_REG_RSI, X86_REG_RDI },
    };
    static const x86_reg high[4] = { X86_REG_AH, X86_REG_CH, X86_REG_DH, X86_REG_BH };
    static const x86_reg r8[4] = { X86_REG_R8B, X86_REG_R8W, X86_REG_R8D, X86_REG_R8 };
    if (r >= R_HIGH_BYTE)
        return size == 0 ? high[r & 3] : X86_REG_INVALID;
    return r < 8 ? regs[size][r] : r8[size] + r - 8;
}

static x86_reg seg_reg(unsigned s)
{
    static const x86_reg regs[6] = { X86_REG_ES, X86_REG_CS, X86_REG_SS, X86_REG_DS, X86_REG_FS, X86_REG_GS };
    return s < 6 ? regs[s] : X86_REG_INVALID;
}

/* --- One operand ---------------------------------------------------------------------------------------------- */

/* Size of an operand in bytes; 0: not compared. */
static unsigned type_bytes(const struct insn *i, unsigned type)
{
    unsigned wide = 16u << i->vl;
    switch (type) {
    case TYPE_b:
    case TYPE_bs:
    case TYPE_db: return 1;
    case TYPE_w:
    case TYPE_dw: return 2;
    case TYPE_d:
    case TYPE_ss: return 4;
    case TYPE_q:
    case TYPE_sd: return 8;
    case TYPE_dq: return 16;
    case TYPE_qq: return 32;
    case TYPE_y: return i->flags & INSN_W ? 8 : 4;
    case TYPE_v:
    case TYPE_n: return 1u << i->osize;
    case TYPE_z: return i->osize == 1 ? 2 : 4;
    case TYPE_x:
    case TYPE_ps:
    case TYPE_pd: return wide;
    case TYPE_xh: return wide / 2;
    case TYPE_xq: return wide / 4;
    case TYPE_xe: return wide / 8;
    case TYPE_t: return 10;
    default: return 0;
    }
}

static unsigned log2_bytes(unsigned bytes)
{
    return bytes >= 8 ? 3 : bytes >= 4 ? 2 : bytes >= 2 ? 1 : 0;
}

static x86_reg vec_reg(const struct insn *i, unsigned r, unsigned type)
{
    return (type_bytes(i, type) == 32 ? X86_REG_YMM0 : X86_REG_XMM0) + r;
}

/* The register of an operand that is one; X86_REG_INVALID if it is none. */
static x86_reg operand_reg(const struct insn *i, const struct operand_info *o, unsigned code)
{
    unsigned bytes = type_bytes(i, o->type), size = log2_bytes(bytes);
    if (o->type == TYPE_db || o->type == TYPE_dw)
        size = 2;
    switch (o->method) {
    case METHOD_E:
    case METHOD_R:
    case METHOD_Z: return gpr(i->rm, size);
    case METHOD_G: return gpr(i->reg, size);
    case METHOD_B: return gpr(i->vvvv, size);
    case METHOD_S: return seg_reg(i->reg);
    case METHOD_C: return X86_REG_CR0 + i->reg;
    case METHOD_D: return X86_REG_DR0 + i->reg;
    case METHOD_P: return X86_REG_MM0 + i->reg;
    case METHOD_Q:
    case METHOD_N: return X86_REG_MM0 + i->rm;
    case METHOD_V: return vec_reg(i, i->reg, o->type);
    case METHOD_W:
    case METHOD_U: return vec_reg(i, i->rm, o->type);
    case METHOD_H: return vec_reg(i, i->vvvv, o->type);
    case METHOD_L: return vec_reg(i, i->is4, o->type);
    case METHOD_ST: return X86_REG_ST0 + i->rm;
    case METHOD_FIXED: break;
    default: return X86_REG_INVALID;
    }
    switch (code) {
    case OPERAND_AL: return X86_REG_AL;
    case OPERAND_CL: return X86_REG_CL;
    case OPERAND_AX: return X86_REG_AX;
    case OPERAND_DX: return X86_REG_DX;
    case OPERAND_eAX:
    case OPERAND_rAX: return gpr(R_RAX, size);
    case OPERAND_ST0: return X86_REG_ST0;
    case OPERAND_XMM0: return X86_REG_XMM0;
    case OPERAND_ONE: return X86_REG_INVALID;
    default: return seg_reg(code - OPERAND_ES);
    }
}

static bool is_memory(const struct insn *i, const struct operand_info *o)
{
    switch (o->method) {
    case METHOD_E:
    case METHOD_M:
    case METHOD_Q:
    case METHOD_W: return i->flags & INSN_MEM;
    case METHOD_O:
    case METHOD_X:
    case METHOD_Y:
    case METHOD_VM: return true;
    default: return false;
    }
}

static bool segment_matches(const struct insn *i, x86_reg theirs)
{
    bool stack = i->base == R_RSP || i->base == R_RBP;
    switch (i->seg) {
    case SEG_FLAT:
    case SEG_FLAT_STACK:
        /* An override without effect is still shown. */
        return (i->seg == SEG_FLAT_STACK) == stack && theirs != X86_REG_FS && theirs != X86_REG_GS;
    default: return theirs == X86_REG_INVALID ? i->seg == (stack ? SEG_SS : SEG_DS) : theirs == seg_reg(i->seg);
    }
}

/* EIZ and RIZ stand for "no index" in a SIB byte. */
static bool mem_matches(const struct insn *i, const struct operand_info *o, const cs_x86_op *op)
{
    const x86_op_mem *m = &op->mem;
    unsigned base = i->base, index = i->index, bytes = type_bytes(i, o->type);
    uint64_t mask = i->asize == 3 ? UINT64_MAX : i->asize == 2 ? UINT32_MAX : 0xffff;
    x86_reg want_base = base == R_ZERO  ? X86_REG_INVALID
                        : base == R_RIP ? (i->asize == 3 ? X86_REG_RIP : X86_REG_EIP)
                                        : gpr(base, i->asize);
    x86_reg want_index = index == R_ZERO ? X86_REG_INVALID : gpr(index, i->asize);
    x86_reg have_index = m->index == X86_REG_EIZ || m->index == X86_REG_RIZ ? X86_REG_INVALID : m->index;
    if (o->method == METHOD_VM)
        want_index = (i->vl && o->type != TYPE_dq ? X86_REG_YMM0 : X86_REG_XMM0) + index;
    if (o->method == METHOD_Y)
        return m->base == gpr(R_RDI, i->asize) && op->size == bytes &&
               (m->segment == X86_REG_ES || m->segment == X86_REG_INVALID);
    return m->base == want_base && have_index == want_index &&
           (want_index == X86_REG_INVALID || m->scale == 1 << i->scale) &&
           ((uint64_t)(m->disp ^ i->disp) & mask) == 0 && segment_matches(i, m->segment) &&
           (!bytes || o->method == METHOD_VM || op->size == bytes);
}

static bool imm_matches(const struct compared *x, const struct operand_info *o, const cs_x86_op *op)
{
    const struct insn *i = &x->insn;
    uint64_t mask, want = i->imm;
    switch (o->method) {
    case METHOD_J:
        mask = i->osize == 3 ? UINT64_MAX : i->osize == 2 ? UINT32_MAX : 0xffff;
        want = i->disp + i->len;
        break;
    case METHOD_FIXED:
        mask = 0xff;
        want = 1;
        break;
    default:
        mask = o->type == TYPE_b   ? 0xff
               : o->type == TYPE_w ? 0xffff
               : i->osize == 3     ? UINT64_MAX
                                   : (UINT64_C(1) << (8 << i->osize)) - 1;
    }
    return ((op->imm ^ want) & mask) == 0;
}

static bool operand_matches(const struct compared *x, unsigned code, const cs_x86_op *op)
{
    const struct operand_info *o = &operand_info[code];
    if (is_memory(&x->insn, o))
        return op->type == X86_OP_MEM && mem_matches(&x->insn, o, op);
    if (o->method == METHOD_I || o->method == METHOD_J || code == OPERAND_ONE)
        return op->type == X86_OP_IMM && imm_matches(x, o, op);
    return op->type == X86_OP_REG && op->reg == operand_reg(&x->insn, o, code);
}

/* --- All operands --------------------------------------------------------------------------------------------- */

static bool far_pointer_matches(const struct compared *x)
{
    const cs_x86 *d = &x->cs->detail->x86;
    return d->op_count == 2 && d->operands[0].type == X86_OP_IMM && d->operands[1].type == X86_OP_IMM &&
           (d->operands[0].imm & 0xffff) == (int64_t)(x->insn.imm >> 32) &&
           (uint32_t)d->operands[1].imm == (uint32_t)x->insn.imm;
}

/* ENTER keeps both immediates in imm. */
static bool enter_matches(const struct compared *x)
{
    const cs_x86 *d = &x->cs->detail->x86;
    return d->op_count == 2 && d->operands[0].type == X86_OP_IMM && d->operands[1].type == X86_OP_IMM &&
           ((d->operands[0].imm ^ x->insn.imm) & 0xffff) == 0 && (uint8_t)d->operands[1].imm == x->insn.imm >> 32;
}

/* Operands that capstone does not list. */
static bool is_hidden(const struct compared *x, unsigned code)
{
    const cs_x86 *d = &x->cs->detail->x86;
    unsigned method = operand_info[code].method;
    if (code == OPERAND_Ib && is_named_compare(x))
        return (d->avx_cc ? (unsigned)d->avx_cc : (unsigned)d->sse_cc) == x->insn.imm + 1;
    return method == METHOD_DI || method == METHOD_AXM || method == METHOD_BX;
}

/* x87 registers: ST(0) is listed or not as the assembler's taste has it. What remains must be the one register. */
static bool x87_matches(const struct compared *x)
{
    const cs_x86 *d = &x->cs->detail->x86;
    x86_reg want = X86_REG_ST0, have = X86_REG_ST0;
    for (int k = 0; k < 4; k++)
        if (x->row->operands[k] == OPERAND_STi)
            want = X86_REG_ST0 + x->insn.rm;
    for (unsigned n = 0; n < d->op_count; n++) {
        if (d->operands[n].type != X86_OP_REG)
            return false;
        if (d->operands[n].reg == X86_REG_AX && x->row->operands[0] == OPERAND_AX)
            continue;
        if (d->operands[n].reg != X86_REG_ST0)
            have = d->operands[n].reg;
    }
    return want == have;
}

bool expect_operands(const struct compared *x, unsigned from, unsigned to)
{
    const cs_x86 *d = &x->cs->detail->x86;
    unsigned n = 0;
    if (x->row->map == MAP_X87 && !(x->insn.flags & INSN_MEM))
        return x87_matches(x);
    if (x->row->operands[0] == OPERAND_Ap)
        return far_pointer_matches(x);
    if (x->row->operands[0] == OPERAND_Iw && x->row->operands[1] == OPERAND_Ib)
        return enter_matches(x);
    for (int k = 0; k < 4 && x->row->operands[k] != OPERAND__; k++) {
        unsigned code = x->row->operands[k];
        if (from != to && code == from)
            code = to;
        if (code == OPERAND__ || is_hidden(x, code))
            continue;
        if (n >= d->op_count || !operand_matches(x, code, &d->operands[n]))
            return false;
        n++;
    }
    return n == d->op_count;
}
