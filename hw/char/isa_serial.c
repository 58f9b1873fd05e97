/* The 16550A on the ISA bus, as COM1 to COM4 or where one likes. All under the VM lock. */
#include "hw/char/serial.h"
#include "hw/isa/isa.h"

#define UNSET UINT32_MAX
#define COM_PORTS 4

struct isa_serial {
    struct device dev;
    struct serial serial;
    uint32_t index, iobase, irq;
};

static const uint16_t com_iobase[COM_PORTS] = {0x3f8, 0x2f8, 0x3e8, 0x2e8};
static const uint8_t com_irq[COM_PORTS] = {4, 3, 4, 3};

/* The lowest number that no other serial port of the bus has. */
static uint32_t free_index(const struct isa_serial *s)
{
    uint32_t index = 0;
    const GPtrArray *all = s->dev.bus->devices;

    for (guint i = 0; i < all->len; i++) {
        const struct device *d = all->pdata[i];
        const struct isa_serial *other = container_of(d, struct isa_serial, dev);
        if (d->type == &isa_serial_type && d != &s->dev && other->index == index) {
            index++;
            i = -1; /* from the start again */
        }
    }
    return index;
}

static bool isa_serial_realize(struct device *d, GError **err)
{
    struct isa_serial *s = container_of(d, struct isa_serial, dev);

    if (s->index == UNSET)
        s->index = free_index(s);
    if (s->index >= COM_PORTS && (s->iobase == UNSET || s->irq == UNSET)) {
        g_set_error(err, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                    "isa-serial: index=%u: there are 4 standard ports, 0 to 3; give iobase= and irq= for others",
                    s->index);
        return false;
    }
    if (s->iobase == UNSET)
        s->iobase = com_iobase[s->index];
    if (s->irq == UNSET)
        s->irq = com_irq[s->index];
    if (!isa_irq_connect(isa_bus_of(d), s->irq, &s->serial.irq, err) || !serial_init(&s->serial, d, err))
        return false;
    if (!isa_map_ports(d, &s->serial.region, s->iobase, err)) {
        serial_fini(&s->serial);
        return false;
    }
    return true;
}

static void isa_serial_unrealize(struct device *d)
{
    serial_fini(&container_of(d, struct isa_serial, dev)->serial);
}

static void isa_serial_reset(struct device *d)
{
    serial_reset(&container_of(d, struct isa_serial, dev)->serial);
}

static void isa_serial_reset_wires(struct device *d)
{
    serial_reset_wires(&container_of(d, struct isa_serial, dev)->serial);
}

static bool isa_serial_post_load(void *instance, uint8_t version, GError **err)
{
    return serial_post_load(&((struct isa_serial *)instance)->serial, err);
}

static const struct prop isa_serial_props[] = {
    PROP(PROP_U32, "index", struct isa_serial, index, UNSET, "0 to 3 for COM1 to COM4"),
    PROP(PROP_U32, "iobase", struct isa_serial, iobase, UNSET, "first I/O port, by default that of the index"),
    PROP(PROP_U32, "irq", struct isa_serial, irq, UNSET, "ISA interrupt, by default that of the index"),
    PROP(PROP_CHR, "chardev", struct isa_serial, serial.chr, 0, "id of the character back end"),
    PROPS_END,
};

static const struct state_field isa_serial_fields[] = {
    STATE_NESTED(struct isa_serial, serial, serial_fields),
    STATE_FIELDS_END,
};

static const struct state_table isa_serial_state = {
    .name = "isa-serial",
    .version = 1,
    .fields = isa_serial_fields,
    .post_load = isa_serial_post_load,
};

const struct device_type isa_serial_type = {
    .name = "isa-serial",
    .description = "16550A serial port",
    .bus = "isa",
    .size = sizeof(struct isa_serial),
    .props = isa_serial_props,
    .user_creatable = true,
    .realize = isa_serial_realize,
    .reset = isa_serial_reset,
    .reset_wires = isa_serial_reset_wires,
    .unrealize = isa_serial_unrealize,
    .state = &isa_serial_state,
};
