/*
 * The software TLB, shared in layout by all software engines: the fast path is a few instructions inline.
 *
 * A vCPU holds several TLBs, one for each (address space, view) it has used lately: a CR3 write with PCID, SYSCALL, IRET or
 * STAC is a change of cpu->tlb, not a flush. cpu/tlb.c chooses and flushes; cpu/mmu.c fills.
 *
 * An access of `size` bytes at linear address a hits if (a - tag) <= PAGE_SIZE - size, which catches page crossing too. A
 * tag that must miss (I/O, pages with code, watchpoints, accessed or dirty bit not yet set) names a page that belongs into
 * another slot, so that no address at all, canonical or not, can hit it.
 */
#ifndef CPU_TLB_H
#define CPU_TLB_H

#include <stdint.h>

#define TLB_BITS 10
#define TLB_SIZE (1u << TLB_BITS)
#define TLB_SLOW UINT64_C(0x1000)  /* XORed into a tag: the translation is valid but each access asks */
#define TLB_EMPTY UINT64_C(0x2000) /* XORed into the slot's own page 0 address: no translation */

struct tlb_entry {
    uint64_t tag_read, tag_write, tag_exec; /* linear page address, changed so as to miss where not allowed */
    uint64_t addend;                        /* host address minus linear address; 0 for I/O */
};

/* The rest of a translation, for the slow path. */
struct tlb_info {
    uint64_t phys;  /* of the page, flags in the low bits: TLB_INFO_* */
};

struct tlb {
    struct tlb_entry e[TLB_SIZE];
    struct tlb_info info[TLB_SIZE];
    uint64_t used[TLB_SIZE / 64]; /* bit per entry: flush cost follows entries in use */
};

static inline unsigned tlb_index(uint64_t addr)
{
    return (addr >> 12) & (TLB_SIZE - 1);
}

#endif
