/*
 * 80-bit arithmetic on the host's own x87 unit (x86 hosts, HOST_FPU=native): exact by construction.
 *
 * Each function loads the guest's control word with the guest's exception masks, runs the very instruction, reads the
 * status word and gives the unit back empty, clean and with the host's control word. An exception that the guest has
 * unmasked stays pending in the host's status word only: nothing that waits is executed before FNCLEX, so no signal can
 * come of it.
 *
 * Intel SDM volume 1, chapter 8. Any thread.
 */
#include "cpu/float80.h"

#include <string.h>

#define X87_CLOBBERS "st", "st(1)", "st(2)", "st(3)", "st(4)", "st(5)", "st(6)", "st(7)", "cc"

/*
 * Saves the host's control word and enters the guest's with a clean status word. FNCLEX, and the first inexact result
 * after it, are slow: `stale` are the exceptions whose flags must not be left from before.
 */
#define X87_ENTER "fnstcw %[host]\n\tfnstsw %[sw]\n\ttestb %[stale], %b[sw]\n\tjz 2f\n\tfnclex\n2:\n\tfldcw %[cw]\n\t"
#define X87_CONTROL(cw) \
    [cw] "m"(cw), [stale] "q"((uint8_t)((cw)&FLOAT80_INEXACT ? FPU_EXCEPTIONS & ~FPU_PE : FPU_EXCEPTIONS))
/* Reads the status word and leaves nothing pending. */
#define X87_STATUS "fnstsw %[sw]\n\ttestb $0x80, %b[sw]\n\tjz 1f\n\tfnclex\n1:\n\t"
#define X87_LEAVE "fldcw %[host]"
/* Where the number of registers in use depends on the exceptions met. */
#define X87_LEAVE_EMPTY "emms\n\tfldcw %[host]"

const bool float80_exact_math = true;

#define FLAGS_RESULT (FPU_EXCEPTIONS | FPU_C1)

/* ST(0) = op ST(0) */
#define UNARY(name, instruction, flags) \
    unsigned name(struct float80 *r, struct float80 a, uint32_t cw) \
    { \
        uint16_t sw, host; \
        __asm__ volatile(X87_ENTER "fldt %[a]\n\t" instruction "\n\t" X87_STATUS "fstpt %[r]\n\t" X87_LEAVE \
                         : [r] "=m"(*r), [sw] "=&a"(sw), [host] "=m"(host) \
                         : [a] "m"(a), X87_CONTROL(cw) \
                         : X87_CLOBBERS); \
        return sw & (flags); \
    }

/* ST(0) = ST(0) op ST(1); nothing is popped */
#define BINARY(name, instruction, flags) \
    unsigned name(struct float80 *r, struct float80 a, struct float80 b, uint32_t cw) \
    { \
        uint16_t sw, host; \
        __asm__ volatile(X87_ENTER "fldt %[b]\n\tfldt %[a]\n\t" instruction "\n\t" X87_STATUS \
                                   "fstpt %[r]\n\tfstp %%st(0)\n\t" X87_LEAVE \
                         : [r] "=m"(*r), [sw] "=&a"(sw), [host] "=m"(host) \
                         : [a] "m"(a), [b] "m"(b), X87_CONTROL(cw) \
                         : X87_CLOBBERS); \
        return sw & (flags); \
    }

/* ST(1) = ST(0) op ST(1), pop; but an unmasked exception leaves both where they are. */
#define BINARY_POP(name, instruction) \
    unsigned name(struct float80 *r, struct float80 a, struct float80 b, uint32_t cw) \
    { \
        uint16_t sw, host; \
        __asm__ volatile(X87_ENTER "fldt %[b]\n\tfldt %[a]\n\t" instruction "\n\t" X87_STATUS \
                                   "fstpt %[r]\n\t" X87_LEAVE_EMPTY \
                         : [r] "=m"(*r), [sw] "=&a"(sw), [host] "=m"(host) \
                         : [a] "m"(a), [b] "m"(b), X87_CONTROL(cw) \
                         : X87_CLOBBERS); \
        return sw & FLAGS_RESULT; \
    }

/* Condition codes only. */
#define COMPARE(name, instruction) \
    unsigned name(struct float80 a, struct float80 b, uint32_t cw) \
    { \
        uint16_t sw, host; \
        __asm__ volatile(X87_ENTER "fldt %[b]\n\tfldt %[a]\n\t" instruction " %%st(1)\n\t" X87_STATUS \
                                   "fstp %%st(0)\n\tfstp %%st(0)\n\t" X87_LEAVE \
                         : [sw] "=&a"(sw), [host] "=m"(host) \
                         : [a] "m"(a), [b] "m"(b), X87_CONTROL(cw) \
                         : X87_CLOBBERS); \
        return sw & (FPU_IE | FPU_DE | FPU_C0 | FPU_C2 | FPU_C3); \
    }

/*
 * Instructions that push: ST(0) becomes *below, and *top is pushed. If they do not push, *top is what stands in ST(0).
 * The stores run with all exceptions masked, so that the store of an empty register is harmless.
 */
#define UNARY_PUSH(name, instruction, flags) \
    unsigned name(struct float80 *below, struct float80 *top, struct float80 a, uint32_t cw) \
    { \
        uint16_t sw, host; \
        const uint16_t masked = FPU_CW_INIT; \
        __asm__ volatile(X87_ENTER "fldt %[a]\n\t" instruction "\n\t" X87_STATUS \
                                   "fldcw %[masked]\n\tfstpt %[top]\n\tfstpt %[below]\n\tfnclex\n\t" X87_LEAVE_EMPTY \
                         : [top] "=m"(*top), [below] "=m"(*below), [sw] "=&a"(sw), [host] "=m"(host) \
                         : [a] "m"(a), X87_CONTROL(cw), [masked] "m"(masked) \
                         : X87_CLOBBERS); \
        return sw & (flags); \
    }

/* Stores ST(0) in another format; a popping store that meets an unmasked exception does not pop. */
#define STORE(name, type, instruction) \
    static unsigned name(type *r, struct float80 a, uint32_t cw) \
    { \
        uint16_t sw, host; \
        __asm__ volatile(X87_ENTER "fldt %[a]\n\t" instruction " %[r]\n\t" X87_STATUS X87_LEAVE_EMPTY \
                         : [r] "+m"(*r), [sw] "=&a"(sw), [host] "=m"(host) \
                         : [a] "m"(a), X87_CONTROL(cw) \
                         : X87_CLOBBERS); \
        return sw & FLAGS_RESULT; \
    }

BINARY(float80_add, "fadd %%st(1), %%st(0)", FLAGS_RESULT)
BINARY(float80_sub, "fsub %%st(1), %%st(0)", FLAGS_RESULT)
BINARY(float80_mul, "fmul %%st(1), %%st(0)", FLAGS_RESULT)
BINARY(float80_div, "fdiv %%st(1), %%st(0)", FLAGS_RESULT)
BINARY(float80_scale, "fscale", FLAGS_RESULT)
BINARY(float80_prem, "fprem", FPU_EXCEPTIONS | FPU_CC)
BINARY(float80_prem1, "fprem1", FPU_EXCEPTIONS | FPU_CC)

UNARY(float80_sqrt, "fsqrt", FLAGS_RESULT)
UNARY(float80_round, "frndint", FLAGS_RESULT)
UNARY(float80_2xm1, "f2xm1", FLAGS_RESULT)
UNARY(float80_sin, "fsin", FLAGS_RESULT | FPU_C2)
UNARY(float80_cos, "fcos", FLAGS_RESULT | FPU_C2)

BINARY_POP(float80_yl2x, "fyl2x")
BINARY_POP(float80_yl2xp1, "fyl2xp1")
BINARY_POP(float80_patan, "fpatan")

COMPARE(float80_compare, "fcom")
COMPARE(float80_compare_quiet, "fucom")

UNARY_PUSH(float80_extract, "fxtract", FLAGS_RESULT)
UNARY_PUSH(float80_sincos, "fsincos", FLAGS_RESULT | FPU_C2)
UNARY_PUSH(float80_tan, "fptan", FLAGS_RESULT | FPU_C2)

STORE(store_f32, uint32_t, "fsts")
STORE(store_f64, uint64_t, "fstl")
STORE(store_int16, int16_t, "fistps")
STORE(store_int32, int32_t, "fistpl")
STORE(store_int64, int64_t, "fistpll")

unsigned float80_to_f32(uint32_t *r, struct float80 a, uint32_t cw)
{
    *r = 0;
    return store_f32(r, a, cw);
}

unsigned float80_to_f64(uint64_t *r, struct float80 a, uint32_t cw)
{
    *r = 0;
    return store_f64(r, a, cw);
}

unsigned float80_to_int(int64_t *r, struct float80 a, unsigned bits, uint32_t cw)
{
    int16_t r16 = 0;
    int32_t r32 = 0;
    unsigned flags;
    switch (bits) {
    case 16:
        flags = store_int16(&r16, a, cw);
        *r = r16;
        return flags;
    case 32:
        flags = store_int32(&r32, a, cw);
        *r = r32;
        return flags;
    default: *r = 0; return store_int64(r, a, cw);
    }
}

unsigned float80_to_bcd(uint8_t bcd[FLOAT80_BCD_SIZE], struct float80 a, uint32_t cw)
{
    uint16_t sw, host;
    struct {
        uint8_t b[FLOAT80_BCD_SIZE];
    } m = { { 0 } };
    __asm__ volatile(X87_ENTER "fldt %[a]\n\tfbstp %[r]\n\t" X87_STATUS X87_LEAVE_EMPTY
                     : [r] "+m"(m), [sw] "=&a"(sw), [host] "=m"(host)
                     : [a] "m"(a), X87_CONTROL(cw)
                     : X87_CLOBBERS);
    memcpy(bcd, m.b, sizeof m.b);
    return sw & FLAGS_RESULT;
}
