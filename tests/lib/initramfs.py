#!/usr/bin/env python3
"""initramfs.py OUT BUSYBOX FILE=HOSTFILE...: a gzipped initramfs of busybox with all its applets and the files given.

A host file that is executable is executable in the guest. Needs neither root nor cpio.
"""
import gzip, os, stat, subprocess, sys


class Cpio:
    """The `newc` format of cpio."""

    def __init__(self):
        self.data, self.inode = bytearray(), 0

    def add(self, name, mode, content=b'', rdev=(0, 0)):
        self.inode += 1
        raw = name.encode() + b'\0'
        fields = [self.inode, mode, 0, 0, 1, 0, len(content), 0, 0, rdev[0], rdev[1], len(raw), 0]
        self.data += b'070701' + b''.join(b'%08x' % f for f in fields) + raw
        self.data += bytes(-len(self.data) % 4) + content
        self.data += bytes(-len(self.data) % 4)

    def finish(self):
        self.add('TRAILER!!!', 0)
        return bytes(self.data)


def build(busybox, files, compress=True):
    """files: {guest path: (content, executable)}. Returns the archive, gzipped if need be."""
    c = Cpio()
    directories = {'bin', 'dev', 'etc', 'proc', 'root', 'run', 'sys', 'tmp'}
    for name in files:
        parts = name.split('/')
        directories.update('/'.join(parts[:n]) for n in range(1, len(parts)))
    for d in sorted(directories):
        c.add(d, stat.S_IFDIR | 0o755)
    c.add('dev/console', stat.S_IFCHR | 0o600, rdev=(5, 1))
    c.add('dev/null', stat.S_IFCHR | 0o666, rdev=(1, 3))
    with open(busybox, 'rb') as f:
        c.add('bin/busybox', stat.S_IFREG | 0o755, f.read())
    # An i386 busybox, too, runs on the amd64 hosts that we fetch it for; if it does not, the guest still has /bin/busybox.
    try:
        applets = subprocess.run([busybox, '--list'], stdout=subprocess.PIPE, check=True, text=True).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        applets = ['sh', 'init', 'mount', 'cat', 'echo', 'uname', 'poweroff', 'dmesg', 'sleep', 'ls', 'nproc', 'grep']
    for a in applets:
        if a != 'busybox' and 'bin/' + a not in files:
            c.add('bin/' + a, stat.S_IFLNK | 0o777, b'/bin/busybox')
    for name, (content, executable) in files.items():
        c.add(name, stat.S_IFREG | (0o755 if executable else 0o644), content)
    return gzip.compress(c.finish(), 1, mtime=0) if compress else c.finish()


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    files = {}
    for arg in sys.argv[3:]:
        name, _, host = arg.partition('=')
        with open(host, 'rb') as f:
            files[name] = (f.read(), os.access(host, os.X_OK))
    archive = build(sys.argv[2], files)
    with open(sys.argv[1] + '.new', 'wb') as f:
        f.write(archive)
    os.replace(sys.argv[1] + '.new', sys.argv[1])


if __name__ == '__main__':
    main()
