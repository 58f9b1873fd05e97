/*
 * The machine: its making and end, requests from any thread to the main loop, and saving and loading of everything.
 */
#include "hw/core/machine.h"

#include "hw/core/event.h"
#include "hw/core/log.h"
#include "hw/core/opts.h"
#include "hw/core/state.h"
#include "hw/core/vm_lock.h"

#include <string.h>

/* Physical addresses have 52 bits at most. */
#define MEMORY_SIZE (UINT64_C(1) << 52)
#define PORTS_SIZE 0x10000

struct machine *machine_new(bool stepped_clock)
{
    g_assert(vm_locked());
    struct machine *m = g_new0(struct machine, 1);
    mem_init_container(&m->memory_root, NULL, "memory", MEMORY_SIZE);
    mem_init_container(&m->port_root, NULL, "ports", PORTS_SIZE);
    address_space_init(&m->memory, &m->memory_root, "memory");
    address_space_init(&m->ports, &m->port_root, "ports");
    m->system_bus = bus_new(m, NULL, "system", "main-system-bus");
    m->loop = g_main_context_ref_thread_default();
    m->clock = clock_new(stepped_clock);
    if (!stepped_clock)
        clock_attach(m->clock, m->loop);
    m->states = g_ptr_array_new_with_free_func(g_free);
    m->boot_paths = g_ptr_array_new_with_free_func(g_free);
    return m;
}

void machine_free(struct machine *m)
{
    if (!m)
        return;
    g_assert(vm_locked());
    /* One transaction: no view is made of a tree whose aliases point at what has gone already. */
    mem_transaction_begin();
    bus_free(m->system_bus);
    if (m->board_free)
        m->board_free(m);
    g_clear_pointer(&m->chrs, g_hash_table_destroy);
    g_clear_pointer(&m->blks, g_hash_table_destroy);
    g_ptr_array_free(m->states, TRUE);
    g_ptr_array_free(m->boot_paths, TRUE);
    address_space_fini(&m->memory);
    address_space_fini(&m->ports);
    mem_fini(&m->memory_root);
    mem_fini(&m->port_root);
    mem_transaction_commit();
    ram_block_free(m->ram);
    clock_free(m->clock);
    g_main_context_unref(m->loop);
    g_free(m->cpus);
    g_free(m);
}

/* --- Requests ----------------------------------------------------------------------------------------------------- */

void machine_request(struct machine *m, enum machine_request what, const char *cause)
{
    static const char *const names[] = { "nothing", "reset", "shutdown", "power button", "pause", "quit" };
    if (what == REQUEST_RESET && m->no_reboot)
        what = REQUEST_SHUTDOWN;
    if (log_on(LOG_CPU_RESET))
        log_line("machine: %s requested by %s", names[what], cause);
    if (what == REQUEST_RESET && event_wanted(EVENT_RESET)) {
        struct event e = { .kind = EVENT_RESET, .time = clock_now(m->clock) };
        event_emit(&e);
    }
    __atomic_fetch_or(&m->requests, 1u << what, __ATOMIC_SEQ_CST);
    if (m->on_request)
        m->on_request(m, m->on_request_opaque);
    g_main_context_wakeup(m->loop);
}

void machine_request_exit(struct machine *m, int code, const char *cause)
{
    __atomic_store_n(&m->exit_code, code, __ATOMIC_SEQ_CST);
    machine_request(m, REQUEST_SHUTDOWN, cause);
}

enum machine_request machine_take_request(struct machine *m)
{
    static const enum machine_request order[] = { REQUEST_QUIT, REQUEST_SHUTDOWN, REQUEST_RESET, REQUEST_POWERDOWN,
                                                  REQUEST_PAUSE };
    for (unsigned i = 0; i < G_N_ELEMENTS(order); i++) {
        uint32_t bit = 1u << order[i];
        if (__atomic_fetch_and(&m->requests, ~bit, __ATOMIC_SEQ_CST) & bit)
            return order[i];
    }
    return REQUEST_NONE;
}

/* --- Saved state -------------------------------------------------------------------------------------------------- */

struct added_state {
    const struct state_table *table;
    void *instance;
    char id[];
};

bool machine_add_boot_path(struct machine *m, uint32_t index, const char *path, GError **err)
{
    if (index > MACHINE_BOOT_INDEX_MAX)
        return opts_error(err, "bootindex=%u: must be from 0 to %d", index, MACHINE_BOOT_INDEX_MAX);
    if (index >= m->boot_paths->len)
        g_ptr_array_set_size(m->boot_paths, (int)index + 1);
    if (m->boot_paths->pdata[index])
        return opts_error(err, "bootindex=%u: is taken by another device", index);
    m->boot_paths->pdata[index] = g_strdup(path);
    return true;
}

void machine_add_state(struct machine *m, const struct state_table *table, const char *instance_id, void *instance)
{
    for (guint i = 0; i < m->states->len; i++) {
        const struct added_state *s = m->states->pdata[i];
        g_assert(strcmp(s->table->name, table->name) != 0 || strcmp(s->id, instance_id) != 0);
    }
    struct added_state *s = g_malloc(sizeof *s + strlen(instance_id) + 1);
    s->table = table;
    s->instance = instance;
    strcpy(s->id, instance_id);
    g_ptr_array_add(m->states, s);
}

void machine_remove_state(struct machine *m, void *instance)
{
    for (guint i = 0; i < m->states->len; i++) {
        if (((struct added_state *)m->states->pdata[i])->instance == instance) {
            g_ptr_array_remove_index(m->states, i);
            return;
        }
    }
}

/* What the machine itself has to keep. RAM follows at once: post_load of a device may look at its rings there. */
struct machine_state {
    uint64_t now;
    uint32_t cpu_count;
};

static const struct state_field machine_fields[] = {
    STATE_FIELD(STATE_U64, struct machine_state, now),
    STATE_FIELD(STATE_U32, struct machine_state, cpu_count),
    STATE_FIELDS_END,
};
static const struct state_table machine_table = { .name = "machine", .version = 1, .fields = machine_fields };

static const struct state_field ram_fields[] = {
    STATE_FIELD(STATE_RAM, struct machine, ram),
    STATE_FIELDS_END,
};
static const struct state_table ram_table = { .name = "ram", .version = 1, .fields = ram_fields };

static const char magic[8] = "TRAPEZE1";

static void save_device(struct device *d, void *opaque)
{
    if (!d->type->state || !d->realized)
        return;
    g_autofree char *path = device_path(d);
    state_save(opaque, d->type->state, path, d);
}

static uint64_t ram_in_use(const struct ram_block *b)
{
    uint64_t n = 0;
    for (uint64_t at = 0; b && at < b->size; at += PAGE_SIZE)
        n += ram_page_is_zero(b, at) ? 0 : PAGE_SIZE;
    return n;
}

GByteArray *machine_save(struct machine *m, GError **err)
{
    g_assert(vm_locked());
    /* GByteArray counts in 32 bits; the rest (display memory, devices, headers of runs) has ample room in 256 MiB. */
    if (ram_in_use(m->ram) > (UINT64_C(15) << 28)) {
        g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_NOSPC,
                    "the guest uses more than 3840 MiB of memory: too much to save");
        return NULL;
    }
    GByteArray *out = g_byte_array_new();
    g_byte_array_append(out, (const guint8 *)magic, sizeof magic);
    struct machine_state self = { .now = (uint64_t)clock_now(m->clock), .cpu_count = m->cpu_count };
    state_save(out, &machine_table, "", &self);
    if (m->ram)
        state_save(out, &ram_table, "", m);
    for (guint i = 0; i < m->states->len; i++) {
        const struct added_state *s = m->states->pdata[i];
        state_save(out, s->table, s->id, s->instance);
    }
    bus_walk(m->system_bus, save_device, out);
    return out;
}

struct load {
    struct state_reader in;
    bool ok;
    GError **err;
};

static void load_device(struct device *d, void *opaque)
{
    struct load *l = opaque;
    if (!l->ok || !d->type->state || !d->realized)
        return;
    g_autofree char *path = device_path(d);
    l->ok = state_load(&l->in, d->type->state, path, d, l->err);
}

static bool load_machine(struct machine *m, struct load *l)
{
    struct machine_state self = { 0 };
    if (!state_load(&l->in, &machine_table, "", &self, l->err))
        return false;
    if (self.cpu_count != m->cpu_count || self.now > INT64_MAX / 4) {
        g_set_error(l->err, G_FILE_ERROR, G_FILE_ERROR_INVAL, "saved state is of a machine with %u processors, not %u, "
                    "or damaged", self.cpu_count, m->cpu_count);
        return false;
    }
    clock_set(m->clock, (int64_t)self.now);
    if (m->ram && !state_load(&l->in, &ram_table, "", m, l->err))
        return false;
    for (guint i = 0; i < m->states->len; i++) {
        const struct added_state *s = m->states->pdata[i];
        if (!state_load(&l->in, s->table, s->id, s->instance, l->err))
            return false;
    }
    bus_walk(m->system_bus, load_device, l);
    return l->ok;
}

bool machine_load(struct machine *m, const uint8_t *data, size_t size, GError **err)
{
    g_assert(vm_locked());
    struct load l = { .in = { .data = data, .size = size }, .ok = true, .err = err };
    if (size < sizeof magic || memcmp(data, magic, sizeof magic) != 0) {
        g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_INVAL, "this is not a saved state of a machine");
        return false;
    }
    l.in.pos = sizeof magic;
    mem_transaction_begin();
    bool ok = load_machine(m, &l);
    mem_transaction_commit();
    if (ok && l.in.pos != l.in.size) {
        g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "saved state has more sections than this machine has devices");
        ok = false;
    }
    return ok;
}
