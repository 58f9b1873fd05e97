/*
 * Choice of an engine: by the user's order of preference, or (`auto`) the fittest that works here. Engines are started when they
 * are first wanted and stay until the machine's end.
 */
#include "accel/vcpu.h"

#include "accel/interp.h"
#include "accel/jit.h"
#include "accel/kvm.h"
#include "config.h"
#include "hw/core/log.h"
#include "hw/core/machine.h"
#include "hw/core/opts.h"
#include "hw/core/vm_lock.h"

#include <string.h>

static const struct accel_ops *const engines[] = {
    &interp_accel,
#ifdef CONFIG_JIT
    &jit_accel,
#endif
#ifdef CONFIG_KVM
    &kvm_accel,
#endif
};

GQuark accel_error_quark(void)
{
    return g_quark_from_static_string("trapeze-accel");
}

/* "jit,tb-size=64": the name alone; *options is the rest behind the comma. To be freed. */
static char *split_options(const char *text, const char **options)
{
    const char *comma = strchr(text, ',');
    *options = comma ? comma + 1 : "";
    return comma ? g_strndup(text, (gsize)(comma - text)) : g_strdup(text);
}

static const struct accel_ops *engine_by_name(const char *name)
{
    for (unsigned k = 0; k < G_N_ELEMENTS(engines); k++)
        if (!g_strcmp0(engines[k]->name, name) || (engines[k]->alias && !g_strcmp0(engines[k]->alias, name)))
            return engines[k];
    return NULL;
}

/* Engines that belong to the plan but not to this build: a known name, honestly refused. */
static bool is_absent_engine(const char *name)
{
    static const char *const absent[] = { "kvm", "jit", "tcg", "hvf", "whpx", "xen", "nvmm" };
    for (unsigned k = 0; k < G_N_ELEMENTS(absent); k++)
        if (!strcmp(absent[k], name))
            return true;
    return false;
}

/* --- Starting ---------------------------------------------------------------------------------------------------------------- */

/* What -accel says about that engine, wherever it stands in the list; "" if nothing. */
static const char *options_of(const struct accel *a, const struct accel_ops *ops)
{
    for (char **p = a->preferences; *p; p++) {
        const char *options;
        g_autofree char *name = split_options(*p, &options);
        if (engine_by_name(name) == ops && *options)
            return options;
    }
    return "";
}

/* The engine of that kind, if it has been started. */
static struct engine *started(const struct accel *a, const struct accel_ops *ops)
{
    for (guint k = 0; k < a->engines->len; k++)
        if (((struct engine *)a->engines->pdata[k])->ops == ops)
            return a->engines->pdata[k];
    return NULL;
}

struct engine *accel_engine(struct machine *m, const struct accel_ops *ops, GError **err)
{
    struct accel *a = m->accel;
    g_assert(vm_locked());
    struct engine *e = started(a, ops);
    if (e)
        return e;
    if (!ops->probe(err))
        return NULL;
    e = g_new0(struct engine, 1);
    e->ops = ops;
    e->machine = m;
    if (!ops->machine_init(e, options_of(a, ops), err)) {
        g_free(e);
        return NULL;
    }
    if (a->vcpus && !engine_init_vcpus(e, err)) {
        engine_fini_vcpus(e);
        ops->machine_fini(e);
        g_free(e);
        return NULL;
    }
    g_ptr_array_add(a->engines, e);
    return e;
}

bool engine_init_vcpus(struct engine *e, GError **err)
{
    for (; e->vcpus < e->machine->cpu_count; e->vcpus++)
        if (!e->ops->vcpu_init(e, e->machine->cpus[e->vcpus], err))
            return false;
    return true;
}

void engine_fini_vcpus(struct engine *e)
{
    while (e->vcpus)
        e->ops->vcpu_fini(e, e->machine->cpus[--e->vcpus]);
}

void accel_start_all(struct machine *m)
{
    for (unsigned k = 0; k < G_N_ELEMENTS(engines); k++)
        if (engines[k]->rank())
            accel_engine(m, engines[k], NULL);
}

/* The fittest first, but for `except`; those that fail are passed over silently: nobody asked for them. */
static struct engine *start_fittest(struct machine *m, const struct accel_ops *except, GError **err)
{
    unsigned rank[G_N_ELEMENTS(engines)]; /* 0: not, or tried already */
    for (unsigned k = 0; k < G_N_ELEMENTS(engines); k++)
        rank[k] = engines[k] == except ? 0 : engines[k]->rank();
    for (unsigned n = 0; n < G_N_ELEMENTS(engines); n++) {
        unsigned best = 0;
        for (unsigned k = 1; k < G_N_ELEMENTS(engines); k++)
            if (rank[k] > rank[best])
                best = k;
        if (!rank[best])
            break;
        rank[best] = 0;
        g_clear_error(err);
        struct engine *e = accel_engine(m, engines[best], err);
        if (e)
            return e;
    }
    return NULL;
}

struct engine *accel_stand_in(struct machine *m, const struct engine *e)
{
    bool paused = vcpus_paused(m);
    vcpus_pause(m);
    struct engine *other = start_fittest(m, e->ops, NULL);
    if (!paused)
        vcpus_resume(m);
    return other;
}

/* One argument of -accel. */
static struct engine *start_named(struct machine *m, const char *text, GError **err)
{
    const char *options;
    g_autofree char *name = split_options(text, &options);
    if (!strcmp(name, "auto")) {
        bool good = shifts_parse(m->accel->shifts, options, err);
        return good ? start_fittest(m, NULL, err) : NULL;
    }
    const struct accel_ops *ops = engine_by_name(name);
    if (ops)
        return accel_engine(m, ops, err);
    opts_error(err, "-accel %s is not available in this build", name);
    return NULL;
}

const char *accel_engine_name(unsigned i)
{
    return i < G_N_ELEMENTS(engines) ? engines[i]->name : NULL;
}

static char *known_names(void)
{
    GString *s = g_string_new(NULL);
    for (unsigned k = 0; k < G_N_ELEMENTS(engines); k++)
        g_string_append_printf(s, "%s%s", k ? ", " : "", accel_engine_name(k));
    return g_string_free(s, FALSE);
}

/* Every name is checked before any is tried. */
static bool check_names(const char *const *preferences, GError **err)
{
    for (unsigned k = 0; preferences[k]; k++) {
        const char *options;
        g_autofree char *name = split_options(preferences[k], &options);
        if (strcmp(name, "auto") && !engine_by_name(name) && !is_absent_engine(name)) {
            g_autofree char *names = known_names();
            return opts_error(err, "-accel %s: no such engine; there are auto, %s", name, names);
        }
    }
    return true;
}

static bool start_preferred(struct machine *m, GError **err)
{
    char **list = m->accel->preferences;
    GError *why = NULL;
    for (unsigned k = 0; list[k]; k++) {
        g_clear_error(&why);
        m->accel->engine = start_named(m, list[k], &why);
        if (m->accel->engine)
            return true;
        if (list[k + 1])
            g_printerr("trapeze: %s; trying %s\n", why->message, list[k + 1]);
    }
    /* An engine that would do it badly is no reason not to go on. */
    if (g_error_matches(why, ACCEL_ERROR, ACCEL_ERROR_UNFIT) && (m->accel->engine = start_fittest(m, NULL, err))) {
        g_printerr("trapeze: %s: %s runs the guest\n", why->message, accel_name(m));
        g_error_free(why);
        return true;
    }
    g_propagate_error(err, why);
    return false;
}

bool accel_init(struct machine *m, const char *const *preferences, GError **err)
{
    static const char *const any[] = { "auto", NULL };
    if (!preferences || !preferences[0])
        preferences = any;
    if (!check_names(preferences, err))
        return false;
    struct accel *a = g_new0(struct accel, 1);
    a->engines = g_ptr_array_new_with_free_func(g_free);
    a->preferences = g_strdupv((char **)preferences);
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->changed, NULL);
    m->accel = a;
    a->shifts = shifts_new(m);
    if (start_preferred(m, err))
        return true;
    accel_fini(m);
    return false;
}

/* --- At the end -------------------------------------------------------------------------------------------------------------- */

static void log_info(const char *name, GString *info)
{
    g_auto(GStrv) lines = g_strsplit(info->str, "\n", -1);
    for (char **l = lines; *l; l++)
        if (**l)
            log_line("%s: %s", name, *l);
    g_string_truncate(info, 0);
}

static void log_stats(struct accel *a)
{
    GString *s = g_string_new(NULL);
    shifts_info(a->shifts, s);
    log_info("accel", s);
    for (guint k = 0; k < a->engines->len; k++) {
        struct engine *e = a->engines->pdata[k];
        if (e->ops->info)
            e->ops->info(e, s);
        log_info(e->ops->name, s);
    }
    g_string_free(s, TRUE);
}

void accel_fini(struct machine *m)
{
    struct accel *a = m->accel;
    if (!a)
        return;
    vcpus_stop(m);
    if (log_on(LOG_STATS))
        log_stats(a);
    for (guint k = 0; k < a->engines->len; k++) {
        struct engine *e = a->engines->pdata[k];
        e->ops->machine_fini(e);
    }
    g_ptr_array_free(a->engines, TRUE);
    shifts_free(a->shifts);
    g_strfreev(a->preferences);
    pthread_cond_destroy(&a->changed);
    pthread_mutex_destroy(&a->lock);
    g_free(a);
    m->accel = NULL;
}

/* --- For users ---------------------------------------------------------------------------------------------------------------- */

bool accel_shift(struct machine *m, const char *name, GError **err)
{
    const struct accel_ops *ops = engine_by_name(name);
    if (!ops && is_absent_engine(name))
        return opts_error(err, "%s is not available in this build", name);
    if (!ops) {
        g_autofree char *names = known_names();
        return opts_error(err, "%s: no such engine; there are %s", name, names);
    }
    bool paused = vcpus_paused(m);
    vcpus_pause(m);
    struct engine *e = accel_engine(m, ops, err);
    if (!paused)
        vcpus_resume(m);
    if (e)
        shifts_to(m, e);
    return e != NULL;
}

const char *accel_name(const struct machine *m)
{
    return m->accel ? m->accel->engine->ops->name : "none";
}

/* Below its engine's line. */
static void append_indented(GString *out, const char *text)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (char **l = lines; *l; l++)
        if (**l)
            g_string_append_printf(out, "         %s\n", *l);
}

static void append_engine(GString *out, const struct accel *a, const struct accel_ops *ops)
{
    struct engine *e = started(a, ops);
    g_autoptr(GError) why = NULL;
    bool works = e || ops->probe(&why);
    g_string_append_printf(out, "%c %-6s %s%s\n", e && e == a->engine ? '*' : ' ', ops->name,
                           e == a->engine ? "in charge" : e ? "started" : works ? "not started yet" : "not here: ",
                           works ? "" : why->message);
    if (!e || !ops->info)
        return;
    GString *info = g_string_new(NULL);
    ops->info(e, info);
    append_indented(out, info->str);
    g_string_free(info, TRUE);
}

void accel_info(struct machine *m, GString *out)
{
    struct accel *a = m->accel;
    bool paused = vcpus_paused(m);
    vcpus_pause(m);
    for (unsigned k = 0; k < G_N_ELEMENTS(engines); k++)
        append_engine(out, a, engines[k]);
    shifts_info(a->shifts, out);
    if (!paused)
        vcpus_resume(m);
}

void accel_help(GString *out)
{
    g_string_append(out, "Engines:\n");
    for (unsigned k = 0; k < G_N_ELEMENTS(engines); k++) {
        GError *err = NULL;
        bool works = engines[k]->probe(&err);
        g_string_append_printf(out, "%-8s %s%s%s\n", engines[k]->name, engines[k]->description,
                               works ? "" : "; not here: ", works ? "" : err->message);
        if (engines[k]->options)
            g_string_append_printf(out, "         options: %s\n", engines[k]->options);
        if (works && engines[k]->help) {
            g_autoptr(GString) more = g_string_new(NULL);
            engines[k]->help(more);
            append_indented(out, more->str);
        }
        g_clear_error(&err);
    }
    g_string_append(out, "auto     the fittest of these on this host (default)\n"
                         "         options: shift=MS (for tests: moves to another engine every MS milliseconds on average), seed=N\n");
}
