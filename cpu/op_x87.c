/*
 * The x87 unit itself: control and status, environment and state images, tags and stack pointer, pending exceptions.
 *
 * Intel SDM volume 1, 8.1 and 8.7; volume 2. An unmasked exception sets ES; the next waiting x87, MMX or WAIT
 * instruction raises #MF, or with CR0.NE = 0 signals FERR# to the board (cpu->host->ferr) and waits for the interrupt
 * that comes of it. If none can come (masked, or the board holds IGNNE#) it goes on, where a processor without IGNNE#
 * would wait for ever. On the vCPU's own thread.
 */
#include "cpu/op_form.h"
#include "cpu/x87.h"

#include "hw/core/log.h"

#define CW_RESERVED 0xe080u /* read as 0 */
#define CW_ONE 0x0040u      /* reads as 1 */

void x87_init(struct fpu *fpu)
{
    fpu->cw = FPU_CW_INIT;
    fpu->sw = 0;
    fpu->top = 0;
    fpu->tag_valid = 0;
    fpu->opcode = 0;
    fpu->ip = fpu->dp = 0;
    fpu->cs = fpu->ds = 0;
}

/* ES and B follow from the flags and their masks. */
static void update_summary(struct fpu *fpu)
{
    fpu->sw &= ~(FPU_ES | FPU_BUSY);
    if (fpu->sw & ~fpu->cw & FPU_EXCEPTIONS)
        fpu->sw |= FPU_ES | FPU_BUSY;
}

void x87_set_control(struct fpu *fpu, uint16_t cw)
{
    fpu->cw = (cw & ~CW_RESERVED) | CW_ONE;
    update_summary(fpu);
}

void x87_set_status(struct fpu *fpu, uint16_t sw)
{
    fpu->sw = sw & ~FPU_TOP_MASK;
    fpu->top = (sw & FPU_TOP_MASK) >> FPU_TOP_SHIFT;
    update_summary(fpu);
}

static unsigned tag_of(struct float80 v)
{
    unsigned exp = v.sexp & FLOAT80_EXP;
    if (!exp && !v.mant)
        return 1;
    return exp == 0 || exp == FLOAT80_EXP || !(v.mant >> 63) ? 2 : 0;
}

uint16_t x87_tags(const struct fpu *fpu)
{
    uint16_t tags = 0;
    for (unsigned n = 0; n < 8; n++)
        tags |= (fpu->tag_valid >> n & 1 ? tag_of(fpu->st[n]) : 3) << (2 * n);
    return tags;
}

void x87_set_tags(struct fpu *fpu, uint16_t tags)
{
    fpu->tag_valid = 0;
    for (unsigned n = 0; n < 8; n++)
        if ((tags >> (2 * n) & 3) != 3)
            fpu->tag_valid |= 1u << n;
}

uint16_t x87_saved_cs(const struct cpu *cpu)
{
    return cpu_has(cpu, FEAT_ZERO_FCS_FDS) ? 0 : cpu->fpu.cs;
}

uint16_t x87_saved_ds(const struct cpu *cpu)
{
    return cpu_has(cpu, FEAT_ZERO_FCS_FDS) ? 0 : cpu->fpu.ds;
}

void x87_signal_pending(struct cpu *cpu)
{
    if (cpu->cr0 & CR0_NE)
        cpu_raise(cpu, EXC_MF);
    if (!cpu->host->ferr) {
        log_unimp("x87", "FERR# with nothing connected");
        return;
    }
    cpu->host->ferr(cpu, true);
    if (cpu_due_events(cpu) & CPU_EVENT_INTR)
        cpu_retry(cpu);
}

void x87_signal_gone(struct cpu *cpu)
{
    if (!(cpu->cr0 & CR0_NE) && cpu->host->ferr)
        cpu->host->ferr(cpu, false);
}

void x87_note_operand(struct cpu *cpu, const struct insn *i)
{
    cpu->fpu.opcode = i->imm & 0x7ff;
    if (!(i->flags & INSN_MEM))
        return;
    cpu->fpu.dp = insn_ea(cpu, i);
    /* The decoder has dropped which segment it was where all have base 0. */
    cpu->fpu.ds = cpu->seg[i->seg == SEG_FLAT ? SEG_DS : i->seg == SEG_FLAT_STACK ? SEG_SS : i->seg].selector;
}

void x87_unmasked(struct cpu *cpu, const struct insn *i)
{
    cpu->fpu.sw |= FPU_ES | FPU_BUSY;
    x87_note_operand(cpu, i);
}

/* --- Control and status ------------------------------------------------------------------------------------------- */

static void fninit_fn(struct cpu *cpu, const struct insn *i)
{
    uint16_t before = cpu->fpu.sw;
    x87_init(&cpu->fpu);
    x87_settle(cpu, before);
}
OP_FORM_ONE(fninit)

static void fnclex_fn(struct cpu *cpu, const struct insn *i)
{
    uint16_t before = cpu->fpu.sw;
    cpu->fpu.sw &= ~(FPU_EXCEPTIONS | FPU_SF | FPU_ES | FPU_BUSY);
    x87_settle(cpu, before);
}
OP_FORM_ONE(fnclex)

/* FNENI, FNDISI of the 8087 and FNSETPM of the 287. */
static void fneni_fn(struct cpu *cpu, const struct insn *i)
{
}
OP_FORM_ONE(fneni)

static void fnop_fn(struct cpu *cpu, const struct insn *i)
{
    x87_wait(cpu);
    x87_note(cpu, i);
}
OP_FORM_ONE(fnop)

static void fwait_fn(struct cpu *cpu, const struct insn *i)
{
    x87_wait(cpu);
}
OP_FORM_ONE(fwait)

static void fldcw_fn(struct cpu *cpu, const struct insn *i)
{
    x87_wait(cpu);
    uint16_t before = cpu->fpu.sw;
    x87_set_control(&cpu->fpu, mem_load16(cpu, insn_linear(cpu, i, 2, false), i->seg));
    x87_settle(cpu, before);
}
OP_FORM_ONE(fldcw)

static void fnstcw_fn(struct cpu *cpu, const struct insn *i)
{
    mem_store16(cpu, insn_linear(cpu, i, 2, true), cpu->fpu.cw, i->seg);
}
OP_FORM_ONE(fnstcw)

static void fnstsw_m16_fn(struct cpu *cpu, const struct insn *i)
{
    mem_store16(cpu, insn_linear(cpu, i, 2, true), x87_status(&cpu->fpu), i->seg);
}
OP_FORM_ONE(fnstsw_m16)

static void fnstsw_ax_fn(struct cpu *cpu, const struct insn *i)
{
    reg_set(cpu, R_RAX, x87_status(&cpu->fpu), 1);
}
OP_FORM_ONE(fnstsw_ax)

/* --- Tags and stack pointer --------------------------------------------------------------------------------------- */

static void ffree_fn(struct cpu *cpu, const struct insn *i)
{
    x87_wait(cpu);
    x87_note(cpu, i);
    x87_commit(cpu, i, 0, 0);
    x87_free(cpu, x87_sti(i));
}
OP_FORM_ONE(ffree)

static void ffreep_fn(struct cpu *cpu, const struct insn *i)
{
    x87_wait(cpu);
    x87_note(cpu, i);
    x87_commit(cpu, i, 0, 0);
    x87_free(cpu, x87_sti(i));
    x87_pop(cpu);
}
OP_FORM_ONE(ffreep)

static void fincstp_fn(struct cpu *cpu, const struct insn *i)
{
    x87_wait(cpu);
    x87_note(cpu, i);
    x87_commit(cpu, i, 0, 0);
    cpu->fpu.top = (cpu->fpu.top + 1) & 7;
}
OP_FORM_ONE(fincstp)

static void fdecstp_fn(struct cpu *cpu, const struct insn *i)
{
    x87_wait(cpu);
    x87_note(cpu, i);
    x87_commit(cpu, i, 0, 0);
    cpu->fpu.top = (cpu->fpu.top - 1) & 7;
}
OP_FORM_ONE(fdecstp)

/* --- Environment and state images --------------------------------------------------------------------------------- */

/*
 * The environment has seven words: control, status, tags, instruction pointer, its selector (or high bits and opcode),
 * data pointer, its selector (or high bits). They are 16 or 32 bits wide; in real and virtual-8086 mode the pointers
 * are linear.
 */
#define ENV_WORDS 7

static unsigned env_size(unsigned width)
{
    return ENV_WORDS * width;
}

/* Operand size 16 gives 2 bytes a word, 32 and 64 give 4. */
static unsigned env_width(const struct insn *i)
{
    return i->osize == 1 ? 2 : 4;
}

static void env_put(const struct cpu *cpu, uint8_t *image, unsigned width)
{
    const struct fpu *fpu = &cpu->fpu;
    uint32_t cs = x87_saved_cs(cpu), ds = x87_saved_ds(cpu);
    uint32_t w[ENV_WORDS] = { fpu->cw | 0xffff0000, x87_status(fpu) | 0xffff0000, x87_tags(fpu) | 0xffff0000 };

    if (cpu_protected(cpu)) {
        w[3] = fpu->ip;
        w[4] = cs | (uint32_t)fpu->opcode << 16;
        w[5] = fpu->dp;
        w[6] = ds | 0xffff0000;
    } else {
        uint32_t ip = fpu->ip + (cs << 4), dp = fpu->dp + (ds << 4);
        uint32_t high = width == 2 ? 0xf0000 : 0xffff0000;
        w[3] = (ip & 0xffff) | 0xffff0000;
        w[4] = (ip & high) >> 4 | fpu->opcode;
        w[5] = (dp & 0xffff) | 0xffff0000;
        w[6] = (dp & high) >> 4;
    }
    for (unsigned n = 0; n < ENV_WORDS; n++)
        for (unsigned b = 0; b < width; b++)
            image[n * width + b] = w[n] >> (8 * b);
}

static void env_get(struct cpu *cpu, const uint8_t *image, unsigned width)
{
    struct fpu *fpu = &cpu->fpu;
    uint16_t before = fpu->sw;
    uint32_t w[ENV_WORDS] = { 0 };
    for (unsigned n = 0; n < ENV_WORDS; n++)
        for (unsigned b = 0; b < width; b++)
            w[n] |= (uint32_t)image[n * width + b] << (8 * b);

    fpu->cw = (w[0] & ~CW_RESERVED) | CW_ONE;
    x87_set_status(fpu, w[1]);
    x87_set_tags(fpu, w[2]);
    if (cpu_protected(cpu)) {
        fpu->ip = w[3];
        fpu->cs = w[4];
        fpu->opcode = w[4] >> 16 & 0x7ff; /* 0 in the 16-bit format, which has no place for it */
        fpu->dp = w[5];
        fpu->ds = w[6];
    } else {
        fpu->ip = (w[3] & 0xffff) | (w[4] & 0x0ffff000) << 4;
        fpu->opcode = w[4] & 0x7ff;
        fpu->dp = (w[5] & 0xffff) | (w[6] & 0x0ffff000) << 4;
        fpu->cs = fpu->ds = 0;
    }
    x87_settle(cpu, before);
}

static void fldenv_fn(struct cpu *cpu, const struct insn *i)
{
    uint8_t image[28];
    unsigned width = env_width(i);
    x87_wait(cpu);
    mem_read_bytes(cpu, insn_linear(cpu, i, env_size(width), false), image, env_size(width), i->seg);
    env_get(cpu, image, width);
}
OP_FORM_ONE(fldenv)

static void fnstenv_fn(struct cpu *cpu, const struct insn *i)
{
    uint8_t image[28];
    unsigned width = env_width(i);
    env_put(cpu, image, width);
    mem_write_bytes(cpu, insn_linear(cpu, i, env_size(width), true), image, env_size(width), i->seg);
    uint16_t before = cpu->fpu.sw;
    x87_set_control(&cpu->fpu, cpu->fpu.cw | FPU_EXCEPTIONS);
    x87_settle(cpu, before);
}
OP_FORM_ONE(fnstenv)

static void frstor_fn(struct cpu *cpu, const struct insn *i)
{
    uint8_t image[108];
    unsigned width = env_width(i), size = env_size(width) + 80;
    x87_wait(cpu);
    mem_read_bytes(cpu, insn_linear(cpu, i, size, false), image, size, i->seg);
    env_get(cpu, image, width);
    for (unsigned n = 0; n < 8; n++)
        *x87_st(cpu, n) = x87_unpack(image + env_size(width) + 10 * n);
}
OP_FORM_ONE(frstor)

static void fnsave_fn(struct cpu *cpu, const struct insn *i)
{
    uint8_t image[108];
    unsigned width = env_width(i), size = env_size(width) + 80;
    env_put(cpu, image, width);
    for (unsigned n = 0; n < 8; n++)
        x87_pack(image + env_size(width) + 10 * n, *x87_st(cpu, n));
    mem_write_bytes(cpu, insn_linear(cpu, i, size, true), image, size, i->seg);
    fninit_fn(cpu, i);
}
OP_FORM_ONE(fnsave)
