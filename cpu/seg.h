/*
 * Descriptors: reading them from the tables, checking them, marking them accessed. Shared by segment loads, far
 * transfers, interrupt delivery and task switches.
 */
#ifndef CPU_SEG_H
#define CPU_SEG_H

#include "cpu/cpu.h"

/* System descriptor types (SEG_S clear). */
enum { DESC_TSS16 = 1, DESC_LDT = 2, DESC_TSS16_BUSY = 3, DESC_CALL16 = 4, DESC_TASK_GATE = 5, DESC_INT16 = 6,
       DESC_TRAP16 = 7, DESC_TSS32 = 9, DESC_TSS32_BUSY = 11, DESC_CALL32 = 12, DESC_INT32 = 14, DESC_TRAP32 = 15 };

struct desc {
    uint32_t low, high;
    uint64_t addr;   /* linear, where it was read */
    uint32_t upper;  /* third doubleword of a 16-byte descriptor in long mode */
};

static inline unsigned desc_type(const struct desc *d)
{
    return d->high >> 8 & 15;
}
static inline unsigned desc_dpl(const struct desc *d)
{
    return d->high >> 13 & 3;
}
static inline bool desc_present(const struct desc *d)
{
    return d->high & SEG_P;
}
static inline bool desc_is_code(const struct desc *d)
{
    return (d->high & (SEG_S | SEG_X)) == (SEG_S | SEG_X);
}
static inline bool desc_is_writable_data(const struct desc *d)
{
    return (d->high & (SEG_S | SEG_X | SEG_W)) == (SEG_S | SEG_W);
}
static inline uint32_t desc_base(const struct desc *d)
{
    return d->low >> 16 | (d->high & 0xff) << 16 | (d->high & 0xff000000);
}
static inline uint32_t desc_limit(const struct desc *d)
{
    uint32_t limit = (d->low & 0xffff) | (d->high & 0xf0000);
    return d->high & SEG_G ? limit << 12 | 0xfff : limit;
}
static inline uint32_t desc_attr(const struct desc *d)
{
    return d->high & 0x00f0ff00;
}
static inline bool selector_is_null(uint16_t selector)
{
    return !(selector & 0xfffc);
}

/* Reads the 8-byte descriptor of a selector from GDT or LDT; false: beyond the table's limit. */
bool desc_read(struct cpu *cpu, uint16_t selector, struct desc *d);
/* The same, raising `vector`(selector + ext) beyond the limit. */
void desc_read_or_raise(struct cpu *cpu, uint16_t selector, struct desc *d, enum vector vector, unsigned ext);
/* Reads the upper half of a 16-byte system descriptor (long mode) too; raises #GP(selector) if it is malformed. */
void desc_read_upper(struct cpu *cpu, uint16_t selector, struct desc *d, unsigned ext);
/* Sets the accessed bit in memory. */
void desc_set_accessed(struct cpu *cpu, struct desc *d);
/* Sets or clears the busy bit of a TSS descriptor in memory. */
void desc_set_busy(struct cpu *cpu, struct desc *d, bool busy);
/* Fills a segment register from a checked descriptor. */
void seg_load_desc(struct cpu *cpu, enum seg s, uint16_t selector, const struct desc *d);
/* CS for new privilege `cpl`; sets CPL, code size and what depends on them. */
void seg_load_cs(struct cpu *cpu, uint16_t selector, const struct desc *d, unsigned cpl);
/* SS = null selector of long mode, with RPL. */
void seg_load_null_ss(struct cpu *cpu, unsigned rpl);
/* Checks the stack segment for a switch to `cpl` and returns its descriptor; raises `vector`(selector + ext) or #SS. */
void seg_check_ss(struct cpu *cpu, uint16_t selector, unsigned cpl, struct desc *d, enum vector vector, unsigned ext);
/* The same for DS, ES, FS and GS at the present privilege, selector not null; raises `vector`(selector + ext) or #NP. */
void seg_check_data(struct cpu *cpu, uint16_t selector, struct desc *d, enum vector vector, unsigned ext);
/* Data segment registers that a less privileged level must not keep become null. */
void seg_drop_privileged(struct cpu *cpu);

/* The far pointer that is an instruction's memory operand: returns the offset. */
uint64_t seg_load_far_ptr(struct cpu *cpu, const struct insn *i, uint16_t *selector);

/*
 * The descriptor of the TSS that a transfer, a task gate or a back link names: in the GDT, of either width, present.
 * Raises `vector`(selector + ext) or #NP.
 */
void tss_read_desc(struct cpu *cpu, uint16_t selector, struct desc *d, bool busy, enum vector vector, unsigned ext);
/* SS:ESP (or RSP) of privilege `cpl` from the TSS. Long mode: RSPn, no selector. */
uint64_t tss_stack(struct cpu *cpu, unsigned cpl, uint16_t *ss, unsigned ext);
/* IST 1..7 of the 64-bit TSS. */
uint64_t tss_ist(struct cpu *cpu, unsigned ist, unsigned ext);
/* May CPL (or V86 code) use these ports by the I/O permission bitmap? */
bool tss_io_allowed(struct cpu *cpu, uint16_t port, unsigned size);
/* Is interrupt `vector` redirected to the V86 program (bit clear)? */
bool tss_int_redirected(struct cpu *cpu, uint8_t vector);

enum task_cause { TASK_JMP, TASK_CALL, TASK_IRET, TASK_INT };
/*
 * Hardware task switch to the TSS with this selector and descriptor (checked to be one, not its busy state). `next_rip`
 * is saved in the old task. Raises #TS and friends; ends at the new task's EIP, with `error` pushed there if has_error.
 */
void task_switch(struct cpu *cpu, uint16_t selector, struct desc *d, enum task_cause cause, uint64_t next_rip,
                 bool has_error, uint32_t error, unsigned ext);

/* A stack being pushed to at another privilege: nothing is committed until the caller says so. */
struct pusher {
    struct cpu *cpu;
    uint64_t base, mask, sp;
    uint32_t limit;   /* checked if attr is not 0 */
    uint32_t attr;    /* of the stack segment; 0: a stack of long mode, flat */
    unsigned cpl;
    uint32_t fault_error; /* of the #SS when it runs over the limit */
};
/* The stack in use, at the present privilege. */
struct pusher pusher_current(struct cpu *cpu);
/* The one at RSP `sp` for privilege `cpl`, flat, as in long mode. */
struct pusher pusher_flat(struct cpu *cpu, uint64_t sp, unsigned cpl, uint32_t fault_error);
/* The one at ESP `sp` in a segment that seg_check_ss() has passed for `cpl`. */
struct pusher pusher_in(struct cpu *cpu, const struct desc *ss, uint64_t sp, unsigned cpl, uint32_t fault_error);
void push_to(struct pusher *p, uint64_t value, unsigned osize);

#endif
