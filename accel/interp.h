#ifndef ACCEL_INTERP_H
#define ACCEL_INTERP_H

#include "accel/accel.h"

extern const struct accel_ops interp_accel;

#endif
