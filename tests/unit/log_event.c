/* The logs and the event stream: items, files, the limiter of guest errors, subscribers and the mask. */
#include "hw/core/event.h"
#include "hw/core/log.h"
#include "hw/core/vm_lock.h"

#include <glib/gstdio.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

static void test_items(void)
{
    GError *err = NULL;
    g_assert_true(log_set_items("int,cpu_reset", &err));
    g_assert_cmphex(log_mask, ==, LOG_INT | LOG_CPU_RESET);
    g_assert_true(log_on(LOG_INT));
    g_assert_false(log_on(LOG_EXEC));
    g_assert_false(log_set_items("int,bogus", &err));
    g_assert_nonnull(strstr(err->message, "'bogus'"));
    g_assert_nonnull(strstr(err->message, "guest_errors"));
    g_assert_cmphex(log_mask, ==, LOG_INT | LOG_CPU_RESET);
    g_clear_error(&err);
    g_autoptr(GString) help = g_string_new(NULL);
    log_help(help);
    g_assert_nonnull(strstr(help->str, "\nunimp "));
}

static void *write_lines(void *opaque)
{
    for (int i = 0; i < 2000; i++)
        log_line("%s", (const char *)opaque);
    return NULL;
}

static unsigned count(const char *text, const char *line)
{
    unsigned n = 0;
    size_t len = strlen(line);
    for (const char *p = text; (p = strstr(p, line)); p += len)
        n++;
    return n;
}

static void test_file(void)
{
    GError *err = NULL;
    g_autofree char *path = NULL, *text = NULL;
    close(g_file_open_tmp("trapeze-log-XXXXXX", &path, NULL));
    g_assert_false(log_set_file("/nonexistent/log", &err));
    g_assert_nonnull(strstr(err->message, "/nonexistent/log"));
    g_clear_error(&err);
    g_assert_true(log_set_file(path, &err));
    pthread_t a, b;
    pthread_create(&a, NULL, write_lines, "aaaaaaaaaaaaaaaa");
    pthread_create(&b, NULL, write_lines, "bbbbbbbbbbbbbbbb");
    pthread_join(a, NULL);
    pthread_join(b, NULL);
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    g_assert_cmpuint(count(text, "aaaaaaaaaaaaaaaa\n"), ==, 2000);
    g_assert_cmpuint(count(text, "bbbbbbbbbbbbbbbb\n"), ==, 2000);
    /* Not asked for: nothing. Then a flood: limited, and the rest counted. */
    log_set_items("unimp", &err);
    log_guest_error("chip", "quiet");
    for (uint64_t i = 0; i < 30; i++)
        log_unimp_once(0x12340000 + i % 3, "chip", "key %d", (int)(i % 3));
    log_unimp_once(0x12340000, "other", "key 0"); /* another's key of that number */
    log_set_items("guest_errors", &err);
    for (int i = 0; i < 1000; i++)
        log_guest_error("chip", "line %d", i);
    g_usleep(1100000);
    log_guest_error("chip", "later");
    g_free(text);
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    g_assert_cmpuint(count(text, "quiet"), ==, 0);
    g_assert_cmpuint(count(text, "not modelled: chip: key 2\n"), ==, 1);
    g_assert_cmpuint(count(text, "not modelled: other: key 0\n"), ==, 1);
    g_assert_nonnull(strstr(text, "guest error: chip: line 0\n"));
    g_assert_cmpuint(count(text, "chip: line"), >=, 100);
    g_assert_cmpuint(count(text, "chip: line"), <=, 200); /* a second may end in between */
    g_assert_nonnull(strstr(text, "more such lines left out"));
    g_assert_nonnull(strstr(text, "chip: later\n"));
    g_remove(path);
}

static void on_event(void *opaque, const struct event *e)
{
    g_string_append_printf(opaque, "%s:%u ", event_kind_name(e->kind), e->number);
}

static void test_events(void)
{
    g_autoptr(GString) a = g_string_new(NULL), b = g_string_new(NULL);
    struct event port = { .kind = EVENT_PORT, .number = 0x3f8 }, msr = { .kind = EVENT_MSR, .number = 0x10 };
    g_assert_false(event_wanted(EVENT_PORT));
    event_emit(&port); /* nobody: fine */
    event_subscribe(1u << EVENT_PORT, on_event, a);
    event_subscribe(1u << EVENT_PORT | 1u << EVENT_MSR, on_event, b);
    g_assert_true(event_wanted(EVENT_PORT));
    g_assert_true(event_wanted(EVENT_MSR));
    g_assert_false(event_wanted(EVENT_HLT));
    event_emit(&port);
    event_emit(&msr);
    g_assert_cmpstr(a->str, ==, "port:1016 ");
    g_assert_cmpstr(b->str, ==, "port:1016 msr:16 ");
    event_unsubscribe(on_event, b);
    g_assert_false(event_wanted(EVENT_MSR));
    event_emit(&msr);
    g_assert_cmpstr(b->str, ==, "port:1016 msr:16 ");
    event_unsubscribe(on_event, b);
    event_unsubscribe(on_event, a);
    g_assert_cmphex(event_mask, ==, 0);
    for (unsigned k = 0; k < EVENT_KINDS; k++)
        g_assert_nonnull(event_kind_name(k));
}

static void *try_lock(void *opaque)
{
    g_assert_false(vm_locked());
    bool taken = vm_lock_if_free();
    g_assert_true(taken);
    *(int *)opaque = 1;
    vm_unlock_if(taken);
    return NULL;
}

static void *signal_it(void *opaque)
{
    vm_lock();
    pthread_cond_signal(opaque);
    vm_unlock();
    return NULL;
}

static void test_vm_lock(void)
{
    int done = 0;
    pthread_t t;
    pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
    vm_lock();
    g_assert_true(vm_locked());
    g_assert_false(vm_lock_if_free());
    pthread_create(&t, NULL, try_lock, &done);
    g_usleep(20000);
    g_assert_cmpint(done, ==, 0);
    vm_unlock();
    pthread_join(t, NULL);
    g_assert_cmpint(done, ==, 1);
    vm_lock();
    pthread_create(&t, NULL, signal_it, &cond);
    vm_cond_wait(&cond);
    g_assert_true(vm_locked());
    vm_unlock();
    pthread_join(t, NULL);
    if (g_test_subprocess()) {
        vm_lock();
        vm_lock(); /* must not hang */
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_failed();
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/log/items", test_items);
    g_test_add_func("/log/file", test_file);
    g_test_add_func("/event", test_events);
    g_test_add_func("/vm-lock", test_vm_lock);
    return g_test_run();
}
