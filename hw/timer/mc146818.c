/*
 * MC146818A real-time clock with CMOS memory as in the PIIX4 (datasheets ADI-856R2 and 290562-001 section 9): 128 bytes
 * behind ports 0x70/0x71 and another 128 behind 0x72/0x73, with the century in byte 0x32.
 *
 * Nothing ticks: the guest's time is the host's wall time plus an offset that the guest sets by writing the clock.
 * While the guest holds the clock (SET, divider reset) the registers are plain memory. Flags of register C are computed
 * from the time that went by since they were last looked at; a host timer runs only for an interrupt that is enabled.
 *
 * Not modelled: the square wave pin, daylight saving, the fast time bases (which count as 32768 Hz), dates that do not
 * exist (they are normalised when the clock starts).
 *
 * All under the VM lock.
 */
#include "hw/timer/mc146818.h"

#include "hw/core/clock.h"
#include "hw/core/machine.h"
#include "hw/core/state.h"

enum {
    SECONDS,
    SECONDS_ALARM,
    MINUTES,
    MINUTES_ALARM,
    HOURS,
    HOURS_ALARM,
    WEEKDAY,
    DAY,
    MONTH,
    YEAR,
    REG_A,
    REG_B,
    REG_C,
    REG_D,
    CENTURY = 0x32,
    BANK_SIZE = 0x80
};

#define REG_A_UIP 0x80
#define REG_B_SET 0x80
#define REG_B_PIE 0x40
#define REG_B_AIE 0x20
#define REG_B_UIE 0x10
#define REG_B_SQWE 0x08
#define REG_B_DM 0x04 /* binary */
#define REG_B_24 0x02
#define REG_C_IRQF 0x80
#define REG_C_PF 0x40
#define REG_C_AF 0x20
#define REG_C_UF 0x10
#define REG_C_FLAGS (REG_C_PF | REG_C_AF | REG_C_UF) /* each at the place of its enable in B */
#define REG_D_VRT 0x80
#define HOURS_PM 0x80
#define ALARM_ANY 0xc0

#define CRYSTAL_HZ 32768
#define UPDATE_NS 2228000 /* UIP: 244 us ahead of an update cycle of 1984 us, at whose end the time changes */
#define SECONDS_PER_DAY 86400

struct mc146818 {
    struct device dev;
    struct mem_region ports;
    uint8_t index, extended_index;
    bool nmi_masked;
    uint8_t ram[2 * BANK_SIZE];
    /* Guest's time is the wall's plus this; offset_ns is 0..10^9-1. */
    int64_t offset_s, offset_ns;
    uint8_t weekday_shift; /* 0..6: how far the guest's weekday is ahead of the date's */
    int64_t checked;       /* UF and AF are known up to this second of the guest's time */
    uint64_t periods;      /* PF is known up to this period of virtual time */
    struct timer timer;
    struct irq_line irq;
};

/* --- Calendar: proleptic Gregorian, days since 1970-01-01 ------------------------------------- */

static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

static int64_t days_from_date(int64_t year, int64_t month, int64_t day)
{
    /* Years begin in March, so that the leap day comes last; 400 years are 146097 days. */
    year += floor_div(month - 3, 12);
    int64_t m = (month + 9) % 12, era = floor_div(year, 400), y = year - era * 400;
    return era * 146097 + y * 365 + y / 4 - y / 100 + (153 * m + 2) / 5 + day - 1 - 719468;
}

static void date_from_days(int64_t days, int64_t *year, unsigned *month, unsigned *day)
{
    days += 719468;
    int64_t era = floor_div(days, 146097), d = days - era * 146097;
    int64_t y = (d - d / 1460 + d / 36524 - d / 146096) / 365, in_year = d - (365 * y + y / 4 - y / 100);
    int64_t m = (5 * in_year + 2) / 153;
    *day = in_year - (153 * m + 2) / 5 + 1;
    *month = m < 10 ? m + 3 : m - 9;
    *year = era * 400 + y + (*month < 3);
}

/* --- Registers and time ----------------------------------------------------------------------- */

static bool divider_runs(const struct mc146818 *s)
{
    return (s->ram[REG_A] >> 4 & 7) <= 2;
}

static bool updates_run(const struct mc146818 *s)
{
    return divider_runs(s) && !(s->ram[REG_B] & REG_B_SET);
}

static uint8_t encode(const struct mc146818 *s, unsigned value)
{
    return s->ram[REG_B] & REG_B_DM ? value : value / 10 << 4 | value % 10;
}

static unsigned decode(const struct mc146818 *s, uint8_t value)
{
    return s->ram[REG_B] & REG_B_DM ? value : (value >> 4) * 10 + (value & 15);
}

static uint8_t encode_hour(const struct mc146818 *s, unsigned hour)
{
    if (s->ram[REG_B] & REG_B_24)
        return encode(s, hour);
    return encode(s, hour % 12 ? hour % 12 : 12) | (hour >= 12 ? HOURS_PM : 0);
}

static unsigned decode_hour(const struct mc146818 *s, uint8_t value)
{
    if (s->ram[REG_B] & REG_B_24)
        return decode(s, value);
    return decode(s, value & ~HOURS_PM) % 12 + (value & HOURS_PM ? 12 : 0);
}

/* The guest's time in seconds, rounded down, as if the clock ran; *ns is the rest. */
static int64_t guest_time(const struct mc146818 *s, int64_t *ns)
{
    int64_t wall_ns, seconds = clock_wall(s->dev.machine->clock, &wall_ns) + s->offset_s;
    *ns = wall_ns + s->offset_ns;
    if (*ns >= NS_PER_SECOND) {
        *ns -= NS_PER_SECOND;
        seconds++;
    }
    return seconds;
}

static unsigned date_weekday(int64_t days)
{
    return days + 4 - floor_div(days + 4, 7) * 7; /* 0 is Sunday */
}

/* Writes the running time into the registers. */
static void fill_registers(struct mc146818 *s)
{
    int64_t ns, year, t = guest_time(s, &ns), days = floor_div(t, SECONDS_PER_DAY);
    unsigned month, day, second = t - days * SECONDS_PER_DAY;
    date_from_days(days, &year, &month, &day);
    s->ram[SECONDS] = encode(s, second % 60);
    s->ram[MINUTES] = encode(s, second / 60 % 60);
    s->ram[HOURS] = encode_hour(s, second / 3600);
    s->ram[WEEKDAY] = encode(s, (date_weekday(days) + s->weekday_shift) % 7 + 1);
    s->ram[DAY] = encode(s, day);
    s->ram[MONTH] = encode(s, month);
    int64_t century = floor_div(year, 100);
    s->ram[YEAR] = encode(s, year - century * 100);
    s->ram[CENTURY] = encode(s, century - floor_div(century, 100) * 100);
}

/* Makes the registers' time the running time from now on; within the second the clock goes on where it was. */
static void take_registers(struct mc146818 *s)
{
    const uint8_t *r = s->ram;
    int64_t days =
        days_from_date(decode(s, r[CENTURY]) * 100 + decode(s, r[YEAR]), decode(s, r[MONTH]), decode(s, r[DAY]));
    int64_t t =
        days * SECONDS_PER_DAY + decode_hour(s, r[HOURS]) * 3600 + decode(s, r[MINUTES]) * 60 + decode(s, r[SECONDS]);
    int64_t ns;
    s->offset_s += t - guest_time(s, &ns);
    s->checked = t;
    s->weekday_shift = (decode(s, r[WEEKDAY]) + 6 + 7 - date_weekday(floor_div(t, SECONDS_PER_DAY))) % 7;
}

/* --- Flags and interrupts --------------------------------------------------------------------- */

#define NO_ALARM INT64_MAX

static bool alarm_byte_matches(const struct mc146818 *s, unsigned reg, unsigned value)
{
    uint8_t alarm = s->ram[reg];
    if ((alarm & ALARM_ANY) == ALARM_ANY)
        return true;
    return value == (reg == HOURS_ALARM ? decode_hour(s, alarm) : decode(s, alarm));
}

/* The first second after `t` for which the alarm is set. */
static int64_t next_alarm(const struct mc146818 *s, int64_t t)
{
    t++;
    for (unsigned guard = 0; guard < 24 + 4 * 60; guard++) {
        unsigned second = t - floor_div(t, SECONDS_PER_DAY) * SECONDS_PER_DAY;
        if (!alarm_byte_matches(s, HOURS_ALARM, second / 3600))
            t += 3600 - second % 3600;
        else if (!alarm_byte_matches(s, MINUTES_ALARM, second / 60 % 60))
            t += 60 - second % 60;
        else if (!alarm_byte_matches(s, SECONDS_ALARM, second % 60))
            t++;
        else
            return t;
    }
    return NO_ALARM;
}

/* Crystal cycles per periodic interrupt; 0: none. */
static unsigned period_cycles(const struct mc146818 *s)
{
    unsigned rs = s->ram[REG_A] & 15;
    if (!rs || !divider_runs(s))
        return 0;
    return 1u << (rs <= 2 ? rs + 6 : rs - 1);
}

static uint64_t periods_now(const struct mc146818 *s)
{
    unsigned cycles = period_cycles(s);
    return cycles ? clock_ticks(clock_now(s->dev.machine->clock), CRYSTAL_HZ) / cycles : 0;
}

static void update_irq(struct mc146818 *s)
{
    bool active = s->ram[REG_C] & s->ram[REG_B] & REG_C_FLAGS;
    s->ram[REG_C] = (s->ram[REG_C] & REG_C_FLAGS) | (active ? REG_C_IRQF : 0);
    irq_set(&s->irq, active);
}

/* Sets the flags of what has happened until now. */
static void sync_flags(struct mc146818 *s)
{
    uint64_t periods = periods_now(s);
    if (periods != s->periods)
        s->ram[REG_C] |= REG_C_PF;
    s->periods = periods;
    if (!updates_run(s))
        return;
    int64_t ns, t = guest_time(s, &ns);
    if (t > s->checked) {
        s->ram[REG_C] |= REG_C_UF;
        if (next_alarm(s, s->checked) <= t)
            s->ram[REG_C] |= REG_C_AF;
    }
    s->checked = t; /* also when the host's clock was set back */
}

/* Waits for the first enabled interrupt whose flag is not set yet. */
static void arm(struct mc146818 *s)
{
    uint8_t wanted = s->ram[REG_B] & ~s->ram[REG_C] & REG_C_FLAGS;
    int64_t deadline = INT64_MAX, now = clock_now(s->dev.machine->clock);
    unsigned cycles = period_cycles(s);
    if ((wanted & REG_C_PF) && cycles)
        deadline = clock_ticks_to_ns((s->periods + 1) * cycles, CRYSTAL_HZ);
    if ((wanted & (REG_C_UF | REG_C_AF)) && updates_run(s)) {
        int64_t ns, t = guest_time(s, &ns);
        int64_t second = wanted & REG_C_UF ? t + 1 : next_alarm(s, t);
        if (second != NO_ALARM)
            deadline = MIN(deadline, now + (second - t) * NS_PER_SECOND - ns);
    }
    if (deadline == INT64_MAX)
        timer_cancel(&s->timer);
    else
        timer_set(&s->timer, deadline);
}

/* After any change, and when the timer fires. */
static void update(struct mc146818 *s)
{
    sync_flags(s);
    update_irq(s);
    arm(s);
}

static void on_timer(void *opaque)
{
    update(opaque);
}

/* --- Ports ------------------------------------------------------------------------------------ */

static bool is_clock_byte(unsigned n)
{
    return n == SECONDS || n == MINUTES || n == HOURS || (n >= WEEKDAY && n <= YEAR) || n == CENTURY;
}

static uint8_t read_byte(struct mc146818 *s, unsigned n)
{
    int64_t ns;
    uint8_t value;
    if (is_clock_byte(n) && updates_run(s))
        fill_registers(s);
    switch (n) {
    case REG_A:
        guest_time(s, &ns);
        return s->ram[REG_A] | (updates_run(s) && ns >= NS_PER_SECOND - UPDATE_NS ? REG_A_UIP : 0);
    case REG_C:
        update(s);
        value = s->ram[REG_C];
        s->ram[REG_C] = 0;
        update(s);
        return value;
    default: return s->ram[n];
    }
}

/* Registers A and B decide whether the clock runs. */
static void write_control(struct mc146818 *s, unsigned n, uint8_t value)
{
    bool divided = divider_runs(s), updated = updates_run(s);
    if (updated)
        fill_registers(s);
    s->ram[n] = value;
    if (!divided && divider_runs(s)) {
        /* The first update comes half a second after the divider is let go. */
        int64_t wall_ns;
        clock_wall(s->dev.machine->clock, &wall_ns);
        s->offset_ns = (NS_PER_SECOND / 2 - wall_ns + NS_PER_SECOND) % NS_PER_SECOND;
    }
    if (!updated && updates_run(s))
        take_registers(s);
    if (n == REG_A)
        s->periods = periods_now(s);
}

static void write_byte(struct mc146818 *s, unsigned n, uint8_t value)
{
    if (n == REG_C || n == REG_D)
        return;
    sync_flags(s);
    if (n == REG_A) {
        write_control(s, n, value & ~REG_A_UIP);
    } else if (n == REG_B) {
        if (value & REG_B_SET)
            value &= ~REG_B_UIE; /* as the datasheet has it */
        write_control(s, n, value);
    } else if (is_clock_byte(n) && updates_run(s)) {
        fill_registers(s);
        s->ram[n] = value;
        take_registers(s);
    } else {
        s->ram[n] = value;
    }
    update(s);
}

static uint64_t port_read(void *opaque, uint64_t offset, unsigned size)
{
    struct mc146818 *s = opaque;
    switch (offset) {
    case 1: return read_byte(s, s->index);
    case 2: return s->extended_index;
    case 3: return s->ram[BANK_SIZE + s->extended_index];
    default: return 0xff; /* the index is write-only */
    }
}

static void port_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct mc146818 *s = opaque;
    switch (offset) {
    case 0:
        s->index = value & (BANK_SIZE - 1);
        s->nmi_masked = value & 0x80;
        break;
    case 1: write_byte(s, s->index, value); break;
    case 2: s->extended_index = value & (BANK_SIZE - 1); break;
    case 3: s->ram[BANK_SIZE + s->extended_index] = value; break;
    }
}

static const struct mem_ops port_ops = { .read = port_read, .write = port_write, .impl = { .min = 1, .max = 1 } };

void mc146818_set_cmos(struct device *rtc, uint8_t index, uint8_t value)
{
    g_assert(index > REG_D && index < BANK_SIZE && index != CENTURY);
    container_of(rtc, struct mc146818, dev)->ram[index] = value;
}

uint8_t mc146818_cmos(struct device *rtc, uint8_t index)
{
    g_assert(index > REG_D && index < BANK_SIZE && index != CENTURY);
    return container_of(rtc, struct mc146818, dev)->ram[index];
}

bool mc146818_nmi_masked(struct device *rtc)
{
    return container_of(rtc, struct mc146818, dev)->nmi_masked;
}

void mc146818_set_irq(struct device *rtc, struct irq_line irq)
{
    container_of(rtc, struct mc146818, dev)->irq = irq;
}

/* --- Device ----------------------------------------------------------------------------------- */

static bool realize(struct device *d, GError **err)
{
    struct mc146818 *s = container_of(d, struct mc146818, dev);
    int64_t ns;
    timer_init(&s->timer, d->machine->clock, on_timer, s);
    s->ram[REG_A] = 0x26; /* 32768 Hz crystal, 1024 Hz periodic */
    s->ram[REG_B] = REG_B_24;
    s->ram[REG_D] = REG_D_VRT;
    s->checked = guest_time(s, &ns);
    s->periods = periods_now(s);
    mem_init_io(&s->ports, d, &port_ops, s, "rtc", 4);
    mem_map(&d->machine->port_root, 0x70, &s->ports, 0);
    return true;
}

static void unrealize(struct device *d)
{
    struct mc146818 *s = container_of(d, struct mc146818, dev);
    timer_cancel(&s->timer);
    mem_fini(&s->ports);
}

/* The RESET pin stops interrupts; the battery keeps the rest. */
static void reset(struct device *d)
{
    struct mc146818 *s = container_of(d, struct mc146818, dev);
    s->ram[REG_B] &= ~(REG_B_PIE | REG_B_AIE | REG_B_UIE | REG_B_SQWE);
    s->ram[REG_C] = 0;
    s->index = s->extended_index = 0;
    s->nmi_masked = false;
    timer_cancel(&s->timer);
}

static void reset_wires(struct device *d)
{
    irq_set(&container_of(d, struct mc146818, dev)->irq, 0);
}

static bool post_load(void *instance, uint8_t version, GError **err)
{
    struct mc146818 *s = instance;
    const int64_t limit = INT64_C(1) << 40; /* the registers reach to the year 25500 */
    if (s->index >= BANK_SIZE || s->extended_index >= BANK_SIZE || s->weekday_shift > 6 || s->offset_ns < 0 ||
        s->offset_ns >= NS_PER_SECOND || s->offset_s < -limit || s->offset_s > limit || s->checked < -limit ||
        s->checked > limit || (s->ram[REG_A] & REG_A_UIP)) {
        g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_INVAL, "mc146818rtc: saved state out of range");
        return false;
    }
    return true;
}

static const struct state_field fields[] = {
    STATE_FIELD(STATE_U8, struct mc146818, index),
    STATE_FIELD(STATE_U8, struct mc146818, extended_index),
    STATE_FIELD(STATE_BOOL, struct mc146818, nmi_masked),
    { .name = "ram", .type = STATE_BYTES, .offset = offsetof(struct mc146818, ram), .count = 2 * BANK_SIZE },
    STATE_FIELD(STATE_U64, struct mc146818, offset_s),
    STATE_FIELD(STATE_U64, struct mc146818, offset_ns),
    STATE_FIELD(STATE_U8, struct mc146818, weekday_shift),
    STATE_FIELD(STATE_U64, struct mc146818, checked),
    STATE_FIELD(STATE_U64, struct mc146818, periods),
    STATE_FIELD(STATE_TIMER, struct mc146818, timer),
    STATE_FIELDS_END,
};

static const struct state_table state = {
    .name = "mc146818rtc", .version = 1, .fields = fields, .post_load = post_load
};

const struct device_type mc146818_type = {
    .name = "mc146818rtc",
    .description = "Real-time clock and CMOS memory",
    .bus = "isa",
    .size = sizeof(struct mc146818),
    .realize = realize,
    .reset = reset,
    .reset_wires = reset_wires,
    .unrealize = unrealize,
    .state = &state,
};
