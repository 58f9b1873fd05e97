/*
 * Locks that keep two programs from writing to one image, understood by QEMU and qemu-img as well.
 *
 * After QEMU's convention for image files (as observed of 7.2 in /proc/locks): a program holds a shared lock on byte
 * 100+n of the file for each thing n that it does, and one on byte 200+n for each thing that others must not do. Things: 0
 * reads what must be consistent, 1 writes, 3 changes the size. Whoever opens the image looks whether an exclusive lock on
 * the opposite byte would be granted. Open file description locks: they belong to the descriptor, not to the process.
 */
#include "hw/backend/blk_int.h"

#include <errno.h>
#include <fcntl.h>

#define DOES 100
#define FORBIDS 200
#define READS (1u << 0)
#define WRITES (1u << 1)
#define RESIZES (1u << 3)
#define THINGS 4

static int set_lock(int fd, int64_t byte, short type)
{
    struct flock l = { .l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };
    return fcntl(fd, F_OFD_SETLK, &l) < 0 ? -errno : 0;
}

static bool somebody_holds(int fd, int64_t byte)
{
    struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };
    return fcntl(fd, F_OFD_GETLK, &l) == 0 && l.l_type != F_UNLCK;
}

static bool in_use(const char *path, unsigned thing, bool they_do, bool write, GError **err)
{
    if (!they_do && thing == 0)
        g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_AGAIN, "'%s' is in use by another program that lets nobody else read it",
                    path);
    else if (they_do)
        g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_AGAIN,
                    "'%s' is in use: another program writes to it; end that one, or work on a copy or an overlay", path);
    else
        g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_AGAIN,
                    "'%s' is in use by another program, so that it cannot be %s; end that one, or open the image "
                    "read-only", path, write ? "written to" : "changed");
    return false;
}

bool blk_lock_fd(int fd, const char *path, unsigned flags, GError **err)
{
    bool write = flags & BLK_OPEN_WRITE;
    unsigned does = READS | (write ? WRITES | RESIZES : 0), forbids = WRITES | RESIZES;
    for (unsigned i = 0; i < THINGS; i++) {
        int ret = does >> i & 1 ? set_lock(fd, DOES + i, F_RDLCK) : 0;
        if (!ret && (forbids >> i & 1))
            ret = set_lock(fd, FORBIDS + i, F_RDLCK);
        if (ret == -EINVAL || ret == -ENOLCK || ret == -EOPNOTSUPP) {
            if (flags & BLK_OPEN_LOCK_OPTIONAL)
                return true;
            g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_FAILED,
                        "'%s' cannot be locked (%s): file.locking=off opens it without", path, g_strerror(-ret));
            return false;
        }
        if (ret) /* somebody has an exclusive lock */
            return in_use(path, i, true, write, err);
    }
    for (unsigned i = 0; i < THINGS; i++) {
        if ((does >> i & 1) && somebody_holds(fd, FORBIDS + i))
            return in_use(path, i, false, write, err);
        if ((forbids >> i & 1) && somebody_holds(fd, DOES + i))
            return in_use(path, i, true, write, err);
    }
    return true;
}
