/*
 * Intel 82371AB (PIIX4) function 3: ACPI power management and SMBus host controller.
 *
 * The board adds it with addr=1.3, then sets `sci` (ISA irq 9 through isa_irq_connect) and, where processors have SMM,
 * `smi`. machine_request(REQUEST_POWERDOWN) ends in piix4_pm_power_button(). Without firmware the board programs the PM
 * base itself, through pci_config_write(). VM lock.
 */
#ifndef HW_ISA_PIIX4_PM_H
#define HW_ISA_PIIX4_PM_H

#include "hw/core/clock.h"
#include "hw/pci/pci.h"

#define ACPI_PM_TIMER_HZ 3579545

/* Configuration registers: PM base (a port, bits 15:6) and its enable bit. */
#define PIIX4_PMBA 0x40
#define PIIX4_PMREGMISC 0x80
/*
 * What the board's FADT tells: ports relative to the PM base that firmware programs (SeaBIOS: 0x600), and fixed ones.
 */
#define PIIX4_PM_EVENT 0x00   /* PM1a event block, 4 bytes */
#define PIIX4_PM_CONTROL 0x04 /* PM1a control block, 2 bytes */
#define PIIX4_PM_TIMER 0x08   /* 4 bytes, 24 bits count */
#define PIIX4_GPE0_BASE 0xafe0 /* GPE0 block, as QEMU has it: 4 bytes, 2 of status, then 2 of enable */
#define PIIX4_GPE0_LEN 4
#define PIIX4_SMI_COMMAND 0xb2
#define PIIX4_ACPI_ENABLE 0xf1
#define PIIX4_ACPI_DISABLE 0xf0
/* SLP_TYP values of \_S4 and \_S5, which both end the machine. There is no S3. */
#define PIIX4_SLEEP_S4 2
#define PIIX4_SLEEP_S5 0

struct piix4_smbus {
    uint8_t status, slave_status, control, command, address, data0, data1;
    uint8_t slave_control, shadow_command, block[32], block_index;
    uint16_t slave_event;
};

struct piix4_pm {
    struct pci_device pci;
    struct irq_line sci, smi;
    uint16_t pm1_status, pm1_enable, pm1_control;
    uint16_t gpe_status, gpe_enable;
    uint16_t global_status, global_enable;
    uint32_t processor_control, device_status, global_control, device_control, general_output;
    uint64_t timer_overflow; /* count of the PM timer at which TMROF_STS is set next */
    struct timer timer;
    uint8_t apm_control, apm_status; /* ports 0xb2, 0xb3 */
    struct piix4_smbus smbus;
    struct mem_region pm_region, smbus_region, gpe_region, apm_region;
    bool smm_enabled; /* property smm-enabled: firmware may set up SMM, as processors have it and `smi` is connected */
};

extern const struct device_type piix4_pm_type; /* "PIIX4_PM", bus "pci" */

/* Press of the power button: PWRBTN_STS and SCI. */
void piix4_pm_power_button(struct piix4_pm *s);
/* A general-purpose event, bit 0..15 (hot plug ...): its status bit and SCI. */
void piix4_pm_set_gpe(struct piix4_pm *s, unsigned bit);

#endif
