/*
 * The decoder against capstone: length, validity, mnemonic, operands of one encoding at a time.
 *
 * Differences that are not ours are listed by cause in decode_accept.c, each with how it is recognized and why it is
 * right. All else fails the test. Not thread-safe: one struct compare per process.
 */
#ifndef TESTS_LIB_DECODE_COMPARE_H
#define TESTS_LIB_DECODE_COMPARE_H

#include "cpu/insn.h"

#include <capstone/capstone.h>
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define DECODE_BYTES 15

/* In what the two differ; the first that applies. */
enum difference {
    DIFFER_NOT,
    DIFFER_ONLY_WE, /* capstone says: no instruction */
    DIFFER_ONLY_THEY,
    DIFFER_LENGTH,
    DIFFER_MNEMONIC,
    DIFFER_OPERANDS,
};

/* One encoding as both see it. */
struct compared {
    const uint8_t *bytes;
    unsigned code_size;
    enum difference difference;
    struct insn insn;
    const struct insn_row *row; /* NULL: we find no instruction */
    const cs_insn *cs;          /* NULL: capstone finds none */
    const char *mnemonic;       /* capstone's, without prefix words */
    unsigned opcode_at;         /* offset of the first byte behind legacy prefixes and REX */
};

struct compare {
    csh handle[4]; /* by code size */
    cs_insn *insn, *second;
    uint64_t count, equal, decoded;
    uint64_t *accepted; /* by entry of accept_table */
    unsigned reported;
};

struct compare *compare_new(void);
void compare_free(struct compare *c);
/* Prints an unexpected difference (the first hundred) and returns false. */
bool compare_one(struct compare *c, const uint8_t bytes[DECODE_BYTES], unsigned code_size);
/* Totals and accepted differences as TAP comments. */
void compare_report(const struct compare *c);

/* Runs both; `insn` is capstone's room. */
void compare_decode(struct compared *x, csh handle, cs_insn *insn, const uint8_t bytes[DECODE_BYTES],
                    unsigned code_size);

/* --- decode_expect.c --- */

/* Is this what capstone calls this instruction? */
bool expect_mnemonic(const struct compared *x);
/* Do capstone's operands say the same as ours? With operand code `to` in place of `from` (OPERAND__: none). */
bool expect_operands(const struct compared *x, unsigned from, unsigned to);
/* Is `word` in a list of words with one space between? */
bool expect_word(const char *word, const char *list);

/* --- decode_accept.c --- */

/*
 * An accepted difference: of this kind, with this name (ours, or capstone's if we find nothing), and what the functions
 * say. A rewritten form must be seen alike by both, and by us as the same as the original.
 */
struct accept {
    enum difference difference;
    const char *cause;
    const char *names;                         /* list of mnemonics; NULL: any */
    uint8_t from, to;                          /* the operands match if one operand code is read as another */
    bool (*applies)(const struct compared *x); /* or NULL */
    /* Fills another form that shows the same without the cause; false: there is none. Or NULL. */
    bool (*rewrite)(const struct compared *x, uint8_t bytes[DECODE_BYTES], unsigned *code_size);
    bool other_row;   /* the rewritten form is another instruction with the same operands */
    bool other_asize; /* and it has the other address size */
};
extern const struct accept accept_table[];
extern const unsigned accept_count;

#endif
