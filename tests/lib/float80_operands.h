/*
 * 80-bit operands for tests: the special ones, and random ones that often lie where something happens. Random numbers
 * are GLib's test generator's, so that --seed repeats a run.
 */
#ifndef TESTS_LIB_FLOAT80_OPERANDS_H
#define TESTS_LIB_FLOAT80_OPERANDS_H

#include "cpu/state.h"

extern const struct float80 operand_specials[];
extern const unsigned operand_special_count;

/* Special operand n / 2, negative for odd n. */
struct float80 operand_special(unsigned n);
struct float80 operand_random(void);
/* For a second operand: often with an exponent near that of the first. */
struct float80 operand_near(struct float80 a);
/* A control word: any rounding, any precision; exceptions masked in half of the cases. */
uint16_t operand_control(void);
uint64_t operand_random64(void);

/* Results that are the same, or with `ulp` neighbours. */
bool operand_alike(struct float80 a, struct float80 b, bool ulp);

#endif
