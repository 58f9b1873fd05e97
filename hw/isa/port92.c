/*
 * System control port A (0x92), PIIX datasheet 290550-002 section 4.6: bit 1 opens A20, a rising bit 0 resets.
 *
 * A reset here is one of the whole machine, where the chip sends INIT to the processors: nothing that a PC guest does
 * after it tells the two apart, except memory, which firmware leaves alone.
 *
 * All under the VM lock.
 */
#include "hw/isa/port92.h"

#include "hw/core/machine.h"
#include "hw/core/state.h"

#define PORT92_RESET 0x01
#define PORT92_A20 0x02

struct port92 {
    struct device dev;
    struct mem_region port;
    struct irq_line a20;
    uint8_t value; /* PORT92_RESET, PORT92_A20 */
};

static uint64_t port_read(void *opaque, uint64_t offset, unsigned size)
{
    struct port92 *s = opaque;
    return s->value;
}

static void port_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct port92 *s = opaque;
    uint8_t before = s->value;
    s->value = value & (PORT92_RESET | PORT92_A20);
    if ((before ^ s->value) & PORT92_A20)
        irq_set(&s->a20, !!(s->value & PORT92_A20));
    if (s->value & ~before & PORT92_RESET)
        machine_request(s->dev.machine, REQUEST_RESET, "port 0x92");
}

static const struct mem_ops port_ops = { .read = port_read, .write = port_write, .impl = { .min = 1, .max = 1 } };

void port92_set_a20(struct device *d, struct irq_line a20)
{
    container_of(d, struct port92, dev)->a20 = a20;
}

static bool realize(struct device *d, GError **err)
{
    struct port92 *s = container_of(d, struct port92, dev);
    mem_init_io(&s->port, d, &port_ops, s, "port92", 1);
    mem_map(&d->machine->port_root, 0x92, &s->port, 0);
    return true;
}

static void unrealize(struct device *d)
{
    mem_fini(&container_of(d, struct port92, dev)->port);
}

static void reset(struct device *d)
{
    container_of(d, struct port92, dev)->value = 0;
}

static void reset_wires(struct device *d)
{
    irq_set(&container_of(d, struct port92, dev)->a20, 0);
}

static const struct state_field fields[] = {
    STATE_FIELD(STATE_U8, struct port92, value),
    STATE_FIELDS_END,
};

static bool post_load(void *instance, uint8_t version, GError **err)
{
    struct port92 *s = instance;
    if (s->value & ~(PORT92_RESET | PORT92_A20)) {
        g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_INVAL, "port 0x92: saved state out of range");
        return false;
    }
    return true;
}

static const struct state_table state = { .name = "port92", .version = 1, .fields = fields, .post_load = post_load };

const struct device_type port92_type = {
    .name = "port92",
    .description = "System control port A: A20 gate, fast reset",
    .bus = "isa",
    .size = sizeof(struct port92),
    .realize = realize,
    .reset = reset,
    .reset_wires = reset_wires,
    .unrealize = unrealize,
    .state = &state,
};
