/*
 * Guest-physical memory and I/O ports: regions, address spaces, RAM blocks.
 *
 * A mem_region is RAM, ROM, I/O, an alias of another region, or a container of regions. Regions form a tree by
 * mem_map(); where siblings overlap the higher priority wins, and among equals the one mapped last. An address_space
 * is the root of such a tree plus an immutable sorted array (struct flat_view) computed from it. I/O ports are a second
 * address space on the same code.
 *
 * Locks: the tree changes under the VM lock (hw/core/vm_lock.h) only; the flat view is published atomically. Whoever
 * holds the VM lock may use address_space.view directly; a vCPU thread, which reads memory without the lock, holds a
 * reference of its own (flat_view_get) and renews it when its listener tells of a commit.
 */
#ifndef HW_CORE_MEMORY_H
#define HW_CORE_MEMORY_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct device;
struct flat_view;
struct mem_region;

#define PAGE_BITS 12
#define PAGE_SIZE (UINT64_C(1) << PAGE_BITS)
#define PAGE_MASK (~(PAGE_SIZE - 1))

/* --- RAM blocks ------------------------------------------------------------------------------------------------ */

/*
 * Who wants to hear of writes to a page. A client's bit is set in ram_block.watch[page] while it waits for the next
 * write; any set bit sends a vCPU's store to the slow path, which calls ram_note_write(): that clears the bit and
 * tells the client. So a page that is written often costs one slow store per question asked.
 */
enum dirty_client {
    DIRTY_CODE = 1 << 0,      /* decoded or translated code lies in the page: code_gen[page] counts up */
    DIRTY_DISPLAY = 1 << 1,   /* a display wants to redraw it */
    DIRTY_MIGRATION = 1 << 2, /* a migration or snapshot has to send it again */
};

struct ram_block;
typedef void ram_code_written_fn(void *opaque, struct ram_block *b, uint64_t offset, uint64_t len);

struct ram_block {
    char *name;
    uint8_t *host; /* page aligned */
    uint64_t size; /* bytes, a multiple of PAGE_SIZE */
    uint8_t *watch;     /* per page: enum dirty_client bits of those that wait for a write; atomic bytes */
    uint8_t *dirty;     /* per page: bits of those clients whose page was written since they last asked; atomic */
    uint32_t *code_gen; /* per page: number of writes noted while DIRTY_CODE was watched; atomic */
    /*
     * Called for a write to bytes of one page that is watched for code, once it is counted; any thread. Where no code is
     * left in the page, it clears DIRTY_CODE in watch[] and then counts once more. NULL: nobody wants to keep the page watched.
     * Set by ram_set_code_written().
     */
    ram_code_written_fn *code_written;
    void *code_opaque;
};

/*
 * Anonymous zeroed memory, or what `mem-path` names (may be NULL). Fails with a sentence when the host has too little.
 */
struct ram_block *ram_block_new(const char *name, uint64_t size, const char *mem_path, GError **err);
void ram_block_free(struct ram_block *b);

/* Says who is called for writes to pages that hold code; for good: `opaque` outlives the vCPUs. Stores may go on meanwhile. */
void ram_set_code_written(struct ram_block *b, ram_code_written_fn *written, void *opaque);

/*
 * Bytes at `offset` have been stored, or are about to be: wakes every client watching the pages. Any thread. Where it
 * can be done, call it after the store: a client that asks again in between then sees the new bytes or is told again.
 */
void ram_note_write(struct ram_block *b, uint64_t offset, uint64_t len);
/* True if some client watches the page of `offset`. Any thread. */
static inline bool ram_watched(const struct ram_block *b, uint64_t offset)
{
    return __atomic_load_n(&b->watch[offset >> PAGE_BITS], __ATOMIC_ACQUIRE) != 0;
}
/*
 * Starts watching the pages of [offset, offset+len) for `client`; true if any was not watched by anyone before, in
 * which case vCPUs may hold TLB entries that write without asking: the caller makes them drop these.
 */
bool ram_watch(struct ram_block *b, uint64_t offset, uint64_t len, enum dirty_client client);
/* True if the page at `offset` holds nothing but zeros. */
bool ram_page_is_zero(const struct ram_block *b, uint64_t offset);
/*
 * Zeroes whole pages and tells clients. Pages that are zero already are not written, so that memory which nobody has
 * touched stays untouched on the host. vCPUs paused.
 */
void ram_clear(struct ram_block *b, uint64_t offset, uint64_t len);
/*
 * Returns and clears the client's dirty bit of the page, and watches the page again; if true, vCPUs may hold TLB
 * entries that write without asking, as after ram_watch().
 */
bool ram_test_and_clear_dirty(struct ram_block *b, uint64_t offset, enum dirty_client client);

/* --- Regions --------------------------------------------------------------------------------------------------- */

enum mem_kind { MEM_CONTAINER, MEM_RAM, MEM_ROM, MEM_IO, MEM_ALIAS };

/* Sizes in bytes, powers of two. 0 in a field means the default in brackets. */
struct mem_access_sizes {
    uint8_t min; /* [1] */
    uint8_t max; /* [valid: 8, impl: 4] */
    bool unaligned;
};

/*
 * How a chip answers. `valid` is what a guest may use: other accesses read all ones and are logged as guest errors.
 * `impl` is what the functions handle: core splits wider and misaligned accesses into aligned ones, cuts a narrower
 * read out of a wider one, and widens a narrower write with zeros around it. Values are little-endian numbers. Called
 * with the VM lock held. `offset` is within the region.
 */
struct mem_ops {
    uint64_t (*read)(void *opaque, uint64_t offset, unsigned size);
    void (*write)(void *opaque, uint64_t offset, uint64_t value, unsigned size);
    struct mem_access_sizes valid, impl;
};

/* Embedded in its device; initialised by one mem_init_*, mapped by mem_map, gone by mem_fini. Fields are core's. */
struct mem_region {
    const char *name;
    struct device *owner; /* may be NULL; refused when it re-enters itself through its own DMA */
    uint64_t size;        /* bytes, at most 2^52 */
    enum mem_kind kind;
    bool enabled;
    bool read_only; /* RAM below: stores go to the RAM region's `ops` if set, else nowhere */
    int priority;
    uint64_t addr; /* in the parent */
    struct mem_region *parent;
    GList *children; /* sorted: highest priority first, then latest */
    struct ram_block *ram;
    uint64_t ram_offset;
    const struct mem_ops *ops;
    void *opaque;
    struct mem_region *target; /* of an alias */
    uint64_t target_offset;
    GSList *spaces; /* address spaces whose root this is */
};

void mem_init_container(struct mem_region *r, struct device *owner, const char *name, uint64_t size);
void mem_init_io(struct mem_region *r, struct device *owner, const struct mem_ops *ops, void *opaque, const char *name,
                 uint64_t size);
/* RAM or ROM on a block that the caller owns and that outlives the region. */
void mem_init_ram(struct mem_region *r, struct device *owner, const char *name, struct ram_block *b, uint64_t offset,
                  uint64_t size);
void mem_init_rom(struct mem_region *r, struct device *owner, const char *name, struct ram_block *b, uint64_t offset,
                  uint64_t size);
void mem_init_alias(struct mem_region *r, struct device *owner, const char *name, struct mem_region *target,
                    uint64_t target_offset, uint64_t size);
void mem_fini(struct mem_region *r); /* unmaps it, and its children from it */

void mem_map(struct mem_region *parent, uint64_t addr, struct mem_region *r, int priority);
void mem_unmap(struct mem_region *r);
void mem_set_enabled(struct mem_region *r, bool enabled);
void mem_set_addr(struct mem_region *r, uint64_t addr);
/* RAM becomes ROM and back; of an alias or container: the RAM that shows through it. */
void mem_set_read_only(struct mem_region *r, bool read_only);
void mem_set_target(struct mem_region *alias, struct mem_region *target, uint64_t target_offset);

/* Changes between begin and commit become visible at once, at the outermost commit. */
void mem_transaction_begin(void);
void mem_transaction_commit(void);

/* --- Flat views and address spaces ----------------------------------------------------------------------------- */

struct flat_range {
    uint64_t start, last; /* both inclusive */
    struct mem_region *region; /* never an alias or container */
    uint64_t offset;           /* of `start` in the region */
    uint8_t *host;             /* host address of `start` for RAM and ROM, else NULL */
    bool read_only;
};

/* Offset in its ram_block of an address that the range holds; only for ranges whose region has one. */
static inline uint64_t flat_range_ram_offset(const struct flat_range *r, uint64_t addr)
{
    return r->region->ram_offset + r->offset + (addr - r->start);
}

struct flat_view {
    int refs; /* atomic */
    unsigned count;
    unsigned largest;           /* index of the longest range with memory behind it: what is looked for mostly */
    struct flat_range ranges[]; /* sorted, disjoint; holes are unassigned */
};

/* Takes a reference; of address_space.view under the VM lock only. */
struct flat_view *flat_view_get(struct flat_view *v);
void flat_view_put(struct flat_view *v);
/* The range that holds addr, or NULL for a hole. */
const struct flat_range *flat_view_search(const struct flat_view *v, uint64_t addr);
static inline const struct flat_range *flat_view_find(const struct flat_view *v, uint64_t addr)
{
    const struct flat_range *r = &v->ranges[v->largest];
    if (G_LIKELY(v->count && addr - r->start <= r->last - r->start))
        return r;
    return flat_view_search(v, addr);
}
/*
 * One access of 1, 2, 4 or 8 bytes, which may cross ranges. VM lock unless all of it is RAM or holes; as a device may
 * have left the map since the caller took its view, I/O goes through address_space_load/store.
 */
uint64_t flat_view_load(const struct flat_view *v, uint64_t addr, unsigned size);
void flat_view_store(const struct flat_view *v, uint64_t addr, uint64_t value, unsigned size);

/* Told under the VM lock. range_del for vanished ranges, then range_add for new ones, then commit; each may be NULL. */
struct mem_listener {
    void (*range_add)(struct mem_listener *l, const struct flat_range *r);
    void (*range_del)(struct mem_listener *l, const struct flat_range *r);
    void (*commit)(struct mem_listener *l);
};

struct address_space {
    const char *name;
    struct mem_region *root;
    struct flat_view *view; /* published atomically */
    GSList *listeners;
};

void address_space_init(struct address_space *as, struct mem_region *root, const char *name);
void address_space_fini(struct address_space *as);
/* Tells the new listener of all present ranges, then commit. */
void address_space_listen(struct address_space *as, struct mem_listener *l);
void address_space_unlisten(struct address_space *as, struct mem_listener *l);

/*
 * One access of 1, 2, 4 or 8 bytes through a range, as a processor or a device makes it, or through a hole if r is
 * NULL (all ones, logged once per address under -d unimp). I/O is split and widened as mem_ops says. RAM stores wake
 * dirty clients. The VM lock must be held for I/O; RAM and ROM may be used without. Bytes behind the range's end count
 * as a hole: an access that may cross ranges goes by flat_view_load/store.
 */
uint64_t mem_range_read(const struct flat_range *r, uint64_t addr, unsigned size);
void mem_range_write(const struct flat_range *r, uint64_t addr, uint64_t value, unsigned size);

/*
 * The same by address, any alignment, under the VM lock: what devices use for DMA. False: part of it hit no RAM or
 * device.
 */
bool address_space_read(struct address_space *as, uint64_t addr, void *buf, uint64_t len);
bool address_space_write(struct address_space *as, uint64_t addr, const void *buf, uint64_t len);
uint64_t address_space_load(struct address_space *as, uint64_t addr, unsigned size);
void address_space_store(struct address_space *as, uint64_t addr, uint64_t value, unsigned size);
/*
 * Host pointer to RAM at addr and how much follows there (at most *len); NULL where it is not RAM. With `write` dirty
 * clients are told now: write before the VM lock is released.
 */
uint8_t *address_space_ram(struct address_space *as, uint64_t addr, uint64_t *len, bool write);

/* The `info mtree` text: the tree, then the flat view. */
void address_space_print(struct address_space *as, GString *out);

#endif
