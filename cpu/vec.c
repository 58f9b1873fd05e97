/*
 * Masked memory operands of vector instructions: MASKMOVQ, MASKMOVDQU, VMASKMOVPS, VPMASKMOVD and their kin.
 *
 * Runs on the vCPU's thread.
 */
#include "cpu/vec.h"

static uint64_t lane_linear(struct cpu *cpu, const struct insn *i, uint64_t ea, unsigned n, unsigned size, bool write)
{
    uint64_t offset = ea + n * size;
    return seg_linear(cpu, i->seg, cpu_in_64(cpu) ? offset : (uint32_t)offset, size, write);
}

void vec_load_lanes(struct cpu *cpu, const struct insn *i, uint64_t ea, union vec *v, uint32_t lanes, unsigned size)
{
    memset(v, 0, sizeof *v);
    for (unsigned n = 0; lanes >> n; n++) {
        if (!(lanes >> n & 1))
            continue;
        uint64_t addr = lane_linear(cpu, i, ea, n, size, false);
        if (size == 4)
            v->u32[L32(n)] = mem_load32(cpu, addr, i->seg);
        else
            v->u64[n] = mem_load64(cpu, addr, i->seg);
    }
}

void vec_store_lanes(struct cpu *cpu, const struct insn *i, uint64_t ea, const union vec *v, uint32_t lanes,
                     unsigned size)
{
    for (unsigned n = 0; lanes >> n; n++)
        if (lanes >> n & 1)
            mem_probe_write(cpu, lane_linear(cpu, i, ea, n, size, true), size, i->seg);
    for (unsigned n = 0; lanes >> n; n++) {
        if (!(lanes >> n & 1))
            continue;
        uint64_t addr = lane_linear(cpu, i, ea, n, size, true);
        if (size == 1)
            mem_store8(cpu, addr, v->u8[L8(n)], i->seg);
        else if (size == 4)
            mem_store32(cpu, addr, v->u32[L32(n)], i->seg);
        else
            mem_store64(cpu, addr, v->u64[n], i->seg);
    }
}

/* A page without a chosen byte is checked too, as Intel's processors do; the manual leaves it open. */
void vec_store_bytes(struct cpu *cpu, const struct insn *i, const union vec *v, uint32_t lanes, unsigned bytes)
{
    mem_probe_write(cpu, insn_linear(cpu, i, bytes, true), bytes, i->seg);
    vec_store_lanes(cpu, i, insn_ea(cpu, i), v, lanes, 1);
}
