/*
 * Hardware task switches: JMP, CALL and IRET, nested, through task gates in GDT and IDT with an error code, a 16-bit
 * TSS, the debug trap bit; virtual-8086 mode with and without VME, by IRET and by task. Intel SDM volume 3, chapters 7
 * and 20.
 */
#include "tests/lib/guest_test.h"

/*
 * GDT: 08 code, 10 data, 18 code16, 20 TSS 1 at 4000, 28 TSS 2 at 4100, 30 task gate to 28, 38 user code, 40 user data,
 * 48 16-bit TSS at 4200, 50 LDT.
 */
#define START32(name) \
    "cli\n xor %ax, %ax\n mov %ax, %ds\n mov %ax, %es\n mov %ax, %ss\n mov $0x7000, %sp\n" \
    "lgdtl " ORG(name "_gdtr") "\n mov %cr0, %eax\n or $1, %al\n mov %eax, %cr0\n ljmpl $0x08, $" ORG(name "_start32") "\n" \
    ".code32\n " name "_start32: mov $0x10, %ax\n mov %ax, %ds\n mov %ax, %es\n mov %ax, %ss\n mov $0x7000, %esp\n" \
    "mov $0x20, %ax\n ltr %ax\n movl $0x6400, 0x4004\n movl $0x10, 0x4008\n lidt " ORG(name "_idtr") "\n"
#define GDT(name) \
    ".balign 8\n " name "_gdt: .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00009b000000ffff\n" \
    ".quad 0x00008900400000b7, 0x0000890041000067, 0x0000e50000280000, 0x00cffb000000ffff, 0x00cff3000000ffff\n" \
    ".quad 0x000081004200002b, 0x000082004300000f\n" \
    name "_gdt_end: " name "_gdtr: .word " name "_gdt_end - " name "_gdt - 1\n .long " ORG(name "_gdt") "\n" \
    name "_idtr: .word 0x7ff\n .long 0x5000\n"
/* A gate: vector, selector, offset, attributes */
#define GATE(vector, selector, offset, attr) \
    "movl $(" selector " << 16 | ((" offset ") & 0xffff)), 0x5000 + " vector " * 8\n movl $" attr " << 8, 0x5004 + " vector " * 8\n"
/* Fails with this code unless equal. */
#define IS(what, value, code) "cmpl $" value ", " what "\n je 1f\n mov $" code ", %al\n out %al, $0xf4\n 1:\n"
#define IS_FLAG(mask, want, code) "pushf\n andl $" mask ", (%esp)\n cmpl $" want ", (%esp)\n je 1f\n mov $" code ", %al\n out %al, $0xf4\n 1: add $4, %esp\n"
#define BUSY(label, offset, want, code) "movzbl " label "_gdt - \\base + 0x7c00 + " offset " + 5, %eax\n" IS("%eax", want, code)
#define TSS2(eip, eflags) \
    "movl $" eip ", 0x4120\n movl $" eflags ", 0x4124\n movl $0xa1, 0x4128\n movl $0xc1, 0x412c\n movl $0x6c00, 0x4138\n" \
    "movl $0x10, 0x4148\n movl $8, 0x414c\n movl $0x10, 0x4150\n movl $0x10, 0x4154\n movl $0, 0x4158\n movl $0, 0x415c\n" \
    "movl $0x50, 0x4160\n movl $0x680000, 0x4164\n"

GUEST_CODE(tasks, START32("tasks")
    /* CALL: nested, link, busy bits, registers; IRET back */
    TSS2(ORG("task2"), "0x2")
    "mov $0x11, %ebx\n stc\n lcall $0x28, $0\n jc 1f\n" GUEST_EXIT("1") "1:" IS("%ebx", "0x11", "2")
    BUSY("tasks", "0x28", "0x89", "3") BUSY("tasks", "0x20", "0x8b", "4")
    IS_FLAG("0x4000", "0", "5")
    "mov %cr0, %eax\n test $8, %al\n jnz 1f\n" GUEST_EXIT("6") "1: clts\n"
    /* the second time it goes on behind its IRET; through the task gate */
    "lcall $0x30, $0\n" IS("0x6000", "2", "7")
    /* JMP there and back: the left one is no longer busy */
    TSS2(ORG("task_jmp"), "0x2") "ljmp $0x28, $0\n"
    BUSY("tasks", "0x28", "0x89", "8") BUSY("tasks", "0x20", "0x8b", "9") IS("0x6000", "3", "10")
    /* a task gate in the IDT, with the error code of #GP on the new stack; the task repairs EIP in the old TSS */
    TSS2(ORG("task_gp"), "0x2") GATE("13", "0x28", "0", "0xe5")
    "mov $0x1234, %eax\n 2: mov %eax, %fs\n task_after_gp:" IS("0x6000", "4", "11") IS("0x6004", "0x1234", "12")
    /* a 16-bit TSS: the upper halves of registers come as ones */
    "movw $" ORG("task16") ", 0x420e\n movw $2, 0x4210\n movw $0x7777, 0x4212\n movw $0x6b00, 0x421a\n movw $0x10, 0x4222\n movw $8, 0x4224\n"
    "movw $0x10, 0x4226\n movw $0x10, 0x4228\n movw $0, 0x422a\n lcall $0x48, $0\n" IS("0x6000", "5", "13")
    /* T bit: a #DB before the first instruction of the task */
    TSS2(ORG("task_t"), "0x2") "movl $0x680001, 0x4164\n" GATE("1", "8", ORG("tasks_db"), "0x8e") "lcall $0x28, $0\n" IS("0x6000", "7", "14")
    /* #TS in the new task: its DS is a TSS */
    TSS2(ORG("task_t"), "0x2") "movl $0x20, 0x4154\n" GATE("10", "8", ORG("tasks_ts"), "0x8e") "lcall $0x28, $0\n" GUEST_EXIT("15")
    "task2: str %eax\n" IS("%eax", "0x28", "20") IS("0x4100", "0x20", "21") IS("%ecx", "0xc1", "22") IS_FLAG("0x4001", "0x4000", "23")
    "sldt %eax\n" IS("%eax", "0x50", "24") BUSY("tasks", "0x20", "0x8b", "25") BUSY("tasks", "0x28", "0x8b", "26")
    "movl $1, 0x6000\n iret\n movl $2, 0x6000\n iret\n"
    "task_jmp: movl $3, 0x6000\n" IS_FLAG("0x4000", "0", "27") BUSY("tasks", "0x20", "0x89", "28") "ljmp $0x20, $0\n"
    "task_gp: pop %eax\n mov %eax, 0x6004\n movl $4, 0x6000\n" IS("%esp", "0x6c00", "29") "mov 0x4020, %eax\n" IS("%eax", "2b - \\base + 0x7c00", "30")
    "movl $" ORG("task_after_gp") ", 0x4020\n iret\n"
    "task16: movl $5, 0x6000\n" IS("%eax", "0xffff7777", "31") "iret\n"
    "task_t: " IS("0x6000", "6", "32") "movl $7, 0x6000\n iret\n"
    "tasks_db: mov %dr6, %eax\n test $0x8000, %ax\n jz 1f\n movl $6, 0x6000\n 1: iret\n"
    "tasks_ts: " IS("(%esp)", "0x20", "33") "str %eax\n" IS("%eax", "0x28", "34") GUEST_EXIT("0")
    GDT("tasks"))

static void test_tasks(void)
{
    guest_expect(tasks_start, tasks_end, "");
}

/*
 * V86 code runs at 1000:0 and tells by HLT (which is #GP) what it has; the monitor, the #GP handler, counts the steps
 * in 6000. INT 0x21 goes to the monitor without VME, to the program with VME and its bit in the TSS clear; that of INT
 * 0x22 is set. What is #GP shows as its opcode.
 */
#define V86_ENTER(flags) \
    "pushl $0x1004\n pushl $0x1003\n pushl $0x1002\n pushl $0x1001\n pushl $0x2000\n pushl $0xfff0\n pushl $" flags "\n pushl $0x1000\n pushl $0\n iretl\n"
GUEST_CODE(v86, START32("v86")
    "movl $0, 0x6000\n mov $" ORG("v86_code") ", %esi\n mov $0x10000, %edi\n mov $256, %ecx\n rep movsb\n"
    GATE("13", "8", ORG("v86_gp"), "0x8e") GATE("3", "8", ORG("v86_bp"), "0xee") GATE("0x21", "8", ORG("v86_int"), "0xee") GATE("0x22", "8", ORG("v86_int"), "0xee")
    /* TSS: interrupt redirection map in front of the I/O map at 88 */
    "movw $0x88, 0x4066\n mov $0x4068, %edi\n xor %eax, %eax\n mov $12, %ecx\n rep stosl\n movb $4, 0x406c\n movb $0xff, 0x40b7\n"
    "movl $0x10000000 + v86_own - v86_code, 0x21 * 4\n"
    "movl $" ORG("v86_ret1") ", 0x6008\n" V86_ENTER("0x23202") /* IOPL 3: CLI, STI and PUSHF are free; INT n goes to the monitor */
    "v86_ret1: movl $" ORG("v86_ret2") ", 0x6008\n mov %cr4, %eax\n or $1, %eax\n mov %eax, %cr4\n" V86_ENTER("0x20202") /* VME, IOPL 0 */
    "v86_ret2: movl $" ORG("v86_ret3") ", 0x6008\n mov %cr4, %eax\n and $~1, %eax\n mov %eax, %cr4\n" V86_ENTER("0x20202") /* IOPL 0 without VME */
    "v86_ret3: " GUEST_EXIT("0")
    /* #GP: records flags, IP, and segments of the first entry; HLT ends the run, others are skipped by two bytes */
    "v86_gp: add $4, %esp\n mov 16(%esp), %eax\n cmp $0x2000, %eax\n jne v86_bad\n mov 20(%esp), %eax\n cmp $0x1001, %eax\n jne v86_bad\n"
    "mov %ds, %eax\n test %eax, %eax\n jnz v86_bad\n mov $0x10, %eax\n mov %eax, %ds\n"
    "mov (%esp), %eax\n movzbl 0x10000(%eax), %ebx\n cmp $0xf4, %bl\n je v86_hlt\n mov %ebx, %eax\n out %al, $0xe9\n"
    "mov (%esp), %eax\n cmp $0xcd, %bl\n je 1f\n incl (%esp)\n iretl\n 1: addl $2, (%esp)\n iretl\n"
    "v86_hlt: mov $'h', %al\n out %al, $0xe9\n mov $0x7000, %esp\n jmp *0x6008\n"
    "v86_bp: mov $'b', %al\n out %al, $0xe9\n testl $0x20000, 8(%esp)\n jz v86_bad\n iretl\n"
    "v86_int: mov $'m', %al\n out %al, $0xe9\n iretl\n"
    "v86_bad: " GUEST_EXIT("1")
    ".code16\n v86_code: mov $'v', %al\n out %al, $0xe9\n" /* port e9 is in the map */
    "cli\n pushf\n pop %ax\n test $2, %ah\n jnz 1f\n mov $'c', %al\n out %al, $0xe9\n 1: sti\n pushf\n pop %ax\n test $2, %ah\n jz 1f\n mov $'s', %al\n out %al, $0xe9\n 1:\n"
    "int3\n int $0x21\n int $0x22\n hlt\n"
    "v86_own: mov $'o', %al\n out %al, $0xe9\n iret\n"
    GDT("v86"))

static void test_v86(void)
{
    struct guest *g = guest_new(16 << 20, 1, NULL);
    guest_load(g, 0x7c00, v86_start, v86_end);
    int result = guest_run(g, 0x7c00, 20);
    g_assert_cmpint(result, ==, 0);
    g_assert_cmpstr(g->out->str, ==, "vcsbmmh" "vcsbo\xcdh" "v\xfa\x9c" "c\xfb\x9c" "b\xcd\xcdh");
    guest_free(g);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    guest_add("/guest/tasks/switch", test_tasks);
    guest_add("/guest/tasks/v86", test_v86);
    return g_test_run();
}
