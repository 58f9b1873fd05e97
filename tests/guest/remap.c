/*
 * Other pages under running code: page tables changed and INVLPG, CR3 with and without PCID, INVPCID, global pages, large
 * pages split and joined, pages taken away from who is on the way back to them. Intel SDM volume 3, 4.10.
 */
#include "tests/lib/guest_ops.h"

#define ROUNDS 40 /* enough for every engine to have translated what runs */
#define V OPS_VIRT
#define PTE(n) (OPS_PT + 8 * (n))
#define A OPS_FRAMES
#define B (OPS_FRAMES + 0x1000)
#define C (OPS_FRAMES + 0x2000)
#define LARGE_B 0x400000u
#define KEEP (UINT64_C(1) << 63) /* in a CR3 with PCID: invalidates nothing */
#define CR3_PWT_PCD 0x18u

enum { P = 1, W = 2, U = 4, PS = 0x80, G = 0x100 };
#define NX (UINT64_C(1) << 63)
#define FETCH 0x10u /* of a #PF's error code */

/* Code that returns a value: MOV $value, %eax; RET, or INT 0x80 from CPL 3. */
static void put_value(struct ops *o, uint64_t phys, uint32_t value, bool user)
{
    ops_store(o, phys, 0xb8 | (uint64_t)value << 8 | (uint64_t)(user ? 0x80cd : 0xc3) << 40, 8);
}

/* A page of code at both frames; `value` is the offset of an immediate, 1 in A and 2 in B. */
static void load_both(struct ops *o, const char *start, const char *end, const char *value)
{
    ops_load(o, A, start, end);
    ops_load(o, B, start, end);
    ops_store(o, A + (uint64_t)(value - start), 1, 4);
    ops_store(o, B + (uint64_t)(value - start), 2, 4);
}

static uint64_t frame(unsigned n)
{
    return n % 2 ? B : A;
}

static void test_between(void)
{
    struct ops *o = ops_new("between calls");
    for (unsigned user = 0; user < 2; user++) {
        put_value(o, A, 1, user);
        put_value(o, B, 2, user);
        for (unsigned n = 0; n < ROUNDS; n++) {
            ops_store(o, PTE(0), frame(n) | P | W | U, 8);
            ops_invlpg(o, V + 0x123);
            for (unsigned k = 0; k < 12; k++) {
                if (user)
                    ops_user(o);
                ops_call(o, V, NULL, n % 2 + 1, "%s, round %u", user ? "CPL 3" : "CPL 0", n);
            }
        }
    }
    ops_run(o);
}

/* RDI: page table entry, RSI: its new value, RDX: what INVLPG names. */
extern const char self_invlpg_value[], self_cr3_value[], self_pge_value[];
OPS_CODE(self_invlpg, "mov %rsi, (%rdi)\n invlpg (%rdx)\n .byte 0xb8\n self_invlpg_value: .long 0\n ret\n")
OPS_CODE(self_cr3, "mov %rsi, (%rdi)\n mov %cr3, %rax\n mov %rax, %cr3\n .byte 0xb8\n self_cr3_value: .long 0\n ret\n")
OPS_CODE(self_pge, "mov %rsi, (%rdi)\n mov %cr4, %rax\n xor $0x80, %rax\n mov %rax, %cr4\n .byte 0xb8\n self_pge_value: .long 0\n ret\n")

static void call_self(struct ops *o, unsigned page_flags, const char *what)
{
    ops_store(o, PTE(0), A | page_flags, 8);
    ops_invlpg(o, V);
    for (unsigned n = 1; n < ROUNDS; n++) {
        uint64_t args[OPS_ARGS] = { PTE(0), frame(n) | page_flags, V };
        ops_call(o, V, args, n % 2 + 1, "%s, round %u", what, n);
    }
}

static void test_self(void)
{
    struct ops *o = ops_new("by the code itself");
    load_both(o, self_invlpg_start, self_invlpg_end, self_invlpg_value);
    call_self(o, P | W, "INVLPG");
    call_self(o, P | W | U, "INVLPG, a user's page");
    ops_cr4(o, CR4_PGE, 0);
    call_self(o, P | W | G, "INVLPG, a global page");
    ops_cr4(o, 0, CR4_PGE);
    ops_run(o);

    o = ops_new("by the code itself");
    load_both(o, self_cr3_start, self_cr3_end, self_cr3_value);
    call_self(o, P | W, "CR3");
    ops_run(o);

    o = ops_new("by the code itself");
    load_both(o, self_pge_start, self_pge_end, self_pge_value);
    call_self(o, P | W | G, "CR4.PGE");
    ops_run(o);
}

/* The same by the entry of a 2 MiB page. */
static void test_large(void)
{
    struct ops *o = ops_new("large pages");
    ops_load(o, A, self_invlpg_start, self_invlpg_end);
    ops_load(o, LARGE_B, self_invlpg_start, self_invlpg_end);
    ops_store(o, A + (uint64_t)(self_invlpg_value - self_invlpg_start), 1, 4);
    ops_store(o, LARGE_B + (uint64_t)(self_invlpg_value - self_invlpg_start), 2, 4);
    ops_store(o, OPS_PDE, A | P | W | PS, 8);
    ops_invlpg(o, V);
    for (unsigned n = 1; n < ROUNDS; n++) {
        uint64_t args[OPS_ARGS] = { OPS_PDE, (n % 2 ? LARGE_B : A) | P | W | PS, V + 0x100000 };
        ops_call(o, V, args, n % 2 + 1, "round %u", n);
    }
    ops_run(o);
}

/*
 * Direct jumps and calls back and forth between two pages, the first of which changes each time. RDI: its entry, RSI and
 * RDX: two values of it, ECX: how often. Returns a sum over all values seen.
 */
extern const char pages_jump_second[], pages_call_second[];
OPS_CODE(pages_jump, ".byte 0xb8\n .long 1\n jmp pages_jump_back\n .fill 4096 - (. - pages_jump_start), 1, 0xcc\n pages_jump_second:\n"
    "xor %r8d, %r8d\n 1: mov %rsi, (%rdi)\n xchg %rsi, %rdx\n invlpg pages_jump_start(%rip)\n jmp pages_jump_start\n"
    "pages_jump_back: imul $31, %r8d, %r8d\n add %eax, %r8d\n dec %ecx\n jnz 1b\n mov %r8d, %eax\n ret\n")
OPS_CODE(pages_call, ".byte 0xb8\n .long 1\n ret\n .fill 4096 - (. - pages_call_start), 1, 0xcc\n pages_call_second:\n"
    "xor %r8d, %r8d\n 1: mov %rsi, (%rdi)\n xchg %rsi, %rdx\n invlpg pages_call_start(%rip)\n call pages_call_start\n"
    "imul $31, %r8d, %r8d\n add %eax, %r8d\n dec %ecx\n jnz 1b\n mov %r8d, %eax\n ret\n")

static void pages(const char *name, const char *start, const char *second, const char *end)
{
    struct ops *o = ops_new(name);
    uint32_t sum = 0;
    enum { TURNS = 1000 };
    ops_load(o, A, start, second);
    ops_load(o, B, start, second);
    ops_store(o, B + 1, 2, 4);
    ops_load(o, C, second, end);
    ops_store(o, PTE(1), C | P | W, 8);
    for (unsigned n = 0; n < TURNS; n++)
        sum = sum * 31 + n % 2 + 1;
    for (unsigned n = 0; n < 3; n++) {
        uint64_t args[OPS_ARGS] = { PTE(0), A | P | W, B | P | W, TURNS };
        ops_call(o, V + 0x1000, args, sum, "time %u", n);
    }
    ops_run(o);
}

static void test_pages(void)
{
    pages("jumps between pages", pages_jump_start, pages_jump_second, pages_jump_end);
    pages("calls between pages", pages_call_start, pages_call_second, pages_call_end);
}

/*
 * Page 0 calls page 1, which maps page 0 anew before it returns: with arguments as in `self`. `user`: page 1 is
 * reached by an indirect call, deeper.
 */
extern const char back_value[], back_after[], back_second[], deep_value[], deep_after[], deep_second[];
OPS_CODE(back, "call back_second\n back_after: .byte 0xb8\n back_value: .long 0\n ret\n .fill 4096 - (. - back_start), 1, 0xcc\n"
    "back_second: mov %rsi, (%rdi)\n invlpg (%rdx)\n ret\n")
OPS_CODE(deep, "lea deep_second(%rip), %rax\n call *%rax\n deep_after: .byte 0xb8\n deep_value: .long 0\n ret\n .fill 4096 - (. - deep_start), 1, 0xcc\n"
    "deep_second: call 1f\n call 1f\n call 2f\n ret\n 1: ret\n 2: mov %rsi, (%rdi)\n mov %cr3, %rax\n mov %rax, %cr3\n ret\n")

static void test_return(void)
{
    const struct {
        const char *name, *start, *value, *after, *second, *end;
    } forms[] = {
        { "return after INVLPG", back_start, back_value, back_after, back_second, back_end },
        { "return after CR3", deep_start, deep_value, deep_after, deep_second, deep_end },
    };
    for (unsigned k = 0; k < G_N_ELEMENTS(forms); k++) {
        struct ops *o = ops_new(forms[k].name);
        uint64_t after = V + (uint64_t)(forms[k].after - forms[k].start);
        load_both(o, forms[k].start, forms[k].second, forms[k].value);
        ops_load(o, C, forms[k].second, forms[k].end);
        ops_store(o, PTE(1), C | P | W, 8);
        ops_store(o, PTE(0), A | P | W, 8);
        for (unsigned n = 1; n < ROUNDS * 3; n++) {
            uint64_t args[OPS_ARGS] = { PTE(0), frame(n) | P | W, V };
            ops_call(o, V, args, n % 2 + 1, "another page, round %u", n);
            if (n % 3)
                continue;
            /* Gone, or not to be executed: the fault comes when it is returned to, and leaves nothing behind. */
            args[1] = n % 2 ? 0 : A | P | W | NX;
            ops_call(o, V, args, 0, "no page, round %u", n);
            ops_fault(o, EXC_PF, FETCH | (n % 2 ? 0 : PF_P), after, after);
            ops_store(o, PTE(0), frame(n) | P | W, 8);
            ops_invlpg(o, V);
        }
        ops_run(o);
    }
}

/* The code takes its own page away, or the right to execute it: the next instruction faults. */
static void test_take_away(void)
{
    struct ops *o = ops_new("own page taken away");
    uint64_t next = V + (uint64_t)(self_invlpg_value - self_invlpg_start) - 1;
    load_both(o, self_invlpg_start, self_invlpg_end, self_invlpg_value);
    ops_cr4(o, CR4_SMEP, 0);
    for (unsigned n = 0; n < ROUNDS; n++) {
        static const struct {
            uint64_t entry;
            unsigned error;
        } gone[] = { { 0, FETCH }, { A | P | W | NX, FETCH | PF_P }, { A | P | W | U, FETCH | PF_P }, { A | W, FETCH } };
        uint64_t args[OPS_ARGS] = { PTE(0), gone[n % 4].entry, V };
        ops_store(o, PTE(0), A | P | W, 8);
        ops_invlpg(o, V);
        ops_call(o, V, args, 0, "entry %#" PRIx64 ", round %u", gone[n % 4].entry, n);
        ops_fault(o, EXC_PF, gone[n % 4].error, next, next);
    }
    ops_cr4(o, 0, CR4_SMEP);
    ops_run(o);
}

/* At CPL 3: the page becomes the supervisor's, or not executable, between two calls. */
static void test_user_rights(void)
{
    struct ops *o = ops_new("a user's page taken away");
    put_value(o, A, 1, true);
    for (unsigned n = 0; n < ROUNDS; n++) {
        static const uint64_t gone[] = { A | P | W, A | P | W | U | NX, 0 };
        ops_store(o, PTE(0), A | P | W | U, 8);
        ops_invlpg(o, V);
        for (unsigned k = 0; k < 10; k++) {
            ops_user(o);
            ops_call(o, V, NULL, 1, "there, round %u", n);
        }
        ops_store(o, PTE(0), gone[n % 3], 8);
        ops_invlpg(o, V);
        ops_user(o);
        ops_call(o, V, NULL, 0, "gone, round %u", n);
        ops_fault(o, EXC_PF, FETCH | PF_U | (gone[n % 3] ? PF_P : 0), V, V);
    }
    ops_run(o);
}

/* --- Address spaces ----------------------------------------------------------------------------------------------- */

#define PML4_2 OPS_TABLES
#define PT_2 (OPS_TABLES + 0x3000)

/* A second set of tables: the same but for the 2 MiB at V, which PT_2 maps. */
static void second_space(struct ops *o)
{
    uint64_t pdpt = OPS_TABLES + 0x1000, pd = OPS_TABLES + 0x2000;
    ops_store(o, PML4_2, pdpt | P | W | U, 8);
    ops_store(o, pdpt, pd | P | W | U, 8);
    for (unsigned n = 0; n < 8; n++)
        ops_store(o, pd + 8 * n, n == (V >> 21) ? PT_2 | P | W | U : n * 0x200000 | P | W | U | PS, 8);
}

/* Code that changes the address space under itself: RDI goes to CR3. By a call, too. */
extern const char space_value[], space_call_value[];
OPS_CODE(space, "mov %rdi, %cr3\n .byte 0xb8\n space_value: .long 0\n ret\n")
OPS_CODE(space_call, "call 1f\n .byte 0xb8\n space_call_value: .long 0\n ret\n 1: mov %rdi, %cr3\n ret\n")

static void switch_spaces(struct ops *o, const char *start, const char *end, const char *value, bool pcid)
{
    load_both(o, start, end, value);
    second_space(o);
    ops_store(o, PTE(0), A | P | W, 8);
    ops_store(o, PT_2, B | P | W, 8);
    ops_cr4(o, pcid ? CR4_PCIDE : 0, 0);
    for (unsigned n = 1; n < ROUNDS * 3; n++) {
        uint64_t keep = pcid && n > 2 ? KEEP : 0;
        uint64_t args[OPS_ARGS] = { (n % 2 ? PML4_2 | (pcid ? 2u : CR3_PWT_PCD) : OPS_PML4 | (pcid ? 1u : 0)) | keep };
        ops_call(o, V, args, n % 2 + 1, "%s PCID, round %u", pcid ? "with" : "without", n);
    }
    ops_cr3(o, OPS_PML4);
    ops_cr4(o, 0, pcid ? CR4_PCIDE : 0);
    ops_run(o);
}

static void test_spaces(void)
{
    for (unsigned pcid = 0; pcid < 2; pcid++) {
        switch_spaces(ops_new("another address space"), space_start, space_end, space_value, pcid);
        switch_spaces(ops_new("another address space before a return"), space_call_start, space_call_end,
                      space_call_value, pcid);
    }
}

/* What INVPCID names is looked up anew, in the present address space and in the other one. */
static void test_invpcid(void)
{
    struct ops *o = ops_new("INVPCID");
    second_space(o);
    put_value(o, A, 1, false);
    put_value(o, B, 2, false);
    put_value(o, C, 3, false);
    ops_cr4(o, CR4_PCIDE | CR4_PGE, 0);
    for (unsigned n = 0; n < ROUNDS; n++) {
        unsigned type = n % 4;
        ops_store(o, PTE(0), A | P | W, 8);
        ops_store(o, PT_2, B | P | W, 8);
        ops_invpcid(o, 2, 0, 0);
        ops_cr3(o, OPS_PML4 | 1 | KEEP);
        ops_call(o, V, NULL, 1, "first space, round %u", n);
        ops_cr3(o, PML4_2 | 2 | KEEP);
        ops_call(o, V, NULL, 2, "second space, round %u", n);
        ops_cr3(o, OPS_PML4 | 1 | KEEP);
        ops_call(o, V, NULL, 1, "first space again, round %u", n);
        ops_store(o, PT_2, C | P | W, 8);
        ops_invpcid(o, type, 2, V);
        ops_call(o, V, NULL, 1, "first space after INVPCID %u, round %u", type, n);
        ops_cr3(o, PML4_2 | 2 | KEEP);
        ops_call(o, V, NULL, 3, "second space after INVPCID %u, round %u", type, n);
        ops_store(o, PT_2, A | P | W, 8);
        ops_invpcid(o, type, 2, V);
        ops_call(o, V, NULL, 1, "the present space after INVPCID %u, round %u", type, n);
    }
    ops_cr3(o, OPS_PML4);
    ops_cr4(o, 0, CR4_PCIDE | CR4_PGE);
    ops_run(o);
}

/* Global pages are gone by INVLPG, by a change of CR4.PGE and by INVPCID 2; others by CR3, too. */
static void test_global(void)
{
    struct ops *o = ops_new("global pages");
    put_value(o, A, 1, false);
    put_value(o, B, 2, false);
    ops_cr4(o, CR4_PGE, 0);
    for (unsigned n = 0; n < ROUNDS; n++) {
        ops_store(o, PTE(0), frame(n) | P | W | (n % 4 == 3 ? 0 : G), 8);
        if (n % 4 == 0) {
            ops_cr4(o, 0, CR4_PGE);
            ops_cr4(o, CR4_PGE, 0);
        } else if (n % 4 == 1) {
            ops_invlpg(o, V);
        } else {
            ops_invpcid(o, 2, 0, 0);
        }
        ops_call(o, V, NULL, n % 2 + 1, "round %u", n);
        ops_call(o, V, NULL, n % 2 + 1, "round %u once more", n);
        if (n % 4 != 3)
            continue;
        ops_store(o, PTE(0), frame(n + 1) | P | W, 8);
        ops_cr3(o, OPS_PML4);
        ops_call(o, V, NULL, (n + 1) % 2 + 1, "not global, round %u", n);
    }
    ops_cr4(o, 0, CR4_PGE);
    ops_run(o);
}

/* A large page is split and one of its small pages goes elsewhere; then all is one page again. */
static void test_split(void)
{
    static const unsigned at[] = { 0, 3, 511 };
    struct ops *o = ops_new("split");
    for (unsigned k = 0; k < G_N_ELEMENTS(at); k++)
        put_value(o, A + at[k] * 0x1000, 10 + k, false);
    put_value(o, LARGE_B, 20, false);
    for (unsigned n = 0; n < 512; n++)
        ops_store(o, PTE(n), (n == 3 ? LARGE_B : A + n * 0x1000) | P | W, 8);
    for (unsigned round = 0; round < ROUNDS; round++) {
        bool split = round % 2;
        ops_store(o, OPS_PDE, split ? OPS_PT | P | W : A | P | W | PS, 8);
        if (round % 4 < 2)
            ops_cr3(o, OPS_PML4);
        for (unsigned k = 0; k < G_N_ELEMENTS(at); k++) {
            if (round % 4 >= 2)
                ops_invlpg(o, V + at[k] * 0x1000);
            for (unsigned n = 0; n < 6; n++)
                ops_call(o, V + at[k] * 0x1000, NULL, split && k == 1 ? 20 : 10 + k, "page %u, round %u", at[k], round);
        }
    }
    ops_run(o);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    guest_add("/guest/remap/between", test_between);
    guest_add("/guest/remap/self", test_self);
    guest_add("/guest/remap/large", test_large);
    guest_add("/guest/remap/pages", test_pages);
    guest_add("/guest/remap/return", test_return);
    guest_add("/guest/remap/take-away", test_take_away);
    guest_add("/guest/remap/user-rights", test_user_rights);
    guest_add("/guest/remap/spaces", test_spaces);
    guest_add("/guest/remap/invpcid", test_invpcid);
    guest_add("/guest/remap/global", test_global);
    guest_add("/guest/remap/split", test_split);
    return g_test_run();
}
