/*
 * One thread per vCPU: run, halt, pause, exclusive sections, work on the vCPU's thread.
 *
 * A vCPU is `running` between entering and leaving the engine; while it waits for an exclusive section (its own or another's) it
 * is also `safe`: it touches neither guest memory nor its state. Pausing waits until nobody is running and all state is in struct
 * cpu again; an exclusive section only until everybody else is out or safe.
 *
 * Locks: accel.lock, taken after the VM lock and never while calling out. A vCPU sleeps in HLT on its own condition; who posts
 * events looks at `asleep` first, so that an interrupt to a running vCPU costs no lock.
 */
#include "accel/vcpu.h"

#include "cpu/excp.h"
#include "cpu/pv.h"
#include "hw/core/log.h"
#include "hw/core/machine.h"
#include "hw/core/vm_lock.h"

struct work {
    void (*fn)(struct cpu *cpu, void *arg);
    void *arg;
    bool done;
    struct work *next;
};

struct vcpu {
    struct cpu *cpu;
    struct accel *accel;
    pthread_t thread;
    pthread_cond_t wake; /* for this thread alone */
    struct engine *engine; /* runs this vCPU; atomic; changes while it is paused */
    bool running, safe;
    bool entered;          /* the engine has state of it: vcpu_leave must be called before anybody looks */
    bool asleep; /* atomic: waits on `wake` for something to do */
    struct work *work;
};

static struct vcpu *vcpu_of(struct cpu *cpu)
{
    return cpu->vcpu;
}

static void accel_changed(struct accel *a)
{
    pthread_cond_broadcast(&a->changed);
}

/* --- Kicking --------------------------------------------------------------------------------------------------------------- */

/* Whoever sets an event before sees either the engine that runs the vCPU, or that engine sees the event when it begins. */
static void kick_engine(struct vcpu *v)
{
    struct engine *e = __atomic_load_n(&v->engine, __ATOMIC_SEQ_CST);
    if (e->ops->vcpu_kick)
        e->ops->vcpu_kick(e, v->cpu);
}

/* Something is in cpu->events: a running vCPU sees it by itself, a sleeping one must be woken. Any thread, any lock. */
static void host_kick(struct cpu *cpu)
{
    struct vcpu *v = vcpu_of(cpu);
    if (!v)
        return;
    kick_engine(v);
    if (!__atomic_load_n(&v->asleep, __ATOMIC_SEQ_CST))
        return;
    pthread_mutex_lock(&v->accel->lock);
    pthread_cond_signal(&v->wake);
    pthread_mutex_unlock(&v->accel->lock);
}

/* Makes it leave the engine. With accel.lock held. */
static void push_out(struct vcpu *v)
{
    cpu_event_set(v->cpu, CPU_EVENT_KICK);
    kick_engine(v);
    pthread_cond_signal(&v->wake);
}

/* --- Exclusive sections ------------------------------------------------------------------------------------------------------- */

static bool others_in_guest(const struct accel *a, const struct machine *m, const struct vcpu *self)
{
    for (unsigned k = 0; k < m->cpu_count; k++)
        if (a->vcpus[k] && a->vcpus[k] != self && a->vcpus[k]->running && !a->vcpus[k]->safe)
            return true;
    return false;
}

static void host_exclusive(struct cpu *cpu, void (*fn)(struct cpu *cpu, void *arg), void *arg)
{
    struct vcpu *v = vcpu_of(cpu);
    struct accel *a = v->accel;
    struct machine *m = cpu->machine;
    g_assert(!vm_locked());
    if (__atomic_load_n(&a->exclusive, __ATOMIC_RELAXED) == cpu) { /* within one already */
        fn(cpu, arg);
        return;
    }
    pthread_mutex_lock(&a->lock);
    v->safe = true;
    accel_changed(a);
    while (a->exclusive)
        pthread_cond_wait(&a->changed, &a->lock);
    __atomic_store_n(&a->exclusive, cpu, __ATOMIC_RELAXED);
    for (unsigned k = 0; k < m->cpu_count; k++)
        if (a->vcpus[k] && a->vcpus[k] != v && a->vcpus[k]->running)
            push_out(a->vcpus[k]);
    while (others_in_guest(a, m, v))
        pthread_cond_wait(&a->changed, &a->lock);
    pthread_mutex_unlock(&a->lock);

    fn(cpu, arg);

    pthread_mutex_lock(&a->lock);
    __atomic_store_n(&a->exclusive, NULL, __ATOMIC_RELAXED);
    v->safe = false;
    for (unsigned k = 0; k < m->cpu_count; k++)
        if (a->vcpus[k])
            pthread_cond_signal(&a->vcpus[k]->wake);
    accel_changed(a);
    pthread_mutex_unlock(&a->lock);
}

/* Of the boot processor only, as boards wire it. */
static void host_ferr(struct cpu *cpu, bool pending)
{
    if (!cpu->boot_processor)
        return;
    vm_lock();
    irq_set(&cpu->machine->ferr, pending);
    vm_unlock();
}

static const struct cpu_host_ops host_ops = { .exclusive = host_exclusive, .kick = host_kick, .ferr = host_ferr };

/* --- The thread ----------------------------------------------------------------------------------------------------------------- */

static void do_work(struct vcpu *v)
{
    struct accel *a = v->accel;
    while (v->work) {
        struct work *w = v->work;
        v->work = w->next;
        pthread_mutex_unlock(&a->lock);
        w->fn(v->cpu, w->arg);
        pthread_mutex_lock(&a->lock);
        w->done = true;
        accel_changed(a);
    }
}

/* The engine takes over the vCPU's state, or gives it back. With accel.lock held, but not meanwhile. */
static void enter(struct vcpu *v)
{
    struct engine *e = v->engine;
    if (v->entered || !e->ops->vcpu_enter)
        return;
    v->entered = true;
    pthread_mutex_unlock(&v->accel->lock);
    e->ops->vcpu_enter(e, v->cpu);
    pthread_mutex_lock(&v->accel->lock);
}

static void leave(struct vcpu *v)
{
    v->running = true; /* exclusive sections wait for it */
    pthread_mutex_unlock(&v->accel->lock);
    v->engine->ops->vcpu_leave(v->engine, v->cpu);
    pthread_mutex_lock(&v->accel->lock);
    v->running = v->entered = false;
    accel_changed(v->accel);
}

static bool has_work(const struct vcpu *v)
{
    return cpu_has_work(v->cpu) || (v->engine->idles_inside && v->cpu->activity != CPU_SHUTDOWN);
}

/* Waits until there is reason to run. False: the thread ends. With accel.lock held. */
static bool wait_to_run(struct vcpu *v)
{
    struct accel *a = v->accel;
    for (;;) {
        if (v->entered && (a->pause_depth || v->work) && !a->exclusive) {
            leave(v);
            continue;
        }
        if (!v->entered)
            do_work(v);
        if (a->quit)
            return false;
        __atomic_store_n(&v->asleep, true, __ATOMIC_SEQ_CST);
        if (!a->pause_depth && !a->exclusive && has_work(v)) {
            __atomic_store_n(&v->asleep, false, __ATOMIC_SEQ_CST);
            return true;
        }
        pthread_cond_wait(&v->wake, &a->lock);
        __atomic_store_n(&v->asleep, false, __ATOMIC_SEQ_CST);
    }
}

/*
 * One line for the user: what killed the processor, and what comes next. A guest that dies again and again gets one
 * line a second.
 */
static void report_shutdown(struct cpu *cpu)
{
    struct accel *a = cpu->machine->accel;
    GString *s = g_string_new(NULL);
    excp_print_chain(cpu, s);
    int64_t now = g_get_monotonic_time(), last = __atomic_load_n(&a->fault_reported, __ATOMIC_RELAXED);
    if (!last || now - last >= G_USEC_PER_SEC) {
        __atomic_store_n(&a->fault_reported, now, __ATOMIC_RELAXED);
        g_printerr("trapeze: processor %u: %s%s; %s\n", cpu->index,
                   cpu->fault_count ? "triple fault: " : "RSM found an impossible state", s->str,
                   cpu->machine->no_reboot ? "the machine stops (-no-reboot)" : "the machine resets");
    }
    if (log_on(LOG_CPU_RESET)) {
        g_string_truncate(s, 0);
        cpu_print(cpu, s);
        log_line("%s", s->str);
    }
    g_string_free(s, TRUE);
    machine_request(cpu->machine, REQUEST_RESET, "triple fault");
}

static void *vcpu_thread(void *arg)
{
    struct vcpu *v = arg;
    struct accel *a = v->accel;
    machine_set_current_cpu(v->cpu->index);
    pthread_mutex_lock(&a->lock);
    while (wait_to_run(v)) {
        struct engine *e = v->engine;
        v->running = true;
        enter(v);
        pthread_mutex_unlock(&a->lock);
        cpu_pv_enter(v->cpu);
        enum cpu_exit why = e->ops->vcpu_run(e, v->cpu);
        cpu_pv_leave(v->cpu);
        pthread_mutex_lock(&a->lock);
        if (v->entered && why == CPU_EXIT_SHUTDOWN)
            leave(v);
        v->running = false;
        accel_changed(a);
        if (why == CPU_EXIT_SHUTDOWN) {
            pthread_mutex_unlock(&a->lock);
            report_shutdown(v->cpu);
            pthread_mutex_lock(&a->lock);
        }
    }
    pthread_mutex_unlock(&a->lock);
    return NULL;
}

/* --- From the main loop ----------------------------------------------------------------------------------------------------------- */

static bool anybody_running(const struct accel *a, const struct machine *m)
{
    if (a->exclusive)
        return true;
    for (unsigned k = 0; k < m->cpu_count; k++)
        if (a->vcpus[k] && (a->vcpus[k]->running || a->vcpus[k]->entered))
            return true;
    return false;
}

bool vcpus_start(struct machine *m, GError **err)
{
    struct accel *a = m->accel;
    g_assert(vm_locked() && !a->vcpus);
    a->vcpus = g_new0(struct vcpu *, m->cpu_count);
    a->quit = false;
    a->pause_depth = 1;
    for (guint k = 0; k < a->engines->len; k++)
        if (!engine_init_vcpus(a->engines->pdata[k], err))
            return false;
    for (unsigned k = 0; k < m->cpu_count; k++) {
        struct vcpu *v = g_new0(struct vcpu, 1);
        v->cpu = m->cpus[k];
        v->accel = a;
        v->engine = a->engine;
        pthread_cond_init(&v->wake, NULL);
        v->cpu->vcpu = v;
        v->cpu->host = &host_ops;
        int e = pthread_create(&v->thread, NULL, vcpu_thread, v);
        if (e) {
            g_set_error(err, G_FILE_ERROR, g_file_error_from_errno(e), "cannot start the thread of processor %u: %s", k,
                        g_strerror(e));
            v->cpu->vcpu = NULL;
            g_free(v);
            return false;
        }
        char name[16];
        g_snprintf(name, sizeof name, "CPU %u", k);
        pthread_setname_np(v->thread, name);
        a->vcpus[k] = v;
    }
    return shifts_begin(a->shifts, err);
}

bool vcpus_paused(const struct machine *m)
{
    return m->accel->pause_depth != 0; /* this thread alone changes it */
}

void vcpus_set_engine(struct machine *m, struct engine *e)
{
    struct accel *a = m->accel;
    g_assert(vm_locked() && (!a->vcpus || vcpus_paused(m)));
    for (unsigned k = 0; a->vcpus && k < m->cpu_count; k++)
        __atomic_store_n(&a->vcpus[k]->engine, e, __ATOMIC_SEQ_CST);
}

void vcpus_pause(struct machine *m)
{
    struct accel *a = m->accel;
    g_assert(vm_locked());
    vm_unlock(); /* a vCPU on its way out may need it */
    pthread_mutex_lock(&a->lock);
    a->pause_depth = 1;
    for (unsigned k = 0; k < m->cpu_count; k++)
        if (a->vcpus[k])
            push_out(a->vcpus[k]);
    while (anybody_running(a, m))
        pthread_cond_wait(&a->changed, &a->lock);
    pthread_mutex_unlock(&a->lock);
    vm_lock();
    if (a->resumed)
        a->resumed->ops->paused(a->resumed);
    a->resumed = NULL;
}

void vcpus_resume(struct machine *m)
{
    struct accel *a = m->accel;
    g_assert(vm_locked());
    if (!a->resumed && a->engine->ops->resumed) {
        a->resumed = a->engine;
        a->engine->ops->resumed(a->engine);
    }
    pthread_mutex_lock(&a->lock);
    a->pause_depth = 0;
    for (unsigned k = 0; k < m->cpu_count; k++)
        if (a->vcpus[k])
            pthread_cond_signal(&a->vcpus[k]->wake);
    pthread_mutex_unlock(&a->lock);
}

void vcpus_stop(struct machine *m)
{
    struct accel *a = m->accel;
    if (!a || !a->vcpus)
        return;
    shifts_end(a->shifts);
    vcpus_pause(m);
    pthread_mutex_lock(&a->lock);
    a->quit = true;
    for (unsigned k = 0; k < m->cpu_count; k++)
        if (a->vcpus[k])
            pthread_cond_signal(&a->vcpus[k]->wake);
    pthread_mutex_unlock(&a->lock);
    for (unsigned k = 0; k < m->cpu_count; k++) {
        struct vcpu *v = a->vcpus[k];
        if (!v)
            continue;
        vm_unlock();
        pthread_join(v->thread, NULL);
        vm_lock();
        v->cpu->vcpu = NULL;
        v->cpu->host = NULL;
        pthread_cond_destroy(&v->wake);
        g_free(v);
    }
    for (guint k = 0; k < a->engines->len; k++)
        engine_fini_vcpus(a->engines->pdata[k]);
    g_free(a->vcpus);
    a->vcpus = NULL;
}

void vcpu_run_on(struct cpu *cpu, void (*fn)(struct cpu *cpu, void *arg), void *arg)
{
    struct vcpu *v = vcpu_of(cpu);
    if (!v) {
        fn(cpu, arg);
        return;
    }
    struct accel *a = v->accel;
    struct work w = { .fn = fn, .arg = arg };
    g_assert(vm_locked());
    vm_unlock();
    pthread_mutex_lock(&a->lock);
    w.next = v->work;
    v->work = &w;
    push_out(v);
    while (!w.done)
        pthread_cond_wait(&a->changed, &a->lock);
    pthread_mutex_unlock(&a->lock);
    vm_lock();
}
