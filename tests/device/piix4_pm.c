/* PIIX4 PM: base registers, PM1 status and SCI, PM timer and its overflow, ACPI enable, sleep, SMI, GPE, SMBus. */
#include "hw/isa/piix4_pm.h"
#include "hw/pci/i440fx.h"
#include "tests/lib/device_test.h"

#include <string.h>

struct fixture {
    struct machine *m;
    struct piix4_pm *pm;
    struct test_line sci, smi;
};

#define BASE 0x600
#define SMB 0x700

static void set_up_with(struct fixture *f, const char *smm)
{
    f->m = test_machine_new();
    test_add_ram(f->m, 1 << 20);
    struct device *host = test_add(&i440fx_host_type, f->m->system_bus, NULL);
    struct bus *pci = container_of(host, struct i440fx_host, dev)->bus.bus;
    f->pm = container_of(test_add(&piix4_pm_type, pci, "addr=1.3", smm, NULL), struct piix4_pm, pci.dev);
    test_line_init(&f->sci);
    test_line_init(&f->smi);
    f->pm->sci = f->sci.line;
    f->pm->smi = f->smi.line;
    bus_reset(f->m->system_bus);
    pci_config_write(&f->pm->pci, PIIX4_PMBA, BASE | 1, 4);
    pci_config_write(&f->pm->pci, PIIX4_PMREGMISC, 1, 1);
}

static void set_up(struct fixture *f)
{
    set_up_with(f, "smm-enabled=off");
}

static void test_bases(void)
{
    struct fixture f;
    set_up(&f);
    struct pci_device *p = &f.pm->pci;

    g_assert_cmphex(pci_config_read(p, 0, 4), ==, 0x71138086);
    g_assert_cmphex(pci_config_read(p, PCI_CLASS_DEVICE, 2), ==, 0x0680);
    g_assert_cmphex(pci_config_read(p, PIIX4_PMBA, 4), ==, BASE | 1);
    g_assert_cmphex(pci_config_read(p, 0x5b, 1), ==, 2);
    g_assert_cmphex(test_inl(f.m, BASE + 0x34), ==, 0x7fffbfff);
    pci_config_write(p, PIIX4_PMBA, 0xb000, 4);
    g_assert_cmphex(test_inl(f.m, BASE + 0x34), ==, 0xffffffff);
    g_assert_cmphex(test_inl(f.m, 0xb034), ==, 0x7fffbfff);
    pci_config_write(p, PIIX4_PMREGMISC, 0, 1);
    g_assert_cmphex(test_inl(f.m, 0xb034), ==, 0xffffffff);
    pci_config_write(p, PIIX4_PMREGMISC, 1, 1);
    test_state_roundtrip(&p->dev);
    g_assert_cmphex(test_inl(f.m, 0xb034), ==, 0x7fffbfff);
    bus_reset(f.m->system_bus);
    g_assert_cmphex(test_inl(f.m, 0xb034), ==, 0xffffffff);
    test_machine_free(f.m);
}

static void test_power_button(void)
{
    struct fixture f;
    set_up(&f);

    piix4_pm_power_button(f.pm);
    g_assert_cmphex(test_inw(f.m, BASE), ==, 0x100);
    g_assert_cmpint(f.sci.level, ==, 0);
    test_outw(f.m, BASE + 2, 0xffff);
    g_assert_cmphex(test_inw(f.m, BASE + 2), ==, 0x0521);
    g_assert_cmpint(f.sci.level, ==, 0); /* legacy mode */
    test_outb(f.m, 0xb2, PIIX4_ACPI_ENABLE);
    g_assert_cmphex(test_inw(f.m, BASE + 4), ==, 1);
    g_assert_cmpint(f.sci.level, ==, 1);
    test_outw(f.m, BASE, 0x0020); /* another bit: stays */
    g_assert_cmpint(f.sci.level, ==, 1);
    test_outb(f.m, BASE + 1, 0x01); /* the byte alone */
    g_assert_cmpint(f.sci.level, ==, 0);
    g_assert_cmphex(test_inw(f.m, BASE), ==, 0);
    piix4_pm_power_button(f.pm);
    test_outb(f.m, BASE + 3, 0); /* its enable bit */
    g_assert_cmpint(f.sci.level, ==, 0);
    g_assert_cmphex(test_inw(f.m, BASE), ==, 0x100);
    g_assert_cmphex(test_inw(f.m, BASE + 2), ==, 0x21);
    test_outb(f.m, 0xb2, PIIX4_ACPI_DISABLE);
    g_assert_cmphex(test_inw(f.m, BASE + 4), ==, 0);
    test_machine_free(f.m);
}

static void test_timer(void)
{
    struct fixture f;
    set_up(&f);

    uint32_t before = test_inl(f.m, BASE + 8);
    test_step(f.m, NS_PER_SECOND);
    g_assert_cmpuint(test_inl(f.m, BASE + 8) - before, ==, ACPI_PM_TIMER_HZ);
    test_outl(f.m, BASE + 8, 0);
    g_assert_cmpuint(test_inl(f.m, BASE + 8), ==, before + ACPI_PM_TIMER_HZ);
    /* 2^23 counts take 2.3435 s; bit 23 toggles and TMROF is set, twice in a full turn. */
    g_assert_cmphex(test_inw(f.m, BASE) & 1, ==, 0);
    test_step(f.m, NS_PER_SECOND * 13434 / 10000);
    g_assert_cmphex(test_inl(f.m, BASE + 8) >> 20, ==, 0x7);
    g_assert_cmphex(test_inw(f.m, BASE) & 1, ==, 0);
    test_step(f.m, NS_PER_SECOND / 5000);
    g_assert_cmphex(test_inl(f.m, BASE + 8) >> 20, ==, 0x8);
    g_assert_cmphex(test_inw(f.m, BASE) & 1, ==, 1);
    test_outw(f.m, BASE, 1);
    g_assert_cmphex(test_inw(f.m, BASE) & 1, ==, 0);
    /* Now with interrupts: nobody polls. */
    test_outb(f.m, 0xb2, PIIX4_ACPI_ENABLE);
    test_outw(f.m, BASE + 2, 1);
    test_step(f.m, NS_PER_SECOND * 2);
    g_assert_cmpint(f.sci.rises, ==, 0);
    test_state_roundtrip(&f.pm->pci.dev);
    test_step(f.m, NS_PER_SECOND / 2);
    g_assert_cmpint(f.sci.rises, ==, 1);
    g_assert_cmphex(test_inl(f.m, BASE + 8) >> 20, ==, 0); /* 24 bits: wrapped */
    for (unsigned i = 2; i < 6; i++) {
        test_outw(f.m, BASE, 1);
        g_assert_cmpint(f.sci.level, ==, 0);
        test_step(f.m, clock_ticks_to_ns(1 << 23, ACPI_PM_TIMER_HZ));
        g_assert_cmpint(f.sci.rises, ==, i);
    }
    test_machine_free(f.m);
}

static void test_sleep(void)
{
    struct fixture f;
    set_up(&f);

    test_outw(f.m, BASE + 4, PIIX4_SLEEP_S5 << 10);
    g_assert_cmpint(machine_take_request(f.m), ==, REQUEST_NONE);
    test_outw(f.m, BASE + 4, 1 << 10 | 0x2000);
    g_assert_cmpint(machine_take_request(f.m), ==, REQUEST_NONE);
    g_assert_cmphex(test_inw(f.m, BASE), ==, 0x8000); /* woken at once */
    g_assert_cmphex(test_inw(f.m, BASE + 4), ==, 1 << 10);
    test_outw(f.m, BASE + 4, PIIX4_SLEEP_S4 << 10 | 0x2000);
    g_assert_cmpint(machine_take_request(f.m), ==, REQUEST_SHUTDOWN);
    test_outw(f.m, BASE + 4, PIIX4_SLEEP_S5 << 10 | 0x2001);
    g_assert_cmpint(machine_take_request(f.m), ==, REQUEST_SHUTDOWN);
    g_assert_cmphex(test_inw(f.m, BASE + 4), ==, 1);
    test_outb(f.m, BASE + 5, 0x20); /* by bytes as well */
    g_assert_cmpint(machine_take_request(f.m), ==, REQUEST_SHUTDOWN);
    test_machine_free(f.m);
}

static void test_smi(void)
{
    struct fixture f;
    set_up_with(&f, "smm-enabled=on");

    g_assert_cmphex(pci_config_read(&f.pm->pci, 0x5b, 1), ==, 0);
    test_outb(f.m, 0xb3, 0x77);
    g_assert_cmphex(test_inb(f.m, 0xb3), ==, 0x77);
    test_outb(f.m, 0xb2, 0x12);
    g_assert_cmphex(test_inb(f.m, 0xb2), ==, 0x12);
    g_assert_cmpint(f.smi.rises, ==, 0);
    pci_config_write(&f.pm->pci, 0x58, 1 << 25, 4);
    test_outb(f.m, 0xb2, 0x12);
    g_assert_cmpint(f.smi.rises, ==, 0);
    test_outl(f.m, BASE + 0x28, 1);
    test_outb(f.m, 0xb2, 0x12);
    g_assert_cmpint(f.smi.rises, ==, 1);
    g_assert_cmphex(test_inw(f.m, BASE + 0x18), ==, 0x20);
    test_outw(f.m, BASE + 0x18, 0x20);
    g_assert_cmphex(test_inw(f.m, BASE + 0x18), ==, 0);
    test_machine_free(f.m);

    set_up(&f); /* without SMM never */
    test_outl(f.m, BASE + 0x28, 1);
    test_outb(f.m, 0xb2, 0x12);
    g_assert_cmpint(f.smi.rises, ==, 0);
    test_machine_free(f.m);
}

static void test_gpe(void)
{
    struct fixture f;
    set_up(&f);

    test_outb(f.m, 0xb2, PIIX4_ACPI_ENABLE);
    piix4_pm_set_gpe(f.pm, 9);
    g_assert_cmphex(test_inl(f.m, PIIX4_GPE0_BASE), ==, 0x0200);
    g_assert_cmpint(f.sci.level, ==, 0);
    test_outb(f.m, PIIX4_GPE0_BASE + 3, 0x02);
    g_assert_cmpint(f.sci.level, ==, 1);
    g_assert_cmphex(test_inb(f.m, PIIX4_GPE0_BASE + 1), ==, 2);
    test_state_roundtrip(&f.pm->pci.dev);
    test_outb(f.m, PIIX4_GPE0_BASE, 0xff);
    g_assert_cmpint(f.sci.level, ==, 1);
    test_outb(f.m, PIIX4_GPE0_BASE + 1, 0x02);
    g_assert_cmpint(f.sci.level, ==, 0);
    test_machine_free(f.m);
}

static void test_smbus(void)
{
    struct fixture f;
    set_up(&f);

    g_assert_cmphex(test_inb(f.m, SMB), ==, 0xff);
    pci_config_write(&f.pm->pci, 0x90, SMB | 1, 4);
    pci_config_write(&f.pm->pci, 0xd2, 0x09, 1);
    g_assert_cmphex(test_inb(f.m, SMB), ==, 0);
    /* Read byte from 0x50: no such device, interrupt on. */
    test_outb(f.m, SMB + 4, 0xa1);
    test_outb(f.m, SMB + 2, 0x49);
    g_assert_cmphex(test_inb(f.m, SMB), ==, 0x04);
    g_assert_cmphex(test_inb(f.m, SMB + 2), ==, 0x09);
    g_assert_cmpint(f.sci.level, ==, 1);
    test_outb(f.m, SMB, 0x1e);
    g_assert_cmphex(test_inb(f.m, SMB), ==, 0);
    g_assert_cmpint(f.sci.level, ==, 0);
    test_outb(f.m, SMB + 2, 0x02);
    g_assert_cmphex(test_inb(f.m, SMB), ==, 0x10);
    for (unsigned i = 0; i < 40; i++)
        test_outb(f.m, SMB + 7, i);
    test_inb(f.m, SMB + 2);
    g_assert_cmphex(test_inb(f.m, SMB + 7), ==, 32);
    test_machine_free(f.m);
}

static void test_fuzz(void)
{
    struct fixture f;
    set_up_with(&f, "smm-enabled=on");
    pci_config_write(&f.pm->pci, 0x90, SMB | 1, 4);
    pci_config_write(&f.pm->pci, 0xd2, 0x09, 1);
    test_poke_ports(f.m, &f.pm->pci.dev, 21, 20000, BASE, 64);
    test_poke_ports(f.m, &f.pm->pci.dev, 22, 20000, SMB, 16);
    test_poke_ports(f.m, &f.pm->pci.dev, 23, 5000, 0xb0, 8);
    test_poke_ports(f.m, &f.pm->pci.dev, 24, 5000, PIIX4_GPE0_BASE, 4);
    test_machine_free(f.m);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/piix4_pm/bases", test_bases);
    g_test_add_func("/piix4_pm/power_button", test_power_button);
    g_test_add_func("/piix4_pm/timer", test_timer);
    g_test_add_func("/piix4_pm/sleep", test_sleep);
    g_test_add_func("/piix4_pm/smi", test_smi);
    g_test_add_func("/piix4_pm/gpe", test_gpe);
    g_test_add_func("/piix4_pm/smbus", test_smbus);
    g_test_add_func("/piix4_pm/fuzz", test_fuzz);
    return g_test_run();
}
