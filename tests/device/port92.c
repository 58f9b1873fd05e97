/* Port 0x92: A20 line, fast reset. */
#include "hw/isa/port92.h"
#include "tests/lib/device_test.h"

static void test_port92(void)
{
    struct machine *m = test_machine_new();
    struct device *d = test_add(&port92_type, test_add_isa(m), NULL);
    struct test_line a20;
    test_line_init(&a20);
    port92_set_a20(d, a20.line);
    g_assert_cmphex(test_inb(m, 0x92), ==, 0);
    test_outb(m, 0x92, 0xfe);
    g_assert_cmphex(test_inb(m, 0x92), ==, 0x02);
    g_assert_cmpint(a20.level, ==, 1);
    test_outb(m, 0x92, 0x00);
    g_assert_cmpint(a20.level, ==, 0);
    g_assert_cmpint(machine_take_request(m), ==, REQUEST_NONE);
    test_outb(m, 0x92, 0x03);
    g_assert_cmpint(machine_take_request(m), ==, REQUEST_RESET);
    g_assert_cmpint(a20.level, ==, 1);
    test_outb(m, 0x92, 0x03); /* only a rising bit resets */
    g_assert_cmpint(machine_take_request(m), ==, REQUEST_NONE);
    test_state_roundtrip(d);
    bus_reset(m->system_bus);
    g_assert_cmphex(test_inb(m, 0x92), ==, 0);
    g_assert_cmpint(a20.level, ==, 0);
    test_poke_ports(m, d, 92, 100, 0x92, 1);
    test_machine_free(m);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/port92", test_port92);
    return g_test_run();
}
