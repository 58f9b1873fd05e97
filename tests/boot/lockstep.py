#!/usr/bin/env python3
"""Debian's cloud kernel comes to its initramfs with the JIT and the interpreter in lockstep, without a difference."""
import os, re, subprocess, sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import guest
from guest import PROGRAM, SCALE, Guest, Skip, Tap, fetch, temp_initramfs

INIT = """#!/bin/busybox sh
echo FIRST LINE
/bin/busybox poweroff -f
"""


def boot():
    engines = subprocess.run([PROGRAM, '-accel', 'help'], stdout=subprocess.PIPE, text=True).stdout
    if not re.search(r'^jit ', engines, re.M):
        raise Skip('this build has no JIT')
    if SCALE != 1:
        raise Skip('it takes too long in a slow build')
    if guest.ACCEL not in ('', 'auto') and guest.ACCEL.split(',')[0] not in ('jit', 'tcg'):
        raise Skip('ACCEL asks for another engine')
    guest.ACCEL = 'jit,check=interp'
    kernel = fetch('bookworm', 'amd64', 'linux-image-cloud-amd64', 'boot/vmlinuz-*')
    with temp_initramfs(fetch('bookworm', 'amd64', 'busybox-static', 'bin/busybox'), INIT) as initrd, \
            Guest('-nographic', '-m', '256', '-d', 'stats', '-no-reboot', '-kernel', kernel, '-initrd', initrd.name,
                  '-append', 'console=ttyS0 panic=-1 quiet') as g:
        g.expect('FIRST LINE', 300)
        g.wait(60)
        run = re.search(r'lockstep: (\d+) instructions', g.text)
        if not run or int(run.group(1)) < 100000000:
            g.fail('too little was compared')
        print('#', re.search(r'lockstep: .*', g.text).group(0))


tap = Tap()
tap.run('a boot in lockstep', boot)
tap.done()
