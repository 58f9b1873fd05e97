/*
 * virtio-blk (Virtual I/O Device (VIRTIO) 1.2, 5.2): requests from rings to the drive, and back when they are done.
 *
 * Reads and writes go between guest memory and the drive without a copy, any number at a time; the drive may carry out
 * those under way in any order, and the driver knows. A request is checked whole before anything of it is done.
 *
 * Not modelled: SCSI commands of legacy drivers, lifetime, secure erase, zones, and limits of segment length. Discard and
 * write zeroes take one range to a request, which the configuration says. All under the VM lock.
 */
#include "hw/virtio/virtio_blk.h"

#include "hw/backend/blk.h"
#include "hw/core/log.h"
#include "hw/core/machine.h"
#include "hw/core/opts.h"
#include "hw/core/ram_access.h"

#include <errno.h>
#include <string.h>

#define SECTOR 512
#define ID_BYTES 20
#define AGAIN_NS (NS_PER_SECOND / 1000)

#define F_SEG_MAX VIRTIO_F(2)
#define F_GEOMETRY VIRTIO_F(4)
#define F_RO VIRTIO_F(5)
#define F_BLK_SIZE VIRTIO_F(6)
#define F_FLUSH VIRTIO_F(9)
#define F_TOPOLOGY VIRTIO_F(10)
#define F_CONFIG_WCE VIRTIO_F(11)
#define F_MQ VIRTIO_F(12)
#define F_DISCARD VIRTIO_F(13)
#define F_WRITE_ZEROES VIRTIO_F(14)

/* 5.2.4: struct virtio_blk_config. */
enum config_register {
    CONFIG_CAPACITY = 0,
    CONFIG_SEG_MAX = 12,
    CONFIG_CYLINDERS = 16,
    CONFIG_HEADS = 18,
    CONFIG_SECTORS = 19,
    CONFIG_BLK_SIZE = 20,
    CONFIG_PHYSICAL_EXP = 24,
    CONFIG_MIN_IO = 26,
    CONFIG_OPT_IO = 28,
    CONFIG_WRITEBACK = 32,
    CONFIG_NUM_QUEUES = 34,
    CONFIG_MAX_DISCARD_SECTORS = 36,
    CONFIG_MAX_DISCARD_SEG = 40,
    CONFIG_DISCARD_ALIGNMENT = 44,
    CONFIG_MAX_ZEROES_SECTORS = 48,
    CONFIG_MAX_ZEROES_SEG = 52,
    CONFIG_ZEROES_MAY_UNMAP = 56,
    CONFIG_SIZE = 60,
};

enum request_type {
    TYPE_IN = 0,
    TYPE_OUT = 1,
    TYPE_FLUSH = 4,
    TYPE_GET_ID = 8,
    TYPE_DISCARD = 11,
    TYPE_WRITE_ZEROES = 13,
};

enum request_status { STATUS_OK = 0, STATUS_IOERR = 1, STATUS_UNSUPP = 2 };

struct header {
    uint8_t type[4], reserved[4], sector[8];
};

struct range {
    uint8_t sector[8], count[4], flags[4];
};
#define RANGE_UNMAP 1

struct virtio_blk_request {
    struct virtio_chain chain;
    struct virtio_blk *s;
    struct virtio_blk_request *next; /* of s->held */
    unsigned queue;
    uint32_t type;
    uint64_t sector;
    uint8_t *status; /* in guest RAM */
    struct iovec *out, *in; /* without header and status */
    unsigned out_count, in_count;
    size_t out_bytes, in_bytes;
    struct blk_request blk;
};

static struct virtio_blk *blk_of(struct virtio_device *v)
{
    return container_of(v, struct virtio_blk, v);
}

/* --- Requests ----------------------------------------------------------------------------------------------------- */

static void complete(struct virtio_blk_request *q, enum request_status status, size_t written)
{
    ram_store8(q->status, status);
    virtio_give(&q->s->v, q->queue, &q->chain, (uint32_t)written + 1);
}

static void hold(struct virtio_blk_request *q)
{
    struct virtio_blk_request **tail = &q->s->held;
    while (*tail)
        tail = &(*tail)->next;
    *tail = q;
    q->next = NULL;
}

/* Virtual time stands still while the machine is paused: the timer goes off when it goes on. */
static void stop_machine(struct virtio_blk *s)
{
    timer_set(&s->again, clock_now(s->v.dev->machine->clock) + AGAIN_NS);
    machine_request(s->v.dev->machine, REQUEST_PAUSE, "disk error");
}

static void done(struct blk_request *r, int ret)
{
    struct virtio_blk_request *q = container_of(r, struct virtio_blk_request, blk);
    bool read = q->type == TYPE_IN;
    enum blk_error_action action = ret ? blk_error_action(q->s->blk, read, ret) : BLK_ERROR_IGNORE;
    if (action == BLK_ERROR_STOP) {
        hold(q);
        stop_machine(q->s);
    } else {
        complete(q, action == BLK_ERROR_REPORT ? STATUS_IOERR : STATUS_OK, read ? q->in_bytes : 0);
    }
}

static void submit(struct virtio_blk_request *q, enum blk_op op, uint64_t offset, uint64_t bytes, unsigned flags)
{
    bool in = op == BLK_READ, data = in || op == BLK_WRITE;
    q->blk = (struct blk_request){
        .op = op,
        .flags = flags,
        .offset = offset,
        .bytes = bytes,
        .iov = !data ? NULL : in ? q->in : q->out,
        .iov_count = !data ? 0 : in ? q->in_count : q->out_count,
        .done = done,
    };
    blk_submit(q->s->blk, &q->blk);
}

/* Is that a range of whole blocks on the disk? */
static bool in_range(const struct virtio_blk *s, uint64_t sector, uint64_t bytes)
{
    uint64_t sectors = blk_size(s->blk) / SECTOR, count = bytes / SECTOR, block = s->logical_block_size / SECTOR;
    return bytes % SECTOR == 0 && sector <= sectors && count <= sectors - sector && sector % block == 0 &&
           count % block == 0;
}

static void transfer(struct virtio_blk_request *q, bool read)
{
    uint64_t bytes = read ? q->in_bytes : q->out_bytes;
    if (!in_range(q->s, q->sector, bytes) || (!read && blk_read_only(q->s->blk)))
        complete(q, STATUS_IOERR, 0);
    else
        submit(q, read ? BLK_READ : BLK_WRITE, q->sector * SECTOR, bytes, 0);
}

static void get_id(struct virtio_blk_request *q)
{
    char id[ID_BYTES] = { 0 };
    const char *serial = q->s->serial ? q->s->serial : "";
    memcpy(id, serial, MIN(strlen(serial), sizeof(id)));
    complete(q, STATUS_OK, virtio_iov_write(q->in, q->in_count, 0, id, sizeof(id)));
}

static void clear(struct virtio_blk_request *q, bool zeroes)
{
    struct virtio_blk *s = q->s;
    struct range range;
    if (!virtio_has(&s->v, zeroes ? F_WRITE_ZEROES : F_DISCARD) || q->out_bytes % sizeof(range) ||
        q->out_bytes > sizeof(range)) {
        complete(q, STATUS_UNSUPP, 0);
        return;
    }
    if (virtio_iov_read(q->out, q->out_count, 0, &range, sizeof(range)) != sizeof(range)) {
        complete(q, STATUS_IOERR, 0);
        return;
    }
    uint64_t sector = ram_load64(range.sector);
    uint32_t count = ram_load32(range.count), flags = ram_load32(range.flags);
    uint32_t most = zeroes ? s->max_write_zeroes_sectors : s->max_discard_sectors;
    if (flags & ~(zeroes ? RANGE_UNMAP : 0u))
        complete(q, STATUS_UNSUPP, 0);
    else if (count > most || !in_range(s, sector, (uint64_t)count * SECTOR) || blk_read_only(s->blk))
        complete(q, STATUS_IOERR, 0);
    else
        submit(q, zeroes ? BLK_WRITE_ZEROES : BLK_DISCARD, sector * SECTOR, (uint64_t)count * SECTOR,
               flags & RANGE_UNMAP ? BLK_UNMAP : 0);
}

static void carry_out(struct virtio_blk_request *q)
{
    switch (q->type) {
    case TYPE_IN: transfer(q, true); break;
    case TYPE_OUT: transfer(q, false); break;
    case TYPE_FLUSH: submit(q, BLK_FLUSH, 0, 0, 0); break;
    case TYPE_GET_ID: get_id(q); break;
    case TYPE_DISCARD: clear(q, false); break;
    case TYPE_WRITE_ZEROES: clear(q, true); break;
    default: complete(q, STATUS_UNSUPP, 0); break;
    }
}

/* Splits header and status off. False: it is none at all. */
static bool parse(struct virtio_blk *s, unsigned queue, struct virtio_blk_request *q)
{
    struct virtio_chain *c = &q->chain;
    struct header h;
    q->s = s;
    q->queue = queue;
    q->out = c->out;
    q->in = c->in;
    q->out_count = c->out_count;
    q->in_count = c->in_count;
    if (c->out_bytes < sizeof(h) || c->in_bytes < 1)
        return false;
    virtio_iov_read(c->out, c->out_count, 0, &h, sizeof(h));
    q->type = ram_load32(h.type);
    q->sector = ram_load64(h.sector);
    virtio_iov_drop_front(&q->out, &q->out_count, sizeof(h));
    const struct iovec *last = &c->in[c->in_count - 1];
    q->status = (uint8_t *)last->iov_base + last->iov_len - 1;
    virtio_iov_drop_back(q->in, &q->in_count, 1);
    q->out_bytes = c->out_bytes - sizeof(h);
    q->in_bytes = c->in_bytes - 1;
    return true;
}

/* The next request of a queue, or NULL; what is none at all is an error of the driver's. */
static struct virtio_blk_request *next_request(struct virtio_blk *s, unsigned queue)
{
    struct virtio_blk_request *q = virtio_take(&s->v, queue, sizeof(*q));
    if (!q || parse(s, queue, q))
        return q;
    virtio_device_error(&s->v, "a request without header or status");
    virtio_chain_free(&q->chain);
    return NULL;
}

static void notified(struct virtio_device *v, unsigned queue)
{
    struct virtio_blk_request *q;
    do {
        while ((q = next_request(blk_of(v), queue)))
            carry_out(q);
    } while (virtio_rearm(v, queue));
}

/* --- Requests that failed and are tried again --------------------------------------------------------------------- */

static void try_again(void *opaque)
{
    struct virtio_blk *s = opaque;
    struct virtio_blk_request *q = s->held, *next;
    s->held = NULL;
    for (; q; q = next) {
        next = q->next;
        carry_out(q);
    }
}

static void forget_held(struct virtio_blk *s)
{
    struct virtio_blk_request *q;
    while ((q = s->held)) {
        s->held = q->next;
        virtio_chain_free(&q->chain);
    }
}

void virtio_blk_pre_save(struct virtio_blk *s)
{
    memset(s->held_at, 0, sizeof(s->held_at));
    for (const struct virtio_blk_request *q = s->held; q; q = q->next)
        s->held_at[q->queue][q->chain.position / 8] |= 1u << q->chain.position % 8;
}

static bool take_held(struct virtio_blk *s, unsigned queue)
{
    struct virtio_ring *r = &s->v.queues[queue].ring;
    for (unsigned i = 0; i < VIRTIO_RING_MAX; i++) {
        if (!(s->held_at[queue][i / 8] & 1u << i % 8))
            continue;
        struct virtio_blk_request *q = queue < s->v.queue_count ? virtio_ring_take_at(r, i, sizeof(*q)) : NULL;
        if (!q)
            return false;
        if (!parse(s, queue, q)) {
            virtio_chain_free(&q->chain);
            return false;
        }
        hold(q);
    }
    return true;
}

bool virtio_blk_post_load(struct virtio_blk *s, GError **err)
{
    forget_held(s);
    blk_set_write_cache(s->blk, s->write_cache_now);
    for (unsigned i = 0; i < VIRTIO_BLK_QUEUES_MAX; i++) {
        if (!take_held(s, i))
            return opts_error(err, "virtio-blk: the saved state has a request that is none");
    }
    if (s->held && !timer_armed(&s->again))
        timer_set(&s->again, clock_now(s->v.dev->machine->clock) + AGAIN_NS);
    return true;
}

/* --- Configuration ------------------------------------------------------------------------------------------------ */

static void set_write_cache(struct virtio_blk *s, bool on)
{
    s->write_cache_now = on;
    blk_set_write_cache(s->blk, on);
}

/* 16 heads and 63 sectors: what firmware translates from anyway. */
static void put_geometry(uint8_t *config, uint64_t sectors)
{
    enum { HEADS = 16, TRACK = 63, CYLINDERS_MAX = 16383 };
    uint64_t cylinders = sectors / (HEADS * TRACK);
    ram_store16(config + CONFIG_CYLINDERS, (uint16_t)CLAMP(cylinders, 2, CYLINDERS_MAX));
    config[CONFIG_HEADS] = HEADS;
    config[CONFIG_SECTORS] = TRACK;
}

static unsigned log2_of(uint32_t n)
{
    return 31 - __builtin_clz(n);
}

static void config_read(struct virtio_device *v, uint8_t *config)
{
    const struct virtio_blk *s = blk_of(v);
    uint64_t sectors = blk_size(s->blk) / SECTOR;
    uint32_t block = s->logical_block_size;
    ram_store64(config + CONFIG_CAPACITY, sectors);
    ram_store32(config + CONFIG_SEG_MAX, s->seg_max_adjust ? s->queue_size - 2 : MIN(s->queue_size, 128) - 2);
    put_geometry(config, sectors);
    ram_store32(config + CONFIG_BLK_SIZE, block);
    config[CONFIG_PHYSICAL_EXP] = log2_of(s->physical_block_size) - log2_of(block);
    ram_store16(config + CONFIG_MIN_IO, s->min_io_size / block);
    ram_store32(config + CONFIG_OPT_IO, s->opt_io_size / block);
    config[CONFIG_WRITEBACK] = blk_write_cache(s->blk);
    ram_store16(config + CONFIG_NUM_QUEUES, v->queue_count);
    if (v->offered & F_DISCARD) {
        ram_store32(config + CONFIG_MAX_DISCARD_SECTORS, s->max_discard_sectors);
        ram_store32(config + CONFIG_MAX_DISCARD_SEG, 1);
        ram_store32(config + CONFIG_DISCARD_ALIGNMENT, s->discard_granularity / SECTOR);
    }
    if (v->offered & F_WRITE_ZEROES) {
        ram_store32(config + CONFIG_MAX_ZEROES_SECTORS, s->max_write_zeroes_sectors);
        ram_store32(config + CONFIG_MAX_ZEROES_SEG, 1);
        config[CONFIG_ZEROES_MAY_UNMAP] = 1;
    }
}

static void config_write(struct virtio_device *v, const uint8_t *config, unsigned offset, unsigned len)
{
    bool wce = offset <= CONFIG_WRITEBACK && offset + len > CONFIG_WRITEBACK;
    if (wce && virtio_has(v, F_CONFIG_WCE))
        set_write_cache(blk_of(v), config[CONFIG_WRITEBACK] & 1);
    else
        log_guest_error(v->ops->name, "configuration written at 0x%x", offset);
}

/* A driver that cannot flush must find everything on stable storage (5.2.6.2). */
static void negotiated(struct virtio_device *v)
{
    struct virtio_blk *s = blk_of(v);
    if (!virtio_has(v, F_CONFIG_WCE))
        set_write_cache(s, s->write_cache && virtio_has(v, F_FLUSH));
}

static void reset(struct virtio_device *v)
{
    struct virtio_blk *s = blk_of(v);
    blk_drain(s->blk);
    forget_held(s);
    timer_cancel(&s->again);
    set_write_cache(s, s->write_cache);
}

static const struct virtio_device_ops ops = {
    .name = "virtio-blk",
    .id = VIRTIO_ID_BLOCK,
    .class_code = 0x010000,
    .config_size = CONFIG_SIZE,
    .config_read = config_read,
    .config_write = config_write,
    .negotiated = negotiated,
    .notified = notified,
    .reset = reset,
};

static void resized(void *opaque)
{
    virtio_config_changed(&((struct virtio_blk *)opaque)->v);
}

static const struct blk_front_ops front = { .resized = resized };

/* --- Life --------------------------------------------------------------------------------------------------------- */

const struct state_field virtio_blk_fields[] = {
    STATE_NESTED(struct virtio_blk, v, virtio_device_fields),
    STATE_FIELD(STATE_BOOL, struct virtio_blk, write_cache_now),
    { .name = "held_at", .type = STATE_BYTES, .offset = offsetof(struct virtio_blk, held_at),
      .count = sizeof(((struct virtio_blk *)0)->held_at) },
    STATE_FIELD(STATE_TIMER, struct virtio_blk, again),
    STATE_FIELDS_END,
};

static bool power_of_two(uint32_t n, uint32_t min, uint32_t max)
{
    return n >= min && n <= max && !(n & (n - 1));
}

static bool sizes_are_right(struct virtio_blk *s, GError **err)
{
    if (s->discard_granularity == UINT32_MAX)
        s->discard_granularity = s->logical_block_size;
    if (!power_of_two(s->logical_block_size, 512, 32768))
        return opts_error(err, "logical_block_size=%u: must be a power of two from 512 to 32768", s->logical_block_size);
    if (!power_of_two(s->physical_block_size, 512, 2 << 20))
        return opts_error(err, "physical_block_size=%u: must be a power of two from 512 to 2M", s->physical_block_size);
    s->physical_block_size = MAX(s->physical_block_size, s->logical_block_size);
    if (s->min_io_size % s->logical_block_size || s->min_io_size / s->logical_block_size > UINT16_MAX)
        return opts_error(err, "min_io_size=%u: must be a multiple of the logical block size, up to 65535 blocks",
                          s->min_io_size);
    if (s->opt_io_size % s->logical_block_size)
        return opts_error(err, "opt_io_size=%u: must be a multiple of the logical block size", s->opt_io_size);
    if (!s->discard_granularity || s->discard_granularity % s->logical_block_size)
        return opts_error(err, "discard_granularity=%u: must be a multiple of the logical block size",
                          s->discard_granularity);
    return true;
}

static bool properties_are_right(struct virtio_blk *s, struct device *d, GError **err)
{
    const uint32_t most = UINT32_MAX / SECTOR;
    if (!s->blk)
        return opts_error(err, "drive=ID is missing: which -drive it is");
    if (!blk_has_medium(s->blk))
        return opts_error(err, "drive=%s: a disk needs an image; give the drive a file=", blk_id(s->blk));
    if (s->num_queues == UINT32_MAX)
        s->num_queues = CLAMP(d->machine->cpu_count, 1, VIRTIO_BLK_QUEUES_MAX);
    if (s->num_queues < 1 || s->num_queues > VIRTIO_BLK_QUEUES_MAX)
        return opts_error(err, "num-queues=%u: must be from 1 to %d", s->num_queues, VIRTIO_BLK_QUEUES_MAX);
    if (!power_of_two(s->queue_size, 4, VIRTIO_RING_MAX))
        return opts_error(err, "queue-size=%u: must be a power of two from 4 to %d", s->queue_size, VIRTIO_RING_MAX);
    if (s->serial && strlen(s->serial) > ID_BYTES)
        return opts_error(err, "serial=%s: must have at most %d characters", s->serial, ID_BYTES);
    if (!s->max_discard_sectors || s->max_discard_sectors > most)
        return opts_error(err, "max-discard-sectors=%u: must be from 1 to %u", s->max_discard_sectors, most);
    if (!s->max_write_zeroes_sectors || s->max_write_zeroes_sectors > most)
        return opts_error(err, "max-write-zeroes-sectors=%u: must be from 1 to %u", s->max_write_zeroes_sectors, most);
    return sizes_are_right(s, err);
}

bool virtio_blk_init(struct virtio_blk *s, struct device *d, GError **err)
{
    if (!properties_are_right(s, d, err) || !blk_attach(s->blk, &front, s, err)) {
        g_prefix_error(err, "%s: ", d->type->name);
        return false;
    }
    bool writable = !blk_read_only(s->blk);
    uint64_t features = F_SEG_MAX | F_GEOMETRY | F_BLK_SIZE | F_FLUSH | F_TOPOLOGY | (writable ? 0 : F_RO) |
                        (s->config_wce ? F_CONFIG_WCE : 0) | (s->num_queues > 1 ? F_MQ : 0) |
                        (s->discard && blk_can_discard(s->blk) ? F_DISCARD : 0) |
                        (s->write_zeroes && writable ? F_WRITE_ZEROES : 0);
    s->write_cache = s->write_cache_now = blk_write_cache(s->blk);
    timer_init(&s->again, d->machine->clock, try_again, s);
    virtio_device_init(&s->v, &ops, d, features, s->num_queues, s->queue_size);
    return true;
}

void virtio_blk_fini(struct virtio_blk *s)
{
    blk_detach(s->blk, s);
    forget_held(s);
    timer_cancel(&s->again);
}
