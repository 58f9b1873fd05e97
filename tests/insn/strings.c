/* REP string instructions leave between elements when something is due, and go on where they were. */
#include "cpu/mem.h"
#include "tests/lib/oracle.h"

#include <string.h>

#define PAGE(n) (ORACLE_DATA + (n) * ORACLE_PAGE)

static uint8_t memory[ORACLE_DATA_BYTES];
static struct oracle_outcome out;

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

/* Calls the handler until RIP moves on, with `events` pending; returns how often. */
static unsigned call_until_done(struct oracle_guest *g, struct oracle_case *c, uint32_t events)
{
    unsigned calls = 0;
    uint64_t before = c->in.r[R_RCX];

    do {
        cpu_event_set(oracle_guest_cpu(g), events);
        oracle_guest_call(g, c, insn_handler(&c->insn, false), &out);
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
    return calls;
}

static void fill_page_1(void)
{
    for (unsigned n = 0; n < ORACLE_PAGE; n++)
        memory[ORACLE_PAGE + n] = (uint8_t)(n * 7 + n / 256);
    memset(memory + 4 * ORACLE_PAGE, 0, ORACLE_PAGE);
}

static void test_pause(void)
{
    struct oracle_guest *g = oracle_guest_new();

    /* A page's worth at a time */
    fill_page_1();
    struct oracle_case c = string_case(0xf3, 0xa4, PAGE(1), PAGE(4) + 16, 4000);
    g_assert_cmpuint(call_until_done(g, &c, CPU_EVENT_KICK), ==, 1);
    g_assert_cmpmem(memory + 4 * ORACLE_PAGE + 16, 4000, memory + ORACLE_PAGE, 4000);
    g_assert_cmpuint(out.regs.r[R_RSI], ==, PAGE(1) + 4000);
    g_assert_cmpuint(out.regs.r[R_RDI], ==, PAGE(4) + 4016);
    g_assert_cmpuint(out.regs.r[R_RCX], ==, 0);

    /* Across a page boundary it looks at events in between, and not when there are none. */
    fill_page_1();
    c = string_case(0xf3, 0xaa, 0, PAGE(1) + 100, 8000);
    c.in.r[R_RAX] = 0x5a;
    g_assert_cmpuint(call_until_done(g, &c, CPU_EVENT_KICK), ==, 2);
    for (unsigned n = 0; n < 8000; n++)
        g_assert_cmpuint(memory[ORACLE_PAGE + 100 + n], ==, 0x5a);
    c = string_case(0xf3, 0xaa, 0, PAGE(1) + 100, 8000);
    g_assert_cmpuint(call_until_done(g, &c, 0), ==, 1);

    /* Backward, and comparing: element by element */
    fill_page_1();
    c = string_case(0xf3, 0xa4, PAGE(1) + 99, PAGE(4) + 99, 100);
    c.in.rflags |= FLAG_DF;
    g_assert_cmpuint(call_until_done(g, &c, CPU_EVENT_NMI), ==, 100);
    g_assert_cmpmem(memory + 4 * ORACLE_PAGE, 100, memory + ORACLE_PAGE, 100);
    c = string_case(0xf3, 0xa6, PAGE(1), PAGE(4), 200);
    g_assert_cmpuint(call_until_done(g, &c, CPU_EVENT_NMI), ==, 101);
    g_assert_cmpuint(out.regs.r[R_RCX], ==, 99);
    oracle_guest_free(g);
}

/* An interrupt that IF holds back is no reason to leave. */
static void test_masked(void)
{
    struct oracle_guest *g = oracle_guest_new();

    fill_page_1();
    struct oracle_case c = string_case(0xf3, 0xac, PAGE(1), 0, 300);
    c.in.rflags &= ~(uint64_t)FLAG_IF;
    g_assert_cmpuint(call_until_done(g, &c, CPU_EVENT_INTR), ==, 1);
    c = string_case(0xf3, 0xac, PAGE(1), 0, 300);
    g_assert_cmpuint(call_until_done(g, &c, CPU_EVENT_INTR), ==, 300);
    oracle_guest_free(g);
}

/* A fault at an element leaves the registers there: what came before is done and not done again. */
static void test_fault(void)
{
    struct oracle_guest *g = oracle_guest_new();

    fill_page_1();
    struct oracle_case c = string_case(0xf3, 0xa5, PAGE(1), PAGE(5) - 32, 20);
    oracle_guest_call(g, &c, insn_handler(&c.insn, false), &out);
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
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/strings/pause", test_pause);
    g_test_add_func("/strings/masked", test_masked);
    g_test_add_func("/strings/fault", test_fault);
    return g_test_run();
}
