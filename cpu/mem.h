/*
 * Guest memory as instructions see it: segment check, TLB, and the slow path behind it (cpu/mmu.c).
 *
 * An address is (segment, offset) until seg_linear() has made it linear. Every function may leave through cpu_raise().
 * Values are host-endian numbers; the guest is little-endian.
 */
#ifndef CPU_MEM_H
#define CPU_MEM_H

#include "cpu/cpu.h"
#include "hw/core/event.h"
#include "hw/core/memory.h"
#include "hw/core/ram_access.h"

#include <glib.h>
#include <string.h>

/*
 * Who hears of a vCPU's accesses to memory while cpu->watcher leads here; after a change call cpu_tlb_switch().
 */
struct mem_watcher {
    struct tlb *tlb; /* in force instead of the present one: what it does not know goes the slow way, and is told */
    /* Plain memory at a linear address, within a page, whose translation is in *t. Before a store. */
    void (*access)(struct cpu *cpu, const struct tlb *t, uint64_t addr, unsigned len, bool write);
    /* A device is going to be accessed: cpu_retry() prevents it. */
    void (*device)(struct cpu *cpu);
    /* The accessed bit, or the dirty bit too, of a page table's entry is going to be set: in its first byte. */
    void (*walked)(struct cpu *cpu, uint8_t *entry);
};

/* Limit, rights and canonical checks for what the fast path below does not answer. Returns the linear address. */
uint64_t seg_linear_slow(struct cpu *cpu, unsigned seg, uint64_t offset, unsigned size, bool write);

/*
 * Linear address of `size` bytes at seg:offset. In 64-bit mode non-canonical addresses pass here and are found on the
 * TLB miss, with #SS or #GP by segment.
 */
static G_ALWAYS_INLINE inline uint64_t seg_linear(struct cpu *cpu, unsigned seg, uint64_t offset, unsigned size,
                                                  bool write)
{
    const struct segment *s = &cpu->seg[seg];
    if (G_LIKELY(cpu->code_size == 3))
        return s->base + offset; /* SEG_FLAT*, FS or GS: the decoder made sure */
    if (G_LIKELY((write ? s->flat_write : s->flat_read) && offset <= UINT32_MAX - (size - 1)))
        return offset;
    return seg_linear_slow(cpu, seg, offset, size, write);
}

/* TLB misses, page crossings, I/O, watched pages, alignment checks. `seg` only chooses between #SS and #GP. */
uint64_t mem_load_slow(struct cpu *cpu, uint64_t addr, unsigned size, unsigned seg);
void mem_store_slow(struct cpu *cpu, uint64_t addr, uint64_t value, unsigned size, unsigned seg);
/* Any number of bytes, all permissions checked before the first is written. */
void mem_read_bytes(struct cpu *cpu, uint64_t addr, void *buf, unsigned len, unsigned seg);
void mem_write_bytes(struct cpu *cpu, uint64_t addr, const void *buf, unsigned len, unsigned seg);
/* Raises what a store to these bytes would raise. */
void mem_probe_write(struct cpu *cpu, uint64_t addr, unsigned len, unsigned seg);
void mem_probe_read(struct cpu *cpu, uint64_t addr, unsigned len, unsigned seg);
/*
 * Host address of `size` bytes that may be read and written in place, with dirty clients already told; NULL where it is
 * not plain RAM within one page (then: probe, load, store; a LOCK takes cpu->host->exclusive). Raises as a store.
 */
void *mem_host_rw(struct cpu *cpu, uint64_t addr, unsigned size, unsigned seg);
/*
 * Host address of what follows at addr in its page, or NULL (I/O). *len: at most how many bytes on entry, how many on
 * return.
 */
void *mem_host_span(struct cpu *cpu, uint64_t addr, uint64_t *len, bool write, unsigned seg);

/* As CPL 0 whatever the CPL: descriptor tables, TSS. Sizes of 1, 2, 4, 8. */
uint64_t mem_load_system(struct cpu *cpu, uint64_t addr, unsigned size);
void mem_store_system(struct cpu *cpu, uint64_t addr, uint64_t value, unsigned size);
/* As if at that CPL: the stack that an interrupt or a far transfer switches to. */
uint64_t mem_load_cpl(struct cpu *cpu, uint64_t addr, unsigned size, unsigned cpl, unsigned seg);
void mem_store_cpl(struct cpu *cpu, uint64_t addr, uint64_t value, unsigned size, unsigned cpl, unsigned seg);
/* By guest-physical address, RAM or device: page tables, SMRAM, paravirtual structures. */
uint64_t mem_load_phys(struct cpu *cpu, uint64_t phys, unsigned size);
void mem_store_phys(struct cpu *cpu, uint64_t phys, uint64_t value, unsigned size);
/* Host address of guest-physical RAM for atomic updates (page tables), or NULL. */
void *mem_phys_ptr(struct cpu *cpu, uint64_t phys, unsigned size);

/* Linear to physical as this access would; raises #PF. For debuggers: cpu_translate_debug never raises. */
uint64_t cpu_translate(struct cpu *cpu, uint64_t addr, enum access access, unsigned seg);
bool cpu_translate_debug(struct cpu *cpu, uint64_t addr, uint64_t *phys);

/*
 * Fetch: host address of the page with this code, and the physical address of `addr`; NULL: not RAM or ROM. Raises #PF.
 */
const uint8_t *cpu_code_page(struct cpu *cpu, uint64_t addr, uint64_t *phys);
/* Takes up the newest memory map (CPU_EVENT_MEMMAP). */
void cpu_renew_view(struct cpu *cpu);

/* TLB upkeep (tlb.c). */
void cpu_tlb_flush(struct cpu *cpu);                     /* everything, global pages too */
void cpu_tlb_flush_address_space(struct cpu *cpu);       /* current PCID, but global pages */
void cpu_tlb_flush_page(struct cpu *cpu, uint64_t addr); /* INVLPG */
void cpu_tlb_invpcid(struct cpu *cpu, unsigned type, uint16_t pcid, uint64_t addr);
void cpu_tlb_switch(struct cpu *cpu);                    /* chooses cpu->tlb for the present CR3, CPL, AC */
static G_ALWAYS_INLINE inline enum tlb_view cpu_tlb_view(const struct cpu *cpu)
{
    return cpu->cpl == 3 ? TLB_USER : cpu->rflags & FLAG_AC && cpu->cr4 & CR4_SMAP ? TLB_SUPER_AC : TLB_SUPER;
}

/* --- Fast path, by linear address --------------------------------------------------------------------------------- */

#define MEM_ACCESSORS(bits, type) \
    static G_ALWAYS_INLINE inline type mem_load##bits(struct cpu *cpu, uint64_t addr, unsigned seg) \
    { \
        const struct tlb_entry *e = &cpu->tlb->e[tlb_index(addr)]; \
        if (G_LIKELY(addr - e->tag_read <= PAGE_SIZE - sizeof(type))) { \
            return ram_load##bits((const void *)(uintptr_t)(addr + e->addend)); \
        } \
        return (type)mem_load_slow(cpu, addr, sizeof(type), seg); \
    } \
    static G_ALWAYS_INLINE inline void mem_store##bits(struct cpu *cpu, uint64_t addr, type value, unsigned seg) \
    { \
        const struct tlb_entry *e = &cpu->tlb->e[tlb_index(addr)]; \
        if (G_LIKELY(addr - e->tag_write <= PAGE_SIZE - sizeof(type))) { \
            ram_store##bits((void *)(uintptr_t)(addr + e->addend), value); \
            return; \
        } \
        mem_store_slow(cpu, addr, value, sizeof(type), seg); \
    }
MEM_ACCESSORS(8, uint8_t)
MEM_ACCESSORS(16, uint16_t)
MEM_ACCESSORS(32, uint32_t)
MEM_ACCESSORS(64, uint64_t)
#undef MEM_ACCESSORS

static G_ALWAYS_INLINE inline uint64_t mem_load(struct cpu *cpu, uint64_t addr, unsigned osize, unsigned seg)
{
    switch (osize) {
    case 0: return mem_load8(cpu, addr, seg);
    case 1: return mem_load16(cpu, addr, seg);
    case 2: return mem_load32(cpu, addr, seg);
    default: return mem_load64(cpu, addr, seg);
    }
}

static G_ALWAYS_INLINE inline void mem_store(struct cpu *cpu, uint64_t addr, uint64_t value, unsigned osize,
                                             unsigned seg)
{
    switch (osize) {
    case 0: mem_store8(cpu, addr, value, seg); break;
    case 1: mem_store16(cpu, addr, value, seg); break;
    case 2: mem_store32(cpu, addr, value, seg); break;
    default: mem_store64(cpu, addr, value, seg); break;
    }
}

/* --- Operands of an instruction ----------------------------------------------------------------------------------- */

/* Offset of the memory operand within its segment, truncated to the address size. */
static G_ALWAYS_INLINE inline uint64_t insn_ea(const struct cpu *cpu, const struct insn *i)
{
    uint64_t ea = cpu->r[i->base] + (cpu->r[i->index] << i->scale) + i->disp;
    if (G_LIKELY(i->asize == 3))
        return ea;
    return i->asize == 2 ? (uint32_t)ea : (uint16_t)ea;
}

/* Linear address of the memory operand, of `size` bytes, after the segment checks. */
static G_ALWAYS_INLINE inline uint64_t insn_linear(struct cpu *cpu, const struct insn *i, unsigned size, bool write)
{
    return seg_linear(cpu, i->seg, insn_ea(cpu, i), size, write);
}

/* General registers by operand size (log2). A 32-bit write clears the upper half; AH..BH are R_HIGH_BYTE + n. */
static G_ALWAYS_INLINE inline uint64_t reg_get(const struct cpu *cpu, unsigned r, unsigned osize)
{
    switch (osize) {
    case 0: return r & R_HIGH_BYTE ? (uint8_t)(cpu->r[r & 3] >> 8) : (uint8_t)cpu->r[r];
    case 1: return (uint16_t)cpu->r[r];
    case 2: return (uint32_t)cpu->r[r];
    default: return cpu->r[r];
    }
}

static G_ALWAYS_INLINE inline void reg_set(struct cpu *cpu, unsigned r, uint64_t v, unsigned osize)
{
    switch (osize) {
    case 0:
        if (r & R_HIGH_BYTE)
            cpu->r[r & 3] = (cpu->r[r & 3] & ~UINT64_C(0xff00)) | (uint64_t)(uint8_t)v << 8;
        else
            cpu->r[r] = (cpu->r[r] & ~UINT64_C(0xff)) | (uint8_t)v;
        break;
    case 1: cpu->r[r] = (cpu->r[r] & ~UINT64_C(0xffff)) | (uint16_t)v; break;
    case 2: cpu->r[r] = (uint32_t)v; break;
    default: cpu->r[r] = v; break;
    }
}

/* The ModRM operand, register or memory; `mem` is a constant in each form of a handler. */
static G_ALWAYS_INLINE inline uint64_t rm_get(struct cpu *cpu, const struct insn *i, unsigned osize, bool mem)
{
    if (mem)
        return mem_load(cpu, insn_linear(cpu, i, 1u << osize, false), osize, i->seg);
    return reg_get(cpu, i->rm, osize);
}

static G_ALWAYS_INLINE inline void rm_set(struct cpu *cpu, const struct insn *i, uint64_t v, unsigned osize, bool mem)
{
    if (mem)
        mem_store(cpu, insn_linear(cpu, i, 1u << osize, true), v, osize, i->seg);
    else
        reg_set(cpu, i->rm, v, osize);
}

/* --- Stack -------------------------------------------------------------------------------------------------------- */

static G_ALWAYS_INLINE inline unsigned stack_seg(const struct cpu *cpu)
{
    return cpu->code_size == 3 ? SEG_FLAT_STACK : SEG_SS;
}
static G_ALWAYS_INLINE inline uint64_t stack_mask(const struct cpu *cpu)
{
    return cpu->stack_size == 3 ? UINT64_MAX : cpu->stack_size == 2 ? UINT32_MAX : 0xffff;
}
static G_ALWAYS_INLINE inline void stack_set_sp(struct cpu *cpu, uint64_t sp)
{
    reg_set(cpu, R_RSP, sp, cpu->stack_size);
}

/* Pushes `osize` bytes (log2); RSP moves only if the store succeeded. */
static G_ALWAYS_INLINE inline void stack_push(struct cpu *cpu, uint64_t v, unsigned osize)
{
    uint64_t sp = (cpu->r[R_RSP] - (1u << osize)) & stack_mask(cpu);
    unsigned seg = stack_seg(cpu);
    mem_store(cpu, seg_linear(cpu, seg, sp, 1u << osize, true), v, osize, seg);
    stack_set_sp(cpu, sp);
}

/*
 * The value `skip` bytes above the top of the stack; RSP does not move: the caller does when nothing can fault any
 * more.
 */
static G_ALWAYS_INLINE inline uint64_t stack_peek(struct cpu *cpu, unsigned skip, unsigned osize)
{
    uint64_t sp = (cpu->r[R_RSP] + skip) & stack_mask(cpu);
    unsigned seg = stack_seg(cpu);
    return mem_load(cpu, seg_linear(cpu, seg, sp, 1u << osize, false), osize, seg);
}

static G_ALWAYS_INLINE inline void stack_drop(struct cpu *cpu, uint64_t bytes)
{
    stack_set_sp(cpu, cpu->r[R_RSP] + bytes);
}

#endif
