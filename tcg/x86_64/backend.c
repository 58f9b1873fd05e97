/*
 * The x86-64 back end: which instructions have a template, and the walk over a unit's instructions that emits them.
 *
 * A guest instruction may use a template only if the host's processor has it, too.
 */
#include "cpu/ops.h"
#include "tcg/x86_64/entry.h"

#include <asm/prctl.h>
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

/* --- What may be translated ------------------------------------------------------------------------------------------------ */

static bool host_has(unsigned feature)
{
    static const struct { uint32_t leaf, subleaf; uint8_t reg, bit; } where[] = {
#define FEATURE(id, name, leaf, subleaf, reg, bit) [FEAT_##id] = { leaf, subleaf, reg, bit },
#include "cpu/features.def"
#undef FEATURE
    };
    uint32_t r[4];
    if (feature == FEAT_NONE)
        return true;
    return __get_cpuid_count(where[feature].leaf, where[feature].subleaf, &r[CPUID_EAX], &r[CPUID_EBX], &r[CPUID_ECX],
                             &r[CPUID_EDX]) &&
           r[where[feature].reg] >> where[feature].bit & 1;
}

static bool os_has_xsave(void)
{
    uint32_t a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && c & bit_OSXSAVE;
}

static bool has_memory(const struct source *s, const struct insn *i)
{
    if (i->disp != (int32_t)i->disp && (i->base != R_ZERO || i->index != R_ZERO))
        return false;
    return true;
}

/* May the code of the next instruction begin with a poll? */
bool gen_polls_next(const struct source *s, const struct guest_insn *at)
{
    int next = at->i.end < PAGE_SIZE ? s->at[at->i.end] : -1;
    return next < 0 || s->insns[next].loop || s->insns[next].off == s->start;
}

static bool writes_high_byte(const struct insn *i)
{
    if (i->osize != 0)
        return false;
    const struct insn_row *row = insn_row(i);
    unsigned method = operand_info[row->operands[0]].method;
    bool both = row->op == &op_xchg || row->op == &op_xadd;
    if (!(i->flags & INSN_MEM) && i->rm & R_HIGH_BYTE && (method == METHOD_E || method == METHOD_Z || both))
        return true;
    return i->reg & R_HIGH_BYTE && (method == METHOD_G || both);
}

static bool has_stack(const struct source *s, const struct insn *i)
{
    const struct op *op = insn_row(i)->op;
    if (s->cpu->code_size == 3)
        return i->osize == 3;
    return !(op == &op_pop && i->rm == R_RSP && i->osize != s->cpu->stack_size);
}

static bool has_jump(const struct source *s, const struct insn *i)
{
    int64_t target = (int64_t)i->end + i->disp;
    if (s->cpu->code_size == 3) /* out of canonical space it faults, judged by where the page is seen now */
        return cpu_is_canonical(s->cpu, (s->cpu->rip & PAGE_MASK) + (uint64_t)target);
    return i->osize == s->cpu->code_size;
}

/*
 * Where operands in memory go to handlers, all of x87 and MMX does: to move the registers back and forth costs more than a dozen
 * handlers.
 */
static bool has_x87(const struct source *s, const struct insn *i)
{
    if (s->key & KEY_MF)
        return false;
    return s->cpu->code_size == 3 || (i->flags & INSN_MEM ? gen_segment_is_flat(s, i->seg) : s->key & KEY_FLAT_DATA);
}

static bool sees_x87(const struct insn *i)
{
    static const struct op *const images[] = { &op_xsave, &op_xsaveopt, &op_xsavec, &op_xsaves, &op_xrstor, &op_xrstors };
    const struct insn_row *row = insn_row(i);
    return row->attr & (ROW_FPU | ROW_MMX) || op_is_one_of(row->op, images, G_N_ELEMENTS(images));
}

static bool uses_arithmetic(const struct insn_row *row)
{
    for (unsigned k = 0; k < 4; k++) {
        unsigned type = operand_info[row->operands[k]].type;
        if (type == TYPE_ps || type == TYPE_pd || type == TYPE_ss || type == TYPE_sd)
            return true;
    }
    return false;
}

bool backend_has(const struct source *s, const struct insn *i)
{
    const struct insn_row *row = insn_row(i);
    const struct gen_template *t = &s->backend->templates[i->row];
    if (!t->fn || i->fn != insn_handler(i, false))
        return false;
    if (i->flags & INSN_MEM ? t->needs & GEN_REG || !has_memory(s, i) : t->needs & GEN_MEM)
        return false;
    if (row->op == &op_lea && i->disp != (int32_t)i->disp)
        return false;
    if (t->needs & GEN_NO_HIGH_DST && writes_high_byte(i) && !(t->needs & GEN_HIGH_BY_ROTATION && s->backend->has_bmi2))
        return false;
    if ((t->needs & GEN_SMAP && !(s->key & KEY_SMAP)) || (t->needs & GEN_CODE64 && s->cpu->code_size != 3))
        return false;
    if (t->needs & GEN_CPL0 && !(s->key & MODE_CPL0 && s->key & MODE_PROT))
        return false;
    if (t->needs & GEN_CPL0_ANY && !(s->key & MODE_CPL0))
        return false;
    if (t->needs & GEN_64 && i->osize < 2)
        return false;
    if (t->needs & GEN_STACK && !has_stack(s, i))
        return false;
    if (t->needs & GEN_NEAR && i->osize != s->cpu->code_size)
        return false;
    if (row->end == END_JUMP && !has_jump(s, i))
        return false;
    if (t->needs & GEN_X87 && !has_x87(s, i))
        return false;
    if (t->needs & GEN_STRING && !gen_string_fits(s, i))
        return false;
    return !(t->needs & GEN_VECTOR && s->key & KEY_XM && uses_arithmetic(row));
}

/* --- Walking over a unit ------------------------------------------------------------------------------------------------------ */

/*
 * Leaves if somebody wants the vCPU's attention. Flags stay where they are if they live: then the test goes by RCX alone. Longer
 * than a jump, so that it can be patched into one.
 */
static void emit_poll(struct gen *g, const struct guest_insn *at)
{
    struct emit *e = &g->e;
    bool in_place = at->live && !at->in_memory;
    struct cold *c = gen_cold(g, in_place ? COLD_LEAVE_FLAGS : COLD_LEAVE);
    c->off = at->off;
    if (in_place) {
        emit_load(e, 3, H_RCX, STATE(poll));
        struct fixup ok = emit_jcc8(e, 0xe3);
        c->from[c->from_count++] = emit_jmp(e);
        emit_bind8(e, ok);
    } else {
        emit_op_mem(e, 0x3b, 3, H_RSP, STATE(poll)); /* with the jump one operation of the host's processor */
        c->from[c->from_count++] = emit_jcc(e, CC_B);
    }
}

/* The ways in, right before the code of the first instruction. */
static void emit_entries(struct gen *g, const struct guest_insn *at)
{
    struct emit *e = &g->e;
    struct unit *u = g->u;
    struct hmem base = hmem_base(H_RAX, -(int32_t)at->off);
    emit_align(e, 16);
    emit_nop(e, 8 - emit_lea_bytes(base)); /* before it, not behind: LEA ends where the jump must be aligned */
    g->entries[u->entry_count++] = (struct unit_entry){ .unit = u, .host = u->host, .code = emit_here(e) };
    emit_lea(e, 3, H_RIP, base);
    emit_align(e, 8);
    u->patch_saved = e->at;
    u->entry_saved = emit_here(e);
    g->flags_here = false;
    if (at->live)
        gen_flags_load(g);
    else
        emit_nop(e, 8);
    emit_align(e, 8);
    u->patch = e->at;
    u->entry = emit_here(e);
}

/* What the entries of a dead unit lead to. */
static const uint8_t *emit_retired(struct gen *g, unsigned off, const uint8_t *leave)
{
    const uint8_t *at = emit_here(&g->e);
    gen_note_stale(&g->e);
    gen_rip(g, (int32_t)off);
    emit_jmp_to(&g->e, leave);
    return at;
}

/* Where jumps come in: flags in place if they live, but for at->in_memory; nothing known of vector registers. */
static void begin_block(struct gen *g, const struct guest_insn *at, bool entry)
{
    if (entry)
        emit_entries(g, at);
    g->label[at - g->s->insns] = g->e.at;
    g->flags_here = !at->in_memory;
    g->flags_saved = at->in_memory;
    g->loaded = 0;
    if (entry || at->loop)
        emit_poll(g, at);
}

static void emit_insn(struct gen *g, const struct guest_insn *at)
{
    const struct gen_template *t = &g->b->templates[at->i.row];
    g->g = at;
    g->slow = -1;
    g->slots_given = 0;
    unsigned cold = g->cold_count;
    gen_run_plan(g, (unsigned)(at - g->s->insns));
    if (at->crosses)
        gen_check_next_page(g);
    if (insn_row(&at->i)->end != END_NONE)
        gen_x87_settle(g);
    if (gen_in_run(g))
        gen_run_prepare(g, &at->i);
    if (at->native)
        t->fn(g, &at->i, t->arg);
    else
        gen_call_handler(g);
    if (g->slow >= 0)
        g->cold[g->slow].back = g->e.at;
    for (; cold < g->cold_count; cold++)
        if (g->cold[cold].kind == COLD_SLOT)
            g->cold[cold].back = g->e.at;
    gen_run_end(g, (unsigned)(at - g->s->insns));
}

/* Behind instruction k, when n is the next to be emitted (or none). */
static void emit_fall_through(struct gen *g, const struct guest_insn *at, const struct guest_insn *next, bool entry)
{
    if (!at->falls)
        return;
    if (!next || next->off != at->i.end || entry || next->leader)
        gen_x87_settle(g);
    if (!next || next->off != at->i.end || entry)
        gen_goto(g, at->i.end);
    else if (next->leader)
        gen_flags_for(g, next);
}

static void bind_forward(struct gen *g)
{
    for (unsigned k = 0; k < g->forward_count; k++)
        emit_bind_to(&g->e, g->forward[k].f, g->label[g->forward[k].to] + g->e.skew);
}

/* Host bytes of all rounds of a loop together, at most. */
#define ROUNDS_BYTES 256

/* What comes before the last one in `first->round` instructions is emitted several times, with a way out behind each. */
static void emit_rounds(struct gen *g, const struct guest_insn *first)
{
    const struct guest_insn *last = first + first->round - 1;
    const uint8_t *start = g->e.at;
    for (unsigned rounds = ROUNDS;; rounds--) {
        for (const struct guest_insn *at = first; at < last; at++)
            emit_insn(g, at);
        if (rounds == ROUNDS) {
            size_t bytes = (size_t)(g->e.at - start);
            rounds = bytes <= ROUNDS_BYTES / 4 ? 4 : bytes <= ROUNDS_BYTES / 2 ? 2 : 1;
        }
        if (rounds == 1)
            return;
        g->g = last;
        gen_run_forget(g);
        gen_x87_settle(g);
        gen_next_round(g, &last->i);
    }
}

/* From the entry to the last instruction, then those before the entry. */
static void emit_all(struct gen *g)
{
    const struct source *s = g->s;
    unsigned entry = s->entry;
    for (unsigned n = 0; n < s->count; n++) {
        unsigned k = (entry + n) % s->count;
        const struct guest_insn *at = &s->insns[k];
        const struct guest_insn *next = k + 1 < s->count ? at + 1 : NULL;
        if (k == entry || at->leader || n == 0 || k == 0)
            begin_block(g, at, k == entry);
        else
            g->label[k] = g->e.at;
        if (at->round) {
            emit_rounds(g, at);
            n += at->round - 1;
            k += at->round - 1;
            at = &s->insns[k];
            next = k + 1 < s->count ? at + 1 : NULL;
        }
        emit_insn(g, at);
        emit_fall_through(g, at, next, k + 1 == entry);
    }
}

void backend_translate(struct backend *b, const struct source *s, struct unit *u, struct code_area *area)
{
    struct gen *g = b->gen;
    memset(g, 0, offsetof(struct gen, label));
    memset(g->label, 0, s->count * sizeof g->label[0]);
    g->e = (struct emit){ area->at, area->skew };
    g->b = b;
    g->s = s;
    g->u = u;
    u->code = emit_here(&g->e);
    u->insns = g_new(struct insn, s->count + 1);
    u->insn_count = s->count;
    u->slots = g_malloc0(s->count * sizeof u->slots[0]);
    for (unsigned k = 0; k < s->count; k++) {
        u->insns[k] = s->insns[k].i;
        u->insns[k].flags |= sees_x87(&s->insns[k].i) ? INSN_SEES_X87 : 0;
        u->insns[k].flags |= gen_polls_next(s, &s->insns[k]) ? INSN_POLL_NEXT : 0;
    }
    emit_all(g);
    bind_forward(g);
    u->retired = emit_retired(g, s->start, b->leave_flags);
    u->retired_saved = emit_retired(g, s->start, b->leave);
    u->links = g_memdup2(g->links, u->link_count * sizeof u->links[0]);
    gen_cold_code(g);
    u->entries = g_memdup2(g->entries, u->entry_count * sizeof u->entries[0]);
    g_assert(g->e.at <= area->end);
    u->end = emit_here(&g->e);
    area->at = g->e.at;
}

/* --- Patching ------------------------------------------------------------------------------------------------------------------- */

/* Within 8 aligned bytes, in one store: others run this code. */
static void patch_bytes(uint8_t *at, const void *bytes, unsigned count)
{
    uint64_t word, *aligned = (uint64_t *)((uintptr_t)at & ~(uintptr_t)7);
    word = __atomic_load_n(aligned, __ATOMIC_RELAXED);
    memcpy((uint8_t *)&word + (at - (uint8_t *)aligned), bytes, count);
    __atomic_store_n(aligned, word, __ATOMIC_RELEASE);
}

void backend_patch_link(const struct link *l, const uint8_t *target, ptrdiff_t skew)
{
    int32_t rel = (int32_t)(target - (l->patch + 4 + skew));
    patch_bytes(l->patch, &rel, sizeof rel);
}

static void patch_jump(uint8_t *at, const uint8_t *target, ptrdiff_t skew)
{
    int32_t rel = (int32_t)(target - (at + 5 + skew));
    uint8_t jump[5] = { 0xe9 };
    memcpy(jump + 1, &rel, sizeof rel);
    patch_bytes(at, jump, sizeof jump);
}

void backend_retire(const struct backend *b, const struct unit *u, ptrdiff_t skew)
{
    for (unsigned k = 1; k < u->entry_count; k++)
        patch_jump(u->entries[k].patch, b->retired, skew);
    patch_jump(u->patch, u->retired, skew);
    patch_jump(u->patch_saved, u->retired_saved, skew);
}

/* --- Life ------------------------------------------------------------------------------------------------------------------------- */

struct backend *backend_new(struct code_area *area)
{
    struct backend *b = g_new0(struct backend, 1);
    b->has_avx = __builtin_cpu_supports("avx");
    b->has_bmi2 = __builtin_cpu_supports("bmi2");
    b->has_xsave = os_has_xsave();
    b->templates = g_new0(struct gen_template, insn_row_count);
    b->gen = g_new(struct gen, 1);
    gen_templates_integer(b->templates);
    gen_templates_flow(b->templates);
    gen_templates_stack(b->templates);
    gen_templates_vector(b->templates);
    gen_templates_system(b->templates);
    gen_templates_bit(b->templates);
    gen_templates_privilege(b->templates);
    gen_templates_string(b->templates);
    gen_templates_x87(b->templates);
    for (unsigned k = 0; k < insn_row_count; k++)
        if (!(b->templates[k].needs & GEN_ANY_HOST || host_has(insn_rows[k].feature)) || (insn_rows[k].map >= MAP_VEX_0F && !b->has_avx) ||
            (b->templates[k].needs & GEN_X87 && !b->has_xsave))
            b->templates[k].fn = NULL;
    struct emit e = { area->at, area->skew };
    entry_emit(b, &e);
    area->at = e.at;
    return b;
}

void backend_spoil(struct backend *b, unsigned row)
{
    if (b->templates[row].fn)
        b->templates[row].fn = gen_nothing;
}

void backend_free(struct backend *b)
{
    g_free(b->templates);
    g_free(b->gen);
    g_free(b);
}

void backend_enter_thread(struct cpu *cpu)
{
    cpu->self = cpu;
    cpu->host_mxcsr = 0x1f80;
    cpu->host_cw = 0x37f;
    cpu->x87_image = (void *)(((uintptr_t)cpu->x87_area + 63) & ~(uintptr_t)63);
    syscall(SYS_arch_prctl, ARCH_SET_GS, cpu);
}

void backend_settle(struct backend *b, struct cpu *cpu)
{
    if (cpu->loaded & LOADED_X87)
        ((void (*)(void))(uintptr_t)b->save_x87)();
}

void backend_run(struct backend *b, struct cpu *cpu, const void *code)
{
    ((void (*)(struct cpu *, const void *))(uintptr_t)b->enter)(cpu, code);
}
