/*
 * Lockstep of the JIT and the interpreter, block by block: what one translates wrongly stops the machine at once, with
 * the instruction, registers, flags and memory. DESIGN section 6.
 *
 * A block is run by the interpreter with each page noted that it stores to. Then all is put back, and the same
 * instructions run as translated code; then both results are compared: registers, memory, what was raised. The JIT's
 * own path to memory takes part: it has a TLB of the pages that the interpreter used, for what the interpreter did with
 * them, so that any other access goes the slow way and is noted, too.
 *
 * What cannot be done twice is done by the interpreter alone: an instruction that accesses a device or reads a counter.
 * A block is cut before it, and before one that looks at a flag which the manual leaves undefined. Delivery of
 * exceptions and interrupts, single steps and interrupt shadows are the interpreter's business in both engines.
 *
 * Devices may write to memory between the two runs: a difference counts if it comes again and again. Accessed and dirty
 * bits of page tables stay set once they are.
 *
 * Thread: the vCPU's own; there is one only (-smp 1), as others would write to memory, too.
 */
#include "accel/check.h"

#include "cpu/block.h"
#include "cpu/disas.h"
#include "cpu/excp.h"
#include "cpu/mem.h"
#include "cpu/ops.h"
#include "hw/core/machine.h"
#include "tcg/tcg.h"

#define PAGES_MAX 256 /* that a block may store to; a longer string instruction is not checked */
#define TRIES 4
#define WALKED_MAX 256   /* entries of page tables marked in a block */
#define ENTRY_MARKS 0x60 /* accessed and dirty, in an entry's first byte */

/* A page of RAM that was stored to. */
struct page {
    uint8_t *host;
    uint64_t linear;
    unsigned low, high; /* what was stored to lies in [low, high) */
    uint8_t old[PAGE_SIZE], new[PAGE_SIZE];
};

enum how { DONE, RAISED, STOPPED /* before a device, or what is too long */ };
enum engine { INTERP, JIT };

enum verdict {
    AGREE,
    CUT,    /* not all of it could be compared: only c->cut instructions */
    EVENTS, /* something came up meanwhile that the run loop should look at first */
    DIFFER,
};

struct check {
    struct mem_watcher watcher; /* first: watcher_of() */
    struct jit *jit;
    enum engine engine; /* under way */
    struct tlb slow;    /* empty: the interpreter's */
    struct tlb shadow;  /* the JIT's */
    struct page *pages;
    unsigned page_count;
    uint8_t *walked[WALKED_MAX]; /* entries of page tables that either engine marked */
    unsigned walked_count;
    struct cpu *before, *after[2];
    enum how how[2];
    unsigned cut;
    struct check_row *rows; /* by row of the instruction table */
    struct block *part;     /* the first instructions of a block */
    bool search;            /* for the instruction to blame: nothing is kept */
    bool failed;
    struct check_stats stats;
};

/* --- What an engine does to memory -------------------------------------------------------------------------------- */

static void shadow_clear(struct tlb *t)
{
    for (unsigned w = 0; w < TLB_SIZE / 64; w++)
        while (t->used[w])
            tlb_clear_entry(t, w * 64 + (unsigned)__builtin_ctzll(t->used[w]));
}

/* Lets the JIT do as the interpreter did, without asking. */
static void shadow_fill(struct check *c, const struct tlb *t, uint64_t addr, bool write)
{
    unsigned k = tlb_index(addr);
    struct tlb_entry *e = &c->shadow.e[k];
    uint64_t empty = tlb_empty_tag(k), tag_write = empty;
    if (c->shadow.used[k / 64] >> (k % 64) & 1 && e->tag_read == t->e[k].tag_read && e->addend == t->e[k].addend)
        tag_write = e->tag_write;
    tlb_forget_copies(&c->shadow, addr);
    *e = (struct tlb_entry){ t->e[k].tag_read, write ? t->e[k].tag_write : tag_write, empty, t->e[k].addend };
    c->shadow.used[k / 64] |= UINT64_C(1) << (k % 64);
}

static struct page *page_of(struct check *c, struct cpu *cpu, uint8_t *host, uint64_t linear)
{
    for (unsigned n = c->page_count; n-- > 0;)
        if (c->pages[n].host == host)
            return &c->pages[n];
    if (c->page_count == PAGES_MAX)
        cpu_retry(cpu);
    struct page *p = &c->pages[c->page_count++];
    p->host = host;
    p->linear = linear;
    p->low = PAGE_SIZE;
    p->high = 0;
    ram_copy(p->old, host, PAGE_SIZE);
    if (c->engine == JIT)
        memcpy(p->new, p->old, PAGE_SIZE); /* the interpreter did nothing to it */
    return p;
}

static void on_access(struct cpu *cpu, const struct tlb *t, uint64_t addr, unsigned len, bool write)
{
    struct check *c = (struct check *)cpu->watcher;
    unsigned at = addr & ~PAGE_MASK;
    if (write) {
        uint8_t *host = (uint8_t *)(uintptr_t)((addr & PAGE_MASK) + t->e[tlb_index(addr)].addend);
        struct page *p = page_of(c, cpu, host, addr & PAGE_MASK);
        p->low = MIN(p->low, at);
        p->high = MAX(p->high, at + len);
    }
    if (c->engine == INTERP && t == &cpu->tlbs->space[cpu->tlbs->current].view[cpu_tlb_view(cpu)])
        shadow_fill(c, t, addr, write);
}

static void on_walked(struct cpu *cpu, uint8_t *entry)
{
    struct check *c = (struct check *)cpu->watcher;
    if (c->walked_count < WALKED_MAX)
        c->walked[c->walked_count++] = entry;
}

static void on_device(struct cpu *cpu)
{
    cpu_retry(cpu);
}

static void keep_results(struct check *c)
{
    for (unsigned n = 0; n < c->page_count; n++)
        ram_copy(c->pages[n].new, c->pages[n].host, PAGE_SIZE);
}

static void put_back(struct check *c, struct cpu *cpu)
{
    check_state_copy(cpu, c->before);
    cpu_tlb_switch(cpu);
    for (unsigned n = 0; n < c->page_count; n++) {
        struct page *p = &c->pages[n];
        if (p->low < p->high)
            ram_copy(p->host + p->low, p->old + p->low, p->high - p->low);
    }
}

/* --- Running ------------------------------------------------------------------------------------------------------ */

/* Runs the block by one engine from the present state; `code` is the JIT's. Call put_back() or keep() behind it. */
static void run(struct check *c, struct cpu *cpu, const struct block *b, const void *code)
{
    sigjmp_buf env, *outer = cpu->unwind;
    c->engine = code ? JIT : INTERP;
    c->watcher.tlb = code ? &c->shadow : &c->slow;
    cpu->watcher = &c->watcher;
    cpu_tlb_switch(cpu);
    cpu->unwind = &env;
    int left = sigsetjmp(env, 0);
    if (left)
        jit_unwind(c->jit, cpu);
    else if (code)
        jit_run(c->jit, cpu, code);
    else
        cpu_run_block(cpu, b);
    cpu->unwind = outer;
    cpu->watcher = NULL;
    c->how[c->engine] = !left ? DONE : left == EXCP_UNWIND_RAISE ? RAISED : STOPPED;
    check_state_copy(c->after[c->engine], cpu);
}

/*
 * The first n instructions of a block. Where that is not all of it, every flag counts behind them: handlers that skip
 * flags do not serve.
 */
static const struct block *first_of(struct check *c, struct cpu *cpu, const struct block *b, unsigned n)
{
    if (n >= b->count)
        return b;
    memcpy(c->part, b, sizeof *b + n * sizeof b->insns[0]);
    c->part->count = (uint16_t)n;
    for (unsigned k = 0; k < n; k++)
        c->part->insns[k].fn = block_handler(cpu, &c->part->insns[k]);
    return c->part;
}

/* --- What can be compared ----------------------------------------------------------------------------------------- */

/* Not to be done twice, or with another result each time. */
static bool is_once_only(const struct op *op)
{
    static const struct op *const once[] = {
        &op_in_imm, &op_in_dx,  &op_out_imm, &op_out_dx, &op_ins,   &op_outs, &op_rdtsc,
        &op_rdtscp, &op_rdpmc,  &op_rdrand,  &op_rdseed, &op_cpuid, &op_hlt,  &op_monitor,
        &op_mwait,  &op_vmcall, &op_vmmcall, &op_rdmsr,  &op_wrmsr, &op_rsm,
    };
    return op_is_one_of(op, once, G_N_ELEMENTS(once));
}

static bool rotates_carry(const struct op *op)
{
    return op == &op_rcl_imm || op == &op_rcl_cl || op == &op_rcr_imm || op == &op_rcr_cl;
}

static bool shifts(const struct op *op)
{
    return op == &op_shl_imm || op == &op_shl_cl || op == &op_shr_imm || op == &op_shr_cl || op == &op_sar_imm ||
           op == &op_sar_cl;
}

/* What matters of a row: worked out once. */
struct check_row {
    bool once, control;              /* not to be run twice; the same if control register 8, the local APIC's */
    bool shifts;                     /* by more than the operand has, CF is undefined, too */
    uint16_t looks, sets, undefined; /* arithmetic flags */
};

static struct check_row check_row_of(const struct insn_row *row)
{
    struct check_row r = { .once = is_once_only(row->op),
                           .shifts = shifts(row->op),
                           .looks = row->flags_read & FLAGS_ARITH,
                           .sets = row->flags_written & FLAGS_ARITH,
                           .undefined = row->flags_undefined };
    r.control = row->op == &op_mov_to_cr || row->op == &op_mov_from_cr;
    /* A count of 0 leaves flags alone: they count as read only because of that. */
    if (r.looks & (r.looks - 1) && r.looks == r.sets) {
        r.looks = rotates_carry(row->op) ? FLAG_CF : 0;
        r.sets = 0;
    }
    return r;
}

/* Arithmetic flags that are undefined behind *i, if `undefined` are before. */
static uint32_t undefined_behind(const struct check *c, const struct insn *i, uint32_t undefined)
{
    const struct check_row *r = &c->rows[i->row];
    return (undefined & ~(uint32_t)r->sets) | r->undefined | (r->shifts && i->osize < 2 ? FLAG_CF : 0);
}

static uint32_t undefined_after(const struct check *c, const struct block *b, unsigned n)
{
    uint32_t undefined = 0;
    for (unsigned k = 0; k < n; k++)
        undefined = undefined_behind(c, &b->insns[k], undefined);
    return undefined;
}

/* So many instructions from the first on can be run by both. */
static unsigned comparable(const struct check *c, const struct block *b)
{
    uint32_t undefined = 0;
    for (unsigned k = 0; k < b->count; k++) {
        const struct insn *i = &b->insns[k];
        const struct check_row *r = &c->rows[i->row];
        if (r->once || (r->control && i->reg == 8) || r->looks & undefined)
            return k;
        undefined = undefined_behind(c, i, undefined);
    }
    return b->count;
}

/* --- Comparison --------------------------------------------------------------------------------------------------- */

static unsigned insns_run(const struct check *c)
{
    return (unsigned)(c->after[INTERP]->insn_count - c->before->insn_count);
}

static bool same_raised(const struct cpu *a, const struct cpu *b)
{
    return a->raised.vector == b->raised.vector && a->raised.has_error == b->raised.has_error &&
           (!a->raised.has_error || a->raised.error == b->raised.error) &&
           (a->raised.vector != EXC_PF || a->raised.address == b->raised.address);
}

/* A page walk is made by whichever engine needs the translation first. */
static void share_marks(struct check *c)
{
    for (unsigned k = 0; k < c->walked_count; k++)
        for (unsigned n = 0; n < c->page_count; n++) {
            struct page *p = &c->pages[n];
            size_t at = (size_t)(c->walked[k] - p->host);
            if (c->walked[k] < p->host || at >= PAGE_SIZE || (p->new[at] ^ p->host[at]) & ~ENTRY_MARKS)
                continue;
            p->host[at] |= p->new[at];
            p->new[at] = p->host[at];
        }
}

static void print_how(const struct check *c, enum engine e, GString *out)
{
    const char *name = e == INTERP ? "interp" : "jit";
    if (c->how[e] == RAISED) {
        g_string_append_printf(out, "  %s raised ", name);
        check_print_raised(c->after[e], out);
        g_string_append_c(out, '\n');
    } else {
        g_string_append_printf(out, "  %s %s\n", name, c->how[e] == DONE ? "raised nothing" : "went to a device");
    }
}

static void print_bytes(GString *out, const char *what, const uint8_t *at, unsigned len)
{
    g_string_append_printf(out, " %s", what);
    for (unsigned k = 0; k < len; k++)
        g_string_append_printf(out, " %02x", at[k]);
}

/* Runs of different bytes, each in a line. */
static void print_page(const struct page *p, GString *out)
{
    for (unsigned at = 0; at < PAGE_SIZE; at++) {
        unsigned len = 0;
        while (at + len < PAGE_SIZE && len < 16 && p->new[at + len] != p->host[at + len])
            len++;
        if (!len)
            continue;
        g_string_append_printf(out, "  memory %#" PRIx64 ":", p->linear + at);
        print_bytes(out, "before", p->old + at, len);
        print_bytes(out, "interp", p->new + at, len);
        print_bytes(out, "jit", p->host + at, len);
        g_string_append_c(out, '\n');
        at += len;
    }
}

/* The JIT's results are in place, the interpreter's are kept. `out`: where to tell of differences, or NULL. */
static bool results_equal(const struct check *c, const struct block *b, GString *out)
{
    const struct cpu *interp = c->after[INTERP], *jit = c->after[JIT];
    bool equal = c->how[INTERP] == c->how[JIT] && (c->how[INTERP] != RAISED || same_raised(interp, jit));
    if (!equal && out) {
        print_how(c, INTERP, out);
        print_how(c, JIT, out);
    }
    uint32_t undefined = interp->rflags == jit->rflags ? 0 : undefined_after(c, b, insns_run(c));
    equal &= check_state_equal(interp, jit, undefined, out);
    for (unsigned n = 0; n < c->page_count; n++)
        if (memcmp(c->pages[n].host, c->pages[n].new, PAGE_SIZE)) {
            equal = false;
            if (out)
                print_page(&c->pages[n], out);
        }
    return equal;
}

/* The JIT has left between two instructions of the block: behind so many of them. 0: not so. */
static unsigned left_behind(const struct check *c, const struct block *b)
{
    uint64_t bytes = c->after[JIT]->rip - c->before->rip;
    for (unsigned k = 0; k + 1 < b->count && c->how[JIT] == DONE; k++)
        if (b->insns[k].end == bytes)
            return k + 1;
    return 0;
}

/* --- Both --------------------------------------------------------------------------------------------------------- */

static enum verdict cut(struct check *c, unsigned insns)
{
    c->cut = insns;
    return CUT;
}

/* The interpreter's run; AGREE: it came to the end, which is kept, and all is as before. */
static enum verdict run_reference(struct check *c, struct cpu *cpu, const struct block *b)
{
    run(c, cpu, b, NULL);
    keep_results(c);
    put_back(c, cpu);
    unsigned insns = insns_run(c);
    if (c->how[INTERP] == STOPPED || (c->how[INTERP] == DONE && insns < b->count))
        return cut(c, insns);
    return AGREE;
}

/*
 * Translated already, if possible: translation begins to watch the page for stores. The block may have killed its own
 * unit.
 */
static const void *find_code(struct check *c, struct cpu *cpu, unsigned insns)
{
    const void *code = jit_find_straight(c->jit, cpu, insns, false);
    if (code)
        return code;
    shadow_clear(&c->shadow);
    return jit_find_straight(c->jit, cpu, insns, true);
}

/* What differs without being an error: the JIT may leave when it likes, and must when something has come up. */
static enum verdict excuse(struct check *c, struct cpu *cpu, const struct block *b, unsigned left)
{
    if (c->search)
        return DIFFER;
    if (cpu_due_events(cpu))
        return EVENTS;
    return left ? cut(c, left) : DIFFER;
}

/* Behind what both agree on, with the interpreter's undefined flags. */
static void keep(struct check *c, struct cpu *cpu)
{
    const struct cpu *interp = c->after[INTERP];
    cpu->rflags = (cpu->rflags & ~(uint64_t)FLAGS_ARITH) | (interp->rflags & FLAGS_ARITH);
    cpu->insn_count = interp->insn_count;
    cpu_tlb_switch(cpu);
    c->stats.blocks++;
    c->stats.insns += insns_run(c);
}

/* Both run the first n instructions of the block at RIP. Everything is as before unless they agree. */
static enum verdict attempt(struct check *c, struct cpu *cpu, unsigned n, GString *out)
{
    const struct block *b = first_of(c, cpu, block_find(cpu, false), n);
    n = b->count;
    const void *code = jit_find_straight(c->jit, cpu, n, true);
    shadow_clear(&c->shadow);
    c->page_count = c->walked_count = 0;
    check_state_copy(c->before, cpu);
    enum verdict v = run_reference(c, cpu, b);
    if (v != AGREE)
        return v;
    if (c->page_count)
        code = find_code(c, cpu, n);
    if (!code)
        return cut(c, 0);
    __atomic_store_n(&cpu->poll, 0, __ATOMIC_RELAXED); /* the run loop looks at events behind each block */
    jit_update_context(cpu);
    run(c, cpu, b, code);
    share_marks(c);
    if (results_equal(c, b, out)) {
        if (!c->search)
            keep(c, cpu);
        else
            put_back(c, cpu);
        return AGREE;
    }
    unsigned left = left_behind(c, b);
    put_back(c, cpu);
    return excuse(c, cpu, b, left);
}

/* --- Report ------------------------------------------------------------------------------------------------------- */

/* A line: address, bytes, two spaces or more, text. */
static void disassemble(struct cpu *cpu, const struct insn *i, GString *out)
{
    uint64_t rip = cpu->rip + i->end - i->len, base = cpu_in_64(cpu) ? 0 : cpu->seg[SEG_CS].base, phys;
    uint8_t bytes[16] = { 0 };
    for (unsigned k = 0; k < i->len; k++)
        if (cpu_translate_debug(cpu, base + rip + k, &phys))
            bytes[k] = (uint8_t)mem_load_phys(cpu, phys, 1);
    disas_print(out, bytes, i->len, rip, cpu->code_size);
}

/*
 * The shortest beginning of the block after which the engines differ: its last instruction is to blame, or those before
 * it whose flags it shows. Returns how many instructions.
 */
static unsigned find_culprit(struct check *c, struct cpu *cpu, unsigned n)
{
    c->search = true;
    unsigned k = 1;
    while (k < n && attempt(c, cpu, k, NULL) != DIFFER)
        k++;
    return k;
}

static void report(struct check *c, struct cpu *cpu, unsigned n)
{
    g_autoptr(GString) s = g_string_new(NULL), differences = g_string_new(NULL), text = g_string_new(NULL);
    unsigned k = find_culprit(c, cpu, n);
    if (attempt(c, cpu, k, differences) != DIFFER)
        g_string_append(differences, "  (gone when tried once more)\n");
    const struct block *b = block_find(cpu, false);
    disassemble(cpu, &b->insns[k - 1], text);
    const char *last = g_strrstr(g_strchomp(text->str), "  ");
    g_string_append_printf(s, "trapeze: -accel jit,check=interp: the engines differ behind \"%s\"; the machine stops\n",
                           last ? last + 2 : text->str);
    g_string_append_printf(s,
                           "instruction %u of the block of %u at %04x:%016" PRIx64 ", physical %#" PRIx64
                           ", CPL %u, mode key %#x, after %" PRIu64 " instructions\n",
                           k, b->count, cpu->seg[SEG_CS].selector, cpu->rip, b->phys, cpu->cpl, cpu->mode_key,
                           cpu->insn_count);
    for (unsigned m = 0; m < k; m++)
        disassemble(cpu, &b->insns[m], s);
    g_string_append_printf(s, "differences:\n%sbefore:\n", differences->str);
    cpu_print(cpu, s);
    g_printerr("%s\n", s->str);
}

/* --- Interface ---------------------------------------------------------------------------------------------------- */

bool check_run(struct check *c, struct cpu *cpu)
{
    if (c->failed)
        return false;
    unsigned n = comparable(c, block_find(cpu, false));
    for (unsigned tries = 0; n;) {
        switch (attempt(c, cpu, n, NULL)) {
        case AGREE:
            c->stats.again += tries > 0;
            if (c->how[JIT] == RAISED)
                siglongjmp(*cpu->unwind, EXCP_UNWIND_RAISE);
            return true;
        case CUT: n = c->cut; break;
        case EVENTS: return true;
        case DIFFER:
            if (++tries < TRIES)
                break;
            report(c, cpu, n);
            c->failed = true;
            machine_request_exit(cpu->machine, 1, "check=interp");
            return false;
        }
    }
    c->stats.alone++;
    cpu_run_block(cpu, block_find(cpu, true));
    return true;
}

const struct check_stats *check_get_stats(const struct check *c)
{
    return &c->stats;
}

static void make_empty(struct tlb *t)
{
    for (unsigned k = 0; k < TLB_SIZE; k++)
        tlb_clear_entry(t, k);
}

struct check *check_new(struct jit *j)
{
    struct check *c = g_new0(struct check, 1);
    c->watcher = (struct mem_watcher){ .access = on_access, .device = on_device, .walked = on_walked };
    c->jit = j;
    c->pages = g_new(struct page, PAGES_MAX);
    c->before = g_new0(struct cpu, 1);
    c->after[INTERP] = g_new0(struct cpu, 1);
    c->after[JIT] = g_new0(struct cpu, 1);
    c->part = g_malloc(sizeof(struct block) + BLOCK_INSNS * sizeof(struct insn));
    c->rows = g_new(struct check_row, insn_row_count);
    for (unsigned k = 0; k < insn_row_count; k++)
        c->rows[k] = check_row_of(&insn_rows[k]);
    make_empty(&c->slow);
    make_empty(&c->shadow);
    return c;
}

void check_free(struct check *c)
{
    if (!c)
        return;
    g_free(c->rows);
    g_free(c->part);
    g_free(c->after[JIT]);
    g_free(c->after[INTERP]);
    g_free(c->before);
    g_free(c->pages);
    g_free(c);
}
