/* isa-debug-exit: a write of v ends the process with code (v << 1) | 1. Port 80: the POST code. Both on bus "isa". */
#ifndef HW_ISA_DEBUG_EXIT_H
#define HW_ISA_DEBUG_EXIT_H

#include "hw/core/device.h"

extern const struct device_type isa_debug_exit_type; /* "isa-debug-exit": iobase (0x501), iosize (2) */
extern const struct device_type port80_type;         /* "port80" */

#endif
