/*
 * fw_cfg: how the machine hands data to firmware and kernels, as QEMU documents it in docs/specs/fw_cfg.
 *
 * The board adds items before the guest runs; data is copied unless said otherwise. Numbers are little-endian items.
 * All under the VM lock.
 */
#ifndef HW_ISA_FW_CFG_H
#define HW_ISA_FW_CFG_H

#include "hw/core/device.h"

struct fw_cfg;

enum fw_cfg_key {
    FW_CFG_SIGNATURE = 0x00,
    FW_CFG_ID = 0x01,
    FW_CFG_UUID = 0x02,
    FW_CFG_RAM_SIZE = 0x03,
    FW_CFG_NOGRAPHIC = 0x04,
    FW_CFG_NB_CPUS = 0x05,
    FW_CFG_MACHINE_ID = 0x06,
    FW_CFG_KERNEL_ADDR = 0x07,
    FW_CFG_KERNEL_SIZE = 0x08,
    FW_CFG_KERNEL_CMDLINE = 0x09,
    FW_CFG_INITRD_ADDR = 0x0a,
    FW_CFG_INITRD_SIZE = 0x0b,
    FW_CFG_BOOT_DEVICE = 0x0c,
    FW_CFG_NUMA = 0x0d,
    FW_CFG_BOOT_MENU = 0x0e,
    FW_CFG_MAX_CPUS = 0x0f,
    FW_CFG_KERNEL_ENTRY = 0x10,
    FW_CFG_KERNEL_DATA = 0x11,
    FW_CFG_INITRD_DATA = 0x12,
    FW_CFG_CMDLINE_ADDR = 0x13,
    FW_CFG_CMDLINE_SIZE = 0x14,
    FW_CFG_CMDLINE_DATA = 0x15,
    FW_CFG_SETUP_ADDR = 0x16,
    FW_CFG_SETUP_SIZE = 0x17,
    FW_CFG_SETUP_DATA = 0x18,
    FW_CFG_FILE_DIR = 0x19,
    FW_CFG_FILE_FIRST = 0x20,
    FW_CFG_ARCH_LOCAL = 0x8000,
    FW_CFG_ACPI_TABLES = 0x8000,
    FW_CFG_SMBIOS_ENTRIES = 0x8001,
    FW_CFG_IRQ0_OVERRIDE = 0x8002,
    FW_CFG_E820_TABLE = 0x8003,
    FW_CFG_HPET = 0x8004,
};

#define FW_CFG_FILE_MAX 256 /* files at most */
#define FW_CFG_NAME_MAX 56  /* bytes of a file's name, with the terminating zero */

extern const struct device_type fw_cfg_type; /* "fw_cfg_io", bus "system" */

/* Adding a key twice replaces the item. */
void fw_cfg_add_bytes(struct fw_cfg *f, unsigned key, const void *data, size_t size);
void fw_cfg_add_string(struct fw_cfg *f, unsigned key, const char *value); /* with its terminating zero */
void fw_cfg_add_u16(struct fw_cfg *f, unsigned key, uint16_t value);
void fw_cfg_add_u32(struct fw_cfg *f, unsigned key, uint32_t value);
void fw_cfg_add_u64(struct fw_cfg *f, unsigned key, uint64_t value);
/* The item reads from `data` itself, which must stay until the device is freed: for kernels and initrds. */
void fw_cfg_add_lent(struct fw_cfg *f, unsigned key, const void *data, size_t size);

/*
 * Named files. The directory is sorted by name and keys follow its order, so add files before the guest runs. False:
 * the name is too long or taken, or there are too many.
 */
bool fw_cfg_add_file(struct fw_cfg *f, const char *name, const void *data, size_t size, GError **err);
/*
 * The same with callbacks: `select` (may be NULL) is called when the guest selects the file, before it reads; `write`
 * (NULL: read-only) after a DMA write changed [start, start+len) of the contents, which fw_cfg_file() returns.
 */
bool fw_cfg_add_file_callback(struct fw_cfg *f, const char *name, const void *data, size_t size,
                              void (*select)(void *opaque),
                              void (*write)(void *opaque, uint32_t start, uint32_t len), void *opaque, GError **err);
/* Replaces a file's contents (a select callback does this); the size may change. */
void fw_cfg_set_file(struct fw_cfg *f, const char *name, const void *data, size_t size);
/* The contents, or NULL if there is no such file. Lent. */
const uint8_t *fw_cfg_file(const struct fw_cfg *f, const char *name, size_t *size);

#endif
