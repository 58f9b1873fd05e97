/*
 * 16550A UART (National Semiconductor PC16550D data sheet, 1995): FIFOs, all four interrupts, loopback, line status.
 *
 * Bytes leave as soon as the back end takes them and arrive as soon as there is room: the divisor sets only the time
 * after which a receive FIFO below its trigger level interrupts. Where the data sheet and boards differ we follow
 * boards: OUT2 does not gate the interrupt (xv6 and others leave it low), CTS, DSR and DCD are always on. DMA mode
 * signals lead nowhere.
 *
 * All under the VM lock.
 */
#include "hw/char/serial.h"

#include "hw/backend/chr.h"
#include "hw/core/log.h"
#include "hw/core/machine.h"

#include <string.h>

enum serial_register { RBR_THR = 0, IER = 1, IIR_FCR = 2, LCR = 3, MCR = 4, LSR = 5, MSR = 6, SCR = 7 };

#define IER_ERBFI 0x01 /* received data available */
#define IER_ETBEI 0x02 /* transmitter holding register empty */
#define IER_ELSI 0x04  /* receiver line status */
#define IER_EDSSI 0x08 /* modem status */

#define IIR_NONE 0x01
#define IIR_MODEM 0x00
#define IIR_THR 0x02
#define IIR_DATA 0x04
#define IIR_LINE 0x06
#define IIR_TIMEOUT 0x0c
#define IIR_FIFOS 0xc0

#define FCR_ENABLE 0x01
#define FCR_CLEAR_RECEIVE 0x02
#define FCR_CLEAR_TRANSMIT 0x04
#define FCR_TRIGGER 0xc0

#define LCR_STOP 0x04
#define LCR_PARITY 0x08
#define LCR_BREAK 0x40
#define LCR_DLAB 0x80

#define MCR_DTR 0x01
#define MCR_RTS 0x02
#define MCR_OUT1 0x04
#define MCR_OUT2 0x08
#define MCR_LOOP 0x10

#define LSR_DR 0x01
#define LSR_OE 0x02
#define LSR_PE 0x04
#define LSR_FE 0x08
#define LSR_BI 0x10
#define LSR_THRE 0x20
#define LSR_TEMT 0x40
#define LSR_FIFO_ERROR 0x80
#define LSR_ERRORS (LSR_OE | LSR_PE | LSR_FE | LSR_BI)

#define MSR_DELTAS 0x0f
#define MSR_TERI 0x04
#define MSR_CTS 0x10
#define MSR_DSR 0x20
#define MSR_RI 0x40
#define MSR_DCD 0x80
#define MSR_CONNECTED (MSR_CTS | MSR_DSR | MSR_DCD)

#define INPUT_HZ 1843200

/* --- FIFOs -------------------------------------------------------------------------------------------------------- */

static unsigned fifo_depth(const struct serial *s)
{
    return s->fcr & FCR_ENABLE ? SERIAL_FIFO : 1;
}

static void fifo_put(struct serial_fifo *f, uint8_t byte, uint8_t errors)
{
    unsigned at = (f->first + f->count) % SERIAL_FIFO;

    f->data[at] = byte;
    f->errors[at] = errors;
    f->count++;
}

static uint8_t fifo_take(struct serial_fifo *f)
{
    uint8_t byte = f->data[f->first];

    f->first = (f->first + 1) % SERIAL_FIFO;
    f->count--;
    return byte;
}

static void fifo_clear(struct serial_fifo *f)
{
    f->first = f->count = 0;
}

static bool fifo_has_error(const struct serial_fifo *f)
{
    for (unsigned i = 0; i < f->count; i++) {
        if (f->errors[(f->first + i) % SERIAL_FIFO])
            return true;
    }
    return false;
}

/* --- Interrupts --------------------------------------------------------------------------------------------------- */

static unsigned trigger_level(const struct serial *s)
{
    static const uint8_t levels[4] = {1, 4, 8, 14};
    return s->fcr & FCR_ENABLE ? levels[s->fcr >> 6] : 1;
}

/* The interrupt that IIR shows: the most pressing of those that are enabled. */
static uint8_t interrupt(const struct serial *s)
{
    if ((s->ier & IER_ELSI) && (s->lsr & LSR_ERRORS))
        return IIR_LINE;
    if ((s->ier & IER_ERBFI) && s->receive.count >= trigger_level(s))
        return IIR_DATA;
    if ((s->ier & IER_ERBFI) && s->timeout_interrupt)
        return IIR_TIMEOUT;
    if ((s->ier & IER_ETBEI) && s->thr_interrupt)
        return IIR_THR;
    if ((s->ier & IER_EDSSI) && (s->msr & MSR_DELTAS))
        return IIR_MODEM;
    return IIR_NONE;
}

static void update_irq(struct serial *s)
{
    irq_set(&s->irq, interrupt(s) != IIR_NONE);
}

/* --- Receiving ---------------------------------------------------------------------------------------------------- */

static int64_t byte_time(const struct serial *s)
{
    unsigned bits = 1 + 5 + (s->lcr & 3) + (s->lcr & LCR_PARITY ? 1 : 0) + (s->lcr & LCR_STOP ? 2 : 1);
    return NS_PER_SECOND * bits * 16 * MAX(s->divisor, 1) / INPUT_HZ;
}

/* Four byte times after the last byte came or went, what is left in the FIFO is worth an interrupt. */
static void restart_timeout(struct serial *s)
{
    s->timeout_interrupt = false;
    if ((s->fcr & FCR_ENABLE) && s->receive.count)
        timer_set(&s->timeout, clock_now(s->dev->machine->clock) + 4 * byte_time(s));
    else
        timer_cancel(&s->timeout);
}

static void timed_out(void *opaque)
{
    struct serial *s = opaque;

    s->timeout_interrupt = s->receive.count != 0;
    update_irq(s);
}

/* The errors of a byte show when it reaches the top. */
static void show_top(struct serial *s)
{
    struct serial_fifo *f = &s->receive;

    if (f->count) {
        s->lsr |= LSR_DR | f->errors[f->first];
        f->errors[f->first] = 0;
    } else {
        s->lsr &= ~LSR_DR;
    }
    if ((s->fcr & FCR_ENABLE) && fifo_has_error(f))
        s->lsr |= LSR_FIFO_ERROR;
    else
        s->lsr &= ~LSR_FIFO_ERROR;
}

static void receive_byte(struct serial *s, uint8_t byte, uint8_t errors)
{
    struct serial_fifo *f = &s->receive;

    if (f->count == fifo_depth(s)) {
        s->lsr |= LSR_OE;
        if (s->fcr & FCR_ENABLE)
            return; /* the byte in the shift register is overwritten; the FIFO keeps what it has */
        fifo_clear(f);
    }
    fifo_put(f, byte, errors);
    show_top(s);
    restart_timeout(s);
}

static size_t can_read(void *opaque)
{
    const struct serial *s = opaque;
    return s->mcr & MCR_LOOP ? 0 : fifo_depth(s) - s->receive.count;
}

static void host_read(void *opaque, const uint8_t *buf, size_t len)
{
    struct serial *s = opaque;

    for (size_t i = 0; i < len; i++)
        receive_byte(s, buf[i], 0);
    update_irq(s);
}

static void host_event(void *opaque, enum chr_event event)
{
    struct serial *s = opaque;

    if (event == CHR_EVENT_BREAK && !(s->mcr & MCR_LOOP)) {
        receive_byte(s, 0, LSR_BI);
        update_irq(s);
    }
}

static uint8_t read_rbr(struct serial *s)
{
    uint8_t byte;

    if (!s->receive.count)
        return s->receive.data[(s->receive.first + SERIAL_FIFO - 1) % SERIAL_FIFO]; /* the last one again */
    byte = fifo_take(&s->receive);
    show_top(s);
    restart_timeout(s);
    update_irq(s);
    if (s->chr && !(s->mcr & MCR_LOOP))
        chr_accept_input(s->chr);
    return byte;
}

/* --- Sending ------------------------------------------------------------------------------------------------------ */

static bool send_byte(struct serial *s, uint8_t byte)
{
    if (s->mcr & MCR_LOOP) {
        receive_byte(s, byte, 0);
        return true;
    }
    return !s->chr || chr_write(s->chr, &byte, 1) == 1;
}

/* Sends what waits, as far as the host takes it; the rest when it calls `writable`. */
static void transmit(struct serial *s)
{
    struct serial_fifo *f = &s->transmit;

    while (f->count) {
        if (!send_byte(s, f->data[f->first]))
            return;
        fifo_take(f);
    }
    if (!(s->lsr & LSR_THRE))
        s->thr_interrupt = true;
    s->lsr |= LSR_THRE | LSR_TEMT;
}

static void host_writable(void *opaque)
{
    struct serial *s = opaque;

    transmit(s);
    update_irq(s);
}

static void write_thr(struct serial *s, uint8_t byte)
{
    if (s->transmit.count == fifo_depth(s)) {
        if (s->fcr & FCR_ENABLE)
            return; /* a full FIFO takes no more */
        fifo_clear(&s->transmit);
    }
    fifo_put(&s->transmit, byte, 0);
    s->lsr &= ~(LSR_THRE | LSR_TEMT);
    s->thr_interrupt = false;
    update_irq(s); /* an edge for the 8259 when it comes back */
    transmit(s);
    update_irq(s);
}

/* --- Control registers -------------------------------------------------------------------------------------------- */

static void write_ier(struct serial *s, uint8_t value)
{
    uint8_t enabled = value & ~s->ier;

    s->ier = value & 0x0f;
    /* Enabling the interrupt while THR is empty asks at once; that is how drivers start sending. */
    if (!(s->ier & IER_ETBEI))
        s->thr_interrupt = false;
    else if ((enabled & IER_ETBEI) && (s->lsr & LSR_THRE))
        s->thr_interrupt = true;
    update_irq(s);
}

static uint8_t read_iir(struct serial *s)
{
    uint8_t id = interrupt(s);

    if (id == IIR_THR) {
        s->thr_interrupt = false;
        update_irq(s);
    }
    return id | (s->fcr & FCR_ENABLE ? IIR_FIFOS : 0);
}

static void clear_receive(struct serial *s)
{
    fifo_clear(&s->receive);
    show_top(s);
    restart_timeout(s);
}

static void clear_transmit(struct serial *s)
{
    fifo_clear(&s->transmit);
    if (!(s->lsr & LSR_THRE))
        s->thr_interrupt = true;
    s->lsr |= LSR_THRE | LSR_TEMT;
}

static void write_fcr(struct serial *s, uint8_t value)
{
    bool toggled = (value ^ s->fcr) & FCR_ENABLE;

    /* The other bits can only be written together with the enable bit. */
    s->fcr = value & FCR_ENABLE ? value & (FCR_ENABLE | FCR_TRIGGER) : 0;
    if (toggled || (s->fcr && (value & FCR_CLEAR_RECEIVE)))
        clear_receive(s);
    if (toggled || (s->fcr && (value & FCR_CLEAR_TRANSMIT)))
        clear_transmit(s);
    update_irq(s);
    if (s->chr)
        chr_accept_input(s->chr);
}

static void write_lcr(struct serial *s, uint8_t value)
{
    bool breaking = value & LCR_BREAK;

    s->lcr = value;
    if (breaking == s->breaking)
        return;
    s->breaking = breaking;
    if (!breaking)
        return;
    if (s->mcr & MCR_LOOP) {
        receive_byte(s, 0, LSR_BI);
        update_irq(s);
    } else if (s->chr) {
        chr_send_break(s->chr);
    }
}

static void set_modem_inputs(struct serial *s, uint8_t inputs)
{
    uint8_t changed = (inputs ^ s->msr) & 0xf0;

    /* RI tells of its trailing edge only. */
    if (inputs & MSR_RI)
        changed &= ~MSR_RI;
    s->msr = inputs | (s->msr & MSR_DELTAS) | changed >> 4;
}

static uint8_t modem_inputs(const struct serial *s)
{
    uint8_t mcr = s->mcr;

    if (!(mcr & MCR_LOOP))
        return MSR_CONNECTED;
    return (mcr & MCR_RTS ? MSR_CTS : 0) | (mcr & MCR_DTR ? MSR_DSR : 0) | (mcr & MCR_OUT1 ? MSR_RI : 0) |
           (mcr & MCR_OUT2 ? MSR_DCD : 0);
}

static void write_mcr(struct serial *s, uint8_t value)
{
    bool was_loop = s->mcr & MCR_LOOP;

    s->mcr = value & 0x1f;
    set_modem_inputs(s, modem_inputs(s));
    update_irq(s);
    if (was_loop && !(s->mcr & MCR_LOOP) && s->chr)
        chr_accept_input(s->chr);
}

static uint8_t read_lsr(struct serial *s)
{
    uint8_t value = s->lsr;

    s->lsr &= ~LSR_ERRORS;
    update_irq(s);
    return value;
}

static uint8_t read_msr(struct serial *s)
{
    uint8_t value = s->msr;

    s->msr &= ~MSR_DELTAS;
    update_irq(s);
    return value;
}

static uint64_t serial_read(void *opaque, uint64_t offset, unsigned size)
{
    struct serial *s = opaque;

    switch (offset) {
    case RBR_THR: return s->lcr & LCR_DLAB ? s->divisor & 0xff : read_rbr(s);
    case IER: return s->lcr & LCR_DLAB ? s->divisor >> 8 : s->ier;
    case IIR_FCR: return read_iir(s);
    case LCR: return s->lcr;
    case MCR: return s->mcr;
    case LSR: return read_lsr(s);
    case MSR: return read_msr(s);
    default: return s->scr;
    }
}

static void serial_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct serial *s = opaque;
    bool dlab = s->lcr & LCR_DLAB;

    switch (offset) {
    case RBR_THR:
        if (dlab)
            s->divisor = (s->divisor & 0xff00) | value;
        else
            write_thr(s, value);
        break;
    case IER:
        if (dlab)
            s->divisor = (s->divisor & 0x00ff) | value << 8;
        else
            write_ier(s, value);
        break;
    case IIR_FCR: write_fcr(s, value); break;
    case LCR: write_lcr(s, value); break;
    case MCR: write_mcr(s, value); break;
    case SCR: s->scr = value; break;
    default: break; /* LSR and MSR: for factory tests */
    }
}

static const struct mem_ops serial_ops = {
    .read = serial_read,
    .write = serial_write,
    .valid = {1, 4, true},
    .impl = {1, 1, false},
};

/* --- Life --------------------------------------------------------------------------------------------------------- */

static const struct chr_front_ops front_ops = {
    .can_read = can_read,
    .read = host_read,
    .event = host_event,
    .writable = host_writable,
};

bool serial_init(struct serial *s, struct device *dev, GError **err)
{
    s->dev = dev;
    timer_init(&s->timeout, dev->machine->clock, timed_out, s);
    if (s->chr && !chr_attach(s->chr, &front_ops, s, err)) {
        s->chr = NULL; /* not ours to detach */
        return false;
    }
    mem_init_io(&s->region, dev, &serial_ops, s, "serial", 8);
    return true;
}

void serial_fini(struct serial *s)
{
    timer_cancel(&s->timeout);
    if (s->chr)
        chr_detach(s->chr, s);
    mem_fini(&s->region);
}

void serial_reset(struct serial *s)
{
    s->ier = s->fcr = s->lcr = s->mcr = s->scr = 0;
    s->lsr = LSR_THRE | LSR_TEMT;
    s->msr = MSR_CONNECTED;
    s->divisor = 12; /* undefined in the chip; 9600 baud */
    s->receive = s->transmit = (struct serial_fifo){0};
    s->thr_interrupt = s->timeout_interrupt = s->breaking = false;
    timer_cancel(&s->timeout);
}

void serial_reset_wires(struct serial *s)
{
    update_irq(s);
    if (s->chr)
        chr_accept_input(s->chr);
}

static const struct state_field fifo_fields[] = {
    STATE_ARRAY(STATE_BYTES, struct serial_fifo, data),
    STATE_ARRAY(STATE_BYTES, struct serial_fifo, errors),
    STATE_FIELD(STATE_U8, struct serial_fifo, first),
    STATE_FIELD(STATE_U8, struct serial_fifo, count),
    STATE_FIELDS_END,
};

const struct state_field serial_fields[] = {
    STATE_FIELD(STATE_U8, struct serial, ier),
    STATE_FIELD(STATE_U8, struct serial, fcr),
    STATE_FIELD(STATE_U8, struct serial, lcr),
    STATE_FIELD(STATE_U8, struct serial, mcr),
    STATE_FIELD(STATE_U8, struct serial, lsr),
    STATE_FIELD(STATE_U8, struct serial, msr),
    STATE_FIELD(STATE_U8, struct serial, scr),
    STATE_FIELD(STATE_U16, struct serial, divisor),
    STATE_NESTED(struct serial, receive, fifo_fields),
    STATE_NESTED(struct serial, transmit, fifo_fields),
    STATE_FIELD(STATE_BOOL, struct serial, thr_interrupt),
    STATE_FIELD(STATE_BOOL, struct serial, timeout_interrupt),
    STATE_FIELD(STATE_BOOL, struct serial, breaking),
    STATE_FIELD(STATE_TIMER, struct serial, timeout),
    STATE_FIELDS_END,
};

bool serial_post_load(struct serial *s, GError **err)
{
    s->fcr &= FCR_ENABLE | FCR_TRIGGER;
    s->ier &= 0x0f;
    s->mcr &= 0x1f;
    if (s->receive.first >= SERIAL_FIFO || s->receive.count > fifo_depth(s) || s->transmit.first >= SERIAL_FIFO ||
        s->transmit.count > fifo_depth(s)) {
        g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_INVAL, "serial port: impossible FIFO in the saved state");
        return false;
    }
    if (s->chr)
        chr_accept_input(s->chr);
    return true;
}
