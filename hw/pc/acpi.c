/*
 * ACPI tables: RSDP, RSDT, FADT, FACS, DSDT (pc-bios/dsdt.asl), SSDT, MADT, HPET, WAET.
 *
 * ACPI specification 6.4, chapter 5; HPET specification 1.0a; the loader's commands as in QEMU's bios-linker-loader.
 * Pointers between tables are offsets until somebody links them. What differs from machine to machine is patched into
 * named values of the DSDT: SeaBIOS reads that table, too, but does not understand references to another one.
 *
 * Not made: SRAT and SLIT (one node), sleep states but S5. No lock: pure functions.
 */
#include "hw/pc/acpi.h"

#include "hw/core/ram_access.h"
#include "hw/isa/piix4_pm.h"
#include "hw/irq/apic_bus.h"
#include "hw/irq/ioapic.h"
#include "hw/pc/board.h"
#include "hw/timer/hpet.h"

#include <string.h>

/* From pc-bios/dsdt.asl, by the build. */
extern const unsigned char aml_dsdt[];
extern const unsigned aml_dsdt_size;

#define RSDP_FILE "etc/acpi/rsdp"
#define TABLES_FILE "etc/acpi/tables"
#define HEADER_SIZE 36
#define HEADER_CHECKSUM 9

/* --- Commands of the loader --------------------------------------------------------------------------------------- */

enum { LOADER_ALLOCATE = 1, LOADER_ADD_POINTER = 2, LOADER_ADD_CHECKSUM = 3 };
enum { ZONE_HIGH = 1, ZONE_FSEG = 2 };

struct loader_command {
    uint32_t command;
    union {
        struct {
            char file[56];
            uint32_t align;
            uint8_t zone;
        } __attribute__((packed)) allocate;
        struct {
            char file[56];   /* that holds the pointer */
            char target[56]; /* whose address is added to it */
            uint32_t offset;
            uint8_t size;
        } __attribute__((packed)) pointer;
        struct {
            char file[56];
            uint32_t offset, start, length;
        } __attribute__((packed)) checksum;
        char pad[124];
    };
} __attribute__((packed));

static void add_command(struct acpi_tables *t, const struct loader_command *c)
{
    g_byte_array_append(t->loader, (const guint8 *)c, sizeof *c);
}

static void loader_allocate(struct acpi_tables *t, const char *file, uint32_t align, uint8_t zone)
{
    struct loader_command c = { .command = GUINT32_TO_LE(LOADER_ALLOCATE) };
    g_strlcpy(c.allocate.file, file, sizeof c.allocate.file);
    c.allocate.align = GUINT32_TO_LE(align);
    c.allocate.zone = zone;
    add_command(t, &c);
}

/* The 4 bytes at `offset` of `file` hold an offset into the tables: the tables' address is added. */
static void loader_add_pointer(struct acpi_tables *t, const char *file, uint32_t offset)
{
    struct loader_command c = { .command = GUINT32_TO_LE(LOADER_ADD_POINTER) };
    g_strlcpy(c.pointer.file, file, sizeof c.pointer.file);
    g_strlcpy(c.pointer.target, TABLES_FILE, sizeof c.pointer.target);
    c.pointer.offset = GUINT32_TO_LE(offset);
    c.pointer.size = 4;
    add_command(t, &c);
}

static void loader_add_checksum(struct acpi_tables *t, const char *file, uint32_t offset, uint32_t start,
                                uint32_t length)
{
    struct loader_command c = { .command = GUINT32_TO_LE(LOADER_ADD_CHECKSUM) };
    g_strlcpy(c.checksum.file, file, sizeof c.checksum.file);
    c.checksum.offset = GUINT32_TO_LE(offset);
    c.checksum.start = GUINT32_TO_LE(start);
    c.checksum.length = GUINT32_TO_LE(length);
    add_command(t, &c);
}

/* --- Bytes -------------------------------------------------------------------------------------------------------- */

/* `size` bytes of a number, least significant first. */
static void put(GByteArray *b, uint64_t value, unsigned size)
{
    for (unsigned i = 0; i < size; i++) {
        uint8_t byte = value >> (8 * i);
        g_byte_array_append(b, &byte, 1);
    }
}

static void put_text(GByteArray *b, const char *text, unsigned size)
{
    size_t len = strlen(text);
    for (unsigned i = 0; i < size; i++)
        put(b, i < len ? (uint8_t)text[i] : ' ', 1);
}

static void put_zeros(GByteArray *b, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        put(b, 0, 1);
}

/* Starts a table; its length and checksum follow in table_end(). Returns its offset. */
static uint32_t table_begin(struct acpi_tables *t, const char *signature, uint8_t revision)
{
    GByteArray *b = t->tables;
    while (b->len % 16)
        put(b, 0, 1);
    uint32_t start = b->len;
    put_text(b, signature, 4);
    put(b, 0, 4); /* length */
    put(b, revision, 1);
    put(b, 0, 1); /* checksum */
    put_text(b, "TRAPEZ", 6);
    put_text(b, "TRAPEZE", 8);
    put(b, 1, 4);
    put_text(b, "TRPZ", 4);
    put(b, 1, 4);
    return start;
}

static void table_end(struct acpi_tables *t, uint32_t start)
{
    uint32_t length = t->tables->len - start;
    ram_store32(t->tables->data + start + 4, length);
    loader_add_checksum(t, TABLES_FILE, start + HEADER_CHECKSUM, start, length);
}

/* --- AML of the SSDT ---------------------------------------------------------------------------------------------- */

enum aml {
    AML_NAME = 0x08, AML_WORD = 0x0b, AML_DWORD = 0x0c, AML_STRING = 0x0d, AML_SCOPE = 0x10, AML_ROOT = '\\',
    AML_EXT = 0x5b, AML_DEVICE = 0x82,
};

/* Package length of `body` bytes, itself not counted, always in its two-byte form. */
static void put_pkg_length(GByteArray *b, unsigned body)
{
    unsigned length = body + 2;
    g_assert(length < 1 << 12);
    put(b, 0x40 | (length & 0xf), 1);
    put(b, length >> 4, 1);
}

static void put_name_dword(GByteArray *b, const char *name, uint32_t value)
{
    put(b, AML_NAME, 1);
    put_text(b, name, 4);
    put(b, AML_DWORD, 1);
    put(b, value, 4);
}

/* Device (C00n) { Name (_HID, "ACPI0007") Name (_UID, n) } within \_SB */
static void put_processor(GByteArray *b, unsigned n)
{
    static const char hid[] = "ACPI0007";
    g_autofree char *name = g_strdup_printf("C%03X", n);
    GByteArray *body = g_byte_array_new();
    put_text(body, name, 4);
    put(body, AML_NAME, 1);
    put_text(body, "_HID", 4);
    put(body, AML_STRING, 1);
    put_text(body, hid, sizeof hid - 1);
    put(body, 0, 1);
    put_name_dword(body, "_UID", n);

    GByteArray *device = g_byte_array_new();
    put(device, AML_EXT, 1);
    put(device, AML_DEVICE, 1);
    put_pkg_length(device, body->len);
    g_byte_array_append(device, body->data, body->len);

    put(b, AML_SCOPE, 1);
    put_pkg_length(b, 5 + device->len);
    put(b, AML_ROOT, 1);
    put_text(b, "_SB_", 4);
    g_byte_array_append(b, device->data, device->len);
    g_byte_array_unref(device);
    g_byte_array_unref(body);
}

/* --- Tables ------------------------------------------------------------------------------------------------------- */

/* The value of Name (name, DWORD) in the AML at `start`. */
static void set_named_dword(struct acpi_tables *t, uint32_t start, const char *name, uint32_t value)
{
    uint8_t pattern[6] = { AML_NAME, name[0], name[1], name[2], name[3], AML_DWORD };
    for (uint32_t at = start; at + 10 <= t->tables->len; at++) {
        if (memcmp(t->tables->data + at, pattern, sizeof pattern) == 0) {
            ram_store32(t->tables->data + at + sizeof pattern, value);
            return;
        }
    }
    g_assert_not_reached(); /* dsdt.asl gives each of them a value that takes 32 bits */
}

static uint32_t make_dsdt(struct acpi_tables *t, const struct acpi_input *in)
{
    while (t->tables->len % 16)
        put(t->tables, 0, 1);
    uint32_t start = t->tables->len;
    g_byte_array_append(t->tables, aml_dsdt, aml_dsdt_size);
    t->tables->data[start + HEADER_CHECKSUM] = 0;
    set_named_dword(t, start, "HOLE", in->pci_hole_start);
    set_named_dword(t, start, "COMS", in->serial_ports);
    set_named_dword(t, start, "HPTP", in->hpet ? 0xf : 0);
    set_named_dword(t, start, "KBDP", in->i8042 ? 0xf : 0);
    table_end(t, start);
    return start;
}

/* Processors. */
static uint32_t make_ssdt(struct acpi_tables *t, const struct acpi_input *in)
{
    uint32_t start = table_begin(t, "SSDT", 1);
    for (unsigned i = 0; i < in->cpus; i++)
        put_processor(t->tables, i);
    table_end(t, start);
    return start;
}

static uint32_t make_facs(struct acpi_tables *t)
{
    while (t->tables->len % 64)
        put(t->tables, 0, 1);
    uint32_t start = t->tables->len;
    put_text(t->tables, "FACS", 4);
    put(t->tables, 64, 4);
    put_zeros(t->tables, 24); /* hardware signature, waking vectors, global lock, flags */
    put(t->tables, 1, 1);     /* version */
    put_zeros(t->tables, 31);
    return start;
}

/* Generic address: I/O space, `bits` wide. */
static void put_gas(GByteArray *b, uint16_t port, uint8_t bits)
{
    put(b, 1, 1);
    put(b, bits, 1);
    put(b, 0, 1);
    put(b, bits == 8 ? 1 : bits == 16 ? 2 : 3, 1);
    put(b, port, 8);
}

/* Flags of the FADT, table 5.9 */
#define FADT_WBINVD (1u << 0)
#define FADT_PROC_C1 (1u << 2)
#define FADT_SLP_BUTTON (1u << 5) /* none as fixed hardware */
#define FADT_RTC_S4 (1u << 7)
#define FADT_RESET_REG_SUP (1u << 10)
#define FADT_USE_PLATFORM_CLOCK (1u << 15)
#define FADT_PHYSICAL_APIC (1u << 19)
/* IA-PC boot architecture flags, table 5.10 */
#define BOOT_LEGACY_DEVICES (1u << 0)
#define BOOT_8042 (1u << 1)
#define BOOT_NO_VGA (1u << 2)

static uint32_t make_fadt(struct acpi_tables *t, const struct acpi_input *in, uint32_t facs, uint32_t dsdt)
{
    uint32_t start = table_begin(t, "FACP", 3);
    GByteArray *b = t->tables;
    loader_add_pointer(t, TABLES_FILE, b->len);
    put(b, facs, 4);
    loader_add_pointer(t, TABLES_FILE, b->len);
    put(b, dsdt, 4);
    put(b, 1, 1); /* a system with 8259s */
    put(b, 0, 1); /* preferred profile: unspecified */
    put(b, PC_SCI_IRQ, 2);
    put(b, PIIX4_SMI_COMMAND, 4);
    put(b, PIIX4_ACPI_ENABLE, 1);
    put(b, PIIX4_ACPI_DISABLE, 1);
    put(b, 0, 2); /* S4BIOS_REQ, PSTATE_CNT */
    put(b, PC_PM_BASE + PIIX4_PM_EVENT, 4);
    put(b, 0, 4);
    put(b, PC_PM_BASE + PIIX4_PM_CONTROL, 4);
    put(b, 0, 8); /* PM1b control, PM2 control */
    put(b, PC_PM_BASE + PIIX4_PM_TIMER, 4);
    put(b, PIIX4_GPE0_BASE, 4);
    put(b, 0, 4);
    put(b, 4, 1); /* lengths: PM1 event, control, PM2, timer, GPE0, GPE1 */
    put(b, 2, 1);
    put(b, 0, 1);
    put(b, 4, 1);
    put(b, PIIX4_GPE0_LEN, 1);
    put(b, 0, 3);
    put(b, 0xfff, 2); /* no C2 and C3 */
    put(b, 0xfff, 2);
    put(b, 0, 6);
    put(b, 0, 2);    /* day and month alarm: none */
    put(b, 0x32, 1); /* century in CMOS */
    put(b, BOOT_LEGACY_DEVICES | (in->i8042 ? BOOT_8042 : 0) | (in->vga ? 0 : BOOT_NO_VGA), 2);
    put(b, 0, 1);
    put(b, FADT_WBINVD | FADT_PROC_C1 | FADT_SLP_BUTTON | FADT_RTC_S4 | FADT_RESET_REG_SUP | FADT_USE_PLATFORM_CLOCK |
               (in->cpus > 8 ? FADT_PHYSICAL_APIC : 0), 4);
    put_gas(b, 0xcf9, 8);
    put(b, 0x0f, 1); /* full reset */
    put(b, 0, 3);
    put(b, 0, 8); /* X_FIRMWARE_CTRL, X_DSDT: the 32-bit ones hold */
    put(b, 0, 8);
    put_gas(b, PC_PM_BASE + PIIX4_PM_EVENT, 32);
    put_zeros(b, 12);
    put_gas(b, PC_PM_BASE + PIIX4_PM_CONTROL, 16);
    put_zeros(b, 24);
    put_gas(b, PC_PM_BASE + PIIX4_PM_TIMER, 32);
    put_gas(b, PIIX4_GPE0_BASE, 32);
    put_zeros(b, 12);
    g_assert(b->len - start == 244);
    table_end(t, start);
    return start;
}

/* MPS INTI flags of interrupt overrides */
#define MADT_CONFORMS 0
#define MADT_HIGH_LEVEL 0xd

static void put_override(GByteArray *b, uint8_t irq, uint32_t gsi, uint16_t flags)
{
    put(b, 2, 1);
    put(b, 10, 1);
    put(b, 0, 1);
    put(b, irq, 1);
    put(b, gsi, 4);
    put(b, flags, 2);
}

static uint32_t make_madt(struct acpi_tables *t, const struct acpi_input *in)
{
    uint32_t start = table_begin(t, "APIC", 1);
    GByteArray *b = t->tables;
    put(b, APIC_DEFAULT_BASE, 4);
    put(b, 1, 4); /* there are 8259s too */
    for (unsigned i = 0; i < in->cpus; i++) {
        put(b, 0, 1);
        put(b, 8, 1);
        put(b, i, 1);
        put(b, in->apic_ids[i], 1);
        put(b, 1, 4); /* enabled */
    }
    put(b, 1, 1); /* I/O APIC */
    put(b, 12, 1);
    put(b, 0, 2); /* its id */
    put(b, IOAPIC_DEFAULT_BASE, 4);
    put(b, 0, 4);
    put_override(b, 0, 2, MADT_CONFORMS);
    /* The SCI, and irqs that PCI interrupts are routed to. */
    static const uint8_t level[] = { 5, PC_SCI_IRQ, 10, 11 };
    for (unsigned i = 0; i < sizeof level; i++)
        put_override(b, level[i], level[i], MADT_HIGH_LEVEL);
    put(b, 4, 1); /* NMI on LINT1 of all */
    put(b, 6, 1);
    put(b, 0xff, 1);
    put(b, 0, 2);
    put(b, 1, 1);
    table_end(t, start);
    return start;
}

static uint32_t make_hpet(struct acpi_tables *t)
{
    uint32_t start = table_begin(t, "HPET", 1);
    put(t->tables, 0x8086a201, 4); /* as its capability register tells */
    put(t->tables, 0, 4);          /* memory space */
    put(t->tables, HPET_BASE, 8);
    put(t->tables, 0, 4); /* number 0, minimum tick 0, no page protection */
    table_end(t, start);
    return start;
}

/* An emulated PM timer reads right the first time, and the RTC needs no acknowledge loop. */
static uint32_t make_waet(struct acpi_tables *t)
{
    uint32_t start = table_begin(t, "WAET", 1);
    put(t->tables, 2, 4);
    table_end(t, start);
    return start;
}

static uint32_t make_rsdt(struct acpi_tables *t, const uint32_t *offsets, unsigned count)
{
    uint32_t start = table_begin(t, "RSDT", 1);
    for (unsigned i = 0; i < count; i++) {
        loader_add_pointer(t, TABLES_FILE, t->tables->len);
        put(t->tables, offsets[i], 4);
    }
    table_end(t, start);
    return start;
}

static void make_rsdp(struct acpi_tables *t, uint32_t rsdt)
{
    put_text(t->rsdp, "RSD PTR ", 8);
    put(t->rsdp, 0, 1);
    put_text(t->rsdp, "TRAPEZ", 6);
    put(t->rsdp, 0, 1); /* revision: 20 bytes, RSDT only */
    loader_add_pointer(t, RSDP_FILE, t->rsdp->len);
    put(t->rsdp, rsdt, 4);
    loader_add_checksum(t, RSDP_FILE, 8, 0, t->rsdp->len);
}

struct acpi_tables *acpi_tables_new(const struct acpi_input *in)
{
    struct acpi_tables *t = g_new0(struct acpi_tables, 1);
    t->rsdp = g_byte_array_new();
    t->tables = g_byte_array_new();
    t->loader = g_byte_array_new();
    loader_allocate(t, TABLES_FILE, 64, ZONE_HIGH);
    loader_allocate(t, RSDP_FILE, 16, ZONE_FSEG);
    uint32_t offsets[6];
    unsigned n = 0;
    uint32_t facs = make_facs(t);
    uint32_t dsdt = make_dsdt(t, in);
    offsets[n++] = make_fadt(t, in, facs, dsdt);
    offsets[n++] = make_ssdt(t, in);
    offsets[n++] = make_madt(t, in);
    if (in->hpet)
        offsets[n++] = make_hpet(t);
    offsets[n++] = make_waet(t);
    make_rsdp(t, make_rsdt(t, offsets, n));
    return t;
}

void acpi_tables_free(struct acpi_tables *t)
{
    if (!t)
        return;
    g_byte_array_unref(t->rsdp);
    g_byte_array_unref(t->tables);
    g_byte_array_unref(t->loader);
    g_free(t);
}

static GByteArray *copy(const GByteArray *b)
{
    GByteArray *c = g_byte_array_sized_new(b->len);
    g_byte_array_append(c, b->data, b->len);
    return c;
}

void acpi_tables_link(const struct acpi_tables *t, uint32_t tables_addr, GByteArray **rsdp,
                      GByteArray **tables)
{
    *rsdp = copy(t->rsdp);
    *tables = copy(t->tables);
    for (guint at = 0; at < t->loader->len; at += sizeof(struct loader_command)) {
        struct loader_command c;
        memcpy(&c, t->loader->data + at, sizeof c);
        /* All three kinds begin with the file that they change. */
        uint8_t *file = strcmp(c.allocate.file, RSDP_FILE) == 0 ? (*rsdp)->data : (*tables)->data;
        if (GUINT32_FROM_LE(c.command) == LOADER_ADD_POINTER) {
            uint8_t *pointer = file + GUINT32_FROM_LE(c.pointer.offset);
            ram_store32(pointer, ram_load32(pointer) + tables_addr);
        } else if (GUINT32_FROM_LE(c.command) == LOADER_ADD_CHECKSUM) {
            const uint8_t *p = file + GUINT32_FROM_LE(c.checksum.start);
            uint8_t sum = 0;
            for (uint32_t i = 0; i < GUINT32_FROM_LE(c.checksum.length); i++)
                sum += p[i];
            file[GUINT32_FROM_LE(c.checksum.offset)] -= sum;
        }
    }
}
