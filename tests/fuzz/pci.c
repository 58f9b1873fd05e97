/* Fuzz target: configuration space of i440FX, PIIX3, PIIX4 PM and VGA: PAM, BARs, routing, PM base. */
#include "hw/display/vga.h"
#include "hw/isa/piix3.h"
#include "hw/isa/piix4_pm.h"
#include "hw/pci/i440fx.h"
#include "tests/lib/device_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void configure(struct device_fuzz *f, uint32_t random)
{
    static const uint8_t devfns[] = {PCI_DEVFN(0, 0), PCI_DEVFN(1, 0), PCI_DEVFN(1, 3), PCI_DEVFN(2, 0)};
    unsigned reg = random >> 2 & 0xff, devfn = devfns[random & 3];

    test_outl(f->m, 0xcf8, 0x80000000u | devfn << 8 | (reg & 0xfc));
    test_outb(f->m, 0xcfc + (reg & 3), random >> 16);
    test_write(f->m, 0xa0000 + (random >> 12), random, 1);
    test_read(f->m, 0xa0000 + (random >> 12), 4);
    pci_set_intx(container_of(f->chip, struct pci_device, dev), random >> 30 & 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct device_fuzz f;
    device_fuzz_init(&f);
    test_add_ram(f.m, 1 << 20);
    struct device *host = test_add(&i440fx_host_type, f.m->system_bus, NULL);
    struct bus *pci = container_of(host, struct i440fx_host, dev)->bus.bus;
    struct device *piix3 = test_add(&piix3_type, pci, "addr=1.0", "multifunction=on", NULL);
    f.chip = test_add(&piix4_pm_type, pci, "addr=1.3", "smm-enabled=on", NULL);
    struct device *vga = test_add(&vga_pci_type, pci, "addr=2", "vgamem_mb=1", "rombar=off", NULL);
    f.poke = configure;
    f.ports = true;
    f.base = 0xcf8;
    f.size = 8;
    test_state_roundtrip(piix3);
    test_state_roundtrip(vga);
    device_fuzz_run(&f, data, size);
    return 0;
}
