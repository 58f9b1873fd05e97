/*
 * System control port B (0x61) of the AT, as in the PIIX: gate and output of the interval timer's channel 2, speaker
 * enable, refresh toggle and the NMI enables (PIIX datasheet 290550-002, section 4.5).
 *
 * The speaker makes no sound. There is no source of parity or channel check errors, so bits 6 and 7 read 0. The refresh
 * bit toggles every 18 timer ticks, about 15 us, whatever channel 1 is programmed to.
 *
 * All under the VM lock.
 */
#include "hw/timer/pcspk.h"

#include "hw/core/clock.h"
#include "hw/core/machine.h"
#include "hw/core/state.h"
#include "hw/timer/i8254.h"

#define PORTB_GATE2 0x01
#define PORTB_WRITABLE 0x0f /* gate, speaker data, parity and channel check disable */
#define PORTB_REFRESH 0x10
#define PORTB_OUT2 0x20
#define REFRESH_TICKS 18

struct pcspk {
    struct device dev;
    struct mem_region port;
    struct device *pit;
    uint8_t control; /* PORTB_WRITABLE bits */
};

static uint64_t port_read(void *opaque, uint64_t offset, unsigned size)
{
    struct pcspk *s = opaque;
    uint8_t value = s->control;
    if (clock_ticks(clock_now(s->dev.machine->clock), I8254_HZ) / REFRESH_TICKS & 1)
        value |= PORTB_REFRESH;
    if (i8254_out(s->pit, 2))
        value |= PORTB_OUT2;
    return value;
}

static void port_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct pcspk *s = opaque;
    s->control = value & PORTB_WRITABLE;
    i8254_set_gate(s->pit, 2, value & PORTB_GATE2);
}

static const struct mem_ops port_ops = { .read = port_read, .write = port_write, .impl = { .min = 1, .max = 1 } };

void pcspk_set_pit(struct device *spk, struct device *pit)
{
    container_of(spk, struct pcspk, dev)->pit = pit;
}

static bool realize(struct device *d, GError **err)
{
    struct pcspk *s = container_of(d, struct pcspk, dev);
    g_assert(s->pit);
    mem_init_io(&s->port, d, &port_ops, s, "port61", 1);
    mem_map(&d->machine->port_root, 0x61, &s->port, 0);
    return true;
}

static void unrealize(struct device *d)
{
    mem_fini(&container_of(d, struct pcspk, dev)->port);
}

static void reset(struct device *d)
{
    container_of(d, struct pcspk, dev)->control = 0;
}

static const struct state_field fields[] = {
    STATE_FIELD(STATE_U8, struct pcspk, control),
    STATE_FIELDS_END,
};

static bool post_load(void *instance, uint8_t version, GError **err)
{
    struct pcspk *s = instance;
    if (s->control & ~PORTB_WRITABLE) {
        g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_INVAL, "port 0x61: saved state out of range");
        return false;
    }
    return true;
}

static const struct state_table state = { .name = "pcspk", .version = 1, .fields = fields, .post_load = post_load };

const struct device_type pcspk_type = {
    .name = "isa-pcspk",
    .description = "System control port B: speaker gate, refresh toggle",
    .bus = "isa",
    .size = sizeof(struct pcspk),
    .realize = realize,
    .reset = reset,
    .unrealize = unrealize,
    .state = &state,
};
