/* Help for tests of chips: see device_test.h. */
#include "tests/lib/device_test.h"

#include "hw/core/state.h"
#include "hw/core/vm_lock.h"
#include "hw/isa/isa.h"

#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* --- Lines -------------------------------------------------------------------------------------------------------- */

static void record(void *opaque, int n, int level)
{
    struct test_line *l = opaque;

    if (level && !l->level)
        l->rises++;
    if (!level && l->level)
        l->falls++;
    l->level = level;
}

void test_line_init(struct test_line *l)
{
    *l = (struct test_line){.line = {.fn = record, .opaque = l}};
}

/* --- Machine ------------------------------------------------------------------------------------------------------ */

struct machine *test_machine_new(void)
{
    vm_lock();
    return machine_new(true);
}

void test_machine_free(struct machine *m)
{
    machine_free(m);
    vm_unlock();
}

void test_add_ram(struct machine *m, uint64_t size)
{
    static struct mem_region regions[8];
    static unsigned used;
    struct mem_region *r = &regions[used++ % G_N_ELEMENTS(regions)];
    GError *err = NULL;

    m->ram = ram_block_new("pc.ram", size, NULL, &err);
    g_assert_no_error(err);
    mem_init_ram(r, NULL, "ram", m->ram, 0, size);
    mem_map(&m->memory_root, 0, r, 0);
}

/* --- Images ------------------------------------------------------------------------------------------------------- */

void test_image_make(struct test_image *i, uint64_t size)
{
    i->fd = memfd_create("image", MFD_CLOEXEC);
    g_assert_cmpint(i->fd, >=, 0);
    g_assert_cmpint(ftruncate(i->fd, (off_t)size), ==, 0);
    g_snprintf(i->path, sizeof i->path, "/proc/self/fd/%d", i->fd);
}

void test_image_free(struct test_image *i)
{
    if (*i->path)
        close(i->fd);
    *i->path = 0;
}

/* --- A bare ISA bus ----------------------------------------------------------------------------------------------- */

struct test_bridge {
    struct device dev;
    struct isa_bus isa;
    struct test_line lines[ISA_IRQS];
};

static bool bridge_realize(struct device *d, GError **err)
{
    struct test_bridge *b = container_of(d, struct test_bridge, dev);

    isa_bus_init(&b->isa, d, "isa.0", &d->machine->memory_root);
    for (unsigned i = 0; i < ISA_IRQS; i++) {
        test_line_init(&b->lines[i]);
        b->isa.out[i] = b->lines[i].line;
    }
    return true;
}

static void bridge_reset(struct device *d)
{
    isa_bus_reset(&container_of(d, struct test_bridge, dev)->isa);
}

static const struct state_field bridge_fields[] = {
    STATE_NESTED(struct test_bridge, isa, isa_bus_fields),
    STATE_FIELDS_END,
};
static const struct state_table bridge_state = {.name = "isabus-bridge", .version = 1, .fields = bridge_fields};

static const struct device_type bridge_type = {
    .name = "isabus-bridge",
    .description = "ISA bus for tests",
    .bus = "system",
    .size = sizeof(struct test_bridge),
    .realize = bridge_realize,
    .reset = bridge_reset,
    .state = &bridge_state,
};

struct bus *test_add_isa(struct machine *m)
{
    return container_of(test_add(&bridge_type, m->system_bus, NULL), struct test_bridge, dev)->isa.bus;
}

struct test_line *test_isa_line(struct machine *m, unsigned n)
{
    struct bus *b = bus_find(m->system_bus, "isa", NULL);

    g_assert(b && b->owner->type == &bridge_type && n < ISA_IRQS);
    return &container_of(b->owner, struct test_bridge, dev)->lines[n];
}

struct device *test_add(const struct device_type *type, struct bus *bus, ...)
{
    struct device *d = device_new(type, bus);
    GError *err = NULL;
    va_list ap;

    va_start(ap, bus);
    for (const char *p; (p = va_arg(ap, const char *));) {
        g_autofree char *name = g_strdup(p);
        char *value = strchr(name, '=');
        g_assert_nonnull(value);
        *value++ = 0;
        device_set_prop(d, name, value, &err);
        g_assert_no_error(err);
    }
    va_end(ap);
    device_realize(d, &err);
    g_assert_no_error(err);
    if (type->reset)
        type->reset(d);
    if (type->reset_wires)
        type->reset_wires(d);
    return d;
}

/* --- Accesses ----------------------------------------------------------------------------------------------------- */

uint8_t test_inb(struct machine *m, uint16_t port)
{
    return address_space_load(&m->ports, port, 1);
}

uint16_t test_inw(struct machine *m, uint16_t port)
{
    return address_space_load(&m->ports, port, 2);
}

uint32_t test_inl(struct machine *m, uint16_t port)
{
    return address_space_load(&m->ports, port, 4);
}

void test_outb(struct machine *m, uint16_t port, uint8_t value)
{
    address_space_store(&m->ports, port, value, 1);
}

void test_outw(struct machine *m, uint16_t port, uint16_t value)
{
    address_space_store(&m->ports, port, value, 2);
}

void test_outl(struct machine *m, uint16_t port, uint32_t value)
{
    address_space_store(&m->ports, port, value, 4);
}

uint64_t test_read(struct machine *m, uint64_t addr, unsigned size)
{
    return address_space_load(&m->memory, addr, size);
}

void test_write(struct machine *m, uint64_t addr, uint64_t value, unsigned size)
{
    address_space_store(&m->memory, addr, value, size);
}

void test_step(struct machine *m, int64_t ns)
{
    clock_step(m->clock, ns);
}

/* --- Saved state -------------------------------------------------------------------------------------------------- */

static GByteArray *save(struct device *d, const char *id)
{
    GByteArray *out = g_byte_array_new();
    state_save(out, d->type->state, id, d);
    return out;
}

static void load(struct device *d, const char *id, const GByteArray *from)
{
    struct state_reader in = {.data = from->data, .size = from->len};
    GError *err = NULL;

    state_load(&in, d->type->state, id, d, &err);
    g_assert_no_error(err);
    g_assert_cmpuint(in.pos, ==, in.size);
}

void test_state_transfer(struct device *from, struct device *to)
{
    g_assert(from->type == to->type);
    g_autoptr(GByteArray) first = save(from, "test");
    load(to, "test", first);
    g_autoptr(GByteArray) second = save(to, "test");
    g_assert_cmpmem(first->data, first->len, second->data, second->len);
}

void test_state_roundtrip(struct device *d)
{
    test_state_transfer(d, d);
}

/* --- Random accesses ---------------------------------------------------------------------------------------------- */

static uint64_t random_value(GRand *r)
{
    /* Single bits, all ones, small numbers and noise: what finds the corners. */
    switch (g_rand_int_range(r, 0, 4)) {
    case 0: return UINT64_C(1) << g_rand_int_range(r, 0, 32);
    case 1: return UINT64_MAX;
    case 2: return g_rand_int_range(r, 0, 16);
    default: return (uint64_t)g_rand_int(r) << 32 | g_rand_int(r);
    }
}

static void poke(struct machine *m, struct address_space *as, struct device *d, uint32_t seed, unsigned n,
                 uint64_t base, uint64_t len)
{
    GRand *r = g_rand_new_with_seed(seed);
    unsigned when = g_rand_int_range(r, 0, n);

    for (unsigned i = 0; i < n; i++) {
        unsigned size = 1u << g_rand_int_range(r, 0, 3);
        uint64_t addr = base + g_rand_int(r) % len;
        if (g_rand_boolean(r))
            address_space_store(as, addr, random_value(r), size);
        else
            address_space_load(as, addr, size);
        if (g_rand_int_range(r, 0, 16) == 0)
            clock_step(m->clock, g_rand_int(r) % 50000000);
        if (i == when)
            test_state_roundtrip(d);
    }
    test_state_roundtrip(d);
    g_rand_free(r);
}

void test_poke_ports(struct machine *m, struct device *d, uint32_t seed, unsigned n, uint16_t port, unsigned len)
{
    poke(m, &m->ports, d, seed, n, port, len);
}

void test_poke_memory(struct machine *m, struct device *d, uint32_t seed, unsigned n, uint64_t addr, uint64_t len)
{
    poke(m, &m->memory, d, seed, n, addr, len);
}
