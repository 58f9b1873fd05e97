#!/usr/bin/env python3
"""A host with a whole KVM, made of Debian's QEMU (tests/lib/nested.py), and the emulator in it: firmware under each engine. Under KVM,
if the emulator has it, with --long (make kvm-nested) also Debian's cloud kernel with one and two processors, timed beside QEMU, and
shifts among all engines.
"""
import os, re, shutil, sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import initramfs
from guest import Failure, Skip, Tap, fetch, host_program, inside
from nested import FIRMWARE, Bed, ours

LONG = '--long' in sys.argv
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


def guest_files():
    busybox = fetch('bookworm', 'amd64', 'busybox-static', 'bin/busybox')
    kernel = fetch('bookworm', 'amd64', 'linux-image-cloud-amd64', 'boot/vmlinuz-*')
    return {'guest/vmlinuz': (open(kernel, 'rb').read(), False),
            'guest/initrd': (initramfs.build(busybox, {'init': (GUEST_INIT.encode(), True)}), False)}


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


# --- Under KVM --------------------------------------------------------------------------------------------------------------------

# QEMU's emulation of AMD-V lets XSETBV pass by the kernel inside, which then does not know the guest's XCR0: guests have no XSAVE.
QEMU = 'qemu-system-x86_64 -L /usr/share/seabios -L /usr/share/qemu -accel kvm -cpu host,-xsave'
BOOT = '%s -nographic -net none -no-reboot -m 256 -smp %d -kernel /guest/vmlinuz -initrd /guest/initrd -append "console=ttyS0 panic=-1 quiet"'


def boot(bed, program, cpus):
    """Boots Debian's cloud kernel to its power-off. Returns what it calculated, what it complained about, and how long it took there."""
    def clock():
        return float(bed.run('cat /proc/uptime').split()[0])
    start = clock()
    said = bed.run('timeout 240 ' + BOOT % (program, cpus), 260)
    if 'FIRST LINE cpus=%d\n' % cpus not in said or 'LAST LINE' not in said:
        raise Failure(said[-3000:])
    print('\n'.join('# ' + line for line in re.findall(r'^(?:trapeze:|accel:).*', said, re.M)), flush=True)
    work = re.findall(r'^SUM.*|^\w{64} .*', said, re.M)
    complaints = re.findall(r'^COMPLAINT \[.*?\] (?:WARNING: CPU: \d+ PID: \d+ at )?(\S+)', said, re.M)
    return said, work, complaints, clock() - start


def compare(bed, ours, cpus, theirs, most):
    """Runs ours; what it calculates and complains about must be as under QEMU (whose own kernel finds fault with QEMU's processor)."""
    said, work, complaints, seconds = boot(bed, 'trapeze -cpu max,-xsave ' + ours, cpus)
    print('# %.1f s, QEMU under KVM %.1f s' % (seconds, theirs[3]), flush=True)
    if work != theirs[1] or set(complaints) - set(theirs[2]):
        raise Failure('something is wrong:\n' + said[-3000:])
    if most and seconds > most * theirs[3]:
        raise Failure('%.1f s are more than %.1f times %.1f s' % (seconds, most, theirs[3]))
    return said


def kvm_shift(bed, cpus, theirs):
    said = compare(bed, '-accel auto,shift=50 -d stats', cpus, theirs, 0)
    m = re.search(r'accel: shifts: (\d+) .*', said)
    if not m or int(m.group(1)) < 50 or 'kvm' not in m.group(0):
        raise Failure('fewer than 50 shifts, or not to KVM:\n' + said[-2000:])


def under_kvm(tap, bed, engines):
    for cpus in (1, 2):
        try:
            theirs = boot(bed, QEMU, cpus)
        except Failure as e:
            tap.ok(False, 'QEMU under KVM, -smp %d' % cpus, e)
            continue
        tap.run('Debian under KVM, -smp %d' % cpus, compare, bed, '-accel kvm', cpus, theirs, 1.2)
        tap.run('shifts among %s, -smp %d' % (', '.join(engines), cpus), kvm_shift, bed, cpus, theirs)


def main():
    tap = Tap()
    try:
        files = {**ours(), **inside('kvm_probe')}
        if LONG:
            files.update({**guest_files(), **qemu_files()})
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
