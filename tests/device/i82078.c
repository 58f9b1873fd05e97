/*
 * Floppy controller: resets and their interrupts, seeks, reads and writes by DMA and through the FIFO, ends of tracks and counts,
 * formats, wrong rates, protection, the change line, drives that are not there, random registers.
 */
#include "hw/backend/blk.h"
#include "hw/disk/i82078.h"
#include "hw/isa/i8237.h"
#include "tests/lib/device_test.h"

#include <string.h>
#include <unistd.h>

#define DATA 0x20000

struct fixture {
    struct machine *m;
    struct device *fdc;
    struct test_line *irq;
    struct blk *blk;
    struct test_image image;
};

static uint8_t sector_byte(unsigned sector)
{
    return sector * 7 + 1;
}

static void set_up(struct fixture *f, unsigned kib, const char *options)
{
    GError *err = NULL;
    *f = (struct fixture){ .m = test_machine_new() };
    test_add_ram(f->m, 1 << 20);
    test_image_make(&f->image, 0);
    uint8_t sector[512];
    for (unsigned i = 0; i < kib * 2; i++) {
        memset(sector, sector_byte(i), sizeof sector);
        g_assert_cmpint(write(f->image.fd, sector, sizeof sector), ==, sizeof sector);
    }
    g_autofree char *option = g_strdup_printf("if=none,id=f,format=raw,file=%s%s", f->image.path, options);
    f->blk = blk_new_drive(f->m, option, BLK_IF_NONE, -1, &err);
    g_assert_no_error(err);
    struct bus *isa = test_add_isa(f->m);
    test_add(&i8237_type, isa, NULL);
    f->fdc = test_add(&i82078_type, isa, "driveA=f", NULL);
    f->irq = test_isa_line(f->m, 6);
}

static void tear_down(struct fixture *f)
{
    test_machine_free(f->m);
    test_image_free(&f->image);
}

static uint8_t msr(struct fixture *f)
{
    return test_inb(f->m, 0x3f4);
}

static void send(struct fixture *f, const uint8_t *bytes, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        g_assert_cmphex(msr(f) & 0xc0, ==, 0x80);
        test_outb(f->m, 0x3f5, bytes[i]);
    }
}

#define SEND(f, ...) send((f), (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))

/* All result bytes; there must be n. */
static void result(struct fixture *f, uint8_t *bytes, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        g_assert_cmphex(msr(f), ==, 0xd0);
        bytes[i] = test_inb(f->m, 0x3f5);
    }
    g_assert_cmphex(msr(f), ==, 0x80);
}

static void seek(struct fixture *f, uint8_t track)
{
    uint8_t r[2];
    SEND(f, 0x0f, 0, track);
    g_assert_cmpint(f->irq->level, ==, 1);
    SEND(f, 0x08);
    result(f, r, 2);
    g_assert_cmpint(f->irq->level, ==, 0);
    g_assert_cmphex(r[0], ==, 0x20);
    g_assert_cmpuint(r[1], ==, track);
}

/* Out of reset, 500 kbit/s unless told, head at track 0. */
static void start(struct fixture *f, uint8_t rate)
{
    uint8_t r[2];
    test_outb(f->m, 0x3f2, 0x00);
    g_assert_cmphex(msr(f), ==, 0);
    test_outb(f->m, 0x3f2, 0x1c);
    g_assert_cmpint(f->irq->level, ==, 1);
    for (unsigned i = 0; i < 4; i++) {
        SEND(f, 0x08);
        result(f, r, 2);
        g_assert_cmphex(r[0], ==, 0xc0 | i);
    }
    g_assert_cmpint(f->irq->level, ==, 0);
    SEND(f, 0x08);
    result(f, r, 1);
    g_assert_cmphex(r[0], ==, 0x80);
    test_outb(f->m, 0x3f7, rate);
    SEND(f, 0x03, 0xaf, 0x02); /* SPECIFY: DMA */
    SEND(f, 0x07, 0x00);
    SEND(f, 0x08);
    result(f, r, 2);
    g_assert_cmphex(r[0], ==, 0x20);
    g_assert_cmpuint(r[1], ==, 0);
}

static void program_dma(struct fixture *f, uint8_t mode, uint32_t addr, unsigned bytes)
{
    test_outb(f->m, 0x0a, 6);
    test_outb(f->m, 0x0b, mode | 2);
    test_outb(f->m, 0x0c, 0);
    test_outb(f->m, 0x04, addr);
    test_outb(f->m, 0x04, addr >> 8);
    test_outb(f->m, 0x81, addr >> 16);
    test_outb(f->m, 0x05, bytes - 1);
    test_outb(f->m, 0x05, (bytes - 1) >> 8);
    test_outb(f->m, 0x0a, 2);
}

#define TO_MEMORY 0x44
#define FROM_MEMORY 0x48

static void expect(struct fixture *f, uint8_t st0, uint8_t st1, uint8_t st2, uint8_t c, uint8_t h, uint8_t r)
{
    uint8_t got[7];
    blk_drain(f->blk);
    g_assert_cmpint(f->irq->level, ==, 1);
    result(f, got, 7);
    g_assert_cmpint(f->irq->level, ==, 0);
    const uint8_t want[7] = { st0, st1, st2, c, h, r, 2 };
    g_test_message("%02x %02x %02x %u %u %u", got[0], got[1], got[2], got[3], got[4], got[5]);
    g_assert_cmpmem(got, 7, want, 7);
}

static void test_reset(void)
{
    struct fixture f;
    uint8_t r[10];
    set_up(&f, 1440, "");
    start(&f, 0);
    g_assert_cmpuint(i82078_cmos_type(f.fdc, 0), ==, 4);
    g_assert_cmpuint(i82078_cmos_type(f.fdc, 1), ==, 0);
    SEND(&f, 0x10);
    result(&f, r, 1);
    g_assert_cmphex(r[0], ==, 0x90);
    SEND(&f, 0x1f); /* nothing such */
    result(&f, r, 1);
    g_assert_cmphex(r[0], ==, 0x80);
    SEND(&f, 0x13, 0, 0x57, 3); /* CONFIGURE, then LOCK: kept by a reset through DSR */
    SEND(&f, 0x94);
    result(&f, r, 1);
    g_assert_cmphex(r[0], ==, 0x10);
    test_outb(f.m, 0x3f4, 0x80);
    g_assert_cmpint(f.irq->level, ==, 0); /* CONFIGURE has switched polling off */
    SEND(&f, 0x0e);
    result(&f, r, 10);
    g_assert_cmphex(r[8], ==, 0x57);
    g_assert_cmphex(r[7], ==, 0x80);
    SEND(&f, 0x04, 0x00);
    result(&f, r, 1);
    g_assert_cmphex(r[0], ==, 0x38);
    SEND(&f, 0x07, 0x01); /* no drive B */
    SEND(&f, 0x08);
    result(&f, r, 2);
    g_assert_cmphex(r[0], ==, 0x71);
    test_state_roundtrip(f.fdc);
    tear_down(&f);
}

static void test_reads(void)
{
    struct fixture f;
    set_up(&f, 1440, "");
    start(&f, 0);
    uint8_t *ram = f.m->ram->host + DATA;

    /* Track 3, head 1, sectors 17 and 18, with the count's end after the last: C goes on */
    seek(&f, 3);
    program_dma(&f, TO_MEMORY, DATA, 1024);
    SEND(&f, 0xe6, 0x04, 3, 1, 17, 2, 18, 0x1b, 0xff);
    test_state_roundtrip(f.fdc);
    expect(&f, 0x00, 0, 0, 4, 0, 1);
    unsigned first = (3 * 2 + 1) * 18 + 16;
    g_assert_cmphex(ram[0], ==, sector_byte(first));
    g_assert_cmphex(ram[1023], ==, sector_byte(first + 1));
    /* Multi-track over both heads; the count ends within a sector */
    program_dma(&f, TO_MEMORY, DATA, 18 * 512 + 100);
    ram[18 * 512 + 100] = 0;
    SEND(&f, 0xe6, 0x00, 3, 0, 1, 2, 18, 0x1b, 0xff);
    expect(&f, 0x04, 0, 0, 3, 1, 2);
    g_assert_cmphex(ram[18 * 512 + 99], ==, sector_byte(3 * 36 + 18));
    g_assert_cmphex(ram[18 * 512 + 100], ==, 0);
    /* Without an end of count: the end of the cylinder */
    program_dma(&f, TO_MEMORY, DATA, 4096);
    SEND(&f, 0x46, 0x00, 3, 0, 17, 2, 18, 0x1b, 0xff);
    expect(&f, 0x40, 0x80, 0, 3, 0, 1);
    /* Not under the head; no such sector; a size that no sector has; another rate */
    SEND(&f, 0xe6, 0x00, 4, 0, 1, 2, 18, 0x1b, 0xff);
    expect(&f, 0x40, 0x04, 0x10, 4, 0, 1);
    SEND(&f, 0xe6, 0x00, 3, 0, 19, 2, 18, 0x1b, 0xff);
    expect(&f, 0x40, 0x04, 0, 3, 0, 19);
    SEND(&f, 0xe6, 0x00, 3, 0, 1, 3, 18, 0x1b, 0xff);
    expect(&f, 0x40, 0x04, 0, 3, 0, 1);
    test_outb(f.m, 0x3f7, 2);
    SEND(&f, 0xe6, 0x00, 3, 0, 1, 2, 18, 0x1b, 0xff);
    expect(&f, 0x40, 0x01, 0, 3, 0, 1);
    SEND(&f, 0x4a, 0x00); /* READ ID */
    expect(&f, 0x40, 0x01, 0, 3, 0, 1);
    test_outb(f.m, 0x3f7, 0);
    SEND(&f, 0x4a, 0x04);
    expect(&f, 0x04, 0, 0, 3, 1, 1);
    SEND(&f, 0x56, 0x00, 3, 0, 1, 2, 18, 0x1b, 0xff); /* VERIFY */
    expect(&f, 0x00, 0, 0, 4, 0, 1);
    tear_down(&f);
}

static void test_writes(void)
{
    struct fixture f;
    set_up(&f, 720, "");
    start(&f, 2);
    uint8_t *ram = f.m->ram->host + DATA, *content;
    gsize len;

    memset(ram, 0x5a, 2048);
    program_dma(&f, FROM_MEMORY, DATA, 1000);
    SEND(&f, 0xc5, 0x00, 0, 0, 2, 2, 9, 0x1b, 0xff);
    expect(&f, 0, 0, 0, 0, 0, 4);
    /* FORMAT TRACK, two sectors of it */
    memcpy(ram, "\x00\x01\x01\x02\x00\x01\x09\x02", 8);
    program_dma(&f, FROM_MEMORY, DATA, 8);
    SEND(&f, 0x4d, 0x04, 2, 2, 0x50, 0xf6);
    expect(&f, 0x04, 0, 0, 0, 1, 9);
    g_assert_true(g_file_get_contents(f.image.path, (char **)&content, &len, NULL));
    g_assert_cmphex(content[0], ==, sector_byte(0));
    g_assert_cmphex(content[512], ==, 0x5a);
    g_assert_cmphex(content[512 + 999], ==, 0x5a);
    g_assert_cmphex(content[512 + 1000], ==, 0); /* the rest of the sector is zeros */
    g_assert_cmphex(content[1536], ==, sector_byte(3));
    g_assert_cmphex(content[9 * 512], ==, 0xf6);
    g_assert_cmphex(content[17 * 512], ==, 0xf6);
    g_assert_cmphex(content[10 * 512], ==, sector_byte(10));
    g_free(content);
    tear_down(&f);

    set_up(&f, 1440, ",readonly=on");
    start(&f, 0);
    SEND(&f, 0xc5, 0x00, 0, 0, 2, 2, 18, 0x1b, 0xff);
    expect(&f, 0x40, 0x02, 0, 0, 0, 2);
    uint8_t r;
    SEND(&f, 0x04, 0x00);
    result(&f, &r, 1);
    g_assert_cmphex(r, ==, 0x78);
    tear_down(&f);
}

static void test_fifo(void)
{
    struct fixture f;
    set_up(&f, 1440, "");
    start(&f, 0);

    SEND(&f, 0x03, 0xaf, 0x03); /* no DMA */
    SEND(&f, 0x46, 0x00, 0, 0, 18, 2, 18, 0x1b, 0xff);
    blk_drain(f.blk);
    g_assert_cmphex(msr(&f), ==, 0xf0);
    g_assert_cmpint(f.irq->level, ==, 1);
    for (unsigned i = 0; i < 512; i++) {
        g_assert_cmphex(test_inb(f.m, 0x3f5), ==, sector_byte(17));
        if (i == 100)
            test_state_roundtrip(f.fdc);
    }
    expect(&f, 0x40, 0x80, 0, 0, 0, 1);
    SEND(&f, 0x45, 0x00, 0, 0, 18, 2, 18, 0x1b, 0xff);
    g_assert_cmphex(msr(&f), ==, 0xb0);
    for (unsigned i = 0; i < 512; i++)
        test_outb(f.m, 0x3f5, 0x33);
    expect(&f, 0x40, 0x80, 0, 0, 0, 1);
    /* A reset in the middle */
    SEND(&f, 0x45, 0x00, 0, 0, 18, 2, 18, 0x1b, 0xff);
    test_outb(f.m, 0x3f5, 1);
    start(&f, 0);
    tear_down(&f);
}

static void test_change(void)
{
    struct fixture f;
    GError *err = NULL;
    set_up(&f, 1440, "");
    start(&f, 0);

    g_assert_cmphex(test_inb(f.m, 0x3f7), ==, 0x00); /* recalibrated since */
    blk_eject(f.blk);
    g_assert_cmphex(test_inb(f.m, 0x3f7), ==, 0x80);
    seek(&f, 1);
    g_assert_cmphex(test_inb(f.m, 0x3f7), ==, 0x80);
    SEND(&f, 0x4a, 0x00);
    expect(&f, 0x40, 0x01, 0, 1, 0, 1);
    g_assert_true(blk_change(f.blk, f.image.path, "raw", &err));
    g_assert_no_error(err);
    g_assert_cmphex(test_inb(f.m, 0x3f7), ==, 0x80);
    seek(&f, 1); /* no step */
    g_assert_cmphex(test_inb(f.m, 0x3f7), ==, 0x80);
    seek(&f, 0);
    g_assert_cmphex(test_inb(f.m, 0x3f7), ==, 0x00);
    tear_down(&f);
}

static void test_random(void)
{
    for (uint32_t seed = 1; seed <= 20; seed++) {
        struct fixture f;
        set_up(&f, 720, "");
        start(&f, 2);
        program_dma(&f, seed & 1 ? TO_MEMORY : FROM_MEMORY, DATA, 8192);
        test_poke_ports(f.m, f.fdc, seed, 3000, 0x3f0, 8);
        tear_down(&f);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/i82078/reset", test_reset);
    g_test_add_func("/i82078/reads", test_reads);
    g_test_add_func("/i82078/writes", test_writes);
    g_test_add_func("/i82078/fifo", test_fifo);
    g_test_add_func("/i82078/change", test_change);
    g_test_add_func("/i82078/random", test_random);
    return g_test_run();
}
