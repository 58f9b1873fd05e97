/*
 * Code that changes: in its own block, the next instruction, another page, across a page boundary, by another
 * processor, by remapping. A processor sees its own stores at once, those of another after a serializing instruction.
 */
#include "hw/isa/fw_cfg.h"
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
    /* where a call comes back, found by an indirect jump: call 1f; mov $N, %al; ret; nop; 1: pop %rdx; jmp *%rdx */
    "mov $0x202000, %ebx\n mov $0xc300b000000004e8, %rax\n mov %rax, (%rbx)\n movl $0xe2ff5a90, 8(%rbx)\n mov $400, %ecx\n"
    "2: mov %ecx, %esi\n shr $5, %esi\n cmp %sil, 6(%rbx)\n je 3f\n mov %sil, 6(%rbx)\n 3: call *%rbx\n cmp %sil, %al\n" FAIL("11")
    "dec %ecx\n jnz 2b\n"
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
 * In loops that every engine translates: stores into the block under way, ahead and behind, by all kinds of stores, through
 * another linear address (1 GiB is mapped once more at 40000000), from another page, on the way back to it. ECX counts.
 */
#define ALIAS "0x40000000 + "
#define IMM(label) ".byte 0xbb\n " label ": .long 0\n cmp %ecx, %ebx\n" /* mov $0, %ebx */
#define AHEAD "lea 1(%rbx), %edx\n xor %edi, %edi\n nop\n"
GUEST_CODE(patch, GUEST_ENTER_LONG("patch")
    "movq $0x3007, 0x2008\n mov %cr4, %rax\n or $0x600, %eax\n mov %rax, %cr4\n fninit\n"
    /* the next instruction, one ahead, the head of the loop */
    "mov $2000, %ecx\n movl $2000, " ORG("pa_head") "\n"
    "2: " IMM("pa_head") FAIL("1") "mov %ecx, " ORG("pa_next") "\n" IMM("pa_next") FAIL("2")
    "mov %ecx, " ORG("pa_ahead") "\n" AHEAD IMM("pa_ahead") FAIL("3")
    "lea -1(%rcx), %edx\n mov %edx, " ORG("pa_head") "\n dec %ecx\n jnz 2b\n"
    /* the same with stores through the other address, then with code that runs there */
    "mov $2000, %ecx\n movl $2000, " ORG("pb_head") "\n"
    "2: " IMM("pb_head") FAIL("4") "mov %ecx, " ALIAS ORG("pb_next") "\n" IMM("pb_next") FAIL("5")
    "mov %ecx, " ALIAS ORG("pb_ahead") "\n" AHEAD IMM("pb_ahead") FAIL("6")
    "lea -1(%rcx), %edx\n mov %edx, " ALIAS ORG("pb_head") "\n dec %ecx\n jnz 2b\n"
    "mov $2000, %ecx\n movl $2000, " ORG("pc_head") "\n mov $" ALIAS ORG("pc_loop") ", %eax\n jmp *%rax\n"
    "pc_loop: " IMM("pc_head") FAIL("7") "mov %ecx, " ORG("pc_next") "\n" IMM("pc_next") FAIL("8")
    "mov %ecx, " ORG("pc_ahead") "\n" AHEAD IMM("pc_ahead") FAIL("9")
    "lea -1(%rcx), %edx\n mov %edx, " ORG("pc_head") "\n dec %ecx\n jnz pc_loop\n mov $" ORG("pc_end") ", %eax\n jmp *%rax\n pc_end:\n"
    /* all kinds of stores to the next instruction; at 210000 is a copy of it, followed by NOPs */
    "mov $300, %ecx\n movups " ORG("pd_nops") ", %xmm0\n movups %xmm0, 0x210000\n"
    "2: mov %ecx, 0x210001\n mov %rcx, %r12\n movb $0xbb, 0x210000\n"
    "mov $0x210000, %esi\n mov $" ORG("pd_movsb") ", %edi\n mov $5, %ecx\n rep movsb\n pd_movsb: .fill 5, 1, 6\n mov %r12, %rcx\n cmp %ecx, %ebx\n" FAIL("10")
    "mov $0x210000, %esi\n mov $" ORG("pd_movsq") ", %edi\n mov $2, %ecx\n rep movsq\n nop\n pd_movsq: .fill 16, 1, 6\n mov %r12, %rcx\n cmp %ecx, %ebx\n" FAIL("11")
    "movups 0x210000, %xmm0\n movups %xmm0, " ORG("pd_movups") "\n pd_movups: .fill 16, 1, 6\n cmp %ecx, %ebx\n" FAIL("12")
    "movnti %ecx, " ORG("pd_movnti") "\n" IMM("pd_movnti") FAIL("13")
    "fildl 0x210001\n fistpl " ORG("pd_fistp") "\n" IMM("pd_fistp") FAIL("14")
    "mov " ORG("pd_cmpxchg") ", %eax\n lock cmpxchg %ecx, " ORG("pd_cmpxchg") "\n" IMM("pd_cmpxchg") FAIL("15")
    "mov $1, %eax\n test %ecx, %ecx\n setnz " ORG("pd_setnz") "\n .byte 0xb3\n pd_setnz: .byte 7\n cmp $1, %bl\n movb $7, " ORG("pd_setnz") "\n" FAIL("16")
    "mov $0x90909090, %eax\n shl $32, %rax\n or %rcx, %rax\n mov %rsp, %rbp\n mov $" ORG("pd_push") " + 8, %esp\n"
    "push %rax\n .byte 0xbb\n pd_push: .fill 8, 1, 6\n mov %rbp, %rsp\n cmp %ecx, %ebx\n" FAIL("17")
    "dec %ecx\n jnz 2b\n jmp 3f\n pd_nops: .fill 16, 1, 0x90\n 3:\n"
    /* two pushes in a row: the first changes the second, PUSH RBX, to PUSH RCX, which overwrites the first */
    "mov $300, %ecx\n 2: movabs $0x5090909090909090, %rax\n mov %rax, " ORG("pe_first") " - 7\n movabs $0x9090909090909053, %rax\n mov %rax, " ORG("pe_first") " + 1\n"
    "movb $0x51, %al\n mov %rsp, %rbp\n mov $" ORG("pe_first") " + 9, %esp\n jmp 3f\n 3: .fill 7, 1, 0x90\n pe_first: push %rax\n push %rbx\n .fill 7, 1, 0x90\n"
    "mov %rbp, %rsp\n cmp %rcx, " ORG("pe_first") " - 7\n" FAIL("18") "dec %ecx\n jnz 2b\n"
    /* what is called writes to where it returns to: near, from another page */
    "mov $3000, %ecx\n mov $0x220000, %edi\n mov $" ORG("pf_near") ", %esi\n mov $pf_near_end - pf_near, %ecx\n rep movsb\n mov $3000, %ecx\n mov $0x220000, %r8d\n"
    "2: call pf_near\n" IMM("pf_back") FAIL("19") "dec %ecx\n jnz 2b\n"
    "mov $3000, %ecx\n 2: movl $" ORG("pf_far") ", 0x220003\n call \\base + 0x220000 - 0x7c00\n" IMM("pf_far") FAIL("20")
    "movl $" ORG("pf_indirect") ", 0x220003\n call *%r8\n" IMM("pf_indirect") FAIL("21") "dec %ecx\n jnz 2b\n"
    /* sixteen functions built side by side and called, then once more backward, then built anew */
    "mov $200, %ecx\n 2: mov $0x230000, %ebx\n mov %ecx, %edx\n shl $4, %edx\n"
    "3: movb $0xb8, (%rbx)\n mov %edx, 1(%rbx)\n movb $0xc3, 5(%rbx)\n call *%rbx\n cmp %edx, %eax\n" FAIL("22") "inc %edx\n add $32, %ebx\n cmp $0x230200, %ebx\n jne 3b\n"
    "3: sub $32, %ebx\n dec %edx\n call *%rbx\n cmp %edx, %eax\n" FAIL("23") "cmp $0x230000, %ebx\n jne 3b\n dec %ecx\n jnz 2b\n"
    GUEST_EXIT("0")
    "pf_near: mov %ecx, " ORG("pf_back") "\n ret\n pf_near_end:\n"
    GUEST_GDT("patch"))

static void test_patch(void)
{
    guest_expect(patch_start, patch_end, "");
}

/* A hot loop with an immediate that is another one each time, 100,000 times. */
GUEST_CODE(often, GUEST_ENTER_LONG("often")
    "mov $100000, %ecx\n xor %eax, %eax\n 2: mov %ecx, " ORG("of_value") " + 1\n add %ecx, %eax\n of_value: mov $0, %ebx\n cmp %ecx, %ebx\n" FAIL("1")
    "dec %ecx\n jnz 2b\n cmp $705082704, %eax\n" FAIL("2") GUEST_EXIT("0") GUEST_GDT("often"))

static void test_often(void)
{
    guest_expect(often_start, often_end, "");
}

/*
 * fw_cfg's DMA writes over the instruction behind the one that starts it: by turns two items that hold MOV $1, %eax and MOV $2,
 * %eax. The descriptor, at 6000: control, length, address, all big-endian.
 */
GUEST_CODE(dma, GUEST_ENTER_LONG("dma")
    "mov $2000, %ecx\n movl $0x05000000, 0x6004\n movl $0, 0x6008\n mov $" ORG("dma_code") ", %eax\n bswap %eax\n mov %eax, 0x600c\n"
    "2: mov $0x0a001100, %ebx\n test $1, %cl\n jz 3f\n mov $0x0a001200, %ebx\n 3: mov %ebx, 0x6000\n"
    "mov $0x518, %edx\n mov $0x00600000, %eax\n out %eax, %dx\n dma_code: mov $9, %eax\n cmpl $0, 0x6000\n" FAIL("1")
    "mov %ecx, %edx\n and $1, %edx\n inc %edx\n cmp %edx, %eax\n" FAIL("2") "dec %ecx\n jnz 2b\n" GUEST_EXIT("0") GUEST_GDT("dma"))

static void test_dma(void)
{
    struct guest *g = guest_new(16 << 20, 1, NULL);
    struct device *d;
    GError *err = NULL;
    g_assert_true(device_add(&fw_cfg_type, g->m->system_bus, &d, &err));
    fw_cfg_add_lent((struct fw_cfg *)d, FW_CFG_KERNEL_DATA, "\xb8\x01\0\0\0", 5);
    fw_cfg_add_lent((struct fw_cfg *)d, FW_CFG_INITRD_DATA, "\xb8\x02\0\0\0", 5);
    bus_reset(g->m->system_bus);
    guest_load(g, 0x7c00, dma_start, dma_end);
    g_assert_cmpint(guest_run(g, 0x7c00, 20), ==, 0);
    guest_free(g);
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
    guest_add("/guest/smc/own", test_own);
    guest_add("/guest/smc/patch", test_patch);
    guest_add("/guest/smc/often", test_often);
    guest_add("/guest/smc/dma", test_dma);
    guest_add("/guest/smc/cross", test_cross);
    return g_test_run();
}
