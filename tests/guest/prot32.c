/*
 * 32-bit protected mode: exceptions with their stacks, call and task gates, limits, conforming and expand-down
 * segments, #TS, hardware task switches, virtual-8086 mode with and without VME. Intel SDM volume 3, chapters 5 to 7
 * and 20.
 *
 * The handler common to all vectors writes down vector, error code, EIP relative to the instruction, CS, EFLAGS, and
 * from what ring; then it goes on at the address in 0x6008.
 */
#include "tests/lib/guest_test.h"

#define SLOTS 0x100000 /* 64 bytes each: vector, error, EIP, CS, EFLAGS, ESP and SS (from an outer ring), CR2, count, TR, ESP of the frame */

/* Case: SETUP at CPL 0, then INSN; U runs INSN at CPL 3 with EFLAGS from 0x6010. */
#define CODE(to_user, setup, insn) \
    setup "\n addl $64, 0x6000\n movl $771f - \\base + 0x7c00, 0x6008\n movl $770f - \\base + 0x7c00, 0x600c\n mov %esp, 0x6014\n" to_user \
          "770: " insn "\n 771:\n"
#define CODE_K(name, setup, insn, ...) CODE("", setup, insn)
#define CODE_U(name, setup, insn, ...) \
    CODE("pushl $0x33\n pushl $0x6800\n pushl 0x6010\n pushl $0x3b\n pushl 0x600c\n movl $2, 0x6010\n iretl\n", setup, insn "\n int $0x90\n")
#define ROW_K(name, setup, insn, vector, error, eip) { name, vector, error, eip, false },
#define ROW_U(name, setup, insn, vector, error, eip) { name, vector, error, eip, true },
#define NONE 0x90

struct row {
    const char *name;
    unsigned vector, error;
    int eip; /* -1: from elsewhere */
    bool user;
};

/*
 * GDT: 08 code, 10 data, 18 code16, 20 stack of 1000h bytes with base 8000h.., 28 data16, 30 user data, 38 user code,
 * 40 TSS (at 4000), 48 conforming code of DPL 0, 50 data not present, 58 expand-down data above 0xfff, 60 call gate
 * with 2 parameters (DPL 3), 68 data of limit 0x0fff at 0x20000, 70 second TSS (at 4100), 78 task gate to it (DPL 3),
 * 80 LDT, 88 16-bit TSS (at 4200), 90 execute-only code, 98 TSS of too small limit, a0 code not present, a8 call gate
 * to the code that is not present, b0 code of DPL 1, b8 call gate to it, c0 data of DPL 1 not present.
 */
#define GDT32 \
    ".balign 8\n p32_gdt: .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00009b000000ffff, 0, 0x000093000000ffff\n" \
    ".quad 0x00cff3000000ffff, 0x00cffb000000ffff, 0x0000890040000097, 0x00cf9f000000ffff, 0x00cf13000000ffff\n" \
    ".quad 0x0040970000000fff\n" \
    ".word p32_gate - \\base + 0x7c00, 8, 0xec02, 0\n" \
    ".quad 0x0040930200000fff, 0x0000890041000067, 0x0000e50000700000, 0x0000820043000017, 0x000081004200002b\n" \
    ".quad 0x00cf99000000ffff, 0x0000890044000066, 0x00cf1b000000ffff\n" \
    ".word 0, 0xa0, 0xec00, 0\n .quad 0x00cfbb000000ffff\n .word 0, 0xb1, 0xec00, 0\n .quad 0x00cf33000000ffff\n" \
    "p32_gdt_end:\n p32_gdtr: .word p32_gdt_end - p32_gdt - 1\n .long p32_gdt - \\base + 0x7c00\n"

#define ENTER32 \
    "cli\n xor %ax, %ax\n mov %ax, %ds\n mov %ax, %es\n mov %ax, %ss\n mov $0x7000, %sp\n" \
    "lgdtl " ORG("p32_gdtr") "\n mov %cr0, %eax\n or $1, %al\n mov %eax, %cr0\n ljmpl $0x08, $" ORG("p32_start32") "\n" \
    ".code32\n p32_start32: mov $0x10, %ax\n mov %ax, %ds\n mov %ax, %es\n mov %ax, %ss\n mov %ax, %fs\n mov %ax, %gs\n mov $0x7000, %esp\n" \
    "mov $0x5000, %edi\n mov $" ORG("p32_stubs") ", %esi\n xor %ecx, %ecx\n" \
    "1: mov %si, (%edi)\n movw $8, 2(%edi)\n movw $0x8e00, 4(%edi)\n movw $0, 6(%edi)\n" \
    "cmp $3, %ecx\n je 2f\n cmp $4, %ecx\n je 2f\n cmp $0x80, %ecx\n jb 3f\n 2: movb $0xee, 5(%edi)\n" \
    "3: add $8, %edi\n add $16, %esi\n inc %ecx\n cmp $256, %ecx\n jne 1b\n" \
    "lidt " ORG("p32_idtr") "\n movl $0x6400, 0x4004\n movl $0x10, 0x4008\n movw $0x88, 0x4066\n mov $0x40, %ax\n ltr %ax\n" \
    "movl $0x100000, 0x6000\n movl $2, 0x6010\n" /* slot, EFLAGS of the next user case; 6014: ESP to go on with */ \
    /* LDT at 4300: 04 data, 0c TSS (not allowed there), 14 nothing present */ \
    "movl $0xffff, 0x4300\n movl $0xcf9300, 0x4304\n movl $0x41000067, 0x4308\n movl $0x8900, 0x430c\n movl $0, 0x4310\n movl $0, 0x4314\n"

#define RUNTIME32 \
    ".balign 16\n p32_stubs: .set vec, 0\n .rept 256\n .balign 16\n .if vec != 8 && vec != 17 && (vec < 10 || vec > 14)\n pushl $0\n .endif\n" \
    "pushl $vec\n jmp p32_common\n .set vec, vec + 1\n .endr\n" \
    "p32_common: push %eax\n push %ebx\n push %ds\n mov $0x10, %eax\n mov %eax, %ds\n mov 0x6000, %ebx\n" \
    "mov 12(%esp), %eax\n mov %eax, (%ebx)\n mov 16(%esp), %eax\n mov %eax, 4(%ebx)\n mov 20(%esp), %eax\n sub 0x600c, %eax\n" \
    "mov %eax, 8(%ebx)\n mov 24(%esp), %eax\n mov %eax, 12(%ebx)\n mov 28(%esp), %eax\n mov %eax, 16(%ebx)\n" \
    "mov 32(%esp), %eax\n mov %eax, 20(%ebx)\n mov 36(%esp), %eax\n mov %eax, 24(%ebx)\n mov %cr2, %eax\n mov %eax, 28(%ebx)\n" \
    "incl 32(%ebx)\n str %eax\n mov %eax, 36(%ebx)\n lea 20(%esp), %eax\n mov %eax, 40(%ebx)\n" \
    "mov $0x10, %eax\n mov %eax, %es\n mov %eax, %ss\n mov %eax, %fs\n mov %eax, %gs\n mov 0x6014, %esp\n push $2\n popf\n jmp *0x6008\n" \
    "p32_gate: mov $0x10, %eax\n mov %eax, %ds\n mov 8(%esp), %eax\n mov %eax, 0x6030\n mov 12(%esp), %eax\n mov %eax, 0x6034\n int $0x91\n" \
    "p32_idtr: .word 0x7ff\n .long 0x5000\n"

#define LDS_(sel) "mov $" sel ", %eax"
#define CASES(K, U) \
    K("div", "xor %ecx, %ecx", "div %ecx", EXC_DE, 0, 0) \
    U("div at CPL 3", "xor %ecx, %ecx", "div %ecx", EXC_DE, 0, 0) \
    K("into", "", "mov $0x7f, %al\n add $1, %al\n into", EXC_OF, 0, 5) \
    U("into at CPL 3 without OF", "", "into", NONE, 0, -1) \
    K("bound", "movl $1, 0x6020\n movl $5, 0x6024\n mov $6, %eax", "bound %eax, 0x6020", EXC_BR, 0, 0) \
    K("bound within", "mov $5, %eax", "bound %eax, 0x6020", NONE, 0, 0) \
    U("int 13", "", "int $13", EXC_GP, 13 * 8 + 2, 0) \
    K("beyond the IDT", "movw $0x3ff, " ORG("p32_idtr") "\n lidt " ORG("p32_idtr"), "int $0x80", EXC_GP, 0x80 * 8 + 2, 0) \
    K("IDT restored", "movw $0x7ff, " ORG("p32_idtr") "\n lidt " ORG("p32_idtr"), "int $0x80", 0x80, 0, 2) \
    K("null data segment", "xor %eax, %eax\n mov %eax, %es", "mov %es:0, %al", EXC_GP, 0, 0) \
    K("data not present", LDS_("0x50"), "mov %eax, %es", EXC_NP, 0x50, 0) \
    K("stack not present", LDS_("0x50"), "mov %eax, %ss", EXC_SS, 0x50, 0) \
    K("execute-only code is not readable", LDS_("0x90"), "mov %eax, %es", EXC_GP, 0x90, 0) \
    K("code is not writable", LDS_("0x08") "\n mov %eax, %es", "mov %al, %es:0x6100", EXC_GP, 0, 0) \
    K("code is readable", LDS_("0x08") "\n mov %eax, %es", "mov %es:0x6100, %al", NONE, 0, 0) \
    K("expand-down: below", LDS_("0x58") "\n mov %eax, %es", "mov %es:0xfff, %al", EXC_GP, 0, 0) \
    K("expand-down: above", LDS_("0x58") "\n mov %eax, %es", "mov %es:0x1000, %al", NONE, 0, 0) \
    K("limit: the last byte", LDS_("0x68") "\n mov %eax, %es", "mov %es:0xfff, %al", NONE, 0, 0) \
    K("limit: one more", LDS_("0x68") "\n mov %eax, %es", "mov %es:0xfff, %ax", EXC_GP, 0, 0) \
    K("stack limit", LDS_("0x68") "\n mov %eax, %ss\n mov $0x800, %esp", "mov %al, %ss:0x1000", EXC_SS, 0, 0) \
    U("privileged data", "mov $0x7000, %esp\n" LDS_("0x10"), "mov %eax, %es", EXC_GP, 0x10, 0) \
    U("conforming code as data", LDS_("0x48"), "mov %eax, %es", NONE, 0, -1) \
    U("jump to inner code", "", "ljmp $0x08, $0x1000", EXC_GP, 0x08, 0) \
    U("jump to conforming code keeps CPL", "", "ljmp $0x4b, $" ORG("p32_conf"), 0x92, 0, -1) \
    U("code not present", "", "ljmp $0xa3, $0x1000", EXC_GP, 0xa0, 0) \
    K("code not present at CPL 0", "", "ljmp $0xa0, $0x1000", EXC_NP, 0xa0, 0) \
    K("call gate to code not present", "", "lcall $0xa8, $0", EXC_NP, 0xa0, 0) \
    U("call gate", "movl $0x1111, 0x6800\n movl $0x2222, 0x6804", "lcall $0x63, $0", 0x91, 0, -1) \
    U("call gate: SS1 of other DPL", "movl $0x6600, 0x400c\n movw $0x51, 0x4010", "lcall $0xbb, $0", EXC_TS, 0x50, 0) \
    U("call gate: SS1 not present", "movw $0xc1, 0x4010", "lcall $0xbb, $0", EXC_SS, 0xc0, 0) \
    U("call gate: SS1 null", "movw $0, 0x4010", "lcall $0xbb, $0", EXC_TS, 0, 0) \
    U("call gate: SS1 beyond the GDT", "movw $0x1001, 0x4010", "lcall $0xbb, $0", EXC_TS, 0x1000, 0) \
    U("port allowed by the map", "movb $0, 0x4088\n movl $0xffffffff, 0x4088\n andb $0xfd, 0x408a", "out %al, $0x11", NONE, 0, -1) \
    U("port not allowed", "", "out %al, $0x12", EXC_GP, 0, 0) \
    U("port pair", "", "out %ax, $0x11", EXC_GP, 0, 0) \
    U("ports beyond the map", "", "in $0x80, %al", EXC_GP, 0, 0) \
    U("ports by IOPL", "movl $0x3002, 0x6010", "in $0x80, %al", NONE, 0, -1) \
    U("cli by IOPL", "movl $0x3002, 0x6010", "cli", NONE, 0, -1) \
    K("lldt", LDS_("0x80") "\n lldt %ax\n mov $4, %eax", "mov %eax, %es", NONE, 0, 0) \
    K("TSS in the LDT", "", "ljmp $0x0c, $0", EXC_GP, 0x0c, 0) \
    K("ltr from the LDT", LDS_("0x0c"), "ltr %ax", EXC_GP, 0x0c, 0) \
    K("jump to the busy TSS", "", "ljmp $0x40, $0", EXC_GP, 0x40, 0) \
    K("TSS too small", "", "ljmp $0x98, $0", EXC_TS, 0x98, 0) \
    K("iret to a task without link", "pushf\n orl $0x4000, (%esp)\n movl $0x10, 0x4000\n popf", "iretl", EXC_TS, 0x10, 0) \
    K("double fault", "movw $0, 0x5002\n movw $0, 0x506a\n xor %ecx, %ecx", "div %ecx", EXC_DF, 0, -1) \
    K("(gates repaired)", "movw $8, 0x5002\n movw $8, 0x506a\n xor %ecx, %ecx", "div %ecx", EXC_DE, 0, 0) \
    K("sysenter without CS", "xor %eax, %eax\n xor %edx, %edx\n mov $0x174, %ecx\n wrmsr", "sysenter", EXC_GP, 0, 0) \
    U("sysenter", "mov $8, %eax\n wrmsr\n inc %ecx\n mov $0x6400, %eax\n wrmsr\n inc %ecx\n mov $" ORG("p32_enter") ", %eax\n wrmsr", "sysenter", 0x93, 0, -1) \
    K("enter with a 16-bit stack", LDS_("0x28") "\n mov %eax, %ss\n mov $0x10000, %esp\n mov $0x1ffec, %ebp\n enter $8, $0\n mov %ebp, %edx\n" \
      "mov $0x10, %eax\n mov %eax, %ss\n mov $0x7000, %esp\n cmp $0x1fffc, %edx\n je 1f\n ud2\n 1:", "nop", NONE, 0, 0)

GUEST_CODE(p32, ENTER32 CASES(CODE_K, CODE_U) GUEST_EXIT("0")
    "p32_conf: int $0x92\n p32_enter: int $0x93\n"
    RUNTIME32 GDT32)

static uint32_t slot(struct guest *g, unsigned n, unsigned at)
{
    return guest_peek(g, SLOTS + 64 * (n + 1) + at, 4);
}

static bool row_matches(struct guest *g, const struct row *c, unsigned n)
{
    bool expected = c->user || c->vector != NONE;
    if (slot(g, n, 32) != expected)
        return false;
    if (!expected)
        return true;
    if (slot(g, n, 0) != c->vector || slot(g, n, 4) != c->error)
        return false;
    if (c->eip >= 0 && slot(g, n, 8) != (unsigned)c->eip)
        return false;
    if (c->eip == 0 && !(slot(g, n, 16) & FLAG_RF))
        return false;
    return !c->user || c->eip < 0 || (slot(g, n, 12) == 0x3b && slot(g, n, 24) == 0x33 && slot(g, n, 40) == 0x6400 - 20);
}

static void test_protected(void)
{
    static const struct row rows[] = { CASES(ROW_K, ROW_U) };
    struct guest *g = guest_new(16 << 20, 1, NULL);
    unsigned bad = 0;
    guest_load(g, 0x7c00, p32_start, p32_end);
    int result = guest_run(g, 0x7c00, 30);
    g_test_message("ended with %d after case %d", result, (int)(guest_peek(g, 0x6000, 4) - SLOTS) / 64 - 1);
    for (unsigned n = 0; n < G_N_ELEMENTS(rows); n++)
        if (!row_matches(g, &rows[n], n)) {
            bad++;
            g_test_message("%s: got count %u vector %#x error %#x eip %+d cs %#x eflags %#x esp %#x ss %#x frame %#x; want %#x %#x %+d",
                           rows[n].name, slot(g, n, 32), slot(g, n, 0), slot(g, n, 4), (int)slot(g, n, 8), slot(g, n, 12),
                           slot(g, n, 16), slot(g, n, 20), slot(g, n, 24), slot(g, n, 40), rows[n].vector, rows[n].error,
                           rows[n].eip);
        }
    g_assert_cmpuint(bad, ==, 0);
    g_assert_cmpint(result, ==, 0);
    g_assert_cmphex(guest_peek(g, 0x6030, 4), ==, 0x1111); /* what the call gate copied */
    g_assert_cmphex(guest_peek(g, 0x6034, 4), ==, 0x2222);
    guest_free(g);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    guest_add("/guest/prot32/protected", test_protected);
    return g_test_run();
}
