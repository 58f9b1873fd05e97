/*
 * Layout of the XSAVE area (Intel SDM volume 1, 13.4): a legacy region as FXSAVE writes it, a header, then the
 * components, at these offsets in the standard format and one behind the other in the compacted one. CPUID leaf 0DH
 * tells guests.
 */
#ifndef CPU_XSAVE_H
#define CPU_XSAVE_H

#include "cpu/state.h"

#include <stdint.h>

#define XSAVE_LEGACY_SIZE 512
#define XSAVE_HEADER_SIZE 64
#define XSAVE_EXTENDED (XSAVE_LEGACY_SIZE + XSAVE_HEADER_SIZE) /* where the compacted components begin */
#define XSAVE_AVX_OFFSET 576
#define XSAVE_AVX_SIZE 256
#define XSAVE_PKRU_OFFSET 2688 /* behind AVX-512's, as on the processors that have it */
#define XSAVE_PKRU_SIZE 8

#define XCOMP_COMPACTED (UINT64_C(1) << 63) /* of XCOMP_BV, the header's second word */

/* Where PKRU lies. `format` is the area's XCOMP_BV, 0 for the standard one. AVX comes first in both. */
static inline unsigned xsave_pkru_offset(uint64_t format)
{
    if (!(format & XCOMP_COMPACTED))
        return XSAVE_PKRU_OFFSET;
    return XSAVE_EXTENDED + (format & XCR0_AVX ? XSAVE_AVX_SIZE : 0);
}

/* Bytes up to the end of the last of these components. */
static inline unsigned xsave_area_size(uint64_t format, uint64_t components)
{
    if (components & XCR0_PKRU)
        return xsave_pkru_offset(format) + XSAVE_PKRU_SIZE;
    return components & XCR0_AVX ? XSAVE_AVX_OFFSET + XSAVE_AVX_SIZE : XSAVE_EXTENDED;
}

/*
 * All of the state that XSAVE knows, to and from an area of 4 KiB in the standard format, for KVM. All 16 vector registers
 * whatever the mode; components that the model lacks are left alone. `pkru_offset`: PKRU's place there, which is not the
 * same on all processors.
 */
void xsave_image_put(const struct cpu *cpu, uint8_t *image, unsigned pkru_offset);
void xsave_image_get(struct cpu *cpu, const uint8_t *image, unsigned pkru_offset);

#endif
