/* Fuzz target: DMA controllers with a device that moves data on every channel. */
#include "hw/isa/i8237.h"
#include "hw/isa/isa.h"
#include "tests/lib/device_fuzz.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void device(struct device_fuzz *f, uint32_t random)
{
    static const uint8_t channels[8] = {0, 1, 2, 3, 5, 6, 7, 2};
    unsigned channel = channels[random & 7];
    struct i8237 *dma = f->opaque;
    uint8_t buf[600];
    bool tc;

    memset(buf, random >> 3, sizeof(buf));
    i8237_set_dreq(dma, channel, random & 0x80);
    if (random & 0x100)
        i8237_write(dma, channel, buf, (random >> 9) % sizeof(buf), &tc);
    else
        i8237_read(dma, channel, buf, (random >> 9) % sizeof(buf), &tc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct device_fuzz f;
    device_fuzz_init(&f);
    test_add_ram(f.m, 1 << 17);
    f.chip = test_add(&i8237_type, test_add_isa(f.m), NULL);
    f.opaque = isa_bus_of(f.chip)->dma;
    f.poke = device;
    f.ports = true;
    f.base = size && data[0] & 1 ? 0x80 : size && data[0] & 2 ? 0xc0 : 0;
    f.size = 0x20;
    device_fuzz_run(&f, data, size);
    return 0;
}
