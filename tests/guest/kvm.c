/*
 * KVM against the interpreter: the same guests on both, with equal registers and equal memory in the end. Real mode, 32-bit
 * code, 64-bit code in ring 0, interrupts; among them instructions that many kernels' emulators do not know, so many of them
 * in one place that KVM is left for a while. Nothing here
 * depends on time, on CPUID, or on what a processor may do as it likes.
 *
 * Skipped, with a word why, where there is no KVM.
 */
#include "accel/vcpu.h"
#include "hw/core/clock.h"
#include "hw/core/vm_lock.h"
#include "tests/lib/guest_test.h"

#include <string.h>

#define RAM (4u << 20)

/* --- Guests ------------------------------------------------------------------------------------------------------- */

GUEST_CODE(real, "cli\n xor %ax, %ax\n mov %ax, %ds\n mov %ax, %es\n mov %ax, %ss\n mov $0x7000, %sp\n"
    "movw $" ORG("real_isr") ", 0x60*4\n movw $0, 0x60*4+2\n"
    /* BCD, shifts, strings, multiplication, flags */
    "mov $0x6000, %di\n mov $0x4937, %ax\n mov $40, %cx\n"
    "1: add %cl, %al\n daa\n stosw\n das\n aaa\n stosw\n imul %cx, %ax\n rcl $3, %ax\n pushf\n pop %dx\n and $1, %dx\n mov %dx, (%di)\n add $2, %di\n loop 1b\n"
    "mov $0x6000, %si\n mov $0x6200, %di\n mov $60, %cx\n rep movsw\n mov $0x6000, %si\n mov $0x6200, %di\n mov $60, %cx\n repe cmpsw\n pushw %cx\n popw 0x6400\n"
    /* an interrupt, a far call, 32-bit addresses and operands, a segment override */
    "mov $7, %bx\n int $0x60\n mov %bx, 0x6402\n lcall $0x10, $" ORG("real_far") " - 0x100\n mov %bx, 0x6404\n"
    "mov $0x12345678, %eax\n mov $0x6500, %ebx\n mov %eax, 4(%ebx,%ebx)\n bswap %eax\n mov %eax, 0x6408\n mov $0x600, %ax\n mov %ax, %es\n movw $0x600d, %es:0x410\n"
    "xor %ebx, %ebx\n cmp %bl, %bl\n lahf\n" GUEST_PUT("r") GUEST_EXIT("0")
    "real_isr: add $35, %bx\n iret\n real_far: xor $0x5555, %bx\n lret\n")

GUEST_CODE(prot, "cli\n xor %ax, %ax\n mov %ax, %ds\n mov %ax, %ss\n mov $0x7000, %sp\n"
    "lgdtl " ORG("prot_gdtr") "\n mov %cr0, %eax\n or $1, %al\n mov %eax, %cr0\n ljmpl $0x08, $" ORG("prot_32") "\n"
    ".code32\n prot_32: mov $0x10, %ax\n mov %ax, %ds\n mov %ax, %es\n mov %ax, %ss\n mov $0x7000, %esp\n"
    "mov $100, %ecx\n mov $0x1234567, %eax\n xor %edi, %edi\n"
    "2: mov %eax, 0x6000(%edi)\n mull 0x6000(%edi)\n adc %edx, %eax\n rol $5, %eax\n bsr %eax, %edx\n sbb %edx, %eax\n add $4, %edi\n loop 2b\n"
    "lock xadd %eax, 0x6200\n mov %eax, 0x6204\n lock cmpxchg8b 0x6200\n cmovc %edx, %esi\n pushal\n popal\n mov $0x6f00, %ebp\n enter $16, $2\n leave\n mov %esp, 0x6208\n"
    "btl $77, 0x6000\n setc 0x6210\n shld $7, %eax, 0x6204\n xor %edx, %edx\n mov $37, %ebx\n div %ebx\n mov %edx, 0x6214\n" GUEST_PUT("p")
    "xor %ecx, %ecx\n cmp %cl, %cl\n lahf\n" GUEST_EXIT("0")
    ".balign 8\n prot_gdt: .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff\n prot_gdtr: .word 23\n .long " ORG("prot_gdt") "\n")

GUEST_CODE(wide, GUEST_ENTER_LONG("wide")
    "mov $0x6000, %edi\n mov $0x123456789abcdef, %rax\n mov $50, %ecx\n"
    "1: mov %rax, (%rdi)\n rol $13, %rax\n mul %rdi\n xor %rdx, %rax\n bts %rcx, %rax\n add $8, %rdi\n loop 1b\n"
    "mov $0x6000, %esi\n mov $0x6400, %edi\n mov $100, %ecx\n rep movsl\n mov %rsi, %r8\n mov %rdi, %r9\n not %r8\n"
    "lea wide_sub(%rip), %rbx\n call *%rbx\n push %rax\n popq 0x6800\n movabs %rax, 0x6808\n cqo\n idivq 0x6010\n mov %rdx, 0x6810\n cmp %al, %al\n" GUEST_PUT("w") GUEST_EXIT("0")
    "wide_sub: sar $1, %rax\n movsbq %al, %r11\n movzwl %ax, %r12d\n cmp %r11, %r12\n cmovl %r11, %r13\n setg %r14b\n ret\n" GUEST_GDT("wide"))

/* x87, SSE, 16-byte exchanges, and device memory as the operand of an instruction that no emulator needs to know. */
#define ENABLE_SSE "mov %cr4, %rax\n or $0x600, %eax\n mov %rax, %cr4\n mov %cr0, %rax\n and $~4, %eax\n or $2, %eax\n mov %rax, %cr0\n fninit\n"
#define MAP_APIC "mov $0xfee00083, %eax\n mov %rax, 0x3ff8\n mov %cr3, %rax\n mov %rax, %cr3\n"
GUEST_CODE(rare, GUEST_ENTER_LONG("rare") ENABLE_SSE MAP_APIC
    "movl $3, 0x6000\n fildl 0x6000\n fldpi\n fmul %st(1)\n fwait\n fstpt 0x6010\n fistpl 0x6020\n fld1\n fldl2t\n"
    "movl $0x3fc00000, 0x6030\n movss 0x6030, %xmm1\n shufps $0, %xmm1, %xmm1\n mulps %xmm1, %xmm1\n movups %xmm1, 0x6040\n cvttss2si %xmm1, %rax\n mov %rax, 0x6050\n"
    "movl $0x1ff, 0x3fe000f0\n pxor %xmm2, %xmm2\n paddd 0x3fe000f0, %xmm2\n movdqu %xmm2, 0x6060\n"
    "mov $1, %eax\n mov $2, %edx\n mov %rax, 0x6080\n mov %rdx, 0x6088\n mov $0x55, %ebx\n mov $0x66, %ecx\n lock cmpxchg16b 0x6080\n setz 0x6090\n"
    "lock cmpxchg16b 0x6080\n setz 0x6091\n mov %rax, 0x6098\n"
    "mov $300, %ecx\n 1: fld1\n fwait\n fstp %st(0)\n paddd %xmm2, %xmm1\n loop 1b\n" GUEST_PUT("x") "xor %eax, %eax\n cmp %al, %al\n lahf\n" GUEST_EXIT("0") GUEST_GDT("rare"))

/* An IPI to itself: while halted, behind STI, with the task priority in its way. */
GUEST_CODE(irq, GUEST_ENTER_LONG("irq") ENABLE_SSE MAP_APIC
    "mov $" ORG("irq_isr") ", %eax\n mov %ax, 0x5410\n movw $0x20, 0x5412\n movw $0x8e00, 0x5414\n lidt " ORG("irq_idtr") "\n movl $0x1ff, 0x3fe000f0\n"
    "mov $20, %ecx\n 1: movl $0x44041, 0x3fe00300\n sti\n hlt\n cli\n loop 1b\n mov %ebx, 0x6000\n"
    "movl $0x50, 0x3fe00080\n movl $0x44041, 0x3fe00300\n sti\n nop\n nop\n mov %ebx, 0x6004\n movl $0, 0x3fe00080\n 2: cmp $21, %ebx\n jne 2b\n mov %ebx, 0x6008\n cli\n"
    "movl $0x44041, 0x3fe00300\n sti\n cli\n mov %ebx, 0x600c\n sti\n 2: cmp $22, %ebx\n jne 2b\n cli\n mov %ebx, 0x6010\n xor %ecx, %ecx\n movups %xmm0, 0x6fc0\n movups %xmm0, 0x6fd0\n movups %xmm0, 0x6fe0\n movups %xmm0, 0x6ff0\n" GUEST_PUT("i") "xor %eax, %eax\n cmp %al, %al\n lahf\n" GUEST_EXIT("0")
    "irq_isr: inc %ebx\n movl $0, 0x3fe000b0\n iretq\n irq_idtr: .word 0xfff\n .quad 0x5000\n" GUEST_GDT("irq"))

/* The same from ring 3, where a kernel would rather tell the guest of #UD. Ports are free by IOPL. */
GUEST_CODE(user, GUEST_ENTER_LONG("user") ENABLE_SSE
    "mov $0xfee00087, %eax\n mov %rax, 0x3ff8\n mov %cr3, %rax\n mov %rax, %cr3\n movl $0x1ff, 0x3fe000f0\n"
    "pushq $0x33\n pushq $0x6800\n pushq $0x3002\n pushq $0x3b\n pushq $" ORG("user_ring3") "\n iretq\n"
    "user_ring3: pxor %xmm2, %xmm2\n paddd 0x3fe000f0, %xmm2\n movdqu %xmm2, 0x6060\n mov %cs, 0x6070\n"
    GUEST_PUT("u") "xor %eax, %eax\n cmp %al, %al\n lahf\n" GUEST_EXIT("0") GUEST_GDT("user"))

/* A loop that no kernel can run by itself. */
GUEST_CODE(stubborn, GUEST_ENTER_LONG("stubborn") ENABLE_SSE MAP_APIC
    "movl $0x1ff, 0x3fe000f0\n pxor %xmm2, %xmm2\n mov $400000, %ecx\n"
    "1: paddd 0x3fe000f0, %xmm2\n paddd 0x3fe000f0, %xmm2\n dec %ecx\n jnz 1b\n movdqu %xmm2, 0x6060\n" GUEST_PUT("s") "xor %eax, %eax\n cmp %al, %al\n lahf\n" GUEST_EXIT("0") GUEST_GDT("stubborn"))

/* --- Running and comparing ---------------------------------------------------------------------------------------- */

struct result {
    uint8_t memory[RAM];
    char out[64];
    uint64_t r[16], rip, rflags, cr0, cr3, cr4, efer;
    struct segment seg[8];
    union vec v[16];
    struct fpu fpu;
    char *info; /* of the engine; NULL if it has none */
};

static struct result *run(const char *accel, const char *start, const char *end)
{
    g_setenv("ACCEL", accel, TRUE);
    struct guest *g = guest_new(RAM, 1, "qemu64");
    struct result *r = g_new0(struct result, 1);
    guest_load(g, 0x7c00, start, end);
    g_assert_cmpint(guest_run(g, 0x7c00, 20), ==, 0);
    const struct cpu *cpu = g->m->cpus[0];
    address_space_read(&g->m->memory, 0, r->memory, RAM);
    g_strlcpy(r->out, g->out->str, sizeof r->out);
    memcpy(r->r, cpu->r, sizeof r->r);
    memcpy(r->seg, cpu->seg, sizeof r->seg);
    memcpy(r->v, cpu->v, sizeof r->v);
    r->fpu = cpu->fpu;
    r->rip = cpu->rip;
    r->rflags = cpu->rflags;
    r->cr0 = cpu->cr0;
    r->cr3 = cpu->cr3;
    r->cr4 = cpu->cr4;
    r->efer = cpu->efer;
    /* Of the engine that it began with, not of one that has helped out. */
    struct engine *e = g->m->accel->engines->pdata[0];
    if (e->ops->info) {
        GString *info = g_string_new(NULL);
        e->ops->info(e, info);
        r->info = g_string_free(info, FALSE);
    }
    guest_free(g);
    return r;
}

static void compare(const struct result *a, const struct result *b)
{
    unsigned differences = 0;
    g_assert_cmpstr(a->out, ==, b->out);
    for (unsigned k = 0; k < RAM && differences < 16; k++)
        if (a->memory[k] != b->memory[k]) {
            g_test_message("memory at %#x: %02x and %02x", k, a->memory[k], b->memory[k]);
            differences++;
        }
    for (unsigned k = 0; k < 16; k++)
        g_assert_cmphex(a->r[k], ==, b->r[k]);
    for (unsigned k = SEG_ES; k <= SEG_GS; k++) {
        g_assert_cmphex(a->seg[k].selector, ==, b->seg[k].selector);
        g_assert_cmphex(a->seg[k].base, ==, b->seg[k].base);
        g_assert_cmphex(a->seg[k].limit, ==, b->seg[k].limit);
    }
    for (unsigned k = 0; k < 16; k++) {
        g_assert_cmphex(a->v[k].u64[0], ==, b->v[k].u64[0]);
        g_assert_cmphex(a->v[k].u64[1], ==, b->v[k].u64[1]);
        g_assert_cmphex(a->fpu.st[k & 7].mant, ==, b->fpu.st[k & 7].mant);
    }
    g_assert_cmphex(a->fpu.sw, ==, b->fpu.sw);
    g_assert_cmphex(a->fpu.top, ==, b->fpu.top);
    g_assert_cmphex(a->fpu.tag_valid, ==, b->fpu.tag_valid);
    /* RIP is in the loop of two instructions behind the exit; its flags are those of nobody's */
    g_assert_cmphex(a->rflags & ~(uint64_t)FLAG_RF, ==, b->rflags & ~(uint64_t)FLAG_RF);
    g_assert_cmphex(a->cr0, ==, b->cr0);
    g_assert_cmphex(a->cr3, ==, b->cr3);
    g_assert_cmphex(a->cr4, ==, b->cr4);
    g_assert_cmphex(a->efer, ==, b->efer);
    g_assert_cmpuint(differences, ==, 0);
}

struct guest_code {
    const char *name, *start, *end;
};

/* With local APICs in the kernel, too, if it has them: then the JIT steps in at once. */
static void test_split(const void *data)
{
    const struct guest_code *c = data;
    struct result *a = run("interp", c->start, c->end), *b = run("kvm,force=on,kernel-irqchip=split", c->start, c->end);
    compare(a, b);
    g_assert_nonnull(strstr(b->info, "local APICs are in the kernel"));
    g_test_message("%s", b->info);
    g_free(b->info);
    g_free(a);
    g_free(b);
}

static void test_agreement(const void *data)
{
    const struct guest_code *c = data;
    struct result *a = run("interp", c->start, c->end);
    struct result *b = run("kvm,force=on,kernel-irqchip=off", c->start, c->end);
    compare(a, b);
    /* No kernel emulates PADDD from device memory: it was run for KVM, and counted. */
    if ((c->start == rare_start || c->start == user_start) && !strstr(b->info, "  paddd "))
        g_error("no instruction was interpreted for KVM:\n%s", b->info);
    /* Nor is it left to the interpreter for long. */
    if (c->start == stubborn_start && !strstr(b->info, "backed off to another engine "))
        g_error("another engine had no turn:\n%s", b->info);
    g_test_message("%s", b->info);
    g_free(b->info);
    g_free(a);
    g_free(b);
}

/* --- A guest that has begun elsewhere ----------------------------------------------------------------------------- */

/* Without what KVM never has, and without what some have not. */
#define WITHOUT \
    "qemu64,kvm=off,-kvm-pv-unhalt,-kvm-pv-tlb-flush,-kvm-pv-ipi,-kvm-pv-sched-yield,-spec-ctrl,-bhi-ctrl," \
    "-arch-capabilities,-sse3,-rdtscp"

/* Has it begin under the interpreter, and move; "": it did, else why not. */
static char *move_to_kvm(const char *model, uint64_t *tsc_step)
{
    const char *preferences[] = { "interp", "kvm,force=on", NULL };
    GError *err = NULL;
    g_setenv("ACCEL", "interp", TRUE);
    struct guest *g = guest_new(RAM, 1, model);
    g_strfreev(g->m->accel->preferences);
    g->m->accel->preferences = g_strdupv((char **)preferences);
    vcpus_start(g->m, &err);
    g_assert_no_error(err);
    clock_start(g->m->clock);
    g_usleep(1000);
    uint64_t before = cpu_read_tsc(g->m->cpus[0]);
    bool moved = accel_shift(g->m, "kvm", &err);
    *tsc_step = cpu_read_tsc(g->m->cpus[0]) - before;
    g_assert_cmpstr(accel_name(g->m), ==, moved ? "kvm" : "interp");
    guest_free(g);
    char *why = g_strdup(moved ? "" : err->message);
    g_clear_error(&err);
    return why;
}

/* It stays where it is if its TSC would run at another rate, and is told that rate; and moves if it has it already. */
static void test_begun(void)
{
    uint64_t step;
    g_autofree char *why = move_to_kvm(WITHOUT ",tsc-frequency=1234567000", &step);
    g_test_message("%s", why);
    g_assert_true(g_str_has_prefix(why, "KVM: this guest has begun with a processor that KVM cannot be ("));
    const char *rate = strstr(why, "its TSC runs at 1234567000 Hz, this host's at ");
    g_assert_nonnull(rate);
    uint64_t hz = g_ascii_strtoull(rate + strlen("its TSC runs at 1234567000 Hz, this host's at "), NULL, 10);
    g_autofree char *same = g_strdup_printf(WITHOUT ",tsc-frequency=%" PRIu64, hz);
    g_autofree char *now = move_to_kvm(same, &step);
    g_test_message("%s", *now ? now : "it moves at that rate");
    if (!*now)
        g_assert_cmpuint(step, <, hz); /* it went on, by less than a second */
    else if (!strstr(now, "it has ") || strstr(now, "TSC"))
        g_error("neither moved nor was there a feature missing: %s", now);
}

int main(int argc, char **argv)
{
    static const struct guest_code guests[] = {
        { "/guest/kvm/real", real_start, real_end }, { "/guest/kvm/protected", prot_start, prot_end },
        { "/guest/kvm/long", wide_start, wide_end }, { "/guest/kvm/rare", rare_start, rare_end },
        { "/guest/kvm/interrupts", irq_start, irq_end }, { "/guest/kvm/user", user_start, user_end },
        { "/guest/kvm/stubborn", stubborn_start, stubborn_end },
    };
    g_test_init(&argc, &argv, NULL);
    g_autoptr(GString) help = g_string_new(NULL);
    accel_help(help);
    const char *kvm = strstr(help->str, "\nkvm ");
    g_autofree char *line = kvm ? g_strndup(kvm + 1, strcspn(kvm + 1, "\n")) : g_strdup("not in this build");
    if (!kvm || strstr(line, "not here")) {
        g_print("1..0 # SKIP no KVM to compare with: %s\n", line);
        return 0;
    }
    for (unsigned k = 0; k < G_N_ELEMENTS(guests); k++)
        if (guests[k].start == user_start && strstr(kvm, "64-bit programs  wrong"))
            g_test_message("%s is left out: this host's KVM has programs wrong", guests[k].name);
        else {
            g_autofree char *split = g_strconcat(guests[k].name, "/split", NULL), *ours = g_strconcat(guests[k].name, "/off", NULL);
            g_test_add_data_func(ours, &guests[k], test_agreement);
            g_test_add_data_func(split, &guests[k], test_split);
        }
    g_test_add_func("/guest/kvm/begun", test_begun);
    return g_test_run();
}
