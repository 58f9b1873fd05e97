/*
 * Read-modify-write of a register or memory operand, with or without LOCK.
 *
 * A handler opens the operand, computes the result from the value read and closes it, again and again until close
 * succeeds (only a LOCK form can fail, when another processor was faster). Flags and other registers are written
 * after that.
 *
 *     struct rmw m;
 *     if (!rmw_open(cpu, i, size, mem, &m))
 *         return;
 *     do {
 *         result = f(m.old);
 *     } while (!rmw_close(cpu, i, size, mem, &m, result));
 *
 * LOCK on what is no plain aligned RAM within a page is done while all other processors are stopped: rmw_open() then
 * runs the whole handler that way and returns false.
 */
#ifndef CPU_RMW_H
#define CPU_RMW_H

#include "cpu/insn.h"
#include "cpu/mem.h"

#include <glib.h>

/* Own bit in insn.flags: the exclusive section is held, so LOCK needs no more care. */
#define INSN_EXCLUSIVE (1u << 15)

/* Runs i->fn for the locked instruction *i while the other processors are stopped. May leave through cpu_raise(). */
void rmw_run_exclusive(struct cpu *cpu, const struct insn *i);

struct rmw {
    void *host;    /* NULL: probed, and to be stored through the slow path */
    uint64_t addr; /* linear */
    uint64_t old;
    bool locked;
};

/* As mem_host_rw(), the usual case inline: a page that stores may hit can be read, and no one watches its writes. */
static G_ALWAYS_INLINE inline void *mem_host_rw_fast(struct cpu *cpu, uint64_t addr, unsigned bytes, unsigned seg)
{
    const struct tlb_entry *e = &cpu->tlb->e[tlb_index(addr)];
    if (G_LIKELY(addr - e->tag_write <= PAGE_SIZE - bytes))
        return (void *)(uintptr_t)(addr + e->addend);
    return mem_host_rw(cpu, addr, bytes, seg);
}

/* The memory operand at linear address `addr`, which the caller has made with the write checks. */
static G_ALWAYS_INLINE inline bool rmw_open_at(struct cpu *cpu, const struct insn *i, uint64_t addr, unsigned size,
                                               bool lock, struct rmw *m)
{
    unsigned bytes = 1u << size;

    m->addr = addr;
    m->host = mem_host_rw_fast(cpu, addr, bytes, i->seg);
    m->locked = false;
    if (G_UNLIKELY(lock) && !(i->flags & INSN_EXCLUSIVE)) {
        if (!m->host || (uintptr_t)m->host & (bytes - 1)) {
            rmw_run_exclusive(cpu, i);
            return false;
        }
        m->locked = true;
    }
    if (G_LIKELY(m->host)) {
        m->old = ram_load(m->host, bytes);
    } else {
        mem_probe_write(cpu, addr, bytes, i->seg);
        m->old = mem_load(cpu, addr, size, i->seg);
    }
    return true;
}

static G_ALWAYS_INLINE inline bool rmw_open(struct cpu *cpu, const struct insn *i, unsigned size, bool mem,
                                            struct rmw *m)
{
    if (mem)
        return rmw_open_at(cpu, i, insn_linear(cpu, i, 1u << size, true), size, i->flags & INSN_LOCK, m);
    m->old = reg_get(cpu, i->rm, size);
    return true;
}

/* False: another processor changed the value, which is now in m->old: compute again. */
static G_ALWAYS_INLINE inline bool rmw_close(struct cpu *cpu, const struct insn *i, unsigned size, bool mem,
                                             struct rmw *m, uint64_t value)
{
    if (!mem) {
        reg_set(cpu, i->rm, value, size);
        return true;
    }
    if (G_UNLIKELY(m->locked))
        return ram_cas(m->host, &m->old, value, 1u << size);
    if (G_LIKELY(m->host))
        ram_store(m->host, value, 1u << size);
    else
        mem_store(cpu, m->addr, value, size, i->seg);
    return true;
}

#endif
