/*
 * Options whose argument has a structure: -machine, -cpu, -smp, -m, -accel, -rtc, -boot, -action, -smbios, -fw_cfg,
 * -global, -device, -drive, -uuid.
 */
#include "ui/options.h"

#include "accel/accel.h"
#include "cpu/cpu.h"
#include "hw/backend/blk.h"
#include "hw/core/memory.h"
#include "hw/core/opts.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static bool print_help(struct options *o, void (*help)(GString *out))
{
    GString *text = g_string_new(NULL);
    help(text);
    fputs(text->str, stdout);
    g_string_free(text, TRUE);
    o->done = true;
    return true;
}

static void set_string(char **where, const char *value)
{
    if (!value)
        return;
    g_free(*where);
    *where = g_strdup(value);
}

bool option_m(struct options *o, const char *arg, GError **err)
{
    struct opts *a = opts_parse(arg, "size");
    uint64_t size = o->pc.ram_size, slots = 0, maxmem = 0;
    bool ok = opts_take_size(a, "size", UINT64_C(1) << 20, &size, err) &&
              opts_take_number(a, "slots", 0, 256, &slots, err) && opts_take_size(a, "maxmem", 1 << 20, &maxmem, err) &&
              opts_done(a, "size, slots, maxmem", err);
    opts_free(a);
    if (!ok)
        return false;
    if (size < 1 << 20)
        return opts_error(err, "a PC has at least 1 MiB of memory");
    if (size > UINT64_C(1) << 40)
        return opts_error(err, "at most 1T of memory");
    if (maxmem && maxmem < size)
        return opts_error(err, "maxmem is less than the memory at the start");
    o->pc.ram_size = (size + PAGE_SIZE - 1) & PAGE_MASK;
    return true;
}

bool option_smp(struct options *o, const char *arg, GError **err)
{
    struct opts *a = opts_parse(arg, "cpus");
    uint64_t cpus = 0, max = 0, sockets = 0, dies = 1, clusters = 1, cores = 0, threads = 0;
    bool ok = opts_take_number(a, "cpus", 1, PC_MAX_CPUS, &cpus, err) &&
              opts_take_number(a, "maxcpus", 1, PC_MAX_CPUS, &max, err) &&
              opts_take_number(a, "sockets", 1, PC_MAX_CPUS, &sockets, err) &&
              opts_take_number(a, "dies", 1, 1, &dies, err) && opts_take_number(a, "clusters", 1, 1, &clusters, err) &&
              opts_take_number(a, "cores", 1, PC_MAX_CPUS, &cores, err) &&
              opts_take_number(a, "threads", 1, PC_MAX_CPUS, &threads, err) &&
              opts_done(a, "cpus, maxcpus, sockets, cores, threads", err);
    opts_free(a);
    if (!ok)
        return false;
    /* As QEMU fills in what is left out: cores before sockets, threads last. */
    uint64_t total = max ? max : cpus;
    if (!sockets && !cores && !threads && !total)
        total = 1;
    if (!cores && total) {
        sockets = sockets ? sockets : 1;
        threads = threads ? threads : 1;
        cores = total / (sockets * threads);
    } else {
        threads = threads ? threads : 1;
        cores = cores ? cores : 1;
        sockets = sockets ? sockets : total ? total / (cores * threads) : 1;
    }
    if (!total)
        total = sockets * cores * threads;
    cpus = cpus ? cpus : total;
    if (sockets * cores * threads != total)
        return opts_error(err,
                          "sockets (%" PRIu64 ") * cores (%" PRIu64 ") * threads (%" PRIu64 ") must be %s (%" PRIu64 ")",
                          sockets, cores, threads, max ? "maxcpus" : "cpus", total);
    if (cpus > total || total > PC_MAX_CPUS)
        return opts_error(err, "cpus must not be more than maxcpus, and these not more than %d", PC_MAX_CPUS);
    o->pc.cpus = cpus;
    o->pc.sockets = sockets;
    o->pc.cores = cores;
    o->pc.threads = threads;
    return true;
}

bool option_cpu(struct options *o, const char *arg, GError **err)
{
    if (strcmp(arg, "help") == 0 || strcmp(arg, "?") == 0)
        return print_help(o, cpu_model_help);
    struct cpu_model *m = cpu_model_parse(arg, err);
    if (!m)
        return false;
    cpu_model_free(m);
    o->pc.cpu_model = arg;
    return true;
}

/* "kvm:tcg" names several engines. */
static void add_accels(struct options *o, const char *list)
{
    char **names = g_strsplit(list, ":", -1);
    for (char **n = names; *n; n++)
        g_ptr_array_add(o->accels, g_strdup(*n));
    g_strfreev(names);
}

bool option_accel(struct options *o, const char *arg, GError **err)
{
    if (strcmp(arg, "help") == 0 || strcmp(arg, "?") == 0)
        return print_help(o, accel_help);
    if (*arg == 0 || *arg == ',')
        return opts_error(err, "give the name of an engine; -accel help lists them");
    g_ptr_array_add(o->accels, g_strdup(arg));
    return true;
}

static bool machine_type(struct options *o, const char *type, GError **err)
{
    if (strcmp(type, "pc") == 0 || g_str_has_prefix(type, "pc-i440fx-"))
        o->machine = MACHINE_PC;
    else if (strcmp(type, "none") == 0)
        o->machine = MACHINE_NONE;
    else
        return opts_error(err, "there is no machine '%s'; give pc or none", type);
    return true;
}

bool option_machine(struct options *o, const char *arg, GError **err)
{
    static const char *const ignored[] = { "vmport", "usb", "kernel-irqchip", "kernel_irqchip", "dump-guest-core",
                                           "mem-merge", "nvdimm", "hmat", "suppress-vmdesc", "sata", "pit", NULL };
    if (strcmp(arg, "help") == 0 || strcmp(arg, "?") == 0)
        return print_help(o, machine_help);
    struct opts *a = opts_parse(arg, "type");
    const char *type = opts_take(a, "type");
    const char *accel = opts_take(a, "accel");
    const char *smm = opts_take(a, "smm");
    bool graphics = true;
    bool ok = (!type || machine_type(o, type, err)) && opts_take_bool(a, "hpet", &o->pc.hpet, err) &&
              opts_take_bool(a, "acpi", &o->pc.acpi, err) && opts_take_bool(a, "i8042", &o->pc.i8042, err) &&
              opts_take_bool(a, "graphics", &graphics, err) &&
              (!smm || strcmp(smm, "auto") == 0 || parse_bool(smm, &o->pc.smm, err));
    for (const char *const *k = ignored; ok && *k; k++) {
        const char *value = opts_take(a, *k);
        if (value && !g_str_equal(value, "off"))
            fprintf(stderr, "trapeze: note: -machine %s=%s is accepted without effect\n", *k, value);
    }
    ok = ok && opts_done(a, "type, accel, hpet, acpi, smm, i8042, graphics", err);
    if (ok && accel)
        add_accels(o, accel);
    if (!graphics)
        o->pc.nographic = true;
    opts_free(a);
    return ok;
}

/* "2026-11-20" or "2026-11-20T18:32:05", UTC. */
static bool parse_date(const char *text, int64_t *seconds, GError **err)
{
    g_autofree char *full = strchr(text, 'T') ? g_strdup(text) : g_strconcat(text, "T00:00:00", NULL);
    g_autoptr(GTimeZone) utc = g_time_zone_new_utc();
    g_autoptr(GDateTime) t = g_date_time_new_from_iso8601(full, utc);
    if (!t)
        return opts_error(err, "base=%s is neither utc, localtime nor a date like 2026-11-20T18:32:05", text);
    *seconds = g_date_time_to_unix(t);
    return true;
}

bool option_rtc(struct options *o, const char *arg, GError **err)
{
    struct opts *a = opts_parse(arg, "base");
    const char *base = opts_take(a, "base");
    const char *clock = opts_take(a, "clock");
    const char *driftfix = opts_take(a, "driftfix");
    bool ok = true;
    if (base && strcmp(base, "utc") == 0)
        o->rtc_base = RTC_UTC;
    else if (base && strcmp(base, "localtime") == 0)
        o->rtc_base = RTC_LOCALTIME;
    else if (base && (ok = parse_date(base, &o->rtc_date, err)))
        o->rtc_base = RTC_DATE;
    if (ok && clock && strcmp(clock, "host") != 0 && strcmp(clock, "rt") != 0 && strcmp(clock, "vm") != 0)
        ok = opts_error(err, "clock=%s is none of host, rt, vm", clock);
    if (ok && clock && strcmp(clock, "host") != 0)
        fprintf(stderr, "trapeze: note: -rtc clock=%s is accepted without effect: the clock follows the host\n", clock);
    if (ok && driftfix && strcmp(driftfix, "none") != 0 && strcmp(driftfix, "slew") != 0)
        ok = opts_error(err, "driftfix=%s is neither none nor slew", driftfix);
    ok = ok && opts_done(a, "base, clock, driftfix", err);
    opts_free(a);
    return ok;
}

static bool check_order(const char *letters, GError **err)
{
    return !letters || letters[strspn(letters, "abcdefghijklmnop")] == 0 ||
           opts_error(err, "'%s' is no boot order; its letters are a floppy, c disk, d CD-ROM, n network", letters);
}

bool option_boot(struct options *o, const char *arg, GError **err)
{
    if (*arg == 0)
        return opts_error(err, "give an order such as dc, or menu=on");
    struct opts *a = opts_parse(arg, "order");
    const char *order = opts_take(a, "order"), *once = opts_take(a, "once");
    uint64_t splash_time = o->pc.boot_menu_wait, timeout = 0;
    const char *reboot = opts_take(a, "reboot-timeout");
    opts_take(a, "splash");
    bool ok = opts_take_bool(a, "menu", &o->pc.boot_menu, err) &&
              opts_take_bool(a, "strict", &o->pc.boot_strict, err) &&
              opts_take_number(a, "splash-time", 0, 0xffff, &splash_time, err) &&
              (!reboot || strcmp(reboot, "-1") == 0 || parse_number(reboot, 0, 0xffff, &timeout, err)) &&
              opts_done(a, "order, once, menu, splash, splash-time, reboot-timeout, strict", err);
    ok = ok && check_order(order, err) && check_order(once, err);
    if (ok) {
        set_string(&o->boot_order, order);
        set_string(&o->boot_once, once);
        o->pc.boot_order = o->boot_order;
        o->pc.boot_once = o->boot_once;
    }
    o->pc.boot_menu_wait = splash_time;
    if (ok && reboot)
        o->pc.reboot_timeout = strcmp(reboot, "-1") == 0 ? -1 : (int32_t)timeout;
    opts_free(a);
    return ok;
}

static bool one_action(const char *key, const char *value, const char *first, const char *second, bool *is_second,
                       GError **err)
{
    if (!value)
        return true;
    if (strcmp(value, first) != 0 && strcmp(value, second) != 0)
        return opts_error(err, "%s=%s: give %s or %s", key, value, first, second);
    *is_second = strcmp(value, second) == 0;
    return true;
}

bool option_action(struct options *o, const char *arg, GError **err)
{
    struct opts *a = opts_parse(arg, NULL);
    bool ok = one_action("reboot", opts_take(a, "reboot"), "reset", "shutdown", &o->no_reboot, err) &&
              one_action("shutdown", opts_take(a, "shutdown"), "poweroff", "pause", &o->no_shutdown, err);
    /* No device of ours reports a panic or runs out as a watchdog: the words are checked, nothing can come of them. */
    static const char *const events[] = { "panic", "watchdog", NULL };
    static const char *const words[] = { "none", "pause", "shutdown", "exit-failure", "reset", "poweroff", "debug",
                                         "inject-nmi", NULL };
    for (const char *const *e = events; ok && *e; e++) {
        const char *v = opts_take(a, *e);
        if (v && !g_strv_contains(words, v))
            ok = opts_error(err, "%s=%s: give none, pause, shutdown or reset", *e, v);
    }
    ok = ok && opts_done(a, "reboot, shutdown, panic, watchdog", err);
    opts_free(a);
    return ok;
}

bool option_global(struct options *o, const char *arg, GError **err)
{
    const char *dot = strchr(arg, '.'), *eq = strchr(arg, '=');
    struct pc_global *g = g_new0(struct pc_global, 1);
    if (dot && eq && dot < eq) {
        g->driver = g_strndup(arg, dot - arg);
        g->property = g_strndup(dot + 1, eq - dot - 1);
        g->value = g_strdup(eq + 1);
    } else {
        struct opts *a = opts_parse(arg, NULL);
        g->driver = g_strdup(opts_take(a, "driver"));
        g->property = g_strdup(opts_take(a, "property"));
        g->value = g_strdup(opts_take(a, "value"));
        opts_free(a);
    }
    g_ptr_array_add(o->pc.globals, g);
    if (!g->driver || !g->property || !g->value)
        return opts_error(err, "write it as TYPE.PROPERTY=VALUE");
    if (!device_type_find(g->driver))
        fprintf(stderr, "trapeze: note: -global %s: there is no device type '%s'\n", arg, g->driver);
    return true;
}

bool option_device(struct options *o, const char *arg, GError **err)
{
    g_autofree char *type = g_strndup(arg, strcspn(arg, ","));
    if (strcmp(type, "help") == 0 || strcmp(type, "?") == 0)
        return print_help(o, device_help);
    const char *rest = arg + strlen(type);
    if (strcmp(rest, ",help") == 0 || strcmp(rest, ",?") == 0) {
        GString *text = g_string_new(NULL);
        bool known = device_type_help(type, text);
        fputs(text->str, stdout);
        g_string_free(text, TRUE);
        o->done = true;
        return known || opts_error(err, "there is no device type '%s'; -device help lists them", type);
    }
    g_ptr_array_add(o->devices, g_strdup(arg));
    return true;
}

bool option_drive(struct options *o, const char *arg, GError **err)
{
    if (strcmp(arg, "help") == 0 || strcmp(arg, "?") == 0)
        return print_help(o, blk_drive_help);
    struct option_drive *d = g_new0(struct option_drive, 1);
    *d = (struct option_drive){ .option = g_strdup("-drive"), .arg = g_strdup(arg), .index = -1 };
    g_ptr_array_add(o->drives, d);
    return true;
}

bool option_fw_cfg(struct options *o, const char *arg, GError **err)
{
    struct opts *a = opts_parse(arg, "name");
    const char *name = opts_take(a, "name"), *file = opts_take(a, "file"), *string = opts_take(a, "string");
    struct pc_fw_cfg_file *f = g_new0(struct pc_fw_cfg_file, 1);
    g_ptr_array_add(o->pc.fw_cfg, f);
    bool ok = opts_done(a, "name, file, string", err);
    if (ok && (!name || !*name))
        ok = opts_error(err, "needs name=NAME");
    if (ok && !file == !string)
        ok = opts_error(err, "needs either file=FILE or string=TEXT");
    if (ok && file) {
        char *data;
        ok = g_file_get_contents(file, &data, &f->size, err);
        f->data = ok ? data : NULL;
    } else if (ok) {
        f->size = strlen(string);
        f->data = g_strdup(string);
    }
    f->name = g_strdup(name);
    opts_free(a);
    return ok;
}

/* "8-4-4-4-12" hexadecimal digits. */
bool option_uuid(struct options *o, const char *arg, GError **err)
{
    struct smbios_config *c = &o->pc.smbios;
    if (!g_uuid_string_is_valid(arg))
        return opts_error(err, "write it like 123e4567-e89b-12d3-a456-426614174000");
    for (unsigned i = 0; i < 16; arg++) {
        if (*arg == '-')
            continue;
        c->uuid[i++] = g_ascii_xdigit_value(arg[0]) << 4 | g_ascii_xdigit_value(arg[1]);
        arg++;
    }
    c->uuid_set = true;
    return true;
}

/* --- -smbios ------------------------------------------------------------------------------------------------------ */

struct smbios_key {
    unsigned type;
    const char *key;
    size_t offset; /* of the char * in struct smbios_config */
};

#define KEY(type_, key_, member_) { type_, key_, offsetof(struct smbios_config, member_) }

static const struct smbios_key smbios_keys[] = {
    KEY(0, "vendor", bios_vendor),
    KEY(0, "version", bios_version),
    KEY(0, "date", bios_date),
    KEY(1, "manufacturer", manufacturer),
    KEY(1, "product", product),
    KEY(1, "version", version),
    KEY(1, "serial", serial),
    KEY(1, "sku", sku),
    KEY(1, "family", family),
    KEY(2, "manufacturer", board_manufacturer),
    KEY(2, "product", board_product),
    KEY(2, "version", board_version),
    KEY(2, "serial", board_serial),
    KEY(2, "asset", board_asset),
    KEY(2, "location", board_location),
    KEY(3, "manufacturer", chassis_manufacturer),
    KEY(3, "version", chassis_version),
    KEY(3, "serial", chassis_serial),
    KEY(3, "asset", chassis_asset),
    KEY(3, "sku", chassis_sku),
    KEY(4, "sock_pfx", cpu_socket),
    KEY(4, "manufacturer", cpu_manufacturer),
    KEY(4, "version", cpu_version),
    KEY(4, "serial", cpu_serial),
    KEY(4, "asset", cpu_asset),
    KEY(4, "part", cpu_part),
    KEY(17, "loc_pfx", memory_locator),
    KEY(17, "bank", memory_bank),
    KEY(17, "manufacturer", memory_manufacturer),
    KEY(17, "serial", memory_serial),
    KEY(17, "asset", memory_asset),
    KEY(17, "part", memory_part),
};

static bool smbios_release(struct smbios_config *c, const char *release, GError **err)
{
    unsigned major, minor;
    char extra;
    if (sscanf(release, "%u.%u%c", &major, &minor, &extra) != 2 || major > 255 || minor > 255)
        return opts_error(err, "release=%s: write it like 1.16", release);
    c->bios_release_set = true;
    c->bios_major = major;
    c->bios_minor = minor;
    return true;
}

static bool smbios_special(struct options *o, uint64_t type, struct opts *a, GError **err)
{
    struct smbios_config *c = &o->pc.smbios;
    const char *v;
    if (type == 0) {
        if ((v = opts_take(a, "release")) && !smbios_release(c, v, err))
            return false;
        return opts_take_bool(a, "uefi", &c->uefi, err);
    }
    if (type == 1 && (v = opts_take(a, "uuid")))
        return option_uuid(o, v, err);
    if (type == 4)
        return opts_take_number(a, "max-speed", 0, 0xffff, &c->cpu_max_speed, err) &&
               opts_take_number(a, "current-speed", 0, 0xffff, &c->cpu_current_speed, err);
    if (type == 11 && (v = opts_take(a, "value"))) {
        if (c->oem_string_count == G_N_ELEMENTS(c->oem_strings))
            return opts_error(err, "at most %zu strings of type 11", G_N_ELEMENTS(c->oem_strings));
        c->oem_strings[c->oem_string_count++] = g_strdup(v);
    }
    if (type == 17)
        return opts_take_number(a, "speed", 0, 0xffff, &c->memory_speed, err);
    return true;
}

bool option_smbios(struct options *o, const char *arg, GError **err)
{
    struct opts *a = opts_parse(arg, NULL);
    uint64_t type = UINT64_MAX;
    GString *known = g_string_new(NULL);
    bool ok = opts_take_number(a, "type", 0, 127, &type, err);
    if (ok && type == UINT64_MAX)
        ok = opts_error(err, "needs type=N");
    if (ok && type != 0 && type != 1 && type != 2 && type != 3 && type != 4 && type != 11 && type != 17)
        ok = opts_error(err, "there are fields for types 0, 1, 2, 3, 4, 11 and 17");
    for (unsigned i = 0; ok && i < G_N_ELEMENTS(smbios_keys); i++) {
        const struct smbios_key *k = &smbios_keys[i];
        if (k->type != type)
            continue;
        g_string_append_printf(known, "%s%s", known->len ? ", " : "", k->key);
        set_string((char **)((char *)&o->pc.smbios + k->offset), opts_take(a, k->key));
    }
    static const char *const special[] = { [0] = ", release, uefi", [1] = ", uuid", [4] = ", max-speed, current-speed",
                                           [11] = "value", [17] = ", speed" };
    ok = ok && smbios_special(o, type, a, err);
    if (ok && type < G_N_ELEMENTS(special) && special[type])
        g_string_append(known, special[type]);
    ok = ok && opts_done(a, known->str, err);
    g_string_free(known, TRUE);
    opts_free(a);
    return ok;
}
