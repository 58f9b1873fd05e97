/* For tests of block back ends: files of a test's own, requests that are waited for, and a model of a disk's content. */
#ifndef TESTS_LIB_BLK_TEST_H
#define TESTS_LIB_BLK_TEST_H

#include "hw/backend/blk_int.h"
#include "hw/core/device.h"

#include <glib.h>

/* A directory that goes with the test, and names in it (kept until then). */
void blk_test_begin(void);
void blk_test_end(void);
const char *blk_test_path(const char *name);

/* A drive of machine-less making on the default loop; any error fails the test. */
struct blk *blk_test_open(const char *options);
/* Submits, runs the loop until it is done, and gives what came out. */
int blk_test_run(struct blk *b, enum blk_op op, unsigned flags, uint64_t offset, void *buf, size_t len);
/* The command must end with 0 (or, `fails`, must not); its output in *out if that is not NULL. */
void blk_test_command(bool fails, char **out, const char *fmt, ...) G_GNUC_PRINTF(3, 4);

#endif
