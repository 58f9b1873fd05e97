/*
 * Instructions of 15 bytes across the end of a page, with 1 to 14 of them in the first page: the second page is there,
 * written to, mapped anew, not present, not executable, the supervisor's. And instructions that are too long: #GP once
 * 15 bytes are known, but #PF first where they are not. Intel SDM volume 3, table 6-2.
 */
#include "tests/lib/guest_ops.h"

#include <string.h>

#define V OPS_VIRT
#define END (V + 0x1000u) /* of the first page */
#define FIRST OPS_FRAMES
#define SECOND (OPS_FRAMES + 0x2000u)
#define OTHER (OPS_FRAMES + 0x4000u)
#define DATA 0x30000u
#define RUNS 12u /* enough to be translated */
#define PRESENT 3u
#define USER 7u
#define NX (UINT64_C(1) << 63)
#define FETCH 0x10u

/*
 * Instructions of 15 bytes and what follows. The result, in RAX, depends on their last byte, which is stored as 0x11
 * here. DATA holds 0.
 */
static const struct form {
    const char *name;
    uint8_t code[32];
    unsigned len;
    uint64_t result, per_last; /* with 0x11, and how much more for each more */
    bool user, adds; /* to DATA */
} forms[] = {
    { "mov $imm64, %rax", { 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 0x11, 0xc3 }, 16,
      UINT64_C(0x1107060504030201), UINT64_C(1) << 56, false, false },
    /* what is added to is read behind it */
    { "add $imm32, mem", { 0x3e, 0x3e, 0x3e, 0x48, 0x81, 0x04, 0x25, 0, 0, 3, 0, 0, 0, 0, 0x11, 0x48, 0x8b, 0x04, 0x25, 0, 0, 3, 0, 0xc3 }, 24,
      0x11000000, 1 << 24, false, true },
    { "lock add $imm32, mem", { 0xf0, 0x3e, 0x3e, 0x48, 0x81, 0x04, 0x25, 0, 0, 3, 0, 0, 0, 0, 0x11, 0x48, 0x8b, 0x04, 0x25, 0, 0, 3, 0, 0xc3 }, 24,
      0x11000000, 1 << 24, false, true },
    /* by 1 */
    { "imul $imm32, mem, %eax", { 0x3e, 0x3e, 0x3e, 0x3e, 0x69, 0x04, 0x25, 8, 0, 3, 0, 0, 0, 0, 0x11, 0xc3 }, 16, 0x11000000, 1 << 24, false, false },
    { "lea disp32, %rax", { 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x48, 0x8d, 0x04, 0x25, 0, 0, 0, 0x11, 0xc3 }, 16, 0x11000000, 1 << 24, false, false },
    { "mov $imm64 at CPL 3", { 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 0x11, 0xcd, 0x80 }, 17,
      UINT64_C(0x1107060504030201), UINT64_C(1) << 56, true, false },
};

/* Physical address of byte n of code that has `split` bytes in the first page. */
static uint64_t phys_of(unsigned split, unsigned n, uint64_t second)
{
    return n < split ? FIRST + 0x1000 - split + n : second + n - split;
}

static void put_code(struct ops *o, const uint8_t *code, unsigned len, unsigned split, uint64_t second)
{
    for (unsigned n = 0; n < len; n++)
        ops_store(o, phys_of(split, n, second), code[n], 1);
}

static void map_second(struct ops *o, uint64_t entry)
{
    ops_store(o, OPS_PT + 8, entry, 8);
    ops_invlpg(o, END);
}

static uint64_t result(const struct form *f, uint8_t last)
{
    return f->result + f->per_last * (last - 0x11u);
}

static void calls(struct ops *o, const struct form *f, unsigned split, uint8_t last, unsigned runs, const char *what)
{
    for (unsigned n = 0; n < runs; n++) {
        ops_store(o, DATA, 0, 8);
        if (f->user)
            ops_user(o);
        ops_call(o, END - split, NULL, result(f, last), "%s, %u bytes before the end, %s", f->name, split, what);
    }
}

static void fault(struct ops *o, const struct form *f, unsigned split, uint64_t entry, unsigned error)
{
    uint64_t at = END - split;
    map_second(o, entry);
    for (unsigned n = 0; n < 3; n++) {
        calls(o, f, split, 0, 1, "fault");
        ops_fault(o, EXC_PF, error | FETCH | (f->user ? PF_U : 0), at, END);
    }
}

static void split_form(struct ops *o, const struct form *f, unsigned split)
{
    unsigned right = f->user ? USER : PRESENT;

    put_code(o, f->code, f->len, split, SECOND);
    put_code(o, f->code, f->len, split, OTHER);
    ops_store(o, phys_of(split, 14, OTHER), 0x33, 1);
    map_second(o, SECOND | right);
    calls(o, f, split, 0x11, RUNS, "at first");
    /* the last byte is written to, by its physical address and by the one where it runs */
    ops_store(o, phys_of(split, 14, SECOND), 0x22, 1);
    calls(o, f, split, 0x22, RUNS, "changed");
    ops_store(o, END - split + 14, 0x23, 1);
    calls(o, f, split, 0x23, 2, "changed in place");
    ops_store(o, END - split + 14, 0x24, 1);
    calls(o, f, split, 0x24, 1, "changed in place again");
    /* another page */
    map_second(o, OTHER | right);
    calls(o, f, split, 0x33, RUNS, "elsewhere");
    map_second(o, SECOND | right);
    calls(o, f, split, 0x24, 2, "back");
    /* and none */
    fault(o, f, split, 0, 0);
    map_second(o, SECOND | right);
    calls(o, f, split, 0x24, 2, "back from nowhere");
    fault(o, f, split, SECOND | right | NX, PF_P);
    if (f->user) {
        map_second(o, OTHER | right);
        calls(o, f, split, 0x33, 1, "before it is the supervisor's");
        fault(o, f, split, SECOND | PRESENT, PF_P);
    }
    /* changed while it was away */
    ops_store(o, phys_of(split, 14, SECOND), 0x44, 1);
    map_second(o, SECOND | right);
    calls(o, f, split, 0x44, 2, "changed while away");
}

static struct ops *start(const char *name)
{
    struct ops *o = ops_new(name);
    ops_store(o, DATA + 8, 1, 8);
    ops_store(o, OPS_PT, FIRST | USER, 8);
    ops_invlpg(o, V);
    return o;
}

static void test_splits(void)
{
    for (unsigned k = 0; k < G_N_ELEMENTS(forms); k++) {
        struct ops *o = start(forms[k].name);
        for (unsigned split = 1; split <= 14; split++)
            split_form(o, &forms[k], split);
        ops_run(o);
    }
}

/* Jumps and calls across the end: the next instruction is in the second page, or where they go. */
static void test_jumps(void)
{
    struct ops *o = start("jumps");
    for (unsigned split = 1; split <= 14; split++)
        for (unsigned call = 0; call < 2; call++) {
            uint8_t code[] = { 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, call ? 0xe8 : 0xe9,
                               0xf1, 0xf7, 0xff, 0xff, 0x83, 0xc0, call ? 5 : 77, 0xc3 };
            uint64_t target = FIRST + 0x1000 - split - 0x800; /* RIP - 15 - 0x800 */
            put_code(o, code, sizeof code, split, SECOND);
            ops_store(o, target, UINT64_C(0xc30000000bb8), 8); /* mov $11, %eax; ret */
            map_second(o, SECOND | PRESENT);
            for (unsigned n = 0; n < RUNS; n++)
                ops_call(o, END - split, NULL, call ? 16 : 11, "%s, %u bytes before the end", call ? "call" : "jmp", split);
            map_second(o, 0);
            ops_call(o, END - split, NULL, 0, "%s to a fault, %u bytes before the end", call ? "call" : "jmp", split);
            ops_fault(o, EXC_PF, FETCH, END - split, END);
            ops_store(o, target + 1, 12, 1);
            map_second(o, SECOND | PRESENT);
            ops_call(o, END - split, NULL, call ? 17 : 12, "%s to other code, %u bytes", call ? "call" : "jmp", split);
        }
    ops_run(o);
}

/* Too long: 15 prefixes and an opcode. */
static void test_too_long(void)
{
    struct ops *o = start("too long");
    uint8_t code[17];
    memset(code, 0x2e, 15);
    code[15] = 0x90;
    code[16] = 0xc3;
    for (unsigned split = 1; split <= 15; split++) {
        put_code(o, code, sizeof code, split, SECOND);
        for (unsigned n = 0; n < RUNS; n++) {
            map_second(o, n % 3 == 2 ? 0 : SECOND | PRESENT);
            ops_call(o, END - split, NULL, 0, "16 bytes, %u before the end, second page %s", split, n % 3 == 2 ? "gone" : "there");
            if (n % 3 == 2 && split < 15)
                ops_fault(o, EXC_PF, FETCH, END - split, END);
            else
                ops_fault(o, EXC_GP, 0, END - split, 0);
        }
    }
    ops_run(o);
}

/* What is no instruction because of its second half becomes one, and none again. */
static void test_invalid(void)
{
    static const uint8_t code[] = { 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x0f, 0x04, 0xc0, 0x90, 0x90, 0xb8, 9, 0, 0, 0, 0xc3 };
    struct ops *o = start("invalid");
    for (unsigned split = 1; split <= 6; split++) {
        put_code(o, code, sizeof code, split, SECOND);
        map_second(o, SECOND | PRESENT);
        for (unsigned n = 0; n < 3 * RUNS; n++) {
            bool valid = n / RUNS == 1;
            if (n % RUNS == 0)
                ops_store(o, phys_of(split, 6, SECOND), valid ? 0x1f : 0x04, 1); /* NOP %eax */
            ops_call(o, END - split, NULL, 9, "%u bytes before the end, %s", split, valid ? "valid" : "not valid");
            if (!valid)
                ops_fault(o, EXC_UD, 0, END - split, 0);
        }
        map_second(o, 0);
        ops_call(o, END - split, NULL, 9, "%u bytes before the end, the rest gone", split);
        ops_fault(o, EXC_PF, FETCH, END - split, END);
    }
    ops_run(o);
}

/* An instruction that ends with its page is executed before the next one faults, whatever its length. */
static void test_last(void)
{
    static const uint8_t load[] = { 0x48, 0x8b, 0x04, 0x25, 0, 0, 3, 0, 0xc3 }; /* mov DATA, %rax; ret */
    struct ops *o = start("last in its page");
    ops_load(o, FIRST, load, load + sizeof load);
    for (unsigned k = 0; k < G_N_ELEMENTS(forms); k++) {
        const struct form *f = &forms[k];
        put_code(o, f->code, 15, 15, SECOND);
        ops_store(o, DATA, 0, 8);
        for (unsigned n = 0; n < RUNS; n++) {
            map_second(o, 0);
            if (f->user)
                ops_user(o);
            ops_call(o, END - 15, NULL, 0, "%s", f->name);
            ops_fault(o, EXC_PF, FETCH | (f->user ? PF_U : 0), END, END);
        }
        ops_call(o, V, NULL, f->adds ? RUNS * f->result : 0, "what %s has done", f->name);
    }
    ops_run(o);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    guest_add("/guest/page-end/splits", test_splits);
    guest_add("/guest/page-end/jumps", test_jumps);
    guest_add("/guest/page-end/too-long", test_too_long);
    guest_add("/guest/page-end/invalid", test_invalid);
    guest_add("/guest/page-end/last", test_last);
    return g_test_run();
}
