/*
 * SMBIOS tables (DMTF DSP0134, version 2.8): what -smbios sets, and the tables made of it.
 */
#ifndef HW_PC_SMBIOS_H
#define HW_PC_SMBIOS_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* The strings of -smbios type=N,...; NULL: our default, or none. Owned; smbios_config_clear() frees them. */
struct smbios_config {
    char *bios_vendor, *bios_version, *bios_date;
    bool bios_release_set;
    uint8_t bios_major, bios_minor;
    bool uefi;
    char *manufacturer, *product, *version, *serial, *sku, *family;
    bool uuid_set;
    uint8_t uuid[16]; /* in the order it is written */
    char *board_manufacturer, *board_product, *board_version, *board_serial, *board_asset, *board_location;
    char *chassis_manufacturer, *chassis_version, *chassis_serial, *chassis_asset, *chassis_sku;
    char *cpu_socket, *cpu_manufacturer, *cpu_version, *cpu_serial, *cpu_asset, *cpu_part;
    uint64_t cpu_max_speed, cpu_current_speed; /* MHz */
    char *oem_strings[16];
    unsigned oem_string_count;
    char *memory_locator, *memory_bank, *memory_manufacturer, *memory_serial, *memory_asset, *memory_part;
    uint64_t memory_speed; /* MT/s */
};

void smbios_config_clear(struct smbios_config *c);

struct smbios_input {
    const struct smbios_config *config;
    uint64_t ram_size, ram_below_4g; /* bytes */
    unsigned sockets, cores, threads;
    uint32_t cpuid_signature, cpuid_features; /* leaf 1 EAX and EDX */
};

/* The structures, type 0 first, 127 last. */
GByteArray *smbios_tables(const struct smbios_input *in, uint16_t *count, uint16_t *largest);
#define SMBIOS_ENTRY_SIZE 31
/* The 2.x entry point for tables of that size at that address. */
void smbios_entry_point(uint8_t out[SMBIOS_ENTRY_SIZE], uint32_t address, uint16_t size, uint16_t count,
                        uint16_t largest);

#endif
