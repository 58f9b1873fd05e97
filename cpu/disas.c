/*
 * Disassembly through capstone, for -d in_asm. Opens capstone on each call: no state is kept between calls, any thread.
 *
 * What capstone does not know is printed as .byte; that the processor executes it is no contradiction.
 */
#include "cpu/disas.h"

#include <capstone/capstone.h>
#include <inttypes.h>

static void print_bytes(GString *out, const uint8_t *bytes, unsigned len, uint64_t rip, unsigned code_size)
{
    unsigned column = 0;
    g_string_append_printf(out, "0x%0*" PRIx64 ":  ", code_size == 3 ? 16 : 8, rip);
    for (unsigned k = 0; k < len; k++, column += 3)
        g_string_append_printf(out, "%02x ", bytes[k]);
    g_string_append_printf(out, "%*s", column < 36 ? (int)(36 - column) : 0, "");
}

/* Everything as data, one byte a line: capstone failed to open. */
static void print_data(GString *out, const uint8_t *bytes, unsigned len, uint64_t rip, unsigned code_size)
{
    for (unsigned k = 0; k < len; k++) {
        print_bytes(out, bytes + k, 1, rip + k, code_size);
        g_string_append_printf(out, ".byte 0x%02x\n", bytes[k]);
    }
}

void disas_print(GString *out, const uint8_t *bytes, unsigned len, uint64_t rip, unsigned code_size)
{
    static const cs_mode modes[] = { [1] = CS_MODE_16, [2] = CS_MODE_32, [3] = CS_MODE_64 };
    csh handle;
    g_assert(code_size >= 1 && code_size <= 3);
    if (cs_open(CS_ARCH_X86, modes[code_size], &handle) != CS_ERR_OK) {
        print_data(out, bytes, len, rip, code_size);
        return;
    }
    cs_insn *insn = cs_malloc(handle);
    size_t left = len;
    while (left) {
        uint64_t address = rip;
        const uint8_t *p = bytes;
        if (cs_disasm_iter(handle, &p, &left, &address, insn)) {
            print_bytes(out, bytes, insn->size, rip, code_size);
            g_string_append_printf(out, "%s%s%s\n", insn->mnemonic, *insn->op_str ? " " : "", insn->op_str);
            rip += insn->size;
            bytes += insn->size;
        } else {
            print_data(out, bytes, 1, rip, code_size);
            rip++;
            bytes++;
            left--;
        }
    }
    cs_free(insn, 1);
    cs_close(&handle);
}
