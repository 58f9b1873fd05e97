/*
 * FXSAVE, FXRSTOR, EMMS, and the XSAVE family: XSAVE XSAVEOPT XSAVEC XSAVES XRSTOR XRSTORS XGETBV XSETBV.
 *
 * Intel SDM volume 1, 10.5 and chapter 13; volume 2. Components: x87, SSE, AVX, PKRU; IA32_XSS is always 0. As on
 * Intel's processors x87 and SSE always count as in use, AVX and PKRU unless they are all zero. The modified
 * optimization is not made: XSAVEOPT and XSAVES write all that is in use. On the vCPU's own thread.
 */
#include "cpu/xsave.h"

#include "cpu/op_form.h"
#include "cpu/softfp.h"
#include "cpu/x87.h"
#include "hw/core/ram_access.h"

#define SUPPORTED (XCR0_X87 | XCR0_SSE | XCR0_AVX | XCR0_PKRU)

/* Offsets in the legacy region. */
#define FX_MXCSR 24
#define FX_MXCSR_MASK 28
#define FX_ST 32
#define FX_XMM 160
/* Offsets in the header. */
#define HEADER_XSTATE_BV 0
#define HEADER_XCOMP_BV 8

/* --- Components, each to and from its bytes ----------------------------------------------------------------------- */

/* Bytes 0..23 and 32..159 of the legacy region. `wide`: the pointers are 64 bits, without selectors. */
static void put_x87(const struct cpu *cpu, uint8_t *area, bool wide)
{
    const struct fpu *fpu = &cpu->fpu;
    memset(area, 0, FX_MXCSR);
    memset(area + FX_ST, 0, FX_XMM - FX_ST);
    ram_store16(area, fpu->cw);
    ram_store16(area + 2, x87_status(fpu));
    area[4] = fpu->tag_valid;
    ram_store16(area + 6, fpu->opcode);
    if (wide) {
        ram_store64(area + 8, fpu->ip);
        ram_store64(area + 16, fpu->dp);
    } else {
        ram_store32(area + 8, (uint32_t)fpu->ip);
        ram_store16(area + 12, x87_saved_cs(cpu));
        ram_store32(area + 16, (uint32_t)fpu->dp);
        ram_store16(area + 20, x87_saved_ds(cpu));
    }
    for (unsigned n = 0; n < 8; n++)
        x87_pack(area + FX_ST + 16 * n, fpu->st[(fpu->top + n) & 7]);
}

static void get_x87(struct cpu *cpu, const uint8_t *area, bool wide)
{
    struct fpu *fpu = &cpu->fpu;
    uint16_t before = fpu->sw;
    x87_set_control(fpu, ram_load16(area));
    x87_set_status(fpu, ram_load16(area + 2));
    fpu->tag_valid = area[4];
    fpu->opcode = ram_load16(area + 6) & 0x7ff;
    fpu->ip = wide ? ram_load64(area + 8) : ram_load32(area + 8);
    fpu->dp = wide ? ram_load64(area + 16) : ram_load32(area + 16);
    fpu->cs = wide ? 0 : ram_load16(area + 12);
    fpu->ds = wide ? 0 : ram_load16(area + 20);
    for (unsigned n = 0; n < 8; n++)
        fpu->st[(fpu->top + n) & 7] = x87_unpack(area + FX_ST + 16 * n);
    x87_settle(cpu, before);
}

static void init_x87(struct cpu *cpu)
{
    uint16_t before = cpu->fpu.sw;
    x87_init(&cpu->fpu);
    memset(cpu->fpu.st, 0, sizeof cpu->fpu.st);
    x87_settle(cpu, before);
}

static void put_mxcsr(const struct cpu *cpu, uint8_t *area)
{
    ram_store32(area + FX_MXCSR, cpu->mxcsr);
    ram_store32(area + FX_MXCSR_MASK, MXCSR_VALID);
}

/* 128-bit half `half` of the first `count` vector registers. */
static void put_half(const struct cpu *cpu, uint8_t *out, unsigned half, unsigned count)
{
    for (unsigned n = 0; n < count; n++) {
        ram_store64(out + 16 * n, cpu->v[n].u64[2 * half]);
        ram_store64(out + 16 * n + 8, cpu->v[n].u64[2 * half + 1]);
    }
}

static void get_half(struct cpu *cpu, const uint8_t *in, unsigned half, unsigned count)
{
    for (unsigned n = 0; n < count; n++) {
        cpu->v[n].u64[2 * half] = ram_load64(in + 16 * n);
        cpu->v[n].u64[2 * half + 1] = ram_load64(in + 16 * n + 8);
    }
}

static void put_vectors(const struct cpu *cpu, uint8_t *out, unsigned half)
{
    put_half(cpu, out, half, cpu_vector_count(cpu));
}

static void get_vectors(struct cpu *cpu, const uint8_t *in, unsigned half)
{
    get_half(cpu, in, half, cpu_vector_count(cpu));
}

static void init_vectors(struct cpu *cpu, unsigned half)
{
    for (unsigned n = 0; n < cpu_vector_count(cpu); n++)
        cpu->v[n].u64[2 * half] = cpu->v[n].u64[2 * half + 1] = 0;
}

static void set_pkru(struct cpu *cpu, uint32_t value)
{
    if (cpu->pkru == value)
        return;
    cpu->pkru = value;
    cpu_tlb_flush(cpu);
}

/* --- For other owners of the state -------------------------------------------------------------------------------- */

void xsave_image_put(const struct cpu *cpu, uint8_t *image, unsigned pkru_offset)
{
    uint64_t components = XCR0_X87 | XCR0_SSE;
    put_x87(cpu, image, true);
    put_mxcsr(cpu, image);
    put_half(cpu, image + FX_XMM, 0, 16);
    if (cpu_has(cpu, FEAT_AVX)) {
        components |= XCR0_AVX;
        put_half(cpu, image + XSAVE_AVX_OFFSET, 1, 16);
    }
    if (cpu_has(cpu, FEAT_PKU)) {
        components |= XCR0_PKRU;
        ram_store64(image + pkru_offset, cpu->pkru);
    }
    ram_store64(image + XSAVE_LEGACY_SIZE + HEADER_XSTATE_BV, components);
    ram_store64(image + XSAVE_LEGACY_SIZE + HEADER_XCOMP_BV, 0);
}

void xsave_image_get(struct cpu *cpu, const uint8_t *image, unsigned pkru_offset)
{
    get_x87(cpu, image, true);
    cpu->mxcsr = ram_load32(image + FX_MXCSR);
    get_half(cpu, image + FX_XMM, 0, 16);
    if (cpu_has(cpu, FEAT_AVX))
        get_half(cpu, image + XSAVE_AVX_OFFSET, 1, 16);
    if (cpu_has(cpu, FEAT_PKU))
        set_pkru(cpu, ram_load32(image + pkru_offset));
}

/* --- FXSAVE and FXRSTOR ------------------------------------------------------------------------------------------- */

static uint64_t aligned_linear(struct cpu *cpu, const struct insn *i, unsigned size, unsigned alignment, bool write)
{
    uint64_t address = insn_linear(cpu, i, size, write);
    if (address & (alignment - 1))
        cpu_raise_gp0(cpu);
    return address;
}

/* The operating system has not said that it knows the vector registers, or the fast form leaves them out. */
static bool fx_without_vectors(const struct cpu *cpu)
{
    return !(cpu->cr4 & CR4_OSFXSR) || (cpu->efer & EFER_FFXSR && cpu_in_64(cpu) && cpu->cpl == 0);
}

static void fxsave_fn(struct cpu *cpu, const struct insn *i)
{
    uint8_t area[XSAVE_LEGACY_SIZE];
    uint64_t address = aligned_linear(cpu, i, sizeof area, 16, true);
    unsigned size = FX_XMM;
    put_x87(cpu, area, i->flags & INSN_W);
    put_mxcsr(cpu, area);
    if (!fx_without_vectors(cpu)) {
        put_vectors(cpu, area + FX_XMM, 0);
        size += 16 * cpu_vector_count(cpu);
    }
    mem_probe_write(cpu, address, sizeof area, i->seg);
    mem_write_bytes(cpu, address, area, size, i->seg);
}
OP_FORM_ONE(fxsave)

static void fxrstor_fn(struct cpu *cpu, const struct insn *i)
{
    uint8_t area[XSAVE_LEGACY_SIZE];
    mem_read_bytes(cpu, aligned_linear(cpu, i, sizeof area, 16, false), area, sizeof area, i->seg);
    uint32_t mxcsr = ram_load32(area + FX_MXCSR);
    if (cpu->cr4 & CR4_OSFXSR) {
        if (mxcsr & ~MXCSR_VALID)
            cpu_raise_gp0(cpu);
        cpu->mxcsr = mxcsr;
    }
    get_x87(cpu, area, i->flags & INSN_W);
    if (!fx_without_vectors(cpu))
        get_vectors(cpu, area + FX_XMM, 0);
}
OP_FORM_ONE(fxrstor)

static void emms_fn(struct cpu *cpu, const struct insn *i)
{
    x87_wait(cpu);
    cpu->fpu.top = 0;
    cpu->fpu.tag_valid = 0;
}
OP_FORM_ONE(emms)

/* --- The XSAVE area ----------------------------------------------------------------------------------------------- */

/* #UD and #NM of the whole family. */
static void check_enabled(struct cpu *cpu)
{
    if (!(cpu->cr4 & CR4_OSXSAVE))
        cpu_raise_ud(cpu);
    if (cpu->cr0 & CR0_TS)
        cpu_raise(cpu, EXC_NM);
}

/* The components asked for in EDX:EAX that are enabled. */
static uint64_t requested(const struct cpu *cpu)
{
    return ((uint32_t)cpu->r[R_RAX] | cpu->r[R_RDX] << 32) & cpu->xcr0 & SUPPORTED;
}

static uint64_t in_use(const struct cpu *cpu)
{
    uint64_t mask = XCR0_X87 | XCR0_SSE;
    for (unsigned n = 0; n < 16; n++)
        if (cpu->v[n].u64[2] | cpu->v[n].u64[3])
            mask |= XCR0_AVX;
    if (cpu->pkru)
        mask |= XCR0_PKRU;
    return mask;
}

/* An area in the guest's memory. */
struct xsave_area {
    struct cpu *cpu;
    uint64_t address;
    unsigned seg;
    uint64_t format; /* XCOMP_BV; 0: standard */
};

static void area_write(const struct xsave_area *x, unsigned offset, const void *data, unsigned size)
{
    mem_write_bytes(x->cpu, x->address + offset, data, size, x->seg);
}

static void area_read(const struct xsave_area *x, unsigned offset, void *data, unsigned size)
{
    mem_read_bytes(x->cpu, x->address + offset, data, size, x->seg);
}

/* --- Saving ------------------------------------------------------------------------------------------------------- */

static void save_components(const struct xsave_area *x, uint64_t components, bool mxcsr, bool wide)
{
    struct cpu *cpu = x->cpu;
    uint8_t area[XSAVE_LEGACY_SIZE];
    if (components & XCR0_X87) {
        put_x87(cpu, area, wide);
        area_write(x, 0, area, FX_MXCSR);
        area_write(x, FX_ST, area + FX_ST, FX_XMM - FX_ST);
    }
    if (mxcsr) {
        put_mxcsr(cpu, area);
        area_write(x, FX_MXCSR, area + FX_MXCSR, 8);
    }
    if (components & XCR0_SSE) {
        put_vectors(cpu, area, 0);
        area_write(x, FX_XMM, area, 16 * cpu_vector_count(cpu));
    }
    if (components & XCR0_AVX) {
        put_vectors(cpu, area, 1);
        area_write(x, XSAVE_AVX_OFFSET, area, 16 * cpu_vector_count(cpu));
    }
    if (components & XCR0_PKRU) {
        ram_store64(area, cpu->pkru);
        area_write(x, xsave_pkru_offset(x->format), area, XSAVE_PKRU_SIZE);
    }
}

/* XSAVE and XSAVEOPT: standard format; the header keeps the bits of components not asked for. */
static inline void save_standard(struct cpu *cpu, const struct insn *i, bool optimize)
{
    check_enabled(cpu);
    uint64_t wanted = requested(cpu), used = in_use(cpu), written = optimize ? wanted & used : wanted;
    unsigned size = xsave_area_size(0, written);
    struct xsave_area x = { cpu, aligned_linear(cpu, i, size, 64, true), i->seg, 0 };
    uint8_t header[8];
    mem_probe_write(cpu, x.address, size, i->seg);
    area_read(&x, XSAVE_LEGACY_SIZE, header, sizeof header);
    ram_store64(header, (ram_load64(header) & ~wanted) | (wanted & used));
    save_components(&x, written, wanted & (XCR0_SSE | XCR0_AVX), i->flags & INSN_W);
    area_write(&x, XSAVE_LEGACY_SIZE, header, sizeof header);
}

/* XSAVEC and XSAVES: compacted format; what is not in use is left out, its place kept. */
static void save_compacted(struct cpu *cpu, const struct insn *i)
{
    check_enabled(cpu);
    uint64_t wanted = requested(cpu), written = wanted & in_use(cpu);
    unsigned size = xsave_area_size(wanted | XCOMP_COMPACTED, written);
    struct xsave_area x = { cpu, aligned_linear(cpu, i, size, 64, true), i->seg, wanted | XCOMP_COMPACTED };
    uint8_t header[16];
    mem_probe_write(cpu, x.address, size, i->seg);
    ram_store64(header + HEADER_XSTATE_BV, written);
    ram_store64(header + HEADER_XCOMP_BV, x.format);
    save_components(&x, written, written & XCR0_SSE, i->flags & INSN_W);
    area_write(&x, XSAVE_LEGACY_SIZE, header, sizeof header);
}

static void xsave_fn(struct cpu *cpu, const struct insn *i)
{
    save_standard(cpu, i, false);
}
OP_FORM_ONE(xsave)

static void xsaveopt_fn(struct cpu *cpu, const struct insn *i)
{
    save_standard(cpu, i, true);
}
OP_FORM_ONE(xsaveopt)

static void xsavec_fn(struct cpu *cpu, const struct insn *i)
{
    save_compacted(cpu, i);
}
OP_FORM_ONE(xsavec)

static void xsaves_fn(struct cpu *cpu, const struct insn *i)
{
    save_compacted(cpu, i);
}
OP_FORM_ONE(xsaves)

/* --- Restoring ---------------------------------------------------------------------------------------------------- */

/* Everything that a restore takes from memory, read before anything is changed. */
struct restore {
    uint8_t legacy[XSAVE_LEGACY_SIZE];
    uint8_t avx[XSAVE_AVX_SIZE];
    uint8_t pkru[XSAVE_PKRU_SIZE];
};

/* The header's rules; the result is XSTATE_BV. */
static uint64_t check_header(struct xsave_area *x, bool compacted_only)
{
    struct cpu *cpu = x->cpu;
    uint8_t header[XSAVE_HEADER_SIZE];
    area_read(x, XSAVE_LEGACY_SIZE, header, sizeof header);
    uint64_t state = ram_load64(header + HEADER_XSTATE_BV);
    x->format = ram_load64(header + HEADER_XCOMP_BV);
    unsigned checked = sizeof header;
    uint64_t allowed = cpu->xcr0;
    if (x->format & XCOMP_COMPACTED) {
        allowed = x->format & ~XCOMP_COMPACTED;
        if (!cpu_has(cpu, FEAT_XSAVEC) || allowed & ~cpu->xcr0)
            cpu_raise_gp0(cpu);
    } else {
        if (compacted_only || x->format)
            cpu_raise_gp0(cpu);
        checked = 24;
    }
    if (state & ~allowed)
        cpu_raise_gp0(cpu);
    for (unsigned n = 16; n < checked; n++)
        if (header[n])
            cpu_raise_gp0(cpu);
    return state;
}

static void read_components(const struct xsave_area *x, struct restore *r, uint64_t wanted, uint64_t present)
{
    unsigned vectors = 16 * cpu_vector_count(x->cpu);
    if (present & XCR0_X87) {
        area_read(x, 0, r->legacy, FX_MXCSR);
        area_read(x, FX_ST, r->legacy + FX_ST, FX_XMM - FX_ST);
    }
    /* The standard format has MXCSR whether or not it has vectors. */
    bool mxcsr = x->format ? present & XCR0_SSE : wanted & (XCR0_SSE | XCR0_AVX);
    ram_store32(r->legacy + FX_MXCSR, wanted & XCR0_SSE ? MXCSR_RESET : x->cpu->mxcsr);
    if (mxcsr)
        area_read(x, FX_MXCSR, r->legacy + FX_MXCSR, 4);
    if (ram_load32(r->legacy + FX_MXCSR) & ~MXCSR_VALID)
        cpu_raise_gp0(x->cpu);
    if (present & XCR0_SSE)
        area_read(x, FX_XMM, r->legacy + FX_XMM, vectors);
    if (present & XCR0_AVX)
        area_read(x, XSAVE_AVX_OFFSET, r->avx, vectors);
    if (present & XCR0_PKRU)
        area_read(x, xsave_pkru_offset(x->format), r->pkru, sizeof r->pkru);
}

static void restore(struct cpu *cpu, const struct insn *i, bool compacted_only)
{
    struct restore r;
    check_enabled(cpu);
    uint64_t wanted = requested(cpu);
    struct xsave_area x = { cpu, aligned_linear(cpu, i, XSAVE_EXTENDED, 64, false), i->seg, 0 };
    uint64_t state = check_header(&x, compacted_only), present = wanted & state, absent = wanted & ~state;
    insn_linear(cpu, i, xsave_area_size(x.format, present), false); /* the rest of the area within the segment */
    read_components(&x, &r, wanted, present);

    if (present & XCR0_X87)
        get_x87(cpu, r.legacy, i->flags & INSN_W);
    else if (absent & XCR0_X87)
        init_x87(cpu);
    cpu->mxcsr = ram_load32(r.legacy + FX_MXCSR);
    if (present & XCR0_SSE)
        get_vectors(cpu, r.legacy + FX_XMM, 0);
    else if (absent & XCR0_SSE)
        init_vectors(cpu, 0);
    if (present & XCR0_AVX)
        get_vectors(cpu, r.avx, 1);
    else if (absent & XCR0_AVX)
        init_vectors(cpu, 1);
    if (wanted & XCR0_PKRU)
        set_pkru(cpu, present & XCR0_PKRU ? ram_load32(r.pkru) : 0);
}

static void xrstor_fn(struct cpu *cpu, const struct insn *i)
{
    restore(cpu, i, false);
}
OP_FORM_ONE(xrstor)

static void xrstors_fn(struct cpu *cpu, const struct insn *i)
{
    restore(cpu, i, true);
}
OP_FORM_ONE(xrstors)

/* --- XCR0 --------------------------------------------------------------------------------------------------------- */

static void xgetbv_fn(struct cpu *cpu, const struct insn *i)
{
    uint32_t index = (uint32_t)cpu->r[R_RCX];
    if (!(cpu->cr4 & CR4_OSXSAVE))
        cpu_raise_ud(cpu);
    if (index > 1 || (index == 1 && !cpu_has(cpu, FEAT_XGETBV1)))
        cpu_raise_gp0(cpu);
    uint64_t value = index ? cpu->xcr0 & in_use(cpu) : cpu->xcr0;
    reg_set(cpu, R_RAX, (uint32_t)value, 2);
    reg_set(cpu, R_RDX, value >> 32, 2);
}
OP_FORM_ONE(xgetbv)

static void xsetbv_fn(struct cpu *cpu, const struct insn *i)
{
    if (!(cpu->cr4 & CR4_OSXSAVE))
        cpu_raise_ud(cpu);
    if ((uint32_t)cpu->r[R_RCX])
        cpu_raise_gp0(cpu);
    cpu_write_xcr0(cpu, (uint32_t)cpu->r[R_RAX] | cpu->r[R_RDX] << 32);
}
OP_FORM_ONE(xsetbv)
