/*
 * What this host's KVM is worth: for each mode of the processor whether guest code runs in it as the manual says, and
 * whether the processor runs it or the kernel does, one instruction after the other.
 *
 * A KVM that opens need not be one that works. There are such that emulate all but 64-bit user code, show CPUID leaves
 * of their own, lose system calls, or keep page table entries that we have changed. A small virtual machine of 2 MiB
 * tries it, in some milliseconds; nothing of it is left behind.
 *
 * The machine: code at CODE, a GDT, an IDT and page tables that map the first 2 MiB to themselves. Each trial enters
 * its mode with register state set from outside, and ends with OUT to a port that nobody has.
 */
#include "accel/kvm_vm.h"

#include "cpu/debug.h"

#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <x86intrin.h>

#define SIZE (2u << 20)
#define CODE 0x1000
#define GDT 0x2000
#define IDT 0x3000
#define TSS 0x4000
#define HANDLER 0x5000 /* what IDT and LSTAR lead to */
#define STACK 0x8000
#define PML4 0x10000
#define PDPT 0x11000
#define PD 0x12000
#define PT 0x13000 /* of WINDOW */
#define PD32 0x14000
#define PAGE_A 0x20000
#define PAGE_B 0x21000
#define WINDOW 0x200000 /* a page that is mapped to PAGE_A, later to PAGE_B */
#define PORT 0x10
#define ROUNDS 2000       /* of a loop of two instructions; */
#define USER_ROUNDS 20000 /* in ring 3 */
#define PATIENCE_MS 200   /* for a trial: then it counts as failed */

enum {
    SEL_CODE32 = 0x08,
    SEL_DATA = 0x10,
    SEL_CODE64 = 0x18,
    SEL_USER_DATA = 0x2b,
    SEL_USER_CODE64 = 0x33,
    SEL_TSS = 0x38
};

#define BLOB(name, bits, text) \
    extern const char name##_start[], name##_end[]; \
    __asm__(".pushsection .rodata\n" #name "_start:\n.code" #bits "\n" text "\n" #name "_end:\n" \
            ".code64\n.popsection\n");

/* Between two OUTs that measure it, so that what it costs to get into the mode does not count. */
#define LOOP(rounds) "mov $" rounds ", %ecx\n 1: dec %ecx\n jnz 1b\n"
#define OUT "out %al, $0x10\n"
BLOB(kvm_loop16, 16, OUT LOOP("2000") OUT "hlt")
BLOB(kvm_loop32, 32, OUT LOOP("2000") OUT "hlt")
BLOB(kvm_loop64, 64, OUT LOOP("2000") OUT "hlt")
/* With paging switched on by the guest itself: a 4 MiB page. */
BLOB(kvm_paged32, 32,
     "mov $0x14000, %eax\n mov %eax, %cr3\n mov $0x10, %eax\n mov %eax, %cr4\n mov %cr0, %eax\n or $0x80000000, %eax\n "
     "mov %eax, %cr0\n"
     "jmp 2f\n 2: mov 0x20000, %ebx\n" OUT LOOP("2000") OUT "hlt")
/* No OUT in ring 3: it lasts longer. */
BLOB(kvm_user_syscall, 64, LOOP("20000") "rdtsc\n mov %rax, %rsi\n mov %rdx, %rdi\n syscall\n ud2")
BLOB(kvm_user_int, 64, "mov $7, %ebx\n int $0x80\n ud2")
BLOB(kvm_handler, 64, OUT "hlt")
BLOB(kvm_cpuid, 64, "mov $1, %eax\n xor %ecx, %ecx\n cpuid\n" OUT "hlt")
BLOB(kvm_xsetbv, 64, "xor %ecx, %ecx\n xor %edx, %edx\n mov $3, %eax\n xsetbv\n" OUT "hlt")
BLOB(kvm_remap, 64, "mov 0x200000, %al\n" OUT "invlpg 0x200000\n mov 0x200000, %al\n" OUT "hlt")
/* The same read by a program, whose kernel loads CR3 anew and flushes the page in between. */
BLOB(kvm_user_remap, 64, "1: mov 0x200000, %al\n int $0x80\n jmp 1b")
BLOB(kvm_remap_handler, 64, OUT "mov %cr3, %rcx\n mov %rcx, %cr3\n invlpg 0x200000\n iretq")
BLOB(kvm_exits, 16, "mov $20, %cx\n 1: out %al, $0x10\n loop 1b\n hlt")

struct trial {
    int vm, fd;
    size_t run_size;
    struct kvm_run *run;
    uint8_t *memory;
    struct kvm_sregs2 reset; /* registers of a new processor */
    struct kvm_regs regs;    /* after run_to_out() */
    struct kvm_sregs2 sregs;
    int64_t ns; /* what it took */
};

/* --- The machine -------------------------------------------------------------------------------------------------- */

static void put64(struct trial *t, unsigned at, uint64_t v)
{
    memcpy(t->memory + at, &v, 8);
}

static void put_blob(struct trial *t, unsigned at, const char *start, const char *end)
{
    memcpy(t->memory + at, start, (size_t)(end - start));
}

static void fill_memory(struct trial *t)
{
    static const uint64_t gdt[] = { 0,
                                    0x00cf9b000000ffff,
                                    0x00cf93000000ffff,
                                    0x00af9b000000ffff,
                                    0x00cf93000000ffff,
                                    0x00cff3000000ffff,
                                    0x00affb000000ffff,
                                    0x00008b0040000067,
                                    0 };
    memcpy(t->memory + GDT, gdt, sizeof gdt);
    for (unsigned vector = 0; vector < 256; vector++)
        put64(t, IDT + vector * 16, HANDLER | (uint64_t)SEL_CODE64 << 16 | UINT64_C(0xee00) << 32);
    put64(t, TSS + 4, STACK); /* RSP0 */
    put64(t, PML4, PDPT | 7);
    put64(t, PDPT, PD | 7);
    put64(t, PD, 0x87);
    put64(t, PD + 8, PT | 7);
    put64(t, PT, PAGE_A | 7);
    put64(t, PD32, 0x87);
    put64(t, PAGE_A, 0xaa);
    put64(t, PAGE_B, 0xbb);
    put_blob(t, HANDLER, kvm_handler_start, kvm_handler_end);
}

/* A processor with little more than 64-bit mode. */
#define LEAF_1_ECX (1u << 13 | 1u << 26 | 1u << 31) /* CMPXCHG16B, XSAVE, hypervisor */
#define LEAF_1_EDX 0x0708a9fb               /* as SSE2 processors have; no more than x86-64 asks for */
#define LEAF_1_ECX_OWN (1u << 27 | 1u << 3) /* OSXSAVE and MONITOR, which KVM computes */

static bool set_cpuid(struct trial *t, GError **err)
{
    struct {
        struct kvm_cpuid2 head;
        struct kvm_cpuid_entry2 e[5];
    } c = { .head.nent = 5,
            .e = {
                { .function = 0, .eax = 0xd, .ebx = 0x756e6547, .edx = 0x49656e69, .ecx = 0x6c65746e },
                { .function = 1, .eax = 0x000a0611, .ecx = LEAF_1_ECX, .edx = LEAF_1_EDX },
                { .function = 0xd, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .eax = 3, .ebx = 576, .ecx = 576 },
                { .function = 0x80000000, .eax = 0x80000001 },
                { .function = 0x80000001, .edx = 1u << 29 | 1u << 20 | 1u << 11 }, /* LM, NX, SYSCALL */
            } };
    return kvm_do(t->fd, KVM_SET_CPUID2, &c, "CPUID", err);
}

static bool make(struct trial *t, int kvm, GError **err)
{
    *t = (struct trial){ .vm = -1, .fd = -1, .run_size = (size_t)ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0) };
    t->memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (t->memory == MAP_FAILED) {
        t->memory = NULL;
        g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_NOMEM, "KVM: no memory for a trial");
        return false;
    }
    fill_memory(t);
    t->vm = kvm_make_vm(kvm, err);
    struct kvm_userspace_memory_region region = { .memory_size = SIZE, .userspace_addr = (uintptr_t)t->memory };
    if (t->vm < 0 || !kvm_do(t->vm, KVM_SET_USER_MEMORY_REGION, &region, "memory for a trial", err))
        return false;
    t->fd = kvm_make_vcpu(t->vm, 0, t->run_size, &t->run, err);
    return t->fd >= 0 && set_cpuid(t, err) && kvm_do(t->fd, KVM_GET_SREGS2, &t->reset, "registers", err);
}

static void unmake(struct trial *t)
{
    if (t->run)
        munmap(t->run, t->run_size);
    if (t->fd >= 0)
        close(t->fd);
    if (t->vm >= 0)
        close(t->vm);
    if (t->memory)
        munmap(t->memory, SIZE);
}

/* --- Modes -------------------------------------------------------------------------------------------------------- */

static struct kvm_segment flat(uint16_t selector, bool code, unsigned bits)
{
    return (struct kvm_segment){ .limit = bits == 16 ? 0xffff : UINT32_MAX,
                                 .selector = selector,
                                 .type = code ? 11 : 3,
                                 .present = 1,
                                 .dpl = selector & 3,
                                 .db = bits == 32 || (bits == 64 && !code),
                                 .s = 1,
                                 .l = bits == 64 && code,
                                 .g = bits != 16 };
}

static void set_segments(struct kvm_sregs2 *s, struct kvm_segment code, struct kvm_segment data)
{
    s->cs = code;
    s->ds = s->es = s->fs = s->gs = s->ss = data;
}

static struct kvm_sregs2 in_real(const struct trial *t)
{
    struct kvm_sregs2 s = t->reset;
    set_segments(&s, flat(0, true, 16), flat(0, false, 16));
    s.idt.limit = 0; /* a fault ends the trial */
    return s;
}

static struct kvm_sregs2 in_protected(const struct trial *t)
{
    struct kvm_sregs2 s = t->reset;
    set_segments(&s, flat(SEL_CODE32, true, 32), flat(SEL_DATA, false, 32));
    s.gdt = (struct kvm_dtable){ .base = GDT, .limit = 0x47 };
    s.idt.limit = 0;
    s.cr0 = CR0_PE | CR0_ET | CR0_NE;
    return s;
}

static struct kvm_sregs2 in_long(const struct trial *t, bool user)
{
    struct kvm_sregs2 s = in_protected(t);
    set_segments(&s, flat(user ? SEL_USER_CODE64 : SEL_CODE64, true, 64),
                 flat(user ? SEL_USER_DATA : SEL_DATA, false, 64));
    s.tr = (struct kvm_segment){ .base = TSS, .limit = 0x67, .selector = SEL_TSS, .type = 11, .present = 1 };
    s.idt = (struct kvm_dtable){ .base = IDT, .limit = 0xfff };
    s.cr0 |= CR0_PG | CR0_WP;
    s.cr3 = PML4;
    s.cr4 = CR4_PAE | CR4_OSFXSR;
    s.efer = EFER_LME | EFER_LMA | EFER_SCE | EFER_NXE;
    return s;
}

/* --- Trials ------------------------------------------------------------------------------------------------------- */

static int64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static bool put_state(struct trial *t, const struct kvm_sregs2 *s)
{
    struct kvm_regs regs = { .rip = CODE, .rflags = 2, .rsp = STACK - 0x800 };
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry e[3];
    } msrs = { .head.nmsrs = 3,
               .e = { { .index = 0xc0000081, .data = (uint64_t)0x23 << 48 | (uint64_t)SEL_CODE64 << 32 },
                      { .index = 0xc0000082, .data = HANDLER },
                      { .index = 0xc0000084, .data = 0 } } };
    struct kvm_sregs2 copy = *s;
    return ioctl(t->fd, KVM_SET_SREGS2, &copy) == 0 && ioctl(t->fd, KVM_SET_REGS, &regs) == 0 &&
           ioctl(t->fd, KVM_SET_MSRS, &msrs) == 3;
}

/* Runs up to the next OUT to our port; false if anything else happens. */
static bool run_to_out(struct trial *t)
{
    int64_t start = now_ns();
    int r = ioctl(t->fd, KVM_RUN, 0);
    t->ns = now_ns() - start;
    return r == 0 && t->run->exit_reason == KVM_EXIT_IO && t->run->io.port == PORT &&
           t->run->io.direction == KVM_EXIT_IO_OUT && ioctl(t->fd, KVM_GET_REGS, &t->regs) == 0 &&
           ioctl(t->fd, KVM_GET_SREGS2, &t->sregs) == 0;
}

/*
 * The blob in that state, up to its OUT number `outs`, twice: at first memory is not mapped. The time is that from the
 * OUT before, or from the beginning, in the faster of the two.
 */
static bool try_blob(struct trial *t, const struct kvm_sregs2 *s, const char *start, const char *end, unsigned outs)
{
    int64_t best = INT64_MAX;
    put_blob(t, CODE, start, end);
    for (unsigned n = 0; n < 2; n++) {
        if (!put_state(t, s))
            return false;
        for (unsigned k = 0; k < outs; k++)
            if (!run_to_out(t))
                return false;
        best = MIN(best, t->ns);
    }
    t->ns = best;
    return true;
}

/* Where the OUT of the blob, or of the handler, leaves RIP: behind it or, with KVMs that are late to move it, on it. */
static bool out_was_in(const struct trial *t, uint64_t at, const char *start, const char *end)
{
    return t->regs.rip >= at && t->regs.rip < at + (uint64_t)(end - start);
}

#define NATIVE_MIPS 50 /* no emulator reaches it, every processor does */

static void judge(struct kvm_finding *f, const struct trial *t, unsigned rounds, const char *flaw, int64_t exit_ns)
{
    int64_t ns = MAX(t->ns - exit_ns, 1);
    f->flaw = flaw;
    f->mips = (unsigned)MIN(2 * rounds * INT64_C(1000) / ns, 9999);
    f->verdict = flaw ? KVM_WRONG : f->mips < NATIVE_MIPS ? KVM_SLOW : KVM_GOOD;
}

static void examine_exit(struct trial *t, struct kvm_findings *f)
{
    struct kvm_sregs2 s = in_real(t);
    put_blob(t, CODE, kvm_exits_start, kvm_exits_end);
    bool good = put_state(t, &s) && run_to_out(t);
    int64_t best = INT64_MAX;
    for (unsigned n = 0; good && n < 19; n++) {
        int64_t start = now_ns();
        good = ioctl(t->fd, KVM_RUN, 0) == 0 && t->run->exit_reason == KVM_EXIT_IO;
        best = MIN(best, now_ns() - start);
    }
    f->exit_ns = good ? best : 0;
}

static void examine_kernel_modes(struct trial *t, struct kvm_findings *f)
{
    struct kvm_sregs2 s = in_real(t);
    bool good = try_blob(t, &s, kvm_loop16_start, kvm_loop16_end, 2);
    judge(&f->mode[KVM_MODE_REAL], t, ROUNDS, good ? NULL : "does not run", f->exit_ns);
    s = in_protected(t);
    good = try_blob(t, &s, kvm_loop32_start, kvm_loop32_end, 2);
    judge(&f->mode[KVM_MODE_PROTECTED], t, ROUNDS, good ? NULL : "does not run", f->exit_ns);
    good = try_blob(t, &s, kvm_paged32_start, kvm_paged32_end, 2) && (t->regs.rbx & 0xff) == 0xaa;
    judge(&f->mode[KVM_MODE_PAGED], t, ROUNDS, good ? NULL : "paging does not work", f->exit_ns);
    s = in_long(t, false);
    good =
        try_blob(t, &s, kvm_loop64_start, kvm_loop64_end, 2) && out_was_in(t, CODE, kvm_loop64_start, kvm_loop64_end);
    judge(&f->mode[KVM_MODE_LONG], t, ROUNDS, good ? NULL : "does not run", f->exit_ns);
}

#define TSC_MOVED (UINT64_C(1) << 56)

static void examine_user_mode(struct trial *t, struct kvm_findings *f)
{
    uint64_t moved = TSC_MOVED, still = 0;
    struct kvm_device_attr attr = { .group = KVM_VCPU_TSC_CTRL,
                                    .attr = KVM_VCPU_TSC_OFFSET,
                                    .addr = (uintptr_t)&moved };
    bool set = ioctl(t->fd, KVM_SET_DEVICE_ATTR, &attr) == 0;
    struct kvm_sregs2 s = in_long(t, true);
    bool good = try_blob(t, &s, kvm_user_syscall_start, kvm_user_syscall_end, 1);
    uint64_t low = HANDLER, high = HANDLER + 16;
    bool system_call =
        good && t->regs.rip >= low && t->regs.rip < high && !t->sregs.ss.dpl && !(t->sregs.cs.selector & 3);
    judge(&f->mode[KVM_MODE_USER], t, USER_ROUNDS, system_call ? NULL : "SYSCALL does not reach ring 0", f->exit_ns);
    uint64_t tsc = (t->regs.rdi << 32 | (uint32_t)t->regs.rsi) - TSC_MOVED;
    f->fixed_tsc = system_call && !(set && __rdtsc() - tsc < UINT64_C(1) << 40);
    attr.addr = (uintptr_t)&still;
    ioctl(t->fd, KVM_SET_DEVICE_ATTR, &attr);
    if (!system_call)
        return;
    good = try_blob(t, &s, kvm_user_int_start, kvm_user_int_end, 1) && t->regs.rip >= low && t->regs.rip < high &&
           t->regs.rbx == 7 && !t->sregs.ss.dpl;
    if (!good)
        judge(&f->mode[KVM_MODE_USER], t, USER_ROUNDS, "INT does not reach ring 0", f->exit_ns);
}

/* Kernels know XCR0 from intercepting XSETBV; where that does not work they load an old value before each KVM_RUN. */
static bool xcr0_is_lost(struct trial *t)
{
    struct kvm_sregs2 s = in_long(t, false);
    struct kvm_xcrs xcrs;
    s.cr4 |= CR4_OSXSAVE;
    return try_blob(t, &s, kvm_xsetbv_start, kvm_xsetbv_end, 1) && ioctl(t->fd, KVM_GET_XCRS, &xcrs) == 0 &&
           !(xcrs.nr_xcrs == 1 && xcrs.xcrs[0].value == 3);
}

/* The blob reads WINDOW, and once more when we have changed its page table entry. */
static bool sees_change(struct trial *t, const struct kvm_sregs2 *s, const char *start, const char *end)
{
    put64(t, PT, PAGE_A | 7);
    put_blob(t, CODE, start, end);
    bool good = put_state(t, s) && run_to_out(t) && (t->regs.rax & 0xff) == 0xaa;
    put64(t, PT, PAGE_B | 7);
    return good && run_to_out(t) && (t->regs.rax & 0xff) == 0xbb;
}

/*
 * Kernels and programs apart: where the kernel is emulated its accesses go by the page tables themselves, those of
 * programs by the processor's idea of them.
 */
static void examine_tables(struct trial *t, struct kvm_findings *f)
{
    struct kvm_sregs2 kernel = in_long(t, false), user = in_long(t, true);
    f->stale_tables = !sees_change(t, &kernel, kvm_remap_start, kvm_remap_end);
    put_blob(t, HANDLER, kvm_remap_handler_start, kvm_remap_handler_end);
    f->stale_tables |= !sees_change(t, &user, kvm_user_remap_start, kvm_user_remap_end);
    put_blob(t, HANDLER, kvm_handler_start, kvm_handler_end);
}

static void examine_features(struct trial *t, struct kvm_findings *f)
{
    f->lost_xcr0 = xcr0_is_lost(t);
    struct kvm_sregs2 s = in_long(t, false);
    f->own_cpuid = !try_blob(t, &s, kvm_cpuid_start, kvm_cpuid_end, 1) ||
                   (t->regs.rcx ^ LEAF_1_ECX) & ~LEAF_1_ECX_OWN & UINT32_MAX;
}

/* KVM_RUN is interrupted again and again, so that no trial lasts for ever. */
static bool start_timer(timer_t *timer)
{
    struct sigevent how = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = KVM_KICK_SIGNAL };
    how._sigev_un._tid = gettid();
    struct itimerspec when = { { 0, PATIENCE_MS * 1000000 }, { 0, PATIENCE_MS * 1000000 } };
    return timer_create(CLOCK_MONOTONIC, &how, timer) == 0 && timer_settime(*timer, 0, &when, NULL) == 0;
}

bool kvm_examine(int kvm, bool whole, struct kvm_findings *f, GError **err)
{
    struct trial t;
    timer_t timer;
    *f = (struct kvm_findings){ 0 };
    kvm_watch_kicks();
    bool good = make(&t, kvm, err);
    if (good && start_timer(&timer)) {
        examine_exit(&t, f);
        examine_kernel_modes(&t, f);
        if (whole || f->mode[KVM_MODE_LONG].verdict == KVM_GOOD) {
            examine_user_mode(&t, f);
            examine_features(&t, f);
            examine_tables(&t, f);
        }
        timer_delete(timer);
    }
    unmake(&t);
    return good;
}

/* --- What it means ------------------------------------------------------------------------------------------------ */

static const char *const mode_names[KVM_MODES] = { "real mode", "protected mode", "32-bit paging", "64-bit kernel",
                                                   "64-bit programs" };

bool kvm_is_sound(const struct kvm_findings *f)
{
    for (unsigned k = 0; k < KVM_MODES; k++)
        if (f->mode[k].verdict == KVM_WRONG)
            return false;
    return !f->own_cpuid && !f->stale_tables && !f->fixed_tsc;
}

bool kvm_is_good(const struct kvm_findings *f)
{
    return kvm_is_sound(f) && f->mode[KVM_MODE_LONG].verdict == KVM_GOOD && f->mode[KVM_MODE_USER].verdict == KVM_GOOD;
}

bool kvm_emulates_some(const struct kvm_findings *f)
{
    for (unsigned k = 0; k < KVM_MODES; k++)
        if (f->mode[k].verdict == KVM_SLOW)
            return true;
    return false;
}

/* Modes of one verdict, "a, b". */
static void list_modes(const struct kvm_findings *f, enum kvm_verdict verdict, const char *before, GString *out)
{
    bool first = true;
    for (unsigned k = 0; k < KVM_MODES; k++) {
        if (f->mode[k].verdict != verdict)
            continue;
        g_string_append_printf(out, "%s%s", first ? before : ", ", mode_names[k]);
        if (f->mode[k].flaw)
            g_string_append_printf(out, " (%s)", f->mode[k].flaw);
        first = false;
    }
}

void kvm_describe_flaws(const struct kvm_findings *f, GString *out)
{
    list_modes(f, KVM_WRONG, "; wrong: ", out);
    list_modes(f, KVM_SLOW, "; emulated: ", out);
    if (f->own_cpuid)
        g_string_append(out, "; CPUID is not as it was set");
    if (f->stale_tables)
        g_string_append(out, "; changes of page tables from outside are not seen");
    if (f->fixed_tsc)
        g_string_append(out, "; the TSC cannot be moved");
    g_string_erase(out, 0, MIN(out->len, 2));
}

void kvm_print_findings(const struct kvm_findings *f, GString *out)
{
    static const char *const verdicts[] = { [KVM_WRONG] = "wrong", [KVM_SLOW] = "emulated", [KVM_GOOD] = "native" };
    for (unsigned k = 0; k < KVM_MODES; k++) {
        const struct kvm_finding *m = &f->mode[k];
        g_string_append_printf(out, "%-16s %s", mode_names[k], verdicts[m->verdict]);
        if (m->flaw)
            g_string_append_printf(out, ": %s\n", m->flaw);
        else
            g_string_append_printf(out, ", %u million instructions/s\n", m->mips);
    }
    g_string_append_printf(out, "an exit costs %.1f us; CPUID is %sas set; changed page tables are %sseen%s%s\n",
                           (double)f->exit_ns / 1000, f->own_cpuid ? "not " : "", f->stale_tables ? "not " : "",
                           f->fixed_tsc ? "; the TSC cannot be moved" : "",
                           f->lost_xcr0 ? "; XCR0 is lost: guests have no XSAVE" : "");
}
