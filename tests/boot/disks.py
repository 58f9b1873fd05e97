#!/usr/bin/env python3
"""Disks on the pc board: firmware starts boot sectors from an IDE disk, a CD and a floppy in the order that it is told, GRUB comes up from its
rescue images, and Debian's kernel reads and writes an IDE disk and a floppy and reads a CD.
"""
import os, re, sys, tempfile
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from disk_guest import (ORDER, OTHERS, SECTOR, boot_sector, el_torito, expect_screen, grub_rescue, insmod, modules, random_bytes,
                        sha256, write_file)
from guest import Failure, Guest, Tap, fetch, temp_initramfs

QUIET = ('-display', 'none', '-serial', 'stdio', '-monitor', 'none')


def says(text, *args):
    with Guest(*QUIET, *args) as g:
        g.expect(text, 60)


def disk(d, name, text):
    return write_file(d, name, boot_sector(text) + bytes(4 << 20))


def boots(*args, says_first):
    with tempfile.TemporaryDirectory() as d:
        names = {'hda': disk(d, 'hda', 'FIRST DISK'), 'hdb': disk(d, 'hdb', 'SECOND DISK'), 'cd': el_torito(d, 'THE CD', bytes(4096)),
                 'fda': write_file(d, 'fda', boot_sector('FLOPPY A').ljust(1440 << 10, b'\0'))}
        says(says_first, *(a % names for a in args))


def once():
    """The CD at first; after a reset the disk."""
    with tempfile.TemporaryDirectory() as d:
        with Guest('-display', 'none', '-serial', 'file:' + os.path.join(d, 'serial'), '-monitor', 'stdio', '-hda', disk(d, 'hda', 'THE DISK'),
                   '-cdrom', el_torito(d, 'THE CD', bytes(4096)), '-boot', 'order=c,once=d') as g:
            def serial(text):
                for _ in range(300):
                    g.read(0.2)
                    if text in open(os.path.join(d, 'serial'), 'rb').read().decode('latin-1'):
                        return
                g.fail('"%s" did not come' % text)
            serial('THE CD')
            g.send('system_reset\n')
            serial('THE DISK')


def grub(option, image, *args):
    with tempfile.TemporaryDirectory() as d:
        screen = os.path.join(d, 'screen')
        with Guest('-display', 'none', '-serial', 'null', '-monitor', 'stdio', '-m', '256', '-dump-screen', screen, option, image, *args) as g:
            g.expect(r'\) $', 30)  # the monitor is there, and so is who listens to signals
            expect_screen(g, screen, 'GNU GRUB  version', 60)


FLOPPY_INIT = """#!/bin/busybox sh
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
insmod /lib/floppy.ko || echo INSMOD FAILED
i=0; while [ ! -b /dev/fd0 -a $i -lt 100 ]; do sleep 0.1; i=$((i+1)); done
for f in fd0 fd1; do echo "WHOLE $f $(sha256sum < /dev/$f)"; done
head -c 100000 /dev/urandom > /tmp/new
echo "NEW $(sha256sum < /tmp/new)"
dd if=/tmp/new of=/dev/fd0 bs=1000 seek=50 conv=notrunc 2>/dev/null
sync
echo 3 > /proc/sys/vm/drop_caches
echo "BACK $(dd if=/dev/fd0 bs=1000 skip=50 count=100 2>/dev/null | sha256sum)"
dmesg | grep -iE 'fdc|floppy'
dmesg | grep -iE 'I/O error|floppy.*(timeout|reset|error|lost)|oops|BUG:|call trace' | sed 's/^/COMPLAINT /'
echo LAST LINE
poweroff -f
"""


def linux_floppy(size_a, size_b):
    a, b = random_bytes(size_a << 10, 4), random_bytes(size_b << 10, 5)
    kernel, files = modules(OTHERS)
    with tempfile.TemporaryDirectory() as d:
        fda, fdb = write_file(d, 'a', a), write_file(d, 'b', b)
        with temp_initramfs(fetch('bookworm', 'amd64', 'busybox-static', 'bin/busybox'), FLOPPY_INIT, files) as initrd, \
                Guest('-nographic', '-m', '512', '-no-reboot', '-kernel', kernel, '-initrd', initrd.name, '-append',
                      'console=ttyS0 panic=-1', '-drive', 'if=floppy,format=raw,file=' + fda, '-drive',
                      'if=floppy,format=raw,readonly=on,file=' + fdb) as g:
            g.expect('LAST LINE', 200)
            g.wait(60)
            found = dict(re.findall(r'^(WHOLE fd0|WHOLE fd1|NEW|BACK) (\w*) *-?\r?$', g.text, re.M))
            for key, value in (('WHOLE fd0', sha256(a)), ('WHOLE fd1', sha256(b)), ('BACK', found.get('NEW'))):
                if not value or found.get(key) != value:
                    g.fail('%s: %s, not %s' % (key, found.get(key), value))
            if 'COMPLAINT' in g.text:
                raise Failure('\n'.join(re.findall(r'COMPLAINT .*', g.text)))
        with open(fda, 'rb') as f:
            f.seek(50000)
            if sha256(f.read(100000)) != found['NEW']:
                raise Failure('what was written is not in the image')


INIT = """#!/bin/busybox sh
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
%s
i=0; while [ ! -b /dev/sda -a $i -lt 100 ]; do sleep 0.1; i=$((i+1)); done
echo "MODEL $(cat /sys/block/sda/device/model) SECTORS $(cat /sys/block/sda/size)"
echo "WHOLE $(sha256sum < /dev/sda)"
head -c 20000000 /dev/urandom > /tmp/new
echo "NEW $(sha256sum < /tmp/new)"
dd if=/tmp/new of=/dev/sda bs=1000k seek=1 2>/dev/null
sync
echo 3 > /proc/sys/vm/drop_caches
echo "BACK $(dd if=/dev/sda bs=1000k skip=1 count=20 2>/dev/null | head -c 20000000 | sha256sum)"
echo "SLAVE $(sha256sum < /dev/sdb)"
insmod /lib/isofs.ko
mkdir /cd && mount -t iso9660 -o ro /dev/sr0 /cd && echo "CD $(sha256sum < /cd/data.bin)"
for i in 1.0 1.1 2.0; do echo "MODES $i $(cat /sys/class/ata_device/dev$i/pio_mode /sys/class/ata_device/dev$i/xfer_mode | xargs)"; done
dmesg | grep -iE 'ata[0-9.]+: .*(exception|error|failed|timeout|lost|reset|frozen)|I/O error|oops|BUG:|call trace' | sed 's/^/COMPLAINT /'
echo LAST LINE
poweroff -f
"""


def linux(libata, mode):
    content, slave, data = random_bytes(24 << 20, 1), random_bytes(1 << 20, 2), random_bytes(5000000, 3)
    kernel, files = modules([*ORDER, *OTHERS])
    with tempfile.TemporaryDirectory() as d:
        image, second, cd = write_file(d, 'disk', content), write_file(d, 'slave', slave), el_torito(d, 'THE CD', data)
        with temp_initramfs(fetch('bookworm', 'amd64', 'busybox-static', 'bin/busybox'), INIT % insmod(ORDER, {'drivers/ata/libata': libata}), files) as initrd, \
                Guest('-nographic', '-m', '512', '-no-reboot', '-kernel', kernel, '-initrd', initrd.name, '-append',
                      'console=ttyS0 panic=-1', '-hda', image, '-drive', 'file=%s,format=raw,index=1' % second, '-cdrom', cd) as g:
            g.expect('LAST LINE', 300)
            g.wait(60)
            found = dict(re.findall(r'^(MODEL|WHOLE|NEW|BACK|SLAVE|CD) (.*?) *-?\r?$', g.text, re.M))
            for key, value in (('WHOLE', sha256(content)), ('BACK', found.get('NEW')), ('SLAVE', sha256(slave)), ('CD', sha256(data))):
                if not value or found.get(key, '').split() != value.split():
                    g.fail('%s: %s, not %s' % (key, found.get(key), value))
            if 'TRAPEZE HARDDISK SECTORS %d' % (len(content) // SECTOR) not in re.sub(' +', ' ', found['MODEL']):
                g.fail('the disk is ' + found['MODEL'])
            if 'COMPLAINT' in g.text or 'FAILED' in g.text:
                raise Failure('\n'.join(re.findall(r'COMPLAINT .*|.*FAILED.*', g.text)))
            if re.findall(r'^MODES (\S+) XFER_PIO_4 (\S+?)\r?$', g.text, re.M) != [(n, mode) for n in ('1.0', '1.1', '2.0')]:
                g.fail('not all drives are in mode ' + mode)
        with open(image, 'rb') as f:
            f.seek(1024000)
            if sha256(f.read(20000000)) != found['NEW'].split()[0]:
                raise Failure('what was written is not in the image')


if __name__ == '__main__':
    tap = Tap()
    tap.run('from the disk', boots, '-hda', '%(hda)s', says_first='FIRST DISK')
    tap.run('from an image without an option', boots, '%(hda)s', says_first='FIRST DISK')
    tap.run('from the CD behind an empty disk', boots, '-cdrom', '%(cd)s', says_first='THE CD')
    tap.run('-boot a', boots, '-hda', '%(hda)s', '-fda', '%(fda)s', '-boot', 'a', says_first='FLOPPY A')
    tap.run('-boot d', boots, '-hda', '%(hda)s', '-cdrom', '%(cd)s', '-boot', 'd', says_first='THE CD')
    tap.run('bootindex', boots, '-drive', 'if=none,id=a,format=raw,file=%(hda)s', '-drive', 'if=none,id=b,format=raw,file=%(hdb)s', '-device',
            'ide-hd,drive=a,bus=ide.0,unit=0,bootindex=2', '-device', 'ide-hd,drive=b,bus=ide.1,unit=1,bootindex=1', says_first='SECOND DISK')
    tap.run('-boot once=', once)
    tap.run('GRUB from a CD', lambda: grub('-cdrom', grub_rescue('grub-rescue-cdrom.iso')))
    tap.run('GRUB from a floppy', lambda: grub('-drive', 'format=raw,readonly=on,if=floppy,file=' + grub_rescue('grub-rescue-floppy.img')))
    tap.run('GRUB from a disk', lambda: grub('-drive', 'format=raw,readonly=on,if=none,id=x,file=' + grub_rescue('grub-rescue-usb.img'),
                                             '-device', 'ide-hd,drive=x'))
    tap.run('Linux, DMA', linux, '', 'XFER_MW_DMA_2')
    tap.run('Linux, PIO', linux, 'dma=0', 'XFER_PIO_4')
    tap.run('Linux, floppies of 1.44 MB and 720 KB', linux_floppy, 1440, 720)
    tap.run('Linux, floppies of 2.88 MB and 1.44 MB', linux_floppy, 2880, 1440)
    tap.done()
