/* System management mode: entry by SMI, leaving by RSM. Intel SDM volume 3, chapter 31 (64-bit save-state map). */
#ifndef CPU_SMM_H
#define CPU_SMM_H

struct cpu;

void smm_enter(struct cpu *cpu);
/* The RSM instruction; #UD outside SMM, shutdown if the saved state is impossible. */
void smm_leave(struct cpu *cpu);

#endif
