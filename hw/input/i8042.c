/*
 * Keyboard controller: an 8042 with the firmware of an IBM PS/2 (Hardware Interface Technical Reference, "Keyboard/
 * Auxiliary Device Controller"), ports 0x60 and 0x64.
 *
 * Not modelled: time (a byte is there as soon as the one before is read), keyboard password, the diagnostic dump.
 * Bits of the input and test ports are those of a machine that nobody has locked. All under the VM lock.
 */
#include "hw/input/i8042.h"

#include "hw/core/log.h"
#include "hw/core/machine.h"
#include "hw/core/state.h"
#include "hw/input/ps2.h"
#include "hw/input/ps2_codes.h"
#include "hw/isa/isa.h"

#include <string.h>

#define STATUS_OBF 0x01
#define STATUS_SYS 0x04
#define STATUS_CMD 0x08 /* the last write was to port 0x64 */
#define STATUS_UNLOCKED 0x10
#define STATUS_AUX_OBF 0x20

/* The command byte, which is byte 0 of the controller's RAM */
#define MODE_INT 0x01
#define MODE_AUX_INT 0x02
#define MODE_SYS 0x04
#define MODE_DISABLE 0x10
#define MODE_AUX_DISABLE 0x20
#define MODE_TRANSLATE 0x40

/* The output port */
#define OUT_RESET 0x01 /* 0 resets the processor */
#define OUT_A20 0x02
#define OUT_OBF 0x10
#define OUT_AUX_OBF 0x20
#define OUT_ONES 0xcc

enum i8042_command {
    CMD_READ_RAM = 0x20,  /* to 0x3f */
    CMD_WRITE_RAM = 0x60, /* to 0x7f */
    CMD_TEST_PASSWORD = 0xa4,
    CMD_AUX_DISABLE = 0xa7,
    CMD_AUX_ENABLE = 0xa8,
    CMD_AUX_TEST = 0xa9,
    CMD_SELF_TEST = 0xaa,
    CMD_INTERFACE_TEST = 0xab,
    CMD_DISABLE = 0xad,
    CMD_ENABLE = 0xae,
    CMD_READ_INPUT_PORT = 0xc0,
    CMD_POLL_INPUT_LOW = 0xc1,
    CMD_POLL_INPUT_HIGH = 0xc2,
    CMD_READ_OUTPUT_PORT = 0xd0,
    CMD_WRITE_OUTPUT_PORT = 0xd1,
    CMD_WRITE_OUTPUT_BUFFER = 0xd2,
    CMD_WRITE_AUX_OUTPUT_BUFFER = 0xd3,
    CMD_WRITE_AUX = 0xd4,
    CMD_DISABLE_A20 = 0xdd,
    CMD_ENABLE_A20 = 0xdf,
    CMD_READ_TEST_INPUTS = 0xe0,
    CMD_PULSE = 0xf0, /* to 0xff */
};

#define INPUT_PORT 0x80 /* keyboard not locked */
#define RAM_SIZE 32

enum source { SOURCE_CONTROLLER, SOURCE_KEYBOARD, SOURCE_AUX };

struct i8042 {
    struct device dev;
    struct mem_region data_region, command_region;
    struct irq_line irq, aux_irq, a20;
    struct ps2_keyboard keyboard;
    struct ps2_mouse mouse;
    uint8_t ram[RAM_SIZE]; /* [0]: command byte */
    uint8_t status, output_port;
    uint8_t command; /* whose argument comes next at port 0x60, or 0: it goes to the keyboard */
    uint8_t output;  /* output buffer */
    /* One answer of the controller waits for the output buffer at most: the next command drops it. */
    bool answer_waits, answer_aux;
    uint8_t answer;
    bool break_prefix; /* translation has swallowed 0xf0 */
    bool input_high;   /* CMD_POLL_INPUT_*: status bits 7:4 show a half of the input port until the next command */
};

static uint8_t mode(const struct i8042 *s)
{
    return s->ram[0];
}

/* --- Output buffer ------------------------------------------------------------------------------------------------ */

static void update_irqs(struct i8042 *s)
{
    bool full = s->status & STATUS_OBF, aux = s->status & STATUS_AUX_OBF;

    irq_set(&s->irq, full && !aux && (mode(s) & MODE_INT));
    irq_set(&s->aux_irq, full && aux && (mode(s) & MODE_AUX_INT));
}

static void fill(struct i8042 *s, uint8_t byte, bool aux)
{
    s->output = byte;
    s->status = (s->status & ~STATUS_AUX_OBF) | STATUS_OBF | (aux ? STATUS_AUX_OBF : 0);
}

/* False: the byte was a prefix that shows in the next one. */
static bool translate(struct i8042 *s, uint8_t *byte)
{
    if (!(mode(s) & MODE_TRANSLATE))
        return true;
    if (*byte == 0xf0) {
        s->break_prefix = true;
        return false;
    }
    *byte = ps2_translation[*byte] | (s->break_prefix ? 0x80 : 0);
    s->break_prefix = false;
    return true;
}

static void take_keyboard(struct i8042 *s)
{
    while (!(s->status & STATUS_OBF) && ps2_port_ready(&s->keyboard.port)) {
        uint8_t byte = ps2_port_take(&s->keyboard.port);
        if (translate(s, &byte))
            fill(s, byte, false);
    }
}

/* Fills the output buffer if it is empty and somebody has something for it. */
static void refill(struct i8042 *s)
{
    if (!(s->status & STATUS_OBF) && s->answer_waits) {
        s->answer_waits = false;
        fill(s, s->answer, s->answer_aux);
    }
    if (!(mode(s) & MODE_DISABLE))
        take_keyboard(s);
    if (!(s->status & STATUS_OBF) && !(mode(s) & MODE_AUX_DISABLE) && ps2_port_ready(&s->mouse.port)) {
        fill(s, ps2_port_take(&s->mouse.port), true);
        ps2_mouse_continue(&s->mouse);
    }
    update_irqs(s);
}

static void port_changed(void *opaque)
{
    refill(opaque);
}

static void answer(struct i8042 *s, uint8_t byte, bool aux)
{
    s->answer = byte;
    s->answer_aux = aux;
    s->answer_waits = true;
    refill(s);
}

static uint64_t data_read(void *opaque, uint64_t offset, unsigned size)
{
    struct i8042 *s = opaque;
    uint8_t byte = s->output;

    if (s->status & STATUS_OBF) {
        s->status &= ~(STATUS_OBF | STATUS_AUX_OBF);
        update_irqs(s); /* down between two bytes: the 8259 wants an edge for each */
        refill(s);
    }
    return byte;
}

/* --- Output port -------------------------------------------------------------------------------------------------- */

static void set_a20(struct i8042 *s, bool on)
{
    s->output_port = (s->output_port & ~OUT_A20) | (on ? OUT_A20 : 0);
    irq_set(&s->a20, on);
}

static void write_output_port(struct i8042 *s, uint8_t value)
{
    s->output_port = value | OUT_ONES;
    set_a20(s, value & OUT_A20);
    if (!(value & OUT_RESET))
        machine_request(s->dev.machine, REQUEST_RESET, "8042");
}

static uint8_t read_output_port(const struct i8042 *s)
{
    uint8_t value = s->output_port & ~(OUT_OBF | OUT_AUX_OBF);

    if (s->status & STATUS_OBF)
        value |= s->status & STATUS_AUX_OBF ? OUT_AUX_OBF : OUT_OBF;
    return value;
}

/* --- Commands ----------------------------------------------------------------------------------------------------- */

static void set_mode(struct i8042 *s, uint8_t value)
{
    s->ram[0] = value;
    s->status = (s->status & ~STATUS_SYS) | (value & MODE_SYS);
    refill(s);
}

static void self_test(struct i8042 *s)
{
    s->status &= ~(STATUS_OBF | STATUS_AUX_OBF);
    s->status |= STATUS_SYS;
    s->ram[0] |= MODE_SYS;
    s->break_prefix = false;
    answer(s, 0x55, false); /* goes before whatever the devices have to say */
}

static void pulse(struct i8042 *s, uint8_t command)
{
    /* Bits 3:0: lines that stay as they are. Only line 0 leads anywhere. */
    if (!(command & OUT_RESET))
        machine_request(s->dev.machine, REQUEST_RESET, "8042");
}

static void single_command(struct i8042 *s, uint8_t command)
{
    switch (command) {
    case CMD_TEST_PASSWORD: answer(s, 0xf1, false); break; /* none is set */
    case CMD_AUX_DISABLE: set_mode(s, mode(s) | MODE_AUX_DISABLE); break;
    case CMD_AUX_ENABLE: set_mode(s, mode(s) & ~MODE_AUX_DISABLE); break;
    case CMD_AUX_TEST:
    case CMD_INTERFACE_TEST: answer(s, 0x00, false); break;
    case CMD_SELF_TEST: self_test(s); break;
    case CMD_DISABLE: set_mode(s, mode(s) | MODE_DISABLE); break;
    case CMD_ENABLE: set_mode(s, mode(s) & ~MODE_DISABLE); break;
    case CMD_READ_INPUT_PORT: answer(s, INPUT_PORT, false); break;
    case CMD_POLL_INPUT_LOW: break; /* the lower half of the input port is 0, as the bits it would replace */
    case CMD_POLL_INPUT_HIGH: s->input_high = true; break;
    case CMD_READ_OUTPUT_PORT: answer(s, read_output_port(s), false); break;
    case CMD_WRITE_OUTPUT_PORT:
    case CMD_WRITE_OUTPUT_BUFFER:
    case CMD_WRITE_AUX_OUTPUT_BUFFER:
    case CMD_WRITE_AUX: s->command = command; break;
    case CMD_DISABLE_A20: set_a20(s, false); break;
    case CMD_ENABLE_A20: set_a20(s, true); break;
    case CMD_READ_TEST_INPUTS: answer(s, 0x00, false); break;
    default: log_guest_error("i8042", "unknown command 0x%02x", command); break;
    }
}

static void command_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct i8042 *s = opaque;
    uint8_t command = value;

    s->status |= STATUS_CMD;
    s->command = 0;
    s->answer_waits = false;
    s->input_high = false;
    if (command >= CMD_READ_RAM && command < CMD_READ_RAM + RAM_SIZE)
        answer(s, s->ram[command - CMD_READ_RAM], false);
    else if (command >= CMD_WRITE_RAM && command < CMD_WRITE_RAM + RAM_SIZE)
        s->command = command;
    else if (command >= CMD_PULSE)
        pulse(s, command);
    else
        single_command(s, command);
}

static uint64_t status_read(void *opaque, uint64_t offset, unsigned size)
{
    const struct i8042 *s = opaque;
    return s->input_high ? (s->status & 0x0f) | (INPUT_PORT & 0xf0) : s->status;
}

static void data_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct i8042 *s = opaque;
    uint8_t command = s->command, byte = value;

    s->status &= ~STATUS_CMD;
    s->command = 0;
    switch (command) {
    case 0:
        /* Sending to a device lets it answer. */
        s->ram[0] &= ~MODE_DISABLE;
        ps2_keyboard_write(&s->keyboard, byte);
        refill(s);
        break;
    case CMD_WRITE_OUTPUT_PORT: write_output_port(s, byte); break;
    case CMD_WRITE_OUTPUT_BUFFER: answer(s, byte, false); break;
    case CMD_WRITE_AUX_OUTPUT_BUFFER: answer(s, byte, true); break;
    case CMD_WRITE_AUX:
        s->ram[0] &= ~MODE_AUX_DISABLE;
        ps2_mouse_write(&s->mouse, byte);
        refill(s);
        break;
    case CMD_WRITE_RAM: set_mode(s, byte); break;
    default: s->ram[command % RAM_SIZE] = byte; break; /* within bounds even after a refused load */
    }
}

static const struct mem_ops data_ops = {.read = data_read, .write = data_write, .valid = {1, 1, false}};
static const struct mem_ops command_ops = {.read = status_read, .write = command_write, .valid = {1, 1, false}};

/* --- Life --------------------------------------------------------------------------------------------------------- */

void i8042_set_a20(struct device *d, struct irq_line a20)
{
    container_of(d, struct i8042, dev)->a20 = a20;
}

static bool i8042_realize(struct device *d, GError **err)
{
    struct i8042 *s = container_of(d, struct i8042, dev);
    struct isa_bus *isa = isa_bus_of(d);

    if (!isa_irq_connect(isa, 1, &s->irq, err) || !isa_irq_connect(isa, 12, &s->aux_irq, err))
        return false;
    mem_init_io(&s->data_region, d, &data_ops, s, "i8042-data", 1);
    mem_init_io(&s->command_region, d, &command_ops, s, "i8042-cmd", 1);
    mem_map(&d->machine->port_root, 0x60, &s->data_region, 0);
    mem_map(&d->machine->port_root, 0x64, &s->command_region, 0);
    ps2_keyboard_init(&s->keyboard, d->machine, port_changed, s);
    ps2_mouse_init(&s->mouse, d->machine, port_changed, s);
    return true;
}

static void i8042_reset(struct device *d)
{
    struct i8042 *s = container_of(d, struct i8042, dev);

    memset(s->ram, 0, sizeof(s->ram));
    s->ram[0] = MODE_INT | MODE_AUX_INT;
    s->status = STATUS_CMD | STATUS_UNLOCKED;
    s->output_port = OUT_RESET | OUT_A20 | OUT_ONES;
    s->command = s->output = s->answer = 0;
    s->answer_waits = s->answer_aux = s->break_prefix = s->input_high = false;
    ps2_keyboard_reset(&s->keyboard);
    ps2_mouse_reset(&s->mouse);
}

static void i8042_reset_wires(struct device *d)
{
    struct i8042 *s = container_of(d, struct i8042, dev);

    update_irqs(s);
    irq_set(&s->a20, s->output_port & OUT_A20 ? 1 : 0);
}

static void i8042_unrealize(struct device *d)
{
    struct i8042 *s = container_of(d, struct i8042, dev);

    ps2_keyboard_fini(&s->keyboard);
    ps2_mouse_fini(&s->mouse);
    mem_fini(&s->data_region);
    mem_fini(&s->command_region);
}

static const struct state_field i8042_fields[] = {
    STATE_NESTED(struct i8042, keyboard, ps2_keyboard_fields),
    STATE_NESTED(struct i8042, mouse, ps2_mouse_fields),
    STATE_ARRAY(STATE_BYTES, struct i8042, ram),
    STATE_FIELD(STATE_U8, struct i8042, status),
    STATE_FIELD(STATE_U8, struct i8042, output_port),
    STATE_FIELD(STATE_U8, struct i8042, command),
    STATE_FIELD(STATE_U8, struct i8042, output),
    STATE_FIELD(STATE_BOOL, struct i8042, answer_waits),
    STATE_FIELD(STATE_BOOL, struct i8042, answer_aux),
    STATE_FIELD(STATE_U8, struct i8042, answer),
    STATE_FIELD(STATE_BOOL, struct i8042, break_prefix),
    STATE_FIELD(STATE_BOOL, struct i8042, input_high),
    STATE_FIELDS_END,
};

static bool command_possible(uint8_t command)
{
    return command == 0 || (command >= CMD_WRITE_RAM && command < CMD_WRITE_RAM + RAM_SIZE) ||
           (command >= CMD_WRITE_OUTPUT_PORT && command <= CMD_WRITE_AUX);
}

static bool i8042_post_load(void *instance, uint8_t version, GError **err)
{
    struct i8042 *s = instance;

    if (!command_possible(s->command)) {
        g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_INVAL, "i8042: command 0x%02x of the saved state takes no argument",
                    s->command);
        return false;
    }
    return ps2_keyboard_post_load(&s->keyboard, err) && ps2_mouse_post_load(&s->mouse, err);
}

static const struct state_table i8042_state = {
    .name = "i8042",
    .version = 1,
    .fields = i8042_fields,
    .post_load = i8042_post_load,
};

const struct device_type i8042_type = {
    .name = "i8042",
    .description = "PS/2 keyboard controller with keyboard and mouse",
    .bus = "isa",
    .size = sizeof(struct i8042),
    .realize = i8042_realize,
    .reset = i8042_reset,
    .reset_wires = i8042_reset_wires,
    .unrealize = i8042_unrealize,
    .state = &i8042_state,
};
