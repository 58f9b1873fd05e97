/* See virtio_driver.h. */
#include "tests/lib/virtio_driver.h"

#include "tests/lib/device_test.h"

#include <string.h>

enum { NEXT = 1, WRITE = 2, INDIRECT = 4, AVAIL = 0x80, USED = 0x8000 };

void driver_ring_init(struct driver_ring *d, struct machine *m, bool packed, unsigned size, uint64_t base)
{
    g_assert(size <= DRIVER_RING_MAX && base % 4096 == 0);
    memset(d, 0, sizeof(*d));
    d->m = m;
    d->packed = packed;
    d->size = d->free = size;
    d->desc = base;
    d->driver = base + 16 * size;
    d->device = (d->driver + 6 + 2 * size + 4095) & ~UINT64_C(4095);
    d->avail_wrap = d->used_wrap = true;
    for (uint64_t a = base; a < d->device + 6 + 8 * size; a += 2)
        test_write(m, a, 0, 2);
    for (unsigned i = 0; i < size; i++)
        d->first[i] = i + 1;
}

static void put_desc(struct driver_ring *d, uint64_t at, const struct driver_buffer *b, unsigned flags, unsigned next)
{
    test_write(d->m, at, b->addr, 8);
    test_write(d->m, at + 8, b->len, 4);
    /* A packed one has its id before its flags, which come last. */
    test_write(d->m, at + (d->packed ? 12 : 14), next, 2);
    test_write(d->m, at + (d->packed ? 14 : 12), flags, 2);
}

static void put_table(struct driver_ring *d, const struct driver_buffer *b, unsigned n, uint64_t table)
{
    for (unsigned i = 0; i < n; i++) {
        bool next = !d->packed && i + 1 < n;
        put_desc(d, table + 16 * i, &b[i], (b[i].write ? WRITE : 0) | (next ? NEXT : 0), next ? i + 1 : 0);
    }
}

static int add_split(struct driver_ring *d, const struct driver_buffer *b, unsigned n, unsigned indirect)
{
    uint16_t head = d->free_head, i = head;
    for (unsigned k = 0; k < n; k++) {
        unsigned next = d->first[i], more = k + 1 < n ? NEXT : 0;
        put_desc(d, d->desc + 16 * i, &b[k], (b[k].write ? WRITE : 0) | more | indirect, more ? next : 0);
        i = next;
    }
    d->free_head = i;
    test_write(d->m, d->driver + 4 + 2 * (d->avail % d->size), head, 2);
    test_write(d->m, d->driver + 2, ++d->avail, 2);
    return head;
}

static int add_packed(struct driver_ring *d, const struct driver_buffer *b, unsigned n, unsigned indirect)
{
    int id = 0;
    unsigned at = d->avail, first = 0;
    while (d->count[id])
        id++;
    for (unsigned k = 0; k < n; k++) {
        unsigned flags = (b[k].write ? WRITE : 0) | (k + 1 < n ? NEXT : 0) | indirect | (d->avail_wrap ? AVAIL : USED);
        if (k == 0)
            first = flags;
        /* The first descriptor's flags come last of all. */
        put_desc(d, d->desc + 16 * d->avail, &b[k], k ? flags : flags ^ AVAIL ^ USED, id);
        if (++d->avail == d->size) {
            d->avail = 0;
            d->avail_wrap = !d->avail_wrap;
        }
    }
    test_write(d->m, d->desc + 16 * at + 14, first, 2);
    return id;
}

int driver_add(struct driver_ring *d, const struct driver_buffer *b, unsigned n, uint64_t table)
{
    struct driver_buffer one = { table, 16 * n, false };
    unsigned needed = table ? 1 : n;
    int id;
    if (needed > d->free)
        return -1;
    if (table)
        put_table(d, b, n, table);
    b = table ? &one : b;
    id = d->packed ? add_packed(d, b, needed, table ? INDIRECT : 0) : add_split(d, b, needed, table ? INDIRECT : 0);
    d->count[id] = needed;
    d->free -= needed;
    return id;
}

static bool get_split(struct driver_ring *d, unsigned *id, uint32_t *written)
{
    uint64_t at = d->device + 4 + 8 * (d->used % d->size);
    if (test_read(d->m, d->device + 2, 2) == d->used)
        return false;
    *id = test_read(d->m, at, 4);
    *written = test_read(d->m, at + 4, 4);
    d->used++;
    return true;
}

static bool get_packed(struct driver_ring *d, unsigned *id, uint32_t *written)
{
    uint64_t at = d->desc + 16 * d->used;
    unsigned flags = test_read(d->m, at + 14, 2);
    if (!(flags & AVAIL) != !(flags & USED) || !(flags & USED) != !d->used_wrap)
        return false;
    *id = test_read(d->m, at + 12, 2);
    *written = test_read(d->m, at + 8, 4);
    g_assert_cmpuint(!(flags & WRITE), ==, !*written);
    return true;
}

bool driver_get(struct driver_ring *d, unsigned *id, uint32_t *written)
{
    if (!(d->packed ? get_packed(d, id, written) : get_split(d, id, written)))
        return false;
    g_assert_cmpuint(*id, <, d->size);
    unsigned n = d->count[*id];
    g_assert_cmpuint(n, >, 0);
    if (d->packed) {
        d->used += n;
        if (d->used >= d->size) {
            d->used -= d->size;
            d->used_wrap = !d->used_wrap;
        }
    } else {
        uint16_t last = *id;
        for (unsigned k = 1; k < n; k++)
            last = test_read(d->m, d->desc + 16 * last + 14, 2);
        d->first[last] = d->free_head;
        d->free_head = *id;
        /* The chain's own links are those of the free list. */
        for (uint16_t i = *id; i != last; i = d->first[i])
            d->first[i] = test_read(d->m, d->desc + 16 * i + 14, 2);
    }
    d->free += n;
    d->count[*id] = 0;
    return true;
}

void driver_want_never(struct driver_ring *d)
{
    test_write(d->m, d->driver + (d->packed ? 2 : 0), 1, 2);
}

void driver_want_each(struct driver_ring *d)
{
    test_write(d->m, d->driver + (d->packed ? 2 : 0), 0, 2);
}

void driver_want_after(struct driver_ring *d, unsigned after)
{
    if (d->packed) {
        unsigned at = d->used + after - 1;
        bool wrap = d->used_wrap ^ (at >= d->size);
        test_write(d->m, d->driver, at % d->size | (wrap ? 0x8000 : 0), 2);
        test_write(d->m, d->driver + 2, 2, 2);
    } else {
        test_write(d->m, d->driver + 4 + 2 * d->size, (uint16_t)(d->used + after - 1), 2);
    }
}
