/*
 * Single instructions through decoder and handler, without run loop and engine: a processor in the mode asked for, 1
 * MiB of RAM at linear address 0, no paging. The caller sets and looks at the fields of struct cpu.
 */
#ifndef TESTS_LIB_HANDLER_TEST_H
#define TESTS_LIB_HANDLER_TEST_H

#include "cpu/cpu.h"
#include "hw/core/machine.h"

#define HANDLER_RAM (1u << 20)
#define HANDLER_CODE 0x10000u /* where RIP stands; the bytes themselves need not be there */

struct handler_test {
    struct machine *m;
    struct cpu *cpu;
    struct cpu_model *model;
    struct mem_region ram;
};

/* Takes the VM lock, handler_test_free gives it back. */
struct handler_test *handler_test_new(void);
void handler_test_free(struct handler_test *t);

/* Modes; in all of them CPL 0 and CR0.NE, segments from 0 to the end of memory. */
enum handler_mode { HANDLER_REAL, HANDLER_PROT16, HANDLER_PROT32, HANDLER_LONG };
void handler_set_mode(struct handler_test *t, enum handler_mode mode);

/* Executes the instruction in these 15 bytes at HANDLER_CODE. Returns the vector that it raised, or -1. */
#define HANDLER_RETRY -2 /* it left through cpu_retry */
int handler_run(struct handler_test *t, const uint8_t *bytes);

void handler_write(struct handler_test *t, uint64_t addr, const void *data, unsigned size);
void handler_read(struct handler_test *t, uint64_t addr, void *data, unsigned size);

#endif
