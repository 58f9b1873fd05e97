/*
 * Moves to and from MMX registers. Packed arithmetic on them is with the SSE forms (op_sse_int.c, op_sse_shift.c,
 * op_sse_shuf.c), EMMS with the state of the unit (op_xsave.c).
 *
 * Intel SDM volume 1 chapter 9, volume 2. Runs on the vCPU's thread.
 */
#include "cpu/ops.h"
#include "cpu/vec.h"

VEC_INLINE void load_run(struct cpu *cpu, const struct insn *i, unsigned size, bool mem)
{
    x87_wait(cpu);
    mmx_write(cpu, i->reg, rm_get(cpu, i, size, mem));
}

VEC_INLINE void store_run(struct cpu *cpu, const struct insn *i, unsigned size, bool mem)
{
    x87_wait(cpu);
    rm_set(cpu, i, mmx_read(cpu, i->reg), size, mem);
    x87_enter_mmx(cpu);
}

/* Ey: a doubleword, or a quadword by REX.W. */
VEC_FN(movd_to_r, load_run(cpu, i, i->osize == 3 ? 3 : 2, false))
VEC_FN(movd_to_m, load_run(cpu, i, i->osize == 3 ? 3 : 2, true))
VEC_FN(movd_from_r, store_run(cpu, i, i->osize == 3 ? 3 : 2, false))
VEC_FN(movd_from_m, store_run(cpu, i, i->osize == 3 ? 3 : 2, true))
VEC_OP_MEM(movd_to_mmx, movd_to_r, movd_to_m)
VEC_OP_MEM(movd_from_mmx, movd_from_r, movd_from_m)

static void movq_load_r(struct cpu *cpu, const struct insn *i)
{
    x87_wait(cpu);
    mmx_write(cpu, i->reg, mmx_read(cpu, i->rm));
}
static void movq_store_r(struct cpu *cpu, const struct insn *i)
{
    x87_wait(cpu);
    mmx_write(cpu, i->rm, mmx_read(cpu, i->reg));
}
VEC_FN(movq_load_m, load_run(cpu, i, 3, true))
VEC_FN(movq_store_m, store_run(cpu, i, 3, true))
VEC_OP_MEM(movq_load_mmx, movq_load_r, movq_load_m)
VEC_OP_MEM(movq_store_mmx, movq_store_r, movq_store_m)
VEC_OP_MEM(movntq, NULL, movq_store_m)

static void movq2dq_r(struct cpu *cpu, const struct insn *i)
{
    union vec d = { .u64 = { mmx_read(cpu, i->rm) } };

    x87_wait(cpu);
    x87_enter_mmx(cpu);
    vec_write(cpu, i, i->reg, &d, 16);
}
VEC_OP_MEM(movq2dq, movq2dq_r, NULL)

static void movdq2q_r(struct cpu *cpu, const struct insn *i)
{
    x87_wait(cpu);
    mmx_write(cpu, i->reg, cpu->v[i->rm].u64[0]);
}
VEC_OP_MEM(movdq2q, movdq2q_r, NULL)

static void maskmovq_fn(struct cpu *cpu, const struct insn *i)
{
    x87_wait(cpu);
    union vec v = { .u64 = { mmx_read(cpu, i->reg) } };
    uint64_t mask = mmx_read(cpu, i->rm);
    uint32_t lanes = 0;

    for (unsigned n = 0; n < 8; n++)
        lanes |= (uint32_t)(mask >> (8 * n + 7) & 1) << n;
    vec_store_bytes(cpu, i, &v, lanes, 8);
    x87_enter_mmx(cpu);
}
VEC_OP_MEM(maskmovq, maskmovq_fn, maskmovq_fn)
