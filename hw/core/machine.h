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
#include "hw/core/msi.h"

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct accel;
struct apic_bus;
struct blk;
struct chr;
struct cpu;
struct state_table;

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
    REQUEST_QUIT, /* the user ends the process, -no-shutdown or not */
};

struct machine {
    struct mem_region memory_root, port_root;
    struct address_space memory; /* guest-physical, without A20 masking */
    struct address_space ports;  /* 64 KiB */
    struct ram_block *ram;       /* "pc.ram", low and high part in one block */
    struct bus *system_bus;      /* root of the device tree */
    struct clock *clock;
    /*
     * Time stamp counter of all processors, before their own offsets, where an engine brings one (the host's): any thread. NULL:
     * virtual time at the model's rate. It passed `tsc_start` at virtual time `tsc_start_ns`.
     */
    uint64_t (*tsc)(void *opaque);
    void *tsc_opaque;
    uint64_t tsc_start;
    int64_t tsc_start_ns;
    struct input input;          /* who hears keys and pointers; hw/core/input.h */
    GHashTable *chrs;            /* id -> struct chr *, owned; NULL before the first one (hw/backend/chr.c) */
    GHashTable *blks;            /* id -> struct blk *, the same of drives (hw/backend/blk_drive.c) */

    struct cpu **cpus; /* by index; APIC id in struct cpu */
    unsigned cpu_count;
    struct apic_bus *apic_bus; /* hw/irq/apic_bus.h; NULL: none */
    const struct msi_sink *msi_sink;   /* takes messages in the local APICs' place; NULL: nobody does */
    struct msi_message pins[MSI_PINS]; /* what level-triggered pins of the I/O APIC send; of others 0 */
    struct irq_line ferr; /* FERR# of the boot processor, for the board; not connected: unheard */
    struct accel *accel; /* engine in charge and its private state; accel/accel.h */

    enum run_state run_state; /* VM lock */
    GMainContext *loop;       /* where requests are carried out and timers fire */
    bool no_reboot;           /* a reset request ends the machine instead */
    bool no_shutdown;
    bool perfmap;             /* an engine that makes code tells perf its names */
    void *board;              /* the board's own state */
    void (*board_power_button)(struct machine *m);
    void (*board_free)(struct machine *m);

    /* -chardev by id, for properties of devices; NULL: there are none. */
    struct chr *(*chr_find)(struct machine *m, const char *id);
    struct blk *(*blk_find)(struct machine *m, const char *id); /* the same of drives */

    /* Requests under way: set from any thread, taken by the main loop with machine_take_request(). */
    uint32_t requests; /* bit per enum machine_request, atomic */
    int exit_code;
    GPtrArray *states; /* what machine_add_state() was told */
    GPtrArray *boot_paths; /* char *, by bootindex; holes are NULL */
    void (*on_request)(struct machine *m, void *opaque); /* installed by ui/main or a test; called on any thread */
    void *on_request_opaque;
};

/*
 * Address spaces, clock and system bus; no RAM, processors or devices yet. The loop is the thread's default context.
 * Making, wiring and freeing a machine are done under the VM lock.
 */
struct machine *machine_new(bool stepped_clock);
/* Frees board, devices (in reverse order), RAM and the rest; processors and engine are gone already. */
void machine_free(struct machine *m);

/* Any thread, any lock. `cause` goes to -d cpu_reset and events: "8042", "port 0xcf9", "triple fault", "ACPI S5". */
void machine_request(struct machine *m, enum machine_request what, const char *cause);
/* The most pressing request (quit, shutdown, reset, power button, pause) and forgets it; or REQUEST_NONE. */
enum machine_request machine_take_request(struct machine *m);
/* As REQUEST_SHUTDOWN, with the code that the process ends with (isa-debug-exit). */
void machine_request_exit(struct machine *m, int code, const char *cause);

/*
 * Index of the vCPU whose instruction this thread carries out, or -1 (main loop, workers). It tells devices that sit in
 * the processor, such as the local APIC, who asks. Set by vCPU threads for good, and by tests. Thread-local.
 */
int machine_current_cpu(void);
void machine_set_current_cpu(int index);

/*
 * A device that the user wants to boot from: its number among these (bootindex=) and the name that firmware knows it by. Fails
 * if the number is taken or above MACHINE_BOOT_INDEX_MAX. For the board, which tells firmware before the guest runs.
 */
#define MACHINE_BOOT_INDEX_MAX 999
bool machine_add_boot_path(struct machine *m, uint32_t index, const char *path, GError **err);

/*
 * Has what is not a device saved and loaded with the machine, in the order of these calls and before all devices:
 * vCPUs, the board. The pair of table name and instance id is unique. VM lock.
 */
void machine_add_state(struct machine *m, const struct state_table *table, const char *instance_id, void *instance);
void machine_remove_state(struct machine *m, void *instance);

/*
 * Virtual time, RAM, and the state of all that was added and of all devices; the machine must be paused (clock
 * stopped). Saving fails if the result would pass 4 GiB. After a load that failed the machine must be reset or freed.
 * VM lock.
 */
GByteArray *machine_save(struct machine *m, GError **err);
bool machine_load(struct machine *m, const uint8_t *data, size_t size, GError **err);

#endif
