#!/usr/bin/env python3
"""A host with a whole KVM, made of Debian's QEMU (tests/lib/nested.py), and the emulator in it: firmware under each engine. With --long
(make kvm-nested) also, under KVM: the bare-metal guests of tests/guest; the machine that Debian's cloud kernel sees, compared with the
JIT's here; that kernel with one and two processors, timed beside QEMU; and shifts among all engines. --long --guests, --machine,
--smp1, --smp2: only that part.
"""
import hashlib, os, re, shutil, sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import initramfs, look
from guest import BUILD, TOP, Failure, Skip, Tap, fetch, host_program, inside
from nested import FIRMWARE, Bed, ours

LONG = '--long' in sys.argv
ALL_PARTS = ('guests', 'machine', 'smp1', 'smp2')
PARTS = [p for p in ALL_PARTS if '--' + p in sys.argv] or ALL_PARTS
# For guests whose software needs the interpreter beside KVM, instruction by instruction. The bed's host kernel patches its own code when
# VMs come and go (static keys); once in some dozens of VMs it loops in INT3 for ever, as QEMU shows a processor code that has been changed.
KVM = 'kvm,kernel-irqchip=off'
NEEDED = ('read-only memory', 'irqchip', 'split irqchip', 'irq routing', 'irqfd', 'ioeventfd', 'immediate exit', 'xsave', 'xcrs',
          'vcpu events', 'debug registers', 'mp state', 'adjust clock', 'guest debug')

GUEST_INIT = """#!/bin/busybox sh
export PATH=/bin
mount -t proc proc /proc
echo FIRST LINE cpus=$(nproc)
i=0; s=0; while [ $i -lt 2000 ]; do i=$((i+1)); s=$(((s*31+i)%1000003)); done; echo SUM $s
yes trapeze | head -c 1000000 | sha256sum
sleep 1
dmesg | grep -iE 'oops|BUG:|WARNING:|call trace|stall|unstable' | sed 's/^/COMPLAINT /'
echo LAST LINE
poweroff -f
"""


def busybox():
    return fetch('bookworm', 'amd64', 'busybox-static', 'bin/busybox')


def kernel():
    return fetch('bookworm', 'amd64', 'linux-image-cloud-amd64', 'boot/vmlinuz-*')


def initrd(script):
    return initramfs.build(busybox(), {'init': (script.encode(), True)}), False


def guest_files():
    return {'guest/vmlinuz': (open(kernel(), 'rb').read(), False), 'guest/initrd': initrd(GUEST_INIT), 'guest/look': initrd(look.INIT)}


def bare_files():
    """The programs of tests/guest."""
    files = {}
    for name in bare_programs():
        files.update(host_program(os.path.join(BUILD, 'tests/guest', name)))
    return files


def bare_programs():
    return sorted(name[:-2] for name in os.listdir(os.path.join(TOP, 'tests/guest')) if name.endswith('.c'))


def qemu_files():
    """QEMU inside QEMU, to compare with."""
    files = host_program(shutil.which('qemu-system-x86_64'))
    for name in ('kvmvapic.bin', 'linuxboot_dma.bin', 'linuxboot.bin'):
        for where in ('/usr/share/qemu', '/usr/share/seabios'):
            path = os.path.join(where, name)
            if os.path.exists(path):
                files[path.lstrip('/')] = (open(path, 'rb').read(), False)
    files.update({f.lstrip('/'): (open(f, 'rb').read(), False) for f in FIRMWARE if os.path.exists(f)})
    return files


def probe(bed):
    said = bed.run('kvm_probe')
    if 'guest says: KVM\n' not in said:
        raise Failure('a guest of /dev/kvm does not run:\n' + said)
    missing = [c for c in NEEDED if not re.search('^%s [1-9]' % re.escape(c), said, re.M)]
    if missing:
        raise Failure('it lacks: ' + ', '.join(missing))
    print('#', re.search('one exit.*', said).group(0), flush=True)


def seabios(bed, engine):
    said = bed.run('until_says "No bootable device" 60 trapeze -accel %s -nographic -m 32' % engine, 100, None)
    if 'No bootable device' not in said:
        raise Failure(said[-1000:])


# --- Bare-metal guests under KVM --------------------------------------------------------------------------------------------------

# What the bed's processor or kernel does otherwise. "Without KVM": the same code fails the same way in QEMU's emulation outside the bed;
# "QEMU under KVM": it fails the same way in the bed under QEMU's -accel kvm. All that is not named here must succeed.
FLAWS = {
    '/guest/debug/': 'single steps and breakpoints go astray, without KVM, too',
    '/guest/faults64': 'LTR of a null selector is no #GP but leaves no TSS, and the next interrupt ends QEMU ("invalid tss")',
    '/guest/paging32/': 'reserved bits and PDPTEs are not as the manual says, without KVM, too',
    '/guest/paging64/': '#PF for a reserved bit lacks P, without KVM, too; under KVM there are no protection keys here',
    '/guest/prot32': 'segment rights, task gates and SYSENTER, without KVM, too',
    '/guest/remap/global': 'no INVPCID here',
    '/guest/remap/invpcid': 'no INVPCID here',
    '/guest/remap/large': 'an old translation of a large page is used, under QEMU under KVM, too',
    '/guest/remap/spaces': 'no PCID here',
    '/guest/smc/often': 'stores to code are not seen at once, under QEMU under KVM, too',
    '/guest/smc/own': 'stores to code are not seen at once, under QEMU under KVM, too',
    '/guest/smc/patch': 'stores to code are not seen at once, under QEMU under KVM, too',
    '/guest/smc-cross/': 'stores to code are not seen at once (as /guest/smc/own under QEMU under KVM)',
    '/guest/tasks/': 'CR0.TS and flags at task switches, under QEMU under KVM, too',
    '/guest/triple-fault': 'the kernel resets a processor in shutdown, and what led to it is lost',
}


def flaw(case):
    return next((why for path, why in FLAWS.items() if case == path or case.startswith(path if path[-1] == '/' else path + '/')), None)


def bare(bed, program, case):
    said = bed.run('ACCEL=%s timeout 60 %s -p %s 2>&1' % (KVM, program, case), 90, None)
    if not re.search(r'^ok ', said, re.M):
        raise Failure(said[-2000:])


def bare_guests(tap, bed):
    for program in bare_programs():
        for case in re.findall(r'^/\S+', bed.run('ACCEL=%s %s -l' % (KVM, program), 30), re.M):
            why = flaw(case)
            if why:
                tap.skip(case, why)
            else:
                tap.run(case, bare, bed, program, case)


# --- Debian's kernel under KVM ----------------------------------------------------------------------------------------------------

# QEMU's emulation of AMD-V lets XSETBV pass by the kernel inside, which then does not know the guest's XCR0. The emulator finds out by
# itself; QEMU must be told.
QEMU = 'qemu-system-x86_64 -L /usr/share/seabios -L /usr/share/qemu -accel kvm -cpu host,-xsave'
MACHINE = '-nographic -net none -no-reboot -m 256 -smp %d -kernel /guest/vmlinuz -initrd /guest/initrd -append "console=ttyS0 panic=-1 quiet"'
LIMIT = 60  # s
TRIES = 3   # of QEMU: sometimes it hangs in there
TURNS = 4
MOST = 1.2  # times QEMU's time


class Boot:
    """Debian's cloud kernel up to its power-off: what it calculated, what it complained about, and how long it took there."""

    def __init__(self, bed, program, cpus):
        start = self.clock(bed)
        said = bed.run('timeout -s KILL %d %s %s' % (LIMIT, program, MACHINE % cpus), LIMIT + 60, None)
        self.seconds = self.clock(bed) - start
        if 'FIRST LINE cpus=%d\n' % cpus not in said or 'LAST LINE' not in said:
            raise Failure('it does not come to its end within %d s:\n%s' % (LIMIT, said[-3000:]))
        print(''.join('# %s\n' % line for line in re.findall(r'^(?:trapeze:|accel:).*', said, re.M)), end='', flush=True)
        self.said = said
        self.work = re.findall(r'^SUM.*|^\w{64} .*', said, re.M)
        self.complaints = set(re.findall(r'^COMPLAINT \[.*?\] (?:WARNING: CPU: \d+ PID: \d+ at )?(\S+)', said, re.M))

    @staticmethod
    def clock(bed):
        return float(bed.run('cat /proc/uptime').split()[0])


def boot_qemu(bed, cpus):
    for n in range(1, TRIES + 1):
        try:
            return Boot(bed, QEMU, cpus)
        except Failure as e:
            print('# QEMU under KVM, -smp %d, try %d of %d: %s' % (cpus, n, TRIES, str(e).replace('\n', '\n# ')), flush=True)
    raise Skip('QEMU under KVM hung %d times in here: there is nothing to compare with' % TRIES)


def boot_ours(bed, options, cpus, expected):
    """What it calculates must be as on the host; complaints can only be about the bed: those that QEMU's guest has, too."""
    ours = Boot(bed, 'trapeze ' + options, cpus)
    if ours.work != expected:
        raise Failure('it calculates wrongly:\n' + ours.said[-3000:])
    return ours


def native():
    """What GUEST_INIT calculates."""
    s = 0
    for i in range(1, 2001):
        s = (s * 31 + i) % 1000003
    data = (b'trapeze\n' * 125000)[:1000000]
    return ['SUM %d' % s, hashlib.sha256(data).hexdigest() + '  -']


def debian(bed, cpus, boots):
    boots.append(boot_ours(bed, '-accel kvm', cpus, native()))


def beside_qemu(bed, cpus, boots):
    """By turns, until the best of ours is good enough beside the best of theirs: who else is on this machine disturbs now one, now the
    other.
    """
    theirs = []
    for n in range(TURNS):
        theirs.append(boot_qemu(bed, cpus))
        ours, peer = min(b.seconds for b in boots), min(b.seconds for b in theirs)
        print('# -smp %d: %.1f s, QEMU under KVM %.1f s, best of %d turns: %.2f times' % (cpus, ours, peer, n + 1, ours / peer), flush=True)
        if ours <= MOST * peer:
            break
        boots.append(boot_ours(bed, '-accel kvm', cpus, native()))
    else:
        raise Failure('more than %.1f times' % MOST)
    for b in boots:
        if b.complaints - theirs[0].complaints:
            raise Failure('the kernel complains, but not under QEMU: %s' % (b.complaints - theirs[0].complaints))


def kvm_shift(bed, cpus):
    ours = boot_ours(bed, '-accel auto,shift=50 -d stats', cpus, native())
    m = re.search(r'accel: shifts: (\d+) .*', ours.said)
    if not m or int(m.group(1)) < 50 or 'kvm' not in m.group(0):
        raise Failure('fewer than 50 shifts, or not to KVM:\n' + ours.said[-2000:])


def same_machine(bed):
    said = bed.run('timeout -s KILL %d trapeze -accel kvm %s -kernel /guest/vmlinuz -initrd /guest/look -append "%s"' % (
        LIMIT, ' '.join(look.MACHINE), look.COMMAND_LINE), LIMIT + 60)
    look.compare({'kvm': look.seen(said), 'jit': look.under('jit', kernel(), busybox())})


def irqchip(bed, cpus):
    """Local APICs in the kernel and outside: what a guest calculates is the same, what it costs is not."""
    exits = {}
    for where, said_so in ('off', 'ours'), ('split', 'in the kernel'):
        said = boot_ours(bed, '-accel kvm,kernel-irqchip=%s -d stats' % where, cpus, native()).said
        if 'kvm: local APICs are %s\n' % said_so not in said:
            raise Failure('local APICs are not %s:\n%s' % (said_so, said[-1000:]))
        exits[where] = [sum(int(n) for n in re.findall(r'^kvm: cpu .*?(\d+) %s' % what, said, re.M)) for what in ('exits', 'MSR')]
    print('# exits, of them for MSRs: APICs outside %d, %d; in the kernel %d, %d' % (*exits['off'], *exits['split']), flush=True)
    if exits['split'][1] * 2 > exits['off'][1]:
        raise Failure('the kernel does not have the APICs')


def under_kvm(tap, bed, engines):
    if 'guests' in PARTS:
        bare_guests(tap, bed)
    if 'machine' in PARTS:
        tap.run('the same machine under KVM as under the JIT', same_machine, bed)
    for cpus in (1, 2):
        if 'smp%d' % cpus in PARTS:
            boots = []
            tap.run('Debian under KVM, -smp %d' % cpus, debian, bed, cpus, boots)
            tap.run('beside QEMU under KVM, -smp %d' % cpus, beside_qemu, bed, cpus, boots)
            tap.run('local APICs in the kernel and outside, -smp %d' % cpus, irqchip, bed, cpus)
            tap.run('shifts among %s, -smp %d' % (', '.join(engines), cpus), kvm_shift, bed, cpus)


def main():
    tap = Tap()
    try:
        files = {**ours(), **inside('kvm_probe')}
        if LONG:
            files.update({**guest_files(), **qemu_files(), **bare_files()})
        bed = Bed(files)
    except Skip as e:
        tap.skip('a host with a whole KVM', e)
        tap.done()
    except Failure as e:
        tap.ok(False, 'a host with a whole KVM', e)
        tap.done()
    with bed:
        tap.run('/dev/kvm', probe, bed)
        said = bed.run('trapeze -accel help', 60)
        engines = [e for e in re.findall(r'^(\w+) (?!.*not here:)', said, re.M) if e != 'auto']
        for engine in engines:
            tap.run('SeaBIOS under %s' % engine, seabios, bed, engine)
        if LONG and 'kvm' in engines:
            print('# ' + said.replace('\n', '\n# '), flush=True)
            under_kvm(tap, bed, engines)
    tap.done()


main()
