/*
 * IA-PC high precision event timers (specification 1.0a), as in the ICH: a 64-bit counter at 100 MHz, three or more
 * 64-bit timers that all can be periodic, legacy replacement, level and edge triggering. No FSB delivery.
 *
 * An edge-triggered timer keeps its wire high until its next interrupt, so that an 8259A finds it when it acknowledges.
 * A 32-bit one-shot timer also interrupts when the lower half of the counter wraps, as the specification has it. Timers
 * in the past fire when the counter comes round again, as in the chip. A period below 10 us interrupts only every so
 * many periods: no processor could follow, and the main loop would do nothing else.
 *
 * All under the VM lock.
 */
#include "hw/timer/hpet.h"

#include "hw/core/clock.h"
#include "hw/core/log.h"
#include "hw/core/machine.h"
#include "hw/core/state.h"

#define HZ UINT64_C(100000000)
#define TIMERS_MAX 24   /* as many as fit in HPET_SIZE */
#define MIN_COUNTS 1000 /* between two interrupts of a periodic timer */

#define REG_CAP 0x000
#define REG_CONF 0x010
#define REG_STATUS 0x020
#define REG_COUNTER 0x0f0
#define REG_TIMER0 0x100
#define TIMER_STRIDE 0x20
#define TIMER_CONF 0x00
#define TIMER_CMP 0x08
#define TIMER_FSB 0x10

#define CONF_ENABLE (1u << 0)
#define CONF_LEGACY (1u << 1)

#define TN_INT_TYPE (1u << 1) /* level */
#define TN_INT_ENB (1u << 2)
#define TN_TYPE (1u << 3) /* periodic */
#define TN_PER_INT_CAP (1u << 4)
#define TN_SIZE_CAP (1u << 5)
#define TN_VAL_SET (1u << 6)
#define TN_32MODE (1u << 8)
#define TN_ROUTE_SHIFT 9
#define TN_ROUTE (31u << TN_ROUTE_SHIFT)
#define TN_WRITABLE (TN_INT_TYPE | TN_INT_ENB | TN_TYPE | TN_VAL_SET | TN_32MODE | TN_ROUTE)

struct hpet_timer {
    struct hpet *hpet;
    uint32_t conf;     /* writable bits */
    uint64_t cmp;      /* comparator; of a periodic timer the next match */
    uint64_t period;   /* written last in periodic mode */
    bool out;          /* the wire of its own */
    uint64_t match_at; /* counter value for which `timer` is set */
    struct timer timer;
};

struct hpet {
    struct device dev;
    struct mem_region mmio;
    uint8_t timers;
    uint32_t intcap;
    uint32_t conf;    /* CONF_* */
    uint32_t status;  /* bit per level-triggered timer */
    uint64_t counter; /* while stopped */
    uint64_t start;   /* tick of virtual time at which a running counter would have been 0 */
    struct hpet_timer timer[TIMERS_MAX];
    bool legacy_in[2];
    struct irq_line out[HPET_OUTPUTS];
    uint32_t out_level; /* bit per output */
};

static uint64_t counter(const struct hpet *s)
{
    if (!(s->conf & CONF_ENABLE))
        return s->counter;
    return clock_ticks(clock_now(s->dev.machine->clock), HZ) - s->start;
}

/* --- Outputs ---------------------------------------------------------------------------------- */

static unsigned index_of(const struct hpet_timer *t)
{
    return t - t->hpet->timer;
}

/* The output that a timer drives, or -1: none. */
static int route(const struct hpet_timer *t)
{
    unsigned n = index_of(t);
    if ((t->hpet->conf & CONF_LEGACY) && n < 2)
        return n ? 8 : 0;
    unsigned gsi = (t->conf & TN_ROUTE) >> TN_ROUTE_SHIFT;
    return t->hpet->intcap & 1u << gsi ? (int)gsi : -1;
}

static void update_outputs(struct hpet *s)
{
    uint32_t level = 0;
    for (unsigned i = 0; i < s->timers; i++) {
        struct hpet_timer *t = &s->timer[i];
        int gsi = route(t);
        if (gsi >= 0 && t->out && (t->conf & TN_INT_ENB) && (s->conf & CONF_ENABLE))
            level |= 1u << gsi;
    }
    if (!(s->conf & CONF_LEGACY))
        level |= s->legacy_in[0] | s->legacy_in[1] << 8;
    uint32_t changed = level ^ s->out_level;
    s->out_level = level;
    for (int i = 0; i < HPET_OUTPUTS; i++)
        if (changed & 1u << i)
            irq_set(&s->out[i], !!(level & 1u << i));
}

/* Before a change of route or trigger mode: an old edge must not rise again elsewhere. A level lasts as long as its
 * status. */
static void drop_edge(struct hpet_timer *t)
{
    t->out = t->hpet->status & 1u << index_of(t);
}

static void interrupt(struct hpet_timer *t)
{
    struct hpet *s = t->hpet;
    if (t->conf & TN_INT_TYPE) {
        s->status |= 1u << index_of(t); /* also when the interrupt is not enabled */
    } else if (t->out) {
        t->out = false;
        update_outputs(s);
    }
    t->out = true;
    update_outputs(s);
}

static void legacy_input(void *opaque, int n, int level)
{
    struct hpet *s = opaque;
    s->legacy_in[n] = level;
    update_outputs(s);
}

struct irq_line hpet_legacy_input(struct device *hpet, int n)
{
    g_assert(n == 0 || n == 1);
    return (struct irq_line){ legacy_input, container_of(hpet, struct hpet, dev), n };
}

void hpet_set_output(struct device *hpet, int gsi, struct irq_line line)
{
    g_assert(gsi >= 0 && gsi < HPET_OUTPUTS);
    container_of(hpet, struct hpet, dev)->out[gsi] = line;
}

/* --- Timers ----------------------------------------------------------------------------------- */

static uint64_t size_mask(const struct hpet_timer *t)
{
    return t->conf & TN_32MODE ? UINT32_MAX : UINT64_MAX;
}

/* Counts from `now` until the timer interrupts next: 1..2^64-1, or 0 for a whole turn of 64 bits. */
static uint64_t counts_to_match(const struct hpet_timer *t, uint64_t now)
{
    if (!(t->conf & TN_32MODE))
        return t->cmp - now;
    uint32_t to_match = (uint32_t)(t->cmp - now), to_wrap = (uint32_t)(0 - now);
    if (t->conf & TN_TYPE)
        return to_match ? to_match : UINT64_C(1) << 32;
    return MIN(to_match - 1u, to_wrap - 1u) + UINT64_C(1); /* 0 counts as a whole turn: minus 1 makes it the largest */
}

/* Waits for the first match after counter value `now`. */
static void arm(struct hpet_timer *t, uint64_t now)
{
    struct hpet *s = t->hpet;
    uint64_t wait = counts_to_match(t, now);
    if (!(s->conf & CONF_ENABLE) || !wait || wait > INT64_MAX / (HPET_PERIOD_FS / 1000000) / 2) {
        timer_cancel(&t->timer); /* stopped, or not in this century */
        return;
    }
    t->match_at = now + wait;
    timer_set(&t->timer, clock_ticks_to_ns(s->start + t->match_at, HZ));
}

static void on_match(void *opaque)
{
    struct hpet_timer *t = opaque;
    struct hpet *s = t->hpet;
    uint64_t now = t->match_at, oldest = clock_ticks(clock_oldest_due(s->dev.machine->clock), HZ) - s->start;
    if ((t->conf & TN_TYPE) && t->period) {
        /* The comparator moves on by the period; periods missed for too long are passed over. */
        uint64_t steps = t->period < MIN_COUNTS ? MIN_COUNTS / t->period : 1;
        if ((int64_t)(oldest - now) > 0)
            steps += (oldest - now) / t->period;
        t->cmp = (t->cmp + steps * t->period) & size_mask(t);
        now += (steps - 1) * t->period;
    }
    arm(t, now);
    interrupt(t);
}

static void arm_all(struct hpet *s)
{
    uint64_t now = counter(s);
    for (unsigned i = 0; i < s->timers; i++)
        arm(&s->timer[i], now);
}

/* --- Registers -------------------------------------------------------------------------------- */

static uint64_t capabilities(const struct hpet *s)
{
    return (uint64_t)HPET_PERIOD_FS << 32 | 0x8086u << 16 | 1u << 15 /* LEG_RT_CAP */ | 1u << 13 /* COUNT_SIZE_CAP */ |
           (s->timers - 1u) << 8 | 1 /* REV_ID */;
}

static uint64_t read_timer(const struct hpet *s, const struct hpet_timer *t, unsigned reg)
{
    switch (reg) {
    case TIMER_CONF: return (uint64_t)s->intcap << 32 | t->conf | TN_PER_INT_CAP | TN_SIZE_CAP;
    case TIMER_CMP: return t->cmp;
    default: return 0;
    }
}

static uint64_t read_register(const struct hpet *s, unsigned reg)
{
    switch (reg) {
    case REG_CAP: return capabilities(s);
    case REG_CONF: return s->conf;
    case REG_STATUS: return s->status;
    case REG_COUNTER: return counter(s);
    }
    unsigned n = (reg - REG_TIMER0) / TIMER_STRIDE;
    if (reg < REG_TIMER0 || n >= s->timers)
        return 0;
    return read_timer(s, &s->timer[n], reg % TIMER_STRIDE);
}

static void write_conf(struct hpet *s, uint32_t value)
{
    uint32_t changed = (s->conf ^ value) & (CONF_ENABLE | CONF_LEGACY);
    uint64_t now = counter(s);
    s->conf ^= changed;
    if (changed & CONF_ENABLE) {
        s->counter = now;
        s->start = clock_ticks(clock_now(s->dev.machine->clock), HZ) - now;
        arm_all(s);
    }
    for (unsigned i = 0; changed && i < s->timers; i++)
        drop_edge(&s->timer[i]);
    update_outputs(s);
}

static void write_status(struct hpet *s, uint32_t value)
{
    uint32_t cleared = s->status & value;
    s->status &= ~value;
    for (unsigned i = 0; i < s->timers; i++)
        if (cleared & 1u << i)
            s->timer[i].out = false;
    update_outputs(s);
}

static void write_timer_conf(struct hpet_timer *t, uint32_t value)
{
    struct hpet *s = t->hpet;
    uint32_t before = t->conf;
    t->conf = value & TN_WRITABLE;
    if (!(t->conf & TN_TYPE))
        t->conf &= ~TN_VAL_SET; /* only means something in periodic mode */
    t->cmp &= size_mask(t);
    t->period &= size_mask(t);
    if (!(t->conf & TN_INT_TYPE))
        s->status &= ~(1u << index_of(t));
    if ((before ^ t->conf) & (TN_INT_TYPE | TN_INT_ENB | TN_ROUTE))
        drop_edge(t);
    update_outputs(s);
    arm(t, counter(s));
}

static void write_comparator(struct hpet_timer *t, uint64_t value, uint64_t mask)
{
    uint64_t sized = size_mask(t);
    if (!(t->conf & TN_TYPE) || (t->conf & TN_VAL_SET))
        t->cmp = ((t->cmp & ~mask) | (value & mask)) & sized;
    if (t->conf & TN_TYPE)
        t->period = ((t->period & ~mask) | (value & mask)) & sized;
    t->conf &= ~TN_VAL_SET;
    arm(t, counter(t->hpet));
}

/* Writes the bits of `mask` of the 64-bit register. */
static void write_register(struct hpet *s, unsigned reg, uint64_t value, uint64_t mask)
{
    switch (reg) {
    case REG_CONF:
        if (mask & UINT32_MAX)
            write_conf(s, value);
        return;
    case REG_STATUS: write_status(s, value & mask); return;
    case REG_COUNTER:
        if (s->conf & CONF_ENABLE)
            log_guest_error("hpet", "counter written while it runs");
        else
            s->counter = (s->counter & ~mask) | (value & mask);
        return;
    }
    unsigned n = (reg - REG_TIMER0) / TIMER_STRIDE;
    if (reg < REG_TIMER0 || n >= s->timers)
        return;
    if (reg % TIMER_STRIDE == TIMER_CONF && (mask & UINT32_MAX))
        write_timer_conf(&s->timer[n], value);
    else if (reg % TIMER_STRIDE == TIMER_CMP)
        write_comparator(&s->timer[n], value, mask);
}

static uint64_t hpet_read(void *opaque, uint64_t offset, unsigned size)
{
    uint64_t value = read_register(opaque, offset & ~7u);
    return size == 8 ? value : (uint32_t)(value >> (offset & 4) * 8);
}

static void hpet_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    unsigned shift = (offset & 4) * 8;
    uint64_t mask = size == 8 ? UINT64_MAX : (uint64_t)UINT32_MAX << shift;
    write_register(opaque, offset & ~7u, value << shift, mask);
}

static const struct mem_ops mmio_ops = {
    .read = hpet_read,
    .write = hpet_write,
    .valid = { .min = 4, .max = 8 },
    .impl = { .min = 4, .max = 8 },
};

/* --- Device ----------------------------------------------------------------------------------- */

static bool realize(struct device *d, GError **err)
{
    struct hpet *s = container_of(d, struct hpet, dev);
    if (s->timers < 3 || s->timers > TIMERS_MAX) {
        g_set_error(err, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, "hpet: timers=%u: has to be 3 to %d", s->timers,
                    TIMERS_MAX);
        return false;
    }
    for (unsigned i = 0; i < TIMERS_MAX; i++) {
        s->timer[i].hpet = s;
        timer_init(&s->timer[i].timer, d->machine->clock, on_match, &s->timer[i]);
    }
    mem_init_io(&s->mmio, d, &mmio_ops, s, "hpet", HPET_SIZE);
    mem_map(&d->machine->memory_root, HPET_BASE, &s->mmio, 1);
    return true;
}

static void unrealize(struct device *d)
{
    struct hpet *s = container_of(d, struct hpet, dev);
    for (unsigned i = 0; i < TIMERS_MAX; i++)
        timer_cancel(&s->timer[i].timer);
    mem_fini(&s->mmio);
}

static void reset(struct device *d)
{
    struct hpet *s = container_of(d, struct hpet, dev);
    s->conf = 0;
    s->status = 0;
    s->counter = 0;
    s->start = 0;
    s->out_level = 0;
    s->legacy_in[0] = s->legacy_in[1] = false;
    for (unsigned i = 0; i < TIMERS_MAX; i++) {
        struct hpet_timer *t = &s->timer[i];
        timer_cancel(&t->timer);
        t->conf = s->intcap ? (uint32_t)g_bit_nth_lsf(s->intcap, -1) << TN_ROUTE_SHIFT : 0;
        t->cmp = UINT64_MAX;
        t->period = 0;
        t->out = false;
        t->match_at = 0;
    }
}

static void reset_wires(struct device *d)
{
    struct hpet *s = container_of(d, struct hpet, dev);
    for (int i = 0; i < HPET_OUTPUTS; i++)
        if ((s->intcap | 0x101) & 1u << i) /* the others belong to somebody else */
            irq_set(&s->out[i], !!(s->out_level & 1u << i));
}

static bool post_load(void *instance, uint8_t version, GError **err)
{
    struct hpet *s = instance;
    bool ok = !(s->conf & ~(CONF_ENABLE | CONF_LEGACY));
    for (unsigned i = 0; i < TIMERS_MAX; i++) {
        struct hpet_timer *t = &s->timer[i];
        ok = ok && !(t->conf & ~TN_WRITABLE) && t->cmp <= size_mask(t) && t->period <= size_mask(t);
    }
    if (!ok)
        g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_INVAL, "hpet: saved state out of range");
    return ok;
}

static const struct prop props[] = {
    PROP(PROP_U8, "timers", struct hpet, timers, 3, "number of timers, 3 to 24"),
    PROP(PROP_U32, "hpet-intcap", struct hpet, intcap, 0xff0104, "interrupts that timers can be routed to, a bit each"),
    PROPS_END,
};

static const struct state_field timer_fields[] = {
    STATE_FIELD(STATE_U32, struct hpet_timer, conf),
    STATE_FIELD(STATE_U64, struct hpet_timer, cmp),
    STATE_FIELD(STATE_U64, struct hpet_timer, period),
    STATE_FIELD(STATE_BOOL, struct hpet_timer, out),
    STATE_FIELD(STATE_U64, struct hpet_timer, match_at),
    STATE_FIELD(STATE_TIMER, struct hpet_timer, timer),
    STATE_FIELDS_END,
};

static const struct state_field fields[] = {
    STATE_FIELD(STATE_U32, struct hpet, conf),
    STATE_FIELD(STATE_U32, struct hpet, status),
    STATE_FIELD(STATE_U64, struct hpet, counter),
    STATE_FIELD(STATE_U64, struct hpet, start),
    STATE_NESTED_ARRAY(struct hpet, timer, timer_fields),
    STATE_ARRAY(STATE_BOOL, struct hpet, legacy_in),
    STATE_FIELD(STATE_U32, struct hpet, out_level),
    STATE_FIELDS_END,
};

static const struct state_table state = { .name = "hpet", .version = 1, .fields = fields, .post_load = post_load };

const struct device_type hpet_type = {
    .name = "hpet",
    .description = "High precision event timers",
    .bus = "system",
    .size = sizeof(struct hpet),
    .props = props,
    .realize = realize,
    .reset = reset,
    .reset_wires = reset_wires,
    .unrealize = unrealize,
    .state = &state,
};
