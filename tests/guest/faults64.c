/*
 * Exceptions in 64-bit mode: vector, error code, saved RIP, RF, stack. Intel SDM volume 3, chapter 6; from CPL 0 and 3.
 */
#include "tests/lib/guest_fault.h"

#define NONE FAULT_NONE
/*
 * Selectors beyond GUEST_GDT: 50 data not present, 58 code not present, 60 call gate to CPL 0, 70 read-only data, 78
 * code32 CPL 0.
 */
#define CASES(K, U) \
    K("div by zero", "xor %ecx, %ecx", "div %ecx", EXC_DE, 0, 0, 0) \
    K("div overflow", "mov $1, %edx\n mov $1, %ecx", "div %ecx", EXC_DE, 0, 0, 0) \
    U("div at CPL 3", "xor %ecx, %ecx", "div %cl", EXC_DE, 0, 0, 0) \
    K("ud2", "", "ud2", EXC_UD, 0, 0, 0) \
    U("ud2 at CPL 3", "", "ud2", EXC_UD, 0, 0, 0) \
    K("lock nop", "", ".byte 0xf0, 0x90", EXC_UD, 0, 0, 0) \
    K("int3", "", "int3", EXC_BP, 0, 1, 0) \
    U("int3 at CPL 3", "", "int3", EXC_BP, 0, 1, 0) \
    K("int 0x80", "", "int $0x80", 0x80, 0, 2, 0) \
    U("int 0x80 at CPL 3", "", "int $0x80", 0x80, 0, 2, 0) \
    U("int 0x20 by a gate of DPL 0", "", "int $0x20", EXC_GP, 0x102, 0, 0) \
    U("int 13 is no exception", "", "int $13", EXC_GP, 13 * 8 + 2, 0, 0) \
    U("int 14 is no exception", "", "int $14", EXC_GP, 14 * 8 + 2, 0, 0) \
    U("int 8 is no exception", "", "int $8", EXC_GP, 8 * 8 + 2, 0, 0) \
    U("icebp needs no DPL", "", ".byte 0xf1", EXC_DB, 0, 1, 0) \
    U("hlt", "", "hlt", EXC_GP, 0, 0, 0) \
    U("cli", "", "cli", EXC_GP, 0, 0, 0) \
    U("in", "", "in $0x70, %al", EXC_GP, 0, 0, 0) \
    U("mov cr0", "", "mov %cr0, %rax", EXC_GP, 0, 0, 0) \
    U("wrmsr", "", "wrmsr", EXC_GP, 0, 0, 0) \
    U("clac", "", "clac", EXC_UD, 0, 0, 0) \
    K("unknown msr", "mov $0x12345678, %ecx", "rdmsr", EXC_GP, 0, 0, 0) \
    K("non-canonical data", "mov $0x800000000000, %rax", "mov (%rax), %bl", EXC_GP, 0, 0, 0) \
    K("non-canonical stack", "mov $0x800000000000, %rbp", "mov (%rbp), %bl", EXC_SS, 0, 0, 0) \
    K("across the canonical end", "mov $0x7ffffffffffd, %rax", "mov (%rax), %ebx", EXC_GP, 0, 0, 0) \
    K("non-canonical jump", "mov $0x800000000000, %rax", "jmp *%rax", EXC_GP, 0, 0, 0) \
    K("cr0 PG without PE", "mov %cr0, %rax\n and $~1, %rax", "mov %rax, %cr0", EXC_GP, 0, 0, 0) \
    K("cr0 NW without CD", "mov %cr0, %rax\n bts $29, %rax\n btr $30, %rax", "mov %rax, %cr0", EXC_GP, 0, 0, 0) \
    K("cr4 without PAE", "mov %cr4, %rax\n and $~0x20, %rax", "mov %rax, %cr4", EXC_GP, 0, 0, 0) \
    K("cr1", "", "mov %cr1, %rax", EXC_UD, 0, 0, 0) \
    K("cr8 above 15", "mov $16, %eax", "mov %rax, %cr8", EXC_GP, 0, 0, 0) \
    K("efer reserved", "mov $0xc0000080, %ecx\n rdmsr\n or $2, %eax", "wrmsr", EXC_GP, 0, 0, 0) \
    K("segment not present", "mov $0x50, %ax", "mov %ax, %ds", EXC_NP, 0x50, 0, 0) \
    K("stack not present", "mov $0x50, %ax", "mov %ax, %ss", EXC_SS, 0x50, 0, 0) \
    K("stack read-only", "mov $0x70, %ax", "mov %ax, %ss", EXC_GP, 0x70, 0, 0) \
    K("stack of other DPL", "mov $0x33, %ax", "mov %ax, %ss", EXC_GP, 0x30, 0, 0) \
    U("null stack at CPL 3", "xor %eax, %eax", "mov %ax, %ss", EXC_GP, 0, 0, 0) \
    U("data of DPL 0", "mov $0x10, %ax", "mov %ax, %ds", EXC_GP, 0x10, 0, 0) \
    K("beyond the GDT", "mov $0x400, %ax", "mov %ax, %ds", EXC_GP, 0x400, 0, 0) \
    K("LDT without LDT", "mov $0x24, %ax", "mov %ax, %ds", EXC_GP, 0x24, 0, 0) \
    K("mov cs", "", ".byte 0x8e, 0xc8", EXC_UD, 0, 0, 0) \
    K("far return to code not present", "pushq $0x58\n pushq $0x1000", "lretq", EXC_NP, 0x58, 0, 0) \
    K("far return to data", "pushq $0x10\n pushq $0x1000", "lretq", EXC_GP, 0x10, 0, 0) \
    K("far return to null", "pushq $0\n pushq $0x1000", "lretq", EXC_GP, 0, 0, 0) \
    K("far return, limit of code32", "pushq $0x78\n pushq $0x7ffff000", "lretq", EXC_GP, 0, 0, 0) \
    K("iret with NT", "pushf\n orl $0x4000, (%rsp)\n popf", "iretq", EXC_GP, 0, 0, 0) \
    K("iret to a non-canonical RIP", "pushq $0x10\n pushq $0x7000\n pushq $2\n pushq $0x20\n mov $0x800000000000, %rax\n push %rax", \
      "iretq", EXC_GP, 0, 0, 0) \
    K("ltr busy", "mov $0x40, %ax", "ltr %ax", EXC_GP, 0x40, 0, 0) \
    K("lldt of a TSS", "mov $0x40, %ax", "lldt %ax", EXC_GP, 0x40, 0, 0) \
    K("ltr null", "xor %eax, %eax", "ltr %ax", EXC_GP, 0, 0, 0) \
    K("gate not present", "movb $0x0e, 0x5215", "int $0x21", EXC_NP, 0x10a, 0, 0) \
    K("gate of bad type", "movb $0x85, 0x5225", "int $0x22", EXC_GP, 0x112, 0, 0) \
    K("gate to code not yet accessed", "andb $0xfe, " ORG("f64_gdt") " + 0x25\n mov $" ORG("f64_marked") ", %eax\n mov %ax, 0x5280", \
      "int $0x28", 0x91, 0, -1, 0) \
    K("gate to a null selector", "movw $0, 0x5232", "int $0x23", EXC_GP, 0, 0, 0) \
    K("gate to data", "movw $0x10, 0x5242", "int $0x24", EXC_GP, 0x10, 0, 0) \
    K("gate to code32", "movw $0x08, 0x5252", "int $0x25", EXC_GP, 8, 0, 0) \
    K("gate to code not present", "movw $0x58, 0x5262", "int $0x26", EXC_NP, 0x58, 0, 0) \
    K("gate to a non-canonical RIP", "movl $0x8000, 0x5278", "int $0x27", EXC_GP, 0, 0, 0) \
    K("bad gate for an exception: #DF by IST", "movb $0x0e, 0x5005\n movb $0x0e, 0x50b5\n xor %ecx, %ecx", "div %ecx", EXC_DF, 0, 0, 0) \
    K("and once more after repair", "movb $0x8e, 0x5005\n movb $0x8e, 0x50b5\n xor %ecx, %ecx", "div %ecx", EXC_DE, 0, 0, 0) \
    U("bad RSP0: #DF by IST", "mov $0x800000000000, %rax\n mov %rax, 0x4004", "int $0x80", EXC_DF, 0, 0, 0) \
    U("bad RSP0 repaired", "movq $0x6400, 0x4004", "int $0x80", 0x80, 0, 2, 0) \
    U("call gate", "mov $0x6000, %eax", "lcall *" ORG("f64_gate") "", 0x91, 0, -1, 0) \
    U("alignment check", "mov %cr0, %rax\n bts $18, %rax\n mov %rax, %cr0\n movq $0x40002, 0xff020", "mov 0x6001, %eax", EXC_AC, 0, 0, 0) \
    U("alignment: quadword", "movq $0x40002, 0xff020", "mov 0x6004, %rax", EXC_AC, 0, 0, 0) \
    U("alignment: aligned", "movq $0x40002, 0xff020", "mov 0x6004, %eax", NONE, 0, 0, 0) \
    K("alignment: not at CPL 0", "pushf\n orl $0x40000, (%rsp)\n popf", "mov 0x6001, %eax", NONE, 0, 0, 0) \
    K("rep ins of no element: the upper half of the counter", "mov $0x100000000, %rcx", \
      "addr32 rep insb\n test %rcx, %rcx\n jz 1f\n ud2\n 1:", NONE, 0, 0, 0) \
    K("too long", "", ".byte 0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x90", EXC_GP, 0, 0, 0) \
    K("sse without OSFXSR", "mov %cr4, %rax\n and $~0x200, %rax\n mov %rax, %cr4", "movaps %xmm0, %xmm1", EXC_UD, 0, 0, 0) \
    K("x87 with TS", "mov %cr0, %rax\n or $8, %rax\n mov %rax, %cr0", "fnop", EXC_NM, 0, 0, 0) \
    K("x87 unmasked", "clts\n mov %cr0, %rax\n or $0x22, %rax\n and $~4, %rax\n mov %rax, %cr0\n fninit\n pushq $0x0340\n fldcw (%rsp)\n fld1\n fldz\n fdivrp\n", \
      "fwait", EXC_MF, 0, 0, 0) \
    K("simd exception", "fninit\n mov %cr4, %rax\n or $0x600, %rax\n mov %rax, %cr4\n pushq $0\n ldmxcsr (%rsp)\n pcmpeqd %xmm0, %xmm0\n pxor %xmm1, %xmm1\n mov $1, %eax\n cvtsi2sd %eax, %xmm0", \
      "divsd %xmm1, %xmm0", EXC_XM, 0, 0, 0) \
    U("umip", "mov %cr4, %rax\n bts $11, %rax\n mov %rax, %cr4", "sgdt 0x6000", EXC_GP, 0, 0, 0) \
    U("tsd", "mov %cr4, %rax\n or $4, %rax\n mov %rax, %cr4", "rdtsc", EXC_GP, 0, 0, 0)

GUEST_CODE(f64, GUEST_ENTER_LONG("f64") FAULT_START("f64")
    CASES(FAULT_CODE_K, FAULT_CODE_U) GUEST_EXIT("0")
    FAULT_RUNTIME("f64")
    "f64_gate: .long 0\n .word 0x63\n"
    "f64_called: int $0x91\n"
    "f64_marked: testb $1, " ORG("f64_gdt") " + 0x25\n jnz 1f\n int $0x92\n 1: int $0x91\n"
    ".balign 8\n"
    "f64_gdt: .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00009b000000ffff, 0x00af9b000000ffff, 0x000093000000ffff\n"
    ".quad 0x00cff3000000ffff, 0x00affb000000ffff, 0x0000890040000067, 0\n"
    ".quad 0x00cf13000000ffff, 0x00af1b000000ffff\n"
    ".word f64_called - \\base + 0x7c00, 0x20, 0xec00, 0\n .quad 0\n"
    ".quad 0x00cf91000000ffff, 0x00009b000000ffff\n"
    "f64_gdt_end:\n"
    "f64_gdtr: .word f64_gdt_end - f64_gdt - 1\n .long " ORG("f64_gdt") "\n")

static void test_faults(void)
{
    static const struct fault_case cases[] = { CASES(FAULT_ROW_K, FAULT_ROW_U) };
    struct guest *g = fault_run(f64_start, f64_end, cases, G_N_ELEMENTS(cases));
    for (unsigned n = 0; n < G_N_ELEMENTS(cases); n++)
        if (cases[n].vector == EXC_DF) /* on the stack of IST 1 */
            g_assert_cmphex(fault_slot(g, n, SLOT_FRAME), ==, 0x5fe00);
    guest_free(g);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    guest_add("/guest/faults64", test_faults);
    return g_test_run();
}
