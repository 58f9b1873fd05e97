/*
 * The host's processor as the oracle: one instruction is executed natively, by the interpreter and as translated code
 * from the same state, and the outcomes are compared.
 *
 *     oracle_native.c  runs it on the host (x86-64 Linux): 64-bit, 32-bit or 16-bit code
 *     oracle_guest.c   runs it on a small machine in long mode, CPL 3
 *     oracle_jit.c     the same by the JIT
 *     oracle_gen.c     makes random instances of the rows of cpu/insn.def
 *     oracle_compare.c compares and reports
 *
 * Both sides see the same linear addresses: data pages at ORACLE_DATA and two code pages at ORACLE_CODE.
 */
#ifndef TESTS_LIB_ORACLE_H
#define TESTS_LIB_ORACLE_H

#include "cpu/cpu.h"

#include <glib.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>

#define ORACLE_PAGE 4096u
/* hole, RW, RW, hole, RW, read-only, hole */
#define ORACLE_DATA 0x70000000u
#define ORACLE_DATA_PAGES 7
#define ORACLE_DATA_BYTES (ORACLE_DATA_PAGES * ORACLE_PAGE)
#define ORACLE_CODE 0x78000000u
#define ORACLE_CODE_BYTES (2 * ORACLE_PAGE)
#define ORACLE_GS_BASE (ORACLE_DATA + 0x1234u)

enum oracle_page { ORACLE_HOLE, ORACLE_RW, ORACLE_RO };
static inline enum oracle_page oracle_page_kind(unsigned page)
{
    static const uint8_t kinds[ORACLE_DATA_PAGES] = { ORACLE_HOLE, ORACLE_RW, ORACLE_RW, ORACLE_HOLE,
                                                      ORACLE_RW,   ORACLE_RO, ORACLE_HOLE };
    return kinds[page];
}

/* What a user program sees of the processor. x87 as in FXSAVE: st[] by stack position, tags by physical register. */
struct oracle_regs {
    uint64_t r[16];
    uint64_t rip, rflags;
    union vec v[16];
    uint32_t mxcsr;
    uint16_t fcw, fsw, fop;
    uint8_t ftag;
    uint64_t fip, fdp;
    struct float80 st[8];
};

/*
 * What code runs as: 64-bit; 32-bit with flat segments; 16-bit or 32-bit in segments with bases and limits of their
 * own, out of a local descriptor table.
 */
enum oracle_mode { ORACLE_64, ORACLE_32, ORACLE_SEG16, ORACLE_SEG32 };

static inline unsigned oracle_code_size(enum oracle_mode mode)
{
    return mode == ORACLE_64 ? 3 : mode == ORACLE_SEG16 ? 1 : 2;
}
static inline bool oracle_segmented(enum oracle_mode mode)
{
    return mode == ORACLE_SEG16 || mode == ORACLE_SEG32;
}

/* Segments of the segmented modes, as entries of the local descriptor table. */
struct oracle_segment {
    uint32_t base, limit;
    uint16_t selector;
    bool code, expand_down, read_only, big;
};
enum { ORACLE_SEGMENTS = 7 };
extern const struct oracle_segment oracle_segments[ORACLE_SEGMENTS];
/* The one in segment register s; NULL for FS, which stays null. `stack16`: SS has a 16-bit stack pointer. */
const struct oracle_segment *oracle_segment(enum oracle_mode mode, bool stack16, enum seg s);

struct oracle_case {
    struct oracle_regs in;
    uint8_t code[16];
    unsigned len;          /* by our decoder */
    uint8_t mode;          /* enum oracle_mode */
    bool stack16;          /* segmented: SP, not ESP, whose upper half is lost on the way in and not compared */
    bool step;             /* ends by single step on the host: it may jump */
    struct insn insn;      /* decoded, RIP-relative displacement raw */
    const uint8_t *memory; /* ORACLE_DATA_BYTES, contents before */
};

/* Where the instruction stands, from ORACLE_CODE. */
static inline unsigned oracle_code_offset(const struct oracle_case *c)
{
    return (unsigned)(c->in.rip - (oracle_segmented(c->mode) ? 0 : ORACLE_CODE));
}

/* Which part of an engine ran it: the JIT leaves some instructions to the interpreter's handlers, others whole to it. */
enum oracle_way { ORACLE_BY_INTERPRETER, ORACLE_BY_HANDLER, ORACLE_BY_TEMPLATE, ORACLE_WAYS };

struct oracle_outcome {
    const char *who;         /* "host", "interp", "jit,..." */
    enum oracle_way way;
    uint32_t stale;          /* flags that may be old (see README on flags=precise) */
    struct oracle_regs regs; /* rip: of the next instruction, or of the one that faulted */
    int vector;              /* of the exception, or -1 */
    uint32_t error;          /* its error code */
    uint64_t address;        /* of a #PF */
    uint8_t memory[ORACLE_DATA_BYTES];
};

/* --- The host ----------------------------------------------------------------------------------------------------- */

/* False: one sentence why this host cannot be the oracle for this mode. Once in a process. */
bool oracle_native_init(enum oracle_mode mode, GString *why);
bool oracle_native_has(unsigned feature); /* enum cpu_feature */
void oracle_native_run(const struct oracle_case *c, struct oracle_outcome *out);

/* --- The engines -------------------------------------------------------------------------------------------------- */

struct oracle_guest;
/* `engine` as -accel takes it: "interp", "jit", "jit,flags=precise". NULL: the host or the build has no such thing. */
struct oracle_guest *oracle_guest_new(const char *engine);
void oracle_guest_free(struct oracle_guest *g);
struct cpu *oracle_guest_cpu(struct oracle_guest *g);
/* Through the whole engine: fetch, decode, translation, handler or template, delivery of a fault. */
void oracle_guest_run(struct oracle_guest *g, const struct oracle_case *c, struct oracle_outcome *out);
/* By calling `fn` for the decoded instruction. */
void oracle_guest_call(struct oracle_guest *g, const struct oracle_case *c, op_fn *fn, struct oracle_outcome *out);

/* The JIT's part of it: translates the instruction at RIP, which is of that row, and runs it, delivery included. */
enum oracle_way oracle_jit_step(struct cpu *cpu, unsigned row);
/* Of a machine run by the JIT: see jit_spoil(). */
void oracle_jit_spoil(struct cpu *cpu, const char *mnemonic);

/* --- Generator ---------------------------------------------------------------------------------------------------- */

/* Registers that memory operands shall be made of, as bit sets; without one any register may be. */
struct oracle_address {
    uint16_t bases, indexes;
    uint8_t vector_index; /* of gathers */
};

/* An instance under way: the rest behind `n` is random bytes, which the decoder cuts off where the instruction ends. */
struct oracle_encoder {
    uint8_t b[40];
    unsigned n;
    bool address16;
    uint8_t rxb;                  /* R, X and B of REX or VEX */
    unsigned disp_at, disp_bytes; /* where a displacement stands, or 0; bytes: that of a ModRM operand */
};

struct oracle_gen {
    uint64_t rng[2];
    uint8_t mode; /* enum oracle_mode */
    const struct oracle_address *address; /* or NULL */
    uint8_t memory[ORACLE_DATA_BYTES];
    unsigned memory_age;
};

void oracle_gen_init(struct oracle_gen *g, uint64_t seed, enum oracle_mode mode);
/* Can the row be compared with the host at all, in this mode? If not, *why gets a word for the summary. */
bool oracle_row_usable(const struct insn_row *row, enum oracle_mode mode, const char **why);
/* The bytes of one, for any state: may decode to another row. */
void oracle_encode(struct oracle_gen *g, const struct insn_row *row, struct oracle_encoder *e);
/* An instance of the row; false: none this time (it decodes to another row, or its address would not be safe). */
bool oracle_gen_case(struct oracle_gen *g, unsigned row, struct oracle_case *c);
/* An instance with a wrong bit or a prefix too many: some instruction, one that we do not know, or none this time. */
enum oracle_mutant { ORACLE_MUTANT_NONE, ORACLE_MUTANT_VALID, ORACLE_MUTANT_INVALID };
enum oracle_mutant oracle_gen_mutant(struct oracle_gen *g, unsigned row, struct oracle_case *c);
/* Linear address of its ModRM operand. */
uint64_t oracle_operand(const struct oracle_case *c);
uint64_t oracle_random(struct oracle_gen *g);

/* --- Comparison --------------------------------------------------------------------------------------------------- */

/* Appends one line per difference to `out`; true if there is none. `strict`: undefined flags too. */
bool oracle_compare(const struct oracle_case *c, const struct oracle_outcome *native,
                    const struct oracle_outcome *guest, bool strict, GString *out);
/* The whole test program: exit status. */
int oracle_main(enum oracle_mode mode);

/* The instance: row, bytes, disassembly, inputs. */
void oracle_describe(const struct oracle_case *c, GString *out);

#endif
