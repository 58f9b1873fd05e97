#!/usr/bin/env python3
"""SeaBIOS comes up to "No bootable device"; its log goes to the debug console, its screen to the VGA and to a dump."""
import os, signal, sys, tempfile, time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from guest import Failure, Guest, SCALE, Tap


def to_the_end(*extra):
    with tempfile.TemporaryDirectory() as d:
        screen = os.path.join(d, 'screen')
        with Guest('-display', 'none', '-m', '128', '-serial', 'null', '-chardev', 'stdio,id=log', '-device',
                   'isa-debugcon,iobase=0x402,chardev=log', '-dump-screen', screen, *extra) as g:
            g.expect('SeaBIOS \\(version', 30)
            g.expect('No bootable device', 90)
            g.signal(signal.SIGUSR1)
            end = time.monotonic() + 10 * SCALE
            while not os.path.exists(screen) and time.monotonic() < end:
                time.sleep(0.05)
            g.signal(signal.SIGTERM)
            g.wait(10)
            text = open(screen).read()
            if 'No bootable device' not in text or 'SeaBIOS' not in text:
                g.fail('the screen shows:\n' + text)
            return g.text


def log_tells(*extra, words):
    log = to_the_end(*extra)
    for word in words:
        if word not in log:
            raise Failure('"%s" is not in the log:\n%s' % (word, log))


if __name__ == '__main__':
    tap = Tap()
    tap.run('default machine', log_tells, words=['Found 1 cpu(s)', '0000000000100000 - 0000000007fff000 = 1 RAM', 'table(50434146)', 'PS2 keyboard initialized',
                                                   'set VGA mode 3', 'All threads complete'])
    tap.run('-smp 4', log_tells, '-smp', '4', words=['Found 4 cpu(s)'])
    tap.run('-m 5G has memory above the hole', log_tells, '-m', '5G',
            words=['- 00000000c0000000 = 2 RESERVED', '0000000100000000 - 0000000180000000 = 1 RAM'])
    tap.run('-no-acpi -no-hpet', log_tells, '-no-acpi', '-no-hpet', words=['No bootable device'])
    tap.done()
