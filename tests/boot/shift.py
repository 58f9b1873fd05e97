#!/usr/bin/env python3
"""Debian's cloud kernel moves between all engines at random instants while it works: what it calculates is what the host calculates,
every interrupt arrives, clocks neither jump nor run backwards; and it sees the same machine under each engine.

shift.py --long does more of it, and with other numbers of processors (make shift); --smp1, --smp2, --smp4: only with that number.
"""
import os, re, subprocess, sys, tempfile, threading, time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import guest, look
from guest import SCALE, Failure, Guest, Skip, Tap, engines, fetch, inside, temp_initramfs

LONG = '--long' in sys.argv
CPUS = [n for n in (1, 2, 4) if '--smp%d' % n in sys.argv] or [1, 2, 4]
JUMP_MAX = 50  # ms
LATE_MAX = 30  # ms, on a host that is never late itself: on an idle one up to 26 beyond what it was late itself were seen
BYTES = 8 << 20 if SCALE == 1 else 1 << 20
ROUNDS = 60 if SCALE == 1 else 10
ECHOES = 100 if SCALE == 1 else 20
NAPS = 20

# The same on the host and in the guest: data that is made and digested, and a loop that lives in the kernel.
WORK = """
yes 'The quick brown fox jumps over the lazy dog' | head -c %d | sha256sum
i=0
while [ $i -lt %d ]; do
    i=$((i+1))
    echo $i >$TMP/$i
    ln $TMP/$i $TMP/link$i
    (cat $TMP/link$i; ls $TMP | wc -l) | md5sum >>$TMP/sums
done
sha256sum <$TMP/sums
""" % (BYTES, ROUNDS)

INIT = """#!/bin/busybox sh
export PATH=/bin
mount -t proc proc /proc
mount -t devtmpfs dev /dev
now() { read up idle </proc/uptime; echo ${up%%.*}${up#*.}0; }
clocks >/tmp/clocks &
echo FIRST LINE
read rounds
while [ $rounds -gt 0 ]; do
    rounds=$((rounds-1))
    export TMP=/tmp/work
    mkdir $TMP
    sh -c '%(work)s' | sed 's/^/WORK /'
    rm -r $TMP
    start=$(now); i=0
    while [ $i -lt %(naps)d ]; do sleep 0.05; i=$((i+1)); done
    echo NAPS $(($(now)-start)) ms
done
kill $!
wait $!
cat /tmp/clocks
echo ECHO
while read line && [ "$line" ]; do echo "GOT $line"; done
grep -E 'ERR|MIS' /proc/interrupts | sed 's/^/COUNT /'
dmesg | grep -iE 'oops|BUG:|WARNING:|call trace|stall|unstable|warp|lost|spurious' | sed 's/^/COMPLAINT /'
echo LAST LINE
poweroff -f
""" % {'work': WORK.replace("'", "'\\''"), 'naps': NAPS}


def kernel():
    return fetch('bookworm', 'amd64', 'linux-image-cloud-amd64', 'boot/vmlinuz-*')


def busybox():
    return fetch('bookworm', 'amd64', 'busybox-static', 'bin/busybox')


def several_engines():
    there = engines()
    if len(there) < 2:
        raise Skip('only one engine works here: %s' % ' '.join(there))
    return there


def native():
    with tempfile.TemporaryDirectory() as d:
        for applet in ('yes', 'head', 'sha256sum', 'ln', 'cat', 'ls', 'wc', 'md5sum', 'sh'):
            os.symlink(busybox(), os.path.join(d, applet))
        os.mkdir(os.path.join(d, 'work'))
        p = subprocess.run([os.path.join(d, 'sh'), '-c', WORK], env={'PATH': d, 'TMP': os.path.join(d, 'work')}, stdout=subprocess.PIPE,
                           text=True, check=True)
        return p.stdout.splitlines()


class HostDelays:
    """How late the host runs a thread that was to wake up, at worst, while this is open: ms."""

    def __enter__(self):
        self.worst, self.stop = 0, False
        self.thread = threading.Thread(target=self.measure)
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.stop = True
        self.thread.join()

    def measure(self):
        while not self.stop:
            due = time.monotonic() + 0.001
            time.sleep(0.001)
            self.worst = max(self.worst, (time.monotonic() - due) * 1000)


def check_clocks(g, host, cpus, limit):
    m = g.expect(r'CLOCKS jump (\S+) ms, late (\S+) ms, backwards (\d+), (\d+) wake-ups', limit)
    print('#', m.group(0), flush=True)
    if m.group(3) != '0':
        g.fail('the clock ran backwards')
    if float(m.group(1)) > JUMP_MAX * SCALE:
        g.fail('the clock jumped by more than %d ms' % (JUMP_MAX * SCALE))
    # A timer's interrupt takes two threads of the host, one after the other: the main loop, and the processor's, which sleeps in HLT.
    # Each can be as late as any (what the host takes from a processor that runs is steal time, which does not count). With more
    # processors than the host has there is also one in the way.
    print('# the host was up to %.1f ms late' % host.worst, flush=True)
    threads = 2 if cpus <= os.cpu_count() else 3
    if float(m.group(2)) > LATE_MAX * SCALE + threads * host.worst:
        g.fail('an interrupt of the timer was late by more than %d ms and %d times what the host was late' % (LATE_MAX * SCALE, threads))


def check_naps(g):
    for m in re.findall(r'NAPS (\d+) ms', g.text):
        # each sleep takes a process, too
        if not NAPS * 50 <= int(m) <= NAPS * (50 + 150 * SCALE):
            g.fail('%d times 50 ms of sleep took %s ms' % (NAPS, m))


def echoes(g):
    """Each line is an interrupt for each character, and one for each that comes back."""
    g.expect('ECHO\r')
    for n in range(ECHOES):
        g.send('line %d\n' % n)
        g.expect(r'GOT line %d\r' % n, 20)
    g.send('\n')


def check_stats(g, at_least):
    m = re.search(r'accel: shifts: (\d+) \(seed \d+\); .*', g.text)
    if not m:
        g.fail('no statistics of shifts')
    print('#', m.group(0), flush=True)
    if int(m.group(1)) < at_least:
        g.fail('only %s shifts, not %d' % (m.group(1), at_least))


def shift(cpus, ms, rounds, at_least, *more):
    several_engines()
    expected = native()
    guest.ACCEL = 'auto,shift=%d' % (ms * SCALE)
    with temp_initramfs(busybox(), INIT, inside('clocks')) as initrd, \
            Guest(*more, '-nographic', '-m', '512', '-smp', str(cpus), '-d', 'stats', '-no-reboot', '-kernel', kernel(), '-initrd', initrd.name,
                  '-append', 'console=ttyS0 panic=-1 quiet') as g:
        g.expect('FIRST LINE', 120)
        with HostDelays() as host:
            g.send('%d\n' % rounds)
            check_clocks(g, host, cpus, 60 + 6 * rounds)
        echoes(g)
        g.expect('LAST LINE', 30)
        g.wait(30)
        work = re.findall(r'WORK (.*?)\r', g.text)
        if work != expected * rounds:
            g.fail('calculated wrongly: %s\nnot: %s' % (work, expected))
        if len(re.findall(r'NAPS', g.text)) != rounds:
            g.fail('it did not sleep')
        check_naps(g)
        complaints = re.findall(r'COMPLAINT .*|COUNT .*[1-9].*', g.text)
        if complaints:
            raise Failure('\n'.join(complaints))
        check_stats(g, at_least)


# --- The same machine ---------------------------------------------------------------------------------------------------------

def same_machine():
    look.compare({engine: look.under(engine, kernel(), busybox()) for engine in several_engines()})


tap = Tap()
if SCALE == 1:
    tap.run('the same machine under each engine', same_machine)
if LONG:
    for cpus in CPUS:
        for ms in (1, 5, 20):
            tap.run('-smp %d, every %d ms' % (cpus, ms), shift, cpus, ms, 10, 1000)
        tap.run('-smp %d, everything translated' % cpus, shift, cpus, 2, 10, 1000, '-accel', 'jit,hot=0')
else:
    for cpus in (1, 2) if SCALE == 1 else (2,):
        tap.run('-smp %d' % cpus, shift, cpus, 2, 1, 500 if SCALE == 1 else 50)
tap.done()
