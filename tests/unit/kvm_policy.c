/* What is made of the findings about a host's KVM: which KVM is used, what is said about it, which modes are told apart. */
#include "config.h"

#include <glib.h>

#ifdef CONFIG_KVM
#include "accel/kvm_vm.h"

#include "cpu/debug.h"

/* Native throughout. */
static struct kvm_findings perfect(void)
{
    struct kvm_findings f = { .exit_ns = 1000 };
    for (unsigned k = 0; k < KVM_MODES; k++)
        f.mode[k] = (struct kvm_finding){ KVM_GOOD, 2000, NULL };
    return f;
}

static void check(const struct kvm_findings *f, bool sound, bool good, const char *flaws)
{
    g_autoptr(GString) s = g_string_new(NULL);
    kvm_describe_flaws(f, s);
    g_assert_cmpstr(s->str, ==, flaws);
    g_assert_cmpint(kvm_is_sound(f), ==, sound);
    g_assert_cmpint(kvm_is_good(f), ==, good);
}

static void test_holes(void)
{
    static const struct {
        enum kvm_mode mode;
        bool good;
        const char *flaws;
    } slow[] = {
        { KVM_MODE_REAL, true, "emulated: real mode" },
        { KVM_MODE_PROTECTED, true, "emulated: protected mode" },
        { KVM_MODE_PAGED, true, "emulated: 32-bit paging" },
        { KVM_MODE_LONG, false, "emulated: 64-bit kernel" },
        { KVM_MODE_USER, false, "emulated: 64-bit programs" },
    };
    struct kvm_findings f = perfect();
    check(&f, true, true, "");
    g_assert_false(kvm_emulates_some(&f));
    for (unsigned k = 0; k < G_N_ELEMENTS(slow); k++) {
        f = perfect();
        f.mode[slow[k].mode] = (struct kvm_finding){ KVM_SLOW, 5, NULL };
        check(&f, true, slow[k].good, slow[k].flaws);
        g_assert_true(kvm_emulates_some(&f));
        f.mode[slow[k].mode] = (struct kvm_finding){ KVM_WRONG, 0, "does not run" };
        g_autofree char *text = g_strdup_printf("wrong: %s (does not run)", strchr(slow[k].flaws, ' ') + 1);
        check(&f, false, false, text);
    }
}

static void test_other_flaws(void)
{
    struct kvm_findings f = perfect();
    f.own_cpuid = true;
    check(&f, false, false, "CPUID is not as it was set");
    f = perfect();
    f.stale_tables = true;
    check(&f, false, false, "changes of page tables from outside are not seen");
    f = perfect();
    f.fixed_tsc = true;
    check(&f, false, false, "the TSC cannot be moved");
}

static void test_modes(void)
{
    struct kvm_sregs s = { .cr0 = CR0_ET };
    g_assert_cmpint(kvm_mode_of(&s), ==, KVM_MODE_REAL);
    s.cr0 |= CR0_PE;
    g_assert_cmpint(kvm_mode_of(&s), ==, KVM_MODE_PROTECTED);
    s.efer = EFER_LME;
    g_assert_cmpint(kvm_mode_of(&s), ==, KVM_MODE_PROTECTED);
    s.cr0 |= CR0_PG;
    s.efer = 0;
    g_assert_cmpint(kvm_mode_of(&s), ==, KVM_MODE_PAGED);
    s.efer = EFER_LME | EFER_LMA;
    g_assert_cmpint(kvm_mode_of(&s), ==, KVM_MODE_LONG);
    s.ss.dpl = 3;
    g_assert_cmpint(kvm_mode_of(&s), ==, KVM_MODE_USER);
}
#endif

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#ifdef CONFIG_KVM
    g_test_add_func("/unit/kvm_policy/holes", test_holes);
    g_test_add_func("/unit/kvm_policy/other", test_other_flaws);
    g_test_add_func("/unit/kvm_policy/modes", test_modes);
#endif
    return g_test_run();
}
