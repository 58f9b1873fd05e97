/*
 * The logs that -d and -D steer. A guest's mistake is logged here and answered as hardware would; it never ends us.
 */
#ifndef HW_CORE_LOG_H
#define HW_CORE_LOG_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

enum log_item {
    LOG_INT = 1 << 0,          /* exceptions and interrupts, with the state they interrupt */
    LOG_CPU_RESET = 1 << 1,    /* processor state before each reset, triple faults */
    LOG_IN_ASM = 1 << 2,       /* each block when it is decoded first */
    LOG_EXEC = 1 << 3,         /* each block when it is entered */
    LOG_GUEST_ERRORS = 1 << 4, /* what no correct guest does */
    LOG_UNIMP = 1 << 5,        /* what we do not model */
    LOG_MMIO = 1 << 6,         /* each access to a device */
    LOG_STATS = 1 << 7,        /* counters at exit */
};

extern unsigned log_mask; /* written before vCPUs run, then read only */

static inline bool log_on(enum log_item item)
{
    return G_UNLIKELY(log_mask & item);
}

/* Parses "int,cpu_reset"; an unknown word gives an error that lists the known ones. */
bool log_set_items(const char *list, GError **err);
bool log_set_file(const char *path, GError **err);
void log_help(GString *out);

/* One line, newline added; whole lines even from several threads. */
void log_line(const char *fmt, ...) G_GNUC_PRINTF(1, 2);
/* Under -d guest_errors; at most 100 a second, then a line that counts the rest. `who` names the chip. */
void log_guest_error(const char *who, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
void log_unimp(const char *who, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
/* The same, once for each key of a chip (an address, an MSR); now and then again, as memory for keys is bounded. */
void log_unimp_once(uint64_t key, const char *who, const char *fmt, ...) G_GNUC_PRINTF(3, 4);

#endif
