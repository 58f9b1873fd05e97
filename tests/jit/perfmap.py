#!/usr/bin/env python3
"""-perfmap: /tmp/perf-PID.map names the shared code and the guest's, at addresses that are mapped for execution and not taken twice."""
import os, re, subprocess, sys, tempfile
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from guest import ACCEL, PROGRAM, Failure, Guest, Tap

# A firmware of 64 KiB: from the reset vector to f000:e000, 30000 rounds of a loop there, a byte to port e9, the end.
LOOP = 0xfe003
CODE = bytes([0xb9, 0x30, 0x75,                         # fe000: mov $30000, %cx
              0x40, 0xe2, 0xfd,                         # fe003: inc %ax; loop fe003
              0xb0, 0x21, 0xe6, 0xe9, 0xfa, 0xf4])      # mov $'!', %al; out %al, $0xe9; cli; hlt


def firmware():
    f = tempfile.NamedTemporaryFile(prefix='trapeze-bios-')
    f.write(b'\xf4' * 0xe000 + CODE.ljust(0x1ff0, b'\xf4') + b'\xea\x00\xe0\x00\xf0'.ljust(16, b'\xf4'))
    f.flush()
    return f


def executable(pid):
    """Address ranges of memory that is executable and has no file."""
    with open('/proc/%d/maps' % pid) as f:
        rows = [line.split() for line in f]
    return [tuple(int(x, 16) for x in r[0].split('-')) for r in rows if 'x' in r[1] and '/dev/zero' in r]


def test_map():
    with firmware() as bios, Guest('-perfmap', '-display', 'none', '-serial', 'null', '-bios', bios.name,
                                   '-debugcon', 'stdio') as g:
        path = '/tmp/perf-%d.map' % g.p.pid
        try:
            g.expect('!', 30)
            areas = executable(g.p.pid)
            with open(path) as f:
                lines = f.read().splitlines()
        finally:
            if os.path.exists(path):
                os.unlink(path)
    pieces = []
    for line in lines:
        m = re.fullmatch(r'([0-9a-f]+) ([0-9a-f]+) (\S+)', line)
        if not m:
            raise Failure('odd line: %s' % line)
        pieces.append((int(m.group(1), 16), int(m.group(2), 16), m.group(3)))
    for start, size, name in pieces:
        if size == 0 or not any(a <= start and start + size <= b for a, b in areas):
            raise Failure('%s: %#x, %#x bytes, is not within executable memory %s' % (name, start, size, areas))
    pieces.sort()
    for one, two in zip(pieces, pieces[1:]):
        if one[0] + one[1] > two[0]:
            raise Failure('%s and %s overlap' % (one[2], two[2]))
    names = [name for _, _, name in pieces]
    for name in ('jit_enter', 'jit_call_handler', 'jit_lookup_user', 'guest-%#x-16-real' % LOOP):
        if name not in names:
            raise Failure('%s is missing in:\n%s' % (name, '\n'.join(lines)))


def test_error():
    """What is in the way is a directory."""
    def occupy():
        os.mkdir('/tmp/perf-%d.map' % os.getpid())
    p = subprocess.Popen([PROGRAM, '-accel', 'jit', '-perfmap', '-display', 'none', '-serial', 'null', '-S'], preexec_fn=occupy,
                         stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    path = '/tmp/perf-%d.map' % p.pid
    try:
        told = p.communicate(timeout=30)[1].splitlines()
    finally:
        p.kill()
        os.rmdir(path)
    if p.returncode != 1 or len(told) != 1 or '-perfmap: ' + path not in told[0]:
        raise Failure('exit code %s, %s' % (p.returncode, told))


tap = Tap()
engines = subprocess.run([PROGRAM, '-accel', 'help'], stdout=subprocess.PIPE, text=True).stdout
if ACCEL.split(',')[0] not in ('', 'jit', 'tcg', 'auto') or '\njit ' not in '\n' + engines:
    tap.skip('names of code', 'the engine makes none')
else:
    tap.run('names of code', test_map)
    tap.run('a file that cannot be written', test_error)
tap.done()
