/* Fuzz target: options of character back ends, and what a telnet client may send. */
#include "hw/backend/chr_int.h"
#include "hw/backend/chr_telnet.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *text = g_strndup((const char *)data, size);
    struct chr_options *o = chr_options_parse(text);
    bool flag = false, is_break = false;
    uint64_t number = 0;
    struct telnet t = {0};

    chr_option_bool(o, "server", &flag, NULL);
    chr_option_number(o, "port", 65535, &number, NULL);
    g_assert(number <= 65535);
    chr_options_all_used(o, NULL);
    chr_options_free(o);
    for (size_t done = 0; done < size;) {
        size_t n = MIN(size - done, 7);
        uint8_t buf[7];
        memcpy(buf, data + done, n);
        g_assert(telnet_filter(&t, buf, n, &is_break) <= n);
        done += n;
    }
    return 0;
}
