/*
 * Nanoseconds that the JIT takes to translate an instruction, decoding included: the guest code is this program's own, translated
 * from wherever a function seems to begin. Nothing of it is run.
 */
#include "config.h"

#include <stdio.h>

#ifdef CONFIG_JIT

#include "accel/jit.h"
#include "tcg/tcg.h"
#include "tests/lib/guest_test.h"

#define LOAD_AT 0x1000000u
#define ROUNDS 5

extern const char __executable_start[], etext[];

GUEST_CODE(enter, GUEST_ENTER_LONG("enter") GUEST_EXIT("0") GUEST_GDT("enter"))

/* Functions are aligned, and behind a return or padding. */
static bool begins_here(const uint8_t *p)
{
    return p[-1] == 0xc3 || p[-1] == 0x90 || p[-1] == 0xcc || (p[-1] == 0 && p[-2] == 0);
}

static struct jit_stats translate(void)
{
    const uint8_t *text = (const uint8_t *)__executable_start;
    size_t size = (size_t)(etext - __executable_start);
    struct guest *g = guest_new(64 << 20, 1, NULL);
    guest_load(g, 0x7c00, enter_start, enter_end);
    guest_load(g, LOAD_AT, text, text + size);
    guest_run(g, 0x7c00, 20);
    struct cpu *cpu = g->m->cpus[0];
    struct jit_stats s;
    jit_enter_thread(jit_of(g->m), cpu);
    for (size_t at = 0x1000; at < size; at += 16) {
        if (!begins_here(text + at))
            continue;
        cpu->rip = LOAD_AT + at;
        jit_update_context(cpu);
        jit_find(jit_of(g->m), cpu, true);
    }
    jit_get_stats(jit_of(g->m), &s);
    guest_free(g);
    return s;
}

int main(void)
{
    uint64_t best = UINT64_MAX;
    struct jit_stats s;
    g_setenv("ACCEL", "jit", TRUE);
    for (unsigned k = 0; k < ROUNDS; k++) {
        s = translate();
        best = MIN(best, s.translate_ns * 10 / s.insns);
    }
    printf("translation: %d.%d ns per instruction, best of %d; %d units of %d instructions, %.1f bytes of code for each\n",
           (int)(best / 10), (int)(best % 10), ROUNDS, (int)s.units, (int)s.insns, (double)s.code_bytes / (double)s.insns);
    return 0;
}

#else

int main(void)
{
    puts("translation: this build has no JIT");
    return 0;
}

#endif
