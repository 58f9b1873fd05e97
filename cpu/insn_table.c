/*
 * The instruction table as data: cpu/insn.def turned into insn_rows[], with the attributes that follow from the operand
 * codes added. Constant; any thread.
 */
#include "cpu/insn.h"
#include "cpu/ops.h"
#include "cpu/state.h"

/* What an addressing method implies for the row. */
enum {
    IMPLIED_NONE = 0,
    IMPLIED_E = ROW_MODRM,
    IMPLIED_R = ROW_MODRM | ROW_REG_ONLY,
    IMPLIED_M = ROW_MODRM | ROW_MEM_ONLY,
    IMPLIED_G = ROW_MODRM,
    IMPLIED_Z = 0,
    IMPLIED_B = ROW_HAS_VVVV,
    IMPLIED_S = ROW_MODRM,
    IMPLIED_C = ROW_MODRM,
    IMPLIED_D = ROW_MODRM,
    IMPLIED_P = ROW_MODRM | ROW_MMX,
    IMPLIED_Q = ROW_MODRM | ROW_MMX,
    IMPLIED_N = ROW_MODRM | ROW_REG_ONLY | ROW_MMX,
    IMPLIED_V = ROW_MODRM | ROW_SSE,
    IMPLIED_W = ROW_MODRM | ROW_SSE,
    IMPLIED_U = ROW_MODRM | ROW_REG_ONLY | ROW_SSE,
    IMPLIED_H = ROW_HAS_VVVV | ROW_SSE,
    IMPLIED_L = ROW_SSE,
    IMPLIED_I = 0,
    IMPLIED_J = 0,
    IMPLIED_A = 0,
    IMPLIED_O = 0,
    IMPLIED_X = 0,
    IMPLIED_Y = 0,
    IMPLIED_DI = 0,
    IMPLIED_AXM = 0,
    IMPLIED_BX = 0,
    IMPLIED_VM = ROW_MODRM | ROW_MEM_ONLY | ROW_VSIB,
    IMPLIED_ST = ROW_MODRM | ROW_REG_ONLY,
    IMPLIED_FIXED = 0,
};

enum {
#define OPERAND(code, method, type) IMPLIED_BY_##code = IMPLIED_##method,
#include "cpu/operands.def"
#undef OPERAND
};

/* The attribute names of insn.def. */
enum {
    ONLY_64 = ROW_64_ONLY,
    NO_64 = ROW_NO_64,
    D64 = ROW_D64,
    F64 = ROW_F64,
    LOCK = ROW_LOCK,
    CPL0 = ROW_CPL0,
    IOPL = ROW_IOPL,
    PROT = ROW_PROT,
    REP = ROW_REP,
    REPZ = ROW_REPZ,
    REG_ONLY = ROW_REG_ONLY,
    ALIGN = ROW_ALIGN,
    FPU = ROW_FPU,
    FPU_NOWAIT = ROW_FPU_NOWAIT,
    MMX = ROW_MMX,
    SSE = ROW_SSE,
    VEX_L0 = ROW_VEX_L0,
    VEX_L1 = ROW_VEX_L1,
    W0 = ROW_W0,
    W1 = ROW_W1,
    UNORDERED = ROW_UNORDERED,
    ANY_MOD = ROW_ANY_MOD,
    NO_REX_B = ROW_NO_REX_B,
};

#define IS_VEX(map) ((map) == MAP_VEX_0F || (map) == MAP_VEX_0F38 || (map) == MAP_VEX_0F3A)
#define IMPLIED(a, b, c, d) (IMPLIED_BY_##a | IMPLIED_BY_##b | IMPLIED_BY_##c | IMPLIED_BY_##d)
#define SEL_IMPLIED(sel) ((sel) == -1 ? 0 : (sel) >= 0xc0 ? ROW_MODRM | ROW_REG_ONLY : ROW_MODRM)
/* A VEX row that does not use vvvv wants it to be 1111b. */
#define VVVV_RULE(map, implied) (IS_VEX(map) && !((implied) & ROW_HAS_VVVV) ? ROW_NO_VVVV : 0)

const struct insn_row insn_rows[] = {
#define INSN(name, mn, map, opcode, pfx, sel, a, b, c, d, feature, flags, end, attr) \
    { mn, &op_##name, MAP_##map, opcode, PFX_##pfx, \
      (sel) >= 0xc0 ? ((sel) >> 3) & 7 : (sel), (sel) >= 0xc0 ? (sel) : -1, \
      { OPERAND_##a, OPERAND_##b, OPERAND_##c, OPERAND_##d }, FEAT_##feature, END_##end, \
      (attr) | IMPLIED(a, b, c, d) | SEL_IMPLIED(sel) | VVVV_RULE(MAP_##map, IMPLIED(a, b, c, d)), FL_##flags },
#include "cpu/insn.def"
#undef INSN
};

const unsigned insn_row_count = sizeof insn_rows / sizeof insn_rows[0];

const struct operand_info operand_info[OPERAND_COUNT] = {
#define OPERAND(code, method, type) { #code, METHOD_##method, TYPE_##type },
#include "cpu/operands.def"
#undef OPERAND
};
