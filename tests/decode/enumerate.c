/*
 * The decoder against capstone on all of opcode maps x opcodes x ModRM x prefixes that select x modes; SIB,
 * displacement and immediate bytes vary from one to the next. Every row of the table must be met, and every accepted
 * difference; each form that is decoded must have a handler.
 */
#include "tests/lib/decode_compare.h"

#include <string.h>

static struct compare *c;
static unsigned bad;
static bool *met; /* by row */
static bool *unhandled;

/* Bytes behind ModRM: different each time, the same in each run. */
static void fill(uint8_t *b, unsigned n)
{
    static uint64_t s = 0x9e3779b97f4a7c15;
    for (; n; n--) {
        s = s * 6364136223846793005 + 1442695040888963407;
        *b++ = s >> 56;
    }
}

static void try(uint8_t bytes[DECODE_BYTES], unsigned n, unsigned code_size)
{
    struct insn i;
    struct decode_mode mode = { .code_size = code_size, .protected_mode = true };
    fill(bytes + n, DECODE_BYTES - n);
    bad += !compare_one(c, bytes, code_size);
    if (decode_insn(bytes, DECODE_BYTES, mode, &i) != DECODE_OK)
        return;
    met[i.row] = true;
    if (!insn_handler(&i, false) || !insn_handler(&i, true))
        unhandled[i.row] = true;
}

/* All opcodes of the four legacy maps with all ModRM bytes, behind these prefixes. */
static void try_legacy(const char *prefixes, unsigned rex, unsigned code_size)
{
    for (unsigned map = 0; map < 4; map++)
        for (unsigned k = 0; k < 0x10000; k++) {
            uint8_t b[DECODE_BYTES];
            unsigned n = strlen(prefixes);
            memcpy(b, prefixes, n);
            if (rex)
                b[n++] = rex;
            if (map)
                b[n++] = 0x0f;
            if (map > 1)
                b[n++] = map == 2 ? 0x38 : 0x3a;
            b[n++] = k >> 8;
            b[n++] = k;
            try(b, n, code_size);
        }
}

static void test_legacy(void)
{
    static const char *const prefixes[] = { "",     "\x66", "\xf3", "\xf2", "\x66\xf3", "\xf2\x66",
                                            "\x67", "\xf0", "\x2e", "\x64", "\xf0\x66", "\x36\x67\x66" };
    for (unsigned code_size = 1; code_size <= 3; code_size++)
        for (unsigned k = 0; k < G_N_ELEMENTS(prefixes); k++)
            try_legacy(prefixes[k], 0, code_size);
}

static void test_rex(void)
{
    static const char *const prefixes[] = { "", "\x66", "\xf3", "\xf2", "\x67", "\x48\x66" };
    static const uint8_t rex[] = { 0x40, 0x41, 0x42, 0x44, 0x48, 0x4f };
    for (unsigned k = 0; k < G_N_ELEMENTS(prefixes); k++)
        for (unsigned r = 0; r < G_N_ELEMENTS(rex); r++)
            try_legacy(prefixes[k], rex[r], 3);
}

/* All of pp, L, W with vvvv 1111b or another, and sometimes other register extensions. */
static void test_vex(void)
{
    for (unsigned code_size = 1; code_size <= 3; code_size++)
        for (unsigned map = 1; map <= 3; map++)
            for (unsigned k = 0; k < 0x10000; k++)
                for (unsigned form = 0; form < 16; form++) {
                    uint8_t b[DECODE_BYTES], extra[2];
                    fill(extra, 2);
                    b[0] = 0xc4;
                    b[1] = map | (extra[0] & 1 ? 0xe0 : code_size == 3 ? extra[0] & 0xe0 : 0xc0 | (extra[0] & 0x20));
                    b[2] = (form & 7) | (form & 8 ? 0x80 : 0) | (extra[1] & 1 ? 0x78 : extra[1] & 0x78);
                    b[3] = k >> 8;
                    b[4] = k;
                    try(b, 5, code_size);
                }
}

static void test_vex2(void)
{
    for (unsigned code_size = 1; code_size <= 3; code_size++)
        for (unsigned k = 0; k < 0x10000; k++)
            for (unsigned form = 0; form < 8; form++) {
                uint8_t b[DECODE_BYTES], extra;
                fill(&extra, 1);
                b[0] = 0xc5;
                b[1] = form | (code_size == 3 ? extra & 0x80 : 0x80) | (extra & 1 ? 0x78 : (extra & 0x38) | 0x40);
                b[2] = k >> 8;
                b[3] = k;
                try(b, 4, code_size);
            }
}

/* Runs after the others. */
static void test_all_met(void)
{
    compare_report(c);
    g_assert_cmpuint(bad, ==, 0);
    for (unsigned k = 0; k < accept_count; k++)
        if (!c->accepted[k]) {
            g_test_message("accepted difference %u that does not occur: %s", k, accept_table[k].cause);
            bad++;
        }
    for (unsigned k = 0; k < insn_row_count; k++)
        if (!met[k]) {
            g_test_message("row %u, %s, opcode %#x, is never decoded", k, insn_rows[k].mnemonic, insn_rows[k].opcode);
            bad++;
        }
    g_assert_cmpuint(bad, ==, 0);
}

static void test_all_handled(void)
{
    unsigned missing = 0;
    for (unsigned k = 0; k < insn_row_count; k++)
        if (unhandled[k]) {
            g_test_message("row %u, %s, opcode %#x: a form has no handler", k, insn_rows[k].mnemonic,
                           insn_rows[k].opcode);
            missing++;
        }
    g_assert_cmpuint(missing, ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    c = compare_new();
    met = g_new0(bool, insn_row_count);
    unhandled = g_new0(bool, insn_row_count);
    g_test_add_func("/decode/legacy", test_legacy);
    g_test_add_func("/decode/rex", test_rex);
    g_test_add_func("/decode/vex", test_vex);
    g_test_add_func("/decode/vex2", test_vex2);
    g_test_add_func("/decode/all-met", test_all_met);
    g_test_add_func("/decode/all-handled", test_all_handled);
    int r = g_test_run();
    compare_free(c);
    g_free(met);
    g_free(unhandled);
    return r;
}
