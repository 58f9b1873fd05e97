/* VGA: registers and their masks, DAC, planar memory in all modes, text screen, retrace timing, Bochs VBE, PCI BARs. */
#include "hw/display/vga.h"
#include "hw/pci/i440fx.h"
#include "tests/lib/device_test.h"

#include <string.h>

#define LFB 0xfd000000
#define MMIO 0xfebf0000

struct fixture {
    struct machine *m;
    struct device *d;
    struct pci_device *pci;
};

static void set_up(struct fixture *f)
{
    f->m = test_machine_new();
    test_add_ram(f->m, 1 << 20);
    struct device *host = test_add(&i440fx_host_type, f->m->system_bus, NULL);
    f->d = test_add(&vga_pci_type, container_of(host, struct i440fx_host, dev)->bus.bus, "addr=2", "vgamem_mb=1", NULL);
    f->pci = container_of(f->d, struct pci_device, dev);
    bus_reset(f->m->system_bus);
    pci_config_write(f->pci, 0x10, LFB, 4);
    pci_config_write(f->pci, 0x18, MMIO, 4);
    pci_config_write(f->pci, PCI_COMMAND, 3, 2);
}

static void out(struct fixture *f, unsigned port, unsigned index, uint8_t value)
{
    test_outw(f->m, port, index | value << 8);
}

static uint8_t in(struct fixture *f, unsigned port, unsigned index)
{
    test_outb(f->m, port, index);
    return test_inb(f->m, port + 1);
}

static void attribute(struct fixture *f, uint8_t index, uint8_t value)
{
    test_inb(f->m, 0x3da);
    test_outb(f->m, 0x3c0, index);
    test_outb(f->m, 0x3c0, value);
}

/* Mode 3: 80x25 text, 720x400, as the PS/2 BIOS programs it. */
static void mode3(struct fixture *f)
{
    static const uint8_t crtc[] = {0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0x00, 0x4f, 0x0d, 0x0e, 0x00,
                                   0x00, 0x00, 0x00, 0x9c, 0x8e, 0x8f, 0x28, 0x1f, 0x96, 0xb9, 0xa3, 0xff};
    static const uint8_t graphics[] = {0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x0e, 0x00, 0xff};
    static const uint8_t sequencer[] = {0x03, 0x00, 0x03, 0x00, 0x02};

    test_outb(f->m, 0x3c2, 0x67);
    for (unsigned i = 0; i < sizeof(sequencer); i++)
        out(f, 0x3c4, i, sequencer[i]);
    out(f, 0x3d4, 0x11, 0);
    for (unsigned i = 0; i < sizeof(crtc); i++)
        out(f, 0x3d4, i, crtc[i]);
    for (unsigned i = 0; i < sizeof(graphics); i++)
        out(f, 0x3ce, i, graphics[i]);
    for (unsigned i = 0; i < 16; i++)
        attribute(f, i, i);
    attribute(f, 0x10, 0x0c);
    test_outb(f->m, 0x3c0, 0x20);
}

/* 640x480 in 16 colours as far as memory is concerned: planar at 0xa0000. */
static void planar(struct fixture *f)
{
    test_outb(f->m, 0x3c2, 0xe3);
    out(f, 0x3c4, 2, 0x0f);
    out(f, 0x3c4, 4, 0x06);
    for (unsigned i = 0; i < 9; i++)
        out(f, 0x3ce, i, i == 6 ? 0x05 : i == 7 ? 0x0f : i == 8 ? 0xff : 0);
}

static void test_registers(void)
{
    struct fixture f;
    set_up(&f);

    /* Until MISC says colour, CRTC and status are at 0x3b?. */
    test_outb(f.m, 0x3d4, 0x0e);
    g_assert_cmphex(test_inb(f.m, 0x3d4), ==, 0xff);
    test_outb(f.m, 0x3b4, 0x0e);
    g_assert_cmphex(test_inb(f.m, 0x3b4), ==, 0x0e);
    test_outb(f.m, 0x3c2, 0x63);
    g_assert_cmphex(test_inb(f.m, 0x3cc), ==, 0x63);
    g_assert_cmphex(test_inb(f.m, 0x3b4), ==, 0xff);
    g_assert_cmphex(test_inb(f.m, 0x3d4), ==, 0x0e);
    for (unsigned i = 0; i < 5; i++)
        out(&f, 0x3c4, i, 0xff);
    g_assert_cmphex(in(&f, 0x3c4, 0), ==, 0x03);
    g_assert_cmphex(in(&f, 0x3c4, 1), ==, 0x3d);
    g_assert_cmphex(in(&f, 0x3c4, 2), ==, 0x0f);
    g_assert_cmphex(in(&f, 0x3c4, 4), ==, 0x0e);
    for (unsigned i = 0; i < 16; i++)
        out(&f, 0x3ce, i, 0xff);
    g_assert_cmphex(in(&f, 0x3ce, 3), ==, 0x1f);
    g_assert_cmphex(in(&f, 0x3ce, 5), ==, 0x7b);
    g_assert_cmphex(in(&f, 0x3ce, 8), ==, 0xff);
    g_assert_cmphex(in(&f, 0x3ce, 9), ==, 0x00);
    /* CRTC write protection, but for line compare bit 8. */
    out(&f, 0x3d4, 0x00, 0x5f);
    out(&f, 0x3d4, 0x07, 0x0f);
    out(&f, 0x3d4, 0x11, 0x80);
    out(&f, 0x3d4, 0x00, 0x11);
    out(&f, 0x3d4, 0x07, 0xf0);
    out(&f, 0x3d4, 0x0c, 0x22);
    g_assert_cmphex(in(&f, 0x3d4, 0x00), ==, 0x5f);
    g_assert_cmphex(in(&f, 0x3d4, 0x07), ==, 0x1f);
    g_assert_cmphex(in(&f, 0x3d4, 0x0c), ==, 0x22);
    g_assert_cmphex(in(&f, 0x3d4, 0x19), ==, 0);
    /* Attribute flip-flop, palette lock. */
    attribute(&f, 0x00, 0xff);
    test_inb(f.m, 0x3da);
    test_outb(f.m, 0x3c0, 0x00);
    g_assert_cmphex(test_inb(f.m, 0x3c1), ==, 0x3f);
    test_outb(f.m, 0x3c0, 0x12);
    attribute(&f, 0x20, 0x07);
    g_assert_cmphex(test_inb(f.m, 0x3c1), ==, 0x12);
    attribute(&f, 0x31, 0x55);
    g_assert_cmphex(test_inb(f.m, 0x3c1), ==, 0x55);
    g_assert_cmphex(test_inb(f.m, 0x3c0), ==, 0x31);
    test_outb(f.m, 0x3da, 0xff);
    g_assert_cmphex(test_inb(f.m, 0x3ca), ==, 0x10);
    test_state_roundtrip(f.d);
    test_machine_free(f.m);
}

static void test_dac(void)
{
    struct fixture f;
    set_up(&f);

    g_assert_cmphex(test_inb(f.m, 0x3c6), ==, 0xff);
    test_outb(f.m, 0x3c8, 254);
    for (unsigned i = 1; i <= 9; i++)
        test_outb(f.m, 0x3c9, 0xc0 | i);
    g_assert_cmphex(test_inb(f.m, 0x3c8), ==, 1); /* wrapped */
    g_assert_cmphex(test_inb(f.m, 0x3c7), ==, 0);
    test_outb(f.m, 0x3c7, 255);
    g_assert_cmphex(test_inb(f.m, 0x3c7), ==, 3);
    for (unsigned i = 4; i <= 9; i++)
        g_assert_cmphex(test_inb(f.m, 0x3c9), ==, i);
    /* A colour counts when its third component has come. */
    test_outb(f.m, 0x3c8, 5);
    test_outb(f.m, 0x3c9, 1);
    test_outb(f.m, 0x3c9, 2);
    test_outb(f.m, 0x3c7, 5);
    g_assert_cmphex(test_inb(f.m, 0x3c9), ==, 0);
    test_outw(f.m, 0x1ce, 4);
    test_outw(f.m, 0x1d0, 0x20);
    test_outb(f.m, 0x3c8, 5);
    for (unsigned i = 0; i < 3; i++)
        test_outb(f.m, 0x3c9, 0xf1);
    test_outb(f.m, 0x3c7, 5);
    g_assert_cmphex(test_inb(f.m, 0x3c9), ==, 0xf1);
    test_machine_free(f.m);
}

static uint8_t plane(struct fixture *f, unsigned addr, unsigned n)
{
    return test_read(f->m, LFB + addr * 4 + n, 1);
}

static void expect_planes(struct fixture *f, unsigned addr, uint32_t planes)
{
    for (unsigned n = 0; n < 4; n++)
        g_assert_cmphex(plane(f, addr, n), ==, planes >> (8 * n) & 0xff);
}

static void test_write_modes(void)
{
    struct fixture f;
    set_up(&f);
    planar(&f);

    /* Mode 0: plain, map mask, set/reset, rotate, functions, bit mask. */
    test_write(f.m, 0xa0000, 0x5a, 1);
    expect_planes(&f, 0, 0x5a5a5a5a);
    out(&f, 0x3c4, 2, 0x05);
    test_write(f.m, 0xa0000, 0x12, 1);
    expect_planes(&f, 0, 0x5a125a12);
    out(&f, 0x3c4, 2, 0x0f);
    out(&f, 0x3ce, 0, 0x09);
    out(&f, 0x3ce, 1, 0x03);
    test_write(f.m, 0xa0001, 0x81, 1);
    expect_planes(&f, 1, 0x818100ff);
    out(&f, 0x3ce, 1, 0x00);
    out(&f, 0x3ce, 3, 0x01);
    test_write(f.m, 0xa0001, 0x81, 1);
    expect_planes(&f, 1, 0xc0c0c0c0);
    out(&f, 0x3ce, 3, 0x18);
    g_assert_cmphex(test_read(f.m, 0xa0001, 1), ==, 0xc0);
    test_write(f.m, 0xa0001, 0xff, 1);
    expect_planes(&f, 1, 0x3f3f3f3f);
    out(&f, 0x3ce, 3, 0x08); /* and, with the old latches */
    test_write(f.m, 0xa0001, 0x81, 1);
    expect_planes(&f, 1, 0x80808080);
    out(&f, 0x3ce, 3, 0x10); /* or */
    test_write(f.m, 0xa0001, 0x01, 1);
    expect_planes(&f, 1, 0xc1c1c1c1);
    out(&f, 0x3ce, 3, 0x00);
    out(&f, 0x3ce, 8, 0x0f);
    test_read(f.m, 0xa0001, 1);
    test_write(f.m, 0xa0001, 0xaa, 1);
    expect_planes(&f, 1, 0xcacacaca);
    out(&f, 0x3ce, 8, 0xff);
    /* Mode 1 copies latches. */
    test_read(f.m, 0xa0000, 1);
    out(&f, 0x3ce, 5, 0x01);
    test_write(f.m, 0xa0007, 0x99, 1);
    expect_planes(&f, 7, 0x5a125a12);
    /* Mode 2: a colour, under the bit mask. */
    out(&f, 0x3ce, 5, 0x02);
    out(&f, 0x3ce, 8, 0xf0);
    test_read(f.m, 0xa0007, 1);
    test_write(f.m, 0xa0007, 0x06, 1);
    expect_planes(&f, 7, 0x0af2fa02);
    /* Mode 3: set/reset where data and mask are set. */
    out(&f, 0x3ce, 5, 0x03);
    out(&f, 0x3ce, 0, 0x01);
    test_read(f.m, 0xa0007, 1);
    test_write(f.m, 0xa0007, 0x3c, 1);
    expect_planes(&f, 7, 0x0ac2ca32);
    test_machine_free(f.m);
}

static void test_read_modes(void)
{
    struct fixture f;
    set_up(&f);
    planar(&f);

    test_write(f.m, LFB, 0x0ff0cc0f, 4);
    for (unsigned n = 0; n < 4; n++) {
        out(&f, 0x3ce, 4, n);
        g_assert_cmphex(test_read(f.m, 0xa0000, 1), ==, 0x0ff0cc0fu >> (8 * n) & 0xff);
        g_assert_cmphex(in(&f, 0x3d4, 0x22), ==, 0x0ff0cc0fu >> (8 * n) & 0xff);
    }
    out(&f, 0x3ce, 5, 0x08);
    out(&f, 0x3ce, 2, 0x03); /* planes 0 and 1 set, 2 and 3 clear */
    g_assert_cmphex(test_read(f.m, 0xa0000, 1), ==, 0x00);
    out(&f, 0x3ce, 7, 0x03); /* 2 and 3 do not matter */
    g_assert_cmphex(test_read(f.m, 0xa0000, 1), ==, 0x0c);
    out(&f, 0x3ce, 7, 0x00);
    g_assert_cmphex(test_read(f.m, 0xa0000, 1), ==, 0xff);
    test_machine_free(f.m);
}

static void test_windows(void)
{
    struct fixture f;
    set_up(&f);
    planar(&f);

    static const struct { uint8_t gr6; uint32_t base, size; } maps[] = {
        {0x01, 0xa0000, 0x20000}, {0x05, 0xa0000, 0x10000}, {0x09, 0xb0000, 0x8000}, {0x0d, 0xb8000, 0x8000}};
    for (unsigned i = 0; i < 4; i++) {
        out(&f, 0x3ce, 6, maps[i].gr6);
        test_write(f.m, maps[i].base, 0x40 + i, 1);
        expect_planes(&f, 0, 0x01010101 * (0x40 + i));
        test_write(f.m, maps[i].base + maps[i].size - 1, 0x60 + i, 1);
        expect_planes(&f, maps[i].size - 1, 0x01010101 * (0x60 + i));
        if (maps[i].base > 0xa0000)
            g_assert_cmphex(test_read(f.m, maps[i].base - 1, 1), ==, 0xff);
        if (maps[i].base + maps[i].size < 0xc0000)
            g_assert_cmphex(test_read(f.m, maps[i].base + maps[i].size, 1), ==, 0xff);
    }
    test_outb(f.m, 0x3c2, 0xe1); /* memory off */
    g_assert_cmphex(test_read(f.m, 0xb8000, 1), ==, 0xff);
    test_write(f.m, 0xb8000, 0x11, 1);
    expect_planes(&f, 0, 0x43434343);
    /* Chained: 256 colours, linear. */
    planar(&f);
    out(&f, 0x3c4, 4, 0x0e);
    test_write(f.m, 0xa0010, 0x44332211, 4);
    g_assert_cmphex(test_read(f.m, LFB + 0x10, 4), ==, 0x44332211);
    g_assert_cmphex(test_read(f.m, 0xa0010, 8) & 0xffffffff, ==, 0x44332211);
    out(&f, 0x3c4, 2, 0x02);
    test_write(f.m, 0xa0010, 0, 4);
    g_assert_cmphex(test_read(f.m, LFB + 0x10, 4), ==, 0x44330011);
    test_machine_free(f.m);
}

static void print(struct fixture *f, unsigned row, unsigned column, const char *text)
{
    for (unsigned i = 0; text[i]; i++)
        test_write(f->m, 0xb8000 + row * 160 + (column + i) * 2, 0x0700 | (uint8_t)text[i], 2);
}

static void test_text(void)
{
    struct fixture f;
    set_up(&f);

    g_assert_null(vga_text_screen(f.d));
    mode3(&f);
    g_autofree char *empty = vga_text_screen(f.d);
    g_assert_cmpuint(strlen(empty), ==, 25);
    print(&f, 0, 0, "Hello, world");
    print(&f, 1, 2, "\xc9\xcd\xbb \x81 x  ");
    print(&f, 24, 79, "!");
    g_assert_cmphex(test_read(f.m, 0xb8000, 2), ==, 0x0748);
    g_autofree char *text = vga_text_screen(f.d);
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    g_assert_cmpuint(g_strv_length(lines), ==, 26);
    g_assert_cmpstr(lines[0], ==, "Hello, world");
    g_assert_cmpstr(lines[1], ==, "  ╔═╗ ü x");
    g_assert_cmpstr(lines[2], ==, "");
    g_assert_cmpuint(strlen(lines[24]), ==, 80);
    /* A font in plane 2 does not disturb it. */
    out(&f, 0x3c4, 2, 0x04);
    out(&f, 0x3c4, 4, 0x07);
    out(&f, 0x3ce, 5, 0x00);
    out(&f, 0x3ce, 6, 0x04);
    for (unsigned i = 0; i < 8192; i++)
        test_write(f.m, 0xa0000 + i, i, 1);
    out(&f, 0x3c4, 2, 0x03);
    out(&f, 0x3c4, 4, 0x02);
    out(&f, 0x3ce, 5, 0x10);
    out(&f, 0x3ce, 6, 0x0e);
    g_autofree char *same = vga_text_screen(f.d);
    g_assert_cmpstr(same, ==, text);
    /* Scrolled by the start address. */
    out(&f, 0x3d4, 0x0d, 80);
    g_autofree char *scrolled = vga_text_screen(f.d);
    g_assert_true(g_str_has_prefix(scrolled, "  ╔═╗ ü x\n"));
    test_state_roundtrip(f.d);
    /* 40 columns, 50 rows. */
    out(&f, 0x3d4, 0x0d, 0);
    out(&f, 0x3d4, 0x11, 0);
    out(&f, 0x3d4, 0x01, 39);
    out(&f, 0x3d4, 0x09, 0x47);
    g_autofree char *small = vga_text_screen(f.d);
    g_auto(GStrv) rows = g_strsplit(small, "\n", -1);
    g_assert_cmpuint(g_strv_length(rows), ==, 51);
    out(&f, 0x3c4, 1, 0x20);
    g_assert_null(vga_text_screen(f.d));
    out(&f, 0x3c4, 1, 0x00);
    out(&f, 0x3ce, 6, 0x0f);
    g_assert_null(vga_text_screen(f.d));
    bus_reset(f.m->system_bus);
    g_assert_null(vga_text_screen(f.d));
    test_machine_free(f.m);
}

static void test_retrace(void)
{
    struct fixture f;
    set_up(&f);
    mode3(&f);
    unsigned retraces = 0, blank = 0, in_retrace = 0, n = 100000;
    bool was = true;

    /* One second in steps of 10 us: 70 frames of 449 lines, 2 of them retrace, 400 shown. */
    for (unsigned i = 0; i < n; i++) {
        uint8_t status = test_inb(f.m, 0x3da);
        bool now = status & 8;
        retraces += now && !was;
        in_retrace += now;
        blank += status & 1;
        was = now;
        test_step(f.m, NS_PER_SECOND / n);
    }
    g_assert_cmpuint(retraces, >=, 69);
    g_assert_cmpuint(retraces, <=, 71);
    g_assert_cmpfloat(in_retrace, >, n * 2 / 449 * 0.8);
    g_assert_cmpfloat(in_retrace, <, n * 2 / 449 * 1.2);
    g_assert_cmpfloat(blank, >, n * 0.27); /* 1 - 400/449 * 720/900 */
    g_assert_cmpfloat(blank, <, n * 0.31);
    test_machine_free(f.m);
}

static uint16_t vbe_read(struct fixture *f, uint16_t index)
{
    test_outw(f->m, 0x1ce, index);
    return test_inw(f->m, 0x1d0);
}

static void vbe_write(struct fixture *f, uint16_t index, uint16_t value)
{
    test_outw(f->m, 0x1ce, index);
    test_outw(f->m, 0x1cf, value);
}

static void vbe_mode(struct fixture *f, uint16_t x, uint16_t y, uint16_t bpp, uint16_t flags)
{
    vbe_write(f, 4, 0);
    vbe_write(f, 1, x);
    vbe_write(f, 2, y);
    vbe_write(f, 3, bpp);
    vbe_write(f, 4, 1 | flags);
}

static void test_vbe(void)
{
    struct fixture f;
    set_up(&f);
    planar(&f);

    g_assert_cmphex(vbe_read(&f, 0), ==, 0xb0c5);
    vbe_write(&f, 0, 0xb0c4);
    g_assert_cmphex(vbe_read(&f, 0), ==, 0xb0c4);
    vbe_write(&f, 0, 0xb0c6);
    g_assert_cmphex(vbe_read(&f, 0), ==, 0xb0c4);
    g_assert_cmphex(vbe_read(&f, 10), ==, 16); /* 1 MiB here */
    vbe_write(&f, 4, 2);
    g_assert_cmpuint(vbe_read(&f, 1), ==, 16000);
    g_assert_cmpuint(vbe_read(&f, 3), ==, 32);
    test_write(f.m, LFB, 0x12345678, 4);
    vbe_mode(&f, 640, 400, 16, 0x40 | 0x80);
    g_assert_cmphex(test_read(f.m, LFB, 4), ==, 0x12345678);
    vbe_mode(&f, 640, 400, 16, 0x40);
    g_assert_cmphex(test_read(f.m, LFB, 4), ==, 0);
    g_assert_cmpuint(vbe_read(&f, 6), ==, 640);
    g_assert_cmpuint(vbe_read(&f, 7), ==, (1 << 20) / 1280);
    g_assert_null(vga_text_screen(f.d));
    /* Banked access. */
    vbe_write(&f, 5, 3);
    test_write(f.m, 0xa0004, 0xcafe, 2);
    g_assert_cmphex(test_read(f.m, LFB + 0x30004, 2), ==, 0xcafe);
    vbe_write(&f, 5, 16);
    g_assert_cmpuint(vbe_read(&f, 5), ==, 3);
    /* What does not fit is cut down. */
    vbe_write(&f, 6, 1000);
    g_assert_cmpuint(vbe_read(&f, 6), ==, 1000);
    vbe_write(&f, 8, 500);
    g_assert_cmpuint(vbe_read(&f, 8), ==, 360);
    vbe_write(&f, 9, 500);
    g_assert_cmpuint(vbe_read(&f, 9), ==, (1 << 20) / 2000 - 400);
    vbe_mode(&f, 1024, 768, 32, 0x40);
    g_assert_cmpuint(vbe_read(&f, 1), ==, 1024);
    g_assert_cmpuint(vbe_read(&f, 2), ==, 256);
    vbe_mode(&f, 0, 0, 7, 0x40);
    g_assert_cmpuint(vbe_read(&f, 1), ==, 8);
    g_assert_cmpuint(vbe_read(&f, 2), ==, 1);
    g_assert_cmpuint(vbe_read(&f, 3), ==, 8);
    vbe_mode(&f, 0xffff, 0xffff, 32, 0x40);
    test_state_roundtrip(f.d);
    /* BAR 2. */
    g_assert_cmphex(test_read(f.m, MMIO + 0x500, 2), ==, 0xb0c4);
    g_assert_cmphex(test_read(f.m, MMIO + 0x504, 4), ==, vbe_read(&f, 2) | 32u << 16);
    test_write(f.m, MMIO + 0x508, 0, 2);
    g_assert_cmphex(vbe_read(&f, 4), ==, 0);
    g_assert_cmphex(test_read(f.m, MMIO + 0x600, 4), ==, 8);
    g_assert_cmphex(test_read(f.m, MMIO + 0x604, 4), ==, 0x1e1e1e1e);
    test_write(f.m, MMIO + 0x402, 0x67, 1);
    g_assert_cmphex(test_inb(f.m, 0x3cc), ==, 0x67);
    g_assert_cmphex(test_read(f.m, MMIO + 0x40c, 1), ==, 0x67);
    test_write(f.m, MMIO + 0x414, 0x3c0e, 2);
    g_assert_cmphex(in(&f, 0x3d4, 0x0e), ==, 0x3c);
    test_machine_free(f.m);
}

static void test_rom_and_ids(void)
{
    struct fixture f;
    set_up(&f);

    g_assert_cmphex(pci_config_read(f.pci, 0, 4), ==, 0x11111234);
    g_assert_cmphex(pci_config_read(f.pci, 8, 4) >> 8, ==, 0x030000);
    g_assert_cmphex(pci_config_read(f.pci, 0x2c, 4), ==, 0x11001af4);
    pci_config_write(f.pci, 0x10, 0xffffffff, 4);
    g_assert_cmphex(pci_config_read(f.pci, 0x10, 4), ==, 0xfff00008);
    pci_config_write(f.pci, 0x30, 0xfe000001, 4);
    g_assert_cmphex(test_read(f.m, 0xfe000000, 2), ==, 0xaa55);
    test_machine_free(f.m);
}

static void test_fuzz(void)
{
    struct fixture f;
    set_up(&f);
    for (unsigned i = 0; i < 10; i++) {
        test_poke_ports(f.m, f.d, 300 + i, 2000, 0x3b0, 0x30);
        test_poke_ports(f.m, f.d, 400 + i, 500, 0x1ce, 4);
        test_poke_memory(f.m, f.d, 500 + i, 2000, 0xa0000, 0x20000);
        test_poke_memory(f.m, f.d, 600 + i, 500, MMIO, 0x1000);
        g_free(vga_text_screen(f.d));
    }
    test_machine_free(f.m);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/vga/registers", test_registers);
    g_test_add_func("/vga/dac", test_dac);
    g_test_add_func("/vga/write_modes", test_write_modes);
    g_test_add_func("/vga/read_modes", test_read_modes);
    g_test_add_func("/vga/windows", test_windows);
    g_test_add_func("/vga/text", test_text);
    g_test_add_func("/vga/retrace", test_retrace);
    g_test_add_func("/vga/vbe", test_vbe);
    g_test_add_func("/vga/rom_and_ids", test_rom_and_ids);
    g_test_add_func("/vga/fuzz", test_fuzz);
    return g_test_run();
}
