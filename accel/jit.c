/*
 * The JIT as an engine: its run loop and its options. Translation is in tcg/.
 *
 * Code runs in the interpreter until it has run a few times, then it is translated. What the translator does not take (a single
 * step, an instruction across two pages, code in device memory) stays in the interpreter.
 */
#include "accel/jit.h"
#include "accel/check.h"
#include "accel/vcpu.h"

#include "cpu/block.h"
#include "cpu/excp.h"
#include "hw/core/log.h"
#include "hw/core/machine.h"
#include "tcg/tcg.h"

#include <string.h>

#define DEFAULT_SIZE_MIB 128
#define MAX_SIZE_MIB 1024 /* jumps within code memory reach 2 GiB */
#define DEFAULT_HOT 8

/* --- Options ---------------------------------------------------------------------------------------------------------------- */

static bool bad_value(GError **err, const char *key, const char *value, const char *want)
{
    g_set_error(err, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, "-accel jit,%s=%s: give %s", key, value, want);
    return false;
}

static bool parse_number(const char *text, guint64 min, guint64 max, guint64 *out)
{
    return g_ascii_string_to_unsigned(text, 10, min, max, out, NULL);
}

struct jit_engine {
    struct jit *jit;
    struct jit_options options;
    bool lockstep;       /* check=interp */
    struct check *check; /* if so */
};

static bool parse_option(struct jit_engine *e, const char *key, const char *value, GError **err)
{
    struct jit_options *o = &e->options;
    guint64 n;
    if (!strcmp(key, "tb-size")) {
        if (!parse_number(value, 1, MAX_SIZE_MIB, &n))
            return bad_value(err, key, value, "the size of code memory in MiB, 1 to 1024");
        o->size = (size_t)n << 20;
    } else if (!strcmp(key, "hot")) {
        if (!parse_number(value, 0, 10000, &n))
            return bad_value(err, key, value, "how often code runs before it is translated, 0 to 10000");
        o->hot = (unsigned)n;
    } else if (!strcmp(key, "flags")) {
        if (strcmp(value, "precise") && strcmp(value, "lazy"))
            return bad_value(err, key, value, "precise or lazy");
        o->precise = !strcmp(value, "precise");
    } else if (!strcmp(key, "check")) {
        if (strcmp(value, "interp") && strcmp(value, "off"))
            return bad_value(err, key, value, "interp or off");
        e->lockstep = !strcmp(value, "interp");
    } else if (!strcmp(key, "thread")) {
        if (strcmp(value, "multi") && strcmp(value, "single"))
            return bad_value(err, key, value, "multi or single"); /* both mean a thread for each processor */
    } else {
        g_set_error(err, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                    "-accel jit,%s: no such option; there are tb-size, hot, flags, check and thread", key);
        return false;
    }
    return true;
}

static bool parse_options(struct jit_engine *e, const char *text, GError **err)
{
    g_auto(GStrv) parts = g_strsplit(text, ",", -1);
    e->options = (struct jit_options){ .size = (size_t)DEFAULT_SIZE_MIB << 20, .hot = DEFAULT_HOT };
    for (unsigned k = 0; parts[k]; k++) {
        char *value = strchr(parts[k], '=');
        if (value)
            *value++ = '\0';
        if (*parts[k] && !parse_option(e, parts[k], value ? value : "", err))
            return false;
    }
    e->options.precise |= e->lockstep;
    return true;
}

/* --- The engine ------------------------------------------------------------------------------------------------------------------ */

static bool jit_probe(GError **err)
{
    return true;
}

static unsigned jit_rank(void)
{
    return 10;
}

static bool jit_machine_init(struct engine *e, const char *options, GError **err)
{
    struct jit_engine *j = g_new0(struct jit_engine, 1);
    if (parse_options(j, options, err)) {
        j->options.perfmap = e->machine->perfmap;
        j->jit = jit_new(e->machine, &j->options, err);
    }
    if (!j->jit) {
        g_free(j);
        return false;
    }
    if (j->lockstep)
        j->check = check_new(j->jit);
    e->data = j;
    return true;
}

static void jit_info(struct engine *e, GString *out)
{
    const struct jit_engine *j = e->data;
    struct jit_stats s;
    jit_get_stats(j->jit, &s);
    g_string_append_printf(out, "%" PRIu64 " units of %" PRIu64 " instructions (%" PRIu64 " by handlers), %" PRIu64
                           " bytes of code, %" PRIu64 " ns per instruction translated; %" PRIu64 " links, %" PRIu64
                           " units invalidated, %" PRIu64 " evictions\n",
                           s.units, s.insns, s.fallback_insns, s.code_bytes, s.insns ? s.translate_ns / s.insns : 0, s.links,
                           s.invalidated, s.evictions);
    if (j->check) {
        const struct check_stats *c = check_get_stats(j->check);
        g_string_append_printf(out, "lockstep: %" PRIu64 " instructions in %" PRIu64 " blocks run by both engines, %" PRIu64
                               " by the interpreter alone; %" PRIu64 " blocks agreed only when run again\n",
                               c->insns, c->blocks, c->alone, c->again);
    }
}

static void jit_machine_fini(struct engine *e)
{
    struct jit_engine *j = e->data;
    check_free(j->check);
    jit_free(j->jit);
    g_free(j);
}

struct jit *jit_of(const struct machine *m)
{
    const struct engine *e = m->accel->engine;
    g_assert(e->ops == &jit_accel);
    return ((const struct jit_engine *)e->data)->jit;
}

static bool jit_vcpu_init(struct engine *e, struct cpu *cpu, GError **err)
{
    const struct jit_engine *j = e->data;
    if (j->check && e->machine->cpu_count > 1) {
        g_set_error(err, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                    "-accel jit,check=interp compares one processor only: give -smp 1");
        return false;
    }
    cpu->handler_calls = g_new0(uint64_t, insn_row_count);
    return true;
}

/* The rows that generated code handed to the interpreter most often. */
static void print_handler_calls(const struct cpu *cpu)
{
    uint64_t all = 0, below = UINT64_MAX;
    for (unsigned row = 0; row < insn_row_count; row++)
        all += cpu->handler_calls[row];
    log_line("jit: cpu %u: %" PRIu64 " entries of generated code, left %" PRIu64 " times for a link and %" PRIu64
             " times for a handler; %" PRIu64 " calls of handlers:", cpu->index, cpu->code_entries, cpu->left_for_link,
             cpu->left_for_handler, all);
    for (unsigned n = 0; n < 24 && all; n++) {
        unsigned best = 0;
        uint64_t most = 0;
        for (unsigned row = 0; row < insn_row_count; row++)
            if (cpu->handler_calls[row] > most && cpu->handler_calls[row] < below) {
                most = cpu->handler_calls[row];
                best = row;
            }
        if (!most)
            break;
        below = most;
        log_line("jit: %14" PRIu64 "  %5.1f %%  %s (%s)", most, 100.0 * (double)most / (double)all, insn_rows[best].mnemonic,
                 insn_rows[best].op->name);
    }
}

static void jit_vcpu_fini(struct engine *e, struct cpu *cpu)
{
    if (log_on(LOG_STATS))
        print_handler_calls(cpu);
    g_free(cpu->handler_calls);
    cpu->handler_calls = NULL;
}

/* Interprets one block; true if it has run often enough to be translated. */
static bool interpret(struct jit_engine *e, struct cpu *cpu)
{
    struct block *b = block_find(cpu, false);
    if (b->runs >= e->options.hot)
        return true;
    b->runs++;
    cpu_run_block(cpu, b);
    return false;
}

static void run_some(struct jit_engine *e, struct cpu *cpu)
{
    jit_update_context(cpu);
    const void *code = jit_find(e->jit, cpu, false);
    if (!code) {
        if (!interpret(e, cpu))
            return;
        code = jit_find(e->jit, cpu, true);
    }
    if (code)
        jit_run(e->jit, cpu, code);
    else
        cpu_run_block(cpu, block_find(cpu, false));
}

static enum cpu_exit jit_vcpu_run(struct engine *e, struct cpu *cpu)
{
    struct jit_engine *j = e->data;
    sigjmp_buf env;
    jit_enter_thread(j->jit, cpu);
    cpu->unwind = &env;
    switch (sigsetjmp(env, 0)) {
    case 0: break;
    case EXCP_UNWIND_RETRY:
        jit_unwind(j->jit, cpu);
        cpu->stepping = false;
        break;
    default:
        jit_unwind(j->jit, cpu);
        cpu->stepping = false;
        if (!excp_take_raised(cpu))
            return CPU_EXIT_SHUTDOWN;
    }
    for (;;) {
        /* Whatever is posted from here on sets it again. */
        __atomic_store_n(&cpu->poll, 0, __ATOMIC_SEQ_CST);
        uint32_t events = __atomic_load_n(&cpu->events, __ATOMIC_SEQ_CST);
        if (G_UNLIKELY(events) && cpu_due_events(cpu) & ~CPU_EVENT_STEP) {
            if (!cpu_handle_events(cpu))
                return cpu_exit_reason(cpu);
            events = __atomic_load_n(&cpu->events, __ATOMIC_SEQ_CST);
            if (G_UNLIKELY(events & CPU_EVENT_TRAP && !(events & CPU_EVENT_SHADOW)))
                continue; /* pushing a frame has met a breakpoint */
        }
        if (G_UNLIKELY(events & (CPU_EVENT_STEP | CPU_EVENT_SHADOW)))
            cpu_run_one(cpu);
        else if (!j->check)
            run_some(j, cpu);
        else if (!check_run(j->check, cpu))
            return CPU_EXIT_KICK;
    }
}

const struct accel_ops jit_accel = {
    .name = "jit",
    .alias = "tcg",
    .description = "translation to this host's code: the fastest without hardware virtualisation",
    .options = "tb-size=MIB, hot=N, flags=precise|lazy, check=interp (lockstep with the interpreter, to find bugs)",
    .probe = jit_probe,
    .rank = jit_rank,
    .machine_init = jit_machine_init,
    .machine_fini = jit_machine_fini,
    .vcpu_init = jit_vcpu_init,
    .vcpu_fini = jit_vcpu_fini,
    .vcpu_run = jit_vcpu_run,
    .info = jit_info,
};
