/*
 * What the decoder fills in, by hand: the conventions of struct insn that handlers rely on, lengths at the limit, and
 * what capstone knows nothing of. Also: the rows are consistent, and the disassembly printer prints.
 */
#include "cpu/disas.h"
#include "cpu/insn.h"
#include "cpu/state.h"

#include <glib.h>
#include <stdio.h>
#include <string.h>

static unsigned parse_hex(const char *text, uint8_t out[16])
{
    unsigned n = 0, v;
    int used;
    for (; n < 16 && sscanf(text, "%2x%n", &v, &used) == 1; text += used)
        out[n++] = v;
    return n;
}

static const char *reg_name(unsigned r, char out[8])
{
    if (r == R_ZERO)
        return "-";
    if (r == R_RIP)
        return "rip";
    snprintf(out, 8, "%u", r);
    return out;
}

/* "mnemonic length o<osize> a<asize>" and all fields that are not 0. */
static char *describe(const uint8_t *bytes, unsigned n, unsigned code_size, bool protected_mode)
{
    static const char *const segs[] = { "es", "cs", "ss", "ds", "fs", "gs", "", "", "flat", "stack" };
    static const char *const flags[] = { "mem", "lock", "rep", "repne", "vex", "w", "rex", "opsize" };
    struct insn i;
    char base[8], index[8];
    struct decode_mode mode = { .code_size = code_size, .protected_mode = protected_mode };
    switch (decode_insn(bytes, n, mode, &i)) {
    case DECODE_UD: return g_strdup("ud");
    case DECODE_TOO_LONG: return g_strdup("long");
    case DECODE_MORE: return g_strdup("more");
    case DECODE_OK: break;
    }
    GString *s = g_string_new(NULL);
    g_string_append_printf(s, "%s %u o%u a%u", insn_row(&i)->mnemonic, i.len, i.osize, i.asize);
    if (i.flags & INSN_MEM)
        g_string_append_printf(s, " %s:%s+%s<<%u", segs[i.seg], reg_name(i.base, base), reg_name(i.index, index),
                               i.scale);
    const struct {
        const char *name;
        uint64_t value;
    } fields[] = {
        { "disp", i.disp }, { "imm", i.imm }, { "reg", i.reg }, { "rm", i.flags & INSN_MEM ? 0 : i.rm },
        { "vvvv", i.vvvv }, { "is4", i.is4 }, { "vl", i.vl },
    };
    for (unsigned k = 0; k < G_N_ELEMENTS(fields); k++)
        if (fields[k].value)
            g_string_append_printf(s, " %s=%" G_GINT64_MODIFIER "x", fields[k].name, fields[k].value);
    for (unsigned k = 1; k < G_N_ELEMENTS(flags); k++)
        if (i.flags & 1u << k)
            g_string_append_printf(s, " %s", flags[k]);
    return g_string_free(s, FALSE);
}

/* Modes: r real, v virtual-8086 (as real), 1 16-bit protected, 2 32-bit, 3 64-bit. */
static const struct {
    char mode;
    const char *bytes, *want;
} cases[] = {
    /* Addressing */
    { '3', "8b4500", "mov 3 o2 a3 stack:5+-<<0" },
    { '3', "8b4424f8", "mov 4 o2 a3 stack:4+-<<0 disp=fffffffffffffff8" },
    { '3', "418b442400", "mov 5 o2 a3 flat:12+-<<0 rex" },
    { '3', "8b0578563412", "mov 6 o2 a3 flat:rip+-<<0 disp=12345678" },
    { '3', "678b0578563412", "mov 7 o2 a2 flat:rip+-<<0 disp=12345678" },
    { '3', "8b042578563412", "mov 7 o2 a3 flat:-+-<<0 disp=12345678" },
    { '3', "4a8b04e0", "mov 4 o3 a3 flat:0+12<<3 w rex" },
    { '3', "64368b00", "mov 4 o2 a3 fs:0+-<<0" },
    { '3', "2e8b00", "mov 3 o2 a3 flat:0+-<<0" },
    { '2', "8b42fe", "mov 3 o2 a2 ds:2+-<<0 disp=fffffffffffffffe" },
    { '2', "268b4500", "mov 4 o2 a2 es:5+-<<0" },
    { '2', "678b4200", "mov 4 o2 a1 ss:5+6<<0" },
    { '1', "8b0e3412", "mov 4 o1 a1 ds:-+-<<0 disp=1234 reg=1 vvvv=1" },
    { 'r', "8b4600", "mov 3 o1 a1 ss:5+-<<0" },
    { '3', "48a18877665544332211", "mov 10 o3 a3 flat:-+-<<0 disp=1122334455667788 w rex" },
    { '2', "64a378563412", "mov 6 o2 a2 fs:-+-<<0 disp=12345678" },
    /* Implied memory */
    { '3', "f348a5", "movs 3 o3 a3 flat:6+-<<0 rep w rex" },
    { '2', "2ea6", "cmps 2 o0 a2 cs:6+-<<0" },
    { '2', "2eaa", "stos 2 o0 a2 es:7+-<<0" },
    { '3', "65d7", "xlat 2 o0 a3 gs:3+-<<0" },
    { '3', "660ff7ca", "maskmovdqu 4 o1 a3 flat:7+-<<0 reg=1 vvvv=1 opsize" },
    { '3', "0f01c8", "monitor 3 o2 a3 flat:0+-<<0 reg=1 vvvv=1" },
    /* Registers */
    { '3', "88e0", "mov 2 o0 a3 reg=10 vvvv=10" },
    { '3', "4088e0", "mov 3 o0 a3 reg=4 vvvv=4 rex" },
    { '2', "b77f", "mov 2 o0 a2 imm=7f rm=13" },
    { '3', "0feffe", "pxor 3 o2 a3 reg=7 rm=6 vvvv=7" },
    { '3', "4d0feffe", "pxor 4 o3 a3 reg=7 rm=6 vvvv=7 w rex" },
    { '2', "1e", "push 1 o2 a2 reg=3 vvvv=3" },
    { '3', "0fa8", "push 2 o3 a3 reg=5 vvvv=5" },
    { '3', "4993", "xchg 2 o3 a3 rm=b w rex" },
    { '3', "4190", "xchg 2 o2 a3 rm=8 rex" },
    { '3', "90", "nop 1 o2 a3" },
    { '3', "f390", "pause 2 o2 a3" },
    { '3', "f34190", "pause 3 o2 a3 rex" },
    { '3', "6673d9", "jnb 3 o3 a3 disp=ffffffffffffffd9 opsize" },
    { '3', "440f20c0", "mov 4 o3 a3 reg=8 vvvv=8 rex" },
    { '2', "0f2000", "mov 3 o2 a2" },
    { '3', "440f21c0", "ud" },
    { '3', "8ec8", "ud" },
    { '3', "8ef0", "ud" },
    /* Immediates */
    { '3', "4881c0000000ff", "add 7 o3 a3 imm=ffffffffff000000 w rex" },
    { '3', "6683c0ff", "add 4 o1 a3 imm=ffffffffffffffff opsize" },
    { '3', "49bf8877665544332211", "mov 10 o3 a3 imm=1122334455667788 rm=f w rex" },
    { '3', "c1e0ff", "shl 3 o2 a3 imm=ff reg=4 vvvv=4" },
    { '3', "c8341202", "enter 4 o3 a3 imm=200001234" },
    { '2', "ea785634120800", "jmp 7 o2 a2 imm=812345678" },
    { 'r', "9a34120008", "call 5 o1 a1 imm=80000001234" },
    { '3', "66e800000000", "call 6 o3 a3 opsize" },
    { '3', "6668ffff", "push 4 o1 a3 imm=ffffffffffffffff opsize" },
    { '3', "cd80", "int 2 o2 a3 imm=80" },
    /* Vectors */
    { '3', "0f58c1", "addps 3 o2 a3 rm=1" },
    { '3', "660f71d305", "psrlw 5 o1 a3 imm=5 reg=2 rm=3 vvvv=3 opsize" },
    { '3', "c5e971d305", "vpsrlw 5 o2 a3 imm=5 reg=2 rm=3 vvvv=2 vex" },
    { '3', "c5f458d3", "vaddps 4 o2 a3 reg=2 rm=3 vvvv=1 vl=1 vex" },
    { '3', "c5f658d3", "vaddss 4 o2 a3 reg=2 rm=3 vvvv=1 vex" },
    { '3', "c4e3754ad340", "vblendvps 6 o2 a3 imm=40 reg=2 rm=3 vvvv=1 is4=4 vl=1 vex" },
    { '2', "c4e3754ad3f0", "vblendvps 6 o2 a2 imm=f0 reg=2 rm=3 vvvv=1 is4=7 vl=1 vex" },
    { '3', "660f3814d3", "blendvps 5 o1 a3 reg=2 rm=3 vvvv=2 opsize" },
    { '3', "c4a27190542508", "vpgatherdd 7 o2 a3 stack:5+12<<0 disp=8 reg=2 vvvv=1 vex" },
    { '3', "c4e2719054e508", "vpgatherdd 7 o2 a3 stack:5+4<<3 disp=8 reg=2 vvvv=1 vex" },
    { '3', "c4e271904cc508", "ud" }, /* destination and mask are the same */
    { '3', "c4e2719002", "ud" },     /* no SIB */
    { '3', "660f6ec0", "movd 4 o2 a3 opsize" },
    { '3', "66480f6ec0", "movq 5 o3 a3 w rex opsize" },
    { '3', "f2480f2ac1", "cvtsi2sd 5 o3 a3 rm=1 w rex" },
    { '3', "c4e2f3f6c1", "mulx 5 o3 a3 rm=1 vvvv=1 vex w" },
    { '2', "c4e2f3f6c1", "mulx 5 o2 a2 rm=1 vvvv=1 vex" },
    { '3', "f266480f38f1c1", "crc32 7 o3 a3 rm=1 w rex opsize" },
    { '3', "f2480f38f0c1", "crc32 6 o0 a3 rm=1 w rex" },
    /* Prefixes that select */
    { '3', "66f30f58c1", "addss 5 o1 a3 rm=1 opsize" },
    { '3', "f2f30f58c1", "addss 5 o2 a3 rm=1" },
    { '3', "f30f54c1", "ud" },
    { '3', "f30fbdc1", "lzcnt 4 o2 a3 rm=1" },
    { '3', "f20fbdc1", "bsr 4 o2 a3 rm=1 repne" },
    { '3', "660fb8c1", "ud" },
    { '3', "f30f1efa", "endbr64 4 o2 a3 reg=7 rm=2 vvvv=7" },
    { '3', "0f1f440000", "nop 5 o2 a3 flat:0+0<<0" },
    { '3', "48664889c8", "mov 5 o3 a3 reg=1 vvvv=1 w rex opsize" },
    { '3', "486689c8", "mov 4 o1 a3 reg=1 vvvv=1 opsize" },
    { '3', "66c5f458d3", "ud" },
    { '3', "40c5f458d3", "ud" },
    { '3', "c5f077", "ud" }, /* vvvv must be 1111b */
    /* LOCK */
    { '3', "f00108", "add 3 o2 a3 flat:0+-<<0 reg=1 vvvv=1 lock" },
    { '3', "f001c8", "ud" },
    { '3', "f03908", "ud" },
    { '3', "f00308", "ud" },
    { '3', "f00fba2800", "bts 5 o2 a3 flat:0+-<<0 reg=5 vvvv=5 lock" },
    { '3', "f00fba2000", "ud" },
    { '3', "f0480fc708", "cmpxchg16b 5 o3 a3 flat:0+-<<0 reg=1 vvvv=1 lock w rex" },
    { '2', "f00fc708", "cmpxchg8b 4 o3 a2 ds:0+-<<0 reg=1 vvvv=1 lock" },
    /* Modes */
    { '3', "06", "ud" },
    { '2', "06", "push 1 o2 a2" },
    { '3', "63c1", "movsxd 2 o2 a3 rm=1" },
    { '2', "63c1", "arpl 2 o1 a2 rm=1" },
    { '2', "40", "inc 1 o2 a2" },
    { '3', "8200ff", "ud" },
    { '2', "8200ff", "add 3 o0 a2 ds:0+-<<0 imm=ffffffffffffffff" },
    { '2', "62c0", "ud" },
    { '2', "c4c0", "more" },
    { 'r', "c4c0", "ud" },
    { 'r', "c5f058d3", "ud" },
    { '1', "c5f058d3", "vaddps 4 o1 a1 reg=2 rm=3 vvvv=1 vex" },
    { 'v', "c45600", "les 3 o1 a1 ss:5+-<<0 reg=2 vvvv=2" },
    { '3', "0fff00", "ud0 3 o2 a3 flat:0+-<<0" },
    { '3', "0f0b", "ud2 2 o2 a3" },
    { '3', "dd20", "frstor 2 o2 a3 flat:0+-<<0 imm=520 reg=4 vvvv=4" },
    { '3', "66dd20", "frstor 3 o1 a3 flat:0+-<<0 imm=520 reg=4 vvvv=4 opsize" },
    { '3', "d8c5", "fadd 2 o2 a3 imm=c5 rm=5" },
    /* Length */
    { '3', "666666666666666666666666666689c8", "long" },
    { '3', "6666666666666666666666666689c8", "mov 15 o1 a3 reg=1 vvvv=1 opsize" },
    { '3', "66666666666666666666666666666666", "long" },
    { '3', "66666666666666666666666666666606", "long" },
    { '3', "666666666666", "more" },
    { '3', "0f", "more" },
    { '3', "0f38", "more" },
    { '3', "c4e3", "more" },
    { '3', "81c0000000", "more" },
    { '3', "06ffff", "ud" },
};

static void test_cases(void)
{
    unsigned bad = 0;
    for (unsigned k = 0; k < G_N_ELEMENTS(cases); k++) {
        uint8_t bytes[16];
        unsigned n = parse_hex(cases[k].bytes, bytes);
        char m = cases[k].mode;
        unsigned code_size = m == 'r' || m == 'v' ? 1 : m - '0';
        g_autofree char *got = describe(bytes, n, code_size, m != 'r' && m != 'v');
        if (!strcmp(got, cases[k].want))
            continue;
        g_test_message("mode %c, bytes %s: got \"%s\", want \"%s\"", m, cases[k].bytes, got, cases[k].want);
        bad++;
    }
    g_assert_cmpuint(bad, ==, 0);
}

static void test_rows(void)
{
    for (unsigned k = 0; k < insn_row_count; k++) {
        const struct insn_row *row = &insn_rows[k];
        bool vex = row->map >= MAP_VEX_0F && row->map <= MAP_VEX_0F3A;
        g_assert_cmpuint(row->flags_undefined & ~row->flags_written, ==, 0);
        g_assert_false(row->attr & ROW_MEM_ONLY && row->attr & ROW_REG_ONLY);
        g_assert_false(row->attr & ROW_64_ONLY && row->attr & ROW_NO_64);
        g_assert_false(row->attr & ROW_LOCK && row->attr & ROW_REG_ONLY);
        g_assert_true(!(row->attr & (ROW_VEX_L0 | ROW_VEX_L1 | ROW_NO_VVVV)) || vex);
        g_assert_true(!vex || row->prefix != PFX_ANY);
        g_assert_true(row->digit < 0 || row->attr & ROW_MODRM);
        g_assert_true(!(row->attr & ROW_FPU_NOWAIT) || row->attr & ROW_FPU);
    }
}

static void test_disas(void)
{
    static const uint8_t code[] = { 0x48, 0x89, 0xd8, 0x06, 0xc3 };
    g_autoptr(GString) out = g_string_new(NULL);
    disas_print(out, code, sizeof code, 0xffffffff81000000, 3);
    g_assert_cmpstr(out->str, ==,
                    "0xffffffff81000000:  48 89 d8                            mov rax, rbx\n"
                    "0xffffffff81000003:  06                                  .byte 0x06\n"
                    "0xffffffff81000004:  c3                                  ret\n");
    g_string_truncate(out, 0);
    disas_print(out, code + 3, 1, 0x7c00, 1);
    g_assert_cmpstr(out->str, ==, "0x00007c00:  06                                  push es\n");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/decode/cases", test_cases);
    g_test_add_func("/decode/rows", test_rows);
    g_test_add_func("/decode/disas", test_disas);
    return g_test_run();
}
