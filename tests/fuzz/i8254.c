/* Fuzz target: 8254 and port 0x61. */
#include "hw/timer/i8254.h"
#include "hw/timer/pcspk.h"
#include "tests/lib/device_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void set_gate(struct device_fuzz *f, uint32_t random)
{
    i8254_set_gate(f->chip, random % 3, random & 0x100);
    i8254_out(f->chip, (random >> 9) % 3);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct device_fuzz f;
    device_fuzz_init(&f);
    struct bus *isa = test_add_isa(f.m);
    f.chip = test_add(&i8254_type, isa, NULL);
    struct device *speaker = device_new(&pcspk_type, isa);
    pcspk_set_pit(speaker, f.chip);
    g_assert_true(device_realize(speaker, NULL));
    f.poke = set_gate;
    f.ports = true;
    f.base = 0x40;
    f.size = size && data[0] & 1 ? 0x22 : 4;
    device_fuzz_run(&f, data, size);
    return 0;
}
