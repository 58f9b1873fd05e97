/*
 * Through the processor's modes and back: real, 16 and 32-bit protected, paging, long, compatibility, and real again.
 */
#include "tests/lib/guest_test.h"

GUEST_CODE(modes,
    "cli\n xor %ax, %ax\n mov %ax, %ds\n mov %ax, %es\n mov %ax, %ss\n mov $0x7000, %sp\n"
    GUEST_PUT("r")
    /* a real-mode interrupt */
    "movw $" ORG("isr") ", 0x21*4\n movw $0, 0x21*4+2\n int $0x21\n"
    /* protected mode, 16-bit code first */
    "lgdtl " ORG("modes_gdtr") "\n mov %cr0, %eax\n or $1, %al\n mov %eax, %cr0\n"
    "ljmp $0x18, $" ORG("prot16") "\n"
    "isr: " GUEST_PUT("i") "iret\n"
    "prot16: " GUEST_PUT("p")
    "ljmpl $0x08, $" ORG("prot32") "\n"
    ".code32\n"
    "prot32: mov $0x10, %ax\n mov %ax, %ds\n mov %ax, %es\n mov %ax, %ss\n mov $0x7000, %esp\n"
    GUEST_PUT("P")
    /* identity map of the first 2 MiB for PAE and long mode: 1000 PML4, 2000 PDPT, 3000 PD */
    "mov $0x1000, %edi\n xor %eax, %eax\n mov $0xc00, %ecx\n rep stosl\n"
    "movl $0x2003, 0x1000\n movl $0x3003, 0x2000\n movl $0x83, 0x3000\n"
    "mov $0x1000, %eax\n mov %eax, %cr3\n"
    "mov %cr4, %eax\n or $0x20, %eax\n mov %eax, %cr4\n"
    "mov $0xc0000080, %ecx\n rdmsr\n or $0x100, %eax\n wrmsr\n"
    "mov %cr0, %eax\n or $0x80000000, %eax\n mov %eax, %cr0\n"
    GUEST_PUT("c")
    "ljmpl $0x20, $" ORG("long64") "\n"
    ".code64\n"
    "long64: mov $0x1122334455667788, %rax\n mov %rax, %r15\n shr $32, %r15\n cmp $0x11223344, %r15\n jne fail\n"
    "lea data(%rip), %rbx\n cmpl $0x600d, (%rbx)\n jne fail\n"
    "mov $0x7000, %rsp\n push %r15\n pop %r14\n cmp %r14, %r15\n jne fail\n"
    GUEST_PUT("L")
    /* compatibility mode by a far return */
    "pushq $0x08\n pushq $" ORG("compat") "\n lretq\n"
    "fail: " GUEST_EXIT("1")
    "data: .long 0x600d\n"
    ".code32\n"
    "compat: mov $0x10, %ax\n mov %ax, %ss\n mov $0x7000, %esp\n push $0x1234\n pop %ecx\n cmp $0x1234, %ecx\n jne fail32\n"
    GUEST_PUT("C")
    /* paging off leaves long mode; then real mode */
    "mov %cr0, %eax\n and $0x7fffffff, %eax\n mov %eax, %cr0\n"
    "ljmpl $0x18, $" ORG("back16") "\n"
    "fail32: " GUEST_EXIT("2")
    ".code16\n"
    "back16: mov $0x28, %ax\n mov %ax, %ds\n mov %ax, %es\n mov %ax, %ss\n mov %cr0, %eax\n and $0xfe, %al\n mov %eax, %cr0\n"
    "ljmp $0, $" ORG("real") "\n"
    "real: xor %ax, %ax\n mov %ax, %ds\n mov %ax, %ss\n mov $0x7000, %sp\n int $0x21\n"
    GUEST_PUT("R")
    GUEST_EXIT("0")
    GUEST_GDT("modes"))

static void test_modes(void)
{
    guest_expect(modes_start, modes_end, "ripPcLCiR");
}

/* No IDT and an invalid instruction: a triple fault resets the machine. */
GUEST_CODE(triple, "lidtl " ORG("no_idt") "\n ud2\n no_idt: .word 0\n .long 0\n")

static void test_triple_fault(void)
{
    struct guest *g = guest_new(1 << 20, 1, NULL);
    guest_load(g, 0x7c00, triple_start, triple_end);
    g_assert_cmpint(guest_run(g, 0x7c00, 20), ==, GUEST_RESET);
    g_assert_cmpint(g->m->cpus[0]->fault_count, ==, 4);
    g_assert_cmpint(g->m->cpus[0]->fault_chain[0].vector, ==, EXC_UD);
    g_assert_cmpint(g->m->cpus[0]->fault_chain[1].vector, ==, EXC_GP);
    g_assert_cmpint(g->m->cpus[0]->fault_chain[2].vector, ==, EXC_GP);
    guest_free(g);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    guest_add("/guest/modes", test_modes);
    guest_add("/guest/triple-fault", test_triple_fault);
    return g_test_run();
}
