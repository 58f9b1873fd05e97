/*
 * Segments: descriptor access, segment register loads, limit checks, stacks and maps in the TSS.
 *
 * Intel SDM volume 3, chapters 3 and 5; 20.1 (real mode) and 20.2 (virtual-8086).
 *
 * Thread: the vCPU's own.
 */
#include "cpu/seg.h"

#include "cpu/mem.h"

/* --- Descriptor tables -------------------------------------------------------------------------------------------- */

bool desc_read(struct cpu *cpu, uint16_t selector, struct desc *d)
{
    const struct segment *ldt = &cpu->seg[SEG_LDTR];
    bool local = selector & 4;
    uint64_t base = local ? ldt->base : cpu->gdtr.base;
    uint32_t limit = local ? (ldt->attr & SEG_P ? ldt->limit : 0) : cpu->gdtr.limit;
    uint32_t offset = selector & 0xfff8;
    if (offset + 7 > limit)
        return false;
    d->addr = base + offset;
    if (!cpu_long(cpu))
        d->addr = (uint32_t)d->addr;
    uint64_t v = mem_load_system(cpu, d->addr, 8);
    d->low = v;
    d->high = v >> 32;
    d->upper = 0;
    return true;
}

void desc_read_or_raise(struct cpu *cpu, uint16_t selector, struct desc *d, enum vector vector, unsigned ext)
{
    if (!desc_read(cpu, selector, d))
        cpu_raise_error(cpu, vector, (selector & 0xfffc) | ext);
}

void desc_read_upper(struct cpu *cpu, uint16_t selector, struct desc *d, unsigned ext)
{
    const struct segment *ldt = &cpu->seg[SEG_LDTR];
    uint32_t limit = selector & 4 ? ldt->limit : cpu->gdtr.limit;
    if ((selector & 0xfff8) + 15u > limit)
        cpu_raise_error(cpu, EXC_GP, (selector & 0xfffc) | ext);
    uint64_t v = mem_load_system(cpu, d->addr + 8, 8);
    if (v >> 40 & 0x1f)
        cpu_raise_error(cpu, EXC_GP, (selector & 0xfffc) | ext);
    d->upper = v;
}

void desc_set_accessed(struct cpu *cpu, struct desc *d)
{
    if (d->high & SEG_A)
        return;
    d->high |= SEG_A;
    mem_store_system(cpu, d->addr + 4, d->high, 4);
}

void desc_set_busy(struct cpu *cpu, struct desc *d, bool busy)
{
    d->high = busy ? d->high | 2u << 8 : d->high & ~(2u << 8);
    mem_store_system(cpu, d->addr + 4, d->high, 4);
}

/* --- Segment registers -------------------------------------------------------------------------------------------- */

static void update_flat(struct segment *s)
{
    bool whole = s->base == 0 && s->limit == UINT32_MAX;
    bool up = s->attr & SEG_P && s->attr & SEG_S && (s->attr & (SEG_X | SEG_E)) != SEG_E;
    bool read = up && (!(s->attr & SEG_X) || s->attr & SEG_R);
    bool write = up && (s->attr & (SEG_X | SEG_W)) == SEG_W;
    s->flat_read = whole && read;
    s->flat_write = whole && write;
    s->end_read = read ? (uint64_t)s->limit + 1 : 0;
    s->end_write = write ? (uint64_t)s->limit + 1 : 0;
}

void cpu_set_seg(struct cpu *cpu, enum seg s, uint16_t selector, uint64_t base, uint32_t limit, uint32_t attr)
{
    struct segment *seg = &cpu->seg[s];
    seg->selector = selector;
    seg->base = base;
    seg->limit = limit;
    seg->attr = attr;
    update_flat(seg);
    if (s == SEG_CS || s == SEG_SS)
        cpu_update_mode(cpu);
}

void seg_load_desc(struct cpu *cpu, enum seg s, uint16_t selector, const struct desc *d)
{
    uint64_t base = desc_base(d) | (s == SEG_LDTR || s == SEG_TR ? (uint64_t)d->upper << 32 : 0);
    cpu_set_seg(cpu, s, selector, base, desc_limit(d), desc_attr(d));
}

void seg_load_cs(struct cpu *cpu, uint16_t selector, const struct desc *d, unsigned cpl)
{
    cpu->cpl = cpl;
    seg_load_desc(cpu, SEG_CS, (selector & 0xfffc) | cpl, d);
}

void seg_load_null_ss(struct cpu *cpu, unsigned rpl)
{
    cpu_set_seg(cpu, SEG_SS, rpl, 0, 0, rpl << SEG_DPL_SHIFT);
}

void cpu_load_seg_real(struct cpu *cpu, enum seg s, uint16_t selector)
{
    if (cpu_v86(cpu)) {
        uint32_t attr = SEG_P | SEG_S | 3u << SEG_DPL_SHIFT | SEG_W | SEG_A;
        cpu_set_seg(cpu, s, selector, (uint64_t)selector << 4, 0xffff, attr);
        return;
    }
    /* Limit and rights stay what they were: that is what "unreal mode" is made of. */
    cpu_set_seg(cpu, s, selector, (uint64_t)selector << 4, cpu->seg[s].limit, cpu->seg[s].attr);
}

void seg_check_ss(struct cpu *cpu, uint16_t selector, unsigned cpl, struct desc *d, enum vector vector, unsigned ext)
{
    uint32_t error = (selector & 0xfffc) | ext;
    if (selector_is_null(selector))
        cpu_raise_error(cpu, vector, ext);
    desc_read_or_raise(cpu, selector, d, vector, ext);
    if ((selector & 3u) != cpl || desc_dpl(d) != cpl || !desc_is_writable_data(d))
        cpu_raise_error(cpu, vector, error);
    if (!desc_present(d))
        cpu_raise_error(cpu, EXC_SS, error);
}

void seg_check_data(struct cpu *cpu, uint16_t selector, struct desc *d, enum vector vector, unsigned ext)
{
    uint32_t error = (selector & 0xfffc) | ext;
    desc_read_or_raise(cpu, selector, d, vector, ext);
    bool conforming = desc_is_code(d) && d->high & SEG_C;
    if (!(d->high & SEG_S) || (desc_is_code(d) && !(d->high & SEG_R)))
        cpu_raise_error(cpu, vector, error);
    if (!conforming && MAX((unsigned)cpu->cpl, selector & 3u) > desc_dpl(d))
        cpu_raise_error(cpu, vector, error);
    if (!desc_present(d))
        cpu_raise_error(cpu, EXC_NP, error);
}

static void load_ss(struct cpu *cpu, uint16_t selector)
{
    struct desc d;
    if (selector_is_null(selector)) {
        if (!cpu_in_64(cpu) || cpu->cpl == 3 || (selector & 3u) != cpu->cpl)
            cpu_raise_gp0(cpu);
        seg_load_null_ss(cpu, selector & 3);
        return;
    }
    seg_check_ss(cpu, selector, cpu->cpl, &d, EXC_GP, 0);
    desc_set_accessed(cpu, &d);
    seg_load_desc(cpu, SEG_SS, selector, &d);
}

void cpu_load_seg(struct cpu *cpu, enum seg s, uint16_t selector)
{
    struct desc d;
    if (!cpu_protected(cpu)) {
        cpu_load_seg_real(cpu, s, selector);
        return;
    }
    if (s == SEG_SS) {
        load_ss(cpu, selector);
        return;
    }
    if (selector_is_null(selector)) {
        /* Intel keeps the base of FS and GS in no mode; the rest of the hidden part says unusable. */
        cpu_set_seg(cpu, s, selector, 0, 0, 0);
        return;
    }
    seg_check_data(cpu, selector, &d, EXC_GP, 0);
    desc_set_accessed(cpu, &d);
    seg_load_desc(cpu, s, selector, &d);
}

uint64_t seg_load_far_ptr(struct cpu *cpu, const struct insn *i, uint16_t *selector)
{
    unsigned size = 1u << i->osize;
    uint64_t at = insn_linear(cpu, i, size + 2, false);
    uint64_t offset = mem_load(cpu, at, i->osize, i->seg);
    *selector = mem_load16(cpu, at + size, i->seg);
    return offset;
}

void seg_drop_privileged(struct cpu *cpu)
{
    static const enum seg data[] = { SEG_ES, SEG_DS, SEG_FS, SEG_GS };
    for (unsigned k = 0; k < G_N_ELEMENTS(data); k++) {
        struct segment *s = &cpu->seg[data[k]];
        bool conforming = (s->attr & (SEG_X | SEG_C)) == (SEG_X | SEG_C);
        unsigned dpl = (s->attr & SEG_DPL_MASK) >> SEG_DPL_SHIFT;
        if (!conforming && cpu->cpl > dpl && s->attr)
            cpu_set_seg(cpu, data[k], 0, s->base, s->limit, 0); /* FS and GS keep their base for 64-bit mode */
    }
}

/* --- Limits ------------------------------------------------------------------------------------------------------- */

static bool within_limit(const struct segment *s, uint64_t offset, unsigned size)
{
    uint64_t last = offset + size - 1;
    if ((s->attr & (SEG_X | SEG_E)) == SEG_E) {
        uint32_t top = s->attr & SEG_DB ? UINT32_MAX : 0xffff;
        return offset > s->limit && last <= top;
    }
    return last <= s->limit;
}

uint64_t seg_linear_slow(struct cpu *cpu, unsigned seg, uint64_t offset, unsigned size, bool write)
{
    const struct segment *s = &cpu->seg[seg];
    bool rights = true;
    if (cpu_protected(cpu)) {
        rights = s->attr & SEG_P && s->attr & SEG_S;
        rights &= write ? (s->attr & (SEG_X | SEG_W)) == SEG_W : !(s->attr & SEG_X) || s->attr & SEG_R;
    }
    if (!rights || !within_limit(s, offset, size))
        cpu_raise_error(cpu, seg == SEG_SS ? EXC_SS : EXC_GP, 0);
    return (uint32_t)(s->base + offset);
}

/* --- Task-state segment ------------------------------------------------------------------------------------------- */

static bool tss_is_32(const struct cpu *cpu)
{
    return cpu->seg[SEG_TR].attr & 8u << SEG_TYPE_SHIFT;
}

static _Noreturn void raise_ts(struct cpu *cpu, unsigned ext)
{
    cpu_raise_error(cpu, EXC_TS, (cpu->seg[SEG_TR].selector & 0xfffc) | ext);
}

void tss_read_desc(struct cpu *cpu, uint16_t selector, struct desc *d, bool busy, enum vector vector, unsigned ext)
{
    uint32_t error = (selector & 0xfffc) | ext;
    if (selector & 4)
        cpu_raise_error(cpu, vector, error);
    desc_read_or_raise(cpu, selector, d, vector, ext);
    unsigned type16 = busy ? DESC_TSS16_BUSY : DESC_TSS16, type32 = busy ? DESC_TSS32_BUSY : DESC_TSS32;
    if (d->high & SEG_S || (desc_type(d) != type16 && desc_type(d) != type32))
        cpu_raise_error(cpu, vector, error);
    if (!desc_present(d))
        cpu_raise_error(cpu, EXC_NP, error);
}

uint64_t tss_stack(struct cpu *cpu, unsigned cpl, uint16_t *ss, unsigned ext)
{
    const struct segment *tr = &cpu->seg[SEG_TR];
    if (cpu_long(cpu)) {
        uint32_t at = 4 + cpl * 8;
        if (at + 7 > tr->limit)
            raise_ts(cpu, ext);
        return mem_load_system(cpu, tr->base + at, 8);
    }
    unsigned width = tss_is_32(cpu) ? 4 : 2;
    uint32_t at = width + cpl * width * 2;
    if (at + width + 1 > tr->limit)
        raise_ts(cpu, ext);
    *ss = mem_load_system(cpu, tr->base + at + width, 2);
    return mem_load_system(cpu, tr->base + at, width);
}

uint64_t tss_ist(struct cpu *cpu, unsigned ist, unsigned ext)
{
    uint32_t at = 0x1c + ist * 8;
    if (at + 7 > cpu->seg[SEG_TR].limit)
        raise_ts(cpu, ext);
    return mem_load_system(cpu, cpu->seg[SEG_TR].base + at, 8);
}

bool tss_io_allowed(struct cpu *cpu, uint16_t port, unsigned size)
{
    const struct segment *tr = &cpu->seg[SEG_TR];
    if (!(tr->attr & SEG_P) || !tss_is_32(cpu) || tr->limit < 0x67)
        return false;
    uint32_t at = mem_load_system(cpu, tr->base + 0x66, 2) + port / 8;
    if (at + 1 > tr->limit)
        return false;
    unsigned bits = mem_load_system(cpu, tr->base + at, 2) >> (port % 8);
    return !(bits & ((1u << size) - 1));
}

bool tss_int_redirected(struct cpu *cpu, uint8_t vector)
{
    const struct segment *tr = &cpu->seg[SEG_TR];
    if (!tss_is_32(cpu) || tr->limit < 0x67)
        return false;
    uint32_t at = mem_load_system(cpu, tr->base + 0x66, 2) - 32 + vector / 8;
    if (at > tr->limit)
        return false;
    return !(mem_load_system(cpu, tr->base + at, 1) >> (vector % 8) & 1);
}

/* --- Pushing to another stack ------------------------------------------------------------------------------------- */

struct pusher pusher_current(struct cpu *cpu)
{
    const struct segment *ss = &cpu->seg[SEG_SS];
    struct pusher p = { .cpu = cpu, .mask = stack_mask(cpu), .sp = cpu->r[R_RSP], .cpl = cpu->cpl };
    if (!cpu_in_64(cpu)) {
        p.base = ss->base;
        p.limit = ss->limit;
        p.attr = ss->attr ? ss->attr : SEG_P; /* no stack at all, as after a task switch that failed: limit 0, so #SS */
    }
    return p;
}

struct pusher pusher_flat(struct cpu *cpu, uint64_t sp, unsigned cpl, uint32_t fault_error)
{
    return (struct pusher){ .cpu = cpu, .mask = UINT64_MAX, .sp = sp, .cpl = cpl, .fault_error = fault_error };
}

struct pusher pusher_in(struct cpu *cpu, const struct desc *ss, uint64_t sp, unsigned cpl, uint32_t fault_error)
{
    return (struct pusher){ .cpu = cpu, .base = desc_base(ss), .mask = ss->high & SEG_DB ? UINT32_MAX : 0xffff,
                            .sp = sp, .limit = desc_limit(ss), .attr = desc_attr(ss), .cpl = cpl,
                            .fault_error = fault_error };
}

void push_to(struct pusher *p, uint64_t value, unsigned osize)
{
    struct cpu *cpu = p->cpu;
    unsigned size = 1u << osize;
    uint64_t sp = (p->sp - size) & p->mask;
    uint64_t addr = p->base + sp;
    if (p->attr) {
        struct segment s = { .limit = p->limit, .attr = p->attr };
        if (!within_limit(&s, sp, size))
            cpu_raise_error(cpu, EXC_SS, p->fault_error);
        addr = (uint32_t)addr;
    }
    mem_store_cpl(cpu, addr, value, size, p->cpl, SEG_FLAT_STACK);
    p->sp = sp;
}
