/*
 * Engines: what runs a guest's processors. DESIGN section 6.
 *
 * A machine has one engine at a time. vCPU threads (accel/vcpu.c) are the same for all; an engine is a table of hooks.
 */
#ifndef ACCEL_ACCEL_H
#define ACCEL_ACCEL_H

#include "cpu/cpu.h"

#include <glib.h>
#include <stdbool.h>

struct machine;

struct accel_ops {
    const char *name;        /* "interp" */
    const char *alias;       /* other accepted spelling, or NULL */
    const char *description; /* one line for -accel help */
    const char *options;     /* "key=value, ..." for -accel help, or NULL */
    /* Can it run here at all? False: one sentence why not. */
    bool (*probe)(GError **err);
    /* Measured fitness for `auto`: higher boots a guest faster. */
    unsigned (*rank)(void);
    /* `options`: what follows the engine's name in -accel, "key=value,..."; may be empty. */
    bool (*machine_init)(struct machine *m, const char *options, GError **err);
    void (*machine_fini)(struct machine *m);
    bool (*vcpu_init)(struct cpu *cpu, GError **err);
    void (*vcpu_fini)(struct cpu *cpu);
    /* Runs until something needs the vCPU loop. Enters and leaves with struct cpu current. */
    enum cpu_exit (*vcpu_run)(struct cpu *cpu);
    /* Makes vcpu_run return soon. Any thread. */
    void (*vcpu_kick)(struct cpu *cpu);
};

/*
 * Picks and starts an engine: `preferences` are the arguments of -accel in order, NULL-terminated ("kvm", "jit,tb-size=64",
 * "auto"; empty: auto). Tries each until one works, telling in one line on stderr why one before it did not. An unknown
 * name is an error at once.
 */
bool accel_init(struct machine *m, const char *const *preferences, GError **err);
void accel_fini(struct machine *m);
const char *accel_name(const struct machine *m);
void accel_help(GString *out);

/* --- vCPU threads (vcpu.c). Called from the main loop's thread with the VM lock held, unless said otherwise. ------------ */

/* Creates the threads, paused. */
bool vcpus_start(struct machine *m, GError **err);
/* Returns when every vCPU is outside guest code; releases the VM lock meanwhile. Idempotent. */
void vcpus_pause(struct machine *m);
void vcpus_resume(struct machine *m);
/* Pauses, ends and joins the threads. */
void vcpus_stop(struct machine *m);
/* Runs fn on the vCPU's thread, or here if it is paused; returns when done. */
void vcpu_run_on(struct cpu *cpu, void (*fn)(struct cpu *cpu, void *arg), void *arg);

#endif
