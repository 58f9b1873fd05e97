/*
 * MOVS, STOS, LODS, CMPS, SCAS with and without REP. Intel SDM volume 2, "REP". INS and OUTS are in op_io.c.
 *
 * A repeated instruction is restartable at each element: registers change after each element or page-wise run of
 * elements, and between two of them it leaves, with RIP still at itself, if an event or a single step is due. REP
 * MOVS and REP STOS forward work on host memory a page at a time. Flags of REP CMPS and SCAS are written at the end
 * only: a fault on the way leaves them as they were. Runs on the vCPU's thread.
 */
#include "cpu/flags.h"
#include "cpu/op_form.h"
#include "cpu/op_string.h"
#include "cpu/rmw.h"

static G_ALWAYS_INLINE inline uint64_t string_load(struct cpu *cpu, const struct insn *i, unsigned seg, unsigned r,
                                                   unsigned size)
{
    uint64_t addr = seg_linear(cpu, seg, reg_get(cpu, r, i->asize), 1u << size, false);

    return mem_load(cpu, addr, size, seg);
}

static G_ALWAYS_INLINE inline void string_store(struct cpu *cpu, const struct insn *i, uint64_t v, unsigned size)
{
    unsigned seg = string_dest(cpu);
    uint64_t addr = seg_linear(cpu, seg, reg_get(cpu, R_RDI, i->asize), 1u << size, true);

    mem_store(cpu, addr, v, size, seg);
}

/* --- Runs on host memory ------------------------------------------------------------------------------------------ */

/*
 * How many bytes from seg:offset on, upwards, need no other segment check than the first element's, which the caller
 * has made: up to the end of the segment and of what the address size can reach.
 */
static uint64_t string_room(const struct cpu *cpu, const struct insn *i, unsigned seg, uint64_t offset)
{
    const struct segment *s = &cpu->seg[seg];
    uint64_t room = i->asize == 3 ? UINT64_MAX : size_mask(i->asize) - offset + 1;

    if (cpu->code_size == 3)
        return room;
    if ((s->attr & (SEG_X | SEG_E)) == SEG_E)
        return 0;
    return MIN(room, (uint64_t)s->limit - offset + 1);
}

/* Host memory behind seg:[r], upwards, at most *bytes long; NULL: there is none. Faults as the first element would. */
static uint8_t *string_span(struct cpu *cpu, const struct insn *i, unsigned seg, unsigned r, unsigned size, bool write,
                            uint64_t *bytes)
{
    uint64_t offset = reg_get(cpu, r, i->asize);
    uint64_t addr = seg_linear(cpu, seg, offset, 1u << size, write);

    *bytes = MIN(*bytes, string_room(cpu, i, seg, offset));
    *bytes = MIN(*bytes, PAGE_SIZE - (addr & (PAGE_SIZE - 1)));
    if (*bytes < 1u << size)
        return NULL;
    return mem_host_span(cpu, addr, bytes, write, seg);
}

/* Single steps and alignment checks want one element at a time; backward runs are not worth a fast path. */
static inline bool string_fast(const struct cpu *cpu)
{
    return !(cpu->rflags & (FLAG_DF | FLAG_TF)) && !(cpu->rflags & FLAG_AC && cpu->cpl == 3);
}

/* --- MOVS --------------------------------------------------------------------------------------------------------- */

OP_BODY movs_one(struct cpu *cpu, const struct insn *i, unsigned size)
{
    uint64_t step = string_step(cpu, size);

    string_store(cpu, i, string_load(cpu, i, i->seg, R_RSI, size), size);
    string_advance(cpu, i, R_RSI, step);
    string_advance(cpu, i, R_RDI, step);
}

/* A destination just above the source repeats the pattern between them: no memmove. */
static void copy_forward(uint8_t *dst, const uint8_t *src, uint64_t bytes, unsigned size)
{
    if ((uintptr_t)dst - (uintptr_t)src >= bytes) {
        ram_copy(dst, src, bytes);
        return;
    }
    for (uint64_t n = 0; n < bytes; n += 1u << size)
        ram_store(dst + n, ram_load(src + n, 1u << size), 1u << size);
}

/* Copies up to `count` elements within one page each; returns how many, 0 where it has to be done one by one. */
static uint64_t movs_run(struct cpu *cpu, const struct insn *i, uint64_t count, unsigned size)
{
    uint64_t bytes = MIN(count, PAGE_SIZE) << size;
    const uint8_t *src = string_span(cpu, i, i->seg, R_RSI, size, false, &bytes);

    if (!src)
        return 0;
    uint8_t *dst = string_span(cpu, i, string_dest(cpu), R_RDI, size, true, &bytes);
    if (!dst)
        return 0;
    bytes &= ~((UINT64_C(1) << size) - 1);
    copy_forward(dst, src, bytes, size);
    string_advance(cpu, i, R_RSI, bytes);
    string_advance(cpu, i, R_RDI, bytes);
    return bytes >> size;
}

OP_BODY movs_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    if (!(i->flags & INSN_ANY_REP)) {
        movs_one(cpu, i, size);
        return;
    }
    uint64_t count = rep_begin(cpu, i, true, true);
    while (count) {
        uint64_t done = string_fast(cpu) ? movs_run(cpu, i, count, size) : 0;
        if (!done) {
            movs_one(cpu, i, size);
            done = 1;
        }
        count -= done;
        if (rep_pause(cpu, i, count))
            return;
    }
}
OP_FORMS_SIZE(movs)

/* --- STOS --------------------------------------------------------------------------------------------------------- */

OP_BODY stos_one(struct cpu *cpu, const struct insn *i, unsigned size)
{
    string_store(cpu, i, reg_get(cpu, R_RAX, size), size);
    string_advance(cpu, i, R_RDI, string_step(cpu, size));
}

static G_ALWAYS_INLINE inline uint64_t stos_run(struct cpu *cpu, const struct insn *i, uint64_t count, unsigned size)
{
    uint64_t bytes = MIN(count, PAGE_SIZE) << size, v = reg_get(cpu, R_RAX, size);
    uint8_t *dst = string_span(cpu, i, string_dest(cpu), R_RDI, size, true, &bytes);

    if (!dst)
        return 0;
    bytes &= ~((UINT64_C(1) << size) - 1);
    if (size == 0) {
        ram_fill(dst, (uint8_t)v, bytes);
    } else {
        for (uint64_t n = 0; n < bytes; n += 1u << size)
            ram_store(dst + n, v, 1u << size);
    }
    string_advance(cpu, i, R_RDI, bytes);
    return bytes >> size;
}

OP_BODY stos_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    if (!(i->flags & INSN_ANY_REP)) {
        stos_one(cpu, i, size);
        return;
    }
    uint64_t count = rep_begin(cpu, i, false, true);
    while (count) {
        uint64_t done = string_fast(cpu) ? stos_run(cpu, i, count, size) : 0;
        if (!done) {
            stos_one(cpu, i, size);
            done = 1;
        }
        count -= done;
        if (rep_pause(cpu, i, count))
            return;
    }
}
OP_FORMS_SIZE(stos)

/* --- LODS --------------------------------------------------------------------------------------------------------- */

OP_BODY lods_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    uint64_t count = i->flags & INSN_ANY_REP ? rep_begin(cpu, i, false, false) : 1;

    while (count) {
        reg_set(cpu, R_RAX, string_load(cpu, i, i->seg, R_RSI, size), size);
        string_advance(cpu, i, R_RSI, string_step(cpu, size));
        if (!(i->flags & INSN_ANY_REP) || rep_pause(cpu, i, --count))
            return;
    }
}
OP_FORMS_SIZE(lods)

/* --- CMPS, SCAS --------------------------------------------------------------------------------------------------- */

OP_BODY compare_string(struct cpu *cpu, const struct insn *i, bool scan, unsigned size, bool dead)
{
    bool rep = i->flags & INSN_ANY_REP;
    bool until_equal = i->flags & INSN_REPNE;
    uint64_t count = rep ? rep_begin(cpu, i, false, false) : 1;
    uint64_t step = string_step(cpu, size), a, b;

    if (count == 0)
        return;
    do {
        b = string_load(cpu, i, string_dest(cpu), R_RDI, size); /* faults first */
        a = scan ? reg_get(cpu, R_RAX, size) : string_load(cpu, i, i->seg, R_RSI, size);
        if (!scan)
            string_advance(cpu, i, R_RSI, step);
        string_advance(cpu, i, R_RDI, step);
        if (rep && (a == b) == until_equal) {
            reg_set(cpu, R_RCX, count - 1, i->asize);
            break;
        }
    } while (rep && !rep_pause(cpu, i, --count));
    if (!dead)
        flags_set_arith(cpu, flags_sub(a, b, (a - b) & size_mask(size), size));
}

OP_BODY cmps_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    compare_string(cpu, i, false, size, dead);
}
OP_FORMS(cmps)

OP_BODY scas_op(struct cpu *cpu, const struct insn *i, unsigned size, bool mem, bool dead)
{
    compare_string(cpu, i, true, size, dead);
}
OP_FORMS(scas)
