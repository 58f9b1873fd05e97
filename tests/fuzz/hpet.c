/* Fuzz target: HPET, with its two legacy inputs. */
#include "hw/timer/hpet.h"
#include "tests/lib/device_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct device_fuzz f;
    device_fuzz_init(&f);
    f.chip = test_add(&hpet_type, f.m->system_bus, NULL);
    f.in[0] = hpet_legacy_input(f.chip, 0);
    f.in[1] = hpet_legacy_input(f.chip, 1);
    f.base = HPET_BASE;
    f.size = 0x180;
    device_fuzz_run(&f, data, size);
    return 0;
}
