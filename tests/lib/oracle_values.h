/* Random values for the oracle's generator; oracle_values.c. */
#ifndef TESTS_LIB_ORACLE_VALUES_H
#define TESTS_LIB_ORACLE_VALUES_H

#include "tests/lib/oracle.h"

unsigned oracle_below(struct oracle_gen *g, unsigned n);
bool oracle_percent(struct oracle_gen *g, unsigned p);
uint64_t oracle_integer(struct oracle_gen *g);
uint32_t oracle_f32(struct oracle_gen *g);
uint64_t oracle_f64(struct oracle_gen *g);
struct float80 oracle_f80(struct oracle_gen *g);
void oracle_fill_vector(struct oracle_gen *g, void *p, unsigned bytes);
void oracle_fill_memory(struct oracle_gen *g);
/* All registers but RIP. */
void oracle_fill_regs(struct oracle_gen *g, struct oracle_regs *r);

#endif
