/*
 * Paging outside long mode: two levels with and without 4 MiB pages, PSE-36, PAE with its four cached pointers. Intel
 * SDM volume 3, 4.3 and 4.4.
 *
 * Page directory at 10000 (its own low 4 MiB identity-mapped), table at 11000 for linear 400000h, which maps it to
 * itself.
 */
#include "tests/lib/guest_test.h"

/* The handler of #PF and #GP tells error code and CR2 at 6000 and 6004, vector at 6008, and goes on at 600c. */
#define START32(name) \
    "cli\n xor %ax, %ax\n mov %ax, %ds\n mov %ax, %es\n mov %ax, %ss\n mov $0x7000, %sp\n" \
    "lgdtl " ORG(name "_gdtr") "\n mov %cr0, %eax\n or $1, %al\n mov %eax, %cr0\n ljmpl $0x08, $" ORG(name "_start32") "\n" \
    ".code32\n " name "_start32: mov $0x10, %ax\n mov %ax, %ds\n mov %ax, %es\n mov %ax, %ss\n mov $0x7000, %esp\n" \
    "mov $" ORG(name "_pf") ", %eax\n mov %ax, 0x5070\n movw $8, 0x5072\n movw $0x8e00, 0x5074\n movw $0, 0x5076\n" \
    "mov $" ORG(name "_gp") ", %eax\n mov %ax, 0x5068\n movw $8, 0x506a\n movw $0x8e00, 0x506c\n movw $0, 0x506e\n lidt " ORG(name "_idtr") "\n"
#define END32(name) \
    name "_pf: movl $14, 0x6008\n jmp 1f\n " name "_gp: movl $13, 0x6008\n 1: pop 0x6000\n mov %cr2, %eax\n mov %eax, 0x6004\n" \
    "mov 0x600c, %eax\n mov %eax, (%esp)\n iretl\n" \
    ".balign 8\n " name "_gdt: .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff\n " name "_gdtr: .word 23\n .long " ORG(name "_gdt") "\n" \
    name "_idtr: .word 0x7ff\n .long 0x5000\n"
/* Runs the instruction and requires this vector (0: none), error code and CR2. */
#define TRY(insn, vector, error, cr2, code) \
    "movl $0, 0x6000\n movl $0, 0x6008\n movl $2f - \\base + 0x7c00, 0x600c\n " insn "\n 2: cmpl $" vector ", 0x6008\n jne 3f\n" \
    "cmpl $0, 0x6008\n je 4f\n cmpl $" error ", 0x6000\n jne 3f\n cmpl $14, 0x6008\n jne 4f\n cmpl $" cr2 ", 0x6004\n je 4f\n" \
    "3: mov $" code ", %al\n out %al, $0xf4\n 4:\n"
#define IS(what, value, code) "cmpl $" value ", " what "\n je 1f\n mov $" code ", %al\n out %al, $0xf4\n 1:\n"
#define FLUSH "mov %cr3, %eax\n mov %eax, %cr3\n"

GUEST_CODE(two, START32("two")
    "mov $0x10000, %edi\n xor %eax, %eax\n mov $0x800, %ecx\n rep stosl\n mov $0x400003, %eax\n mov $0x11000, %edi\n mov $1024, %ecx\n"
    "1: stosl\n add $0x1000, %eax\n loop 1b\n mov $3, %eax\n mov $0x12000, %edi\n mov $1024, %ecx\n 1: stosl\n add $0x1000, %eax\n loop 1b\n"
    "movl $0x12003, 0x10000\n movl $0x11003, 0x10004\n mov $0x10000, %eax\n mov %eax, %cr3\n mov %cr0, %eax\n or $0x80010000, %eax\n mov %eax, %cr0\n jmp 1f\n 1:\n"
    TRY("mov %eax, 0x400000", "0", "0", "0", "1") IS("0x11000", "0x400063", "2") IS("0x10004", "0x11023", "3")
    TRY("mov 0x800004, %eax", "14", "0", "0x800004", "4")
    /* A and D, read-only with WP, a cached translation that may stay */
    TRY("mov 0x401000, %eax", "0", "0", "0", "5") IS("0x11004", "0x401023", "6")
    "movl $0x401001, 0x11004\n invlpg 0x401000\n" TRY("mov %eax, 0x401000", "14", "3", "0x401000", "7") IS("0x11004", "0x401001", "8")
    /* 4 MiB pages need CR4.PSE: without it the bit is ignored */
    "movl $0x11083, 0x10008\n" TRY("mov 0x802000, %eax", "0", "0", "0", "9") IS("0x11008", "0x402023", "10")
    "mov %cr4, %eax\n or $0x10, %eax\n mov %eax, %cr4\n movl $0x77, 0x400000\n movl $0x400083, 0x10008\n" FLUSH
    TRY("cmpl $0x77, 0x800000", "0", "0", "0", "11") IS("0x10008", "0x4000a3", "12")
    TRY("mov %eax, 0xbffffc", "0", "0", "0", "13") IS("0x10008", "0x4000e3", "14")
    "movl $0x6000a3, 0x10008\n" FLUSH TRY("mov 0x800000, %eax", "14", "9", "0x800000", "15")
    /* bits 20:13 are address bits 39:32: nothing is there */
    "movl $0x4020e3, 0x10008\n" FLUSH TRY("mov 0x800000, %ebx", "0", "0", "0", "16") IS("%ebx", "-1", "17")
    /* NX means nothing here, and the error code of a fetch has no I */
    "mov $0xc0000080, %ecx\n rdmsr\n or $0x800, %eax\n wrmsr\n mov $0xc00000, %ebx\n" TRY("jmp *%ebx", "14", "0", "0xc00000", "18")
    "mov %cr4, %eax\n or $0x100000, %eax\n mov %eax, %cr4\n" TRY("jmp *%ebx", "14", "0x10", "0xc00000", "19")
    /* a far call whose target's descriptor cannot be marked accessed leaves ESP where it was */
    "mov $" ORG("two_gdt") ", %esi\n mov $0x403000, %edi\n mov $6, %ecx\n rep movsl\n movl $0xffff, 0x403018\n movl $0xcf9a00, 0x40301c\n"
    "movw $31, 0x6020\n movl $0x403000, 0x6022\n lgdt 0x6020\n movl $0x403001, 0x1100c\n invlpg 0x403000\n mov %esp, 0x6028\n"
    TRY("lcall $0x18, $0", "14", "3", "0x40301c", "20") "cmp %esp, 0x6028\n je 1f\n mov $21, %al\n out %al, $0xf4\n 1:\n"
    GUEST_EXIT("0") END32("two"))

static void test_two_levels(void)
{
    guest_expect(two_start, two_end, "");
}

/* Pointers at 13000; directory at 10000 with 2 MiB pages for the first GiB, table at 11000 for 400000h. */
GUEST_CODE(pae, START32("pae")
    "mov $0x10000, %edi\n xor %eax, %eax\n mov $0x1000, %ecx\n rep stosl\n movl $0x83, 0x10000\n movl $0x11003, 0x10010\n"
    "movl $0x400003, 0x11000\n movl $0x401003, 0x11008\n movl $0x402001, 0x11010\n movl $0x10001, 0x13000\n"
    "mov %cr4, %eax\n or $0x20, %eax\n mov %eax, %cr4\n mov $0x13000, %eax\n mov %eax, %cr3\n mov %cr0, %eax\n or $0x80010000, %eax\n mov %eax, %cr0\n jmp 1f\n 1:\n"
    TRY("mov %eax, 0x400000", "0", "0", "0", "1") IS("0x11000", "0x400063", "2") IS("0x10010", "0x11023", "3") IS("0x13000", "0x10001", "4")
    TRY("mov 0x40000000, %eax", "14", "0", "0x40000000", "5")
    /* the pointers are cached until CR3 is written */
    "movl $0x10001, 0x13008\n" TRY("mov 0x40000000, %eax", "14", "0", "0x40000000", "6") FLUSH TRY("mov 0x40400000, %eax", "0", "0", "0", "7")
    /* a reserved bit in a pointer refuses CR3 */
    "movl $0x10003, 0x13010\n" TRY("mov %cr3, %eax\n mov %eax, %cr3", "13", "0", "0", "8") "movl $0, 0x13010\n"
    TRY("mov %eax, 0x402000", "14", "3", "0x402000", "9")
    /* NX is reserved without NXE */
    "movl $0x80000000, 0x1100c\n invlpg 0x401000\n" TRY("mov 0x401000, %eax", "14", "9", "0x401000", "10")
    "mov $0xc0000080, %ecx\n rdmsr\n or $0x800, %eax\n wrmsr\n mov $0x401000, %ebx\n" TRY("mov 0x401000, %eax", "0", "0", "0", "11")
    TRY("jmp *%ebx", "14", "0x11", "0x401000", "12")
    "movl $0x40000000, 0x1100c\n invlpg 0x401000\n" TRY("mov 0x401000, %eax", "14", "9", "0x401000", "13")
    "movl $0, 0x1100c\n invlpg 0x401000\n" TRY("mov 0x401000, %eax", "0", "0", "0", "14")
    /* global pages outlive CR3, not INVLPG */
    "mov %cr4, %eax\n or $0x80, %eax\n mov %eax, %cr4\n movl $5, 0x400000\n movl $6, 0x401000\n movl $0x400103, 0x11000\n invlpg 0x400000\n"
    IS("0x400000", "5", "15") "movl $0x401103, 0x11000\n invlpg 0x400000\n" IS("0x400000", "6", "16")
    /* paging off and on again */
    "mov %cr0, %eax\n and $0x7fffffff, %eax\n mov %eax, %cr0\n" IS("0x401000", "6", "17") "or $0x80000000, %eax\n mov %eax, %cr0\n" IS("0x400000", "6", "18")
    GUEST_EXIT("0") END32("pae"))

static void test_pae(void)
{
    guest_expect(pae_start, pae_end, "");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    guest_add("/guest/paging32/two-levels", test_two_levels);
    guest_add("/guest/paging32/pae", test_pae);
    return g_test_run();
}
