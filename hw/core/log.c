/*
 * Where -d and -D lead. Lines of several threads do not mix.
 *
 * The mask and the file are set before vCPUs run. The limiter of guest errors has a mutex of its own: any thread, with
 * or without the VM lock, may log.
 */
#include "hw/core/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

unsigned log_mask;

static FILE *log_file; /* NULL: stderr */

static const struct {
    const char *name;
    enum log_item item;
    const char *description;
} log_items[] = {
    { "int", LOG_INT, "exceptions and interrupts, with the state they interrupt" },
    { "cpu_reset", LOG_CPU_RESET, "processor state before each reset, and triple faults" },
    { "in_asm", LOG_IN_ASM, "each block of guest code when it is first decoded" },
    { "exec", LOG_EXEC, "each block of guest code when it is entered" },
    { "guest_errors", LOG_GUEST_ERRORS, "what no correct guest does" },
    { "unimp", LOG_UNIMP, "what a guest asked for and we do not model" },
    { "mmio", LOG_MMIO, "each access to a device, memory or port" },
    { "stats", LOG_STATS, "counters at exit" },
};

/* Lines of one kind within the present second; the surplus is only counted. */
struct limiter {
    pthread_mutex_t lock;
    gint64 second;
    unsigned written, dropped;
};
#define LINES_PER_SECOND 100

static struct limiter guest_error_limiter = { .lock = PTHREAD_MUTEX_INITIALIZER };
static struct limiter unimp_limiter = { .lock = PTHREAD_MUTEX_INITIALIZER };

void log_help(GString *out)
{
    g_string_append(out, "Log items (comma separated):\n");
    for (unsigned i = 0; i < G_N_ELEMENTS(log_items); i++)
        g_string_append_printf(out, "%-15s %s\n", log_items[i].name, log_items[i].description);
}

static bool find_item(const char *word, unsigned *mask)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(log_items); i++) {
        if (strcmp(word, log_items[i].name) == 0) {
            *mask |= log_items[i].item;
            return true;
        }
    }
    return false;
}

bool log_set_items(const char *list, GError **err)
{
    g_auto(GStrv) words = g_strsplit(list, ",", -1);
    unsigned mask = 0;
    for (char **w = words; *w; w++) {
        if (find_item(*w, &mask))
            continue;
        GString *known = g_string_new(NULL);
        for (unsigned i = 0; i < G_N_ELEMENTS(log_items); i++)
            g_string_append_printf(known, "%s%s", i ? ", " : "", log_items[i].name);
        g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_INVAL, "-d: unknown log item '%s' (known: %s)", *w, known->str);
        g_string_free(known, TRUE);
        return false;
    }
    log_mask = mask;
    return true;
}

bool log_set_file(const char *path, GError **err)
{
    FILE *f = fopen(path, "w");
    if (!f) {
        g_set_error(err, G_FILE_ERROR, g_file_error_from_errno(errno), "-D: cannot write log file '%s': %s", path,
                    g_strerror(errno));
        return false;
    }
    setvbuf(f, NULL, _IOLBF, 0);
    if (log_file)
        fclose(log_file);
    log_file = f;
    return true;
}

/* With the stream's own lock over all parts of a line. */
static void write_line(const char *what, const char *who, const char *fmt, va_list ap)
{
    FILE *f = log_file ? log_file : stderr;
    flockfile(f);
    if (what)
        fprintf(f, "%s: %s: ", what, who);
    vfprintf(f, fmt, ap);
    putc('\n', f);
    funlockfile(f);
}

void log_line(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    write_line(NULL, NULL, fmt, ap);
    va_end(ap);
}

/* True if one more line may be written now. *dropped: how many were left out in the second that has just ended. */
static bool limiter_admit(struct limiter *l, unsigned *dropped)
{
    gint64 second = g_get_monotonic_time() / G_USEC_PER_SEC;
    *dropped = 0;
    pthread_mutex_lock(&l->lock);
    if (second != l->second) {
        *dropped = l->dropped;
        l->second = second;
        l->written = l->dropped = 0;
    }
    bool ok = l->written < LINES_PER_SECOND;
    if (ok)
        l->written++;
    else
        l->dropped++;
    pthread_mutex_unlock(&l->lock);
    return ok;
}

static void limited_line(struct limiter *l, const char *what, const char *who, const char *fmt, va_list ap)
{
    unsigned dropped;
    if (!limiter_admit(l, &dropped))
        return;
    if (dropped)
        log_line("%s: %u more such lines left out", what, dropped);
    write_line(what, who, fmt, ap);
}

void log_guest_error(const char *who, const char *fmt, ...)
{
    if (!log_on(LOG_GUEST_ERRORS))
        return;
    va_list ap;
    va_start(ap, fmt);
    limited_line(&guest_error_limiter, "guest error", who, fmt, ap);
    va_end(ap);
}

void log_unimp(const char *who, const char *fmt, ...)
{
    if (!log_on(LOG_UNIMP))
        return;
    va_list ap;
    va_start(ap, fmt);
    limited_line(&unimp_limiter, "not modelled", who, fmt, ap);
    va_end(ap);
}

/* Bounded memory: a slot remembers the last key that fell into it, so that a line may come again after another's. */
void log_unimp_once(uint64_t key, const char *who, const char *fmt, ...)
{
    static uint64_t logged[256];
    if (!log_on(LOG_UNIMP))
        return;
    key ^= (uint64_t)g_str_hash(who) << 32;
    uint64_t *slot = &logged[(key ^ key >> 8 ^ key >> 16 ^ key >> 32) % G_N_ELEMENTS(logged)];
    if (__atomic_exchange_n(slot, ~key, __ATOMIC_RELAXED) == ~key)
        return;
    va_list ap;
    va_start(ap, fmt);
    limited_line(&unimp_limiter, "not modelled", who, fmt, ap);
    va_end(ap);
}
