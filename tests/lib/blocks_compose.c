/*
 * The order of random code: straight runs, forward jumps, loops with small counts, calls, indirect jumps, and stores
 * into what comes next.
 */
#include "cpu/ops.h"
#include "tests/lib/blocks_build.h"

#include <string.h>

/* --- Labels ------------------------------------------------------------------------------------------------------- */

int blocks_label(struct blocks_gen *b)
{
    if (b->label_count == MAX_LABELS || b->reference_count >= MAX_REFERENCES - 2)
        return -1;
    b->labels[b->label_count].referred = false;
    return (int)b->label_count++;
}

void blocks_refer(struct blocks_gen *b, int label, enum refer kind, unsigned at, unsigned size)
{
    struct label *l = &b->labels[label];

    b->references[b->reference_count++] = (struct reference){ (uint16_t)at, (uint8_t)size, kind, (int8_t)label };
    if (!l->referred) {
        l->known = b->known;
        l->undef = 0;
        memcpy(l->value, b->value, sizeof l->value);
    }
    for (unsigned r = 0; r < 16; r++)
        if (l->value[r] != b->value[r])
            l->known &= ~(1u << r);
    l->known &= b->known;
    l->undef |= b->undef;
    l->referred = true;
}

static void resolve(struct blocks_gen *b, const struct reference *f, unsigned offset)
{
    struct blocks_case *c = b->c;
    uint64_t v = offset - (f->at + (uint64_t)f->size);

    if (f->kind == REFER_IP)
        v = c->start.rip + offset;
    else if (f->kind == REFER_ALIAS)
        v = b->alias_base + c->code_phys + offset;
    else if (f->kind == REFER_DATA)
        v = b->code_linear + offset - (c->mode == BLOCKS_LONG ? 0 : c->start.seg[SEG_DS].base);
    for (unsigned n = 0; n < f->size; n++)
        c->code[f->at + n] = (uint8_t)(v >> 8 * n);
}

static void place(struct blocks_gen *b, int label)
{
    const struct label *l = &b->labels[label];

    for (unsigned n = 0; n < b->reference_count;) {
        if (b->references[n].label == label) {
            resolve(b, &b->references[n], b->c->code_len);
            b->references[n] = b->references[--b->reference_count];
        } else {
            n++;
        }
    }
    if (!l->referred)
        return;
    b->undef |= l->undef;
    for (unsigned r = 0; r < 16; r++)
        if (l->value[r] != b->value[r])
            b->known &= ~(1u << r);
    b->known &= l->known;
}

/* Is a byte's reach from the label's reference nearly used up? */
static bool is_far(const struct blocks_gen *b, int label)
{
    for (unsigned n = 0; n < b->reference_count; n++)
        if (b->references[n].label == label && b->references[n].size == 1 && b->c->code_len - b->references[n].at > 60)
            return true;
    return false;
}

static void place_skips(struct blocks_gen *b, bool all)
{
    for (unsigned n = 0; n < b->skip_count;) {
        struct skip *s = &b->skips[n];
        if (all || s->left == 0 || is_far(b, s->label)) {
            place(b, s->label);
            *s = b->skips[--b->skip_count];
        } else {
            s->left--;
            n++;
        }
    }
}

/* --- Pieces ------------------------------------------------------------------------------------------------------- */

static bool room(const struct blocks_gen *b)
{
    return b->c->count < BLOCKS_ITEMS - 30 && b->label_count < MAX_LABELS - 4 &&
           b->reference_count < MAX_REFERENCES - 12;
}

static enum row_class random_class(struct blocks_gen *b)
{
    unsigned at = oracle_below(&b->g, 100);
    for (unsigned k = 0; k < CLASSES; k++) {
        if (at < b->weights[k])
            return k;
        at -= b->weights[k];
    }
    return CLASS_INTEGER;
}

static void plain(struct blocks_gen *b, unsigned count)
{
    for (unsigned n = 0; n < count && room(b); n++) {
        place_skips(b, false);
        enum row_class k = random_class(b);
        if (k == CLASS_AVX && b->c->mode >= BLOCKS_V86)
            k = CLASS_SSE;
        blocks_plain(b, k);
    }
}

static unsigned near_size(const struct blocks_gen *b)
{
    return blocks_code_size(b->c->mode) == 1 ? 2 : 4;
}

/* CALL or JMP to a label: E8 or E9. */
static void transfer(struct blocks_gen *b, uint8_t opcode, int label)
{
    uint8_t bytes[5] = { opcode };
    blocks_emit(b, bytes, 1 + near_size(b));
    blocks_refer(b, label, REFER_RELATIVE, b->c->code_len - near_size(b), near_size(b));
}

static void one_byte(struct blocks_gen *b, uint8_t opcode)
{
    blocks_emit(b, &opcode, 1);
}

static void define_if_open(struct blocks_gen *b)
{
    if (b->undef)
        blocks_define_flags(b);
}

static void sequence(struct blocks_gen *b, unsigned count, unsigned depth);

/* MOV register, label; the register is one that neither REX nor anybody needs. */
static void move_label(struct blocks_gen *b, unsigned r, int label, enum refer kind)
{
    uint64_t near = kind == REFER_IP      ? b->c->start.rip
                    : kind == REFER_ALIAS ? b->alias_base + b->c->code_phys
                                          : b->code_linear;
    unsigned at = blocks_move(b, r, near);
    b->known &= ~(1u << r);
    blocks_refer(b, label, kind, at, b->c->code_len - at);
}

static unsigned free_register(struct blocks_gen *b)
{
    static const uint8_t some[] = { R_RAX, R_RDX, R_RCX };
    unsigned r = some[oracle_below(&b->g, 3)];
    return b->counters >> r & 1 ? R_RAX : r;
}

/* RET, with or without more to pop; or a jump, or a RET to somewhere else, which no predictor of returns expects. */
static void return_somehow(struct blocks_gen *b, unsigned r, int elsewhere)
{
    unsigned how = oracle_below(&b->g, 20);

    if (how < 14) {
        one_byte(b, 0xc3);
    } else if (how < 16) {
        blocks_emit(b, (uint8_t[]){ 0xc2, (uint8_t)(8 * oracle_below(&b->g, 4)), 0 }, 3);
    } else if (how < 18) {
        one_byte(b, (uint8_t)(0x58 | r));
        blocks_emit(b, (uint8_t[]){ 0xff, (uint8_t)(0xe0 | r) }, 2);
    } else {
        one_byte(b, (uint8_t)(0x58 | r));
        if (how == 18)
            move_label(b, r, elsewhere, REFER_IP);
        one_byte(b, (uint8_t)(0x50 | r));
        one_byte(b, 0xc3);
    }
    b->known &= ~(1u << r);
}

/* A call over the function, or a jump to and fro. */
static void call(struct blocks_gen *b, unsigned count, unsigned depth)
{
    int function = blocks_label(b), end = blocks_label(b);
    unsigned how = oracle_below(&b->g, 10), r = free_register(b);

    if (how < 6) {
        transfer(b, 0xe8, function);
    } else {
        move_label(b, r, function, REFER_IP);
        blocks_emit(b, (uint8_t[]){ 0xff, (uint8_t)(0xd0 | r) }, 2);
    }
    b->undef = 0; /* the function sees to that */
    sequence(b, count / 2, depth + 1);
    transfer(b, 0xe9, end);
    place_skips(b, true);
    place(b, function);
    sequence(b, count - count / 2, depth + 1);
    define_if_open(b);
    return_somehow(b, r, end);
    place(b, end);
}

/* JMP by register, or PUSH and RET. */
static void indirect(struct blocks_gen *b, unsigned count, unsigned depth)
{
    int target = blocks_label(b);
    unsigned r = free_register(b);

    move_label(b, r, target, b->c->mode <= BLOCKS_PROT && oracle_percent(&b->g, 25) ? REFER_ALIAS : REFER_IP);
    if (oracle_percent(&b->g, 60)) {
        blocks_emit(b, (uint8_t[]){ 0xff, (uint8_t)(0xe0 | r) }, 2);
    } else {
        one_byte(b, (uint8_t)(0x50 | r));
        one_byte(b, 0xc3);
    }
    sequence(b, count, depth + 1);
    place_skips(b, true);
    place(b, target);
}

/* Ends a loop: counts down and jumps back. */
static void close_loop(struct blocks_gen *b, unsigned r, unsigned head)
{
    unsigned back = b->c->code_len - head;
    bool wide = b->c->mode == BLOCKS_LONG, with_loop = r == R_RCX && back < 100 && oracle_percent(&b->g, 50);

    define_if_open(b);
    if (with_loop) {
        blocks_emit(b, (uint8_t[]){ 0xe2, (uint8_t) - (back + 2) }, 2);
        return;
    }
    if (wide) { /* DEC or SUB of the 32-bit register */
        uint8_t rex = (uint8_t)(0x40 | r >> 3);
        if (oracle_percent(&b->g, 50))
            blocks_emit(b, (uint8_t[]){ rex, 0xff, (uint8_t)(0xc8 | (r & 7)) }, 3);
        else
            blocks_emit(b, (uint8_t[]){ rex, 0x83, (uint8_t)(0xe8 | (r & 7)), 1 }, 4);
    } else {
        one_byte(b, (uint8_t)(0x48 | r));
    }
    unsigned size = near_size(b), distance = -(b->c->code_len - head + 2 + size);
    uint8_t jnz[6] = { 0x0f, 0x85, (uint8_t)distance, (uint8_t)(distance >> 8), (uint8_t)(distance >> 16),
                       (uint8_t)(distance >> 24) };
    if (back < 100)
        blocks_emit(b, (uint8_t[]){ 0x75, (uint8_t) - (b->c->code_len - head + 2) }, 2);
    else
        blocks_emit(b, jnz, 2 + size);
}

static void loop(struct blocks_gen *b, unsigned count, unsigned depth)
{
    static const uint8_t some[] = { R_RCX, R_RBX, R_RSI, R_RDI, R_RBP, R_R9, R_R11, R_R14, R_R15 };
    unsigned r = some[oracle_below(&b->g, b->c->mode == BLOCKS_LONG ? 9 : 5)];

    if (b->counters >> r & 1)
        return;
    if (r != R_RCX && b->pointers >> r & 1)
        r = b->counters >> R_RCX & 1 ? R_RDX : R_RCX;
    if (b->counters >> r & 1)
        return;
    blocks_move(b, r, 1 + oracle_below(&b->g, depth ? 4 : oracle_percent(&b->g, 80) ? 6 : 40));
    define_if_open(b); /* as after the jump back */
    b->known &= ~(1u << r);
    b->counters |= 1u << r;
    unsigned head = b->c->code_len;
    sequence(b, count, depth + 1);
    place_skips(b, true);
    close_loop(b, r, head);
    b->counters &= ~(1u << r);
}

/* --- Stores into the code ----------------------------------------------------------------------------------------- */

/* MOV [r], 8 or 4 bytes, of `bytes`. */
static void store_code(struct blocks_gen *b, unsigned r, const uint8_t bytes[8], unsigned size)
{
    bool small = blocks_code_size(b->c->mode) == 1;
    uint64_t v;

    if (b->c->mode == BLOCKS_LONG && size == 8 && !(b->counters & 1u << R_RAX)) {
        memcpy(&v, bytes, 8);
        blocks_move(b, R_RAX, GUINT64_FROM_LE(v) | UINT64_C(1) << 63); /* the last byte is a NOP: 90 */
        blocks_emit(b, (uint8_t[]){ 0x48, 0x89, (uint8_t)r }, 3);
        return;
    }
    for (unsigned at = 0; at < size; at += 4) {
        uint8_t rm16 = r == R_RSI ? 4 : r == R_RDI ? 5 : 7, code[9] = { 0x66 }, n = small;
        code[n++] = 0xc7;
        code[n++] = (uint8_t)(0x40 | (small ? rm16 : r));
        code[n++] = (uint8_t)at;
        memcpy(code + n, bytes + at, 4);
        blocks_emit(b, code, n + 4u);
    }
}

/* An instruction that another one replaces before, or while, it is reached. */
static void patch(struct blocks_gen *b)
{
    static const uint8_t some[] = { R_RBX, R_RSI, R_RDI };
    unsigned r = some[oracle_below(&b->g, 3)];
    uint8_t old[8], new[8];
    struct insn i, k;
    int label = blocks_label(b);
    unsigned most = oracle_percent(&b->g, 50) ? 3 : 7;
    unsigned len = blocks_short(b, old, most, &i), len2 = blocks_short(b, new, most, &k), size = most == 3 ? 4 : 8;

    if (b->counters >> r & 1 || !len || !len2)
        return;
    memset(old + len, 0x90, sizeof old - len);
    memset(new + len2, 0x90, sizeof new - len2);
    move_label(b, r, label, REFER_DATA);
    store_code(b, r, new, size);
    plain(b, oracle_below(&b->g, 3));
    define_if_open(b);
    place(b, label);
    blocks_emit(b, old, len);
    for (; len < size; len++)
        one_byte(b, 0x90);
    const struct insn_row *a = insn_row(&i), *c = insn_row(&k);
    b->known &= ~(b->address.bases & ~(1u << R_RSP));
    b->undef = (uint16_t)(a->flags_undefined | c->flags_undefined);
}

/* --- Short stretches of system code --------------------------------------------------------------------------------*/

#define BYTES(b, ...) blocks_emit(b, (uint8_t[]){ __VA_ARGS__ }, sizeof(uint8_t[]){ __VA_ARGS__ })

static void forget(struct blocks_gen *b, unsigned registers)
{
    b->known &= ~registers;
}

/* IRET to a label behind it; in 64-bit mode also to user code, from where there is no way back. */
static void piece_iret(struct blocks_gen *b, unsigned r, int label)
{
    bool user = b->c->start.cpl == 3 || (!b->supervisor && oracle_percent(&b->g, 30));

    if (b->c->mode == BLOCKS_LONG) {
        BYTES(b, 0x6a, user ? 0x23 : 0x10);
        BYTES(b, 0x54);
        BYTES(b, 0x9c);
        BYTES(b, 0x6a, user ? 0x2b : 0x08);
    } else {
        BYTES(b, 0x9c);
        BYTES(b, 0x0e);
    }
    move_label(b, r, label, REFER_IP);
    one_byte(b, (uint8_t)(0x50 | r));
    if (b->c->mode == BLOCKS_LONG)
        BYTES(b, 0x48, 0xcf);
    else
        BYTES(b, 0xcf);
    place(b, label);
}

/* SYSRET to a label; RFLAGS as they are, or with a few more bits. */
static void piece_sysret(struct blocks_gen *b, int label)
{
    if (b->c->mode != BLOCKS_LONG || b->counters & (1u << R_RCX | 1u << R_R11))
        return;
    BYTES(b, 0x9c);
    BYTES(b, 0x41, 0x5b);
    move_label(b, R_RCX, label, REFER_IP);
    BYTES(b, 0x48, 0x0f, 0x07);
    forget(b, 1u << R_RCX | 1u << R_R11);
    place(b, label);
}

/* SYSCALL to what comes next but for a few instructions; one in a case. */
static void piece_syscall(struct blocks_gen *b)
{
    if (b->c->mode != BLOCKS_LONG || b->counters & (1u << R_RCX | 1u << R_R11))
        return;
    BYTES(b, 0x0f, 0x05);
    forget(b, 1u << R_RCX | 1u << R_R11);
    plain(b, oracle_below(&b->g, 3));
    b->c->start.lstar = b->code_linear + b->c->code_len;
    define_if_open(b);
}

/* Another physical page behind a data page, or none, or not to be written; all translations are dropped. */
static void piece_remap(struct blocks_gen *b)
{
    static const uint8_t pages[] = { PAGE_DATA + 1, PAGE_DATA + 2, PAGE_DATA + 4, PAGE_DATA + 5, PAGE_DATA + 7 };
    unsigned page = pages[oracle_below(&b->g, 5)], to = pages[oracle_below(&b->g, 5)];
    uint32_t entry = to << 12 | 0x65 | (oracle_percent(&b->g, 70) ? 2 : 0);

    if (b->c->mode != BLOCKS_LONG || b->c->start.cr4 & CR4_PCIDE)
        return;
    if (oracle_percent(&b->g, 5))
        entry = 0;
    blocks_move(b, R_RAX, UINT64_C(0xffff800000200000) + PAGE_PT * BLOCKS_PAGE + 8 * page);
    BYTES(b, 0xc7, 0x00, (uint8_t)entry, (uint8_t)(entry >> 8), (uint8_t)(entry >> 16), (uint8_t)(entry >> 24));
    BYTES(b, 0x0f, 0x20, 0xd8);
    BYTES(b, 0x0f, 0x22, 0xd8);
    forget(b, 1u << R_RAX);
}

static void piece_control(struct blocks_gen *b)
{
    unsigned which = oracle_below(&b->g, 4);

    if (b->counters & 1u << R_RAX)
        return;
    if (oracle_percent(&b->g, 25)) {
        piece_remap(b);
        return;
    }
    if (which == 0 && b->c->start.cr4 & CR4_PCIDE) { /* another PCID, with or without what its TLB knows */
        BYTES(b, 0x0f, 0x20, 0xd8);
        BYTES(b, 0xb0, (uint8_t)oracle_below(&b->g, 6));
        if (oracle_percent(&b->g, 50))
            BYTES(b, 0x48, 0x0f, 0xba, 0xe8, 0x3f);
        BYTES(b, 0x0f, 0x22, 0xd8);
        b->undef = FLAGS_ARITH & ~(FLAG_CF | FLAG_ZF);
    } else if (which == 0) { /* CR3 as it is */
        BYTES(b, 0x0f, 0x20, 0xd8);
        BYTES(b, 0x0f, 0x22, 0xd8);
    } else if (which == 1) { /* CR4.PGE */
        BYTES(b, 0x0f, 0x20, 0xe0);
        BYTES(b, 0x34, 0x80);
        BYTES(b, 0x0f, 0x22, 0xe0);
        b->undef = FLAG_AF;
    } else { /* CR0.TS on, and mostly off again */
        BYTES(b, 0x0f, 0x20, 0xc0);
        BYTES(b, 0x0c, 0x08);
        BYTES(b, 0x0f, 0x22, 0xc0);
        b->undef = FLAG_AF;
        plain(b, oracle_below(&b->g, 2));
        BYTES(b, 0x0f, 0x06);
    }
    forget(b, 1u << R_RAX);
}

/* RDMSR and WRMSR of a base; SWAPGS. */
static void piece_bases(struct blocks_gen *b)
{
    if (b->counters & 0x7)
        return;
    if (b->c->mode == BLOCKS_LONG && oracle_percent(&b->g, 50)) {
        BYTES(b, 0x0f, 0x01, 0xf8);
        plain(b, oracle_below(&b->g, 3));
        BYTES(b, 0x0f, 0x01, 0xf8);
        return;
    }
    blocks_move(b, R_RCX, 0xc0000100 + oracle_below(&b->g, 3));
    BYTES(b, 0x0f, 0x32);
    BYTES(b, 0x0f, 0x30);
    forget(b, 0x7);
}

/* PUSHF, other flags, POPF; CLI and STI. */
static void piece_flags(struct blocks_gen *b)
{
    unsigned r = free_register(b);

    if (oracle_percent(&b->g, 40)) {
        BYTES(b, 0xfa);
        plain(b, oracle_below(&b->g, 3));
        BYTES(b, 0xfb);
        return;
    }
    define_if_open(b);
    BYTES(b, 0x9c);
    one_byte(b, (uint8_t)(0x58 | r));
    BYTES(b, 0x83, (uint8_t)(0xf0 | r), (uint8_t)oracle_random(&b->g) & 0x7f); /* XOR */
    b->undef = 0;
    one_byte(b, (uint8_t)(0x50 | r));
    BYTES(b, 0x9d);
    forget(b, 1u << r);
}

/* MOV to a data segment register, of a selector that is there. */
static void piece_segment(struct blocks_gen *b)
{
    static const uint8_t kernel[] = { 0x00, 0x10, 0x80, 0x90, 0x98, 0xa0, 0xb0, 0xb8 };
    static const uint8_t user[] = { 0x00, 0x23, 0xc3, 0xd3, 0xdb, 0xe3, 0xf3, 0xfb };
    static const uint8_t segments[] = { SEG_ES, SEG_DS, SEG_DS, SEG_FS, SEG_GS, SEG_SS };
    unsigned r = free_register(b), s = segments[oracle_below(&b->g, sizeof segments)], n = oracle_below(&b->g, 8);
    unsigned selector = b->c->start.cpl == 3 ? user[n] : kernel[n];

    if (b->c->mode >= BLOCKS_V86)
        selector = 0xb00 + oracle_below(&b->g, 32);
    blocks_move(b, r, selector);
    BYTES(b, 0x8e, (uint8_t)(0xc0 | s << 3 | r));
    forget(b, 1u << r);
}

/* A run of PUSH and POP, and what lies between. */
static void piece_stack(struct blocks_gen *b)
{
    unsigned count = 2 + oracle_below(&b->g, 8), depth = 0;

    for (unsigned n = 0; n < count && room(b); n++) {
        unsigned r = oracle_below(&b->g, 8);
        bool pop = depth && oracle_percent(&b->g, 40) && !((b->counters | b->pointers) >> r & 1);
        if (oracle_percent(&b->g, 20))
            plain(b, 1);
        one_byte(b, (uint8_t)((pop ? 0x58 : 0x50) | r));
        depth += pop ? -1u : 1;
        if (pop)
            forget(b, 1u << r);
    }
    if (depth && blocks_code_size(b->c->mode) == 3)
        BYTES(b, 0x48, 0x8d, 0x64, 0x24, (uint8_t)(8 * depth)); /* LEA RSP */
}

/* MXCSR and the x87 control word from the stack. */
static void piece_rounding(struct blocks_gen *b)
{
    unsigned r = free_register(b), size = blocks_code_size(b->c->mode);
    uint32_t mxcsr = 0x1f80 | (uint32_t)(oracle_random(&b->g) & 0xe03f), cw = (oracle_random(&b->g) & 0xf00) | 0x7f;

    if (oracle_percent(&b->g, 30)) /* exceptions */
        mxcsr &= (uint32_t)oracle_random(&b->g), cw &= (uint32_t)oracle_random(&b->g);
    if (size == 1)
        return;
    bool sse = oracle_percent(&b->g, 50);
    blocks_move(b, r, sse ? mxcsr : cw);
    one_byte(b, (uint8_t)(0x50 | r));
    if (sse)
        BYTES(b, 0x0f, 0xae, 0x14, 0x24);
    else
        BYTES(b, 0xd9, 0x2c, 0x24);
    one_byte(b, (uint8_t)(0x58 | r));
}

static void system_piece(struct blocks_gen *b)
{
    int label = blocks_label(b);

    define_if_open(b);
    switch (oracle_below(&b->g, b->c->start.cpl == 0 ? 9 : 6)) {
    case 0: piece_iret(b, free_register(b), label); break;
    case 1: piece_syscall(b); break;
    case 2: piece_flags(b); break;
    case 3: piece_segment(b); break;
    case 4: case 5: piece_rounding(b); break;
    case 6: piece_sysret(b, label); break;
    case 7: piece_control(b); break;
    default: piece_bases(b); break;
    }
}

/* --- All of it ---------------------------------------------------------------------------------------------------- */

static void sequence(struct blocks_gen *b, unsigned count, unsigned depth)
{
    while (count && room(b)) {
        unsigned kind = oracle_below(&b->g, 100), part = 1 + oracle_below(&b->g, count);
        if (b->c->changes_itself && kind < 10) {
            patch(b);
            part = MIN(count, 3);
        } else if (kind == 50 || kind == 51) {
            piece_stack(b);
            part = MIN(count, 4);
        } else if (kind >= 100 - b->system) {
            system_piece(b);
            part = MIN(count, 2);
        } else if (depth < 3 && count > 3 && kind < 16) {
            loop(b, part, depth);
        } else if (depth < 3 && count > 3 && kind < 22) {
            call(b, part, depth);
        } else if (depth < 3 && count > 3 && kind < 25) {
            indirect(b, part / 2, depth);
        } else {
            part = MIN(part, 8);
            plain(b, part);
        }
        count -= part;
    }
    place_skips(b, true);
}

void blocks_compose(struct blocks_gen *b)
{
    /* integer, SSE, AVX, x87, MMX, string, jump, system; of 100 */
    static const uint8_t profiles[][CLASSES] = {
        { 72, 4, 4, 3, 2, 4, 10, 1 }, { 83, 2, 2, 1, 1, 2, 9, 0 }, { 34, 20, 20, 8, 7, 3, 7, 1 },
        { 22, 35, 33, 2, 2, 1, 5, 0 }, { 24, 4, 3, 53, 7, 2, 6, 1 }, { 48, 4, 3, 2, 2, 22, 9, 10 },
    };
    static const uint8_t floats[CLASSES] = { 15, 2, 2, 48, 22, 2, 8, 1 };
    static const uint8_t shares[] = { 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 4, 5 };
    unsigned count = oracle_percent(&b->g, 30) ? 1 + oracle_below(&b->g, 8) : 1 + oracle_below(&b->g, 64);

    b->label_count = b->reference_count = b->skip_count = 0;
    unsigned profile = shares[oracle_below(&b->g, sizeof shares)];
    b->weights = b->c->number & BLOCKS_FLOATS ? floats : profiles[profile];
    b->system = profile == 5 ? 30 : oracle_percent(&b->g, 50) ? 3 : 0;
    sequence(b, count, 0);
    place_skips(b, true);
    one_byte(b, 0xf4);
}
