#!/usr/bin/env python3
"""
trapeze-img beside qemu-img: the same commands on the same images give the same exit codes, the same output where tools read
it, and images with the same content; random sequences of them, each image checked and compared by qemu-img.
"""
import json, os, random, re, shutil, subprocess, sys, tempfile
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from guest import PROGRAM, SCALE, Tap, Failure

OURS = os.path.join(os.path.dirname(os.path.abspath(PROGRAM)), 'trapeze-img')
PEER = 'qemu-img'


def run(tool, args, cwd):
    p = subprocess.run([tool] + args, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       text=True, timeout=60 * SCALE)
    return p.returncode, p.stdout, p.stderr


def must(tool, args, cwd):
    code, out, err = run(tool, args.split() if isinstance(args, str) else args, cwd)
    if code:
        raise Failure('%s %s: code %d\n%s%s' % (tool, args, code, out, err))
    return out


def expect(good, *what):
    if not good:
        raise Failure('\n'.join(map(str, what)))


def io(cwd, image, *commands):
    must('qemu-io', sum((['-c', c] for c in commands), []) + [image], cwd)


# What both are asked, one after the other, each in a directory of its own with the images of prepare(). The output is
# compared but for what differs by nature.
COMMANDS = [
    'info data.qcow2', 'info data.raw', 'info over.qcow2', 'info snap.qcow2', 'info v2.qcow2', 'info -f raw data.qcow2',
    'info --output=json data.qcow2', 'info --output=json --backing-chain over.qcow2', 'info --output=json snap.qcow2',
    'map --output=json over.qcow2', 'map over.qcow2', 'map --output=json snap.qcow2', 'map packed.qcow2',
    'map --output=json packed.qcow2', 'map --start-offset=1M --max-length=2M --output=json over.qcow2',
    'check data.qcow2', 'check packed.qcow2', 'check --output=json over.qcow2', 'check data.raw', 'check -q snap.qcow2',
    'compare data.raw data.qcow2', 'compare data.raw over.qcow2', 'compare data.qcow2 data.qcow2', 'compare -q data.raw packed.qcow2',
    'compare data.raw short.raw', 'compare -s data.raw short.raw', 'compare nosuch data.raw', 'compare data.raw',
    'compare -s -f qcow2 -F qcow2 data.qcow2 over.qcow2',
    'snapshot -l snap.qcow2', 'snapshot -l data.qcow2', 'snapshot -a nosuch snap.qcow2', 'snapshot -l data.raw',
    'resize -f raw short.raw 1M', 'resize -f raw --shrink short.raw 1M', 'resize data.qcow2 +1M', 'resize data.qcow2 7M',
    'resize v2snap.qcow2 10M', 'resize short.raw', 'resize data.qcow2 x', 'resize -f raw short.raw -- -512k',
    'commit data.raw', 'commit data.qcow2', 'rebase -b data.raw over.qcow2',
    'rebase -u -b nosuch.qcow2 -F qcow2 over.qcow2', 'info over.qcow2',
    'convert data.raw', 'convert nosuch x', 'convert -O nosuch data.raw x', 'convert -c -O raw data.raw x',
    'create -f qcow2 x.qcow2', 'create -f qcow2 -b data.qcow2 x.qcow2', 'create -f qcow2 -b nosuch -F raw x.qcow2 1M',
    'create -f raw -b data.raw -F raw x.raw 1M', 'create -f nosuch x 1M', 'create x', 'create -f qcow2 x.qcow2 1Q',
    'create -f qcow2 -o cluster_size=3k x.qcow2 1M', 'create -f qcow2 -o compat=7 x.qcow2 1M',
    'create -q -f qcow2 -o compat=0.10,refcount_bits=8 x.qcow2 1M', 'create -f qcow2 -o nosuch=1 x.qcow2 1M',
    'create -q -f qcow2 x.qcow2 0', 'create -q -f qcow2 -o cluster_size=512,preallocation=metadata x.qcow2 1M', 'check x.qcow2',
    'create -q -f raw x.raw 12345', 'info x.raw', 'nosuch', 'info', 'info nosuch', 'check nosuch', 'info --output=xml data.raw',
    'info --nosuch data.raw', 'map nosuch',
]
# Their text is our own; the exit codes are not.
OWN_TEXT = re.compile(r'create|resize|convert|commit|rebase|snapshot -a|nosuch')


def prepare(cwd):
    rand = random.Random(1)
    with open(os.path.join(cwd, 'data.raw'), 'wb') as f:
        for i in range(64):
            f.write(bytes(65536) if i % 5 == 1 else rand.randbytes(65536) if i % 3 else b'some text\n' * 6554)
        f.truncate(5 << 20)
    with open(os.path.join(cwd, 'short.raw'), 'wb') as f:
        f.write(bytes(2 << 20))
    must(PEER, 'convert -f raw -O qcow2 data.raw data.qcow2', cwd)
    must(PEER, 'convert -f raw -O qcow2 -o compat=0.10 data.raw v2.qcow2', cwd)
    must(PEER, 'convert -f raw -O qcow2 -c data.raw packed.qcow2', cwd)
    must(PEER, 'convert -f raw -O qcow2 data.raw snap.qcow2', cwd)
    must(PEER, 'snapshot -c first snap.qcow2', cwd)
    must(PEER, 'convert -f raw -O qcow2 -o compat=0.10 data.raw v2snap.qcow2', cwd)
    must(PEER, 'snapshot -c first v2snap.qcow2', cwd)
    must(PEER, 'create -q -f qcow2 -b data.qcow2 -F qcow2 over.qcow2 6M', cwd)
    io(cwd, 'over.qcow2', 'write -P 1 100k 200k', 'write -z 1M 1M', 'write -P 3 5500k 64k')


def normal(command, text):
    """JSON as data; without the place on disk, which depends on who wrote and when."""
    text = re.sub(r'disk size: .*', 'disk size', text)
    if '--output=json' not in command or not text:
        return text
    data = json.loads(text)
    for item in data if isinstance(data, list) else [data]:
        item.pop('actual-size', None)
    return data


def beside():
    with tempfile.TemporaryDirectory() as a, tempfile.TemporaryDirectory() as b:
        prepare(a)
        for name in os.listdir(a):
            shutil.copy2(os.path.join(a, name), b)
        for command in COMMANDS:
            peer, ours = run(PEER, command.split(), a), run(OURS, command.split(), b)
            good = peer[0] == ours[0] and bool(peer[2]) <= bool(ours[2]) | ('WARNING' in peer[2])
            if good and not OWN_TEXT.search(command):
                good = normal(command, peer[1]) == normal(command, ours[1])
            tap.ok(good, command, 'theirs: %s\nours: %s' % (peer, ours))


def converting():
    with tempfile.TemporaryDirectory() as cwd:
        prepare(cwd)
        for args in ('-O qcow2', '-O qcow2 -c', '-O qcow2 -c -o compression_type=zstd', '-O raw', '-O raw -S 0', '-O qcow2 -S 64k',
                     '-O qcow2 -o cluster_size=2M', '-O qcow2 -o cluster_size=512 -m 2', '-O qcow2 -o compat=0.10 -W -m 16',
                     '-O qcow2 -o preallocation=full', '-O qcow2 -o preallocation=metadata', '-O qcow2 -t none -T none',
                     '-O qcow2 -p -o lazy_refcounts=on,refcount_bits=64'):
            for source in ('data.raw', 'packed.qcow2', 'over.qcow2', 'snap.qcow2'):
                must(OURS, 'convert %s %s out' % (args, source), cwd)
                must(PEER, 'compare %s out' % source, cwd)
                if 'qcow2' in args:
                    must(PEER, 'check out', cwd)
        io(cwd, 'snap.qcow2', 'write -P 9 0 5M')
        must(OURS, 'convert -l first -O raw snap.qcow2 out', cwd)
        must(PEER, 'compare data.raw out', cwd)
        must(OURS, 'convert -B data.qcow2 -F qcow2 -O qcow2 over.qcow2 out', cwd)
        must(PEER, 'compare over.qcow2 out', cwd)
        expect(os.path.getsize(os.path.join(cwd, 'out')) < 2 << 20, 'what is below was copied, too')
        must(OURS, 'convert -O qcow2 short.raw data.raw out', cwd)
        with open(os.path.join(cwd, 'both'), 'wb') as f:
            f.write(bytes(2 << 20) + open(os.path.join(cwd, 'data.raw'), 'rb').read())
        must(PEER, 'compare -f raw -F qcow2 both out', cwd)
        must(OURS, 'convert -n -O raw data.raw both', cwd)
        must(OURS, 'convert --image-opts -O raw driver=qcow2,file.filename=over.qcow2 out', cwd)
        must(PEER, 'compare over.qcow2 out', cwd)


def random_image(rand, cwd, name, below):
    options = 'cluster_size=%s' % rand.choice(['512', '4k', '64k', '1M'])
    if rand.random() < 0.3:
        options += ',lazy_refcounts=on'
    args = ['create', '-q', '-f', 'qcow2', '-o', options] + (['-b', below[0], '-F', below[1]] if below else [])
    must(rand.choice([OURS, PEER]), args + [name, '%dk' % rand.randrange(500, 4000)], cwd)


def random_write(rand, cwd, name):
    size = json.loads(must(PEER, 'info --output=json ' + name, cwd))['virtual-size']
    commands = []
    for i in range(rand.randrange(1, 6)):
        at = rand.randrange(0, size, 512)
        length = min(rand.randrange(512, 600000, 512), size - at)
        commands.append('%s %d %d' % (rand.choice(['write -P %d' % rand.randrange(1, 256)] * 3 + ['write -z', 'write -z -u', 'discard']),
                                      at, length))
    io(cwd, name, *commands)


def content(cwd, name):
    must(PEER, 'convert -O raw %s content' % name, cwd)
    return open(os.path.join(cwd, 'content'), 'rb').read()


def sequence(seed):
    """base <- mid <- top: what trapeze-img does to the chain must leave the top's content as it is, or as it was then."""
    rand = random.Random(seed)
    with tempfile.TemporaryDirectory() as cwd:
        must(PEER, 'create -q -f raw base.raw 2M', cwd)
        random_image(rand, cwd, 'base.qcow2', ('base.raw', 'raw'))
        random_image(rand, cwd, 'mid.qcow2', ('base.qcow2', 'qcow2'))
        random_image(rand, cwd, 'top.qcow2', ('mid.qcow2', 'qcow2'))
        log, saved = [], {}
        for i in range(int(14 / min(SCALE, 3))):
            random_write(rand, cwd, rand.choice(['top.qcow2', 'top.qcow2', 'base.qcow2', 'mid.qcow2']))
            before = content(cwd, 'top.qcow2')
            what = rand.choice(['commit', 'commit -b', 'rebase', 'rebase other', 'snapshot', 'apply', 'delete', 'resize', 'convert'])
            log.append(what)
            if what == 'commit' and not saved:
                must(OURS, 'commit -q top.qcow2', cwd)
            elif what == 'commit -b' and not saved:
                must(OURS, 'commit -q -b base.qcow2 top.qcow2', cwd)
                expect(content(cwd, 'base.qcow2')[:len(before)] == before, log, 'the base has another content')
            elif what == 'rebase':
                must(OURS, 'rebase -b base.qcow2 -F qcow2 top.qcow2' if rand.random() < 0.5 else 'rebase -b mid.qcow2 -F qcow2 top.qcow2', cwd)
            elif what == 'rebase other':
                must(OURS, ['rebase', '-b', '', 'top.qcow2'], cwd)
                expect(content(cwd, 'top.qcow2') == before, log)
                must(OURS, 'rebase -b mid.qcow2 -F qcow2 top.qcow2', cwd)
            elif what == 'snapshot':
                must(OURS, 'snapshot -c s%d top.qcow2' % i, cwd)
                saved['s%d' % i] = True
            elif what == 'apply' and saved:
                must(OURS, 'snapshot -a %s top.qcow2' % rand.choice(list(saved)), cwd)
                before = content(cwd, 'top.qcow2')
            elif what == 'delete' and saved:
                name = rand.choice(list(saved))
                must(OURS, 'snapshot -d %s top.qcow2' % name, cwd)
                del saved[name]
            elif what == 'resize':
                must(OURS, 'resize -q top.qcow2 +%dk' % rand.randrange(1, 900), cwd)
                before += bytes(len(content(cwd, 'top.qcow2')) - len(before))
            elif what == 'convert':
                must(OURS, 'convert -O qcow2 -c top.qcow2 out.qcow2', cwd)
                must(PEER, 'compare top.qcow2 out.qcow2', cwd)
            for image in ('top.qcow2', 'mid.qcow2', 'base.qcow2'):
                must(PEER, 'check ' + image, cwd)
            after = content(cwd, 'top.qcow2')
            at = next((k for k in range(min(len(before), len(after))) if before[k] != after[k]), None) if before != after else None
            expect(after == before, log, 'another content at %s, %d and %d bytes' % (at, len(before), len(after)))


def damaged():
    """A leak and a count that is too low: found, told by the exit code, repaired."""
    with tempfile.TemporaryDirectory() as cwd:
        must(PEER, 'create -q -f qcow2 x.qcow2 4M', cwd)
        io(cwd, 'x.qcow2', 'write -P 1 0 1M')
        image = os.path.join(cwd, 'x.qcow2')
        block = 2 * 65536 # where qemu-img puts the first refcount block
        for cluster, count, code in ((30, 1, 3), (6, 0, 2)):
            shutil.copy(image, image + '.bad')
            with open(image + '.bad', 'r+b') as f:
                f.seek(block + 2 * cluster)
                f.write(count.to_bytes(2, 'big'))
                f.truncate(40 * 65536)
            for tool in (PEER, OURS):
                got = run(tool, ['check', 'x.qcow2.bad'], cwd)
                expect(got[0] == code, tool, got)
            got = run(OURS, ['check', '-r', 'leaks', 'x.qcow2.bad'], cwd)
            expect(got[0] == (0 if code == 3 else 2), got)
            got = run(OURS, ['check', '-r', 'all', 'x.qcow2.bad'], cwd)
            expect(got[0] == 0, got)
            must(PEER, 'check x.qcow2.bad', cwd)
            must(PEER, 'compare x.qcow2 x.qcow2.bad', cwd)
        # No refcount block at all: all counts from nothing.
        with open(image, 'r+b') as f:
            f.seek(65536)
            f.write(bytes(8))
        expect(run(OURS, ['check', 'x.qcow2'], cwd)[0] == 2, 'a lost refcount block is not seen')
        must(OURS, 'check -r all x.qcow2', cwd)
        must(PEER, 'check x.qcow2', cwd)
        must('qemu-io', ['-c', 'read -P 1 0 1M', '-c', 'write 2M 1M', 'x.qcow2'], cwd)


def small():
    with tempfile.TemporaryDirectory() as cwd:
        must(OURS, 'create -q -f qcow2 t 100G', cwd)
        expect(os.stat(os.path.join(cwd, 't')).st_blocks * 512 <= 300 << 10, 'an empty image takes too much')
        out = must(OURS, 'bench -q -c 200 -d 8 -f qcow2 -w t', cwd)
        expect(out.startswith('Run completed in '), out)
        must(PEER, 'check t', cwd)
        expect(must(OURS, '--version', cwd).split()[2].startswith('7.2'), 'the third word of --version')
        expect('Supported formats: raw' in must(OURS, '--help', cwd), 'the list of formats')


tap = Tap()
beside()
tap.run('convert', converting)
tap.run('damage', damaged)
tap.run('small', small)
for seed in range(int(os.environ.get('SEQUENCES') or 8)):
    tap.run('sequence %d' % seed, sequence, seed)
tap.done()
