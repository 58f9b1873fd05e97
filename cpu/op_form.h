/*
 * How handler families are made: one always-inline body with size, mem and dead as arguments, and tables of functions
 * that call it with constants.
 *
 * The body of family `name` is name_op(cpu, insn, size, mem, dead); OP_FORMS_* make the functions and `const struct
 * op op_name`. A family takes the macro that tells in what its forms differ; the others share a function.
 */
#ifndef CPU_OP_FORM_H
#define CPU_OP_FORM_H

#include "cpu/insn.h"
#include "cpu/ops.h"

#include <glib.h>

#define OP_BODY static G_ALWAYS_INLINE inline void

#define OP_FN(name, size, mem, dead) \
    static void name##_##size##mem##dead(struct cpu *cpu, const struct insn *i) \
    { \
        name##_op(cpu, i, size, mem, dead); \
    }
#define OP_FN_SIZES(name, mem, dead) \
    OP_FN(name, 0, mem, dead) OP_FN(name, 1, mem, dead) OP_FN(name, 2, mem, dead) OP_FN(name, 3, mem, dead)

#define OP_REF(name, size, mem, dead) name##_##size##mem##dead
/* Size, operand kind and flags: all sixteen. */
#define OP_FORMS(name) \
    OP_FN_SIZES(name, 0, 0) OP_FN_SIZES(name, 0, 1) OP_FN_SIZES(name, 1, 0) OP_FN_SIZES(name, 1, 1) \
    const struct op op_##name = { #name, { \
        { { OP_REF(name, 0, 0, 0), OP_REF(name, 0, 0, 1) }, { OP_REF(name, 0, 1, 0), OP_REF(name, 0, 1, 1) } }, \
        { { OP_REF(name, 1, 0, 0), OP_REF(name, 1, 0, 1) }, { OP_REF(name, 1, 1, 0), OP_REF(name, 1, 1, 1) } }, \
        { { OP_REF(name, 2, 0, 0), OP_REF(name, 2, 0, 1) }, { OP_REF(name, 2, 1, 0), OP_REF(name, 2, 1, 1) } }, \
        { { OP_REF(name, 3, 0, 0), OP_REF(name, 3, 0, 1) }, { OP_REF(name, 3, 1, 0), OP_REF(name, 3, 1, 1) } } } };

/* Size and operand kind; no arithmetic flag is written, or it is not worth a form of its own. */
#define OP_FORMS_SIZE_MEM(name) \
    OP_FN_SIZES(name, 0, 0) OP_FN_SIZES(name, 1, 0) \
    const struct op op_##name = { #name, { \
        { { OP_REF(name, 0, 0, 0), OP_REF(name, 0, 0, 0) }, { OP_REF(name, 0, 1, 0), OP_REF(name, 0, 1, 0) } }, \
        { { OP_REF(name, 1, 0, 0), OP_REF(name, 1, 0, 0) }, { OP_REF(name, 1, 1, 0), OP_REF(name, 1, 1, 0) } }, \
        { { OP_REF(name, 2, 0, 0), OP_REF(name, 2, 0, 0) }, { OP_REF(name, 2, 1, 0), OP_REF(name, 2, 1, 0) } }, \
        { { OP_REF(name, 3, 0, 0), OP_REF(name, 3, 0, 0) }, { OP_REF(name, 3, 1, 0), OP_REF(name, 3, 1, 0) } } } };

/* Size only; the operand kind is implied. */
#define OP_FORMS_SIZE(name) \
    OP_FN_SIZES(name, 0, 0) \
    const struct op op_##name = { #name, { \
        { { OP_REF(name, 0, 0, 0), OP_REF(name, 0, 0, 0) }, { OP_REF(name, 0, 0, 0), OP_REF(name, 0, 0, 0) } }, \
        { { OP_REF(name, 1, 0, 0), OP_REF(name, 1, 0, 0) }, { OP_REF(name, 1, 0, 0), OP_REF(name, 1, 0, 0) } }, \
        { { OP_REF(name, 2, 0, 0), OP_REF(name, 2, 0, 0) }, { OP_REF(name, 2, 0, 0), OP_REF(name, 2, 0, 0) } }, \
        { { OP_REF(name, 3, 0, 0), OP_REF(name, 3, 0, 0) }, { OP_REF(name, 3, 0, 0), OP_REF(name, 3, 0, 0) } } } };

/* One plain function name_fn(cpu, insn) for all forms. */
#define OP_FORM_ONE(name) \
    const struct op op_##name = { #name, { \
        { { name##_fn, name##_fn }, { name##_fn, name##_fn } }, \
        { { name##_fn, name##_fn }, { name##_fn, name##_fn } }, \
        { { name##_fn, name##_fn }, { name##_fn, name##_fn } }, \
        { { name##_fn, name##_fn }, { name##_fn, name##_fn } } } };

#endif
