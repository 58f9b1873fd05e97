/*
 * The machine that random blocks run on: one processor, 32 pages of RAM, nothing else; in any mode, at CPL 0 or 3.
 *
 * An engine is asked for as -accel would and then called on this thread, without vCPU threads: nothing disturbs it but
 * a watchdog that kicks a processor that does not come to its HLT.
 */
#include "accel/vcpu.h"
#include "cpu/debug.h"
#include "cpu/mem.h"
#include "hw/core/event.h"
#include "hw/core/machine.h"
#include "hw/core/vm_lock.h"
#include "tests/lib/blocks.h"
#include "tests/lib/time_scale.h"

#include <string.h>

const char *const blocks_mode_names[BLOCKS_MODES] = { "long", "compat", "prot", "seg32", "seg16", "v86", "real" };

#define KERNEL64 UINT64_C(0xffff800000200000) /* linear addresses of physical 0, for supervisors only */
#define KERNEL32 UINT64_C(0xc0200000)

enum {
    GDT = PAGE_DESCRIPTORS * BLOCKS_PAGE,
    TSS64 = GDT + 0x400,
    TSS32 = GDT + 0x500,
    PDPT_PAE = GDT + 0x800,
};

enum {
    SEL_KERNEL_CS = 0x08,
    SEL_KERNEL_DS = 0x10,
    SEL_USER_CS32 = 0x1b,
    SEL_USER_DS = 0x23,
    SEL_USER_CS = 0x2b,
    SEL_TSS64 = 0x30,
    SEL_KERNEL_CS32 = 0x40,
    SEL_TSS32 = 0x48,
    SEL_OWN = 0x80, /* own_segments, DPL 0; then, with DPL 3: */
    SEL_OWN3 = 0xc3,
};

#define ATTR_DATA (SEG_P | SEG_S | SEG_W | SEG_A | SEG_DB | SEG_G)
#define ATTR_CODE (SEG_P | SEG_S | SEG_X | SEG_R | SEG_A | SEG_G)
#define ATTR_OWN (SEG_P | SEG_S | SEG_A)

/* Each has a base, and a limit or a type that some accesses run into. */
static const struct {
    uint32_t base, limit, attr;
} own_segments[] = {
    { PAGE_CODE * BLOCKS_PAGE, 3 * BLOCKS_PAGE - 1, ATTR_OWN | SEG_X | SEG_R },          /* 16-bit code */
    { PAGE_CODE * BLOCKS_PAGE, 3 * BLOCKS_PAGE - 1, ATTR_OWN | SEG_X | SEG_R | SEG_DB }, /* 32-bit code */
    { 0xb010, 0xffe0, ATTR_OWN | SEG_W | SEG_DB },
    { 0xb020, 0x50ff, ATTR_OWN | SEG_W | SEG_E | SEG_DB },
    { 0x0ff0, 0x1ffff, ATTR_OWN | SEG_W | SEG_DB },
    { 0x10100, 0xffff, ATTR_OWN | SEG_W },
    { 0x10f00, 0x5fff, ATTR_OWN | SEG_DB }, /* read-only */
    { 0, UINT32_MAX, ATTR_OWN | SEG_W | SEG_DB | SEG_G },
};
enum { OWN_CODE16, OWN_CODE32, OWN_DATA, OWN_DOWN, OWN_STACK32, OWN_STACK16, OWN_READ_ONLY, OWN_FLAT };

/* --- Memory ------------------------------------------------------------------------------------------------------- */

enum blocks_page blocks_page_kind(unsigned page)
{
    static const uint8_t kinds[] = { BLOCKS_HOLE, BLOCKS_RW,    BLOCKS_RW,    BLOCKS_HOLE, BLOCKS_RW,   BLOCKS_RO,
                                     BLOCKS_SUPER, BLOCKS_FRESH, BLOCKS_CODE, BLOCKS_ALIAS, BLOCKS_DEVICE };
    return page < PAGE_DATA || page >= PAGE_DATA_END ? BLOCKS_HOLE : kinds[page - PAGE_DATA];
}

static void put64(uint8_t *mem, unsigned phys, uint64_t v)
{
    v = GUINT64_TO_LE(v);
    memcpy(mem + phys, &v, sizeof v);
}

static uint64_t get64(const uint8_t *mem, unsigned phys)
{
    uint64_t v;
    memcpy(&v, mem + phys, sizeof v);
    return GUINT64_FROM_LE(v);
}

enum { PTE_P = 1, PTE_W = 2, PTE_U = 4, PTE_AD = 0x60 };
#define PTE_NX (UINT64_C(1) << 63)

static uint64_t data_entry(unsigned page)
{
    uint64_t at = page * BLOCKS_PAGE, user = PTE_P | PTE_U | PTE_AD;
    switch (blocks_page_kind(page)) {
    case BLOCKS_HOLE: return 0;
    case BLOCKS_RW: return at | user | PTE_W | (page == PAGE_DATA + 4 ? 0 : PTE_NX);
    case BLOCKS_RO: return at | user;
    case BLOCKS_SUPER: return at | PTE_P | PTE_W | PTE_AD;
    case BLOCKS_FRESH: return at | PTE_P | PTE_W | PTE_U;
    case BLOCKS_DEVICE: return BLOCKS_DEVICE_PHYS | user | PTE_W | PTE_NX;
    case BLOCKS_CODE: return PAGE_CODE * BLOCKS_PAGE | user | PTE_W;
    case BLOCKS_ALIAS: return (PAGE_DATA + 1) * BLOCKS_PAGE | user | PTE_W;
    }
    return 0;
}

static void build_paging(uint8_t *mem)
{
    static const uint16_t upper[] = { 0, 255, 256, 511 }, middle[] = { 0, 1, 3, 511 };
    unsigned table = PTE_P | PTE_W | PTE_U | PTE_AD;

    for (unsigned n = 0; n < 4; n++) {
        put64(mem, PAGE_PML4 * BLOCKS_PAGE + 8u * upper[n], PAGE_PDPT * BLOCKS_PAGE | table);
        put64(mem, PAGE_PDPT * BLOCKS_PAGE + 8u * middle[n], PAGE_PD * BLOCKS_PAGE | table);
        put64(mem, PDPT_PAE + 8 * n, PAGE_PD * BLOCKS_PAGE | PTE_P);
    }
    put64(mem, PAGE_PD * BLOCKS_PAGE, PAGE_PT * BLOCKS_PAGE | table);
    put64(mem, PAGE_PD * BLOCKS_PAGE + 8, PAGE_PT * BLOCKS_PAGE | PTE_P | PTE_W | PTE_AD);
    for (unsigned p = 0; p < PAGE_DATA_END; p++) {
        uint64_t entry = p * BLOCKS_PAGE | PTE_P | PTE_W | PTE_AD | (p >= PAGE_CODE ? PTE_U : 0);
        if (p >= PAGE_DATA || p == PAGE_CODE_END)
            entry = data_entry(p);
        put64(mem, PAGE_PT * BLOCKS_PAGE + 8 * p, entry);
    }
}

static void put_descriptor(uint8_t *mem, unsigned selector, uint32_t base, uint32_t limit, uint32_t attr)
{
    uint32_t l = attr & SEG_G ? limit >> 12 : limit;
    put64(mem, GDT + (selector & ~7u),
          (uint64_t)(attr | (l & 0xf0000) | (base >> 16 & 0xff) | (base & 0xff000000)) << 32 | base << 16 |
              (l & 0xffff));
}

static void build_gdt(uint8_t *mem)
{
    uint32_t dpl3 = 3u << SEG_DPL_SHIFT, tss = SEG_P | 11u << SEG_TYPE_SHIFT;

    put_descriptor(mem, SEL_KERNEL_CS, 0, UINT32_MAX, ATTR_CODE | SEG_L);
    put_descriptor(mem, SEL_KERNEL_DS, 0, UINT32_MAX, ATTR_DATA);
    put_descriptor(mem, SEL_USER_CS32, 0, UINT32_MAX, ATTR_CODE | SEG_DB | dpl3);
    put_descriptor(mem, SEL_USER_DS, 0, UINT32_MAX, ATTR_DATA | dpl3);
    put_descriptor(mem, SEL_USER_CS, 0, UINT32_MAX, ATTR_CODE | SEG_L | dpl3);
    put_descriptor(mem, SEL_TSS64, (uint32_t)KERNEL64 + TSS64, 0x67, tss);
    put64(mem, GDT + SEL_TSS64 + 8, KERNEL64 >> 32);
    put_descriptor(mem, SEL_KERNEL_CS32, 0, UINT32_MAX, ATTR_CODE | SEG_DB);
    put_descriptor(mem, SEL_TSS32, (uint32_t)KERNEL32 + TSS32, 0x67, tss);
    for (unsigned n = 0; n < G_N_ELEMENTS(own_segments); n++) {
        put_descriptor(mem, SEL_OWN + 8 * n, own_segments[n].base, own_segments[n].limit, own_segments[n].attr);
        put_descriptor(mem, SEL_OWN3 + 8 * n, own_segments[n].base, own_segments[n].limit, own_segments[n].attr | dpl3);
    }
    put64(mem, TSS64 + 4, KERNEL64 + (PAGE_STACK0 + 1) * BLOCKS_PAGE);
    put64(mem, TSS64 + 0x24, KERNEL64 + (PAGE_STACK_DF + 1) * BLOCKS_PAGE);
    put64(mem, TSS64 + 0x60, UINT64_C(0xffff) << 48); /* no I/O permission bitmap */
    put64(mem, TSS32 + 4, ((uint32_t)KERNEL32 + (PAGE_STACK0 + 1) * BLOCKS_PAGE) | (uint64_t)SEL_KERNEL_DS << 32);
    put64(mem, TSS32 + 0x60, UINT64_C(0xffff) << 48);
}

/* Each vector leads to a HLT of its own. */
static void build_idt(uint8_t *mem)
{
    unsigned handlers = PAGE_HANDLERS * BLOCKS_PAGE;

    memset(mem + handlers, 0xf4, BLOCKS_PAGE);
    for (unsigned v = 0; v < 256; v++) {
        uint64_t at = KERNEL64 + handlers + v, at32 = (uint32_t)KERNEL32 + handlers + v;
        uint64_t dpl = v == EXC_BP || v == EXC_OF || v >= 0x20 ? 3 : 0, ist = v == EXC_DF;
        put64(mem, PAGE_IDT64 * BLOCKS_PAGE + 16 * v,
              (at & 0xffff) | SEL_KERNEL_CS << 16 | ist << 32 | UINT64_C(0x8e00) << 32 | dpl << 45 |
                  (at >> 16 & 0xffff) << 48);
        put64(mem, PAGE_IDT64 * BLOCKS_PAGE + 16 * v + 8, at >> 32);
        put64(mem, PAGE_IDT32 * BLOCKS_PAGE + 8 * v,
              (at32 & 0xffff) | SEL_KERNEL_CS32 << 16 | UINT64_C(0x8e00) << 32 | dpl << 45 | at32 >> 16 << 48);
        uint32_t ivt = GUINT32_TO_LE((handlers >> 4) << 16 | v);
        memcpy(mem + PAGE_IVT * BLOCKS_PAGE + 4 * v, &ivt, 4);
    }
}

void blocks_build_memory(uint8_t *mem)
{
    memset(mem, 0, BLOCKS_RAM_BYTES);
    build_paging(mem);
    build_gdt(mem);
    build_idt(mem);
    memset(mem + PAGE_CODE * BLOCKS_PAGE, 0xf4, 3 * BLOCKS_PAGE); /* a wild jump ends, too */
}

uint32_t blocks_translate(const struct cpu *cpu, const uint8_t *mem, uint64_t linear)
{
    if (!(cpu->cr0 & CR0_PG))
        return linear < BLOCKS_RAM_BYTES ? (uint32_t)linear : UINT32_MAX;
    uint64_t entry = get64(mem, PAGE_PT * BLOCKS_PAGE + 8 * (unsigned)(linear >> 12 & 511));
    uint32_t page = entry & 0xff000;
    return entry & PTE_P && page < BLOCKS_RAM_BYTES ? page | (linear & 0xfff) : UINT32_MAX;
}

/* --- State to begin with ------------------------------------------------------------------------------------------ */

void blocks_set_segment(struct cpu *start, enum seg s, uint16_t selector, uint64_t base, uint32_t limit, uint32_t attr)
{
    start->seg[s] = (struct segment){ .base = base, .limit = limit, .attr = attr, .selector = selector };
}

static void set_own(struct cpu *start, enum seg s, unsigned n)
{
    uint32_t dpl = start->cpl == 3 ? 3u << SEG_DPL_SHIFT : 0;
    blocks_set_segment(start, s, (start->cpl == 3 ? SEL_OWN3 : SEL_OWN) + 8 * n, own_segments[n].base,
                       own_segments[n].limit, own_segments[n].attr | dpl);
}

static void set_flat_segments(struct cpu *start, enum blocks_mode mode)
{
    bool user = start->cpl == 3;
    uint32_t dpl = user ? 3u << SEG_DPL_SHIFT : 0;

    if (mode == BLOCKS_LONG)
        blocks_set_segment(start, SEG_CS, user ? SEL_USER_CS : SEL_KERNEL_CS, 0, UINT32_MAX, ATTR_CODE | SEG_L | dpl);
    else
        blocks_set_segment(start, SEG_CS, user ? SEL_USER_CS32 : SEL_KERNEL_CS32, 0, UINT32_MAX,
                           ATTR_CODE | SEG_DB | dpl);
    for (enum seg s = SEG_ES; s <= SEG_GS; s++)
        if (s != SEG_CS)
            blocks_set_segment(start, s, user ? SEL_USER_DS : SEL_KERNEL_DS, 0, UINT32_MAX, ATTR_DATA | dpl);
}

static void set_own_segments(struct cpu *start, enum blocks_mode mode)
{
    set_own(start, SEG_CS, mode == BLOCKS_SEG16 ? OWN_CODE16 : OWN_CODE32);
    set_own(start, SEG_SS, mode == BLOCKS_SEG16 ? OWN_STACK16 : OWN_STACK32);
    set_own(start, SEG_DS, OWN_DATA);
    set_own(start, SEG_ES, OWN_DOWN);
    set_own(start, SEG_FS, OWN_FLAT);
    set_own(start, SEG_GS, OWN_READ_ONLY);
}

/* Real and virtual-8086 mode. */
static void set_small_segments(struct cpu *start, enum blocks_mode mode)
{
    static const uint16_t selectors[] = { [SEG_ES] = 0x0b02, [SEG_CS] = 0x0c00, [SEG_SS] = 0x1010,
                                          [SEG_DS] = 0x0b01, [SEG_FS] = 0x1000, [SEG_GS] = 0x10f0 };
    uint32_t attr = ATTR_OWN | SEG_W | (mode == BLOCKS_V86 ? 3u << SEG_DPL_SHIFT : 0);

    for (enum seg s = SEG_ES; s <= SEG_GS; s++)
        blocks_set_segment(start, s, selectors[s], (uint64_t)selectors[s] << 4, 0xffff,
                           attr | (s == SEG_CS && mode == BLOCKS_REAL ? SEG_X : 0));
}

static void set_tables(struct cpu *start, enum blocks_mode mode)
{
    uint64_t kernel = blocks_long(mode) ? KERNEL64 : KERNEL32;
    uint32_t tss = SEG_P | 11u << SEG_TYPE_SHIFT;

    start->gdtr.base = kernel + GDT;
    start->gdtr.limit = 0x3ff;
    start->idtr.base = kernel + (blocks_long(mode) ? PAGE_IDT64 : PAGE_IDT32) * BLOCKS_PAGE;
    start->idtr.limit = blocks_long(mode) ? 0xfff : 0x7ff;
    blocks_set_segment(start, SEG_LDTR, 0, 0, 0xffff, SEG_P | 2u << SEG_TYPE_SHIFT);
    if (blocks_long(mode))
        blocks_set_segment(start, SEG_TR, SEL_TSS64, KERNEL64 + TSS64, 0x67, tss);
    else
        blocks_set_segment(start, SEG_TR, SEL_TSS32, KERNEL32 + TSS32, 0x67, tss);
    if (mode == BLOCKS_REAL) {
        start->idtr.base = 0;
        start->idtr.limit = 0x3ff;
        start->gdtr.base = GDT;
        blocks_set_segment(start, SEG_TR, 0, 0, 0xffff, tss);
    }
    start->star = (uint64_t)SEL_KERNEL_CS << 32 | (uint64_t)SEL_USER_CS32 << 48;
    start->lstar = kernel + PAGE_HANDLERS * BLOCKS_PAGE + 0x200;
    start->cstar = kernel + PAGE_HANDLERS * BLOCKS_PAGE + 0x300;
    start->sfmask = 0x47700;
    start->sysenter_cs = SEL_KERNEL_CS;
    start->sysenter_eip = kernel + PAGE_HANDLERS * BLOCKS_PAGE + 0x400;
    start->sysenter_esp = kernel + (PAGE_STACK0 + 1) * BLOCKS_PAGE;
}

void blocks_start_state(struct cpu *start, enum blocks_mode mode, unsigned cpl)
{
    start->cpl = (uint8_t)(mode == BLOCKS_REAL ? 0 : mode == BLOCKS_V86 ? 3 : cpl);
    start->cr0 = CR0_MP | CR0_ET | CR0_NE;
    start->cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
    start->efer = EFER_SCE;
    if (mode != BLOCKS_REAL) {
        start->cr0 |= CR0_PE | CR0_PG | CR0_WP | CR0_AM;
        start->cr3 = PDPT_PAE;
        start->cr4 |= CR4_PAE;
        start->efer |= EFER_NXE;
        for (unsigned n = 0; n < 4; n++)
            start->pdpte[n] = PAGE_PD * BLOCKS_PAGE | PTE_P;
    }
    if (blocks_long(mode)) {
        start->cr3 = PAGE_PML4 * BLOCKS_PAGE;
        start->cr4 |= CR4_FSGSBASE;
        start->efer |= EFER_LME | EFER_LMA;
    }
    start->xcr0 = 7;
    start->dr6 = DR6_FIXED;
    start->dr7 = DR7_FIXED;
    start->rflags = FLAGS_FIXED | (mode == BLOCKS_V86 ? FLAG_VM : 0);
    set_tables(start, mode);
    if (mode >= BLOCKS_V86)
        set_small_segments(start, mode);
    else if (mode >= BLOCKS_SEG32)
        set_own_segments(start, mode);
    else
        set_flat_segments(start, mode);
}

/* --- Making and running ------------------------------------------------------------------------------------------- */

static void run_exclusive(struct cpu *cpu, void (*fn)(struct cpu *cpu, void *arg), void *arg)
{
    fn(cpu, arg);
}

static void kick(struct cpu *cpu)
{
    struct engine *e = cpu->machine->accel ? cpu->machine->accel->engine : NULL;
    if (e && e->ops->vcpu_kick)
        e->ops->vcpu_kick(e, cpu);
}

static const struct cpu_host_ops host_ops = { .exclusive = run_exclusive, .kick = kick };

/* Counts what is delivered: a processor that does nothing but fault has to be stopped. */
static void on_exception(void *opaque, const struct event *e)
{
    struct blocks_machine *b = opaque;

    if (!b->run_number)
        return;
    if (b->exceptions < G_N_ELEMENTS(b->exception))
        b->exception[b->exceptions] = (struct blocks_exception){ e->number, e->value, e->rip, e->address };
    if (++b->exceptions == b->exceptions_allowed) {
        __atomic_store_n(&b->stuck, true, __ATOMIC_RELAXED);
        cpu_post(b->cpu, CPU_EVENT_KICK);
    }
}

/* Looks every few seconds whether the same run is still under way. */
static gpointer kick_on(gpointer opaque)
{
    struct blocks_machine *b = opaque;

    for (unsigned n = 0; !__atomic_load_n(&b->quit, __ATOMIC_RELAXED); n++) {
        if (__atomic_load_n(&b->run_number, __ATOMIC_RELAXED))
            cpu_post(b->cpu, CPU_EVENT_KICK);
        g_usleep(1 + n % 8);
    }
    return NULL;
}

static gpointer watch(gpointer opaque)
{
    struct blocks_machine *b = opaque;
    gint64 patience = 3 * G_TIME_SPAN_SECOND * time_scale();
    unsigned last = 0;

    g_mutex_lock(&b->lock);
    while (!b->quit) {
        g_cond_wait_until(&b->quit_now, &b->lock, g_get_monotonic_time() + patience);
        unsigned now = __atomic_load_n(&b->run_number, __ATOMIC_RELAXED);
        if (now && now == last) {
            __atomic_store_n(&b->stuck, true, __ATOMIC_RELAXED);
            cpu_post(b->cpu, CPU_EVENT_KICK);
        }
        last = now;
    }
    g_mutex_unlock(&b->lock);
    return NULL;
}

/*
 * A device that answers with all that has been done to it, and makes the processor leave its engine at some writes (not
 * at reads: a string comparison that goes on after that may fault with other flags).
 */
static uint64_t device_access(struct blocks_machine *b, uint64_t what)
{
    b->device = (b->device ^ what) * UINT64_C(0x9e3779b97f4a7c15);
    b->device ^= b->device >> 29;
    return b->device;
}

static uint64_t device_read(void *opaque, uint64_t offset, unsigned size)
{
    return device_access(opaque, offset << 8 | size);
}

static void device_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct blocks_machine *b = opaque;

    if (device_access(b, (value << 16) + (offset << 8 | 0x80 | size)) & 1)
        cpu_post(b->cpu, CPU_EVENT_KICK);
}

static const struct mem_ops device_ops = {
    .read = device_read, .write = device_write, .valid = { 1, 8, true }, .impl = { 1, 8, true },
};

static void make_machine(struct blocks_machine *b, const char *model)
{
    GError *err = NULL;

    b->m = machine_new(true);
    b->ram = ram_block_new("test.ram", BLOCKS_RAM_BYTES, NULL, &err);
    g_assert_no_error(err);
    mem_init_ram(&b->region, NULL, "ram", b->ram, 0, BLOCKS_RAM_BYTES);
    mem_map(&b->m->memory_root, 0, &b->region, 0);
    mem_init_io(&b->device_region, NULL, &device_ops, b, "device", BLOCKS_PAGE);
    mem_map(&b->m->memory_root, BLOCKS_DEVICE_PHYS, &b->device_region, 0);
    b->mem = b->ram->host;
    b->model = cpu_model_parse(model, &err);
    g_assert_no_error(err);
    b->m->cpu_count = 1;
    b->m->cpus = g_new0(struct cpu *, 1);
    b->cpu = b->m->cpus[0] = cpu_new(b->m, 0, b->model);
    b->cpu->host = &host_ops;
}

struct blocks_machine *blocks_machine_new(const char *engine, const char *model, GError **err)
{
    struct blocks_machine *b = g_new0(struct blocks_machine, 1);
    bool good = true;

    b->engine = g_strdup(engine);
    b->kicks = g_str_has_prefix(engine, "kicked ");
    engine += b->kicks ? strlen("kicked ") : 0;
    const char *preferences[] = { engine, NULL };
    b->steps = !strcmp(engine, "step") || !strcmp(engine, "broken");
    vm_lock();
    make_machine(b, model);
    if (!b->steps)
        good = accel_init(b->m, preferences, err) && engine_init_vcpus(b->m->accel->engine, err);
    event_subscribe(1u << EVENT_EXCEPTION, on_exception, b);
    vm_unlock();
    g_mutex_init(&b->lock);
    g_cond_init(&b->quit_now);
    b->watchdog = g_thread_new("watchdog", watch, b);
    if (b->kicks)
        b->kicker = g_thread_new("kicker", kick_on, b);
    if (good)
        return b;
    blocks_machine_free(b);
    return NULL;
}

void blocks_machine_free(struct blocks_machine *b)
{
    if (!b)
        return;
    g_mutex_lock(&b->lock);
    __atomic_store_n(&b->quit, true, __ATOMIC_RELAXED);
    g_cond_signal(&b->quit_now);
    g_mutex_unlock(&b->lock);
    g_thread_join(b->watchdog);
    if (b->kicker)
        g_thread_join(b->kicker);
    g_mutex_clear(&b->lock);
    g_cond_clear(&b->quit_now);
    vm_lock();
    event_unsubscribe(on_exception, b);
    if (b->m->accel) {
        engine_fini_vcpus(b->m->accel->engine);
        accel_fini(b->m);
    }
    cpu_free(b->cpu);
    cpu_model_free(b->model);
    mem_unmap(&b->region);
    mem_fini(&b->region);
    mem_unmap(&b->device_region);
    mem_fini(&b->device_region);
    machine_free(b->m); /* with cpus[] */
    ram_block_free(b->ram);
    vm_unlock();
    g_free(b->engine);
    g_free(b);
}

void blocks_machine_load(struct blocks_machine *b, const struct blocks_case *c, bool flush)
{
    struct cpu *cpu = b->cpu;

    /* A guest would have to, too. */
    flush |= cpu->cr0 != c->start.cr0 || cpu->cr3 != c->start.cr3 || cpu->cr4 != c->start.cr4 ||
             cpu->efer != c->start.efer || cpu->dr7 != c->start.dr7 || c->start.dr7 & 0xff;
    for (unsigned n = 0; n < blocks_field_count; n++) {
        const struct blocks_field *f = &blocks_fields[n];
        if (!f->derived)
            memcpy((char *)cpu + f->offset, (const char *)&c->start + f->offset, f->size);
    }
    b->device = c->number;
    cpu->r[R_ZERO] = 0;
    cpu->insn = NULL;
    cpu->delivering = -1;
    cpu->fault_count = 0;
    cpu->activity = CPU_RUNNING;
    cpu_event_clear(cpu, UINT32_MAX);
    for (enum seg s = SEG_ES; s <= SEG_TR; s++)
        cpu->seg[s] = c->start.seg[s];
    if (flush) {
        cpu_refresh(cpu);
        cpu_event_clear(cpu, CPU_EVENT_INTR); /* there is no APIC */
        return;
    }
    for (enum seg s = SEG_ES; s <= SEG_TR; s++)
        cpu_set_seg(cpu, s, cpu->seg[s].selector, cpu->seg[s].base, cpu->seg[s].limit, cpu->seg[s].attr);
    cpu_update_mode(cpu);
}

/* --- Steps -------------------------------------------------------------------------------------------------------- */

/* The instruction at RIP, if it can be read. */
static bool next_insn(struct blocks_machine *b, struct insn *i)
{
    const struct cpu *cpu = b->cpu;
    struct decode_mode mode = { .code_size = cpu->code_size,
                                .stack32 = cpu->mode_key & MODE_STACK32,
                                .protected_mode = cpu->mode_key & MODE_PROT };
    uint8_t *bytes = b->insn_bytes;
    uint64_t base = cpu_in_64(cpu) ? 0 : cpu->seg[SEG_CS].base;

    b->insn_phys = blocks_translate(cpu, b->mem, base + cpu->rip);
    for (unsigned n = 0; n < sizeof b->insn_bytes; n++) {
        uint32_t at = blocks_translate(cpu, b->mem, base + cpu->rip + n);
        bytes[n] = at == UINT32_MAX ? 0 : b->mem[at];
    }
    return decode_insn(bytes, 15, mode, i) == DECODE_OK;
}

static enum cpu_exit run_steps(struct blocks_machine *b, unsigned most)
{
    enum cpu_exit why = CPU_EXIT_KICK;
    struct insn i;

    for (unsigned n = 0; n < most && b->cpu->activity == CPU_RUNNING && !b->stuck; n++) {
        bool known = b->spoil && next_insn(b, &i);
        why = cpu_interp_run(b->cpu, 1);
        if (known)
            b->spoil(b, &i);
    }
    return why;
}

enum blocks_outcome blocks_machine_run(struct blocks_machine *b, unsigned most)
{
    struct cpu *cpu = b->cpu;
    uint64_t limit = cpu->insn_count + most;
    enum cpu_exit why;

    __atomic_store_n(&b->stuck, false, __ATOMIC_RELAXED);
    b->exceptions = 0;
    b->exceptions_allowed = most / 16;
    __atomic_store_n(&b->run_number, ++b->runs, __ATOMIC_RELAXED);
    do {
        if (b->steps)
            why = run_steps(b, most);
        else if (!strcmp(b->engine, "interp"))
            why = cpu->insn_count < limit ? cpu_interp_run(cpu, limit - cpu->insn_count) : CPU_EXIT_HALT;
        else
            why = b->m->accel->engine->ops->vcpu_run(b->m->accel->engine, cpu);
        b->pauses += why == CPU_EXIT_KICK;
    } while (why == CPU_EXIT_KICK && !b->steps && !__atomic_load_n(&b->stuck, __ATOMIC_RELAXED));
    __atomic_store_n(&b->run_number, 0, __ATOMIC_RELAXED);
    return cpu->activity == CPU_HALTED ? BLOCKS_HALTED : why == CPU_EXIT_SHUTDOWN ? BLOCKS_SHUTDOWN : BLOCKS_ENDLESS;
}
