/*
 * The software TLB, shared in layout by all software engines: the fast path is a few instructions inline.
 *
 * A vCPU holds several TLBs, one for each (address space, view) it has used lately: a CR3 write with PCID, SYSCALL,
 * IRET or STAC is a change of cpu->tlb, not a flush. cpu/tlb.c chooses and flushes; cpu/mmu.c fills.
 *
 * An access of `size` bytes at linear address a hits if (a - tag) <= PAGE_SIZE - size, which catches page crossing too.
 * A tag that must miss (I/O, pages with code, watchpoints, accessed or dirty bit not yet set) names a page that belongs
 * into another slot, so that no address at all, canonical or not, can hit it.
 */
#ifndef CPU_TLB_H
#define CPU_TLB_H

#include <stdbool.h>
#include <stdint.h>

#define TLB_BITS 12
#define TLB_SIZE (1u << TLB_BITS)
#define TLB_SLOW UINT64_C(0x1000)  /* XORed into a tag: the translation is valid but each access asks */
#define TLB_EMPTY UINT64_C(0x2000) /* XORed into the slot's own page 0 address: no translation */

struct tlb_entry {
    uint64_t tag_read, tag_write, tag_exec; /* linear page address, changed so as to miss where not allowed */
    uint64_t addend;                        /* host address minus linear address; 0 for I/O */
};

/*
 * The rest of a translation, for the slow path: physical page address and, in the low bits, what is special about it.
 */
#define TLB_GLOBAL (1u << 0) /* survives a CR3 write */
#define TLB_LARGE (1u << 1)  /* part of a 2 or 4 MiB page: INVLPG of any part drops it */
#define TLB_HUGE (1u << 2)   /* part of a 1 GiB page */
#define TLB_IO (1u << 3)     /* not RAM: addend means nothing */
#define TLB_ROM (1u << 4)    /* stores go to the region's ops or nowhere */
#define TLB_BREAK (1u << 5)  /* a data breakpoint lies in the page */
#define TLB_SLOTTED (1u << 6) /* some slot may be a copy */

/*
 * The page that generated code last found the stack in: a copy of an entry that may be read and written. Accesses relative to the
 * stack pointer need no entry to be looked for, so they do not wait for its addend either.
 */
#define TLB_STACK_WORDS 8
struct tlb_stack {
    uint64_t page, addend;
    uint64_t limit[TLB_STACK_WORDS]; /* [n - 1]: n words of 8 bytes fit in the page at offsets below this; 0: no page */
};

/*
 * Slots: the same for other accesses in generated code, each with a slot that is for reading or for writing and for one size. Entries
 * with copies there have TLB_SLOTTED.
 */
#define TLB_SLOTS 512
struct tlb_slots {
    uint64_t page[TLB_SLOTS], addend[TLB_SLOTS];
    uint64_t limit[TLB_SLOTS]; /* the access fits in the page at offsets below this; 0: no page */
    bool filled;               /* some may have a page */
};

struct tlb {
    struct tlb_entry e[TLB_SIZE];
    struct tlb_stack stack;
    struct tlb_slots slots;
    uint64_t info[TLB_SIZE];
    uint64_t used[TLB_SIZE / 64]; /* bit per entry: flush cost follows entries in use */
    uint64_t id;                  /* new when a page that code came from may be gone: what was derived from its address is stale */
    /* By half of the address space, a bit per index: a page of this index was let execute, maybe not the one that is there now. */
    uint64_t exec[2][TLB_SIZE / 64];
    bool exec_local;              /* one that is not global was */
    uint64_t large[2];            /* TLB_LARGE and TLB_HUGE in the lower and the upper half of the addresses: tlb_large_bit() */
};

/*
 * Paging-structure cache (SDM volume 3, 4.10.3): a table of the last level, by the linear address that led there, with what the
 * levels above it allow. Their accessed bits are set.
 */
#define TLB_TABLES 256
struct tlb_table {
    uint64_t area; /* linear address >> 21 */
    uint64_t turn; /* tlb_space.tables_turn when it was found: else it is stale */
    uint64_t phys;
    bool user, writable, no_exec;
};

/* One address space, by PCID. */
struct tlb_space {
    uint16_t pcid;
    bool in_use;
    uint64_t last_used;
    struct tlb view[3]; /* by enum tlb_view */
    uint64_t tables_turn; /* never 0; another one makes all of `tables` stale: every invalidation in the space does that */
    struct tlb_table tables[TLB_TABLES]; /* used by cpu/walk.c */
};

#define TLB_SPACES 8 /* Linux takes turns with 6 PCIDs on each processor */
struct tlb_set {
    struct tlb_space space[TLB_SPACES];
    struct tlb none;     /* always empty: in force while alignment checks are on, so that every access asks */
    unsigned current;    /* index of the space of CR3 */
    uint64_t turn, next_id;
    uint64_t flushes;    /* so often was a flush of whatever kind asked for */
    uint64_t super_id;   /* like the id of a TLB, for all supervisors' views together: code in global pages is the same in all */
};

struct cpu;

static inline uint64_t tlb_empty_tag(unsigned index)
{
    return ((uint64_t)index << 12) ^ TLB_EMPTY;
}
/* Does the tag allow the access, at least by the slow path? */
static inline bool tlb_tag_allows(uint64_t tag, uint64_t page)
{
    return (tag & ~TLB_SLOW) == (page & ~TLB_SLOW);
}

struct tlb_set *tlb_set_new(void);
void tlb_set_free(struct tlb_set *s);
void tlb_clear_entry(struct tlb *t, unsigned index);
/* Whenever the entry of this page loses a permission. */
void tlb_forget_copies(struct tlb *t, uint64_t page);
/*
 * Makes each translation that may write to the RAM page at this host address ask again. Its vCPU is not in guest code.
 */
void tlb_protect_host_page(struct cpu *cpu, const uint8_t *host);

static inline unsigned tlb_index(uint64_t addr)
{
    return (addr >> 12) & (TLB_SIZE - 1);
}
/* Where struct tlb.large notes that large pages lie around an address: 4 MiB share a bit, 1 GiB pages take all. */
static inline unsigned tlb_large_bit(uint64_t addr)
{
    return addr >> 22 & 63;
}

#endif
