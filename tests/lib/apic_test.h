/*
 * For tests of local APICs: four processors that do not run, each with its local APIC, an I/O APIC, the 8259A on LINT0,
 * 1 MiB of RAM; what the processors do.
 */
#ifndef TESTS_LIB_APIC_TEST_H
#define TESTS_LIB_APIC_TEST_H

#include "cpu/cpu.h"
#include "hw/irq/apic_bus.h"
#include "hw/irq/i8259.h"
#include "hw/irq/ioapic.h"
#include "hw/irq/lapic.h"
#include "tests/lib/device_test.h"

/* Registers by their offset in the page, and MSRs. */
#define CPUS 4
#define ID 0x20
#define TPR 0x80
#define PPR 0xa0
#define EOI 0xb0
#define LDR 0xd0
#define DFR 0xe0
#define SVR 0xf0
#define ISR 0x100
#define TMR 0x180
#define IRR 0x200
#define ESR 0x280
#define ICR 0x300
#define ICR2 0x310
#define LVT_TIMER 0x320
#define LVT_PERF 0x340
#define LVT_LINT0 0x350
#define LVT_LINT1 0x360
#define LVT_ERROR 0x370
#define TMICT 0x380
#define TMCCT 0x390
#define TDCR 0x3e0
#define MASKED 0x10000u
#define DEADLINE_MSR 0x6e0
#define BASE_BSP 0x100
#define BASE_X2 0x400
#define BASE_EN 0x800

struct apic_fixture {
    struct machine *m;
    struct cpu_model *model;
    struct device *lapic[CPUS], *pic, *ioapic;
    unsigned kicks[CPUS];
    int64_t hz; /* of the timer */
};

/* For g_test_add. The end checks that each local APIC's saved state survives a round trip. */
void apic_set_up(struct apic_fixture *f, gconstpointer data);
void apic_tear_down(struct apic_fixture *f, gconstpointer data);

/* Registers by page, by MSR; those of the x2APIC by offset, which must not fault. */
uint32_t apic_rd(struct apic_fixture *f, unsigned cpu, unsigned reg);
void apic_wr(struct apic_fixture *f, unsigned cpu, unsigned reg, uint32_t value);
bool apic_rdmsr(struct apic_fixture *f, unsigned cpu, uint32_t msr, uint64_t *value);
bool apic_wrmsr(struct apic_fixture *f, unsigned cpu, uint32_t msr, uint64_t value);
uint64_t apic_rdx(struct apic_fixture *f, unsigned cpu, unsigned reg);
void apic_wrx(struct apic_fixture *f, unsigned cpu, unsigned reg, uint64_t value);
bool apic_set_base(struct apic_fixture *f, unsigned cpu, uint64_t value);
uint64_t apic_base(struct apic_fixture *f, unsigned cpu);
/* Software-enables all; the second brings them into x2APIC mode before. */
void apic_enable(struct apic_fixture *f);
void apic_enable_x2apic(struct apic_fixture *f);
void apic_ipi(struct apic_fixture *f, unsigned from, uint8_t dest, uint32_t low);
/* The vector that the processor takes now, or -1; checks that event and has_interrupt() say the same. */
int apic_take(struct apic_fixture *f, unsigned cpu);
/* NMI, SMI, INIT and SIPI as they were posted since. */
uint32_t apic_take_events(struct apic_fixture *f, unsigned cpu);
/* Which processors take `vector` now, and end it: a bit each. */
unsigned apic_takers(struct apic_fixture *f, int vector);
/* Steps by that many counts of the undivided timer, to the first instant of that count. */
void apic_counts(struct apic_fixture *f, int64_t n);

#endif
