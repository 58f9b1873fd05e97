/*
 * Far more translated code than code memory holds (tb-size=1): it is emptied and filled over and over while one or two processors
 * call a thousand functions round after round, and what they calculate is right.
 */
#include "config.h"

#ifdef CONFIG_JIT

#include "accel/jit.h"
#include "tcg/tcg.h"
#include "tests/lib/guest_test.h"

#include <string.h>

#define FUNCTIONS 1024u /* each in a page of its own */
#define FUNCTIONS_AT 0x400000u
#define STEPS 30u
#define ROUNDS 12u
#define SLICES 8u /* what is emptied at a time is an eighth of code memory */
#define OVERFLOWS 10u

/*
 * Processor 0 makes the page tables and wakes the others, if there are any, which come by the code at `flood_ap`. Each calls all
 * functions, in an order of its own, with EAX from one to the next and RDI at a page of its own; the last EAX goes to 6a00 and up.
 */
GUEST_CODE(flood, GUEST_ENTER_LONG("flood")
    "mov $0x1b, %ecx\n rdmsr\n or $0xc00, %eax\n wrmsr\n mov $0x80f, %ecx\n mov $0x1ff, %eax\n xor %edx, %edx\n wrmsr\n"
    "mov $0x830, %ecx\n mov $0xc4500, %eax\n wrmsr\n mov $0xc4607, %eax\n wrmsr\n xor %ebp, %ebp\n jmp flood_all\n"
    ".balign 16\n .code16\n flood_ap: cli\n xor %ax, %ax\n mov %ax, %ds\n lgdtl " ORG("flood_gdtr") "\n"
    "mov %cr0, %eax\n or $1, %al\n mov %eax, %cr0\n ljmpl $0x08, $" ORG("flood_ap32") "\n"
    ".code32\n flood_ap32: mov $0x10, %ax\n mov %ax, %ds\n mov %ax, %es\n mov %ax, %ss\n mov $0x1000, %eax\n mov %eax, %cr3\n"
    "mov %cr4, %eax\n or $0x20, %eax\n mov %eax, %cr4\n mov $0xc0000080, %ecx\n rdmsr\n or $0x100, %eax\n wrmsr\n"
    "mov %cr0, %eax\n or $0x80000000, %eax\n mov %eax, %cr0\n ljmpl $0x20, $" ORG("flood_ap64") "\n"
    ".code64\n flood_ap64: mov $0x6000, %esp\n mov $1, %ebp\n"
    "flood_all: mov %ebp, %edi\n shl $12, %edi\n add $0x300000, %edi\n mov $1, %r12d\n test %ebp, %ebp\n jz 1f\n mov $1023, %r12d\n"
    "1: xor %eax, %eax\n mov $12, %r13d\n"
    "2: xor %esi, %esi\n mov $1024, %r14d\n"
    "3: mov %esi, %ebx\n shl $12, %ebx\n add $0x400000, %ebx\n call *%rbx\n add %r12d, %esi\n and $1023, %esi\n"
    "dec %r14d\n jnz 3b\n dec %r13d\n jnz 2b\n"
    "mov %eax, 0x6a00(,%rbp,4)\n lock incl 0x6910\n test %ebp, %ebp\n jz 4f\n 5: hlt\n jmp 5b\n"
    "4: pause\n mov 0x6914, %eax\n cmp %eax, 0x6910\n jne 4b\n" GUEST_EXIT("0")
    GUEST_GDT("flood"))

extern const char flood_ap[];

static uint32_t number(unsigned k, unsigned j)
{
    return (k * STEPS + j + 1) * 2654435761u | 1;
}

static uint8_t *put32(uint8_t *p, uint32_t v)
{
    memcpy(p, &v, 4);
    return p + 4;
}

/* Two rounds of all steps, then a call: what calculate() does. */
static void make_function(struct guest *g, unsigned k)
{
    uint8_t code[512] = { 0xb9, 2, 0, 0, 0 }, *p = code + 5, *loop = p; /* mov $2, %ecx */
    for (unsigned j = 0; j < STEPS; j++) {
        const uint8_t add[] = { 0x03, 0x47, (uint8_t)(4 * j) }, store[] = { 0x31, 0x47, (uint8_t)(4 * j), 0xc1, 0xc0, 7 };
        memcpy(p, add, sizeof add); /* add 4j(%rdi), %eax */
        p[3] = 0x69; /* imul $number, %eax, %eax */
        p[4] = 0xc0;
        p = put32(p + 5, number(k, j));
        memcpy(p, store, sizeof store); /* xor %eax, 4j(%rdi); rol $7, %eax */
        p += sizeof store;
    }
    *p++ = 0xe8; /* call 1f; dec %ecx; jnz loop; ret; 1: sub $k, %eax; ret */
    p = put32(p, 9);
    memcpy(p, "\xff\xc9\x0f\x85", 4);
    p = put32(p + 4, (uint32_t)(loop - (p + 8)));
    *p++ = 0xc3;
    *p++ = 0x2d;
    p = put32(p, k);
    *p++ = 0xc3;
    guest_load(g, FUNCTIONS_AT + k * 4096, code, p);
}

static uint32_t function(unsigned k, uint32_t eax, uint32_t *at)
{
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned j = 0; j < STEPS; j++) {
            eax = (eax + at[j]) * number(k, j);
            at[j] ^= eax;
            eax = eax << 7 | eax >> 25;
        }
        eax -= k;
    }
    return eax;
}

static uint32_t calculate(unsigned stride)
{
    uint32_t eax = 0, at[STEPS] = { 0 };
    for (unsigned round = 0, k = 0; round < ROUNDS; round++)
        for (unsigned n = 0; n < FUNCTIONS; n++, k = (k + stride) % FUNCTIONS)
            eax = function(k, eax, at);
    return eax;
}

static void test_flood(const void *data)
{
    unsigned cpus = GPOINTER_TO_UINT(data);
    struct guest *g = guest_new(16 << 20, cpus, NULL);
    uint32_t ap = 0x7c00 + (uint32_t)(flood_ap - flood_start);
    const uint8_t jump[] = { 0xea, (uint8_t)ap, (uint8_t)(ap >> 8), 0, 0 };
    guest_load(g, 0x7c00, flood_start, flood_end);
    guest_load(g, 0x7000, jump, jump + sizeof jump);
    guest_poke(g, 0x6914, cpus, 4);
    for (unsigned k = 0; k < FUNCTIONS; k++)
        make_function(g, k);
    int result = guest_run(g, 0x7c00, 60);
    struct jit_stats s;
    jit_get_stats(jit_of(g->m), &s);
    g_test_message("%d units, %d KiB of code, %d evictions", (int)s.units, (int)(s.code_bytes >> 10), (int)s.evictions);
    g_assert_cmpint(result, ==, 0);
    g_assert_cmphex(guest_peek(g, 0x6a00, 4), ==, calculate(1));
    if (cpus > 1)
        g_assert_cmphex(guest_peek(g, 0x6a04, 4), ==, calculate(FUNCTIONS - 1));
    g_assert_cmpuint(s.evictions, >=, OVERFLOWS * SLICES);
    guest_free(g);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_setenv("ACCEL", "jit,tb-size=1,hot=0", TRUE);
    g_test_add_data_func("/evict/smp1", GUINT_TO_POINTER(1), test_flood);
    g_test_add_data_func("/evict/smp2", GUINT_TO_POINTER(2), test_flood);
    return g_test_run();
}

#else

#include <stdio.h>

int main(void)
{
    puts("1..0 # SKIP this build has no JIT");
    return 0;
}

#endif
