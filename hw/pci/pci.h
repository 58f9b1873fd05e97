/*
 * PCI functions and buses (PCI Local Bus 3.0).
 *
 * A function is a device whose struct embeds struct pci_device first. Its type's realize fills in a literal
 * struct pci_info (ids, class, BARs) and calls pci_init(); its reset calls pci_reset(); its state table nests
 * pci_device_fields and its post_load calls pci_post_load(). Config space is an array with masks: what the guest may
 * write, and which bits a written 1 clears. All under the VM lock.
 */
#ifndef HW_PCI_PCI_H
#define HW_PCI_PCI_H

#include "hw/core/device.h"
#include "hw/core/irq.h"
#include "hw/core/memory.h"
#include "hw/core/state.h"

#define PCI_CONFIG_SIZE 256
#define PCI_CONFIG_HEADER_SIZE 64
#define PCI_BARS 6
#define PCI_ROM_BAR 6 /* index of the expansion ROM among the regions */
#define PCI_PIRQS 4

#define PCI_DEVFN(slot, function) ((slot) << 3 | (function))
#define PCI_SLOT(devfn) ((devfn) >> 3)
#define PCI_FUNCTION(devfn) ((devfn) & 7)

/* Registers of configuration header type 0. */
enum pci_register {
    PCI_VENDOR_ID = 0x00,
    PCI_DEVICE_ID = 0x02,
    PCI_COMMAND = 0x04,
    PCI_STATUS = 0x06,
    PCI_REVISION_ID = 0x08,
    PCI_CLASS_PROG = 0x09,
    PCI_CLASS_DEVICE = 0x0a,
    PCI_CACHE_LINE_SIZE = 0x0c,
    PCI_LATENCY_TIMER = 0x0d,
    PCI_HEADER_TYPE = 0x0e,
    PCI_BIST = 0x0f,
    PCI_BASE_ADDRESS_0 = 0x10,
    PCI_SUBSYSTEM_VENDOR_ID = 0x2c,
    PCI_SUBSYSTEM_ID = 0x2e,
    PCI_ROM_ADDRESS = 0x30,
    PCI_CAPABILITY_LIST = 0x34,
    PCI_INTERRUPT_LINE = 0x3c,
    PCI_INTERRUPT_PIN = 0x3d,
    PCI_MIN_GNT = 0x3e,
    PCI_MAX_LAT = 0x3f,
};

#define PCI_COMMAND_IO 0x001
#define PCI_COMMAND_MEMORY 0x002
#define PCI_COMMAND_MASTER 0x004
#define PCI_COMMAND_PARITY 0x040
#define PCI_COMMAND_SERR 0x100
#define PCI_COMMAND_INTX_DISABLE 0x400

#define PCI_STATUS_INTERRUPT 0x0008
#define PCI_STATUS_CAP_LIST 0x0010
#define PCI_STATUS_FAST_BACK 0x0080
#define PCI_STATUS_DEVSEL_MEDIUM 0x0200
#define PCI_STATUS_ERRORS 0xf900 /* the bits that a written 1 clears */

#define PCI_HEADER_MULTIFUNCTION 0x80
#define PCI_ROM_ENABLE 0x1

enum pci_bar_kind {
    PCI_BAR_NONE,
    PCI_BAR_IO,
    PCI_BAR_MEM32,
    PCI_BAR_MEM32_PREFETCH,
    PCI_BAR_MEM64, /* takes the next BAR's register too */
    PCI_BAR_MEM64_PREFETCH,
};

struct pci_bar_info {
    enum pci_bar_kind kind;
    uint64_t size;             /* a power of two; I/O at least 4, memory at least 16 */
    const char *name;          /* of the region */
    const struct mem_ops *ops; /* opaque is the device; NULL: the device gives a region of its own with pci_set_bar() */
};

struct pci_info {
    uint16_t vendor_id, device_id;
    uint8_t revision;
    uint32_t class_code; /* 24 bit: base class, subclass, programming interface */
    uint16_t subsystem_vendor_id, subsystem_id; /* 0: 1af4:1100, as QEMU's */
    uint8_t interrupt_pin;                      /* 0: none, 1: INTA# ... */
    const char *romfile;                        /* default of the `romfile` property; NULL: no ROM BAR */
    struct pci_bar_info bars[PCI_BARS];
};

struct pci_bus;

struct pci_device {
    struct device dev;
    struct pci_bus *bus;
    const struct pci_info *info;
    uint8_t devfn;
    uint8_t config[PCI_CONFIG_SIZE];
    uint8_t wmask[PCI_CONFIG_SIZE]; /* bits the guest may write */
    uint8_t w1c[PCI_CONFIG_SIZE];   /* bits a written 1 clears */
    uint8_t initial[PCI_CONFIG_SIZE]; /* config after reset */
    struct mem_region *region[PCI_BARS + 1]; /* by BAR, then the ROM */
    struct mem_region own_region[PCI_BARS + 1];
    struct ram_block *rom;
    uint16_t capability_end; /* first free byte behind the capabilities */
    bool intx;        /* the level of the pin, before INTx Disable */
    bool intx_driven; /* counted in bus->asserted; follows from intx and the command register */
    /* Called after the guest changed [reg, reg+len). May be NULL; set before pci_init(). */
    void (*config_written)(struct pci_device *p, unsigned reg, unsigned len);
    /* Called before the guest reads [reg, reg+len), for bytes that are to be made only then. As config_written. */
    void (*config_wanted)(struct pci_device *p, unsigned reg, unsigned len);
    /* Properties. */
    char *addr;     /* "SLOT[.FUNCTION]" in hex, as QEMU's addr=; NULL: next free slot */
    bool multifunction;
    char *romfile;  /* "" for none */
    bool rombar;
};

/* The properties of every PCI function; put it first in the type's table. */
#define PCI_PROPS \
    PROP(PROP_STRING, "addr", struct pci_device, addr, 0, "slot and function on the bus, hexadecimal: 04.0"), \
    PROP(PROP_BOOL, "multifunction", struct pci_device, multifunction, 0, "function 0 of several in its slot"), \
    PROP(PROP_STRING, "romfile", struct pci_device, romfile, 0, "file with the option ROM"), \
    PROP(PROP_BOOL, "rombar", struct pci_device, rombar, 1, "show the option ROM to the guest")

extern const struct state_field pci_device_fields[];

/*
 * Fills in config space from `info`, makes BARs and the ROM, and takes the function's place on its bus. Fails with a
 * sentence on a bad or taken address or an unreadable ROM file.
 */
bool pci_init(struct pci_device *p, const struct pci_info *info, GError **err);
void pci_fini(struct pci_device *p);
void pci_reset(struct pci_device *p); /* first pass: config space back to initial, BARs unmapped, INTx low */
/* Maps BARs anew after config space was loaded. Fails if that is of another function. */
bool pci_post_load(struct pci_device *p, GError **err);
/*
 * Gives BAR `n` a region of the device's own (RAM or a container), of the size the info tells. Before the guest runs.
 */
void pci_set_bar(struct pci_device *p, unsigned n, struct mem_region *r);

static inline uint16_t pci_word(const struct pci_device *p, unsigned reg)
{
    return p->config[reg] | p->config[reg + 1] << 8;
}
static inline uint32_t pci_dword(const struct pci_device *p, unsigned reg)
{
    return pci_word(p, reg) | (uint32_t)pci_word(p, reg + 2) << 16;
}
/* Little-endian values into config and initial alike: for realize. */
void pci_config_init(struct pci_device *p, unsigned reg, uint32_t value, unsigned len, uint32_t wmask);
/* Room of `len` bytes for capability `id`, linked into the list; returns its offset. At realize. */
unsigned pci_add_capability(struct pci_device *p, uint8_t id, unsigned len);

/* The level of the function's INTx# pin (1: asserted). */
void pci_set_intx(struct pci_device *p, int level);

/* What the guest's accesses end in. `len` 1, 2 or 4, not crossing a dword. */
uint32_t pci_config_read(struct pci_device *p, unsigned reg, unsigned len);
void pci_config_write(struct pci_device *p, unsigned reg, uint32_t value, unsigned len);

/* --- Bus ---------------------------------------------------------------------------------------------------------- */

/* Embedded in its bridge. */
struct pci_bus {
    struct bus *bus;
    struct mem_region *memory, *io;   /* BARs are mapped into these */
    struct pci_device *functions[256]; /* by devfn */
    /* Wires to the interrupt router; which one a pin goes to is up to map_pin. */
    struct irq_line pirq[PCI_PIRQS];
    unsigned (*map_pin)(const struct pci_device *p, unsigned pin); /* pin 0..3 */
    unsigned asserted[PCI_PIRQS]; /* number of functions that drive it; follows from their state */
    uint8_t first_slot;    /* for devices without addr= */
    struct pci_host *host; /* how processors get at it */
};

void pci_bus_init(struct pci_bus *b, struct device *owner, const char *name, struct mem_region *memory,
                  struct mem_region *io);
struct pci_bus *pci_bus_of(const struct device *d);
/* The usual swizzle behind a bridge: (slot + pin) mod 4. */
unsigned pci_swizzle(const struct pci_device *p, unsigned pin);
/* "/pci@i0cf8/KIND@SLOT,FUNCTION": how firmware names a device of such a bus in its boot order. Caller frees. */
char *pci_firmware_path(const struct device *d, const char *kind);
void pci_bus_print(const struct pci_bus *b, GString *out); /* `info pci` */

/* --- Configuration mechanism #1: ports 0xcf8 and 0xcfc ------------------------------------------------------------ */

/* Embedded in its host bridge. */
struct pci_host {
    struct pci_bus *bus;
    uint32_t address; /* register CONFADD */
    struct mem_region address_region, data_region;
    const struct mem_ops *passed_ops;
    void *passed_opaque;
};

extern const struct state_field pci_host_fields[];

void pci_host_init(struct pci_host *h, struct device *owner, struct pci_bus *bus);
void pci_host_fini(struct pci_host *h);
void pci_host_post_load(struct pci_host *h);
/*
 * Only dwords at 0xcf8 are CONFADD's; bytes and words there go on to the bus. Who answers them is told here (offset 0
 * is port 0xcf8): it is no region of its own, as a dword would be cut to pieces by one at 0xcf9.
 */
void pci_host_pass_on(struct pci_host *h, const struct mem_ops *ops, void *opaque);

#endif
