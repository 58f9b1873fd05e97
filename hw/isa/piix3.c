/*
 * Intel 82371SB (PIIX3) function 0, order number 290550: PCI-to-ISA bridge, interrupt router and reset control.
 *
 * The chip's 8259, 8254 and 8237 cores, ELCR and port B are devices of their own on the bus it makes. Not modelled: ISA
 * timing, chip-select lines, SMI sources (the registers hold what is written). APICBASE and MBIRQ route nothing.
 * All under the VM lock.
 */
#include "hw/isa/piix3.h"

#include "hw/core/log.h"
#include "hw/core/machine.h"

enum piix3_register {
    PIIX3_IORT = 0x4c,
    PIIX3_XBCS = 0x4e,
    PIIX3_PIRQRCA = 0x60,
    PIIX3_TOM = 0x69,
    PIIX3_MSTAT = 0x6a,
    PIIX3_MBIRQ0 = 0x70,
    PIIX3_MBIRQ1 = 0x71,
    PIIX3_MBDMA0 = 0x76,
    PIIX3_MBDMA1 = 0x77,
    PIIX3_PCSC = 0x78,
    PIIX3_APICBASE = 0x80,
    PIIX3_DLC = 0x82,
    PIIX3_SMICNTL = 0xa0,
    PIIX3_SMIEN = 0xa2,
    PIIX3_SEE = 0xa4,
    PIIX3_FTMR = 0xa8,
    PIIX3_SMIREQ = 0xaa,
    PIIX3_CTLTMR = 0xac,
    PIIX3_CTHTMR = 0xae,
};

#define PIRQ_DISABLED 0x80
#define PIRQ_IRQ 0x0f
#define PIRQ_IRQ_MASK 0xdef8 /* 3-7, 9-12, 14, 15; the others are reserved */

#define RCR_SRST 0x02 /* hard reset rather than soft */
#define RCR_RCPU 0x04 /* a rising edge resets */

/* --- Interrupt router --------------------------------------------------------------------------------------------- */

/* The ISA irqs that the four PIRQs drive now. */
static uint16_t routed(const struct piix3 *s)
{
    uint16_t irqs = 0;

    for (unsigned n = 0; n < PCI_PIRQS; n++) {
        uint8_t route = s->pci.config[PIIX3_PIRQRCA + n];
        if ((s->pirq_level & 1 << n) && !(route & PIRQ_DISABLED))
            irqs |= 1 << (route & PIRQ_IRQ);
    }
    return irqs & PIRQ_IRQ_MASK;
}

static void update_irqs(struct piix3 *s)
{
    uint16_t now = routed(s), changed = now ^ s->routed;

    s->routed = now;
    for (unsigned irq = 0; irq < ISA_IRQS; irq++) {
        if (changed & 1 << irq)
            irq_set(&s->pirq_out[irq], now >> irq & 1);
    }
}

static void set_pirq(void *opaque, int n, int level)
{
    struct piix3 *s = opaque;

    s->pirq_level = (s->pirq_level & ~(1 << n)) | (level ? 1 << n : 0);
    update_irqs(s);
}

static void config_written(struct pci_device *p, unsigned reg, unsigned len)
{
    struct piix3 *s = container_of(p, struct piix3, pci);

    if (reg < PIIX3_PIRQRCA + PCI_PIRQS && reg + len > PIIX3_PIRQRCA)
        update_irqs(s);
}

/* --- Reset control register, port 0xcf9 --------------------------------------------------------------------------- */

static uint64_t reset_control_read(void *opaque, uint64_t offset, unsigned size)
{
    struct piix3 *s = opaque;
    return offset == 1 && size == 1 ? s->reset_control : UINT32_MAX;
}

static void reset_control_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct piix3 *s = opaque;

    if (offset != 1 || size != 1)
        return;
    if ((value & RCR_RCPU) && !(s->reset_control & RCR_RCPU))
        machine_request(s->pci.dev.machine, REQUEST_RESET, "port 0xcf9");
    s->reset_control = value & (RCR_SRST | RCR_RCPU);
}

static const struct mem_ops reset_control_ops = {
    .read = reset_control_read,
    .write = reset_control_write,
};

/* --- Life --------------------------------------------------------------------------------------------------------- */

static void init_registers(struct pci_device *p)
{
    pci_config_init(p, PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 2,
                    PCI_COMMAND_SERR | PCI_COMMAND_PARITY);
    pci_config_init(p, PCI_STATUS, PCI_STATUS_DEVSEL_MEDIUM, 2, 0);
    pci_config_init(p, PCI_CACHE_LINE_SIZE, 0, 1, 0);
    pci_config_init(p, PCI_LATENCY_TIMER, 0, 1, 0);
    pci_config_init(p, PCI_INTERRUPT_LINE, 0, 1, 0);
    pci_config_init(p, PIIX3_IORT, 0x4d, 1, 0xff);
    pci_config_init(p, PIIX3_XBCS, 0x0003, 2, 0x01ff);
    for (unsigned n = 0; n < PCI_PIRQS; n++)
        pci_config_init(p, PIIX3_PIRQRCA + n, PIRQ_DISABLED, 1, PIRQ_DISABLED | PIRQ_IRQ);
    pci_config_init(p, PIIX3_TOM, 0x02, 1, 0xfe);
    pci_config_init(p, PIIX3_MSTAT, 0, 2, 0x8380);
    pci_config_init(p, PIIX3_MBIRQ0, 0x80, 1, 0xef);
    pci_config_init(p, PIIX3_MBIRQ1, 0x80, 1, 0xef);
    pci_config_init(p, PIIX3_MBDMA0, 0x0c, 1, 0x8f);
    pci_config_init(p, PIIX3_MBDMA1, 0x0c, 1, 0x8f);
    pci_config_init(p, PIIX3_PCSC, 0x0002, 2, 0xffff);
    pci_config_init(p, PIIX3_APICBASE, 0, 1, 0x7f);
    pci_config_init(p, PIIX3_DLC, 0, 1, 0x0f);
    pci_config_init(p, PIIX3_SMICNTL, 0x08, 1, 0x1f);
    pci_config_init(p, PIIX3_SMIEN, 0, 2, 0x01ff);
    pci_config_init(p, PIIX3_SEE, 0, 4, 0xf000ffff);
    pci_config_init(p, PIIX3_FTMR, 0x0f, 1, 0xff);
    pci_config_init(p, PIIX3_SMIREQ, 0, 2, 0x01ff);
    pci_config_init(p, PIIX3_CTLTMR, 0, 1, 0xff);
    pci_config_init(p, PIIX3_CTHTMR, 0, 1, 0xff);
}

static bool piix3_realize(struct device *d, GError **err)
{
    static const struct pci_info info = {
        .vendor_id = 0x8086,
        .device_id = 0x7000,
        .class_code = 0x060100,
    };
    struct piix3 *s = container_of(d, struct piix3, pci.dev);

    s->pci.config_written = config_written;
    if (!pci_init(&s->pci, &info, err))
        return false;
    init_registers(&s->pci);
    for (int n = 0; n < PCI_PIRQS; n++)
        s->pci.bus->pirq[n] = (struct irq_line){.fn = set_pirq, .opaque = s, .n = n};
    isa_bus_init(&s->isa, d, "isa.0", s->pci.bus->memory);
    for (unsigned n = 0; n < ISA_IRQS; n++) {
        if (!isa_irq_connect(&s->isa, n, &s->pirq_out[n], err))
            g_assert_not_reached(); /* the bus is new */
    }
    pci_host_pass_on(s->pci.bus->host, &reset_control_ops, s);
    return true;
}

static void piix3_reset(struct device *d)
{
    struct piix3 *s = container_of(d, struct piix3, pci.dev);

    pci_reset(&s->pci);
    isa_bus_reset(&s->isa);
    s->pirq_level = 0;
    s->routed = 0;
    s->reset_control = 0;
}

static void piix3_reset_wires(struct device *d)
{
    struct piix3 *s = container_of(d, struct piix3, pci.dev);

    /* Devices behind it come later in this pass and raise what they must. */
    for (unsigned irq = 0; irq < ISA_IRQS; irq++)
        irq_set(&s->isa.out[irq], s->isa.asserted[irq] != 0);
}

static void piix3_unrealize(struct device *d)
{
    struct piix3 *s = container_of(d, struct piix3, pci.dev);

    pci_host_pass_on(s->pci.bus->host, NULL, NULL);
    for (unsigned n = 0; n < PCI_PIRQS; n++)
        s->pci.bus->pirq[n] = (struct irq_line){0};
    pci_fini(&s->pci);
}

static const struct prop piix3_props[] = {PCI_PROPS, PROPS_END};

static const struct state_field piix3_fields[] = {
    STATE_NESTED(struct piix3, pci, pci_device_fields),
    STATE_NESTED(struct piix3, isa, isa_bus_fields),
    STATE_FIELD(STATE_U8, struct piix3, pirq_level),
    STATE_FIELD(STATE_U16, struct piix3, routed),
    STATE_FIELD(STATE_U8, struct piix3, reset_control),
    STATE_FIELDS_END,
};

static bool piix3_post_load(void *instance, uint8_t version, GError **err)
{
    struct piix3 *s = instance;

    if (!pci_post_load(&s->pci, err))
        return false;
    if (s->pirq_level >= 1 << PCI_PIRQS || s->routed != routed(s) || (s->reset_control & ~(RCR_SRST | RCR_RCPU))) {
        g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "PIIX3: interrupt lines of the saved state contradict each other");
        return false;
    }
    return true;
}

static const struct state_table piix3_state = {
    .name = "PIIX3",
    .version = 1,
    .fields = piix3_fields,
    .post_load = piix3_post_load,
};

const struct device_type piix3_type = {
    .name = "PIIX3",
    .description = "Intel 82371SB PCI-to-ISA bridge",
    .bus = "pci",
    .size = sizeof(struct piix3),
    .props = piix3_props,
    .realize = piix3_realize,
    .reset = piix3_reset,
    .reset_wires = piix3_reset_wires,
    .unrealize = piix3_unrealize,
    .state = &piix3_state,
};
