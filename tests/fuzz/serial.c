/* Fuzz target: 16550A with bytes, breaks and room coming from the host. */
#include "hw/backend/chr.h"
#include "hw/char/serial.h"
#include "tests/lib/device_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void host(struct device_fuzz *f, uint32_t random)
{
    struct chr *chr = f->opaque;
    uint8_t buf[32];

    for (unsigned i = 0; i < sizeof(buf); i++)
        buf[i] = random >> (i % 24);
    if (random & 0x100)
        chr_inject(chr, (const uint8_t[]){1, 'b'}, 2); /* the multiplexer makes a break of it */
    chr_inject(chr, buf, random % sizeof(buf));
    chr_ringbuf_read(chr, buf, sizeof(buf));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct device_fuzz f;
    device_fuzz_init(&f);
    f.opaque = chr_new_chardev(f.m, "ringbuf,id=serial0,mux=on,size=64", NULL);
    f.chip = test_add(&isa_serial_type, test_add_isa(f.m), "chardev=serial0", NULL);
    f.poke = host;
    f.ports = true;
    f.base = 0x3f8;
    f.size = 8;
    device_fuzz_run(&f, data, size);
    return 0;
}
