/* Between the parts of the generator of random code: blocks_gen.c (instructions), blocks_compose.c (their order). */
#ifndef TESTS_LIB_BLOCKS_BUILD_H
#define TESTS_LIB_BLOCKS_BUILD_H

#include "tests/lib/blocks.h"
#include "tests/lib/oracle_values.h"

enum row_class {
    CLASS_INTEGER, CLASS_SSE, CLASS_AVX, CLASS_X87, CLASS_MMX, CLASS_STRING, CLASS_JUMP, CLASS_SYSTEM, CLASSES
};

#define MAX_LABELS 48
#define MAX_REFERENCES 64
#define MAX_SKIPS 8

/*
 * RELATIVE: to the end of the field, which ends the instruction. IP: as RIP counts; ALIAS: likewise, by another linear
 * address of the same code. DATA: as an offset in DS.
 */
enum refer { REFER_RELATIVE, REFER_IP, REFER_ALIAS, REFER_DATA };

struct reference {
    uint16_t at;
    uint8_t size, kind;
    int8_t label;
};

/* What is known where code jumps from: it has to hold at the label, too. */
struct label {
    bool referred;
    uint16_t undef, known;
    uint64_t value[16];
};

/* A label to be placed after some more instructions. */
struct skip {
    int label;
    unsigned left;
};

struct blocks_gen {
    struct oracle_gen g;
    struct oracle_address address;
    GArray *rows[2][CLASSES]; /* uint16_t; by whether it is 64-bit code */
    struct blocks_case *c;
    uint64_t code_base, data_base, code_linear;
    uint64_t alias_base; /* where the code is seen, too */
    bool supervisor;   /* code is in pages that users have no access to */
    uint16_t known;    /* general registers whose `value` holds at this place */
    uint64_t value[16];
    uint16_t undef;    /* flags undefined at this place */
    uint32_t pointers; /* registers that should keep their value, */
    uint32_t counters; /* ... that must */
    struct label labels[MAX_LABELS];
    unsigned label_count;
    struct reference references[MAX_REFERENCES];
    unsigned reference_count;
    struct skip skips[MAX_SKIPS];
    unsigned skip_count;
    const uint8_t *weights; /* by row class */
    unsigned system;        /* percent of pieces that are system code */
    unsigned *used;         /* by row: instances made so far */
};

/* blocks_gen.c */
uint64_t blocks_data_address(struct blocks_gen *b, bool aligned);
void blocks_emit(struct blocks_gen *b, const uint8_t *bytes, unsigned len);
void blocks_define_flags(struct blocks_gen *b);
unsigned blocks_move(struct blocks_gen *b, unsigned r, uint64_t v);
void blocks_plain(struct blocks_gen *b, enum row_class k);
unsigned blocks_short(struct blocks_gen *b, uint8_t *bytes, unsigned most, struct insn *i);

/* blocks_compose.c. A label: -1 if there are too many. */
int blocks_label(struct blocks_gen *b);
void blocks_refer(struct blocks_gen *b, int label, enum refer kind, unsigned at, unsigned size);
void blocks_compose(struct blocks_gen *b);

#endif
