/*
 * 4-level paging: rights, error codes, A and D bits, keys, SMEP and SMAP, reserved bits, large pages, stale
 * translations as INVLPG, INVPCID, PCID and global pages allow them. Intel SDM volume 3, chapter 4.
 *
 * Linear 0x400000 + n * 0x1000 is mapped by the entry at 0x300000 + n * 8 to the same physical address.
 */
#include "tests/lib/guest_fault.h"

#define NONE FAULT_NONE
#define START(name) \
    "mov $0x300000, %edi\n mov $0x400007, %eax\n 1: mov %rax, (%rdi)\n add $0x1000, %eax\n add $8, %edi\n" \
    "cmp $0x301000, %edi\n jne 1b\n movq $0x300007, 0x3010\n" \
    "mov $0xc0000080, %ecx\n rdmsr\n or $0x800, %eax\n wrmsr\n" \
    "mov %cr0, %rax\n bts $16, %rax\n mov %rax, %cr0\n"
/* Entry n with these flags, its translation dropped. */
#define PTE(n, flags) "movq $(0x400000 + " #n " * 0x1000 + " flags "), 0x300000 + " #n " * 8\n invlpg 0x400000 + " #n " * 0x1000\n"
#define HIGH(n, bit) "btsq $" #bit ", 0x300000 + " #n " * 8\n"
#define AT(n, offset) (0x400000 + (n) * 0x1000 + (offset))

#define CASES(K, U) \
    U("user reads", PTE(0, "7"), "mov 0x400010, %eax", NONE, 0, 0, 0) \
    U("user writes", "", "mov %eax, 0x400010", NONE, 0, 0, 0) \
    U("user reads supervisor page", PTE(1, "3"), "mov 0x401234, %eax", EXC_PF, 5, 0, AT(1, 0x234)) \
    U("user writes supervisor page", "", "mov %eax, 0x401234", EXC_PF, 7, 0, AT(1, 0x234)) \
    U("user writes read-only page", PTE(2, "5"), "mov %eax, 0x402000", EXC_PF, 7, 0, AT(2, 0)) \
    U("user reads read-only page", "", "mov 0x402000, %eax", NONE, 0, 0, 0) \
    U("locked write of read-only page", "", "lock addl $1, 0x402000", EXC_PF, 7, 0, AT(2, 0)) \
    U("compare is a read", "", "cmpl $1, 0x402000", NONE, 0, 0, 0) \
    U("cmpxchg always writes", "", "cmpxchg %ecx, 0x402000", EXC_PF, 7, 0, AT(2, 0)) \
    U("user reads what is not there", PTE(3, "0"), "mov 0x403fff, %al", EXC_PF, 4, 0, AT(3, 0xfff)) \
    U("user writes what is not there", "", "push 0x403ff8", EXC_PF, 4, 0, AT(3, 0xff8)) \
    U("user executes what is not there", "mov $0x403000, %eax", "jmp *%rax", EXC_PF, 0x14, -1, AT(3, 0)) \
    U("a read over the page end", "", "mov 0x402ffe, %eax", EXC_PF, 4, 0, AT(3, 0)) \
    U("a write over the page end: lower page first", "", "mov %eax, 0x402ffe", EXC_PF, 7, 0, AT(2, 0xffe)) \
    U("execute disable", PTE(4, "7") HIGH(4, 63) "movb $0xc3, 0x404000\n mov $0x404000, %eax", "jmp *%rax", EXC_PF, 0x15, -1, AT(4, 0)) \
    U("execute disable lets read", "", "mov 0x404000, %eax", NONE, 0, 0, 0) \
    U("reserved bit", PTE(5, "7") HIGH(5, 51), "mov 0x405000, %eax", EXC_PF, 0xd, 0, AT(5, 0)) \
    K("kernel reads not present", "", "mov 0x403000, %eax", EXC_PF, 0, 0, AT(3, 0)) \
    K("kernel writes not present", "", "mov %eax, 0x403000", EXC_PF, 2, 0, AT(3, 0)) \
    K("kernel executes not present", "mov $0x403000, %eax", "jmp *%rax", EXC_PF, 0x10, -1, AT(3, 0)) \
    K("kernel writes read-only, WP", "", "mov %eax, 0x402000", EXC_PF, 3, 0, AT(2, 0)) \
    K("kernel writes read-only, no WP", "mov %cr0, %rax\n btr $16, %rax\n mov %rax, %cr0", "mov %eax, 0x402000", NONE, 0, 0, 0) \
    K("WP again", "mov %cr0, %rax\n bts $16, %rax\n mov %rax, %cr0", "mov %eax, 0x402000", EXC_PF, 3, 0, AT(2, 0)) \
    U("key denies access", PTE(6, "7") HIGH(6, 59) "mov %cr4, %rax\n bts $22, %rax\n mov %rax, %cr4\n" \
      "mov $4, %eax\n xor %ecx, %ecx\n xor %edx, %edx\n wrpkru", "mov 0x406000, %eax", EXC_PF, 0x25, 0, AT(6, 0)) \
    U("key denies write", "mov $8, %eax\n wrpkru", "mov %eax, 0x406000", EXC_PF, 0x27, 0, AT(6, 0)) \
    U("key lets read", "", "mov 0x406000, %eax", NONE, 0, 0, 0) \
    U("key denies write of read-only page", PTE(6, "5") HIGH(6, 59), "mov %eax, 0x406000", EXC_PF, 0x27, 0, AT(6, 0)) \
    K("key denies kernel write, WP", PTE(6, "7") HIGH(6, 59), "mov %eax, 0x406000", EXC_PF, 0x23, 0, AT(6, 0)) \
    K("key denies access by kernel", "mov $4, %eax\n wrpkru", "mov 0x406000, %eax", EXC_PF, 0x21, 0, AT(6, 0)) \
    U("key does not matter to fetches", "mov $0, %eax\n wrpkru\n movl $0x90cd, 0x406000\n mov $4, %eax\n wrpkru\n mov $0x406000, %eax", "jmp *%rax", NONE, 0, -1, 0) \
    K("wrpkru with edx", "mov $1, %edx", "wrpkru", EXC_GP, 0, 0, 0) \
    K("entries above: read-only", "xor %edx, %edx\n xor %eax, %eax\n wrpkru\n movq $0x300005, 0x3010\n invlpg 0x400000", "mov %eax, 0x400000", EXC_PF, 3, 0, AT(0, 0)) \
    U("entries above: supervisor", "movq $0x300003, 0x3010\n invlpg 0x400000", "mov 0x400000, %eax", EXC_PF, 5, 0, AT(0, 0)) \
    U("entries above: no execute", "movq $0x300007, 0x3010\n btsq $63, 0x3010\n invlpg 0x400000\n mov $0x400000, %eax", "jmp *%rax", EXC_PF, 0x15, -1, AT(0, 0)) \
    K("large page, reserved bit 13", "movq $0x6020e7, 0x3018\n invlpg 0x600000", "mov 0x600000, %eax", EXC_PF, 9, 0, 0x600000) \
    K("large page, PAT bit", "movq $0x6010e7, 0x3018\n invlpg 0x600000\n movl $77, 0x600000", "cmpl $77, 0x600000", NONE, 0, 0, 0) \
    K("PS in the PML4 is reserved", "movq $0x2087, 0x1008\n mov $0x8000000000, %rbx", "mov (%rbx), %eax", EXC_PF, 9, 0, 0x8000000000) \
    K("1 GiB page", "movq $0x83, 0x2008", "mov 0x40003000, %eax", NONE, 0, 0, 0) \
    K("1 GiB page, reserved bit", "movq $0x200083, 0x2008\n invlpg 0x40003000", "mov 0x40003000, %eax", EXC_PF, 9, 0, 0x40003000) \
    K("A and D", "movq $0x300007, 0x3010\n" PTE(8, "7") "mov 0x408000, %eax\n" PTE(9, "7") "mov %eax, 0x409000\n" PTE(10, "5") \
      "mov %cr0, %rax\n", "mov %eax, 0x40a000", EXC_PF, 3, 0, AT(10, 0)) \
    K("D on a later write", PTE(11, "7") "mov 0x40b000, %eax\n mov %eax, 0x40b000", "nop", NONE, 0, 0, 0) \
    K("a string into what is not there", PTE(2, "7") PTE(3, "0") "mov $0x200000, %esi\n mov $0x402ff0, %edi\n mov $0x20, %ecx", \
      "rep movsb", EXC_PF, 2, 0, AT(3, 0)) \
    K("(its registers)", "mov %ecx, 0x7010\n mov %esi, 0x7014\n mov %edi, 0x7018\n mov $0x402ff4, %esi\n mov $0x200000, %edi\n mov $9, %ecx", \
      "rep movsq", EXC_PF, 0, 0, AT(3, 0)) \
    K("(its registers, an element across the page end)", "mov %ecx, 0x7020\n mov %esi, 0x7024\n mov %edi, 0x7028", "nop", NONE, 0, 0, 0)

GUEST_CODE(pg, GUEST_ENTER_LONG("pg") FAULT_START("pg") START("pg")
    CASES(FAULT_CODE_K, FAULT_CODE_U) GUEST_EXIT("0")
    FAULT_RUNTIME("pg") GUEST_GDT("pg"))

static void test_rights(void)
{
    static const struct fault_case cases[] = { CASES(FAULT_ROW_K, FAULT_ROW_U) };
    struct guest *g = fault_run(pg_start, pg_end, cases, G_N_ELEMENTS(cases));
    g_assert_cmphex(guest_peek(g, 0x300000 + 8 * 8, 8), ==, AT(8, 0x27));
    g_assert_cmphex(guest_peek(g, 0x300000 + 9 * 8, 8), ==, AT(9, 0x67));
    g_assert_cmphex(guest_peek(g, 0x300000 + 10 * 8, 8), ==, AT(10, 5)); /* the access did not happen */
    g_assert_cmphex(guest_peek(g, 0x300000 + 11 * 8, 8), ==, AT(11, 0x67));
    g_assert_cmphex(guest_peek(g, 0x1000, 8), ==, 0x2027);
    static const uint32_t string[] = { 0x10, 0x200010, 0x403000, 0, 8, 0x402ffc, 0x200008 };
    for (unsigned k = 0; k < G_N_ELEMENTS(string); k++)
        g_assert_cmphex(guest_peek(g, 0x7010 + 4 * k, 4), ==, string[k]);
    guest_free(g);
}

/* The kernel's own pages become supervisor pages first. */
#define SM_CASES(K, U) \
    K("SMEP", "andb $~4, 0x3000\n mov %cr4, %rax\n bts $20, %rax\n mov %rax, %cr4\n" PTE(0, "7") "movb $0xc3, 0x400000\n mov $0x400000, %eax", \
      "call *%rax", EXC_PF, 0x11, -1, AT(0, 0)) \
    K("SMEP, supervisor page", PTE(1, "3") "movb $0xc3, 0x401000\n mov $0x401000, %eax", "call *%rax", NONE, 0, 0, 0) \
    K("SMAP read", "mov %cr4, %rax\n bts $21, %rax\n mov %rax, %cr4", "mov 0x400000, %eax", EXC_PF, 1, 0, AT(0, 0)) \
    K("SMAP write", "", "mov %eax, 0x400000", EXC_PF, 3, 0, AT(0, 0)) \
    K("SMAP with AC", "stac", "mov %eax, 0x400000", NONE, 0, 0, 0) \
    K("SMAP without AC again", "clac", "mov %eax, 0x400000", EXC_PF, 3, 0, AT(0, 0)) \
    K("SMAP: POPF sets AC", "pushf\n orl $0x40000, (%rsp)\n popf", "mov %eax, 0x400000", NONE, 0, 0, 0)

GUEST_CODE(sm, GUEST_ENTER_LONG("sm") FAULT_START("sm") START("sm")
    SM_CASES(FAULT_CODE_K, FAULT_CODE_U) GUEST_EXIT("0")
    FAULT_RUNTIME("sm") GUEST_GDT("sm"))

static void test_smep_smap(void)
{
    static const struct fault_case cases[] = { SM_CASES(FAULT_ROW_K, FAULT_ROW_U) };
    guest_free(fault_run(sm_start, sm_end, cases, G_N_ELEMENTS(cases)));
}

/* What must be seen after each way of invalidation: page n shows physical page p after MAP(n, p). */
#define MAP(n, p, flags) "movq $(0x400000 + " #p " * 0x1000 + " flags "), 0x300000 + " #n " * 8\n"
/* The table of the last level that is in force; table 1 has the pages the other way round. */
#define TABLE(t) "movq $0x3" #t "0007, 0x3010\n"
#define INVPCID(type) "mov $" #type ", %eax\n invpcid 0x7100, %rax\n"
#define SEES(n, p) "cmpl $" #p ", 0x400000 + " #n " * 0x1000\n jne stale_fail\n incb 0x7000\n"
GUEST_CODE(stale, GUEST_ENTER_LONG("stale") START("stale")
    "movb $0, 0x7000\n xor %ecx, %ecx\n 1: mov %ecx, %edx\n shl $12, %edx\n mov %ecx, 0x400000(%rdx)\n inc %ecx\n cmp $16, %ecx\n jne 1b\n"
    SEES(0, 0) MAP(0, 1, "7") "invlpg 0x400ffc\n" SEES(0, 1)
    MAP(0, 2, "7") "mov %cr3, %rax\n mov %rax, %cr3\n" SEES(0, 2)
    /* global: a CR3 write may leave it, INVLPG and CR4.PGE do not */
    "mov %cr4, %rax\n or $0x80, %rax\n mov %rax, %cr4\n" MAP(3, 3, "0x107") "invlpg 0x403000\n" SEES(3, 3)
    MAP(3, 4, "0x107") "invlpg 0x403000\n" SEES(3, 4)
    MAP(3, 5, "0x107") "mov %cr4, %rax\n btr $7, %rax\n mov %rax, %cr4\n" SEES(3, 5) "bts $7, %rax\n mov %rax, %cr4\n"
    /* PCIDs 0, 1 and 2 over the same tables */
    "mov %cr4, %rax\n bts $17, %rax\n mov %rax, %cr4\n" SEES(6, 6)
    "mov $0x1001, %eax\n mov %rax, %cr3\n" SEES(6, 6)
    MAP(6, 7, "7") "mov $0x1002, %eax\n mov %rax, %cr3\n" SEES(6, 7)
    "mov $0x1001, %eax\n mov %rax, %cr3\n" SEES(6, 7) /* bit 63 clear: PCID 1 is emptied */
    MAP(6, 8, "7") "movq $1, 0x7100\n movq $0x406000, 0x7108\n xor %eax, %eax\n invpcid 0x7100, %rax\n" SEES(6, 8)
    MAP(6, 9, "7") "mov $1, %eax\n invpcid 0x7100, %rax\n" SEES(6, 9)
    MAP(6, 10, "7") "mov $2, %eax\n invpcid 0x7100, %rax\n" SEES(6, 10)
    MAP(6, 11, "7") "mov $3, %eax\n invpcid 0x7100, %rax\n" SEES(6, 11)
    /* another PCID must not see an entry of this one after INVPCID of all */
    "bts $63, %rax\n mov $0x1002, %eax\n bts $63, %rax\n mov %rax, %cr3\n" SEES(6, 11)
    /* another table of the last level; INVLPG below */
    "mov $0x1000, %eax\n mov %rax, %cr3\n xor %ecx, %ecx\n 1: mov $15, %edx\n sub %ecx, %edx\n shl $12, %edx\n add $0x400007, %edx\n"
    "mov %rdx, 0x310000(,%rcx,8)\n inc %ecx\n cmp $16, %ecx\n jne 1b\n movq $0, 0x7100\n movq $0x401000, 0x7108\n" SEES(1, 1)
    TABLE(1) "mov %cr3, %rax\n mov %rax, %cr3\n" SEES(1, 14)
    TABLE(0) "mov %cr4, %rax\n btc $7, %rax\n mov %rax, %cr4\n btc $7, %rax\n mov %rax, %cr4\n" SEES(1, 1)
    TABLE(1) INVPCID(0) SEES(1, 14) TABLE(0) INVPCID(1) SEES(1, 1) TABLE(1) INVPCID(2) SEES(1, 14) TABLE(0) INVPCID(3) SEES(1, 1)
    /* a large page in place of the table; INVLPG of any address in it */
    "mov $0x1000, %eax\n mov %rax, %cr3\n" SEES(0, 2) SEES(15, 15) "movq $0x4000e7, 0x3010\n invlpg 0x400000\n invlpg 0x40f000\n" SEES(15, 15) SEES(0, 0)
    "movq $0x300007, 0x3010\n invlpg 0x5ff000\n" SEES(0, 2)
    /* an entry that was not present needs no invalidation */
    MAP(12, 0, "0") "movq $0, 0x300060\n invlpg 0x40c000\n" MAP(12, 13, "7") SEES(12, 13)
    /* remapping code that runs */
    "movl $0xc301b0, 0x40d000\n movl $0xc302b0, 0x40e000\n" "mov $0x40d000, %ebx\n call *%rbx\n cmp $1, %al\n jne stale_fail\n"
    MAP(13, 14, "7") "invlpg 0x40d000\n call *%rbx\n cmp $2, %al\n jne stale_fail\n incb 0x7000\n"
    GUEST_EXIT("0")
    "stale_fail: mov 0x7000, %al\n inc %al\n out %al, $0xf4\n 1: jmp 1b\n"
    GUEST_GDT("stale"))

static void test_stale(void)
{
    guest_expect(stale_start, stale_end, "");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    guest_add("/guest/paging64/rights", test_rights);
    guest_add("/guest/paging64/smep-smap", test_smep_smap);
    guest_add("/guest/paging64/stale", test_stale);
    return g_test_run();
}
