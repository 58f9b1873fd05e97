/*
 * Intel 82078 floppy disk controller (order number 290474) in its AT mode, and its drives.
 *
 * Commands take bytes through the FIFO, move sectors by DMA channel 2 or through the FIFO, and give result bytes. Sectors have
 * 512 bytes; the kind of medium follows from an image's size, and the guest must choose its data rate. Heads move at once, and
 * nothing waits for motors. Not modelled: tape, deleted data marks on the medium, PS/2 registers, power-down, formats with gaps
 * or sector numbers of the guest's own. All under the VM lock.
 */
#include "hw/disk/i82078_int.h"

#include "hw/core/log.h"
#include "hw/core/machine.h"
#include "hw/core/state.h"
#include "hw/isa/isa.h"

#include <string.h>

#define CMOS_TYPE_1440 4

uint8_t i82078_cmos_type(const struct device *fdc, unsigned drive)
{
    const struct i82078 *s = container_of(fdc, const struct i82078, dev);
    g_assert(drive < I82078_DRIVES);
    return s->drives[drive].cmos_type;
}

static void on_medium(void *opaque, bool present)
{
    struct fd_drive *d = opaque;

    d->medium = fdc_find_medium(d->blk);
    d->changed = true;
}

static const struct blk_front_ops front_ops = { .medium = on_medium };

/* --- Resets ------------------------------------------------------------------------------------------------------- */

static void soft_reset(struct i82078 *s)
{
    fdc_cancel(s);
    fdc_set_dreq(s, false);
    fdc_to_command(s);
    s->perpendicular &= 0x3c;
    s->seek_done = false;
    s->terminal_count = s->one_sector = false;
    if (!s->lock) {
        s->configure = 0;
        s->precomp = 0;
    }
    s->reset_senses = s->configure & CONFIGURE_NO_POLLING ? 0 : DRIVE_NUMBERS;
    fdc_set_irq(s, s->reset_senses != 0);
}

static void write_dor(struct i82078 *s, uint8_t value)
{
    uint8_t before = s->dor;

    s->dor = value;
    if (!(value & DOR_NOT_RESET)) {
        if (before & DOR_NOT_RESET) {
            fdc_cancel(s);
            fdc_set_dreq(s, false);
            fdc_to_command(s);
            fdc_set_irq(s, false);
        }
        s->phase = PHASE_RESET;
    } else if (!(before & DOR_NOT_RESET)) {
        soft_reset(s);
    } else {
        fdc_set_irq(s, s->irq_level);
    }
}

/* --- Registers ---------------------------------------------------------------------------------------------------- */

static uint8_t read_msr(const struct i82078 *s)
{
    switch ((enum phase)s->phase) {
    case PHASE_COMMAND: return MSR_RQM | (s->fifo_pos ? MSR_BUSY : 0);
    case PHASE_FIFO: return MSR_RQM | MSR_NON_DMA | MSR_BUSY | (s->work == WORK_READ ? MSR_DIO : 0);
    case PHASE_RESULT: return MSR_RQM | MSR_DIO | MSR_BUSY;
    case PHASE_RESET: return 0;
    default: return MSR_BUSY;
    }
}

static uint8_t read_fifo(struct i82078 *s)
{
    uint8_t value = 0;

    if (s->phase == PHASE_RESULT) {
        fdc_set_irq(s, false);
        value = s->fifo[s->fifo_pos++];
        if (s->fifo_pos == s->fifo_len)
            fdc_to_command(s);
    } else if (s->phase == PHASE_FIFO && s->work == WORK_READ) {
        fdc_set_irq(s, false);
        value = s->buffer[s->pos++];
        if (s->pos == s->end)
            fdc_buffer_done(s);
    } else {
        log_guest_error("i82078", "read of the FIFO while it has nothing");
    }
    return value;
}

static void write_fifo(struct i82078 *s, uint8_t value)
{
    if (s->phase == PHASE_COMMAND) {
        fdc_take_command_byte(s, value);
    } else if (s->phase == PHASE_FIFO && s->work != WORK_READ) {
        fdc_set_irq(s, false);
        s->buffer[s->pos++] = value;
        if (s->pos == s->end)
            fdc_buffer_done(s);
    } else {
        log_guest_error("i82078", "write of 0x%02x to the FIFO while it takes nothing", value);
    }
}

enum reg { REG_DOR = 2, REG_TDR = 3, REG_MSR = 4, REG_DSR = 4, REG_FIFO = 5 };

static uint64_t register_read(void *opaque, uint64_t offset, unsigned size)
{
    struct i82078 *s = opaque;

    switch (offset) {
    case REG_DOR: return s->dor;
    case REG_TDR: return s->tdr;
    case REG_MSR: return read_msr(s);
    case REG_FIFO: return read_fifo(s);
    default: return 0xff;
    }
}

static void register_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct i82078 *s = opaque;

    switch (offset) {
    case REG_DOR: write_dor(s, value); break;
    case REG_TDR: s->tdr = value & 3; break;
    case REG_DSR:
        s->rate = value & RATE;
        if ((value & DSR_RESET) && (s->dor & DOR_NOT_RESET))
            soft_reset(s);
        break;
    case REG_FIFO: write_fifo(s, value); break;
    }
}

static const struct mem_ops register_ops = {
    .read = register_read,
    .write = register_write,
    .valid = { 1, 2, true },
    .impl = { 1, 1, false },
};

static uint64_t dir_read(void *opaque, uint64_t offset, unsigned size)
{
    const struct i82078 *s = opaque;
    unsigned n = s->dor & DOR_SELECT;

    return n < I82078_DRIVES && s->drives[n].blk && (s->drives[n].changed || !s->drives[n].medium) ? DIR_CHANGED : 0;
}

static void ccr_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct i82078 *s = opaque;
    s->rate = value & RATE;
}

static const struct mem_ops dir_ops = {
    .read = dir_read,
    .write = ccr_write,
    .valid = { 1, 1, false },
    .impl = { 1, 1, false },
};

/* --- Life --------------------------------------------------------------------------------------------------------- */

static bool add_drive(struct i82078 *s, unsigned n, struct blk *blk, GError **err)
{
    struct fd_drive *d = &s->drives[n];

    d->fdc = s;
    if (!blk)
        return true;
    if (blk_has_medium(blk) && !fdc_find_medium(blk)) {
        g_set_error(err, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                    "isa-fdc: %s: %" G_GUINT64_FORMAT " KiB are too much for a floppy, which has up to 2880", blk_id(blk),
                    (guint64)(blk_size(blk) >> 10));
        return false;
    }
    if (!blk_attach(blk, &front_ops, d, err))
        return false;
    d->blk = blk;
    d->medium = fdc_find_medium(blk);
    d->cmos_type = d->medium ? d->medium->cmos : CMOS_TYPE_1440;
    return true;
}

static bool tell_firmware(struct i82078 *s, GError **err)
{
    const uint32_t index[I82078_DRIVES] = { s->bootindex_a, s->bootindex_b };

    for (unsigned n = 0; n < I82078_DRIVES; n++) {
        g_autofree char *path = g_strdup_printf("/pci@i0cf8/isa@1/fdc@03f0/floppy@%u", n);
        if (index[n] != UINT32_MAX && !machine_add_boot_path(s->dev.machine, index[n], path, err))
            return false;
    }
    return true;
}

static void detach(struct i82078 *s)
{
    for (unsigned n = 0; n < I82078_DRIVES; n++) {
        if (s->drives[n].blk)
            blk_detach(s->drives[n].blk, &s->drives[n]);
        s->drives[n].blk = NULL;
    }
}

static bool i82078_realize(struct device *d, GError **err)
{
    struct i82078 *s = container_of(d, struct i82078, dev);

    if (!isa_irq_connect(isa_bus_of(d), FDC_IRQ, &s->irq, err))
        return false;
    if (!add_drive(s, 0, s->blk_a, err) || !add_drive(s, 1, s->blk_b, err) || !tell_firmware(s, err)) {
        detach(s);
        return false;
    }
    timer_init(&s->retry, d->machine->clock, fdc_try_again, s);
    mem_init_io(&s->registers, d, &register_ops, s, "fdc", 6);
    mem_init_io(&s->dir_region, d, &dir_ops, s, "fdc-dir", 1);
    mem_map(&d->machine->port_root, 0x3f0, &s->registers, 0);
    mem_map(&d->machine->port_root, 0x3f7, &s->dir_region, 0);
    if (fdc_dma_of(s))
        i8237_attach(fdc_dma_of(s), FDC_DMA, fdc_dma_ready, s);
    return true;
}

static void i82078_reset(struct device *d)
{
    struct i82078 *s = container_of(d, struct i82078, dev);

    fdc_cancel(s);
    fdc_to_command(s);
    s->dor = DOR_NOT_RESET | DOR_DMA_GATE;
    s->tdr = 0;
    s->rate = 2;
    s->irq_level = false;
    memset(s->specify, 0, sizeof s->specify);
    memset(s->fifo, 0, sizeof s->fifo);
    memset(s->buffer, 0, sizeof s->buffer);
    s->configure = s->precomp = s->perpendicular = 0;
    s->lock = s->terminal_count = s->one_sector = s->seek_done = false;
    s->c = s->h = s->r = s->sectors_left = s->st2 = 0;
    s->reset_senses = s->seek_st0 = 0;
    for (unsigned n = 0; n < I82078_DRIVES; n++) {
        s->drives[n].track = 0;
        s->drives[n].changed = true;
    }
}

static void i82078_reset_wires(struct device *d)
{
    struct i82078 *s = container_of(d, struct i82078, dev);

    fdc_set_irq(s, false);
    fdc_set_dreq(s, false);
}

static void i82078_unrealize(struct device *d)
{
    struct i82078 *s = container_of(d, struct i82078, dev);

    fdc_cancel(s);
    detach(s);
    if (fdc_dma_of(s))
        i8237_attach(fdc_dma_of(s), FDC_DMA, NULL, NULL);
    mem_fini(&s->registers);
    mem_fini(&s->dir_region);
}

/* --- Saved state -------------------------------------------------------------------------------------------------- */

static void pre_save(void *instance)
{
    struct i82078 *s = instance;

    for (unsigned n = 0; n < I82078_DRIVES; n++) {
        if (s->drives[n].blk)
            blk_drain(s->drives[n].blk);
    }
}

static bool transfer_possible(const struct i82078 *s)
{
    bool media = s->phase == PHASE_MEDIA, data = s->phase == PHASE_DMA || s->phase == PHASE_FIFO;

    if (s->phase >= PHASES || s->work >= WORKS || (media && !timer_armed(&s->retry)))
        return false;
    if ((media || data) != (s->work != WORK_NONE) || (data && s->work == WORK_VERIFY))
        return false;
    if (s->end > SECTOR || s->pos > s->end || (data && s->pos == s->end))
        return false;
    if (data && s->work == WORK_FORMAT && (!s->sectors_left || s->end != 4))
        return false;
    return !(s->work != WORK_FORMAT && data && s->end != SECTOR);
}

static bool post_load(void *instance, uint8_t version, GError **err)
{
    struct i82078 *s = instance;
    bool command = s->phase != PHASE_COMMAND || !s->fifo_pos || s->fifo_pos < fdc_command_bytes(s->fifo[0]);
    bool result = s->phase != PHASE_RESULT || s->fifo_pos < s->fifo_len;

    if (transfer_possible(s) && command && result && s->fifo_len <= sizeof s->fifo && s->fifo_pos <= s->fifo_len && s->h <= 1 &&
        s->reset_senses <= DRIVE_NUMBERS && s->rate <= RATE)
        return true;
    g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_INVAL, "isa-fdc: the saved state is of no command that there is");
    return false;
}

static const struct state_field drive_fields[] = {
    STATE_FIELD(STATE_U8, struct fd_drive, track),
    STATE_FIELD(STATE_BOOL, struct fd_drive, changed),
    STATE_FIELDS_END,
};

static const struct state_field i82078_fields[] = {
    STATE_NESTED_ARRAY(struct i82078, drives, drive_fields),
    STATE_FIELD(STATE_U8, struct i82078, dor),
    STATE_FIELD(STATE_U8, struct i82078, tdr),
    STATE_FIELD(STATE_U8, struct i82078, rate),
    STATE_FIELD(STATE_BOOL, struct i82078, irq_level),
    STATE_ARRAY(STATE_BYTES, struct i82078, specify),
    STATE_FIELD(STATE_U8, struct i82078, configure),
    STATE_FIELD(STATE_U8, struct i82078, precomp),
    STATE_FIELD(STATE_U8, struct i82078, perpendicular),
    STATE_FIELD(STATE_BOOL, struct i82078, lock),
    STATE_FIELD(STATE_U8, struct i82078, phase),
    STATE_FIELD(STATE_U8, struct i82078, work),
    STATE_ARRAY(STATE_BYTES, struct i82078, fifo),
    STATE_FIELD(STATE_U8, struct i82078, fifo_pos),
    STATE_FIELD(STATE_U8, struct i82078, fifo_len),
    STATE_FIELD(STATE_U8, struct i82078, c),
    STATE_FIELD(STATE_U8, struct i82078, h),
    STATE_FIELD(STATE_U8, struct i82078, r),
    STATE_FIELD(STATE_U8, struct i82078, sectors_left),
    STATE_FIELD(STATE_U8, struct i82078, st2),
    STATE_FIELD(STATE_BOOL, struct i82078, terminal_count),
    STATE_FIELD(STATE_BOOL, struct i82078, one_sector),
    STATE_FIELD(STATE_U16, struct i82078, pos),
    STATE_FIELD(STATE_U16, struct i82078, end),
    STATE_ARRAY(STATE_BYTES, struct i82078, buffer),
    STATE_FIELD(STATE_U8, struct i82078, reset_senses),
    STATE_FIELD(STATE_BOOL, struct i82078, seek_done),
    STATE_FIELD(STATE_U8, struct i82078, seek_st0),
    STATE_FIELD(STATE_TIMER, struct i82078, retry),
    STATE_FIELDS_END,
};

static const struct state_table i82078_state = {
    .name = "isa-fdc",
    .version = 1,
    .fields = i82078_fields,
    .pre_save = pre_save,
    .post_load = post_load,
};

static const struct prop i82078_props[] = {
    PROP(PROP_BLK, "driveA", struct i82078, blk_a, 0, "id of a -drive: the first floppy drive"),
    PROP(PROP_BLK, "driveB", struct i82078, blk_b, 0, "id of a -drive: the second"),
    PROP(PROP_U32, "bootindexA", struct i82078, bootindex_a, UINT32_MAX, "firmware boots from the lowest first"),
    PROP(PROP_U32, "bootindexB", struct i82078, bootindex_b, UINT32_MAX, "the same of the second"),
    PROPS_END,
};

const struct device_type i82078_type = {
    .name = "isa-fdc",
    .description = "Intel 82078 floppy disk controller",
    .bus = "isa",
    .size = sizeof(struct i82078),
    .props = i82078_props,
    .realize = i82078_realize,
    .reset = i82078_reset,
    .reset_wires = i82078_reset_wires,
    .unrealize = i82078_unrealize,
    .state = &i82078_state,
};
