/* The ISA bus: see isa.h. All under the VM lock. */
#include "hw/isa/isa.h"

#include "hw/core/machine.h"

#include <inttypes.h>
#include <string.h>

#define ISA_SOURCES 32 /* bits of isa_bus.asserted[] */

const struct state_field isa_bus_fields[] = {
    STATE_ARRAY(STATE_U32, struct isa_bus, asserted),
    STATE_FIELDS_END,
};

void isa_bus_init(struct isa_bus *b, struct device *owner, const char *name, struct mem_region *memory)
{
    b->bus = bus_new(owner->machine, owner, "isa", name);
    b->bus->impl = b;
    b->memory = memory;
}

struct isa_bus *isa_bus_of(const struct device *d)
{
    g_assert(d->bus && g_str_equal(d->bus->kind, "isa"));
    return d->bus->impl;
}

/* `n` is the irq, and above it the source's bit. */
static void set_source(void *opaque, int n, int level)
{
    struct isa_bus *b = opaque;
    unsigned irq = n % ISA_IRQS, source = n / ISA_IRQS;

    if (level)
        b->asserted[irq] |= 1u << source;
    else
        b->asserted[irq] &= ~(1u << source);
    irq_set(&b->out[irq], b->asserted[irq] != 0);
}

bool isa_irq_connect(struct isa_bus *b, unsigned n, struct irq_line *out, GError **err)
{
    if (n >= ISA_IRQS) {
        g_set_error(err, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, "irq=%u: the ISA bus has irqs 0 to 15", n);
        return false;
    }
    if (b->sources[n] == ISA_SOURCES) {
        g_set_error(err, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, "irq=%u: is shared by too many devices", n);
        return false;
    }
    *out = (struct irq_line){.fn = set_source, .opaque = b, .n = n + b->sources[n]++ * ISA_IRQS};
    return true;
}

void isa_bus_reset(struct isa_bus *b)
{
    memset(b->asserted, 0, sizeof(b->asserted));
}

bool isa_map_ports(struct device *d, struct mem_region *r, uint64_t port, GError **err)
{
    if (port > 0x10000 - r->size) {
        g_set_error(err, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                    "%s: I/O port 0x%" PRIx64 " is too high: ports end at 0xffff", d->type->name, port);
        return false;
    }
    mem_map(&d->machine->port_root, port, r, 0);
    return true;
}
