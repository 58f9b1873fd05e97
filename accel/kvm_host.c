/*
 * /dev/kvm: opening it, what we need of it, making VMs and vCPUs.
 *
 * Linux, Documentation/virt/kvm/api.rst. What is needed is there since Linux 5.14. Chips are ours, but for the local
 * APIC where the kernel has that (kvm_apic.c). MSRs are ours, too (a filter that denies makes KVM ask us), but for those that
 * the processor itself acts on; so a guest finds the same registers with the same rules under every engine.
 */
#include "accel/kvm_vm.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEVICE "/dev/kvm"

/* --- Opening ------------------------------------------------------------------------------------------------------ */

static bool fail(GError **err, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
static bool fail(GError **err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    g_autofree char *text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    g_set_error_literal(err, G_FILE_ERROR, G_FILE_ERROR_FAILED, text);
    return false;
}

/* Which group to join, if that helps. */
static void explain_permission(GError **err)
{
    struct stat st;
    struct group entry, *found = NULL;
    char buffer[4096];
    if (stat(DEVICE, &st) == 0 && (st.st_mode & 060) == 060)
        getgrgid_r(st.st_gid, &entry, buffer, sizeof buffer, &found);
    if (found)
        fail(err,
             "KVM: no permission to open " DEVICE
             ": become a member of the group '%s' (sudo usermod -aG %s %s) and log in again",
             found->gr_name, found->gr_name, g_get_user_name());
    else
        fail(err, "KVM: no permission to open " DEVICE
                  ", which its mode allows to its owner alone: an administrator must chmod it");
}

static const struct {
    int cap;
    const char *name;
} needed[] = {
    { KVM_CAP_USER_MEMORY, "memory slots" },
    { KVM_CAP_READONLY_MEM, "read-only memory slots" },
    { KVM_CAP_IMMEDIATE_EXIT, "immediate exits" },
    { KVM_CAP_X86_USER_SPACE_MSR, "MSRs in user space" },
    { KVM_CAP_X86_MSR_FILTER, "MSR filters" },
    { KVM_CAP_XSAVE, "XSAVE state" },
    { KVM_CAP_XCRS, "XCR0" },
    { KVM_CAP_DEBUGREGS, "debug registers" },
    { KVM_CAP_VCPU_EVENTS, "pending events" },
    { KVM_CAP_SREGS2, "PDPTE registers" },
    { KVM_CAP_USER_NMI, "NMIs" },
    { KVM_CAP_GET_TSC_KHZ, "the TSC's rate" },
};

static bool check_capabilities(int kvm, GError **err)
{
    int version = ioctl(kvm, KVM_GET_API_VERSION, 0);
    if (version != KVM_API_VERSION)
        return fail(err, "KVM: the kernel's interface is version %d, this program speaks %d", version, KVM_API_VERSION);
    for (unsigned k = 0; k < G_N_ELEMENTS(needed); k++)
        if (ioctl(kvm, KVM_CHECK_EXTENSION, (long)needed[k].cap) <= 0)
            return fail(err, "KVM: this kernel's lacks %s: Linux 5.14 or newer has them", needed[k].name);
    return true;
}

int kvm_open(GError **err)
{
    int fd = open(DEVICE, O_RDWR | O_CLOEXEC);
    if (fd >= 0) {
        if (check_capabilities(fd, err))
            return fd;
        close(fd);
    } else if (errno == EACCES || errno == EPERM) {
        explain_permission(err);
    } else if (errno == ENOENT || errno == ENXIO || errno == ENODEV) {
        fail(err, "KVM: there is no " DEVICE
                  ": load the module kvm-intel or kvm-amd, switch virtualisation on in the firmware, or, "
                  "in a virtual machine, have its host allow nesting");
    } else {
        fail(err, "KVM: cannot open " DEVICE ": %s", g_strerror(errno));
    }
    return -1;
}

bool kvm_do(int fd, unsigned long request, void *arg, const char *what, GError **err)
{
    int r;
    do
        r = ioctl(fd, request, arg);
    while (r < 0 && errno == EINTR);
    return r >= 0 || fail(err, "KVM: %s: %s", what, g_strerror(errno));
}

/* --- Making ------------------------------------------------------------------------------------------------------- */

/* Where the kernel may put what it needs on processors that cannot run real mode by themselves: a hole of the board's
 * map. */
#define IDENTITY_MAP UINT64_C(0xfeffc000)
#define TSS UINT64_C(0xfeffd000)

/* In the processor: system calls, bases of FS and GS, TSC_AUX, speculation control. The rest comes to us. */
bool kvm_filter_msrs(int vm, bool apic, GError **err)
{
    static uint8_t all[8] = { 0xff }; /* whole words are read */
    static const struct {
        uint32_t base, count;
    } inside[] = {
        { 0x48, 2 },
        { 0x174, 3 },
        { 0xc0000080, 5 },
        { 0xc0000100, 4 },
        { 0x1b, 1 }, /* from here on of a local APIC: base, deadline, paravirtual EOI */
        { 0x6e0, 1 },
        { 0x4b564d04, 1 },
    };
    unsigned count = G_N_ELEMENTS(inside) - (apic ? 0 : 3);
    struct kvm_enable_cap cap = { .cap = KVM_CAP_X86_USER_SPACE_MSR };
    cap.args[0] = KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_FILTER;
    struct kvm_msr_filter filter = { .flags = KVM_MSR_FILTER_DEFAULT_DENY };
    for (unsigned k = 0; k < count; k++)
        filter.ranges[k] = (struct kvm_msr_filter_range){
            .flags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE,
            .base = inside[k].base,
            .nmsrs = inside[k].count,
            .bitmap = all,
        };
    return kvm_do(vm, KVM_ENABLE_CAP, &cap, "MSRs in user space", err) &&
           kvm_do(vm, KVM_X86_SET_MSR_FILTER, &filter, "MSR filter", err);
}

/* Kernels since 5.15 then exit at instructions that they cannot emulate in any ring, not with #UD before; others do in
 * ring 0. */
static void exit_at_misses(int vm)
{
#ifdef KVM_CAP_EXIT_ON_EMULATION_FAILURE
    struct kvm_enable_cap cap = { .cap = KVM_CAP_EXIT_ON_EMULATION_FAILURE, .args = { 1 } };
    ioctl(vm, KVM_ENABLE_CAP, &cap);
#endif
}

int kvm_make_vm(int kvm, GError **err)
{
    uint64_t identity = IDENTITY_MAP;
    int vm;
    do
        vm = ioctl(kvm, KVM_CREATE_VM, 0);
    while (vm < 0 && errno == EINTR);
    if (vm < 0) {
        fail(err, "KVM: cannot make a virtual machine: %s", g_strerror(errno));
        return -1;
    }
    /* Virtualisation without these does without them. */
    bool ok = (ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_SET_IDENTITY_MAP_ADDR) <= 0 ||
               kvm_do(vm, KVM_SET_IDENTITY_MAP_ADDR, &identity, "place of the identity map", err)) &&
              (ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_SET_TSS_ADDR) <= 0 ||
               kvm_do(vm, KVM_SET_TSS_ADDR, (void *)(uintptr_t)TSS, "place of the TSS", err)) &&
              kvm_filter_msrs(vm, false, err);
    if (ok) {
        exit_at_misses(vm);
        return vm;
    }
    close(vm);
    return -1;
}

int kvm_make_vcpu(int vm, unsigned index, size_t run_size, struct kvm_run **run, GError **err)
{
    int fd = ioctl(vm, KVM_CREATE_VCPU, (unsigned long)index);
    if (fd < 0) {
        fail(err, "KVM: cannot make processor %u: %s", index, g_strerror(errno));
        return -1;
    }
    void *p = mmap(NULL, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) {
        fail(err, "KVM: cannot map the state of processor %u: %s", index, g_strerror(errno));
        close(fd);
        return -1;
    }
    *run = p;
    return fd;
}

/* --- Kicks -------------------------------------------------------------------------------------------------------- */

static void on_kick(int number)
{
}

void kvm_watch_kicks(void)
{
    struct sigaction sa = { .sa_handler = on_kick };
    sigemptyset(&sa.sa_mask);
    sigaction(KVM_KICK_SIGNAL, &sa, NULL);
}
