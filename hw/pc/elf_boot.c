/*
 * ELF kernels with a PVH entry (Xen's docs/misc/pvh.pandoc; Linux's vmlinux has one), and multiboot kernels (Multiboot
 * specification 0.6.96), ELF or with addresses in their header. Both start in protected mode without paging.
 *
 * Not done: the video modes and drive lists of multiboot.
 */
#include "cpu/cpu.h"
#include "hw/pc/boot.h"

#include <elf.h>
#include <string.h>

#define NOTE_PHYS32_ENTRY 18
#define PVH_MAGIC 0x336ec578
#define MULTIBOOT_MAGIC 0x1badb002
#define MULTIBOOT_LOADER_MAGIC 0x2badb002
#define MULTIBOOT_SEARCH 8192
/* Header flags */
#define MULTIBOOT_UNKNOWN_REQUIRED 0x0000fff8
#define MULTIBOOT_ADDRESSES 0x00010000
/* Information flags: memory sizes, command line, modules, memory map, name of the loader */
#define INFO_FLAGS (1u << 0 | 1u << 2 | 1u << 3 | 1u << 6 | 1u << 9)
/* Parts of the block at BOOT_PARAMS */
#define BLOCK_MEMMAP 0x100
#define BLOCK_MODULES 0x400
#define BLOCK_STRINGS 0x2000
#define BLOCK_END 0x10000
#define MODULES_MAX ((BLOCK_STRINGS - BLOCK_MODULES) / 32)

/* One piece of the file and where it goes. */
struct segment_load {
    uint64_t addr, file_offset, file_size, memory_size;
};

static bool fail(GError **err, const char *sentence)
{
    g_set_error_literal(err, G_FILE_ERROR, G_FILE_ERROR_INVAL, sentence);
    return false;
}

/* --- ELF, either class -------------------------------------------------------------------------------------------- */

struct program_header {
    uint32_t type;
    uint64_t offset, paddr, file_size, memory_size;
};

static bool is_elf(const struct boot_image *b)
{
    return b->size >= sizeof(Elf32_Ehdr) && memcmp(b->data, ELFMAG, SELFMAG) == 0 && b->data[EI_DATA] == ELFDATA2LSB;
}

static bool is_64(const struct boot_image *b)
{
    return b->data[EI_CLASS] == ELFCLASS64;
}

static unsigned program_headers(const struct boot_image *b)
{
    return boot_get(b, is_64(b) ? offsetof(Elf64_Ehdr, e_phnum) : offsetof(Elf32_Ehdr, e_phnum), 2);
}

/* False if the file ends before. */
static bool program_header(const struct boot_image *b, unsigned n, struct program_header *p)
{
    bool wide = is_64(b);
    if (wide && b->size < sizeof(Elf64_Ehdr))
        return false;
    uint64_t table = boot_get(b, wide ? offsetof(Elf64_Ehdr, e_phoff) : offsetof(Elf32_Ehdr, e_phoff), wide ? 8 : 4);
    uint64_t entry = boot_get(b, wide ? offsetof(Elf64_Ehdr, e_phentsize) : offsetof(Elf32_Ehdr, e_phentsize), 2);
    if (entry < (wide ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr)) || table > b->size || n * entry > b->size - table ||
        entry > b->size - table - n * entry)
        return false;
    uint64_t at = table + n * entry;
    p->type = boot_get(b, at, 4);
    if (wide) {
        p->offset = boot_get(b, at + offsetof(Elf64_Phdr, p_offset), 8);
        p->paddr = boot_get(b, at + offsetof(Elf64_Phdr, p_paddr), 8);
        p->file_size = boot_get(b, at + offsetof(Elf64_Phdr, p_filesz), 8);
        p->memory_size = boot_get(b, at + offsetof(Elf64_Phdr, p_memsz), 8);
    } else {
        p->offset = boot_get(b, at + offsetof(Elf32_Phdr, p_offset), 4);
        p->paddr = boot_get(b, at + offsetof(Elf32_Phdr, p_paddr), 4);
        p->file_size = boot_get(b, at + offsetof(Elf32_Phdr, p_filesz), 4);
        p->memory_size = boot_get(b, at + offsetof(Elf32_Phdr, p_memsz), 4);
    }
    return p->offset <= b->size && p->file_size <= b->size - p->offset;
}

/* Entry point of the note, 0 if there is none. */
static uint32_t pvh_entry(const struct boot_image *b)
{
    struct program_header p;
    for (unsigned i = 0; i < program_headers(b) && program_header(b, i, &p); i++) {
        if (p.type != PT_NOTE)
            continue;
        uint64_t at = p.offset, end = p.offset + p.file_size;
        while (end - at >= 12) {
            uint64_t name = (boot_get(b, at, 4) + 3) & ~UINT64_C(3), desc = (boot_get(b, at + 4, 4) + 3) & ~UINT64_C(3);
            if (name > end - at - 12 || desc > end - at - 12 - name)
                break;
            if (boot_get(b, at + 8, 4) == NOTE_PHYS32_ENTRY && name == 4 && memcmp(b->data + at + 12, "Xen", 4) == 0 &&
                desc >= 4)
                return boot_get(b, at + 12 + name, 4);
            at += 12 + name + desc;
        }
    }
    return 0;
}

/* --- Loading ------------------------------------------------------------------------------------------------------ */

/* RAM that a kernel may occupy: above 1 MiB, and below what start-up itself uses no part of. */
static bool loadable(const struct pc *pc, uint64_t addr, uint64_t size)
{
    const struct { uint64_t start, end; } free[] = {
        { BOOT_LOW_MIN, BOOT_PARAMS },
        { BOOT_CMDLINE + 0x10000, BOOT_EBDA },
        { BOOT_KERNEL_MIN, pc->ram_below_4g },
    };
    for (unsigned k = 0; k < G_N_ELEMENTS(free); k++)
        if (addr >= free[k].start && addr <= free[k].end && size <= free[k].end - addr)
            return true;
    return false;
}

/* Remembers a piece to load after checking that there is RAM for it. */
static bool add_load(struct pc *pc, struct boot_image *b, struct segment_load s, GError **err)
{
    if (s.memory_size == 0)
        return true;
    if (s.file_size > s.memory_size)
        return fail(err, "a part of it has more bytes in the file than in memory");
    if (!loadable(pc, s.addr, s.memory_size)) {
        g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_NOSPC,
                    "it wants to be loaded at 0x%" G_GINT64_MODIFIER "x, where the machine has no memory for it",
                    s.addr);
        return false;
    }
    b->kernel_end = MAX(b->kernel_end, s.addr + s.memory_size);
    g_array_append_val(b->segments, s);
    return true;
}

static bool add_elf_loads(struct pc *pc, struct boot_image *b, GError **err)
{
    for (unsigned i = 0; i < program_headers(b); i++) {
        struct program_header p;
        if (!program_header(b, i, &p))
            return fail(err, "the file is damaged: a program header points behind its end");
        if (p.type == PT_LOAD &&
            !add_load(pc, b, (struct segment_load){ p.paddr, p.offset, p.file_size, p.memory_size }, err))
            return false;
    }
    return b->segments->len || fail(err, "the file has nothing to load");
}

static void write_kernel(struct pc *pc, const struct boot_image *b)
{
    static const uint8_t zeros[4096];
    for (guint i = 0; i < b->segments->len; i++) {
        const struct segment_load *s = &g_array_index(b->segments, struct segment_load, i);
        boot_write(pc, s->addr, b->data + s->file_offset, s->file_size);
        for (uint64_t at = s->file_size; at < s->memory_size; at += sizeof zeros)
            boot_write(pc, s->addr + at, zeros, MIN(sizeof zeros, s->memory_size - at));
    }
    boot_write_modules(pc, b);
}

/* Strings of the block, one behind the other; the sizes were checked by strings_fit(). */
static uint32_t write_string(struct pc *pc, uint32_t *at, const char *text)
{
    uint32_t addr = *at;
    boot_write(pc, addr, text, strlen(text) + 1);
    *at += strlen(text) + 1;
    return addr;
}

static bool strings_fit(const struct boot_image *b, GError **err)
{
    size_t total = strlen(b->kernel_name) + strlen(b->cmdline) + 64;
    for (guint i = 0; i < b->modules->len; i++)
        total += strlen(((struct boot_module *)b->modules->pdata[i])->name) + 1;
    if (total > BLOCK_END - BLOCK_STRINGS || b->modules->len > MODULES_MAX)
        return fail(err, "-append and -initrd are too long");
    return true;
}

/* --- PVH ---------------------------------------------------------------------------------------------------------- */

static void start_pvh(struct pc *pc, struct boot_image *b)
{
    uint32_t strings = BOOT_PARAMS + BLOCK_STRINGS;
    struct pc_e820 map[8];
    unsigned n = boot_memory_map(pc, map);
    write_kernel(pc, b);
    for (unsigned i = 0; i < n; i++) {
        uint64_t at = BOOT_PARAMS + BLOCK_MEMMAP + 24 * i;
        boot_write_value(pc, at, map[i].addr, 8);
        boot_write_value(pc, at + 8, map[i].size, 8);
        boot_write_value(pc, at + 16, map[i].type, 8);
    }
    for (guint i = 0; i < b->modules->len; i++) {
        const struct boot_module *module = b->modules->pdata[i];
        uint64_t at = BOOT_PARAMS + BLOCK_MODULES + 32 * i;
        boot_write_value(pc, at, module->addr, 8);
        boot_write_value(pc, at + 8, g_mapped_file_get_length(module->file), 8);
        boot_write_value(pc, at + 16, write_string(pc, &strings, module->name), 8);
        boot_write_value(pc, at + 24, 0, 8);
    }
    boot_write_value(pc, BOOT_PARAMS, PVH_MAGIC, 4);
    boot_write_value(pc, BOOT_PARAMS + 4, 1, 8); /* version, flags */
    boot_write_value(pc, BOOT_PARAMS + 12, b->modules->len, 4);
    boot_write_value(pc, BOOT_PARAMS + 16, BOOT_PARAMS + BLOCK_MODULES, 8);
    boot_write_value(pc, BOOT_PARAMS + 24, write_string(pc, &strings, b->cmdline), 8);
    boot_write_value(pc, BOOT_PARAMS + 32, pc->acpi_tables ? BOOT_RSDP : 0, 8);
    boot_write_value(pc, BOOT_PARAMS + 40, BOOT_PARAMS + BLOCK_MEMMAP, 8);
    boot_write_value(pc, BOOT_PARAMS + 48, n, 8);
    boot_enter_32(pc, b->entry);
    boot_cpu(pc)->r[R_RBX] = BOOT_PARAMS;
}

/* --- Multiboot ---------------------------------------------------------------------------------------------------- */

static void start_multiboot(struct pc *pc, struct boot_image *b)
{
    uint32_t strings = BOOT_PARAMS + BLOCK_STRINGS;
    struct pc_e820 map[8];
    unsigned n = boot_memory_map(pc, map);
    write_kernel(pc, b);
    for (unsigned i = 0; i < n; i++) {
        uint64_t at = BOOT_PARAMS + BLOCK_MEMMAP + 24 * i;
        boot_write_value(pc, at, 20, 4); /* bytes that follow */
        boot_write_value(pc, at + 4, map[i].addr, 8);
        boot_write_value(pc, at + 12, map[i].size, 8);
        boot_write_value(pc, at + 20, map[i].type, 4);
    }
    for (guint i = 0; i < b->modules->len; i++) {
        const struct boot_module *module = b->modules->pdata[i];
        uint64_t at = BOOT_PARAMS + BLOCK_MODULES + 16 * i;
        boot_write_value(pc, at, module->addr, 4);
        boot_write_value(pc, at + 4, module->addr + g_mapped_file_get_length(module->file), 4);
        boot_write_value(pc, at + 8, write_string(pc, &strings, module->name), 8);
    }
    uint8_t zeros[116] = { 0 };
    boot_write(pc, BOOT_PARAMS, zeros, sizeof zeros);
    boot_write_value(pc, BOOT_PARAMS, INFO_FLAGS, 4);
    boot_write_value(pc, BOOT_PARAMS + 4, BOOT_EBDA >> 10, 4);
    boot_write_value(pc, BOOT_PARAMS + 8, (pc->ram_below_4g >> 10) - 1024, 4);
    boot_write_value(pc, BOOT_PARAMS + 16, write_string(pc, &strings, b->multiboot_cmdline), 4);
    boot_write_value(pc, BOOT_PARAMS + 20, b->modules->len, 4);
    boot_write_value(pc, BOOT_PARAMS + 24, BOOT_PARAMS + BLOCK_MODULES, 4);
    boot_write_value(pc, BOOT_PARAMS + 44, 24 * n, 4);
    boot_write_value(pc, BOOT_PARAMS + 48, BOOT_PARAMS + BLOCK_MEMMAP, 4);
    boot_write_value(pc, BOOT_PARAMS + 64, write_string(pc, &strings, "trapeze"), 4);
    boot_enter_32(pc, b->entry);
    boot_cpu(pc)->r[R_RAX] = MULTIBOOT_LOADER_MAGIC;
    boot_cpu(pc)->r[R_RBX] = BOOT_PARAMS;
}

/* Offset of the multiboot header, or -1. */
static int64_t find_multiboot(const struct boot_image *b)
{
    for (uint64_t at = 0; at + 12 <= MIN(b->size, MULTIBOOT_SEARCH); at += 4)
        if (boot_get(b, at, 4) == MULTIBOOT_MAGIC &&
            (uint32_t)(boot_get(b, at, 4) + boot_get(b, at + 4, 4) + boot_get(b, at + 8, 4)) == 0)
            return at;
    return -1;
}

/* Load addresses in the header: header_addr, load_addr, load_end_addr, bss_end_addr, entry_addr. */
static bool add_header_loads(struct pc *pc, struct boot_image *b, uint64_t header, GError **err)
{
    if (header + 32 > b->size)
        return fail(err, "the file is shorter than its multiboot header says");
    uint64_t header_addr = boot_get(b, header + 12, 4), load = boot_get(b, header + 16, 4);
    uint64_t load_end = boot_get(b, header + 20, 4), bss_end = boot_get(b, header + 24, 4);
    if (load > header_addr || header_addr - load > header)
        return fail(err, "the addresses of its multiboot header contradict each other");
    uint64_t offset = header - (header_addr - load);
    uint64_t file_size = load_end ? load_end - load : b->size - offset;
    if ((load_end && load_end < load) || file_size > b->size - offset)
        return fail(err, "the addresses of its multiboot header contradict each other");
    uint64_t memory_size = bss_end > load + file_size ? bss_end - load : file_size;
    b->entry = boot_get(b, header + 28, 4);
    return add_load(pc, b, (struct segment_load){ load, offset, file_size, memory_size }, err);
}

/* -initrd "FILE ARGS,FILE ARGS": a module each; a doubled comma stands for one. */
static bool add_modules(struct boot_image *b, GError **err)
{
    const char *p = b->initrd_name;
    while (p && *p) {
        GString *text = g_string_new(NULL);
        for (; *p && !(*p == ',' && p[1] != ','); p += *p == ',' ? 2 : 1)
            g_string_append_c(text, *p);
        if (*p == ',')
            p++;
        g_autofree char *path = g_strndup(text->str, strcspn(text->str, " "));
        bool ok = boot_add_module(b, path, text->str, err);
        g_string_free(text, TRUE);
        if (!ok)
            return false;
    }
    return true;
}

static bool probe_multiboot(struct pc *pc, struct boot_image *b, uint64_t header, GError **err)
{
    uint32_t flags = boot_get(b, header + 4, 4);
    if (flags & MULTIBOOT_UNKNOWN_REQUIRED)
        return fail(err, "its multiboot header requires what version 1 of the specification does not have");
    if (flags & MULTIBOOT_ADDRESSES) {
        if (!add_header_loads(pc, b, header, err))
            return false;
    } else {
        if (!is_elf(b))
            return fail(err, "its multiboot header has no addresses, and it is no ELF file");
        if (is_64(b))
            return fail(err, "multiboot starts 32-bit kernels, this ELF file is a 64-bit one");
        b->entry = boot_get(b, offsetof(Elf32_Ehdr, e_entry), 4);
        if (!add_elf_loads(pc, b, err))
            return false;
    }
    b->multiboot_cmdline = g_strdup_printf("%s %s", b->kernel_name, b->cmdline);
    b->start = start_multiboot;
    return add_modules(b, err);
}

static bool probe_pvh(struct pc *pc, struct boot_image *b, GError **err)
{
    b->start = start_pvh;
    return add_elf_loads(pc, b, err) && (!b->initrd_name || boot_add_module(b, b->initrd_name, b->initrd_name, err));
}

bool elf_boot_probe(struct pc *pc, struct boot_image *b, GError **err)
{
    int64_t header = find_multiboot(b);
    b->entry = is_elf(b) && header < 0 ? pvh_entry(b) : 0;
    if (header < 0 && !b->entry)
        return false;
    b->segments = g_array_new(FALSE, FALSE, sizeof(struct segment_load));
    if (header >= 0 ? probe_multiboot(pc, b, header, err) : probe_pvh(pc, b, err)) {
        if (strings_fit(b, err))
            boot_place_modules(pc, b, UINT32_MAX, err);
    }
    return true;
}
