/*
 * Moves: MOV, MOVZX, MOVSX, LEA, XCHG, BSWAP, MOVBE, CMOVcc, SETcc, the stack instructions but for PUSHF and POPF,
 * XLAT, LAHF, SAHF, SALC, single flags, NOP, hints, cache control, fences. Intel SDM volume 2.
 *
 * Moves to and from segment registers are in op_desc.c, control and debug registers in op_system.c. BSWAP of a 16-bit register clears it, as
 * current processors do. Runs on the vCPU's thread.
 */
#include "cpu/flags.h"
#include "cpu/op_form.h"
#include "cpu/rmw.h"

/* --- MOV and extensions ------------------------------------------------------------------------------------------- */

OP_BODY mov_store_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    rm_set(cpu, i, reg_get(cpu, i->reg, size), size, mem);
}
OP_FORMS_SIZE_MEM(mov_store)

OP_BODY mov_load_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    reg_set(cpu, i->reg, rm_get(cpu, i, size, mem), size);
}
OP_FORMS_SIZE_MEM(mov_load)

OP_BODY mov_imm_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    rm_set(cpu, i, i->imm, size, mem);
}
OP_FORMS_SIZE_MEM(mov_imm)

OP_BODY mov_reg_imm_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    reg_set(cpu, i->rm, i->imm, size);
}
OP_FORMS_SIZE(mov_reg_imm)

OP_BODY mov_from_moffs_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    reg_set(cpu, R_RAX, rm_get(cpu, i, size, true), size);
}
OP_FORMS_SIZE(mov_from_moffs)

OP_BODY mov_to_moffs_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    rm_set(cpu, i, reg_get(cpu, R_RAX, size), size, true);
}
OP_FORMS_SIZE(mov_to_moffs)

#define MOV_EXTEND(name, from, extend) \
    OP_BODY name##_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead) \
    { \
        uint64_t v = rm_get(cpu, i, from, mem); \
        reg_set(cpu, i->reg, extend ? sign_extend(v, from) : v, size); \
    } \
    OP_FORMS_SIZE_MEM(name)
MOV_EXTEND(movzx8, 0, false)
MOV_EXTEND(movzx16, 1, false)
MOV_EXTEND(movsx8, 0, true)
MOV_EXTEND(movsx16, 1, true)

/* Without REX.W it is a plain move of the operand size. */
OP_BODY movsxd_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    unsigned from = size == 1 ? 1 : 2;

    reg_set(cpu, i->reg, sign_extend(rm_get(cpu, i, from, mem), from), size);
}
OP_FORMS_SIZE_MEM(movsxd)

OP_BODY lea_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    reg_set(cpu, i->reg, insn_ea(cpu, i), size);
}
OP_FORMS_SIZE(lea)

static inline uint64_t swap_bytes(uint64_t v, unsigned size)
{
    switch (size) {
    case 1: return GUINT16_SWAP_LE_BE((uint16_t)v);
    case 2: return GUINT32_SWAP_LE_BE((uint32_t)v);
    default: return GUINT64_SWAP_LE_BE(v);
    }
}

OP_BODY bswap_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    reg_set(cpu, i->rm, size == 1 ? 0 : swap_bytes(cpu->r[i->rm], size), size);
}
OP_FORMS_SIZE(bswap)

OP_BODY movbe_load_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    reg_set(cpu, i->reg, swap_bytes(rm_get(cpu, i, size, mem), size), size);
}
OP_FORMS_SIZE_MEM(movbe_load)

OP_BODY movbe_store_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    rm_set(cpu, i, swap_bytes(cpu->r[i->reg], size), size, mem);
}
OP_FORMS_SIZE_MEM(movbe_store)

OP_BODY movnti_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    rm_set(cpu, i, reg_get(cpu, i->reg, size), size, true);
}
OP_FORMS_SIZE(movnti)

/* With memory it is locked without being told. */
OP_BODY xchg_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    uint64_t v = reg_get(cpu, i->reg, size);
    struct rmw m;

    if (mem) {
        if (!rmw_open_at(cpu, i, insn_linear(cpu, i, 1u << size, true), size, true, &m))
            return;
        while (!rmw_close(cpu, i, size, true, &m, v))
            continue;
        reg_set(cpu, i->reg, m.old, size);
    } else {
        reg_set(cpu, i->reg, reg_get(cpu, i->rm, size), size);
        reg_set(cpu, i->rm, v, size);
    }
}
OP_FORMS_SIZE_MEM(xchg)

OP_BODY xchg_acc_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    uint64_t v = reg_get(cpu, R_RAX, size);

    reg_set(cpu, R_RAX, reg_get(cpu, i->rm, size), size);
    reg_set(cpu, i->rm, v, size);
}
OP_FORMS_SIZE(xchg_acc)

static void xlat_fn(struct cpu *cpu, const struct insn *i)
{
    uint64_t mask = i->asize == 3 ? UINT64_MAX : size_mask(i->asize);
    uint64_t offset = (cpu->r[R_RBX] + (uint8_t)cpu->r[R_RAX]) & mask;

    reg_set(cpu, R_RAX, mem_load8(cpu, seg_linear(cpu, i->seg, offset, 1, false), i->seg), 0);
}
OP_FORM_ONE(xlat)

/* --- By condition ------------------------------------------------------------------------------------------------- */

/* The source is read, and a 32-bit destination extended, whether the condition holds or not. */
#define CMOV(cc, code) \
    OP_BODY cmov##cc##_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead) \
    { \
        uint64_t v = rm_get(cpu, i, size, mem); \
        uint64_t old = reg_get(cpu, i->reg, size); \
        reg_set(cpu, i->reg, flags_cond(cpu->rflags, code) ? v : old, size); \
    } \
    OP_FORMS_SIZE_MEM(cmov##cc)
FOR_EACH_COND(CMOV)

#define SETCC(cc, code) \
    OP_BODY set##cc##_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead) \
    { \
        rm_set(cpu, i, flags_cond(cpu->rflags, code), 0, mem); \
    } \
    OP_FORMS_SIZE_MEM(set##cc)
FOR_EACH_COND(SETCC)

/* --- Stack -------------------------------------------------------------------------------------------------------- */

OP_BODY push_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    stack_push(cpu, rm_get(cpu, i, size, mem), size);
}
OP_FORMS_SIZE_MEM(push)

OP_BODY push_imm_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    stack_push(cpu, i->imm, size);
}
OP_FORMS_SIZE(push_imm)

/* An address with RSP in it uses RSP after the pop. */
OP_BODY pop_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    uint64_t v = stack_peek(cpu, 0, size);

    if (mem) {
        uint64_t rsp = cpu->r[R_RSP];
        stack_drop(cpu, 1u << size);
        uint64_t ea = insn_ea(cpu, i);
        cpu->r[R_RSP] = rsp;
        mem_store(cpu, seg_linear(cpu, i->seg, ea, 1u << size, true), v, size, i->seg);
        stack_drop(cpu, 1u << size);
    } else {
        stack_drop(cpu, 1u << size);
        reg_set(cpu, i->rm, v, size);
    }
}
OP_FORMS_SIZE_MEM(pop)

/* Registers move only when all stores have succeeded. */
OP_BODY pusha_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    uint64_t sp = cpu->r[R_RSP];

    for (unsigned r = R_RAX; r <= R_RDI; r++) {
        sp = (sp - (1u << size)) & stack_mask(cpu);
        mem_store(cpu, seg_linear(cpu, SEG_SS, sp, 1u << size, true), cpu->r[r], size, SEG_SS);
    }
    stack_set_sp(cpu, sp);
}
OP_FORMS_SIZE(pusha)

OP_BODY popa_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    uint64_t v[8];

    for (unsigned n = 0; n < 8; n++)
        v[n] = stack_peek(cpu, n << size, size);
    for (unsigned n = 0; n < 8; n++) {
        if (R_RDI - n != R_RSP)
            reg_set(cpu, R_RDI - n, v[n], size);
    }
    stack_drop(cpu, 8u << size);
}
OP_FORMS_SIZE(popa)

/* imm: frame size in bits 15:0, nesting level from bit 32 on. */
OP_BODY enter_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    unsigned bytes = 1u << size, seg = stack_seg(cpu), level = i->imm >> 32 & 31;
    uint64_t mask = stack_mask(cpu);
    uint64_t sp = (cpu->r[R_RSP] - bytes) & mask, frame = sp, bp = cpu->r[R_RBP];

    mem_store(cpu, seg_linear(cpu, seg, sp, bytes, true), bp, size, seg);
    for (unsigned n = 1; n < level; n++) {
        bp = (bp - bytes) & mask;
        uint64_t v = mem_load(cpu, seg_linear(cpu, seg, bp, bytes, false), size, seg);
        sp = (sp - bytes) & mask;
        mem_store(cpu, seg_linear(cpu, seg, sp, bytes, true), v, size, seg);
    }
    if (level > 0) {
        sp = (sp - bytes) & mask;
        mem_store(cpu, seg_linear(cpu, seg, sp, bytes, true), (cpu->r[R_RSP] & ~mask) | frame, size, seg);
    }
    sp = (sp - (uint16_t)i->imm) & mask;
    /* The manual: faults if a write at the new top of the stack would */
    mem_host_rw(cpu, seg_linear(cpu, seg, sp, bytes, true), bytes, seg);
    /* The frame pointer is all of rSP, even if only 16 bits of it count in pushes. */
    reg_set(cpu, R_RBP, (cpu->r[R_RSP] & ~mask) | frame, size);
    stack_set_sp(cpu, sp);
}
OP_FORMS_SIZE(enter)

OP_BODY leave_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    unsigned bytes = 1u << size, seg = stack_seg(cpu);
    uint64_t bp = cpu->r[R_RBP] & stack_mask(cpu);
    uint64_t v = mem_load(cpu, seg_linear(cpu, seg, bp, bytes, false), size, seg);

    stack_set_sp(cpu, bp + bytes);
    reg_set(cpu, R_RBP, v, size);
}
OP_FORMS_SIZE(leave)

/* --- Flags -------------------------------------------------------------------------------------------------------- */

#define FLAGS_AH (FLAG_SF | FLAG_ZF | FLAG_AF | FLAG_PF | FLAG_CF)

static void lahf_fn(struct cpu *cpu, const struct insn *i)
{
    reg_set(cpu, R_HIGH_BYTE + R_RAX, (cpu->rflags & FLAGS_AH) | FLAGS_FIXED, 0);
}
OP_FORM_ONE(lahf)

static void sahf_fn(struct cpu *cpu, const struct insn *i)
{
    flags_set(cpu, cpu->r[R_RAX] >> 8 & FLAGS_AH, FLAGS_AH);
}
OP_FORM_ONE(sahf)

static void clc_fn(struct cpu *cpu, const struct insn *i)
{
    cpu->rflags &= ~(uint64_t)FLAG_CF;
}
OP_FORM_ONE(clc)

static void stc_fn(struct cpu *cpu, const struct insn *i)
{
    cpu->rflags |= FLAG_CF;
}
OP_FORM_ONE(stc)

static void cmc_fn(struct cpu *cpu, const struct insn *i)
{
    cpu->rflags ^= FLAG_CF;
}
OP_FORM_ONE(cmc)

static void cld_fn(struct cpu *cpu, const struct insn *i)
{
    cpu->rflags &= ~(uint64_t)FLAG_DF;
}
OP_FORM_ONE(cld)

static void std_fn(struct cpu *cpu, const struct insn *i)
{
    cpu->rflags |= FLAG_DF;
}
OP_FORM_ONE(std)

static void salc_fn(struct cpu *cpu, const struct insn *i)
{
    reg_set(cpu, R_RAX, cpu->rflags & FLAG_CF ? 0xff : 0, 0);
}
OP_FORM_ONE(salc)

/* --- Nothing ------------------------------------------------------------------------------------------------------ */

/* Also NOP with a ModRM operand: it is not touched. */
static void nop_fn(struct cpu *cpu, const struct insn *i)
{
}
OP_FORM_ONE(nop)

/* A hint that never faults. */
static void prefetch_fn(struct cpu *cpu, const struct insn *i)
{
}
OP_FORM_ONE(prefetch)

/* Caches are not modelled; the address is checked as for a load. */
#define CACHE_LINE(name) \
    static void name##_fn(struct cpu *cpu, const struct insn *i) \
    { \
        mem_load8(cpu, insn_linear(cpu, i, 1, false), i->seg); \
    } \
    OP_FORM_ONE(name)
CACHE_LINE(clflush)
CACHE_LINE(clflushopt)
CACHE_LINE(clwb)

/* In a spin loop another thread of the host may have something better to do. */
static void pause_fn(struct cpu *cpu, const struct insn *i)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}
OP_FORM_ONE(pause)

/* --- Fences: vCPUs are host threads, so the guest's order is the host's business ---------------------------------- */

static void mfence_fn(struct cpu *cpu, const struct insn *i)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}
OP_FORM_ONE(mfence)

static void lfence_fn(struct cpu *cpu, const struct insn *i)
{
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
}
OP_FORM_ONE(lfence)

static void sfence_fn(struct cpu *cpu, const struct insn *i)
{
    __atomic_thread_fence(__ATOMIC_RELEASE);
}
OP_FORM_ONE(sfence)
