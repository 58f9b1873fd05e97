/*
 * Scattered memory of block requests: cutting, copying, and looking for zeros. No lock: the memory is the caller's.
 */
#include "hw/backend/blk_int.h"

#include <string.h>

/* Calls fn for each piece of the first `len` bytes; ends early when it returns false. */
static bool each(const struct blk_vec *v, size_t len, bool (*fn)(void *opaque, uint8_t *piece, size_t n), void *opaque)
{
    size_t skip = v->skip;
    for (unsigned i = 0; i < v->count && len; i++) {
        if (skip >= v->iov[i].iov_len) {
            skip -= v->iov[i].iov_len;
            continue;
        }
        size_t n = MIN(len, v->iov[i].iov_len - skip);
        if (!fn(opaque, (uint8_t *)v->iov[i].iov_base + skip, n))
            return false;
        skip = 0;
        len -= n;
    }
    g_assert(!len);
    return true;
}

struct cut {
    struct iovec *out;
    unsigned count, max;
    size_t len;
};

static bool cut_piece(void *opaque, uint8_t *piece, size_t n)
{
    struct cut *c = opaque;
    if (c->count == c->max)
        return false;
    c->out[c->count++] = (struct iovec){ piece, n };
    c->len += n;
    return true;
}

unsigned blk_vec_cut(const struct blk_vec *v, size_t bytes, struct iovec *out, unsigned max, size_t *len)
{
    struct cut c = { .out = out, .max = max };
    each(v, bytes, cut_piece, &c);
    *len = c.len;
    return c.count;
}

static bool fill_piece(void *opaque, uint8_t *piece, size_t n)
{
    const uint8_t **from = opaque;
    memcpy(piece, *from, n);
    *from += n;
    return true;
}

void blk_vec_from(const struct blk_vec *v, const void *buf, size_t len)
{
    const uint8_t *from = buf;
    each(v, len, fill_piece, &from);
}

static bool fetch_piece(void *opaque, uint8_t *piece, size_t n)
{
    uint8_t **to = opaque;
    memcpy(*to, piece, n);
    *to += n;
    return true;
}

void blk_vec_to(const struct blk_vec *v, void *buf, size_t len)
{
    uint8_t *to = buf;
    each(v, len, fetch_piece, &to);
}

static bool zero_piece(void *opaque, uint8_t *piece, size_t n)
{
    memset(piece, 0, n);
    return true;
}

void blk_vec_zero(const struct blk_vec *v, size_t len)
{
    each(v, len, zero_piece, NULL);
}

bool blk_is_zero(const void *buf, size_t len)
{
    /* Equal to itself one byte on, and the first is zero. */
    const uint8_t *b = buf;
    size_t head = MIN(len, 16);
    for (size_t i = 0; i < head; i++) {
        if (b[i])
            return false;
    }
    return len <= 16 || memcmp(b, b + 16, len - 16) == 0;
}

static bool is_zero_piece(void *opaque, uint8_t *piece, size_t n)
{
    return blk_is_zero(piece, n);
}

bool blk_vec_is_zero(const struct blk_vec *v, size_t len)
{
    return each(v, len, is_zero_piece, NULL);
}
