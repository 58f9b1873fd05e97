/* The parser of option arguments, the nearest name to a mistyped one, and the command line as a whole. */
#include "ui/options.h"
#include "hw/core/opts.h"

#include <glib.h>

static void test_pairs(void)
{
    struct opts *o = opts_parse("first,a=1,b=x,,y,switch,nowait,a=3", "name");
    g_assert_cmpstr(opts_take(o, "name"), ==, "first");
    g_assert_cmpstr(opts_take(o, "a"), ==, "3");
    g_assert_null(opts_take(o, "a"));
    g_assert_cmpstr(opts_take(o, "b"), ==, "x,y");
    g_assert_cmpstr(opts_take(o, "switch"), ==, "on");
    const char *key, *value;
    g_assert_true(opts_next(o, &key, &value));
    g_assert_cmpstr(key, ==, "wait");
    g_assert_cmpstr(value, ==, "off");
    g_assert_false(opts_next(o, &key, &value));
    opts_set(o, "c", "x,y");
    opts_add(o, "d=1,d=2");
    g_assert_cmpstr(opts_take(o, "c"), ==, "x,y");
    uint64_t n;
    g_assert_true(opts_take_number(o, "d", 0, 2, &n, NULL) && n == 2);
    opts_set(o, "e", "maybe");
    GError *err = NULL;
    bool flag;
    g_assert_false(opts_take_bool(o, "e", &flag, &err));
    g_assert_cmpstr(err->message, ==, "e=maybe: must be on or off");
    g_error_free(err);
    opts_free(o);
}

static void check_size(const char *text, uint64_t expected)
{
    uint64_t v = 0;
    g_assert_true(parse_size(text, 1 << 20, &v, NULL));
    g_assert_cmpuint(v, ==, expected);
}

static void test_sizes(void)
{
    check_size("512", UINT64_C(512) << 20);
    check_size("512M", UINT64_C(512) << 20);
    check_size("1.5G", UINT64_C(3) << 29);
    check_size("64k", 65536);
    check_size("2GiB", UINT64_C(2) << 30);
    check_size("0x10", UINT64_C(16) << 20);
    check_size("4096B", 4096);
    check_size("7EB", UINT64_C(7) << 60);
    check_size("9007199254740993B", UINT64_C(9007199254740993)); /* more digits than a double has */
    static const char *const bad[] = { "", "x", "-1", "1Q", "1Mx", "1e3", "8E", "999999999E", "G", "1 M", "nan",
                                       "inf" };
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        uint64_t v;
        GError *err = NULL;
        g_assert_false(parse_size(bad[i], 1, &v, &err));
        g_assert_nonnull(err);
        g_error_free(err);
    }
}

static void test_numbers(void)
{
    uint64_t v;
    bool b;
    g_assert_true(parse_number("0x1f", 0, 31, &v, NULL));
    g_assert_cmpuint(v, ==, 31);
    g_assert_false(parse_number("32", 0, 31, &v, NULL));
    g_assert_false(parse_number("-1", 0, UINT64_MAX, &v, NULL));
    g_assert_false(parse_number("1x", 0, 31, &v, NULL));
    g_assert_false(parse_number("", 0, 31, &v, NULL));
    g_assert_true(parse_bool("yes", &b, NULL) && b);
    g_assert_true(parse_bool("off", &b, NULL) && !b);
    g_assert_false(parse_bool("maybe", &b, NULL));
}

static const char *name(unsigned i)
{
    return option_rows[i].name;
}

static void test_nearest(void)
{
    g_assert_cmpstr(nearest_name("kernle", name), ==, "kernel");
    g_assert_cmpstr(nearest_name("nograhpic", name), ==, "nographic");
    g_assert_cmpstr(nearest_name("smpp", name), ==, "smp");
    g_assert_null(nearest_name("completely-different", name));
}

/* What one option has stored stays when another comes. */
static void test_command_line(void)
{
    char *argv[] = { "trapeze", "-boot", "order=dc", "-dump-screen", "old", "-dump-screen", "new", "-m", "1G" };
    struct options o;
    options_init(&o);
    g_assert_true(options_parse(&o, G_N_ELEMENTS(argv), argv, NULL));
    g_assert_cmpstr(o.pc.boot_order, ==, "dc");
    g_assert_cmpstr(o.screen_file, ==, "new");
    g_assert_cmpuint(o.pc.ram_size, ==, UINT64_C(1) << 30);
    options_clear(&o);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/opts/pairs", test_pairs);
    g_test_add_func("/opts/sizes", test_sizes);
    g_test_add_func("/opts/numbers", test_numbers);
    g_test_add_func("/opts/nearest", test_nearest);
    g_test_add_func("/opts/command_line", test_command_line);
    return g_test_run();
}
