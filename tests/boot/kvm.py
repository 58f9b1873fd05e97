#!/usr/bin/env python3
"""KVM as this host has it: the table of what it is worth, SeaBIOS in it whatever it is worth, and Debian's cloud kernel with -accel kvm
from the first line to power-off, with one processor and with two; where KVM is no good another engine runs the guest and one line says so.
There QEMU under KVM stops at an instruction that KVM cannot run; we, made to use it, interpret it and go on.
"""
import os, re, shutil, subprocess, sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import guest
from guest import PROGRAM, Guest, Process, Skip, Tap, fetch, temp_initramfs

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


def empty_machine():
    """KVM without a processor to run."""
    kvm_help()
    guest.ACCEL = 'kvm,force=on'
    with Guest('-M', 'none', '-display', 'none', '-monitor', 'stdio') as g:
        g.expect(r'\(trapeze\) $')
        g.send('engine interp\rengine kvm\rinfo accel\r')
        g.expect(r'\* kvm +in charge')
        g.send('quit\r')
        g.wait(20, 0)


def fallback():
    """QEMU stops where we interpret."""
    if is_good():
        raise Skip('KVM is good here: QEMU runs the guest, too (boot/kvm_nested compares)')
    qemu = shutil.which('qemu-system-x86_64')
    if not qemu:
        raise Skip('qemu-system-x86_64 is not here: ./configure --deps installs it (package qemu-system-x86)')
    kernel = fetch('bookworm', 'amd64', 'linux-image-cloud-amd64', 'boot/vmlinuz-*')
    args = ('-m', '512', '-nographic', '-no-reboot', '-kernel', kernel, '-append', 'console=ttyS0 earlyprintk=ttyS0 panic=-1 nokaslr')
    guest.ACCEL = 'kvm,force=on'
    with Process(qemu, '-accel', 'kvm', '-net', 'none', *args) as theirs, Guest(*args, '-d', 'stats') as ours:
        ours.expect('warning: -accel kvm,force=on: .*', 20)
        theirs.expect('KVM internal error. Suberror: 1', 150)
        code = theirs.expect(r'Code=.*<([0-9a-f]{2})>((?: [0-9a-f]{2})*)', 10)
        print('# QEMU stops at', (code.group(1) + code.group(2))[:44])
        stopped_at = (['nothing'] + re.findall(r'\] (.*)', theirs.text.split('KVM internal error')[0]))[-1].strip()
        ours.expect(r'rcu: Preemptible hierarchical RCU', 100)
        if 'rcu: Preemptible hierarchical RCU' in theirs.text:
            theirs.fail('QEMU has come as far')
        print('# its last line is "%s"; ours come to RCU' % stopped_at)
        ours.send('\x01x')
        ours.wait(20, 0)
        missed = re.findall(r'^kvm: +(\d+  \S+ .*|cpu 0: .*)', ours.text, re.M)
        print(''.join('# %s\n' % m.rstrip() for m in missed), end='')
        if not any('cmpxchg16b' in m for m in missed):
            ours.fail('cmpxchg16b is not among the instructions interpreted')


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
tap.run('a machine without processors', empty_machine)
for n in 1, 2:
    tap.run('Debian 12 cloud with -accel kvm -smp %d' % n, linux, n)
tap.run('instructions that KVM cannot run', fallback)
tap.done()
