/*
 * virtio-blk over PCI, by a driver of the test's own: negotiation through both interfaces and the configuration capability,
 * every kind of request, interrupts by message and by pin, errors, reset with requests under way, saved state.
 */
#include "hw/backend/blk.h"
#include "hw/virtio/virtio_blk.h"
#include "tests/lib/virtio_test.h"

#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define RINGS 0x100000
#define HEADER 0x10000 /* of the request in slot n: 16 bytes each; its status behind all of them */
#define STATUS 0x18000
#define DATA 0x20000

enum { IN = 0, OUT = 1, FLUSH = 4, GET_ID = 8, DISCARD = 11, WRITE_ZEROES = 13 };
enum { OK = 0, IOERR = 1, UNSUPP = 2 };
#define VERSION_1 (UINT64_C(1) << 32)
#define EVENT_IDX (UINT64_C(1) << 29)
#define PACKED (UINT64_C(1) << 34)
#define F(n) (UINT64_C(1) << (n))

struct driver {
    struct virtio_test t;
    struct driver_ring ring;
    unsigned slot;
};

static void start(struct driver *d, const char *props, const char *drive, uint64_t without)
{
    virtio_test_begin(&d->t, props, drive);
    uint64_t offered = virtio_test_offered(&d->t);
    virtio_test_msix(&d->t, true);
    g_assert_true(virtio_test_negotiate(&d->t, offered & ~without));
    driver_ring_init(&d->ring, d->t.m, offered & ~without & PACKED, 16, RINGS);
    virtio_test_queue(&d->t, 0, &d->ring);
    virtio_test_go(&d->t);
    d->slot = 0;
}

/* Makes a request available; its slot. `data` bytes are at DATA. */
static unsigned add(struct driver *d, uint32_t type, uint64_t sector, uint32_t data, bool in)
{
    struct machine *m = d->t.m;
    unsigned slot = d->slot++ % 16;
    test_write(m, HEADER + 16 * slot, type, 8);
    test_write(m, HEADER + 16 * slot + 8, sector, 8);
    test_write(m, STATUS + slot, 0xee, 1);
    struct driver_buffer b[3] = { { HEADER + 16 * slot, 16, false } };
    unsigned n = 1;
    if (data)
        b[n++] = (struct driver_buffer){ DATA, data, in };
    b[n++] = (struct driver_buffer){ STATUS + slot, 1, true };
    g_assert_cmpint(driver_add(&d->ring, b, n, 0), >=, 0);
    return slot;
}

/* A request and its status. */
static unsigned run(struct driver *d, uint32_t type, uint64_t sector, uint32_t data, bool in)
{
    unsigned slot = add(d, type, sector, data, in), id;
    uint32_t written;
    virtio_test_kick(&d->t, 0);
    virtio_test_wait(&d->t, &d->ring, &id, &written);
    unsigned status = test_read(d->t.m, STATUS + slot, 1);
    if (status == OK)
        g_assert_cmpuint(written, ==, (in ? type == GET_ID ? MIN(data, 20) : data : 0) + 1);
    return status;
}

static void fill(struct driver *d, uint32_t len, unsigned seed)
{
    for (uint32_t i = 0; i < len; i += 4)
        test_write(d->t.m, DATA + i, seed * 0x01010101u + i * 7, 4);
}

static void check_disk(struct driver *d, uint64_t offset, uint32_t len, unsigned seed)
{
    for (uint32_t i = 0; i < len; i += 4) {
        uint32_t v;
        g_assert_cmpint(pread(d->t.disk.fd, &v, 4, offset + i), ==, 4);
        g_assert_cmphex(v, ==, seed * 0x01010101u + i * 7);
    }
}

/* --- Requests ----------------------------------------------------------------------------------------------------- */

static void put_range(struct driver *d, uint64_t sector, uint32_t count, uint32_t flags)
{
    test_write(d->t.m, DATA, sector, 8);
    test_write(d->t.m, DATA + 8, count, 4);
    test_write(d->t.m, DATA + 12, flags, 4);
}

static void check_clear(struct driver *d, uint32_t type)
{
    fill(d, 8192, 3);
    g_assert_cmpuint(run(d, OUT, 64, 8192, false), ==, OK);
    put_range(d, 64, 8, type == DISCARD ? 0 : 1);
    g_assert_cmpuint(run(d, type, 0, 16, false), ==, OK);
    g_assert_cmpuint(run(d, IN, 64, 8192, true), ==, OK);
    for (unsigned i = 0; i < 4096; i += 8)
        g_assert_cmphex(test_read(d->t.m, DATA + i, 8), ==, 0);
    g_assert_cmphex(test_read(d->t.m, DATA + 4096, 4), ==, 3 * 0x01010101u + 4096 * 7);
    put_range(d, VT_DISK_SIZE / 512 - 1, 2, 0);
    g_assert_cmpuint(run(d, type, 0, 16, false), ==, IOERR);
    put_range(d, UINT64_MAX, 1, 0);
    g_assert_cmpuint(run(d, type, 0, 16, false), ==, IOERR);
    put_range(d, 0, 0x400000, 0);
    g_assert_cmpuint(run(d, type, 0, 16, false), ==, IOERR);
    put_range(d, 0, 1, 2);
    g_assert_cmpuint(run(d, type, 0, 16, false), ==, UNSUPP);
    g_assert_cmpuint(run(d, type, 0, 32, false), ==, UNSUPP);
    g_assert_cmpuint(run(d, type, 0, 0, false), ==, IOERR);
}

static void check_requests(struct driver *d)
{
    fill(d, 65536, 1);
    g_assert_cmpuint(run(d, OUT, 8, 65536, false), ==, OK);
    check_disk(d, 4096, 65536, 1);
    fill(d, 65536, 2);
    g_assert_cmpuint(run(d, IN, 8, 65536, true), ==, OK);
    for (unsigned i = 0; i < 65536; i += 4)
        g_assert_cmphex(test_read(d->t.m, DATA + i, 4), ==, 0x01010101u + i * 7);
    g_assert_cmpuint(run(d, FLUSH, 0, 0, false), ==, OK);

    g_assert_cmpuint(run(d, IN, VT_DISK_SIZE / 512 - 1, 512, true), ==, OK);
    g_assert_cmpuint(run(d, IN, VT_DISK_SIZE / 512 - 1, 1024, true), ==, IOERR);
    g_assert_cmpuint(run(d, OUT, VT_DISK_SIZE / 512, 512, false), ==, IOERR);
    g_assert_cmpuint(run(d, IN, UINT64_MAX, 512, true), ==, IOERR);
    g_assert_cmpuint(run(d, IN, UINT64_MAX / 512 + 1, 512, true), ==, IOERR);
    g_assert_cmpuint(run(d, IN, 0, 500, true), ==, IOERR);
    g_assert_cmpuint(run(d, 99, 0, 512, true), ==, UNSUPP);
    g_assert_cmpuint(run(d, 2, 0, 512, true), ==, UNSUPP);

    g_assert_cmpuint(run(d, GET_ID, 0, 20, true), ==, OK);
    char id[21] = { 0 };
    address_space_read(&d->t.m->memory, DATA, id, 20);
    g_assert_cmpstr(id, ==, "SERIAL 1");
    test_write(d->t.m, DATA + 3, 0x77, 1);
    g_assert_cmpuint(run(d, GET_ID, 0, 3, true), ==, OK);
    g_assert_cmphex(test_read(d->t.m, DATA + 3, 1), ==, 0x77);
    check_clear(d, WRITE_ZEROES);
    check_clear(d, DISCARD);
}

static void test_requests(void)
{
    struct driver d;
    start(&d, "serial=SERIAL 1", "discard=unmap", 0);
    check_requests(&d);
    virtio_test_end(&d.t);
    start(&d, "serial=SERIAL 1,packed=on", "discard=unmap", 0);
    g_assert_true(d.ring.packed);
    check_requests(&d);
    virtio_test_end(&d.t);
    start(&d, "serial=SERIAL 1", "discard=unmap", EVENT_IDX | F(28));
    check_requests(&d);
    virtio_test_end(&d.t);
    start(&d, NULL, "discard=unmap", F(13) | F(14)); /* not negotiated */
    g_assert_cmpuint(run(&d, DISCARD, 0, 16, false), ==, UNSUPP);
    g_assert_cmpuint(run(&d, WRITE_ZEROES, 0, 16, false), ==, UNSUPP);
    virtio_test_end(&d.t);
}

static void test_read_only(void)
{
    struct driver d;
    start(&d, NULL, "readonly=on", 0);
    g_assert_cmphex(virtio_test_offered(&d.t) & (F(5) | F(13) | F(14)), ==, F(5));
    g_assert_cmpuint(run(&d, IN, 0, 512, true), ==, OK);
    g_assert_cmpuint(run(&d, OUT, 0, 512, false), ==, IOERR);
    virtio_test_end(&d.t);
}

/* Header, data and status cut up as nobody would, and more than one queue. */
static void test_layout_and_queues(void)
{
    struct driver d;
    struct driver_ring second;
    unsigned id;
    uint32_t written;
    virtio_test_begin(&d.t, "num-queues=2", "");
    struct machine *m = d.t.m;
    virtio_test_msix(&d.t, true);
    g_assert_true(virtio_test_negotiate(&d.t, virtio_test_offered(&d.t)));
    g_assert_cmpuint(virtio_test_read(&d.t, VT_NUM_QUEUES, 2), ==, 2);
    g_assert_cmpuint(virtio_test_read(&d.t, VT_CONFIG + 34, 2), ==, 2);
    driver_ring_init(&d.ring, m, false, 16, RINGS);
    driver_ring_init(&second, m, false, 8, RINGS + 0x10000);
    virtio_test_queue(&d.t, 0, &d.ring);
    virtio_test_queue(&d.t, 1, &second);
    virtio_test_go(&d.t);
    fill(&(struct driver){ .t = d.t }, 512, 5);
    test_write(m, HEADER, OUT, 8);
    test_write(m, HEADER + 8, 3, 8);
    struct driver_buffer out[] = { { HEADER, 3, false }, { HEADER + 3, 13, false }, { DATA, 100, false },
                                   { DATA + 100, 412, false }, { STATUS, 1, true } };
    driver_add(&second, out, 5, 0);
    virtio_test_kick(&d.t, 1);
    virtio_test_wait(&d.t, &second, &id, &written);
    g_assert_cmpuint(d.t.vectors[0x42], ==, 1);
    g_assert_cmpuint(d.t.vectors[0x41], ==, 0);
    check_disk(&d, 3 * 512, 512, 5);
    /* Header and data in one, data and status in one. */
    test_write(m, HEADER, IN, 8);
    struct driver_buffer in[] = { { HEADER, 16, false }, { 0x30000, 511, true }, { 0x30000 + 511, 2, true } };
    driver_add(&d.ring, in, 3, 0);
    virtio_test_kick(&d.t, 0);
    virtio_test_wait(&d.t, &d.ring, &id, &written);
    g_assert_cmpuint(written, ==, 513);
    g_assert_cmphex(test_read(m, 0x30000, 4), ==, 5 * 0x01010101u);
    g_assert_cmphex(test_read(m, 0x30000 + 512, 1), ==, OK);
    g_assert_cmpuint(d.t.vectors[0x41], ==, 1);
    virtio_test_end(&d.t);
}

/* --- Configuration and negotiation -------------------------------------------------------------------------------- */

static void test_config(void)
{
    struct driver d;
    start(&d, "logical_block_size=1024,physical_block_size=4096,min_io_size=4096,opt_io_size=65536,queue-size=128", "", 0);
    struct virtio_test *t = &d.t;
    static const struct { unsigned at, size; uint64_t value; } fields[] = {
        { 0, 4, VT_DISK_SIZE / 512 }, { 4, 4, 0 }, { 12, 4, 126 }, { 18, 1, 16 }, { 19, 1, 63 }, { 20, 4, 1024 },
        { 24, 1, 2 }, { 26, 2, 4 }, { 28, 4, 64 }, { 32, 1, 1 }, { 34, 2, 1 }, { 52, 4, 1 }, { 60, 4, 0 } };
    for (unsigned i = 0; i < G_N_ELEMENTS(fields); i++)
        g_assert_cmphex(virtio_test_read(t, VT_CONFIG + fields[i].at, fields[i].size), ==, fields[i].value);
    g_assert_cmpuint(run(&d, IN, 1, 1024, true), ==, IOERR); /* not at a block */
    g_assert_cmpuint(run(&d, IN, 2, 512, true), ==, IOERR);
    g_assert_cmpuint(run(&d, IN, 2, 1024, true), ==, OK);

    /* The write cache is the only thing that can be written. */
    struct blk *b = blk_find(t->m, "disk");
    virtio_test_write(t, VT_CONFIG + 32, 0, 1);
    g_assert_false(blk_write_cache(b));
    g_assert_cmphex(virtio_test_read(t, VT_CONFIG + 32, 1), ==, 0);
    virtio_test_write(t, VT_CONFIG, 0xffff, 4);
    g_assert_cmphex(virtio_test_read(t, VT_CONFIG, 4), ==, VT_DISK_SIZE / 512);
    virtio_test_write(t, VT_STATUS, 0, 1);
    g_assert_true(blk_write_cache(b)); /* as the drive was made */

    /* A driver that cannot flush. */
    g_assert_true(virtio_test_negotiate(t, VERSION_1));
    g_assert_false(blk_write_cache(b));
    g_assert_true(virtio_test_negotiate(t, VERSION_1 | F(9)));
    g_assert_true(blk_write_cache(b));
    virtio_test_end(t);
}

static void test_negotiation(void)
{
    struct virtio_test t;
    virtio_test_begin(&t, NULL, "");
    g_assert_cmphex(virtio_test_conf(&t, 0, 4), ==, 0x10011af4);
    g_assert_cmphex(virtio_test_conf(&t, PCI_SUBSYSTEM_ID, 2), ==, 2);
    g_assert_cmphex(virtio_test_conf(&t, PCI_CLASS_DEVICE, 2), ==, 0x0100);
    uint64_t offered = virtio_test_offered(&t);
    g_assert_cmphex(offered & (VERSION_1 | EVENT_IDX | F(28) | PACKED | F(27)), ==, VERSION_1 | EVENT_IDX | F(28));
    g_assert_false(virtio_test_negotiate(&t, offered & ~VERSION_1)); /* has to be a legacy driver */
    g_assert_true(virtio_test_negotiate(&t, offered));
    virtio_test_write(&t, VT_DRIVER_FEATURE, 0, 4); /* too late */
    virtio_test_write(&t, VT_DRIVER_FEATURE_SELECT, 1, 4);
    g_assert_cmphex(virtio_test_read(&t, VT_DRIVER_FEATURE, 4), ==, offered >> 32);
    g_assert_true(virtio_test_negotiate(&t, offered | F(20) | F(40))); /* what is not offered is not taken */
    virtio_test_write(&t, VT_DRIVER_FEATURE_SELECT, 0, 4);
    g_assert_cmphex(virtio_test_read(&t, VT_DRIVER_FEATURE, 4), ==, offered & UINT32_MAX);
    virtio_test_write(&t, VT_DEVICE_FEATURE_SELECT, 2, 4);
    g_assert_cmphex(virtio_test_read(&t, VT_DEVICE_FEATURE, 4), ==, 0);

    virtio_test_write(&t, VT_QUEUE_SELECT, 1, 2); /* there is but one */
    g_assert_cmpuint(virtio_test_read(&t, VT_QUEUE_SIZE, 2), ==, 0);
    virtio_test_write(&t, VT_QUEUE_SELECT, 0, 2);
    g_assert_cmpuint(virtio_test_read(&t, VT_QUEUE_SIZE, 2), ==, 256);
    virtio_test_write(&t, VT_QUEUE_SIZE, 512, 2);
    g_assert_cmpuint(virtio_test_read(&t, VT_QUEUE_SIZE, 2), ==, 256);
    virtio_test_write(&t, VT_QUEUE_VECTOR, 2, 2); /* two vectors: 0 and 1 */
    g_assert_cmphex(virtio_test_read(&t, VT_QUEUE_VECTOR, 2), ==, 0xffff);
    virtio_test_write(&t, VT_QUEUE_VECTOR, 1, 2);
    g_assert_cmphex(virtio_test_read(&t, VT_QUEUE_VECTOR, 2), ==, 1);
    virtio_test_write(&t, VT_QUEUE_DESC, 0x123456789000, 8);
    g_assert_cmphex(virtio_test_read(&t, VT_QUEUE_DESC, 4), ==, 0x56789000);
    g_assert_cmphex(virtio_test_read(&t, VT_QUEUE_DESC + 4, 4), ==, 0x1234);
    virtio_test_write(&t, VT_QUEUE_ENABLE, 1, 2);
    virtio_test_write(&t, VT_QUEUE_DESC, 0, 8); /* too late */
    g_assert_cmphex(virtio_test_read(&t, VT_QUEUE_DESC + 4, 4), ==, 0x1234);
    test_state_roundtrip(t.dev);
    virtio_test_end(&t);
}

/* Everything once more through the capability in config space: common configuration, and the disk's size. */
static void test_config_access(void)
{
    struct virtio_test t;
    unsigned types = 0, window = 0;
    virtio_test_begin(&t, "disable-legacy=on", "");
    g_assert_cmphex(virtio_test_conf(&t, 0, 4), ==, 0x10421af4);
    for (unsigned at = virtio_test_conf(&t, PCI_CAPABILITY_LIST, 1); at; at = virtio_test_conf(&t, at + 1, 1)) {
        if (virtio_test_conf(&t, at, 1) != 9)
            continue;
        unsigned type = virtio_test_conf(&t, at + 3, 1);
        types |= 1u << type;
        if (type == 5)
            window = at;
        else
            g_assert_cmphex(virtio_test_conf(&t, at + 4, 1), ==, 4);
    }
    g_assert_cmphex(types, ==, 0x3e);
    virtio_test_set_conf(&t, window + 4, 4, 1);
    virtio_test_set_conf(&t, window + 8, VT_CONFIG, 4);
    virtio_test_set_conf(&t, window + 12, 4, 4);
    g_assert_cmphex(virtio_test_conf(&t, window + 16, 4), ==, VT_DISK_SIZE / 512);
    virtio_test_set_conf(&t, window + 8, VT_STATUS, 4);
    virtio_test_set_conf(&t, window + 12, 1, 4);
    virtio_test_set_conf(&t, window + 16, 3, 1);
    g_assert_cmphex(virtio_test_read(&t, VT_STATUS, 1), ==, 3);
    g_assert_cmphex(virtio_test_conf(&t, window + 16, 1), ==, 3);
    /* Out of the BAR, no size, another BAR. */
    virtio_test_set_conf(&t, window + 8, 0x4000, 4);
    virtio_test_set_conf(&t, window + 16, 0, 1);
    virtio_test_set_conf(&t, window + 8, UINT32_MAX, 4);
    virtio_test_set_conf(&t, window + 16, 0, 1);
    virtio_test_set_conf(&t, window + 8, VT_STATUS, 4);
    virtio_test_set_conf(&t, window + 12, 3, 4);
    virtio_test_set_conf(&t, window + 16, 0, 1);
    virtio_test_set_conf(&t, window + 12, 1, 4);
    virtio_test_set_conf(&t, window + 4, 1, 1);
    virtio_test_set_conf(&t, window + 16, 0, 1);
    g_assert_cmphex(virtio_test_read(&t, VT_STATUS, 1), ==, 3);
    virtio_test_end(&t);
}

/* --- The legacy interface ----------------------------------------------------------------------------------------- */

static void test_legacy(void)
{
    struct driver d;
    unsigned id;
    uint32_t written;
    virtio_test_begin(&d.t, "disable-modern=on,queue-size=16", "");
    struct machine *m = d.t.m;
    d.slot = 0;
    g_assert_cmphex(virtio_test_conf(&d.t, 0, 4), ==, 0x10011af4);
    g_assert_cmphex(virtio_test_conf(&d.t, 0x20, 4), ==, 0); /* no BAR 4 */
    uint32_t offered = test_inl(m, VT_PORTS);
    g_assert_cmphex(offered & (EVENT_IDX | F(28) | F(27)), ==, EVENT_IDX | F(28) | F(27));
    test_outb(m, VT_PORTS + 18, 0);
    test_outb(m, VT_PORTS + 18, 3);
    test_outl(m, VT_PORTS + 4, offered & ~EVENT_IDX);
    g_assert_cmphex(test_inl(m, VT_PORTS + 4), ==, offered & ~EVENT_IDX);
    test_outw(m, VT_PORTS + 14, 1);
    g_assert_cmpuint(test_inw(m, VT_PORTS + 12), ==, 0);
    test_outw(m, VT_PORTS + 14, 0);
    g_assert_cmpuint(test_inw(m, VT_PORTS + 12), ==, 16);
    driver_ring_init(&d.ring, m, false, 16, RINGS);
    test_outl(m, VT_PORTS + 8, RINGS >> 12);
    g_assert_cmphex(test_inl(m, VT_PORTS + 8), ==, RINGS >> 12);
    g_assert_cmphex(test_inl(m, VT_PORTS + 20), ==, VT_DISK_SIZE / 512);
    virtio_test_msix(&d.t, true); /* moves the configuration */
    g_assert_cmphex(test_inl(m, VT_PORTS + 24), ==, VT_DISK_SIZE / 512);
    test_outw(m, VT_PORTS + 22, 1);
    g_assert_cmphex(test_inw(m, VT_PORTS + 22), ==, 1);
    virtio_test_msix(&d.t, false);
    test_outb(m, VT_PORTS + 18, 7);

    fill(&d, 512, 9);
    add(&d, OUT, 1, 512, false);
    test_outw(m, VT_PORTS + 16, 0);
    virtio_test_wait(&d.t, &d.ring, &id, &written);
    check_disk(&d, 512, 512, 9);
    g_assert_true(d.t.pci->intx);
    g_assert_cmphex(test_inb(m, VT_PORTS + 19), ==, 1);
    g_assert_false(d.t.pci->intx);
    g_assert_cmphex(test_inb(m, VT_PORTS + 19), ==, 0);
    virtio_test_msix(&d.t, true);
    test_outw(m, VT_PORTS + 22, 1);
    add(&d, IN, 1, 512, true);
    test_outw(m, VT_PORTS + 16, 0);
    virtio_test_wait(&d.t, &d.ring, &id, &written);
    g_assert_cmpuint(d.t.vectors[0x41], ==, 1);
    g_assert_false(d.t.pci->intx);
    test_state_roundtrip(d.t.dev);
    test_outl(m, VT_PORTS + 8, 0);
    g_assert_cmphex(test_inl(m, VT_PORTS + 8), ==, 0);
    test_outw(m, VT_PORTS + 16, 0); /* nobody there any more */
    virtio_test_end(&d.t);
}

/* --- Interrupts --------------------------------------------------------------------------------------------------- */

static void test_interrupts(void)
{
    struct driver d;
    start(&d, NULL, "", EVENT_IDX);
    g_assert_cmpuint(run(&d, IN, 0, 512, true), ==, OK);
    g_assert_cmpuint(d.t.vectors[0x41], ==, 1);
    driver_want_never(&d.ring);
    g_assert_cmpuint(run(&d, IN, 0, 512, true), ==, OK);
    g_assert_cmpuint(d.t.vectors[0x41], ==, 1);
    driver_want_each(&d.ring);

    /* Masked: pending, and sent when it is unmasked. */
    test_write(d.t.m, VT_MSIX + 16 + 12, 1, 4);
    g_assert_cmpuint(run(&d, IN, 0, 512, true), ==, OK);
    g_assert_cmpuint(d.t.vectors[0x41], ==, 1);
    g_assert_cmphex(test_read(d.t.m, VT_MSIX + 0x800, 4), ==, 2);
    test_state_roundtrip(d.t.dev);
    test_write(d.t.m, VT_MSIX + 16 + 12, 0, 4);
    g_assert_cmpuint(d.t.vectors[0x41], ==, 2);
    g_assert_cmphex(test_read(d.t.m, VT_MSIX + 0x800, 4), ==, 0);

    /* Without MSI-X: the pin, until the status is read. */
    virtio_test_msix(&d.t, false);
    g_assert_cmpuint(virtio_test_read(&d.t, VT_ISR, 1), ==, 1);
    g_assert_cmpuint(run(&d, IN, 0, 512, true), ==, OK);
    g_assert_true(d.t.pci->intx);
    g_assert_cmpuint(virtio_test_read(&d.t, VT_ISR, 1), ==, 1);
    g_assert_false(d.t.pci->intx);

    /* The disk grows. */
    virtio_test_msix(&d.t, true);
    GError *err = NULL;
    unsigned generation = virtio_test_read(&d.t, VT_GENERATION, 1);
    g_assert_true(blk_resize(blk_find(d.t.m, "disk"), 2 * VT_DISK_SIZE, &err));
    g_assert_cmpuint(d.t.vectors[0x40], ==, 1);
    g_assert_cmpuint(virtio_test_read(&d.t, VT_ISR, 1), ==, 2);
    g_assert_cmpuint(virtio_test_read(&d.t, VT_GENERATION, 1), !=, generation);
    g_assert_cmpuint(virtio_test_read(&d.t, VT_CONFIG, 4), ==, 2 * VT_DISK_SIZE / 512);
    g_assert_cmpuint(run(&d, IN, VT_DISK_SIZE / 512, 512, true), ==, OK);
    virtio_test_end(&d.t);
}

/* --- What goes wrong ---------------------------------------------------------------------------------------------- */

static void test_needs_reset(void)
{
    struct driver d;
    struct driver_buffer b = { VT_RAM_SIZE, 16, false };
    unsigned id;
    uint32_t written;
    start(&d, NULL, "", 0);
    driver_add(&d.ring, &b, 1, 0);
    virtio_test_kick(&d.t, 0);
    g_assert_cmphex(virtio_test_read(&d.t, VT_STATUS, 1), ==, 0x4f);
    g_assert_cmpuint(d.t.vectors[0x40], ==, 1);
    add(&d, IN, 0, 512, true); /* it does nothing any more */
    virtio_test_kick(&d.t, 0);
    blk_drain(blk_find(d.t.m, "disk"));
    g_assert_false(driver_get(&d.ring, &id, &written));
    virtio_test_write(&d.t, VT_STATUS, 15, 1);
    g_assert_cmphex(virtio_test_read(&d.t, VT_STATUS, 1), ==, 0x4f);
    test_state_roundtrip(d.t.dev);
    /* A reset heals it. */
    g_assert_true(virtio_test_negotiate(&d.t, VERSION_1));
    driver_ring_init(&d.ring, d.t.m, false, 16, RINGS);
    virtio_test_queue(&d.t, 0, &d.ring);
    virtio_test_go(&d.t);
    g_assert_cmpuint(run(&d, IN, 0, 512, true), ==, OK);
    /* Neither header nor status. */
    b = (struct driver_buffer){ HEADER, 16, false };
    driver_add(&d.ring, &b, 1, 0);
    virtio_test_kick(&d.t, 0);
    g_assert_cmphex(virtio_test_read(&d.t, VT_STATUS, 1) & 0x40, ==, 0x40);
    virtio_test_end(&d.t);
}

/* Requests under way when the driver, the machine or the user ends it. */
static void test_reset(void)
{
    struct driver d;
    for (int how = 0; how < 3; how++) {
        start(&d, NULL, "", 0);
        for (unsigned i = 0; i < 5; i++)
            add(&d, i & 1 ? OUT : IN, 8 * i, 4096, !(i & 1));
        virtio_test_kick(&d.t, 0);
        g_assert_true(blk_busy(blk_find(d.t.m, "disk")));
        if (how == 0)
            virtio_test_write(&d.t, VT_STATUS, 0, 1);
        else if (how == 1)
            bus_reset(d.t.m->system_bus);
        else
            device_free(d.t.dev);
        g_assert_false(blk_busy(blk_find(d.t.m, "disk")));
        virtio_test_end(&d.t);
    }
}

/* Before DRIVER_OK nothing is taken; then it is, without another kick. */
static void test_driver_ok(void)
{
    struct driver d = { .slot = 0 };
    unsigned id;
    uint32_t written;
    virtio_test_begin(&d.t, NULL, "");
    g_assert_true(virtio_test_negotiate(&d.t, VERSION_1));
    driver_ring_init(&d.ring, d.t.m, false, 16, RINGS);
    virtio_test_queue(&d.t, 0, &d.ring);
    add(&d, IN, 0, 512, true);
    virtio_test_kick(&d.t, 0);
    g_assert_false(blk_busy(blk_find(d.t.m, "disk")));
    virtio_test_go(&d.t);
    virtio_test_wait(&d.t, &d.ring, &id, &written);
    virtio_test_end(&d.t);
}

/* The host's disk is full for a while: nothing can be written behind 512 KiB. */
static void limit_files(uint64_t bytes)
{
    struct rlimit l;
    signal(SIGXFSZ, SIG_IGN);
    g_assert_cmpint(getrlimit(RLIMIT_FSIZE, &l), ==, 0);
    l.rlim_cur = bytes ? bytes : l.rlim_max;
    g_assert_cmpint(setrlimit(RLIMIT_FSIZE, &l), ==, 0);
}

static void test_stop(void)
{
    struct driver d;
    unsigned id, slot;
    uint32_t written;
    start(&d, NULL, "werror=report,aio=threads", 0);
    limit_files(VT_DISK_SIZE / 2);
    g_assert_cmpuint(run(&d, OUT, 1536, 512, false), ==, IOERR);
    limit_files(0);
    virtio_test_end(&d.t);

    start(&d, NULL, "werror=ignore,aio=threads", 0);
    limit_files(VT_DISK_SIZE / 2);
    g_assert_cmpuint(run(&d, OUT, 1536, 512, false), ==, OK);
    limit_files(0);
    virtio_test_end(&d.t);

    start(&d, NULL, "werror=stop,aio=threads", 0);
    fill(&d, 512, 4);
    limit_files(VT_DISK_SIZE / 2);
    slot = add(&d, OUT, 1536, 512, false);
    virtio_test_kick(&d.t, 0);
    blk_drain(blk_find(d.t.m, "disk"));
    g_assert_cmpint(machine_take_request(d.t.m), ==, REQUEST_PAUSE);
    g_assert_false(driver_get(&d.ring, &id, &written));
    test_state_roundtrip(d.t.dev); /* from which it is made anew */
    limit_files(0);
    test_step(d.t.m, NS_PER_SECOND); /* the machine goes on */
    virtio_test_wait(&d.t, &d.ring, &id, &written);
    g_assert_cmphex(test_read(d.t.m, STATUS + slot, 1), ==, OK);
    check_disk(&d, 1536 * 512, 512, 4);
    g_assert_cmpint(machine_take_request(d.t.m), ==, REQUEST_NONE);

    limit_files(VT_DISK_SIZE / 2); /* and a reset forgets it */
    add(&d, OUT, 1536, 512, false);
    virtio_test_kick(&d.t, 0);
    blk_drain(blk_find(d.t.m, "disk"));
    virtio_test_write(&d.t, VT_STATUS, 0, 1);
    limit_files(0);
    test_step(d.t.m, NS_PER_SECOND);
    g_assert_false(blk_busy(blk_find(d.t.m, "disk")));
    virtio_test_end(&d.t);
}

/* --- Properties and accesses of all kinds ------------------------------------------------------------------------- */

static void test_properties(void)
{
    static const struct { const char *name, *value, *words; } wrong[] = {
        { "num-queues", "0", "from 1 to 64" }, { "num-queues", "65", "from 1 to 64" }, { "queue-size", "3", "power of two" },
        { "queue-size", "2048", "power of two" }, { "logical_block_size", "100", "power of two" },
        { "serial", "123456789012345678901", "20 characters" }, { "vectors", "129", "at most 128" },
        { "disable-legacy", "maybe", "disable-legacy" }, { "min_io_size", "100", "multiple" },
        { "opt_io_size", "100", "multiple" }, { "discard_granularity", "0", "multiple" }, { "max-discard-sectors", "0", "from 1" } };
    struct virtio_test t;
    GError *err = NULL;
    virtio_test_begin(&t, NULL, "");
    struct device *second = device_new(&virtio_blk_pci_type, t.bus);
    g_assert_false(device_realize(second, &err));
    g_assert_nonnull(strstr(err->message, "drive=ID is missing"));
    g_clear_error(&err);
    device_free(second);
    second = device_new(&virtio_blk_pci_type, t.bus);
    device_set_prop(second, "drive", "disk", NULL);
    g_assert_false(device_realize(second, &err));
    g_assert_nonnull(strstr(err->message, "used by another device"));
    g_clear_error(&err);
    device_free(second);
    device_free(t.dev);
    for (unsigned i = 0; i < G_N_ELEMENTS(wrong); i++) {
        struct device *d = device_new(&virtio_blk_pci_type, t.bus);
        g_assert_true(device_set_prop(d, "drive", "disk", NULL));
        g_assert_true(device_set_prop(d, wrong[i].name, wrong[i].value, NULL));
        g_assert_false(device_realize(d, &err));
        if (!strstr(err->message, wrong[i].words) || !g_str_has_prefix(err->message, "virtio-blk-pci: "))
            g_error("%s=%s: %s", wrong[i].name, wrong[i].value, err->message);
        g_clear_error(&err);
        device_free(d); /* the drive is free again */
    }
    g_assert_true(device_type_find("virtio-blk") == &virtio_blk_pci_type);
    struct device *d = test_add(&virtio_blk_modern_type, t.bus, "drive=disk", "addr=5", NULL);
    g_assert_cmphex(container_of(d, struct pci_device, dev)->config[2], ==, 0x42);
    device_free(d);
    d = test_add(&virtio_blk_transitional_type, t.bus, "drive=disk", "addr=5", NULL);
    g_assert_cmphex(container_of(d, struct pci_device, dev)->config[2], ==, 0x01);
    virtio_test_end(&t);
}

static void test_pokes(void)
{
    struct driver d;
    for (uint32_t seed = 1; seed < 5; seed++) {
        start(&d, seed & 1 ? "packed=on" : NULL, "", 0);
        test_poke_memory(d.t.m, d.t.dev, seed, 20000, VT_MODERN, 0x4000);
        test_poke_memory(d.t.m, d.t.dev, seed, 20000, VT_MODERN, 0x40);
        test_poke_memory(d.t.m, d.t.dev, seed, 20000, VT_MSIX, 0x1000);
        test_poke_ports(d.t.m, d.t.dev, seed, 20000, VT_PORTS, 0x80);
        virtio_test_end(&d.t);
    }
}

/* A machine that was never used goes on where another was saved. */
static void test_transfer(void)
{
    struct driver d;
    struct virtio_test t;
    unsigned id;
    uint32_t written;
    start(&d, "packed=on", "", 0);
    for (unsigned i = 0; i < 21; i++)
        g_assert_cmpuint(run(&d, IN, 0, 512, true), ==, OK);
    GError *err = NULL;
    GByteArray *state = machine_save(d.t.m, &err);
    g_assert_no_error(err);
    virtio_test_end(&d.t);
    virtio_test_begin(&t, "packed=on", "");
    g_assert_true(machine_load(t.m, state->data, state->len, &err));
    d.t = t;
    d.ring.m = t.m;
    apic_bus_detach(t.m, 0);
    apic_bus_attach(t.m, 0, &d.t.apic);
    add(&d, IN, 0, 512, true);
    virtio_test_kick(&d.t, 0);
    virtio_test_wait(&d.t, &d.ring, &id, &written);
    g_assert_cmpuint(written, ==, 513);
    g_assert_cmpuint(d.t.vectors[0x41], ==, 1);
    g_byte_array_unref(state);
    virtio_test_end(&d.t);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/virtio_blk/requests", test_requests);
    g_test_add_func("/virtio_blk/read-only", test_read_only);
    g_test_add_func("/virtio_blk/layout-and-queues", test_layout_and_queues);
    g_test_add_func("/virtio_blk/config", test_config);
    g_test_add_func("/virtio_blk/negotiation", test_negotiation);
    g_test_add_func("/virtio_blk/config-access", test_config_access);
    g_test_add_func("/virtio_blk/legacy", test_legacy);
    g_test_add_func("/virtio_blk/interrupts", test_interrupts);
    g_test_add_func("/virtio_blk/needs-reset", test_needs_reset);
    g_test_add_func("/virtio_blk/reset", test_reset);
    g_test_add_func("/virtio_blk/driver-ok", test_driver_ok);
    g_test_add_func("/virtio_blk/stop", test_stop);
    g_test_add_func("/virtio_blk/properties", test_properties);
    g_test_add_func("/virtio_blk/pokes", test_pokes);
    g_test_add_func("/virtio_blk/transfer", test_transfer);
    return g_test_run();
}
