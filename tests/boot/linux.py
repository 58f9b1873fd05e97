#!/usr/bin/env python3
"""Debian's kernels boot with a busybox initramfs to their first line and power off, with one and with four processors."""
import os, re, sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from guest import SCALE, Failure, Guest, Tap, fetch, temp_initramfs

INIT = """#!/bin/busybox sh
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
echo "FIRST LINE $(uname -rm) cpus=$(nproc) mem=$(sed -n 's/MemTotal: *//p' /proc/meminfo)"
echo "CLOCK $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
sleep 2
echo "CLOCK $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
grep -E '^ *(LOC|RES|CAL|TLB|ERR|MIS):' /proc/interrupts
dmesg | grep -iE 'unhandled|oops|BUG:|WARNING:|call trace|clocksource.*(unstable|skew)|TSC.*(unstable|warp)|bios bug|firmware bug' | sed 's/^/COMPLAINT /'
echo LAST LINE
poweroff -f
"""

KERNELS = [
    ('Debian 12 cloud', 'bookworm', 'amd64', 'linux-image-cloud-amd64'),
    ('Debian 12 amd64', 'bookworm', 'amd64', 'linux-image-amd64'),
    ('Debian 12 686-pae', 'bookworm', 'i386', 'linux-image-686-pae'),
    ('Debian 13 amd64', 'trixie', 'amd64', 'linux-image-amd64'),
]


def boot(suite, arch, package, cpus):
    kernel = fetch(suite, arch, package, 'boot/vmlinuz-*')
    with temp_initramfs(fetch('bookworm', arch, 'busybox-static', 'bin/busybox'), INIT) as initrd, \
            Guest('-nographic', '-m', '512', '-smp', str(cpus), '-no-reboot', '-kernel', kernel, '-initrd', initrd.name,
                  '-append', 'console=ttyS0 panic=-1') as g:
        first = g.expect(r'FIRST LINE (\S+) (\S+) cpus=(\d+)', 300)
        if int(first.group(3)) != cpus:
            g.fail('the guest sees %s processors, not %d' % (first.group(3), cpus))
        g.expect('LAST LINE', 60)
        g.wait(30)
        complaints = re.findall(r'COMPLAINT .*', g.text)
        if complaints:
            raise Failure('\n'.join(complaints))
        clocks = re.findall(r'CLOCK (\S+)', g.text)
        if len(set(clocks)) != 1 or clocks[0] not in ('kvm-clock', 'tsc'):
            raise Failure('clock source changed or is odd: %s' % clocks)


if __name__ == '__main__':
    tap = Tap()
    for n, (name, suite, arch, package) in enumerate(KERNELS):
        # In slow builds each kernel boots once.
        for cpus in (1, 4) if SCALE == 1 else ((4, 1)[n % 2],):
            tap.run('%s, -smp %d' % (name, cpus), boot, suite, arch, package, cpus)
    tap.done()
