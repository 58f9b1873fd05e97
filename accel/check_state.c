/*
 * The state of a processor for lockstep: saved, given back, compared field by field, printed.
 *
 * Thread: the vCPU's own.
 */
#include "accel/check.h"

#include "cpu/excp.h"

#include <string.h>

/* Those events are the processor's own doing; all others come from outside. */
#define OWN_EVENTS (CPU_EVENT_TRAP | CPU_EVENT_SHADOW | CPU_EVENT_STEP)

/* --- Saving ------------------------------------------------------------------------------------------------------- */

/* The library's memmove(): far faster than REP MOVSQ, which compilers make of a memcpy() of a kilobyte or two. */
static void copy_part(struct cpu *to, const struct cpu *from, size_t start, size_t end)
{
    memmove((char *)to + start, (const char *)from + start, end - start);
}

void check_state_copy(struct cpu *to, const struct cpu *from)
{
    uint32_t events = __atomic_load_n(&from->events, __ATOMIC_RELAXED) & OWN_EVENTS;
    copy_part(to, from, 0, offsetof(struct cpu, events));
    copy_part(to, from, offsetof(struct cpu, cpl), offsetof(struct cpu, poll));
    copy_part(to, from, offsetof(struct cpu, arith), offsetof(struct cpu, sysenter_cs));
    copy_part(to, from, offsetof(struct cpu, delivering), offsetof(struct cpu, listener));
    to->raised = from->raised;
    to->insn_count = from->insn_count;
    if ((__atomic_load_n(&to->events, __ATOMIC_RELAXED) & OWN_EVENTS) == events)
        return;
    __atomic_fetch_and(&to->events, ~OWN_EVENTS | events, __ATOMIC_SEQ_CST);
    __atomic_fetch_or(&to->events, events, __ATOMIC_SEQ_CST);
}

/* --- Comparison --------------------------------------------------------------------------------------------------- */

struct field {
    const char *name;
    uint16_t offset, size;
};

#define FIELD(name, member) { name, offsetof(struct cpu, member), sizeof(((struct cpu *)NULL)->member) }
#define PLAIN(member) FIELD(#member, member)

static const struct field fields[] = {
    FIELD("rax", r[R_RAX]), FIELD("rcx", r[R_RCX]), FIELD("rdx", r[R_RDX]), FIELD("rbx", r[R_RBX]),
    FIELD("rsp", r[R_RSP]), FIELD("rbp", r[R_RBP]), FIELD("rsi", r[R_RSI]), FIELD("rdi", r[R_RDI]),
    FIELD("r8", r[8]), FIELD("r9", r[9]), FIELD("r10", r[10]), FIELD("r11", r[11]),
    FIELD("r12", r[12]), FIELD("r13", r[13]), FIELD("r14", r[14]), FIELD("r15", r[15]),
    FIELD("zero", r[R_ZERO]), PLAIN(rip), PLAIN(cpl), PLAIN(mode_key), PLAIN(code_size), PLAIN(stack_size),
    PLAIN(mxcsr), PLAIN(fpu.cw), PLAIN(fpu.sw), PLAIN(fpu.top), PLAIN(fpu.tag_valid), PLAIN(fpu.opcode),
    PLAIN(fpu.ip), PLAIN(fpu.dp), PLAIN(fpu.cs), PLAIN(fpu.ds), PLAIN(xcr0), PLAIN(xss), PLAIN(pkru),
    PLAIN(cr0), PLAIN(cr2), PLAIN(cr3), PLAIN(cr4), PLAIN(pdpte), PLAIN(efer),
    PLAIN(gdtr.base), PLAIN(gdtr.limit), PLAIN(idtr.base), PLAIN(idtr.limit),
    PLAIN(dr), PLAIN(dr6), PLAIN(dr7), PLAIN(dr6_pending), PLAIN(activity), PLAIN(smm), PLAIN(nmi_blocked),
    PLAIN(shadow_mov_ss), PLAIN(star), PLAIN(lstar), PLAIN(cstar), PLAIN(sfmask), PLAIN(kernel_gs_base),
};

static const char *const segment_names[] = { "es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr" };

struct differ {
    const struct cpu *a, *b;
    GString *out; /* or NULL */
    bool equal;
};

static void print_number(GString *out, const void *at, size_t size)
{
    const uint8_t *b = at;
    for (size_t n = size; n-- > 0;)
        g_string_append_printf(out, "%02x%s", b[n], n % 8 == 0 && n ? "_" : "");
}

/* `member`: of an array element, or NULL. */
static void compare(struct differ *d, const char *name, int index, const char *member, size_t offset, size_t size)
{
    const char *a = (const char *)d->a + offset, *b = (const char *)d->b + offset;
    if (!memcmp(a, b, size))
        return;
    d->equal = false;
    if (!d->out)
        return;
    g_autofree char *label = index < 0 ? g_strdup_printf("%s%s", name, member ? member : "")
                                       : g_strdup_printf("%s%d%s", name, index, member ? member : "");
    g_string_append_printf(d->out, "  %-14s interp ", label);
    print_number(d->out, a, size);
    g_string_append(d->out, "  jit ");
    print_number(d->out, b, size);
    g_string_append_c(d->out, '\n');
}

#define COMPARE(d, name, index, suffix, member) \
    compare(d, name, index, suffix, offsetof(struct cpu, member), sizeof((d)->a->member))

static void compare_arrays(struct differ *d)
{
    for (unsigned k = 0; k < G_N_ELEMENTS(segment_names); k++) {
        COMPARE(d, segment_names[k], -1, ".selector", seg[k].selector);
        COMPARE(d, segment_names[k], -1, ".base", seg[k].base);
        COMPARE(d, segment_names[k], -1, ".limit", seg[k].limit);
        COMPARE(d, segment_names[k], -1, ".attr", seg[k].attr);
    }
    for (int k = 0; k < 16; k++)
        COMPARE(d, "ymm", k, NULL, v[k]);
    for (int k = 0; k < 8; k++) {
        COMPARE(d, "fpr", k, ".mantissa", fpu.st[k].mant);
        COMPARE(d, "fpr", k, ".exponent", fpu.st[k].sexp);
    }
}

static void compare_flags(struct differ *d, uint32_t undefined)
{
    static const struct { const char *name; uint32_t bit; } names[] = {
        { "CF", FLAG_CF }, { "PF", FLAG_PF }, { "AF", FLAG_AF },
        { "ZF", FLAG_ZF }, { "SF", FLAG_SF }, { "OF", FLAG_OF },
    };
    uint64_t different = (d->a->rflags ^ d->b->rflags) & ~(uint64_t)undefined;
    if (!different)
        return;
    d->equal = false;
    if (!d->out)
        return;
    g_string_append_printf(d->out, "  %-14s interp %08" PRIx64 "  jit %08" PRIx64 "  different:", "rflags",
                           d->a->rflags, d->b->rflags);
    for (unsigned k = 0; k < G_N_ELEMENTS(names); k++)
        if (different & names[k].bit)
            g_string_append_printf(d->out, " %s", names[k].name);
    if (different & ~(uint64_t)FLAGS_ARITH)
        g_string_append_printf(d->out, " %#" PRIx64, different & ~(uint64_t)FLAGS_ARITH);
    g_string_append_c(d->out, '\n');
}

/* Nearly always all of it is the same, padding and what is derived included. */
static bool same_bytes(const struct cpu *a, const struct cpu *b)
{
    size_t start = offsetof(struct cpu, seg), end = offsetof(struct cpu, sysenter_cs);
    return a->cpl == b->cpl && a->mode_key == b->mode_key && !memcmp(a->r, b->r, sizeof a->r) &&
           !memcmp((const char *)a + start, (const char *)b + start, end - start);
}

bool check_state_equal(const struct cpu *interp, const struct cpu *jit, uint32_t undefined, GString *out)
{
    struct differ d = { interp, jit, out, true };
    compare_flags(&d, undefined);
    if (!same_bytes(interp, jit)) {
        for (unsigned k = 0; k < G_N_ELEMENTS(fields); k++)
            compare(&d, fields[k].name, -1, NULL, fields[k].offset, fields[k].size);
        compare_arrays(&d);
    }
    COMPARE(&d, "own events", -1, NULL, events);
    return d.equal;
}

void check_print_raised(const struct cpu *cpu, GString *out)
{
    g_string_append(out, excp_name(cpu->raised.vector));
    if (cpu->raised.has_error)
        g_string_append_printf(out, " error %#x", cpu->raised.error);
    if (cpu->raised.vector == EXC_PF)
        g_string_append_printf(out, " address %#" PRIx64, cpu->raised.address);
    g_string_append_printf(out, " at rip %#" PRIx64, cpu->rip);
}
