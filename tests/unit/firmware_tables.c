/*
 * ACPI and SMBIOS tables: linked as a kernel without firmware finds them, then walked as a kernel walks them.
 */
#include "hw/pc/acpi.h"
#include "hw/pc/smbios.h"

#include <glib.h>
#include <glib/gstdio.h>
#include <string.h>

#define TABLES_ADDR 0xe0040

static uint32_t get32(const uint8_t *p)
{
    return p[0] | p[1] << 8 | p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint8_t sum(const uint8_t *p, uint32_t len)
{
    uint8_t s = 0;
    while (len--)
        s += *p++;
    return s;
}

struct linked {
    struct acpi_tables *t;
    GByteArray *rsdp, *tables;
};

static const uint8_t *at(const struct linked *l, uint32_t addr)
{
    g_assert_cmpuint(addr, >=, TABLES_ADDR);
    g_assert_cmpuint(addr, <, TABLES_ADDR + l->tables->len);
    return l->tables->data + (addr - TABLES_ADDR);
}

static struct linked link_tables(unsigned cpus, bool hpet)
{
    uint32_t ids[255];
    for (unsigned i = 0; i < cpus; i++)
        ids[i] = i;
    struct acpi_input in = { .cpus = cpus, .apic_ids = ids, .pci_hole_start = 0xc0000000, .serial_ports = 1,
                             .hpet = hpet, .i8042 = true, .vga = true };
    struct linked l = { .t = acpi_tables_new(&in) };
    acpi_tables_link(l.t, TABLES_ADDR, &l.rsdp, &l.tables);
    return l;
}

static void linked_free(struct linked *l)
{
    acpi_tables_free(l->t);
    g_byte_array_unref(l->rsdp);
    g_byte_array_unref(l->tables);
}

/* The table of that signature in the RSDT, or NULL; on the way all checksums are looked at. */
static const uint8_t *find(const struct linked *l, const char *signature)
{
    const uint8_t *found = NULL;
    g_assert_cmpmem(l->rsdp->data, 8, "RSD PTR ", 8);
    g_assert_cmpuint(l->rsdp->len, ==, 20);
    g_assert_cmpuint(sum(l->rsdp->data, 20), ==, 0);
    const uint8_t *rsdt = at(l, get32(l->rsdp->data + 16));
    g_assert_cmpmem(rsdt, 4, "RSDT", 4);
    uint32_t length = get32(rsdt + 4);
    g_assert_cmpuint(sum(rsdt, length), ==, 0);
    for (uint32_t i = 36; i < length; i += 4) {
        const uint8_t *t = at(l, get32(rsdt + i));
        g_assert_cmpuint(sum(t, get32(t + 4)), ==, 0);
        if (memcmp(t, signature, 4) == 0)
            found = t;
    }
    return found;
}

static void test_acpi(void)
{
    struct linked l = link_tables(4, true);
    const uint8_t *fadt = find(&l, "FACP");
    g_assert_nonnull(fadt);
    const uint8_t *facs = at(&l, get32(fadt + 36)), *dsdt = at(&l, get32(fadt + 40));
    g_assert_cmpmem(facs, 4, "FACS", 4);
    g_assert_cmpuint(get32(fadt + 36) % 64, ==, 0);
    g_assert_cmpmem(dsdt, 4, "DSDT", 4);
    g_assert_cmpuint(sum(dsdt, get32(dsdt + 4)), ==, 0);
    g_assert_nonnull(find(&l, "HPET"));
    g_assert_nonnull(find(&l, "WAET"));
    g_assert_nonnull(find(&l, "SSDT"));

    const uint8_t *madt = find(&l, "APIC");
    unsigned processors = 0, overrides = 0, ioapics = 0;
    for (uint32_t i = 44; i < get32(madt + 4); i += madt[i + 1]) {
        processors += madt[i] == 0 && madt[i + 3] == processors && get32(madt + i + 4) == 1;
        ioapics += madt[i] == 1;
        overrides += madt[i] == 2;
        if (madt[i] == 2 && madt[i + 3] == 0)
            g_assert_cmpuint(get32(madt + i + 4), ==, 2);
    }
    g_assert_cmpuint(processors, ==, 4);
    g_assert_cmpuint(ioapics, ==, 1);
    g_assert_cmpuint(overrides, ==, 5);
    linked_free(&l);
}

/* All processors that there can be fit below the SMBIOS tables at 0xf0000. */
static void test_acpi_large(void)
{
    struct linked l = link_tables(255, false);
    g_assert_null(find(&l, "HPET"));
    g_assert_cmpuint(TABLES_ADDR + l.tables->len, <=, 0xf0000);
    linked_free(&l);
}

/* iasl takes our AML apart without complaint. */
static void test_aml(void)
{
    g_autofree char *dir = g_dir_make_tmp("trapeze-acpi-XXXXXX", NULL);
    struct linked l = link_tables(20, true);
    const uint8_t *fadt = find(&l, "FACP"), *ssdt = find(&l, "SSDT"), *dsdt = at(&l, get32(fadt + 40));
    g_autofree char *ssdt_file = g_build_filename(dir, "ssdt.aml", NULL);
    g_autofree char *dsdt_file = g_build_filename(dir, "dsdt.aml", NULL);
    g_autofree char *text_file = g_build_filename(dir, "ssdt.dsl", NULL);
    g_autofree char *dsdt_text = g_build_filename(dir, "dsdt.dsl", NULL);
    g_assert_true(g_file_set_contents(ssdt_file, (const char *)ssdt, get32(ssdt + 4), NULL));
    g_assert_true(g_file_set_contents(dsdt_file, (const char *)dsdt, get32(dsdt + 4), NULL));
    char *argv[] = { "iasl", "-e", dsdt_file, "-d", ssdt_file, NULL };
    g_autofree char *out = NULL, *text = NULL;
    int status;
    g_assert_true(g_spawn_sync(NULL, argv, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_STDERR_TO_DEV_NULL, NULL, NULL, &out,
                               NULL, &status, NULL));
    g_assert_cmpint(status, ==, 0);
    g_assert_true(g_file_get_contents(text_file, &text, NULL, NULL));
    g_assert_nonnull(strstr(text, "Device (C013)"));
    g_assert_null(strstr(text, "rror"));
    char *dsdt_argv[] = { "iasl", "-d", dsdt_file, NULL };
    g_autofree char *dsdt_out = NULL, *dsdt_source = NULL;
    g_assert_true(g_spawn_sync(NULL, dsdt_argv, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_STDERR_TO_DEV_NULL, NULL, NULL,
                               &dsdt_out, NULL, &status, NULL));
    g_assert_true(g_file_get_contents(dsdt_text, &dsdt_source, NULL, NULL));
    g_assert_nonnull(strstr(dsdt_source, "Name (HOLE, 0xC0000000)"));
    g_assert_nonnull(strstr(dsdt_source, "Name (COMS, 0x00000001)"));
    g_remove(ssdt_file);
    g_remove(dsdt_file);
    g_remove(text_file);
    g_remove(dsdt_text);
    g_rmdir(dir);
    linked_free(&l);
}

/* --- SMBIOS ------------------------------------------------------------------------------------------------------- */

/* The next structure, or NULL behind the last one. */
static const uint8_t *next(const uint8_t *p, const uint8_t *end)
{
    p += p[1];
    while (p + 1 < end && (p[0] || p[1]))
        p++;
    p += 2;
    return p < end ? p : NULL;
}

static const char *string(const uint8_t *p, unsigned n)
{
    const char *s = (const char *)p + p[1];
    while (n-- > 1)
        s += strlen(s) + 1;
    return s;
}

static void test_smbios(void)
{
    struct smbios_config c = { .serial = "S-1", .uuid_set = true, .uuid = { 0x12, 0x3e, 0x45, 0x67, 0xe8, 0x9b } };
    struct smbios_input in = { .config = &c, .ram_size = UINT64_C(40) << 30, .ram_below_4g = UINT64_C(3) << 30,
                               .sockets = 2, .cores = 4, .threads = 2 };
    uint16_t count, largest;
    GByteArray *t = smbios_tables(&in, &count, &largest);
    unsigned of_type[128] = { 0 }, seen = 0;
    const uint8_t *end = t->data + t->len;
    for (const uint8_t *p = t->data; p; p = next(p, end)) {
        seen++;
        of_type[p[0] & 127]++;
        if (p[0] == 1) {
            g_assert_cmpstr(string(p, p[7]), ==, "S-1");
            static const uint8_t uuid[6] = { 0x67, 0x45, 0x3e, 0x12, 0x9b, 0xe8 };
            g_assert_cmpmem(p + 8, 6, uuid, 6);
        }
    }
    g_assert_cmpuint(seen, ==, count);
    g_assert_cmpuint(of_type[0], ==, 1);
    g_assert_cmpuint(of_type[2], ==, 0);
    g_assert_cmpuint(of_type[4], ==, 2);
    g_assert_cmpuint(of_type[17], ==, 3);
    g_assert_cmpuint(of_type[19], ==, 2);
    g_assert_cmpuint(of_type[127], ==, 1);
    uint8_t anchor[31];
    smbios_entry_point(anchor, 0xf0020, t->len, count, largest);
    g_assert_cmpuint(sum(anchor, 31), ==, 0);
    g_assert_cmpuint(sum(anchor + 16, 15), ==, 0);
    g_assert_cmpuint(get32(anchor + 24), ==, 0xf0020);
    g_byte_array_unref(t);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/acpi/walk", test_acpi);
    g_test_add_func("/acpi/255-processors", test_acpi_large);
    g_test_add_func("/acpi/aml", test_aml);
    g_test_add_func("/smbios", test_smbios);
    return g_test_run();
}
