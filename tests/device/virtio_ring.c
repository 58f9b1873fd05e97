/*
 * Virtqueues without a device: a driver written from the specification against hw/virtio/ring.c; wrap-around, indirect
 * descriptors, interrupts as the driver wants them, and what hostile drivers write.
 */
#include "hw/virtio/ring.h"
#include "tests/lib/device_test.h"
#include "tests/lib/virtio_driver.h"

#include <string.h>

#define RAM_SIZE (4 << 20)
#define RING_BASE 0x100000
#define TABLES 0x200000 /* indirect ones */
#define DATA 0x10000

enum { NEXT = 1, WRITE = 2, INDIRECT = 4 };

struct fixture {
    struct machine *m;
    struct virtio_ring r;
    struct driver_ring d;
    GRand *rand;
};

static void start(struct fixture *f, bool packed, unsigned size, bool event_index)
{
    f->r = (struct virtio_ring){ .memory = &f->m->memory, .max_size = MAX(size, 4) };
    virtio_ring_reset(&f->r);
    driver_ring_init(&f->d, f->m, packed, size, RING_BASE);
    f->r.size = size;
    f->r.packed = packed;
    f->r.event_index = event_index;
    f->r.indirect = true;
    f->r.desc = f->d.desc;
    f->r.driver = f->d.driver;
    f->r.device = f->d.device;
    g_assert_true(virtio_ring_enable(&f->r));
}

static void set_up(struct fixture *f)
{
    f->m = test_machine_new();
    test_add_ram(f->m, RAM_SIZE);
    f->rand = g_rand_new_with_seed(7);
}

static void tear_down(struct fixture *f)
{
    g_rand_free(f->rand);
    test_machine_free(f->m);
}

/* --- Any number of chains, in any order --------------------------------------------------------------------------- */

struct sent {
    struct driver_buffer b[8];
    unsigned n;
    uint8_t stamp;
    int table; /* -1: none */
};

/* Tables that are in no chain. */
static bool table_used[DRIVER_RING_MAX + 1];

static int free_table(void)
{
    int i = 0;
    while (table_used[i])
        i++;
    return i;
}

static void send(struct fixture *f, struct sent *sent, uint8_t stamp)
{
    struct sent s = { .n = g_rand_int_range(f->rand, 1, 9), .stamp = stamp, .table = -1 };
    unsigned out = g_rand_int_range(f->rand, 0, s.n + 1);
    if (g_rand_boolean(f->rand))
        s.table = free_table();
    for (unsigned i = 0; i < s.n; i++)
        s.b[i] = (struct driver_buffer){ DATA + stamp * 0x400 + i * 0x80, g_rand_int_range(f->rand, 1, 0x80), i >= out };
    for (unsigned i = 0; i < out; i++)
        test_write(f->m, s.b[i].addr, stamp, 1);
    int id = driver_add(&f->d, s.b, s.n, s.table < 0 ? 0 : TABLES + s.table * 0x80);
    if (id < 0)
        return;
    sent[id] = s;
    if (s.table >= 0)
        table_used[s.table] = true;
}

/* What the device was given is what was sent under that id. */
static void check_chain(const struct sent *s, const struct virtio_chain *c)
{
    const struct iovec *iov = c->out;
    unsigned out = 0;
    for (unsigned i = 0; i < s->n; i++) {
        if (s->b[i].write && iov == c->out + out)
            iov = c->in;
        g_assert_cmpuint(iov->iov_len, ==, s->b[i].len);
        if (!s->b[i].write) {
            g_assert_cmphex(*(uint8_t *)iov->iov_base, ==, s->stamp);
            out++;
        }
        iov++;
    }
    g_assert_cmpuint(c->out_count, ==, out);
    g_assert_cmpuint(c->in_count, ==, s->n - out);
}

static void exchange(struct fixture *f, bool packed, unsigned size, unsigned rounds)
{
    struct virtio_chain *taken[DRIVER_RING_MAX];
    struct sent sent[DRIVER_RING_MAX];
    uint32_t expected[DRIVER_RING_MAX];
    unsigned n = 0, id, came = 0;
    uint32_t written;
    memset(table_used, 0, sizeof(table_used));
    start(f, packed, size, true);
    for (unsigned round = 0; round < rounds; round++) {
        switch (g_rand_int_range(f->rand, 0, 4)) {
        case 0: send(f, sent, round); break;
        case 1: {
            struct virtio_chain *c = virtio_ring_take(&f->r, sizeof(*c));
            g_assert_null(f->r.error);
            if (c) {
                check_chain(&sent[c->id], c);
                taken[n++] = c;
            }
            break;
        }
        case 2:
            if (n) {
                unsigned k = g_rand_int_range(f->rand, 0, n);
                struct virtio_chain *c = taken[k];
                expected[c->id] = c->in_bytes ? g_rand_int_range(f->rand, 0, c->in_bytes + 1) : 0;
                virtio_ring_put(&f->r, c, expected[c->id]);
                virtio_chain_free(c);
                taken[k] = taken[--n];
            }
            break;
        default:
            if (driver_get(&f->d, &id, &written)) {
                g_assert_cmpuint(written, ==, expected[id]);
                if (sent[id].table >= 0)
                    table_used[sent[id].table] = false;
                came++;
            }
        }
    }
    g_assert_cmpuint(came, >, rounds / 10);
    while (n)
        virtio_chain_free(taken[--n]);
}

static void test_exchange(void)
{
    static const unsigned sizes[] = { 8, 64, 1024 }, packed_sizes[] = { 8, 9, 13, 100, 1024 };
    struct fixture f;
    set_up(&f);
    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++)
        exchange(&f, false, sizes[i], i ? 40000 : 600000); /* once far enough for the index to come round */
    for (unsigned i = 0; i < G_N_ELEMENTS(packed_sizes); i++)
        exchange(&f, true, packed_sizes[i], 40000);
    tear_down(&f);
}

/* --- Interrupts and notifications --------------------------------------------------------------------------------- */

static bool cycle(struct fixture *f, unsigned n)
{
    static const struct driver_buffer b = { DATA, 16, true };
    for (unsigned i = 0; i < n; i++) {
        g_assert_cmpint(driver_add(&f->d, &b, 1, 0), >=, 0);
        struct virtio_chain *c = virtio_ring_take(&f->r, sizeof(*c));
        g_assert_nonnull(c);
        virtio_ring_put(&f->r, c, 1);
        virtio_chain_free(c);
    }
    return virtio_ring_wants_interrupt(&f->r);
}

static void collect(struct fixture *f)
{
    unsigned id;
    uint32_t written;
    while (driver_get(&f->d, &id, &written))
        ;
}

static void check_interrupts(struct fixture *f, bool packed)
{
    start(f, packed, 16, false);
    g_assert_true(cycle(f, 1));
    g_assert_true(cycle(f, 2));
    driver_want_never(&f->d);
    g_assert_false(cycle(f, 3));
    driver_want_each(&f->d);
    g_assert_true(cycle(f, 1));

    start(f, packed, 16, true);
    cycle(f, 1); /* the first question is always answered with yes */
    collect(f);
    for (unsigned round = 0; round < 2000; round++) {
        unsigned after = g_rand_int_range(f->rand, 1, 8), done = 0, before = f->d.used;
        driver_want_after(&f->d, after);
        while (done < after) {
            unsigned n = g_rand_int_range(f->rand, 1, after - done + 1);
            bool wants = cycle(f, n), wrapped = (before + done) % 16 + n >= 16;
            done += n;
            if (done >= after)
                g_assert_true(wants);
            else if (!packed || !wrapped) /* where a packed ring begins anew one interrupt too many is allowed */
                g_assert_false(wants);
        }
        collect(f);
    }
}

static void test_interrupts(void)
{
    struct fixture f;
    set_up(&f);
    check_interrupts(&f, false);
    check_interrupts(&f, true);
    tear_down(&f);
}

static void test_rearm(void)
{
    static const struct driver_buffer b = { DATA, 16, true };
    struct fixture f;
    set_up(&f);
    for (int packed = 0; packed < 2; packed++) {
        start(&f, packed, 16, true);
        for (unsigned i = 0; i < 40; i++) {
            cycle(&f, 1);
            collect(&f);
            g_assert_false(virtio_ring_rearm(&f.r));
            if (packed) {
                g_assert_cmphex(test_read(f.m, f.d.device + 2, 2), ==, 2);
                g_assert_cmphex(test_read(f.m, f.d.device, 2), ==, f.d.avail | (f.d.avail_wrap ? 0x8000 : 0));
            } else {
                g_assert_cmphex(test_read(f.m, f.d.device + 4 + 8 * 16, 2), ==, f.d.avail);
            }
        }
        driver_add(&f.d, &b, 1, 0);
        g_assert_true(virtio_ring_rearm(&f.r));
    }
    tear_down(&f);
}

/* --- Pages that somebody watches ---------------------------------------------------------------------------------- */

static void test_watched(void)
{
    static const struct driver_buffer b = { DATA, 0x1800, true };
    struct fixture f;
    set_up(&f);
    start(&f, false, 16, false);
    driver_add(&f.d, &b, 1, 0);
    struct virtio_chain *c = virtio_ring_take(&f.r, sizeof(*c));
    ram_watch(f.m->ram, DATA, 0x2000, DIRTY_CODE);
    uint32_t first = f.m->ram->code_gen[DATA >> PAGE_BITS], second = f.m->ram->code_gen[(DATA >> PAGE_BITS) + 1];
    virtio_ring_put(&f.r, c, 0x1800);
    virtio_chain_free(c);
    g_assert_cmpuint(f.m->ram->code_gen[DATA >> PAGE_BITS], >, first);
    g_assert_cmpuint(f.m->ram->code_gen[(DATA >> PAGE_BITS) + 1], >, second);
    tear_down(&f);
}

/* --- Hostile drivers ---------------------------------------------------------------------------------------------- */

struct desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
};

static void put_desc(struct fixture *f, uint64_t table, unsigned i, struct desc d)
{
    uint64_t at = table + 16 * i;
    bool packed = f->d.packed;
    test_write(f->m, at, d.addr, 8);
    test_write(f->m, at + 8, d.len, 4);
    test_write(f->m, at + (packed ? 14 : 12), d.flags | (packed && table == f->d.desc ? 0x80 : 0), 2);
    test_write(f->m, at + (packed ? 12 : 14), d.next, 2);
}

static void expect_error(struct fixture *f, const char *words)
{
    if (!f->d.packed) {
        test_write(f->m, f->d.driver + 4, 0, 2);
        test_write(f->m, f->d.driver + 2, 1, 2);
    }
    void *c = virtio_ring_take(&f->r, sizeof(struct virtio_chain));
    g_assert_null(c);
    g_assert_nonnull(f->r.error);
    if (!strstr(f->r.error, words))
        g_error("'%s' instead of '%s'", f->r.error, words);
    g_assert_null(virtio_ring_take(&f->r, sizeof(struct virtio_chain)));
    g_assert_false(virtio_ring_rearm(&f->r));
}

/* Chains whose first descriptors are in the ring, and those of an indirect table at TABLES. */
static const struct {
    const char *words;
    struct desc ring[3], table[3];
    int only; /* 1: split, 2: packed */
} hostile[] = {
    { "no bytes", { { DATA, 0, 0, 0 } }, { { 0 } }, 0 },
    { "not RAM", { { RAM_SIZE, 16, 0, 0 } }, { { 0 } }, 0 },
    { "not RAM", { { RAM_SIZE - 8, 16, WRITE, 0 } }, { { 0 } }, 0 },
    { "not RAM", { { 0xfee00000, 16, WRITE, 0 } }, { { 0 } }, 0 },
    { "round the end", { { UINT64_MAX - 7, 16, 0, 0 } }, { { 0 } }, 0 },
    { "behind one to be written", { { DATA, 16, WRITE | NEXT, 1 }, { DATA, 16, 0, 0 } }, { { 0 } }, 0 },
    { "loop", { { DATA, 16, NEXT, 1 }, { DATA, 16, NEXT, 0 } }, { { 0 } }, 1 },
    { "out of the ring", { { DATA, 16, NEXT, 16 } }, { { 0 } }, 1 },
    { "out of the ring", { { DATA, 16, NEXT, 0xffff } }, { { 0 } }, 1 },
    { "broken indirect", { { TABLES, 0, INDIRECT, 0 } }, { { 0 } }, 0 },
    { "broken indirect", { { TABLES, 17, INDIRECT, 0 } }, { { 0 } }, 0 },
    { "broken indirect", { { TABLES, 16, INDIRECT | NEXT, 1 }, { DATA, 16, 0, 0 } }, { { DATA, 16, 0, 0 } }, 0 },
    { "outside RAM", { { RAM_SIZE, 32, INDIRECT, 0 } }, { { 0 } }, 0 },
    { "within an indirect", { { TABLES, 16, INDIRECT, 0 } }, { { TABLES, 16, INDIRECT, 0 } }, 0 },
    { "out of itself", { { TABLES, 32, INDIRECT, 0 } }, { { DATA, 16, NEXT, 2 } }, 1 },
    { "has a loop", { { TABLES, 32, INDIRECT, 0 } }, { { DATA, 16, NEXT, 1 }, { DATA, 16, NEXT, 0 } }, 1 },
    { "behind one to be written", { { TABLES, 32, INDIRECT, 0 } }, { { DATA, 9, WRITE | NEXT, 1 }, { DATA, 9, 0, 0 } }, 0 },
    { "no bytes", { { TABLES, 32, INDIRECT, 0 } }, { { DATA, 9, NEXT, 1 }, { DATA, 0, 0, 0 } }, 0 },
    { "behind one to be written", { { DATA, 16, WRITE | NEXT, 1 }, { TABLES, 16, INDIRECT, 0 } }, { { DATA, 4, 0, 0 } }, 0 },
};

static void test_hostile(void)
{
    struct fixture f;
    set_up(&f);
    for (int packed = 0; packed < 2; packed++) {
        for (unsigned i = 0; i < G_N_ELEMENTS(hostile); i++) {
            if (hostile[i].only == (packed ? 1 : 2))
                continue;
            start(&f, packed, 16, false);
            for (unsigned k = 0; k < 3; k++) {
                put_desc(&f, TABLES, k, hostile[i].table[k]);
                if (k == 0 || hostile[i].ring[k].len)
                    put_desc(&f, f.d.desc, k, hostile[i].ring[k]);
            }
            expect_error(&f, hostile[i].words);
        }
    }
    tear_down(&f);
}

/* What needs more than three descriptors, or is about the ring itself. */
static void test_hostile_rings(void)
{
    struct fixture f;
    set_up(&f);
    for (int packed = 0; packed < 2; packed++) {
        start(&f, packed, 16, false); /* not negotiated */
        f.r.indirect = false;
        put_desc(&f, f.d.desc, 0, (struct desc){ TABLES, 16, INDIRECT, 0 });
        expect_error(&f, "without the feature");

        start(&f, packed, 16, false); /* all descriptors and more, of almost 4 GiB */
        for (unsigned i = 0; i < 16; i++)
            put_desc(&f, f.d.desc, i, (struct desc){ DATA, 16, NEXT, i + 1 });
        expect_error(&f, packed ? "longer than the ring" : "out of the ring");

        start(&f, packed, 16, false); /* a huge table */
        put_desc(&f, f.d.desc, 0, (struct desc){ TABLES, 0xfffffff0, INDIRECT, 0 });
        for (unsigned i = 0; i < 1100; i++)
            put_desc(&f, TABLES, i, (struct desc){ DATA, 1, NEXT, i + 1 });
        expect_error(&f, "too long");

        static const uint64_t bad[] = { RAM_SIZE, RAM_SIZE - 2, 0xfee00000 };
        for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
            start(&f, packed, 16, true);
            f.r.desc = bad[i];
            expect_error(&f, "outside RAM");
            start(&f, packed, 16, true);
            f.r.device = bad[i];
            virtio_ring_rearm(&f.r);
            g_assert_nonnull(f.r.error);
            start(&f, packed, 16, true);
            f.r.driver = bad[i];
            virtio_ring_wants_interrupt(&f.r);
            g_assert_nonnull(f.r.error);
        }
    }
    start(&f, false, 16, false);
    test_write(f.m, f.d.driver + 2, 17, 2);
    g_assert_null(virtio_ring_take(&f.r, sizeof(struct virtio_chain)));
    g_assert_nonnull(strstr(f.r.error, "leap"));
    start(&f, false, 16, false);
    test_write(f.m, f.d.driver + 4, 16, 2);
    test_write(f.m, f.d.driver + 2, 1, 2);
    g_assert_null(virtio_ring_take(&f.r, sizeof(struct virtio_chain)));
    g_assert_nonnull(strstr(f.r.error, "outside the ring"));
    /* The same chain again and again. */
    start(&f, false, 16, false);
    put_desc(&f, f.d.desc, 0, (struct desc){ DATA, 16, WRITE, 0 });
    struct virtio_chain *c[17];
    for (unsigned i = 0; i < 17; i++) {
        test_write(f.m, f.d.driver + 2, i + 1, 2);
        c[i] = virtio_ring_take(&f.r, sizeof(struct virtio_chain));
        g_assert_cmpint(c[i] != NULL, ==, i < 16);
    }
    g_assert_nonnull(strstr(f.r.error, "more chains"));
    for (unsigned i = 0; i < 16; i++) {
        virtio_ring_put(&f.r, c[i], 1);
        virtio_chain_free(c[i]);
    }
    tear_down(&f);
}

static void test_sizes(void)
{
    struct virtio_ring r = { .max_size = 256 };
    static const struct { unsigned size; bool split, packed; } sizes[] = {
        { 0, false, false }, { 1, true, true }, { 3, false, true }, { 256, true, true }, { 257, false, false } };
    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
        for (int packed = 0; packed < 2; packed++) {
            virtio_ring_reset(&r);
            r.size = sizes[i].size;
            r.packed = packed;
            g_assert_cmpint(virtio_ring_enable(&r), ==, packed ? sizes[i].packed : sizes[i].split);
        }
    }
    for (unsigned i = 0; i < 3; i++) {
        virtio_ring_reset(&r);
        *(i == 0 ? &r.desc : i == 1 ? &r.driver : &r.device) = UINT64_MAX - 100;
        g_assert_false(virtio_ring_enable(&r));
    }
}

static void test_bytes(void)
{
    char text[] = "abcdefgh", other[9] = { 0 };
    struct iovec iov[3] = { { text, 3 }, { text + 3, 1 }, { text + 4, 4 } }, *first = iov;
    unsigned count = 3;
    g_assert_cmpuint(virtio_iov_read(iov, 3, 2, other, 9), ==, 6);
    g_assert_cmpstr(other, ==, "cdefgh");
    g_assert_cmpuint(virtio_iov_write(iov, 3, 3, "XY", 2), ==, 2);
    g_assert_cmpstr(text, ==, "abcXYfgh");
    virtio_iov_drop_front(&first, &count, 4);
    g_assert_cmpuint(count, ==, 1);
    virtio_iov_drop_back(first, &count, 1);
    g_assert_cmpuint(virtio_iov_read(first, count, 0, other, 9), ==, 3);
    virtio_iov_drop_back(first, &count, 3);
    g_assert_cmpuint(count, ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/virtio_ring/exchange", test_exchange);
    g_test_add_func("/virtio_ring/interrupts", test_interrupts);
    g_test_add_func("/virtio_ring/rearm", test_rearm);
    g_test_add_func("/virtio_ring/watched", test_watched);
    g_test_add_func("/virtio_ring/hostile", test_hostile);
    g_test_add_func("/virtio_ring/hostile-rings", test_hostile_rings);
    g_test_add_func("/virtio_ring/sizes", test_sizes);
    g_test_add_func("/virtio_ring/bytes", test_bytes);
    return g_test_run();
}
