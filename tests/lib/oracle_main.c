/*
 * The test program behind tests/insn/native*.c: random instances of every usable row, host against interpreter; then
 * the proof that the comparison notices handlers that are wrong.
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

struct run {
    struct oracle_gen gen;
    struct oracle_guest *guest;
    struct oracle_case c;
    struct oracle_outcome native, interp;
    unsigned *rows; /* the usable ones */
    unsigned row_count;
    bool strict;
    unsigned tests, failed_tests;
    GHashTable *failed_ops; /* struct op -> number of differing instances */
    unsigned failures, shown;
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

    r->failures++;
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

static void test_instances(struct run *r, unsigned count)
{
    g_autoptr(GString) diff = g_string_new(NULL);
    unsigned faults = 0, next = 0;

    for (unsigned k = 0; k < count; k++) {
        next_case(r, &next);
        oracle_native_run(&r->c, &r->native);
        oracle_guest_run(r->guest, &r->c, &r->interp);
        faults += r->native.vector >= 0;
        g_string_truncate(diff, 0);
        if (!oracle_compare(&r->c, &r->native, &r->interp, r->strict, diff))
            report(r, diff->str);
    }
    printf("# %u instances, %u of them fault, %u differ\n", count, faults, r->failures);
    if (r->failures)
        print_failed_ops(r);
    result(r, r->failures == 0, "the interpreter does what the host's processor does");
}

/*
 * Encodings with a mistake in them. Where the decoder finds an instruction it has to be the one that the host finds.
 * What it refuses the host may know, being newer: that is counted, and printed with VERBOSE=1.
 */
static void test_mutants(struct run *r, unsigned count)
{
    g_autoptr(GString) diff = g_string_new(NULL);
    unsigned valid = 0, invalid = 0, known = 0, bad = 0;

    for (unsigned k = 0; k < count; k++) {
        unsigned row = r->rows[(unsigned)(oracle_random(&r->gen) % r->row_count)];
        enum oracle_mutant m = oracle_gen_mutant(&r->gen, row, &r->c);
        if (m == ORACLE_MUTANT_NONE)
            continue;
        oracle_native_run(&r->c, &r->native);
        oracle_guest_run(r->guest, &r->c, &r->interp);
        g_string_truncate(diff, 0);
        if (m == ORACLE_MUTANT_VALID) {
            valid++;
            if (!oracle_compare(&r->c, &r->native, &r->interp, r->strict, diff) && bad++ < 10) {
                oracle_describe(&r->c, diff);
                printf("%s", diff->str);
            }
            continue;
        }
        invalid++;
        if (r->native.vector == r->interp.vector)
            continue;
        known++;
        if (getenv("VERBOSE")) {
            printf("# exception host %d interpreter %d:", r->native.vector, r->interp.vector);
            for (unsigned n = 0; n < 15; n++)
                printf(" %02x", r->c.code[n]);
            printf("\n");
        }
    }
    printf("# %u mutants are instructions, %u differ; %u are none, of which the host knows %u\n", valid, bad, invalid,
           known);
    result(r, bad == 0, "wrong encodings are decoded as the host does");
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
    r->guest = oracle_guest_new();
    printf("# SEED=%" PRIu64 "\n", seed);
    oracle_gen_init(&r->gen, seed, mode);
    choose_rows(r);
    test_instances(r, count);
    test_mutants(r, count / 5);
    test_dead_forms(r, count / 20);
    if (!getenv("ROW")) {
        test_spoiled(r);
        test_swapped(r);
    }
    printf("1..%u\n", r->tests);
    int status = r->failed_tests != 0;
    oracle_guest_free(r->guest);
    g_hash_table_unref(r->failed_ops);
    g_free(r->rows);
    g_free(r);
    return status;
}
