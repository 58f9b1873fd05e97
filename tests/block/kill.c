/*
 * kill -9 while a disk is written to: what was flushed is there, the image opens, and nothing but leaks is wrong with it.
 *
 * A child writes blocks at random places, each filled with its own number and a running one, flushes now and then, and
 * tells the parent through shared memory what it submitted and what was flushed. The parent kills it at a random moment.
 * Then each sector must hold the flushed number of its block or a later one that was submitted.
 */
#include "tests/lib/blk_test.h"

#include "hw/core/opts.h"
#include "hw/core/vm_lock.h"
#include "tests/lib/time_scale.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define BLOCK 4096
#define BLOCKS 4096 /* 16 MiB */
#define SLOTS 8

/* Running numbers by block; the child writes, the parent reads when the child is dead. */
struct shared {
    uint32_t submitted[BLOCKS], flushed[BLOCKS];
    uint32_t writes, flushes;
};

static struct shared *shared;

/* --- The child -------------------------------------------------------------------------------------------------------- */

struct slot {
    struct blk_request r;
    struct iovec iov;
    uint32_t buf[BLOCK / 4];
    uint32_t block, number; /* of a write */
    bool busy;
};

static uint32_t done_numbers[BLOCKS];     /* what a flush that begins now makes lasting */
static uint32_t flushing_numbers[BLOCKS]; /* what the one under way does */

static void slot_done(struct blk_request *r, int ret)
{
    struct slot *s = container_of(r, struct slot, r);
    if (ret)
        _exit(1);
    s->busy = false;
    if (r->op == BLK_WRITE) {
        done_numbers[s->block] = MAX(done_numbers[s->block], s->number);
    } else if (r->op == BLK_FLUSH) {
        memcpy(shared->flushed, flushing_numbers, sizeof flushing_numbers);
        __atomic_add_fetch(&shared->flushes, 1, __ATOMIC_SEQ_CST);
    }
}

static bool block_busy(const struct slot *slots, uint32_t block)
{
    for (unsigned i = 0; i < SLOTS; i++) {
        if (slots[i].busy && slots[i].block == block)
            return true;
    }
    return false;
}

static void submit(struct blk *b, struct slot *slots, struct slot *s, GRand *rand)
{
    uint32_t block = g_rand_int(rand) % BLOCKS;
    while (block_busy(slots, block))
        block = (block + 1) % BLOCKS;
    s->block = block;
    s->busy = true;
    s->number = ++shared->submitted[block];
    for (unsigned i = 0; i < BLOCK / 4; i++)
        s->buf[i] = i & 1 ? s->number : block;
    s->iov = (struct iovec){ s->buf, BLOCK };
    s->r = (struct blk_request){ .op = BLK_WRITE, .offset = (uint64_t)block * BLOCK, .bytes = BLOCK, .iov = &s->iov,
                                 .iov_count = 1, .done = slot_done };
    shared->writes++;
    blk_submit(b, &s->r);
}

static void child(const char *options, unsigned seed)
{
    GRand *rand = g_rand_new_with_seed(seed);
    struct slot *slots = g_new0(struct slot, SLOTS + 1), *flush = &slots[SLOTS];
    struct blk *b = blk_test_open(options);
    flush->block = BLOCKS;
    for (unsigned n = 0;; n++) {
        struct slot *s = &slots[n % SLOTS];
        while (s->busy || (n % 400 == 399 && flush->busy))
            g_main_context_iteration(NULL, TRUE);
        submit(b, slots, s, rand);
        if (n % 40 == 39 && !flush->busy) {
            memcpy(flushing_numbers, done_numbers, sizeof done_numbers);
            flush->busy = true;
            flush->r = (struct blk_request){ .op = BLK_FLUSH, .done = slot_done };
            blk_submit(b, &flush->r);
        }
    }
}

/* --- The parent -------------------------------------------------------------------------------------------------------- */

/* What the child's io_uring had begun the kernel finishes after its death; so long the image is locked. */
static void wait_unlocked(const char *path)
{
    for (unsigned i = 0; i < 1000; i++) {
        struct blk_node *n = blk_node_open(path, "raw", BLK_OPEN_WRITE, NULL, NULL, NULL);
        blk_node_close(n);
        if (n)
            return;
        g_usleep(10000);
    }
}

/* A write of several sectors may have come half its way, as on any disk; one of a sector not. */
static void check_sector(const uint32_t *buf, uint32_t block, uint32_t least, uint32_t most)
{
    g_assert_cmpuint(buf[1], >=, least);
    g_assert_cmpuint(buf[1], <=, most);
    for (unsigned k = 0; k < BLK_SECTOR / 4; k++)
        g_assert_cmpuint(buf[k], ==, buf[1] == 0 ? 0 : k & 1 ? buf[1] : block);
}

static void check_blocks(const char *path, const uint32_t *least, const uint32_t *most)
{
    GError *err = NULL;
    struct blk_node *n = blk_node_open(path, "qcow2", 0, NULL, NULL, &err);
    g_assert_no_error(err);
    for (uint32_t i = 0; i < BLOCKS; i++) {
        uint32_t buf[BLOCK / 4];
        g_assert_cmpint(blk_node_pread(n, (uint64_t)i * BLOCK, buf, BLOCK), ==, 0);
        for (unsigned sector = 0; sector < BLOCK / 4; sector += BLK_SECTOR / 4)
            check_sector(buf + sector, i, least[i], most[i]);
    }
    blk_node_close(n);
}

/* Leaks at most; repaired, nothing. Lazy refcounts are counted anew when the image is opened for writing. */
static void check_image(const char *path, bool lazy)
{
    GError *err = NULL;
    struct blk_node *n = blk_node_open(path, "qcow2", BLK_OPEN_WRITE | (lazy ? 0 : BLK_OPEN_CHECK), NULL, NULL, &err);
    g_assert_no_error(err);
    struct blk_check c = { .messages = g_string_new(NULL) }, again = { 0 };
    g_assert_true(n->driver->check(n, &c, BLK_FIX_LEAKS, &err));
    if (c.corruptions || c.errors)
        g_error("%s", c.messages->str);
    g_assert_true(n->driver->check(n, &again, BLK_FIX_NOTHING, &err));
    g_assert_cmpuint(again.corruptions + again.leaks + again.errors, ==, 0);
    blk_node_close(n);
    g_string_free(c.messages, TRUE);
    blk_test_command(false, NULL, "qemu-img check %s", path);
}

static void test_kill(gconstpointer create)
{
    const char *path = blk_test_path("kill.qcow2");
    unsigned times = g_getenv("KILLS") ? (unsigned)atoi(g_getenv("KILLS")) : 12 / MIN(time_scale(), 4);
    bool lazy = strstr(create, "lazy");
    static uint32_t least[BLOCKS];
    struct opts *o = opts_parse(create, NULL);
    g_autofree char *options = g_strdup_printf("file=%s,format=qcow2,discard=unmap", path);
    GRand *rand = g_rand_new_with_seed(9);
    g_assert_true(blk_qcow2_driver.create(path, (uint64_t)BLOCKS * BLOCK, o, NULL));
    opts_free(o);
    memset(shared, 0, sizeof *shared);
    memset(least, 0, sizeof least);
    for (unsigned i = 0; i < times; i++) {
        pid_t pid = fork();
        if (pid == 0)
            child(options, i);
        g_usleep((gulong)g_rand_int_range(rand, 1000, 150000) * time_scale());
        kill(pid, SIGKILL);
        int status;
        g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
        g_assert_true(WIFSIGNALED(status));
        for (uint32_t k = 0; k < BLOCKS; k++)
            least[k] = MAX(least[k], shared->flushed[k]);
        wait_unlocked(path);
        check_blocks(path, least, shared->submitted);
        check_image(path, lazy);
    }
    g_test_message("%u kills, %u writes, %u flushes", times, shared->writes, shared->flushes);
    g_assert_cmpuint(shared->flushes, >, 0);
    g_rand_free(rand);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    blk_test_begin();
    g_test_add_data_func("/kill/64k", "cluster_size=64k", test_kill);
    g_test_add_data_func("/kill/512", "cluster_size=512", test_kill);
    g_test_add_data_func("/kill/lazy", "cluster_size=4k,lazy_refcounts=on", test_kill);
    int ret = g_test_run();
    blk_test_end();
    return ret;
}
