/*
 * Debug registers: instruction, data and I/O breakpoints. Intel SDM volume 3, 17.2.
 */
#ifndef CPU_DEBUG_H
#define CPU_DEBUG_H

#include "cpu/cpu.h"

#define DR6_FIXED UINT64_C(0xffff0ff0) /* bits that read as one */
#define DR6_BS (1u << 14)
#define DR6_BD (1u << 13)
#define DR6_BT (1u << 15)
#define DR6_WRITABLE UINT64_C(0xe00f)
#define DR7_FIXED UINT64_C(0x400)
#define DR7_WRITABLE UINT64_C(0xffff2bff)
#define DR7_GD (1u << 13)

/* What a breakpoint waits for: DR7.R/W. */
enum debug_kind { DEBUG_EXEC, DEBUG_WRITE, DEBUG_IO, DEBUG_ACCESS };

static inline bool debug_enabled(const struct cpu *cpu, unsigned n)
{
    return cpu->dr7 >> (n * 2) & 3;
}
static inline enum debug_kind debug_kind(const struct cpu *cpu, unsigned n)
{
    return cpu->dr7 >> (16 + n * 4) & 3;
}

bool debug_has(const struct cpu *cpu, enum debug_kind kind);
/* Is there an enabled data breakpoint in this linear page? */
bool debug_data_breakpoint_in(const struct cpu *cpu, uint64_t page);
/* A data access is being made: records hits for a #DB after the instruction. */
void debug_data_access(struct cpu *cpu, uint64_t addr, unsigned len, bool write);
/* DR6 bits of instruction breakpoints at this linear address. */
unsigned debug_exec_hits(const struct cpu *cpu, uint64_t addr);

#endif
