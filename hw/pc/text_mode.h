/* Text mode 3, 80x25, as a VGA BIOS leaves it: for kernels that start without firmware. VM lock. */
#ifndef HW_PC_TEXT_MODE_H
#define HW_PC_TEXT_MODE_H

#include <stdint.h>

struct machine;

#define TEXT_MODE_FONT_SIZE 4096 /* 256 glyphs of 8x16 */

/*
 * The font out of the VGA BIOS that is installed, or NULL: screens then hold characters that nobody sees. Caller frees.
 */
uint8_t *text_mode_find_font(void);
/* Programs the VGA at its legacy ports. `font` may be NULL. */
void text_mode_set(struct machine *m, const uint8_t *font);

#endif
