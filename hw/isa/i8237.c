/*
 * Intel 8237A DMA controllers as the PC AT wires two of them (order number 231466), with the page registers at
 * 0x80-0x8f.
 *
 * Devices move the data (i8237.h): so single, block and demand mode do not differ. Not modelled: memory-to-memory
 * transfers, which a PC cannot do, as its channel 0 has a page register of its own; rotating priority and timing bits.
 * All under the VM lock.
 */
#include "hw/isa/i8237.h"

#include "hw/core/log.h"
#include "hw/core/machine.h"
#include "hw/core/state.h"
#include "hw/isa/isa.h"

#include <string.h>

#define COMMAND_MEMORY_TO_MEMORY 0x01
#define COMMAND_DISABLE 0x04

#define MODE_TYPE 0x0c
#define MODE_VERIFY 0x00
#define MODE_WRITE 0x04 /* device to memory */
#define MODE_READ 0x08  /* memory to device */
#define MODE_AUTO_INIT 0x10
#define MODE_DECREMENT 0x20
#define MODE_CASCADE 0xc0

struct channel {
    uint16_t base_address, base_count, address, count;
    uint8_t mode;
    void (*ready)(void *opaque, unsigned channel);
    void *opaque;
};

struct controller {
    struct channel channels[4];
    uint8_t command, mask, request, terminal_count, dreq; /* the latter four: a bit per channel */
    bool high_byte;                                       /* byte pointer flip-flop */
    unsigned number;
    struct mem_region region;
};

struct i8237 {
    struct device dev;
    struct controller controllers[2];
    uint8_t pages[16]; /* ports 0x80-0x8f; 0x80, 0x84-0x86, 0x88, 0x8c-0x8e are scratch */
    struct mem_region page_region;
};

/* Page register of each channel: 0x87, 0x83, 0x81, 0x82, 0x8f, 0x8b, 0x89, 0x8a. */
static const uint8_t page_of[8] = {0x7, 0x3, 0x1, 0x2, 0xf, 0xb, 0x9, 0xa};

/* --- Transfers ---------------------------------------------------------------------------------------------------- */

static bool channel_ready(const struct controller *c, unsigned n)
{
    return !(c->command & COMMAND_DISABLE) && !(c->mask >> n & 1) && ((c->dreq | c->request) >> n & 1) &&
           (c->channels[n].mode & MODE_CASCADE) != MODE_CASCADE;
}

/* Tells devices whose channel can go on. They may transfer at once, which changes what is ready. */
static void tell_ready(struct controller *c, unsigned channels)
{
    for (unsigned n = 0; n < 4; n++) {
        struct channel *ch = &c->channels[n];
        if ((channels >> n & 1) && channel_ready(c, n) && ch->ready)
            ch->ready(ch->opaque, c->number * 4 + n);
    }
}

void i8237_attach(struct i8237 *s, unsigned channel, void (*ready)(void *opaque, unsigned channel), void *opaque)
{
    struct channel *ch = &s->controllers[channel / 4].channels[channel % 4];

    g_assert(channel < 8 && channel != 4 && (!ch->ready || !ready));
    ch->ready = ready;
    ch->opaque = opaque;
}

void i8237_set_dreq(struct i8237 *s, unsigned channel, bool level)
{
    struct controller *c = &s->controllers[channel / 4];
    uint8_t bit = 1 << (channel % 4), before = c->dreq;

    g_assert(channel < 8 && channel != 4);
    c->dreq = level ? c->dreq | bit : c->dreq & ~bit;
    if (level && !(before & bit))
        tell_ready(c, bit);
}

bool i8237_ready(const struct i8237 *s, unsigned channel)
{
    return channel_ready(&s->controllers[channel / 4], channel % 4);
}

/* Address and length of the next stretch that needs no wrap of the 16-bit address. In units of the channel. */
static uint64_t next_stretch(const struct i8237 *s, unsigned channel, const struct channel *ch, uint32_t *units)
{
    unsigned shift = channel / 4;
    uint64_t page = s->pages[page_of[channel]];

    if (ch->mode & MODE_DECREMENT)
        *units = 1;
    else
        *units = MIN(*units, 0x10000u - ch->address);
    *units = MIN(*units, ch->count + 1u);
    return (shift ? page & 0xfe : page) << 16 | (uint32_t)ch->address << shift;
}

static void move(struct i8237 *s, struct channel *ch, uint64_t addr, void *to, const void *from, size_t len)
{
    struct address_space *as = &s->dev.machine->memory;

    if ((ch->mode & MODE_TYPE) == MODE_VERIFY) {
        if (to)
            memset(to, 0, len);
    } else if (to) {
        address_space_read(as, addr, to, len);
    } else {
        address_space_write(as, addr, from, len);
    }
}

static void advance(struct controller *c, unsigned n, uint32_t units, bool *tc)
{
    struct channel *ch = &c->channels[n];

    ch->address += ch->mode & MODE_DECREMENT ? -units : units;
    *tc = units == ch->count + 1u;
    ch->count -= units;
    if (!*tc)
        return;
    c->terminal_count |= 1 << n;
    c->request &= ~(1 << n);
    if (ch->mode & MODE_AUTO_INIT) {
        ch->address = ch->base_address;
        ch->count = ch->base_count;
    } else {
        c->mask |= 1 << n;
    }
}

static size_t transfer(struct i8237 *s, unsigned channel, unsigned type, uint8_t *to, const uint8_t *from, size_t len,
                       bool *tc)
{
    unsigned n = channel % 4, shift = channel / 4;
    struct controller *c = &s->controllers[channel / 4];
    struct channel *ch = &c->channels[n];
    size_t done = 0;

    *tc = false;
    if ((ch->mode & MODE_TYPE) != type && (ch->mode & MODE_TYPE) != MODE_VERIFY)
        return 0;
    while (!*tc && len - done >= 1u << shift && channel_ready(c, n)) {
        uint32_t units = MIN(len - done, 0x20000) >> shift;
        uint64_t addr = next_stretch(s, channel, ch, &units);
        size_t bytes = (size_t)units << shift;
        move(s, ch, addr, to ? to + done : NULL, from ? from + done : NULL, bytes);
        done += bytes;
        advance(c, n, units, tc);
    }
    return done;
}

size_t i8237_read(struct i8237 *s, unsigned channel, void *buf, size_t len, bool *tc)
{
    return transfer(s, channel, MODE_READ, buf, NULL, len, tc);
}

size_t i8237_write(struct i8237 *s, unsigned channel, const void *buf, size_t len, bool *tc)
{
    return transfer(s, channel, MODE_WRITE, NULL, buf, len, tc);
}

/* --- Registers ---------------------------------------------------------------------------------------------------- */

static uint8_t take_byte(struct controller *c, uint16_t value)
{
    bool high = c->high_byte;

    c->high_byte = !high;
    return high ? value >> 8 : value & 0xff;
}

static void put_byte(struct controller *c, uint16_t *base, uint16_t *current, uint8_t value)
{
    bool high = c->high_byte;

    c->high_byte = !high;
    *base = high ? (*base & 0x00ff) | value << 8 : (*base & 0xff00) | value;
    *current = *base;
}

static uint64_t controller_read(void *opaque, uint64_t offset, unsigned size)
{
    struct controller *c = opaque;
    unsigned reg = offset >> c->number;
    const struct channel *ch = &c->channels[reg / 2 & 3];
    uint8_t value;

    if (reg < 8)
        return take_byte(c, reg & 1 ? ch->count : ch->address);
    switch (reg) {
    case 0x8:
        value = c->terminal_count | (c->dreq | c->request) << 4;
        c->terminal_count = 0;
        return value;
    case 0xf: return c->mask | 0xf0;
    default: return 0; /* the temporary register among them, which only memory-to-memory transfers fill */
    }
}

static void master_clear(struct controller *c)
{
    c->command = c->request = c->terminal_count = 0;
    c->high_byte = false;
    c->mask = 0x0f;
}

static void set_command(struct controller *c, uint8_t value)
{
    if (value & COMMAND_MEMORY_TO_MEMORY)
        log_unimp("i8237", "memory-to-memory transfer");
    c->command = value;
    tell_ready(c, 0x0f);
}

static void set_mask(struct controller *c, uint8_t mask)
{
    uint8_t opened = c->mask & ~mask;

    c->mask = mask;
    tell_ready(c, opened);
}

static void controller_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct controller *c = opaque;
    unsigned reg = offset >> c->number, bit = 1u << (value & 3);
    struct channel *ch = &c->channels[reg / 2 & 3];

    if (reg < 8) {
        if (reg & 1)
            put_byte(c, &ch->base_count, &ch->count, value);
        else
            put_byte(c, &ch->base_address, &ch->address, value);
        return;
    }
    switch (reg) {
    case 0x8: set_command(c, value); break;
    case 0x9:
        c->request = value & 4 ? c->request | bit : c->request & ~bit;
        tell_ready(c, value & 4 ? bit : 0);
        break;
    case 0xa: set_mask(c, value & 4 ? c->mask | bit : c->mask & ~bit); break;
    case 0xb:
        c->channels[value & 3].mode = value & ~3;
        tell_ready(c, bit);
        break;
    case 0xc: c->high_byte = false; break;
    case 0xd: master_clear(c); break;
    case 0xe: set_mask(c, 0); break;
    case 0xf: set_mask(c, value & 0x0f); break;
    }
}

static const struct mem_ops controller_ops = {
    .read = controller_read,
    .write = controller_write,
    .valid = {1, 2, false},
    .impl = {1, 1, false},
};

static uint64_t page_read(void *opaque, uint64_t offset, unsigned size)
{
    return ((struct i8237 *)opaque)->pages[offset];
}

static void page_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    ((struct i8237 *)opaque)->pages[offset] = value;
}

static const struct mem_ops page_ops = {
    .read = page_read,
    .write = page_write,
    .valid = {1, 2, false},
    .impl = {1, 1, false},
};

/* --- Life --------------------------------------------------------------------------------------------------------- */

static bool i8237_realize(struct device *d, GError **err)
{
    static const struct { uint16_t port; uint8_t size; const char *name; } blocks[2] = {
        {0x00, 0x10, "dma-chan"}, {0xc0, 0x20, "dma-chan16"}};
    struct i8237 *s = container_of(d, struct i8237, dev);

    for (unsigned i = 0; i < 2; i++) {
        struct controller *c = &s->controllers[i];
        c->number = i;
        mem_init_io(&c->region, d, &controller_ops, c, blocks[i].name, blocks[i].size);
        mem_map(&d->machine->port_root, blocks[i].port, &c->region, 0);
    }
    mem_init_io(&s->page_region, d, &page_ops, s, "dma-page", sizeof(s->pages));
    mem_map(&d->machine->port_root, 0x80, &s->page_region, 0);
    isa_bus_of(d)->dma = s;
    return true;
}

static void i8237_reset(struct device *d)
{
    struct i8237 *s = container_of(d, struct i8237, dev);

    for (unsigned i = 0; i < 2; i++) {
        struct controller *c = &s->controllers[i];
        master_clear(c);
        c->dreq = 0;
        for (unsigned n = 0; n < 4; n++) {
            struct channel *ch = &c->channels[n];
            ch->base_address = ch->base_count = ch->address = ch->count = 0;
            ch->mode = 0;
        }
    }
    memset(s->pages, 0, sizeof(s->pages));
}

static void i8237_unrealize(struct device *d)
{
    struct i8237 *s = container_of(d, struct i8237, dev);

    isa_bus_of(d)->dma = NULL;
    mem_fini(&s->controllers[0].region);
    mem_fini(&s->controllers[1].region);
    mem_fini(&s->page_region);
}

static const struct state_field channel_fields[] = {
    STATE_FIELD(STATE_U16, struct channel, base_address),
    STATE_FIELD(STATE_U16, struct channel, base_count),
    STATE_FIELD(STATE_U16, struct channel, address),
    STATE_FIELD(STATE_U16, struct channel, count),
    STATE_FIELD(STATE_U8, struct channel, mode),
    STATE_FIELDS_END,
};

static const struct state_field controller_fields[] = {
    STATE_NESTED_ARRAY(struct controller, channels, channel_fields),
    STATE_FIELD(STATE_U8, struct controller, command),
    STATE_FIELD(STATE_U8, struct controller, mask),
    STATE_FIELD(STATE_U8, struct controller, request),
    STATE_FIELD(STATE_U8, struct controller, terminal_count),
    STATE_FIELD(STATE_U8, struct controller, dreq),
    STATE_FIELD(STATE_BOOL, struct controller, high_byte),
    STATE_FIELDS_END,
};

static const struct state_field i8237_fields[] = {
    STATE_NESTED_ARRAY(struct i8237, controllers, controller_fields),
    STATE_ARRAY(STATE_BYTES, struct i8237, pages),
    STATE_FIELDS_END,
};

static bool i8237_post_load(void *instance, uint8_t version, GError **err)
{
    struct i8237 *s = instance;

    for (unsigned i = 0; i < 2; i++) {
        struct controller *c = &s->controllers[i];
        c->mask &= 0x0f;
        c->request &= 0x0f;
        c->terminal_count &= 0x0f;
        c->dreq &= 0x0f;
    }
    return true;
}

static const struct state_table i8237_state = {
    .name = "i8237",
    .version = 1,
    .fields = i8237_fields,
    .post_load = i8237_post_load,
};

const struct device_type i8237_type = {
    .name = "i8237",
    .description = "the two 8237 DMA controllers",
    .bus = "isa",
    .size = sizeof(struct i8237),
    .realize = i8237_realize,
    .reset = i8237_reset,
    .unrealize = i8237_unrealize,
    .state = &i8237_state,
};
