/*
 * KVM's paravirtual interface: Linux, Documentation/virt/kvm/x86/msr.rst, hypercalls.rst, and the guest's headers
 * kvm_para.h, pvclock-abi.h.
 *
 * kvmclock: virtual time and the TSC come from one clock here, so that the line between them never bends. All
 * processors are told the same point of it, mostly the TSC at virtual time 0; it is written once and again only if a guest
 * sets its TSC. (Under KVM the TSC is the host's, and the line is drawn by its rate.) Differences between processors, which other hypervisors must fight, cannot come up.
 *
 * Steal time is what the vCPU's thread wanted to run but did not: time passed less processor time of the thread,
 * between cpu_pv_enter and cpu_pv_leave. Not offered: asynchronous page faults, poll control, migration control.
 */
#include "cpu/pv.h"

#include "cpu/mem.h"
#include "cpu/model.h"
#include "hw/core/clock.h"
#include "hw/core/log.h"
#include "hw/core/machine.h"

#include <sched.h>
#include <string.h>
#include <time.h>

enum {
    MSR_WALL_CLOCK_OLD = 0x11,
    MSR_SYSTEM_TIME_OLD = 0x12,
    MSR_WALL_CLOCK = 0x4b564d00,
    MSR_SYSTEM_TIME = 0x4b564d01,
    MSR_STEAL_TIME = 0x4b564d03,
    MSR_PV_EOI = 0x4b564d04,
};
#define PV_ENABLED UINT64_C(1)

/* --- kvmclock ----------------------------------------------------------------------------------------------------- */

/* Offsets in struct pvclock_vcpu_time_info. */
enum { TIME_VERSION = 0, TIME_TSC = 8, TIME_SYSTEM = 16, TIME_MUL = 24, TIME_SHIFT = 28, TIME_FLAGS = 29,
       TIME_SIZE = 32 };
#define TIME_FLAG_STABLE 1u
/* Offsets in struct pvclock_wall_clock. */
enum { WALL_VERSION = 0, WALL_SECONDS = 4, WALL_NS = 8 };

/* ns = ((ticks << shift) * mul) >> 32, a negative shift to the right; mul as large as fits. */
static void time_scale(uint64_t hz, uint32_t *mul, int8_t *shift)
{
    uint64_t ns = NS_PER_SECOND;
    *shift = 0;
    while (hz > ns * 2 || hz >> 32) {
        hz >>= 1;
        --*shift;
    }
    while (hz <= ns) {
        hz <<= 1;
        ++*shift;
    }
    *mul = (uint32_t)((ns << 32) / hz);
}

/* An odd version tells a reader, who may be another processor, that what lies between is not to be trusted. */
static uint32_t open_version(struct cpu *cpu, uint64_t addr)
{
    uint32_t version = ((uint32_t)mem_load_phys(cpu, addr, 4) + 1) | 1;
    mem_store_phys(cpu, addr, version, 4);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return version;
}

static void close_version(struct cpu *cpu, uint64_t addr, uint32_t version)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    mem_store_phys(cpu, addr, version + 1, 4);
}

static void write_system_time(struct cpu *cpu)
{
    if (!(cpu->pv_system_time & PV_ENABLED))
        return;
    uint64_t addr = cpu->pv_system_time & ~PV_ENABLED;
    uint32_t mul;
    int8_t shift;
    time_scale(cpu->model->tsc_hz, &mul, &shift);
    uint32_t version = open_version(cpu, addr + TIME_VERSION);
    mem_store_phys(cpu, addr + TIME_TSC, cpu->machine->tsc_start + cpu->tsc_offset, 8);
    mem_store_phys(cpu, addr + TIME_SYSTEM, (uint64_t)cpu->machine->tsc_start_ns, 8);
    mem_store_phys(cpu, addr + TIME_MUL, mul, 4);
    mem_store_phys(cpu, addr + TIME_SHIFT, (uint8_t)shift, 1);
    mem_store_phys(cpu, addr + TIME_FLAGS, cpu_has(cpu, FEAT_KVM_CLOCK_STABLE) ? TIME_FLAG_STABLE : 0, 1);
    close_version(cpu, addr + TIME_VERSION, version);
}

void cpu_pv_tsc_changed(struct cpu *cpu)
{
    write_system_time(cpu);
}

/* The time of day at virtual time 0, as the guest adds its clock to that. */
static void write_wall_clock(struct cpu *cpu, uint64_t addr)
{
    int64_t ns, seconds = clock_wall(cpu->machine->clock, &ns);
    int64_t now = clock_now(cpu->machine->clock);
    seconds -= now / NS_PER_SECOND;
    ns -= now % NS_PER_SECOND;
    if (ns < 0) {
        ns += NS_PER_SECOND;
        seconds--;
    }
    uint32_t version = open_version(cpu, addr + WALL_VERSION);
    mem_store_phys(cpu, addr + WALL_SECONDS, (uint32_t)seconds, 4);
    mem_store_phys(cpu, addr + WALL_NS, (uint32_t)ns, 4);
    close_version(cpu, addr + WALL_VERSION, version);
}

/* --- Steal time --------------------------------------------------------------------------------------------------- */

/* Offsets in struct kvm_steal_time, which is 64 bytes and aligned to them. */
enum { STEAL_NS = 0, STEAL_VERSION = 8, STEAL_FLAGS = 12, STEAL_PREEMPTED = 16, STEAL_SIZE = 64 };
#define STEAL_RESERVED UINT64_C(0x3e)
#define PREEMPTED 1u
#define PREEMPTED_FLUSH_TLB 2u
#define ACCOUNT_INTERVAL_NS 10000000

static int64_t ns_of(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * NS_PER_SECOND + ts.tv_nsec;
}

static void start_account(struct cpu *cpu)
{
    cpu->steal_wall = ns_of(CLOCK_MONOTONIC);
    cpu->steal_cpu = ns_of(CLOCK_THREAD_CPUTIME_ID);
}

static uint64_t steal_addr(const struct cpu *cpu)
{
    return cpu->pv_steal_time & ~(STEAL_RESERVED | PV_ENABLED);
}

static void write_steal(struct cpu *cpu)
{
    uint64_t addr = steal_addr(cpu);
    uint32_t version = open_version(cpu, addr + STEAL_VERSION);
    mem_store_phys(cpu, addr + STEAL_NS, cpu->steal_ns, 8);
    close_version(cpu, addr + STEAL_VERSION, version);
}

static void account(struct cpu *cpu)
{
    int64_t wall = cpu->steal_wall, used = cpu->steal_cpu;
    start_account(cpu);
    int64_t stolen = (cpu->steal_wall - wall) - (cpu->steal_cpu - used);
    if (stolen > 0)
        cpu->steal_ns += (uint64_t)stolen;
    write_steal(cpu);
}

void cpu_pv_account(struct cpu *cpu)
{
    if (cpu->pv_steal_time & PV_ENABLED && ns_of(CLOCK_MONOTONIC) - cpu->steal_wall >= ACCOUNT_INTERVAL_NS)
        account(cpu);
}

/* The byte that guests exchange atomically with us; NULL if it is in no RAM. */
static uint8_t *preempted_flag(struct cpu *cpu)
{
    return mem_phys_ptr(cpu, steal_addr(cpu) + STEAL_PREEMPTED, 1);
}

void cpu_pv_enter(struct cpu *cpu)
{
    if (!(cpu->pv_steal_time & PV_ENABLED))
        return;
    start_account(cpu);
    uint8_t *flag = preempted_flag(cpu);
    if (flag && __atomic_exchange_n(flag, 0, __ATOMIC_SEQ_CST) & PREEMPTED_FLUSH_TLB)
        cpu_tlb_flush(cpu);
}

void cpu_pv_leave(struct cpu *cpu)
{
    if (!(cpu->pv_steal_time & PV_ENABLED))
        return;
    account(cpu);
    uint8_t *flag = preempted_flag(cpu);
    if (flag)
        __atomic_store_n(flag, PREEMPTED, __ATOMIC_SEQ_CST);
}

static bool set_steal_time(struct cpu *cpu, uint64_t value)
{
    if (value & STEAL_RESERVED)
        return false;
    cpu->pv_steal_time = value;
    if (value & PV_ENABLED) {
        start_account(cpu);
        write_steal(cpu);
    }
    return true;
}

/* --- MSRs --------------------------------------------------------------------------------------------------------- */

static bool offered(const struct cpu *cpu, uint32_t msr)
{
    if (!cpu->model->kvm)
        return false;
    switch (msr) {
    case MSR_WALL_CLOCK_OLD:
    case MSR_SYSTEM_TIME_OLD:
    case MSR_WALL_CLOCK:
    case MSR_SYSTEM_TIME: return cpu_has(cpu, FEAT_KVM_CLOCK);
    case MSR_STEAL_TIME: return cpu_has(cpu, FEAT_KVM_STEAL_TIME);
    case MSR_PV_EOI: return cpu_has(cpu, FEAT_KVM_PV_EOI);
    default: return false;
    }
}

bool cpu_pv_rdmsr(struct cpu *cpu, uint32_t msr, uint64_t *value)
{
    if (!offered(cpu, msr)) {
        log_unimp_once(msr, "cpu", "read of paravirtual MSR 0x%x", msr);
        return false;
    }
    switch (msr) {
    case MSR_WALL_CLOCK_OLD:
    case MSR_WALL_CLOCK: *value = cpu->pv_wall_clock; break;
    case MSR_SYSTEM_TIME_OLD:
    case MSR_SYSTEM_TIME: *value = cpu->pv_system_time; break;
    case MSR_STEAL_TIME: *value = cpu->pv_steal_time; break;
    default: *value = cpu->pv_eoi; break;
    }
    return true;
}

bool cpu_pv_wrmsr(struct cpu *cpu, uint32_t msr, uint64_t value)
{
    if (!offered(cpu, msr)) {
        log_unimp_once(msr | UINT64_C(1) << 32, "cpu", "write of paravirtual MSR 0x%x", msr);
        return false;
    }
    switch (msr) {
    case MSR_WALL_CLOCK_OLD:
    case MSR_WALL_CLOCK:
        cpu->pv_wall_clock = value;
        write_wall_clock(cpu, value);
        return true;
    case MSR_SYSTEM_TIME_OLD:
    case MSR_SYSTEM_TIME:
        cpu->pv_system_time = value;
        write_system_time(cpu);
        return true;
    case MSR_STEAL_TIME: return set_steal_time(cpu, value);
    default:
        if (value & 2)
            return false;
        if (cpu->apic_ops)
            cpu->apic_ops->has_interrupt(cpu->apic); /* settles what the old flag has to say */
        cpu->pv_eoi = value;
        return true;
    }
}

void cpu_pv_reset(struct cpu *cpu)
{
    cpu->pv_system_time = cpu->pv_wall_clock = cpu->pv_steal_time = cpu->pv_eoi = 0;
    cpu->steal_ns = 0;
    __atomic_store_n(&cpu->pv_unhalted, false, __ATOMIC_SEQ_CST);
}

/* --- Hypercalls --------------------------------------------------------------------------------------------------- */

enum {
    HC_VAPIC_POLL_IRQ = 1,
    HC_KICK_CPU = 5,
    HC_CLOCK_PAIRING = 9,
    HC_SEND_IPI = 10,
    HC_SCHED_YIELD = 11,
};
/* The interface's own numbers, whatever the host's errno.h has. */
#define HC_EPERM -1
#define HC_EFAULT -14
#define HC_EINVAL -22
#define HC_EOPNOTSUPP -95
#define HC_ENOSYS -1000

static struct cpu *cpu_by_apic_id(const struct machine *m, uint64_t id)
{
    for (unsigned i = 0; i < m->cpu_count; i++)
        if (m->cpus[i] && m->cpus[i]->apic_id == id)
            return m->cpus[i];
    return NULL;
}

static int64_t kick_cpu(struct cpu *cpu, uint64_t apic_id)
{
    struct cpu *target = cpu_by_apic_id(cpu->machine, apic_id);
    if (target) {
        __atomic_store_n(&target->pv_unhalted, true, __ATOMIC_SEQ_CST);
        cpu_post(target, CPU_EVENT_UNHALT);
    }
    return 0;
}

#define ICR_LEVEL_ASSERT (1u << 14)
#define ICR_SHORTHAND (3u << 18)
#define ICR_LOGICAL (1u << 11)
#define ICR_VECTOR_AND_MODE 0x7ffu

/* `low`, `high`: bitmap of targets from APIC id `min` on. How many there are of them. */
static int64_t send_ipi(struct cpu *cpu, uint64_t low, uint64_t high, uint64_t min, uint64_t icr, unsigned bits)
{
    if (!cpu->apic_ops || icr & (ICR_SHORTHAND | ICR_LOGICAL))
        return HC_EINVAL;
    int64_t count = 0;
    for (unsigned i = 0; i < 2 * bits; i++) {
        uint64_t map = i < bits ? low : high;
        if (!(map >> (i % bits) & 1) || !cpu_by_apic_id(cpu->machine, min + i))
            continue;
        cpu->apic_ops->send_ipi(cpu->apic, (min + i) << 32 | ICR_LEVEL_ASSERT | (icr & ICR_VECTOR_AND_MODE));
        count++;
    }
    return count;
}

/* struct kvm_clock_pairing: time of day and TSC of one moment. */
static int64_t clock_pairing(struct cpu *cpu, uint64_t addr, uint64_t type)
{
    if (type != 0)
        return HC_EOPNOTSUPP;
    if (!mem_phys_ptr(cpu, addr, 64))
        return HC_EFAULT;
    int64_t ns, seconds = clock_wall(cpu->machine->clock, &ns);
    uint64_t tsc = cpu_read_tsc(cpu);
    mem_store_phys(cpu, addr, (uint64_t)seconds, 8);
    mem_store_phys(cpu, addr + 8, (uint64_t)ns, 8);
    mem_store_phys(cpu, addr + 16, tsc, 8);
    for (unsigned at = 24; at < 64; at += 8)
        mem_store_phys(cpu, addr + at, 0, 8);
    return 0;
}

static int64_t hypercall(struct cpu *cpu, uint64_t number, const uint64_t a[4])
{
    bool wide = cpu_in_64(cpu);
    switch (number) {
    case HC_VAPIC_POLL_IRQ: return 0;
    case HC_KICK_CPU: return cpu_has(cpu, FEAT_KVM_PV_UNHALT) ? kick_cpu(cpu, a[1]) : HC_ENOSYS;
    case HC_CLOCK_PAIRING: return clock_pairing(cpu, a[0], a[1]);
    case HC_SEND_IPI:
        return cpu_has(cpu, FEAT_KVM_PV_IPI) ? send_ipi(cpu, a[0], a[1], a[2], a[3], wide ? 64 : 32) : HC_ENOSYS;
    case HC_SCHED_YIELD:
        if (!cpu_has(cpu, FEAT_KVM_PV_YIELD))
            return HC_ENOSYS;
        sched_yield();
        return 0;
    default:
        log_unimp_once(number, "cpu", "hypercall %" PRIu64, number);
        return HC_ENOSYS;
    }
}

uint64_t cpu_hypercall(struct cpu *cpu)
{
    static const uint8_t regs[] = { R_RBX, R_RCX, R_RDX, R_RSI };
    uint64_t mask = cpu_in_64(cpu) ? UINT64_MAX : UINT32_MAX, a[4];
    for (unsigned i = 0; i < 4; i++)
        a[i] = cpu->r[regs[i]] & mask;
    int64_t result;
    if (!cpu->model->kvm || !cpu_has(cpu, FEAT_HYPERVISOR))
        result = HC_ENOSYS;
    else if (cpu->cpl)
        result = HC_EPERM;
    else
        result = hypercall(cpu, cpu->r[R_RAX] & mask, a);
    return (uint64_t)result & mask;
}
