/*
 * Fuzz target: virtqueues in memory that is the input. The first bytes choose the kind of ring; then chains are taken, looked
 * at byte by byte and put back, in another order, while more of the input comes to lie in memory.
 */
#include "hw/core/ram_access.h"
#include "hw/virtio/ring.h"
#include "tests/lib/device_test.h"

#include <string.h>

#define RAM_SIZE 0x10000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* All that a chain names must be RAM, in whole, and as long as it says. */
static void touch(const struct machine *m, const struct virtio_chain *c)
{
    size_t bytes[2] = { 0, 0 };
    for (unsigned i = 0; i < c->out_count + c->in_count; i++) {
        const struct iovec *iov = i < c->out_count ? &c->out[i] : &c->in[i - c->out_count];
        uint8_t *p = iov->iov_base;
        g_assert(iov->iov_len && p >= m->ram->host && p + iov->iov_len <= m->ram->host + RAM_SIZE);
        bytes[i >= c->out_count] += iov->iov_len;
    }
    g_assert(bytes[0] == c->out_bytes && bytes[1] == c->in_bytes);
    g_assert(c->out_count + c->in_count <= VIRTIO_CHAIN_MAX);
}

static void run(struct machine *m, struct virtio_ring *r, const uint8_t *data, size_t size)
{
    struct virtio_chain *held[64];
    unsigned n = 0;
    for (size_t at = 0; at < size; at++) {
        uint8_t op = data[at];
        struct virtio_chain *c = op & 1 ? virtio_ring_take(r, sizeof(*c)) : NULL;
        if (c) {
            touch(m, c);
            g_assert(r->in_use <= r->size);
            if (n < G_N_ELEMENTS(held)) {
                held[n++] = c;
            } else {
                virtio_ring_put(r, c, op);
                virtio_chain_free(c);
            }
        }
        if ((op & 6) == 2 && n) {
            unsigned k = op % n;
            c = held[k];
            held[k] = held[--n];
            virtio_ring_put(r, c, op);
            virtio_chain_free(c);
        }
        if ((op & 6) == 4)
            virtio_ring_wants_interrupt(r);
        if ((op & 6) == 6)
            virtio_ring_rearm(r);
        if ((op & 0x18) == 0x18 && at + 4 < size)
            ram_store16(m->ram->host + (data[at + 1] | data[at + 2] << 8) % (RAM_SIZE - 1), data[at + 3]);
    }
    while (n)
        virtio_chain_free(held[--n]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 8)
        return 0;
    struct machine *m = test_machine_new();
    test_add_ram(m, RAM_SIZE);
    struct virtio_ring r = { .memory = &m->memory, .max_size = 64 };
    virtio_ring_reset(&r);
    r.packed = data[0] & 1;
    r.event_index = data[0] & 2;
    r.indirect = data[0] & 4;
    r.size = r.packed ? 1 + data[1] % 64 : 1u << data[1] % 7;
    r.desc = (uint64_t)data[2] << 4;
    r.driver = (uint64_t)data[3] << 4;
    r.device = (uint64_t)data[4] << (data[0] & 8 ? 10 : 4); /* may end in a hole */
    size_t in_memory = MIN(size - 8, 4096);
    for (size_t i = 0; i < in_memory; i++)
        m->ram->host[i] = data[8 + i];
    if (virtio_ring_enable(&r))
        run(m, &r, data + 5, MIN(size - 5, 512));
    test_machine_free(m);
    return 0;
}
