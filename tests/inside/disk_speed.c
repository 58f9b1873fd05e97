/*
 * Runs in a guest: how fast a disk is. disk_speed DEVICE: reads and writes in a row, 256 KiB at a time, then 4 KiB at random
 * places, each for two seconds past the page cache; prints "sequential-read 123.4 MiB/s" and so on. Overwrites the disk.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define CHUNK (256 << 10)
#define SECONDS 2

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void measure(int fd, const char *name, char *buf, size_t len, off_t size, int write, int random)
{
    double start = now(), end = start + SECONDS, t;
    off_t at = 0;
    long n = 0;
    unsigned seed = 1;
    while ((t = now()) < end) {
        if (random)
            at = (off_t)(seed = seed * 1103515245 + 12345) % (size / (off_t)len) * (off_t)len;
        else if (at + (off_t)len > size)
            at = 0;
        if ((write ? pwrite(fd, buf, len, at) : pread(fd, buf, len, at)) != (ssize_t)len) {
            perror(name);
            exit(1);
        }
        at += (off_t)len;
        n++;
    }
    printf("%s %.2f %s\n", name, random ? n / (t - start) : n * (len / 1048576.0) / (t - start), random ? "1/s" : "MiB/s");
}

int main(int argc, char **argv)
{
    int fd = argc == 2 ? open(argv[1], O_RDWR | O_DIRECT) : -1;
    off_t size = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
    char *buf = aligned_alloc(4096, CHUNK);
    if (fd < 0 || !buf || size < CHUNK) {
        perror("disk_speed");
        return 1;
    }
    for (size_t i = 0; i < CHUNK; i++)
        buf[i] = (char)i;
    measure(fd, "sequential-write", buf, CHUNK, size, 1, 0);
    measure(fd, "sequential-read", buf, CHUNK, size, 0, 0);
    measure(fd, "random-read", buf, 4096, size, 0, 1);
    measure(fd, "random-write", buf, 4096, size, 1, 1);
    return 0;
}
