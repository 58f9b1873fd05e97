/*
 * The accepted differences between decoder and capstone 4.0.2, by cause.
 *
 * Where the manual (Intel SDM, volume 2) and real processors decide against capstone, or capstone shows the same thing
 * in another way. Extensions that we do not model are listed by name. An entry says as little as it can: what else the
 * encoding holds is still compared, in a rewritten form that capstone understands.
 */
#include "tests/lib/decode_compare.h"

#include "cpu/state.h"

#include <string.h>

/* --- Prefixes, read independently of the decoder -------------------------------------------------------------- */

struct prefixes {
    uint8_t seg, rep, rex; /* the ones in force, or 0 */
    bool lock, opsize, asize;
    unsigned count;
};

static struct prefixes read_prefixes(const struct compared *x)
{
    struct prefixes p = { 0 };
    for (unsigned k = 0; k < x->opcode_at; k++) {
        uint8_t b = x->bytes[k];
        if (b == 0x64 || b == 0x65 || (x->code_size != 3 && (b & 0xe7) == 0x26))
            p.seg = b;
        p.rep = b == 0xf2 || b == 0xf3 ? b : p.rep;
        p.lock |= b == 0xf0;
        p.opsize |= b == 0x66;
        p.asize |= b == 0x67;
        p.rex = x->code_size == 3 && (b & 0xf0) == 0x40 ? b : 0;
    }
    p.count = x->opcode_at;
    return p;
}

/* Writes them in the one order that capstone reads well, and the rest of the instruction behind. */
static bool emit(const struct compared *x, const struct prefixes *p, uint8_t out[DECODE_BYTES])
{
    unsigned n = 0, rest = DECODE_BYTES - x->opcode_at;
    if (p->lock)
        out[n++] = 0xf0;
    if (p->seg)
        out[n++] = p->seg;
    if (p->asize)
        out[n++] = 0x67;
    if (p->opsize)
        out[n++] = 0x66;
    if (p->rep)
        out[n++] = p->rep;
    if (p->rex)
        out[n++] = p->rex;
    memcpy(out + n, x->bytes + x->opcode_at, MIN(rest, DECODE_BYTES - 1 - n));
    return true;
}

/* What the decoder says to these bytes in the same mode. */
static const struct insn_row *decode(const struct compared *x, const uint8_t *bytes)
{
    struct insn i;
    struct decode_mode mode = { .code_size = x->code_size, .protected_mode = true };
    return decode_insn(bytes, DECODE_BYTES, mode, &i) == DECODE_OK ? insn_row(&i) : NULL;
}

/* --- Prefix order and meaning --------------------------------------------------------------------------------- */

static bool rewrite_order(const struct compared *x, uint8_t out[DECODE_BYTES], unsigned *code_size)
{
    struct prefixes p = read_prefixes(x);
    return p.count && emit(x, &p, out);
}

/* 16-bit code as 32-bit code with the other sizes. 66 is left alone where it is the mandatory prefix. */
static bool rewrite_as_32(const struct compared *x, uint8_t out[DECODE_BYTES], unsigned *code_size)
{
    struct prefixes p = read_prefixes(x);
    if (x->code_size != 1)
        return false;
    p.asize = !p.asize;
    if (x->row->prefix != PFX_66)
        p.opsize = !p.opsize;
    *code_size = 2;
    return emit(x, &p, out);
}

static bool is_selected_by_prefix(const struct compared *x)
{
    return x->row->prefix != PFX_ANY && x->row->prefix != PFX_NP;
}

/* Without F3, F2 and perhaps 66 it is one of those that prefixes select. */
static bool has_reserved_prefix(const struct compared *x)
{
    struct prefixes p = read_prefixes(x);
    uint8_t bytes[DECODE_BYTES] = { 0 };
    if (!p.rep && !p.opsize)
        return false;
    p.rep = 0;
    p.lock = false;
    emit(x, &p, bytes);
    const struct insn_row *row = decode(x, bytes);
    if (row && row->prefix != PFX_ANY)
        return true;
    p.opsize = false;
    emit(x, &p, bytes);
    row = decode(x, bytes);
    return row && row->prefix != PFX_ANY;
}

static bool has_bad_lock(const struct compared *x)
{
    struct prefixes p = read_prefixes(x);
    uint8_t bytes[DECODE_BYTES] = { 0 };
    if (!p.lock)
        return false;
    p.lock = false;
    emit(x, &p, bytes);
    const struct insn_row *row = decode(x, bytes);
    bool memory = x->cs->detail->x86.op_count && x->cs->detail->x86.operands[0].type == X86_OP_MEM;
    return row && !(row->attr & ROW_LOCK && memory);
}

static bool is_branch_with_66(const struct compared *x)
{
    return x->code_size == 3 && x->row->attr & ROW_F64 && x->insn.flags & INSN_OPSIZE;
}

static bool rewrite_without_66(const struct compared *x, uint8_t out[DECODE_BYTES], unsigned *code_size)
{
    struct prefixes p = read_prefixes(x);
    p.opsize = false;
    return emit(x, &p, out);
}

static bool has_w_and_66(const struct compared *x)
{
    return x->insn.flags & INSN_W && x->insn.flags & INSN_OPSIZE;
}

static bool has_w_and_67(const struct compared *x)
{
    return x->insn.flags & INSN_W && x->insn.asize == 2;
}

static bool has_w(const struct compared *x)
{
    return x->insn.flags & INSN_W;
}

static bool rewrite_without_w(const struct compared *x, uint8_t out[DECODE_BYTES], unsigned *code_size)
{
    struct prefixes p = read_prefixes(x);
    p.rex &= ~8;
    return emit(x, &p, out);
}

/* 66 counts for nothing where REX.W is there, unless it selects the row. */
static bool rewrite_without_sizes(const struct compared *x, uint8_t out[DECODE_BYTES], unsigned *code_size)
{
    struct prefixes p = read_prefixes(x);
    p.asize = false;
    p.opsize &= x->row->prefix == PFX_66;
    return emit(x, &p, out);
}

static bool has_67_for_66(const struct compared *x)
{
    struct prefixes p = read_prefixes(x);
    uint8_t bytes[DECODE_BYTES] = { 0 };
    if (!p.asize || !(p.rex & 8))
        return false;
    p.opsize = true;
    p.asize = false;
    p.rep = 0;
    p.lock = false;
    emit(x, &p, bytes);
    const struct insn_row *row = decode(x, bytes);
    return row && row->prefix == PFX_66;
}

static bool is_not_64(const struct compared *x)
{
    return x->code_size != 3;
}

/* VEX.W cleared. */
static bool rewrite_vex_w(const struct compared *x, uint8_t out[DECODE_BYTES], unsigned *code_size)
{
    memcpy(out, x->bytes, DECODE_BYTES);
    if (x->bytes[x->opcode_at] != 0xc4)
        return false;
    out[x->opcode_at + 2] &= 0x7f;
    return true;
}

static bool is_repeated(const struct compared *x)
{
    return x->row->attr & (ROW_REP | ROW_REPZ) && x->insn.flags & (INSN_REP | INSN_REPNE);
}

/* REP before 66. */
static bool rewrite_rep_first(const struct compared *x, uint8_t out[DECODE_BYTES], unsigned *code_size)
{
    struct prefixes p = read_prefixes(x);
    uint8_t bytes[DECODE_BYTES] = { 0 };
    out[0] = p.rep;
    p.rep = 0;
    emit(x, &p, bytes);
    memcpy(out + 1, bytes, DECODE_BYTES - 1);
    return true;
}

static bool rewrite_without_rex_r(const struct compared *x, uint8_t out[DECODE_BYTES], unsigned *code_size)
{
    struct prefixes p = read_prefixes(x);
    if (!(p.rex & 4))
        return false;
    p.rex &= ~4;
    return emit(x, &p, out);
}

static bool rewrite_without_rep(const struct compared *x, uint8_t out[DECODE_BYTES], unsigned *code_size)
{
    struct prefixes p = read_prefixes(x);
    if (!p.rep)
        return false;
    p.rep = 0;
    return emit(x, &p, out);
}

/* REP on what does not repeat does nothing; between 66 and the opcode it keeps capstone from seeing the 66. */
static bool has_idle_rep(const struct compared *x)
{
    return x->insn.flags & (INSN_REP | INSN_REPNE) && !(x->row->attr & (ROW_REP | ROW_REPZ));
}

/* --- Opcodes -------------------------------------------------------------------------------------------------- */

static bool is_0f(const struct compared *x, unsigned first, unsigned last)
{
    const uint8_t *b = x->bytes + x->opcode_at;
    return b[0] == 0x0f && b[1] >= first && b[1] <= last;
}

static bool is_bad_register(const struct compared *x)
{
    const uint8_t *b = x->bytes + x->opcode_at;
    return is_0f(x, 0x20, 0x27) || b[0] == 0x8c || b[0] == 0x8e;
}

static bool is_3dnow(const struct compared *x)
{
    return is_0f(x, 0x0f, 0x0f);
}

static bool is_evex(const struct compared *x)
{
    return x->bytes[x->opcode_at] == 0x62;
}

/* Index, mask and destination must differ, and the address needs a SIB byte. */
static bool is_bad_gather(const struct compared *x)
{
    const uint8_t *b = x->bytes + x->opcode_at;
    return b[0] == 0xc4 && (b[1] & 0x1f) == 2 && b[3] >= 0x90 && b[3] <= 0x93;
}

static bool is_short(const struct compared *x)
{
    return x->insn.len == x->opcode_at + 3;
}

static bool is_xop(const struct compared *x)
{
    return x->bytes[x->opcode_at] == 0x8f;
}

static bool is_vex(const struct compared *x)
{
    uint8_t b = x->bytes[x->opcode_at];
    return (b & 0xfe) == 0xc4;
}

/* FMA4 and the five-operand XOP permutes have VEX encodings. */
static bool is_fma4(const struct compared *x)
{
    const uint8_t *b = x->bytes + x->opcode_at;
    return b[0] == 0xc4 && (b[1] & 0x1f) == 3 && ((b[3] >= 0x5c && b[3] <= 0x7f) || b[3] == 0x48 || b[3] == 0x49);
}

static bool is_opmask(const struct compared *x)
{
    return is_vex(x) && x->mnemonic[0] == 'k';
}

/* The same name with other W, L, vvvv or without prefixes before VEX. */
static bool has_reserved_vex(const struct compared *x)
{
    uint8_t bytes[DECODE_BYTES] = { 0xc4 };
    const uint8_t *b = x->bytes + x->opcode_at;
    unsigned vex = b[0] == 0xc4 ? 3 : 2;
    if (!is_vex(x))
        return false;
    bytes[1] = vex == 3 ? b[1] : 0x61 | (b[1] & 0x80);
    memcpy(bytes + 3, b + vex, MIN(DECODE_BYTES - 3, DECODE_BYTES - x->opcode_at - vex));
    for (unsigned k = 0; k < 8; k++) {
        bytes[2] = (b[vex - 1] & 3) | (k & 1 ? 0x80 : 0) | (k & 2 ? 4 : 0) | (k & 4 ? 0x78 : b[vex - 1] & 0x78);
        const struct insn_row *row = decode(x, bytes);
        /* vcvtpd2dq may end in x or y; vpextrq is vpextrd outside 64-bit mode. */
        if (row && (g_str_has_prefix(x->mnemonic, row->mnemonic) ||
                    (x->code_size != 3 && !strncmp(x->mnemonic, row->mnemonic, strlen(row->mnemonic) - 1))))
            return true;
    }
    return false;
}

/* Hints and undefined instructions that have a ModRM byte: as IMUL, which has the same operands. */
static bool rewrite_as_imul(const struct compared *x, uint8_t out[DECODE_BYTES], unsigned *code_size)
{
    struct prefixes p = read_prefixes(x);
    if (!is_0f(x, 0, 0xff))
        return false;
    p.rep = 0;
    p.lock = false;
    emit(x, &p, out);
    for (unsigned k = 0; k < DECODE_BYTES - 1; k++)
        if (out[k] == 0x0f) {
            out[k + 1] = 0xaf;
            return true;
        }
    return false;
}

/* --- Operands ------------------------------------------------------------------------------------------------- */

/* Branch targets: capstone cuts them to 16 bits in the wrong cases. */
static bool is_branch_target(const struct compared *x)
{
    const cs_x86 *d = &x->cs->detail->x86;
    return operand_info[x->row->operands[0]].method == METHOD_J && d->op_count == 1 &&
           d->operands[0].type == X86_OP_IMM && ((d->operands[0].imm ^ (x->insn.disp + x->insn.len)) & 0xffff) == 0;
}

/* XCHG +r: capstone names the accumulator first. */
static bool is_xchg_swapped(const struct compared *x)
{
    struct compared y = *x;
    cs_insn insn = *x->cs;
    cs_detail detail = *x->cs->detail;
    const cs_x86_op first = detail.x86.operands[0];
    detail.x86.operands[0] = detail.x86.operands[1];
    detail.x86.operands[1] = first;
    insn.detail = &detail;
    y.cs = &insn;
    return x->row->operands[0] == OPERAND_Zv && expect_operands(&y, OPERAND__, OPERAND__);
}

/* MOVSXD without REX.W: capstone shows a 64-bit destination. */
static bool is_movsxd_64(const struct compared *x)
{
    struct compared y = *x;
    y.insn.osize = 3;
    return expect_operands(&y, OPERAND_Ez, OPERAND_Ed);
}

/* Outside 64-bit mode bit 7 of imm8 is no part of the register. */
static bool is_is4_masked(const struct compared *x)
{
    struct compared y = *x;
    y.insn.is4 = x->insn.imm >> 4;
    return x->code_size != 3 && expect_operands(&y, OPERAND__, OPERAND__);
}

/* AAM and AAD by 10. */
static bool is_ten(const struct compared *x)
{
    return x->insn.imm == 10;
}

#define ONLY_WE .difference = DIFFER_ONLY_WE
#define ONLY_THEY .difference = DIFFER_ONLY_THEY
#define LENGTH .difference = DIFFER_LENGTH
#define MNEMONIC .difference = DIFFER_MNEMONIC
#define OPERANDS .difference = DIFFER_OPERANDS

const struct accept accept_table[] = {
    { MNEMONIC, "capstone reads a mandatory prefix only right before the opcode", .rewrite = rewrite_order },
    { OPERANDS, "the same, operands", .rewrite = rewrite_order },
    { ONLY_WE, "the same, not found at all", .rewrite = rewrite_order },
    { MNEMONIC, "capstone does not know mandatory prefixes in 16-bit code", .applies = is_selected_by_prefix,
      .rewrite = rewrite_as_32, .other_asize = true },
    { OPERANDS, "the same, operands", .applies = is_selected_by_prefix, .rewrite = rewrite_as_32 },
    { ONLY_WE, "the same, not found at all", .applies = is_selected_by_prefix, .rewrite = rewrite_as_32 },
    { OPERANDS, "REP without effect hides 66 from capstone", .applies = has_idle_rep, .rewrite = rewrite_without_rep },
    { LENGTH, "the same, length", .applies = has_idle_rep, .rewrite = rewrite_without_rep },
    { MNEMONIC, "the same, mnemonic", .applies = has_idle_rep, .rewrite = rewrite_without_rep },
    { ONLY_WE, "the same, not found at all", .applies = has_idle_rep, .rewrite = rewrite_without_rep },
    { OPERANDS, "REP before a string instruction hides 66 from capstone", .applies = is_repeated,
      .rewrite = rewrite_rep_first },
    { ONLY_THEY, "reserved F3, F2 or 66 before an instruction selected by these is #UD; capstone ignores it",
      .applies = has_reserved_prefix },
    { ONLY_THEY, "capstone does not check LOCK", .applies = has_bad_lock },
    { LENGTH, "near branches ignore 66 in 64-bit mode (Intel); capstone follows AMD", .applies = is_branch_with_66,
      .rewrite = rewrite_without_66 },
    { OPERANDS, "the same, operands", .applies = is_branch_with_66, .rewrite = rewrite_without_66 },
    { OPERANDS, "REX.W goes before 66; not in capstone", .applies = has_w_and_66, .rewrite = rewrite_without_66 },
    { MNEMONIC, "the same, mnemonic", .applies = has_w_and_66, .rewrite = rewrite_without_66 },
    { MNEMONIC, "67 with REX.W is read as 66 by capstone", .applies = has_w_and_67, .rewrite = rewrite_without_sizes,
      .other_asize = true },
    { OPERANDS, "the same, operands", .applies = has_w_and_67, .rewrite = rewrite_without_sizes, .other_asize = true },
    { LENGTH, "the same, length", .applies = has_w_and_67, .rewrite = rewrite_without_sizes, .other_asize = true },
    { ONLY_WE, "the same, not found at all", .applies = has_w_and_67, .rewrite = rewrite_without_sizes,
      .other_asize = true },
    { ONLY_THEY, "the same, found by capstone only", .applies = has_67_for_66 },
    { OPERANDS, "REX.W without effect", .applies = has_w, .rewrite = rewrite_without_w },
    { MNEMONIC, "the same, mnemonic", .applies = has_w, .rewrite = rewrite_without_w },
    { MNEMONIC, "VEX.W cannot make a register 64 bits wide outside 64-bit mode", .applies = is_not_64,
      .rewrite = rewrite_vex_w },
    { OPERANDS, "the same, operands", .applies = is_not_64, .rewrite = rewrite_vex_w },
    { OPERANDS, "bit 7 of a register in imm8 is ignored outside 64-bit mode", .names = "vblendvps vblendvpd vpblendvb",
      .applies = is_is4_masked },
    { OPERANDS, "aam, aad: capstone leaves out 10", .names = "aam aad", .applies = is_ten },
    { ONLY_WE, "not known to capstone 4", .names = "rdpkru wrpkru serialize rdpid vbroadcasti128" },
    { MNEMONIC, "F3 makes it RDPID, not known to capstone 4", .names = "rdpid" },
    { ONLY_THEY, "only in 64-bit mode", .names = "swapgs", .applies = is_not_64 },
    { ONLY_WE, "REX.R before a segment register is ignored", .names = "mov", .rewrite = rewrite_without_rex_r },
    { OPERANDS, "capstone cuts a branch target to 16 bits", .applies = is_branch_target },
    { OPERANDS, "xchg: operand order", .names = "xchg", .applies = is_xchg_swapped },
    { MNEMONIC, "F3 90 is PAUSE whatever else is before it", .names = "pause" },
    { ONLY_THEY, "control, debug or segment register that does not exist", .names = "mov", .applies = is_bad_register },
    { ONLY_THEY, "3DNow!", .applies = is_3dnow },
    { ONLY_THEY, "EVEX", .applies = is_evex },
    { ONLY_THEY, "XOP", .applies = is_xop },
    { ONLY_THEY, "FMA4", .applies = is_fma4 },
    { ONLY_THEY, "AVX-512 opmask instructions", .applies = is_opmask },
    { ONLY_THEY, "VEX with a reserved W, L, vvvv or prefix is #UD; capstone ignores it", .applies = has_reserved_vex },
    { ONLY_THEY, "gather with equal registers or without SIB is #UD; capstone ignores it", .applies = is_bad_gather },
    { ONLY_THEY, "VMX, SMX, SGX, SVM, TSX, SSE4a, MPX, CET, PadLock and others that we do not model",
      .names =
          "vmread vmwrite vmptrld vmptrst vmclear vmxon vmlaunch vmresume vmxoff vmfunc invept invvpid getsec encls "
          "enclu vmrun vmload vmsave stgi clgi skinit invlpga femms xabort xbegin xend xtest extrq insertq movntss "
          "movntsd xcryptcbc xcryptcfb xcryptctr xcryptecb xcryptofb xsha1 xsha256 xstore xstorerng montmul" },
    { ONLY_WE, "hint space 0F 0D, 0F 18 to 0F 1F that capstone does not know", .names = "nop endbr64 endbr32",
      .rewrite = rewrite_as_imul, .other_row = true },
    { OPERANDS, "the same: size, ModRM.reg", .names = "nop", .rewrite = rewrite_as_imul, .other_row = true },
    { LENGTH, "UD0 and UD1 have a ModRM byte", .names = "ud0 ud1", .rewrite = rewrite_as_imul, .other_row = true },
    { ONLY_WE, "the same", .names = "ud0 ud1", .rewrite = rewrite_as_imul, .other_row = true },
    { ONLY_WE, "fences ignore ModRM.rm", .names = "lfence mfence sfence", .applies = is_short },
    { OPERANDS, "size of a 16-bit register operand", .names = "lsl lar", .from = OPERAND_Ew, .to = OPERAND_Ev },
    { OPERANDS, "size of a 16-bit register operand", .names = "lar mov", .from = OPERAND_Ew, .to = OPERAND_Ed },
    { OPERANDS, "size of a 16-bit register operand", .names = "mov", .from = OPERAND_Ew, .to = OPERAND_Eq },
    { OPERANDS, "MOVSXD without REX.W has a 32-bit destination", .names = "movsxd", .applies = is_movsxd_64 },
    { OPERANDS, "FNSTSW stores 16 bits", .names = "fnstsw", .from = OPERAND_Mw, .to = OPERAND_Md },
    { OPERANDS, "punpckl* on MMX read 32 bits, not 64", .names = "punpcklbw punpcklwd punpckldq", .from = OPERAND_Qd,
      .to = OPERAND_Qq },
    { OPERANDS, "comiss reads 32 bits", .names = "comiss vcomiss ucomiss", .from = OPERAND_Wss, .to = OPERAND_Wdq },
    { OPERANDS, "comisd reads 64 bits", .names = "comisd vcomisd ucomisd", .from = OPERAND_Wsd, .to = OPERAND_Wdq },
    { OPERANDS, "XMM0 not listed", .names = "sha256rnds2 pblendvb blendvps blendvpd", .from = OPERAND_XMM0,
      .to = OPERAND__ },
};
const unsigned accept_count = G_N_ELEMENTS(accept_table);
