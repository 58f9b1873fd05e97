/*
 * isa-debugcon: the port at which Bochs, SeaBIOS (0x402) and small kernels print. Reads give a fixed value, by which
 * the guest knows that it is there. All under the VM lock.
 */
#include "hw/char/serial.h"

#include "hw/backend/chr.h"
#include "hw/isa/isa.h"

struct debugcon {
    struct device dev;
    struct mem_region region;
    struct chr *chr;
    uint32_t iobase, readback;
};

static uint64_t debugcon_read(void *opaque, uint64_t offset, unsigned size)
{
    return ((struct debugcon *)opaque)->readback;
}

static void debugcon_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct debugcon *s = opaque;
    uint8_t byte = value;

    /* The port cannot say "wait": what a full back end refuses is lost. */
    if (s->chr)
        chr_write(s->chr, &byte, 1);
}

static const struct mem_ops debugcon_ops = {
    .read = debugcon_read,
    .write = debugcon_write,
    .valid = {1, 1, false},
};

static size_t takes_nothing(void *opaque)
{
    return 0;
}

static void reads_nothing(void *opaque, const uint8_t *buf, size_t len)
{
}

static const struct chr_front_ops front_ops = {.can_read = takes_nothing, .read = reads_nothing};

static bool debugcon_realize(struct device *d, GError **err)
{
    struct debugcon *s = container_of(d, struct debugcon, dev);

    if (s->chr && !chr_attach(s->chr, &front_ops, s, err))
        return false;
    mem_init_io(&s->region, d, &debugcon_ops, s, "isa-debugcon", 1);
    if (!isa_map_ports(d, &s->region, s->iobase, err)) {
        if (s->chr)
            chr_detach(s->chr, s);
        return false;
    }
    return true;
}

static void debugcon_unrealize(struct device *d)
{
    struct debugcon *s = container_of(d, struct debugcon, dev);

    if (s->chr)
        chr_detach(s->chr, s);
    mem_fini(&s->region);
}

static const struct prop debugcon_props[] = {
    PROP(PROP_U32, "iobase", struct debugcon, iobase, 0xe9, "I/O port"),
    PROP(PROP_U32, "readback", struct debugcon, readback, 0xe9, "what reads give"),
    PROP(PROP_CHR, "chardev", struct debugcon, chr, 0, "id of the character back end"),
    PROPS_END,
};

const struct device_type isa_debugcon_type = {
    .name = "isa-debugcon",
    .description = "debug console port",
    .bus = "isa",
    .size = sizeof(struct debugcon),
    .props = debugcon_props,
    .user_creatable = true,
    .realize = debugcon_realize,
    .unrealize = debugcon_unrealize,
};
