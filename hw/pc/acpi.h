/*
 * ACPI tables of the board (ACPI specification 6.4): made once, then linked either by firmware, through the table
 * loader of fw_cfg, or by us for a kernel that boots without firmware. Both follow the same list of commands.
 */
#ifndef HW_PC_ACPI_H
#define HW_PC_ACPI_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct acpi_tables {
    GByteArray *rsdp;   /* "etc/acpi/rsdp" */
    GByteArray *tables; /* "etc/acpi/tables" */
    GByteArray *loader; /* "etc/table-loader" */
};

/* What the tables tell beside what they always tell. */
struct acpi_input {
    unsigned cpus;
    const uint32_t *apic_ids; /* by processor */
    uint64_t pci_hole_start;  /* first byte behind low RAM */
    unsigned serial_ports;    /* bit per COM port that is there */
    bool hpet, i8042, vga;
};

struct acpi_tables *acpi_tables_new(const struct acpi_input *in);
void acpi_tables_free(struct acpi_tables *t);
/*
 * Copies of both parts, linked for tables at that address. Caller frees them. The tables need an alignment of 64 bytes.
 */
void acpi_tables_link(const struct acpi_tables *t, uint32_t tables_addr, GByteArray **rsdp,
                      GByteArray **tables);

#endif
