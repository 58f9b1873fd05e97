/* Scan codes of PS/2 keyboards by enum input_key, and the controller's translation. Constants only. */
#ifndef HW_INPUT_PS2_CODES_H
#define HW_INPUT_PS2_CODES_H

#include "hw/core/input.h"

#include <stdint.h>

extern const uint16_t ps2_set1_codes[IKEY_MAX]; /* 0xe0 in the upper byte where it comes first; 0: no such key */
extern const uint8_t ps2_set3_codes[IKEY_MAX];  /* 0: no such key */
extern const uint8_t ps2_translation[256];      /* set 2 to set 1, as an 8042 does it */

/* The inverse of the translation, for codes below 0x80. */
uint8_t ps2_set2_of_set1(uint8_t set1);

#endif
