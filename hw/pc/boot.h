/*
 * Starting a kernel without firmware: what the formats (linux_boot.c, elf_boot.c) and boot.c share. VM lock, vCPUs
 * paused.
 */
#ifndef HW_PC_BOOT_H
#define HW_PC_BOOT_H

#include "hw/pc/board.h"

#include <glib.h>

/* Where things are put below 640 KiB; firmware would use the same memory, and kernels know it is free. */
#define BOOT_GDT 0x1000
#define BOOT_PAGE_TABLES 0x2000 /* 6 pages */
/* A multiboot or PVH kernel may lie from here on: their stack is the kernel's own affair. */
#define BOOT_LOW_MIN 0x8000
#define BOOT_STACK 0x9000
#define BOOT_PARAMS 0x10000  /* zero page, or the information block of other protocols: up to 64 KiB */
#define BOOT_CMDLINE 0x20000 /* up to 64 KiB */
#define BOOT_EBDA 0x9fc00
#define BOOT_RSDP 0xe0000
#define BOOT_ACPI 0xe0040
#define BOOT_SMBIOS 0xf0000
#define BOOT_SMBIOS_TABLES 0xf0020
#define BOOT_KERNEL_MIN 0x100000

#define BOOT_CS 0x10
#define BOOT_DS 0x18

/* A file of -initrd: one for Linux, any number for multiboot. */
struct boot_module {
    GMappedFile *file;
    char *name; /* with its arguments, as a multiboot kernel gets them */
    uint64_t addr;
};

struct boot_image {
    GMappedFile *kernel;
    GPtrArray *modules; /* struct boot_module *, owned */
    const char *kernel_name, *initrd_name; /* initrd_name may be NULL. Only until boot_image_load() returns */
    char *cmdline;
    const uint8_t *data; /* of the kernel file */
    size_t size;
    void (*start)(struct pc *pc, struct boot_image *b);

    /* Set by the format when it is recognized. */
    uint64_t load_addr, entry; /* guest-physical */
    size_t payload;            /* offset in the file */
    bool entry_64;
    GArray *segments;          /* struct segment_load, of ELF and multiboot files; NULL for others */
    char *multiboot_cmdline;
    uint32_t kernel_end;       /* first byte behind what the kernel occupies at the start */
};

/* True if the file is of that format; *err is set if it is but cannot be started. */
bool linux_boot_probe(struct pc *pc, struct boot_image *b, GError **err);
bool elf_boot_probe(struct pc *pc, struct boot_image *b, GError **err); /* PVH, multiboot */

/* A little-endian number of the kernel file, which the caller knows to reach that far. */
uint64_t boot_get(const struct boot_image *b, uint64_t offset, unsigned size);
/* The memory map that firmware would tell, at most 8 entries. */
unsigned boot_memory_map(const struct pc *pc, struct pc_e820 map[8]);
void boot_write(struct pc *pc, uint64_t addr, const void *data, size_t len);
void boot_write_value(struct pc *pc, uint64_t addr, uint64_t value, unsigned size);
/* The boot processor in protected mode without paging, or in 64-bit mode with the first 4 GiB mapped one to one. */
void boot_enter_32(struct pc *pc, uint32_t entry);
void boot_enter_64(struct pc *pc, uint64_t entry);
struct cpu *boot_cpu(struct pc *pc);
/* Opens a file to be given to the kernel. */
bool boot_add_module(struct boot_image *b, const char *path, const char *name, GError **err);
/* Finds room for the modules below `max` and at or above the kernel's end, as high as possible. */
bool boot_place_modules(struct pc *pc, struct boot_image *b, uint64_t max, GError **err);
void boot_write_modules(struct pc *pc, const struct boot_image *b);

#endif
