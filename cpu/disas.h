/*
 * Disassembly for people: -d in_asm, crash reports. Not the decoder (cpu/insn.h), and independent of it.
 */
#ifndef CPU_DISAS_H
#define CPU_DISAS_H

#include <glib.h>
#include <stdint.h>

/*
 * Appends a line for each instruction in `len` bytes at rip: address, bytes, text in Intel syntax. Bytes that are no
 * instruction are printed as .byte. `code_size`: 1, 2 or 3 as in struct decode_mode. Any thread.
 */
void disas_print(GString *out, const uint8_t *bytes, unsigned len, uint64_t rip, unsigned code_size);

#endif
