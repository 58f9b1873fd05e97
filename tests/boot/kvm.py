#!/usr/bin/env python3
"""KVM as this host has it: the table of what it is worth, SeaBIOS in it whatever it is worth, and Debian's cloud kernel with -accel kvm
from the first line to power-off, with one processor and with two; where KVM is no good another engine runs the guest and one line says so.
"""
import os, re, subprocess, sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import guest
from guest import PROGRAM, Guest, Skip, Tap, fetch, temp_initramfs

INIT = """#!/bin/busybox sh
export PATH=/bin
mount -t proc proc /proc
echo "FIRST LINE $(uname -rm) cpus=$(nproc)"
sleep 1
echo "SLEPT $(cut -d. -f1 /proc/uptime)"
poweroff -f
"""
MODES = ('real mode', 'protected mode', '32-bit paging', '64-bit kernel', '64-bit programs')


def kvm_help():
    text = subprocess.run([PROGRAM, '-accel', 'help'], stdout=subprocess.PIPE, check=True, text=True).stdout
    m = re.search(r'^kvm .*(\n +.*)*', text, re.M)
    if not m or 'not here' in m.group(0):
        raise Skip('no KVM on this host: %s' % (m.group(0) if m else 'not in this build'))
    return m.group(0)


def table():
    text = kvm_help()
    for mode in MODES:
        if not re.search(r'^ +%s +(native|emulated|wrong)\b' % mode, text, re.M):
            raise guest.Failure('no line about %s in\n%s' % (mode, text))
    for line in text.splitlines():
        print('#', line)


def is_good():
    text = kvm_help()
    return len(re.findall(r' native, ', text)) == len(MODES) and ' not ' not in text


def seabios():
    kvm_help()
    guest.ACCEL = 'kvm,force=on'
    with Guest('-display', 'none', '-serial', 'null', '-chardev', 'stdio,id=log', '-device', 'isa-debugcon,iobase=0x402,chardev=log') as g:
        g.expect('No bootable device', 60)


def linux(cpus):
    good = is_good()
    guest.ACCEL = 'kvm'
    kernel = fetch('bookworm', 'amd64', 'linux-image-cloud-amd64', 'boot/vmlinuz-*')
    with temp_initramfs(fetch('bookworm', 'amd64', 'busybox-static', 'bin/busybox'), INIT) as initrd, \
            Guest('-nographic', '-m', '512', '-smp', str(cpus), '-no-reboot', '-kernel', kernel, '-initrd', initrd.name,
                  '-append', 'console=ttyS0 panic=-1') as g:
        g.expect(r'FIRST LINE (\S+) (\S+) cpus=%d' % cpus, 120)
        g.expect('SLEPT', 30)
        g.wait(30)
        told = re.search(r"^trapeze: KVM: this host's cannot .* runs the guest", g.text, re.M)
        if bool(told) == good:
            g.fail('KVM is %s, and the program says %s' % ('good' if good else 'no good', told and told.group(0)))


tap = Tap()
tap.run('what KVM is worth here', table)
tap.run('SeaBIOS in KVM', seabios)
for n in 1, 2:
    tap.run('Debian 12 cloud with -accel kvm -smp %d' % n, linux, n)
tap.done()
