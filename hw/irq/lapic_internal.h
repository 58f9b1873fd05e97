/*
 * What the parts of the local APIC share: lapic.c (device, delivery, registers), lapic_timer.c, lapic_cpu.c (the
 * processor's side: acknowledge, MSRs, paravirtual EOI), lapic_kernel.c (to a kernel's APIC and back). All under the VM lock.
 */
#ifndef HW_IRQ_LAPIC_INTERNAL_H
#define HW_IRQ_LAPIC_INTERNAL_H

#include "hw/core/clock.h"
#include "hw/core/memory.h"
#include "hw/irq/apic_bus.h"
#include "hw/irq/lapic.h"

struct apic_image;
struct cpu;

/* Register offsets in the page; in x2APIC mode MSR 0x800 + offset / 16. */
enum {
    APIC_ID = 0x20,
    APIC_VERSION = 0x30,
    APIC_TPR = 0x80,
    APIC_APR = 0x90,
    APIC_PPR = 0xa0,
    APIC_EOI = 0xb0,
    APIC_RRD = 0xc0,
    APIC_LDR = 0xd0,
    APIC_DFR = 0xe0,
    APIC_SVR = 0xf0,
    APIC_ISR = 0x100,
    APIC_TMR = 0x180,
    APIC_IRR = 0x200,
    APIC_ESR = 0x280,
    APIC_ICR_LOW = 0x300,
    APIC_ICR_HIGH = 0x310,
    APIC_LVT = 0x320,
    APIC_INITIAL_COUNT = 0x380,
    APIC_CURRENT_COUNT = 0x390,
    APIC_DIVIDE = 0x3e0,
    APIC_SELF_IPI = 0x3f0,
};

/* Local vector table, in the order of its registers from APIC_LVT on. */
enum lvt { LVT_TIMER, LVT_THERMAL, LVT_PERF, LVT_LINT0, LVT_LINT1, LVT_ERROR, LVT_COUNT };

#define LVT_VECTOR 0xffu
#define LVT_DELIVERY_SHIFT 8
#define LVT_DELIVERY (7u << LVT_DELIVERY_SHIFT)
#define LVT_STATUS (1u << 12)
#define LVT_POLARITY (1u << 13)
#define LVT_REMOTE_IRR (1u << 14)
#define LVT_LEVEL (1u << 15)
#define LVT_MASK (1u << 16)
#define LVT_PERIODIC (1u << 17)
#define LVT_DEADLINE (1u << 18)

#define SVR_ENABLE (1u << 8)
#define SVR_FOCUS (1u << 9)
#define SVR_SUPPRESS_EOI (1u << 12)

#define BASE_BSP (1u << 8)
#define BASE_X2APIC (1u << 10)
#define BASE_ENABLE (1u << 11)
#define BASE_ADDRESS (~UINT64_C(0xfff))

#define ESR_SEND_VECTOR (1u << 5)
#define ESR_RECEIVE_VECTOR (1u << 6)
#define ESR_REGISTER (1u << 7)

struct lapic {
    struct device dev;
    struct apic_target target;
    uint32_t index; /* property: in machine->cpus; the APIC id */
    struct cpu *cpu;
    bool has_x2apic, has_deadline;
    uint64_t timer_hz;
    uint64_t base_reserved; /* bits of IA32_APIC_BASE that must be 0 */
    struct mem_region page; /* where the registers are if not at APIC_DEFAULT_BASE */
    uint64_t base;          /* IA32_APIC_BASE */
    uint8_t tpr;
    uint32_t ldr, dfr, svr;
    uint32_t esr, errors; /* as read; gathered since the last write */
    uint32_t isr[8], tmr[8], irr[8];
    uint64_t icr; /* xAPIC: ICR_HIGH in the upper half */
    uint32_t lvt[LVT_COUNT];
    bool lint[2];    /* pins as they are */
    bool extint;     /* an ExtINT message waits for its INTA */
    bool in_kernel;  /* a kernel's KVM has all but the pins (lapic_kernel.c) */
    uint64_t pv_eoi; /* guest-physical address of the flag that says "no EOI needed", while it is set; or 0 */
    /* Timer, in ticks of timer_hz since virtual time began */
    uint32_t initial_count;
    uint32_t divide;       /* the register */
    uint64_t expires;      /* 0: stopped */
    uint64_t tsc_deadline; /* 0: none */
    struct timer timer;
};

/* lapic.c */
static inline bool lapic_enabled(const struct lapic *l)
{
    return l->base & BASE_ENABLE;
}
static inline bool lapic_x2apic(const struct lapic *l)
{
    return (l->base & (BASE_ENABLE | BASE_X2APIC)) == (BASE_ENABLE | BASE_X2APIC);
}
/* The highest vector set, or -1. */
int lapic_highest(const uint32_t bits[8]);
uint8_t lapic_ppr(const struct lapic *l);
/* The vector that may interrupt now, or -1. */
int lapic_pending(const struct lapic *l);
/* The 8259A asks for INTA, and LINT0 or an ExtINT message lets it through. */
bool lapic_pic_pending(const struct lapic *l);
/* After any change: tells the vCPU whether there is an interrupt for it. */
void lapic_update(struct lapic *l);
void lapic_reset(struct lapic *l, bool init);
/* Puts the register page where base says. */
void lapic_map(struct lapic *l);
void lapic_accept(struct lapic *l, uint8_t vector, bool level);
void lapic_local_interrupt(struct lapic *l, enum lvt n);
void lapic_end_of_interrupt(struct lapic *l);
void lapic_send_ipi(struct lapic *l, uint64_t icr, bool wide);
uint32_t lapic_x2apic_ldr(const struct lapic *l);
/* False: no such register. */
bool lapic_read(struct lapic *l, unsigned offset, uint32_t *value);
bool lapic_write(struct lapic *l, unsigned offset, uint32_t value);
/* Bits of a register that can be written; 0: none. */
uint32_t lapic_writable(const struct lapic *l, unsigned offset);

/* lapic_timer.c */
void lapic_timer_init(struct lapic *l);
void lapic_timer_stop(struct lapic *l);
uint32_t lapic_timer_count(const struct lapic *l);
void lapic_timer_set_count(struct lapic *l, uint32_t count);
void lapic_timer_set_divide(struct lapic *l, uint32_t divide);
/* Before LVT_TIMER becomes `lvt`: a change of mode may stop it. */
void lapic_timer_set_mode(struct lapic *l, uint32_t lvt);
void lapic_timer_set_deadline(struct lapic *l, uint64_t tsc);
/* Goes on with a count of initial_count that was read elsewhere. */
void lapic_timer_continue(struct lapic *l, uint32_t count);

/* lapic_cpu.c */
extern const struct cpu_apic_ops lapic_cpu_ops;
/* lapic_kernel.c */
void lapic_to_kernel(void *apic, struct apic_image *out);
void lapic_from_kernel(void *apic, const struct apic_image *in);
bool lapic_pic_asks(void *apic);
int lapic_pic_acknowledge(void *apic);
void lapic_broadcast_eoi(void *apic, uint8_t vector);

/* On the vCPU's thread, or while it is paused: learns whether the guest took the shortcut, and takes it back. */
void lapic_pv_eoi_sync(struct lapic *l);

#endif
