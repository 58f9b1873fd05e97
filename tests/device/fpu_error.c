/* FERR# to IRQ 13, and port 0xf0. */
#include "hw/isa/fpu_error.h"
#include "tests/lib/device_test.h"

static void test_fpu_error(void)
{
    struct machine *m = test_machine_new();
    struct device *d = test_add(&fpu_error_type, test_add_isa(m), NULL);
    struct test_line *irq = test_isa_line(m, 13);
    struct irq_line ferr = fpu_error_input(d);
    test_outb(m, 0xf0, 0); /* nothing to ignore */
    irq_raise(&ferr);
    g_assert_cmpint(irq->level, ==, 1);
    test_outb(m, 0xf0, 0);
    g_assert_cmpint(irq->level, ==, 0);
    irq_raise(&ferr); /* the handler's own instructions: ignored */
    g_assert_cmpint(irq->level, ==, 0);
    test_state_roundtrip(d);
    irq_lower(&ferr);
    irq_raise(&ferr); /* the next exception */
    g_assert_cmpint(irq->level, ==, 1);
    irq_lower(&ferr);
    g_assert_cmpint(irq->level, ==, 0);
    test_poke_ports(m, d, 13, 100, 0xf0, 1);
    test_machine_free(m);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/fpu-error", test_fpu_error);
    return g_test_run();
}
