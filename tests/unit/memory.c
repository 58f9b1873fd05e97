/*
 * Memory: trees flattened against a naive byte-by-byte model, listeners, transactions, access splitting, dirty clients,
 * refusal of re-entry.
 */
#include "hw/core/device.h"
#include "hw/core/log.h"
#include "hw/core/memory.h"
#include "hw/core/vm_lock.h"

#include <glib/gstdio.h>
#include <string.h>

#define SPACE 0x400

/* --- The model ---------------------------------------------------------------------------------------------------- */

struct hit {
    const struct mem_region *region;
    uint64_t offset;
    bool read_only;
};

/* Who answers at `at` (an offset in r)? The plain reading of the rules, one byte at a time. */
static bool model(const struct mem_region *r, int64_t at, bool read_only, struct hit *hit)
{
    if (!r->enabled || at < 0 || at >= (int64_t)r->size)
        return false;
    read_only |= r->read_only;
    if (r->kind == MEM_ALIAS)
        return model(r->target, at + (int64_t)r->target_offset, read_only, hit);
    if (r->kind != MEM_CONTAINER) {
        *hit = (struct hit){ r, (uint64_t)at, read_only || r->kind == MEM_ROM };
        return true;
    }
    for (const GList *l = r->children; l; l = l->next) {
        const struct mem_region *c = l->data;
        if (c->addr <= (uint64_t)at && model(c, at - (int64_t)c->addr, read_only, hit))
            return true;
    }
    return false;
}

static void check_against_model(const struct address_space *as)
{
    for (uint64_t a = 0; a < SPACE + 16; a++) {
        struct hit hit;
        const struct flat_range *r = flat_view_find(as->view, a);
        if (!model(as->root, (int64_t)a, false, &hit)) {
            g_assert_null(r);
            continue;
        }
        g_assert_nonnull(r);
        g_assert_true(r->region == hit.region);
        g_assert_cmpuint(r->offset + (a - r->start), ==, hit.offset);
        g_assert_cmpint(r->read_only, ==, hit.read_only);
        if (hit.region->ram)
            g_assert_true(r->host + (a - r->start) == hit.region->ram->host + hit.region->ram_offset + hit.offset);
        else
            g_assert_null(r->host);
    }
    for (unsigned i = 0; i + 1 < as->view->count; i++)
        g_assert_cmpuint(as->view->ranges[i].last, <, as->view->ranges[i + 1].start);
}

/* --- A listener that mirrors the view from what it is told -------------------------------------------------------- */

struct mirror {
    struct mem_listener listener;
    struct address_space *as;
    GArray *ranges; /* struct flat_range */
    unsigned adds, dels, commits;
};

static struct mirror *to_mirror(struct mem_listener *l)
{
    return container_of(l, struct mirror, listener);
}

static void mirror_add(struct mem_listener *l, const struct flat_range *r)
{
    struct mirror *m = to_mirror(l);
    for (guint i = 0; i < m->ranges->len; i++) {
        const struct flat_range *o = &g_array_index(m->ranges, struct flat_range, i);
        g_assert_true(r->last < o->start || r->start > o->last); /* the old one was taken away before */
    }
    g_array_append_val(m->ranges, *r);
    m->adds++;
}

static void mirror_del(struct mem_listener *l, const struct flat_range *r)
{
    struct mirror *m = to_mirror(l);
    m->dels++;
    for (guint i = 0; i < m->ranges->len; i++) {
        const struct flat_range *o = &g_array_index(m->ranges, struct flat_range, i);
        if (o->start == r->start && o->last == r->last && o->region == r->region && o->offset == r->offset) {
            g_array_remove_index(m->ranges, i);
            return;
        }
    }
    g_assert_not_reached();
}

static void mirror_commit(struct mem_listener *l)
{
    struct mirror *m = to_mirror(l);
    m->commits++;
    g_assert_cmpuint(m->ranges->len, ==, m->as->view->count);
    for (unsigned i = 0; i < m->as->view->count; i++) {
        const struct flat_range *r = &m->as->view->ranges[i];
        bool found = false;
        for (guint j = 0; j < m->ranges->len; j++)
            found |= g_array_index(m->ranges, struct flat_range, j).start == r->start &&
                     g_array_index(m->ranges, struct flat_range, j).last == r->last;
        g_assert_true(found);
    }
}

static void mirror_start(struct mirror *m, struct address_space *as)
{
    *m = (struct mirror){ .listener = { mirror_add, mirror_del, mirror_commit }, .as = as };
    m->ranges = g_array_new(FALSE, FALSE, sizeof(struct flat_range));
    address_space_listen(as, &m->listener);
}

static void mirror_end(struct mirror *m)
{
    address_space_unlisten(m->as, &m->listener);
    g_array_free(m->ranges, TRUE);
}

/* --- A chip that writes down what it is asked --------------------------------------------------------------------- */

struct chip {
    struct device dev;
    struct mem_region io;
    GString *seen;
    uint8_t bytes[64]; /* read gives these */
    struct address_space *reenter;
    uint64_t reenter_at, reenter_got;
};

static uint64_t chip_read(void *opaque, uint64_t offset, unsigned size)
{
    struct chip *c = opaque;
    uint64_t v = 0;
    g_string_append_printf(c->seen, "r%u@%x ", size, (unsigned)offset);
    for (unsigned i = 0; i < size; i++)
        v |= (uint64_t)c->bytes[(offset + i) % sizeof c->bytes] << (8 * i);
    if (c->reenter)
        c->reenter_got = address_space_load(c->reenter, c->reenter_at, 4);
    return v;
}

static void chip_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct chip *c = opaque;
    g_string_append_printf(c->seen, "w%u@%x=%" G_GINT64_MODIFIER "x ", size, (unsigned)offset, value);
    if (c->reenter)
        address_space_store(c->reenter, c->reenter_at, value, 4);
}

static const struct mem_ops chip_ops_default = { .read = chip_read, .write = chip_write };

struct world {
    struct mem_region root;
    struct address_space as;
    struct chip chip;
};

static struct world *world_new(const struct mem_ops *ops)
{
    vm_lock();
    struct world *w = g_new0(struct world, 1);
    mem_init_container(&w->root, NULL, "root", SPACE);
    address_space_init(&w->as, &w->root, "test");
    w->chip.seen = g_string_new(NULL);
    for (unsigned i = 0; i < sizeof w->chip.bytes; i++)
        w->chip.bytes[i] = (uint8_t)(0x10 + i);
    mem_init_io(&w->chip.io, &w->chip.dev, ops ? ops : &chip_ops_default, &w->chip, "chip", 0x40);
    return w;
}

static void world_free(struct world *w)
{
    mem_fini(&w->chip.io);
    g_string_free(w->chip.seen, TRUE);
    address_space_fini(&w->as);
    mem_fini(&w->root);
    g_free(w);
    vm_unlock();
}

static void expect(struct world *w, const char *text)
{
    g_assert_cmpstr(w->chip.seen->str, ==, text);
    g_string_truncate(w->chip.seen, 0);
}

/* --- Trees -------------------------------------------------------------------------------------------------------- */

static void test_overlap(void)
{
    struct world *w = world_new(NULL);
    struct mem_region a, b;
    struct ram_block *ram = ram_block_new("ram", PAGE_SIZE, NULL, NULL);
    mem_init_ram(&a, NULL, "a", ram, 0, 0x100);
    mem_init_ram(&b, NULL, "b", ram, 0x200, 0x20);
    mem_map(&w->root, 0x80, &a, 0);
    mem_map(&w->root, 0x90, &b, 0); /* equal priority: the later one shows */
    check_against_model(&w->as);
    g_assert_cmpuint(w->as.view->count, ==, 3);
    g_assert_true(flat_view_find(w->as.view, 0xaf)->region == &b);
    g_assert_true(flat_view_find(w->as.view, 0xb0)->region == &a);
    g_assert_cmpuint(flat_view_find(w->as.view, 0xb0)->offset, ==, 0x30);
    g_assert_null(flat_view_find(w->as.view, 0x7f));
    g_assert_null(flat_view_find(w->as.view, 0x180));
    mem_unmap(&b);
    mem_map(&w->root, 0x90, &b, -1); /* below */
    check_against_model(&w->as);
    g_assert_cmpuint(w->as.view->count, ==, 1);
    mem_set_addr(&b, 0x170); /* sticks out at the end */
    check_against_model(&w->as);
    g_assert_cmpuint(w->as.view->count, ==, 2);
    mem_map(&w->root, 0x3f0, &w->chip.io, 5); /* cut off by the parent */
    g_assert_cmpuint(flat_view_find(w->as.view, 0x3ff)->last, ==, 0x3ff);
    mem_set_addr(&w->chip.io, UINT64_MAX - 3); /* what a guest may write into a 64-bit BAR */
    check_against_model(&w->as);
    mem_set_enabled(&a, false);
    check_against_model(&w->as);
    mem_fini(&a);
    mem_fini(&b);
    g_assert_cmpuint(w->as.view->count, ==, 0);
    ram_block_free(ram);
    world_free(w);
}

static void test_alias(void)
{
    struct world *w = world_new(NULL);
    struct ram_block *ram = ram_block_new("ram", PAGE_SIZE, NULL, NULL);
    struct mem_region r, low, high, inner, outer;
    mem_init_ram(&r, NULL, "r", ram, 0, 0x200);
    /* Two halves side by side are one range. */
    mem_init_alias(&low, NULL, "low", &r, 0, 0x80);
    mem_init_alias(&high, NULL, "high", &r, 0x80, 0x80);
    mem_map(&w->root, 0, &low, 0);
    mem_map(&w->root, 0x80, &high, 0);
    g_assert_cmpuint(w->as.view->count, ==, 1);
    /* An alias of an alias, with more than its target holds. */
    mem_init_alias(&inner, NULL, "inner", &r, 0x1c0, 0x80);
    mem_init_alias(&outer, NULL, "outer", &inner, 0x20, 0x200);
    mem_map(&w->root, 0x200, &outer, 0);
    check_against_model(&w->as);
    g_assert_cmpuint(flat_view_find(w->as.view, 0x200)->offset, ==, 0x1e0);
    g_assert_cmpuint(flat_view_find(w->as.view, 0x200)->last, ==, 0x21f);
    /* Read only through one alias: the other still writes, and they cannot be joined. */
    mem_set_read_only(&high, true);
    g_assert_cmpuint(w->as.view->count, ==, 3);
    check_against_model(&w->as);
    address_space_store(&w->as, 0x7c, 0x1122334455667788, 8); /* crosses into the read-only half */
    g_assert_cmphex(address_space_load(&w->as, 0x7c, 8), ==, 0x55667788);
    g_assert_cmphex(ram->host[0x7f], ==, 0x55);
    g_assert_cmphex(ram->host[0x80], ==, 0);
    mem_set_target(&high, &r, 0x100);
    check_against_model(&w->as);
    mem_set_read_only(&high, false);
    mem_set_target(&high, &r, 0x80);
    g_assert_cmpuint(w->as.view->count, ==, 2);
    mem_fini(&low);
    mem_fini(&high);
    mem_fini(&outer);
    mem_fini(&inner);
    mem_fini(&r);
    ram_block_free(ram);
    world_free(w);
}

/* `sealed`: a container whose inside does not change and holds no alias, so that aliases of it make no cycles. */
static void random_step(struct mem_region *r, unsigned count, struct mem_region *containers, unsigned n_containers,
                        struct mem_region *sealed)
{
    struct mem_region *x = &r[g_test_rand_int_range(0, (int)count)];
    uint64_t addr = (uint64_t)g_test_rand_int_range(0, SPACE);
    switch (g_test_rand_int_range(0, 6)) {
    case 0:
    case 1:
        mem_unmap(x);
        mem_map(&containers[g_test_rand_int_range(0, (int)n_containers)], addr, x, g_test_rand_int_range(-2, 3));
        break;
    case 2: mem_unmap(x); break;
    case 3: mem_set_enabled(x, !x->enabled); break;
    case 4: mem_set_addr(x, addr); break;
    case 5:
        if (x->kind == MEM_ALIAS && g_test_rand_bit())
            mem_set_target(x, sealed, (uint64_t)g_test_rand_int_range(0, 0x200));
        else if (x->kind == MEM_ALIAS)
            mem_set_target(x, &r[g_test_rand_int_range(0, (int)(x - r))], (uint64_t)g_test_rand_int_range(0, 0x80));
        else
            mem_set_read_only(x, !x->read_only);
        break;
    }
}

static void test_random(void)
{
    struct world *w = world_new(NULL);
    struct ram_block *ram = ram_block_new("ram", PAGE_SIZE, NULL, NULL);
    struct mem_region boxes[3], r[16], sealed, in_sealed[2];
    struct mirror mirror;
    for (int i = 0; i < 3; i++)
        mem_init_container(&boxes[i], NULL, "box", 0x300);
    mem_map(&w->root, 0, &boxes[0], 0);
    mem_map(&w->root, 0x111, &boxes[1], 1);
    mem_map(&boxes[0], 0x55, &boxes[2], 1);
    for (unsigned i = 0; i < 16; i++) {
        uint64_t size = (uint64_t)g_test_rand_int_range(1, 0x180);
        if (i < 4)
            mem_init_io(&r[i], NULL, &chip_ops_default, &w->chip, "io", size);
        else if (i < 8)
            mem_init_ram(&r[i], NULL, "ram", ram, i * 0x80, size);
        else if (i < 10)
            mem_init_rom(&r[i], NULL, "rom", ram, i * 0x10, size);
        else /* of earlier ones only: no cycles */
            mem_init_alias(&r[i], NULL, "alias", &r[g_test_rand_int_range(0, (int)i)], 0, size);
    }
    mem_init_container(&sealed, NULL, "sealed", 0x200);
    mem_init_ram(&in_sealed[0], NULL, "in sealed", ram, 0, 0x150);
    mem_init_io(&in_sealed[1], NULL, &chip_ops_default, &w->chip, "in sealed", 0x40);
    mem_map(&sealed, 0x10, &in_sealed[0], 0);
    mem_map(&sealed, 0x80, &in_sealed[1], 0);
    mirror_start(&mirror, &w->as);
    for (int step = 0; step < 4000; step++) {
        unsigned n = g_test_rand_int_range(0, 4) ? 1 : 5;
        mem_transaction_begin();
        while (n--)
            random_step(r, 16, boxes, 3, &sealed);
        mem_transaction_commit();
        if (step % 8 == 0)
            check_against_model(&w->as);
    }
    g_assert_cmpuint(mirror.commits, >, 500);
    mirror_end(&mirror);
    for (int i = 15; i >= 0; i--)
        mem_fini(&r[i]);
    mem_fini(&sealed);
    for (int i = 0; i < 3; i++)
        mem_fini(&boxes[i]);
    ram_block_free(ram);
    world_free(w);
}

static void test_listener(void)
{
    struct world *w = world_new(NULL);
    struct ram_block *ram = ram_block_new("ram", PAGE_SIZE, NULL, NULL);
    struct mem_region r;
    struct mirror m;
    mem_init_ram(&r, NULL, "r", ram, 0, 0x100);
    mem_map(&w->root, 0, &r, 0);
    mirror_start(&m, &w->as);
    g_assert_cmpuint(m.adds, ==, 1);
    g_assert_cmpuint(m.commits, ==, 1);
    mem_transaction_begin();
    mem_map(&w->root, 0x80, &w->chip.io, 1); /* cuts r in two */
    g_assert_cmpuint(w->as.view->count, ==, 1); /* not seen yet */
    mem_transaction_begin();
    mem_transaction_commit();
    g_assert_cmpuint(m.commits, ==, 1);
    mem_transaction_commit();
    g_assert_cmpuint(m.adds, ==, 4);
    g_assert_cmpuint(m.dels, ==, 1);
    g_assert_cmpuint(m.commits, ==, 2);
    /* Changes that show nothing tell nothing. */
    struct flat_view *v = w->as.view;
    mem_transaction_begin();
    mem_set_enabled(&w->chip.io, false);
    mem_set_enabled(&w->chip.io, true);
    mem_transaction_commit();
    mem_set_enabled(&r, true);
    g_assert_true(v == w->as.view);
    g_assert_cmpuint(m.commits, ==, 2);
    /* An old view lives as long as somebody holds it. */
    flat_view_get(v);
    mem_unmap(&w->chip.io);
    g_assert_cmpuint(v->count, ==, 3);
    g_assert_cmpuint(w->as.view->count, ==, 1);
    flat_view_put(v);
    mirror_end(&m);
    mem_fini(&r);
    ram_block_free(ram);
    world_free(w);
}

/* --- Accesses ----------------------------------------------------------------------------------------------------- */

static void test_holes(void)
{
    struct world *w = world_new(NULL);
    uint8_t buf[8] = { 0 };
    g_assert_cmphex(address_space_load(&w->as, 0x100, 1), ==, 0xff);
    g_assert_cmphex(address_space_load(&w->as, 0x100, 2), ==, 0xffff);
    g_assert_cmphex(address_space_load(&w->as, 0x101, 4), ==, 0xffffffff);
    g_assert_cmphex(address_space_load(&w->as, UINT64_MAX - 2, 8), ==, UINT64_MAX);
    address_space_store(&w->as, 0x100, 1, 8);
    g_assert_false(address_space_read(&w->as, 0x10, buf, 8));
    g_assert_cmphex(buf[7], ==, 0xff);
    g_assert_false(address_space_write(&w->as, 0x10, buf, 8));
    mem_map(&w->root, 0, &w->chip.io, 0);
    g_assert_cmphex(address_space_load(&w->as, 0x3e, 4), ==, 0xffff4f4e); /* runs out of the chip */
    g_assert_false(address_space_read(&w->as, 0x3c, buf, 8));
    g_assert_true(address_space_read(&w->as, 0x38, buf, 8));
    /* Straight through the range: what lies behind its end is a hole too. */
    g_assert_cmphex(mem_range_read(&w->as.view->ranges[0], 0x3f, 2), ==, 0xff4f);
    mem_range_write(&w->as.view->ranges[0], 0x3f, 0x1234, 2);
    world_free(w);
}

static void test_split(void)
{
    static const struct mem_ops bytes = { .read = chip_read, .write = chip_write, .impl = { .max = 1 } };
    struct world *w = world_new(&bytes);
    mem_map(&w->root, 0x100, &w->chip.io, 0);
    g_assert_cmphex(address_space_load(&w->as, 0x104, 4), ==, 0x17161514);
    expect(w, "r1@4 r1@5 r1@6 r1@7 ");
    address_space_store(&w->as, 0x108, 0xaabb, 2);
    expect(w, "w1@8=bb w1@9=aa ");
    address_space_load(&w->as, 0x108, 8);
    expect(w, "r1@8 r1@9 r1@a r1@b r1@c r1@d r1@e r1@f ");
    world_free(w);
    /* By default a chip handles up to 4 bytes. */
    w = world_new(NULL);
    mem_map(&w->root, 0x100, &w->chip.io, 0);
    g_assert_cmphex(address_space_load(&w->as, 0x108, 8), ==, 0x1f1e1d1c1b1a1918);
    expect(w, "r4@8 r4@c ");
    address_space_store(&w->as, 0x100, 0x1122334455667788, 8);
    expect(w, "w4@0=55667788 w4@4=11223344 ");
    world_free(w);
}

static void test_widen(void)
{
    static const struct mem_ops words = { .read = chip_read, .write = chip_write, .impl = { .min = 4, .max = 8 } };
    struct world *w = world_new(&words);
    mem_map(&w->root, 0, &w->chip.io, 0);
    g_assert_cmphex(address_space_load(&w->as, 6, 2), ==, 0x1716);
    expect(w, "r4@4 ");
    g_assert_cmphex(address_space_load(&w->as, 3, 1), ==, 0x13);
    expect(w, "r4@0 ");
    address_space_store(&w->as, 6, 0xbeef, 2);
    expect(w, "w4@4=beef0000 ");
    g_assert_cmphex(address_space_load(&w->as, 8, 8), ==, 0x1f1e1d1c1b1a1918);
    expect(w, "r8@8 ");
    world_free(w);
}

static void test_unaligned(void)
{
    static const struct mem_ops split = { .read = chip_read, .write = chip_write, .valid = { .unaligned = true } };
    static const struct mem_ops through = { .read = chip_read, .write = chip_write,
                                            .valid = { .unaligned = true }, .impl = { .unaligned = true } };
    static const struct mem_ops strict = { .read = chip_read, .write = chip_write,
                                           .valid = { .min = 2, .max = 4 }, .impl = { .min = 2 } };
    struct world *w = world_new(&split);
    mem_map(&w->root, 0, &w->chip.io, 0);
    g_assert_cmphex(address_space_load(&w->as, 3, 4), ==, 0x16151413);
    expect(w, "r1@3 r2@4 r1@6 ");
    address_space_store(&w->as, 2, 0x44332211, 4);
    expect(w, "w2@2=2211 w2@4=4433 ");
    world_free(w);
    w = world_new(&through);
    mem_map(&w->root, 0, &w->chip.io, 0);
    g_assert_cmphex(address_space_load(&w->as, 3, 4), ==, 0x16151413);
    expect(w, "r4@3 ");
    world_free(w);
    /* Not valid: nothing reaches the chip. */
    w = world_new(&strict);
    mem_map(&w->root, 0, &w->chip.io, 0);
    g_assert_cmphex(address_space_load(&w->as, 0, 1), ==, 0xff);
    g_assert_cmphex(address_space_load(&w->as, 0, 8), ==, UINT64_MAX);
    g_assert_cmphex(address_space_load(&w->as, 1, 2), ==, 0xffff);
    address_space_store(&w->as, 1, 0, 2);
    expect(w, "");
    g_assert_cmphex(address_space_load(&w->as, 2, 2), ==, 0x1312);
    expect(w, "r2@2 ");
    world_free(w);
}

static void test_cross_region(void)
{
    struct world *w = world_new(NULL);
    struct ram_block *ram = ram_block_new("ram", PAGE_SIZE, NULL, NULL);
    struct mem_region r;
    uint8_t buf[12];
    mem_init_ram(&r, NULL, "r", ram, 0, 0x10);
    mem_map(&w->root, 0x100, &r, 0);
    mem_map(&w->root, 0x110, &w->chip.io, 0);
    memset(ram->host, 0xa5, 0x10);
    g_assert_cmphex(address_space_load(&w->as, 0x10e, 4), ==, 0x1110a5a5);
    expect(w, "r2@0 ");
    g_assert_cmphex(address_space_load(&w->as, 0x10d, 8), ==, 0x1413121110a5a5a5);
    expect(w, "r4@0 r1@4 ");
    address_space_store(&w->as, 0x10f, 0x44332211, 4);
    g_assert_cmphex(ram->host[15], ==, 0x11);
    expect(w, "w2@0=3322 w1@2=44 ");
    g_assert_true(address_space_read(&w->as, 0x10c, buf, 12));
    g_assert_cmphex(buf[3], ==, 0x11);
    g_assert_cmphex(buf[11], ==, 0x17);
    expect(w, "r4@0 r4@4 ");
    g_assert_true(address_space_write(&w->as, 0x10c, "abcdefghijkl", 12));
    expect(w, "w4@0=68676665 w4@4=6c6b6a69 ");
    g_assert_cmpmem(ram->host + 12, 4, "abcd", 4);
    uint64_t len = 0x100;
    g_assert_true(address_space_ram(&w->as, 0x104, &len, false) == ram->host + 4);
    g_assert_cmpuint(len, ==, 12);
    g_assert_null(address_space_ram(&w->as, 0x110, &len, false));
    mem_set_read_only(&r, true);
    g_assert_null(address_space_ram(&w->as, 0x104, &len, true));
    g_assert_nonnull(address_space_ram(&w->as, 0x104, &len, false));
    g_assert_false(address_space_write(&w->as, 0x100, "x", 1));
    mem_fini(&r);
    ram_block_free(ram);
    world_free(w);
}

static void test_reentry(void)
{
    struct world *w = world_new(NULL);
    struct chip other = { .seen = g_string_new(NULL) };
    mem_init_io(&other.io, &other.dev, &chip_ops_default, &other, "other", 0x10);
    mem_map(&w->root, 0, &w->chip.io, 0);
    mem_map(&w->root, 0x80, &other.io, 0);
    w->chip.reenter = &w->as;
    w->chip.reenter_at = 0x10;
    g_assert_cmphex(address_space_load(&w->as, 0, 4), ==, 0x13121110);
    g_assert_cmphex(w->chip.reenter_got, ==, 0xffffffff);
    expect(w, "r4@0 ");
    address_space_store(&w->as, 0, 1, 4);
    expect(w, "w4@0=1 ");
    /* Another device may be reached, but not the first through it. */
    w->chip.reenter_at = 0x80;
    other.reenter = &w->as;
    other.reenter_at = 0;
    address_space_load(&w->as, 0, 4);
    expect(w, "r4@0 ");
    g_assert_cmpstr(other.seen->str, ==, "r4@0 ");
    g_assert_cmphex(other.reenter_got, ==, 0xffffffff);
    g_assert_false(w->chip.dev.in_io);
    mem_fini(&other.io);
    g_string_free(other.seen, TRUE);
    world_free(w);
}

static void test_rom_device(void)
{
    struct world *w = world_new(NULL);
    struct ram_block *ram = ram_block_new("flash", PAGE_SIZE, NULL, NULL);
    struct mem_region r;
    mem_init_rom(&r, &w->chip.dev, "flash", ram, 0, 0x100);
    mem_map(&w->root, 0, &r, 0);
    ram->host[5] = 0x77;
    address_space_store(&w->as, 5, 0, 1);
    g_assert_cmphex(address_space_load(&w->as, 5, 1), ==, 0x77);
    r.ops = &chip_ops_default; /* commands to a flash chip */
    r.opaque = &w->chip;
    address_space_store(&w->as, 5, 0x90, 1);
    expect(w, "w1@5=90 ");
    g_assert_cmphex(address_space_load(&w->as, 5, 1), ==, 0x77);
    expect(w, "");
    mem_fini(&r);
    ram_block_free(ram);
    world_free(w);
}

/* --- RAM blocks --------------------------------------------------------------------------------------------------- */

static void test_dirty(void)
{
    struct ram_block *b = ram_block_new("ram", 4 * PAGE_SIZE, NULL, NULL);
    g_assert_cmpuint((uintptr_t)b->host & (PAGE_SIZE - 1), ==, 0);
    g_assert_false(ram_watched(b, 0));
    g_assert_true(ram_watch(b, PAGE_SIZE - 1, 2, DIRTY_CODE)); /* pages 0 and 1 */
    g_assert_false(ram_watch(b, 0, 1, DIRTY_CODE));
    g_assert_false(ram_watch(b, 0, 1, DIRTY_DISPLAY)); /* the page is slow already */
    g_assert_true(ram_watch(b, 0, 3 * PAGE_SIZE, DIRTY_DISPLAY)); /* page 2 is new */
    g_assert_false(ram_watched(b, 3 * PAGE_SIZE));
    ram_note_write(b, 10, 4);
    g_assert_false(ram_watched(b, 0));
    g_assert_true(ram_watched(b, PAGE_SIZE));
    g_assert_cmpuint(b->code_gen[0], ==, 1);
    g_assert_cmpuint(b->code_gen[1], ==, 0);
    ram_note_write(b, 10, 4); /* nobody waits: nothing counts */
    g_assert_cmpuint(b->code_gen[0], ==, 1);
    g_assert_true(ram_test_and_clear_dirty(b, 0, DIRTY_DISPLAY));
    g_assert_false(ram_test_and_clear_dirty(b, 0, DIRTY_DISPLAY));
    g_assert_true(ram_watched(b, 0));
    g_assert_true(b->dirty[0] & DIRTY_CODE);
    ram_note_write(b, 0, 4 * PAGE_SIZE);
    g_assert_cmpuint(b->code_gen[0], ==, 1); /* code had not asked again */
    g_assert_cmpuint(b->code_gen[1], ==, 1);
    g_assert_cmpuint(b->code_gen[2], ==, 0);
    g_assert_false(ram_test_and_clear_dirty(b, 3 * PAGE_SIZE, DIRTY_DISPLAY));
    ram_block_free(b);

    /* Stores through a space wake clients at the right place of the block. */
    struct world *w = world_new(NULL);
    struct mem_region r;
    b = ram_block_new("ram", 4 * PAGE_SIZE, NULL, NULL);
    mem_init_ram(&r, NULL, "r", b, 2 * PAGE_SIZE - 0x10, 0x20);
    mem_map(&w->root, 0x100, &r, 0);
    ram_watch(b, 0, 4 * PAGE_SIZE, DIRTY_CODE);
    address_space_store(&w->as, 0x10c, 1, 4);
    g_assert_cmpuint(b->code_gen[1], ==, 1);
    g_assert_cmpuint(b->code_gen[2], ==, 0);
    address_space_write(&w->as, 0x10f, "xy", 2);
    g_assert_cmpuint(b->code_gen[2], ==, 1);
    mem_fini(&r);
    ram_block_free(b);
    world_free(w);
}

static void test_clear(void)
{
    struct ram_block *b = ram_block_new("ram", 4 * PAGE_SIZE, NULL, NULL);
    b->host[PAGE_SIZE] = 1;
    b->host[3 * PAGE_SIZE - 1] = 1;
    b->host[4 * PAGE_SIZE - 1] = 1;
    g_assert_true(ram_page_is_zero(b, 17));
    g_assert_false(ram_page_is_zero(b, PAGE_SIZE));
    g_assert_false(ram_page_is_zero(b, 2 * PAGE_SIZE));
    ram_watch(b, 0, b->size, DIRTY_CODE);
    ram_clear(b, 0, 3 * PAGE_SIZE);
    for (unsigned i = 0; i < 3; i++) {
        g_assert_true(ram_page_is_zero(b, i * PAGE_SIZE));
        g_assert_cmpuint(b->code_gen[i], ==, i ? 1 : 0); /* the first was zero: not written */
    }
    g_assert_false(ram_page_is_zero(b, 3 * PAGE_SIZE));
    ram_block_free(b);
}

static void test_mem_path(void)
{
    GError *err = NULL;
    g_autofree char *dir = g_dir_make_tmp("trapeze-XXXXXX", NULL);
    g_autofree char *file = g_build_filename(dir, "ram", NULL);
    struct ram_block *b = ram_block_new("ram", 4 * PAGE_SIZE, dir, &err);
    g_assert_no_error(err);
    b->host[3 * PAGE_SIZE] = 1;
    ram_block_free(b);
    b = ram_block_new("ram", 4 * PAGE_SIZE, file, &err);
    g_assert_no_error(err);
    ram_block_free(b);
    g_remove(file);
    g_remove(dir); /* empty: the unnamed file has left nothing */
    g_assert_false(g_file_test(dir, G_FILE_TEST_EXISTS));
    g_assert_null(ram_block_new("ram", PAGE_SIZE, "/nonexistent/place", &err));
    g_assert_nonnull(err);
    g_clear_error(&err);
    g_assert_null(ram_block_new("ram", UINT64_C(1) << 56, NULL, &err));
    g_assert_nonnull(err);
    g_clear_error(&err);
}

static void test_print(void)
{
    struct world *w = world_new(NULL);
    g_autoptr(GString) out = g_string_new(NULL);
    mem_map(&w->root, 0x100, &w->chip.io, 2);
    address_space_print(&w->as, out);
    g_assert_nonnull(strstr(out->str, "    0000000000000100-000000000000013f (prio 2, i/o): chip\n"));
    g_assert_nonnull(strstr(out->str, "flat view of test\n  0000000000000100-000000000000013f (i/o): chip\n"));
    world_free(w);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/memory/overlap", test_overlap);
    g_test_add_func("/memory/alias", test_alias);
    g_test_add_func("/memory/random", test_random);
    g_test_add_func("/memory/listener", test_listener);
    g_test_add_func("/memory/holes", test_holes);
    g_test_add_func("/memory/split", test_split);
    g_test_add_func("/memory/widen", test_widen);
    g_test_add_func("/memory/unaligned", test_unaligned);
    g_test_add_func("/memory/cross-region", test_cross_region);
    g_test_add_func("/memory/reentry", test_reentry);
    g_test_add_func("/memory/rom-device", test_rom_device);
    g_test_add_func("/memory/dirty", test_dirty);
    g_test_add_func("/memory/clear", test_clear);
    g_test_add_func("/memory/mem-path", test_mem_path);
    g_test_add_func("/memory/print", test_print);
    return g_test_run();
}
