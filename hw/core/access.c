/*
 * Accesses to guest-physical memory and ports: one load or store through a flat range, and any stretch of bytes by
 * address.
 *
 * A chip sees only sizes that its mem_ops.impl names. Wider accesses come as several, lowest address first; a narrower
 * read is cut out of a wider one; a narrower write comes widened with zeros around it, as most registers with bits that
 * are cleared by writing ones want it. Misaligned accesses come as aligned ones unless impl.unaligned is set.
 *
 * RAM needs no lock; devices need the VM lock. A device that, while it handles an access, reaches itself through its
 * own DMA gets all ones: without this rule a guest could make it recurse without bound.
 */
#include "hw/core/memory.h"

#include "hw/core/device.h"
#include "hw/core/log.h"
#include "hw/core/ram_access.h"
#include "hw/core/vm_lock.h"

#include <inttypes.h>
#include <string.h>

static uint64_t size_mask(unsigned size)
{
    return size == 8 ? UINT64_MAX : (UINT64_C(1) << (size * 8)) - 1;
}

/* The widest access, a power of two up to `max`, that is aligned at addr and not longer than len. */
static unsigned aligned_piece(uint64_t addr, uint64_t len, unsigned max)
{
    unsigned size = max;
    while (size > 1 && ((addr & (size - 1)) || size > len))
        size >>= 1;
    return size;
}

/* --- Holes -------------------------------------------------------------------------------------------------------- */

static void log_hole(uint64_t addr, uint64_t size, bool write)
{
    log_unimp_once(addr, "memory", "%s of %" PRIu64 " bytes at unassigned address 0x%" PRIx64, write ? "write" : "read",
                   size, addr);
}

/* --- Devices ------------------------------------------------------------------------------------------------------ */

static bool access_valid(const struct mem_region *r, uint64_t offset, unsigned size, bool write)
{
    const struct mem_access_sizes *v = &r->ops->valid;
    if (size >= v->min && size <= (v->max ? v->max : 8) && (v->unaligned || (offset & (size - 1)) == 0))
        return true;
    log_guest_error(r->name, "invalid %s of %u bytes at offset 0x%" PRIx64, write ? "write" : "read", size, offset);
    return false;
}

static bool enter_device(const struct mem_region *r, uint64_t offset, unsigned size, bool write)
{
    g_assert(vm_locked());
    if (!access_valid(r, offset, size, write))
        return false;
    if (!r->owner)
        return true;
    if (r->owner->in_io) {
        log_guest_error(r->name, "%s at offset 0x%" PRIx64 " by the device itself refused", write ? "write" : "read",
                        offset);
        return false;
    }
    r->owner->in_io = true;
    return true;
}

static void leave_device(const struct mem_region *r)
{
    if (r->owner)
        r->owner->in_io = false;
}

/* Sizes that the functions handle: where the access is one of these it goes through as it is. */
static bool impl_takes(const struct mem_access_sizes *i, unsigned max, uint64_t offset, unsigned size)
{
    return size >= i->min && size <= max && (i->unaligned || (offset & (size - 1)) == 0);
}

static uint64_t io_read(const struct mem_region *r, uint64_t offset, unsigned size)
{
    const struct mem_access_sizes *impl = &r->ops->impl;
    unsigned max = impl->max ? impl->max : 4, min = impl->min ? impl->min : 1;
    if (!enter_device(r, offset, size, false))
        return size_mask(size);
    uint64_t value = 0;
    if (G_LIKELY(impl_takes(impl, max, offset, size))) {
        value = r->ops->read(r->opaque, offset, size) & size_mask(size);
    } else {
        for (unsigned done = 0; done < size;) {
            uint64_t at = offset + done;
            unsigned n = aligned_piece(at, size - done, max);
            uint64_t v;
            if (n < min) {
                uint64_t from = at & ~(uint64_t)(min - 1);
                v = r->ops->read(r->opaque, from, min) >> (8 * (at - from));
            } else {
                v = r->ops->read(r->opaque, at, n);
            }
            value |= (v & size_mask(n)) << (8 * done);
            done += n;
        }
    }
    leave_device(r);
    if (log_on(LOG_MMIO))
        log_line("read  %s+0x%" PRIx64 " %u bytes: 0x%" PRIx64, r->name, offset, size, value);
    return value;
}

static void io_write(const struct mem_region *r, uint64_t offset, uint64_t value, unsigned size)
{
    const struct mem_access_sizes *impl = &r->ops->impl;
    unsigned max = impl->max ? impl->max : 4, min = impl->min ? impl->min : 1;
    value &= size_mask(size);
    if (log_on(LOG_MMIO))
        log_line("write %s+0x%" PRIx64 " %u bytes: 0x%" PRIx64, r->name, offset, size, value);
    if (!enter_device(r, offset, size, true))
        return;
    if (G_LIKELY(impl_takes(impl, max, offset, size))) {
        r->ops->write(r->opaque, offset, value, size);
    } else {
        for (unsigned done = 0; done < size;) {
            uint64_t at = offset + done;
            unsigned n = aligned_piece(at, size - done, max);
            uint64_t v = (value >> (8 * done)) & size_mask(n);
            if (n < min) {
                uint64_t from = at & ~(uint64_t)(min - 1);
                r->ops->write(r->opaque, from, v << (8 * (at - from)), min);
            } else {
                r->ops->write(r->opaque, at, v, n);
            }
            done += n;
        }
    }
    leave_device(r);
}

/* --- One access through a range ----------------------------------------------------------------------------------- */

static bool within(const struct flat_range *r, uint64_t addr, unsigned size)
{
    g_assert(addr >= r->start && addr <= r->last);
    return size - 1 <= r->last - addr;
}

uint64_t mem_range_read(const struct flat_range *r, uint64_t addr, unsigned size)
{
    if (G_UNLIKELY(!r)) {
        log_hole(addr, size, false);
        return size_mask(size);
    }
    if (G_UNLIKELY(!within(r, addr, size))) {
        uint64_t value = 0;
        for (unsigned i = 0; i < size; i++)
            value |= mem_range_read(addr + i <= r->last ? r : NULL, addr + i, 1) << (8 * i);
        return value;
    }
    uint64_t offset = addr - r->start;
    return r->host ? ram_load(r->host + offset, size) : io_read(r->region, r->offset + offset, size);
}

void mem_range_write(const struct flat_range *r, uint64_t addr, uint64_t value, unsigned size)
{
    if (G_UNLIKELY(!r)) {
        log_hole(addr, size, true);
        return;
    }
    if (G_UNLIKELY(!within(r, addr, size))) {
        for (unsigned i = 0; i < size; i++)
            mem_range_write(addr + i <= r->last ? r : NULL, addr + i, (value >> (8 * i)) & 0xff, 1);
        return;
    }
    uint64_t offset = addr - r->start;
    if (r->host && !r->read_only) {
        ram_store(r->host + offset, value, size);
        /* After the store: who asks again in between sees the new bytes, or is told again. */
        ram_note_write(r->region->ram, flat_range_ram_offset(r, addr), size);
    } else if (r->region->ops) {
        io_write(r->region, r->offset + offset, value, size);
    }
}

/* --- By address --------------------------------------------------------------------------------------------------- */

uint64_t flat_view_load(const struct flat_view *v, uint64_t addr, unsigned size)
{
    const struct flat_range *r = flat_view_find(v, addr);
    if (G_LIKELY(r && size - 1 <= r->last - addr))
        return mem_range_read(r, addr, size);
    uint64_t value = 0;
    for (unsigned i = 0; i < size;) {
        unsigned n;
        r = flat_view_find(v, addr + i);
        n = aligned_piece(addr + i, r ? MIN(size - i, r->last - (addr + i) + 1) : 1, 4);
        value |= mem_range_read(r, addr + i, n) << (8 * i);
        i += n;
    }
    return value;
}

void flat_view_store(const struct flat_view *v, uint64_t addr, uint64_t value, unsigned size)
{
    const struct flat_range *r = flat_view_find(v, addr);
    if (G_LIKELY(r && size - 1 <= r->last - addr)) {
        mem_range_write(r, addr, value, size);
        return;
    }
    for (unsigned i = 0; i < size;) {
        unsigned n;
        r = flat_view_find(v, addr + i);
        n = aligned_piece(addr + i, r ? MIN(size - i, r->last - (addr + i) + 1) : 1, 4);
        mem_range_write(r, addr + i, (value >> (8 * i)) & size_mask(n), n);
        i += n;
    }
}

uint64_t address_space_load(struct address_space *as, uint64_t addr, unsigned size)
{
    g_assert(vm_locked());
    return flat_view_load(as->view, addr, size);
}

void address_space_store(struct address_space *as, uint64_t addr, uint64_t value, unsigned size)
{
    g_assert(vm_locked());
    flat_view_store(as->view, addr, value, size);
}

/* How many of `len` bytes from addr lie in the range, or in the hole behind which the next range starts. */
static uint64_t stretch(const struct flat_view *v, const struct flat_range *r, uint64_t addr, uint64_t len)
{
    if (r)
        return MIN(len - 1, r->last - addr) + 1;
    for (unsigned i = 0; i < v->count; i++) {
        if (v->ranges[i].start > addr)
            return MIN(len, v->ranges[i].start - addr);
    }
    return len;
}

static void read_device(const struct flat_range *r, uint64_t addr, uint8_t *to, uint64_t len)
{
    while (len) {
        unsigned n = aligned_piece(addr, len, 4);
        ram_store(to, mem_range_read(r, addr, n), n);
        addr += n;
        to += n;
        len -= n;
    }
}

static void write_device(const struct flat_range *r, uint64_t addr, const uint8_t *from, uint64_t len)
{
    while (len) {
        unsigned n = aligned_piece(addr, len, 4);
        mem_range_write(r, addr, ram_load(from, n), n);
        addr += n;
        from += n;
        len -= n;
    }
}

bool address_space_read(struct address_space *as, uint64_t addr, void *buf, uint64_t len)
{
    g_assert(vm_locked());
    /* Held: a write to a device may change the map under us. */
    struct flat_view *v = flat_view_get(as->view);
    uint8_t *to = buf;
    bool ok = true;
    while (len) {
        const struct flat_range *r = flat_view_find(v, addr);
        uint64_t n = stretch(v, r, addr, len);
        if (!r) {
            log_hole(addr, n, false);
            memset(to, 0xff, n);
            ok = false;
        } else if (r->host) {
            ram_copy(to, r->host + (addr - r->start), n);
        } else {
            read_device(r, addr, to, n);
        }
        addr += n;
        to += n;
        len -= n;
    }
    flat_view_put(v);
    return ok;
}

bool address_space_write(struct address_space *as, uint64_t addr, const void *buf, uint64_t len)
{
    g_assert(vm_locked());
    struct flat_view *v = flat_view_get(as->view);
    const uint8_t *from = buf;
    bool ok = true;
    while (len) {
        const struct flat_range *r = flat_view_find(v, addr);
        uint64_t n = stretch(v, r, addr, len);
        if (!r) {
            log_hole(addr, n, true);
            ok = false;
        } else if (r->host && !r->read_only) {
            ram_copy(r->host + (addr - r->start), from, n);
            ram_note_write(r->region->ram, flat_range_ram_offset(r, addr), n);
        } else if (r->region->ops) {
            write_device(r, addr, from, n);
        } else {
            ok = false;
        }
        addr += n;
        from += n;
        len -= n;
    }
    flat_view_put(v);
    return ok;
}

uint8_t *address_space_ram(struct address_space *as, uint64_t addr, uint64_t *len, bool write)
{
    g_assert(vm_locked());
    const struct flat_range *r = flat_view_find(as->view, addr);
    if (!r || !r->host || *len == 0 || (write && r->read_only))
        return NULL;
    *len = stretch(as->view, r, addr, *len);
    if (write)
        ram_note_write(r->region->ram, flat_range_ram_offset(r, addr), *len);
    return r->host + (addr - r->start);
}
