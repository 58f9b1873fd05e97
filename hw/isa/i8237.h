/*
 * The PC's two 8237 DMA controllers with their page registers: channels 0-3 move bytes, 5-7 words, 4 cascades.
 *
 * A device on the bus attaches to a channel, raises DREQ when it has or wants data, and then moves the data itself with
 * i8237_read/write, which follow the guest's programming of address, count, direction and mode. VM lock.
 */
#ifndef HW_ISA_I8237_H
#define HW_ISA_I8237_H

#include "hw/core/device.h"

struct i8237;

extern const struct device_type i8237_type; /* bus "isa" */

/*
 * `ready` is called when DREQ is up and the channel becomes able to transfer (unmasked, controller enabled): the device
 * then goes on. It may be called from within i8237_set_dreq().
 */
void i8237_attach(struct i8237 *s, unsigned channel, void (*ready)(void *opaque, unsigned channel), void *opaque);
void i8237_set_dreq(struct i8237 *s, unsigned channel, bool level);
/* True if a transfer would move data now. */
bool i8237_ready(const struct i8237 *s, unsigned channel);
/*
 * Memory to device and device to memory; returns the number of bytes moved, which is less than `len` when terminal
 * count is reached (*tc is then true) and 0 when the channel is masked or programmed for the other direction. A verify
 * transfer counts but moves nothing (reads give zeroes).
 */
size_t i8237_read(struct i8237 *s, unsigned channel, void *buf, size_t len, bool *tc);
size_t i8237_write(struct i8237 *s, unsigned channel, const void *buf, size_t len, bool *tc);

#endif
