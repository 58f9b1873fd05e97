/* Exceptions between the run loop and delivery; handlers use cpu_raise* of cpu/cpu.h. */
#ifndef CPU_EXCP_H
#define CPU_EXCP_H

#include "cpu/cpu.h"

/* What a jump to cpu->unwind says: cpu_raise* or cpu_retry. */
enum excp_unwind { EXCP_UNWIND_RAISE = 1, EXCP_UNWIND_RETRY };

/*
 * The run loop calls this with what cpu_raise left in cpu->raised, cpu->rip exact and cpu->insn NULL. Turns it into a
 * double fault where it hit the delivery of another. False: triple fault, the processor is in shutdown.
 */
bool excp_take_raised(struct cpu *cpu);
/* An event of its own: external interrupt, NMI, debug trap. Same conditions. May leave through cpu_raise. */
void excp_deliver_event(struct cpu *cpu, enum vector vector, enum excp_source source);
/* "#PF error 0x2 at rip 0x... address 0x..., then #DF error ...": the chain that led to a triple fault. */
void excp_print_chain(const struct cpu *cpu, GString *out);
const char *excp_name(unsigned vector);

#endif
