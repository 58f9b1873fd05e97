/*
 * The memory path by slots: an access is compared with the page that it was in last (struct tlb_slots), at a place that does not
 * depend on its address, so that it need not wait for the addend as it has to when an entry of the TLB is looked for.
 *
 * An access elsewhere looks for the entry in cold code and leaves a copy of it in its slot; what the entry does not allow goes to
 * the handler. That costs several times as much as the plain way: only hot code has slots, and cold code counts, so that
 * instructions that keep going from page to page lose theirs (jit_slots_missed()). Slots are handed out in turn and each is shared
 * by a few instructions somewhere; those of one instruction that is emitted several times are the same.
 */
#include "tcg/x86_64/gen.h"

void gen_tlb_offset(struct emit *e, const struct backend *b, unsigned dst, unsigned reg)
{
    if (b->has_bmi2) {
        struct enc rorx = { .opcode = 0xf0, .map = EMAP_0F3A, .prefix = 0xf2, .vex = true, .w = true, .imm = 7,
                            .imm_size = 1 };
        emit_reg(e, &rorx, dst, reg);
    } else {
        emit_mov(e, dst, reg);
        emit_shift_imm(e, 5, 3, dst, 7);
    }
    emit_alu_imm(e, ALU_AND, 2, dst, (TLB_SIZE - 1) << 5);
}

#define SLOT(field) ((int32_t)(offsetof(struct tlb, slots) + offsetof(struct tlb_slots, field)))

/* By log2 of the size, since the limit in a slot is for one size: where its slots begin among those for reading, or for writing. */
static const struct { uint16_t first, count; } slots_of[2][6] = {
    { { 0, 32 }, { 32, 16 }, { 48, 64 }, { 112, 128 }, { 240, 32 }, { 272, 16 } },
    { { 288, 32 }, { 320, 16 }, { 336, 48 }, { 384, 80 }, { 464, 32 }, { 496, 16 } },
};
_Static_assert(TLB_SLOTS == 512, "slots_of");

bool gen_wants_slot(const struct gen *g, unsigned bytes)
{
    return !g->g->plain && bytes <= 32 && !(bytes & (bytes - 1)) && !(g->b->templates[g->g->i.row].needs & GEN_X87);
}

static unsigned choose_slot(struct gen *g, unsigned bytes, bool write)
{
    unsigned size = g_bit_nth_lsf(bytes, -1), count = slots_of[write][size].count;
    g_assert(g->slots_given < UNIT_INSN_SLOTS);
    uint16_t *slot = &g->u->slots[g->g - g->s->insns][g->slots_given++];
    if (!*slot) /* else it is emitted once more */
        *slot = (uint16_t)(slots_of[write][size].first + g->b->next_slot[write][size]++ % count + 1);
    return *slot - 1u;
}

void gen_slot_check(struct gen *g, unsigned base, int32_t disp, unsigned bytes, bool write)
{
    struct emit *e = &g->e;
    unsigned slot = choose_slot(g, bytes, write);
    int32_t at = (int32_t)(slot * sizeof(uint64_t));
    if (disp)
        emit_lea(e, 3, H_RAX, hmem_base((int)base, disp));
    else
        emit_mov(e, H_RAX, base);
    struct cold *c = gen_cold(g, COLD_SLOT);
    emit_op_mem(e, 0x2b, 3, H_RAX, hmem_base(H_TLB, SLOT(page) + at));
    emit_op_mem(e, 0x3b, 3, H_RAX, hmem_base(H_TLB, SLOT(limit) + at));
    c->from[c->from_count++] = emit_jcc(e, CC_NB);
    emit_load(e, 3, H_RCX, hmem_base(H_TLB, SLOT(addend) + at));
    c->again = e->at;
    c->insn = &g->u->insns[g->g - g->s->insns];
    c->off = disp;
    c->base = (uint8_t)base;
    c->bytes = (uint8_t)bytes;
    c->write = write;
    c->slot = (uint16_t)slot;
}

/*
 * RAX: linear address, RCX: offset of the slot in each array, limit << 16. Carry: to the handler; else RCX = addend, and the
 * slot names the page.
 */
void gen_find_slot(struct emit *e, const struct backend *b, bool write)
{
    int32_t tag = write ? offsetof(struct tlb_entry, tag_write) : offsetof(struct tlb_entry, tag_read);
    emit_push(e, H_R9);
    emit_push(e, H_RDX);
    emit_extend_reg(e, false, 1, 2, H_R9, H_RCX);
    emit_mov(e, H_RDX, H_RCX);
    emit_shift_imm(e, 5, 2, H_RDX, 16);
    gen_tlb_offset(e, b, H_RCX, H_RAX);
    emit_op_mem(e, 0x2b, 3, H_RAX, hmem_index(H_TLB, H_RCX, 0, tag));
    emit_alu_reg(e, ALU_CMP, 3, H_RAX, H_RDX);
    struct fixup miss = emit_jcc(e, CC_NB);
    struct hmem misses = STATE(slot_misses);
    misses.index = H_R9;
    emit_load(e, 3, H_RAX, hmem_index(H_TLB, H_RCX, 0, tag));
    emit_store(e, 3, H_RAX, hmem_index(H_TLB, H_R9, 0, SLOT(page)));
    emit_load(e, 3, H_RAX, hmem_index(H_TLB, H_RCX, 0, offsetof(struct tlb_entry, addend)));
    emit_store(e, 3, H_RAX, hmem_index(H_TLB, H_R9, 0, SLOT(addend)));
    emit_store(e, 3, H_RDX, hmem_index(H_TLB, H_R9, 0, SLOT(limit)));
    emit_shift_imm(e, 5, 2, H_RCX, 2); /* from 32 to 8 bytes each */
    emit_alu_imm_mem(e, ALU_OR, 0, hmem_index(H_TLB, H_RCX, 0, offsetof(struct tlb, info)), TLB_SLOTTED, false);
    struct enc store = { .opcode = 0xc6, .imm_size = 1, .imm = 1 };
    emit_mem(e, &store, 0, hmem_base(H_TLB, SLOT(filled)));
    emit_mov(e, H_RCX, H_RAX);
    emit_shift_imm(e, 5, 2, H_R9, 2); /* from 8 to 2 bytes each */
    emit_alu_imm_mem(e, ALU_ADD, 1, misses, 1, false);
    emit_pop(e, H_RDX);
    emit_pop(e, H_R9);
    emit_alu_imm_mem(e, ALU_SUB, 2, STATE(slot_misses_left), 1, false);
    emit_ret(e);
    emit_bind(e, miss);
    emit_pop(e, H_RDX);
    emit_pop(e, H_R9);
    emit8(e, 0xf9); /* STC */
    emit_ret(e);
}

void gen_cold_slot(struct gen *g, const struct cold *c)
{
    struct emit *e = &g->e;
    if (c->off)
        emit_lea(e, 3, H_RAX, hmem_base(c->base, c->off));
    else
        emit_mov(e, H_RAX, c->base);
    emit_mov_imm(e, H_RCX, c->slot * sizeof(uint64_t) | (uint64_t)(PAGE_SIZE - c->bytes + 1) << 16);
    emit_call_to(e, g->b->find_slot[c->write]);
    emit_bind_to(e, emit_jcc(e, CC_NB), c->again + e->skew);
}
