/*
 * The POST code display at port 0x80. The last code is in the device's state; under -d mmio each shows as it comes.
 * All under the VM lock.
 */
#include "hw/isa/debug_exit.h"

#include "hw/core/machine.h"
#include "hw/core/state.h"

struct port80 {
    struct device dev;
    struct mem_region region;
    uint8_t code;
};

static uint64_t port80_read(void *opaque, uint64_t offset, unsigned size)
{
    /*
     * Nothing answers reads: the port is the delay of inb_p and outb_p, and firmware tells it from a DMA page register.
     */
    return 0xff;
}

static void port80_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    ((struct port80 *)opaque)->code = value;
}

static const struct mem_ops port80_ops = {
    .read = port80_read,
    .write = port80_write,
    .valid = {1, 1, false},
};

static bool port80_realize(struct device *d, GError **err)
{
    struct port80 *s = container_of(d, struct port80, dev);

    mem_init_io(&s->region, d, &port80_ops, s, "port80", 1);
    /* Over the DMA controller's page registers, of which 0x80 is a spare one. */
    mem_map(&d->machine->port_root, 0x80, &s->region, 1);
    return true;
}

static void port80_reset(struct device *d)
{
    container_of(d, struct port80, dev)->code = 0;
}

static void port80_unrealize(struct device *d)
{
    mem_fini(&container_of(d, struct port80, dev)->region);
}

static const struct state_field port80_fields[] = {
    STATE_FIELD(STATE_U8, struct port80, code),
    STATE_FIELDS_END,
};
static const struct state_table port80_state = {.name = "port80", .version = 1, .fields = port80_fields};

const struct device_type port80_type = {
    .name = "port80",
    .description = "POST code display",
    .bus = "isa",
    .size = sizeof(struct port80),
    .realize = port80_realize,
    .reset = port80_reset,
    .unrealize = port80_unrealize,
    .state = &port80_state,
};
