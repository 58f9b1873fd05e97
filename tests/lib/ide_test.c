/* Help for tests of IDE drives: see ide_test.h. */
#include "tests/lib/ide_test.h"

#include "hw/pci/i440fx.h"

#include <string.h>
#include <unistd.h>

void ide_test_begin(struct ide_test *t)
{
    *t = (struct ide_test){ .m = test_machine_new() };
    test_add_ram(t->m, 1 << 20);
    struct device *host = test_add(&i440fx_host_type, t->m->system_bus, NULL);
    struct bus *pci = container_of(host, struct i440fx_host, dev)->bus.bus;
    t->ide = container_of(test_add(&piix3_ide_type, pci, "addr=1.1", NULL), struct piix3_ide, pci.dev);
    for (unsigned i = 0; i < 2; i++) {
        test_line_init(&t->irq[i]);
        t->ide->channel[i].irq = t->irq[i].line;
    }
    bus_reset(t->m->system_bus);
    ide_test_enable(t);
}

void ide_test_enable(struct ide_test *t)
{
    pci_config_write(&t->ide->pci, PIIX3_IDETIM, PIIX3_IDETIM_ENABLE | (uint32_t)PIIX3_IDETIM_ENABLE << 16, 4);
    pci_config_write(&t->ide->pci, PCI_BASE_ADDRESS_0 + 16, IDE_TEST_MASTER, 4);
    pci_config_write(&t->ide->pci, PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MASTER, 2);
}

void ide_test_end(struct ide_test *t)
{
    test_machine_free(t->m);
    for (unsigned i = 0; i < 4; i++)
        test_image_free(&t->image[i]);
}

static void make_image(struct ide_test *t, unsigned n, uint64_t size, unsigned unit)
{
    test_image_make(&t->image[n], size);
    uint64_t units = MIN(size / unit, 4096);
    for (uint32_t i = 0; i < units; i++) {
        uint32_t le = GUINT32_TO_LE(i);
        g_assert_cmpint(pwrite(t->image[n].fd, &le, 4, (off_t)i * unit), ==, 4);
    }
}

struct ata_drive *ide_test_add(struct ide_test *t, unsigned n, bool cd, uint64_t size, const char *drive_options)
{
    GError *err = NULL;
    g_autofree char *file = NULL;
    if (size) {
        make_image(t, n, size, cd ? ATA_CD_SECTOR : ATA_SECTOR);
        file = g_strdup_printf(",format=raw,file=%s", t->image[n].path);
    }
    g_autofree char *option = g_strdup_printf("if=none,id=d%u%s%s%s", n, cd ? ",media=cdrom" : "", file ? file : "", drive_options);
    blk_new_drive(t->m, option, BLK_IF_NONE, -1, &err);
    g_assert_no_error(err);
    g_autofree char *drive = g_strdup_printf("drive=d%u", n);
    g_autofree char *unit = g_strdup_printf("unit=%u", n % 2);
    return ide_drive_ata(test_add(cd ? &ide_cd_type : &ide_hd_type, t->ide->channel[n / 2].bus.bus, drive, unit, NULL));
}

void ide_test_wait(struct ata_drive *d)
{
    if (d->blk)
        blk_drain(d->blk);
}

void ide_test_setup(struct ide_test *t, unsigned unit, uint32_t lba, uint8_t count)
{
    test_outb(t->m, 0x1f6, 0xe0 | unit << 4 | (lba >> 24 & 0x0f));
    test_outb(t->m, 0x1f2, count);
    test_outb(t->m, 0x1f3, lba);
    test_outb(t->m, 0x1f4, lba >> 8);
    test_outb(t->m, 0x1f5, lba >> 16);
}

uint8_t ide_test_command(struct ide_test *t, struct ata_drive *d, uint8_t command)
{
    test_outb(t->m, 0x1f7, command);
    ide_test_wait(d);
    return test_inb(t->m, 0x3f6);
}

void ide_test_in(struct ide_test *t, void *buf, unsigned bytes)
{
    uint8_t *p = buf;
    for (unsigned i = 0; i < bytes; i += 2) {
        uint16_t word = test_inw(t->m, 0x1f0);
        p[i] = word;
        if (i + 1 < bytes)
            p[i + 1] = word >> 8;
    }
}

void ide_test_out(struct ide_test *t, const void *buf, unsigned bytes)
{
    const uint8_t *p = buf;
    for (unsigned i = 0; i < bytes; i += 2)
        test_outw(t->m, 0x1f0, p[i] | p[i + 1] << 8);
}

uint8_t ide_test_packet(struct ide_test *t, struct ata_drive *d, uint8_t features, uint16_t limit, const uint8_t cdb[12])
{
    test_outb(t->m, 0x1f6, 0xa0 | d->unit << 4);
    test_outb(t->m, 0x1f1, features);
    test_outb(t->m, 0x1f4, limit);
    test_outb(t->m, 0x1f5, limit >> 8);
    g_assert_cmphex(ide_test_command(t, d, ATA_COMMAND_PACKET) & 0x88, ==, ATA_STATUS_DRQ);
    g_assert_cmphex(test_inb(t->m, 0x1f2) & 3, ==, ATA_REASON_COD);
    ide_test_out(t, cdb, 12);
    ide_test_wait(d);
    return test_inb(t->m, 0x3f6);
}

uint32_t ide_test_sector(struct ide_test *t, unsigned n, uint64_t sector)
{
    uint32_t value = 0;
    g_assert_cmpint(pread(t->image[n].fd, &value, 4, (off_t)(sector * ATA_SECTOR)), ==, 4);
    return GUINT32_FROM_LE(value);
}
