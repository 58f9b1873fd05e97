/*
 * vCPU threads, as engines and accel.c see them.
 */
#ifndef ACCEL_VCPU_H
#define ACCEL_VCPU_H

#include "accel/accel.h"

#include <pthread.h>

struct vcpu;

/* The engines of a machine and the state of its threads. Guarded by `lock`, which comes after the VM lock, unless said otherwise. */
struct accel {
    GPtrArray *engines;     /* struct engine *, those started so far; VM lock */
    struct engine *engine;  /* the one in charge; VM lock */
    GStrv preferences;      /* the arguments of -accel */
    struct shifts *shifts;  /* of the engine in charge: counters, and those to come at random; VM lock */
    pthread_mutex_t lock;
    pthread_cond_t changed; /* broadcast whenever something below or in a vcpu changes */
    struct vcpu **vcpus;    /* machine->cpu_count of them; NULL before vcpus_start */
    unsigned pause_depth;   /* vCPUs stay out of guest code while it is not 0 */
    struct engine *resumed; /* has been told so and not yet of a pause; VM lock */
    bool quit;
    struct cpu *exclusive;  /* the one that may run alone, or NULL */
    int64_t fault_reported; /* host microseconds of the last line about a triple fault; atomic */
};

/* --- Engines (accel.c). VM lock ---------------------------------------------------------------------------------------------- */

/*
 * The engine of that kind, started now if it has not been; for that vCPUs are paused, if there are any yet. NULL: it does not work
 * here, and why.
 */
struct engine *accel_engine(struct machine *m, const struct accel_ops *ops, GError **err);
/* All that work here are started, but for those that one must name. */
void accel_start_all(struct machine *m);
/* The fittest engine but that one, started now if it has not been; main loop. NULL: there is none. */
struct engine *accel_stand_in(struct machine *m, const struct engine *e);
/* Has the engine know all vCPUs. */
bool engine_init_vcpus(struct engine *e, GError **err);
void engine_fini_vcpus(struct engine *e);

/* --- Shifting (shift.c) ----------------------------------------------------------------------------------------------------- */

struct shifts *shifts_new(struct machine *m);
void shifts_free(struct shifts *s);
/* "shift=MS,seed=N", what follows -accel auto: random shifts from vcpus_start on. */
bool shifts_parse(struct shifts *s, const char *options, GError **err);
bool shifts_begin(struct shifts *s, GError **err);
void shifts_end(struct shifts *s);
/* Puts an engine in charge that has been started; vCPUs go on if they were running. */
void shifts_to(struct machine *m, struct engine *e);
/* A line about what has been. */
void shifts_info(struct shifts *s, GString *out);

/* --- vCPU threads (vcpu.c) ---------------------------------------------------------------------------------------------------- */

bool vcpus_paused(const struct machine *m);
/* The engine that runs the vCPUs from now on; they are paused. */
void vcpus_set_engine(struct machine *m, struct engine *e);

#endif
