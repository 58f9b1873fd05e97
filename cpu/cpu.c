/*
 * The processor as an object: making, reset, derived state, saved state, printing.
 *
 * Reset and INIT values: Intel SDM volume 3, table 9-1.
 */
#include "cpu/cpu.h"

#include "cpu/block.h"
#include "cpu/debug.h"
#include "cpu/flags.h"
#include "cpu/mem.h"
#include "cpu/model.h"
#include "cpu/softfp.h"
#include "hw/core/machine.h"
#include "hw/core/state.h"
#include "hw/core/vm_lock.h"

#include <string.h>

/* --- Making ------------------------------------------------------------------------------------------------------- */

struct cpu *cpu_new(struct machine *m, unsigned index, const struct cpu_model *model)
{
    g_assert(vm_locked());
    struct cpu *cpu = g_new0(struct cpu, 1);
    cpu->machine = m;
    cpu->index = cpu->apic_id = index;
    cpu->boot_processor = index == 0;
    cpu->model = model;
    cpu->memory = &m->memory;
    cpu->ports = &m->ports;
    cpu->tlbs = tlb_set_new();
    cpu->blocks = block_cache_new();
    cpu->view = flat_view_get(m->memory.view);
    cpu->listener.commit = cpu_memory_changed;
    address_space_listen(&m->memory, &cpu->listener);
    uint32_t sizes[4];
    cpu_cpuid(cpu, 0x80000008, 0, sizes);
    cpu->phys_bits = sizes[0] & 0xff;
    cpu->a20_mask = UINT64_MAX;
    cpu->delivering = -1;
    cpu_reset(cpu, false);
    g_autofree char *id = g_strdup_printf("%u", index);
    machine_add_state(m, &cpu_state_table, id, cpu);
    return cpu;
}

void cpu_free(struct cpu *cpu)
{
    if (!cpu)
        return;
    g_assert(vm_locked());
    machine_remove_state(cpu->machine, cpu);
    address_space_unlisten(cpu->memory, &cpu->listener);
    flat_view_put(cpu->view);
    block_cache_free(cpu->blocks);
    tlb_set_free(cpu->tlbs);
    g_free(cpu);
}

void cpu_memory_changed(struct mem_listener *l)
{
    cpu_post(container_of(l, struct cpu, listener), CPU_EVENT_MEMMAP);
}

void cpu_post(struct cpu *cpu, uint32_t events)
{
    cpu_event_set(cpu, events);
    if (cpu->host)
        cpu->host->kick(cpu);
}

/* --- Reset -------------------------------------------------------------------------------------------------------- */

static void reset_segments(struct cpu *cpu)
{
    uint32_t data = SEG_P | SEG_S | SEG_W | SEG_A, code = SEG_P | SEG_S | SEG_X | SEG_R | SEG_A;
    for (enum seg s = SEG_ES; s <= SEG_GS; s++)
        cpu_set_seg(cpu, s, 0, 0, 0xffff, s == SEG_CS ? code : data);
    cpu_set_seg(cpu, SEG_CS, 0xf000, 0xffff0000, 0xffff, code);
    cpu_set_seg(cpu, SEG_LDTR, 0, 0, 0xffff, SEG_P | 2u << SEG_TYPE_SHIFT);
    cpu_set_seg(cpu, SEG_TR, 0, 0, 0xffff, SEG_P | 11u << SEG_TYPE_SHIFT);
    cpu_set_seg(cpu, SEG_FLAT, 0, 0, UINT32_MAX, data);
    cpu_set_seg(cpu, SEG_FLAT_STACK, 0, 0, UINT32_MAX, data);
    cpu->gdtr.base = cpu->idtr.base = 0;
    cpu->gdtr.limit = cpu->idtr.limit = 0xffff;
}

/* What INIT leaves alone. */
static void reset_power_on(struct cpu *cpu)
{
    memset(cpu->v, 0, sizeof cpu->v);
    cpu->mxcsr = MXCSR_RESET;
    cpu->fpu = (struct fpu){ .cw = 0x40, .tag_valid = 0xff };
    cpu->xcr0 = 1;
    cpu_reset_msrs(cpu);
    cpu->smbase = 0x30000;
    cpu->activity = cpu->boot_processor ? CPU_RUNNING : CPU_WAIT_FOR_SIPI;
    cpu->cr0 = CR0_CD | CR0_NW | CR0_ET;
}

void cpu_reset(struct cpu *cpu, bool init)
{
    cpu->insn = NULL;
    if (!init)
        reset_power_on(cpu);
    memset(cpu->r, 0, sizeof cpu->r);
    cpu->rip = 0xfff0;
    uint32_t version[4];
    cpu_cpuid(cpu, 1, 0, version);
    cpu->r[R_RDX] = version[0];
    cpu->rflags = FLAGS_FIXED;
    cpu->cr0 = (cpu->cr0 & (CR0_CD | CR0_NW)) | CR0_ET;
    cpu->cr2 = cpu->cr3 = cpu->cr4 = 0;
    memset(cpu->pdpte, 0, sizeof cpu->pdpte);
    cpu->efer = 0;
    cpu->pkru = 0;
    memset(cpu->dr, 0, sizeof cpu->dr);
    cpu->dr6 = DR6_FIXED;
    cpu->dr7 = DR7_FIXED;
    cpu->dr6_pending = 0;
    cpu->cpl = 0;
    cpu->smm = cpu->nmi_blocked = cpu->shadow_mov_ss = cpu->stepping = cpu->mwait_armed = false;
    cpu->monitor_addr = cpu->monitor_value = 0;
    cpu->delivering = -1;
    cpu->fault_count = 0;
    uint32_t keep = CPU_EVENT_MEMMAP | CPU_EVENT_KICK | (init ? CPU_EVENT_SIPI | CPU_EVENT_SMI | CPU_EVENT_NMI : 0);
    __atomic_fetch_and(&cpu->events, keep, __ATOMIC_SEQ_CST);
    reset_segments(cpu);
    cpu_tlb_flush(cpu);
    cpu_update_mode(cpu);
    if (cpu->apic_ops && init)
        cpu->apic_ops->reset(cpu->apic, true);
}

/* --- Derived state ------------------------------------------------------------------------------------------------ */

static unsigned mode_key(const struct cpu *cpu)
{
    unsigned key = cpu->code_size;
    if (cpu->code_size != 3 && cpu->stack_size == 2)
        key |= MODE_STACK32;
    if (cpu->cr0 & CR0_PE && !cpu_v86(cpu))
        key |= MODE_PROT;
    if (cpu_v86(cpu))
        key |= MODE_V86;
    if (cpu->cpl == 0)
        key |= MODE_CPL0;
    if (cpu->cr0 & (CR0_EM | CR0_TS))
        key |= MODE_FPU_NM;
    if (cpu->cr0 & CR0_TS)
        key |= MODE_TS;
    if (cpu->cr0 & CR0_EM)
        key |= MODE_EM;
    if (cpu->cr0 & CR0_MP)
        key |= MODE_MP;
    if (cpu->cr4 & CR4_OSFXSR)
        key |= MODE_SSE;
    if (key & MODE_PROT && cpu->cr4 & CR4_OSXSAVE && (cpu->xcr0 & 6) == 6)
        key |= MODE_AVX;
    if (cpu_long(cpu))
        key |= MODE_LONG;
    if (cpu->code_size == 3 || (cpu->seg[SEG_CS].base == 0 && cpu->seg[SEG_CS].limit == UINT32_MAX))
        key |= MODE_FLAT;
    return key;
}

void cpu_update_mode(struct cpu *cpu)
{
    uint32_t cs = cpu->seg[SEG_CS].attr, ss = cpu->seg[SEG_SS].attr;
    cpu->code_size = cpu_long(cpu) && cs & SEG_L ? 3 : cs & SEG_DB && !cpu_v86(cpu) ? 2 : 1;
    cpu->stack_size = cpu->code_size == 3 ? 3 : ss & SEG_DB && !cpu_v86(cpu) ? 2 : 1;
    cpu->mode_key = mode_key(cpu);
    cpu_tlb_switch(cpu);
    bool step = cpu->rflags & (FLAG_TF | FLAG_RF) || (cpu->dr7 & 0xff && debug_has(cpu, DEBUG_EXEC));
    bool stepping = __atomic_load_n(&cpu->events, __ATOMIC_RELAXED) & CPU_EVENT_STEP;
    if (step && !stepping)
        cpu_event_set(cpu, CPU_EVENT_STEP);
    else if (!step && stepping)
        cpu_event_clear(cpu, CPU_EVENT_STEP);
}

void cpu_refresh(struct cpu *cpu)
{
    cpu->insn = NULL;
    for (enum seg s = 0; s < SEG_COUNT; s++) {
        const struct segment *seg = &cpu->seg[s];
        cpu_set_seg(cpu, s, seg->selector, seg->base, seg->limit, seg->attr);
    }
    cpu->r[R_ZERO] = 0;
    cpu_tlb_flush(cpu);
    cpu_update_mode(cpu);
    cpu_event_set(cpu, CPU_EVENT_MEMMAP | CPU_EVENT_INTR);
}

/* --- Saved state -------------------------------------------------------------------------------------------------- */

static const struct state_field segment_fields[] = {
    STATE_FIELD(STATE_U64, struct segment, base),
    STATE_FIELD(STATE_U32, struct segment, limit),
    STATE_FIELD(STATE_U32, struct segment, attr),
    STATE_FIELD(STATE_U16, struct segment, selector),
    STATE_FIELDS_END,
};

static const struct state_field float80_fields[] = {
    STATE_FIELD(STATE_U64, struct float80, mant),
    STATE_FIELD(STATE_U16, struct float80, sexp),
    STATE_FIELDS_END,
};

static const struct state_field fpu_fields[] = {
    STATE_NESTED_ARRAY(struct fpu, st, float80_fields),
    STATE_FIELD(STATE_U16, struct fpu, cw),
    STATE_FIELD(STATE_U16, struct fpu, sw),
    STATE_FIELD(STATE_U8, struct fpu, top),
    STATE_FIELD(STATE_U8, struct fpu, tag_valid),
    STATE_FIELD(STATE_U16, struct fpu, opcode),
    STATE_FIELD(STATE_U64, struct fpu, ip),
    STATE_FIELD(STATE_U64, struct fpu, dp),
    STATE_FIELD(STATE_U16, struct fpu, cs),
    STATE_FIELD(STATE_U16, struct fpu, ds),
    STATE_FIELDS_END,
};

static const struct state_field vec_fields[] = {
    STATE_ARRAY(STATE_U64, union vec, u64),
    STATE_FIELDS_END,
};

#define CPU_U64(member) STATE_FIELD(STATE_U64, struct cpu, member)
#define CPU_U64S(member) STATE_ARRAY(STATE_U64, struct cpu, member)
static const struct state_field cpu_fields[] = {
    CPU_U64S(r), CPU_U64(rflags),
    STATE_FIELD(STATE_U32, struct cpu, saved_events),
    STATE_FIELD(STATE_U8, struct cpu, cpl),
    STATE_NESTED_ARRAY(struct cpu, seg, segment_fields),
    STATE_NESTED_ARRAY(struct cpu, v, vec_fields),
    STATE_FIELD(STATE_U32, struct cpu, mxcsr),
    STATE_NESTED(struct cpu, fpu, fpu_fields),
    CPU_U64(xcr0), CPU_U64(xss),
    STATE_FIELD(STATE_U32, struct cpu, pkru),
    CPU_U64(cr0), CPU_U64(cr2), CPU_U64(cr3), CPU_U64(cr4), CPU_U64S(pdpte), CPU_U64(efer),
    CPU_U64(gdtr.base), STATE_FIELD(STATE_U16, struct cpu, gdtr.limit),
    CPU_U64(idtr.base), STATE_FIELD(STATE_U16, struct cpu, idtr.limit),
    CPU_U64S(dr), CPU_U64(dr6), CPU_U64(dr7), CPU_U64(dr6_pending), CPU_U64(a20_mask),
    STATE_FIELD(STATE_U32, struct cpu, activity),
    STATE_FIELD(STATE_BOOL, struct cpu, smm),
    STATE_FIELD(STATE_BOOL, struct cpu, nmi_blocked),
    STATE_FIELD(STATE_BOOL, struct cpu, shadow_mov_ss),
    STATE_FIELD(STATE_BOOL, struct cpu, mwait_armed),
    CPU_U64(monitor_addr), CPU_U64(monitor_value),
    CPU_U64(star), CPU_U64(lstar), CPU_U64(cstar), CPU_U64(sfmask), CPU_U64(kernel_gs_base),
    CPU_U64(sysenter_cs), CPU_U64(sysenter_esp), CPU_U64(sysenter_eip),
    CPU_U64(pat), CPU_U64(tsc_offset), CPU_U64(tsc_adjust), CPU_U64(tsc_aux), CPU_U64(misc_enable),
    CPU_U64(spec_ctrl), CPU_U64(debugctl),
    CPU_U64(mtrr_def_type), CPU_U64S(mtrr_base), CPU_U64S(mtrr_mask), CPU_U64S(mtrr_fixed),
    CPU_U64(mcg_status), CPU_U64(mcg_ctl),
    { .name = "mc_bank", .type = STATE_U64, .offset = offsetof(struct cpu, mc_bank),
      .count = sizeof ((struct cpu *)0)->mc_bank / sizeof(uint64_t) },
    CPU_U64(smbase), CPU_U64(feature_control),
    CPU_U64(pv_system_time), CPU_U64(pv_wall_clock), CPU_U64(pv_steal_time), CPU_U64(pv_eoi), CPU_U64(steal_ns),
    STATE_FIELD(STATE_BOOL, struct cpu, pv_unhalted),
    STATE_FIELD(STATE_U8, struct cpu, sipi_vector),
    CPU_U64(insn_count),
    STATE_FIELDS_END,
};

/* Only bits of cpu->events that belong to the guest are state. */
#define SAVED_EVENTS \
    (CPU_EVENT_NMI | CPU_EVENT_SMI | CPU_EVENT_INIT | CPU_EVENT_SIPI | CPU_EVENT_TRAP | CPU_EVENT_SHADOW)

static void cpu_pre_save(void *instance)
{
    struct cpu *cpu = instance;
    cpu->saved_events = __atomic_load_n(&cpu->events, __ATOMIC_SEQ_CST) & SAVED_EVENTS;
}

static bool cpu_post_load(void *instance, uint8_t version, GError **err)
{
    struct cpu *cpu = instance;
    if (cpu->cpl > 3 || cpu->activity > CPU_SHUTDOWN || cpu->fpu.top > 7) {
        g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "the saved state of processor %u has a value out of range; it was not made by this program",
                    cpu->index);
        return false;
    }
    /*
     * A kick that came while the processor halted is still to be noticed; the APIC posts its interrupts when it is
     * loaded.
     */
    uint32_t unhalt = cpu->pv_unhalted ? CPU_EVENT_UNHALT : 0;
    __atomic_store_n(&cpu->events, (cpu->saved_events & SAVED_EVENTS) | unhalt, __ATOMIC_SEQ_CST);
    cpu->rflags = (cpu->rflags & FLAGS_DEFINED) | FLAGS_FIXED;
    cpu_refresh(cpu);
    return true;
}

const struct state_table cpu_state_table = {
    .name = "cpu", .version = 1, .fields = cpu_fields, .pre_save = cpu_pre_save, .post_load = cpu_post_load
};

/* --- Printing ----------------------------------------------------------------------------------------------------- */

void cpu_print(const struct cpu *cpu, GString *out)
{
    static const char *const names[] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                         "r8 ", "r9 ", "r10", "r11", "r12", "r13", "r14", "r15" };
    static const char *const segs[] = { "es", "cs", "ss", "ds", "fs", "gs", "ldt", "tr" };
    for (unsigned k = 0; k < 16; k++)
        g_string_append_printf(out, "%s %016" PRIx64 "%s", names[k], cpu->r[k], k % 4 == 3 ? "\n" : "  ");
    g_string_append_printf(out, "rip %016" PRIx64 "  rflags %08" PRIx64 "  cpl %u  %u-bit%s%s\n", cpu_rip(cpu),
                           cpu->rflags, cpu->cpl, 8u << cpu->code_size, cpu->smm ? "  smm" : "",
                           cpu->activity == CPU_HALTED ? "  halted" : "");
    for (unsigned k = 0; k <= SEG_TR; k++)
        g_string_append_printf(out, "%-3s %04x base %016" PRIx64 " limit %08x attr %06x\n", segs[k],
                               cpu->seg[k].selector, cpu->seg[k].base, cpu->seg[k].limit, cpu->seg[k].attr);
    g_string_append_printf(out, "gdt %016" PRIx64 " %04x  idt %016" PRIx64 " %04x\n", cpu->gdtr.base, cpu->gdtr.limit,
                           cpu->idtr.base, cpu->idtr.limit);
    g_string_append_printf(out, "cr0 %08" PRIx64 "  cr2 %016" PRIx64 "  cr3 %016" PRIx64 "  cr4 %08" PRIx64
                                "  efer %04" PRIx64 "\n",
                           cpu->cr0, cpu->cr2, cpu->cr3, cpu->cr4, cpu->efer);
    g_string_append_printf(out, "dr0 %016" PRIx64 "  dr1 %016" PRIx64 "  dr2 %016" PRIx64 "  dr3 %016" PRIx64
                                "  dr6 %08" PRIx64 "  dr7 %08" PRIx64,
                           cpu->dr[0], cpu->dr[1], cpu->dr[2], cpu->dr[3], cpu->dr6, cpu->dr7);
}
