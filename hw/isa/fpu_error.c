/*
 * The coprocessor error logic of the PC/AT as the Intel 82371SB (PIIX3, order number 290550) has it: FERR# becomes IRQ
 * 13; a write to port 0xf0 takes IRQ 13 back and holds IGNNE# until FERR# goes away, so that the handler can use the
 * unit.
 *
 * The processor asks nobody about IGNNE#: it goes on whenever no interrupt comes (cpu/op_x87.c). All under the VM lock.
 */
#include "hw/isa/fpu_error.h"

#include "hw/core/machine.h"
#include "hw/core/state.h"
#include "hw/isa/isa.h"

#define FPU_ERROR_IRQ 13

struct fpu_error {
    struct device dev;
    struct mem_region port;
    struct irq_line irq;
    bool ferr;
    bool ignne;
};

static void update(struct fpu_error *s)
{
    irq_set(&s->irq, s->ferr && !s->ignne);
}

static void set_ferr(void *opaque, int n, int level)
{
    struct fpu_error *s = opaque;
    s->ferr = level;
    if (!level)
        s->ignne = false;
    update(s);
}

static uint64_t port_read(void *opaque, uint64_t offset, unsigned size)
{
    return 0xff;
}

static void port_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct fpu_error *s = opaque;
    s->ignne = s->ferr;
    update(s);
}

static const struct mem_ops port_ops = { .read = port_read, .write = port_write, .impl = { .min = 1, .max = 1 } };

struct irq_line fpu_error_input(struct device *d)
{
    return (struct irq_line){ set_ferr, container_of(d, struct fpu_error, dev), 0 };
}

static bool realize(struct device *d, GError **err)
{
    struct fpu_error *s = container_of(d, struct fpu_error, dev);
    if (!isa_irq_connect(isa_bus_of(d), FPU_ERROR_IRQ, &s->irq, err))
        return false;
    mem_init_io(&s->port, d, &port_ops, s, "fpu-error", 1);
    mem_map(&d->machine->port_root, 0xf0, &s->port, 0);
    return true;
}

static void unrealize(struct device *d)
{
    mem_fini(&container_of(d, struct fpu_error, dev)->port);
}

static void reset(struct device *d)
{
    struct fpu_error *s = container_of(d, struct fpu_error, dev);
    s->ferr = s->ignne = false;
}

static const struct state_field fields[] = {
    STATE_FIELD(STATE_BOOL, struct fpu_error, ferr),
    STATE_FIELD(STATE_BOOL, struct fpu_error, ignne),
    STATE_FIELDS_END,
};
static const struct state_table state = { .name = "fpu-error", .version = 1, .fields = fields };

const struct device_type fpu_error_type = {
    .name = "fpu-error",
    .description = "Coprocessor error: FERR# to IRQ 13",
    .bus = "isa",
    .size = sizeof(struct fpu_error),
    .realize = realize,
    .reset = reset,
    .unrealize = unrealize,
    .state = &state,
};
