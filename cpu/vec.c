/*
 * Masked memory operands of vector instructions: MASKMOVQ, MASKMOVDQU, VMASKMOVPS, VPMASKMOVD and their kin.
 *
 * Runs on the vCPU's thread.
 */
#include "cpu/vec.h"

static uint64_t lane_linear(struct cpu *cpu, const struct insn *i, uint64_t ea, unsigned n, unsigned size, bool write)
{
    return seg_linear(cpu, i->seg, ea + n * size, size, write);
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

/* Intel's processors check all of a half of which no byte is chosen, the upper one first. */
void vec_store_bytes(struct cpu *cpu, const struct insn *i, const union vec *v, uint32_t lanes, unsigned bytes)
{
    uint64_t ea = insn_ea(cpu, i);
    unsigned half = bytes / 2;

    for (unsigned at = half, n = 0; n < 2; at = 0, n++)
        if (!(lanes >> at & ((1u << half) - 1)))
            mem_probe_write(cpu, seg_linear(cpu, i->seg, ea + at, half, true), half, i->seg);
    vec_store_lanes(cpu, i, ea, v, lanes, 1);
}
