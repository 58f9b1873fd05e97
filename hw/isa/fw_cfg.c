/*
 * QEMU's firmware configuration device (its docs/specs/fw_cfg): selector at port 0x510, data at 0x511, DMA at 0x514.
 *
 * Writes through the data port have no effect, as in QEMU since 2.4; items that can be written are written by DMA.
 * Contents are not saved state: the board makes them anew, and who is told of writes keeps what it was told.
 * All under the VM lock.
 */
#include "hw/isa/fw_cfg.h"

#include "hw/core/log.h"
#include "hw/core/machine.h"
#include "hw/core/state.h"

#include <string.h>

#define FW_CFG_WRITE_CHANNEL 0x4000 /* bit of the selector that says nothing any more */
#define FW_CFG_VERSION 0x01
#define FW_CFG_VERSION_DMA 0x02
#define DIRECTORY_ENTRY 64

#define DMA_ERROR 0x01
#define DMA_READ 0x02
#define DMA_SKIP 0x04
#define DMA_SELECT 0x08
#define DMA_WRITE 0x10

struct item {
    char *name; /* of a file */
    uint8_t *data;
    size_t size;
    bool lent;
    void (*select)(void *opaque);
    void (*write)(void *opaque, uint32_t start, uint32_t len);
    void *opaque;
};

struct fw_cfg {
    struct device dev;
    GHashTable *items; /* key -> struct item * */
    GPtrArray *files;  /* struct item *, by name; the key is FW_CFG_FILE_FIRST + index */
    struct item directory;
    struct mem_region ports, dma;
    uint16_t key;
    uint32_t offset;
    uint64_t dma_address;
};

/* --- Items -------------------------------------------------------------------------------------------------------- */

static void item_free(void *p)
{
    struct item *item = p;

    if (!item->lent)
        g_free(item->data);
    g_free(item->name);
    g_free(item);
}

static struct item *item_new(const void *data, size_t size)
{
    struct item *item = g_new0(struct item, 1);

    g_assert(size <= UINT32_MAX);
    item->data = g_memdup2(data, size);
    item->size = size;
    return item;
}

static void add_item(struct fw_cfg *f, unsigned key, struct item *item)
{
    g_assert(key <= UINT16_MAX && !(key & FW_CFG_WRITE_CHANNEL));
    g_assert(key < FW_CFG_FILE_FIRST || key >= FW_CFG_ARCH_LOCAL);
    g_hash_table_replace(f->items, GUINT_TO_POINTER(key), item);
}

void fw_cfg_add_bytes(struct fw_cfg *f, unsigned key, const void *data, size_t size)
{
    add_item(f, key, item_new(data, size));
}

void fw_cfg_add_lent(struct fw_cfg *f, unsigned key, const void *data, size_t size)
{
    struct item *item = item_new(NULL, 0);

    g_assert(size <= UINT32_MAX);
    item->data = (uint8_t *)data;
    item->size = size;
    item->lent = true;
    add_item(f, key, item);
}

void fw_cfg_add_string(struct fw_cfg *f, unsigned key, const char *value)
{
    fw_cfg_add_bytes(f, key, value, strlen(value) + 1);
}

void fw_cfg_add_u16(struct fw_cfg *f, unsigned key, uint16_t value)
{
    value = GUINT16_TO_LE(value);
    fw_cfg_add_bytes(f, key, &value, sizeof(value));
}

void fw_cfg_add_u32(struct fw_cfg *f, unsigned key, uint32_t value)
{
    value = GUINT32_TO_LE(value);
    fw_cfg_add_bytes(f, key, &value, sizeof(value));
}

void fw_cfg_add_u64(struct fw_cfg *f, unsigned key, uint64_t value)
{
    value = GUINT64_TO_LE(value);
    fw_cfg_add_bytes(f, key, &value, sizeof(value));
}

/* --- Files -------------------------------------------------------------------------------------------------------- */

static void put_be32(uint8_t *p, uint32_t value)
{
    value = GUINT32_TO_BE(value);
    memcpy(p, &value, sizeof(value));
}

static void make_directory(struct fw_cfg *f)
{
    struct item *d = &f->directory;
    uint8_t *p;

    g_free(d->data);
    d->size = 4 + (size_t)f->files->len * DIRECTORY_ENTRY;
    p = d->data = g_malloc0(d->size);
    put_be32(p, f->files->len);
    p += 4;
    for (guint i = 0; i < f->files->len; i++, p += DIRECTORY_ENTRY) {
        const struct item *file = f->files->pdata[i];
        put_be32(p, file->size);
        p[4] = (FW_CFG_FILE_FIRST + i) >> 8;
        p[5] = (FW_CFG_FILE_FIRST + i) & 0xff;
        strcpy((char *)p + 8, file->name);
    }
}

static struct item *find_file(const struct fw_cfg *f, const char *name, guint *index)
{
    guint i;

    for (i = 0; i < f->files->len; i++) {
        struct item *file = f->files->pdata[i];
        int order = strcmp(file->name, name);
        if (order == 0)
            return file;
        if (order > 0)
            break;
    }
    if (index)
        *index = i; /* where it would go */
    return NULL;
}

static bool file_error(GError **err, const char *name, const char *why)
{
    g_set_error(err, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, "fw_cfg file '%s': %s", name, why);
    return false;
}

bool fw_cfg_add_file_callback(struct fw_cfg *f, const char *name, const void *data, size_t size,
                              void (*select)(void *opaque),
                              void (*write)(void *opaque, uint32_t start, uint32_t len), void *opaque, GError **err)
{
    struct item *item;
    guint at;

    if (!*name || strlen(name) >= FW_CFG_NAME_MAX)
        return file_error(err, name, "the name must have 1 to 55 bytes");
    if (size > UINT32_MAX)
        return file_error(err, name, "is larger than 4 GiB");
    if (find_file(f, name, &at))
        return file_error(err, name, "exists already");
    if (f->files->len == FW_CFG_FILE_MAX)
        return file_error(err, name, "there are too many files");
    item = item_new(data, size);
    item->name = g_strdup(name);
    item->select = select;
    item->write = write;
    item->opaque = opaque;
    g_ptr_array_insert(f->files, at, item);
    make_directory(f);
    return true;
}

bool fw_cfg_add_file(struct fw_cfg *f, const char *name, const void *data, size_t size, GError **err)
{
    return fw_cfg_add_file_callback(f, name, data, size, NULL, NULL, NULL, err);
}

void fw_cfg_set_file(struct fw_cfg *f, const char *name, const void *data, size_t size)
{
    struct item *item = find_file(f, name, NULL);
    uint8_t *copy = g_memdup2(data, size);

    g_assert(item && size <= UINT32_MAX);
    g_free(item->data);
    item->data = copy;
    item->size = size;
    make_directory(f);
}

const uint8_t *fw_cfg_file(const struct fw_cfg *f, const char *name, size_t *size)
{
    const struct item *item = find_file(f, name, NULL);

    if (!item)
        return NULL;
    if (size)
        *size = item->size;
    return item->data;
}

/* --- Selector and data -------------------------------------------------------------------------------------------- */

/* The selected item, or NULL if there is none with that key. */
static struct item *selected(struct fw_cfg *f)
{
    if (f->key == FW_CFG_FILE_DIR)
        return &f->directory;
    if (f->key >= FW_CFG_FILE_FIRST && f->key < FW_CFG_FILE_FIRST + f->files->len)
        return f->files->pdata[f->key - FW_CFG_FILE_FIRST];
    return g_hash_table_lookup(f->items, GUINT_TO_POINTER(f->key));
}

static void select_key(struct fw_cfg *f, uint16_t key)
{
    struct item *item;

    f->key = key & ~FW_CFG_WRITE_CHANNEL;
    f->offset = 0;
    item = selected(f);
    if (item && item->select)
        item->select(item->opaque);
}

static uint8_t next_byte(struct fw_cfg *f)
{
    const struct item *item = selected(f);
    return item && f->offset < item->size ? item->data[f->offset++] : 0;
}

static uint64_t ports_read(void *opaque, uint64_t offset, unsigned size)
{
    struct fw_cfg *f = opaque;
    uint8_t low = next_byte(f);

    return size == 1 ? low : low | next_byte(f) << 8;
}

static void ports_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct fw_cfg *f = opaque;

    if (offset == 0 && size == 2)
        select_key(f, value);
    else
        log_guest_error("fw_cfg", "write of %u bytes to port 0x%x", size, (unsigned)(0x510 + offset));
}

static const struct mem_ops ports_ops = {
    .read = ports_read,
    .write = ports_write,
    .valid = {1, 2, false},
    .impl = {1, 2, false},
};

/* --- DMA ---------------------------------------------------------------------------------------------------------- */

static bool dma_read(struct fw_cfg *f, const struct item *item, uint64_t address, uint32_t len)
{
    static const uint8_t zeros[4096];
    uint32_t have = item && f->offset < item->size ? MIN(len, item->size - f->offset) : 0;

    if (have) {
        if (!address_space_write(&f->dev.machine->memory, address, item->data + f->offset, have))
            return false;
        f->offset += have;
    }
    /* Behind the end of an item come zeros. */
    for (uint32_t done = have; done < len;) {
        uint32_t n = MIN(len - done, sizeof(zeros));
        if (!address_space_write(&f->dev.machine->memory, address + done, zeros, n))
            return false;
        done += n;
    }
    return true;
}

static bool dma_write(struct fw_cfg *f, struct item *item, uint64_t address, uint32_t len)
{
    uint32_t start = f->offset;

    if (!item || !item->write || start > item->size || len > item->size - start)
        return false;
    if (!address_space_read(&f->dev.machine->memory, address, item->data + start, len))
        return false;
    f->offset += len;
    item->write(item->opaque, start, len);
    return true;
}

static void dma_run(struct fw_cfg *f)
{
    struct address_space *as = &f->dev.machine->memory;
    uint64_t descriptor = f->dma_address, address;
    uint32_t control, len, result = 0;
    struct item *item;
    uint8_t d[16];

    f->dma_address = 0;
    if (!address_space_read(as, descriptor, d, sizeof(d))) {
        uint32_t error = GUINT32_TO_BE(DMA_ERROR);
        address_space_write(as, descriptor, &error, sizeof(error));
        return;
    }
    control = (uint32_t)d[0] << 24 | d[1] << 16 | d[2] << 8 | d[3];
    len = (uint32_t)d[4] << 24 | d[5] << 16 | d[6] << 8 | d[7];
    memcpy(&address, d + 8, sizeof(address));
    address = GUINT64_FROM_BE(address);

    if (control & DMA_SELECT)
        select_key(f, control >> 16);
    item = selected(f);
    if (control & DMA_READ)
        result = dma_read(f, item, address, len) ? 0 : DMA_ERROR;
    else if (control & DMA_WRITE)
        result = dma_write(f, item, address, len) ? 0 : DMA_ERROR;
    else if ((control & DMA_SKIP) && item && f->offset < item->size)
        f->offset += MIN(len, item->size - f->offset);
    if (result)
        log_guest_error("fw_cfg", "DMA with control 0x%x, length 0x%x fails", control, len);
    result = GUINT32_TO_BE(result);
    address_space_write(as, descriptor, &result, sizeof(result));
}

static uint64_t dma_port_read(void *opaque, uint64_t offset, unsigned size)
{
    static const uint8_t signature[] = "QEMU CFG";
    uint64_t value = 0;

    for (unsigned i = 0; i < size; i++)
        value |= (uint64_t)signature[offset + i] << (8 * i);
    return value;
}

static void dma_port_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
    struct fw_cfg *f = opaque;

    if (size != 4) {
        log_guest_error("fw_cfg", "write of %u bytes to the DMA register", size);
    } else if (offset == 0) {
        f->dma_address = (uint64_t)GUINT32_SWAP_LE_BE((uint32_t)value) << 32;
    } else {
        f->dma_address |= GUINT32_SWAP_LE_BE((uint32_t)value);
        dma_run(f);
    }
}

static const struct mem_ops dma_ops = {
    .read = dma_port_read,
    .write = dma_port_write,
    .valid = {1, 4, false},
    .impl = {1, 4, false},
};

/* --- Life --------------------------------------------------------------------------------------------------------- */

static bool fw_cfg_realize(struct device *d, GError **err)
{
    struct fw_cfg *f = container_of(d, struct fw_cfg, dev);

    f->items = g_hash_table_new_full(NULL, NULL, NULL, item_free);
    f->files = g_ptr_array_new_with_free_func(item_free);
    make_directory(f);
    fw_cfg_add_bytes(f, FW_CFG_SIGNATURE, "QEMU", 4);
    fw_cfg_add_u32(f, FW_CFG_ID, FW_CFG_VERSION | FW_CFG_VERSION_DMA);
    mem_init_io(&f->ports, d, &ports_ops, f, "fwcfg", 2);
    mem_init_io(&f->dma, d, &dma_ops, f, "fwcfg.dma", 8);
    mem_map(&d->machine->port_root, 0x510, &f->ports, 0);
    mem_map(&d->machine->port_root, 0x514, &f->dma, 0);
    return true;
}

static void fw_cfg_reset(struct device *d)
{
    struct fw_cfg *f = container_of(d, struct fw_cfg, dev);

    f->key = FW_CFG_SIGNATURE;
    f->offset = 0;
    f->dma_address = 0;
}

static void fw_cfg_unrealize(struct device *d)
{
    struct fw_cfg *f = container_of(d, struct fw_cfg, dev);

    mem_fini(&f->ports);
    mem_fini(&f->dma);
    g_hash_table_destroy(f->items);
    g_ptr_array_free(f->files, TRUE);
    g_free(f->directory.data);
}

static bool fw_cfg_post_load(void *instance, uint8_t version, GError **err)
{
    struct fw_cfg *f = instance;

    f->key &= ~FW_CFG_WRITE_CHANNEL;
    return true;
}

static const struct state_field fw_cfg_fields[] = {
    STATE_FIELD(STATE_U16, struct fw_cfg, key),
    STATE_FIELD(STATE_U32, struct fw_cfg, offset),
    STATE_FIELD(STATE_U64, struct fw_cfg, dma_address),
    STATE_FIELDS_END,
};

static const struct state_table fw_cfg_state = {
    .name = "fw_cfg",
    .version = 1,
    .fields = fw_cfg_fields,
    .post_load = fw_cfg_post_load,
};

const struct device_type fw_cfg_type = {
    .name = "fw_cfg_io",
    .description = "firmware configuration device",
    .bus = "system",
    .size = sizeof(struct fw_cfg),
    .realize = fw_cfg_realize,
    .reset = fw_cfg_reset,
    .unrealize = fw_cfg_unrealize,
    .state = &fw_cfg_state,
};
