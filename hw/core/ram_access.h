/*
 * Loads and stores of guest RAM by host address. Everything that touches it goes through here.
 *
 * Several vCPUs and devices use the same RAM at the same time, with no more order than the guest itself keeps: that is
 * the guest's memory model, not a mistake of ours. So ThreadSanitizer is told not to look at these functions, and at
 * nothing else. Aligned accesses of 1, 2, 4 and 8 bytes are single host accesses. Values are host-endian; RAM is
 * little-endian. They serve for little-endian bytes in memory of our own, too.
 */
#ifndef HW_CORE_RAM_ACCESS_H
#define HW_CORE_RAM_ACCESS_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#ifndef __has_feature
#define __has_feature(x) 0
#endif

#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)
#define RAM_ACCESS static __attribute__((noinline, unused, no_sanitize("thread")))
/* Byte by byte, as the library's memcpy() is watched wherever it is called from. */
#define RAM_COPY(to, from, len) \
    for (size_t ram_k = 0; ram_k < (len); ram_k++) \
        ((volatile uint8_t *)(to))[ram_k] = ((const volatile uint8_t *)(from))[ram_k]
#define RAM_FILL(p, v, len) \
    for (size_t ram_k = 0; ram_k < (len); ram_k++) \
        ((volatile uint8_t *)(p))[ram_k] = (v)
#else
#define RAM_ACCESS static G_ALWAYS_INLINE inline
#define RAM_COPY(to, from, len) memmove(to, from, len)
#define RAM_FILL(p, v, len) memset(p, v, len)
#endif

RAM_ACCESS uint8_t ram_load8(const void *p)
{
    return *(const uint8_t *)p;
}

RAM_ACCESS uint16_t ram_load16(const void *p)
{
    uint16_t v;
    __builtin_memcpy(&v, p, sizeof v);
    return GUINT16_FROM_LE(v);
}

RAM_ACCESS uint32_t ram_load32(const void *p)
{
    uint32_t v;
    __builtin_memcpy(&v, p, sizeof v);
    return GUINT32_FROM_LE(v);
}

RAM_ACCESS uint64_t ram_load64(const void *p)
{
    uint64_t v;
    __builtin_memcpy(&v, p, sizeof v);
    return GUINT64_FROM_LE(v);
}

RAM_ACCESS void ram_store8(void *p, uint8_t v)
{
    *(uint8_t *)p = v;
}

RAM_ACCESS void ram_store16(void *p, uint16_t v)
{
    v = GUINT16_TO_LE(v);
    __builtin_memcpy(p, &v, sizeof v);
}

RAM_ACCESS void ram_store32(void *p, uint32_t v)
{
    v = GUINT32_TO_LE(v);
    __builtin_memcpy(p, &v, sizeof v);
}

RAM_ACCESS void ram_store64(void *p, uint64_t v)
{
    v = GUINT64_TO_LE(v);
    __builtin_memcpy(p, &v, sizeof v);
}

/* By size, in bytes: 1, 2, 4 or 8. */
static G_ALWAYS_INLINE inline uint64_t ram_load(const void *p, unsigned size)
{
    switch (size) {
    case 1: return ram_load8(p);
    case 2: return ram_load16(p);
    case 4: return ram_load32(p);
    default: return ram_load64(p);
    }
}

static G_ALWAYS_INLINE inline void ram_store(void *p, uint64_t v, unsigned size)
{
    switch (size) {
    case 1: ram_store8(p, (uint8_t)v); break;
    case 2: ram_store16(p, (uint16_t)v); break;
    case 4: ram_store32(p, (uint32_t)v); break;
    default: ram_store64(p, v); break;
    }
}

/*
 * Any number of bytes from RAM to elsewhere, from elsewhere to RAM, or within RAM, to a lower address if they overlap.
 */
RAM_ACCESS void ram_copy(void *to, const void *from, size_t len)
{
    RAM_COPY(to, from, len);
}

RAM_ACCESS void ram_fill(void *p, uint8_t v, size_t len)
{
    RAM_FILL(p, v, len);
}

/* Compare and exchange at an address aligned to `size` bytes; *old becomes what was found. */
RAM_ACCESS bool ram_cas(void *p, uint64_t *old, uint64_t v, unsigned size)
{
    bool done;
    switch (size) {
    case 1: {
        uint8_t o = (uint8_t)*old;
        done = __atomic_compare_exchange_n((uint8_t *)p, &o, (uint8_t)v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
        *old = o;
        return done;
    }
    case 2: {
        uint16_t o = GUINT16_TO_LE((uint16_t)*old);
        done = __atomic_compare_exchange_n((uint16_t *)p, &o, GUINT16_TO_LE((uint16_t)v), false, __ATOMIC_SEQ_CST,
                                           __ATOMIC_SEQ_CST);
        *old = GUINT16_FROM_LE(o);
        return done;
    }
    case 4: {
        uint32_t o = GUINT32_TO_LE((uint32_t)*old);
        done = __atomic_compare_exchange_n((uint32_t *)p, &o, GUINT32_TO_LE((uint32_t)v), false, __ATOMIC_SEQ_CST,
                                           __ATOMIC_SEQ_CST);
        *old = GUINT32_FROM_LE(o);
        return done;
    }
    default: {
        uint64_t o = GUINT64_TO_LE(*old);
        done = __atomic_compare_exchange_n((uint64_t *)p, &o, GUINT64_TO_LE(v), false, __ATOMIC_SEQ_CST,
                                           __ATOMIC_SEQ_CST);
        *old = GUINT64_FROM_LE(o);
        return done;
    }
    }
}

#endif
