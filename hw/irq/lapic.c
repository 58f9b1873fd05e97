/*
 * Local APIC: xAPIC, x2APIC and TSC deadline timer (Intel SDM volume 3A, chapter "Advanced Programmable Interrupt
 * Controller"), as on processors whose APIC id is fixed and whose IPIs are all edge-triggered.
 *
 * Its timer counts the crystal clock of CPUID leaf 15H, or 1 GHz if that leaf names none. On the boot processor LINT0
 * comes out of reset as ExtINT and not masked, so that the 8259A works without firmware. Not modelled: CMCI,
 * arbitration priority (reads 0), focus processor, remote read. A deadline is converted to virtual time when it is
 * written: whoever changes the TSC after that has to write the deadline again. A register page moved away from
 * 0xfee00000 is seen by its own processor alone; what lies under it is then hidden from the others.
 *
 * All under the VM lock; struct cpu_apic_ops (lapic_cpu.c) takes it. A vCPU is told by CPU_EVENT_INTR, which update()
 * alone sets and clears.
 */
#include "hw/irq/lapic_internal.h"

#include "cpu/cpu.h"
#include "hw/core/log.h"
#include "hw/core/machine.h"
#include "hw/core/state.h"

#include <string.h>

/* --- Vectors ---------------------------------------------------------------------------------- */

int lapic_highest(const uint32_t bits[8])
{
    for (int i = 7; i >= 0; i--)
        if (bits[i])
            return i * 32 + g_bit_nth_msf(bits[i], -1);
    return -1;
}

static bool get_bit(const uint32_t bits[8], uint8_t n)
{
    return bits[n / 32] & 1u << n % 32;
}

static void set_bit(uint32_t bits[8], uint8_t n, bool value)
{
    if (value)
        bits[n / 32] |= 1u << n % 32;
    else
        bits[n / 32] &= ~(1u << n % 32);
}

uint8_t lapic_ppr(const struct lapic *l)
{
    int n = lapic_highest(l->isr), in_service = n < 0 ? 0 : n & 0xf0;
    return (l->tpr & 0xf0) >= in_service ? l->tpr : in_service;
}

int lapic_pending(const struct lapic *l)
{
    int n = lapic_highest(l->irr);
    return n >= 0 && (n & 0xf0) > (lapic_ppr(l) & 0xf0) ? n : -1;
}

bool lapic_pic_pending(const struct lapic *l)
{
    uint32_t lint0 = l->lvt[LVT_LINT0];
    bool through =
        !lapic_enabled(l) || (!(lint0 & LVT_MASK) && (lint0 & LVT_DELIVERY) >> LVT_DELIVERY_SHIFT == APIC_EXTINT);
    return (l->lint[0] && through) || l->extint;
}

void lapic_update(struct lapic *l)
{
    /* While the guest may end an interrupt without telling us, any request is a reason to look. */
    bool wanted = l->in_kernel ? l->lint[0] || l->extint
                               : lapic_pic_pending(l) ||
                                     (lapic_enabled(l) &&
                                      (l->pv_eoi ? lapic_highest(l->irr) >= 0 : lapic_pending(l) >= 0));
    if (!wanted)
        cpu_event_clear(l->cpu, CPU_EVENT_INTR);
    else if (machine_current_cpu() == (int)l->index)
        cpu_event_set(l->cpu, CPU_EVENT_INTR);
    else if (!(__atomic_load_n(&l->cpu->events, __ATOMIC_SEQ_CST) & CPU_EVENT_INTR))
        cpu_post(l->cpu, CPU_EVENT_INTR);
}

static void error(struct lapic *l, uint32_t bit)
{
    bool told = l->errors & bit;
    l->errors |= bit;
    /* If it is the error interrupt's own vector that is illegal, nobody can be told. */
    if (!told && !(bit == ESR_RECEIVE_VECTOR && (l->lvt[LVT_ERROR] & LVT_VECTOR) < 16))
        lapic_local_interrupt(l, LVT_ERROR);
}

void lapic_accept(struct lapic *l, uint8_t vector, bool level)
{
    if (vector < 16) {
        error(l, ESR_RECEIVE_VECTOR);
        return;
    }
    set_bit(l->irr, vector, true);
    set_bit(l->tmr, vector, level);
    lapic_update(l);
}

/* --- Messages --------------------------------------------------------------------------------- */

static bool matches_logical(const struct lapic *l, const struct apic_message *msg)
{
    if (lapic_x2apic(l))
        return msg->dest >> 16 == l->ldr >> 16 && (msg->dest & l->ldr & 0xffff);
    if (msg->dest > 0xff)
        return false;
    uint8_t ldr = l->ldr >> 24, dest = msg->dest;
    if (l->dfr >> 28 == 0xf) /* flat */
        return ldr & dest;
    return ldr >> 4 == dest >> 4 && (ldr & dest & 15);
}

static bool matches(struct apic_target *t, const struct apic_message *msg)
{
    const struct lapic *l = container_of(t, struct lapic, target);
    if (!lapic_enabled(l))
        return false;
    if (msg->dest == (msg->wide ? UINT32_MAX : 0xff))
        return true;
    return msg->logical ? matches_logical(l, msg) : msg->dest == l->index;
}

/* SMI, NMI and INIT: what message and pin have in common. */
static void signal_cpu(struct lapic *l, unsigned delivery)
{
    if (delivery == APIC_SMI)
        cpu_post(l->cpu, CPU_EVENT_SMI);
    else if (delivery == APIC_NMI)
        cpu_post(l->cpu, CPU_EVENT_NMI);
    else if (delivery == APIC_INIT)
        cpu_post(l->cpu, CPU_EVENT_INIT);
}

static bool deliver(struct apic_target *t, const struct apic_message *msg)
{
    struct lapic *l = container_of(t, struct lapic, target);
    if (!lapic_enabled(l))
        return false;
    switch (msg->delivery) {
    case APIC_FIXED:
    case APIC_LOWEST:
        if (!(l->svr & SVR_ENABLE))
            return false;
        lapic_accept(l, msg->vector, msg->level_triggered);
        return true;
    case APIC_INIT:
        if (msg->assert) /* else it sets arbitration ids, which nobody has any more */
            signal_cpu(l, APIC_INIT);
        return true;
    case APIC_SMI:
    case APIC_NMI: signal_cpu(l, msg->delivery); return true;
    case APIC_STARTUP:
        __atomic_store_n(&l->cpu->sipi_vector, msg->vector, __ATOMIC_SEQ_CST);
        cpu_post(l->cpu, CPU_EVENT_SIPI);
        return true;
    case APIC_EXTINT:
        l->extint = true;
        lapic_update(l);
        return true;
    }
    return false;
}

void lapic_send_ipi(struct lapic *l, uint64_t icr, bool wide)
{
    struct machine *m = l->dev.machine;
    unsigned shorthand = icr >> 18 & 3;
    struct apic_message msg = {
        .dest = wide ? icr >> 32 : icr >> 56,
        .wide = wide,
        .logical = icr & 1u << 11,
        .delivery = icr >> 8 & 7,
        .vector = icr,
        .assert = !(icr & LVT_LEVEL) || (icr & 1u << 14),
    };
    if ((msg.delivery == APIC_FIXED || msg.delivery == APIC_LOWEST) && msg.vector < 16) {
        error(l, ESR_SEND_VECTOR);
        return;
    }
    switch (shorthand) {
    case 0: apic_bus_deliver(m, &msg); break;
    case 1:
        if (msg.delivery == APIC_FIXED)
            deliver(&l->target, &msg);
        else
            log_guest_error("apic", "IPI to self with delivery mode %u", msg.delivery);
        break;
    default: apic_bus_broadcast(m, &msg, shorthand == 3 ? (int)l->index : -1); break;
    }
}

/* --- Local vector table ----------------------------------------------------------------------- */

static unsigned lvt_delivery(enum lvt n, uint32_t lvt)
{
    return n == LVT_TIMER || n == LVT_ERROR ? APIC_FIXED : (lvt & LVT_DELIVERY) >> LVT_DELIVERY_SHIFT;
}

static bool lvt_is_level(enum lvt n, uint32_t lvt)
{
    return (lvt & LVT_LEVEL) && lvt_delivery(n, lvt) == APIC_FIXED;
}

void lapic_local_interrupt(struct lapic *l, enum lvt n)
{
    uint32_t *lvt = &l->lvt[n];
    if (*lvt & (LVT_MASK | LVT_REMOTE_IRR))
        return;
    unsigned delivery = lvt_delivery(n, *lvt);
    if (delivery != APIC_FIXED) {
        signal_cpu(l, delivery); /* ExtINT is a level that lapic_pic_pending() looks at */
        return;
    }
    if (lvt_is_level(n, *lvt))
        *lvt |= LVT_REMOTE_IRR;
    lapic_accept(l, *lvt & LVT_VECTOR, lvt_is_level(n, *lvt));
}

static void lint_input(void *opaque, int n, int level)
{
    struct lapic *l = opaque;
    bool rises = level && !l->lint[n];
    l->lint[n] = level;
    if (rises && lapic_enabled(l) && !l->in_kernel)
        lapic_local_interrupt(l, LVT_LINT0 + n);
    else if (rises && n == 1)
        signal_cpu(l, APIC_NMI);
    lapic_update(l);
}

struct irq_line lapic_lint(struct device *lapic, int n)
{
    g_assert(n == 0 || n == 1);
    return (struct irq_line){ lint_input, container_of(lapic, struct lapic, dev), n };
}

/* A level-triggered pin that is still up, after an EOI or a change of its entry. */
static void retry_lint(struct lapic *l)
{
    for (unsigned n = 0; n < 2; n++)
        if (l->lint[n] && lvt_is_level(LVT_LINT0 + n, l->lvt[LVT_LINT0 + n]))
            lapic_local_interrupt(l, LVT_LINT0 + n);
}

void lapic_end_of_interrupt(struct lapic *l)
{
    int vector = lapic_highest(l->isr);
    if (vector < 0)
        return;
    set_bit(l->isr, vector, false);
    if (get_bit(l->tmr, vector)) {
        for (unsigned n = LVT_LINT0; n <= LVT_LINT1; n++)
            if ((l->lvt[n] & LVT_VECTOR) == (unsigned)vector)
                l->lvt[n] &= ~LVT_REMOTE_IRR;
        retry_lint(l);
        if (!(l->svr & SVR_SUPPRESS_EOI))
            apic_bus_eoi(l->dev.machine, vector);
    }
    lapic_update(l);
}

/* --- Registers -------------------------------------------------------------------------------- */

uint32_t lapic_x2apic_ldr(const struct lapic *l)
{
    return l->index >> 4 << 16 | 1u << (l->index & 15);
}

static bool is_lvt(unsigned offset)
{
    return offset >= APIC_LVT && offset < APIC_LVT + 16 * LVT_COUNT;
}

bool lapic_read(struct lapic *l, unsigned offset, uint32_t *value)
{
    if (offset >= APIC_ISR && offset < APIC_ESR) {
        const uint32_t *bits = offset < APIC_TMR ? l->isr : offset < APIC_IRR ? l->tmr : l->irr;
        *value = bits[offset >> 4 & 7];
        return true;
    }
    if (is_lvt(offset)) {
        *value = l->lvt[(offset - APIC_LVT) / 16];
        return true;
    }
    switch (offset) {
    case APIC_ID: *value = lapic_x2apic(l) ? l->index : l->index << 24; return true;
    case APIC_VERSION: *value = 1u << 24 /* EOI suppression */ | (LVT_COUNT - 1) << 16 | 0x14; return true;
    case APIC_TPR: *value = l->tpr; return true;
    case APIC_PPR: *value = lapic_ppr(l); return true;
    case APIC_APR:
    case APIC_RRD:
    case APIC_EOI: *value = 0; return true;
    case APIC_LDR: *value = l->ldr; return true;
    case APIC_DFR: *value = l->dfr; return true;
    case APIC_SVR: *value = l->svr; return true;
    case APIC_ESR: *value = l->esr; return true;
    case APIC_ICR_LOW: *value = l->icr; return true;
    case APIC_ICR_HIGH: *value = l->icr >> 32; return true;
    case APIC_INITIAL_COUNT: *value = l->initial_count; return true;
    case APIC_CURRENT_COUNT: *value = lapic_timer_count(l); return true;
    case APIC_DIVIDE: *value = l->divide; return true;
    }
    return false;
}

uint32_t lapic_writable(const struct lapic *l, unsigned offset)
{
    static const uint32_t lvt_bits[LVT_COUNT] = {
        [LVT_TIMER] = LVT_VECTOR | LVT_MASK | LVT_PERIODIC,
        [LVT_THERMAL] = LVT_VECTOR | LVT_DELIVERY | LVT_MASK,
        [LVT_PERF] = LVT_VECTOR | LVT_DELIVERY | LVT_MASK,
        [LVT_LINT0] = LVT_VECTOR | LVT_DELIVERY | LVT_POLARITY | LVT_LEVEL | LVT_MASK,
        [LVT_LINT1] = LVT_VECTOR | LVT_DELIVERY | LVT_POLARITY | LVT_LEVEL | LVT_MASK,
        [LVT_ERROR] = LVT_VECTOR | LVT_MASK,
    };
    if (is_lvt(offset)) {
        unsigned n = (offset - APIC_LVT) / 16;
        return lvt_bits[n] | (n == LVT_TIMER && l->has_deadline ? LVT_DEADLINE : 0);
    }
    switch (offset) {
    case APIC_TPR: return 0xff;
    case APIC_EOI:
    case APIC_ESR:
    case APIC_INITIAL_COUNT: return UINT32_MAX;
    case APIC_LDR:
    case APIC_ICR_HIGH: return 0xff000000;
    case APIC_DFR: return 0xf0000000;
    case APIC_SVR: return 0xff | SVR_ENABLE | SVR_FOCUS | SVR_SUPPRESS_EOI;
    case APIC_ICR_LOW: return 0xccfff;
    case APIC_DIVIDE: return 0xb;
    case APIC_SELF_IPI: return 0xff;
    }
    return 0;
}

static void write_lvt(struct lapic *l, enum lvt n, uint32_t value)
{
    if (!(l->svr & SVR_ENABLE))
        value |= LVT_MASK;
    if (n == LVT_TIMER)
        lapic_timer_set_mode(l, value);
    l->lvt[n] = value | (lvt_is_level(n, value) ? l->lvt[n] & LVT_REMOTE_IRR : 0);
    retry_lint(l);
    lapic_update(l);
}

static void write_svr(struct lapic *l, uint32_t value)
{
    l->svr = value;
    for (unsigned n = 0; n < LVT_COUNT && !(value & SVR_ENABLE); n++)
        l->lvt[n] |= LVT_MASK;
    lapic_update(l);
}

bool lapic_write(struct lapic *l, unsigned offset, uint32_t value)
{
    uint32_t writable = lapic_writable(l, offset);
    value &= writable;
    if (is_lvt(offset)) {
        write_lvt(l, (offset - APIC_LVT) / 16, value);
        return true;
    }
    switch (offset) {
    case APIC_TPR:
        l->tpr = value;
        lapic_update(l);
        break;
    case APIC_EOI: lapic_end_of_interrupt(l); break;
    case APIC_LDR: l->ldr = value; break;
    case APIC_DFR: l->dfr = value | 0x0fffffff; break;
    case APIC_SVR: write_svr(l, value); break;
    case APIC_ESR:
        l->esr = l->errors;
        l->errors = 0;
        break;
    case APIC_ICR_LOW:
        l->icr = (l->icr & ~(uint64_t)UINT32_MAX) | (value & ~LVT_STATUS);
        lapic_send_ipi(l, l->icr, lapic_x2apic(l));
        break;
    case APIC_ICR_HIGH: l->icr = (l->icr & UINT32_MAX) | (uint64_t)value << 32; break;
    case APIC_INITIAL_COUNT: lapic_timer_set_count(l, value); break;
    case APIC_DIVIDE: lapic_timer_set_divide(l, value); break;
    }
    return writable;
}

/* --- Register page ---------------------------------------------------------------------------- */

static uint64_t page_read(struct lapic *l, unsigned offset, unsigned size)
{
    uint32_t value = 0;
    lapic_pv_eoi_sync(l);
    if ((offset & 15) + size > 4)
        return 0; /* the 12 bytes after each register are undefined */
    if (!lapic_read(l, offset & ~15u, &value)) {
        log_guest_error("apic", "read of register %#x", offset);
        error(l, ESR_REGISTER);
    }
    return value >> (offset & 3) * 8;
}

static void page_write(struct lapic *l, unsigned offset, uint32_t value, unsigned size)
{
    lapic_pv_eoi_sync(l);
    if (size != 4 || (offset & 15)) {
        log_guest_error("apic", "write of %u bytes at %#x", size, offset);
        return;
    }
    uint32_t ignored;
    bool known = lapic_read(l, offset, &ignored);
    if (offset == APIC_SELF_IPI || !known) {
        log_guest_error("apic", "write to register %#x", offset);
        error(l, ESR_REGISTER);
        return;
    }
    lapic_write(l, offset, value); /* those that are read-only ignore it */
}

/* The page is there at all, for this address. */
static bool page_at(const struct lapic *l, uint64_t addr)
{
    return lapic_enabled(l) && !lapic_x2apic(l) && (l->base & BASE_ADDRESS) == addr;
}

static uint64_t window_read(struct apic_target *t, unsigned offset, unsigned size)
{
    struct lapic *l = container_of(t, struct lapic, target);
    return page_at(l, APIC_DEFAULT_BASE) ? page_read(l, offset, size) : UINT64_MAX;
}

static void window_write(struct apic_target *t, unsigned offset, uint32_t value, unsigned size)
{
    struct lapic *l = container_of(t, struct lapic, target);
    if (page_at(l, APIC_DEFAULT_BASE))
        page_write(l, offset, value, size);
}

static uint64_t moved_read(void *opaque, uint64_t offset, unsigned size)
{
    struct lapic *l = opaque;
    return machine_current_cpu() == (int)l->index ? page_read(l, offset, size) : UINT64_MAX;
}

static void moved_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct lapic *l = opaque;
    if (machine_current_cpu() == (int)l->index)
        page_write(l, offset, value, size);
}

static const struct mem_ops page_ops = { .read = moved_read, .write = moved_write, .impl = { .min = 1, .max = 4 } };

void lapic_map(struct lapic *l)
{
    uint64_t addr = l->base & BASE_ADDRESS;
    bool moved = page_at(l, addr) && addr != APIC_DEFAULT_BASE;
    if (moved)
        mem_set_addr(&l->page, addr);
    mem_set_enabled(&l->page, moved);
}

/* --- Device ----------------------------------------------------------------------------------- */

/* INIT leaves IA32_APIC_BASE alone, and the pins are driven from outside. */
void lapic_reset(struct lapic *l, bool init)
{
    if (!init)
        l->base = APIC_DEFAULT_BASE | BASE_ENABLE | (l->cpu->boot_processor ? BASE_BSP : 0);
    l->tpr = 0;
    l->ldr = lapic_x2apic(l) ? lapic_x2apic_ldr(l) : 0;
    l->dfr = UINT32_MAX;
    l->svr = 0xff;
    l->esr = l->errors = 0;
    memset(l->isr, 0, sizeof l->isr);
    memset(l->tmr, 0, sizeof l->tmr);
    memset(l->irr, 0, sizeof l->irr);
    l->icr = 0;
    for (unsigned n = 0; n < LVT_COUNT; n++)
        l->lvt[n] = LVT_MASK;
    if (!init && l->cpu->boot_processor)
        l->lvt[LVT_LINT0] = APIC_EXTINT << LVT_DELIVERY_SHIFT;
    l->extint = false;
    l->pv_eoi = 0;
    l->initial_count = 0;
    l->divide = 0;
    lapic_timer_stop(l);
    lapic_map(l);
    lapic_update(l);
}

static bool realize(struct device *d, GError **err)
{
    struct lapic *l = container_of(d, struct lapic, dev);
    struct machine *m = d->machine;
    uint32_t leaf[4];
    g_assert(m->apic_bus && l->index < m->cpu_count);
    l->cpu = m->cpus[l->index];
    g_assert(l->cpu->apic_id == l->index);
    l->has_x2apic = cpu_has(l->cpu, FEAT_X2APIC);
    l->has_deadline = cpu_has(l->cpu, FEAT_TSC_DEADLINE);
    cpu_cpuid(l->cpu, 0x80000008, 0, leaf);
    l->base_reserved = UINT64_MAX << (leaf[0] & 0xff) | 0x2ff | (l->has_x2apic ? 0 : BASE_X2APIC);
    cpu_cpuid(l->cpu, 0x15, 0, leaf);
    l->timer_hz = leaf[2] ? leaf[2] : 1000000000;
    lapic_timer_init(l);
    l->target = (struct apic_target){ matches, deliver, window_read, window_write };
    mem_init_io(&l->page, d, &page_ops, l, "apic-page", PAGE_SIZE);
    mem_set_enabled(&l->page, false);
    mem_map(&m->memory_root, APIC_DEFAULT_BASE, &l->page, 2);
    apic_bus_attach(m, l->index, &l->target);
    l->cpu->apic = l;
    l->cpu->apic_ops = &lapic_cpu_ops;
    lapic_reset(l, false);
    return true;
}

/* The processor is gone already. */
static void unrealize(struct device *d)
{
    struct lapic *l = container_of(d, struct lapic, dev);
    timer_cancel(&l->timer);
    apic_bus_detach(d->machine, l->index);
    mem_fini(&l->page);
}

static void reset(struct device *d)
{
    struct lapic *l = container_of(d, struct lapic, dev);
    l->lint[0] = l->lint[1] = false;
    lapic_reset(l, false);
}

static bool post_load(void *instance, uint8_t version, GError **err)
{
    struct lapic *l = instance;
    bool ok = !(l->base & l->base_reserved) && (l->base & (BASE_X2APIC | BASE_ENABLE)) != BASE_X2APIC &&
              !(l->svr & ~lapic_writable(l, APIC_SVR)) && !(l->divide & ~0xbu) && !(l->expires && !l->initial_count);
    for (unsigned n = 0; n < LVT_COUNT; n++)
        ok = ok && !(l->lvt[n] & ~(lapic_writable(l, APIC_LVT + 16 * n) | LVT_REMOTE_IRR));
    if (!ok) {
        g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_INVAL, "apic: saved state out of range");
        return false;
    }
    lapic_map(l);
    lapic_update(l);
    return true;
}

static const struct prop props[] = {
    PROP(PROP_U32, "index", struct lapic, index, 0, "number of its processor"),
    PROPS_END,
};

static const struct state_field fields[] = {
    STATE_FIELD(STATE_U64, struct lapic, base),
    STATE_FIELD(STATE_U8, struct lapic, tpr),
    STATE_FIELD(STATE_U32, struct lapic, ldr),
    STATE_FIELD(STATE_U32, struct lapic, dfr),
    STATE_FIELD(STATE_U32, struct lapic, svr),
    STATE_FIELD(STATE_U32, struct lapic, esr),
    STATE_FIELD(STATE_U32, struct lapic, errors),
    STATE_ARRAY(STATE_U32, struct lapic, isr),
    STATE_ARRAY(STATE_U32, struct lapic, tmr),
    STATE_ARRAY(STATE_U32, struct lapic, irr),
    STATE_FIELD(STATE_U64, struct lapic, icr),
    STATE_ARRAY(STATE_U32, struct lapic, lvt),
    STATE_ARRAY(STATE_BOOL, struct lapic, lint),
    STATE_FIELD(STATE_BOOL, struct lapic, extint),
    STATE_FIELD(STATE_U64, struct lapic, pv_eoi),
    STATE_FIELD(STATE_U32, struct lapic, initial_count),
    STATE_FIELD(STATE_U32, struct lapic, divide),
    STATE_FIELD(STATE_U64, struct lapic, expires),
    STATE_FIELD(STATE_U64, struct lapic, tsc_deadline),
    STATE_FIELD(STATE_TIMER, struct lapic, timer),
    STATE_FIELDS_END,
};

static const struct state_table state = {
    .name = "apic",
    .version = 1,
    .fields = fields,
    .post_load = post_load,
};

const struct device_type lapic_type = {
    .name = "apic",
    .description = "Local APIC",
    .bus = "system",
    .size = sizeof(struct lapic),
    .props = props,
    .realize = realize,
    .reset = reset,
    .unrealize = unrealize,
    .state = &state,
};
