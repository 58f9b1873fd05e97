/*
 * What all templates use: where flags and operands are, the memory path, and pieces of code away from the straight way.
 *
 * The memory path is the software TLB's check of cpu/tlb.h: entry by address bits 12 to 21, (address - tag) compared with the
 * last offset at which `bytes` fit into the page, so that pages' ends are caught, too. Whatever it does not let pass goes to the
 * interpreter's handler of the whole instruction. Hot code looks at the page of the last time first (gen_slot.c).
 */
#include "tcg/x86_64/gen.h"

const int8_t gen_host[16] = {
    [R_RAX] = GUEST_RAX, [R_RCX] = GUEST_RCX, [R_RDX] = H_RDX, [R_RBX] = H_RBX,
    [R_RSP] = GUEST_RSP, [R_RBP] = H_RBP, [R_RSI] = H_RSI, [R_RDI] = H_RDI,
    [R_R8] = H_NONE, [R_R9] = H_NONE, [R_R10] = H_NONE, [R_R11] = H_NONE,
    [R_R12] = H_R12, [R_R13] = H_R13, [R_R14] = H_NONE, [R_R15] = H_NONE,
};

/* --- Flags ----------------------------------------------------------------------------------------------------------------- */

/*
 * Byte by byte: to put AH and AL together costs the host's processor more than another store. They are loaded likewise, since
 * one load cannot get its bytes from two stores under way.
 */
static struct hmem arith_high(void)
{
    return gen_state(offsetof(struct cpu, arith) + 1);
}

void gen_arith_save(struct emit *e)
{
    struct enc seto = { .opcode = 0x90, .map = EMAP_0F }, mov_ah = { .opcode = 0x88 };
    emit8(e, 0x9f); /* LAHF */
    emit_mem(e, &seto, 0, STATE(arith));
    emit_mem(e, &mov_ah, 4, arith_high());
}

void gen_rflags_store(struct emit *e, unsigned reg)
{
    emit_store(e, 3, reg, STATE(rflags));
    emit_store(e, 0, reg, arith_high());
    emit_shift_imm(e, 5, 2, reg, 11);
    emit_alu_imm(e, ALU_AND, 2, reg, 1);
    emit_store(e, 0, reg, STATE(arith));
}

void gen_arith_load(struct emit *e)
{
    struct enc mov_ah = { .opcode = 0x8a };
    emit_extend_mem(e, false, 0, 2, H_RAX, STATE(arith));
    emit_alu_imm(e, ALU_ADD, 0, H_RAX, 127);
    emit_mem(e, &mov_ah, 4, arith_high());
    emit8(e, 0x9e); /* SAHF */
}

static void save_flags(struct gen *g)
{
    gen_arith_save(&g->e);
    g->flags_saved = true;
}

void gen_flags_clobber(struct gen *g)
{
    if (g->g->live && g->flags_here && !g->flags_saved)
        save_flags(g);
    g->flags_here = false;
    g->flags_saved = true; /* or nobody will look */
}

void gen_flags_save(struct gen *g)
{
    if (!g->flags_saved)
        save_flags(g);
}

void gen_flags_load(struct gen *g)
{
    if (g->flags_here)
        return;
    gen_arith_load(&g->e);
    g->flags_here = true;
}

void gen_flags_for(struct gen *g, const struct guest_insn *to)
{
    if (to->in_memory)
        gen_flags_save(g);
    else if (to->live)
        gen_flags_load(g);
}

void gen_flags_keep(struct gen *g, unsigned written, unsigned read)
{
    if ((g->g->live_out & FLAGS_ARITH & ~written) || read & FLAGS_ARITH)
        gen_flags_load(g);
}

/* --- Cold code ---------------------------------------------------------------------------------------------------------------- */

struct cold *gen_cold(struct gen *g, enum cold_kind kind)
{
    g_assert(g->cold_count < G_N_ELEMENTS(g->cold));
    struct cold *c = &g->cold[g->cold_count++];
    *c = (struct cold){ .kind = kind, .loaded = g->loaded, .x87_at = g->x87_at };
    if (gen_in_run(g)) {
        c->run = g->run.number;
        c->sp = g->run.sp;
    }
    return c;
}

void gen_slow_from(struct gen *g, struct fixup from)
{
    if (g->slow < 0) {
        struct cold *c = gen_cold(g, COLD_HANDLER);
        c->insn = &g->u->insns[g->g - g->s->insns];
        g->slow = (int)(c - g->cold);
    }
    struct cold *c = &g->cold[g->slow];
    g_assert(c->from_count < G_N_ELEMENTS(c->from));
    c->from[c->from_count++] = from;
}

void gen_slow_if(struct gen *g, enum emit_cond cc)
{
    gen_slow_from(g, emit_jcc(&g->e, cc));
}

static void load_state(struct gen *g, uint8_t bit, enum cold_kind kind)
{
    if (g->loaded & bit)
        return;
    gen_flags_clobber(g);
    struct enc test = { .opcode = 0xf6, .imm_size = 1, .imm = bit };
    emit_mem(&g->e, &test, 0, STATE(loaded));
    struct cold *c = gen_cold(g, kind);
    c->from[c->from_count++] = emit_jcc(&g->e, CC_Z);
    c->back = g->e.at;
    g->loaded |= bit;
}

void gen_load_state(struct gen *g, unsigned bits)
{
    if (bits & LOADED_VECTORS)
        load_state(g, LOADED_VECTORS, COLD_VECTORS);
    if (bits & LOADED_X87)
        load_state(g, LOADED_X87, COLD_X87);
}

/* --- Registers ------------------------------------------------------------------------------------------------------------------ */

unsigned gen_src(struct gen *g, unsigned guest, unsigned size, unsigned scratch)
{
    bool high = size == 0 && guest & R_HIGH_BYTE;
    int host = gen_host[high ? guest & 3 : guest];
    if (!high && host != H_NONE)
        return (unsigned)host;
    if (high) { /* AH..BH are pinned */
        emit_op_reg(&g->e, 0x8b, 2, scratch, (unsigned)host);
        struct enc movzx = { .opcode = 0xb6, .map = EMAP_0F };
        emit_reg(&g->e, &movzx, scratch, scratch | 4); /* AH or CH */
    } else {
        emit_load(&g->e, 3, scratch, gen_reg_mem(guest));
    }
    return scratch;
}

unsigned gen_dst(struct gen *g, unsigned guest, unsigned scratch, bool load)
{
    int host = gen_host[guest];
    if (host != H_NONE)
        return (unsigned)host;
    if (load)
        emit_load(&g->e, 3, scratch, gen_reg_mem(guest));
    return scratch;
}

void gen_dst_end(struct gen *g, unsigned guest, unsigned host)
{
    if (gen_host[guest] == H_NONE)
        emit_store(&g->e, 3, host, gen_reg_mem(guest));
}

static void rotate(struct gen *g, unsigned host, unsigned count)
{
    struct enc rorx = { .opcode = 0xf0, .map = EMAP_0F3A, .prefix = 0xf2, .vex = true, .w = true, .imm = count, .imm_size = 1 };
    emit_reg(&g->e, &rorx, host, host);
}

static bool is_high(unsigned guest, unsigned size)
{
    return size == 0 && guest & R_HIGH_BYTE;
}

unsigned gen_dst_any(struct gen *g, unsigned guest, unsigned size, unsigned scratch)
{
    if (!is_high(guest, size))
        return gen_dst(g, guest, scratch, true);
    unsigned host = (unsigned)gen_host[guest & 3];
    rotate(g, host, 8);
    return host;
}

void gen_dst_any_end(struct gen *g, unsigned guest, unsigned size, unsigned host)
{
    if (is_high(guest, size))
        rotate(g, host, 56);
    else
        gen_dst_end(g, guest, host);
}

unsigned gen_src_beside(struct gen *g, unsigned guest, unsigned dst, unsigned size, unsigned scratch)
{
    unsigned host = gen_src(g, guest, size, scratch);
    if (is_high(dst, size) && host == (unsigned)gen_host[dst & 3]) {
        emit_op_reg(&g->e, 0x8b, 2, scratch, host);
        return scratch;
    }
    return host;
}

/* --- Memory ----------------------------------------------------------------------------------------------------------------------- */

/* Base or index into a host register that LEA can use: pinned, or loaded into `scratch`. */
static int address_part(struct gen *g, unsigned guest, unsigned scratch)
{
    if (guest == R_ZERO)
        return H_NONE;
    if (guest == R_RIP)
        return H_RIP;
    if (gen_host[guest] != H_NONE)
        return gen_host[guest];
    emit_load(&g->e, 3, scratch, gen_reg_mem(guest));
    return (int)scratch;
}

void gen_address(struct gen *g, const struct insn *i)
{
    int base = address_part(g, i->base, H_R9);
    int index = address_part(g, i->index, H_RCX);
    if (base == H_NONE && index == H_NONE) {
        emit_mov_imm(&g->e, H_R9, i->asize == 3 ? (uint64_t)i->disp : (uint32_t)i->disp);
    } else {
        struct hmem m = { .base = (int8_t)base, .index = (int8_t)index, .scale = i->scale, .disp = (int32_t)i->disp };
        emit_lea(&g->e, i->asize == 3 ? 3 : 2, H_R9, m);
    }
    if (i->asize == 1)
        emit_extend_reg(&g->e, false, 1, 2, H_R9, H_R9);
}

struct fixup gen_tlb_check(struct gen *g, unsigned reg, unsigned bytes, bool write)
{
    struct emit *e = &g->e;
    gen_tlb_offset(e, g->b, H_RCX, reg);
    if (reg != H_RAX)
        emit_mov(e, H_RAX, reg);
    size_t tag = write ? offsetof(struct tlb_entry, tag_write) : offsetof(struct tlb_entry, tag_read);
    emit_op_mem(e, 0x2b, 3, H_RAX, hmem_index(H_TLB, H_RCX, 0, (int32_t)tag));
    emit_alu_imm(e, ALU_CMP, 3, H_RAX, (int32_t)(PAGE_SIZE - bytes));
    struct fixup miss = emit_jcc(e, CC_NBE);
    emit_load(e, 3, H_RCX, hmem_index(H_TLB, H_RCX, 0, offsetof(struct tlb_entry, addend)));
    return miss;
}

_Static_assert(sizeof(struct tlb_entry) == 32, "the check shifts by 12 - 5");

/* Base and displacement only: the access itself can add them up. */
static bool is_simple(const struct insn *i)
{
    return i->asize == 3 && i->base != R_ZERO && i->index == R_ZERO && i->seg != SEG_FS && i->seg != SEG_GS;
}

struct hmem gen_mem(struct gen *g, const struct insn *i, unsigned bytes, bool write, unsigned align)
{
    struct emit *e = &g->e;
    struct hmem m;
    gen_flags_clobber(g);
    if (!align && gen_run_operand(g, i, bytes, write, &m))
        return m;
    if (is_simple(i) && !align) {
        int base = address_part(g, i->base, H_R9);
        if (gen_wants_slot(g, bytes)) {
            gen_slot_check(g, (unsigned)base, (int32_t)i->disp, bytes, write);
            return hmem_index(base, H_RCX, 0, (int32_t)i->disp);
        }
        if (i->disp)
            emit_lea(e, 3, H_RAX, hmem_base(base, (int32_t)i->disp));
        else
            emit_mov(e, H_RAX, (unsigned)base);
        gen_slow_from(g, gen_tlb_check(g, H_RAX, bytes, write));
        return hmem_index(base, H_RCX, 0, (int32_t)i->disp);
    }
    gen_address(g, i);
    return gen_mem_at_r9(g, i, bytes, write, align);
}

static struct hmem segment_field(unsigned seg, size_t offset)
{
    return gen_state(offsetof(struct cpu, seg) + seg * sizeof(struct segment) + offset);
}

/* R9: from an offset in the segment to a linear address, with all checks. RAX is used. */
static void add_base(struct gen *g, unsigned seg, unsigned bytes, bool write)
{
    struct emit *e = &g->e;
    struct hmem base = segment_field(seg, offsetof(struct segment, base));
    if (g->s->cpu->code_size == 3) {
        if (seg == SEG_FS || seg == SEG_GS)
            emit_op_mem(e, 0x03, 3, H_R9, base);
    } else if (!gen_segment_is_flat(g->s, seg)) {
        size_t end = write ? offsetof(struct segment, end_write) : offsetof(struct segment, end_read);
        emit_lea(e, 3, H_RAX, hmem_base(H_R9, (int32_t)bytes));
        emit_op_mem(e, 0x3b, 3, H_RAX, segment_field(seg, end));
        gen_slow_if(g, CC_NBE);
        emit_op_mem(e, 0x03, 2, H_R9, base);
    }
}

struct hmem gen_mem_at_r9(struct gen *g, const struct insn *i, unsigned bytes, bool write, unsigned align)
{
    struct emit *e = &g->e;
    add_base(g, i->seg, bytes, write);
    if (align) {
        struct enc test = { .opcode = 0xf6, .imm_size = 1, .imm = align - 1, .byte_rm = true };
        emit_reg(e, &test, 0, H_R9);
        gen_slow_if(g, CC_NZ);
    }
    if (gen_wants_slot(g, bytes))
        gen_slot_check(g, H_R9, 0, bytes, write);
    else
        gen_slow_from(g, gen_tlb_check(g, H_R9, bytes, write));
    return hmem_index(H_R9, H_RCX, 0, 0);
}

struct hmem gen_mem_r9(struct gen *g, struct hmem m)
{
    emit_lea(&g->e, 3, H_R9, m);
    return hmem_base(H_R9, 0);
}

/* --- Tables of templates ----------------------------------------------------------------------------------------------------- */

void gen_nothing(struct gen *g, const struct insn *i, unsigned arg)
{
}

void gen_templates_add(struct gen_template *t, const struct gen_entry *table, unsigned count, unsigned also)
{
    for (unsigned row = 0; row < insn_row_count; row++)
        for (unsigned k = 0; k < count; k++)
            if (insn_rows[row].op == table[k].op)
                t[row] = (struct gen_template){ table[k].fn, table[k].arg, (uint16_t)(table[k].needs | also) };
}
