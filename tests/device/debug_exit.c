/* isa-debug-exit and port 80. */
#include "hw/isa/debug_exit.h"
#include "hw/core/state.h"
#include "tests/lib/device_test.h"

#include <string.h>

static void test_exit(void)
{
    struct machine *m = test_machine_new();
    struct bus *isa = test_add_isa(m);
    test_add(&isa_debug_exit_type, isa, "iobase=0xf4", "iosize=0x04", NULL);

    test_outl(m, 0xf4, 0x10); /* as blog_os does: 33 */
    g_assert_cmpint(machine_take_request(m), ==, REQUEST_SHUTDOWN);
    g_assert_cmpint(m->exit_code, ==, 33);
    test_outb(m, 0xf7, 0);
    g_assert_cmpint(m->exit_code, ==, 1);
    test_outb(m, 0xf8, 5);
    g_assert_cmpint(m->exit_code, ==, 1);
    g_assert_cmphex(test_inb(m, 0xf4), ==, 0);

    static const struct {
        const char *name, *value;
    } bad[] = { { "iosize", "0" }, { "iosize", "65537" }, { "iobase", "0xffff" } };
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        struct device *d = device_new(&isa_debug_exit_type, isa);
        GError *err = NULL;
        g_assert_true(device_set_prop(d, bad[i].name, bad[i].value, NULL));
        g_assert_false(device_realize(d, &err));
        g_assert_nonnull(err);
        g_error_free(err);
        device_free(d);
    }
    test_machine_free(m);
}

static void test_port80(void)
{
    struct machine *m = test_machine_new();
    struct device *d = test_add(&port80_type, test_add_isa(m), NULL);
    g_autoptr(GString) text = g_string_new(NULL);

    test_outb(m, 0x80, 0xa5);
    g_assert_cmphex(test_inb(m, 0x80), ==, 0xff);
    test_state_roundtrip(d);
    state_print(text, d->type->state, d);
    g_assert_nonnull(strstr(text->str, "a5"));
    test_machine_free(m);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/debug_exit/exit", test_exit);
    g_test_add_func("/debug_exit/port80", test_port80);
    return g_test_run();
}
