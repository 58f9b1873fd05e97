/*
 * Segments of the oracle's segmented modes: each has a base, and a limit or a type that some accesses run into.
 */
#include "tests/lib/oracle.h"

enum { CODE16, CODE32, DATA, EXTRA, STACK32, STACK16, READ_ONLY };

#define SELECTOR(n) (((n) + 1) << 3 | 7) /* local table, RPL 3 */

const struct oracle_segment oracle_segments[ORACLE_SEGMENTS] = {
    [CODE16] = { ORACLE_CODE, ORACLE_CODE_BYTES - 1, SELECTOR(CODE16), .code = true },
    [CODE32] = { ORACLE_CODE, ORACLE_CODE_BYTES - 1, SELECTOR(CODE32), .code = true, .big = true },
    /* ends a few bytes before the hole behind page 2 */
    [DATA] = { ORACLE_DATA, 3 * ORACLE_PAGE - 5, SELECTOR(DATA), .big = true },
    /* from the middle of page 1 to 64 KiB */
    [EXTRA] = { ORACLE_DATA + 16, ORACLE_PAGE + 0x7ff, SELECTOR(EXTRA), .expand_down = true },
    [STACK32] = { ORACLE_DATA + 0x100, 0xffff, SELECTOR(STACK32), .big = true },
    [STACK16] = { ORACLE_DATA + 0x100, 0xffff, SELECTOR(STACK16), .big = false },
    [READ_ONLY] = { ORACLE_DATA + ORACLE_PAGE, 0x3fff, SELECTOR(READ_ONLY), .read_only = true },
};

const struct oracle_segment *oracle_segment(enum oracle_mode mode, bool stack16, enum seg s)
{
    if (!oracle_segmented(mode))
        return NULL;
    switch (s) {
    case SEG_CS: return &oracle_segments[mode == ORACLE_SEG16 ? CODE16 : CODE32];
    case SEG_SS: return &oracle_segments[stack16 ? STACK16 : STACK32];
    case SEG_DS: return &oracle_segments[DATA];
    case SEG_ES: return &oracle_segments[EXTRA];
    case SEG_GS: return &oracle_segments[READ_ONLY];
    default: return NULL;
    }
}
