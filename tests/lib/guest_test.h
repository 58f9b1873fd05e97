/*
 * For bare-metal guests: a machine with RAM, processors and two ports, no firmware. The guest's code is assembled into the
 * test itself (GUEST_CODE) and runs on the engine that ACCEL names.
 *
 * Port 0xe9 takes characters, port 0xf4 a byte that ends the run: 0 is success, others say which check failed.
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
    struct mem_region ram, ports_out, port_exit;
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
/* Processor 0 starts in real mode at 0000:addr. Runs to the end, at most `seconds`; returns g->result. */
int guest_run(struct guest *g, uint16_t addr, unsigned seconds);
/* The usual whole test: loads at 0x7c00, runs, requires success and this output. */
void guest_expect(const void *start, const void *end, const char *output);

/*
 * Code between name_start and name_end, assembled as 16-bit code for address 0x7c00 (use ORG(label) for absolute addresses).
 */
#define GUEST_CODE(name, ...) \
    extern const char name##_start[], name##_end[]; \
    __asm__(".pushsection .rodata\n.balign 16\n" #name "_start:\n.code16\n.set base, " #name "_start\n" __VA_ARGS__ \
            "\n" #name "_end:\n.code64\n.popsection\n");
/* Absolute address of a label of the guest. */
#define ORG(label) "(" label " - base + 0x7c00)"

/* Ends the run with al; prints the character. In any mode. */
#define GUEST_EXIT(code) "mov $" code ", %al\n out %al, $0xf4\n"
#define GUEST_PUT(c) "mov $'" c "', %al\n out %al, $0xe9\n"

#endif
