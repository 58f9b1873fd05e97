/*
 * The local APIC's way into the APIC that a kernel's KVM has for the same processor, and back. See lapic.c.
 *
 * The image is the register page (SDM volume 3, table "Local APIC Register Address Map"), in which the timer is a
 * current count or a TSC deadline. A one-shot timer that has run out may have its interrupt in it or may still owe it,
 * which no kernel tells: it interrupts once more, since a lost tick would stop some guests for ever and one too many
 * stops none.
 *
 * Pins stay here: the 8259A's through pic_asks and pic_acknowledge, if the kernel's LINT0 lets it; LINT1 is taken for
 * an NMI whatever its entry says, and a level-triggered LINT is not sent again.
 *
 * VM lock.
 */
#include "hw/irq/lapic_internal.h"

#include "cpu/cpu.h"
#include "hw/core/machine.h"
#include "hw/core/vm_lock.h"

#include <string.h>

/* Registers that are nothing but a number. */
static const struct {
    uint16_t offset, field;
} plain[] = {
    { APIC_DFR, offsetof(struct lapic, dfr) },
    { APIC_SVR, offsetof(struct lapic, svr) },
    { APIC_ESR, offsetof(struct lapic, esr) },
    { APIC_INITIAL_COUNT, offsetof(struct lapic, initial_count) },
    { APIC_DIVIDE, offsetof(struct lapic, divide) },
};

static uint32_t *reg_field(struct lapic *l, unsigned k)
{
    return (uint32_t *)((char *)l + plain[k].field);
}

void lapic_to_kernel(void *apic, struct apic_image *out)
{
    struct lapic *l = apic;
    lapic_pv_eoi_sync(l);
    *out = (struct apic_image){ .base = l->base };
    for (unsigned k = 0; k < G_N_ELEMENTS(plain); k++)
        out->regs[plain[k].offset / 16] = *reg_field(l, k);
    for (unsigned k = 0; k < 8; k++) {
        out->regs[APIC_ISR / 16 + k] = l->isr[k];
        out->regs[APIC_TMR / 16 + k] = l->tmr[k];
        out->regs[APIC_IRR / 16 + k] = l->irr[k];
    }
    for (unsigned n = 0; n < LVT_COUNT; n++)
        out->regs[APIC_LVT / 16 + n] = l->lvt[n];
    lapic_read(l, APIC_VERSION, &out->regs[APIC_VERSION / 16]);
    out->regs[APIC_ID / 16] = l->index << 24; /* in this place whatever the mode is */
    out->regs[APIC_TPR / 16] = l->tpr;
    out->regs[APIC_LDR / 16] = l->ldr;
    out->regs[APIC_ICR_LOW / 16] = (uint32_t)l->icr;
    out->regs[APIC_ICR_HIGH / 16] = l->icr >> 32;
    out->regs[APIC_CURRENT_COUNT / 16] = lapic_timer_count(l);
    out->tsc_deadline = l->lvt[LVT_TIMER] & LVT_DEADLINE ? l->tsc_deadline : 0;
    lapic_timer_stop(l);
    memset(l->irr, 0, sizeof l->irr);
    l->in_kernel = true;
    lapic_update(l);
}

/* What a one-shot timer that has run out may still owe. */
static void settle_timer(struct lapic *l, uint32_t count)
{
    uint32_t lvt = l->lvt[LVT_TIMER], vector = lvt & LVT_VECTOR, bit = 1u << vector % 32;
    bool once = !(lvt & (LVT_PERIODIC | LVT_DEADLINE)), known = (l->irr[vector / 32] | l->isr[vector / 32]) & bit;
    lapic_timer_continue(l, count);
    if (once && l->initial_count && !count && !known)
        lapic_local_interrupt(l, LVT_TIMER);
}

void lapic_from_kernel(void *apic, const struct apic_image *in)
{
    struct lapic *l = apic;
    l->in_kernel = false;
    l->base = in->base & ~l->base_reserved;
    for (unsigned k = 0; k < G_N_ELEMENTS(plain); k++)
        *reg_field(l, k) = in->regs[plain[k].offset / 16];
    for (unsigned k = 0; k < 8; k++) {
        l->isr[k] = in->regs[APIC_ISR / 16 + k];
        l->tmr[k] = in->regs[APIC_TMR / 16 + k];
        l->irr[k] = in->regs[APIC_IRR / 16 + k];
    }
    for (unsigned n = 0; n < LVT_COUNT; n++)
        l->lvt[n] = in->regs[APIC_LVT / 16 + n] & (lapic_writable(l, APIC_LVT + 16 * n) | LVT_REMOTE_IRR);
    l->svr &= lapic_writable(l, APIC_SVR);
    l->divide &= lapic_writable(l, APIC_DIVIDE);
    l->tpr = (uint8_t)in->regs[APIC_TPR / 16];
    l->ldr = in->regs[APIC_LDR / 16];
    l->icr = in->regs[APIC_ICR_LOW / 16] & ~LVT_STATUS;
    l->icr |= (uint64_t)in->regs[APIC_ICR_HIGH / 16] << 32;
    lapic_map(l);
    if (l->lvt[LVT_TIMER] & LVT_DEADLINE)
        lapic_timer_set_deadline(l, in->tsc_deadline);
    else
        settle_timer(l, in->regs[APIC_CURRENT_COUNT / 16]);
    lapic_update(l);
}

/* --- While it is there -------------------------------------------------------------------------------------------- */

bool lapic_pic_asks(void *apic)
{
    struct lapic *l = apic;
    bool taken = vm_lock_if_free();
    lapic_update(l);
    bool asks = l->lint[0] || l->extint;
    vm_unlock_if(taken);
    return asks;
}

int lapic_pic_acknowledge(void *apic)
{
    struct lapic *l = apic;
    bool taken = vm_lock_if_free();
    l->extint = false;
    int vector = apic_bus_inta(l->dev.machine);
    lapic_update(l);
    vm_unlock_if(taken);
    return vector;
}

void lapic_broadcast_eoi(void *apic, uint8_t vector)
{
    struct lapic *l = apic;
    bool taken = vm_lock_if_free();
    apic_bus_eoi(l->dev.machine, vector);
    vm_unlock_if(taken);
}
