/*
 * What devices see of a guest is the same under each engine: the same reads and writes, of the same sizes, in the same
 * order. One scripted guest uses ports and device memory in all the ways that drivers do and some that they don't:
 * every size, misaligned, strings forwards and backwards, read-modify-write, LOCK, vectors, stacks, across the device's
 * end, from real mode, 32-bit and 64-bit code. A device that answers with another number each time writes it all down.
 *
 * KVM is used whatever it is worth, where there is one: what it cannot do the interpreter does in its place. Left out
 * is what kernels' emulators do in their own way and no driver does: CMPS of two elements of devices (processors, and
 * we, read RDI's first, kernels RSI's), REP INS into device memory (kernels read ahead), descriptor tables, SLDT and
 * CMPXCHG16B there (kernels read what they then cannot write).
 */
#include "accel/accel.h"
#include "tests/lib/guest_test.h"

#include <string.h>

#define RAM (4u << 20)
#define WINDOW 0x800000 /* where the device memory is; not RAM */
#define WINDOW_SIZE 0x3000
#define PORTS 0x300

/* EDX: a port, EBX (or RBX): the window. Every size, one after the other and as strings. */
#define PORTS_PLAIN \
    "mov $0x300, %dx\n mov $0x12345678, %eax\n out %al, %dx\n out %ax, %dx\n out %eax, %dx\n in %dx, %al\n in %dx, " \
    "%ax\n in %dx, %eax\n" \
    "inc %dx\n out %al, %dx\n out %ax, %dx\n out %eax, %dx\n in %dx, %ax\n in %dx, %eax\n mov $0x30e, %dx\n in %dx, " \
    "%eax\n out %eax, %dx\n" \
    "in $0x80, %al\n out %al, $0x80\n"
#define PORTS_STRINGS(si, di, cx) \
    "mov $0x304, %dx\n mov $0x6000, %" si "\n mov $0x6100, %" di \
    "\n cld\n insb\n insw\n insl\n outsb\n outsw\n outsl\n" \
    "mov $5, %" cx "\n rep insb\n mov $4, %" cx "\n rep insw\n mov $3, %" cx "\n rep insl\n mov $5, %" cx \
    "\n rep outsb\n" \
    "mov $4, %" cx "\n rep outsw\n mov $3, %" cx "\n rep outsl\n mov $0, %" cx "\n rep outsb\n" \
    "std\n mov $3, %" cx "\n rep insw\n mov $3, %" cx "\n rep outsl\n cld\n"

GUEST_CODE(
    script,
    "cli\n xor %ax, %ax\n mov %ax, %ds\n mov %ax, %es\n mov %ax, %ss\n mov $0x7000, %sp\n" PORTS_PLAIN PORTS_STRINGS(
        "si", "di", "cx")
        GUEST_ENTER_LONG(
            "script") "mov %cr4, %rax\n or $0x600, %eax\n mov %rax, %cr4\n mov %cr0, %rax\n and $~4, %eax\n or $2, "
                      "%eax\n mov %rax, %cr0\n fninit\n" PORTS_PLAIN
                          PORTS_STRINGS(
                              "esi", "edi",
                              "ecx") "mov $0x800000, %ebx\n mov $0x1122334455667788, %rax\n"
                                     /* every size, aligned and not, at the end of the device and across it */
                                     "mov %al, (%rbx)\n mov %ax, 2(%rbx)\n mov %eax, 4(%rbx)\n mov %rax, 8(%rbx)\n "
                                     "movb $1, 1(%rbx)\n movw $2, 2(%rbx)\n movl $3, 4(%rbx)\n movq $4, 8(%rbx)\n"
                                     "mov (%rbx), %al\n mov (%rbx), %ax\n mov (%rbx), %eax\n mov (%rbx), %rax\n movzbl "
                                     "1(%rbx), %eax\n movzwl 2(%rbx), %eax\n movsbq 3(%rbx), %rax\n movslq 4(%rbx), "
                                     "%rax\n"
                                     "mov %ax, 0x11(%rbx)\n mov %eax, 0x12(%rbx)\n mov %rax, 0x15(%rbx)\n mov "
                                     "0x11(%rbx), %ax\n mov 0x13(%rbx), %eax\n mov 0x14(%rbx), %rax\n"
                                     "mov %rax, 0x2ff8(%rbx)\n mov 0x2ff8(%rbx), %rax\n mov %eax, 0xffe(%rbx)\n mov "
                                     "0xffe(%rbx), %eax\n mov %rax, 0xffc(%rbx)\n mov 0xffc(%rbx), %rax\n"
                                     "movnti %rax, 0x28(%rbx)\n"
                                     /* the absolute forms */
                                     "movabs %eax, 0x800030\n movabs 0x800030, %rax\n"
                                     /* arithmetic on it */
                                     "add %al, 0x40(%rbx)\n add 0x40(%rbx), %ax\n addl $5, 0x40(%rbx)\n orq $6, "
                                     "0x48(%rbx)\n cmpb $7, 0x40(%rbx)\n testl $8, 0x40(%rbx)\n cmp %rax, 0x48(%rbx)\n"
                                     "incb 0x40(%rbx)\n decl 0x44(%rbx)\n notw 0x42(%rbx)\n negq 0x48(%rbx)\n shll $3, "
                                     "0x40(%rbx)\n rolb 0x41(%rbx)\n setc 0x43(%rbx)\n adc %eax, 0x44(%rbx)\n"
                                     "mov $100, %eax\n imul 0x40(%rbx), %eax\n mull 0x40(%rbx)\n btsl $3, 0x40(%rbx)\n "
                                     "bt %ecx, 0x44(%rbx)\n cmovz 0x48(%rbx), %rax\n cmovnz 0x48(%rbx), %rax\n"
                                     "xchg %al, 0x50(%rbx)\n xchg %eax, 0x54(%rbx)\n xchg %rax, 0x58(%rbx)\n lock incl "
                                     "0x50(%rbx)\n lock addq $9, 0x58(%rbx)\n lock xadd %eax, 0x50(%rbx)\n"
                                     /* pushes, pops, calls by it */
                                     "push %rax\n popq 0x60(%rbx)\n pushq 0x60(%rbx)\n pop %rax\n pushw 0x68(%rbx)\n "
                                     "popw 0x6a(%rbx)\n mov %rsp, %rbp\n lea 0x880(%rbx), %rsp\n push %rbp\n pop "
                                     "%rcx\n pushf\n popq 0x6000\n mov %rbp, %rsp\n"
                                     /* strings */
                                     "cld\n mov $0x6000, %esi\n lea 0x100(%rbx), %rdi\n movsb\n movsw\n movsl\n "
                                     "movsq\n mov $7, %ecx\n rep movsb\n mov $5, %ecx\n rep movsl\n mov $5, %ecx\n rep "
                                     "movsq\n"
                                     "lea 0x100(%rbx), %rsi\n mov $0x6200, %edi\n mov $5, %ecx\n rep movsb\n mov $5, "
                                     "%ecx\n rep movsw\n mov $5, %ecx\n rep movsl\n"
                                     "lea 0x100(%rbx), %rsi\n lea 0x200(%rbx), %rdi\n mov $4, %ecx\n rep movsl\n mov "
                                     "$3, %ecx\n rep stosb\n mov $3, %ecx\n rep stosq\n stosw\n lodsb\n lodsl\n mov "
                                     "$3, %ecx\n rep lodsw\n"
                                     "mov $3, %ecx\n repne scasb\n mov $3, %ecx\n repe scasl\n mov $0x6000, %esi\n mov "
                                     "$3, %ecx\n repne cmpsw\n lea 0x100(%rbx), %rsi\n mov $0x6200, %edi\n mov $2, "
                                     "%ecx\n repe cmpsl\n"
                                     "std\n lea 0x220(%rbx), %rdi\n mov $0x6300, %esi\n mov $4, %ecx\n rep movsw\n mov "
                                     "$4, %ecx\n rep stosl\n cld\n"
                                     "mov $0x304, %dx\n lea 0x240(%rbx), %rsi\n mov $3, %ecx\n rep outsw\n"
                                     "lea 0xff9(%rbx), %rdi\n mov $4, %ecx\n rep stosl\n"
                                     /* vectors and x87 */
                                     "movups 0x300(%rbx), %xmm1\n movaps 0x300(%rbx), %xmm2\n movdqu %xmm1, "
                                     "0x310(%rbx)\n movaps %xmm2, 0x320(%rbx)\n movq 0x300(%rbx), %xmm3\n movq %xmm3, "
                                     "0x330(%rbx)\n movd 0x300(%rbx), %xmm3\n movd %xmm3, 0x334(%rbx)\n"
                                     "movss 0x300(%rbx), %xmm3\n movsd %xmm3, 0x338(%rbx)\n paddd 0x300(%rbx), %xmm1\n "
                                     "movntdq %xmm1, 0x340(%rbx)\n movhps %xmm1, 0x350(%rbx)\n pinsrw $1, 0x352(%rbx), "
                                     "%xmm1\n cvtsi2sd 0x358(%rbx), %xmm3\n"
                                     "fildl 0x360(%rbx)\n fistpl 0x364(%rbx)\n fildll 0x368(%rbx)\n fistpll "
                                     "0x370(%rbx)\n fnstcw 0x378(%rbx)\n fnstsw 0x37a(%rbx)\n"
                                     "cmp %al, %al\n lock cmpxchg %ecx, 0x420(%rbx)\n lock cmpxchg8b "
                                     "0x428(%rbx)\n" GUEST_PUT("a") GUEST_EXIT("0") GUEST_GDT("script"))

/* --- The device --------------------------------------------------------------------------------------------------- */

struct recorder {
    struct mem_region window, ports;
    GPtrArray *log; /* one line for each access */
    uint64_t next;  /* what the next read gives, before it is mixed */
};

static uint64_t record(struct recorder *r, const char *what, uint64_t where, uint64_t value, unsigned size)
{
    uint64_t mask = size == 8 ? UINT64_MAX : (UINT64_C(1) << 8 * size) - 1;
    g_ptr_array_add(r->log, g_strdup_printf("%s %#" PRIx64 " %u bytes %#" PRIx64, what, where, size, value & mask));
    return value;
}

static uint64_t answer(struct recorder *r)
{
    return ++r->next * UINT64_C(0x9e3779b97f4a7c15);
}

static uint64_t window_read(void *opaque, uint64_t offset, unsigned size)
{
    return record(opaque, "read ", offset, answer(opaque), size);
}

static void window_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    record(opaque, "write", offset, value, size);
}

static uint64_t port_read(void *opaque, uint64_t offset, unsigned size)
{
    return record(opaque, "in   ", offset, answer(opaque), size);
}

static void port_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    record(opaque, "out  ", offset, value, size);
}

/* Nothing is split or widened on the way. */
static const struct mem_ops window_ops = { window_read, window_write, { 1, 8, true }, { 1, 8, true } };
static const struct mem_ops port_ops = { port_read, port_write, { 1, 8, true }, { 1, 8, true } };

static GPtrArray *run(const char *accel)
{
    struct recorder r = { .log = g_ptr_array_new_with_free_func(g_free) };
    g_setenv("ACCEL", accel, TRUE);
    struct guest *g = guest_new(RAM, 1, "qemu64");
    mem_init_io(&r.window, NULL, &window_ops, &r, "recorder", WINDOW_SIZE);
    mem_map(&g->m->memory_root, WINDOW, &r.window, 0);
    mem_init_io(&r.ports, NULL, &port_ops, &r, "recorder ports", 16);
    mem_map(&g->m->port_root, PORTS, &r.ports, 0);
    guest_load(g, 0x7c00, script_start, script_end);
    for (unsigned k = 0; k < 0x400; k += 8)
        guest_poke(g, 0x6000 + k, k * UINT64_C(0x0102040810204081), 8);
    int result = guest_run(g, 0x7c00, 30);
    if (result) {
        g_autoptr(GString) s = g_string_new(NULL);
        cpu_print(g->m->cpus[0], s);
        g_test_message("%s", s->str);
    }
    g_assert_cmpint(result, ==, 0);
    mem_transaction_begin();
    mem_fini(&r.window);
    mem_fini(&r.ports);
    mem_transaction_commit();
    guest_free(g);
    return r.log;
}

static void compare(const GPtrArray *a, const GPtrArray *b)
{
    unsigned differences = 0;
    for (guint k = 0; k < MAX(a->len, b->len) && differences < 20; k++) {
        const char *x = k < a->len ? a->pdata[k] : "nothing", *y = k < b->len ? b->pdata[k] : "nothing";
        if (!strcmp(x, y))
            continue;
        differences++;
        g_test_message("access %u: %s, and %s", k, x, y);
    }
    g_assert_cmpuint(differences, ==, 0);
    g_assert_cmpuint(a->len, ==, b->len);
}

static void test_engine(const void *data)
{
    GPtrArray *reference = run("interp"), *log = run(data);
    g_test_message("%u accesses", reference->len);
    g_assert_cmpuint(reference->len, >, 250);
    compare(reference, log);
    g_ptr_array_unref(reference);
    g_ptr_array_unref(log);
}

int main(int argc, char **argv)
{
    static const char *const all[] = { "jit", "jit,hot=0", "kvm,force=on" };
    g_test_init(&argc, &argv, NULL);
    g_autoptr(GString) help = g_string_new(NULL);
    accel_help(help);
    for (unsigned k = 0; k < G_N_ELEMENTS(all); k++) {
        g_autofree char *name = g_strndup(all[k], strcspn(all[k], ",")), *line = g_strdup_printf("\n%s ", name);
        g_autofree char *path = g_strdup_printf("/guest/accesses/%s", all[k]);
        const char *there = strstr(help->str, line);
        g_autofree char *rest = there ? g_strndup(there + 1, strcspn(there + 1, "\n")) : NULL;
        if (there && !strstr(rest, "not here"))
            g_test_add_data_func(path, all[k], test_engine);
    }
    return g_test_run();
}
