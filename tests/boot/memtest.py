#!/usr/bin/env python3
"""memtest86+, 32 and 64-bit, started as a kernel: runs its first tests, and its screen shows no error."""
import os, re, signal, sys, tempfile, time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from guest import Guest, SCALE, Tap, fetch

IMAGES = ('memtest86+x64.bin', 'memtest86+ia32.bin')


def runs(image, cpus=1):
    with tempfile.TemporaryDirectory() as d:
        screen = os.path.join(d, 'screen')
        with Guest('-display', 'none', '-serial', 'none', '-m', '16', '-smp', str(cpus), '-dump-screen', screen,
                   '-kernel', fetch('bookworm', 'amd64', 'memtest86+', 'boot/' + image)) as g:
            end, text = time.monotonic() + 300 * SCALE, ''
            while time.monotonic() < end:
                time.sleep(0.5)
                g.read(0)
                g.signal(signal.SIGUSR1)
                if g.p.poll() is not None:
                    g.fail('the program ended')
                if os.path.exists(screen):
                    text = open(screen).read()
                # The number of the test under way; by the fourth, addresses and patterns were compared all over memory.
                m = re.search(r'Test\s+#\s*(\d+)', text)
                if m and int(m.group(1)) >= 4:
                    break
            else:
                g.fail('the fourth test was not reached; the screen shows:\n' + text)
            errors = re.search(r'Errors:\s*(\d+)', text)
            if not errors or int(errors.group(1)) != 0:
                g.fail('errors; the screen shows:\n' + text)
            g.signal(signal.SIGTERM)
            g.wait(10)


if __name__ == '__main__':
    tap = Tap()
    for image in IMAGES:
        tap.run(image, runs, image)
    tap.done()
