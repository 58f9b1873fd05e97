/*
 * Runs one instruction by one of our engines on a small machine: 2 MiB of RAM, long mode, CPL 3, the test's data and code pages mapped
 * where the host has them, everything of ring 0 in the upper half of the address space. Each interrupt gate leads to
 * a HLT of its own, so the place where the processor halts tells the vector and the stack the rest.
 */
#include "accel/vcpu.h"
#include "cpu/mem.h"
#include "hw/core/machine.h"
#include "hw/core/vm_lock.h"
#include "tests/lib/oracle.h"

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#define KERNEL UINT64_C(0xffff800000000000) /* linear address of physical 0 */
#define RAM_BYTES (2u << 20)

/* Physical layout */
enum {
    PHYS_PML4 = 0x1000,
    PHYS_PDPT_KERNEL = 0x2000,
    PHYS_PD_KERNEL = 0x3000,
    PHYS_PDPT_USER = 0x4000,
    PHYS_PD_USER = 0x5000, /* of the gigabyte with data and code */
    PHYS_PT_DATA = 0x6000,
    PHYS_PT_CODE = 0x7000,
    PHYS_GDT = 0x8000,
    PHYS_IDT = 0x9000,
    PHYS_TSS = 0xa000,
    PHYS_HANDLERS = 0xb000,
    PHYS_STACK = 0xd000, /* top */
    PHYS_DATA = 0x40000,
    PHYS_CODE = 0x60000,
};

enum {
    SEL_KERNEL_CS = 0x8,
    SEL_KERNEL_DS = 0x10,
    SEL_USER_CS32 = 0x23,
    SEL_USER_DS = 0x2b,
    SEL_USER_CS = 0x33,
    SEL_TSS = 0x40,
};

#define ATTR_DATA (SEG_P | SEG_S | SEG_W | SEG_A | SEG_DB | SEG_G)
#define ATTR_CODE (SEG_P | SEG_S | SEG_X | SEG_R | SEG_A | SEG_G)
#define ATTR_DPL3 (3u << SEG_DPL_SHIFT)

struct oracle_guest {
    struct machine *m;
    const char *engine;
    bool jit, precise;
    struct ram_block *ram;
    struct mem_region region;
    struct cpu_model *model;
    struct cpu *cpu;
    uint8_t *mem; /* host address of physical 0 */
    uint8_t mode; /* that the processor is in */
    bool stack16;
};

static void put64(struct oracle_guest *g, unsigned phys, uint64_t v)
{
    v = GUINT64_TO_LE(v);
    memcpy(g->mem + phys, &v, sizeof v);
}

static uint64_t get64(const struct oracle_guest *g, unsigned phys)
{
    uint64_t v;
    memcpy(&v, g->mem + phys, sizeof v);
    return GUINT64_FROM_LE(v);
}

enum { PTE_P = 1, PTE_W = 2, PTE_U = 4, PTE_AD = 0x60, PTE_PS = 0x80 };

static void build_paging(struct oracle_guest *g)
{
    unsigned table = PTE_P | PTE_W | PTE_U | PTE_AD;

    put64(g, PHYS_PML4 + 8 * 256, PHYS_PDPT_KERNEL | table);
    put64(g, PHYS_PDPT_KERNEL, PHYS_PD_KERNEL | table);
    put64(g, PHYS_PD_KERNEL, PTE_P | PTE_W | PTE_AD | PTE_PS);
    put64(g, PHYS_PML4, PHYS_PDPT_USER | table);
    put64(g, PHYS_PDPT_USER + 8 * (ORACLE_DATA >> 30), PHYS_PD_USER | table);
    put64(g, PHYS_PD_USER + 8 * (ORACLE_DATA >> 21 & 511), PHYS_PT_DATA | table);
    put64(g, PHYS_PD_USER + 8 * (ORACLE_CODE >> 21 & 511), PHYS_PT_CODE | table);
    for (unsigned p = 0; p < ORACLE_DATA_PAGES; p++) {
        if (oracle_page_kind(p) == ORACLE_HOLE)
            continue;
        unsigned writable = oracle_page_kind(p) == ORACLE_RW ? PTE_W : 0;
        put64(g, PHYS_PT_DATA + 8 * ((ORACLE_DATA >> 12 & 511) + p),
              (PHYS_DATA + p * ORACLE_PAGE) | PTE_P | PTE_U | PTE_AD | writable);
    }
    for (unsigned p = 0; p < ORACLE_CODE_BYTES / ORACLE_PAGE; p++)
        put64(g, PHYS_PT_CODE + 8 * ((ORACLE_CODE >> 12 & 511) + p),
              (PHYS_CODE + p * ORACLE_PAGE) | PTE_P | PTE_U | PTE_AD);
}

static void put_descriptor(struct oracle_guest *g, unsigned selector, uint32_t attr)
{
    put64(g, PHYS_GDT + (selector & ~7u), (uint64_t)(attr | 0xf0000) << 32 | 0xffff);
}

static void build_tables(struct oracle_guest *g)
{
    put_descriptor(g, SEL_KERNEL_CS, ATTR_CODE | SEG_L);
    put_descriptor(g, SEL_KERNEL_DS, ATTR_DATA);
    put_descriptor(g, SEL_USER_CS32, ATTR_CODE | SEG_DB | ATTR_DPL3);
    put_descriptor(g, SEL_USER_DS, ATTR_DATA | ATTR_DPL3);
    put_descriptor(g, SEL_USER_CS, ATTR_CODE | SEG_L | ATTR_DPL3);
    for (unsigned v = 0; v < 256; v++) {
        uint64_t at = KERNEL + PHYS_HANDLERS + v;
        unsigned dpl = v == EXC_BP || v == EXC_OF ? 3 : 0;
        put64(g, PHYS_IDT + 16 * v, (at & 0xffff) | SEL_KERNEL_CS << 16 | UINT64_C(0x8e00) << 32 | (uint64_t)dpl << 45 |
                                        (at >> 16 & 0xffff) << 48);
        put64(g, PHYS_IDT + 16 * v + 8, at >> 32);
        g->mem[PHYS_HANDLERS + v] = 0xf4; /* HLT */
    }
    memset(g->mem + PHYS_CODE, 0xcc, ORACLE_CODE_BYTES);
    put64(g, PHYS_TSS + 4, KERNEL + PHYS_STACK);
    put64(g, PHYS_TSS + 0x60, UINT64_C(0xffff) << 48); /* no I/O permission bitmap */
}

static void set_own_segment(struct cpu *cpu, enum seg r, const struct oracle_segment *s)
{
    uint32_t attr = SEG_P | SEG_S | SEG_A | ATTR_DPL3 | (s->big ? SEG_DB : 0);
    if (s->code)
        attr |= SEG_X | (s->read_only ? 0 : SEG_R);
    else
        attr |= (s->expand_down ? SEG_E : 0) | (s->read_only ? 0 : SEG_W);
    cpu_set_seg(cpu, r, s->selector, s->base, s->limit, attr);
}

static void set_flat_segments(struct cpu *cpu, bool code32)
{
    uint32_t data = ATTR_DATA | ATTR_DPL3;

    cpu_set_seg(cpu, SEG_CS, code32 ? SEL_USER_CS32 : SEL_USER_CS, 0, UINT32_MAX,
                ATTR_CODE | ATTR_DPL3 | (code32 ? SEG_DB : SEG_L));
    cpu_set_seg(cpu, SEG_SS, SEL_USER_DS, 0, UINT32_MAX, data);
    cpu_set_seg(cpu, SEG_DS, SEL_USER_DS, 0, UINT32_MAX, data);
    cpu_set_seg(cpu, SEG_ES, SEL_USER_DS, 0, UINT32_MAX, data);
    cpu_set_seg(cpu, SEG_GS, 0, ORACLE_GS_BASE, 0, 0);
}

static void set_mode(struct oracle_guest *g, enum oracle_mode mode, bool stack16)
{
    struct cpu *cpu = g->cpu;

    cpu->cpl = 3;
    if (oracle_segmented(mode)) {
        static const uint8_t used[] = { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_GS };
        for (unsigned n = 0; n < G_N_ELEMENTS(used); n++)
            set_own_segment(cpu, used[n], oracle_segment(mode, stack16, used[n]));
    } else {
        set_flat_segments(cpu, mode == ORACLE_32);
    }
    cpu_set_seg(cpu, SEG_FS, 0, 0, 0, 0);
    cpu->activity = CPU_RUNNING;
    cpu_update_mode(cpu);
}

static void run_exclusive(struct cpu *cpu, void (*fn)(struct cpu *cpu, void *arg), void *arg)
{
    fn(cpu, arg);
}

static void no_kick(struct cpu *cpu)
{
}

static const struct cpu_host_ops host_ops = { .exclusive = run_exclusive, .kick = no_kick };

static bool start_engine(struct oracle_guest *g)
{
    const char *preferences[] = { g->engine, NULL };
    GError *err = NULL;

    if (!g->jit || (accel_init(g->m, preferences, &err) && engine_init_vcpus(g->m->accel->engine, &err)))
        return true;
    printf("# %s: %s\n", g->engine, err->message);
    g_error_free(err);
    return false;
}

struct oracle_guest *oracle_guest_new(const char *engine)
{
    struct oracle_guest *g = g_new0(struct oracle_guest, 1);
    GError *err = NULL;

    g->engine = engine;
    g->jit = strcmp(engine, "interp") != 0;
    g->precise = !g->jit || strstr(engine, "flags=precise");
    vm_lock();
    g->m = machine_new(true);
    g->ram = ram_block_new("test.ram", RAM_BYTES, NULL, &err);
    g_assert_no_error(err);
    mem_init_ram(&g->region, NULL, "ram", g->ram, 0, RAM_BYTES);
    mem_map(&g->m->memory_root, 0, &g->region, 0);
    g->mem = g->ram->host;
    build_paging(g);
    build_tables(g);
    g->model = cpu_model_parse("max", &err);
    g_assert_no_error(err);
    g->m->cpu_count = 1;
    g->m->cpus = g_new0(struct cpu *, 1);
    struct cpu *cpu = g->cpu = g->m->cpus[0] = cpu_new(g->m, 0, g->model);
    cpu->host = &host_ops;
    cpu->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG;
    cpu->cr3 = PHYS_PML4;
    cpu->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE | CR4_FSGSBASE;
    cpu->efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
    cpu->xcr0 = 7;
    cpu->gdtr.base = KERNEL + PHYS_GDT;
    cpu->gdtr.limit = 0xfff;
    cpu->idtr.base = KERNEL + PHYS_IDT;
    cpu->idtr.limit = 0xfff;
    cpu_set_seg(cpu, SEG_TR, SEL_TSS, KERNEL + PHYS_TSS, 0x67, SEG_P | 11u << SEG_TYPE_SHIFT);
    set_mode(g, ORACLE_64, false);
    cpu_refresh(cpu);
    cpu_event_clear(cpu, CPU_EVENT_INTR | CPU_EVENT_MEMMAP);
    bool good = start_engine(g);
    vm_unlock();
    if (good)
        return g;
    oracle_guest_free(g);
    return NULL;
}

void oracle_guest_free(struct oracle_guest *g)
{
    if (!g)
        return;
    vm_lock();
    if (g->m->accel) {
        engine_fini_vcpus(g->m->accel->engine);
        accel_fini(g->m);
    }
    cpu_free(g->cpu);
    cpu_model_free(g->model);
    mem_unmap(&g->region);
    mem_fini(&g->region);
    machine_free(g->m);
    ram_block_free(g->ram);
    vm_unlock();
    g_free(g);
}

struct cpu *oracle_guest_cpu(struct oracle_guest *g)
{
    return g->cpu;
}

/* --- State in and out --------------------------------------------------------------------------------------------- */

static void load_regs(struct cpu *cpu, const struct oracle_regs *in)
{
    memcpy(cpu->r, in->r, sizeof in->r);
    cpu->r[R_ZERO] = 0;
    cpu->rip = in->rip;
    cpu->insn = NULL;
    cpu->rflags = in->rflags;
    memcpy(cpu->v, in->v, sizeof cpu->v);
    cpu->mxcsr = in->mxcsr;
    cpu->fpu.cw = in->fcw;
    cpu->fpu.top = in->fsw >> 11 & 7;
    cpu->fpu.sw = in->fsw & ~0x3800;
    cpu->fpu.tag_valid = in->ftag;
    cpu->fpu.opcode = in->fop;
    cpu->fpu.ip = in->fip;
    cpu->fpu.dp = in->fdp;
    for (unsigned n = 0; n < 8; n++)
        cpu->fpu.st[(cpu->fpu.top + n) & 7] = in->st[n];
}

static void store_regs(const struct cpu *cpu, struct oracle_regs *out)
{
    memset(out, 0, sizeof *out);
    memcpy(out->r, cpu->r, sizeof out->r);
    out->rip = cpu->rip;
    out->rflags = cpu->rflags & ~(uint64_t)(FLAG_RF | FLAG_TF);
    memcpy(out->v, cpu->v, sizeof out->v);
    out->mxcsr = cpu->mxcsr;
    out->fcw = cpu->fpu.cw;
    out->fsw = (cpu->fpu.sw & ~0x3800) | cpu->fpu.top << 11;
    out->ftag = cpu->fpu.tag_valid;
    out->fop = cpu->fpu.opcode;
    out->fip = cpu->fpu.ip;
    out->fdp = cpu->fpu.dp;
    for (unsigned n = 0; n < 8; n++)
        out->st[n] = cpu->fpu.st[(cpu->fpu.top + n) & 7];
}

/* The code pages, which instructions may read as data, are full of INT3 on both sides. */
static void put_code(struct oracle_guest *g, const struct oracle_case *c, const uint8_t *bytes)
{
    unsigned offset = oracle_code_offset(c);
    ram_note_write(g->ram, PHYS_CODE + offset, c->len);
    memcpy(g->mem + PHYS_CODE + offset, bytes, c->len);
}

static void load_memory(struct oracle_guest *g, const struct oracle_case *c)
{
    for (unsigned p = 0; p < ORACLE_DATA_PAGES; p++)
        if (oracle_page_kind(p) != ORACLE_HOLE)
            memcpy(g->mem + PHYS_DATA + p * ORACLE_PAGE, c->memory + p * ORACLE_PAGE, ORACLE_PAGE);
    put_code(g, c, c->code);
    bool other_ac = (g->cpu->rflags ^ c->in.rflags) & FLAG_AC;
    load_regs(g->cpu, &c->in);
    if (c->mode != g->mode || c->stack16 != g->stack16 || g->cpu->cpl != 3 || other_ac)
        set_mode(g, c->mode, c->stack16);
    g->mode = c->mode;
    g->stack16 = c->stack16;
}

static void store_memory(struct oracle_guest *g, const struct oracle_case *c, struct oracle_outcome *out)
{
    static const uint8_t int3[16] = { 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc,
                                      0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc };
    put_code(g, c, int3);
    for (unsigned p = 0; p < ORACLE_DATA_PAGES; p++)
        if (oracle_page_kind(p) == ORACLE_RW)
            memcpy(out->memory + p * ORACLE_PAGE, g->mem + PHYS_DATA + p * ORACLE_PAGE, ORACLE_PAGE);
}

/* The interrupt frame on the ring 0 stack. */
static void take_fault(struct oracle_guest *g, struct oracle_outcome *out)
{
    struct cpu *cpu = g->cpu;
    bool halted = cpu->activity == CPU_HALTED; /* a trap counts as an instruction: the HLT does not come any more */
    unsigned vector = (unsigned)(cpu->rip - halted - (KERNEL + PHYS_HANDLERS));
    unsigned sp = (unsigned)(cpu->r[R_RSP] - KERNEL);
    bool has_error = vector == EXC_DF || (vector >= EXC_TS && vector <= EXC_PF) || vector == EXC_AC;

    cpu_event_clear(cpu, CPU_EVENT_KICK); /* of the HLT */
    g_assert_cmpuint(vector, <, 256);
    out->vector = (int)vector;
    out->error = has_error ? (uint32_t)get64(g, sp) : 0;
    if (has_error)
        sp += 8;
    out->address = cpu->cr2;
    out->regs.rip = get64(g, sp);
    out->regs.rflags = get64(g, sp + 16) & ~(uint64_t)(FLAG_RF | FLAG_TF);
    out->regs.r[R_RSP] = get64(g, sp + 24);
}

void oracle_guest_run(struct oracle_guest *g, const struct oracle_case *c, struct oracle_outcome *out)
{
    load_memory(g, c);
    out->who = g->engine;
    out->way = ORACLE_BY_INTERPRETER;
    out->stale = 0;
    if (g->jit)
        out->way = oracle_jit_step(g->cpu, c->insn.row);
    else
        cpu_interp_run(g->cpu, 1);
    store_regs(g->cpu, &out->regs);
    out->vector = -1;
    out->error = 0;
    out->address = 0;
    if (g->cpu->cpl == 0)
        take_fault(g, out);
    if (out->vector >= 0 && !g->precise)
        out->stale = insn_row(&c->insn)->flags_written & FLAGS_ARITH;
    store_memory(g, c, out);
}

void oracle_guest_call(struct oracle_guest *g, const struct oracle_case *c, op_fn *fn, struct oracle_outcome *out)
{
    struct cpu *cpu = g->cpu;
    struct insn insn = c->insn;
    sigjmp_buf here;

    load_memory(g, c);
    insn.end = insn.len;
    insn.fn = fn;
    if (insn.base == R_RIP)
        insn.disp += insn.end;
    cpu->insn = &insn;
    cpu->unwind = &here;
    out->who = "handler";
    out->way = ORACLE_BY_HANDLER;
    out->stale = 0;
    out->vector = -1;
    out->error = 0;
    out->address = 0;
    if (sigsetjmp(here, 0) == 0) {
        fn(cpu, &insn);
        if (cpu->insn)
            cpu->rip = insn_next_rip(cpu, &insn);
    } else {
        out->vector = cpu->raised.vector;
        out->error = cpu->raised.has_error ? cpu->raised.error : 0;
        out->address = cpu->raised.address;
    }
    cpu->insn = NULL;
    store_regs(cpu, &out->regs);
    store_memory(g, c, out);
}
