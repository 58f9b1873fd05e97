/*
 * VGA registers (IBM PS/2 Hardware Interface Technical Reference, "Video Subsystem", 1992): sequencer, CRT, graphics
 * and attribute controllers, DAC, status with the timing of the mode that is programmed.
 *
 * Not modelled: the vertical retrace interrupt, which PCI boards do not connect, light pen, and the attribute
 * controller's diagnostic outputs. Drawing comes with the display; vga_text.c reads text screens.
 * All under the VM lock.
 */
#include "hw/display/vga_int.h"

#include "hw/core/clock.h"
#include "hw/core/machine.h"

#include <string.h>

#define STATUS1_BLANK 0x01   /* no pixels now: horizontal or vertical blanking */
#define STATUS1_RETRACE 0x08 /* vertical */

#define DAC_WRITING 0
#define DAC_READING 3

static const uint8_t sr_mask[VGA_SR_COUNT] = {0x03, 0x3d, 0x0f, 0x3f, 0x0e, 0x00, 0x00, 0xff};
static const uint8_t gr_mask[VGA_GR_COUNT] = {0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff};
static const uint8_t ar_mask[VGA_AR_COUNT] = {0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f,
                                              0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0xef, 0xff, 0x3f, 0x0f, 0x0f};

/* --- Input status 1 ----------------------------------------------------------------------------------------------- */

static uint64_t dot_clock(const struct vga *s)
{
    uint64_t hz = (s->misc & VGA_MISC_CLOCK) == 0x04 ? 28322000 : 25175000;
    return s->sr[VGA_SR_CLOCKING] & VGA_SR1_HALF_CLOCK ? hz / 2 : hz;
}

/* Where the beam is, from the time. Guests wait for its retrace, and some measure it. */
static uint8_t beam_status(const struct vga *s)
{
    unsigned dots = s->sr[VGA_SR_CLOCKING] & VGA_SR1_8_DOTS ? 8 : 9;
    unsigned width = (s->cr[VGA_CR_H_TOTAL] + 5) * dots, shown = (s->cr[VGA_CR_H_DISPLAY_END] + 1) * dots;
    unsigned height = vga_v_total(s), start = vga_v_sync_start(s), length;
    uint64_t at = clock_ticks(clock_now(s->dev->machine->clock), dot_clock(s)) % ((uint64_t)width * height);
    unsigned line = at / width, column = at % width;
    uint8_t status = 0;

    /* The end is given by its low four bits. */
    length = (s->cr[VGA_CR_V_SYNC_END] - start) & 0x0f;
    if (line >= start && line < start + (length ? length : 16))
        status |= STATUS1_RETRACE;
    if (line >= vga_v_display_end(s) || column >= shown)
        status |= STATUS1_BLANK;
    return status;
}

/* --- Attribute controller and DAC --------------------------------------------------------------------------------- */

static void attribute_write(struct vga *s, uint8_t value)
{
    unsigned index = s->ar_index & 0x1f;
    bool locked = index < 16 && (s->ar_index & VGA_AR_INDEX_PAS); /* the palette, while the screen shows it */

    if (!s->ar_data)
        s->ar_index = value & 0x3f;
    else if (index < VGA_AR_COUNT && !locked)
        s->ar[index] = value & ar_mask[index];
    s->ar_data = !s->ar_data;
}

static uint8_t attribute_read(const struct vga *s)
{
    unsigned index = s->ar_index & 0x1f;
    return index < VGA_AR_COUNT ? s->ar[index] : 0;
}

static void dac_write(struct vga *s, uint8_t value)
{
    s->dac_latch[s->dac_component++] = s->vbe[VBE_ENABLE] & VBE_8BIT_DAC ? value : value & 0x3f;
    if (s->dac_component < 3)
        return;
    memcpy(&s->palette[s->dac_write_index * 3], s->dac_latch, 3);
    s->dac_component = 0;
    s->dac_write_index++;
}

static uint8_t dac_read(struct vga *s)
{
    uint8_t value = s->palette[s->dac_read_index * 3 + s->dac_component];

    if (++s->dac_component == 3) {
        s->dac_component = 0;
        s->dac_read_index++;
    }
    return value;
}

static void dac_start(struct vga *s, uint8_t *index, uint8_t value, uint8_t state)
{
    *index = value;
    s->dac_component = 0;
    s->dac_state = state;
}

/* --- CRT controller ----------------------------------------------------------------------------------------------- */

static void crtc_write(struct vga *s, uint8_t value)
{
    unsigned index = s->cr_index;

    if (index >= VGA_CR_COUNT)
        return;
    if (index <= VGA_CR_OVERFLOW && (s->cr[VGA_CR_V_SYNC_END] & VGA_CR11_PROTECT)) {
        /* Of the protected ones only bit 8 of the line compare may change. */
        if (index == VGA_CR_OVERFLOW)
            s->cr[index] = (s->cr[index] & ~0x10) | (value & 0x10);
        return;
    }
    s->cr[index] = value;
}

static uint8_t crtc_read(const struct vga *s)
{
    switch (s->cr_index) {
    case 0x22: return s->latch[s->gr[VGA_GR_READ_MAP]];
    case 0x24: return s->ar_data ? 0x80 : 0;
    default: return s->cr_index < VGA_CR_COUNT ? s->cr[s->cr_index] : 0;
    }
}

/* --- Ports -------------------------------------------------------------------------------------------------------- */

/* CRTC and status are at 0x3b? or 0x3d?; the other place is silent. */
static bool wrong_place(const struct vga *s, unsigned port)
{
    return s->misc & VGA_MISC_COLOR ? port < 0x3c0 : port >= 0x3d0;
}

uint8_t vga_port_read(struct vga *s, unsigned port)
{
    if (wrong_place(s, port))
        return 0xff;
    switch (port) {
    case 0x3c0: return s->ar_data ? 0 : s->ar_index;
    case 0x3c1: return attribute_read(s);
    case 0x3c2: return 0; /* status 0: no retrace interrupt, nothing sensed */
    case 0x3c3: return s->enabled;
    case 0x3c4: return s->sr_index;
    case 0x3c5: return s->sr[s->sr_index];
    case 0x3c6: return s->pel_mask;
    case 0x3c7: return s->dac_state;
    case 0x3c8: return s->dac_write_index;
    case 0x3c9: return dac_read(s);
    case 0x3ca: return s->feature;
    case 0x3cc: return s->misc;
    case 0x3ce: return s->gr_index;
    case 0x3cf: return s->gr_index < VGA_GR_COUNT ? s->gr[s->gr_index] : 0;
    case 0x3b4:
    case 0x3d4: return s->cr_index;
    case 0x3b5:
    case 0x3d5: return crtc_read(s);
    case 0x3ba:
    case 0x3da: s->ar_data = false; return beam_status(s);
    default: return 0xff;
    }
}

void vga_port_write(struct vga *s, unsigned port, uint8_t value)
{
    if (wrong_place(s, port))
        return;
    switch (port) {
    case 0x3c0: attribute_write(s, value); break;
    case 0x3c2: s->misc = value & ~0x10; break;
    case 0x3c3: s->enabled = value & 0x01; break;
    case 0x3c4: s->sr_index = value & (VGA_SR_COUNT - 1); break;
    case 0x3c5: s->sr[s->sr_index] = value & sr_mask[s->sr_index]; break;
    case 0x3c6: s->pel_mask = value; break;
    case 0x3c7: dac_start(s, &s->dac_read_index, value, DAC_READING); break;
    case 0x3c8: dac_start(s, &s->dac_write_index, value, DAC_WRITING); break;
    case 0x3c9: dac_write(s, value); break;
    case 0x3ce: s->gr_index = value & 0x0f; break;
    case 0x3cf:
        if (s->gr_index < VGA_GR_COUNT)
            s->gr[s->gr_index] = value & gr_mask[s->gr_index];
        break;
    case 0x3b4:
    case 0x3d4: s->cr_index = value; break;
    case 0x3b5:
    case 0x3d5: crtc_write(s, value); break;
    case 0x3ba:
    case 0x3da: s->feature = value & 0x10; break;
    default: break;
    }
}

static uint64_t ports_read(void *opaque, uint64_t offset, unsigned size)
{
    return vga_port_read(opaque, 0x3b0 + offset);
}

static void ports_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    vga_port_write(opaque, 0x3b0 + offset, value);
}

static const struct mem_ops ports_ops = {
    .read = ports_read,
    .write = ports_write,
    .valid = {1, 4, true},
    .impl = {1, 1, false},
};

/* --- Life --------------------------------------------------------------------------------------------------------- */

void vga_init(struct vga *s, struct device *dev, struct mem_region *memory, struct ram_block *vram)
{
    struct mem_region *root = &dev->machine->port_root;

    s->dev = dev;
    s->vram = vram;
    mem_init_io(&s->ports, dev, &ports_ops, s, "vga", 0x30);
    mem_init_io(&s->vbe_ports, dev, &vga_vbe_ports_ops, s, "vbe", 4);
    mem_init_io(&s->window, dev, &vga_window_ops, s, "vga-lowmem", 0x20000);
    mem_map(root, 0x3b0, &s->ports, 0);
    mem_map(root, 0x1ce, &s->vbe_ports, 0);
    mem_map(memory, 0xa0000, &s->window, 1);
}

void vga_fini(struct vga *s)
{
    mem_fini(&s->ports);
    mem_fini(&s->vbe_ports);
    mem_fini(&s->window);
}

void vga_reset(struct vga *s)
{
    s->sr_index = s->gr_index = s->cr_index = s->ar_index = 0;
    memset(s->sr, 0, sizeof(s->sr));
    memset(s->gr, 0, sizeof(s->gr));
    memset(s->cr, 0, sizeof(s->cr));
    memset(s->ar, 0, sizeof(s->ar));
    s->ar_data = false;
    s->misc = s->feature = 0;
    s->enabled = 1;
    s->dac_state = s->dac_component = s->dac_read_index = s->dac_write_index = 0;
    s->pel_mask = 0xff;
    memset(s->dac_latch, 0, sizeof(s->dac_latch));
    memset(s->palette, 0, sizeof(s->palette));
    memset(s->latch, 0, sizeof(s->latch));
    vga_vbe_reset(s);
    ram_clear(s->vram, 0, s->vram->size); /* as after power-on, so that nothing of the last run shows */
}

const struct state_field vga_fields[] = {
    STATE_FIELD(STATE_RAM, struct vga, vram),
    STATE_FIELD(STATE_U8, struct vga, sr_index),
    STATE_ARRAY(STATE_BYTES, struct vga, sr),
    STATE_FIELD(STATE_U8, struct vga, gr_index),
    STATE_ARRAY(STATE_BYTES, struct vga, gr),
    STATE_FIELD(STATE_U8, struct vga, cr_index),
    STATE_ARRAY(STATE_BYTES, struct vga, cr),
    STATE_FIELD(STATE_U8, struct vga, ar_index),
    STATE_ARRAY(STATE_BYTES, struct vga, ar),
    STATE_FIELD(STATE_BOOL, struct vga, ar_data),
    STATE_FIELD(STATE_U8, struct vga, misc),
    STATE_FIELD(STATE_U8, struct vga, feature),
    STATE_FIELD(STATE_U8, struct vga, enabled),
    STATE_FIELD(STATE_U8, struct vga, dac_state),
    STATE_FIELD(STATE_U8, struct vga, dac_component),
    STATE_FIELD(STATE_U8, struct vga, dac_read_index),
    STATE_FIELD(STATE_U8, struct vga, dac_write_index),
    STATE_FIELD(STATE_U8, struct vga, pel_mask),
    STATE_ARRAY(STATE_BYTES, struct vga, dac_latch),
    STATE_ARRAY(STATE_BYTES, struct vga, palette),
    STATE_ARRAY(STATE_BYTES, struct vga, latch),
    STATE_FIELD(STATE_U16, struct vga, vbe_index),
    STATE_ARRAY(STATE_U16, struct vga, vbe),
    STATE_FIELDS_END,
};

bool vga_post_load(struct vga *s, GError **err)
{
    s->sr_index &= VGA_SR_COUNT - 1;
    s->gr_index &= 0x0f;
    s->ar_index &= 0x3f;
    for (unsigned i = 0; i < VGA_SR_COUNT; i++)
        s->sr[i] &= sr_mask[i];
    for (unsigned i = 0; i < VGA_GR_COUNT; i++)
        s->gr[i] &= gr_mask[i];
    for (unsigned i = 0; i < VGA_AR_COUNT; i++)
        s->ar[i] &= ar_mask[i];
    if (s->dac_component < 3 && vga_vbe_valid(s))
        return true;
    g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_INVAL, "VGA: impossible registers in the saved state");
    return false;
}
