/*
 * The run loop of the interpreter, and the handling of events between instructions that all software engines share.
 *
 * A block's handlers are called one after the other; the last sets RIP or lets it fall through. Exceptions come back here by
 * siglongjmp (cpu_raise), with the instruction under way in cpu->insn. Between two blocks one load tells whether anything else
 * wants attention; priorities among events follow Intel SDM volume 3, table 6-2.
 *
 * Thread: the vCPU's own, without the VM lock.
 */
#include "cpu/block.h"
#include "cpu/debug.h"
#include "cpu/excp.h"
#include "cpu/mem.h"
#include "cpu/pv.h"
#include "cpu/smm.h"
#include "hw/core/log.h"

/* --- Events ------------------------------------------------------------------------------------------------------------ */

static void take_init(struct cpu *cpu)
{
    cpu_event_clear(cpu, CPU_EVENT_INIT);
    cpu_reset(cpu, true);
    cpu->activity = cpu->boot_processor ? CPU_RUNNING : CPU_WAIT_FOR_SIPI;
}

static void take_sipi(struct cpu *cpu)
{
    cpu_event_clear(cpu, CPU_EVENT_SIPI);
    if (cpu->activity != CPU_WAIT_FOR_SIPI)
        return;
    uint8_t vector = __atomic_load_n(&cpu->sipi_vector, __ATOMIC_ACQUIRE);
    cpu_set_seg(cpu, SEG_CS, vector << 8, (uint64_t)vector << 12, 0xffff, cpu->seg[SEG_CS].attr);
    cpu->rip = 0;
    cpu->activity = CPU_RUNNING;
}

static void take_trap(struct cpu *cpu)
{
    cpu_event_clear(cpu, CPU_EVENT_TRAP);
    cpu->dr6 = (cpu->dr6 & ~UINT64_C(0xf)) | cpu->dr6_pending;
    cpu->dr6_pending = 0;
    cpu->dr7 &= ~(uint64_t)DR7_GD;
    cpu->activity = CPU_RUNNING; /* a stepped HLT is over with its trap */
    excp_deliver_event(cpu, EXC_DB, EXCP_TRAP);
}

static void take_nmi(struct cpu *cpu)
{
    cpu_event_clear(cpu, CPU_EVENT_NMI);
    cpu->activity = CPU_RUNNING;
    cpu->nmi_blocked = true;
    excp_deliver_event(cpu, EXC_NMI, EXCP_EXTERNAL);
}

static void take_interrupt(struct cpu *cpu)
{
    /* Cleared first: the APIC posts again if more comes while we ask. */
    cpu_event_clear(cpu, CPU_EVENT_INTR);
    int vector = cpu->apic_ops->acknowledge(cpu->apic);
    if (vector < 0)
        return;
    cpu_pv_account(cpu);
    cpu->activity = CPU_RUNNING;
    excp_deliver_event(cpu, vector, EXCP_EXTERNAL);
}

void cpu_take_memory_events(struct cpu *cpu, uint32_t events)
{
    if (events & CPU_EVENT_MEMMAP)
        cpu_renew_view(cpu);
    if (events & CPU_EVENT_TLB_FLUSH) {
        cpu_event_clear(cpu, CPU_EVENT_TLB_FLUSH);
        cpu_tlb_flush(cpu);
    }
}

bool cpu_handle_events(struct cpu *cpu)
{
    uint32_t events = __atomic_load_n(&cpu->events, __ATOMIC_ACQUIRE);
    if (events & CPU_EVENT_KICK) {
        cpu_event_clear(cpu, CPU_EVENT_KICK);
        return false;
    }
    cpu_take_memory_events(cpu, events);
    if (events & CPU_EVENT_UNHALT) {
        cpu_event_clear(cpu, CPU_EVENT_UNHALT);
        if (cpu->activity == CPU_HALTED && cpu_pv_take_unhalt(cpu))
            cpu->activity = CPU_RUNNING;
    }
    bool shadow = events & CPU_EVENT_SHADOW;
    if (events & CPU_EVENT_INIT && !cpu->smm)
        take_init(cpu);
    if (events & CPU_EVENT_SIPI)
        take_sipi(cpu);
    if (cpu->activity == CPU_WAIT_FOR_SIPI || cpu->activity == CPU_SHUTDOWN)
        return false;
    if (events & CPU_EVENT_TRAP && !(shadow && cpu->shadow_mov_ss))
        take_trap(cpu);
    else if (events & CPU_EVENT_SMI && !cpu->smm)
        smm_enter(cpu);
    else if (events & CPU_EVENT_NMI && !cpu->nmi_blocked && !shadow)
        take_nmi(cpu);
    else if (events & CPU_EVENT_INTR && cpu->rflags & FLAG_IF && !shadow)
        take_interrupt(cpu);
    return cpu->activity == CPU_RUNNING;
}

bool cpu_has_work(const struct cpu *cpu)
{
    uint32_t events = cpu_due_events(cpu) & ~CPU_EVENT_STEP;
    switch (cpu->activity) {
    case CPU_RUNNING: return true;
    case CPU_WAIT_FOR_SIPI: return events & (CPU_EVENT_INIT | CPU_EVENT_SIPI);
    case CPU_SHUTDOWN: return events & (CPU_EVENT_INIT | CPU_EVENT_NMI);
    default: return events & ~(CPU_EVENT_KICK | CPU_EVENT_MEMMAP | CPU_EVENT_TLB_FLUSH | CPU_EVENT_SIPI);
    }
}

/* --- Running ------------------------------------------------------------------------------------------------------------- */

static void log_exec(const struct cpu *cpu, const struct block *b)
{
    log_line("exec cpu %u %04x:%016" PRIx64 " physical %#" PRIx64 " (%u instructions)", cpu->index,
             cpu->seg[SEG_CS].selector, cpu->rip, b->phys, b->count);
}

void cpu_run_block(struct cpu *cpu, const struct block *b)
{
    const struct insn *i = b->insns;
    cpu->block = b;
    cpu->stop_at = i + b->count;
    do {
        cpu->insn = i;
        i->fn(cpu, i);
        i++;
    } while (i != cpu->stop_at);
    if (cpu->insn) { /* nobody set RIP: it falls through */
        cpu->rip = insn_next_rip(cpu, cpu->insn);
        cpu->insn = NULL;
    }
    cpu->insn_count += i - b->insns;
    cpu->block_count++;
}

/* `anew`: decoded now, whatever is known of it. */
static void run_one(struct cpu *cpu, bool anew)
{
    bool resume = cpu->rflags & FLAG_RF;
    bool held = cpu->shadow_mov_ss; /* MOV SS holds back instruction breakpoints, too */
    cpu_event_clear(cpu, CPU_EVENT_SHADOW);
    cpu->shadow_mov_ss = false;
    cpu->stepping = cpu->rflags & FLAG_TF;
    if (!resume && !held) {
        uint64_t base = cpu_in_64(cpu) ? 0 : cpu->seg[SEG_CS].base;
        unsigned hits = debug_exec_hits(cpu, base + cpu->rip);
        if (hits) {
            cpu->dr6 = (cpu->dr6 & ~UINT64_C(0xf)) | hits;
            cpu->dr7 &= ~(uint64_t)DR7_GD;
            cpu_raise(cpu, EXC_DB);
        }
    }
    const struct block *b = anew ? block_decode_once(cpu) : block_find(cpu, true);
    uint64_t start = cpu->rip;
    cpu->rflags &= ~(uint64_t)FLAG_RF;
    cpu_run_block(cpu, b);
    if (cpu->rip == start && insn_row(b->insns)->attr & (ROW_REP | ROW_REPZ))
        cpu->rflags |= FLAG_RF; /* a string instruction between two elements: its breakpoint has been seen */
    if (resume || cpu->rflags & FLAG_RF)
        cpu_update_mode(cpu); /* stepping may have to begin or to end */
    if (cpu->stepping && !cpu->shadow_mov_ss) {
        cpu->dr6_pending |= DR6_BS;
        cpu_event_set(cpu, CPU_EVENT_TRAP);
    }
    cpu->stepping = false;
}

void cpu_run_one(struct cpu *cpu)
{
    run_one(cpu, false);
}

void cpu_unwind(struct cpu *cpu)
{
    if (!cpu->insn)
        return;
    if (cpu->block)
        cpu->insn_count += cpu->insn - cpu->block->insns;
    cpu->rip = cpu_rip(cpu);
    cpu->insn = NULL;
}

enum cpu_exit cpu_exit_reason(const struct cpu *cpu)
{
    return cpu->activity == CPU_SHUTDOWN ? CPU_EXIT_SHUTDOWN : cpu->activity == CPU_RUNNING ? CPU_EXIT_KICK : CPU_EXIT_HALT;
}

static enum cpu_exit run(struct cpu *cpu, uint64_t max_insns, bool anew)
{
    sigjmp_buf env;
    uint64_t limit = max_insns ? cpu->insn_count + max_insns : UINT64_MAX;
    cpu->unwind = &env;
    switch (sigsetjmp(env, 0)) {
    case 0: break;
    case EXCP_UNWIND_RETRY:
        cpu_unwind(cpu);
        cpu->stepping = false;
        break;
    default:
        cpu_unwind(cpu);
        cpu->stepping = false;
        if (!excp_take_raised(cpu))
            return CPU_EXIT_SHUTDOWN;
    }
    struct block *b = NULL; /* the one that ran last, if the next follows it */
    while (cpu->insn_count < limit) {
        uint32_t events = __atomic_load_n(&cpu->events, __ATOMIC_RELAXED);
        if (G_UNLIKELY(events) && cpu_due_events(cpu) & ~CPU_EVENT_STEP) {
            if (!cpu_handle_events(cpu))
                return cpu_exit_reason(cpu);
            b = NULL;
            events = __atomic_load_n(&cpu->events, __ATOMIC_RELAXED);
            if (G_UNLIKELY(events & CPU_EVENT_TRAP && !(events & CPU_EVENT_SHADOW)))
                continue; /* pushing a frame has met a breakpoint */
        }
        if (G_UNLIKELY(anew || events & (CPU_EVENT_STEP | CPU_EVENT_SHADOW) || limit - cpu->insn_count < BLOCK_INSNS)) {
            run_one(cpu, anew);
            b = NULL;
            continue;
        }
        b = b ? block_next(cpu, b) : block_find(cpu, false);
        if (log_on(LOG_EXEC))
            log_exec(cpu, b);
        cpu_run_block(cpu, b);
    }
    return CPU_EXIT_KICK;
}

enum cpu_exit cpu_interp_run(struct cpu *cpu, uint64_t max_insns)
{
    return run(cpu, max_insns, false);
}

enum cpu_exit cpu_interp_run_anew(struct cpu *cpu, uint64_t max_insns)
{
    return run(cpu, max_insns, true);
}

bool cpu_deliver_now(struct cpu *cpu, enum vector vector, enum excp_source source, bool has_error, uint32_t error)
{
    sigjmp_buf env;
    cpu->unwind = &env;
    if (sigsetjmp(env, 0) == 0) {
        cpu_deliver(cpu, vector, source, has_error, error, cpu->rip);
        return true;
    }
    cpu_unwind(cpu);
    return excp_take_raised(cpu); /* which may come back here */
}
