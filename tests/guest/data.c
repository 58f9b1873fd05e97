/*
 * Other data behind an address that the same instruction accesses again: what an engine remembers of a page, be it for each
 * instruction, must not outlive the translation it came from. Pages changed, taken away, protected against stores, their
 * dirty and accessed bits cleared; pages of data that code appears in. Intel SDM volume 3, 4.8 and 4.10.
 */
#include "tests/lib/guest_ops.h"

#define ROUNDS 24 /* enough for every engine to have translated what runs */
#define V OPS_VIRT
#define PTE(n) (OPS_PT + 8 * (n))
#define A OPS_FRAMES /* code, where it is mapped to itself */
#define B (OPS_FRAMES + 0x1000)
#define C (OPS_FRAMES + 0x2000)

enum { P = 1, W = 2, ACCESSED = 0x20, DIRTY = 0x40 };

/* RDI: address, RSI: new page table entry, RDX: where that is. The same access before and after; `then` in between. */
#define TWICE(access, then) \
    "mov $2, %r8d\n1: " access "\n dec %r8d\n jz 2f\n mov %rsi, (%rdx)\n" then "\n jmp 1b\n2:"
#define BY_INVLPG "invlpg (%rdi)"
#define BY_CR3 "mov %cr3, %rax\n mov %rax, %cr3"

extern const char load_gone[], store_gone[];
OPS_CODE(load_invlpg, TWICE("load_gone: mov (%rdi), %rax", BY_INVLPG) "ret\n")
OPS_CODE(load_cr3, TWICE("mov (%rdi), %ecx", BY_CR3) "mov %rcx, %rax\n ret\n")
OPS_CODE(load_far, TWICE("movzbl 8(%rdi), %ecx\n movzwl 0xffe(%rdi), %r9d", BY_INVLPG) "lea (%rcx,%r9), %rax\n ret\n")
#define SET_WP "mov %cr0, %rax\n bts $16, %rax\n mov %rax, %cr0\n"
OPS_CODE(store_invlpg, SET_WP TWICE("store_gone: mov %rcx, 16(%rdi)", BY_INVLPG) "mov 16(%rdi), %rax\n ret\n")
OPS_CODE(add_invlpg, TWICE("add %rcx, 24(%rdi)", BY_INVLPG) "mov 24(%rdi), %rax\n ret\n")
OPS_CODE(load_entry, TWICE("mov (%rdi), %rax", BY_INVLPG) "mov (%rdx), %rax\n ret\n")
OPS_CODE(store_entry, TWICE("mov %rcx, 16(%rdi)", BY_INVLPG) "mov (%rdx), %rax\n ret\n")

static void put_data(struct ops *o, uint64_t phys, uint64_t value)
{
    ops_store(o, phys, value, 8);
    ops_store(o, phys + 8, value * 3, 1);
    ops_store(o, phys + 24, 0, 8);
    ops_store(o, phys + 0xffe, value * 5, 2);
}

/* Calls what lies at A while PTE(0) goes from one frame to the other. */
static void call(struct ops *o, unsigned n, uint64_t old, uint64_t new, uint64_t rcx, uint64_t rax, const char *what)
{
    uint64_t args[OPS_ARGS] = { V, new, PTE(0), rcx };
    ops_store(o, PTE(0), old, 8);
    ops_invlpg(o, V);
    ops_call(o, A, args, rax, "%s, round %u", what, n);
}

#define LOAD(o, name) ops_load(o, A, name##_start, name##_end)

static void test_remapped(void)
{
    static const struct { const char *start, *end; unsigned times; const char *what; } codes[] = {
        { load_invlpg_start, load_invlpg_end, 1, "INVLPG" },
        { load_cr3_start, load_cr3_end, 1, "CR3" },
        { load_far_start, load_far_end, 8, "two loads" },
    };
    for (unsigned k = 0; k < G_N_ELEMENTS(codes); k++) {
        struct ops *o = ops_new("remapped");
        ops_load(o, A, codes[k].start, codes[k].end);
        put_data(o, B, 1);
        put_data(o, C, 2);
        for (unsigned n = 0; n < ROUNDS; n++)
            call(o, n, (n % 2 ? B : C) | P | W, (n % 2 ? C : B) | P | W, 0, codes[k].times * (n % 2 ? 2 : 1), codes[k].what);
        ops_run(o);
    }
}

/* Stores go where the page is now, and nowhere else. */
static void test_stores(void)
{
    struct ops *o = ops_new("stores");
    LOAD(o, add_invlpg);
    put_data(o, B, 1);
    put_data(o, C, 2);
    for (unsigned n = 0; n < ROUNDS; n++)
        call(o, n, (n % 2 ? B : C) | P | W, (n % 2 ? C : B) | P | W, 1, n + 1, "ADD");
    ops_run(o);
}

/* Gone, or not to be written to any more. */
static void test_taken_away(void)
{
    struct ops *o = ops_new("taken away");
    put_data(o, B, 1);
    LOAD(o, load_invlpg);
    for (unsigned n = 0; n < ROUNDS; n++) {
        call(o, n, B | P | W, n % 4 == 3 ? B | W : B | P, 0, 1, "load");
        if (n % 4 == 3)
            ops_fault(o, EXC_PF, 0, A + (uint64_t)(load_gone - load_invlpg_start), V);
    }
    ops_run(o);
    o = ops_new("taken away");
    LOAD(o, store_invlpg);
    for (unsigned n = 0; n < ROUNDS; n++) {
        call(o, n, B | P | W, n % 4 == 3 ? B | P : n % 4 == 2 ? B | W : B | P | W, n, n, "store");
        if (n % 4 >= 2)
            ops_fault(o, EXC_PF, PF_W | (n % 4 == 3 ? PF_P : 0), A + (uint64_t)(store_gone - store_invlpg_start), V + 16);
    }
    ops_run(o);
}
static void test_bits(void)
{
    struct ops *o = ops_new("accessed");
    LOAD(o, load_entry);
    for (unsigned n = 0; n < ROUNDS; n++)
        call(o, n, B | P | W, B | P | W, 0, B | P | W | ACCESSED, "accessed bit");
    ops_run(o);
    o = ops_new("dirty");
    LOAD(o, store_entry);
    for (unsigned n = 0; n < ROUNDS; n++)
        call(o, n, B | P | W, (n % 2 ? B : C) | P | W, 0, (n % 2 ? B : C) | P | W | ACCESSED | DIRTY, "dirty bit");
    ops_run(o);
}

/* Stores ECX into MOV $imm, %eax at RDI and calls that; first the page is none of code. Returns how often it was right. */
OPS_CODE(patch, "xor %edx, %edx\n mov $40, %ecx\n"
                "1: mov %ecx, 1(%rdi)\n call *%rdi\n cmp %eax, %ecx\n jne 2f\n inc %edx\n2: dec %ecx\n jnz 1b\n"
                "mov %rdx, %rax\n ret\n")
/* The same by another mapping of the page, at RSI. */
OPS_CODE(patch_alias, "xor %edx, %edx\n mov $40, %ecx\n"
                      "1: mov %ecx, 1(%rsi)\n mov 1(%rdi), %r9d\n call *%rdi\n cmp %eax, %ecx\n jne 2f\n inc %edx\n2: dec %ecx\n"
                      "jnz 1b\n mov %rdx, %rax\n ret\n")

static void test_code_appears(void)
{
    struct ops *o = ops_new("code appears");
    ops_load(o, A, patch_start, patch_end);
    ops_load(o, A + 0x800, patch_alias_start, patch_alias_end);
    ops_store(o, PTE(0), B | P | W, 8);
    for (unsigned n = 0; n < 16; n++) {
        uint64_t at = B + n * 0x1000, args[OPS_ARGS] = { at, V };
        ops_store(o, at, 0xb8 | UINT64_C(0xc3) << 40, 8);
        ops_store(o, PTE(0), at | P | W, 8);
        ops_invlpg(o, V);
        ops_call(o, n % 2 ? A + 0x800 : A, args, 40, "page %u", n);
    }
    ops_run(o);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    guest_add("/guest/data/remapped", test_remapped);
    guest_add("/guest/data/stores", test_stores);
    guest_add("/guest/data/taken-away", test_taken_away);
    guest_add("/guest/data/bits", test_bits);
    guest_add("/guest/data/code-appears", test_code_appears);
    return g_test_run();
}
