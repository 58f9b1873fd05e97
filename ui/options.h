/*
 * The command line, parsed: what main makes a machine from.
 */
#ifndef UI_OPTIONS_H
#define UI_OPTIONS_H

#include "hw/pc/pc.h"

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct machine;

enum machine_kind { MACHINE_PC, MACHINE_NONE };

/* One of -drive, -hda, -cdrom, -fda and their like, or an image without an option. */
struct option_drive {
    char *option; /* as it was given: "-hda" */
    char *arg;    /* of -drive; else a file */
    bool is_file, cdrom, floppy;
    int index;    /* -1: the first that is free */
};

/* Owned by main; what `pc` lends to the board lives here, too. */
struct options {
    struct pc_config pc;
    enum machine_kind machine;
    GPtrArray *accels;   /* char *: arguments of -accel in order */
    GPtrArray *chardevs; /* char *: arguments of -chardev */
    GPtrArray *serials;  /* char *: arguments of -serial */
    GPtrArray *devices;  /* char *: arguments of -device */
    GPtrArray *drives;   /* struct option_drive * */
    bool snapshot;       /* -snapshot: of all drives */
    GPtrArray *monitors; /* char *: where monitors are, as -monitor takes it, without "none" */
    bool monitor_given;  /* the command line says where the monitor is, or that there is none */
    char *debugcon;      /* argument of -debugcon */
    bool nodefaults, nographic;
    bool display_given, vga_given;
    bool start_paused;
    bool no_reboot, no_shutdown; /* what the guest's reset and power-off lead to (-action, too) */
    bool daemonize;
    bool perfmap;
    char *pidfile;
    char *log_items, *log_file;
    char *name;
    uint8_t escape; /* -echr */
    enum { RTC_UTC, RTC_LOCALTIME, RTC_DATE } rtc_base;
    int64_t rtc_date; /* seconds since the epoch */
    char *boot_order, *boot_once; /* what pc.boot_order and pc.boot_once point to */
    char *screen_file; /* -dump-screen: where SIGUSR1 and the end write the text screen */
    bool done;         /* a help or version text was asked for and is printed: exit with 0 */
};

/* Fails with a sentence that begins with the option. Prints notes to stderr, help texts to stdout. */
bool options_parse(struct options *o, int argc, char **argv, GError **err);
void options_init(struct options *o);
void options_clear(struct options *o);

/* --- Parts of it, for the table in options.c ---------------------------------------------------------------------- */

typedef bool option_fn(struct options *o, const char *arg, GError **err);
option_fn option_m, option_smp, option_machine, option_accel, option_rtc, option_boot, option_smbios, option_fw_cfg,
    option_global, option_device, option_drive, option_action, option_cpu, option_uuid;

/* --- Texts (help.c) ----------------------------------------------------------------------------------------------- */

struct option_row {
    const char *name;
    option_fn *fn;         /* NULL: see `note` and `absent` */
    const char *arg;       /* its argument in the help text; NULL: takes none */
    const char *help;      /* NULL: not shown */
    const char *note;      /* accepted, without effect: this is the note */
    const char *absent;    /* refused: what this version does not have */
};

extern const struct option_row option_rows[]; /* ends with a row without a name */

void help_print(void);
void version_print(void);
void machine_help(GString *out);
void device_help(GString *out);
/* "name.prop=<type>  description" lines; false if there is no such type. */
bool device_type_help(const char *name, GString *out);
/* The known name most like `text`, or NULL if none is near. `next` gives the i-th name, NULL at the end. */
const char *nearest_name(const char *text, const char *(*next)(unsigned i));

#endif
