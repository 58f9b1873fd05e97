/*
 * Random blocks of 1 to 64 instructions in all modes: two engines against each other (tests/lib/blocks.h), and the
 * proof that a wrong engine is noticed and the instruction named.
 *
 * From the environment: SEED (a number, or `random`; printed), BLOCKS how many cases, FROM the first one's number,
 * CASE=n runs a single one, ENGINE=name against the interpreter instead of the usual engines, VERBOSE=1
 * prints each case.
 */
#include "cpu/ops.h"
#include "tests/lib/blocks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FAILURES_SHOWN 8
#define FILL_EVERY 64   /* cases between new contents of the data pages */
#define MODE_EVERY 256  /* cases in a row in the same mode */

struct run {
    struct blocks_gen *gen;
    struct blocks_case c;
    uint64_t seed;
    unsigned tests, failed;
};

static void result(struct run *r, bool good, const char *what)
{
    printf("%sok %u - %s\n", good ? "" : "not ", ++r->tests, what);
    fflush(stdout);
    r->failed += !good;
}

static enum blocks_mode mode_of(uint64_t number)
{
    static const uint8_t shares[] = { BLOCKS_LONG, BLOCKS_LONG,   BLOCKS_PROT, BLOCKS_LONG, BLOCKS_SEG32, BLOCKS_LONG,
                                      BLOCKS_REAL, BLOCKS_LONG,   BLOCKS_COMPAT, BLOCKS_LONG, BLOCKS_SEG16, BLOCKS_LONG,
                                      BLOCKS_PROT, BLOCKS_LONG,   BLOCKS_V86,  BLOCKS_LONG };
    return shares[number / MODE_EVERY % G_N_ELEMENTS(shares)];
}

static void prepare(struct run *r, struct blocks_pair *p, uint64_t number, bool fill)
{
    if (fill || number % FILL_EVERY == 0)
        blocks_pair_fill(p, blocks_gen_values(r->gen, r->seed, number / FILL_EVERY));
    blocks_gen_case(r->gen, r->seed, number, mode_of(number), &r->c);
}

/* Made smaller, in machines as they are; then printed with the differences. */
static void report(struct run *r, struct blocks_pair *p)
{
    g_autoptr(GString) s = g_string_new(NULL);

    if (!blocks_minimise(p, &r->c))
        g_string_append(s, "# only after the cases before it:\n");
    blocks_describe(p, &r->c, s);
    for (unsigned n = 0; n <= r->c.again && blocks_pair_run(p, &r->c, s) != BLOCKS_DIFFERENT; n++)
        ;
    printf("%s", s->str);
    fflush(stdout);
}

/* Cases [from, from + count); how many differ. Each is reported; enough is enough. */
static unsigned run_cases(struct run *r, struct blocks_pair *p, uint64_t from, uint64_t count)
{
    unsigned different = 0;
    g_autoptr(GString) first = g_string_new(NULL);

    for (uint64_t n = from; n < from + count && different < FAILURES_SHOWN; n++) {
        prepare(r, p, n, n == from);
        if (getenv("VERBOSE")) {
            g_string_truncate(first, 0);
            blocks_describe(p, &r->c, first);
            printf("%s", first->str);
        }
        g_string_truncate(first, 0);
        enum blocks_verdict verdict = blocks_pair_run(p, &r->c, first);
        while (verdict == BLOCKS_EQUAL && r->c.again < n % 3) {
            blocks_gen_again(r->gen, &r->c);
            verdict = blocks_pair_run(p, &r->c, first);
        }
        if (verdict != BLOCKS_DIFFERENT)
            continue;
        different++;
        report(r, p);
        printf("# at first:\n%s", first->str);
    }
    return different;
}

static void print_statistics(const struct blocks_pair *p)
{
    uint64_t all = 0;

    printf("# %" PRIu64 " instructions, %" PRIu64 " pauses, %" PRIu64 " differences that may be; ended by",
           p->instructions, p->subject->pauses, p->open);
    for (unsigned v = 0; v < 33; v++)
        all += p->ends[v];
    for (unsigned v = 0; v < 32; v++)
        if (p->ends[v] * 1000 >= all)
            printf(" exception %u: %.1f %%,", v, 100.0 * p->ends[v] / all);
    printf(" none: %.1f %%\n", 100.0 * p->ends[32] / MAX(all, 1));
}

static void compare_engines(struct run *r, const char *subject, const char *model, uint64_t from, uint64_t count)
{
    g_autofree char *what = g_strdup_printf("%s does what the interpreter does: %s%s", subject, model,
                                            from & BLOCKS_FLOATS ? ", x87 and MMX" : "");
    GError *err = NULL;
    struct blocks_pair *p = blocks_pair_new("interp", subject, model, &err);

    if (!p) {
        printf("ok %u # SKIP %s: %s\n", ++r->tests, subject, err->message);
        g_error_free(err);
        return;
    }
    int64_t start = g_get_monotonic_time();
    unsigned different = run_cases(r, p, from, count);
    printf("# %s: %" PRIu64 " blocks in %.1f s; %" PRIu64 " did not end, %" PRIu64 " triple faults; %u differ\n",
           subject, count, (g_get_monotonic_time() - start) / 1e6, p->skipped, p->shutdowns, different);
    print_statistics(p);
    result(r, different == 0, what);
    blocks_pair_free(p);
}

/* --- Does it notice? ---------------------------------------------------------------------------------------------- */

static void spoil_result(struct cpu *cpu) { cpu->r[R_RDX] ^= 1; }
static void spoil_carry(struct cpu *cpu) { cpu->rflags ^= FLAG_CF; }
static void spoil_vector(struct cpu *cpu) { cpu->v[7].u64[3] ^= UINT64_C(1) << 40; }
static void spoil_x87(struct cpu *cpu) { cpu->fpu.st[3].mant ^= 2; }
static void spoil_x87_pointer(struct cpu *cpu) { cpu->fpu.ip += 2; }
static void spoil_mxcsr(struct cpu *cpu) { cpu->mxcsr ^= 0x10; }
static void spoil_rip(struct cpu *cpu) { cpu->rip++; }
static void spoil_base(struct cpu *cpu) { cpu_set_seg(cpu, SEG_GS, cpu->seg[SEG_GS].selector, cpu->seg[SEG_GS].base + 1,
                                                      cpu->seg[SEG_GS].limit, cpu->seg[SEG_GS].attr); }

static const struct broken {
    const struct op *op;
    void (*spoil)(struct cpu *cpu);
    const char *what;
} broken[] = {
    { &op_add_load, spoil_result, "a register" }, { &op_shl_imm, spoil_carry, "CF" },
    { &op_paddb, spoil_vector, "YMM7" },          { &op_fadd_st0_sti, spoil_x87, "an x87 register" },
    { &op_fld_m64, spoil_x87_pointer, "FIP" },    { &op_mulps, spoil_mxcsr, "MXCSR" },
    { &op_jle, spoil_rip, "RIP" },                { &op_movs, spoil_base, "the base of GS" },
};

/* The engine "broken" knows nothing of us. */
static const struct broken *breaking;

static void spoil(struct blocks_machine *b, const struct insn *i)
{
    if (insn_row(i)->op == breaking->op)
        breaking->spoil(b->cpu);
}

/* Is there an instruction of this operation among those that are left? */
static bool names(const struct blocks_case *c, const struct op *op, unsigned *left)
{
    struct decode_mode mode = { .code_size = (uint8_t)blocks_code_size(c->mode),
                                .protected_mode = blocks_protected(c->mode),
                                .stack32 = c->start.seg[SEG_SS].attr & SEG_DB };
    bool found = false;
    struct insn i;

    *left = 0;
    for (unsigned k = 0; k < c->count; k++) {
        if (c->items[k].gone)
            continue;
        ++*left;
        found |= decode_insn(c->code + c->items[k].at, 15, mode, &i) == DECODE_OK && insn_row(&i)->op == op;
    }
    return found;
}

static void test_coverage(struct run *r)
{
    g_autoptr(GString) unused = g_string_new(NULL);
    static struct blocks_case c;

    for (uint64_t n = 0; n < 400000 && (n % 10000 || blocks_gen_unused(r->gen, unused)); n++) {
        g_string_truncate(unused, 0);
        blocks_gen_case(r->gen, r->seed, n, mode_of(n * 16), &c);
    }
    printf("# rows never used:%s\n", unused->len ? unused->str : " none");
    result(r, !unused->len, "every row of the table is used");
}

/* Each is found within some thousand blocks, and little else is left of the block. */
static void test_broken(struct run *r)
{
    struct blocks_pair *p = blocks_pair_new("interp", "broken", "max", NULL);

    p->subject->spoil = spoil;
    for (unsigned k = 0; k < G_N_ELEMENTS(broken); k++) {
        unsigned left = 0;
        bool good = false;
        breaking = &broken[k];
        for (uint64_t n = 0; n < 40000 && !good; n++) {
            prepare(r, p, n, n == 0);
            if (blocks_pair_run(p, &r->c, NULL) != BLOCKS_DIFFERENT)
                continue;
            blocks_minimise(p, &r->c);
            good = names(&r->c, breaking->op, &left) && left <= 6;
            break;
        }
        g_autofree char *what = g_strdup_printf("%s that spoils %s is found and named", breaking->op->name,
                                                breaking->what);
        printf("# %u instructions left\n", left);
        result(r, good, what);
    }
    blocks_pair_free(p);
}

int main(void)
{
    const char *seed = getenv("SEED"), *blocks = getenv("BLOCKS"), *from = getenv("FROM"), *one = getenv("CASE");
    const char *scale = getenv("TIME_SCALE"), *engine = getenv("ENGINE");
    struct run *r = g_new0(struct run, 1);
    uint64_t count = blocks ? g_ascii_strtoull(blocks, NULL, 0) : 1000000u / (unsigned)MAX(1, scale ? atoi(scale) : 1);
    uint64_t first = from ? g_ascii_strtoull(from, NULL, 0) : 0;

    r->seed = seed && !strcmp(seed, "random") ? (uint64_t)time(NULL) : seed ? g_ascii_strtoull(seed, NULL, 0) : 4;
    r->gen = blocks_gen_new();
    printf("# SEED=%" PRIu64 "\n", r->seed);
    if (one) {
        first = g_ascii_strtoull(one, NULL, 0);
        count = 1;
    }
    if (engine) {
        compare_engines(r, engine, "max", first, count);
    } else {
        uint64_t floats = one ? first : first | BLOCKS_FLOATS;
        compare_engines(r, "jit,hot=0,flags=precise", "max", first, count);
        compare_engines(r, "jit,hot=0", "max", first, MAX(count / 5, 1));
        compare_engines(r, "jit,hot=2,tb-size=1,flags=precise", "max", first, MAX(count / 10, 1));
        compare_engines(r, "kicked jit,hot=0,flags=precise", "max", first, MAX(count / 20, 1));
        compare_engines(r, "step", "max", first, MAX(count / 10, 1));
        compare_engines(r, "jit,hot=0,flags=precise", "max", floats, MAX(count / 10, 1));
        /* Those that keep FOP, FDP and the selectors with every instruction */
        compare_engines(r, "jit,hot=0", "max,-fdp-excptn-only,-zero-fcs-fds", floats, MAX(count / 10, 1));
        if (!one) {
            test_coverage(r);
            test_broken(r);
        }
    }
    printf("1..%u\n", r->tests);
    int status = r->failed != 0;
    blocks_gen_free(r->gen);
    g_free(r);
    return status;
}
