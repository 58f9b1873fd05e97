/*
 * Pages, and granules of 64 bytes, that hold code and data at once: whatever is stored beside running code, it runs on, and what
 * it stored is there.
 */
#include "tests/lib/guest_test.h"

#define FAIL(code) "jz 1f\n mov $" code ", %al\n out %al, $0xf4\n 99: jmp 99b\n 1:\n"
GUEST_CODE(beside, GUEST_ENTER_LONG("beside")
    "mov %cr4, %rax\n or $0x600, %eax\n mov %rax, %cr4\n"
    /* a counter in the granule of its loop, in front and behind */
    "mov $20000, %ecx\n jmp bs_loop\n .balign 64\n bs_before: .long 0\n bs_loop: incl " ORG("bs_count") "\n addl $3, " ORG("bs_before") "\n"
    "dec %ecx\n jnz bs_loop\n jmp 2f\n bs_count: .long 0\n .balign 64\n 2: cmpl $20000, " ORG("bs_count") "\n" FAIL("1")
    "cmpl $60000, " ORG("bs_before") "\n" FAIL("2")
    /* in the next granule, in the page's other half */
    "mov $20000, %ecx\n jmp bs_next\n .balign 64\n bs_next: incl " ORG("bs_next_count") "\n xadd %ecx, " ORG("bs_page_count") "\n mov " ORG("bs_next_count") ", %ecx\n"
    "cmp $20000, %ecx\n jne bs_next\n jmp 2f\n .balign 64\n bs_next_count: .long 0\n .balign 64\n 2: cmpl $200010000, " ORG("bs_page_count") "\n" FAIL("3")
    /* its stack: return addresses, pushed registers, 16 bytes at once, right behind the code that they are pushed by */
    "mov %rsp, %rbp\n mov $" ORG("bs_stack") ", %esp\n mov $5000, %ecx\n xor %ebx, %ebx\n jmp bs_calls\n .balign 64\n"
    "bs_calls: call bs_function\n dec %ecx\n jnz bs_calls\n jmp 2f\n bs_function: push %rcx\n push %rbx\n pop %rax\n pop %rdx\n add %edx, %ebx\n ret\n"
    ".fill 32, 1, 0\n bs_stack: .balign 64\n 2: mov %rbp, %rsp\n cmp $12502500, %ebx\n" FAIL("4")
    "mov $5000, %ecx\n pxor %xmm0, %xmm0\n pcmpeqd %xmm1, %xmm1\n jmp bs_vector\n .balign 64\n bs_vector: psubd %xmm1, %xmm0\n movups %xmm0, " ORG("bs_lanes") "\n"
    "movups " ORG("bs_lanes") ", %xmm0\n dec %ecx\n jnz bs_vector\n jmp 2f\n bs_lanes: .fill 16, 1, 0\n .balign 64\n 2: cmpl $5000, " ORG("bs_lanes") " + 12\n" FAIL("5")
    /* a string of stores up to the first byte of the code that does them, and from behind its last */
    "mov $500, %edx\n jmp bs_fill\n .balign 64\n bs_below: .fill 24, 1, 0\n bs_fill: mov %edx, %eax\n mov $" ORG("bs_below") ", %edi\n mov $24, %ecx\n rep stosb\n"
    "mov $" ORG("bs_above") ", %edi\n mov $3, %ecx\n rep stosq\n dec %edx\n jnz bs_fill\n jmp 2f\n bs_above: .fill 24, 1, 0\n .balign 64\n"
    "2: cmpb $1, " ORG("bs_below") " + 23\n" FAIL("6") "cmpl $1, " ORG("bs_above") " + 16\n" FAIL("7")
    /* code that stays as it is although it is written again and again */
    "mov $5000, %ecx\n xor %ebx, %ebx\n 2: mov " ORG("bs_same") ", %eax\n mov %eax, " ORG("bs_same") "\n bs_same: add $1, %ebx\n nop\n dec %ecx\n jnz 2b\n cmp $5000, %ebx\n" FAIL("8")
    /* a jump table among the jumps, rewritten while in use: by turns to two places */
    "mov $5000, %ecx\n xor %ebx, %ebx\n mov $" ORG("bs_one") ", %esi\n mov $" ORG("bs_two") ", %edi\n jmp bs_turn\n .balign 64\n bs_turn: xchg %rsi, %rdi\n mov %rsi, " ORG("bs_table") "\n jmp *" ORG("bs_table") "\n"
    "bs_table: .quad 0\n bs_one: add $1, %ebx\n jmp 3f\n bs_two: add $0x10000, %ebx\n 3: dec %ecx\n jnz bs_turn\n cmp $2500 + 2500 * 0x10000, %ebx\n" FAIL("9")
    GUEST_EXIT("0")
    ".balign 64\n .fill 1024, 1, 0xcc\n bs_page_count: .long 0\n"
    GUEST_GDT("beside"))

static void test_beside(void)
{
    guest_expect(beside_start, beside_end, "");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    guest_add("/guest/code-data/beside", test_beside);
    return g_test_run();
}
