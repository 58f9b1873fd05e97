/*
 * The decoder on any bytes: the first chooses the mode, the rest is code up to its end. Every instruction is at most 15
 * bytes long and the same when it is decoded alone; registers are within bounds; more is asked for only where it could
 * help.
 */
#include "cpu/insn.h"
#include "cpu/state.h"

#include <stddef.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const uint8_t *bytes, unsigned avail, struct decode_mode mode, const struct insn *i)
{
    uint8_t alone[15] = { 0 };
    struct insn again;
    if (i->len < 1 || i->len > 15 || i->len > avail || i->row >= insn_row_count)
        __builtin_trap();
    if (i->base > R_RIP || i->index > R_ZERO || i->scale > 3 || i->reg > 19 || i->rm > 19 || i->vvvv > 19 ||
        i->is4 > 15 || i->vl > 1 || i->osize > 3 || i->asize < 1 || i->asize > 3 || i->seg >= SEG_COUNT)
        __builtin_trap();
    memcpy(alone, bytes, i->len);
    if (decode_insn(alone, i->len, mode, &again) != DECODE_OK || memcmp(i, &again, sizeof again))
        __builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    struct decode_mode mode = { .code_size = 1 + data[0] % 3, .protected_mode = data[0] & 0x80 };
    unsigned left = size - 1;
    for (const uint8_t *p = data + 1; left;) {
        struct insn i;
        unsigned step = 1;
        switch (decode_insn(p, left, mode, &i)) {
        case DECODE_OK:
            check(p, left, mode, &i);
            step = i.len;
            break;
        case DECODE_MORE:
            if (left >= 15)
                __builtin_trap();
            break;
        case DECODE_UD:
        case DECODE_TOO_LONG: break;
        }
        p += step;
        left -= step;
    }
    return 0;
}
