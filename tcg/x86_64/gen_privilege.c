/*
 * SYSCALL, SYSRET and IRET between 64-bit code of CPL 3 and 0: code that all units share, one piece for each.
 *
 * A piece does what the handlers in cpu/op_far.c do and cpu_update_mode() after them, for the segments that 64-bit kernels have:
 * flat, marked as accessed. It checks everything first and returns to have the handler called if anything is unusual: events
 * that wait, flags that change how code is run or what memory allows (TF, RF, AC), descriptors that are other than flat ones,
 * somebody who watches accesses. Else it goes on by the jump cache.
 *
 * A handler of faults returns with RF set, to keep instruction breakpoints from being met again. Without any in DR7 RF is
 * forgotten at once, unless flags are to be precise: only an interrupt right behind the IRET could show it.
 */
#include "cpu/ops.h"
#include "tcg/x86_64/entry.h"

#define FLAT_CODE64 (SEG_G | SEG_P | SEG_S | SEG_X | SEG_R | SEG_A | SEG_L)
#define FLAT_DATA (SEG_G | SEG_DB | SEG_P | SEG_S | SEG_W | SEG_A)
#define DPL3 (3u << SEG_DPL_SHIFT)

/* The pair of flat_read and flat_write, which lie behind the selector. */
#define FLAT_READ (1u << 16)
#define FLAT_WRITE (1u << 24)
_Static_assert(offsetof(struct segment, flat_read) == offsetof(struct segment, selector) + 2 &&
               offsetof(struct segment, flat_write) == offsetof(struct segment, selector) + 3 &&
               offsetof(struct segment, attr) == offsetof(struct segment, limit) + 4, "written as one");
_Static_assert(TLB_SUPER == TLB_USER + 1, "the supervisor's view lies behind the user's");

struct checks {
    struct emit *e;
    struct fixup failed[24];
    unsigned count;
};

static void fail_if(struct checks *c, enum emit_cond cc)
{
    g_assert(c->count < G_N_ELEMENTS(c->failed));
    c->failed[c->count++] = emit_jcc(c->e, cc);
}

/* Behind the way that succeeds: back to where the handler is called, with nothing changed. */
static void end(struct checks *c)
{
    for (unsigned k = 0; k < c->count; k++)
        emit_bind(c->e, c->failed[k]);
    emit_ret(c->e);
}

static struct hmem field(enum seg s, size_t offset)
{
    return gen_state(offsetof(struct cpu, seg) + (unsigned)s * sizeof(struct segment) + offset);
}

static void test_imm(struct emit *e, unsigned reg, uint32_t imm)
{
    struct enc c = { .opcode = 0xf7, .imm_size = 4, .imm = imm };
    emit_reg(e, &c, 0, reg);
}

static void test_mem(struct emit *e, struct hmem m, uint32_t imm)
{
    struct enc c = { .opcode = 0xf7, .imm_size = 4, .imm = imm };
    emit_mem(e, &c, 0, m);
}

static void store_byte(struct emit *e, struct hmem m, unsigned imm)
{
    struct enc c = { .opcode = 0xc6, .imm_size = 1, .imm = imm };
    emit_mem(e, &c, 0, m);
}

/* --- Pieces of them: RAX, RCX and R9 are free ------------------------------------------------------------------------------- */

static void check_nobody_watches(struct checks *c)
{
    emit_alu_imm_mem(c->e, ALU_CMP, 3, STATE(watcher), 0, false);
    fail_if(c, CC_NZ);
}

/* With IF perhaps set, or NMIs let in, something might be due. */
static void check_no_event(struct checks *c)
{
    emit_alu_imm_mem(c->e, ALU_CMP, 2, STATE(events), 0, false);
    fail_if(c, CC_NZ);
}

static void check_syscalls_on(struct checks *c)
{
    test_mem(c->e, STATE(efer), EFER_SCE);
    fail_if(c, CC_Z);
}

/* `reg` as an address with 48 bits; RCX is used. With 5-level paging the handler knows better. */
static void check_canonical(struct checks *c, unsigned reg)
{
    emit_mov(c->e, H_RCX, reg);
    emit_shift_imm(c->e, 4, 3, H_RCX, 16);
    emit_shift_imm(c->e, 7, 3, H_RCX, 16);
    emit_alu_reg(c->e, ALU_CMP, 3, H_RCX, reg);
    fail_if(c, CC_NZ);
}

/* RFLAGS, arithmetic ones included and RF not, into ECX; RAX is used. */
static void flags_to_ecx(struct emit *e)
{
    emit_load(e, 2, H_RCX, STATE(rflags));
    emit_alu_imm(e, ALU_AND, 2, H_RCX, ~(int32_t)(FLAGS_ARITH | FLAG_RF));
    emit_extend_mem(e, false, 0, 2, H_RAX, gen_state(offsetof(struct cpu, arith) + 1));
    emit_alu_imm(e, ALU_AND, 2, H_RAX, (int32_t)(FLAGS_ARITH & 0xff));
    emit_alu_reg(e, ALU_OR, 2, H_RCX, H_RAX);
    emit_extend_mem(e, false, 0, 2, H_RAX, STATE(arith));
    emit_alu_imm(e, ALU_AND, 2, H_RAX, 1);
    emit_shift_imm(e, 4, 2, H_RAX, 11);
    emit_alu_reg(e, ALU_OR, 2, H_RCX, H_RAX);
}

/* ECX becomes RFLAGS. */
static void set_flags(struct emit *e)
{
    emit_alu_imm(e, ALU_OR, 2, H_RCX, FLAGS_FIXED);
    gen_rflags_store(e, H_RCX);
}

/* A flat segment; `selector`: register with the selector alone, which is lost. R9 is used. */
static void set_segment(struct emit *e, enum seg s, uint32_t attr, unsigned selector)
{
    bool code = attr & SEG_X;
    emit_store_imm32(e, field(s, offsetof(struct segment, base)), 0);
    emit_store_imm32(e, field(s, offsetof(struct segment, base) + 4), 0);
    emit_mov_imm(e, H_R9, (uint64_t)attr << 32 | UINT32_MAX);
    emit_store(e, 3, H_R9, field(s, offsetof(struct segment, limit)));
    emit_alu_imm(e, ALU_OR, 2, selector, (int32_t)(FLAT_READ | (code ? 0 : FLAT_WRITE)));
    emit_store(e, 2, selector, field(s, offsetof(struct segment, selector)));
    emit_mov_imm(e, H_R9, UINT64_C(1) << 32);
    emit_store(e, 3, H_R9, field(s, offsetof(struct segment, end_read)));
    if (code)
        emit_mov_imm(e, H_R9, 0);
    emit_store(e, 3, H_R9, field(s, offsetof(struct segment, end_write)));
}

/* CS and SS that follow from STAR: RAX is the selector that the pair begins with, as it stands there. RCX, R9 are used. */
static void set_pair(struct emit *e, unsigned cs, unsigned ss, unsigned cpl)
{
    uint32_t dpl = cpl << SEG_DPL_SHIFT;
    for (unsigned k = 0; k < 2; k++) {
        emit_lea(e, 2, H_RCX, hmem_base(H_RAX, (int32_t)(k ? ss : cs)));
        emit_alu_imm(e, ALU_AND, 2, H_RCX, 0xfffc);
        if (cpl)
            emit_alu_imm(e, ALU_OR, 2, H_RCX, (int32_t)cpl);
        set_segment(e, k ? SEG_SS : SEG_CS, (k ? FLAT_DATA : FLAT_CODE64) | dpl, H_RCX);
    }
}

/*
 * The context that will be, in `reg`: jit_update_context(), as far as it has a region in the jump cache already. The last check:
 * with it the change begins. RCX is used.
 */
static void enter_context(struct checks *c, unsigned reg, bool user)
{
    struct emit *e = c->e;
    struct enc bt = { .opcode = 0xba, .map = EMAP_0F, .imm_size = 1, .imm = __builtin_ctz(MODE_CPL0) };
    struct fixup found[JUMP_REGIONS];
    unsigned first = user ? JUMP_SYSTEM_REGIONS : 0, end = user ? JUMP_REGIONS : JUMP_SYSTEM_REGIONS;
    emit_load(e, 3, reg, user ? STATE(tlb_exec) : STATE(tlbs));
    emit_load(e, 3, reg, hmem_base((int)reg, user ? (int32_t)offsetof(struct tlb, id) - (int32_t)sizeof(struct tlb)
                                                  : (int32_t)offsetof(struct tlb_set, super_id)));
    emit_shift_imm(e, 4, 3, reg, 24);
    emit_load(e, 2, H_RCX, STATE(jump_context));
    emit_alu_imm(e, ALU_AND, 2, H_RCX, 0xffffff);
    emit_reg(e, &bt, user ? 6 : 5, H_RCX); /* BTR, BTS */
    emit_alu_reg(e, ALU_OR, 3, reg, H_RCX);
    for (unsigned k = first; k < end; k++) {
        emit_op_mem(e, 0x3b, 3, reg, STATE(jump_regions[k].context));
        struct fixup next = emit_jcc8(e, 0x70 | CC_NZ);
        emit_store_imm32(e, STATE(jump_base), (int32_t)(jit_jumps_first(k) * sizeof(struct jump_entry)));
        emit_load(e, 3, H_RCX, STATE(jump_turn));
        emit_lea(e, 3, H_RCX, hmem_base(H_RCX, 1));
        emit_store(e, 3, H_RCX, STATE(jump_turn));
        emit_store(e, 3, H_RCX, STATE(jump_regions[k].last_used));
        found[k] = emit_jmp(e);
        emit_bind8(e, next);
    }
    c->failed[c->count++] = emit_jmp(e);
    for (unsigned k = first; k < end; k++)
        emit_bind(e, found[k]);
    emit_store(e, 3, reg, STATE(jump_context));
    emit_store(e, 1, reg, STATE(mode_key));
}

/* What else cpu_update_mode() does with CPL 0 instead of 3, or with CPL 3 instead of 0; without AC. */
static void enter_view(struct emit *e, bool user)
{
    emit_load(e, 3, H_TLB, STATE(tlb_exec));
    emit_alu_imm(e, user ? ALU_SUB : ALU_ADD, 3, H_TLB, sizeof(struct tlb));
    emit_store(e, 3, H_TLB, STATE(tlb_exec));
    emit_store(e, 3, H_TLB, STATE(tlb));
    store_byte(e, STATE(cpl), user ? 3 : 0);
}

/* Goes on at RAX; what would return on the shadow stack is not fit for the mode that is now. */
static void go(const struct backend *b, struct emit *e, bool system)
{
    emit_load(e, 3, H_RSP, STATE(host_stack));
    emit_jmp_to(e, b->jump[system]);
}

/* --- SYSCALL and SYSRET ---------------------------------------------------------------------------------------------------- */

/* RAX: RIP behind it; flags in cpu->arith. */
static const uint8_t *emit_syscall(const struct backend *b, struct emit *e)
{
    const uint8_t *at = emit_here(e);
    struct checks c = { .e = e };
    check_syscalls_on(&c);
    check_nobody_watches(&c);
    emit_load(e, 2, H_RCX, STATE(sfmask)); /* AC must go: else the view of memory is another one */
    emit_alu_imm(e, ALU_XOR, 2, H_RCX, -1);
    emit_op_mem(e, 0x23, 2, H_RCX, STATE(rflags));
    test_imm(e, H_RCX, FLAG_AC);
    fail_if(&c, CC_NZ);
    enter_context(&c, H_R9, false);
    emit_mov(e, GUEST_RCX, H_RAX);
    flags_to_ecx(e);
    emit_store(e, 3, H_RCX, gen_reg_mem(R_R11));
    emit_load(e, 2, H_RAX, STATE(sfmask));
    emit_alu_imm(e, ALU_XOR, 2, H_RAX, -1);
    emit_alu_reg(e, ALU_AND, 2, H_RCX, H_RAX);
    set_flags(e);
    emit_extend_mem(e, false, 1, 2, H_RAX, gen_state(offsetof(struct cpu, star) + 4));
    emit_alu_imm(e, ALU_AND, 2, H_RAX, 0xfffc);
    set_pair(e, 0, 8, 0);
    enter_view(e, false);
    emit_load(e, 3, H_RAX, STATE(lstar));
    go(b, e, true);
    end(&c);
    return at;
}

/* To 64-bit code. */
static const uint8_t *emit_sysret(const struct backend *b, struct emit *e)
{
    const uint8_t *at = emit_here(e);
    struct checks c = { .e = e };
    check_syscalls_on(&c);
    check_nobody_watches(&c);
    check_no_event(&c);
    check_canonical(&c, GUEST_RCX);
    emit_load(e, 2, H_RCX, gen_reg_mem(R_R11));
    test_imm(e, H_RCX, FLAG_TF | FLAG_AC);
    fail_if(&c, CC_NZ);
    enter_context(&c, H_RAX, true);
    emit_load(e, 2, H_RCX, gen_reg_mem(R_R11));
    emit_alu_imm(e, ALU_AND, 2, H_RCX, 0x3c7fd7);
    set_flags(e);
    emit_extend_mem(e, false, 1, 2, H_RAX, gen_state(offsetof(struct cpu, star) + 6));
    set_pair(e, 16, 8, 3);
    enter_view(e, true);
    emit_mov(e, H_RAX, GUEST_RCX);
    go(b, e, false);
    end(&c);
    return at;
}

/* --- IRET -------------------------------------------------------------------------------------------------------------------- */

/* The frame on the stack, from RSP on. */
enum { FRAME_RIP = 0, FRAME_CS = 8, FRAME_FLAGS = 16, FRAME_RSP = 24, FRAME_SS = 32, FRAME_BYTES = 40 };
/* Those that it may load, but TF, RF and AC, which are clear here. */
#define IRET_FLAGS \
    (FLAGS_ARITH | FLAG_IF | FLAG_DF | FLAG_IOPL | FLAG_NT | FLAG_VIF | FLAG_VIP | FLAG_ID)

/* The host's address of `bytes` at the linear address in R9, to be read through the view in `tlb`, into R9; RAX, RCX are used. */
static void read_at_r9(struct checks *c, unsigned tlb, unsigned bytes)
{
    struct emit *e = c->e;
    emit_mov(e, H_RCX, H_R9);
    emit_shift_imm(e, 5, 3, H_RCX, 12 - 5);
    emit_alu_imm(e, ALU_AND, 2, H_RCX, (TLB_SIZE - 1) << 5);
    emit_mov(e, H_RAX, H_R9);
    emit_alu_reg(e, ALU_ADD, 3, H_RCX, tlb);
    emit_op_mem(e, 0x2b, 3, H_RAX, hmem_base(H_RCX, offsetof(struct tlb_entry, tag_read)));
    emit_alu_imm(e, ALU_CMP, 3, H_RAX, (int32_t)(PAGE_SIZE - bytes));
    fail_if(c, CC_NBE);
    emit_op_mem(e, 0x03, 3, H_R9, hmem_base(H_RCX, offsetof(struct tlb_entry, addend)));
}

static uint64_t descriptor(uint32_t attr)
{
    return UINT64_C(0x000f00000000ffff) | (uint64_t)attr << 32;
}

/* The selector at frame R9 + `at` names a flat segment of DPL `cpl` in the GDT. Keeps R9. */
static void check_selector(struct checks *c, int32_t at, uint32_t attr, unsigned cpl)
{
    struct emit *e = c->e;
    emit_push(e, H_R9);
    emit_extend_mem(e, false, 1, 2, H_RAX, hmem_base(H_R9, at));
    emit_op_reg(e, 0x8b, 2, H_RCX, H_RAX);
    emit_alu_imm(e, ALU_AND, 2, H_RCX, 7);
    emit_alu_imm(e, ALU_CMP, 2, H_RCX, (int32_t)cpl); /* RPL; from the GDT */
    struct fixup other = emit_jcc(e, CC_NZ);
    emit_op_reg(e, 0x8b, 2, H_R9, H_RAX);
    emit_alu_imm(e, ALU_AND, 2, H_R9, 0xfff8);
    struct fixup null = emit_jcc(e, CC_Z);
    emit_lea(e, 2, H_RCX, hmem_base(H_R9, 7));
    emit_extend_mem(e, false, 1, 2, H_RAX, STATE(gdtr.limit));
    emit_alu_reg(e, ALU_CMP, 2, H_RCX, H_RAX);
    struct fixup beyond = emit_jcc(e, CC_NBE);
    emit_op_mem(e, 0x03, 3, H_R9, STATE(gdtr.base));
    struct checks inner = { .e = e };
    emit_push(e, H_RDX);
    emit_load(e, 3, H_RDX, STATE(tlb_exec)); /* at CPL 0 the view that tables are read by */
    read_at_r9(&inner, H_RDX, 8);
    emit_mov_imm(e, H_RAX, descriptor(attr | cpl << SEG_DPL_SHIFT));
    emit_op_mem(e, 0x3b, 3, H_RAX, hmem_base(H_R9, 0));
    emit_bind(e, inner.failed[0]); /* NZ, too */
    emit_pop(e, H_RDX);
    emit_bind(e, other);
    emit_bind(e, beyond);
    struct fixup checked = emit_jmp(e);
    emit_bind(e, null);
    emit_op_reg(e, 0x85, 3, H_RSP, H_RSP); /* NZ */
    emit_bind(e, checked);
    emit_pop(e, H_R9);
    fail_if(c, CC_NZ);
}

/* Data segments that CPL 3 must not keep: as seg_drop_privileged(). */
static void drop_privileged(struct emit *e)
{
    static const enum seg data[] = { SEG_ES, SEG_DS, SEG_FS, SEG_GS };
    for (unsigned k = 0; k < G_N_ELEMENTS(data); k++) {
        emit_load(e, 2, H_RAX, field(data[k], offsetof(struct segment, attr)));
        emit_op_reg(e, 0x85, 2, H_RAX, H_RAX);
        struct fixup null = emit_jcc8(e, 0x70 | CC_Z);
        emit_alu_imm(e, ALU_XOR, 2, H_RAX, -1);
        test_imm(e, H_RAX, SEG_DPL_MASK);
        struct fixup users = emit_jcc8(e, 0x70 | CC_Z);
        test_imm(e, H_RAX, SEG_X | SEG_C);
        struct fixup conforming = emit_jcc8(e, 0x70 | CC_Z);
        emit_store_imm32(e, field(data[k], offsetof(struct segment, attr)), 0);
        emit_store_imm32(e, field(data[k], offsetof(struct segment, selector)), 0);
        emit_op_reg(e, 0x31, 2, H_RAX, H_RAX);
        emit_store(e, 3, H_RAX, field(data[k], offsetof(struct segment, end_read)));
        emit_store(e, 3, H_RAX, field(data[k], offsetof(struct segment, end_write)));
        emit_bind8(e, conforming);
        emit_bind8(e, users);
        emit_bind8(e, null);
    }
}

/* R9: the frame. TF and AC change how code is run, RF likewise if it means anything. */
static void check_frame_flags(struct checks *c, bool precise)
{
    struct emit *e = c->e;
    struct enc test_dr7 = { .opcode = 0xf6, .imm_size = 1, .imm = 0xff };
    emit_load(e, 2, H_RAX, hmem_base(H_R9, FRAME_FLAGS));
    test_imm(e, H_RAX, FLAG_TF | FLAG_AC | (precise ? FLAG_RF : 0));
    fail_if(c, CC_NZ);
    if (precise)
        return;
    test_imm(e, H_RAX, FLAG_RF);
    struct fixup clear = emit_jcc(e, CC_Z);
    emit_mem(e, &test_dr7, 0, STATE(dr7));
    fail_if(c, CC_NZ);
    emit_bind(e, clear);
}

/* Behind all checks but the last; R9: the frame. */
static void iret_to(const struct backend *b, struct checks *c, unsigned cpl)
{
    struct emit *e = c->e;
    uint32_t dpl = cpl << SEG_DPL_SHIFT;
    if (cpl)
        enter_context(c, H_RAX, true);
    emit_load(e, 2, H_RCX, hmem_base(H_R9, FRAME_FLAGS));
    emit_alu_imm(e, ALU_AND, 2, H_RCX, (int32_t)IRET_FLAGS);
    set_flags(e);
    store_byte(e, STATE(nmi_blocked), 0);
    emit_load(e, 3, GUEST_RSP, hmem_base(H_R9, FRAME_RSP));
    emit_extend_mem(e, false, 1, 2, H_RAX, hmem_base(H_R9, FRAME_CS));
    emit_extend_mem(e, false, 1, 2, H_RCX, hmem_base(H_R9, FRAME_SS));
    emit_push(e, H_R9);
    set_segment(e, SEG_CS, FLAT_CODE64 | dpl, H_RAX);
    set_segment(e, SEG_SS, FLAT_DATA | dpl, H_RCX);
    if (cpl) {
        drop_privileged(e);
        enter_view(e, true);
    } else { /* without AC the view is that of fetches */
        emit_load(e, 3, H_TLB, STATE(tlb_exec));
        emit_store(e, 3, H_TLB, STATE(tlb));
    }
    emit_pop(e, H_R9);
    emit_load(e, 3, H_RAX, hmem_base(H_R9, FRAME_RIP));
    go(b, e, cpl == 0);
}

/* Of 64 bits, at CPL 0. */
static const uint8_t *emit_iret(const struct backend *b, struct emit *e, bool precise)
{
    const uint8_t *at = emit_here(e);
    struct checks c = { .e = e };
    check_nobody_watches(&c);
    check_no_event(&c);
    test_mem(e, STATE(rflags), FLAG_NT);
    fail_if(&c, CC_NZ);
    emit_mov(e, H_R9, GUEST_RSP);
    read_at_r9(&c, H_TLB, FRAME_BYTES);
    check_frame_flags(&c, precise);
    emit_load(e, 3, H_RAX, hmem_base(H_R9, FRAME_RIP));
    check_canonical(&c, H_RAX);
    struct enc test_byte = { .opcode = 0xf6, .imm_size = 1, .imm = 3 };
    emit_mem(e, &test_byte, 0, hmem_base(H_R9, FRAME_CS));
    struct fixup outer = emit_jcc(e, CC_NZ);
    check_selector(&c, FRAME_CS, FLAT_CODE64, 0);
    check_selector(&c, FRAME_SS, FLAT_DATA, 0);
    iret_to(b, &c, 0);
    emit_bind(e, outer);
    check_selector(&c, FRAME_CS, FLAT_CODE64, 3);
    check_selector(&c, FRAME_SS, FLAT_DATA, 3);
    iret_to(b, &c, 3);
    end(&c);
    return at;
}

void privilege_emit(struct backend *b, struct emit *e)
{
    b->syscall = emit_syscall(b, e);
    b->sysret = emit_sysret(b, e);
    for (unsigned precise = 0; precise < 2; precise++)
        b->iret[precise] = emit_iret(b, e, precise);
}

/* --- Templates --------------------------------------------------------------------------------------------------------------- */

/* Behind the call of a piece comes the handler, for what it does not do. */
static void try_piece(struct gen *g, const uint8_t *piece)
{
    emit_call_to(&g->e, piece);
    g->flags_here = false;
    g->flags_saved = true;
}

static void gen_syscall(struct gen *g, const struct insn *i, unsigned arg)
{
    gen_flags_clobber(g);
    if (!(g->s->key & MODE_CPL0)) {
        gen_rip(g, i->end);
        try_piece(g, g->b->syscall);
    }
    gen_call_handler(g);
}

static void gen_sysret(struct gen *g, const struct insn *i, unsigned arg)
{
    gen_flags_clobber(g);
    if (i->flags & INSN_W)
        try_piece(g, g->b->sysret);
    gen_call_handler(g);
}

static void gen_iret(struct gen *g, const struct insn *i, unsigned arg)
{
    gen_flags_clobber(g);
    if (i->osize == 3)
        try_piece(g, g->b->iret[g->s->precise]);
    gen_call_handler(g);
}

static const struct gen_entry table[] = {
    { &op_syscall, gen_syscall, 0, GEN_CODE64 },
    { &op_sysret, gen_sysret, 0, GEN_CODE64 | GEN_CPL0 },
    { &op_iret, gen_iret, 0, GEN_CODE64 | GEN_CPL0 },
};

void gen_templates_privilege(struct gen_template *t)
{
    gen_templates_add(t, table, G_N_ELEMENTS(table), 0);
}
