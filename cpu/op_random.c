/*
 * RDRAND and RDSEED, from the host's entropy. Intel SDM volume 2.
 *
 * The host's source never runs dry for long, so CF is always 1. Thread: the vCPU's own.
 */
#include "cpu/mem.h"
#include "cpu/op_form.h"

#include <errno.h>
#include <unistd.h>

static void random_to_register(struct cpu *cpu, const struct insn *i)
{
    uint64_t v;
    if (getentropy(&v, sizeof v))
        g_error("getentropy: %s", g_strerror(errno)); /* only for a bad length or pointer */
    reg_set(cpu, i->rm, v, i->osize);
    cpu->rflags = (cpu->rflags & ~(uint64_t)FLAGS_ARITH) | FLAG_CF;
}

static void rdrand_fn(struct cpu *cpu, const struct insn *i)
{
    random_to_register(cpu, i);
}
OP_FORM_ONE(rdrand)

static void rdseed_fn(struct cpu *cpu, const struct insn *i)
{
    random_to_register(cpu, i);
}
OP_FORM_ONE(rdseed)
