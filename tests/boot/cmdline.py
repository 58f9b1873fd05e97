#!/usr/bin/env python3
"""The command line: help texts that tools read, and one sentence for each wrong value, exit code 1, nothing left behind."""
import os, re, subprocess, sys, tempfile
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from guest import PROGRAM, SCALE, Tap

# Arguments, and what the one line on stderr must hold beside the option itself.
ERRORS = [
    ('-m 12Q', 'size=12Q: must be a size'), ('-m 0', 'at least'), ('-m', 'needs an argument'), ('-m 128,maxmem=64', 'maxmem'),
    ('-m 128,foo=1', "no 'foo'"), ('-m 9999T', 'at most'),
    ('-smp 0', 'number from 1'), ('-smp 4,sockets=3', 'must be'), ('-smp 8,maxcpus=4', 'maxcpus'), ('-smp x', 'number'),
    ('-smp 1000', 'number from 1'),
    ('-cpu nosuch', 'nosuch'), ('-cpu max,+nosuch', 'nosuch'), ('-accel nosuch', 'nosuch'), ('-accel ,', 'engine'),
    ('-machine nosuch', 'pc or none'), ('-M q35', 'pc or none'), ('-machine pc,foo=bar', "no 'foo'"), ('-machine pc,hpet=maybe', 'maybe'),
    ('-kernel /nonexistent', 'No such file'), ('-kernel /dev/null', 'regular file'), ('-kernel %(text)s', 'no kernel'),
    ('-kernel %(truncated)s', 'shorter'), ('-kernel %(old)s', 'older'), ('-kernel %(zimage)s', 'zImage'),
    ('-initrd x', 'only with -kernel'), ('-append x', 'only with -kernel'),
    ('-bios /nonexistent', 'nonexistent'), ('-bios %(text)s', '64 KiB'), ('-bios %(odd)s', '64 KiB'),
    ('-serial nosuch', 'nosuch'), ('-serial chardev:nosuch', 'nosuch'), ('-serial file:/nonexistent/x', 'No such file'),
    ('-serial null -serial null -serial null -serial null -serial null', '4 serial ports'),
    ('-chardev nosuch,id=a', 'nosuch'), ('-chardev null', 'id'),
    ('-debugcon nosuch', 'nosuch'), ('-display nosuch', 'none'), ('-vga nosuch', 'std or none'),
    ('-device nosuch', 'no such device'), ('-device isa-seriel', 'did you mean isa-serial'), ('-device isa-debug-exit,foo=1', 'foo'),
    ('-device isa-debug-exit,iobase=banana', 'banana'), ('-device isa-serial,chardev=nosuch', 'nosuch'), ('-device i8254', ''),
    ('-device isa-debug-exit,id=a -device isa-debug-exit,id=a,iobase=0x600', 'taken'),
    ('-global foo', 'TYPE.PROPERTY=VALUE'), ('-global isa-serial.nosuch=1', 'nosuch'),
    ('-boot xyz', 'order'), ('-boot menu=maybe', 'maybe'), ('-boot foo=1', "no 'foo'"), ('-boot splash-time=-1', 'number'),
    ('-rtc base=soon', 'localtime'), ('-rtc clock=sundial', 'sundial'), ('-rtc foo=1', "no 'foo'"),
    ('-uuid 123', '123e4567'), ('-smbios type=99', 'types'), ('-smbios foo=bar', 'type=N'), ('-smbios type=1,foo=bar', "no 'foo'"),
    ('-smbios type=0,release=x', 'release'), ('-action reboot=never', 'never'), ('-action foo=bar', "no 'foo'"),
    ('-echr 0', 'number from 1'), ('-d nosuch', 'nosuch'), ('-D /nonexistent/log', 'No such file'),
    ('-fw_cfg name=x', 'string'), ('-fw_cfg string=x', 'name='), ('-fw_cfg name=x,file=/nonexistent', 'No such file'),
    ('-monitor nosuch', 'nosuch'), ('-mon nosuch', 'id=nosuch'), ('-mon c,mode=control', 'no QMP'), ('-mon c,mode=odd', 'readline'),
    ('-mon mode=readline', 'chardev=ID'), ('-serial stdio -monitor stdio', 'mon:stdio'),
    ('-chardev null,id=c -serial chardev:c -mon c', 'mux=on'),
    ('-accel auto,shift=0', 'number from 1'), ('-accel auto,foo=1', "no 'foo'"), ('-accel auto,seed=x', 'number'),
    ('-drive file=/nonexistent', 'No such file'), ('/nonexistent/disk.img', 'No such file'), ('-hda /nonexistent', '-hda /nonexistent'),
    ('-drive if=floppy,index=2', 'two floppy drives'), ('-drive if=floppy,format=raw,readonly=on,file=' + os.path.abspath(PROGRAM), 'too much for a floppy'),
    ('-drive if=virtio', 'needs an image'), ('-device virtio-blk-pci', 'drive=ID is missing'), ('-drive if=scsi', 'if=virtio'),
    ('-drive index=4', 'four IDE drives'), ('-drive id=a,if=none -drive id=a,if=none', 'taken'),
    ('-drive if=ide', 'needs an image'), ('-drive media=cdrom,index=1 -drive media=cdrom,index=1', 'another drive'),
    ('-device ide-hd', 'drive= is missing'), ('-device ide-cd,unit=2', 'units below 2'), ('-device ide-cd,bus=ide.7', 'no ide bus'),
    ('-device ide-cd,bootindex=1 -device ide-cd,bootindex=1', 'taken'), ('-device ide-cd,serial=123456789012345678901', '20 characters'),
    ('-device ide-cd -device ide-cd -device ide-cd -device ide-cd -device ide-cd', 'no ide bus'),
    ('-netdev user,id=n', 'no network'),
    ('-mem-path /nonexistent/x', 'No such file'), ('-pidfile /nonexistent/x', 'No such file'),
    ('-nosuchoption', 'no such option'), ('--kernle x', 'did you mean -kernel'), ('-nograhpic', 'did you mean -nographic'),
    ('-daemonize -nographic', '-display none'), ('-s', 'gdb'),
]

# Arguments and a pattern that the text on stdout must match; exit code 0.
TEXTS = [
    ('-version', r'^QEMU emulator version 7\.2\.0 \(Trapeze'), ('--version', r'^QEMU emulator'), ('-help', r'\n-kernel'),
    ('-h', r'usage:'), ('-machine help', r'\npc .*\n'), ('-M none -accel help', r'interp'), ('-cpu help', r'qemu64'),
    ('-cpu help -machine q35', r'max'), ('-device help', r'name "isa-debug-exit", bus ISA'),
    ('-device isa-serial,help', r'chardev=<str>'), ('-d help', r'guest_errors'), ('-chardev help', r'socket'),
    ('-vga help', r'std'), ('-display help', r'none'),
]


def write(directory, name, data):
    path = os.path.join(directory, name)
    with open(path, 'wb') as f:
        f.write(data)
    return path


def bzimage(version, loadflags, size=4096):
    d = bytearray(size)
    d[0x1f1] = 2
    d[0x1fe:0x200] = b'\x55\xaa'
    d[0x202:0x206] = b'HdrS'
    d[0x206:0x208] = version.to_bytes(2, 'little')
    d[0x211] = loadflags
    return bytes(d)


def run(args, cwd):
    p = subprocess.run([PROGRAM] + args, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       text=True, timeout=20 * SCALE)
    return p.returncode, p.stdout, p.stderr


tap = Tap()
PROGRAM = os.path.abspath(PROGRAM)
with tempfile.TemporaryDirectory() as files, tempfile.TemporaryDirectory() as cwd:
    names = {
        'text': write(files, 'text', b'this is no kernel\n' * 100),
        'odd': write(files, 'odd', bytes(100000)),
        'truncated': write(files, 'truncated', bzimage(0x20f, 1, 0x500)),
        'old': write(files, 'old', bzimage(0x201, 1)),
        'zimage': write(files, 'zimage', bzimage(0x20f, 0)),
    }
    for arguments, expected in ERRORS:
        args = (arguments % names).split()
        code, out, err = run(args, cwd)
        lines = [l for l in err.splitlines() if not l.startswith('trapeze: note:')]
        good = code == 1 and len(lines) == 1 and lines[0].startswith('trapeze: ') and expected in lines[0] and not out \
            and (args[-2] if len(args) > 1 else args[0]).split('=')[0] in lines[0] and not os.listdir(cwd)
        tap.ok(good, arguments or '(none)', 'code %d\nstdout: %s\nstderr: %s\nfiles: %s' % (code, out, err, os.listdir(cwd)))
    for arguments, pattern in TEXTS:
        code, out, err = run(arguments.split(), cwd)
        tap.ok(code == 0 and re.search(pattern, out) and not err, arguments, 'code %d\n%s\n%s' % (code, out, err))
tap.done()
