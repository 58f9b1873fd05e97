/*
 * Memory slots: RAM and ROM of the flat view become the guest's memory, everything else makes KVM exit.
 *
 * ROM gets read-only slots, and so does RAM where the chipset has closed it to stores (the i440FX's PAM registers): a store
 * exits and goes the way of all device accesses (hw/core/access.c); a change of these registers replaces the slot. A range that is not made of whole pages gets no slot; the guest reads it through exits, and code
 * in it is interpreted. While a slot is being replaced other vCPUs may exit at an access to it: they then find the new
 * map.
 *
 * KVM tells nobody which pages it writes: whoever watches one is told of a write when a vCPU leaves KVM.
 *
 * VM lock; vCPUs may be running.
 */
#include "accel/kvm_vm.h"

#include "cpu/mem.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/ioctl.h>

static bool set_slot(struct kvm_vm *vm, unsigned number, const struct kvm_slot *s)
{
    struct kvm_userspace_memory_region region = {
        .slot = number,
        .flags = s->flags,
        .guest_phys_addr = s->start,
        .memory_size = s->size,
        .userspace_addr = (uintptr_t)s->host,
    };
    return ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region) == 0;
}

static bool fits_slot(const struct flat_range *r)
{
    return r->host && !((r->start | (r->last + 1) | (uintptr_t)r->host) & ~PAGE_MASK);
}

static void range_add(struct mem_listener *l, const struct flat_range *r)
{
    struct kvm_vm *vm = container_of(l, struct kvm_vm, listener);
    unsigned number = 0;
    if (!fits_slot(r))
        return;
    struct kvm_slot s = { r->start, r->last - r->start + 1, r->host, 0 };
    if (r->read_only || r->region->kind == MEM_ROM)
        s.flags |= KVM_MEM_READONLY;
    while (number < vm->slots->len && g_array_index(vm->slots, struct kvm_slot, number).size)
        number++;
    if (!set_slot(vm, number, &s)) { /* all still works, through exits and the interpreter */
        g_printerr("trapeze: KVM does not take %" PRIu64 " KiB of memory at %#" PRIx64 " (%s): they will be slow\n",
                   s.size >> 10, s.start, g_strerror(errno));
        return;
    }
    if (number == vm->slots->len)
        g_array_set_size(vm->slots, number + 1);
    g_array_index(vm->slots, struct kvm_slot, number) = s;
}

static void range_del(struct mem_listener *l, const struct flat_range *r)
{
    struct kvm_vm *vm = container_of(l, struct kvm_vm, listener);
    for (unsigned k = 0; k < vm->slots->len; k++) {
        struct kvm_slot *s = &g_array_index(vm->slots, struct kvm_slot, k);
        if (!s->size || s->start != r->start)
            continue;
        *s = (struct kvm_slot){ .start = s->start };
        bool gone = set_slot(vm, k, s);
        g_assert(gone); /* the kernel knows the slot */
    }
}

void kvm_memory_start(struct kvm_vm *vm)
{
    vm->slots = g_array_new(FALSE, TRUE, sizeof(struct kvm_slot));
    vm->listener = (struct mem_listener){ .range_add = range_add, .range_del = range_del };
    address_space_listen(&vm->m->memory, &vm->listener);
}

void kvm_memory_stop(struct kvm_vm *vm)
{
    address_space_unlisten(&vm->m->memory, &vm->listener);
    g_array_free(vm->slots, TRUE);
}

static void distrust_range(const struct flat_range *r)
{
    struct ram_block *b = r->region->ram;
    uint64_t first = flat_range_ram_offset(r, r->start), last = flat_range_ram_offset(r, r->last);
    for (uint64_t at = first & PAGE_MASK; at <= last; at += PAGE_SIZE)
        if (G_UNLIKELY(ram_watched(b, at)))
            ram_note_write(b, at, PAGE_SIZE);
}

void kvm_distrust_code(struct cpu *cpu)
{
    cpu_renew_view(cpu);
    for (unsigned k = 0; k < cpu->view->count; k++)
        if (cpu->view->ranges[k].region->ram)
            distrust_range(&cpu->view->ranges[k]);
}
