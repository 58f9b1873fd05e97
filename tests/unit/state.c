/* Saved state: every type of field, versions, and streams that lie. */
#include "hw/core/clock.h"
#include "hw/core/memory.h"
#include "hw/core/state.h"
#include "hw/core/vm_lock.h"

#include <string.h>

struct part {
    uint16_t a;
    bool b[3];
};

struct thing {
    bool on;
    uint8_t u8;
    uint16_t u16[3];
    uint32_t u32;
    uint64_t u64;
    uint8_t bytes[5];
    struct part part, parts[2];
    struct timer timer;
    struct ram_block *ram;
    uint32_t newer;
    int saves, loads;
};

static const struct state_field part_fields[] = {
    STATE_FIELD(STATE_U16, struct part, a),
    STATE_ARRAY(STATE_BOOL, struct part, b),
    STATE_FIELDS_END,
};

static const struct state_field thing_fields[] = {
    STATE_FIELD(STATE_BOOL, struct thing, on),
    STATE_FIELD(STATE_U8, struct thing, u8),
    STATE_ARRAY(STATE_U16, struct thing, u16),
    STATE_FIELD(STATE_U32, struct thing, u32),
    STATE_FIELD(STATE_U64, struct thing, u64),
    STATE_ARRAY(STATE_BYTES, struct thing, bytes),
    STATE_NESTED(struct thing, part, part_fields),
    STATE_NESTED_ARRAY(struct thing, parts, part_fields),
    STATE_FIELD(STATE_TIMER, struct thing, timer),
    STATE_FIELD(STATE_RAM, struct thing, ram),
    { .name = "newer", .type = STATE_U32, .offset = offsetof(struct thing, newer), .count = 1, .since = 2 },
    STATE_FIELDS_END,
};

static void pre_save(void *instance)
{
    ((struct thing *)instance)->saves++;
}

static bool post_load(void *instance, uint8_t version, GError **err)
{
    struct thing *t = instance;
    t->loads++;
    if (t->u8 == 0xee) {
        g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_INVAL, "u8 out of range");
        return false;
    }
    return true;
}

static const struct state_table table = { "thing", 2, thing_fields, pre_save, post_load };
static const struct state_table table_v1 = { "thing", 1, thing_fields, NULL, NULL };

#define RAM_PAGES 8

static void thing_init(struct thing *t, struct clock *c)
{
    *t = (struct thing){ 0 };
    timer_init(&t->timer, c, NULL, NULL);
    t->ram = ram_block_new("ram", RAM_PAGES * PAGE_SIZE, NULL, NULL);
}

static void thing_fill(struct thing *t)
{
    t->on = true;
    t->u8 = 0x12;
    t->u16[0] = 0x1111;
    t->u16[2] = 0x3333;
    t->u32 = 0xdeadbeef;
    t->u64 = 0x0123456789abcdef;
    memcpy(t->bytes, "hello", 5);
    t->part.a = 7;
    t->part.b[1] = true;
    t->parts[1].a = 9;
    t->parts[1].b[2] = true;
    t->newer = 0x55;
    timer_set(&t->timer, 5000);
    t->ram->host[3 * PAGE_SIZE + 5] = 1;
    t->ram->host[4 * PAGE_SIZE] = 2;
    t->ram->host[7 * PAGE_SIZE + 4095] = 3;
}

static void thing_fini(struct thing *t)
{
    timer_cancel(&t->timer);
    ram_block_free(t->ram);
}

static bool load(const GByteArray *b, const struct state_table *t, const char *id, struct thing *x, GError **err)
{
    struct state_reader in = { .data = b->data, .size = b->len };
    return state_load(&in, t, id, x, err) && in.pos == in.size;
}

static void test_roundtrip(void)
{
    vm_lock();
    struct clock *c = clock_new(true);
    struct thing a, b;
    GError *err = NULL;
    thing_init(&a, c);
    thing_init(&b, c);
    thing_fill(&a);
    b.ram->host[0] = 99; /* must be cleared */
    b.ram->host[5 * PAGE_SIZE] = 99;
    ram_watch(b.ram, 0, PAGE_SIZE, DIRTY_CODE);
    g_autoptr(GByteArray) one = g_byte_array_new(), two = g_byte_array_new();
    state_save(one, &table, "x", &a);
    g_assert_cmpuint(one->len, <, 4 * PAGE_SIZE); /* empty pages cost nothing */
    g_assert_true(load(one, &table, "x", &b, &err));
    g_assert_no_error(err);
    state_save(two, &table, "x", &b);
    g_assert_cmpmem(one->data, one->len, two->data, two->len);
    g_assert_cmpint(a.saves, ==, 1);
    g_assert_cmpint(b.loads, ==, 1);
    g_assert_true(b.on && b.part.b[1] && b.parts[1].b[2]);
    g_assert_cmphex(b.u64, ==, a.u64);
    g_assert_cmphex(b.u16[2], ==, 0x3333);
    g_assert_cmpint(b.timer.deadline, ==, 5000);
    g_assert_cmpmem(a.ram->host, a.ram->size, b.ram->host, b.ram->size);
    g_assert_cmpuint(b.ram->code_gen[0], ==, 1);
    /* A timer that is not armed there is not armed here. */
    timer_cancel(&a.timer);
    g_byte_array_set_size(one, 0);
    state_save(one, &table, "x", &a);
    g_assert_true(load(one, &table, "x", &b, &err));
    g_assert_false(timer_armed(&b.timer));
    g_autoptr(GString) text = g_string_new(NULL);
    state_print(text, &table, &a);
    g_assert_nonnull(strstr(text->str, "u16 = 0x1111 0x0000 0x3333\n"));
    g_assert_nonnull(strstr(text->str, "parts[1].a = 0x0009\n"));
    g_assert_nonnull(strstr(text->str, "on = true\n"));
    thing_fini(&a);
    thing_fini(&b);
    clock_free(c);
    vm_unlock();
}

static void test_layout(void)
{
    static const struct state_field fields[] = {
        STATE_FIELD(STATE_U16, struct part, a),
        STATE_FIELDS_END,
    };
    static const struct state_table t = { .name = "part", .version = 3, .fields = fields };
    struct part p = { .a = 0x1234 };
    g_autoptr(GByteArray) out = g_byte_array_new();
    state_save(out, &t, "ab", &p);
    g_assert_cmpmem(out->data, out->len, "\4part\2\0ab\3\2\0\0\0\0\0\0\0\x34\x12", 20);
}

static void test_versions(void)
{
    vm_lock();
    struct clock *c = clock_new(true);
    struct thing a;
    GError *err = NULL;
    thing_init(&a, c);
    thing_fill(&a);
    g_autoptr(GByteArray) out = g_byte_array_new();
    state_save(out, &table, "x", &a);
    g_assert_false(load(out, &table_v1, "x", &a, &err)); /* from the future */
    g_assert_nonnull(strstr(err->message, "version"));
    g_clear_error(&err);
    /* An older stream lacks what came later: that keeps its value. */
    guint version_at = 1 + 5 + 2 + 1;
    g_assert_cmpint(out->data[version_at], ==, 2);
    out->data[version_at] = 1;
    uint64_t len;
    memcpy(&len, out->data + version_at + 1, 8);
    len = GUINT64_TO_LE(GUINT64_FROM_LE(len) - 4);
    memcpy(out->data + version_at + 1, &len, 8);
    g_byte_array_set_size(out, out->len - 4);
    a.newer = 0x77;
    g_assert_true(load(out, &table, "x", &a, &err));
    g_assert_no_error(err);
    g_assert_cmphex(a.newer, ==, 0x77);
    out->data[version_at] = 0;
    g_assert_false(load(out, &table, "x", &a, &err));
    g_clear_error(&err);
    thing_fini(&a);
    clock_free(c);
    vm_unlock();
}

/* Cut at every length, and with every single byte changed: either an error or a load that saves to the same length. */
static void test_hostile(void)
{
    vm_lock();
    struct clock *c = clock_new(true);
    struct thing a, b;
    GError *err = NULL;
    thing_init(&a, c);
    thing_init(&b, c);
    thing_fill(&a);
    g_autoptr(GByteArray) out = g_byte_array_new();
    state_save(out, &table, "x", &a);
    for (guint n = 0; n < out->len; n += n < 200 ? 1 : 371) {
        g_autofree uint8_t *cut = g_memdup2(out->data, n); /* of its own, so that a sanitizer sees overruns */
        struct state_reader in = { .data = cut, .size = n };
        g_assert_false(state_load(&in, &table, "x", &b, &err));
        g_assert_nonnull(err);
        g_clear_error(&err);
    }
    unsigned refused = 0;
    for (guint i = 0; i < MIN(out->len, 300); i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            out->data[i] ^= 1u << bit;
            bool ok = load(out, &table, "x", &b, &err);
            g_assert_true(!ok || !err);
            refused += !ok;
            g_clear_error(&err);
            out->data[i] ^= 1u << bit;
        }
    }
    g_assert_cmpuint(refused, >, 100);
    g_assert_false(load(out, &table, "y", &b, &err)); /* another instance */
    g_clear_error(&err);
    a.u8 = 0xee; /* post_load says no */
    g_byte_array_set_size(out, 0);
    state_save(out, &table, "x", &a);
    g_assert_false(load(out, &table, "x", &b, &err));
    g_assert_cmpstr(err->message, ==, "u8 out of range");
    g_clear_error(&err);
    thing_fini(&a);
    thing_fini(&b);
    clock_free(c);
    vm_unlock();
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/state/roundtrip", test_roundtrip);
    g_test_add_func("/state/layout", test_layout);
    g_test_add_func("/state/versions", test_versions);
    g_test_add_func("/state/hostile", test_hostile);
    return g_test_run();
}
