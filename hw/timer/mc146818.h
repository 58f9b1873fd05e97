/* Real-time clock and CMOS memory at ports 0x70..0x73. All under the VM lock. */
#ifndef HW_TIMER_MC146818_H
#define HW_TIMER_MC146818_H

#include "hw/core/device.h"
#include "hw/core/irq.h"

#include <stdbool.h>
#include <stdint.h>

extern const struct device_type mc146818_type; /* "mc146818rtc" */

/* IRQ 8 (through the HPET's legacy input if there is one). Wired before reset. */
void mc146818_set_irq(struct device *rtc, struct irq_line irq);
/*
 * CMOS bytes 14..127, which the board fills in after realize; they survive reset. Clock registers (0..13) and the
 * century byte (0x32) are not memory: not to be set this way. The checksum at 0x2e is the board's to set if firmware
 * wants it.
 */
void mc146818_set_cmos(struct device *rtc, uint8_t index, uint8_t value);
uint8_t mc146818_cmos(struct device *rtc, uint8_t index);
/* Bit 7 of port 0x70: the guest masks NMIs of the chipset. */
bool mc146818_nmi_masked(struct device *rtc);

#endif
