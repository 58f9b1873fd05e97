/*
 * What KVM cannot do, the interpreter does: system management mode, a closed A20 gate, INIT and SIPI, and instructions
 * that a kernel's emulator does not know (KVM_EXIT_INTERNAL_ERROR).
 *
 * Each instruction is decoded anew, since KVM does not tell which code it has changed. Where misses come close together
 * more is interpreted at each, up to PATIENCE_MAX instructions: a round trip costs as much as some hundred of them. Where
 * that is not enough another engine gets the guest for a while (kvm_backoff.c).
 * Misses are counted by instruction and address (-d stats).
 *
 * Thread: the vCPU's.
 */
#include "accel/kvm_vm.h"

#include "cpu/block.h"

#define SOFT_EVENTS \
    (CPU_EVENT_SMI | CPU_EVENT_INIT | CPU_EVENT_SIPI | CPU_EVENT_TRAP | CPU_EVENT_RESET | CPU_EVENT_UNHALT)
#define SOFT_INSNS 1000 /* at a time, in modes that KVM does not know */
#define PATIENCE_MAX 4096
#define MISSES_CLOSE 200000 /* ns between two that count as one region; */
#define CLOSE_EXITS 30      /* on slow hosts as much as so many exits */
#define MAX_ADDRESSES 4096
#define HOPELESS 64 /* such misses in a row, each with PATIENCE_MAX instructions behind it, are for another engine */

static bool in_soft_mode(const struct cpu *cpu)
{
    return cpu->smm || __atomic_load_n(&cpu->a20_mask, __ATOMIC_SEQ_CST) != UINT64_MAX;
}

bool kvm_needs_software(const struct kvm_vcpu *v, uint32_t events)
{
    return events & SOFT_EVENTS || in_soft_mode(v->cpu) ||
           (v->cpu->activity != CPU_RUNNING && v->cpu->activity != CPU_HALTED && !v->vm->split);
}

/* A return before the budget is used up is for the caller of the engine. */
static bool interpret(struct kvm_vcpu *v, unsigned insns, enum cpu_exit *why)
{
    uint64_t before = v->cpu->insn_count;
    *why = cpu_interp_run_anew(v->cpu, insns);
    uint64_t done = v->cpu->insn_count - before;
    v->soft_insns += done;
    return *why == CPU_EXIT_KICK && done >= insns;
}

bool kvm_run_software(struct kvm_vcpu *v, enum cpu_exit *why)
{
    if (v->vm->split)
        return kvm_apic_hand_over(v, why);
    *why = CPU_EXIT_SHUTDOWN;
    return kvm_unload(v) && interpret(v, in_soft_mode(v->cpu) ? SOFT_INSNS : 1, why);
}

/* --- Misses ------------------------------------------------------------------------------------------------------- */

static void count_miss(struct kvm_vcpu *v, uint64_t rip, unsigned cpl)
{
    const struct cpu *cpu = v->cpu;
    v->missed++;
    struct kvm_miss *miss = g_hash_table_lookup(v->misses, &rip);
    if (!miss) {
        if (g_hash_table_size(v->misses) >= MAX_ADDRESSES)
            return;
        miss = g_new0(struct kvm_miss, 1);
        *miss = (struct kvm_miss){ .rip = rip, .cpl = (uint8_t)cpl, .code_size = cpu->code_size };
        miss->row = cpu->block ? (uint16_t)(insn_row(cpu->block->insns) - insn_rows) : 0;
        g_hash_table_insert(v->misses, &miss->rip, miss);
    }
    miss->count++;
}

bool kvm_run_missed(struct kvm_vcpu *v, enum cpu_exit *why)
{
    struct cpu *cpu = v->cpu;
    int64_t now = g_get_monotonic_time() * 1000;
    if (v->vm->split) {
        v->missed++;
        return kvm_apic_hand_over(v, why);
    }
    *why = CPU_EXIT_SHUTDOWN;
    if (!kvm_unload(v))
        return false;
    uint64_t rip = cpu->rip;
    unsigned cpl = cpu->cpl;
    int64_t close = MAX(MISSES_CLOSE, CLOSE_EXITS * v->vm->findings.exit_ns);
    v->patience = now - v->last_miss < close ? MIN(v->patience * 2, PATIENCE_MAX) : 1;
    v->hopeless = v->patience == PATIENCE_MAX ? v->hopeless + 1 : 0;
    if (v->hopeless == HOPELESS) {
        v->hopeless = 0;
        kvm_back_off(v->vm);
    }
    bool go_on = interpret(v, 1, why);
    count_miss(v, rip, cpl);
    if (go_on && v->patience > 1)
        go_on = interpret(v, v->patience - 1, why);
    v->last_miss = g_get_monotonic_time() * 1000;
    return go_on;
}

void kvm_explain_shutdown(struct kvm_vcpu *v)
{
    struct cpu *cpu = v->cpu;
    enum cpu_exit why = CPU_EXIT_SHUTDOWN;
    if (!kvm_unload(v))
        return;
    /* Where the kernel leaves the registers as they were, the same fault comes again; others have reset the processor.
     */
    bool was_reset = cpu->rip == 0xfff0 && cpu->seg[SEG_CS].base == 0xffff0000;
    if (!was_reset)
        interpret(v, 1, &why);
    if (cpu->activity == CPU_SHUTDOWN && !was_reset)
        return;
    cpu->activity = CPU_SHUTDOWN;
    cpu->fault_count = 1;
    cpu->fault_chain[0].vector = EXC_DF;
    cpu->fault_chain[0].error = 0;
    cpu->fault_chain[0].rip = cpu->rip;
}

/* --- The account -------------------------------------------------------------------------------------------------- */

static int by_count(const void *a, const void *b)
{
    const struct kvm_miss *x = *(const struct kvm_miss *const *)a, *y = *(const struct kvm_miss *const *)b;
    return x->count < y->count ? 1 : x->count > y->count ? -1 : 0;
}

static void print_cpu(const struct kvm_vcpu *v, GString *out)
{
    g_string_append_printf(out,
                           "cpu %u: %" PRIu64 " exits (%" PRIu64 " port, %" PRIu64 " memory, %" PRIu64 " MSR), %" PRIu64
                           " instructions interpreted, %" PRIu64 " that KVM could not run at %u addresses\n",
                           v->cpu->index, v->exits, v->io_exits, v->mmio_exits, v->msr_exits, v->soft_insns, v->missed,
                           g_hash_table_size(v->misses));
    GPtrArray *list = g_ptr_array_new();
    GHashTableIter i;
    gpointer miss;
    g_hash_table_iter_init(&i, v->misses);
    while (g_hash_table_iter_next(&i, NULL, &miss))
        g_ptr_array_add(list, miss);
    g_ptr_array_sort(list, by_count);
    for (guint k = 0; k < MIN(list->len, 32); k++) {
        const struct kvm_miss *m = list->pdata[k];
        g_string_append_printf(out, "%10" PRIu64 "  %-14s at %#" PRIx64 ", %u-bit, ring %u\n", m->count,
                               insn_rows[m->row].mnemonic, m->rip, 8u << m->code_size, m->cpl);
    }
    g_ptr_array_free(list, TRUE);
}

void kvm_print_account(const struct kvm_vm *vm, GString *out)
{
    for (unsigned k = 0; k < vm->m->cpu_count; k++)
        if (vm->vcpus[k].misses)
            print_cpu(&vm->vcpus[k], out);
}
