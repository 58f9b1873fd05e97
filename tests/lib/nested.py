"""A guest of Debian's QEMU with a whole /dev/kvm: QEMU emulates AMD-V with nested paging, Debian's full kernel drives it.

    with Bed({'bin/foo': (content, executable), ...}) as bed:
        print(bed.run('foo --bar', limit=60))

QEMU's own emulation runs it all, some ten times slower than the host. The emulator comes with its
libraries and firmware (ours()). In a line, until_says PATTERN SECONDS COMMAND... runs a command until it has printed that.
"""
import os, re, shutil, tempfile
import initramfs
from guest import PROGRAM, Failure, Process, Skip, fetch, fetch_all, host_program

MODULES = ['virt/lib/irqbypass', 'drivers/crypto/ccp/ccp', 'arch/x86/kvm/kvm', 'arch/x86/kvm/kvm-amd'] # in the order of their needs
FIRMWARE = ['/usr/share/seabios/bios-256k.bin', '/usr/share/seabios/vgabios-stdvga.bin']

INIT = """#!/bin/busybox sh
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mount -t tmpfs tmp /tmp
stty -echo
for m in %s; do insmod /lib/$m.ko || echo "BED FAILED $m"; done
# until_says PATTERN SECONDS COMMAND...: runs it until it has printed that.
until_says() {
    pattern=$1; left=$2; shift 2
    : >/tmp/said # what the last one said is not to be found before this one begins
    "$@" >>/tmp/said 2>&1 &
    while [ $left -gt 0 ] && kill -0 $! 2>/dev/null && ! grep -q "$pattern" /tmp/said; do sleep 1; left=$((left-1)); done
    kill $! 2>/dev/null
    wait $!
    cat /tmp/said
    grep -q "$pattern" /tmp/said
}
echo BED READY
while read -r line; do
    eval "$line" </dev/null
    echo "BED DONE $?"
done
poweroff -f
""" % ' '.join(os.path.basename(m) for m in MODULES)


def ours():
    """The emulator, for the bed's initramfs."""
    files = host_program(PROGRAM)
    there = [f for f in FIRMWARE if os.path.exists(f)]
    if not there:
        raise Skip('no SeaBIOS in /usr/share/seabios')
    files.update({f.lstrip('/'): (open(f, 'rb').read(), False) for f in there})
    return files


def kernel_and_modules():
    """Path of the kernel; {guest path: (content, executable)} of its modules."""
    paths = fetch_all('bookworm', 'amd64', 'linux-image-amd64', 'boot/vmlinuz-*', *('lib/modules/*/kernel/%s.ko' % m for m in MODULES))
    version = re.search(r'lib/modules/([^/]*)/', paths[1]).group(1)
    kernel = os.path.join(os.path.dirname(paths[0]), 'vmlinuz-' + version)
    if not os.path.exists(kernel):
        raise Failure('%s is not of the version of its modules; remove its directory to have both fetched again' % paths[0])
    return kernel, {'lib/' + os.path.basename(p): (open(p, 'rb').read(), False) for p in paths[1:]}


class Bed(Process):
    def __init__(self, files, cpus=2, memory=1536):
        qemu = shutil.which('qemu-system-x86_64')
        if not qemu:
            raise Skip('qemu-system-x86_64 is not here: ./configure --deps installs it (package qemu-system-x86)')
        kernel, modules = kernel_and_modules()
        self.initrd = tempfile.NamedTemporaryFile(prefix='trapeze-bed-')
        self.initrd.write(initramfs.build(fetch('bookworm', 'amd64', 'busybox-static', 'bin/busybox'),
                                          {'init': (INIT.encode(), True), **modules, **files}, compress=False))
        self.initrd.flush()
        super().__init__(qemu, '-accel', 'tcg,thread=multi', '-cpu', 'max,+svm', '-smp', str(cpus), '-m', str(memory), '-display', 'none',
                         '-nodefaults', '-serial', 'stdio', '-no-reboot', '-kernel', kernel, '-initrd', self.initrd.name, '-append',
                         'console=ttyS0 panic=-1 quiet tsc=reliable no_timer_check')
        try:
            self.expect('BED READY', 120)
            if 'BED FAILED' in self.text:
                self.fail('a module of the kernel does not load')
        except BaseException:
            self.__exit__()
            raise

    def run(self, line, limit=60, code=0):
        """Carries out a line of shell in there; returns what it printed. code=None: any exit code is right."""
        start = len(self.text)
        self.send(line + '\n')
        m = self.expect(r'(?s)^.{%d}(.*?)BED DONE (\d+)\r?\n' % start, limit)
        if code is not None and int(m.group(2)) != code:
            self.fail('"%s" gives exit code %s' % (line, m.group(2)))
        return m.group(1).replace('\r', '')
