/*
 * The decoded instruction, and the rows of the one instruction table (cpu/insn.def).
 *
 * Decoder, interpreter, JIT, tracer, disassembly check and random test generator all read the same row.
 */
#ifndef CPU_INSN_H
#define CPU_INSN_H

#include <stdbool.h>
#include <stdint.h>

struct cpu;
struct insn;

/*
 * Executes one instruction. On return it is complete (RIP is changed only by those that end a block); a fault leaves
 * through cpu_raise() with nothing changed.
 */
typedef void op_fn(struct cpu *cpu, const struct insn *i);

/*
 * All forms of one operation: v[size][mem][dead].
 *   size  operand size, log2 of bytes: 0..3 for 8..64 bit. Rows with a vector or MMX operand: by vl, 0 for 128 bit,
 *         scalar and MMX, 1 for 256 bit (a general register operand's size is in i->osize). x87: always 0.
 *   mem   1 if INSN_MEM
 *   dead  1 if no arithmetic flag that it writes is read before it is written again
 * Forms that are alike hold the same pointer; a form that no row can reach is NULL.
 */
struct op {
    const char *name;
    op_fn *v[4][2][2];
};

/* Prefix and form bits of a decoded instruction. */
#define INSN_MEM (1u << 0)    /* the ModRM operand is in memory (also for moffs and string operands) */
#define INSN_LOCK (1u << 1)
#define INSN_REP (1u << 2)    /* F3, where it is not a mandatory prefix */
#define INSN_REPNE (1u << 3)  /* F2, likewise */
#define INSN_VEX (1u << 4)    /* VEX encoded: writing a vector register clears its upper half */
#define INSN_W (1u << 5)      /* REX.W or VEX.W */
#define INSN_REX (1u << 6)
#define INSN_OPSIZE (1u << 7) /* 66 was given, mandatory prefix or not */

struct insn {
    op_fn *fn;     /* chosen from row->op by size, mem and dead */
    uint64_t imm;  /* immediate, sign-extended as the row says; far pointer: offset | selector << 32; ENTER: size |
                    * level << 32; x87: the opcode as the unit remembers it, 11 bits */
    int64_t disp;  /* displacement; RIP-relative: plus `end`, so that r[R_RIP] + disp is the address; branch: relative;
                    * moffs: the offset */
    uint16_t row;  /* index in insn_rows */
    uint16_t end;  /* offset of the next instruction from the start of the block */
    uint8_t len;
    uint8_t osize; /* operand size: log2 of bytes, 0..3, as the row's operands use it */
    uint8_t asize; /* address size: 1..3 */
    uint8_t seg;   /* enum seg of the memory operand, SEG_FLAT and SEG_FLAT_STACK included */
    uint8_t base, index, scale; /* enum gpr (R_ZERO: none) and shift 0..3 */
    uint8_t reg;   /* ModRM.reg with REX.R / VEX.R; for an 8-bit operand AH..BH are R_HIGH_BYTE + 0..3 */
    uint8_t rm;    /* ModRM.rm with REX.B, likewise; opcode register for +r forms */
    uint8_t vvvv;  /* VEX.vvvv; legacy forms: equal to reg (the destination is a source), to rm for shifts by imm8 */
    uint8_t is4;   /* register in imm8[7:4]; legacy forms with XMM0: 0 */
    uint8_t vl;    /* 0: 128 bit or scalar, 1: 256 bit */
    uint16_t flags; /* INSN_* */
};

/* Kinds of block end: why decoding stops after this instruction. */
enum block_end {
    END_NONE,
    END_JUMP,  /* direct jump, conditional or not, direct call */
    END_INDIRECT, /* target from register or memory: ret, jmp r/m, call r/m, iret, far transfers */
    END_STATE, /* changes what decoding, translation or interrupts depend on (CR, MSR, segment, POPF, STI, I/O ...) */
};

/* Row attributes (struct insn_row.attr). */
#define ROW_64_ONLY (1u << 0)
#define ROW_NO_64 (1u << 1)
#define ROW_D64 (1u << 2)      /* operand size 64 by default in 64-bit mode (push, pop, near branches) */
#define ROW_F64 (1u << 3)      /* operand size 64 forced in 64-bit mode */
#define ROW_LOCK (1u << 4)     /* LOCK allowed with a memory destination */
#define ROW_CPL0 (1u << 5)     /* #GP(0) unless CPL is 0 */
#define ROW_IOPL (1u << 6)     /* CPL and IOPL decide; the handler checks */
#define ROW_PROT (1u << 7)     /* #UD in real and virtual-8086 mode */
#define ROW_REP (1u << 8)      /* REP repeats it */
#define ROW_REPZ (1u << 9)     /* REPE and REPNE repeat it with a look at ZF */
#define ROW_MEM_ONLY (1u << 10)/* ModRM.mod = 3 is #UD (or another row) */
#define ROW_REG_ONLY (1u << 11)/* ModRM.mod != 3 is #UD (or another row) */
#define ROW_ALIGN (1u << 12)   /* legacy SSE: 16-byte (VEX aligned moves: vector-size) alignment or #GP(0) */
#define ROW_FPU (1u << 13)     /* x87: #NM if CR0.EM or TS; pending #MF first, unless ROW_FPU_NOWAIT */
#define ROW_FPU_NOWAIT (1u << 14)
#define ROW_MMX (1u << 15)     /* #UD if EM, #NM if TS, pending #MF; enters MMX state */
#define ROW_SSE (1u << 16)     /* #UD if EM or not OSFXSR (not OSXSAVE/XCR0 for VEX), #NM if TS */
#define ROW_VEX_L0 (1u << 17)  /* VEX.L must be 0 */
#define ROW_VEX_L1 (1u << 18)  /* VEX.L must be 1 */
#define ROW_W0 (1u << 19)
#define ROW_W1 (1u << 20)
#define ROW_NO_VVVV (1u << 21) /* VEX.vvvv must be 1111b */
#define ROW_VSIB (1u << 22)
#define ROW_MODRM (1u << 23)   /* has a ModRM byte; computed */
#define ROW_UNORDERED (1u << 24) /* results that the random test must not compare natively (RDTSC, CPUID, RDRAND ...) */
#define ROW_ANY_MOD (1u << 25) /* ModRM.mod is ignored: always a register (MOV CR, DR) */
#define ROW_NO_REX_B (1u << 26)/* REX.B makes it another instruction (NOP, XCHG R8) */
#define ROW_HAS_VVVV (1u << 27)/* computed: VEX.vvvv is an operand */

/*
 * Operand codes of the Intel SDM, volume 2, appendix A.2: addressing method and operand type. In insn.def: E,v -> Ev.
 * cpu/operands.def explains both.
 */
enum operand {
#define OPERAND(code, method, type) OPERAND_##code,
#include "cpu/operands.def"
#undef OPERAND
    OPERAND_COUNT,
    OPERAND_none = OPERAND__,
};

enum operand_method {
    METHOD_NONE, METHOD_E, METHOD_R, METHOD_M, METHOD_G, METHOD_Z, METHOD_B, METHOD_S, METHOD_C, METHOD_D,
    METHOD_P, METHOD_Q, METHOD_N, METHOD_V, METHOD_W, METHOD_U, METHOD_H, METHOD_L, METHOD_I, METHOD_J, METHOD_A,
    METHOD_O, METHOD_X, METHOD_Y, METHOD_DI, METHOD_AXM, METHOD_BX, METHOD_VM, METHOD_ST, METHOD_FIXED,
};

enum operand_type {
    TYPE_none, TYPE_b, TYPE_bs, TYPE_w, TYPE_d, TYPE_q, TYPE_dq, TYPE_qq, TYPE_v, TYPE_z, TYPE_y, TYPE_n,
    TYPE_x, TYPE_xh, TYPE_xq, TYPE_xe, TYPE_ps, TYPE_pd, TYPE_ss, TYPE_sd, TYPE_p, TYPE_a, TYPE_s, TYPE_t,
    TYPE_env, TYPE_sav, TYPE_fx, TYPE_xs, TYPE_db, TYPE_dw, TYPE_dd, TYPE_qd,
};

struct operand_info {
    const char *text;
    uint8_t method; /* enum operand_method */
    uint8_t type;   /* enum operand_type */
};
extern const struct operand_info operand_info[OPERAND_COUNT];

/* Registers of CPUID in the order of cpu_cpuid(). */
enum { CPUID_EAX, CPUID_EBX, CPUID_ECX, CPUID_EDX };

/* CPUID features that rows depend on; a guest without one gets #UD. */
enum cpu_feature {
#define FEATURE(id, name, leaf, subleaf, reg, bit) FEAT_##id,
#include "cpu/features.def"
#undef FEATURE
    FEAT_COUNT
};

enum insn_map { MAP_1B, MAP_0F, MAP_0F38, MAP_0F3A, MAP_VEX_0F, MAP_VEX_0F38, MAP_VEX_0F3A, MAP_X87, MAP_COUNT };

/* Mandatory prefix of a row. PFX_NFX: 66 is an operand size prefix, F3 and F2 are #UD. */
enum insn_prefix { PFX_ANY, PFX_NP, PFX_66, PFX_F3, PFX_F2, PFX_NFX };

struct insn_row {
    const char *mnemonic; /* lower case, Intel's spelling */
    const struct op *op;
    uint8_t map;    /* enum insn_map */
    uint8_t opcode;
    uint8_t prefix; /* enum insn_prefix */
    int8_t digit;   /* ModRM.reg, or -1; x87: also see modrm */
    int16_t modrm;  /* the whole ModRM byte where it selects (0F 01 C1 ...), or -1 */
    uint8_t operands[4]; /* enum operand */
    uint8_t feature; /* enum cpu_feature */
    uint8_t end;     /* enum block_end */
    uint32_t attr;   /* ROW_* */
    uint16_t flags_read, flags_written, flags_undefined; /* FLAG_* of RFLAGS bits 0..11; written includes undefined */
};

extern const struct insn_row insn_rows[];
extern const unsigned insn_row_count;

/* What decoding depends on beside the bytes: kept in cpu->mode_key. */
struct decode_mode {
    uint8_t code_size;  /* log2 of default size: 1, 2, 3 */
    bool stack32;       /* unused in 64-bit mode: SS.B */
    bool protected_mode; /* PE and not VM */
};

enum decode_result {
    DECODE_OK,
    DECODE_UD,        /* no such instruction: raises #UD when it is executed */
    DECODE_TOO_LONG,  /* more than 15 bytes: #GP(0) */
    DECODE_MORE,      /* `avail` bytes were not enough */
};

/*
 * Decodes one instruction from up to 15 bytes. Pure: depends on nothing but its arguments. Fills all of *i but `fn` and
 * `end` (RIP-relative displacements are left raw). LOCK where it is not allowed is DECODE_UD.
 */
enum decode_result decode_insn(const uint8_t *bytes, unsigned avail, struct decode_mode mode, struct insn *i);
/* The handler for it. `dead`: none of its flag results is needed. */
op_fn *insn_handler(const struct insn *i, bool dead);

static inline const struct insn_row *insn_row(const struct insn *i)
{
    return &insn_rows[i->row];
}

#endif
