/*
 * Interrupts into KVM. Where the local APIC is ours (hw/irq/lapic.c) it says by CPU_EVENT_INTR that something waits, and
 * gives the vector when the guest can take it; where it is the kernel's (kvm_apic.c) the 8259A does so. KVM tells at
 * each exit whether it can, and exits as soon as it can if asked.
 *
 * Thread: the vCPU's.
 */
#include "accel/kvm_vm.h"

#include "cpu/pv.h"

#include <sys/ioctl.h>

static void inject_nmi(struct kvm_vcpu *v)
{
    cpu_event_clear(v->cpu, CPU_EVENT_NMI);
    int r = ioctl(v->fd, KVM_NMI, 0); /* KVM waits for IRET by itself */
    g_assert(r == 0);
}

static void inject_vector(struct kvm_vcpu *v)
{
    struct cpu *cpu = v->cpu;
    /* Cleared first: the APIC posts again if more comes while we ask. */
    cpu_event_clear(cpu, CPU_EVENT_INTR);
    int vector = cpu->apic_ops->acknowledge(cpu->apic);
    if (vector < 0)
        return;
    struct kvm_interrupt irq = { .irq = (uint32_t)vector };
    int r = ioctl(v->fd, KVM_INTERRUPT, &irq);
    g_assert(r == 0);
    v->ready = false;
    cpu_pv_account(cpu);
}

/* With local APICs in the kernel only the 8259A asks here; `ready` says that the kernel's LINT0 lets it, too. */
static void inject_from_pic(struct kvm_vcpu *v, uint32_t events)
{
    struct cpu *cpu = v->cpu;
    bool asks = events & CPU_EVENT_INTR && cpu->apic_ops->pic_asks(cpu->apic);
    if (asks && v->ready) {
        int vector = cpu->apic_ops->pic_acknowledge(cpu->apic);
        v->ready = false;
        if (vector >= 0)
            kvm_apic_deliver(v, (uint8_t)vector);
        asks = cpu->apic_ops->pic_asks(cpu->apic);
    }
    v->run->request_interrupt_window = asks;
    cpu_pv_account(cpu);
}

void kvm_inject(struct kvm_vcpu *v)
{
    struct cpu *cpu = v->cpu;
    uint32_t events = __atomic_load_n(&cpu->events, __ATOMIC_SEQ_CST);
    if (events & CPU_EVENT_NMI)
        inject_nmi(v);
    if (v->vm->split) {
        inject_from_pic(v, events);
        return;
    }
    if (events & CPU_EVENT_INTR && v->ready)
        inject_vector(v);
    bool more = __atomic_load_n(&cpu->events, __ATOMIC_SEQ_CST) & CPU_EVENT_INTR;
    v->run->request_interrupt_window = more && cpu->apic_ops->has_interrupt(cpu->apic);
    v->run->cr8 = cpu->apic ? cpu->apic_ops->tpr(cpu->apic) >> 4 : 0;
}
