/*
 * Translated code: memory, lookup, links, invalidation, eviction.
 *
 * Code memory is mapped twice, for writing and for execution. It is filled slice by slice; a slice that is due to be
 * filled again loses its units first, while all vCPUs are outside. Units are found by host address and key in a hash under
 * jit->lock; generated code asks its vCPU's jump cache, which needs none.
 *
 * Who writes to a page with code comes here (ram_block.code_written): units made from the 64-byte granules that were hit die. A
 * dead unit's entries lead out to a lookup, and links that led to it are undone; its memory comes free with its slice.
 *
 * Locks: jit->lock, taken after the VM lock; never held while waiting for other vCPUs.
 */
#include "tcg/unit.h"

#include "cpu/block.h"
#include "cpu/mem.h"
#include "hw/core/machine.h"
#include "hw/core/ram_access.h"

#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#define SLICES 8
#define BYTES_PER_CHAIN 1024 /* of code memory */
/* Among so many failures of runs, so many of one make an end of it. */
#define RUN_WINDOW 4096
#define RUN_FAILURES 64
/*
 * So many misses of slots of the TLB are looked at together. If they have come closer together than so many ns on the average, which
 * then are two or three percent of the time, the instructions with more of them than the last figure lose their slots.
 */
#define SLOT_WINDOW 1024
#define SLOT_MISS_NS 500
#define SLOT_MISSES 24
/* Code that was met more than so many times in the last samples, that far apart, is hot: it gets slots. */
#define HOT_SAMPLES 2
#define HOT_SAMPLE_US 1000
#define MARK_BITS 17
#define MARK_MAX (1u << (MARK_BITS - 3))
#define SHARED_CODE (32u << 10) /* room for the code that all units share */

/* A set of instructions by host address. */
struct marks {
    uint64_t bits[(1u << MARK_BITS) / 64];
    unsigned count;
};

/* A page of RAM with code in it. */
struct code_page {
    struct unit *units;
};

struct jit {
    struct machine *machine;
    struct jit_options options;
    struct backend *backend;
    pthread_mutex_t lock;
    uint8_t *write, *exec;    /* the two views of code memory */
    size_t size, slice_size;
    struct code_area area;    /* what is left of the slice being filled */
    unsigned slice;
    struct unit *slices[SLICES];
    struct unit_entry **hash; /* 1 << hash_bits chains */
    unsigned hash_bits;
    GHashTable *pages;        /* host address of the page -> struct code_page */
    GPtrArray *limbo;         /* evicted units that a handler under way may still look at */
    uint64_t epoch;           /* counts evictions; atomic */
    struct marks alone;       /* not to be part of a run */
    struct marks hot;         /* by granule: to have slots, */
    struct marks plain;       /* but these are not */
    struct source source;
    struct jit_stats stats;
    struct perfmap *perfmap;  /* or NULL */
};

/* --- Links -------------------------------------------------------------------------------------------------------------------- */

static ptrdiff_t skew(const struct jit *j)
{
    return j->exec - j->write;
}

static void link_set(struct jit *j, struct link *l, struct unit *to)
{
    l->to = to;
    l->next = to->incoming;
    to->incoming = l;
    backend_patch_link(l, l->saved ? to->entry_saved : to->entry, skew(j));
    j->stats.links++;
}

/* Takes it from its target's list, too. */
static void link_forget(struct link *l)
{
    struct link **at = &l->to->incoming;
    while (*at != l)
        at = &(*at)->next;
    *at = l->next;
    l->to = NULL;
}

static void unlink_incoming(struct jit *j, struct unit *u)
{
    for (struct link *l = u->incoming, *next; l; l = next) {
        next = l->next;
        l->to = NULL;
        backend_patch_link(l, l->unlinked, skew(j));
    }
    u->incoming = NULL;
}

/* --- Hash and pages ---------------------------------------------------------------------------------------------------------------- */

static struct unit_entry **hash_slot(struct jit *j, const uint8_t *host, uint32_t key)
{
    uint64_t h = ((uintptr_t)host ^ (uint64_t)key << 40) * UINT64_C(0x9e3779b97f4a7c15);
    return &j->hash[h >> (64 - j->hash_bits)];
}

static struct unit_entry *find(struct jit *j, const uint8_t *host, uint32_t key)
{
    for (struct unit_entry *e = *hash_slot(j, host, key); e; e = e->next)
        if (e->host == host && e->unit->key == key)
            return e;
    return NULL;
}

/* Only one that begins there. */
static struct unit *find_first(struct jit *j, const uint8_t *host, uint32_t key)
{
    for (struct unit_entry *e = *hash_slot(j, host, key); e; e = e->next)
        if (e->host == host && e->unit->host == host && e->unit->key == key)
            return e->unit;
    return NULL;
}

static void *page_key(const uint8_t *host)
{
    return (void *)((uintptr_t)host & PAGE_MASK);
}

static void insert(struct jit *j, struct unit *u)
{
    for (unsigned k = 0; k < u->entry_count; k++) {
        struct unit_entry *e = &u->entries[k], **slot = hash_slot(j, e->host, u->key);
        e->listed = k == 0 || !find(j, e->host, u->key);
        if (!e->listed)
            continue;
        e->next = *slot;
        *slot = e;
    }
    struct code_page *p = g_hash_table_lookup(j->pages, page_key(u->host));
    if (!p) {
        p = g_new0(struct code_page, 1);
        g_hash_table_insert(j->pages, page_key(u->host), p);
    }
    u->page_next = p->units;
    p->units = u;
    u->slice_next = j->slices[j->slice];
    j->slices[j->slice] = u;
}

/* From the hash: nobody finds it any more. */
static void hash_remove(struct jit *j, struct unit *u)
{
    for (unsigned k = 0; k < u->entry_count; k++) {
        if (!u->entries[k].listed)
            continue;
        struct unit_entry **at = hash_slot(j, u->entries[k].host, u->key);
        while (*at != &u->entries[k])
            at = &(*at)->next;
        *at = u->entries[k].next;
    }
}

/* From its page's list; a page without units is forgotten. */
static void page_remove(struct jit *j, struct unit *u)
{
    struct code_page *p = g_hash_table_lookup(j->pages, page_key(u->host));
    struct unit **at = &p->units;
    while (*at != u)
        at = &(*at)->page_next;
    *at = u->page_next;
    if (!p->units)
        g_hash_table_remove(j->pages, page_key(u->host));
}

/* --- Invalidation --------------------------------------------------------------------------------------------------------------------- */

static void kill_unit(struct jit *j, struct unit *u)
{
    u->dead = true;
    hash_remove(j, u);
    unlink_incoming(j, u);
    backend_retire(j->backend, u, skew(j));
    j->stats.invalidated++;
}

static uint64_t granules(unsigned first, unsigned last)
{
    uint64_t upto = last / 64 == 63 ? UINT64_MAX : (UINT64_C(1) << (last / 64 + 1)) - 1;
    return upto & ~((UINT64_C(1) << first / 64) - 1);
}

/* Any may be in dead code: they look around in the next loop, and when they serialize. */
static void disturb_all(struct jit *j)
{
    for (unsigned k = 0; k < j->machine->cpu_count; k++)
        if (j->machine->cpus[k])
            __atomic_fetch_or(&j->machine->cpus[k]->poll, POLL_CODE, __ATOMIC_SEQ_CST);
}

/* All units of a page that were made from one of these granules. False: there was none. */
static bool kill_in_page(struct jit *j, const uint8_t *page, uint64_t hit)
{
    bool any = false;
    struct code_page *p = g_hash_table_lookup(j->pages, page);
    struct unit **at = p ? &p->units : NULL;
    while (at && *at) {
        struct unit *u = *at;
        if (u->granules & hit) {
            kill_unit(j, u);
            *at = u->page_next;
            any = true;
        } else {
            at = &u->page_next;
        }
    }
    if (p && !p->units)
        g_hash_table_remove(j->pages, page);
    if (any)
        disturb_all(j);
    return any;
}

/*
 * The hook of a ram_block: a write to part of one page that is watched for code. Where none is left, the page is not watched any
 * more; blocks of the interpreter that relied on it go by the write counter.
 */
static void code_written(void *opaque, struct ram_block *b, uint64_t offset, uint64_t len)
{
    struct jit *j = opaque;
    const uint8_t *page = b->host + (offset & PAGE_MASK);
    uint64_t hit = granules(offset & ~PAGE_MASK, (offset & ~PAGE_MASK) + len - 1);
    pthread_mutex_lock(&j->lock);
    kill_in_page(j, page, hit);
    if (!g_hash_table_contains(j->pages, page)) {
        __atomic_fetch_and(&b->watch[offset >> PAGE_BITS], (uint8_t)~DIRTY_CODE, __ATOMIC_SEQ_CST);
        __atomic_fetch_add(&b->code_gen[offset >> PAGE_BITS], 1, __ATOMIC_SEQ_CST);
    }
    pthread_mutex_unlock(&j->lock);
}

/* --- Runs that keep failing ------------------------------------------------------------------------------------------------------- */

static unsigned mark_bit(const uint8_t *host)
{
    return (unsigned)((uintptr_t)host * UINT64_C(0x9e3779b97f4a7c15) >> (64 - MARK_BITS));
}

static bool is_marked(const struct marks *m, const uint8_t *host)
{
    unsigned bit = mark_bit(host);
    return m->bits[bit / 64] >> (bit % 64) & 1;
}

static void mark(struct marks *m, const uint8_t *host)
{
    unsigned bit = mark_bit(host);
    if (m->count > MARK_MAX) /* they may long have gone elsewhere */
        memset(m, 0, sizeof *m);
    m->bits[bit / 64] |= UINT64_C(1) << (bit % 64);
    m->count++;
}

/* Where the code at this linear address lies, if the TLB knows. */
static const uint8_t *code_at(const struct cpu *cpu, uint64_t pc)
{
    const struct tlb_entry *e = &cpu->tlb_exec->e[tlb_index(pc)];
    return e->tag_exec == (pc & PAGE_MASK) ? (const uint8_t *)(uintptr_t)(pc + e->addend) : NULL;
}

static const uint8_t *code_under_way(const struct cpu *cpu)
{
    return code_at(cpu, cpu_in_64(cpu) ? cpu->rip : (uint32_t)(cpu->seg[SEG_CS].base + cpu->rip));
}

/* From *i to the end of its run, `page` being where it lies: each instruction by itself from now on. */
static void split_run(struct jit *j, const uint8_t *page, const struct insn *i)
{
    unsigned first = i->end - i->len, last = i->end - 1u;
    pthread_mutex_lock(&j->lock);
    for (bool more = true; more; i++) {
        mark(&j->alone, page + i->end - i->len);
        last = i->end - 1u;
        more = i->flags & INSN_RUN;
    }
    kill_in_page(j, page, granules(first, last));
    pthread_mutex_unlock(&j->lock);
}

void jit_run_failed(struct jit *j, struct cpu *cpu, const struct insn *i)
{
    uint8_t *count = &cpu->run_failures[((uintptr_t)i >> 3) % G_N_ELEMENTS(cpu->run_failures)];
    if (++cpu->runs_failed % RUN_WINDOW == 0)
        memset(cpu->run_failures, 0, sizeof cpu->run_failures);
    if (++*count < RUN_FAILURES)
        return;
    *count = 0;
    const uint8_t *page = code_under_way(cpu);
    if (page)
        split_run(j, page, i);
}

/* --- Slots that keep missing ------------------------------------------------------------------------------------------------------ */

static struct unit *unit_of(struct jit *j, const uint8_t *page, const struct insn *i)
{
    const struct code_page *p = g_hash_table_lookup(j->pages, page);
    for (struct unit *u = p ? p->units : NULL; u; u = u->page_next)
        if (i >= u->insns && i < u->insns + u->insn_count)
            return u;
    return NULL;
}

static bool misses_often(const struct cpu *cpu, const uint16_t *slots)
{
    for (unsigned n = 0; n < UNIT_INSN_SLOTS; n++)
        if (slots[n] && cpu->slot_misses[slots[n] - 1] >= SLOT_MISSES)
            return true;
    return false;
}

/*
 * Where one of a unit's instructions misses often, others may: they are all looked at before it is translated anew. If there is none,
 * all of it is rather lukewarm.
 */
static void drop_slots(struct jit *j, struct cpu *cpu, const uint8_t *page, const struct insn *i)
{
    pthread_mutex_lock(&j->lock);
    struct unit *u = unit_of(j, page, i);
    bool any = false;
    for (unsigned k = 0; u && k < u->insn_count; k++)
        any |= misses_often(cpu, u->slots[k]);
    for (unsigned k = 0; u && k < u->insn_count; k++)
        if (u->slots[k][0] && (!any || misses_often(cpu, u->slots[k])))
            mark(&j->plain, page + u->insns[k].end - u->insns[k].len);
    if (u) {
        page_remove(j, u);
        kill_unit(j, u);
        disturb_all(j); /* a loop in it would go on for ever */
    }
    pthread_mutex_unlock(&j->lock);
}

static uint64_t thread_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

void jit_slots_missed(struct jit *j, struct cpu *cpu, const struct insn *i)
{
    uint64_t now = thread_ns();
    const uint8_t *page = code_under_way(cpu);
    if (now - cpu->slots_since < (uint64_t)SLOT_WINDOW * SLOT_MISS_NS && page && !cpu->watcher)
        drop_slots(j, cpu, page, i);
    memset(cpu->slot_misses, 0, sizeof cpu->slot_misses);
    cpu->slot_misses_left = SLOT_WINDOW;
    cpu->slots_since = now;
}

/* --- Slots for hot code ----------------------------------------------------------------------------------------------------------- */

/* All that was translated together with what lies there. */
static void mark_hot(struct jit *j, const uint8_t *host)
{
    const uint8_t *page = page_key(host);
    unsigned off = (unsigned)(host - page);
    uint64_t hot = 0;
    pthread_mutex_lock(&j->lock);
    struct code_page *p = g_hash_table_lookup(j->pages, page);
    for (struct unit *u = p ? p->units : NULL; u && !hot; u = u->page_next)
        if (u->granules & granules(off, off) && !is_marked(&j->hot, page + off / 64 * 64))
            hot = u->granules;
    for (unsigned k = 0; k < 64; k++)
        if (hot >> k & 1)
            mark(&j->hot, page + k * 64);
    if (hot)
        kill_in_page(j, page, hot);
    pthread_mutex_unlock(&j->lock);
}

static void note_sample(struct jit *j, struct cpu *cpu, const uint8_t *host)
{
    unsigned same = 0;
    for (unsigned k = 0; host && k < G_N_ELEMENTS(cpu->hot_samples); k++)
        same += cpu->hot_samples[k] / 256 == (uintptr_t)host / 256;
    cpu->hot_samples[cpu->hot_next++ % G_N_ELEMENTS(cpu->hot_samples)] = (uintptr_t)host;
    if (same > HOT_SAMPLES)
        mark_hot(j, host);
}

/* Where functions begin, which is where code with calls is left, the stack tells who has called. */
static const uint8_t *caller(const struct cpu *cpu)
{
    uint64_t sp = cpu->r[R_RSP], pc;
    const struct tlb_entry *e = &cpu->tlb->e[tlb_index(sp)];
    if (!cpu_in_64(cpu) || sp - e->tag_read > PAGE_SIZE - sizeof pc)
        return NULL;
    pc = ram_load((const void *)(uintptr_t)(sp + e->addend), sizeof pc);
    return code_at(cpu, pc);
}

void jit_sample(struct jit *j, struct cpu *cpu)
{
    int64_t now = g_get_monotonic_time();
    if (now - cpu->hot_sampled < HOT_SAMPLE_US)
        return;
    cpu->hot_sampled = now;
    note_sample(j, cpu, code_under_way(cpu));
    note_sample(j, cpu, caller(cpu));
}

/* --- Eviction --------------------------------------------------------------------------------------------------------------------------- */

static void unit_free(void *p)
{
    struct unit *u = p;
    g_free(u->insns);
    g_free(u->slots);
    g_free(u->links);
    g_free(u->entries);
    g_free(u);
}

static void evict_unit(struct jit *j, struct unit *u)
{
    if (!u->dead) {
        hash_remove(j, u);
        page_remove(j, u);
        unlink_incoming(j, u);
    }
    for (unsigned k = 0; k < u->link_count; k++)
        if (u->links[k].to)
            link_forget(&u->links[k]);
    g_ptr_array_add(j->limbo, u);
}

/* A vCPU that waits within a handler called from generated code still needs its struct insn. */
static bool anybody_in_handler(const struct jit *j)
{
    for (unsigned k = 0; k < j->machine->cpu_count; k++)
        if (j->machine->cpus[k] && j->machine->cpus[k]->insn)
            return true;
    return false;
}

static void forget_jumps(struct jit *j)
{
    for (unsigned k = 0; k < j->machine->cpu_count; k++)
        if (j->machine->cpus[k])
            jit_jumps_forget(j->machine->cpus[k]);
}

static void use_slice(struct jit *j, unsigned slice)
{
    size_t from = SHARED_CODE + slice * j->slice_size;
    j->slice = slice;
    j->area = (struct code_area){ j->write + from, j->write + from + j->slice_size, skew(j) };
}

/* With all other vCPUs outside: begins the next slice. */
static void next_slice(struct cpu *cpu, void *arg)
{
    struct jit *j = arg;
    pthread_mutex_lock(&j->lock);
    unsigned slice = (j->slice + 1) % SLICES;
    if (j->slices[slice]) {
        for (struct unit *u = j->slices[slice], *next; u; u = next) {
            next = u->slice_next;
            evict_unit(j, u);
        }
        j->slices[slice] = NULL;
        forget_jumps(j);
        j->stats.evictions++;
        __atomic_fetch_add(&j->epoch, 1, __ATOMIC_SEQ_CST);
        if (!anybody_in_handler(j))
            g_ptr_array_set_size(j->limbo, 0);
    }
    use_slice(j, slice);
    pthread_mutex_unlock(&j->lock);
}

static bool has_room(struct jit *j)
{
    return (size_t)(j->area.end - j->area.at) >= UNIT_CODE_MAX;
}

static void make_room(struct jit *j, struct cpu *cpu)
{
    pthread_mutex_lock(&j->lock);
    bool room = has_room(j);
    pthread_mutex_unlock(&j->lock);
    if (room)
        return;
    if (cpu->host && cpu->host->exclusive)
        cpu->host->exclusive(cpu, next_slice, j);
    else
        next_slice(cpu, j);
}

uint64_t jit_epoch(const struct jit *j)
{
    return __atomic_load_n(&j->epoch, __ATOMIC_RELAXED);
}

/* --- Translation ----------------------------------------------------------------------------------------------------------------------------- */

static void set_extent(const struct source *s, struct unit *u)
{
    u->first = s->insns[0].off;
    for (unsigned k = 0; k < s->count; k++) {
        const struct guest_insn *g = &s->insns[k];
        u->last = (uint16_t)MIN(g->off + MAX(g->i.len, 1) - 1u, PAGE_SIZE - 1u);
        u->granules |= granules(g->off, u->last);
    }
}

static void count(struct jit *j, const struct unit *u, int64_t started)
{
    const struct source *s = &j->source;
    j->stats.units++;
    j->stats.insns += s->count;
    j->stats.code_bytes += (uint64_t)(u->end - u->code);
    for (unsigned k = 0; k < s->count; k++)
        j->stats.fallback_insns += !s->insns[k].native;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    j->stats.translate_ns += (uint64_t)(now.tv_sec * INT64_C(1000000000) + now.tv_nsec - started);
}

/* The linear address of the code at CS:RIP. */
static uint64_t code_address(const struct cpu *cpu)
{
    return cpu_in_64(cpu) ? cpu->rip : (uint32_t)(cpu->seg[SEG_CS].base + cpu->rip);
}

/* After where it was found, which may not be the only place. */
static void name_unit(struct jit *j, const struct cpu *cpu, const struct unit *u)
{
    g_autofree char *ring = u->key & MODE_PROT ? g_strdup_printf("cpl%u", cpu->cpl)
                                               : g_strdup(u->key & MODE_V86 ? "v86" : "real");
    g_autofree char *name = g_strdup_printf("guest-%#" PRIx64 "-%u-%s", code_address(cpu), 8u << cpu->code_size, ring);
    perfmap_add(j->perfmap, u->code, u->end, name);
}

/* With the lock held: translates what lies at `host`, if nothing has been written there since the page was watched. */
static struct unit_entry *translate_locked(struct jit *j, struct cpu *cpu, const uint8_t *host, uint32_t key,
                                     const uint32_t *gen_at, uint32_t gen, const uint8_t *watch)
{
    struct source *s = &j->source;
    struct timespec start;
    clock_gettime(CLOCK_MONOTONIC, &start);
    s->backend = j->backend;
    s->cpu = cpu;
    s->page = page_key(host);
    s->start = (uint16_t)(host - s->page);
    s->key = key;
    s->precise = j->options.precise;
    if (!has_room(j) || !source_read(s))
        return NULL;
    for (unsigned k = 0; k < s->count && j->alone.count; k++)
        s->insns[k].alone = is_marked(&j->alone, s->page + s->insns[k].off);
    for (unsigned k = 0; k < s->count; k++) {
        const uint8_t *at = s->page + s->insns[k].off;
        bool hot = !j->options.hot || is_marked(&j->hot, s->page + s->insns[k].off / 64 * 64);
        s->insns[k].plain = !hot || is_marked(&j->plain, at);
    }
    if (__atomic_load_n(gen_at, __ATOMIC_SEQ_CST) != gen || !(__atomic_load_n(watch, __ATOMIC_SEQ_CST) & DIRTY_CODE))
        return NULL;
    struct unit *u = g_new0(struct unit, 1);
    u->host = host;
    u->key = s->key;
    set_extent(s, u);
    backend_translate(j->backend, s, u, &j->area);
    insert(j, u);
    count(j, u, start.tv_sec * INT64_C(1000000000) + start.tv_nsec);
    if (j->perfmap)
        name_unit(j, cpu, u);
    return &u->entries[0];
}

/* NULL: not now, or never. */
static struct unit_entry *translate(struct jit *j, struct cpu *cpu, uint64_t phys, const uint8_t *host, uint32_t key)
{
    const struct flat_range *r = flat_view_find(cpu->view, phys);
    struct ram_block *ram = r ? r->region->ram : NULL;
    if (!ram)
        return NULL;
    make_room(j, cpu);
    uint32_t gen, *gen_at = block_watch_page(cpu, phys, host, &gen);
    uint64_t page = flat_range_ram_offset(r, phys) >> PAGE_BITS;
    pthread_mutex_lock(&j->lock);
    ram_set_code_written(ram, code_written, j);
    struct unit_entry *e = find(j, host, key); /* another vCPU may have been faster */
    if (!e)
        e = translate_locked(j, cpu, host, key, gen_at, gen, &ram->watch[page]);
    pthread_mutex_unlock(&j->lock);
    return e;
}

/* --- Lookup ------------------------------------------------------------------------------------------------------------------------------------ */

/* Does all that the unit was made from lie within the code segment? */
static bool within_segment(const struct cpu *cpu, const struct unit *u, unsigned at)
{
    if (cpu->mode_key & MODE_FLAT)
        return true;
    return cpu->rip >= at - u->first && cpu->rip + (u->last - at) <= MIN(cpu->seg[SEG_CS].limit, cpu_ip_mask(cpu));
}

/* Where the instruction at CS:RIP is entered, or NULL. */
static const uint8_t *find_code(struct jit *j, struct cpu *cpu, uint32_t key, bool may_translate)
{
    uint64_t phys, pc = code_address(cpu);
    if (!(cpu->mode_key & MODE_FLAT) && cpu->rip > cpu->seg[SEG_CS].limit)
        return NULL; /* #GP before #PF: the interpreter's business */
    const uint8_t *page = cpu_code_page(cpu, pc, &phys);
    if (!page)
        return NULL;
    const uint8_t *host = page + (pc & ~PAGE_MASK);
    pthread_mutex_lock(&j->lock);
    struct unit_entry *e = find(j, host, key);
    pthread_mutex_unlock(&j->lock);
    if (!e && may_translate)
        e = translate(j, cpu, phys, host, key);
    return e && within_segment(cpu, e->unit, pc & ~PAGE_MASK) ? e->code : NULL;
}

const void *jit_find(struct jit *j, struct cpu *cpu, bool may_translate)
{
    if (G_UNLIKELY(cpu->stale_jump)) {
        cpu->stale_jump = false;
        jit_jumps_drop(cpu);
    }
    const void *code = jit_peek(cpu);
    if (G_LIKELY(code))
        return code;
    code = find_code(j, cpu, jit_key(cpu), may_translate);
    if (code)
        jit_jumps_set(cpu, code);
    return code;
}

const void *jit_look_up(struct cpu *cpu)
{
    struct jit *j = cpu->jit;
    uint64_t page_rip = cpu->rip, pc = cpu->jump_wanted & cpu_ip_mask(cpu);
    const struct tlb_entry *t = &cpu->tlb_exec->e[tlb_index(pc)];
    if (!(cpu->mode_key & MODE_FLAT) || t->tag_exec != (pc & PAGE_MASK))
        return NULL;
    pthread_mutex_lock(&j->lock);
    const struct unit_entry *e = find(j, (const uint8_t *)(uintptr_t)(pc + t->addend), CONTEXT_KEY(cpu->jump_context));
    const void *code = e ? e->code : NULL;
    pthread_mutex_unlock(&j->lock);
    cpu->rip = pc;
    if (code)
        jit_jumps_set(cpu, code);
    cpu->rip = page_rip;
    return code;
}

const void *jit_find_straight(struct jit *j, struct cpu *cpu, unsigned insns, bool may_translate)
{
    cpu->stale_jump = false;
    return find_code(j, cpu, jit_key(cpu) | insns << KEY_INSNS_SHIFT, may_translate);
}

/* The jump by which generated code was left gets its target, if there is one by now. cpu->rip is there. */
void jit_resolve(struct jit *j, struct cpu *cpu, struct link *l)
{
    uint64_t epoch = jit_epoch(j);
    if (cpu_due_events(cpu) || l->from->key >> KEY_INSNS_SHIFT)
        return;
    pthread_mutex_lock(&j->lock);
    const uint8_t *target = (const uint8_t *)page_key(l->from->host) + l->target;
    struct unit *to = l->from->dead || epoch != j->epoch ? NULL : find_first(j, target, l->from->key);
    if (to && !l->to)
        link_set(j, l, to);
    pthread_mutex_unlock(&j->lock);
}

/* --- Life ---------------------------------------------------------------------------------------------------------------------------------------- */

void jit_backend_run(struct jit *j, struct cpu *cpu, const void *code)
{
    backend_run(j->backend, cpu, code);
}

void jit_unwind(struct jit *j, struct cpu *cpu)
{
    backend_settle(j->backend, cpu);
    cpu_unwind(cpu);
}

void jit_enter_thread(struct jit *j, struct cpu *cpu)
{
    cpu->jit = j;
    backend_enter_thread(cpu);
}

/* Shared memory without a file, seen twice (mremap(2), old size 0): perf looks for names only where there is no file. */
static bool map_code(struct jit *j, GError **err)
{
    j->exec = MAP_FAILED;
    j->write = mmap(NULL, j->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (j->write != MAP_FAILED)
        j->exec = mremap(j->write, 0, j->size, MREMAP_MAYMOVE);
    if (j->exec != MAP_FAILED && !mprotect(j->exec, j->size, PROT_READ | PROT_EXEC))
        return true;
    int e = errno;
    g_set_error(err, G_FILE_ERROR, g_file_error_from_errno(e), "no memory for generated code on this host: %s",
                g_strerror(e));
    return false;
}

static void unmap_code(struct jit *j)
{
    if (j->write != MAP_FAILED)
        munmap(j->write, j->size);
    if (j->exec != MAP_FAILED)
        munmap(j->exec, j->size);
}

struct jit *jit_new(struct machine *m, const struct jit_options *o, GError **err)
{
    struct jit *j = g_new0(struct jit, 1);
    j->machine = m;
    j->options = *o;
    j->size = MAX(o->size, SHARED_CODE + SLICES * 2 * (size_t)UNIT_CODE_MAX) & PAGE_MASK;
    j->slice_size = ((j->size - SHARED_CODE) / SLICES) & ~(size_t)15;
    if (!map_code(j, err) || (o->perfmap && !(j->perfmap = perfmap_new(err)))) {
        unmap_code(j);
        g_free(j);
        return NULL;
    }
    pthread_mutex_init(&j->lock, NULL);
    j->hash_bits = g_bit_storage(j->size / BYTES_PER_CHAIN);
    j->hash = g_new0(struct unit_entry *, (size_t)1 << j->hash_bits);
    j->pages = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    j->limbo = g_ptr_array_new_with_free_func(unit_free);
    struct code_area shared = { j->write, j->write + SHARED_CODE, skew(j) };
    j->backend = backend_new(&shared);
    g_assert(shared.at <= shared.end);
    if (j->perfmap)
        backend_name_code(j->backend, j->perfmap);
    use_slice(j, 0);
    return j;
}

void jit_free(struct jit *j)
{
    for (unsigned k = 0; k < SLICES; k++)
        for (struct unit *u = j->slices[k], *next; u; u = next) {
            next = u->slice_next;
            unit_free(u);
        }
    g_ptr_array_free(j->limbo, TRUE);
    g_free(j->hash);
    g_hash_table_destroy(j->pages);
    backend_free(j->backend);
    perfmap_free(j->perfmap);
    unmap_code(j);
    pthread_mutex_destroy(&j->lock);
    g_free(j);
}

void jit_spoil(struct jit *j, const char *mnemonic)
{
    for (unsigned row = 0; row < insn_row_count; row++)
        if (!strcmp(insn_rows[row].mnemonic, mnemonic))
            backend_spoil(j->backend, row);
}

void jit_get_stats(struct jit *j, struct jit_stats *s)
{
    pthread_mutex_lock(&j->lock);
    *s = j->stats;
    pthread_mutex_unlock(&j->lock);
}
