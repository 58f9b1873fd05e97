/*
 * KVM as an engine: the host's processor runs guest code, the kernel's KVM keeps it in its cage.
 */
#ifndef ACCEL_KVM_H
#define ACCEL_KVM_H

#include "accel/accel.h"

extern const struct accel_ops kvm_accel;

#endif
