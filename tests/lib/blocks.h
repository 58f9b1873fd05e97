/*
 * Random code of many instructions, run by two engines from the same state, whose outcomes have to be equal.
 *
 *     blocks_machine.c  a small PC-less machine in any mode of the processor, and running it
 *     blocks_gen.c      makes the code, on top of oracle_gen.c's instances of single rows
 *     blocks_compare.c  compares, prints, and makes a case smaller
 *
 * The same 32 pages of RAM, seen through a page table that repeats itself all over the address space, hold tables, code
 * and data. Whatever ends the code ends in a HLT: its own, or that of the handler of an exception.
 */
#ifndef TESTS_LIB_BLOCKS_H
#define TESTS_LIB_BLOCKS_H

#include "cpu/cpu.h"
#include "tests/lib/oracle.h"

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* --- Layout ------------------------------------------------------------------------------------------------------- */

#define BLOCKS_PAGE 4096u
#define BLOCKS_RAM_PAGES 32u
#define BLOCKS_RAM_BYTES (BLOCKS_RAM_PAGES * BLOCKS_PAGE)

/* Physical pages. In linear addresses everything is at its physical offset in each 2 MiB, but for the aliases. */
enum {
    PAGE_IVT,
    PAGE_PML4,
    PAGE_PDPT,
    PAGE_DESCRIPTORS, /* GDT; TSSs; the four pointers of PAE */
    PAGE_PD,
    PAGE_PT,
    PAGE_IDT64,
    PAGE_IDT32,
    PAGE_HANDLERS,
    PAGE_STACK0,      /* of ring 0 */
    PAGE_STACK_DF,    /* of double faults in long mode */
    PAGE_CODE = 12,   /* three, then a hole */
    PAGE_CODE_END = 15,
    PAGE_DATA = 16,   /* up to PAGE_DATA_END: a hole, then as blocks_page_kind tells */
    PAGE_DATA_END = 27,
};

enum blocks_page {
    BLOCKS_HOLE, BLOCKS_RW, BLOCKS_RO, BLOCKS_SUPER, BLOCKS_FRESH, BLOCKS_CODE, BLOCKS_ALIAS, BLOCKS_DEVICE
};
#define BLOCKS_DEVICE_PHYS 0x40000u
/* What a page of [PAGE_DATA, PAGE_DATA_END) is. FRESH is not accessed yet; CODE and ALIAS show another page. */
enum blocks_page blocks_page_kind(unsigned page);

/* Code of 64-bit, 32-bit and 16-bit mode; CPL 0 or 3 but in the last two. */
enum blocks_mode {
    BLOCKS_LONG,
    BLOCKS_COMPAT, /* 32-bit code in long mode */
    BLOCKS_PROT,   /* 32-bit code, flat segments, PAE paging */
    BLOCKS_SEG32,  /* 32-bit code, segments with bases and limits */
    BLOCKS_SEG16,
    BLOCKS_V86,
    BLOCKS_REAL,
    BLOCKS_MODES
};
extern const char *const blocks_mode_names[BLOCKS_MODES];

static inline unsigned blocks_code_size(enum blocks_mode m)
{
    return m == BLOCKS_LONG ? 3 : m <= BLOCKS_SEG32 ? 2 : 1;
}
static inline bool blocks_protected(enum blocks_mode m)
{
    return m <= BLOCKS_SEG16;
}
static inline bool blocks_long(enum blocks_mode m)
{
    return m <= BLOCKS_COMPAT;
}

/* --- A case ------------------------------------------------------------------------------------------------------- */

#define BLOCKS_ITEMS 112     /* instructions of the test and those that prepare for them */
#define BLOCKS_CODE_BYTES (2 * BLOCKS_PAGE)

struct blocks_item {
    uint16_t at;    /* offset in the code */
    uint16_t undef; /* arithmetic flags that the manual leaves open here */
    uint8_t len;
    bool gone;      /* made a NOP of */
    bool keep;      /* what comes behind needs it to be comparable */
};

struct blocks_case {
    uint64_t seed, number;
    enum blocks_mode mode;
    struct cpu start;         /* its architectural fields are the state to begin with */
    uint32_t code_phys;       /* physical address of the first instruction */
    uint16_t code_len;
    uint16_t undef_any;       /* union of the items' and, where code changes itself, of AF */
    uint16_t count;
    bool changes_itself;
    bool flush;               /* TLBs are emptied first */
    uint8_t again;            /* the code has been run so often before */
    struct blocks_item items[BLOCKS_ITEMS];
    uint8_t code[BLOCKS_CODE_BYTES];
};

/* --- Machines ----------------------------------------------------------------------------------------------------- */

struct blocks_machine {
    char *engine;
    struct machine *m;
    struct cpu *cpu;
    uint8_t *mem; /* host address of physical 0 */
    struct ram_block *ram;
    struct mem_region region, device_region;
    uint64_t device; /* what was done to the device, in one number */
    struct cpu_model *model;
    bool steps;   /* engine "step" */
    /* Engine "broken": after each instruction, which `i` was */
    void (*spoil)(struct blocks_machine *b, const struct insn *i);
    uint32_t insn_phys; /* where it was, for it: UINT32_MAX: not in RAM */
    uint8_t insn_bytes[15];
    bool traced_open;   /* set by blocks_trace */
    bool traced_wild;   /* likewise: beside the code of the case */
    bool traced_search; /* likewise: a repeated comparison: after a pause a fault finds other flags */
    const struct blocks_case *traced;
    bool stuck;   /* it was told to stop; atomic */
    /* What was delivered in this run; for the watchdog, whether it is under way and how often that was seen */
    unsigned exceptions;
    struct blocks_exception {
        uint32_t vector;
        uint64_t error, rip, address;
    } exception[8];
    unsigned exceptions_allowed;
    unsigned runs, run_number; /* the latter atomic; 0: none */
    GThread *watchdog, *kicker;
    bool kicks; /* another thread makes it leave its engine all the time */
    uint64_t pauses; /* how often it did, kicked by that or by the device */
    GMutex lock;
    GCond quit_now;
    bool quit;
};

/*
 * An engine as -accel names it ("jit,hot=0"), or "step": the interpreter, one instruction at a time, or "broken": the
 * same with `spoil` called after each; "kicked " before one has it interrupted all the time. NULL with a sentence where
 * the engine is not to be had. Without the VM lock.
 */
struct blocks_machine *blocks_machine_new(const char *engine, const char *model, GError **err);
void blocks_machine_free(struct blocks_machine *b);

enum blocks_outcome { BLOCKS_HALTED, BLOCKS_SHUTDOWN, BLOCKS_ENDLESS };
/*
 * To the end. ENDLESS: after `most` instructions (interpreter) or some hundred exceptions, or when the watchdog has
 * lost patience.
 */
enum blocks_outcome blocks_machine_run(struct blocks_machine *b, unsigned most);

/* What the processor starts with in a mode: control registers, tables, segments; the rest as after a reset. */
void blocks_start_state(struct cpu *start, enum blocks_mode mode, unsigned cpl);
/* Sets segment s of a state that is no live processor's. */
void blocks_set_segment(struct cpu *start, enum seg s, uint16_t selector, uint64_t base, uint32_t limit, uint32_t attr);
/* Both machines' memory before a case, but for data: tables and handlers. */
void blocks_build_memory(uint8_t *mem);
/* Loads registers; the code and the memory are there. `flush`: as after loading a saved state. */
void blocks_machine_load(struct blocks_machine *b, const struct blocks_case *c, bool flush);
/* Physical address for a linear one in a state with this CR0. UINT32_MAX: not mapped. */
uint32_t blocks_translate(const struct cpu *cpu, const uint8_t *mem, uint64_t linear);

/* A part of struct cpu that programs can see; segments apart. Derived ones are compared only. */
struct blocks_field {
    const char *name;
    uint16_t offset, size;
    bool derived;
};
extern const struct blocks_field blocks_fields[];
extern const unsigned blocks_field_count;

/* --- Two of them -------------------------------------------------------------------------------------------------- */

struct blocks_pair {
    struct blocks_machine *reference, *subject, *tracer;
    uint8_t memory[BLOCKS_RAM_BYTES]; /* before each case */
    enum blocks_mode mode;            /* of the last case */
    bool precise;                     /* flags in a fault's frame are exact */
    bool page_tables_dirty;
    uint32_t code_at;                 /* where `memory` has code of `code_len` bytes */
    uint16_t code_len;
    uint64_t skipped, open, shutdowns, instructions; /* statistics, of the reference */
    uint64_t ends[33];                         /* by vector of the last exception; 32: none */
};

/* `model` as -cpu names it. */
struct blocks_pair *blocks_pair_new(const char *reference, const char *subject, const char *model, GError **err);
void blocks_pair_free(struct blocks_pair *p);
/* For `spoil`: notes if the instruction's result cannot be compared (blocks_gen.c). */
void blocks_trace(struct blocks_machine *b, const struct insn *i);
/* New contents of the data pages. */
void blocks_pair_fill(struct blocks_pair *p, struct oracle_gen *g);
enum blocks_verdict { BLOCKS_EQUAL, BLOCKS_DIFFERENT, BLOCKS_NO_CASE };
/* Runs the case on both; differences are appended to `out`, which may be NULL. NO_CASE: the reference does not end. */
enum blocks_verdict blocks_pair_run(struct blocks_pair *p, const struct blocks_case *c, GString *out);
/* Takes away instructions as long as the two differ; false: they do not when it is run again. */
bool blocks_minimise(struct blocks_pair *p, struct blocks_case *c);
/* Registers and disassembly. */
void blocks_describe(const struct blocks_pair *p, const struct blocks_case *c, GString *out);

/* --- Generator ---------------------------------------------------------------------------------------------------- */

struct blocks_gen;
struct blocks_gen *blocks_gen_new(void);
void blocks_gen_free(struct blocks_gen *g);
/* In the number of a case: its code is mostly of x87 and MMX, its exceptions mostly masked. */
#define BLOCKS_FLOATS (UINT64_C(1) << 40)
/* Case `number` of the sequence that `seed` names, in this mode; the same each time. */
void blocks_gen_case(struct blocks_gen *g, uint64_t seed, uint64_t number, enum blocks_mode mode,
                     struct blocks_case *c);
/* Right after a case: other registers for the same code. */
void blocks_gen_again(struct blocks_gen *g, struct blocks_case *c);
/* Rows of which no instance has been made so far, but those that results cannot be compared of; appended to `out`. */
unsigned blocks_gen_unused(const struct blocks_gen *g, GString *out);
/* For the data of cases from `number` on. */
struct oracle_gen *blocks_gen_values(struct blocks_gen *g, uint64_t seed, uint64_t number);

#endif
