/*
 * -perfmap. The form is that of the Linux source, tools/perf/Documentation/jit-interface.txt.
 *
 * A line is written when code is made, and out at once, so that the file is of use however the process ends. Nothing tells perf
 * that code is gone: where memory was used over again, the names of both belong to its addresses.
 */
#include "tcg/perfmap.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

struct perfmap {
    FILE *file;
};

struct perfmap *perfmap_new(GError **err)
{
    g_autofree char *path = g_strdup_printf("/tmp/perf-%d.map", (int)getpid());
    unlink(path); /* of a process that had this number before; never through somebody's link */
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    FILE *f = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (!f) {
        int e = errno;
        if (fd >= 0)
            close(fd);
        g_set_error(err, G_FILE_ERROR, g_file_error_from_errno(e), "-perfmap: %s: %s", path, g_strerror(e));
        return NULL;
    }
    setvbuf(f, NULL, _IOLBF, 0);
    struct perfmap *p = g_new(struct perfmap, 1);
    p->file = f;
    return p;
}

void perfmap_free(struct perfmap *p)
{
    if (!p)
        return;
    fclose(p->file);
    g_free(p);
}

void perfmap_add(struct perfmap *p, const uint8_t *start, const uint8_t *end, const char *name)
{
    fprintf(p->file, "%" PRIxPTR " %zx %s\n", (uintptr_t)start, (size_t)(end - start), name);
}
