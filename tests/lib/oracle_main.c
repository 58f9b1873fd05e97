/*
 * The test program behind tests/insn/native*.c: random instances of every usable row, the host against each engine;
 * then the proof that the comparison notices handlers and templates that are wrong.
 *
 * From the environment: SEED (a number, or `random`; printed; the same seed gives the same instances), COUNT instances,
 * ROW=name for one operation only (add_store, vpaddb ...), STRICT=1 to compare undefined flags too,
 * VERBOSE=1 to print encodings that the host knows and we do not.
 */
#include "cpu/ops.h"
#include "tests/lib/oracle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FAILURES_SHOWN 40
#define FAILURES_PER_OP 2

/* An engine and what came of it. */
struct subject {
    struct oracle_guest *guest;
    const char *engine;
    unsigned ways[ORACLE_WAYS]; /* instances by the part of the engine that ran them */
    unsigned failures;
};

/* The JIT with flags that may be stale and without runs half of the instances each. */
enum { INTERP, JIT, JIT_PRECISE, SUBJECTS };

struct run {
    struct oracle_gen gen;
    struct subject subjects[SUBJECTS];
    struct oracle_guest *guest; /* the interpreter's */
    struct oracle_case c;
    struct oracle_outcome native, interp;
    unsigned *rows; /* the usable ones */
    unsigned row_count;
    bool strict;
    unsigned tests, failed_tests;
    GHashTable *failed_ops; /* struct op -> number of differing instances */
    unsigned shown;
};

static void result(struct run *r, bool good, const char *what)
{
    printf("%sok %u - %s\n", good ? "" : "not ", ++r->tests, what);
    fflush(stdout);
    r->failed_tests += !good;
}

static void choose_rows(struct run *r)
{
    const char *only = getenv("ROW"), *why;
    g_autoptr(GHashTable) skipped = g_hash_table_new(g_str_hash, g_str_equal);

    r->rows = g_new(unsigned, insn_row_count);
    for (unsigned k = 0; k < insn_row_count; k++) {
        if (only && insn_rows[k].op && strcmp(only, insn_rows[k].op->name) != 0)
            continue;
        if (oracle_row_usable(&insn_rows[k], r->gen.mode, &why))
            r->rows[r->row_count++] = k;
        else
            g_hash_table_insert(skipped, (void *)why,
                                GUINT_TO_POINTER(GPOINTER_TO_UINT(g_hash_table_lookup(skipped, why)) + 1));
    }
    printf("# %u of %u rows", r->row_count, insn_row_count);
    GHashTableIter it;
    void *key, *value;
    g_hash_table_iter_init(&it, skipped);
    while (g_hash_table_iter_next(&it, &key, &value))
        printf("; skipped, %s: %u", (const char *)key, GPOINTER_TO_UINT(value));
    printf("\n");
}

static void report(struct run *r, const char *differences)
{
    const struct op *op = insn_row(&r->c.insn)->op;
    unsigned n = GPOINTER_TO_UINT(g_hash_table_lookup(r->failed_ops, op)) + 1;

    g_hash_table_insert(r->failed_ops, (void *)op, GUINT_TO_POINTER(n));
    if (n > FAILURES_PER_OP || r->shown++ >= FAILURES_SHOWN)
        return;
    g_autoptr(GString) s = g_string_new(NULL);
    oracle_describe(&r->c, s);
    g_string_append(s, differences);
    printf("%s", s->str);
}

static void print_failed_ops(struct run *r)
{
    GHashTableIter it;
    void *key, *value;

    printf("# differing:");
    g_hash_table_iter_init(&it, r->failed_ops);
    while (g_hash_table_iter_next(&it, &key, &value))
        printf(" %s %u", ((const struct op *)key)->name, GPOINTER_TO_UINT(value));
    printf("\n");
}

/* The next instance of any row from *next on, round and round. */
static void next_case(struct run *r, unsigned *next)
{
    for (unsigned tries = 0; tries < 100000; tries++) {
        unsigned row = r->rows[(*next)++ % r->row_count];
        for (unsigned k = 0; k < 20; k++)
            if (oracle_gen_case(&r->gen, row, &r->c))
                return;
    }
    g_assert_not_reached();
}

/* Runs the case by that engine; true if the outcome, in r->interp, is the host's. */
static bool agrees(struct run *r, struct subject *s, GString *diff)
{
    oracle_guest_run(s->guest, &r->c, &r->interp);
    s->ways[r->interp.way]++;
    g_string_truncate(diff, 0);
    return oracle_compare(&r->c, &r->native, &r->interp, r->strict, diff);
}

static bool takes_turn(const struct subject *s, const struct run *r, unsigned k)
{
    if (!s->guest)
        return false;
    return s == &r->subjects[INTERP] || s == &r->subjects[JIT + k % 2];
}

static void print_ways(const struct subject *s)
{
    printf("# %s: %u by template, %u by handler, %u by the interpreter\n", s->engine, s->ways[ORACLE_BY_TEMPLATE],
           s->ways[ORACLE_BY_HANDLER], s->ways[ORACLE_BY_INTERPRETER]);
}

static void test_instances(struct run *r, unsigned count)
{
    g_autoptr(GString) diff = g_string_new(NULL);
    unsigned faults = 0, next = 0;

    for (unsigned k = 0; k < count; k++) {
        next_case(r, &next);
        oracle_native_run(&r->c, &r->native);
        faults += r->native.vector >= 0;
        for (struct subject *s = r->subjects; s < r->subjects + SUBJECTS; s++) {
            if (!takes_turn(s, r, k + k / r->row_count) || agrees(r, s, diff)) /* each row by both JITs */
                continue;
            s->failures++;
            report(r, diff->str);
        }
    }
    printf("# %u instances, %u of them fault\n", count, faults);
    if (g_hash_table_size(r->failed_ops))
        print_failed_ops(r);
    for (struct subject *s = r->subjects; s < r->subjects + SUBJECTS; s++) {
        if (!s->guest)
            continue;
        if (s != &r->subjects[INTERP])
            print_ways(s);
        g_autofree char *what = g_strdup_printf("%s does what the host's processor does", s->engine);
        result(r, s->failures == 0, what);
    }
}

/*
 * Encodings with a mistake in them. Where the decoder finds an instruction it has to be the one that the host finds.
 * What it refuses the host may know, being newer: that is counted, and printed with VERBOSE=1.
 */
static void test_mutants(struct run *r, struct subject *s, unsigned count)
{
    g_autoptr(GString) diff = g_string_new(NULL);
    unsigned valid = 0, invalid = 0, known = 0, bad = 0;

    for (unsigned k = 0; k < count; k++) {
        unsigned row = r->rows[(unsigned)(oracle_random(&r->gen) % r->row_count)];
        enum oracle_mutant m = oracle_gen_mutant(&r->gen, row, &r->c);
        if (m == ORACLE_MUTANT_NONE)
            continue;
        oracle_native_run(&r->c, &r->native);
        bool equal = agrees(r, s, diff);
        if (m == ORACLE_MUTANT_VALID) {
            valid++;
            if (!equal && bad++ < 10) {
                oracle_describe(&r->c, diff);
                printf("%s", diff->str);
            }
            continue;
        }
        invalid++;
        if (r->native.vector == r->interp.vector)
            continue;
        known++;
        int vector = r->interp.vector;
        oracle_guest_run(r->guest, &r->c, &r->interp);
        if (r->interp.vector != vector && bad++ < 10)
            printf("# %s raises %d, the interpreter %d\n", s->engine, vector, r->interp.vector);
        if (getenv("VERBOSE")) {
            printf("# exception host %d %s %d:", r->native.vector, s->engine, vector);
            for (unsigned n = 0; n < 15; n++)
                printf(" %02x", r->c.code[n]);
            printf("\n");
        }
    }
    printf("# %s: %u mutants are instructions, %u differ; %u are none, of which the host knows %u\n", s->engine, valid,
           bad, invalid, known);
    g_autofree char *what = g_strdup_printf("%s: wrong encodings are decoded as the host does", s->engine);
    result(r, bad == 0, what);
}

/* Forms without flags do the same but for the flags that the row writes. */
static void test_dead_forms(struct run *r, unsigned count)
{
    g_autoptr(GString) diff = g_string_new(NULL);
    unsigned next = 0, bad = 0, compared = 0;

    for (unsigned k = 0; k < count; k++) {
        next_case(r, &next);
        op_fn *live = insn_handler(&r->c.insn, false), *dead = insn_handler(&r->c.insn, true);
        if (live == dead)
            continue;
        oracle_guest_call(r->guest, &r->c, live, &r->native);
        oracle_guest_call(r->guest, &r->c, dead, &r->interp);
        uint64_t written = insn_row(&r->c.insn)->flags_written;
        r->native.regs.rflags &= ~written;
        r->interp.regs.rflags &= ~written;
        compared++;
        g_string_truncate(diff, 0);
        if (!oracle_compare(&r->c, &r->native, &r->interp, true, diff) && bad++ < 5)
            printf("# op_%s without flags:\n%s", insn_row(&r->c.insn)->op->name, diff->str);
    }
    printf("# %u instances of forms that compute no flags\n", compared);
    result(r, bad == 0, "forms without flags do the same otherwise");
}

/* --- Does the comparison notice? ---------------------------------------------------------------------------------- */

/* What a wrong handler may do to a state; -1: the address of a wrong handler instead. */
static void spoil_register(struct oracle_outcome *o) { o->regs.r[R_RDI] ^= 1; }
static void spoil_carry(struct oracle_outcome *o) { o->regs.rflags ^= FLAG_CF; }
static void spoil_direction(struct oracle_outcome *o) { o->regs.rflags ^= FLAG_DF; }
static void spoil_rip(struct oracle_outcome *o) { o->regs.rip++; }
static void spoil_vector(struct oracle_outcome *o) { o->regs.v[3].u8[31] ^= 0x80; }
static void spoil_mxcsr(struct oracle_outcome *o) { o->regs.mxcsr ^= 0x20; }
static void spoil_x87(struct oracle_outcome *o) { o->regs.st[7].mant ^= 1; }
static void spoil_x87_top(struct oracle_outcome *o) { o->regs.fsw ^= 0x800; }
static void spoil_memory(struct oracle_outcome *o) { o->memory[4 * ORACLE_PAGE + 4095] ^= 1; }
static void spoil_exception(struct oracle_outcome *o) { o->vector = o->vector == EXC_GP ? EXC_SS : EXC_GP; }

static void test_spoiled(struct run *r)
{
    static const struct {
        const char *what;
        void (*spoil)(struct oracle_outcome *o);
    } spoilers[] = {
        { "a register", spoil_register }, { "CF", spoil_carry },           { "DF", spoil_direction },
        { "RIP", spoil_rip },             { "YMM3", spoil_vector },        { "MXCSR", spoil_mxcsr },
        { "ST7", spoil_x87 },             { "the x87 top", spoil_x87_top }, { "memory", spoil_memory },
        { "the exception", spoil_exception },
    };
    g_autoptr(GString) diff = g_string_new(NULL);
    unsigned next = 0;

    for (unsigned k = 0; k < G_N_ELEMENTS(spoilers); k++) {
        next_case(r, &next);
        while (insn_row(&r->c.insn)->flags_undefined & FLAG_CF)
            next_case(r, &next);
        oracle_native_run(&r->c, &r->native);
        r->interp = r->native;
        bool same = oracle_compare(&r->c, &r->native, &r->interp, true, diff);
        spoilers[k].spoil(&r->interp);
        bool noticed = !oracle_compare(&r->c, &r->native, &r->interp, false, diff);
        g_autofree char *what = g_strdup_printf("a wrong %s is noticed", spoilers[k].what);
        result(r, same && noticed, what);
    }
}

/* Instances of `row_op` executed by the handlers of `wrong` must differ from the host soon. */
static bool swap_is_noticed(struct run *r, const struct op *row_op, const struct op *wrong)
{
    g_autoptr(GString) diff = g_string_new(NULL);

    for (unsigned row = 0; row < insn_row_count; row++) {
        if (insn_rows[row].op != row_op)
            continue;
        for (unsigned k = 0; k < 300; k++) {
            if (!oracle_gen_case(&r->gen, row, &r->c))
                continue;
            const struct insn *i = &r->c.insn;
            unsigned size = insn_rows[row].attr & ROW_SSE ? i->vl : i->osize;
            op_fn *fn = wrong->v[size][i->flags & INSN_MEM ? 1 : 0][0];
            oracle_native_run(&r->c, &r->native);
            oracle_guest_call(r->guest, &r->c, fn, &r->interp);
            if (!oracle_compare(&r->c, &r->native, &r->interp, false, diff))
                return true;
        }
    }
    return false;
}

static void test_swapped(struct run *r)
{
    static const struct {
        const struct op *right, *wrong;
    } swaps[] = {
        { &op_add_store, &op_adc_store }, { &op_sub_load, &op_cmp_load },     { &op_inc, &op_dec },
        { &op_shl_imm, &op_rol_imm },     { &op_movzx8, &op_movsx8 },         { &op_jl, &op_jle },
        { &op_push, &op_pop },            { &op_movs, &op_stos },             { &op_bsf, &op_bsr },
        { &op_mul, &op_imul },            { &op_paddb, &op_paddw },           { &op_addps, &op_subps },
        { &op_fadd_st0_sti, &op_fsub_st0_sti },
    };

    for (unsigned k = 0; k < G_N_ELEMENTS(swaps); k++) {
        g_autofree char *what = g_strdup_printf("op_%s executed as op_%s is noticed", swaps[k].right->name,
                                                swaps[k].wrong->name);
        result(r, swap_is_noticed(r, swaps[k].right, swaps[k].wrong), what);
    }
}

/* A template that emits nothing must differ from the host soon. */
static bool spoiled_is_noticed(struct run *r, struct subject *s, const char *mnemonic, bool *native)
{
    g_autoptr(GString) diff = g_string_new(NULL);

    *native = false;
    for (unsigned k = 0; k < 300 * r->row_count; k++) {
        unsigned row = r->rows[k % r->row_count];
        if (strcmp(insn_rows[row].mnemonic, mnemonic) || !oracle_gen_case(&r->gen, row, &r->c))
            continue;
        oracle_native_run(&r->c, &r->native);
        bool equal = agrees(r, s, diff);
        *native |= r->interp.way == ORACLE_BY_TEMPLATE;
        if (!equal)
            return true;
    }
    return false;
}

static void test_spoiled_templates(struct run *r)
{
    static const char *const names[] = { "add", "lea", "cmp", "push", "pop", "imul", "sbb", "shl", "setz", "movzx",
                                         "jz", "call", "mov", "movups", "paddd", "addpd", "fld", "fadd" };

    for (unsigned k = 0; k < G_N_ELEMENTS(names); k++) {
        struct subject s = { .engine = k % 2 ? "jit" : "jit,flags=precise" };
        bool native;
        s.guest = oracle_guest_new(s.engine);
        oracle_jit_spoil(oracle_guest_cpu(s.guest), names[k]);
        bool noticed = spoiled_is_noticed(r, &s, names[k], &native);
        g_autofree char *what = g_strdup_printf("%s without a template's code is noticed", names[k]);
        if (native)
            result(r, noticed, what);
        else
            printf("ok %u # SKIP %s has no template in this mode\n", ++r->tests, names[k]);
        oracle_guest_free(s.guest);
    }
}

static void make_engines(struct run *r)
{
    static const char *const engines[SUBJECTS] = { "interp", "jit", "jit,flags=precise" };

    for (unsigned k = 0; k < SUBJECTS; k++)
        r->subjects[k] = (struct subject){ .engine = engines[k], .guest = oracle_guest_new(engines[k]) };
    r->guest = r->subjects[INTERP].guest;
}

int oracle_main(enum oracle_mode mode)
{
    g_autoptr(GString) why = g_string_new(NULL);
    const char *seed_text = getenv("SEED"), *count_text = getenv("COUNT");
    bool random = seed_text && !strcmp(seed_text, "random");
    uint64_t seed = random ? (uint64_t)time(NULL) : seed_text ? g_ascii_strtoull(seed_text, NULL, 0) : 15;
    unsigned count = mode == ORACLE_64 ? 1000000 : 300000;

    if (count_text)
        count = (unsigned)g_ascii_strtoull(count_text, NULL, 0);
    if (!oracle_native_init(mode, why)) {
        printf("1..0 # SKIP %s\n", why->str);
        return 0;
    }
    struct run *r = g_new0(struct run, 1);
    r->strict = getenv("STRICT") != NULL;
    r->failed_ops = g_hash_table_new(NULL, NULL);
    make_engines(r);
    printf("# SEED=%" PRIu64 "\n", seed);
    oracle_gen_init(&r->gen, seed, mode);
    choose_rows(r);
    test_instances(r, count);
    for (struct subject *s = r->subjects; s < r->subjects + SUBJECTS; s++)
        if (s->guest)
            test_mutants(r, s, s == &r->subjects[INTERP] ? count / 5 : count / 10);
    test_dead_forms(r, count / 20);
    if (!getenv("ROW")) {
        test_spoiled(r);
        test_swapped(r);
        if (r->subjects[JIT].guest)
            test_spoiled_templates(r);
    }
    printf("1..%u\n", r->tests);
    int status = r->failed_tests != 0;
    for (unsigned k = 0; k < SUBJECTS; k++)
        oracle_guest_free(r->subjects[k].guest);
    g_hash_table_unref(r->failed_ops);
    g_free(r->rows);
    g_free(r);
    return status;
}
