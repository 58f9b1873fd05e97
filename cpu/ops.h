/*
 * Handler families: op_<name> for each name in the first column of cpu/insn.def. Each is defined in one of cpu/op_*.c.
 */
#ifndef CPU_OPS_H
#define CPU_OPS_H

#include "cpu/insn.h"

#define INSN(name, ...) extern const struct op op_##name;
#include "cpu/insn.def"
#undef INSN

static inline bool op_is_one_of(const struct op *op, const struct op *const *list, unsigned count)
{
    for (unsigned k = 0; k < count; k++)
        if (list[k] == op)
            return true;
    return false;
}

#endif
