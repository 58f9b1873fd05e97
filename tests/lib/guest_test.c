/* Bare-metal guests: see the header. */
#include "tests/lib/guest_test.h"

#include "accel/accel.h"
#include "hw/core/vm_lock.h"
#include "hw/irq/apic_bus.h"
#include "hw/irq/lapic.h"
#include "tests/lib/time_scale.h"

#include <string.h>

static void out_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct guest *g = opaque;
    g_string_append_c(g->out, (char)value);
}

static uint64_t ones_read(void *opaque, uint64_t offset, unsigned size)
{
    return UINT64_MAX;
}

static void exit_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct guest *g = opaque;
    if (g->result == GUEST_RUNNING)
        g->result = (int)(value & 0xff);
    machine_request(g->m, REQUEST_SHUTDOWN, "guest test");
}

static void yield_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    g_thread_yield();
}

static const struct mem_ops yield_ops = { .read = ones_read, .write = yield_write };
static const struct mem_ops out_ops = { .read = ones_read, .write = out_write };
static const struct mem_ops exit_ops = { .read = ones_read, .write = exit_write };

static gboolean quit_loop(gpointer opaque)
{
    struct guest *g = opaque;
    vm_lock();
    enum machine_request r = machine_take_request(g->m);
    if (r == REQUEST_RESET && g->result == GUEST_RUNNING)
        g->result = GUEST_RESET;
    vm_unlock();
    if (r != REQUEST_NONE)
        g_main_loop_quit(g->loop);
    return G_SOURCE_REMOVE;
}

static void on_request(struct machine *m, void *opaque)
{
    g_idle_add_full(G_PRIORITY_HIGH, quit_loop, opaque, NULL);
}

static gboolean on_timeout(gpointer opaque)
{
    struct guest *g = opaque;
    g->timeout = 0;
    g->result = GUEST_TIMEOUT;
    g_main_loop_quit(g->loop);
    return G_SOURCE_REMOVE;
}

struct guest *guest_new(uint64_t ram, unsigned cpus, const char *model)
{
    GError *err = NULL;
    struct guest *g = g_new0(struct guest, 1);
    vm_lock();
    struct machine *m = g->m = machine_new(false);
    g->out = g_string_new(NULL);
    g->loop = g_main_loop_new(NULL, FALSE);
    m->on_request = on_request;
    m->on_request_opaque = g;
    m->ram = ram_block_new("guest", ram, NULL, &err);
    g_assert_no_error(err);
    mem_init_ram(&g->ram, NULL, "ram", m->ram, 0, ram);
    mem_map(&m->memory_root, 0, &g->ram, 0);
    mem_init_io(&g->ports_out, NULL, &out_ops, g, "output", 1);
    mem_map(&m->port_root, 0xe9, &g->ports_out, 0);
    mem_init_io(&g->port_exit, NULL, &exit_ops, g, "exit", 1);
    mem_map(&m->port_root, 0xf4, &g->port_exit, 0);
    mem_init_io(&g->port_yield, NULL, &yield_ops, g, "yield", 1);
    mem_map(&m->port_root, 0xea, &g->port_yield, 0);
    g->model = cpu_model_parse(model ? model : "max", &err);
    g_assert_no_error(err);
    m->cpu_count = cpus;
    m->cpus = g_new0(struct cpu *, cpus);
    struct device *d;
    g_assert_true(device_add(&apic_bus_type, m->system_bus, &d, &err));
    for (unsigned k = 0; k < cpus; k++) {
        m->cpus[k] = cpu_new(m, k, g->model);
        char *index = g_strdup_printf("%u", k);
        d = device_new(&lapic_type, m->system_bus);
        g_assert_true(device_set_prop(d, "index", index, &err));
        g_assert_true(device_realize(d, &err));
        g_free(index);
    }
    bus_reset(m->system_bus);
    const char *accel[] = { g_getenv("ACCEL") && *g_getenv("ACCEL") ? g_getenv("ACCEL") : "auto", NULL };
    accel_init(m, accel, &err);
    g_assert_no_error(err);
    return g;
}

void guest_free(struct guest *g)
{
    struct machine *m = g->m;
    accel_fini(m);
    for (unsigned k = 0; k < m->cpu_count; k++)
        cpu_free(m->cpus[k]);
    mem_transaction_begin();
    mem_fini(&g->ram);
    mem_fini(&g->ports_out);
    mem_fini(&g->port_exit);
    mem_fini(&g->port_yield);
    mem_transaction_commit();
    machine_free(m);
    vm_unlock();
    cpu_model_free(g->model);
    while (g_idle_remove_by_data(g)) /* requests that came too late */
        ;
    g_main_loop_unref(g->loop);
    g_string_free(g->out, TRUE);
    g_free(g);
}

void guest_load(struct guest *g, uint64_t addr, const void *start, const void *end)
{
    size_t size = (const char *)end - (const char *)start;
    g_assert_true(address_space_write(&g->m->memory, addr, start, size));
}

uint64_t guest_peek(struct guest *g, uint64_t addr, unsigned size)
{
    return address_space_load(&g->m->memory, addr, size);
}

void guest_poke(struct guest *g, uint64_t addr, uint64_t value, unsigned size)
{
    address_space_store(&g->m->memory, addr, value, size);
}

static void start_at(struct cpu *cpu, uint16_t addr)
{
    cpu_set_seg(cpu, SEG_CS, 0, 0, 0xffff, cpu->seg[SEG_CS].attr);
    cpu->rip = addr;
    cpu->r[R_RSP] = 0x7000;
}

int guest_run(struct guest *g, uint16_t addr, unsigned seconds)
{
    GError *err = NULL;
    start_at(g->m->cpus[0], addr);
    g->result = GUEST_RUNNING;
    vcpus_start(g->m, &err);
    g_assert_no_error(err);
    clock_start(g->m->clock);
    g->timeout = g_timeout_add_seconds(seconds * time_scale(), on_timeout, g);
    clock_start(g->m->clock);
    vcpus_resume(g->m);
    vm_unlock();
    g_main_loop_run(g->loop);
    vm_lock();
    if (g->timeout)
        g_source_remove(g->timeout);
    vcpus_stop(g->m);
    clock_stop(g->m->clock);
    return g->result;
}

#define SHIFTING "auto,shift=1" /* there must be two */

/*
 * Forms of the JIT: as usual, nothing interpreted, flags always exact, code memory too small for a guest. Then from one
 * engine to another, in the middle of it.
 */
static const char *const engines[] = {
    "interp", "jit", "jit,hot=0", "jit,hot=0,flags=precise", "jit,hot=0,tb-size=1", SHIFTING,
};

struct engine_test {
    char *accel, *asked;
    void (*fn)(void);
};

static void run_with_engine(const void *data)
{
    const struct engine_test *t = data;
    g_setenv("ACCEL", t->accel, TRUE);
    t->fn();
    g_setenv("ACCEL", t->asked, TRUE);
}

static void free_engine_test(void *data)
{
    struct engine_test *t = data;
    g_free(t->accel);
    g_free(t->asked);
    g_free(t);
}

static void add_for_engine(const char *path, const char *accel, const char *asked, void (*fn)(void))
{
    struct engine_test *t = g_new(struct engine_test, 1);
    *t = (struct engine_test){ g_strdup(accel), g_strdup(asked), fn };
    g_autofree char *full = g_strdup_printf("%s/%s", path, *accel ? accel : "auto");
    g_test_add_data_func_full(full, t, (GTestDataFunc)run_with_engine, free_engine_test);
}

static bool is_there(const char *engine)
{
    if (!strcmp(engine, SHIFTING))
        engine = "jit";
    g_autoptr(GString) help = g_string_new(NULL);
    accel_help(help);
    g_autofree char *line = g_strdup_printf("\n%.*s ", (int)strcspn(engine, ","), engine);
    return strstr(help->str, line);
}

void guest_add(const char *path, void (*fn)(void))
{
    const char *asked = g_getenv("ACCEL") ? g_getenv("ACCEL") : "";
    bool any = !*asked || !strcmp(asked, "auto");
    bool one = !any && strcmp(asked, "jit") && strcmp(asked, "tcg");
    if (one)
        add_for_engine(path, asked, asked, fn);
    for (unsigned k = 0; k < G_N_ELEMENTS(engines) && !one; k++)
        if (is_there(engines[k]) && (any || g_str_has_prefix(engines[k], "jit")))
            add_for_engine(path, engines[k], asked, fn);
}

void guest_expect(const void *start, const void *end, const char *output)
{
    struct guest *g = guest_new(16 << 20, 1, NULL);
    guest_load(g, 0x7c00, start, end);
    int result = guest_run(g, 0x7c00, 20);
    if (result) {
        GString *s = g_string_new(NULL);
        cpu_print(g->m->cpus[0], s);
        g_test_message("%s", s->str);
        g_string_free(s, TRUE);
    }
    g_assert_cmpstr(g->out->str, ==, output);
    g_assert_cmpint(result, ==, 0);
    guest_free(g);
}
