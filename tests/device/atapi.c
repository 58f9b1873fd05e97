/*
 * ATAPI CD drive: identity, packet commands by PIO with byte count limits and by DMA, sense, tables of contents, media and tray,
 * lock, raw sectors, hostile lengths, saved state at every word of a transfer.
 */
#include "tests/lib/ide_test.h"

#include <string.h>

#define SECTORS 1000
#define PRDS 0x8000
#define DATA 0x20000

struct fixture {
    struct ide_test t;
    struct ata_drive *d;
};

static void set_up(struct fixture *f, bool medium)
{
    ide_test_begin(&f->t);
    f->d = ide_test_add(&f->t, 0, true, medium ? SECTORS * ATA_CD_SECTOR : 0, "");
}

static void tear_down(struct fixture *f)
{
    ide_test_end(&f->t);
}

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3];
}

#define CDB(...) ((const uint8_t[12]){ __VA_ARGS__ })

/* Expects data in one block, and the end. The number of bytes. */
static unsigned query(struct fixture *f, const uint8_t *cdb, void *buf, unsigned size)
{
    uint8_t status = ide_test_packet(&f->t, f->d, 0, 0xfffe, cdb);
    g_assert_cmphex(status, ==, 0x48);
    g_assert_cmphex(test_inb(f->t.m, 0x1f2), ==, ATA_REASON_IO);
    unsigned n = test_inb(f->t.m, 0x1f4) | test_inb(f->t.m, 0x1f5) << 8;
    g_assert_cmpuint(n, <=, size);
    ide_test_in(&f->t, buf, n);
    g_assert_cmphex(test_inb(f->t.m, 0x1f7), ==, 0x40);
    g_assert_cmphex(test_inb(f->t.m, 0x1f2), ==, ATA_REASON_IO | ATA_REASON_COD);
    return n;
}

/* The command must fail with that sense. */
static void fails(struct fixture *f, const uint8_t *cdb, uint8_t key, uint8_t asc)
{
    uint8_t sense[18];
    g_assert_cmphex(ide_test_packet(&f->t, f->d, 0, 0xfffe, cdb), ==, 0x41);
    g_assert_cmphex(test_inb(f->t.m, 0x1f1) >> 4, ==, key);
    g_assert_cmpuint(query(f, CDB(0x03, 0, 0, 0, 18), sense, sizeof sense), ==, 18);
    g_assert_cmphex(sense[0], ==, 0x70);
    g_assert_cmphex(sense[2], ==, key);
    g_assert_cmphex(sense[12], ==, asc);
}

static void succeeds(struct fixture *f, const uint8_t *cdb)
{
    g_assert_cmphex(ide_test_packet(&f->t, f->d, 0, 0xfffe, cdb), ==, 0x40);
    g_assert_cmpint(f->t.irq[0].level, ==, 1);
    test_inb(f->t.m, 0x1f7);
}

static void test_identity(void)
{
    struct fixture f;
    uint8_t page[512];
    set_up(&f, true);

    test_outb(f.t.m, 0x1f6, 0xa0);
    g_assert_cmphex(ide_test_command(&f.t, f.d, 0xec), ==, 0x41); /* IDENTIFY DEVICE: aborted, with the signature */
    g_assert_cmphex(test_inb(f.t.m, 0x1f4) | test_inb(f.t.m, 0x1f5) << 8, ==, 0xeb14);
    g_assert_cmphex(ide_test_command(&f.t, f.d, 0xa1), ==, 0x48);
    ide_test_in(&f.t, page, 512);
    g_assert_cmphex(page[0] | page[1] << 8, ==, 0x85c0);
    g_assert_cmphex(test_inb(f.t.m, 0x1f7), ==, 0x40);
    g_assert_cmpuint(query(&f, CDB(0x12, 0, 0, 0, 255), page, 512), ==, 36);
    g_assert_cmphex(page[0], ==, 5);
    g_assert_cmpmem(page + 8, 8, "TRAPEZE ", 8);
    g_assert_cmpuint(query(&f, CDB(0x12, 0, 0, 0, 5), page, 512), ==, 5);
    g_assert_cmpuint(query(&f, CDB(0x5a, 0, 0x2a, 0, 0, 0, 0, 0, 255), page, 512), ==, 28);
    g_assert_cmpuint(page[1], ==, 26);
    g_assert_cmphex(page[8], ==, 0x2a);
    g_assert_cmpuint(query(&f, CDB(0x1a, 0, 0x3f, 0, 255), page, 512), ==, 44);
    fails(&f, CDB(0x5a, 0, 0x05, 0, 0, 0, 0, 0, 255), 5, 0x24);
    fails(&f, CDB(0x5a, 0, 0xea, 0, 0, 0, 0, 0, 255), 5, 0x39);
    fails(&f, CDB(0xff), 5, 0x20);
    g_assert_cmpuint(query(&f, CDB(0x46, 0, 0, 0, 0, 0, 0, 1, 0), page, 512), >, 8);
    g_assert_cmphex(page[7], ==, 0x08); /* CD-ROM */
    g_assert_cmpuint(be32(page), ==, 8 + 12 + 12 + 8 + 12 + 8 + 8 - 4);
    succeeds(&f, CDB(0x12, 0, 0, 0, 0)); /* no bytes allowed: no data */
    /* DEVICE RESET in a data phase */
    ide_test_packet(&f.t, f.d, 0, 0xfffe, CDB(0x12, 0, 0, 0, 255));
    test_outb(f.t.m, 0x1f7, 0x08);
    g_assert_cmphex(test_inb(f.t.m, 0x1f7), ==, 0x00);
    g_assert_cmphex(test_inb(f.t.m, 0x1f5), ==, 0xeb);
    tear_down(&f);
}

static void test_reads(void)
{
    struct fixture f;
    uint8_t buf[4 * ATA_CD_SECTOR];
    set_up(&f, true);

    g_assert_cmpuint(query(&f, CDB(0x25), buf, 8), ==, 8);
    g_assert_cmpuint(be32(buf), ==, SECTORS - 1);
    g_assert_cmpuint(be32(buf + 4), ==, 2048);
    /* Three sectors in blocks of 1000 bytes; the odd limit is made even */
    unsigned rises = f.t.irq[0].rises, got = 0, blocks = 0;
    ide_test_packet(&f.t, f.d, 0, 1001, CDB(0x28, 0, 0, 0, 0, 7, 0, 0, 3));
    while (test_inb(f.t.m, 0x1f7) & ATA_STATUS_DRQ) {
        unsigned n = test_inb(f.t.m, 0x1f4) | test_inb(f.t.m, 0x1f5) << 8;
        g_assert_cmpuint(n, <=, 1000);
        ide_test_in(&f.t, buf + got, n);
        got += n;
        blocks++;
        test_state_roundtrip(ide_drive_device(f.d));
    }
    g_assert_cmpuint(got, ==, 3 * 2048);
    g_assert_cmpuint(blocks, ==, 7);
    g_assert_cmpuint(f.t.irq[0].rises - rises, ==, blocks + 1);
    for (unsigned i = 0; i < 3; i++)
        g_assert_cmpuint(buf[i * 2048] | buf[i * 2048 + 1] << 8, ==, 7 + i);
    /* READ CD, all of a sector */
    ide_test_packet(&f.t, f.d, 0, 0xfffe, CDB(0xbe, 0, 0, 0, 0, 75, 0, 0, 1, 0xf8));
    ide_test_in(&f.t, buf, 2352);
    g_assert_cmphex(test_inb(f.t.m, 0x1f7), ==, 0x40);
    g_assert_cmpmem(buf, 16, "\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x03\x00\x01", 16);
    g_assert_cmpuint(buf[16], ==, 75);
    succeeds(&f, CDB(0xbe, 0, 0, 0, 0, 75, 0, 0, 1, 0x00));
    fails(&f, CDB(0xbe, 0, 0, 0, 0, 75, 0, 0, 1, 0x08), 5, 0x24);
    /* Beyond the end, also where 32 bits wrap */
    fails(&f, CDB(0x28, 0, 0, 0, 0x03, 0xe8, 0, 0, 1), 5, 0x21);
    fails(&f, CDB(0x28, 0, 0, 0, 0x03, 0xe7, 0, 0, 2), 5, 0x21);
    fails(&f, CDB(0xa8, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 2), 5, 0x21);
    fails(&f, CDB(0xa8, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff), 5, 0x21);
    succeeds(&f, CDB(0x28, 0, 0, 0, 0, 1, 0, 0, 0));
    /* By DMA */
    test_write(f.t.m, PRDS, DATA, 4);
    test_write(f.t.m, PRDS + 4, 0x80000000u | 0x8000, 4);
    test_outl(f.t.m, IDE_TEST_MASTER + 4, PRDS);
    test_outb(f.t.m, IDE_TEST_MASTER, 9);
    g_assert_cmphex(ide_test_packet(&f.t, f.d, 1, 0, CDB(0xa8, 0, 0, 0, 0, 20, 0, 0, 0, 16)), ==, 0x40);
    g_assert_cmphex(test_inb(f.t.m, IDE_TEST_MASTER + 2), ==, 0x04);
    for (unsigned i = 0; i < 16; i++)
        g_assert_cmpuint(f.t.m->ram->host[DATA + 2048 * i], ==, 20 + i);
    tear_down(&f);
}

static void test_toc(void)
{
    struct fixture f;
    uint8_t toc[64];
    set_up(&f, true);

    g_assert_cmpuint(query(&f, CDB(0x43, 0, 0, 0, 0, 0, 0, 0, 64), toc, 64), ==, 20);
    g_assert_cmpmem(toc, 8, "\x00\x12\x01\x01\x00\x14\x01\x00", 8);
    g_assert_cmphex(toc[14], ==, 0xaa);
    g_assert_cmpuint(be32(toc + 16), ==, SECTORS);
    g_assert_cmpuint(query(&f, CDB(0x43, 2, 0, 0, 0, 0, 0xaa, 0, 64), toc, 64), ==, 12);
    g_assert_cmpmem(toc + 8, 4, "\x00\x00\x0f\x19", 4); /* 1150 frames are 15 seconds and 25 */
    g_assert_cmpuint(query(&f, CDB(0x43, 0, 1, 0, 0, 0, 0, 0, 64), toc, 64), ==, 12);
    g_assert_cmpuint(query(&f, CDB(0x43, 0, 0, 0, 0, 0, 0, 0, 64, 0x40), toc, 64), ==, 12);
    g_assert_cmpuint(query(&f, CDB(0x43, 0, 2, 0, 0, 0, 0, 0, 64), toc, 64), ==, 48);
    fails(&f, CDB(0x43, 0, 0, 0, 0, 0, 2, 0, 64), 5, 0x24);
    fails(&f, CDB(0x43, 0, 5, 0, 0, 0, 0, 0, 64), 5, 0x24);
    g_assert_cmpuint(query(&f, CDB(0x51, 0, 0, 0, 0, 0, 0, 0, 64), toc, 64), ==, 34);
    tear_down(&f);
}

static uint8_t event(struct fixture *f, uint8_t *state)
{
    uint8_t e[8];
    g_assert_cmpuint(query(f, CDB(0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8), e, 8), ==, 8);
    *state = e[5];
    return e[4];
}

static void test_media(void)
{
    struct fixture f;
    uint8_t state;
    GError *err = NULL;
    set_up(&f, true);

    succeeds(&f, CDB(0x00));
    g_assert_cmphex(event(&f, &state), ==, 0);
    g_assert_cmphex(state, ==, 2);
    succeeds(&f, CDB(0x1e, 0, 0, 0, 1)); /* locked */
    fails(&f, CDB(0x1b, 0, 0, 0, 2), 5, 0x53);
    succeeds(&f, CDB(0x1e, 0, 0, 0, 0));
    succeeds(&f, CDB(0x1b, 0, 0, 0, 2));
    fails(&f, CDB(0x00), 2, 0x3a);
    g_assert_cmphex(event(&f, &state), ==, 3);
    g_assert_cmphex(state, ==, 1);
    succeeds(&f, CDB(0x1b, 0, 0, 0, 3));
    fails(&f, CDB(0x00), 6, 0x28);
    succeeds(&f, CDB(0x00));
    /* The user takes it out, and puts it back */
    blk_eject(f.d->blk);
    fails(&f, CDB(0x28, 0, 0, 0, 0, 1, 0, 0, 1), 2, 0x3a);
    fails(&f, CDB(0x25), 2, 0x3a);
    g_assert_true(blk_change(f.d->blk, f.t.image[0].path, "raw", &err));
    g_assert_no_error(err);
    g_assert_cmphex(event(&f, &state), ==, 2);
    g_assert_cmphex(state, ==, 2);
    fails(&f, CDB(0x25), 6, 0x28);
    fails(&f, CDB(0x28, 0, 0, 0, 0x03, 0xe8, 0, 0, 1), 5, 0x21);
    /* In the middle of a transfer what was read is still there */
    uint8_t buf[4096];
    ide_test_packet(&f.t, f.d, 0, 2048, CDB(0x28, 0, 0, 0, 0, 5, 0, 0, 2));
    blk_eject(f.d->blk);
    ide_test_in(&f.t, buf, 4096);
    g_assert_cmpuint(buf[2048], ==, 6);
    tear_down(&f);
    set_up(&f, false);
    fails(&f, CDB(0x00), 2, 0x3a);
    fails(&f, CDB(0x43, 0, 0, 0, 0, 0, 0, 0, 64), 2, 0x3a);
    tear_down(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/atapi/identity", test_identity);
    g_test_add_func("/atapi/read", test_reads);
    g_test_add_func("/atapi/toc", test_toc);
    g_test_add_func("/atapi/media", test_media);
    return g_test_run();
}
