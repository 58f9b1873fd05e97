/*
 * The local APIC as its processor sees it: struct cpu_apic_ops. See lapic.c.
 *
 * Paravirtual EOI (MSR_KVM_PV_EOI_EN): when an edge-triggered interrupt is acknowledged and no other waits, the guest's
 * flag is set; a guest that finds it set clears it in place of writing EOI. When the guest turns to the APIC again, or
 * there is a new request, the flag is taken back, and if the guest has cleared it the EOI is made good.
 *
 * These run on the vCPU's thread and take the VM lock.
 */
#include "hw/irq/lapic_internal.h"

#include "cpu/cpu.h"
#include "hw/core/machine.h"
#include "hw/core/vm_lock.h"

#define PV_EOI_ENABLED 1u

/* --- Paravirtual EOI -------------------------------------------------------------------------- */

/* The flag's byte, to be changed atomically; NULL if the guest named no RAM. */
static uint8_t *pv_eoi_flag(struct lapic *l, uint64_t addr)
{
    uint64_t len = 1;
    return address_space_ram(l->cpu->memory, addr, &len, true);
}

void lapic_pv_eoi_sync(struct lapic *l)
{
    if (!l->pv_eoi)
        return;
    uint8_t *flag = pv_eoi_flag(l, l->pv_eoi);
    l->pv_eoi = 0;
    if (flag && !(__atomic_fetch_and(flag, (uint8_t)~1u, __ATOMIC_SEQ_CST) & 1))
        lapic_end_of_interrupt(l);
}

static void pv_eoi_offer(struct lapic *l, uint8_t vector)
{
    uint64_t addr = l->cpu->pv_eoi & ~(uint64_t)3;
    if (!(l->cpu->pv_eoi & PV_EOI_ENABLED) || (l->tmr[vector / 32] & 1u << vector % 32) || lapic_highest(l->irr) >= 0)
        return;
    uint8_t *flag = pv_eoi_flag(l, addr);
    if (!flag)
        return;
    __atomic_fetch_or(flag, 1, __ATOMIC_SEQ_CST);
    l->pv_eoi = addr;
}

/* --- Interrupts ------------------------------------------------------------------------------- */

static bool has_interrupt(void *apic)
{
    struct lapic *l = apic;
    bool taken = vm_lock_if_free();
    if (lapic_highest(l->irr) >= 0)
        lapic_pv_eoi_sync(l);
    lapic_update(l);
    bool has = lapic_pic_pending(l) || (lapic_enabled(l) && lapic_pending(l) >= 0);
    vm_unlock_if(taken);
    return has;
}

static int acknowledge_locked(struct lapic *l)
{
    lapic_pv_eoi_sync(l);
    if (lapic_pic_pending(l)) {
        l->extint = false;
        return apic_bus_inta(l->dev.machine);
    }
    int vector = lapic_enabled(l) ? lapic_pending(l) : -1;
    if (vector >= 0) {
        l->irr[vector / 32] &= ~(1u << vector % 32);
        l->isr[vector / 32] |= 1u << vector % 32;
        pv_eoi_offer(l, vector);
    }
    return vector;
}

static int acknowledge(void *apic)
{
    struct lapic *l = apic;
    bool taken = vm_lock_if_free();
    int vector = acknowledge_locked(l);
    lapic_update(l);
    vm_unlock_if(taken);
    return vector;
}

static uint8_t tpr(void *apic)
{
    struct lapic *l = apic;
    return l->tpr; /* nobody else changes it */
}

static void set_tpr(void *apic, uint8_t value)
{
    struct lapic *l = apic;
    bool taken = vm_lock_if_free();
    l->tpr = value;
    lapic_update(l);
    vm_unlock_if(taken);
}

static void send_ipi(void *apic, uint64_t icr)
{
    bool taken = vm_lock_if_free();
    lapic_send_ipi(apic, icr, true);
    vm_unlock_if(taken);
}

static void reset(void *apic, bool init)
{
    bool taken = vm_lock_if_free();
    lapic_reset(apic, init);
    vm_unlock_if(taken);
}

/* --- IA32_APIC_BASE --------------------------------------------------------------------------- */

static uint64_t base_msr(void *apic)
{
    struct lapic *l = apic;
    return l->base;
}

/* The state diagram of the SDM: disabled -> xAPIC -> x2APIC -> disabled, and xAPIC -> disabled. */
static bool transition_allowed(uint64_t from, uint64_t to)
{
    const uint64_t mode = BASE_ENABLE | BASE_X2APIC;
    from &= mode;
    to &= mode;
    switch (to) {
    case 0: return true;
    case BASE_ENABLE: return from != mode;
    case BASE_ENABLE | BASE_X2APIC: return from != 0;
    default: return false; /* x2APIC without enable */
    }
}

static bool set_base_msr(void *apic, uint64_t value)
{
    struct lapic *l = apic;
    if ((value & l->base_reserved) || !transition_allowed(l->base, value))
        return false;
    bool taken = vm_lock_if_free();
    lapic_pv_eoi_sync(l);
    bool was_x2apic = lapic_x2apic(l);
    bool disabled = lapic_enabled(l) && !(value & BASE_ENABLE);
    l->base = value;
    if (disabled)
        lapic_reset(l, true);
    if (lapic_x2apic(l) && !was_x2apic) {
        l->ldr = lapic_x2apic_ldr(l);
        l->icr &= UINT32_MAX;
    }
    lapic_map(l);
    lapic_update(l);
    vm_unlock_if(taken);
    return true;
}

/* --- x2APIC and TSC deadline MSRs ------------------------------------------------------------- */

static bool read_x2apic(struct lapic *l, unsigned offset, uint64_t *value)
{
    uint32_t low;
    switch (offset) {
    case APIC_ICR_LOW: *value = l->icr; return true;
    case APIC_EOI: /* write-only, or only there in an xAPIC */
    case APIC_APR:
    case APIC_RRD:
    case APIC_DFR:
    case APIC_ICR_HIGH: return false;
    }
    if (!lapic_read(l, offset, &low))
        return false;
    *value = low;
    return true;
}

static bool write_x2apic(struct lapic *l, unsigned offset, uint64_t value)
{
    uint32_t writable = lapic_writable(l, offset), ignored = 0;
    if (offset >= APIC_LVT && offset < APIC_INITIAL_COUNT)
        ignored = LVT_STATUS | LVT_REMOTE_IRR; /* read-only */
    switch (offset) {
    case APIC_LDR: /* read-only, or only there in an xAPIC */
    case APIC_DFR:
    case APIC_ICR_HIGH: return false;
    case APIC_EOI:
    case APIC_ESR:
        if (value)
            return false;
        break;
    case APIC_ICR_LOW:
        if ((uint32_t)value & ~(writable | LVT_STATUS))
            return false;
        l->icr = value & ~(uint64_t)LVT_STATUS;
        lapic_send_ipi(l, l->icr, true);
        return true;
    case APIC_SELF_IPI:
        if (value & ~(uint64_t)writable)
            return false;
        lapic_send_ipi(l, value | 1u << 18, true);
        return true;
    default:
        if (!writable)
            return false;
    }
    if (value & ~(uint64_t)(writable | ignored))
        return false;
    return lapic_write(l, offset, value);
}

static bool has_msr(const struct lapic *l, uint32_t msr)
{
    if (msr == MSR_TSC_DEADLINE)
        return l->has_deadline;
    return lapic_x2apic(l) && msr >= MSR_X2APIC && msr <= MSR_X2APIC + 0xff;
}

static bool read_msr(void *apic, uint32_t msr, uint64_t *value)
{
    struct lapic *l = apic;
    if (!has_msr(l, msr))
        return false;
    bool taken = vm_lock_if_free(), ok = true;
    lapic_pv_eoi_sync(l);
    if (msr == MSR_TSC_DEADLINE)
        *value = l->lvt[LVT_TIMER] & LVT_DEADLINE ? l->tsc_deadline : 0;
    else
        ok = read_x2apic(l, (msr - MSR_X2APIC) << 4, value);
    vm_unlock_if(taken);
    return ok;
}

static bool write_msr(void *apic, uint32_t msr, uint64_t value)
{
    struct lapic *l = apic;
    if (!has_msr(l, msr))
        return false;
    bool taken = vm_lock_if_free(), ok = true;
    lapic_pv_eoi_sync(l);
    if (msr != MSR_TSC_DEADLINE)
        ok = write_x2apic(l, (msr - MSR_X2APIC) << 4, value);
    else if (l->lvt[LVT_TIMER] & LVT_DEADLINE)
        lapic_timer_set_deadline(l, value);
    vm_unlock_if(taken);
    return ok;
}

const struct cpu_apic_ops lapic_cpu_ops = {
    .acknowledge = acknowledge,
    .has_interrupt = has_interrupt,
    .base_msr = base_msr,
    .set_base_msr = set_base_msr,
    .read_msr = read_msr,
    .write_msr = write_msr,
    .tpr = tpr,
    .set_tpr = set_tpr,
    .send_ipi = send_ipi,
    .reset = reset,
    .to_kernel = lapic_to_kernel,
    .from_kernel = lapic_from_kernel,
    .pic_asks = lapic_pic_asks,
    .pic_acknowledge = lapic_pic_acknowledge,
    .broadcast_eoi = lapic_broadcast_eoi,
};
