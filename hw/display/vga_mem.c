/*
 * VGA memory at 0xa0000 as a processor sees it: four planes with latches, write modes 0 to 3, read modes 0 and 1,
 * odd/even and chained addressing (IBM PS/2 Hardware Interface Technical Reference, "Graphics Controller").
 *
 * All under the VM lock.
 */
#include "hw/display/vga_int.h"

#include "hw/core/ram_access.h"

#define NOWHERE UINT64_MAX

/* Address in video memory of an offset in the window, as the memory map field of GR6 and the bank say. */
static uint64_t window_address(const struct vga *s, uint64_t offset)
{
    uint64_t bank = vga_vbe_enabled(s) ? (uint64_t)s->vbe[VBE_BANK] << 16 : 0;

    if (!(s->misc & VGA_MISC_RAM))
        return NOWHERE;
    switch (s->gr[VGA_GR_MISC] >> 2 & 3) {
    case 0: return offset + bank;
    case 1: return offset < 0x10000 ? offset + bank : NOWHERE;
    case 2: return offset >= 0x10000 && offset < 0x18000 ? offset - 0x10000 : NOWHERE;
    default: return offset >= 0x18000 ? offset - 0x18000 : NOWHERE;
    }
}

static bool chained(const struct vga *s)
{
    return s->sr[VGA_SR_MEMORY_MODE] & VGA_SR4_CHAIN4;
}

static bool odd_even(const struct vga *s)
{
    return s->gr[VGA_GR_MODE] & VGA_GR5_ODD_EVEN;
}

/* --- Reading ------------------------------------------------------------------------------------------------------ */

/* A bit is set where all planes that count have the compare colour. */
static uint8_t color_compare(const struct vga *s)
{
    uint8_t differ = 0;

    for (unsigned plane = 0; plane < 4; plane++) {
        uint8_t want = s->gr[VGA_GR_COLOR_COMPARE] >> plane & 1 ? 0xff : 0;
        if (s->gr[VGA_GR_COLOR_DONT_CARE] >> plane & 1)
            differ |= s->latch[plane] ^ want;
    }
    return ~differ;
}

static uint64_t window_read(void *opaque, uint64_t offset, unsigned size)
{
    struct vga *s = opaque;
    uint64_t addr = window_address(s, offset);
    const uint8_t *vram = s->vram->host;

    if (addr == NOWHERE)
        return 0xff;
    if (chained(s))
        return addr < s->vram->size ? ram_load8(vram + addr) : 0xff;
    if (odd_even(s)) {
        addr = (addr & ~UINT64_C(1)) << 1 | (s->gr[VGA_GR_READ_MAP] & 2) | (addr & 1);
        return addr < s->vram->size ? ram_load8(vram + addr) : 0xff;
    }
    if (addr * 4 >= s->vram->size)
        return 0xff;
    ram_copy(s->latch, vram + addr * 4, 4);
    return s->gr[VGA_GR_MODE] & 0x08 ? color_compare(s) : s->latch[s->gr[VGA_GR_READ_MAP]];
}

/* --- Writing ------------------------------------------------------------------------------------------------------ */

static uint8_t rotated(const struct vga *s, uint8_t value)
{
    unsigned by = s->gr[VGA_GR_ROTATE] & 7;
    return value >> by | value << (8 - by);
}

static uint8_t combined(const struct vga *s, uint8_t value, uint8_t latch)
{
    switch (s->gr[VGA_GR_ROTATE] >> 3) {
    case 1: return value & latch;
    case 2: return value | latch;
    case 3: return value ^ latch;
    default: return value;
    }
}

static uint8_t plane_bits(uint8_t planes, unsigned plane)
{
    return planes >> plane & 1 ? 0xff : 0;
}

/* What a write puts into one plane. */
static uint8_t plane_value(const struct vga *s, unsigned plane, uint8_t value)
{
    uint8_t latch = s->latch[plane], mask = s->gr[VGA_GR_BIT_MASK], v;

    switch (s->gr[VGA_GR_MODE] & 3) {
    case 0:
        v = s->gr[VGA_GR_ENABLE_SET_RESET] >> plane & 1 ? plane_bits(s->gr[VGA_GR_SET_RESET], plane)
                                                        : rotated(s, value);
        break;
    case 1: return latch;
    case 2: v = plane_bits(value, plane); break;
    default:
        mask &= rotated(s, value);
        v = plane_bits(s->gr[VGA_GR_SET_RESET], plane);
        break;
    }
    return (combined(s, v, latch) & mask) | (latch & ~mask);
}

static void store(struct vga *s, uint64_t addr, uint8_t value)
{
    ram_store8(s->vram->host + addr, value);
    ram_note_write(s->vram, addr, 1);
}

static void planar_write(struct vga *s, uint64_t addr, uint8_t value)
{
    if (addr * 4 >= s->vram->size)
        return;
    for (unsigned plane = 0; plane < 4; plane++) {
        if (s->sr[VGA_SR_MAP_MASK] >> plane & 1)
            store(s, addr * 4 + plane, plane_value(s, plane, value));
    }
}

static void window_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct vga *s = opaque;
    uint64_t addr = window_address(s, offset);
    unsigned plane;

    if (addr == NOWHERE)
        return;
    if (chained(s)) {
        plane = addr & 3;
    } else if (odd_even(s)) {
        plane = (s->gr[VGA_GR_READ_MAP] & 2) | (addr & 1);
        addr = (addr & ~UINT64_C(1)) << 1 | plane;
    } else {
        planar_write(s, addr, value);
        return;
    }
    if ((s->sr[VGA_SR_MAP_MASK] >> plane & 1) && addr < s->vram->size)
        store(s, addr, value);
}

const struct mem_ops vga_window_ops = {
    .read = window_read,
    .write = window_write,
    .valid = {1, 8, true},
    .impl = {1, 1, false},
};
