/*
 * The Linux/x86 boot protocol (Documentation/arch/x86/boot.rst): bzImages from protocol 2.02 on, started at their
 * 64-bit entry point where they have one (2.12, XLF_KERNEL_64), else at the 32-bit one. memtest86+ has the same header.
 *
 * Not done: zImages and the real-mode entry.
 */
#include "cpu/cpu.h"
#include "hw/pc/boot.h"

#include <string.h>

/* Offsets in the file's first sectors and in the zero page, which holds the setup header at the same place. */
enum {
    HDR_SETUP_SECTS = 0x1f1,
    HDR_BOOT_FLAG = 0x1fe,
    HDR_JUMP = 0x200,
    HDR_MAGIC = 0x202,
    HDR_VERSION = 0x206,
    HDR_LOADER = 0x210,
    HDR_LOADFLAGS = 0x211,
    HDR_CODE32_START = 0x214,
    HDR_RAMDISK = 0x218,
    HDR_RAMDISK_SIZE = 0x21c,
    HDR_HEAP_END = 0x224,
    HDR_CMDLINE = 0x228,
    HDR_INITRD_MAX = 0x22c,
    HDR_RELOCATABLE = 0x234,
    HDR_XLOADFLAGS = 0x236,
    HDR_CMDLINE_SIZE = 0x238,
    HDR_PREF_ADDRESS = 0x258,
    HDR_INIT_SIZE = 0x260,
    HDR_END = 0x268,

    ZP_EXT_MEM_K = 0x002,
    ZP_VIDEO_PAGE = 0x004,
    ZP_VIDEO_MODE = 0x006,
    ZP_VIDEO_COLS = 0x007,
    ZP_VIDEO_LINES = 0x00e,
    ZP_VIDEO_IS_VGA = 0x00f,
    ZP_VIDEO_POINTS = 0x010,
    ZP_ACPI_RSDP = 0x070,
    ZP_ALT_MEM_K = 0x1e0,
    ZP_E820_COUNT = 0x1e8,
    ZP_E820 = 0x2d0,
    ZP_SIZE = 0x1000,
};

#define LOADED_HIGH 0x01
#define CAN_USE_HEAP 0x80
#define XLF_KERNEL_64 0x0001
#define ENTRY_64 0x200
#define LOADER_UNKNOWN 0xff

static bool refuse(GError **err, const char *sentence)
{
    g_set_error_literal(err, G_FILE_ERROR, G_FILE_ERROR_INVAL, sentence);
    return true; /* it is of this format */
}

/* Where the kernel goes and how much memory it takes until it knows the memory map. */
static bool place_kernel(struct pc *pc, struct boot_image *b, unsigned version, GError **err)
{
    uint64_t payload = b->size - b->payload, init_size = payload;
    b->load_addr = BOOT_KERNEL_MIN;
    if (version >= 0x20a) {
        init_size = MAX(boot_get(b, HDR_INIT_SIZE, 4), payload);
        bool relocatable = boot_get(b, HDR_RELOCATABLE, 1);
        b->load_addr = relocatable ? boot_get(b, HDR_PREF_ADDRESS, 8) : boot_get(b, HDR_CODE32_START, 4);
        b->load_addr = MAX(b->load_addr, BOOT_KERNEL_MIN);
    }
    if (b->load_addr > UINT32_MAX || b->load_addr + init_size > pc->ram_below_4g) {
        g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_NOSPC,
                    "the kernel needs %" G_GUINT64_FORMAT " MiB of memory to start; give more with -m",
                    ((b->load_addr + init_size) >> 20) + 1);
        return false;
    }
    b->kernel_end = b->load_addr + init_size;
    return true;
}

static void write_zero_page(struct pc *pc, struct boot_image *b)
{
    uint8_t zero[ZP_SIZE] = { 0 };
    /* The header ends where the jump at its beginning goes. */
    unsigned header_end = MIN(HDR_MAGIC + boot_get(b, HDR_JUMP + 1, 1), HDR_END + 8);
    memcpy(zero + HDR_SETUP_SECTS, b->data + HDR_SETUP_SECTS, header_end - HDR_SETUP_SECTS);
    zero[HDR_LOADER] = LOADER_UNKNOWN;
    zero[HDR_LOADFLAGS] |= CAN_USE_HEAP;
    struct pc_e820 map[8];
    unsigned n = boot_memory_map(pc, map);
    zero[ZP_E820_COUNT] = n;
    boot_write(pc, BOOT_PARAMS, zero, sizeof zero);

    boot_write_value(pc, BOOT_PARAMS + HDR_CODE32_START, b->load_addr, 4);
    boot_write_value(pc, BOOT_PARAMS + HDR_HEAP_END, 0xfe00, 2);
    boot_write_value(pc, BOOT_PARAMS + HDR_CMDLINE, BOOT_CMDLINE, 4);
    if (b->modules->len) {
        const struct boot_module *initrd = b->modules->pdata[0];
        boot_write_value(pc, BOOT_PARAMS + HDR_RAMDISK, initrd->addr, 4);
        boot_write_value(pc, BOOT_PARAMS + HDR_RAMDISK_SIZE, g_mapped_file_get_length(initrd->file), 4);
    }
    for (unsigned i = 0; i < n; i++) {
        boot_write_value(pc, BOOT_PARAMS + ZP_E820 + 20 * i, map[i].addr, 8);
        boot_write_value(pc, BOOT_PARAMS + ZP_E820 + 20 * i + 8, map[i].size, 8);
        boot_write_value(pc, BOOT_PARAMS + ZP_E820 + 20 * i + 16, map[i].type, 4);
    }
    uint64_t ext_k = (pc->ram_below_4g >> 10) - 1024;
    boot_write_value(pc, BOOT_PARAMS + ZP_EXT_MEM_K, MIN(ext_k, 0xfc00), 2);
    boot_write_value(pc, BOOT_PARAMS + ZP_ALT_MEM_K, ext_k, 4);
    if (pc->acpi_tables)
        boot_write_value(pc, BOOT_PARAMS + ZP_ACPI_RSDP, BOOT_RSDP, 8);
    if (pc->vga) {
        boot_write_value(pc, BOOT_PARAMS + ZP_VIDEO_MODE, 3, 1);
        boot_write_value(pc, BOOT_PARAMS + ZP_VIDEO_COLS, 80, 1);
        boot_write_value(pc, BOOT_PARAMS + ZP_VIDEO_LINES, 25, 1);
        boot_write_value(pc, BOOT_PARAMS + ZP_VIDEO_IS_VGA, 1, 1);
        boot_write_value(pc, BOOT_PARAMS + ZP_VIDEO_POINTS, 16, 2);
    }
}

static void start(struct pc *pc, struct boot_image *b)
{
    write_zero_page(pc, b);
    boot_write(pc, BOOT_CMDLINE, b->cmdline, strlen(b->cmdline) + 1);
    boot_write(pc, b->load_addr, b->data + b->payload, b->size - b->payload);
    boot_write_modules(pc, b);
    if (b->entry_64)
        boot_enter_64(pc, b->entry);
    else
        boot_enter_32(pc, b->entry);
    boot_cpu(pc)->r[R_RSI] = BOOT_PARAMS;
}

bool linux_boot_probe(struct pc *pc, struct boot_image *b, GError **err)
{
    if (b->size < 0x400 || boot_get(b, HDR_BOOT_FLAG, 2) != 0xaa55)
        return false;
    if (memcmp(b->data + HDR_MAGIC, "HdrS", 4) != 0)
        return false;
    unsigned version = boot_get(b, HDR_VERSION, 2);
    if (version < 0x202)
        return refuse(err,
                      "its boot protocol is older than 2.02 (Linux 2.4): such kernels need a boot loader and firmware");
    if (!(boot_get(b, HDR_LOADFLAGS, 1) & LOADED_HIGH))
        return refuse(err, "a zImage, which loads below 1 MiB; such kernels need a boot loader and firmware");
    unsigned sects = boot_get(b, HDR_SETUP_SECTS, 1);
    b->payload = ((sects ? sects : 4) + 1) * 512;
    if (b->payload + ENTRY_64 >= b->size)
        return refuse(err, "the file is shorter than its header says");
    size_t cmdline_max = version >= 0x206 ? boot_get(b, HDR_CMDLINE_SIZE, 4) : 255;
    if (strlen(b->cmdline) > MIN(cmdline_max, 0xffff)) {
        g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_INVAL, "-append has %zu characters; this kernel takes %zu",
                    strlen(b->cmdline), cmdline_max);
        return true;
    }
    if (!place_kernel(pc, b, version, err))
        return true;
    b->entry_64 = version >= 0x20c && boot_get(b, HDR_XLOADFLAGS, 2) & XLF_KERNEL_64;
    b->entry = b->load_addr + (b->entry_64 ? ENTRY_64 : 0);
    uint64_t initrd_max = version >= 0x203 ? boot_get(b, HDR_INITRD_MAX, 4) : 0x37ffffff;
    b->start = start;
    if (!b->initrd_name || boot_add_module(b, b->initrd_name, b->initrd_name, err))
        boot_place_modules(pc, b, initrd_max + 1, err);
    return true;
}
