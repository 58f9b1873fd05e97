/*
 * Guest instructions per second of processor time for a few integer loops, on the engine that ACCEL names. No operating
 * system: bare loops.
 */
#include "tests/lib/guest_test.h"

#include <stdio.h>
#include <time.h>

/* Each runs until the counter in ecx is used up. */
GUEST_CODE(alu, GUEST_ENTER_LONG("alu")
    "mov $30000000, %ecx\n xor %eax, %eax\n mov $1, %edx\n"
    "2: add %edx, %eax\n xor $0x55, %eax\n lea 3(%rax,%rdx,2), %rbx\n sub %ebx, %eax\n shl $1, %edx\n or $1, %edx\n"
    "dec %ecx\n jnz 2b\n" GUEST_EXIT("0") GUEST_GDT("alu"))

GUEST_CODE(memory, GUEST_ENTER_LONG("memory")
    "mov $20000000, %ecx\n mov $0x100000, %esi\n"
    "2: mov %ecx, %eax\n and $0xfff, %eax\n mov (%rsi,%rax,4), %ebx\n add %ecx, %ebx\n mov %ebx, (%rsi,%rax,4)\n"
    "addl $1, 0x4000(%rsi)\n dec %ecx\n jnz 2b\n" GUEST_EXIT("0") GUEST_GDT("memory"))

GUEST_CODE(calls, GUEST_ENTER_LONG("calls")
    "mov $32, %edi\n call fib\n" GUEST_EXIT("0")
    "fib: cmp $2, %edi\n jae 3f\n mov %edi, %eax\n ret\n"
    "3: push %rbx\n push %rdi\n dec %edi\n call fib\n mov %eax, %ebx\n pop %rdi\n sub $2, %edi\n call fib\n add %ebx, %eax\n pop %rbx\n ret\n"
    GUEST_GDT("calls"))

GUEST_CODE(crc, GUEST_ENTER_LONG("crc")
    "mov $3000000, %ecx\n mov $0xffffffff, %eax\n"
    "2: mov $8, %edx\n xor %cl, %al\n"
    "3: mov %eax, %ebx\n and $1, %ebx\n neg %ebx\n and $0xedb88320, %ebx\n shr $1, %eax\n xor %ebx, %eax\n dec %edx\n jnz 3b\n"
    "dec %ecx\n jnz 2b\n" GUEST_EXIT("0") GUEST_GDT("crc"))

/* `insns`: how many the loop executes; the interpreter has counted them, the JIT does not. */
static void bench(const char *name, const char *start, const char *end, double insns)
{
    struct guest *g = guest_new(16 << 20, 1, NULL);
    guest_load(g, 0x7c00, start, end);
    double t = clock() * 1e6 / CLOCKS_PER_SEC;
    int result = guest_run(g, 0x7c00, 120);
    t = clock() * 1e6 / CLOCKS_PER_SEC - t;
    if (result)
        g_printerr("%s: failed (%d)\n", name, result);
    printf("%-8s %8.1f million instructions a second (%.0f million in %.2f s)\n", name, insns / t, insns / 1e6,
           t / 1e6);
    guest_free(g);
}

int main(void)
{
    bench("alu", alu_start, alu_end, 240e6);
    bench("memory", memory_start, memory_end, 160e6);
    bench("calls", calls_start, calls_end, 60e6);
    bench("crc", crc_start, crc_end, 204e6);
    return 0;
}
