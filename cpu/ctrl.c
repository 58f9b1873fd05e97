/*
 * Control registers, EFER, XCR0 and DR7: what may be written, and what follows from a change.
 *
 * Intel SDM volume 3, 2.5 (CR), 4.1 (paging modes), 9.8.5 (entering and leaving IA-32e mode), 13.3 (XCR0), 17.2 (DR7).
 *
 * Thread: the vCPU's own.
 */
#include "cpu/debug.h"
#include "cpu/mem.h"
#include "cpu/walk.h"

#define CR0_DEFINED (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG)

static void cr_event(struct cpu *cpu, unsigned n, uint64_t value)
{
    if (event_wanted(EVENT_CR_WRITE))
        event_emit(&(struct event){ .kind = EVENT_CR_WRITE, .vcpu = cpu->index, .cpl = cpu->cpl, .rip = cpu_rip(cpu),
                                    .number = n, .value = value, .write = true });
}

static bool uses_pae(uint64_t cr0, uint64_t cr4, uint64_t efer)
{
    return cr0 & CR0_PG && cr4 & CR4_PAE && !(efer & EFER_LMA);
}

/* PAE paging outside long mode caches four pointers; a reserved bit in them refuses the write. */
static void load_pdptes(struct cpu *cpu, uint64_t cr0, uint64_t cr3, uint64_t cr4, uint64_t efer)
{
    uint64_t pdpte[4];
    if (!uses_pae(cr0, cr4, efer))
        return;
    if (!walk_load_pdptes(cpu, cr3, pdpte))
        cpu_raise_gp0(cpu);
    memcpy(cpu->pdpte, pdpte, sizeof pdpte);
}

/* EFER as it is after paging goes on or off with LME set. */
static uint64_t efer_after(struct cpu *cpu, uint64_t cr0)
{
    bool was = cpu->cr0 & CR0_PG, now = cr0 & CR0_PG;
    if (was == now || !(cpu->efer & EFER_LME))
        return cpu->efer;
    if (!now) {
        if (cpu_in_64(cpu))
            cpu_raise_gp0(cpu);
        return cpu->efer & ~(uint64_t)EFER_LMA;
    }
    uint32_t tr = cpu->seg[SEG_TR].attr >> SEG_TYPE_SHIFT & 15;
    if (!(cpu->cr4 & CR4_PAE) || cpu->seg[SEG_CS].attr & SEG_L || tr == 1 || tr == 3)
        cpu_raise_gp0(cpu);
    return cpu->efer | EFER_LMA;
}

static bool cr0_possible(uint64_t cr0)
{
    return !(cr0 >> 32) && (cr0 & CR0_PE || !(cr0 & CR0_PG)) && (cr0 & CR0_CD || !(cr0 & CR0_NW));
}

void cpu_write_cr0(struct cpu *cpu, uint64_t value)
{
    if (!cr0_possible(value))
        cpu_raise_gp0(cpu);
    value = (value & CR0_DEFINED) | CR0_ET;
    if (!(value & CR0_PG) && cpu->cr4 & CR4_PCIDE)
        cpu_raise_gp0(cpu);
    uint64_t efer = efer_after(cpu, value), changed = cpu->cr0 ^ value;
    if (changed & (CR0_PG | CR0_CD | CR0_NW))
        load_pdptes(cpu, value, cpu->cr3, cpu->cr4, efer);
    cr_event(cpu, 0, value);
    cpu->cr0 = value;
    cpu->efer = efer;
    if (changed & (CR0_PG | CR0_WP | CR0_PE))
        cpu_tlb_flush(cpu);
    cpu_update_mode(cpu);
}

void cpu_write_cr3(struct cpu *cpu, uint64_t value)
{
    bool keep = false;
    if (cpu->cr4 & CR4_PCIDE) {
        keep = value >> 63;
        value &= ~(UINT64_C(1) << 63);
    }
    if (cpu_long(cpu)) {
        if (value >> cpu->phys_bits)
            cpu_raise_gp0(cpu);
    } else {
        value = (uint32_t)value;
    }
    load_pdptes(cpu, cpu->cr0, value, cpu->cr4, cpu->efer);
    cr_event(cpu, 3, value);
    cpu->cr3 = value;
    cpu_tlb_switch(cpu);
    if (!keep)
        cpu_tlb_flush_address_space(cpu);
}

/* Bits of CR4 that this model has. */
static uint64_t cr4_allowed(const struct cpu *cpu)
{
    static const struct { uint32_t bit; uint8_t feature; } bits[] = {
        { CR4_VME | CR4_PVI, FEAT_VME }, { CR4_TSD, FEAT_TSC }, { CR4_DE, FEAT_DE }, { CR4_PSE, FEAT_PSE },
        { CR4_PAE, FEAT_PAE }, { CR4_MCE, FEAT_MCE }, { CR4_PGE, FEAT_PGE }, { CR4_PCE, FEAT_NONE },
        { CR4_OSFXSR, FEAT_FXSR }, { CR4_OSXMMEXCPT, FEAT_SSE }, { CR4_UMIP, FEAT_UMIP }, { CR4_LA57, FEAT_LA57 },
        { CR4_FSGSBASE, FEAT_FSGSBASE }, { CR4_PCIDE, FEAT_PCID }, { CR4_OSXSAVE, FEAT_XSAVE },
        { CR4_SMEP, FEAT_SMEP }, { CR4_SMAP, FEAT_SMAP }, { CR4_PKE, FEAT_PKU },
    };
    uint64_t allowed = 0;
    for (unsigned k = 0; k < G_N_ELEMENTS(bits); k++)
        if (cpu_has(cpu, bits[k].feature))
            allowed |= bits[k].bit;
    return allowed;
}

void cpu_write_cr4(struct cpu *cpu, uint64_t value)
{
    uint64_t changed = cpu->cr4 ^ value;
    if (value & ~cr4_allowed(cpu))
        cpu_raise_gp0(cpu);
    if (cpu_long(cpu) && (!(value & CR4_PAE) || changed & CR4_LA57))
        cpu_raise_gp0(cpu);
    if (changed & value & CR4_PCIDE && (!cpu_long(cpu) || cpu->cr3 & 0xfff))
        cpu_raise_gp0(cpu);
    if (changed & (CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP))
        load_pdptes(cpu, cpu->cr0, cpu->cr3, value, cpu->efer);
    cr_event(cpu, 4, value);
    cpu->cr4 = value;
    if (changed & (CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP | CR4_SMAP | CR4_PKE | CR4_PCIDE | CR4_LA57))
        cpu_tlb_flush(cpu);
    cpu_update_mode(cpu);
}

/* Bits of EFER that this model has. */
static uint64_t efer_allowed(const struct cpu *cpu)
{
    return (cpu_has(cpu, FEAT_SYSCALL) ? EFER_SCE : 0) | (cpu_has(cpu, FEAT_LM) ? EFER_LME | EFER_LMA : 0) |
           (cpu_has(cpu, FEAT_NX) ? EFER_NXE : 0) | (cpu_has(cpu, FEAT_FXSR_OPT) ? EFER_FFXSR : 0);
}

void cpu_write_efer(struct cpu *cpu, uint64_t value)
{
    if (value & ~efer_allowed(cpu))
        cpu_raise_gp0(cpu);
    if ((cpu->efer ^ value) & EFER_LME && cpu->cr0 & CR0_PG)
        cpu_raise_gp0(cpu);
    bool flush = (cpu->efer ^ value) & EFER_NXE;
    cpu->efer = (value & ~(uint64_t)EFER_LMA) | (cpu->efer & EFER_LMA);
    if (flush)
        cpu_tlb_flush(cpu);
    cpu_update_mode(cpu);
}

bool cpu_ctrl_restore(struct cpu *cpu, uint64_t cr0, uint64_t cr3, uint64_t cr4, uint64_t efer)
{
    bool active = efer & EFER_LMA;
    if (!cr0_possible(cr0) || cr4 & ~cr4_allowed(cpu) || efer & ~efer_allowed(cpu))
        return false;
    if (active != (cr0 & CR0_PG && efer & EFER_LME) || (active && !(cr4 & CR4_PAE)) || (cr4 & CR4_PCIDE && !active))
        return false;
    if (cr3 >> cpu->phys_bits || (uses_pae(cr0, cr4, efer) && !walk_load_pdptes(cpu, cr3, cpu->pdpte)))
        return false;
    cpu->cr0 = (cr0 & CR0_DEFINED) | CR0_ET;
    cpu->cr3 = cr3;
    cpu->cr4 = cr4;
    cpu->efer = efer;
    return true;
}

void cpu_write_xcr0(struct cpu *cpu, uint64_t value)
{
    uint64_t allowed = XCR0_X87 | XCR0_SSE | (cpu_has(cpu, FEAT_AVX) ? XCR0_AVX : 0) |
                       (cpu_has(cpu, FEAT_PKU) ? XCR0_PKRU : 0);
    if (value & ~allowed || !(value & XCR0_X87) || (value & XCR0_AVX && !(value & XCR0_SSE)))
        cpu_raise_gp0(cpu);
    cpu->xcr0 = value;
    cpu_update_mode(cpu);
}

void cpu_write_dr7(struct cpu *cpu, uint64_t value)
{
    if (value >> 32)
        cpu_raise_gp0(cpu);
    cpu->dr7 = (value & DR7_WRITABLE) | DR7_FIXED;
    cpu_tlb_flush(cpu); /* pages with data breakpoints become slow, others fast again */
    cpu_update_mode(cpu);
}
