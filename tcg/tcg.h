/*
 * The translator, as engines see it: guest code in, host code out, run. DESIGN section 5.
 *
 * One struct jit for each machine: code memory and the table of translated code are shared by its vCPUs. What is translated is a
 * `unit`: the basic blocks of one page that are reached from its first instruction without leaving the page. Units are found by
 * the host address of their first byte and by a key of all that the translation depends on; they don't know their linear
 * address, so that one translation serves every mapping of a page.
 *
 * When generated code calls C, cpu->rip is the RIP of the first byte of the page. While it runs, arithmetic flags are in the
 * host's flags or in cpu->arith, and vector and x87 registers may be in the host's (cpu->loaded). All is in its place again
 * when C code runs.
 */
#ifndef TCG_TCG_H
#define TCG_TCG_H

#include "cpu/cpu.h"

#include <glib.h>

struct jit;

struct jit_options {
    size_t size;    /* code memory in bytes */
    unsigned hot;   /* executions in the interpreter before code is translated; 0: and all code is hot */
    bool precise;   /* no flag is ever stale in a fault frame */
    bool perfmap;   /* names code for perf */
};

struct jit_stats {
    uint64_t units, insns, blocks, fallback_insns, code_bytes, translate_ns;
    uint64_t invalidated, evictions, links;
};

/* Fails with a sentence where the host gives no memory that can be written in one place and executed in another. */
struct jit *jit_new(struct machine *m, const struct jit_options *o, GError **err);
/* All vCPUs are outside. */
void jit_free(struct jit *j);

/* Before the vCPU runs translated code on this thread. */
void jit_enter_thread(struct jit *j, struct cpu *cpu);
/*
 * Translated code for the instruction at CS:RIP, translated now if `translate`; NULL: none, run it in the interpreter.
 * Raises what fetching raises. On the vCPU's thread, outside generated code.
 */
const void *jit_find(struct jit *j, struct cpu *cpu, bool translate);
/*
 * The same for `insns` instructions in a row (at most 64), without any way from there to other translated code: each run ends
 * behind them, or where it leaves their straight way. For lockstep.
 */
const void *jit_find_straight(struct jit *j, struct cpu *cpu, unsigned insns, bool translate);
/* Runs it until generated code has no way on by itself. May leave through cpu_raise(), after which call jit_unwind(). */
void jit_run(struct jit *j, struct cpu *cpu, const void *code);
/* As cpu_unwind(); what was left in the host's registers goes to struct cpu, too. */
void jit_unwind(struct jit *j, struct cpu *cpu);
/* What of a vCPU's state translated code depends on has, or may have, changed. */
void jit_update_context(struct cpu *cpu);

void jit_get_stats(struct jit *j, struct jit_stats *s);

/* For tests: code translated from now on leaves out every instruction of this name that has a template. */
void jit_spoil(struct jit *j, const char *mnemonic);

#endif
