/* Fuzz target: VGA registers, memory window and BARs; the text screen is read now and then. */
#include "hw/display/vga.h"
#include "hw/pci/i440fx.h"
#include "tests/lib/device_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void look(struct device_fuzz *f, uint32_t random)
{
    test_outw(f->m, 0x1ce, random & 15);
    test_outw(f->m, 0x1d0, random >> 8);
    test_outw(f->m, 0x3c4 + (random >> 2 & 0x1a), random >> 16);
    g_free(vga_text_screen(f->chip));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct device_fuzz f;
    device_fuzz_init(&f);
    test_add_ram(f.m, 1 << 20);
    struct device *host = test_add(&i440fx_host_type, f.m->system_bus, NULL);
    f.chip = test_add(&vga_pci_type, container_of(host, struct i440fx_host, dev)->bus.bus, "vgamem_mb=1", "rombar=off",
                      NULL);
    f.poke = look;
    f.ports = !size || data[0] & 1;
    f.base = f.ports ? 0x3b0 : 0xa0000;
    f.size = f.ports ? 0x30 : 0x20000;
    device_fuzz_run(&f, data, size);
    return 0;
}
