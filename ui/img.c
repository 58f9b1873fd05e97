/*
 * trapeze-img: makes, looks at, converts and repairs disk images. Arguments, output and exit codes are those of qemu-img
 * 7.2, since scripts call it; what this version lacks is refused with a sentence.
 *
 * This file: which command, and what all of them share. No machine, no lock.
 */
#include "ui/img.h"

#include "config.h"
#include "hw/core/opts.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *arguments; /* NULL: known, but not here */
} commands[] = {
    { "bench", img_bench, "[-c count] [-d depth] [-f fmt] [--flush-interval=n] [-i aio] [-n] [--no-drain] [-o offset]\n"
      "        [--pattern=byte] [-q] [-s buffer_size] [-S step_size] [-t cache] [-w] [-U] file" },
    { "check", img_check, "[-q] [-f fmt] [--output=human|json] [-r leaks|all] [-T cache] [-U] file" },
    { "commit", img_commit, "[-q] [-f fmt] [-t cache] [-b base] [-d] [-p] file" },
    { "compare", img_compare, "[-f fmt] [-F fmt] [-T cache] [-p] [-q] [-s] [-U] file1 file2" },
    { "convert", img_convert, "[-c] [-p] [-q] [-n] [-f fmt] [-t cache] [-T cache] [-O fmt] [-B backing_file [-F fmt]]\n"
      "        [-o options] [-l snapshot] [-S sparse_size] [-m threads] [-W] [--target-is-zero] [-U] file... output_file" },
    { "create", img_create, "[-q] [-f fmt] [-b backing_file [-F fmt]] [-u] [-o options] file [size]" },
    { "info", img_info, "[-f fmt] [--output=human|json] [--backing-chain] [-U] file" },
    { "map", img_map, "[-f fmt] [--start-offset=n] [--max-length=n] [--output=human|json] [-U] file" },
    { "rebase", img_rebase, "[-q] [-f fmt] [-t cache] [-T cache] [-p] [-u] [-U] -b backing_file [-F fmt] file" },
    { "resize", img_resize, "[-f fmt] [--preallocation=how] [-q] [--shrink] file [+|-]size" },
    { "snapshot", img_snapshot, "[-U] [-q] -l | -a name | -c name | -d name file" },
    { "amend", NULL, NULL },
    { "bitmap", NULL, NULL },
    { "dd", NULL, NULL },
    { "measure", NULL, NULL },
};

int img_fail(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    g_autofree char *text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    fflush(stdout);
    fprintf(stderr, "trapeze-img: %s\n", text);
    return 1;
}

int img_fail_error(GError *err)
{
    img_fail("%s", err->message);
    g_error_free(err);
    return 1;
}

bool img_parse_size(const char *text, uint64_t *out)
{
    GError *err = NULL;
    if (parse_size(text, 1, out, &err))
        return true;
    img_fail("Invalid size '%s': it %s", text, err->message);
    g_error_free(err);
    return false;
}

char *img_size_text(uint64_t bytes)
{
    static const char *const units[] = { "", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei" };
    unsigned i = 0;
    double v = (double)bytes;
    for (; v >= 1000 && i + 1 < G_N_ELEMENTS(units); i++)
        v /= 1024;
    return g_strdup_printf("%0.3g %sB", v, units[i]);
}

void img_progress(bool on, uint64_t before, uint64_t done, uint64_t all)
{
    double percents = all ? 100.0 * (double)done / (double)all : 100;
    if (!on || (all && before && (int)(100.0 * (double)before / (double)all) == (int)percents))
        return;
    printf("    (%3.2f/100%%)\r", percents);
    if (done >= all)
        putchar('\n');
    fflush(stdout);
}

void img_json_string(GString *out, const char *text)
{
    g_string_append_c(out, '"');
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        if (*c == '"' || *c == '\\')
            g_string_append_printf(out, "\\%c", *c);
        else if (*c < 32)
            g_string_append_printf(out, "\\u%04x", *c);
        else
            g_string_append_c(out, (char)*c);
    }
    g_string_append_c(out, '"');
}

/* --- Options --------------------------------------------------------------------------------------------------------- */

bool img_cache(const char *mode, unsigned *flags)
{
    static const struct {
        const char *name;
        unsigned flags;
    } modes[] = { { "writeback", 0 },
                  { "writethrough", 0 },
                  { "none", BLK_OPEN_DIRECT },
                  { "off", BLK_OPEN_DIRECT },
                  { "directsync", BLK_OPEN_DIRECT },
                  { "unsafe", BLK_OPEN_NO_FLUSH } };
    for (unsigned i = 0; i < G_N_ELEMENTS(modes); i++) {
        if (strcmp(mode ? mode : "writeback", modes[i].name) == 0) {
            *flags |= modes[i].flags;
            return true;
        }
    }
    img_fail("Invalid cache option: %s; it must be writeback, none, writethrough, directsync or unsafe", mode);
    return false;
}

bool img_common_option(struct img_options *o, int c, bool *failed)
{
    switch (c) {
    case 'f': o->format = optarg; return true;
    case 'q': o->quiet = true; return true;
    case 'U': o->share = true; return true;
    case 'p': o->progress = true; return true;
    case 't': o->cache = optarg; return true;
    case 'T': o->source_cache = optarg; return true;
    case IMG_IMAGE_OPTS: o->image_opts = true; return true;
    case IMG_OUTPUT:
        o->json = strcmp(optarg, "json") == 0;
        *failed = !o->json && strcmp(optarg, "human");
        if (*failed)
            img_fail("--output must be used with human or json as argument.");
        return !*failed;
    case IMG_OBJECT:
        *failed = true;
        img_fail("--object %s: this version needs no objects for images; leave it out", optarg);
        return false;
    default: return false;
    }
}

static void usage(void);

int img_other_option(char **argv, int c)
{
    if (c == 'h') {
        usage();
        return 0;
    }
    if (c == ':')
        img_fail("missing argument for option '%s'", argv[optind - 1]);
    else
        img_fail("unrecognized option '%s'", argv[optind - 1]);
    fputs("Try 'trapeze-img --help' for more information\n", stderr);
    return 1;
}

/* "driver=qcow2,file.filename=PATH" of --image-opts: what names the image; false and a sentence. */
static bool take_image_opts(const char *text, char **name, char **format)
{
    struct opts *o = opts_parse(text, NULL);
    GError *err = NULL;
    const char *driver = opts_take(o, "driver"), *nested = opts_take(o, "file.filename"), *own = opts_take(o, "filename");
    const char *protocol = opts_take(o, "file.driver");
    bool ok = (driver && (nested || own)) || opts_error(&err, "it must have driver= and file.filename=");
    if (ok && protocol && strcmp(protocol, "file") && strcmp(protocol, "host_device"))
        ok = opts_error(&err, "file.driver must be file or host_device");
    ok = ok && opts_done(o, "driver, filename, file.driver, file.filename", &err);
    if (ok) {
        *name = g_strdup(nested ? nested : own);
        *format = g_strdup(strcmp(driver, "file") ? driver : "raw");
    } else {
        img_fail("--image-opts '%s': %s", text, err->message);
        g_error_free(err);
    }
    opts_free(o);
    return ok;
}

struct blk_node *img_open(const struct img_options *o, const char *name, const char *format, unsigned flags)
{
    GError *err = NULL;
    g_autofree char *own_name = NULL, *own_format = NULL;
    if (o->image_opts && !take_image_opts(name, &own_name, &own_format))
        return NULL;
    flags |= BLK_OPEN_LOCK_OPTIONAL | (o->share ? BLK_OPEN_SHARE : 0);
    struct blk_node *n = blk_node_open(own_name ? own_name : name, own_format ? own_format : format, flags, NULL, NULL, &err);
    if (!n) {
        img_fail("Could not open '%s': %s", name, err->message);
        g_error_free(err);
    } else {
        n->probed = false; /* whoever uses this tool may write what he likes */
    }
    return n;
}

/* --- The program ------------------------------------------------------------------------------------------------------ */

static void print_version(void)
{
    printf("trapeze-img version 7.2.0 (Trapeze %s)\n", TRAPEZE_VERSION);
    printf("Trapeze is an emulator of its own; the number tells whose qemu-img's arguments it follows.\n");
}

static void usage(void)
{
    print_version();
    puts("usage: trapeze-img [-h | -V] command [command options]\n");
    for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (commands[i].arguments)
            printf("  %s %s\n", commands[i].name, commands[i].arguments);
    }
    printf("\n"
           "  fmt       one of %s; without it, what the image looks like\n"
           "  cache     writeback, none, writethrough, directsync, unsafe\n"
           "  size      bytes, or with k, M, G, T, P, E\n"
           "  -q        nothing is printed but errors; -p: progress; -U: other programs may use the image\n"
           "  -o help   lists the options of the format\n"
           "  commands that look at images also take --image-opts: driver=FMT,file.filename=PATH for the file\n\n"
           "Supported formats: %s\n",
           blk_driver_names(), blk_driver_names());
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return img_fail("Not enough arguments; try 'trapeze-img --help'");
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        usage();
        return 0;
    }
    if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0) {
        print_version();
        return 0;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (strcmp(commands[i].name, name))
            continue;
        if (!commands[i].run)
            return img_fail("this version has no command '%s'", name);
        opterr = 0;
        int ret = commands[i].run(argc - 1, argv + 1);
        return fflush(stdout) == 0 ? ret : img_fail("the output cannot be written");
    }
    img_fail("Command not found: %s", name);
    fputs("Try 'trapeze-img --help' for more information\n", stderr);
    return 1;
}
