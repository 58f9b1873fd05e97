/*
 * Two ports for whoever writes firmware and kernels: isa-debug-exit, which ends the process with (v << 1) | 1, and the
 * POST code display at port 0x80, whose last value shows in `info device` and, under -d mmio, each as it comes.
 *
 * All under the VM lock.
 */
#include "hw/isa/debug_exit.h"

#include "hw/core/machine.h"
#include "hw/core/state.h"
#include "hw/isa/isa.h"

/* --- isa-debug-exit ---------------------------------------------------------------------------------------------------- */

struct debug_exit {
    struct device dev;
    struct mem_region region;
    uint32_t iobase, iosize;
};

static uint64_t exit_read(void *opaque, uint64_t offset, unsigned size)
{
    return 0;
}

static void exit_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct debug_exit *s = opaque;
    machine_request_exit(s->dev.machine, (int)((uint32_t)value << 1 | 1), "isa-debug-exit");
}

static const struct mem_ops exit_ops = {
    .read = exit_read,
    .write = exit_write,
    .valid = {1, 4, true},
    .impl = {1, 4, true},
};

static bool exit_realize(struct device *d, GError **err)
{
    struct debug_exit *s = container_of(d, struct debug_exit, dev);

    if (s->iosize < 1 || s->iosize > 0x10000) {
        g_set_error(err, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, "isa-debug-exit: iosize=%u: must be 1 to 65536",
                    s->iosize);
        return false;
    }
    mem_init_io(&s->region, d, &exit_ops, s, "isa-debug-exit", s->iosize);
    return isa_map_ports(d, &s->region, s->iobase, err);
}

static void exit_unrealize(struct device *d)
{
    mem_fini(&container_of(d, struct debug_exit, dev)->region);
}

static const struct prop exit_props[] = {
    PROP(PROP_U32, "iobase", struct debug_exit, iobase, 0x501, "first I/O port"),
    PROP(PROP_U32, "iosize", struct debug_exit, iosize, 2, "number of I/O ports"),
    PROPS_END,
};

const struct device_type isa_debug_exit_type = {
    .name = "isa-debug-exit",
    .description = "ends the process with an exit code that the guest chooses",
    .bus = "isa",
    .size = sizeof(struct debug_exit),
    .props = exit_props,
    .user_creatable = true,
    .realize = exit_realize,
    .unrealize = exit_unrealize,
};

/* --- Port 80 ------------------------------------------------------------------------------------------------------------ */

struct port80 {
    struct device dev;
    struct mem_region region;
    uint8_t code;
};

static uint64_t port80_read(void *opaque, uint64_t offset, unsigned size)
{
    /* Nothing answers reads: the port is the delay of inb_p and outb_p, and firmware tells it from a DMA page register. */
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
