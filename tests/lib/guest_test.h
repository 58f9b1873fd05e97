/*
 * For bare-metal guests: a machine with RAM, processors and two ports, no firmware. The guest's code is assembled into
 * the test itself (GUEST_CODE) and runs on the engine that ACCEL names; guest_add() runs it on several.
 *
 * Port 0xe9 takes characters, a write to 0xea lets the host run other threads (for guests that wait for another processor on a
 * host that has no free one), port 0xf4 a byte that ends the run: 0 is success, others say which check failed.
 */
#ifndef TESTS_LIB_GUEST_TEST_H
#define TESTS_LIB_GUEST_TEST_H

#include "cpu/cpu.h"
#include "hw/core/machine.h"

#include <glib.h>

struct guest {
    struct machine *m;
    GString *out;         /* what came through port 0xe9 */
    int result;           /* the byte from port 0xf4, or GUEST_* */
    struct mem_region ram, ports_out, port_exit, port_yield;
    GMainLoop *loop;
    struct cpu_model *model;
    guint timeout;
};

enum { GUEST_RUNNING = -1, GUEST_TIMEOUT = -2, GUEST_RESET = -3 };

/* Takes the VM lock, which guest_free gives back. `model` as -cpu takes it, or NULL for max. */
struct guest *guest_new(uint64_t ram, unsigned cpus, const char *model);
void guest_free(struct guest *g);
/* Copies code to guest-physical memory. */
void guest_load(struct guest *g, uint64_t addr, const void *start, const void *end);
uint64_t guest_peek(struct guest *g, uint64_t addr, unsigned size);
void guest_poke(struct guest *g, uint64_t addr, uint64_t value, unsigned size);
/* Processor 0 starts in real mode at 0000:addr. Runs to the end, at most `seconds` times TIME_SCALE of the environment;
 * returns g->result. */
int guest_run(struct guest *g, uint16_t addr, unsigned seconds);
/*
 * A test for each engine that ACCEL leaves open, path/ENGINE: all if it is not set, the JIT in all its forms for "jit", else what
 * it says.
 */
void guest_add(const char *path, void (*fn)(void));
/* The usual whole test: loads at 0x7c00, runs, requires success and this output. */
void guest_expect(const void *start, const void *end, const char *output);

/*
 * Code between name_start and name_end, assembled as 16-bit code for address 0x7c00 (use ORG(label) for absolute
 * addresses; in the code, \base stands for name_start).
 */
#define GUEST_CODE(name, ...) \
    extern const char name##_start[], name##_end[]; \
    __asm__(".pushsection .rodata\n.balign 16\n" #name "_start:\n.code16\n.irp base, " #name "_start\n" __VA_ARGS__ \
            "\n.endr\n" #name "_end:\n.code64\n.popsection\n");
/* Absolute address of a label of the guest. */
#define ORG(label) "(" label " - \\base + 0x7c00)"

/* Ends the run; prints a character. In any mode. */
#define GUEST_EXIT(code) "mov $" code ", %al\n out %al, $0xf4\n 99: jmp 99b\n"
#define GUEST_PUT(c) "mov $'" c "', %al\n out %al, $0xe9\n"

/*
 * From real mode to 64-bit mode with the first GiB mapped to itself, writable and for user code too, in 2 MiB pages:
 * PML4 at 1000, PDPT at 2000, PD at 3000. GDT: 08 code32, 10 data, 18 code16, 20 code64, 28 data16, 33 user data, 3b
 * user code64, 40 TSS (limit 67, base 0x4000). The stack is below 0x7000. What follows is 64-bit code. Put GUEST_GDT at
 * the end; `name` keeps the labels of several guests apart.
 */
#define GUEST_ENTER_LONG(name) \
    "cli\n xor %ax, %ax\n mov %ax, %ds\n mov %ax, %es\n mov %ax, %ss\n mov $0x7000, %sp\n" \
    "lgdtl " ORG(name "_gdtr") "\n mov %cr0, %eax\n or $1, %al\n mov %eax, %cr0\n" \
    "ljmpl $0x08, $" ORG(name "_enter32") "\n" \
    ".code32\n" \
    name "_enter32: mov $0x10, %ax\n mov %ax, %ds\n mov %ax, %es\n mov %ax, %ss\n mov $0x7000, %esp\n" \
    "mov $0x1000, %edi\n xor %eax, %eax\n mov $0x1000, %ecx\n rep stosl\n" \
    "movl $0x2007, 0x1000\n movl $0x3007, 0x2000\n mov $0x3000, %edi\n mov $0x87, %eax\n" \
    "1: mov %eax, (%edi)\n add $0x200000, %eax\n add $8, %edi\n cmp $0x4000, %edi\n jne 1b\n" \
    "mov $0x1000, %eax\n mov %eax, %cr3\n" \
    "mov %cr4, %eax\n or $0x20, %eax\n mov %eax, %cr4\n" \
    "mov $0xc0000080, %ecx\n rdmsr\n or $0x100, %eax\n wrmsr\n" \
    "mov %cr0, %eax\n or $0x80000000, %eax\n mov %eax, %cr0\n" \
    "ljmpl $0x20, $" ORG(name "_enter64") "\n" \
    ".code64\n" \
    name "_enter64:\n"

#define GUEST_GDT(name) \
    ".balign 8\n" \
    name "_gdt: .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00009b000000ffff, 0x00af9b000000ffff, 0x000093000000ffff\n" \
    ".quad 0x00cff3000000ffff, 0x00affb000000ffff, 0x0000890040000067, 0\n" \
    name "_gdt_end:\n" \
    name "_gdtr: .word " name "_gdt_end - " name "_gdt - 1\n .long " ORG(name "_gdt") "\n"

#endif
