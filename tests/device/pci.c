/*
 * PCI: configuration mechanism #1, write masks, BAR sizing and mapping, ROM BAR, slots, interrupt routing to ISA irqs.
 */
#include "hw/isa/piix3.h"
#include "hw/pci/i440fx.h"
#include "tests/lib/device_test.h"

#include <string.h>
#include <unistd.h>

/* A function with an I/O BAR, a 32-bit and a 64-bit memory BAR and INTB#. */
struct toy {
    struct pci_device pci;
    uint8_t io[32];
};

static uint64_t toy_read(void *opaque, uint64_t offset, unsigned size)
{
    return 0x40 + offset;
}

static void toy_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct toy *t = opaque;
    t->io[offset & 31] = value;
}

static const struct mem_ops toy_ops = {.read = toy_read, .write = toy_write, .impl = {1, 1, false}};

static bool toy_realize(struct device *d, GError **err)
{
    static const struct pci_info info = {
        .vendor_id = 0x1234,
        .device_id = 0x5678,
        .class_code = 0xff0000,
        .interrupt_pin = 2,
        .bars = {[0] = {PCI_BAR_IO, 32, "toy-io", &toy_ops},
                 [1] = {PCI_BAR_MEM32, 0x1000, "toy-mem", &toy_ops},
                 [2] = {PCI_BAR_MEM64_PREFETCH, 0x100000, "toy-mem64", &toy_ops}},
    };
    struct toy *t = container_of(d, struct toy, pci.dev);
    if (!pci_init(&t->pci, &info, err))
        return false;
    g_assert_cmphex(pci_add_capability(&t->pci, 0x09, 6), ==, 0x40);
    g_assert_cmphex(pci_add_capability(&t->pci, 0x01, 8), ==, 0x48);
    return true;
}

static void toy_reset(struct device *d)
{
    pci_reset(&container_of(d, struct toy, pci.dev)->pci);
}

static void toy_unrealize(struct device *d)
{
    pci_fini(&container_of(d, struct toy, pci.dev)->pci);
}

static bool toy_post_load(void *instance, uint8_t version, GError **err)
{
    return pci_post_load(&((struct toy *)instance)->pci, err);
}

static const struct prop toy_props[] = {PCI_PROPS, PROPS_END};
static const struct state_field toy_fields[] = {
    STATE_NESTED(struct toy, pci, pci_device_fields),
    STATE_ARRAY(STATE_BYTES, struct toy, io),
    STATE_FIELDS_END,
};
static const struct state_table toy_state = {
    .name = "toy", .version = 1, .fields = toy_fields, .post_load = toy_post_load};
static const struct device_type toy_type = {
    .name = "toy",
    .bus = "pci",
    .size = sizeof(struct toy),
    .props = toy_props,
    .realize = toy_realize,
    .reset = toy_reset,
    .unrealize = toy_unrealize,
    .state = &toy_state,
};

struct fixture {
    struct machine *m;
    struct i440fx_host *host;
    struct piix3 *piix3;
    struct bus *pci;
    struct test_line irq[ISA_IRQS];
};

static void set_up(struct fixture *f)
{
    f->m = test_machine_new();
    test_add_ram(f->m, 4 << 20);
    f->host = container_of(test_add(&i440fx_host_type, f->m->system_bus, NULL), struct i440fx_host, dev);
    f->pci = f->host->bus.bus;
    f->piix3 = container_of(test_add(&piix3_type, f->pci, "addr=1.0", "multifunction=on", NULL), struct piix3, pci.dev);
    for (unsigned i = 0; i < ISA_IRQS; i++) {
        test_line_init(&f->irq[i]);
        f->piix3->isa.out[i] = f->irq[i].line;
    }
    bus_reset(f->m->system_bus);
}

static uint32_t conf_addr(unsigned devfn, unsigned reg)
{
    return 0x80000000u | devfn << 8 | (reg & 0xfc);
}

static uint32_t conf_read(struct machine *m, unsigned devfn, unsigned reg, unsigned len)
{
    test_outl(m, 0xcf8, conf_addr(devfn, reg));
    return address_space_load(&m->ports, 0xcfc + (reg & 3), len);
}

static void conf_write(struct machine *m, unsigned devfn, unsigned reg, uint32_t value, unsigned len)
{
    test_outl(m, 0xcf8, conf_addr(devfn, reg));
    address_space_store(&m->ports, 0xcfc + (reg & 3), value, len);
}

static void test_mechanism(void)
{
    struct fixture f;
    set_up(&f);

    g_assert_cmphex(conf_read(f.m, 0, 0, 4), ==, 0x12378086);
    g_assert_cmphex(conf_read(f.m, 0, 2, 2), ==, 0x1237);
    g_assert_cmphex(conf_read(f.m, 0, 3, 1), ==, 0x12);
    g_assert_cmphex(conf_read(f.m, PCI_DEVFN(1, 0), 0, 4), ==, 0x70008086);
    g_assert_cmphex(conf_read(f.m, PCI_DEVFN(1, 0), PCI_CLASS_DEVICE, 2), ==, 0x0601);
    g_assert_cmphex(conf_read(f.m, PCI_DEVFN(1, 0), PCI_HEADER_TYPE, 1), ==, 0x80);
    /* Nobody there; another bus; not enabled. */
    g_assert_cmphex(conf_read(f.m, PCI_DEVFN(5, 0), 0, 4), ==, 0xffffffff);
    test_outl(f.m, 0xcf8, 0x80010000);
    g_assert_cmphex(test_inl(f.m, 0xcfc), ==, 0xffffffff);
    test_outl(f.m, 0xcf8, 0);
    g_assert_cmphex(test_inl(f.m, 0xcfc), ==, 0xffffffff);
    /* CONFADD: dwords only, reserved bits read zero. */
    test_outl(f.m, 0xcf8, 0xffffffff);
    g_assert_cmphex(test_inl(f.m, 0xcf8), ==, 0x80fffffc);
    test_outb(f.m, 0xcf8, 0);
    test_outw(f.m, 0xcf8, 0);
    g_assert_cmphex(test_inl(f.m, 0xcf8), ==, 0x80fffffc);
    test_machine_free(f.m);
}

static void test_write_masks(void)
{
    struct fixture f;
    set_up(&f);
    test_add(&toy_type, f.pci, "addr=4", NULL);
    unsigned toy = PCI_DEVFN(4, 0);

    conf_write(f.m, toy, 0, 0, 4);
    g_assert_cmphex(conf_read(f.m, toy, 0, 4), ==, 0x56781234);
    conf_write(f.m, toy, PCI_COMMAND, 0xffff, 2);
    g_assert_cmphex(conf_read(f.m, toy, PCI_COMMAND, 2), ==, 0x0547);
    g_assert_cmphex(conf_read(f.m, toy, PCI_INTERRUPT_PIN, 1), ==, 2);
    conf_write(f.m, toy, PCI_INTERRUPT_LINE, 0x0b0b, 2);
    g_assert_cmphex(conf_read(f.m, toy, PCI_INTERRUPT_LINE, 2), ==, 0x020b);
    /* Error bits clear when written 1 and stay when written 0. */
    struct toy *t = container_of(f.host->bus.functions[toy], struct toy, pci);
    t->pci.config[PCI_STATUS + 1] |= 0xf0;
    conf_write(f.m, toy, PCI_STATUS, 0x4000, 2);
    g_assert_cmphex(conf_read(f.m, toy, PCI_STATUS, 2) & 0xf000, ==, 0xb000);
    /* Two capabilities, last added first. */
    g_assert_cmphex(conf_read(f.m, toy, PCI_STATUS, 2) & PCI_STATUS_CAP_LIST, ==, PCI_STATUS_CAP_LIST);
    g_assert_cmphex(conf_read(f.m, toy, PCI_CAPABILITY_LIST, 1), ==, 0x48);
    g_assert_cmphex(conf_read(f.m, toy, 0x48, 2), ==, 0x4001);
    g_assert_cmphex(conf_read(f.m, toy, 0x40, 2), ==, 0x0009);
    test_machine_free(f.m);
}

static void test_bars(void)
{
    struct fixture f;
    set_up(&f);
    test_add(&toy_type, f.pci, "addr=4", NULL);
    unsigned toy = PCI_DEVFN(4, 0);

    static const struct { unsigned reg; uint32_t sized; } sizes[] = {
        {0x10, 0xffffffe1}, {0x14, 0xfffff000}, {0x18, 0xfff0000c}, {0x1c, 0xffffffff}, {0x20, 0}, {0x30, 0}};
    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
        conf_write(f.m, toy, sizes[i].reg, 0xffffffff, 4);
        g_assert_cmphex(conf_read(f.m, toy, sizes[i].reg, 4), ==, sizes[i].sized);
    }
    conf_write(f.m, toy, PCI_COMMAND, 3, 2);
    g_assert_cmphex(test_read(f.m, 0xfffff000, 1), ==, 0xff); /* a sized BAR decodes nothing */
    conf_write(f.m, toy, 0x10, 0xc000, 4);
    conf_write(f.m, toy, 0x14, 0xfebf0000, 4);
    conf_write(f.m, toy, 0x18, 0x10000000, 4);
    conf_write(f.m, toy, 0x1c, 0x8, 4);
    g_assert_cmphex(test_inb(f.m, 0xc003), ==, 0x43);
    g_assert_cmphex(test_inb(f.m, 0xc020), ==, 0xff);
    g_assert_cmphex(test_read(f.m, 0xfebf0004, 1), ==, 0x44);
    g_assert_cmphex(test_read(f.m, 0x810000005, 1), ==, 0x45);
    test_outb(f.m, 0xc005, 0x99);
    g_assert_cmphex(container_of(f.host->bus.functions[toy], struct toy, pci)->io[5], ==, 0x99);
    /* Moved, switched off, and under RAM, which wins. */
    conf_write(f.m, toy, 0x14, 0xfebe0000, 4);
    g_assert_cmphex(test_read(f.m, 0xfebf0004, 1), ==, 0xff);
    g_assert_cmphex(test_read(f.m, 0xfebe0004, 1), ==, 0x44);
    conf_write(f.m, toy, 0x14, 0x00200000, 4);
    g_assert_cmphex(test_read(f.m, 0x00200004, 1), ==, 0);
    conf_write(f.m, toy, 0x14, 0, 4);
    g_assert_cmphex(test_read(f.m, 0x00000004, 1), ==, 0);
    conf_write(f.m, toy, 0x14, 0xfebe0000, 4);
    conf_write(f.m, toy, PCI_COMMAND, PCI_COMMAND_IO, 2);
    g_assert_cmphex(test_read(f.m, 0xfebe0004, 1), ==, 0xff);
    g_assert_cmphex(test_inb(f.m, 0xc003), ==, 0x43);
    conf_write(f.m, toy, 0x10, 0xffffffe0, 4);
    g_assert_cmphex(test_inb(f.m, 0xffe3), ==, 0xff); /* the upper half of an I/O BAR must be 0 */
    conf_write(f.m, toy, 0x10, 0xffe0, 4);
    g_assert_cmphex(test_inb(f.m, 0xffe3), ==, 0x43);

    /* Reset unmaps; loading maps again. */
    struct device *d = &f.host->bus.functions[toy]->dev, *other = test_add(&toy_type, f.pci, "addr=6.0", NULL);
    conf_write(f.m, toy, PCI_COMMAND, 3, 2);
    test_state_transfer(d, other);
    bus_reset(f.m->system_bus);
    g_assert_cmphex(test_inb(f.m, 0xffe3), ==, 0xff);
    test_machine_free(f.m);
}

static void test_rom(void)
{
    struct fixture f;
    set_up(&f);
    char name[] = "/tmp/trapeze-rom-XXXXXX";
    uint8_t rom[5000] = {0x55, 0xaa, 10};
    int fd = g_mkstemp(name);
    g_assert_cmpint(write(fd, rom, sizeof(rom)), ==, (int)sizeof(rom));
    close(fd);
    g_autofree char *prop = g_strdup_printf("romfile=%s", name);
    test_add(&toy_type, f.pci, "addr=4", prop, NULL);
    unlink(name);
    unsigned toy = PCI_DEVFN(4, 0);

    conf_write(f.m, toy, 0x30, 0xfffffffe, 4);
    g_assert_cmphex(conf_read(f.m, toy, 0x30, 4), ==, 0xffffe000);
    conf_write(f.m, toy, 0x30, 0xfe000001, 4);
    g_assert_cmphex(test_read(f.m, 0xfe000000, 2), ==, 0xffff);
    conf_write(f.m, toy, PCI_COMMAND, 2, 2);
    g_assert_cmphex(test_read(f.m, 0xfe000000, 2), ==, 0xaa55);
    test_write(f.m, 0xfe000000, 0, 2);
    g_assert_cmphex(test_read(f.m, 0xfe000000, 2), ==, 0xaa55);
    conf_write(f.m, toy, 0x30, 0xfe000000, 4);
    g_assert_cmphex(test_read(f.m, 0xfe000000, 2), ==, 0xffff);
    test_machine_free(f.m);
}

static void expect_refusal(struct bus *b, const char *addr, const char *multifunction, const char *words)
{
    struct device *d = device_new(&toy_type, b);
    GError *err = NULL;

    g_assert_true(device_set_prop(d, "addr", addr, NULL));
    g_assert_true(device_set_prop(d, "multifunction", multifunction, NULL));
    g_assert_false(device_realize(d, &err));
    g_assert_nonnull(strstr(err->message, words));
    g_error_free(err);
    device_free(d);
}

static void test_slots(void)
{
    struct fixture f;
    set_up(&f);
    struct device *a = test_add(&toy_type, f.pci, NULL), *b = test_add(&toy_type, f.pci, NULL);

    g_assert_cmphex(container_of(a, struct pci_device, dev)->devfn, ==, PCI_DEVFN(2, 0));
    g_assert_cmphex(container_of(b, struct pci_device, dev)->devfn, ==, PCI_DEVFN(3, 0));
    test_add(&toy_type, f.pci, "addr=0x1.7", NULL);
    test_add(&toy_type, f.pci, "addr=1f.0", "multifunction=on", NULL);
    test_add(&toy_type, f.pci, "addr=1f.2", NULL);
    test_add(&toy_type, f.pci, "addr=1e.2", NULL);
    expect_refusal(f.pci, "2", "off", "taken");
    expect_refusal(f.pci, "2.1", "off", "multifunction");
    expect_refusal(f.pci, "1e.0", "off", "multifunction");
    expect_refusal(f.pci, "20", "off", "SLOT");
    expect_refusal(f.pci, "5.8", "off", "SLOT");
    expect_refusal(f.pci, "5.", "off", "SLOT");
    expect_refusal(f.pci, "x", "off", "SLOT");
    expect_refusal(f.pci, "", "off", "SLOT");
    g_assert_cmphex(conf_read(f.m, PCI_DEVFN(0x1f, 2), 0, 4), ==, 0x56781234);
    device_free(a);
    g_assert_cmphex(conf_read(f.m, PCI_DEVFN(2, 0), 0, 4), ==, 0xffffffff);
    test_machine_free(f.m);
}

static void test_interrupts(void)
{
    struct fixture f;
    set_up(&f);
    /* INTB# of slot 3 is (3 - 1 + 1) mod 4 = PIRQD; of slot 7 as well; of slot 4 PIRQA. */
    struct pci_device *p3 = container_of(test_add(&toy_type, f.pci, "addr=3", NULL), struct pci_device, dev);
    struct pci_device *p7 = container_of(test_add(&toy_type, f.pci, "addr=7", NULL), struct pci_device, dev);
    struct pci_device *p4 = container_of(test_add(&toy_type, f.pci, "addr=4", NULL), struct pci_device, dev);
    unsigned piix3 = PCI_DEVFN(1, 0);

    pci_set_intx(p3, 1);
    for (unsigned i = 0; i < ISA_IRQS; i++)
        g_assert_cmpint(f.irq[i].level, ==, 0); /* not routed yet */
    conf_write(f.m, piix3, 0x60, 0x0a80800b, 4); /* A: 11, D: 10 */
    g_assert_cmpint(f.irq[10].level, ==, 1);
    g_assert_cmpint(f.irq[11].level, ==, 0);
    pci_set_intx(p7, 1);
    pci_set_intx(p3, 0);
    g_assert_cmpint(f.irq[10].level, ==, 1);
    g_assert_cmphex(conf_read(f.m, PCI_DEVFN(7, 0), PCI_STATUS, 2) & 8, ==, 8);
    pci_set_intx(p4, 1);
    g_assert_cmpint(f.irq[11].level, ==, 1);
    /* Both on one irq: it falls with the last. */
    conf_write(f.m, piix3, 0x60, 0x0a, 1);
    g_assert_cmpint(f.irq[11].level, ==, 0);
    pci_set_intx(p7, 0);
    g_assert_cmpint(f.irq[10].level, ==, 1);
    pci_set_intx(p4, 0);
    g_assert_cmpint(f.irq[10].level, ==, 0);
    /* INTx Disable. */
    conf_write(f.m, PCI_DEVFN(4, 0), PCI_COMMAND, PCI_COMMAND_INTX_DISABLE, 2);
    pci_set_intx(p4, 1);
    g_assert_cmpint(f.irq[10].level, ==, 0);
    g_assert_cmphex(conf_read(f.m, PCI_DEVFN(4, 0), PCI_STATUS, 2) & 8, ==, 8);
    conf_write(f.m, PCI_DEVFN(4, 0), PCI_COMMAND, 0, 2);
    g_assert_cmpint(f.irq[10].level, ==, 1);
    /* A reserved irq and a disabled route drive nothing. */
    conf_write(f.m, piix3, 0x60, 0x02, 1);
    g_assert_cmphex(conf_read(f.m, piix3, 0x60, 1), ==, 0x02);
    g_assert_cmpint(f.irq[2].level, ==, 0);
    g_assert_cmpint(f.irq[10].level, ==, 0);
    conf_write(f.m, piix3, 0x60, 0x05, 1);
    g_assert_cmpint(f.irq[5].level, ==, 1);
    test_state_roundtrip(&f.piix3->pci.dev);
    test_state_roundtrip(&p4->dev);
    g_assert_cmpint(f.host->bus.asserted[0], ==, 1);
    bus_reset(f.m->system_bus);
    g_assert_cmpint(f.irq[5].level, ==, 0);
    g_assert_cmpint(f.host->bus.asserted[0], ==, 0);
    g_assert_cmphex(conf_read(f.m, piix3, 0x60, 4), ==, 0x80808080);
    test_machine_free(f.m);
}

static void test_reset_control(void)
{
    struct fixture f;
    set_up(&f);

    test_outb(f.m, 0xcf9, 0x02);
    g_assert_cmpint(machine_take_request(f.m), ==, REQUEST_NONE);
    g_assert_cmphex(test_inb(f.m, 0xcf9), ==, 0x02);
    test_outl(f.m, 0xcf8, 0x80000600);
    g_assert_cmpint(machine_take_request(f.m), ==, REQUEST_NONE);
    test_outb(f.m, 0xcf9, 0x06);
    g_assert_cmpint(machine_take_request(f.m), ==, REQUEST_RESET);
    bus_reset(f.m->system_bus);
    g_assert_cmphex(test_inb(f.m, 0xcf9), ==, 0);
    test_machine_free(f.m);
}

static void test_fuzz(void)
{
    struct fixture f;
    set_up(&f);
    struct device *toy = test_add(&toy_type, f.pci, "addr=4", NULL);
    GRand *r = g_rand_new_with_seed(7);

    for (unsigned i = 0; i < 20000; i++) {
        static const uint8_t devfns[] = {PCI_DEVFN(0, 0), PCI_DEVFN(1, 0), PCI_DEVFN(4, 0)};
        unsigned len = 1u << g_rand_int_range(r, 0, 3), reg = g_rand_int_range(r, 0, 256) & ~(len - 1);
        conf_write(f.m, devfns[g_rand_int_range(r, 0, 3)], reg, g_rand_int(r), len);
        test_read(f.m, g_rand_int(r) & 0xfffff, 4);
        if (i % 1000 == 0) {
            test_state_roundtrip(toy);
            test_state_roundtrip(&f.piix3->pci.dev);
            test_state_roundtrip(&f.host->function->pci.dev);
        }
    }
    test_poke_ports(f.m, &f.host->dev, 9, 20000, 0xcf8, 8);
    g_rand_free(r);
    test_machine_free(f.m);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pci/mechanism", test_mechanism);
    g_test_add_func("/pci/write_masks", test_write_masks);
    g_test_add_func("/pci/bars", test_bars);
    g_test_add_func("/pci/rom", test_rom);
    g_test_add_func("/pci/slots", test_slots);
    g_test_add_func("/pci/interrupts", test_interrupts);
    g_test_add_func("/pci/reset_control", test_reset_control);
    g_test_add_func("/pci/fuzz", test_fuzz);
    return g_test_run();
}
