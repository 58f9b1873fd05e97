/*
 * -accel jit,check=interp: a guest runs through, a template that does nothing is found and named, several
 * processors are refused.
 */
#include "config.h"

#ifdef CONFIG_JIT

#include "accel/jit.h"
#include "hw/core/vm_lock.h"
#include "tcg/tcg.h"
#include "tests/lib/guest_test.h"

#include <string.h>

/* Each instruction below at least once, with flags that are looked at, beside what only the interpreter may run. */
GUEST_CODE(mix, GUEST_ENTER_LONG("mix")
    "mov %cr4, %rax\n or $0x600, %eax\n mov %rax, %cr4\n mov $50, %ecx\n mov $0x300000, %ebx\n"
    "1: lea (%rcx, %rcx), %rdx\n add %rdx, (%rbx)\n imul $3, %rcx, %rax\n cmp $90, %rax\n jz 2f\n xor %rax, %rdi\n"
    "2: push %rax\n sbb %rcx, %rdi\n pop %r9\n shl %cl, %rdi\n"
    "movups (%rbx), %xmm1\n paddd %xmm1, %xmm2\n movups %xmm2, 64(%rbx)\n"
    "rdtsc\n pushf\n pop %rax\n call 3f\n mov 1(%rbx), %r10\n dec %rcx\n jnz 1b\n"
    GUEST_EXIT("0")
    "3: mov $'.', %al\n out %al, $0xe9\n lock xadd %rdx, 8(%rbx)\n bswap %edx\n ret\n"
    GUEST_GDT("mix"))

/* Rows by name, and what the disassembler calls them. */
static const struct broken {
    const char *row, *shown;
} broken[] = {
    { "add", "add" }, { "lea", "lea" }, { "cmp", "cmp" }, { "push", "push" }, { "imul", "imul" }, { "sbb", "sbb" },
    { "shl", "shl" }, { "movups", "movups" }, { "paddd", "paddd" }, { "jz", "je" }, { "call", "call" },
    { "mov", "mov" },
};

static GString *told;

static void on_printerr(const char *text)
{
    g_string_append(told, text);
}

static void test_equal(void)
{
    struct guest *g = guest_new(16 << 20, 1, NULL);
    guest_load(g, 0x7c00, mix_start, mix_end);
    g_assert_cmpint(guest_run(g, 0x7c00, 20), ==, 0);
    g_assert_cmpuint(g->out->len, ==, 50);
    g_assert_cmpint(g->m->exit_code, ==, 0);
    guest_free(g);
}

static void test_broken(const void *data)
{
    const struct broken *b = data;
    struct guest *g = guest_new(16 << 20, 1, NULL);
    told = g_string_new(NULL);
    GPrintFunc before = g_set_printerr_handler(on_printerr);
    guest_load(g, 0x7c00, mix_start, mix_end);
    jit_spoil(jit_of(g->m), b->row);
    guest_run(g, 0x7c00, 20);
    g_set_printerr_handler(before);
    g_assert_cmpint(g->m->exit_code, ==, 1);
    guest_free(g);

    g_test_message("%s", told->str);
    g_auto(GStrv) lines = g_strsplit(told->str, "\n", 2);
    g_assert_true(g_str_has_prefix(lines[0], "trapeze: -accel jit,check=interp: the engines differ "));
    g_autofree char *name = g_strdup_printf("behind \"%s ", b->shown);
    g_assert_nonnull(strstr(lines[0], name));
    g_assert_nonnull(strstr(lines[1], "\ndifferences:\n  "));
    g_string_free(told, TRUE);
}

static void test_processors(void)
{
    GError *err = NULL;
    struct guest *g = guest_new(16 << 20, 2, NULL);
    g_assert_false(vcpus_start(g->m, &err));
    g_assert_cmpstr(err->message, ==, "-accel jit,check=interp compares one processor only: give -smp 1");
    g_error_free(err);
    guest_free(g);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_setenv("ACCEL", "jit,check=interp", TRUE);
    g_test_add_func("/lockstep/equal", test_equal);
    for (unsigned k = 0; k < G_N_ELEMENTS(broken); k++) {
        g_autofree char *path = g_strdup_printf("/lockstep/broken/%s", broken[k].row);
        g_test_add_data_func(path, &broken[k], test_broken);
    }
    g_test_add_func("/lockstep/processors", test_processors);
    return g_test_run();
}

#else

#include <stdio.h>

int main(void)
{
    puts("1..0 # SKIP this build has no JIT");
    return 0;
}

#endif
