/*
 * The one lock that guards devices, buses, timers and the memory tree of all machines of the process.
 *
 * Order: VM lock, then accel.lock (accel/vcpu.h). A vCPU takes it only around I/O and interrupts; never across guest
 * code. Backend workers never take it: they post to the main loop.
 */
#ifndef HW_CORE_VM_LOCK_H
#define HW_CORE_VM_LOCK_H

#include <pthread.h>
#include <stdbool.h>

void vm_lock(void);
void vm_unlock(void);
bool vm_locked(void); /* by this thread */
/* Waits on the condition with the VM lock released meanwhile. */
void vm_cond_wait(pthread_cond_t *cond);

/* Takes the lock unless this thread has it; returns what vm_unlock_if must be given. */
static inline bool vm_lock_if_free(void)
{
    if (vm_locked())
        return false;
    vm_lock();
    return true;
}

static inline void vm_unlock_if(bool taken)
{
    if (taken)
        vm_unlock();
}

#endif
