/*
 * For guests that provoke exceptions one after the other: a table of cases is both the guest's code and what is
 * expected.
 *
 * A case is SETUP (run at CPL 0), then one instruction whose exception is recorded: vector, error code, RIP relative to
 * the instruction, CS, RFLAGS, RSP, SS, CR2, DR6 and where the frame was put. Then the next case follows at CPL 0. The
 * record of case n is at FAULT_SLOTS + 128 (n + 1). 64-bit code; r14 and r15 are not the cases' to use.
 */
#ifndef TESTS_LIB_GUEST_FAULT_H
#define TESTS_LIB_GUEST_FAULT_H

#include "tests/lib/guest_test.h"

#define FAULT_SLOTS 0x100000
#define FAULT_NONE 0x90 /* "vector" of a user case without exception; a kernel case leaves count 0 */

enum { SLOT_VECTOR = 0, SLOT_ERROR = 8, SLOT_RIP = 16, SLOT_CS = 24, SLOT_RFLAGS = 32, SLOT_RSP = 40, SLOT_SS = 48,
       SLOT_CR2 = 56, SLOT_FRAME = 64, SLOT_COUNT = 72, SLOT_DR6 = 80 };

struct fault_case {
    const char *name;
    unsigned vector, error;
    int rip;        /* -1: comes from elsewhere, nothing more is compared */
    int64_t value;  /* CR2 of a #PF, DR6's low bits of a #DB */
    bool user;
};

/* In a table: K at CPL 0, U at CPL 3 with the flags stored at 0xff020 (2 if SETUP stores none). */
#define FAULT_CODE_K(name, setup, insn, ...) \
    setup "\n addq $128, 0xff000\n lea 771f(%rip), %r15\n mov %r15, 0xff008\n lea 770f(%rip), %r15\n mov %r15, 0xff010\n" \
          "mov %rsp, 0xff018\n 770: " insn "\n 771:\n"
#define FAULT_CODE_U(name, setup, insn, ...) \
    setup "\n addq $128, 0xff000\n lea 771f(%rip), %r15\n mov %r15, 0xff008\n lea 770f(%rip), %r15\n mov %r15, 0xff010\n" \
          "mov %rsp, 0xff018\n pushq $0x33\n pushq $0x6800\n pushq 0xff020\n pushq $0x3b\n push %r15\n movq $2, 0xff020\n" \
          "iretq\n 770: " insn "\n int $0x90\n 771:\n"
#define FAULT_ROW_K(name, setup, insn, vector, error, rip, value) { name, vector, error, rip, value, false },
#define FAULT_ROW_U(name, setup, insn, vector, error, rip, value) { name, vector, error, rip, value, true },

/*
 * The IDT at 0x5000 with all 256 vectors, DPL 3 for 3, 4 and 0x80 on, IST 1 for #DF; TSS with RSP0 0x6400, IST1 0x5fe00
 * and an I/O map that allows port 0xe9 only.
 */
#define FAULT_START(name) \
    "mov $0x5000, %edi\n mov $" ORG(name "_stubs") ", %esi\n xor %ecx, %ecx\n" \
    "1: mov %si, (%rdi)\n movw $0x20, 2(%rdi)\n movb $0, 4(%rdi)\n movb $0x8e, 5(%rdi)\n mov %esi, %eax\n shr $16, %eax\n" \
    "mov %ax, 6(%rdi)\n movq $0, 8(%rdi)\n cmp $3, %ecx\n je 2f\n cmp $4, %ecx\n je 2f\n cmp $0x80, %ecx\n jb 3f\n" \
    "2: movb $0xee, 5(%rdi)\n 3: add $16, %rdi\n add $16, %rsi\n inc %ecx\n cmp $256, %ecx\n jne 1b\n" \
    "movb $1, 0x5084\n movq $0x6400, 0x4004\n movq $0x5fe00, 0x4024\n movw $0x68, 0x4066\n" \
    "lidt " ORG(name "_idtr") "\n mov $0x40, %ax\n ltr %ax\n" \
    "movq $0x100000, 0xff000\n movq $2, 0xff020\n"

#define FAULT_RUNTIME(name) \
    ".balign 16\n" name "_stubs:\n .set vec, 0\n .rept 256\n .balign 16\n" \
    ".if vec != 8 && vec != 17 && (vec < 10 || vec > 14)\n pushq $0\n .endif\n" \
    "pushq $vec\n jmp " name "_common\n .set vec, vec + 1\n .endr\n" \
    name "_common: push %rax\n push %rbx\n mov 0xff000, %rbx\n mov 16(%rsp), %rax\n mov %rax, (%rbx)\n" \
    "mov 24(%rsp), %rax\n mov %rax, 8(%rbx)\n mov 32(%rsp), %rax\n sub 0xff010, %rax\n mov %rax, 16(%rbx)\n" \
    "mov 40(%rsp), %rax\n mov %rax, 24(%rbx)\n mov 48(%rsp), %rax\n mov %rax, 32(%rbx)\n" \
    "mov 56(%rsp), %rax\n mov %rax, 40(%rbx)\n mov 64(%rsp), %rax\n mov %rax, 48(%rbx)\n" \
    "mov %cr2, %rax\n mov %rax, 56(%rbx)\n lea 72(%rsp), %rax\n mov %rax, 64(%rbx)\n incq 72(%rbx)\n" \
    "mov %dr6, %rax\n mov %rax, 80(%rbx)\n mov $0xffff0ff0, %eax\n mov %rax, %dr6\n" \
    "mov 0xff008, %rax\n mov %rax, 32(%rsp)\n movq $0x20, 40(%rsp)\n movq $2, 48(%rsp)\n" \
    "mov 0xff018, %rax\n mov %rax, 56(%rsp)\n movq $0x10, 64(%rsp)\n pop %rbx\n pop %rax\n add $16, %rsp\n iretq\n" \
    name "_idtr: .word 0xfff\n .quad 0x5000\n"

/* Compares the records with the table; fails the test with the case's name. */
void fault_check(struct guest *g, const struct fault_case *cases, unsigned count);
uint64_t fault_slot(struct guest *g, unsigned n, unsigned field);
/* Loads, runs on `cpus` processors of `model`, requires success, checks. The guest is the caller's to free. */
struct guest *fault_run(const void *start, const void *end, const struct fault_case *cases, unsigned count);

#endif
