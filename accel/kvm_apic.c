/*
 * Local APICs in the kernel ("split irqchip"): the kernel's KVM has the processors' APICs with their timers, halts
 * processors, wakes them up and starts them; I/O APIC, 8259A and all else stay ours and send messages. IPIs, ends of
 * interrupts and timer settings then are no exits.
 *
 * Linux, Documentation/virt/kvm/api.rst. The state goes from the machine's APICs (hw/irq/lapic_kernel.c) into the kernel
 * when vCPUs are about to run, and back when all of them have left: only then nobody sends IPIs any more. So nothing
 * may be interpreted for one processor alone meanwhile: what would be (kvm_soft.c) has all of them move to another
 * engine for a while (kvm_backoff.c).
 *
 * The kernel tells of the end of those interrupts that its routing table says are level-triggered pins of the I/O APIC.
 * An 8259A's vector is put in as one that is being delivered: there it can be seen again if the vCPU leaves before.
 *
 * Not here: system management interrupts that a guest sends by IPI, which the kernel takes as its own.
 *
 * Main loop's thread with the VM lock, unless said otherwise.
 */
#include "accel/kvm_vm.h"

#include "cpu/model.h"
#include "cpu/pv.h"
#include "hw/core/vm_lock.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#define MSR_APIC_BASE 0x1b
#define MSR_TSC_DEADLINE 0x6e0
#define MSR_PV_EOI 0x4b564d04
#define KERNEL_TIMER_HZ 1000000000

static void must(int fd, unsigned long request, void *arg, const char *what)
{
    if (ioctl(fd, request, arg) < 0)
        g_error("KVM: %s: %s", what, g_strerror(errno));
}

/* --- Life --------------------------------------------------------------------------------------------------------- */

/* The reason why not, or NULL. */
static const char *unfit(const struct kvm_vm *vm)
{
    static const int needed[] = { KVM_CAP_SPLIT_IRQCHIP, KVM_CAP_IRQ_ROUTING, KVM_CAP_SIGNAL_MSI, KVM_CAP_MP_STATE,
                                  KVM_CAP_TSC_DEADLINE_TIMER };
    const struct machine *m = vm->m;
    uint32_t leaf[4];
    for (unsigned k = 0; k < G_N_ELEMENTS(needed); k++)
        if (ioctl(vm->kvm, KVM_CHECK_EXTENSION, (long)needed[k]) <= 0)
            return "this host's KVM has no local APICs";
    if (!m->cpu_count || !m->cpus[0]->apic)
        return "this machine has no local APICs";
    cpu_cpuid(m->cpus[0], 0x15, 0, leaf);
    if (leaf[2] && leaf[2] != KERNEL_TIMER_HZ)
        return "this processor's APIC timer has another rate than the kernel's";
    return NULL;
}

bool kvm_apic_init(struct kvm_vm *vm, enum kvm_apic_place want, GError **err)
{
    struct kvm_enable_cap cap = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args = { MSI_PINS } };
    const char *why = unfit(vm);
    /* Where KVM is no good much has to be interpreted. */
    if (want == KVM_APIC_OURS || (want == KVM_APIC_ANY && (why || !kvm_is_good(&vm->findings))))
        return true;
    if (why) {
        g_set_error(err, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, "-accel kvm,kernel-irqchip: %s", why);
        return false;
    }
    vm->split = kvm_do(vm->fd, KVM_ENABLE_CAP, &cap, "local APICs", err) && kvm_filter_msrs(vm->fd, true, err);
    return vm->split;
}

/* --- Messages ----------------------------------------------------------------------------------------------------- */

static bool send_message(void *opaque, const struct msi_message *msg)
{
    struct kvm_vm *vm = opaque;
    struct kvm_msi msi = { .address_lo = (uint32_t)msg->addr, .address_hi = msg->addr >> 32, .data = msg->data };
    return ioctl(vm->fd, KVM_SIGNAL_MSI, &msi) > 0;
}

/* Which pins are level-triggered, all anew. */
static void put_routes(struct kvm_vm *vm)
{
    struct {
        struct kvm_irq_routing head;
        struct kvm_irq_routing_entry e[MSI_PINS];
    } table = { 0 };
    for (unsigned pin = 0; pin < MSI_PINS; pin++) {
        const struct msi_message *msg = &vm->m->pins[pin];
        if (!msg->addr)
            continue;
        struct kvm_irq_routing_entry *e = &table.e[table.head.nr++];
        e->gsi = pin;
        e->type = KVM_IRQ_ROUTING_MSI;
        e->u.msi.address_lo = (uint32_t)msg->addr;
        e->u.msi.address_hi = msg->addr >> 32;
        e->u.msi.data = msg->data;
    }
    must(vm->fd, KVM_SET_GSI_ROUTING, &table, "interrupt routes");
}

static void pin_changed(void *opaque, unsigned pin)
{
    put_routes(opaque);
}

/* --- State -------------------------------------------------------------------------------------------------------- */

struct apic_msrs {
    struct kvm_msrs head;
    struct kvm_msr_entry e[3];
};

/* In this order; the last one only if the processor has it. */
static struct apic_msrs list_msrs(const struct kvm_vcpu *v)
{
    return (struct apic_msrs){
        .head.nmsrs = cpu_has(v->cpu, FEAT_KVM_PV_EOI) ? 3 : 2,
        .e = { { .index = MSR_APIC_BASE }, { .index = MSR_TSC_DEADLINE }, { .index = MSR_PV_EOI } },
    };
}

static void put_msr(struct kvm_vcpu *v, uint32_t msr, uint64_t value)
{
    struct apic_msrs l = { .head.nmsrs = 1, .e = { { .index = msr, .data = value } } };
    if (ioctl(v->fd, KVM_SET_MSRS, &l) != 1)
        g_error("KVM: processor %u does not take %#" PRIx64 " for MSR %#x", v->cpu->index, value, msr);
}

static uint32_t mp_state_of(const struct cpu *cpu)
{
    return cpu->activity == CPU_HALTED ? KVM_MP_STATE_HALTED :
           cpu->activity == CPU_WAIT_FOR_SIPI ? KVM_MP_STATE_INIT_RECEIVED :
                                                KVM_MP_STATE_RUNNABLE;
}

static void put_apic(struct kvm_vcpu *v)
{
    struct cpu *cpu = v->cpu;
    struct apic_image image;
    struct kvm_lapic_state state = { 0 };
    struct kvm_mp_state mp = { mp_state_of(cpu) };
    cpu->apic_ops->to_kernel(cpu->apic, &image);
    for (unsigned k = 0; k < G_N_ELEMENTS(image.regs); k++)
        memcpy(state.regs + 16 * k, &image.regs[k], 4);
    put_msr(v, MSR_APIC_BASE, image.base);
    must(v->fd, KVM_SET_LAPIC, &state, "state of a local APIC");
    put_msr(v, MSR_TSC_DEADLINE, image.tsc_deadline);
    if (cpu_has(cpu, FEAT_KVM_PV_EOI))
        put_msr(v, MSR_PV_EOI, cpu->pv_eoi);
    must(v->fd, KVM_SET_MP_STATE, &mp, "activity");
}

static void get_apic(struct kvm_vcpu *v, struct apic_image *image)
{
    struct kvm_lapic_state state;
    struct apic_msrs l = list_msrs(v);
    must(v->fd, KVM_GET_LAPIC, &state, "state of a local APIC");
    must(v->fd, KVM_GET_MSRS, &l, "MSRs of a local APIC");
    for (unsigned k = 0; k < G_N_ELEMENTS(image->regs); k++)
        memcpy(&image->regs[k], state.regs + 16 * k, 4);
    image->base = l.e[0].data;
    image->tsc_deadline = l.e[1].data;
    if (l.head.nmsrs == 3)
        v->cpu->pv_eoi = l.e[2].data;
    v->cpu->apic_ops->from_kernel(v->cpu->apic, image);
}

void kvm_apic_get_activity(struct kvm_vcpu *v)
{
    struct kvm_mp_state mp;
    must(v->fd, KVM_GET_MP_STATE, &mp, "activity"); /* an INIT or SIPI that has come is carried out first */
    v->cpu->activity = mp.mp_state == KVM_MP_STATE_HALTED ? CPU_HALTED :
                       mp.mp_state == KVM_MP_STATE_RUNNABLE ? CPU_RUNNING :
                                                              CPU_WAIT_FOR_SIPI;
}

/* INIT or SIPI may have come when the registers had left: then they are ours to carry out. */
static void take_late_start(struct kvm_vcpu *v)
{
    struct cpu *cpu = v->cpu;
    unsigned before = cpu->activity;
    struct kvm_sregs2 s;
    if (before == CPU_SHUTDOWN)
        return;
    kvm_apic_get_activity(v);
    bool waits = cpu->activity == CPU_WAIT_FOR_SIPI, waited = before == CPU_WAIT_FOR_SIPI;
    cpu->activity = before;
    if (waits && !waited)
        cpu_event_set(cpu, CPU_EVENT_INIT);
    if (waits || !waited)
        return;
    must(v->fd, KVM_GET_SREGS2, &s, "registers");
    __atomic_store_n(&cpu->sipi_vector, s.cs.selector >> 8, __ATOMIC_SEQ_CST);
    cpu_event_set(cpu, CPU_EVENT_SIPI);
}

/* --- To and fro --------------------------------------------------------------------------------------------------- */

void kvm_apic_resumed(struct kvm_vm *vm)
{
    struct machine *m = vm->m;
    for (unsigned k = 0; k < m->cpu_count; k++) {
        kvm_set_tsc(&vm->vcpus[k]); /* before the deadline */
        put_apic(&vm->vcpus[k]);
    }
    vm->sink = (struct msi_sink){ send_message, pin_changed, vm };
    m->msi_sink = &vm->sink;
    put_routes(vm);
}

static bool has_vector(const struct apic_image *a, unsigned vector)
{
    return (a->regs[0x10 + vector / 32] | a->regs[0x20 + vector / 32]) >> vector % 32 & 1; /* ISR, IRR */
}

/* Ends of interrupts that the kernel has not told of yet. */
static void find_ends(struct kvm_vm *vm, const struct apic_image *images)
{
    struct cpu *first = vm->m->cpus[0];
    for (unsigned pin = 0; pin < MSI_PINS; pin++) {
        unsigned vector = vm->m->pins[pin].data & 0xff;
        bool somewhere = !vm->m->pins[pin].addr;
        for (unsigned k = 0; k < vm->m->cpu_count; k++)
            somewhere |= has_vector(&images[k], vector);
        if (!somewhere)
            first->apic_ops->broadcast_eoi(first->apic, (uint8_t)vector); /* who does not wait for it ignores it */
    }
}

void kvm_apic_paused(struct kvm_vm *vm)
{
    struct machine *m = vm->m;
    g_autofree struct apic_image *images = g_new(struct apic_image, m->cpu_count);
    m->msi_sink = NULL;
    for (unsigned k = 0; k < m->cpu_count; k++) {
        take_late_start(&vm->vcpus[k]);
        get_apic(&vm->vcpus[k], &images[k]);
    }
    find_ends(vm, images);
}

/* --- While it runs: the vCPU's thread ----------------------------------------------------------------------------- */

void kvm_apic_deliver(struct kvm_vcpu *v, uint8_t vector)
{
    struct kvm_vcpu_events e;
    struct kvm_mp_state mp;
    must(v->fd, KVM_GET_VCPU_EVENTS, &e, "pending events");
    e.interrupt.injected = 1;
    e.interrupt.nr = vector;
    e.interrupt.soft = 0;
    must(v->fd, KVM_SET_VCPU_EVENTS, &e, "an interrupt");
    must(v->fd, KVM_GET_MP_STATE, &mp, "activity");
    if (mp.mp_state == KVM_MP_STATE_HALTED) {
        mp.mp_state = KVM_MP_STATE_RUNNABLE;
        must(v->fd, KVM_SET_MP_STATE, &mp, "activity");
    }
}

bool kvm_apic_hand_over(struct kvm_vcpu *v, enum cpu_exit *why)
{
    bool ok = kvm_unload(v);
    *why = ok ? CPU_EXIT_KICK : CPU_EXIT_SHUTDOWN;
    if (ok) {
        kvm_back_off(v->vm);
        g_usleep(50); /* the main loop is on its way */
    }
    return false;
}
