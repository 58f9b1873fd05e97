/*
 * Units of translated code, and the guest code they are made from. Internal to tcg/.
 */
#ifndef TCG_UNIT_H
#define TCG_UNIT_H

#include "tcg/perfmap.h"
#include "tcg/tcg.h"

#define UNIT_INSNS 192  /* most instructions in a unit */
#define UNIT_EMITTED (UNIT_INSNS + 64) /* the same, those of short loops counted each time they are emitted */
#define ROUND_INSNS 12  /* most instructions in a loop of which several rounds are emitted */
#define ROUNDS 4        /* most of them */
#define UNIT_INSN_SLOTS 2 /* most accesses of an instruction with a slot of the TLB */

/*
 * Key of a translation: cpu->mode_key in the lower half, and more that the code depends on.
 */
#define KEY_FLAT_DATA (1u << 16)  /* ES, SS and DS are flat and writable (outside 64-bit mode) */
#define KEY_XM (1u << 17)         /* some SIMD floating-point exception is unmasked: handlers do the arithmetic */
#define KEY_MF (1u << 19)         /* some x87 exception is unmasked: handlers do all of x87 and MMX */
#define KEY_SMAP (1u << 20)       /* CR4.SMAP: RFLAGS.AC chooses a view of memory */
#define KEY_INSNS_SHIFT 24        /* above: translate so many instructions in a row, nothing behind them; 0: all (lockstep) */

struct backend;
struct unit;

/* A direct jump out of a unit to a place in the same page; patched to go there once that is translated. */
struct link {
    struct unit *from, *to;
    struct link *next;      /* in to->incoming */
    uint8_t *patch;         /* displacement of the jump, writable view */
    const uint8_t *unlinked;/* where it goes while its target is not translated: out, to have it looked for */
    uint16_t target;        /* page offset */
    bool saved;             /* flags are in cpu->arith: goes to `entry_saved` */
};

/* Where a unit is found: its first instruction, and where its calls come back. RIP in RAX, flags in cpu->arith. */
struct unit_entry {
    struct unit *unit;
    struct unit_entry *next; /* in its hash chain */
    const uint8_t *host;     /* host address of the guest's instruction */
    const uint8_t *code;
    uint8_t *patch;          /* there, writable view: jumps to backend code when the unit dies; NULL for the first instruction */
    bool listed;             /* in the hash: no other unit was found there */
};

struct unit {
    const uint8_t *host;    /* host address of the first guest byte */
    uint32_t key;
    uint16_t first, last;   /* page offsets of the first and last byte it was made from */
    bool dead;
    uint64_t granules;      /* of 64 bytes in its page, a bit each, that it was made from */
    uint8_t *patch, *patch_saved; /* at the entries, writable view: jumps to `retired` when the unit dies */
    const uint8_t *entry;   /* for direct jumps: flags in place */
    const uint8_t *entry_saved; /* flags in cpu->arith */
    const uint8_t *retired, *retired_saved; /* leave for a lookup */
    const uint8_t *code, *end;
    struct unit_entry *entries; /* for all others; the first instruction comes first */
    unsigned entry_count;
    struct unit *page_next; /* on its page */
    struct unit *slice_next;
    struct link *links;
    unsigned link_count;
    struct link *incoming;
    unsigned insn_count;
    struct insn *insns;     /* those that generated code hands to handlers; one more for what crosses the page's end */
    uint16_t (*slots)[UNIT_INSN_SLOTS]; /* by instruction: its slots of the TLB, plus 1; 0: none */
};

/* --- Guest code under translation ---------------------------------------------------------------------------------------- */

struct guest_insn {
    struct insn i;      /* i.end: page offset of the next instruction; i.fn: its handler */
    uint16_t off;       /* page offset */
    uint16_t live;      /* arithmetic flags that may be read before they are written again, before this instruction */
    uint16_t live_out;  /* and behind it */
    bool wanted;        /* before it, flags may be wanted by an instruction that has a template, not only by what leads out */
    bool in_memory;     /* a leader whose flags are in cpu->arith when jumps come in, not in place */
    bool leader;        /* some jump within the unit leads here */
    bool loop;          /* a backward one */
    bool native;        /* the back end has a template; else the handler is called */
    bool falls;         /* execution may go on with the next one */
    bool plain;         /* its accesses are to have no slots of the TLB */
    bool alone;         /* no check of memory is to be shared with its neighbours */
    bool raises;        /* no instruction: the handler raises */
    bool crosses;       /* its last bytes are in the next page */
    uint8_t round;      /* the first one of a short loop: it and so many behind it, less itself, are a round of it; or 0 */
    int16_t target;     /* page offset of a direct jump's target if it lies in the page, or -1 */
    uint16_t reads, writes; /* arithmetic flags */
};

struct source {
    const struct backend *backend;
    struct cpu *cpu;
    const uint8_t *page; /* host address of the page */
    uint16_t start;      /* page offset of the entry */
    uint32_t key;
    bool precise;
    uint8_t bytes[4096 + 64]; /* the page, and what the next one begins with, as far as it is known */
    unsigned after_count; /* so many bytes of that */
    unsigned count;
    struct guest_insn insns[UNIT_INSNS]; /* sorted by offset */
    int16_t at[4096];    /* index of the instruction at each page offset, or less than 0; no jump goes to where that is */
    unsigned entry;      /* index of the first instruction to run */
    struct guest_insn found[UNIT_INSNS]; /* as they were met */
};

/* Decodes what can be reached from s->start within the page and finds out which flags live. False: nothing to translate. */
bool source_read(struct source *s);

/* --- Back end (tcg/<host>/) ---------------------------------------------------------------------------------------------- */

struct code_area {
    uint8_t *at, *end;  /* writable view: room for the unit */
    ptrdiff_t skew;     /* executable minus writable */
};
/* Bytes that a unit needs at most. */
#define UNIT_CODE_MAX (UNIT_EMITTED * 320u + 4096)

/* Writes the code that all units share; advances area->at. NULL: this processor cannot. */
struct backend *backend_new(struct code_area *area);
void backend_free(struct backend *b);
/* Names that code. */
void backend_name_code(const struct backend *b, struct perfmap *p);
/* Is there a template for it in this mode? */
bool backend_has(const struct source *s, const struct insn *i);
/* Translates; fills in what belongs to code in *u. */
void backend_translate(struct backend *b, const struct source *s, struct unit *u, struct code_area *area);
void backend_run(struct backend *b, struct cpu *cpu, const void *code);
void backend_enter_thread(struct cpu *cpu);
/* Registers that are still loaded go to struct cpu. */
void backend_settle(struct backend *b, struct cpu *cpu);
/* Any thread, while others run the code: makes a jump go to `target`, or all ways into a unit lead out for a lookup. */
void backend_patch_link(const struct link *l, const uint8_t *target, ptrdiff_t skew);
void backend_retire(const struct backend *b, const struct unit *u, ptrdiff_t skew);
/* Makes the template of a row emit nothing from now on. */
void backend_spoil(struct backend *b, unsigned row);

/* --- C side of generated code (run.c) ------------------------------------------------------------------------------------- */

uint32_t jit_key(const struct cpu *cpu);
uint64_t jit_epoch(const struct jit *j);
void jit_backend_run(struct jit *j, struct cpu *cpu, const void *code);
void jit_resolve(struct jit *j, struct cpu *cpu, struct link *l);
/* cpu->arith goes to cpu->rflags. */
void jit_flags_from_code(struct cpu *cpu);
/*
 * Calls the handler of an instruction. NULL: generated code goes on behind it; JIT_LEAVE: it is to be left; else it goes on
 * at that code, cpu->rip being there.
 */
const void *jit_call_handler(struct cpu *cpu, const struct insn *i);
#define JIT_LEAVE ((const void *)1)
/* Own bit in insn.flags of those that cast an interrupt shadow: the next instruction may be one before which code polls. */
#define INSN_POLL_NEXT (1u << 14)

/* --- Jump cache (jumps.c) --------------------------------------------------------------------------------------------------- */

/* Is what decides which code may run other than it was at the last jit_update_context()? */
bool jit_context_changed(const struct cpu *cpu);
/* What is there for cpu->rip, or NULL. cpu->jump_context is up to date here and below. */
const void *jit_peek(struct cpu *cpu);
/*
 * The code for cpu->jump_wanted, which the jump cache has not, but now will have; or NULL: jit_find() may have more, pages that the
 * TLB does not know, for instance. Raises nothing and lets nobody else change what there is.
 */
const void *jit_look_up(struct cpu *cpu);
#define CONTEXT_KEY(context) ((uint32_t)(context) & 0xffffffu) /* jit_key() as part of cpu->jump_context */
void jit_jumps_set(struct cpu *cpu, const void *code);
/* cpu->rip has led to code that is no more. */
void jit_jumps_drop(struct cpu *cpu);
/* All of it, the vCPU being outside: code memory is used anew. */
void jit_jumps_forget(struct cpu *cpu);
/* Index of a region's first entry. */
unsigned jit_jumps_first(unsigned region);
/* Own bit in insn.flags of those whose handlers see the x87 state; others leave it in the host's registers. */
#define INSN_SEES_X87 (1u << 15)
/*
 * Own bit in insn.flags: the next instruction relies on a check that was made before this one, so that a handler called for this
 * one is followed by the next one's.
 */
#define INSN_RUN (1u << 13)
/* Counts how often handlers do what is left of a run from *i on; it is translated without runs if that keeps happening. */
void jit_run_failed(struct jit *j, struct cpu *cpu, const struct insn *i);
/* Generated code was left at CS:RIP to have something looked at: notes where time is spent. */
void jit_sample(struct jit *j, struct cpu *cpu);
/* Called when cpu->slot_misses_left is less than 0, with the instruction under way: those with too many misses lose their slots. */
void jit_slots_missed(struct jit *j, struct cpu *cpu, const struct insn *i);
/* A handler: interprets whatever the instruction is by now, and leaves. */
void jit_interpret(struct cpu *cpu, const struct insn *i);

#endif
