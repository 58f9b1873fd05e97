/* Fuzz target: the pair of 8259A, with its sixteen inputs and acknowledges. */
#include "hw/irq/i8259.h"
#include "tests/lib/device_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void acknowledge(struct device_fuzz *f, uint32_t random)
{
    int vector = i8259_acknowledge(f->chip);
    g_assert(vector >= 0 && vector < 256);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct device_fuzz f;
    device_fuzz_init(&f);
    f.chip = test_add(&i8259_type, test_add_isa(f.m), NULL);
    for (int i = 0; i < I8259_INPUTS; i++)
        f.in[i] = i8259_input(f.chip, i);
    f.poke = acknowledge;
    f.ports = true;
    f.base = size && data[0] & 1 ? 0x20 : 0xa0;
    f.size = 2;
    if (size && data[0] & 2) { /* both chips and ELCR; most accesses miss */
        f.base = 0x20;
        f.size = 0x4b2;
    }
    device_fuzz_run(&f, data, size);
    return 0;
}
