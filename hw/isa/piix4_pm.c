/*
 * Intel 82371AB (PIIX4) function 3, order number 290562, chapters 7 and 11.5: ACPI fixed hardware, APM ports, SMBus
 * host.
 *
 * SCI follows the enabled status bits while PM1_CNT.SCI_EN is set; SCI_EN follows commands at port 0xb2, which on real
 * boards an SMI handler answers. The general-purpose events are at QEMU's fixed port block 0xafe0 as well as in the
 * chip's GPSTS/GPEN. Not modelled: idle and device monitors, throttling, suspend to RAM (a sleep of any other type than
 * soft-off ends at once, as if something woke the machine). The SMBus has no device on it: each transfer ends in a
 * device error.
 *
 * All under the VM lock.
 */
#include "hw/isa/piix4_pm.h"

#include "hw/core/log.h"
#include "hw/core/machine.h"

#include <string.h>

#define DEVACTB_TOP 0x5b /* bits 31:24 of register 0x58 */
#define DEVACTB_APMC_EN 0x02
#define SMBBA 0x90
#define SMBHSTCFG 0xd2
#define SMBHSTCFG_ENABLE 0x01
#define SMBHSTCFG_INTRSEL 0x0e
#define SMBHSTCFG_IRQ9 0x08

enum pm_register {
    PM_GPSTS = 0x0c,
    PM_PCNTRL = 0x10,
    PM_PLVL = 0x14,
    PM_GLBSTS = 0x18,
    PM_DEVSTS = 0x1c,
    PM_GLBEN = 0x20,
    PM_GLBCTL = 0x28,
    PM_DEVCTL = 0x2c,
    PM_GPIREG = 0x30,
    PM_GPOREG = 0x34,
};

#define PM1_TMROF 0x0001
#define PM1_BM 0x0010
#define PM1_GBL 0x0020
#define PM1_PWRBTN 0x0100
#define PM1_RTC 0x0400
#define PM1_RSM 0x8000
#define PM1_STATUS_BITS (PM1_TMROF | PM1_BM | PM1_GBL | PM1_PWRBTN | PM1_RTC | PM1_RSM)
#define PM1_ENABLE_BITS (PM1_TMROF | PM1_GBL | PM1_PWRBTN | PM1_RTC)

#define PM1_CNT_SCI_EN 0x0001
#define PM1_CNT_BRLD_EN 0x0002
#define PM1_CNT_GBL_RLS 0x0004
#define PM1_CNT_SUS_TYP 0x1c00
#define PM1_CNT_SUS_EN 0x2000

#define GLBSTS_BIOS 0x0001 /* GBL_RLS was written: SMI to the BIOS */
#define GLBSTS_APM 0x0020
#define GLBCTL_SMI_EN 0x00000001
#define GLBCTL_BIOS_RLS 0x00000002

#define TIMER_BITS 24
#define TIMER_HALF (UINT64_C(1) << (TIMER_BITS - 1)) /* TMROF_STS is set whenever bit 23 changes */

enum smbus_register {
    SMBHSTSTS = 0,
    SMBSLVSTS = 1,
    SMBHSTCNT = 2,
    SMBHSTCMD = 3,
    SMBHSTADD = 4,
    SMBHSTDAT0 = 5,
    SMBHSTDAT1 = 6,
    SMBBLKDAT = 7,
    SMBSLVCNT = 8,
    SMBSHDWCMD = 9,
    SMBSLVEVT = 10,
    SMBSLVDAT = 12,
};

#define SMB_INTR 0x02
#define SMB_DEV_ERR 0x04
#define SMB_BUS_ERR 0x08
#define SMB_FAILED 0x10
#define SMB_STATUS_BITS (SMB_INTR | SMB_DEV_ERR | SMB_BUS_ERR | SMB_FAILED)
#define SMB_INTEREN 0x01
#define SMB_KILL 0x02
#define SMB_START 0x40

/* --- Interrupts --------------------------------------------------------------------------------------------------- */

static bool pm_event(const struct piix4_pm *s)
{
    return (s->pm1_status & s->pm1_enable) || (s->gpe_status & s->gpe_enable);
}

static bool smbus_interrupt(const struct piix4_pm *s)
{
    return (s->smbus.status & SMB_STATUS_BITS) && (s->smbus.control & SMB_INTEREN) &&
           (s->pci.config[SMBHSTCFG] & SMBHSTCFG_INTRSEL) == SMBHSTCFG_IRQ9;
}

static void update_sci(struct piix4_pm *s)
{
    irq_set(&s->sci, ((s->pm1_control & PM1_CNT_SCI_EN) && pm_event(s)) || smbus_interrupt(s));
}

static void send_smi(struct piix4_pm *s)
{
    if (s->smm_enabled && (s->global_control & GLBCTL_SMI_EN))
        irq_pulse(&s->smi);
}

/* --- PM timer ----------------------------------------------------------------------------------------------------- */

static uint64_t timer_count(const struct piix4_pm *s)
{
    return clock_ticks(clock_now(s->pci.dev.machine->clock), ACPI_PM_TIMER_HZ);
}

static void arm_timer(struct piix4_pm *s)
{
    if ((s->pm1_enable & PM1_TMROF) && !(s->pm1_status & PM1_TMROF))
        timer_set(&s->timer, clock_ticks_to_ns(s->timer_overflow, ACPI_PM_TIMER_HZ));
    else
        timer_cancel(&s->timer);
}

/* Nobody needs to be woken for a status bit that is not enabled: it is set when somebody looks. */
static void update_timer_status(struct piix4_pm *s)
{
    if (timer_count(s) >= s->timer_overflow)
        s->pm1_status |= PM1_TMROF;
}

static void next_overflow(struct piix4_pm *s)
{
    s->timer_overflow = (timer_count(s) / TIMER_HALF + 1) * TIMER_HALF;
}

static void timer_fired(void *opaque)
{
    struct piix4_pm *s = opaque;

    update_timer_status(s);
    arm_timer(s);
    update_sci(s);
}

/* --- PM registers ------------------------------------------------------------------------------------------------- */

static void clear_status(struct piix4_pm *s, uint16_t clear)
{
    update_timer_status(s);
    if (clear & s->pm1_status & PM1_TMROF)
        next_overflow(s);
    s->pm1_status &= ~(clear & PM1_STATUS_BITS);
}

static void sleep_now(struct piix4_pm *s)
{
    unsigned type = (s->pm1_control & PM1_CNT_SUS_TYP) >> 10;

    if (type == PIIX4_SLEEP_S5) {
        machine_request(s->pci.dev.machine, REQUEST_SHUTDOWN, "ACPI S5");
    } else if (type == PIIX4_SLEEP_S4) {
        machine_request(s->pci.dev.machine, REQUEST_SHUTDOWN, "ACPI S4");
    } else {
        log_unimp("PIIX4_PM", "sleep type %u: the machine goes on at once", type);
        s->pm1_status |= PM1_RSM;
    }
}

static void write_control(struct piix4_pm *s, uint16_t value, uint16_t mask)
{
    uint16_t writable = mask & (PM1_CNT_BRLD_EN | PM1_CNT_SUS_TYP | PM1_CNT_SCI_EN);

    s->pm1_control = (s->pm1_control & ~writable) | (value & writable);
    if (value & mask & PM1_CNT_GBL_RLS) {
        s->global_status |= GLBSTS_BIOS;
        if (s->global_enable & GLBSTS_BIOS)
            send_smi(s);
    }
    if (value & mask & PM1_CNT_SUS_EN)
        sleep_now(s);
}

/* The dword that holds a register. */
static uint32_t pm_load(struct piix4_pm *s, unsigned reg)
{
    switch (reg) {
    case PIIX4_PM_EVENT: update_timer_status(s); return s->pm1_status | (uint32_t)s->pm1_enable << 16;
    case PIIX4_PM_CONTROL: return s->pm1_control;
    case PIIX4_PM_TIMER: return timer_count(s) & ((1u << TIMER_BITS) - 1);
    case PM_GPSTS: return s->gpe_status | (uint32_t)s->gpe_enable << 16;
    case PM_PCNTRL: return s->processor_control;
    case PM_GLBSTS: return s->global_status;
    case PM_DEVSTS: return s->device_status;
    case PM_GLBEN: return s->global_enable;
    case PM_GLBCTL: return s->global_control;
    case PM_DEVCTL: return s->device_control;
    case PM_GPIREG: return 0x00ffffff; /* inputs without anything on them are pulled up */
    case PM_GPOREG: return s->general_output;
    default: return 0; /* PLVL2 and PLVL3 too: the processor does not stop for long */
    }
}

static void set_bits(uint32_t *reg, uint32_t value, uint32_t mask)
{
    *reg = (*reg & ~mask) | (value & mask);
}

static void gpe_store(struct piix4_pm *s, uint32_t value, uint32_t mask)
{
    s->gpe_status &= ~(value & mask);
    s->gpe_enable = (s->gpe_enable & ~(mask >> 16)) | (value & mask) >> 16;
}

/* `mask` has ones in the bytes that are written. */
static void pm_store(struct piix4_pm *s, unsigned reg, uint32_t value, uint32_t mask)
{
    switch (reg) {
    case PIIX4_PM_EVENT:
        clear_status(s, value & mask);
        mask = mask >> 16 & PM1_ENABLE_BITS;
        s->pm1_enable = (s->pm1_enable & ~mask) | (value >> 16 & mask);
        arm_timer(s);
        break;
    case PIIX4_PM_CONTROL: write_control(s, value, mask); break;
    case PM_GPSTS: gpe_store(s, value, mask); break;
    case PM_PCNTRL: set_bits(&s->processor_control, value, mask & 0x0002bfff); break;
    case PM_GLBSTS: s->global_status &= ~(value & mask); break;
    case PM_DEVSTS: s->device_status &= ~(value & mask); break;
    case PM_GLBEN: s->global_enable = (s->global_enable & ~mask) | (value & mask); break;
    case PM_GLBCTL:
        set_bits(&s->global_control, value, mask & 0x0701ff07 & ~GLBCTL_BIOS_RLS);
        if (value & mask & GLBCTL_BIOS_RLS)
            s->pm1_status |= PM1_GBL;
        break;
    case PM_DEVCTL: set_bits(&s->device_control, value, mask); break;
    case PM_GPOREG: set_bits(&s->general_output, value, mask); break;
    default: break;
    }
    update_sci(s);
}

static uint32_t lane_mask(uint64_t offset, unsigned size)
{
    return (UINT32_MAX >> (32 - 8 * size)) << (8 * (offset & 3));
}

static uint64_t pm_read(void *opaque, uint64_t offset, unsigned size)
{
    return pm_load(opaque, offset & ~3u) >> (8 * (offset & 3));
}

static void pm_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    pm_store(opaque, offset & ~3u, (uint32_t)value << (8 * (offset & 3)), lane_mask(offset, size));
}

static const struct mem_ops pm_ops = {.read = pm_read, .write = pm_write, .valid = {1, 4, false}};

static uint64_t gpe_read(void *opaque, uint64_t offset, unsigned size)
{
    return pm_load(opaque, PM_GPSTS) >> (8 * offset);
}

static void gpe_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    pm_store(opaque, PM_GPSTS, (uint32_t)value << (8 * offset), lane_mask(offset, size));
}

static const struct mem_ops gpe_ops = {.read = gpe_read, .write = gpe_write, .valid = {1, 4, false}};

void piix4_pm_power_button(struct piix4_pm *s)
{
    s->pm1_status |= PM1_PWRBTN;
    update_sci(s);
}

void piix4_pm_set_gpe(struct piix4_pm *s, unsigned bit)
{
    g_assert(bit < 16);
    s->gpe_status |= 1u << bit;
    update_sci(s);
}

/* --- APM control and status, ports 0xb2 and 0xb3 ------------------------------------------------------------------ */

static uint64_t apm_read(void *opaque, uint64_t offset, unsigned size)
{
    const struct piix4_pm *s = opaque;
    return offset ? s->apm_status : s->apm_control;
}

static void apm_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct piix4_pm *s = opaque;

    if (offset) {
        s->apm_status = value;
        return;
    }
    s->apm_control = value;
    if (value == PIIX4_ACPI_ENABLE)
        s->pm1_control |= PM1_CNT_SCI_EN;
    else if (value == PIIX4_ACPI_DISABLE)
        s->pm1_control &= ~PM1_CNT_SCI_EN;
    if (s->pci.config[DEVACTB_TOP] & DEVACTB_APMC_EN) {
        s->global_status |= GLBSTS_APM;
        send_smi(s);
    }
    update_sci(s);
}

static const struct mem_ops apm_ops = {
    .read = apm_read,
    .write = apm_write,
    .valid = {1, 2, false},
    .impl = {1, 1, false},
};

/* --- SMBus host --------------------------------------------------------------------------------------------------- */

static uint64_t smbus_read(void *opaque, uint64_t offset, unsigned size)
{
    struct piix4_pm *s = opaque;
    struct piix4_smbus *b = &s->smbus;

    switch (offset) {
    case SMBHSTSTS: return b->status;
    case SMBSLVSTS: return b->slave_status;
    case SMBHSTCNT: b->block_index = 0; return b->control;
    case SMBHSTCMD: return b->command;
    case SMBHSTADD: return b->address;
    case SMBHSTDAT0: return b->data0;
    case SMBHSTDAT1: return b->data1;
    case SMBBLKDAT: return b->block[b->block_index++ % sizeof(b->block)];
    case SMBSLVCNT: return b->slave_control;
    case SMBSHDWCMD: return b->shadow_command;
    case SMBSLVEVT: return b->slave_event & 0xff;
    case SMBSLVEVT + 1: return b->slave_event >> 8;
    default: return 0; /* SMBSLVDAT too: no other master ever wrote to us */
    }
}

static void smbus_control(struct piix4_smbus *b, uint8_t value)
{
    b->control = value & ~(SMB_START | SMB_KILL);
    if (value & SMB_KILL)
        b->status |= SMB_FAILED;
    else if (value & SMB_START)
        b->status |= SMB_DEV_ERR; /* nobody acknowledges the address */
}

static void smbus_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct piix4_pm *s = opaque;
    struct piix4_smbus *b = &s->smbus;

    switch (offset) {
    case SMBHSTSTS: b->status &= ~(value & SMB_STATUS_BITS); break;
    case SMBSLVSTS: b->slave_status &= ~(value & 0x3e); break;
    case SMBHSTCNT: smbus_control(b, value); break;
    case SMBHSTCMD: b->command = value; break;
    case SMBHSTADD: b->address = value; break;
    case SMBHSTDAT0: b->data0 = value; break;
    case SMBHSTDAT1: b->data1 = value; break;
    case SMBBLKDAT: b->block[b->block_index++ % sizeof(b->block)] = value; break;
    case SMBSLVCNT: b->slave_control = value & 0x0f; break;
    case SMBSLVEVT: b->slave_event = (b->slave_event & 0xff00) | value; break;
    case SMBSLVEVT + 1: b->slave_event = (b->slave_event & 0x00ff) | value << 8; break;
    default: break;
    }
    update_sci(s);
}

static const struct mem_ops smbus_ops = {
    .read = smbus_read,
    .write = smbus_write,
    .valid = {1, 2, false},
    .impl = {1, 1, false},
};

/* --- PCI function ------------------------------------------------------------------------------------------------- */

static void map_block(struct mem_region *r, uint64_t port, bool enabled)
{
    enabled = enabled && port != 0;
    if (enabled)
        mem_set_addr(r, port);
    mem_set_enabled(r, enabled);
}

static void update_mapping(struct piix4_pm *s)
{
    mem_transaction_begin();
    map_block(&s->pm_region, pci_word(&s->pci, PIIX4_PMBA) & 0xffc0, s->pci.config[PIIX4_PMREGMISC] & 1);
    map_block(&s->smbus_region, pci_word(&s->pci, SMBBA) & 0xfff0, s->pci.config[SMBHSTCFG] & SMBHSTCFG_ENABLE);
    mem_transaction_commit();
}

static void config_written(struct pci_device *p, unsigned reg, unsigned len)
{
    struct piix4_pm *s = container_of(p, struct piix4_pm, pci);

    update_mapping(s);
    update_sci(s);
}

static void init_registers(struct piix4_pm *s)
{
    struct pci_device *p = &s->pci;

    pci_config_init(p, PCI_COMMAND, 0, 2, PCI_COMMAND_IO);
    pci_config_init(p, PCI_STATUS, PCI_STATUS_DEVSEL_MEDIUM | PCI_STATUS_FAST_BACK, 2, 0);
    pci_config_init(p, PCI_CACHE_LINE_SIZE, 0, 1, 0);
    pci_config_init(p, PCI_LATENCY_TIMER, 0, 1, 0);
    pci_config_init(p, PIIX4_PMBA, 1, 4, 0xffc0);
    /* CNTA, CNTB, GPICTL, DEVRESD, DEVACTA, DEVACTB, DEVRESA-C, E-J: monitors and decoders that this model lacks. */
    for (unsigned reg = 0x44; reg < PIIX4_PMREGMISC; reg += 4)
        pci_config_init(p, reg, 0, 4, UINT32_MAX);
    /* SeaBIOS takes a set APMC_EN as: SMM is set up already, leave it. */
    if (!s->smm_enabled)
        pci_config_init(p, DEVACTB_TOP, DEVACTB_APMC_EN, 1, 0xff);
    pci_config_init(p, PIIX4_PMREGMISC, 0, 1, 0x01);
    pci_config_init(p, SMBBA, 1, 4, 0xfff0);
    pci_config_init(p, SMBHSTCFG, 0, 1, SMBHSTCFG_ENABLE | SMBHSTCFG_INTRSEL);
    pci_config_init(p, SMBHSTCFG + 1, 0, 1, 0xff); /* SMBSLVC */
    pci_config_init(p, SMBHSTCFG + 2, 0, 2, 0xffff); /* SMBSHDW1, 2 */
}

static void init_block(struct piix4_pm *s, struct mem_region *r, const struct mem_ops *ops, const char *name,
                       uint64_t port, uint64_t size)
{
    mem_init_io(r, &s->pci.dev, ops, s, name, size);
    mem_set_enabled(r, port != 0);
    mem_map(&s->pci.dev.machine->port_root, port, r, 0);
}

static bool piix4_pm_realize(struct device *d, GError **err)
{
    static const struct pci_info info = {
        .vendor_id = 0x8086,
        .device_id = 0x7113,
        .revision = 3,
        .class_code = 0x068000,
        .interrupt_pin = 1,
    };
    struct piix4_pm *s = container_of(d, struct piix4_pm, pci.dev);

    s->pci.config_written = config_written;
    if (!pci_init(&s->pci, &info, err))
        return false;
    init_registers(s);
    timer_init(&s->timer, d->machine->clock, timer_fired, s);
    init_block(s, &s->pm_region, &pm_ops, "piix4-pm", 0, 64);
    init_block(s, &s->smbus_region, &smbus_ops, "piix4-smbus", 0, 16);
    init_block(s, &s->gpe_region, &gpe_ops, "acpi-gpe0", PIIX4_GPE0_BASE, PIIX4_GPE0_LEN);
    init_block(s, &s->apm_region, &apm_ops, "apm", PIIX4_SMI_COMMAND, 2);
    return true;
}

static void piix4_pm_reset(struct device *d)
{
    struct piix4_pm *s = container_of(d, struct piix4_pm, pci.dev);

    pci_reset(&s->pci);
    s->pm1_status = s->pm1_enable = s->pm1_control = 0;
    s->gpe_status = s->gpe_enable = 0;
    s->global_status = s->global_enable = 0;
    s->processor_control = s->device_status = s->device_control = s->global_control = 0;
    s->general_output = 0x7fffbfff;
    s->apm_control = s->apm_status = 0;
    s->smbus = (struct piix4_smbus){0};
    next_overflow(s);
    timer_cancel(&s->timer);
    update_mapping(s);
}

static void piix4_pm_reset_wires(struct device *d)
{
    update_sci(container_of(d, struct piix4_pm, pci.dev));
}

static void piix4_pm_unrealize(struct device *d)
{
    struct piix4_pm *s = container_of(d, struct piix4_pm, pci.dev);

    timer_cancel(&s->timer);
    pci_fini(&s->pci);
    mem_fini(&s->pm_region);
    mem_fini(&s->smbus_region);
    mem_fini(&s->gpe_region);
    mem_fini(&s->apm_region);
}

static bool piix4_pm_post_load(void *instance, uint8_t version, GError **err)
{
    struct piix4_pm *s = instance;

    if (!pci_post_load(&s->pci, err))
        return false;
    s->pm1_status &= PM1_STATUS_BITS;
    s->pm1_enable &= PM1_ENABLE_BITS;
    s->timer_overflow &= ~(TIMER_HALF - 1);
    update_mapping(s);
    return true;
}

static const struct prop piix4_pm_props[] = {
    PCI_PROPS,
    PROP(PROP_BOOL, "smm-enabled", struct piix4_pm, smm_enabled, 0, "firmware may use system management mode"),
    PROPS_END,
};

static const struct state_field smbus_fields[] = {
    STATE_FIELD(STATE_U8, struct piix4_smbus, status),
    STATE_FIELD(STATE_U8, struct piix4_smbus, slave_status),
    STATE_FIELD(STATE_U8, struct piix4_smbus, control),
    STATE_FIELD(STATE_U8, struct piix4_smbus, command),
    STATE_FIELD(STATE_U8, struct piix4_smbus, address),
    STATE_FIELD(STATE_U8, struct piix4_smbus, data0),
    STATE_FIELD(STATE_U8, struct piix4_smbus, data1),
    STATE_FIELD(STATE_U8, struct piix4_smbus, slave_control),
    STATE_FIELD(STATE_U8, struct piix4_smbus, shadow_command),
    STATE_ARRAY(STATE_BYTES, struct piix4_smbus, block),
    STATE_FIELD(STATE_U8, struct piix4_smbus, block_index),
    STATE_FIELD(STATE_U16, struct piix4_smbus, slave_event),
    STATE_FIELDS_END,
};

static const struct state_field piix4_pm_fields[] = {
    STATE_NESTED(struct piix4_pm, pci, pci_device_fields),
    STATE_FIELD(STATE_U16, struct piix4_pm, pm1_status),
    STATE_FIELD(STATE_U16, struct piix4_pm, pm1_enable),
    STATE_FIELD(STATE_U16, struct piix4_pm, pm1_control),
    STATE_FIELD(STATE_U16, struct piix4_pm, gpe_status),
    STATE_FIELD(STATE_U16, struct piix4_pm, gpe_enable),
    STATE_FIELD(STATE_U16, struct piix4_pm, global_status),
    STATE_FIELD(STATE_U16, struct piix4_pm, global_enable),
    STATE_FIELD(STATE_U32, struct piix4_pm, processor_control),
    STATE_FIELD(STATE_U32, struct piix4_pm, device_status),
    STATE_FIELD(STATE_U32, struct piix4_pm, global_control),
    STATE_FIELD(STATE_U32, struct piix4_pm, device_control),
    STATE_FIELD(STATE_U32, struct piix4_pm, general_output),
    STATE_FIELD(STATE_U64, struct piix4_pm, timer_overflow),
    STATE_FIELD(STATE_TIMER, struct piix4_pm, timer),
    STATE_FIELD(STATE_U8, struct piix4_pm, apm_control),
    STATE_FIELD(STATE_U8, struct piix4_pm, apm_status),
    STATE_NESTED(struct piix4_pm, smbus, smbus_fields),
    STATE_FIELDS_END,
};

static const struct state_table piix4_pm_state = {
    .name = "PIIX4_PM",
    .version = 1,
    .fields = piix4_pm_fields,
    .post_load = piix4_pm_post_load,
};

const struct device_type piix4_pm_type = {
    .name = "PIIX4_PM",
    .description = "Intel 82371AB power management and SMBus",
    .bus = "pci",
    .size = sizeof(struct piix4_pm),
    .props = piix4_pm_props,
    .realize = piix4_pm_realize,
    .reset = piix4_pm_reset,
    .reset_wires = piix4_pm_reset_wires,
    .unrealize = piix4_pm_unrealize,
    .state = &piix4_pm_state,
};
