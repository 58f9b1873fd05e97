/*
 * vCPU threads, as engines and accel.c see them.
 */
#ifndef ACCEL_VCPU_H
#define ACCEL_VCPU_H

#include "accel/accel.h"

#include <pthread.h>

struct vcpu;

/* The engine in charge of a machine and the state of its threads. Guarded by `lock`, which comes after the VM lock. */
struct accel {
    const struct accel_ops *ops;
    void *engine; /* the engine's own */
    pthread_mutex_t lock;
    pthread_cond_t changed; /* broadcast whenever something below or in a vcpu changes */
    struct vcpu **vcpus;    /* machine->cpu_count of them; NULL before vcpus_start */
    unsigned pause_depth;   /* vCPUs stay out of guest code while it is not 0 */
    bool quit;
    struct cpu *exclusive;  /* the one that may run alone, or NULL */
    int64_t fault_reported; /* host microseconds of the last line about a triple fault; atomic */
};

#endif
