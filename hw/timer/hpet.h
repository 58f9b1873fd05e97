/* High precision event timers at 0xfed00000: 100 MHz, three 64-bit timers. All under the VM lock. */
#ifndef HW_TIMER_HPET_H
#define HW_TIMER_HPET_H

#include "hw/core/device.h"
#include "hw/core/irq.h"

#define HPET_BASE UINT64_C(0xfed00000)
#define HPET_SIZE 0x400
#define HPET_PERIOD_FS 10000000 /* femtoseconds of one count */
#define HPET_OUTPUTS 32

extern const struct device_type hpet_type; /* "hpet"; properties timers (3..24), hpet-intcap */

/*
 * Outputs by global interrupt number: the ones of hpet-intcap, and 0 and 8, which carry the PIT's and the RTC's
 * interrupt or, under legacy replacement, timers 0 and 1. Wired before reset.
 */
void hpet_set_output(struct device *hpet, int gsi, struct irq_line line);
/* Where the PIT's (0) and the RTC's (1) outputs go when there is an HPET. */
struct irq_line hpet_legacy_input(struct device *hpet, int n);

#endif
