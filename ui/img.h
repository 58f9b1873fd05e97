/*
 * trapeze-img: what its commands share. Each command is `int img_NAME(int argc, char **argv)`, with argv[0] its name, and
 * returns the program's exit code. One thread, but for the workers of convert; no machine.
 */
#ifndef UI_IMG_H
#define UI_IMG_H

#include "hw/backend/blk_int.h"

#include <getopt.h>

int img_create(int argc, char **argv);
int img_info(int argc, char **argv);
int img_map(int argc, char **argv);
int img_check(int argc, char **argv);
int img_compare(int argc, char **argv);
int img_convert(int argc, char **argv);
int img_snapshot(int argc, char **argv);
int img_resize(int argc, char **argv);
int img_rebase(int argc, char **argv);
int img_commit(int argc, char **argv);
int img_bench(int argc, char **argv);

/* "trapeze-img: ..." on stderr; 1. */
int img_fail(const char *fmt, ...) G_GNUC_PRINTF(1, 2);
/* The same of an error, which is freed. */
int img_fail_error(GError *err);

/* Options that several commands have, as they come out of getopt. */
struct img_options {
    const char *format;
    bool quiet, share, image_opts, progress, json;
    const char *cache, *source_cache; /* -t, -T */
};
/* Takes one of f: q U p t: T: --image-opts --output --object; false: it is none, or a sentence was printed (*failed). */
bool img_common_option(struct img_options *o, int c, bool *failed);
enum { IMG_IMAGE_OPTS = 256, IMG_OUTPUT, IMG_OBJECT, IMG_OWN };
#define IMG_LONG_OPTIONS \
    { "help", no_argument, NULL, 'h' }, { "quiet", no_argument, NULL, 'q' }, \
    { "force-share", no_argument, NULL, 'U' }, { "image-opts", no_argument, NULL, IMG_IMAGE_OPTS }, \
    { "output", required_argument, NULL, IMG_OUTPUT }, { "object", required_argument, NULL, IMG_OBJECT }
/* What is not of these: prints the sentence that getopt's '?', ':' or 'h' calls for; the exit code. */
int img_other_option(char **argv, int c);

/* Flags of a cache mode ("writeback" for NULL); false and a sentence if there is none of that name. */
bool img_cache(const char *mode, unsigned *flags);
/* Opens it, or prints why not and returns NULL. */
struct blk_node *img_open(const struct img_options *o, const char *name, const char *format, unsigned flags);
bool img_parse_size(const char *text, uint64_t *out); /* prints what is wrong */
/* "1.5 GiB", as qemu-img writes sizes. Caller frees. */
char *img_size_text(uint64_t bytes);
/* Progress of -p, from `before` to `done`: whole percents are written over each other. */
void img_progress(bool on, uint64_t before, uint64_t done, uint64_t all);
/* Text as a JSON string, with quotes. */
void img_json_string(GString *out, const char *text);
/* The header and a line for each, as info and snapshot -l show them. */
void img_print_snapshots(const GArray *snapshots);

#endif
