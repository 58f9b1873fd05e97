/*
 * x87 and MMX registers on their way between struct fpu and the host's unit.
 *
 * An XSAVE image of the x87 component alone stands in between (cpu->x87_image): its tags are by physical register as
 * struct fpu has them, its registers by stack position. Pointers and opcode of the last instruction in it are the
 * host's and mean nothing. Behind a save the unit is empty and has the host's control word, as C code wants it; flags
 * left in the status word do no harm.
 *
 * Intel SDM volume 1, 13.4 and 13.7 to 13.8.
 */
#include "tcg/x86_64/entry.h"

#define IMAGE_CW 0
#define IMAGE_SW 2
#define IMAGE_TAGS 4
#define IMAGE_ST 32
#define IMAGE_PRESENT 512 /* XSTATE_BV */

#define TOP_SHIFT 11

_Static_assert(sizeof(struct float80) == 16, "registers are indexed by TOP * 16");

/* Part of register RCX / 16. */
static struct hmem physical(size_t offset)
{
    return (struct hmem){ .base = H_RCX, .index = H_NONE, .gs = true,
                          .disp = (int32_t)(offsetof(struct cpu, fpu) + offsetof(struct fpu, st) + offset) };
}

static void next_physical(struct emit *e)
{
    emit_alu_imm(e, ALU_ADD, 2, H_RCX, 16);
    emit_alu_imm(e, ALU_AND, 2, H_RCX, 0x70);
}

/* XSAVE64 or XRSTOR64 of x87 alone. RAX and RDX are lost. */
static void move_image(struct emit *e, unsigned digit, unsigned image)
{
    struct enc c = { .opcode = 0xae, .map = EMAP_0F, .w = true };
    emit_mov_imm(e, H_RAX, XCR0_X87);
    emit_op_reg(e, 0x31, 2, H_RDX, H_RDX);
    emit_mem(e, &c, digit, hmem_base((int)image, 0));
}

/* RDX, which is the guest's, waits in R9. */
static void emit_load_x87(struct emit *e)
{
    emit_mov(e, H_R9, H_RDX);
    emit_load(e, 3, H_RDX, STATE(x87_image));
    emit_load(e, 1, H_RAX, STATE(fpu.cw));
    emit_store(e, 1, H_RAX, hmem_base(H_RDX, IMAGE_CW));
    emit_extend_mem(e, false, 0, 2, H_RCX, STATE(fpu.top));
    emit_op_reg(e, 0x8b, 2, H_RAX, H_RCX);
    emit_shift_imm(e, 4, 2, H_RAX, TOP_SHIFT);
    emit_op_mem(e, 0x0b, 1, H_RAX, STATE(fpu.sw));
    emit_store(e, 1, H_RAX, hmem_base(H_RDX, IMAGE_SW));
    emit_extend_mem(e, false, 0, 2, H_RAX, STATE(fpu.tag_valid));
    emit_store(e, 1, H_RAX, hmem_base(H_RDX, IMAGE_TAGS));
    emit_shift_imm(e, 4, 2, H_RCX, 4);
    for (int n = 0; n < 8; n++) {
        emit_load(e, 3, H_RAX, physical(offsetof(struct float80, mant)));
        emit_store(e, 3, H_RAX, hmem_base(H_RDX, IMAGE_ST + 16 * n));
        emit_extend_mem(e, false, 1, 2, H_RAX, physical(offsetof(struct float80, sexp)));
        emit_store(e, 3, H_RAX, hmem_base(H_RDX, IMAGE_ST + 16 * n + 8));
        next_physical(e);
    }
    emit_mov_imm(e, H_RAX, XCR0_X87);
    emit_store(e, 3, H_RAX, hmem_base(H_RDX, IMAGE_PRESENT));
    emit_mov(e, H_RCX, H_RDX);
    move_image(e, 5, H_RCX);
    emit_mov(e, H_RDX, H_R9);
    emit_alu_imm_mem(e, ALU_OR, 0, STATE(loaded), LOADED_X87, false);
    emit_ret(e);
}

static void emit_save_x87(struct emit *e)
{
    static const uint8_t emms[] = { 0x0f, 0x77 };
    struct enc fldcw = { .opcode = 0xd9 };
    emit_load(e, 3, H_RDI, STATE(x87_image));
    move_image(e, 4, H_RDI);
    memcpy(e->at, emms, sizeof emms);
    e->at += sizeof emms;
    emit_mem(e, &fldcw, 5, STATE(host_cw));
    emit_load(e, 1, H_RAX, hmem_base(H_RDI, IMAGE_CW));
    emit_store(e, 1, H_RAX, STATE(fpu.cw));
    emit_extend_mem(e, false, 1, 2, H_RAX, hmem_base(H_RDI, IMAGE_SW));
    emit_op_reg(e, 0x8b, 2, H_RCX, H_RAX);
    emit_shift_imm(e, 5, 2, H_RCX, TOP_SHIFT);
    emit_alu_imm(e, ALU_AND, 2, H_RCX, 7);
    emit_op_mem(e, 0x89, 0, H_RCX, STATE(fpu.top));
    emit_alu_imm(e, ALU_AND, 2, H_RAX, ~(7 << TOP_SHIFT));
    emit_store(e, 1, H_RAX, STATE(fpu.sw));
    emit_extend_mem(e, false, 0, 2, H_RAX, hmem_base(H_RDI, IMAGE_TAGS));
    emit_op_mem(e, 0x89, 0, H_RAX, STATE(fpu.tag_valid));
    emit_shift_imm(e, 4, 2, H_RCX, 4);
    for (int n = 0; n < 8; n++) {
        emit_load(e, 3, H_RAX, hmem_base(H_RDI, IMAGE_ST + 16 * n));
        emit_store(e, 3, H_RAX, physical(offsetof(struct float80, mant)));
        emit_load(e, 1, H_RAX, hmem_base(H_RDI, IMAGE_ST + 16 * n + 8));
        emit_store(e, 1, H_RAX, physical(offsetof(struct float80, sexp)));
        next_physical(e);
    }
    emit_alu_imm_mem(e, ALU_AND, 0, STATE(loaded), ~(int32_t)LOADED_X87, false);
    emit_ret(e);
}

void x87_emit(struct backend *b, struct emit *e)
{
    b->load_x87 = emit_here(e);
    emit_load_x87(e);
    b->save_x87 = emit_here(e);
    emit_save_x87(e);
}
