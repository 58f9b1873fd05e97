/* Property values of devices: between hw/core/device.c and hw/core/props.c only. */
#ifndef HW_CORE_PROPS_H
#define HW_CORE_PROPS_H

#include "hw/core/device.h"

void props_init(struct device *d); /* initial values */
void props_free(struct device *d); /* strings */
const struct prop *prop_find(const struct device_type *type, const char *name); /* NULL: none of that name */
bool prop_parse(struct device *d, const struct prop *p, const char *value, GError **err);
void prop_print(const struct device *d, const struct prop *p, GString *out); /* the value alone */

#endif
