/* See blk_test.h. */
#include "tests/lib/blk_test.h"

#include "hw/core/opts.h"
#include "hw/core/vm_lock.h"
#include "tests/lib/device_test.h"

#include <string.h>
#include <sys/wait.h>

static char *directory;
static GPtrArray *names;
static struct machine *machine;

void blk_test_begin(void)
{
    directory = g_dir_make_tmp("trapeze-blk-XXXXXX", NULL);
    g_assert_nonnull(directory);
    names = g_ptr_array_new_with_free_func(g_free);
    machine = test_machine_new();
}

void blk_test_end(void)
{
    test_machine_free(machine);
    blk_test_command(false, NULL, "rm -rf %s", directory);
    g_ptr_array_free(names, TRUE);
    g_free(directory);
}

const char *blk_test_path(const char *name)
{
    char *path = g_build_filename(directory, name, NULL);
    g_ptr_array_add(names, path);
    return path;
}

struct blk *blk_test_open(const char *options)
{
    GError *err = NULL;
    struct blk *b = blk_new_drive(machine, options, BLK_IF_NONE, -1, &err);
    g_assert_no_error(err);
    g_hash_table_steal(machine->blks, blk_id(b)); /* the test frees it */
    return b;
}

struct waited {
    bool done;
    int ret;
};

static void done(struct blk_request *r, int ret)
{
    struct waited *w = r->opaque;
    g_assert_true(vm_locked());
    g_assert_false(w->done);
    *w = (struct waited){ true, ret };
}

int blk_test_run(struct blk *b, enum blk_op op, unsigned flags, uint64_t offset, void *buf, size_t len)
{
    struct waited w = { 0 };
    struct iovec iov = { buf, len };
    struct blk_request r = { .op = op, .flags = flags, .offset = offset, .bytes = len, .iov = &iov, .iov_count = 1,
                             .done = done, .opaque = &w };
    blk_submit(b, &r);
    g_assert_false(w.done);
    while (!w.done)
        g_main_context_iteration(NULL, TRUE);
    return w.ret;
}

void blk_test_command(bool fails, char **out, const char *fmt, ...)
{
    va_list ap;
    char *text = NULL, *errors = NULL;
    int status = 0;
    GError *err = NULL;
    va_start(ap, fmt);
    g_autofree char *command = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    char *argv[] = { "/bin/sh", "-c", command, NULL };
    g_spawn_sync(NULL, argv, NULL, G_SPAWN_DEFAULT, NULL, NULL, &text, &errors, &status, &err);
    g_assert_no_error(err);
    if ((status == 0) == fails)
        g_error("'%s' ends with %d and says '%s%s'", command, WIFEXITED(status) ? WEXITSTATUS(status) : -1, text, errors);
    if (out)
        *out = g_strconcat(text, errors, NULL);
    g_free(text);
    g_free(errors);
}
