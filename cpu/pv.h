/*
 * KVM's paravirtual interface to guests, in every engine: kvmclock, steal time, hypercalls. Unmodified Linux uses it.
 * The flag of paravirtual EOI is the local APIC's (hw/irq/lapic_cpu.c); its MSR is kept here.
 *
 * Unless said otherwise on the vCPU's own thread, without the VM lock.
 */
#ifndef CPU_PV_H
#define CPU_PV_H

#include "cpu/cpu.h"

/* The MSRs; false: #GP. They answer only if the model has the feature. */
bool cpu_pv_rdmsr(struct cpu *cpu, uint32_t msr, uint64_t *value);
bool cpu_pv_wrmsr(struct cpu *cpu, uint32_t msr, uint64_t value);
/* To their values at power-on. */
void cpu_pv_reset(struct cpu *cpu);
/* The guest has moved its TSC: tells kvmclock. */
void cpu_pv_tsc_changed(struct cpu *cpu);

/*
 * The vCPU's thread is about to run guest code, and has left it (halted, paused): around each call into an engine. In
 * between others may ask this vCPU to drop its TLB when it comes back, instead of interrupting it.
 */
void cpu_pv_enter(struct cpu *cpu);
void cpu_pv_leave(struct cpu *cpu);
/* Brings steal time up to date now and then while the guest does not leave; cheap if it did so lately. */
void cpu_pv_account(struct cpu *cpu);

/*
 * True, once, if another vCPU has kicked this one (KVM_HC_KICK_CPU) since it last halted: HLT then does not wait, and
 * one that waits already goes on.
 */
static inline bool cpu_pv_take_unhalt(struct cpu *cpu)
{
    return __atomic_load_n(&cpu->pv_unhalted, __ATOMIC_SEQ_CST) &&
           __atomic_exchange_n(&cpu->pv_unhalted, false, __ATOMIC_SEQ_CST);
}

#endif
