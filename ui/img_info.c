/*
 * trapeze-img info, map, check: what an image says of itself, where its bytes are, whether it is sound.
 */
#include "ui/img.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NO_CHECKS 63 /* exit code: the format has nothing to check */

/* --- info ------------------------------------------------------------------------------------------------------------ */

static void print_row(const struct blk_snapshot *n)
{
    g_autofree char *size = img_size_text(n->vm_state_size);
    char date[32] = "", clock[64], icount[24] = "";
    time_t when = (time_t)n->date_sec;
    struct tm tm;
    uint64_t seconds = n->vm_clock_ns / 1000000000;
    if (localtime_r(&when, &tm))
        strftime(date, sizeof date, "%Y-%m-%d %H:%M:%S", &tm);
    g_snprintf(clock, sizeof clock, "%02u:%02u:%02u.%03u", (unsigned)(seconds / 3600), (unsigned)(seconds / 60 % 60),
               (unsigned)(seconds % 60), (unsigned)(n->vm_clock_ns / 1000000 % 1000));
    if (n->icount != UINT64_MAX)
        g_snprintf(icount, sizeof icount, "%" G_GUINT64_FORMAT, n->icount);
    printf("%-9s %-16s %8s%20s%13s%11s\n", n->id, n->name, size, date, clock, icount);
}

void img_print_snapshots(const GArray *snapshots)
{
    printf("Snapshot list:\n%-10s%-17s%8s%20s%13s%11s\n", "ID", "TAG", "VM SIZE", "DATE", "VM CLOCK", "ICOUNT");
    for (guint i = 0; i < snapshots->len; i++)
        print_row(&g_array_index(snapshots, struct blk_snapshot, i));
}

static void print_facts(struct blk_node *n)
{
    GArray *facts = n->driver->facts ? n->driver->facts(n) : NULL;
    if (!facts)
        return;
    printf("Format specific information:\n");
    for (guint i = 0; i < facts->len; i++) {
        const struct blk_fact *f = &g_array_index(facts, struct blk_fact, i);
        printf("    %s: %s\n", f->name, f->value);
    }
    blk_facts_free(facts);
}

static void print_human(struct blk_node *n)
{
    g_autofree char *size = img_size_text(n->size), *disk = img_size_text((uint64_t)blk_node_host_bytes(n));
    const char *format = NULL, *backing = n->driver->backing_name ? n->driver->backing_name(n, &format) : NULL;
    printf("image: %s\nfile format: %s\nvirtual size: %s (%" G_GUINT64_FORMAT " bytes)\ndisk size: %s\n", n->path,
           n->driver->name, size, n->size, disk);
    if (n->driver->cluster_size)
        printf("cluster_size: %" G_GUINT64_FORMAT "\n", n->driver->cluster_size(n));
    if (backing) {
        g_autofree char *full = blk_path_beside(n->path, backing);
        printf("backing file: %s", backing);
        if (strcmp(full, backing))
            printf(" (actual path: %s)", full);
        putchar('\n');
        if (format)
            printf("backing file format: %s\n", format);
    }
    GArray *snapshots = n->driver->snapshots ? n->driver->snapshots(n) : NULL;
    if (snapshots && snapshots->len)
        img_print_snapshots(snapshots);
    if (snapshots)
        blk_snapshots_free(snapshots);
    print_facts(n);
}

static void json_text(GString *out, const char *pad, const char *name, const char *value)
{
    g_string_append_printf(out, "%s    \"%s\": ", pad, name);
    img_json_string(out, value);
    g_string_append(out, ",\n");
}

static void json_number(GString *out, const char *pad, const char *name, uint64_t value)
{
    g_string_append_printf(out, "%s    \"%s\": %" G_GUINT64_FORMAT ",\n", pad, name, value);
}

/* Takes the comma before the end away. */
static void json_end(GString *out, const char *pad, const char *close)
{
    if (g_str_has_suffix(out->str, ",\n"))
        g_string_truncate(out, out->len - 2);
    g_string_append_printf(out, "\n%s%s", pad, close);
}

static void json_snapshots(GString *out, const char *pad, GArray *snapshots)
{
    g_autofree char *deeper = g_strconcat(pad, "        ", NULL);
    g_string_append_printf(out, "%s    \"snapshots\": [\n", pad);
    for (guint i = 0; i < snapshots->len; i++) {
        const struct blk_snapshot *n = &g_array_index(snapshots, struct blk_snapshot, i);
        g_string_append_printf(out, "%s{\n", deeper);
        if (n->icount != UINT64_MAX)
            json_number(out, deeper, "icount", n->icount);
        json_number(out, deeper, "vm-clock-nsec", n->vm_clock_ns % 1000000000);
        json_text(out, deeper, "name", n->name);
        json_number(out, deeper, "date-sec", n->date_sec);
        json_number(out, deeper, "date-nsec", n->date_nsec);
        json_number(out, deeper, "vm-clock-sec", n->vm_clock_ns / 1000000000);
        json_text(out, deeper, "id", n->id);
        json_number(out, deeper, "vm-state-size", n->vm_state_size);
        json_end(out, deeper, "},\n");
    }
    g_autofree char *inner = g_strconcat(pad, "    ", NULL);
    json_end(out, inner, "],\n");
}

static void json_facts(GString *out, const char *pad, struct blk_node *n)
{
    GArray *facts = n->driver->facts(n);
    g_autofree char *deeper = g_strconcat(pad, "        ", NULL);
    g_string_append_printf(out, "%s    \"format-specific\": {\n%s\"type\": \"%s\",\n%s\"data\": {\n", pad, deeper,
                           n->driver->name, deeper);
    for (guint i = 0; i < facts->len; i++) {
        const struct blk_fact *f = &g_array_index(facts, struct blk_fact, i);
        g_autofree char *name = g_strdelimit(g_strdup(f->name), " ", '-');
        if (f->string)
            json_text(out, deeper, name, f->value);
        else
            g_string_append_printf(out, "%s    \"%s\": %s,\n", deeper, name, f->value);
    }
    json_end(out, deeper, "}\n");
    g_string_append_printf(out, "%s    },\n", pad);
    blk_facts_free(facts);
}

static void add_json(GString *out, const char *pad, struct blk_node *n)
{
    const char *format = NULL, *backing = n->driver->backing_name ? n->driver->backing_name(n, &format) : NULL;
    GArray *snapshots = n->driver->snapshots ? n->driver->snapshots(n) : NULL;
    g_string_append_printf(out, "%s{\n", pad);
    if (snapshots && snapshots->len)
        json_snapshots(out, pad, snapshots);
    if (snapshots)
        blk_snapshots_free(snapshots);
    if (format)
        json_text(out, pad, "backing-filename-format", format);
    json_number(out, pad, "virtual-size", n->size);
    json_text(out, pad, "filename", n->path);
    if (n->driver->cluster_size)
        json_number(out, pad, "cluster-size", n->driver->cluster_size(n));
    json_text(out, pad, "format", n->driver->name);
    json_number(out, pad, "actual-size", (uint64_t)MAX(blk_node_host_bytes(n), 0));
    if (n->driver->facts)
        json_facts(out, pad, n);
    if (backing) {
        g_autofree char *full = blk_path_beside(n->path, backing);
        json_text(out, pad, "full-backing-filename", full);
        json_text(out, pad, "backing-filename", backing);
    }
    g_string_append_printf(out, "%s    \"dirty-flag\": %s,\n", pad,
                           n->driver->is_dirty && n->driver->is_dirty(n) ? "true" : "false");
    json_end(out, pad, "}");
}

/* The image, and with `chain` those below it; the exit code. */
static int show(const struct img_options *o, const char *file, bool chain, GString *json)
{
    g_autofree char *name = g_strdup(file), *format = g_strdup(o->format);
    struct img_options own = *o;
    for (unsigned i = 0; name; i++) {
        struct blk_node *n = img_open(&own, name, format, BLK_OPEN_NO_BACKING | (chain ? 0 : BLK_OPEN_CHECK));
        if (!n || i > 200) {
            blk_node_close(n);
            return n ? img_fail("the chain of '%s' has no end", file) : 1;
        }
        if (i)
            json ? (void)g_string_append(json, ",\n") : (void)putchar('\n');
        json ? add_json(json, chain ? "    " : "", n) : print_human(n);
        const char *below_format = NULL, *below = NULL;
        if (chain && n->driver->backing_name)
            below = n->driver->backing_name(n, &below_format);
        char *next = below ? blk_path_beside(n->path, below) : NULL;
        g_free(format);
        format = below ? g_strdup(below_format) : NULL;
        g_free(name);
        name = next;
        own.image_opts = false;
        blk_node_close(n);
    }
    return 0;
}

int img_info(int argc, char **argv)
{
    static const struct option longs[] = { IMG_LONG_OPTIONS, { "backing-chain", no_argument, NULL, IMG_OWN }, { 0 } };
    struct img_options o = { 0 };
    bool chain = false, failed = false;
    for (int c; (c = getopt_long(argc, argv, ":hf:U", longs, NULL)) != -1;) {
        if (c == IMG_OWN)
            chain = true;
        else if (!img_common_option(&o, c, &failed))
            return failed ? 1 : img_other_option(argv, c);
    }
    if (optind != argc - 1)
        return img_fail("Expecting one image file name");
    GString *json = o.json ? g_string_new(chain ? "[\n" : "") : NULL;
    int ret = show(&o, argv[optind], chain, json);
    if (json && !ret)
        printf("%s\n%s", json->str, chain ? "]\n" : "");
    if (json)
        g_string_free(json, TRUE);
    return ret;
}

/* --- map --------------------------------------------------------------------------------------------------------------- */

struct stretch {
    uint64_t start;
    struct blk_extent e;
    struct blk_node *where;
    unsigned depth;
};

static bool joins(const struct stretch *a, const struct stretch *b)
{
    return a->where == b->where && a->e.kind == b->e.kind &&
           (!(a->e.kind & BLK_EXTENT_OFFSET) || a->e.host + a->e.bytes == b->e.host);
}

static int print_stretch(const struct stretch *s, bool json, bool first)
{
    bool data = s->e.kind & BLK_EXTENT_DATA, zero = s->e.kind & BLK_EXTENT_ZERO;
    if (json) {
        printf("%s{ \"start\": %" G_GUINT64_FORMAT ", \"length\": %" G_GUINT64_FORMAT ", \"depth\": %u, \"present\": %s, "
               "\"zero\": %s, \"data\": %s", first ? "[" : ",\n", s->start, s->e.bytes, s->depth,
               s->e.kind & BLK_EXTENT_ALLOCATED ? "true" : "false", zero ? "true" : "false", data ? "true" : "false");
        if (s->e.kind & BLK_EXTENT_OFFSET)
            printf(", \"offset\": %" G_GUINT64_FORMAT, s->e.host);
        printf("}");
        return 0;
    }
    if (!data || zero)
        return 0;
    if (!(s->e.kind & BLK_EXTENT_OFFSET))
        return img_fail("File contains external, encrypted or compressed clusters.");
    printf("%#-16" G_GINT64_MODIFIER "x%#-16" G_GINT64_MODIFIER "x%#-16" G_GINT64_MODIFIER "x%s\n", s->start, s->e.bytes,
           s->e.host, s->where->path);
    return 0;
}

static int map_all(struct blk_node *n, uint64_t from, uint64_t to, bool json)
{
    struct stretch now = { 0 };
    bool first = true;
    int ret = 0;
    if (!json)
        printf("%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to", "File");
    for (uint64_t at = from; at < to && !ret;) {
        struct stretch s = { .start = at };
        int error = blk_node_map_chain(n, at, to - at, &s.e, &s.where, &s.depth);
        if (error)
            return img_fail("Failed to read image metadata: %s", g_strerror(-error));
        at += s.e.bytes;
        if (now.e.bytes && joins(&now, &s)) {
            now.e.bytes += s.e.bytes;
            continue;
        }
        if (now.e.bytes) {
            ret = print_stretch(&now, json, first);
            first = false;
        }
        now = s;
    }
    if (now.e.bytes && !ret)
        ret = print_stretch(&now, json, first);
    if (json)
        puts(now.e.bytes ? "]" : "[]");
    return ret;
}

int img_map(int argc, char **argv)
{
    static const struct option longs[] = { IMG_LONG_OPTIONS, { "start-offset", required_argument, NULL, 's' },
                                           { "max-length", required_argument, NULL, 'l' }, { 0 } };
    struct img_options o = { 0 };
    uint64_t start = 0, length = UINT64_MAX;
    bool failed = false;
    for (int c; (c = getopt_long(argc, argv, ":hf:s:l:U", longs, NULL)) != -1;) {
        if (c == 's' || c == 'l') {
            if (!img_parse_size(optarg, c == 's' ? &start : &length))
                return 1;
        } else if (!img_common_option(&o, c, &failed)) {
            return failed ? 1 : img_other_option(argv, c);
        }
    }
    if (optind != argc - 1)
        return img_fail("Expecting one image file name");
    struct blk_node *n = img_open(&o, argv[optind], o.format, 0);
    if (!n)
        return 1;
    start = MIN(start, n->size);
    int ret = map_all(n, start, start + MIN(length, n->size - start), o.json);
    blk_node_close(n);
    return ret;
}

/* --- check -------------------------------------------------------------------------------------------------------------- */

static void check_json(const struct blk_node *n, const struct blk_check *c)
{
    g_autoptr(GString) out = g_string_new("{\n");
    json_number(out, "", "image-end-offset", c->image_end);
    json_number(out, "", "total-clusters", c->total_clusters);
    json_number(out, "", "check-errors", c->errors);
    const struct {
        const char *name;
        uint64_t value;
    } rest[] = { { "corruptions", c->corruptions },         { "leaks", c->leaks },
                 { "corruptions-fixed", c->corruptions_fixed }, { "leaks-fixed", c->leaks_fixed },
                 { "allocated-clusters", c->allocated },     { "fragmented-clusters", c->fragmented },
                 { "compressed-clusters", c->compressed } };
    for (unsigned i = 0; i < G_N_ELEMENTS(rest); i++) {
        if (rest[i].value)
            json_number(out, "", rest[i].name, rest[i].value);
    }
    json_text(out, "", "filename", n->path);
    json_text(out, "", "format", n->driver->name);
    json_end(out, "", "}");
    puts(out->str);
}

static void check_human(const struct blk_check *c)
{
    if (!c->corruptions && !c->leaks && !c->errors)
        printf("No errors were found on the image.\n");
    if (c->corruptions)
        printf("\n%" G_GUINT64_FORMAT " errors were found on the image.\nData may be corrupted, or further writes to the image "
               "may corrupt it.\n", c->corruptions);
    if (c->leaks)
        printf("\n%" G_GUINT64_FORMAT " leaked clusters were found on the image.\nThis means waste of disk space, but no harm "
               "to data.\n", c->leaks);
    if (c->errors)
        printf("\n%" G_GUINT64_FORMAT " internal errors have occurred during the check.\n", c->errors);
    if (c->total_clusters && c->allocated)
        printf("%" G_GUINT64_FORMAT "/%" G_GUINT64_FORMAT " = %0.2f%% allocated, %0.2f%% fragmented, %0.2f%% compressed clusters\n",
               c->allocated, c->total_clusters, 100.0 * (double)c->allocated / (double)c->total_clusters,
               100.0 * (double)c->fragmented / (double)c->allocated, 100.0 * (double)c->compressed / (double)c->allocated);
    if (c->image_end)
        printf("Image end offset: %" G_GUINT64_FORMAT "\n", c->image_end);
}

/* Once, or with repairs and once more; the exit code. */
static int check_image(struct blk_node *n, const struct img_options *o, enum blk_fix fix)
{
    GError *err = NULL;
    struct blk_check c = { .messages = g_string_new(NULL) };
    bool ok = n->driver->check(n, &c, fix, &err);
    if (ok && (c.corruptions_fixed || c.leaks_fixed)) {
        if (!o->quiet && !o->json)
            printf("The following inconsistencies were found and repaired:\n\n    %" G_GUINT64_FORMAT " leaked clusters\n"
                   "    %" G_GUINT64_FORMAT " corruptions\n\nDouble checking the fixed image now...\n", c.leaks_fixed,
                   c.corruptions_fixed);
        struct blk_check again = { .messages = c.messages, .leaks_fixed = c.leaks_fixed,
                                   .corruptions_fixed = c.corruptions_fixed };
        if (!o->quiet)
            fputs(c.messages->str, stderr);
        g_string_truncate(c.messages, 0);
        ok = n->driver->check(n, &again, BLK_FIX_NOTHING, &err);
        c = again;
    }
    if (!o->quiet)
        fputs(c.messages->str, stderr);
    g_string_free(c.messages, TRUE);
    if (!ok)
        return img_fail_error(err);
    if (o->json)
        check_json(n, &c);
    else if (!o->quiet)
        check_human(&c);
    return c.errors ? 1 : c.corruptions ? 2 : c.leaks ? 3 : 0;
}

int img_check(int argc, char **argv)
{
    static const struct option longs[] = { IMG_LONG_OPTIONS, { "repair", required_argument, NULL, 'r' }, { 0 } };
    struct img_options o = { 0 };
    enum blk_fix fix = BLK_FIX_NOTHING;
    unsigned flags = BLK_OPEN_CHECK | BLK_OPEN_NO_BACKING;
    bool failed = false;
    for (int c; (c = getopt_long(argc, argv, ":hqf:r:T:U", longs, NULL)) != -1;) {
        if (c == 'r') {
            fix = strcmp(optarg, "all") == 0 ? BLK_FIX_ALL : BLK_FIX_LEAKS;
            if (fix == BLK_FIX_LEAKS && strcmp(optarg, "leaks"))
                return img_fail("-r %s: must be leaks or all", optarg);
        } else if (!img_common_option(&o, c, &failed)) {
            return failed ? 1 : img_other_option(argv, c);
        }
    }
    if (optind != argc - 1)
        return img_fail("Expecting one image file name");
    if (!img_cache(o.source_cache, &flags))
        return 1;
    struct blk_node *n = img_open(&o, argv[optind], o.format, flags | (fix != BLK_FIX_NOTHING ? BLK_OPEN_WRITE : 0));
    if (!n)
        return 1;
    int ret = NO_CHECKS;
    if (n->driver->check)
        ret = check_image(n, &o, fix);
    else
        img_fail("This image format does not support checks");
    blk_node_close(n);
    return ret;
}
