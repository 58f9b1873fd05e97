/* fw_cfg: selector, data port, file directory, DMA with all its operations and errors, state. */
#include "hw/isa/fw_cfg.h"
#include "tests/lib/device_test.h"

#include <string.h>

struct fixture {
    struct machine *m;
    struct fw_cfg *f;
    struct device *d;
    unsigned selects, writes;
    uint32_t start, len;
};

static void set_up(struct fixture *f)
{
    *f = (struct fixture){.m = test_machine_new()};
    test_add_ram(f->m, 1 << 20);
    f->d = test_add(&fw_cfg_type, f->m->system_bus, NULL);
    f->f = (struct fw_cfg *)f->d;
}

static void expect_bytes(struct machine *m, const void *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        g_assert_cmphex(test_inb(m, 0x511), ==, ((const uint8_t *)bytes)[i]);
}

static void test_items(void)
{
    struct fixture f;
    set_up(&f);

    expect_bytes(f.m, "QEMU", 4); /* selected after reset */
    test_outw(f.m, 0x510, FW_CFG_SIGNATURE);
    expect_bytes(f.m, "QEMU\0\0", 6);
    test_outw(f.m, 0x510, FW_CFG_ID);
    expect_bytes(f.m, "\3\0\0\0", 4);
    fw_cfg_add_u16(f.f, FW_CFG_NB_CPUS, 0x1234);
    fw_cfg_add_u64(f.f, FW_CFG_RAM_SIZE, 0x1122334455667788);
    fw_cfg_add_u32(f.f, FW_CFG_IRQ0_OVERRIDE, 1);
    fw_cfg_add_string(f.f, FW_CFG_CMDLINE_DATA, "quiet");
    fw_cfg_add_lent(f.f, FW_CFG_KERNEL_DATA, "kernel", 6);
    test_outw(f.m, 0x510, FW_CFG_NB_CPUS | 0x4000);
    expect_bytes(f.m, "\x34\x12\0", 3);
    test_outw(f.m, 0x510, FW_CFG_RAM_SIZE);
    expect_bytes(f.m, "\x88\x77\x66\x55\x44\x33\x22\x11\0", 9);
    test_outw(f.m, 0x510, FW_CFG_IRQ0_OVERRIDE);
    expect_bytes(f.m, "\1\0\0\0", 4);
    test_outw(f.m, 0x510, FW_CFG_CMDLINE_DATA);
    expect_bytes(f.m, "quiet\0", 6);
    test_outw(f.m, 0x510, FW_CFG_KERNEL_DATA);
    expect_bytes(f.m, "ker", 3);
    test_state_roundtrip(f.d);
    expect_bytes(f.m, "nel\0", 4);
    fw_cfg_add_u16(f.f, FW_CFG_NB_CPUS, 7); /* replaced */
    test_outw(f.m, 0x510, FW_CFG_NB_CPUS);
    test_outb(f.m, 0x511, 0x55); /* no effect */
    expect_bytes(f.m, "\7\0", 2);
    test_outw(f.m, 0x510, 0x1fff);
    expect_bytes(f.m, "\0\0", 2);
    test_machine_free(f.m);
}

static void test_files(void)
{
    struct fixture f;
    set_up(&f);
    GError *err = NULL;

    test_outw(f.m, 0x510, FW_CFG_FILE_DIR);
    expect_bytes(f.m, "\0\0\0\0", 4);
    g_assert_true(fw_cfg_add_file(f.f, "etc/b", "BB", 2, &err));
    g_assert_true(fw_cfg_add_file(f.f, "bootorder", "disk", 5, &err));
    g_assert_true(fw_cfg_add_file(f.f, "etc/a", "A", 1, &err));
    g_assert_false(fw_cfg_add_file(f.f, "etc/a", "A", 1, &err));
    g_assert_nonnull(strstr(err->message, "etc/a"));
    g_clear_error(&err);
    g_autofree char *long_name = g_strnfill(56, 'x');
    g_assert_false(fw_cfg_add_file(f.f, long_name, "A", 1, &err));
    g_clear_error(&err);
    long_name[55] = 0;
    g_assert_true(fw_cfg_add_file(f.f, long_name, "L", 1, &err));

    test_outw(f.m, 0x510, FW_CFG_FILE_DIR);
    expect_bytes(f.m, "\0\0\0\4", 4);
    static const struct { const char *name; uint8_t size; } order[] = {{"bootorder", 5}, {"etc/a", 1}, {"etc/b", 2}};
    for (unsigned i = 0; i < 3; i++) {
        uint8_t entry[64] = {0, 0, 0, order[i].size, 0, 0x20 + i};
        strcpy((char *)entry + 8, order[i].name);
        expect_bytes(f.m, entry, sizeof(entry));
    }
    test_outw(f.m, 0x510, FW_CFG_FILE_FIRST + 2);
    expect_bytes(f.m, "BB\0", 3);
    fw_cfg_set_file(f.f, "etc/b", "longer", 6);
    test_outw(f.m, 0x510, FW_CFG_FILE_FIRST + 2);
    expect_bytes(f.m, "longer\0", 7);
    size_t size;
    g_assert_cmpmem(fw_cfg_file(f.f, "etc/b", &size), 6, "longer", 6);
    g_assert_cmpuint(size, ==, 6);
    g_assert_null(fw_cfg_file(f.f, "etc/c", &size));
    for (unsigned i = 4; i < FW_CFG_FILE_MAX; i++) {
        g_autofree char *name = g_strdup_printf("opt/%u", i);
        g_assert_true(fw_cfg_add_file(f.f, name, "", 0, &err));
    }
    g_assert_false(fw_cfg_add_file(f.f, "one/more", "", 0, &err));
    g_clear_error(&err);
    test_machine_free(f.m);
}

static uint32_t dma(struct machine *m, uint64_t at, uint32_t control, uint32_t len, uint64_t address)
{
    uint8_t d[16];
    uint32_t be = GUINT32_TO_BE(control);
    memcpy(d, &be, 4);
    be = GUINT32_TO_BE(len);
    memcpy(d + 4, &be, 4);
    address = GUINT64_TO_BE(address);
    memcpy(d + 8, &address, 8);
    address_space_write(&m->memory, at, d, sizeof(d));
    test_outl(m, 0x514, GUINT32_SWAP_LE_BE((uint32_t)(at >> 32)));
    test_outl(m, 0x518, GUINT32_SWAP_LE_BE((uint32_t)at));
    return GUINT32_SWAP_LE_BE((uint32_t)test_read(m, at, 4));
}

static void selected(void *opaque)
{
    ((struct fixture *)opaque)->selects++;
}

static void written(void *opaque, uint32_t start, uint32_t len)
{
    struct fixture *f = opaque;
    f->writes++;
    f->start = start;
    f->len = len;
}

static void test_dma(void)
{
    struct fixture f;
    set_up(&f);
    uint8_t *ram = f.m->ram->host;

    g_assert_true(fw_cfg_add_file_callback(f.f, "etc/rw", "0123456789", 10, selected, written, &f, NULL));
    g_assert_true(fw_cfg_add_file(f.f, "etc/ro", "abc", 3, NULL));
    uint32_t ro = FW_CFG_FILE_FIRST << 16, rw = (FW_CFG_FILE_FIRST + 1) << 16;
    g_assert_cmphex(test_inl(f.m, 0x514), ==, 0x554d4551);
    g_assert_cmphex(test_inl(f.m, 0x518), ==, 0x47464320);

    /* Select and read, past the end: zeros. */
    memset(ram + 0x2000, 0xee, 16);
    g_assert_cmphex(dma(f.m, 0x1000, ro | 8 | 2, 5, 0x2000), ==, 0);
    g_assert_cmpmem(ram + 0x2000, 6, "abc\0\0\xee", 6);
    /* Select, skip, read. */
    g_assert_cmphex(dma(f.m, 0x1000, rw | 8 | 4, 3, 0), ==, 0);
    g_assert_cmpuint(f.selects, ==, 1);
    g_assert_cmphex(dma(f.m, 0x1000, 2, 4, 0x2000), ==, 0);
    g_assert_cmpmem(ram + 0x2000, 4, "3456", 4);
    g_assert_cmphex(test_inb(f.m, 0x511), ==, '7');
    /* Skip beyond the end stays there. */
    g_assert_cmphex(dma(f.m, 0x1000, 4, 0xffffffff, 0), ==, 0);
    g_assert_cmphex(test_inb(f.m, 0x511), ==, 0);
    /* Write. */
    memcpy(ram + 0x3000, "wxyz", 4);
    g_assert_cmphex(dma(f.m, 0x1000, rw | 8 | 4, 2, 0), ==, 0);
    g_assert_cmphex(dma(f.m, 0x1000, 16, 4, 0x3000), ==, 0);
    g_assert_cmpmem(fw_cfg_file(f.f, "etc/rw", NULL), 10, "01wxyz6789", 10);
    g_assert_cmpuint(f.writes, ==, 1);
    g_assert_cmpuint(f.start, ==, 2);
    g_assert_cmpuint(f.len, ==, 4);
    /* Errors: too long, read-only, no such item, no memory there. */
    g_assert_cmphex(dma(f.m, 0x1000, rw | 8 | 16, 11, 0x3000), ==, 1);
    g_assert_cmphex(dma(f.m, 0x1000, ro | 8 | 16, 1, 0x3000), ==, 1);
    g_assert_cmphex(dma(f.m, 0x1000, 0x1fff0000 | 8 | 16, 1, 0x3000), ==, 1);
    g_assert_cmphex(dma(f.m, 0x1000, rw | 8 | 2, 10, 0x80000000), ==, 1);
    g_assert_cmphex(dma(f.m, 0x1000, rw | 8 | 2, 0xffffffff, 0xfff00), ==, 1); /* and ends soon */
    g_assert_cmpuint(f.writes, ==, 1);
    /* A descriptor in nowhere does nothing. */
    test_outl(f.m, 0x514, 0);
    test_outl(f.m, 0x518, GUINT32_SWAP_LE_BE(0x80000000u));
    /* Half an address is state. */
    test_outl(f.m, 0x514, 0x01000000);
    struct device *other = test_add(&fw_cfg_type, f.m->system_bus, NULL);
    test_state_transfer(f.d, other);
    test_machine_free(f.m);
}

static void test_fuzz(void)
{
    struct fixture f;
    set_up(&f);
    g_assert_true(fw_cfg_add_file_callback(f.f, "etc/rw", "0123456789", 10, selected, written, &f, NULL));
    GRand *r = g_rand_new_with_seed(3);

    for (unsigned i = 0; i < 2000; i++) {
        uint32_t control = (g_rand_int(r) & 0x401f) | (uint32_t)g_rand_int_range(r, 0, 0x24) << 16;
        dma(f.m, g_rand_int(r) & 0x1ffff8, control, g_rand_int(r) & 0xffff, g_rand_int(r) & 0x3fffff);
    }
    test_poke_ports(f.m, f.d, 11, 20000, 0x510, 12);
    g_rand_free(r);
    test_machine_free(f.m);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/fw_cfg/items", test_items);
    g_test_add_func("/fw_cfg/files", test_files);
    g_test_add_func("/fw_cfg/dma", test_dma);
    g_test_add_func("/fw_cfg/fuzz", test_fuzz);
    return g_test_run();
}
