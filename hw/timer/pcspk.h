/* System control port B at 0x61: speaker gate, refresh toggle, NMI status. All under the VM lock. */
#ifndef HW_TIMER_PCSPK_H
#define HW_TIMER_PCSPK_H

#include "hw/core/device.h"

extern const struct device_type pcspk_type; /* "isa-pcspk" */

/* The timer whose channel 2 it gates and reads; before realize. */
void pcspk_set_pit(struct device *spk, struct device *pit);

#endif
