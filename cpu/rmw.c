/*
 * LOCK where the host has no atomic operation for it: devices, two pages, odd addresses.
 *
 * The handler runs again as if it had no LOCK, while every other processor of the machine is outside guest code. A
 * fault in there must not skip the end of the exclusive section, so it is caught and passed on behind it.
 */
#include "cpu/rmw.h"

#include <setjmp.h>

struct exclusive_run {
    const struct insn *insn;
    int raised; /* what siglongjmp passed, or 0 */
};

static void run_in_section(struct cpu *cpu, void *arg)
{
    struct exclusive_run *run = arg;
    struct insn copy = *run->insn;
    sigjmp_buf here;
    sigjmp_buf *outer = cpu->unwind;

    copy.flags |= INSN_EXCLUSIVE;
    cpu->unwind = &here;
    run->raised = sigsetjmp(here, 0);
    if (run->raised == 0)
        copy.fn(cpu, &copy);
    cpu->unwind = outer;
}

void rmw_run_exclusive(struct cpu *cpu, const struct insn *i)
{
    struct exclusive_run run = { .insn = i };

    cpu->host->exclusive(cpu, run_in_section, &run);
    if (run.raised)
        siglongjmp(*cpu->unwind, run.raised);
}
