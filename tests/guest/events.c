/*
 * What comes from outside: NMI and its blocking until IRET, the shadow of STI, interrupts within a repeated string
 * instruction, SMI with the state save map, SMBASE relocation and RSM.
 */
#include "tests/lib/guest_test.h"

/* The APIC is mapped at 3fe00000, the last 2 MiB of the identity map. */
#define APIC(reg) "0x3fe00" reg
/* An IPI to itself has come when the next block begins. NMI and SMI have no shorthand for it. */
#define SEND(icr) "movl $" icr ", " APIC("300") "\n jmp 97f\n 97:\n"
#define SELF_NMI SEND("0x4400")
#define SELF_SMI SEND("0x4200")
#define MAP_APIC "mov $0xfee00083, %eax\n mov %rax, 0x3ff8\n mov %cr3, %rax\n mov %rax, %cr3\n movl $0x1ff, " APIC("0f0") "\n"
#define GATE64(vector, label) \
    "mov $" ORG(label) ", %eax\n mov %ax, 0x5000 + 16 * " vector "\n movw $0x20, 0x5002 + 16 * " vector "\n movw $0x8e00, 0x5004 + 16 * " vector "\n"
#define IS(what, value, code) "cmpl $" value ", " what "\n je 1f\n mov $" code ", %al\n out %al, $0xf4\n 1:\n"

GUEST_CODE(ev, GUEST_ENTER_LONG("ev") MAP_APIC GATE64("2", "ev_nmi") GATE64("0x40", "ev_irq") GATE64("0x41", "ev_timer") GATE64("6", "ev_ud")
    "lidt " ORG("ev_idtr") "\n"
    /* an NMI within the handler waits for IRET, and is one however often it was sent; a fault's IRET unblocks, too */
    SELF_NMI "nop\n nop\n" IS("0x6000", "2", "1") IS("0x6004", "0", "2")
    /* STI lets one more instruction pass, so STI and CLI let nothing in */
    SEND("0x44040") "sti\n cli\n nop\n" IS("0x6008", "0", "3") "sti\n nop\n cli\n" IS("0x6008", "1", "4")
    SEND("0x44040") "sti\n hlt\n cli\n" IS("0x6008", "2", "5")
    /* a store of many pages, until the timer hits it: RCX and RDI fit */
    "movl $0x10041, " APIC("320") "\n movl $0xb, " APIC("3e0") "\n movl $0x41, " APIC("320") "\n mov $2000, %r8d\n"
    "2: movl $20000, " APIC("380") "\n sti\n mov $0x400000, %edi\n mov $0x100000, %ecx\n mov $0x55, %eax\n ev_rep: rep stosq\n cli\n"
    "cmp $0, %ecx\n jne ev_bad\n cmpl $0, 0x600c\n jne 3f\n dec %r8d\n jnz 2b\n jmp ev_bad\n 3:\n"
    GUEST_EXIT("0") "ev_bad: " GUEST_EXIT("9")
    "ev_nmi: incl 0x6000\n cmpl $1, 0x6004\n je ev_bad\n movl $1, 0x6004\n cmpl $1, 0x6000\n jne 1f\n" SELF_NMI SELF_NMI "nop\n nop\n"
    "1: movl $0, 0x6004\n iretq\n"
    "ev_irq: incl 0x6008\n movl $0, " APIC("0b0") "\n iretq\n"
    "ev_timer: push %rax\n mov 8(%rsp), %rax\n cmp $" ORG("ev_rep") ", %rax\n jne 1f\n cmp $0x100000, %ecx\n je 1f\n"
    "incl 0x600c\n lea 0x400000, %rax\n push %rbx\n mov $0x100000, %ebx\n sub %rcx, %rbx\n lea 0x400000(,%rbx,8), %rax\n pop %rbx\n cmp %rdi, %rax\n jne ev_bad\n"
    "1: movl $0, " APIC("0b0") "\n pop %rax\n iretq\n"
    "ev_ud: " GUEST_EXIT("10")
    "ev_idtr: .word 0xfff\n .quad 0x5000\n" GUEST_GDT("ev"))

static void test_interrupts(void)
{
    guest_expect(ev_start, ev_end, "");
}

/*
 * The SMI handler, at SMBASE + 8000h: tells that it is in real mode, looks at the map, moves SMBASE and changes the
 * saved R9.
 */
GUEST_CODE(smi, "mov %cs, %ax\n mov %ax, %ds\n mov $'S', %al\n out %al, $0xe9\n"
    "mov %cr0, %eax\n test $0x80000001, %eax\n jnz 1f\n mov $'r', %al\n out %al, $0xe9\n 1:\n"
    "cmpl $0x11223344, 0xfff8\n jne 1f\n mov $'a', %al\n out %al, $0xe9\n 1: cmpl $0x600d0000, 0xff84\n jne 1f\n mov $'f', %al\n out %al, $0xe9\n 1:\n"
    "movl $0x40000, 0xff00\n incl 0xffb0\n rsm\n")

GUEST_CODE(smm, GUEST_ENTER_LONG("smm") MAP_APIC
    "mov $0x600d000000000000, %rbx\n mov %rbx, %r15\n mov $5, %r9d\n mov $0x11223344, %eax\n mov %cr3, %rbp\n mov $0x7000, %esp\n std\n stc\n"
    SELF_SMI "nop\n jnc smm_bad\n pushf\n pop %rdx\n bt $10, %rdx\n jnc smm_bad\n cld\n"
    "cmp $6, %r9\n jne smm_bad\n cmp %rbx, %r15\n jne smm_bad\n cmp $0x11223344, %eax\n jne smm_bad\n mov %cr3, %rdx\n cmp %rdx, %rbp\n jne smm_bad\n"
    "mov $0xc0000080, %ecx\n rdmsr\n cmp $0x500, %eax\n jne smm_bad\n mov $0x11223344, %eax\n"
    SELF_SMI "nop\n cmp $7, %r9\n jne smm_bad\n"
    GUEST_EXIT("0") "smm_bad: " GUEST_EXIT("1") GUEST_GDT("smm"))

static void test_smm(void)
{
    struct guest *g = guest_new(16 << 20, 1, NULL);
    guest_load(g, 0x7c00, smm_start, smm_end);
    guest_load(g, 0x38000, smi_start, smi_end);
    guest_load(g, 0x48000, smi_start, smi_end); /* where SMBASE has moved */
    int result = guest_run(g, 0x7c00, 20);
    g_assert_cmpstr(g->out->str, ==, "SrafSraf");
    g_assert_cmpint(result, ==, 0);
    guest_free(g);
}

/* A reserved bit of CR4 in the map: RSM shuts the processor down, and the machine resets. */
GUEST_CODE(bad_smi, "mov %cs, %ax\n mov %ax, %ds\n orl $0x80000000, 0xff48\n rsm\n")

static void test_smm_shutdown(void)
{
    struct guest *g = guest_new(16 << 20, 1, NULL);
    guest_load(g, 0x7c00, smm_start, smm_end);
    guest_load(g, 0x38000, bad_smi_start, bad_smi_end);
    g_assert_cmpint(guest_run(g, 0x7c00, 20), ==, GUEST_RESET);
    guest_free(g);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    guest_add("/guest/events/interrupts", test_interrupts);
    guest_add("/guest/events/smm", test_smm);
    guest_add("/guest/events/smm-shutdown", test_smm_shutdown);
    return g_test_run();
}
