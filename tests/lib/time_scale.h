/* How much more time than usual a test may take: TIME_SCALE of the environment, which make check sets for slow builds. */
#ifndef TESTS_LIB_TIME_SCALE_H
#define TESTS_LIB_TIME_SCALE_H

#include <glib.h>
#include <stdlib.h>

static inline unsigned time_scale(void)
{
    const char *scale = g_getenv("TIME_SCALE");
    return scale ? MAX(1, atoi(scale)) : 1;
}

#endif
