/*
 * The `pc` board: i440FX, PIIX3, PIIX4 and what a PC of that kind has, wired. All under the VM lock, vCPUs paused.
 */
#ifndef HW_PC_PC_H
#define HW_PC_PC_H

#include "hw/core/device.h"
#include "hw/pc/smbios.h"

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct machine;

#define PC_SERIAL_PORTS 4
#define PC_MAX_CPUS 255 /* xAPIC ids 0..254 */

/* What the user asked for. Strings are lent and must stay until pc_init() has returned. */
struct pc_config {
    uint64_t ram_size; /* bytes */
    const char *mem_path; /* file or directory that backs RAM, or NULL */
    unsigned cpus, sockets, cores, threads;
    const char *cpu_model; /* for cpu_model_parse() */
    const char *bios;      /* a path, or a name in one of the firmware directories; NULL: SeaBIOS */
    GPtrArray *firmware_dirs; /* char *: looked in before those of hw/core/firmware.h */
    const char *kernel, *initrd, *append; /* direct boot if `kernel` is given */
    bool acpi, hpet, vga, smm;
    bool i8042;
    const char *serials[PC_SERIAL_PORTS]; /* ids of chrs, "" for a port that leads nowhere; NULL: no such port */
    const char *debugcon;                 /* id of a chr, or NULL */
    uint16_t debugcon_port;
    const char *boot_order;               /* letters as in -boot order=: a c d n; NULL: cad */
    const char *boot_once;                /* the same for the first boot; NULL: none */
    bool floppy_unchecked;                /* a floppy's boot sector needs no signature */
    bool boot_menu, boot_strict;
    uint32_t boot_menu_wait; /* ms; 0: firmware's default */
    int32_t reboot_timeout;  /* ms after a failed boot, -1: never */
    bool nographic; /* no display: firmware talks to the serial port */
    struct smbios_config smbios;
    GPtrArray *globals; /* struct pc_global *: initial values of properties, from -global */
    GPtrArray *fw_cfg;  /* struct pc_fw_cfg_file *: from -fw_cfg */
};

struct pc_global {
    char *driver, *property, *value;
};

struct pc_fw_cfg_file {
    char *name;
    void *data;
    size_t size;
};

/*
 * Builds the board into an empty machine: RAM, processors, chips, firmware. On failure the machine is only fit to be
 * freed.
 */
bool pc_init(struct machine *m, const struct pc_config *c, GError **err);
/* Once all devices are there, also those of -device: tells firmware of them. Before the first pc_reset(). */
bool pc_finish(struct machine *m, const struct pc_config *c, GError **err);
/* Power-on: devices, processors, and with direct boot the kernel and its tables in memory again. */
void pc_reset(struct machine *m);
/* device_new() with the -global properties of that type; fails if one of them does not fit. */
struct device *pc_device_new(struct machine *m, const struct device_type *type, struct bus *bus, GError **err);
/* The text screen as lines (hw/display/vga.h), or NULL. Caller frees. */
char *pc_text_screen(struct machine *m);

#endif
