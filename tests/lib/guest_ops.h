/*
 * Guests for paging and fetching that are driven by a list: the test lists stores, invalidations, changes of control
 * registers and calls with what each call shall return or raise; a small guest works through the list. What is called
 * is code that the list has put somewhere.
 *
 *     struct ops *o = ops_new("remap");
 *     ops_store(o, OPS_PT, 0x200003, 8);
 *     ops_call(o, OPS_VIRT, 1);
 *     ops_run(o);
 *
 * 64-bit mode, the first GiB mapped to itself in 2 MiB pages, the first one for supervisors; EFER.NXE. The 2 MiB at OPS_VIRT are mapped by the table at OPS_PT, empty at first, whose directory entry is at OPS_PDE. Called code may change any
 * register; user code ends with INT 0x80, whose gate counts as the end of the call.
 */
#ifndef TESTS_LIB_GUEST_OPS_H
#define TESTS_LIB_GUEST_OPS_H

#include "tests/lib/guest_test.h"

#define OPS_PML4 0x1000u
#define OPS_PDE 0x3018u      /* of OPS_VIRT */
#define OPS_PT 0x10000u
#define OPS_TABLES 0x11000u  /* free for more page tables, up to 0x20000 */
#define OPS_VIRT 0x600000u
#define OPS_FRAMES 0x200000u /* free physical memory, below 0x5f0000 */
#define OPS_ARGS 4

struct ops;
struct ops *ops_new(const char *name);

/* Guest memory before the start. */
void ops_load(struct ops *o, uint64_t phys, const void *start, const void *end);
/* In the order in which the guest does them. */
void ops_store(struct ops *o, uint64_t at, uint64_t value, unsigned size);
void ops_invlpg(struct ops *o, uint64_t at);
void ops_invpcid(struct ops *o, unsigned type, uint64_t pcid, uint64_t at);
void ops_cr3(struct ops *o, uint64_t value);
void ops_cr4(struct ops *o, uint64_t set, uint64_t clear);
/* Calls code that shall return that RAX; `args` (or NULL) are in RDI, RSI, RDX, RCX. The text tells the case. */
void ops_call(struct ops *o, uint64_t at, const uint64_t *args, uint64_t rax, const char *what, ...) G_GNUC_PRINTF(5, 6);
/* The next call runs at CPL 3. */
void ops_user(struct ops *o);
/* The last call shall raise this instead, at `rip`. */
void ops_fault(struct ops *o, unsigned vector, unsigned error, uint64_t rip, uint64_t cr2);
/* Runs the list, compares and frees all. */
void ops_run(struct ops *o);

/* Code for ops_load() that runs anywhere. */
#define OPS_CODE(name, ...) \
    extern const char name##_start[], name##_end[]; \
    __asm__(".pushsection .rodata\n" #name "_start:\n" __VA_ARGS__ "\n" #name "_end:\n.popsection\n");

#endif
