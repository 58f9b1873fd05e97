/*
 * SMBIOS 2.8 structures (DMTF DSP0134): 0 firmware, 1 system, 2 baseboard (only if asked for), 3 chassis, 4 processors,
 * 11 OEM strings, 16 and 17 memory, 19 its addresses, 32 boot, 127 end.
 *
 * No lock: pure functions.
 */
#include "hw/pc/smbios.h"

#include "config.h"

#include <stdio.h>
#include <string.h>

#define MEGABYTE (UINT64_C(1) << 20)
#define GIGABYTE (UINT64_C(1) << 30)
#define DIMM_MAX (16 * GIGABYTE)

enum {
    HANDLE_BIOS = 0x000,
    HANDLE_SYSTEM = 0x100,
    HANDLE_BASEBOARD = 0x200,
    HANDLE_CHASSIS = 0x300,
    HANDLE_PROCESSOR = 0x400,
    HANDLE_OEM = 0xe00,
    HANDLE_MEMORY_ARRAY = 0x1000,
    HANDLE_MEMORY = 0x1100,
    HANDLE_MAPPED = 0x1300,
    HANDLE_BOOT = 0x2000,
    HANDLE_END = 0x7f00,
};

void smbios_config_clear(struct smbios_config *c)
{
    char **strings[] = {
        &c->bios_vendor, &c->bios_version, &c->bios_date, &c->manufacturer, &c->product, &c->version, &c->serial,
        &c->sku, &c->family, &c->board_manufacturer, &c->board_product, &c->board_version, &c->board_serial,
        &c->board_asset, &c->board_location, &c->chassis_manufacturer, &c->chassis_version, &c->chassis_serial,
        &c->chassis_asset, &c->chassis_sku, &c->cpu_socket, &c->cpu_manufacturer, &c->cpu_version, &c->cpu_serial,
        &c->cpu_asset, &c->cpu_part, &c->memory_locator, &c->memory_bank, &c->memory_manufacturer, &c->memory_serial,
        &c->memory_asset, &c->memory_part,
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(strings); i++)
        g_clear_pointer(strings[i], g_free);
    for (unsigned i = 0; i < c->oem_string_count; i++)
        g_free(c->oem_strings[i]);
    c->oem_string_count = 0;
}

/* A structure under way: its formatted part, then its strings. */
struct builder {
    GByteArray *out;
    guint start;
    GPtrArray *strings;
    uint16_t count, largest;
};

static void put(struct builder *b, uint64_t value, unsigned size)
{
    for (unsigned i = 0; i < size; i++) {
        uint8_t byte = value >> (8 * i);
        g_byte_array_append(b->out, &byte, 1);
    }
}

static void begin(struct builder *b, uint8_t type, uint16_t handle)
{
    b->start = b->out->len;
    g_ptr_array_set_size(b->strings, 0);
    put(b, type, 1);
    put(b, 0, 1);
    put(b, handle, 2);
}

/* The number of a string, 0 for none. */
static void put_string(struct builder *b, const char *text)
{
    if (text && *text)
        g_ptr_array_add(b->strings, (gpointer)text);
    put(b, text && *text ? b->strings->len : 0, 1);
}

static void end(struct builder *b)
{
    b->out->data[b->start + 1] = b->out->len - b->start;
    for (guint i = 0; i < b->strings->len; i++) {
        const char *s = b->strings->pdata[i];
        g_byte_array_append(b->out, (const guint8 *)s, strlen(s) + 1);
    }
    put(b, 0, b->strings->len ? 1 : 2);
    b->count++;
    b->largest = MAX(b->largest, b->out->len - b->start);
}

static const char *or(const char *text, const char *initial)
{
    return text ? text : initial;
}

static void make_bios(struct builder *b, const struct smbios_config *c)
{
    begin(b, 0, HANDLE_BIOS);
    put_string(b, or(c->bios_vendor, "Trapeze"));
    put_string(b, or(c->bios_version, TRAPEZE_VERSION));
    put(b, 0xe800, 2); /* segment of its low part */
    put_string(b, or(c->bios_date, "01/01/2026"));
    put(b, 0, 1);              /* ROM of 64 KiB */
    put(b, UINT64_C(1) << 3, 8); /* characteristics are not told */
    put(b, 0, 1);
    put(b, 0x14 | (c->uefi ? 8 : 0), 1); /* virtual machine, targeted content distribution */
    put(b, c->bios_release_set ? c->bios_major : 0, 1);
    put(b, c->bios_release_set ? c->bios_minor : 0, 1);
    put(b, 0xffff, 2); /* no embedded controller */
    end(b);
}

static void make_system(struct builder *b, const struct smbios_config *c)
{
    begin(b, 1, HANDLE_SYSTEM);
    put_string(b, or(c->manufacturer, "Trapeze"));
    put_string(b, or(c->product, "Standard PC (i440FX + PIIX, 1996)"));
    put_string(b, or(c->version, "pc-i440fx-7.2"));
    put_string(b, c->serial);
    /* The first three fields of a UUID are stored little-endian. */
    static const uint8_t order[16] = { 3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15 };
    for (unsigned i = 0; i < 16; i++)
        put(b, c->uuid_set ? c->uuid[order[i]] : 0, 1);
    put(b, 6, 1); /* wake-up: power switch */
    put_string(b, c->sku);
    put_string(b, c->family);
    end(b);
}

static void make_baseboard(struct builder *b, const struct smbios_config *c)
{
    if (!c->board_manufacturer && !c->board_product && !c->board_version && !c->board_serial && !c->board_asset &&
        !c->board_location)
        return;
    begin(b, 2, HANDLE_BASEBOARD);
    put_string(b, or(c->board_manufacturer, "Trapeze"));
    put_string(b, c->board_product);
    put_string(b, c->board_version);
    put_string(b, c->board_serial);
    put_string(b, c->board_asset);
    put(b, 1, 1); /* hosting board */
    put_string(b, c->board_location);
    put(b, HANDLE_CHASSIS, 2);
    put(b, 0x0a, 1); /* motherboard */
    put(b, 0, 1);
    end(b);
}

static void make_chassis(struct builder *b, const struct smbios_config *c)
{
    begin(b, 3, HANDLE_CHASSIS);
    put_string(b, or(c->chassis_manufacturer, "Trapeze"));
    put(b, 1, 1); /* other */
    put_string(b, or(c->chassis_version, "pc-i440fx-7.2"));
    put_string(b, c->chassis_serial);
    put_string(b, c->chassis_asset);
    put(b, 3, 1); /* boot-up, power supply, thermal: safe; security unknown */
    put(b, 3, 1);
    put(b, 3, 1);
    put(b, 2, 1);
    put(b, 0, 4);
    put(b, 0, 4); /* height, power cords, contained elements */
    put_string(b, c->chassis_sku);
    end(b);
}

static void make_processor(struct builder *b, const struct smbios_input *in, unsigned socket)
{
    const struct smbios_config *c = in->config;
    unsigned cores = in->cores, threads = in->cores * in->threads;
    g_autofree char *designation = g_strdup_printf("%s %u", or(c->cpu_socket, "CPU"), socket);
    begin(b, 4, HANDLE_PROCESSOR + socket);
    put_string(b, designation);
    put(b, 3, 1); /* central processor */
    put(b, 1, 1); /* family: other */
    put_string(b, or(c->cpu_manufacturer, "Trapeze"));
    put(b, in->cpuid_signature, 4);
    put(b, in->cpuid_features, 4);
    put_string(b, or(c->cpu_version, "pc-i440fx-7.2"));
    put(b, 0, 1); /* voltage */
    put(b, 0, 2); /* external clock */
    put(b, c->cpu_max_speed ? c->cpu_max_speed : 2000, 2);
    put(b, c->cpu_current_speed ? c->cpu_current_speed : 2000, 2);
    put(b, 0x41, 1); /* populated, enabled */
    put(b, 1, 1);    /* upgrade: other */
    put(b, 0xffff, 2);
    put(b, 0xffff, 2);
    put(b, 0xffff, 2);
    put_string(b, c->cpu_serial);
    put_string(b, c->cpu_asset);
    put_string(b, c->cpu_part);
    put(b, MIN(cores, 255), 1);
    put(b, MIN(cores, 255), 1);
    put(b, MIN(threads, 255), 1);
    put(b, 2, 2); /* characteristics unknown */
    put(b, 1, 2); /* family 2: other */
    put(b, cores, 2);
    put(b, cores, 2);
    put(b, threads, 2);
    end(b);
}

static void make_oem(struct builder *b, const struct smbios_config *c)
{
    if (!c->oem_string_count)
        return;
    begin(b, 11, HANDLE_OEM);
    put(b, c->oem_string_count, 1);
    for (unsigned i = 0; i < c->oem_string_count; i++)
        g_ptr_array_add(b->strings, *c->oem_strings[i] ? c->oem_strings[i] : (gpointer) " ");
    end(b);
}

static void make_memory_device(struct builder *b, const struct smbios_config *c, unsigned n, uint64_t size)
{
    g_autofree char *locator = g_strdup_printf("%s %u", or(c->memory_locator, "DIMM"), n);
    uint64_t megabytes = size / MEGABYTE;
    begin(b, 17, HANDLE_MEMORY + n);
    put(b, HANDLE_MEMORY_ARRAY, 2);
    put(b, 0xfffe, 2); /* no error information */
    put(b, 0xffff, 2); /* widths unknown */
    put(b, 0xffff, 2);
    put(b, MIN(megabytes, 0x7fff), 2);
    put(b, 9, 1); /* DIMM */
    put(b, 0, 1);
    put_string(b, locator);
    put_string(b, c->memory_bank);
    put(b, 7, 1); /* RAM */
    put(b, 2, 2); /* detail: other */
    put(b, c->memory_speed, 2);
    put_string(b, or(c->memory_manufacturer, "Trapeze"));
    put_string(b, c->memory_serial);
    put_string(b, c->memory_asset);
    put_string(b, c->memory_part);
    put(b, 0, 1);                                     /* rank unknown */
    put(b, megabytes >= 0x7fff ? megabytes : 0, 4);   /* extended size */
    put(b, c->memory_speed, 2);
    put(b, 0, 6); /* voltages unknown */
    end(b);
}

static void make_mapped_address(struct builder *b, unsigned n, uint64_t start, uint64_t size, unsigned dimms)
{
    uint64_t first = start / 1024, last = (start + size) / 1024 - 1;
    bool wide = last >= UINT32_MAX;
    begin(b, 19, HANDLE_MAPPED + n);
    put(b, wide ? UINT32_MAX : first, 4);
    put(b, wide ? UINT32_MAX : last, 4);
    put(b, HANDLE_MEMORY_ARRAY, 2);
    put(b, dimms, 1);
    put(b, wide ? start : 0, 8);
    put(b, wide ? start + size - 1 : 0, 8);
    end(b);
}

static void make_memory(struct builder *b, const struct smbios_input *in)
{
    unsigned dimms = (in->ram_size + DIMM_MAX - 1) / DIMM_MAX;
    bool large = in->ram_size / 1024 >= 0x80000000;
    begin(b, 16, HANDLE_MEMORY_ARRAY);
    put(b, 1, 1); /* location: other */
    put(b, 3, 1); /* system memory */
    put(b, 6, 1); /* multi-bit ECC */
    put(b, large ? 0x80000000 : in->ram_size / 1024, 4);
    put(b, 0xfffe, 2);
    put(b, dimms, 2);
    put(b, large ? in->ram_size : 0, 8);
    end(b);
    for (unsigned i = 0; i < dimms; i++)
        make_memory_device(b, in->config, i, MIN(in->ram_size - i * DIMM_MAX, DIMM_MAX));
    make_mapped_address(b, 0, 0, in->ram_below_4g, dimms);
    if (in->ram_size > in->ram_below_4g)
        make_mapped_address(b, 1, 4 * GIGABYTE, in->ram_size - in->ram_below_4g, dimms);
}

GByteArray *smbios_tables(const struct smbios_input *in, uint16_t *count, uint16_t *largest)
{
    struct builder b = { .out = g_byte_array_new(), .strings = g_ptr_array_new() };
    make_bios(&b, in->config);
    make_system(&b, in->config);
    make_baseboard(&b, in->config);
    make_chassis(&b, in->config);
    for (unsigned i = 0; i < in->sockets; i++)
        make_processor(&b, in, i);
    make_oem(&b, in->config);
    make_memory(&b, in);
    begin(&b, 32, HANDLE_BOOT);
    put(&b, 0, 7); /* no errors */
    end(&b);
    begin(&b, 127, HANDLE_END);
    end(&b);
    g_ptr_array_free(b.strings, TRUE);
    *count = b.count;
    *largest = b.largest;
    return b.out;
}

static uint8_t checksum(const uint8_t *p, unsigned len)
{
    uint8_t sum = 0;
    while (len--)
        sum += *p++;
    return -sum;
}

void smbios_entry_point(uint8_t out[SMBIOS_ENTRY_SIZE], uint32_t address, uint16_t size, uint16_t count,
                        uint16_t largest)
{
    memset(out, 0, SMBIOS_ENTRY_SIZE);
    memcpy(out, "_SM_", 4);
    out[5] = SMBIOS_ENTRY_SIZE;
    out[6] = 2; /* version 2.8 */
    out[7] = 8;
    out[8] = largest & 0xff;
    out[9] = largest >> 8;
    memcpy(out + 16, "_DMI_", 5);
    out[22] = size & 0xff;
    out[23] = size >> 8;
    for (unsigned i = 0; i < 4; i++)
        out[24 + i] = address >> (8 * i);
    out[28] = count & 0xff;
    out[29] = count >> 8;
    out[30] = 0x28; /* BCD revision */
    out[21] = checksum(out + 16, 15);
    out[4] = checksum(out, SMBIOS_ENTRY_SIZE);
}
