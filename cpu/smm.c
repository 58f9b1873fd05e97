/*
 * System management mode: the state save map at SMBASE + FE00h (AMD64 layout, as firmware for this chipset expects of a
 * 64-bit processor), entry and RSM.
 *
 * AMD64 APM volume 2, 10.2 "SMM resources"; Intel SDM volume 3, chapter 31. Auto-HALT restart is there, I/O instruction
 * restart is not: the revision of the map says so.
 *
 * Thread: the vCPU's own.
 */
#include "cpu/smm.h"

#include "cpu/debug.h"
#include "cpu/flags.h"
#include "cpu/mem.h"
#include "cpu/seg.h"

#define SMM_REVISION 0x00020064 /* 64-bit map, SMBASE relocation, no I/O restart */

/* Offsets from SMBASE. */
enum { SAVE_SEGS = 0xfe00, SAVE_GDTR = 0xfe60, SAVE_LDTR = 0xfe70, SAVE_IDTR = 0xfe80, SAVE_TR = 0xfe90,
       SAVE_AUTO_HALT = 0xfec9, SAVE_EFER = 0xfed0, SAVE_REVISION = 0xfefc, SAVE_SMBASE = 0xff00, SAVE_CR4 = 0xff48,
       SAVE_CR3 = 0xff50, SAVE_CR0 = 0xff58, SAVE_DR7 = 0xff60, SAVE_DR6 = 0xff68, SAVE_RFLAGS = 0xff70,
       SAVE_RIP = 0xff78, SAVE_GPR = 0xff80 };

static void put(struct cpu *cpu, unsigned at, uint64_t v, unsigned size)
{
    mem_store_phys(cpu, (cpu->smbase + at) & cpu->a20_mask, v, size);
}

static uint64_t get(struct cpu *cpu, unsigned at, unsigned size)
{
    return mem_load_phys(cpu, (cpu->smbase + at) & cpu->a20_mask, size);
}

static void put_seg(struct cpu *cpu, unsigned at, const struct segment *s)
{
    put(cpu, at, s->selector, 2);
    put(cpu, at + 2, s->attr >> 8 & 0xf0ff, 2);
    put(cpu, at + 4, s->limit, 4);
    put(cpu, at + 8, s->base, 8);
}

static void get_seg(struct cpu *cpu, unsigned at, enum seg s)
{
    cpu_set_seg(cpu, s, get(cpu, at, 2), get(cpu, at + 8, 8), get(cpu, at + 4, 4), (get(cpu, at + 2, 2) & 0xf0ff) << 8);
}

/* RAX is the highest: R15 first. */
static unsigned gpr_at(unsigned r)
{
    return SAVE_GPR + (15 - r) * 8;
}

static void save(struct cpu *cpu)
{
    for (enum seg s = SEG_ES; s <= SEG_GS; s++)
        put_seg(cpu, SAVE_SEGS + s * 16, &cpu->seg[s]);
    put_seg(cpu, SAVE_LDTR, &cpu->seg[SEG_LDTR]);
    put_seg(cpu, SAVE_TR, &cpu->seg[SEG_TR]);
    put(cpu, SAVE_GDTR + 4, cpu->gdtr.limit, 4);
    put(cpu, SAVE_GDTR + 8, cpu->gdtr.base, 8);
    put(cpu, SAVE_IDTR + 4, cpu->idtr.limit, 4);
    put(cpu, SAVE_IDTR + 8, cpu->idtr.base, 8);
    put(cpu, SAVE_AUTO_HALT, cpu->activity == CPU_HALTED, 1);
    put(cpu, SAVE_EFER, cpu->efer, 8);
    put(cpu, SAVE_REVISION, SMM_REVISION, 4);
    put(cpu, SAVE_SMBASE, cpu->smbase, 4);
    put(cpu, SAVE_CR4, cpu->cr4, 8);
    put(cpu, SAVE_CR3, cpu->cr3, 8);
    put(cpu, SAVE_CR0, cpu->cr0, 8);
    put(cpu, SAVE_DR7, cpu->dr7, 8);
    put(cpu, SAVE_DR6, cpu->dr6, 8);
    put(cpu, SAVE_RFLAGS, cpu->rflags, 8);
    put(cpu, SAVE_RIP, cpu->rip, 8);
    for (unsigned r = 0; r < 16; r++)
        put(cpu, gpr_at(r), cpu->r[r], 8);
}

/* Real-mode-like, with segments that reach 4 GiB. */
static void enter_state(struct cpu *cpu)
{
    uint32_t data = SEG_G | SEG_P | SEG_S | SEG_W | SEG_A;
    cpu->rflags = FLAGS_FIXED;
    cpu->cr0 &= ~(uint64_t)(CR0_PE | CR0_EM | CR0_TS | CR0_PG);
    cpu->cr4 = 0;
    cpu->efer = 0;
    cpu->dr7 = DR7_FIXED;
    cpu->cpl = 0;
    cpu->rip = 0x8000;
    for (enum seg s = SEG_ES; s <= SEG_GS; s++)
        cpu_set_seg(cpu, s, 0, 0, UINT32_MAX, data);
    cpu_set_seg(cpu, SEG_CS, cpu->smbase >> 4, cpu->smbase, UINT32_MAX, data);
}

void smm_enter(struct cpu *cpu)
{
    cpu_event_clear(cpu, CPU_EVENT_SMI);
    cpu->smm = true;
    save(cpu);
    cpu->activity = CPU_RUNNING;
    cpu->nmi_blocked = true;
    enter_state(cpu);
    cpu_tlb_flush(cpu);
    cpu_update_mode(cpu);
}

/* All but what cpu_ctrl_restore() sets. */
static void restore(struct cpu *cpu)
{
    cpu->dr6 = (get(cpu, SAVE_DR6, 4) & DR6_WRITABLE) | DR6_FIXED;
    cpu->dr7 = (get(cpu, SAVE_DR7, 4) & DR7_WRITABLE) | DR7_FIXED;
    cpu->rflags = (get(cpu, SAVE_RFLAGS, 4) & FLAGS_DEFINED) | FLAGS_FIXED;
    for (unsigned r = 0; r < 16; r++)
        cpu->r[r] = get(cpu, gpr_at(r), 8);
    for (enum seg s = SEG_ES; s <= SEG_GS; s++)
        get_seg(cpu, SAVE_SEGS + s * 16, s);
    get_seg(cpu, SAVE_LDTR, SEG_LDTR);
    get_seg(cpu, SAVE_TR, SEG_TR);
    cpu->gdtr.limit = get(cpu, SAVE_GDTR + 4, 2);
    cpu->gdtr.base = get(cpu, SAVE_GDTR + 8, 8);
    cpu->idtr.limit = get(cpu, SAVE_IDTR + 4, 2);
    cpu->idtr.base = get(cpu, SAVE_IDTR + 8, 8);
    bool protected = cpu->cr0 & CR0_PE;
    cpu->cpl = !protected ? 0 : cpu_v86(cpu) ? 3 : (cpu->seg[SEG_SS].attr & SEG_DPL_MASK) >> SEG_DPL_SHIFT;
}

void smm_leave(struct cpu *cpu)
{
    /* A saved state that no processor can be in shuts it down. */
    if (!cpu_ctrl_restore(cpu, get(cpu, SAVE_CR0, 8), get(cpu, SAVE_CR3, 8), get(cpu, SAVE_CR4, 8),
                          get(cpu, SAVE_EFER, 8))) {
        cpu->activity = CPU_SHUTDOWN;
        cpu->fault_count = 0; /* no exception did it */
        cpu_event_set(cpu, CPU_EVENT_KICK);
        return;
    }
    uint64_t rip = get(cpu, SAVE_RIP, 8);
    bool halted = get(cpu, SAVE_AUTO_HALT, 1) & 1;
    uint32_t smbase = get(cpu, SAVE_SMBASE, 4);
    restore(cpu);
    cpu->smbase = smbase;
    cpu->smm = false;
    cpu->nmi_blocked = false;
    cpu_tlb_flush(cpu);
    cpu_update_mode(cpu);
    cpu_set_rip(cpu, rip);
    if (halted) {
        cpu->activity = CPU_HALTED;
        cpu_event_set(cpu, CPU_EVENT_KICK);
    }
}
