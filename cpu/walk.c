/*
 * Page walks in all paging modes: none, 32-bit with PSE-36, PAE, 4-level and 5-level. Intel SDM volume 3, chapter 4.
 *
 * Tables of the last level are remembered by address space, as the manual allows: most walks read one entry. A walk from there that
 * fails is made again from the top, so that only full walks fault.
 *
 * Accessed and dirty bits are set atomically, after all permissions have passed. Page tables outside RAM read as the
 * bus answers; their A and D bits are stored plainly.
 */
#include "cpu/walk.h"

#include "cpu/mem.h"
#include "hw/core/ram_access.h"

#define PTE_P (1u << 0)
#define PTE_W (1u << 1)
#define PTE_U (1u << 2)
#define PTE_A (1u << 5)
#define PTE_D (1u << 6)
#define PTE_PS (1u << 7)
#define PTE_G (1u << 8)
#define PTE_PAT_LARGE (1u << 12)
#define PTE_NX (UINT64_C(1) << 63)
#define PTE_KEY_SHIFT 59

/* One entry used by a walk, so that A and D can be set once it has succeeded. */
struct step {
    uint64_t phys;
    uint64_t value;
    unsigned size; /* 4 or 8 bytes */
};

struct walker {
    struct cpu *cpu;
    struct step step[5];
    unsigned steps;
    struct walk *w;
    struct tlb_table last; /* the table of the last level, once it was met; turn 0: not yet */
};

static uint64_t physical_mask(const struct cpu *cpu)
{
    return (UINT64_C(1) << cpu->phys_bits) - 1;
}

static uint64_t walker_read(struct walker *k, uint64_t phys, unsigned size)
{
    struct step *s = &k->step[k->steps++];
    s->phys = phys & k->cpu->a20_mask;
    s->size = size;
    s->value = mem_load_phys(k->cpu, s->phys, size);
    return s->value;
}

static bool walker_fail(struct walker *k, uint32_t error)
{
    k->w->error = error;
    return false;
}

/* Narrows the rights by one level's entry. */
static void walker_narrow(struct walker *k, uint64_t entry)
{
    k->w->writable &= (entry & PTE_W) != 0;
    k->w->user &= (entry & PTE_U) != 0;
    k->w->no_exec |= k->cpu->efer & EFER_NXE && entry & PTE_NX;
}

/* The final entry: address, page size, G, D and key. */
static bool walker_leaf(struct walker *k, uint64_t addr, uint64_t entry, uint64_t base, unsigned page_bits)
{
    struct walk *w = k->w;
    uint64_t offset = addr & ((UINT64_C(1) << page_bits) - 1);
    w->phys = (base | offset) & k->cpu->a20_mask;
    w->page_bits = page_bits;
    w->global = entry & PTE_G && k->cpu->cr4 & CR4_PGE;
    w->dirty = entry & PTE_D;
    w->key = cpu_long(k->cpu) ? entry >> PTE_KEY_SHIFT & 15 : 0;
    return true;
}

/* 32-bit paging: two levels, 4 MiB pages with CR4.PSE, their address bits 39:32 in bits 20:13 (PSE-36). */
static bool walk_32(struct walker *k, uint64_t addr)
{
    struct cpu *cpu = k->cpu;
    uint32_t pde = walker_read(k, (cpu->cr3 & 0xfffff000) + (addr >> 22 & 0x3ff) * 4, 4);
    if (!(pde & PTE_P))
        return walker_fail(k, 0);
    walker_narrow(k, pde);
    if (pde & PTE_PS && cpu->cr4 & CR4_PSE) {
        unsigned high_bits = MIN(cpu->phys_bits, 40) - 32;
        uint32_t reserved = (1u << 21) | (0xffu & ~((1u << high_bits) - 1)) << 13;
        if (pde & reserved)
            return walker_fail(k, PF_P | PF_RSVD);
        return walker_leaf(k, addr, pde, (pde & 0xffc00000) | (uint64_t)(pde >> 13 & 0xff) << 32, 22);
    }
    uint32_t pte = walker_read(k, (pde & 0xfffff000) + (addr >> 12 & 0x3ff) * 4, 4);
    if (!(pte & PTE_P))
        return walker_fail(k, 0);
    walker_narrow(k, pte);
    return walker_leaf(k, addr, pte, pte & 0xfffff000, 12);
}

/* Bits that must be clear in a 64-bit entry, above the physical address width. In PAE mode bits 62:52 too. */
static uint64_t reserved_high(const struct cpu *cpu)
{
    uint64_t mask = cpu_long(cpu) ? UINT64_C(0x000fffffffffffff) : UINT64_C(0x7fffffffffffffff);
    mask &= ~physical_mask(cpu);
    if (!(cpu->efer & EFER_NXE))
        mask |= PTE_NX;
    return mask;
}

/* The levels with 8-byte entries, from `level` (4 PML5 .. 0 PTE) down, starting in the table at `table`. */
static bool walk_64(struct walker *k, uint64_t addr, uint64_t table, int level)
{
    struct cpu *cpu = k->cpu;
    uint64_t reserved = reserved_high(cpu);
    for (;; level--) {
        unsigned shift = 12 + 9 * level;
        if (level == 0)
            k->last = (struct tlb_table){ .area = addr >> 21, .turn = 1, .phys = table, .user = k->w->user, .writable = k->w->writable,
                                          .no_exec = k->w->no_exec };
        uint64_t entry = walker_read(k, table + (addr >> shift & 0x1ff) * 8, 8);
        if (!(entry & PTE_P))
            return walker_fail(k, 0);
        bool leaf = level == 0;
        uint64_t bad = reserved;
        if (level > 0 && entry & PTE_PS) {
            if (level == 1 || (level == 2 && cpu_has(cpu, FEAT_PDPE1GB))) {
                leaf = true;
                bad |= ((UINT64_C(1) << shift) - 1) & ~UINT64_C(0x1fff); /* address bits below the page size */
            } else {
                bad |= PTE_PS;
            }
        }
        if (entry & bad)
            return walker_fail(k, PF_P | PF_RSVD);
        walker_narrow(k, entry);
        uint64_t base = entry & physical_mask(cpu) & PAGE_MASK;
        if (leaf)
            return walker_leaf(k, addr, entry, base & ~((UINT64_C(1) << shift) - 1), shift);
        table = base;
    }
}

static bool walk_pae(struct walker *k, uint64_t addr)
{
    uint64_t pdpte = k->cpu->pdpte[addr >> 30 & 3];
    if (!(pdpte & PTE_P))
        return walker_fail(k, 0);
    return walk_64(k, addr, pdpte & physical_mask(k->cpu) & PAGE_MASK, 1);
}

static bool walk_tables(struct walker *k, uint64_t addr)
{
    struct cpu *cpu = k->cpu;
    struct walk *w = k->w;
    *w = (struct walk){ .user = true, .writable = true };
    if (!(cpu->cr0 & CR0_PG)) {
        w->phys = addr & cpu->a20_mask;
        w->page_bits = 12;
        w->dirty = true;
        return true;
    }
    if (cpu_long(cpu))
        return walk_64(k, addr, cpu->cr3 & physical_mask(cpu) & PAGE_MASK, cpu->cr4 & CR4_LA57 ? 4 : 3);
    if (cpu->cr4 & CR4_PAE)
        return walk_pae(k, addr);
    return walk_32(k, addr);
}

bool walk_load_pdptes(struct cpu *cpu, uint64_t cr3, uint64_t out[4])
{
    uint64_t reserved = ~physical_mask(cpu) | 0x1e6;
    for (unsigned n = 0; n < 4; n++) {
        out[n] = mem_load_phys(cpu, ((cr3 & 0xffffffe0) + n * 8) & cpu->a20_mask, 8);
        if (out[n] & PTE_P && out[n] & reserved)
            return false;
    }
    return true;
}

/* Protection keys: only data accesses to user pages in long mode. */
static bool key_allows(const struct cpu *cpu, const struct walk *w, enum access access, enum tlb_view view)
{
    if (!(cpu->cr4 & CR4_PKE) || !cpu_long(cpu) || !w->user || access == ACCESS_EXEC)
        return true;
    unsigned rights = cpu->pkru >> (w->key * 2) & 3;
    if (rights & 1)
        return false;
    return !(rights & 2 && access == ACCESS_WRITE && (view == TLB_USER || cpu->cr0 & CR0_WP));
}

static bool rights_allow(const struct cpu *cpu, const struct walk *w, enum access access, enum tlb_view view)
{
    if (!(cpu->cr0 & CR0_PG))
        return true;
    if (view == TLB_USER) {
        if (!w->user)
            return false;
        return access == ACCESS_READ || (access == ACCESS_WRITE ? w->writable : !w->no_exec);
    }
    if (access == ACCESS_EXEC)
        return !w->no_exec && !(w->user && cpu->cr4 & CR4_SMEP);
    if (w->user && cpu->cr4 & CR4_SMAP && view == TLB_SUPER)
        return false;
    return access == ACCESS_READ || w->writable || !(cpu->cr0 & CR0_WP);
}

bool walk_allows(const struct cpu *cpu, const struct walk *w, enum access access, enum tlb_view view)
{
    return rights_allow(cpu, w, access, view) && key_allows(cpu, w, access, view);
}

/* Sets bits in one entry; false: it changed since it was read, so the walk must be made again. */
static bool step_set(struct cpu *cpu, const struct step *s, uint64_t bits)
{
    if ((s->value & bits) == bits)
        return true;
    void *p = mem_phys_ptr(cpu, s->phys, s->size);
    if (!p) {
        mem_store_phys(cpu, s->phys, s->value | bits, s->size);
        return true;
    }
    if (G_UNLIKELY(cpu->watcher))
        cpu->watcher->walked(cpu, p);
    uint64_t old = s->value;
    return ram_cas(p, &old, s->value | bits, s->size);
}

static bool walker_mark(struct walker *k, enum access access)
{
    for (unsigned n = 0; n < k->steps; n++) {
        bool leaf = n == k->steps - 1;
        if (!step_set(k->cpu, &k->step[n], leaf && access == ACCESS_WRITE ? PTE_A | PTE_D : PTE_A))
            return false;
    }
    if (access == ACCESS_WRITE)
        k->w->dirty = true;
    return true;
}

/* --- The paging-structure cache --------------------------------------------------------------------------------------------- */

/* Who watches accesses hears of every entry. */
static struct tlb_table *table_slot(const struct cpu *cpu, uint64_t addr, uint64_t *turn)
{
    struct tlb_space *s = &cpu->tlbs->space[cpu->tlbs->current];
    *turn = s->tables_turn;
    return cpu->watcher ? NULL : &s->tables[addr >> 21 & (TLB_TABLES - 1)];
}

static void table_note(struct walker *k, uint64_t addr)
{
    uint64_t turn;
    struct tlb_table *t = table_slot(k->cpu, addr, &turn);
    if (!t || !k->last.turn)
        return;
    *t = k->last;
    t->turn = turn;
}

/* From the table of the last level, if it is known. False: tells nothing. */
static bool walk_last_level(struct cpu *cpu, uint64_t addr, enum access access, enum tlb_view view, struct walk *w)
{
    uint64_t turn;
    const struct tlb_table *t = table_slot(cpu, addr, &turn);
    if (!t || t->area != addr >> 21 || t->turn != turn)
        return false;
    struct walker k = { .cpu = cpu, .w = w };
    *w = (struct walk){ .user = t->user, .writable = t->writable, .no_exec = t->no_exec };
    return walk_64(&k, addr, t->phys, 0) && walk_allows(cpu, w, access, view) && walker_mark(&k, access);
}

bool page_walk(struct cpu *cpu, uint64_t addr, enum access access, enum tlb_view view, bool peek, struct walk *w)
{
    struct walker k;
    if (!peek && walk_last_level(cpu, addr, access, view, w)) {
        cpu->walks++;
        return true;
    }
    do {
        k = (struct walker){ .cpu = cpu, .w = w };
        bool mapped = walk_tables(&k, addr);
        if (peek)
            return mapped;
        uint32_t kind = (access == ACCESS_WRITE ? PF_W : 0) | (view == TLB_USER ? PF_U : 0);
        if (access == ACCESS_EXEC && ((cpu->efer & EFER_NXE && cpu->cr4 & CR4_PAE) || cpu->cr4 & CR4_SMEP))
            kind |= PF_I;
        if (!mapped) {
            w->error |= kind;
            return false;
        }
        if (!walk_allows(cpu, w, access, view)) { /* PK tells of the key, whatever else is wrong */
            w->error = PF_P | kind | (key_allows(cpu, w, access, view) ? 0 : PF_PK);
            return false;
        }
    } while (!walker_mark(&k, access));
    table_note(&k, addr);
    cpu->walks++;
    return true;
}
