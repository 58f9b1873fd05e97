/* For tests of IDE drives: a PIIX3 IDE function on a bare machine, images of a test's own, commands as a driver gives them. */
#ifndef TESTS_LIB_IDE_TEST_H
#define TESTS_LIB_IDE_TEST_H

#include "hw/disk/piix3_ide.h"
#include "tests/lib/device_test.h"

#define IDE_TEST_MASTER 0xc000 /* BAR4 */

struct ide_test {
    struct machine *m;
    struct piix3_ide *ide;
    struct test_line irq[2];
    struct test_image image[4];
};

/* RAM of 1 MiB, ports enabled, no drives. */
void ide_test_begin(struct ide_test *t);
void ide_test_enable(struct ide_test *t); /* ports and bus masters, after a reset */
void ide_test_end(struct ide_test *t);
/* A drive at channel n / 2, unit n % 2 on a new file of `size` bytes (0: without a medium); sector i begins with i, 32 bits. */
struct ata_drive *ide_test_add(struct ide_test *t, unsigned n, bool cd, uint64_t size, const char *drive_options);

/* Runs the loop until no request is under way at that drive. */
void ide_test_wait(struct ata_drive *d);
/* Registers of the first channel; `lba` in its 28-bit form goes with unit `unit`. */
void ide_test_setup(struct ide_test *t, unsigned unit, uint32_t lba, uint8_t count);
/* Gives the command and waits; the status. */
uint8_t ide_test_command(struct ide_test *t, struct ata_drive *d, uint8_t command);
/* Words from and to the data port. */
void ide_test_in(struct ide_test *t, void *buf, unsigned bytes);
void ide_test_out(struct ide_test *t, const void *buf, unsigned bytes);
/* A packet command with a byte count limit, as far as its first data or end; the status. */
uint8_t ide_test_packet(struct ide_test *t, struct ata_drive *d, uint8_t features, uint16_t limit, const uint8_t cdb[12]);
uint32_t ide_test_sector(struct ide_test *t, unsigned n, uint64_t sector); /* the first 32 bits in the image */

#endif
