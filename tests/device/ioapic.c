/*
 * I/O APIC and interrupt bus: registers, edges, levels and remote IRR, EOI by bus and by register, destinations, lowest
 * priority, message-signalled interrupts. The local APICs are the test's own, and record what they are given.
 */
#include "hw/core/state.h"
#include "hw/irq/apic_bus.h"
#include "hw/irq/ioapic.h"
#include "tests/lib/device_test.h"

#define CPUS 3
#define MASKED 0x10000u
#define LEVEL 0x8000u
#define LOGICAL 0x800u
#define REMOTE_IRR 0x4000u

struct target {
    struct apic_target target;
    unsigned id, count;
    bool refuses;
    struct apic_message last;
    unsigned mmio_offset, mmio_size;
    uint32_t mmio_value;
};

struct fixture {
    struct machine *m;
    struct device *ioapic;
    struct irq_line pin[IOAPIC_PINS];
    struct target cpu[CPUS];
};

static bool matches(struct apic_target *t, const struct apic_message *msg)
{
    struct target *cpu = container_of(t, struct target, target);
    if (msg->dest == (msg->wide ? UINT32_MAX : 0xff))
        return true;
    return msg->logical ? msg->dest & 1u << cpu->id : msg->dest == cpu->id;
}

static bool deliver(struct apic_target *t, const struct apic_message *msg)
{
    struct target *cpu = container_of(t, struct target, target);
    if (cpu->refuses)
        return false;
    cpu->last = *msg;
    cpu->count++;
    return true;
}

static uint64_t mmio_read(struct apic_target *t, unsigned offset, unsigned size)
{
    return 0x1000 * container_of(t, struct target, target)->id + offset;
}

static void mmio_write(struct apic_target *t, unsigned offset, uint32_t value, unsigned size)
{
    struct target *cpu = container_of(t, struct target, target);
    cpu->mmio_offset = offset;
    cpu->mmio_value = value;
    cpu->mmio_size = size;
}

static void set_up(struct fixture *f, gconstpointer data)
{
    f->m = test_machine_new();
    test_add(&apic_bus_type, f->m->system_bus, NULL);
    f->ioapic = test_add(&ioapic_type, f->m->system_bus, NULL);
    for (int i = 0; i < IOAPIC_PINS; i++)
        f->pin[i] = ioapic_input(f->ioapic, i);
    for (unsigned i = 0; i < CPUS; i++) {
        f->cpu[i] = (struct target){ .target = { matches, deliver, mmio_read, mmio_write }, .id = i };
        apic_bus_attach(f->m, i, &f->cpu[i].target);
    }
}

static void tear_down(struct fixture *f, gconstpointer data)
{
    test_state_roundtrip(f->ioapic);
    test_machine_free(f->m);
}

static uint32_t rd(struct fixture *f, uint8_t reg)
{
    test_write(f->m, IOAPIC_DEFAULT_BASE, reg, 4);
    return test_read(f->m, IOAPIC_DEFAULT_BASE + 0x10, 4);
}

static void wr(struct fixture *f, uint8_t reg, uint32_t value)
{
    test_write(f->m, IOAPIC_DEFAULT_BASE, reg, 4);
    test_write(f->m, IOAPIC_DEFAULT_BASE + 0x10, value, 4);
}

static void route(struct fixture *f, unsigned pin, uint32_t low, uint8_t dest)
{
    wr(f, 0x11 + 2 * pin, (uint32_t)dest << 24);
    wr(f, 0x10 + 2 * pin, low);
}

static unsigned total(struct fixture *f)
{
    return f->cpu[0].count + f->cpu[1].count + f->cpu[2].count;
}

/* --- Tests ----------------------------------------------------------------------------------------- */

static void test_registers(struct fixture *f, gconstpointer data)
{
    g_assert_cmphex(rd(f, 0), ==, 0);
    g_assert_cmphex(rd(f, 1), ==, 0x00170020);
    wr(f, 0, 0xffffffff);
    g_assert_cmphex(rd(f, 0), ==, 0x0f000000);
    g_assert_cmphex(rd(f, 2), ==, 0x0f000000);
    wr(f, 1, 0xffffffff);
    wr(f, 2, 0);
    g_assert_cmphex(rd(f, 1), ==, 0x00170020);
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
        g_assert_cmphex(rd(f, 0x10 + 2 * pin), ==, MASKED);
        g_assert_cmphex(rd(f, 0x11 + 2 * pin), ==, 0);
        wr(f, 0x11 + 2 * pin, 0xffffffff);
        wr(f, 0x10 + 2 * pin, 0xffffffff);
        g_assert_cmphex(rd(f, 0x10 + 2 * pin), ==, 0x1afff); /* status and remote IRR are read-only */
        g_assert_cmphex(rd(f, 0x11 + 2 * pin), ==, 0xff000000);
    }
    g_assert_cmphex(rd(f, 0x40), ==, 0); /* behind the last pin */
    wr(f, 0x40, 0xffffffff);
    g_assert_cmphex(test_read(f->m, IOAPIC_DEFAULT_BASE, 4), ==, 0x40);
    g_assert_cmphex(test_read(f->m, IOAPIC_DEFAULT_BASE + 0x20, 4), ==, 0);
    test_write(f->m, IOAPIC_DEFAULT_BASE, 0x11, 1); /* the index may be a byte, the window not */
    test_write(f->m, IOAPIC_DEFAULT_BASE + 0x10, 0, 1);
    g_assert_cmphex(test_read(f->m, IOAPIC_DEFAULT_BASE + 0x10, 4), ==, 0xff000000);
    bus_reset(f->m->system_bus);
    g_assert_cmphex(rd(f, 0x10), ==, MASKED);
    g_assert_cmphex(rd(f, 0), ==, 0);
    g_assert_cmpuint(total(f), ==, 0);
}

static void test_edge(struct fixture *f, gconstpointer data)
{
    route(f, 2, 0x30, 1);
    irq_raise(&f->pin[2]);
    g_assert_cmpuint(f->cpu[1].count, ==, 1);
    g_assert_cmpuint(total(f), ==, 1);
    g_assert_cmphex(f->cpu[1].last.vector, ==, 0x30);
    g_assert_cmpuint(f->cpu[1].last.delivery, ==, APIC_FIXED);
    g_assert_false(f->cpu[1].last.level_triggered);
    irq_raise(&f->pin[2]); /* no edge */
    g_assert_cmpuint(f->cpu[1].count, ==, 1);
    apic_bus_eoi(f->m, 0x30); /* nothing to an edge */
    g_assert_cmpuint(f->cpu[1].count, ==, 1);
    irq_lower(&f->pin[2]);
    irq_raise(&f->pin[2]);
    g_assert_cmpuint(f->cpu[1].count, ==, 2);
    /* An edge on a masked pin is lost, also if the pin is still up when the mask goes. */
    route(f, 2, 0x30 | MASKED, 1);
    irq_lower(&f->pin[2]);
    irq_raise(&f->pin[2]);
    route(f, 2, 0x30, 1);
    g_assert_cmpuint(f->cpu[1].count, ==, 2);
    /* NMI and the like are edges, whatever the trigger bit says. */
    route(f, 5, 0x400 | LEVEL, 0);
    irq_raise(&f->pin[5]);
    g_assert_cmpuint(f->cpu[0].count, ==, 1);
    g_assert_cmpuint(f->cpu[0].last.delivery, ==, APIC_NMI);
    g_assert_false(f->cpu[0].last.level_triggered);
    g_assert_cmphex(rd(f, 0x1a) & REMOTE_IRR, ==, 0);
    route(f, 6, 0x700, 2);
    irq_raise(&f->pin[6]);
    g_assert_cmpuint(f->cpu[2].last.delivery, ==, APIC_EXTINT);
}

static void test_level(struct fixture *f, gconstpointer data)
{
    route(f, 10, 0x55 | LEVEL, 0);
    irq_raise(&f->pin[10]);
    g_assert_cmpuint(f->cpu[0].count, ==, 1);
    g_assert_true(f->cpu[0].last.level_triggered);
    g_assert_cmphex(rd(f, 0x24), ==, 0x55 | LEVEL | REMOTE_IRR);
    irq_lower(&f->pin[10]);
    irq_raise(&f->pin[10]); /* not again before its EOI */
    g_assert_cmpuint(f->cpu[0].count, ==, 1);
    apic_bus_eoi(f->m, 0x54); /* another's */
    g_assert_cmphex(rd(f, 0x24) & REMOTE_IRR, ==, REMOTE_IRR);
    for (unsigned i = 2; i < 5; i++) {
        apic_bus_eoi(f->m, 0x55); /* still up: once more */
        g_assert_cmpuint(f->cpu[0].count, ==, i);
        g_assert_cmphex(rd(f, 0x24) & REMOTE_IRR, ==, REMOTE_IRR);
    }
    irq_lower(&f->pin[10]);
    apic_bus_eoi(f->m, 0x55);
    g_assert_cmpuint(f->cpu[0].count, ==, 4);
    g_assert_cmphex(rd(f, 0x24) & REMOTE_IRR, ==, 0);
    /* Raised under the mask: when it goes. */
    route(f, 10, 0x55 | LEVEL | MASKED, 0);
    irq_raise(&f->pin[10]);
    g_assert_cmpuint(f->cpu[0].count, ==, 4);
    route(f, 10, 0x55 | LEVEL, 0);
    g_assert_cmpuint(f->cpu[0].count, ==, 5);
    /* Masked in service: the EOI clears remote IRR and does not send. */
    route(f, 10, 0x55 | LEVEL | MASKED, 0);
    g_assert_cmphex(rd(f, 0x24) & REMOTE_IRR, ==, REMOTE_IRR);
    apic_bus_eoi(f->m, 0x55);
    g_assert_cmphex(rd(f, 0x24) & REMOTE_IRR, ==, 0);
    g_assert_cmpuint(f->cpu[0].count, ==, 5);
    /* Systems without EOI register: edge and back. */
    route(f, 10, 0x55 | LEVEL, 0);
    g_assert_cmpuint(f->cpu[0].count, ==, 6);
    route(f, 10, 0x55 | MASKED, 0);
    g_assert_cmphex(rd(f, 0x24) & REMOTE_IRR, ==, 0);
    route(f, 10, 0x55 | LEVEL, 0);
    g_assert_cmpuint(f->cpu[0].count, ==, 7);
    /* Two pins with one vector: one EOI ends both. */
    route(f, 11, 0x55 | LEVEL, 1);
    irq_raise(&f->pin[11]);
    apic_bus_eoi(f->m, 0x55);
    g_assert_cmpuint(f->cpu[0].count, ==, 8);
    g_assert_cmpuint(f->cpu[1].count, ==, 2);
    /* Nobody accepts: it is not in service, and comes when somebody does. */
    f->cpu[2].refuses = true;
    route(f, 12, 0x60 | LEVEL, 2);
    irq_raise(&f->pin[12]);
    g_assert_cmphex(rd(f, 0x28) & REMOTE_IRR, ==, 0);
    f->cpu[2].refuses = false;
    irq_raise(&f->pin[12]);
    g_assert_cmphex(rd(f, 0x28) & REMOTE_IRR, ==, REMOTE_IRR);
}

static void test_eoi_register(struct fixture *f, gconstpointer data)
{
    route(f, 9, 0x71 | LEVEL, 0);
    irq_raise(&f->pin[9]);
    test_write(f->m, IOAPIC_DEFAULT_BASE + 0x40, 0x71, 4);
    g_assert_cmpuint(f->cpu[0].count, ==, 2);
    /* Version 0x11 has none. */
    device_free(f->ioapic);
    f->ioapic = test_add(&ioapic_type, f->m->system_bus, "version=0x11", "apic-id=3", NULL);
    g_assert_cmphex(rd(f, 1), ==, 0x00170011);
    g_assert_cmphex(rd(f, 0), ==, 0x03000000);
    route(f, 9, 0x71 | LEVEL, 0);
    struct irq_line pin = ioapic_input(f->ioapic, 9);
    irq_raise(&pin);
    test_write(f->m, IOAPIC_DEFAULT_BASE + 0x40, 0x71, 4);
    g_assert_cmpuint(f->cpu[0].count, ==, 3);
    apic_bus_eoi(f->m, 0x71);
    g_assert_cmpuint(f->cpu[0].count, ==, 4);
    g_autoptr(GError) err = NULL;
    struct device *d = device_new(&ioapic_type, f->m->system_bus);
    g_assert_true(device_set_prop(d, "version", "0x12", &err));
    g_assert_false(device_realize(d, &err));
    device_free(d);
}

static void test_destinations(struct fixture *f, gconstpointer data)
{
    route(f, 0, 0x40 | LOGICAL, 6); /* 1 and 2 */
    irq_pulse(&f->pin[0]);
    g_assert_cmpuint(f->cpu[0].count, ==, 0);
    g_assert_cmpuint(f->cpu[1].count, ==, 1);
    g_assert_cmpuint(f->cpu[2].count, ==, 1);
    route(f, 0, 0x40, 0xff); /* all */
    irq_pulse(&f->pin[0]);
    g_assert_cmpuint(total(f), ==, 5);
    route(f, 0, 0x40, 7); /* nobody */
    irq_pulse(&f->pin[0]);
    g_assert_cmpuint(total(f), ==, 5);
    /* Lowest priority: one of them, in turn, and none that refuses. */
    route(f, 0, 0x140 | LOGICAL, 7);
    unsigned before[CPUS] = { f->cpu[0].count, f->cpu[1].count, f->cpu[2].count };
    for (unsigned i = 0; i < 9; i++)
        irq_pulse(&f->pin[0]);
    for (unsigned i = 0; i < CPUS; i++)
        g_assert_cmpuint(f->cpu[i].count - before[i], ==, 3);
    f->cpu[1].refuses = true;
    for (unsigned i = 0; i < 8; i++)
        irq_pulse(&f->pin[0]);
    g_assert_cmpuint(f->cpu[0].count - before[0], ==, 7);
    g_assert_cmpuint(f->cpu[1].count - before[1], ==, 3);
    g_assert_cmpuint(f->cpu[2].count - before[2], ==, 7);
}

static void test_msi(struct fixture *f, gconstpointer data)
{
    g_assert_true(msi_deliver(f->m, 0xfee01000, 0x4055));
    g_assert_cmpuint(f->cpu[1].count, ==, 1);
    g_assert_cmphex(f->cpu[1].last.vector, ==, 0x55);
    g_assert_false(f->cpu[1].last.level_triggered);
    g_assert_false(f->cpu[1].last.wide);
    g_assert_false(msi_deliver(f->m, 0xfee09000, 0x55));
    g_assert_true(msi_deliver(f->m, 0xfee05004, 0x66)); /* logical: 0 and 2 */
    g_assert_cmpuint(total(f), ==, 3);
    g_assert_true(msi_deliver(f->m, 0xfee0500c, 0x66)); /* with redirection hint: one */
    g_assert_cmpuint(total(f), ==, 4);
    g_assert_true(msi_deliver(f->m, 0xfee05004, 0x166)); /* lowest priority: one */
    g_assert_cmpuint(total(f), ==, 5);
    g_assert_true(msi_deliver(f->m, 0xfee02000, 0x400)); /* NMI */
    g_assert_cmpuint(f->cpu[2].last.delivery, ==, APIC_NMI);
    g_assert_true(msi_deliver(f->m, 0xfee02000, 0xc077)); /* level, asserted */
    g_assert_true(f->cpu[2].last.level_triggered);
    unsigned count = f->cpu[2].count;
    msi_deliver(f->m, 0xfee02000, 0x8077); /* and fallen */
    g_assert_cmpuint(f->cpu[2].count, ==, count);
}

static void test_window(struct fixture *f, gconstpointer data)
{
    /* From a device: a message, wherever it falls. */
    g_assert_cmpint(machine_current_cpu(), ==, -1);
    test_write(f->m, 0xfee00000, 0x21, 4);
    g_assert_cmpuint(f->cpu[0].count, ==, 1);
    test_write(f->m, 0xfee02000, 0x22, 4);
    g_assert_cmpuint(f->cpu[2].count, ==, 1);
    test_write(f->m, 0xfee02000, 0x22, 2); /* no message */
    g_assert_cmpuint(f->cpu[2].count, ==, 1);
    g_assert_cmphex(test_read(f->m, 0xfee00020, 4), ==, 0xffffffff);
    /* From a processor: its own registers in the first page, a message elsewhere. */
    machine_set_current_cpu(1);
    g_assert_cmphex(test_read(f->m, 0xfee00020, 4), ==, 0x1020);
    test_write(f->m, 0xfee00380, 0x1234, 4);
    g_assert_cmphex(f->cpu[1].mmio_offset, ==, 0x380);
    g_assert_cmphex(f->cpu[1].mmio_value, ==, 0x1234);
    g_assert_cmpuint(f->cpu[1].mmio_size, ==, 4);
    test_write(f->m, 0xfee02000, 0x23, 4);
    g_assert_cmpuint(f->cpu[2].count, ==, 2);
    machine_set_current_cpu(2);
    g_assert_cmphex(test_read(f->m, 0xfee00fff, 1), ==, 0xff);
    machine_set_current_cpu(-1);
}

static void test_shared_state(struct fixture *f, gconstpointer data)
{
    route(f, 9, 0x71 | LEVEL, 0);
    irq_raise(&f->pin[9]);
    irq_raise(&f->pin[3]);
    wr(f, 0, 0x05000000);
    struct device *other = test_add(&ioapic_type, f->m->system_bus, "addr=0xfec01000", NULL);
    test_state_transfer(f->ioapic, other);
    device_free(f->ioapic);
    f->ioapic = other;
    apic_bus_eoi(f->m, 0x71); /* the copy knows that the pin is up */
    g_assert_cmpuint(f->cpu[0].count, ==, 2);
}

static void test_random(struct fixture *f, gconstpointer data)
{
    GRand *r = g_rand_new_with_seed(82093);
    for (unsigned i = 0; i < 200; i++) {
        test_poke_memory(f->m, f->ioapic, g_rand_int(r), 50, IOAPIC_DEFAULT_BASE, 0x50);
        wr(f, g_rand_int_range(r, 0x10, 0x40), g_rand_int(r) & ~MASKED);
        for (unsigned k = 0; k < 10; k++)
            irq_set(&f->pin[g_rand_int_range(r, 0, IOAPIC_PINS)], g_rand_boolean(r));
        apic_bus_eoi(f->m, g_rand_int(r));
    }
    g_rand_free(r);
}

#define ADD(name) g_test_add("/ioapic/" #name, struct fixture, NULL, set_up, test_##name, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD(registers);
    ADD(edge);
    ADD(level);
    ADD(eoi_register);
    ADD(destinations);
    ADD(msi);
    ADD(window);
    ADD(shared_state);
    ADD(random);
    return g_test_run();
}
