/*
 * Debug exceptions: single steps, breakpoints on instructions, data and ports, RF, general detect, INT1. Intel SDM
 * volume 3, 17.
 *
 * The #DB handler writes down RIP, RFLAGS and DR6 and goes on, with RF set after an instruction breakpoint.
 */
#include "tests/lib/guest_test.h"

#define LOG 0x100000 /* records of 32 bytes: RIP, RFLAGS, DR6, CS */
#define LOG_NEXT "0xff000"

#define DEBUG_SETUP(name) \
    "mov $" ORG(name "_db") ", %eax\n mov %ax, 0x5010\n movw $0x20, 0x5012\n movw $0x8e00, 0x5014\n movw $0, 0x5016\n movq $0, 0x5018\n" \
    "mov $" ORG(name "_int") ", %eax\n mov %ax, 0x5200\n movw $0x20, 0x5202\n movw $0x8e00, 0x5204\n movw $0, 0x5206\n movq $0, 0x5208\n" \
    "lidt " ORG(name "_idtr") "\n movq $0x100000, " LOG_NEXT "\n mov %cr4, %rax\n or $8, %rax\n mov %rax, %cr4\n"
#define DEBUG_HANDLER(name) \
    name "_int: nop\n iretq\n" \
    name "_db: push %rax\n push %rbx\n mov " LOG_NEXT ", %rbx\n mov 16(%rsp), %rax\n mov %rax, (%rbx)\n" \
    "mov 32(%rsp), %rax\n mov %rax, 8(%rbx)\n mov %dr6, %rax\n mov %rax, 16(%rbx)\n mov 24(%rsp), %rax\n mov %rax, 24(%rbx)\n" \
    "add $32, %rbx\n mov %rbx, " LOG_NEXT "\n mov $0xffff0ff0, %eax\n mov %rax, %dr6\n btsq $16, 32(%rsp)\n pop %rbx\n pop %rax\n iretq\n" \
    name "_idtr: .word 0xfff\n .quad 0x5000\n"
#define TF_ON "pushf\n orl $0x100, (%rsp)\n popf\n"
#define TF_OFF "pushf\n andl $~0x100, (%rsp)\n popf\n"
/* A table of the expected RIPs, ended by 0, which the test reads from the guest's code. */
#define EXPECT(name, list) ".balign 8\n" name "_expect: .quad " list ", 0\n"

struct hit {
    uint64_t dr6; /* bits 15:0 without the fixed ones */
};

static void check(const void *start, const void *end, const void *expect, const struct hit *hits, unsigned count)
{
    struct guest *g = guest_new(16 << 20, 1, NULL);
    guest_load(g, 0x7c00, start, end);
    g_assert_cmpint(guest_run(g, 0x7c00, 30), ==, 0);
    uint64_t table = 0x7c00 + (uint64_t)((const char *)expect - (const char *)start);
    unsigned got = (guest_peek(g, 0xff000, 8) - LOG) / 32;
    for (unsigned n = 0; n < MIN(got, 40); n++)
        g_test_message("%u: rip %#x want %#x dr6 %#x", n, (unsigned)guest_peek(g, LOG + n * 32, 8),
                       (unsigned)guest_peek(g, table + n * 8, 8), (unsigned)guest_peek(g, LOG + n * 32 + 16, 8));
    g_assert_cmpuint(got, ==, count);
    for (unsigned n = 0; n < count; n++) /* RF is saved by faults, but not by an instruction breakpoint */
        if (hits[n].dr6 == 1 || hits[n].dr6 == 0x2000)
            g_assert_cmpint(!!(guest_peek(g, LOG + n * 32 + 8, 8) & FLAG_RF), ==, hits[n].dr6 == 0x2000);
    for (unsigned n = 0; n < count; n++) {
        g_assert_cmphex(guest_peek(g, LOG + n * 32, 8), ==, guest_peek(g, table + n * 8, 8));
        g_assert_cmphex(guest_peek(g, LOG + n * 32 + 16, 8) & 0xe00f, ==, hits[n].dr6);
    }
    guest_free(g);
}

extern const char step_expect[], breaks_expect[];

/* The trap comes after each instruction that began with TF; MOV SS, INT, SYSCALL and REP are the special ones. */
GUEST_CODE(step, GUEST_ENTER_LONG("step") DEBUG_SETUP("step")
    TF_ON "step0: nop\n step1: nop\n step2: mov %ss, %eax\n step3: mov %eax, %ss\n nop\n step4: int $0x20\n step5: nop\n"
    "step6: mov $3, %ecx\n step7: mov $0x6000, %esi\n step8: mov $0x6100, %edi\n step9: rep movsb\n stepa: pushf\n"
    "stepb: andl $~0x100, (%rsp)\n stepc: popf\n stepd: nop\n"
    /* TF set in the image of an IRET: one instruction later */
    "pushq $0x10\n pushq $0x7000\n pushq $0x102\n pushq $0x20\n pushq $" ORG("stepe") "\n iretq\n stepe: nop\n stepf: pushf\n"
    "stepg: andl $~0x100, (%rsp)\n steph: popf\n stepi:\n"
    /* a taken branch, and HLT, which the trap ends */
    TF_ON "jmp stepk\n nop\n stepk: hlt\n stepl: andl $0, %eax\n" "stepm: pushf\n stepn: andl $~0x100, (%rsp)\n stepo: popf\n stepp: nop\n"
    /* SYSCALL with TF masked: no trap before SYSRET is back */
    "mov $0xc0000080, %ecx\n rdmsr\n or $1, %eax\n wrmsr\n mov $0xc0000081, %ecx\n xor %eax, %eax\n mov $0x00280020, %edx\n wrmsr\n"
    "mov $0xc0000082, %ecx\n mov $" ORG("step_sys") ", %eax\n xor %edx, %edx\n wrmsr\n mov $0xc0000084, %ecx\n mov $0x100, %eax\n wrmsr\n"
    TF_ON "step_call: syscall\n ud2\n step_sys: nop\n nop\n bt $8, %r11\n jnc step_bad\n"
    GUEST_EXIT("0") "step_bad: " GUEST_EXIT("1")
    DEBUG_HANDLER("step")
#define S(l) ORG("step" l)
    EXPECT("step", S("1") "," S("2") "," S("3") "," S("4") "," S("6") "," S("7") "," S("8") "," S("9") "," S("9") "," S("9") ","
           S("a") "," S("b") "," S("c") "," S("d") "," S("f") "," S("g") "," S("h") "," S("i") ","
           S("k") "," S("l") "," S("m") "," S("n") "," S("o") "," S("p"))
    GUEST_GDT("step"))

static void test_step(void)
{
    struct hit hits[24];
    for (unsigned n = 0; n < G_N_ELEMENTS(hits); n++)
        hits[n].dr6 = 0x4000;
    check(step_start, step_end, step_expect, hits, G_N_ELEMENTS(hits));
}

#define DR7(value) "mov $" value ", %eax\n mov %rax, %dr7\n"
#define DR(n, addr) "mov $" addr ", %eax\n mov %rax, %dr" #n "\n"
GUEST_CODE(breaks, GUEST_ENTER_LONG("breaks") DEBUG_SETUP("breaks")
    /* instruction: before it, once, RF lets it run */
    DR(0, ORG("brk0")) DR7("0x402") "mov $2, %ecx\n brk0: nop\n loop brk0\n"
    /* data: write of 4 bytes in DR1, access of 2 in DR2; after the instruction */
    DR(1, "0x6000") DR(2, "0x6012") DR7("0x07d00428")
    "mov %eax, 0x6000\n brk1: mov 0x6000, %eax\n movb $0, 0x6003\n brk2: movb $0, 0x6004\n mov 0x6010, %ecx\n"
    "brk3: mov 0x6010, %cx\n mov 0x6013, %al\n brk4: mov %rax, 0x5ffc\n brk5: incl 0x6000\n"
    /* a string over a watched byte: after each element */
    "brk6: mov $0x5ffe, %edi\n mov $4, %ecx\n brk7: rep stosb\n brk8: nop\n"
    /* ports, with CR4.DE */
    DR(3, "0x80") DR7("0x20000480") "out %al, $0x7f\n out %al, $0x80\n brk9: in $0x80, %al\n brka: nop\n"
    /* general detect: a fault, which clears GD */
    DR7("0x2400") "brkb: mov %dr0, %rax\n" DR7("0x400")
    ".byte 0xf1\n brkc: nop\n"
    /* MOV SS holds back the trap until the next instruction is done */
    DR(0, "0x6020") DR7("0x000f0402") "movl $0x10, 0x6020\n brkd: mov 0x6020, %ss\n nop\n brke: nop\n"
    /* and lets a breakpoint on the next instruction pass */
    DR(0, ORG("brkf")) DR7("0x402") "mov $0x10, %eax\n mov %eax, %ss\n brkf: nop\n" DR7("0x400")
    GUEST_EXIT("0") DEBUG_HANDLER("breaks")
#define B(l) ORG("brk" l)
    EXPECT("breaks", B("0") "," B("0") "," B("1") "," B("2") "," B("3") "," B("4") "," B("5") "," B("6") "," B("7") "," B("8") ","
           B("9") "," B("a") "," B("b") "," B("c") "," B("d") "," B("e"))
    GUEST_GDT("breaks"))

static void test_breakpoints(void)
{
    static const struct hit hits[] = { { 1 }, { 1 }, { 2 }, { 2 }, { 4 }, { 4 }, { 2 }, { 2 }, { 2 }, { 2 },
                                       { 8 }, { 8 }, { 0x2000 }, { 0 }, { 1 }, { 1 } };
    check(breaks_start, breaks_end, breaks_expect, hits, G_N_ELEMENTS(hits));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    guest_add("/guest/debug/step", test_step);
    guest_add("/guest/debug/breakpoints", test_breakpoints);
    return g_test_run();
}
