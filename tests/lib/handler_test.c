/* Single instructions: see the header. */
#include "tests/lib/handler_test.h"

#include "cpu/excp.h"
#include "hw/core/vm_lock.h"

#include <setjmp.h>

struct handler_test *handler_test_new(void)
{
    GError *err = NULL;
    struct handler_test *t = g_new0(struct handler_test, 1);
    vm_lock();
    t->m = machine_new(false);
    t->m->ram = ram_block_new("ram", HANDLER_RAM, NULL, &err);
    g_assert_no_error(err);
    mem_init_ram(&t->ram, NULL, "ram", t->m->ram, 0, HANDLER_RAM);
    mem_map(&t->m->memory_root, 0, &t->ram, 0);
    t->model = cpu_model_parse("max", &err);
    g_assert_no_error(err);
    t->m->cpu_count = 1;
    t->m->cpus = g_new0(struct cpu *, 1);
    t->cpu = t->m->cpus[0] = cpu_new(t->m, 0, t->model);
    cpu_reset(t->cpu, false);
    handler_set_mode(t, HANDLER_LONG);
    return t;
}

void handler_test_free(struct handler_test *t)
{
    cpu_free(t->cpu);
    mem_transaction_begin();
    mem_fini(&t->ram);
    mem_transaction_commit();
    machine_free(t->m);
    vm_unlock();
    cpu_model_free(t->model);
    g_free(t);
}

void handler_set_mode(struct handler_test *t, enum handler_mode mode)
{
    struct cpu *cpu = t->cpu;
    uint32_t data = SEG_P | SEG_S | SEG_W | SEG_A | SEG_G, code = SEG_P | SEG_S | SEG_X | SEG_R | SEG_A | SEG_G;
    cpu->cr0 = CR0_ET | CR0_NE | (mode == HANDLER_REAL ? 0 : CR0_PE);
    cpu->cr4 |= CR4_OSFXSR | CR4_OSXSAVE;
    cpu->efer = mode == HANDLER_LONG ? EFER_LME | EFER_LMA : 0;
    if (mode >= HANDLER_PROT32)
        data |= SEG_DB;
    code |= mode == HANDLER_LONG ? SEG_L : mode == HANDLER_PROT32 ? SEG_DB : 0;
    for (unsigned s = SEG_ES; s <= SEG_GS; s++)
        cpu_set_seg(cpu, s, 0, 0, UINT32_MAX, s == SEG_CS ? code : data);
    cpu_update_mode(cpu);
    static const uint8_t sizes[] = { 1, 1, 2, 3 };
    g_assert_cmpuint(cpu->code_size, ==, sizes[mode]);
}

int handler_run(struct handler_test *t, const uint8_t *bytes)
{
    struct cpu *cpu = t->cpu;
    struct decode_mode mode = { cpu->code_size, cpu->stack_size == 2, cpu_protected(cpu) };
    struct insn i;
    sigjmp_buf unwind;
    if (decode_insn(bytes, 15, mode, &i) != DECODE_OK)
        return EXC_UD;
    i.end = i.len;
    cpu->rip = HANDLER_CODE;
    cpu->insn = &i;
    cpu->unwind = &unwind;
    switch (sigsetjmp(unwind, 0)) {
    case 0:
        insn_handler(&i, false)(cpu, &i);
        cpu->insn = NULL;
        return -1;
    case EXCP_UNWIND_RETRY: cpu->insn = NULL; return HANDLER_RETRY;
    default: cpu->insn = NULL; return cpu->raised.vector;
    }
}

void handler_write(struct handler_test *t, uint64_t addr, const void *data, unsigned size)
{
    g_assert_true(address_space_write(&t->m->memory, addr, data, size));
}

void handler_read(struct handler_test *t, uint64_t addr, void *data, unsigned size)
{
    g_assert_true(address_space_read(&t->m->memory, addr, data, size));
}
