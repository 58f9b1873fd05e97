/*
 * For tests of chips: a machine with a stepped clock and no processor, port and memory accesses as a processor would
 * make them, and recorded interrupt lines. Everything runs on the test's thread under the VM lock.
 */
#ifndef TESTS_LIB_DEVICE_TEST_H
#define TESTS_LIB_DEVICE_TEST_H

#include "hw/core/device.h"
#include "hw/core/irq.h"
#include "hw/core/machine.h"

#include <glib.h>

/* A wire that remembers. */
struct test_line {
    int level;
    unsigned rises, falls;
    struct irq_line line; /* give this to the chip */
};

void test_line_init(struct test_line *l);

/* Takes the VM lock, which test_machine_free gives back. No RAM and no bus but the system bus. */
struct machine *test_machine_new(void);
void test_machine_free(struct machine *m);
/* machine.ram, mapped at 0. */
void test_add_ram(struct machine *m, uint64_t size);
/* A bare ISA bus below the system bus; its out[] lines are recorded: test_isa_line(m, n). */
struct bus *test_add_isa(struct machine *m);
struct test_line *test_isa_line(struct machine *m, unsigned n);

/* A disk image of zeros in memory, to be opened by its path as often as wanted; nothing stays behind on the host. */
struct test_image {
    int fd;
    char path[32]; /* "": there is none */
};

void test_image_make(struct test_image *i, uint64_t size);
void test_image_free(struct test_image *i);

/* device_new, properties "name=value" up to NULL, realize: any error fails the test. Then both reset passes. */
struct device *test_add(const struct device_type *type, struct bus *bus, ...) G_GNUC_NULL_TERMINATED;

uint8_t test_inb(struct machine *m, uint16_t port);
uint16_t test_inw(struct machine *m, uint16_t port);
uint32_t test_inl(struct machine *m, uint16_t port);
void test_outb(struct machine *m, uint16_t port, uint8_t value);
void test_outw(struct machine *m, uint16_t port, uint16_t value);
void test_outl(struct machine *m, uint16_t port, uint32_t value);
uint64_t test_read(struct machine *m, uint64_t addr, unsigned size);
void test_write(struct machine *m, uint64_t addr, uint64_t value, unsigned size);
void test_step(struct machine *m, int64_t ns);

/* Saves the device, loads that into it, saves again: bytes must be equal. */
void test_state_roundtrip(struct device *d);
/* The same into another device of its type: shows what the table forgets, as that one has its reset values. */
void test_state_transfer(struct device *from, struct device *to);

/* `n` random accesses from [port, port+len); steps the clock now and then; checks the state roundtrip on the way. */
void test_poke_ports(struct machine *m, struct device *d, uint32_t seed, unsigned n, uint16_t port, unsigned len);
void test_poke_memory(struct machine *m, struct device *d, uint32_t seed, unsigned n, uint64_t addr, uint64_t len);

#endif
