/*
 * Short loops, of which the JIT emits several rounds in a row: each round can be the one that ends the loop, faults, changes its own
 * code or is stepped through. SDM volume 3, 6.15 and 17.3.
 */
#include "tests/lib/guest_test.h"

/* The gate's upper half is 0, as memory is. */
#define GATE64(vector, label) \
    "mov $" ORG(label) ", %eax\n mov %ax, 0x5000 + 16 * " vector "\n movw $0x20, 0x5002 + 16 * " vector "\n movw $0x8e00, 0x5004 + 16 * " vector "\n"
#define MUST(cc, code) "j" cc " 1f\n mov $" code ", %al\n out %al, $0xf4\n 1:\n"
/* For R8 = 40 to 1, so that code gets hot: */
#define ROUNDS_BEGIN(label) "mov $40, %r8d\n " label ":\n"
#define ROUNDS_END(label) "dec %r8d\n jnz " label "\n"

/* R8 rounds, by conditions of all kinds, with flags that live into a round, within it and out of it. */
GUEST_CODE(ends, GUEST_ENTER_LONG("ends") ROUNDS_BEGIN("en_next")
    "xor %ecx, %ecx\n 2: inc %ecx\n cmp %r8d, %ecx\n jne 2b\n" MUST("be", "1") "cmp %r8d, %ecx\n" MUST("e", "2")
    "xor %ecx, %ecx\n 2: inc %rcx\n cmp %r8, %rcx\n jb 2b\n" MUST("ae", "3") "cmp %r8, %rcx\n" MUST("e", "4")
    "mov %r8d, %ecx\n xor %edx, %edx\n 2: add $3, %edx\n sub $1, %ecx\n jg 2b\n lea (%r8, %r8, 2), %eax\n cmp %eax, %edx\n" MUST("e", "5")
    "lea -1(%r8), %ecx\n 2: dec %ecx\n jns 2b\n cmp $-1, %ecx\n" MUST("e", "6")
    /* the carry goes from round to round, and out of the last one: -1 in R8 + 1 words, plus 1 */
    "mov $0x8000, %edi\n lea 1(%r8), %ecx\n mov $-1, %rax\n rep stosq\n mov $0x8000, %edi\n mov %r8d, %ecx\n stc\n"
    "2: adcq $0, (%rdi)\n lea 8(%rdi), %rdi\n dec %ecx\n jnz 2b\n" MUST("c", "7") "cmpq $-1, (%rdi)\n" MUST("e", "8") "cmpq $0, -8(%rdi)\n" MUST("e", "9")
    /* all flags of the last round on the stack */
    "mov %r8d, %ecx\n mov $0x7fffffff, %ebx\n sub %ecx, %ebx\n 2: inc %ebx\n dec %ecx\n jnz 2b\n pushf\n pop %rax\n and $0x8d5, %eax\n cmp $0x44, %eax\n" MUST("e", "10")
    "cmp $0x7fffffff, %ebx\n" MUST("e", "11")
    /* a second way out, before the end of a round */
    "mov $0x8000, %edi\n mov $0x100, %ecx\n mov $1, %al\n rep stosb\n movb $7, 0x7fff(%r8)\n mov $0x8000, %esi\n xor %edx, %edx\n"
    "2: cmpb $7, (%rsi)\n je 3f\n inc %edx\n inc %rsi\n cmp $0x8100, %esi\n jne 2b\n mov $12, %al\n out %al, $0xf4\n"
    "3: inc %edx\n cmp %r8d, %edx\n" MUST("e", "13")
    /* the only way out is before the end */
    "xor %ecx, %ecx\n 2: inc %ecx\n cmp %r8d, %ecx\n je 3f\n nop\n jmp 2b\n 3: cmp %r8d, %ecx\n" MUST("e", "14")
    ROUNDS_END("en_next") GUEST_EXIT("0") GUEST_GDT("ends"))

static void test_ends(void)
{
    guest_expect(ends_start, ends_end, "");
}

/* The stack goes down and up in them, at no multiple of 8, and across pages that are not neighbours in memory. */
GUEST_CODE(stack, GUEST_ENTER_LONG("stack") ROUNDS_BEGIN("sk_next")
    "mov %rsp, %rbp\n movq $0xa00087, 0x3018\n invlpg 0x600000\n mov $0x600064, %esp\n mov %r8d, %ecx\n xor %eax, %eax\n 2: push %rcx\n push %rax\n pop %rdx\n lea (%rdx, %rcx), %rax\n dec %ecx\n push %rcx\n jnz 2b\n"
    "lea 1(%r8), %edx\n imul %r8d, %edx\n shr $1, %edx\n cmp %edx, %eax\n" MUST("e", "1") "xor %eax, %eax\n mov %r8d, %ecx\n"
    "2: pop %rdx\n add %rdx, %rax\n dec %ecx\n pop %rbx\n jnz 2b\n cmp $0x600064, %esp\n" MUST("e", "2") "lea -1(%r8), %edx\n imul %r8d, %edx\n shr $1, %edx\n cmp %edx, %eax\n" MUST("e", "3") "cmp %r8d, %ebx\n" MUST("e", "4")
    "mov %rbp, %rsp\n" ROUNDS_END("sk_next") GUEST_EXIT("0") GUEST_GDT("stack"))

static void test_stack(void)
{
    guest_expect(stack_start, stack_end, "");
}

/* No page at 600000: round R8 faults, with the counts and flags of that round, and goes on behind the loop. */
GUEST_CODE(faulty, GUEST_ENTER_LONG("faulty") GATE64("14", "fa_pf") GATE64("6", "fa_ud") "lidt " ORG("fa_idtr") "\n movq $0, 0x3018\n invlpg 0x600000\n"
    ROUNDS_BEGIN("fa_next")
    "mov %r8, %rax\n neg %rax\n lea 0x600004(, %rax, 4), %rsi\n mov $1, %ecx\n xor %edx, %edx\n mov $" ORG("fa_out") ", %ebx\n mov $" ORG("fa_load") ", %ebp\n"
    "fa_head: add %ecx, %edx\n fa_load: mov (%rsi), %eax\n add $4, %rsi\n inc %ecx\n cmp $100, %ecx\n jne fa_head\n mov $1, %al\n out %al, $0xf4\n"
    "fa_out: cmp %r8d, %ecx\n" MUST("e", "2") "lea 1(%r8), %eax\n imul %r8d, %eax\n shr $1, %eax\n cmp %eax, %edx\n" MUST("e", "3")
    /* the store of the last 8 bytes lies across both pages */
    "mov %r8, %rax\n neg %rax\n lea 0x600004(, %rax, 8), %rdi\n xor %ecx, %ecx\n mov $" ORG("fb_out") ", %ebx\n mov $" ORG("fb_store") ", %ebp\n mov $0x11, %eax\n"
    "fb_store: mov %rax, (%rdi)\n add $8, %rdi\n inc %ecx\n cmp $100, %ecx\n jne fb_store\n mov $4, %al\n out %al, $0xf4\n"
    "fb_out: lea 1(%rcx), %eax\n cmp %r8d, %eax\n" MUST("e", "5") ROUNDS_END("fa_next") GUEST_EXIT("0")
    /* an unexpected place, or address */
    "fa_pf: cmp %rbp, 8(%rsp)\n" MUST("e", "6") "mov %cr2, %r9\n cmp $0x600000, %r9\n" MUST("e", "7") "mov %rbx, 8(%rsp)\n add $8, %rsp\n iretq\n"
    "fa_ud: " GUEST_EXIT("8")
    "fa_idtr: .word 0xfff\n .quad 0x5000\n" GUEST_GDT("faulty"))

static void test_faults(void)
{
    guest_expect(faulty_start, faulty_end, "");
}

/*
 * A copy over the loop that copies, byte by byte: what it reads are its own bytes, but that ADD adds 2 and no more 1. R8 rounds copy
 * what lies before that operand; the next one adds 2, since ADD comes behind the store, as do the three behind it.
 */
#define SELF(label, by) \
    ".fill 48, 1, 0x90\n" label ": mov (%rsi), %bl\n mov %bl, (%rdi)\n inc %rsi\n inc %rdi\n add $" by ", %edx\n" label "_value: dec %ecx\n jnz " label "\n"
GUEST_CODE(self, GUEST_ENTER_LONG("self") ROUNDS_BEGIN("se_next")
    "movb $1, " ORG("se_loop_value") " - 1\n mov $" ORG("se_loop_value") " - 1, %edi\n sub %r8, %rdi\n"
    "mov $" ORG("se_image_value") " - 1, %esi\n sub %r8, %rsi\n lea 4(%r8), %ecx\n xor %edx, %edx\n"
    SELF("se_loop", "1") "lea 8(%r8), %eax\n cmp %eax, %edx\n" MUST("e", "1") ROUNDS_END("se_next") GUEST_EXIT("0")
    SELF("se_image", "2") GUEST_GDT("self"))

static void test_self(void)
{
    guest_expect(self_start, self_end, "");
}

/* A loop that is hot runs once more with TF set: a trap behind each instruction. R8 rounds of three, and what sets TF apart. */
GUEST_CODE(step, GUEST_ENTER_LONG("step") GATE64("1", "st_db") "lidt " ORG("st_idtr") "\n" ROUNDS_BEGIN("st_next")
    "movl $0, 0x6000\n pushf\n pop %rax\n test $1, %r8b\n jz 3f\n or $0x100, %eax\n 3: mov %r8d, %ecx\n xor %edx, %edx\n push %rax\n popf\n"
    "2: add $3, %edx\n dec %ecx\n jnz 2b\n st_end: lea (%r8, %r8, 2), %eax\n cmp %eax, %edx\n" MUST("e", "1")
    "test $1, %r8b\n jnz 3f\n xor %eax, %eax\n 3: cmp %eax, 0x6000\n" MUST("e", "2") ROUNDS_END("st_next") GUEST_EXIT("0")
    "st_db: incl 0x6000\n cmpq $" ORG("st_end") ", (%rsp)\n jne 3f\n andl $~0x100, 16(%rsp)\n 3: iretq\n"
    "st_idtr: .word 0xfff\n .quad 0x5000\n" GUEST_GDT("step"))

static void test_step(void)
{
    guest_expect(step_start, step_end, "");
}

/*
 * The timer ends loops that do not end by themselves: one by what its handler writes, one that only the handler's return leads out of.
 * Where it came at the head of the loop the counts agree.
 */
GUEST_CODE(timer, GUEST_ENTER_LONG("timer") GATE64("0x41", "ti_timer") "lidt " ORG("ti_idtr") "\n"
    "mov $0xfee00083, %eax\n mov %rax, 0x3ff8\n mov %cr3, %rax\n mov %rax, %cr3\n movl $0x1ff, 0x3fe000f0\n"
    "movl $0x41, 0x3fe00320\n movl $0xb, 0x3fe003e0\n" ROUNDS_BEGIN("ti_next")
    "mov $" ORG("ti_first") ", %ebx\n mov %rbx, %rbp\n xor %esi, %esi\n xor %edx, %edx\n xor %ecx, %ecx\n movl $20000, 0x3fe00380\n sti\n"
    "ti_first: inc %rcx\n add $3, %rdx\n test %esi, %esi\n jz ti_first\n cli\n"
    "mov $" ORG("ti_second") ", %ebx\n mov $" ORG("ti_out") ", %ebp\n xor %edx, %edx\n xor %ecx, %ecx\n movl $20000, 0x3fe00380\n sti\n"
    "ti_second: inc %rcx\n add $3, %rdx\n jmp ti_second\n ti_out: cli\n" ROUNDS_END("ti_next") GUEST_EXIT("0")
    "ti_timer: mov $1, %esi\n cmp %rbx, (%rsp)\n jne 3f\n lea (%rcx, %rcx, 2), %rax\n cmp %rax, %rdx\n" MUST("e", "1")
    "3: cmp %rbx, %rbp\n je 3f\n mov %rbp, (%rsp)\n 3: movl $0, 0x3fe000b0\n iretq\n"
    "ti_idtr: .word 0xfff\n .quad 0x5000\n" GUEST_GDT("timer"))

static void test_timer(void)
{
    guest_expect(timer_start, timer_end, "");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    guest_add("/guest/loops/ends", test_ends);
    guest_add("/guest/loops/stack", test_stack);
    guest_add("/guest/loops/faults", test_faults);
    guest_add("/guest/loops/self", test_self);
    guest_add("/guest/loops/step", test_step);
    guest_add("/guest/loops/timer", test_timer);
    return g_test_run();
}
