/* Where the distribution keeps firmware images: option ROMs, BIOSes. No lock. */
#ifndef HW_CORE_FIRMWARE_H
#define HW_CORE_FIRMWARE_H

#include <glib.h>
#include <stdint.h>

/*
 * The path of a firmware image: `name` itself if that is a file, else a file of that name in one of the distribution's
 * firmware directories. NULL and an error that names the package to install if there is none. Caller frees.
 */
char *firmware_find(const char *name, GError **err);
/* Its contents. Fails if it is empty or larger than `max` bytes. */
uint8_t *firmware_load(const char *name, size_t max, size_t *size, GError **err);

#endif
