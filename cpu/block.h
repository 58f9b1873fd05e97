/*
 * Decoded blocks: straight runs of instructions, found by physical address and mode_key.
 *
 * A vCPU's cache is its own, so lookups need no lock. A block is valid while the write counters of the pages it came from are
 * what they were when it was decoded (ram_block.code_gen): whoever writes to such a page, vCPU or device, counts up.
 */
#ifndef CPU_BLOCK_H
#define CPU_BLOCK_H

#include "cpu/cpu.h"

#define BLOCK_INSNS 64

struct block;

/* A remembered successor of a block: where it went to last, and what must still hold for that to be right. */
struct block_link {
    uint64_t rip, tlb_id;
    struct block *to;
};

struct block {
    uint64_t phys;         /* of the first byte */
    uint64_t phys2;        /* of the second page, for an instruction that crosses into it; else 0 */
    struct block *next;    /* in the hash chain */
    uint32_t *gen_at, *gen2_at; /* write counters of its pages; never NULL */
    uint32_t gen, gen2;
    uint16_t mode_key;
    uint16_t count;        /* instructions, at least 1 */
    uint16_t bytes;
    uint16_t runs;         /* so often has it run, up to a limit: who counts decides (the JIT's run loop) */
    struct block_link link[2]; /* of flat code (MODE_FLAT) only */
    struct insn insns[];
};

/* Has nobody written to its pages since? */
static inline bool block_is_current(const struct block *b)
{
    return __atomic_load_n(b->gen_at, __ATOMIC_RELAXED) == b->gen &&
           __atomic_load_n(b->gen2_at, __ATOMIC_RELAXED) == b->gen2;
}

struct block_cache *block_cache_new(void);
void block_cache_free(struct block_cache *c);
/* Forgets all blocks. Not from within one. */
void block_cache_flush(struct block_cache *c);

/* The block at CS:RIP for the present mode, decoded if need be. `one`: a block of a single instruction. Raises on a bad fetch. */
struct block *block_find(struct cpu *cpu, bool one);
/*
 * A block of the instruction at CS:RIP alone, decoded now and not kept: where memory may have been changed by who tells nobody.
 * Good until the next of these calls.
 */
struct block *block_decode_once(struct cpu *cpu);
/* As block_find(), for the block that follows `from`, whose links it uses and renews. */
struct block *block_next(struct cpu *cpu, struct block *from);

/* --- What the translator uses, too ------------------------------------------------------------------------------------ */

/* The handler of an instruction in the present mode: one that raises if the mode forbids it or the model lacks it. */
op_fn *block_handler(const struct cpu *cpu, const struct insn *i);
/* Makes *i an "instruction" of one byte that raises what bytes that are none raise: #UD, or #GP(0) if too long. */
void block_set_raiser(struct insn *i, enum decode_result why);
/* Registers in, registers and flags out, cannot fault, always writes the flags that the row says. */
bool block_insn_is_pure(const struct insn *i);
/*
 * The write counter of the page of RAM and, in *gen, its value; starts watching it, with every vCPU's fast stores to it stopped
 * first (which may wait for the other vCPUs).
 */
uint32_t *block_watch_page(struct cpu *cpu, uint64_t phys, const uint8_t *host, uint32_t *gen);

#endif
