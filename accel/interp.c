/*
 * The interpreter as an engine: every host can, nothing is needed. The run loop itself is cpu/interp.c.
 */
#include "accel/interp.h"

#include <string.h>

static bool interp_probe(GError **err)
{
    return true;
}

/* A KVM that works or a JIT come before it. */
static unsigned interp_rank(void)
{
    return 1;
}

static bool interp_machine_init(struct engine *e, const char *options, GError **err)
{
    if (!*options || !strcmp(options, "thread=multi") || !strcmp(options, "thread=single"))
        return true; /* threads are one for each processor in any case */
    g_set_error(err, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, "-accel interp,%s: the interpreter has no such option", options);
    return false;
}

static void interp_machine_fini(struct engine *e)
{
}

static bool interp_vcpu_init(struct engine *e, struct cpu *cpu, GError **err)
{
    return true;
}

static void interp_vcpu_fini(struct engine *e, struct cpu *cpu)
{
}

static enum cpu_exit interp_vcpu_run(struct engine *e, struct cpu *cpu)
{
    return cpu_interp_run(cpu, 0);
}

const struct accel_ops interp_accel = {
    .name = "interp",
    .description = "interpreter: every host, every guest instruction; the reference for the others",
    .probe = interp_probe,
    .rank = interp_rank,
    .machine_init = interp_machine_init,
    .machine_fini = interp_machine_fini,
    .vcpu_init = interp_vcpu_init,
    .vcpu_fini = interp_vcpu_fini,
    .vcpu_run = interp_vcpu_run,
};
