/* Runs decoder and capstone on the same bytes and classifies how they differ. */
#include "tests/lib/decode_compare.h"

#include <stdio.h>
#include <string.h>

#define MAX_REPORTED 100

struct compare *compare_new(void)
{
    static const cs_mode modes[] = { [1] = CS_MODE_16, [2] = CS_MODE_32, [3] = CS_MODE_64 };
    struct compare *c = g_new0(struct compare, 1);
    for (unsigned k = 1; k <= 3; k++) {
        g_assert_cmpint(cs_open(CS_ARCH_X86, modes[k], &c->handle[k]), ==, CS_ERR_OK);
        cs_option(c->handle[k], CS_OPT_DETAIL, CS_OPT_ON);
    }
    c->insn = cs_malloc(c->handle[3]);
    c->second = cs_malloc(c->handle[3]);
    c->accepted = g_new0(uint64_t, accept_count);
    return c;
}

void compare_free(struct compare *c)
{
    cs_free(c->insn, 1);
    cs_free(c->second, 1);
    for (unsigned k = 1; k <= 3; k++)
        cs_close(&c->handle[k]);
    g_free(c->accepted);
    g_free(c);
}

static unsigned skip_prefixes(const uint8_t *bytes, unsigned code_size)
{
    unsigned k = 0;
    for (; k < DECODE_BYTES - 1; k++) {
        uint8_t b = bytes[k];
        bool prefix = b == 0x26 || b == 0x2e || b == 0x36 || b == 0x3e || (b >= 0x64 && b <= 0x67) || b == 0xf0 ||
                      b == 0xf2 || b == 0xf3 || (code_size == 3 && (b & 0xf0) == 0x40);
        if (!prefix)
            break;
    }
    return k;
}

/* Capstone puts lock and rep before the name. */
static const char *bare_mnemonic(const char *s)
{
    static const char *const words[] = { "lock ",  "rep ",      "repe ",     "repz ", "repne ",
                                         "repnz ", "xacquire ", "xrelease ", "bnd ",  "notrack " };
    bool again = true;
    while (again) {
        again = false;
        for (unsigned k = 0; k < G_N_ELEMENTS(words); k++)
            if (g_str_has_prefix(s, words[k])) {
                s += strlen(words[k]);
                again = true;
            }
    }
    return s;
}

static bool is_accepted(struct compare *c, const struct accept *a, const struct compared *x);

static enum difference classify(const struct compared *x)
{
    if (!x->row && !x->cs)
        return DIFFER_NOT;
    if (!x->cs)
        return DIFFER_ONLY_WE;
    if (!x->row)
        return DIFFER_ONLY_THEY;
    if (x->cs->size != x->insn.len)
        return DIFFER_LENGTH;
    if (!expect_mnemonic(x))
        return DIFFER_MNEMONIC;
    return expect_operands(x, OPERAND__, OPERAND__) ? DIFFER_NOT : DIFFER_OPERANDS;
}

static void report(struct compare *c, const struct compared *x)
{
    static const char *const names[] = { "none", "only we", "only capstone", "length", "mnemonic", "operands" };
    if (c->reported++ >= MAX_REPORTED)
        return;
    printf("# %2u bit, %s:", 8u << x->code_size, names[x->difference]);
    for (unsigned k = 0; k < DECODE_BYTES; k++)
        printf(" %02x", x->bytes[k]);
    if (x->row)
        printf(" | %u %s osize %u asize %u seg %u reg %u rm %u vvvv %u base %u index %u", x->insn.len, x->row->mnemonic,
               x->insn.osize, x->insn.asize, x->insn.seg, x->insn.reg, x->insn.rm, x->insn.vvvv, x->insn.base,
               x->insn.index);
    if (x->cs)
        printf(" | %u %s %s", x->cs->size, x->cs->mnemonic, x->cs->op_str);
    printf("\n");
}

void compare_decode(struct compared *x, csh handle, cs_insn *insn, const uint8_t bytes[DECODE_BYTES],
                    unsigned code_size)
{
    struct decode_mode mode = { .code_size = code_size, .protected_mode = true };
    const uint8_t *p = bytes;
    size_t left = DECODE_BYTES;
    uint64_t address = 0;
    *x = (struct compared){ .bytes = bytes, .code_size = code_size };
    x->row = decode_insn(bytes, DECODE_BYTES, mode, &x->insn) == DECODE_OK ? insn_row(&x->insn) : NULL;
    if (cs_disasm_iter(handle, &p, &left, &address, insn)) {
        x->cs = insn;
        x->mnemonic = bare_mnemonic(insn->mnemonic);
    }
    x->opcode_at = skip_prefixes(bytes, code_size);
    x->difference = classify(x);
}

/* The same instruction but for its length and prefixes that do nothing? */
static bool same_insn(const struct accept *a, const struct compared *x, const struct compared *y)
{
    const struct insn *i = &x->insn, *k = &y->insn;
    bool memory = i->flags & INSN_MEM, vector = x->row->attr & (ROW_SSE | ROW_MMX);
    if (!y->row || i->len - x->opcode_at != k->len - y->opcode_at || (i->row != k->row && !a->other_row) ||
        (i->asize != k->asize && !a->other_asize))
        return false;
    return i->imm == k->imm && i->disp == k->disp && i->base == k->base && i->index == k->index &&
           i->scale == k->scale && (a->other_row || (i->reg == k->reg && i->vvvv == k->vvvv)) && i->rm == k->rm &&
           i->is4 == k->is4 && i->vl == k->vl && (i->osize == k->osize || vector || a->other_row) &&
           (i->seg == k->seg || !memory);
}

/* Is the rewritten form seen alike, at least after differences that need no rewriting? */
static bool rewritten_matches(struct compare *c, const struct accept *a, const struct compared *x,
                              const struct compared *y)
{
    bool alike = y->difference == DIFFER_NOT;
    for (unsigned k = 0; k < accept_count && !alike; k++)
        if (!accept_table[k].rewrite && is_accepted(c, &accept_table[k], y)) {
            c->accepted[k]++;
            alike = true;
        }
    return alike && (!x->row || same_insn(a, x, y));
}

static bool is_accepted(struct compare *c, const struct accept *a, const struct compared *x)
{
    uint8_t bytes[DECODE_BYTES] = { 0 };
    unsigned code_size = x->code_size;
    struct compared y;
    if (a->difference != x->difference || (a->names && !expect_word(x->row ? x->row->mnemonic : x->mnemonic, a->names)))
        return false;
    if (a->applies && !a->applies(x))
        return false;
    if (a->from != a->to && !expect_operands(x, a->from, a->to))
        return false;
    if (!a->rewrite)
        return true;
    if (!a->rewrite(x, bytes, &code_size) || (code_size == x->code_size && !memcmp(bytes, x->bytes, x->insn.len)))
        return false;
    compare_decode(&y, c->handle[code_size], c->second, bytes, code_size);
    return rewritten_matches(c, a, x, &y);
}

bool compare_one(struct compare *c, const uint8_t bytes[DECODE_BYTES], unsigned code_size)
{
    struct compared x;
    compare_decode(&x, c->handle[code_size], c->insn, bytes, code_size);
    c->count++;
    c->decoded += x.row != NULL;
    if (x.difference == DIFFER_NOT) {
        c->equal++;
        return true;
    }
    for (unsigned k = 0; k < accept_count; k++)
        if (is_accepted(c, &accept_table[k], &x)) {
            c->accepted[k]++;
            return true;
        }
    report(c, &x);
    return false;
}

void compare_report(const struct compare *c)
{
    printf("# %" G_GUINT64_FORMAT " encodings, %" G_GUINT64_FORMAT " of them instructions, %" G_GUINT64_FORMAT
           " seen alike\n",
           c->count, c->decoded, c->equal);
    for (unsigned k = 0; k < accept_count; k++)
        printf("# %10" G_GUINT64_FORMAT " accepted: %s\n", c->accepted[k], accept_table[k].cause);
    fflush(stdout);
}
