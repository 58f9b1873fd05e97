/*
 * Programs the VGA for text mode 3 through its ports, with the register values of the IBM VGA's BIOS (Ferraro,
 * Programmer's Guide to the EGA, VGA, and Super VGA Cards, chapter 10).
 *
 * The font is taken from the VGA BIOS that the distribution installs: it is data, its place is found by the shape of
 * two glyphs. VM lock.
 */
#include "hw/pc/text_mode.h"

#include "hw/core/firmware.h"
#include "hw/core/machine.h"

#include <string.h>

enum {
    ATTRIBUTE = 0x3c0,
    MISC = 0x3c2,
    SEQUENCER = 0x3c4,
    DAC_MASK = 0x3c6,
    DAC_INDEX = 0x3c8,
    DAC_DATA = 0x3c9,
    GRAPHICS = 0x3ce,
    CRTC = 0x3d4,
    INPUT_STATUS = 0x3da,
};

static const uint8_t sequencer[5] = { 0x03, 0x00, 0x03, 0x00, 0x02 };
static const uint8_t crtc[25] = {
    0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0x00, 0x4f, 0x0d, 0x0e, 0x00,
    0x00, 0x00, 0x00, 0x9c, 0x8e, 0x8f, 0x28, 0x1f, 0x96, 0xb9, 0xa3, 0xff,
};
static const uint8_t attribute[21] = {
    0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x14, 0x07, 0x38, 0x39, 0x3a,
    0x3b, 0x3c, 0x3d, 0x3e, 0x3f, 0x0c, 0x00, 0x0f, 0x08, 0x00,
};
static const uint8_t graphics[9] = { 0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x0e, 0x00, 0xff };

static void out8(struct machine *m, uint16_t port, uint8_t value)
{
    address_space_store(&m->ports, port, value, 1);
}

static void out_indexed(struct machine *m, uint16_t port, uint8_t index, uint8_t value)
{
    out8(m, port, index);
    out8(m, port + 1, value);
}

uint8_t *text_mode_find_font(void)
{
    /* Glyphs 0 (blank) and 1 (a face) of the 8x16 font of every PC. */
    static const uint8_t start[32] = {
        [18] = 0x7e, 0x81, 0xa5, 0x81, 0x81, 0xbd, 0x99, 0x81, 0x81, 0x7e,
    };
    size_t size;
    g_autofree uint8_t *rom = firmware_load("vgabios-stdvga.bin", 1 << 20, &size, NULL);
    for (size_t at = 0; rom && at + TEXT_MODE_FONT_SIZE <= size; at++)
        if (memcmp(rom + at, start, sizeof start) == 0)
            return g_memdup2(rom + at, TEXT_MODE_FONT_SIZE);
    return NULL;
}

/* Into plane 2, which shows at 0xa0000 while the sequencer and the graphics controller address it alone. */
static void load_font(struct machine *m, const uint8_t *font)
{
    out_indexed(m, SEQUENCER, 2, 4);
    out_indexed(m, SEQUENCER, 4, 7);
    out_indexed(m, GRAPHICS, 4, 2);
    out_indexed(m, GRAPHICS, 5, 0);
    out_indexed(m, GRAPHICS, 6, 4);
    for (unsigned glyph = 0; glyph < 256; glyph++)
        for (unsigned row = 0; row < 16; row++)
            address_space_store(&m->memory, 0xa0000 + 32 * glyph + row, font[16 * glyph + row], 1);
}

/* The EGA's 64 colours: two bits each of red, green and blue. */
static void load_palette(struct machine *m)
{
    static const uint8_t level[4] = { 0x00, 0x15, 0x2a, 0x3f };
    out8(m, DAC_MASK, 0xff);
    out8(m, DAC_INDEX, 0);
    for (unsigned i = 0; i < 64; i++) {
        for (int bit = 2; bit >= 0; bit--)
            out8(m, DAC_DATA, level[(i >> bit & 1) << 1 | (i >> (bit + 3) & 1)]);
    }
}

void text_mode_set(struct machine *m, const uint8_t *font)
{
    out8(m, MISC, 0x67);
    if (font)
        load_font(m, font);
    out_indexed(m, SEQUENCER, 0, 1);
    for (unsigned i = 1; i < sizeof sequencer; i++)
        out_indexed(m, SEQUENCER, i, sequencer[i]);
    out_indexed(m, SEQUENCER, 0, sequencer[0]);
    out_indexed(m, CRTC, 0x11, 0); /* unlocks registers 0-7 */
    for (unsigned i = 0; i < sizeof crtc; i++)
        out_indexed(m, CRTC, i, crtc[i]);
    for (unsigned i = 0; i < sizeof graphics; i++)
        out_indexed(m, GRAPHICS, i, graphics[i]);
    address_space_load(&m->ports, INPUT_STATUS, 1); /* the attribute port takes an index next */
    for (unsigned i = 0; i < sizeof attribute; i++) {
        out8(m, ATTRIBUTE, i);
        out8(m, ATTRIBUTE, attribute[i]);
    }
    out8(m, ATTRIBUTE, 0x20); /* the palette belongs to the display again */
    load_palette(m);
    for (unsigned i = 0; i < 0x4000; i++)
        address_space_store(&m->memory, 0xb8000 + 2 * i, 0x0720, 2);
}
