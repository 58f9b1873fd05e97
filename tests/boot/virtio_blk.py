#!/usr/bin/env python3
"""Debian's virtio drivers write and read a disk through a modern, a transitional and a legacy-only virtio-blk device, with packed
rings, without indirect descriptors, without MSI-X and with a queue for each of two processors; and SeaBIOS boots from one."""
import hashlib, os, random, re, sys, tempfile
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from guest import ACCEL, SCALE, Failure, Guest, Tap, engines, fetch, fetch_all, temp_initramfs

MODULES = ['virtio/virtio', 'virtio/virtio_ring', 'virtio/virtio_pci_legacy_dev', 'virtio/virtio_pci_modern_dev',
           'virtio/virtio_pci', 'block/virtio_blk']
MIB = 1 << 20
DISK = 24 * MIB  # the first third holds what the guest reads, the second what it writes, the last what it discards

INIT = """#!/bin/busybox sh
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
for m in %s; do insmod /lib/$m.ko || echo "FAILED $m"; done
cd /sys/block/vda
echo "FEATURES $(cat device/features) $(cat device/serial 2>/dev/null) $(cat serial)"
echo "SHAPE $(cat size) mq=$(ls mq | wc -l) ro=$(cat ro) cache=$(cat queue/write_cache) segs=$(cat queue/max_segments) \\
lbs=$(cat queue/logical_block_size) pbs=$(cat queue/physical_block_size) discard=$(cat queue/discard_max_bytes)"
# Each processor reads its part, all at a time, then the whole once more.
for i in 0 1 2 3; do
    taskset $((1 << i %% $(nproc))) dd if=/dev/vda of=/tmp/$i bs=64k skip=$((i * 32)) count=32 2>/dev/null &
done
wait
echo "READ $(cat /tmp/0 /tmp/1 /tmp/2 /tmp/3 | sha256sum)"
rm /tmp/*
dd if=/dev/urandom of=/tmp/w bs=1M count=8 2>/dev/null
for i in 0 1 2 3; do
    taskset $((1 << i %% $(nproc))) dd if=/tmp/w of=/dev/vda bs=16k skip=$((i * 128)) seek=$((512 + i * 128)) count=128 conv=notrunc 2>/dev/null &
done
wait
sync
echo 3 >/proc/sys/vm/drop_caches
echo "WROTE $(sha256sum </tmp/w)"
echo "BACK $(dd if=/dev/vda bs=1M skip=8 count=8 2>/dev/null | sha256sum)"
blkdiscard -o 16777216 -l 4194304 /dev/vda && echo DISCARDED
echo "write through" >queue/write_cache && echo "CACHE $(cat queue/write_cache)"
dd if=/tmp/w of=/dev/vda bs=4k seek=5120 count=16 conv=notrunc,fsync 2>/dev/null && echo SYNCED
grep virtio /proc/interrupts
dmesg | grep -iE 'virtio|vda' | sed 's/^/LOG /'
echo LAST LINE
poweroff -f
"""


def modules():
    """Path of the kernel; {guest path: (content, executable)} of its modules."""
    paths = fetch_all('bookworm', 'amd64', 'linux-image-cloud-amd64', 'boot/vmlinuz-*',
                      *('lib/modules/*/kernel/drivers/%s.ko' % m for m in MODULES))
    return paths[0], {'lib/%s.ko' % os.path.basename(m): (open(p, 'rb').read(), False) for m, p in zip(MODULES, paths[1:])}


def make_disk():
    f = tempfile.NamedTemporaryFile(prefix='trapeze-disk-')
    f.write(random.Random(5).randbytes(DISK))
    f.flush()
    return f


def digest(f, offset):
    return hashlib.sha256(os.pread(f.fileno(), 8 * MIB, offset)).hexdigest()


def bit(features, n):
    return features[n] == '1'


def boot(kernel, initrd, device, cpus, engine, legacy=False, drive='', features={}, shape=()):
    with make_disk() as disk:
        accel = ['-accel', engine] if engine else []
        first = digest(disk, 0)
        args = ['-device', device + ',drive=d'] if device else []
        options = 'file=%s,format=raw,discard=unmap,id=d%s' % (disk.name, drive or ',if=none')
        with Guest(*accel, '-nographic', '-m', '256', '-smp', str(cpus), '-no-reboot', '-kernel', kernel, '-initrd', initrd,
                   '-drive', options, *args, '-append', 'console=ttyS0 quiet panic=-1') as g:
            g.expect('LAST LINE', 120)
            g.wait(30)
        def one(pattern):
            m = re.search(pattern, g.text)
            if not m:
                g.fail('no "%s"' % pattern)
            return m.group(1)
        if 'FAILED' in g.text:
            g.fail('a module does not load')
        seen = one(r'FEATURES ([01]+)')
        wanted = {32: not legacy, 28: True, 29: True, **features}
        for n, value in wanted.items():
            if bit(seen, n) != value:
                g.fail('feature %d is %s' % (n, not value))
        for text in ('mq=%d' % cpus if not device or 'num-queues' not in device else 'mq=', 'cache=write back', 'ro=0', *shape):
            if text not in one('SHAPE (.*(?:\n.*discard.*)?)'):
                g.fail('the disk is not of "%s"' % text)
        if one(r'READ (\w+)') != first:
            g.fail('read something else')
        if one(r'WROTE (\w+)') != one(r'BACK (\w+)') or one(r'WROTE (\w+)') != digest(disk, 8 * MIB):
            g.fail('what was written is not what is there')
        for line in ('DISCARDED', 'CACHE write through', 'SYNCED'):
            one('(%s)' % line)
        if any(os.pread(disk.fileno(), 4 * MIB, 16 * MIB)):
            g.fail('what was discarded is still there')
        if os.pread(disk.fileno(), 65536, 5120 * 4096) != os.pread(disk.fileno(), 65536, 8 * MIB):
            g.fail('what was written through is not there')
        if re.search(r'LOG .*(error|failed|reset)', g.text):
            g.fail('the driver complains')
        return g.text


def boot_sector(disk_options):
    """SeaBIOS loads a boot sector from the disk, which reads the next sector and prints what is there."""
    code = bytes([
        0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xc0,              # ds = es = 0
        0xb8, 0x01, 0x02, 0xbb, 0x00, 0x7e,              # int 13h: read one sector to 0x7e00
        0xb9, 0x02, 0x00, 0xb6, 0x00, 0xcd, 0x13,
        0xbe, 0x00, 0x7e,                                # print from there
        0xac, 0x08, 0xc0, 0x74, 0x06,
        0xba, 0xf8, 0x03, 0xee, 0xeb, 0xf5,
        0xf4, 0xeb, 0xfd])
    with tempfile.NamedTemporaryFile(prefix='trapeze-disk-') as f:
        f.write(code.ljust(510, b'\0') + b'\x55\xaa' + b'BOOTED FROM VIRTIO\r\n\0'.ljust(512, b'\0'))
        f.truncate(4 * MIB)
        f.flush()
        with Guest('-nographic', '-m', '32', *(o.replace('FILE', f.name) for o in disk_options)) as g:
            g.expect('BOOTED FROM VIRTIO', 60)


def main():
    tap = Tap()
    try:
        kernel, files = modules()
        init = INIT % ' '.join(os.path.basename(m) for m in MODULES)
        initrd = temp_initramfs(fetch('bookworm', 'amd64', 'busybox-static', 'bin/busybox'), init, files)
    except Exception as e:
        tap.skip('virtio-blk in Debian', e)
        return tap.done()
    cases = [
        ('-drive if=virtio', None, 1, dict(drive=',if=virtio')),
        ('modern', 'virtio-blk-pci,disable-legacy=on,serial=TRAPEZE-1', 1, {}),
        ('transitional, two queues', 'virtio-blk-pci,num-queues=2', 2, {}),
        ('packed, two queues', 'virtio-blk-pci,packed=on,num-queues=2', 2, dict(features={34: True})),
        ('packed without event index and indirect descriptors', 'virtio-blk-pci,packed=on,event_idx=off,indirect_desc=off', 1,
         dict(features={28: False, 29: False, 34: True})),
        ('split without event index and indirect descriptors', 'virtio-blk-pci,event_idx=off,indirect_desc=off,queue-size=64', 2,
         dict(features={28: False, 29: False})),
        ('legacy', 'virtio-blk-pci,disable-modern=on', 2, dict(legacy=True)),
        ('legacy without MSI-X', 'virtio-blk-pci,disable-modern=on,vectors=0', 1, dict(legacy=True)),
        ('INTx, 4 KiB blocks', 'virtio-blk-pci,vectors=0,logical_block_size=4096', 1, dict(shape=('lbs=4096', 'pbs=4096'))),
        ('one vector for all', 'virtio-blk-pci,vectors=2,num-queues=2', 2, {}),
    ]
    for name, device, cpus, more in cases:
        tap.run(name, boot, kernel, initrd.name, device, cpus, None, **more)
    if not ACCEL and 'interp' in engines():
        for name, device, cpus, more in cases[2:4]:
            tap.run(name + ', interpreter', boot, kernel, initrd.name, device, cpus, 'interp', **more)
    tap.run('SeaBIOS, modern', boot_sector, ['-drive', 'file=FILE,if=none,format=raw,id=d', '-device',
                                             'virtio-blk-pci,drive=d,disable-legacy=on'])
    tap.run('SeaBIOS, legacy', boot_sector, ['-drive', 'file=FILE,if=none,format=raw,id=d', '-device',
                                             'virtio-blk-pci,drive=d,disable-modern=on'])
    tap.run('SeaBIOS, -drive if=virtio', boot_sector, ['-drive', 'file=FILE,if=virtio,format=raw'])
    tap.done()


if __name__ == '__main__':
    main()
