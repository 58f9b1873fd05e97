/*
 * "VGA": a VGA with Bochs VBE on PCI, 1234:1111, as QEMU's (its docs/specs/standard-vga): BAR 0 is video memory, BAR 2
 * registers: 0x400 the VGA's ports 0x3c0-0x3df, 0x500 the VBE registers, 0x600 QEMU's own.
 *
 * Not modelled yet: the EDID block at the start of BAR 2, which reads as absent. Legacy ports and the window at 0xa0000
 * answer whatever the command register says. All under the VM lock.
 */
#include "hw/display/vga.h"

#include "hw/core/machine.h"
#include "hw/display/vga_int.h"
#include "hw/pci/pci.h"

#define MMIO_SIZE 0x1000
#define MMIO_PORTS 0x400
#define MMIO_VBE 0x500
#define MMIO_EXT 0x600
#define EXT_SIZE 8
#define EXT_LITTLE_ENDIAN 0x1e1e1e1e

struct vga_pci {
    struct pci_device pci;
    struct vga vga;
    struct ram_block *vram;
    struct mem_region vram_region;
    struct pci_info info;
    uint32_t vgamem_mb;
};

static struct vga_pci *vga_pci_of(struct device *d)
{
    return container_of(d, struct vga_pci, pci.dev);
}

char *vga_text_screen(struct device *d)
{
    return vga_text(&vga_pci_of(d)->vga);
}

/* --- BAR 2 -------------------------------------------------------------------------------------------------------- */

static uint32_t ext_read(unsigned offset)
{
    return offset == 0 ? EXT_SIZE : offset == 4 ? EXT_LITTLE_ENDIAN : 0;
}

static uint64_t mmio_read(void *opaque, uint64_t offset, unsigned size)
{
    struct vga_pci *s = opaque;

    if (offset >= MMIO_PORTS && offset < MMIO_PORTS + 0x20) {
        uint64_t value = 0;
        for (unsigned i = 0; i < size; i++)
            value |= (uint64_t)vga_port_read(&s->vga, 0x3c0 + offset + i - MMIO_PORTS) << (8 * i);
        return value;
    }
    if (offset >= MMIO_VBE && offset < MMIO_VBE + 2 * VBE_COUNT) {
        unsigned index = (offset - MMIO_VBE) / 2;
        uint32_t value = vga_vbe_read(&s->vga, index) | (uint32_t)vga_vbe_read(&s->vga, index + 1) << 16;
        return value >> (8 * (offset & 1));
    }
    if (offset >= MMIO_EXT && offset < MMIO_EXT + EXT_SIZE)
        return ext_read((offset - MMIO_EXT) & ~3u) >> (8 * (offset & 3));
    return 0;
}

static void mmio_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct vga_pci *s = opaque;

    if (offset >= MMIO_PORTS && offset < MMIO_PORTS + 0x20) {
        for (unsigned i = 0; i < size; i++)
            vga_port_write(&s->vga, 0x3c0 + offset + i - MMIO_PORTS, value >> (8 * i));
    } else if (offset >= MMIO_VBE && offset < MMIO_VBE + 2 * VBE_COUNT && size >= 2) {
        for (unsigned i = 0; i < size / 2; i++)
            vga_vbe_write(&s->vga, (offset - MMIO_VBE) / 2 + i, value >> (16 * i));
    }
}

static const struct mem_ops mmio_ops = {.read = mmio_read, .write = mmio_write, .valid = {1, 8, false}};

/* --- PCI function ------------------------------------------------------------------------------------------------- */

static bool set_up(struct vga_pci *s, GError **err)
{
    struct pci_info info = {
        .vendor_id = 0x1234,
        .device_id = 0x1111,
        .revision = 2,
        .class_code = 0x030000,
        .romfile = "vgabios-stdvga.bin",
        .bars = {[0] = {PCI_BAR_MEM32_PREFETCH, s->vram->size, "vga.vram", NULL},
                 [2] = {PCI_BAR_MEM32, MMIO_SIZE, "vga.mmio", &mmio_ops}},
    };

    s->info = info;
    if (!pci_init(&s->pci, &s->info, err))
        return false;
    mem_init_ram(&s->vram_region, &s->pci.dev, "vga.vram", s->vram, 0, s->vram->size);
    pci_set_bar(&s->pci, 0, &s->vram_region);
    vga_init(&s->vga, &s->pci.dev, s->pci.bus->memory, s->vram);
    return true;
}

static bool vga_pci_realize(struct device *d, GError **err)
{
    struct vga_pci *s = vga_pci_of(d);

    if (s->vgamem_mb < 1 || s->vgamem_mb > 256 || (s->vgamem_mb & (s->vgamem_mb - 1))) {
        g_set_error(err, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                    "VGA: vgamem_mb=%u: must be a power of two from 1 to 256", s->vgamem_mb);
        return false;
    }
    s->vram = ram_block_new("vga.vram", (uint64_t)s->vgamem_mb << 20, NULL, err);
    if (!s->vram)
        return false;
    if (!set_up(s, err)) {
        ram_block_free(s->vram);
        return false;
    }
    return true;
}

static void vga_pci_unrealize(struct device *d)
{
    struct vga_pci *s = vga_pci_of(d);

    vga_fini(&s->vga);
    pci_fini(&s->pci);
    mem_fini(&s->vram_region);
    ram_block_free(s->vram);
}

static void vga_pci_reset(struct device *d)
{
    struct vga_pci *s = vga_pci_of(d);

    pci_reset(&s->pci);
    vga_reset(&s->vga);
}

static bool vga_pci_post_load(void *instance, uint8_t version, GError **err)
{
    struct vga_pci *s = instance;
    return pci_post_load(&s->pci, err) && vga_post_load(&s->vga, err);
}

static const struct prop vga_pci_props[] = {
    PCI_PROPS,
    PROP(PROP_U32, "vgamem_mb", struct vga_pci, vgamem_mb, 16, "video memory in MiB, a power of two"),
    PROPS_END,
};

static const struct state_field vga_pci_fields[] = {
    STATE_NESTED(struct vga_pci, pci, pci_device_fields),
    STATE_NESTED(struct vga_pci, vga, vga_fields),
    STATE_FIELDS_END,
};

static const struct state_table vga_pci_state = {
    .name = "VGA",
    .version = 1,
    .fields = vga_pci_fields,
    .post_load = vga_pci_post_load,
};

const struct device_type vga_pci_type = {
    .name = "VGA",
    .description = "VGA with Bochs VBE",
    .bus = "pci",
    .size = sizeof(struct vga_pci),
    .props = vga_pci_props,
    .user_creatable = true,
    .realize = vga_pci_realize,
    .reset = vga_pci_reset,
    .unrealize = vga_pci_unrealize,
    .state = &vga_pci_state,
};
