/* Fuzz target: the floppy controller with a drive, its DMA channel, a medium that comes and goes. */
#include "hw/backend/blk.h"
#include "hw/disk/i82078.h"
#include "hw/isa/i8237.h"
#include "tests/lib/device_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *image(void)
{
    static struct test_image i; /* one for all inputs */
    if (!*i.path)
        test_image_make(&i, 1440 << 10);
    return i.path;
}

static void poke(struct device_fuzz *f, uint32_t random)
{
    struct blk *b = f->opaque;
    switch (random & 3) {
    case 0: blk_drain(b); break;
    case 1: test_outb(f->m, random >> 4 & 0x0f, random >> 8); break;
    case 2: /* channel 2 for as many bytes */
        test_outb(f->m, 0x0b, random & 4 ? 0x46 : 0x4a);
        test_outb(f->m, 0x0c, 0);
        test_outb(f->m, 0x05, random >> 8);
        test_outb(f->m, 0x05, random >> 16);
        test_outb(f->m, 0x0a, 2);
        break;
    case 3:
        if (blk_has_medium(b))
            blk_eject(b);
        else
            blk_change(b, image(), "raw", NULL);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct device_fuzz f;
    GError *err = NULL;
    device_fuzz_init(&f);
    test_add_ram(f.m, 1 << 17);
    g_autofree char *option = g_strdup_printf("if=none,id=f,format=raw,locking=off,file=%s", image());
    f.opaque = blk_new_drive(f.m, option, BLK_IF_NONE, -1, &err);
    g_assert_no_error(err);
    struct bus *isa = test_add_isa(f.m);
    test_add(&i8237_type, isa, NULL);
    f.chip = test_add(&i82078_type, isa, "driveA=f", NULL);
    f.poke = poke;
    f.ports = true;
    f.base = 0x3f0;
    f.size = 8;
    device_fuzz_run(&f, data, size);
    return 0;
}
