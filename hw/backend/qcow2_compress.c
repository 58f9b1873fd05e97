/*
 * qcow2: compressed clusters, raw deflate (RFC 1951) with a window of 4 KiB or a zstd frame. Any thread, no state.
 */
#include "hw/backend/qcow2.h"

#include <string.h>
#include <zlib.h>
#include <zstd.h>

#define WINDOW_BITS (-12) /* no zlib header */

static size_t deflate_all(const void *from, size_t len, void *to, size_t room)
{
    z_stream z = { .next_in = (Bytef *)from, .avail_in = (uInt)len, .next_out = to, .avail_out = (uInt)room };
    if (deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, WINDOW_BITS, 9, Z_DEFAULT_STRATEGY) != Z_OK)
        return 0;
    int ret = deflate(&z, Z_FINISH);
    size_t out = room - z.avail_out;
    deflateEnd(&z);
    return ret == Z_STREAM_END ? out : 0;
}

static bool inflate_all(const void *from, size_t len, void *to, size_t to_len)
{
    z_stream z = { .next_in = (Bytef *)from, .avail_in = (uInt)len, .next_out = to, .avail_out = (uInt)to_len };
    if (inflateInit2(&z, WINDOW_BITS) != Z_OK)
        return false;
    int ret = inflate(&z, Z_FINISH);
    inflateEnd(&z);
    /* Z_BUF_ERROR: there is more input than the cluster takes, as its length is known in sectors only. */
    return (ret == Z_STREAM_END || ret == Z_BUF_ERROR) && !z.avail_out;
}

static bool zstd_unpack(const void *from, size_t len, void *to, size_t to_len)
{
    ZSTD_DCtx *d = ZSTD_createDCtx();
    ZSTD_inBuffer in = { from, len, 0 };
    ZSTD_outBuffer out = { to, to_len, 0 };
    bool ok = d != NULL;
    while (ok && out.pos < out.size) {
        size_t before = in.pos + out.pos;
        ok = !ZSTD_isError(ZSTD_decompressStream(d, &out, &in)) && in.pos + out.pos > before;
    }
    ZSTD_freeDCtx(d);
    return ok;
}

size_t qcow2_pack(enum qcow2_compression how, const void *from, size_t len, void *to, size_t room)
{
    if (how == QCOW2_ZLIB)
        return deflate_all(from, len, to, room);
    size_t n = ZSTD_compress(to, room, from, len, ZSTD_CLEVEL_DEFAULT);
    return ZSTD_isError(n) ? 0 : n;
}

bool qcow2_unpack(enum qcow2_compression how, const void *from, size_t len, void *to, size_t to_len)
{
    return how == QCOW2_ZLIB ? inflate_all(from, len, to, to_len) : zstd_unpack(from, len, to, to_len);
}
