/* Devices: properties, the tree and its paths, order of reset and of freeing; the registry; the machine around them. */
#include "hw/core/device.h"
#include "hw/core/event.h"
#include "hw/core/machine.h"
#include "hw/core/state.h"
#include "hw/core/vm_lock.h"

#include <pthread.h>
#include <string.h>

static GString *story; /* what the toys did, in order */

struct toy {
    struct device dev;
    bool flag;
    uint8_t small;
    uint16_t medium;
    uint32_t number;
    uint64_t big, size;
    char *text;
    struct chr *chr;
    bool fail;
    uint32_t value;
    struct bus *child;
};

static const struct prop toy_props[] = {
    PROP(PROP_BOOL, "flag", struct toy, flag, true, "a flag"),
    PROP(PROP_U8, "small", struct toy, small, 7, "a byte"),
    PROP(PROP_U16, "medium", struct toy, medium, 0, "a word"),
    PROP(PROP_U32, "number", struct toy, number, 0x3f8, "a number"),
    PROP(PROP_U64, "big", struct toy, big, 0, "a big one"),
    PROP(PROP_SIZE, "size", struct toy, size, 1 << 20, "bytes"),
    PROP(PROP_STRING, "text", struct toy, text, 0, "words"),
    PROP(PROP_CHR, "chardev", struct toy, chr, 0, "where it talks to"),
    PROP(PROP_BOOL, "fail", struct toy, fail, false, "refuses to work"),
    PROPS_END,
};

static void tell(const char *what, const struct device *d)
{
    g_string_append_printf(story, "%s:%s ", what, d->id ? d->id : "?");
}

static bool toy_realize(struct device *d, GError **err)
{
    struct toy *t = container_of(d, struct toy, dev);
    if (t->fail) {
        g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_FAILED, "toy: told to fail");
        return false;
    }
    t->child = bus_new(d->machine, d, "toy", "toybus");
    tell("realize", d);
    return true;
}

static void toy_reset(struct device *d)
{
    container_of(d, struct toy, dev)->value = 0;
    tell("reset", d);
}

static void toy_wires(struct device *d)
{
    tell("wires", d);
}

static void toy_unrealize(struct device *d)
{
    tell("gone", d);
}

static const struct state_field toy_fields[] = {
    STATE_FIELD(STATE_U32, struct toy, value),
    STATE_FIELDS_END,
};
static const struct state_table toy_state = { .name = "toy", .version = 1, .fields = toy_fields };

static const struct device_type toy_type = {
    .name = "toy",
    .description = "A device for tests",
    .bus = "system",
    .size = sizeof(struct toy),
    .props = toy_props,
    .realize = toy_realize,
    .reset = toy_reset,
    .reset_wires = toy_wires,
    .unrealize = toy_unrealize,
    .state = &toy_state,
};

static struct machine *begin(void)
{
    vm_lock();
    story = g_string_new(NULL);
    return machine_new(true);
}

static void end(struct machine *m)
{
    machine_free(m);
    g_string_free(story, TRUE);
    vm_unlock();
}

static struct toy *add_toy(struct bus *b, const char *id)
{
    GError *err = NULL;
    struct device *d = device_new(&toy_type, b);
    g_assert_true(device_set_prop(d, "id", id, &err));
    g_assert_true(device_realize(d, &err));
    return container_of(d, struct toy, dev);
}

static void refused(struct device *d, const char *name, const char *value, const char *in_message)
{
    GError *err = NULL;
    g_assert_false(device_set_prop(d, name, value, &err));
    g_assert_nonnull(err);
    if (!strstr(err->message, in_message))
        g_error("'%s' does not name '%s'", err->message, in_message);
    g_clear_error(&err);
}

static struct chr *find_chr(struct machine *m, const char *id)
{
    return strcmp(id, "serial0") == 0 ? (struct chr *)(void *)m : NULL;
}

static void test_props(void)
{
    struct machine *m = begin();
    struct device *d = device_new(&toy_type, m->system_bus);
    struct toy *t = container_of(d, struct toy, dev);
    GError *err = NULL;
    g_assert_true(t->flag);
    g_assert_cmpuint(t->small, ==, 7);
    g_assert_cmpuint(t->number, ==, 0x3f8);
    g_assert_cmpuint(t->size, ==, 1 << 20);
    static const struct { const char *name, *value; } good[] = {
        { "flag", "off" }, { "small", "255" }, { "medium", "0xffff" }, { "number", "017" },
        { "big", "18446744073709551615" }, { "size", "3G" }, { "text", "one" }, { "text", "two" }, { "id", "it" },
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(good); i++) {
        g_assert_true(device_set_prop(d, good[i].name, good[i].value, &err));
        g_assert_no_error(err);
    }
    g_assert_false(t->flag);
    g_assert_cmpuint(t->small, ==, 255);
    g_assert_cmpuint(t->medium, ==, 0xffff);
    g_assert_cmpuint(t->number, ==, 15);
    g_assert_cmpuint(t->big, ==, UINT64_MAX);
    g_assert_cmpuint(t->size, ==, UINT64_C(3) << 30);
    g_assert_cmpstr(t->text, ==, "two");
    g_assert_cmpstr(d->id, ==, "it");
    refused(d, "flag", "maybe", "on or off");
    refused(d, "small", "256", "255");
    refused(d, "medium", "-1", "medium=-1");
    refused(d, "number", "12x", "number=12x");
    refused(d, "number", "", "number");
    refused(d, "number", " 1", "number");
    refused(d, "big", "18446744073709551616", "number");
    refused(d, "size", "99999999999T", "size");
    refused(d, "size", "1Q", "size");
    refused(d, "size", "1KK", "size");
    refused(d, "nothing", "1", "chardev"); /* lists what there is */
    refused(d, "chardev", "serial0", "chardev");
    g_assert_cmpuint(t->small, ==, 255);
    m->chr_find = find_chr;
    g_assert_true(device_set_prop(d, "chardev", "serial0", &err));
    g_assert_nonnull(t->chr);
    refused(d, "chardev", "serial1", "chardev=serial1");
    struct device *other = device_new(&toy_type, m->system_bus);
    refused(other, "id", "it", "taken");
    g_assert_true(device_set_prop(other, "fail", "on", &err));
    g_assert_false(device_realize(other, &err));
    g_assert_cmpstr(err->message, ==, "toy: told to fail");
    g_clear_error(&err);
    device_free(other);
    end(m);
}

static void test_tree(void)
{
    struct machine *m = begin();
    struct toy *a = add_toy(m->system_bus, "a"), *b = add_toy(m->system_bus, "b");
    struct toy *c = add_toy(a->child, "c"), *d = add_toy(a->child, "d");
    g_autofree char *path_a = device_path(&a->dev), *path_b = device_path(&b->dev), *path_d = device_path(&d->dev);
    g_assert_cmpstr(path_a, ==, "/toy");
    g_assert_cmpstr(path_b, ==, "/toy[1]");
    g_assert_cmpstr(path_d, ==, "/toy/toybus/toy[1]");
    g_assert_true(device_find(m->system_bus, "d") == &d->dev);
    g_assert_null(device_find(m->system_bus, "e"));
    g_assert_true(bus_find(m->system_bus, "toy", NULL) == a->child);
    g_assert_true(bus_find(m->system_bus, NULL, "toybus") == a->child);
    g_assert_true(bus_find(m->system_bus, "system", NULL) == m->system_bus);
    g_assert_null(bus_find(m->system_bus, "pci", NULL));
    g_assert_cmpstr(story->str, ==, "realize:a realize:b realize:c realize:d ");
    g_string_truncate(story, 0);
    bus_reset(m->system_bus);
    g_assert_cmpstr(story->str, ==, "reset:a reset:c reset:d reset:b wires:a wires:c wires:d wires:b ");
    g_string_truncate(story, 0);
    g_autoptr(GString) text = g_string_new(NULL);
    bus_print(m->system_bus, text);
    g_assert_nonnull(strstr(text->str, "\n      dev: toy, id \"d\"\n"));
    g_assert_nonnull(strstr(text->str, "number = 1016 (0x3f8)\n"));
    device_free(&c->dev);
    g_autofree char *new_path_d = device_path(&d->dev);
    g_assert_cmpstr(new_path_d, ==, "/toy/toybus/toy");
    bus_free(m->system_bus);
    m->system_bus = bus_new(m, NULL, "system", "empty");
    g_assert_cmpstr(story->str, ==, "gone:c gone:b gone:d gone:a "); /* last first, children before parents */
    end(m);
}

static void test_registry(void)
{
    for (const struct device_type *const *t = device_types(); *t; t++) {
        g_assert_true(device_type_find((*t)->name) == *t); /* names are unique */
        g_assert_nonnull((*t)->description);
        g_assert_nonnull((*t)->bus);
        g_assert_cmpuint((*t)->size, >=, sizeof(struct device));
        for (const struct prop *p = (*t)->props; p && p->type != PROP_END; p++)
            g_assert_true(p->name && p->description && p->offset < (*t)->size);
    }
    g_assert_null(device_type_find("no-such-device"));
}

static void test_save_load(void)
{
    struct machine *m = begin();
    GError *err = NULL;
    struct toy *a = add_toy(m->system_bus, "a"), *c = add_toy(a->child, "c");
    struct toy extra = { .value = 5 };
    m->ram = ram_block_new("pc.ram", 16 * PAGE_SIZE, NULL, NULL);
    machine_add_state(m, &toy_state, "extra", &extra);
    m->ram->host[5000] = 1;
    a->value = 11;
    c->value = 22;
    clock_step(m->clock, 12345);
    g_autoptr(GByteArray) one = machine_save(m, &err);
    g_assert_nonnull(one);
    m->ram->host[5000] = 2;
    m->ram->host[50000] = 2;
    a->value = c->value = extra.value = 0;
    clock_step(m->clock, 1000);
    g_assert_true(machine_load(m, one->data, one->len, &err));
    g_assert_no_error(err);
    g_assert_cmpint(m->ram->host[5000], ==, 1);
    g_assert_cmpint(m->ram->host[50000], ==, 0);
    g_assert_cmpint(a->value, ==, 11);
    g_assert_cmpint(c->value, ==, 22);
    g_assert_cmpint(extra.value, ==, 5);
    g_assert_cmpint(clock_now(m->clock), ==, 12345);
    g_autoptr(GByteArray) two = machine_save(m, &err);
    g_assert_cmpmem(one->data, one->len, two->data, two->len);
    for (guint n = 0; n < one->len; n += 1 + n / 50) {
        g_assert_false(machine_load(m, one->data, n, &err));
        g_clear_error(&err);
    }
    g_byte_array_append(two, (const guint8 *)"x", 1);
    g_assert_false(machine_load(m, two->data, two->len, &err));
    g_clear_error(&err);
    device_free(&c->dev); /* another set of devices: refused */
    g_assert_false(machine_load(m, one->data, one->len, &err));
    g_clear_error(&err);
    m->cpu_count = 2; /* other processors: refused */
    g_assert_false(machine_load(m, one->data, one->len, &err));
    g_assert_nonnull(strstr(err->message, "processors"));
    g_clear_error(&err);
    m->cpu_count = 0;
    machine_remove_state(m, &extra);
    end(m);
}

static void count_calls(struct machine *m, void *opaque)
{
    ++*(int *)opaque;
}

static void *request_from_thread(void *opaque)
{
    machine_request(opaque, REQUEST_RESET, "test");
    return NULL;
}

static void test_requests(void)
{
    struct machine *m = begin();
    int calls = 0;
    m->on_request = count_calls;
    m->on_request_opaque = &calls;
    g_assert_cmpint(machine_take_request(m), ==, REQUEST_NONE);
    pthread_t thread;
    pthread_create(&thread, NULL, request_from_thread, m);
    pthread_join(thread, NULL);
    machine_request(m, REQUEST_PAUSE, "test");
    machine_request(m, REQUEST_PAUSE, "test");
    machine_request_exit(m, 35, "test");
    g_assert_cmpint(calls, ==, 4);
    g_assert_cmpint(machine_take_request(m), ==, REQUEST_SHUTDOWN);
    g_assert_cmpint(m->exit_code, ==, 35);
    g_assert_cmpint(machine_take_request(m), ==, REQUEST_RESET);
    g_assert_cmpint(machine_take_request(m), ==, REQUEST_PAUSE);
    g_assert_cmpint(machine_take_request(m), ==, REQUEST_NONE);
    m->no_reboot = true;
    machine_request(m, REQUEST_RESET, "test");
    g_assert_cmpint(machine_take_request(m), ==, REQUEST_SHUTDOWN);
    end(m);
}

/* Nothing is global: two machines side by side do not see each other. */
static void test_two_machines(void)
{
    struct machine *m = begin(), *n = machine_new(true);
    struct mem_region r;
    struct ram_block *b = ram_block_new("ram", PAGE_SIZE, NULL, NULL);
    mem_init_ram(&r, NULL, "r", b, 0, PAGE_SIZE);
    mem_map(&m->memory_root, 0, &r, 0);
    address_space_store(&m->memory, 0, 0x42, 1);
    g_assert_cmphex(address_space_load(&m->memory, 0, 1), ==, 0x42);
    g_assert_cmphex(address_space_load(&n->memory, 0, 1), ==, 0xff);
    clock_step(m->clock, 5);
    g_assert_cmpint(clock_now(n->clock), ==, 0);
    machine_free(n);
    mem_fini(&r);
    ram_block_free(b);
    end(m);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/device/props", test_props);
    g_test_add_func("/device/tree", test_tree);
    g_test_add_func("/device/registry", test_registry);
    g_test_add_func("/machine/save-load", test_save_load);
    g_test_add_func("/machine/requests", test_requests);
    g_test_add_func("/machine/two", test_two_machines);
    return g_test_run();
}
