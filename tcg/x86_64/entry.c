/*
 * The code that all units share: entry and exit, calls of handlers, vector registers, the way through the jump cache.
 *
 * Called from generated code, RSP is 8 modulo 16 here; generated code itself keeps it at 0 modulo 16, since each guest call
 * takes two words. Leaving means to forget the shadow stack.
 */
#include "tcg/x86_64/gen.h"
#include "tcg/x86_64/entry.h"

_Static_assert(H_RIP == H_R8, "which C functions may change: emit_call_function()");
static const uint8_t callee_saved[] = { H_RBX, H_RBP, H_R12, H_R13, H_R14, H_R15 };

/* Which never is a canonical address: no guest return address is like it. */
#define NO_RETURN UINT64_C(0x8000000000000001)
#define SHADOW_BYTES (64u << 10)


static void store_registers(struct emit *e)
{
    for (unsigned k = 0; k < 16; k++)
        if (gen_host[k] != H_NONE)
            emit_store(e, 3, (unsigned)gen_host[k], gen_reg_mem(k));
    emit_store(e, 3, H_RIP, STATE(rip));
}

static void load_registers(struct emit *e)
{
    for (unsigned k = 0; k < 16; k++)
        if (gen_host[k] != H_NONE)
            emit_load(e, 3, (unsigned)gen_host[k], gen_reg_mem(k));
    emit_load(e, 3, H_TLB, STATE(tlb));
    emit_load(e, 3, H_RIP, STATE(rip));
}

/* --- Vector registers ------------------------------------------------------------------------------------------------------- */

static struct hmem vector(unsigned k, unsigned offset)
{
    return gen_state(offsetof(struct cpu, v) + k * sizeof(union vec) + offset);
}

static void move_vectors(struct emit *e, bool store, bool wide)
{
    struct enc c = { .opcode = store ? 0x11 : 0x10, .map = EMAP_0F, .vex = wide, .l = wide };
    for (unsigned k = 0; k < 16; k++)
        emit_mem(e, &c, k, vector(k, 0));
}

static void mxcsr(struct emit *e, bool store, struct hmem m)
{
    struct enc c = { .opcode = 0xae, .map = EMAP_0F };
    emit_mem(e, &c, store ? 3 : 2, m);
}

/*
 * A processor whose upper halves have been written makes each legacy SSE instruction wait for its destination's old value, a
 * loop's last round for instance: where they are all zero, as in guests without AVX, they are left alone.
 */
static void load_wide(struct emit *e)
{
    struct enc por = { .opcode = 0xeb, .map = EMAP_0F, .prefix = 0x66, .vex = true };
    struct enc load = { .opcode = 0x10, .map = EMAP_0F, .vex = true };
    struct enc ptest = { .opcode = 0x17, .map = EMAP_0F38, .prefix = 0x66, .vex = true };
    emit_mem(e, &load, 0, vector(0, 16));
    for (unsigned k = 1; k < 16; k++)
        emit_mem(e, &por, 0, vector(k, 16));
    emit_reg(e, &ptest, 0, 0);
    struct fixup upper = emit_jcc(e, CC_NZ);
    move_vectors(e, false, false);
    struct fixup done = emit_jmp(e);
    emit_bind(e, upper);
    move_vectors(e, false, true);
    emit_bind(e, done);
}

static void emit_load_vectors(const struct backend *b, struct emit *e)
{
    if (b->has_avx)
        load_wide(e);
    else
        move_vectors(e, false, false);
    mxcsr(e, false, STATE(mxcsr));
    emit_alu_imm_mem(e, ALU_OR, 0, STATE(loaded), LOADED_VECTORS, false);
}

static void emit_save_vectors(const struct backend *b, struct emit *e)
{
    move_vectors(e, true, b->has_avx);
    mxcsr(e, true, STATE(mxcsr));
    mxcsr(e, false, STATE(host_mxcsr));
    if (b->has_avx) { /* VZEROUPPER: the host's own SSE code must not pay for upper halves */
        emit8(e, 0xc5);
        emit8(e, 0xf8);
        emit8(e, 0x77);
    }
}

static void test_loaded(struct emit *e, unsigned bit)
{
    struct enc test = { .opcode = 0xf6, .imm_size = 1, .imm = bit };
    emit_mem(e, &test, 0, STATE(loaded));
}

static void save_x87_if_loaded(const struct backend *b, struct emit *e)
{
    test_loaded(e, LOADED_X87);
    struct fixup no_x87 = emit_jcc8(e, 0x70 | CC_Z);
    emit_call_to(e, b->save_x87);
    emit_bind8(e, no_x87);
}

/* x87 registers may stay: C code has no use for them, but for the handlers that see them, and those are told. */
enum save { SAVE_ALL, SAVE_FOR_HANDLER /* RSI: its instruction */, SAVE_VECTORS };

/* What is loaded goes to struct cpu; only RSI, RBX, RBP, R12 to R15 are kept. */
static void emit_save_loaded(const struct backend *b, struct emit *e, enum save what)
{
    emit_alu_imm_mem(e, ALU_CMP, 0, STATE(loaded), 0, false);
    struct fixup none = emit_jcc(e, CC_Z);
    struct enc test = { .opcode = 0xf7, .prefix = 0x66, .imm_size = 2, .imm = INSN_SEES_X87 };
    struct fixup stays = { NULL };
    if (what == SAVE_FOR_HANDLER) {
        emit_mem(e, &test, 0, hmem_base(H_RSI, offsetof(struct insn, flags)));
        stays = emit_jcc8(e, 0x70 | CC_Z);
    }
    if (what != SAVE_VECTORS)
        save_x87_if_loaded(b, e);
    if (what == SAVE_FOR_HANDLER)
        emit_bind8(e, stays);
    test_loaded(e, LOADED_VECTORS);
    struct fixup no_vectors = emit_jcc(e, CC_Z);
    emit_save_vectors(b, e);
    emit_alu_imm_mem(e, ALU_AND, 0, STATE(loaded), ~(int32_t)LOADED_VECTORS, false);
    emit_bind(e, no_vectors);
    emit_bind(e, none);
}

/* --- In and out ---------------------------------------------------------------------------------------------------------------- */

/* void enter(struct cpu *cpu, const void *code) */
static void emit_enter(struct emit *e)
{
    for (unsigned k = 0; k < sizeof callee_saved; k++)
        emit_push(e, callee_saved[k]);
    emit_alu_imm(e, ALU_SUB, 3, H_RSP, 8); /* now 0 modulo 16 */
    emit_store(e, 3, H_RSP, STATE(host_stack_exit));
    emit_mov(e, H_RCX, H_RSI);
    emit_mov_imm(e, H_RAX, NO_RETURN);
    emit_push(e, H_RAX);
    emit_push(e, H_RAX);
    emit_store(e, 3, H_RSP, STATE(host_stack));
    emit_lea(e, 3, H_RAX, hmem_base(H_RSP, -(int32_t)SHADOW_BYTES));
    emit_store(e, 3, H_RAX, STATE(host_stack_low));
    load_registers(e);
    emit_mov(e, H_RAX, H_RIP);
    struct enc jmp = { .opcode = 0xff };
    emit_reg(e, &jmp, 4, H_RCX);
}

/* With everything in struct cpu but vector registers. */
static void emit_exit(const struct backend *b, struct emit *e)
{
    emit_save_loaded(b, e, SAVE_ALL);
    emit_load(e, 3, H_RSP, STATE(host_stack_exit));
    emit_alu_imm(e, ALU_ADD, 3, H_RSP, 8);
    for (unsigned k = sizeof callee_saved; k-- > 0;)
        emit_pop(e, callee_saved[k]);
    emit_ret(e);
}

/* RAX: RIP, or the link. */
static const uint8_t *emit_leave(const struct backend *b, struct emit *e, struct hmem to, bool flags)
{
    const uint8_t *at = emit_here(e);
    store_registers(e);
    emit_store(e, 3, H_RAX, to);
    if (flags)
        gen_arith_save(e);
    emit_exit(b, e);
    return at;
}

static void load_x87_if_saved(const struct backend *b, struct emit *e)
{
    test_loaded(e, LOADED_X87);
    struct fixup stayed = emit_jcc8(e, 0x70 | CC_NZ);
    emit_call_to(e, b->load_x87);
    emit_bind8(e, stayed);
}

/* RAX: struct insn. */
static const uint8_t *emit_call_handler(const struct backend *b, struct emit *e, unsigned loaded, enum save what,
                                        uintptr_t function)
{
    const uint8_t *at = emit_here(e);
    store_registers(e);
    emit_mov(e, H_RSI, H_RAX);
    emit_save_loaded(b, e, what);
    emit_load(e, 3, H_RDI, STATE(self));
    emit_alu_imm(e, ALU_SUB, 3, H_RSP, 8);
    emit_mov_imm(e, H_RAX, function);
    struct enc call = { .opcode = 0xff };
    emit_reg(e, &call, 2, H_RAX);
    emit_op_reg(e, 0x85, 3, H_RAX, H_RAX);
    struct fixup other = emit_jcc(e, CC_NZ);
    emit_alu_imm(e, ALU_ADD, 3, H_RSP, 8);
    load_registers(e);
    if (loaded & LOADED_VECTORS)
        emit_load_vectors(b, e);
    if (loaded & LOADED_X87)
        load_x87_if_saved(b, e);
    gen_arith_load(e);
    emit_ret(e);
    emit_bind(e, other);
    emit_alu_imm(e, ALU_CMP, 3, H_RAX, 1); /* JIT_LEAVE */
    struct fixup leave = emit_jcc(e, CC_Z);
    emit_load(e, 3, H_RSP, STATE(host_stack)); /* what would return there may not be fit for the mode that is now */
    emit_mov(e, H_RCX, H_RAX);
    load_registers(e);
    emit_mov(e, H_RAX, H_RIP);
    struct enc jmp = { .opcode = 0xff };
    emit_reg(e, &jmp, 4, H_RCX);
    emit_bind(e, leave);
    emit_exit(b, e);
    return at;
}

/*
 * A C function of struct cpu that raises nothing and sees no register of the guest's: only those that it may change are saved.
 * Its result is in RAX.
 */
static const uint8_t *emit_call_function(const struct backend *b, struct emit *e, uintptr_t function, bool vectors)
{
    static const uint8_t caller_saved[] = { R_RAX, R_RCX, R_RDX, R_RSI, R_RDI };
    const uint8_t *at = emit_here(e);
    for (unsigned k = 0; k < sizeof caller_saved; k++)
        emit_store(e, 3, (unsigned)gen_host[caller_saved[k]], gen_reg_mem(caller_saved[k]));
    emit_store(e, 3, H_RIP, STATE(rip));
    emit_save_loaded(b, e, SAVE_VECTORS);
    emit_load(e, 3, H_RDI, STATE(self));
    emit_alu_imm(e, ALU_SUB, 3, H_RSP, 8);
    emit_mov_imm(e, H_RAX, function);
    struct enc call = { .opcode = 0xff };
    emit_reg(e, &call, 2, H_RAX);
    emit_alu_imm(e, ALU_ADD, 3, H_RSP, 8);
    for (unsigned k = 0; k < sizeof caller_saved; k++)
        emit_load(e, 3, (unsigned)gen_host[caller_saved[k]], gen_reg_mem(caller_saved[k]));
    emit_load(e, 3, H_RIP, STATE(rip));
    if (vectors)
        emit_load_vectors(b, e);
    emit_ret(e);
    return at;
}

/* RIP in RAX, kept, has missed the jump cache: RCX = its code from jit_look_up(), or 0, as ZF tells. RSP is 0 modulo 16. */
static void look_up(const struct backend *b, struct emit *e)
{
    emit_store(e, 3, H_RAX, STATE(jump_wanted));
    emit_call_to(e, b->look_up);
    emit_mov(e, H_RCX, H_RAX);
    emit_load(e, 3, H_RAX, STATE(jump_wanted));
    emit_op_reg(e, 0x85, 3, H_RCX, H_RCX);
}

/* RAX: RIP. */
static const uint8_t *emit_jump(const struct backend *b, struct emit *e, bool system)
{
    const uint8_t *at = emit_here(e);
    struct fixup miss = gen_probe(e, system);
    struct enc jmp = { .opcode = 0xff };
    emit_mem(e, &jmp, 4, gen_jump_field(offsetof(struct jump_entry, code)));
    emit_bind(e, miss);
    look_up(b, e);
    emit_bind_to(e, emit_jcc(e, CC_Z), b->leave);
    emit_reg(e, &jmp, 4, H_RCX);
    return at;
}

static const uint8_t *emit_lookup(const struct backend *b, struct emit *e, bool system)
{
    const uint8_t *at = emit_here(e);
    struct fixup miss = gen_probe(e, system);
    emit_load(e, 3, H_RCX, gen_jump_field(offsetof(struct jump_entry, code)));
    emit_ret(e);
    emit_bind(e, miss);
    emit_alu_imm(e, ALU_SUB, 3, H_RSP, 8);
    look_up(b, e);
    emit_lea(e, 3, H_RSP, hmem_base(H_RSP, 8));
    emit_ret(e);
    return at;
}

void gen_note_stale(struct emit *e)
{
    struct enc set = { .opcode = 0xc6, .imm_size = 1, .imm = 1 };
    emit_mem(e, &set, 0, STATE(stale_jump));
}

static const uint8_t *emit_stale(const struct backend *b, struct emit *e)
{
    const uint8_t *at = emit_here(e);
    gen_note_stale(e);
    emit_jmp_to(e, b->leave);
    return at;
}

void entry_emit(struct backend *b, struct emit *e)
{
    b->enter = emit_here(e);
    emit_enter(e);
    emit_align(e, 16);
    x87_emit(b, e);
    emit_align(e, 16);
    b->load_vectors = emit_here(e);
    emit_load_vectors(b, e);
    emit_ret(e);
    emit_align(e, 16);
    b->leave = emit_leave(b, e, STATE(rip), false);
    emit_align(e, 16);
    b->leave_flags = emit_leave(b, e, STATE(rip), true);
    emit_align(e, 16);
    b->retired = emit_stale(b, e);
    emit_align(e, 16);
    b->leave_link = emit_leave(b, e, STATE(jit_link), true);
    emit_align(e, 16);
    for (unsigned loaded = 0; loaded < G_N_ELEMENTS(b->call_handler); loaded++) {
        b->call_handler[loaded] = emit_call_handler(b, e, loaded, SAVE_FOR_HANDLER, (uintptr_t)jit_call_handler);
        emit_align(e, 16);
    }
    for (unsigned k = 0; k < G_N_ELEMENTS(b->reach); k++) {
        unsigned loaded = k ? LOADED_X87 | LOADED_VECTORS : LOADED_X87;
        b->reach[k] = emit_call_handler(b, e, loaded, SAVE_VECTORS, (uintptr_t)gen_x87_reach);
        emit_align(e, 16);
    }
    for (unsigned vectors = 0; vectors < G_N_ELEMENTS(b->read_tsc); vectors++) {
        b->read_tsc[vectors] = emit_call_function(b, e, (uintptr_t)cpu_read_tsc, vectors);
        emit_align(e, 16);
    }
    b->look_up = emit_call_function(b, e, (uintptr_t)jit_look_up, false);
    emit_align(e, 16);
    for (unsigned system = 0; system < 2; system++) {
        b->jump[system] = emit_jump(b, e, system);
        emit_align(e, 16);
        b->lookup[system] = emit_lookup(b, e, system);
        emit_align(e, 16);
    }
    b->find_stack = emit_here(e);
    gen_find_stack(e);
    for (unsigned write = 0; write < 2; write++) {
        b->find_slot[write] = emit_here(e);
        gen_find_slot(e, b, write);
    }
    emit_align(e, 16);
    string_emit(b, e);
    emit_align(e, 16);
    privilege_emit(b, e);
    emit_align(e, 16);
    b->end = emit_here(e);
}

void backend_name_code(const struct backend *b, struct perfmap *p)
{
    const struct { const uint8_t *at; const char *name; } code[] = { /* in the order of entry_emit() */
        { b->enter, "jit_enter" },
        { b->load_x87, "jit_load_x87" },
        { b->save_x87, "jit_save_x87" },
        { b->load_vectors, "jit_load_vectors" },
        { b->leave, "jit_leave" },
        { b->leave_flags, "jit_leave_flags" },
        { b->retired, "jit_retired" },
        { b->leave_link, "jit_leave_link" },
        { b->call_handler[0], "jit_call_handler" },
        { b->call_handler[LOADED_VECTORS], "jit_call_handler_vectors" },
        { b->call_handler[LOADED_X87], "jit_call_handler_x87" },
        { b->call_handler[LOADED_VECTORS | LOADED_X87], "jit_call_handler_all" },
        { b->reach[0], "jit_reach" },
        { b->reach[1], "jit_reach_vectors" },
        { b->read_tsc[0], "jit_read_tsc" },
        { b->read_tsc[1], "jit_read_tsc_vectors" },
        { b->look_up, "jit_look_up" },
        { b->jump[0], "jit_jump_user" },
        { b->lookup[0], "jit_lookup_user" },
        { b->jump[1], "jit_jump_system" },
        { b->lookup[1], "jit_lookup_system" },
        { b->find_stack, "jit_find_stack" },
        { b->find_slot[0], "jit_find_slot" },
        { b->rep[0][0][0], "jit_rep" },
        { b->syscall, "jit_syscall" },
        { b->sysret, "jit_sysret" },
        { b->iret[0], "jit_iret" },
        { b->iret[1], "jit_iret_precise" },
        { b->end, NULL },
    };
    for (unsigned k = 0; code[k].name; k++)
        perfmap_add(p, code[k].at, code[k + 1].at, code[k].name);
}
