/*
 * ATA disks behind the PIIX3: identity, signatures, PIO, multiple, DMA with good and hostile descriptors, LBA48 and CHS, caches,
 * SMART, power, TRIM, errors that stop the machine, saved state in the middle of transfers.
 */
#include "tests/lib/ide_test.h"

#include <string.h>

#define DISK (UINT64_C(8) << 20)
#define PRDS 0x8000
#define DATA 0x20000

static uint16_t word(const uint8_t *page, unsigned n)
{
    return page[2 * n] | page[2 * n + 1] << 8;
}

static uint32_t first32(const uint8_t *p)
{
    return p[0] | p[1] << 8 | p[2] << 16 | (uint32_t)p[3] << 24;
}

static void test_identify(void)
{
    struct ide_test t;
    uint8_t page[512], sum = 0;
    ide_test_begin(&t);
    struct ata_drive *d = ide_test_add(&t, 0, false, DISK, "");

    ide_test_setup(&t, 0, 0, 0);
    g_assert_cmphex(ide_test_command(&t, d, 0xec), ==, 0x58);
    g_assert_cmpint(t.irq[0].level, ==, 1);
    g_assert_cmphex(test_inb(t.m, 0x1f7), ==, 0x58);
    g_assert_cmpint(t.irq[0].level, ==, 0);
    ide_test_in(&t, page, 512);
    g_assert_cmphex(test_inb(t.m, 0x1f7), ==, 0x50);
    g_assert_cmpuint(t.irq[0].rises, ==, 1); /* none for the end of PIO to the host */
    g_assert_cmpuint(word(page, 60) | word(page, 61) << 16, ==, DISK / 512);
    g_assert_cmpuint(word(page, 100), ==, DISK / 512);
    g_assert_cmpuint(word(page, 1) * word(page, 3) * word(page, 6), <=, DISK / 512);
    g_assert_cmphex(word(page, 82) & word(page, 85) & 0x21, ==, 0x21);
    g_assert_cmphex(word(page, 83), ==, 0x7400);
    g_assert_cmpmem(page + 54, 8, "RTPAZE E", 8);
    g_assert_cmphex(word(page, 169), ==, 0);
    for (unsigned i = 0; i < 512; i++)
        sum += page[i];
    g_assert_cmpuint(sum, ==, 0);
    g_assert_cmphex(test_inw(t.m, 0x1f0), ==, 0); /* nothing more */
    ide_test_end(&t);
}

static void check_signature(struct ide_test *t, unsigned unit, uint16_t cylinder, uint8_t status)
{
    test_outb(t->m, 0x1f6, unit << 4);
    g_assert_cmphex(test_inb(t->m, 0x1f1), ==, 1);
    g_assert_cmphex(test_inb(t->m, 0x1f2), ==, 1);
    g_assert_cmphex(test_inb(t->m, 0x1f3), ==, 1);
    g_assert_cmphex(test_inb(t->m, 0x1f4) | test_inb(t->m, 0x1f5) << 8, ==, cylinder);
    g_assert_cmphex(test_inb(t->m, 0x1f7), ==, status);
}

static void test_reset(void)
{
    struct ide_test t;
    ide_test_begin(&t);
    struct ata_drive *d = ide_test_add(&t, 0, false, DISK, "");

    g_assert_cmphex(test_inb(t.m, 0x177), ==, 0); /* nobody on the other cable */
    g_assert_cmphex(test_inb(t.m, 0x172), ==, 0);
    test_outb(t.m, 0x1f6, 0xb0);
    g_assert_cmphex(test_inb(t.m, 0x1f7), ==, 0); /* no slave: the master answers for it */
    test_outb(t.m, 0x1f2, 0x55);
    g_assert_cmphex(test_inb(t.m, 0x1f2), ==, 0x55);
    test_outb(t.m, 0x1f2, 0x01);
    struct ata_drive *cd = ide_test_add(&t, 1, true, 0, "");
    check_signature(&t, 0, 0x0000, 0x50);
    check_signature(&t, 1, 0xeb14, 0x00);
    /* SRST in the middle of a transfer */
    ide_test_setup(&t, 0, 0, 4);
    g_assert_cmphex(ide_test_command(&t, d, 0x20), ==, 0x58);
    test_outb(t.m, 0x3f6, 0x04);
    g_assert_cmphex(test_inb(t.m, 0x1f7), ==, 0x80);
    test_outb(t.m, 0x1f2, 7); /* not heard */
    test_outb(t.m, 0x3f6, 0x00);
    g_assert_cmpint(t.irq[0].level, ==, 0);
    check_signature(&t, 0, 0x0000, 0x50);
    check_signature(&t, 1, 0xeb14, 0x00);
    test_outb(t.m, 0x1f7, 0x08); /* DEVICE RESET is for packet devices */
    g_assert_cmphex(test_inb(t.m, 0x1f7), ==, 0x00);
    test_outb(t.m, 0x1f6, 0xa0);
    g_assert_cmphex(ide_test_command(&t, d, 0x08), ==, 0x51);
    g_assert_cmphex(test_inb(t.m, 0x1f1), ==, ATA_ERROR_ABRT);
    /* EXECUTE DEVICE DIAGNOSTIC to the slave: both, and the master answers */
    test_outb(t.m, 0x1f6, 0xb0);
    g_assert_cmphex(ide_test_command(&t, cd, 0x90), ==, 0x50);
    g_assert_cmpint(t.irq[0].level, ==, 1);
    check_signature(&t, 0, 0x0000, 0x50);
    check_signature(&t, 1, 0xeb14, 0x00);
    ide_test_end(&t);
}

/* `sectors` from `first` by a PIO command with `block` sectors to an interrupt. */
static void read_pio(struct ide_test *t, struct ata_drive *d, uint8_t command, uint32_t first, unsigned sectors, unsigned block)
{
    uint8_t buf[512];
    unsigned rises = t->irq[0].rises;
    ide_test_setup(t, d->unit, first, sectors);
    test_outb(t->m, 0x1f7, command);
    for (unsigned i = 0; i < sectors; i++) {
        ide_test_wait(d);
        if (i % block == 0)
            g_assert_cmphex(test_inb(t->m, 0x1f7), ==, 0x58);
        ide_test_in(t, buf, 512);
        g_assert_cmpuint(first32(buf), ==, first + i);
    }
    g_assert_cmphex(test_inb(t->m, 0x1f7), ==, 0x50);
    g_assert_cmpuint(t->irq[0].rises - rises, ==, (sectors + block - 1) / block);
}

static void test_pio(void)
{
    struct ide_test t;
    uint8_t buf[512] = { 0 };
    ide_test_begin(&t);
    struct ata_drive *d = ide_test_add(&t, 0, false, DISK, "");

    read_pio(&t, d, 0x20, 0, 1, 1);
    read_pio(&t, d, 0x20, 100, 5, 1);
    read_pio(&t, d, 0xc4, 1, 37, 16);
    ide_test_setup(&t, 0, 0, 8);
    g_assert_cmphex(ide_test_command(&t, d, 0xc6), ==, 0x50); /* SET MULTIPLE */
    read_pio(&t, d, 0xc4, 1, 9, 8);
    ide_test_setup(&t, 0, 0, 3);
    g_assert_cmphex(ide_test_command(&t, d, 0xc6), ==, 0x51);
    ide_test_setup(&t, 0, 1, 1);
    g_assert_cmphex(ide_test_command(&t, d, 0xc4), ==, 0x51);
    /* Writing: DRQ without an interrupt, an interrupt for each further block and for the end */
    unsigned rises = t.irq[0].rises;
    test_inb(t.m, 0x1f7);
    ide_test_setup(&t, 0, 50, 3);
    g_assert_cmphex(ide_test_command(&t, d, 0x30), ==, 0x58);
    g_assert_cmpuint(t.irq[0].rises, ==, rises);
    for (unsigned i = 0; i < 3; i++) {
        buf[0] = 0xa0 + i;
        g_assert_cmphex(test_inb(t.m, 0x1f7), ==, 0x58);
        ide_test_out(&t, buf, 512);
        ide_test_wait(d);
        test_state_roundtrip(ide_drive_device(d));
    }
    g_assert_cmphex(test_inb(t.m, 0x1f7), ==, 0x50);
    g_assert_cmpuint(t.irq[0].rises - rises, ==, 3);
    for (unsigned i = 0; i < 3; i++)
        g_assert_cmphex(ide_test_sector(&t, 0, 50 + i), ==, 0xa0 + i);
    g_assert_cmphex(ide_test_sector(&t, 0, 53), ==, 53);
    /* Beyond the end */
    ide_test_setup(&t, 0, DISK / 512 - 1, 2);
    g_assert_cmphex(ide_test_command(&t, d, 0x20), ==, 0x51);
    g_assert_cmphex(test_inb(t.m, 0x1f1), ==, ATA_ERROR_IDNF);
    ide_test_setup(&t, 0, DISK / 512 - 1, 1);
    g_assert_cmphex(ide_test_command(&t, d, 0x40), ==, 0x50); /* VERIFY */
    g_assert_cmphex(ide_test_command(&t, d, 0x17), ==, 0x51);
    g_assert_cmphex(test_inb(t.m, 0x1f1), ==, ATA_ERROR_ABRT);
    ide_test_end(&t);
}

static void test_chs(void)
{
    struct ide_test t;
    uint8_t buf[512];
    ide_test_begin(&t);
    struct ata_drive *d = ide_test_add(&t, 0, false, DISK, "");

    test_outb(t.m, 0x1f6, 0xa3); /* head 3 */
    test_outb(t.m, 0x1f2, 1);
    test_outb(t.m, 0x1f3, 5);
    test_outb(t.m, 0x1f4, 2);
    test_outb(t.m, 0x1f5, 0);
    g_assert_cmphex(ide_test_command(&t, d, 0x20), ==, 0x58);
    ide_test_in(&t, buf, 512);
    g_assert_cmpuint(first32(buf), ==, (2 * 16 + 3) * 63 + 4);
    g_assert_cmphex(test_inb(t.m, 0x1f3), ==, 5);
    g_assert_cmphex(test_inb(t.m, 0x1f4), ==, 2);
    test_outb(t.m, 0x1f6, 0xa7); /* INITIALIZE DEVICE PARAMETERS: 8 heads of 17 */
    test_outb(t.m, 0x1f2, 17);
    g_assert_cmphex(ide_test_command(&t, d, 0x91), ==, 0x50);
    test_outb(t.m, 0x1f6, 0xa3);
    test_outb(t.m, 0x1f2, 1);
    g_assert_cmphex(ide_test_command(&t, d, 0x20), ==, 0x58);
    ide_test_in(&t, buf, 512);
    g_assert_cmpuint(first32(buf), ==, (2 * 8 + 3) * 17 + 4);
    test_outb(t.m, 0x1f3, 0); /* there is no sector 0 */
    g_assert_cmphex(ide_test_command(&t, d, 0x20), ==, 0x51);
    test_outb(t.m, 0x1f3, 18);
    g_assert_cmphex(ide_test_command(&t, d, 0x20), ==, 0x51);
    ide_test_end(&t);
}

static void setup48(struct ide_test *t, uint64_t lba, uint16_t count)
{
    test_outb(t->m, 0x1f6, 0xe0);
    test_outb(t->m, 0x1f2, count >> 8);
    test_outb(t->m, 0x1f2, count);
    for (int i = 2; i >= 0; i--)
        test_outb(t->m, 0x1f3 + i, lba >> (24 + 8 * i));
    for (int i = 2; i >= 0; i--)
        test_outb(t->m, 0x1f3 + i, lba >> 8 * i);
}

static void test_lba48(void)
{
    struct ide_test t;
    uint8_t buf[512] = { 0x77 };
    const uint64_t last = UINT64_C(0x48d159df);
    ide_test_begin(&t);
    struct ata_drive *d = ide_test_add(&t, 0, false, (last + 1) * 512, ""); /* sparse, 600 GB */

    setup48(&t, last, 1);
    g_assert_cmphex(ide_test_command(&t, d, 0x34), ==, 0x58);
    ide_test_out(&t, buf, 512);
    ide_test_wait(d);
    g_assert_cmphex(test_inb(t.m, 0x1f7), ==, 0x50);
    g_assert_cmphex(ide_test_sector(&t, 0, last), ==, 0x77);
    setup48(&t, last + 1, 1);
    g_assert_cmphex(ide_test_command(&t, d, 0x24), ==, 0x51);
    g_assert_cmphex(test_inb(t.m, 0x1f1), ==, ATA_ERROR_IDNF);
    setup48(&t, 0, 0);
    g_assert_cmphex(ide_test_command(&t, d, 0x27), ==, 0x50); /* READ NATIVE MAX EXT */
    uint64_t got = 0;
    for (unsigned i = 0; i < 3; i++)
        got |= (uint64_t)test_inb(t.m, 0x1f3 + i) << 8 * i;
    test_outb(t.m, 0x3f6, 0x80); /* HOB */
    for (unsigned i = 0; i < 3; i++)
        got |= (uint64_t)test_inb(t.m, 0x1f3 + i) << (24 + 8 * i);
    g_assert_cmphex(got, ==, last);
    test_outb(t.m, 0x1f2, 9); /* which a write takes back */
    g_assert_cmphex(test_inb(t.m, 0x1f2), ==, 9);
    ide_test_end(&t);
}

/* --- DMA ---------------------------------------------------------------------------------------------------------- */

static void put_prd(struct ide_test *t, unsigned n, uint32_t addr, uint32_t flags_and_count)
{
    test_write(t->m, PRDS + 8 * n, addr, 4);
    test_write(t->m, PRDS + 8 * n + 4, flags_and_count, 4);
}

#define EOT 0x80000000u

static uint8_t master(struct ide_test *t)
{
    return test_inb(t->m, IDE_TEST_MASTER + 2);
}

static void start_master(struct ide_test *t, bool to_memory)
{
    test_outb(t->m, IDE_TEST_MASTER, to_memory ? 8 : 0);
    test_outb(t->m, IDE_TEST_MASTER + 2, 0x06);
    test_outl(t->m, IDE_TEST_MASTER + 4, PRDS);
    test_outb(t->m, IDE_TEST_MASTER, to_memory ? 9 : 1);
}

static void test_dma(void)
{
    struct ide_test t;
    ide_test_begin(&t);
    struct ata_drive *d = ide_test_add(&t, 0, false, DISK, "");
    uint8_t *ram = t.m->ram->host;

    /* 256 sectors into two pieces, one of 64 KiB written as 0 */
    put_prd(&t, 0, DATA, 0);
    put_prd(&t, 1, DATA + 0x20000, EOT);
    ide_test_setup(&t, 0, 256, 0);
    g_assert_cmphex(ide_test_command(&t, d, 0xc8) & 0x88, ==, 0x08); /* the drive waits for the engine */
    start_master(&t, true);
    ide_test_wait(d);
    g_assert_cmphex(master(&t), ==, 0x04);
    g_assert_cmpint(t.irq[0].level, ==, 1);
    g_assert_cmphex(test_inb(t.m, 0x1f7), ==, 0x50);
    g_assert_cmpuint(first32(ram + DATA), ==, 256);
    g_assert_cmpuint(first32(ram + DATA + 0xfe00), ==, 256 + 127);
    g_assert_cmpuint(first32(ram + DATA + 0x20000), ==, 256 + 128);
    g_assert_cmpuint(first32(ram + DATA + 0x2fe00), ==, 511);
    /* The engine first, then the command; 2 KiB from single bytes' worth of pieces */
    test_outb(t.m, IDE_TEST_MASTER, 0);
    for (unsigned i = 0; i < 1024; i++)
        put_prd(&t, i, DATA + 2 * i, 2 | (i == 1023 ? EOT : 0));
    for (unsigned i = 0; i < 4; i++)
        test_write(t.m, DATA + 512 * i, 0xbeef0000 + i, 4);
    ide_test_setup(&t, 0, 10, 4);
    start_master(&t, false);
    g_assert_cmphex(master(&t), ==, 0x01);
    g_assert_cmphex(ide_test_command(&t, d, 0xca), ==, 0x50);
    g_assert_cmphex(master(&t), ==, 0x04);
    for (unsigned i = 0; i < 4; i++)
        g_assert_cmphex(ide_test_sector(&t, 0, 10 + i), ==, 0xbeef0000 + i);
    /* More memory than data: the engine stays active until it is stopped */
    test_outb(t.m, IDE_TEST_MASTER, 0);
    put_prd(&t, 0, DATA, 0x8000 | EOT);
    ide_test_setup(&t, 0, 20, 1);
    start_master(&t, true);
    g_assert_cmphex(ide_test_command(&t, d, 0xc8), ==, 0x50);
    g_assert_cmphex(master(&t), ==, 0x05);
    test_outb(t.m, IDE_TEST_MASTER, 8);
    g_assert_cmphex(master(&t), ==, 0x04);
    g_assert_cmpuint(first32(ram + DATA), ==, 20);
    /* nIEN: the interrupt is not seen, by the engine neither */
    test_inb(t.m, 0x1f7);
    test_outb(t.m, 0x3f6, 0x02);
    start_master(&t, true);
    ide_test_setup(&t, 0, 21, 1);
    ide_test_command(&t, d, 0xc8);
    g_assert_cmpint(t.irq[0].level, ==, 0);
    g_assert_cmphex(master(&t), ==, 0x01);
    ide_test_end(&t);
}

static void test_hostile_prds(void)
{
    struct ide_test t;
    ide_test_begin(&t);
    struct ata_drive *d = ide_test_add(&t, 0, false, DISK, "");
    uint8_t *ram = t.m->ram->host;

    /* Less memory than data: no interrupt, the drive waits with DRQ until it is reset */
    put_prd(&t, 0, DATA, 0x100 | EOT);
    ide_test_setup(&t, 0, 30, 1);
    start_master(&t, true);
    g_assert_cmphex(ide_test_command(&t, d, 0xc8) & 0x88, ==, 0x08);
    g_assert_cmphex(master(&t), ==, 0x00);
    g_assert_cmpint(t.irq[0].level, ==, 0);
    g_assert_cmpuint(first32(ram + DATA), ==, 30);
    test_state_roundtrip(&t.ide->pci.dev);
    test_outb(t.m, 0x3f6, 4);
    test_outb(t.m, 0x3f6, 0);
    /* Data where there is no memory at all */
    test_outb(t.m, IDE_TEST_MASTER, 0);
    put_prd(&t, 0, 0x0ff000, 0x4000 | EOT); /* the end of RAM within it */
    ide_test_setup(&t, 0, 30, 32);
    start_master(&t, true);
    ide_test_command(&t, d, 0xc8);
    g_assert_cmphex(master(&t) & 0x01, ==, 0);
    test_outb(t.m, 0x3f6, 4);
    test_outb(t.m, 0x3f6, 0);
    /* Descriptors without an end that name themselves: bounded by the command */
    test_outb(t.m, IDE_TEST_MASTER, 0);
    for (unsigned i = 0; i < 512; i++)
        put_prd(&t, i, PRDS, 2);
    ide_test_setup(&t, 0, 30, 16);
    start_master(&t, true);
    ide_test_command(&t, d, 0xc8);
    test_outb(t.m, 0x3f6, 4);
    test_outb(t.m, 0x3f6, 0);
    /* The wrong direction moves nothing, nor an engine that is no bus master */
    test_outb(t.m, IDE_TEST_MASTER, 0);
    test_write(t.m, DATA, 0x55555555, 4);
    put_prd(&t, 0, DATA, 0x200 | EOT);
    ide_test_setup(&t, 0, 30, 1);
    start_master(&t, false);
    ide_test_command(&t, d, 0xc8);
    g_assert_cmphex(first32(ram + DATA), ==, 0x55555555);
    test_outb(t.m, IDE_TEST_MASTER, 0);
    pci_config_write(&t.ide->pci, PCI_COMMAND, PCI_COMMAND_IO, 2);
    start_master(&t, true);
    g_assert_cmphex(first32(ram + DATA), ==, 0x55555555);
    pci_config_write(&t.ide->pci, PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MASTER, 2);
    g_assert_cmphex(first32(ram + DATA), ==, 30);
    g_assert_cmphex(master(&t), ==, 0x04);
    ide_test_end(&t);
}

/* --- Settings ----------------------------------------------------------------------------------------------------- */

static uint8_t with_features(struct ide_test *t, struct ata_drive *d, uint8_t command, uint8_t features, uint8_t count)
{
    ide_test_setup(t, d->unit, 0xc24f00, count); /* SMART's key among them */
    test_outb(t->m, 0x1f1, features);
    return ide_test_command(t, d, command);
}

static void test_settings(void)
{
    struct ide_test t;
    uint8_t page[512], sum = 0;
    ide_test_begin(&t);
    struct ata_drive *d = ide_test_add(&t, 0, false, DISK, "");

    g_assert_true(blk_write_cache(d->blk));
    g_assert_cmphex(with_features(&t, d, 0xef, 0x82, 0), ==, 0x50);
    g_assert_false(blk_write_cache(d->blk));
    g_assert_cmphex(with_features(&t, d, 0xef, 0x02, 0), ==, 0x50);
    g_assert_true(blk_write_cache(d->blk));
    g_assert_cmphex(with_features(&t, d, 0xef, 0x03, 0x22), ==, 0x50);
    g_assert_cmphex(with_features(&t, d, 0xef, 0x03, 0x23), ==, 0x51);
    g_assert_cmphex(with_features(&t, d, 0xef, 0x03, 0x45), ==, 0x50);
    g_assert_cmphex(with_features(&t, d, 0xef, 0x77, 0), ==, 0x51);
    g_assert_cmphex(with_features(&t, d, 0xe5, 0, 0), ==, 0x50); /* CHECK POWER MODE */
    g_assert_cmphex(test_inb(t.m, 0x1f2), ==, 0xff);
    g_assert_cmphex(with_features(&t, d, 0xe0, 0, 0), ==, 0x50);
    g_assert_cmphex(with_features(&t, d, 0xe5, 0, 0), ==, 0x50);
    g_assert_cmphex(test_inb(t.m, 0x1f2), ==, 0x00);
    g_assert_cmphex(with_features(&t, d, 0xe7, 0, 0), ==, 0x50);
    g_assert_cmphex(with_features(&t, d, 0xea, 0, 0), ==, 0x50);
    g_assert_cmphex(with_features(&t, d, 0xb0, 0xda, 0), ==, 0x50);
    g_assert_cmphex(test_inb(t.m, 0x1f4) | test_inb(t.m, 0x1f5) << 8, ==, 0xc24f);
    g_assert_cmphex(with_features(&t, d, 0xb0, 0xd0, 0), ==, 0x58);
    ide_test_in(&t, page, 512);
    for (unsigned i = 0; i < 512; i++)
        sum += page[i];
    g_assert_cmpuint(sum, ==, 0);
    g_assert_cmphex(with_features(&t, d, 0xb0, 0xd9, 0), ==, 0x50);
    g_assert_cmphex(with_features(&t, d, 0xb0, 0xd0, 0), ==, 0x51);
    g_assert_cmphex(with_features(&t, d, 0xe6, 0, 0), ==, 0x50); /* SLEEP: until a reset */
    g_assert_cmphex(with_features(&t, d, 0xec, 0, 0), ==, 0x50);
    test_outb(t.m, 0x3f6, 4);
    test_outb(t.m, 0x3f6, 0);
    g_assert_cmphex(with_features(&t, d, 0xec, 0, 0), ==, 0x58);
    test_outb(t.m, 0x1f7, 0x20); /* a command on top of one: not heard */
    g_assert_cmphex(test_inb(t.m, 0x1f7), ==, 0x58);
    ide_test_end(&t);
}

static void test_trim(void)
{
    struct ide_test t;
    ide_test_begin(&t);
    struct ata_drive *d = ide_test_add(&t, 0, false, DISK, ",discard=unmap");

    ide_test_setup(&t, 0, 0, 1);
    g_assert_cmphex(ide_test_command(&t, d, 0xec), ==, 0x58);
    uint8_t page[512];
    ide_test_in(&t, page, 512);
    g_assert_cmphex(word(page, 169), ==, 1);
    put_prd(&t, 0, DATA, 0x200 | EOT);
    test_write(t.m, DATA, 64 | UINT64_C(8) << 48, 8);
    test_write(t.m, DATA + 16, 256 | UINT64_C(16) << 48, 8); /* behind an empty one */
    setup48(&t, 0, 1);
    test_outb(t.m, 0x1f1, 0);
    test_outb(t.m, 0x1f1, 1);
    start_master(&t, false);
    g_assert_cmphex(ide_test_command(&t, d, 0x06), ==, 0x50);
    g_assert_cmphex(ide_test_sector(&t, 0, 63), ==, 63);
    g_assert_cmphex(ide_test_sector(&t, 0, 64), ==, 0);
    g_assert_cmphex(ide_test_sector(&t, 0, 72), ==, 72);
    g_assert_cmphex(ide_test_sector(&t, 0, 271), ==, 0);
    g_assert_cmphex(ide_test_sector(&t, 0, 272), ==, 272);
    /* Beyond the end, and more blocks than are told */
    test_write(t.m, DATA, (DISK / 512 - 1) | UINT64_C(2) << 48, 8);
    test_outb(t.m, IDE_TEST_MASTER, 0);
    setup48(&t, 0, 1);
    test_outb(t.m, 0x1f1, 1);
    start_master(&t, false);
    g_assert_cmphex(ide_test_command(&t, d, 0x06), ==, 0x51);
    g_assert_cmphex(test_inb(t.m, 0x1f1), ==, ATA_ERROR_IDNF);
    setup48(&t, 0, 9);
    g_assert_cmphex(ide_test_command(&t, d, 0x06), ==, 0x51);
    g_assert_cmphex(test_inb(t.m, 0x1f1), ==, ATA_ERROR_ABRT);
    ide_test_end(&t);
}

/* A medium that is lost between two chunks of a transfer of 1 MiB, by DMA. */
static void test_errors(void)
{
    static const char *const policies[] = { ",rerror=report", ",rerror=stop", ",rerror=ignore" };
    for (unsigned i = 0; i < G_N_ELEMENTS(policies); i++) {
        struct ide_test t;
        GError *err = NULL;
        ide_test_begin(&t);
        struct ata_drive *d = ide_test_add(&t, 0, false, DISK, policies[i]);
        for (unsigned n = 0; n < 16; n++)
            put_prd(&t, n, DATA, n == 15 ? EOT : 0);
        setup48(&t, 100, 2048);
        g_assert_cmphex(ide_test_command(&t, d, 0x25) & 0x88, ==, 0x08);
        blk_eject(d->blk);
        start_master(&t, true);
        ide_test_wait(d);
        if (i == 0) {
            g_assert_cmphex(test_inb(t.m, 0x1f7), ==, 0x51);
            g_assert_cmphex(test_inb(t.m, 0x1f1), ==, ATA_ERROR_UNC);
            g_assert_cmphex(test_inb(t.m, 0x1f3) | test_inb(t.m, 0x1f4) << 8, ==, 100 + 1024);
            g_assert_cmpint(machine_take_request(t.m), ==, REQUEST_NONE);
        } else if (i == 1) {
            g_assert_cmphex(test_inb(t.m, 0x1f7) & 0x89, ==, 0x80);
            g_assert_cmpint(t.irq[0].rises, ==, 0);
            g_assert_cmpint(machine_take_request(t.m), ==, REQUEST_PAUSE);
            test_state_roundtrip(ide_drive_device(d));
            g_assert_true(blk_change(d->blk, t.image[0].path, "raw", &err));
            g_assert_no_error(err);
            test_step(t.m, 20000000); /* the machine goes on: so does the command */
            ide_test_wait(d);
            g_assert_cmphex(test_inb(t.m, 0x1f7), ==, 0x50);
            g_assert_cmpuint(first32(t.m->ram->host + DATA), ==, 100 + 15 * 128);
        } else {
            g_assert_cmphex(test_inb(t.m, 0x1f7), ==, 0x50);
        }
        ide_test_end(&t);
    }
}

static void test_random(void)
{
    for (uint32_t seed = 1; seed <= 20; seed++) {
        struct ide_test t;
        ide_test_begin(&t);
        struct ata_drive *d = ide_test_add(&t, 0, false, DISK, ",discard=unmap"), *cd = ide_test_add(&t, 1, true, DISK, "");
        test_poke_ports(t.m, ide_drive_device(seed & 1 ? d : cd), seed, 3000, 0x1f0, 8);
        ide_test_end(&t);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/ide/identify", test_identify);
    g_test_add_func("/ide/reset", test_reset);
    g_test_add_func("/ide/pio", test_pio);
    g_test_add_func("/ide/chs", test_chs);
    g_test_add_func("/ide/lba48", test_lba48);
    g_test_add_func("/ide/dma", test_dma);
    g_test_add_func("/ide/hostile_prds", test_hostile_prds);
    g_test_add_func("/ide/settings", test_settings);
    g_test_add_func("/ide/trim", test_trim);
    g_test_add_func("/ide/errors", test_errors);
    g_test_add_func("/ide/random", test_random);
    return g_test_run();
}
