/* The driver of the chips' fuzz targets: see device_fuzz.h. */
#include "tests/lib/device_fuzz.h"

#include <string.h>

struct bytes {
    const uint8_t *data;
    size_t left;
};

/* The next `n` bytes as a number; what is missing is 0. */
static uint64_t take(struct bytes *in, unsigned n)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < n && in->left; i++, in->left--)
        value |= (uint64_t)*in->data++ << 8 * i;
    return value;
}

void device_fuzz_init(struct device_fuzz *f)
{
    *f = (struct device_fuzz){ .m = test_machine_new() };
}

static void make_access(struct device_fuzz *f, struct bytes *in, bool write)
{
    unsigned size = 1u << (take(in, 1) & 3);
    uint64_t addr = f->base + take(in, 2) % f->size;
    struct address_space *as = f->ports ? &f->m->ports : &f->m->memory;
    if (write)
        address_space_store(as, addr, take(in, size), size);
    else
        address_space_load(as, addr, size);
}

static void one(struct device_fuzz *f, struct bytes *in)
{
    uint8_t op = take(in, 1);
    switch (op & 7) {
    case 0:
    case 1:
    case 2: make_access(f, in, true); break;
    case 3: make_access(f, in, false); break;
    case 4: test_step(f->m, take(in, 1) << (op >> 3 & 15)); break; /* up to 8 ms */
    case 5: irq_set(&f->in[op >> 3], take(in, 1) & 1); break;
    case 6:
        if (f->poke)
            f->poke(f, take(in, 4));
        break;
    case 7: test_state_roundtrip(f->chip); break;
    }
}

void device_fuzz_input(struct device_fuzz *f, const uint8_t *data, size_t size)
{
    struct bytes in = { data, size };
    while (in.left)
        one(f, &in);
    test_state_roundtrip(f->chip);
}

void device_fuzz_run(struct device_fuzz *f, const uint8_t *data, size_t size)
{
    bus_reset(f->m->system_bus);
    device_fuzz_input(f, data, size);
    test_machine_free(f->m);
}
