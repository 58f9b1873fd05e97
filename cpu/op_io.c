/*
 * Port I/O: IN, OUT, INS, OUTS. Intel SDM volume 1, chapter 19.
 *
 * Permission: CPL against IOPL, then the TSS bitmap; in virtual-8086 mode always the bitmap. Devices are called with
 * the VM lock held. A long REP INS or OUTS returns to the run loop between elements when something is pending, and goes
 * on after it.
 *
 * Thread: the vCPU's own.
 */
#include "cpu/mem.h"
#include "cpu/op_form.h"
#include "cpu/op_string.h"
#include "cpu/seg.h"
#include "hw/core/vm_lock.h"

static void check_port(struct cpu *cpu, uint16_t port, unsigned size)
{
    if (cpu->cr0 & CR0_PE && (cpu_v86(cpu) || cpu->cpl > cpu_iopl(cpu)) && !tss_io_allowed(cpu, port, size))
        cpu_raise_gp0(cpu);
}

static void port_event(struct cpu *cpu, uint16_t port, uint32_t value, unsigned size, bool write)
{
    if (event_wanted(EVENT_PORT))
        event_emit(&(struct event){ .kind = EVENT_PORT, .vcpu = cpu->index, .cpl = cpu->cpl, .rip = cpu_rip(cpu),
                                    .number = port, .value = value, .size = size, .write = write });
}

/* Under the VM lock the space's view is current, whatever the vCPU holds. */
static uint32_t port_read(struct cpu *cpu, uint16_t port, unsigned size)
{
    vm_lock();
    uint32_t v = address_space_load(cpu->ports, port, size);
    vm_unlock();
    cpu_check_io_breakpoint(cpu, port, size);
    port_event(cpu, port, v, size, false);
    return v;
}

static void port_write(struct cpu *cpu, uint16_t port, uint32_t value, unsigned size)
{
    port_event(cpu, port, value, size, true);
    vm_lock();
    address_space_store(cpu->ports, port, value, size);
    vm_unlock();
    cpu_check_io_breakpoint(cpu, port, size);
}

/* There are no 64-bit ports: REX.W changes nothing. */
static unsigned port_size(const struct insn *i)
{
    return MIN(i->osize, 2u);
}

static void in(struct cpu *cpu, const struct insn *i, uint16_t port)
{
    unsigned osize = port_size(i);
    check_port(cpu, port, 1u << osize);
    reg_set(cpu, R_RAX, port_read(cpu, port, 1u << osize), osize);
}

static void out(struct cpu *cpu, const struct insn *i, uint16_t port)
{
    unsigned osize = port_size(i);
    check_port(cpu, port, 1u << osize);
    port_write(cpu, port, reg_get(cpu, R_RAX, osize), 1u << osize);
}

static void in_imm_fn(struct cpu *cpu, const struct insn *i)
{
    in(cpu, i, (uint8_t)i->imm);
}
OP_FORM_ONE(in_imm)

static void in_dx_fn(struct cpu *cpu, const struct insn *i)
{
    in(cpu, i, cpu->r[R_RDX]);
}
OP_FORM_ONE(in_dx)

static void out_imm_fn(struct cpu *cpu, const struct insn *i)
{
    out(cpu, i, (uint8_t)i->imm);
}
OP_FORM_ONE(out_imm)

static void out_dx_fn(struct cpu *cpu, const struct insn *i)
{
    out(cpu, i, cpu->r[R_RDX]);
}
OP_FORM_ONE(out_dx)

/* --- Strings ------------------------------------------------------------------------------------------------------ */

static void ins_one(struct cpu *cpu, const struct insn *i, unsigned osize)
{
    unsigned seg = string_dest(cpu), size = 1u << osize;
    uint64_t at = seg_linear(cpu, seg, reg_get(cpu, R_RDI, i->asize), size, true);
    mem_probe_write(cpu, at, size, seg); /* a device must not be read for nothing */
    mem_store(cpu, at, port_read(cpu, cpu->r[R_RDX], size), osize, seg);
    string_advance(cpu, i, R_RDI, string_step(cpu, osize));
}

static void outs_one(struct cpu *cpu, const struct insn *i, unsigned osize)
{
    unsigned size = 1u << osize;
    uint64_t at = seg_linear(cpu, i->seg, reg_get(cpu, R_RSI, i->asize), size, false);
    port_write(cpu, cpu->r[R_RDX], mem_load(cpu, at, osize, i->seg), size);
    string_advance(cpu, i, R_RSI, string_step(cpu, osize));
}

static void port_string(struct cpu *cpu, const struct insn *i, void (*one)(struct cpu *, const struct insn *, unsigned))
{
    unsigned osize = port_size(i);
    check_port(cpu, cpu->r[R_RDX], 1u << osize);
    if (!(i->flags & INSN_ANY_REP)) {
        one(cpu, i, osize);
        return;
    }
    uint64_t count = rep_begin(cpu, i, false, false);
    while (count) {
        one(cpu, i, osize);
        if (rep_pause(cpu, i, --count))
            return;
    }
}

static void ins_fn(struct cpu *cpu, const struct insn *i)
{
    port_string(cpu, i, ins_one);
}
OP_FORM_ONE(ins)

static void outs_fn(struct cpu *cpu, const struct insn *i)
{
    port_string(cpu, i, outs_one);
}
OP_FORM_ONE(outs)
