"""For tests that run the program: a guest as a process with its serial port on pipes, and TAP.

TRAPEZE names the program, ACCEL the engine; make check sets both. Everything has a time limit, scaled by TIME_SCALE for slow builds
(sanitizers).
"""
import os, re, select, signal, subprocess, sys, tempfile, time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAM = os.environ.get('TRAPEZE') or os.path.join(TOP, 'build/trapeze')
ACCEL = os.environ.get('ACCEL') or ''
SCALE = float(os.environ.get('TIME_SCALE') or 1)
sys.path.insert(0, os.path.join(TOP, 'tests/lib'))
import initramfs


class Failure(Exception):
    pass


class Skip(Exception):
    pass


class Tap:
    """Test points in order; a point that raises fails, with what it knows as comment lines."""

    def __init__(self):
        self.count, self.failed = 0, 0

    def ok(self, good, name, text=''):
        self.count += 1
        self.failed += not good
        print('%sok %d - %s' % ('' if good else 'not ', self.count, name), flush=True)
        if not good and text:
            for line in str(text).splitlines()[-40:]:
                print('#', line.encode('ascii', 'replace').decode(), flush=True)
        return good

    def skip(self, name, why):
        self.count += 1
        print('ok %d - %s # SKIP %s' % (self.count, name, why), flush=True)

    def run(self, name, fn, *args, **kw):
        start = time.monotonic()
        try:
            fn(*args, **kw)
        except Skip as e:
            self.skip(name, e)
        except (Failure, OSError, subprocess.SubprocessError) as e:
            self.ok(False, name, e)
        else:
            self.ok(True, '%s (%.1f s)' % (name, time.monotonic() - start))

    def done(self):
        print('1..%d' % self.count, flush=True)
        sys.exit(1 if self.failed else 0)


def fetch_all(suite, arch, package, *patterns):
    """Paths of files out of a Debian package, one for each pattern. No network: the test is skipped."""
    p = subprocess.run([os.path.join(TOP, 'tests/lib/fetch'), suite, arch, package, *patterns], stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, text=True)
    if p.returncode:
        raise Skip('%s of Debian %s %s cannot be had: %s' % (package, suite, arch, p.stderr.strip().splitlines()[-1:]))
    return p.stdout.splitlines()


def fetch(suite, arch, package, pattern):
    return fetch_all(suite, arch, package, pattern)[0]


def command(*args):
    return [PROGRAM] + (['-accel', ACCEL] if ACCEL else []) + list(args)


class Process:
    """A running program; what it prints collects in .text. Use with `with`: the process never outlives the block."""

    def __init__(self, *args, stdin=True):
        self.args = list(args)
        self.text = ''
        self.p = subprocess.Popen(self.args, stdin=subprocess.PIPE if stdin else subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT)
        os.set_blocking(self.p.stdout.fileno(), False)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.p.poll() is None:
            self.p.kill()
            self.p.wait()
        for f in (self.p.stdin, self.p.stdout):
            if f:
                try:
                    f.close()
                except BrokenPipeError:
                    pass

    def fail(self, what):
        raise Failure('%s\ncommand: %s\nlast output:\n%s' % (what, ' '.join(self.args), self.text[-3000:]))

    def read(self, limit):
        """Takes in what there is, waiting at most `limit` seconds; False at the end of output."""
        if not select.select([self.p.stdout], [], [], max(limit, 0))[0]:
            return True
        data = self.p.stdout.read()
        if data is None:
            return True
        self.text += data.decode('utf-8', 'replace')
        return bool(data)

    def expect(self, pattern, limit=60):
        """Waits until the output matches; returns the match."""
        end = time.monotonic() + limit * SCALE
        while True:
            m = re.search(pattern, self.text)
            if m:
                return m
            left = end - time.monotonic()
            if left <= 0:
                self.fail('"%s" did not come within %d s' % (pattern, limit * SCALE))
            if not self.read(left) and not re.search(pattern, self.text):
                self.fail('the program ended (code %s) before "%s" came' % (self.p.wait(), pattern))

    def send(self, text):
        self.p.stdin.write(text.encode())
        self.p.stdin.flush()

    def wait(self, limit=60, code=0):
        """Waits for the end of the process, which must give that exit code."""
        end = time.monotonic() + limit * SCALE
        while self.read(end - time.monotonic()):
            if time.monotonic() > end:
                self.fail('the program did not end within %d s' % (limit * SCALE))
        got = self.p.wait()
        if code is not None and got != code:
            self.fail('exit code %d, not %d' % (got, code))
        return got

    def signal(self, number):
        self.p.send_signal(number)


class Guest(Process):
    """The emulator; Guest.latest is the last one started."""

    def __init__(self, *args, stdin=True):
        super().__init__(*command(*args), stdin=stdin)
        Guest.latest = self


BUILD = os.environ.get('BUILD') or os.path.join(TOP, 'build')


def firmware(code):
    """An image that runs `code` (16-bit) from the reset vector's segment on."""
    image = bytearray(b'\xf4' * 65536)
    image[0:len(code)] = code
    image[0xfff0:0xfff3] = b'\xe9\x0d\x00'  # jmp 0
    f = tempfile.NamedTemporaryFile(prefix='trapeze-bios-')
    f.write(image)
    f.flush()
    return f


def host_program(path):
    """A program of this host with its shared libraries, for the initramfs of an amd64 guest: {guest path: (content, executable)}."""
    if os.uname().machine != 'x86_64':
        raise Skip('programs of this host do not run in the guest')
    if not os.path.exists(path):
        raise Failure('%s has not been built (make check builds it)' % path)
    p = subprocess.run(['ldd', path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    files = {'bin/' + os.path.basename(path): path}
    for library in re.findall(r'(?:=> |^\s+)(/\S+) \(', p.stdout, re.M):
        files[library.lstrip('/')] = library
    return {name: (open(host, 'rb').read(), True) for name, host in files.items()}


def inside(name):
    """The same of tests/inside/NAME.c."""
    return host_program(os.path.join(BUILD, 'tests/inside', name))


def temp_initramfs(busybox, init, files={}):
    """An initramfs whose /init is that script, with more files, as a temporary file (kept open: it vanishes with the object)."""
    f = tempfile.NamedTemporaryFile(prefix='trapeze-initrd-')
    f.write(initramfs.build(busybox, {'init': (init.encode(), True), **files}))
    f.flush()
    return f


def engines():
    """Names of the engines that work here."""
    text = subprocess.run([PROGRAM, '-accel', 'help'], stdout=subprocess.PIPE, text=True).stdout
    return [m.group(1) for m in re.finditer(r'^(\w+) +(.*)$', text, re.M) if m.group(1) != 'auto' and 'not here:' not in m.group(2)]
