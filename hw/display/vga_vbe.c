/*
 * The "dispi" registers of Bochs's VBE extension (its vbe_display_api.txt), at ports 0x1ce-0x1d0 and in PCI BAR 2.
 *
 * A mode that does not fit is not refused but cut down to one that does, as QEMU does: the guest reads back what it
 * got. Enabling a mode also sets the VGA registers that later drawing looks at. All under the VM lock.
 */
#include "hw/display/vga_int.h"

#include "hw/core/ram_access.h"

#include <string.h>

#define VBE_ID_FIRST 0xb0c0
#define VBE_ID_LAST 0xb0c5
#define VBE_MAX_XRES 16000
#define VBE_MAX_YRES 12000
#define VBE_MAX_BPP 32

static unsigned bits(const struct vga *s)
{
    return (s->vbe[VBE_BPP] + 7) & ~7u; /* 15 takes 16 */
}

static uint64_t line_length(const struct vga *s)
{
    uint64_t width = s->vbe[VBE_VIRT_WIDTH];
    return s->vbe[VBE_BPP] == 4 ? width / 2 : width * bits(s) / 8;
}

static bool bpp_known(uint16_t bpp)
{
    return bpp == 4 || bpp == 8 || bpp == 15 || bpp == 16 || bpp == 24 || bpp == 32;
}

/* Makes the registers agree with each other and with the memory there is. */
static void fix_up(struct vga *s)
{
    uint16_t *r = s->vbe;
    uint64_t line, lines;

    if (!bpp_known(r[VBE_BPP]))
        r[VBE_BPP] = 8;
    r[VBE_XRES] = CLAMP(r[VBE_XRES] & ~7u, 8, VBE_MAX_XRES);
    r[VBE_VIRT_WIDTH] = CLAMP(r[VBE_VIRT_WIDTH] & ~7u, r[VBE_XRES], VBE_MAX_XRES);
    r[VBE_YRES] = CLAMP(r[VBE_YRES], 1, VBE_MAX_YRES);
    line = line_length(s); /* 64000 at most: the smallest memory has 1 MiB */
    lines = MIN(s->vram->size / line, 0xffff);
    r[VBE_YRES] = MIN(r[VBE_YRES], lines);
    r[VBE_VIRT_HEIGHT] = lines;
    r[VBE_X_OFFSET] = MIN(r[VBE_X_OFFSET], r[VBE_VIRT_WIDTH] - r[VBE_XRES]);
    r[VBE_Y_OFFSET] = MIN(r[VBE_Y_OFFSET], lines - r[VBE_YRES]);
}

/* The VGA side of a VBE mode, for guests and drawing code that look there. */
static void set_vga_registers(struct vga *s)
{
    unsigned last_line = s->vbe[VBE_YRES] - 1;
    bool planar = s->vbe[VBE_BPP] == 4;

    s->gr[VGA_GR_MISC] = (s->gr[VGA_GR_MISC] & ~0x0c) | 0x04 | VGA_GR6_GRAPHICS;
    s->cr[VGA_CR_MODE] |= 3; /* no CGA interlacing of banks */
    s->cr[VGA_CR_OFFSET] = line_length(s) >> 3;
    s->cr[VGA_CR_H_DISPLAY_END] = (s->vbe[VBE_XRES] >> 3) - 1;
    s->cr[VGA_CR_V_DISPLAY_END] = last_line;
    s->cr[VGA_CR_OVERFLOW] = (s->cr[VGA_CR_OVERFLOW] & ~0x42) | (last_line >> 7 & 0x02) | (last_line >> 3 & 0x40);
    s->cr[VGA_CR_LINE_COMPARE] = 0xff;
    s->cr[VGA_CR_OVERFLOW] |= 0x10;
    s->cr[VGA_CR_MAX_SCAN] = (s->cr[VGA_CR_MAX_SCAN] & ~0x9f) | 0x40;
    if (planar) {
        s->sr[VGA_SR_MEMORY_MODE] &= ~VGA_SR4_CHAIN4;
        s->sr[VGA_SR_CLOCKING] &= ~VGA_SR1_HALF_CLOCK;
    } else {
        s->sr[VGA_SR_MEMORY_MODE] |= VGA_SR4_CHAIN4;
        s->sr[VGA_SR_MAP_MASK] = 0x0f;
    }
    s->gr[VGA_GR_MODE] = (s->gr[VGA_GR_MODE] & ~0x60) | (planar ? 0x00 : 0x40);
}

static void clear_memory(struct vga *s)
{
    uint64_t size = MIN(s->vbe[VBE_YRES] * line_length(s) * (s->vbe[VBE_BPP] == 4 ? 4 : 1), s->vram->size);

    ram_fill(s->vram->host, 0, size);
    ram_note_write(s->vram, 0, size);
}

static void set_enable(struct vga *s, uint16_t value)
{
    bool was_enabled = vga_vbe_enabled(s);

    if ((value & VBE_ENABLED) && !was_enabled) {
        s->vbe[VBE_VIRT_WIDTH] = s->vbe[VBE_X_OFFSET] = s->vbe[VBE_Y_OFFSET] = 0;
        fix_up(s);
        set_vga_registers(s);
        if (!(value & VBE_NO_CLEAR))
            clear_memory(s);
    } else if (!(value & VBE_ENABLED)) {
        s->vbe[VBE_BANK] = 0;
    }
    s->vbe[VBE_ENABLE] = value;
}

void vga_vbe_write(struct vga *s, unsigned index, uint16_t value)
{
    switch (index) {
    case VBE_ID:
        if (value >= VBE_ID_FIRST && value <= VBE_ID_LAST)
            s->vbe[VBE_ID] = value;
        break;
    case VBE_XRES:
    case VBE_YRES:
    case VBE_BPP:
    case VBE_VIRT_WIDTH:
    case VBE_X_OFFSET:
    case VBE_Y_OFFSET:
        s->vbe[index] = value;
        if (vga_vbe_enabled(s)) {
            fix_up(s);
            set_vga_registers(s);
        }
        break;
    case VBE_BANK:
        if ((uint64_t)value << 16 < s->vram->size)
            s->vbe[VBE_BANK] = value;
        break;
    case VBE_ENABLE: set_enable(s, value); break;
    default: break;
    }
}

uint16_t vga_vbe_read(struct vga *s, unsigned index)
{
    if (s->vbe[VBE_ENABLE] & VBE_GETCAPS) {
        switch (index) {
        case VBE_XRES: return VBE_MAX_XRES;
        case VBE_YRES: return VBE_MAX_YRES;
        case VBE_BPP: return VBE_MAX_BPP;
        default: break;
        }
    }
    if (index == VBE_VIDEO_MEMORY_64K)
        return s->vram->size >> 16;
    return index < VBE_COUNT ? s->vbe[index] : 0;
}

void vga_vbe_reset(struct vga *s)
{
    memset(s->vbe, 0, sizeof(s->vbe));
    s->vbe[VBE_ID] = VBE_ID_LAST;
    s->vbe_index = 0;
}

bool vga_vbe_valid(const struct vga *s)
{
    struct vga fixed = *s;

    if ((uint64_t)s->vbe[VBE_BANK] << 16 >= s->vram->size)
        return false;
    if (!vga_vbe_enabled(s))
        return true;
    fix_up(&fixed);
    return memcmp(fixed.vbe, s->vbe, sizeof(s->vbe)) == 0;
}

/* --- Ports: a word each, the index at 0x1ce, the data at 0x1cf and, aligned, at 0x1d0 ----------------------------- */

static uint64_t vbe_ports_read(void *opaque, uint64_t offset, unsigned size)
{
    struct vga *s = opaque;

    if (offset == 0)
        return s->vbe_index;
    return offset < 3 ? vga_vbe_read(s, s->vbe_index) : 0xffff;
}

static void vbe_ports_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct vga *s = opaque;

    if (offset == 0)
        s->vbe_index = value;
    else if (offset < 3)
        vga_vbe_write(s, s->vbe_index, value);
}

const struct mem_ops vga_vbe_ports_ops = {
    .read = vbe_ports_read,
    .write = vbe_ports_write,
    .valid = {1, 2, true},
    .impl = {1, 2, true},
};
