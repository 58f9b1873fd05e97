/*
 * VGA with Bochs VBE extensions, as QEMU's "VGA": PCI 1234:1111, 16 MiB of video memory. VM lock.
 */
#ifndef HW_DISPLAY_VGA_H
#define HW_DISPLAY_VGA_H

#include "hw/core/device.h"

#include <glib.h>

extern const struct device_type vga_pci_type; /* "VGA", bus "pci" */

/*
 * What a text mode shows, as UTF-8 lines without trailing blanks, each ending in a newline. NULL in a graphics mode or
 * with the screen off. `vga` is a device of vga_pci_type. Caller frees.
 */
char *vga_text_screen(struct device *vga);

#endif
