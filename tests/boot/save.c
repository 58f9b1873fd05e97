/*
 * Debian's kernel boots while its machine is saved, loaded into a new machine and gone on with there, at random
 * instants: each time the new machine must save to the same bytes, and in the end the guest must have noticed nothing.
 *
 * --seed=... (printed first) repeats a run.
 */
#include "accel/accel.h"
#include "hw/backend/chr.h"
#include "hw/core/machine.h"
#include "hw/core/vm_lock.h"
#include "hw/pc/pc.h"
#include "tests/lib/time_scale.h"

#include <glib.h>
#include <glib/gstdio.h>
#include <string.h>

static const char init_script[] =
    "#!/bin/busybox sh\n"
    "mount -t proc proc /proc\n"
    "mount -t devtmpfs dev /dev\n"
    "echo FIRST LINE\n"
    "i=0; s=0; while [ $i -lt 20000 ]; do i=$((i+1)); s=$(((s*31+i)%1000003)); done; echo SUM $s\n"
    "dd if=/dev/zero bs=1M count=20 2>/dev/null | md5sum\n"
    "dmesg | grep -iE 'oops|BUG:|WARNING:|call trace|stall|unstable' | sed 's/^/COMPLAINT /'\n"
    "echo LAST LINE\n"
    "poweroff -f\n";

struct run {
    struct machine *m;
    struct chr *serial;
    GMainLoop *loop;
    GString *text; /* all that the guest has printed, over all machines */
    bool ended;
    struct pc_config config;
};

static gboolean look_at_requests(void *opaque)
{
    struct run *r = opaque;
    vm_lock();
    enum machine_request what = machine_take_request(r->m);
    vm_unlock();
    if (what != REQUEST_NONE) {
        r->ended = true;
        g_main_loop_quit(r->loop);
    }
    return G_SOURCE_REMOVE;
}

static void on_request(struct machine *m, void *opaque)
{
    g_idle_add_full(G_PRIORITY_HIGH, look_at_requests, opaque, NULL);
}

static gboolean stop_running(void *opaque)
{
    struct run *r = opaque;
    g_main_loop_quit(r->loop);
    return G_SOURCE_REMOVE;
}

static void collect(struct run *r)
{
    char buf[4096];
    size_t n;
    while ((n = chr_ringbuf_read(r->serial, buf, sizeof buf)) > 0)
        g_string_append_len(r->text, buf, n);
}

static gboolean collect_now(void *opaque)
{
    vm_lock();
    collect(opaque);
    vm_unlock();
    return G_SOURCE_CONTINUE;
}

static void make(struct run *r)
{
    GError *err = NULL;
    const char *accel[] = { g_getenv("ACCEL") && *g_getenv("ACCEL") ? g_getenv("ACCEL") : "auto", NULL };
    r->m = machine_new(false);
    r->m->on_request = on_request;
    r->m->on_request_opaque = r;
    chr_new_legacy(r->m, "serial0", "ringbuf", &r->serial, &err);
    g_assert_no_error(err);
    pc_init(r->m, &r->config, &err);
    g_assert_no_error(err);
    accel_init(r->m, accel, &err);
    g_assert_no_error(err);
    vcpus_start(r->m, &err);
    g_assert_no_error(err);
}

static void unmake(struct run *r)
{
    vcpus_stop(r->m);
    collect(r);
    accel_fini(r->m);
    machine_free(r->m);
    while (g_idle_remove_by_data(r))
        ;
}

/* Lets the guest run for a while. */
static void run_for(struct run *r, unsigned ms)
{
    guint timeout = g_timeout_add(ms, stop_running, r), reader = g_timeout_add(20, collect_now, r);
    r->m->run_state = RUN_STATE_RUNNING;
    clock_start(r->m->clock);
    vcpus_resume(r->m);
    vm_unlock();
    g_main_loop_run(r->loop);
    vm_lock();
    vcpus_pause(r->m);
    clock_stop(r->m->clock);
    r->m->run_state = RUN_STATE_PAUSED;
    if (g_main_context_find_source_by_id(NULL, timeout))
        g_source_remove(timeout);
    g_source_remove(reader);
}

static size_t first_difference(const GByteArray *a, const GByteArray *b)
{
    size_t n = 0;
    while (n < MIN(a->len, b->len) && a->data[n] == b->data[n])
        n++;
    return n;
}

/* Into a machine of its own; the old one goes. */
static void move(struct run *r)
{
    GError *err = NULL;
    GByteArray *before = machine_save(r->m, &err);
    g_assert_no_error(err);
    unmake(r);
    make(r);
    machine_load(r->m, before->data, before->len, &err);
    g_assert_no_error(err);
    GByteArray *after = machine_save(r->m, &err);
    g_assert_no_error(err);
    if (before->len != after->len || memcmp(before->data, after->data, before->len))
        g_error("saved again, the state differs from byte %zu of %u on", first_difference(before, after), before->len);
    g_byte_array_unref(before);
    g_byte_array_unref(after);
}

static char *output_of(const char *command)
{
    GError *err = NULL;
    char *out = NULL;
    int status;
    g_spawn_command_line_sync(command, &out, NULL, &status, &err);
    g_assert_no_error(err);
    g_assert_true(g_spawn_check_wait_status(status, NULL));
    return g_strchomp(out);
}

static void test_moves(gconstpointer cpus)
{
    g_autofree char *kernel = output_of("tests/lib/fetch bookworm amd64 linux-image-cloud-amd64 'boot/vmlinuz-*'");
    g_autofree char *busybox = output_of("tests/lib/fetch bookworm amd64 busybox-static bin/busybox");
    g_autofree char *dir = g_dir_make_tmp("trapeze-save-XXXXXX", NULL);
    g_autofree char *init = g_build_filename(dir, "init", NULL), *initrd = g_build_filename(dir, "initrd", NULL);
    g_file_set_contents(init, init_script, -1, NULL);
    g_chmod(init, 0755);
    g_autofree char *build = g_strdup_printf("python3 tests/lib/initramfs.py %s %s init=%s", initrd, busybox, init);
    g_free(output_of(build));

    struct run r = { .loop = g_main_loop_new(NULL, FALSE), .text = g_string_new(NULL) };
    unsigned n = GPOINTER_TO_UINT(cpus), moves = 0;
    r.config = (struct pc_config){ .ram_size = 128 << 20, .cpus = n, .sockets = n, .cores = 1, .threads = 1,
                                   .cpu_model = "max", .kernel = kernel, .initrd = initrd,
                                   .append = "console=ttyS0 panic=-1 quiet", .acpi = true, .hpet = true, .vga = true,
                                   .i8042 = true, .serials = { "serial0" }, .reboot_timeout = -1, .nographic = true,
                                   .globals = g_ptr_array_new(), .fw_cfg = g_ptr_array_new(),
                                   .firmware_dirs = g_ptr_array_new() };
    vm_lock();
    make(&r);
    pc_reset(r.m);
    for (; !r.ended && moves < 60 * time_scale(); moves++) {
        run_for(&r, g_test_rand_int_range(20, 1500));
        if (!r.ended)
            move(&r);
    }
    unmake(&r);
    vm_unlock();
    g_test_message("%u moves", moves);
    g_unlink(init);
    g_unlink(initrd);
    g_rmdir(dir);
    g_main_loop_unref(r.loop);
    g_ptr_array_unref(r.config.globals);
    g_ptr_array_unref(r.config.fw_cfg);
    g_ptr_array_unref(r.config.firmware_dirs);
    if (!strstr(r.text->str, "LAST LINE") || strstr(r.text->str, "COMPLAINT"))
        g_test_message("%s", r.text->str);
    g_assert_true(r.ended);
    g_assert_nonnull(strstr(r.text->str, "FIRST LINE"));
    g_assert_nonnull(strstr(r.text->str, "SUM 711572"));
    g_assert_nonnull(strstr(r.text->str, "8f4e33f3dc3e414ff94e5fb6905cba8c"));
    g_assert_nonnull(strstr(r.text->str, "LAST LINE"));
    g_assert_null(strstr(r.text->str, "COMPLAINT"));
    g_string_free(r.text, TRUE);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/boot/save/one-processor", GUINT_TO_POINTER(1), test_moves);
    g_test_add_data_func("/boot/save/two-processors", GUINT_TO_POINTER(2), test_moves);
    return g_test_run();
}
