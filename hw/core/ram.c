/*
 * RAM blocks: host memory behind guest RAM and ROM, and the record of who wants to hear of writes to which page.
 *
 * Any thread may note writes; all per-page bytes are atomic. An address is reserved in whole, host memory comes with
 * the first touch, in large pages where the host has some. Not here: sharing between processes, NUMA binding, preallocation.
 */
#include "hw/core/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Block starts are aligned so that the host can back guest RAM with its own large pages. */
#define RAM_ALIGN (UINT64_C(2) << 20)

/* A file descriptor of `size` bytes: the file itself, or an unnamed one if path is a directory. -1: *err is set. */
static int open_backing(const char *path, uint64_t size, GError **err)
{
    struct stat st;
    int fd;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
        g_autofree char *name = g_build_filename(path, "trapeze-ram-XXXXXX", NULL);
        fd = g_mkstemp_full(name, O_RDWR | O_CLOEXEC, 0600);
        if (fd >= 0)
            unlink(name);
    } else {
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    }
    if (fd < 0 || fstat(fd, &st) != 0 || ((uint64_t)st.st_size < size && ftruncate(fd, (off_t)size) != 0)) {
        int e = errno;
        g_set_error(err, G_FILE_ERROR, g_file_error_from_errno(e), "mem-path: cannot use '%s' for guest memory: %s",
                    path, g_strerror(e));
        if (fd >= 0)
            close(fd);
        return -1;
    }
    return fd;
}

static uint8_t *map_aligned(uint64_t size, const char *mem_path, GError **err)
{
    if (size > SIZE_MAX / 2) {
        g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_NOMEM,
                    "guest memory of %" G_GUINT64_FORMAT " MiB does not fit this host's address space", size >> 20);
        return NULL;
    }
    int fd = -1;
    if (mem_path && (fd = open_backing(mem_path, size, err)) < 0)
        return NULL;
    uint8_t *area = mmap(NULL, size + RAM_ALIGN, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    uint8_t *host = MAP_FAILED;
    if (area != MAP_FAILED) {
        uint64_t skip = -(uint64_t)(uintptr_t)area & (RAM_ALIGN - 1);
        host = mmap(area + skip, size, PROT_READ | PROT_WRITE,
                    MAP_FIXED | MAP_PRIVATE | MAP_NORESERVE | (fd < 0 ? MAP_ANONYMOUS : 0), fd, 0);
        int e = errno;
        if (host == MAP_FAILED) {
            munmap(area, size + RAM_ALIGN);
        } else {
            if (skip)
                munmap(area, skip);
            if (skip != RAM_ALIGN)
                munmap(host + size, RAM_ALIGN - skip);
        }
        errno = e;
    }
    if (host == MAP_FAILED)
        g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_NOMEM,
                    "the host cannot give %" G_GUINT64_FORMAT " MiB of guest memory: %s", size >> 20,
                    g_strerror(errno));
    else if (fd < 0)
        madvise(host, size, MADV_HUGEPAGE); /* a hint: random access to guest memory misses the host's TLB less */
    if (fd >= 0)
        close(fd);
    return host == MAP_FAILED ? NULL : host;
}

struct ram_block *ram_block_new(const char *name, uint64_t size, const char *mem_path, GError **err)
{
    g_assert(size > 0 && (size & ~PAGE_MASK) == 0);
    uint8_t *host = map_aligned(size, mem_path, err);
    if (!host)
        return NULL;
    uint64_t pages = size >> PAGE_BITS;
    struct ram_block *b = g_new0(struct ram_block, 1);
    *b = (struct ram_block){
        .name = g_strdup(name),
        .host = host,
        .size = size,
        .watch = g_malloc0(pages),
        .dirty = g_malloc0(pages),
        .code_gen = g_new0(uint32_t, pages),
    };
    return b;
}

void ram_block_free(struct ram_block *b)
{
    if (!b)
        return;
    munmap(b->host, b->size);
    g_free(b->watch);
    g_free(b->dirty);
    g_free(b->code_gen);
    g_free(b->name);
    g_free(b);
}

/* The function last: who reads it finds what it is called with. */
void ram_set_code_written(struct ram_block *b, ram_code_written_fn *written, void *opaque)
{
    __atomic_store_n(&b->code_opaque, opaque, __ATOMIC_RELAXED);
    __atomic_store_n(&b->code_written, written, __ATOMIC_RELEASE);
}

/* One page, watched by someone. A bit goes before its client hears of it: who sets it again in between hears of it, too. */
static void note_page(struct ram_block *b, uint64_t page, uint64_t offset, uint64_t len)
{
    ram_code_written_fn *written = __atomic_load_n(&b->code_written, __ATOMIC_ACQUIRE);
    uint8_t stay = written ? DIRTY_CODE : 0;
    uint8_t clients = __atomic_fetch_and(&b->watch[page], stay, __ATOMIC_SEQ_CST);
    if (clients & DIRTY_CODE)
        __atomic_fetch_add(&b->code_gen[page], 1, __ATOMIC_SEQ_CST);
    if (clients)
        __atomic_fetch_or(&b->dirty[page], clients, __ATOMIC_SEQ_CST);
    if (clients & stay)
        written(__atomic_load_n(&b->code_opaque, __ATOMIC_RELAXED), b, offset, len);
}

void ram_note_write(struct ram_block *b, uint64_t offset, uint64_t len)
{
    if (len == 0)
        return;
    g_assert(offset < b->size && len <= b->size - offset);
    uint64_t last = (offset + len - 1) >> PAGE_BITS;
    for (uint64_t page = offset >> PAGE_BITS; page <= last; page++) {
        if (G_LIKELY(__atomic_load_n(&b->watch[page], __ATOMIC_ACQUIRE) == 0))
            continue;
        uint64_t from = MAX(offset, page << PAGE_BITS), to = MIN(offset + len, (page + 1) << PAGE_BITS);
        note_page(b, page, from, to - from);
    }
}

bool ram_page_is_zero(const struct ram_block *b, uint64_t offset)
{
    const uint8_t *p = b->host + (offset & PAGE_MASK);
    return p[0] == 0 && memcmp(p, p + 1, PAGE_SIZE - 1) == 0;
}

void ram_clear(struct ram_block *b, uint64_t offset, uint64_t len)
{
    g_assert(((offset | len) & ~PAGE_MASK) == 0 && offset <= b->size && len <= b->size - offset);
    for (uint64_t at = offset; at < offset + len; at += PAGE_SIZE) {
        if (!ram_page_is_zero(b, at)) {
            memset(b->host + at, 0, PAGE_SIZE);
            ram_note_write(b, at, PAGE_SIZE);
        }
    }
}

bool ram_watch(struct ram_block *b, uint64_t offset, uint64_t len, enum dirty_client client)
{
    if (len == 0)
        return false;
    g_assert(offset < b->size && len <= b->size - offset);
    bool fresh = false;
    uint64_t last = (offset + len - 1) >> PAGE_BITS;
    for (uint64_t page = offset >> PAGE_BITS; page <= last; page++)
        fresh |= __atomic_fetch_or(&b->watch[page], client, __ATOMIC_SEQ_CST) == 0;
    return fresh;
}

bool ram_test_and_clear_dirty(struct ram_block *b, uint64_t offset, enum dirty_client client)
{
    uint64_t page = offset >> PAGE_BITS;
    g_assert(offset < b->size);
    /* In this order: a write noted in between leaves the dirty bit set; the other way round it could vanish. */
    bool was = __atomic_fetch_and(&b->dirty[page], (uint8_t)~client, __ATOMIC_SEQ_CST) & client;
    __atomic_fetch_or(&b->watch[page], client, __ATOMIC_SEQ_CST);
    return was;
}
