#!/usr/bin/env python3
"""Ends and beginnings of the process: the demo guest on a terminal and its escape keys, signals, crashes, exit codes, memory sizes,
-daemonize and -pidfile. The terminal is always left as it was found, and nothing else is left behind.
"""
import os, pty, re, select, signal, subprocess, sys, tempfile, termios, time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from guest import ACCEL, Failure, Guest, PROGRAM, SCALE, TOP, Skip, Tap, command, fetch, firmware, temp_initramfs


class Terminal:
    """A program on a pseudo terminal."""

    def __init__(self, args):
        self.master, self.slave = pty.openpty()
        self.before = termios.tcgetattr(self.slave)
        self.text = ''
        # The sanitizers' own handlers of crashes would be there first.
        own = {name: os.environ.get(name, '') + ':handle_segv=0:handle_sigbus=0' for name in ('ASAN_OPTIONS', 'TSAN_OPTIONS')}
        self.p = subprocess.Popen(args, stdin=self.slave, stdout=self.slave, stderr=self.slave, start_new_session=True,
                                  env={**os.environ, **own})

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.p.poll() is None:
            self.p.kill()
            self.p.wait()
        os.close(self.master)
        os.close(self.slave)

    def expect(self, pattern, limit=60):
        end = time.monotonic() + limit * SCALE
        while not re.search(pattern, self.text):
            if time.monotonic() > end:
                raise Failure('"%s" did not come; last output:\n%s' % (pattern, self.text[-2000:]))
            if select.select([self.master], [], [], 0.2)[0]:
                self.text += os.read(self.master, 65536).decode('utf-8', 'replace')

    def send(self, text):
        os.write(self.master, text.encode())

    def ends(self, code, limit=30):
        """The process ends with that code, and the terminal is as before."""
        end = time.monotonic() + limit * SCALE
        while self.p.poll() is None:
            if time.monotonic() > end:
                raise Failure('the program did not end; last output:\n' + self.text[-2000:])
            if select.select([self.master], [], [], 0.1)[0]:
                self.text += os.read(self.master, 65536).decode('utf-8', 'replace')
        if self.p.returncode != code:
            raise Failure('exit code %d, not %d; last output:\n%s' % (self.p.returncode, code, self.text[-2000:]))
        if termios.tcgetattr(self.slave) != self.before:
            raise Failure('the terminal is not as it was:\n%s\n%s' % (self.before, termios.tcgetattr(self.slave)))


def demo():
    fetch('bookworm', 'amd64', 'linux-image-cloud-amd64', 'boot/vmlinuz-*')  # skips where there is no network
    return [os.path.join(TOP, 'tests/boot/demo'), PROGRAM] + (['--accel', ACCEL] if ACCEL else [])


def demo_shell():
    with Terminal(demo()) as t:
        t.expect(r'/ # ', 120)
        t.send('echo $((6*7))-$(tty); sleep 100 & jobs\r')
        t.expect(r'42-/dev/ttyS0')
        t.expect(r'Running\s+sleep 100')
        t.send('\x01h')
        t.expect(r'(?i)C(trl)?-a *x')
        t.send('poweroff\r')
        t.ends(0, 60)


def terminal_ends(act, code):
    """Firmware with the serial port on the terminal; then `act`."""
    with Terminal(command('-nographic', '-m', '64')) as t:
        t.expect('No bootable device', 60)
        if termios.tcgetattr(t.slave) == t.before:
            raise Failure('the terminal was not put into raw mode, so this test shows nothing')
        act(t)
        t.ends(code)


def signal_ends(number, code=0):
    terminal_ends(lambda t: t.p.send_signal(number), code)


def ctrl_c_is_the_guests():
    def act(t):
        t.send('\x03')
        time.sleep(0.5)
        if t.p.poll() is not None:
            raise Failure('Ctrl-C ended the emulator')
        t.send('\x01x')
    terminal_ends(act, 0)


# --- Exit codes: a boot sector's worth of code as firmware ------------------------------------------------------------

def exit_code(code, expected, *args, text=''):
    with firmware(bytes.fromhex(code)) as f:
        with Guest('-display', 'none', '-serial', 'null', '-vga', 'none', '-m', '16', '-bios', f.name, *args, stdin=False) as g:
            g.wait(20, expected)
            if text not in g.text:
                g.fail('"%s" is missing' % text)


def debug_exit():
    device = ('-device', 'isa-debug-exit,iobase=0xf4,iosize=0x04')
    exit_code('b010 e6f4 f4', 33, *device)  # mov al, 16; out 0xf4, al
    exit_code('b000 e6f4 f4', 1, *device)
    exit_code('b010 e6f4 f4', 33, '-no-shutdown', *device)


def resets():
    exit_code('b0fe e664 f4', 0, '-no-reboot')                      # keyboard controller
    exit_code('baf90c b006 ee f4', 0, '-no-reboot')                 # port 0xcf9
    exit_code('b001 e692 f4', 0, '-action', 'reboot=shutdown')      # port 0x92
    exit_code('fa 0f011e0010 cd03 f4', 0, '-no-reboot', text='triple fault')  # lidt with limit 0 from RAM; int 3


def runs_on(*args):
    """-S and -no-shutdown leave a process that only a signal ends."""
    with firmware(bytes.fromhex('b000 e6f4 f4')) as f:
        with Guest('-display', 'none', '-serial', 'null', '-m', '16', '-bios', f.name, '-device', 'isa-debug-exit,iobase=0xf4', *args,
                   stdin=False) as g:
            time.sleep(0.7 * SCALE)
            if g.p.poll() is not None:
                g.fail('the program ended')
            g.signal(signal.SIGTERM)
            g.wait(10, 0)


def daemon():
    with tempfile.TemporaryDirectory() as d:
        pidfile = os.path.join(d, 'pid')
        p = subprocess.run(command('-display', 'none', '-serial', 'null', '-m', '16', '-daemonize', '-pidfile', pidfile),
                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=20 * SCALE)
        if p.returncode or p.stdout:
            raise Failure('code %d: %s' % (p.returncode, p.stdout))
        pid = int(open(pidfile).read())
        os.kill(pid, signal.SIGTERM)
        end = time.monotonic() + 10 * SCALE
        while os.path.exists(pidfile):
            if time.monotonic() > end:
                os.kill(pid, signal.SIGKILL)
                raise Failure('the daemon does not end, or leaves its pid file')
            time.sleep(0.05)
        p = subprocess.run(command('-daemonize', '-display', 'none', '-bios', '/nonexistent', '-pidfile', pidfile),
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=20 * SCALE)
        if p.returncode != 1 or 'nonexistent' not in p.stdout or os.path.exists(pidfile):
            raise Failure('a daemon that cannot start: code %d, %s' % (p.returncode, p.stdout))


# --- Memory -----------------------------------------------------------------------------------------------------------

INIT = """#!/bin/busybox sh
export PATH=/bin
mount -t proc proc /proc
echo "MEMORY $(sed -n 's/MemTotal: *//p' /proc/meminfo)"
grep 'System RAM' /proc/iomem | sed 's/^/RANGE /'
echo LAST LINE
poweroff -f
"""


def memory(size, megabytes, top_low, top_high):
    """The guest sees about that much, and RAM ends where it must (0: no memory above 4 GiB)."""
    # The 64-bit kernels want 68 MiB to unpack themselves.
    arch, package = ('amd64', 'linux-image-cloud-amd64') if megabytes > 68 else ('i386', 'linux-image-686-pae')
    kernel = fetch('bookworm', arch, package, 'boot/vmlinuz-*')
    with temp_initramfs(fetch('bookworm', arch, 'busybox-static', 'bin/busybox'), INIT) as initrd:
        with Guest('-nographic', '-m', size, '-no-reboot', '-kernel', kernel, '-initrd', initrd.name, '-append',
                   'console=ttyS0 panic=-1 quiet') as g:
            g.expect('LAST LINE', 120)
            g.wait(30)
            seen = int(re.search(r'MEMORY (\d+)', g.text).group(1)) // 1024
            ends = [int(e, 16) + 1 for e in re.findall(r'RANGE \w+-(\w+) : System RAM', g.text)]
            low = max(e for e in ends if e <= 1 << 32)
            high = max([e for e in ends if e > 1 << 32] or [0])
            if not megabytes * 0.9 - 40 <= seen <= megabytes or low != top_low or high != top_high:
                g.fail('%d MiB, low RAM ends at %#x, high RAM at %#x' % (seen, low, high))


def too_little_memory():
    kernel = fetch('bookworm', 'amd64', 'linux-image-cloud-amd64', 'boot/vmlinuz-*')
    with Guest('-nographic', '-m', '64', '-kernel', kernel, stdin=False) as g:
        g.wait(10, 1)
        if not re.search(r'needs \d+ MiB of memory', g.text):
            g.fail('no sentence about memory')


G = 1 << 30
tap = Tap()
tap.run('make demo: shell, job control, escape keys, poweroff', demo_shell)
tap.run('Ctrl-C goes to the guest, Ctrl-a x ends', ctrl_c_is_the_guests)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    tap.run('%s ends cleanly' % number.name, signal_ends, number)
for number in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS):
    tap.run('%s: the terminal is restored' % number.name, signal_ends, number, -number)
tap.run('isa-debug-exit', debug_exit)
tap.run('resets with -no-reboot', resets)
tap.run('-S stays paused', runs_on, '-S')
tap.run('-daemonize, -pidfile', daemon)
tap.run('a kernel that needs more memory', too_little_memory)
for size, megabytes, low, high in (('64', 64, 64 << 20, 0), ('100M', 100, 100 << 20, 0), ('3G', 3072, 3 * G, 0), ('3.5G', 3584, 3 * G, 4 * G + G // 2),
                                   ('5G', 5120, 3 * G, 6 * G)):
    tap.run('-m %s' % size, memory, size, megabytes, low, high)
tap.done()
