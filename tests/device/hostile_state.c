/*
 * Saved state is hostile input: the platform's chips are saved, bits are changed at random, and whatever loading says,
 * the machine must survive being used and reset afterwards. Streams that are cut off must be refused.
 */
#include "hw/backend/chr.h"
#include "hw/char/serial.h"
#include "hw/core/state.h"
#include "hw/display/vga.h"
#include "hw/input/i8042.h"
#include "hw/isa/fw_cfg.h"
#include "hw/isa/i8237.h"
#include "hw/isa/piix3.h"
#include "hw/isa/piix4_pm.h"
#include "hw/pci/i440fx.h"
#include "tests/lib/device_test.h"

#include <string.h>

static struct machine *make(void)
{
    struct machine *m = test_machine_new();
    struct chr *chr;

    test_add_ram(m, 1 << 20);
    struct device *host = test_add(&i440fx_host_type, m->system_bus, NULL);
    struct bus *pci = container_of(host, struct i440fx_host, dev)->bus.bus;
    test_add(&piix3_type, pci, "addr=1.0", "multifunction=on", NULL);
    test_add(&piix4_pm_type, pci, "addr=1.3", "smm-enabled=on", NULL);
    test_add(&vga_pci_type, pci, "addr=2", "vgamem_mb=1", "id=vga", NULL);
    test_add(&fw_cfg_type, m->system_bus, NULL);
    struct bus *isa = bus_find(m->system_bus, "isa", NULL);
    g_assert_true(chr_new_legacy(m, "serial0", "ringbuf", &chr, NULL));
    test_add(&isa_serial_type, isa, "chardev=serial0", NULL);
    test_add(&i8042_type, isa, NULL);
    test_add(&i8237_type, isa, NULL);
    bus_reset(m->system_bus);
    return m;
}

static void use(struct machine *m, GRand *r)
{
    static const uint16_t ports[] = {0x00, 0x60, 0x64, 0x80, 0xb2, 0xc0, 0x1ce, 0x3b0, 0x3c0, 0x3d4, 0x3f8, 0x510,
                                     0x600, 0xcf8, 0xafe0};

    for (unsigned i = 0; i < 200; i++) {
        uint16_t port = ports[g_rand_int_range(r, 0, G_N_ELEMENTS(ports))] + g_rand_int_range(r, 0, 16);
        unsigned size = 1u << g_rand_int_range(r, 0, 3);
        uint64_t addr = 0xa0000 + g_rand_int_range(r, 0, 0x60000);
        address_space_store(&m->ports, port, g_rand_int(r), size);
        address_space_load(&m->ports, port, size);
        address_space_store(&m->memory, addr, g_rand_int(r), size);
        address_space_load(&m->memory, addr, size);
        test_step(m, g_rand_int_range(r, 0, 10000000));
        input_send_key(m, g_rand_int_range(r, 0, 256), g_rand_boolean(r));
        chr_inject(chr_find(m, "serial0"), "x", 1);
    }
    g_free(vga_text_screen(device_find(m->system_bus, "vga")));
}

static GByteArray *save(struct device *d)
{
    GByteArray *out = g_byte_array_new();
    state_save(out, d->type->state, "x", d);
    return out;
}

struct round {
    GRand *random;
    unsigned accepted, refused;
};

static void mutate(struct device *d, void *opaque)
{
    struct round *round = opaque;
    GByteArray *saved;

    if (!d->type->state)
        return;
    saved = save(d);
    guint at = saved->len;
    for (unsigned n = g_rand_int_range(round->random, 1, 8); n; n--) {
        at = at > 64 && g_rand_boolean(round->random) ? saved->len - 1 - g_rand_int_range(round->random, 0, 64)
                                                      : (guint)g_rand_int_range(round->random, 0, saved->len);
        saved->data[at] ^= 1u << g_rand_int_range(round->random, 0, 8);
    }
    struct state_reader in = {.data = saved->data, .size = saved->len};
    if (state_load(&in, d->type->state, "x", d, NULL))
        round->accepted++;
    else
        round->refused++;
    g_byte_array_unref(saved);
}

static void test_mutations(void)
{
    struct machine *m = make();
    struct round round = {.random = g_rand_new_with_seed(17)};

    for (unsigned i = 0; i < 300; i++) {
        use(m, round.random);
        bus_walk(m->system_bus, mutate, &round);
        use(m, round.random);
        bus_reset(m->system_bus);
    }
    g_assert_cmpuint(round.accepted, >, 100);
    g_assert_cmpuint(round.refused, >, 100);
    g_rand_free(round.random);
    test_machine_free(m);
}

static void cut(struct device *d, void *opaque)
{
    GByteArray *saved;

    if (!d->type->state)
        return;
    saved = save(d);
    for (guint len = 0; len < saved->len; len += 1 + saved->len / 50) {
        struct state_reader in = {.data = saved->data, .size = len};
        GError *err = NULL;
        g_assert_false(state_load(&in, d->type->state, "x", d, &err));
        g_assert_nonnull(err);
        g_error_free(err);
    }
    g_byte_array_unref(saved);
}

static void test_cut_off(void)
{
    struct machine *m = make();

    bus_walk(m->system_bus, cut, NULL);
    test_machine_free(m);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/hostile_state/mutations", test_mutations);
    g_test_add_func("/hostile_state/cut_off", test_cut_off);
    return g_test_run();
}
