/*
 * Instruction decoder: bytes to struct insn, by the rows of cpu/insn.def. Intel SDM volume 2, chapter 2 and appendix A.
 *
 * Built once from the rows: for each (64-bit mode or not, opcode map, opcode, mandatory prefix) the short list of rows
 * that can match, each with a mask and value over ModRM, VEX.W, VEX.L, REX.B and vvvv; and for each row a plan that
 * tells what follows the opcode. Decoding is then: prefixes, opcode, list, memory operand, immediates.
 *
 * Where Intel and AMD differ Intel is followed: near branches ignore 66 in 64-bit mode, LOCK MOV CR0 is not CR8.
 * EVEX and XOP are not decoded (BOUND and POP in their place, else #UD).
 *
 * Pure functions over constant tables: any thread, no lock.
 */
#include "cpu/insn.h"
#include "cpu/state.h"

#include <glib.h>
#include <pthread.h>
#include <string.h>

#define INSN_MAX 15
/* A window that decoding cannot run past, whatever the bytes: 15 prefixes, VEX, opcode, ModRM, SIB and 12 more. */
#define WINDOW 40
#define MAPS MAP_X87 /* x87 rows are in the one-byte map, under D8..DF */

/* --- Plans and lists ------------------------------------------------------------------------------------------ */

enum size_class { SIZE_V, SIZE_Z, SIZE_Y, SIZE_N, SIZE_B, SIZE_W, SIZE_D, SIZE_Q };

/* What follows the opcode, in this order. */
#define HAS_MODRM (1u << 0)
#define HAS_MOFFS (1u << 1)
#define HAS_IMM8 (1u << 2)
#define HAS_IMM8_SIGNED (1u << 3)
#define HAS_IMM16 (1u << 4) /* with HAS_IMM8 it comes first (ENTER) */
#define HAS_IMM_Z (1u << 5)
#define HAS_IMM_V (1u << 6)
#define HAS_REL8 (1u << 7)
#define HAS_REL_Z (1u << 8)
#define HAS_FAR (1u << 9)
#define HAS_IS4 (1u << 10)
#define HAS_IMM 0x7fcu
/* How registers and implied memory are to be read. */
#define BYTE_REG (1u << 11)  /* ModRM.reg is a byte register */
#define BYTE_RM (1u << 12)   /* ModRM.rm or the opcode's register is */
#define SMALL_REG (1u << 13) /* ModRM.reg is one of eight whatever REX.R says */
#define SMALL_RM (1u << 14)
#define OPCODE_REG (1u << 15)
#define WIDE (1u << 16)    /* VEX.L chooses between 128 and 256 bit */
#define DEST_RM (1u << 17) /* legacy SSE and MMX: the destination is ModRM.rm */
#define IMPLIED_MEM (1u << 18)
#define CHECKED (1u << 19) /* register numbers need a look: check_registers() */

struct plan {
    uint32_t attr;  /* of the row */
    uint32_t has;   /* bits above */
    uint8_t size;   /* enum size_class */
    uint8_t prefix; /* enum insn_prefix */
    uint8_t base;   /* IMPLIED_MEM: register */
    uint8_t seg;    /* IMPLIED_MEM: SEG_ES cannot be overridden; SEG_DS can */
    uint8_t reg;    /* fixed segment register operand */
    bool by_vl;     /* the handler is chosen by vl */
    bool by_osize;  /* the handler is chosen by osize */
};

/* What a row asks for, over one word. */
#define KEY_MODRM 0xffu
#define KEY_REG (1u << 8) /* mod is 3 */
#define KEY_W (1u << 9)
#define KEY_L (1u << 10)
#define KEY_REX_B (1u << 11)
#define KEY_VVVV (1u << 12) /* vvvv is not 1111b */

struct candidate {
    uint16_t mask, value;
    uint16_t row;
};

struct slot {
    uint16_t first;
    uint8_t count;
    bool modrm;
};

#define MAX_ROWS 2048
#define MAX_CANDIDATES 8192
static struct {
    struct slot slots[2][MAPS][256][4];
    struct candidate candidates[MAX_CANDIDATES];
    struct plan plans[MAX_ROWS];
} tables; /* constant once built */
static pthread_once_t tables_once = PTHREAD_ONCE_INIT;

static bool is_gpr_method(unsigned m)
{
    return m == METHOD_E || m == METHOD_G || m == METHOD_R || m == METHOD_B || m == METHOD_M || m == METHOD_Z;
}

/* The first operand with a size of its own decides: one that varies before y, y before a fixed one. */
static enum size_class row_size(const struct insn_row *row)
{
    static const uint8_t rank[][2] = {
        [TYPE_b] = { 3, SIZE_B },  [TYPE_v] = { 3, SIZE_V },  [TYPE_z] = { 3, SIZE_Z }, [TYPE_n] = { 3, SIZE_N },
        [TYPE_y] = { 2, SIZE_Y },  [TYPE_w] = { 1, SIZE_W },  [TYPE_d] = { 1, SIZE_D }, [TYPE_q] = { 1, SIZE_Q },
        [TYPE_db] = { 1, SIZE_D }, [TYPE_dw] = { 1, SIZE_D }, [TYPE_qd] = { 0, 0 },
    };
    unsigned best = 0;
    enum size_class size = SIZE_V;
    for (int k = 0; k < 4; k++) {
        const struct operand_info *o = &operand_info[row->operands[k]];
        bool sized = is_gpr_method(o->method) || o->method == METHOD_O || o->method == METHOD_X ||
                     o->method == METHOD_Y || o->method == METHOD_BX || o->method == METHOD_S ||
                     row->operands[k] == OPERAND_AL || row->operands[k] == OPERAND_eAX ||
                     row->operands[k] == OPERAND_rAX;
        if (!sized || row->map == MAP_X87 || rank[o->type][0] <= best)
            continue;
        best = rank[o->type][0];
        size = rank[o->type][1];
    }
    return size;
}

static uint32_t operand_needs(const struct operand_info *o)
{
    bool byte = o->type == TYPE_b;
    switch (o->method) {
    case METHOD_I:
        return o->type == TYPE_b    ? HAS_IMM8
               : o->type == TYPE_bs ? HAS_IMM8_SIGNED
               : o->type == TYPE_w  ? HAS_IMM16
               : o->type == TYPE_z  ? HAS_IMM_Z
                                    : HAS_IMM_V;
    case METHOD_J: return byte ? HAS_REL8 : HAS_REL_Z;
    case METHOD_A: return HAS_FAR;
    case METHOD_O: return HAS_MOFFS;
    case METHOD_L: return HAS_IS4;
    case METHOD_G: return byte ? BYTE_REG : 0;
    case METHOD_E: return byte ? BYTE_RM : 0;
    case METHOD_Z: return OPCODE_REG | (byte ? BYTE_RM : 0);
    case METHOD_P: return SMALL_REG;
    case METHOD_S: return SMALL_REG | CHECKED;
    case METHOD_C:
    case METHOD_D: return CHECKED;
    case METHOD_Q:
    case METHOD_N:
    case METHOD_ST: return SMALL_RM;
    case METHOD_VM: return WIDE | CHECKED;
    case METHOD_X:
    case METHOD_Y:
    case METHOD_DI:
    case METHOD_AXM:
    case METHOD_BX: return IMPLIED_MEM;
    default: return 0;
    }
}

static bool is_wide(const struct operand_info *o)
{
    return o->method != METHOD_I &&
           (o->type == TYPE_x || o->type == TYPE_ps || o->type == TYPE_pd || o->type == TYPE_qq || o->type == TYPE_xh ||
            o->type == TYPE_xq || o->type == TYPE_xe);
}

static void plan_implied_memory(struct plan *p, unsigned method)
{
    static const uint8_t base[] = {
        [METHOD_X] = R_RSI, [METHOD_Y] = R_RDI, [METHOD_DI] = R_RDI, [METHOD_AXM] = R_RAX, [METHOD_BX] = R_RBX,
    };
    if (method == METHOD_Y && p->seg == SEG_DS)
        return; /* CMPS: the source counts */
    p->base = base[method];
    p->seg = method == METHOD_Y ? SEG_ES : SEG_DS;
}

static struct plan make_plan(const struct insn_row *row)
{
    struct plan p = { .attr = row->attr, .prefix = row->prefix, .size = row_size(row), .base = R_ZERO };
    p.by_vl = row->attr & (ROW_SSE | ROW_MMX);
    p.by_osize = !p.by_vl && row->map != MAP_X87;
    if (row->attr & ROW_MODRM)
        p.has |= HAS_MODRM;
    for (int k = 0; k < 4; k++) {
        const struct operand_info *o = &operand_info[row->operands[k]];
        uint32_t needs = operand_needs(o);
        p.has |= needs | (is_wide(o) ? WIDE : 0);
        if (needs & IMPLIED_MEM)
            plan_implied_memory(&p, o->method);
        if (row->operands[k] >= OPERAND_ES && row->operands[k] <= OPERAND_GS)
            p.reg = row->operands[k] - OPERAND_ES;
    }
    unsigned first = operand_info[row->operands[0]].method;
    if ((first == METHOD_U || first == METHOD_N) && row->digit >= 0)
        p.has |= DEST_RM;
    return p;
}

static bool uses_gpr(const struct insn_row *row)
{
    for (int k = 0; k < 4; k++)
        if (is_gpr_method(operand_info[row->operands[k]].method) && operand_info[row->operands[k]].method != METHOD_M)
            return true;
    return false;
}

static struct candidate make_candidate(unsigned n, bool mode64)
{
    const struct insn_row *row = &insn_rows[n];
    struct candidate c = { .row = n };
    if (row->modrm >= 0) {
        c.mask = KEY_MODRM;
        c.value = row->modrm;
    } else if (row->digit >= 0) {
        c.mask = 7 << 3;
        c.value = row->digit << 3;
    }
    if (row->attr & (ROW_REG_ONLY | ROW_MEM_ONLY) && !(row->attr & ROW_ANY_MOD)) {
        c.mask |= KEY_REG;
        c.value |= row->attr & ROW_REG_ONLY ? KEY_REG : 0;
    }
    /* Outside 64-bit mode VEX.W cannot make a general register wider: it is ignored there. */
    if (row->attr & (ROW_W0 | ROW_W1) && (mode64 || !uses_gpr(row))) {
        c.mask |= KEY_W;
        c.value |= row->attr & ROW_W1 ? KEY_W : 0;
    }
    if (row->attr & (ROW_VEX_L0 | ROW_VEX_L1)) {
        c.mask |= KEY_L;
        c.value |= row->attr & ROW_VEX_L1 ? KEY_L : 0;
    }
    if (row->attr & ROW_NO_REX_B)
        c.mask |= KEY_REX_B;
    if (row->attr & ROW_NO_VVVV)
        c.mask |= KEY_VVVV;
    return c;
}

/* Prefix as an index: 0 none, 1 66, 2 F3, 3 F2. */
static bool prefix_fits(unsigned prefix, unsigned given)
{
    switch (prefix) {
    case PFX_ANY: return true;
    case PFX_NFX: return given < 2;
    default: return prefix == PFX_NP + given;
    }
}

static unsigned row_map(const struct insn_row *row)
{
    return row->map == MAP_X87 ? MAP_1B : row->map;
}

static bool row_at(unsigned n, bool mode64, unsigned opcode)
{
    const struct insn_row *row = &insn_rows[n];
    bool eight = tables.plans[n].has & OPCODE_REG;
    return !(row->attr & (mode64 ? ROW_NO_64 : ROW_64_ONLY)) && (eight ? opcode & ~7u : opcode) == row->opcode;
}

/* Lists the rows of one opcode, in the table's order, for each prefix. `used`: candidates so far. */
static unsigned build_slots(struct slot slots[4], const uint16_t *rows, unsigned count, bool mode64, unsigned used)
{
    for (unsigned prefix = 0; prefix < 4; prefix++) {
        struct slot *s = &slots[prefix];
        s->first = used;
        for (unsigned k = 0; k < count; k++) {
            const struct insn_row *row = &insn_rows[rows[k]];
            bool modrm = row->attr & ROW_MODRM;
            if (!prefix_fits(row->prefix, prefix))
                continue;
            g_assert(used < MAX_CANDIDATES && s->count < 255 && (!s->count || s->modrm == modrm));
            tables.candidates[used++] = make_candidate(rows[k], mode64);
            s->count++;
            s->modrm = modrm;
        }
    }
    return used;
}

static void build_tables(void)
{
    static uint16_t by_map[MAPS][MAX_ROWS];
    unsigned counts[MAPS] = { 0 }, used = 0;
    g_assert(insn_row_count <= MAX_ROWS);
    for (unsigned n = 0; n < insn_row_count; n++) {
        unsigned map = row_map(&insn_rows[n]);
        tables.plans[n] = make_plan(&insn_rows[n]);
        by_map[map][counts[map]++] = n;
    }
    for (unsigned at = 0; at < 2 * MAPS * 256; at++) {
        unsigned mode64 = at / 256 / MAPS, map = at / 256 % MAPS, opcode = at % 256, count = 0;
        uint16_t rows[256];
        for (unsigned k = 0; k < counts[map]; k++)
            if (row_at(by_map[map][k], mode64, opcode)) {
                g_assert(count < G_N_ELEMENTS(rows));
                rows[count++] = by_map[map][k];
            }
        used = build_slots(tables.slots[mode64][map][opcode], rows, count, mode64, used);
    }
}

/* --- Prefixes and opcode -------------------------------------------------------------------------------------- */

struct decoder {
    const uint8_t *p; /* next byte */
    struct insn *i;
    uint8_t code_size;
    uint8_t rex; /* the REX byte; VEX: its R, X, B, W in the same places */
    uint8_t modrm;
    uint8_t override; /* segment prefix, or SEG_COUNT */
    uint8_t rep;      /* 0, or prefix index 2 (F3) or 3 (F2), the last one */
    bool opsize, asize, lock;
    uint8_t vvvv; /* decoded: 0..15; 0 without VEX */
    bool vex_l;
    uint8_t map, opcode;
};

#define REX_B 1
#define REX_X 2
#define REX_R 4
#define REX_W 8

static uint64_t read_le(struct decoder *d, unsigned bytes)
{
    const uint8_t *p = d->p;
    d->p += bytes;
    switch (bytes) {
    case 1: return p[0];
    case 2: return p[0] | p[1] << 8;
    case 4: return p[0] | p[1] << 8 | p[2] << 16 | (uint32_t)p[3] << 24;
    default: {
        uint64_t low = p[0] | p[1] << 8 | p[2] << 16 | (uint32_t)p[3] << 24;
        return low | (uint64_t)(p[4] | p[5] << 8 | p[6] << 16 | (uint32_t)p[7] << 24) << 32;
    }
    }
}

static int64_t read_signed(struct decoder *d, unsigned bytes)
{
    uint64_t v = read_le(d, bytes);
    return bytes == 1 ? (int8_t)v : bytes == 2 ? (int16_t)v : bytes == 4 ? (int32_t)v : (int64_t)v;
}

/* In 64-bit mode ES, CS, SS and DS prefixes do nothing at all. A REX counts only right before the opcode. */
static void read_prefixes(struct decoder *d, const uint8_t *limit)
{
    for (; d->p < limit; d->p++) {
        uint8_t b = *d->p;
        switch (b) {
        case 0x26:
        case 0x2e:
        case 0x36:
        case 0x3e:
            if (d->code_size != 3)
                d->override = (b >> 3) & 3;
            break;
        case 0x64:
        case 0x65: d->override = SEG_FS + (b & 1); break;
        case 0x66: d->opsize = true; break;
        case 0x67: d->asize = true; break;
        case 0xf0: d->lock = true; break;
        case 0xf2: d->rep = 3; break;
        case 0xf3: d->rep = 2; break;
        default:
            if (d->code_size != 3 || (b & 0xf0) != 0x40)
                return;
            d->rex = b;
            continue;
        }
        d->rex = 0;
    }
}

/* C4 or C5 at d->p[-1]. Returns the mandatory prefix, or -1: #UD. */
static int read_vex(struct decoder *d, bool three)
{
    uint8_t b = *d->p++;
    bool bad = d->rex || d->lock || d->opsize || d->rep;
    d->map = MAP_VEX_0F;
    d->rex = b & 0x80 ? 0 : REX_R;
    if (three) {
        unsigned m = b & 0x1f;
        bad |= m < 1 || m > 3;
        d->map = MAP_VEX_0F + m - 1;
        d->rex |= (b & 0x40 ? 0 : REX_X) | (b & 0x20 ? 0 : REX_B);
        b = *d->p++;
        d->rex |= b & 0x80 ? REX_W : 0;
    }
    if (d->code_size != 3)
        d->rex &= REX_W;
    d->vvvv = ~b >> 3 & 15;
    d->vex_l = b & 4;
    d->i->flags |= INSN_VEX;
    d->opcode = *d->p++;
    return bad ? -1 : b & 3;
}

/* The mandatory prefix as an index, or -1. */
static int read_opcode(struct decoder *d, struct decode_mode mode)
{
    uint8_t b = *d->p++;
    if (b == 0x0f) {
        b = *d->p++;
        d->map = MAP_0F;
        if (b == 0x38 || b == 0x3a) {
            d->map = b == 0x38 ? MAP_0F38 : MAP_0F3A;
            b = *d->p++;
        }
    } else if ((b & 0xfe) == 0xc4 && (mode.code_size == 3 || (mode.protected_mode && *d->p >= 0xc0))) {
        return read_vex(d, b == 0xc4);
    } else {
        d->map = MAP_1B;
    }
    d->opcode = b;
    return d->rep ? d->rep : d->opsize;
}

static int find_row(struct decoder *d, unsigned prefix)
{
    bool mode64 = d->code_size == 3;
    const struct slot *s = &tables.slots[mode64][d->map][d->opcode][prefix];
    unsigned key = (d->rex & REX_W ? KEY_W : 0) | (d->vex_l ? KEY_L : 0) | (d->rex & REX_B ? KEY_REX_B : 0) |
                   (d->vvvv ? KEY_VVVV : 0);
    if (s->modrm) {
        d->modrm = *d->p++;
        key |= d->modrm | (d->modrm >= 0xc0 ? KEY_REG : 0);
    }
    const struct candidate *c = &tables.candidates[s->first];
    for (unsigned k = 0; k < s->count; k++, c++)
        if ((key & c->mask) == c->value)
            return c->row;
    return -1;
}

/* --- Operands ------------------------------------------------------------------------------------------------- */

static void set_seg(struct decoder *d, bool stack)
{
    if (d->override != SEG_COUNT)
        d->i->seg = d->override;
    else if (d->code_size == 3)
        d->i->seg = stack ? SEG_FLAT_STACK : SEG_FLAT;
    else
        d->i->seg = stack ? SEG_SS : SEG_DS;
}

static void read_mem16(struct decoder *d)
{
    static const uint8_t base[8] = { R_RBX, R_RBX, R_RBP, R_RBP, R_RSI, R_RDI, R_RBP, R_RBX };
    static const uint8_t index[8] = { R_RSI, R_RDI, R_RSI, R_RDI, R_ZERO, R_ZERO, R_ZERO, R_ZERO };
    unsigned mod = d->modrm >> 6, rm = d->modrm & 7;
    bool direct = mod == 0 && rm == 6;
    d->i->base = direct ? R_ZERO : base[rm];
    d->i->index = index[rm];
    if (direct || mod)
        d->i->disp = read_signed(d, mod == 1 ? 1 : 2);
    set_seg(d, d->i->base == R_RBP);
}

static void read_mem(struct decoder *d, bool vsib)
{
    struct insn *i = d->i;
    unsigned mod = d->modrm >> 6, rm = d->modrm & 7, disp = mod == 1 ? 1 : mod == 2 ? 4 : 0;
    if (rm == 4) {
        uint8_t sib = *d->p++;
        unsigned index = (sib >> 3 & 7) | (d->rex & REX_X ? 8 : 0);
        rm = sib & 7;
        if (vsib || index != R_RSP) {
            i->index = index;
            i->scale = sib >> 6;
        }
        i->base = rm | (d->rex & REX_B ? 8 : 0);
        if (rm == 5 && mod == 0) {
            i->base = R_ZERO;
            disp = 4;
        }
    } else if (rm == 5 && mod == 0) {
        i->base = d->code_size == 3 ? R_RIP : R_ZERO;
        disp = 4;
    } else {
        i->base = rm | (d->rex & REX_B ? 8 : 0);
    }
    if (disp)
        i->disp = read_signed(d, disp);
    set_seg(d, i->base == R_RSP || i->base == R_RBP);
}

static uint8_t byte_reg(const struct decoder *d, uint8_t r)
{
    return !d->rex && r >= 4 && r < 8 ? R_HIGH_BYTE + r - 4 : r;
}

/* Registers and memory operand of a ModRM byte. False: #UD. */
static bool read_modrm(struct decoder *d, const struct plan *p)
{
    struct insn *i = d->i;
    i->reg = (d->modrm >> 3 & 7) | (d->rex & REX_R && !(p->has & SMALL_REG) ? 8 : 0);
    i->rm = (d->modrm & 7) | (d->rex & REX_B && !(p->has & SMALL_RM) ? 8 : 0);
    if (p->has & BYTE_REG)
        i->reg = byte_reg(d, i->reg);
    if (d->modrm >= 0xc0 || p->attr & ROW_ANY_MOD) {
        if (p->has & BYTE_RM)
            i->rm = byte_reg(d, i->rm);
        return true;
    }
    i->flags |= INSN_MEM;
    if (p->attr & ROW_VSIB && (i->asize == 1 || (d->modrm & 7) != 4))
        return false;
    if (i->asize == 1)
        read_mem16(d);
    else
        read_mem(d, p->attr & ROW_VSIB);
    return true;
}

static void read_implied_memory(struct decoder *d, const struct plan *p)
{
    d->i->flags |= INSN_MEM;
    d->i->base = p->base;
    if (p->seg == SEG_ES)
        d->i->seg = d->code_size == 3 ? SEG_FLAT : SEG_ES;
    else
        set_seg(d, false);
}

static void read_immediates(struct decoder *d, const struct plan *p, unsigned opsize)
{
    struct insn *i = d->i;
    unsigned z = opsize == 1 ? 2 : 4, has = p->has;
    if (has & HAS_IMM8_SIGNED)
        i->imm = (int8_t)*d->p++;
    if (has & HAS_IMM_Z)
        i->imm = read_signed(d, z);
    if (has & HAS_REL8)
        i->disp = (int8_t)*d->p++;
    if (has & HAS_REL_Z)
        i->disp = read_signed(d, z);
    if (has & HAS_IMM16)
        i->imm = read_le(d, 2);
    if (has & HAS_IMM8)
        i->imm |= (uint64_t)*d->p++ << (has & HAS_IMM16 ? 32 : 0);
    if (has & HAS_IS4) {
        i->imm = *d->p++;
        i->is4 = i->imm >> 4 & (d->code_size == 3 ? 15 : 7);
    }
    if (has & HAS_IMM_V)
        i->imm = read_signed(d, 1u << opsize);
    if (has & HAS_FAR) {
        i->imm = read_le(d, z);
        i->imm |= read_le(d, 2) << 32;
    }
    if (has & HAS_MOFFS) {
        i->flags |= INSN_MEM;
        i->disp = read_le(d, 1u << i->asize);
        set_seg(d, false);
    }
}

/* Register numbers that no form has. */
static bool check_registers(const struct insn *i, const struct insn_row *row)
{
    if (row->attr & ROW_VSIB)
        return i->reg != i->index && i->reg != i->vvvv && i->index != i->vvvv;
    for (int k = 0; k < 2; k++)
        switch (operand_info[row->operands[k]].method) {
        case METHOD_S: return i->reg <= SEG_GS && !(k == 0 && i->reg == SEG_CS);
        case METHOD_C: return i->reg == 0 || (i->reg >= 2 && i->reg <= 4) || i->reg == 8;
        case METHOD_D: return i->reg < 8;
        default: break;
        }
    return true;
}

/* --- Sizes ---------------------------------------------------------------------------------------------------- */

/* The operand size attribute, log2: 1, 2 or 3. */
static unsigned effective_size(const struct decoder *d, const struct plan *p)
{
    if (d->code_size != 3)
        return (d->code_size == 1) != d->opsize ? 1 : 2;
    if (d->rex & REX_W || p->attr & ROW_F64)
        return 3;
    return d->opsize ? 1 : p->attr & ROW_D64 ? 3 : 2;
}

static unsigned operand_size(const struct decoder *d, const struct plan *p, unsigned opsize)
{
    switch (p->size) {
    case SIZE_V: return opsize;
    case SIZE_Z: return MIN(opsize, 2);
    case SIZE_Y: return d->code_size == 3 && d->rex & REX_W ? 3 : 2;
    case SIZE_N: return d->code_size == 3 ? 3 : 2;
    default: return p->size - SIZE_B;
    }
}

static unsigned address_size(const struct decoder *d)
{
    if (d->code_size == 3)
        return d->asize ? 2 : 3;
    return (d->code_size == 1) != d->asize ? 1 : 2;
}

/* --- All together --------------------------------------------------------------------------------------------- */

static unsigned prefix_flags(const struct decoder *d, const struct plan *p)
{
    unsigned f = 0;
    if (p->prefix == PFX_ANY && d->rep)
        f |= d->rep == 2 ? INSN_REP : INSN_REPNE;
    if (d->code_size == 3 && d->rex & REX_W)
        f |= INSN_W;
    if (d->rex && !(d->i->flags & INSN_VEX))
        f |= INSN_REX;
    if (d->opsize)
        f |= INSN_OPSIZE;
    if (d->lock)
        f |= INSN_LOCK;
    return f;
}

static enum decode_result decode_operands(struct decoder *d, unsigned row)
{
    struct insn *i = d->i;
    const struct plan *p = &tables.plans[row];
    unsigned opsize = effective_size(d, p);
    i->row = row;
    i->osize = operand_size(d, p, opsize);
    i->asize = address_size(d);
    i->flags |= prefix_flags(d, p);
    i->vl = d->vex_l && p->has & WIDE;
    i->reg = p->reg;
    if (p->has & HAS_MODRM && !read_modrm(d, p))
        return DECODE_UD;
    if (p->has & OPCODE_REG) {
        i->rm = (d->opcode & 7) | (d->rex & REX_B ? 8 : 0);
        if (p->has & BYTE_RM)
            i->rm = byte_reg(d, i->rm);
    }
    if (p->has & IMPLIED_MEM)
        read_implied_memory(d, p);
    if (p->has & (HAS_IMM | HAS_MOFFS))
        read_immediates(d, p, opsize);
    else if (insn_rows[row].map == MAP_X87)
        i->imm = (d->opcode & 7) << 8 | d->modrm;
    if (i->flags & INSN_VEX)
        i->vvvv = d->code_size == 3 ? d->vvvv : d->vvvv & 7;
    else
        i->vvvv = p->has & DEST_RM ? i->rm : i->reg;
    if (p->has & CHECKED && !check_registers(i, &insn_rows[row]))
        return DECODE_UD;
    if (d->lock && !(p->attr & ROW_LOCK && i->flags & INSN_MEM))
        return DECODE_UD;
    return DECODE_OK;
}

static enum decode_result decode_window(const uint8_t *window, struct decode_mode mode, struct insn *i)
{
    struct decoder d = { .p = window, .i = i, .code_size = mode.code_size, .override = SEG_COUNT };
    enum decode_result r = DECODE_UD;
    read_prefixes(&d, window + INSN_MAX);
    int prefix = read_opcode(&d, mode);
    int row = prefix < 0 ? -1 : find_row(&d, prefix);
    if (row >= 0)
        r = decode_operands(&d, row);
    i->len = d.p - window;
    return r;
}

enum decode_result decode_insn(const uint8_t *bytes, unsigned avail, struct decode_mode mode, struct insn *i)
{
    uint8_t copy[WINDOW];
    const uint8_t *window = bytes;
    pthread_once(&tables_once, build_tables);
    if (avail < WINDOW) { /* behind the end: zeros, which are no prefix and decode to something */
        memset(copy, 0, sizeof copy);
        if (avail >= INSN_MAX)
            memcpy(copy, bytes, INSN_MAX);
        else
            memcpy(copy, bytes, avail);
        window = copy;
    }
    *i = (struct insn){ .base = R_ZERO, .index = R_ZERO };
    enum decode_result r = decode_window(window, mode, i);
    if (i->len > MIN(avail, INSN_MAX))
        return avail < INSN_MAX ? DECODE_MORE : DECODE_TOO_LONG;
    return r;
}

op_fn *insn_handler(const struct insn *i, bool dead)
{
    pthread_once(&tables_once, build_tables);
    const struct plan *p = &tables.plans[i->row];
    const struct op *op = insn_row(i)->op;
    unsigned size = p->by_vl ? i->vl : p->by_osize ? i->osize : 0;
    return op ? op->v[size][i->flags & INSN_MEM ? 1 : 0][dead] : NULL;
}
