"""Images for tests of disks, and the programs that start from them.

Boot sectors speak on the first serial port, whatever firmware says: `saying(text)`.
"""
import hashlib, os, random, shutil, signal, struct, subprocess, time

from guest import SCALE, Skip, fetch_all

SECTOR = 512

# In order of their dependencies; insmod does not look for them.
SCSI = ['block/t10-pi', 'drivers/scsi/scsi_common', 'drivers/scsi/scsi_mod', 'drivers/cdrom/cdrom', 'drivers/scsi/sd_mod',
        'drivers/scsi/sr_mod']
ATA = ['drivers/ata/libata', 'drivers/ata/ata_piix']
OTHERS = ['drivers/block/floppy', 'fs/isofs/isofs']
ORDER = ['crypto/crct10dif_common', 'crypto/crct10dif_generic', 'lib/crc-t10dif', 'lib/crc64', 'crypto/crc64_rocksoft_generic',
         'lib/crc64-rocksoft', *SCSI, *ATA]


def boot_sector(text):
    """Sends the text through COM1, then halts."""
    message = text.encode() + b'\r\n\0'
    code = bytearray.fromhex('fa31c08ed8be0000'  # cli; xor ax,ax; mov ds,ax; mov si,MESSAGE
                             'bafd03'            # next: mov dx,0x3fd
                             'eca82074fb'        # wait: in al,dx; test al,0x20; jz wait
                             'ac84c07406'        # lodsb; test al,al; jz end
                             'baf803ee'          # mov dx,0x3f8; out dx,al
                             'ebed'              # jmp next
                             'f4ebfd')           # end: hlt; jmp end
    struct.pack_into('<H', code, 6, 0x7c00 + len(code))
    return bytes(code + message).ljust(510, b'\0') + b'\x55\xaa'


def random_bytes(n, seed):
    return random.Random(seed).randbytes(n)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def write_file(directory, name, data):
    path = os.path.join(directory, name)
    with open(path, 'wb') as f:
        f.write(data)
    return path


def el_torito(directory, text, data):
    """A CD image that boots without emulation, with a file of that data."""
    if not shutil.which('xorriso'):
        raise Skip('xorriso is not here (./configure --deps installs it)')
    tree = os.path.join(directory, 'tree')
    os.mkdir(tree)
    write_file(tree, 'boot.bin', boot_sector(text))
    write_file(tree, 'data.bin', data)
    image = os.path.join(directory, 'cd.iso')
    subprocess.run(['xorriso', '-as', 'mkisofs', '-quiet', '-o', image, '-b', 'boot.bin', '-no-emul-boot', '-boot-load-size', '4', tree],
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return image


def grub_rescue(name):
    path = '/usr/lib/grub-rescue/' + name
    if not os.path.exists(path):
        raise Skip('grub-rescue-pc is not here (./configure --deps installs it)')
    return path


def modules(names):
    """Files of Debian's amd64 kernel for an initramfs, and the kernel: (kernel, {guest path: (content, executable)})."""
    patterns = ['lib/modules/*/kernel/%s.ko' % n for n in [*ORDER, *OTHERS]]
    kernel, *paths = fetch_all('bookworm', 'amd64', 'linux-image-amd64', 'boot/vmlinuz-*', *patterns)
    files = {}
    for name, path in zip([*ORDER, *OTHERS], paths):
        if name in names:
            files['lib/%s.ko' % os.path.basename(name)] = (open(path, 'rb').read(), False)
    return kernel, files


def insmod(names, arguments={}):
    return ''.join('insmod /lib/%s.ko %s || echo INSMOD FAILED %s\n' % (os.path.basename(n), arguments.get(n, ''), n) for n in names)


def expect_screen(guest, path, pattern, limit):
    """Waits until the text screen, which the guest was told to dump into `path`, has that text."""
    end = time.monotonic() + limit * SCALE
    text = ''
    while time.monotonic() < end:
        guest.signal(signal.SIGUSR1)
        guest.read(0.2)
        if os.path.exists(path):
            text = open(path).read()
            if pattern in text:
                return text
    guest.fail('the screen does not show "%s" within %d s but:\n%s' % (pattern, limit * SCALE, text))
