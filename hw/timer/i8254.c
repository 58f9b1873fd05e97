/*
 * Intel 8254 programmable interval timer (datasheet 231164-005) with its three channels on one 1.193182 MHz clock.
 *
 * Nothing counts: a channel remembers at which tick of virtual time its counting element (CE) was loaded with which
 * count, and what it would hold now is computed when somebody asks. A host timer runs for channel 0's OUT alone. In
 * mode 2, the one tick for which OUT is low is not shown on the IRQ 0 wire at its time: the wire falls and rises at its
 * end.
 *
 * Not modelled: what a chip does that was given a count of 1 in modes 2 and 3 (taken as 2), and what CE holds before a
 * count was ever written (0).
 *
 * All under the VM lock.
 */
#include "hw/timer/i8254.h"

#include "hw/core/clock.h"
#include "hw/core/machine.h"
#include "hw/core/state.h"

#define CHANNELS 3
#define CONTROL_WORD 3 /* port offset */
#define NEVER UINT64_MAX

enum rw { RW_LATCH, RW_LSB, RW_MSB, RW_WORD };

struct channel {
    /* Programming */
    uint8_t mode; /* 0..5 */
    uint8_t rw;   /* enum rw, not RW_LATCH */
    bool bcd;
    bool gate;
    bool write_msb, read_msb; /* RW_WORD: the next byte is the upper one */
    uint8_t write_low;        /* lower byte of a count under way */
    uint8_t latched;          /* number of bytes of the output latch not yet read */
    uint16_t latch;
    bool status_latched;
    uint8_t status;
    /* Counting */
    bool has_count;   /* a count was written since the control word */
    bool null_count;  /* it has not reached CE */
    bool loading;     /* it will, at tick load_at */
    bool loaded;      /* CE was loaded since the control word; the fields below mean something */
    bool held;        /* GATE, or half a count in mode 0, stops counting: `elapsed` stands still */
    uint32_t count;   /* written last: 1..65536, or 1..10000 in BCD */
    uint32_t initial; /* what CE was loaded with */
    uint64_t load_at; /* ticks since virtual time began, as the next two */
    uint64_t start;   /* when CE was loaded, moved on by the time it was held */
    uint64_t elapsed; /* ticks counted, while held */
};

struct i8254 {
    struct device dev;
    struct mem_region ports;
    struct channel ch[CHANNELS];
    struct timer timer;
    uint64_t edge_at; /* tick for which the timer is set */
    struct irq_line irq;
    bool irq_level;
};

static uint64_t ticks_now(const struct i8254 *s)
{
    return clock_ticks(clock_now(s->dev.machine->clock), I8254_HZ);
}

/* --- Counting element ------------------------------------------------------------------------- */

static uint32_t modulus(const struct channel *c)
{
    return c->bcd ? 10000 : 65536;
}

static bool periodic(const struct channel *c)
{
    return c->mode == 2 || c->mode == 3;
}

/* Modes 1 and 5 start at a rising edge of GATE and do not care for its level. */
static bool gate_triggers_only(const struct channel *c)
{
    return c->mode == 1 || c->mode == 5;
}

/* Mode 3: ticks of the high half; the low one has the rest. */
static uint32_t high_half(uint32_t count)
{
    return (count + 1) / 2;
}

static uint64_t elapsed(const struct channel *c, uint64_t t)
{
    return c->held ? c->elapsed : t - c->start;
}

/* Moves the written count into CE at its tick. */
static void load(struct channel *c)
{
    uint64_t skip = 0;
    /* A count that waited for the end of mode 3's high half starts with the low one. */
    if (c->mode == 3 && c->loaded && !c->held && elapsed(c, c->load_at) % c->initial == high_half(c->initial))
        skip = high_half(c->count);
    c->initial = c->count;
    c->start = c->load_at - skip;
    c->elapsed = 0;
    c->held = !gate_triggers_only(c) && !c->gate;
    c->loaded = true;
    c->loading = false;
    c->null_count = false;
}

/* Brings the channel to tick t. */
static void channel_sync(struct channel *c, uint64_t t)
{
    if (c->loading && t >= c->load_at)
        load(c);
}

static bool channel_out(const struct channel *c, uint64_t t)
{
    if (!c->loaded)
        return c->mode != 0;
    uint64_t e = elapsed(c, t);
    switch (c->mode) {
    case 0: return e >= c->initial && !c->write_msb && !c->loading;
    case 1: return e >= c->initial;
    case 2: return c->held || e % c->initial != c->initial - 1;
    case 3: return c->held || e % c->initial < high_half(c->initial);
    default: return e != c->initial;
    }
}

/* CE as a number, before BCD. */
static uint32_t channel_value(const struct channel *c, uint64_t t)
{
    if (!c->loaded)
        return 0;
    uint64_t e = elapsed(c, t);
    uint32_t m = modulus(c), n = c->initial, r;
    switch (c->mode) {
    case 2: return (n - (uint32_t)(e % n)) % m;
    case 3:
        r = e % n;
        if (r >= high_half(n))
            r -= high_half(n);
        return ((n & ~1u) - 2 * r) % m;
    default: return (n + m - (uint32_t)(e % m)) % m;
    }
}

/* First tick after t at which OUT rises (or falls, where that is not at once followed by a rise), or NEVER. */
static uint64_t next_edge(const struct channel *c, uint64_t t)
{
    if (c->loading)
        return c->load_at; /* look again then */
    if (!c->loaded || c->held)
        return NEVER;
    uint64_t e = t - c->start, n = c->initial, phase = e % n;
    switch (c->mode) {
    case 2: return t + (n - phase);
    case 3: return t + (phase < high_half(n) ? high_half(n) - phase : n - phase);
    case 4:
    case 5: return e < n ? c->start + n : e == n ? t + 1 : NEVER;
    default: return e < n ? c->start + n : NEVER;
    }
}

/* --- OUT of channel 0 ------------------------------------------------------------------------- */

static void set_irq(struct i8254 *s, bool level)
{
    if (level == s->irq_level)
        return;
    s->irq_level = level;
    irq_set(&s->irq, level);
}

/* After a change of channel 0 at tick t: shows OUT and waits for its next edge. */
static void update_irq(struct i8254 *s, uint64_t t)
{
    const struct channel *c = &s->ch[0];
    set_irq(s, c->mode == 2 || channel_out(c, t));
    s->edge_at = next_edge(c, t);
    if (s->edge_at == NEVER)
        timer_cancel(&s->timer);
    else
        timer_set(&s->timer, clock_ticks_to_ns(s->edge_at, I8254_HZ));
}

static void on_edge(void *opaque)
{
    struct i8254 *s = opaque;
    struct channel *c = &s->ch[0];
    uint64_t t = MAX(s->edge_at, clock_ticks(clock_oldest_due(s->dev.machine->clock), I8254_HZ));
    bool period_ends = c->mode == 2 && c->loaded && !c->held;
    channel_sync(c, t);
    if (period_ends)
        set_irq(s, false);
    update_irq(s, t);
}

/* Before anything is changed at tick t: shows an edge for which the timer was too late, then brings channels to date.
 */
static void settle(struct i8254 *s, uint64_t t)
{
    if (s->edge_at <= t)
        on_edge(s);
    for (unsigned i = 0; i < CHANNELS; i++)
        channel_sync(&s->ch[i], t);
}

/* The channel at tick t, for looking only: a load of channel 0 is left to the timer, which shows its edge. */
static struct channel channel_at(const struct i8254 *s, unsigned n, uint64_t t)
{
    struct channel c = s->ch[n];
    channel_sync(&c, t);
    return c;
}

/* --- Programming ------------------------------------------------------------------------------ */

/* A complete count was written at tick t. */
static void start_count(struct channel *c, uint64_t t, uint16_t raw)
{
    uint32_t n = raw;
    if (c->bcd)
        n = (raw >> 12) * 1000 + (raw >> 8 & 15) * 100 + (raw >> 4 & 15) * 10 + (raw & 15);
    if (n == 0)
        n = modulus(c);
    if (n == 1 && periodic(c))
        n = 2;
    c->count = n;
    c->has_count = true;
    c->null_count = true;
    if (gate_triggers_only(c) || c->loading)
        return; /* loaded by the next trigger; or the tick stands at which CE is loaded, now with the newer count */
    if (!periodic(c) || !c->loaded) {
        c->loading = true;
        c->load_at = t + 1;
    } else if (!c->held) {
        /* At the end of the period, in mode 3 of the half period. Held: the gate's edge will load it. */
        uint64_t phase = elapsed(c, t) % c->initial, half = high_half(c->initial);
        c->loading = true;
        c->load_at = t + (c->mode == 3 && phase < half ? half - phase : c->initial - phase);
    }
}

static void write_count(struct channel *c, uint64_t t, uint8_t value)
{
    switch (c->rw) {
    case RW_LSB: start_count(c, t, value); return;
    case RW_MSB: start_count(c, t, value << 8); return;
    }
    c->write_msb = !c->write_msb;
    if (!c->write_msb) {
        start_count(c, t, value << 8 | c->write_low);
        return;
    }
    c->write_low = value;
    if (c->mode == 0) { /* the first byte stops counting and pulls OUT low */
        c->elapsed = c->loaded ? elapsed(c, t) : 0;
        c->held = true;
        c->loading = false;
    }
}

static uint16_t to_bcd(uint32_t n)
{
    return n / 1000 % 10 << 12 | n / 100 % 10 << 8 | n / 10 % 10 << 4 | n % 10;
}

static uint16_t read_value(const struct channel *c, uint64_t t)
{
    uint32_t value = channel_value(c, t);
    return c->bcd ? to_bcd(value) : value;
}

static void latch_count(struct channel *c, uint64_t t)
{
    if (c->latched)
        return; /* ignored until the first one was read */
    c->latch = read_value(c, t);
    c->latched = c->rw == RW_WORD ? 2 : 1;
}

static void latch_status(struct channel *c, uint64_t t)
{
    if (c->status_latched)
        return;
    c->status_latched = true;
    c->status = channel_out(c, t) << 7 | c->null_count << 6 | c->rw << 4 | c->mode << 1 | c->bcd;
}

static void read_back(struct i8254 *s, uint64_t t, uint8_t value)
{
    for (unsigned i = 0; i < CHANNELS; i++) {
        if (!(value & 2u << i))
            continue;
        if (!(value & 0x20))
            latch_count(&s->ch[i], t);
        if (!(value & 0x10))
            latch_status(&s->ch[i], t);
    }
}

static void write_control(struct i8254 *s, uint64_t t, uint8_t value)
{
    if (value >> 6 == 3) {
        read_back(s, t, value);
        return;
    }
    struct channel *c = &s->ch[value >> 6];
    uint8_t rw = value >> 4 & 3, mode = value >> 1 & 7;
    if (rw == RW_LATCH) {
        latch_count(c, t);
        return;
    }
    *c = (struct channel){
        .mode = mode > 5 ? mode - 4 : mode, .rw = rw, .bcd = value & 1, .gate = c->gate, .null_count = true
    };
}

static void pit_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct i8254 *s = opaque;
    uint64_t t = ticks_now(s);
    settle(s, t);
    if (offset == CONTROL_WORD)
        write_control(s, t, value);
    else
        write_count(&s->ch[offset], t, value);
    if (offset == 0 || offset == CONTROL_WORD)
        update_irq(s, t);
}

static uint64_t pit_read(void *opaque, uint64_t offset, unsigned size)
{
    struct i8254 *s = opaque;
    if (offset == CONTROL_WORD)
        return 0xff; /* write-only: the bus floats */
    struct channel *c = &s->ch[offset];
    if (c->status_latched) {
        c->status_latched = false;
        return c->status;
    }
    uint16_t value = c->latch;
    if (c->latched) {
        c->latched--;
    } else {
        uint64_t t = ticks_now(s);
        struct channel now = channel_at(s, offset, t);
        value = read_value(&now, t);
    }
    if (c->rw != RW_WORD)
        return c->rw == RW_MSB ? value >> 8 : value & 0xff;
    c->read_msb = !c->read_msb;
    return c->read_msb ? value & 0xff : value >> 8;
}

static const struct mem_ops port_ops = { .read = pit_read, .write = pit_write, .impl = { .min = 1, .max = 1 } };

/* --- Pins ------------------------------------------------------------------------------------- */

void i8254_set_irq(struct device *pit, struct irq_line irq)
{
    container_of(pit, struct i8254, dev)->irq = irq;
}

void i8254_set_gate(struct device *pit, unsigned channel, bool level)
{
    struct i8254 *s = container_of(pit, struct i8254, dev);
    g_assert(channel < CHANNELS);
    struct channel *c = &s->ch[channel];
    if (c->gate == level)
        return;
    uint64_t t = ticks_now(s);
    settle(s, t);
    c->gate = level;
    bool half_written = c->mode == 0 && c->write_msb; /* stands still anyway; the load will look at GATE */
    if (level && (gate_triggers_only(c) || periodic(c))) {
        c->loading = c->has_count;
        c->load_at = t + 1;
    } else if (c->loaded && !gate_triggers_only(c) && !half_written) {
        if (level) {
            c->start = t - c->elapsed;
        } else {
            c->elapsed = elapsed(c, t);
            if (periodic(c))
                c->loading = false; /* the next rising edge loads what was written */
        }
        c->held = !level;
    }
    if (channel == 0)
        update_irq(s, t);
}

bool i8254_gate(struct device *pit, unsigned channel)
{
    g_assert(channel < CHANNELS);
    return container_of(pit, struct i8254, dev)->ch[channel].gate;
}

bool i8254_out(struct device *pit, unsigned channel)
{
    struct i8254 *s = container_of(pit, struct i8254, dev);
    g_assert(channel < CHANNELS);
    uint64_t t = ticks_now(s);
    struct channel c = channel_at(s, channel, t);
    return channel_out(&c, t);
}

/* --- Device ----------------------------------------------------------------------------------- */

static bool realize(struct device *d, GError **err)
{
    struct i8254 *s = container_of(d, struct i8254, dev);
    timer_init(&s->timer, d->machine->clock, on_edge, s);
    mem_init_io(&s->ports, d, &port_ops, s, "pit", 4);
    mem_map(&d->machine->port_root, 0x40, &s->ports, 0);
    return true;
}

static void unrealize(struct device *d)
{
    struct i8254 *s = container_of(d, struct i8254, dev);
    timer_cancel(&s->timer);
    mem_fini(&s->ports);
}

/* The chip has no reset pin and powers up undefined: here with all channels stopped and OUT low. */
static void reset(struct device *d)
{
    struct i8254 *s = container_of(d, struct i8254, dev);
    for (unsigned i = 0; i < CHANNELS; i++)
        s->ch[i] = (struct channel){ .rw = RW_WORD, .gate = i != 2 };
    timer_cancel(&s->timer);
    s->edge_at = NEVER;
    s->irq_level = false;
}

static void reset_wires(struct device *d)
{
    irq_set(&container_of(d, struct i8254, dev)->irq, 0);
}

static bool post_load(void *instance, uint8_t version, GError **err)
{
    struct i8254 *s = instance;
    for (unsigned i = 0; i < CHANNELS; i++) {
        struct channel *c = &s->ch[i];
        if (c->mode > 5 || c->rw == RW_LATCH || c->rw > RW_WORD || c->latched > 2 || c->count > 65536 ||
            c->initial > 65536 || (c->loaded && !c->initial) || (c->loading && !c->count)) {
            g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_INVAL, "i8254: saved state out of range");
            return false;
        }
    }
    return true;
}

static const struct state_field channel_fields[] = {
    STATE_FIELD(STATE_U8, struct channel, mode),         STATE_FIELD(STATE_U8, struct channel, rw),
    STATE_FIELD(STATE_BOOL, struct channel, bcd),        STATE_FIELD(STATE_BOOL, struct channel, gate),
    STATE_FIELD(STATE_BOOL, struct channel, write_msb),  STATE_FIELD(STATE_BOOL, struct channel, read_msb),
    STATE_FIELD(STATE_U8, struct channel, write_low),    STATE_FIELD(STATE_U8, struct channel, latched),
    STATE_FIELD(STATE_U16, struct channel, latch),       STATE_FIELD(STATE_BOOL, struct channel, status_latched),
    STATE_FIELD(STATE_U8, struct channel, status),       STATE_FIELD(STATE_BOOL, struct channel, has_count),
    STATE_FIELD(STATE_BOOL, struct channel, null_count), STATE_FIELD(STATE_BOOL, struct channel, loading),
    STATE_FIELD(STATE_BOOL, struct channel, loaded),     STATE_FIELD(STATE_BOOL, struct channel, held),
    STATE_FIELD(STATE_U32, struct channel, count),       STATE_FIELD(STATE_U32, struct channel, initial),
    STATE_FIELD(STATE_U64, struct channel, load_at),     STATE_FIELD(STATE_U64, struct channel, start),
    STATE_FIELD(STATE_U64, struct channel, elapsed),     STATE_FIELDS_END,
};

static const struct state_field fields[] = {
    STATE_NESTED_ARRAY(struct i8254, ch, channel_fields),
    STATE_FIELD(STATE_TIMER, struct i8254, timer),
    STATE_FIELD(STATE_U64, struct i8254, edge_at),
    STATE_FIELD(STATE_BOOL, struct i8254, irq_level),
    STATE_FIELDS_END,
};

static const struct state_table state = { .name = "i8254", .version = 1, .fields = fields, .post_load = post_load };

const struct device_type i8254_type = {
    .name = "isa-pit",
    .description = "8254 interval timer",
    .bus = "isa",
    .size = sizeof(struct i8254),
    .realize = realize,
    .reset = reset,
    .reset_wires = reset_wires,
    .unrealize = unrealize,
    .state = &state,
};
