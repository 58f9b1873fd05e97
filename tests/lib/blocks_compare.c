/*
 * Two engines beside each other: running a case on both, comparing all that a program can see, printing it, and taking
 * away what a difference does not need.
 *
 * Not compared: arithmetic flags that the manual leaves undefined where the code ended. Without precise flags (JIT: a
 * flag that is overwritten before an instruction can read it may be stale in the frame of a fault) no arithmetic flag
 * in a frame and in the handler.
 */
#include "cpu/disas.h"
#include "hw/core/machine.h"
#include "tests/lib/blocks.h"
#include "tests/lib/oracle_values.h"

#include <stddef.h>
#include <string.h>

#define FIELD(member) { #member, offsetof(struct cpu, member), sizeof((struct cpu *)0)->member, false },
#define DERIVED(member) { #member, offsetof(struct cpu, member), sizeof((struct cpu *)0)->member, true },
#define REGISTER(name, number) { name, offsetof(struct cpu, r) + 8 * (number), 8, false },
#define X87(n) FIELD(fpu.st[n].mant) FIELD(fpu.st[n].sexp)
const struct blocks_field blocks_fields[] = {
    REGISTER("rax", R_RAX) REGISTER("rcx", R_RCX) REGISTER("rdx", R_RDX) REGISTER("rbx", R_RBX)
    REGISTER("rsp", R_RSP) REGISTER("rbp", R_RBP) REGISTER("rsi", R_RSI) REGISTER("rdi", R_RDI)
    REGISTER("r8", R_R8) REGISTER("r9", R_R9) REGISTER("r10", R_R10) REGISTER("r11", R_R11)
    REGISTER("r12", R_R12) REGISTER("r13", R_R13) REGISTER("r14", R_R14) REGISTER("r15", R_R15)
    REGISTER("rip", R_RIP) FIELD(rflags) FIELD(cpl) DERIVED(code_size) DERIVED(stack_size) DERIVED(mode_key)
    FIELD(v[0]) FIELD(v[1]) FIELD(v[2]) FIELD(v[3]) FIELD(v[4]) FIELD(v[5]) FIELD(v[6]) FIELD(v[7])
    FIELD(v[8]) FIELD(v[9]) FIELD(v[10]) FIELD(v[11]) FIELD(v[12]) FIELD(v[13]) FIELD(v[14]) FIELD(v[15])
    FIELD(mxcsr) X87(0) X87(1) X87(2) X87(3) X87(4) X87(5) X87(6) X87(7)
    FIELD(fpu.cw) FIELD(fpu.sw) FIELD(fpu.top) FIELD(fpu.tag_valid) FIELD(fpu.opcode)
    FIELD(fpu.ip) FIELD(fpu.dp) FIELD(fpu.cs) FIELD(fpu.ds)
    FIELD(xcr0) FIELD(xss) FIELD(pkru) FIELD(cr0) FIELD(cr2) FIELD(cr3) FIELD(cr4)
    FIELD(pdpte[0]) FIELD(pdpte[1]) FIELD(pdpte[2]) FIELD(pdpte[3]) FIELD(efer)
    FIELD(gdtr.base) FIELD(gdtr.limit) FIELD(idtr.base) FIELD(idtr.limit)
    FIELD(dr[0]) FIELD(dr[1]) FIELD(dr[2]) FIELD(dr[3]) FIELD(dr6) FIELD(dr7) FIELD(dr6_pending)
    FIELD(smm) FIELD(nmi_blocked) FIELD(shadow_mov_ss) FIELD(stepping) FIELD(mwait_armed)
    FIELD(monitor_addr) FIELD(monitor_value)
    FIELD(star) FIELD(lstar) FIELD(cstar) FIELD(sfmask) FIELD(kernel_gs_base)
    FIELD(sysenter_cs) FIELD(sysenter_esp) FIELD(sysenter_eip)
    FIELD(pat) FIELD(tsc_aux) FIELD(misc_enable) FIELD(spec_ctrl) FIELD(debugctl)
};
#undef X87
const unsigned blocks_field_count = G_N_ELEMENTS(blocks_fields);

/* --- The pair ----------------------------------------------------------------------------------------------------- */

struct blocks_pair *blocks_pair_new(const char *reference, const char *subject, const char *model, GError **err)
{
    struct blocks_pair *p = g_new0(struct blocks_pair, 1);

    p->mode = BLOCKS_MODES;
    p->precise = strstr(subject, "jit") == NULL || strstr(subject, "flags=precise") != NULL;
    blocks_build_memory(p->memory);
    if ((p->reference = blocks_machine_new(reference, model, err)) &&
        (p->subject = blocks_machine_new(subject, model, err))) {
        memcpy(p->reference->mem, p->memory, BLOCKS_RAM_BYTES);
        memcpy(p->subject->mem, p->memory, BLOCKS_RAM_BYTES);
        return p;
    }
    blocks_pair_free(p);
    return NULL;
}

void blocks_pair_free(struct blocks_pair *p)
{
    blocks_machine_free(p->tracer);
    blocks_machine_free(p->reference);
    blocks_machine_free(p->subject);
    g_free(p);
}

/* As a device would. */
static void write_memory(struct blocks_machine *b, uint32_t phys, const void *from, unsigned len)
{
    memcpy(b->mem + phys, from, len);
    ram_note_write(b->ram, phys, len);
}

/* Bit per page that is not as before the case. */
static uint32_t changed_pages(const struct blocks_pair *p, const struct blocks_machine *b)
{
    uint32_t changed = 0;

    for (unsigned page = 0; page < BLOCKS_RAM_PAGES; page++)
        if (memcmp(b->mem + page * BLOCKS_PAGE, p->memory + page * BLOCKS_PAGE, BLOCKS_PAGE) != 0)
            changed |= 1u << page;
    return changed;
}

/* No more than what is different: beside it code may stay. */
static void restore_pages(struct blocks_pair *p, struct blocks_machine *b, uint32_t changed)
{
    for (; changed; changed &= changed - 1) {
        unsigned page = (unsigned)__builtin_ctz(changed);
        uint32_t at = page * BLOCKS_PAGE, end = at + BLOCKS_PAGE;
        while (at < end && memcmp(b->mem + at, p->memory + at, 16) == 0)
            at += 16;
        while (end > at && memcmp(b->mem + end - 16, p->memory + end - 16, 16) == 0)
            end -= 16;
        write_memory(b, at, p->memory + at, end - at);
        p->page_tables_dirty |= page < PAGE_HANDLERS;
    }
}

static void restore_memory(struct blocks_pair *p, struct blocks_machine *b)
{
    restore_pages(p, b, changed_pages(p, b));
}

void blocks_pair_fill(struct blocks_pair *p, struct oracle_gen *g)
{
    oracle_fill_memory(g);
    memcpy(p->memory + PAGE_DATA * BLOCKS_PAGE, g->memory, sizeof g->memory);
    memcpy(p->memory + (PAGE_DATA + 7) * BLOCKS_PAGE, g->memory, BLOCKS_PAGE);
    restore_memory(p, p->reference);
    restore_memory(p, p->subject);
}

/* In place of the code of the case before, unless it is the same. */
static void place_code(struct blocks_pair *p, const struct blocks_case *c)
{
    if (p->code_at == c->code_phys && p->code_len == c->code_len &&
        memcmp(p->memory + p->code_at, c->code, c->code_len) == 0)
        return;
    struct blocks_machine *const both[] = { p->reference, p->subject };
    memset(p->memory + p->code_at, 0xf4, p->code_len);
    memcpy(p->memory + c->code_phys, c->code, c->code_len);
    for (unsigned n = 0; n < 2; n++) {
        write_memory(both[n], p->code_at, p->memory + p->code_at, p->code_len);
        write_memory(both[n], c->code_phys, c->code, c->code_len);
    }
    p->code_at = c->code_phys;
    p->code_len = c->code_len;
}

/* --- What the manual or the engine leaves open -------------------------------------------------------------------- */

struct frame {
    unsigned vector;
    uint64_t rip, rsp; /* the latter in 64-bit mode */
    uint32_t flags_at; /* physical address of its RFLAGS, or UINT32_MAX */
};

static uint64_t read_linear(const struct blocks_machine *b, uint64_t linear, unsigned bytes)
{
    uint64_t v = 0;
    for (unsigned n = 0; n < bytes; n++) {
        uint32_t at = blocks_translate(b->cpu, b->mem, linear + n);
        v |= (uint64_t)(at == UINT32_MAX ? 0 : b->mem[at]) << 8 * n;
    }
    return v;
}

static uint64_t stack_address(const struct cpu *cpu, uint64_t offset)
{
    uint64_t mask = cpu->stack_size == 3 ? UINT64_MAX : cpu->stack_size == 2 ? UINT32_MAX : 0xffff;
    uint64_t at = ((cpu->r[R_RSP] + offset) & mask) + (cpu_in_64(cpu) ? 0 : cpu->seg[SEG_SS].base);
    return cpu_in_64(cpu) ? at : (uint32_t)at;
}

/* Is this the first byte of a handler, and of which? */
static bool handler_at(const struct blocks_machine *b, uint64_t linear, unsigned *vector)
{
    uint32_t at = blocks_translate(b->cpu, b->mem, linear);
    *vector = at % BLOCKS_PAGE;
    return at != UINT32_MAX && at / BLOCKS_PAGE == PAGE_HANDLERS && *vector <= 255;
}

static bool pushes_error(unsigned vector)
{
    return vector == EXC_DF || (vector >= EXC_TS && vector <= EXC_PF) || vector == EXC_AC;
}

/* The frame that led to the handler in which the processor has halted; false: it has not. */
static bool find_frame(const struct blocks_machine *b, struct frame *f)
{
    const struct cpu *cpu = b->cpu;
    uint64_t base = cpu_in_64(cpu) ? 0 : cpu->seg[SEG_CS].base;

    if (!handler_at(b, base + cpu->rip - 1, &f->vector))
        return false;
    bool has_error = cpu->cr0 & CR0_PE && pushes_error(f->vector);
    unsigned slot = cpu_in_64(cpu) ? 8 : cpu->cr0 & CR0_PE ? 4 : 2;
    f->rip = read_linear(b, stack_address(cpu, has_error * slot), slot);
    f->rsp = cpu_in_64(cpu) ? read_linear(b, stack_address(cpu, (has_error + 3) * slot), slot) : 0;
    f->flags_at = blocks_translate(cpu, b->mem, stack_address(cpu, (has_error + 2) * slot));
    return true;
}

static uint32_t undefined_at(const struct blocks_case *c, uint64_t rip)
{
    uint64_t offset = rip - c->start.rip;
    for (unsigned k = 0; k < c->count && !c->changes_itself; k++)
        if (c->items[k].at == offset)
            return c->items[k].undef;
    return c->undef_any;
}

/* Makes the open ones of the flags at this physical address equal. */
static void excuse_at(const struct blocks_pair *p, uint32_t at, uint32_t open)
{
    for (unsigned n = 0; n < 2 && at < BLOCKS_RAM_BYTES - 2; n++) {
        uint8_t *to = p->subject->mem + at + n;
        *to = (uint8_t)((*to & ~(open >> 8 * n)) | (p->reference->mem[at + n] & open >> 8 * n));
    }
}

/* Makes flags equal that need not be; tells which. */
static uint32_t excuse_flags(const struct blocks_pair *p, const struct blocks_case *c)
{
    struct frame a, b;
    bool framed = find_frame(p->reference, &a);

    if (!framed)
        return undefined_at(c, p->reference->cpu->rip - 1);
    if (!find_frame(p->subject, &b) || a.rip != b.rip || a.flags_at != b.flags_at)
        return 0;
    if (a.flags_at >= BLOCKS_RAM_BYTES - 2) /* the frame went nowhere, but the flags are still in the register */
        return p->precise ? 0 : FLAGS_ARITH;
    uint32_t open = p->precise ? undefined_at(c, a.rip) : FLAGS_ARITH;
    excuse_at(p, a.flags_at, open);
    if (a.vector == EXC_DF && cpu_in_64(p->reference->cpu)) /* what had been pushed of the first frame */
        excuse_at(p, blocks_translate(p->reference->cpu, p->reference->mem, (a.rsp & ~UINT64_C(15)) - 24), open);
    unsigned first;
    if (a.vector == EXC_DB && cpu_in_64(p->reference->cpu) && handler_at(p->reference, a.rip, &first))
        /* a breakpoint on the stack, met by the first frame */
        excuse_at(p, blocks_translate(p->reference->cpu, p->reference->mem, a.rsp + (pushes_error(first) + 2) * 8), open);
    return open;
}

/* --- Comparison --------------------------------------------------------------------------------------------------- */

struct differ {
    GString *out; /* or NULL */
    bool equal;
};

static void print_value(GString *out, const void *at, unsigned size)
{
    const uint8_t *b = at;
    for (unsigned n = size; n-- > 0;)
        g_string_append_printf(out, "%02x%s", b[n], n % 8 == 0 && n ? " " : "");
}

static void differ(struct differ *d, const char *what, const void *a, const void *b, unsigned size)
{
    if (memcmp(a, b, size) == 0)
        return;
    d->equal = false;
    if (!d->out)
        return;
    g_string_append_printf(d->out, "#   %-16s reference ", what);
    print_value(d->out, a, size);
    g_string_append(d->out, size > 8 ? "\n#                      subject " : "  subject ");
    print_value(d->out, b, size);
    g_string_append_c(d->out, '\n');
}

static void compare_segments(struct differ *d, const struct cpu *a, const struct cpu *b)
{
    static const char *const names[] = { "es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr" };
    char name[32];

    for (enum seg s = SEG_ES; s <= SEG_TR; s++) {
        const struct segment *x = &a->seg[s], *y = &b->seg[s];
        if (x->base == y->base && x->limit == y->limit && x->attr == y->attr && x->selector == y->selector)
            continue;
        g_snprintf(name, sizeof name, "%s selector", names[s]);
        differ(d, name, &x->selector, &y->selector, 2);
        g_snprintf(name, sizeof name, "%s base", names[s]);
        differ(d, name, &x->base, &y->base, 8);
        g_snprintf(name, sizeof name, "%s limit", names[s]);
        differ(d, name, &x->limit, &y->limit, 4);
        g_snprintf(name, sizeof name, "%s attributes", names[s]);
        differ(d, name, &x->attr, &y->attr, 4);
    }
}

static void compare_registers(struct differ *d, const struct cpu *a, const struct cpu *b, uint32_t open_flags)
{
    for (unsigned n = 0; n < blocks_field_count; n++) {
        const struct blocks_field *f = &blocks_fields[n];
        const char *x = (const char *)a + f->offset, *y = (const char *)b + f->offset;
        if (f->offset != offsetof(struct cpu, rflags)) {
            differ(d, f->name, x, y, f->size);
        } else if ((a->rflags ^ b->rflags) & ~(uint64_t)open_flags) {
            differ(d, "rflags", x, y, f->size);
        }
    }
    compare_segments(d, a, b);
}

static void compare_memory(struct differ *d, const struct blocks_pair *p)
{
    unsigned shown = 0;

    for (unsigned page = 0; page < BLOCKS_RAM_PAGES; page++) {
        const uint8_t *a = p->reference->mem + page * BLOCKS_PAGE, *b = p->subject->mem + page * BLOCKS_PAGE;
        if (memcmp(a, b, BLOCKS_PAGE) == 0)
            continue;
        d->equal = false;
        for (unsigned n = 0; d->out && n < BLOCKS_PAGE && shown < 32; n++)
            if (a[n] != b[n] && shown++ < 32)
                g_string_append_printf(d->out, "#   [%#x] before %02x  reference %02x  subject %02x\n",
                                       page * BLOCKS_PAGE + n, p->memory[page * BLOCKS_PAGE + n], a[n], b[n]);
    }
}

static void compare_exceptions(struct differ *d, const struct blocks_pair *p)
{
    const struct blocks_machine *a = p->reference, *b = p->subject;

    differ(d, "exceptions", &a->exceptions, &b->exceptions, sizeof a->exceptions);
    for (unsigned n = 0; n < MIN(a->exceptions, G_N_ELEMENTS(a->exception)) && n < b->exceptions; n++) {
        differ(d, "exception", &a->exception[n].vector, &b->exception[n].vector, 4);
        differ(d, "its error code", &a->exception[n].error, &b->exception[n].error, 8);
        differ(d, "its rip", &a->exception[n].rip, &b->exception[n].rip, 8);
    }
}

static void print_exceptions(const struct blocks_machine *b, GString *out)
{
    for (unsigned n = 0; n < MIN(b->exceptions, G_N_ELEMENTS(b->exception)); n++)
        g_string_append_printf(out, "#   exception %u, error code %#" PRIx64 " at %#" PRIx64 ": %#" PRIx64 "\n",
                               b->exception[n].vector, b->exception[n].error, b->exception[n].rip,
                               b->exception[n].address);
}

static const char *const outcome_names[] = { "halts", "shuts down", "does not end" };

static bool compare(const struct blocks_pair *p, const struct blocks_case *c, enum blocks_outcome a,
                    enum blocks_outcome b, GString *out)
{
    struct differ d = { out, true };

    if (a != b) {
        if (out)
            g_string_append_printf(out, "#   the reference %s, the subject %s\n", outcome_names[a], outcome_names[b]);
        d.equal = false;
    }
    uint32_t open = p->precise ? c->undef_any : FLAGS_ARITH; /* a triple fault */
    if (a == BLOCKS_HALTED && b == BLOCKS_HALTED)
        open = excuse_flags(p, c);
    else if (!p->precise) { /* the first push of a frame that did not fit */
        uint64_t slot = p->reference->cpu->cr0 & CR0_PE ? 4 : 2;
        excuse_at(p, blocks_translate(p->reference->cpu, p->reference->mem, stack_address(p->reference->cpu, -slot)), open);
    }
    compare_registers(&d, p->reference->cpu, p->subject->cpu, open);
    compare_exceptions(&d, p);
    if (!d.equal && out)
        print_exceptions(p->reference, out);
    differ(&d, "device", &p->reference->device, &p->subject->device, 8);
    compare_memory(&d, p);
    return d.equal;
}

/* By chance a store hit tables above those that the generator changes: which translations are old ones is open then. */
static bool is_remapped(const struct blocks_pair *p)
{
    for (unsigned at = PAGE_PML4 * BLOCKS_PAGE; at < PAGE_PT * BLOCKS_PAGE; at += 8) {
        uint64_t a, b;
        memcpy(&a, p->reference->mem + at, 8);
        memcpy(&b, p->memory + at, 8);
        bool segments = at / BLOCKS_PAGE == PAGE_DESCRIPTORS && at % BLOCKS_PAGE < BLOCKS_PAGE / 2;
        if (!segments && (GUINT64_FROM_LE(a) ^ GUINT64_FROM_LE(b)) & ~UINT64_C(0x60))
            return true;
    }
    return false;
}

/*
 * May the two differ, because instructions were executed, by chance, whose results cannot be compared? Or, without
 * precise flags, because the block changed its own code (a flag that an instruction ahead would have overwritten may be
 * stale then, too), executed something else that may have been changed, or has its stack in the device.
 */
static bool is_open(struct blocks_pair *p, const struct blocks_case *c)
{
    struct blocks_machine *t = p->tracer;

    const struct cpu *cpu = p->reference->cpu;
    if (is_remapped(p))
        return true;
    if (!p->precise && (memcmp(p->reference->mem + c->code_phys, c->code, c->code_len) != 0 ||
                        blocks_page_kind(cpu->r[R_RSP] >> 12 & 511) == BLOCKS_DEVICE))
        return true;
    if (!t) {
        t = p->tracer = blocks_machine_new("broken", "max", NULL);
        t->spoil = blocks_trace;
    }
    memcpy(t->mem, p->memory, BLOCKS_RAM_BYTES);
    ram_note_write(t->ram, 0, BLOCKS_RAM_BYTES);
    t->traced_open = t->traced_wild = t->traced_search = false;
    t->traced = c;
    blocks_machine_load(t, c, true);
    blocks_machine_run(t, 4000);
    return t->traced_open || (t->traced_wild && !p->precise) || (t->traced_search && p->subject->kicks);
}

static void count(struct blocks_pair *p, enum blocks_outcome end, uint64_t instructions)
{
    const struct blocks_machine *r = p->reference;
    unsigned last = r->exceptions ? r->exception[MIN(r->exceptions, G_N_ELEMENTS(r->exception)) - 1].vector : 32;

    p->shutdowns += end == BLOCKS_SHUTDOWN;
    p->instructions += instructions;
    p->ends[MIN(last, 32)]++;
}

enum blocks_verdict blocks_pair_run(struct blocks_pair *p, const struct blocks_case *c, GString *out)
{
    enum blocks_verdict verdict = BLOCKS_NO_CASE;
    place_code(p, c);
    bool flush = c->flush || p->page_tables_dirty || p->mode != c->mode;

    p->mode = c->mode;
    p->page_tables_dirty = false;
    blocks_machine_load(p->reference, c, flush);
    uint64_t before = p->reference->cpu->insn_count;
    enum blocks_outcome a = blocks_machine_run(p->reference, 4000), b;
    if (a != BLOCKS_ENDLESS) {
        blocks_machine_load(p->subject, c, flush);
        b = blocks_machine_run(p->subject, 8000);
        count(p, a, p->reference->cpu->insn_count - before);
        verdict = compare(p, c, a, b, out) ? BLOCKS_EQUAL : is_open(p, c) ? BLOCKS_NO_CASE : BLOCKS_DIFFERENT;
        p->open += verdict == BLOCKS_NO_CASE;
        if (verdict == BLOCKS_EQUAL) { /* so are their memories */
            uint32_t changed = changed_pages(p, p->reference);
            restore_pages(p, p->reference, changed);
            restore_pages(p, p->subject, changed);
            return verdict;
        }
        restore_memory(p, p->subject);
    } else {
        p->skipped++;
        p->page_tables_dirty |= flush; /* the subject has not seen to it yet */
    }
    restore_memory(p, p->reference);
    return verdict;
}

/* --- Smaller, and printed ----------------------------------------------------------------------------------------- */

/* At once, or when it is run again. */
static bool still_differs(struct blocks_pair *p, const struct blocks_case *c)
{
    for (unsigned n = 0; n <= c->again; n++)
        if (blocks_pair_run(p, c, NULL) == BLOCKS_DIFFERENT)
            return true;
    return false;
}

static void remove_items(struct blocks_case *c, unsigned from, unsigned count)
{
    for (unsigned k = from; k < from + count && k < c->count; k++) {
        if (c->items[k].keep)
            continue;
        memset(c->code + c->items[k].at, 0x90, c->items[k].len);
        c->items[k].gone = true;
    }
}

/* NOPs instead of instructions, so that all stays where it is: halves first, then ever less. */
bool blocks_minimise(struct blocks_pair *p, struct blocks_case *c)
{
    if (!still_differs(p, c))
        return false;
    struct blocks_case *smaller = g_new(struct blocks_case, 1);
    for (unsigned size = MAX(c->count / 2u, 1); size; size /= 2) {
        for (unsigned at = 0; at < c->count; at += size) {
            *smaller = *c;
            remove_items(smaller, at, size);
            if (memcmp(smaller->code, c->code, c->code_len) != 0 && still_differs(p, smaller))
                *c = *smaller;
        }
    }
    g_free(smaller);
    return true;
}

static void describe_start(const struct blocks_case *c, GString *out)
{
    const struct cpu *s = &c->start;
    unsigned count = c->mode == BLOCKS_LONG ? 16 : 8;

    g_string_append_printf(out, "# %s, CPL %u, rflags %#" PRIx64 " cr0 %#" PRIx64 " cr4 %#" PRIx64 " mxcsr %#x%s%s\n",
                           blocks_mode_names[c->mode], s->cpl, s->rflags, s->cr0, s->cr4, s->mxcsr,
                           c->flush ? ", TLB flushed" : "", c->changes_itself ? ", changes itself" : "");
    for (unsigned r = 0; r < count; r++)
        g_string_append_printf(out, "%s%-3s %016" PRIx64 "%s", r % 4 ? " " : "#   ", blocks_fields[r].name, s->r[r],
                               r % 4 == 3 ? "\n" : "");
    g_string_append_printf(out, "#   x87 cw %#x sw %#x top %u valid %#x; bases", s->fpu.cw, s->fpu.sw, s->fpu.top,
                           s->fpu.tag_valid);
    for (enum seg n = SEG_ES; n <= SEG_GS; n++)
        g_string_append_printf(out, " %#" PRIx64, s->seg[n].base);
    g_string_append_c(out, '\n');
}

void blocks_describe(const struct blocks_pair *p, const struct blocks_case *c, GString *out)
{
    unsigned left = 0;

    for (unsigned k = 0; k < c->count; k++)
        left += !c->items[k].gone;
    g_string_append_printf(out, "# %s against %s: SEED=%" PRIu64 " CASE=%" PRIu64, p->subject->engine,
                           p->reference->engine, c->seed, c->number);
    g_string_append_printf(out, ", mode %s, run %u, %u of %u instructions\n", blocks_mode_names[c->mode], c->again + 1,
                           left, c->count);
    describe_start(c, out);
    for (unsigned k = 0; k < c->count; k++) {
        if (c->items[k].gone)
            continue;
        g_autoptr(GString) text = g_string_new(NULL);
        disas_print(text, c->code + c->items[k].at, c->items[k].len, c->start.rip + c->items[k].at,
                    blocks_code_size(c->mode));
        g_string_truncate(text, text->len - 1);
        g_string_replace(text, "\n", "\n#   ", 0);
        g_string_append_printf(out, "#   %s\n", text->str);
    }
}
