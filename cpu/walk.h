/*
 * The page walk: linear to physical by the paging mode in force. Used by the MMU's TLB fill and by debuggers.
 */
#ifndef CPU_WALK_H
#define CPU_WALK_H

#include "cpu/cpu.h"

struct walk {
    uint64_t phys;        /* of the byte asked for, A20 applied */
    uint8_t page_bits;    /* 12, 21, 22 or 30: size of the page that maps it */
    bool user, writable, no_exec, global;
    bool dirty;           /* the D bit is set (by this walk, if it was for a write) */
    uint8_t key;          /* protection key of a user page */
    uint32_t error;       /* of a failed walk: PF_P and PF_RSVD bits */
};

/*
 * Walks for one kind of access by one view. True: allowed, A (and D for a write) are set in the tables. False: w->error
 * is the #PF error code. `peek` touches neither tables nor permissions (debuggers): true if mapped.
 */
bool page_walk(struct cpu *cpu, uint64_t addr, enum access access, enum tlb_view view, bool peek, struct walk *w);
/* Does this view allow the access to a page with these attributes? */
bool walk_allows(const struct cpu *cpu, const struct walk *w, enum access access, enum tlb_view view);
/* Reads the PAE page-directory pointers for `cr3`; false: a reserved bit is set (#GP of MOV CR). */
bool walk_load_pdptes(struct cpu *cpu, uint64_t cr3, uint64_t out[4]);

#endif
