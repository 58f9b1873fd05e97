/*
 * qcow2: random sequences of everything that can be done to an image, against a model of its content, with qemu-img check
 * and compare as peers (SEQUENCES=N in the environment: so many of each kind); images that qemu-img writes; many requests
 * at once through a drive.
 */
#include "tests/lib/blk_test.h"

#include "hw/core/opts.h"
#include "tests/lib/time_scale.h"

#include <errno.h>
#include <string.h>

#define FLAGS (BLK_OPEN_WRITE | BLK_OPEN_NO_FLUSH)

/* --- The model ------------------------------------------------------------------------------------------------------ */

struct saved {
    char name[16];
    uint8_t *data;
    uint64_t size;
};

struct sequence {
    GRand *rand;
    const char *path, *raw;
    struct blk_node *n;
    uint8_t *model;
    uint64_t size, max;
    uint64_t cluster;
    bool v2;
    bool narrow; /* few bits for refcounts: a snapshot may be refused */
    GArray *saved;
    GString *log;
};

static void reopen(struct sequence *t)
{
    GError *err = NULL;
    blk_node_close(t->n);
    t->n = blk_node_open(t->path, "qcow2", FLAGS, NULL, NULL, &err);
    g_assert_no_error(err);
    g_assert_cmpuint(t->n->size, ==, t->size);
}

static void compare(struct sequence *t)
{
    g_autofree uint8_t *buf = g_malloc(t->size);
    g_assert_cmpint(blk_node_pread(t->n, 0, buf, t->size), ==, 0);
    for (uint64_t i = 0; i < t->size; i++) {
        if (buf[i] != t->model[i])
            g_error("byte 0x%" G_GINT64_MODIFIER "x is %02x, not %02x, after%s", i, buf[i], t->model[i], t->log->str);
    }
}

/* Closed: qemu-img finds nothing wrong, and reads the same. */
static void ask_peer(struct sequence *t)
{
    g_autofree char *said = NULL;
    blk_node_close(t->n);
    t->n = NULL;
    g_assert_true(g_file_set_contents(t->raw, (const char *)t->model, (gssize)t->size, NULL));
    blk_test_command(false, &said, "qemu-img check %s && qemu-img compare %s %s -F raw || { echo '%s'; false; }", t->path,
                     t->path, t->raw, t->log->str);
    t->n = blk_node_open(t->path, NULL, FLAGS, NULL, NULL, NULL);
    g_assert_nonnull(t->n);
}

static uint64_t random_below(struct sequence *t, uint64_t below)
{
    return below ? (uint64_t)(g_rand_double(t->rand) * (double)below) : 0;
}

/* A stretch of the disk: short or long, of clusters or not. */
static void stretch(struct sequence *t, uint64_t grain, uint64_t *offset, uint64_t *bytes)
{
    uint64_t most = g_rand_boolean(t->rand) ? 3 * t->cluster : t->size / 2;
    *offset = random_below(t, t->size) / grain * grain;
    *bytes = (random_below(t, most) / grain + 1) * grain;
    *bytes = MIN(*bytes, t->size - *offset);
}

static void fill(struct sequence *t, uint8_t *buf, uint64_t bytes)
{
    bool dense = g_rand_boolean(t->rand);
    memset(buf, g_rand_int_range(t->rand, 0, 256), bytes);
    for (uint64_t i = 0; i < bytes; i += dense ? 1 : 97)
        buf[i] = (uint8_t)g_rand_int_range(t->rand, 0, 256);
}

static void do_write(struct sequence *t)
{
    uint64_t offset, bytes;
    stretch(t, g_rand_boolean(t->rand) ? 512 : 1, &offset, &bytes);
    g_string_append_printf(t->log, " write(%" G_GUINT64_FORMAT ",%" G_GUINT64_FORMAT ")", offset, bytes);
    fill(t, t->model + offset, bytes);
    g_assert_cmpint(blk_node_pwrite(t->n, offset, t->model + offset, bytes), ==, 0);
}

static void do_packed(struct sequence *t)
{
    uint64_t offset, bytes;
    struct iovec iov;
    stretch(t, t->cluster, &offset, &bytes);
    g_string_append_printf(t->log, " packed(%" G_GUINT64_FORMAT ",%" G_GUINT64_FORMAT ")", offset, bytes);
    fill(t, t->model + offset, bytes);
    struct blk_vec v = blk_vec_one(&iov, t->model + offset, bytes);
    g_assert_cmpint(t->n->driver->write_compressed(t->n, offset, bytes, &v), ==, 0);
}

static void do_zeroes(struct sequence *t)
{
    uint64_t offset, bytes;
    stretch(t, 512, &offset, &bytes);
    g_string_append_printf(t->log, " zero(%" G_GUINT64_FORMAT ",%" G_GUINT64_FORMAT ")", offset, bytes);
    memset(t->model + offset, 0, bytes);
    g_assert_cmpint(blk_node_write_zeroes(t->n, offset, bytes, g_rand_boolean(t->rand) ? BLK_UNMAP : 0), ==, 0);
}

/* Afterwards each cluster is what it was, or zeros. */
static void do_discard(struct sequence *t)
{
    uint64_t offset, bytes;
    stretch(t, 512, &offset, &bytes);
    g_string_append_printf(t->log, " discard(%" G_GUINT64_FORMAT ",%" G_GUINT64_FORMAT ")", offset, bytes);
    g_assert_cmpint(blk_node_discard(t->n, offset, bytes), ==, 0);
    g_autofree uint8_t *now = g_malloc(bytes);
    g_assert_cmpint(blk_node_pread(t->n, offset, now, bytes), ==, 0);
    for (uint64_t i = 0; i < bytes; i++)
        g_assert_true(now[i] == 0 || now[i] == t->model[offset + i]);
    memcpy(t->model + offset, now, bytes);
}

static void do_resize(struct sequence *t)
{
    uint64_t size = (random_below(t, t->max / 512) + 1) * 512;
    GError *err = NULL;
    if (t->v2 && t->saved->len)
        return;
    g_string_append_printf(t->log, " resize(%" G_GUINT64_FORMAT ")", size);
    g_assert_true(blk_node_resize(t->n, size, BLK_PREALLOC_OFF, true, &err));
    g_assert_no_error(err);
    if (size > t->size)
        memset(t->model + t->size, 0, size - t->size);
    t->size = size;
}

static void do_snapshot(struct sequence *t)
{
    GError *err = NULL;
    guint i = (guint)random_below(t, t->saved->len);
    struct saved *s = t->saved->len ? &g_array_index(t->saved, struct saved, i) : NULL;
    unsigned what = (unsigned)g_rand_int_range(t->rand, 0, 3);
    if (!s || (what == 0 && t->saved->len < 3)) {
        struct saved n = { .data = g_memdup2(t->model, t->size), .size = t->size };
        g_snprintf(n.name, sizeof n.name, "s%u", g_rand_int(t->rand) % 100000);
        g_string_append_printf(t->log, " snapshot(%s)", n.name);
        bool ok = t->n->driver->snapshot_create(t->n, n.name, &err);
        if (!ok && t->narrow && strstr(err->message, "bits only")) {
            g_clear_error(&err); /* many compressed clusters in one */
            g_free(n.data);
            return;
        }
        if (ok)
            g_array_append_val(t->saved, n);
    } else if (what == 1) {
        g_string_append_printf(t->log, " delete(%s)", s->name);
        g_assert_true(t->n->driver->snapshot_delete(t->n, s->name, &err));
        g_free(s->data);
        g_array_remove_index(t->saved, i);
    } else {
        g_string_append_printf(t->log, " apply(%s)", s->name);
        g_assert_true(t->n->driver->snapshot_apply(t->n, s->name, &err));
        memcpy(t->model, s->data, s->size);
        t->size = s->size;
    }
    g_assert_no_error(err);
}

static void step(struct sequence *t)
{
    switch (g_rand_int_range(t->rand, 0, 14)) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4: do_write(t); break;
    case 5: do_zeroes(t); break;
    case 6:
    case 7: do_discard(t); break;
    case 8:
    case 9: do_packed(t); break;
    case 10: do_snapshot(t); break;
    case 11: do_resize(t); break;
    case 12: g_assert_cmpint(blk_node_flush(t->n), ==, 0); break;
    case 13: reopen(t); break;
    }
    compare(t);
}

static void run_sequence(const char *options, uint64_t cluster, uint64_t max, const char *backing, unsigned seed, unsigned steps)
{
    GError *err = NULL;
    struct sequence t = { .rand = g_rand_new_with_seed(seed), .path = blk_test_path("seq.qcow2"), .cluster = cluster,
                          .raw = blk_test_path("seq.raw"), .max = max, .model = g_malloc0(max),
                          .saved = g_array_new(FALSE, FALSE, sizeof(struct saved)), .log = g_string_new(options) };
    t.v2 = strstr(options, "compat=0.10");
    t.narrow = strstr(options, "refcount_bits=1,") || strstr(options, "refcount_bits=4,");
    g_autofree char *all = g_strdup_printf("cluster_size=%" G_GUINT64_FORMAT "%s%s%s", cluster, *options ? "," : "", options,
                                           backing ? backing : "");
    t.size = (max / 2 + 512 * (seed % 3)) & ~UINT64_C(511);
    if (backing) {
        g_autofree char *said = NULL;
        const char *base = strstr(backing, "backing_file=") + strlen("backing_file=");
        g_autofree char *file = g_strndup(base, strcspn(base, ","));
        g_autofree char *dump = g_strdup_printf("%s.dump", file);
        char *content;
        gsize len;
        blk_test_command(false, &said, "qemu-img convert -O raw %s %s", file, dump);
        g_assert_true(g_file_get_contents(dump, &content, &len, NULL));
        memcpy(t.model, content, MIN(len, t.size));
        g_free(content);
    }
    struct opts *o = opts_parse(all, NULL);
    g_assert_true(blk_qcow2_driver.create(t.path, t.size, o, &err));
    opts_free(o);
    g_assert_no_error(err);
    t.n = blk_node_open(t.path, NULL, FLAGS, NULL, NULL, &err);
    g_assert_no_error(err);
    compare(&t);
    for (unsigned i = 0; i < steps; i++) {
        step(&t);
        if (i % 40 == 39)
            ask_peer(&t);
    }
    blk_node_close(t.n);
    for (guint i = 0; i < t.saved->len; i++)
        g_free(g_array_index(t.saved, struct saved, i).data);
    g_array_free(t.saved, TRUE);
    g_string_free(t.log, TRUE);
    g_free(t.model);
    g_rand_free(t.rand);
}

static void test_sequences(gconstpointer options)
{
    static const struct {
        uint64_t cluster, max;
    } sizes[] = { { 512, 200 << 10 }, { 4096, 1 << 20 }, { 65536, 4 << 20 }, { 2 << 20, 12 << 20 } };
    unsigned count = g_getenv("SEQUENCES") ? (unsigned)atoi(g_getenv("SEQUENCES")) : time_scale() > 1 ? 1 : 2;
    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
        for (unsigned seed = 0; seed < count; seed++)
            run_sequence(options, sizes[i].cluster, sizes[i].max, NULL, seed + 1000 * i, i == 3 ? 40 : 80);
    }
}

static void test_backing(void)
{
    const char *raw = blk_test_path("base.raw"), *mid = blk_test_path("mid.qcow2");
    g_autofree char *said = NULL;
    blk_test_command(false, &said, "head -c 1500000 /dev/urandom >%s && truncate -s 1500160 %s && qemu-img create -q -f qcow2 "
                     "-F raw -b %s %s 3M && qemu-io -c 'write -P 7 100k 300k' -c 'write -P 9 2M 64k' -c 'write -z 700k 64k' %s",
                     raw, raw, raw, mid, mid);
    g_autofree char *over_raw = g_strdup_printf(",backing_file=%s,backing_fmt=raw", raw);
    g_autofree char *over_qcow2 = g_strdup_printf(",backing_file=%s,backing_fmt=qcow2", mid);
    for (unsigned seed = 0; seed < 3; seed++) {
        run_sequence("compat=1.1", 65536, 4 << 20, over_raw, 100 + seed, 40);
        run_sequence("compat=1.1", 4096, 4 << 20, over_qcow2, 110 + seed, 40);
        run_sequence("compat=0.10", 65536, 4 << 20, over_qcow2, 120 + seed, 40);
    }
}

/* --- Images that qemu-img writes ------------------------------------------------------------------------------------- */

static void test_peer_images(void)
{
    static const char *const kinds[] = {
        "-o compat=0.10", "-o compat=1.1", "-o cluster_size=512", "-o cluster_size=2M", "-o refcount_bits=1",
        "-o refcount_bits=64", "-o lazy_refcounts=on", "-c", "-c -o compression_type=zstd", "-c -o cluster_size=4k",
        "-c -o cluster_size=2M,compression_type=zstd", "-o preallocation=metadata", "-o preallocation=full",
        "-o preallocation=falloc,cluster_size=128k", "-c -o compat=0.10,cluster_size=1k", "-c -m 8 -W",
    };
    const char *raw = blk_test_path("peer.raw"), *image = blk_test_path("peer.qcow2");
    uint64_t size = 5 << 20;
    g_autofree uint8_t *data = g_malloc0(size), *read = g_malloc(size);
    GRand *rand = g_rand_new_with_seed(5);
    for (uint64_t i = 0; i < size; i++)
        data[i] = i >> 19 & 1 ? 0 : i >> 18 & 1 ? (uint8_t)(i / 100) : (uint8_t)g_rand_int_range(rand, 0, 256);
    g_rand_free(rand);
    g_assert_true(g_file_set_contents(raw, (char *)data, (gssize)size, NULL));
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        GError *err = NULL;
        blk_test_command(false, NULL, "qemu-img convert -f raw -O qcow2 %s %s %s", kinds[i], raw, image);
        struct blk_node *n = blk_node_open(image, NULL, BLK_OPEN_WRITE, NULL, NULL, &err);
        g_assert_no_error(err);
        g_assert_true(n->driver == &blk_qcow2_driver);
        g_assert_cmpint(blk_node_pread(n, 0, read, size), ==, 0);
        g_assert_cmpmem(read, size, data, size);
        struct blk_check c = { 0 };
        g_assert_true(n->driver->check(n, &c, BLK_FIX_NOTHING, &err));
        g_assert_cmpuint(c.corruptions + c.leaks + c.errors, ==, 0);
        g_assert_cmpint(blk_node_pwrite(n, 12345, data + 777, 200000), ==, 0);
        blk_node_close(n);
        blk_test_command(false, NULL, "qemu-img check %s", image);
    }
    /* Snapshots of qemu-img's: applied here, and ours there. */
    blk_test_command(false, NULL, "qemu-img convert -f raw -O qcow2 %s %s && qemu-img snapshot -c one %s && qemu-io -c "
                     "'write -P 1 0 3M' %s", raw, image, image, image);
    GError *err = NULL;
    struct blk_node *n = blk_node_open(image, NULL, BLK_OPEN_WRITE, NULL, NULL, &err);
    g_assert_true(n->driver->snapshot_create(n, "two", &err));
    g_assert_true(n->driver->snapshot_apply(n, "one", &err));
    g_assert_false(n->driver->snapshot_apply(n, "three", NULL));
    g_assert_cmpint(blk_node_pread(n, 0, read, size), ==, 0);
    g_assert_cmpmem(read, size, data, size);
    blk_node_close(n);
    blk_test_command(false, NULL, "qemu-img check %s && qemu-img snapshot -a two %s && qemu-img check %s && qemu-io -c "
                     "'read -P 1 0 3M' %s | grep -v failed", image, image, image, image);
}

/* --- Through a drive -------------------------------------------------------------------------------------------------- */

#define DRIVE_SIZE (8u << 20)
#define SLOTS 16

struct slot {
    struct blk_request r;
    struct iovec iov;
    uint8_t *memory;
    bool busy;
};

static uint8_t *drive_model;

static void slot_done(struct blk_request *r, int ret)
{
    struct slot *s = container_of(r, struct slot, r);
    g_assert_cmpint(ret, ==, 0);
    if (r->op == BLK_READ)
        g_assert_cmpmem(s->memory, r->bytes, drive_model + r->offset, r->bytes);
    g_clear_pointer(&s->memory, g_free);
    s->busy = false;
}

/* Slots interleave by 4 KiB, so that they meet in clusters. */
static void submit_slot(struct blk *b, struct slot *s, unsigned i, GRand *rand)
{
    static const enum blk_op ops[] = { BLK_READ, BLK_WRITE, BLK_WRITE, BLK_READ, BLK_WRITE_ZEROES, BLK_FLUSH, BLK_READ };
    uint64_t at = (uint64_t)g_rand_int_range(rand, 0, DRIVE_SIZE / 4096 / SLOTS);
    *s = (struct slot){ .busy = true, .r = { .op = ops[g_rand_int_range(rand, 0, G_N_ELEMENTS(ops))], .bytes = 4096,
                                             .offset = (at * SLOTS + i) * 4096, .done = slot_done } };
    if (s->r.op == BLK_FLUSH) {
        s->r.offset = s->r.bytes = 0;
    } else if (s->r.op == BLK_WRITE_ZEROES) {
        memset(drive_model + s->r.offset, 0, 4096);
        s->r.flags = BLK_UNMAP;
    } else {
        s->memory = g_malloc(4096);
        s->iov = (struct iovec){ s->memory, 4096 };
        s->r.iov = &s->iov;
        s->r.iov_count = 1;
        memset(s->memory, g_rand_int_range(rand, 0, 256), 4096);
        if (s->r.op == BLK_WRITE)
            memcpy(drive_model + s->r.offset, s->memory, 4096);
    }
    blk_submit(b, &s->r);
}

static void test_drive(gconstpointer options)
{
    const char *path = blk_test_path("drive.qcow2");
    g_autofree char *text = g_strdup_printf("file=%s,discard=unmap,%s", path, (const char *)options);
    g_autofree uint8_t *read = g_malloc(DRIVE_SIZE);
    struct slot slots[SLOTS] = { 0 };
    GRand *rand = g_rand_new_with_seed(3);
    struct opts *o = opts_parse("cluster_size=16k", NULL);
    g_assert_true(blk_qcow2_driver.create(path, DRIVE_SIZE, o, NULL));
    opts_free(o);
    drive_model = g_malloc0(DRIVE_SIZE);
    struct blk *b = blk_test_open(text);
    for (unsigned n = 0; n < 5000; n++) {
        unsigned i = (unsigned)g_rand_int_range(rand, 0, SLOTS);
        while (slots[i].busy)
            g_main_context_iteration(NULL, TRUE);
        submit_slot(b, &slots[i], i, rand);
        if (n % 1000 == 999)
            blk_drain(b);
    }
    blk_drain(b);
    g_assert_cmpint(blk_test_run(b, BLK_READ, 0, 0, read, DRIVE_SIZE), ==, 0);
    g_assert_cmpmem(read, DRIVE_SIZE, drive_model, DRIVE_SIZE);
    blk_free(b);
    blk_test_command(false, NULL, "qemu-img check %s", path);
    g_clear_pointer(&drive_model, g_free);
    g_rand_free(rand);
}

/* snapshot=on: what is written is seen, and gone afterwards. */
static void test_overlay(void)
{
    const char *path = blk_test_path("overlay.raw");
    g_autofree char *text = g_strdup_printf("file=%s,snapshot=on", path);
    uint8_t buf[512], zeros[512] = { 0 };
    g_assert_true(blk_file_create(path, 1 << 20, BLK_PREALLOC_OFF, NULL));
    for (unsigned i = 0; i < 2; i++) {
        struct blk *b = blk_test_open(text);
        g_assert_cmpuint(blk_size(b), ==, 1 << 20);
        g_assert_cmpint(blk_test_run(b, BLK_READ, 0, 5120, buf, 512), ==, 0);
        g_assert_cmpmem(buf, 512, zeros, 512);
        memset(buf, 5, 512);
        g_assert_cmpint(blk_test_run(b, BLK_WRITE, 0, 5120, buf, 512), ==, 0);
        memset(buf, 0, 512);
        g_assert_cmpint(blk_test_run(b, BLK_READ, 0, 5120, buf, 512), ==, 0);
        g_assert_cmpint(buf[511], ==, 5);
        blk_free(b);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    blk_test_begin();
    g_test_add_data_func("/qcow2/sequences/v3", "", test_sequences);
    g_test_add_data_func("/qcow2/sequences/v2", "compat=0.10", test_sequences);
    g_test_add_data_func("/qcow2/sequences/lazy", "lazy_refcounts=on,compression_type=zstd", test_sequences);
    g_test_add_data_func("/qcow2/sequences/1-bit", "refcount_bits=1,compat=1.1", test_sequences);
    g_test_add_data_func("/qcow2/sequences/4-bit", "refcount_bits=4,compat=1.1", test_sequences);
    g_test_add_data_func("/qcow2/sequences/64-bit", "refcount_bits=64", test_sequences);
    g_test_add_func("/qcow2/backing", test_backing);
    g_test_add_func("/qcow2/peer-images", test_peer_images);
    g_test_add_func("/qcow2/overlay", test_overlay);
    g_test_add_data_func("/qcow2/drive/uring", "cache=unsafe", test_drive);
    g_test_add_data_func("/qcow2/drive/threads", "aio=threads,cache=unsafe", test_drive);
    g_test_add_data_func("/qcow2/drive/small-cache", "cache=unsafe,l2-cache-size=32k,refcount-cache-size=32k", test_drive);
    int ret = g_test_run();
    blk_test_end();
    return ret;
}
