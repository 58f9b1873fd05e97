/* Fuzz target: fw_cfg; half of the accesses of a poke are DMA descriptors. */
#include "hw/isa/fw_cfg.h"
#include "tests/lib/device_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void changed(void *opaque, uint32_t start, uint32_t len)
{
    size_t size;
    fw_cfg_file(opaque, "etc/rw", &size);
    g_assert(start <= size && len <= size - start);
}

static void dma(struct device_fuzz *f, uint32_t random)
{
    uint64_t at = random & 0x1fff8;

    /* Control, length and address, big-endian, with few enough bits to hit something. */
    test_write(f->m, at, GUINT32_SWAP_LE_BE((random >> 16 & 0x2f) << 16 | (random & 0x1f)), 4);
    test_write(f->m, at + 4, GUINT32_SWAP_LE_BE(random >> 20), 4);
    test_write(f->m, at + 8, 0, 4);
    test_write(f->m, at + 12, GUINT32_SWAP_LE_BE(random >> 3 & 0x1ffff), 4);
    test_outl(f->m, 0x514, 0);
    test_outl(f->m, 0x518, GUINT32_SWAP_LE_BE((uint32_t)at));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct device_fuzz f;
    device_fuzz_init(&f);
    test_add_ram(f.m, 1 << 16);
    f.chip = test_add(&fw_cfg_type, f.m->system_bus, NULL);
    struct fw_cfg *fw_cfg = (struct fw_cfg *)f.chip;
    g_assert_true(fw_cfg_add_file_callback(fw_cfg, "etc/rw", "0123456789", 10, NULL, changed, fw_cfg, NULL));
    g_assert_true(fw_cfg_add_file(fw_cfg, "etc/ro", "", 0, NULL));
    f.poke = dma;
    f.ports = true;
    f.base = 0x510;
    f.size = 12;
    device_fuzz_run(&f, data, size);
    return 0;
}
