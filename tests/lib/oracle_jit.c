/*
 * Runs one instruction as translated code: see the header. The unit ends behind the instruction, as it would for
 * lockstep, so that nothing but this instruction is compared.
 */
#include "config.h"
#include "tests/lib/oracle.h"

#ifdef CONFIG_JIT

#include "accel/jit.h"
#include "cpu/block.h"
#include "cpu/excp.h"
#include "tcg/tcg.h"

#include <setjmp.h>

static enum oracle_way run_translated(struct jit *j, struct cpu *cpu, unsigned row)
{
    uint64_t calls = cpu->handler_calls[row];
    volatile bool translated = false;
    sigjmp_buf env;

    cpu->unwind = &env;
    switch (sigsetjmp(env, 0)) {
    case 0:
        jit_update_context(cpu);
        const void *code = jit_find_straight(j, cpu, 1, true);
        __atomic_store_n(&cpu->poll, 0, __ATOMIC_RELAXED); /* changed code is a reason to look around */
        translated = code;
        if (code)
            jit_run(j, cpu, code);
        else
            cpu_run_block(cpu, block_find(cpu, true));
        break;
    case EXCP_UNWIND_RETRY:
        jit_unwind(j, cpu);
        return run_translated(j, cpu, row);
    default:
        jit_unwind(j, cpu);
        excp_take_raised(cpu);
    }
    if (!translated)
        return ORACLE_BY_INTERPRETER;
    return cpu->handler_calls[row] == calls ? ORACLE_BY_TEMPLATE : ORACLE_BY_HANDLER;
}

enum oracle_way oracle_jit_step(struct cpu *cpu, unsigned row)
{
    struct jit *j = jit_of(cpu->machine);

    jit_enter_thread(j, cpu);
    return run_translated(j, cpu, row);
}

void oracle_jit_spoil(struct cpu *cpu, const char *mnemonic)
{
    jit_spoil(jit_of(cpu->machine), mnemonic);
}

#else

enum oracle_way oracle_jit_step(struct cpu *cpu, unsigned row)
{
    g_assert_not_reached();
}

void oracle_jit_spoil(struct cpu *cpu, const char *mnemonic)
{
    g_assert_not_reached();
}

#endif
