/*
 * Engines: what runs a guest's processors, and how they move from one to another. DESIGN section 6.
 *
 * A machine may have started several engines; one of them is in charge. vCPU threads (accel/vcpu.c) are the same for all; an engine
 * is a table of hooks. struct cpu, the devices and guest memory are what all engines share: whenever a vCPU is paused, all of its
 * state is there, and any engine can go on with it.
 */
#ifndef ACCEL_ACCEL_H
#define ACCEL_ACCEL_H

#include "cpu/cpu.h"

#include <glib.h>
#include <stdbool.h>

struct machine;
struct accel_ops;

/* The engine is there, but guests are better off with another. */
#define ACCEL_ERROR accel_error_quark()
enum { ACCEL_ERROR_UNFIT };
GQuark accel_error_quark(void);

/* An engine that a machine has started. */
struct engine {
    const struct accel_ops *ops;
    struct machine *machine;
    void *data;      /* the engine's own */
    bool idles_inside; /* vCPUs are run even if they are halted or wait for SIPI: it wakes them up itself */
    unsigned vcpus;  /* so many vCPUs have been through vcpu_init */
    int64_t time_ns; /* virtual time during which it was in charge, up to the last shift */
};

struct accel_ops {
    const char *name;        /* "interp" */
    const char *alias;       /* other accepted spelling, or NULL */
    const char *description; /* one line for -accel help */
    const char *options;     /* "key=value, ..." for -accel help, or NULL */
    /* What it finds out about this host, for -accel help: some lines. Optional. */
    void (*help)(GString *out);
    /* Can it run here at all? False: one sentence why not. */
    bool (*probe)(GError **err);
    /* Measured fitness for `auto`: higher boots a guest faster; 0: only for who asks for it by name. */
    unsigned (*rank)(void);
    /* `options`: what follows the engine's name in -accel, "key=value,..."; may be empty. VM lock. */
    bool (*machine_init)(struct engine *e, const char *options, GError **err);
    void (*machine_fini)(struct engine *e);
    /* The vCPU may not have its thread yet, and another engine may be in charge of it. VM lock, vCPUs paused. */
    bool (*vcpu_init)(struct engine *e, struct cpu *cpu, GError **err);
    void (*vcpu_fini)(struct engine *e, struct cpu *cpu);
    /*
     * For engines that keep state of a vCPU elsewhere between two calls of vcpu_run. vcpu_enter takes all of it out of struct cpu
     * and the devices that belong to the vCPU, vcpu_leave puts it back there; before anybody may look, the vCPU has left. Both on
     * the vCPU's thread, without locks. Between them struct cpu need only say what cpu_has_work() asks. Optional, both or none.
     */
    void (*vcpu_enter)(struct engine *e, struct cpu *cpu);
    void (*vcpu_leave)(struct engine *e, struct cpu *cpu);
    /*
     * For engines that keep what vCPUs tell each other: resumed when all are about to run, paused when all have left. Main loop, VM
     * lock. Optional, both or none.
     */
    void (*resumed)(struct engine *e);
    void (*paused)(struct engine *e);
    /* Runs until something needs the vCPU loop. On the vCPU's thread, without locks. */
    enum cpu_exit (*vcpu_run)(struct engine *e, struct cpu *cpu);
    /* Makes vcpu_run return soon, if cpu->events and cpu->poll, which are set before, don't. Any thread. Optional. */
    void (*vcpu_kick)(struct engine *e, struct cpu *cpu);
    /* Counters, a line each, for -d stats and `info accel`. vCPUs are paused. Optional. */
    void (*info)(struct engine *e, GString *out);
};

/*
 * Picks and starts an engine: `preferences` are the arguments of -accel in order, NULL-terminated ("kvm", "jit,tb-size=64",
 * "auto"; empty: auto). Tries each until one works, telling in one line on stderr why one before it did not. An unknown
 * name is an error at once. What they say about engines that are not tried counts when the engine is started later.
 *
 * "auto,shift=MS,seed=N" starts all engines that work here, and moves the vCPUs about at random instants, MS milliseconds
 * of virtual time apart on average.
 */
bool accel_init(struct machine *m, const char *const *preferences, GError **err);
void accel_fini(struct machine *m);
const char *accel_name(const struct machine *m); /* of the engine in charge */
void accel_help(GString *out);
/* Names of all engines of this build, one after the other, then NULL. */
const char *accel_engine_name(unsigned i);

/* The rest: on the main loop's thread with the VM lock held, which is released while vCPUs pause. */

/*
 * Puts another engine in charge of all vCPUs, wherever they are, starting it if need be. They go on if they were running. Fails
 * with a sentence if there is no such engine or if it does not work here; then nothing has changed.
 */
bool accel_shift(struct machine *m, const char *name, GError **err);
/* What is in charge, what else there is, and counters; several lines. */
void accel_info(struct machine *m, GString *out);

/* --- vCPU threads (vcpu.c) ------------------------------------------------------------------------------------------- */

/* Has all engines that were started know all vCPUs, and creates the threads, paused. */
bool vcpus_start(struct machine *m, GError **err);
/* Returns when every vCPU is outside guest code; releases the VM lock meanwhile. Idempotent. */
void vcpus_pause(struct machine *m);
void vcpus_resume(struct machine *m);
/* Pauses, ends and joins the threads. */
void vcpus_stop(struct machine *m);
/* Runs fn on the vCPU's thread, or here if it is paused; returns when done. */
void vcpu_run_on(struct cpu *cpu, void (*fn)(struct cpu *cpu, void *arg), void *arg);

#endif
