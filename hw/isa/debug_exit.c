/*
 * isa-debug-exit: a write of v ends the process with exit code (v << 1) | 1, as kernels under test want it. No hardware
 * has it; QEMU does. All under the VM lock.
 */
#include "hw/isa/debug_exit.h"

#include "hw/core/machine.h"
#include "hw/isa/isa.h"

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
