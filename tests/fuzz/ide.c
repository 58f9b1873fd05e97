/* Fuzz target: an IDE channel with a disk and a CD drive, its bus master and descriptors, media that come and go. */
#include "tests/lib/device_fuzz.h"
#include "tests/lib/ide_test.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PRDS 0x8000

static const char *image(void)
{
    static struct test_image i; /* one for all inputs */
    if (!*i.path)
        test_image_make(&i, 4 << 20);
    return i.path;
}

static struct ata_drive *add(struct ide_test *t, unsigned unit, bool cd)
{
    GError *err = NULL;
    g_autofree char *option = g_strdup_printf("if=none,id=d%u,format=raw,locking=off,discard=unmap,file=%s%s", unit, image(),
                                              cd ? ",media=cdrom" : "");
    g_autofree char *drive = g_strdup_printf("drive=d%u", unit);
    blk_new_drive(t->m, option, BLK_IF_NONE, -1, &err);
    g_assert_no_error(err);
    return ide_drive_ata(test_add(cd ? &ide_cd_type : &ide_hd_type, t->ide->channel[0].bus.bus, drive, NULL));
}

static void poke(struct device_fuzz *f, uint32_t random)
{
    struct ide_test *t = f->opaque;
    struct blk *cd = t->ide->channel[0].bus.drives[1]->blk;
    switch (random & 7) {
    case 0: test_outb(f->m, 0x3f6, random >> 8); break;
    case 1: test_outb(f->m, IDE_TEST_MASTER + (random >> 4 & 7), random >> 8); break;
    case 2:
        test_write(f->m, PRDS + (random >> 3 & 0x3f) * 8, random >> 8, 4);
        test_write(f->m, PRDS + (random >> 3 & 0x3f) * 8 + 4, random >> 4, 4);
        test_outl(f->m, IDE_TEST_MASTER + 4, PRDS);
        break;
    case 3: ide_test_wait(t->ide->channel[0].bus.drives[0]); break;
    case 4: ide_test_wait(t->ide->channel[0].bus.drives[1]); break;
    case 5: /* a packet of that operation */
        for (unsigned i = 0; i < 6; i++)
            test_outw(f->m, 0x1f0, random >> (4 * i));
        break;
    case 6:
        if (blk_has_medium(cd))
            blk_eject(cd);
        else
            blk_change(cd, image(), "raw", NULL);
        break;
    case 7:
        for (unsigned i = 0; i < (random >> 8 & 0x3fff); i++)
            test_inw(f->m, 0x1f0);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ide_test t;
    struct device_fuzz f;
    ide_test_begin(&t);
    struct ata_drive *disk = add(&t, 0, false), *cd = add(&t, 1, true);
    f = (struct device_fuzz){ .m = t.m, .ports = true, .base = 0x1f0, .size = 8, .poke = poke, .opaque = &t };
    f.chip = size && data[0] & 8 ? &t.ide->pci.dev : ide_drive_device(size && data[0] & 16 ? disk : cd);
    bus_reset(t.m->system_bus);
    ide_test_enable(&t);
    device_fuzz_input(&f, data, size);
    ide_test_end(&t);
    return 0;
}
