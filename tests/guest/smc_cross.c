/*
 * One processor changes what another one runs. Intel SDM volume 3, 8.1.3: with a flag in memory and a serializing
 * instruction the new code must be seen; with a breakpoint put first, as Linux's text_poke() does, the old, the new or the
 * breakpoint. A store to aligned 8 bytes, which processors see whole, shows the old or the new without anything else.
 */
#include "tests/lib/guest_test.h"

/*
 * Protected mode without paging, an IDT at 5000 whose vectors end the run but those that the guest sets. Both processors come by
 * here: EDI is 0 in the first, which wakes the other, and 1 there.
 */
#define CROSS_ENTER(name) \
    "cli\n xor %ax, %ax\n mov %ax, %ds\n mov %ax, %ss\n lgdtl " ORG(name "_gdtr") "\n mov %cr0, %eax\n or $1, %al\n mov %eax, %cr0\n" \
    "ljmpl $0x08, $" ORG(name "_enter32") "\n .code32\n " name "_enter32: mov $0x10, %ax\n mov %ax, %ds\n mov %ax, %es\n mov %ax, %ss\n" \
    "mov $1, %edi\n lock xadd %edi, 0x6904\n mov %edi, %esp\n shl $12, %esp\n add $0x31000, %esp\n lidt " ORG(name "_idtr") "\n" \
    "movl $0x1ff, 0xfee000f0\n test %edi, %edi\n jnz " name "_second\n" \
    "mov $0x5000, %ebx\n 1: movl $0x80000 + (" ORG(name "_bad") "), (%ebx)\n movl $0x8e00, 4(%ebx)\n add $8, %ebx\n cmp $0x5400, %ebx\n jne 1b\n"
#define CROSS_GATE(vector, label) "movl $0x80000 + (" ORG(label) "), 0x5000 + 8 * " vector "\n"
#define CROSS_WAKE "movl $0xc4500, 0xfee00300\n movl $0xc4607, 0xfee00300\n"
#define CROSS_TABLES(name) \
    name "_bad: pop %ebx\n pop %ecx\n" GUEST_EXIT("99") \
    ".balign 8\n " name "_gdt: .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff\n " name "_gdtr: .word 23\n .long " ORG(name "_gdt") "\n" \
    name "_idtr: .word 0x3ff\n .long 0x5000\n"
/* Until the test is true, in generated code for most of the time. EDI is lost. */
#define WAIT(test, jcc) \
    "44: mov $2000, %edi\n 55: pause\n " test "\n " jcc " 66f\n dec %edi\n jnz 55b\n out %al, $0xea\n jmp 44b\n 66:\n"
/* In a test: most of the time is spent between the loop's head, where an engine may look around, and the test. */
#define SLOWLY ".rept 100\n pause\n .endr\n "
#define FAIL(code) "jz 1f\n mov $" code ", %al\n out %al, $0xf4\n 1:\n"

static void run_two(const void *start, const void *end)
{
    static const uint8_t jump[] = { 0xea, 0x00, 0x7c, 0x00, 0x00 }; /* at the start-up page 7: ljmp 0:7c00 */
    struct guest *g = guest_new(16 << 20, 2, NULL);
    guest_load(g, 0x7c00, start, end);
    guest_load(g, 0x7000, jump, jump + sizeof jump);
    int result = guest_run(g, 0x7c00, 60);
    g_test_message("round %u, IPIs %u, last seen %#x", (unsigned)guest_peek(g, 0x6930, 4),
                   (unsigned)guest_peek(g, 0x6914, 4), (unsigned)guest_peek(g, 0x6900, 4));
    g_assert_cmpint(result, ==, 0);
    guest_free(g);
}

/*
 * 6930: the round, told by the first; 6934: answered by the second. The second serializes in a different way each round and then
 * calls or runs into what has been changed.
 */
GUEST_CODE(flag, CROSS_ENTER("flag")
    "movl $0xb8, 0x200000\n movl $0xc300, 0x200004\n" CROSS_WAKE "mov $1, %ecx\n"
    "2: mov %ecx, 0x200001\n mov %ecx, " ORG("flag_inline") "\n mov %ecx, 0x6930\n" WAIT("cmp %ecx, 0x6934", "je")
    "inc %ecx\n cmp $300, %ecx\n jne 2b\n" GUEST_EXIT("0")
    "flag_second: mov $1, %ebp\n 4: " WAIT(SLOWLY "cmp %ebp, 0x6930", "je")
    "mov %ebp, %eax\n and $3, %eax\n jz 5f\n dec %eax\n jz 6f\n dec %eax\n jz 7f\n"
    "invlpg 0x400000\n jmp 8f\n 5: cpuid\n jmp 8f\n 6: mov %cr0, %eax\n mov %eax, %cr0\n jmp 8f\n 7: pushf\n push %cs\n push $" ORG("flag_iret") "\n iret\n flag_iret:\n"
    "8: .byte 0xb8\n flag_inline: .long 0\n cmp %ebp, %eax\n" FAIL("1") "mov $0x200000, %ebx\n call *%ebx\n cmp %ebp, %eax\n" FAIL("2")
    "call \\base + 0x200000 - 0x7c00\n cmp %ebp, %eax\n" FAIL("3") "mov %ebp, 0x6934\n inc %ebp\n jmp 4b\n"
    CROSS_TABLES("flag"))

static void test_flag(void)
{
    run_two(flag_start, flag_end);
}

/*
 * The same in 64-bit mode; serialized by a function in another page, which returns to what has been changed: Linux's sync_core() is
 * like that. Page tables as GUEST_ENTER_LONG makes them, by the first processor only.
 */
GUEST_CODE(flag64, "cli\n xor %ax, %ax\n mov %ax, %ds\n mov %ax, %ss\n mov $1, %ebp\n lock xadd %ebp, 0x6904\n"
    "lgdtl " ORG("flag64_gdtr") "\n mov %cr0, %eax\n or $1, %al\n mov %eax, %cr0\n ljmpl $0x08, $" ORG("flag64_32") "\n .code32\n"
    "flag64_32: mov $0x10, %ax\n mov %ax, %ds\n mov %ax, %es\n mov %ax, %ss\n mov %ebp, %esp\n shl $12, %esp\n add $0x31000, %esp\n"
    "test %ebp, %ebp\n jnz 2f\n mov $0x1000, %edi\n xor %eax, %eax\n mov $0x1000, %ecx\n rep stosl\n movl $0x2007, 0x1000\n movl $0x3007, 0x2000\n"
    "mov $0x3000, %edi\n mov $0x87, %eax\n 1: mov %eax, (%edi)\n add $0x200000, %eax\n add $8, %edi\n cmp $0x4000, %edi\n jne 1b\n"
    "movl $0x1ff, 0xfee000f0\n" CROSS_WAKE
    "2: mov $0x1000, %eax\n mov %eax, %cr3\n mov %cr4, %eax\n or $0x20, %eax\n mov %eax, %cr4\n mov $0xc0000080, %ecx\n rdmsr\n or $0x100, %eax\n wrmsr\n"
    "mov %cr0, %eax\n or $0x80000000, %eax\n mov %eax, %cr0\n ljmpl $0x20, $" ORG("flag64_64") "\n .code64\n"
    "flag64_64: test %ebp, %ebp\n jnz 4f\n mov $1, %ecx\n"
    "2: mov %ecx, " ORG("flag64_inline") "\n mov %ecx, 0x6930\n" WAIT("cmp %ecx, 0x6934", "je") "inc %ecx\n cmp $300, %ecx\n jne 2b\n" GUEST_EXIT("0")
    "4: " WAIT(SLOWLY "cmp %ebp, 0x6930", "je") "mov %ebp, %eax\n and $3, %eax\n mov " ORG("flag64_ways") "(,%rax,8), %rdx\n call *%rdx\n"
    ".byte 0xb8\n flag64_inline: .long 0\n cmp %ebp, %eax\n" FAIL("1") "mov %ebp, 0x6934\n inc %ebp\n jmp 4b\n"
    ".balign 8\n flag64_ways: .quad " ORG("flag64_iret") ", " ORG("flag64_iret") ", " ORG("flag64_cpuid") ", " ORG("flag64_cr") "\n"
    GUEST_GDT("flag64") ".fill 4096, 1, 0xcc\n"
    "flag64_iret: mov %rsp, %rax\n pushq $0x10\n push %rax\n pushf\n pushq $0x20\n pushq $" ORG("flag64_back") "\n iretq\n flag64_back: ret\n"
    "flag64_cpuid: xor %eax, %eax\n cpuid\n ret\n flag64_cr: mov %cr3, %rax\n mov %rax, %cr3\n ret\n")

static void test_flag64(void)
{
    run_two(flag64_start, flag64_end);
}

/*
 * Five bytes become by turns MOV $11111111, MOV $22222222 and a jump to MOV $33333333: first INT3 over the first byte, then the
 * others, then the first one, each told to the second processor by an interrupt, which begins its loop anew. 6900: what it has
 * seen last, 0 before that; 44444444: by the breakpoint.
 */
GUEST_CODE(poke, CROSS_ENTER("poke") CROSS_GATE("3", "poke_bp") CROSS_GATE("0x40", "poke_ipi") CROSS_WAKE
    "mov $1, %ecx\n xor %ebp, %ebp\n " WAIT("cmpl $0, 0x6900", "jne")
    "2: mov %ecx, 0x6930\n mov %ecx, %eax\n xor %edx, %edx\n mov $3, %ebx\n div %ebx\n lea " ORG("poke_codes") "(,%edx,8), %esi\n lea " ORG("poke_values") "(,%edx,4), %ebx\n"
    "movb $0xcc, " ORG("poked") "\n call poke_sync\n mov $0x44444444, %edx\n call poke_seen\n"
    "mov 1(%esi), %eax\n mov %eax, " ORG("poked") " + 1\n call poke_sync\n call poke_seen\n"
    "mov (%esi), %al\n mov %al, " ORG("poked") "\n call poke_sync\n mov (%ebx), %edx\n call poke_seen\n"
    "inc %ecx\n cmp $60, %ecx\n jne 2b\n" GUEST_EXIT("0")
    "poke_sync: movl $0xc4040, 0xfee00300\n inc %ebp\n" WAIT("cmp %ebp, 0x6914", "je") "ret\n"
    /* the next value is surely of the present code */
    "poke_seen: movl $0, 0x6900\n" WAIT("mov 0x6900, %eax\n test %eax, %eax", "jnz") "cmp %edx, %eax\n" FAIL("1") "ret\n"
    "poke_second: sti\n poke_loop: xor %eax, %eax\n poked: .byte 0xb8\n .long 0x11111111\n poke_after: mov %eax, 0x6900\n"
    "cmp $0x11111111, %eax\n je poke_loop\n cmp $0x22222222, %eax\n je poke_loop\n cmp $0x33333333, %eax\n je poke_loop\n cmp $0x44444444, %eax\n je poke_loop\n"
    GUEST_EXIT("2")
    "poke_third: mov $0x33333333, %eax\n jmp poke_after\n"
    "poke_bp: cmpl $" ORG("poked") " + 1, (%esp)\n" FAIL("3") "movl $" ORG("poke_after") ", (%esp)\n mov $0x44444444, %eax\n iret\n"
    "poke_ipi: movl $" ORG("poke_loop") ", (%esp)\n lock incl 0x6914\n movl $0, 0xfee000b0\n iret\n"
    ".balign 8\n poke_codes: .byte 0xb8\n .long 0x11111111\n .fill 3, 1, 0\n .byte 0xb8\n .long 0x22222222\n .fill 3, 1, 0\n .byte 0xe9\n .long poke_third - poke_after\n .fill 3, 1, 0\n"
    "poke_values: .long 0x11111111, 0x22222222, 0x33333333\n"
    CROSS_TABLES("poke"))

static void test_poke(void)
{
    run_two(poke_start, poke_end);
}

/*
 * A jump of five bytes and a MOV, each within eight aligned bytes, are replaced by one store while the other processor runs them
 * and nobody tells it. 6940 and 6944 count where the jump went, 6948 and 694c what MOV gave. The first 400 times the new code is
 * waited for, then it changes without mercy.
 */
GUEST_CODE(whole, CROSS_ENTER("whole") "mov %cr4, %eax\n or $0x600, %eax\n mov %eax, %cr4\n" CROSS_WAKE
    "mov $1, %ebp\n 2: mov %ebp, 0x6930\n mov %ebp, %esi\n and $1, %esi\n"
    "movq " ORG("whole_jumps") "(,%esi,8), %xmm0\n movq %xmm0, " ORG("whole_jump") "\n movq " ORG("whole_movs") "(,%esi,8), %xmm0\n movq %xmm0, " ORG("whole_mov") "\n"
    "cmp $400, %ebp\n ja 4f\n mov 0x6940(,%esi,4), %eax\n mov 0x6948(,%esi,4), %edx\n"
    WAIT("cmp %eax, 0x6940(,%esi,4)", "jne") WAIT("cmp %edx, 0x6948(,%esi,4)", "jne")
    "4: inc %ebp\n cmp $15000, %ebp\n jne 2b\n" GUEST_EXIT("0")
    "whole_second: mov %cr4, %eax\n or $0x600, %eax\n mov %eax, %cr4\n whole_loop: xor %eax, %eax\n jmp whole_mov\n"
    ".balign 8\n whole_mov: .byte 0xb8\n .long 0x11111111\n nop\n nop\n nop\n"
    "cmp $0x11111111, %eax\n je 5f\n cmp $0x22222222, %eax\n" FAIL("1") "incl 0x694c\n jmp whole_jump\n 5: incl 0x6948\n jmp whole_jump\n"
    ".balign 8\n .fill 3, 1, 0x90\n whole_jump = . - 3\n .byte 0xe9\n .long 0\n whole_first: incl 0x6940\n jmp whole_loop\n"
    ".fill 100, 1, 0xcc\n whole_other: incl 0x6944\n jmp whole_loop\n"
    ".balign 8\n whole_jumps: .byte 0x90, 0x90, 0x90, 0xe9\n .long 0\n .byte 0x90, 0x90, 0x90, 0xe9\n .long whole_other - whole_first\n"
    "whole_movs: .byte 0xb8\n .long 0x11111111\n .byte 0x90, 0x90, 0x90, 0xb8\n .long 0x22222222\n .byte 0x90, 0x90, 0x90\n"
    CROSS_TABLES("whole"))

static void test_whole(void)
{
    run_two(whole_start, whole_end);
}

/*
 * A function between two counters, all in one granule: both processors call it and count beside it. The second one ends when it has
 * counted; 6950: how often the function has returned something else.
 */
GUEST_CODE(beside, CROSS_ENTER("beside") CROSS_WAKE
    "mov $300, %ecx\n call beside_count\n" WAIT("cmpl $1, 0x6934", "je")
    "cmpl $600, " ORG("beside_before") "\n" FAIL("1") "cmpl $600, " ORG("beside_behind") "\n" FAIL("2") "cmpl $0, 0x6950\n" FAIL("3") GUEST_EXIT("0")
    "beside_second: mov $300, %ecx\n call beside_count\n movl $1, 0x6934\n 2: hlt\n jmp 2b\n"
    "beside_count: lock incl " ORG("beside_before") "\n call beside_function\n cmp %ecx, %eax\n je 3f\n incl 0x6950\n 3: dec %ecx\n jnz beside_count\n ret\n"
    ".balign 64\n beside_before: .long 0\n beside_function: mov %ecx, %eax\n lock incl " ORG("beside_behind") "\n ret\n .balign 4\n beside_behind: .long 0\n .balign 64\n"
    CROSS_TABLES("beside"))

static void test_beside(void)
{
    run_two(beside_start, beside_end);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    guest_add("/guest/smc-cross/flag", test_flag);
    guest_add("/guest/smc-cross/flag64", test_flag64);
    guest_add("/guest/smc-cross/poke", test_poke);
    guest_add("/guest/smc-cross/whole", test_whole);
    guest_add("/guest/smc-cross/beside", test_beside);
    return g_test_run();
}
