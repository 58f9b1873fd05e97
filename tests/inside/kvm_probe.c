/*
 * Runs within a guest that has /dev/kvm: is it a whole one? A guest of a few bytes runs in real mode; what it puts out
 * through a port is printed. Then the capabilities that matter, and what one exit costs. Exit code 1: something is wrong.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

#define MEMORY 0x10000
#define START 0x1000
#define EXITS 2000

/* mov dx, 0x3f8; mov al, 'K'; out dx, al; mov al, 'V'; out dx, al; mov al, 'M'; out dx, al; hlt;
 * then, EXITS times: l: mov al, 0; out 0x80, al; loop l; hlt */
static const uint8_t code[] = {
    0xba, 0xf8, 0x03, 0xb0, 'K', 0xee, 0xb0, 'V', 0xee, 0xb0, 'M', 0xee, 0xf4,
    0xb9, EXITS & 0xff, EXITS >> 8, 0xb0, 0x00, 0xe6, 0x80, 0xe2, 0xfa, 0xf4,
};

static const struct { int number; const char *name; } capabilities[] = {
    { KVM_CAP_NR_MEMSLOTS, "memory slots" }, { KVM_CAP_READONLY_MEM, "read-only memory" },
    { KVM_CAP_IRQCHIP, "irqchip" }, { KVM_CAP_SPLIT_IRQCHIP, "split irqchip" }, { KVM_CAP_IRQ_ROUTING, "irq routing" },
    { KVM_CAP_IRQFD, "irqfd" }, { KVM_CAP_IOEVENTFD, "ioeventfd" }, { KVM_CAP_COALESCED_MMIO, "coalesced mmio" },
    { KVM_CAP_IMMEDIATE_EXIT, "immediate exit" }, { KVM_CAP_XSAVE, "xsave" }, { KVM_CAP_XCRS, "xcrs" },
    { KVM_CAP_VCPU_EVENTS, "vcpu events" }, { KVM_CAP_DEBUGREGS, "debug registers" }, { KVM_CAP_MP_STATE, "mp state" },
    { KVM_CAP_ADJUST_CLOCK, "adjust clock" }, { KVM_CAP_TSC_CONTROL, "tsc control" }, { KVM_CAP_TSC_DEADLINE_TIMER, "tsc deadline" },
    { KVM_CAP_SET_GUEST_DEBUG, "guest debug" }, { KVM_CAP_DIRTY_LOG_RING, "dirty ring" }, { KVM_CAP_X86_SMM, "smm" },
    { KVM_CAP_X86_USER_SPACE_MSR, "user-space msr" },
};

static int call(int fd, unsigned long request, void *arg, const char *what)
{
    int r = ioctl(fd, request, arg);
    if (r < 0) {
        printf("%s: %s\n", what, strerror(errno));
        exit(1);
    }
    return r;
}

static void run(int vcpu, struct kvm_run *r)
{
    for (;;) {
        call(vcpu, KVM_RUN, NULL, "KVM_RUN");
        if (r->exit_reason == KVM_EXIT_HLT)
            return;
        if (r->exit_reason != KVM_EXIT_IO) {
            printf("exit %u, suberror %u\n", r->exit_reason, r->internal.suberror);
            exit(1);
        }
        if (r->io.port == 0x3f8)
            putchar(((const char *)r)[r->io.data_offset]);
    }
}

int main(void)
{
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (kvm < 0) {
        printf("/dev/kvm: %s\n", strerror(errno));
        return 1;
    }
    if (call(kvm, KVM_GET_API_VERSION, NULL, "KVM_GET_API_VERSION") != 12) {
        puts("another version of the interface");
        return 1;
    }
    int vm = call(kvm, KVM_CREATE_VM, NULL, "KVM_CREATE_VM");
    uint8_t *memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct kvm_userspace_memory_region slot = { .memory_size = MEMORY, .userspace_addr = (uintptr_t)memory };
    call(vm, KVM_SET_USER_MEMORY_REGION, &slot, "KVM_SET_USER_MEMORY_REGION");
    memcpy(memory + START, code, sizeof code);
    int vcpu = call(vm, KVM_CREATE_VCPU, NULL, "KVM_CREATE_VCPU");
    size_t size = (size_t)call(kvm, KVM_GET_VCPU_MMAP_SIZE, NULL, "KVM_GET_VCPU_MMAP_SIZE");
    struct kvm_run *r = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    struct kvm_sregs sregs;
    struct kvm_regs regs = { .rip = START, .rflags = 2 };
    call(vcpu, KVM_GET_SREGS, &sregs, "KVM_GET_SREGS");
    sregs.cs.base = sregs.cs.selector = 0;
    call(vcpu, KVM_SET_SREGS, &sregs, "KVM_SET_SREGS");
    call(vcpu, KVM_SET_REGS, &regs, "KVM_SET_REGS");
    printf("guest says: ");
    run(vcpu, r);
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    run(vcpu, r);
    clock_gettime(CLOCK_MONOTONIC, &to);
    printf("\none exit costs %.1f us\n", ((double)(to.tv_sec - from.tv_sec) * 1e6 + (double)(to.tv_nsec - from.tv_nsec) / 1e3) / EXITS);
    for (unsigned k = 0; k < sizeof capabilities / sizeof capabilities[0]; k++)
        printf("%s %d\n", capabilities[k].name, ioctl(vm, KVM_CHECK_EXTENSION, capabilities[k].number));
    return 0;
}
