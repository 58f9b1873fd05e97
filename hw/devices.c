/* The registry of device types, made from hw/devices.list: what -device and a loader can name. */
#include "hw/core/device.h"

#include <string.h>

#define DEVICE(type) extern const struct device_type type;
#include "hw/devices.list"
#undef DEVICE

static const struct device_type *const types[] = {
#define DEVICE(type) &type,
#include "hw/devices.list"
#undef DEVICE
    NULL,
};

const struct device_type *const *device_types(void)
{
    return types;
}

const struct device_type *device_type_find(const char *name)
{
    for (const struct device_type *const *t = types; *t; t++) {
        if (strcmp((*t)->name, name) == 0 || g_strcmp0((*t)->alias, name) == 0)
            return *t;
    }
    return NULL;
}
