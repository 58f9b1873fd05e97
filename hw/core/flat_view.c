/*
 * Flat views: the tree of regions seen from an address. Regions are painted in the order of their priority, each into
 * the gaps that those before it have left.
 *
 * A view never changes once it is made; references are counted atomically.
 */
#include "hw/core/flat_view.h"

#include <string.h>

/* Regions are at most 2^52 bytes, so that signed positions of aliases' bases cannot overflow within this depth. */
#define MAX_DEPTH 64

/* Index of the first range that ends at or behind addr. */
static guint first_behind(const GArray *ranges, uint64_t addr)
{
    guint lo = 0, hi = ranges->len;
    while (lo < hi) {
        guint mid = lo + (hi - lo) / 2;
        if (g_array_index(ranges, struct flat_range, mid).last < addr)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* Paints [start, last] with a leaf region whose byte 0 is at address `base` (which may be negative). */
static void paint_leaf(GArray *ranges, struct mem_region *r, int64_t base, uint64_t start, uint64_t last,
                       bool read_only)
{
    guint i = first_behind(ranges, start);
    while (start <= last) {
        uint64_t gap_last = last;
        bool more = i < ranges->len;
        struct flat_range next = { 0 };
        if (more) {
            next = g_array_index(ranges, struct flat_range, i);
            if (next.start <= start) { /* taken: go on behind it */
                if (next.last >= last)
                    return;
                start = next.last + 1;
                i++;
                continue;
            }
            gap_last = MIN(last, next.start - 1);
        }
        struct flat_range new = {
            .start = start,
            .last = gap_last,
            .region = r,
            .offset = start - (uint64_t)base,
            .read_only = r->kind == MEM_ROM || read_only,
        };
        if (r->ram)
            new.host = r->ram->host + r->ram_offset + new.offset;
        g_array_insert_val(ranges, i, new);
        i++;
        if (gap_last == last)
            return;
        start = gap_last + 1;
    }
}

/* Paints what of `r` shows in [first, last]; byte 0 of r is at `base`. */
static void paint(GArray *ranges, struct mem_region *r, int64_t base, int64_t first, int64_t last, bool read_only,
                  unsigned depth)
{
    g_assert(depth < MAX_DEPTH); /* an alias that contains itself */
    if (!r->enabled || r->size == 0)
        return;
    first = MAX(first, base);
    last = MIN(last, base + (int64_t)r->size - 1);
    if (first > last)
        return;
    read_only |= r->read_only;
    switch (r->kind) {
    case MEM_CONTAINER:
        for (GList *l = r->children; l; l = l->next) {
            struct mem_region *child = l->data;
            if (child->addr < r->size) /* a BAR may hold any 64-bit address */
                paint(ranges, child, base + (int64_t)child->addr, first, last, read_only, depth + 1);
        }
        break;
    case MEM_ALIAS:
        if (r->target_offset < r->target->size)
            paint(ranges, r->target, base - (int64_t)r->target_offset, first, last, read_only, depth + 1);
        break;
    case MEM_RAM:
    case MEM_ROM:
    case MEM_IO:
        paint_leaf(ranges, r, base, (uint64_t)first, (uint64_t)last, read_only);
        break;
    }
}

/* Joins neighbours that continue each other, as an alias in two halves does. */
static guint join(struct flat_range *r, guint count)
{
    guint out = 0;
    for (guint i = 0; i < count; i++) {
        struct flat_range *p = out ? &r[out - 1] : NULL;
        if (p && p->last + 1 == r[i].start && p->region == r[i].region && p->read_only == r[i].read_only &&
            p->offset + (p->last - p->start) + 1 == r[i].offset)
            p->last = r[i].last;
        else
            r[out++] = r[i];
    }
    return out;
}

static unsigned largest_memory(const struct flat_view *v)
{
    unsigned best = 0;
    uint64_t most = 0;
    for (unsigned i = 0; i < v->count; i++) {
        const struct flat_range *r = &v->ranges[i];
        if (r->host && r->last - r->start > most) {
            most = r->last - r->start;
            best = i;
        }
    }
    return best;
}

struct flat_view *flat_view_make(const struct mem_region *root)
{
    GArray *ranges = g_array_new(FALSE, FALSE, sizeof(struct flat_range));
    if (root->size)
        paint(ranges, (struct mem_region *)root, 0, 0, (int64_t)root->size - 1, false, 0);
    guint count = join((struct flat_range *)(void *)ranges->data, ranges->len);
    struct flat_view *v = g_malloc(sizeof *v + count * sizeof v->ranges[0]);
    v->refs = 1;
    v->count = count;
    if (count)
        memcpy(v->ranges, ranges->data, count * sizeof v->ranges[0]);
    g_array_free(ranges, TRUE);
    v->largest = largest_memory(v);
    return v;
}

bool flat_range_equal(const struct flat_range *a, const struct flat_range *b)
{
    return a->start == b->start && a->last == b->last && a->region == b->region && a->offset == b->offset &&
           a->host == b->host && a->read_only == b->read_only;
}

bool flat_view_equal(const struct flat_view *a, const struct flat_view *b)
{
    if (a->count != b->count)
        return false;
    for (unsigned i = 0; i < a->count; i++) {
        if (!flat_range_equal(&a->ranges[i], &b->ranges[i]))
            return false;
    }
    return true;
}

struct flat_view *flat_view_get(struct flat_view *v)
{
    __atomic_fetch_add(&v->refs, 1, __ATOMIC_RELAXED);
    return v;
}

void flat_view_put(struct flat_view *v)
{
    if (v && __atomic_sub_fetch(&v->refs, 1, __ATOMIC_ACQ_REL) == 0)
        g_free(v);
}

const struct flat_range *flat_view_search(const struct flat_view *v, uint64_t addr)
{
    unsigned lo = 0, hi = v->count;
    while (lo < hi) {
        unsigned mid = lo + (hi - lo) / 2;
        if (v->ranges[mid].last < addr)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < v->count && v->ranges[lo].start <= addr ? &v->ranges[lo] : NULL;
}
