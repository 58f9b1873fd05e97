/*
 * Choice of an engine: by the user's order of preference, or (`auto`) the fittest that works here.
 */
#include "accel/vcpu.h"

#include "accel/interp.h"
#include "accel/jit.h"
#include "config.h"
#include "hw/core/machine.h"

#include <string.h>

static const struct accel_ops *const engines[] = {
    &interp_accel,
#ifdef CONFIG_JIT
    &jit_accel,
#endif
};

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

static bool engine_start(struct machine *m, const struct accel_ops *ops, const char *options, GError **err)
{
    if (!ops->probe(err))
        return false;
    struct accel *a = g_new0(struct accel, 1);
    a->ops = ops;
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->changed, NULL);
    m->accel = a;
    if (ops->machine_init(m, options, err))
        return true;
    pthread_cond_destroy(&a->changed);
    pthread_mutex_destroy(&a->lock);
    g_free(a);
    m->accel = NULL;
    return false;
}

/* The fittest first; those that fail are passed over silently: nobody asked for them. */
static bool start_fittest(struct machine *m, GError **err)
{
    bool tried[G_N_ELEMENTS(engines)] = { false };
    for (unsigned n = 0; n < G_N_ELEMENTS(engines); n++) {
        unsigned best = G_N_ELEMENTS(engines);
        for (unsigned k = 0; k < G_N_ELEMENTS(engines); k++)
            if (!tried[k] && (best == G_N_ELEMENTS(engines) || engines[k]->rank() > engines[best]->rank()))
                best = k;
        tried[best] = true;
        g_clear_error(err);
        if (engine_start(m, engines[best], "", err))
            return true;
    }
    return false;
}

static bool start_named(struct machine *m, const char *text, GError **err)
{
    const char *options;
    g_autofree char *name = split_options(text, &options);
    if (!strcmp(name, "auto"))
        return start_fittest(m, err);
    const struct accel_ops *ops = engine_by_name(name);
    if (ops)
        return engine_start(m, ops, options, err);
    g_set_error(err, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, "-accel %s is not available in this build", name);
    return false;
}

/* Every name is checked before any is tried. */
static bool check_names(const char *const *preferences, GError **err)
{
    for (unsigned k = 0; preferences[k]; k++) {
        const char *options;
        g_autofree char *name = split_options(preferences[k], &options);
        if (strcmp(name, "auto") && !engine_by_name(name) && !is_absent_engine(name)) {
            GString *help = g_string_new(NULL);
            for (unsigned n = 0; n < G_N_ELEMENTS(engines); n++)
                g_string_append_printf(help, ", %s", engines[n]->name);
            g_set_error(err, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, "-accel %s: no such engine; there are auto%s",
                        name, help->str);
            g_string_free(help, TRUE);
            return false;
        }
    }
    return true;
}

bool accel_init(struct machine *m, const char *const *preferences, GError **err)
{
    static const char *const any[] = { "auto", NULL };
    GError *why = NULL;
    if (!preferences || !preferences[0])
        preferences = any;
    if (!check_names(preferences, err))
        return false;
    for (unsigned k = 0; preferences[k]; k++) {
        g_clear_error(&why);
        if (start_named(m, preferences[k], &why))
            return true;
        if (preferences[k + 1])
            g_printerr("trapeze: %s; trying %s\n", why->message, preferences[k + 1]);
    }
    g_propagate_error(err, why);
    return false;
}

void accel_fini(struct machine *m)
{
    struct accel *a = m->accel;
    if (!a)
        return;
    vcpus_stop(m);
    a->ops->machine_fini(m);
    pthread_cond_destroy(&a->changed);
    pthread_mutex_destroy(&a->lock);
    g_free(a);
    m->accel = NULL;
}

const char *accel_name(const struct machine *m)
{
    return m->accel ? m->accel->ops->name : "none";
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
        g_clear_error(&err);
    }
    g_string_append(out, "auto     the fittest of these on this host (default)\n");
}
