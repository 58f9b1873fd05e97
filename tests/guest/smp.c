/*
 * Four processors: start-up by INIT and SIPI, LOCK on aligned, odd and page-crossing memory, IPIs that make others drop
 * a translation.
 */
#include "tests/lib/guest_test.h"

#include <string.h>

/* All come by the same code; EDI is the number in the order of arrival, 0 the one that wakes the others. */
#define BARRIER(n) "lock incl 0x6910\n 1: pause\n cmpl $4 * " #n ", 0x6910\n jb 1b\n"
GUEST_CODE(smp, "cli\n xor %ax, %ax\n mov %ax, %ds\n mov %ax, %ss\n"
    "lgdtl " ORG("smp_gdtr") "\n mov %cr0, %eax\n or $1, %al\n mov %eax, %cr0\n ljmpl $0x08, $" ORG("smp32") "\n"
    ".code32\n smp32: mov $0x10, %ax\n mov %ax, %ds\n mov %ax, %es\n mov %ax, %ss\n lidt " ORG("smp_idtr") "\n"
    "mov $1, %edi\n lock xadd %edi, 0x6904\n mov %edi, %esp\n shl $12, %esp\n add $0x31000, %esp\n movl $0x1ff, 0xfee000f0\n"
    "test %edi, %edi\n jnz smp_all\n"
    /* IDT, page directory (4 MiB pages, but a table at 11000 for 400000h), pages that hold their number */
    "mov $" ORG("smp_ipi") ", %eax\n mov %ax, 0x5200\n movw $8, 0x5202\n movw $0x8e00, 0x5204\n movw $0, 0x5206\n"
    "movl $0x83, 0x10000\n movl $0x11003, 0x10004\n movl $0x400083, 0x10008\n movl $0xfec00083, 0x10fec\n"
    "xor %ecx, %ecx\n 1: mov %ecx, %eax\n shl $12, %eax\n mov %ecx, 0x500000(%eax)\n inc %ecx\n cmp $8, %ecx\n jne 1b\n"
    "movl $0x500003, 0x11000\n movl $0xc4500, 0xfee00300\n movl $0xc4607, 0xfee00300\n"
    "smp_all:\n" BARRIER(1)
    "mov $500, %ecx\n 2: lock incl 0x200000\n lock addl $3, 0x20003e\n lock addw $1, 0x200ffe\n xor %eax, %eax\n lock btsl %edi, 0x200200\n"
    "mov 0x200100, %eax\n mov 0x200104, %edx\n 3: mov %eax, %ebx\n add $1, %ebx\n mov %edx, %ebp\n mov %ecx, 0x31000(,%edi,4)\n"
    "push %ecx\n mov %edx, %ecx\n adc $0, %ecx\n lock cmpxchg8b 0x200100\n pop %ecx\n jnz 3b\n loop 2b\n"
    /* across two pages, which takes all others out of their way; fewer of them */
    "mov $60, %ecx\n 2: lock addl $0x10001, 0x201ffd\n mov $1, %eax\n lock xadd %eax, 0x202ffe\n loop 2b\n"
    BARRIER(2)
    "mov %cr4, %eax\n or $0x10, %eax\n mov %eax, %cr4\n mov $0x10000, %eax\n mov %eax, %cr3\n mov %cr0, %eax\n or $0x80000000, %eax\n mov %eax, %cr0\n jmp 1f\n 1:\n"
    "test %edi, %edi\n jz smp_first\n sti\n"
    "smp_reads: mov 0x400000, %eax\n mov %eax, 0x6a00(,%edi,4)\n pause\n jmp smp_reads\n"
    /* goes on at the load, so that no value read before is told afterwards */
    "smp_ipi: invlpg 0x400000\n movl $" ORG("smp_reads") ", (%esp)\n lock incl 0x6914\n movl $0, 0xfee000b0\n iret\n"
    "smp_first: mov $1, %ecx\n xor %ebp, %ebp\n"
    "2: mov %ecx, %ebx\n and $7, %ebx\n mov %ebx, %eax\n shl $12, %eax\n add $0x500003, %eax\n mov %eax, 0x11000\n"
    "movl $0xc4040, 0xfee00300\n add $3, %ebp\n 3: pause\n cmp %ebp, 0x6914\n jne 3b\n"
    "movl $-1, 0x6a04\n movl $-1, 0x6a08\n movl $-1, 0x6a0c\n mov $1, %esi\n"
    "4: mov 0x6a00(,%esi,4), %eax\n cmp $-1, %eax\n pause\n je 4b\n cmp %ebx, %eax\n jne smp_bad\n inc %esi\n cmp $4, %esi\n jne 4b\n"
    "inc %ecx\n cmp $60, %ecx\n jne 2b\n" GUEST_EXIT("0")
    "smp_bad: " GUEST_EXIT("1")
    ".balign 8\n smp_gdt: .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff\n smp_gdtr: .word 23\n .long " ORG("smp_gdt") "\n"
    "smp_idtr: .word 0x7ff\n .long 0x5000\n")

static void test_smp(void)
{
    static const uint8_t jump[] = { 0xea, 0x00, 0x7c, 0x00, 0x00 }; /* at the start-up page 7: ljmp 0:7c00 */
    struct guest *g = guest_new(16 << 20, 4, NULL);
    guest_load(g, 0x7c00, smp_start, smp_end);
    guest_load(g, 0x7000, jump, jump + sizeof jump);
    int result = guest_run(g, 0x7c00, 60);
    g_test_message("arrived %d, barrier %d, IPIs %d", (int)guest_peek(g, 0x6904, 4), (int)guest_peek(g, 0x6910, 4),
                   (int)guest_peek(g, 0x6914, 4));
    g_assert_cmpint(guest_peek(g, 0x200000, 4), ==, 2000);
    g_assert_cmpint(guest_peek(g, 0x20003e, 4), ==, 6000);
    g_assert_cmpint(guest_peek(g, 0x200ffe, 2), ==, 2000);
    g_assert_cmpint(guest_peek(g, 0x200100, 8), ==, 2000);
    g_assert_cmphex(guest_peek(g, 0x200200, 4), ==, 0xf);
    g_assert_cmphex(guest_peek(g, 0x201ffd, 4), ==, 240 * 0x10001);
    g_assert_cmpint(guest_peek(g, 0x202ffe, 4), ==, 240);
    g_assert_cmpint(result, ==, 0);
    guest_free(g);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    guest_add("/guest/smp", test_smp);
    return g_test_run();
}
