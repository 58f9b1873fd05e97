/*
 * I/O APIC: Intel 82093AA (datasheet 290566-001) with the EOI register of version 0x20, as in the ICH.
 *
 * Pin polarity is kept and has no effect: a wire here says whether the interrupt is asserted, not its voltage. Delivery
 * is instant, so the delivery status bit always reads idle. An edge on a masked pin is ignored, as the datasheet has
 * it.
 *
 * All under the VM lock.
 */
#include "hw/irq/ioapic.h"

#include "hw/core/log.h"
#include "hw/core/machine.h"
#include "hw/core/state.h"
#include "hw/irq/apic_bus.h"

#include <inttypes.h>

G_STATIC_ASSERT(IOAPIC_PINS == MSI_PINS);

#define IOREGSEL 0x00
#define IOWIN 0x10
#define IOEOI 0x40
#define REG_ID 0x00
#define REG_VERSION 0x01
#define REG_ARBITRATION 0x02
#define REG_REDIRECTION 0x10 /* two per pin */

#define RTE_VECTOR 0xffu
#define RTE_DELIVERY_SHIFT 8
#define RTE_DELIVERY (7u << RTE_DELIVERY_SHIFT)
#define RTE_LOGICAL (1u << 11)
#define RTE_STATUS (1u << 12)
#define RTE_REMOTE_IRR (1u << 14)
#define RTE_LEVEL (1u << 15)
#define RTE_MASK (1u << 16)
#define RTE_READ_ONLY (RTE_STATUS | RTE_REMOTE_IRR)
#define RTE_LOW 0x1ffffu /* implemented bits */
#define RTE_DEST_SHIFT 56
#define RTE_IMPLEMENTED (UINT64_C(0xff) << RTE_DEST_SHIFT | RTE_LOW)

struct ioapic {
    struct device dev;
    struct mem_region mmio;
    uint64_t addr;
    uint8_t initial_id, version;
    uint8_t select, id;
    uint32_t lines; /* pins as they are */
    uint64_t redirection[IOAPIC_PINS];
};

static unsigned delivery_of(uint64_t rte)
{
    return (rte & RTE_DELIVERY) >> RTE_DELIVERY_SHIFT;
}

/* SMI, NMI, INIT and ExtINT are edges whatever the trigger bit says. */
static bool is_level(uint64_t rte)
{
    return (rte & RTE_LEVEL) && delivery_of(rte) <= APIC_LOWEST;
}

static struct apic_message message_of(uint64_t rte)
{
    return (struct apic_message){
        .dest = rte >> RTE_DEST_SHIFT,
        .logical = rte & RTE_LOGICAL,
        .delivery = delivery_of(rte),
        .vector = rte & RTE_VECTOR,
        .level_triggered = is_level(rte),
        .assert = true,
    };
}

static bool send(struct ioapic *s, uint64_t rte)
{
    struct apic_message msg = message_of(rte);
    return apic_bus_deliver(s->dev.machine, &msg);
}

/* Tells the machine what the pin sends now: whoever has the local APICs must know which EOIs we wait for. */
static void publish_pin(struct ioapic *s, unsigned pin)
{
    struct machine *m = s->dev.machine;
    struct msi_message new = { 0 };
    if (is_level(s->redirection[pin])) {
        struct apic_message msg = message_of(s->redirection[pin]);
        new = apic_bus_encode(&msg);
    }
    bool same = new.addr == m->pins[pin].addr && new.data == m->pins[pin].data;
    m->pins[pin] = new;
    if (!same && m->msi_sink)
        m->msi_sink->pin(m->msi_sink->opaque, pin);
}

/* Sends a level-triggered pin's interrupt if it is due. */
static void service_level(struct ioapic *s, unsigned pin)
{
    uint64_t *rte = &s->redirection[pin];
    if (is_level(*rte) && (s->lines & 1u << pin) && !(*rte & (RTE_MASK | RTE_REMOTE_IRR)) && send(s, *rte))
        *rte |= RTE_REMOTE_IRR;
}

static void input(void *opaque, int pin, int level)
{
    struct ioapic *s = opaque;
    uint32_t bit = 1u << pin, before = s->lines;
    s->lines = level ? before | bit : before & ~bit;
    if (!level)
        return;
    uint64_t rte = s->redirection[pin];
    if (is_level(rte))
        service_level(s, pin);
    else if (!(before & bit) && !(rte & RTE_MASK))
        send(s, rte);
}

struct irq_line ioapic_input(struct device *ioapic, int pin)
{
    g_assert(pin >= 0 && pin < IOAPIC_PINS);
    return (struct irq_line){ input, container_of(ioapic, struct ioapic, dev), pin };
}

/* The processor is done with that vector: pins still asserted interrupt again. */
static void end_of_interrupt(void *opaque, uint8_t vector)
{
    struct ioapic *s = opaque;
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
        uint64_t *rte = &s->redirection[pin];
        if (!(*rte & RTE_REMOTE_IRR) || (*rte & RTE_VECTOR) != vector)
            continue;
        *rte &= ~(uint64_t)RTE_REMOTE_IRR;
        service_level(s, pin);
    }
}

/* --- Registers -------------------------------------------------------------------------------- */

static uint32_t read_register(const struct ioapic *s)
{
    switch (s->select) {
    case REG_ID:
    case REG_ARBITRATION: return (uint32_t)s->id << 24;
    case REG_VERSION: return (IOAPIC_PINS - 1) << 16 | s->version;
    }
    unsigned n = s->select - REG_REDIRECTION;
    if (s->select < REG_REDIRECTION || n >= 2 * IOAPIC_PINS)
        return 0;
    return n & 1 ? s->redirection[n / 2] >> 32 : s->redirection[n / 2];
}

static void write_redirection(struct ioapic *s, unsigned pin, bool upper, uint32_t value)
{
    uint64_t *rte = &s->redirection[pin];
    if (upper)
        *rte = (*rte & UINT32_MAX) | (uint64_t)value << 32;
    else
        *rte = (*rte & ~(uint64_t)UINT32_MAX) | (*rte & RTE_READ_ONLY) | (value & ~RTE_READ_ONLY);
    *rte &= RTE_IMPLEMENTED;
    if (!is_level(*rte))
        *rte &= ~(uint64_t)RTE_REMOTE_IRR; /* systems without EOI register end an interrupt by this */
    publish_pin(s, pin);
    service_level(s, pin);
}

static void write_register(struct ioapic *s, uint32_t value)
{
    unsigned n = s->select - REG_REDIRECTION;
    if (s->select == REG_ID)
        s->id = value >> 24 & 15;
    else if (s->select >= REG_REDIRECTION && n < 2 * IOAPIC_PINS)
        write_redirection(s, n / 2, n & 1, value);
    else
        log_guest_error("ioapic", "write to register %#x", s->select);
}

static uint64_t mmio_read(void *opaque, uint64_t offset, unsigned size)
{
    struct ioapic *s = opaque;
    switch (offset) {
    case IOREGSEL: return s->select;
    case IOWIN: return read_register(s);
    default: return 0;
    }
}

static void mmio_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct ioapic *s = opaque;
    if (offset == IOREGSEL)
        s->select = value;
    else if (size != 4)
        log_guest_error("ioapic", "write of %u bytes at %#" PRIx64, size, offset);
    else if (offset == IOWIN)
        write_register(s, value);
    else if (offset == IOEOI && s->version >= 0x20)
        end_of_interrupt(s, value);
}

static const struct mem_ops mmio_ops = { .read = mmio_read, .write = mmio_write, .impl = { .min = 1, .max = 4 } };

/* --- Device ----------------------------------------------------------------------------------- */

static bool realize(struct device *d, GError **err)
{
    struct ioapic *s = container_of(d, struct ioapic, dev);
    g_assert(d->machine->apic_bus);
    if (s->initial_id > 15 || (s->version != 0x11 && s->version != 0x20) || s->addr & (PAGE_SIZE - 1)) {
        g_set_error(err, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                    "ioapic: needs apic-id up to 15, version 0x11 or 0x20, addr at a page");
        return false;
    }
    apic_bus_listen_eoi(d->machine, end_of_interrupt, s);
    mem_init_io(&s->mmio, d, &mmio_ops, s, "ioapic", PAGE_SIZE);
    mem_map(&d->machine->memory_root, s->addr, &s->mmio, 1);
    return true;
}

static void unrealize(struct device *d)
{
    struct ioapic *s = container_of(d, struct ioapic, dev);
    apic_bus_unlisten_eoi(d->machine, end_of_interrupt, s);
    mem_fini(&s->mmio);
}

static void reset(struct device *d)
{
    struct ioapic *s = container_of(d, struct ioapic, dev);
    s->select = 0;
    s->id = s->initial_id;
    s->lines = 0;
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
        s->redirection[pin] = RTE_MASK;
        publish_pin(s, pin);
    }
}

static bool post_load(void *instance, uint8_t version, GError **err)
{
    struct ioapic *s = instance;
    bool ok = s->id <= 15 && s->lines < 1u << IOAPIC_PINS;
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
        ok = ok && !(s->redirection[pin] & ~RTE_IMPLEMENTED);
    if (!ok)
        g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_INVAL, "ioapic: saved state out of range");
    for (unsigned pin = 0; ok && pin < IOAPIC_PINS; pin++)
        publish_pin(s, pin);
    return ok;
}

static const struct prop props[] = {
    PROP(PROP_U64, "addr", struct ioapic, addr, IOAPIC_DEFAULT_BASE, "address of its page"),
    PROP(PROP_U8, "apic-id", struct ioapic, initial_id, 0, "APIC id after reset"),
    PROP(PROP_U8, "version", struct ioapic, version, 0x20, "0x11 or 0x20"),
    PROPS_END,
};

static const struct state_field fields[] = {
    STATE_FIELD(STATE_U8, struct ioapic, select),
    STATE_FIELD(STATE_U8, struct ioapic, id),
    STATE_FIELD(STATE_U32, struct ioapic, lines),
    STATE_ARRAY(STATE_U64, struct ioapic, redirection),
    STATE_FIELDS_END,
};

static const struct state_table state = { .name = "ioapic", .version = 1, .fields = fields, .post_load = post_load };

const struct device_type ioapic_type = {
    .name = "ioapic",
    .description = "I/O APIC",
    .bus = "system",
    .size = sizeof(struct ioapic),
    .props = props,
    .realize = realize,
    .reset = reset,
    .unrealize = unrealize,
    .state = &state,
};
