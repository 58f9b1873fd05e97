/*
 * The JIT as an engine.
 */
#ifndef ACCEL_JIT_H
#define ACCEL_JIT_H

#include "accel/accel.h"

extern const struct accel_ops jit_accel;

/* The translator of a machine that has this engine in charge. */
struct jit *jit_of(const struct machine *m);

#endif
