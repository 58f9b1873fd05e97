/*
 * The tree of memory regions, transactions, and address spaces with their listeners.
 *
 * A change anywhere in the tree may show in any address space, as aliases have no way back to who uses them: at the
 * outermost commit every space is flattened anew, and those whose flat view is not what it was publish the new one.
 * Trees have some dozens of regions and change rarely (PAM registers, BARs), so this costs little.
 *
 * Everything here runs under the VM lock. The transaction state and the list of spaces are as process-wide as that
 * lock.
 */
#include "hw/core/memory.h"

#include "hw/core/flat_view.h"
#include "hw/core/vm_lock.h"

#include <inttypes.h>

static unsigned transaction_depth;
static bool tree_changed;
static GSList *all_spaces; /* struct address_space, in order of creation */

/* --- Transactions ------------------------------------------------------------------------------------------------- */

static void tell_differences(struct address_space *as, const struct flat_view *from, const struct flat_view *to,
                             bool deleted)
{
    /* Ranges of `from` that `to` does not have. Both are sorted. */
    for (unsigned i = 0, j = 0; i < from->count; i++) {
        const struct flat_range *r = &from->ranges[i];
        while (j < to->count && to->ranges[j].start < r->start)
            j++;
        if (j < to->count && flat_range_equal(&to->ranges[j], r))
            continue;
        for (GSList *l = as->listeners; l; l = l->next) {
            struct mem_listener *listener = l->data;
            void (*tell)(struct mem_listener *, const struct flat_range *) =
                deleted ? listener->range_del : listener->range_add;
            if (tell)
                tell(listener, r);
        }
    }
}

static void tell_commit(struct address_space *as)
{
    for (GSList *l = as->listeners; l; l = l->next) {
        struct mem_listener *listener = l->data;
        if (listener->commit)
            listener->commit(listener);
    }
}

static void space_update(struct address_space *as)
{
    struct flat_view *old = as->view, *new = flat_view_make(as->root);
    if (flat_view_equal(old, new)) {
        flat_view_put(new);
        return;
    }
    __atomic_store_n(&as->view, new, __ATOMIC_RELEASE);
    tell_differences(as, old, new, true);
    tell_differences(as, new, old, false);
    tell_commit(as);
    flat_view_put(old);
}

void mem_transaction_begin(void)
{
    g_assert(vm_locked());
    transaction_depth++;
}

void mem_transaction_commit(void)
{
    g_assert(vm_locked() && transaction_depth > 0);
    /* The depth stays above 0 meanwhile: a listener that changes the tree makes another round, not a recursion. */
    while (transaction_depth == 1 && tree_changed) {
        tree_changed = false;
        for (GSList *l = all_spaces; l; l = l->next)
            space_update(l->data);
    }
    transaction_depth--;
}

/* --- Regions ------------------------------------------------------------------------------------------------------ */

static void init_region(struct mem_region *r, struct device *owner, enum mem_kind kind, const char *name, uint64_t size)
{
    g_assert(size <= UINT64_C(1) << 52);
    *r = (struct mem_region){ .name = name, .owner = owner, .kind = kind, .size = size, .enabled = true };
}

void mem_init_container(struct mem_region *r, struct device *owner, const char *name, uint64_t size)
{
    init_region(r, owner, MEM_CONTAINER, name, size);
}

static void check_sizes(const struct mem_access_sizes *s)
{
    unsigned min = s->min ? s->min : 1, max = s->max ? s->max : 8;
    g_assert((min & (min - 1)) == 0 && (max & (max - 1)) == 0 && max <= 8);
}

void mem_init_io(struct mem_region *r, struct device *owner, const struct mem_ops *ops, void *opaque, const char *name,
                 uint64_t size)
{
    check_sizes(&ops->valid);
    check_sizes(&ops->impl);
    g_assert(ops->read && ops->write);
    init_region(r, owner, MEM_IO, name, size);
    r->ops = ops;
    r->opaque = opaque;
}

void mem_init_ram(struct mem_region *r, struct device *owner, const char *name, struct ram_block *b, uint64_t offset,
                  uint64_t size)
{
    g_assert(offset <= b->size && size <= b->size - offset);
    init_region(r, owner, MEM_RAM, name, size);
    r->ram = b;
    r->ram_offset = offset;
}

void mem_init_rom(struct mem_region *r, struct device *owner, const char *name, struct ram_block *b, uint64_t offset,
                  uint64_t size)
{
    mem_init_ram(r, owner, name, b, offset, size);
    r->kind = MEM_ROM;
}

void mem_init_alias(struct mem_region *r, struct device *owner, const char *name, struct mem_region *target,
                    uint64_t target_offset, uint64_t size)
{
    init_region(r, owner, MEM_ALIAS, name, size);
    r->target = target;
    r->target_offset = target_offset;
}

void mem_fini(struct mem_region *r)
{
    g_assert(!r->spaces);
    mem_transaction_begin();
    mem_unmap(r);
    while (r->children)
        mem_unmap(r->children->data);
    mem_transaction_commit();
    *r = (struct mem_region){ 0 };
}

static void changed(void)
{
    tree_changed = true;
}

void mem_map(struct mem_region *parent, uint64_t addr, struct mem_region *r, int priority)
{
    g_assert(parent->kind == MEM_CONTAINER && !r->parent && r != parent);
    mem_transaction_begin();
    r->parent = parent;
    r->addr = addr;
    r->priority = priority;
    GList *at = parent->children;
    while (at && ((struct mem_region *)at->data)->priority > priority)
        at = at->next;
    parent->children = g_list_insert_before(parent->children, at, r);
    changed();
    mem_transaction_commit();
}

void mem_unmap(struct mem_region *r)
{
    if (!r->parent)
        return;
    mem_transaction_begin();
    r->parent->children = g_list_remove(r->parent->children, r);
    r->parent = NULL;
    changed();
    mem_transaction_commit();
}

void mem_set_enabled(struct mem_region *r, bool enabled)
{
    if (r->enabled == enabled)
        return;
    mem_transaction_begin();
    r->enabled = enabled;
    changed();
    mem_transaction_commit();
}

void mem_set_addr(struct mem_region *r, uint64_t addr)
{
    if (r->addr == addr)
        return;
    mem_transaction_begin();
    r->addr = addr;
    changed();
    mem_transaction_commit();
}

void mem_set_read_only(struct mem_region *r, bool read_only)
{
    if (r->read_only == read_only)
        return;
    mem_transaction_begin();
    r->read_only = read_only;
    changed();
    mem_transaction_commit();
}

void mem_set_target(struct mem_region *alias, struct mem_region *target, uint64_t target_offset)
{
    g_assert(alias->kind == MEM_ALIAS);
    if (alias->target == target && alias->target_offset == target_offset)
        return;
    mem_transaction_begin();
    alias->target = target;
    alias->target_offset = target_offset;
    changed();
    mem_transaction_commit();
}

/* --- Address spaces ----------------------------------------------------------------------------------------------- */

void address_space_init(struct address_space *as, struct mem_region *root, const char *name)
{
    g_assert(vm_locked());
    *as = (struct address_space){ .name = name, .root = root, .view = flat_view_make(root) };
    root->spaces = g_slist_append(root->spaces, as);
    all_spaces = g_slist_append(all_spaces, as);
}

void address_space_fini(struct address_space *as)
{
    g_assert(vm_locked() && !as->listeners);
    all_spaces = g_slist_remove(all_spaces, as);
    as->root->spaces = g_slist_remove(as->root->spaces, as);
    flat_view_put(as->view);
    *as = (struct address_space){ 0 };
}

void address_space_listen(struct address_space *as, struct mem_listener *l)
{
    g_assert(vm_locked());
    as->listeners = g_slist_append(as->listeners, l);
    for (unsigned i = 0; l->range_add && i < as->view->count; i++)
        l->range_add(l, &as->view->ranges[i]);
    if (l->commit)
        l->commit(l);
}

void address_space_unlisten(struct address_space *as, struct mem_listener *l)
{
    g_assert(vm_locked());
    as->listeners = g_slist_remove(as->listeners, l);
}

/* --- info mtree --------------------------------------------------------------------------------------------------- */

static const char *kind_name(const struct mem_region *r, bool read_only)
{
    switch (r->kind) {
    case MEM_CONTAINER: return "container";
    case MEM_RAM: return read_only ? "ram, read-only" : "ram";
    case MEM_ROM: return "rom";
    case MEM_IO: return "i/o";
    case MEM_ALIAS: return "alias";
    }
    g_assert_not_reached();
}

static void print_region(GString *out, const struct mem_region *r, uint64_t base, unsigned depth)
{
    uint64_t addr = base + r->addr;
    g_string_append_printf(out, "%*s%016" PRIx64 "-%016" PRIx64 " (prio %d, %s): ", depth * 2, "", addr,
                           addr + (r->size ? r->size - 1 : 0), r->priority, kind_name(r, r->read_only));
    if (r->kind == MEM_ALIAS)
        g_string_append_printf(out, "alias %s @%s %016" PRIx64 "-%016" PRIx64, r->name, r->target->name,
                               r->target_offset, r->target_offset + (r->size ? r->size - 1 : 0));
    else
        g_string_append(out, r->name);
    g_string_append(out, r->enabled ? "\n" : " [disabled]\n");
    for (const GList *l = r->children; l; l = l->next)
        print_region(out, l->data, addr, depth + 1);
}

void address_space_print(struct address_space *as, GString *out)
{
    g_string_append_printf(out, "address-space: %s\n", as->name);
    print_region(out, as->root, 0, 1);
    g_string_append_printf(out, "flat view of %s\n", as->name);
    for (unsigned i = 0; i < as->view->count; i++) {
        const struct flat_range *r = &as->view->ranges[i];
        g_string_append_printf(out, "  %016" PRIx64 "-%016" PRIx64 " (%s): %s", r->start, r->last,
                               kind_name(r->region, r->read_only), r->region->name);
        if (r->offset)
            g_string_append_printf(out, " @%016" PRIx64, r->offset);
        g_string_append_c(out, '\n');
    }
}
