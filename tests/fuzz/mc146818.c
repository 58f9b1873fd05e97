/* Fuzz target: real-time clock and CMOS memory, with the host's clock set now and then. */
#include "hw/core/clock.h"
#include "hw/timer/mc146818.h"
#include "tests/lib/device_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void set_wall(struct device_fuzz *f, uint32_t random)
{
    clock_set_wall_offset(f->m->clock, (int32_t)random);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct device_fuzz f;
    device_fuzz_init(&f);
    f.chip = test_add(&mc146818_type, test_add_isa(f.m), NULL);
    f.poke = set_wall;
    f.ports = true;
    f.base = 0x70;
    f.size = 4;
    device_fuzz_run(&f, data, size);
    return 0;
}
