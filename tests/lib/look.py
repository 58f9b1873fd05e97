"""What a guest sees of its machine under an engine, told by a script in Debian's kernel; and how two such tales differ."""
import re
import guest
from guest import Failure, Guest, temp_initramfs

# INIT is /init of an initramfs of busybox.
MACHINE = ['-nographic', '-m', '512', '-smp', '2', '-no-reboot']
COMMAND_LINE = 'console=ttyS0 panic=-1 quiet nokaslr'
KINDS = ('iomem', 'ioports', 'interrupts', 'acpi', 'smbios')
INIT = """#!/bin/busybox sh
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
sed 's/^/SAME iomem /' /proc/iomem
sed 's/^/SAME ioports /' /proc/ioports
sed -n 's/^ *\\([A-Za-z0-9]*\\):[ 0-9]*/SAME interrupts \\1 /p' /proc/interrupts
for t in /sys/firmware/acpi/tables/*; do [ -f $t ] && echo "SAME acpi $(md5sum $t)"; done
for t in /sys/firmware/dmi/tables/*; do [ -f $t ] && echo "SAME smbios $(md5sum $t)"; done
echo LAST LINE
poweroff -f
"""


def seen(text):
    """The lines about the machine in what the guest has printed."""
    lines = re.findall(r'SAME (.*?)\r?$', text, re.M)
    for kind in KINDS:
        if sum(line.startswith(kind) for line in lines) < 2:
            raise Failure('the guest tells nothing of %s:\n%s' % (kind, text[-3000:]))
    return lines


def under(engine, kernel, busybox):
    guest.ACCEL = engine
    with temp_initramfs(busybox, INIT) as initrd, \
            Guest(*MACHINE, '-kernel', kernel, '-initrd', initrd.name, '-append', COMMAND_LINE) as g:
        g.expect('LAST LINE', 300)
        g.wait(30)
        return seen(g.text)


def compare(seen_by):
    """{engine: lines}: all must be the same."""
    (first, lines), *others = seen_by.items()
    for engine, theirs in others:
        differences = set(lines) ^ set(theirs)
        if differences:
            raise Failure('%s and %s differ:\n%s' % (first, engine, '\n'.join(sorted(differences))))
    print('# %d lines the same under %s' % (len(lines), ', '.join(seen_by)), flush=True)
