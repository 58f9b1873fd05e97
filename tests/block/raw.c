/*
 * Drives on raw files: random requests against a model in every way of caching and carrying out, bounds, media, locks
 * beside qemu-img's, throttling, options.
 */
#include "tests/lib/blk_test.h"

#include "hw/core/machine.h"
#include "hw/core/opts.h"
#include "hw/core/vm_lock.h"
#include "tests/lib/device_test.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define SIZE (3u << 20)
#define AT_ONCE 24

/* --- Random requests, many at a time, each on a stretch of its own ------------------------------------------------- */

struct random_request {
    struct blk_request r;
    struct iovec iov[5];
    uint8_t *memory;
    bool under_way;
};

struct random_test {
    struct blk *b;
    uint8_t *model;
    struct random_request requests[AT_ONCE];
    unsigned under_way;
    bool zeroed_by_discard;
};

static void random_done(struct blk_request *r, int ret)
{
    struct random_test *t = r->opaque;
    struct random_request *q = container_of(r, struct random_request, r);
    g_assert_cmpint(ret, ==, 0);
    if (r->op == BLK_READ)
        g_assert_cmpmem(q->memory, r->bytes, t->model + r->offset, r->bytes);
    g_free(q->memory);
    q->under_way = false;
    t->under_way--;
}

/* Cuts the memory into pieces of odd lengths. */
static void scatter(struct random_request *q, GRand *rand)
{
    size_t left = q->r.bytes, at = 0;
    unsigned count = 0, pieces = (unsigned)g_rand_int_range(rand, 1, 6);
    while (left) {
        size_t n = count + 1 == pieces ? left : left / 2;
        n = n ? n : left;
        q->iov[count++] = (struct iovec){ q->memory + at, n };
        at += n;
        left -= n;
    }
    q->r.iov = q->iov;
    q->r.iov_count = count;
}

static void submit_random(struct random_test *t, unsigned slot, GRand *rand)
{
    struct random_request *q = &t->requests[slot];
    uint64_t share = SIZE / AT_ONCE / 4096 * 4096, start = share * slot;
    unsigned grain = g_rand_boolean(rand) ? 512 : 4096;
    uint64_t offset = (uint64_t)g_rand_int_range(rand, 0, (int)(share / grain)) * grain;
    uint64_t most = share - offset, bytes = (uint64_t)g_rand_int_range(rand, 1, 20) * grain;
    bytes = MIN(bytes, most);
    static const enum blk_op ops[] = { BLK_READ, BLK_READ, BLK_WRITE, BLK_WRITE, BLK_WRITE_ZEROES, BLK_FLUSH };
    offset += start;
    *q = (struct random_request){ .r = { .op = ops[g_rand_int_range(rand, 0, G_N_ELEMENTS(ops))], .offset = offset,
                                         .bytes = bytes, .done = random_done, .opaque = t } };
    if (q->r.op == BLK_WRITE_ZEROES) {
        q->r.flags = g_rand_boolean(rand) ? BLK_UNMAP : 0;
        memset(t->model + offset, 0, bytes);
    } else if (q->r.op == BLK_FLUSH) {
        q->r.offset = q->r.bytes = 0;
    } else {
        q->r.flags = q->r.op == BLK_WRITE && g_rand_int_range(rand, 0, 4) == 0 ? BLK_FUA : 0;
        q->memory = g_malloc(bytes);
        memset(q->memory, g_rand_int_range(rand, 0, 3), bytes);
        for (unsigned i = 0; i < bytes; i += 100)
            q->memory[i] = (uint8_t)g_rand_int_range(rand, 0, 256);
        scatter(q, rand);
        if (q->r.op == BLK_WRITE)
            memcpy(t->model + offset, q->memory, bytes);
    }
    q->under_way = true;
    t->under_way++;
    blk_submit(t->b, &q->r);
}

static void test_random(gconstpointer options)
{
    const char *path = blk_test_path("random.raw");
    g_autofree char *text = g_strdup_printf("file=%s,format=raw,%s", path, (const char *)options);
    g_autofree uint8_t *read = g_malloc(SIZE);
    GRand *rand = g_rand_new_with_seed(1);
    struct random_test t = { .model = g_malloc0(SIZE) };
    g_assert_true(blk_file_create(path, SIZE, BLK_PREALLOC_OFF, NULL));
    t.b = blk_test_open(text);
    g_assert_cmpuint(blk_size(t.b), ==, SIZE);
    for (unsigned n = 0; n < 3000; n++) {
        unsigned slot = (unsigned)g_rand_int_range(rand, 0, AT_ONCE);
        while (t.requests[slot].under_way)
            g_main_context_iteration(NULL, TRUE);
        submit_random(&t, slot, rand);
        if (n % 500 == 0) {
            blk_drain(t.b);
            g_assert_cmpuint(t.under_way, ==, 0);
            g_assert_false(blk_busy(t.b));
        }
    }
    blk_drain(t.b);
    g_assert_cmpint(blk_test_run(t.b, BLK_READ, 0, 0, read, SIZE), ==, 0);
    g_assert_cmpmem(read, SIZE, t.model, SIZE);
    blk_free(t.b);
    g_autofree char *content = NULL;
    gsize length = 0;
    g_assert_true(g_file_get_contents(path, &content, &length, NULL));
    g_assert_cmpmem(content, length, t.model, SIZE);
    g_assert_cmpint(unlink(path), ==, 0);
    g_free(t.model);
    g_rand_free(rand);
}

/* --- Edges -------------------------------------------------------------------------------------------------------- */

static void write_file(const char *path, const char *text, gssize len)
{
    g_assert_true(g_file_set_contents(path, text, len, NULL));
}

static void test_bounds(void)
{
    const char *path = blk_test_path("bounds.raw");
    g_autofree char *rw = g_strdup_printf("file=%s,format=raw,werror=stop,rerror=ignore", path);
    g_autofree char *ro = g_strdup_printf("file=%s,format=raw,readonly=on", path);
    uint8_t buf[1024];
    memset(buf, 'x', sizeof buf);
    write_file(path, "abc", 3);
    struct blk *b = blk_test_open(rw);
    g_assert_cmpuint(blk_size(b), ==, 512); /* the rest of the sector reads as zeros */
    g_assert_cmpint(blk_test_run(b, BLK_READ, 0, 0, buf, 512), ==, 0);
    g_assert_cmpstr((char *)buf, ==, "abc");
    g_assert_true(blk_is_zero(buf + 3, 509));
    g_assert_cmpint(blk_test_run(b, BLK_READ, 0, 512, buf, 1), ==, -EINVAL);
    g_assert_cmpint(blk_test_run(b, BLK_WRITE, 0, UINT64_MAX, buf, 1), ==, -EINVAL);
    g_assert_cmpint(blk_test_run(b, BLK_WRITE, 0, 511, buf, 2), ==, -EINVAL);
    g_assert_cmpint(blk_test_run(b, BLK_READ, 0, 512, buf, 0), ==, 0);
    g_assert_cmpint(blk_error_action(b, true, -EIO), ==, BLK_ERROR_IGNORE);
    g_assert_cmpint(blk_error_action(b, false, -EIO), ==, BLK_ERROR_STOP);
    GError *err = NULL;
    g_assert_true(blk_resize(b, 4096, &err));
    g_assert_cmpuint(blk_size(b), ==, 4096);
    g_assert_cmpint(blk_test_run(b, BLK_WRITE, BLK_FUA, 4000, buf, 96), ==, 0);
    blk_free(b);

    b = blk_test_open(ro);
    g_assert_true(blk_read_only(b));
    g_assert_cmpint(blk_error_action(b, false, -ENOSPC), ==, BLK_ERROR_STOP);
    g_assert_cmpint(blk_error_action(b, false, -EIO), ==, BLK_ERROR_REPORT);
    g_assert_cmpint(blk_test_run(b, BLK_WRITE, 0, 0, buf, 512), ==, -EROFS);
    g_assert_cmpint(blk_test_run(b, BLK_FLUSH, 0, 0, NULL, 0), ==, 0);
    blk_eject(b);
    g_assert_false(blk_has_medium(b));
    g_assert_cmpint(blk_test_run(b, BLK_READ, 0, 0, buf, 512), ==, -ENOMEDIUM);
    g_assert_true(blk_change(b, path, NULL, &err));
    g_assert_cmpint(blk_test_run(b, BLK_READ, 0, 0, buf, 512), ==, 0);
    blk_free(b);
}

/* What nobody said is raw does not become another format by a guest's hand. */
static void test_probed(void)
{
    const char *path = blk_test_path("probed.raw");
    g_autofree char *probed = g_strdup_printf("file=%s", path), *named = g_strdup_printf("file=%s,format=raw", path);
    uint8_t sector[512] = "KDMV";
    g_assert_true(blk_file_create(path, 4096, BLK_PREALLOC_OFF, NULL));
    struct blk *b = blk_test_open(probed);
    g_assert_cmpint(blk_test_run(b, BLK_WRITE, 0, 0, sector, 512), ==, -EPERM);
    g_assert_cmpint(blk_test_run(b, BLK_WRITE, 0, 0, sector, 3), ==, 0);
    g_assert_cmpint(blk_test_run(b, BLK_WRITE, 0, 3, sector + 3, 1), ==, -EPERM);
    sector[0] = 0;
    g_assert_cmpint(blk_test_run(b, BLK_WRITE, 0, 0, sector, 512), ==, 0);
    blk_free(b);
    b = blk_test_open(named);
    sector[0] = 'K';
    g_assert_cmpint(blk_test_run(b, BLK_WRITE, 0, 0, sector, 512), ==, 0);
    blk_free(b);
}

static void test_discard(void)
{
    const char *path = blk_test_path("discard.raw");
    g_autofree char *ignore = g_strdup_printf("file=%s,format=raw", path);
    g_autofree char *unmap = g_strdup_printf("file=%s,format=raw,discard=unmap,detect-zeroes=unmap", path);
    g_autofree uint8_t *buf = g_malloc(1 << 20);
    memset(buf, 7, 1 << 20);
    g_assert_true(blk_file_create(path, 1 << 20, BLK_PREALLOC_OFF, NULL));
    struct blk *b = blk_test_open(ignore);
    g_assert_cmpint(blk_test_run(b, BLK_WRITE, 0, 0, buf, 1 << 20), ==, 0);
    g_assert_cmpint(blk_test_run(b, BLK_DISCARD, 0, 0, NULL, 0), ==, 0);
    int64_t full = blk_node_host_bytes(b->root);
    g_assert_cmpint(full, >=, 1 << 20);
    blk_free(b);
    b = blk_test_open(unmap);
    g_assert_true(blk_can_discard(b));
    memset(buf, 0, 1 << 18);
    g_assert_cmpint(blk_test_run(b, BLK_WRITE, 0, 1 << 18, buf, 1 << 18), ==, 0);
    g_assert_cmpint(blk_node_host_bytes(b->root), <=, full - (1 << 18));
    struct blk_extent e;
    g_assert_cmpint(blk_node_map(b->root, 1 << 18, 1 << 19, &e), ==, 0);
    g_assert_true((e.kind & BLK_EXTENT_ZERO) && e.bytes == 1 << 18);
    blk_free(b);
}

/* --- Locks: two of ours, and qemu-img ------------------------------------------------------------------------------ */

static void expect_refused(const char *options, const char *words)
{
    struct machine *m = machine_new(true);
    GError *err = NULL;
    g_assert_null(blk_new_drive(m, options, BLK_IF_NONE, -1, &err));
    if (!strstr(err->message, words))
        g_error("'%s' gives '%s', not '%s'", options, err->message, words);
    g_error_free(err);
    machine_free(m);
}

static void test_locks(void)
{
    const char *path = blk_test_path("locks.raw");
    g_autofree char *rw = g_strdup_printf("file=%s,format=raw", path);
    g_autofree char *ro = g_strdup_printf("file=%s,format=raw,readonly=on", path);
    g_autofree char *shared = g_strdup_printf("file=%s,format=raw,file.locking=off", path);
    g_autofree char *said = NULL;
    g_assert_true(blk_file_create(path, 4096, BLK_PREALLOC_OFF, NULL));
    struct blk *b = blk_test_open(rw);
    expect_refused(rw, "is in use");
    expect_refused(ro, "another program writes to it");
    blk_free(blk_test_open(shared));
    blk_test_command(true, &said, "qemu-img resize -f raw %s 8192", path);
    g_assert_nonnull(strstr(said, "\"write\" lock"));
    blk_free(b);
    blk_test_command(false, NULL, "qemu-img resize -f raw %s 8192", path);

    b = blk_test_open(ro);
    blk_free(blk_test_open(ro));
    expect_refused(rw, "open the image read-only");
    blk_test_command(false, NULL, "qemu-img compare -f raw -F raw %s %s", path, path);
    blk_test_command(true, NULL, "qemu-img resize -f raw %s 8192", path);
    blk_free(b);
    /* qemu-io keeps it open until its input ends. */
    GError *err = NULL;
    int in;
    GPid pid;
    char *argv[] = { "qemu-io", "-f", "raw", (char *)path, NULL };
    g_spawn_async_with_pipes(NULL, argv, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL, NULL, NULL, &pid, &in,
                             NULL, NULL, &err);
    g_assert_no_error(err);
    struct machine *m = machine_new(true);
    struct blk *mine = NULL;
    for (unsigned i = 0; i < 500; i++) {
        mine = blk_new_drive(m, ro, BLK_IF_NONE, -1, &err);
        if (!mine)
            break;
        g_hash_table_remove(m->blks, blk_id(mine));
        g_usleep(10000);
    }
    g_assert_null(mine);
    g_assert_nonnull(strstr(err->message, "another program writes to it"));
    g_error_free(err);
    machine_free(m);
    close(in);
}

/* --- Throttling and options ---------------------------------------------------------------------------------------- */

static unsigned throttled_done;

static void count_done(struct blk_request *r, int ret)
{
    g_assert_cmpint(ret, ==, 0);
    throttled_done++;
}

/* Virtual time, so that a busy host does not matter: the bucket itself. */
static void test_bucket(void)
{
    struct blk_throttle t = { .ops[BLK_LIMIT_ALL] = { .rate = 100 }, .bytes[BLK_LIMIT_WRITE] = { .rate = 1 << 20 } };
    int64_t now = 1000000;
    unsigned reads = 0, writes = 0;
    while (now < 11000000) {
        int64_t wait = blk_throttle_wait(&t, false, 4096, now);
        reads += !wait;
        now += wait;
    }
    g_assert_cmpuint(reads, >=, 1000);
    g_assert_cmpuint(reads, <=, 1012); /* the first tenth of a second's at once */
    while (now < 21000000) {
        int64_t wait = blk_throttle_wait(&t, true, 1 << 18, now);
        writes += !wait;
        now += wait;
    }
    g_assert_cmpuint(writes, >=, 39);
    g_assert_cmpuint(writes, <=, 42);
}

static void test_throttle(void)
{
    const char *path = blk_test_path("throttle.raw");
    g_autofree char *text = g_strdup_printf("file=%s,format=raw,iops=100,throttling.bps-read=1M", path);
    struct blk_request r[40];
    uint8_t buf[512];
    struct iovec iov = { buf, sizeof buf };
    g_assert_true(blk_file_create(path, 1 << 20, BLK_PREALLOC_OFF, NULL));
    struct blk *b = blk_test_open(text);
    int64_t start = g_get_monotonic_time();
    for (unsigned i = 0; i < 40; i++) {
        r[i] = (struct blk_request){ .op = i & 1 ? BLK_READ : BLK_WRITE, .offset = i * 512, .bytes = 512, .iov = &iov,
                                     .iov_count = 1, .done = count_done };
        blk_submit(b, &r[i]);
    }
    while (throttled_done < 30)
        g_main_context_iteration(NULL, TRUE);
    /* 11 at once, then 10 ms each. */
    g_assert_cmpint(g_get_monotonic_time() - start, >=, 180000);
    g_assert_true(blk_busy(b));
    blk_drain(b); /* at once */
    g_assert_cmpuint(throttled_done, ==, 40);
    blk_free(b);
}

static void test_options(void)
{
    const char *path = blk_test_path("options.raw"), *vmdk = blk_test_path("x.vmdk");
    g_assert_true(blk_file_create(path, 4096, BLK_PREALLOC_OFF, NULL));
    write_file(vmdk, "KDMV", 4);
    g_autofree char *foreign = g_strdup_printf("file=%s", vmdk);
    g_autofree char *unknown = g_strdup_printf("file=%s,foo=1", path);
    g_autofree char *format = g_strdup_printf("file=%s,format=vdi", path);
    expect_refused(foreign, "is a VMDK image");
    expect_refused(unknown, "'foo'");
    expect_refused(format, "raw");
    expect_refused("file=/nonexistent/x", "/nonexistent/x");
    expect_refused("file=/dev/null", "must be a file or a block device");
    expect_refused("file=nbd://localhost", "nbd:");
    expect_refused("if=sata", "must be one of");
    expect_refused("cache=fast", "writeback");
    expect_refused("werror=none", "enospc");
    expect_refused("index=1,unit=1", "index=");
    expect_refused("iops=x", "iops=x");
    expect_refused("iops_max=5", "-max");
    expect_refused("if=ide,unit=2", "below 2");

    struct machine *m = machine_new(true);
    GError *err = NULL;
    struct blk *a = blk_new_drive(m, "if=ide,index=3,media=cdrom", BLK_IF_NONE, -1, &err);
    g_assert_no_error(err);
    g_assert_cmpstr(blk_id(a), ==, "ide1-cd1");
    g_assert_true(blk_drive(a)->cdrom && blk_read_only(a));
    struct blk *b = blk_new_drive(m, "", BLK_IF_IDE, -1, &err), *c = blk_new_drive(m, "", BLK_IF_IDE, -1, &err);
    g_assert_cmpstr(blk_id(b), ==, "ide0-hd0");
    g_assert_cmpstr(blk_id(c), ==, "ide0-hd1");
    g_assert_true(blk_drive_at(m, BLK_IF_IDE, 1, 1) == a && blk_find(m, "ide0-hd1") == c);
    g_assert_null(blk_new_drive(m, "if=ide,index=1", BLK_IF_NONE, -1, &err));
    g_assert_nonnull(strstr(err->message, "another drive"));
    g_error_free(err);
    machine_free(m);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    blk_test_begin();
    g_test_add_data_func("/blk/random/uring", "aio=io_uring", test_random);
    g_test_add_data_func("/blk/random/threads", "aio=threads", test_random);
    g_test_add_data_func("/blk/random/direct", "cache=none,cache.no-flush=on", test_random);
    g_test_add_data_func("/blk/random/writethrough", "cache=writethrough,discard=unmap", test_random);
    g_test_add_data_func("/blk/random/detect", "cache=unsafe,detect-zeroes=on", test_random);
    g_test_add_func("/blk/bounds", test_bounds);
    g_test_add_func("/blk/probed", test_probed);
    g_test_add_func("/blk/discard", test_discard);
    g_test_add_func("/blk/locks", test_locks);
    g_test_add_func("/blk/bucket", test_bucket);
    g_test_add_func("/blk/throttle", test_throttle);
    g_test_add_func("/blk/options", test_options);
    int ret = g_test_run();
    blk_test_end();
    return ret;
}
