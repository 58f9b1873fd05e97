/*
 * The VM lock: one mutex for the device world of the whole process. Not recursive: a thread that takes it twice has
 * lost track of what it may touch, and is stopped here rather than in a deadlock.
 */
#include "hw/core/vm_lock.h"

#include <glib.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Thread_local bool locked_here;

void vm_lock(void)
{
    g_assert(!locked_here);
    int e = pthread_mutex_lock(&lock);
    g_assert(e == 0);
    locked_here = true;
}

void vm_unlock(void)
{
    g_assert(locked_here);
    locked_here = false;
    int e = pthread_mutex_unlock(&lock);
    g_assert(e == 0);
}

bool vm_locked(void)
{
    return locked_here;
}

void vm_cond_wait(pthread_cond_t *cond)
{
    g_assert(locked_here);
    locked_here = false;
    int e = pthread_cond_wait(cond, &lock);
    g_assert(e == 0);
    locked_here = true;
}
