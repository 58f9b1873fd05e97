/*
 * Code that changes: in its own block, the next instruction, another page, across a page boundary, by another
 * processor, by remapping. A processor sees its own stores at once, those of another after a serializing instruction.
 */
#include "tests/lib/guest_test.h"

#define FAIL(code) "jz 1f\n mov $" code ", %al\n out %al, $0xf4\n 1:\n"
GUEST_CODE(smc, GUEST_ENTER_LONG("smc")
    /* the immediate of the next instruction, many times */
    "mov $100, %ecx\n xor %ebx, %ebx\n 2: mov %cl, " ORG("smc_imm") "\n .byte 0xb0\n smc_imm: .byte 0\n cmp %cl, %al\n" FAIL("1") "loop 2b\n"
    /* an opcode within the block, not yet reached: INC becomes DEC (of EBX) */
    "movw $0xcbff, " ORG("smc_op") "\n nop\n nop\n smc_op: inc %ebx\n cmp $-1, %ebx\n" FAIL("2")
    /* by a string store, a locked one and a push */
    "mov $0x90, %al\n mov $" ORG("smc_str") ", %edi\n mov $2, %ecx\n rep stosb\n smc_str: ud2\n"
    "mov $0x9090, %eax\n lock xchg %ax, " ORG("smc_lock") "\n smc_lock: ud2\n"
    "mov %rsp, %rbp\n mov $" ORG("smc_push") " + 8, %esp\n mov $0x9090909090909090, %rax\n push %rax\n smc_push: .fill 8, 1, 0x06\n mov %rbp, %rsp\n"
    /* a function in a page of data, rewritten between calls; data beside it must not disturb it */
    "mov $50, %ecx\n mov $0x200000, %ebx\n movl $0xc300b0, (%rbx)\n 2: mov %cl, 1(%rbx)\n mov %rcx, 0x100(%rbx)\n call *%rbx\n cmp %cl, %al\n" FAIL("3") "loop 2b\n"
    /* an instruction across two pages, each half changed */
    "mov $0x200ffe, %ebx\n movw $0x00b8, (%rbx)\n movl $0xc3000000, 2(%rbx)\n movb $0, 5(%rbx)\n movb $0xc3, 5(%rbx)\n movb $0, 4(%rbx)\n"
    "call *%rbx\n cmp $0, %eax\n" FAIL("4") "movb $7, 1(%rbx)\n call *%rbx\n cmp $7, %eax\n" FAIL("5")
    "movb $9, 2(%rbx)\n call *%rbx\n cmp $0x907, %eax\n" FAIL("6")
    /* a loop that patches its own branch away */
    "xor %ecx, %ecx\n 2: inc %ecx\n cmp $10, %ecx\n jne 3f\n movw $0x9090, " ORG("smc_loop") "\n 3: nop\n smc_loop: jmp 2b\n cmp $10, %ecx\n" FAIL("7")
    /* the same physical code under two addresses: 1 GiB mapped once more at 40000000 */
    "movq $0x3007, 0x2008\n mov $0x40200000, %ebx\n movb $0x55, 0x200001\n call *%rbx\n cmp $0x55, %al\n" FAIL("8")
    "movb $0x66, 0x200001\n call *%rbx\n cmp $0x66, %al\n" FAIL("9")
    /* the mapping under running code changes: the next instruction comes from the new page */
    "mov $0x201000, %edi\n mov $" ORG("smc_remap") ", %esi\n mov $smc_remap_end - smc_remap, %ecx\n rep movsb\n"
    "mov $0x401000, %edi\n mov $" ORG("smc_remap") ", %esi\n mov $smc_remap_end - smc_remap, %ecx\n rep movsb\n"
    "movb $2, 0x401000 + smc_remap_value - smc_remap + 1\n mov $0x201000, %ebx\n call *%rbx\n cmp $2, %al\n" FAIL("10")
    GUEST_EXIT("0")
    "smc_remap: movq $0x4000e7, 0x3008\n mov %cr3, %rax\n mov %rax, %cr3\n smc_remap_value: mov $1, %al\n ret\n smc_remap_end:\n"
    GUEST_GDT("smc"))

static void test_own(void)
{
    guest_expect(smc_start, smc_end, "");
}

/*
 * Started at page 7, processor 1 runs the function at 0x200000 again and again; processor 0 rewrites it and waits until
 * it is seen.
 */
GUEST_CODE(cross, "cli\n xor %ax, %ax\n mov %ax, %ds\n mov %ax, %ss\n mov $0x6800, %sp\n"
    "lgdtl " ORG("cross_gdtr") "\n mov %cr0, %eax\n or $1, %al\n mov %eax, %cr0\n ljmpl $0x08, $" ORG("cross32") "\n"
    ".code32\n cross32: mov $0x10, %ax\n mov %ax, %ds\n mov %ax, %es\n mov %ax, %ss\n"
    /* both come by here: the first one wakes the other */
    "mov $1, %eax\n lock xadd %eax, 0x6904\n test %eax, %eax\n jnz cross_second\n mov $0x6800, %esp\n"
    "movl $0x00c300b0, 0x200000\n movl $0x1ff, 0xfee000f0\n movl $0xc4500, 0xfee00300\n movl $0xc4607, 0xfee00300\n"
    "mov $1, %ecx\n 2: mov %cl, 0x200001\n 3: pause\n cmp %cl, 0x6900\n jne 3b\n inc %ecx\n cmp $100, %ecx\n jne 2b\n" GUEST_EXIT("0")
    "cross_second: mov $0x6000, %esp\n mov $0x200000, %ebx\n 4: call *%ebx\n mov %al, 0x6900\n xor %eax, %eax\n cpuid\n mov $0x200000, %ebx\n jmp 4b\n"
    ".balign 8\n cross_gdt: .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff\n cross_gdtr: .word 23\n .long " ORG("cross_gdt") "\n")

static void test_cross(void)
{
    static const uint8_t jump[] = { 0xea, 0x00, 0x7c, 0x00, 0x00 }; /* ljmp 0:7c00 */
    struct guest *g = guest_new(16 << 20, 2, NULL);
    guest_load(g, 0x7c00, cross_start, cross_end);
    guest_load(g, 0x7000, jump, jump + sizeof jump);
    int result = guest_run(g, 0x7c00, 30);
    g_assert_cmpint(result, ==, 0);
    guest_free(g);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/guest/smc/own", test_own);
    g_test_add_func("/guest/smc/cross", test_cross);
    return g_test_run();
}
