/*
 * What the parts of the KVM engine share: kvm.c (life, run loop, exits), kvm_host.c (the device file and what it can),
 * kvm_mem.c (memory slots), kvm_cpuid.c (processor model), kvm_regs.c (register state), kvm_irq.c (interrupts),
 * kvm_soft.c (what runs in the interpreter), kvm_backoff.c (what runs under another engine).
 *
 * The state of a vCPU is in struct cpu (`loaded` is false) or in KVM (true), never in both: kvm_load() and kvm_unload()
 * move it, and whoever needs struct cpu calls kvm_unload() first. When vcpu_run returns it is in struct cpu. What KVM
 * never has: MSRs that it hands to us (kvm_host.c), SMM, the A20 gate; the local APIC only if that is split off (kvm_apic.c).
 *
 * Threads: a struct kvm_vcpu belongs to its vCPU's thread but for `in_run`, `thread` and run->immediate_exit, which a
 * kick uses. Slots change under the VM lock.
 */
#ifndef ACCEL_KVM_VM_H
#define ACCEL_KVM_VM_H

#include "accel/vcpu.h"
#include "cpu/cpu.h"
#include "hw/core/machine.h"
#include "hw/core/msi.h"

#include <linux/kvm.h>
#include <signal.h>

/* What this host's KVM is worth. */
enum kvm_mode { KVM_MODE_REAL, KVM_MODE_PROTECTED, KVM_MODE_PAGED, KVM_MODE_LONG, KVM_MODE_USER, KVM_MODES };
enum kvm_verdict { KVM_WRONG, KVM_SLOW /* emulated by the kernel */, KVM_GOOD /* the processor runs it */ };

struct kvm_finding {
    enum kvm_verdict verdict;
    unsigned mips;
    const char *flaw; /* what is wrong, or NULL */
};

struct kvm_findings {
    struct kvm_finding mode[KVM_MODES];
    int64_t exit_ns;
    bool own_cpuid;    /* shows features that it was not given */
    bool stale_tables; /* does not see changes of page tables by us, even after INVLPG */
    bool fixed_tsc;    /* offsets of the TSC are ignored */
    bool lost_xcr0;    /* does not see XSETBV, and so takes XCR0 from the guest at the next exit: there is no XSAVE */
};

/* Instructions that KVM could not run, by address. */
struct kvm_miss {
    uint64_t rip;
    uint16_t row; /* of insn.def */
    uint8_t code_size, cpl;
    uint64_t count;
};

struct kvm_vcpu {
    struct cpu *cpu;
    struct kvm_vm *vm;
    int fd;
    struct kvm_run *run;
    bool loaded;         /* the state is in KVM */
    bool ready;          /* KVM would take an external interrupt now */
    bool unfinished;     /* the instruction of the last exit is completed by the next KVM_RUN */
    bool in_run;         /* in KVM_RUN, or about to be; atomic */
    pthread_t thread;    /* valid while in_run */
    uint64_t flushes;    /* tlb_set.flushes when the state was last unloaded: KVM's translations are as old */
    uint64_t tsc_offset; /* as KVM has it */
    uint64_t exits, io_exits, mmio_exits, msr_exits, soft_insns;
    uint64_t missed;    /* instructions that KVM could not run */
    int64_t last_miss;  /* host ns */
    unsigned patience;  /* instructions to interpret at the next miss */
    unsigned hopeless;  /* misses in a row at which it could not grow any more */
    int64_t slow_since; /* host us since when each exit has been in a mode that KVM emulates; 0: the last was not */
    GHashTable *misses; /* struct kvm_miss by address; VM lock to add */
};

struct kvm_slot {
    uint64_t start, size; /* size 0: free */
    uint8_t *host;
    uint32_t flags;
};

/* See kvm_backoff.c; VM lock. */
struct kvm_backoff {
    struct timer timer;
    struct engine *stand_in; /* in charge for the moment, or NULL */
    int64_t span;            /* how long the last stay away was meant to be */
    int64_t since;           /* when it, or its end, was */
    uint64_t count;
    int64_t total_ns;
};

struct kvm_vm {
    struct machine *m;
    struct engine *engine;
    int kvm, fd;
    size_t run_size;
    struct kvm_findings findings;
    bool split;              /* local APICs are the kernel's (kvm_apic.c) */
    struct msi_sink sink;    /* if so */
    bool watch_modes; /* some are emulated, and the user wants the guest to run well */
    struct kvm_backoff backoff;
    struct mem_listener listener;
    GArray *slots; /* struct kvm_slot, by number */
    const struct cpu_model *full_model;
    struct cpu_model *model; /* what of it KVM can do, too */
    unsigned pkru_offset;
    uint64_t tsc_base;      /* TSC of the guest minus the host's; VM lock to change */
    unsigned clock_starts;  /* clock_starts() when tsc_base was set */
    struct kvm_vcpu *vcpus; /* by index */
};

/* A kick: does nothing but interrupt KVM_RUN. */
#define KVM_KICK_SIGNAL (SIGRTMIN + 1)
void kvm_watch_kicks(void);

/* --- kvm_host.c --------------------------------------------------------------------------------------------------- */

/* Opens /dev/kvm and makes sure that it has all that we need. -1: *err is a sentence. */
int kvm_open(GError **err);
/* ioctl() that fails with "KVM: <what>: <why>". */
bool kvm_do(int fd, unsigned long request, void *arg, const char *what, GError **err);
/* A VM whose MSRs are the model's (cpu/msr.c) but for those that must be in the processor. */
int kvm_make_vm(int kvm, GError **err);
/* Which they are: with local APICs in the kernel some more. */
bool kvm_filter_msrs(int vm, bool apic, GError **err);
/* A vCPU of it; *run is mapped. */
int kvm_make_vcpu(int vm, unsigned index, size_t run_size, struct kvm_run **run, GError **err);

/* --- kvm.c -------------------------------------------------------------------------------------------------------- */

/* Completes the instruction of the last exit, so that the state is that between two instructions. */
void kvm_finish_exit(struct kvm_vcpu *v);

/* --- kvm_probe.c -------------------------------------------------------------------------------------------------- */

/* Tries everything, in some milliseconds; unless `whole`, only until it is clear that it is not good. */
bool kvm_examine(int kvm, bool whole, struct kvm_findings *f, GError **err);
/* Whatever it runs, it runs right. */
bool kvm_is_sound(const struct kvm_findings *f);
/*
 * Sound, and the processor runs at least 64-bit code. Modes that the kernel emulates may be left: firmware is in them for a
 * moment, and of guests that stay there kvm_watch_mode() takes care.
 */
bool kvm_is_good(const struct kvm_findings *f);
/* Some modes are run by the kernel, one instruction after the other. */
bool kvm_emulates_some(const struct kvm_findings *f);
/* All that is not as it should be, in a line; as a table. */
void kvm_describe_flaws(const struct kvm_findings *f, GString *out);
void kvm_print_findings(const struct kvm_findings *f, GString *out);

/* --- kvm_mem.c ---------------------------------------------------------------------------------------------------- */

/* Gives the VM the machine's memory, and keeps it in step. VM lock. */
void kvm_memory_start(struct kvm_vm *vm);
void kvm_memory_stop(struct kvm_vm *vm);
/* KVM has run on this processor: what other engines have decoded or translated may have been overwritten. */
void kvm_distrust_code(struct cpu *cpu);

/* --- kvm_cpuid.c -------------------------------------------------------------------------------------------------- */

/* What of the model KVM can do as it has been found, at the host's TSC rate. */
struct cpu_model *kvm_restrict_model(int kvm, const struct kvm_findings *f, uint64_t tsc_hz, const struct cpu_model *m,
                                     GError **err);
bool kvm_set_cpuid(struct kvm_vcpu *v, GError **err);

/* --- kvm_regs.c --------------------------------------------------------------------------------------------------- */

/* After a change of cpu->tsc_offset or vm->tsc_base. */
bool kvm_set_tsc(struct kvm_vcpu *v);
/* False: KVM does not take this state; it stays in struct cpu. */
bool kvm_load(struct kvm_vcpu *v);
/* False: a fault that KVM had begun to deliver has become a triple fault. */
bool kvm_unload(struct kvm_vcpu *v);

/* --- kvm_irq.c ---------------------------------------------------------------------------------------------------- */

/* Before KVM_RUN: hands over what is pending, or asks to be told when it can. */
void kvm_inject(struct kvm_vcpu *v);

/* --- kvm_backoff.c ------------------------------------------------------------------------------------------------ */

/* The vCPU's thread, without locks: has another engine take over for a while, soon. */
void kvm_back_off(struct kvm_vm *vm);
/* VM lock. */
void kvm_backoff_start(struct kvm_vm *vm);
void kvm_backoff_stop(struct kvm_vm *vm);
void kvm_backoff_info(const struct kvm_vm *vm, GString *out);
enum kvm_mode kvm_mode_of(const struct kvm_sregs *s);
/* After an exit that has given s.regs.sregs: backs off if the guest stays in a mode that is emulated. */
void kvm_watch_mode(struct kvm_vcpu *v);

/* --- kvm_apic.c --------------------------------------------------------------------------------------------------- */

enum kvm_apic_place { KVM_APIC_ANY, KVM_APIC_OURS, KVM_APIC_SPLIT };

/* Before there are vCPUs: moves local APICs into the kernel if that is wanted; for ANY if it can be done. */
bool kvm_apic_init(struct kvm_vm *vm, enum kvm_apic_place want, GError **err);
/* The rest only if vm->split. VM lock; vCPUs are about to run, or have all left. */
void kvm_apic_resumed(struct kvm_vm *vm);
void kvm_apic_paused(struct kvm_vm *vm);
/* The vCPU's thread. cpu->activity as the kernel has it; before registers are fetched. */
void kvm_apic_get_activity(struct kvm_vcpu *v);
/* A vector of the 8259A, when the kernel has said that it would take one. */
void kvm_apic_deliver(struct kvm_vcpu *v, uint8_t vector);
/* KVM cannot go on: another engine has to, and soon will. False: vcpu_run is to be left for the reason in *why. */
bool kvm_apic_hand_over(struct kvm_vcpu *v, enum cpu_exit *why);

/* --- kvm_soft.c --------------------------------------------------------------------------------------------------- */

/* Must the interpreter run now, events or modes being what KVM does not know? */
bool kvm_needs_software(const struct kvm_vcpu *v, uint32_t events);
/* Unloads, and interprets some instructions. False: vcpu_run is to be left, for the reason in *why. */
bool kvm_run_software(struct kvm_vcpu *v, enum cpu_exit *why);
/* KVM cannot run the next instruction: unloads, interprets it and maybe some more, and counts. */
bool kvm_run_missed(struct kvm_vcpu *v, enum cpu_exit *why);
/* KVM says that the processor is in shutdown: finds out what led to it. */
void kvm_explain_shutdown(struct kvm_vcpu *v);
void kvm_print_account(const struct kvm_vm *vm, GString *out);

#endif
