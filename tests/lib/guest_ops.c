/* Guests driven by a list: see the header. */
#include "tests/lib/guest_ops.h"

#include <string.h>

#define LIST 0x800000u
#define RESULTS 0xe00000u
#define RAM_BYTES (16u << 20)
#define NO_VECTOR UINT64_MAX

enum kind { END, STORE8, STORE16, STORE32, STORE64, INVLPG, INVPCID, CR3, CR4, CALL, CALL_USER };

/* As the guest reads it: kind, an address or a value, four arguments. */
struct entry {
    uint64_t kind, at, args[OPS_ARGS], reserved[2];
};

/* As the guest writes it. */
struct outcome {
    uint64_t vector, error, rip, cr2, rax, reserved[3];
};

struct expected {
    char *what;
    struct outcome outcome;
};

struct ops {
    const char *name;
    struct guest *g;
    GArray *list;     /* struct entry */
    GArray *expected; /* struct expected, one for each call */
    bool user;
};

/* 6f00: the next entry of the list, 6f08: where the next result goes. */
GUEST_CODE(ops_guest, GUEST_ENTER_LONG("ops")
    "mov $0xc0000080, %ecx\n rdmsr\n or $0x800, %eax\n wrmsr\n"
    "mov $0x5000, %edi\n mov $" ORG("ops_stubs") ", %esi\n mov $256, %ecx\n"
    "1: mov %si, (%rdi)\n movw $0x20, 2(%rdi)\n movw $0x8e00, 4(%rdi)\n mov %esi, %eax\n shr $16, %eax\n mov %ax, 6(%rdi)\n"
    "movq $0, 8(%rdi)\n add $16, %rdi\n add $16, %rsi\n loop 1b\n movb $0xee, 0x5805\n"
    "movq $0x6800, 0x4004\n lidt " ORG("ops_idtr") "\n mov $0x40, %ax\n ltr %ax\n"
    "movq $0x800000, 0x6f00\n movq $0xe00000, 0x6f08\n movq $0x10007, 0x3018\n andb $0xfb, 0x3000\n mov %cr3, %rax\n mov %rax, %cr3\n"
    "ops_next: mov $0x7000, %esp\n mov 0x6f00, %rbx\n addq $64, 0x6f00\n mov (%rbx), %eax\n mov 8(%rbx), %r8\n"
    "mov 16(%rbx), %rdi\n mov 24(%rbx), %rsi\n mov 32(%rbx), %rdx\n mov 40(%rbx), %rcx\n"
    "cmp $1, %eax\n jb 8f\n je 1f\n cmp $3, %eax\n jb 2f\n je 3f\n cmp $5, %eax\n jb 4f\n je 5f\n cmp $7, %eax\n jb 6f\n je 7f\n"
    "cmp $9, %eax\n jb 9f\n je ops_do_call\n jmp ops_do_user\n"
    "1: mov %dil, (%r8)\n jmp ops_next\n 2: mov %di, (%r8)\n jmp ops_next\n"
    "3: mov %edi, (%r8)\n jmp ops_next\n 4: mov %rdi, (%r8)\n jmp ops_next\n"
    "5: invlpg (%r8)\n jmp ops_next\n 6: invpcid 16(%rbx), %r8\n jmp ops_next\n 7: mov %r8, %cr3\n jmp ops_next\n"
    "9: mov %cr4, %rax\n or %rdi, %rax\n not %rsi\n and %rsi, %rax\n mov %rax, %cr4\n jmp ops_next\n"
    "8: " GUEST_EXIT("0")
    "ops_do_user: pushq $0x33\n pushq $0x600000\n pushq $2\n pushq $0x3b\n push %r8\n iretq\n"
    "ops_do_call: call *%r8\n mov 0x6f08, %rbp\n addq $64, 0x6f08\n movq $-1, (%rbp)\n mov %rax, 32(%rbp)\n jmp ops_next\n"
    "ops_raised: mov 0x6f08, %rbp\n addq $64, 0x6f08\n pop (%rbp)\n pop 8(%rbp)\n pop 16(%rbp)\n mov %rax, 32(%rbp)\n"
    "mov %cr2, %rax\n mov %rax, 24(%rbp)\n jmp ops_next\n"
    ".balign 16\n ops_stubs:\n .set ops_vec, 0\n .rept 256\n .balign 16\n"
    ".if ops_vec != 8 && ops_vec != 17 && (ops_vec < 10 || ops_vec > 14)\n pushq $0\n .endif\n"
    "pushq $ops_vec\n jmp ops_raised\n .set ops_vec, ops_vec + 1\n .endr\n"
    "ops_idtr: .word 0xfff\n .quad 0x5000\n" GUEST_GDT("ops"))

struct ops *ops_new(const char *name)
{
    struct ops *o = g_new0(struct ops, 1);
    o->name = name;
    o->g = guest_new(RAM_BYTES, 1, NULL);
    o->list = g_array_new(FALSE, FALSE, sizeof(struct entry));
    o->expected = g_array_new(FALSE, FALSE, sizeof(struct expected));
    guest_load(o->g, 0x7c00, ops_guest_start, ops_guest_end);
    return o;
}

void ops_load(struct ops *o, uint64_t phys, const void *start, const void *end)
{
    guest_load(o->g, phys, start, end);
}

static void add(struct ops *o, enum kind kind, uint64_t at, uint64_t a, uint64_t b)
{
    struct entry op = { .kind = kind, .at = at, .args = { a, b } };
    g_array_append_val(o->list, op);
}

void ops_store(struct ops *o, uint64_t at, uint64_t value, unsigned size)
{
    add(o, size == 1 ? STORE8 : size == 2 ? STORE16 : size == 4 ? STORE32 : STORE64, at, value, 0);
}

void ops_invlpg(struct ops *o, uint64_t at)
{
    add(o, INVLPG, at, 0, 0);
}

void ops_invpcid(struct ops *o, unsigned type, uint64_t pcid, uint64_t at)
{
    add(o, INVPCID, type, pcid, at);
}

void ops_cr3(struct ops *o, uint64_t value)
{
    add(o, CR3, value, 0, 0);
}

void ops_cr4(struct ops *o, uint64_t set, uint64_t clear)
{
    add(o, CR4, 0, set, clear);
}

void ops_user(struct ops *o)
{
    o->user = true;
}

void ops_call(struct ops *o, uint64_t at, const uint64_t *args, uint64_t rax, const char *what, ...)
{
    struct entry op = { .kind = o->user ? CALL_USER : CALL, .at = at };
    struct expected e = { .outcome = { .vector = o->user ? 0x80 : NO_VECTOR, .rax = rax } };
    va_list ap;

    va_start(ap, what);
    e.what = g_strdup_vprintf(what, ap);
    va_end(ap);
    if (args)
        memcpy(op.args, args, sizeof op.args);
    g_array_append_val(o->list, op);
    g_array_append_val(o->expected, e);
    o->user = false;
}

void ops_fault(struct ops *o, unsigned vector, unsigned error, uint64_t rip, uint64_t cr2)
{
    struct expected *e = &g_array_index(o->expected, struct expected, o->expected->len - 1);
    e->outcome = (struct outcome){ .vector = vector, .error = error, .rip = rip, .cr2 = cr2 };
}

static bool matches(const struct outcome *got, const struct outcome *want)
{
    if (got->vector != want->vector)
        return false;
    if (want->vector == NO_VECTOR || want->vector == 0x80)
        return got->rax == want->rax;
    return got->error == want->error && got->rip == want->rip && (want->vector != EXC_PF || got->cr2 == want->cr2);
}

static unsigned compare(struct ops *o, unsigned count)
{
    unsigned bad = 0;
    for (unsigned n = 0; n < count; n++) {
        const struct expected *e = &g_array_index(o->expected, struct expected, n);
        struct outcome got;
        g_assert_true(address_space_read(&o->g->m->memory, RESULTS + n * sizeof got, &got, sizeof got));
        if (matches(&got, &e->outcome) || bad++ >= 20)
            continue;
        g_test_message("%s, call %u, %s: got vector %d error %#x rip %#" PRIx64 " cr2 %#" PRIx64 " rax %#" PRIx64
                       "; want vector %d error %#x rip %#" PRIx64 " cr2 %#" PRIx64 " rax %#" PRIx64,
                       o->name, n, e->what, (int)got.vector, (unsigned)got.error, got.rip, got.cr2, got.rax,
                       (int)e->outcome.vector, (unsigned)e->outcome.error, e->outcome.rip, e->outcome.cr2,
                       e->outcome.rax);
    }
    return bad;
}

void ops_run(struct ops *o)
{
    struct entry end = { .kind = END };
    g_array_append_val(o->list, end);
    g_assert_cmpuint(o->list->len * sizeof end, <=, RESULTS - LIST);
    g_assert_cmpuint(o->expected->len * sizeof(struct outcome), <=, RAM_BYTES - RESULTS);
    guest_load(o->g, LIST, o->list->data, o->list->data + o->list->len * sizeof end);
    int result = guest_run(o->g, 0x7c00, 60);
    uint64_t at = guest_peek(o->g, 0x6f08, 8);
    unsigned done = at < RESULTS ? 0 : (unsigned)(at - RESULTS) / sizeof(struct outcome);
    unsigned bad = compare(o, MIN(done, o->expected->len));
    if (result)
        g_test_message("%s ended with %d after %u calls of %u", o->name, result, done, o->expected->len);
    g_assert_cmpuint(bad, ==, 0);
    g_assert_cmpint(result, ==, 0);
    g_assert_cmpuint(done, ==, o->expected->len);
    for (unsigned n = 0; n < o->expected->len; n++)
        g_free(g_array_index(o->expected, struct expected, n).what);
    g_array_free(o->expected, TRUE);
    g_array_free(o->list, TRUE);
    guest_free(o->g);
    g_free(o);
}
