#!/usr/bin/env python3
"""Firmware images of random bytes never end the process: 1000 in a long run (GARBAGE=1000), fewer by default.

A triple fault is told in one line, and with -no-reboot the process ends with code 0.
"""
import os, random, signal, subprocess, sys, tempfile, time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from guest import SCALE, Tap, command

COUNT = int(os.environ.get('GARBAGE') or 40)
SECONDS = 1.0 * SCALE
AT_ONCE = max(2, os.cpu_count() or 1)


def image(seed):
    """Random bytes all over, or behind a jump from the reset vector, with the rest of the image biased to code that goes on."""
    r = random.Random(seed)
    data = bytearray(r.randbytes(65536))
    if seed % 2:
        # Go to protected mode first: cli; lgdt cs:[table]; mov cr0; far jump into the noise.
        code = bytes.fromhex('fa 66 2e 0f 01 16 40 ff 0f 20 c0 66 83 c8 01 0f 22 c0 66 ea') + \
            (0xffff0000 + r.randrange(0xf000)).to_bytes(4, 'little') + b'\x08\x00'
        data[0xff00:0xff00 + len(code)] = code
        data[0xff40:0xff46] = (0x17).to_bytes(2, 'little') + (0xfffffff0 - 0xa0).to_bytes(4, 'little')
        data[0xff50:0xff68] = bytes(8) + bytes.fromhex('ffff0000009bcf00 ffff00000093cf00')
        data[0xfff0:0xfff3] = b'\xe9' + (0xff00 - 0xfff3).to_bytes(2, 'little', signed=True)
    return bytes(data)


class Run:
    def __init__(self, directory, seed):
        self.seed = seed
        self.path = os.path.join(directory, '%d.bin' % seed)
        with open(self.path, 'wb') as f:
            f.write(image(seed))
        args = command('-display', 'none', '-serial', 'null', '-m', '16', '-vga', 'none', '-bios', self.path)
        if seed % 4 < 2:
            args.append('-no-reboot')
        self.out = tempfile.TemporaryFile()
        self.p = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=self.out, stderr=subprocess.STDOUT)
        self.end = time.monotonic() + SECONDS

    def finish(self):
        """None if it behaved, else what was wrong."""
        if self.p.poll() is None:
            self.p.send_signal(signal.SIGTERM)
        try:
            self.p.wait(10 * SCALE)
        except subprocess.TimeoutExpired:
            self.p.kill()
            self.p.wait()
            return 'seed %d: does not end on SIGTERM' % self.seed
        size = self.out.seek(0, os.SEEK_END)
        self.out.seek(max(0, size - 10000))
        text = self.out.read().decode('utf-8', 'replace')
        self.out.close()
        os.unlink(self.path)
        if size > 4096:
            return 'seed %d: %d bytes of messages\n%s' % (self.seed, size, text[-1000:])
        if self.p.returncode != 0:
            return 'seed %d: exit code %d\n%s' % (self.seed, self.p.returncode, text[-2000:])
        return None


def all_survive():
    from guest import Failure
    base = int(os.environ.get('SEED') or 1)
    with tempfile.TemporaryDirectory() as d:
        running, todo, wrong = [], list(range(base, base + COUNT)), []
        while todo or running:
            while todo and len(running) < AT_ONCE:
                running.append(Run(d, todo.pop(0)))
            time.sleep(0.02)
            for r in [r for r in running if time.monotonic() > r.end or r.p.poll() is not None]:
                running.remove(r)
                result = r.finish()
                if result:
                    wrong.append(result)
        if wrong:
            raise Failure('%d of %d:\n%s' % (len(wrong), COUNT, '\n'.join(wrong[:5])))


tap = Tap()
tap.run('%d images of random bytes' % COUNT, all_survive)
tap.done()
