/*
 * The code that all units share.
 */
#ifndef TCG_X86_64_ENTRY_H
#define TCG_X86_64_ENTRY_H

#include "tcg/x86_64/gen.h"

void entry_emit(struct backend *b, struct emit *e);
/* The part of it that moves x87 registers (x87.c). */
void x87_emit(struct backend *b, struct emit *e);
/* The one for SYSCALL, SYSRET and IRET, which uses b->jump (gen_privilege.c). */
void privilege_emit(struct backend *b, struct emit *e);
/* The one for repeated string instructions (gen_string.c). */
void string_emit(struct backend *b, struct emit *e);

#endif
