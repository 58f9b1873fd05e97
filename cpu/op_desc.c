/*
 * Segment registers and descriptor tables: MOV Sreg, POP Sreg, LDS..LGS, LGDT, LIDT, LLDT, LTR and their stores, LAR,
 * LSL, VERR, VERW, ARPL.
 *
 * Intel SDM volume 2. PROT and CPL0 rows are checked when the block is decoded.
 *
 * Thread: the vCPU's own.
 */
#include "cpu/mem.h"
#include "cpu/op_form.h"
#include "cpu/seg.h"

/* --- Segment registers -------------------------------------------------------------------------------------------- */

/* MOV SS and POP SS hold back interrupts and debug traps until the next instruction, which loads RSP, is done. */
static void load_seg(struct cpu *cpu, enum seg s, uint16_t selector)
{
    cpu_load_seg(cpu, s, selector);
    if (s == SEG_SS) {
        cpu->shadow_mov_ss = true;
        cpu_event_set(cpu, CPU_EVENT_SHADOW);
    }
}

OP_BODY mov_from_seg_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    rm_set(cpu, i, cpu->seg[i->reg].selector, mem ? 1 : size, mem);
}
OP_FORMS_SIZE_MEM(mov_from_seg)

OP_BODY mov_to_seg_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    if (i->reg == SEG_CS || i->reg > SEG_GS)
        cpu_raise_ud(cpu);
    load_seg(cpu, i->reg, rm_get(cpu, i, 1, mem));
}
OP_FORMS_SIZE_MEM(mov_to_seg)

/* A push of 32 or 64 bits stores the selector zero-extended. */
OP_BODY push_seg_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    uint64_t sp = (cpu->r[R_RSP] - (1u << size)) & stack_mask(cpu);
    unsigned seg = stack_seg(cpu), width = size == 2 ? 1 : size; /* a doubleword's upper half is not written */

    mem_store(cpu, seg_linear(cpu, seg, sp, 1u << width, true), cpu->seg[i->reg].selector, width, seg);
    stack_set_sp(cpu, sp);
}
OP_FORMS_SIZE(push_seg)

OP_BODY pop_seg_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    uint16_t selector = stack_peek(cpu, 0, size);
    uint64_t mask = stack_mask(cpu), sp = (cpu->r[R_RSP] + (1u << size)) & mask;
    load_seg(cpu, i->reg, selector);
    cpu->r[R_RSP] = (cpu->r[R_RSP] & ~mask) | sp; /* with the width of the stack that it was popped from */
}
OP_FORMS_SIZE(pop_seg)

static void load_far(struct cpu *cpu, const struct insn *i, enum seg s)
{
    uint16_t selector;
    uint64_t offset = seg_load_far_ptr(cpu, i, &selector);
    cpu_load_seg(cpu, s, selector);
    reg_set(cpu, i->reg, offset, i->osize);
}

#define LOAD_FAR(name, s) \
    static void name##_fn(struct cpu *cpu, const struct insn *i) \
    { \
        load_far(cpu, i, s); \
    } \
    OP_FORM_ONE(name)
LOAD_FAR(lds, SEG_DS)
LOAD_FAR(les, SEG_ES)
LOAD_FAR(lss, SEG_SS)
LOAD_FAR(lfs, SEG_FS)
LOAD_FAR(lgs, SEG_GS)

/* --- GDT and IDT -------------------------------------------------------------------------------------------------- */

static unsigned table_size(const struct cpu *cpu)
{
    return cpu_in_64(cpu) ? 3 : 2;
}

static void store_table(struct cpu *cpu, const struct insn *i, uint64_t base, uint16_t limit)
{
    unsigned size = table_size(cpu);
    cpu_check_umip(cpu);
    uint64_t at = insn_linear(cpu, i, 2 + (1u << size), true);
    mem_probe_write(cpu, at, 2 + (1u << size), i->seg);
    mem_store16(cpu, at, limit, i->seg);
    mem_store(cpu, at + 2, base, size, i->seg);
}

static void sgdt_fn(struct cpu *cpu, const struct insn *i)
{
    store_table(cpu, i, cpu->gdtr.base, cpu->gdtr.limit);
}
OP_FORM_ONE(sgdt)

static void sidt_fn(struct cpu *cpu, const struct insn *i)
{
    store_table(cpu, i, cpu->idtr.base, cpu->idtr.limit);
}
OP_FORM_ONE(sidt)

/* A 16-bit operand takes 24 bits of the base. */
static uint64_t load_table(struct cpu *cpu, const struct insn *i, uint16_t *limit)
{
    unsigned size = table_size(cpu);
    uint64_t at = insn_linear(cpu, i, 2 + (1u << size), false);
    *limit = mem_load16(cpu, at, i->seg);
    uint64_t base = mem_load(cpu, at + 2, size, i->seg);
    if (size == 3 && !cpu_is_canonical(cpu, base))
        cpu_raise_gp0(cpu);
    return size == 2 && i->osize == 1 ? base & 0xffffff : base;
}

static void lgdt_fn(struct cpu *cpu, const struct insn *i)
{
    uint16_t limit;
    cpu->gdtr.base = load_table(cpu, i, &limit);
    cpu->gdtr.limit = limit;
}
OP_FORM_ONE(lgdt)

static void lidt_fn(struct cpu *cpu, const struct insn *i)
{
    uint16_t limit;
    cpu->idtr.base = load_table(cpu, i, &limit);
    cpu->idtr.limit = limit;
}
OP_FORM_ONE(lidt)

/* --- LDT and task register ---------------------------------------------------------------------------------------- */

OP_BODY sldt_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    cpu_check_umip(cpu);
    rm_set(cpu, i, cpu->seg[SEG_LDTR].selector, mem ? 1 : size, mem);
}
OP_FORMS_SIZE_MEM(sldt)

OP_BODY str_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    cpu_check_umip(cpu);
    rm_set(cpu, i, cpu->seg[SEG_TR].selector, mem ? 1 : size, mem);
}
OP_FORMS_SIZE_MEM(str)

/* Reads a descriptor that must lie in the GDT and be of the type; 16 bytes in long mode. */
static void read_system(struct cpu *cpu, uint16_t selector, struct desc *d, unsigned type, unsigned type2)
{
    uint32_t error = selector & 0xfffc;
    if (selector & 4)
        cpu_raise_error(cpu, EXC_GP, error);
    desc_read_or_raise(cpu, selector, d, EXC_GP, 0);
    if (d->high & SEG_S || (desc_type(d) != type && desc_type(d) != type2))
        cpu_raise_error(cpu, EXC_GP, error);
    if (!desc_present(d))
        cpu_raise_error(cpu, EXC_NP, error);
    if (!cpu_long(cpu))
        return;
    desc_read_upper(cpu, selector, d, 0);
    if (!cpu_is_canonical(cpu, desc_base(d) | (uint64_t)d->upper << 32))
        cpu_raise_error(cpu, EXC_GP, error);
}

OP_BODY lldt_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    uint16_t selector = rm_get(cpu, i, 1, mem);
    struct desc d;
    if (selector_is_null(selector)) {
        cpu_set_seg(cpu, SEG_LDTR, selector, 0, 0, 0);
        return;
    }
    read_system(cpu, selector, &d, DESC_LDT, DESC_LDT);
    seg_load_desc(cpu, SEG_LDTR, selector, &d);
}
OP_FORMS_SIZE_MEM(lldt)

OP_BODY ltr_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    uint16_t selector = rm_get(cpu, i, 1, mem);
    struct desc d;
    if (selector_is_null(selector))
        cpu_raise_gp0(cpu);
    read_system(cpu, selector, &d, DESC_TSS32, cpu_long(cpu) ? DESC_TSS32 : DESC_TSS16);
    desc_set_busy(cpu, &d, true);
    seg_load_desc(cpu, SEG_TR, selector, &d);
}
OP_FORMS_SIZE_MEM(ltr)

/* --- Looking at descriptors --------------------------------------------------------------------------------------- */

static void set_zf(struct cpu *cpu, bool on)
{
    cpu->rflags = on ? cpu->rflags | FLAG_ZF : cpu->rflags & ~(uint64_t)FLAG_ZF;
}

static bool readable_selector(struct cpu *cpu, uint16_t selector, struct desc *d)
{
    return !selector_is_null(selector) && desc_read(cpu, selector, d);
}

/* May CPL and RPL look at it? Conforming code always. */
static bool visible(const struct cpu *cpu, uint16_t selector, const struct desc *d)
{
    if (desc_is_code(d) && d->high & SEG_C)
        return true;
    return desc_dpl(d) >= cpu->cpl && desc_dpl(d) >= (selector & 3u);
}

static bool has_lar(const struct cpu *cpu, const struct desc *d)
{
    static const uint16_t legacy = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 9 | 1 << 11 | 1 << 12;
    static const uint16_t wide = 1 << 2 | 1 << 9 | 1 << 11 | 1 << 12;
    return d->high & SEG_S || (cpu_long(cpu) ? wide : legacy) >> desc_type(d) & 1;
}

static bool has_lsl(const struct cpu *cpu, const struct desc *d)
{
    static const uint16_t legacy = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 9 | 1 << 11;
    static const uint16_t wide = 1 << 2 | 1 << 9 | 1 << 11;
    return d->high & SEG_S || (cpu_long(cpu) ? wide : legacy) >> desc_type(d) & 1;
}

OP_BODY lar_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    uint16_t selector = rm_get(cpu, i, 1, mem);
    struct desc d;
    bool ok = readable_selector(cpu, selector, &d) && has_lar(cpu, &d) && visible(cpu, selector, &d);
    if (ok)
        reg_set(cpu, i->reg, d.high & 0x00ffff00, size);
    set_zf(cpu, ok);
}
OP_FORMS_SIZE_MEM(lar)

OP_BODY lsl_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    uint16_t selector = rm_get(cpu, i, 1, mem);
    struct desc d;
    bool ok = readable_selector(cpu, selector, &d) && has_lsl(cpu, &d) && visible(cpu, selector, &d);
    if (ok)
        reg_set(cpu, i->reg, desc_limit(&d), size);
    set_zf(cpu, ok);
}
OP_FORMS_SIZE_MEM(lsl)

OP_BODY verr_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    uint16_t selector = rm_get(cpu, i, 1, mem);
    struct desc d;
    set_zf(cpu, readable_selector(cpu, selector, &d) && d.high & SEG_S && visible(cpu, selector, &d) &&
                    (!(d.high & SEG_X) || d.high & SEG_R));
}
OP_FORMS_SIZE_MEM(verr)

OP_BODY verw_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    uint16_t selector = rm_get(cpu, i, 1, mem);
    struct desc d;
    set_zf(cpu, readable_selector(cpu, selector, &d) && desc_is_writable_data(&d) && visible(cpu, selector, &d));
}
OP_FORMS_SIZE_MEM(verw)

OP_BODY arpl_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    uint64_t at = mem ? insn_linear(cpu, i, 2, false) : 0;
    uint16_t dst = mem ? mem_load16(cpu, at, i->seg) : reg_get(cpu, i->rm, 1), src = reg_get(cpu, i->reg, 1);
    bool raise = (dst & 3) < (src & 3);
    if (raise) {
        dst = (dst & 0xfffc) | (src & 3);
        rm_set(cpu, i, dst, 1, mem);
    }
    set_zf(cpu, raise);
}
OP_FORMS_SIZE_MEM(arpl)
