/* Firmware images: see firmware.h. The directories are those of Debian's seabios, ipxe-qemu and qemu-system-data. */
#include "hw/core/firmware.h"

#include <string.h>

static const char *const firmware_dirs[] = {
    "/usr/share/seabios",
    "/usr/share/qemu",
    "/usr/lib/ipxe/qemu",
};

char *firmware_find(const char *name, GError **err)
{
    if (g_file_test(name, G_FILE_TEST_IS_REGULAR))
        return g_strdup(name);
    if (!strchr(name, '/')) {
        for (unsigned i = 0; i < G_N_ELEMENTS(firmware_dirs); i++) {
            char *path = g_build_filename(firmware_dirs[i], name, NULL);
            if (g_file_test(path, G_FILE_TEST_IS_REGULAR))
                return path;
            g_free(path);
        }
    }
    g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_NOENT,
                "cannot find the firmware image '%s': give its path, or install the package 'seabios'", name);
    return NULL;
}

uint8_t *firmware_load(const char *name, size_t max, size_t *size, GError **err)
{
    char *path = firmware_find(name, err);
    char *data = NULL;
    if (!path)
        return NULL;
    if (g_file_get_contents(path, &data, size, err) && (!*size || *size > max)) {
        g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "firmware image '%s' has %zu bytes: must be 1 to %zu", path, *size, max);
        g_clear_pointer(&data, g_free);
    }
    g_free(path);
    return (uint8_t *)data;
}
