/*
 * The interrupt bus: picks the local APICs that a message addresses, carries EOIs to the I/O APICs, and answers the
 * memory window at 0xfee00000 (Intel SDM volume 3, chapter 11 "APIC", sections on message signalled interrupts and
 * IPIs).
 *
 * Lowest-priority delivery goes round the addressed processors, as chipsets do that know no priorities. A message that
 * nobody accepts is lost, which the bus returns.
 *
 * All under the VM lock.
 */
#include "hw/irq/apic_bus.h"

#include "hw/core/log.h"
#include "hw/core/machine.h"
#include "hw/core/state.h"

#include <inttypes.h>

struct eoi_listener {
    apic_eoi_fn *fn;
    void *opaque;
};

struct apic_bus {
    struct device dev;
    struct mem_region window;
    GPtrArray *targets;    /* struct apic_target by index; may have NULLs */
    GArray *eoi_listeners; /* struct eoi_listener */
    int (*pic_acknowledge)(struct device *pic);
    struct device *pic;
    uint32_t last_lowest; /* index of the processor that took the last lowest-priority message */
};

/* --- Messages --------------------------------------------------------------------------------- */

static bool deliver_lowest(struct apic_bus *b, const struct apic_message *msg)
{
    unsigned count = b->targets->len;
    for (unsigned i = 1; i <= count; i++) {
        unsigned n = (b->last_lowest + i) % count;
        struct apic_target *t = b->targets->pdata[n];
        if (t && t->matches(t, msg) && t->deliver(t, msg)) {
            b->last_lowest = n;
            return true;
        }
    }
    return false;
}

static bool deliver_all(struct apic_bus *b, const struct apic_message *msg)
{
    bool accepted = false;
    for (unsigned i = 0; i < b->targets->len; i++) {
        struct apic_target *t = b->targets->pdata[i];
        if (t && t->matches(t, msg))
            accepted |= t->deliver(t, msg);
    }
    return accepted;
}

struct msi_message apic_bus_encode(const struct apic_message *msg)
{
    bool any = msg->delivery == APIC_LOWEST;
    return (struct msi_message){
        .addr = APIC_DEFAULT_BASE | (uint64_t)(msg->dest & 0xff) << 12 | (any ? 8 : 0) | (msg->logical ? 4 : 0),
        .data = msg->vector | (uint32_t)msg->delivery << 8 | (msg->level_triggered ? 0xc000 : 0),
    };
}

bool apic_bus_deliver(struct machine *m, const struct apic_message *msg)
{
    struct apic_bus *b = m->apic_bus;
    if (m->msi_sink && msg->delivery != APIC_SMI) { /* system management mode is ours in any case */
        struct msi_message encoded = apic_bus_encode(msg);
        return m->msi_sink->send(m->msi_sink->opaque, &encoded);
    }
    return msg->delivery == APIC_LOWEST ? deliver_lowest(b, msg) : deliver_all(b, msg);
}

void apic_bus_broadcast(struct machine *m, const struct apic_message *msg, int except)
{
    struct apic_bus *b = m->apic_bus;
    for (unsigned i = 0; i < b->targets->len; i++) {
        struct apic_target *t = b->targets->pdata[i];
        if (t && (int)i != except)
            t->deliver(t, msg);
    }
}

bool msi_deliver(struct machine *m, uint64_t addr, uint32_t data)
{
    if (!m->apic_bus)
        return false;
    struct apic_message msg = {
        .dest = addr >> 12 & 0xff,
        .logical = addr & 4,
        .delivery = data >> 8 & 7,
        .vector = data,
        .level_triggered = data & 0x8000,
        .assert = !(data & 0x8000) || (data & 0x4000),
    };
    /* Redirection hint: any one of the addressed. With a physical destination there is but one. */
    if ((addr & 8) && msg.logical && msg.delivery == APIC_FIXED)
        msg.delivery = APIC_LOWEST;
    if (!msg.assert)
        return true; /* a level that falls says nothing to a local APIC */
    return apic_bus_deliver(m, &msg);
}

int apic_bus_inta(struct machine *m)
{
    struct apic_bus *b = m->apic_bus;
    return b->pic ? b->pic_acknowledge(b->pic) : -1;
}

void apic_bus_eoi(struct machine *m, uint8_t vector)
{
    GArray *a = m->apic_bus->eoi_listeners;
    for (unsigned i = 0; i < a->len; i++) {
        struct eoi_listener *l = &g_array_index(a, struct eoi_listener, i);
        l->fn(l->opaque, vector);
    }
}

/* --- Wiring ----------------------------------------------------------------------------------- */

void apic_bus_attach(struct machine *m, unsigned index, struct apic_target *t)
{
    GPtrArray *a = m->apic_bus->targets;
    if (a->len <= index)
        g_ptr_array_set_size(a, index + 1);
    g_assert(!a->pdata[index]);
    a->pdata[index] = t;
}

void apic_bus_detach(struct machine *m, unsigned index)
{
    if (m->apic_bus)
        m->apic_bus->targets->pdata[index] = NULL;
}

void apic_bus_set_pic(struct machine *m, int (*acknowledge)(struct device *pic), struct device *pic)
{
    m->apic_bus->pic_acknowledge = acknowledge;
    m->apic_bus->pic = pic;
}

void apic_bus_listen_eoi(struct machine *m, apic_eoi_fn *fn, void *opaque)
{
    struct eoi_listener l = { fn, opaque };
    g_array_append_val(m->apic_bus->eoi_listeners, l);
}

void apic_bus_unlisten_eoi(struct machine *m, apic_eoi_fn *fn, void *opaque)
{
    if (!m->apic_bus)
        return;
    GArray *a = m->apic_bus->eoi_listeners;
    for (unsigned i = 0; i < a->len; i++) {
        struct eoi_listener *l = &g_array_index(a, struct eoi_listener, i);
        if (l->fn == fn && l->opaque == opaque) {
            g_array_remove_index(a, i);
            return;
        }
    }
}

/* --- Window ----------------------------------------------------------------------------------- */

/* The local APIC of the processor that makes this access, or NULL. */
static struct apic_target *own_target(struct apic_bus *b)
{
    int n = machine_current_cpu();
    return n >= 0 && (unsigned)n < b->targets->len ? b->targets->pdata[n] : NULL;
}

static uint64_t window_read(void *opaque, uint64_t offset, unsigned size)
{
    struct apic_bus *b = opaque;
    struct apic_target *t = own_target(b);
    if (offset < PAGE_SIZE && t)
        return t->mmio_read(t, offset, size);
    log_guest_error("apic", "read of message address %#" PRIx64, APIC_DEFAULT_BASE + offset);
    return UINT64_MAX;
}

/* Registers and messages share the first page; offset 0, the message for APIC 0, is no register. */
static void window_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct apic_bus *b = opaque;
    struct apic_target *t = own_target(b);
    if (offset && offset < PAGE_SIZE && t)
        t->mmio_write(t, offset, value, size);
    else if (size == 4)
        msi_deliver(b->dev.machine, APIC_DEFAULT_BASE + offset, value);
    else
        log_guest_error("apic", "write of %u bytes to message address %#" PRIx64, size, APIC_DEFAULT_BASE + offset);
}

static const struct mem_ops window_ops = { .read = window_read, .write = window_write, .impl = { .min = 1, .max = 4 } };

/* --- Device ----------------------------------------------------------------------------------- */

static bool realize(struct device *d, GError **err)
{
    struct apic_bus *b = container_of(d, struct apic_bus, dev);
    g_assert(!d->machine->apic_bus);
    b->targets = g_ptr_array_new();
    b->eoi_listeners = g_array_new(FALSE, FALSE, sizeof(struct eoi_listener));
    mem_init_io(&b->window, NULL, &window_ops, b, "apic",
                APIC_WINDOW_SIZE); /* no owner: a device's MSI may come any time */
    mem_map(&d->machine->memory_root, APIC_DEFAULT_BASE, &b->window, 1);
    d->machine->apic_bus = b;
    return true;
}

static void unrealize(struct device *d)
{
    struct apic_bus *b = container_of(d, struct apic_bus, dev);
    d->machine->apic_bus = NULL;
    mem_fini(&b->window);
    g_ptr_array_unref(b->targets);
    g_array_unref(b->eoi_listeners);
}

static void reset(struct device *d)
{
    container_of(d, struct apic_bus, dev)->last_lowest = 0;
}

static const struct state_field fields[] = {
    STATE_FIELD(STATE_U32, struct apic_bus, last_lowest),
    STATE_FIELDS_END,
};

static const struct state_table state = { .name = "apic-bus", .version = 1, .fields = fields };

const struct device_type apic_bus_type = {
    .name = "apic-bus",
    .description = "Interrupt bus between APICs; message window",
    .bus = "system",
    .size = sizeof(struct apic_bus),
    .realize = realize,
    .reset = reset,
    .unrealize = unrealize,
    .state = &state,
};
