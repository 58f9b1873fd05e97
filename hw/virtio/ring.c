/*
 * Virtqueues, the device's side (Virtual I/O Device (VIRTIO) 1.2: 2.6 virtqueues, 2.7 split, 2.8 packed; for legacy
 * drivers the same with another layout).
 *
 * Descriptors may name RAM only; a chain that names a device's registers or a hole is an error. Nothing of a chain is
 * believed before it was copied: the driver's processors run while we read.
 *
 * Order, which the processors of the host must keep, too: the index or flag that makes descriptors available is read
 * before them; used descriptors are written before the index or flag that gives them back; and that before we look whether
 * an interrupt is wanted (the driver does the same the other way round, so one of both sees the other).
 *
 * Not offered: in-order use, notification data, ring reset. Under the VM lock.
 */
#include "hw/virtio/ring.h"

#include "hw/core/memory.h"
#include "hw/core/ram_access.h"
#include "hw/core/state.h"

#include <string.h>

#define DESC_SIZE 16
#define ADDRESS_MAX (UINT64_MAX - DESC_SIZE * VIRTIO_RING_MAX)
#define DESC_NEXT 1
#define DESC_WRITE 2
#define DESC_INDIRECT 4
#define DESC_AVAIL 0x80   /* packed only */
#define DESC_USED 0x8000

#define AVAIL_NO_INTERRUPT 1

/* Event suppression of packed rings. */
#define EVENT_ENABLE 0
#define EVENT_DISABLE 1
#define EVENT_DESC 2
#define EVENT_WRAP 0x8000

struct virtio_memory {
    struct ram_block *block;
    uint64_t offset;
    size_t len;
};

struct desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next; /* packed: `next` is the id */
};

static void *fail(struct virtio_ring *r, const char *what)
{
    if (!r->error)
        r->error = what;
    return NULL;
}

/* --- Guest memory ------------------------------------------------------------------------------------------------- */

/* Writable RAM for `len` bytes of the ring itself, which is contiguous; or an error. */
static uint8_t *ring_ram(struct virtio_ring *r, uint64_t addr, unsigned len, const struct flat_range **range)
{
    const struct flat_range *f = flat_view_find(r->memory->view, addr);
    if (!f || !f->host || f->read_only || len - 1 > f->last - addr)
        return fail(r, "a ring lies outside RAM");
    *range = f;
    return f->host + (addr - f->start);
}

static uint64_t get(struct virtio_ring *r, uint64_t addr, unsigned size)
{
    const struct flat_range *f;
    const uint8_t *p = ring_ram(r, addr, size, &f);
    return p ? ram_load(p, size) : 0;
}

static void put(struct virtio_ring *r, uint64_t addr, uint64_t value, unsigned size)
{
    const struct flat_range *f;
    uint8_t *p = ring_ram(r, addr, size, &f);
    if (!p)
        return;
    ram_store(p, value, size);
    ram_note_write(f->region->ram, flat_range_ram_offset(f, addr), size);
}

static bool get_desc(struct virtio_ring *r, uint64_t table, unsigned index, struct desc *d)
{
    const struct flat_range *f;
    const uint8_t *p = ring_ram(r, table + (uint64_t)index * DESC_SIZE, DESC_SIZE, &f);
    if (!p)
        return false;
    d->addr = ram_load64(p);
    d->len = ram_load32(p + 8);
    /* A split descriptor has flags and then next, a packed one its id and then flags. */
    d->flags = ram_load16(p + (r->packed ? 14 : 12));
    d->next = ram_load16(p + (r->packed ? 12 : 14));
    return true;
}

/* Where the driver may see and say things of a split ring. */
static uint64_t used_event_addr(const struct virtio_ring *r)
{
    return r->driver + 4 + 2 * (uint64_t)r->size;
}

static uint64_t avail_event_addr(const struct virtio_ring *r)
{
    return r->device + 4 + 8 * (uint64_t)r->size;
}

/* --- From descriptors to memory of the host ----------------------------------------------------------------------- */

/* A chain while it is being read. */
struct builder {
    struct virtio_ring *ring;
    unsigned out, in;
    size_t out_bytes, in_bytes;
    struct iovec iov[VIRTIO_CHAIN_MAX]; /* out, then in */
    struct virtio_memory ram[VIRTIO_CHAIN_MAX]; /* of in */
};

static bool add_piece(struct builder *b, uint64_t addr, uint64_t len, bool write, uint64_t *done)
{
    const struct flat_range *f = flat_view_find(b->ring->memory->view, addr);
    unsigned n = b->out + b->in;
    if (!f || !f->host || (write && f->read_only))
        return fail(b->ring, "a descriptor names memory that is not RAM");
    if (n == VIRTIO_CHAIN_MAX)
        return fail(b->ring, "a chain has too many pieces");
    *done = MIN(len - 1, f->last - addr) + 1;
    b->iov[n] = (struct iovec){ f->host + (addr - f->start), *done };
    if (write) {
        b->ram[b->in++] = (struct virtio_memory){ f->region->ram, flat_range_ram_offset(f, addr), *done };
        b->in_bytes += *done;
    } else {
        b->out++;
        b->out_bytes += *done;
    }
    return true;
}

static bool add_buffer(struct builder *b, const struct desc *d)
{
    bool write = d->flags & DESC_WRITE;
    uint64_t addr = d->addr, left = d->len, done;
    if (!left)
        return fail(b->ring, "a descriptor of no bytes");
    if (addr + (left - 1) < addr)
        return fail(b->ring, "a descriptor goes round the end of memory");
    if (!write && b->in)
        return fail(b->ring, "a descriptor to be read stands behind one to be written");
    if (b->out_bytes + b->in_bytes + left > UINT32_MAX)
        return fail(b->ring, "a chain of more than 4 GiB");
    for (; left; left -= done, addr += done) {
        if (!add_piece(b, addr, left, write, &done))
            return false;
    }
    return true;
}

/* The buffers of a table that an indirect descriptor names. */
static bool add_table(struct builder *b, const struct desc *table)
{
    struct virtio_ring *r = b->ring;
    unsigned count = table->len / DESC_SIZE, i = 0, seen = 0;
    struct desc d;
    if (!r->indirect)
        return fail(r, "an indirect descriptor without the feature");
    if (!table->len || table->len % DESC_SIZE || (table->flags & DESC_NEXT))
        return fail(r, "a broken indirect descriptor");
    do {
        if (i >= count || seen++ == MIN(count, VIRTIO_CHAIN_MAX))
            return fail(r, "an indirect table leads out of itself, has a loop or is too long");
        if (!get_desc(r, table->addr, i, &d))
            return false;
        if (d.flags & DESC_INDIRECT)
            return fail(r, "an indirect descriptor within an indirect table");
        if (!add_buffer(b, &d))
            return false;
        i = r->packed ? i + 1 : d.next;
    } while (r->packed ? i < count : d.flags & DESC_NEXT);
    return true;
}

/* All of a split chain; `count` of it is not needed. */
static bool read_split(struct builder *b, uint16_t head)
{
    struct virtio_ring *r = b->ring;
    struct desc d;
    unsigned seen = 0;
    uint16_t i = head;
    do {
        if (i >= r->size || seen++ == r->size)
            return fail(r, "a chain leads out of the ring or has a loop");
        if (!get_desc(r, r->desc, i, &d))
            return false;
        if (d.flags & DESC_INDIRECT)
            return add_table(b, &d);
        if (!add_buffer(b, &d))
            return false;
        i = d.next;
    } while (d.flags & DESC_NEXT);
    return true;
}

static bool read_packed(struct builder *b, uint16_t position, uint16_t *id, uint16_t *count)
{
    struct virtio_ring *r = b->ring;
    struct desc d;
    unsigned seen = 0;
    do {
        if (seen == r->size)
            return fail(r, "a chain is longer than the ring");
        if (!get_desc(r, r->desc, (position + seen) % r->size, &d))
            return false;
        seen++;
        if ((d.flags & DESC_INDIRECT) ? !add_table(b, &d) : !add_buffer(b, &d))
            return false;
    } while (d.flags & DESC_NEXT);
    *id = d.next;
    *count = (uint16_t)seen;
    return true;
}

static void *build(const struct builder *b, size_t size, struct virtio_chain from)
{
    struct virtio_chain *c = g_malloc0(size);
    *c = from;
    c->ring = b->ring;
    c->out_count = b->out;
    c->in_count = b->in;
    c->out_bytes = b->out_bytes;
    c->in_bytes = b->in_bytes;
    c->in_ram_count = b->in;
    /* One allocation for all three; `in_ram` is its beginning, as the device moves the ends of the others. */
    size_t ram = b->in * sizeof(b->ram[0]);
    uint8_t *p = g_malloc(ram + (b->out + b->in) * sizeof(b->iov[0]));
    c->in_ram = (struct virtio_memory *)(void *)p;
    c->out = (struct iovec *)(void *)(p + ram);
    c->in = c->out + b->out;
    memcpy(c->in_ram, b->ram, ram);
    memcpy(c->out, b->iov, (b->out + b->in) * sizeof(b->iov[0]));
    return c;
}

void virtio_chain_free(struct virtio_chain *c)
{
    g_free(c->in_ram);
    g_free(c);
}

void *virtio_ring_take_at(struct virtio_ring *r, uint16_t position, size_t size)
{
    struct builder b;
    struct virtio_chain c = { .position = position, .id = position, .count = 1 };
    b.ring = r;
    b.out = b.in = 0;
    b.out_bytes = b.in_bytes = 0;
    if (r->error || !r->enabled || position >= r->size)
        return NULL;
    if (r->packed ? !read_packed(&b, position, &c.id, &c.count) : !read_split(&b, position))
        return NULL;
    return build(&b, size, c);
}

/* --- Taking ------------------------------------------------------------------------------------------------------- */

static bool packed_available(struct virtio_ring *r)
{
    uint16_t flags = (uint16_t)get(r, r->desc + (uint64_t)r->avail * DESC_SIZE + 14, 2);
    if (r->error || !(flags & DESC_AVAIL) != !r->avail_wrap || !(flags & DESC_USED) != !!r->avail_wrap)
        return false;
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return true;
}

static bool split_available(struct virtio_ring *r, uint16_t *head)
{
    uint16_t index = (uint16_t)get(r, r->driver + 2, 2), there = (uint16_t)(index - r->avail);
    if (r->error || !there)
        return false;
    if (there > r->size) {
        fail(r, "the available index made a leap");
        return false;
    }
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    *head = (uint16_t)get(r, r->driver + 4 + 2 * (uint64_t)(r->avail % r->size), 2);
    if (*head >= r->size)
        fail(r, "the available ring names a descriptor outside the ring");
    return !r->error;
}

static bool anything_available(struct virtio_ring *r)
{
    return r->packed ? packed_available(r) : (uint16_t)get(r, r->driver + 2, 2) != r->avail;
}

void *virtio_ring_take(struct virtio_ring *r, size_t size)
{
    uint16_t position = r->avail;
    if (r->error || !r->enabled || !(r->packed ? packed_available(r) : split_available(r, &position)))
        return NULL;
    if (r->in_use >= r->size)
        return fail(r, "more chains than the ring has entries");
    struct virtio_chain *c = virtio_ring_take_at(r, position, size);
    if (!c)
        return NULL;
    r->in_use++;
    if (!r->packed) {
        r->avail++;
        return c;
    }
    r->avail += c->count;
    if (r->avail >= r->size) {
        r->avail -= r->size;
        r->avail_wrap = !r->avail_wrap;
    }
    return c;
}

bool virtio_ring_rearm(struct virtio_ring *r)
{
    if (r->error || !r->enabled || !r->event_index)
        return false; /* notifications are never switched off */
    if (r->packed) {
        put(r, r->device, r->avail | (r->avail_wrap ? EVENT_WRAP : 0), 2);
        __atomic_thread_fence(__ATOMIC_RELEASE);
        put(r, r->device + 2, EVENT_DESC, 2);
    } else {
        put(r, avail_event_addr(r), r->avail, 2);
    }
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return r->error || anything_available(r);
}

/* --- Putting back ------------------------------------------------------------------------------------------------- */

static void put_packed(struct virtio_ring *r, const struct virtio_chain *c, uint32_t written)
{
    uint64_t at = r->desc + (uint64_t)r->used * DESC_SIZE;
    put(r, at + 12, c->id, 2);
    put(r, at + 8, written, 4);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    put(r, at + 14, (r->used_wrap ? DESC_AVAIL | DESC_USED : 0) | (written ? DESC_WRITE : 0), 2);
    r->used += c->count;
    if (r->used >= r->size) {
        r->used -= r->size;
        r->used_wrap = !r->used_wrap;
        r->signalled_valid = false;
    }
}

static void put_split(struct virtio_ring *r, const struct virtio_chain *c, uint32_t written)
{
    uint64_t at = r->device + 4 + 8 * (uint64_t)(r->used % r->size);
    put(r, at, c->id, 4);
    put(r, at + 4, written, 4);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    r->used++;
    put(r, r->device + 2, r->used, 2);
    /* Once round: the place where the driver was last asked is no measure any more. */
    if ((uint16_t)(r->used - r->signalled) > r->size)
        r->signalled_valid = false;
}

void virtio_ring_put(struct virtio_ring *r, struct virtio_chain *c, uint32_t written)
{
    g_assert(c->ring == r);
    /* What was written there came past the processors' eyes: whoever watches these pages hears of it now. */
    for (unsigned i = 0; i < c->in_ram_count; i++)
        ram_note_write(c->in_ram[i].block, c->in_ram[i].offset, c->in_ram[i].len);
    if (r->error || !r->enabled || !r->in_use)
        return;
    r->in_use--;
    if (r->packed)
        put_packed(r, c, written);
    else
        put_split(r, c, written);
}

/* --- Interrupts --------------------------------------------------------------------------------------------------- */

/* Has `used` passed `event` on its way from `old`? (VIRTIO 1.2, 2.7.10) */
static bool passed(uint16_t event, uint16_t used, uint16_t old)
{
    return (uint16_t)(used - event - 1) < (uint16_t)(used - old);
}

static bool packed_wants(struct virtio_ring *r, uint16_t old, bool valid)
{
    uint16_t flags = (uint16_t)get(r, r->driver + 2, 2);
    if (flags != EVENT_DESC || !r->event_index)
        return flags != EVENT_DISABLE;
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    uint16_t event = (uint16_t)get(r, r->driver, 2), at = event & ~EVENT_WRAP;
    if (!(event & EVENT_WRAP) != !r->used_wrap)
        at -= r->size;
    return !valid || passed(at, r->used, old);
}

bool virtio_ring_wants_interrupt(struct virtio_ring *r)
{
    if (r->error || !r->enabled)
        return false;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    uint16_t old = r->signalled;
    bool valid = r->signalled_valid;
    r->signalled = r->used;
    r->signalled_valid = true;
    if (r->packed)
        return packed_wants(r, old, valid);
    if (!r->event_index)
        return !(get(r, r->driver, 2) & AVAIL_NO_INTERRUPT);
    uint16_t event = (uint16_t)get(r, used_event_addr(r), 2);
    return !valid || passed(event, r->used, old);
}

/* --- Life --------------------------------------------------------------------------------------------------------- */

const struct state_field virtio_ring_fields[] = {
    STATE_FIELD(STATE_U16, struct virtio_ring, size),
    STATE_FIELD(STATE_BOOL, struct virtio_ring, enabled),
    STATE_FIELD(STATE_BOOL, struct virtio_ring, packed),
    STATE_FIELD(STATE_BOOL, struct virtio_ring, event_index),
    STATE_FIELD(STATE_BOOL, struct virtio_ring, indirect),
    STATE_FIELD(STATE_U64, struct virtio_ring, desc),
    STATE_FIELD(STATE_U64, struct virtio_ring, driver),
    STATE_FIELD(STATE_U64, struct virtio_ring, device),
    STATE_FIELD(STATE_U16, struct virtio_ring, avail),
    STATE_FIELD(STATE_U16, struct virtio_ring, used),
    STATE_FIELD(STATE_BOOL, struct virtio_ring, avail_wrap),
    STATE_FIELD(STATE_BOOL, struct virtio_ring, used_wrap),
    STATE_FIELD(STATE_U16, struct virtio_ring, signalled),
    STATE_FIELD(STATE_BOOL, struct virtio_ring, signalled_valid),
    STATE_FIELD(STATE_U32, struct virtio_ring, in_use),
    STATE_FIELDS_END,
};

void virtio_ring_reset(struct virtio_ring *r)
{
    *r = (struct virtio_ring){ .memory = r->memory, .max_size = r->max_size, .size = r->max_size };
}

/* Its parts do not go round the end of memory, too: below, addresses are just added. */
static bool is_right(const struct virtio_ring *r)
{
    return r->size && r->size <= r->max_size && (r->packed || !(r->size & (r->size - 1))) &&
           MAX(r->desc, MAX(r->driver, r->device)) <= ADDRESS_MAX;
}

bool virtio_ring_enable(struct virtio_ring *r)
{
    if (!is_right(r))
        return false;
    r->avail = r->used = 0;
    r->avail_wrap = r->used_wrap = r->packed;
    r->signalled = 0;
    r->signalled_valid = false;
    r->in_use = 0;
    r->enabled = true;
    return true;
}

bool virtio_ring_loaded(struct virtio_ring *r)
{
    r->error = NULL;
    if (!r->enabled)
        return r->size <= r->max_size;
    return is_right(r) && r->in_use <= r->size && (!r->packed || (r->avail < r->size && r->used < r->size));
}

/* --- Bytes of a chain --------------------------------------------------------------------------------------------- */

static size_t copy(const struct iovec *iov, unsigned count, size_t offset, uint8_t *buf, size_t len, bool to_iov)
{
    size_t done = 0;
    for (unsigned i = 0; i < count && done < len; i++) {
        if (offset >= iov[i].iov_len) {
            offset -= iov[i].iov_len;
            continue;
        }
        size_t n = MIN(iov[i].iov_len - offset, len - done);
        uint8_t *p = (uint8_t *)iov[i].iov_base + offset;
        ram_copy(to_iov ? p : buf + done, to_iov ? buf + done : p, n);
        offset = 0;
        done += n;
    }
    return done;
}

size_t virtio_iov_read(const struct iovec *iov, unsigned count, size_t offset, void *buf, size_t len)
{
    return copy(iov, count, offset, buf, len, false);
}

size_t virtio_iov_write(const struct iovec *iov, unsigned count, size_t offset, const void *buf, size_t len)
{
    return copy(iov, count, offset, (uint8_t *)(uintptr_t)buf, len, true);
}

void virtio_iov_drop_front(struct iovec **iov, unsigned *count, size_t len)
{
    while (len) {
        g_assert(*count);
        size_t n = MIN(len, (*iov)->iov_len);
        (*iov)->iov_base = (uint8_t *)(*iov)->iov_base + n;
        (*iov)->iov_len -= n;
        len -= n;
        if (!(*iov)->iov_len) {
            (*iov)++;
            (*count)--;
        }
    }
}

void virtio_iov_drop_back(struct iovec *iov, unsigned *count, size_t len)
{
    while (len) {
        g_assert(*count);
        struct iovec *last = &iov[*count - 1];
        size_t n = MIN(len, last->iov_len);
        last->iov_len -= n;
        len -= n;
        if (!last->iov_len)
            (*count)--;
    }
}
