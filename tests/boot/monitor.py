#!/usr/bin/env python3
"""The monitor: commands and their errors, on standard input and output, beside the serial port, and on a socket; editing and completion."""
import os, re, socket, sys, tempfile, time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from guest import SCALE, Failure, Guest, Tap, engines, firmware

PROMPT = r'\(trapeze\) $'


def ask(g, line, end='\r'):
    """What the monitor says to a line, without echo and prompt."""
    start = len(g.text)
    g.send(line + end)
    stop = time.monotonic() + 20 * SCALE
    while not re.search(r'\n\(trapeze\) $', g.text[start:]):
        if time.monotonic() > stop:
            g.fail('no prompt after "%s"' % line)
        g.read(0.2)
    said = g.text[start:].replace('\r', '').split('\n')
    return '\n'.join(said[1:-1])


def expect(g, line, pattern):
    said = ask(g, line)
    if not re.fullmatch(pattern, said, re.S):
        g.fail('"%s" gives "%s", not "%s"' % (line, said, pattern))
    return said


# mov dx, 0x3fd; l: in al, dx; test al, 0x20; jz l; mov dl, 0xf8; mov al, 'x'; out dx, al; mov dl, 0xfd; jmp l
TALKER = bytes.fromhex('bafd03 ec a820 74fb b2f8 b078 ee b2fd ebf2')
QUIET = ('-display', 'none', '-vga', 'none', '-m', '16')


def commands():
    with firmware(TALKER) as f, Guest(*QUIET, '-serial', 'null', '-bios', f.name, '-monitor', 'stdio') as g:
        g.expect(r"^Trapeze \S+ monitor - type 'help' for more information\r\n" + PROMPT)
        expect(g, 'info status', 'VM status: running')
        expect(g, 'stop', '')
        expect(g, 'info status', 'VM status: paused')
        expect(g, 's', '')
        expect(g, 'c', '')
        expect(g, '  info   status  ', 'VM status: running')
        expect(g, '', '')
        text = ask(g, 'help')
        for name in ('cont', 'engine', 'help', 'info accel', 'info status', 'quit', 'stop', 'system_powerdown', 'system_reset'):
            if not re.search('^%s(\\|\\S+)?( \\[\\w+\\])? -- ' % name, text, re.M):
                g.fail('help does not tell of ' + name)
        if ask(g, '?') != text:
            g.fail('? is another text')
        expect(g, 'help stop', r'stop\|s -- [^\n]*')
        expect(g, 'help info', r'info accel -- [^\n]*\ninfo status -- [^\n]*')
        expect(g, 'help nosuch', "unknown command: 'nosuch'; help lists them")
        expect(g, 'stopp', "unknown command: 'stopp'; did you mean stop\\?")
        expect(g, 'info', 'info: give accel, status')
        expect(g, 'info nosuch', "info: unknown subcommand 'nosuch'; give accel, status")
        expect(g, 'stop now', "stop: nothing may follow, but there is 'now'")
        expect(g, 'stop "now', 'the quotation marks[^\n]*')
        expect(g, 'system_reset', '')
        expect(g, 'info status', 'VM status: running')
        g.send('quit\r')
        g.wait(20, 0)


def engine():
    names = engines()
    with firmware(TALKER) as f, Guest(*QUIET, '-serial', 'null', '-bios', f.name, '-monitor', 'stdio') as g:
        g.expect(PROMPT)
        now = expect(g, 'engine', '|'.join(names))
        expect(g, 'engine nosuch', 'nosuch: no such engine; there are [a-z, ]*interp[a-z, ]*')
        expect(g, 'engine hvf', 'hvf is not available in this build')
        expect(g, 'engine', now)
        shifts = 0
        for name in ['interp', 'jit'] * 10:
            if name in names:
                expect(g, 'engine ' + name, '')
                expect(g, 'engine', name)
                shifts += name != now
                now = name
        info = ask(g, 'info accel')
        if not re.search(r'^\* %s +in charge' % now, info, re.M) or (shifts and not re.search(r'^shifts: %d; ' % shifts, info, re.M)):
            g.fail('info accel does not tell of %d shifts to %s: %s' % (shifts, now, info))
        expect(g, 'stop', '')
        expect(g, 'engine interp', '')
        expect(g, 'info status', 'VM status: paused')
        g.send('q\r')
        g.wait(20, 0)


def stops():
    """The guest writes without end, but not while it is stopped."""
    with firmware(TALKER) as f, tempfile.NamedTemporaryFile() as out, \
            Guest(*QUIET, '-bios', f.name, '-serial', 'file:' + out.name, '-monitor', 'stdio', '-S') as g:
        def grows():
            start, end = os.path.getsize(out.name), time.monotonic() + 5 * SCALE
            while os.path.getsize(out.name) == start and time.monotonic() < end:
                time.sleep(0.01)
            return os.path.getsize(out.name) > start
        g.expect(PROMPT)
        expect(g, 'info status', r'VM status: paused \(prelaunch\)')
        time.sleep(0.3)
        if os.path.getsize(out.name):
            g.fail('it runs in spite of -S')
        for _ in range(5):
            expect(g, 'cont', '')
            if not grows():
                g.fail('it does not run after cont')
            expect(g, 'stop', '')
            time.sleep(0.05 * SCALE)  # what the host still writes
            size = os.path.getsize(out.name)
            time.sleep(0.2)
            if os.path.getsize(out.name) != size:
                g.fail('it runs after stop')


def power():
    """Reset and power-off while the process stays."""
    with firmware(bytes.fromhex('b0fe e664 f4')) as f, \
            Guest(*QUIET, '-serial', 'null', '-bios', f.name, '-monitor', 'stdio', '-no-reboot', '-no-shutdown', '-S', '-d', 'cpu_reset') as g:
        g.expect(PROMPT)
        g.send('cont\r')
        g.expect('machine: shutdown requested by 8042')
        stop = time.monotonic() + 10 * SCALE
        while ask(g, 'info status') != 'VM status: paused (shutdown)':
            if time.monotonic() > stop:
                g.fail('the machine is not shut down')
        expect(g, 'cont', 'the guest has powered off; system_reset comes before cont')
        g.send('system_powerdown\r')
        g.expect('machine: power button requested by monitor')
        g.send('quit\r')
        g.wait(20, 0)
    with Guest('-M', 'none', '-display', 'none', '-monitor', 'stdio') as g:
        g.expect(PROMPT)
        expect(g, 'system_powerdown', 'this machine has no power button')
        g.send('quit\r')
        g.wait(20, 0)


def reset_while_paused():
    """The guest waits for cont, then it runs; it writes an x and dies by a triple fault, again and again."""
    code = bytes.fromhex('baf803 b078 ee fa 0f011e0010 cd03 f4')
    with firmware(code) as f, tempfile.NamedTemporaryFile() as out, \
            Guest(*QUIET, '-serial', 'file:' + out.name, '-bios', f.name, '-monitor', 'stdio', '-S') as g:
        g.expect(PROMPT)
        expect(g, 'system_reset', '')
        expect(g, 'info status', r'VM status: paused \(prelaunch\)')
        expect(g, 'stop', '')
        expect(g, 'info status', r'VM status: paused \(prelaunch\)')
        g.send('cont\r')
        end = time.monotonic() + 10 * SCALE
        while os.path.getsize(out.name) < 3:  # resets by itself
            if time.monotonic() > end:
                g.fail('the guest does not run')
            g.read(0.05)
        g.send('quit\r')
        g.wait(20, 0)


def beside_serial():
    with Guest('-nographic', '-m', '32') as g:
        g.expect('No bootable device')
        if 'trapeze)' in g.text:
            g.fail('the monitor shows itself unasked')
        g.send('\x01c')
        g.expect(r"monitor - type 'help' for more information\r\n" + PROMPT)
        expect(g, 'info status', 'VM status: running')
        g.send('\x01c')
        g.expect(r'\(trapeze\) \r\n$')
        start = len(g.text)
        g.send('\x01c')
        g.expect(PROMPT)
        if 'help' in g.text[start:]:
            g.fail('it greets twice')
        g.send('system_reset\r')
        g.expect(r'(?s)system_reset.*SeaBIOS \(version')
        g.send('\x01x')
        g.wait(20, 0)


def mux_of_a_chardev():
    with Guest('-nographic', '-m', '32', '-chardev', 'stdio,id=c,mux=on,signal=off', '-serial', 'chardev:c', '-mon', 'chardev=c,mode=readline') as g:
        g.expect('No bootable device')
        g.send('\x01c')
        g.expect(PROMPT)
        g.send('quit\r')
        g.wait(20, 0)


def default_places():
    """As QEMU: a serial port elsewhere leaves the terminal to the monitor; -monitor none leaves it to the serial port alone."""
    with Guest('-nographic', '-serial', 'null', '-m', '16') as g:
        g.expect(PROMPT)
        g.send('q\n')
        g.wait(20, 0)
    with Guest('-nographic', '-monitor', 'none', '-m', '32') as g:
        g.expect('No bootable device')
        g.send('\x01cq\r')
        time.sleep(0.3)
        if g.p.poll() is not None or 'trapeze)' in g.text:
            g.fail('there is a monitor')


def on_a_socket():
    with tempfile.TemporaryDirectory() as d, firmware(TALKER) as f:
        path = os.path.join(d, 's')
        with Guest(*QUIET, '-serial', 'null', '-bios', f.name, '-monitor', 'unix:%s,server,nowait' % path, stdin=False) as g:
            end = time.monotonic() + 10 * SCALE
            while not os.path.exists(path) and time.monotonic() < end:
                time.sleep(0.02)
            for line in (b'info sta', b'info status\r', b'quit\r'):  # the first one leaves in the middle of a line
                with socket.socket(socket.AF_UNIX) as s:
                    s.settimeout(10 * SCALE)
                    s.connect(path)
                    text = b''
                    while not text.endswith(b'(trapeze) '):
                        text += s.recv(4096)
                    if not text.startswith(b'Trapeze'):
                        raise Failure('no greeting: %r' % text)
                    s.sendall(line)
                    while b'running' not in text and line == b'info status\r':
                        text += s.recv(4096)
            g.wait(20, 0)


def editing():
    keys = [
        ('info stax\x7ftus', 'VM'), ('infi\x08o status', 'VM'), ('nonsense\x15info status', 'VM'), ('info nonsense \x17status', 'VM'),
        ('nfo status\x01i', 'VM'), ('nfo status\x1b[Hi', 'VM'), ('info sttus\x1b[D\x1b[D\x1b[Da', 'VM'), ('xinfo status\x01\x04', 'VM'),
        ('xinfo status\x1b[1~\x1b[3~', 'VM'), ('info status garbage\x02\x02\x02\x02\x02\x02\x02\x02\x0b', 'VM'), ('nf\x01i\x05o status', 'VM'),
        ('nonsense', 'unknown'), ('\x1b[A', 'unknown'), ('\x1b[A\x1b[A', 'VM'), ('\x10\x10\x10\x0e\x0e\x0einfo status', 'VM'),
        ('gr\u00fc\u00dfe\x7f\x7f\x7f\x7f\x7finfo status', 'VM'), ('\x1b[99~\x1bOC\x1b\x1binfo status', 'VM'), ('\x02\x04\x06\x7finfo status', 'VM'),
    ]
    with firmware(TALKER) as f, Guest(*QUIET, '-serial', 'null', '-bios', f.name, '-monitor', 'stdio') as g:
        g.expect(PROMPT)
        for line, start in keys:
            said = ask(g, line)
            if not said.startswith(start):
                g.fail('%r gives "%s"' % (line, said))
        said = ask(g, 'x' * 5000)  # longer than a line can be
        if not said.startswith("unknown command: 'xxx"):
            g.fail('a long line gives "%s"' % said[:100])
        if ask(g, 'info status', '\r\n') != 'VM status: running' or ask(g, 'info status', '\n') != 'VM status: running':
            g.fail('lines that end otherwise')


def completion():
    with firmware(TALKER) as f, Guest(*QUIET, '-serial', 'null', '-bios', f.name, '-monitor', 'stdio') as g:
        g.expect(PROMPT)
        for keys, line, start in (
                ('inf\tst\t', 'info status ', 'VM status'), ('he\tst\t', 'help stop ', r'stop\|s'), ('en\tin\t', 'engine interp ', ''),
                ('en\t', 'engine ', 'interp'), ('syst\tr\t', 'system_reset ', ''), ('nosuch\t', 'nosuch', 'unknown'),
                ('info nosuch \t', 'info nosuch ', 'info: unknown'), ('nfo st\x01i\x05\t', 'info status ', 'VM status'),
                ('stop\t now\t', 'stop  now', 'stop: nothing')):
            said = ask(g, keys)
            if not re.match(start, said):
                g.fail('%r gives "%s"' % (keys, said))
            g.send('\x10')
            g.expect(re.escape('(trapeze) ' + line) + '$')
            ask(g, '\x15')
        for keys, shown in (('info \t', 'accel  status'), ('s\t', 'stop  system_powerdown  system_reset'), ('sys\t\t', 'system_powerdown  system_reset')):
            start = len(g.text)
            g.send(keys)
            g.expect(r'(?s)^.{%d}[^\n]*\r\n%s\r\n\(trapeze\) \w+ ?$' % (start, shown))
            ask(g, '\x15')
        if 'cont' not in ask(g, '\t\x15info status'):
            g.fail('nothing is shown of an empty line')
        g.send('quit\r')
        g.wait(20, 0)


tap = Tap()
for fn in (commands, engine, stops, power, reset_while_paused, beside_serial, mux_of_a_chardev, default_places, on_a_socket, editing, completion):
    tap.run(fn.__name__.replace('_', ' '), fn)
tap.done()
