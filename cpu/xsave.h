/*
 * Layout of the XSAVE area (Intel SDM volume 1, 13.4): a legacy region as FXSAVE writes it, a header, then the
 * components, at these offsets in the standard format and one behind the other in the compacted one. CPUID leaf 0DH
 * tells guests.
 */
#ifndef CPU_XSAVE_H
#define CPU_XSAVE_H

#define XSAVE_LEGACY_SIZE 512
#define XSAVE_HEADER_SIZE 64
#define XSAVE_EXTENDED (XSAVE_LEGACY_SIZE + XSAVE_HEADER_SIZE) /* where the compacted components begin */
#define XSAVE_AVX_OFFSET 576
#define XSAVE_AVX_SIZE 256
#define XSAVE_PKRU_OFFSET 2688 /* behind AVX-512's, as on the processors that have it */
#define XSAVE_PKRU_SIZE 8

#endif
