/*
 * The program: parses the command line, makes the machine, runs the main loop.
 *
 * The main loop's thread does all of this. It takes the VM lock to touch the machine; vCPU threads run beside it
 * (accel/vcpu.c). Everything that makes or changes the machine happens with the vCPUs paused.
 */
#include "accel/accel.h"
#include "hw/backend/blk.h"
#include "hw/backend/chr.h"
#include "hw/core/log.h"
#include "hw/core/machine.h"
#include "hw/core/vm_lock.h"
#include "hw/core/opts.h"
#include "ui/monitor.h"
#include "ui/process.h"
#include "ui/session.h"

#include <glib-unix.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* --- Making the machine ------------------------------------------------------------------------------------------- */

static bool make_chardevs(struct session *s, GError **err)
{
    for (guint i = 0; i < s->options.chardevs->len; i++) {
        const char *arg = s->options.chardevs->pdata[i];
        struct chr *c = chr_new_chardev(s->m, arg, err);
        if (!c) {
            g_prefix_error(err, "-chardev %s: ", arg);
            return false;
        }
        chr_mux_set_escape(c, s->options.escape);
    }
    return true;
}

/* What -serial, -debugcon or -monitor names; NULL: it leads nowhere. */
static bool make_legacy_chr(struct session *s, const char *option, const char *id, const char *spec, struct chr **out,
                            GError **err)
{
    if (!chr_new_legacy(s->m, id, spec, out, err)) {
        g_prefix_error(err, "%s %s: ", option, spec);
        return false;
    }
    if (*out)
        chr_mux_set_escape(*out, s->options.escape);
    return true;
}

/* As an id for a device's chardev property; "" if it leads nowhere. */
static bool make_device_chr(struct session *s, const char *option, const char *id, const char *spec, const char **out,
                            GError **err)
{
    struct chr *c;
    if (!make_legacy_chr(s, option, id, spec, &c, err))
        return false;
    *out = c ? chr_id(c) : "";
    return true;
}

/*
 * What is there without being asked for, as QEMU has it: on a terminal of their own serial port and monitor share it;
 * if a serial port is said to be elsewhere, the monitor has it.
 */
static void add_defaults(struct session *s)
{
    struct options *o = &s->options;
    bool terminal = o->nographic;
    if (o->nodefaults)
        return;
    if (!terminal && !o->display_given && o->serials->len == 0 && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO)) {
        fputs("trapeze: note: this version has no window: the serial port is on this terminal (as with -nographic)\n",
              stderr);
        terminal = true;
    }
    if (o->serials->len == 0)
        g_ptr_array_add(o->serials, g_strdup(!terminal ? "null" : o->monitor_given ? "stdio" : "mon:stdio"));
    else if (terminal && !o->monitor_given)
        g_ptr_array_add(o->monitors, g_strdup("stdio"));
}

static bool make_serials(struct session *s, GError **err)
{
    static const char *const ids[PC_SERIAL_PORTS] = { "serial0", "serial1", "serial2", "serial3" };
    struct options *o = &s->options;
    for (guint i = 0; i < o->serials->len; i++) {
        const char *spec = o->serials->pdata[i];
        if (strcmp(spec, "none") == 0)
            continue;
        if (!make_device_chr(s, "-serial", ids[i], spec, &o->pc.serials[i], err))
            return false;
    }
    return !o->debugcon || make_device_chr(s, "-debugcon", "debugcon0", o->debugcon, &o->pc.debugcon, err);
}

static bool make_monitor(struct session *s, struct chr *c, const char *option, const char *spec, GError **err)
{
    struct monitor *mon = monitor_new(s, c, err);
    if (!mon) {
        g_prefix_error(err, "%s %s: ", option, spec);
        return false;
    }
    g_ptr_array_add(s->monitors, mon);
    return true;
}

/* Behind the devices, so that on a shared terminal the serial port is what one sees first. */
static bool make_monitors(struct session *s, GError **err)
{
    struct options *o = &s->options;
    struct chr *c;
    for (guint i = 0; i < o->serials->len; i++) {
        const char *spec = o->serials->pdata[i];
        if (!g_str_has_prefix(spec, "mon:") || !o->pc.serials[i] || !*o->pc.serials[i])
            continue;
        if (!make_monitor(s, chr_find(s->m, o->pc.serials[i]), "-serial", spec, err))
            return false;
    }
    for (guint i = 0; i < o->monitors->len; i++) {
        const char *spec = o->monitors->pdata[i];
        g_autofree char *id = g_strdup_printf("monitor%u", i);
        if (!make_legacy_chr(s, "-monitor", id, spec, &c, err) || (c && !make_monitor(s, c, "-monitor", spec, err)))
            return false;
    }
    return true;
}

/* Is there a place on the board for it? */
static bool check_drive(const struct session *s, const struct blk *b, GError **err)
{
    const struct blk_drive *d = blk_drive(b);
    switch (d->interface) {
    case BLK_IF_NONE:
        return true;
    case BLK_IF_IDE:
        return (s->options.machine == MACHINE_PC && d->bus < 2) || opts_error(err, "the machine has four IDE drives, index=0 to 3");
    case BLK_IF_FLOPPY:
        return (s->options.machine == MACHINE_PC && d->bus == 0) || opts_error(err, "the machine has two floppy drives, index=0 and 1");
    case BLK_IF_VIRTIO:
        return s->options.machine == MACHINE_PC || opts_error(err, "this machine has no PCI bus");
    default:
        return opts_error(err, "this version has drives with if=ide, if=virtio and if=floppy, and if=none for a -device");
    }
}

static bool make_drive(struct session *s, const struct option_drive *d, GError **err)
{
    struct opts *o = opts_parse(d->is_file ? "" : d->arg, NULL);
    if (d->is_file)
        opts_set(o, "file", d->arg);
    if (d->cdrom)
        opts_set(o, "media", "cdrom");
    if (s->options.snapshot)
        opts_set(o, "snapshot", "on");
    struct blk *b = blk_new_drive_opts(s->m, o, d->floppy ? BLK_IF_FLOPPY : BLK_IF_IDE, d->index, err);
    if (b && check_drive(s, b, err))
        return true;
    g_prefix_error(err, "%s %s: ", d->option, d->arg);
    return false;
}

static bool make_drives(struct session *s, GError **err)
{
    for (guint i = 0; i < s->options.drives->len; i++)
        if (!make_drive(s, s->options.drives->pdata[i], err))
            return false;
    return true;
}

static const char *creatable_name(unsigned i)
{
    const struct device_type *const *t = device_types();
    return t[i] ? t[i]->name : NULL;
}

/* One -device argument: TYPE,bus=NAME,id=ID,PROPERTY=VALUE ... */
static bool make_device(struct session *s, const char *arg, GError **err)
{
    struct opts *a = opts_parse(arg, "driver");
    const char *name = opts_take(a, "driver"), *bus_name = opts_take(a, "bus");
    const struct device_type *t = name ? device_type_find(name) : NULL;
    struct device *d = NULL;
    struct bus *bus = t ? bus_find(s->m->system_bus, t->bus, bus_name) : NULL;
    bool ok = true;
    if (!t) {
        const char *near = name ? nearest_name(name, creatable_name) : NULL;
        ok = opts_error(err, "there is no such device type%s%s%s; -device help lists them",
                        near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
    } else if (!t->user_creatable) {
        ok = opts_error(err, "a '%s' is part of the board and cannot be added", name);
    } else if (!bus) {
        ok = opts_error(err, "this machine has no %s bus%s%s", t->bus, bus_name ? " named " : "",
                        bus_name ? bus_name : "");
    }
    if (ok && !(d = pc_device_new(s->m, t, bus, err)))
        ok = false;
    if (d) {
        const char *key, *value;
        while (ok && opts_next(a, &key, &value))
            ok = device_set_prop(d, key, value, err);
        ok = ok && device_realize(d, err);
    }
    if (!ok)
        g_prefix_error(err, "-device %s: ", arg);
    opts_free(a);
    return ok;
}

static void set_wall_clock(struct session *s)
{
    const struct options *o = &s->options;
    int64_t now = g_get_real_time() / G_USEC_PER_SEC;
    if (o->rtc_base == RTC_LOCALTIME) {
        g_autoptr(GDateTime) t = g_date_time_new_now_local();
        clock_set_wall_offset(s->m->clock, g_date_time_get_utc_offset(t) / G_USEC_PER_SEC);
    } else if (o->rtc_base == RTC_DATE) {
        clock_set_wall_offset(s->m->clock, o->rtc_date - now);
    }
}

static bool make_machine(struct session *s, GError **err)
{
    struct options *o = &s->options;
    g_ptr_array_add(o->accels, NULL);
    s->m->no_reboot = o->no_reboot;
    s->m->no_shutdown = o->no_shutdown;
    s->m->perfmap = o->perfmap;
    set_wall_clock(s);
    add_defaults(s);
    if (!make_chardevs(s, err) || !make_drives(s, err))
        return false;
    if (!make_serials(s, err) || (o->machine == MACHINE_PC && !pc_init(s->m, &o->pc, err)))
        return false;
    if (!accel_init(s->m, (const char *const *)o->accels->pdata, err)) {
        if (!g_str_has_prefix((*err)->message, "-accel"))
            g_prefix_error(err, "-accel: ");
        return false;
    }
    if (o->perfmap && strcmp(accel_name(s->m), "jit"))
        fprintf(stderr, "trapeze: note: -perfmap is without effect: only the JIT makes code\n");
    for (guint i = 0; i < o->devices->len; i++)
        if (!make_device(s, o->devices->pdata[i], err))
            return false;
    if (o->machine == MACHINE_PC && !pc_finish(s->m, &o->pc, err))
        return false;
    return make_monitors(s, err) && vcpus_start(s->m, err);
}

/* --- Signals, and the text screen --------------------------------------------------------------------------------- */

static gboolean on_quit_signal(void *opaque)
{
    struct session *s = opaque;
    g_main_loop_quit(s->loop);
    return G_SOURCE_CONTINUE;
}

static void dump_screen(struct session *s)
{
    if (!s->options.screen_file || s->options.machine != MACHINE_PC)
        return;
    g_autoptr(GError) err = NULL;
    g_autofree char *text = pc_text_screen(s->m);
    if (!g_file_set_contents(s->options.screen_file, text ? text : "", -1, &err))
        fprintf(stderr, "trapeze: -dump-screen %s: %s\n", s->options.screen_file, err->message);
}

static gboolean on_dump_signal(void *opaque)
{
    vm_lock();
    dump_screen(opaque);
    vm_unlock();
    return G_SOURCE_CONTINUE;
}

static void watch_signals(struct session *s)
{
    static const int quit[] = { SIGINT, SIGTERM, SIGHUP };
    /* High: they come before a guest that resets without end. */
    for (unsigned i = 0; i < G_N_ELEMENTS(quit); i++)
        g_unix_signal_add_full(G_PRIORITY_HIGH, quit[i], on_quit_signal, s, NULL);
    g_unix_signal_add(SIGUSR1, on_dump_signal, s);
    signal(SIGPIPE, SIG_IGN);
}

/* --- Life --------------------------------------------------------------------------------------------------------- */

static bool prepare(struct session *s, GError **err)
{
    struct options *o = &s->options;
    if (o->log_file && !log_set_file(o->log_file, err)) {
        g_prefix_error(err, "-D %s: ", o->log_file);
        return false;
    }
    if (o->daemonize && !process_daemonize(err))
        return false;
    return !o->pidfile || process_pidfile_write(o->pidfile, err);
}

static bool run(struct session *s, GError **err)
{
    struct options *o = &s->options;
    if (!prepare(s, err))
        return false;
    s->loop = g_main_loop_new(NULL, FALSE);
    vm_lock();
    s->m = machine_new(false);
    session_listen(s);
    s->monitors = g_ptr_array_new_with_free_func(monitor_free);
    watch_signals(s);
    bool ok = make_machine(s, err);
    if (ok) {
        if (o->machine == MACHINE_PC)
            pc_reset(s->m);
        if (!o->start_paused)
            session_resume(s);
    }
    vm_unlock();
    ok = ok && process_ready(err);
    if (ok)
        g_main_loop_run(s->loop);

    vm_lock();
    vcpus_stop(s->m);
    if (ok)
        dump_screen(s);
    accel_fini(s->m);
    s->exit_code = s->m->exit_code;
    g_ptr_array_free(s->monitors, TRUE);
    machine_free(s->m);
    vm_unlock();
    g_main_loop_unref(s->loop);
    return ok;
}

int main(int argc, char **argv)
{
    struct session s = { 0 };
    GError *err = NULL;
    setlocale(LC_CTYPE, "");
    options_init(&s.options);
    bool ok = options_parse(&s.options, argc, argv, &err);
    if (ok && !s.options.done)
        ok = run(&s, &err);
    process_pidfile_remove();
    options_clear(&s.options);
    if (!ok) {
        fprintf(stderr, "trapeze: %s\n", err->message);
        g_error_free(err);
        return 1;
    }
    return s.exit_code;
}
