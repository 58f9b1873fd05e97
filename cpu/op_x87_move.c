/*
 * x87 loads, stores and constants: FLD FST FILD FIST FISTTP FBLD FBSTP FXCH, FLD1 and its like.
 *
 * Intel SDM volume 2. On the vCPU's own thread.
 */
#include "cpu/op_form.h"
#include "cpu/x87.h"

/* --- Loads -------------------------------------------------------------------------------------------------------- */

/* Pushes, after the check for a full stack. A denormal is loaded even if its exception is unmasked. */
static inline void load(struct cpu *cpu, const struct insn *i, struct float80 v, unsigned flags)
{
    bool store;
    x87_note(cpu, i);
    if (!x87_is_empty(cpu, 7)) {
        store = x87_overflow(cpu, i);
        v = float80_indefinite();
    } else {
        store = x87_commit(cpu, i, flags, FPU_IE);
    }
    if (store)
        x87_push(cpu, v);
}

static void fld_m32_fn(struct cpu *cpu, const struct insn *i)
{
    struct float80 v;
    x87_wait(cpu);
    unsigned flags = float80_from_f32(&v, mem_load32(cpu, insn_linear(cpu, i, 4, false), i->seg));
    load(cpu, i, v, flags);
}
OP_FORM_ONE(fld_m32)

static void fld_m64_fn(struct cpu *cpu, const struct insn *i)
{
    struct float80 v;
    x87_wait(cpu);
    unsigned flags = float80_from_f64(&v, mem_load64(cpu, insn_linear(cpu, i, 8, false), i->seg));
    load(cpu, i, v, flags);
}
OP_FORM_ONE(fld_m64)

static void fld_m80_fn(struct cpu *cpu, const struct insn *i)
{
    x87_wait(cpu);
    uint8_t image[10];
    mem_read_bytes(cpu, insn_linear(cpu, i, 10, false), image, sizeof image, i->seg);
    load(cpu, i, x87_unpack(image), 0);
}
OP_FORM_ONE(fld_m80)

static void fild_m16_fn(struct cpu *cpu, const struct insn *i)
{
    x87_wait(cpu);
    load(cpu, i, float80_from_int((int16_t)mem_load16(cpu, insn_linear(cpu, i, 2, false), i->seg)), 0);
}
OP_FORM_ONE(fild_m16)

static void fild_m32_fn(struct cpu *cpu, const struct insn *i)
{
    x87_wait(cpu);
    load(cpu, i, float80_from_int((int32_t)mem_load32(cpu, insn_linear(cpu, i, 4, false), i->seg)), 0);
}
OP_FORM_ONE(fild_m32)

static void fild_m64_fn(struct cpu *cpu, const struct insn *i)
{
    x87_wait(cpu);
    load(cpu, i, float80_from_int((int64_t)mem_load64(cpu, insn_linear(cpu, i, 8, false), i->seg)), 0);
}
OP_FORM_ONE(fild_m64)

static void fbld_fn(struct cpu *cpu, const struct insn *i)
{
    x87_wait(cpu);
    uint8_t image[FLOAT80_BCD_SIZE];
    mem_read_bytes(cpu, insn_linear(cpu, i, sizeof image, false), image, sizeof image, i->seg);
    load(cpu, i, float80_from_bcd(image), 0);
}
OP_FORM_ONE(fbld)

static void fld_sti_fn(struct cpu *cpu, const struct insn *i)
{
    x87_wait(cpu);
    if (!x87_is_empty(cpu, x87_sti(i))) {
        load(cpu, i, *x87_st(cpu, x87_sti(i)), 0);
        return;
    }
    x87_note(cpu, i);
    if (x87_underflow(cpu, i))
        x87_push(cpu, float80_indefinite());
}
OP_FORM_ONE(fld_sti)

/* A constant between `down` and the next number up; `nearest` is one of the two. */
static inline void load_constant(struct cpu *cpu, const struct insn *i, uint16_t exp, uint64_t down, bool nearest_is_up)
{
    unsigned rc = cpu->fpu.cw & FPU_RC_MASK;
    bool up = rc == FPU_RC_UP || (rc == FPU_RC_NEAREST && nearest_is_up);
    x87_wait(cpu);
    load(cpu, i, float80_make(exp, down + up), 0);
}

#define CONSTANT(name, exp, down, nearest_is_up) \
    static void name##_fn(struct cpu *cpu, const struct insn *i) \
    { \
        load_constant(cpu, i, exp, UINT64_C(down), nearest_is_up); \
    } \
    OP_FORM_ONE(name)
CONSTANT(fldl2t, 0x4000, 0xd49a784bcd1b8afe, false)
CONSTANT(fldl2e, 0x3fff, 0xb8aa3b295c17f0bb, true)
CONSTANT(fldpi, 0x4000, 0xc90fdaa22168c234, true)
CONSTANT(fldlg2, 0x3ffd, 0x9a209a84fbcff798, true)
CONSTANT(fldln2, 0x3ffe, 0xb17217f7d1cf79ab, true)

static void fld1_fn(struct cpu *cpu, const struct insn *i)
{
    x87_wait(cpu);
    load(cpu, i, float80_make(FLOAT80_BIAS, FLOAT80_INT), 0);
}
OP_FORM_ONE(fld1)

static void fldz_fn(struct cpu *cpu, const struct insn *i)
{
    x87_wait(cpu);
    load(cpu, i, float80_make(0, 0), 0);
}
OP_FORM_ONE(fldz)

/* --- Stores ------------------------------------------------------------------------------------------------------- */

/*
 * Completes a store to memory of `size` bytes: `v` is the result, or for a masked stack underflow the indefinite. The
 * store may fault, so the status word changes after it. Where an unmasked exception keeps it from storing, it does not
 * fault either.
 */
static inline void store(struct cpu *cpu, const struct insn *i, uint64_t v, unsigned osize, unsigned flags, bool pop)
{
    if (!(flags & ~cpu->fpu.cw & X87_BLOCK_MEM))
        mem_store(cpu, insn_linear(cpu, i, 1u << osize, true), v, osize, i->seg);
    x87_note(cpu, i);
    if (x87_commit(cpu, i, flags, X87_BLOCK_MEM) && pop)
        x87_pop(cpu);
}

#define UNDERFLOW_FLAGS (FPU_IE | FPU_SF)

static inline void store_f32(struct cpu *cpu, const struct insn *i, bool pop)
{
    uint32_t v = 0xffc00000;
    unsigned flags = UNDERFLOW_FLAGS;
    x87_wait(cpu);
    if (!x87_is_empty(cpu, 0))
        flags = float80_to_f32(&v, *x87_st(cpu, 0), x87_control(cpu));
    store(cpu, i, v, 2, flags, pop);
}

static inline void store_f64(struct cpu *cpu, const struct insn *i, bool pop)
{
    uint64_t v = UINT64_C(0xfff8000000000000);
    unsigned flags = UNDERFLOW_FLAGS;
    x87_wait(cpu);
    if (!x87_is_empty(cpu, 0))
        flags = float80_to_f64(&v, *x87_st(cpu, 0), x87_control(cpu));
    store(cpu, i, v, 3, flags, pop);
}

static inline void store_int(struct cpu *cpu, const struct insn *i, unsigned osize, bool truncate, bool pop)
{
    unsigned bits = 8u << osize;
    int64_t v = -(INT64_C(1) << (bits - 2)) * 2;
    unsigned flags = UNDERFLOW_FLAGS;
    uint32_t cw = x87_control(cpu);
    x87_wait(cpu);
    if (!x87_is_empty(cpu, 0))
        flags = float80_to_int(&v, *x87_st(cpu, 0), bits, truncate ? cw | FPU_RC_ZERO : cw);
    store(cpu, i, v, osize, truncate ? flags & ~FPU_C1 : flags, pop);
}

#define STORE(name, call) \
    static void name##_fn(struct cpu *cpu, const struct insn *i) \
    { \
        call; \
    } \
    OP_FORM_ONE(name)
STORE(fst_m32, store_f32(cpu, i, false))
STORE(fstp_m32, store_f32(cpu, i, true))
STORE(fst_m64, store_f64(cpu, i, false))
STORE(fstp_m64, store_f64(cpu, i, true))
STORE(fist_m16, store_int(cpu, i, 1, false, false))
STORE(fistp_m16, store_int(cpu, i, 1, false, true))
STORE(fist_m32, store_int(cpu, i, 2, false, false))
STORE(fistp_m32, store_int(cpu, i, 2, false, true))
STORE(fistp_m64, store_int(cpu, i, 3, false, true))
STORE(fisttp_m16, store_int(cpu, i, 1, true, true))
STORE(fisttp_m32, store_int(cpu, i, 2, true, true))
STORE(fisttp_m64, store_int(cpu, i, 3, true, true))

/* Ten bytes, popping: FSTP m80 and FBSTP. */
static inline void store_image(struct cpu *cpu, const struct insn *i, const uint8_t image[10], unsigned flags)
{
    if (!(flags & ~cpu->fpu.cw & X87_BLOCK_MEM))
        mem_write_bytes(cpu, insn_linear(cpu, i, 10, true), image, 10, i->seg);
    x87_note(cpu, i);
    if (x87_commit(cpu, i, flags, X87_BLOCK_MEM))
        x87_pop(cpu);
}

static void fstp_m80_fn(struct cpu *cpu, const struct insn *i)
{
    uint8_t image[10];
    x87_wait(cpu);
    bool empty = x87_is_empty(cpu, 0);
    x87_pack(image, empty ? float80_indefinite() : *x87_st(cpu, 0));
    store_image(cpu, i, image, empty ? UNDERFLOW_FLAGS : 0);
}
OP_FORM_ONE(fstp_m80)

static void fbstp_fn(struct cpu *cpu, const struct insn *i)
{
    uint8_t image[FLOAT80_BCD_SIZE];
    unsigned flags;
    x87_wait(cpu);
    if (x87_is_empty(cpu, 0)) {
        /* Any invalid operand gives the packed decimal indefinite. */
        float80_to_bcd(image, float80_indefinite(), FPU_CW_INIT);
        flags = UNDERFLOW_FLAGS;
    } else {
        flags = float80_to_bcd(image, *x87_st(cpu, 0), x87_control(cpu));
    }
    store_image(cpu, i, image, flags);
}
OP_FORM_ONE(fbstp)

/* --- Between registers -------------------------------------------------------------------------------------------- */

static inline void store_reg(struct cpu *cpu, const struct insn *i, bool pop)
{
    struct float80 v = float80_indefinite();
    bool store;
    x87_wait(cpu);
    x87_note(cpu, i);
    if (x87_is_empty(cpu, 0)) {
        store = x87_underflow(cpu, i);
    } else {
        store = x87_commit(cpu, i, 0, 0);
        v = *x87_st(cpu, 0);
    }
    if (!store)
        return;
    x87_set(cpu, x87_sti(i), v);
    if (pop)
        x87_pop(cpu);
}
STORE(fst_sti, store_reg(cpu, i, false))
STORE(fstp_sti, store_reg(cpu, i, true))

/* D9 D8+i: an empty ST(0) is no fault, it is popped and that is all. */
static void fstpnce_fn(struct cpu *cpu, const struct insn *i)
{
    x87_wait(cpu);
    x87_note(cpu, i);
    x87_commit(cpu, i, 0, 0);
    if (!x87_is_empty(cpu, 0))
        x87_set(cpu, x87_sti(i), *x87_st(cpu, 0));
    x87_pop(cpu);
}
OP_FORM_ONE(fstpnce)

static void fxch_fn(struct cpu *cpu, const struct insn *i)
{
    unsigned n = x87_sti(i);
    x87_wait(cpu);
    x87_note(cpu, i);
    if (x87_is_empty(cpu, 0) || x87_is_empty(cpu, n)) {
        if (!x87_underflow(cpu, i))
            return;
        if (x87_is_empty(cpu, 0))
            x87_set(cpu, 0, float80_indefinite());
        if (x87_is_empty(cpu, n))
            x87_set(cpu, n, float80_indefinite());
    } else {
        x87_commit(cpu, i, 0, 0);
    }
    struct float80 v = *x87_st(cpu, 0);
    *x87_st(cpu, 0) = *x87_st(cpu, n);
    *x87_st(cpu, n) = v;
}
OP_FORM_ONE(fxch)
