/*
 * REP string instructions leave between elements when something is due, and go on where they were: the interpreter's
 * handlers and the JIT.
 */
#include "cpu/mem.h"
#include "tests/lib/oracle.h"

#include <string.h>

#define PAGE(n) (ORACLE_DATA + (n) * ORACLE_PAGE)

static uint8_t memory[ORACLE_DATA_BYTES];
static struct oracle_outcome out;

/* How they are run: handlers by themselves, whose number of calls is known; or an engine. */
struct way {
    const char *name, *engine;
    bool handlers;
};
static const struct way ways[] = { { "handlers", "interp", true }, { "jit", "jit,flags=precise", false } };

/* `rep`, then the opcode; RSI in page 1, RDI in page 4. */
static struct oracle_case string_case(uint8_t rep, uint8_t opcode, uint64_t rsi, uint64_t rdi, uint64_t count)
{
    struct oracle_case c = { .code = { rep, opcode }, .len = 2, .memory = memory };
    struct decode_mode mode = { .code_size = 3, .protected_mode = true };
    g_assert_cmpint(decode_insn(c.code, 15, mode, &c.insn), ==, DECODE_OK);
    c.in.rip = ORACLE_CODE + 0x40;
    c.in.rflags = FLAGS_FIXED | FLAG_IF;
    c.in.mxcsr = 0x1f80;
    c.in.fcw = 0x37f;
    c.in.r[R_RSI] = rsi;
    c.in.r[R_RDI] = rdi;
    c.in.r[R_RCX] = count;
    return c;
}

/* Once, with what is pending. */
static void run_once(const struct way *w, struct oracle_guest *g, const struct oracle_case *c)
{
    if (w->handlers)
        oracle_guest_call(g, c, insn_handler(&c->insn, false), &out);
    else
        oracle_guest_run(g, c, &out);
}

/*
 * Until RIP moves on, with `events` pending. It takes so many times; an engine may do with fewer, as it looks at events before it
 * begins and has done so here (that it looks in between, too, tests/guest/events shows).
 */
static void run_until_done(const struct way *w, struct oracle_guest *g, struct oracle_case *c, uint32_t events,
                           unsigned expected)
{
    unsigned calls = 0;
    uint64_t before = c->in.r[R_RCX];

    do {
        cpu_event_set(oracle_guest_cpu(g), events);
        run_once(w, g, c);
        cpu_event_clear(oracle_guest_cpu(g), events);
        g_assert_cmpint(out.vector, ==, -1);
        g_assert_cmpuint(++calls, <, 100000);
        if (out.regs.rip == c->in.rip) {
            g_assert_cmpuint(out.regs.r[R_RCX], <, before);
            g_assert_cmpuint(out.regs.r[R_RCX], >, 0);
        }
        before = out.regs.r[R_RCX];
        uint64_t rip = c->in.rip;
        c->in = out.regs;
        c->in.rip = rip;
        memcpy(memory, out.memory, sizeof memory);
    } while (out.regs.rip != c->in.rip + c->len);
    g_assert_cmpuint(calls, <=, expected);
    g_assert_cmpuint(calls, >=, w->handlers ? expected : 1);
}

static void fill_page_1(void)
{
    for (unsigned n = 0; n < ORACLE_PAGE; n++)
        memory[ORACLE_PAGE + n] = (uint8_t)(n * 7 + n / 256);
    memset(memory + 4 * ORACLE_PAGE, 0, ORACLE_PAGE);
}

static void test_pause(const void *data)
{
    const struct way *w = data;
    struct oracle_guest *g = oracle_guest_new(w->engine);

    /* A page's worth at a time */
    fill_page_1();
    struct oracle_case c = string_case(0xf3, 0xa4, PAGE(1), PAGE(4) + 16, 4000);
    run_until_done(w, g, &c, CPU_EVENT_KICK, 1);
    g_assert_cmpmem(memory + 4 * ORACLE_PAGE + 16, 4000, memory + ORACLE_PAGE, 4000);
    g_assert_cmpuint(out.regs.r[R_RSI], ==, PAGE(1) + 4000);
    g_assert_cmpuint(out.regs.r[R_RDI], ==, PAGE(4) + 4016);
    g_assert_cmpuint(out.regs.r[R_RCX], ==, 0);

    /* Across a page boundary it looks at events in between, and not when there are none. */
    fill_page_1();
    c = string_case(0xf3, 0xaa, 0, PAGE(1) + 100, 8000);
    c.in.r[R_RAX] = 0x5a;
    run_until_done(w, g, &c, CPU_EVENT_KICK, 2);
    for (unsigned n = 0; n < 8000; n++)
        g_assert_cmpuint(memory[ORACLE_PAGE + 100 + n], ==, 0x5a);
    c = string_case(0xf3, 0xaa, 0, PAGE(1) + 100, 8000);
    run_until_done(w, g, &c, 0, 1);

    /* Backward, and comparing: element by element */
    fill_page_1();
    c = string_case(0xf3, 0xa4, PAGE(1) + 99, PAGE(4) + 99, 100);
    c.in.rflags |= FLAG_DF;
    run_until_done(w, g, &c, CPU_EVENT_NMI, 100);
    g_assert_cmpmem(memory + 4 * ORACLE_PAGE, 100, memory + ORACLE_PAGE, 100);
    c = string_case(0xf3, 0xa6, PAGE(1), PAGE(4), 200);
    run_until_done(w, g, &c, CPU_EVENT_NMI, 101);
    g_assert_cmpuint(out.regs.r[R_RCX], ==, 99);
    oracle_guest_free(g);
}

/* An interrupt that IF holds back is no reason to leave. */
static void test_masked(const void *data)
{
    const struct way *w = data;
    struct oracle_guest *g = oracle_guest_new(w->engine);

    fill_page_1();
    struct oracle_case c = string_case(0xf3, 0xac, PAGE(1), 0, 300);
    c.in.rflags &= ~(uint64_t)FLAG_IF;
    run_until_done(w, g, &c, CPU_EVENT_INTR, 1);
    c = string_case(0xf3, 0xac, PAGE(1), 0, 300);
    run_until_done(w, g, &c, CPU_EVENT_INTR, 300);
    oracle_guest_free(g);
}

/* A fault at an element leaves the registers there: what came before is done and not done again. */
static void test_fault(const void *data)
{
    const struct way *w = data;
    struct oracle_guest *g = oracle_guest_new(w->engine);

    fill_page_1();
    struct oracle_case c = string_case(0xf3, 0xa5, PAGE(1), PAGE(5) - 32, 20);
    run_once(w, g, &c);
    g_assert_cmpint(out.vector, ==, EXC_PF);
    g_assert_cmpuint(out.address, ==, PAGE(5));
    g_assert_cmpuint(out.regs.rip, ==, c.in.rip);
    g_assert_cmpuint(out.regs.r[R_RCX], ==, 12);
    g_assert_cmpuint(out.regs.r[R_RSI], ==, PAGE(1) + 32);
    g_assert_cmpuint(out.regs.r[R_RDI], ==, PAGE(5));
    oracle_guest_free(g);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        GTestDataFunc fn;
    } tests[] = { { "pause", test_pause }, { "masked", test_masked }, { "fault", test_fault } };

    g_test_init(&argc, &argv, NULL);
    for (unsigned k = 0; k < G_N_ELEMENTS(ways); k++) {
        struct oracle_guest *g = oracle_guest_new(ways[k].engine);
        for (unsigned n = 0; n < G_N_ELEMENTS(tests) && g; n++) {
            g_autofree char *path = g_strdup_printf("/strings/%s/%s", ways[k].name, tests[n].name);
            g_test_add_data_func(path, &ways[k], tests[n].fn);
        }
        oracle_guest_free(g);
    }
    return g_test_run();
}
