/*
 * Guest memory behind the fast path of cpu/mem.h: TLB fill, page crossings, I/O, watched pages, breakpoints, alignment checks.
 *
 * An access that crosses a page translates both pages before it touches either, lower page first. Stores that cross into or
 * lie in a page with decoded code end the block under way, so that the next instruction is decoded afresh.
 *
 * Thread: the vCPU's own. The VM lock is taken around device accesses only.
 */
#include "cpu/mem.h"

#include "cpu/block.h"
#include "cpu/debug.h"
#include "cpu/walk.h"
#include "hw/core/vm_lock.h"

/* Who asks, and what to raise for a non-canonical address. */
struct asker {
    enum tlb_view view;
    uint8_t seg;
};

static struct asker asker_now(const struct cpu *cpu, unsigned seg)
{
    return (struct asker){ cpu_tlb_view(cpu), seg };
}

static struct tlb *tlb_of(const struct cpu *cpu, enum tlb_view view)
{
    return &cpu->tlbs->space[cpu->tlbs->current].view[view];
}

static _Noreturn void raise_non_canonical(struct cpu *cpu, unsigned seg)
{
    cpu_raise_error(cpu, seg == SEG_FLAT_STACK || seg == SEG_SS ? EXC_SS : EXC_GP, 0);
}

/* --- Filling --------------------------------------------------------------------------------------------------------- */

/* What backs the page: host address for RAM and ROM. Is it watched for writes? */
static bool backing(struct cpu *cpu, uint64_t phys, uint64_t page, struct tlb_entry *e, uint64_t *info)
{
    const struct flat_range *r = flat_view_find(cpu->view, phys);
    e->addend = 0;
    if (!r || !r->host || r->start > (phys & PAGE_MASK) || r->last < (phys | ~PAGE_MASK)) {
        *info |= TLB_IO; /* a page shared by several ranges asks each time, too */
        return true;
    }
    e->addend = (uint64_t)(uintptr_t)(r->host + ((phys & PAGE_MASK) - r->start)) - page;
    if (r->read_only || r->region->kind == MEM_ROM)
        *info |= TLB_ROM;
    return ram_watched(r->region->ram, flat_range_ram_offset(r, phys));
}

/* A tag that allows the access: fast, or slow where each access must ask. */
static uint64_t allow(uint64_t page, bool slow)
{
    return slow ? page ^ TLB_SLOW : page;
}

static bool page_watched(const struct cpu *cpu, uint64_t phys)
{
    const struct flat_range *r = flat_view_find(cpu->view, phys);
    return r && r->region->ram && ram_watched(r->region->ram, flat_range_ram_offset(r, phys));
}

static void fill(struct cpu *cpu, struct tlb *t, uint64_t addr, enum access access, enum tlb_view view,
                 const struct walk *w)
{
    unsigned k = tlb_index(addr);
    uint64_t page = addr & PAGE_MASK;
    struct tlb_entry *e = &t->e[k];
    uint64_t info = (w->phys & PAGE_MASK) | (w->global ? TLB_GLOBAL : 0) | (w->page_bits == 30 ? TLB_HUGE : 0) |
                    (w->page_bits == 21 || w->page_bits == 22 ? TLB_LARGE : 0);
    tlb_clear_entry(t, k);
    bool watched = backing(cpu, w->phys, page, e, &info);
    if (debug_data_breakpoint_in(cpu, page))
        info |= TLB_BREAK;
    bool slow = info & (TLB_IO | TLB_BREAK);
    if (walk_allows(cpu, w, ACCESS_READ, view))
        e->tag_read = allow(page, slow);
    if (w->dirty && walk_allows(cpu, w, ACCESS_WRITE, view))
        e->tag_write = allow(page, slow || info & TLB_ROM || watched);
    if (walk_allows(cpu, w, ACCESS_EXEC, view)) {
        e->tag_exec = allow(page, info & TLB_IO);
        t->exec[addr >> 63][k / 64] |= UINT64_C(1) << (k % 64);
        t->exec_local |= !w->global;
    }
    t->info[k] = info;
    t->used[k / 64] |= UINT64_C(1) << (k % 64);
    if (w->page_bits == 30)
        t->large[addr >> 63] = UINT64_MAX;
    else if (w->page_bits > 12)
        t->large[addr >> 63] |= UINT64_C(1) << tlb_large_bit(addr);
}

static uint64_t tag_for(const struct tlb_entry *e, enum access access)
{
    return access == ACCESS_READ ? e->tag_read : access == ACCESS_WRITE ? e->tag_write : e->tag_exec;
}

/* Makes sure that the slot of `addr` allows the access; raises #PF, or #GP/#SS for a non-canonical address. */
static struct tlb *translate(struct cpu *cpu, uint64_t addr, enum access access, struct asker a)
{
    struct tlb *t = tlb_of(cpu, a.view);
    if (G_LIKELY(tlb_tag_allows(tag_for(&t->e[tlb_index(addr)], access), addr & PAGE_MASK)))
        return t;
    if (cpu_long(cpu) && !cpu_is_canonical(cpu, addr))
        raise_non_canonical(cpu, a.seg);
    struct walk w;
    cpu->tlb_misses++;
    if (!page_walk(cpu, addr, access, a.view, false, &w))
        cpu_raise_page_fault(cpu, addr, w.error);
    fill(cpu, t, addr, access, a.view, &w);
    return t;
}

static uint64_t phys_of(const struct tlb *t, uint64_t addr)
{
    return (t->info[tlb_index(addr)] & PAGE_MASK) | (addr & ~PAGE_MASK);
}

/* --- One access within a page, already translated ------------------------------------------------------------------------ */

static void mmio_event(struct cpu *cpu, uint64_t phys, uint64_t value, unsigned size, bool write)
{
    if (event_wanted(EVENT_MMIO))
        event_emit(&(struct event){ .kind = EVENT_MMIO, .vcpu = cpu->index, .cpl = cpu->cpl, .rip = cpu_rip(cpu),
                                    .address = phys, .value = value, .size = size, .write = write });
}

/* Largest power of two that divides the address and fits the rest: what one bus access moves. */
static unsigned io_piece(uint64_t phys, unsigned len)
{
    unsigned piece = 8;
    while (piece > len || phys & (piece - 1))
        piece >>= 1;
    return piece;
}

static void tell_device(struct cpu *cpu)
{
    if (G_UNLIKELY(cpu->watcher))
        cpu->watcher->device(cpu);
}

static void tell_access(struct cpu *cpu, const struct tlb *t, uint64_t addr, unsigned len, bool write)
{
    if (G_UNLIKELY(cpu->watcher))
        cpu->watcher->access(cpu, t, addr, len, write);
}

static uint64_t io_read(struct cpu *cpu, uint64_t phys, unsigned size)
{
    tell_device(cpu);
    const struct flat_range *r = flat_view_find(cpu->view, phys);
    bool lock = (!r || !r->host) && vm_lock_if_free();
    uint64_t v = mem_range_read(r, phys, size);
    vm_unlock_if(lock);
    mmio_event(cpu, phys, v, size, false);
    return v;
}

static void io_write(struct cpu *cpu, uint64_t phys, uint64_t value, unsigned size)
{
    tell_device(cpu);
    const struct flat_range *r = flat_view_find(cpu->view, phys);
    bool lock = (!r || !r->host || r->read_only) && vm_lock_if_free();
    mem_range_write(r, phys, value, size);
    vm_unlock_if(lock);
    mmio_event(cpu, phys, value, size, true);
}

/* `len` bytes of device or mixed memory, in naturally aligned pieces; an access of a legal size to one device stays whole. */
static void io_bytes(struct cpu *cpu, uint64_t phys, uint8_t *buf, unsigned len, bool write)
{
    while (len) {
        const struct flat_range *r = flat_view_find(cpu->view, phys);
        bool whole = (len == 1 || len == 2 || len == 4 || len == 8) && r && r->last >= phys + len - 1;
        unsigned piece = whole ? len : io_piece(phys, len);
        if (write)
            io_write(cpu, phys, ram_load(buf, piece), piece);
        else
            ram_store(buf, io_read(cpu, phys, piece), piece);
        buf += piece;
        phys += piece;
        len -= piece;
    }
    /* A device may have changed the memory map: what follows must see it. */
    if (write && __atomic_load_n(&cpu->events, __ATOMIC_RELAXED) & CPU_EVENT_MEMMAP)
        cpu_renew_view(cpu);
    /* Nor may an interrupt that a processor sends to itself, or lets in by its APIC, wait for the end of the block. */
    if (write && cpu->insn && cpu_due_events(cpu))
        cpu->stop_at = cpu->insn + 1;
}

/* Tells who watches this page of RAM; leaves the block if its code is among what is written. */
static void note_store(struct cpu *cpu, uint64_t phys, unsigned len)
{
    const struct flat_range *r = flat_view_find(cpu->view, phys);
    if (!r || !r->region->ram)
        return;
    struct ram_block *b = r->region->ram;
    uint64_t offset = flat_range_ram_offset(r, phys);
    if (!ram_watched(b, offset))
        return;
    bool code = __atomic_load_n(&b->watch[offset >> PAGE_BITS], __ATOMIC_RELAXED) & DIRTY_CODE;
    ram_note_write(b, offset, len);
    if (code) {
        if (event_wanted(EVENT_CODE_INVALID))
            event_emit(&(struct event){ .kind = EVENT_CODE_INVALID, .vcpu = cpu->index, .rip = cpu_rip(cpu),
                                        .address = phys });
        if (cpu->insn)
            cpu->stop_at = cpu->insn + 1;
    }
}

/* The page is no longer watched: stores may be fast again. */
static void unwatch_entry(struct cpu *cpu, struct tlb *t, uint64_t addr)
{
    unsigned k = tlb_index(addr);
    if (!(t->info[k] & (TLB_IO | TLB_BREAK | TLB_ROM)) && !page_watched(cpu, phys_of(t, addr)))
        t->e[k].tag_write = addr & PAGE_MASK;
}

/* An access of a register's size stays one access: others may be looking. */
static void copy_pieces(void *to, const void *from, unsigned len)
{
    if (len == 1 || len == 2 || len == 4 || len == 8)
        ram_store(to, ram_load(from, len), len);
    else
        ram_copy(to, from, len);
}

static void read_page(struct cpu *cpu, struct tlb *t, uint64_t addr, void *buf, unsigned len)
{
    unsigned k = tlb_index(addr);
    if (t->info[k] & TLB_BREAK)
        debug_data_access(cpu, addr, len, false);
    if (t->info[k] & TLB_IO) {
        io_bytes(cpu, phys_of(t, addr), buf, len, false);
        return;
    }
    tell_access(cpu, t, addr, len, false);
    copy_pieces(buf, (const void *)(uintptr_t)(addr + t->e[k].addend), len);
}

static void write_page(struct cpu *cpu, struct tlb *t, uint64_t addr, const void *buf, unsigned len)
{
    unsigned k = tlb_index(addr);
    if (t->info[k] & TLB_BREAK)
        debug_data_access(cpu, addr, len, true);
    if (t->info[k] & (TLB_IO | TLB_ROM)) {
        io_bytes(cpu, phys_of(t, addr), (uint8_t *)buf, len, true);
        return;
    }
    tell_access(cpu, t, addr, len, true);
    copy_pieces((void *)(uintptr_t)(addr + t->e[k].addend), buf, len);
    note_store(cpu, phys_of(t, addr), len);
    unwatch_entry(cpu, t, addr);
}

/* --- Accesses of any size and place ------------------------------------------------------------------------------------------ */

/* Outside 64-bit mode linear addresses wrap at 4 GiB. */
static uint64_t linear_wrap(const struct cpu *cpu, uint64_t addr)
{
    return cpu_in_64(cpu) ? addr : (uint32_t)addr;
}

/* An access that reaches over the end of the canonical addresses is #GP or #SS, whatever its first page is like. */
static void check_canonical_end(struct cpu *cpu, uint64_t addr, unsigned len, struct asker a)
{
    if (G_UNLIKELY((addr & ~PAGE_MASK) + len > PAGE_SIZE) && cpu_in_64(cpu) && !cpu_is_canonical(cpu, addr + len - 1))
        raise_non_canonical(cpu, a.seg);
}

/* Reads or writes with every page translated before the first byte moves. `len` may cross one page boundary. */
static void access_bytes(struct cpu *cpu, uint64_t addr, void *buf, unsigned len, bool write, struct asker a)
{
    enum access access = write ? ACCESS_WRITE : ACCESS_READ;
    unsigned first = MIN(len, (unsigned)(PAGE_SIZE - (addr & ~PAGE_MASK)));
    uint64_t next = linear_wrap(cpu, addr + first);
    check_canonical_end(cpu, addr, len, a);
    struct tlb *t = translate(cpu, addr, access, a);
    if (first < len)
        translate(cpu, next, access, a);
    if (write)
        write_page(cpu, t, addr, buf, first);
    else
        read_page(cpu, t, addr, buf, first);
    if (first == len)
        return;
    translate(cpu, next, access, a);
    if (write)
        write_page(cpu, t, next, (const uint8_t *)buf + first, len - first);
    else
        read_page(cpu, t, next, (uint8_t *)buf + first, len - first);
}

/*
 * #AC: only data accesses at CPL 3 with CR0.AM and RFLAGS.AC; then cpu->tlb is the empty one and all come here. Before a
 * #PF, but behind #GP or #SS for a bad address, which the access will raise.
 */
static void check_alignment(struct cpu *cpu, uint64_t addr, unsigned size)
{
    if (G_LIKELY(cpu->tlb != &cpu->tlbs->none || !(addr & (size - 1))))
        return;
    if (cpu_in_64(cpu) && !cpu_is_canonical(cpu, addr))
        return;
    cpu_raise_error(cpu, EXC_AC, 0);
}

uint64_t mem_load_slow(struct cpu *cpu, uint64_t addr, unsigned size, unsigned seg)
{
    uint8_t buf[8];
    addr = linear_wrap(cpu, addr);
    check_alignment(cpu, addr, size);
    access_bytes(cpu, addr, buf, size, false, asker_now(cpu, seg));
    return ram_load(buf, size);
}

void mem_store_slow(struct cpu *cpu, uint64_t addr, uint64_t value, unsigned size, unsigned seg)
{
    uint8_t buf[8];
    addr = linear_wrap(cpu, addr);
    check_alignment(cpu, addr, size);
    ram_store(buf, value, size);
    access_bytes(cpu, addr, buf, size, true, asker_now(cpu, seg));
}

/* Longer than a page only for XSAVE areas on a page end: pieces of a page each, all translated first. */
static void access_long(struct cpu *cpu, uint64_t addr, uint8_t *buf, unsigned len, bool write, unsigned seg)
{
    struct asker a = asker_now(cpu, seg);
    addr = linear_wrap(cpu, addr);
    check_canonical_end(cpu, addr, len, a);
    for (uint64_t page = addr & PAGE_MASK; page < addr + len; page += PAGE_SIZE)
        translate(cpu, linear_wrap(cpu, MAX(page, addr)), write ? ACCESS_WRITE : ACCESS_READ, a);
    while (len) {
        unsigned n = MIN(len, (unsigned)(PAGE_SIZE - (addr & ~PAGE_MASK)));
        access_bytes(cpu, addr, buf, n, write, a);
        addr = linear_wrap(cpu, addr + n);
        buf += n;
        len -= n;
    }
}

void mem_read_bytes(struct cpu *cpu, uint64_t addr, void *buf, unsigned len, unsigned seg)
{
    access_long(cpu, addr, buf, len, false, seg);
}

void mem_write_bytes(struct cpu *cpu, uint64_t addr, const void *buf, unsigned len, unsigned seg)
{
    access_long(cpu, addr, (uint8_t *)buf, len, true, seg);
}

static void probe(struct cpu *cpu, uint64_t addr, unsigned len, unsigned seg, enum access access)
{
    struct asker a = asker_now(cpu, seg);
    addr = linear_wrap(cpu, addr);
    check_canonical_end(cpu, addr, len, a);
    for (uint64_t page = addr & PAGE_MASK; page < addr + len; page += PAGE_SIZE)
        translate(cpu, linear_wrap(cpu, MAX(page, addr)), access, a);
}

void mem_probe_write(struct cpu *cpu, uint64_t addr, unsigned len, unsigned seg)
{
    probe(cpu, addr, len, seg, ACCESS_WRITE);
}

void mem_probe_read(struct cpu *cpu, uint64_t addr, unsigned len, unsigned seg)
{
    probe(cpu, addr, len, seg, ACCESS_READ);
}

void *mem_host_rw(struct cpu *cpu, uint64_t addr, unsigned size, unsigned seg)
{
    const struct tlb_entry *e = &cpu->tlb->e[tlb_index(addr)];
    if (G_LIKELY(addr - e->tag_write <= PAGE_SIZE - size && addr - e->tag_read <= PAGE_SIZE - size))
        return (void *)(uintptr_t)(addr + e->addend);
    addr = linear_wrap(cpu, addr);
    check_alignment(cpu, addr, size);
    struct asker a = asker_now(cpu, seg);
    check_canonical_end(cpu, addr, size, a);
    struct tlb *t = translate(cpu, addr, ACCESS_WRITE, a);
    if ((addr & ~PAGE_MASK) + size > PAGE_SIZE) {
        translate(cpu, linear_wrap(cpu, (addr + size - 1) & PAGE_MASK), ACCESS_WRITE, a);
        return NULL;
    }
    unsigned k = tlb_index(addr);
    if (t->info[k] & (TLB_IO | TLB_ROM | TLB_BREAK))
        return NULL;
    tell_access(cpu, t, addr, size, true);
    note_store(cpu, phys_of(t, addr), size);
    unwatch_entry(cpu, t, addr);
    return (void *)(uintptr_t)(addr + t->e[k].addend);
}

void *mem_host_span(struct cpu *cpu, uint64_t addr, uint64_t *len, bool write, unsigned seg)
{
    addr = linear_wrap(cpu, addr);
    struct tlb *t = translate(cpu, addr, write ? ACCESS_WRITE : ACCESS_READ, asker_now(cpu, seg));
    unsigned k = tlb_index(addr);
    *len = MIN(*len, PAGE_SIZE - (addr & ~PAGE_MASK));
    if (t->info[k] & (TLB_IO | TLB_BREAK) || (write && t->info[k] & TLB_ROM) || cpu->tlb == &cpu->tlbs->none)
        return NULL;
    tell_access(cpu, t, addr, (unsigned)*len, write);
    if (write && t->e[k].tag_write != (addr & PAGE_MASK)) {
        note_store(cpu, phys_of(t, addr), *len);
        unwatch_entry(cpu, t, addr);
    }
    return (void *)(uintptr_t)(addr + t->e[k].addend);
}

/* --- System accesses ----------------------------------------------------------------------------------------------------------- */

uint64_t mem_load_cpl(struct cpu *cpu, uint64_t addr, unsigned size, unsigned cpl, unsigned seg)
{
    uint8_t buf[8];
    access_bytes(cpu, addr, buf, size, false, (struct asker){ cpl == 3 ? TLB_USER : TLB_SUPER, seg });
    return ram_load(buf, size);
}

void mem_store_cpl(struct cpu *cpu, uint64_t addr, uint64_t value, unsigned size, unsigned cpl, unsigned seg)
{
    uint8_t buf[8];
    ram_store(buf, value, size);
    access_bytes(cpu, addr, buf, size, true, (struct asker){ cpl == 3 ? TLB_USER : TLB_SUPER, seg });
}

uint64_t mem_load_system(struct cpu *cpu, uint64_t addr, unsigned size)
{
    return mem_load_cpl(cpu, addr, size, 0, SEG_FLAT);
}

void mem_store_system(struct cpu *cpu, uint64_t addr, uint64_t value, unsigned size)
{
    mem_store_cpl(cpu, addr, value, size, 0, SEG_FLAT);
}

uint64_t mem_load_phys(struct cpu *cpu, uint64_t phys, unsigned size)
{
    const struct flat_range *r = flat_view_find(cpu->view, phys);
    if (G_LIKELY(r && r->host && r->last - phys >= size - 1))
        return ram_load(r->host + (phys - r->start), size);
    uint8_t buf[8];
    io_bytes(cpu, phys, buf, size, false);
    return ram_load(buf, size);
}

void mem_store_phys(struct cpu *cpu, uint64_t phys, uint64_t value, unsigned size)
{
    uint8_t buf[8];
    ram_store(buf, value, size);
    void *p = mem_phys_ptr(cpu, phys, size);
    if (p)
        ram_store(p, value, size);
    else
        io_bytes(cpu, phys, buf, size, true);
}

void *mem_phys_ptr(struct cpu *cpu, uint64_t phys, unsigned size)
{
    const struct flat_range *r = flat_view_find(cpu->view, phys);
    if (!r || !r->host || r->read_only || r->region->kind != MEM_RAM || r->last - phys < size - 1)
        return NULL;
    note_store(cpu, phys, size);
    return r->host + (phys - r->start);
}

uint64_t cpu_translate(struct cpu *cpu, uint64_t addr, enum access access, unsigned seg)
{
    return phys_of(translate(cpu, addr, access, asker_now(cpu, seg)), addr);
}

bool cpu_translate_debug(struct cpu *cpu, uint64_t addr, uint64_t *phys)
{
    struct walk w;
    if (!page_walk(cpu, addr, ACCESS_READ, TLB_SUPER, true, &w))
        return false;
    *phys = w.phys;
    return true;
}

const uint8_t *cpu_code_page(struct cpu *cpu, uint64_t addr, uint64_t *phys)
{
    struct tlb *t = translate(cpu, addr, ACCESS_EXEC, (struct asker){ cpu->cpl == 3 ? TLB_USER : TLB_SUPER, SEG_FLAT });
    *phys = phys_of(t, addr);
    if (t->info[tlb_index(addr)] & TLB_IO)
        return NULL;
    return (const uint8_t *)(uintptr_t)((addr & PAGE_MASK) + t->e[tlb_index(addr)].addend);
}

void cpu_renew_view(struct cpu *cpu)
{
    bool lock = vm_lock_if_free();
    cpu_event_clear(cpu, CPU_EVENT_MEMMAP);
    struct flat_view *old = cpu->view;
    cpu->view = flat_view_get(cpu->memory->view);
    vm_unlock_if(lock);
    flat_view_put(old);
    cpu_tlb_flush(cpu);
}
