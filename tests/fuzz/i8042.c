/* Fuzz target: keyboard controller with keys and pointer movement. */
#include "hw/input/i8042.h"
#include "tests/lib/device_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void user(struct device_fuzz *f, uint32_t random)
{
    if (random & 1) {
        input_send_key(f->m, random >> 8 & 0x1ff, random >> 1 & 1);
        return;
    }
    input_send(f->m, INPUT_REL, random >> 1 & 1, (int32_t)random >> 4);
    input_send(f->m, INPUT_BUTTON, random >> 8 & 15, random >> 2 & 1);
    input_sync(f->m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct device_fuzz f;
    device_fuzz_init(&f);
    f.chip = test_add(&i8042_type, test_add_isa(f.m), NULL);
    f.poke = user;
    f.ports = true;
    f.base = 0x60;
    f.size = 5;
    device_fuzz_run(&f, data, size);
    return 0;
}
