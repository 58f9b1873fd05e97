/*
 * The machine: everything that one guest is. Nothing else is global; a process may hold several.
 *
 * Boards (hw/pc) build it, engines (accel) run its processors, the main loop carries out what is requested of it.
 */
#ifndef HW_CORE_MACHINE_H
#define HW_CORE_MACHINE_H

#include "hw/core/clock.h"
#include "hw/core/device.h"
#include "hw/core/input.h"
#include "hw/core/irq.h"
#include "hw/core/memory.h"

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct accel;
struct apic_bus;
struct cpu;

enum run_state {
    RUN_STATE_PRELAUNCH, /* made, never started (-S) */
    RUN_STATE_RUNNING,
    RUN_STATE_PAUSED,
    RUN_STATE_SHUTDOWN, /* guest powered off and we stay (-no-shutdown) */
};

enum machine_request {
    REQUEST_NONE,
    REQUEST_RESET,
    REQUEST_SHUTDOWN,
    REQUEST_POWERDOWN, /* the power button is pressed: ACPI tells the guest */
    REQUEST_PAUSE,
};

struct machine {
    struct mem_region memory_root, port_root;
    struct address_space memory; /* guest-physical, without A20 masking */
    struct address_space ports;  /* 64 KiB */
    struct ram_block *ram;       /* "pc.ram", low and high part in one block */
    struct bus *system_bus;      /* root of the device tree */
    struct clock *clock;
    struct input input;          /* who hears keys and pointers; hw/core/input.h */
    GHashTable *chrs;            /* id -> struct chr *, owned: PROP_CHR looks here; NULL before the first one */

    struct cpu **cpus; /* by index; APIC id in struct cpu */
    unsigned cpu_count;
    struct apic_bus *apic_bus; /* hw/irq/apic_bus.h; NULL: none */
    struct accel *accel; /* engine in charge and its private state; accel/accel.h */

    enum run_state run_state; /* VM lock */
    GMainContext *loop;       /* where requests are carried out and timers fire */
    bool no_reboot;           /* a reset request ends the machine instead */
    bool no_shutdown;
    void *board;              /* the board's own state */
    void (*board_power_button)(struct machine *m);
    void (*board_free)(struct machine *m);

    /* Request under way: set from any thread, taken by the main loop. */
    int request; /* enum machine_request, atomic */
    int exit_code;
    void (*on_request)(struct machine *m, void *opaque); /* installed by ui/main or a test; called on any thread */
    void *on_request_opaque;
};

/* Address spaces, clock and system bus; no RAM, processors or devices yet. */
struct machine *machine_new(bool stepped_clock);
void machine_free(struct machine *m);

/* Any thread, any lock. `cause` goes to -d cpu_reset and events: "8042", "port 0xcf9", "triple fault", "ACPI S5". */
void machine_request(struct machine *m, enum machine_request what, const char *cause);
/* As REQUEST_SHUTDOWN, with the code that the process ends with (isa-debug-exit). */
void machine_request_exit(struct machine *m, int code, const char *cause);

/*
 * Index of the vCPU whose instruction this thread carries out, or -1 (main loop, workers). It tells devices that sit in
 * the processor, such as the local APIC, who asks. Set by vCPU threads for good, and by tests. Thread-local.
 */
int machine_current_cpu(void);
void machine_set_current_cpu(int index);

/* All devices' and processors' state; the machine must be paused. RAM included. */
GByteArray *machine_save(struct machine *m);
bool machine_load(struct machine *m, const uint8_t *data, size_t size, GError **err);

#endif
