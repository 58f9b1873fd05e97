/*
 * The command line: one table of options, spelled as QEMU spells them, and the loop that goes through it.
 *
 * Options with a structured argument are in options_machine.c, texts in help.c. An option either works, or is accepted
 * with a note because a guest cannot tell the difference, or is refused with a sentence. Nothing is made here: main
 * does that.
 */
#include "ui/options.h"

#include "hw/backend/chr.h"
#include "hw/core/log.h"
#include "hw/core/opts.h"

#include <stdio.h>
#include <string.h>

static void print_and_finish(struct options *o, GString *text)
{
    fputs(text->str, stdout);
    g_string_free(text, TRUE);
    o->done = true;
}

#define NO_QMP "this version has no QMP yet; -monitor takes commands for people"

#define OPTION(name_) static bool on_##name_(struct options *o, const char *arg, GError **err)

OPTION(help)
{
    help_print();
    o->done = true;
    return true;
}

OPTION(version)
{
    version_print();
    o->done = true;
    return true;
}

OPTION(enable_kvm)
{
    g_ptr_array_add(o->accels, g_strdup("kvm"));
    return true;
}

OPTION(kernel)
{
    o->pc.kernel = arg;
    return true;
}

OPTION(initrd)
{
    o->pc.initrd = arg;
    return true;
}

OPTION(append)
{
    o->pc.append = arg;
    return true;
}

OPTION(bios)
{
    o->pc.bios = arg;
    return true;
}

OPTION(mem_path)
{
    o->pc.mem_path = arg;
    return true;
}

OPTION(L)
{
    if (strcmp(arg, "help") == 0) {
        for (guint i = 0; i < o->pc.firmware_dirs->len; i++)
            puts(o->pc.firmware_dirs->pdata[i]);
        o->done = true;
        return true;
    }
    g_ptr_array_add(o->pc.firmware_dirs, g_strdup(arg));
    return true;
}

OPTION(serial)
{
    if (o->serials->len == PC_SERIAL_PORTS)
        return opts_error(err, "the machine has %d serial ports", PC_SERIAL_PORTS);
    g_ptr_array_add(o->serials, g_strdup(arg));
    o->monitor_given |= g_str_has_prefix(arg, "mon:");
    return true;
}

OPTION(monitor)
{
    o->monitor_given = true;
    if (strcmp(arg, "none") != 0)
        g_ptr_array_add(o->monitors, g_strdup(arg));
    return true;
}

/* [chardev=]ID[,mode=readline] */
OPTION(mon)
{
    struct opts *a = opts_parse(arg, "chardev");
    const char *id = opts_take(a, "chardev"), *mode = opts_take(a, "mode");
    bool pretty = false;
    bool ok = opts_take_bool(a, "pretty", &pretty, err) && opts_done(a, "chardev, mode, pretty", err);
    if (ok && !id)
        ok = opts_error(err, "chardev=ID is missing");
    else if (ok && mode && strcmp(mode, "readline") != 0)
        ok = opts_error(err, strcmp(mode, "control") ? "mode=%s: give readline" : "mode=%s: " NO_QMP, mode);
    o->monitor_given = true;
    if (ok)
        g_ptr_array_add(o->monitors, g_strconcat("chardev:", id, NULL));
    opts_free(a);
    return ok;
}

OPTION(chardev)
{
    if (strcmp(arg, "help") == 0) {
        GString *text = g_string_new(NULL);
        chr_help(text);
        print_and_finish(o, text);
        return true;
    }
    g_ptr_array_add(o->chardevs, g_strdup(arg));
    return true;
}

OPTION(debugcon)
{
    g_free(o->debugcon);
    o->debugcon = g_strdup(arg);
    return true;
}

OPTION(nographic)
{
    o->nographic = o->pc.nographic = true;
    return true;
}

OPTION(display)
{
    struct opts *a = opts_parse(arg, "type");
    const char *type = opts_take(a, "type");
    bool ok = true;
    static const char *const known[] = { "sdl", "gtk", "curses", "vnc", "spice-app", "dbus", "egl-headless", "default",
                                         NULL };
    if (g_strcmp0(type, "help") == 0) {
        puts("Available display backend types:\nnone");
        o->done = true;
    } else if (!type || (strcmp(type, "none") != 0 && !g_strv_contains(known, type))) {
        ok = opts_error(err, "no such display; give none");
    } else if (strcmp(type, "none") != 0) {
        fprintf(stderr, "trapeze: note: -display %s: this version has no window; going on without one\n", arg);
    }
    o->display_given = true;
    opts_free(a);
    return ok;
}

OPTION(vga)
{
    static const char *const other[] = { "cirrus", "vmware", "qxl", "virtio", "xenfb", "tcx", "cg3", NULL };
    if (strcmp(arg, "help") == 0) {
        puts("none                 no graphic card\nstd                  standard VGA (default)");
        o->done = true;
    } else if (strcmp(arg, "none") == 0) {
        o->pc.vga = false;
    } else if (strcmp(arg, "std") == 0) {
        o->pc.vga = true;
    } else if (g_strv_contains(other, arg)) {
        o->pc.vga = true;
        fprintf(stderr, "trapeze: note: -vga %s: this version has the standard VGA only; using that\n", arg);
    } else {
        return opts_error(err, "no such card; give std or none");
    }
    o->vga_given = true;
    return true;
}

OPTION(no_reboot)
{
    o->no_reboot = true;
    return true;
}

OPTION(no_shutdown)
{
    o->no_shutdown = true;
    return true;
}

OPTION(S)
{
    o->start_paused = true;
    return true;
}

OPTION(d)
{
    if (strcmp(arg, "help") == 0 || strcmp(arg, "?") == 0) {
        GString *text = g_string_new(NULL);
        log_help(text);
        print_and_finish(o, text);
        return true;
    }
    /* Several -d add up. */
    char *all = o->log_items ? g_strconcat(o->log_items, ",", arg, NULL) : g_strdup(arg);
    g_free(o->log_items);
    o->log_items = all;
    return log_set_items(all, err);
}

OPTION(D)
{
    g_free(o->log_file);
    o->log_file = g_strdup(arg);
    return true;
}

OPTION(name)
{
    struct opts *a = opts_parse(arg, "guest");
    const char *name = opts_take(a, "guest");
    opts_take(a, "debug-threads");
    opts_take(a, "process");
    bool ok = opts_done(a, "guest, process, debug-threads", err);
    g_free(o->name);
    o->name = g_strdup(name);
    opts_free(a);
    return ok;
}

OPTION(nodefaults)
{
    o->nodefaults = true;
    return true;
}

OPTION(no_acpi)
{
    o->pc.acpi = false;
    return true;
}

OPTION(no_hpet)
{
    o->pc.hpet = false;
    return true;
}

OPTION(daemonize)
{
    o->daemonize = true;
    return true;
}

OPTION(perfmap)
{
    o->perfmap = true;
    return true;
}

OPTION(pidfile)
{
    g_free(o->pidfile);
    o->pidfile = g_strdup(arg);
    return true;
}

OPTION(echr)
{
    uint64_t n;
    if (!parse_number(arg, 1, 31, &n, err))
        return false;
    o->escape = (uint8_t)n;
    return true;
}

OPTION(dump_screen)
{
    g_free(o->screen_file);
    o->screen_file = g_strdup(arg);
    return true;
}

/* Options of which only the value "none" means something yet. */
OPTION(none_only)
{
    return strcmp(arg, "none") == 0 || opts_error(err, "this version has none of these yet; only 'none' works");
}

OPTION(accepted)
{
    return true;
}

/* -hda and its like, and images without an option. */
static bool add_file(struct options *o, const char *option, const char *file, const struct option_drive *like)
{
    struct option_drive *d = g_new(struct option_drive, 1);
    *d = *like;
    d->option = g_strdup(option);
    d->arg = g_strdup(file);
    d->is_file = true;
    g_ptr_array_add(o->drives, d);
    return true;
}

#define FILE_OPTION(name_, ...) \
    OPTION(name_) \
    { \
        return add_file(o, "-" #name_, arg, &(struct option_drive){ __VA_ARGS__ }); \
    }

FILE_OPTION(hda, .index = 0)
FILE_OPTION(hdb, .index = 1)
FILE_OPTION(hdc, .index = 2)
FILE_OPTION(hdd, .index = 3)
FILE_OPTION(cdrom, .index = 2, .cdrom = true)
FILE_OPTION(fda, .index = 0, .floppy = true)
FILE_OPTION(fdb, .index = 1, .floppy = true)

OPTION(no_fd_bootchk)
{
    o->pc.floppy_unchecked = true;
    return true;
}

OPTION(snapshot)
{
    o->snapshot = true;
    return true;
}

#define NO_FLASH "this version has no flash memory; -bios takes a firmware image"
#define NO_NET "this version has no network cards yet"
#define NO_GDB "this version has no gdb server yet"

#define WORKS(name_, fn_, arg_, help_) { .name = name_, .fn = fn_, .arg = arg_, .help = help_ }
#define IGNORED(name_, arg_, note_) { .name = name_, .fn = on_accepted, .arg = arg_, .note = note_ }
#define ABSENT(name_, arg_, why_) { .name = name_, .arg = arg_, .absent = why_ }

const struct option_row option_rows[] = {
    WORKS("h", on_help, NULL, NULL),
    WORKS("help", on_help, NULL, "this text"),
    WORKS("version", on_version, NULL, "the version"),
    WORKS("machine", option_machine, "TYPE[,accel=LIST][,hpet=|acpi=|smm=|i8042=on|off]",
          "the board: pc or none; help lists them"),
    WORKS("M", option_machine, "TYPE", "the same"),
    WORKS("cpu", option_cpu, "MODEL[,+FEATURE][,-FEATURE]", "the processor; help lists models and features"),
    WORKS("smp", option_smp, "[cpus=]N[,maxcpus=][,sockets=][,cores=][,threads=]", "number of processors"),
    WORKS("m", option_m, "[size=]MEGS[,slots=N][,maxmem=SIZE]", "memory: 512, 512M, 2G"),
    WORKS("accel", option_accel, "ENGINE", "what runs the processors; several: the first that works; help lists them"),
    WORKS("enable-kvm", on_enable_kvm, NULL, "the same as -accel kvm"),
    WORKS("mem-path", on_mem_path, "PATH", "file or directory that backs memory"),
    WORKS("kernel", on_kernel, "FILE", "boot this kernel without firmware (bzImage, multiboot, ELF with PVH entry)"),
    WORKS("initrd", on_initrd, "FILE", "with this initial ramdisk; modules for multiboot: FILE[ ARGS],..."),
    WORKS("append", on_append, "TEXT", "and this command line"),
    WORKS("bios", on_bios, "FILE", "firmware image, 64 KiB to 4 MiB [SeaBIOS]"),
    WORKS("L", on_L, "DIR", "look for firmware in DIR first; help lists the directories"),
    WORKS("boot", option_boot,
          "[order=]LETTERS[,once=][,menu=on|off][,splash-time=MS][,reboot-timeout=MS][,strict=on|off]",
          "boot order: a floppy, c disk, d CD-ROM, n network"),
    WORKS("drive", option_drive, "[file=FILE][,format=][,if=ide|virtio|floppy|none][,index=][,media=disk|cdrom][,id=][,...]",
          "a drive; help lists all there is to say of one"),
    WORKS("hda", on_hda, "FILE", "disk image for the first IDE disk; also FILE alone"),
    WORKS("hdb", on_hdb, "FILE", "for the second"),
    WORKS("hdc", on_hdc, "FILE", "for the third"),
    WORKS("hdd", on_hdd, "FILE", "for the fourth"),
    WORKS("cdrom", on_cdrom, "FILE", "CD image for an IDE CD-ROM drive, in the place of the third disk"),
    WORKS("fda", on_fda, "FILE", "floppy disk image, 720, 1440 or 2880 KiB, for the first drive"),
    WORKS("fdb", on_fdb, "FILE", "for the second"),
    WORKS("no-fd-bootchk", on_no_fd_bootchk, NULL, "boot from floppies whose boot sector has no signature, too"),
    WORKS("snapshot", on_snapshot, NULL, "write nothing into images: snapshot=on of every drive"),
    WORKS("serial", on_serial, "DEVICE",
          "next serial port to stdio, mon:stdio, null, none, pty, file:F, pipe:F, tcp:H:P, unix:F, chardev:ID"),
    WORKS("chardev", on_chardev, "KIND,id=ID[,...]", "a character device to connect to; help lists the kinds"),
    WORKS("debugcon", on_debugcon, "DEVICE", "debug port 0xe9 to a character device"),
    WORKS("nographic", on_nographic, NULL, "no display; first serial port on this terminal (Ctrl-a h helps)"),
    WORKS("display", on_display, "none", "no display"),
    WORKS("vga", on_vga, "std|none", "graphics card"),
    WORKS("dump-screen", on_dump_screen, "FILE", "write the text screen to FILE on SIGUSR1 and at the end"),
    WORKS("device", option_device, "TYPE[,PROP=VALUE][,id=ID]", "add a device; help lists types, TYPE,help properties"),
    WORKS("global", option_global, "TYPE.PROP=VALUE", "initial value of a property of every device of that type"),
    WORKS("fw_cfg", option_fw_cfg, "[name=]NAME,file=FILE|string=TEXT", "give the guest a file through fw_cfg"),
    WORKS("smbios", option_smbios, "type=N,KEY=VALUE[,...]", "fields of the SMBIOS tables 0, 1, 2, 3, 4, 11 and 17"),
    WORKS("uuid", option_uuid, "UUID", "of the machine"),
    WORKS("name", on_name, "NAME", "of the guest"),
    WORKS("rtc", option_rtc, "[base=utc|localtime|DATE]", "what the guest's clock shows at the start"),
    WORKS("action", option_action, "reboot=reset|shutdown,shutdown=poweroff|pause",
          "what a reset and a power-off lead to"),
    WORKS("no-reboot", on_no_reboot, NULL, "end instead of a reset"),
    WORKS("no-shutdown", on_no_shutdown, NULL, "stop but do not end when the guest powers off"),
    WORKS("no-acpi", on_no_acpi, NULL, "a machine without ACPI tables"),
    WORKS("no-hpet", on_no_hpet, NULL, "a machine without HPET"),
    WORKS("S", on_S, NULL, "start paused"),
    WORKS("d", on_d, "ITEM[,ITEM]",
          "log: int, cpu_reset, in_asm, exec, guest_errors, unimp, mmio ...; help lists them"),
    WORKS("D", on_D, "FILE", "log into FILE instead of stderr"),
    WORKS("perfmap", on_perfmap, NULL, "name translated code for perf, in /tmp/perf-PID.map"),
    WORKS("nodefaults", on_nodefaults, NULL, "no default serial port and graphics card"),
    WORKS("no-user-config", on_accepted, NULL, "there is none"),
    WORKS("pidfile", on_pidfile, "FILE", "write the process id there"),
    WORKS("daemonize", on_daemonize, NULL, "go to the background once the machine is made"),
    WORKS("echr", on_echr, "N", "escape character of the terminal instead of Ctrl-a (1)"),
    WORKS("monitor", on_monitor, "DEVICE", "a monitor for commands on stdio, none, or a device as with -serial"),
    WORKS("mon", on_mon, "[chardev=]ID[,mode=readline]", "a monitor on a -chardev"),
    WORKS("parallel", on_none_only, "none", "no parallel port"),
    WORKS("net", on_none_only, "none", "no network"),
    WORKS("nic", on_none_only, "none", "no network"),

    IGNORED("sandbox", "", "no system call filter"),
    IGNORED("msg", "", "messages keep their form"),
    IGNORED("overcommit", "", "memory is allocated when it is touched"),
    IGNORED("mem-prealloc", NULL, "memory is allocated when it is touched"),
    IGNORED("k", "", "there is no display that needs a keyboard layout"),
    IGNORED("audiodev", "", "no sound"),
    IGNORED("soundhw", "", "no sound"),
    IGNORED("balloon", "", "no balloon"),
    IGNORED("usb", NULL, "no USB"),
    IGNORED("full-screen", NULL, "there is no window"),
    IGNORED("run-with", "", "without effect"),

    ABSENT("blockdev", "", "this version has no -blockdev yet; -drive if=none,id=ID,... says the same"),
    ABSENT("pflash", "", NO_FLASH),
    ABSENT("mtdblock", "", NO_FLASH),
    ABSENT("sd", "", "a PC has no SD card slot"),
    ABSENT("netdev", "", NO_NET),
    ABSENT("qmp", "", NO_QMP),
    ABSENT("qmp-pretty", "", NO_QMP),
    ABSENT("s", NULL, NO_GDB),
    ABSENT("gdb", "", NO_GDB),
    ABSENT("vnc", "", "this version has no VNC server yet"),
    ABSENT("spice", "", "there is no SPICE server; -nographic works"),
    ABSENT("curses", NULL, "this version has no text display yet; -nographic works"),
    ABSENT("sdl", NULL, "this version has no window yet; -nographic works"),
    ABSENT("object", "", "this version has no such objects yet"),
    ABSENT("fsdev", "", "this version has no shared folders yet"),
    ABSENT("virtfs", "", "this version has no shared folders yet"),
    ABSENT("numa", "", "this version has one NUMA node"),
    ABSENT("tpmdev", "", "this version has no TPM"),
    ABSENT("usbdevice", "", "this version has no USB yet"),
    ABSENT("option-rom", "", "give the ROM to a device: -device TYPE,romfile=FILE"),
    ABSENT("incoming", "", "this version has no migration yet"),
    ABSENT("loadvm", "", "this version has no snapshots on disk yet"),
    { 0 },
};

static const char *option_name(unsigned i)
{
    return option_rows[i].name;
}

static const struct option_row *find(const char *name)
{
    for (const struct option_row *r = option_rows; r->name; r++)
        if (strcmp(r->name, name) == 0)
            return r;
    return NULL;
}

static bool unknown(const char *given, const char *name, GError **err)
{
    const char *near = nearest_name(name, option_name);
    if (near)
        return opts_error(err, "%s: no such option; did you mean -%s?", given, near);
    return opts_error(err, "%s: no such option; -help lists them", given);
}

static bool apply(struct options *o, const struct option_row *r, const char *given, const char *arg, GError **err)
{
    if (r->absent)
        return opts_error(err, "%s%s%s: %s", given, arg ? " " : "", arg ? arg : "", r->absent);
    if (r->note)
        fprintf(stderr, "trapeze: note: %s is accepted without effect: %s\n", given, r->note);
    if (r->fn(o, arg, err))
        return true;
    if (*err && !g_str_has_prefix((*err)->message, given))
        g_prefix_error(err, "%s%s%s: ", given, arg ? " " : "", arg ? arg : "");
    return false;
}

static void free_drive(gpointer p)
{
    struct option_drive *d = p;
    g_free(d->option);
    g_free(d->arg);
    g_free(d);
}

void options_init(struct options *o)
{
    memset(o, 0, sizeof *o);
    o->pc.firmware_dirs = g_ptr_array_new_with_free_func(g_free);
    o->pc.ram_size = UINT64_C(128) << 20;
    o->pc.cpus = o->pc.sockets = o->pc.cores = o->pc.threads = 1;
    o->pc.cpu_model = "max";
    o->pc.acpi = o->pc.hpet = o->pc.vga = o->pc.smm = o->pc.i8042 = true;
    o->pc.debugcon_port = 0xe9;
    o->pc.reboot_timeout = -1;
    o->pc.globals = g_ptr_array_new();
    o->pc.fw_cfg = g_ptr_array_new();
    o->accels = g_ptr_array_new_with_free_func(g_free);
    o->chardevs = g_ptr_array_new_with_free_func(g_free);
    o->serials = g_ptr_array_new_with_free_func(g_free);
    o->devices = g_ptr_array_new_with_free_func(g_free);
    o->drives = g_ptr_array_new_with_free_func(free_drive);
    o->monitors = g_ptr_array_new_with_free_func(g_free);
    o->escape = 1;
}

bool options_parse(struct options *o, int argc, char **argv, GError **err)
{
    for (int i = 1; i < argc && !o->done; i++) {
        const char *given = argv[i];
        if (given[0] != '-' || given[1] == 0) {
            add_file(o, "-hda", given, &(struct option_drive){ .index = 0 });
            continue;
        }
        const char *name = given + (given[1] == '-' ? 2 : 1);
        const struct option_row *r = find(name);
        if (!r)
            return unknown(given, name, err);
        const char *arg = NULL;
        if (r->arg) {
            if (i + 1 == argc)
                return opts_error(err, "%s: needs an argument%s%s", given, *r->arg ? ": " : "", r->arg);
            arg = argv[++i];
        }
        if (!apply(o, r, given, arg, err))
            return false;
    }
    if (o->done)
        return true;
    if (o->nodefaults && !o->vga_given)
        o->pc.vga = false;
    if (!o->pc.kernel && (o->pc.initrd || o->pc.append))
        return opts_error(err, "%s: only with -kernel", o->pc.initrd ? "-initrd" : "-append");
    if (o->daemonize && o->nographic)
        return opts_error(err,
                          "-daemonize: not together with -nographic, which needs the terminal; give -display none");
    return true;
}

void options_clear(struct options *o)
{
    for (guint i = 0; i < o->pc.globals->len; i++) {
        struct pc_global *g = o->pc.globals->pdata[i];
        g_free(g->driver);
        g_free(g->property);
        g_free(g->value);
        g_free(g);
    }
    for (guint i = 0; i < o->pc.fw_cfg->len; i++) {
        struct pc_fw_cfg_file *f = o->pc.fw_cfg->pdata[i];
        g_free(f->name);
        g_free(f->data);
        g_free(f);
    }
    g_ptr_array_free(o->pc.globals, TRUE);
    g_ptr_array_free(o->pc.fw_cfg, TRUE);
    g_ptr_array_free(o->pc.firmware_dirs, TRUE);
    smbios_config_clear(&o->pc.smbios);
    g_ptr_array_free(o->accels, TRUE);
    g_ptr_array_free(o->chardevs, TRUE);
    g_ptr_array_free(o->serials, TRUE);
    g_ptr_array_free(o->devices, TRUE);
    g_ptr_array_free(o->drives, TRUE);
    g_ptr_array_free(o->monitors, TRUE);
    g_free(o->debugcon);
    g_free(o->pidfile);
    g_free(o->log_items);
    g_free(o->log_file);
    g_free(o->name);
    g_free(o->boot_order);
    g_free(o->boot_once);
    g_free(o->screen_file);
}
