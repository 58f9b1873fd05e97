/*
 * Back-off: where KVM serves the guest badly for the moment, the fittest other engine has all processors for a while,
 * and then they come back.
 *
 * Two things lead to it. A region of code whose instructions KVM cannot run, one after the other (kvm_soft.c); and, on
 * a host whose KVM runs most modes natively but emulates one, a guest that stays in that one. A stay away lasts
 * SPAN_MIN; if it has been no use, because the same comes soon after the return, each lasts twice as long, up to
 * SPAN_MAX. All processors go together: KVM tells nobody which code it overwrites, so none may run translated code
 * while another is in KVM.
 *
 * Asked for by a vCPU's thread, done by a timer of the machine on the main loop, under the VM lock.
 */
#include "accel/kvm_vm.h"

#include "cpu/debug.h"
#include "hw/core/log.h"
#include "hw/core/vm_lock.h"

#include <inttypes.h>

#define SPAN_MIN (50 * INT64_C(1000000)) /* ns of virtual time */
#define SPAN_MAX (5 * NS_PER_SECOND)
#define SOON 4                           /* spans after the return */
#define SLOW_MODE_MAX 20000              /* us in an emulated mode before somebody else is called */

static void go_away(struct kvm_vm *vm)
{
    struct kvm_backoff *b = &vm->backoff;
    struct machine *m = vm->m;
    int64_t now = clock_now(m->clock);
    struct engine *e = accel_stand_in(m, vm->engine);
    if (!e)
        return;
    b->span = b->span && now - b->since < SOON * b->span ? MIN(2 * b->span, SPAN_MAX) : SPAN_MIN;
    b->stand_in = e;
    b->since = now;
    b->count++;
    shifts_to(m, e);
    timer_set(&b->timer, now + b->span);
}

static void come_back(struct kvm_vm *vm)
{
    struct kvm_backoff *b = &vm->backoff;
    int64_t now = clock_now(vm->m->clock);
    b->total_ns += now - b->since;
    b->since = now;
    if (vm->m->accel->engine == b->stand_in) /* else somebody has chosen another meanwhile */
        shifts_to(vm->m, vm->engine);
    b->stand_in = NULL;
}

static void on_timer(void *opaque)
{
    struct kvm_vm *vm = opaque;
    if (vm->backoff.stand_in)
        come_back(vm);
    else if (vm->m->accel->engine == vm->engine)
        go_away(vm);
}

void kvm_back_off(struct kvm_vm *vm)
{
    vm_lock();
    if (!vm->backoff.stand_in && !timer_armed(&vm->backoff.timer))
        timer_set(&vm->backoff.timer, clock_now(vm->m->clock));
    vm_unlock();
}

void kvm_backoff_start(struct kvm_vm *vm)
{
    timer_init(&vm->backoff.timer, vm->m->clock, on_timer, vm);
}

void kvm_backoff_stop(struct kvm_vm *vm)
{
    timer_cancel(&vm->backoff.timer);
}

void kvm_backoff_info(const struct kvm_vm *vm, GString *out)
{
    const struct kvm_backoff *b = &vm->backoff;
    if (b->count)
        g_string_append_printf(out, "backed off to another engine %" PRIu64 " times, for %" PRId64 " ms in all\n",
                               b->count, b->total_ns / 1000000);
}

/* --- Emulated modes ----------------------------------------------------------------------------------------------- */

enum kvm_mode kvm_mode_of(const struct kvm_sregs *s)
{
    if (!(s->cr0 & CR0_PE))
        return KVM_MODE_REAL;
    if (!(s->cr0 & CR0_PG))
        return KVM_MODE_PROTECTED;
    if (!(s->efer & EFER_LMA))
        return KVM_MODE_PAGED;
    return s->ss.dpl == 3 ? KVM_MODE_USER : KVM_MODE_LONG;
}

void kvm_watch_mode(struct kvm_vcpu *v)
{
    bool slow = v->vm->findings.mode[kvm_mode_of(&v->run->s.regs.sregs)].verdict == KVM_SLOW;
    int64_t now = slow ? g_get_monotonic_time() : 0;
    if (!slow || !v->slow_since)
        v->slow_since = now;
    else if (now - v->slow_since > SLOW_MODE_MAX)
        kvm_back_off(v->vm);
}
