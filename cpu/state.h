/*
 * struct cpu: the whole architectural state of one x86 processor, and what the software engines keep beside it.
 *
 * It is the only register file. An engine borrows it and gives it back; that is all that switching engines is. Everything
 * is the 64-bit superset. Fields that generated code and handlers touch most come first.
 *
 * A vCPU's state belongs to its thread. Others read or change it only while the vCPU is paused, except for the fields
 * marked atomic.
 */
#ifndef CPU_STATE_H
#define CPU_STATE_H

#include "cpu/tlb.h"
#include "hw/core/memory.h"

#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>

struct address_space;
struct block_cache;
struct cpu_apic_ops;
struct cpu_model;
struct flat_view;
struct insn;
struct jit;
struct machine;
struct mem_watcher;

/* General registers in encoding order. */
enum gpr {
    R_RAX, R_RCX, R_RDX, R_RBX, R_RSP, R_RBP, R_RSI, R_RDI,
    R_R8, R_R9, R_R10, R_R11, R_R12, R_R13, R_R14, R_R15,
    R_ZERO, /* always 0: an absent base or index */
    R_RIP,  /* cpu->rip as a base register */
    GPR_SLOTS,
    R_HIGH_BYTE = 16, /* added to 0..3 in an 8-bit operand: AH, CH, DH, BH */
};

enum seg {
    SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS,
    SEG_LDTR, SEG_TR,
    SEG_FLAT,       /* base 0, no limit: what DS, ES, CS are in 64-bit mode; a bad address is #GP */
    SEG_FLAT_STACK, /* the same for SS: a bad address is #SS */
    SEG_COUNT
};

/* Attribute bits of a segment, as in the descriptor's second doubleword. */
#define SEG_TYPE_SHIFT 8
#define SEG_TYPE_MASK (0xfu << 8)
#define SEG_A (1u << 8)  /* accessed */
#define SEG_W (1u << 9)  /* data: writable */
#define SEG_R (1u << 9)  /* code: readable */
#define SEG_E (1u << 10) /* data: expand down */
#define SEG_C (1u << 10) /* code: conforming */
#define SEG_X (1u << 11) /* code */
#define SEG_S (1u << 12) /* code or data, not system */
#define SEG_DPL_SHIFT 13
#define SEG_DPL_MASK (3u << 13)
#define SEG_P (1u << 15)
#define SEG_AVL (1u << 20)
#define SEG_L (1u << 21)
#define SEG_DB (1u << 22)
#define SEG_G (1u << 23)

struct segment {
    uint64_t base;
    uint32_t limit; /* in bytes, granularity applied: the last valid offset */
    uint32_t attr;  /* SEG_* bits above; 0 with a null selector: unusable */
    uint16_t selector;
    bool flat_read;  /* base 0, limit 4 GiB - 1, present, readable: no check needed for a read */
    bool flat_write; /* the same, and writable */
    /*
     * Derived, for generated code outside 64-bit mode: from 0 up to here all may be read, or written, without another look; 0 where
     * that depends (expand-down segments) or is not so in protected mode.
     */
    uint64_t end_read, end_write;
};

/* RFLAGS */
#define FLAG_CF (1u << 0)
#define FLAG_PF (1u << 2)
#define FLAG_AF (1u << 4)
#define FLAG_ZF (1u << 6)
#define FLAG_SF (1u << 7)
#define FLAG_TF (1u << 8)
#define FLAG_IF (1u << 9)
#define FLAG_DF (1u << 10)
#define FLAG_OF (1u << 11)
#define FLAG_IOPL (3u << 12)
#define FLAG_IOPL_SHIFT 12
#define FLAG_NT (1u << 14)
#define FLAG_RF (1u << 16)
#define FLAG_VM (1u << 17)
#define FLAG_AC (1u << 18)
#define FLAG_VIF (1u << 19)
#define FLAG_VIP (1u << 20)
#define FLAG_ID (1u << 21)
#define FLAGS_ARITH (FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF)
#define FLAGS_FIXED 2u /* bit 1 is always set */

/* CR0 */
#define CR0_PE (1u << 0)
#define CR0_MP (1u << 1)
#define CR0_EM (1u << 2)
#define CR0_TS (1u << 3)
#define CR0_ET (1u << 4)
#define CR0_NE (1u << 5)
#define CR0_WP (1u << 16)
#define CR0_AM (1u << 18)
#define CR0_NW (1u << 29)
#define CR0_CD (1u << 30)
#define CR0_PG (1u << 31)
/* CR4 */
#define CR4_VME (1u << 0)
#define CR4_PVI (1u << 1)
#define CR4_TSD (1u << 2)
#define CR4_DE (1u << 3)
#define CR4_PSE (1u << 4)
#define CR4_PAE (1u << 5)
#define CR4_MCE (1u << 6)
#define CR4_PGE (1u << 7)
#define CR4_PCE (1u << 8)
#define CR4_OSFXSR (1u << 9)
#define CR4_OSXMMEXCPT (1u << 10)
#define CR4_UMIP (1u << 11)
#define CR4_LA57 (1u << 12)
#define CR4_VMXE (1u << 13)
#define CR4_FSGSBASE (1u << 16)
#define CR4_PCIDE (1u << 17)
#define CR4_OSXSAVE (1u << 18)
#define CR4_SMEP (1u << 20)
#define CR4_SMAP (1u << 21)
#define CR4_PKE (1u << 22)
/* XCR0 and XSTATE_BV: state components */
#define XCR0_X87 (1u << 0)
#define XCR0_SSE (1u << 1)
#define XCR0_AVX (1u << 2)
#define XCR0_PKRU (1u << 9)
/* EFER */
#define EFER_SCE (1u << 0)
#define EFER_LME (1u << 8)
#define EFER_LMA (1u << 10)
#define EFER_NXE (1u << 11)
#define EFER_SVME (1u << 12)
#define EFER_FFXSR (1u << 14)

/* Exception vectors */
enum vector {
    EXC_DE = 0, EXC_DB = 1, EXC_NMI = 2, EXC_BP = 3, EXC_OF = 4, EXC_BR = 5, EXC_UD = 6, EXC_NM = 7,
    EXC_DF = 8, EXC_TS = 10, EXC_NP = 11, EXC_SS = 12, EXC_GP = 13, EXC_PF = 14,
    EXC_MF = 16, EXC_AC = 17, EXC_MC = 18, EXC_XM = 19,
};

/* #PF error code */
#define PF_P (1u << 0)
#define PF_W (1u << 1)
#define PF_U (1u << 2)
#define PF_RSVD (1u << 3)
#define PF_I (1u << 4)
#define PF_PK (1u << 5)

/* Pending events: bits of cpu->events, atomic. Looked at between blocks; set by anyone with cpu_post(). */
#define CPU_EVENT_INTR (1u << 0)    /* the local APIC or PIC has a vector for us */
#define CPU_EVENT_NMI (1u << 1)
#define CPU_EVENT_SMI (1u << 2)
#define CPU_EVENT_INIT (1u << 3)
#define CPU_EVENT_SIPI (1u << 4)    /* vector in cpu->sipi_vector */
#define CPU_EVENT_MEMMAP (1u << 5)  /* the flat view changed: renew it, flush the TLB */
#define CPU_EVENT_TLB_FLUSH (1u << 6) /* drop all translations */
#define CPU_EVENT_KICK (1u << 7)    /* leave the engine: pause, safe work, exclusive section of another vCPU */
#define CPU_EVENT_TRAP (1u << 8)    /* own, synchronous: single step or data breakpoint pending in cpu->dr6_pending */
#define CPU_EVENT_RESET (1u << 9)
#define CPU_EVENT_SHADOW (1u << 10) /* own: interrupt shadow of STI or MOV SS lasts one more instruction */
#define CPU_EVENT_UNHALT (1u << 12) /* kicked out of HLT by a hypercall: cpu->pv_unhalted */
#define CPU_EVENT_STEP (1u << 11)   /* own: run one instruction at a time (TF, exec breakpoints, debugger) */

/*
 * Why generated code is to look around: bits of cpu->poll, atomic. Each makes it a number above all addresses of the host, so that
 * one comparison with a pointer tells.
 */
#define POLL_EVENT (UINT64_C(1) << 63) /* something was added to cpu->events */
#define POLL_CODE (UINT64_C(1) << 62)  /* translated code has been written to */

/* One vector register. Lanes are numbered from the least significant. */
union vec {
    uint8_t u8[32];
    uint16_t u16[16];
    uint32_t u32[8];
    uint64_t u64[4];
    int8_t s8[32];
    int16_t s16[16];
    int32_t s32[8];
    int64_t s64[4];
    float f32[8];
    double f64[4];
};

/* An 80-bit x87 number. */
struct float80 {
    uint64_t mant; /* explicit integer bit on top */
    uint16_t sexp; /* sign and exponent */
};

/* The x87 unit. MMX register n is st[n].mant, by physical number. */
struct fpu {
    struct float80 st[8]; /* physical registers R0..R7; ST(i) is st[(top + i) & 7] */
    uint16_t cw;
    uint16_t sw;          /* without TOP, which is `top` */
    uint8_t top;
    uint8_t tag_valid;    /* bit per physical register: not empty */
    uint16_t opcode;      /* last non-control instruction, 11 bits */
    uint64_t ip, dp;      /* its address and operand's; selectors beside */
    uint16_t cs, ds;
};

/*
 * cpu->mode_key: all that decoding and the choice of a handler depend on. Checks that these bits answer (#UD, #NM, privilege)
 * are made once, when a block is decoded, and cost nothing when it runs.
 */
#define MODE_SIZE 3u           /* code_size: 1, 2 or 3 */
#define MODE_STACK32 (1u << 2) /* SS.B, outside 64-bit mode */
#define MODE_PROT (1u << 3)    /* CR0.PE and not RFLAGS.VM */
#define MODE_V86 (1u << 4)
#define MODE_CPL0 (1u << 5)
#define MODE_FPU_NM (1u << 6)  /* CR0.EM or TS: x87 instructions raise #NM */
#define MODE_TS (1u << 7)      /* CR0.TS: MMX and SSE raise #NM; with MP also FWAIT */
#define MODE_EM (1u << 8)      /* CR0.EM: MMX and SSE are #UD */
#define MODE_MP (1u << 9)
#define MODE_SSE (1u << 10)    /* CR4.OSFXSR */
#define MODE_AVX (1u << 11)    /* CR4.OSXSAVE and XCR0 has SSE and AVX; in protected mode */
#define MODE_LONG (1u << 12)   /* EFER.LMA: compatibility mode differs in a few instructions */
#define MODE_FLAT (1u << 13)   /* code needs no base and no limit: RIP is the linear address */
#define MODE_ONE (1u << 15)    /* blocks of one instruction: single step, interrupt shadow, exec breakpoints */

enum cpu_activity {
    CPU_RUNNING,
    CPU_HALTED,        /* HLT or MWAIT: until an interrupt */
    CPU_WAIT_FOR_SIPI, /* after INIT, for all but the boot processor */
    CPU_SHUTDOWN,      /* triple fault */
};

/* Views of one address space: who is asking decides what a page allows. */
enum tlb_view { TLB_USER, TLB_SUPER, TLB_SUPER_AC /* supervisor with RFLAGS.AC under SMAP */, TLB_VIEWS };

/*
 * Where translated code for an RIP begins (tcg/jumps.c). The entries of one context lie in a region of their own: large ones for
 * flat code of CPL 0, small ones for all others.
 */
struct jump_entry {
    uint64_t pc;
    const void *code;
};
#define JUMP_HASH 0x9e3779b1u /* index in the region: upper bits of the 32-bit product with pc */
#define JUMP_SYSTEM_BITS 13
#define JUMP_USER_BITS 12
#define JUMP_SYSTEM_REGIONS 2
#define JUMP_USER_REGIONS 8
#define JUMP_REGIONS (JUMP_SYSTEM_REGIONS + JUMP_USER_REGIONS)
#define JUMP_ENTRIES ((JUMP_SYSTEM_REGIONS << JUMP_SYSTEM_BITS) + (JUMP_USER_REGIONS << JUMP_USER_BITS))

struct jump_region {
    uint64_t context;   /* whose entries it holds; 0: nobody's */
    uint64_t segment;   /* likewise: base (upper half) and limit of a code segment that is not flat, else 0 */
    uint64_t last_used;
};

/* Parts of the state that generated code keeps in the host's registers while it runs. */
#define LOADED_VECTORS 1u /* v[] and mxcsr */
#define LOADED_X87 2u     /* fpu, but for the last instruction's pointers and opcode */

struct cpu {
    /* --- hot: touched by every block ------------------------------------------------------------------------ */
    union {
        uint64_t r[GPR_SLOTS]; /* by enum gpr */
        struct {
            uint64_t gpr_[R_ZERO];
            uint64_t zero_;
            /*
             * RIP of the first instruction of the block under way; of the instruction itself outside the engines.
             * cpu_rip() gives the exact value anywhere.
             */
            uint64_t rip;
        };
    };
    uint64_t rflags;              /* always exact; bit 1 set */
    const struct insn *stop_at;   /* end of the block under way; set to insn + 1 to leave it after this instruction */
    struct tlb *tlb;              /* translations for the present address space and privilege */
    struct tlb *tlb_exec;         /* the one that fetches go by: AC does not matter to them */
    const struct insn *insn;      /* instruction under way in the interpreter, or NULL */
    uint32_t events;              /* CPU_EVENT_*; atomic */
    uint8_t cpl;
    uint8_t code_size;            /* log2 of the default operand/address size in bytes: 1 (16), 2 (32) or 3 (64-bit mode) */
    uint8_t stack_size;           /* log2 of the stack pointer's size: 1, 2 or 3 */
    uint16_t mode_key;            /* MODE_*: what the choice of handlers depends on; kept by cpu_update_mode() */

    /* --- generated code (tcg/) ------------------------------------------------------------------------------ */
    struct cpu *self;
    struct jit *jit;              /* the translator that runs it, or NULL */
    uint64_t poll;                /* POLL_*: generated code leaves in its next loop; atomic */
    uint16_t arith;               /* arithmetic flags while generated code has them in memory, as LAHF (AH) and SETO (AL) put
                                   * them into AX */
    bool stale_jump;              /* generated code was left by an entry that is no more: `jumps` may still have it */
    bool reached;                 /* what gen_x87_reach() found */
    uint8_t loaded;               /* LOADED_*: what of the state is in the host's registers only */
    uint64_t jump_context;        /* what code that may run now must have been translated for; see jit_update_context() */
    uint64_t jump_segment;        /* likewise: struct jump_region.segment */
    uint32_t jump_base;           /* where its region begins in `jumps`, in bytes */
    void *jit_link;               /* the direct jump by which generated code was left, or NULL */
    uint64_t jump_wanted;         /* RIP that generated code has not found in `jumps` */
    uint64_t jump_slot;           /* entry in `jumps`, in bytes, of an indirect call on its way */
    uint64_t string_element;      /* what MOVS or CMPS has read from its source */
    uint32_t host_mxcsr;          /* what C code runs with */
    uint16_t host_cw;             /* likewise */
    void *x87_image;              /* in x87_area, aligned to 64 bytes: an XSAVE image for the way in and out */
    void *host_stack, *host_stack_low, *host_stack_exit; /* shadow stack of calls: top, limit; RSP to leave by */
    struct segment seg[SEG_COUNT];

    /* --- vector and floating point -------------------------------------------------------------------------- */
    union vec v[16];
    uint32_t mxcsr;
    struct fpu fpu;
    uint64_t xcr0;
    uint64_t xss;
    uint32_t pkru;

    /* --- control ----------------------------------------------------------------------------------------------- */
    uint64_t cr0, cr2, cr3, cr4; /* CR8 lives in the APIC */
    uint64_t pdpte[4];            /* PAE paging outside long mode: loaded with CR3 */
    uint64_t efer;
    struct { uint64_t base; uint16_t limit; } gdtr, idtr;
    uint64_t dr[4];
    uint64_t dr6, dr7;
    uint64_t dr6_pending;         /* B0-B3, BS, BT bits for a #DB due after this instruction */
    uint64_t a20_mask;            /* ANDed to each physical address */
    enum cpu_activity activity;
    bool smm;
    bool nmi_blocked;             /* until IRET */
    bool shadow_mov_ss;           /* the interrupt shadow also holds back #DB */
    bool stepping;                /* instruction under way began with RFLAGS.TF: trap when it is done */
    uint8_t phys_bits;            /* MAXPHYADDR of the model */
    bool mwait_armed;
    uint64_t monitor_addr;        /* physical; 0: MONITOR not armed */
    uint64_t monitor_value;       /* what was there */

    /* --- model-specific registers ------------------------------------------------------------------------------ */
    uint64_t star, lstar, cstar, sfmask, kernel_gs_base;
    uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
    uint64_t pat;
    uint64_t tsc_offset;          /* added to the machine's TSC */
    uint64_t tsc_adjust, tsc_aux;
    uint64_t misc_enable;
    uint64_t spec_ctrl;
    uint64_t debugctl;
    uint64_t mtrr_def_type, mtrr_base[8], mtrr_mask[8], mtrr_fixed[11];
    uint64_t mcg_status, mcg_ctl, mc_bank[10][4];
    uint64_t smbase;
    uint64_t feature_control;

    /* Paravirtual KVM interface (cpu/pv.c). Guest-physical addresses with enable bits, as written to the MSRs. */
    uint64_t pv_system_time, pv_wall_clock, pv_steal_time, pv_eoi;
    uint64_t steal_ns;            /* accounted so far */
    int64_t steal_wall, steal_cpu; /* monotonic and thread's time at the last account; ns */
    bool pv_unhalted;             /* kicked by another vCPU since the last HLT; atomic */

    /* --- exceptions ---------------------------------------------------------------------------------------------- */
    struct {                      /* what cpu_raise left for the run loop */
        uint8_t vector;
        bool has_error;
        uint32_t error;
        uint64_t address;         /* of a #PF */
    } raised;
    int delivering;               /* vector whose delivery is under way, or -1: a fault meanwhile may be a double fault */
    struct { uint8_t vector; uint32_t error; uint64_t rip, address; } fault_chain[4]; /* for the triple-fault report */
    uint8_t fault_count;

    /* --- memory --------------------------------------------------------------------------------------------------- */
    struct mem_listener listener; /* of the memory map */
    struct flat_view *view;       /* own reference; renewed on CPU_EVENT_MEMMAP */
    struct tlb_set *tlbs;         /* all contexts; cpu/tlb.c */
    const struct mem_watcher *watcher; /* hears of each access to memory (lockstep); NULL: nobody does */
    struct block_cache *blocks;   /* decoded blocks; cpu/block.c */
    const struct block *block;    /* the one under way in the interpreter; NULL: a handler called by generated code */
    sigjmp_buf *unwind;           /* where cpu_raise goes; set by the run loop (saved without signal mask) */

    /* --- identity and surroundings ---------------------------------------------------------------------------------- */
    unsigned index;               /* in machine->cpus */
    uint32_t apic_id;
    bool boot_processor;
    uint8_t sipi_vector;          /* atomic */
    uint32_t saved_events;        /* those of `events` that a saved state keeps */
    const struct cpu_model *model;/* CPUID leaves and feature bits */
    struct machine *machine;
    struct address_space *memory, *ports;
    void *apic;                   /* local APIC (hw/irq/lapic.c) behind apic_ops; NULL: none */
    const struct cpu_apic_ops *apic_ops;
    const struct cpu_host_ops *host;
    void *vcpu;                   /* struct vcpu of accel/ */

    /* --- statistics: written by the vCPU's thread, read by any ---------------------------------------------------------- */
    uint64_t insn_count;          /* retired, counted at the end of each block */
    uint64_t block_count, tlb_misses, walks;
    uint64_t code_entries;        /* so often was generated code entered, and for what it was left: */
    uint64_t left_for_link, left_for_handler;
    uint64_t *handler_calls;      /* by row: instructions that generated code gave to their handlers; NULL without a JIT */

    uint8_t run_failures[256];    /* of the JIT's runs, by instruction, lately */
    uint32_t runs_failed;
    int32_t slot_misses_left;     /* of TLB slots; below 0 it is time to look which have too many */
    uint16_t slot_misses[TLB_SLOTS]; /* since then: */
    uint64_t slots_since;         /* in ns of the thread's time */
    uintptr_t hot_samples[32];    /* host addresses of where generated code was lately, and of what may have called it */
    unsigned hot_next;
    int64_t hot_sampled;          /* in us */
    uint8_t x87_area[576 + 63];
    struct jump_region jump_regions[JUMP_REGIONS];
    uint64_t jump_turn;
    struct jump_entry jumps[JUMP_ENTRIES]; /* targets of indirect jumps that generated code met lately */
};

#endif
