/*
 * Inside of the VGA: what hw/display/vga*.c share. VM lock.
 *
 * Video memory is an array of dwords, byte p of dword a being plane p at address a. Chained and odd/even accesses are
 * laid out so that a linear frame buffer is what it is in PCI BAR 0.
 */
#ifndef HW_DISPLAY_VGA_INT_H
#define HW_DISPLAY_VGA_INT_H

#include "hw/core/device.h"
#include "hw/core/memory.h"
#include "hw/core/state.h"

/* Sequencer */
#define VGA_SR_CLOCKING 1
#define VGA_SR_MAP_MASK 2
#define VGA_SR_MEMORY_MODE 4
#define VGA_SR_COUNT 8
#define VGA_SR1_8_DOTS 0x01
#define VGA_SR1_HALF_CLOCK 0x08
#define VGA_SR1_SCREEN_OFF 0x20
#define VGA_SR4_CHAIN4 0x08

/* Graphics controller */
#define VGA_GR_SET_RESET 0
#define VGA_GR_ENABLE_SET_RESET 1
#define VGA_GR_COLOR_COMPARE 2
#define VGA_GR_ROTATE 3
#define VGA_GR_READ_MAP 4
#define VGA_GR_MODE 5
#define VGA_GR_MISC 6
#define VGA_GR_COLOR_DONT_CARE 7
#define VGA_GR_BIT_MASK 8
#define VGA_GR_COUNT 9
#define VGA_GR5_ODD_EVEN 0x10
#define VGA_GR6_GRAPHICS 0x01

/* CRT controller */
#define VGA_CR_H_TOTAL 0x00
#define VGA_CR_H_DISPLAY_END 0x01
#define VGA_CR_V_TOTAL 0x06
#define VGA_CR_OVERFLOW 0x07
#define VGA_CR_MAX_SCAN 0x09
#define VGA_CR_START_HIGH 0x0c
#define VGA_CR_START_LOW 0x0d
#define VGA_CR_V_SYNC_START 0x10
#define VGA_CR_V_SYNC_END 0x11
#define VGA_CR_V_DISPLAY_END 0x12
#define VGA_CR_OFFSET 0x13
#define VGA_CR_MODE 0x17
#define VGA_CR_LINE_COMPARE 0x18
#define VGA_CR_COUNT 0x19
#define VGA_CR11_PROTECT 0x80

/* Attribute controller */
#define VGA_AR_COUNT 21
#define VGA_AR_INDEX_PAS 0x20 /* palette address source: the screen shows */

#define VGA_MISC_COLOR 0x01
#define VGA_MISC_RAM 0x02
#define VGA_MISC_CLOCK 0x0c

/* Bochs VBE */
enum vbe_index {
    VBE_ID,
    VBE_XRES,
    VBE_YRES,
    VBE_BPP,
    VBE_ENABLE,
    VBE_BANK,
    VBE_VIRT_WIDTH,
    VBE_VIRT_HEIGHT,
    VBE_X_OFFSET,
    VBE_Y_OFFSET,
    VBE_VIDEO_MEMORY_64K,
    VBE_COUNT
};
#define VBE_ENABLED 0x01
#define VBE_GETCAPS 0x02
#define VBE_8BIT_DAC 0x20
#define VBE_LFB_ENABLED 0x40
#define VBE_NO_CLEAR 0x80

struct vga {
    struct device *dev;
    struct ram_block *vram;
    struct mem_region ports, vbe_ports, window;
    uint8_t sr_index, sr[VGA_SR_COUNT];
    uint8_t gr_index, gr[VGA_GR_COUNT];
    uint8_t cr_index, cr[VGA_CR_COUNT];
    uint8_t ar_index, ar[VGA_AR_COUNT];
    bool ar_data;  /* flip-flop: the next write to 0x3c0 is data */
    uint8_t misc, feature, enabled; /* ports 0x3c2, 0x3?a, 0x3c3 */
    uint8_t dac_state, dac_component, dac_read_index, dac_write_index, pel_mask;
    uint8_t dac_latch[3], palette[768];
    uint8_t latch[4]; /* by plane */
    uint16_t vbe_index, vbe[VBE_COUNT];
};

extern const struct state_field vga_fields[];

/* `memory` is where the window at 0xa0000 is mapped; vram is the caller's. */
void vga_init(struct vga *s, struct device *dev, struct mem_region *memory, struct ram_block *vram);
void vga_fini(struct vga *s);
void vga_reset(struct vga *s);
bool vga_post_load(struct vga *s, GError **err);

/* Ports 0x3b0-0x3df by number, a byte each. */
uint8_t vga_port_read(struct vga *s, unsigned port);
void vga_port_write(struct vga *s, unsigned port, uint8_t value);

extern const struct mem_ops vga_window_ops; /* vga_mem.c: 128 KiB at 0xa0000 */
extern const struct mem_ops vga_vbe_ports_ops; /* vga_vbe.c: 0x1ce-0x1d1 */

uint16_t vga_vbe_read(struct vga *s, unsigned index);
void vga_vbe_write(struct vga *s, unsigned index, uint16_t value);
void vga_vbe_reset(struct vga *s);
bool vga_vbe_valid(const struct vga *s); /* the registers could have been written by a guest */

static inline bool vga_vbe_enabled(const struct vga *s)
{
    return s->vbe[VBE_ENABLE] & VBE_ENABLED;
}

/* Numbers that are spread over CRTC registers, in scan lines. */
static inline unsigned vga_v_total(const struct vga *s)
{
    uint8_t o = s->cr[VGA_CR_OVERFLOW];
    return (s->cr[VGA_CR_V_TOTAL] | (o & 0x01) << 8 | (o & 0x20) << 4) + 2;
}
static inline unsigned vga_v_display_end(const struct vga *s)
{
    uint8_t o = s->cr[VGA_CR_OVERFLOW];
    return (s->cr[VGA_CR_V_DISPLAY_END] | (o & 0x02) << 7 | (o & 0x40) << 3) + 1;
}
static inline unsigned vga_v_sync_start(const struct vga *s)
{
    uint8_t o = s->cr[VGA_CR_OVERFLOW];
    return s->cr[VGA_CR_V_SYNC_START] | (o & 0x04) << 6 | (o & 0x80) << 2;
}
static inline unsigned vga_line_compare(const struct vga *s)
{
    return s->cr[VGA_CR_LINE_COMPARE] | (s->cr[VGA_CR_OVERFLOW] & 0x10) << 4 | (s->cr[VGA_CR_MAX_SCAN] & 0x40) << 3;
}

/* UTF-8 text of a text mode, or NULL. Caller frees. */
char *vga_text(const struct vga *s);

#endif
