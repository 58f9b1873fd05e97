/*
 * Fuzz target: a virtio disk over PCI. Registers of both interfaces are read and written at random; what else a driver does
 * comes in larger steps: a device made ready, chains with plausible requests, bytes changed in rings and headers, kicks.
 */
#include "hw/backend/blk.h"
#include "tests/lib/device_fuzz.h"
#include "tests/lib/virtio_test.h"

#define RINGS 0x100000
#define HEADERS 0x10000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct state {
    struct virtio_test t;
    struct driver_ring ring;
    unsigned n;
};

static void make_ready(struct state *s, uint32_t random)
{
    uint64_t features = virtio_test_offered(&s->t) & ~((uint64_t)(random & 6) << 27);
    if (!(random & 1))
        features &= ~(UINT64_C(1) << 34);
    virtio_test_msix(&s->t, random & 8);
    virtio_test_negotiate(&s->t, features);
    driver_ring_init(&s->ring, s->t.m, features >> 34 & 1, 16, RINGS);
    virtio_test_queue(&s->t, 0, &s->ring);
    virtio_test_go(&s->t);
}

static void add_request(struct state *s, uint32_t random)
{
    struct machine *m = s->t.m;
    uint64_t header = HEADERS + 32 * (s->n++ % 16);
    unsigned type = random & 15, more = random >> 4 & 3, n = 1;
    struct driver_buffer b[5] = { { header, 16, false } };
    if (s->ring.size != 16)
        return;
    test_write(m, header, type, 8);
    test_write(m, header + 8, random >> 6 & 0x3ff, 8);
    for (unsigned i = 0; i < more; i++)
        b[n++] = (struct driver_buffer){ 0x20000 + (random >> 8 & 0xffff), 512u << (random >> 30), !(type & 1) };
    b[n++] = (struct driver_buffer){ header + 16, 1 + (random >> 16 & 1), true };
    driver_add(&s->ring, b, n, random >> 17 & 1 ? 0x80000 + 256 * (s->n % 16) : 0);
}

static void poke(struct device_fuzz *f, uint32_t random)
{
    struct state *s = f->opaque;
    uint32_t what = random >> 3;
    switch (random & 7) {
    case 0: make_ready(s, what); break;
    case 1:
    case 2: add_request(s, what); break;
    case 3: virtio_test_kick(&s->t, 0); break;
    case 4: test_write(s->t.m, RINGS + (what & 0x3ff), what >> 10, 2); break;
    case 5: test_write(s->t.m, HEADERS + (what & 0x1ff), what >> 9, 4); break;
    case 6: test_outl(s->t.m, VT_PORTS + (what & 0x3c), what >> 6); break;
    case 7: blk_drain(blk_find(s->t.m, "disk")); break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct state s = { .n = 0 };
    virtio_test_begin(&s.t, "packed=on,queue-size=16", "aio=threads,discard=unmap");
    struct device_fuzz f = { .m = s.t.m, .chip = s.t.dev, .poke = poke, .opaque = &s, .base = VT_MODERN, .size = 0x4000 };
    if (size && data[0] & 1)
        f.size = 0x40;
    make_ready(&s, size ? data[0] : 0);
    device_fuzz_input(&f, data, size);
    virtio_test_end(&s.t);
    return 0;
}
