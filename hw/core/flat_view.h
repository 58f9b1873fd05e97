/* Making and comparing flat views: between hw/core/memory.c and hw/core/flat_view.c only. */
#ifndef HW_CORE_FLAT_VIEW_H
#define HW_CORE_FLAT_VIEW_H

#include "hw/core/memory.h"

/* The view of what lies under `root`, with one reference, which is the caller's. VM lock. */
struct flat_view *flat_view_make(const struct mem_region *root);
bool flat_range_equal(const struct flat_range *a, const struct flat_range *b);
bool flat_view_equal(const struct flat_view *a, const struct flat_view *b);

#endif
