/*
 * Direct boot: recognizes the kernel, and at each reset puts kernel, initrd, tables and the boot processor's state
 * where the kernel's protocol wants them.
 *
 * Files stay mapped, so that a reset starts the same kernel again; their pages are given back after each start.
 */
#include "hw/pc/boot.h"

#include "cpu/cpu.h"
#include "hw/pc/acpi.h"
#include "hw/pc/smbios.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define ATTR_CODE64 (SEG_P | SEG_S | SEG_X | SEG_R | SEG_A | SEG_L | SEG_G)
#define ATTR_CODE32 (SEG_P | SEG_S | SEG_X | SEG_R | SEG_A | SEG_DB | SEG_G)
#define ATTR_DATA (SEG_P | SEG_S | SEG_W | SEG_A | SEG_DB | SEG_G)
#define ATTR_TSS (SEG_P | 0xbu << SEG_TYPE_SHIFT)

struct cpu *boot_cpu(struct pc *pc)
{
    return pc->m->cpus[0];
}

void boot_write(struct pc *pc, uint64_t addr, const void *data, size_t len)
{
    bool ok = address_space_write(&pc->m->memory, addr, data, len);
    g_assert(ok); /* the formats have checked that there is RAM */
}

void boot_write_value(struct pc *pc, uint64_t addr, uint64_t value, unsigned size)
{
    uint64_t le = GUINT64_TO_LE(value);
    boot_write(pc, addr, &le, size);
}

uint64_t boot_get(const struct boot_image *b, uint64_t offset, unsigned size)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < size; i++)
        v |= (uint64_t)b->data[offset + i] << (8 * i);
    return v;
}

unsigned boot_memory_map(const struct pc *pc, struct pc_e820 map[8])
{
    unsigned n = 0;
    map[n++] = (struct pc_e820){ 0, BOOT_EBDA, PC_E820_RAM };
    map[n++] = (struct pc_e820){ BOOT_EBDA, 0xa0000 - BOOT_EBDA, PC_E820_RESERVED };
    map[n++] = (struct pc_e820){ 0xe0000, 0x20000, PC_E820_RESERVED };
    map[n++] = (struct pc_e820){ 0x100000, pc->ram_below_4g - 0x100000, PC_E820_RAM };
    if (pc->m->ram->size > pc->ram_below_4g)
        map[n++] = (struct pc_e820){ PC_4G, pc->m->ram->size - pc->ram_below_4g, PC_E820_RAM };
    return n;
}

/* --- The processor ------------------------------------------------------------------------------------------------ */

static uint64_t descriptor(uint32_t attr, uint32_t limit)
{
    return (uint64_t)attr << 32 | (limit & 0xffff) | (uint64_t)(limit >> 16 & 0xf) << 48;
}

static void enter(struct pc *pc, uint64_t entry, uint32_t code_attr)
{
    struct cpu *cpu = boot_cpu(pc);
    uint64_t gdt[5] = { 0, 0, descriptor(code_attr, 0xfffff), descriptor(ATTR_DATA, 0xfffff),
                        descriptor(ATTR_TSS, 0x67) };
    for (unsigned i = 0; i < G_N_ELEMENTS(gdt); i++)
        boot_write_value(pc, BOOT_GDT + 8 * i, gdt[i], 8);
    cpu->gdtr.base = BOOT_GDT;
    cpu->gdtr.limit = sizeof gdt - 1;
    cpu->idtr.base = 0;
    cpu->idtr.limit = 0;
    static const enum seg data[] = { SEG_ES, SEG_SS, SEG_DS, SEG_FS, SEG_GS };
    for (unsigned i = 0; i < G_N_ELEMENTS(data); i++)
        cpu_set_seg(cpu, data[i], BOOT_DS, 0, UINT32_MAX, ATTR_DATA);
    cpu_set_seg(cpu, SEG_CS, BOOT_CS, 0, UINT32_MAX, code_attr);
    cpu_set_seg(cpu, SEG_TR, 0x20, 0, 0x67, ATTR_TSS);
    memset(cpu->r, 0, sizeof cpu->r);
    cpu->r[R_RSP] = BOOT_STACK;
    cpu->rip = entry;
    cpu->rflags = FLAGS_FIXED;
    cpu_refresh(cpu);
}

void boot_enter_32(struct pc *pc, uint32_t entry)
{
    struct cpu *cpu = boot_cpu(pc);
    cpu->cr0 = CR0_PE | CR0_ET;
    enter(pc, entry, ATTR_CODE32);
}

void boot_enter_64(struct pc *pc, uint64_t entry)
{
    enum { PRESENT = 1, WRITE = 2, LARGE = 0x80 };
    uint64_t pml4 = BOOT_PAGE_TABLES, pdpt = pml4 + 0x1000, pd = pdpt + 0x1000;
    for (uint64_t at = pml4; at < pd; at += 8)
        boot_write_value(pc, at, 0, 8);
    boot_write_value(pc, pml4, pdpt | PRESENT | WRITE, 8);
    for (uint64_t i = 0; i < 4; i++)
        boot_write_value(pc, pdpt + 8 * i, (pd + (i << 12)) | PRESENT | WRITE, 8);
    for (uint64_t i = 0; i < 2048; i++)
        boot_write_value(pc, pd + 8 * i, i << 21 | PRESENT | WRITE | LARGE, 8);
    struct cpu *cpu = boot_cpu(pc);
    cpu->cr3 = pml4;
    cpu->cr4 = CR4_PAE;
    cpu->efer = EFER_LME | EFER_LMA;
    cpu->cr0 = CR0_PE | CR0_ET | CR0_PG;
    enter(pc, entry, ATTR_CODE64);
}

/* --- Tables that firmware leaves in memory ------------------------------------------------------------------------ */

static void write_tables(struct pc *pc)
{
    if (pc->acpi_tables) {
        GByteArray *rsdp, *tables;
        acpi_tables_link(pc->acpi_tables, BOOT_ACPI, &rsdp, &tables);
        g_assert(BOOT_ACPI + tables->len <= BOOT_SMBIOS);
        boot_write(pc, BOOT_RSDP, rsdp->data, rsdp->len);
        boot_write(pc, BOOT_ACPI, tables->data, tables->len);
        g_byte_array_unref(rsdp);
        g_byte_array_unref(tables);
    }
    uint8_t anchor[SMBIOS_ENTRY_SIZE];
    smbios_entry_point(anchor, BOOT_SMBIOS_TABLES, pc->smbios->len, pc->smbios_count, pc->smbios_largest);
    boot_write(pc, BOOT_SMBIOS, anchor, sizeof anchor);
    boot_write(pc, BOOT_SMBIOS_TABLES, pc->smbios->data, pc->smbios->len);
}

/* The BIOS data area at 0x400, as far as kernels look at it, and the first byte of the extended one. */
static void write_bios_data(struct pc *pc)
{
    static const uint16_t com[PC_SERIAL_PORTS] = { 0x3f8, 0x2f8, 0x3e8, 0x2e8 };
    for (unsigned i = 0; i < PC_SERIAL_PORTS; i++)
        boot_write_value(pc, 0x400 + 2 * i, pc->serial_ports & 1u << i ? com[i] : 0, 2);
    boot_write_value(pc, 0x40e, BOOT_EBDA >> 4, 2);
    boot_write_value(pc, 0x413, BOOT_EBDA >> 10, 2);
    boot_write_value(pc, 0x449, pc->vga ? 3 : 0, 1); /* video mode, columns, page size, CRTC port, last row, height */
    boot_write_value(pc, 0x44a, 80, 2);
    boot_write_value(pc, 0x44c, 0x1000, 2);
    boot_write_value(pc, 0x463, 0x3d4, 2);
    boot_write_value(pc, 0x484, 24, 1);
    boot_write_value(pc, 0x485, 16, 2);
    boot_write_value(pc, BOOT_EBDA, 1, 1); /* KiB */
}

/* --- Files -------------------------------------------------------------------------------------------------------- */

static GMappedFile *map_file(const char *option, const char *name, GError **err)
{
    if (g_file_test(name, G_FILE_TEST_EXISTS) && !g_file_test(name, G_FILE_TEST_IS_REGULAR)) {
        g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_INVAL, "%s %s: this is not a regular file", option, name);
        return NULL;
    }
    g_autoptr(GError) why = NULL;
    GMappedFile *f = g_mapped_file_new(name, FALSE, &why);
    if (!f)
        g_set_error(err, why->domain, why->code, "%s %s: %s", option, name, g_strerror(errno));
    return f;
}

/* The file's pages need not stay in our memory. */
static void release_pages(GMappedFile *f)
{
    if (f && g_mapped_file_get_length(f))
        madvise(g_mapped_file_get_contents(f), g_mapped_file_get_length(f), MADV_DONTNEED);
}

bool boot_add_module(struct boot_image *b, const char *path, const char *name, GError **err)
{
    GMappedFile *f = map_file("-initrd", path, err);
    if (!f)
        return false;
    struct boot_module *module = g_new0(struct boot_module, 1);
    module->file = f;
    module->name = g_strdup(name);
    g_ptr_array_add(b->modules, module);
    return true;
}

bool boot_place_modules(struct pc *pc, struct boot_image *b, uint64_t max, GError **err)
{
    max = MIN(max, pc->ram_below_4g);
    for (guint i = 0; i < b->modules->len; i++) {
        struct boot_module *module = b->modules->pdata[i];
        uint64_t size = g_mapped_file_get_length(module->file);
        if (size > max || ((max - size) & PAGE_MASK) < b->kernel_end) {
            g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_NOSPC,
                        "-initrd %s: %" G_GUINT64_FORMAT " KiB do not fit beside the kernel; give more memory with -m",
                        module->name, size >> 10);
            return false;
        }
        module->addr = max = (max - size) & PAGE_MASK;
    }
    return true;
}

void boot_write_modules(struct pc *pc, const struct boot_image *b)
{
    for (guint i = 0; i < b->modules->len; i++) {
        const struct boot_module *module = b->modules->pdata[i];
        if (g_mapped_file_get_length(module->file))
            boot_write(pc, module->addr, g_mapped_file_get_contents(module->file),
                       g_mapped_file_get_length(module->file));
        release_pages(module->file);
    }
}

static void free_module(gpointer p)
{
    struct boot_module *module = p;
    g_mapped_file_unref(module->file);
    g_free(module->name);
    g_free(module);
}

static bool probe(struct pc *pc, struct boot_image *b, GError **err)
{
    GError *why = NULL;
    if (pc->ram_below_4g < 4 << 20) {
        g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_NOSPC, "-kernel %s: needs at least 4 MiB of memory",
                    b->kernel_name);
        return false;
    }
    if (!linux_boot_probe(pc, b, &why) && !elf_boot_probe(pc, b, &why))
        g_set_error(&why, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "this is no kernel for x86: neither bzImage, nor multiboot, nor ELF with a PVH entry");
    if (!why)
        return true;
    if (g_str_has_prefix(why->message, "-initrd"))
        g_propagate_error(err, why);
    else
        g_propagate_prefixed_error(err, why, "-kernel %s: ", b->kernel_name);
    return false;
}

struct boot_image *boot_image_load(struct pc *pc, const struct pc_config *c, GError **err)
{
    struct boot_image *b = g_new0(struct boot_image, 1);
    b->kernel_name = c->kernel;
    b->initrd_name = c->initrd;
    b->cmdline = g_strdup(c->append ? c->append : "");
    b->modules = g_ptr_array_new_with_free_func(free_module);
    bool ok = (b->kernel = map_file("-kernel", c->kernel, err)) != NULL;
    if (ok) {
        b->data = (const uint8_t *)g_mapped_file_get_contents(b->kernel);
        b->size = g_mapped_file_get_length(b->kernel);
        ok = probe(pc, b, err);
    }
    if (ok)
        return b;
    boot_image_free(b);
    return NULL;
}

void boot_image_start(struct pc *pc)
{
    struct boot_image *b = pc->boot;
    pc_do_firmware_duties(pc);
    write_tables(pc);
    write_bios_data(pc);
    b->start(pc, b);
    release_pages(b->kernel);
}

void boot_image_free(struct boot_image *b)
{
    if (!b)
        return;
    g_clear_pointer(&b->kernel, g_mapped_file_unref);
    g_ptr_array_free(b->modules, TRUE);
    if (b->segments)
        g_array_free(b->segments, TRUE);
    g_free(b->multiboot_cmdline);
    g_free(b->cmdline);
    g_free(b);
}
