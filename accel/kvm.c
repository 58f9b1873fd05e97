/*
 * KVM as an engine: life of the VM, run loop, exits.
 *
 * Linux, Documentation/virt/kvm/api.rst. The kernel runs guest code, and has the local APICs where it can (kvm_apic.c):
 * all other chips are ours, so that a machine is the same under every engine. A kick posts its event first, then sets
 * immediate_exit, and a signal if the vCPU may already be in KVM_RUN; the run loop clears immediate_exit before it
 * looks at the events.
 *
 * The guest's TSC is the host's, at its rate; kvmclock and CPUID say so. After a pause it goes on where it stood.
 *
 * Not here: dirty logs, guest debugging, nesting.
 *
 * Threads: vCPUs take the VM lock around device accesses.
 */
#include "accel/kvm.h"
#include "accel/kvm_vm.h"

#include "cpu/mem.h"
#include "cpu/model.h"
#include "cpu/pv.h"
#include "hw/core/event.h"
#include "hw/core/opts.h"
#include "hw/core/ram_access.h"
#include "hw/core/vm_lock.h"

#include <cpuid.h>
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <x86intrin.h>

/* --- Life --------------------------------------------------------------------------------------------------------- */

static bool kvm_probe(GError **err)
{
    int fd = kvm_open(err);
    if (fd < 0)
        return false;
    close(fd);
    return true;
}

/* Opens and examines; *fd is -1 if it cannot be opened. */
static bool open_and_examine(int *fd, bool whole, struct kvm_findings *f, GError **err)
{
    *fd = kvm_open(err);
    return *fd >= 0 && kvm_examine(*fd, whole, f, err);
}

/* No JIT comes near a processor; and nothing can make up for one that is emulated, or emulated badly. */
static unsigned kvm_rank(void)
{
    struct kvm_findings f;
    int fd;
    bool good = open_and_examine(&fd, false, &f, NULL) && kvm_is_good(&f);
    if (fd >= 0)
        close(fd);
    return good ? 20 : 0;
}

static void kvm_help(GString *out)
{
    struct kvm_findings f;
    int fd;
    if (open_and_examine(&fd, true, &f, NULL))
        kvm_print_findings(&f, out);
    if (fd >= 0)
        close(fd);
}

static bool parse_irqchip(const char *value, enum kvm_apic_place *irqchip, GError **err)
{
    *irqchip = KVM_APIC_ANY;
    if (!value)
        return true;
    if (!strcmp(value, "on")) /* the rest of it would be slower chips than ours */
        g_printerr("trapeze: note: -accel kvm,kernel-irqchip=on: only the local APICs go into the kernel, as with split\n");
    *irqchip = strcmp(value, "off") ? KVM_APIC_SPLIT : KVM_APIC_OURS;
    return !strcmp(value, "on") || !strcmp(value, "split") || !strcmp(value, "off") ||
           opts_error(err, "-accel kvm,kernel-irqchip=%s: must be on, split or off", value);
}

static bool parse_options(const char *text, bool *force, enum kvm_apic_place *irqchip, GError **err)
{
    struct opts *o = opts_parse(text, NULL);
    const char *value = opts_take(o, "force"), *key;
    opts_take(o, "thread"); /* one for each processor in any case */
    *force = false;
    bool ok = !value || parse_bool(value, force, err);
    if (!ok)
        g_prefix_error(err, "-accel kvm,force=%s: ", value);
    ok = ok && parse_irqchip(opts_take(o, "kernel-irqchip"), irqchip, err);
    if (ok && opts_next(o, &key, &value))
        ok = opts_error(err, "-accel kvm,%s: no such option; there are force and kernel-irqchip", key);
    opts_free(o);
    return ok;
}

/* Of a machine whose memory listener is not there yet, or no more. */
static void free_vm(struct kvm_vm *vm)
{
    struct machine *m = vm->m;
    for (unsigned k = 0; vm->vcpus && k < m->cpu_count; k++) {
        struct kvm_vcpu *v = &vm->vcpus[k];
        if (v->run)
            munmap(v->run, vm->run_size);
        if (v->fd >= 0)
            close(v->fd);
        g_clear_pointer(&v->misses, g_hash_table_destroy);
        if (vm->full_model)
            m->cpus[k]->model = vm->full_model;
    }
    g_free(vm->vcpus);
    cpu_model_free(vm->model);
    if (vm->fd >= 0)
        close(vm->fd);
    if (vm->kvm >= 0)
        close(vm->kvm);
    m->tsc = NULL;
    m->tsc_start = 0;
    m->tsc_start_ns = 0;
    g_free(vm);
}

static bool make_vcpus(struct kvm_vm *vm, GError **err)
{
    vm->vcpus = g_new0(struct kvm_vcpu, vm->m->cpu_count);
    for (unsigned k = 0; k < vm->m->cpu_count; k++)
        vm->vcpus[k].fd = -1;
    for (unsigned k = 0; k < vm->m->cpu_count; k++) {
        struct kvm_vcpu *v = &vm->vcpus[k];
        v->cpu = vm->m->cpus[k];
        v->vm = vm;
        v->tsc_offset = UINT64_MAX; /* unknown */
        v->misses = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, g_free);
        v->fd = kvm_make_vcpu(vm->fd, k, vm->run_size, &v->run, err);
        if (v->fd < 0)
            return false;
    }
    return true;
}

#define NAMED_MAX 6 /* features in a sentence */

/* What KVM lacks of the processor that the guest has seen, for a sentence; "" if nothing. */
static void describe_losses(const struct cpu_model *seen, const struct cpu_model *now, GString *out)
{
    unsigned count = 0;
    for (unsigned f = FEAT_NONE + 1; f < FEAT_COUNT; f++)
        if (cpu_model_has(seen, f) && !cpu_model_has(now, f) && count++ < NAMED_MAX)
            g_string_append_printf(out, "%s%s", count > 1 ? ", " : "it has ", cpu_features[f].name);
    if (count > NAMED_MAX)
        g_string_append_printf(out, " and %u features more", count - NAMED_MAX);
    if (cpu_model_has(now, FEAT_ARCH_CAPABILITIES) && now->exposed & ~seen->exposed)
        g_string_append_printf(out, "%sit has no leaks", out->len ? "; " : "");
    if (seen->tsc_hz != now->tsc_hz)
        g_string_append_printf(out, "%sits TSC runs at %" PRIu64 " Hz, this host's at %" PRIu64, out->len ? "; " : "",
                               seen->tsc_hz, now->tsc_hz);
}

/* A guest that has begun keeps the processor that it has seen, and its TSC goes on. */
static bool take_over(struct kvm_vm *vm, GError **err)
{
    struct clock *clock = vm->m->clock;
    if (!clock_starts(clock))
        return true;
    g_autoptr(GString) losses = g_string_new(NULL);
    describe_losses(vm->full_model, vm->model, losses);
    if (losses->len) {
        g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_FAILED,
                    "KVM: this guest has begun with a processor that KVM cannot be (%s): start it with -accel kvm and "
                    "move it from there",
                    losses->str);
        return false;
    }
    vm->tsc_base = clock_ticks(clock_now(clock), vm->model->tsc_hz) - __rdtsc();
    return true;
}

/* The processors become what KVM can be, too. */
static bool restrict_models(struct kvm_vm *vm, GError **err)
{
    struct machine *m = vm->m;
    if (!m->cpu_count)
        return true;
    int khz = ioctl(vm->vcpus[0].fd, KVM_GET_TSC_KHZ, 0);
    const struct cpu_model *full = m->cpus[0]->model;
    if (khz <= 0) {
        g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_FAILED, "KVM: this host has no stable time stamp counter");
        return false;
    }
    vm->model = kvm_restrict_model(vm->kvm, &vm->findings, (uint64_t)khz * 1000, full, err);
    if (!vm->model)
        return false;
    vm->full_model = full;
    if (!take_over(vm, err))
        return false;
    for (unsigned k = 0; k < m->cpu_count; k++)
        m->cpus[k]->model = vm->model;
    for (unsigned k = 0; k < m->cpu_count; k++)
        if (!kvm_set_cpuid(&vm->vcpus[k], err))
            return false;
    return true;
}

static uint64_t guest_tsc(void *opaque)
{
    const struct kvm_vm *vm = opaque;
    return __rdtsc() + vm->tsc_base;
}

/* Where PKRU lies in the host's XSAVE area. */
static unsigned find_pkru(void)
{
    unsigned a = 0, b = 0, c = 0, d = 0;
    __get_cpuid_count(0xd, 9, &a, &b, &c, &d);
    return a ? b : 2688;
}

/*
 * A guest's way into a mode, such as IRET, is no exit: modes cannot be kept apart while KVM runs the others. So what is
 * wrong is for another engine as a whole, or, with force=on, at the user's own risk; what is only slow is another's after
 * a while (kvm_backoff.c). Each says so in a line.
 */
static bool require_good(const struct kvm_findings *f, bool force, GError **err)
{
    g_autoptr(GString) flaws = g_string_new(NULL);
    kvm_describe_flaws(f, flaws);
    if (force && !kvm_is_sound(f))
        g_printerr("trapeze: warning: -accel kvm,force=on: guests will go wrong where this host's KVM does (%s)\n", flaws->str);
    else if (!force && kvm_is_good(f) && flaws->len)
        g_printerr("trapeze: note: this host's KVM has flaws (%s): guests that stay there get another engine\n", flaws->str);
    if (force || kvm_is_good(f))
        return true;
    g_set_error(err, ACCEL_ERROR, ACCEL_ERROR_UNFIT, "KVM: this host's cannot run guests by itself (%s)", flaws->str);
    return false;
}

static bool kvm_machine_init(struct engine *e, const char *options, GError **err)
{
    struct machine *m = e->machine;
    enum kvm_apic_place irqchip;
    bool force;
    if (!parse_options(options, &force, &irqchip, err))
        return false;
    struct kvm_vm *vm = g_new0(struct kvm_vm, 1);
    vm->m = m;
    vm->fd = -1;
    vm->pkru_offset = find_pkru();
    if (open_and_examine(&vm->kvm, true, &vm->findings, err) && require_good(&vm->findings, force, err))
        vm->fd = kvm_make_vm(vm->kvm, err);
    if (vm->fd >= 0) {
        vm->run_size = (size_t)ioctl(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
        if (kvm_apic_init(vm, irqchip, err) && make_vcpus(vm, err) && restrict_models(vm, err)) {
            e->data = vm;
            vm->engine = e;
            e->idles_inside = vm->split;
            vm->watch_modes = !force && kvm_emulates_some(&vm->findings);
            m->tsc = guest_tsc;
            m->tsc_opaque = vm;
            kvm_memory_start(vm);
            kvm_backoff_start(vm);
            return true;
        }
    }
    free_vm(vm);
    return false;
}

static void kvm_machine_fini(struct engine *e)
{
    struct kvm_vm *vm = e->data;
    kvm_backoff_stop(vm);
    kvm_memory_stop(vm);
    free_vm(vm);
}

static void kvm_info(struct engine *e, GString *out)
{
    struct kvm_vm *vm = e->data;
    kvm_print_findings(&vm->findings, out);
    g_string_append_printf(out, "local APICs are %s\n", vm->split ? "in the kernel" : "ours");
    kvm_backoff_info(vm, out);
    kvm_print_account(vm, out);
}

/* All vCPUs are made with the VM: only then are the processor's features known. */
static bool kvm_vcpu_init(struct engine *e, struct cpu *cpu, GError **err)
{
    return true;
}

static void kvm_vcpu_fini(struct engine *e, struct cpu *cpu)
{
}

static struct kvm_vcpu *vcpu_of(struct engine *e, const struct cpu *cpu)
{
    struct kvm_vm *vm = e->data;
    return &vm->vcpus[cpu->index];
}

/* --- Exits -------------------------------------------------------------------------------------------------------- */

/* Of the instruction behind an exit, if somebody listens to events; else it is not worth asking for. */
static uint64_t exit_rip(const struct kvm_vcpu *v)
{
    return v->run->kvm_valid_regs & KVM_SYNC_X86_REGS ? v->run->s.regs.regs.rip : 0;
}

static void access_event(const struct kvm_vcpu *v, enum event_kind kind, uint64_t where, uint64_t value, unsigned size,
                         bool write)
{
    if (event_wanted(kind))
        event_emit(&(struct event){ .kind = kind,
                                    .vcpu = v->cpu->index,
                                    .rip = exit_rip(v),
                                    .value = value,
                                    .size = size,
                                    .number = kind == EVENT_MMIO ? 0 : (uint32_t)where,
                                    .address = kind == EVENT_MMIO ? where : 0,
                                    .write = write });
}

static void do_ports(struct kvm_vcpu *v)
{
    struct kvm_run *run = v->run;
    uint8_t *data = (uint8_t *)run + run->io.data_offset;
    unsigned size = run->io.size;
    bool write = run->io.direction == KVM_EXIT_IO_OUT;
    for (unsigned k = 0; k < run->io.count; k++, data += size) {
        vm_lock();
        if (write)
            address_space_store(v->cpu->ports, run->io.port, ram_load(data, size), size);
        else
            ram_store(data, address_space_load(v->cpu->ports, run->io.port, size), size);
        vm_unlock();
        access_event(v, EVENT_PORT, run->io.port, ram_load(data, size), size, write);
    }
    v->io_exits++;
}

static void do_memory(struct kvm_vcpu *v)
{
    struct kvm_run *run = v->run;
    uint64_t addr = run->mmio.phys_addr;
    uint8_t *data = run->mmio.data;
    unsigned len = run->mmio.len;
    bool write = run->mmio.is_write, whole = len == 1 || len == 2 || len == 4 || len == 8;
    vm_lock();
    if (whole && write)
        address_space_store(v->cpu->memory, addr, ram_load(data, len), len);
    else if (whole)
        ram_store(data, address_space_load(v->cpu->memory, addr, len), len);
    else if (write)
        address_space_write(v->cpu->memory, addr, data, len);
    else
        address_space_read(v->cpu->memory, addr, data, len);
    vm_unlock();
    access_event(v, EVENT_MMIO, addr, whole ? ram_load(data, len) : 0, len, write);
    v->mmio_exits++;
}

/* Those that are in the processor come here only when it refuses the access. */
static bool is_processors_msr(uint32_t msr)
{
    return msr == 0x48 || msr == 0x49 || (msr >= 0x174 && msr <= 0x176) || (msr >= 0xc0000080 && msr <= 0xc0000084) ||
           (msr >= 0xc0000100 && msr <= 0xc0000103);
}

static void do_msr(struct kvm_vcpu *v, bool write)
{
    struct kvm_run *run = v->run;
    uint32_t msr = run->msr.index;
    uint64_t value = run->msr.data;
    bool ok = !is_processors_msr(msr) && (write ? cpu_wrmsr(v->cpu, msr, value) : cpu_rdmsr(v->cpu, msr, &value));
    run->msr.error = !ok;
    run->msr.data = value;
    if (ok)
        access_event(v, EVENT_MSR, msr, value, 8, write);
    v->msr_exits++;
}

/* The exits that KVM_RUN completes when it is called again. False: it is another one. */
static bool do_access(struct kvm_vcpu *v)
{
    switch (v->run->exit_reason) {
    case KVM_EXIT_IO: do_ports(v); break;
    case KVM_EXIT_MMIO: do_memory(v); break;
    case KVM_EXIT_X86_RDMSR: do_msr(v, false); break;
    case KVM_EXIT_X86_WRMSR: do_msr(v, true); break;
    default: return false;
    }
    v->unfinished = true;
    return true;
}

static void after_run(struct kvm_vcpu *v)
{
    struct cpu *cpu = v->cpu;
    v->ready = v->run->ready_for_interrupt_injection;
    v->unfinished = false;
    if (cpu->apic && !v->vm->split && cpu->apic_ops->tpr(cpu->apic) >> 4 != v->run->cr8)
        cpu->apic_ops->set_tpr(cpu->apic, (uint8_t)(v->run->cr8 << 4));
}

void kvm_finish_exit(struct kvm_vcpu *v)
{
    while (v->unfinished) {
        __atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
        int r = ioctl(v->fd, KVM_RUN, 0);
        after_run(v);
        if (r == 0)
            do_access(v); /* the instruction has more of them */
    }
}

static void note_exit(struct kvm_vcpu *v, int64_t start)
{
    v->exits++;
    if (event_wanted(EVENT_KVM_EXIT))
        event_emit(&(struct event){ .kind = EVENT_KVM_EXIT,
                                    .vcpu = v->cpu->index,
                                    .rip = exit_rip(v),
                                    .number = v->run->exit_reason,
                                    .cost = (uint32_t)(g_get_monotonic_time() - start) * 1000 });
}

static void halt(struct kvm_vcpu *v)
{
    v->cpu->activity = CPU_HALTED;
    if (event_wanted(EVENT_HLT))
        event_emit(&(struct event){ .kind = EVENT_HLT, .vcpu = v->cpu->index, .rip = exit_rip(v) });
}

/* False: vcpu_run is to be left for the reason in *why. */
static bool handle_exit(struct kvm_vcpu *v, enum cpu_exit *why)
{
    if (do_access(v))
        return true;
    switch (v->run->exit_reason) {
    case KVM_EXIT_INTR:
    case KVM_EXIT_IRQ_WINDOW_OPEN:
    case KVM_EXIT_SET_TPR: return true;
    case KVM_EXIT_IOAPIC_EOI: v->cpu->apic_ops->broadcast_eoi(v->cpu->apic, v->run->eoi.vector); return true;
    case KVM_EXIT_HLT: halt(v); return true;
    case KVM_EXIT_SHUTDOWN:
        kvm_explain_shutdown(v);
        *why = CPU_EXIT_SHUTDOWN;
        return false;
    default: return kvm_run_missed(v, why);
    }
}

/* --- Running ------------------------------------------------------------------------------------------------------ */

/* After a start of the clock: the first gives the TSC its place in virtual time; after a pause it goes on from there.
 */
static void follow_clock(struct kvm_vm *vm)
{
    struct machine *m = vm->m;
    bool taken = vm_lock_if_free();
    unsigned starts = clock_starts(m->clock);
    if (starts != vm->clock_starts) {
        int64_t now = clock_now(m->clock);
        if (!m->tsc_start) {
            m->tsc_start = guest_tsc(vm);
            m->tsc_start_ns = now;
        } else {
            uint64_t hz = vm->model->tsc_hz;
            vm->tsc_base += m->tsc_start + clock_ticks(now - m->tsc_start_ns, hz) - guest_tsc(vm);
        }
        vm->clock_starts = starts;
    }
    vm_unlock_if(taken);
}

static void kvm_resumed(struct engine *e)
{
    struct kvm_vm *vm = e->data;
    if (!vm->split)
        return;
    follow_clock(vm);
    kvm_apic_resumed(vm);
}

static void kvm_paused(struct engine *e)
{
    struct kvm_vm *vm = e->data;
    if (vm->split)
        kvm_apic_paused(vm);
}

/* A halted processor goes on if an interrupt has come that it lets in. */
static bool wakes_up(struct kvm_vcpu *v, uint32_t events)
{
    struct cpu *cpu = v->cpu;
    bool open = v->loaded ? v->run->if_flag : (cpu->rflags & FLAG_IF) != 0;
    bool wake = (events & CPU_EVENT_NMI && !(cpu->nmi_blocked && !v->loaded)) ||
                (events & CPU_EVENT_INTR && open && cpu->apic_ops->has_interrupt(cpu->apic));
    if (wake)
        cpu->activity = CPU_RUNNING;
    return wake;
}

/* One KVM_RUN, unless something has come up since `events` were looked at. False: vcpu_run is to be left. */
static bool run_once(struct kvm_vcpu *v, enum cpu_exit *why)
{
    struct kvm_run *run = v->run;
    run->kvm_valid_regs = (__atomic_load_n(&event_mask, __ATOMIC_RELAXED) ? KVM_SYNC_X86_REGS : 0) |
                          (v->vm->watch_modes ? KVM_SYNC_X86_SREGS : 0);
    v->thread = pthread_self();
    __atomic_store_n(&v->in_run, true, __ATOMIC_SEQ_CST);
    kvm_inject(v);
    uint32_t events = __atomic_load_n(&v->cpu->events, __ATOMIC_SEQ_CST);
    int r = -1, e = EINTR;
    if (!(events & ~(CPU_EVENT_INTR | CPU_EVENT_STEP)) && !(events & CPU_EVENT_INTR && v->ready)) {
        r = ioctl(v->fd, KVM_RUN, 0);
        e = errno;
        after_run(v);
    }
    __atomic_store_n(&v->in_run, false, __ATOMIC_SEQ_CST);
    if (r < 0)
        return e == EINTR || e == EAGAIN || kvm_run_missed(v, why);
    if (v->vm->watch_modes)
        kvm_watch_mode(v);
    int64_t start = event_wanted(EVENT_KVM_EXIT) ? g_get_monotonic_time() : 0;
    bool go_on = handle_exit(v, why);
    note_exit(v, start);
    return go_on;
}

static bool run_some(struct kvm_vcpu *v, enum cpu_exit *why)
{
    struct cpu *cpu = v->cpu;
    __atomic_store_n(&v->run->immediate_exit, 0, __ATOMIC_SEQ_CST); /* who kicks from here on is seen */
    uint32_t events = __atomic_load_n(&cpu->events, __ATOMIC_SEQ_CST);
    *why = CPU_EXIT_KICK;
    if (events & CPU_EVENT_KICK) {
        cpu_event_clear(cpu, CPU_EVENT_KICK);
        return false;
    }
    cpu_take_memory_events(cpu, events);
    if (kvm_needs_software(v, events))
        return kvm_run_software(v, why);
    if (cpu->activity == CPU_HALTED && !v->vm->split && !wakes_up(v, events)) {
        *why = CPU_EXIT_HALT;
        return false;
    }
    if (!kvm_load(v))
        return kvm_run_missed(v, why);
    kvm_set_tsc(v);
    return run_once(v, why);
}

/* The state moves when KVM is first to run. Whoever had it may have changed page tables. */
static void kvm_vcpu_enter(struct engine *e, struct cpu *cpu)
{
    vcpu_of(e, cpu)->flushes = UINT64_MAX;
}

static void kvm_vcpu_leave(struct engine *e, struct cpu *cpu)
{
    if (!kvm_unload(vcpu_of(e, cpu)))
        machine_request(cpu->machine, REQUEST_RESET, "triple fault");
    kvm_distrust_code(cpu);
}

static enum cpu_exit kvm_vcpu_run(struct engine *e, struct cpu *cpu)
{
    struct kvm_vcpu *v = vcpu_of(e, cpu);
    enum cpu_exit why;
    follow_clock(v->vm);
    while (run_some(v, &why))
        ;
    if (v->loaded) { /* what cpu_has_work() asks */
        cpu->rflags = v->run->if_flag ? cpu->rflags | FLAG_IF : cpu->rflags & ~(uint64_t)FLAG_IF;
        cpu->nmi_blocked = false;
    }
    return why;
}

static void kvm_vcpu_kick(struct engine *e, struct cpu *cpu)
{
    struct kvm_vcpu *v = vcpu_of(e, cpu);
    __atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&v->in_run, __ATOMIC_SEQ_CST))
        pthread_kill(v->thread, KVM_KICK_SIGNAL);
}

const struct accel_ops kvm_accel = {
    .name = "kvm",
    .description = "the host's processor runs the guest, in the kernel's KVM",
    .options = "kernel-irqchip=split|off (local APICs in the kernel or outside), "
               "force=on|off (on: also where it is wrong, and all of the time where it is slow; for tests)",
    .help = kvm_help,
    .probe = kvm_probe,
    .rank = kvm_rank,
    .machine_init = kvm_machine_init,
    .machine_fini = kvm_machine_fini,
    .vcpu_init = kvm_vcpu_init,
    .vcpu_fini = kvm_vcpu_fini,
    .vcpu_enter = kvm_vcpu_enter,
    .vcpu_leave = kvm_vcpu_leave,
    .resumed = kvm_resumed,
    .paused = kvm_paused,
    .vcpu_run = kvm_vcpu_run,
    .vcpu_kick = kvm_vcpu_kick,
    .info = kvm_info,
};
