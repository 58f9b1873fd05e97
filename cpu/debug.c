/*
 * Debug registers: instruction, data and I/O breakpoints. Intel SDM volume 3, 17.2.
 *
 * Data breakpoints work through the TLB: a page with one is slow, so that each access comes by here. Instruction
 * breakpoints make the run loop go by single instructions while any is enabled.
 *
 * Thread: the vCPU's own.
 */
#include "cpu/debug.h"

#include "cpu/mem.h"

bool debug_has(const struct cpu *cpu, enum debug_kind kind)
{
    for (unsigned n = 0; n < 4; n++)
        if (debug_enabled(cpu, n) && debug_kind(cpu, n) == kind)
            return true;
    return false;
}

/* LEN: 1, 2, 8 or 4 bytes. */
static unsigned debug_len(const struct cpu *cpu, unsigned n)
{
    static const uint8_t len[4] = { 1, 2, 8, 4 };
    return len[cpu->dr7 >> (18 + n * 4) & 3];
}

static bool is_data(const struct cpu *cpu, unsigned n)
{
    enum debug_kind kind = debug_kind(cpu, n);
    return debug_enabled(cpu, n) && (kind == DEBUG_WRITE || kind == DEBUG_ACCESS);
}

bool debug_data_breakpoint_in(const struct cpu *cpu, uint64_t page)
{
    if (G_LIKELY(!(cpu->dr7 & 0xff)))
        return false;
    for (unsigned n = 0; n < 4; n++)
        if (is_data(cpu, n) && (cpu->dr[n] & PAGE_MASK) == page)
            return true;
    return false;
}

static void hit(struct cpu *cpu, unsigned n)
{
    cpu->dr6_pending |= 1u << n;
    cpu_event_set(cpu, CPU_EVENT_TRAP);
    if (cpu->insn)
        cpu->stop_at = cpu->insn + 1;
}

void debug_data_access(struct cpu *cpu, uint64_t addr, unsigned len, bool write)
{
    for (unsigned n = 0; n < 4; n++) {
        if (!is_data(cpu, n) || (debug_kind(cpu, n) == DEBUG_WRITE && !write))
            continue;
        uint64_t size = debug_len(cpu, n), start = cpu->dr[n] & ~(size - 1);
        if (addr < start + size && start < addr + len)
            hit(cpu, n);
    }
}

unsigned debug_exec_hits(const struct cpu *cpu, uint64_t addr)
{
    unsigned hits = 0;
    for (unsigned n = 0; n < 4; n++)
        if (debug_enabled(cpu, n) && debug_kind(cpu, n) == DEBUG_EXEC && cpu->dr[n] == addr)
            hits |= 1u << n;
    return hits;
}

/* Only with CR4.DE; otherwise that kind is undefined and ignored. */
void cpu_check_io_breakpoint(struct cpu *cpu, uint16_t port, unsigned size)
{
    if (G_LIKELY(!(cpu->dr7 & 0xff)) || !(cpu->cr4 & CR4_DE))
        return;
    for (unsigned n = 0; n < 4; n++) {
        if (!debug_enabled(cpu, n) || debug_kind(cpu, n) != DEBUG_IO)
            continue;
        uint64_t len = debug_len(cpu, n), start = cpu->dr[n] & ~(len - 1);
        if (port < start + len && start < (uint64_t)port + size)
            hit(cpu, n);
    }
}
