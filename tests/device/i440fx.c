/* i440FX: shadow RAM (PAM) in all four modes, SMRAM and its lock, the PCI hole, reset. */
#include "hw/isa/piix3.h"
#include "hw/pci/i440fx.h"
#include "tests/lib/device_test.h"

#include <string.h>

struct fixture {
    struct machine *m;
    struct i440fx_host *host;
    struct ram_block *rom;
    struct mem_region bios, vga;
    uint8_t vga_byte;
};

static uint64_t vga_read(void *opaque, uint64_t offset, unsigned size)
{
    return ((struct fixture *)opaque)->vga_byte;
}

static void vga_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    ((struct fixture *)opaque)->vga_byte = value;
}

static const struct mem_ops vga_ops = {.read = vga_read, .write = vga_write, .impl = {1, 1, false}};

/* A BIOS ROM of 128 KiB full of 0xbb below 1 MiB, a display window, 4 MiB of RAM with 0x11 where the ROM is. */
static void set_up(struct fixture *f)
{
    f->m = test_machine_new();
    test_add_ram(f->m, 4 << 20);
    f->host = container_of(test_add(&i440fx_host_type, f->m->system_bus, NULL), struct i440fx_host, dev);
    f->rom = ram_block_new("bios", 0x20000, NULL, NULL);
    memset(f->rom->host, 0xbb, f->rom->size);
    memset(f->m->ram->host, 0x11, 1 << 20);
    mem_init_rom(&f->bios, NULL, "bios", f->rom, 0, f->rom->size);
    mem_map(&f->host->pci_memory, 0xe0000, &f->bios, 0);
    mem_init_io(&f->vga, NULL, &vga_ops, f, "vga", 0x20000);
    mem_map(&f->host->pci_memory, 0xa0000, &f->vga, 1);
    f->vga_byte = 0x66;
    bus_reset(f->m->system_bus);
}

static void tear_down(struct fixture *f)
{
    mem_fini(&f->bios);
    mem_fini(&f->vga);
    struct ram_block *rom = f->rom;
    test_machine_free(f->m);
    ram_block_free(rom);
}

static void conf_write(struct fixture *f, unsigned reg, uint8_t value)
{
    test_outl(f->m, 0xcf8, 0x80000000u | (reg & 0xfc));
    test_outb(f->m, 0xcfc + (reg & 3), value);
}

static uint8_t conf_read(struct fixture *f, unsigned reg)
{
    test_outl(f->m, 0xcf8, 0x80000000u | (reg & 0xfc));
    return test_inb(f->m, 0xcfc + (reg & 3));
}

static void test_defaults(void)
{
    struct fixture f;
    set_up(&f);
    for (unsigned reg = 0x59; reg <= 0x5f; reg++)
        g_assert_cmphex(conf_read(&f, reg), ==, 0);
    g_assert_cmphex(conf_read(&f, 0x72), ==, 0x02);
    g_assert_cmphex(conf_read(&f, 0x04), ==, 0x06);
    g_assert_cmphex(conf_read(&f, 0x08), ==, 0x02);
    g_assert_cmphex(test_read(f.m, 0xf0000, 2), ==, 0xbbbb);
    g_assert_cmphex(test_read(f.m, 0xc0000, 1), ==, 0xff);
    g_assert_cmphex(test_read(f.m, 0x9ffff, 1), ==, 0x11);
    g_assert_cmphex(test_read(f.m, 0xa0000, 1), ==, 0x66);
    /* Nothing answers in the hole above RAM. */
    g_assert_cmphex(test_read(f.m, 4 << 20, 4), ==, 0xffffffff);
    tear_down(&f);
}

struct area {
    unsigned reg, shift;
    uint32_t base, size;
};

static const struct area areas[] = {
    {0x59, 4, 0xf0000, 0x10000}, {0x5a, 0, 0xc0000, 0x4000}, {0x5a, 4, 0xc4000, 0x4000}, {0x5b, 0, 0xc8000, 0x4000},
    {0x5b, 4, 0xcc000, 0x4000},  {0x5c, 0, 0xd0000, 0x4000}, {0x5c, 4, 0xd4000, 0x4000}, {0x5d, 0, 0xd8000, 0x4000},
    {0x5d, 4, 0xdc000, 0x4000},  {0x5e, 0, 0xe0000, 0x4000}, {0x5e, 4, 0xe4000, 0x4000}, {0x5f, 0, 0xe8000, 0x4000},
    {0x5f, 4, 0xec000, 0x4000},
};

static void check_area(struct fixture *f, const struct area *a, unsigned mode)
{
    uint8_t rom = a->base >= 0xe0000 ? 0xbb : 0xff;
    uint32_t at[] = {a->base, a->base + a->size - 1};

    conf_write(f, a->reg, mode << a->shift);
    g_assert_cmphex(conf_read(f, a->reg), ==, mode << a->shift);
    for (unsigned i = 0; i < 2; i++) {
        f->m->ram->host[at[i]] = 0x11;
        test_write(f->m, at[i], 0x77, 1);
        g_assert_cmphex(f->m->ram->host[at[i]], ==, mode & 2 ? 0x77 : 0x11);
        g_assert_cmphex(test_read(f->m, at[i], 1), ==, !(mode & 1) ? rom : mode & 2 ? 0x77 : 0x11);
    }
    /* Neighbours are not touched. */
    if (a->base > 0xc0000)
        g_assert_cmphex(test_read(f->m, a->base - 1, 1), ==, a->base - 1 >= 0xe0000 ? 0xbb : 0xff);
    conf_write(f, a->reg, 0);
}

static void test_pam(void)
{
    struct fixture f;
    set_up(&f);
    for (unsigned i = 0; i < G_N_ELEMENTS(areas); i++) {
        for (unsigned mode = 0; mode < 4; mode++)
            check_area(&f, &areas[i], mode);
    }
    g_assert_cmphex(f.rom->host[0], ==, 0xbb);
    /* The way a BIOS shadows itself: copy onto itself with reads from ROM, then read RAM. Code can run meanwhile. */
    conf_write(&f, 0x59, 0x20);
    const struct flat_range *r = flat_view_find(f.m->memory.view, 0xf0000);
    g_assert_nonnull(r->host);
    g_assert_true(r->read_only);
    for (uint32_t addr = 0xf0000; addr < 0x100000; addr += 8)
        test_write(f.m, addr, test_read(f.m, addr, 8) ^ 1, 8);
    conf_write(&f, 0x59, 0x10);
    g_assert_cmphex(test_read(f.m, 0xffff8, 8), ==, 0xbbbbbbbbbbbbbbba);
    bus_reset(f.m->system_bus);
    g_assert_cmphex(test_read(f.m, 0xffff8, 1), ==, 0xbb);
    tear_down(&f);
}

static void test_pam_state(void)
{
    struct fixture f;
    set_up(&f);
    conf_write(&f, 0x59, 0x30);
    conf_write(&f, 0x5a, 0x12);
    test_state_roundtrip(&f.host->function->pci.dev);
    GByteArray *saved = machine_save(f.m, NULL);
    bus_reset(f.m->system_bus);
    g_assert_cmphex(test_read(f.m, 0xf0000, 1), ==, 0xbb);
    g_assert_true(machine_load(f.m, saved->data, saved->len, NULL));
    g_assert_cmphex(test_read(f.m, 0xf0000, 1), ==, 0x11);
    g_assert_cmphex(test_read(f.m, 0xc4000, 1), ==, 0x11);
    g_byte_array_unref(saved);
    tear_down(&f);
}

static void test_smram(void)
{
    struct fixture f;
    set_up(&f);
    struct mem_region *smram = &f.host->function->smram;

    g_assert_false(smram->enabled);
    conf_write(&f, 0x72, 0x48); /* open */
    g_assert_cmphex(conf_read(&f, 0x72), ==, 0x4a);
    g_assert_true(smram->enabled);
    test_write(f.m, 0xa8000, 0x55, 1);
    g_assert_cmphex(f.vga_byte, ==, 0x66);
    g_assert_cmphex(f.m->ram->host[0xa8000], ==, 0x55);
    conf_write(&f, 0x72, 0x08); /* closed, for SMM only */
    g_assert_cmphex(test_read(f.m, 0xa8000, 1), ==, 0x66);
    g_assert_true(smram->enabled);
    conf_write(&f, 0x72, 0x40); /* open without global enable: nothing */
    g_assert_cmphex(test_read(f.m, 0xa8000, 1), ==, 0x66);
    conf_write(&f, 0x72, 0x58); /* lock closes */
    g_assert_cmphex(conf_read(&f, 0x72), ==, 0x1a);
    conf_write(&f, 0x72, 0x40);
    g_assert_cmphex(conf_read(&f, 0x72), ==, 0x1a);
    g_assert_cmphex(test_read(f.m, 0xa8000, 1), ==, 0x66);
    test_state_roundtrip(&f.host->function->pci.dev);
    conf_write(&f, 0x72, 0x40);
    g_assert_cmphex(conf_read(&f, 0x72), ==, 0x1a);
    bus_reset(f.m->system_bus);
    conf_write(&f, 0x72, 0x48);
    g_assert_cmphex(test_read(f.m, 0xa8000, 1), ==, 0x55);
    tear_down(&f);
}

static void test_turbo_reset(void)
{
    struct fixture f;
    set_up(&f);
    conf_write(&f, 0x93, 0x02);
    g_assert_cmpint(machine_take_request(f.m), ==, REQUEST_NONE);
    conf_write(&f, 0x93, 0x06);
    g_assert_cmpint(machine_take_request(f.m), ==, REQUEST_RESET);
    tear_down(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/i440fx/defaults", test_defaults);
    g_test_add_func("/i440fx/pam", test_pam);
    g_test_add_func("/i440fx/pam_state", test_pam_state);
    g_test_add_func("/i440fx/smram", test_smram);
    g_test_add_func("/i440fx/turbo_reset", test_turbo_reset);
    return g_test_run();
}
