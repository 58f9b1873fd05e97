/*
 * Templates: one guest instruction into x86-64 code. Internal to tcg/x86_64/.
 *
 * Registers of generated code:
 *   GS base   struct cpu
 *   RSP       shadow stack: for each guest call its return address and, below, the host's
 *   R14       cpu->tlb
 *   R8        RIP of the first byte of the unit's page
 *   RAX, RCX, R9  scratch; every template may use them
 *   the others hold 10 of the guest's registers (gen_host); guest R8 to R11, R14, R15 stay in struct cpu
 *   XMM, YMM  the guest's while cpu->loaded has LOADED_VECTORS; MXCSR likewise
 *   x87, MMX  the guest's while cpu->loaded has LOADED_X87
 *   DF is clear
 */
#ifndef TCG_X86_64_GEN_H
#define TCG_X86_64_GEN_H

#include "tcg/unit.h"
#include "tcg/x86_64/emit.h"

#include <stddef.h>

#define H_TLB H_R14
#define H_RIP H_R8
#define GUEST_RAX H_R10
#define GUEST_RCX H_R11
#define GUEST_RSP H_R15

/* Where a guest register lives, or H_NONE: in struct cpu. */
extern const int8_t gen_host[16];

struct gen;
typedef void gen_fn(struct gen *g, const struct insn *i, unsigned arg);
struct gen_template {
    gen_fn *fn; /* NULL: none */
    uint8_t arg;
    uint16_t needs; /* GEN_* */
};

/* Repeated string instructions that have code of their own. */
enum rep_kind { REP_MOVS, REP_STOS, REP_CMPS, REP_CMPS_NE, REP_SCAS, REP_SCAS_NE, REP_KINDS };

/* Code that all units share, made once. Executable addresses. */
struct backend {
    const uint8_t *enter;
    /*
     * RAX: struct insn (x87 registers stay loaded unless INSN_SEES_X87); flags in cpu->arith; comes back with flags in
     * both places. By LOADED_*: and with these loaded.
     */
    const uint8_t *call_handler[4];
    /* The same with gen_x87_reach() for the handler; x87 registers are loaded, and [1]: vector registers, too. */
    const uint8_t *reach[2];
    /* RAX = the time stamp counter; flags and scratch registers are lost. [1]: vector registers are loaded afterwards, too. */
    const uint8_t *read_tsc[2];
    const uint8_t *load_vectors;         /* keeps all but flags */
    const uint8_t *load_x87;             /* keeps all but flags and the scratch registers */
    const uint8_t *save_x87;             /* keeps RSI, RBX, RBP, R12 to R15 and vector registers, as a C function may */
    const uint8_t *leave;                /* RAX: RIP; flags in cpu->arith */
    const uint8_t *leave_flags;          /* RAX: RIP; flags in place */
    const uint8_t *retired;              /* RAX: RIP; flags in cpu->arith: leaves, this entry of the jump cache being stale */
    const uint8_t *leave_link;           /* RAX: struct link; flags in place */
    const uint8_t *jump[2];              /* [1]: gen_system(). RAX: RIP; flags in cpu->arith: goes there, or leaves */
    const uint8_t *look_up;              /* RAX = jit_look_up(); flags and scratch registers are lost */
    const uint8_t *find_stack;           /* gen_find_stack() */
    const uint8_t *find_slot[2];         /* gen_find_slot(): to read, to write */
    const uint8_t *lookup[2];            /* [1]: gen_system(). RAX: RIP, kept; RCX: its code, or 0 */
    const uint8_t *end;                  /* of all this */
    const uint8_t *syscall, *sysret, *iret[2 /* precise */]; /* between 64-bit code of CPL 3 and 0 (gen_privilege.c); come back to be refused */
    const uint8_t *rep[REP_KINDS][4][2]; /* by size of the elements, and 32 or 64-bit registers (gen_string.c) */
    unsigned next_slot[2 /* write */][6]; /* by log2 of the size (gen_slot.c) */
    bool has_avx, has_bmi2, has_xsave;
    struct gen_template *templates;      /* by row */
    struct gen *gen;                     /* for the translation under way */
};

enum cold_kind {
    COLD_HANDLER,     /* the whole instruction by its handler, then back */
    COLD_LEAVE,       /* leave at page offset `off`, flags in cpu->arith */
    COLD_LEAVE_FLAGS, /* the same, flags in place */
    COLD_VECTORS,     /* load vector registers, then back */
    COLD_X87,         /* x87 registers likewise */
    COLD_LINK,        /* not yet linked */
    COLD_INSIDE,      /* jump to an instruction of the unit that wants flags in memory; they are in place */
    COLD_FAR,         /* direct jump to another page, flags in place */
    COLD_SLOT,        /* an access elsewhere than the last time */
    COLD_RUN,         /* accesses to the stack outside the page where it was last */
    COLD_LANDING,     /* where a call comes back, for who has its address from elsewhere */
    COLD_RETURN,      /* the shadow stack does not know this return address (RAX) */
};

/* A piece of code away from the straight way. */
struct cold {
    enum cold_kind kind;
    struct fixup from[6];
    unsigned from_count;
    const uint8_t *back; /* writable view */
    const uint8_t *again; /* likewise: where an operand of x87, or the stack, turns out to be in reach after all; or NULL */
    const uint8_t *found; /* COLD_RUN, likewise: the TLB has the only access, addend in RCX */
    const struct insn *insn;
    const struct link *link; /* in gen.links */
    int32_t off;     /* page offset; COLD_RUN: lowest address, relative to RSP */
    uint16_t to;     /* COLD_INSIDE: index of the target */
    uint16_t run;    /* gen.run.number of the run that it is part of, or 0 */
    uint8_t words;   /* COLD_RUN: from there */
    uint8_t bytes;   /* COLD_RUN of one access: its size, else 0 */
    bool write;      /* likewise */
    bool in_r9;      /* likewise: the addend goes there */
    int32_t sp;      /* what RSP lacks */
    uint8_t base;    /* COLD_SLOT: the address is this register + off */
    uint16_t slot;   /* likewise */
    uint8_t loaded;  /* LOADED_*: as at the jump */
    const struct guest_insn *x87_at; /* likewise */
};

/* Straight code whose accesses to the stack are checked at once (gen_stack.c). */
struct run {
    unsigned first, last; /* indexes of its instructions */
    uint16_t number;      /* 1 and up: what is emitted twice is in several runs */
    unsigned accesses;    /* 0: none */
    int32_t low;          /* lowest address, relative to RSP at the first one */
    unsigned words;       /* of 8 bytes, from there */
    bool in_r9;           /* nothing else uses R9: the addend stays there, */
    bool r9_loaded;       /* and is there already */
    int32_t sp;           /* RSP is not yet where it should be: this is missing */
    struct cold *cold;    /* of the check; NULL: not yet made */
};

struct gen {
    struct emit e;
    struct backend *b;
    const struct source *s;
    struct unit *u;
    const struct guest_insn *g; /* under way */
    bool flags_here;  /* the host's flags are the guest's */
    bool flags_saved; /* cpu->arith is */
    uint8_t loaded;   /* bits of cpu->loaded that are known to be set */
    const struct guest_insn *x87_at; /* the x87 instruction that struct fpu does not name as the last one yet, or NULL */
    struct run run;   /* the last one */
    unsigned slots_given; /* to the instruction under way */
    int slow;         /* index of the COLD_HANDLER of the instruction under way, or -1 */
    unsigned forward_count, cold_count;
    /* What is above starts anew with each unit. */
    uint8_t *label[UNIT_INSNS]; /* of each instruction emitted, writable view; NULL: not yet */
    struct { struct fixup f; uint16_t to; } forward[UNIT_EMITTED * 2]; /* jumps to instructions not yet emitted */
    struct cold cold[UNIT_EMITTED * 4];
    struct link links[UNIT_EMITTED * 2]; /* as many as unit.link_count */
    struct unit_entry entries[UNIT_INSNS + 1]; /* likewise */
};

/* Guest's properties that a template asks for; checked once for each instruction. */
#define GEN_STACK 1u   /* a stack operation of a usual width */
#define GEN_NEAR 2u    /* near transfers of full width */
#define GEN_REG 4u     /* register operand only */
#define GEN_VECTOR 8u  /* vector registers */
#define GEN_MEM 16u    /* memory operand only */
#define GEN_64 32u     /* operand size of 32 or 64 bits only */
#define GEN_NO_HIGH_DST 64u /* the destination must not be AH..BH */
#define GEN_HIGH_BY_ROTATION 2048u /* but it may where gen_dst_any() can reach them */
#define GEN_CPL0 256u  /* protected mode at CPL 0 */
#define GEN_CPL0_ANY 16384u /* CPL 0, real mode included */
#define GEN_ANY_HOST 32768u /* the host's processor need not have it */
#define GEN_SMAP 512u  /* CR4.SMAP */
#define GEN_CODE64 1024u /* 64-bit mode */
#define GEN_STRING 8192u /* gen_string_fits() */
#define GEN_X87 128u   /* x87 or MMX registers */
#define GEN_PLAIN 4096u /* integers only, memory operands of up to 8 bytes, no change of the view of memory or of hidden state */

/* The template of all rows of an operation. */
struct gen_entry {
    const struct op *op;
    gen_fn *fn;
    uint8_t arg;
    uint16_t needs; /* GEN_* */
};
/* `also`: what all of them need. */
void gen_templates_add(struct gen_template *t, const struct gen_entry *table, unsigned count, unsigned also);
/* Of instructions that need no code. */
gen_fn gen_nothing;

/* Fills the table of templates for the rows of one family. */
void gen_templates_integer(struct gen_template *t);
void gen_templates_flow(struct gen_template *t);
void gen_templates_stack(struct gen_template *t);
void gen_templates_vector(struct gen_template *t);
void gen_templates_system(struct gen_template *t);
bool gen_polls_next(const struct source *s, const struct guest_insn *at);
void gen_templates_bit(struct gen_template *t);
void gen_templates_privilege(struct gen_template *t);
void gen_templates_string(struct gen_template *t);
/* Is there a template for this string instruction? */
bool gen_string_fits(const struct source *s, const struct insn *i);
void gen_templates_x87(struct gen_template *t);

/* --- State (gen.c) ------------------------------------------------------------------------------------------------------- */

static inline struct hmem gen_state(size_t offset)
{
    return (struct hmem){ .base = H_NONE, .index = H_NONE, .gs = true, .disp = (int32_t)offset };
}
#define STATE(field) gen_state(offsetof(struct cpu, field))
static inline struct hmem gen_reg_mem(unsigned guest)
{
    return gen_state(offsetof(struct cpu, r) + guest * 8u);
}

/* The host's flags are about to be destroyed: saves them if they still matter to what follows, the instruction under way included. */
void gen_flags_clobber(struct gen *g);
/* Brings them into place; RAX is used. */
void gen_flags_load(struct gen *g);
/* Flags to cpu->arith and back; RAX is used. */
void gen_arith_save(struct emit *e);
void gen_arith_load(struct emit *e);
/* The new RFLAGS from a register, which is lost, into both places: cpu->rflags and, its arithmetic flags, cpu->arith. */
void gen_rflags_store(struct emit *e, unsigned reg);
/* For a way out: into cpu->arith if they are not there. */
void gen_flags_save(struct gen *g);
/* Before an operation that leaves some live flags alone or reads some: into place if need be. RAX is used. */
void gen_flags_keep(struct gen *g, unsigned written, unsigned read);
/* Before the way to another instruction of the unit: as it expects them; those in place stay there. */
void gen_flags_for(struct gen *g, const struct guest_insn *to);
/* Behind an instruction that has written flags in place. */
static inline void gen_flags_written(struct gen *g)
{
    g->flags_here = true;
    g->flags_saved = false;
}
/* Sees to it that these registers are loaded (LOADED_*). Scratch registers are lost. */
void gen_load_state(struct gen *g, unsigned bits);
/*
 * Pointer and opcode of the last x87 instruction go to struct fpu at the end of a run of them only: before whatever leads out
 * of the basic block or calls C code in line. Cold code that calls a handler does it by itself.
 */
void gen_x87_settle(struct gen *g);
void gen_x87_note(struct gen *g, const struct guest_insn *at);
/*
 * For an instruction whose operand the TLB did not have, without a look at x87 registers: sets cpu->reached if it has it now.
 * Raises what the access would raise. 1: generated code is to be left.
 */
uint64_t gen_x87_reach(struct cpu *cpu, const struct insn *i);

struct cold *gen_cold(struct gen *g, enum cold_kind kind);
/* A conditional jump to the handler of the instruction under way, or one that has been emitted. */
void gen_slow_if(struct gen *g, enum emit_cond cc);
void gen_slow_from(struct gen *g, struct fixup from);

/* --- Operands ---------------------------------------------------------------------------------------------------------------- */

/* Host register with the value of a guest register in its low part; loaded into `scratch` (RAX or RCX) if need be. */
unsigned gen_src(struct gen *g, unsigned guest, unsigned size, unsigned scratch);
/* Host register to be changed: with its old value if `load`; then gen_dst_end with the same arguments. */
unsigned gen_dst(struct gen *g, unsigned guest, unsigned scratch, bool load);
void gen_dst_end(struct gen *g, unsigned guest, unsigned host);
/*
 * The same for an operand of any size. AH..BH come to the low byte by a rotation, which keeps flags: what else the instruction
 * reads must be in registers of its own before (gen_src_beside).
 */
unsigned gen_dst_any(struct gen *g, unsigned guest, unsigned size, unsigned scratch);
void gen_dst_any_end(struct gen *g, unsigned guest, unsigned size, unsigned host);
/* As gen_src, but in `scratch` if it is part of the register that `dst` will rotate. */
unsigned gen_src_beside(struct gen *g, unsigned guest, unsigned dst, unsigned size, unsigned scratch);
/* Offset of the memory operand, as LEA gives it, into R9; RCX is used. */
void gen_address(struct gen *g, const struct insn *i);
/*
 * Address of `bytes` of guest memory, checked; in RCX and either R9 or a guest register. RAX is free afterwards. Flags are in
 * cpu->arith if they matter. `align`: 0, or the boundary that it must lie on.
 */
struct hmem gen_mem(struct gen *g, const struct insn *i, unsigned bytes, bool write, unsigned align);
/* The same with the offset in R9. */
struct hmem gen_mem_at_r9(struct gen *g, const struct insn *i, unsigned bytes, bool write, unsigned align);
/* The same address in R9 alone: RCX is free. */
struct hmem gen_mem_r9(struct gen *g, struct hmem m);
static inline struct hmem gen_rm_mem(struct gen *g, const struct insn *i, bool write)
{
    return gen_mem(g, i, 1u << i->osize, write, 0);
}

/*
 * The check behind it: the linear address in `reg` (R9 or RAX) belongs to RCX as addend; RAX is used. Returns the jump for an
 * access that the TLB does not let pass.
 */
struct fixup gen_tlb_check(struct gen *g, unsigned reg, unsigned bytes, bool write);

/* Outside 64-bit mode: does an access by this segment need a look at its base and limit? */
static inline bool gen_segment_is_flat(const struct source *s, unsigned seg)
{
    return s->key & KEY_FLAT_DATA && (seg == SEG_DS || seg == SEG_ES || seg == SEG_SS);
}

/* --- Stack (gen_stack.c) ------------------------------------------------------------------------------------------------- */

/* As gen_mem(), at RSP + disp; in a run flags stay where they are, but for its first access. */
struct hmem gen_stack(struct gen *g, int32_t disp, unsigned bytes, bool write);
void gen_move_sp(struct gen *g, int32_t bytes);
/* Whatever RSP lacks, before it is used by other means. */
void gen_sync_sp(struct gen *g);
void gen_run_prepare(struct gen *g, const struct insn *i);
static inline bool gen_in_run(const struct gen *g)
{
    unsigned k = (unsigned)(g->g - g->s->insns);
    return g->run.accesses && k >= g->run.first && k <= g->run.last;
}
/* Before instruction `first` is emitted, and behind each. */
void gen_run_plan(struct gen *g, unsigned first);
void gen_run_end(struct gen *g, unsigned k);
/* What is emitted next is not part of it, whatever its index. */
void gen_run_forget(struct gen *g);
/* The check of the run under way, now. */
void gen_run_check(struct gen *g);
/* From here to its end nothing else uses R9. */
void gen_run_owns_r9(struct gen *g);
/* Is the memory operand one that has been, or now is, checked with its run? Then *m is how to reach it. */
bool gen_run_operand(struct gen *g, const struct insn *i, unsigned bytes, bool write, struct hmem *m);
void gen_cold_run(struct gen *g, const struct cold *c);
void gen_find_stack(struct emit *e);

/* --- Slots (gen_slot.c) ------------------------------------------------------------------------------------------------------ */

/* DST = offset of the TLB entry for the linear address in `reg`. */
void gen_tlb_offset(struct emit *e, const struct backend *b, unsigned dst, unsigned reg);
/* Is the access of the instruction under way to have a slot? */
bool gen_wants_slot(const struct gen *g, unsigned bytes);
/* As gen_tlb_check() of base + disp, which the slot's page is compared with; what misses is seen to. */
void gen_slot_check(struct gen *g, unsigned base, int32_t disp, unsigned bytes, bool write);
void gen_cold_slot(struct gen *g, const struct cold *c);
void gen_find_slot(struct emit *e, const struct backend *b, bool write);

/* --- Flow (gen_flow.c) --------------------------------------------------------------------------------------------------------- */

/* In place of the jump back to where a loop begins, if the next round follows at once: the way out. */
void gen_next_round(struct gen *g, const struct insn *i);
/* Goes on at a page offset: within the unit, by a link, or to another page. Flags are where they are. */
void gen_goto(struct gen *g, int32_t off);
/* RAX = RIP of a page offset. Keeps flags. */
void gen_rip(struct gen *g, int32_t off);
/* Makes sure that the instruction under way still goes on in the next page as it did; else it is interpreted. */
void gen_check_next_page(struct gen *g);
/* What led here from the jump cache is to be forgotten. Keeps RAX and flags. */
void gen_note_stale(struct emit *e);
/* Calls the handler in line. */
void gen_call_handler(struct gen *g);
void gen_cold_code(struct gen *g);
/* Looks for RAX in the jump cache: RCX is the entry's offset. Returns the jump for no match. */
struct fixup gen_probe(struct emit *e, bool system);
/* Which kind of region of the jump cache: that of flat code at CPL 0. */
static inline bool gen_system(const struct gen *g)
{
    return g->s->key & MODE_CPL0 && g->s->key & MODE_FLAT;
}
/* A field of the entry that RCX leads to. */
struct hmem gen_jump_field(size_t offset);

#endif
