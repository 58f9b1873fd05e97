/*
 * The x86 processor: what engines, handlers (cpu/op_*.c), the local APIC and boards use of it.
 *
 * Unless said otherwise a function runs on the vCPU's own thread, without the VM lock.
 */
#ifndef CPU_CPU_H
#define CPU_CPU_H

#include "cpu/insn.h"
#include "cpu/state.h"

#include <glib.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>

struct event;

/* --- Life (cpu.c) ----------------------------------------------------------------------------------------------- */

/* What the processor asks of its surroundings (accel/vcpu.c; a test may give its own). */
struct cpu_host_ops {
    /* Runs fn(cpu, arg) while every other vCPU of the machine is outside guest code. */
    void (*exclusive)(struct cpu *cpu, void (*fn)(struct cpu *cpu, void *arg), void *arg);
    /* Makes a vCPU look at its events soon, wherever it is. Any thread. */
    void (*kick)(struct cpu *cpu);
    /*
     * FERR#, while CR0.NE is 0: true when an instruction finds an x87 exception pending, each time; false when it is
     * gone. The board makes IRQ 13 of it. Optional.
     */
    void (*ferr)(struct cpu *cpu, bool pending);
};

/* MSRs that are the local APIC's, beside IA32_APIC_BASE; x2APIC's are 256. */
#define MSR_TSC_DEADLINE 0x6e0
#define MSR_X2APIC 0x800

/* A local APIC as its register page shows it, one register for each 16 bytes, and what is beside that page. */
struct apic_image {
    uint32_t regs[64];
    uint64_t base; /* IA32_APIC_BASE */
    uint64_t tsc_deadline; /* 0: none */
};

/* The local APIC as the processor sees it. All take the VM lock themselves if they need it. */
struct cpu_apic_ops {
    /* The vector to deliver now, taking it into service; -1: none (spurious or masked by TPR). */
    int (*acknowledge)(void *apic);
    bool (*has_interrupt)(void *apic); /* one that acknowledge() would return */
    uint64_t (*base_msr)(void *apic);  /* IA32_APIC_BASE */
    bool (*set_base_msr)(void *apic, uint64_t value);              /* false: #GP */
    bool (*read_msr)(void *apic, uint32_t msr, uint64_t *value);   /* x2APIC 0x800..0x8ff, TSC_DEADLINE; false: #GP */
    bool (*write_msr)(void *apic, uint32_t msr, uint64_t value);
    uint8_t (*tpr)(void *apic);        /* 0..255; CR8 is its upper half */
    void (*set_tpr)(void *apic, uint8_t value);
    void (*send_ipi)(void *apic, uint64_t icr); /* in x2APIC format: destination in 63:32; for the PV IPI hypercall */
    void (*reset)(void *apic, bool init);
    /*
     * While a kernel's KVM runs the APIC. VM lock, the vCPU is paused: to_kernel hands over all but the pins, from_kernel takes it
     * back. In between only these are asked; on the vCPU's thread, without locks.
     */
    void (*to_kernel)(void *apic, struct apic_image *out);
    void (*from_kernel)(void *apic, const struct apic_image *in);
    bool (*pic_asks)(void *apic);   /* the 8259A wants its INTA cycles from whoever listens to it */
    int (*pic_acknowledge)(void *apic); /* these cycles; -1: there is no 8259A */
    void (*broadcast_eoi)(void *apic, uint8_t vector); /* of a level-triggered interrupt, to the I/O APICs */
};

struct cpu *cpu_new(struct machine *m, unsigned index, const struct cpu_model *model);
void cpu_free(struct cpu *cpu);
/* Power-on reset, or INIT (which keeps caches, FPU and most MSRs). Any thread while the vCPU is paused. */
void cpu_reset(struct cpu *cpu, bool init);
void cpu_memory_changed(struct mem_listener *l);
extern const struct state_table cpu_state_table;
/*
 * Recomputes all that is derived from architectural state after it was set from outside (load, engine shift, debugger).
 */
void cpu_refresh(struct cpu *cpu);
/* Registers as -d int and -d cpu_reset print them, several lines. */
void cpu_print(const struct cpu *cpu, GString *out);

/* --- Events ------------------------------------------------------------------------------------------------------ */

/* Sets event bits and kicks. Any thread. */
void cpu_post(struct cpu *cpu, uint32_t events);
static inline void cpu_event_set(struct cpu *cpu, uint32_t bits)
{
    __atomic_fetch_or(&cpu->events, bits, __ATOMIC_SEQ_CST);
    __atomic_fetch_or(&cpu->poll, POLL_EVENT, __ATOMIC_SEQ_CST); /* behind the events: who clears it looks at them afterwards */
}
static inline void cpu_event_clear(struct cpu *cpu, uint32_t bits)
{
    __atomic_fetch_and(&cpu->events, ~bits, __ATOMIC_SEQ_CST);
}
/*
 * Of cpu->events those that can be acted upon between two instructions; the rest waits for IF, IRET or RSM. A long
 * string instruction asks between elements and, if there are any, stays where it is and returns to the run loop.
 */
static inline uint32_t cpu_due_events(const struct cpu *cpu)
{
    uint32_t events = __atomic_load_n(&cpu->events, __ATOMIC_RELAXED) & ~CPU_EVENT_SHADOW;
    if (G_LIKELY(!events))
        return 0;
    if (!(cpu->rflags & FLAG_IF))
        events &= ~CPU_EVENT_INTR;
    if (cpu->nmi_blocked)
        events &= ~CPU_EVENT_NMI;
    if (cpu->smm)
        events &= ~(CPU_EVENT_SMI | CPU_EVENT_INIT);
    return events;
}
/* True if a halted processor has a reason to wake. Any thread. */
bool cpu_has_work(const struct cpu *cpu);

/* --- The interpreter (interp.c) ----------------------------------------------------------------------------------- */

enum cpu_exit {
    CPU_EXIT_KICK,  /* CPU_EVENT_KICK, or the budget is used up */
    CPU_EXIT_HALT,  /* activity is not CPU_RUNNING */
    CPU_EXIT_SHUTDOWN, /* triple fault; chain in cpu->fault_chain */
};
/* Runs guest code until something needs the caller. `max_insns` 0: no limit (tests and lockstep give one). */
enum cpu_exit cpu_interp_run(struct cpu *cpu, uint64_t max_insns);
/* The same, decoding each instruction anew: for who shares memory with an engine that does not tell what code it changes (KVM). */
enum cpu_exit cpu_interp_run_anew(struct cpu *cpu, uint64_t max_insns);
/*
 * Handles what cpu->events ask for between two instructions; shared by all software engines. False: leave the engine.
 */
bool cpu_handle_events(struct cpu *cpu);
/* Of `events` those that change what memory looks like: the part of cpu_handle_events() that every engine needs. */
void cpu_take_memory_events(struct cpu *cpu, uint32_t events);
/* Why the engine is left when cpu_handle_events() said so. */
enum cpu_exit cpu_exit_reason(const struct cpu *cpu);
struct block;
/* Runs a block that block_find() gave; one instruction with all that surrounds it while stepping, in a shadow, or with breakpoints. */
void cpu_run_block(struct cpu *cpu, const struct block *b);
void cpu_run_one(struct cpu *cpu);
/* After a handler was left by cpu_raise(): RIP and counters as of the instruction under way, which is none any more. */
void cpu_unwind(struct cpu *cpu);

/* --- Where we are ------------------------------------------------------------------------------------------------- */

static inline uint64_t cpu_ip_mask(const struct cpu *cpu)
{
    return cpu->code_size == 3 ? UINT64_MAX : cpu->code_size == 2 ? UINT32_MAX : 0xffff;
}
/* RIP of the instruction under way, and of the one behind it. */
static inline uint64_t cpu_rip(const struct cpu *cpu)
{
    const struct insn *i = cpu->insn;
    return i ? (cpu->rip + i->end - i->len) & cpu_ip_mask(cpu) : cpu->rip;
}
static inline uint64_t insn_next_rip(const struct cpu *cpu, const struct insn *i)
{
    return (cpu->rip + i->end) & cpu_ip_mask(cpu);
}
/*
 * Ends the block: execution goes on at rip, already masked and checked against the code segment (near transfers use
 * cpu_jump, which does both). Every handler of a row with a block end other than END_NONE calls one of the two, or
 * leaves RIP alone, which means: fall through to the next instruction.
 */
static inline void cpu_set_rip(struct cpu *cpu, uint64_t rip)
{
    cpu->rip = rip;
    cpu->insn = NULL;
}

/* Canonical form: the unimplemented upper bits repeat the highest implemented one. */
static inline bool cpu_is_canonical(const struct cpu *cpu, uint64_t addr)
{
    unsigned shift = cpu->cr4 & CR4_LA57 ? 64 - 57 : 64 - 48;
    return (uint64_t)((int64_t)(addr << shift) >> shift) == addr;
}
static inline bool cpu_in_64(const struct cpu *cpu)
{
    return cpu->code_size == 3;
}
/* Vector registers in reach: outside 64-bit mode no instruction sees or changes 8 to 15. */
static inline unsigned cpu_vector_count(const struct cpu *cpu)
{
    return cpu_in_64(cpu) ? 16 : 8;
}
static inline bool cpu_v86(const struct cpu *cpu)
{
    return cpu->rflags & FLAG_VM;
}
static inline bool cpu_protected(const struct cpu *cpu)
{
    return cpu->mode_key & MODE_PROT;
}
static inline bool cpu_long(const struct cpu *cpu)
{
    return cpu->efer & EFER_LMA;
}
static inline unsigned cpu_iopl(const struct cpu *cpu)
{
    return (cpu->rflags & FLAG_IOPL) >> FLAG_IOPL_SHIFT;
}
/* After any change of CR0, CR4, EFER, CS, SS, CPL, RFLAGS.VM/AC/TF, XCR0 or DR7: mode_key, code_size, cpu->tlb ... */
void cpu_update_mode(struct cpu *cpu);

/* --- Exceptions (excp.c) ------------------------------------------------------------------------------------------ */

/* Leave the handler for the run loop, which delivers the exception with RIP at the instruction under way. */
_Noreturn void cpu_raise(struct cpu *cpu, enum vector vector);
_Noreturn void cpu_raise_error(struct cpu *cpu, enum vector vector, uint32_t error);
_Noreturn void cpu_raise_page_fault(struct cpu *cpu, uint64_t address, uint32_t error);
/* Leaves the handler as if the instruction had not begun: the run loop looks at events, then executes it. */
_Noreturn void cpu_retry(struct cpu *cpu);
static inline _Noreturn void cpu_raise_gp0(struct cpu *cpu)
{
    cpu_raise_error(cpu, EXC_GP, 0);
}
/* CR4.UMIP keeps SGDT, SIDT, SLDT, STR and SMSW from user code. */
static inline void cpu_check_umip(struct cpu *cpu)
{
    if (cpu->cr4 & CR4_UMIP && cpu->cpl)
        cpu_raise_gp0(cpu);
}
static inline _Noreturn void cpu_raise_ud(struct cpu *cpu)
{
    cpu_raise(cpu, EXC_UD);
}

/* How an interrupt came to be: decides checks on the gate, the saved RIP and the error code's EXT bit. */
enum excp_source {
    EXCP_FAULT,     /* processor exception, RIP of the instruction */
    EXCP_TRAP,      /* processor exception reported after it: #DB single step */
    EXCP_SOFT,      /* INT n: DPL check */
    EXCP_SOFT_EXC,  /* INT3, INTO: DPL check */
    EXCP_ICEBP,     /* INT1: no DPL check */
    EXCP_EXTERNAL,  /* INTR, NMI */
};
/*
 * Delivers through IVT or IDT. cpu->rip must be exact and cpu->insn NULL. A fault on the way is raised again by
 * cpu_raise: the run loop turns it into a double or triple fault.
 */
void cpu_deliver(struct cpu *cpu, enum vector vector, enum excp_source source, bool has_error, uint32_t error,
                 uint64_t next_rip);

/*
 * cpu_deliver() from outside a run loop, with the faults that it meets on the way. False: triple fault, the processor is in
 * shutdown.
 */
bool cpu_deliver_now(struct cpu *cpu, enum vector vector, enum excp_source source, bool has_error, uint32_t error);

/* Near transfer: truncates to `osize` (log2), checks limit or canonical form (#GP(0)), then cpu_set_rip. */
static inline void cpu_jump(struct cpu *cpu, uint64_t target, unsigned osize)
{
    if (G_LIKELY(cpu_in_64(cpu))) {
        if (G_UNLIKELY(!cpu_is_canonical(cpu, target)))
            cpu_raise_gp0(cpu);
    } else {
        target = osize == 1 ? (uint16_t)target : (uint32_t)target;
        if (G_UNLIKELY(target > cpu->seg[SEG_CS].limit))
            cpu_raise_gp0(cpu);
    }
    cpu_set_rip(cpu, target);
}

/* --- Memory: inline fast path in cpu/mem.h ------------------------------------------------------------------------ */

enum access { ACCESS_READ, ACCESS_WRITE, ACCESS_EXEC };

/* --- Segments and tasks (seg.c, task.c) --------------------------------------------------------------------------- */

/*
 * MOV/POP/LDS to ES, SS, DS, FS, GS with all checks. Of SS not the interrupt shadow, which only some instructions make.
 */
void cpu_load_seg(struct cpu *cpu, enum seg s, uint16_t selector);
/* Real and virtual-8086 mode: base = selector << 4, limit and rights as the mode has them. */
void cpu_load_seg_real(struct cpu *cpu, enum seg s, uint16_t selector);
/* Sets the hidden part as given and recomputes flat_read, flat_write, code and stack size. */
void cpu_set_seg(struct cpu *cpu, enum seg s, uint16_t selector, uint64_t base, uint32_t limit, uint32_t attr);

/* --- Control and model-specific registers (ctrl.c, msr.c, cpuid.c, pv.c) ------------------------------------------ */

/* All checks; #GP(0) where the manual says so. They flush and update what follows from the change. */
void cpu_write_cr0(struct cpu *cpu, uint64_t value);
void cpu_write_cr3(struct cpu *cpu, uint64_t value);
void cpu_write_cr4(struct cpu *cpu, uint64_t value);
void cpu_write_efer(struct cpu *cpu, uint64_t value);
/* All at once, as RSM does; false, and nothing set, if no processor of this model can have them. */
bool cpu_ctrl_restore(struct cpu *cpu, uint64_t cr0, uint64_t cr3, uint64_t cr4, uint64_t efer);
void cpu_write_xcr0(struct cpu *cpu, uint64_t value);
void cpu_write_dr7(struct cpu *cpu, uint64_t value);
/* False: #GP(0) (unknown MSRs too, once logged under -d unimp). */
bool cpu_rdmsr(struct cpu *cpu, uint32_t msr, uint64_t *value);
bool cpu_wrmsr(struct cpu *cpu, uint32_t msr, uint64_t value);
void cpu_cpuid(struct cpu *cpu, uint32_t leaf, uint32_t subleaf, uint32_t out[4]);
/* Feature of the guest's model, by enum cpu_feature; FEAT_NONE is always there. */
bool cpu_has(const struct cpu *cpu, unsigned feature);
/*
 * VMCALL and VMMCALL: the KVM hypercall in RAX, arguments in RBX, RCX, RDX, RSI; the result for RAX, errors negative
 * (pv.c).
 */
uint64_t cpu_hypercall(struct cpu *cpu);
uint64_t cpu_read_tsc(const struct cpu *cpu);
uint64_t cpu_tsc_hz(const struct cpu *cpu);

/* "max", "qemu64,+avx2,-x2apic". The caller owns it, and frees it after the processors made of it. */
struct cpu_model *cpu_model_parse(const char *text, GError **err);
void cpu_model_free(struct cpu_model *m);
void cpu_model_help(GString *out);

/* Breakpoint match for I/O, exec and data (debug.c). Sets cpu->dr6_pending and CPU_EVENT_TRAP. */
void cpu_check_io_breakpoint(struct cpu *cpu, uint16_t port, unsigned size);

#endif
