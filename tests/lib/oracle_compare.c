/*
 * Compares what the host and one of our engines made of an instruction, and prints it.
 *
 * Not compared: flags that the manual leaves undefined (unless strict), approximations beyond their specified
 * precision (RCPPS, RSQRTPS), error codes' P bit at the end of the lower half of the address space and beyond (the
 * host has its own things there).
 */
#include "cpu/disas.h"
#include "cpu/float80.h"
#include "cpu/ops.h"
#include "tests/lib/float80_operands.h"
#include "tests/lib/oracle.h"

#include <math.h>
#include <string.h>

static const char *const reg_names[16] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                           "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15" };

#define ADDRESS_MASK ((UINT64_C(1) << 48) - 1)
#define FLAGS_COMPARED (FLAGS_ARITH | FLAG_IF | FLAG_DF | FLAG_NT | FLAG_AC | FLAG_ID)

struct differ {
    const char *a, *b; /* who */
    GString *out;
    bool equal;
};

static void differ(struct differ *d, const char *what, uint64_t native, uint64_t guest)
{
    if (native == guest)
        return;
    d->equal = false;
    g_string_append_printf(d->out, "#   %-8s %s %#018" PRIx64 "  %s %#018" PRIx64 "\n", what, d->a, native, d->b, guest);
}

static bool is_approximation(const struct op *op)
{
    return op == &op_rcpps || op == &op_rcpss || op == &op_rsqrtps || op == &op_rsqrtss;
}

/* SDM: relative error below 1.5 * 2^-12 each. */
static bool near_enough(uint32_t a, uint32_t b)
{
    float x, y;
    memcpy(&x, &a, 4);
    memcpy(&y, &b, 4);
    return a == b || fabsf(x - y) <= fabsf(x) * 0x1.8p-11f;
}

static void compare_vectors(struct differ *d, const struct oracle_case *c, const struct oracle_regs *n,
                            const struct oracle_regs *g)
{
    bool approximate = is_approximation(insn_row(&c->insn)->op);

    for (unsigned r = 0; r < 16; r++) {
        if (memcmp(&n->v[r], &g->v[r], 32) == 0)
            continue;
        bool near = approximate;
        for (unsigned k = 0; k < 8; k++)
            near &= near_enough(n->v[r].u32[k], g->v[r].u32[k]);
        if (near)
            continue;
        d->equal = false;
        g_string_append_printf(d->out,
                               "#   ymm%-5u %s %016" PRIx64 " %016" PRIx64 " %016" PRIx64 " %016" PRIx64
                               "\n#            %s %016" PRIx64 " %016" PRIx64 " %016" PRIx64 " %016" PRIx64 "\n",
                               r, d->a, n->v[r].u64[3], n->v[r].u64[2], n->v[r].u64[1], n->v[r].u64[0], d->b,
                               g->v[r].u64[3], g->v[r].u64[2], g->v[r].u64[1], g->v[r].u64[0]);
    }
}

/* Without the host's x87 the last place may differ, and C1 tells of it. */
static bool is_approximate(const struct insn_row *row)
{
    const struct op *op = row->op;
    return !float80_exact_math &&
           (op == &op_f2xm1 || op == &op_fyl2x || op == &op_fyl2xp1 || op == &op_fptan || op == &op_fpatan ||
            op == &op_fsin || op == &op_fcos || op == &op_fsincos);
}

static void compare_fpu(struct differ *d, const struct oracle_case *c, const struct oracle_outcome *native,
                        const struct oracle_regs *g)
{
    const struct oracle_regs *n = &native->regs;
    differ(d, "mxcsr", n->mxcsr, g->mxcsr);
    if (native->vector >= 0 && insn_row(&c->insn)->attr & ROW_MMX)
        return; /* hosts differ in how much of MMX state they have entered by then */
    differ(d, "fcw", n->fcw, g->fcw);
    bool approximate = is_approximate(insn_row(&c->insn));
    unsigned c1 = approximate ? FPU_C1 : 0;
    differ(d, "fsw", n->fsw & ~c1, g->fsw & ~c1);
    differ(d, "ftag", n->ftag, g->ftag);
    for (unsigned k = 0; k < 8; k++) {
        if (operand_alike(n->st[k], g->st[k], approximate))
            continue;
        d->equal = false;
        g_string_append_printf(d->out, "#   st%u      %s %04x %016" PRIx64 "  %s %04x %016" PRIx64 "\n", k,
                               d->a, n->st[k].sexp, n->st[k].mant, d->b, g->st[k].sexp, g->st[k].mant);
    }
    if (insn_row(&c->insn)->attr & ROW_FPU) {
        /* how far they reach depends on the host's address width */
        differ(d, "fip", n->fip & ADDRESS_MASK, g->fip & ADDRESS_MASK);
        differ(d, "fdp", n->fdp & ADDRESS_MASK, g->fdp & ADDRESS_MASK);
        differ(d, "fop", n->fop, g->fop);
    }
}

static bool has_type(const struct insn_row *row, enum operand_type type)
{
    return operand_info[row->operands[0]].type == type;
}

/* Long or masked operands: which of their bytes faults first, and which are stored by then, is the host's business. */
static bool is_long(const struct insn_row *row)
{
    const struct op *op = row->op;
    return has_type(row, TYPE_t) || has_type(row, TYPE_env) || has_type(row, TYPE_sav) || has_type(row, TYPE_fx) ||
           op == &op_maskmovq || op == &op_maskmovdqu || op == &op_vmaskmovps_store || op == &op_vmaskmovpd_store ||
           op == &op_vpmaskmovd_store || op == &op_vpmaskmovq_store || op == &op_vmaskmovps_load ||
           op == &op_vmaskmovpd_load || op == &op_vpmaskmovd_load || op == &op_vpmaskmovq_load;
}

static void compare_memory(struct differ *d, const struct oracle_outcome *n, const struct oracle_outcome *g)
{
    for (unsigned p = 0; p < ORACLE_DATA_PAGES; p++) {
        unsigned at = p * ORACLE_PAGE, shown = 0;
        if (oracle_page_kind(p) != ORACLE_RW || memcmp(n->memory + at, g->memory + at, ORACLE_PAGE) == 0)
            continue;
        d->equal = false;
        for (unsigned k = 0; k < ORACLE_PAGE && shown < 24; k++) {
            if (n->memory[at + k] == g->memory[at + k])
                continue;
            g_string_append_printf(d->out, "#   [%#x]  %s %02x  %s %02x\n", ORACLE_DATA + at + k, d->a, n->memory[at + k],
                                   d->b, g->memory[at + k]);
            shown++;
        }
    }
}

static bool is_memory_fault(int vector)
{
    return vector == EXC_PF || vector == EXC_GP || vector == EXC_SS;
}

static void compare_fault(struct differ *d, const struct oracle_case *c, const struct oracle_outcome *n,
                          const struct oracle_outcome *g)
{
    const struct insn_row *row = insn_row(&c->insn);
    uint32_t mask = n->address >= UINT64_C(0x7fffffff0000) ? ~PF_P : UINT32_MAX;

    if (is_long(row) && is_memory_fault(n->vector) && is_memory_fault(g->vector))
        return;
    if (n->vector != g->vector) {
        d->equal = false;
        g_string_append_printf(d->out, "#   exception %s %d  %s %d\n", d->a, n->vector, d->b, g->vector);
        return;
    }
    if (n->vector == EXC_PF)
        differ(d, "cr2", n->address, g->address);
    if (n->vector >= 0 && n->vector != EXC_AC)
        differ(d, "error", n->error & mask, g->error & mask);
}

bool oracle_compare(const struct oracle_case *c, const struct oracle_outcome *native,
                    const struct oracle_outcome *guest, bool strict, GString *out)
{
    const struct oracle_regs *n = &native->regs, *g = &guest->regs;
    struct differ d = { native->who, guest->who, out, true };
    /* The manual leaves open whether bytes that the mask excludes may fault. */
    if ((insn_row(&c->insn)->op == &op_maskmovq || insn_row(&c->insn)->op == &op_maskmovdqu) &&
        is_memory_fault(native->vector) && guest->vector < 0)
        return true;
    uint64_t flags = FLAGS_COMPARED & ~(uint64_t)(strict ? 0 : insn_row(&c->insn)->flags_undefined) &
                     ~(uint64_t)guest->stale;

    compare_fault(&d, c, native, guest);
    differ(&d, "rip", n->rip, g->rip);
    /* What POPA has popped before a fault is in place. */
    bool partial = native->vector >= 0 && insn_row(&c->insn)->op == &op_popa;
    for (unsigned r = 0; r < (c->mode == ORACLE_64 ? 16 : 8) && !partial; r++)
        if (r != R_RSP || !c->stack16)
            differ(&d, reg_names[r], n->r[r], g->r[r]);
    if (c->stack16)
        differ(&d, "sp", n->r[R_RSP] & 0xffff, g->r[R_RSP] & 0xffff);
    differ(&d, "rflags", n->rflags & flags, g->rflags & flags);
    compare_vectors(&d, c, n, g);
    compare_fpu(&d, c, native, g);
    if (native->vector < 0 || !is_long(insn_row(&c->insn)))
        compare_memory(&d, native, guest);
    return d.equal;
}

/* May vector register n be an operand? */
static bool names_vector(const struct insn *i, unsigned n)
{
    uint32_t attr = insn_row(i)->attr;
    if (!(attr & ROW_SSE))
        return false;
    return n == 0 || n == i->reg || n == i->vvvv || n == i->is4 || (!(i->flags & INSN_MEM) && n == i->rm) ||
           (attr & ROW_VSIB && n == i->index);
}

void oracle_describe(const struct oracle_case *c, GString *out)
{
    const struct insn_row *row = insn_row(&c->insn);
    const struct oracle_regs *r = &c->in;

    g_string_append_printf(out, "# %s (op_%s), row %u:", row->mnemonic, row->op->name, c->insn.row);
    for (unsigned k = 0; k < c->len; k++)
        g_string_append_printf(out, " %02x", c->code[k]);
    g_string_append(out, "\n# ");
    disas_print(out, c->code, c->len, r->rip, oracle_code_size(c->mode));
    for (unsigned k = 0; k < (c->mode == ORACLE_64 ? 16 : 8); k++)
        g_string_append_printf(out, "%s%3s %016" PRIx64 "%s", k % 4 ? " " : "#   ", reg_names[k], r->r[k],
                               k % 4 == 3 ? "\n" : "");
    g_string_append_printf(out, "#   rflags %#" PRIx64 " mxcsr %#x fcw %#x fsw %#x ftag %#x\n", r->rflags, r->mxcsr,
                           r->fcw, r->fsw, r->ftag);
    for (unsigned k = 0; k < 16; k++)
        if (names_vector(&c->insn, k))
            g_string_append_printf(out, "#   ymm%-2u %016" PRIx64 " %016" PRIx64 " %016" PRIx64 " %016" PRIx64 "\n", k,
                                   r->v[k].u64[3], r->v[k].u64[2], r->v[k].u64[1], r->v[k].u64[0]);
    if (row->attr & (ROW_FPU | ROW_MMX))
        for (unsigned k = 0; k < 8; k++)
            g_string_append_printf(out, "#   st%u %04x %016" PRIx64 "\n", k, r->st[k].sexp, r->st[k].mant);
    if (c->insn.flags & INSN_MEM && row->attr & ROW_MODRM) {
        uint64_t at = oracle_operand(c);
        g_string_append_printf(out, "#   operand at %#" PRIx64 ":", at);
        for (unsigned k = 0; k < 32 && at + k >= ORACLE_DATA && at + k < ORACLE_DATA + ORACLE_DATA_BYTES; k++)
            g_string_append_printf(out, " %02x", c->memory[at + k - ORACLE_DATA]);
        g_string_append_c(out, '\n');
    }
}
