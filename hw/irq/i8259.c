/*
 * Two cascaded Intel 8259A programmable interrupt controllers as the PIIX has them (datasheets 231468-003 and
 * 290550-002, section 4.2), with the edge/level control registers ELCR1/2 in place of ICW1's LTIM.
 *
 * As in the PIIX, the cascade on IR2 is hardwired: what ICW3 says is kept and not used, and the MCS-80 mode does not
 * exist. An edge request is dropped when its input falls before it is acknowledged, as the datasheet has it; the
 * processor that acknowledges nothing gets a spurious IR7.
 *
 * All under the VM lock.
 */
#include "hw/irq/i8259.h"

#include "hw/core/log.h"
#include "hw/core/machine.h"
#include "hw/core/state.h"

#define CASCADE 2

#define ICW1_INIT 0x10 /* D4 of a write with A0 = 0 tells ICW1 from OCW2 and OCW3 */
#define ICW1_SNGL 0x02
#define ICW1_IC4 0x01
#define ICW4_SFNM 0x10
#define ICW4_AEOI 0x02
#define ICW4_UPM 0x01
#define OCW3_SELECT 0x08
#define OCW3_ESMM 0x40
#define OCW3_SMM 0x20
#define OCW3_POLL 0x04
#define OCW3_RR 0x02
#define OCW3_RIS 0x01

/* The next write with A0 = 1 is ... */
enum expect { EXPECT_OCW1, EXPECT_ICW2, EXPECT_ICW3, EXPECT_ICW4 };

struct pic {
    uint8_t lines; /* inputs as they are */
    uint8_t edges; /* rising edges not yet acknowledged */
    uint8_t elcr;  /* 1: level-triggered */
    uint8_t imr, isr;
    uint8_t icw1, icw2, icw3, icw4;
    uint8_t expect; /* enum expect */
    uint8_t lowest; /* the IR of lowest priority; 7 unless rotated */
    bool ready;     /* initialized since power-on and not being initialized now */
    bool rotate_aeoi;
    bool special_mask;
    bool read_isr;
    bool poll;
};

struct i8259 {
    struct device dev;
    struct mem_region ports[2], elcr_ports;
    struct pic chip[2]; /* master, slave */
    struct irq_line intr;
    bool intr_level;
};

static const uint8_t elcr_mask[2] = { 0xf8, 0xde }; /* IRQ 0, 1, 2, 8 and 13 are always edge-triggered */

static uint8_t irr(const struct pic *c)
{
    return (c->elcr & c->lines) | (~c->elcr & c->edges);
}

/* The bit of highest priority as a distance from the highest, 0..7; 8 if there is none. */
static unsigned priority(const struct pic *c, uint8_t bits)
{
    unsigned p = 0;
    while (p < 8 && !(bits & 1u << ((c->lowest + 1 + p) & 7)))
        p++;
    return p;
}

/* The IR that asks for service and may have it, or -1. */
static int pic_request(const struct i8259 *s, const struct pic *c)
{
    if (!c->ready)
        return -1;
    uint8_t in_service = c->isr;
    if (c->special_mask)
        in_service &= ~c->imr;
    unsigned want = priority(c, irr(c) & ~c->imr), busy = priority(c, in_service);
    if (want == 8)
        return -1;
    int n = (c->lowest + 1 + want) & 7;
    /* Special fully nested: a slave in service may interrupt again. */
    bool nested = c == &s->chip[0] && (c->icw4 & ICW4_SFNM) && n == CASCADE;
    return want < busy || (nested && want == busy) ? n : -1;
}

static void set_input(struct pic *c, unsigned n, bool level)
{
    uint8_t bit = 1u << n;
    if (level) {
        c->edges |= bit & ~c->lines;
        c->lines |= bit;
    } else {
        c->edges &= ~bit;
        c->lines &= ~bit;
    }
}

static void set_intr(struct i8259 *s, bool level)
{
    if (level == s->intr_level)
        return;
    s->intr_level = level;
    irq_set(&s->intr, level);
}

static void update(struct i8259 *s)
{
    set_input(&s->chip[0], CASCADE, pic_request(s, &s->chip[1]) >= 0);
    set_intr(s, pic_request(s, &s->chip[0]) >= 0);
}

/* One chip's part of the INTA cycles, or of a poll. *spurious: nothing was pending any more. */
static unsigned pic_inta(struct i8259 *s, struct pic *c, bool *spurious)
{
    int n = pic_request(s, c);
    *spurious = n < 0;
    if (n < 0)
        return 7;
    c->edges &= ~(1u << n);
    if (!(c->icw4 & ICW4_AEOI))
        c->isr |= 1u << n;
    else if (c->rotate_aeoi)
        c->lowest = n;
    return n;
}

/* INT falls with INTA even if more is pending, so that an edge-triggered input behind it sees each request. */
static void drop_int(struct i8259 *s, struct pic *c)
{
    if (c == &s->chip[1])
        set_input(&s->chip[0], CASCADE, false);
    else
        set_intr(s, false);
}

int i8259_acknowledge(struct device *pic)
{
    struct i8259 *s = container_of(pic, struct i8259, dev);
    struct pic *master = &s->chip[0], *slave = &s->chip[1];
    bool spurious;
    unsigned n = pic_inta(s, master, &spurious);
    int vector = master->icw2 | n;
    drop_int(s, master);
    if (n == CASCADE && !(master->icw1 & ICW1_SNGL)) {
        n = pic_inta(s, slave, &spurious);
        vector = slave->icw2 | n;
        drop_int(s, slave);
    }
    update(s);
    return vector;
}

static void input(void *opaque, int n, int level)
{
    struct i8259 *s = opaque;
    if (n == CASCADE)
        return;
    set_input(&s->chip[n >> 3], n & 7, level);
    update(s);
}

struct irq_line i8259_input(struct device *pic, int n)
{
    g_assert(n >= 0 && n < I8259_INPUTS);
    return (struct irq_line){ input, container_of(pic, struct i8259, dev), n };
}

void i8259_set_output(struct device *pic, struct irq_line intr)
{
    container_of(pic, struct i8259, dev)->intr = intr;
}

/* --- Registers -------------------------------------------------------------------------------- */

static void write_icw1(struct pic *c, uint8_t value)
{
    c->icw1 = value;
    c->edges = 0; /* an input must fall and rise again to be seen */
    c->imr = 0;
    c->isr = 0;
    c->lowest = 7;
    c->special_mask = false;
    c->read_isr = false;
    c->poll = false;
    c->rotate_aeoi = false;
    c->ready = false;
    c->expect = EXPECT_ICW2;
    if (!(value & ICW1_IC4))
        c->icw4 = 0;
}

/* ISR bit that a non-specific EOI ends, or -1. Those masked under special mask are left alone. */
static int eoi_target(const struct pic *c)
{
    unsigned p = priority(c, c->special_mask ? c->isr & ~c->imr : c->isr);
    return p == 8 ? -1 : (c->lowest + 1 + (int)p) & 7;
}

static void write_ocw2(struct pic *c, uint8_t value)
{
    bool rotate = value & 0x80, specific = value & 0x40, eoi = value & 0x20;
    int n = value & 7;
    if (!eoi) {
        if (!specific)
            c->rotate_aeoi = rotate;
        else if (rotate)
            c->lowest = n; /* set priority; specific alone is no operation */
        return;
    }
    if (!specific)
        n = eoi_target(c);
    if (n < 0)
        return;
    c->isr &= ~(1u << n);
    if (rotate)
        c->lowest = n;
}

static void write_ocw3(struct pic *c, uint8_t value)
{
    if (value & OCW3_ESMM)
        c->special_mask = value & OCW3_SMM;
    if (value & OCW3_POLL)
        c->poll = true; /* overrides a register read */
    if (value & OCW3_RR)
        c->read_isr = value & OCW3_RIS;
}

/* A write with A0 = 1. */
static void write_data(struct pic *c, uint8_t value)
{
    bool icw4 = c->icw1 & ICW1_IC4;
    switch (c->expect) {
    case EXPECT_OCW1: c->imr = value; return;
    case EXPECT_ICW2:
        c->icw2 = value & 0xf8;
        c->expect = !(c->icw1 & ICW1_SNGL) ? EXPECT_ICW3 : icw4 ? EXPECT_ICW4 : EXPECT_OCW1;
        break;
    case EXPECT_ICW3:
        c->icw3 = value;
        c->expect = icw4 ? EXPECT_ICW4 : EXPECT_OCW1;
        break;
    case EXPECT_ICW4:
        c->icw4 = value;
        c->expect = EXPECT_OCW1;
        if (!(value & ICW4_UPM))
            log_guest_error("i8259", "MCS-80 mode asked for");
        break;
    }
    c->ready = c->expect == EXPECT_OCW1;
}

static void pic_write(struct i8259 *s, struct pic *c, uint64_t offset, uint8_t value)
{
    if (offset & 1)
        write_data(c, value);
    else if (value & ICW1_INIT)
        write_icw1(c, value);
    else if (value & OCW3_SELECT)
        write_ocw3(c, value);
    else
        write_ocw2(c, value);
    update(s);
}

static uint8_t pic_read(struct i8259 *s, struct pic *c, uint64_t offset)
{
    if (c->poll) {
        bool spurious;
        unsigned n = pic_inta(s, c, &spurious);
        c->poll = false;
        if (!spurious)
            drop_int(s, c);
        update(s);
        return spurious ? 0 : 0x80 | n;
    }
    if (offset & 1)
        return c->imr;
    return c->read_isr ? c->isr : irr(c);
}

static uint64_t master_read(void *opaque, uint64_t offset, unsigned size)
{
    struct i8259 *s = opaque;
    return pic_read(s, &s->chip[0], offset);
}

static void master_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct i8259 *s = opaque;
    pic_write(s, &s->chip[0], offset, value);
}

static uint64_t slave_read(void *opaque, uint64_t offset, unsigned size)
{
    struct i8259 *s = opaque;
    return pic_read(s, &s->chip[1], offset);
}

static void slave_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct i8259 *s = opaque;
    pic_write(s, &s->chip[1], offset, value);
}

static uint64_t elcr_read(void *opaque, uint64_t offset, unsigned size)
{
    struct i8259 *s = opaque;
    return s->chip[offset].elcr;
}

static void elcr_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct i8259 *s = opaque;
    s->chip[offset].elcr = value & elcr_mask[offset];
    update(s);
}

static const struct mem_ops port_ops[2] = {
    { .read = master_read, .write = master_write, .impl = { .min = 1, .max = 1 } },
    { .read = slave_read, .write = slave_write, .impl = { .min = 1, .max = 1 } },
};
static const struct mem_ops elcr_ops = { .read = elcr_read, .write = elcr_write, .impl = { .min = 1, .max = 1 } };

/* --- Device ----------------------------------------------------------------------------------- */

static bool realize(struct device *d, GError **err)
{
    struct i8259 *s = container_of(d, struct i8259, dev);
    static const char *const names[2] = { "pic-master", "pic-slave" };
    static const uint16_t bases[2] = { 0x20, 0xa0 };
    for (unsigned i = 0; i < 2; i++) {
        mem_init_io(&s->ports[i], d, &port_ops[i], s, names[i], 2);
        mem_map(&d->machine->port_root, bases[i], &s->ports[i], 0);
    }
    mem_init_io(&s->elcr_ports, d, &elcr_ops, s, "pic-elcr", 2);
    mem_map(&d->machine->port_root, 0x4d0, &s->elcr_ports, 0);
    return true;
}

static void unrealize(struct device *d)
{
    struct i8259 *s = container_of(d, struct i8259, dev);
    mem_fini(&s->ports[0]);
    mem_fini(&s->ports[1]);
    mem_fini(&s->elcr_ports);
}

static void reset(struct device *d)
{
    struct i8259 *s = container_of(d, struct i8259, dev);
    s->chip[0] = s->chip[1] = (struct pic){ .lowest = 7 };
    s->intr_level = false;
}

static void reset_wires(struct device *d)
{
    irq_set(&container_of(d, struct i8259, dev)->intr, 0);
}

static bool post_load(void *instance, uint8_t version, GError **err)
{
    struct i8259 *s = instance;
    for (unsigned i = 0; i < 2; i++) {
        struct pic *c = &s->chip[i];
        if (c->lowest > 7 || c->expect > EXPECT_ICW4 || (c->elcr & ~elcr_mask[i]) || (c->icw2 & 7)) {
            g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_INVAL, "i8259: saved state out of range");
            return false;
        }
    }
    return true;
}

static const struct state_field pic_fields[] = {
    STATE_FIELD(STATE_U8, struct pic, lines),
    STATE_FIELD(STATE_U8, struct pic, edges),
    STATE_FIELD(STATE_U8, struct pic, elcr),
    STATE_FIELD(STATE_U8, struct pic, imr),
    STATE_FIELD(STATE_U8, struct pic, isr),
    STATE_FIELD(STATE_U8, struct pic, icw1),
    STATE_FIELD(STATE_U8, struct pic, icw2),
    STATE_FIELD(STATE_U8, struct pic, icw3),
    STATE_FIELD(STATE_U8, struct pic, icw4),
    STATE_FIELD(STATE_U8, struct pic, expect),
    STATE_FIELD(STATE_U8, struct pic, lowest),
    STATE_FIELD(STATE_BOOL, struct pic, ready),
    STATE_FIELD(STATE_BOOL, struct pic, rotate_aeoi),
    STATE_FIELD(STATE_BOOL, struct pic, special_mask),
    STATE_FIELD(STATE_BOOL, struct pic, read_isr),
    STATE_FIELD(STATE_BOOL, struct pic, poll),
    STATE_FIELDS_END,
};

static const struct state_field fields[] = {
    STATE_NESTED_ARRAY(struct i8259, chip, pic_fields),
    STATE_FIELD(STATE_BOOL, struct i8259, intr_level),
    STATE_FIELDS_END,
};

static const struct state_table state = { .name = "i8259", .version = 1, .fields = fields, .post_load = post_load };

const struct device_type i8259_type = {
    .name = "isa-i8259",
    .description = "Pair of 8259A interrupt controllers",
    .bus = "isa",
    .size = sizeof(struct i8259),
    .realize = realize,
    .reset = reset,
    .reset_wires = reset_wires,
    .unrealize = unrealize,
    .state = &state,
};
