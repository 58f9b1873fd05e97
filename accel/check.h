/*
 * Lockstep of the JIT and the interpreter: -accel jit,check=interp.
 */
#ifndef ACCEL_CHECK_H
#define ACCEL_CHECK_H

#include "cpu/cpu.h"

struct check;
struct jit;

struct check *check_new(struct jit *j);
void check_free(struct check *c);
/*
 * Runs the next block in both engines and compares; on the vCPU's thread, within its run loop. Leaves by cpu_raise()
 * with an exception that both agree on. False: they differed; it has been reported and the machine asked to end with
 * code 1.
 */
bool check_run(struct check *c, struct cpu *cpu);

struct check_stats {
    uint64_t blocks, insns; /* run by both */
    uint64_t alone;         /* instructions that only the interpreter ran: devices, counters */
    uint64_t again;         /* blocks that agreed only when run again: a device wrote to memory meanwhile */
};
const struct check_stats *check_get_stats(const struct check *c);

/* --- State of a processor (check_state.c) ------------------------------------------------------------------------- */

/*
 * All that instructions change within struct cpu, but for events that others may post and for the MSRs behind
 * kernel_gs_base, which only WRMSR does.
 */
void check_state_copy(struct cpu *to, const struct cpu *from);
/*
 * Do they show a guest the same, arithmetic flags in `undefined` apart? If not, appends a line for each difference to
 * `out`, if it is not NULL.
 */
bool check_state_equal(const struct cpu *interp, const struct cpu *jit, uint32_t undefined, GString *out);
/* Appends "exactly what was raised". */
void check_print_raised(const struct cpu *cpu, GString *out);

#endif
