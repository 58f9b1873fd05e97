/*
 * Decoded blocks: lookup, decoding, choice of handlers.
 *
 * Two ways to a block: a direct-mapped cache by linear address, whose entries carry the TLB's id and so die with any
 * invalidation; then a hash by physical address. Memory is one arena per vCPU: when it is full, all is forgotten.
 *
 * Checks that need only the instruction and cpu->mode_key (#UD, #NM, privilege) are made here: an instruction that fails one
 * gets a handler that raises. Flag results that nobody can see are not computed (the `dead` handlers); a flag counts as seen by
 * every instruction that may fault, touch memory or end the block, so that state is exact wherever it can be looked at.
 *
 * Thread: the vCPU's own.
 */
#include "cpu/block.h"

#include "cpu/disas.h"
#include "cpu/mem.h"
#include "cpu/ops.h"
#include "hw/core/log.h"
#include "hw/core/machine.h"

#define ARENA_SIZE (8u << 20)
#define HASH_SIZE (1u << 14)
#define NEAR_SIZE (1u << 12)
#define INSN_MAX 15

struct near {
    uint64_t pc; /* linear */
    uint64_t tlb_id;
    struct block *block;
    uint64_t mode_key;
};

struct block_cache {
    struct near near[NEAR_SIZE];
    struct block *hash[HASH_SIZE];
    uint8_t *arena;
    size_t used;
    unsigned flushes;
    uint32_t never_written; /* write counter of pages that are not RAM */
    struct block *scratch;  /* for code in device memory: decoded each time */
};

struct block_cache *block_cache_new(void)
{
    struct block_cache *c = g_new0(struct block_cache, 1);
    c->arena = g_malloc(ARENA_SIZE);
    c->scratch = g_malloc(sizeof(struct block) + sizeof(struct insn));
    return c;
}

void block_cache_free(struct block_cache *c)
{
    if (!c)
        return;
    g_free(c->arena);
    g_free(c->scratch);
    g_free(c);
}

void block_cache_flush(struct block_cache *c)
{
    memset(c->near, 0, sizeof c->near);
    memset(c->hash, 0, sizeof c->hash);
    c->used = 0;
    c->flushes++;
}

/* --- Choice of handlers -------------------------------------------------------------------------------------------------- */

static void raise_ud(struct cpu *cpu, const struct insn *i)
{
    cpu_raise(cpu, EXC_UD);
}

static void raise_nm(struct cpu *cpu, const struct insn *i)
{
    cpu_raise(cpu, EXC_NM);
}

static void raise_gp(struct cpu *cpu, const struct insn *i)
{
    cpu_raise_gp0(cpu);
}

/* LZCNT and TZCNT are BSR and BSF with an ignored prefix on a processor without them. */
static op_fn *without_feature(const struct insn *i)
{
    const struct op *op = insn_row(i)->op;
    const struct op *old = op == &op_lzcnt ? &op_bsr : op == &op_tzcnt ? &op_bsf : NULL;
    return old ? old->v[i->osize][i->flags & INSN_MEM ? 1 : 0][0] : raise_ud;
}

/* The handler that raises what the processor's mode forbids, or NULL. */
static op_fn *forbidden(const struct cpu *cpu, const struct insn *i)
{
    const struct insn_row *row = insn_row(i);
    unsigned key = cpu->mode_key;
    if (row->attr & ROW_PROT && !(key & MODE_PROT))
        return raise_ud;
    if (row->attr & (ROW_MMX | ROW_SSE) && key & MODE_EM)
        return raise_ud;
    if (i->flags & INSN_VEX && row->attr & ROW_SSE && !(key & MODE_AVX))
        return raise_ud;
    if (!(i->flags & INSN_VEX) && row->attr & ROW_SSE && !(row->attr & ROW_MMX) && !(key & MODE_SSE))
        return raise_ud;
    if (row->op == &op_fwait)
        return key & MODE_MP && key & MODE_TS ? raise_nm : NULL;
    if (row->attr & ROW_FPU && key & MODE_FPU_NM)
        return raise_nm;
    if (row->attr & (ROW_MMX | ROW_SSE) && key & MODE_TS)
        return raise_nm;
    if (row->attr & ROW_CPL0 && !(key & MODE_CPL0))
        return raise_gp;
    return NULL;
}

static op_fn *choose_handler(const struct cpu *cpu, const struct insn *i, bool dead)
{
    if (!cpu_has(cpu, insn_row(i)->feature))
        return without_feature(i);
    op_fn *fn = forbidden(cpu, i);
    if (!fn)
        fn = insn_handler(i, dead);
    g_assert(fn);
    return fn;
}

op_fn *block_handler(const struct cpu *cpu, const struct insn *i)
{
    return choose_handler(cpu, i, false);
}

/* --- Which flags are seen ---------------------------------------------------------------------------------------------------- */

bool block_insn_is_pure(const struct insn *i)
{
    const struct insn_row *row = insn_row(i);
    if (i->flags & (INSN_MEM | INSN_LOCK) || row->end != END_NONE || row->map != MAP_1B)
        return false;
    uint8_t o = row->opcode;
    return o < 0x40 ? (o & 7) < 6                /* ALU; the rest are pushes, pops, prefixes and BCD */
           : o >= 0x80 && o <= 0x83 ? true       /* ALU with immediate */
           : o == 0x84 || o == 0x85 || o == 0xa8 || o == 0xa9 ? true /* TEST */
           : o >= 0x88 && o <= 0x8b ? true       /* MOV */
           : o >= 0xb0 && o <= 0xbf ? true       /* MOV imm */
           : o == 0x8d ? true                    /* LEA: has no memory access */
           : o == 0xf6 || o == 0xf7 ? row->digit < 4 /* TEST, NOT, NEG */
           : (o >= 0x40 && o <= 0x4f) || o == 0xfe || o == 0xff ? row->op == &op_inc || row->op == &op_dec
                                                                : false;
}

static void choose_handlers(const struct cpu *cpu, struct block *b)
{
    unsigned live = FLAGS_ARITH;
    for (unsigned k = b->count; k-- > 0;) {
        struct insn *i = &b->insns[k];
        if (i->fn)
            continue; /* raises: set while decoding */
        const struct insn_row *row = insn_row(i);
        bool pure = block_insn_is_pure(i);
        i->fn = choose_handler(cpu, i, pure && !(row->flags_written & live));
        if (pure)
            live = (live & ~row->flags_written) | row->flags_read;
        else
            live = FLAGS_ARITH;
    }
}

/* --- Decoding ------------------------------------------------------------------------------------------------------------------ */

struct fetch {
    struct cpu *cpu;
    uint64_t pc;          /* linear address of the block */
    uint64_t phys;
    const uint8_t *page;  /* host address of its page, or NULL */
    unsigned limit;       /* bytes from pc to the end of the code segment, at most a page and an instruction */
    bool unkept;          /* the block serves once: nobody need watch its pages */
    struct block *b;
};

static unsigned bytes_in_segment(const struct cpu *cpu)
{
    if (cpu_in_64(cpu))
        return PAGE_SIZE + INSN_MAX;
    uint64_t limit = cpu->seg[SEG_CS].limit, ip = cpu->rip;
    return ip > limit ? 0 : MIN(limit - ip + 1, PAGE_SIZE + INSN_MAX);
}

struct protect {
    struct machine *machine;
    const uint8_t *host;
};

static void protect_everywhere(struct cpu *cpu, void *arg)
{
    const struct protect *p = arg;
    for (unsigned k = 0; k < p->machine->cpu_count; k++)
        if (p->machine->cpus[k])
            tlb_protect_host_page(p->machine->cpus[k], p->host);
}

uint32_t *block_watch_page(struct cpu *cpu, uint64_t phys, const uint8_t *host, uint32_t *gen)
{
    const struct flat_range *r = flat_view_find(cpu->view, phys);
    struct ram_block *ram = r ? r->region->ram : NULL;
    if (!ram) {
        *gen = cpu->blocks->never_written;
        return &cpu->blocks->never_written;
    }
    uint64_t offset = flat_range_ram_offset(r, phys);
    if (ram_watch(ram, offset, 1, DIRTY_CODE)) {
        struct protect p = { cpu->machine, host };
        if (cpu->machine->cpu_count > 1)
            cpu->host->exclusive(cpu, protect_everywhere, &p);
        else
            tlb_protect_host_page(cpu, host);
    }
    uint32_t *at = &ram->code_gen[offset >> PAGE_BITS];
    *gen = __atomic_load_n(at, __ATOMIC_ACQUIRE);
    return at;
}

static uint32_t *watch_page(const struct fetch *f, uint64_t phys, const uint8_t *host, uint32_t *gen)
{
    if (!f->unkept)
        return block_watch_page(f->cpu, phys, host, gen);
    *gen = f->cpu->blocks->never_written;
    return &f->cpu->blocks->never_written;
}

/* Bytes of the instruction at offset `at` of the block; fewer than 15 at the end of the page, unless `cross`. */
static unsigned fetch_bytes(struct fetch *f, unsigned at, bool cross, uint8_t out[INSN_MAX])
{
    unsigned in_page = PAGE_SIZE - ((f->pc + at) & ~PAGE_MASK);
    unsigned n = MIN(INSN_MAX, MIN(in_page, f->limit - at));
    if (f->page)
        ram_copy(out, f->page + ((f->pc + at) & ~PAGE_MASK), n);
    else
        for (unsigned k = 0; k < n; k++)
            out[k] = mem_load_phys(f->cpu, f->phys + at + k, 1);
    if (!cross || n == INSN_MAX || n == f->limit - at)
        return n;
    uint64_t next = f->pc + at + n, phys2;
    if (!cpu_in_64(f->cpu))
        next = (uint32_t)next;
    const uint8_t *page2 = cpu_code_page(f->cpu, next, &phys2);
    unsigned more = MIN(INSN_MAX, f->limit - at) - n;
    f->b->phys2 = phys2;
    f->b->gen2_at = watch_page(f, phys2, page2, &f->b->gen2);
    if (page2)
        ram_copy(out + n, page2, more);
    else
        for (unsigned k = 0; k < more; k++)
            out[n + k] = mem_load_phys(f->cpu, phys2 + k, 1);
    return n + more;
}

static struct decode_mode decode_mode(const struct cpu *cpu)
{
    return (struct decode_mode){ .code_size = cpu->code_size,
                                 .stack32 = cpu->mode_key & MODE_STACK32,
                                 .protected_mode = cpu_protected(cpu) };
}

void block_set_raiser(struct insn *i, enum decode_result why)
{
    *i = (struct insn){ .fn = why == DECODE_UD ? raise_ud : raise_gp, .len = 1 };
}

/* Decodes the next instruction into *i; false: the block ends before it. */
static bool decode_next(struct fetch *f, unsigned at, struct insn *i)
{
    uint8_t bytes[INSN_MAX];
    bool first = at == 0;
    unsigned n = fetch_bytes(f, at, false, bytes);
    enum decode_result r = decode_insn(bytes, n, decode_mode(f->cpu), i);
    if (r == DECODE_MORE) {
        if (!first)
            return false;
        n = fetch_bytes(f, at, true, bytes);
        r = decode_insn(bytes, n, decode_mode(f->cpu), i);
    }
    i->fn = NULL;
    if (r != DECODE_OK)
        block_set_raiser(i, r);
    return true;
}

/* A repeated string instruction may stay where it is to let an interrupt in: it sets RIP. */
static bool is_repeated(const struct insn *i)
{
    return insn_row(i)->attr & (ROW_REP | ROW_REPZ) && i->flags & (INSN_REP | INSN_REPNE);
}

static void log_block(const struct cpu *cpu, const struct fetch *f)
{
    GString *s = g_string_new(NULL);
    uint8_t bytes[INSN_MAX];
    g_string_append_printf(s, "IN: cpu %u, physical %#" PRIx64 "\n", cpu->index, f->phys);
    for (unsigned k = 0, at = 0; k < f->b->count; at = f->b->insns[k++].end) {
        memset(bytes, 0, sizeof bytes);
        unsigned len = f->b->insns[k].len;
        for (unsigned n = 0; n < len && f->page && ((f->pc + at) & ~PAGE_MASK) + n < PAGE_SIZE; n++)
            bytes[n] = f->page[((f->pc + at) & ~PAGE_MASK) + n];
        disas_print(s, bytes, len, cpu->rip + at, cpu->code_size);
    }
    log_line("%s", s->str);
    g_string_free(s, TRUE);
}

static struct block *block_alloc(struct block_cache *c)
{
    size_t most = sizeof(struct block) + BLOCK_INSNS * sizeof(struct insn);
    if (c->used + most > ARENA_SIZE)
        block_cache_flush(c);
    return (struct block *)(c->arena + c->used);
}

static struct block *decode_block(struct cpu *cpu, struct fetch *f, bool one)
{
    struct block_cache *c = cpu->blocks;
    bool keep = f->page && !f->unkept;
    struct block *b = keep ? block_alloc(c) : c->scratch;
    unsigned most = one || !keep ? 1 : BLOCK_INSNS;
    f->b = b;
    *b = (struct block){ .phys = f->phys, .mode_key = cpu->mode_key | (one ? MODE_ONE : 0) };
    b->gen_at = watch_page(f, f->phys, f->page, &b->gen);
    b->gen2_at = b->gen_at;
    b->gen2 = b->gen;
    unsigned at = 0;
    while (b->count < most) {
        struct insn *i = &b->insns[b->count];
        if (((f->pc & ~PAGE_MASK) + at) >= PAGE_SIZE || !decode_next(f, at, i))
            break;
        at += i->len;
        i->end = at;
        if (i->base == R_RIP)
            i->disp += at;
        b->count++;
        if (i->fn || insn_row(i)->end != END_NONE || is_repeated(i))
            break;
    }
    b->bytes = at;
    choose_handlers(cpu, b);
    if (log_on(LOG_IN_ASM))
        log_block(cpu, f);
    if (keep)
        c->used += (sizeof *b + b->count * sizeof(struct insn) + 15) & ~(size_t)15;
    return b;
}

/* --- Lookup ------------------------------------------------------------------------------------------------------------------------ */

static struct block **hash_slot(struct block_cache *c, uint64_t phys, unsigned key)
{
    uint64_t h = (phys ^ (uint64_t)key << 40) * UINT64_C(0x9e3779b97f4a7c15);
    return &c->hash[h >> 50];
}

/* An instruction across pages is the same only if its second page still is behind it. */
static bool second_page_matches(struct cpu *cpu, const struct block *b, uint64_t pc)
{
    if (!b->phys2)
        return true;
    uint64_t phys2, next = (pc | ~PAGE_MASK) + 1;
    cpu_code_page(cpu, cpu_in_64(cpu) ? next : (uint32_t)next, &phys2);
    return phys2 == b->phys2;
}

static struct block *find_decoded(struct cpu *cpu, uint64_t pc, uint64_t phys, unsigned key)
{
    struct block **at = hash_slot(cpu->blocks, phys, key);
    while (*at) {
        struct block *b = *at;
        if (b->phys == phys && b->mode_key == key) {
            if (block_is_current(b) && second_page_matches(cpu, b, pc))
                return b;
            *at = b->next;
        } else {
            at = &b->next;
        }
    }
    return NULL;
}

/* Linear address of the next instruction. */
static uint64_t code_address(const struct cpu *cpu)
{
    if (cpu_in_64(cpu))
        return cpu->rip; /* the hidden base of CS does not count */
    return (uint32_t)(cpu->seg[SEG_CS].base + cpu->rip);
}

static struct fetch fetch_begin(struct cpu *cpu, uint64_t pc)
{
    struct fetch f = { .cpu = cpu, .pc = pc, .limit = bytes_in_segment(cpu) };
    if (!f.limit)
        cpu_raise_gp0(cpu);
    f.page = cpu_code_page(cpu, pc, &f.phys);
    return f;
}

struct block *block_decode_once(struct cpu *cpu)
{
    struct fetch f = fetch_begin(cpu, code_address(cpu));
    f.unkept = true;
    return decode_block(cpu, &f, true);
}

static struct block *find_slow(struct cpu *cpu, uint64_t pc, bool one)
{
    unsigned key = cpu->mode_key | (one ? MODE_ONE : 0);
    struct fetch f = fetch_begin(cpu, pc);
    struct block *b = f.page ? find_decoded(cpu, pc, f.phys, key) : NULL;
    /* Near the end of the segment a block found by address may run over it: blocks there are made of what fits. */
    if (b && b->bytes <= f.limit)
        return b;
    b = decode_block(cpu, &f, one);
    if (f.page) {
        struct block **at = hash_slot(cpu->blocks, f.phys, key);
        b->next = *at;
        *at = b;
    }
    return b;
}

struct block *block_find(struct cpu *cpu, bool one)
{
    uint64_t pc = code_address(cpu);
    unsigned key = cpu->mode_key | (one ? MODE_ONE : 0);
    struct near *n = &cpu->blocks->near[(pc ^ pc >> 12) & (NEAR_SIZE - 1)];
    if (G_LIKELY(n->pc == pc && n->block && n->tlb_id == cpu->tlb_exec->id && n->mode_key == key &&
                 block_is_current(n->block) && (cpu_in_64(cpu) || n->block->bytes <= bytes_in_segment(cpu))))
        return n->block;
    struct block *b = find_slow(cpu, pc, one);
    if (b != cpu->blocks->scratch)
        *n = (struct near){ .pc = pc, .tlb_id = cpu->tlb_exec->id, .block = b, .mode_key = key };
    return b;
}

static inline bool link_holds(const struct cpu *cpu, const struct block_link *l)
{
    return l->rip == cpu->rip && l->tlb_id == cpu->tlb_exec->id && l->to->mode_key == cpu->mode_key &&
           block_is_current(l->to);
}

struct block *block_next(struct cpu *cpu, struct block *from)
{
    if (G_LIKELY(link_holds(cpu, &from->link[0])))
        return from->link[0].to;
    if (G_LIKELY(link_holds(cpu, &from->link[1])))
        return from->link[1].to;
    unsigned flushes = cpu->blocks->flushes;
    struct block *b = block_find(cpu, false);
    if (cpu->mode_key & MODE_FLAT && b != cpu->blocks->scratch && flushes == cpu->blocks->flushes) {
        from->link[1] = from->link[0];
        from->link[0] = (struct block_link){ .rip = cpu->rip, .tlb_id = cpu->tlb_exec->id, .to = b };
    }
    return b;
}
