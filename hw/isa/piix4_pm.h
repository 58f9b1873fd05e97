/*
 * Intel 82371AB (PIIX4) function 3: ACPI power management and SMBus host controller.
 *
 * The board adds it with addr=1.3, then sets `sci` (ISA irq 9 through isa_irq_connect) and, where processors have SMM,
 * `smi`. machine_request(REQUEST_POWERDOWN) ends in piix4_pm_power_button(). VM lock.
 */
#ifndef HW_ISA_PIIX4_PM_H
#define HW_ISA_PIIX4_PM_H

#include "hw/core/clock.h"
#include "hw/pci/pci.h"

#define ACPI_PM_TIMER_HZ 3579545

/* What the board's FADT tells: ports relative to the PM base that firmware programs (SeaBIOS: 0x600), and fixed ones. */
#define PIIX4_PM_EVENT 0x00   /* PM1a event block, 4 bytes */
#define PIIX4_PM_CONTROL 0x04 /* PM1a control block, 2 bytes */
#define PIIX4_PM_TIMER 0x08   /* 4 bytes */
#define PIIX4_GPE0_BASE 0xafe0 /* GPE0 block, fixed: 4 bytes, 2 status then 2 enable */
#define PIIX4_GPE0_LEN 4
#define PIIX4_SMI_COMMAND 0xb2
#define PIIX4_ACPI_ENABLE 0xf1
#define PIIX4_ACPI_DISABLE 0xf0
/* SLP_TYP values of \_S3, \_S4, \_S5. */
#define PIIX4_SLEEP_S3 1
#define PIIX4_SLEEP_S4 2
#define PIIX4_SLEEP_S5 0

struct piix4_smbus {
    uint8_t status, control, command, address, data0, data1;
    uint8_t slave_control, shadow_command, block[32], block_index;
    uint16_t slave_event, slave_data;
};

struct piix4_pm {
    struct pci_device pci;
    struct irq_line sci, smi;
    uint16_t pm1_status, pm1_enable, pm1_control;
    uint16_t gpe_status, gpe_enable;
    uint16_t processor_control; /* PCNTRL low part */
    uint32_t global_control, global_status, device_status, device_control;
    int64_t timer_overflow; /* virtual ns of the next overflow of the PM timer */
    struct timer timer;
    uint8_t apm_control, apm_status; /* ports 0xb2, 0xb3 */
    struct piix4_smbus smbus;
    struct mem_region pm_region, smbus_region, gpe_region, apm_region;
    bool smm_enabled; /* property: firmware may set up SMM */
    bool s3_disabled, s4_disabled; /* properties disable_s3, disable_s4 */
};

extern const struct device_type piix4_pm_type; /* "PIIX4_PM", bus "pci" */

/* Press of the power button: PWRBTN_STS and SCI. */
void piix4_pm_power_button(struct piix4_pm *s);
/* A general-purpose event (PCI hot-plug, CPU hot-plug ...). */
void piix4_pm_set_gpe(struct piix4_pm *s, unsigned bit);

#endif
