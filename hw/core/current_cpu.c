/*
 * Which vCPU a thread is. Kept per thread rather than per machine: a device's access function is given no processor,
 * and a thread runs at most one.
 */
#include "hw/core/machine.h"

static _Thread_local int current_cpu = -1;

int machine_current_cpu(void)
{
    return current_cpu;
}

void machine_set_current_cpu(int index)
{
    current_cpu = index;
}
