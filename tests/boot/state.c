/*
 * The whole machine's state, saved and loaded while Debian's kernel boots and works, at random instants: saving again gives the same
 * bytes, and the guest goes on. At the end it goes on in another machine that never ran before.
 */
#include "accel/accel.h"
#include "cpu/cpu.h"
#include "hw/backend/chr.h"
#include "hw/core/machine.h"
#include "hw/core/vm_lock.h"
#include "hw/pc/pc.h"

#include <glib.h>
#include <glib/gstdio.h>
#include <string.h>

static const char init_script[] =
    "#!/bin/busybox sh\n"
    "export PATH=/bin\n"
    "mount -t proc proc /proc\n"
    "i=0\n"
    "while [ $i -lt 24 ]; do\n"
    "  i=$((i+1))\n"
    "  echo STEP $i $(md5sum < /bin/busybox) on $(grep -c processor /proc/cpuinfo)\n"
    "  sleep 0.2\n"
    "done\n"
    "dmesg | grep -iE 'oops|BUG:|call trace|unstable'\n"
    "echo LAST LINE\n"
    "poweroff -f\n";

struct vm {
    struct machine *m;
    struct chr *serial;
    bool ended;
};

static struct {
    char *dir, *kernel, *initrd;
    GString *text; /* what the guest printed, in any machine */
} files;

/* The first line that a command prints, or NULL if it fails. */
static char *command(const char *const *argv)
{
    char *out = NULL;
    int status = 0;
    if (!g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &out, NULL, &status, NULL) || status != 0) {
        g_free(out);
        return NULL;
    }
    return g_strchomp(out);
}

/* False: no network and nothing in the cache. */
static bool get_files(void)
{
    const char *const kernel[] = { "tests/lib/fetch", "bookworm", "amd64", "linux-image-cloud-amd64", "boot/vmlinuz-*", NULL };
    const char *const shell[] = { "tests/lib/fetch", "bookworm", "amd64", "busybox-static", "bin/busybox", NULL };
    files.kernel = command(kernel);
    g_autofree char *busybox = command(shell);
    if (!files.kernel || !busybox)
        return false;
    files.dir = g_dir_make_tmp("trapeze-state-XXXXXX", NULL);
    files.initrd = g_build_filename(files.dir, "initrd", NULL);
    g_autofree char *init = g_build_filename(files.dir, "init", NULL), *arg = g_strconcat("init=", init, NULL);
    g_assert_true(g_file_set_contents(init, init_script, -1, NULL));
    g_chmod(init, 0755);
    const char *const pack[] = { "python3", "tests/lib/initramfs.py", files.initrd, busybox, arg, NULL };
    g_autofree char *nothing = command(pack);
    g_assert_nonnull(nothing);
    g_unlink(init);
    return true;
}

static void on_request(struct machine *m, void *opaque)
{
    struct vm *vm = opaque;
    __atomic_store_n(&vm->ended, true, __ATOMIC_SEQ_CST);
}

/* A machine as `trapeze -smp 2 -m 192 -kernel ...` makes it, paused. */
static struct vm *vm_new(void)
{
    struct vm *vm = g_new0(struct vm, 1);
    GError *err = NULL;
    vm_lock();
    vm->m = machine_new(false);
    vm->m->on_request = on_request;
    vm->m->on_request_opaque = vm;
    vm->serial = chr_new_chardev(vm->m, "ringbuf,id=serial0,size=1048576", &err);
    g_assert_no_error(err);
    struct pc_config c = {
        .ram_size = UINT64_C(192) << 20, .cpus = 2, .sockets = 1, .cores = 2, .threads = 1, .cpu_model = "max",
        .kernel = files.kernel, .initrd = files.initrd, .append = "console=ttyS0 panic=-1", .acpi = true, .hpet = true,
        .vga = true, .smm = true, .i8042 = true, .serials = { "serial0" }, .reboot_timeout = -1,
        .firmware_dirs = g_ptr_array_new(), .globals = g_ptr_array_new(), .fw_cfg = g_ptr_array_new(),
    };
    pc_init(vm->m, &c, &err);
    g_assert_no_error(err);
    g_ptr_array_unref(c.firmware_dirs);
    g_ptr_array_unref(c.fw_cfg);
    const char *engine = g_getenv("ACCEL");
    const char *const preferences[] = { engine && *engine ? engine : NULL, NULL };
    accel_init(vm->m, preferences, &err);
    g_assert_no_error(err);
    vcpus_start(vm->m, &err);
    g_assert_no_error(err);
    pc_reset(vm->m);
    vm_unlock();
    return vm;
}

static void vm_free(struct vm *vm)
{
    vm_lock();
    vcpus_stop(vm->m);
    accel_fini(vm->m);
    machine_free(vm->m);
    vm_unlock();
    g_free(vm);
}

static void vm_resume(struct vm *vm)
{
    vm_lock();
    clock_start(vm->m->clock);
    vcpus_resume(vm->m);
    vm_unlock();
}

static void vm_pause(struct vm *vm)
{
    vm_lock();
    vcpus_pause(vm->m);
    clock_stop(vm->m->clock);
    vm_unlock();
}

static gboolean wake(void *opaque)
{
    *(bool *)opaque = true;
    return G_SOURCE_REMOVE;
}

/* Runs the main loop for that long, or until the guest ends. */
static void vm_run(struct vm *vm, unsigned ms)
{
    bool over = false;
    guint id = g_timeout_add(ms, wake, &over);
    while (!over && !__atomic_load_n(&vm->ended, __ATOMIC_SEQ_CST))
        g_main_context_iteration(NULL, TRUE);
    if (!over)
        g_source_remove(id);
    vm_lock();
    char buf[4096];
    size_t n;
    while ((n = chr_ringbuf_read(vm->serial, buf, sizeof buf)) > 0)
        g_string_append_len(files.text, buf, n);
    vm_unlock();
}

static GByteArray *save(struct vm *vm)
{
    GError *err = NULL;
    vm_lock();
    GByteArray *b = machine_save(vm->m, &err);
    vm_unlock();
    g_assert_no_error(err);
    return b;
}

static void load(struct vm *vm, const GByteArray *b)
{
    GError *err = NULL;
    vm_lock();
    machine_load(vm->m, b->data, b->len, &err);
    vm_unlock();
    g_assert_no_error(err);
}

static void assert_equal(const GByteArray *a, const GByteArray *b)
{
    g_assert_cmpuint(a->len, ==, b->len);
    for (guint i = 0; i < a->len; i++)
        if (a->data[i] != b->data[i])
            g_error("saved states differ first at byte %u: %02x and %02x", i, a->data[i], b->data[i]);
}

/* Loads the saved state of `from` into `to`, which may be the same, and checks that it then saves the same. */
static void transfer(struct vm *from, struct vm *to)
{
    g_autoptr(GByteArray) one = save(from);
    load(to, one);
    g_autoptr(GByteArray) two = save(to);
    assert_equal(one, two);
}

static bool printed(const char *text)
{
    return strstr(files.text->str, text) != NULL;
}

/* All steps in order, each with the same sum, on both processors. */
static void check_text(void)
{
    g_auto(GStrv) lines = g_strsplit(files.text->str, "\n", -1);
    g_autofree char *first = NULL;
    unsigned steps = 0;
    for (char **l = lines; *l; l++) {
        char *step = strstr(*l, "STEP ");
        if (!step)
            continue;
        char *end;
        g_assert_cmpuint(strtoul(step + 5, &end, 10), ==, ++steps);
        if (!first)
            first = g_strdup(g_strchomp(end));
        g_assert_cmpstr(g_strchomp(end), ==, first);
        g_assert_true(g_str_has_suffix(first, "on 2"));
    }
    g_assert_cmpuint(steps, ==, 24);
    g_assert_false(printed("Oops") || printed("BUG:") || printed("Call Trace") || printed("unstable"));
}

static void test_state(void)
{
    if (!get_files()) {
        g_test_skip("Debian's kernel cannot be had");
        return;
    }
    files.text = g_string_new(NULL);
    struct vm *vm = vm_new();
    gint64 give_up = g_get_monotonic_time() + 600 * G_USEC_PER_SEC;
    unsigned trips = 0;
    while (!printed("STEP 8 ") && !vm->ended && g_get_monotonic_time() < give_up) {
        vm_resume(vm);
        vm_run(vm, g_test_rand_int_range(10, 500));
        vm_pause(vm);
        if (!vm->ended) {
            transfer(vm, vm);
            trips++;
        }
    }
    struct vm *other = vm_new();
    transfer(vm, other);
    vm_free(vm);
    vm_resume(other);
    while (!other->ended && g_get_monotonic_time() < give_up)
        vm_run(other, 500);
    g_test_message("%u times saved and loaded", trips);
    if (!printed("LAST LINE"))
        g_error("the guest did not come to its end; it printed:\n%s", files.text->str);
    check_text();
    g_assert_true(other->ended);
    vm_free(other);
    g_unlink(files.initrd);
    g_rmdir(files.dir);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/boot/state", test_state);
    return g_test_run();
}
